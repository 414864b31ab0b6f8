"""What differs between two contexts, or two images: field by field, and with the meaning of a
value where it has one. All have the paths that get, set and replace take (`edit.paths`).

Records are paired by type, instance, and how often that pair came before. Page contents are
compared when asked for.
"""

from __future__ import annotations

from ctypes import sizeof

from hvmctx.abi import streams
from hvmctx.abi.declare import VMPORT_TYPECODE
from hvmctx.abi.fields import Layout
from hvmctx.abi.names import bits_between, names_of
from hvmctx.abi.x86 import CPU_MSR
from hvmctx.edit.difference import Difference, bytes_shown, changed_bytes, in_bytes
from hvmctx.edit.listing import guestinfo_paths
from hvmctx.edit.paths import DEEPEST, record_path, step_text, stream_path
from hvmctx.edit.places import row_path
from hvmctx.errors import FormatError, HvmctxError, LimitError
from hvmctx.image.image import Image
from hvmctx.image.memory_map import differing_pages, side_by_side
from hvmctx.stream.libxc import TscInfo
from hvmctx.stream.reader import CONTEXT, LEGACY, LIBVIRT, LIBXC, XAPI

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from hvmctx.context.hvm_context import HvmContext
    from hvmctx.context.record import Record
    from hvmctx.context.vmport import Parts
    from hvmctx.edit.paths import Step
    from hvmctx.image.index import IndexedRecord
    from hvmctx.image.memory_map import MemoryMap, Run
    from hvmctx.stream.xlfile import Json

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
_LONGEST_TEXT = 200
"""Letters of a value of the configuration."""


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
    keys = list(dict.fromkeys((*left, *right)))
    names = _names(keys, {**right, **left})
    for key in _last_first(keys, right):
        yield from _records(names[key], left.get(key), right.get(key))
    common = left.keys() & right.keys()
    orders = ([names[key] for key in side if key in common] for side in (left, right))
    for before, after in zip(*orders):
        if before != after:  # from the first on
            yield Difference("HVM_CONTEXT", f"{before} next", f"{after} next")
            break
    if len(one.tail) != len(other.tail):
        yield Difference("tail", f"{len(one.tail)} bytes", f"{len(other.tail)} bytes")
    yield from in_bytes("tail", bytes(one.tail), bytes(other.tail))


def _keyed(context: HvmContext) -> dict[tuple[int, int, int], Record]:
    found: dict[tuple[int, int, int], Record] = {}
    times: dict[tuple[int, int], int] = {}
    for record in context.entries:
        pair = record.typecode, record.instance
        times[pair] = times.get(pair, 0) + 1
        key = record.typecode, record.instance, times[pair]
        found[key] = record
    return found


def _last_first(
    keys: list[tuple[int, int, int]], right: dict[tuple[int, int, int], Record]
) -> list[tuple[int, int, int]]:
    """The same, but of those of one path that only the first has the last first: so they can be
    removed one after the other, by their numbers."""
    gone = [at for at, key in enumerate(keys) if key not in right]
    ordered = keys[:]
    for pair in {keys[at][:2] for at in gone}:
        places = [at for at in gone if keys[at][:2] == pair]
        for at, key in zip(places, [keys[at] for at in reversed(places)]):
            ordered[at] = key
    return ordered


def _names(
    keys: list[tuple[int, int, int]], records: dict[tuple[int, int, int], Record]
) -> dict[tuple[int, int, int], str]:
    """The path of each record; those that are there again have their number after it."""
    again = {key[:2] for key in keys if key[2] > 1}
    return {
        key: f"{record_path(records[key])}{f'#{key[2]}' if key[:2] in again else ''}"
        for key in keys
    }


def _records(name: str, one: Record | None, other: Record | None) -> Iterator[Difference]:
    if one is None or other is None:
        yield Difference(name, _size(one), _size(other))
        return
    left, right = bytes(one.body), bytes(other.body)
    if one.length != other.length or len(left) != len(right):
        yield Difference(name, _size(one), _size(other))
    if left == right:
        return
    found = list(_bodies(name, one, other))
    yield from found
    if not found and one.length == other.length:  # in what no field shows
        yield from in_bytes(name, left, right)


def _size(record: Record | None) -> str | None:
    return None if record is None else f"{record.length} bytes"


