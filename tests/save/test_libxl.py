"""The libxl writer: its promises one by one, and real sockets."""

from __future__ import annotations

import asyncio
import io
import os
import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hvmctx.abi import streams
from hvmctx.errors import UsageError
from hvmctx.files.sink import Sink
from hvmctx.image.image import open_image
from hvmctx.save.engine import Save, SaveError, save
from hvmctx.save.libxl import DeviceModelData, DeviceModelFile, LibxlSave, write, write_async
from hvmctx.save.simulated import Script, SimulatedGuest
from hvmctx.save.source import SaveTimeout
from hvmctx.stream.libxl import EmulatorXenstoreData
from hvmctx.stream.writer import StreamWriter
from hvmctx.stream.xlfile import config_to_bytes
from tests.builders.guests import Ends
from tests.builders.samples import context_bytes

GUEST = SimulatedGuest(3, Script({}), context=context_bytes())
PAIRS = [(b"physmap/0/start_addr", b"f0000000"), (b"physmap/0/name", b"")]


def helper(sink: Sink, writer: StreamWriter) -> object:
    return save(GUEST, sink, writer=writer)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "qemu"
    path.write_bytes(b"QEVM\0\0\0\3rest")
    return path


class Told:
    """How often completion was told, and with what."""

    def __init__(self) -> None:
        self.calls: list[BaseException | None] = []

    def __call__(self, error: BaseException | None) -> None:
        self.calls.append(error)


def written(libxl: LibxlSave, helper: Callable[..., Any] = helper) -> bytes:
    out = io.BytesIO()
    write(libxl, Sink(out), helper)
    return out.getvalue()


def test_a_whole_stream(model: Path) -> None:
    told = Told()
    made = LibxlSave(xenstore=PAIRS, emulator=DeviceModelFile(str(model)), on_complete=told)
    data = written(made)
    with open_image(data) as image:
        assert image.complete and not image.problems and not image.notes
        assert [r.name for r in image.records if r.layer == "libxl"] == [
            "LIBXC_CONTEXT", "EMULATOR_XENSTORE_DATA", "EMULATOR_CONTEXT", "END",
        ]  # fmt: skip
        (emulator,) = image.emulators
        assert (emulator.emulator_id, emulator.index) == (2, 0)
        assert bytes(emulator.payload) == b"QEVM\0\0\0\3rest"
        (keys,) = image.bodies(EmulatorXenstoreData)
        assert keys.pairs == PAIRS
    assert told.calls == [None] and made.state == "complete"


def test_what_is_not_for_every_guest(model: Path) -> None:
    made = LibxlSave(hvm=False, xenstore=PAIRS, emulator=DeviceModelFile(str(model)))
    with open_image(written(made)) as image:
        assert [r.name for r in image.records if r.layer == "libxl"] == ["LIBXC_CONTEXT", "END"]
    made = LibxlSave(
        without_emulator=True, layer="xl", optional_data=config_to_bytes(b"{}"), xenstore=PAIRS
    )
    with open_image(written(made)) as image:
        assert image.format == "xl" and image.config == {}
        assert [r.name for r in image.records if r.layer == "libxl"] == [
            "LIBXC_CONTEXT", "EMULATOR_XENSTORE_DATA", "END",
        ]  # fmt: skip


def test_an_hvm_guest_has_a_device_model() -> None:
    out = io.BytesIO()
    made = LibxlSave()
    with pytest.raises(SaveError, match="needs its device model's state; without_emulator=True"):
        write(made, Sink(out), helper)
    assert out.getvalue() == b"" and made.state == "idle"


@pytest.mark.parametrize("number", [0, 3, 99])
def test_an_unknown_device_model_is_an_error_before_a_byte(model: Path, number: int) -> None:
    out = io.BytesIO()
    made = LibxlSave(emulator=DeviceModelFile(str(model), number))
    with pytest.raises(SaveError, match=f"unknown device model id {number}"):
        write(made, Sink(out), helper)
    assert out.getvalue() == b"" and made.state == "idle"
    # nobody looks at that of a guest that is not HVM
    assert written(LibxlSave(hvm=False, emulator=DeviceModelFile(str(model), number)))


