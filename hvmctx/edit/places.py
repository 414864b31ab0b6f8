"""What a path names, in an image as a `Store` has it: `place_of`. Each kind of place gets, puts,
adds and removes its value, and says which bytes of the input it is.
"""

from __future__ import annotations

from contextlib import suppress

from hvmctx.abi import streams, x86
from hvmctx.abi.cpuid import NO_SUBLEAF
from hvmctx.abi.declare import VMPORT_TYPECODE
from hvmctx.abi.fields import Layout, misfit
from hvmctx.abi.registry import by_name, by_typecode, record_types
from hvmctx.abi.releases import CPU_COMPAT_SIZE
from hvmctx.context.record import DESCRIPTOR_SIZE, Record
from hvmctx.edit.framing import (
    DESCRIPTOR,
    LENGTH,
    get_framing,
    is_framing,
    set_descriptor,
    set_length,
)
from hvmctx.edit.paths import (
    Path,
    bytes_of,
    json_of,
    locate,
    steps_of,
    value_of,
    window_of,
    without_window,
)
from hvmctx.errors import FieldError, MissingRecordError, UsageError
from hvmctx.image import handlers
from hvmctx.messages import did_you_mean
from hvmctx.stream.reader import CONTEXT, LIBXC, LIBXL, XAPI

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hvmctx.abi.declare import RecordType
    from hvmctx.abi.fields import Slot
    from hvmctx.edit.store import Store
    from hvmctx.image.index import IndexedRecord
    from hvmctx.stream.body import Body
    from hvmctx.stream.qemu import Section
    from hvmctx.stream.reader import Header

    Value = int | bytes | str
    Content = Any

__all__ = ["CONFIG", "EMULATOR", "GONE_IN_COMPAT", "Place", "emulator_file", "place_of", "row_path"]

EMULATOR, CONFIG = "EMULATOR_CONTEXT", "CONFIG"
_PARAMS, _CPUID, _MSR, _WHOLE, _TAIL = "HVM_PARAMS", "CPUID", "MSR", "HVM_CONTEXT", "TAIL"
_PFN, _FORMAT, _XML, _XENOPS = "PFN", "FORMAT", "XML", "XENOPS"


class Place:
    """One value of an image. `path` names it. Errors are those of `Editor`."""

    def __init__(self, store: Store, path: Path) -> None:
        self.store = store
        self.path = path

    def __str__(self) -> str:
        return self.path.text

    def get(self) -> Value:
        """The value."""
        raise NotImplementedError

    def put(self, value: Value) -> None:
        """Put another value there."""
        raise UsageError(f"{self}: it cannot be set")

    def add(self, value: Value) -> None:
        """Put a value where there is none."""
        raise UsageError(f"{self}: it cannot be added")

    def remove(self) -> None:
        """Take the value away."""
        raise UsageError(f"{self}: it cannot be removed")

    def span(self) -> tuple[int, int]:
        """The offset in the input of the bytes that hold the value, and how many they are."""
        raise UsageError(f"{self}: it is not bytes of the input")

    def is_there(self) -> bool:
        try:
            self.get()
        except MissingRecordError:
            return False
        return True

    def as_number(self, value: Value, width: int) -> int:
        """A value that must be a number of so many bits. Raises FieldError."""
        given = value_of(value, str(self)) if isinstance(value, str) else value
        if reason := misfit(str(self), given, width, text=value if isinstance(value, str) else ""):
            raise FieldError(reason)
        assert isinstance(given, int)  # since it fits
        return given

    def as_bytes(self, value: Value) -> bytes:
        """A value that must be bytes. Raises FieldError."""
        given = bytes_of(value, str(self)) if isinstance(value, str) else value
        if not isinstance(given, bytes):
            raise FieldError(f"{self} takes bytes")
        return given

    def fitting(self, value: Value, slot: Slot) -> int | bytes:
        """A value for a slot, out of text or as it is."""
        if not isinstance(value, str):
            return value
        return bytes_of(value, str(self)) if slot.is_bytes else value_of(value, str(self))

    def part_of(self, body: bytes) -> Value:
        """What the window that the path ends with has of these bytes, or all."""
        slot = window_of(self.path.rest, len(body))
        value: Value = body if slot is None else slot.get(body)
        return value

    def with_part(self, body: bytes, value: Value) -> bytes:
        """The bytes with that value in the window, or in the place of all."""
        slot = window_of(self.path.rest, len(body))
        if slot is None:
            return self.as_bytes(value)
        changed = bytearray(body)
        slot.put(changed, self.fitting(value, slot))
        return bytes(changed)

    def span_in(self, start: int, size: int) -> tuple[int, int]:
        """Of the window, in `size` bytes at `start`, or of all."""
        slot = window_of(self.path.rest, size)
        return (start, size) if slot is None else (start + slot.offset, slot.size)


