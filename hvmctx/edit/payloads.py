"""Parts of an image by name, to be taken out or put in: the HVM context, the device model's
file, the body of one record.

    hvm-context              the whole context
    emulator                 the device model's file, without its record's ids
    record:CPU/1             a record of the context, by type and instance
    record:X86_TSC_INFO      a record of the streams, the first; /3 the fourth
    record:libxc:0x20/1      by number: a layer, libxc, libxl or context, and a type
"""

from __future__ import annotations

from hvmctx.abi import streams
from hvmctx.abi.fields import decimal
from hvmctx.abi.registry import by_name
from hvmctx.context.hvm_context import HvmContext
from hvmctx.edit.paths import context_edit, record_edit
from hvmctx.errors import MissingRecordError, UsageError
from hvmctx.stream.reader import CONTEXT, LIBXC, LIBXL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hvmctx.edit.splice import Edit
    from hvmctx.image.image import Image
    from hvmctx.image.index import IndexedRecord

HVM_CONTEXT, EMULATOR = "hvm-context", "emulator"
_EMULATOR_IDS = 8


def take(image: Image, what: str) -> bytes | memoryview:
    """The bytes that `what` names. Raises UsageError where nothing is called so,
    MissingRecordError where the image has no such thing, or it went by in a pipe, and
    FormatError where it is not all there."""
    if what == HVM_CONTEXT:
        return image.context.to_bytes()
    if what == EMULATOR:
        return image.body(_emulator(image))[_EMULATOR_IDS:]
    layer, number, instance = _parse(what)
    if layer == CONTEXT:
        return bytes(image.context.record(number, instance).body)
    return image.body(_record(image, layer, number, instance))


def put(image: Image, what: str, payload: bytes) -> Edit:
    """The edit that puts `payload` in the place of what `take` would give. Raises as that."""
    if what == HVM_CONTEXT:
        return context_edit(image, payload)
    if what == EMULATOR:
        record = _emulator(image)
        return record_edit(record, bytes(image.body(record)[:_EMULATOR_IDS]) + payload)
    layer, number, instance = _parse(what)
    if layer == CONTEXT:
        context = HvmContext.parse(image.context.to_bytes())
        context.record(number, instance).body = payload
        return context_edit(image, context.to_bytes())
    record = _record(image, layer, number, instance)
    image.start_of(record, record.length)  # which must all be there to be replaced
    return record_edit(record, payload)


def needs_page_data(what: str) -> bool:
    """Whether it is page data, which a pipe does not give twice."""
    return what.startswith("record:") and _parse(what)[:2] == (LIBXC, streams.LIBXC_PAGE_DATA)


def _emulator(image: Image) -> IndexedRecord:
    record = image.last(LIBXL, streams.LIBXL_EMULATOR_CONTEXT)
    if record is None:
        raise MissingRecordError("the image has no EMULATOR_CONTEXT record")
    image.parse(record)  # which must hold its emulator's id
    return record


def _record(image: Image, layer: str, number: int, place: int) -> IndexedRecord:
    found = image.records_of(layer, number)
    if place >= len(found):
        name = streams.record_name(layer, number)
        raise MissingRecordError(f"the image has {len(found)} {name} records, no number {place}")
    return found[place]


def _parse(what: str) -> tuple[str, int, int]:
    """(layer, type, instance) of a `record:`; for the streams the instance counts."""
    kind, _, text = what.partition(":")
    name, slash, instance_text = text.partition("/")
    if kind != "record" or not name:
        raise UsageError(f"{what}: expected hvm-context, emulator or record:TYPE/INSTANCE")
    instance = decimal(instance_text) if slash else 0
    if instance is None:
        raise UsageError(f"{what}: {instance_text!r} is not an instance")
    layer, colon, number_text = name.lower().partition(":")
    if colon:
        number = _number(number_text)
        if layer not in (LIBXC, LIBXL, CONTEXT) or number is None:
            raise UsageError(f"{what}: expected libxc, libxl or context, and a number")
        return layer, number, instance
    for layer, names in streams.RECORDS.items():
        for number, known in names.items():
            if known == name.upper() and known != "END":
                return layer, number, instance
    number = _number(name)
    return CONTEXT, by_name(name).typecode if number is None else number, instance


def _number(text: str) -> int | None:
    try:
        number = int(text, 0)
    except ValueError:
        return None
    return number if 0 <= number < 1 << 32 else None
