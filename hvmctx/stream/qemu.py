"""A device model's saved file, when it is QEMU's: its sections by name, and all bytes kept.

QEMU's format (big-endian, `migration/savevm.c`, versions 2 to 8) gives the length of no
section's data, and Xen's device model writes neither section footers nor a description.
So the sections are found by looking for their heads: the list is a good guess, everything
else is read. `to_bytes` gives the very bytes back; `stream.qemu_devices` knows what is in the
sections of VMware's port.
"""

from __future__ import annotations

import re
import struct

from hvmctx.abi.streams import QEMU_MAGIC
from hvmctx.limits import DEFAULT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hvmctx.limits import Limits

__all__ = ["MAGIC", "WITH_FIELDS", "DeviceModelState", "Section", "recognise"]

MAGIC = QEMU_MAGIC
WITH_FIELDS = frozenset({"vmmouse", "vmport_rpc"})
"""The sections that `stream.qemu_devices` may know more of."""
_CONFIGURATION, _FOOTER = 7, 0x7E
_LARGEST_ID = 1 << 16
_LARGEST_VERSION = 1 << 10

_HEAD = re.compile(rb"[\x01\x04](?=\x00\x00..[\x02-\xff][!-~])", re.DOTALL)
"""Start or full section, a section id below 65536, the length of a name, its first letter."""
_DESCRIPTION = re.compile(rb"\x06(?=.{4}\{)", re.DOTALL)
_LARGEST_DESCRIPTION = 4 << 20
"""QEMU's has some hundreds of kilobytes. Taken apart it costs up to thirty times as many."""
_NAME = re.compile(rb"[!-~]+")


class Section:
    """One device's section: `offset` is within the payload that was read, `kind` the byte
    that its head starts with, 4 for a whole section. `data` are all bytes up to the next section,
    or to its `footer`, where it has one."""

    __slots__ = (
        "data", "footer", "instance", "kind", "name", "offset", "section_id", "version",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        instance: int,
        version: int,
        section_id: int,
        offset: int,
        kind: int = 4,
        data: bytes = b"",
        footer: bool = False,
    ) -> None:
        self.name = name
        self.instance = instance
        self.version = version
        self.section_id = section_id
        self.offset = offset
        self.kind = kind
        self.data = data
        self.footer = footer

    def __repr__(self) -> str:
        return f"<{self.name}/{self.instance}, version {self.version}, {len(self.data)} bytes>"

    @property
    def head(self) -> bytes:
        name = self.name.encode()
        return (
            struct.pack(">BIB", self.kind, self.section_id, len(name))
            + name
            + struct.pack(">II", self.instance, self.version)
        )

    def to_bytes(self) -> bytes:
        return self.head + self.data + (self._end if self.footer else b"")

    @property
    def _end(self) -> bytes:
        return struct.pack(">BI", _FOOTER, self.section_id)

    def take(self, data: bytes, last: bool) -> bytes:
        """Let this be the section's data, with its footer. Returns what is behind that: of the
        last section the end of the list may be."""
        at = data.rfind(self._end)
        behind = data[at + len(self._end) :] if at >= 0 else b""
        self.footer = at >= 0 and (behind == b"\0" if last and behind else not behind)
        self.data = data[:at] if self.footer else data
        return behind if self.footer else b""


class DeviceModelState:
    """A QEMU device-model file. `version` is the format's (3), `machine` the machine type
    of the configuration section, `description` the JSON that some files end with. `start` are
    the bytes before the first section, `end` those after the last."""

    __slots__ = ("description", "end", "machine", "sections", "start", "version")

    def __init__(
        self,
        version: int,
        machine: str | None = None,
        sections: list[Section] | None = None,
        description: Any = None,
        start: bytes = b"",
        end: bytes = b"",
    ) -> None:
        self.version = version
        self.machine = machine
        self.sections = [] if sections is None else sections
        self.description = description
        self.start = start
        self.end = end

    def __repr__(self) -> str:
        return f"<QEMU's file, version {self.version}, {len(self.sections)} sections>"

    def to_bytes(self) -> bytes:
        """The file, bit for bit."""
        return self.start + b"".join(each.to_bytes() for each in self.sections) + self.end

    def section(self, name: str, instance: int = 0) -> Section | None:
        """The first of that name and instance."""
        both = name, instance
        return next((each for each in self.sections if (each.name, each.instance) == both), None)


def recognise(payload: bytes | memoryview, limits: Limits = DEFAULT) -> DeviceModelState | None:
    """None for a payload without QEMU's magic. Raises LimitError, and nothing else."""
    if len(payload) < 8 or bytes(payload[:4]) != MAGIC:
        return None
    data = bytes(payload)
    state = DeviceModelState(version=int.from_bytes(data[4:8], "big"))
    start = 8
    if data[8:9] == bytes((_CONFIGURATION,)):
        size = int.from_bytes(data[9:13], "big")
        if 13 + size <= len(data):
            state.machine = data[13 : 13 + size].decode("utf-8", "replace")
            start = 13 + size
    end, state.description = _description(data, start)
    state.sections = _sections(data, start, end, limits)
    starts = [each.offset for each in state.sections] or [len(data)]
    state.start, state.end = data[: starts[0]], data[end:] if state.sections else b""
    for each, until in zip(state.sections, [*starts[1:], end]):
        more = each.take(data[each.offset + len(each.head) : until], until == end)
        state.end = more + state.end
    return state


def _sections(data: bytes, start: int, end: int, limits: Limits) -> list[Section]:
    found: list[Section] = []
    seen: set[int] = set()
    for match in _HEAD.finditer(data, start, end):
        at = match.start()
        section = _section_at(data, at, end)
        if section is not None and section.section_id not in seen:
            seen.add(section.section_id)
            if len(found) == limits.sections:
                raise limits.over("sections", "sections", layer="qemu", offset=at)
            found.append(section)
    return found


def _section_at(data: bytes, at: int, end: int) -> Section | None:
    section_id, length = struct.unpack_from(">IB", data, at + 1)
    name_end = at + 6 + length
    if name_end + 8 > end or _NAME.fullmatch(data, at + 6, name_end) is None:
        return None
    instance, version = struct.unpack_from(">II", data, name_end)
    if section_id >= _LARGEST_ID or version >= _LARGEST_VERSION or instance >= _LARGEST_ID:
        return None
    name = data[at + 6 : name_end].decode("ascii")
    return Section(name, instance, version, section_id, at, data[at])


def _description(data: bytes, start: int) -> tuple[int, Any]:
    """(where it starts, the JSON) of a description that ends the file; (size, None) else.

    It is an object, so it is looked for where a `{` follows a length that reaches the end.
    """
    for match in _DESCRIPTION.finditer(data, max(start, len(data) - _LARGEST_DESCRIPTION)):
        at = match.start()
        if at + 5 + int.from_bytes(data[at + 1 : at + 5], "big") == len(data):
            try:
                import json

                return at, json.loads(data[at + 5 :])
            except (ValueError, RecursionError):
                return len(data), None
    return len(data), None