# ------------------------------------------------------------------------------ the HVM context


class _OfContext(Place):
    """A record of the HVM context: all of its body, a window, or a field."""

    def __init__(self, store: Store, path: Path, typecode: int) -> None:
        super().__init__(store, path)
        self.typecode = typecode
        self.instance = path.instance or 0
        self.field = path.rest[1:] if path.rest.startswith(".") else ""
        self.framing = is_framing(self.field)

    @property
    def known(self) -> RecordType:
        known = by_typecode(self.typecode)
        if known is None:
            raise UsageError(f"{self}: no handler gives these bytes fields, and takes them back")
        return known

    def record(self, *, to_change: bool = False) -> Record:
        context = self.store.context if to_change else self.store.look()
        number = self.path.number
        if number is None:
            return context.record(self.typecode, self.instance)
        found = context.records(self.typecode, self.instance)
        if number > len(found):
            raise MissingRecordError(
                f"the context has no {self.path.head}; there are {len(found)}, counted from 1"
            )
        return found[number - 1]

    def get(self) -> Value:
        if self.framing:
            return get_framing(self.store.look(), self.known, self.instance, self.field)
        record = self.record()
        if not self.field:
            return self.part_of(bytes(record.body))
        if by_typecode(self.typecode) is None:
            from hvmctx.edit.contents import get_decoded

            return get_decoded(CONTEXT, self.typecode, bytes(record.body), self.field)
        if self._is_packed():
            start, size = self._packed_span(record)
            return self.part_of(bytes(record.body)[start : start + size])
        slot, base, body = self._slot(record)
        value: Value = slot.get(body[base:])
        return value

    def _is_packed(self) -> bool:
        """Whether it is a value or a buffer of VMPORT's variable part."""
        if self.typecode != VMPORT_TYPECODE:
            return False
        from hvmctx.context.vmport_paths import holds_bytes

        return holds_bytes(without_window(self.field))

    def _packed_span(self, record: Record) -> tuple[int, int]:
        from hvmctx.context.vmport_paths import span_of

        return span_of(bytes(record.body), without_window(self.field))

    def _slot(self, record: Record) -> tuple[Slot, int, bytes]:
        """Of a field, where it counts from, and the body that it is in as Xen reads it."""
        known, size = self.known, len(record.body)
        slot, base = locate(known, self.field, size)
        body = record.as_read(max(known.size, size))
        if base + slot.offset + slot.size > len(body):
            raise UsageError(f"{self} is beyond the record's {len(body)} bytes")
        return slot, base, body

    def put(self, value: Value) -> None:
        if self.framing:
            self._put_framing(value)
            return
        record = self.record(to_change=True)
        if not self.field:
            record.body = self.with_part(bytes(record.body), value)
        elif by_typecode(self.typecode) is None:
            from hvmctx.edit.contents import set_decoded

            body = bytes(record.body)
            record.body = set_decoded(CONTEXT, self.typecode, body, self.field, value)
        elif self._is_packed():
            from hvmctx.context.vmport_paths import set_path

            body, field = bytes(record.body), without_window(self.field)
            if field != self.field:
                start, size = self._packed_span(record)
                value = self.with_part(body[start : start + size], value)
            record.body = set_path(body, field, self.as_bytes(value))
        else:
            slot, base, body = self._slot(record)
            changed, size = bytearray(body), self.known.size
            part = changed[base:]
            slot.put(part, self.fitting(value, slot))
            changed[base:] = part
            record.body = record.rewritten(bytes(changed[:size]), bytes(changed[size:]))

    def _put_framing(self, value: Value) -> None:
        store, limits = self.store, self.store.image.limits
        given = value_of(value, str(self)) if isinstance(value, str) else value
        if self.field == LENGTH:
            set_length(self.record(to_change=True), given, limits)
        else:
            store.context = set_descriptor(
                store.context, self.known, self.instance, self.field, given, limits
            )

    def add(self, value: Value) -> None:
        """The record itself, where Xen would write it; or one that is otherwise empty, of the
        length that it has in the image's release; or a key of VMPORT's, after the others."""
        there = len(self.store.look().records(self.typecode, self.instance))
        number = self.path.number or 1
        if there and number <= there and self._is_packed() and not self.is_there():
            self.put(value)
            return
        if number != there + 1:
            raise UsageError(f"{self}: the context has such a record already")
        if not self.field:
            self.store.context.add(Record(self.typecode, self.instance, self.as_bytes(value)))
            return
        before = self.store.context.entries[:]
        self.store.context.add(Record(self.typecode, self.instance, self._empty()))
        try:
            self.put(value)
        except BaseException:
            self.store.context.entries = before
            raise

    def _empty(self) -> bytes:
        if self.typecode == VMPORT_TYPECODE:
            from hvmctx.context.vmport import VmportState

            return VmportState.empty().to_bytes()
        known = self.known
        return bytes(self.store.image.release.size_of(known) or known.size)

    def remove(self) -> None:
        if self.field and self.typecode == VMPORT_TYPECODE:
            from hvmctx.context.vmport_paths import remove_path

            record = self.record(to_change=True)
            record.body = remove_path(bytes(record.body), self.field)
            return
        if self.path.rest:
            raise UsageError(f"{self}: expected a record, such as CPU/1, or HVM_PARAMS.NAME")
        gone, context = self.record(to_change=True), self.store.context
        context.entries = [each for each in context.entries if each is not gone]

    def span(self) -> tuple[int, int]:
        store = self.store
        outer = store.context_record()
        base = 0 if outer is None else outer.body_offset
        record = self.record()
        assert record.offset is not None  # as it is the input's own
        if self.framing:
            if self.field == LENGTH:
                return super().span()
            name = self.field.removeprefix(DESCRIPTOR)
            field = Layout.of(x86.hvm_save_descriptor).locate(name)
            return base + record.offset + field.offset, field.size
        start = base + record.offset + DESCRIPTOR_SIZE
        if not self.field:
            return self.span_in(start, len(record.body))
        if self._is_packed():
            at, size = self._packed_span(record)
            return self.span_in(start + at, size)
        if by_typecode(self.typecode) is None:
            return super().span()
        slot, at, _ = self._slot(record)
        at += slot.offset
        if len(record.body) == CPU_COMPAT_SIZE and record.typecode == x86.CPU.typecode:
            if at == x86.hvm_hw_cpu.msr_tsc_aux.offset:
                raise MissingRecordError(f"{self} is not in a record of before Xen 3.4")
            at -= GONE_IN_COMPAT if at >= x86.hvm_hw_cpu.tsc.offset else 0
        if at + slot.size > len(record.body):
            raise MissingRecordError(f"{self} is beyond the record's {len(record.body)} bytes")
        return start + at, slot.size


