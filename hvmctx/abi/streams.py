"""Numbers and names of the xl file, the suspend image of XAPI, the save file of libvirt, the
libxl v2 stream and the libxc v2/v3 stream.

Source: docs/specs/libxl-migration-stream.pandoc, libxc-migration-stream.pandoc and the
readers and writers in tools/libs, 4.6 to c447b730; xen-api at e2ee48d6 (ocaml/xenopsd,
suspend_image.ml and domain.ml); libvirt at 05dd6741 (src/libxl, libxl_conf.h and
libxl_domain.c). Record headers and bodies are little-endian, image headers big-endian.
"""

from __future__ import annotations

import struct
from ctypes import BigEndianStructure, sizeof
from ctypes import c_uint16 as u16
from ctypes import c_uint32 as u32
from ctypes import c_uint64 as u64

from hvmctx.abi.declare import SaveStructure
from hvmctx.abi.fields import decimal, misfit
from hvmctx.errors import FieldError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ctypes
    from collections.abc import Sequence

__all__ = [
    "CHECKPOINT_STATES", "CONTEXT", "DATA_LENGTHS", "DOMAIN_HEADER", "EMULATORS", "GUEST_TYPES",
    "GUEST_X86_HVM", "GUEST_X86_PV", "HEADERS", "HVM_PARAMS", "HVM_PARAM_ACPI_IOPORTS_LOCATION",
    "HVM_PARAM_ACPI_S_STATE", "HVM_PARAM_ALTP2M", "HVM_PARAM_BUFIOREQ_EVTCHN",
    "HVM_PARAM_BUFIOREQ_PFN", "HVM_PARAM_CALLBACK_IRQ", "HVM_PARAM_CONSOLE_EVTCHN",
    "HVM_PARAM_CONSOLE_PFN", "HVM_PARAM_DM_DOMAIN", "HVM_PARAM_HPET_ENABLED", "HVM_PARAM_IDENT_PT",
    "HVM_PARAM_IOREQ_PFN", "HVM_PARAM_IOREQ_SERVER_PFN", "HVM_PARAM_MCA_CAP",
    "HVM_PARAM_MEMORY_EVENT_CR0", "HVM_PARAM_MEMORY_EVENT_CR3", "HVM_PARAM_MEMORY_EVENT_CR4",
    "HVM_PARAM_MEMORY_EVENT_INT3", "HVM_PARAM_MEMORY_EVENT_MSR",
    "HVM_PARAM_MEMORY_EVENT_SINGLE_STEP", "HVM_PARAM_MONITOR_RING_PFN", "HVM_PARAM_NESTEDHVM",
    "HVM_PARAM_NR_IOREQ_SERVER_PAGES", "HVM_PARAM_PAE_ENABLED", "HVM_PARAM_PAGING_RING_PFN",
    "HVM_PARAM_SHARING_RING_PFN", "HVM_PARAM_STORE_EVTCHN", "HVM_PARAM_STORE_PFN",
    "HVM_PARAM_TIMER_MODE", "HVM_PARAM_TRIPLE_FAULT_REASON", "HVM_PARAM_VIRIDIAN",
    "HVM_PARAM_VM86_TSS", "HVM_PARAM_VM86_TSS_SIZED", "HVM_PARAM_VM_GENERATION_ID_ADDR",
    "HVM_PARAM_VPT_ALIGN", "HVM_PARAM_X87_FIP_WIDTH", "IMAGE_HEADER", "INVALID_PAGE_TYPES",
    "LARGEST_RECORD", "LEGACY", "LIBVIRT", "LIBVIRT_HEADER", "LIBVIRT_LEGACY", "LIBVIRT_MAGIC",
    "LIBVIRT_VERSION", "LIBXC", "LIBXC_CHECKPOINT", "LIBXC_CHECKPOINT_DIRTY_PFN_LIST", "LIBXC_END",
    "LIBXC_HVM_CONTEXT", "LIBXC_HVM_PARAMS", "LIBXC_ID", "LIBXC_MARKER", "LIBXC_OPTION_BIG_ENDIAN",
    "LIBXC_PAGE_DATA", "LIBXC_RECORDS", "LIBXC_SHARED_INFO", "LIBXC_STATIC_DATA_END",
    "LIBXC_TOOLSTACK", "LIBXC_VERIFY", "LIBXC_VERSIONS", "LIBXC_X86_CPUID_POLICY",
    "LIBXC_X86_MSR_POLICY", "LIBXC_X86_PV_INFO", "LIBXC_X86_PV_P2M_FRAMES",
    "LIBXC_X86_PV_VCPU_BASIC", "LIBXC_X86_PV_VCPU_EXTENDED", "LIBXC_X86_PV_VCPU_MSRS",
    "LIBXC_X86_PV_VCPU_XSAVE", "LIBXC_X86_TSC_INFO", "LIBXL", "LIBXL_CHECKPOINT_END",
    "LIBXL_CHECKPOINT_STATE", "LIBXL_EMULATOR_CONTEXT", "LIBXL_EMULATOR_XENSTORE_DATA", "LIBXL_END",
    "LIBXL_HEADER", "LIBXL_IDENT", "LIBXL_LIBXC_CONTEXT", "LIBXL_OPTION_BIG_ENDIAN",
    "LIBXL_OPTION_LEGACY", "LIBXL_RECORDS", "LIBXL_VERSION", "MAGICS", "PAGE_BROKEN",
    "PAGE_DATA_HEAD", "PAGE_DEFERRED", "PAGE_SHIFT", "PAGE_SIZE", "PAGE_TYPES",
    "PAGE_TYPES_WITHOUT_MEMORY", "PAGE_TYPES_WITH_DATA", "PAGE_TYPES_WITH_MEMORY",
    "PAGE_TYPE_SHIFT", "PAGE_XALLOC", "PAGE_XTAB", "PFN_MASK", "QEMU_MAGIC", "RECORDS",
    "RECORD_ALIGN", "RECORD_ALIGNS", "RECORD_HEADER", "RECORD_HEADERS", "RECORD_OPTIONAL",
    "SPECIAL_PARAMS", "STATIC_DATA_SINCE", "STREAM_V2_SINCE", "X86_PFN_BITS", "XAPI",
    "XAPI_BODILESS", "XAPI_DEMU", "XAPI_END_OF_IMAGE", "XAPI_HEADER", "XAPI_LEGACY", "XAPI_LIBXC",
    "XAPI_LIBXC_LEGACY", "XAPI_LIBXL", "XAPI_MAGIC", "XAPI_QEMU_SIGNATURE", "XAPI_QEMU_TRAD",
    "XAPI_QEMU_XEN", "XAPI_RECORDS", "XAPI_STRUCTURED", "XAPI_SWTPM", "XAPI_SWTPM0",
    "XAPI_VARSTORED", "XAPI_XENOPS", "XL", "XL_BYTEORDER", "XL_FLAG_JSON_CONFIG",
    "XL_FLAG_STREAM_V2", "XL_HEADER", "XL_MAGIC", "Flat", "domain_header", "image_header",
    "libvirt_header", "libxl_header", "page_data_head", "param_index", "param_name",
    "record_around", "record_header", "record_name", "xapi_header", "xapi_record_header",
    "xl_header",
]  # fmt: skip

