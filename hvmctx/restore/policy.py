"""A CPU policy, as far as a restore asks for it: CPUID leaves and MSRs by number, features
by name."""

from __future__ import annotations

from hvmctx.abi.cpuid import EAX, EBX, ECX, EDX, FEATURES, NO_SUBLEAF, VENDORS
from hvmctx.errors import FormatError
from hvmctx.messages import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Leaf = tuple[int, int, int, int, int, int]
    Msr = tuple[int, int, int]

__all__ = ["LEAF_BITS", "MOST_ROWS", "MSR_BITS", "CpuPolicy", "checked"]

LEAF_BITS, MSR_BITS = (32,) * 6, (32, 32, 64)
"""How wide the numbers of a row are."""
MOST_ROWS = 4096
"""Leaves, or MSRs, of a policy. A release of Xen takes some hundred."""

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
    is amd or intel, None where the leaves name neither. Raises FormatError for a row that is
    not one."""

    __slots__ = ("leaves", "msrs", "vendor")

    def __init__(self, leaves: Iterable[Leaf] = (), msrs: Iterable[Msr] = ()) -> None:
        rows: list[Leaf] = checked(leaves, LEAF_BITS, "leaf")  # type: ignore[assignment]  # of six
        self.leaves = {(row[0], row[1]): row for row in rows}
        self.msrs = {row[0]: row[2] for row in checked(msrs, MSR_BITS, "MSR")}
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


def checked(rows: object, widths: tuple[int, ...], what: str) -> list[tuple[int, ...]]:
    """The rows of a policy as tuples, if each has as many numbers as there are widths, and each
    number no more bits. Raises FormatError."""
    found: list[tuple[int, ...]] = []
    try:
        for row in rows:  # type: ignore[attr-defined]  # which is what is to be found out
            if len(found) == MOST_ROWS:
                raise _error(f"too many rows of a policy ({what})", f"{MOST_ROWS} and more", widths)
            found.append(tuple(row))
            if len(row) != len(widths) or any(
                type(number) is not int or number >> bits for number, bits in zip(row, widths)
            ):
                raise _error(f"row {len(found) - 1} is no {what} of a policy", row, widths)
    except TypeError:
        raise _error(f"no {what} of a policy", rows, widths) from None
    return found


def _error(problem: str, found: object, widths: tuple[int, ...]) -> FormatError:
    bits = " or ".join(str(width) for width in dict.fromkeys(widths))
    return FormatError(
        problem, layer="policy", offset=0, found=printable(repr(found)[:60]),
        expected=f"{len(widths)} numbers of {bits} bits",
    )  # fmt: skip
