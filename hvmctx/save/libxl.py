"""The libxl v2 stream around a libxc stream, written the way libxl writes it: a state
machine without I/O (`LibxlSave`), and drivers for files (`write`) and asyncio
(`write_async`).

Two tasks work on it: the stream (headers and libxl's own records) and the helper, which
writes the libxc stream in between to the same place.

    idle -> stream start -> helper -> records -> stopping -> complete
                 any of them, on the first error -> stopping

Its promises, those of tools/libs/light/libxl_stream_write.c (4.6 and later): one record at
a time; the first error wins, and stops both tasks; abort needs a reason, and does nothing if
nothing runs; completion is reported once, when both tasks have stopped; a device model's file
is opened, checked (a regular file, a size that stays) and read before its record begins; an
HVM guest has a known device model, which is checked before a byte is written, and no other
guest is asked for one; no END after a failure.

What happens is logged (`logging`, "hvmctx.save.libxl", level INFO): each start, stop and join,
and the stage that failed.
"""

from __future__ import annotations

import os
import stat
import sys
from threading import RLock

from hvmctx.abi import streams
from hvmctx.errors import HvmctxError, UsageError
from hvmctx.files.access import Access
from hvmctx.files.opening import without_waiting
from hvmctx.files.sink import send
from hvmctx.save.source import SaveError, SaveTimeout, is_timeout
from hvmctx.stream.grammar import AFTER_LIBXC
from hvmctx.stream.libxl import EmulatorContext, EmulatorXenstoreData
from hvmctx.stream.reader import XL
from hvmctx.stream.writer import StreamWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Iterable, Iterator
    from typing import TypeAlias, TypeVar

    from hvmctx.buffers import Buffer
    from hvmctx.files.sink import Sink

    T = TypeVar("T")
    Pairs: TypeAlias = Iterable[tuple[bytes, bytes]]

__all__ = [
    "COMPLETE", "HELPER", "IDLE", "KNOWN_EMULATORS", "RECORDS", "START", "STOPPING",
    "DeviceModelData", "DeviceModelFile", "LibxlSave", "write", "write_async",
]  # fmt: skip

IDLE, START, HELPER, RECORDS, STOPPING, COMPLETE = (
    "idle", "stream start", "helper", "records", "stopping", "complete",
)  # fmt: skip
_RUNNING = (START, HELPER, RECORDS)
KNOWN_EMULATORS = (1, 2)
"""qemu-traditional and qemu-upstream; 0 is for converted streams only."""
_STREAM, _HELPER = "stream", "helper"


def _log(message: str, *values: object) -> None:
    """Nobody listens who has not imported `logging`, which takes its time."""
    if "logging" in sys.modules:
        import logging

        logging.getLogger(__name__).info(message, *values)


class DeviceModelFile:
    """What a device model saves, in a file. `emulator_id` 1 or 2; `index` is always 0.
    `suspend` makes it save: whatever it raises says that it cannot, TimeoutError that it did
    not answer in time."""

    def __init__(
        self, path: str, emulator_id: int = 2, *, suspend: Callable[[], object] | None = None
    ) -> None:
        self.path = path
        self.emulator_id = emulator_id
        self.suspend = suspend
        self.access: Access | None = None
        """Who may read it, once it has been read."""

    def read(self) -> bytes:
        """All of it. Raises SaveError for anything but a regular file, and for one whose size
        changes while it is read."""
        try:
            with open(self.path, "rb", opener=without_waiting) as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise SaveError(f"{self.path} is not a regular file")
                self.access = Access.of(file)
                data = file.read(status.st_size + 1)
        except OSError as error:
            raise SaveError(f"{self.path}: {error.strerror}") from error
        if len(data) != status.st_size:
            raise SaveError(
                f"{self.path}: changed while it was read: {status.st_size} bytes, then {len(data)}"
            )
        return data


class DeviceModelData:
    """The same, of bytes that are at hand."""

    suspend: Callable[[], object] | None = None

    def __init__(self, data: bytes | memoryview, emulator_id: int = 2) -> None:
        self.data = bytes(data)
        self.emulator_id = emulator_id

    def read(self) -> bytes:
        return self.data


