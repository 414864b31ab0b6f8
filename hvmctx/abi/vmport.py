"""The VMPORT save record (typecode 21): VMware hyper-call RPC state.

Source: the patch "Add live migration of VMware's hyper-call RPC" (xen-devel, 2014-09-20,
v6 11/16), which was never merged. It fixes layout, writer and loader; the header with its
constants is another patch of that series, so **the constants here are a reconstruction**.
All of them belong to a `VmportProfile`, which a caller may replace (`use`), also from a
JSON file.

Little-endian, natural x86-64 alignment. The body is a head and a union: its arm "full"
only sets the maximum length, its arm "packed" is what is written.
"""

from __future__ import annotations

import struct
from ctypes import LittleEndianStructure, Union, sizeof
from ctypes import c_uint8 as u8
from ctypes import c_uint16 as u16
from ctypes import c_uint32 as u32
from ctypes import c_uint64 as u64

from hvmctx.abi.declare import DOMAIN, RecordType, declare
from hvmctx.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TYPECODE = 21
PROTO_CLOSED, PROTO_RPCI, PROTO_TCLO = 0, 0x49435052, 0x4F4C4354
PROTOCOLS = {PROTO_CLOSED: "closed", PROTO_RPCI: "RPCI", PROTO_TCLO: "TCLO"}
"""RPCI carries requests from the guest, TCLO to the guest."""


class vmport_bucket_control(LittleEndianStructure):
    _fields_ = [("recv_len", u16), ("recv_idx", u16)]


class vmport_channel_control(LittleEndianStructure):
    _fields_ = [
        ("active_time", u64),
        ("chan_id", u32),
        ("cookie", u32),
        ("proto_num", u32),
        ("send_len", u16),
        ("send_idx", u16),
        ("jumbo", u8),
        ("recv_read", u8),
        ("recv_write", u8),
        ("_pad0", u8 * 5),
    ]


def slots_made(used: int, *, jumbo: bool) -> int:
    """How many guestinfo slots the patch's loader makes for a used count: spare ones above
    it, and a least number, in u32 arithmetic that may wrap. Its loop over the entries goes
    no further."""
    return max(used + 1 & 0xFFFFFFFF, 2) if jumbo else max(used + 5 & 0xFFFFFFFF, 10)


HEAD = [
    ("version", u32),
    ("used_guestsize", u32),
    ("ping_time", u64),
    ("open_cookie", u32),
    ("used_guestinfo", u32),
    ("used_guestinfo_jumbo", u32),
    ("_pad0", u32),
]
"""Both arms of the union start behind it, at 32."""

_HEAD = "<IIQIII4x"
_NAMES = (
    "MAX_CHANS",
    "MAX_BKTS",
    "MAX_KEY_LEN",
    "MAX_VAL_LEN",
    "MAX_VAL_JUMBO_LEN",
    "MAX_NUM_KEY",
    "MAX_NUM_JUMBO_KEY",
    "SAVE_VERSION",
)
_LARGEST = {"MAX_KEY_LEN": 0xFF, "MAX_VAL_JUMBO_LEN": 0xFFFF, "SAVE_VERSION": 0xFFFFFFFF}
_BODY_LIMIT = 1 << 24


