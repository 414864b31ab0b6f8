"""build as a user types it."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from hvmctx.cli import main
from hvmctx.image.image import open_image
from hvmctx.save.guests import MemoryFileSource
from tests.builders.running import Result, Run
from tests.builders.samples import DATA, EXAMPLE, context_bytes


@pytest.fixture
def build(run: Run, tmp_path: Path) -> Run:
    """Runs build, which writes `out` in the test's own directory."""

    def call(*arguments: object) -> Result:
        return run("build", *arguments, "-o", tmp_path / "out", "--force")

    return call


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    path = tmp_path / "memory"
    path.write_bytes(b"m" * 4096 * 5)
    return path


def test_of_an_image(build: Run, tmp_path: Path) -> None:
    status, said = build("--base", EXAMPLE)
    assert status == 0 and said.err == "hvmctx: 6144 pages, 55128 bytes of stream\n"
    with open_image(tmp_path / "out") as image, open_image(EXAMPLE) as base:
        assert image.config == base.config and image.tsc_info == base.tsc_info
        assert image.emulators[0].payload == base.emulators[0].payload
        assert image.context.to_bytes() == base.context.to_bytes()
    assert main(["verify", str(tmp_path / "out"), "--as", "verifier"]) == 0


def test_memory_alone(build: Run, memory: Path, tmp_path: Path) -> None:
    how = ("--layer", "libxc", "--tsc", "0,2600000")
    assert build("--memory", memory, "--vcpus", 2, *how)[0] == 0
    with open_image(tmp_path / "out") as image:
        assert len(image.context.vcpus) == 2 and image.xen_version == (4, 17)
        assert image.tsc_info is not None and image.tsc_info.khz == 2600000
        assert image.memory_map.counts()[0] == 5


def test_a_core(build: Run, qemus_own: Path, tmp_path: Path) -> None:
    status, said = build("--core", qemus_own)
    assert status == 0 and "no EFER" in said.err
    with open_image(tmp_path / "out") as image:
        assert image.context.vcpus[0].cpu.rip == 0xB7B9
        assert (image.memory_map.lookup(0x3FFF) or (1,))[0] == 0


@pytest.mark.parametrize("form", ["raw", "json", "image"])
def test_a_context(build: Run, memory: Path, tmp_path: Path, form: str) -> None:
    context = tmp_path / "context"
    if form == "raw":
        context.write_bytes(context_bytes())
    elif form == "json":
        assert main(["to-json", str(EXAMPLE), "-o", str(context)]) == 0
        plain = json.loads(context.read_text())
        assert "image" in plain
    else:
        context.write_bytes(EXAMPLE.read_bytes())
    assert build("--memory", memory, "--context", context, "--policy", EXAMPLE)[0] == 0
    with open_image(tmp_path / "out") as image:
        assert image.context.vcpus[0].cpu.rip == 0xB7B9
        assert image.policy.cpuid is not None


def test_parts_in_the_place_of_the_bases(build: Run, tmp_path: Path) -> None:
    model, config = tmp_path / "model", tmp_path / "config"
    model.write_bytes(b"QEVM\0\0\0\3other")
    config.write_text('{"b_info": {"max_vcpus": 1}}')
    status, _ = build(
        "--base", EXAMPLE, "--emulator", model, "--config", config, "--param", "STORE_PFN=0xfeff8",
        "--param", "35=1", "--release", "4.20",
    )  # fmt: skip
    assert status == 0
    with open_image(tmp_path / "out") as image:
        assert bytes(image.emulators[0].payload) == b"QEVM\0\0\0\3other"
        assert image.config == {"b_info": {"max_vcpus": 1}} and image.xen_version == (4, 20)
        assert image.params[1] == 0xFEFF8 and image.params[35] == 1