XL, LIBXL, LIBXC, CONTEXT, LEGACY = "xl", "libxl", "libxc", "context", "legacy"
XAPI, LIBVIRT = "xapi", "libvirt"
"""Layers, by the names that everybody uses."""
LAYERS = (XL, XAPI, LIBVIRT, LIBXL, LIBXC, CONTEXT, LEGACY)
"""What an input may start with."""


class Flat:
    """A structure without nesting, of numbers (and arrays of bytes), as `struct` reads and
    writes it: a header, the head of a body, a row. `what` begins the message about a value
    that does not fit. `pack`, `unpack`, `unpack_from`, `iter_unpack` are those of `struct`.
    """

    __slots__ = ("big_endian", "iter_unpack", "names", "pack", "size", "structure", "unpack",
                 "unpack_from", "what")  # fmt: skip

    def __init__(self, structure: type[ctypes.Structure], what: str = "") -> None:
        self.structure = structure
        self.what = what
        self.names = tuple(name for name, *_ in structure._fields_)
        sizes = [getattr(structure, name).size for name in self.names]
        self.big_endian = issubclass(structure, _Header)
        order = ">" if self.big_endian else "<"
        made = struct.Struct(order + "".join(_CODES.get(size) or f"{size}s" for size in sizes))
        assert made.size == sizeof(structure), "padding must be declared"
        self.size = made.size
        self.pack, self.unpack = made.pack, made.unpack
        self.unpack_from, self.iter_unpack = made.unpack_from, made.iter_unpack

    def decode(self, data: bytes | memoryview) -> dict[str, int]:
        """Exactly `size` bytes -> the fields by name."""
        return dict(zip(self.names, self.unpack(data)))

    def encode(self, values: dict[str, int], what: str = "") -> bytes:
        """`size` bytes. Raises FieldError for a field that is missing or does not fit."""
        what = what or self.what
        try:
            return self.encode_values([values[name] for name in self.names], what)
        except KeyError as error:
            raise FieldError(f"{what}{error.args[0]} is missing") from None

    def encode_values(self, values: Sequence[int], what: str = "") -> bytes:
        """The same of all values in order."""
        try:
            return self.pack(*values)
        except struct.error:
            self._refuse(values, what)
            raise

    def _refuse(self, values: Sequence[int], what: str) -> None:
        """Raises FieldError, which says which value does not fit."""
        if len(values) != len(self.names):
            raise FieldError(f"{what}found {len(values)} values, expected {len(self.names)}")
        for name, value in zip(self.names, values):
            if reason := misfit(what + name, value, 8 * getattr(self.structure, name).size):
                raise FieldError(reason)


_CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}


class _Header(BigEndianStructure):
    """Base of the headers of streams, whose numbers are big-endian."""


def _names_of(prefix: str) -> dict[int, str]:
    """Number -> name, of the constants so far that start with the prefix. (So what else
    starts with it stands below.)"""
    return {
        number: name.removeprefix(prefix)
        for name, number in globals().items()
        if name.startswith(prefix)
    }


LIBXL_END = 0
LIBXL_LIBXC_CONTEXT = 1
LIBXL_EMULATOR_XENSTORE_DATA = 2
LIBXL_EMULATOR_CONTEXT = 3
LIBXL_CHECKPOINT_END = 4
LIBXL_CHECKPOINT_STATE = 5
LIBXL_RECORDS = _names_of("LIBXL_")
"""Type -> name."""

LIBXC_END = 0x00
LIBXC_PAGE_DATA = 0x01
LIBXC_X86_PV_INFO = 0x02
LIBXC_X86_PV_P2M_FRAMES = 0x03
LIBXC_X86_PV_VCPU_BASIC = 0x04
LIBXC_X86_PV_VCPU_EXTENDED = 0x05
LIBXC_X86_PV_VCPU_XSAVE = 0x06
LIBXC_SHARED_INFO = 0x07
LIBXC_X86_TSC_INFO = 0x08
LIBXC_HVM_CONTEXT = 0x09
LIBXC_HVM_PARAMS = 0x0A
LIBXC_TOOLSTACK = 0x0B
LIBXC_X86_PV_VCPU_MSRS = 0x0C
LIBXC_VERIFY = 0x0D
LIBXC_CHECKPOINT = 0x0E
LIBXC_CHECKPOINT_DIRTY_PFN_LIST = 0x0F
LIBXC_STATIC_DATA_END = 0x10
LIBXC_X86_CPUID_POLICY = 0x11
LIBXC_X86_MSR_POLICY = 0x12
LIBXC_RECORDS = _names_of("LIBXC_")
"""Type -> name."""