def no_end(data: bytes) -> None:
    """What was written does not pass for a whole stream, and ends on a record's border."""
    with open_image(data) as image:
        assert not image.complete
        assert image.problems[-1].found == "0 bytes"
        assert "EMULATOR_CONTEXT" not in [record.name for record in image.records]


def failing(libxl: LibxlSave, told: Told, helper: Callable[..., Any] = helper) -> bytes:
    out = io.BytesIO()
    with pytest.raises((SaveError, OSError)) as caught:
        write(libxl, Sink(out), helper)
    assert told.calls == [caught.value], "told once, with the error"
    assert libxl.next() is None
    return out.getvalue()


def test_a_device_model_file_that_is_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")  # it is not waited for
    for path, reason in (
        (tmp_path / "fifo", "not a regular file"),
        (tmp_path / "none", "No such file"),
        (tmp_path, "s a directory"),
        (Path("/dev/null"), "not a regular file"),
    ):
        told = Told()
        made = LibxlSave(emulator=DeviceModelFile(str(path)), on_complete=told)
        no_end(failing(made, told))
        assert reason in str(told.calls[0]) and made.stage == "EMULATOR_CONTEXT"


def test_a_device_model_file_that_shrinks(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = os.fstat

    def larger(fd: int) -> os.stat_result:
        status = list(genuine(fd))
        status[6] += 100
        return os.stat_result(status)

    told = Told()
    made = LibxlSave(emulator=DeviceModelFile(str(model)), on_complete=told)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", larger)
        out = failing(made, told)
    no_end(out)
    assert "changed while it was read: 112 bytes, then 12" in str(told.calls[0])


def test_a_helper_that_fails() -> None:
    told = Told()
    made = LibxlSave(hvm=False, on_complete=told)

    def broken(sink: Sink, writer: StreamWriter) -> None:
        sink.write(writer.image_header())
        raise SaveError("no more")

    data = failing(made, told, broken)
    assert data.endswith(StreamWriter("libxc").image_header()) and made.stage == "helper"
    told = Told()
    failing(LibxlSave(hvm=False, on_complete=told), told, lambda sink, writer: None)
    assert "without an END record" in str(told.calls[0])


class Full(io.BytesIO):
    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def write(self, data: Any) -> int:
        self.room -= len(data)
        if self.room < 0:
            raise OSError(28, "No space left on device")
        return super().write(data)


@pytest.mark.parametrize("room", [0, 30, 5000, 16450])
def test_an_output_that_fails(model: Path, room: int) -> None:
    told = Told()
    made = LibxlSave(emulator=DeviceModelFile(str(model)), on_complete=told)
    out = Full(room)
    with pytest.raises(OSError, match="No space left"):
        write(made, Sink(out), helper)
    assert len(told.calls) == 1
    with pytest.raises(OSError, match="No space left"):
        raise told.calls[0] or AssertionError


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (TimeoutError(), SaveTimeout, "cannot be had: no answer in time"),
        (OSError(5, "xenstore is gone"), SaveError, "cannot be had: .*xenstore is gone"),
        (KeyError("physmap"), SaveError, "cannot be had: 'physmap'"),
        (SaveError("as it is"), SaveError, "^as it is$"),
    ],
)
def test_the_toolstacks_data_can_fail(
    model: Path, error: Exception, kind: type[SaveError], said: str
) -> None:
    def pairs() -> list[tuple[bytes, bytes]]:
        raise error

    told = Told()
    made = LibxlSave(xenstore=pairs, emulator=DeviceModelFile(str(model)), on_complete=told)
    no_end(failing(made, told))
    assert type(told.calls[0]) is kind and re.search(said, str(told.calls[0]))
    assert made.stage == "EMULATOR_XENSTORE_DATA"
    made = LibxlSave(xenstore=lambda: PAIRS, emulator=DeviceModelFile(str(model)))
    with open_image(written(made)) as image:
        (keys,) = image.bodies(EmulatorXenstoreData)
        assert keys.pairs == PAIRS


