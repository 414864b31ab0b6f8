"""What the hardware and the Xen of a host offer to a restore: `Machine`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hvmctx.abi.vmport import VmportProfile

AMD, INTEL = "amd", "intel"


class Machine:
    """What a restore depends on besides the release and the guest.

    `vendor` is amd or intel, None for whichever the guest's CPU policy names. `xsave` says
    whether the CPU has XSAVE. `vmport` is the profile of a Xen with the VMPORT patch;
    without it type 21 has no handler, as in every release.
    """

    __slots__ = ("vendor", "vmport", "xsave")

    def __init__(
        self,
        *,
        vendor: str | None = None,
        xsave: bool = True,
        vmport: VmportProfile | None = None,
    ) -> None:
        self.vendor = vendor
        self.xsave = xsave
        self.vmport = vmport

    def __repr__(self) -> str:
        parts = [self.vendor or "any vendor"]
        if not self.xsave:
            parts.append("no XSAVE")
        if self.vmport is not None:
            parts.append(f"VMPORT {self.vmport.name}")
        return f"<machine, {', '.join(parts)}>"


__all__ = ["AMD", "INTEL", "Machine"]