XAPI_XENOPS = 0x000F
XAPI_LIBXC = 0x00F0
XAPI_LIBXL = 0x00F1
XAPI_LIBXC_LEGACY = 0x00F2
XAPI_QEMU_TRAD = 0x0F00
XAPI_QEMU_XEN = 0x0F01
XAPI_DEMU = 0x0F10
XAPI_VARSTORED = 0x0F11
XAPI_SWTPM0 = 0x0F12
XAPI_SWTPM = 0x0F13
XAPI_END_OF_IMAGE = 0xFFFF
XAPI_RECORDS = _names_of("XAPI_")
"""Type -> name."""
XAPI_BODILESS = frozenset((XAPI_LIBXC, XAPI_LIBXL, XAPI_LIBXC_LEGACY, XAPI_DEMU, XAPI_END_OF_IMAGE))
"""Types whose length means nothing: a stream of its own follows the header, or nothing."""
RECORDS = {LIBXL: LIBXL_RECORDS, LIBXC: LIBXC_RECORDS, XAPI: XAPI_RECORDS}
"""Layer -> its record types -> their names."""


def record_name(layer: str, number: int) -> str:
    """The name of a record type, or its number in hex."""
    return RECORDS[layer].get(number) or f"type {number:#x}"


XL_MAGIC = b"Xen saved domain, xl format\n \0 \r"
XL_BYTEORDER = 0x01020304


class xl_header(SaveStructure):
    """What follows the magic."""

    _fields_ = [
        ("byteorder", u32),
        ("mandatory_flags", u32),
        ("optional_flags", u32),
        ("optional_data_len", u32),
    ]


XL_FLAG_JSON_CONFIG = 1
"""4.5 and later: the optional data are JSON, not text configuration."""
XL_FLAG_STREAM_V2 = 2
"""4.6 and later: a libxl v2 stream follows, not a legacy one."""

LIBXL_IDENT = 0x4C6962786C466D74
"""`LibxlFmt`, big-endian."""
LIBXL_VERSION = 2
LIBXL_OPTION_BIG_ENDIAN = 1
LIBXL_OPTION_LEGACY = 2


class libxl_header(_Header):
    """The header of a libxl stream."""

    _fields_ = [("ident", u64), ("version", u32), ("options", u32)]


LIBXC_MARKER = 0xFFFFFFFFFFFFFFFF
LIBXC_ID = 0x58454E46
"""`XENF`, big-endian."""
LIBXC_VERSIONS = (2, 3)
STREAM_V2_SINCE = "4.6"
"""The first release that reads and writes these streams."""
STATIC_DATA_SINCE = "4.14"
"""The first release that reads and writes version 3 and its records."""
LIBXC_OPTION_BIG_ENDIAN = 1


class image_header(_Header):
    """The first header of a libxc stream."""

    _fields_ = [
        ("marker", u64),
        ("id", u32),
        ("version", u32),
        ("options", u16),
        ("reserved1", u16),
        ("reserved2", u32),
    ]


class domain_header(SaveStructure):
    """The second: what kind of guest, of which Xen."""

    _fields_ = [
        ("type", u32),
        ("page_shift", u16),
        ("reserved", u16),
        ("xen_major", u32),
        ("xen_minor", u32),
    ]


XAPI_MAGIC = b"XenSavedDom"
XAPI_STRUCTURED = int.from_bytes(b"v2-\n", "little")
XAPI_LEGACY = int.from_bytes(b"ain\n", "little")
"""What ends the signature of an image of records, and of one of before XenServer 6.5."""


class xapi_header(SaveStructure):
    """What follows the first 11 bytes of the signature: its other four."""

    _fields_ = [("kind", u32)]


class xapi_record_header(SaveStructure):
    """Of a record of XAPI's. `length` means nothing for some types: `XAPI_BODILESS`."""

    _fields_ = [("type", u64), ("length", u64)]


XAPI_QEMU_SIGNATURE = b"QemuDeviceModelRecord\n"
"""What precedes the device model's file in a legacy image, with a big-endian u32 length after
it."""

LIBVIRT_MAGIC = b"libvirt-xml\n \0 \r"
LIBVIRT_LEGACY, LIBVIRT_VERSION = 1, 2
"""The version that says that a legacy stream follows, and the newest. libvirt gives it to libxl,
which takes a stream v2 for all but 1."""


class libvirt_header(SaveStructure):
    """What follows the magic, in the byte order of the machine; then the domain's XML."""

    _fields_ = [
        ("version", u32),
        ("xml_len", u32),
        *((f"reserved{number}", u32) for number in range(10)),
    ]