class VmportProfile:
    """All constants of the format. Sizes in bytes, buffer sizes derived:

    `MAX_SEND_BUF`, `MAX_RECV_BUF`, `MAX_RECV_JUMBO_BUF` are u32 words; every buffer array
    holds one word more, room for a terminator.
    """

    def __init__(
        self,
        name: str = "custom",
        *,
        MAX_CHANS: int = 6,
        MAX_BKTS: int = 8,
        MAX_KEY_LEN: int = 30,
        MAX_VAL_LEN: int = 128,
        MAX_VAL_JUMBO_LEN: int = 4096,
        MAX_NUM_KEY: int = 64,
        MAX_NUM_JUMBO_KEY: int = 2,
        SAVE_VERSION: int = 0xABCD0001,
    ) -> None:
        """Raises UsageError for a constant that the record's own fields cannot express."""
        self.name = name
        self.MAX_CHANS = MAX_CHANS
        self.MAX_BKTS = MAX_BKTS
        self.MAX_KEY_LEN = MAX_KEY_LEN
        self.MAX_VAL_LEN = MAX_VAL_LEN
        self.MAX_VAL_JUMBO_LEN = MAX_VAL_JUMBO_LEN
        self.MAX_NUM_KEY = MAX_NUM_KEY
        self.MAX_NUM_JUMBO_KEY = MAX_NUM_JUMBO_KEY
        self.SAVE_VERSION = SAVE_VERSION
        for constant in _NAMES:
            value = getattr(self, constant)
            largest = _LARGEST.get(constant, 1 << 14)
            if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= largest:
                raise UsageError(
                    f"VMPORT profile: {constant} is {value!r}, expected 1 to {largest}"
                )
        self.MAX_SEND_BUF = (22 + MAX_KEY_LEN + MAX_VAL_LEN + 3) // 4
        self.MAX_RECV_BUF = (2 + MAX_VAL_LEN + 3) // 4
        self.MAX_RECV_JUMBO_BUF = (2 + MAX_VAL_JUMBO_LEN + 3) // 4
        if self.full_size_bound() > _BODY_LIMIT:
            raise UsageError(f"VMPORT profile: a body would be longer than {_BODY_LIMIT} bytes")
        controls = "QIIIHHBBB5x" + "HH" * (MAX_BKTS + 1)
        padding = -struct.calcsize("<" + controls) % 8
        self.fixed = struct.Struct(_HEAD + f"{controls}{padding}x" * MAX_CHANS)
        """All numbers of the body's fixed part in one call: the six of the head, and for
        each channel the nine of its control and two of each bucket's, the jumbo bucket's
        last. Says the same as `packed`, but faster."""
        self._arms: tuple[Any, Any] | None = None

    def full_size_bound(self) -> int:
        """At least as many bytes as the longest body has."""
        buckets = self.MAX_BKTS * (8 + 4 * self.MAX_RECV_BUF) + 4 * self.MAX_RECV_JUMBO_BUF
        channel = 64 + buckets + 4 * self.MAX_SEND_BUF
        keys = self.MAX_NUM_KEY * (2 + self.MAX_KEY_LEN + self.MAX_VAL_LEN)
        jumbo = self.MAX_NUM_JUMBO_KEY * (4 + self.MAX_KEY_LEN + self.MAX_VAL_JUMBO_LEN)
        return 64 + self.MAX_CHANS * channel + keys + jumbo

    def __repr__(self) -> str:
        return f"<VMPORT profile {self.name}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VmportProfile) and self.constants() == other.constants()

    def __hash__(self) -> int:
        return hash(tuple(self.constants().values()))

    def constants(self) -> dict[str, int]:
        """The constants that define the profile, by name."""
        return {constant: getattr(self, constant) for constant in _NAMES}

    @classmethod
    def from_json(cls, text: str | bytes, name: str = "custom") -> VmportProfile:
        """Of a JSON object of constants; those left out are the default's. Raises
        UsageError."""
        import json

        try:
            constants = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"VMPORT profile: not JSON: {error}") from None
        if not isinstance(constants, dict) or not set(constants) <= set(_NAMES):
            raise UsageError(f"VMPORT profile: expected an object of {', '.join(_NAMES)}")
        return cls(name, **constants)

    def to_json(self) -> str:
        """The inverse of `from_json`."""
        import json

        return json.dumps(self.constants(), indent=1)

    @property
    def packed(self) -> Any:
        """The structure of head and arm "packed", packed_data left out."""
        return self._structures()[0]

    @property
    def full(self) -> Any:
        """The structure of head and arm "full"."""
        return self._structures()[1]

    @property
    def fixed_size(self) -> int:
        """Bytes of the body before packed_data (464 by default)."""
        return self.fixed.size

    @property
    def channel_places(self) -> range:
        """Where in the body the control of each channel starts."""
        head = struct.calcsize(_HEAD)
        return range(head, self.fixed_size, (self.fixed_size - head) // self.MAX_CHANS)

    @property
    def max_size(self) -> int:
        """The most bytes that a body can have: sizeof the whole union (51224 by default)."""
        return max(sizeof(self.full), self.fixed_size)

    def _structures(self) -> tuple[Any, Any]:
        if self._arms is None:
            self._arms = _packed_arm(self), _full_arm(self)
        return self._arms


def _structure(name: str, fields: list[Any], *bases: type) -> Any:
    return type(name, bases or (LittleEndianStructure,), {"_fields_": fields})


def _packed_arm(profile: VmportProfile) -> Any:
    fields = [
        *vmport_channel_control._fields_,
        ("recv_bkt", vmport_bucket_control * profile.MAX_BKTS),
        ("jumbo_recv_bkt", vmport_bucket_control),
    ]
    controls = sizeof(vmport_channel_control) + 4 * (profile.MAX_BKTS + 1)
    if controls % 8:  # the compiler rounds each channel up to its u64's alignment
        fields.append(("_pad1", u8 * (-controls % 8)))
    channel = _structure("vmport_packed_channel", fields)
    return _structure("hvm_save_vmport_packed", [*HEAD, ("chans", channel * profile.MAX_CHANS)])


def _full_arm(profile: VmportProfile) -> Any:
    def bucket(name: str, words: int) -> Any:
        fields = [*vmport_bucket_control._fields_, ("recv_buf", u32 * (words + 1))]
        return _structure(name, fields)

    channel = _structure(
        "vmport_channel",
        [
            ("ctl", vmport_channel_control),
            ("recv_bkt", bucket("vmport_bucket", profile.MAX_RECV_BUF) * profile.MAX_BKTS),
            ("jumbo_recv_bkt", bucket("vmport_jumbo_bucket", profile.MAX_RECV_JUMBO_BUF)),
            ("send_buf", u32 * (profile.MAX_SEND_BUF + 1)),
        ],
    )
    guestinfo = _structure(
        "vmport_guestinfo",
        [
            ("key_len", u8),
            ("val_len", u8),
            ("key_data", u8 * profile.MAX_KEY_LEN),
            ("val_data", u8 * profile.MAX_VAL_LEN),
        ],
    )
    jumbo = _structure(
        "vmport_guestinfo_jumbo",
        [
            ("val_len", u16),
            ("key_len", u8),
            ("key_data", u8 * profile.MAX_KEY_LEN),
            ("val_data", u8 * profile.MAX_VAL_JUMBO_LEN),
        ],
    )
    arm = _structure(
        "vmport_full_arm",
        [
            ("chans", channel * profile.MAX_CHANS),
            ("guestinfo", guestinfo * profile.MAX_NUM_KEY),
            ("guestinfo_jumbo", jumbo * profile.MAX_NUM_JUMBO_KEY),
        ],
    )
    union = _structure("vmport_union", [("full", arm)], Union)
    return _structure("hvm_save_vmport", [*HEAD, ("u", union)])


XEN_4_5_V6 = VmportProfile("XEN_4_5_V6")
PROFILES = {XEN_4_5_V6.name: XEN_4_5_V6}
"""Named profiles; the first is the default."""


def profile_of(name: str) -> VmportProfile:
    """A named profile, or the one in the JSON file of that path. Raises UsageError."""
    if name in PROFILES:
        return PROFILES[name]
    try:
        with open(name, "rb") as file:
            return VmportProfile.from_json(file.read(), name)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        known = ", ".join(PROFILES)
        raise UsageError(
            f"VMPORT profile {name!r}: neither {known} nor a file ({reason})"
        ) from None


class _Used:
    profile = XEN_4_5_V6


def use(profile: VmportProfile) -> RecordType:
    """Read VMPORT records with this profile from now on, everywhere that none is given."""
    _Used.profile = profile
    return declare("VMPORT", TYPECODE, profile.packed, DOMAIN, ("packed_data", u8))


class using:
    """`use` for the length of a `with` block."""

    def __init__(self, profile: VmportProfile) -> None:
        self._profile = profile

    def __enter__(self) -> VmportProfile:
        self._before = used()
        use(self._profile)
        return self._profile

    def __exit__(self, *_: object) -> None:
        use(self._before)


def used() -> VmportProfile:
    """The profile that `use` set last; at first the default."""
    return _Used.profile


use(XEN_4_5_V6)
