"""How a VMPORT record is laid out (save record type 21, VMware hyper-call RPC state), and the
constants that its layout depends on.

Source: the patch "Add live migration of VMware's hyper-call RPC" (xen-devel, 2014-09-20,
v6 11/16), which was never merged. It fixes the order of a body's parts, writer and loader;
the header with its constants and with the structures of its controls is another patch of that
series, so **the constants and the two controls here are a reconstruction**. All constants
belong to a `VmportProfile`, which a caller may replace, also by that of a JSON file. Wherever
the library takes `profile=None`, None stands for the profile in use: that of the innermost
`using`, outside of any the default, `XEN_4_5_V6`.

Little-endian, natural x86-64 alignment. The body is a head and a union: its arm "full"
only sets the maximum length, its arm "packed" is what is written.
"""

from __future__ import annotations

import dataclasses
import struct
from contextlib import contextmanager
from contextvars import ContextVar
from ctypes import c_uint8 as u8
from ctypes import c_uint16 as u16
from ctypes import c_uint32 as u32
from ctypes import c_uint64 as u64
from ctypes import sizeof
from functools import cached_property
from operator import itemgetter
from typing import Any, NamedTuple, cast

from hvmctx.abi.declare import (
    DOMAIN,
    VMPORT_TYPECODE,
    RecordType,
    SaveStructure,
    SaveUnion,
)
from hvmctx.abi.fields import Layout
from hvmctx.abi.names import PROTO_CLOSED, PROTO_RPCI, PROTO_TCLO, PROTOCOLS
from hvmctx.errors import UsageError
from hvmctx.messages import printable, why_not_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "CONTROL_NUMBERS", "ENTRY_HEAD", "HEAD", "HEAD_NUMBERS", "JUMBO_ENTRY_HEAD", "PROFILES",
    "PROTOCOLS", "PROTO_CLOSED", "PROTO_RPCI", "PROTO_TCLO", "QEMU_VMPORT_RPC", "XEN_4_5_V6",
    "BufferPlace", "VmportProfile", "slots_made", "used", "using", "vmport_bucket_control",
    "vmport_channel_control", "vmport_head",
]  # fmt: skip


class vmport_head(SaveStructure):
    """The first 32 bytes of a body; the union, with either of its arms, follows.
    `used_guestsize` counts the bytes of all guestinfo entries, jumbo ones too, with their
    heads; the other two used counts are of entries. Source: the patch."""

    _fields_ = [
        ("version", u32),
        ("used_guestsize", u32),
        ("ping_time", u64),
        ("open_cookie", u32),
        ("used_guestinfo", u32),
        ("used_guestinfo_jumbo", u32),
        ("_pad0", u32),
    ]


class vmport_bucket_control(SaveStructure):
    """The fixed part of a receive bucket, the jumbo one too: 4 bytes.
    `recv_len` is how many bytes are in it, even where the writer keeps fewer of them;
    `recv_idx` is how many of them have been consumed. A reconstruction: the patch names the
    fields, the header that declares them is missing."""

    _fields_ = [("recv_len", u16), ("recv_idx", u16)]


class vmport_channel_control(SaveStructure):
    """The fixed part of a channel: 32 bytes, which the controls of its buckets follow.
    `proto_num` is one of `abi.names.PROTOCOLS`; `send_len` and `send_idx` are the send
    buffer's, as those of a bucket. Loader and writer copy the structure whole, its padding
    too. A reconstruction, as `vmport_bucket_control`; QEMU's descendant has these fields in
    this order, but for `jumbo` (docs/vmport.md)."""

    _fields_ = [
        ("active_time", u64),
        ("chan_id", u32),
        ("cookie", u32),
        ("proto_num", u32),
        ("send_len", u16),
        ("send_idx", u16),
        ("jumbo", u8),
        ("recv_read", u8),
        ("recv_write", u8),
        ("_pad0", u8 * 5),
    ]


HEAD = Layout.of(vmport_head)
ENTRY_HEAD, JUMBO_ENTRY_HEAD = struct.Struct("<BB"), struct.Struct("<BH")
"""key_len and val_len, which stand before key and value in packed_data."""


def _names(layout: Layout) -> tuple[str, ...]:
    return tuple(slot.path for slot in layout.slots())


HEAD_NUMBERS = _names(HEAD)
CONTROL_NUMBERS = _names(Layout.of(vmport_channel_control))
"""In their order, which is that of `VmportProfile.fixed` too."""


