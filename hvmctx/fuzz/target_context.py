"""The target `context`: any bytes as an HVM context."""

from __future__ import annotations

from hvmctx.abi.releases import Release
from hvmctx.abi.vmport import PROFILES
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.fuzz.contexts import mutate_context, valid_context
from hvmctx.fuzz.target import Target
from hvmctx.render.text import TextDialect
from hvmctx.restore.context import WALK, load, rules
from hvmctx.restore.host import PVH_DEVICES, Host
from hvmctx.verify import strict_context

TYPE_CHECKING = False
if TYPE_CHECKING:
    import random

__all__ = ["CONTEXT", "HOSTS", "LEAVES"]

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
HOSTS = {
    "4.17": Host("4.17", vcpus=2, leaves=LEAVES),
    "4.17-any": Host("4.17", vcpus=128),
    "4.5": Host("4.5", vcpus=2, vendor="amd"),
    "4.20": Host("4.20", vcpus=2, leaves=LEAVES, nested=True),
    "newest": Host("newest", vcpus=2),
    "newest-pvh": Host("newest", vcpus=2, devices=PVH_DEVICES, xsave=False),
    "newest-no-apic": Host("newest", vcpus=2, devices=()),
    "4.5-vmport": Host("4.5", vcpus=128, vmport=PROFILES["XEN_4_5_V6"]),
}
"""Releases, policies and devices with which, together, every rule of a load can be reached."""


def _as_ctypes_reads(record: Record) -> bool:
    if record.type is None:
        return True
    fields, struct = record.fields(), record.struct
    return all(
        fields.get(field.name) == getattr(struct, field.name)
        for field in record.type.layout.fields
        if field.code and field.count is None and not field.alternate
    )


def _run(data: bytes) -> set[str]:
    """The round trip is exact, fields are what ctypes reads, every dialect prints, the verdict
    is the same for any kind of buffer, findings are within the input."""
    context = HvmContext.from_bytes(data, damaged=True)
    assert context.to_bytes() == data
    assert (context.damage is None) == context.has_end
    for dialect in (TextDialect(), TextDialect(Release("4.5")), TextDialect(show_all=True)):
        assert "".join(dialect.dump(context)).isascii()
    again = HvmContext(
        Record(r.typecode, r.instance, r.body, length=r.length) for r in context.entries
    )
    assert again.to_bytes() + bytes(context.tail) == data
    assert all(map(_as_ctypes_reads, again))
    reached = set()
    for name, host in HOSTS.items():
        verdict = load(data, host)
        assert 0 <= verdict.offset <= len(data) and (verdict.accepted or verdict.rule)
        reached.add(verdict.rule or f"accept-{name}")
    host = HOSTS["4.17"]
    assert load(bytearray(data), host).as_dict() == load(data, host).as_dict()
    for finding in strict_context.findings_of(context):
        assert 0 <= finding.offset <= len(data)
    return reached


_KNOWN = (
    *(rule.id for rule in rules()), *WALK, *(f"accept-{name}" for name in HOSTS),
)  # fmt: skip


def _seeds(rng: random.Random) -> list[bytes]:
    return [
        valid_context(rng, Release(name)).to_bytes() for name in ("4.5", "4.17", "4.20", "newest")
    ]


def _mutate(data: bytes, rng: random.Random) -> bytes:
    return mutate_context(data, rng)[0]


CONTEXT = Target("context", _run, _KNOWN, _seeds, _mutate)
