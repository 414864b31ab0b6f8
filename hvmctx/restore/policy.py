"""A CPU policy, as far as a restore asks for it: CPUID leaves and MSRs by number, features
by name."""

from __future__ import annotations

from hvmctx.abi.cpuid import EAX, EBX, ECX, EDX, FEATURES, NO_SUBLEAF, VENDORS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Leaf = tuple[int, int, int, int, int, int]
    Msr = tuple[int, int, int]

__all__ = ["CpuPolicy"]

_XSTATE_WITHOUT_POLICY = {
    2: (576, 256), 3: (960, 64), 4: (1024, 64), 5: (1088, 64), 6: (1152, 512),
    7: (1664, 1024), 9: (2688, 8),
}  # fmt: skip
"""Component of the uncompressed xsave image -> offset and bytes, of a usual host: for a
policy that is not known."""


class CpuPolicy:
    """What a guest sees of its CPU, or what a host offers: `leaves` are rows of (leaf,
    subleaf, eax, ebx, ecx, edx), `msrs` rows of (index, flags, value). Without leaves it
    counts as having every feature, so that only what no guest may have is refused. `vendor`
    is amd or intel, None where the leaves name neither."""

    __slots__ = ("leaves", "msrs", "vendor")

    def __init__(self, leaves: Iterable[Leaf] = (), msrs: Iterable[Msr] = ()) -> None:
        self.leaves = {(row[0], row[1]): row for row in leaves}
        self.msrs = {row[0]: row[2] for row in msrs}
        name = (self.register(0, None, at).to_bytes(4, "little") for at in (EBX, EDX, ECX))
        self.vendor = VENDORS.get(b"".join(name))

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

    def offers(self, msr: int, bit: int) -> bool:
        """Whether that bit of an MSR is set; that of a policy without MSRs counts as set."""
        return not self.msrs or bool(self.msrs.get(msr, 0) >> bit & 1)

    @property
    def maxphysaddr(self) -> int:
        """Bits of a guest-physical address."""
        return self.register(0x80000008, None, EAX) & 0xFF or (36 if self.leaves else 52)

    @property
    def xcr0_max(self) -> int:
        """The states that may be enabled in XCR0."""
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
