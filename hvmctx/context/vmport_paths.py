"""A single value of a VMPORT record by its path: get, set, remove, and where it lies.

A path is a field of the fixed part (`ping_time`, `chans[0].cookie`), a buffer
(`chans[0].send`, `chans[0].recv[2]`, `chans[0].jumbo_recv`), or a guestinfo key
(`guestinfo["guestinfo.ip"]`, `guestinfo_jumbo["k"]`). A key that is there twice means the first,
and with `#2` after it the second. All else of the body stays as it is.
"""

from __future__ import annotations

import re

from hvmctx.abi import vmport as abi
from hvmctx.abi.fields import Layout
from hvmctx.abi.vmport import HEAD, VmportProfile
from hvmctx.context.vmport import Entry, Parts
from hvmctx.context.vmport_slots import from_text, pack_entry
from hvmctx.errors import FieldError, MissingRecordError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hvmctx.abi.fields import Slot
    from hvmctx.abi.vmport import BufferPlace

__all__ = ["get_path", "holds_bytes", "remove_path", "set_path", "span_of"]

_U32 = 0xFFFFFFFF


def get_path(body: bytes, path: str, profile: VmportProfile | None = None) -> int | bytes:
    """What a path names in a body: a field (`ping_time`, `chans[0].cookie`: a number), or
    a value or what a buffer holds (`guestinfo["guestinfo.ip"]`, `chans[0].send`: bytes). Raises
    UsageError for a path that names nothing, MissingRecordError for a key that is not there."""
    profile = profile or abi.used()
    if holds_bytes(path):
        start, size = span_of(body, path, profile)
        return body[start : start + size]
    found: int | bytes = _slot(path, body, profile).get(body)
    return found


def holds_bytes(path: str) -> bool:
    """Whether a path names a value or a buffer, not a number."""
    return _key_of(path) is not None or _BUFFER.match(path) is not None


def span_of(body: bytes, path: str, profile: VmportProfile | None = None) -> tuple[int, int]:
    """Where in the body the bytes are that `get_path` gives or reads, and how many. Raises as
    `get_path`."""
    profile = profile or abi.used()
    named = _key_of(path)
    if named is not None:
        entry = _entry(body, profile, named)
        if entry is None:
            raise MissingRecordError(f"VMPORT.{path}: no such key")
        return entry.end - len(entry.value), len(entry.value)
    if _BUFFER.match(path):
        place = _buffer(path, profile)
        _need_whole(body, profile)
        return Parts(body, profile).buffers[profile.buffers.index(place)]
    slot = _slot(path, body, profile)
    return slot.offset, slot.size


def set_path(
    body: bytes, path: str, value: int | bytes, profile: VmportProfile | None = None
) -> bytes:
    """The body with that value there, all else as it was: a key is replaced where it
    stands, or added after the last of its kind, and the counts follow; a buffer has what it is
    given, and its length follows. Raises FieldError for a value that does not fit, UsageError
    as `get_path`."""
    profile = profile or abi.used()
    if not holds_bytes(path):
        changed = bytearray(body)
        _slot(path, body, profile).put(changed, value)
        return bytes(changed)
    if not isinstance(value, bytes):
        raise FieldError(f"VMPORT.{path} takes bytes")
    named = _key_of(path)
    if named is None:
        return _with_buffer(body, path, value, profile)
    jumbo, key, number = named
    limit = profile.MAX_VAL_JUMBO_LEN if jumbo else profile.MAX_VAL_LEN
    if len(value) > limit:
        raise FieldError(f"VMPORT.{path} takes at most {limit} bytes, not {len(value)}")
    if not 0 < len(key) <= profile.MAX_KEY_LEN:
        raise FieldError(f"VMPORT.{path}: a key has 1 to {profile.MAX_KEY_LEN} bytes")
    _need_whole(body, profile)
    body = body.ljust(profile.fixed_size, b"\0")  # entries begin after the last padding
    entry = _entry(body, profile, named)
    if entry is None and number > 1 and _entry(body, profile, (jumbo, key, number - 1)) is None:
        raise MissingRecordError(f"VMPORT.{path}: no such key")
    if entry is not None:
        start, end = entry.start, entry.end
    else:
        start = end = _after_last(body, profile, jumbo)
    packed = pack_entry(key, value, jumbo=jumbo)
    changed = bytearray(body[:start] + packed + body[end:])
    size = HEAD.locate("used_guestsize")
    size.put(changed, size.get(body) + len(packed) - (end - start) & _U32)
    if entry is None:
        count = HEAD.locate(_COUNTS[jumbo])
        count.put(changed, count.get(body) + 1 & _U32)
    return bytes(changed)


