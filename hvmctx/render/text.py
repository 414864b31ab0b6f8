"""A context in the very text that Xen's xen-hvmctx prints, in the dialect of any release.

Differences from that tool, all on purpose: each record is read by its descriptor's length
(the tool reads the size it was compiled with and goes astray), a length that would wrap
the tool's 32-bit cursor ends the dump instead of repeating it for ever, and damage that
the tool passes over in silence is reported by the caller (`HvmContext.damage`).
"""

from __future__ import annotations

from ctypes import sizeof

from hvmctx.abi import x86
from hvmctx.abi.declare import VMPORT_TYPECODE
from hvmctx.abi.fields import Layout, Slot
from hvmctx.abi.releases import NEWEST, Release
from hvmctx.render import lines as tables
from hvmctx.render.cformat import CFormat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from hvmctx.abi.declare import RecordType
    from hvmctx.abi.vmport import VmportProfile
    from hvmctx.context.hvm_context import HvmContext
    from hvmctx.context.record import Record

    Getter = Callable[[bytes], "int | str"]


def hello(domid: int) -> str:
    """The tool's first line."""
    return f"HVM save record for domain {domid}\n"


class TextDialect:
    """What xen-hvmctx of one release prints. `show_all` adds the records and fields that
    the tool leaves out; `vmport` is the profile to print VMPORT records with, which no
    release's tool knows."""

    def __init__(
        self,
        release: Release | None = None,
        *,
        show_all: bool = False,
        vmport: VmportProfile | None = None,
    ) -> None:
        self.release = release or Release(NEWEST)
        self.show_all = show_all
        self.vmport = vmport
        self._compiled: dict[str, list[Callable[[bytes], str]]] = {}
        self._fpu: list[_Line] | None = None

    def dump(
        self, context: HvmContext, *, domid: int = 0, wanted: Callable[[Record], bool] | None = None
    ) -> Iterator[str]:
        """The text of all entries that are `wanted`, in pieces of whole lines. Of a record
        that is cut off the Entry line is given, as the tool does."""
        yield hello(domid)
        for number, record in enumerate(context.entries):
            if wanted is None or wanted(record):
                yield self.entry(number, record)
        cut = context.cut_descriptor
        if cut is not None and (wanted is None or wanted(cut)):
            yield _entry_line(len(context.entries), cut) + self._skipping(cut)

    def entry(self, number: int, record: Record) -> str:
        """The text of one record; `number` counts the records before it."""
        head = _entry_line(number, record) + self._skipping(record)
        known = record.type
        if known is None or not self._understands(known):
            return head
        if record.typecode == VMPORT_TYPECODE:
            return head + self._vmport_lines(record)
        body = record.as_read()
        text = [line(body) for line in self._lines(known)]
        if self.show_all:
            text += _rest_lines(known, record)
        return head + "".join(text)

    def _skipping(self, record: Record) -> str:
        known = record.type
        if known is x86.END or (known is not None and self._understands(known)):
            return ""
        return f" ** Don't understand type {record.typecode}: skipping\n"

    def _vmport_lines(self, record: Record) -> str:
        from hvmctx.render.vmport import vmport_lines

        return "".join(vmport_lines(bytes(record.body), self.vmport))

    def _understands(self, known: RecordType) -> bool:
        if known.typecode == VMPORT_TYPECODE:
            return self.show_all or self.vmport is not None
        return self.show_all or _pick(tables.LINES.get(known.name, {}), self.release) is not None

    def _lines(self, known: RecordType) -> list[Callable[[bytes], str]]:
        if known.name not in self._compiled:
            self._compiled[known.name] = self._compile(known)
        lines = self._compiled[known.name]
        if known is x86.CPU:
            lines = [*lines, self._fpu_block]
        return lines

    def _compile(self, known: RecordType) -> list[Callable[[bytes], str]]:
        shown = list(_pick(tables.LINES.get(known.name, {}), self.release) or ())
        if self.show_all:
            shown += tables.EXTRA_LINES.get(known.name, ())
            shown += _forgotten(known, shown)
        lines: list[Callable[[bytes], str]] = [
            _Line(text, fields, known.layout) for text, fields in shown
        ]
        if self.show_all:
            lines += [_Reserved(slot) for slot in _reserved(known)]
        return lines

    def _fpu_block(self, body: bytes) -> str:
        flags = int.from_bytes(body[_FLAGS : _FLAGS + 4], "little")
        conditional = self.release.since(tables.FPU_CONDITIONAL_SINCE) and not self.show_all
        if conditional and not flags & x86.XEN_X86_FPU_INITIALISED:
            return ""
        if self._fpu is None:
            shown = _pick(tables.FPU_LINES, self.release) or ()
            self._fpu = [_Line(text, args, x86.CPU.layout) for text, args in shown]
        return "".join([line(body) for line in self._fpu])


