"""Images of Xen guests in volatility3, without extraction: a layer of the guest's memory, and a
layer of what its page tables map.

    vol -p "$(python3 -m hvmctx.volatility)" -f guest.save banners.Banners

volatility3 imports every module of this folder, and uses the classes that it finds. A layer is
made from its configuration alone, more than once, and sent to other processes.

Source: volatility3 2.28.2; Windows' shared data, which every version maps at one address.
"""

from __future__ import annotations

import logging
import os
import sys
from array import array
from bisect import bisect_left

from volatility3.framework import exceptions, interfaces, renderers
from volatility3.framework.configuration import requirements
from volatility3.framework.layers import intel
from volatility3.framework.renderers import format_hints

try:
    import hvmctx.errors
except ImportError:  # volatility3's Python has packages of its own: take the one around this file
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__)))))
    import hvmctx.errors  # noqa: F401 - the package knows where its modules are

    del sys.path[-1]

from hvmctx.abi import streams, x86
from hvmctx.abi.x86_bits import EFER, dpl
from hvmctx.errors import HvmctxError, MissingRecordError
from hvmctx.files.opening import is_compressed
from hvmctx.files.source import Source
from hvmctx.image.image import open_image
from hvmctx.messages import printable
from hvmctx.stream.detect import ENOUGH, detect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from hvmctx.image.image import Image

__all__ = ["Vcpus", "XenPagingStacker", "XenSaveLayer", "XenSaveStacker"]

_log = logging.getLogger(__name__)


class _LayerSource(Source):
    """What volatility3 has opened. `layer` may be exchanged for another one of the same bytes."""

    def __init__(self, layer: Any) -> None:
        super().__init__(layer.maximum_address + 1)
        self.name = layer.name
        self.layer = layer

    def read_at(self, offset: int, count: int) -> bytes:
        count = min(count, self.whole_size() - offset)
        data: bytes = self.layer.read(offset, count) if count > 0 else b""
        return data


