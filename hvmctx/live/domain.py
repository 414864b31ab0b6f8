"""A running domain to save: `DomainSource`, a `save.source.GuestSource` over `live.xen`, and
what goes around its stream (`device_model_file`, `xenstore`, `configuration`).

What is done to the guest is undone by `close`, whatever happens: writes are no longer logged,
and it runs again, unless it stood still before. `live.keeper` does that for a process that was
killed.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import tempfile
import time
from contextlib import closing, suppress

from hvmctx.abi import streams
from hvmctx.errors import UsageError
from hvmctx.live.libraries import XenError
from hvmctx.live.qmp import DeviceModel, socket_of
from hvmctx.live.xen import SAVED_PARAMS, SUSPENDED, Mapping, Store, Xen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from hvmctx.stream.libxc import TscInfo

__all__ = ["ASK", "PATIENCE", "PAUSE", "DomainSource", "NotSuspended", "undo"]

ASK, PAUSE = "suspend", "pause"
"""How to stop a guest: as xl does, so that its drivers can prepare; or as it stands."""
DEFERRED = streams.PAGE_DEFERRED
_WITH_DATA = streams.PAGE_TYPES_WITH_DATA
_DATA = bytes(sorted(_WITH_DATA))
_STEP = 0.02
PATIENCE = 10.0
"""Seconds that a guest may take from taking notice of the request to having suspended, if a save
is broken off meanwhile."""
_REQUEST = b"suspend"
_LARGEST_CONFIG = 1 << 24

LOGGING, QEMU_LOGGING, PAUSED, ASKED, SUSPENDING, DEVICES = (
    "logging", "qemu-logging", "paused", "asked", "suspending", "devices",
)  # fmt: skip
"""What is done to a guest, and has to be undone."""


class NotSuspended(XenError):
    """A guest that was asked to suspend and has not done so in time."""


class DomainSource:
    """Domain `domid`. `stop`: ASK or PAUSE. `timeout`: seconds that it has to suspend;
    `otherwise`: PAUSE to pause it then, or empty to give up (NotSuspended). `live` is told to
    QEMU. `done` is told each thing that is done to the guest, and that it is undone.

    A domain that is paused already, or has shut down, is saved as it stands and stays so.

    Raises XenError; UsageError for a PV guest, whose records these are not.
    """

    def __init__(
        self,
        xen: Xen,
        domid: int,
        *,
        stop: str = ASK,
        timeout: float = 60,
        otherwise: str = "",
        live: bool = False,
        done: Callable[[str, bool], object] = lambda step, on: None,
    ) -> None:
        self._xen = xen
        self.domid = domid
        self._stop = stop
        self._timeout = timeout
        self._otherwise = otherwise
        self._is_live = live
        self._tell = done
        self._steps: list[str] = []
        self._mapping: Mapping | None = None
        self._stopped = False
        self._place: str | None = None
        state = xen.state(domid)
        if not state.hvm:
            raise UsageError(f"domain {domid} is a PV guest; only HVM and PVH guests can be saved")
        if state.dying:
            raise XenError(f"domain {domid}: is being destroyed", reason="gone")
        self.was_stopped = state.stopped
        self.p2m_size = xen.p2m_size(domid)
        self.xen_version = xen.version
        self._qmp = socket_of(domid)
        self._store: Store | None = None
        self.type = self._type()

    # the guest of the engine

    def page_types(self, pfns: memoryview) -> bytes:
        """Asks the hypervisor, and maps those with contents. Those that cannot be mapped are
        deferred while the guest runs; once it has stopped they are an error."""
        self._unmap()
        types = self._xen.page_types(self.domid, pfns)
        if not types.translate(None, _DATA):
            wanted = pfns.tolist()
        else:
            wanted = [pfn for pfn, kind in zip(pfns, types) if kind in _WITH_DATA]
        if not wanted:
            return types
        self._mapping = mapping = self._xen.map_pages(self.domid, wanted)
        if any(mapping.errors):
            missing = {pfn: number for pfn, number in zip(wanted, mapping.errors) if number}
            if self._stopped:
                pfn, number = next(iter(missing.items()))
                text = f"domain {self.domid}: cannot map {len(missing)} pages, such as {pfn:#x}"
                raise XenError(f"{text}: {os.strerror(number)}", errno=number)
            kinds = (DEFERRED if pfn in missing else kind for pfn, kind in zip(pfns, types))
            types = bytes(kinds)
        return types

    def pages(self, pfns: memoryview, types: bytes) -> Iterable[bytes]:
        """Copies of what `page_types` has mapped."""
        mapping = self._mapping
        if mapping is not None:
            yield from mapping.copy()
            self._unmap()

    def all_pages(self) -> Iterable[tuple[int, int]]:
        """All below p2m_size, as the genuine save sends them."""
        return [(0, self.p2m_size)]

    def log_dirty(self, on: bool) -> None:
        """By the hypervisor, and by QEMU, which writes into the guest behind its back."""
        if on:
            self._did(LOGGING)
            self._xen.log_dirty(self.domid, True)
            if self._qmp is not None:
                self._did(QEMU_LOGGING)
                with DeviceModel(self._qmp) as model:
                    model.log_dirty(True)
            return
        self._undo(LOGGING)
        self._undo(QEMU_LOGGING)

    def fetch_dirty(self, bitmap: bytearray) -> int:
        return self._xen.fetch_dirty(self.domid, bitmap, self.p2m_size)

    def pause(self) -> bool:
        """Stop the guest, then its device model, whose state is then in `device_model_file`."""
        if not self.was_stopped:
            if self._stop == PAUSE:
                self._pause()
            else:
                self._suspend()
        self._stop_devices()
        self._stopped = True
        return True

    def shutdown_reason(self) -> int | None:
        """That of a guest that was asked to suspend; of one that stood still before it is of no
        interest."""
        return None if self.was_stopped else self._xen.state(self.domid).reason

    def resume(self) -> None:
        """Let it run again, if it did before."""
        self._stopped = False
        for step in (DEVICES, ASKED, SUSPENDING, PAUSED):
            self._undo(step)

    def cleanup(self) -> None:
        """Give back what is mapped. `close` undoes the rest, when what is around the stream is
        written too."""
        self._unmap()

    def policies(self) -> tuple[bytes, bytes]:
        return self._xen.domain_policy(self.domid)

    def tsc_info(self) -> TscInfo:
        return self._xen.tsc_info(self.domid)

    def hvm_context(self) -> bytes:
        return self._xen.context(self.domid)

    def hvm_params(self) -> list[tuple[int, int]]:
        """Those that the genuine writer saves and this release knows."""
        found = []
        for index in SAVED_PARAMS:
            try:
                found.append((index, self._xen.param(self.domid, index)))
            except XenError as error:
                if error.errno != errno.EINVAL:  # an older release does not know it
                    raise
        return found

    # what goes around its stream

    @property
    def device_model_file(self) -> str | None:
        """Where the device model's state lies once it has stopped; None of a guest without."""
        if self._qmp is None:
            return None
        self._place = self._place or tempfile.mkdtemp(prefix="hvmctx-")
        return os.path.join(self._place, "state")

    def xenstore(self) -> list[tuple[bytes, bytes]]:
        """The keys of its device model that libxl saves: where it has mapped memory."""
        found: list[tuple[bytes, bytes]] = []
        root = f"/local/domain/0/device-model/{self.domid}"
        store = self._opened()
        for name in store.names(f"{root}/physmap"):
            for key in ("start_addr", "size", "name"):
                path = f"physmap/{name}/{key}"
                value = store.read(f"{root}/{path}")
                if value is not None:
                    found.append((path.encode(), value))
        return found

    def configuration(self) -> bytes:
        """The JSON that xl would save for it. Raises XenError."""
        return configuration(self.domid)

    def close(self, *, leave_paused: bool = False) -> None:
        """Undo everything. With `leave_paused` the guest stays paused, and `xl unpause` lets it
        go on; otherwise it runs, unless it stood still before."""
        from signal import SIG_BLOCK, SIG_SETMASK, SIGHUP, SIGINT, SIGTERM, pthread_sigmask

        old = pthread_sigmask(SIG_BLOCK, (SIGINT, SIGTERM, SIGHUP))
        try:
            self._unmap()
            errors = self._close(leave_paused)
        finally:
            pthread_sigmask(SIG_SETMASK, old)
        if errors:
            raise errors[0]

    def _close(self, leave_paused: bool) -> list[XenError]:
        errors = []
        if leave_paused and not self.was_stopped and PAUSED not in self._steps:
            try:
                self._xen.pause(self.domid)  # before it is resumed
            except XenError as error:
                errors.append(error)
        for step in (LOGGING, QEMU_LOGGING, DEVICES, ASKED, SUSPENDING, PAUSED):
            try:
                if step == PAUSED and leave_paused:
                    self._forget(step)
                else:
                    self._undo(step, PATIENCE)
            except XenError as error:
                errors.append(error)
        if self._place is not None:
            shutil.rmtree(self._place, ignore_errors=True)
            self._place = None
        if self._store is not None:
            self._store.close()
            self._store = None
        return errors

    # how

    def _did(self, step: str) -> None:
        """Noted before it is done: what is interrupted in the middle is undone as well."""
        if step not in self._steps:
            self._steps.append(step)
        self._tell(step, True)

    def _undo(self, step: str, patience: float = 0) -> None:
        if step in self._steps:
            undo(self._xen, self.domid, step, patience)
            self._forget(step)

    def _forget(self, step: str) -> None:
        if step in self._steps:
            self._steps.remove(step)
            self._tell(step, False)

    def _unmap(self) -> None:
        mapping, self._mapping = self._mapping, None
        if mapping is not None:
            mapping.close()

    def _opened(self) -> Store:
        if self._store is None:
            self._store = Store(self._xen.libraries)
        return self._store

    def _type(self) -> str:
        """hvm or pvh, as libxl has it."""
        value = None
        with suppress(XenError):
            value = self._opened().read(f"/libxl/{self.domid}/type")
        return (value or b"hvm").decode("ascii", "replace")

    def _pause(self) -> None:
        self._did(PAUSED)
        self._xen.pause(self.domid)

    def _suspend(self) -> None:
        """As libxl does: an HVM guest without PV drivers is not asked."""
        drivers = self._xen.param(self.domid, streams.HVM_PARAM_CALLBACK_IRQ)
        asleep = self._xen.param(self.domid, streams.HVM_PARAM_ACPI_S_STATE)
        if self.type == "hvm" and (not drivers or asleep):
            self._did(SUSPENDING)
            self._xen.suspend(self.domid)
            self._wait(self._is_suspended, "has not stopped")
            return
        path = _control(self.domid)
        self._did(SUSPENDING)  # as it may do so at once
        self._did(ASKED)
        self._opened().write(path, _REQUEST)
        try:
            self._wait(lambda: self._opened().read(path) != _REQUEST, "has not taken notice")
            self._wait(self._is_suspended, "has not stopped")
        except NotSuspended:
            self._undo(ASKED)
            if self._is_suspended():  # at the last moment
                return
            self._undo(SUSPENDING)
            if self._otherwise != PAUSE:
                raise
            self._pause()

    def _is_suspended(self) -> bool:
        state = self._xen.state(self.domid)
        if state.reason not in (None, SUSPENDED):
            raise XenError(f"domain {self.domid}: has shut down while it was asked to suspend")
        return state.reason == SUSPENDED

    def _wait(self, happened: Callable[[], bool], otherwise: str) -> None:
        end = time.monotonic() + self._timeout
        while not happened():
            if time.monotonic() >= end:
                raise NotSuspended(
                    f"domain {self.domid}: was asked to suspend and {otherwise} after "
                    f"{self._timeout:g} s"
                )
            time.sleep(_STEP)

    def _stop_devices(self) -> None:
        file = self.device_model_file
        if self._qmp is None or file is None:
            return
        with suppress(FileNotFoundError):
            os.unlink(file)
        with DeviceModel(self._qmp) as model:
            if model.running:
                self._did(DEVICES)
                model.execute("stop")
            model.save(file, live=self._is_live)