def test_a_device_model_is_suspended_when_the_guest_has_stopped(model: Path) -> None:
    asked = []
    guest = SimulatedGuest(3, Script({}), context=context_bytes())

    def suspend() -> None:
        asked.append((guest.paused_at is not None, out.getvalue().count(b"QEVM")))

    out = io.BytesIO()
    made = LibxlSave(emulator=DeviceModelFile(str(model), suspend=suspend))

    def helper(sink: Sink, writer: StreamWriter) -> None:
        save(guest, sink, writer=writer, suspended=made.suspend_device_model)

    write(made, Sink(out), helper)
    assert asked == [(True, 0)], "once"
    # a helper that does not say when: before the record at the latest
    made = LibxlSave(emulator=DeviceModelFile(str(model), suspend=lambda: asked.append((True, 1))))
    assert written(made) == out.getvalue()
    assert asked == [(True, 0), (True, 1)]
    # and nobody's of a guest that has none
    made = LibxlSave(hvm=False, emulator=DeviceModelFile(str(model), suspend=suspend))
    made.suspend_device_model()
    assert len(asked) == 2


@pytest.mark.parametrize("told_when", [True, False])
def test_a_device_model_that_cannot_be_suspended(model: Path, told_when: bool) -> None:
    for error, kind in ((TimeoutError(), SaveTimeout), (OSError(5, "no QMP"), SaveError)):

        def suspend(error: Exception = error) -> None:
            raise error

        told = Told()
        emulator = DeviceModelFile(str(model), suspend=suspend)
        made = LibxlSave(emulator=emulator, on_complete=told)

        def helper(sink: Sink, writer: StreamWriter, made: LibxlSave = made) -> None:
            suspended = made.suspend_device_model if told_when else None
            save(GUEST, sink, writer=writer, suspended=suspended)

        no_end(failing(made, told, helper))
        assert type(told.calls[0]) is kind and made.stage == "device model"
        assert str(told.calls[0]).startswith("the device model cannot be suspended: ")


def test_an_abort_from_a_hook(model: Path) -> None:
    told = Told()
    reason = SaveError("enough")

    def pairs() -> list[tuple[bytes, bytes]]:
        made.abort(reason)
        return PAIRS

    made = LibxlSave(xenstore=pairs, emulator=DeviceModelFile(str(model)), on_complete=told)
    no_end(failing(made, told))
    assert told.calls == [reason]


class Watched(Ends):
    """Calls `at` when a page is asked for the `when`th time."""

    def __init__(self, at: Callable[[], object], when: int = 3, pages: int = 1 << 20) -> None:
        super().__init__(pages)
        self.at, self.when = at, when

    def pages(self, pfns: memoryview, types: bytes) -> Any:
        pages = super().pages(pfns, types)
        if self.batches == self.when:
            self.at()
        return pages


class Counting(io.BytesIO):
    """Counts what is written."""

    size = 0

    def write(self, data: Any) -> int:
        self.size += len(data)
        return len(data)


def test_abort_stops_the_helper(caplog: pytest.LogCaptureFixture) -> None:
    """No page is written after it, `stop` is called once, and the guest is cleaned up."""
    caplog.set_level("INFO", "hvmctx.save.libxl")
    reason, stops = SaveError("enough"), []
    told, out = Told(), Counting()
    sizes = []

    def abort() -> None:
        sizes.append(out.size)
        made.abort(reason)
        made.abort(SaveError("again"))

    guest = Watched(abort)
    made = LibxlSave(hvm=False, on_complete=told)
    with pytest.raises(SaveError, match="enough"):
        write(
            made,
            Sink(out),
            lambda sink, writer: save(guest, sink, writer=writer, live=True),
            stop=lambda: stops.append(made.state),
        )
    assert sizes == [out.size], "nothing was written after it"
    assert stops == ["stopping"] and told.calls == [reason]
    assert guest.batches == 3 and guest.ended == ["logging off", "clean"]
    assert [record.getMessage() for record in caplog.records] == [
        "stream: started", "helper: started", "failed, helper: enough", "stream: to be stopped",
        "helper: to be stopped", "helper: joined", "stream: joined", "complete, with an error",
    ]  # fmt: skip


