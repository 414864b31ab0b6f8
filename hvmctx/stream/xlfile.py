"""The optional data after the xl file header: the guest's configuration.

Little-endian: u32 length, then that many bytes, JSON with a trailing NUL since 4.5 (flag
bit 0), text configuration before. Source: tools/xl/xl_vmcontrol.c, 4.0 to c447b730.
"""

from __future__ import annotations

import json
import struct

from hvmctx.abi.streams import XL_FLAG_JSON_CONFIG
from hvmctx.errors import FormatError, TruncatedError
from hvmctx.messages import why_not_json
from hvmctx.stream.reader import XL, Header

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
    """What a configuration may hold."""

__all__ = ["config_from_bytes", "config_text", "config_to_bytes"]

_LENGTH = struct.Struct("<I")


def config_text(data: bytes | memoryview, offset: int = 0) -> bytes:
    """The configuration's bytes, its trailing NUL included; empty when there are no
    optional data. Raises TruncatedError where the length says more than there is; bytes
    after the configuration are allowed, as xl allows them."""
    if not data:
        return b""
    if len(data) < _LENGTH.size:
        raise TruncatedError(
            "too short", layer=XL, offset=offset, record="optional data",
            found=f"{len(data)} bytes", expected="4 at least",
        )  # fmt: skip
    (length,) = _LENGTH.unpack_from(data)
    if length > len(data) - _LENGTH.size:
        raise TruncatedError(
            "the configuration is truncated", layer=XL, offset=offset, record="optional data",
            found=f"{len(data) - _LENGTH.size} bytes", expected=str(length),
        )  # fmt: skip
    return bytes(data[_LENGTH.size : _LENGTH.size + length])


def config_from_bytes(text: bytes, header: Header) -> Json:
    """The configuration as the object that its JSON is, or as text where the header says
    that it is text. Raises FormatError for what is not JSON."""
    stripped = text.rstrip(b"\0")
    if not header.fields["mandatory_flags"] & XL_FLAG_JSON_CONFIG:
        return stripped.decode("utf-8", "replace")
    try:
        config: Json = json.loads(stripped)
        return config
    except (ValueError, RecursionError) as error:
        raise FormatError(
            f"the configuration is not JSON: {why_not_json(error)}", layer=XL,
            offset=header.body_offset + _LENGTH.size, record="optional data",
        ) from None  # fmt: skip


def config_to_bytes(text: bytes) -> bytes:
    """The optional data for a configuration: its length and itself, a NUL added for xl
    when there is none."""
    if text and not text.endswith(b"\0"):
        text += b"\0"
    return _LENGTH.pack(len(text)) + text
