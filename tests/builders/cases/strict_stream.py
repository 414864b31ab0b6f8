"""Of strict, about streams: what fires each rule, and what just misses it."""

from __future__ import annotations

import struct

from tests.builders.streams import (
    CONTEXT,
    CPUID,
    GOOD,
    MEMORY,
    MSR,
    PARAMS,
    STATIC,
    TSC,
    libxc_head,
    libxl_head,
    page_data,
    record,
    word,
    xl_head,
)
from tests.builders.streams import strict_hvm as hvm
from tests.builders.streams import strict_libxl as libxl
from tests.builders.wrappers import XML, in_xapi, libvirt, xapi_record


def params(*pairs: tuple[int, int]) -> bytes:
    body = struct.pack("<II", len(pairs), 0) + b"".join(struct.pack("<QQ", *p) for p in pairs)
    return hvm(state=(TSC, CONTEXT, record(10, body)))


QEMU = struct.pack("<II", 2, 0) + b"QEVM\0\0\0\3"
VERIFY = record(13)
CHECKPOINT = record(14)

CASES: dict[str, tuple[bytes, bytes]] = {
    "libxl-options-high": (libxl_head(options=1 << 16) + record(0), libxl()),
    "xl-optional-flags": (xl_head(flags=2)[:40] + b"\1" + xl_head(flags=2)[41:] + libxl(), xl_head(flags=2) + libxl()),
    "duplicate": (hvm(state=(TSC, TSC, CONTEXT, record(10, PARAMS))), GOOD),
    "duplicate#static": (hvm(static=(STATIC[0], STATIC[0], *STATIC[1:])), GOOD),
    "duplicate#context": (hvm(state=(TSC, CONTEXT, CONTEXT, record(10, PARAMS))), GOOD),
    "duplicate#checkpoint": (
        hvm(MEMORY, TSC, TSC, CHECKPOINT),
        hvm(MEMORY, TSC, CONTEXT, CHECKPOINT, MEMORY),
    ),
    "duplicate#emulator": (libxl(record(3, QEMU), record(3, QEMU)), libxl(record(3, QEMU))),
    "policy-duplicate": (hvm(static=(record(17, CPUID * 2), *STATIC[1:])), hvm(static=(record(17, CPUID + b"\2" + CPUID[1:]), *STATIC[1:]))),
    "policy-duplicate#msr": (hvm(static=(STATIC[0], record(18, MSR * 2), STATIC[2])), GOOD),
    "policy-flags": (hvm(static=(STATIC[0], record(18, MSR[:4] + b"\1" + MSR[5:]), STATIC[2])), GOOD),
    "param-duplicate": (params((1, 1), (17, 2), (1, 1)), params((1, 1), (17, 2))),
    "param-unknown": (params((1, 1), (17, 2), (39, 1)), params((1, 1), (17, 2), (38, 1))),
    "param-missing": (params((1, 1), (17, 0)), params((1, 1), (17, 2))),
    "emulator-magic": (libxl(record(3, QEMU[:8] + b"QEVN")), libxl(record(3, QEMU))),
    "emulator-index": (libxl(record(3, QEMU[:4] + b"\1" + QEMU[5:])), libxl(record(3, QEMU))),
    "emulator-index#xenstore": (libxl(record(2, b"\2\0\0\0\1\0\0\0")), libxl(record(2, b"\2" + bytes(7)))),
    "checkpoint-state-length": (libxl(record(5, bytes(8))), libxl(record(5, bytes(4)))),
    "emulator-magic#xapi": (in_xapi(GOOD, xapi_record(0x0F00, b"QEVN")), in_xapi(GOOD, xapi_record(0x0F00, b"QEVM"))),
    "duplicate#xapi": (in_xapi(GOOD, *[xapi_record(0x0F11)] * 2), in_xapi(GOOD, *[xapi_record(0x0F13)] * 2)),
    "libvirt-reserved": (libvirt(libxl()).replace(bytes(40), b"\1".rjust(40, b"\0"), 1), libvirt(libxl())),
    "libvirt-xml-end": (libvirt(libxl(), XML), libvirt(libxl(), XML + b"\0")),
    "xapi-length": (in_xapi(GOOD)[:-8] + b"\1".ljust(8, b"\0"), in_xapi(GOOD)),
    "xapi-swtpm": (in_xapi(GOOD, xapi_record(0x0F13, b"===")), in_xapi(GOOD, xapi_record(0x0F13, b"YQ=="))),
    "order": (hvm(TSC, MEMORY, state=(CONTEXT, record(10, PARAMS))), hvm(MEMORY, TSC, state=(CONTEXT, record(10, PARAMS)))),
    "order#static": (hvm(MEMORY, STATIC[0], static=STATIC[1:]), GOOD),
    "order#checkpoint": (hvm(MEMORY, TSC, MEMORY), hvm(MEMORY, TSC, CHECKPOINT, MEMORY)),
    "page-twice": (hvm(MEMORY, page_data(word(5), word(5))), hvm(MEMORY, page_data(word(5), word(4)))),
    "pages-resent": (hvm(MEMORY, page_data(word(2))), hvm(MEMORY, page_data(word(4)))),
    "page-gone": (hvm(MEMORY, page_data(word(2, 0xF))), hvm(MEMORY, page_data(word(2, 0xE)))),
    "pages-missing": (hvm(MEMORY, page_data(word(5))), hvm(MEMORY, page_data(word(4)))),
    "param-page-missing": (params((1, 4), (17, 2)), params((1, 3), (17, 2))),
    "verify-mismatch": (hvm(MEMORY, VERIFY, page_data(word(2), fill=1)), hvm(MEMORY, VERIFY, page_data(word(2), fill=0x5C))),
    "missing-record": (hvm(state=(CONTEXT, record(10, PARAMS))), GOOD),
    "missing-record#pv": (libxc_head(guest=1) + record(0), GOOD),
    "missing-record#policy": (hvm(static=STATIC[1:]), GOOD),
    "trailing": (hvm(tail=b"x"), GOOD),
    "trailing#xapi": (libvirt(libxl()) + b"x", in_xapi(GOOD) + b"x"),
}  # fmt: skip
