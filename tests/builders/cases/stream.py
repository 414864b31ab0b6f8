"""Of the readers of streams: what fires each rule, and what just misses it."""

from __future__ import annotations

import struct

from tests.builders.streams import (
    FRAMES,
    PV_INFO,
    hvm,
    libxc_head,
    libxl,
    page_data,
    pv,
    record,
    word,
    xl_head,
)
from tests.builders.wrappers import in_xapi, libvirt, xapi, xapi_record


def pages(body: bytes) -> bytes:
    return record(1, body)


LIBXC = xapi_record(0x00F0)
EMULATOR = struct.pack("<II", 2, 0)
PV_PAGE = page_data(word(511))
# rule -> what fires it, and what just misses it
CASES: dict[str, tuple[bytes, bytes]] = {
    "stream-damaged": (hvm()[:-1], hvm()),
    "xl-byteorder": (xl_head(byteorder=5) + libxl(), xl_head() + libxl()),
    "libxc-guest": (libxc_head(guest=4) + record(16) + record(0), hvm()),
    "libxc-page-shift": (hvm().replace(b"\2\0\0\0\x0c", b"\2\0\0\0\x0d", 1), hvm()),
    "libxc-unknown": (hvm(record(0x13)), hvm(record(0x80000013))),
    "page-data-static": (libxc_head() + page_data(word(1)) + record(0), hvm(page_data(word(1)))),
    "page-data-short": (hvm(pages(bytes(7))), hvm(page_data(word(1)))),
    "page-data-count": (hvm(pages(bytes(8))), hvm(page_data(word(1)))),
    "page-data-words": (
        hvm(pages(struct.pack("<II", 1, 0) + bytes(7))),
        hvm(page_data(word(1, 0xE))),
    ),
    "page-data-type": (hvm(page_data(word(1, 5))), hvm(page_data(word(1, 4)))),
    "page-data-pfn": (pv(page_data(word(512))), pv(PV_PAGE)),
    "page-data-length": (
        hvm(pages(struct.pack("<IIQ", 1, 0, 1) + bytes(4095))),
        hvm(page_data(word(1))),
    ),
    "page-data-huge": (
        hvm(page_data(word(1 << 40, 0xE))),
        hvm(page_data(word(1 << 40, 0xF), word((1 << 40) - 1))),
    ),
    "checkpoint": (hvm(record(14)), hvm()),
    "static-end-twice": (hvm(record(16)), hvm()),
    "cpuid-policy-length": (hvm(record(17, bytes(25))), hvm(record(17, bytes(24)))),
    "msr-policy-length": (hvm(record(18)), hvm(record(18, bytes(16)))),
    "tsc-length": (hvm(record(8, bytes(16))), hvm(record(8, bytes(24)))),
    "hvm-params-short": (hvm(record(10, bytes(7))), hvm(record(10, bytes(8)))),
    "hvm-params-index": (
        hvm(record(10, struct.pack("<IIQQ", 1, 0, 39, 1))),
        hvm(record(10, struct.pack("<IIQQ", 1, 0, 38, 1))),
    ),
    "hvm-params-count": (hvm(record(10, b"\1" + bytes(7))), hvm(record(10, b"\1" + bytes(23)))),
    "hvm-context-empty": (hvm(record(9)), hvm(record(9, b"x"))),
    "pv-info-twice": (pv(PV_INFO), pv()),
    "pv-info-short": (pv(info=record(2, b"\x08\x04")), pv(info=record(2, b"\x08\x04" + bytes(9)))),
    "pv-info-width": (pv(info=record(2, b"\x08\x03" + bytes(6))), pv()),
    "p2m-static": (libxc_head(guest=1) + PV_INFO + FRAMES + record(0), pv()),
    "p2m-order": (libxc_head(guest=1) + record(16) + FRAMES + record(0), pv()),
    "p2m-short": (pv(frames=record(3, bytes(7))), pv()),
    "p2m-range": (
        pv(frames=record(3, struct.pack("<IIQ", 2, 1, 7))),
        pv(frames=record(3, struct.pack("<IIQ", 1, 1, 7))),
    ),
    "p2m-length": (pv(frames=record(3, struct.pack("<IIQ", 0, 512, 7))), pv()),
    "pv-vcpu-short": (pv(record(5, bytes(7))), pv(record(5, bytes(8)))),
    "pv-vcpu-size": (pv(record(5, bytes(137))), pv(record(5, bytes(136)))),
    "shared-info-order": (
        libxc_head(guest=1) + record(7, bytes(4096)) + record(0),
        pv(record(7, bytes(4096))),
    ),
    "shared-info-length": (pv(record(7, bytes(4095))), pv(record(7, bytes(4096)))),
    "pv-no-vcpu": (pv(vcpu=record(4, bytes(8))), pv()),
    "libxl-unknown": (libxl(record(0x80000001)), libxl()),
    "libxl-not-hvm": (libxl(record(3, EMULATOR), guest=1), libxl(record(3, EMULATOR))),
    "libxl-emulator-short": (libxl(record(3, bytes(7))), libxl(record(3, bytes(8)))),
    "libxl-xenstore": (
        libxl(record(2, EMULATOR + b"/k\0v\0")),
        libxl(record(2, EMULATOR + b"k\0\0")),
    ),
    "libxl-checkpoint": (libxl(record(4)), libxl()),
    "libvirt-no-xml": (libvirt(libxl(), b""), libvirt(libxl(), b"<domain/>")),
    "libvirt-xml": (libvirt(libxl(), b"<domain>\0"), libvirt(libxl(), b"<domain></domain>\0")),
    "xapi-unknown": (in_xapi(hvm(), xapi_record(0x0F14)), in_xapi(hvm(), xapi_record(0x0F13))),
    "xapi-refused": (in_xapi(hvm(), xapi_record(0x0F01)), in_xapi(hvm(), xapi_record(0x0F00))),
    "xapi-xenops": (
        xapi(LIBXC, hvm(), xenops=b"((time x))"),
        xapi(LIBXC, hvm(), xenops=b"((time x)(word_size 64))"),
    ),
    "xapi-qemu-length": (
        in_xapi(hvm(), xapi_record(0x0F00, bytes((1 << 20) + 1))),
        in_xapi(hvm(), xapi_record(0x0F00, bytes(1 << 20))),
    ),
    "xapi-no-libxc": (xapi(), in_xapi(hvm())),
}
