"""All paths of an image's single values, and those of them that a pattern names: `matching`."""

from __future__ import annotations

from hvmctx.abi import streams
from hvmctx.abi.declare import VMPORT_TYPECODE
from hvmctx.abi.fields import Layout, is_reserved
from hvmctx.edit.paths import DEEPEST, Path, is_pattern, matcher, record_path, step_text
from hvmctx.edit.places import CONFIG, EMULATOR, emulator_file, place_of, row_path
from hvmctx.errors import HvmctxError, MissingRecordError, UsageError
from hvmctx.image import handlers
from hvmctx.stream.reader import CONTEXT, LIBVIRT, XAPI

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from hvmctx.context.hvm_context import HvmContext
    from hvmctx.context.record import Record
    from hvmctx.edit.store import Store
    from hvmctx.image.index import IndexedRecord

__all__ = ["guestinfo_paths", "matching", "record_names"]

_OF_TABLES = ("X86_CPUID_POLICY", "X86_MSR_POLICY", "HVM_PARAMS")


def matching(store: Store, pattern: str) -> Iterator[str]:
    """Of a path without wildcards itself, where it names a single value, else all that are
    within it. Raises UsageError for a path of nothing, MissingRecordError where there is
    nothing that it names."""
    found = False
    if is_pattern(pattern):
        fits = matcher(pattern)
        for path in _all(store):
            if fits(path):
                found = True
                yield path
        if not found:
            if pattern.upper().startswith(CONFIG):
                store.image.config  # noqa: B018 - it may be damaged: that is why
            raise MissingRecordError(f"{pattern}: the image has no such values")
        return
    split = Path(pattern)
    wrong: UsageError | None = None
    try:
        place_of(store, pattern).get()
        if split.rest and split.name != CONFIG:
            yield pattern
            return
    except UsageError as error:  # a structure, an array, or nothing
        wrong = error
    within = [one for one in _all(store) if _is_within(one, pattern)]
    if wrong is not None and not within:
        raise wrong
    yield from within or [pattern]


def _is_within(path: str, outer: str) -> bool:
    """Whether a path goes on where the outer one ends, in any case; an instance that is left
    out is 0."""
    path, outer = path.upper(), outer.upper()
    for one in (path, path.replace("/0.", ".", 1)):
        if one.startswith(outer) and one[len(outer) : len(outer) + 1] in (".", "["):
            return True
    return False


def _all(store: Store) -> Iterator[str]:
    """In the order of an image: headers, configuration, records of the streams, context."""
    for header in dict.fromkeys((header.layer, header.name) for header in store.image.headers):
        if header in streams.HEADERS:
            prefix = f"{header[0]}.{header[1].replace(' ', '_')}"
            yield from (f"{prefix}.{name}" for name in streams.HEADERS[header].names)
    if store.image.format != CONTEXT:
        yield from _config(store)
        yield from _tables(store)
        for record, many in store.image.records.rows():
            if many == 1 and record.end <= store.image.end:
                yield from _of_stream(store, record)
    try:
        context = store.look()
    except HvmctxError:  # there is none, or it cannot be read
        return
    yield from _of_context(context)


def _config(store: Store) -> Iterator[str]:
    """Of xl's JSON; of another wrapper what describes the guest there, and the same in words of
    xl's, which can be got only."""
    yield from _described(store)
    try:
        plain = store.image.config
    except HvmctxError:
        return
    if isinstance(plain, (dict, list)):
        yield from json_paths(plain, "config")


def _described(store: Store) -> Iterator[str]:
    name = _DESCRIBED.get(store.image.format)
    if name is None:
        return
    from hvmctx.edit.described import values_of

    try:
        record = store.last(XAPI, streams.XAPI_XENOPS)
        text = store.xml() if name == "XML" else b"" if record is None else store.body(record)
        yield from values_of(name, bytes(text), store.image.limits)
    except HvmctxError:
        return


_DESCRIBED = {LIBVIRT: "XML", XAPI: "XENOPS"}


def json_paths(plain: Any, path: str, depth: int = 0) -> Iterator[str]:
    """The paths of all values of a JSON document that hold no others."""
    steps: Iterable[tuple[str | int, Any]] = ()
    if depth < DEEPEST:
        steps = plain.items() if isinstance(plain, dict) else ()
        steps = enumerate(plain) if isinstance(plain, list) else steps
    any_there = False
    for step, part in steps:
        any_there = True
        yield from json_paths(part, f"{path}{step_text(step)}", depth + 1)
    if not any_there:
        yield path


