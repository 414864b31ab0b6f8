"""Paths into an image: reading the value that one names, and replacing it.

    CPU/0.rip                           a field of a record of the HVM context
    LAPIC_REGS/1.data[0x20:+4]          four bytes of an array, as a number
    CPU_MSR/0.msr[1].val                an element of a variable part
    VMPORT.guestinfo["guestinfo.ip"]    a value of VMPORT's
    HVM_PARAMS.17, HVM_PARAMS.STORE_PFN a parameter

The instance may be left out where it is 0. Of records that repeat the last is meant, as
Xen loads it.
"""

from __future__ import annotations

from ctypes import sizeof

from hvmctx.abi import streams
from hvmctx.abi.declare import RecordType
from hvmctx.abi.fields import Layout, Slot, decimal
from hvmctx.abi.registry import by_name
from hvmctx.context.hvm_context import HvmContext
from hvmctx.errors import FieldError, MissingRecordError, UsageError
from hvmctx.stream.libxc import HvmParams
from hvmctx.stream.reader import CONTEXT, LIBXC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hvmctx.context.record import Record
    from hvmctx.edit.splice import Edit
    from hvmctx.image.image import Image
    from hvmctx.image.index import IndexedRecord

_PARAMS = "HVM_PARAMS"
_VMPORT = "VMPORT"


class Editor:
    """Values of an image, to be read and set; `edits` are then the bytes to replace.

    Raises UsageError for a path that names nothing, MissingRecordError for a record or
    parameter that the image does not have, FieldError for a value that does not fit.
    """

    def __init__(self, image: Image) -> None:
        self._image = image
        self._context: HvmContext | None = None
        self._params: dict[int, HvmParams] = {}

    @property
    def context(self) -> HvmContext:
        """The HVM context, with what has been set. Raises MissingRecordError."""
        if self._context is None:
            self._context = HvmContext.parse(self._image.context.to_bytes())
        return self._context

    def get(self, path: str) -> int | bytes:
        """The value that a path names."""
        head, field = _split(path)
        if head == _PARAMS:
            number, place = self._param(field)
            return self._params[number].params[place][1]
        record, known = self._record(head)
        if known.name == _VMPORT:
            from hvmctx.context.vmport import get_path

            value: int | bytes = get_path(bytes(record.body), field)
            return value
        slot, base = _locate(known, field)
        body = record.as_read(max(known.size, len(record.body)))
        _within(slot, base, body, path)
        found: int | bytes = slot.get(body[base:])
        return found

    def set(self, path: str, text: str) -> None:
        """Put the value that `text` says (see `value_of`) where a path says."""
        head, field = _split(path)
        if head == _PARAMS:
            number, place = self._param(field)
            index, _ = self._params[number].params[place]
            value = value_of(text, path)
            if not isinstance(value, int) or not 0 <= value < 1 << 64:
                raise FieldError(f"{path} is a 64-bit field: {text} does not fit")
            self._params[number].params[place] = (index, value)
            return
        record, known = self._record(head)
        if known.name == _VMPORT:
            from hvmctx.context.vmport import set_path

            entry = "[" in field and field.startswith("guestinfo")
            what = _bytes_of(text, path) if entry else value_of(text, path)
            record.body = set_path(bytes(record.body), field, what)
            return
        slot, base = _locate(known, field)
        body = bytearray(record.as_read(max(known.size, len(record.body))))
        _within(slot, base, body, path)
        part = body[base:]
        slot.put(part, _bytes_of(text, path) if slot.is_bytes else value_of(text, path))
        body[base:] = part
        record.body = record.rewritten(bytes(body[: known.size]), bytes(body[known.size :]))

    def edits(self) -> list[Edit]:
        """What to replace in the image, no more than what has changed."""
        edits = [
            record_edit(self._image.records[number], params.to_bytes())
            for number, params in self._params.items()
        ]
        if self._context is not None:
            edits.append(context_edit(self._image, self._context.to_bytes()))
        return edits

    def _record(self, head: str) -> tuple[Record, RecordType]:
        name, _, instance = head.partition("/")
        known = by_name(name)
        number = decimal(instance or "0")
        if number is None:
            raise UsageError(f"{head}: {instance!r} is not an instance")
        return self.context.record(known, number), known

    def _param(self, name: str) -> tuple[int, int]:
        """(number of the record, place in it) of a parameter: the last of its index."""
        index = streams.param_index(name)
        if index is None:
            raise UsageError(f"{_PARAMS}.{name}: no parameter is called so")
        counted = self._image.effective_records(LIBXC, streams.LIBXC_HVM_PARAMS)
        for record in reversed(counted):
            number = self._image.records.index(record)
            if number not in self._params:
                self._params[number] = self._image.parse(record)
            params = self._params[number].params
            for place in range(len(params) - 1, -1, -1):
                if params[place][0] == index:
                    return number, place
        raise MissingRecordError(f"the image sets no parameter {name}")


