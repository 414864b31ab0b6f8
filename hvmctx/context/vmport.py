"""Reads and writes VMPORT records: `VmportState`, of bytes and of JSON.

docs/vmport.md has the format in words, section "The format", in the order of this module:

* **Head** and **channels**, the fixed part: the structures are `abi.vmport`'s, and become
  `Channel` and its `Buffer`s.
* **packed_data**: `Parts` goes through it as the loader does, `vmport_slots` has the entries.
* **The writer**: `_write`.

Paths to single values are `vmport_paths`. Source: as `abi.vmport`.

`from_bytes` takes any bytes. A state that is unchanged gives the very bytes that it came
from, also when their lengths disagree; a changed state gives what the patch's writer would
write of it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from operator import attrgetter, itemgetter

from hvmctx.abi import checked
from hvmctx.abi import vmport as abi
from hvmctx.abi.declare import VMPORT_TYPECODE
from hvmctx.abi.fields import Layout, misfit
from hvmctx.abi.forms import Attributes, Escaped, Form, Hex, Listed, Number, member
from hvmctx.abi.vmport import HEAD, HEAD_NUMBERS, VmportProfile
from hvmctx.abi.x86 import DESCRIPTOR
from hvmctx.context.record import Record, pack_descriptor
from hvmctx.context.vmport_slots import SLOTS_FORM, Slots, as_text, pack_entry
from hvmctx.errors import FieldError
from hvmctx.messages import why_not_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "CHANNEL_NUMBERS", "STATE_FORM", "Buffer", "Channel", "Entry", "Parts", "Slots", "StateForm",
    "VmportState", "descriptor", "save", "to_record",
]  # fmt: skip

_U32 = 0xFFFFFFFF


@dataclass(slots=True)
class Buffer:
    """What a channel has sent or received. `length` is that of the control word, which the
    writer keeps even where it caps the data, and None where it is that of the data; `index` how
    far it has been consumed. Beyond its data a buffer has zeros."""

    data: bytes = field(default=b"", metadata=member(Escaped(), left_out=True))
    index: int = field(default=0, metadata=member(Number(16), left_out=True))
    length: int | None = field(default=None, metadata=member(Number(16), left_out=True))

    def claimed(self) -> int:
        """The length that the control word says."""
        return len(self.data) if self.length is None else self.length


_BUFFER = Attributes(Buffer, Layout.of(abi.vmport_bucket_control))


class _Protocol(Number):
    """A name of `PROTOCOLS`, or a number."""

    __slots__ = ()

    def write(self, value: int) -> str | int:
        return abi.PROTOCOLS.get(value, value)

    def read(self, plain: object, where: str) -> int:
        named = [number for number, name in abi.PROTOCOLS.items() if name == plain]
        return named[0] if named else super().read(plain, where)

    def schema(self) -> dict[str, object]:
        return {"anyOf": [{"enum": list(abi.PROTOCOLS.values())}, super().schema()]}


@dataclass(slots=True)
class Channel:
    """One of the channels; `proto_num` 0 is a closed one. `padding` are the bytes that fill up
    its control, which loader and writer copy with it; b"" are zeros."""

    active_time: int = 0
    chan_id: int = 0
    cookie: int = 0
    proto_num: int = field(default=0, metadata=member(_Protocol(32)))
    jumbo: int = 0
    recv_read: int = 0
    recv_write: int = 0
    send: Buffer = field(default_factory=Buffer, metadata=member(_BUFFER))
    recv: list[Buffer] = field(default_factory=list, metadata=member(Listed(_BUFFER)))
    jumbo_recv: Buffer = field(default_factory=Buffer, metadata=member(_BUFFER))
    padding: bytes = field(default=b"", metadata=member(Hex(), left_out=True))

    @property
    def protocol(self) -> str:
        return abi.PROTOCOLS.get(self.proto_num, f"{self.proto_num:#x}")


_CHANNEL = Attributes(Channel, Layout.of(abi.vmport_channel_control))
CHANNEL_NUMBERS = tuple(name for name in abi.CONTROL_NUMBERS if not name.startswith("send_"))
"""What of its control a `Channel` starts with; `send` has the rest."""
_PLACES = tuple(abi.CONTROL_NUMBERS.index(name) for name in CHANNEL_NUMBERS)
_of_control = itemgetter(*_PLACES)
_of_channel = attrgetter(*CHANNEL_NUMBERS)


@dataclass(repr=False)
class VmportState:
    """Everything that a VMPORT record carries.

    `unparsed` is a body too short for its fixed part, and all else is empty then; it is
    None for a body that has one. `origin` is the body that the state was read from; it
    is written again if the state has not been changed since.

    Methods that take a profile use the one in use (`abi.vmport.used`) where it is None.

    >>> state = VmportState.empty()
    >>> state.guestinfo[b"guestinfo.ip"] = b"10.0.0.1"
    >>> VmportState.from_bytes(state.to_bytes()).guestinfo[b"guestinfo.ip"]
    b'10.0.0.1'
    """

    ping_time: int = 0
    open_cookie: int = 0
    channels: list[Channel] = field(default_factory=list, metadata=member(Listed(_CHANNEL)))
    guestinfo: Slots = field(default_factory=Slots, metadata=member(SLOTS_FORM))
    guestinfo_jumbo: Slots = field(default_factory=Slots, metadata=member(SLOTS_FORM))
    unparsed: bytes | None = None
    origin: bytes | None = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        if self.unparsed is not None:
            return f"<VmportState: {len(self.unparsed)} bytes, shorter than the fixed part>"
        opened = sum(1 for channel in self.channels if channel.proto_num)
        return (
            f"<VmportState: {opened} of {len(self.channels)} channels open, "
            f"{len(self.guestinfo)} guestinfo keys, {len(self.guestinfo_jumbo)} jumbo>"
        )

    @classmethod
    def empty(cls, profile: VmportProfile | None = None) -> VmportState:
        """A state with as many closed channels and empty buckets as the profile has."""
        profile = profile or abi.used()
        channels = [
            Channel(recv=[Buffer() for _ in range(profile.MAX_BKTS)])
            for _ in range(profile.MAX_CHANS)
        ]
        return cls(channels=channels)

    @classmethod
    def from_bytes(
        cls, body: bytes | bytearray | memoryview, profile: VmportProfile | None = None
    ) -> VmportState:
        """The state in a record's body (no descriptor). Never raises: what the body's
        lengths claim and it does not hold is missing from the state, and kept in `origin`."""
        profile = profile or abi.used()
        body = bytes(body)
        if len(body) < profile.read_size:
            return cls(unparsed=body)
        parts = Parts(body, profile)
        state = cls(parts.head["ping_time"], parts.head["open_cookie"], origin=body)
        state.channels = _channels_of(parts, profile)
        for slots, jumbo in ((state.guestinfo, False), (state.guestinfo_jumbo, True)):
            slots.pairs = [(e.key, e.value) for e in parts.entries if e.jumbo == jumbo]
        return state

    def to_bytes(self, profile: VmportProfile | None = None, *, strict: bool = False) -> bytes:
        """The body of a record with this state: its origin's where it is unchanged, else
        what the patch's writer writes: as many bytes of a buffer as its length says, capped to
        MAX * 4 bytes under the length that was there, and empty slots left out.

        Raises FieldError for a number that its field cannot hold, and for another count of
        channels or buckets than the profile's. `strict` also refuses what the writer could
        not have held: data beyond a buffer, lengths without their data, keys, values and
        counts beyond the profile, a key twice, and an unchanged body that it would have
        written otherwise (another version, bytes after the last entry, padding that it does
        not copy).
        """
        profile = profile or abi.used()
        if strict:
            _refuse_impossible(self, profile)
        if self.unparsed is not None:
            return self.unparsed
        written = _write(self, profile)
        origin = self.origin
        if origin is None or len(origin) < profile.read_size:
            return written
        if origin != written and _write(self.from_bytes(origin, profile), profile) != written:
            return written
        if strict and origin != written:
            raise FieldError("VMPORT: the writer would write another body for this state")
        return origin

    def to_json(self, profile: VmportProfile | None = None) -> str:
        """As JSON text: see `STATE_FORM`. Raises FieldError as `to_bytes` does."""
        import json

        with abi.using(profile or abi.used()):
            return json.dumps(STATE_FORM.write(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, profile: VmportProfile | None = None) -> VmportState:
        """The inverse. Raises FieldError for text that is not JSON of this form, and for a
        state that no record of the profile holds."""
        import json

        try:
            plain = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise FieldError(f"not JSON: {why_not_json(error)}") from None
        with abi.using(profile or abi.used()):
            return STATE_FORM.read(plain, "")


class StateForm(Form):
    """A `VmportState` in JSON, of the profile in use: its members, bytes as text with `\\xNN`
    for what is not printable ASCII, guestinfo as lists of [key, value].

    `raw`, in hex, is the whole body where the writer does not write it so (another version,
    padding, bytes after the last entry ...). The members that stand beside it must be those
    that it holds; a body too short for its fixed part has none.
    """

    __slots__ = ()
    _MEMBERS = Attributes(VmportState, HEAD)
    _RAW = Hex()

    def write(self, value: VmportState) -> dict[str, object]:
        """Raises FieldError as `VmportState.to_bytes`."""
        body = value.to_bytes()
        if value.unparsed is not None:
            return {"raw": self._RAW.write(body)}
        plain: dict[str, object] = self._MEMBERS.write(value)
        if body != _write(value, abi.used()):
            plain["raw"] = self._RAW.write(body)
        return plain

    def read(self, plain: object, where: str) -> VmportState:
        """Raises FieldError, also for a state that no record of the profile holds."""
        members = dict(checked.as_object(plain, where))
        whole = None
        if "raw" in members:
            raw = self._RAW.read(members.pop("raw"), f"{where}.raw" if where else "raw")
            whole = VmportState.from_bytes(raw)
            if not members:
                return whole
        state: VmportState = self._MEMBERS.read(members, where)
        try:
            written = state.to_bytes()
            same = whole is None or (
                whole.unparsed is None and written == _write(whole, abi.used())
            )
        except FieldError as error:
            raise checked.placed(checked.Disagreement(str(error)), where) from None
        if not same:
            problem = "raw does not hold the state beside it; leave out one of the two"
            raise checked.placed(checked.Disagreement(problem), where)
        return whole or state

    def schema(self) -> dict[str, object]:
        found = self._MEMBERS.schema()
        members, needed = found.pop("properties"), found.pop("required")
        alone = {"required": ["raw"], "maxProperties": 1}
        return {
            **found,
            "properties": {**members, "raw": self._RAW.schema()},
            "anyOf": [{"required": needed}, alone],
        }


STATE_FORM = StateForm()


class Entry:
    """A guestinfo entry's place in a body: `start` of its head, `end` of its value."""

    __slots__ = ("end", "jumbo", "key", "start", "value")

    def __init__(self, key: bytes, value: bytes, start: int, end: int, jumbo: bool) -> None:
        self.key = key
        self.value = value
        self.start = start
        self.end = end
        self.jumbo = jumbo


