"""A context in the very text that Xen's xen-hvmctx prints, in the dialect of any release.

It differs from that tool on purpose in three things. A record has the length that its
descriptor says (the tool reads the size that it was compiled with, and loses its way). A
length that would wrap the tool's 32-bit cursor ends the dump instead of repeating it for
ever. Damage that the tool ignores is reported by the caller (`HvmContext.damage`).
"""

from __future__ import annotations

from struct import Struct

from hvmctx.abi import x86
from hvmctx.abi.declare import VMPORT_TYPECODE
from hvmctx.abi.fields import Layout, Slot
from hvmctx.abi.releases import CPU_COMPAT_SIZE, NEWEST, Release
from hvmctx.render import dialects
from hvmctx.render.cformat import CFormat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hvmctx.abi.declare import RecordType
    from hvmctx.abi.vmport import VmportProfile
    from hvmctx.context.hvm_context import HvmContext
    from hvmctx.context.record import Record
    from hvmctx.render.dialects import Line, Lines

    Getter = Callable[[bytes], "int | str"]


__all__ = ["TextDialect", "hello", "lines_in"]


def hello(domid: int) -> str:
    """The tool's first line."""
    return f"HVM save record for domain {domid}\n"


class TextDialect:
    """What xen-hvmctx of one release prints. `show_all` adds the records and fields that the
    tool omits; `vmport` is the profile for printing VMPORT records, which no release's tool
    knows, and `decoded` the lines of another package's handler for a record, or None."""

    def __init__(
        self,
        release: Release | None = None,
        *,
        show_all: bool = False,
        vmport: VmportProfile | None = None,
        decoded: Callable[[Record], str | None] | None = None,
    ) -> None:
        self.release = release or Release(NEWEST)
        self.show_all = show_all
        self.vmport = vmport
        self._decoded = decoded
        self._compiled: dict[str, list[Callable[[bytes], str]] | None] = {}
        self._fpu: _Lines | None = None

    def dump(
        self, context: HvmContext, *, domid: int = 0, wanted: Callable[[Record], bool] | None = None
    ) -> Iterator[str]:
        """The text of all entries that are `wanted`, in pieces of whole lines. A record that is
        cut off has its Entry line only, as with the tool."""
        yield hello(domid)
        for number, record in enumerate(context.entries):
            if wanted is None or wanted(record):
                yield self.entry(number, record)
        cut = context.cut_descriptor
        if cut is not None and (wanted is None or wanted(cut)):
            yield _entry_line(len(context.entries), cut) + self._skipping(cut)

    def entry(self, number: int, record: Record) -> str:
        """The text of one record; `number` counts the records before it."""
        known = record.type
        if known is None and self._decoded is not None:
            words = self._decoded(record)
            if words is not None:
                return _entry_line(number, record) + words
        head = _entry_line(number, record) + self._skipping(record)
        if known is None:
            return head + "".join(_hex(bytes(record.body), 0)) if self.show_all else head
        lines = self._lines(known)
        if lines is None:
            return head
        if record.typecode == VMPORT_TYPECODE:
            return head + self._vmport_lines(record)
        body = record.as_read()
        text = [line(body) for line in lines]
        if self.show_all:
            text += [*_rest_lines(known, record), *_read_otherwise(record, body)]
        return head + "".join(text)

    def _skipping(self, record: Record) -> str:
        known = record.type
        if known is x86.END or (known is not None and self._lines(known) is not None):
            return ""
        return f" ** Don't understand type {record.typecode}: skipping\n"

    def _vmport_lines(self, record: Record) -> str:
        from hvmctx.render.vmport import vmport_lines

        return "".join(vmport_lines(bytes(record.body), self.vmport))

    def _lines(self, known: RecordType) -> list[Callable[[bytes], str]] | None:
        """The compiled lines of a record, none for VMPORT's; None for one that the tool does not
        understand."""
        if known.name not in self._compiled:
            lines: list[Callable[[bytes], str]] | None
            if known.typecode == VMPORT_TYPECODE:
                lines = None if self.vmport is None and not self.show_all else []
            else:
                lines = self._compile_all(known) if self.show_all else self._compile(known)
            self._compiled[known.name] = lines
        return self._compiled[known.name]

    def _compile(self, known: RecordType) -> list[Callable[[bytes], str]] | None:
        shown = lines_in(dialects.LINES.get(known.name, {}), self.release)
        if shown is None:
            return None
        lines = _Lines(shown, known.layout)
        return [lines, self._fpu_block] if known is x86.CPU else [lines]

    def _compile_all(self, known: RecordType) -> list[Callable[[bytes], str]]:
        """The tool's lines, or the first that any release had, and after them what these do not
        show of the record."""
        by_release = dialects.LINES.get(known.name, {})
        shown = lines_in(by_release, self.release) or next(iter(by_release.values()), ())
        shown += dialects.EXTRA_LINES.get(known.name, ())
        fpu = self._fpu_lines(known)
        named = _unshown(known.layout, shown + fpu)
        return [
            _Lines(shown, known.layout),
            *[line for line in named if not line.silent],
            _Lines(fpu, known.layout),
            *[line for line in named if line.silent],
        ]

    def _fpu_lines(self, known: RecordType) -> Lines:
        area = dialects.FPU_AREAS.get(known.name)
        if area is None:
            return ()
        lines = lines_in(dialects.FPU_LINES, self.release) or ()
        return tuple((text, args.replace("#", area)) for text, args in lines)

    def _fpu_block(self, body: bytes) -> str:
        flags = int.from_bytes(body[_FLAGS : _FLAGS + 4], "little")
        conditional = self.release.since(dialects.FPU_CONDITIONAL_SINCE)
        if conditional and not flags & x86.XEN_X86_FPU_INITIALISED:
            return ""
        if self._fpu is None:
            self._fpu = _Lines(self._fpu_lines(x86.CPU), x86.CPU.layout)
        return self._fpu(body)