GONE_IN_COMPAT = x86.hvm_hw_cpu.msr_tsc_aux.size
"""Bytes before `tsc` that the CPU record of before Xen 3.4 does not have."""


class _Context(Place):
    """The whole HVM context, and its tail."""

    def get(self) -> Value:
        if self.path.name == _TAIL:
            return self.part_of(bytes(self.store.look().tail))
        return self.part_of(self.store.whole_context())

    def put(self, value: Value) -> None:
        if self.path.name == _TAIL:
            self.store.context.tail = self.with_part(bytes(self.store.look().tail), value)
        else:
            self.store.put_context(self.with_part(self.store.whole_context(), value))

    def add(self, value: Value) -> None:
        if self.path.name == _TAIL or self.is_there():
            raise UsageError(f"{self}: it is there already")
        self.store.insert(LIBXC, streams.LIBXC_HVM_CONTEXT, self.as_bytes(value))

    def remove(self) -> None:
        record = self.store.context_record()
        if self.path.name == _TAIL:
            self.store.context.tail = b""
        elif record is None or self.path.rest:
            super().remove()
        else:
            self.store.drop(record)

    def span(self) -> tuple[int, int]:
        record = self.store.context_record()
        start = 0 if record is None else record.body_offset
        whole, tail = len(self.store.whole_context()), len(self.store.look().tail)
        if self.path.name == _TAIL:
            return self.span_in(start + whole - tail, tail)
        return self.span_in(start, whole)


# ------------------------------------------------------------------------ records of the streams


