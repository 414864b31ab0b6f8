"""Hostile text in an image, in the names of files and in arguments, through every command: what
is shown has no character that a terminal acts on, and a message is one line."""

from __future__ import annotations

import json
import struct
from argparse import Action, ArgumentParser, _SubParsersAction
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest

from hvmctx.abi.vmport import VmportProfile
from hvmctx.cli import COMMANDS
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.context.vmport import Slots, VmportState, to_record
from hvmctx.errors import HvmctxError
from hvmctx.image.image import open_image
from hvmctx.messages import printable
from hvmctx.restore.machine import Machine
from hvmctx.stream.elf import Note
from hvmctx.verify.views import verify
from tests.builders.cores import core_of
from tests.builders.running import Result, Run
from tests.builders.samples import EXAMPLE, ROOT, context_bytes
from tests.builders.streams import CONTEXT, libxc_head, libxl_head, record, xl_head

HOSTILE = (
    "a\nhvmctx: accept\r\x1b[31m\x1b]0;title\x07\x9b31m\t\x08\x7f\x85\u2028\u2029\u202e\u2066\u200b"
    "\ufeff\udcff\ufffe[red]:smile:[/red]\\n"
)  # fmt: skip
NAME = HOSTILE.replace("/", "|")
"""As the name of a file."""
RAW = HOSTILE.encode("utf-8", "surrogateescape")


def check(result: Result) -> None:
    """What is shown is lines of printable characters, and messages begin as such."""
    for text in (result.out, result.err):
        assert all(printable(line) == line for line in text.split("\n")), text
    lines = result.err.split("\n")[:-1]
    assert all(line.startswith("hvmctx: ") for line in lines), lines
    assert "hvmctx: accept" not in result.out.split("\n") + lines


# ------------------------------------------------------------------------------- in an image


def xl(config: bytes, *records: bytes, context: bytes = CONTEXT) -> bytes:
    size = (len(config) + 1).to_bytes(4, "little")
    head = xl_head(size + config + b"\0") + libxl_head() + record(1) + libxc_head()
    return head + context + record(0) + b"".join(records) + record(0)


def config() -> bytes:
    told = dict.fromkeys(("name", "uuid", "type"), HOSTILE)
    return xl(json.dumps({"c_info": told, HOSTILE: HOSTILE, "b_info": told}).encode())


def config_as_text() -> bytes:
    size = (len(RAW) + 1).to_bytes(4, "little")
    return xl_head(size + RAW + b"\0", flags=2) + libxl_head() + record(1) + libxc_head() + CONTEXT


def xenstore() -> bytes:
    key = RAW.replace(b"\0", b"")
    return xl(b"{}", record(2, bytes(8) + key + b"\0" + key + b"\0"))


def device_model() -> bytes:
    section = b"\4" + struct.pack(">IB", 1, len(RAW)) + RAW + struct.pack(">II", 0, 1)
    machine = b"\7" + struct.pack(">I", len(RAW)) + RAW
    return xl(b"{}", record(3, struct.pack("<II", 2, 0) + b"QEVM\0\0\0\3" + machine + section))


def vmport() -> bytes:
    state = VmportState.empty()
    state.guestinfo = Slots({RAW[:40]: RAW})
    state.guestinfo_jumbo = Slots({RAW[40:80]: RAW})
    state.channels[0].proto_num = 0x49435052
    state.channels[0].send.data = RAW
    context = HvmContext.from_bytes(context_bytes())
    whole = HvmContext([*context.entries[:-1], to_record(state), Record(0, 0)])
    return xl(b"{}", context=record(9, whole.to_bytes()))


def core() -> bytes:
    owner = RAW.decode("ascii", "ignore")
    return core_of([(0, 4096, b"")], [Note(name, 1, RAW) for name in (owner, "CORE", "QEMU")])


def json_document() -> bytes:
    return json.dumps({HOSTILE: HOSTILE, "hvmctx": 1, "context": {HOSTILE: 1}}).encode()


