"""QEMU as libxl runs it for an HVM guest: what a save asks of it, over its QMP socket."""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress

from hvmctx.live.libraries import XenError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

__all__ = ["DeviceModel", "socket_of"]

_PLACES = ("/var/run/xen", "/run/xen", "/var/run/xen-4.5")
_LIVE_SINCE = (2, 11)
"""The QEMU whose xen-save-devices-state can be told that the save is not a snapshot."""
_LONGEST_LINE = 1 << 20


def socket_of(domid: int) -> str | None:
    """The path of the socket; None of a domain without a device model."""
    paths = [f"{place}/qmp-libxl-{domid}" for place in _PLACES]
    return next((path for path in paths if os.path.exists(path)), None)


class DeviceModel:
    """A connection. QEMU takes one at a time there: it is to be closed soon. Raises XenError,
    also if QEMU does not answer within `timeout` seconds."""

    def __init__(self, path: str, *, timeout: float = 60) -> None:
        self._what = f"device model at {path}"
        self._pending = b""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout)
        try:
            try:
                self._socket.connect(path)
            except OSError as error:
                raise XenError(f"{self._what}: {error.strerror or error}") from error
            greeting = self._next()
            self.version = _version_of(greeting)
            self.execute("qmp_capabilities")
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> DeviceModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def execute(
        self, command: str, arguments: dict[str, Json] | None = None, *, fds: tuple[int, ...] = ()
    ) -> Json:
        """Run a command. Returns what it returns; events on the way are passed over."""
        request: dict[str, Json] = {"execute": command}
        if arguments:
            request["arguments"] = arguments
        data = json.dumps(request).encode() + b"\n"
        try:
            if fds:
                sent = socket.send_fds(self._socket, [data], list(fds))
                data = data[sent:]
            self._socket.sendall(data)
        except OSError as error:
            raise XenError(f"{self._what}: {command}: {error.strerror or error}") from error
        while True:
            answer = self._next()
            if "error" in answer:
                error_ = answer["error"]
                said = error_.get("desc") if isinstance(error_, dict) else error_
                raise XenError(f"{self._what}: {command}: {said}")
            if "return" in answer:
                return answer["return"]

    @property
    def running(self) -> bool:
        """Whether its devices run."""
        status = self.execute("query-status")
        return isinstance(status, dict) and status.get("running") is True

    def log_dirty(self, on: bool) -> None:
        """Have it tell the hypervisor what it writes into the guest's memory itself."""
        self.execute("xen-set-global-dirty-log", {"enable": on})

    def save(self, path: str, *, live: bool) -> None:
        """Write the state of its stopped devices to a new file, which is opened here, as QEMU
        may have no right to."""
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            added = self.execute("add-fd", fds=(fd,))
        finally:
            os.close(fd)
        number = added.get("fdset-id") if isinstance(added, dict) else None
        if not isinstance(number, int):
            raise XenError(f"{self._what}: add-fd: no number came back")
        where: dict[str, Json] = {"filename": f"/dev/fdset/{number}"}
        if self.version >= _LIVE_SINCE:
            where["live"] = live
        try:
            self.execute("xen-save-devices-state", where)
        finally:
            with suppress(XenError):
                self.execute("remove-fd", {"fdset-id": number})

    def _next(self) -> dict[str, Json]:
        while b"\n" not in self._pending:
            if len(self._pending) > _LONGEST_LINE:
                raise XenError(f"{self._what}: an answer of more than {_LONGEST_LINE} bytes")
            try:
                more = self._socket.recv(1 << 16)
            except TimeoutError:
                raise XenError(f"{self._what}: does not answer") from None
            except OSError as error:
                raise XenError(f"{self._what}: {error.strerror or error}") from error
            if not more:
                raise XenError(f"{self._what}: has gone")
            self._pending += more
        line, _, self._pending = self._pending.partition(b"\n")
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise XenError(f"{self._what}: an answer that is not JSON")
        return answer


def _version_of(greeting: Json) -> tuple[int, int]:
    """QEMU's version; (0, 0) where it does not say."""
    at = greeting
    for name in ("QMP", "version", "qemu"):
        at = at.get(name) if isinstance(at, dict) else None
    numbers = [at.get(name) if isinstance(at, dict) else None for name in ("major", "minor")]
    return tuple(number if isinstance(number, int) else 0 for number in numbers)  # type: ignore[return-value]