class _OfStream(Place):
    """A record of a stream: all of its body, a window, or a number or bytes of its head."""

    def __init__(self, store: Store, path: Path, layer: str, number: int) -> None:
        super().__init__(store, path)
        if path.number is not None:
            raise UsageError(f"{path.text}: records of streams are counted by /N, from 0")
        self.layer = layer
        self.type = number
        self.field = path.rest[1:] if path.rest.startswith(".") else ""

    def record(self) -> IndexedRecord:
        every = self.path.instance is not None
        found = self.store.records(self.layer, self.type, effective=not every)
        place = self.path.instance if every else len(found) - 1
        if place is None or not 0 <= place < len(found) or self.store.is_gone(found[place]):
            name = streams.record_name(self.layer, self.type)
            counted = f"; it has {len(found)}, counted from 0" if found else ""
            name = f"{name}/{place}" if found else name
            raise MissingRecordError(f"the image has no {name} record{counted}")
        return found[place]

    def _model(self, record: IndexedRecord) -> tuple[Body, str]:
        """The body taken apart, and the field of it that the path names."""
        kind = handlers.body_type(self.layer, self.type)
        assert kind is not None  # `get` and `put` have looked
        names = [name for name, of in kind.fields.items() if not hasattr(of, "row")]
        field = without_window(self.field)
        if field not in names:
            words = f"no field {field!r} in {kind.name}{did_you_mean(field, names)}"
            raise UsageError(f"{self}: {words}")
        body: Body = handlers.parse(record, self.store.body(record), self.store.image.limits)
        return body, field

    def _is_declared(self) -> bool:
        return handlers.body_type(self.layer, self.type) is not None

    def get(self) -> Value:
        record = self.record()
        if not self.field:
            return self.part_of(bytes(self.store.body(record)))
        if not self._is_declared():
            from hvmctx.edit.contents import get_decoded

            body = bytes(self.store.body(record))
            return get_decoded(self.layer, self.type, body, self.field)
        model, field = self._model(record)
        value = getattr(model, field)
        return value if isinstance(value, int) else self.part_of(bytes(value))

    def put(self, value: Value) -> None:
        record, store = self.record(), self.store
        if not self.field:
            store.put_body(record, self.with_part(bytes(store.body(record)), value))
        elif not self._is_declared():
            from hvmctx.edit.contents import set_decoded

            body = bytes(store.body(record))
            store.put_body(record, set_decoded(self.layer, self.type, body, self.field, value))
        else:
            model, field = self._model(record)
            before = getattr(model, field)
            if isinstance(before, int):
                _, size = model.TYPE.place(field)
                setattr(model, field, self.as_number(value, 8 * size))
            else:
                setattr(model, field, self.with_part(bytes(before), value))
            store.put_body(record, model.to_bytes())

    def add(self, value: Value) -> None:
        if self.path.rest or self.is_there():
            raise UsageError(f"{self}: only a whole record that is not there can be added")
        self.store.insert(self.layer, self.type, self.as_bytes(value))

    def remove(self) -> None:
        if self.path.rest:
            super().remove()
        self.store.drop(self.record())

    def span(self) -> tuple[int, int]:
        record = self.record()
        if not self.field:
            return self.span_in(record.body_offset, record.length)
        if not self._is_declared():
            return super().span()
        model, field = self._model(record)
        at, size = model.TYPE.place(field)
        value = getattr(model, field)
        size = size if isinstance(value, int) else len(value)
        return self.span_in(record.body_offset + at, size)


class _Row(Place):
    """A row of a table in a record, by its key, or a column of one."""

    def __init__(
        self, store: Store, path: Path, kind: type[Body], key: tuple[int, ...], columns: range
    ) -> None:
        super().__init__(store, path)
        self.kind = kind
        self.rows_name = kind.TYPE.rest[0].name
        self.key = key
        self.columns = columns

    def tables(self) -> list[tuple[IndexedRecord, Body, list[Any]]]:
        """The records that count, as read: of parameters all, of the others the last."""
        layer, number = self.kind.TYPE.layer, self.kind.TYPE.number
        store, found = self.store, []
        for record in store.records(layer, number):
            body = handlers.parse_as(self.kind, record, store.body(record), store.image.limits)
            found.append((record, body, getattr(body, self.rows_name)))
        return found if self.path.name == _PARAMS else found[-1:]

    def find(self) -> tuple[IndexedRecord, Body, list[Any], int]:
        """The last row of that key, and where it is."""
        for record, body, rows in reversed(self.tables()):
            for at in range(len(rows) - 1, -1, -1):
                if rows[at][: len(self.key)] == self.key:
                    return record, body, rows, at
        raise MissingRecordError(self._missing())

    def _missing(self) -> str:
        if self.path.name == _PARAMS:
            return f"the image does not set parameter {self.path.rest[1:]}"
        found = [row for _, _, rows in self.tables() for row in rows]
        alike = [row_path(self.path.name, row) for row in found if row[0] == self.key[0]]
        also = f"; it has {', '.join(alike[:4])}" if alike else ""
        return (
            f"the CPU policy of the image has no {self.path.head}{_bracket(self.path.rest)}{also}"
        )

    def get(self) -> Value:
        _, _, rows, at = self.find()
        values = [rows[at][column] for column in self.columns]
        return values[0] if len(values) == 1 else " ".join(f"{value:08x}" for value in values)

    def _values(self, value: Value) -> list[int]:
        row = self.kind.TYPE.row
        widths = [8 * getattr(row.structure, row.names[column]).size for column in self.columns]
        if len(widths) == 1:
            return [self.as_number(value, widths[0])]
        words = value.split() if isinstance(value, str) else []
        try:
            numbers = [int(word, 16) for word in words]
        except ValueError:
            numbers = []
        if len(numbers) != len(widths) or not all(0 <= n >> w < 1 for n, w in zip(numbers, widths)):
            raise FieldError(f"{self} takes {len(widths)} hex numbers of 32 bits, in quotes")
        return numbers

    def put(self, value: Value) -> None:
        record, body, rows, at = self.find()
        row = list(rows[at])
        row[self.columns.start : self.columns.stop] = self._values(value)
        rows[at] = tuple(row)
        self.store.put_body(record, body.to_bytes())

    def add(self, value: Value) -> None:
        """As the last row; the record is added too, where there is none."""
        if self.is_there():
            raise UsageError(f"{self}: the image sets it already")
        row = [*self.key, *[0] * (len(self.kind.TYPE.row.names) - len(self.key))]
        row[self.columns.start : self.columns.stop] = self._values(value)
        tables = self.tables()
        if tables:
            record, body, rows = tables[-1]
            rows.append(tuple(row))
            self.store.put_body(record, body.to_bytes())
        else:
            body = self.kind(**{self.rows_name: [tuple(row)]})
            self.store.insert(self.kind.TYPE.layer, self.kind.TYPE.number, body.to_bytes())

    def remove(self) -> None:
        """Every row of that key."""
        self.find()
        for record, body, rows in self.tables():
            kept = [row for row in rows if row[: len(self.key)] != self.key]
            if len(kept) < len(rows):
                setattr(body, self.rows_name, kept)
                self.store.put_body(record, body.to_bytes())

    def span(self) -> tuple[int, int]:
        record, _, _, at = self.find()
        row = self.kind.TYPE.row
        fields = [getattr(row.structure, row.names[column]) for column in self.columns]
        start = record.body_offset + self.kind.TYPE.head.size + at * row.size
        return start + fields[0].offset, sum(field.size for field in fields)