class record_header(SaveStructure):
    """Of libxl and libxc records alike. `length` is that of the body, padding not counted."""

    _fields_ = [("type", u32), ("length", u32)]


class page_data_head(SaveStructure):
    """What stands before the words of a PAGE_DATA record."""

    _fields_ = [("count", u32), ("reserved", u32)]


_FIELD = "header: "
XL_HEADER = Flat(xl_header, _FIELD)
LIBXL_HEADER = Flat(libxl_header, _FIELD)
IMAGE_HEADER = Flat(image_header, _FIELD)
DOMAIN_HEADER = Flat(domain_header, _FIELD)
XAPI_HEADER = Flat(xapi_header, _FIELD)
LIBVIRT_HEADER = Flat(libvirt_header, _FIELD)
HEADERS = {
    (XL, "header"): XL_HEADER,
    (XAPI, "header"): XAPI_HEADER,
    (LIBVIRT, "header"): LIBVIRT_HEADER,
    (LIBXL, "header"): LIBXL_HEADER,
    (LIBXC, "image header"): IMAGE_HEADER,
    (LIBXC, "domain header"): DOMAIN_HEADER,
}
"""(layer, name) -> header."""
MAGICS = {XL: XL_MAGIC, XAPI: XAPI_MAGIC, LIBVIRT: LIBVIRT_MAGIC}
"""Layer -> what stands before the fields of its header."""
DATA_LENGTHS = {XL: "optional_data_len", LIBVIRT: "xml_len"}
"""Layer -> the field of its header that says how many bytes of data follow."""
RECORD_HEADER = Flat(record_header)
PAGE_DATA_HEAD = Flat(page_data_head)
RECORD_OPTIONAL = 0x80000000
RECORD_ALIGN = 8
RECORD_HEADERS = {LIBXL: RECORD_HEADER, LIBXC: RECORD_HEADER, XAPI: Flat(xapi_record_header)}
"""Layer -> the header of its records."""
RECORD_ALIGNS = {LIBXL: RECORD_ALIGN, LIBXC: RECORD_ALIGN, XAPI: 1}
"""Layer -> what the length of a body is padded to a multiple of."""


def record_around(layer: str, number: int, length: int) -> tuple[bytes, bytes]:
    """Header and padding of a record with a body of `length` bytes. Raises FieldError."""
    head = RECORD_HEADERS[layer].encode_values((number, length), f"record type {number!r}: ")
    return head, bytes(-length % RECORD_ALIGNS[layer])


PAGE_SIZE = 4096
PAGE_SHIFT = 12
LARGEST_RECORD = 128 << 20
"""The most bytes of a libxc record, for its readers and writers alike (4.10+)."""

GUEST_TYPES = {1: "x86 PV", 2: "x86 HVM", 3: "x86 PVH", 4: "ARM"}
"""3 and 4 were reserved in the headers of 4.6 to 4.13, and never written."""
GUEST_X86_PV, GUEST_X86_HVM = 1, 2

QEMU_MAGIC = b"QEVM"
"""What a device model's file starts with when it is QEMU's."""
EMULATORS = {0: "unknown", 1: "qemu-traditional", 2: "qemu-upstream"}
CHECKPOINT_STATES = {0: "NEW", 1: "SVM_SUSPENDED", 2: "SVM_READY", 3: "SVM_RESUMED"}

