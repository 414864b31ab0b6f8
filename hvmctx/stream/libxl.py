"""The bodies of libxl v2 records, each declared once: see `stream.body`.

Source: docs/specs/libxl-migration-stream.pandoc and tools/libs/light/libxl_sr_stream_*,
4.6 to c447b730.
"""

from __future__ import annotations

from hvmctx.abi import streams
from hvmctx.abi.streams import LIBXL
from hvmctx.limits import DEFAULT
from hvmctx.stream.body import Body, Bytes, Strings, u32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Annotated

    from hvmctx.limits import Limits
    from hvmctx.stream import qemu

__all__ = ["CheckpointState", "EmulatorContext", "EmulatorXenstoreData"]


class EmulatorContext(Body, layer=LIBXL, number=streams.LIBXL_EMULATOR_CONTEXT):
    """EMULATOR_CONTEXT: which device model, which of its instances (always 0), and the
    file it saved."""

    emulator_id: u32
    index: u32
    payload: Annotated[bytes | memoryview, Bytes()]

    @property
    def emulator(self) -> str:
        """The device model's name, as xl calls it."""
        return streams.EMULATORS.get(self.emulator_id, f"emulator {self.emulator_id}")

    def device_model(self, limits: Limits = DEFAULT) -> qemu.DeviceModelState | None:
        """What QEMU's format says of the payload; None if it is not in that format. Raises
        LimitError."""
        from hvmctx.stream import qemu

        return qemu.recognise(self.payload, limits)


class EmulatorXenstoreData(Body, layer=LIBXL, number=streams.LIBXL_EMULATOR_XENSTORE_DATA):
    """EMULATOR_XENSTORE_DATA: pairs of keys and values below the device model's node."""

    emulator_id: u32
    index: u32
    pairs: Annotated[list[tuple[bytes, bytes]], Strings()]


class CheckpointState(Body, layer=LIBXL, number=streams.LIBXL_CHECKPOINT_STATE):
    """CHECKPOINT_STATE (4.7+, COLO): 0 NEW, 1 SVM_SUSPENDED, 2 SVM_READY, 3 SVM_RESUMED."""

    id: u32
    rest: Annotated[bytes | memoryview, Bytes()] = b""

    @property
    def state(self) -> str:
        return streams.CHECKPOINT_STATES.get(self.id, f"state {self.id}")
