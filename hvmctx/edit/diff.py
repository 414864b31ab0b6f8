"""What differs between two contexts, or two images: field by field, and with the meaning of a
value where it has one. Fields of a context and parameters have the paths that get and set take.

Records are paired by type, instance, and how often that pair came before. Page contents are
compared when asked for.
"""

from __future__ import annotations

from hvmctx.abi import streams
from hvmctx.abi.declare import VMPORT_TYPECODE
from hvmctx.abi.names import bits_between, names_of
from hvmctx.errors import FormatError, HvmctxError, LimitError
from hvmctx.image.image import Image
from hvmctx.image.memory_map import differing_pages, side_by_side
from hvmctx.stream.reader import CONTEXT, LEGACY, LIBVIRT, LIBXC, XAPI

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from hvmctx.context.hvm_context import HvmContext
    from hvmctx.context.record import Record
    from hvmctx.context.vmport import Parts
    from hvmctx.image.index import IndexedRecord
    from hvmctx.image.memory_map import Run

__all__ = ["Difference", "diff", "diff_contexts", "diff_images"]

_COMPARED = {
    (LIBXC, number)
    for number in (
        streams.LIBXC_PAGE_DATA, streams.LIBXC_HVM_PARAMS, streams.LIBXC_X86_TSC_INFO,
        streams.LIBXC_X86_CPUID_POLICY, streams.LIBXC_X86_MSR_POLICY, streams.LIBXC_HVM_CONTEXT,
    )
} | {(XAPI, streams.XAPI_XENOPS)}  # fmt: skip
"""Records that are compared by what they say."""
_DATA_LENGTHS = frozenset(streams.DATA_LENGTHS.values())
_LONGEST = 32
"""Bytes of a difference that are shown."""
_MOST = 1000
"""Stretches of one body, or one page, that are shown one by one."""
_DEEPEST = 50


class Difference:
    """`path` names what differs; `before` and `after` say how, None where it is not there.
    `bits` are those of a register by name: `-PGE +UMIP`."""

    __slots__ = ("after", "before", "bits", "path")

    def __init__(self, path: str, before: str | None, after: str | None, *, bits: str = "") -> None:
        self.path = path
        self.before = before
        self.after = after
        self.bits = bits

    def __str__(self) -> str:
        if self.before is None:
            return f"{self.path}: only in the second: {self.after}"
        if self.after is None:
            return f"{self.path}: only in the first: {self.before}"
        bits = f" ({self.bits})" if self.bits else ""
        return f"{self.path}: {self.before} -> {self.after}{bits}"

    def __repr__(self) -> str:
        return f"<{self}>"

    def as_dict(self) -> dict[str, str | None]:
        """For JSON."""
        found = {"path": self.path, "before": self.before, "after": self.after}
        return {**found, "bits": self.bits} if self.bits else found


def diff(
    one: Image | HvmContext, other: Image | HvmContext, *, memory: bool = False
) -> Iterator[Difference]:
    """What differs between two images (`diff_images`), or where one of the two is a context,
    bare or not, between their contexts (`diff_contexts`). Raises FormatError for a legacy
    stream, which is to be converted first, and MissingRecordError for one of two contexts
    that is not there.

    >>> from hvmctx import open_image
    >>> with open_image("examples/hvm1.save") as image:
    ...     context = image.context
    ...     context.vcpus[0].cpu.rax = 0x1234
    ...     print(*diff(image, context))
    CPU/0.rax: 0x0 -> 0x1234
    """
    for side in (one, other):
        if isinstance(side, Image) and side.format == LEGACY:
            side.raise_stopped()
    if (
        isinstance(one, Image)
        and isinstance(other, Image)
        and (CONTEXT not in (one.format, other.format))
    ):
        return diff_images(one, other, memory=memory)
    contexts = (side.read_context() if isinstance(side, Image) else side for side in (one, other))
    return diff_contexts(*contexts)


