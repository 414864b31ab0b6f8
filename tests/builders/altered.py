"""Altered inputs for every command, and what is wrong with its answer to one."""

from __future__ import annotations

import gzip
import io
import lzma
import random
import re
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path

from hvmctx.abi.vmport import PROFILES
from hvmctx.cli import main
from hvmctx.errors import HvmctxError
from hvmctx.fuzz.contexts import mutate_context
from hvmctx.fuzz.streams import mutate_stream
from hvmctx.fuzz.target_json import JSON
from hvmctx.fuzz.values import edit_bytes
from hvmctx.image.image import open_image
from tests.builders.samples import DATA, EXAMPLE, ROOT, context_bytes
from tests.builders.streams import libxc_head
from tests.builders.wrappers import WRAPPED

_CONTEXT = DATA / "images" / "hvm1.hvmctx.bin"
_LOG = ROOT / "examples" / "logs" / "4.20-tsc-aux.log"
_OUT = ("-o", "OUT", "--force")
COMMANDS = (
    ("dump", "IMAGE"), ("dump", "IMAGE", "--all", "--release", "4.5"),
    ("dump", "IMAGE", "--format", "json"), ("dump", "IMAGE", "--format", "table"),
    ("dump", str(_CONTEXT), "--vmport-profile", "PROFILE"),
    ("info", "IMAGE"), ("info", "IMAGE", "--records"), ("info", "IMAGE", "--format", "json"),
    ("get", "IMAGE", "CPU.rip", "HVM_PARAMS.1"), ("get", "IMAGE", "*"),
    ("locate", "IMAGE", "CPU.rip", "config", "5000"),
    ("x", "IMAGE", "rip-8", "-v", *_OUT), ("x", "IMAGE", "0x1000:64", "--physical", *_OUT),
    ("stack", "IMAGE"), ("stack", str(EXAMPLE), "--symbols", "IMAGE"),
    ("hexdump", "IMAGE"), ("dump", "IMAGE", "--decode"), ("report", "IMAGE", *_OUT),
    ("set", "IMAGE", "--add", "CPUID[1].eax=1", "--remove", "HVM_PARAMS.1", *_OUT),
    ("set", "IMAGE", "--add", "config.x=1", *_OUT),
    ("verify", "IMAGE"), ("verify", "IMAGE", "--as", "strict"),
    ("verify", "IMAGE", "--as", "verifier", "--format", "json"),
    ("restore", "IMAGE"), ("restore", "IMAGE", "--release", "4.9", "--format", "json"),
    ("restore", "IMAGE", "--format", "ndjson"), ("restore", str(_CONTEXT), "--policy", "IMAGE"),
    ("diff", "IMAGE", str(EXAMPLE)), ("diff", str(_CONTEXT), "IMAGE", "--memory"),
    ("set", "IMAGE", "CPU.rip=1", "HVM_PARAMS.1=2", *_OUT),
    ("set", "IMAGE", 'VMPORT.guestinfo["k"]="v"', *_OUT),
    ("repair", "IMAGE", "--release", "4.20", *_OUT), ("repair", str(_CONTEXT), "--policy", "IMAGE"),
    ("diagnose", "IMAGE"), ("diagnose", str(_LOG), "IMAGE"),
    ("replace", "IMAGE", str(_CONTEXT), *_OUT), ("replace", str(EXAMPLE), "IMAGE", *_OUT),
    ("replace", str(EXAMPLE), "QEMU", "--what", "emulator", *_OUT), ("strip", "IMAGE", *_OUT),
    ("strip", "IMAGE", "--redact", "--redact-registers", *_OUT),
    ("extract", "IMAGE", *_OUT), ("extract", "IMAGE", "--what", "emulator", *_OUT),
    ("extract", "IMAGE", "--what", "memory", *_OUT),
    ("extract", "IMAGE", "--what", "memory", "--format", "elf", *_OUT),
    ("to-json", "IMAGE", *_OUT), ("from-json", "JSON", *_OUT),
    ("convert", "IMAGE", *_OUT), ("convert", "LEGACY", *_OUT), ("info", "LEGACY"),
    ("build", "--base", "IMAGE", "--force-inconsistent", *_OUT),
    ("build", "--base", str(EXAMPLE), "--emulator", "QEMU", *_OUT),
    ("build", "--base", str(EXAMPLE), "--context", "JSON", *_OUT),
    ("build", "--base", str(EXAMPLE), "--policy", "IMAGE", *_OUT),
    ("build", "--core", "CORE", "--force-inconsistent", *_OUT),
)  # fmt: skip
"""What each is run with: one word in capitals is an altered input of that kind, OUT where it
writes."""
_STREAMS = (
    (EXAMPLE, "xl"), (DATA / "streams" / "plain.xl", "xl"),
    (DATA / "streams" / "with-xenstore.libxl", "libxl"),
    (DATA / "streams" / "13-one-page.xc", "libxc"),
    (DATA / "streams" / "handbuilt" / "libxc_v3_pv_ok.bin", "libxc"),
)  # fmt: skip
_VERDICTS = ("info", "verify", "restore", "diff", "repair", "diagnose")
"""What these find wrong with an input, they say on stdout."""
_NOTICE = re.compile(r"hvmctx: (warning: |error: |note: |\d+ pages)")
"""A line on stderr that is no error of the command: counts, and the findings of set and build."""


