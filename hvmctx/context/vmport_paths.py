"""A single value of a VMPORT record by its path: get, set, remove.

A path is a field of the fixed part (`ping_time`, `chans[0].cookie`) or a guestinfo key
(`guestinfo["guestinfo.ip"]`, `guestinfo_jumbo["k"]`), of which a key that is there twice
means the first. All else of the body stays as it is.
"""

from __future__ import annotations

from hvmctx.abi import vmport as abi
from hvmctx.abi.fields import Layout
from hvmctx.abi.vmport import HEAD, VmportProfile
from hvmctx.context.vmport import Entry, Parts
from hvmctx.context.vmport_slots import from_text, pack_entry
from hvmctx.errors import FieldError, MissingRecordError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hvmctx.abi.fields import Slot

__all__ = ["get_path", "remove_path", "set_path"]

_U32 = 0xFFFFFFFF


def get_path(body: bytes, path: str, profile: VmportProfile | None = None) -> int | bytes:
    """What a path names in a body: a field (`ping_time`, `chans[0].cookie`: a number), or
    a value (`guestinfo["guestinfo.ip"]`, `guestinfo_jumbo["k"]`: bytes). Raises UsageError
    for a path that names nothing, MissingRecordError for a key that is not there."""
    profile = profile or abi.used()
    named = _key_of(path)
    if named is None:
        found: int | bytes = _slot(path, body, profile).get(body)
        return found
    jumbo, key = named
    entry = _entry(body, profile, jumbo, key)
    if entry is None:
        raise MissingRecordError(f"VMPORT.{path}: no such key")
    return entry.value


def set_path(
    body: bytes, path: str, value: int | bytes, profile: VmportProfile | None = None
) -> bytes:
    """The body with that value there, all else as it was: a key is replaced where it
    stands, or added after the last of its kind, and the counts follow. Raises FieldError
    for a value that does not fit, UsageError as `get_path`."""
    profile = profile or abi.used()
    named = _key_of(path)
    if named is None:
        changed = bytearray(body)
        _slot(path, body, profile).put(changed, value)
        return bytes(changed)
    if not isinstance(value, bytes):
        raise FieldError(f"VMPORT.{path} takes bytes")
    jumbo, key = named
    limit = profile.MAX_VAL_JUMBO_LEN if jumbo else profile.MAX_VAL_LEN
    if len(value) > limit:
        raise FieldError(f"VMPORT.{path} takes at most {limit} bytes, not {len(value)}")
    if not 0 < len(key) <= profile.MAX_KEY_LEN:
        raise FieldError(f"VMPORT.{path}: a key has 1 to {profile.MAX_KEY_LEN} bytes")
    if len(body) < profile.read_size:
        raise FieldError(f"VMPORT: a body of {len(body)} bytes is too short for guestinfo")
    body = body.ljust(profile.fixed_size, b"\0")  # entries begin after the last padding
    entry = _entry(body, profile, jumbo, key)
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
    """The body without the key that a path names (`guestinfo["k"]`), every entry of it;
    the counts follow. Raises UsageError for a field, MissingRecordError for a key that is not
    there."""
    profile = profile or abi.used()
    named = _key_of(path)
    if named is None:
        raise UsageError(f"VMPORT.{path}: a field cannot be removed, only a key")
    jumbo, key = named
    entry = _entry(body, profile, jumbo, key)
    if entry is None:
        raise MissingRecordError(f"VMPORT.{path}: no such key")
    size, count = HEAD.locate("used_guestsize"), HEAD.locate(_COUNTS[jumbo])
    while entry is not None:
        changed = bytearray(body[: entry.start] + body[entry.end :])
        size.put(changed, size.get(body) - (entry.end - entry.start) & _U32)
        count.put(changed, count.get(body) - 1 & _U32)
        body = bytes(changed)
        entry = _entry(body, profile, jumbo, key)
    return body


_COUNTS = ("used_guestinfo", "used_guestinfo_jumbo")
"""Numbers of the head: how many entries there are, of either kind."""


def _key_of(path: str) -> tuple[bool, bytes] | None:
    for name, jumbo in (("guestinfo", False), ("guestinfo_jumbo", True)):
        if path.startswith(f"{name}[") and path.endswith("]"):
            return jumbo, from_text(path[len(name) + 1 : -1])
    return None


def _slot(path: str, body: bytes, profile: VmportProfile) -> Slot:
    slot = Layout.of(profile.packed).locate(path)
    if slot.offset + slot.size > len(body):
        raise UsageError(f"VMPORT.{path} is beyond the record's {len(body)} bytes")
    return slot


def _entry(body: bytes, profile: VmportProfile, jumbo: bool, key: bytes) -> Entry | None:
    """The first of its key, which is the one that a state shows."""
    if len(body) < profile.read_size:
        return None
    entries = Parts(body, profile).entries
    return next((each for each in entries if each.jumbo == jumbo and each.key == key), None)


def _after_last(body: bytes, profile: VmportProfile, jumbo: bool) -> int:
    parts = Parts(body, profile)
    return parts.end if jumbo else parts.first_jumbo