def diff_contexts(one: HvmContext, other: HvmContext) -> Iterator[Difference]:
    """Of two contexts, in the order of the first, then what only the second has. Nothing if
    and only if their bytes are the same."""
    left, right = _keyed(one), _keyed(other)
    for key in dict.fromkeys((*left, *right)):
        before, after = left.get(key), right.get(key)
        yield from _records(_name(key, before or right[key]), before, after)
    common = left.keys() & right.keys()
    orders = ([_name(key, side[key]) for key in side if key in common] for side in (left, right))
    for before, after in zip(*orders):
        if before != after:  # from the first on
            yield Difference("order of records", before, after)
            break
    yield from _bytes("tail", bytes(one.tail), bytes(other.tail))


def _keyed(context: HvmContext) -> dict[tuple[int, int, int], Record]:
    found: dict[tuple[int, int, int], Record] = {}
    times: dict[tuple[int, int], int] = {}
    for record in context.entries:
        pair = record.typecode, record.instance
        times[pair] = times.get(pair, 0) + 1
        key = record.typecode, record.instance, times[pair]
        found[key] = record
    return found


def _name(key: tuple[int, int, int], record: Record) -> str:
    again = f" (number {key[2]} of its kind)" if key[2] > 1 else ""
    return f"{record.name}/{record.instance}{again}"


def _records(name: str, one: Record | None, other: Record | None) -> Iterator[Difference]:
    if one is None or other is None:
        there = one or other
        size = f"{len(there.body)} bytes" if there else ""
        yield Difference(name, size if one else None, size if other else None)
        return
    left, right = bytes(one.body), bytes(other.body)
    if one.length != other.length:
        yield Difference(f"{name} length", str(one.length), str(other.length))
    if left == right:
        return
    found = list(_bodies(name, one, other))
    yield from found
    if not found and one.length == other.length:  # in what no field shows
        yield from _bytes(name, left, right)


def _bodies(name: str, one: Record, other: Record) -> Iterator[Difference]:
    """Field by field, as far as there are fields."""
    left, right = bytes(one.body), bytes(other.body)
    known = one.type
    if known is None or not known.size:
        yield from _bytes(name, left, right)
        return
    short, long = one.as_read(known.size), other.as_read(known.size)
    for path in known.layout.paths():
        slot = known.layout.locate(path)
        before, after = slot.get(short), slot.get(long)
        if before == after:
            continue
        full = f"{name}.{path}"
        if isinstance(before, bytes) and isinstance(after, bytes):
            yield from _bytes(full, before, after)
        elif isinstance(before, int) and isinstance(after, int):
            bits = bits_between(full, before, after)
            yield Difference(full, _value(full, before), _value(full, after), bits=bits)
    if known.typecode == VMPORT_TYPECODE:
        yield from _guestinfo(name, left, right)
    else:
        yield from _bytes(f"{name} rest", left[known.size :], right[known.size :])


def _value(path: str, value: int) -> str:
    meaning = names_of(path).get(value)
    return f"{value:#x}{f' ({meaning})' if meaning else ''}"


def _bytes(path: str, one: bytes, other: bytes) -> Iterator[Difference]:
    """Every stretch of bytes that differ; what only one has, as a whole."""
    common = min(len(one), len(other))
    at = shown = 0
    while at < common:
        if one[at] == other[at]:
            at += 1
            continue
        shown += 1
        if shown > _MOST:
            where = f"{path}[{at:#x}:+{common - at}]"
            yield Difference(where, _shown(one[at:common]), _shown(other[at:common]))
            break
        end = at + 1
        while end < common and one[end] != other[end]:
            end += 1
        where = f"{path}[{at:#x}:+{end - at}]"
        yield Difference(where, _shown(one[at:end]), _shown(other[at:end]))
        at = end
    if len(one) != len(other):
        rest = one[common:], other[common:]
        where = f"{path}[{common:#x}:+{len(rest[0]) or len(rest[1])}]"
        yield Difference(where, *(_shown(part) if part else None for part in rest))


def _shown(data: bytes) -> str:
    more = f"... ({len(data)} bytes)" if len(data) > _LONGEST else ""
    return f"{data[:_LONGEST].hex()}{more}"