def _image(rng: random.Random) -> bytes:
    """A context or an image; one in eight is compressed, and every other of these damaged."""
    if rng.random() < 0.25:
        data, _ = mutate_context(context_bytes(), rng)
    else:
        image, layer = rng.choice(_STREAMS)
        data, _ = mutate_stream(image.read_bytes(), rng, layer)
    if rng.random() < 0.125:
        squeezed = bytearray(rng.choice((gzip.compress, _xz))(data))
        if rng.random() < 0.5:
            squeezed[rng.randrange(len(squeezed))] ^= 1 << rng.randrange(8)
        data = bytes(squeezed)
    return data


def _xz(data: bytes) -> bytes:
    return lzma.compress(data, preset=0)


def _json(rng: random.Random) -> bytes:
    return JSON.mutate(rng.choice(JSON.seeds(rng)), rng)


def _edited(*files: Path) -> Callable[[random.Random], bytes]:
    return lambda rng: edit_bytes(rng.choice(files).read_bytes(), rng)


def _wrapped(layer: str) -> Callable[[random.Random], bytes]:
    """A wrapper with an edit in terms of its format, or of the bytes before its stream."""

    def made(rng: random.Random) -> bytes:
        data = WRAPPED[layer]
        if rng.random() < 0.5:
            return mutate_stream(data, rng, layer)[0]
        start = data.index(libxc_head()) if rng.random() < 0.8 else len(data)
        return edit_bytes(data[:start], rng) + data[start:]

    return made


_KINDS: dict[str, Callable[[random.Random], bytes]] = {
    "IMAGE": _image,
    "JSON": _json,
    "PROFILE": lambda rng: edit_bytes(PROFILES["XEN_4_5_V6"].to_json().encode(), rng),
    "XAPI": _wrapped("xapi"),
    "LIBVIRT": _wrapped("libvirt"),
    "LEGACY": _edited(*sorted((DATA / "streams").glob("legacy*.in.bin"))),
    "QEMU": _edited(*sorted((DATA / "qemu").glob("*.xendev"))),
    "CORE": _edited(*sorted((DATA / "qemu").glob("core-*"))),
}


def attack(command: tuple[str, ...], rng: random.Random, place: Path) -> str:
    """Run a command in this process on an altered input. Returns what is wrong with its answer:
    nothing, as a rule. The input is left in `place`."""
    path, out = place / "in", place / "out"
    kind = next(word for word in command if word in _KINDS)
    path.write_bytes(_KINDS[kind](rng))
    files = {"OUT": str(out), **dict.fromkeys(_KINDS, str(path))}
    stdout, stderr = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(stdout), redirect_stderr(stderr):
            status = main([files.get(word, word) for word in command])
    except BaseException:
        return traceback.format_exc()
    return _wrong(command[0], path, status, stdout.getvalue(), stderr.getvalue())


def _wrong(name: str, path: Path, status: int, said: str, complained: str) -> str:
    lines = complained.splitlines()
    errors = [line for line in lines if not _NOTICE.match(line)]
    if status not in (0, 1, 2):
        return f"exit status {status}"
    if odd_messages(lines) or len(set(lines)) != len(lines) or len(errors) > _problems_of(path) + 1:
        return f"messages: {lines}"
    if status == 0:
        return f"exit status 0 with {errors}" if errors else ""
    answered = errors or (name in _VERDICTS and said)
    return "" if answered else f"exit status {status} without a reason"


def odd_messages(lines: list[str]) -> list[str]:
    """Lines on stderr that are no message of hvmctx's, or that a terminal would act on."""
    return [line for line in lines if not line.startswith("hvmctx: ") or not line.isprintable()]


def _problems_of(path: Path) -> int:
    """How many problems a look at an input finds, that it has no context aside."""
    try:
        with open_image(path) as image:
            damage = None
            with suppress(HvmctxError):
                damage = image.context.damage
            return len(image.problems) + (damage is not None)
    except HvmctxError:
        return 0
