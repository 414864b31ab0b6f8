"""Contexts of any bytes; and changes to one, whose records and fields are named as the commands
name them: `CPU/0`, `CPU/0.cr4`."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from hvmctx.abi.registry import record_types
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record

_typecodes = st.sampled_from([known.typecode for known in record_types()]) | st.integers(0, 0xFFFF)
_records = st.builds(
    lambda typecode, instance, body: struct.pack("<HHI", typecode, instance, len(body)) + body,
    _typecodes,
    st.integers(0, 3),
    st.binary(max_size=70),
)
any_contexts = st.builds(
    lambda parts, tail: b"".join(parts) + tail,
    st.lists(_records, max_size=8),
    st.binary(max_size=9),
)
"""Bytes framed as records of known and unknown types, with any bodies, and a tail."""
Change = Callable[[HvmContext], None]


def _record(context: HvmContext, name: str) -> Record:
    """The first record of that name: `CPU/0`."""
    return next(r for r in context.entries if f"{r.name}/{r.instance}" == name)


def put(*pairs: Any) -> Change:
    """Fields: path, value, path, value ..."""

    def change(context: HvmContext) -> None:
        for path, value in zip(pairs[::2], pairs[1::2]):
            name, _, field = path.partition(".")
            record = _record(context, name)
            assert record.type is not None
            body = bytearray(record.body)
            record.type.layout.locate(field).put(body, value)
            record.body = bytes(body)

    return change


def cpu(**fields: int) -> Change:
    return put(*(item for name, value in fields.items() for item in (f"CPU/0.{name}", value)))


def drop(*names: str) -> Change:
    def change(context: HvmContext) -> None:
        context.entries = [
            r for r in context.entries if f"{r.name}/{r.instance}" not in names
        ]  # fmt: skip

    return change


def instance(name: str, number: int) -> Change:
    def change(context: HvmContext) -> None:
        _record(context, name).instance = number

    return change


def length(name: str, delta: int) -> Change:
    def change(context: HvmContext) -> None:
        record = _record(context, name)
        size = len(record.body) + delta
        record.body = bytes(record.body[:size]).ljust(size, b"\0")

    return change


def body_of(name: str, body: bytes) -> Change:
    def change(context: HvmContext) -> None:
        _record(context, name).body = body

    return change


def says(name: str, claimed: int) -> Change:
    """The record claims a length, and nothing follows it."""

    def change(context: HvmContext) -> None:
        record = _record(context, name)
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
