#!/usr/bin/env python3
"""The shortest VMPORT record that takes the patch's loader through each of its unsafe steps,
as the table of docs/vmport.md. `make generate` puts it there."""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

from hvmctx.abi.fields import Layout
from hvmctx.abi.vmport import XEN_4_5_V6
from hvmctx.context.vmport import descriptor
from hvmctx.restore.vmport import SITES, Violation, restore

DOCUMENT = os.path.join(
    os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "docs", "vmport.md"
)
BEGIN, END = "<!-- made by tools/vmport_flaws.py -->", "<!-- until here -->"
_LAYOUT = Layout.of(XEN_4_5_V6.packed)
_SEND, _RECV = "chans[0].send_len", "chans[0].recv_bkt[0].recv_len"
_JUMBO = "chans[0].jumbo_recv_bkt.recv_len"
_SIZE, _COUNT, _JUMBO_COUNT = "used_guestsize", "used_guestinfo", "used_guestinfo_jumbo"

# Site -> the numbers to put into an otherwise zero fixed part (path -> value), the bytes
# after it, and why the loader goes wrong.
FLAWS: dict[str, tuple[dict[str, int], bytes, str]] = {
    "version": ({}, b"", "the version is read before anything is known of the body's length"),
    "fixed part": ({}, b"", "a body shorter than its fixed part is copied from all the same"),
    "send_buf": ({_SEND: 185}, b"", "send_len is copied as it is, 184 bytes fit"),
    "send_buf source": ({_SEND: 1}, b"", "send_len is not checked against the body"),
    "recv_buf": ({_RECV: 137}, b"", "recv_len is copied as it is, 136 bytes fit"),
    "recv_buf source": ({_RECV: 1}, b"", "recv_len is not checked against the body"),
    "jumbo recv_buf": ({_JUMBO: 4105}, b"", "as above, 4104 bytes fit"),
    "jumbo recv_buf source": ({_JUMBO: 1}, b"", "as above"),
    "guestinfo slot": ({_COUNT: 60}, b"", "the loop runs to used + 5, the slots to 63"),
    "guestinfo head": ({_COUNT: 1, _SIZE: 1}, b"", "the head is not checked against the body"),
    "guestinfo key_data": ({_COUNT: 1, _SIZE: 33}, b"\x1f\0", "key_len may be 255, 30 bytes fit"),
    "guestinfo key_data source": ({_COUNT: 1, _SIZE: 3}, b"\1\0", "used_guestsize is believed, not the body"),
    "guestinfo val_data": ({_COUNT: 1, _SIZE: 132}, b"\1\x81k", "val_len may be 255, 128 bytes fit"),
    "guestinfo val_data source": ({_COUNT: 1, _SIZE: 4}, b"\1\1k", "used_guestsize is believed"),
    "guestinfo_jumbo slot": ({_JUMBO_COUNT: 2}, b"", "the loop runs to used + 1, the slots to 1"),
    "guestinfo_jumbo head": ({_JUMBO_COUNT: 1, _SIZE: 1}, b"", "the head is not checked against the body"),
    "guestinfo_jumbo key_data": ({_JUMBO_COUNT: 1, _SIZE: 34}, b"\x1f\0\0", "as for guestinfo"),
    "guestinfo_jumbo key_data source": ({_JUMBO_COUNT: 1, _SIZE: 4}, b"\1\0\0", "as for guestinfo"),
    "guestinfo_jumbo val_data": ({_JUMBO_COUNT: 1, _SIZE: 4101}, b"\1\1\x10k", "val_len may be 65535, 4096 fit"),
    "guestinfo_jumbo val_data source": ({_JUMBO_COUNT: 1, _SIZE: 5}, b"\1\1\0k", "as for guestinfo"),
}  # fmt: skip


def record(site: str) -> bytes:
    """The record, descriptor included."""
    numbers, data, _ = FLAWS[site]
    body = bytearray(XEN_4_5_V6.fixed_size)
    for path, value in {"version": XEN_4_5_V6.SAVE_VERSION, **numbers}.items():
        _LAYOUT.locate(path).put(body, value)
    if data:
        return _framed(bytes(body) + data)
    cut = (_framed(bytes(body[:length])) for length in range(len(body)))
    return next(made for made in cut if _site_of(made) == site)


def _framed(body: bytes) -> bytes:
    return descriptor(body) + body


def _site_of(made: bytes) -> str:
    outcome = restore(made, XEN_4_5_V6)
    return outcome.site if isinstance(outcome, Violation) else ""


def table() -> str:
    """Markdown, a row for each site, the violation as the model gives it."""
    rows = [
        "| step | kind | asked, limit | record: bytes, and what is not zero | why |",
        "|---|---|---|---|---|",
    ]
    for site in SITES:
        numbers, data, why = FLAWS[site]
        shortest = record(site)
        outcome = restore(shortest, XEN_4_5_V6)
        assert isinstance(outcome, Violation) and outcome.site == site, (site, outcome)
        slots = [(_LAYOUT.locate(path), value) for path, value in numbers.items()]
        what = [f"u{slot.width} {value} at {slot.offset}" for slot, value in slots]
        if data:
            what.append(f"`{data.hex(' ')}` after the fixed part")
        rows.append(
            f"| {site} | {outcome.kind} | {outcome.asked}, {outcome.limit} | {len(shortest)}"
            f"{': ' if what else ''}{', '.join(what)} | {why} |"
        )
    return "\n".join(rows)


def updated(document: str) -> str:
    """The document with the table of today."""
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def files() -> dict[str, str]:
    with open(DOCUMENT, encoding="utf-8") as file:
        return {"docs/vmport.md": updated(file.read())}


if __name__ == "__main__":
    print(table())
