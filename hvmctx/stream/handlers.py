"""Where a record type meets its decoder.

Record types of Xen's own have a model each: a class with `parse` and, beside it,
`serialise`. A handler is a callable that takes a record's body (bytes or a view) and
returns what it means, or raises a FormatError whose offset counts from the start of the
body. `register` puts one in a model's place, or decodes a type that has none; other
packages add theirs for such types through the entry point group `hvmctx.handlers`: the
entry point's name is `layer:type`, such as `libxc:0x20`.
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
_MODELS: dict[tuple[str, int], str] = {
    (LIBXC, streams.LIBXC_PAGE_DATA): f"{_XC}:PageData",
    (LIBXC, streams.LIBXC_X86_PV_INFO): f"{_XC}:PvInfo",
    (LIBXC, streams.LIBXC_X86_PV_P2M_FRAMES): f"{_XC}:PvP2mFrames",
    (LIBXC, streams.LIBXC_X86_PV_VCPU_BASIC): f"{_XC}:PvVcpuBasic",
    (LIBXC, streams.LIBXC_X86_PV_VCPU_EXTENDED): f"{_XC}:PvVcpuExtended",
    (LIBXC, streams.LIBXC_X86_PV_VCPU_XSAVE): f"{_XC}:PvVcpuXsave",
    (LIBXC, streams.LIBXC_X86_PV_VCPU_MSRS): f"{_XC}:PvVcpuMsrs",
    (LIBXC, streams.LIBXC_SHARED_INFO): f"{_XC}:SharedInfo",
    (LIBXC, streams.LIBXC_X86_TSC_INFO): f"{_XC}:TscInfo",
    (LIBXC, streams.LIBXC_HVM_CONTEXT): "hvmctx.context.hvm_context:HvmContext",
    (LIBXC, streams.LIBXC_HVM_PARAMS): f"{_XC}:HvmParams",
    (LIBXC, streams.LIBXC_CHECKPOINT_DIRTY_PFN_LIST): f"{_XC}:DirtyPfnList",
    (LIBXC, streams.LIBXC_X86_CPUID_POLICY): f"{_XC}:CpuidPolicy",
    (LIBXC, streams.LIBXC_X86_MSR_POLICY): f"{_XC}:MsrPolicy",
    (LIBXL, streams.LIBXL_EMULATOR_XENSTORE_DATA): f"{_XL}:EmulatorXenstoreData",
    (LIBXL, streams.LIBXL_EMULATOR_CONTEXT): f"{_XL}:EmulatorContext",
    (LIBXL, streams.LIBXL_CHECKPOINT_STATE): f"{_XL}:CheckpointState",
}
_handlers: dict[tuple[str, int], Handler] = {}
_plugins: list[str] = []
"""What `load_plugins` has found: filled once, with the group's name first."""


def model_of(layer: str, number: int) -> Any:
    """The class that models the bodies of a record type, None where there is none."""
    name = _MODELS.get((layer, number))
    if name is None:
        return None
    module, _, kind = name.partition(":")
    return getattr(importlib.import_module(module), kind)


def register(layer: str, number: int, handler: Handler) -> None:
    """Decode records of this layer and type with `handler` from now on."""
    _handlers[layer, number] = handler


def find(layer: str, number: int) -> Handler | None:
    """The handler of a record type: the one registered, its model's `parse`, or what an
    installed package announces, for which is looked once, and only when a type turns up
    that nothing else decodes."""
    key = layer, number
    if key not in _handlers:
        model = model_of(layer, number)
        if model is not None:
            handler: Handler = model.parse
            return handler
        if not _plugins:
            load_plugins()
    return _handlers.get(key)


def load_plugins() -> None:
    """Register every handler that installed packages announce. Raises UsageError for an
    entry point that is not named `layer:type`, is for a type that has a model (which
    would count from some record on only), or cannot be loaded."""
    _plugins[:] = [ENTRY_POINT_GROUP]
    from importlib.metadata import entry_points

    for entry in entry_points(group=ENTRY_POINT_GROUP):
        layer, _, number = entry.name.partition(":")
        try:
            key = layer, int(number, 0)
            if key in _MODELS:
                raise UsageError(f"hvmctx decodes this type itself, as {_MODELS[key]}")
            register(*key, entry.load())
            _plugins.append(entry.name)
        except Exception as error:
            raise UsageError(
                f"handler entry point {entry.name!r} ({entry.value}): {error}"
            ) from error


def decode(record: StreamRecord, body: bytes | memoryview) -> Any:
    """What the body of `record` means; the body itself where no handler knows. A
    FormatError's offset is given from the start of the image, like the record's own."""
    handler = find(record.layer, record.type)
    return body if handler is None else _call(handler, record, body)


def parse(record: StreamRecord, body: bytes | memoryview) -> Any:
    """The body of `record`, of a type that has a model, as that: `serialise` gives it back,
    and no registered handler has a say. Errors as `decode`."""
    return _call(model_of(record.layer, record.type).parse, record, body)


def _call(handler: Handler, record: StreamRecord, body: bytes | memoryview) -> Any:
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
