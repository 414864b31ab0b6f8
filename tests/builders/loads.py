"""A context that a release loads, with a record of every type, and the verdict on a changed one."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

from hvmctx.abi import x86
from hvmctx.abi.cpuid import FEATURES, NO_SUBLEAF
from hvmctx.abi.registry import by_name
from hvmctx.abi.releases import Release
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.restore.context import load
from hvmctx.restore.guest import DEVICES, Guest
from hvmctx.restore.machine import AMD, Machine
from hvmctx.restore.verdict import Verdict
from tests.builders.contexts import Change
from tests.builders.samples import context_bytes

Leaf = tuple[int, int, int, int, int, int]


def base(release: Release) -> HvmContext:
    """A context that this release accepts, with one record of every type that it knows."""
    host_context = HvmContext.from_bytes(context_bytes())
    header = host_context.records(x86.HEADER)[0]
    sizes = release.sizes()
    entries = [header]
    for known in sorted(map(by_name, sizes), key=lambda known: known.typecode):
        if known in (x86.END, x86.HEADER):
            continue
        found = host_context.records(known)
        body = bytes(found[0].body) if found else bytes(sizes[known.name])
        if known is x86.CPU_XSAVE:
            body = struct.pack("<QQQ", 3, 3, 3) + bytes(576)
        elif known is x86.CPU_MSR:
            body = struct.pack("<IIIIQ", 1, 0, 0xC0011019, 0, 5)
        else:
            body = body.ljust(sizes[known.name], b"\0")[: sizes[known.name]]
        entries.append(Record(known, 0, body))
        if known is x86.PIC:
            entries.append(Record(known, 1, bytes(found[1].body)))
    return HvmContext([*entries, Record(x86.END, 0)])


def having(*features: str, rows: Iterable[Leaf] = (), **into: Any) -> Guest:
    """A guest with these features and no others, and these leaves besides."""
    leaves: dict[tuple[int, int], list[int]] = {(1, NO_SUBLEAF): [1, NO_SUBLEAF, 0, 0, 0, 0]}
    for row in rows:
        leaves[row[0], row[1]] = [*row]
    for name in features:
        leaf, subleaf, register, bit = FEATURES[name]
        key = leaf, NO_SUBLEAF if subleaf is None else subleaf
        leaves.setdefault(key, [*key, 0, 0, 0, 0])[register] |= 1 << bit
    made: list[Leaf] = [tuple(row) for row in leaves.values()]  # type: ignore[misc]
    return Guest(vcpus=1, leaves=made, **into)


def loaded(
    context: HvmContext | bytes, release: str, *, devices: Iterable[str] = DEVICES, **machine: Any
) -> Verdict:
    """Into a guest that has every feature, on an AMD machine."""
    data = context if isinstance(context, bytes) else context.to_bytes()
    guest = Guest(vcpus=1, devices=devices)
    return load(data, Release(release), guest, Machine(**{"vendor": AMD, **machine}))


def judged(release: str, change: Change, **into: Any) -> Verdict:
    context = base(Release(release))
    change(context)
    return loaded(context, release, **into)
