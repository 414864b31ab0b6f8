"""Live domains, over a stand-in for libxenctrl that is compiled here."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from hvmctx.cli import main
from hvmctx.errors import InputError
from hvmctx.image.image import open_image
from hvmctx.live.libxenctrl import LIBRARY_VARIABLE, _candidates, domain_context
from tests.builders.samples import DATA, context_bytes

SOURCE = r"""
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static int handle;
void *xc_interface_open(void *logger, void *dombuild, unsigned flags)
{
    if (getenv("STAND_IN_CLOSED")) { errno = EACCES; return NULL; }
    return &handle;
}
int xc_interface_close(void *xch) { return xch == &handle ? 0 : -1; }
int xc_domain_hvm_getcontext(void *xch, uint32_t domid, uint8_t *buffer, uint32_t size)
{
    FILE *file = fopen(getenv("STAND_IN_CONTEXT"), "rb");
    static uint8_t context[1 << 20];
    int length;
    if (xch != &handle || domid != 7) { errno = ESRCH; if (file) fclose(file); return -1; }
    if (getenv("STAND_IN_HUGE")) { fclose(file); return 0x7fffffff; }
    length = fread(context, 1, sizeof(context), file);
    fclose(file);
    if (!buffer) return length;
    if (getenv("STAND_IN_GONE") || size < (uint32_t)length) { errno = ENOSPC; return -1; }
    memcpy(buffer, context, length);
    return length;
}
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("no compiler")
    place = tmp_path_factory.mktemp("stand-in")
    (place / "xenctrl.c").write_text(SOURCE)
    path = place / "libxenctrl.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", path, place / "xenctrl.c"], check=True)
    return path


@pytest.fixture
def stand_in(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIBRARY_VARIABLE, str(library))
    monkeypatch.setenv("STAND_IN_CONTEXT", str(DATA / "images" / "hvm1.hvmctx.bin"))


def test_context(stand_in: None) -> None:
    assert domain_context(7) == context_bytes()


def test_dump(stand_in: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["7", "--release", "4.17"]) == 0
    ours = capsys.readouterr().out.splitlines()
    theirs = (DATA / "images" / "hvm1.hvmctx.txt").read_text().splitlines()
    assert ours[0] == "HVM save record for domain 7"
    clocks = ("            tsc 0x", "    ACPI PM: TMR_VAL 0x")  # text and bytes were taken in turn
    differ = [(mine, other) for mine, other in zip(ours, theirs) if mine != other]
    assert all(mine.startswith(clocks) for mine, _ in differ[1:]) and len(ours) == len(theirs)


def test_extract_and_json(stand_in: None, tmp_path: Path) -> None:
    assert main(["extract", "7", "-o", str(tmp_path / "context")]) == 0
    assert (tmp_path / "context").read_bytes() == context_bytes()
    assert main(["to-json", "7", "-o", str(tmp_path / "json")]) == 0
    assert main(["from-json", str(tmp_path / "json"), "-o", str(tmp_path / "again")]) == 0
    with open_image(tmp_path / "again") as image:
        assert image.context.to_bytes() == context_bytes()


@pytest.mark.parametrize(
    ("domid", "variable", "reason"),
    [
        (8, "", "domain 8: cannot get the length of its context: No such process"),
        (7, "STAND_IN_CLOSED", "Permission denied; this needs root in dom0"),
        (7, "STAND_IN_HUGE", "has a context of 2147483647 bytes, which is too large"),
        (7, "STAND_IN_GONE", "cannot get its context: No space left"),
        (0x7FF0, "", "no domain has an id above"),
    ],
)
def test_what_goes_wrong(
    domid: int, variable: str, reason: str, stand_in: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable:
        monkeypatch.setenv(variable, "1")
    with pytest.raises(InputError, match=reason):
        domain_context(domid)


def test_library_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(LIBRARY_VARIABLE, "/no/such/libxenctrl.so")
    assert main(["7"]) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "needs Xen's libxenctrl, which cannot be loaded" in message


def test_no_library_of_any_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LIBRARY_VARIABLE, raising=False)
    monkeypatch.setattr("hvmctx.live.libxenctrl._candidates", list)
    with pytest.raises(InputError, match="cannot be loaded;"):
        domain_context(7)


def test_the_youngest_version_is_tried_first(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [f"/usr/lib/x/libxenctrl.so.4.{minor}" for minor in (9, 17, 20)]
    monkeypatch.setattr(
        "hvmctx.live.libxenctrl.glob.glob", lambda place: found if "*/lib" in place else []
    )
    assert _candidates()[:2] == ["libxenctrl.so", found[2]]
