"""The bodies of libxl v2 records, each with `parse` and `serialise` side by side.
Little-endian.

Source: docs/specs/libxl-migration-stream.pandoc and tools/libs/light/libxl_sr_stream_*,
4.6 to c447b730.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from hvmctx.abi import streams
from hvmctx.errors import FormatError, TruncatedError
from hvmctx.stream import qemu

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LAYER = "libxl"
_MOST_PAIRS = 1 << 16
_EMULATOR = struct.Struct("<II")
_NUMBERS = "emulator_id index"


def _emulator_head(body: bytes | memoryview, record: str) -> tuple[int, int]:
    if len(body) < _EMULATOR.size:
        raise TruncatedError(
            "too short", layer=LAYER, offset=0, record=record,
            found=f"{len(body)} bytes", expected=f"{_EMULATOR.size} at least",
        )  # fmt: skip
    emulator_id, index = _EMULATOR.unpack_from(body)
    return emulator_id, index


@dataclass
class EmulatorContext:
    """EMULATOR_CONTEXT: which device model, which of its instances (always 0), and the
    file it saved."""

    emulator_id: int
    index: int
    payload: bytes | memoryview = field(repr=False)

    @classmethod
    def parse(cls, body: bytes | memoryview) -> EmulatorContext:
        """Raises TruncatedError below 8 bytes."""
        head = _emulator_head(body, "EMULATOR_CONTEXT")
        return cls(*head, body[_EMULATOR.size :])

    def serialise(self) -> bytes:
        """The body. Raises FieldError for a number of more than 32 bits."""
        numbers = self.emulator_id, self.index
        return streams.pack("EMULATOR_CONTEXT", "<II", *numbers, names=_NUMBERS) + self.payload

    @property
    def emulator(self) -> str:
        """The device model's name, as xl calls it."""
        return streams.EMULATORS.get(self.emulator_id, f"emulator {self.emulator_id}")

    def device_model(self) -> qemu.DeviceModelState | None:
        """What can be told of the payload when it is QEMU's; None when it is not."""
        return qemu.recognise(self.payload)


@dataclass
class EmulatorXenstoreData:
    """EMULATOR_XENSTORE_DATA: pairs of keys and values below the device model's node."""

    emulator_id: int
    index: int
    pairs: list[tuple[bytes, bytes]]

    @classmethod
    def parse(cls, body: bytes | memoryview) -> EmulatorXenstoreData:
        """Raises TruncatedError below 8 bytes, FormatError for strings that do not end or
        do not pair."""
        head = _emulator_head(body, "EMULATOR_XENSTORE_DATA")
        text = bytes(body[_EMULATOR.size :])
        if text.count(b"\0") > 2 * _MOST_PAIRS:
            raise _xenstore_error("more keys than any guest has", 0, f"{_MOST_PAIRS} at most")
        if text and not text.endswith(b"\0"):
            raise _xenstore_error("the last string does not end", len(body), "a NUL")
        strings = text.split(b"\0")[:-1]
        if len(strings) % 2:
            raise _xenstore_error("a key without a value", len(body), "an even number of strings")
        return cls(*head, list(zip(strings[::2], strings[1::2])))

    def serialise(self) -> bytes:
        """The body. Raises FieldError for a number of more than 32 bits."""
        strings = b"".join(key + b"\0" + value + b"\0" for key, value in self.pairs)
        numbers = self.emulator_id, self.index
        return streams.pack("EMULATOR_XENSTORE_DATA", "<II", *numbers, names=_NUMBERS) + strings


@dataclass
class CheckpointState:
    """CHECKPOINT_STATE (4.7+, COLO): 0 NEW, 1 SVM_SUSPENDED, 2 SVM_READY, 3 SVM_RESUMED."""

    id: int
    rest: bytes = b""

    @classmethod
    def parse(cls, body: bytes | memoryview) -> CheckpointState:
        """Raises TruncatedError below 4 bytes."""
        if len(body) < 4:
            raise TruncatedError(
                "too short", layer=LAYER, offset=0, record="CHECKPOINT_STATE",
                found=f"{len(body)} bytes", expected="4",
            )  # fmt: skip
        return cls(int.from_bytes(body[:4], "little"), bytes(body[4:]))

    def serialise(self) -> bytes:
        """The body. Raises FieldError for a number of more than 32 bits."""
        return streams.pack("CHECKPOINT_STATE", "<I", self.id, names="id") + self.rest

    @property
    def state(self) -> str:
        return streams.CHECKPOINT_STATES.get(self.id, f"state {self.id}")


def _xenstore_error(problem: str, offset: int, expected: str) -> Any:
    return FormatError(
        problem, layer=LAYER, offset=offset, record="EMULATOR_XENSTORE_DATA", expected=expected
    )
