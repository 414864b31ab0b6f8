"""Legacy streams made at random, with every kind of chunk."""

from __future__ import annotations

import random
import struct

PARAM_IDS = (-3, -4, -8, -10, -11, -14, -15, -16, -17, -19, -20)


def longs(width: int, *values: int) -> bytes:
    mask = (1 << 8 * width) - 1
    return b"".join((value & mask).to_bytes(width, "little") for value in values)


def batch(rng: random.Random, width: int, p2m: int, *, absent: bool = True) -> bytes:
    pfns = rng.sample(range(p2m), rng.randrange(1, 6))
    words, pages = [], b""
    for pfn in pfns:
        kind = rng.choice((0, 0, 0, 1, 4, 9, 0xC, 0xD, 0xE))
        words.append(kind << 28 | pfn)
        pages += bytes((rng.randrange(256),)) * 4096 if kind < 0xD else b""
    if absent and rng.random() < 0.5:
        words.insert(rng.randrange(len(words) + 1), 0xF0000000)
    return struct.pack("<i", len(words)) + longs(width, *words) + pages


def toolstack(rng: random.Random, width: int) -> bytes:
    data = struct.pack("<II", 1, count := rng.randrange(3))
    for _ in range(count):
        name = b"vga.vram"[: rng.randrange(9)] + b"\0"
        data += struct.pack("<QQQI", rng.getrandbits(40), rng.getrandbits(40), 4096, len(name))
        data += name + (bytes(4) if width == 8 else b"")
    return struct.pack("<iI", -18, len(data)) + data


def chunks(rng: random.Random, width: int, p2m: int, pv: bool, vcpus: int) -> bytes:
    out = []
    for _ in range(rng.randrange(4)):
        out.append(batch(rng, width, p2m))
    if rng.random() < 0.3:
        out.append(struct.pack("<i", -1))
    out.append(struct.pack("<iIQII", -7, 1, rng.getrandbits(60), 2600000, 3))
    bitmap = [0] * (vcpus // 64 + 1)
    for vcpu in range(vcpus):
        bitmap[vcpu // 64] |= 1 << vcpu % 64
    out.append(struct.pack(f"<ii{len(bitmap)}Q", -2, vcpus, *bitmap))
    if not pv:
        for number in rng.sample(PARAM_IDS, rng.randrange(5)):
            out.append(struct.pack("<iIQ", number, 0, rng.getrandbits(64)))
        if rng.random() < 0.7:
            out.append(toolstack(rng, width))
    if rng.random() < 0.5:
        out.append(struct.pack("<i", -9))
    rng.shuffle(out)
    return b"".join(out) + struct.pack("<i", 0)


def legacy_hvm(
    rng: random.Random,
    width: int,
    signature: bytes = b"DeviceModelRecord0002",
    *,
    p2m: int | None = None,
) -> bytes:
    p2m = p2m or rng.randrange(16, 5000)
    context, model = rng.randbytes(rng.randrange(1, 50)), rng.randbytes(rng.randrange(40))
    tail = struct.pack("<QQQI", 1, 2, 3, len(context)) + context + signature
    if signature != b"QemuDeviceModelRecord":
        tail += struct.pack("<I", len(model))
    body = struct.pack("<iIQ", -3, 0, 5) + chunks(rng, width, p2m, False, rng.randrange(1, 70))
    return longs(width, p2m) + body + tail + model


def legacy_pv(rng: random.Random, width: int, *, p2m: int | None = None) -> bytes:
    p2m = p2m or rng.randrange(16, 5000)
    vcpus = rng.randrange(1, 4)
    guest = rng.choice((4, 8))
    size = 0x1430 if guest == 8 else 0xAF0
    extended, xsave = rng.random() < 0.5, rng.choice((0, 0, 100))
    blocks = b"vcpu" + struct.pack("<I", size) + rng.randbytes(size)
    if extended:
        blocks += b"extv" + struct.pack("<I", 0)
    if xsave:
        blocks += b"xcnt" + struct.pack("<II", 4, xsave)
    frames = (p2m - 1) // (4096 // guest) + 1
    out = longs(width, p2m, -1) + struct.pack("<I", len(blocks)) + blocks
    out += longs(width, *(rng.getrandbits(31) for _ in range(frames)))
    out += chunks(rng, width, p2m, True, vcpus)
    unmapped = rng.randrange(3)
    out += struct.pack("<I", unmapped) + longs(width, *range(unmapped))
    for _ in range(vcpus):
        out += rng.randbytes(size) + (rng.randbytes(128) if extended else b"")
        if xsave:
            out += struct.pack("<QQ", 7, xsave - 16) + rng.randbytes(xsave - 16)
    return out + rng.randbytes(4096)
