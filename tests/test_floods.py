"""Inputs with very many of one thing (`tests/builders/floods.py`): the work grows with them, and
no faster, and beyond a limit there is a line. Steps are counted, no time is measured."""

from __future__ import annotations

import io
import random
import struct
import subprocess
import sys
from array import array
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from types import FrameType

import pytest

from hvmctx.abi import streams
from hvmctx.abi.registry import record_types
from hvmctx.cli import main
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.errors import HvmctxError, LimitError
from hvmctx.files import compression
from hvmctx.files.opening import open_seekable
from hvmctx.image.image import open_image
from hvmctx.image.index import LARGEST_HEAD
from hvmctx.json_form.document import dumps_json, loads_json
from hvmctx.limits import DEFAULT, Limits
from hvmctx.restore.image import would_restore
from hvmctx.verify.views import VIEWS, verify
from tests.builders.floods import FLOODS
from tests.builders.running import TOOL
from tests.builders.samples import EXAMPLE, context_bytes
from tests.builders.streams import Pipe, hvm, in_xl, libxc_stream, record

JSON = [name for name in FLOODS if name.startswith("json")]
COMMANDS = (
    "dump IN", "info IN --records", "get IN CPU/0.rip", "verify IN --as strict", "restore IN",
    "to-json IN -o OUT --force", "set IN CPU/0.rip=1 -o OUT --force", "diff IN OTHER",
)  # fmt: skip
OF_JSON = ("from-json IN -o OUT --force",)


