"""convert as a user types it."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from hvmctx.cli import main
from hvmctx.image.image import open_image
from tests.builders.running import Run, bare
from tests.builders.samples import DATA, EXAMPLE
from tests.builders.wrappers import WRAPPED, XML

PLACE = DATA / "streams"


def test_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source, out = PLACE / "legacy_hvm_w32_xl.in.bin", tmp_path / "out"
    assert main(["convert", str(source), "-o", str(out)]) == 0
    assert capfd.readouterr().err == ("hvmctx: 3 pages, 2 with contents; 1 absent ones left out\n")
    assert main(["verify", str(out), "--as", "verifier"]) == 0
    cut = tmp_path / "cut"
    cut.write_bytes(source.read_bytes()[:-9])
    assert main(["convert", str(cut), "-o", str(tmp_path / "none")]) == 1
    assert not (tmp_path / "none").exists()
    assert main(["convert", "7", "-o", str(tmp_path / "none")]) == 2
    plain = ["convert", str(PLACE / "legacy_hvm_w32.in.bin"), "-o", str(out), "--force"]
    options = ["--format", "libxc", "--width", "32", "--guest", "hvm", "--skip-qemu"]
    assert main([*plain, *options]) == 0
    assert out.read_bytes().startswith(b"\xff" * 8)


@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize("form", ["libxc", "libxl"])
def test_as_the_genuine_converter(width: int, form: str, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    source = PLACE / f"legacy_hvm_w{width}.in.bin"
    told = ("--width", width, "--guest", "hvm")
    for how in ((), told):
        result = run("convert", source, "-o", out, "--format", form, "--force", *how)
        assert result == (0, ("", "hvmctx: 3 pages, 2 with contents; 1 absent ones left out\n"))
        assert out.read_bytes() == (PLACE / f"legacy_hvm_w{width}_to_{form}.out.bin").read_bytes()


def test_limits_count_for_the_unpacking_too(run: Run, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    packed.write_bytes(gzip.compress((PLACE / "legacy_hvm_w64.in.bin").read_bytes()))
    done = run("convert", packed, "-o", tmp_path / "out", "--limits", "unpacked=100")
    assert done.status == 1 and "--limits unpacked=N allows more" in done.err


def test_in_a_pipe() -> None:
    source = (PLACE / "legacy_hvm_w64.in.bin").read_bytes()
    done = bare("convert", "-", "-o", "-", stdin=source)
    assert done.returncode == 0
    assert done.stdout == (PLACE / "legacy_hvm_w64_to_libxl.out.bin").read_bytes()


def test_without_the_device_model(run: Run, tmp_path: Path) -> None:
    source, out = PLACE / "legacy_hvm_w64.in.bin", tmp_path / "out"
    assert run("convert", source, "-o", out, "--skip-qemu").status == 0
    with open_image(out) as image:
        assert image.complete and image.emulators == []


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        (("--guest", "pv"), 1, "extended info is missing"),
        (("--width", "32"), 1, "legacy: offset"),
        (("--width", "16"), 2, "invalid choice"),
        (("--format", "xl"), 2, "invalid choice"),
    ],
)
def test_what_is_told_wrongly(
    arguments: tuple[str, ...], status: int, reason: str, run: Run, tmp_path: Path
) -> None:
    result = run("convert", PLACE / "legacy_hvm_w64.in.bin", "-o", tmp_path / "out", *arguments)
    assert (result.status, result.out) == (status, "")
    assert reason in result.err and result.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_what_is_no_legacy_stream(run: Run, tmp_path: Path) -> None:
    result = run("convert", EXAMPLE, "-o", tmp_path / "out")
    assert result.status == 1 and "not a legacy stream" in result.err
    assert not list(tmp_path.iterdir())


def test_to_another_wrapper(run: Run, tmp_path: Path) -> None:
    for name, data in WRAPPED.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "xml").write_bytes(XML)
    out = tmp_path / "out"
    lost = "hvmctx: warning: left out: UEFI variables (VARSTORED, 64 bytes)\n"
    tpm = "hvmctx: warning: left out: TPM state (SWTPM, 16 bytes)\n"
    how = ("--to", "libvirt", "--config", tmp_path / "xml")
    assert run("convert", tmp_path / "xapi", "-o", out, *how) == (0, ("", lost + tpm))
    assert out.read_bytes() == WRAPPED["libvirt"]
    quiet = run("convert", tmp_path / "xl", "-o", out, "--to", "libxl", "--force")
    assert quiet == (0, ("", ""))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--to", "xl", "--format", "libxl"), "--to and --format cannot be combined"),
        (("--config", "x"), "--config goes with --to"),
        (("--to", "libxc", "--config", "/dev/null"), "a libxc stream has no description"),
        (("--to", "vhd"), "invalid choice"),
    ],
)
def test_what_does_not_go_together(
    arguments: tuple[str, ...], message: str, run: Run, tmp_path: Path
) -> None:
    result = run("convert", EXAMPLE, "-o", tmp_path / "out", *arguments)
    assert result.status == 2 and message in result.err
    assert not (tmp_path / "out").exists()
