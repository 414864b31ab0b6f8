"""`Editor`: values and parts of an image, read, set, added, removed, and the image written
with them. What names a value is described in `edit.paths`, what names a part in
`edit.payloads`.
"""

from __future__ import annotations

import os

from hvmctx.abi import streams
from hvmctx.abi.fields import decimal, misfit
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.edit import payloads
from hvmctx.edit.framing import LENGTH, get_framing, is_framing, set_descriptor, set_length
from hvmctx.edit.paths import bytes_of, field_of, locate, record_of, value_of
from hvmctx.edit.splice import splice
from hvmctx.errors import FieldError, MissingRecordError, UsageError
from hvmctx.files.output import replacing
from hvmctx.image import handlers
from hvmctx.image.image import open_image
from hvmctx.stream.reader import CONTEXT, LIBXC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import BinaryIO

    from hvmctx.abi.declare import RecordType
    from hvmctx.edit.splice import Edit
    from hvmctx.files.access import Access
    from hvmctx.image.image import Image
    from hvmctx.image.index import IndexedRecord
    from hvmctx.stream.libxc import HvmParams
    from hvmctx.stream.libxl import EmulatorContext
    from hvmctx.stream.qemu import DeviceModelState
    from hvmctx.stream.reader import Header
    from hvmctx.stream.xapi import QemuRecord

    Value = int | bytes | str

__all__ = ["Editor", "edit"]

_PARAMS = "HVM_PARAMS"
_VMPORT = "VMPORT"
_EMULATOR = "EMULATOR_CONTEXT"
_DESCRIBED = ("XML", "XENOPS")
"""See `edit.described`."""
TAIL = "tail"
"""As if it were a record: what follows those of the context."""


def edit(image: Image) -> Editor:
    """An `Editor` of an opened image. The image itself stays as it is.

    >>> from hvmctx import edit, open_image
    >>> with open_image("examples/hvm1.save") as image:
    ...     editor = edit(image)
    ...     editor.set("CPU/0.rax", 0x1234)
    ...     editor.set("HVM_PARAMS.STORE_PFN", editor.get("HVM_PARAMS.CONSOLE_PFN"))
    ...     editor.write("mutant.save")
    """
    return Editor(image)