def _split(path: str) -> tuple[str, str]:
    head, dot, field = path.partition(".")
    if not dot or not field:
        raise UsageError(f"{path}: expected RECORD.FIELD, such as CPU/0.rip")
    return head.upper(), field


def _locate(known: RecordType, field: str) -> tuple[Slot, int]:
    """The slot, and where in the body it counts from: elements of a variable part lie
    behind the structure."""
    if known.rest is not None and field.startswith(f"{known.rest[0]}["):
        name, element = known.rest
        index, bracket, rest = field[len(name) + 1 :].partition("]")
        number = decimal(index)
        if not bracket or number is None:
            raise UsageError(f"{known.name}.{field}: expected {name}[n]")
        base = known.size + number * sizeof(element)
        if sizeof(element) == 1 and not rest:
            return Slot(field, 0, 1, "B"), base
        return Layout.of(element).locate(rest.removeprefix(".")), base
    return known.layout.locate(field), 0


def _within(slot: Slot, base: int, body: bytes | bytearray, path: str) -> None:
    if base + slot.offset + slot.size > len(body):
        raise UsageError(f"{path} lies beyond the record's {len(body)} bytes")


def value_of(text: str, path: str) -> int:
    """A number: decimal, 0x, or the name of a value where the field has some (`abi.names`).
    Raises FieldError."""
    try:
        return int(text, 0)
    except ValueError:
        pass
    from hvmctx.abi.names import names_of

    names = names_of(path)
    for number, name in names.items():
        if text.upper() == name.upper():
            return number
    known = f", nor one of {', '.join(names.values())}" if names else ""
    raise FieldError(f"{path}: {text[:40]!r} is not a number{known}")


def _bytes_of(text: str, path: str) -> bytes:
    """Bytes: hex digits, or text in quotes."""
    if text.startswith('"'):
        from hvmctx.context.vmport import from_text

        return from_text(text)
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise FieldError(f'{path}: {text!r} is neither hex digits nor text in "quotes"') from None


def context_edit(image: Image, context: bytes) -> Edit:
    """The edit that puts a context in the place of the image's own. Raises
    MissingRecordError when it has none, TruncatedError where it is not all there."""
    if image.format == CONTEXT:
        return 0, image.source.whole_size(), context
    record = image.last(LIBXC, streams.LIBXC_HVM_CONTEXT)
    if record is None:
        raise MissingRecordError("the image has no HVM_CONTEXT record")
    if record.end > image.end:
        image.raise_stopped()
    return record_edit(record, context)


def record_edit(record: IndexedRecord, body: bytes) -> Edit:
    """The edit that gives a record of the streams another body: that alone where the length
    stays, else header, body and zero padding."""
    if len(body) != record.length:
        header = streams.RECORD_HEADER.pack(record.type, len(body))
        return record.offset, record.end, header + body + bytes(-len(body) % streams.RECORD_ALIGN)
    return record.body_offset, record.body_end, body
