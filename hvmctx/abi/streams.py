"""Numbers and names of the xl file, the libxl v2 stream and the libxc v2/v3 stream.

Source: docs/specs/libxl-migration-stream.pandoc, libxc-migration-stream.pandoc and the
readers and writers in tools/libs, 4.6 to c447b730. Record headers and bodies are
little-endian, image headers big-endian.
"""

from __future__ import annotations

import struct

from hvmctx.abi.fields import misfit
from hvmctx.errors import FieldError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


_WIDTHS = {"B": 8, "H": 16, "I": 32, "Q": 64}


def pack(what: str, form: str, *values: int, names: str = "") -> bytes:
    """`struct.pack`, but raises FieldError for what does not fit: it names `what`, and which
    of `names`, if they are given."""
    try:
        return struct.pack(form, *values)
    except struct.error as error:
        reason = _misfit(form, names.split(), values) or str(error)
        raise FieldError(f"{what}: {reason}") from None


def pack_rows(what: str, form: str, rows: Sequence[Sequence[int]], names: str) -> bytes:
    """`pack` of rows of one form. The first of `names` is the list's own."""
    one = struct.Struct(form).pack
    try:
        return b"".join([one(*row) for row in rows])
    except struct.error:
        kind, _, fields = names.partition(" ")
        for at, row in enumerate(rows):
            pack(f"{what}: {kind}[{at}]", form, *row, names=fields)
        raise


def _misfit(form: str, names: Sequence[str], values: Sequence[object]) -> str:
    """Which value does not fit; nothing where that is not known. Of a form without counts."""
    if len(values) != len(form) - 1:
        return f"found {len(values)} values, expected {len(form) - 1}"
    for at, (code, value) in enumerate(zip(form[1:], values)):
        if reason := misfit(names[at] if names else f"value {at}", value, _WIDTHS[code]):
            return reason
    return ""


class HeaderLayout:
    """A fixed header: a `struct` format and the names of its fields, in order."""

    __slots__ = ("_struct", "names", "size")

    def __init__(self, form: str, names: str) -> None:
        self._struct = struct.Struct(form)
        self.names = tuple(names.split())
        self.size = self._struct.size

    def parse(self, data: bytes | memoryview) -> dict[str, int]:
        """Exactly `size` bytes -> the fields by name."""
        return dict(zip(self.names, self._struct.unpack(data)))

    def serialise(self, fields: dict[str, int]) -> bytes:
        """`size` bytes. Raises FieldError for a field that is missing or does not fit."""
        try:
            values = [fields[name] for name in self.names]
        except KeyError as error:
            raise FieldError(f"a header cannot hold this: {error.args[0]} is missing") from None
        names = " ".join(self.names)
        return pack("a header cannot hold this", self._struct.format, *values, names=names)


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

XL_MAGIC = b"Xen saved domain, xl format\n \0 \r"
XL_BYTEORDER = 0x01020304
XL_HEADER = HeaderLayout("<IIII", "byteorder mandatory_flags optional_flags optional_data_len")
"""Behind the magic."""
XL_FLAG_JSON_CONFIG = 1
"""4.5 and later: the optional data are JSON, not text configuration."""
XL_FLAG_STREAM_V2 = 2
"""4.6 and later: a libxl v2 stream follows, not a legacy one."""

LIBXL_IDENT = 0x4C6962786C466D74
"""`LibxlFmt`, big-endian."""
LIBXL_VERSION = 2
LIBXL_HEADER = HeaderLayout(">QII", "ident version options")
LIBXL_OPTION_BIG_ENDIAN = 1
LIBXL_OPTION_LEGACY = 2

LIBXC_MARKER = 0xFFFFFFFFFFFFFFFF
LIBXC_ID = 0x58454E46
"""`XENF`, big-endian."""
LIBXC_VERSIONS = (2, 3)
STREAM_V2_SINCE = "4.6"
"""The first release that reads and writes these streams."""
STATIC_DATA_SINCE = "4.14"
"""The first release that reads and writes version 3 and its records."""
LIBXC_OPTION_BIG_ENDIAN = 1
IMAGE_HEADER = HeaderLayout(">QIIHHI", "marker id version options reserved1 reserved2")
DOMAIN_HEADER = HeaderLayout("<IHHII", "type page_shift reserved xen_major xen_minor")

RECORD_HEADER = struct.Struct("<II")
"""Type, length of the body."""
RECORD_OPTIONAL = 0x80000000
RECORD_ALIGN = 8

PAGE_SIZE = 4096
PAGE_SHIFT = 12
LARGEST_RECORD = 128 << 20
"""The most bytes of a libxc record, for its readers and writers alike (4.10+)."""
PAGE_HEAD_SIZE = 8
"""Bytes of a PAGE_DATA record before its words: u32 count, u32 reserved."""

GUEST_TYPES = {1: "x86 PV", 2: "x86 HVM", 3: "x86 PVH", 4: "ARM"}
"""3 and 4 were reserved in the headers of 4.6 to 4.13, and never written."""
GUEST_X86_PV, GUEST_X86_HVM = 1, 2

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
SPECIAL_PARAMS = (
    HVM_PARAM_STORE_PFN, HVM_PARAM_IOREQ_PFN, HVM_PARAM_BUFIOREQ_PFN, HVM_PARAM_CONSOLE_PFN,
    HVM_PARAM_PAGING_RING_PFN, HVM_PARAM_MONITOR_RING_PFN, HVM_PARAM_SHARING_RING_PFN,
)  # fmt: skip
"""Parameters that name a page (a pfn) which the toolstack makes for the guest."""