class Editor:
    """Values and parts of an image, to be read and changed.

    Paths are those of `edit.paths`, payloads those of `edit.payloads`. A value is an int (of
    a number), bytes (of an array of bytes, or of a guestinfo entry), or text that says either
    as on the command line. What is got is what was set before; the image does not change.

    Raises UsageError for a path that names nothing, MissingRecordError for a record or
    parameter that the image does not have, FieldError for a value that does not fit, and
    FormatError where what is to be read or replaced is not all there.

    >>> from hvmctx import edit, open_image
    >>> with open_image("examples/hvm1.save") as image:
    ...     hex(edit(image).get("CPU/0.rip"))
    '0xb7b9'
    """

    def __init__(self, image: Image) -> None:
        self._image = image
        self._context: HvmContext | bytes | None = None
        """Changed: taken apart, or as it was put. None while it is the image's own."""
        self._unchanged: HvmContext | None = None
        self._bodies: dict[IndexedRecord, bytes] = {}
        self._xml: bytes | None = None

    @property
    def context(self) -> HvmContext:
        """The HVM context, with what has been set; what is changed in it counts as set, up
        to the next `put` of a whole context. Raises MissingRecordError."""
        if self._context is None:
            self._context = self._read_context()
        elif not isinstance(self._context, HvmContext):
            self._context = HvmContext.from_bytes(
                self._context, damaged=True, limits=self._image.limits
            )
        return self._context

    @property
    def changes_context(self) -> bool:
        """Whether anything of the HVM context has been set, or looked at to be changed."""
        return self._context is not None

    def get(self, path: str) -> int | bytes | str:
        """The value that a path names."""
        head, field = field_of(path)
        if head == _EMULATOR:
            from hvmctx.edit.contents import get_content

            content, payload = self._content()
            if isinstance(content, HvmContext):
                return self._inside(payload).get(field)
            return get_content(content, payload, field)
        if head in _DESCRIBED:
            from hvmctx.edit.described import TEXTS, get_described

            return get_described(head, bytes(self.take(TEXTS[head])), field, self._image.limits)
        if ":" in head:
            from hvmctx.edit.contents import get_decoded

            layer, number, _ = payloads.named(f"record:{head}")
            return get_decoded(layer, number, bytes(self.take(f"record:{head}")), field)
        if head == _PARAMS:
            _, params, place = self._param(field)
            return params.params[place][1]
        known, instance = record_of(head)
        if is_framing(field):
            return get_framing(self._read_context(), known, instance, field)
        record = self._read_context().record(known, instance)
        value: int | bytes
        if known.name == _VMPORT:
            from hvmctx.context.vmport_paths import get_path

            value = get_path(bytes(record.body), field)
            return value
        slot, base = locate(known, field)
        body = record.as_read(max(known.size, len(record.body)))
        _within(base + slot.offset + slot.size, body, path)
        value = slot.get(body[base:])
        return value

    def set(self, path: str, value: Value) -> None:
        """Put a value where a path says. A guestinfo key that is not there is added."""
        head, field = field_of(path)
        if head == _EMULATOR:
            from hvmctx.edit.contents import set_content

            content, payload = self._content()
            if isinstance(content, HvmContext):
                editor = self._inside(payload)
                editor.set(field, value)
                self.put(payloads.EMULATOR, editor.context.to_bytes())
            else:
                self.put(payloads.EMULATOR, set_content(content, payload, field, value))
            return
        if head in _DESCRIBED:
            from hvmctx.edit.described import TEXTS, set_described

            if not isinstance(value, str):
                raise FieldError(f"{path} takes text")
            what, limits = TEXTS[head], self._image.limits
            self.put(what, set_described(head, bytes(self.take(what)), field, value, limits))
            return
        if ":" in head:
            from hvmctx.edit.contents import set_decoded

            what = f"record:{head}"
            layer, number, _ = payloads.named(what)
            self.put(what, set_decoded(layer, number, bytes(self.take(what)), field, value))
            return
        if head == _PARAMS:
            record, params, place = self._param(field)
            params.params[place] = (params.params[place][0], _param_value(value, path))
            self._bodies[record] = params.to_bytes()
            return
        known, instance = record_of(head)
        if is_framing(field):
            framed, limits = _parsed(value, path, is_bytes=False), self._image.limits
            if field == LENGTH:
                set_length(self.context.record(known, instance), framed, limits)
            else:
                self._context = set_descriptor(self.context, known, instance, field, framed, limits)
            return
        of_context = self.context.record(known, instance)
        if known.name == _VMPORT:
            from hvmctx.context.vmport_paths import set_path

            entry = "[" in field and field.startswith("guestinfo")
            given = _parsed(value, path, is_bytes=entry)
            of_context.body = set_path(bytes(of_context.body), field, given)
            return
        slot, base = locate(known, field)
        body = bytearray(of_context.as_read(max(known.size, len(of_context.body))))
        _within(base + slot.offset + slot.size, body, path)
        part = body[base:]
        slot.put(part, _parsed(value, path, is_bytes=slot.is_bytes))
        body[base:] = part
        of_context.body = of_context.rewritten(bytes(body[: known.size]), bytes(body[known.size :]))

    def add(self, path: str, value: Value) -> None:
        """Add what is not there: a record of the context (CPU/1; `value` is its body) where
        Xen would write it, or a parameter (HVM_PARAMS.VIRIDIAN). Raises UsageError for one
        that is there, and for what cannot be added."""
        head, dot, field = path.partition(".")
        if head.upper() == _PARAMS and dot:
            self._add_param(field, _param_value(value, path))
            return
        known, instance = _record_only(path)
        if self._read_context().records(known, instance):
            raise UsageError(f"{path}: the context has such a record already")
        body = _parsed(value, path, is_bytes=True)
        if not isinstance(body, bytes):
            raise FieldError(f"{path} takes bytes")
        self.context.add(Record(known, instance, body))

    def _add_param(self, name: str, value: int) -> None:
        index = _param_index(name)
        records = self._params()
        if not records:
            raise MissingRecordError("the image has no HVM_PARAMS record")
        if any(pair[0] == index for _, params in records for pair in params.params):
            raise UsageError(f"{_PARAMS}.{name}: the image sets it already")
        record, params = records[-1]
        params.params.append((index, value))
        self._bodies[record] = params.to_bytes()

    def remove(self, path: str) -> None:
        """Remove a record of the context (CPU/1; where it repeats, the last, or CPU/1#1, the
        first; context:22/0 of a type without a name), what follows its records (tail), a
        parameter or a guestinfo key, wherever it stands. Raises UsageError for what cannot be
        removed."""
        if path == TAIL:
            self.context.tail = b""
            return
        head, dot, field = path.partition(".")
        if head.upper() == _PARAMS and dot:
            self._remove_param(field)
            return
        if head.upper() == _EMULATOR and dot:
            content, payload = self._content()
            if not isinstance(content, HvmContext):
                raise UsageError(f"{path}: something can be removed only from an HVM context")
            editor = self._inside(payload)
            editor.remove(field)
            self.put(payloads.EMULATOR, editor.context.to_bytes())
            return
        if dot and (named := record_of(head.upper()))[0].name == _VMPORT:
            from hvmctx.context.vmport_paths import remove_path

            record = self.context.record(*named)
            record.body = remove_path(bytes(record.body), field)
            return
        path, _, place = path.partition("#")
        gone = self.context.record(*_record_only(path))
        if place:
            alike = self.context.records(gone.typecode, gone.instance)
            number = decimal(place)
            if number is None or not 0 < number <= len(alike):
                raise UsageError(f"{path}#{place}: there are {len(alike)}, counted from 1")
            gone = alike[number - 1]
        self.context.entries = [each for each in self.context.entries if each is not gone]

    def _remove_param(self, name: str) -> None:
        self._param(name)  # raises where it is not set
        index = _param_index(name)
        for record, params in self._params():
            kept = [pair for pair in params.params if pair[0] != index]
            if len(kept) < len(params.params):
                params.params = kept
                self._bodies[record] = params.to_bytes()

    def take(self, what: str) -> bytes | memoryview:
        """The bytes that the name of a payload stands for. Raises MissingRecordError also for
        page data of a pipe, which are not kept."""
        if what == payloads.HVM_CONTEXT:
            return self._whole_context()
        if what == payloads.EMULATOR:
            return self._emulator()[1].payload
        if what == payloads.XML:
            return self._image.xml if self._xml is None else self._xml
        layer, number, instance = payloads.named(what)
        if layer == CONTEXT:
            return bytes(self._read_context().record(number, instance).body)
        return self._body(self._record(layer, number, instance))

    def put(self, what: str, payload: bytes) -> None:
        """Put `payload` in the place of what `take` gives."""
        if what == payloads.HVM_CONTEXT:
            self._put_context(payload)
            return
        if what == payloads.EMULATOR:
            record, emulator = self._emulator()
            emulator.payload = payload
            self._bodies[record] = emulator.to_bytes()
            return
        if what == payloads.XML:
            self._image.xml_data()  # raises where there is no place for it
            self._xml = bytes(payload).rstrip(b"\0")
            return
        layer, number, instance = payloads.named(what)
        if layer == CONTEXT:
            self.context.record(number, instance).body = payload
            return
        record = self._record(layer, number, instance)
        if record is self._context_record():
            self._put_context(payload)
        else:
            self._image.start_of(record, record.length)  # it must all be there to be replaced
            self._bodies[record] = payload

    def edits(self) -> list[Edit]:
        """What to replace in the image."""
        edits = [record_edit(record, body) for record, body in self._bodies.items()]
        if self._xml is not None:
            edits.append(_xml_edit(self._image.headers[0], self._xml))
        if self._context is not None:
            edits.append(self._context_edit(self._whole_context()))
        return edits

    def write(
        self,
        out: BinaryIO | str | os.PathLike[str],
        *,
        force: bool = False,
        like: Iterable[Access | None] = (),
    ) -> None:
        """Write the image with all that was changed, everything else as it is, to a binary
        file, or to a path: whole or not at all, and in the place of an existing file only with
        `force`. Only who may read the image, and the files of `like`, may read that one.
        Raises InputError for that, and for an image that was read from a pipe."""
        edits = self.edits()
        if isinstance(out, (str, os.PathLike)):
            sources = [self._image.source.access, *like]
            with replacing(os.fspath(out), force=force, like=sources) as file:
                splice(self._image.source, file, edits)
        else:
            splice(self._image.source, out, edits)

    def _read_context(self) -> HvmContext:
        """To be looked at only: not one that `edits` writes."""
        if self._context is not None:
            return self.context
        if self._unchanged is None:
            self._unchanged = self._image.read_context()
        return self._unchanged

    def _whole_context(self) -> bytes:
        if isinstance(self._context, bytes):
            return self._context
        return self._read_context().to_bytes()

    def _put_context(self, payload: bytes) -> None:
        self._context_edit(payload)  # raises for an image that has no place for it
        self._context = payload

    def _context_record(self) -> IndexedRecord | None:
        return self._image.last(LIBXC, streams.LIBXC_HVM_CONTEXT)

    def _context_edit(self, context: bytes) -> Edit:
        image = self._image
        if image.format == CONTEXT:
            return 0, image.source.whole_size(), context
        record = self._context_record()
        if record is None:
            raise MissingRecordError("the image has no HVM_CONTEXT record")
        if record.end > image.end:
            image.raise_stopped()
        return record_edit(record, context)

    def _body(self, record: IndexedRecord) -> bytes | memoryview:
        changed = self._bodies.get(record)
        if changed is not None:
            return changed
        if record is self._context_record() and self._context is not None:
            return self._whole_context()
        return self._image.body(record)

    def _record(self, layer: str, number: int, place: int) -> IndexedRecord:
        found = self._image.records_of(layer, number)
        if place >= len(found):
            name = streams.record_name(layer, number)
            if not found:
                raise MissingRecordError(f"the image has no {name} record")
            raise MissingRecordError(
                f"the image has no {name}/{place} record; it has {len(found)}, counted from 0"
            )
        return found[place]

    def _emulator(self) -> tuple[IndexedRecord, EmulatorContext | QemuRecord]:
        layer, number = self._image.emulator_type
        record = self._image.last(layer, number)
        if record is None:
            raise MissingRecordError(
                f"the image has no {streams.record_name(layer, number)} record"
            )
        return record, handlers.parse(record, self._body(record), self._image.limits)

    def _content(self) -> tuple[DeviceModelState | HvmContext | handlers.Guarded | None, bytes]:
        """What the last device model's file is, and its bytes."""
        emulator = self._emulator()[1]
        payload = bytes(emulator.payload)
        limits = self._image.limits
        return handlers.content_of(emulator.emulator_id, payload, limits), payload

    def _inside(self, payload: bytes) -> Editor:
        """Of a context in a device model's file."""
        return Editor(open_image(payload, layer=CONTEXT, limits=self._image.limits))

    def _params(self) -> list[tuple[IndexedRecord, HvmParams]]:
        """The records of parameters that a restore acts on."""
        counted = self._image.effective_records(LIBXC, streams.LIBXC_HVM_PARAMS)
        limits = self._image.limits
        return [(record, handlers.parse(record, self._body(record), limits)) for record in counted]

    def _param(self, name: str) -> tuple[IndexedRecord, HvmParams, int]:
        """The record that sets a parameter last, what it says, and the place in it."""
        index = _param_index(name)
        for record, params in reversed(self._params()):
            for place in range(len(params.params) - 1, -1, -1):
                if params.params[place][0] == index:
                    return record, params, place
        raise MissingRecordError(f"the image does not set parameter {name}")


