"""Finding Xen's libraries, and the table of their functions."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from hvmctx.live import libraries as module
from hvmctx.live.libraries import LIBRARY_VARIABLE, TABLE, Libraries, XenError, failure
from hvmctx.live.xen import Xen
from tests.builders.standin import StandIn


def test_the_library_that_is_named(stand_in: StandIn, libraries: Path) -> None:
    found = Libraries()
    assert found.version is None  # libxenctrl.so says nothing
    assert found.has("xc_logdirty_control") and found.has("xc_cpu_policy_init")
    assert found.xc_interface_open is found.xc_interface_open


def test_never_by_a_relative_path(
    libraries: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(libraries.parent)
    monkeypatch.setenv(LIBRARY_VARIABLE, "libxenctrl.so")
    with pytest.raises(XenError, match="not an absolute path") as caught:
        Libraries()
    assert caught.value.reason == "library"
    monkeypatch.delenv(LIBRARY_VARIABLE)
    monkeypatch.setenv("LD_LIBRARY_PATH", f".:{tmp_path}:")
    monkeypatch.setattr(module, "_PLACES", ())
    monkeypatch.setattr(module, "_LDCONFIG", ())
    assert list(module._candidates("xenctrl")) == []
    (tmp_path / "libxenctrl.so.4.17").touch()
    assert list(module._candidates("xenctrl")) == [str(tmp_path / "libxenctrl.so.4.17")]


def test_the_running_xen_is_tried_first_then_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for minor in (9, 14, 17, 20):
        (tmp_path / f"libxenctrl.so.4.{minor}").touch()
    monkeypatch.setattr(module, "_PLACES", (str(tmp_path),))
    monkeypatch.setattr(module, "_LDCONFIG", ())
    monkeypatch.setattr(module, "_RUNNING", str(tmp_path) + "/")
    minors = [path.rpartition(".")[2] for path in module._candidates("xenctrl")]
    assert minors == ["20", "17", "14", "9"]
    (tmp_path / "major").write_text("4\n")
    (tmp_path / "minor").write_text("14\n")
    assert next(module._candidates("xenctrl")).endswith("14")


def test_what_the_loader_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "ldconfig"
    program.write_text(
        "#!/bin/sh\nprintf '4 libs found in cache\\n"
        "\\tlibxenctrl.so.4.19 (libc6,x86-64) => /opt/xen/libxenctrl.so.4.19\\n"
        "\\tlibxenctrl.so.4.2 (libc6) => relative/libxenctrl.so.4.2\\n"
        "\\tlibxenguest.so.4.19 (libc6) => /opt/xen/libxenguest.so.4.19\\n\\377 => \\n'\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(module, "_PLACES", ())
    monkeypatch.setattr(module, "_LDCONFIG", ("/no/such/ldconfig", str(program)))
    assert list(module._candidates("xenctrl")) == ["/opt/xen/libxenctrl.so.4.19"]


def test_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LIBRARY_VARIABLE, raising=False)
    monkeypatch.setattr(module, "_candidates", lambda *_: iter(()))
    with pytest.raises(XenError, match="cannot be loaded;") as caught:
        Libraries()
    assert caught.value.reason == "library"


def test_a_function_that_is_not_there(stand_in: StandIn) -> None:
    found = Libraries()
    with pytest.raises(XenError, match="does not know that any library of Xen has a xc_no"):
        _ = found.xc_no_such_thing
    found.version = (4, 6)
    with pytest.raises(XenError, match="libxenctrl has no xc_map_foreign_bulk"):
        _ = found.xc_map_foreign_bulk
    with pytest.raises(AttributeError):
        _ = found._no_such_thing


def test_windows_of_one_function_follow_each_other() -> None:
    """For every release and function at most one row, and for those of all releases one."""
    for minor in range(5, 23):
        release = (4, minor)
        for name in {row.name for row in TABLE}:
            rows = [
                row
                for row in TABLE
                if row.name == name
                and module._number(row.since, (0, 0))
                <= release
                <= module._number(row.until, (9, 9))
            ]
            assert len(rows) <= 1, (release, name)
            if not any(row.since or row.until for row in TABLE if row.name == name):
                assert rows


@pytest.mark.parametrize(
    ("number", "reason", "words"),
    [
        (errno.ESRCH, "gone", "there is no such domain"),
        (errno.EPERM, "privilege", "needs root in dom0"),
        (errno.EACCES, "version", "not those of the Xen that runs"),
        (errno.ENOSYS, "version", "not those of the Xen that runs"),
        (errno.EINVAL, "failed", "EINVAL"),
        (0, "failed", "no reason given"),
    ],
)
def test_errors_by_their_numbers(number: int, reason: str, words: str) -> None:
    error = failure("domain 7: pause it", number)
    assert (error.reason, error.errno) == (reason, number)
    assert str(error).startswith("domain 7: pause it: ") and words in str(error)


@pytest.mark.parametrize(
    ("number", "reason", "words"),
    [
        (errno.EACCES, "privilege", "needs root in dom0"),
        (errno.ENOENT, "not-dom0", "not a dom0 of Xen"),
        (errno.ENODEV, "not-dom0", "not a dom0 of Xen"),
        (errno.EIO, "failed", "Input/output error"),
    ],
)
def test_the_hypervisor_cannot_be_opened(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, number: int, reason: str, words: str
) -> None:
    monkeypatch.setenv("STAND_IN_FAIL", f"xc_interface_open:{number}")
    with pytest.raises(XenError, match=words) as caught:
        Xen()
    assert caught.value.reason == reason


def test_the_others_are_looked_for_beside_it(stand_in: StandIn, libraries: Path) -> None:
    found = Libraries()
    assert found.xs_open is not None and found.xenforeignmemory_open is not None
    assert os.path.samefile(found._loaded["xenstore"]._name, libraries)  # type: ignore[union-attr]