def _control(domid: int) -> str:
    return f"/local/domain/{domid}/control/shutdown"


def undo(xen: Xen, domid: int, step: str, patience: float = 0) -> None:
    """Undo one step. Harmless if it was begun and not done. A guest that has taken notice of the
    request to suspend, which can no longer be withdrawn, has so many seconds to do so: who
    undoes SUSPENDING after ASKED then finds it suspended."""
    if step == LOGGING:
        try:
            xen.log_dirty(domid, False)
        except XenError as error:
            if error.errno != errno.EINVAL:
                raise
    elif step in (QEMU_LOGGING, DEVICES):
        path = socket_of(domid)
        if path is not None:
            with DeviceModel(path) as model:
                if step == DEVICES:
                    model.execute("cont")
                else:
                    model.log_dirty(False)
    elif step == ASKED:
        with closing(Store(xen.libraries)) as store:
            withdrawn = store.replace(_control(domid), _REQUEST, b"")
        end = time.monotonic() + patience
        while not withdrawn and xen.state(domid).reason is None and time.monotonic() < end:
            time.sleep(_STEP)
    elif step == SUSPENDING:
        if xen.state(domid).reason == SUSPENDED:
            xen.resume(domid)
            with closing(Store(xen.libraries)) as store:
                store.resumed(domid)
    elif step == PAUSED and xen.state(domid).paused:
        xen.unpause(domid)


