"""Of the verifier: what fires each rule, and what just misses it."""

from __future__ import annotations

import struct

from hvmctx.abi import streams
from tests.builders.streams import libxc_head, libxl_head, page_data, record, word

PV = streams.GUEST_X86_PV


def v3(*records: bytes, version: int = 3, guest: int = 2) -> bytes:
    return libxc_head(version, guest) + b"".join(records) + record(0)


def libxl(*records: bytes) -> bytes:
    return libxl_head() + b"".join(records) + record(0)


def pages(*words: int, length: int | None = None, reserved: int = 0) -> bytes:
    made = page_data(*words)
    body = made[8:12] + struct.pack("<I", reserved) + made[16:]
    return record(1, body if length is None else body[:length].ljust(length, b"\0"))


def patched(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


GOOD = v3(record(16), pages(word(1)))
TSC = struct.pack("<IIQII", 1, 2, 3, 4, 0)
PARAMS = struct.pack("<IIQQ", 1, 0, 1, 2)
EMULATOR = struct.pack("<II", 2, 0)

# rule id, with a mark where a rule has several rows -> a stream that fires it, one that just
# does not
CASES: dict[str, tuple[bytes, bytes]] = {
    "libxl-options": (libxl_head(options=4) + record(0), libxl_head(options=2) + record(0)),
    "image-options": (patched(GOOD, 16, b"\0\2"), GOOD),
    "image-reserved": (patched(GOOD, 19, b"\1"), GOOD),
    "image-reserved#2": (patched(GOOD, 23, b"\1"), GOOD),
    "domain-type": (v3(guest=3), v3(guest=1)),
    "domain-reserved": (patched(GOOD, 30, b"\1"), GOOD),
    "domain-page-shift": (libxc_head(page_shift=13) + record(0), v3()),
    "record-type": (v3(record(0x13)), v3(record(0x12, bytes(16)))),
    "record-type#optional": (v3(record(0x80000001)), v3(record(0x0E))),
    "record-type#dirty": (v3(record(0x0F)), v3()),
    "record-type#toolstack": (v3(record(0x0B)), v3()),
    "record-type#libxl": (libxl(record(6)), libxl(record(5, b"\0\0\0\0"))),
    "record-padding": (
        v3(record(3, bytes(8)), record(9, b"x", pad=b"\1"), guest=PV),
        v3(record(9, b"x")),
    ),
    "record-padding#libxl": (
        libxl(record(5, b"\0\0\0\0", pad=b"\1")),
        libxl(record(5, b"\0\0\0\0")),
    ),
    "record-empty": (v3(record(13, b"x")), v3(record(13))),
    "record-empty#end": (libxc_head() + record(0, bytes(8)), v3()),
    "record-empty#libxl": (libxl_head() + record(0, bytes(8)), libxl()),
    "record-version": (v3(record(16), version=2), v3(record(16))),
    "page-data-short": (v3(record(1, bytes(8))), v3(pages(word(1, 0xF)))),
    "page-data-reserved": (v3(pages(word(1), reserved=1)), v3(pages(word(1)))),
    "page-data-words": (v3(pages(word(1), length=15)), v3(pages(word(1)))),
    "page-data-reserved-bits": (v3(pages(1 << 52, 2)), v3(pages(1 << 51, 2))),
    "page-data-reserved-bits#59": (v3(pages(1 << 59)), v3(pages(1 << 60))),
    "page-data-type": (v3(pages(word(1), word(2, 5))), v3(pages(word(1), word(2, 4)))),
    "page-data-type#8": (v3(pages(word(1, 8))), v3(pages(word(1, 9)))),
    "page-data-length": (v3(pages(word(1), length=4113)), v3(pages(word(1)))),
    "page-data-length#count": (v3(record(1, bytes(9))), v3(pages(word(1)))),
    "pv-info-length": (v3(record(2, b"\x08\4" + bytes(7))), v3(record(2, b"\x08\4" + bytes(6)))),
    "pv-info-width": (v3(record(2, b"\x05\4" + bytes(6))), v3(record(2, b"\x08\3" + bytes(6)))),
    "pv-info-reserved": (v3(record(2, b"\4\3\1" + bytes(5))), v3(record(2, b"\4\3" + bytes(6)))),
    "p2m-length": (v3(record(3, bytes(9))), v3(record(3, bytes(8)))),
    "p2m-length#short": (v3(record(3)), v3(record(3, bytes(16)))),
    "pv-vcpu-short": (v3(record(6, bytes(7))), v3(record(6, bytes(8)))),
    "pv-vcpu-reserved": (v3(record(4, bytes(4) + b"\1\0\0\0")), v3(record(4, b"\1" + bytes(7)))),
    "shared-info-length": (v3(record(7, bytes(4095))), v3(record(7, bytes(4096)))),
    "tsc-length": (v3(record(8, TSC[:16])), v3(record(8, TSC))),
    "tsc-reserved": (v3(record(8, TSC[:20] + b"\1\0\0\0")), v3(record(8, TSC))),
    "hvm-context-empty": (v3(record(9)), v3(record(9, b"x"))),
    "hvm-params-short": (v3(record(10, bytes(7))), v3(record(10, bytes(8)))),
    "hvm-params-reserved": (v3(record(10, bytes(4) + b"\1\0\0\0")), v3(record(10, bytes(8)))),
    "hvm-params-count": (v3(record(10, PARAMS[:-1])), v3(record(10, PARAMS))),
    "cpuid-policy-length": (v3(record(17, bytes(25))), v3(record(17, bytes(24)))),
    "msr-policy-length": (v3(record(18)), v3(record(18, bytes(16)))),
    "libxl-emulator-short": (libxl(record(3, EMULATOR[:7])), libxl(record(3, EMULATOR))),
    "libxl-emulator-id": (libxl(record(3, b"\3" + bytes(7))), libxl(record(3, b"\1" + bytes(7)))),
    "libxl-xenstore-end": (
        libxl(record(2, EMULATOR + b"a\0b")),
        libxl(record(2, EMULATOR + b"a\0b\0")),
    ),
    "libxl-xenstore-pairs": (
        libxl(record(2, EMULATOR + b"a\0")),
        libxl(record(2, EMULATOR + b"a\0\0")),
    ),
    "libxl-checkpoint-state": (libxl(record(5)), libxl(record(5, b"\0"))),
}