def row_path(table: str, row: tuple[int, ...]) -> str:
    """`CPUID[7,0]`, `CPUID[0x80000001]`, `MSR[0xce]`."""
    key = row[:1] if table != _CPUID or row[1] == NO_SUBLEAF else row[:2]
    return f"{table}[{','.join(str(n) if n < _HEX_FROM else f'{n:#x}' for n in key)}]"


_HEX_FROM = 10
"""Below that hex digits are decimal ones."""


def _bracket(rest: str) -> str:
    return rest[: rest.index("]") + 1]


def _param(store: Store, path: Path) -> Place:
    from hvmctx.stream.libxc import HvmParams

    if path.rest.startswith("[") or not path.rest:
        return _OfStream(store, path, LIBXC, streams.LIBXC_HVM_PARAMS)
    name = path.rest[1:]
    index = streams.param_index(name)
    if index is None:
        guess = did_you_mean(name, streams.HVM_PARAMS.values())
        raise UsageError(f"{path.text}: unknown parameter{guess}")
    return _Row(store, path, HvmParams, (index,), range(1, 2))


_REGISTERS = {"": range(2, 6), ".eax": range(2, 3), ".ebx": range(3, 4), ".ecx": range(4, 5),
              ".edx": range(5, 6)}  # fmt: skip


def _policy(store: Store, path: Path) -> Place:
    from hvmctx.stream.libxc import CpuidPolicy, MsrPolicy

    bracket, _, column = path.rest.partition("]")
    numbers = [_index(text) for text in bracket[1:].split(",")]
    columns = _REGISTERS if path.name == _CPUID else {"": range(2, 3), ".flags": range(1, 2)}
    most = 2 if path.name == _CPUID else 1
    wrong = not bracket.startswith("[") or len(numbers) > most or None in numbers
    if wrong or column not in columns:
        example = "CPUID[7,0].ebx" if path.name == _CPUID else "MSR[0xce]"
        raise UsageError(f"{path.text}: expected {path.name}[...], such as {example}")
    key = tuple(number for number in numbers if number is not None)
    if path.name == _MSR:
        return _Row(store, path, MsrPolicy, key, columns[column])
    key = key if len(key) == most else (*key, NO_SUBLEAF)
    return _Row(store, path, CpuidPolicy, key, columns[column])


def _index(text: str) -> int | None:
    try:
        number = int(text, 0)
    except ValueError:
        return None
    return number if 0 <= number < 1 << 32 else None


# --------------------------------------------- configuration, headers, pages, device model's file


