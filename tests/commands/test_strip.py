"""strip as a user types it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders.running import Run, bare
from tests.builders.samples import DATA, EXAMPLE
from tests.builders.streams import libxc_stream, page_data, word

WARNING = (
    "hvmctx: warning: names, passwords and strings of the guest may still be in it: --redact "
    "leaves them out, --redact-registers its registers too\n"
)


def test_redact(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run("strip", EXAMPLE, "--redact", "-o", out)
    assert result == (
        0,
        (
            "",
            "hvmctx: 0 pages emptied, 0 records of 0 absent pages left out; redacted: 2 values of "
            "the configuration\n"
            "hvmctx: warning: still in it: registers and the device model's file; look before you "
            "send it\n",
        ),
    )
    assert run("get", out, "config.c_info.name", "CPU/0.rip").out == "redacted\n0xb7b9\n"
    result = run("strip", EXAMPLE, "--redact", "--redact-registers", "-o", out, "--force")
    assert "1 records of registers" in result.err
    assert run("get", out, "CPU/0.rip").out == "0x0\n"
    result = run("strip", EXAMPLE, "--redact-registers", "-o", out)
    assert result == (2, ("", "hvmctx: strip: --redact-registers: expected --redact too\n"))
    done = bare("strip", "-", "--redact", "-o", "-", stdin=EXAMPLE.read_bytes())
    assert done.returncode == 0 and b"hvm1" not in done.stdout


def test_strip(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run("strip", EXAMPLE, "-o", out)
    assert result.status == 0 and out.read_bytes() == EXAMPLE.read_bytes()
    assert result.err == (
        f"hvmctx: 0 pages emptied, 0 records of 0 absent pages left out\n{WARNING}"
    )
    result = run("strip", "7", "-o", out)
    assert result.status == 2
    done = bare("strip", "-", "-o", "-", stdin=EXAMPLE.read_bytes())
    assert done.returncode == 0 and done.stdout == EXAMPLE.read_bytes()


def test_pages_and_holes(run: Run, tmp_path: Path) -> None:
    path, out = tmp_path / "stream", tmp_path / "out"
    holes = page_data(word(4, 0xF), word(5, 0xF))
    path.write_bytes(libxc_stream(page_data(word(1), word(2), word(3, 0xF)), holes))
    emptied = page_data(word(1, 0xE), word(2, 0xE), word(3, 0xF))
    result = run("strip", path, "-o", out)
    assert out.read_bytes() == libxc_stream(emptied)
    assert result == (
        0, ("", f"hvmctx: 2 pages emptied, 1 records of 2 absent pages left out\n{WARNING}"),
    )  # fmt: skip
    result = run("strip", path, "-o", out, "--keep-holes", "--force")
    assert out.read_bytes() == libxc_stream(emptied, holes)
    assert result.err == (
        f"hvmctx: 2 pages emptied, 0 records of 0 absent pages left out\n{WARNING}"
    )


def test_what_cannot_be_stripped_leaves_nothing_behind(run: Run, tmp_path: Path) -> None:
    for source, status, reason in (
        (DATA / "streams" / "legacy_hvm_w64.in.bin", 1, "convert a legacy one first"),
        ("7", 2, "strip takes a file, not a DOMID; ./NAME for a file of digits"),
        ("/no/such/file", 1, "No such file"),
    ):
        result = run("strip", source, "-o", tmp_path / "out")
        assert result.status == status and reason in result.err and result.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_what_follows_is_left_out(run: Run, tmp_path: Path) -> None:
    path, out = tmp_path / "stream", tmp_path / "out"
    image = EXAMPLE.read_bytes()
    path.write_bytes(image + b"something else")
    result = run("strip", path, "-o", out)
    assert result.status == 0 and out.read_bytes() == image
    assert result.err.splitlines()[0] == (
        f"hvmctx: warning: what follows the image, from offset {len(image):#x} on, is left out"
    )


@pytest.mark.parametrize(("data", "found"), [(b"", "0 bytes"), (bytes(4096), "an END record")])
def test_nothing_that_could_be_an_image(data: bytes, found: str, run: Run, tmp_path: Path) -> None:
    """Refused as bytes of any other kind are."""
    path, other, out = tmp_path / "in", tmp_path / "other", tmp_path / "out"
    path.write_bytes(data)
    other.write_bytes(b"\xee" * 64)
    result = run("strip", path, "-o", out)
    assert result.status == run("strip", other, "-o", out).status == 1
    said = f"nothing that Xen saves: found {found}, expected a context, or an image of a guest"
    assert result.err == f"hvmctx: context: offset 0x0: {said}\n"
    assert not out.exists()
