"""What is declared, as a description for Kaitai Struct (.ksy), whose compiler makes parsers in a
dozen languages of it: `text`.

The whole of an image is described, from its first byte: the states of `stream.grammar` are types,
and what may follow a state is a field of it, of that state's name. A body is taken apart where its
length allows it, else it is bytes, as that of an unknown type is. Fields that an older release
does not write are absent where the body ends before them.
"""

from __future__ import annotations

import json
import re

from hvmctx.abi import streams, vmport, x86
from hvmctx.abi.declare import VMPORT_TYPECODE
from hvmctx.abi.fields import Layout
from hvmctx.abi.streams import XL
from hvmctx.layouts.conditions import (
    CONTEXT,
    leading,
    of_bodies,
    of_header,
    of_others,
    of_saved,
    size_of_body,
    state_type,
)
from hvmctx.layouts.declarations import (
    ENTRY_HEADS,
    MAGICS,
    Declarations,
    body_name,
    code_of,
    constants,
    identifier,
)
from hvmctx.revision import __version__
from hvmctx.stream.body import Rows, Strings, Words
from hvmctx.stream.grammar import END, FIRST, STATES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import TypeAlias

    from hvmctx.abi.fields import Field
    from hvmctx.abi.releases import Release
    from hvmctx.layouts.declarations import Saved, Shape
    from hvmctx.stream.body import BodyType
    from hvmctx.stream.grammar import State

    Plain: TypeAlias = "str | int | Sequence[Plain] | Mapping[str, Plain] | Mapping[int, Plain]"
    Entry: TypeAlias = "dict[str, Plain]"

__all__ = ["NAME", "text"]

NAME = "xen_save"
"""Of the description; a parser in Python would hide hvmctx itself, if it were called that."""
_TYPES = {"B": "u1", "H": "u2", "I": "u4", "Q": "u8", "b": "s1", "h": "s2", "i": "s4", "q": "s8"}
_REST: Entry = {"id": "rest", "size-eos": True}
_LEFT = "_io.size - _io.pos"


def text(release: Release | None = None) -> str:
    """The description, of one release or of all, and of the VMPORT profile in use."""
    declared = Declarations(release)
    of = f" Save records are those of Xen {release}." if release else ""
    whole: Entry = {
        "meta": {
            "id": NAME, "title": "What Xen saves of a guest", "license": "MIT",
            "ks-version": "0.11", "endian": "le", "bit-endian": "le",
        },
        "doc": "Images as xl, libvirt, XenServer and XCP-ng save them, libxl and libxc streams, "
        f"and bare HVM contexts; not compressed. Made by hvmctx {__version__} (hvmctx schema "
        f"--kaitai) out of its declarations.{of}",
        **_start(),
        "types": dict(_types(declared)),
        "enums": {
            name: {number: identifier(named) for number, named in numbers.items()}
            for name, numbers in constants().items()
        },
    }  # fmt: skip
    return "".join(_yaml(whole, ""))


def _start() -> Entry:
    """Which layer it starts with is told by the first bytes; a context has none of its own."""
    seq: list[Plain] = []
    instances: Entry = {}
    for layer, magic in MAGICS.items():
        first = FIRST[layer]
        at = f"start_of_{layer}"
        instances[at] = {"pos": 0, "size": len(magic), "if": f"_io.size >= {len(magic)}"}
        same = f"_io.size >= {len(magic)} and {at} == {list(magic)}"
        instances[f"is_{layer}"] = {"value": same}
        seq.append({"id": identifier(first), "type": state_type(first), "if": f"is_{layer}"})
    none = " and ".join(f"not is_{layer}" for layer in MAGICS)
    seq.append({"id": "context", "type": CONTEXT, "if": none})
    return {"seq": seq, "instances": instances}