def _bodies(name: str, one: Record, other: Record) -> Iterator[Difference]:
    """Field by field, as far as there are fields."""
    left, right = bytes(one.body), bytes(other.body)
    known = one.type
    if known is None or not known.size:
        yield from in_bytes(name, left, right)
        return
    if known.typecode == VMPORT_TYPECODE:
        yield from _vmport(name, left, right)
        return
    short, long = one.as_read(known.size), other.as_read(known.size)
    yield from _fields(name, known.layout, short, long)
    start = known.size
    if known.rest is not None and sizeof(known.rest[1]) > 1:
        rest, element = known.rest
        layout = Layout.of(element)
        for number in range((min(len(left), len(right)) - start) // layout.size):
            parts = [body[start : start + layout.size] for body in (left, right)]
            index = {int.from_bytes(part[:4], "little") for part in parts}
            msr = row_path("MSR", (index.pop(),)) if known is CPU_MSR and len(index) == 1 else ""
            yield from _fields(f"{name}.{rest}[{number}]", layout, *parts, msr=msr)
            start += layout.size
    yield from in_bytes(name, left[start:], right[start:], start)


def _fields(
    name: str, layout: Layout, one: bytes, other: bytes, *, msr: str = ""
) -> Iterator[Difference]:
    """Of two structures; of an element of CPU_MSR, `msr` is the path in the policy of the MSR
    that it has the value of, as that has names for its bits."""
    for path in layout.paths():
        slot = layout.locate(path)
        before, after = slot.get(one), slot.get(other)
        full = f"{name}.{path}"
        if isinstance(before, bytes):
            yield from in_bytes(full, before, after)
        else:
            yield from _numbers(full, before, after, register=msr if path == "val" else "")


def _numbers(path: str, before: int, after: int, *, register: str = "") -> Iterator[Difference]:
    if before != after:
        bits = bits_between(register or path, before, after)
        yield Difference(path, _value(path, before), _value(path, after), bits=bits)


def _value(path: str, value: int) -> str:
    meaning = names_of(path).get(value)
    return f"{value:#x}{f' ({meaning})' if meaning else ''}"


def _vmport(name: str, one: bytes, other: bytes) -> Iterator[Difference]:
    """The fixed part, buffers, guestinfo, and what follows. If they are packed otherwise, the
    record as a whole comes first: a length in the fixed part alone would move all the rest."""
    from hvmctx.abi.vmport import used
    from hvmctx.context.vmport import Parts
    from hvmctx.context.vmport_slots import as_text

    profile = used()
    if min(len(one), len(other)) < profile.read_size:
        yield from in_bytes(name, one, other)
        return
    left, right = Parts(one, profile), Parts(other, profile)
    if len(one) == len(other) and _packing(left) != _packing(right):
        yield Difference(name, f"{len(one)} bytes", f"{len(other)} bytes, packed otherwise")
    size = min(profile.fixed_size, len(one), len(other))
    bodies = [body[:size].ljust(profile.fixed_size, b"\0") for body in (one, other)]
    yield from _fields(name, Layout.of(profile.packed), *bodies)
    for number, place in enumerate(profile.buffers):
        places = (parts.buffers[number] for parts in (left, right))
        before, after = (body[at : at + size] for body, (at, size) in zip((one, other), places))
        path = f"{name}.chans[{place.channel}].{place.name}"
        if len(before) != len(after):
            yield Difference(path, bytes_shown(before), bytes_shown(after))
        else:
            yield from in_bytes(path, before, after)
    texts = (
        {path: as_text(value) for path, value in guestinfo_paths(parts).items()}
        for parts in (left, right)
    )
    yield from _pairs(f"{name}.", *texts)
    if left.end == right.end:
        yield from in_bytes(name, left.body[left.end :], right.body[right.end :], left.end)


def _packing(parts: Parts) -> tuple[object, ...]:
    return parts.buffers, [(e.start, e.end, e.key, e.jumbo) for e in parts.entries], parts.end


def _pairs(name: str, one: dict[str, str], other: dict[str, str]) -> Iterator[Difference]:
    """Of two mappings of texts."""
    for key in dict.fromkeys((*one, *other)):
        if one.get(key) != other.get(key):
            yield Difference(f"{name}{key}", one.get(key), other.get(key))


def diff_images(one: Image, other: Image, *, memory: bool = False) -> Iterator[Difference]:
    """Of two images, what matters most first: context, parameters, TSC, policies, configuration,
    headers, the device model's file, all other records byte by byte, and memory. Raises
    FormatError where one of them has a part that cannot be read, LimitError too."""
    if one.format != other.format:
        yield Difference("format", one.format, other.format)
    yield from _whole_contexts(one, other)
    yield from _pairs("", _params(one), _params(other))
    yield from _tsc(one, other)
    yield from _policies(one, other)
    yield from _descriptions(one, other)
    yield from _pairs("", _headers(one), _headers(other))
    yield from _other_records(one, other)
    yield from _types(one.memory, other.memory)
    if memory:
        yield from _pages(one, other)


def _whole_contexts(one: Image, other: Image) -> Iterator[Difference]:
    contexts = [_context(image) for image in (one, other)]
    if contexts[0] is not None and contexts[1] is not None:
        yield from diff_contexts(contexts[0], contexts[1])
    elif contexts[0] is not contexts[1]:
        yield Difference(
            "HVM_CONTEXT", *(None if context is None else "present" for context in contexts)
        )


def _context(image: Image) -> HvmContext | None:
    try:
        return image.read_context()
    except LimitError:  # nothing is known of what it holds
        raise
    except HvmctxError:
        return None


def _headers(image: Image) -> dict[str, str]:
    return {
        f"{header.layer}.{header.name.replace(' ', '_')}.{name}": f"{value:#x}"
        for header in image.headers
        for name, value in header.fields.items()
        if name not in _DATA_LENGTHS
    }


def _descriptions(one: Image, other: Image) -> Iterator[Difference]:
    """Of the guest: xl's configuration, or the text that another wrapper has. Of two kinds of
    wrapper, what both say, in xl's words."""
    if one.format == other.format and one.format in (LIBVIRT, XAPI):
        yield from _texts(one, other)
    elif one.format != other.format:
        yield from _json("config", one.config, other.config, common=True)
    elif one.config_text != other.config_text:
        yield from _json("config", one.config, other.config)


def _texts(one: Image, other: Image) -> Iterator[Difference]:
    """Value by value; where no value shows it, byte by byte."""
    from hvmctx.edit.described import values_of

    name = "XML" if one.format == LIBVIRT else "XENOPS"
    texts = _text(one), _text(other)
    if texts[0] == texts[1]:
        return
    try:
        found = list(_pairs("", *(values_of(name, text, one.limits) for text in texts)))
    except LimitError:
        raise
    except FormatError:
        found = []
    if not found and len(texts[0]) != len(texts[1]):
        yield Difference(name, *(f"{len(text)} bytes" for text in texts))
    yield from found or in_bytes(name, *texts)


def _text(image: Image) -> bytes:
    """All bytes of it, those that libvirt does not read too."""
    if image.format == LIBVIRT:
        return bytes(image.xml_data())
    record = image.last(XAPI, streams.XAPI_XENOPS)
    return b"" if record is None or record.end > image.end else bytes(image.body(record))


def _json(
    path: str, one: Json, other: Json, depth: int = 0, *, common: bool = False
) -> Iterator[Difference]:
    """Of two values of a configuration; of what only one has the whole, or if only what they have
    in `common` counts, nothing. Additions come in order, and removals from a list from its end,
    so that each can be done after the other."""
    steps: Iterable[Step] = ()
    if depth < DEEPEST and isinstance(one, dict) and isinstance(other, dict):
        steps = dict.fromkeys((*one, *other))
    elif depth < DEEPEST and isinstance(one, list) and isinstance(other, list):
        both, most = min(len(one), len(other)), max(len(one), len(other))
        beyond = range(both, most)
        steps = (*range(both), *(beyond if len(other) > both else reversed(beyond)))
    elif (type(one) is not type(other) or one != other) and not (common and None in (one, other)):
        yield Difference(path, _json_text(one), _json_text(other))
    for step in steps:
        inner = f"{path}{step_text(step)}"
        sides = _part(one, step), _part(other, step)
        if _ABSENT not in sides:
            yield from _json(inner, *sides, depth + 1, common=common)
        elif not common:
            yield Difference(inner, *(None if x is _ABSENT else _json_text(x) for x in sides))


_ABSENT: Any = object()


def _part(plain: Any, step: Step) -> Any:
    if isinstance(plain, dict):
        return plain.get(step, _ABSENT)
    return plain[step] if isinstance(step, int) and step < len(plain) else _ABSENT


def _json_text(value: Json) -> str:
    """As `set` takes it, but for one that is long."""
    import json

    try:
        text = json.dumps(value)
    except RecursionError:
        return "..."
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}..."