def steps(work: Callable[[], object]) -> int:
    """Calls of functions, Python's and C's."""
    count = 0

    def counting(_frame: FrameType, event: str, _arg: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(counting)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def command(line: str, folder: Path) -> int:
    names = {"IN": "in", "OUT": "out", "OTHER": "other"}
    words = [str(folder / names[word]) if word in names else word for word in line.split()]
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        return main(words)


@pytest.mark.parametrize("name", FLOODS)
def test_steps_grow_with_the_flood(name: str, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(hvm())
    count = 30 if name == "json-depth" else 100
    for line in OF_JSON if name in JSON else COMMANDS:
        counts = []
        for size in (1, count, 2 * count, 3 * count):  # the first imports what it needs
            (tmp_path / "in").write_bytes(FLOODS[name](size))
            counts.append(steps(partial(command, line, tmp_path)))
        _, once, twice, thrice = counts
        assert thrice - twice <= 1.3 * (twice - once) + 200, line


@pytest.mark.parametrize("line", ["get IN config.*", "hexdump IN", "locate IN 0x60"])
def test_steps_grow_with_the_configuration(line: str, tmp_path: Path) -> None:
    """Which is taken apart once, however much of it is asked for."""
    counts = []
    for size in (1, 100, 200, 300):  # the first imports what it needs
        members = ",".join(f'"k{at}":[{at}]' for at in range(size))
        (tmp_path / "in").write_bytes(in_xl(b"{%s}" % members.encode()))
        counts.append(steps(partial(command, line, tmp_path)))
    _, once, twice, thrice = counts
    assert thrice - twice <= 1.3 * (twice - once) + 200


OVER = {
    "context-records": "context_records", "context-unknown": "context_records",
    "vcpus": "context_records", "vmport-records": "context_records",
    "stream-records": "stream_records", "stream-context": "context_records",
    "checkpoints": "stream_records", "batches-short": "stream_records", "batches": "batches",
    "stream-optional": "findings", "stream-mandatory": "findings", "stream-padding": "findings",
    "params": "rows", "policies": "rows", "xenstore": "rows", "sections": "sections",
    "config": "config", "runs-again": "runs", "xapi-records": "stream_records",
    "xml-elements": "rows",
}  # fmt: skip
"""What each goes over."""


@pytest.mark.parametrize("name", OVER)
@pytest.mark.parametrize("once", [False, True])
def test_over_a_limit(
    name: str, once: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, which names the limit and how to move it; and moved, it is none. Of what can be
    read only once the same, but that its page words are not kept."""
    path = tmp_path / "in"
    data = FLOODS[name](200)
    path.write_bytes(packed("gzip", data) if once else data)
    if once and OVER[name] == "runs":
        return
    limit = OVER[name]

    def info(most: int) -> tuple[int, str]:
        status = main(["info", str(path), "--limits", f"{limit}={most}"])
        seen = capsys.readouterr()
        return status, seen.out + seen.err

    status, said = info(100)
    lines = [line for line in said.splitlines() if "allows more" in line]
    assert status == 1 and len(lines) == 1, said
    assert "more than 100 " in lines[0] and f"--limits {limit}=N" in lines[0]
    assert "allows more" not in info(1 << 20)[1]


def test_what_a_judge_cannot_know_it_does_not_say() -> None:
    """A verdict on part of an image would be a guess."""
    many, limits = FLOODS["stream-records"](50), Limits(stream_records=40)
    context, fewer = FLOODS["stream-context"](50), Limits(context_records=40)
    for data, bound in ((many, limits), (context, fewer)):
        with open_image(data, limits=bound) as image, pytest.raises(LimitError):
            would_restore(image, "4.17")
        for view in VIEWS[1:]:
            found = [str(finding) for finding in verify(data, view, limits=bound)]
            assert any("more than 40 records" in text for text in found), view
    with pytest.raises(LimitError, match="HVM_CONTEXT: more than 40 records"):
        dumps_json(context, limits=fewer)
    with pytest.raises(LimitError, match="HVM_CONTEXT: more than 40 records"):
        _ = open_image(context, limits=fewer).context
    bare = FLOODS["context-records"](50)
    for damaged in (False, True):
        with pytest.raises(LimitError):
            HvmContext.from_bytes(bare, damaged=damaged, limits=fewer)
    assert len(HvmContext.from_bytes(bare, limits=Limits(context_records=68))) == 68


def test_findings_have_an_end() -> None:
    limits = Limits(findings=50)
    for name in ("findings", "stream-optional", "context-records", "vmport-records"):
        for view in VIEWS:
            try:
                found = verify(FLOODS[name](200), view, limits=limits)
            except HvmctxError as error:
                assert isinstance(error, LimitError), name
                continue
            assert len(found) <= 52, (name, view)
            if len(found) > 40:
                assert any("findings=N allows more" in finding.text for finding in found)


@pytest.mark.parametrize("name", JSON)
def test_json(name: str) -> None:
    limits = {
        "json-depth": Limits(json_depth=20), "json-width": Limits(json_values=50),
        "json-records": Limits(input=1000),
    }[name]  # fmt: skip
    with pytest.raises(LimitError, match="allows more"):
        loads_json(FLOODS[name](100), limits=limits)


@pytest.mark.parametrize("vcpus", [64, 128, 4096])
def test_no_limit_is_reached_by_what_xen_could_write(vcpus: int) -> None:
    """Every vcpu with every record, which is as many as the example has of one."""
    entries = HvmContext.from_bytes(context_bytes()).entries
    per_vcpu = [e for e in entries if e.type is not None and e.type.scope == "vcpu"]
    whole = HvmContext(
        [e for e in entries if e not in per_vcpu and e.name != "END"]
        + [Record(e.typecode, n, e.body) for e in per_vcpu for n in range(vcpus)]
        + entries[-1:]
    )
    stream = libxc_stream(record(16), record(streams.LIBXC_HVM_CONTEXT, whole.to_bytes()))
    with open_image(stream) as image:
        assert len(image.context.vcpus) == vcpus and not image.problems
        assert would_restore(image, "4.17").rule != "context-end"
    types = sum(known.scope == "vcpu" for known in record_types())
    assert types * 4096 < DEFAULT.context_records
    assert DEFAULT.batches >= 2 * ((16 << 40) // (1024 * 4096)), "passes over 16 TiB"


def test_two_floods_are_not_the_same(tmp_path: Path) -> None:
    """Nothing is known of what they hold, so that nothing can be said to be equal."""
    (tmp_path / "in").write_bytes(FLOODS["stream-context"](50))
    (tmp_path / "other").write_bytes(FLOODS["stream-context"](60))
    assert command("diff IN OTHER --limits context_records=40", tmp_path) == 2
    assert command("diff IN OTHER", tmp_path) == 1


def test_every_command_that_reads_can_be_given_limits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").write_bytes(FLOODS["context-records"](50))
    path = str(tmp_path / "in")
    more = (
        "convert IN -o OUT --force", "strip IN -o OUT --force", "extract IN -o OUT --force",
        "replace IN --payload IN -o OUT --force",
    )  # fmt: skip
    for line in (*COMMANDS, *OF_JSON, *more):
        assert command(f"{line} --max-size 10".replace("OTHER", "IN"), tmp_path) in (1, 2), line
    for options, reason in (
        (("--max-size", "10"), "more than 10 bytes: --max-size N allows more"),
        (("--limits", "input=10"), "more than 10 bytes"),
        (("--limits", "input=10,kept=1G", "--max-size", "11"), "more than 11 bytes"),
        (("--limits", "inputs=10"), "no limit 'inputs'; expected context_records"),
        (("--limits", "10"), "found '10', expected NAME=VALUE"),
        (("--max-size", "many"), "found 'many', expected a number"),
    ):
        assert main(["info", path, *options]) == (1 if "more" in reason else 2)
        assert reason in capsys.readouterr().err
    assert main(["info", path, "--max-size", "1M"]) == 0


PACKED = ("gzip", "xz", "zstd", "lz4")


def packed(name: str, data: bytes) -> bytes:
    import gzip
    import lzma

    if name == "gzip":
        return gzip.compress(data)
    if name == "xz":
        return lzma.compress(data)
    module = pytest.importorskip("zstandard" if name == "zstd" else "lz4.frame")
    done: bytes = module.compress(data)
    return done


@pytest.mark.parametrize("name", PACKED)
def test_small_pieces_of_compressed_data_are_read_ahead(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight bytes at a time out of some kilobytes: few calls, and none copies what is left."""
    data = packed(name, FLOODS["stream-records"](20_000))
    calls = 0
    read = compression._Decompressor.read

    def counting(self: compression._Decompressor, count: int) -> bytes:
        nonlocal calls
        calls += 1
        return read(self, count)

    monkeypatch.setattr(compression._Decompressor, "read", counting)
    with open_image(data) as image:
        assert image.complete and len(image.records) > 20_000
    assert calls < 200


def test_what_zstd_has_left_is_not_copied() -> None:
    zstandard = pytest.importorskip("zstandard")
    inner = compression._Zstd(1 << 20)
    data = zstandard.compress(bytes(1 << 20))
    assert inner.decompress(data, 8) == bytes(8)
    left = inner._output
    while not inner.eof:
        assert inner.decompress(b"", 1 << 12)
    assert inner._output is left or len(left) < 1 << 20


@pytest.mark.parametrize("name", PACKED)
def test_what_is_unpacked_has_an_end(name: str) -> None:
    data = packed(name, FLOODS["stream-records"](20_000))
    limits = Limits(unpacked=100_000)
    with open_image(data, limits=limits) as image:
        assert not image.complete
        assert any("--limits unpacked=N" in str(problem) for problem in image.problems)


def test_only_heads_are_kept_of_what_nobody_decodes() -> None:
    body = bytes(1 << 16)
    data = libxc_stream(*[record(0x80000055, body)] * 20, record(9, context_bytes()))
    with open_image(Pipe(data)) as image:
        kept = [len(r.kept or b"") for r in image.records if r.type == 0x80000055]
        assert kept == [LARGEST_HEAD] * 20 and image.context.has_end


class Endless:
    """Zeros without an end, which say how many were asked for."""

    def __init__(self, head: bytes = b"") -> None:
        self.head = head
        self.asked = 0

    def read(self, count: int) -> bytes:
        data, self.head = self.head[:count], self.head[count:]
        if count and not data:
            data = bytes(count)
        self.asked += len(data)
        return data


def test_endless_inputs_are_refused() -> None:
    """And before anything is copied, what is nothing of Xen's."""
    limits = Limits(input=1 << 20, spooled=1 << 21)
    zeros, other = Endless(), Endless(b"no image" * 64)
    with pytest.raises(LimitError, match="more than 1 MiB: --max-size N allows more"):
        open_image(zeros, seekable=True, limits=limits)
    assert zeros.asked <= 3 << 20
    with pytest.raises(HvmctxError, match="nothing that Xen saves"):
        open_image(other, seekable=True, limits=limits)
    assert other.asked <= 64
    for convert in (dumps_json, open_image):
        with pytest.raises(LimitError, match="more than 1 MiB"):
            convert(Endless(), limits=limits)
    with pytest.raises(LimitError, match="more than 2 MiB: --limits spooled=N allows more"):
        open_seekable(Endless(libxc_stream(end=False)), limits)


CHILD = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]) << 20,) * 2)
sys.path.insert(0, sys.argv[2])
from hvmctx.cli import main
sys.exit(main(sys.argv[3:]))
"""


def within(mebibytes: int, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """A command that has only so much memory."""
    root = str(Path(TOOL).parent.parent)
    return subprocess.run(
        [sys.executable, "-c", CHILD, str(mebibytes), root, *arguments],
        capture_output=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("mebibytes", [60, 80])
@pytest.mark.parametrize("line", ["dump", "info", "verify", "to-json -o -"])
def test_out_of_memory_is_one_line(mebibytes: int, line: str, tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(FLOODS["context-unknown"](1 << 20))
    name, *options = line.split()
    done = within(mebibytes, name, str(path), *options, "--limits", "context_records=9M")
    assert done.returncode == (2 if name == "verify" else 1)
    assert done.stderr == b"hvmctx: out of memory\n"


WORST = {
    "context-records": 1 << 20, "stream-context": 1 << 20, "vcpus": 60_000, "params": 60_000,
    "policies": 60_000, "xenstore": 60_000, "sections": 60_000, "config": 5_000_000,
    "stream-optional": 110_000, "runs": 1 << 20, "json-width": 4_000_000,
    "json-depth": 1_000_000,
}  # fmt: skip
"""As many as their limits take, or more."""


@pytest.mark.parametrize("name", WORST)
def test_the_worst_of_each_fits_into_memory(name: str, tmp_path: Path) -> None:
    """Address space, of which some 60 MiB are Python's own."""
    path = tmp_path / "in"
    path.write_bytes(FLOODS[name](WORST[name]))
    arguments = ("from-json", str(path), "-o", "-") if name in JSON else ("info", str(path))
    done = within(360, *arguments)
    assert done.returncode in (0, 1) and b"Traceback" not in done.stderr
    assert b"out of memory" not in done.stderr