def _types(declared: Declarations) -> Iterator[tuple[str, Entry]]:
    for state in STATES.values():
        if state.rows:
            yield state_type(state.name), _state(state, declared)
    yield "xl_data", _XL_DATA
    for layer in declared.record_headers:
        yield f"{layer}_record", _stream_record(layer, declared)
    for state in STATES.values():
        if others := of_others(state):
            yield _record_type(state), _stream_record(state.layer, declared, others)
    yield CONTEXT, _CONTEXT
    yield "save_record", _save_record(declared)
    for shape in declared.shapes:
        made = _structure(shape, declared)
        if shape in declared.saved_of:
            _add_rest_of_saved(made, declared.saved_of[shape])
        elif shape is declared.compat:
            _seq(made).append(_REST)
        elif shape in declared.body_of:
            _seq(made).extend(_rest(declared.body_of[shape], declared))
        yield shape.name, made
    for body, head in declared.bodies.values():
        if head is None:
            yield body_name(body), {"doc": _said(body), "seq": list(_rest(body, declared))}
    yield "string_pair", {"seq": [{"id": "key", "terminator": 0}, {"id": "value", "terminator": 0}]}
    if any(saved.kind.typecode == VMPORT_TYPECODE for saved in declared.saved):
        yield from _vmport(declared)


def _seq(made: Entry) -> list[Plain]:
    found = made["seq"]
    assert isinstance(found, list)
    return found


# the order of headers and records


def _state(state: State, declared: Declarations) -> Entry:
    if state.other is not None:
        return _record_state(state)
    layer, name = state.layer, str(state.rows[0].item)
    magic = streams.MAGICS.get(layer)
    seq: list[Plain] = [{"id": "magic", "contents": list(magic)}] if magic else []
    seq.append({"id": "header", "type": declared.headers[layer, name].name})
    if layer in streams.DATA_LENGTHS:
        data: Entry = {"id": "data", "size": f"header.{streams.DATA_LENGTHS[layer]}"}
        seq.append({**data, "type": "xl_data"} if layer == XL else data)
    for following, condition in of_header(state).items():
        seq += _following(following, condition)
    return {"seq": seq}


def _record_state(state: State) -> Entry:
    """Records that stay in the state, and the one that leaves it; what that leads to."""
    records: Entry = {
        "id": "records", "type": _record_type(state), "repeat": "until",
        "repeat-until": " or ".join(leading(state, "_.").values()),
    }  # fmt: skip
    seq: list[Plain] = [records]
    for following, condition in leading(state, "records.last.").items():
        seq += _following(following, condition)
    return {"seq": seq}


def _following(name: str, condition: str) -> list[Plain]:
    if name == END:
        return []
    known = {"type": state_type(name)} if STATES[name].rows else {"size-eos": True}
    return [{"id": identifier(name), **known, **({"if": condition} if condition else {})}]


# records


_XL_DATA: Entry = {
    "doc": "The configuration: JSON with a NUL at its end since Xen 4.5, text before.",
    "seq": [
        {"id": "length", "type": "u4", "if": "_io.size >= 4"},
        {"id": "config", "if": "_io.size >= 4",
         "size": f"length <= {_LEFT} ? length : {_LEFT}"},
        _REST,
    ],
}  # fmt: skip


def _record_type(state: State) -> str:
    """That of a layer, or one of the state's own, where not all are of one layer."""
    return f"{identifier(state.name) if of_others(state) else state.layer}_record"


def _stream_record(
    layer: str, declared: Declarations, others: list[tuple[str, str, str]] | None = None
) -> Entry:
    align = streams.RECORD_ALIGNS[layer]
    before = [(condition, name) for condition, name, _ in others or ()]
    kinds, kind = _kinds([*before, *of_bodies(declared, layer)])
    seq: list[Plain] = [
        {"id": "header", "type": declared.record_headers[layer].name},
        {"id": "body", "size": size_of_body(layer), "type": kinds},
    ]
    if align > 1:
        seq.append({"id": "padding", "size": f"({align} - header.length % {align}) % {align}"})
    instances: Entry = {"kind": kind, "name": {"value": "header.type", "enum": f"{layer}_type"}}
    for condition, _, other in others or ():
        named = {"value": "header.type", "enum": f"{other}_type", "if": condition}
        instances[f"name_in_{other}"] = named
    return {"seq": seq, "instances": instances}


