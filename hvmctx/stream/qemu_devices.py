"""What QEMU saves of VMware's port, within a device model's file (`stream.qemu`): the sections
`vmmouse` and `vmport_rpc`.

`vmport_rpc` is of a patch series that was never merged, the descendant of the VMPORT save
record (docs/vmport.md). Both as QEMU's vmstate writes them, big-endian: a number after the
other. A section that is not of that form, or of another version, is only bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from hvmctx.abi.fields import Layout
from hvmctx.abi.forms import Attributes, Escaped, Form, Hex, Listed, Number, member
from hvmctx.abi.vmport import QEMU_VMPORT_RPC, vmport_channel_control
from hvmctx.errors import FieldError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hvmctx.stream.qemu import Section

__all__ = ["DEVICES", "RpcBucket", "RpcChannel", "RpcKey", "VmMouse", "VmportRpc", "device_of"]

_NO_LAYOUT = Layout.of(vmport_channel_control)
_MOUSE = struct.Struct(">I4096sHHB")
_RPC, _COUNT = struct.Struct(">QQQQI"), struct.Struct(">i")
_CHANNEL, _BUCKET = struct.Struct(">QIIIHHHBB"), struct.Struct(">HHH")
_BUCKETS = QEMU_VMPORT_RPC.MAX_BKTS
_LENGTHS = struct.Struct(">HH")
_WORD = 4


@dataclass
class VmMouse:
    """The mouse: a queue of 1024 words in hex, of which `nb_queue` are used."""

    queue_size: int = field(metadata=member(Number(32)))
    queue: bytes = field(metadata=member(Hex(4096)))
    nb_queue: int = field(metadata=member(Number(16)))
    status: int = field(metadata=member(Number(16)))
    absolute: int = field(metadata=member(Number(8)))

    @classmethod
    def from_bytes(cls, data: bytes) -> VmMouse:
        """Raises struct.error for another length."""
        return cls(*_MOUSE.unpack(data))

    def to_bytes(self) -> bytes:
        return _MOUSE.pack(self.queue_size, self.queue, self.nb_queue, self.status, self.absolute)


@dataclass
class RpcBucket:
    """A receive bucket; `buf` has (`recv_buf_max` + 1) * 4 bytes."""

    recv_len: int = field(metadata=member(Number(16)))
    recv_idx: int = field(metadata=member(Number(16)))
    recv_buf_max: int = field(metadata=member(Number(16)))
    buf: bytes = field(default=b"", metadata=member(Hex()))


@dataclass
class RpcChannel:
    """An open channel; `buf` has (`send_buf_max` + 1) * 4 bytes."""

    active_time: int = field(metadata=member(Number(64)))
    chan_id: int = field(metadata=member(Number(32)))
    cookie: int = field(metadata=member(Number(32)))
    proto_num: int = field(metadata=member(Number(32)))
    send_len: int = field(metadata=member(Number(16)))
    send_idx: int = field(metadata=member(Number(16)))
    send_buf_max: int = field(metadata=member(Number(16)))
    recv_read: int = field(metadata=member(Number(8)))
    recv_write: int = field(metadata=member(Number(8)))
    buf: bytes = field(default=b"", metadata=member(Hex()))
    recv: list[RpcBucket] = field(
        default_factory=list, metadata=member(Listed(Attributes(RpcBucket, _NO_LAYOUT), _BUCKETS))
    )


@dataclass
class RpcKey:
    """A guestinfo key, with the NUL that ends it, its value, and the room that is left for a
    longer one."""

    key: bytes = field(metadata=member(Escaped()))
    value: bytes = field(metadata=member(Escaped()))
    spare: bytes = field(default=b"", metadata=member(Hex(), left_out=True))


@dataclass
class VmportRpc:
    """The RPC channels that are open, and guestinfo."""

    reset_time: int = field(metadata=member(Number(64)))
    build_number_value: int = field(metadata=member(Number(64)))
    build_number_time: int = field(metadata=member(Number(64)))
    ping_time: int = field(metadata=member(Number(64)))
    open_cookie: int = field(metadata=member(Number(32)))
    channels: list[RpcChannel] = field(
        default_factory=list, metadata=member(Listed(Attributes(RpcChannel, _NO_LAYOUT)))
    )
    guestinfo: list[RpcKey] = field(
        default_factory=list, metadata=member(Listed(Attributes(RpcKey, _NO_LAYOUT)))
    )

    @classmethod
    def from_bytes(cls, data: bytes) -> VmportRpc:
        """Raises struct.error or IndexError for what is not of this form."""
        made = cls(*_RPC.unpack_from(data))
        at = _RPC.size
        (channels,) = _COUNT.unpack_from(data, at)
        at += _COUNT.size
        for _ in range(channels):
            made.channels.append(RpcChannel(*_CHANNEL.unpack_from(data, at)))
            at += _CHANNEL.size
        (buckets,) = _COUNT.unpack_from(data, at)
        at += _COUNT.size
        if buckets != _BUCKETS * len(made.channels):
            raise IndexError("another number of buckets")
        for channel in made.channels:
            for _ in range(_BUCKETS):
                channel.recv.append(RpcBucket(*_BUCKET.unpack_from(data, at)))
                at += _BUCKET.size
        made._buffers(_Reader(data, at + _COUNT.size))
        return made

    def _buffers(self, rest: _Reader) -> None:
        for channel in self.channels:
            for bucket in channel.recv:
                bucket.buf = rest.take(_WORD * (bucket.recv_buf_max + 1))
            channel.buf = rest.take(_WORD * (channel.send_buf_max + 1))
        while size := rest.take(1)[0]:
            key = rest.take(size)
            length, most = _LENGTHS.unpack(rest.take(_LENGTHS.size))
            value = rest.take(most)
            self.guestinfo.append(RpcKey(key, value[:length], value[length:]))

    def to_bytes(self) -> bytes:
        """Raises FieldError for a buffer of another length than it says."""
        pieces, controls, buffers = [], [], []
        for channel in self.channels:
            numbers = list(vars(channel).values())[: len(_CHANNEL.unpack(bytes(_CHANNEL.size)))]
            pieces.append(_CHANNEL.pack(*numbers))
            for bucket in channel.recv:
                controls.append(_BUCKET.pack(bucket.recv_len, bucket.recv_idx, bucket.recv_buf_max))
                buffers.append(_sized(bucket.buf, bucket.recv_buf_max))
            buffers.append(_sized(channel.buf, channel.send_buf_max))
        for each in self.guestinfo:
            room = each.value + each.spare
            try:
                lengths = _LENGTHS.pack(len(each.value), len(room))
                buffers += [bytes((len(each.key),)), each.key, lengths, room]
            except (struct.error, ValueError):
                raise FieldError("vmport_rpc: a key or a value is too long") from None
        rest = b"".join((*buffers, b"\0"))
        head = _RPC.pack(
            self.reset_time, self.build_number_value, self.build_number_time, self.ping_time,
            self.open_cookie,
        )  # fmt: skip
        return b"".join((
            head, _COUNT.pack(len(pieces)), *pieces, _COUNT.pack(len(controls)), *controls,
            _COUNT.pack(len(rest)), rest,
        ))  # fmt: skip


def _sized(buf: bytes, words: int) -> bytes:
    if len(buf) != _WORD * (words + 1):
        raise FieldError(
            f"vmport_rpc: a buffer of {len(buf)} bytes, expected {_WORD * (words + 1)}"
        )
    return buf


class _Reader:
    """The bytes of a body, one piece after the other."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at

    def take(self, size: int) -> bytes:
        """Raises IndexError where they are not there."""
        piece = self._data[self._at : self._at + size]
        if len(piece) < size:
            raise IndexError("too short")
        self._at += size
        return piece


DEVICES: dict[tuple[str, int], tuple[type[VmMouse | VmportRpc], Form]] = {
    ("vmmouse", 0): (VmMouse, Attributes(VmMouse, _NO_LAYOUT)),
    ("vmport_rpc", 1): (VmportRpc, Attributes(VmportRpc, _NO_LAYOUT)),
}
"""Name and version of a section -> the class of its data, and their form in JSON."""


def device_of(section: Section) -> VmMouse | VmportRpc | None:
    """What the data of a section say; None where they are not known, or would not be the same
    bytes again."""
    known = DEVICES.get((section.name, section.version))
    if known is None:
        return None
    try:
        device = known[0].from_bytes(section.data)
        return device if device.to_bytes() == section.data else None
    except (struct.error, IndexError, FieldError):
        return None