class LibxlSave:
    """The machine. `on_complete` is called once with None or the first error.

    `xenstore`: the pairs of EMULATOR_XENSTORE_DATA, or a function that gives them when it is
    their turn, and may fail. `emulator`: the device model of an HVM guest; one that has none
    to be saved needs `without_emulator`, as a libxl stream of an HVM guest without
    EMULATOR_CONTEXT is not one that Xen writes.

    The stream's task writes what `start` and then `next` give, and says `written` after
    each; it ends with `stream_stopped`. `helper_stopped` is called at the end of the helper.
    On the first error, `abort` among them, each task that runs is stopped: what it gave as
    `stop` is called, once. `abort` may come from any thread. Raises UsageError for a call that
    is out of turn.
    """

    def __init__(
        self,
        *,
        hvm: bool = True,
        xenstore: Pairs | Callable[[], Pairs] = (),
        emulator: DeviceModelFile | DeviceModelData | None = None,
        without_emulator: bool = False,
        layer: str = "libxl",
        optional_data: bytes = b"",
        on_complete: Callable[[BaseException | None], None] | None = None,
    ) -> None:
        self.state = IDLE
        self.writer = StreamWriter(layer)
        self.error: BaseException | None = None
        self.stage = ""
        self._hvm = hvm
        self._xenstore = xenstore
        self._emulator = emulator
        self._without_emulator = without_emulator
        self._emulator_suspended = False
        self._optional_data = optional_data
        self._on_complete = on_complete
        self._units: Iterator[list[Buffer]] | None = None
        self._in_flight = False
        self._stream_runs = False
        self._helper_runs = False
        self._stops: dict[str, Callable[[], object]] = {}
        self._lock = RLock()

    @property
    def running(self) -> bool:
        return self.state in _RUNNING

    def start(self, stop: Callable[[], object] | None = None) -> bytes:
        """The headers and LIBXC_CONTEXT. A missing or an unknown device model of an HVM guest
        is an error before a byte is written (SaveError); nothing has started then."""
        if self.state != IDLE:
            raise UsageError(f"the stream cannot start: it is {self.state}")
        if self._hvm and self._emulator is None and not self._without_emulator:
            raise SaveError(
                "an HVM guest needs its device model's state; without_emulator=True leaves it out"
            )
        if self._hvm and self._emulator and self._emulator.emulator_id not in KNOWN_EMULATORS:
            raise SaveError(f"unknown device model id {self._emulator.emulator_id}")
        self.state = self.stage = START
        self._stream_runs = self._in_flight = True
        self._starts(_STREAM, stop)
        wrapped = self.writer.state.layer == XL
        head = self.writer.xl_header(self._optional_data) if wrapped else b""
        return head + self.writer.libxl_header() + self.writer.record(streams.LIBXL_LIBXC_CONTEXT)

    def helper_started(self, stop: Callable[[], object] | None = None) -> None:
        """The libxc part is being written from now on. `stop` makes the helper end, soon."""
        with self._lock:
            self._idle_in(START, "the helper cannot start")
            self.state = self.stage = HELPER
            self._helper_runs = True
            self._starts(_HELPER, stop)

    def suspend_device_model(self) -> None:
        """To be called when the guest has stopped, before its last pages are sent
        (`engine.Save(suspended=)`); at the latest the device model is suspended when it is its
        record's turn. Raises SaveError, SaveTimeout where it did not answer in time."""
        if self._hvm and self._emulator is not None and self._emulator.suspend is not None:
            self.stage = "device model"
            _asked("the device model cannot be suspended", self._emulator.suspend)
            self.stage = self.state
            self._emulator_suspended = True

    def helper_stopped(self, error: BaseException | None = None) -> None:
        """It is written, or failed."""
        with self._lock:
            if not self._helper_runs:
                raise UsageError("the helper is not running")
            self._helper_runs = False
            self._ends(_HELPER)
            if error is not None:
                self.failed(error)
            elif self.state == HELPER:
                if self.writer.state is not AFTER_LIBXC:
                    self.failed(SaveError("the helper stopped without an END record"))
                else:
                    self.state = self.stage = RECORDS
                    self._units = self._records()
        self._complete()

    def next(self) -> list[Buffer] | None:
        """The next record, as buffers to write in one go; None after the END, and after
        a failure. What fails in making it ends the save before a byte of it is written."""
        if self._in_flight:
            raise UsageError("a record is being written: one at a time")
        if self.state != RECORDS or self._units is None:
            return None
        try:
            unit = next(self._units, None)
        except (HvmctxError, OSError) as error:
            self.failed(error)
            return None
        if not self.running:  # aborted, by a hook perhaps
            return None
        self._in_flight = unit is not None
        return unit

    def written(self) -> None:
        """What `start` or `next` gave has been written."""
        if not self._in_flight:
            raise UsageError("nothing is being written")
        self._in_flight = False

    def failed(self, error: BaseException) -> None:
        """Writing failed. Of several errors the first counts."""
        with self._lock:
            if not self.running:
                return
            self.error = error
            _log("failed, %s: %s", self.stage, error or type(error).__name__)
            self._release()
            self.state = STOPPING
            stops, self._stops = self._stops, {}
        for task, stop in stops.items():
            _log("%s: to be stopped", task)
            try:
                stop()
            except Exception as second:
                _log("%s: cannot be stopped: %s", task, second)

    def abort(self, error: BaseException) -> None:
        """Stop, for a reason. Nothing happens when nothing runs."""
        if not isinstance(error, BaseException):
            raise UsageError("an abort needs a reason")
        self.failed(error)

    def stream_stopped(self) -> None:
        """The stream's task writes no more."""
        with self._lock:
            if not self._stream_runs:
                raise UsageError("the stream is not running")
            self._stream_runs = self._in_flight = False
            self._ends(_STREAM)
            if self.running:
                if self.writer.done:
                    self._release()
                    self.state = STOPPING
                else:
                    self.failed(SaveError(f"the stream stopped early ({self.stage})"))
        self._complete()

    def _starts(self, task: str, stop: Callable[[], object] | None) -> None:
        _log("%s: started", task)
        if stop is not None:
            self._stops[task] = stop

    def _ends(self, task: str) -> None:
        _log("%s: joined", task)
        self._stops.pop(task, None)

    def _idle_in(self, state: str, what: str) -> None:
        if self.state != state or self._in_flight:
            busy = "a record is being written" if self._in_flight else f"it is {self.state}"
            raise UsageError(f"{what}: {busy}")

    def _release(self) -> None:
        """Of the device model's file and buffer nothing stays."""
        self._units = self._emulator = None

    def _complete(self) -> None:
        with self._lock:
            if self.state != STOPPING or self._stream_runs or self._helper_runs:
                return
            self.state = COMPLETE
        _log("complete" if self.error is None else "complete, with an error")
        if self._on_complete is not None:
            self._on_complete(self.error)

    def _records(self) -> Iterator[list[Buffer]]:
        writer, emulator = self.writer, self._emulator
        if self._hvm:
            self.stage = "EMULATOR_XENSTORE_DATA"
            pairs = self._xenstore
            if callable(pairs):
                pairs = _asked("the toolstack's data cannot be had", pairs)
            if pairs := list(pairs):
                number = emulator.emulator_id if emulator else KNOWN_EMULATORS[-1]
                body = EmulatorXenstoreData(number, 0, pairs).to_bytes()
                yield [writer.record(streams.LIBXL_EMULATOR_XENSTORE_DATA, body)]
        if self._hvm and emulator is not None:
            if not self._emulator_suspended:
                self.suspend_device_model()
            self.stage = "EMULATOR_CONTEXT"
            head = EmulatorContext(emulator.emulator_id, 0, b"").to_bytes()
            data = emulator.read()
            around = writer.record_around(streams.LIBXL_EMULATOR_CONTEXT, len(head) + len(data))
            yield [around[0] + head, data, around[1]]
        self.stage = "END"
        yield [writer.record(streams.LIBXL_END)]