_CONTEXT: Entry = {
    "doc": "Save records up to END; then what follows it, as a rule nothing.",
    "seq": [
        {"id": "records", "type": "save_record", "repeat": "until",
         "repeat-until": f"_.descriptor.typecode == {x86.END.typecode} or _io.eof",
         "if": "not _io.eof"},
        {"id": "tail", "size-eos": True},
    ],
}  # fmt: skip


def _save_record(declared: Declarations) -> Entry:
    kinds, kind = _kinds(of_saved(declared))
    return {
        "seq": [
            {"id": "descriptor", "type": declared.descriptor.name},
            {"id": "body", "size": "descriptor.length", "type": kinds},
        ],
        "instances": {"kind": kind, "name": {"value": "descriptor.typecode", "enum": "save_type"}},
    }


def _kinds(conditions: list[tuple[str, str]]) -> tuple[Entry, Entry]:
    """The type of a body by `kind`, and that: the number of the first condition that holds, -1
    for bytes."""
    cases = {number: name for number, (_, name) in enumerate(conditions)}
    value = "-1"
    for number, (condition, _) in reversed(list(enumerate(conditions))):
        value = f"({condition}) ? {number} : ({value})"
    return {"switch-on": "kind", "cases": cases}, {"value": value}


def _said(body: BodyType) -> str:
    return " ".join((body.model.__doc__ or "").split())


# structures


def _structure(shape: Shape, declared: Declarations) -> Entry:
    seq: list[Plain] = []
    instances: Entry = {}
    for first, others in shape.members():
        entry = _field(first, shape, declared)
        end = first.offset + first.size
        seq.append({**entry, "if": f"_io.size >= {end}"} if end > shape.least else entry)
        for other in (field for fields in others for field in fields if not field.is_reserved):
            entry = _field(other, shape, declared)
            name = str(entry.pop("id"))
            if other.is_bits:
                assert other.offset == first.offset and other.size == first.size
                mask = (1 << other.width) - 1
                unit = identifier(first.name)
                instances[name] = {"value": f"({unit} >> {other.shift}) & {mask:#x}"}
            else:
                assert shape.is_union  # which has bytes of its own
                instances[name] = {"pos": 0, **entry}
    if shape.padding and not shape.is_union:
        seq.append({"id": "pad_end", "size": shape.padding})
    made: Entry = {"doc": shape.words} if shape.words else {}
    made["seq"] = seq
    return {**made, "instances": instances} if instances else made


def _field(field: Field, shape: Shape, declared: Declarations) -> Entry:
    entry: Entry = {"id": identifier(field.name)}
    if field.is_bits:
        return {**entry, "type": f"b{field.width}"}
    if field.is_bytes:
        return {**entry, "size": field.size}
    if code := code_of(field):
        entry["type"] = _number(code, shape)
    else:
        element = declared.shape_of(field.element)
        entry["type"] = element.name
        if element.is_union:
            entry["size"] = element.size
    if field.count is not None:
        entry |= {"repeat": "expr", "repeat-expr": field.count}
    return entry


def _number(code: str, shape: Shape) -> str:
    kind = _TYPES[code]
    return f"{kind}be" if shape.big_endian and kind[1:] != "1" else kind


def _add_rest_of_saved(made: Entry, saved: Saved) -> None:
    seq = _seq(made)
    if saved.kind.typecode == VMPORT_TYPECODE:
        seq.append({"id": "packed_data", "size-eos": True})
        made["instances"] = {
            "packed": {"pos": saved.kind.size, "size-eos": True, "type": "vmport_packed_data"}
        }
        return
    if saved.element is not None and saved.kind.rest is not None:
        seq.append(_as_many(saved.kind.rest[0], saved.element.name, saved.element.size))
    elif saved.kind.rest is not None:
        seq.append({"id": identifier(saved.kind.rest[0]), "size-eos": True})
        return
    seq.append(_REST)