def configuration(domid: int) -> bytes:
    """The JSON that xl saves of a domain, out of what `xl list -l` prints. Raises XenError."""
    listing = xl("list", "-l", str(domid), timeout=60)
    if len(listing) > _LARGEST_CONFIG:
        raise XenError(f"xl list -l {domid}: failed")
    return _config_of(listing)


def _config_of(listing: bytes) -> bytes:
    """The object `config`, taken out of the list as it stands, but for its indentation; and but
    for a domain id that stands for none, which xl prints and does not save."""
    lines = iter(listing.decode("utf-8", "surrogateescape").splitlines())
    kept: list[str] = []
    for line in lines:
        if line.strip() == '"config": {':
            indent = len(line) - len(line.lstrip())
            kept = list(_object(lines, indent))
            break
    if not kept or kept[-1] != "}":
        raise XenError("xl list -l: not the list that was expected")
    return "\n".join(["{", *kept, ""]).encode("utf-8", "surrogateescape")


def _object(lines: Iterator[str], indent: int) -> Iterator[str]:
    for line in lines:
        if line[indent:].rstrip(",") == "}":
            yield "}"
            return
        if line.strip() != '"domid": 4294967295,':
            yield line[indent:]


def xl(*words: str, timeout: float) -> bytes:
    """What xl prints when it is run with these words. Raises XenError, also after so many
    seconds."""
    program, what = _xl(), " ".join(["xl", *words])
    try:
        done = subprocess.run(
            [program, *words], capture_output=True, timeout=timeout, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        raise XenError(f"{what}: {error}") from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise XenError(f"{what}: {said[-1] if said else 'failed'}")
    return done.stdout


def _xl() -> str:
    """The path of xl. Raises XenError."""
    places = [p for p in os.environ.get("PATH", os.defpath).split(":") if os.path.isabs(p)]
    found = shutil.which("xl", path=":".join([*places, "/usr/sbin", "/sbin"]))
    if found is None:
        raise XenError("xl, Xen's toolstack, is not in the PATH", reason="library")
    return found