def record_edit(record: IndexedRecord, body: bytes) -> Edit:
    """The edit that gives a record of the streams another body: that alone where the length
    stays, else header, body and zero padding. Raises UsageError for one that has none."""
    if len(body) == record.length:
        return record.body_offset, record.body_end, body
    if not record.has_body:
        raise UsageError(f"{record.name}: records of this type have no body")
    head, padding = streams.record_around(record.layer, record.type, len(body))
    return record.offset, record.end, head + body + padding


def _xml_edit(header: Header, text: bytes) -> Edit:
    """The edit that gives a libvirt file another XML, and says how long it is."""
    from hvmctx.stream.libvirt import xml_to_bytes

    data = xml_to_bytes(text)
    fields = streams.LIBVIRT_HEADER.encode({**header.fields, "xml_len": len(data)})
    return header.offset, header.end, streams.LIBVIRT_MAGIC + fields + data


def _record_only(path: str) -> tuple[RecordType | int, int]:
    if path.startswith(f"{CONTEXT}:"):
        _, typecode, instance = payloads.named(f"record:{path}")
        return typecode, instance
    if "." in path:
        raise UsageError(f"{path}: expected a record, such as CPU/1, or HVM_PARAMS.NAME")
    return record_of(path.upper())


def _param_index(name: str) -> int:
    index = streams.param_index(name)
    if index is None:
        raise UsageError(f"{_PARAMS}.{name}: unknown parameter")
    return index


def _param_value(value: Value, path: str) -> int:
    number = _parsed(value, path, is_bytes=False)
    if reason := misfit(path, number, 64, text=value if isinstance(value, str) else ""):
        raise FieldError(reason)
    assert isinstance(number, int)  # since it fits
    return number


def _parsed(value: Value, path: str, *, is_bytes: bool) -> int | bytes:
    """The value that a text stands for; any other value as it is."""
    if not isinstance(value, str):
        return value
    return bytes_of(value, path) if is_bytes else value_of(value, path)


def _within(end: int, body: bytes | bytearray, path: str) -> None:
    if end > len(body):
        raise UsageError(f"{path} is beyond the record's {len(body)} bytes")