def remove_path(body: bytes, path: str, profile: VmportProfile | None = None) -> bytes:
    """The body without the key that a path names (`guestinfo["k"]`), every entry of it, or with
    `#2` that one; the counts follow. Raises UsageError for a field, MissingRecordError for a key
    that is not there."""
    profile = profile or abi.used()
    named = _key_of(path)
    if named is None:
        raise UsageError(f"VMPORT.{path}: a field cannot be removed, only a key")
    jumbo, every = named[0], not _NUMBERED.search(path)
    entry = _entry(body, profile, named)
    if entry is None:
        raise MissingRecordError(f"VMPORT.{path}: no such key")
    size, count = HEAD.locate("used_guestsize"), HEAD.locate(_COUNTS[jumbo])
    while entry is not None:
        changed = bytearray(body[: entry.start] + body[entry.end :])
        size.put(changed, size.get(body) - (entry.end - entry.start) & _U32)
        count.put(changed, count.get(body) - 1 & _U32)
        body = bytes(changed)
        entry = _entry(body, profile, named) if every else None
    return body


_COUNTS = ("used_guestinfo", "used_guestinfo_jumbo")
"""Numbers of the head: how many entries there are, of either kind."""


_BUFFER = re.compile(r"chans\[\d+\]\.(send|recv\[\d+\]|jumbo_recv)\Z", re.ASCII)
_NUMBERED = re.compile(r"\]#([0-9]{1,9})\Z")


def _key_of(path: str) -> tuple[bool, bytes, int] | None:
    """Whether it is a jumbo key, the key, and which of its name, from 1."""
    numbered = _NUMBERED.search(path)
    number = int(numbered[1]) if numbered else 1
    bare = path[: numbered.start() + 1] if numbered else path
    for name, jumbo in (("guestinfo", False), ("guestinfo_jumbo", True)):
        if bare.startswith(f"{name}[") and bare.endswith("]"):
            return jumbo, from_text(bare[len(name) + 1 : -1]), number
    return None


def _buffer(path: str, profile: VmportProfile) -> BufferPlace:
    for place in profile.buffers:
        if path == f"chans[{place.channel}].{place.name}":
            return place
    raise UsageError(f"VMPORT.{path}: no such buffer")


def _with_buffer(body: bytes, path: str, value: bytes, profile: VmportProfile) -> bytes:
    place = _buffer(path, profile)
    start, size = span_of(body, path, profile)
    most = min(place.room, 0xFFFF)
    if len(value) > most:
        raise FieldError(f"VMPORT.{path} takes at most {most} bytes, not {len(value)}")
    body = body.ljust(profile.fixed_size, b"\0")
    changed = bytearray(body[:start] + value + body[start + size :])
    if len(value) != size:
        changed[place.offset : place.offset + 2] = len(value).to_bytes(2, "little")
    return bytes(changed)


def _need_whole(body: bytes, profile: VmportProfile) -> None:
    if len(body) < profile.read_size:
        raise FieldError(f"VMPORT: a body of {len(body)} bytes is too short for guestinfo")


def _slot(path: str, body: bytes, profile: VmportProfile) -> Slot:
    slot = Layout.of(profile.packed).locate(path)
    if slot.offset + slot.size > len(body):
        raise UsageError(f"VMPORT.{path} is beyond the record's {len(body)} bytes")
    return slot


def _entry(body: bytes, profile: VmportProfile, named: tuple[bool, bytes, int]) -> Entry | None:
    """Without a number the first of its key, which is the one that a state shows."""
    jumbo, key, number = named
    if len(body) < profile.read_size:
        return None
    entries = Parts(body, profile).entries
    alike = [each for each in entries if each.jumbo == jumbo and each.key == key]
    return alike[number - 1] if 0 < number <= len(alike) else None


def _after_last(body: bytes, profile: VmportProfile, jumbo: bool) -> int:
    parts = Parts(body, profile)
    return parts.end if jumbo else parts.first_jumbo
