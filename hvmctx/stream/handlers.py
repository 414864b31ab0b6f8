"""Where a record type meets its decoder.

A handler is a callable that takes a record's body (bytes or a view) and returns what it
means, or raises a FormatError whose offset counts from the start of the body. Handlers
are kept by layer and record type. Other packages add theirs through the entry point group
`hvmctx.handlers`: the entry point's name is `layer:type`, such as `libxc:0x20`.
"""

from __future__ import annotations

import importlib

from hvmctx.abi import streams
from hvmctx.errors import FormatError, HvmctxError, UsageError
from hvmctx.stream.reader import LIBXC, LIBXL, StreamRecord

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Handler = Callable[[Any], Any]

ENTRY_POINT_GROUP = "hvmctx.handlers"

_XC = "hvmctx.stream.libxc"
_XL = "hvmctx.stream.libxl"

# Named, not imported: a dump imports one of these modules, not all.
_handlers: dict[tuple[str, int], str | Handler] = {
    (LIBXC, streams.LIBXC_PAGE_DATA): f"{_XC}:PageData.parse",
    (LIBXC, streams.LIBXC_X86_PV_INFO): f"{_XC}:PvInfo.parse",
    (LIBXC, streams.LIBXC_X86_PV_P2M_FRAMES): f"{_XC}:PvP2mFrames.parse",
    (LIBXC, streams.LIBXC_X86_PV_VCPU_BASIC): f"{_XC}:PvVcpu.parse",
    (LIBXC, streams.LIBXC_X86_PV_VCPU_EXTENDED): f"{_XC}:PvVcpu.parse",
    (LIBXC, streams.LIBXC_X86_PV_VCPU_XSAVE): f"{_XC}:PvVcpu.parse",
    (LIBXC, streams.LIBXC_X86_PV_VCPU_MSRS): f"{_XC}:PvVcpuMsrs.parse",
    (LIBXC, streams.LIBXC_SHARED_INFO): f"{_XC}:SharedInfo.parse",
    (LIBXC, streams.LIBXC_X86_TSC_INFO): f"{_XC}:TscInfo.parse",
    (LIBXC, streams.LIBXC_HVM_CONTEXT): "hvmctx.context.hvm_context:HvmContext.parse",
    (LIBXC, streams.LIBXC_HVM_PARAMS): f"{_XC}:HvmParams.parse",
    (LIBXC, streams.LIBXC_CHECKPOINT_DIRTY_PFN_LIST): f"{_XC}:DirtyPfnList.parse",
    (LIBXC, streams.LIBXC_X86_CPUID_POLICY): f"{_XC}:CpuidPolicy.parse",
    (LIBXC, streams.LIBXC_X86_MSR_POLICY): f"{_XC}:MsrPolicy.parse",
    (LIBXL, streams.LIBXL_EMULATOR_XENSTORE_DATA): f"{_XL}:EmulatorXenstoreData.parse",
    (LIBXL, streams.LIBXL_EMULATOR_CONTEXT): f"{_XL}:EmulatorContext.parse",
    (LIBXL, streams.LIBXL_CHECKPOINT_STATE): f"{_XL}:CheckpointState.parse",
}
_plugins: list[str] = []
"""What `load_plugins` has found: filled once, with the group's name first."""


def register(layer: str, number: int, handler: Handler) -> None:
    """Decode records of this layer and type with `handler` from now on."""
    _handlers[layer, number] = handler


def find(layer: str, number: int) -> Handler | None:
    """The handler of a record type. Entry points are looked up once, and only when a type
    turns up that nothing built in decodes."""
    if (layer, number) not in _handlers and not _plugins:
        load_plugins()
    handler = _handlers.get((layer, number))
    if isinstance(handler, str):
        module, _, path = handler.partition(":")
        found: Any = importlib.import_module(module)
        for name in path.split("."):
            found = getattr(found, name)
        handler = _handlers[layer, number] = found
    return handler


def load_plugins() -> None:
    """Register every handler that installed packages announce. Raises UsageError for an
    entry point that is not named `layer:type`, or cannot be loaded."""
    _plugins[:] = [ENTRY_POINT_GROUP]
    from importlib.metadata import entry_points

    for entry in entry_points(group=ENTRY_POINT_GROUP):
        layer, _, number = entry.name.partition(":")
        try:
            register(layer, int(number, 0), entry.load())
            _plugins.append(entry.name)
        except Exception as error:
            raise UsageError(
                f"handler entry point {entry.name!r} ({entry.value}): {error}"
            ) from error


def decode(record: StreamRecord, body: bytes | memoryview) -> Any:
    """What the body of `record` means; the body itself where no handler knows. A
    FormatError's offset is given from the start of the image, like the record's own."""
    handler = find(record.layer, record.type)
    if handler is None:
        return body
    try:
        return handler(body)
    except FormatError as error:
        error.record = error.record or record.name
        raise error.moved(record.body_offset) from None
    except HvmctxError:
        raise
    except Exception as error:  # a third party's handler: whatever it raises is about the body
        raise FormatError(
            f"its handler failed ({type(error).__name__}: {error})",
            layer=record.layer,
            offset=record.body_offset,
            record=record.name,
        ) from error
