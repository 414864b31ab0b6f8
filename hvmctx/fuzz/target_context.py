"""The target `context`: any bytes as an HVM context, taken apart and loaded."""

from __future__ import annotations

from hvmctx.abi.releases import Release
from hvmctx.abi.vmport import PROFILES
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.fuzz.contexts import mutate_context, valid_context
from hvmctx.fuzz.target import Target, choose
from hvmctx.restore.context import load
from hvmctx.restore.guest import PVH_DEVICES, Guest
from hvmctx.restore.machine import AMD, INTEL, Machine
from hvmctx.verify.registry import rules
from hvmctx.verify.views import RESTORE

TYPE_CHECKING = False
if TYPE_CHECKING:
    import random

__all__ = ["CONTEXT", "LEAVES", "LOADS", "context_seeds", "mutated"]

_NONE = 0xFFFFFFFF
LEAVES = [
    (0, _NONE, 0xD, 0x68747541, 0x444D4163, 0x69746E65),
    (1, _NONE, 0x600F20, 0x800, 0x1C983203, 0x178BFBFF),
    (7, 0, 0, 0x9, 0, 0),
    (0xD, 0, 7, 832, 832, 0),
    (0xD, 2, 256, 576, 0, 0),
    (0x80000001, _NONE, 0, 0, 0x1F3, 0x2FD3FBFF),
    (0x80000008, _NONE, 0x3028, 0, 0, 0),
]
"""The CPU policy of an AMD guest of 40 address bits, without PCID, VMX or PKU."""
_AMD_GUEST = Guest(vcpus=2, leaves=LEAVES)
_ANY_GUEST = Guest(vcpus=2)


def _has_page(pfn: int) -> bool:
    return 0 < pfn < 1 << 8


LOADS: dict[str, tuple[Release, Guest, Machine]] = {
    "4.17": (Release("4.17"), _AMD_GUEST, Machine()),
    "4.17-any": (Release("4.17"), Guest(), Machine()),
    "4.5": (Release("4.5"), _ANY_GUEST, Machine(vendor=AMD)),
    "4.9-intel": (Release("4.9"), _ANY_GUEST, Machine(vendor=INTEL)),
    "4.20": (Release("4.20"), Guest(vcpus=2, leaves=LEAVES, nested=True), Machine()),
    "newest": (Release("newest"), _ANY_GUEST, Machine()),
    "newest-pvh": (Release("newest"), Guest(vcpus=2, devices=PVH_DEVICES), Machine(xsave=False)),
    "newest-shadow": (Release("newest"), Guest(vcpus=2, hap=False, has_page=_has_page), Machine()),
    "newest-no-apic": (Release("newest"), Guest(vcpus=2, devices=()), Machine()),
    "4.2.2": (Release("4.2.2"), _ANY_GUEST, Machine(vendor=AMD)),
    "4.8": (Release("4.8"), _ANY_GUEST, Machine(vendor=AMD)),
    "4.12.0-intel": (Release("4.12.0"), _ANY_GUEST, Machine(vendor=INTEL)),
    "4.17.0": (Release("4.17.0"), _ANY_GUEST, Machine(vendor=AMD)),
    "4.5-vmport": (Release("4.5"), Guest(), Machine(vmport=PROFILES["XEN_4_5_V6"])),
}
"""Releases, policies and devices with which, together, every rule of a load can be reached, and
every hazard."""


_HOSTS = tuple(LOADS.items())


def _run(data: bytes) -> set[str]:
    """The round trip is exact, of the bytes and of records made anew; the load on one of the
    hosts has a verdict, within the input."""
    context = HvmContext.from_bytes(data, damaged=True)
    assert context.to_bytes() == data
    assert (context.damage is None) == context.has_end
    again = HvmContext(
        Record(r.typecode, r.instance, r.body, length=r.length) for r in context.entries
    )
    assert again.to_bytes() + bytes(context.tail) == data
    name, into = choose(data, _HOSTS)
    verdict = load(data, *into)
    assert 0 <= verdict.offset <= len(data) and (verdict.accepted or verdict.rule)
    suffered = {hazard.rule for hazard in verdict.hazards}
    return {verdict.rule or f"accept-{name}", *suffered}


_KNOWN = (
    *(rule.id for rule in rules(RESTORE, "context")), *(f"accept-{name}" for name in LOADS),
)  # fmt: skip


def context_seeds(rng: random.Random) -> list[bytes]:
    """Contexts of some releases, for every target that takes contexts."""
    names = ("4.2.2", "4.5", "4.12.0", "4.17", "4.20", "newest")
    return [valid_context(rng, Release(name)).to_bytes() for name in names]


def mutated(data: bytes, rng: random.Random) -> bytes:
    """An edit of a context."""
    return mutate_context(data, rng)[0]


CONTEXT = Target("context", _run, _KNOWN, context_seeds, mutated)
