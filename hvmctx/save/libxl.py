"""The libxl v2 stream around a libxc stream, written the way libxl writes it: a state
machine without I/O (`LibxlSave`), and drivers for files (`write`) and asyncio
(`write_async`).

Two tasks work on it: the stream (headers and libxl's own records) and the helper, which
writes the libxc stream in between to the same place.

    idle -> stream start -> helper -> records -> stopping -> complete
                 any of them, on the first error -> stopping

Its promises, those of tools/libs/light/libxl_stream_write.c (4.6 and later): one record at
a time; the first error wins; abort needs a reason, and does nothing if nothing runs;
completion is reported once, when both tasks have stopped; a device model's file is opened,
checked (a regular file, a size that stays) and read before its record begins; only known
device models; no END after a failure.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from hvmctx.abi import streams
from hvmctx.errors import HvmctxError, UsageError
from hvmctx.files.access import Access
from hvmctx.save.engine import SaveError
from hvmctx.stream.grammar import AFTER_LIBXC
from hvmctx.stream.libxl import EmulatorContext, EmulatorXenstoreData
from hvmctx.stream.reader import XL
from hvmctx.stream.writer import StreamWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from hvmctx.buffers import Buffer
    from hvmctx.files.sink import Sink

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


class DeviceModelFile:
    """What a device model saved, in a file. `emulator_id` 1 or 2; `index` is always 0."""

    def __init__(self, path: str, emulator_id: int = 2) -> None:
        self.path = path
        self.emulator_id = emulator_id
        self.access: Access | None = None
        """Who may read it, once it has been read."""

    def read(self) -> bytes:
        """All of it. Raises SaveError for anything but a regular file, and for one whose size
        changes while it is read."""
        try:
            with open(self.path, "rb") as file:
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

    def __init__(self, data: bytes | memoryview, emulator_id: int = 2) -> None:
        self.data = bytes(data)
        self.emulator_id = emulator_id

    def read(self) -> bytes:
        return self.data


class LibxlSave:
    """The machine. `on_complete` is called once with None or the first error.

    The stream's task writes what `start` and then `next` give, and says `written` after
    each; it ends with `stream_stopped`. `helper_stopped` is called at the end of the helper.
    Raises UsageError for a call that is out of turn.
    """

    def __init__(
        self,
        *,
        hvm: bool = True,
        xenstore: Iterable[tuple[bytes, bytes]] = (),
        emulator: DeviceModelFile | DeviceModelData | None = None,
        layer: str = "libxl",
        optional_data: bytes = b"",
        on_complete: Callable[[BaseException | None], None] | None = None,
    ) -> None:
        self.state = IDLE
        self.writer = StreamWriter(layer)
        self.error: BaseException | None = None
        self.stage = ""
        self._hvm = hvm
        self._pairs = list(xenstore)
        self._emulator = emulator
        self._optional_data = optional_data
        self._on_complete = on_complete
        self._units: Iterator[list[Buffer]] | None = None
        self._in_flight = False
        self._stream_runs = False
        self._helper_runs = False

    @property
    def running(self) -> bool:
        return self.state in _RUNNING

    def start(self) -> bytes:
        """The headers and LIBXC_CONTEXT. An unknown device model is an error before a byte
        is written (SaveError); nothing has started then."""
        if self.state != IDLE:
            raise UsageError(f"the stream cannot start: it is {self.state}")
        if self._emulator is not None and self._emulator.emulator_id not in KNOWN_EMULATORS:
            raise SaveError(f"unknown device model id {self._emulator.emulator_id}")
        self.state = self.stage = START
        self._stream_runs = self._in_flight = True
        wrapped = self.writer.state.layer == XL
        head = self.writer.xl_header(self._optional_data) if wrapped else b""
        return head + self.writer.libxl_header() + self.writer.record(streams.LIBXL_LIBXC_CONTEXT)

    def helper_started(self) -> None:
        """The libxc part is being written from now on."""
        self._idle_in(START, "the helper cannot start")
        self.state = self.stage = HELPER
        self._helper_runs = True

    def helper_stopped(self, error: BaseException | None = None) -> None:
        """It is written, or failed."""
        if not self._helper_runs:
            raise UsageError("the helper is not running")
        self._helper_runs = False
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
        self._in_flight = unit is not None
        return unit

    def written(self) -> None:
        """What `start` or `next` gave has been written."""
        if not self._in_flight:
            raise UsageError("nothing is being written")
        self._in_flight = False

    def failed(self, error: BaseException) -> None:
        """Writing failed. Of several errors the first counts."""
        if not self.running:
            return
        self.error = error
        self._release()
        self.state = STOPPING

    def abort(self, error: BaseException) -> None:
        """Stop, for a reason. Nothing happens when nothing runs."""
        if not isinstance(error, BaseException):
            raise UsageError("an abort needs a reason")
        self.failed(error)

    def stream_stopped(self) -> None:
        """The stream's task writes no more."""
        if not self._stream_runs:
            raise UsageError("the stream is not running")
        self._stream_runs = self._in_flight = False
        if self.running:
            if self.writer.done:
                self._release()
                self.state = STOPPING
            else:
                self.failed(SaveError(f"the stream stopped early ({self.stage})"))
        self._complete()

    def _idle_in(self, state: str, what: str) -> None:
        if self.state != state or self._in_flight:
            busy = "a record is being written" if self._in_flight else f"it is {self.state}"
            raise UsageError(f"{what}: {busy}")

    def _release(self) -> None:
        """Of the device model's file and buffer nothing stays."""
        self._units = self._emulator = None

    def _complete(self) -> None:
        if self.state != STOPPING or self._stream_runs or self._helper_runs:
            return
        self.state = COMPLETE
        if self._on_complete is not None:
            self._on_complete(self.error)

    def _records(self) -> Iterator[list[Buffer]]:
        writer = self.writer
        if self._hvm and self._pairs:
            self.stage = "EMULATOR_XENSTORE_DATA"
            number = self._emulator.emulator_id if self._emulator else KNOWN_EMULATORS[-1]
            body = EmulatorXenstoreData(number, 0, self._pairs).to_bytes()
            yield [writer.record(streams.LIBXL_EMULATOR_XENSTORE_DATA, body)]
        if self._hvm and self._emulator is not None:
            self.stage = "EMULATOR_CONTEXT"
            head = EmulatorContext(self._emulator.emulator_id, 0, b"").to_bytes()
            data = self._emulator.read()
            around = writer.record_around(streams.LIBXL_EMULATOR_CONTEXT, len(head) + len(data))
            yield [around[0] + head, data, around[1]]
        self.stage = "END"
        yield [writer.record(streams.LIBXL_END)]


def write(save: LibxlSave, sink: Sink, helper: Callable[[Sink, StreamWriter], object]) -> None:
    """The whole stream to a sink. `helper` writes the libxc stream, with the given writer.
    Raises the first error; the sink then has only part of a stream."""
    start = save.start()
    try:
        sink.write(start)
        save.written()
        save.helper_started()
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
    (ConnectionError), cancelling the task aborts the save. Raises the first error."""
    start = save.start()
    try:
        stream.write(start)
        await stream.drain()
        save.written()
        save.helper_started()
        try:
            await helper(stream, save.writer)
        except BaseException as error:
            save.helper_stopped(error)
            raise
        save.helper_stopped()
        while (unit := save.next()) is not None:
            for buffer in unit:
                stream.write(buffer)
            await stream.drain()
            save.written()
    except BaseException as error:
        save.abort(error)
    with suppress(UsageError):
        save.stream_stopped()
    if save.error is not None:
        raise save.error
