"""What a parser of somebody else's, made of what `layouts` writes, says of an input beside what we
say. It says it in objects whose attributes have the names of `layouts`: those of Kaitai Struct's
Python, or ImHex's JSON (`of_json`)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from itertools import zip_longest
from types import SimpleNamespace
from typing import Any

from hvmctx.abi import streams, x86
from hvmctx.abi.declare import VMPORT_TYPECODE
from hvmctx.abi.fields import Field, Layout
from hvmctx.abi.vmport import used
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.vmport import Parts, VmportState
from hvmctx.errors import FieldError
from hvmctx.image.image import open_image
from hvmctx.layouts.declarations import identifier
from hvmctx.stream.body import BODIES, BodyType, Chars, Rows, Strings
from hvmctx.stream.grammar import STATES
from hvmctx.stream.reader import Header, StreamRecord

_STATES = {identifier(name) for name in STATES}
_name = cache(identifier)


def of_json(plain: Any) -> Any:
    """An object of a JSON object, bit fields and unions within lifted to where they belong."""
    if isinstance(plain, list):
        return [of_json(one) for one in plain] if plain and isinstance(plain[0], dict) else plain
    if not isinstance(plain, dict):
        return plain
    members: dict[str, Any] = {}
    for name, value in plain.items():
        if re.fullmatch(r"bits_\d+|\w+_bits", name):
            members.update(vars(of_json(value)))
        else:
            members[name] = of_json(value)
    return SimpleNamespace(**members)


def number_of_values(whole: Any, data: bytes, layer: str | None = None) -> int:
    """Compare all that is said of an input: how many values were the same. Raises AssertionError
    where one is not."""
    with open_image(data, layer=layer) as image:
        if image.format == streams.CONTEXT:
            return same_context(whole.context, HvmContext.from_bytes(data, damaged=True))
        count = 0
        for ours, theirs in zip_longest(image.items(), _items(whole)):
            assert ours is not None and theirs is not None, (ours, theirs)
            if isinstance(ours, Header):
                count += _same_header(ours, theirs, data)
            else:
                count += _same_record(ours, theirs, data)
        return count


def _items(state: Any) -> Iterator[Any]:
    """States that have a header, and records, in the order of the input."""
    if hasattr(state, "header"):
        yield state
    yield from getattr(state, "records", ())
    for name, value in list(vars(state).items()):
        if name in _STATES and not isinstance(value, (bytes, list)):
            yield from _items(value)


def _same_header(ours: Header, theirs: Any, data: bytes) -> int:
    said = {name: getattr(theirs.header, name) for name in ours.fields}
    assert said == ours.fields
    if ours.layer == streams.LIBVIRT:
        assert _text(theirs.data) == data[ours.body_offset : ours.end]
    elif ours.length:
        assert theirs.data.length == int.from_bytes(data[ours.body_offset :][:4], "little")
        config = data[ours.body_offset + 4 : ours.end][: theirs.data.length]
        assert _text(theirs.data.config) == config
    return len(said) + 2


def _names_it(said: Any, name: str) -> bool:
    """Whether a record's name is that; of an unknown one it is a number."""
    text = said.name if hasattr(said, "name") else str(said)
    return text.rpartition(":")[2].lower() == identifier(name)


def _raw(said: Any) -> bytes | None:
    """The bytes of a body where they are said; ImHex has none beside the fields."""
    body = getattr(said, "body", b"")
    if isinstance(body, (bytes, list)):
        return bytes(body)
    return getattr(said, "_raw_body", None)


def _is_bytes(said: Any) -> bool:
    return isinstance(getattr(said, "body", b""), (bytes, list))


def _same_record(ours: StreamRecord, theirs: Any, data: bytes) -> int:
    assert (theirs.header.type, theirs.header.length) == (ours.type, ours.claimed)
    body = data[ours.body_offset : ours.body_end]
    assert _raw(theirs) in (None, body)
    name = getattr(theirs, f"name_in_{ours.layer}", None)  # of a record among another layer's
    assert not ours.known or _names_it(name or theirs.name, ours.name)
    if _is_bytes(theirs):
        return 3
    if (ours.layer, ours.type) == (streams.LIBXC, streams.LIBXC_HVM_CONTEXT):
        return 3 + same_context(theirs.body, HvmContext.from_bytes(body, damaged=True))
    return 3 + same_body(theirs.body, BODIES[ours.layer, ours.type], body)


