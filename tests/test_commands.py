"""Every command that takes an image, on altered ones: an exit status and at most one line
of error for each problem, and never a traceback."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvmctx.cli import main
from hvmctx.fuzz.contexts import mutate_context
from hvmctx.fuzz.streams import mutate_stream
from tests.samples import DATA, EXAMPLE, context_bytes

OUT = ("-o", "OUT", "--force")
COMMANDS = (
    ("dump",), ("dump", "--all", "--release", "4.5"), ("dump", "--format", "json"),
    ("dump", "--format", "table"), ("info",), ("info", "--format", "json"),
    ("verify",), ("verify", "--as", "strict"), ("verify", "--as", "verifier", "--format", "json"),
    ("restore",), ("restore", "--release", "4.9", "--format", "json"),
    ("extract", *OUT), ("extract", "--what", "emulator", *OUT),
    ("extract", "--what", "memory", *OUT),
    ("extract", "--what", "memory", "--format", "elf", *OUT), ("strip", *OUT), ("to-json", *OUT),
    ("get", "CPU.rip", "HVM_PARAMS.1"), ("set", "CPU.rip=1", "HVM_PARAMS.1=2", *OUT),
    ("set", 'VMPORT.guestinfo["k"]="v"', *OUT), ("convert", *OUT),
    ("build", "--force-inconsistent", *OUT),
)  # fmt: skip
IMAGES = [
    (EXAMPLE, "xl"), (DATA / "streams" / "plain.xl", "xl"),
    (DATA / "streams" / "with-xenstore.libxl", "libxl"),
    (DATA / "streams" / "13-one-page.xc", "libxc"),
    (DATA / "streams" / "handbuilt" / "libxc_v3_pv_ok.bin", "libxc"),
]  # fmt: skip


@settings(max_examples=15)
@given(st.integers(0, 1 << 32))
def test_altered_images(seed: int) -> None:
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as place:
        path, out = Path(place) / "in", Path(place) / "out"
        for command in COMMANDS:
            if rng.random() < 0.25:
                data, _ = mutate_context(context_bytes(), rng)
            else:
                image, layer = rng.choice(IMAGES)
                data, _ = mutate_stream(image.read_bytes(), rng, layer)
            path.write_bytes(data)
            name, *rest = command
            given = ["--base", str(path)] if name == "build" else [str(path)]
            rest = [str(out) if word == "OUT" else word for word in rest]
            assert main([name, *given, *rest]) in (0, 1, 2)


def test_every_command_is_told_of(capfd: pytest.CaptureFixture[str]) -> None:
    from hvmctx.cli import COMMANDS as ALL

    assert main(["--help"]) == 0
    overview = capfd.readouterr().out
    for name in ALL:
        assert f"  {name} " in overview
        assert main([name, "--help"]) == 0 and capfd.readouterr().out.startswith("usage: hvmctx")