class BufferPlace(NamedTuple):
    """One buffer of a channel, and where its control says how much of it is used.

    `channel` counts from 0. `name` is that of `context.vmport.Channel`, `array` that of the
    array in which the loader puts the data. Its control lies from `start` to `end` of the
    body, its length in bytes at `offset`; `length_at` and `index_at` are where length and index
    are among the values of `VmportProfile.fixed`. The writer keeps at most `kept` bytes of
    data; the array has `room` for a word more.
    """

    channel: int
    name: str
    array: str
    start: int
    end: int
    offset: int
    length_at: int
    index_at: int
    kept: int
    room: int


def slots_made(used: int, *, jumbo: bool) -> int:
    """How many guestinfo slots the patch's loader makes for a used count: spare ones above
    it, and a least number, in u32 arithmetic that may wrap. Its loop over the entries goes
    no further."""
    return max(used + 1 & 0xFFFFFFFF, 2) if jumbo else max(used + 5 & 0xFFFFFFFF, 10)


_BODY_LIMIT = 1 << 24


def _constant(default: int, largest: int = 1 << 14) -> int:
    made: int = dataclasses.field(default=default, kw_only=True, metadata={"largest": largest})
    return made


@dataclasses.dataclass(frozen=True, repr=False)
class VmportProfile:
    """All constants of the format. Lengths of keys and values in bytes; buffer sizes are
    derived: `MAX_SEND_BUF`, `MAX_RECV_BUF`, `MAX_RECV_JUMBO_BUF` are u32 words, and every
    buffer array holds one word more, room for a terminator.

    Two profiles of the same constants are equal, whatever their names. Raises UsageError
    for a constant that the record's own fields cannot express.
    """

    name: str = dataclasses.field(default="custom", compare=False)
    MAX_CHANS: int = _constant(6)
    MAX_BKTS: int = _constant(8)
    MAX_KEY_LEN: int = _constant(30, 0xFF)
    MAX_VAL_LEN: int = _constant(128)
    MAX_VAL_JUMBO_LEN: int = _constant(4096, 0xFFFF)
    MAX_NUM_KEY: int = _constant(64)
    MAX_NUM_JUMBO_KEY: int = _constant(2)
    SAVE_VERSION: int = _constant(0xABCD0001, 0xFFFFFFFF)

    def __post_init__(self) -> None:
        for constant in _constants():
            value, largest = getattr(self, constant.name), constant.metadata["largest"]
            if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= largest:
                raise UsageError(
                    f"VMPORT profile: {constant.name} is {value!r}, expected 1 to {largest}"
                )
        if self.max_size > _BODY_LIMIT:
            raise UsageError(f"VMPORT profile: a body would be longer than {_BODY_LIMIT} bytes")

    def __repr__(self) -> str:
        return f"<VMPORT profile {printable(self.name)}>"

    def constants(self) -> dict[str, int]:
        """The constants that define the profile, by name."""
        return {constant.name: getattr(self, constant.name) for constant in _constants()}

    @classmethod
    def from_json(cls, text: str | bytes, name: str = "custom") -> VmportProfile:
        """Of a JSON object of constants; those left out are the default's. Raises
        UsageError."""
        import json

        names = [constant.name for constant in _constants()]
        try:
            constants = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"VMPORT profile: not JSON: {why_not_json(error)}") from None
        if not isinstance(constants, dict) or not constants.keys() <= set(names):
            raise UsageError(f"VMPORT profile: expected an object of {', '.join(names)}")
        return cls(name, **constants)

    def to_json(self) -> str:
        """The inverse of `from_json`."""
        import json

        return json.dumps(self.constants(), indent=1)

    @property
    def MAX_SEND_BUF(self) -> int:
        """Words of a send buffer."""
        return (22 + self.MAX_KEY_LEN + self.MAX_VAL_LEN + 3) // 4

    @property
    def MAX_RECV_BUF(self) -> int:
        """Words of a receive bucket."""
        return (2 + self.MAX_VAL_LEN + 3) // 4

    @property
    def MAX_RECV_JUMBO_BUF(self) -> int:
        """Words of a jumbo bucket."""
        return (2 + self.MAX_VAL_JUMBO_LEN + 3) // 4

    @cached_property
    def packed(self) -> type[SaveStructure]:
        """The structure of head and arm "packed", packed_data left out."""
        chans = ("chans", self._channel * self.MAX_CHANS)
        return _structure("hvm_save_vmport_packed", [*vmport_head._fields_, chans], _PACKED)

    @cached_property
    def record_type(self) -> RecordType:
        """The record as `abi.registry` knows it."""
        return RecordType("VMPORT", VMPORT_TYPECODE, self.packed, DOMAIN, ("packed_data", u8))

    @cached_property
    def full(self) -> type[SaveStructure]:
        """The structure of head and arm "full"."""
        return _full_arm(self)

    @cached_property
    def fixed_size(self) -> int:
        """Bytes of the body before packed_data (464 by default)."""
        return sizeof(self.packed)

    @cached_property
    def read_size(self) -> int:
        """Bytes of them that the loader reads (460 by default): the padding after the last
        channel's last control is no part of what it copies."""
        return self.buffers[-1].end

    @cached_property
    def max_size(self) -> int:
        """The most bytes that a body can have: sizeof the whole union (51224 by default)."""
        return max(sizeof(self.full), self.fixed_size)

    @cached_property
    def fixed(self) -> struct.Struct:
        """All numbers of `packed` in one call: those of the head (`HEAD_NUMBERS`), and for
        each channel those of its control (`CONTROL_NUMBERS`) and two of each bucket's, the
        jumbo bucket's last."""
        return struct.Struct(Layout.of(self.packed).format)

    @property
    def channel_places(self) -> range:
        """Where in the body the control of each channel starts."""
        return range(sizeof(vmport_head), self.fixed_size, sizeof(self._channel))

    @cached_property
    def channel_numbers(self) -> range:
        """Where among the values of `fixed` the control of each channel starts."""
        first, each = len(HEAD_NUMBERS), len(_names(Layout.of(self._channel)))
        return range(first, first + each * self.MAX_CHANS, each)

    @cached_property
    def buffers(self) -> tuple[BufferPlace, ...]:
        """All buffers of all channels, in the order of packed_data: of each channel the
        send buffer, the receive buckets, the jumbo bucket."""
        layout = Layout.of(self._channel)
        number_of = {path: number for number, path in enumerate(_names(layout))}
        channel, bucket = sizeof(vmport_channel_control), sizeof(vmport_bucket_control)
        kinds = [  # name, array, what its length and index start with, words
            ("send", "send_buf", "send", self.MAX_SEND_BUF),
            *((f"recv[{n}]", "recv_buf", f"recv_bkt[{n}].recv", self.MAX_RECV_BUF)
              for n in range(self.MAX_BKTS)),
            ("jumbo_recv", "jumbo recv_buf", "jumbo_recv_bkt.recv", self.MAX_RECV_JUMBO_BUF),
        ]  # fmt: skip
        first = [
            BufferPlace(
                0, name, array, end - (bucket if at else channel), end,
                layout.locate(f"{control}_len").offset,
                number_of[f"{control}_len"], number_of[f"{control}_idx"],
                4 * words, 4 * (words + 1),
            )
            for at, (name, array, control, words) in enumerate(kinds)
            for end in (channel + at * bucket,)
        ]  # fmt: skip
        starts = zip(self.channel_places, self.channel_numbers)
        return tuple(
            place._replace(
                channel=channel,
                start=start + place.start,
                end=start + place.end,
                offset=start + place.offset,
                length_at=number + place.length_at,
                index_at=number + place.index_at,
            )
            for channel, (start, number) in enumerate(starts)
            for place in first
        )

    @cached_property
    def buffer_lengths(self) -> Callable[[tuple[int, ...]], tuple[int, ...]]:
        """Picks the lengths of all `buffers` out of the values of `fixed`, in one call."""
        return itemgetter(*(place.length_at for place in self.buffers))

    @cached_property
    def buffer_indexes(self) -> Callable[[tuple[int, ...]], tuple[int, ...]]:
        """As `buffer_lengths`: how far each buffer has been consumed."""
        return itemgetter(*(place.index_at for place in self.buffers))

    @cached_property
    def padding(self) -> tuple[tuple[str, int, int], ...]:
        """All padding of the fixed part: what it is of (`the head`, `chans[0]`), and the
        body's offsets of its start and its end."""
        return tuple(
            (slot.path.rpartition(".")[0] or "the head", slot.offset, slot.offset + slot.size)
            for slot in Layout.of(self.packed).reserved()
        )

    @cached_property
    def control_padding(self) -> tuple[slice, ...]:
        """Where in the body the padding within each channel's control is, which loader and
        writer copy."""
        (pad,) = Layout.of(vmport_channel_control).reserved()
        starts = (start + pad.offset for start in self.channel_places)
        return tuple(slice(start, start + pad.size) for start in starts)

    @cached_property
    def _channel(self) -> type[SaveStructure]:
        """The structure of a channel in arm "packed"."""
        return _packed_channel(self)