class Parts:
    """A body taken apart as far as its own lengths and bytes go, places included: it has what
    the loader reads of the fixed part (`VmportProfile.read_size`).

    `head` has the numbers of the body's head by name, `values` all of the fixed part (see
    `VmportProfile.fixed`); `buffers` has for every buffer (`VmportProfile.buffers`) its
    offset and how many of its claimed bytes are there; `entries` the whole guestinfo
    entries, `skipped` the offsets of heads that the loader reads and takes nothing for. The
    entries start at `first_entry`, the jumbo ones at `first_jumbo`; `end` is the offset of
    the first byte that belongs to none of them. `body` is the body, with the padding that ends
    the fixed part where that is not there.
    """

    def __init__(self, body: bytes, profile: VmportProfile) -> None:
        self.body = body = body.ljust(profile.fixed_size, b"\0")
        self.head = HEAD.decode(body)
        self.values = values = profile.fixed.unpack_from(body)
        self.buffers: list[tuple[int, int]] = []
        self.entries: list[Entry] = []
        data, end = profile.fixed_size, len(body)
        for length in profile.buffer_lengths(values):
            there = length if length <= end - data else end - data
            self.buffers.append((data, there))
            data += there
        self.skipped: list[int] = []
        self.first_entry = data
        self.first_jumbo, left = self._read_entries(body, data, self.head["used_guestsize"], False)
        self.end, _ = self._read_entries(body, self.first_jumbo, left, True)

    def _read_entries(self, body: bytes, at: int, left: int, jumbo: bool) -> tuple[int, int]:
        """One of the loader's two loops, in its u32 arithmetic, up to the first entry that
        is not all there. Returns where it ends, and what is left of used_guestsize (0 after
        such an entry: where another one would start is unknown)."""
        size = (abi.JUMBO_ENTRY_HEAD if jumbo else abi.ENTRY_HEAD).size
        used = self.head["used_guestinfo_jumbo" if jumbo else "used_guestinfo"]
        total, append = len(body), self.entries.append
        for _ in range(min(used, abi.slots_made(used, jumbo=jumbo))):
            if not left:
                break
            key = at + size
            if key > total:
                return at, 0
            key_len = body[at]
            val_len = body[at + 1] | body[at + 2] << 8 if jumbo else body[at + 1]
            left = left - size & _U32
            taken = key_len + val_len
            if not key_len or left < taken:
                self.skipped.append(at)
                at = key
                continue
            end = key + taken
            if end > total:
                return at, 0
            value = key + key_len
            append(Entry(body[key:value], body[value:end], at, end, jumbo))
            at = end
            left -= taken
        return at, left