_FLAGS = x86.hvm_hw_cpu.flags.offset


def _entry_line(number: int, record: Record) -> str:
    return (
        f"Entry {number}: type {record.typecode} instance {record.instance}, "
        f"length {record.length}\n"
    )


def lines_in(by_release: dict[str, Lines], release: Release) -> Lines | None:
    """The lines of the newest release that is not newer than `release`."""
    found = None
    for since, entry in by_release.items():
        if release.since(since):
            found = entry
    return found


class _Lines:
    """Compiled lines: one format for all, and one call of `struct` for the fields that they show.
    Bits, words, and what overlaps a field before it, are asked for one by one."""

    __slots__ = ("_format", "_order", "_others", "_unpack")

    def __init__(self, shown: Lines, layout: Layout) -> None:
        shown = tuple([_filled(*line) if "=" in line[1] else line for line in shown])
        self._format = CFormat("".join([f"{text}\n" for text, _ in shown]))
        arguments = " ".join([args for _, args in shown]).split()
        row: dict[str, int] = {}  # what a call lines up, and where
        places, others = [], []
        for arg in dict.fromkeys(arguments):
            if "?" in arg:
                others.append(arg)
            else:
                places.append((layout.place(arg), arg))
        format, end = "<", 0
        for (offset, size, code, bits), arg in sorted(places):
            if bits or offset < end:
                others.append(arg)
            else:
                row[arg] = len(row)
                format += f"{offset - end}x{size}s" if code == "s" else f"{offset - end}x{code}"
                end = offset + size
        for arg in others:
            row[arg] = len(row)
        self._unpack = Struct(format).unpack_from
        self._others = [_getter(arg, layout) for arg in others]
        self._order = [row[arg] for arg in arguments]

    def __call__(self, body: bytes) -> str:
        others = [get(body) for get in self._others]
        row = (*self._unpack(body), *others)
        return self._format(tuple([row[at] for at in self._order]))


def _filled(text: str, args: str) -> Line:
    """A line with its constants in their places. It has no `%%`."""
    words, (made, *pieces) = args.split(), text.split("%")
    for arg, piece in zip(words, pieces):
        made += f"%{piece}" % int(arg[1:]) if arg[0] == "=" else f"%{piece}"
    return made, " ".join([arg for arg in words if arg[0] != "="])


def _getter(arg: str, layout: Layout) -> Getter:
    path, choice, words = arg.partition("?")
    slot = layout.locate(path)
    if not choice:
        return slot.get
    yes, no = words.split(":")
    return lambda body: yes if slot.get(body) else no


