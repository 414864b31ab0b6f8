#!/usr/bin/env python3
"""docs/formats/streams.md, out of the declared headers and bodies and the table of the
grammar: `tools/formats_doc.py > docs/formats/streams.md`."""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

from hvmctx.abi import streams
from hvmctx.abi.streams import LIBXC, LIBXL, XL, Flat
from hvmctx.stream import libxc, libxl
from hvmctx.stream.body import BODIES, BodyType, Bytes, Chars, Rows, Strings, Words
from hvmctx.stream.grammar import END, FIRST, STATES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENT = "docs/formats/streams.md"
HEAD = """\
# Streams: headers, records, and their order

The file of `xl save`, the libxl v2 stream in it, and the libxc stream (version 2 or 3) in
that, as Xen 4.6 and later write them. Made by tools/formats_doc.py from what the code runs on:
the table in `hvmctx/stream/grammar.py`, the headers in `hvmctx/abi/streams.py`, the bodies in
`hvmctx/stream/libxl.py` and `hvmctx/stream/libxc.py`.
"""
ORDER = """
## Order

The reader and the writer are in one of these states; each arrow is a header or record that
takes them to the next. "Any other" includes types that no specification has: what a restore
refuses is for the rules (docs/rules.md), not for the reader.

An xl file starts at `xl header`, a libxl stream at `libxl header`. Between checkpoints, the
number of CHECKPOINT_STATE is also that of libxc's X86_PV_VCPU_EXTENDED: a body of 4 bytes makes
it libxl's.
"""
ALONE = """
A libxc stream may also stand alone. Its checkpoints hand over to nobody.
"""
RECORDS = """
## Records

After its header, a record of either layer has `length` bytes of body, and zeros up to a
multiple of 8. Bit 31 of a type marks an optional record, which a libxc reader that does not
know it ignores. A body has the fields of its head, without padding, and what the last column
says. All numbers are little-endian.
"""
_WHAT_FOLLOWS = {
    Bytes: "bytes",
    Chars: "text",
    Words: "u64s",
    Strings: "pairs of strings that end in a NUL",
}


def order(starts: list[str]) -> Iterator[str]:
    """A state diagram (Mermaid) of the states that can be reached from these."""
    names = _reached(starts)
    yield "```mermaid"
    yield "stateDiagram-v2"
    yield from (f'    state "{name}" as {_id(name)}' for name in names if name != END)
    yield from (f"    [*] --> {_id(name)}" for name in starts)
    for name in names:
        for row in STATES[name].rows:
            yield f"    {_id(name)} --> {_id(row.following)} : {row}"
    yield "```"


def _id(state: str) -> str:
    return "[*]" if state == END else state.replace(" ", "_")


def _reached(starts: list[str]) -> list[str]:
    names = dict.fromkeys(starts)
    todo = list(starts)
    while todo:
        found = [row.following for row in STATES[todo.pop(0)].rows if row.following not in names]
        names.update(dict.fromkeys(found))
        todo += dict.fromkeys(found)
    return list(names)


def _widths(flat: Flat) -> str:
    sizes = [getattr(flat.structure, name).size for name in flat.names]
    kinds = [f"u{8 * size}" if size <= 8 else f"{size} bytes" for size in sizes]
    return ", ".join(f"{kind} {name}" for kind, name in zip(kinds, flat.names))


def headers() -> Iterator[str]:
    """The headers, each with its fields."""
    yield "## Headers\n"
    yield "| header | bytes | order | fields |"
    yield "|---|---|---|---|"
    for (layer, name), flat in streams.HEADERS.items():
        what = f"{layer} {name}" if layer not in name and name == "header" else name
        order = "big-endian" if flat.big_endian else "little-endian"
        magic = f"{len(streams.XL_MAGIC)} bytes magic, " if layer == XL else ""
        size = flat.size + (len(streams.XL_MAGIC) if layer == XL else 0)
        yield f"| {what} | {size} | {order} | {magic}{_widths(flat)} |"
    flat = streams.RECORD_HEADER
    yield f"| record header | {flat.size} | little-endian | {_widths(flat)} |"


def records(layer: str) -> Iterator[str]:
    """The record types of a layer and their bodies."""
    yield f"\n### {layer}\n"
    yield "| type | name | head | what follows |"
    yield "|---|---|---|---|"
    for number, name in streams.RECORDS[layer].items():
        known = BODIES.get((layer, number))
        cells = body(known) if known else (SPECIAL.get((layer, name), "empty"), "")
        yield f"| {number:#04x} | {name} | {cells[0]} | {cells[1]} |"


SPECIAL = {
    (LIBXL, "LIBXC_CONTEXT"): "empty; the libxc stream comes next",
    (LIBXC, "HVM_CONTEXT"): "an HVM save context, which has records of its own",
    (LIBXC, "TOOLSTACK"): "of drafts only",
}


def body(declared: BodyType) -> tuple[str, str]:
    parts = []
    for rest in declared.rest:
        what = _WHAT_FOLLOWS.get(type(rest), "")
        if isinstance(rest, Rows):
            what = f"rows of {_widths(rest.row)}"
        counted = f", {rest.count} of them" if rest.count else ""
        least = f", {rest.least} at least" if rest.least else ""
        parts.append(f"{rest.name}: {what}{counted}{least}")
    return _widths(declared.head) or "none", "; ".join(parts)


def document() -> str:
    """The whole page."""
    assert libxc and libxl  # which have declared the bodies
    wrapped, alone = [FIRST[XL], FIRST[LIBXL]], [FIRST[LIBXC]]
    lines = [HEAD, *headers(), ORDER, *order(wrapped), ALONE, *order(alone), RECORDS.rstrip("\n")]
    lines += [*records(LIBXL), *records(LIBXC)]
    return "\n".join(lines) + "\n"


def files() -> dict[str, str]:
    """What `make generate` writes."""
    return {DOCUMENT: document()}


if __name__ == "__main__":
    sys.stdout.write(document())
