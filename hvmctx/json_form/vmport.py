"""The dataclasses-json form of a `VmportState`: numbers, hex strings, and pairs of hex."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hvmctx.abi.vmport import VmportProfile
from hvmctx.context.vmport import CHANNEL_NUMBERS, Buffer, Channel, Slots, VmportState
from hvmctx.errors import FieldError, InputError

try:
    from dataclasses_json import DataClassJsonMixin
except ImportError:
    raise InputError("this needs dataclasses-json (pip install dataclasses-json)") from None


@dataclass
class BufferModel(DataClassJsonMixin):
    """A `Buffer`: `data` in hex; `index` and `length` in bytes, `length` null where it is
    that of the data."""

    data: str
    index: int
    length: int | None = None

    @classmethod
    def of(cls, buffer: Buffer) -> BufferModel:
        return cls(buffer.data.hex(), buffer.index, buffer.length)

    def to_buffer(self) -> Buffer:
        return Buffer(bytes.fromhex(self.data), self.index, self.length)


@dataclass
class ChannelModel(DataClassJsonMixin):
    """A `Channel`: its numbers under the record's names (`vmport_channel_control`), and its
    buffers."""

    active_time: int
    chan_id: int
    cookie: int
    proto_num: int
    jumbo: int
    recv_read: int
    recv_write: int
    send: BufferModel
    recv: list[BufferModel]
    jumbo_recv: BufferModel

    @classmethod
    def of(cls, channel: Channel) -> ChannelModel:
        return cls(
            **_numbers(channel),
            send=BufferModel.of(channel.send),
            recv=[BufferModel.of(bucket) for bucket in channel.recv],
            jumbo_recv=BufferModel.of(channel.jumbo_recv),
        )

    def to_channel(self) -> Channel:
        return Channel(
            **_numbers(self),
            send=self.send.to_buffer(),
            recv=[bucket.to_buffer() for bucket in self.recv],
            jumbo_recv=self.jumbo_recv.to_buffer(),
        )


def _numbers(channel: Channel | ChannelModel) -> dict[str, Any]:
    """The members that both have."""
    return {name: getattr(channel, name) for name in CHANNEL_NUMBERS}


def _slots(pairs: list[list[str]]) -> Slots:
    return Slots((bytes.fromhex(key), bytes.fromhex(value)) for key, value in pairs)


@dataclass
class VmportModel(DataClassJsonMixin):
    """`guestinfo` is a list of (key, value), so that their order survives any reader.
    `origin` is the body that the state was unpacked from, if it was."""

    ping_time: int
    open_cookie: int
    channels: list[ChannelModel]
    guestinfo: list[list[str]]
    guestinfo_jumbo: list[list[str]]
    unparsed: str | None = None
    origin: str | None = None

    @classmethod
    def of(cls, state: VmportState) -> VmportModel:
        return cls(
            state.ping_time,
            state.open_cookie,
            [ChannelModel.of(channel) for channel in state.channels],
            [[key.hex(), value.hex()] for key, value in state.guestinfo],
            [[key.hex(), value.hex()] for key, value in state.guestinfo_jumbo],
            None if state.unparsed is None else state.unparsed.hex(),
            None if state.origin is None else state.origin.hex(),
        )

    @classmethod
    def read(cls, plain: Any) -> VmportModel:
        """Raises FieldError for what is no such form."""
        try:
            return cls.from_dict(plain)
        except Exception as error:  # dataclasses-json lets many kinds through
            reason = str(error) or type(error).__name__
            raise FieldError(f"not the JSON form of a VMPORT state: {reason}") from None

    def to_state(self, profile: VmportProfile | None = None) -> VmportState:
        """Raises FieldError for strings that are no hex, and numbers that do not fit."""
        try:
            state = VmportState(
                self.ping_time,
                self.open_cookie,
                [channel.to_channel() for channel in self.channels],
                _slots(self.guestinfo),
                _slots(self.guestinfo_jumbo),
                None if self.unparsed is None else bytes.fromhex(self.unparsed),
                self._origin(),
            )
            state.to_bytes(profile)
        except (ValueError, TypeError, AttributeError) as error:
            raise FieldError(f"not the JSON form of a VMPORT state: {error}") from None
        return state

    def _origin(self) -> bytes | None:
        return None if self.origin is None else bytes.fromhex(self.origin)


def to_dict(state: VmportState) -> dict[str, Any]:
    """The dataclasses-json form of a state, bytes as hex, `origin` too."""
    plain: dict[str, Any] = VmportModel.of(state).to_dict(encode_json=False)
    return plain


def from_dict(plain: dict[str, Any], profile: VmportProfile | None = None) -> VmportState:
    """The inverse, of a state of that profile. Raises FieldError."""
    return VmportModel.read(plain).to_state(profile)