def _asked(what: str, hook: Callable[[], T]) -> T:
    """A hook's answer. Raises SaveTimeout for one that did not come in time, SaveError for any
    other failure."""
    try:
        return hook()
    except SaveError:
        raise
    except Exception as error:
        if is_timeout(error):
            raise SaveTimeout(f"{what}: no answer in time") from error
        raise SaveError(f"{what}: {error}") from error


def write(
    save: LibxlSave,
    sink: Sink,
    helper: Callable[[Sink, StreamWriter], object],
    *,
    stop: Callable[[], object] | None = None,
) -> None:
    """The whole stream to a sink. `helper` writes the libxc stream, with the given writer.

    After `save.abort`, from a signal handler, a hook or another thread, the sink takes no
    more: the helper's next write raises the reason. `stop` is called besides, for a helper that
    waits for something else; `write` returns when the helper has. Raises the first error; the
    sink then has only part of a stream, and is of no more use."""

    def stop_sink() -> None:
        sink.stop(save.error or SaveError("stopped"))

    start = save.start(stop_sink)
    try:
        sink.write(start)
        save.written()
        save.helper_started(stop)
        try:
            helper(sink, save.writer)
        except BaseException as error:
            save.helper_stopped(error)
            raise
        save.helper_stopped()
        while (unit := save.next()) is not None:
            sink.write(*unit)
            save.written()
    except BaseException as error:
        save.failed(error)
    save.stream_stopped()
    if save.error is not None:
        raise save.error


async def write_async(
    save: LibxlSave,
    stream: asyncio.StreamWriter,
    helper: Callable[[asyncio.StreamWriter, StreamWriter], Awaitable[object]],
) -> None:
    """The same to an asyncio stream: a slow reader slows it down, a closed one ends it
    (ConnectionError), cancelling the task aborts the save. `save.abort`, in the loop's thread,
    cancels whatever is waited for, in the helper or in the stream, once; it is over when that
    has ended. Raises the first error."""
    from asyncio import ensure_future

    def stop() -> None:
        task.cancel()

    start = save.start(stop)
    task = ensure_future(_all_of_it(save, stream, start, helper))
    try:
        await task
    except BaseException as error:
        save.abort(error)
    save.stream_stopped()
    if save.error is not None:
        raise save.error


async def _all_of_it(
    save: LibxlSave,
    stream: asyncio.StreamWriter,
    start: bytes,
    helper: Callable[[asyncio.StreamWriter, StreamWriter], Awaitable[object]],
) -> None:
    await send(stream, start)
    save.written()
    save.helper_started()
    try:
        await helper(stream, save.writer)
    except BaseException as error:
        save.helper_stopped(error)
        raise
    save.helper_stopped()
    while (unit := save.next()) is not None:
        await send(stream, *unit)
        save.written()