def _params(image: Image) -> dict[str, str]:
    name = streams.param_name
    return {f"HVM_PARAMS.{name(index)}": f"{value:#x}" for index, value in image.params.items()}


def _tsc(one: Image, other: Image) -> Iterator[Difference]:
    infos = [image.tsc_info for image in (one, other)]
    if None in infos:
        if infos[0] is not infos[1]:
            yield Difference("X86_TSC_INFO", *("24 bytes" if info else None for info in infos))
        return
    for name in TscInfo.TYPE.fields:
        before, after = (getattr(info, name) for info in infos)
        if before != after:
            yield Difference(f"X86_TSC_INFO.{name}", str(before), str(after))


def _policies(one: Image, other: Image) -> Iterator[Difference]:
    """Register by register, and rows that only one has as a whole."""
    leaves = [{row[:2]: row[2:] for row in image.policy.leaves} for image in (one, other)]
    for key in dict.fromkeys((*leaves[0], *leaves[1])):
        path = row_path("CPUID", key)
        before, after = (side.get(key) for side in leaves)
        if before is None or after is None:
            words = (row and " ".join(f"{value:08x}" for value in row) for row in (before, after))
            yield Difference(path, *words)
            continue
        for name, *values in zip(("eax", "ebx", "ecx", "edx"), before, after):
            yield from _numbers(f"{path}.{name}", *values)
    msrs = [{row[0]: row[1:] for row in image.policy.msrs} for image in (one, other)]
    for index in dict.fromkeys((*msrs[0], *msrs[1])):
        path = row_path("MSR", (index,))
        one_row, other_row = (side.get(index) for side in msrs)
        if one_row is None or other_row is None:
            words = (None if row is None else f"{row[1]:#x}" for row in (one_row, other_row))
            yield Difference(path, *words)
            if other_row is not None and other_row[0]:
                yield Difference(f"{path}.flags", None, f"{other_row[0]:#x}")
            continue
        for name, at in (("", 1), (".flags", 0)):
            yield from _numbers(f"{path}{name}", one_row[at], other_row[at])


