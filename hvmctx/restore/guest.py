"""The guest that a restore makes, as its image or its creator describes it: `Guest`."""

from __future__ import annotations

from hvmctx.abi import streams
from hvmctx.abi.cpuid import EAX, EBX, ECX, EDX, FEATURES, NO_SUBLEAF, VENDORS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from hvmctx.image.image import Image

    Row = tuple[int, int, int, int, int, int]

MOST_VCPUS = 128
"""Vcpus of an HVM guest whose configuration does not say how many it has: Xen's limit."""
DEVICES = frozenset(("vpic", "vioapic", "vlapic", "vpit", "vrtc", "vhpet", "vpm"))
"""Emulated devices that a domain may be created with; an HVM guest has all."""
PVH_DEVICES = frozenset(("vlapic",))

_XSTATE_WITHOUT_POLICY = {
    2: (576, 256), 3: (960, 64), 4: (1024, 64), 5: (1088, 64), 6: (1152, 512),
    7: (1664, 1024), 9: (2688, 8),
}  # fmt: skip
"""Component of the uncompressed xsave image -> offset and bytes, of a usual host: for
guests whose policy is not known."""


class Guest:
    """A guest that a context is loaded into.

    `vcpus` is how many it has, `devices` the emulated ones, `nested` whether it may run
    guests of its own. `leaves` is its CPUID policy, rows of (leaf, subleaf, eax, ebx, ecx,
    edx); without one it counts as having every feature, so that only what no guest may have
    is refused. `vendor` is amd, intel, or None for a policy (or none) that names neither.
    """

    __slots__ = ("devices", "leaves", "nested", "vcpus", "vendor")

    def __init__(
        self,
        *,
        vcpus: int = MOST_VCPUS,
        devices: Iterable[str] = DEVICES,
        leaves: Iterable[Row] = (),
        nested: bool = False,
    ) -> None:
        self.vcpus = vcpus
        self.devices = frozenset(devices)
        self.leaves = {(row[0], row[1]): row for row in leaves}
        self.nested = nested
        name = (self.register(0, None, at).to_bytes(4, "little") for at in (EBX, EDX, ECX))
        self.vendor = VENDORS.get(b"".join(name))

    def __repr__(self) -> str:
        policy = f"{len(self.leaves)} CPUID leaves" if self.leaves else "no CPUID policy"
        return f"<guest, {self.vcpus} vcpus, {len(self.devices)} devices, {policy}>"

    @classmethod
    def of_image(cls, image: Image, vcpus: int | None = None) -> Guest:
        """The guest of an image: with its policy, its parameters, and as many vcpus as its
        configuration says, or `vcpus`. One whose configuration says that it is pvh has no
        emulated device but its LAPICs. All of it is read once, here.

        Raises FormatError for a policy, parameters or a configuration that are none."""
        leaves = image.policy.leaves
        config = image.config
        built = config.get("b_info", {}) if isinstance(config, dict) else {}
        created = config.get("c_info", {}) if isinstance(config, dict) else {}
        configured = built.get("max_vcpus") if isinstance(built, dict) else None
        pvh = isinstance(created, dict) and created.get("type") == "pvh"
        return cls(
            vcpus=vcpus or (configured if isinstance(configured, int) else None) or MOST_VCPUS,
            devices=PVH_DEVICES if pvh else DEVICES,
            leaves=leaves,
            nested=bool(image.params.get(streams.HVM_PARAM_NESTEDHVM)),
        )

    def register(self, leaf: int, subleaf: int | None, register: int) -> int:
        """A register of the policy; 0 for a leaf that it does not have."""
        row = self.leaves.get((leaf, NO_SUBLEAF if subleaf is None else subleaf))
        return 0 if row is None else row[register]

    def has(self, feature: str) -> bool:
        """Whether the policy has a feature of `abi.cpuid.FEATURES`."""
        if not self.leaves:
            return True
        leaf, subleaf, register, bit = FEATURES[feature]
        return bool(self.register(leaf, subleaf, register) >> bit & 1)

    @property
    def maxphysaddr(self) -> int:
        """Bits of a guest-physical address."""
        return self.register(0x80000008, None, EAX) & 0xFF or (36 if self.leaves else 52)

    @property
    def xcr0_max(self) -> int:
        """The states that the policy lets the guest enable."""
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


__all__ = ["DEVICES", "MOST_VCPUS", "PVH_DEVICES", "Guest"]