class _Config(Place):
    """A value of an xl file's configuration, or all of it."""

    def __init__(self, store: Store, path: Path) -> None:
        super().__init__(store, path)
        self.steps = steps_of(path.rest, path.text)

    def get(self) -> Value:
        import json

        from hvmctx.edit.json_text import found_at

        if not self.steps:
            self.store.image.config  # noqa: B018 - what is damaged is not shown
            whole = self.store.config_or_words()
            return whole.rstrip(b"\0").decode("utf-8", "surrogateescape")
        text = self.store.config_json(to_change=False)
        start, end = found_at(text, self.steps, str(self))
        written = text.data[start:end]
        value = json.loads(written)
        return value if isinstance(value, str) else written.decode()

    def put(self, value: Value) -> None:
        import json

        from hvmctx.edit.json_text import found_at, replaced

        if not self.steps:
            self.store.put_config(self._whole(value))
            return
        text = self.store.config_json()
        start, end = found_at(text, self.steps, str(self))
        given: Any = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        if isinstance(given, str):
            given = json_of(given, json.loads(text.data[start:end]), str(self))
        self.store.put_config(replaced(text, self.steps, given, str(self)))

    def _whole(self, value: Value) -> bytes:
        if isinstance(value, int):
            raise FieldError(f"{self} takes text")
        data = value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
        return data if data.endswith(b"\0") or not data else data + b"\0"

    def add(self, value: Value) -> None:
        from hvmctx.edit.json_text import added

        if not self.steps:
            self.store.put_config(self._whole(value))
            return
        given: Any = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        if isinstance(given, str):
            with suppress(FieldError):
                given = json_of(given, None, str(self))
        self.store.put_config(added(self.store.config_json(), self.steps, given, str(self)))

    def remove(self) -> None:
        from hvmctx.edit.json_text import removed

        if not self.steps:
            super().remove()
        self.store.put_config(removed(self.store.config_json(), self.steps, str(self)))

    def span(self) -> tuple[int, int]:
        from hvmctx.edit.json_text import found_at

        base = self.store.xl_header().body_offset + 4
        start, end = found_at(self.store.config_json(), self.steps, str(self))
        return base + start, end - start


class _Described(Place):
    """A value of the guest's description in another wrapper, or all of that text: see
    `edit.described`."""

    def __init__(self, store: Store, path: Path) -> None:
        super().__init__(store, path)
        self.field = path.rest[1:] if path.rest.startswith(".") else ""

    def _text(self) -> bytes:
        if self.path.name == _XML:
            return self.store.xml()
        return bytes(self.store.body(self._record()))

    def _record(self) -> IndexedRecord:
        record = self.store.last(XAPI, streams.XAPI_XENOPS)
        if record is None:
            raise MissingRecordError("the image has no XENOPS record")
        return record

    def get(self) -> Value:
        from hvmctx.edit.described import get_described

        text = self._text()
        if not self.field:
            return self.part_of(text)
        return get_described(self.path.name, text, self.field, self.store.image.limits)

    def put(self, value: Value) -> None:
        from hvmctx.edit.described import set_described

        text, limits = self._text(), self.store.image.limits
        if not self.field:
            text = self.with_part(text, value)
        elif isinstance(value, str):
            text = set_described(self.path.name, text, self.field, value, limits)
        else:
            raise FieldError(f"{self} takes text")
        if self.path.name == _XML:
            self.store.put_xml(text)
        else:
            self.store.put_body(self._record(), text)

    def span(self) -> tuple[int, int]:
        from hvmctx.edit.described import span_of

        is_xml = self.path.name == _XML
        base = self.store.image.headers[0].body_offset if is_xml else self._record().body_offset
        text = self._text()
        if not self.field:
            return base, len(text)
        start, end = span_of(self.path.name, text, self.field, self.store.image.limits)
        return base + start, end - start


class _OfHeader(Place):
    """A field of a header: `libxc.domain_header.xen_minor`."""

    def __init__(self, store: Store, path: Path) -> None:
        super().__init__(store, path)
        layer = path.name.lower()
        name, _, field = path.rest[1:].partition(".")
        self.field = field
        self.name = name.replace("_", " ")
        known = streams.HEADERS.get((layer, self.name))
        if known is None or self.field not in known.names:
            every = [
                f"{of}.{header.replace(' ', '_')}.{field}"
                for (of, header), flat in streams.HEADERS.items()
                for field in flat.names
            ]
            guess = did_you_mean(path.text, every) or f"; expected such as {every[0]}"
            raise UsageError(f"{path.text}: no such field of a header{guess}")
        self.layer = layer
        self.form = known

    def header(self) -> Header:
        header = self.store.image.header(self.layer, self.name)
        if header is None:
            raise MissingRecordError(f"the image has no {self.layer} {self.name}")
        return header

    def get(self) -> Value:
        return self.store.fields_of(self.header())[self.field]

    def put(self, value: Value) -> None:
        header = self.header()
        number = self.as_number(value, 8 * getattr(self.form.structure, self.field).size)
        self.store.put_header(header, {**self.store.fields_of(header), self.field: number})

    def span(self) -> tuple[int, int]:
        field, header = getattr(self.form.structure, self.field), self.header()
        return header.body_offset - self.form.size + field.offset, field.size


