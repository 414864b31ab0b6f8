"""report as a user types it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.builders.hosts import CPUID
from tests.builders.pages import check_closed, check_links
from tests.builders.running import Run
from tests.builders.samples import EXAMPLE
from tests.builders.streams import in_xl

pytest.importorskip("jinja2")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> Path:
    """With guest.save, bad.save, which no release takes as it is, and a host."""
    monkeypatch.chdir(tmp_path)
    Path("guest.save").write_bytes(EXAMPLE.read_bytes())
    assert run("set", "guest.save", "CPU/0.cr4=0x80000000", "-o", "bad.save").status == 0
    Path("host.txt").write_bytes(CPUID)
    return tmp_path


def test_a_page(place: Path, run: Run) -> None:
    os.chmod("guest.save", 0o640)
    assert run("report", "guest.save", "-o", "report.html") == (0, ("", ""))
    assert Path("report.html").stat().st_mode & 0o777 == 0o640
    text = Path("report.html").read_text()
    check_closed(text)
    check_links(text)
    assert "Saved guest hvm1" in text and "<dd>7 of 7</dd>" in text
    result = run("report", "guest.save", "-o", "report.html")
    assert result.status == 2 and "--force" in result.err
    assert run("report", "guest.save", "-o", "report.html", "--force").status == 0
    assert run("report", "guest.save", "-o", "-").out == text


def test_with_another_and_a_host(place: Path, run: Run) -> None:
    result = run("report", "bad.save", "guest.save", "--host", "host.txt", "--release", "4.17",
                 "--release", "4.20", "-o", "-")  # fmt: skip
    assert result.status == 0
    for said in ("<dd>0 of 3</dd>", "host.txt", "cpu-cr4", "CPU/0.cr4=0x0 -o OUT", "0x80000000",
                 "which <code>hvmctx repair</code> makes", 'id="diff"'):  # fmt: skip
        assert said in result.out


def test_damage(place: Path, run: Run) -> None:
    Path("cut").write_bytes(EXAMPLE.read_bytes()[:50_000])
    result = run("report", "cut", "-o", "cut.html")
    assert result.status == 1 and "the input ends" in result.err
    assert "not complete" in Path("cut.html").read_text()
    assert run("report", "guest.save", "cut", "-o", "-").status == 1


@pytest.mark.parametrize("arguments, status, said", [
    (("none",), 2, "No such file"), (("-", "-"), 2, "only one of the two"),
    (("host.txt",), 2, ""), (("guest.save", "--release", "9"), 2, "9"),
    (("guest.save", "--host", "guest.html"), 2, "guest.html"), (("guest.save", "none"), 2, "none"),
])  # fmt: skip
def test_refused(place: Path, run: Run, arguments: tuple[str, ...], status: int, said: str) -> None:
    result = run("report", *arguments, "-o", "page.html")
    assert result.status == status and said in result.err
    assert not Path("page.html").exists()


def test_a_configuration_that_is_not_json(place: Path, run: Run) -> None:
    path = place / "in.save"
    path.write_bytes(in_xl(b"name = 1"))
    result = run("report", path, "-o", place / "page.html")
    assert result.status == 1 and "the configuration is not JSON" in result.err
    assert "the configuration is not JSON" in (place / "page.html").read_text()
    result = run("report", EXAMPLE, path, "-o", place / "both.html")
    assert result.status == 1 and "the configuration is not JSON" in result.err
