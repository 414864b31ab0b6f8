"""A C header of what is declared, for C11 and C++11, GCC and Clang: `text`.

Structures are packed, as all padding has a name of its own and bodies lie in a stream unaligned.
Every name starts with `hvmctx_` or `HVMCTX_`, so that the header can be used beside Xen's own. It
holds facts, in names that the field uses, and nothing of Xen's text.
"""

from __future__ import annotations

from hvmctx.abi.declare import VMPORT_TYPECODE
from hvmctx.layouts.declarations import MAGICS, Declarations, Shape, code_of, constants, identifier
from hvmctx.revision import __version__
from hvmctx.stream.body import Bytes, Chars, Rows, Strings, Words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvmctx.abi.fields import Field
    from hvmctx.abi.releases import Release
    from hvmctx.stream.body import Rest

__all__ = ["PREFIX", "text"]

PREFIX = "hvmctx_"
_TYPES = {"B": "uint8_t", "H": "uint16_t", "I": "uint32_t", "Q": "uint64_t", "b": "int8_t",
          "h": "int16_t", "i": "int32_t", "q": "int64_t"}  # fmt: skip
_WIDTH = 96
_HEAD = """\
/* What Xen saves of a guest: the records of HVM contexts, VMPORT's, and the headers and records of
 * the streams and files around them{of}.
 *
 * Made by hvmctx {version} (hvmctx schema --c) out of its declarations. MIT licence.
 *
 * All is little-endian but for the headers that say otherwise. Structures are packed: what pads
 * them is a member. A record's body may be shorter than its structure where an older release wrote
 * it (HVMCTX_LENGTH_...), and longer where the comment says what follows. */
#ifndef HVMCTX_H
#define HVMCTX_H

#include <stdint.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "these structures are those of a little-endian machine"
#endif

#if defined(__cplusplus)
#define HVMCTX_BYTES(type, size) static_assert(sizeof(type) == (size), #type)
#else
#define HVMCTX_BYTES(type, size) _Static_assert(sizeof(type) == (size), #type)
#endif
#if defined(__GNUC__)
#define HVMCTX_EXTENSION __extension__ /* structures without a name are not in C++ */
#else
#define HVMCTX_EXTENSION
#endif
"""


def text(release: Release | None = None) -> str:
    """The header, of one release or of all, and of the VMPORT profile in use."""
    return "".join(_pieces(Declarations(release)))


def _pieces(declared: Declarations) -> Iterator[str]:
    release = declared.release
    of = f",\n * as Xen {release} has the records" if release else ""
    yield _HEAD.format(of=of, version=__version__)
    yield "\n/* Numbers, and what files start with. */\n"
    for name, numbers in constants().items():
        yield "\n"
        for number, named in numbers.items():
            yield f"#define {_capitals(name)}_{_capitals(named, '')} {number:#x}u\n"
    yield "\n"
    for layer, magic in MAGICS.items():
        yield f'#define {_capitals(layer)}_MAGIC "{_escaped(magic)}" /* {len(magic)} bytes */\n'
    yield "\n/* Bytes of a save record's body, by the release since which they hold. */\n\n"
    for saved in declared.saved:
        for since, size in saved.lengths.items():
            known = _capitals(f"length_{saved.kind.name}")
            yield f"#define {known}_{identifier(since).upper()} {size}u\n"
    if declared.compat is not None:
        yield f"#define HVMCTX_LENGTH_CPU_COMPAT {declared.compat.size}u\n"
    yield "\n#pragma pack(push, 1)\n"
    after = dict(_after(declared))
    for shape in declared.shapes:
        yield from _structure(shape, declared, after.get(shape.name, ""))
    yield "\n#pragma pack(pop)\n\n#endif\n"


def _capitals(name: str, prefix: str = PREFIX) -> str:
    return (prefix + identifier(name)).upper()


def _escaped(data: bytes) -> str:
    """In octal, three digits each: a digit that follows is not part of the escape."""
    plain = "".join(map(chr, range(32, 127))).replace('"', "").replace("\\", "").replace("?", "")
    return "".join(chr(byte) if chr(byte) in plain else f"\\{byte:03o}" for byte in data)


def _comment(words: str, indent: str = "") -> str:
    """Lines of a comment; words that end one cannot be in it."""
    from textwrap import wrap

    lines = wrap(words.replace("*/", "* /"), _WIDTH - len(indent) - 6, break_on_hyphens=False)
    return f"{indent}/* " + f"\n{indent} * ".join(lines) + " */\n" if lines else ""


def _after(declared: Declarations) -> Iterator[tuple[str, str]]:
    """Of a shape what follows it in a body."""
    for saved in declared.saved:
        rest = saved.kind.rest if saved.kind.typecode != VMPORT_TYPECODE else None
        if rest is not None and saved.shape is not None:
            each = _name(saved.element) if saved.element else "uint8_t"
            many = "as many as the length has room for"
            yield saved.shape.name, f"Then {each} {rest[0]}[], {many}."
    for body, shape in declared.bodies.values():
        if shape is not None and body.rest:
            parts = ", ".join(_rest(part, declared) for part in body.rest)
            yield shape.name, f"Then {parts}."


def _rest(part: Rest, declared: Declarations) -> str:
    many = f", as many as {part.count} says" if part.count else ""
    if isinstance(part, Rows):
        return f"{_name(declared.shape_of(part.row.structure))} {part.name}[]{many}"
    if isinstance(part, Words):
        return f"uint64_t {part.name}[]{many}"
    if isinstance(part, Strings):
        return f"{part.name}: strings that end in a NUL each, a key and its value in turn"
    assert isinstance(part, Bytes)
    return f"{'char' if isinstance(part, Chars) else 'uint8_t'} {part.name}[]"


def _name(shape: Shape) -> str:
    return f"{'union' if shape.is_union else 'struct'} {PREFIX}{shape.name}"


def _structure(shape: Shape, declared: Declarations, after: str) -> Iterator[str]:
    order = "Big-endian." if shape.big_endian else ""
    if not shape.size:
        return
    yield "\n" + _comment(" ".join(filter(None, (shape.words, order, after))))
    yield f"{_name(shape)} {{\n"
    for first, others in shape.members():
        if not others or shape.is_union:
            yield from _declared([first], declared, "    ")
            for other in others:
                yield from _grouped(other, declared, "    ")
            continue
        yield "    HVMCTX_EXTENSION union {\n"
        yield from _declared([first], declared, " " * 8)
        for other in others:
            yield from _grouped(other, declared, " " * 8)
        yield "    };\n"
    if shape.padding and not shape.is_union:
        yield f"    uint8_t pad_end[{shape.padding}];\n"
    yield f"}};\nHVMCTX_BYTES({_name(shape)}, {shape.size});\n"


def _grouped(fields: list[Field], declared: Declarations, indent: str) -> Iterator[str]:
    """A member of a union: of several fields a structure without a name."""
    if len(fields) == 1:
        yield from _declared(fields, declared, indent)
        return
    yield f"{indent}HVMCTX_EXTENSION struct {{\n"
    yield from _declared(fields, declared, indent + "    ")
    yield f"{indent}}};\n"


def _declared(fields: list[Field], declared: Declarations, indent: str) -> Iterator[str]:
    for field in fields:
        kind = _TYPES.get(code_of(field)) or _name(declared.shape_of(field.element))
        many = "" if field.count is None else f"[{field.count}]"
        bits = f" : {field.width}" if field.is_bits else ""
        yield f"{indent}{kind} {identifier(field.name)}{many}{bits};\n"