def test_contradictions(build: Run, memory: Path, tmp_path: Path) -> None:
    how = ("--memory", memory, "--vcpus", 1, "--param", "STORE_PFN=0")
    status, said = build(*how)
    assert status == 1 and not (tmp_path / "out").exists()
    assert "STORE_PFN [param-missing]" in said.err
    assert "1 contradiction; --force-inconsistent" in said.err
    status, said = build(*how, "--force-inconsistent")
    assert status == 0 and (tmp_path / "out").exists() and "[param-missing]" in said.err


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        ((), 2, "no memory"),
        (("--memory", "MEMORY"), 2, "no context"),
        (("--memory", "MEMORY", "--vcpus", "0"), 2, "no context"),
        (("--memory", "MEMORY", "--vcpus", "1", "--param", "X=1"), 2, "expected NAME=VALUE"),
        (("--memory", "MEMORY", "--vcpus", "1", "--param", "1=x"), 2, "is not a number"),
        (("--memory", "MEMORY", "--vcpus", "1", "--param", "1=-1"), 1, "does not fit"),
        (("--memory", "MEMORY", "--vcpus", "1", "--tsc", "1"), 2, "expected MODE,KHZ"),
        (("--memory", "MEMORY", "--vcpus", "1", "--tsc", "1,2,3,4,5"), 2, "expected MODE,KHZ"),
        (("--memory", "/no/such", "--vcpus", "1"), 1, "No such file"),
        (("--memory", "/dev/null", "--vcpus", "1"), 1, "not a regular file"),
        (("--memory", "MEMORY", "--context", "/no/such"), 1, "No such file"),
        (("--memory", "MEMORY", "--emulator", "/no/such", "--vcpus", "1"), 1, "No such file"),
        (("--core", "MEMORY"), 1, "not a 64-bit little-endian ELF file"),
        (("--memory", "MEMORY", "--core", "MEMORY"), 2, "not allowed with"),
        (("--base", EXAMPLE, "--layer", "libxc", "--config", EXAMPLE), 2, "cannot hold"),
        (("--base", DATA / "streams" / "legacy_hvm_w64.in.bin"), 1, "a legacy stream"),
    ],
)
def test_what_fails(
    build: Run, memory: Path, tmp_path: Path, arguments: Any, status: int, reason: str
) -> None:
    given = [memory if argument == "MEMORY" else argument for argument in arguments]
    found, said = build(*given)
    assert (found, said.out) == (status, "") and reason in said.err
    assert not list(tmp_path.glob("out*")), "nothing is left behind"


def test_an_hvm_guest_without_a_device_model(build: Run, memory: Path, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text('{"c_info": {"type": "hvm"}}')
    how = ("--memory", memory, "--vcpus", "1", "--config", config)
    status, said = build(*how)
    assert status == 1 and "without its device model's state" in said.err
    assert build(*how, "--force-inconsistent").status == 0


def test_standard_output_cannot_be_verified_first(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["build", "--base", str(EXAMPLE), "-o", "-"]) == 2
    assert "-o takes a file" in capfd.readouterr().err


def test_a_base_that_is_read_once(build: Run, tmp_path: Path) -> None:
    """Compressed: like the file itself."""
    packed = tmp_path / "packed.gz"
    packed.write_bytes(gzip.compress(EXAMPLE.read_bytes()))
    assert build("--base", packed).status == 0
    of_packed = (tmp_path / "out").read_bytes()
    assert build("--base", EXAMPLE).status == 0
    assert (tmp_path / "out").read_bytes() == of_packed


def test_memory_that_is_cut_meanwhile(
    build: Run, memory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = MemoryFileSource.pages

    def cut(self: MemoryFileSource, *which: Any) -> Any:
        os.truncate(memory, 4096)
        return usual(self, *which)

    monkeypatch.setattr(MemoryFileSource, "pages", cut)
    status, said = build("--memory", memory, "--vcpus", 1, "--layer", "libxc")
    assert status == 1 and said.err.endswith("ends at 0x1000: it has been cut while it was read\n")
    assert len(said.err.splitlines()) == 1 and not (tmp_path / "out").exists()