def _other_records(one: Image, other: Image) -> Iterator[Difference]:
    """Of the records that nothing else here takes apart, paired by layer, type and number: first
    the device models' files."""
    left, right = _numbered(one), _numbered(other)
    models = {one.emulator_type, other.emulator_type}
    for key in sorted(dict.fromkeys((*left, *right)), key=lambda key: key[:2] not in models):
        record, its = left.get(key), right.get(key)
        name = stream_path(record or right[key], key[2])
        sizes = [None if there is None else f"{there.length} bytes" for there in (record, its)]
        if sizes[0] != sizes[1]:
            yield Difference(name, *sizes)
        if record is None or its is None:
            continue
        bodies = bytes(one.body(record)), bytes(other.body(its))
        if key[:2] in models and bodies[0] != bodies[1]:
            from hvmctx.edit.device_model import in_device_model

            yield from in_device_model(name, (one, other), (record, its))
        else:
            yield from in_bytes(name, *bodies)


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


def _types(one: MemoryMap, other: MemoryMap) -> Iterator[Difference]:
    """Stretches of pfns whose types differ."""
    for start, end, mine, its in side_by_side(one, other):
        kinds = [_kind(mine), _kind(its)]
        if kinds[0] != kinds[1]:
            path = f"{_stretch(start, end - start)}.type"
            yield Difference(path, *kinds, count=end - start)


def _pages(one: Image, other: Image) -> Iterator[Difference]:
    """Ranges of pages whose contents differ, of pfns of the same type; of a page alone, its
    bytes."""
    first, many, changed = 0, 0, 0
    alone = b"", b""
    for pfn, *contents in _differing(one, other):
        if many and pfn != first + many:
            yield from _range(first, many, changed, *alone)
            many = 0
        if not many:
            first, changed, alone = pfn, 0, (contents[0], contents[1])
        many += 1
        changed += changed_bytes(*contents)
    if many:
        yield from _range(first, many, changed, *alone)


def _differing(one: Image, other: Image) -> Iterator[tuple[int, bytes, bytes]]:
    for _, _, mine, its in side_by_side(one.memory, other.memory):
        if mine is not None and its is not None and mine.type == its.type:
            yield from differing_pages(one.source, mine, other.source, its)


def _range(first: int, many: int, changed: int, one: bytes, other: bytes) -> Iterator[Difference]:
    path, pages = _stretch(first, many), f"{many} pages"
    if many > 1:
        yield Difference(path, pages, pages, changed=changed, count=many)
    else:
        yield from in_bytes(path, one, other, most=1)


def _stretch(first: int, many: int) -> str:
    """The path of so many pages."""
    return f"pfn[{first:#x}{f':+{many:#x}' if many > 1 else ''}]"


def _kind(run: Run | None) -> str | None:
    return None if run is None else streams.PAGE_TYPES.get(run.type, f"type {run.type}")
