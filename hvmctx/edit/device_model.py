"""The sections of QEMU's file in a record that holds one, by their paths, and what differs between
two such records: a line a section, or the fields of a section that has some.

    EMULATOR_CONTEXT/0.cpu_common/1                 a section, by name and instance (0 is left out)
    EMULATOR_CONTEXT/0["0000:00:01.1/ide"][0x8:+4]  bytes of one whose name is no word
    EMULATOR_CONTEXT/0.vmmouse.status               a field (`stream.qemu_devices`)

Sections are paired by name and instance. Where their heads or lengths differ, the record as a whole
comes first, as everything after a longer section is moved.
"""

from __future__ import annotations

import re

from hvmctx.edit.difference import Difference, in_bytes
from hvmctx.edit.paths import step_text, steps_of
from hvmctx.errors import FormatError, LimitError, UsageError
from hvmctx.image import handlers
from hvmctx.stream.qemu import MAGIC, WITH_FIELDS, DeviceModelState, Section

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterator
    from typing import Any

    from hvmctx.image.image import Image
    from hvmctx.image.index import IndexedRecord

    File = tuple[bytes, DeviceModelState]

__all__ = ["fields_of", "in_device_model", "section_of", "section_path", "values_in"]

_SECTION = re.compile(
    r'([^./\[\]"]+|\["(?:[^"\\]|\\.)*"\])(?:/([0-9]{1,9}))?(?=[.\[]|$)', re.DOTALL
)
_LONGEST_TEXT = 64
"""Letters of a field that are shown."""


def section_of(state: DeviceModelState, path: str) -> tuple[Section, str]:
    """The section that a path such as `cpu/1` or `["0000:00:01.1/ide"]` starts with, and the rest
    of the path, from its first `.` or `[` on. Raises UsageError where there is none."""
    found = _SECTION.match(path)
    if found is not None:
        name, instance = found.groups()
        (step,) = steps_of(name if name.startswith("[") else f".{name}", path)
        section = state.section(str(step), int(instance or 0))
        if section is not None:
            return section, path[found.end() :]
    raise UsageError(f"{path}: the device model's file has no such section")


def section_path(record: str, name: str, instance: int, taken: Container[str]) -> str:
    """The path of a section in a record whose own fields are `taken`."""
    step = f'["{name}"]' if name in taken else step_text(name)
    return f"{record}{step}{f'/{instance}' if instance else ''}"


def fields_of(section: Section) -> Any:
    """The data of a section in JSON, by the names of its fields; None where they are not known."""
    if section.name not in WITH_FIELDS:
        return None
    from hvmctx.stream.qemu_devices import DEVICES, device_of

    device = device_of(section)
    return None if device is None else DEVICES[section.name, section.version][1].write(device)


def in_device_model(
    name: str, images: tuple[Image, Image], records: tuple[IndexedRecord, IndexedRecord]
) -> Iterator[Difference]:
    """Of two records of that path; that they differ in length is said by the caller. Byte by byte
    where either is no file of QEMU's."""
    one, other = (bytes(image.body(record)) for image, record in zip(images, records))
    mine, its = (
        _file(image, record, body) for image, record, body in zip(images, records, (one, other))
    )
    if mine is None or its is None:
        yield from in_bytes(name, one, other)
        return
    packed_alike = _packing(mine) == _packing(its)
    if len(one) == len(other) and not packed_alike:
        yield Difference(name, f"{len(one)} bytes", f"{len(other)} bytes, packed otherwise")
    sections = [
        {(each.name, each.instance): each for each in file.sections} for file in (mine, its)
    ]
    head = len(one) - len(mine.to_bytes())
    if packed_alike:
        head += len(mine.start)
    yield from in_bytes(name, one[:head], other[:head])
    kind = handlers.body_type(records[0].layer, records[0].type)
    taken = () if kind is None else kind.head.names
    for key in dict.fromkeys((*sections[0], *sections[1])):
        path = section_path(name, *key, taken)
        yield from _section(path, sections[0].get(key), sections[1].get(key))
    if packed_alike:
        yield from in_bytes(name, mine.end, its.end, len(one) - len(mine.end))


def _file(image: Image, record: IndexedRecord, body: bytes) -> DeviceModelState | None:
    """QEMU's, of which each section has a name of its own. Raises LimitError."""
    try:
        emulator = handlers.parse(record, body, image.limits)
    except LimitError:
        raise
    except FormatError:
        return None
    payload = bytes(emulator.payload)
    if not payload.startswith(MAGIC):
        return None
    content = handlers.content_of(emulator.emulator_id, payload, image.limits)
    if not isinstance(content, DeviceModelState) or content.to_bytes() != payload:
        return None
    names = {(section.name, section.instance) for section in content.sections}
    return content if len(names) == len(content.sections) else None


def _packing(file: DeviceModelState) -> tuple[object, ...]:
    heads = [(each.head, len(each.data), each.footer) for each in file.sections]
    return len(file.start), heads, len(file.end)


def _section(path: str, one: Section | None, other: Section | None) -> Iterator[Difference]:
    if one is None or other is None:
        there = (None if each is None else f"{len(each.data)} bytes" for each in (one, other))
        yield Difference(path, *there)
        return
    sizes = [f"{len(each.data)} bytes" for each in (one, other)]
    if one.version != other.version:
        sizes = [f"{size}, version {each.version}" for size, each in zip(sizes, (one, other))]
    if sizes[0] != sizes[1]:
        yield Difference(path, *sizes)
    if one.data == other.data:
        return
    values = [dict(values_in(path, fields_of(each))) for each in (one, other)]
    found = list(_fields(*values)) if values[0] and values[1] else []
    if sizes[0] == sizes[1]:
        if not _same_form(*values):
            yield Difference(path, sizes[0], f"{sizes[1]}, packed otherwise")
        yield from found or in_bytes(path, one.data, other.data, most=1)
    else:
        yield from found


def values_in(path: str, plain: Any) -> Iterator[tuple[str, int | str]]:
    """Every number and text with its path."""
    if isinstance(plain, dict):
        for name, value in plain.items():
            yield from values_in(f"{path}{step_text(name)}", value)
    elif isinstance(plain, list):
        for at, value in enumerate(plain):
            yield from values_in(f"{path}{step_text(at)}", value)
    elif plain is not None:
        yield path, plain


def _same_form(one: dict[str, int | str], other: dict[str, int | str]) -> bool:
    """Whether the values of one can be put in the place of the other's one by one."""
    lengths = (
        {path: len(value) if isinstance(value, str) else -1 for path, value in each.items()}
        for each in (one, other)
    )
    return next(lengths) == next(lengths)


def _fields(one: dict[str, int | str], other: dict[str, int | str]) -> Iterator[Difference]:
    for key in dict.fromkeys((*one, *other)):
        before, after = one.get(key), other.get(key)
        if before != after:
            yield Difference(key, _text(before), _text(after))


def _text(value: int | str | None) -> str | None:
    if not isinstance(value, str):
        return None if value is None else f"{value:#x}"
    more = f"... ({len(value)} letters)" if len(value) > _LONGEST_TEXT else ""
    return f"{value[:_LONGEST_TEXT]}{more}"
