"""Prints a VMPORT record as text, in the style of xen-hvmctx, which knows no such record."""

from __future__ import annotations

from hvmctx.abi import vmport as abi
from hvmctx.context.vmport import Buffer, Parts, VmportState
from hvmctx.context.vmport_slots import as_text
from hvmctx.messages import printable
from hvmctx.render.cformat import CFormat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvmctx.abi.vmport import VmportProfile
    from hvmctx.context.vmport import Channel

__all__ = ["EXCERPT", "vmport_lines"]

EXCERPT = 64
"""Bytes of a buffer that are shown."""


def vmport_lines(body: bytes, profile: VmportProfile | None = None) -> Iterator[str]:
    """Whole lines: the head, a block for each channel that is not closed, and guestinfo.
    Unprintable bytes are escaped as `\\xNN`, lengths shown. Takes any bytes."""
    profile = profile or abi.used()
    state = VmportState.from_bytes(body, profile)
    if state.unparsed is not None:
        yield (
            f"    VMPORT: {len(body)} bytes, too short for the {profile.read_size} of "
            f"{printable(profile.name)}\n"
        )
        return
    parts = Parts(body, profile)
    head = parts.head
    yield _HEAD_LINE((head["version"], head["ping_time"], head["open_cookie"]))
    yield (
        "            used_guestsize {used_guestsize}, used_guestinfo {used_guestinfo}, "
        "used_guestinfo_jumbo {used_guestinfo_jumbo}\n".format(**head)
    )
    for number, channel in enumerate(state.channels):
        if channel.proto_num != abi.PROTO_CLOSED:
            yield from _channel_lines(number, channel)
    for entry in parts.entries:  # not of the state: a key may be there twice
        label = "jumbo" if entry.jumbo else "guestinfo"
        sizes = f"({len(entry.key)} + {len(entry.value)})"
        yield f"          {label} {as_text(entry.key)} = {as_text(entry.value)} {sizes}\n"


_HEAD_LINE = CFormat("    VMPORT: version %#x, ping_time %u, open_cookie %#x\n")
_CHANNEL_LINE = CFormat("         ch %i: id %u, cookie %#x, protocol %s, active_time %u\n")


def _channel_lines(number: int, channel: Channel) -> Iterator[str]:
    yield _CHANNEL_LINE(
        (number, channel.chan_id, channel.cookie, channel.protocol, channel.active_time)
    )
    yield (
        f"               jumbo {channel.jumbo}, recv_read {channel.recv_read}, "
        f"recv_write {channel.recv_write}\n"
    )
    yield f"               send {_buffer(channel.send)}\n"
    for bucket, buffer in enumerate(channel.recv):
        if buffer.claimed() or buffer.index:
            yield f"               recv {bucket} {_buffer(buffer)}\n"
    if channel.jumbo_recv.claimed() or channel.jumbo_recv.index:
        yield f"               jumbo recv {_buffer(channel.jumbo_recv)}\n"


def _buffer(buffer: Buffer) -> str:
    text = f"len {buffer.claimed()}, idx {buffer.index}"
    if buffer.length is not None:
        text += f" ({len(buffer.data)} bytes there)"
    if buffer.data:
        more = "..." if len(buffer.data) > EXCERPT else ""
        text += f": {as_text(buffer.data[:EXCERPT])}{more}"
    return text
