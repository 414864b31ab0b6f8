"""A context that a release loads, with a record of every type; changes to it; and the verdict."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from hvmctx.abi import x86
from hvmctx.abi.registry import by_name
from hvmctx.abi.releases import Release
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.restore.context import load
from hvmctx.restore.host import Host
from hvmctx.restore.verdict import Verdict
from tests.builders.samples import context_bytes


def base(release: Release) -> HvmContext:
    """A context that this release accepts, with one record of every type that it knows."""
    host_context = HvmContext.from_bytes(context_bytes())
    header = host_context.records(x86.HEADER)[0]
    sizes = release.sizes()
    entries = [header]
    for typecode in range(2, 21):
        known = next((k for k in map(by_name, sizes) if k.typecode == typecode), None)
        if known is None:
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


def full_host(release: str, **changes: Any) -> Host:
    """An AMD host whose guest has every feature."""
    return Host(release, vcpus=1, vendor="amd", **changes)


def put(path: str, value: Any, *more: Any) -> Callable[[HvmContext], None]:
    """Sets `NAME.field` of the first record of that name; pairs may follow."""
    pairs = [(path, value), *zip(more[::2], more[1::2])]

    def change(context: HvmContext) -> None:
        for where, number in pairs:
            name, _, field = where.partition(".")
            number_of, _, name = name.rpartition("/")
            record = context.records(by_name(name))[int(number_of or 0)]
            body = bytearray(record.body)
            by_name(name).layout.locate(field).put(body, number)
            record.body = bytes(body)

    return change


def instance(name: str, number: int) -> Callable[[HvmContext], None]:
    def change(context: HvmContext) -> None:
        context.records(by_name(name))[-1].instance = number

    return change


def length(name: str, delta: int) -> Callable[[HvmContext], None]:
    def change(context: HvmContext) -> None:
        record = context.records(by_name(name))[0]
        size = len(record.body) + delta
        record.body = bytes(record.body[:size]).ljust(size, b"\0")

    return change


def body_of(name: str, body: bytes) -> Callable[[HvmContext], None]:
    def change(context: HvmContext) -> None:
        context.records(by_name(name))[0].body = body

    return change


def says(name: str, claimed: int) -> Callable[[HvmContext], None]:
    """The last record of that type claims a length, and nothing follows it."""

    def change(context: HvmContext) -> None:
        record = context.records(by_name(name))[-1]
        at = context.entries.index(record)
        body = bytes(record.body)
        lying = Record(record.typecode, record.instance, body, length=claimed)
        context.entries = [*context.entries[:at], lying]

    return change


def nothing(context: HvmContext) -> None:
    pass


def msrs(*entries: tuple[int, int, int], count: int | None = None) -> bytes:
    body = struct.pack("<II", len(entries) if count is None else count, 0)
    return body + b"".join(struct.pack("<IIQ", *entry) for entry in entries)


def xsave(states: int, extra: bytes = b"", **header: int) -> bytes:
    body = bytearray(struct.pack("<QQQ", states, header.get("xcr0", states), states) + bytes(576))
    for name, at in (("bv", 536), ("comp", 544), ("reserved", 560)):
        struct.pack_into("<Q", body, at, header.get(name, 0))
    return bytes(body) + extra


def judged(release: str, change: Callable[[HvmContext], None], **host: Any) -> Verdict:
    context = base(Release(release))
    change(context)
    return load(context.to_bytes(), full_host(release, **host))