def _as_many(name: str, kind: str, size: int, count: str = "") -> Entry:
    """An array of as many as a count says, or as there is room for."""
    many = count or f"({_LEFT}) / {size}"
    return {"id": identifier(name), "type": kind, "repeat": "expr", "repeat-expr": many}


def _rest(body: BodyType, declared: Declarations) -> Iterator[Entry]:
    """What follows the head of a body, to its end."""
    for part in body.rest:
        if isinstance(part, Rows):
            row = declared.shape_of(part.row.structure)
            yield _as_many(part.name, row.name, row.size, part.count)
        elif isinstance(part, Words):
            yield _as_many(part.name, "u8", part.element, part.count)
        elif isinstance(part, Strings):
            yield {"id": part.name, "type": "string_pair", "repeat": "eos"}
        else:
            yield {"id": part.name, "size-eos": True}
            return
    if body.rest:
        yield _REST


# VMPORT


def _vmport(declared: Declarations) -> Iterator[tuple[str, Entry]]:
    """Its data after the fixed part: taken apart when they are asked for, as the lengths of a
    record that no writer has made may say anything."""
    profile = vmport.used()
    channel = declared.shape_of(Layout.of(profile.packed).fields[-1].element).name

    def clipped(length: str) -> str:
        return f"{length} <= {_LEFT} ? {length} : {_LEFT}"

    yield "vmport_packed_data", {
        "seq": [
            {"id": "buffers", "type": "vmport_buffers(_parent.chans[_index])", "repeat": "expr",
             "repeat-expr": profile.MAX_CHANS},
            {"id": "guestinfo", "type": "vmport_entry", "repeat": "expr",
             "repeat-expr": "_parent.used_guestinfo"},
            {"id": "guestinfo_jumbo", "type": "vmport_jumbo_entry", "repeat": "expr",
             "repeat-expr": "_parent.used_guestinfo_jumbo"},
            _REST,
        ],
    }  # fmt: skip
    bucket = "channel.recv_bkt[_index].recv_len"
    yield "vmport_buffers", {
        "doc": "What a channel has sent and received, as much of each as is there.",
        "params": [{"id": "channel", "type": channel}],
        "seq": [
            {"id": "send", "size": clipped("channel.send_len")},
            {"id": "recv", "size": clipped(bucket), "repeat": "expr",
             "repeat-expr": profile.MAX_BKTS},
            {"id": "jumbo_recv", "size": clipped("channel.jumbo_recv_bkt.recv_len")},
        ],
    }  # fmt: skip
    for name, head in ENTRY_HEADS.items():
        kinds = [_TYPES[code] for code in head.format.lstrip("<")]
        yield (
            name,
            {
                "doc": "Of one without a key the loader takes no more than its lengths.",
                "seq": [
                    {"id": "key_len", "type": kinds[0]},
                    {"id": "val_len", "type": kinds[1]},
                    {"id": "key", "size": "key_len"},
                    {"id": "val", "size": "key_len == 0 ? 0 : val_len"},
                ],
            },
        )


# YAML


_PLAIN = re.compile(r"(?!(?:true|false|null|yes|no|on|off|y|n)$)[a-z]\w*")


def _yaml(value: Plain, indent: str) -> Iterator[str]:
    """Lines of a mapping or a list of mappings."""
    if isinstance(value, dict):
        for key, inner in value.items():
            name = f"{key:#x}" if isinstance(key, int) else key
            if isinstance(inner, (dict, list)) and not _is_numbers(inner):
                yield f"{indent}{name}:\n"
                yield from _yaml(inner, indent + "  ")
            else:
                yield f"{indent}{name}: {_scalar(inner)}\n"
        return
    assert isinstance(value, list)
    for one in value:
        lines = list(_yaml(one, indent + "  "))
        yield f"{indent}- {lines[0].lstrip()}"
        yield from lines[1:]


def _is_numbers(value: Plain) -> bool:
    return isinstance(value, list) and all(isinstance(one, int) for one in value)


def _scalar(value: Plain) -> str:
    """JSON is YAML; names need no quotes."""
    if isinstance(value, str) and _PLAIN.fullmatch(value):
        return value
    return json.dumps(value)
