"""What a load depends on besides the bytes: the release, the guest's vcpus and devices,
its CPU policy, and the host."""

from __future__ import annotations

from hvmctx.abi import streams
from hvmctx.abi.releases import NEWEST, Release

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from hvmctx.abi.vmport import VmportProfile
    from hvmctx.image.image import Image

AMD, INTEL = "amd", "intel"
_VENDORS = {b"AuthenticAMD": AMD, b"HygonGenuine": AMD, b"GenuineIntel": INTEL}
EAX, EBX, ECX, EDX = 2, 3, 4, 5
"""Where a register stands in a row of a policy: leaf, subleaf, eax, ebx, ecx, edx."""

DEVICES = frozenset(("vpic", "vioapic", "vlapic", "vpit", "vrtc", "vhpet", "vpm"))
"""Emulated devices that a domain may be created with; an HVM guest has all."""
PVH_DEVICES = frozenset(("vlapic",))

# name -> leaf, subleaf, register, bit
FEATURES = {
    "VME": (1, None, EDX, 1), "DE": (1, None, EDX, 2), "PSE": (1, None, EDX, 3),
    "TSC": (1, None, EDX, 4), "PAE": (1, None, EDX, 6), "MCE": (1, None, EDX, 7),
    "PGE": (1, None, EDX, 13), "MCA": (1, None, EDX, 14), "FXSR": (1, None, EDX, 24),
    "SSE": (1, None, EDX, 25), "VMX": (1, None, ECX, 5), "PCID": (1, None, ECX, 17),
    "XSAVE": (1, None, ECX, 26),
    "FSGSBASE": (7, 0, EBX, 0), "SMEP": (7, 0, EBX, 7), "MPX": (7, 0, EBX, 14),
    "SMAP": (7, 0, EBX, 20), "UMIP": (7, 0, ECX, 2), "PKU": (7, 0, ECX, 3),
    "CET_SS": (7, 0, ECX, 7), "PKS": (7, 0, ECX, 31), "CET_IBT": (7, 0, EDX, 20),
    "IBRSB": (7, 0, EDX, 26), "LASS": (7, 1, EAX, 6),
    "XSAVES": (0xD, 1, EAX, 3),
    "SVM": (0x80000001, None, ECX, 2), "DBEXT": (0x80000001, None, ECX, 26),
    "SYSCALL": (0x80000001, None, EDX, 11), "NX": (0x80000001, None, EDX, 20),
    "FFXSR": (0x80000001, None, EDX, 25), "LM": (0x80000001, None, EDX, 29),
    "IBRS": (0x80000008, None, EBX, 14), "VIRT_SSBD": (0x80000008, None, EBX, 25),
    "AUTO_IBRS": (0x80000021, None, EAX, 8),
}  # fmt: skip

_NO_SUBLEAF = 0xFFFFFFFF
_XSTATE_WITHOUT_POLICY = {
    2: (576, 256), 3: (960, 64), 4: (1024, 64), 5: (1088, 64), 6: (1152, 512),
    7: (1664, 1024), 9: (2688, 8),
}  # fmt: skip
"""Component of the uncompressed xsave image -> offset and bytes, of a usual host: for
guests whose policy is not known."""
_MSRS = ((0x48, "4.10"), (0x140, "4.10"), (0x6E1, "4.18"), (0xD90, "4.5"), (0xDA0, "4.13"),
         (0xC001011F, "4.17"), (0xC0011027, "4.5"), (0xC0011019, "4.5"), (0xC001101A, "4.5"),
         (0xC001101B, "4.5"))  # fmt: skip
"""The MSRs that a CPU_MSR record may hold, and the first release that takes them."""


class Host:
    """Everything that a load depends on. `leaves` is the guest's CPUID policy, rows of
    (leaf, subleaf, eax, ebx, ecx, edx); without one every feature counts as there, so that
    only what no guest may have is refused. `vmport` is the profile of a Xen with the VMPORT
    patch; without it type 21 has no handler, as in every release.
    """

    def __init__(
        self,
        release: Release | str = NEWEST,
        *,
        vcpus: int = 128,
        devices: Iterable[str] = DEVICES,
        leaves: Iterable[tuple[int, int, int, int, int, int]] = (),
        vendor: str | None = None,
        nested: bool = False,
        xsave: bool = True,
        vmport: VmportProfile | None = None,
    ) -> None:
        self.release = release if isinstance(release, Release) else Release(release)
        self.vcpus = vcpus
        self.devices = frozenset(devices)
        self.leaves = {(row[0], row[1]): row for row in leaves}
        self.vendor = vendor or self._policy_vendor() or INTEL
        self.nested = nested
        self.xsave = xsave
        self.vmport = vmport

    @classmethod
    def of_image(
        cls,
        image: Image,
        release: Release | str,
        vcpus: int | None = None,
        vmport: VmportProfile | None = None,
    ) -> Host:
        """With the policy, the parameters and the number of vcpus of an image. A guest
        whose configuration says that it is pvh has no emulated device but its LAPICs.

        Raises FormatError for a policy, parameters or a configuration that are none."""
        leaves = image.policy.leaves
        config = image.config
        built = config.get("b_info", {}) if isinstance(config, dict) else {}
        created = config.get("c_info", {}) if isinstance(config, dict) else {}
        configured = built.get("max_vcpus") if isinstance(built, dict) else None
        pvh = isinstance(created, dict) and created.get("type") == "pvh"
        return cls(
            release,
            vcpus=vcpus or (configured if isinstance(configured, int) else None) or 128,
            devices=PVH_DEVICES if pvh else DEVICES,
            leaves=leaves,
            nested=bool(image.params.get(streams.HVM_PARAM_NESTEDHVM)),
            vmport=vmport,
        )

    def register(self, leaf: int, subleaf: int | None, register: int) -> int:
        """A register of the policy; 0 for a leaf that it does not have."""
        row = self.leaves.get((leaf, _NO_SUBLEAF if subleaf is None else subleaf))
        return 0 if row is None else row[register]

    def has(self, feature: str) -> bool:
        """Whether the guest's policy has a feature of `FEATURES`."""
        if not self.leaves:
            return True
        leaf, subleaf, register, bit = FEATURES[feature]
        return bool(self.register(leaf, subleaf, register) >> bit & 1)

    def _policy_vendor(self) -> str | None:
        parts = (self.register(0, None, at) for at in (EBX, EDX, ECX))
        return _VENDORS.get(b"".join(part.to_bytes(4, "little") for part in parts))

    @property
    def maxphysaddr(self) -> int:
        """Bits of a guest-physical address."""
        return self.register(0x80000008, None, EAX) & 0xFF or (36 if self.leaves else 52)

    @property
    def xcr0_max(self) -> int:
        """The states that the policy lets a guest enable."""
        if not self.leaves:
            return 0x2FF
        return self.register(0xD, 0, EAX) | self.register(0xD, 0, EDX) << 32

    def xsave_size(self, states: int) -> int:
        """Bytes of the uncompressed image for these states."""
        if not states:
            return 0
        size = 576
        for bit in range(2, 63):
            if states >> bit & 1:
                offset, length = self._component(bit)
                size = max(size, offset + length)
        return size

    def _component(self, bit: int) -> tuple[int, int]:
        if not self.leaves:
            return _XSTATE_WITHOUT_POLICY.get(bit, (0, 0))
        return self.register(0xD, bit, EBX), self.register(0xD, bit, EAX)

    def takes_msr(self, index: int) -> bool:
        """Whether the list of the release has this MSR."""
        return any(index == known and self.release.since(since) for known, since in _MSRS)