class _Named:
    """A line with a field's path and value; none if the value is one of `silent`."""

    __slots__ = ("silent", "slot")

    def __init__(self, slot: Slot, silent: tuple[int, ...] = ()) -> None:
        self.slot = slot
        self.silent = silent

    def words(self, body: bytes) -> str:
        value = self.slot.get(body)
        if isinstance(value, bytes):
            return f"{self.slot.path} {value.hex()}" if any(value) or not self.silent else ""
        if value in self.silent:
            return ""
        return f"{self.slot.path} {(_DECIMAL if self.slot.signed else _HEX)((value,))}"

    def __call__(self, body: bytes) -> str:
        words = self.words(body)
        return f"          {words}\n" if words else ""


_DECIMAL, _HEX = CFormat("%i"), CFormat("%#x")
_NOTHING, _WORDS = (0,), (0, 1)
"""Values that need no line: of a field that should be zero; and of one that another line has
in words, where 0 is `off` and 1 is `on`, but so is every other value."""


def _unshown(layout: Layout, shown: Lines) -> list[_Named]:
    """Lines for every bit of a structure that the lines `shown` leave out. A field that no
    line shows is always printed unless it is reserved; what the lines leave of an array is
    printed only where it is not zero."""
    shown_bits = in_words = 0
    for arg in " ".join([args for _, args in shown]).split():
        path, choice, _ = arg.partition("?")
        if not path.startswith("="):
            bits = _bits(layout.locate(path))
            if choice:
                in_words |= bits
            else:
                shown_bits |= bits
    lines = []
    places = [
        (leaf, slot) for leaf in layout.leaves() if not leaf.alternate for slot in leaf.slots()
    ]
    for leaf, slot in places:
        bits = _bits(slot)
        left = bits & ~shown_bits
        if not left:
            continue
        if not left & ~in_words:
            lines.append(_Named(slot, _WORDS))
        elif left == bits and not leaf.is_reserved:
            lines.append(_Named(slot))
        elif left == bits or not slot.is_bytes:
            lines.append(_Named(slot, _NOTHING))
        else:
            lines += [_Named(layout.locate(part), _NOTHING) for part in _windows(slot, left)]
    return lines


def _bits(slot: Slot) -> int:
    """A mask of the bits of the structure that a slot holds."""
    return (1 << slot.width) - 1 << 8 * slot.offset + slot.shift


def _windows(slot: Slot, bits: int) -> Iterator[str]:
    """Paths of those bytes of an array that `bits` covers, in as few aligned words as
    possible."""
    at = 0
    while at < slot.size:
        for size in (8, 4, 2, 1):
            whole = (1 << 8 * size) - 1
            if at % size == 0 and bits >> 8 * (slot.offset + at) & whole == whole:
                yield f"{slot.path}[{at:#x}:+{size}]"
                break
        at += size


def _rest_lines(known: RecordType, record: Record) -> list[str]:
    """What follows the declared structure: elements of the variable part, and bytes."""
    rest = record.rest
    if not rest:
        return []
    if known.name not in dialects.REST_LINES or known.rest is None:
        return _hex(rest, known.size)
    layout = Layout.of(known.rest[1])
    shown = dialects.REST_LINES[known.name]
    line = _Lines((shown,), layout)
    others = [_Named(other.slot, _NOTHING) for other in _unshown(layout, (shown,))]
    lines = []
    whole = len(rest) // layout.size * layout.size
    for at in range(0, whole, layout.size):
        element = rest[at : at + layout.size]
        words = [line(element)[:-1], *[other.words(element) for other in others]]
        lines.append(" ".join(filter(None, words)) + "\n")
    return lines + _hex(rest[whole:], known.size + whole)


def _read_otherwise(record: Record, read: bytes) -> list[str]:
    """Bytes of the body in whose place a loader reads other values: the flags of a CPU record
    that is shorter than its structure."""
    body = bytes(record.body)[: len(read)]
    if body == read[: len(body)] or len(body) == CPU_COMPAT_SIZE:  # all of it is read, but moved
        return []
    at = [offset for offset, byte in enumerate(body) if byte != read[offset]]
    part = slice(at[0], at[-1] + 1)
    return [f"          0x{at[0]:04x}: {body[part].hex()} (read as {read[part].hex()})\n"]


def _hex(data: bytes, start: int) -> list[str]:
    """Bytes without a name; `start` is their offset in the body."""
    return [
        f"          0x{start + at:04x}: {data[at : at + 32].hex()}\n"
        for at in range(0, len(data), 32)
    ]
