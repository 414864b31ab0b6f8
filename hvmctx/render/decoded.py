"""As text: records that another package's handler decodes, and what is inside of a device
model's file, in the style of xen-hvmctx, which knows neither."""

from __future__ import annotations

from hvmctx.abi import streams
from hvmctx.context.hvm_context import HvmContext
from hvmctx.errors import FormatError, MissingRecordError
from hvmctx.image import handlers
from hvmctx.render.text import TextDialect
from hvmctx.stream.libxl import EmulatorContext
from hvmctx.stream.qemu import DeviceModelState
from hvmctx.stream.reader import CONTEXT, LIBXL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvmctx.context.record import Record
    from hvmctx.image.image import Image

__all__ = ["emulator_lines", "record_lines"]


def record_lines(record: Record) -> str | None:
    """Of a record of the context; None where no handler knows it."""
    handler = handlers.handler_of(CONTEXT, record.typecode)
    return None if handler is None else _text(handler, bytes(record.body))


def emulator_lines(image: Image, dialect: TextDialect) -> Iterator[str]:
    """Of each device model's file that holds an HVM context, or that another package knows; with
    `show_all` of QEMU's, too: the sections whose fields are known."""
    for record in image.effective_records(LIBXL, streams.LIBXL_EMULATOR_CONTEXT):
        try:
            emulator = image.parse(record, EmulatorContext)
            content = handlers.content_of(emulator.emulator_id, emulator.payload, image.limits)
        except (FormatError, MissingRecordError):  # cut off, or gone by on a pipe
            continue
        head = f"EMULATOR_CONTEXT: {emulator.emulator}, index {emulator.index}\n"
        if isinstance(content, HvmContext):
            yield head
            for number, inner in enumerate(content.entries):
                yield dialect.entry(number, inner)
        elif isinstance(content, DeviceModelState):
            if dialect.show_all:
                yield from _devices(content, head)
        elif content is not None:
            yield head + _text(content, emulator.payload)


def _text(handler: handlers.Guarded, body: bytes | memoryview) -> str:
    try:
        return _indented(handler.text(body))
    except FormatError as error:
        return _indented(error.problem)


def _devices(state: DeviceModelState, head: str) -> Iterator[str]:
    from hvmctx.stream.qemu_devices import device_of

    for section in state.sections:
        device = device_of(section)
        if device is not None:
            fields = [f"{name} {_shown(value)}" for name, value in vars(device).items()]
            yield head + _indented(f"{section.name}: {', '.join(fields)}")


def _shown(value: object) -> str:
    if isinstance(value, bytes):
        return value.rstrip(b"\0").hex() or "zeros"
    return str(value)


def _indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())