class _Page(Place):
    """Contents of a page, by its pfn: `pfn[0x1000]`, or of so many (`pfn[0x1000:+0x10]`), or a
    window of them; or their types."""

    def __init__(self, store: Store, path: Path) -> None:
        super().__init__(store, path)
        number, bracket, rest = path.rest.partition("]")
        self.rest = rest
        pfn, _, count = number[1:].partition(":+")
        first, many = _pfn(pfn), _pfn(count or "1")
        if not bracket or not number.startswith("[") or first is None or not many:
            raise UsageError(f"{path.text}: expected pfn[NUMBER]")
        self.pfn, self.count = first, many
        if self.rest != ".type" and without_window(self.rest):
            raise UsageError(f"{path.text}: expected .type, or a [START:+SIZE]")

    def _offsets(self) -> list[int]:
        """Of each page. Raises LimitError for more than are read whole."""
        limits, pages = self.store.image.limits, self.store.image.memory_map
        if self.count * streams.PAGE_SIZE > limits.input:
            raise limits.over("input", "bytes", layer=LIBXC, offset=0, record="PAGE_DATA")
        found = []
        for pfn in range(self.pfn, self.pfn + self.count):
            _, offset = pages.lookup(pfn) or (0, None)
            if offset is None:
                raise MissingRecordError(f"the image has no contents of pfn {pfn:#x}")
            found.append(offset)
        return found

    def get(self) -> Value:
        if self.rest == ".type":
            runs = self.store.image.memory_map.between(self.pfn, self.pfn + self.count)
            kinds = {streams.PAGE_TYPES.get(run.type, f"type {run.type}") for run in runs}
            if not kinds:
                raise MissingRecordError(f"the image does not mention pfn {self.pfn:#x}")
            return ", ".join(sorted(kinds))
        pages = self._contents(self._offsets())
        slot = window_of(self.rest, len(pages))
        value: Value = pages if slot is None else slot.get(pages)
        return value

    def _contents(self, offsets: list[int]) -> bytes:
        return b"".join(self.store.page_at(offset) for offset in offsets)

    def put(self, value: Value) -> None:
        if self.rest == ".type":
            super().put(value)
        offsets, size = self._offsets(), streams.PAGE_SIZE
        pages = bytearray(self._contents(offsets))
        slot = window_of(self.rest, len(pages))
        if slot is not None:
            slot.put(pages, self.fitting(value, slot))
        else:
            pages[:] = self.as_bytes(value)
            if len(pages) != self.count * size:
                raise FieldError(f"{self} takes exactly {self.count * size} bytes")
        for number, offset in enumerate(offsets):
            self.store.put_page(offset, bytes(pages[number * size : (number + 1) * size]))

    def span(self) -> tuple[int, int]:
        if self.rest == ".type":
            return super().span()
        offsets, size = self._offsets(), streams.PAGE_SIZE
        if offsets != list(range(offsets[0], offsets[0] + self.count * size, size)):
            raise UsageError(f"{self}: its pages are not one after the other in the input")
        slot = window_of(self.rest, self.count * size)
        return (offsets[0] + slot.offset, slot.size) if slot else (offsets[0], self.count * size)


def _pfn(text: str) -> int | None:
    try:
        number = int(text, 0)
    except ValueError:
        return None
    return number if 0 <= number <= streams.PFN_MASK + 1 else None


class _Format(Place):
    """What the input starts with."""

    def get(self) -> Value:
        return self.store.image.format

    def put(self, value: Value) -> None:
        raise UsageError(f"{self}: it cannot be set; hvmctx convert makes an image of another")


def emulator_file(store: Store, record: IndexedRecord) -> tuple[Content, bytes]:
    """The file of a device model in a record: what it holds, as far as that is known, and its
    bytes. Raises as `handlers.parse` and `handlers.content_of` do."""
    limits = store.image.limits
    emulator = handlers.parse(record, store.body(record), limits)
    payload = bytes(emulator.payload)
    return handlers.content_of(emulator.emulator_id, payload, limits), payload


