"""Pictures in SVG for the site: how bytes are laid out, and what leads to what. They are drawn when
the site is built, from the declarations that the code runs on, and from the diagrams in pages."""

from __future__ import annotations

import re
from html import escape
from importlib import import_module
from typing import NamedTuple

from hvmctx.abi.fields import Field, Layout
from hvmctx.abi.streams import HEADERS, MAGICS, Flat
from hvmctx.stream.body import Body, BodyType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_BYTE, _ROW, _LEFT, _IN_ROW = 42, 30, 60, 16
_LETTER = 6.7
"""Pixels: of a byte's width, a row's height, the offsets at the left, and a letter."""


class Cell(NamedTuple):
    """Bytes of a layout under one name; `size` is None where a length says how many there are."""

    name: str
    size: int | None
    reserved: bool = False


def cells_of(declared: object) -> list[Cell]:
    """Of what is declared somewhere: a structure, a header, or the body of a record."""
    if isinstance(declared, type) and issubclass(declared, Body):
        declared = declared.TYPE
    if isinstance(declared, BodyType):
        rest = [Cell(_counted(each.name, each.count), None) for each in declared.rest]
        return [*cells_of(declared.head), *rest]
    if isinstance(declared, Flat):
        layers = [layer for (layer, _), flat in HEADERS.items() if flat is declared]
        magics = [Cell("magic", len(MAGICS[layer])) for layer in layers if layer in MAGICS]
        return [*magics, *cells_of(declared.structure)]
    return list(_merged(Layout.of(declared).fields))


def _counted(name: str, count: str) -> str:
    return f"{name}, {count} of them" if count else name


def _merged(fields: Iterable[Field]) -> Iterator[Cell]:
    """A cell for each unit of bit fields, whose names it has."""
    unit: list[Field] = []
    for field in (*fields, None):
        if unit and (field is None or field.offset != unit[0].offset):
            names = " ".join(each.name for each in unit)
            yield Cell(names, unit[0].size, all(each.is_reserved for each in unit))
            unit = []
        if field is None or field.alternate:
            continue
        if field.is_bits:
            unit.append(field)
        else:
            array = "" if field.count is None or field.is_bytes else f"[{field.count}]"
            yield Cell(field.name + array, field.size, field.is_reserved)


def layout(declared: object, title: str) -> str:
    """Boxes in rows of 16 bytes, offsets at their left. What fills many rows has one for all."""
    boxes: list[str] = []
    at = row = 0
    for number, cell in enumerate(cells_of(declared)):
        left, pieces = cell.size, list[tuple[int, int, str]]()
        while left is None or left > 0:
            column = at % _IN_ROW
            width = _IN_ROW - column if left is None else min(left, _IN_ROW - column)
            whole = 0 if column or left is None else left // _IN_ROW
            note = ""
            if whole > 2:
                width, note = _IN_ROW, f" ({left} bytes)"
            pieces.append((row, width, note))
            boxes.append(_box(row, column, width, cell, number))
            if column == 0 and (left is None or width):
                boxes.append(_offset(row, at))
            step = whole * _IN_ROW if whole > 2 else width
            at += step
            row += (column + width) // _IN_ROW
            if left is None:
                break
            left -= step
        boxes.append(_name(pieces, at, cell))
    height = (row + (at % _IN_ROW > 0)) * _ROW
    return _svg(_LEFT + _IN_ROW * _BYTE + 2, height + 2, "".join(boxes), title)


def _box(row: int, column: int, width: int, cell: Cell, number: int) -> str:
    kind = "reserved" if cell.reserved else "open" if cell.size is None else f"kind{number % 2}"
    return (
        f'<rect class="{kind}" x="{_LEFT + column * _BYTE}" y="{row * _ROW + 1}" '
        f'width="{width * _BYTE}" height="{_ROW}"/>'
    )


def _offset(row: int, at: int) -> str:
    return f'<text class="offset" x="{_LEFT - 8}" y="{row * _ROW + 20}">{at:#x}</text>'


def _name(pieces: list[tuple[int, int, str]], end: int, cell: Cell) -> str:
    """In the widest piece; shortened where it is too narrow."""
    if not pieces:
        return ""
    row, width, note = max(pieces, key=lambda piece: piece[1])
    first = pieces[0]
    column = (_IN_ROW - first[1]) if (row, len(pieces) > 1) == (first[0], True) else 0
    if len(pieces) == 1:
        column = (end - width) % _IN_ROW if cell.size is not None and not note else 0
        if cell.size is None:
            column = _IN_ROW - width
    text = cell.name + note
    room = int(width * _BYTE / _LETTER)
    shown = text if len(text) <= room else f"{text[: max(1, room - 1)]}…"
    x = _LEFT + (column + width / 2) * _BYTE
    return (
        f'<text x="{x:g}" y="{row * _ROW + 20}"><title>{escape(text)}</title>{escape(shown)}</text>'
    )


def _svg(width: float, height: float, inside: str, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img" '
        f'aria-label="{escape(title)}" xmlns="http://www.w3.org/2000/svg">{inside}</svg>'
    )