def test_abort_from_another_thread() -> None:
    """The helper is in a write to a pipe that nobody reads."""
    reading, writing = os.pipe()
    reason = SaveError("enough")
    told = Told()
    made = LibxlSave(hvm=False, on_complete=told)
    guest = Watched(lambda: None)
    with os.fdopen(writing, "wb") as file:

        def abort() -> None:
            while guest.batches < 1:
                os.read(reading, 100)
            made.abort(reason)
            os.close(reading)  # what `stop` would do for a socket

        thread = threading.Thread(target=abort)
        thread.start()
        with pytest.raises(SaveError, match="enough"):
            write(made, Sink(file), lambda sink, writer: save(guest, sink, writer=writer))
        thread.join()
    assert told.calls == [reason] and guest.ended == ["clean"]


def test_what_stops_can_fail(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "hvmctx.save.libxl")
    told = Told()
    made = LibxlSave(hvm=False, on_complete=told)
    made.start()
    made.written()

    def stop() -> None:
        raise OSError(3, "No such process")

    made.helper_started(stop)
    first = SaveError("first")
    made.failed(first)
    assert "helper: cannot be stopped: [Errno 3] No such process" in caplog.text
    made.helper_stopped()
    made.stream_stopped()
    assert told.calls == [first]


def started() -> tuple[LibxlSave, Told]:
    told = Told()
    made = LibxlSave(hvm=False, on_complete=told)
    made.start()
    made.written()
    return made, told


def test_one_record_at_a_time() -> None:
    made = LibxlSave(hvm=False)
    made.start()
    with pytest.raises(UsageError, match="one at a time"):
        made.next()
    with pytest.raises(UsageError, match="being written"):
        made.helper_started()
    made.written()
    with pytest.raises(UsageError, match="nothing is being written"):
        made.written()
    with pytest.raises(UsageError, match="cannot start"):
        made.start()
    with pytest.raises(UsageError, match="is not running"):
        made.helper_stopped()


def test_the_first_error_wins_and_both_tasks_must_stop() -> None:
    made, told = started()
    made.helper_started()
    first, second = SaveError("first"), SaveError("second")
    made.abort(first)
    made.failed(second)
    assert made.state == "stopping" and told.calls == []
    made.stream_stopped()
    assert told.calls == [], "the helper still runs"
    made.helper_stopped(second)
    assert told.calls == [first] and made.state == "complete"
    made.abort(second)
    assert told.calls == [first]


def test_abort() -> None:
    made = LibxlSave(hvm=False)
    made.abort(SaveError("nothing runs"))
    assert made.state == "idle" and made.error is None
    made.start()
    with pytest.raises(UsageError, match="needs a reason"):
        made.abort(0)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="is not running"):
        LibxlSave().stream_stopped()


def test_a_stream_that_stops_early() -> None:
    made, told = started()
    made.stream_stopped()
    assert "stopped early (stream start)" in str(told.calls[0])


def big(pages: int) -> Callable[..., Any]:
    """A libxc stream of that many pages, a batch at a time."""

    async def run(stream: asyncio.StreamWriter, writer: StreamWriter) -> None:
        stream.write(writer.image_header() + writer.domain_header(2, (4, 17)) + writer.record(16))
        for pfn in range(pages):
            body = b"\1" + bytes(7) + pfn.to_bytes(8, "little") + bytes(4096)
            stream.write(writer.record(streams.LIBXC_PAGE_DATA, body))
            await stream.drain()
        stream.write(writer.record(9, context_bytes()) + writer.record(0))

    return run


async def connected() -> tuple[socket.socket, asyncio.StreamWriter]:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    _, stream = await asyncio.open_connection(sock=ours)
    return theirs, stream


async def slowly(sock: socket.socket) -> bytes:
    loop, pieces = asyncio.get_running_loop(), []
    while data := await loop.sock_recv(sock, 30000):
        pieces.append(data)
        await asyncio.sleep(0)
    return b"".join(pieces)