WORST_OF_JSON = {
    "to-json": {
        "context-cpus": 60_000, "stream-records": 1 << 18, "params-records": 1 << 18,
        "batches-short": 1 << 17, "findings": 1 << 18, "stream-padding": 100_000,
    },
    "dump --format json": {"context-cpus": 60_000},
}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize(
    ("line", "name"), [(line, name) for line, names in WORST_OF_JSON.items() for name in names]
)
def test_the_worst_of_each_in_json(line: str, name: str, tmp_path: Path) -> None:
    """Records are written one by one, however many numbers they have."""
    path = tmp_path / "in"
    path.write_bytes(packed("gzip", FLOODS[name](WORST_OF_JSON[line][name])))
    command, *options = line.split()
    more = ["-o", "/dev/null"] if command == "to-json" else options
    done = within(360, command, str(path), *more)
    assert done.returncode in (0, 1) and b"Traceback" not in done.stderr
    assert b"out of memory" not in done.stderr


@pytest.mark.long
@pytest.mark.parametrize("order", ["as they lie", "anyhow"])
@pytest.mark.parametrize("line", ["info", "diff", "extract", "build"])
def test_a_map_of_scattered_pages(line: str, order: str, tmp_path: Path) -> None:
    """As many runs as `Limits.runs` takes."""
    pfns = array("Q", range(0, 2 * DEFAULT.runs, 2))
    if order == "anyhow":
        shuffled = list(pfns)
        random.Random(1).shuffle(shuffled)
        pfns = array("Q", shuffled)
    words = array("Q", (streams.PAGE_XALLOC << 60 | pfn for pfn in pfns)).tobytes()
    batches = (words[at : at + (1 << 22)] for at in range(0, len(words), 1 << 22))
    data = hvm(b"".join(
        record(streams.LIBXC_PAGE_DATA, struct.pack("<II", len(b) // 8, 0) + b) for b in batches
    ))  # fmt: skip
    path, out = tmp_path / "in", str(tmp_path / "out")
    path.write_bytes(data)
    words_of = {
        "info": [str(path)], "diff": [str(path), str(EXAMPLE)],
        "extract": [str(path), "--what", "memory", "-o", out],
        "build": ["--base", str(path), "-o", out, "--layer", "libxc"],
    }  # fmt: skip
    done = within(400, line, *words_of[line])
    assert done.returncode in (0, 1) and b"Traceback" not in done.stderr
    assert b"out of memory" not in done.stderr
