"""Bytes in hex, each with the field that it belongs to: the lines of `hvmctx hexdump`."""

from __future__ import annotations

from hvmctx.messages import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    Reader = Callable[[int, int], bytes | memoryview]
    """Gives bytes by offset and count."""
    Part = tuple[int, int, str]
    """Offset and length of bytes, and what they are."""

__all__ = ["changed_lines", "lines"]

_WIDTH = 16
_PLAIN, _FIRST, _SECOND, _OLD, _NEW = "\x1b[0m", "\x1b[36m", "\x1b[33m", "\x1b[31m", "\x1b[32m"


def lines(
    read: Reader, base: int, parts: Iterable[Part], *, color: bool = False, most: int | None = None
) -> Iterator[str]:
    """A line for 16 bytes of a part at most: offset in the input, offset from `base`, the bytes,
    what they are. Neighbours differ in colour. Of a part longer than `most` bytes the rest is
    counted."""
    for number, (offset, length, name) in enumerate(parts):
        shown = length if most is None else min(length, most)
        for at in range(0, shown, _WIDTH):
            data = read(offset + at, min(_WIDTH, shown - at))
            text = data.hex(" ").ljust(3 * _WIDTH - 1)
            if color:
                text = f"{(_FIRST, _SECOND)[number % 2]}{text}{_PLAIN}"
            yield _line(offset + at, base, text, "" if at else name)
        if shown < length:
            yield f"{'':23}... {length - shown} more bytes\n"


def changed_lines(
    reads: Sequence[Reader], bases: Sequence[int], parts: Iterable[Part], *, color: bool = False
) -> Iterator[str]:
    """Of two inputs the lines that differ, the first's after `-`, the second's after `+`; the
    offsets of the parts are the first's. Bytes that differ are in colour, or marked below."""
    for offset, length, name in parts:
        for at in range(0, length, _WIDTH):
            size = min(_WIDTH, length - at)
            places = offset + at, offset + at - bases[0] + bases[1]
            pair = [bytes(read(place, size)) for read, place in zip(reads, places)]
            if pair[0] == pair[1]:
                continue
            differs = [pair[0][i : i + 1] != pair[1][i : i + 1] for i in range(size)]
            for sign, tint, data, place, base in zip("-+", (_OLD, _NEW), pair, places, bases):
                digits = [f"{byte:02x}" for byte in data] + ["  "] * (_WIDTH - len(data))
                if color:
                    digits = [
                        f"{tint}{two}{_PLAIN}" if different else two
                        for two, different in zip(digits, [*differs, *[False] * _WIDTH])
                    ]
                yield f"{sign} {_line(place, base, ' '.join(digits), name)}"
            if not color:
                marks = " ".join("^^" if different else "  " for different in differs)
                yield f"{'':25}{marks.rstrip()}\n"


def _line(offset: int, base: int, text: str, name: str) -> str:
    return f"{offset:#010x}  {offset - base:+#08x}   {text}  {printable(name)}".rstrip() + "\n"