def test_asyncio_with_a_slow_reader(model: Path) -> None:
    async def run() -> None:
        theirs, stream = await connected()
        reading = asyncio.create_task(slowly(theirs))
        told = Told()
        made = LibxlSave(emulator=DeviceModelFile(str(model)), on_complete=told)
        await write_async(made, stream, big(200))
        stream.close()
        with open_image(await reading) as image:
            assert image.complete and image.memory_map.counts() == {0: 200}
            assert bytes(image.emulators[0].payload).startswith(b"QEVM")
        theirs.close()
        assert told.calls == [None]

    asyncio.run(run())


def test_asyncio_with_a_reader_that_goes() -> None:
    async def run() -> None:
        theirs, stream = await connected()
        theirs.close()
        told = Told()
        with pytest.raises(OSError):
            await write_async(LibxlSave(hvm=False, on_complete=told), stream, big(2000))
        assert len(told.calls) == 1 and isinstance(told.calls[0], OSError)
        stream.transport.abort()

    asyncio.run(run())


def test_asyncio_cancelled() -> None:
    async def run() -> None:
        theirs, stream = await connected()
        told = Told()
        task = asyncio.create_task(
            write_async(LibxlSave(hvm=False, on_complete=told), stream, big(10**6))
        )
        await asyncio.sleep(0.05)  # nobody reads, so it waits
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(told.calls) == 1 and isinstance(told.calls[0], asyncio.CancelledError)
        stream.transport.abort()
        theirs.close()

    asyncio.run(run())


def send_live(guest: SimulatedGuest) -> Callable[..., Any]:
    async def run(stream: asyncio.StreamWriter, writer: StreamWriter) -> object:
        return await Save(guest, writer=writer, live=True).send(stream)

    return run


class Overheard:
    """An asyncio stream's writer whose bytes are counted."""

    def __init__(self, stream: asyncio.StreamWriter) -> None:
        self._stream = stream
        self.size = 0

    def write(self, data: bytes) -> None:
        self.size += len(data)
        self._stream.write(data)

    async def drain(self) -> None:
        await self._stream.drain()


@pytest.mark.parametrize("waiting", [False, True])
def test_asyncio_abort(waiting: bool) -> None:
    """In the helper, while it works or waits for a reader that does not read: it is cancelled
    once and joined, and no page is written after it."""

    async def run() -> None:
        theirs, stream = await connected()
        reading = None if waiting else asyncio.create_task(slowly(theirs))
        reason, told = SaveError("enough"), Told()
        over = Overheard(stream)
        sizes = []
        made = LibxlSave(hvm=False, on_complete=told)

        def abort() -> None:
            sizes.append(over.size)
            made.abort(reason)

        guest = Watched(abort, when=1 << 20 if waiting else 3)
        task = asyncio.create_task(write_async(made, over, send_live(guest)))  # type: ignore[arg-type]
        if waiting:
            while not guest.batches:
                await asyncio.sleep(0)
            for _ in range(10):
                await asyncio.sleep(0)
            assert not task.done()
            abort()
        with pytest.raises(SaveError, match="enough"):
            await task
        assert [over.size] == sizes and told.calls == [reason]
        assert guest.ended == ["logging off", "clean"]
        stream.transport.abort()
        if reading:
            await reading
        theirs.close()

    asyncio.run(run())


def test_asyncio_abort_of_the_stream() -> None:
    """The last records wait for the reader: abort ends that, too."""

    async def run() -> None:
        theirs, stream = await connected()
        told, reason = Told(), SaveError("enough")
        emulator = DeviceModelData(bytes(1 << 23))
        made = LibxlSave(emulator=emulator, on_complete=told)
        task = asyncio.create_task(write_async(made, stream, big(1)))
        while made.stage != "EMULATOR_CONTEXT":
            await asyncio.sleep(0)
        for _ in range(5):
            await asyncio.sleep(0)
        made.abort(reason)
        with pytest.raises(SaveError, match="enough"):
            await task
        assert told.calls == [reason]
        stream.transport.abort()
        theirs.close()

    asyncio.run(run())
