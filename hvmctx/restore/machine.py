"""What the hardware and the Xen of a host offer to a restore: `Machine`."""

from __future__ import annotations

from hvmctx.errors import UsageError
from hvmctx.messages import printable
from hvmctx.restore.policy import CpuPolicy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from hvmctx.abi.vmport import VmportProfile
    from hvmctx.restore.policy import Leaf, Msr

AMD, INTEL = "amd", "intel"


class Machine(CpuPolicy):
    """What a restore depends on besides the release and the guest: the host's own policy,
    which older releases check instead of the guest's, and what no policy says.

    `vendor` is amd or intel, by default that of the leaves, None for whichever the guest's
    policy names. `xsave` says whether the CPU has XSAVE, `lmsle` whether it has segment
    limits in long mode (AMD's up to Zen 2). `vmport` is the profile of a Xen with the VMPORT
    patch; without it type 21 has no handler, as in every release. Raises UsageError for
    another vendor.

    >>> Machine(vendor=INTEL, xsave=False)
    <machine, intel, no XSAVE>
    """

    __slots__ = ("lmsle", "vmport", "xsave")

    def __init__(
        self,
        *,
        vendor: str | None = None,
        leaves: Iterable[Leaf] = (),
        msrs: Iterable[Msr] = (),
        xsave: bool = True,
        lmsle: bool = False,
        vmport: VmportProfile | None = None,
    ) -> None:
        super().__init__(leaves, msrs)
        if vendor not in (None, AMD, INTEL):
            raise UsageError(f"unknown vendor {vendor!r}; expected {AMD} or {INTEL}")
        self.vendor = vendor or self.vendor
        self.xsave = xsave
        self.lmsle = lmsle
        self.vmport = vmport

    def __repr__(self) -> str:
        parts = [self.vendor or "any vendor"]
        if not self.xsave:
            parts.append("no XSAVE")
        if self.vmport is not None:
            parts.append(f"VMPORT {printable(self.vmport.name)}")
        return f"<machine, {', '.join(parts)}>"


__all__ = ["AMD", "INTEL", "Machine"]