PAGE_TYPE_SHIFT = 60
PFN_MASK = (1 << 52) - 1
"""Of a word; the bits between it and the type are reserved."""
PAGE_TYPES = {
    0x0: "normal",
    0x1: "L1 table",
    0x2: "L2 table",
    0x3: "L3 table",
    0x4: "L4 table",
    0x9: "L1 table, pinned",
    0xA: "L2 table, pinned",
    0xB: "L3 table, pinned",
    0xC: "L4 table, pinned",
    0xD: "broken",
    0xE: "allocate-only",
    0xF: "absent",
}
INVALID_PAGE_TYPES = frozenset(range(16)) - frozenset(PAGE_TYPES)
"""5 to 8."""
PAGE_BROKEN, PAGE_XALLOC, PAGE_XTAB = 0xD, 0xE, 0xF
PAGE_DEFERRED = 0x10
"""No type of a stream's: a source's word for a page that cannot be had just now."""
PAGE_TYPES_WITH_DATA = frozenset((0x0, 0x1, 0x2, 0x3, 0x4, 0x9, 0xA, 0xB, 0xC))
PAGE_TYPES_WITH_MEMORY = PAGE_TYPES_WITH_DATA | {PAGE_XALLOC}
"""What a restore gives the guest a page for."""
PAGE_TYPES_WITHOUT_MEMORY = frozenset((PAGE_BROKEN, PAGE_XTAB))
X86_PFN_BITS = 40
"""Of the 52 bits of an address of x86; no guest has a page beyond."""

HVM_PARAM_CALLBACK_IRQ = 0
HVM_PARAM_STORE_PFN = 1
HVM_PARAM_STORE_EVTCHN = 2
HVM_PARAM_PAE_ENABLED = 4
HVM_PARAM_IOREQ_PFN = 5
HVM_PARAM_BUFIOREQ_PFN = 6
HVM_PARAM_VIRIDIAN = 9
HVM_PARAM_TIMER_MODE = 10
HVM_PARAM_HPET_ENABLED = 11
HVM_PARAM_IDENT_PT = 12
HVM_PARAM_DM_DOMAIN = 13
HVM_PARAM_ACPI_S_STATE = 14
HVM_PARAM_VM86_TSS = 15
HVM_PARAM_VPT_ALIGN = 16
HVM_PARAM_CONSOLE_PFN = 17
HVM_PARAM_CONSOLE_EVTCHN = 18
HVM_PARAM_ACPI_IOPORTS_LOCATION = 19
HVM_PARAM_MEMORY_EVENT_CR0 = 20
HVM_PARAM_MEMORY_EVENT_CR3 = 21
HVM_PARAM_MEMORY_EVENT_CR4 = 22
HVM_PARAM_MEMORY_EVENT_INT3 = 23
HVM_PARAM_NESTEDHVM = 24
HVM_PARAM_MEMORY_EVENT_SINGLE_STEP = 25
HVM_PARAM_BUFIOREQ_EVTCHN = 26
HVM_PARAM_PAGING_RING_PFN = 27
HVM_PARAM_MONITOR_RING_PFN = 28
HVM_PARAM_SHARING_RING_PFN = 29
HVM_PARAM_MEMORY_EVENT_MSR = 30
HVM_PARAM_TRIPLE_FAULT_REASON = 31
HVM_PARAM_IOREQ_SERVER_PFN = 32
HVM_PARAM_NR_IOREQ_SERVER_PAGES = 33
HVM_PARAM_VM_GENERATION_ID_ADDR = 34
HVM_PARAM_ALTP2M = 35
HVM_PARAM_X87_FIP_WIDTH = 36
HVM_PARAM_VM86_TSS_SIZED = 37
HVM_PARAM_MCA_CAP = 38
HVM_PARAMS = _names_of("HVM_PARAM_")
"""Index -> name, of xen/include/public/hvm/params.h."""


def param_name(index: int) -> str:
    """A parameter's name, or its index in decimal: what `param_index` takes."""
    return HVM_PARAMS.get(index) or str(index)


def param_index(name: str) -> int | None:
    """The index of a parameter by its name, in any case, or by its index in decimal; None
    for anything else."""
    for index, known in HVM_PARAMS.items():
        if known == name.upper():
            return index
    return decimal(name)


SPECIAL_PARAMS = (
    HVM_PARAM_STORE_PFN, HVM_PARAM_IOREQ_PFN, HVM_PARAM_BUFIOREQ_PFN, HVM_PARAM_CONSOLE_PFN,
    HVM_PARAM_PAGING_RING_PFN, HVM_PARAM_MONITOR_RING_PFN, HVM_PARAM_SHARING_RING_PFN,
)  # fmt: skip
"""Parameters that name a page (a pfn) which the toolstack makes for the guest."""