def _channels_of(parts: Parts, profile: VmportProfile) -> list[Channel]:
    body, values = parts.body, parts.values
    lengths, indexes = profile.buffer_lengths(values), profile.buffer_indexes(values)
    buffers = [
        Buffer(body[start : start + there], index, None if there == claimed else claimed)
        for (start, there), claimed, index in zip(parts.buffers, lengths, indexes)
    ]
    each = len(buffers) // profile.MAX_CHANS
    channels = []
    places = zip(profile.channel_numbers, profile.control_padding)
    for number, (first, padding) in enumerate(places):
        control = _of_control(values[first : first + len(abi.CONTROL_NUMBERS)])
        send, *buckets, jumbo_recv = buffers[number * each : (number + 1) * each]
        held = body[padding] if any(body[padding]) else b""
        members: tuple[Any, ...] = (*control, send, buckets, jumbo_recv, held)
        channels.append(Channel(*members))
    return channels


def to_record(state: VmportState, profile: VmportProfile | None = None) -> Record:
    """The state as a record of a context."""
    return Record(VMPORT_TYPECODE, 0, state.to_bytes(profile))


def save(
    state: VmportState, room: int | None = None, profile: VmportProfile | None = None
) -> bytes | None:
    """The record, descriptor included, that the writer puts into a context with `room` bytes
    left. It asks for the longest record before it writes any, so None means that there is less
    room than that, however short this one is. Raises FieldError as `VmportState.to_bytes`."""
    profile = profile or abi.used()
    if room is not None and room < DESCRIPTOR.size + profile.max_size:
        return None
    body = _write(state, profile)
    return descriptor(body) + body


