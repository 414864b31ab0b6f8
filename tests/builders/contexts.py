"""Contexts of any bytes, and changes to one, for tests."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from hvmctx.abi.registry import record_types
from hvmctx.context.hvm_context import HvmContext

typecodes = st.sampled_from([known.typecode for known in record_types()]) | st.integers(0, 0xFFFF)
records = st.builds(
    lambda typecode, instance, body: struct.pack("<HHI", typecode, instance, len(body)) + body,
    typecodes,
    st.integers(0, 3),
    st.binary(max_size=70),
)
streams = st.builds(
    lambda parts, tail: b"".join(parts) + tail, st.lists(records, max_size=8), st.binary(max_size=9)
)
Change = Callable[[HvmContext], object]


def put(*pairs: Any) -> Change:
    """Fields of one-vcpu records: path, value, path, value ..."""

    def change(context: HvmContext) -> None:
        for path, value in zip(pairs[::2], pairs[1::2]):
            name, _, field = path.partition(".")
            (record,) = [r for r in context.entries if f"{r.name}/{r.instance}" == name]
            known = record.type
            assert known is not None
            body = bytearray(record.body)
            known.layout.locate(field).put(body, value)
            record.body = bytes(body)

    return change


def cpu(**fields: int) -> Change:
    return put(*(item for name, value in fields.items() for item in (f"CPU/0.{name}", value)))


def drop(*names: str) -> Change:
    """Records, named as `CPU/0`."""

    def change(context: HvmContext) -> None:
        context.entries = [
            r for r in context.entries if f"{r.name}/{r.instance}" not in names
        ]  # fmt: skip

    return change