def _tables(store: Store) -> Iterator[str]:
    image = store.image
    try:
        yield from (f"HVM_PARAMS.{streams.param_name(index)}" for index in image.params)
        policy = image.policy
        for row in dict.fromkeys(leaf[:2] for leaf in policy.leaves):
            yield from (f"{row_path('CPUID', row)}.{name}" for name in ("eax", "ebx", "ecx", "edx"))
        yield from dict.fromkeys(row_path("MSR", msr) for msr in policy.msrs)
    except HvmctxError:
        return


def _of_stream(store: Store, record: IndexedRecord) -> Iterator[str]:
    kind = handlers.body_type(record.layer, record.type)
    if (record.layer, record.type) == store.image.emulator_type:
        yield from _of_emulator(store, record)
        return
    if kind is None or record.name in _OF_TABLES or record.count >= 0:
        return
    number = store.image.records_of(record.layer, record.type).index(record)
    fields = kind.fields.items()
    names = [name for name, of in fields if not (hasattr(of, "least") or is_reserved(name))]
    yield from (f"{record.name}/{number}.{name}" for name in names)


def _of_emulator(store: Store, record: IndexedRecord) -> Iterator[str]:
    """The numbers before a device model's file; of its sections each number and text where their
    fields are known, else all of it; of what another package's handler takes apart the same; or
    what is in the context that the file is."""
    from hvmctx.edit.device_model import fields_of, section_path, values_in
    from hvmctx.stream.qemu import DeviceModelState

    number = store.image.records_of(record.layer, record.type).index(record)
    kind = handlers.body_type(record.layer, record.type)
    path = f"{EMULATOR}/{number}"
    heads = () if kind is None else kind.head.names
    yield from (f"{path}.{name}" for name in heads)
    try:
        content, payload = emulator_file(store, record)
    except HvmctxError:
        return
    if isinstance(content, DeviceModelState):
        sections = {(each.name, each.instance): each for each in reversed(content.sections)}
        for (name, instance), section in reversed(sections.items()):
            within = section_path(path, name, instance, heads)
            plain = fields_of(section)
            if plain is None:
                yield within
            else:
                yield from (one for one, _ in values_in(within, plain))
    elif isinstance(content, handlers.Guarded):
        yield from (one for one, _ in values_in(path, content.plain(payload)))
    elif content is not None:
        yield from (f"{path}.{one}" for one in _of_context(content))


def _of_context(context: HvmContext) -> Iterator[str]:
    for name, record in record_names(context):
        known = record.type
        if known is None or not known.size:
            continue
        if known.typecode == VMPORT_TYPECODE:
            yield from _of_vmport(name, record)
            continue
        yield from (f"{name}.{path}" for path in known.layout.paths())
        if known.rest is not None:
            rest, element = known.rest
            layout = Layout.of(element) if isinstance(element, type) and _has(element) else None
            if layout is not None:
                for number in range(len(record.rest) // layout.size):
                    yield from (f"{name}.{rest}[{number}].{path}" for path in layout.paths())


def _has(element: Any) -> bool:
    return hasattr(element, "_fields_")


def _of_vmport(name: str, record: Record) -> Iterator[str]:
    from hvmctx.abi.vmport import used
    from hvmctx.context.vmport import Parts

    body, profile = bytes(record.body), used()
    for path in Layout.of(profile.packed).paths():
        slot = Layout.of(profile.packed).locate(path)
        if slot.offset + slot.size <= len(body):
            yield f"{name}.{path}"
    if len(body) >= profile.read_size:
        parts = Parts(body, profile)
        for place, (_, there) in zip(profile.buffers, parts.buffers):
            if there:
                yield f"{name}.chans[{place.channel}].{place.name}"
        yield from (f"{name}.{path}" for path in guestinfo_paths(parts))


def guestinfo_paths(parts: Any) -> dict[str, bytes]:
    """Path -> value of all guestinfo; a key that is there again has its number after it."""
    from hvmctx.context.vmport_slots import as_text

    found: dict[str, bytes] = {}
    times: dict[str, int] = {}
    for entry in parts.entries:
        path = f"guestinfo{'_jumbo' if entry.jumbo else ''}[{as_text(entry.key)}]"
        times[path] = number = times.get(path, 0) + 1
        found[path if number == 1 else f"{path}#{number}"] = entry.value
    return found


def record_names(context: HvmContext) -> Iterator[tuple[str, Record]]:
    """Each record with its path; of those that are there again each has its number."""
    counts: dict[tuple[int, int], int] = {}
    for record in context.entries:
        pair = record.typecode, record.instance
        counts[pair] = counts.get(pair, 0) + 1
    times: dict[tuple[int, int], int] = {}
    for record in context.entries:
        pair = record.typecode, record.instance
        times[pair] = times.get(pair, 0) + 1
        number = f"#{times[pair]}" if counts[pair] > 1 else ""
        yield f"{record_path(record)}{number}", record