class _InEmulator(_OfStream):
    """What is inside of a device model's file: of an HVM context by the paths of this module, else
    by those of `edit.contents`; or a number before it."""

    def __init__(self, store: Store, path: Path, layer: str, number: int) -> None:
        super().__init__(store, path, layer, number)
        if path.rest.startswith('["'):  # a section whose name is no word
            self.field = path.rest

    def _is_head(self) -> bool:
        """Not where another package's handler gives names to what is inside."""
        kind = handlers.body_type(self.layer, self.type)
        known = kind is not None and self.field in kind.head.names
        return not self.field or (known and not isinstance(self._content()[0], handlers.Guarded))

    def _content(self) -> tuple[Content, bytes, IndexedRecord]:
        record = self.record()
        return *emulator_file(self.store, record), record

    def _inside(self, payload: bytes) -> Place:
        """The place in the context that the file is."""
        from hvmctx.edit.store import Store
        from hvmctx.image.image import open_image

        image = open_image(payload, layer=CONTEXT, limits=self.store.image.limits)
        return place_of(Store(image), self.field)

    def _section(self, content: Content) -> Section | None:
        """The section of QEMU's file of which the path names all bytes, or a window."""
        from hvmctx.stream.qemu import DeviceModelState

        if not isinstance(content, DeviceModelState):
            return None
        from hvmctx.edit.device_model import section_of

        section, rest = section_of(content, self.field)
        return None if without_window(rest) else section

    def _is_context(self, content: Content) -> bool:
        from hvmctx.context.hvm_context import HvmContext

        return isinstance(content, HvmContext)

    def _keep(self, record: IndexedRecord, payload: bytes) -> None:
        emulator = handlers.parse(record, self.store.body(record), self.store.image.limits)
        emulator.payload = payload
        self.store.put_body(record, emulator.to_bytes())

    def get(self) -> Value:
        if self._is_head():
            return super().get()
        from hvmctx.edit.contents import get_content

        content, payload, _ = self._content()
        if self._is_context(content):
            return self._inside(payload).get()
        section = self._section(content)
        if section is not None:
            return self.part_of(section.data)
        return get_content(content, payload, self.field)

    def put(self, value: Value) -> None:
        if self._is_head():
            super().put(value)
            return
        from hvmctx.edit.contents import set_content

        content, payload, record = self._content()
        if self._is_context(content):
            inside = self._inside(payload)
            inside.put(value)
            self._keep(record, inside.store.whole_context())
        elif (section := self._section(content)) is not None:
            section.data = self.with_part(section.data, value)
            self._keep(record, content.to_bytes())
        else:
            self._keep(record, set_content(content, payload, self.field, value))

    def add(self, value: Value) -> None:
        if self._is_head():
            super().add(value)
            return
        self._change("added to", lambda inside: inside.add(value))

    def remove(self) -> None:
        if self._is_head():
            super().remove()
            return
        self._change("removed from", lambda inside: inside.remove())

    def _change(self, words: str, change: Any) -> None:
        content, payload, record = self._content()
        if not self._is_context(content):
            raise UsageError(f"{self}: something can be {words} an HVM context only")
        inside = self._inside(payload)
        change(inside)
        self._keep(record, inside.store.whole_context())

    def span(self) -> tuple[int, int]:
        if self._is_head():
            return super().span()
        content, payload, record = self._content()
        section = self._section(content)
        if section is not None:
            start = record.body_end - len(payload) + section.offset + len(section.head)
            return self.span_in(start, len(section.data))
        if not self._is_context(content):
            return Place.span(self)
        at, size = self._inside(payload).span()
        return record.body_end - len(payload) + at, size


_KINDS: dict[str, Any] = {
    CONFIG: _Config, _XML: _Described, _XENOPS: _Described,
    **{layer.upper(): _OfHeader for layer, _ in streams.HEADERS},
    _PARAMS: _param, _CPUID: _policy, _MSR: _policy, _WHOLE: _Context, _TAIL: _Context,
    _PFN: _Page, _FORMAT: _Format,
}  # fmt: skip
"""Names that a path may start with, besides those of records."""


def place_of(store: Store, text: str) -> Place:
    """The place that a path names. Raises UsageError for a path of nothing."""
    path = Path(text)
    name = path.name
    if name in _KINDS and (path.instance is None or name == _PARAMS):
        place: Place = _KINDS[name](store, path)
        return place
    layer, number = _numbers_of(path)
    if layer == CONTEXT:
        return _OfContext(store, path, number)
    if (layer, number) == (LIBXL, streams.LIBXL_EMULATOR_CONTEXT):
        return _InEmulator(store, path, *store.image.emulator_type)
    return _OfStream(store, path, layer, number)


def _numbers_of(path: Path) -> tuple[str, int]:
    """Layer and type of the record that a path starts with."""
    layer, colon, text = path.name.lower().partition(":")
    if colon:
        number = _index(text)
        if layer not in (*streams.RECORDS, CONTEXT) or number is None:
            raise UsageError(f"{path.text}: expected libxc, libxl, xapi or context, and a number")
        return layer, number
    for of, names in streams.RECORDS.items():
        for number, known in names.items():
            if known == path.name and known != "END":
                return of, number
    with suppress(UsageError):
        return CONTEXT, by_name(path.name).typecode
    known_types = [known.name for known in record_types()]
    of_streams = (name for names in streams.RECORDS.values() for name in names.values())
    guess = did_you_mean(path.name, [*known_types, *_KINDS, *of_streams])
    expected = guess or f"; expected a path, such as CPU/0.rip, or {', '.join(known_types)}"
    raise UsageError(f"{path.text}: unknown record type {path.name!r}{expected}")