def descriptor(body: bytes) -> bytes:
    """The descriptor that stands before `body`."""
    return pack_descriptor(VMPORT_TYPECODE, 0, len(body))


def _buffers(state: VmportState, profile: VmportProfile) -> list[Buffer]:
    """Those of all channels, as `VmportProfile.buffers`. Raises FieldError where there are
    more or fewer."""
    if len(state.channels) != profile.MAX_CHANS:
        raise FieldError(f"VMPORT: {len(state.channels)} channels, expected {profile.MAX_CHANS}")
    buffers: list[Buffer] = []
    for number, channel in enumerate(state.channels):
        if len(channel.recv) != profile.MAX_BKTS:
            raise FieldError(
                f"VMPORT: chans[{number}] has {len(channel.recv)} buckets, "
                f"expected {profile.MAX_BKTS}"
            )
        buffers += (channel.send, *channel.recv, channel.jumbo_recv)
    return buffers


def _write(state: VmportState, profile: VmportProfile) -> bytes:
    buffers = _buffers(state, profile)
    keys = [pair for pair in state.guestinfo if pair[0]]
    jumbo = [pair for pair in state.guestinfo_jumbo if pair[0]]
    entries = b"".join(pack_entry(*pair) for pair in keys)
    entries += b"".join(pack_entry(*pair, jumbo=True) for pair in jumbo)
    head = {
        "version": profile.SAVE_VERSION,
        "used_guestsize": len(entries),
        "ping_time": state.ping_time,
        "open_cookie": state.open_cookie,
        "used_guestinfo": len(keys),
        "used_guestinfo_jumbo": len(jumbo),
    }
    values = [head[name] for name in HEAD_NUMBERS]
    values += [0] * (profile.channel_numbers.stop - len(values))
    for first, channel in zip(profile.channel_numbers, state.channels):
        for at, number in zip(_PLACES, _of_channel(channel)):
            values[first + at] = number
    data = []
    for place, buffer in zip(profile.buffers, buffers):
        length = len(buffer.data) if buffer.length is None else buffer.length
        values[place.length_at] = length
        values[place.index_at] = buffer.index
        if length:
            kept = min(length, place.kept)
            data.append(buffer.data[:kept].ljust(kept, b"\0"))
    try:
        fixed = bytearray(profile.fixed.pack(*values))
    except struct.error:
        raise _misfit(values, profile) from None
    for number, (pad, channel) in enumerate(zip(profile.control_padding, state.channels)):
        size = pad.stop - pad.start
        if len(channel.padding) > size:
            raise FieldError(f"VMPORT: chans[{number}].padding has more than {size} bytes")
        fixed[pad] = channel.padding.ljust(size, b"\0")
    return b"".join((fixed, *data, entries))