def _constants() -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(VmportProfile)[1:]


def _structure(name: str, fields: list[Any], doc: str | None = None) -> type[SaveStructure]:
    described = {"_fields_": fields, "__doc__": doc}
    return cast("type[SaveStructure]", type(name, (SaveStructure,), described))


_PACKED = """Head and channels of a body. packed_data has for each channel its send bytes and those
of each bucket, the jumbo one last, as many as their lengths say; then used_guestinfo entries (u8
key_len, u8 val_len, key, value) and used_guestinfo_jumbo (u8 key_len, u16 val_len, key, value)."""


def _packed_channel(profile: VmportProfile) -> type[SaveStructure]:
    fields = [
        *vmport_channel_control._fields_,
        ("recv_bkt", vmport_bucket_control * profile.MAX_BKTS),
        ("jumbo_recv_bkt", vmport_bucket_control),
    ]
    controls = sizeof(vmport_bucket_control) * (profile.MAX_BKTS + 1)
    if controls % 8:  # the compiler rounds each channel up to its u64's alignment
        fields.append(("_pad1", u8 * (-controls % 8)))
    return _structure("vmport_packed_channel", fields)


def _full_arm(profile: VmportProfile) -> type[SaveStructure]:
    def bucket(name: str, words: int) -> type[SaveStructure]:
        fields = [*vmport_bucket_control._fields_, ("recv_buf", u32 * (words + 1))]
        return _structure(name, fields)

    channel = _structure(
        "vmport_channel",
        [
            ("ctl", vmport_channel_control),
            ("recv_bkt", bucket("vmport_bucket", profile.MAX_RECV_BUF) * profile.MAX_BKTS),
            ("jumbo_recv_bkt", bucket("vmport_jumbo_bucket", profile.MAX_RECV_JUMBO_BUF)),
            ("send_buf", u32 * (profile.MAX_SEND_BUF + 1)),
        ],
    )
    guestinfo = _structure(
        "vmport_guestinfo",
        [
            ("key_len", u8),
            ("val_len", u8),
            ("key_data", u8 * profile.MAX_KEY_LEN),
            ("val_data", u8 * profile.MAX_VAL_LEN),
        ],
    )
    jumbo = _structure(
        "vmport_guestinfo_jumbo",
        [
            ("val_len", u16),
            ("key_len", u8),
            ("key_data", u8 * profile.MAX_KEY_LEN),
            ("val_data", u8 * profile.MAX_VAL_JUMBO_LEN),
        ],
    )
    arm = _structure(
        "vmport_full_arm",
        [
            ("chans", channel * profile.MAX_CHANS),
            ("guestinfo", guestinfo * profile.MAX_NUM_KEY),
            ("guestinfo_jumbo", jumbo * profile.MAX_NUM_JUMBO_KEY),
        ],
    )
    union = type("vmport_union", (SaveUnion,), {"_fields_": [("full", arm)]})
    return _structure("hvm_save_vmport", [*vmport_head._fields_, ("u", union)])


XEN_4_5_V6 = VmportProfile("XEN_4_5_V6")
QEMU_VMPORT_RPC = VmportProfile(
    "QEMU_VMPORT_RPC", MAX_CHANS=8, MAX_BKTS=4, MAX_KEY_LEN=128, MAX_VAL_LEN=8192, MAX_NUM_KEY=256
)
"""The constants of the patch's descendant in QEMU, which has no jumbo messages (those constants
are as in the default). It saves in a format of its own, so no such record was ever written."""
PROFILES = {profile.name: profile for profile in (XEN_4_5_V6, QEMU_VMPORT_RPC)}
"""Named profiles; the first is the default."""


_used: ContextVar[VmportProfile] = ContextVar("vmport_profile", default=XEN_4_5_V6)


@contextmanager
def using(profile: VmportProfile) -> Iterator[VmportProfile]:
    """Read VMPORT records with this profile within a `with` block, everywhere that none is
    given. It holds for this thread, or this asyncio task and those that it starts."""
    before = _used.set(profile)
    try:
        yield profile
    finally:
        _used.reset(before)


def used() -> VmportProfile:
    """The profile of the innermost `using`; outside of any the default."""
    return _used.get()
