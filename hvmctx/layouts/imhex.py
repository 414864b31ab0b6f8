"""What is declared, as a pattern for the hex editor ImHex (.hexpat): `text`.

The whole of an image is described from its first byte, as in `layouts.kaitai`: a type for each
state of `stream.grammar`, and what follows a state is a member of it, of that state's name. A body
is taken apart where its length allows it, else it is bytes.
"""

from __future__ import annotations

from hvmctx.abi import streams, vmport, x86
from hvmctx.abi.declare import VMPORT_TYPECODE
from hvmctx.abi.fields import Layout
from hvmctx.abi.streams import XL
from hvmctx.layouts.conditions import (
    CONTEXT,
    in_c,
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
    from collections.abc import Iterator

    from hvmctx.abi.fields import Field
    from hvmctx.abi.releases import Release
    from hvmctx.layouts.declarations import Saved, Shape
    from hvmctx.stream.body import BodyType
    from hvmctx.stream.grammar import State

__all__ = ["text"]

_TYPES = {"B": "u8", "H": "u16", "I": "u32", "Q": "u64", "b": "s8", "h": "s16", "i": "s32",
          "q": "s64"}  # fmt: skip
_HEAD = """\
#pragma author hvmctx
#pragma description What Xen saves of a guest: images, streams, HVM contexts
#pragma MIME application/x-xen-save
#pragma endian little
#pragma eval_depth 256
#pragma array_limit 0x1000000
#pragma pattern_limit 0x10000000

// Images as xl, libvirt, XenServer and XCP-ng save them, libxl and libxc streams, and bare HVM
// contexts; not compressed. Made by hvmctx {version} (hvmctx schema --imhex) out of its
// declarations{of}. MIT licence.
"""


def text(release: Release | None = None) -> str:
    """The pattern, of one release or of all, and of the VMPORT profile in use."""
    return "".join(_pieces(Declarations(release)))


def _pieces(declared: Declarations) -> Iterator[str]:
    of = f", save records as Xen {declared.release} has them" if declared.release else ""
    yield _HEAD.format(version=__version__, of=of)
    numbers = constants()
    yield from _names("save_type", numbers["save_type"], declared.descriptor)
    for layer, shape in declared.record_headers.items():
        yield from _names(f"{layer}_type", numbers[f"{layer}_type"], shape)
    yield from _entries()
    for shape in declared.shapes:
        rest: list[str] = []
        if shape in declared.saved_of:
            rest = list(_rest_of_saved(declared.saved_of[shape]))
        elif shape is declared.compat:
            rest = [_REST]
        elif shape in declared.body_of:
            rest = list(_rest(declared.body_of[shape], declared))
        yield from _structure(shape, declared, rest, saved=shape in declared.saved_of)
    for body, head in declared.bodies.values():
        if head is None:
            lines = "".join(f"    {line}\n" for line in (_BODY_END, *_rest(body, declared)))
            yield f"\nstruct {body_name(body)} {{\n{lines}}};\n"
    yield from _save_record(declared)
    yield _CONTEXT
    for layer in declared.record_headers:
        yield from _stream_record(layer, declared)
    yield _XL_DATA
    states = [state for state in STATES.values() if state.rows]
    yield "\n" + "".join(f"using {state_type(state.name)};\n" for state in states)
    for state in states:
        yield from _state(state, declared)
    yield from _start()


def _names(name: str, numbers: dict[int, str], head: Shape) -> Iterator[str]:
    """The names of the numbers that the first field of a record's head has."""
    kind = _TYPES[code_of(head.fields[0])]
    words = ", ".join(f"{identifier(named).upper()} = {at:#x}" for at, named in numbers.items())
    yield f"\nenum {name} : {kind} {{\n    {words}\n}};\n"


def _named(name: str, head: str, field: str) -> str:
    """A member of a record that shows that name, where the number is."""
    return f"{name} name @ addressof({head}.{field});\n"


# structures


_BODY_END = "u64 end = $ + parent.header.length;"
_SAVED_END = "u64 begin = $; u64 end = $ + parent.descriptor.length;"
_REST = "if ($ < end) u8 rest[end - $];"


def _structure(
    shape: Shape, declared: Declarations, rest: list[str], *, saved: bool
) -> Iterator[str]:
    if not shape.size:
        return
    lines: list[str] = []
    before: list[str] = []
    bits: list[Field] = []
    for first, others in shape.members():
        if bits and (not first.is_bits or first.offset != bits[0].offset):
            lines.append(_bit_field(shape, bits, before))
            bits = []
        if first.is_bits:
            bits.append(first)
            continue
        line = _member(first, shape, declared)
        if others and not shape.is_union:
            name = f"{shape.name}_{identifier(first.name)}"
            other = [_bit_field(shape, fields, before) for fields in others if fields[0].is_bits]
            if other:
                lines_of = "".join(f"    {one}\n" for one in (line, *other))
                before.append(f"union {name} {{\n{lines_of}}};\n")
                line = f"{name} {identifier(first.name)}_bits [[inline]];"
        elif others:
            line += "".join(f"\n    {_member(one, shape, declared)}" for (one,) in others)
        end = first.offset + first.size
        lines.append(f"if (end - begin >= {end}) {line}" if end > shape.least else line)
    if bits:
        lines.append(_bit_field(shape, bits, before))
    if shape.padding and not shape.is_union:
        lines.append(f"padding[{shape.padding}];")
    if rest:
        lines = [_SAVED_END if saved or shape is declared.compat else _BODY_END, *lines, *rest]
    yield "\n" + "".join(before)
    if shape.words:
        yield from _comment(shape.words)
    kind = "union" if shape.is_union else "struct"
    yield f"{kind} {shape.name} {{\n" + "".join(f"    {line}\n" for line in lines) + "};\n"


def _comment(words: str) -> Iterator[str]:
    from textwrap import wrap

    yield from (f"// {line}\n" for line in wrap(words, 96))


def _bit_field(shape: Shape, fields: list[Field], before: list[str]) -> str:
    """Declares a type of bits, and returns the member that shows them where they are."""
    name = f"{shape.name}_bits_{fields[0].offset}"
    lines = "".join(f"    {identifier(field.name)} : {field.width};\n" for field in fields)
    before.append(f"bitfield {name} {{\n{lines}}};\n")
    return f"{name} bits_{fields[0].offset} [[inline]];"


def _member(field: Field, shape: Shape, declared: Declarations) -> str:
    code = code_of(field)
    kind = _TYPES[code] if code else declared.shape_of(field.element).name
    if shape.big_endian:
        kind = f"be {kind}"
    many = "" if field.count is None else f"[{field.count}]"
    return f"{kind} {identifier(field.name)}{many};"


def _rest_of_saved(saved: Saved) -> Iterator[str]:
    if saved.kind.typecode == VMPORT_TYPECODE:
        yield from _packed_data()
    elif saved.kind.rest is not None:
        name, size = saved.kind.rest[0], saved.element.size if saved.element else 1
        kind = saved.element.name if saved.element else "u8"
        yield _as_many(name, kind, size)
    yield _REST


def _as_many(name: str, kind: str, size: int, count: str = "") -> str:
    many = count or (f"(end - $) / {size}" if size > 1 else "end - $")
    return f"if ({many} > 0) {kind} {identifier(name)}[{many}];"


def _rest(body: BodyType, declared: Declarations) -> Iterator[str]:
    for part in body.rest:
        if isinstance(part, Rows):
            row = declared.shape_of(part.row.structure)
            yield _as_many(part.name, row.name, row.size, part.count)
        elif isinstance(part, Words):
            yield _as_many(part.name, "u64", part.element, part.count)
        elif isinstance(part, Strings):
            yield f"string_pair {part.name}[while($ < end)];"
        else:
            yield _as_many(part.name, "u8", 1)
            return
    if body.rest:
        yield _REST


# VMPORT


def _entries() -> Iterator[str]:
    """Types of what is in a body besides structures."""
    yield "\nstruct string_pair {\n    char key[];\n    char value[];\n};\n"
    for name, head in ENTRY_HEADS.items():
        kinds = [_TYPES[code] for code in head.format.lstrip("<")]
        yield (
            f"\nstruct {name} {{\n    {kinds[0]} key_len;\n    {kinds[1]} val_len;\n"
            "    if (key_len > 0) char key[key_len];\n"
            "    if (key_len > 0 && val_len > 0) char val[val_len];\n};\n"
        )


def _packed_data() -> Iterator[str]:
    """What is after the fixed part: each buffer by itself, as much of it as is there."""
    profile = vmport.used()
    paths = {slot.offset: slot.path for slot in Layout.of(profile.packed).slots()}
    for place in profile.buffers:
        length = paths[place.offset]
        name = identifier(f"chans_{place.channel}_{place.name}")
        many = f"{length} < end - $ ? {length} : end - $"
        yield f"if ({length} > 0 && $ < end) u8 {name}[{many}];"
    for kind, name in (("vmport_entry", "guestinfo"), ("vmport_jumbo_entry", "guestinfo_jumbo")):
        yield f"if (used_{name} > 0 && $ < end) {kind} {name}[used_{name}];"


# records


def _save_record(declared: Declarations) -> Iterator[str]:
    yield f"\nstruct save_record {{\n    {declared.descriptor.name} descriptor;\n"
    yield f"    {_named('save_type', 'descriptor', 'typecode')}"
    yield from _body(of_saved(declared), "descriptor.length")
    yield f"    if (descriptor.typecode == {x86.END.typecode}) break;\n}};\n"


def _body(cases: list[tuple[str, str]], length: str) -> Iterator[str]:
    """The first type whose condition holds, else bytes."""
    word = "if"
    for condition, name in cases:
        kind = f"{CONTEXT}<$ + {length}>" if name == CONTEXT else name
        yield f"    {word} ({in_c(condition)}) {kind} body;\n"
        word = "else if"
    yield f"    {word} ({length} > 0) u8 body[{length}];\n"


_CONTEXT = """
struct hvm_context<auto end> {
    save_record records[while($ < end)];
    if ($ < end) u8 tail[end - $];
};
"""
_XL_DATA = """
struct xl_data<auto end> {
    if (end - $ >= 4) u32 length;
    if ($ < end && length > 0) char config[length < end - $ ? length : end - $];
    if ($ < end) u8 rest[end - $];
};
"""


def _stream_record(layer: str, declared: Declarations) -> Iterator[str]:
    align = streams.RECORD_ALIGNS[layer]
    yield f"\nstruct {layer}_record<auto state> {{\n"
    yield f"    {declared.record_headers[layer].name} header;\n"
    others = [
        (f"state == {_number_of(state)} and {condition}", name, other)
        for state in STATES.values()
        if state.layer == layer
        for condition, name, other in of_others(state)
    ]
    for condition, _, other in others:
        yield f"    if ({in_c(condition)}) {_named(f'{other}_type', 'header', 'type')}    else\n"
    yield f"    {_named(f'{layer}_type', 'header', 'type')}"
    before = [(condition, name) for condition, name, _ in others]
    yield from _body([*before, *of_bodies(declared, layer)], in_c(size_of_body(layer)))
    if align > 1:
        yield f"    padding[({align} - header.length % {align}) % {align}];\n"
    for state in STATES.values():
        if state.other is not None and state.layer == layer:
            leaves = in_c(" or ".join(leading(state, "").values()))
            yield f"    if (state == {_number_of(state)} && ({leaves})) break;\n"
    yield "};\n"


# the order of headers and records


def _number_of(state: State) -> int:
    return list(STATES).index(state.name)


def _state(state: State, declared: Declarations) -> Iterator[str]:
    yield f"\nstruct {state_type(state.name)} {{\n"
    if state.other is not None:
        yield f"    {state.layer}_record<{_number_of(state)}> records[while(true)];\n"
        yield "    u64 last = builtin::std::core::member_count(records) - 1;\n"
        for following, condition in leading(state, "records[last].").items():
            yield from _following(following, condition)
        yield "};\n"
        return
    layer, name = state.layer, str(state.rows[0].item)
    if layer in streams.MAGICS:
        yield f"    u8 magic[{len(streams.MAGICS[layer])}];\n"
    yield f"    {declared.headers[layer, name].name} header;\n"
    if layer in streams.DATA_LENGTHS:
        size = f"header.{streams.DATA_LENGTHS[layer]}"
        kind = f"xl_data<$ + {size}> data" if layer == XL else f"char data[{size}]"
        yield f"    if ({size} > 0) {kind};\n"
    for following, condition in of_header(state).items():
        yield from _following(following, condition)
    yield "};\n"


def _following(name: str, condition: str) -> Iterator[str]:
    if name == END:
        return
    tests = [f"({in_c(condition)})"] if condition else []
    kind, many = state_type(name), ""
    if not STATES[name].rows:
        left = "builtin::std::mem::size() - $"
        kind, many = "u8", f"[{left}]"
        tests.append(f"{left} > 0")
    only = f"if ({' && '.join(tests)}) " if tests else ""
    yield f"    {only}{kind} {identifier(name)}{many};\n"


def _start() -> Iterator[str]:
    """Which layer it starts with is told by eight bytes; a context has none of its own."""
    yield "\nstruct image {\n    u64 size = builtin::std::mem::size();\n    u64 first = 0;\n"
    yield "    if (size >= 8) first = builtin::std::mem::read_unsigned(0, 8, 1);\n"
    word = "if"
    for layer, magic in MAGICS.items():
        first, start = FIRST[layer], int.from_bytes(magic[:8], "big")
        yield f"    {word} (first == {start:#x}) {state_type(first)} {identifier(first)};\n"
        word = "else if"
    yield "    else if (size > 0) hvm_context<size> context;\n};\n\nimage image @ 0;\n"