def _guestinfo(name: str, one: bytes, other: bytes) -> Iterator[Difference]:
    from hvmctx.abi.vmport import used
    from hvmctx.context.vmport import Parts

    profile = used()
    if min(len(one), len(other)) < profile.read_size:
        yield from _bytes(name, one, other)
        return
    both = Parts(one, profile), Parts(other, profile)
    yield from _pairs(name, *map(_entries, both))
    buffers = ([parts.body[at : at + there] for at, there in parts.buffers] for parts in both)
    for number, (before, after) in enumerate(zip(*buffers)):
        place = profile.buffers[number]
        yield from _bytes(f"{name} chans[{place.channel}].{place.name}", before, after)
    tails = (parts.body[parts.end :] for parts in both)
    yield from _bytes(f"{name} rest", *tails)


def _entries(parts: Parts) -> dict[str, str]:
    """By their path; a key that is there again has its number after it."""
    from hvmctx.context.vmport_slots import as_text

    found: dict[str, str] = {}
    times: dict[str, int] = {}
    for entry in parts.entries:
        path = f".guestinfo{'_jumbo' if entry.jumbo else ''}[{as_text(entry.key)}]"
        times[path] = number = times.get(path, 0) + 1
        found[path if number == 1 else f"{path} ({number})"] = as_text(entry.value)
    return found


def _pairs(name: str, one: dict[str, str], other: dict[str, str]) -> Iterator[Difference]:
    """Of two mappings of texts."""
    for key in dict.fromkeys((*one, *other)):
        if one.get(key) != other.get(key):
            yield Difference(f"{name}{key}", one.get(key), other.get(key))


def diff_images(one: Image, other: Image, *, memory: bool = False) -> Iterator[Difference]:
    """Of two images: headers, configuration, parameters, TSC, policies, memory, context, and
    all other records, byte by byte. Raises FormatError where one of them has a part that
    cannot be read, LimitError too."""
    if one.format != other.format:
        yield Difference("format", one.format, other.format)
    yield from _pairs("", _headers(one), _headers(other))
    yield from _descriptions(one, other)
    for image_part in (_params, _tsc, _cpuid, _msrs):
        yield from _pairs("", image_part(one), image_part(other))
    yield from _other_records(one, other)
    yield from _memory(one, other, contents=memory)
    contexts = [_context(image) for image in (one, other)]
    if contexts[0] is not None and contexts[1] is not None:
        yield from diff_contexts(contexts[0], contexts[1])
    elif contexts[0] is not contexts[1]:
        yield Difference(
            "HVM_CONTEXT", *(None if context is None else "present" for context in contexts)
        )


def _descriptions(one: Image, other: Image) -> Iterator[Difference]:
    """Of the guest: xl's configuration, or the text that another wrapper has. Of two kinds of
    wrapper, what both say, in xl's words."""
    if one.format == other.format and one.format in (LIBVIRT, XAPI):
        yield from _texts(one, other)
        return
    left, right = _flat(one.config), _flat(other.config)
    if one.format != other.format:
        both = left.keys() & right.keys()
        left = {path: value for path, value in left.items() if path in both}
        right = {path: value for path, value in right.items() if path in both}
    yield from _pairs("config", left, right)


def _texts(one: Image, other: Image) -> Iterator[Difference]:
    """Value by value; where no value shows it, byte by byte."""
    from hvmctx.edit.described import values_of

    name = "XML" if one.format == LIBVIRT else "XENOPS"
    texts = [_text(image) for image in (one, other)]
    if texts[0] == texts[1]:
        return
    try:
        found = list(_pairs("", *(values_of(name, text, one.limits) for text in texts)))
    except LimitError:
        raise
    except FormatError:
        found = []
    yield from found or _bytes(name, *texts)


def _text(image: Image) -> bytes:
    """All bytes of it, those that libvirt does not read too."""
    if image.format == LIBVIRT:
        return bytes(image.xml_data())
    record = image.last(XAPI, streams.XAPI_XENOPS)
    return b"" if record is None or record.end > image.end else bytes(image.body(record))


