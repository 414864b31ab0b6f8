"""The socket of QEMU, over a made-up one."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from hvmctx.live import qmp
from hvmctx.live.libraries import XenError
from hvmctx.live.qmp import DeviceModel, socket_of
from tests.builders.standin import FakeQemu


@pytest.fixture
def qemu(tmp_path: Path) -> Iterator[FakeQemu]:
    made = FakeQemu(tmp_path / "socket")
    made.start()
    yield made
    made.close()


def test_what_a_save_asks(qemu: FakeQemu, tmp_path: Path) -> None:
    with DeviceModel(str(tmp_path / "socket")) as model:
        assert model.version == (7, 2) and model.running
        model.log_dirty(True)
        assert qemu.logging
        model.execute("stop")
        assert not model.running
        model.save(str(tmp_path / "state"), live=True)
    assert (tmp_path / "state").read_bytes() == qemu.state
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o600
    assert "remove-fd" in qemu.heard


def test_what_qemu_refuses(qemu: FakeQemu, tmp_path: Path) -> None:
    qemu.refuses = "xen-save-devices-state"
    with (
        DeviceModel(str(tmp_path / "socket")) as model,
        pytest.raises(XenError, match="xen-save-devices-state: not today"),
    ):
        model.save(str(tmp_path / "state"), live=False)
    assert qemu.heard[-1] == "remove-fd"


def test_qemu_does_not_answer(qemu: FakeQemu, tmp_path: Path) -> None:
    qemu.silent = "stop"
    with (
        DeviceModel(str(tmp_path / "socket"), timeout=0.05) as model,
        pytest.raises(XenError, match="does not answer"),
    ):
        model.execute("stop")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"", "has gone"),
        (b"not json\n", "an answer that is not JSON"),
        (b"[1]\n", "an answer that is not JSON"),
        (b"[" * 100000 + b"\n", "an answer that is not JSON"),
        (b"x" * (1 << 21), "more than"),
    ],
)
def test_something_else_answers(said: bytes, words: str, tmp_path: Path) -> None:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "socket"))
    server.listen(1)

    def answer() -> None:
        peer = server.accept()[0]
        with suppress(OSError):
            peer.sendall(said)
        peer.close()

    thread = threading.Thread(target=answer)
    thread.start()
    with pytest.raises(XenError, match=words):
        DeviceModel(str(tmp_path / "socket"), timeout=20)
    thread.join()
    server.close()


def test_a_greeting_without_a_version(tmp_path: Path) -> None:
    assert qmp._version_of({"QMP": {"version": "7"}}) == (0, 0)
    assert qmp._version_of({"QMP": {"version": {"qemu": {"major": 2}}}}) == (2, 0)


def test_where_the_socket_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qmp, "_PLACES", (str(tmp_path),))
    assert socket_of(7) is None
    (tmp_path / "qmp-libxl-7").touch()
    assert socket_of(7) == str(tmp_path / "qmp-libxl-7")
    with pytest.raises(XenError, match="refused"):
        DeviceModel(str(tmp_path / "qmp-libxl-7"))