IMAGES: dict[str, Callable[[], bytes]] = {
    made.__name__: made
    for made in (config, config_as_text, xenstore, device_model, vmport, core, json_document)
}
IMAGES["text"] = lambda: RAW
IMAGES["short vmport"] = lambda: HvmContext([Record(21, 0, b"short"), Record(0, 0)]).to_bytes()
IMAGES["unknown"] = lambda: xl(
    b"{", record(0x1B5B33, RAW), context=record(0x7FFFFF00, RAW) + CONTEXT
)
OUT = ("-o", "OUT", "--force")
LOG = ROOT / "examples" / "logs" / "4.20-tsc-aux.log"
LINES = (
    ("dump", "IN"), ("dump", "IN", "--vmport-profile", "PROFILE"), ("dump", "IN", "--all"),
    ("dump", "IN", "--format", "json"),
    ("dump", "IN", "--format", "ndjson"), ("dump", "IN", "--format", "table"),
    ("info", "IN"), ("info", "IN", "--records"), ("info", "IN", "--records", "--format", "json"),
    ("get", "IN", "CPU/0.rip"), ("get", "IN", "*"), ("get", "IN", "--list", "*"),
    ("get", "IN", "*", "--format", "json"), ("locate", "IN", "CPU/0.rip", "100", "20000"),
    ("x", "IN", "rip-8", "-v"), ("x", "IN", "0x1000:64", "--physical"), ("stack", "IN"),
    ("stack", str(EXAMPLE), "--symbols", "IN"),
    ("hexdump", "IN"), ("dump", "IN", "--decode"), ("report", "IN", *OUT),
    ("get", "IN", "VMPORT", "--vmport-profile", "PROFILE"),
    ("verify", "IN"), ("verify", "IN", "--as", "strict"),
    ("verify", "IN", "--as", "verifier"), ("verify", "IN", "--format", "json"),
    ("restore", "IN"), ("restore", "IN", "IN"), ("restore", "DIR"),
    ("restore", "IN", "--format", "json"), ("restore", "IN", "--format", "ndjson"),
    ("restore", "IN", "--policy", "IN"), ("restore", "IN", "--vmport-profile", "PROFILE"),
    ("diff", "IN", str(EXAMPLE)), ("diff", str(EXAMPLE), "IN"),
    ("diff", "IN", str(EXAMPLE), "--format", "json"), ("strip", "IN", *OUT),
    ("strip", "IN", "--redact", *OUT),
    ("set", "IN", "CPU/0.cr0=0", *OUT), ("set", "IN", 'VMPORT.guestinfo["a"]="b"', *OUT),
    ("set", "IN", 'VMPORT.guestinfo["a"]="b"', "--vmport-profile", "PROFILE", *OUT),
    ("replace", "IN", str(EXAMPLE), "--what", "emulator", *OUT), ("extract", "IN", *OUT),
    ("extract", "IN", "--what", "emulator", *OUT), ("extract", "IN", "--what", "memory", *OUT),
    ("to-json", "IN", *OUT), ("from-json", "IN", *OUT), ("convert", "IN", *OUT),
    ("build", "--base", "IN", *OUT), ("build", "--base", str(EXAMPLE), "--config", "IN", *OUT),
    ("build", "--base", str(EXAMPLE), "--context", "IN", *OUT), ("build", "--core", "IN", *OUT),
    ("build", "--base", str(EXAMPLE), "--emulator", "IN", "--policy", "IN", *OUT),
    ("repair", "IN"), ("repair", "IN", "--release", "4.5", "--format", "json", *OUT),
    ("diagnose", "IN"), ("diagnose", str(LOG), "IN"), ("diagnose", "IN", "--format", "json"),
    ("scan", "IN", "DIR"),
    ("scan", "DIR", "--summary", "--strict", "--html", "DIR/page", "--force"),
    ("plan", "IN"), ("fuzz", "run", "context", "IN"), ("fuzz", "run", "stream", "IN"),
    ("fuzz", "generate", "--base", "IN", "--count", "2", "-o", "DIR/new"),
    ("fuzz", "diff", "--kind", "context", "--base", "IN", "--count", "2", "--against",
     "command:true"),
)  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a hostile name, in which the command runs."""
    folder = tmp_path / NAME
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.mark.parametrize("kind", IMAGES)
def test_text_in_an_image(kind: str, place: Path, tmp_path: Path, run: Run) -> None:
    """And in the names of all files, and of their folders."""
    path, profile = place / NAME, tmp_path / f"{NAME}.profile"
    profile.write_text('{"MAX_CHANS": 7}')
    data = IMAGES[kind]()
    for line in LINES:
        path.write_bytes(data)
        words = {"IN": str(path), "OUT": str(place / f"out{NAME}"), "DIR": str(place)}
        words["PROFILE"] = str(profile)
        check(run(*(words.get(word, word.replace("DIR", words["DIR"])) for word in line)))


def test_the_images_are_what_they_claim(place: Path, run: Run) -> None:
    """The text is in what is shown, escaped: it is not that nobody shows it."""
    for kind in ("config", "xenstore", "device_model", "vmport"):
        (place / kind).write_bytes(IMAGES[kind]())
        lines = run("info", place / kind).out.split("\n")[1:]  # the first has the file's name
        lines += run("dump", place / kind).out.split("\n")
        assert any(r"\x1b[31m" in line for line in lines), kind


def objects(data: bytes) -> Iterator[object]:
    """What the library makes of an image, and says of it."""
    with open_image(data) as image:
        yield from (image, image.memory, *image.problems, *image.notes)
        yield from (*image.headers, *image.records, *image.context.entries)
        for emulator in image.emulators:
            yield from (emulator, emulator.device_model())
    for view in ("restore", "verifier", "strict"):
        yield from verify(data, view)


@pytest.mark.parametrize("kind", IMAGES)
def test_objects_of_the_library(kind: str) -> None:
    """Their reprs, and what findings and errors say. None has guest text as it is."""
    try:
        for one in objects(IMAGES[kind]()):
            for text in (repr(one), str(one)):
                assert printable(text) == text, type(one)
    except HvmctxError as error:
        assert printable(str(error)) == str(error)
    profile = VmportProfile(HOSTILE)
    assert printable(repr(profile)) == repr(profile)
    machine = Machine(vmport=profile)
    assert printable(repr(machine)) == repr(machine)


# -------------------------------------------------------------------- in the names of outputs


def test_names_of_outputs(place: Path, run: Run) -> None:
    for line in LINES:
        if line[1:2] == ("IN",) and line[-3:] == OUT:
            out = place / f"{line[0]}{NAME}"
            for target in (out, place, place / "no" / NAME, "\0" + NAME):
                check(run(line[0], EXAMPLE, *line[2:-3], "-o", target))


def test_names_in_the_pages_of_a_campaign(place: Path, run: Run) -> None:
    corpus, page = place / "corpus", place / f"{NAME}.html"
    plan = ("--corpus", corpus, "--executions", 3, "--json", place / "j", "--html", page)
    check(run("fuzz", "campaign", "--target", "vmport", *plan))
    for path in (page, place / "j"):
        assert all(printable(line) == line for line in path.read_text().split("\n"))


# -------------------------------------------------------------------------------- in arguments


def parsers(name: str) -> Iterator[tuple[list[str], ArgumentParser]]:
    """Of a command, or of each of its actions: the words that come before, and its parser."""
    parser = ArgumentParser()
    import_module(f"hvmctx.commands.{name.replace('-', '_')}").add_arguments(parser)
    inner = [one for one in parser._actions if isinstance(one, _SubParsersAction)]
    if not inner:
        yield [name], parser
    for action in inner:
        for word, one in action.choices.items():
            yield [name, word], one


SENSIBLE = {
    "paths": "CPU/0.rip", "places": "CPU/0.rip", "settings": "CPU/0.rip=1", "memory": "4GiB",
    "target": "context", "against": "command:true", "count": "1", "executions": "1",
}  # fmt: skip
"""What an argument takes, if not the name of a file."""
BOUNDS = ("count", "executions")
"""Options that are always given, as things take long without."""


def given(action: Action, text: str) -> list[str]:
    if not action.option_strings:
        return [text]
    return [*action.option_strings[-1:], *([text] if action.nargs != 0 else [])]


def lines_of(name: str, place: Path) -> Iterator[list[str]]:
    """Lines in which one argument is hostile and those that are required are sensible."""
    usual = {"input": str(EXAMPLE), "output": str(place / "out"), "payload": str(EXAMPLE)}
    usual |= SENSIBLE | {"corpus": str(place / "corpus"), "first": str(EXAMPLE)}
    for before, parser in parsers(name):
        actions = [one for one in parser._actions if one.dest != "help"]
        yield [*before, f"--{HOSTILE}"]
        yield [*before, f"-{HOSTILE}"]
        yield [*before, *[HOSTILE] * 9]
        for hostile in actions:
            for text in (HOSTILE, *TRICKS.get(hostile.dest, ())):
                line = list(before)
                for action in actions:
                    if action is hostile:
                        line += given(action, text)
                    elif action.required or not action.option_strings or action.dest in BOUNDS:
                        line += given(action, usual.get(action.dest, str(EXAMPLE)))
                yield line


TRICKS = {
    "what": (f"record:{HOSTILE}", f"record:CPU/{HOSTILE}", f"record:{HOSTILE}:0x20"),
    "record": (f"CPU/{HOSTILE}", f"{HOSTILE}/0"),
    "paths": (f"CPU/0.{HOSTILE}", f"CPU/{HOSTILE}.rip", f"HVM_PARAMS.{HOSTILE}",
              f'VMPORT.guestinfo["{HOSTILE}"]', f"CPU_MSR/0.msr[{HOSTILE}]",
              f"config.{HOSTILE}", f"MSR[{HOSTILE}]", f"{HOSTILE}*",
              f"CPU/0#{HOSTILE}", f"pfn[{HOSTILE}]", f"xl.{HOSTILE}"),
    "places": (f"config.{HOSTILE}", f'config["{HOSTILE}"]', f"CPUID[{HOSTILE}]", f"*{HOSTILE}"),
    "settings": (f"CPU/0.rip={HOSTILE}", f"CPU/0.{HOSTILE}=1", f"{HOSTILE}=1",
                 f'VMPORT.guestinfo["{HOSTILE}"]="a"', f'VMPORT.guestinfo["a"]="{HOSTILE}"'),
    "param": (f"{HOSTILE}=1", f"STORE_PFN={HOSTILE}"),
    "hot": (f"1MiB@{HOSTILE}", f"{HOSTILE}@1"),
    "against": (f"command:{HOSTILE}", f"command:true {HOSTILE}"),
    "output": (f"no/{HOSTILE}",),
    "corpus": (f"/dev/null/{HOSTILE}",),
}  # fmt: skip
"""Further hostile text for an argument, which gets past its first check."""


@pytest.mark.parametrize("name", COMMANDS)
def test_text_in_arguments(name: str, place: Path, run: Run) -> None:
    for line in lines_of(name, place):
        result = run(*line)
        check(result)
        if result.status == 2 and name not in ("restore", "diff", "policy", "place"):
            assert result.err.count("\n") == 1, line


def test_words_that_are_no_command(place: Path, run: Run) -> None:
    for line in (
        [HOSTILE],
        [f"--{HOSTILE}"],
        ["\0"],
        [f"verfy{HOSTILE[1:3]}"],
        ["info", HOSTILE, HOSTILE],
    ):
        result = run(*line)
        check(result)
        assert result.status and result.err.count("\n") == 1 and not result.out


def test_a_finding_of_a_fuzz_target(place: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A traceback, whose last line is the exception's text."""
    from hvmctx.fuzz.targets import TARGETS

    def fail(data: bytes) -> frozenset[str]:
        raise ValueError(HOSTILE) from KeyError(HOSTILE)

    monkeypatch.setattr(TARGETS["context"], "run", fail)
    corpus, page = place / "corpus", place / "page"
    plan = ("--corpus", corpus, "--executions", 1, "--html", page)
    result = run("fuzz", "campaign", "--target", "context", *plan)
    check(result)
    (report,) = (corpus / "findings").glob("*.txt")
    for shown in (page, report):
        assert all(printable(line) == line for line in shown.read_text().split("\n"))
    path = place / NAME
    path.write_bytes(b"")
    result = run("fuzz", "run", "context", path)
    check(result)
    assert result.status == 1 and "in fail" in result.err and "ValueError: a\\nhvmctx" in result.err