class _Opened:
    """An image, and where it has memory: as arrays, so that finding an address does not go
    through all runs."""

    def __init__(self, source: _LayerSource) -> None:
        self.source = source
        self.image = open_image(source)
        self._firsts, self._lasts = array("Q"), array("Q")
        """The first and the last address of each stretch of memory."""
        for first, end, _ in self.pieces(0, 1 << 64):
            if self._lasts and self._lasts[-1] == first - 1:
                self._lasts[-1] = end - 1
            else:
                self._firsts.append(first)
                self._lasts.append(end - 1)

    def pieces(self, start: int, end: int) -> Iterator[tuple[int, int, int | None]]:
        """(first address, one after the last, where that is in the file) of what there is."""
        image = self.image
        size = image.source.whole_size()
        for run in image.memory.between(start >> streams.PAGE_SHIFT, -(-end >> streams.PAGE_SHIFT)):
            if run.type not in streams.PAGE_TYPES_WITH_MEMORY:
                continue
            address, stop = run.pfn << streams.PAGE_SHIFT, run.end << streams.PAGE_SHIFT
            if run.offset is not None:
                stop = min(stop, address + size - run.offset)
            first, last = max(start, address), min(end, stop)
            if first < last:
                yield first, last, None if run.offset is None else run.offset + first - address

    def stretches(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The same, wherever it is in the file: neighbours are one."""
        for at in range(bisect_left(self._lasts, start), len(self._lasts)):
            if self._firsts[at] >= end:
                break
            yield max(start, self._firsts[at]), min(end, self._lasts[at] + 1)

    def span(self) -> tuple[int, int]:
        """The first and the last address; both 0 where there is no memory."""
        return (self._firsts[0], self._lasts[-1]) if self._lasts else (0, 0)


_latest: list[tuple[object, _Opened]] = []
"""The image that was opened last, and which state of a file it is: volatility3 makes several
layers of one file, each in a context of its own."""


def _opened(base: Any) -> _Opened:
    key = _state_of(base)
    for known, opened in _latest:
        if known == key is not None:
            return opened
    opened = _Opened(_LayerSource(base))
    _latest[:] = [(key, opened)]
    return opened


def _state_of(base: Any) -> object:
    """What the layer of a file has in common only with those of the same contents; None for any
    other layer."""
    try:
        status = os.fstat(base._file.fileno())  # what it has open, whatever has that name by now
    except (AttributeError, OSError, ValueError):
        return None
    place = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    return base.location, place, base.maximum_address


class XenSaveLayer(interfaces.layers.TranslationLayerInterface):
    """What `image.memory` is: the memory that a restore leaves the guest with. Pages that the
    image does not mention, and those that a damaged one ends before, are holes. A page without
    contents is zeros, and maps to no bytes of the file.

    Metadata: `architecture` (Intel32, Intel64), `pae` and `page_map_offset` of the first vcpu that
    is in its kernel with paging on, as volatility3 calls them, and `vcpus`, the numbers in
    each vcpu's CPU record by its number. The latter is empty without a context."""

    def __init__(
        self, context: Any, config_path: str, name: str, metadata: dict[str, Any] | None = None
    ) -> None:
        super().__init__(context=context, config_path=config_path, name=name, metadata=metadata)
        self._base_layer = str(self.config["base_layer"])
        self._opened: _Opened | None = None
        self.read(self.minimum_address, 1, pad=True)  # raises what damaged parameters raise
        vcpus = _vcpus(self.image)
        self._metadata = {**_paging(self.image), "vcpus": vcpus, **(metadata or {})}

    @property
    def image(self) -> Image:
        """The image, opened when it is first asked for: it is not sent to another process."""
        return self._open().image

    def _open(self) -> _Opened:
        base = self._context.layers[self._base_layer]
        if self._opened is None:
            self._opened = _opened(base)
        self._opened.source.layer = base  # that of another layer may have been closed
        return self._opened

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    @classmethod
    def get_requirements(cls) -> list[Any]:
        return [requirements.TranslationLayerRequirement(name="base_layer", optional=False)]

    @property
    def dependencies(self) -> list[str]:
        return [self._base_layer]

    @property
    def minimum_address(self) -> int:
        return self._open().span()[0]

    @property
    def maximum_address(self) -> int:
        return self._open().span()[1]

    def _reach(self, start: int, end: int) -> int:
        """Up to where there is all of it."""
        first, last = next(self._open().stretches(start, end), (start, start))
        return last if first == start else start

    def is_valid(self, offset: int, length: int = 1) -> bool:
        return self._reach(offset, offset + length) == offset + length

    def read(  # pyright: ignore[reportIncompatibleVariableOverride] - it has a cache, of chunks
        self, offset: int, length: int, pad: bool = False
    ) -> bytes:
        memory = self.image.memory
        if pad:
            pieces: list[bytes] = []
            at = offset
            for first, last in self._open().stretches(offset, offset + length):
                pieces += bytes(first - at), memory.read(first, last - first)
                at = last
            return b"".join((*pieces, bytes(offset + length - at)))
        try:
            return memory.read(offset, length)
        except HvmctxError as error:
            at = self._reach(offset, offset + length)
            raise exceptions.InvalidAddressException(self.name, at, str(error)) from None

    def mapping(
        self, offset: int, length: int, ignore_errors: bool = False
    ) -> Iterator[tuple[int, int, int, int, str]]:
        at = offset
        for first, last, place in self._open().pieces(offset, offset + length):
            if first != at and not ignore_errors:
                break
            size = 0 if place is None else last - first
            yield first, last - first, place or 0, size, self._base_layer
            at = last
        if at < offset + length and not ignore_errors:
            raise exceptions.InvalidAddressException(self.name, at, f"no memory at {at:#x}")

    def _scan_iterator(
        self, scanner: Any, sections: Iterable[tuple[int, int]], linear: bool = False
    ) -> Iterable[Any]:
        """Chunks of the guest's memory. (volatility3 would end one wherever the next page lies
        elsewhere in the file, and miss what goes across.)"""
        there = (
            (first, last - first)
            for start, size in sections
            for first, last in self._open().stretches(start, start + size)
        )
        chunks = interfaces.layers.DataLayerInterface._scan_iterator
        found: Iterable[Any] = chunks(self, scanner, there)
        return found


def _vcpus(image: Image) -> dict[int, dict[str, int]]:
    """The numbers in each CPU record, by the number of its vcpu."""
    try:
        records = image.context.records(x86.CPU)
    except MissingRecordError:
        return {}
    return {
        record.instance: {
            name: value for name, value in record.fields().items() if isinstance(value, int)
        }
        for record in records
    }


def _paging(image: Image) -> dict[str, Any]:
    """The metadata that volatility3 knows. A program's page tables may lack the kernel, so those
    of a vcpu that runs one are not taken; nor are tables of five levels, which volatility3 cannot
    walk."""
    try:
        vcpus = image.vcpus
    except MissingRecordError:
        return {}
    architectures = []
    for vcpu in vcpus:
        if vcpu.id not in vcpus.cpus:
            continue  # offline
        paging, cpu = vcpu.paging, vcpu.cpu
        if paging.mode in _WALKED and not dpl(cpu.ss_arbytes):
            return {
                "architecture": f"Intel{paging.address_bits}",
                "pae": paging.mode != "32-bit",
                "page_map_offset": paging.root,
            }
        architectures.append("Intel64" if cpu.msr_efer & EFER.LMA else "Intel32")
    return {"architecture": max(architectures)} if architectures else {}  # 64 over 32


_WALKED = ("32-bit", "PAE", "4-level")
"""Of `image.paging.MODES`."""


class XenSaveStacker(interfaces.automagic.StackerLayerInterface):
    """Puts a `XenSaveLayer` onto a file that is an image. Any other file is left alone."""

    stack_order = 10

    @classmethod
    def stack(cls, context: Any, layer_name: str, progress_callback: Any = None) -> Any:
        base = context.layers[layer_name]
        if base.dependencies:
            return None  # what another stacker has made is no file
        head = _LayerSource(base).peek(ENOUGH)
        if is_compressed(head):
            _warn("the file is compressed: if it is the image of a Xen guest, decompress it first")
            return None
        if detect(head) in (None, streams.CONTEXT):
            return None
        name = context.layers.free_layer_name("XenSaveLayer")
        path = interfaces.configuration.path_join("XenSaveHelper", name)
        context.config[interfaces.configuration.path_join(path, "base_layer")] = layer_name
        try:
            return _checked(XenSaveLayer(context, path, name), base)
        except HvmctxError as error:
            _warn(str(error))
            return None


def _checked(layer: XenSaveLayer, base: Any) -> XenSaveLayer | None:
    """A layer, if it has anything to look at; and what is to be known of it and its file."""
    image = layer.image
    for problem in image.problems:
        _warn(str(problem))
    runs = image.memory.runs
    if not any(runs.has_pages(row) for row in range(runs.rows)):
        _warn("the image has no page contents: there is nothing to look at")
        return None
    if str(getattr(base, "location", "")).endswith((".gz", ".xz", ".bz2")):
        _warn("volatility3 decompresses the file anew at each step back: decompress it first")
    if image.guest_type == streams.GUEST_X86_PV:
        _warn("the guest is PV: its memory is read by pfn; its vcpus and page tables are not")
    return layer


def _warn(text: str) -> None:
    _log.warning(printable(text))


_LAYERS = {
    ("Intel64", True): (intel.Intel32e, intel.WindowsIntel32e),
    ("Intel32", True): (intel.IntelPAE, intel.WindowsIntelPAE),
    ("Intel32", False): (intel.Intel, intel.WindowsIntel),
}
_SHARED_DATA = {"Intel64": 0xFFFFF78000000000, "Intel32": 0xFFDF0000}
_NT_MAJOR_VERSION = 0x26C


class XenPagingStacker(interfaces.automagic.StackerLayerInterface):
    """Puts what a vcpu's page tables map onto a `XenSaveLayer`. volatility3's own stackers search
    memory for page tables; those of Linux and macOS come first, as they find the kernel's symbols
    too."""

    stack_order = 39

    @classmethod
    def stack(cls, context: Any, layer_name: str, progress_callback: Any = None) -> Any:
        base = context.layers[layer_name]
        if not isinstance(base, XenSaveLayer) or "page_map_offset" not in base.metadata:
            return None
        architecture = base.metadata["architecture"]
        plain, windows = _LAYERS[architecture, base.metadata["pae"]]
        name = context.layers.free_layer_name("IntelLayer")
        join = interfaces.configuration.path_join
        path = join("XenSaveHelper", name)
        context.config[join(path, "memory_layer")] = layer_name
        context.config[join(path, "page_map_offset")] = base.metadata["page_map_offset"]
        layer = plain(context, path, name)
        try:
            version = layer.read(_SHARED_DATA[architecture] + _NT_MAJOR_VERSION, 4)
        except exceptions.InvalidAddressException:
            return layer
        if int.from_bytes(version, "little") in (3, 4, 5, 6, 10):
            return windows(context, path, name, metadata={"os": "Windows"})
        return layer


class Vcpus(interfaces.plugins.PluginInterface):
    """Registers of the vcpus of a Xen guest, out of its image."""

    _required_framework_version = (2, 0, 0)
    _version = (1, 0, 0)

    @classmethod
    def get_requirements(cls) -> list[Any]:
        return [
            requirements.TranslationLayerRequirement(name="primary", description="Memory layer")
        ]

    def run(self) -> Any:
        columns = ("RIP", "RSP", "RFLAGS", "CR0", "CR2", "CR3", "CR4", "MSR_EFER")
        hex_of: Any = format_hints.Hex
        vcpus = self.context.layers[str(self.config["primary"])].metadata.get("vcpus", {})
        return renderers.TreeGrid(
            [("Vcpu", int), ("CPL", int), *((name, hex_of) for name in columns)],
            (
                (
                    0,
                    (
                        number,
                        dpl(cpu["ss_arbytes"]),
                        *(hex_of(cpu[name.lower()]) for name in columns),
                    ),
                )
                for number, cpu in vcpus.items()
            ),
        )