def _misfit(values: list[int], profile: VmportProfile) -> FieldError:
    """Which number does not fit its field: `struct` only says that one does."""
    for slot, value in zip(Layout.of(profile.packed).slots(), values):
        reason = misfit(f"VMPORT.{slot.path}", value, slot.width, text=repr(value))
        if reason:
            return FieldError(reason)
    return FieldError("VMPORT: a number does not fit its field")


def _refuse_impossible(state: VmportState, profile: VmportProfile) -> None:
    if state.unparsed is not None:
        raise FieldError(f"VMPORT: a body of {len(state.unparsed)} bytes is too short for a state")
    for place, buffer in zip(profile.buffers, _buffers(state, profile)):
        where = f"VMPORT: chans[{place.channel}].{place.name}"
        if buffer.claimed() > place.kept:
            raise FieldError(
                f"{where}: length {buffer.claimed()}, but the buffer holds {place.kept} bytes"
            )
        if buffer.claimed() != len(buffer.data):
            raise FieldError(
                f"{where}: length {buffer.claimed()}, but {len(buffer.data)} bytes of data"
            )
    for name, entries, values, slots in (
        ("guestinfo", state.guestinfo, profile.MAX_VAL_LEN, profile.MAX_NUM_KEY),
        (
            "guestinfo_jumbo",
            state.guestinfo_jumbo,
            profile.MAX_VAL_JUMBO_LEN,
            profile.MAX_NUM_JUMBO_KEY,
        ),
    ):
        if len(entries) > slots:
            raise FieldError(f"VMPORT: {len(entries)} {name} entries, but only {slots} slots")
        seen = set()
        for key, value in entries:
            if not key and not value:
                continue
            if key in seen:
                raise FieldError(f"VMPORT: {name}[{as_text(key)}] occurs twice")
            seen.add(key)
            if not 0 < len(key) <= profile.MAX_KEY_LEN or len(value) > values:
                raise FieldError(
                    f"VMPORT: {name}[{as_text(key)}]: a key of {len(key)} and a value of "
                    f"{len(value)} bytes, at most {profile.MAX_KEY_LEN} and {values} fit"
                )