def _context(image: Image) -> HvmContext | None:
    try:
        return image.read_context()
    except LimitError:  # nothing is known of what it holds
        raise
    except HvmctxError:
        return None


def _headers(image: Image) -> dict[str, str]:
    return {
        f"{header.layer} {header.name}.{name}": f"{value:#x}"
        for header in image.headers
        for name, value in header.fields.items()
        if name not in _DATA_LENGTHS
    }


def _flat(value: Any, path: str = "", depth: int = 0) -> dict[str, str]:
    """JSON as paths and values; what is nested deeper than any configuration, as a whole."""
    if depth > _DEEPEST:
        return {path: "..."}
    if isinstance(value, dict):
        items: Iterable[tuple[str, Any]] = ((f".{key}", part) for key, part in value.items())
    elif isinstance(value, list):
        items = ((f"[{number}]", part) for number, part in enumerate(value))
    else:
        return {} if value is None else {path: repr(value)}
    found: dict[str, str] = {}
    for key, part in items:
        found.update(_flat(part, f"{path}{key}", depth + 1))
    return found


def _params(image: Image) -> dict[str, str]:
    name = streams.param_name
    return {f"HVM_PARAMS.{name(index)}": f"{value:#x}" for index, value in image.params.items()}


def _tsc(image: Image) -> dict[str, str]:
    info = image.tsc_info
    fields = {} if info is None else info.for_people()
    return {f"X86_TSC_INFO.{name}": str(value) for name, value in fields.items()}


def _cpuid(image: Image) -> dict[str, str]:
    leaves = image.policy.leaves
    return {
        f"X86_CPUID_POLICY[{leaf:#x}/{subleaf:#x}]": " ".join(f"{value:08x}" for value in registers)
        for leaf, subleaf, *registers in leaves
    }


def _msrs(image: Image) -> dict[str, str]:
    msrs = image.policy.msrs
    return {
        f"X86_MSR_POLICY[{index:#x}]": f"{value:#x}, flags {flags:#x}"
        for index, flags, value in msrs
    }


def _other_records(one: Image, other: Image) -> Iterator[Difference]:
    """Of the records that nothing else here takes apart, paired by layer, type and number."""
    left, right = _numbered(one), _numbered(other)
    for key in dict.fromkeys((*left, *right)):
        record, its = left.get(key), right.get(key)
        name = f"{(record or right[key]).name}/{key[2]}"
        if record is not None and its is not None:
            yield from _bytes(name, bytes(one.body(record)), bytes(other.body(its)))
        else:
            sizes = (None if there is None else f"{there.length} bytes" for there in (record, its))
            yield Difference(name, *sizes)


def _numbered(image: Image) -> dict[tuple[str, int, int], IndexedRecord]:
    times: dict[tuple[str, int], int] = {}
    found: dict[tuple[str, int, int], IndexedRecord] = {}
    for record in image.records:
        kind = record.layer, record.type
        if kind in _COMPARED or record.end > image.end:
            continue
        number = times[kind] = times.get(kind, -1) + 1
        found[record.layer, record.type, number] = record
    return found


def _memory(one: Image, other: Image, *, contents: bool) -> Iterator[Difference]:
    """Stretches of pfns whose types differ, and, where asked for, pages."""
    for start, end, mine, its in side_by_side(one.memory, other.memory):
        kinds = [_kind(mine), _kind(its)]
        where = f"pfn {start:#x}" if end - start == 1 else f"pfns {start:#x} to {end - 1:#x}"
        if kinds[0] != kinds[1]:
            yield Difference(where, *kinds)
        elif contents and mine is not None and its is not None:
            pages = differing_pages(one.source, mine, other.source, its)
            for pfn, before, after in pages:
                yield from _bytes(f"pfn {pfn:#x}", before, after)


def _kind(run: Run | None) -> str | None:
    return None if run is None else streams.PAGE_TYPES.get(run.type, f"type {run.type}")