def same_body(theirs: Any, kind: BodyType, body: bytes) -> int:
    """Of a stream record."""
    model = kind.model.from_bytes(body)
    count = 0
    for name in kind.fields:
        mine, said = getattr(model, name), getattr(theirs, name, [])
        part = next((part for part in kind.rest if part.name == name), None)
        if isinstance(part, Rows):
            mine = [tuple(row) for row in mine]
            said = [tuple(getattr(row, column) for column in part.row.names) for row in said]
        elif isinstance(part, Strings):
            strings = [(_text(pair.key), _text(pair.value)) for pair in said]
            said = [(key.rstrip(b"\0"), value.rstrip(b"\0")) for key, value in strings]
        elif isinstance(part, Chars) and isinstance(said, str):
            mine, said = bytes(mine), _text(said)
        elif not isinstance(mine, int):
            mine, said = list(mine), list(said)
        assert said == mine, (kind, name)
        count += len(mine) if isinstance(mine, list) else 1
    return count


def _text(said: Any) -> bytes:
    """Of ImHex's characters, too."""
    return said.encode() if isinstance(said, str) else bytes(said)


def same_context(theirs: Any, ours: HvmContext) -> int:
    """Of a context, with all its records."""
    count = 0
    records = list(getattr(theirs, "records", None) or ())
    assert len(records) == len(ours.entries)
    assert bytes(getattr(theirs, "tail", b"")) == ours.tail
    for mine, said in zip(ours.entries, records):
        descriptor = (said.descriptor.typecode, said.descriptor.instance, said.descriptor.length)
        assert descriptor == (mine.typecode, mine.instance, mine.length)
        raw = bytes(mine.body)
        assert _raw(said) in (None, raw)
        count += 4
        if mine.type is not None:
            assert _names_it(said.name, mine.name)
        if _is_bytes(said) or mine.type is None:
            continue
        if mine.typecode == VMPORT_TYPECODE:
            count += _same_vmport(said.body, raw)
        kind: Any = mine.type.struct
        if len(raw) == 1016 and mine.typecode == x86.CPU.typecode:
            kind = x86.hvm_hw_cpu_compat
        layout = Layout.of(kind)
        count += _same_fields(said.body, layout, raw, len(raw))
        if mine.type.rest is not None and mine.typecode != VMPORT_TYPECODE:
            count += _same_elements(said.body, mine.type.rest, raw[layout.size :])
    return count


def _same_elements(theirs: Any, rest: tuple[str, Any], raw: bytes) -> int:
    name, element = rest
    said = getattr(theirs, name, [])
    if not hasattr(element, "_fields_"):
        assert bytes(said) == raw
        return 1
    layout = Layout.of(element)
    assert len(said) == len(raw) // layout.size
    assert bytes(getattr(theirs, "rest", b"")) == raw[len(said) * layout.size :]
    return sum(
        _same_fields(one, layout, raw[at * layout.size :], layout.size)
        for at, one in enumerate(said)
    )


def _same_fields(theirs: Any, layout: Layout, raw: bytes, size: int) -> int:
    """What a structure says, alternates of unions among it, of the fields that are there."""
    count = 0
    for field in layout.fields:
        if field.alternate and field.is_reserved:
            continue
        said = getattr(theirs, _name(field.name), None)
        if field.offset + field.size > size:
            assert said is None
            continue
        if field.code:
            assert said is not None
            found = bytes(said) if field.is_bytes else said
            assert found == _value(field, raw), field.name
            count += 1
            continue
        inner = Layout.of(field.element)
        for at, one in enumerate([said] if field.count is None else said or ()):
            part = raw[field.offset + at * inner.size :]
            count += _same_fields(one, inner, part, inner.size)
    return count


def _value(field: Field, raw: bytes) -> Any:
    values = [slot.get(raw) for slot in field.slots()]
    return values[0] if field.count is None or field.is_bytes else values


def _same_vmport(theirs: Any, raw: bytes) -> int:
    parts, places = Parts(raw, used()), used().buffers
    try:
        VmportState.from_bytes(raw).to_bytes(strict=True)
    except FieldError:  # no writer's: what it means is up to its reader
        return 1
    if hasattr(theirs, "packed"):
        packed = theirs.packed
        said = [data for one in packed.buffers for data in (one.send, *one.recv, one.jumbo_recv)]
        assert theirs.packed_data == raw[used().fixed_size :]
    else:
        packed = theirs
        names = [identifier(f"chans_{place.channel}_{place.name}") for place in places]
        said = [bytes(getattr(theirs, name, b"")) for name in names]
    assert said == [raw[start : start + there] for start, there in parts.buffers]
    entries = [*getattr(packed, "guestinfo", ()), *getattr(packed, "guestinfo_jumbo", ())]
    pairs = [(_text(one.key), _text(getattr(one, "val", b""))) for one in entries if one.key_len]
    assert pairs == [(one.key, one.value) for one in parts.entries]
    assert bytes(getattr(packed, "rest", b"")) == raw[parts.end :]
    return len(said) + 2 * len(entries)