_FLAGS = x86.hvm_hw_cpu.flags.offset


def _entry_line(number: int, record: Record) -> str:
    return (
        f"Entry {number}: type {record.typecode} instance {record.instance}, "
        f"length {record.length}\n"
    )


def _pick(by_release: dict[str, Any], release: Release) -> Any:
    """The entry of the youngest release that is not younger than `release`."""
    found = None
    for since, entry in by_release.items():
        if release.since(since):
            found = entry
    return found


class _Line:
    """One compiled line: its format, and how to get its arguments out of a body."""

    __slots__ = ("_format", "_getters")

    def __init__(self, text: str, args: str, layout: Layout) -> None:
        self._format = CFormat(text + "\n")
        self._getters = [_getter(arg, layout) for arg in args.split()]

    def __call__(self, body: bytes) -> str:
        return self._format(tuple([get(body) for get in self._getters]))


class _Reserved:
    """A field that should be zero: a line only where it is not."""

    __slots__ = ("_slot",)

    def __init__(self, slot: Slot) -> None:
        self._slot = slot

    def __call__(self, body: bytes) -> str:
        value = self._slot.get(body)
        if isinstance(value, bytes):
            return f"          {self._slot.path} {value.hex()}\n" if any(value) else ""
        return f"          {self._slot.path} {value:#x}\n" if value else ""


def _getter(arg: str, layout: Layout) -> Getter:
    if arg.startswith("="):
        number = int(arg[1:])
        return lambda body: number
    path, choice, words = arg.partition("?")
    slot = layout.locate(path)
    if choice:
        yes, no = words.split(":")
        return lambda body: yes if slot.get(body) else no
    return slot.get


def _reserved(known: RecordType) -> list[Slot]:
    layout = known.layout
    return [layout.locate(path) for path, field in layout.places() if field.is_reserved]


def _forgotten(known: RecordType, shown: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Lines for the fields that no line shows. What is shown under another name of a union
    counts, and so does an array of which words are shown."""
    layout = known.layout
    shown_paths = {arg.partition("?")[0] for _, args in shown for arg in args.split()}
    shown_paths = {path for path in shown_paths if not path.startswith("=")}
    in_words = {path.partition("[")[0] for path in shown_paths if ":+" in path}
    if known is x86.CPU:
        in_words.add("fpu_regs")  # shown by lines of its own
    covered = {_place(layout.locate(path)) for path in shown_paths}
    lines = []
    for path, field in layout.places():
        slot = layout.locate(path)
        if path in in_words or _place(slot) in covered or field.is_reserved:
            continue
        if not slot.is_bytes:
            lines.append((f"          {path} {'%i' if slot.signed else '%#x'}", path))
        elif (slot.offset, 1, 0) not in covered:
            lines += [(f"          {path}[{i}] %#x", f"{path}[{i}]") for i in range(slot.size)]
    return lines


def _place(slot: Slot) -> tuple[int, int, int]:
    return slot.offset, slot.size, slot.shift


def _rest_lines(known: RecordType, record: Record) -> list[str]:
    """What lies beyond the declared structure: elements of the variable part, and bytes."""
    rest = record.rest
    if not rest:
        return []
    if known.name in tables.REST_LINES and known.rest is not None:
        element = known.rest[1]
        size = sizeof(element)
        line = _Line(*tables.REST_LINES[known.name], Layout.of(element))
        whole = len(rest) // size * size
        return [line(rest[at : at + size]) for at in range(0, whole, size)] + _hex(rest[whole:])
    return _hex(rest)


def _hex(data: bytes) -> list[str]:
    return [f"          0x{at:04x}: {data[at : at + 32].hex()}\n" for at in range(0, len(data), 32)]