class Edge(NamedTuple):
    """Where something leads, and by what."""

    source: str
    target: str
    words: str = ""


_WIDE, _TITLE, _LINE, _GAP, _LANE = 380, 28, 21, 22, 13


def flow(names: dict[str, str], edges: list[Edge], title: str) -> str:
    """Boxes from top to bottom, each with a line for every edge that leaves it, and wires at
    their right. `names` are what is in the boxes, by id."""
    places: dict[str, int] = {}
    boxes, wires, y = [], [], 1
    for each, name in names.items():
        leaving = [edge for edge in edges if edge.source == each and edge.words]
        lines = _wrapped(name)
        head = _TITLE + _LINE * (len(lines) - 1)
        places[each] = y + head // 2
        boxes.append(
            f'<rect class="state" x="1" y="{y}" width="{_WIDE}" '
            f'height="{head + _LINE * len(leaving)}" rx="5"/>'
        )
        for number, line in enumerate(lines):
            boxes.append(f'<text class="name" x="12" y="{y + 19 + number * _LINE}">{line}</text>')
        for number, edge in enumerate(leaving):
            at = y + head + number * _LINE + _LINE // 2
            boxes.append(f'<text class="edge" x="24" y="{at + 4}">{escape(edge.words)}</text>')
            wires.append((at, edge.target))
        y += head + _LINE * len(leaving) + _GAP
    order = list(names)
    for edge in edges:
        if edge.words or edge.source not in places or edge.target not in places:
            continue
        if order.index(edge.target) == order.index(edge.source) + 1:
            below = boxes_top(places, names, edge.target)
            boxes.append(f'<path class="wire" d="M{_WIDE / 2} {below - _GAP}V{below - 2}"/>')
            boxes.append(_head_down(below))
        else:
            wires.append((places[edge.source], edge.target))
    lanes, drawn = _lanes([(at, places[target]) for at, target in wires])
    width = _WIDE + 16 + _LANE * (lanes + 1)
    return _svg(width, y - _GAP + 2, "".join([*boxes, *drawn]), title)


def boxes_top(places: dict[str, int], names: dict[str, str], each: str) -> int:
    lines = len(_wrapped(names[each]))
    return places[each] - (_TITLE + _LINE * (lines - 1)) // 2


def _head_down(y: int) -> str:
    return f'<path class="head" d="M{_WIDE / 2 - 4} {y - 7}h8l-4 7z"/>'


def _wrapped(name: str) -> list[str]:
    lines, room = [""], int((_WIDE - 24) / _LETTER)
    for word in name.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > room:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return [escape(line) for line in lines]


def _lanes(wires: list[tuple[int, int]]) -> tuple[int, list[str]]:
    """Each wire in the first lane that is free where it runs; short ones first."""
    taken: list[list[tuple[int, int]]] = []
    drawn = []
    for start, end in sorted(wires, key=lambda wire: abs(wire[0] - wire[1])):
        low, high = min(start, end) - 3, max(start, end) + 3
        number = next((n for n, lane in enumerate(taken) if _is_free(lane, low, high)), len(taken))
        taken[number:] = taken[number:] or [[]]
        taken[number].append((low, high))
        x = _WIDE + 16 + _LANE * number
        drawn.append(f'<path class="wire" d="M{_WIDE + 1} {start}H{x}V{end}H{_WIDE + 8}"/>')
        drawn.append(f'<path class="head" d="M{_WIDE + 9} {end - 4}v8l-8 -4z"/>')
    return len(taken), drawn


def _is_free(lane: list[tuple[int, int]], low: int, high: int) -> bool:
    return all(high < other_low or low > other_high for other_low, other_high in lane)


_EDGE = re.compile(
    r"^\s*(\S+?)(?:\[\"(.*?)\"\])? (?:-->|---) (\S+?)(?:\[\"(.*?)\"\])?(?: : (.*))?$"
)
_STATE = re.compile(r'^\s*state "(.*)" as (\S+)$')
_NODE = re.compile(r'^\s*(\S+?)\["(.*?)"\]$')
_BOTH_ENDS = "[*]"


def of_diagram(text: str, title: str) -> str:
    """A Mermaid diagram, as far as these pages have some: `stateDiagram-v2`, `flowchart TD`."""
    names: dict[str, str] = {}
    edges = []
    for line in text.splitlines()[1:]:
        if edge := _EDGE.match(line):
            source, source_name, target, target_name, words = edge.groups()
            for each, name in ((source, source_name), (target, target_name)):
                if each != _BOTH_ENDS:
                    names[each] = name or names.get(each, each)
            if source != _BOTH_ENDS:
                edges.append(Edge(source, "end" if target == _BOTH_ENDS else target, words or ""))
        elif node := _NODE.match(line):
            names[node[1]] = node[2]
        elif state := _STATE.match(line):
            names[state[2]] = state[1]
    if any(edge.target == "end" for edge in edges):
        names["end"] = "the end"
    return flow(names, edges, title)


def declared_at(path: str) -> object:
    """What `module:name` declares, below hvmctx."""
    module, _, name = path.partition(":")
    return getattr(import_module(f"hvmctx.{module}"), name)
