"""A restorable image from parts: memory, context, parameters, TSC, policies, device model's
file, xl configuration.

Parts come one by one, or from a base image in which the others replace parts. `verify.built`
says what is wrong with the result.
"""

from __future__ import annotations

import json

from hvmctx.abi import streams
from hvmctx.errors import FieldError, UsageError
from hvmctx.files.sink import Sink
from hvmctx.save import rewrap
from hvmctx.save.engine import Saved, SaveError, save
from hvmctx.save.guests import StillGuest
from hvmctx.save.libxl import DeviceModelData, DeviceModelFile, LibxlSave, write
from hvmctx.stream.xlfile import config_to_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import BinaryIO

    from hvmctx.buffers import Buffer
    from hvmctx.stream.writer import StreamWriter

__all__ = ["DEFAULT_PARAMS", "LAYERS", "WithBlankPages", "build", "special_pages"]

LAYERS = ("xl", "xapi", "libvirt", "libxl", "libxc")
DEFAULT_PARAMS = {
    streams.HVM_PARAM_STORE_PFN: 0xFEFFC,
    streams.HVM_PARAM_IOREQ_PFN: 0xFEFFD,
    streams.HVM_PARAM_BUFIOREQ_PFN: 0xFEFFB,
    streams.HVM_PARAM_PAGING_RING_PFN: 0xFEFF8,
    streams.HVM_PARAM_MONITOR_RING_PFN: 0xFEFF9,
    streams.HVM_PARAM_SHARING_RING_PFN: 0xFEFFA,
    streams.HVM_PARAM_CONSOLE_PFN: 0xFEFFF,
    streams.HVM_PARAM_IDENT_PT: 0xFEFFE000,
}
"""Where libxc puts the special pages of an HVM guest (4.9 and later)."""


class WithBlankPages(StillGuest):
    """A guest with blank pages where some that it must have are absent: the special pages
    that the parameters name."""

    def __init__(self, guest: StillGuest, needed: Iterable[int]) -> None:
        super().__init__(
            context=guest.context, params=guest.params, tsc=guest.tsc,
            cpuid_policy=guest.cpuid_policy, msr_policy=guest.msr_policy,
            xen_version=guest.xen_version,
        )  # fmt: skip
        self._guest = guest
        self._needed = frozenset(needed)
        self.p2m_size = max(guest.p2m_size, *(pfn + 1 for pfn in self._needed), 1)

    def page_types(self, pfns: memoryview) -> bytes:
        """The guest's, and allocate-only for what is needed and absent."""
        types = self._guest.page_types(pfns)
        if not any(pfns[0] <= pfn <= pfns[-1] for pfn in self._needed):
            return types
        kinds = bytearray(types)
        for at, pfn in enumerate(pfns):
            if pfn in self._needed and kinds[at] in streams.PAGE_TYPES_WITHOUT_MEMORY:
                kinds[at] = streams.PAGE_XALLOC
        return bytes(kinds)

    def all_pages(self) -> Iterable[tuple[int, int]]:
        """The guest's, and those needed that it does not mention."""
        needed = sorted(self._needed)
        for start, end in self._guest.all_pages():
            while needed and needed[0] < end:
                pfn = needed.pop(0)
                if pfn < start:
                    yield pfn, pfn + 1
            yield start, end
        for pfn in needed:
            yield pfn, pfn + 1

    def pages(self, pfns: memoryview, types: bytes) -> Iterable[Buffer]:
        """The guest's."""
        return self._guest.pages(pfns, types)


def special_pages(params: Iterable[tuple[int, int]]) -> set[int]:
    """The pfns that parameters name, IDENT_PT by its address."""
    found = {value for index, value in params if index in streams.SPECIAL_PARAMS and value}
    tables = {value for index, value in params if index == streams.HVM_PARAM_IDENT_PT and value}
    return found | {address >> streams.PAGE_SHIFT for address in tables}


def _is_hvm(config: bytes) -> bool:
    """Whether xl's configuration says so; one that is not JSON says nothing."""
    try:
        known = json.loads(config.rstrip(b"\0") or b"{}")
        return bool(known["c_info"]["type"] == "hvm")
    except (ValueError, RecursionError, LookupError, TypeError):
        return False


def build(
    guest: StillGuest,
    out: BinaryIO,
    *,
    layer: str = "xl",
    version: int = 3,
    config: bytes = b"",
    emulator: DeviceModelFile | DeviceModelData | None = None,
    without_emulator: bool = False,
    xenstore: Iterable[tuple[bytes, bytes]] = (),
    blank_specials: bool = True,
) -> Saved:
    """Write an image of a guest. `layer` is what it starts with; `config` the JSON of an xl
    file, which for an HVM guest needs `emulator`, or `without_emulator`; or libvirt's XML, or the
    S-expression of a VM of XAPI's, both by default the least that there may be; `blank_specials`
    adds the pages that parameters name and memory lacks.

    Raises UsageError for parts that have no place in that layer, FieldError for special
    pages that no guest has, FormatError for a description that cannot be read, SaveError, and
    what the output raises.
    """
    if layer not in LAYERS:
        raise UsageError(f"unknown layer {layer!r}; expected {', '.join(LAYERS)}")
    if layer == "libxc" and (emulator is not None or config):
        raise UsageError("a libxc stream cannot hold a device model or a configuration")
    if layer == "libxl" and config:
        raise UsageError("a libxl stream cannot hold a configuration")
    if emulator is None and not without_emulator and _is_hvm(config):
        raise SaveError(
            "the configuration is of an HVM guest, which cannot go on without its device model's "
            "state"
        )
    needed = special_pages(guest.params) if blank_specials else set()
    if any(pfn >> streams.X86_PFN_BITS for pfn in needed):
        raise FieldError("a parameter names a page beyond the memory of any x86 guest")
    source = WithBlankPages(guest, needed)
    sink = Sink(out)
    if layer == "libxc":
        return save(source, sink, version=version)
    if layer == "xapi":
        return _suspend_image(source, sink, version, config, emulator)
    if layer == "libvirt":
        sink.write(_head(layer, config))
        layer = "libxl"
    saved: list[Saved] = []

    def helper(sink: Sink, writer: StreamWriter) -> None:
        saved.append(save(source, sink, writer=writer, version=version))

    data = config_to_bytes(config) if layer == "xl" else b""
    libxl = LibxlSave(
        xenstore=xenstore, emulator=emulator, without_emulator=emulator is None, layer=layer,
        optional_data=data,
    )  # fmt: skip
    write(libxl, sink, helper)
    return saved[0]


def _suspend_image(
    source: StillGuest,
    sink: Sink,
    version: int,
    vm: bytes,
    emulator: DeviceModelFile | DeviceModelData | None,
) -> Saved:
    """One of XAPI's."""
    sink.write(_head("xapi", vm))
    saved = save(source, sink, version=version)
    if emulator is not None:
        sink.write(rewrap.device_model("xapi", emulator.read()))
    sink.write(rewrap.end("xapi"))
    return saved


def _head(layer: str, given: bytes) -> bytes:
    """What a wrapper starts with."""
    data, _ = rewrap.Description.none().written(layer, given or None)
    return rewrap.begin(layer, data)[1]
