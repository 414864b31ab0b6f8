"""Makes CPU policies for fuzzing, of one that a guest has: rows with single bits, maxima, vendors,
address bits and XSTATE leaves changed, repeated, left out, beyond every bound."""

from __future__ import annotations

from hvmctx.abi.cpuid import (
    ARCH_CAPABILITIES,
    EAX,
    EBX,
    ECX,
    EDX,
    FEATURES,
    NO_SUBLEAF,
    PLATFORM_INFO,
    VENDORS,
)
from hvmctx.fuzz.values import around
from hvmctx.restore.policy_forms import from_pol, to_pol

TYPE_CHECKING = False
if TYPE_CHECKING:
    import random

    Numbers = list[list[int]]
    """Rows that can be changed."""

__all__ = ["mutate_policy", "valid_policy"]

_REGISTERS = (EAX, EBX, ECX, EDX)
_SUBLEAVES = (0, 1, 2, 3, 4, 5, 6, 7, 8, 62, 63, 64, 65, 0x7FFFFFFF, NO_SUBLEAF)
_LEAVES = (
    *range(0x10), 0x14, 0x20, 0x3FFFFFFF, 0x40000000, 0x40000001, 0x400000FF, 0x40000100,
    0x40000101, *(0x80000000 + number for number in range(0x24)), 0x7FFFFFFF, 0xFFFFFFFF,
)  # fmt: skip
_MSRS = (
    0,
    0x10,
    0x48,
    0x8B,
    PLATFORM_INFO,
    ARCH_CAPABILITIES,
    0x10B,
    0x140,
    0xC0000080,
    0xFFFFFFFF,
)
_NAMES = (*VENDORS, b"CentaurHauls", b"  Shanghai  ", b"TotallyNone!")


def valid_policy(rng: random.Random) -> bytes:
    """A policy with half of all features, as a `.pol`."""
    rows = {
        place: [*place, 0, 0, 0, 0]
        for place in (
            *((leaf, NO_SUBLEAF) for leaf in (0, 1, 2)), (7, 0), (7, 1), (0xD, 0), (0xD, 1),
            *((0x80000000 + number, NO_SUBLEAF) for number in range(9)),
        )
    }  # fmt: skip
    for leaf, subleaf, register, bit in FEATURES.values():
        row = rows.get((leaf, NO_SUBLEAF if subleaf is None else subleaf))
        if row is not None and rng.random() < 0.5:
            row[register] |= 1 << bit
    rows[0, NO_SUBLEAF][EAX] = 0xD
    rows[7, 0][EAX] = 1
    rows[0x80000000, NO_SUBLEAF][EAX] = 0x80000008
    rows[0x80000008, NO_SUBLEAF][EAX] = 0x3028
    _name(rows[0, NO_SUBLEAF], rng.choice(_NAMES))
    return to_pol(
        (tuple(row) for row in rows.values()),  # type: ignore[misc]  # of six
        [(PLATFORM_INFO, 0, 1 << 31), (ARCH_CAPABILITIES, 0, 0)],
    )


def mutate_policy(base: bytes, rng: random.Random) -> tuple[bytes, str]:
    """A policy with one to four edits of a `.pol`, and what they are."""
    leaves, msrs = from_pol(base)
    rows = [list(row) for row in leaves]
    values = [list(row) for row in msrs]
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        name, edit = rng.choice(_EDITS)
        edit(rows, values, rng)
        done.append(name)
    return to_pol(
        (tuple(row) for row in rows),  # type: ignore[misc]
        (tuple(row) for row in values),  # type: ignore[misc]
    ), " ".join(done)


def _row(rows: Numbers, leaf: int, subleaf: int = NO_SUBLEAF) -> list[int]:
    """The row of a leaf, which is added where there is none."""
    for row in rows:
        if row[:2] == [leaf, subleaf]:
            return row
    rows.append([leaf, subleaf, 0, 0, 0, 0])
    return rows[-1]


def _name(row: list[int], vendor: bytes) -> None:
    for number, register in enumerate((EBX, EDX, ECX)):
        row[register] = int.from_bytes(vendor[4 * number : 4 * number + 4], "little")


def _bits(rows: Numbers, msrs: Numbers, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 2, 8, 40))):
        if rows:
            rng.choice(rows)[rng.choice(_REGISTERS)] ^= 1 << rng.randrange(32)


def _features(rows: Numbers, msrs: Numbers, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 2, 3, 20))):
        leaf, subleaf, register, bit = FEATURES[rng.choice(list(FEATURES))]
        _row(rows, leaf, NO_SUBLEAF if subleaf is None else subleaf)[register] ^= 1 << bit


def _words(rows: Numbers, msrs: Numbers, rng: random.Random) -> None:
    leaf, subleaf, register, _ = FEATURES[rng.choice(list(FEATURES))]
    word = rng.choice((0, 0xFFFFFFFF, rng.getrandbits(32)))
    _row(rows, leaf, NO_SUBLEAF if subleaf is None else subleaf)[register] = word


def _maxima(rows: Numbers, msrs: Numbers, rng: random.Random) -> None:
    place, values = rng.choice((
        ((0, NO_SUBLEAF), (*range(0x12), 0x20, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)),
        ((7, 0), (0, 1, 2, 3, 4, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)),
        ((0x80000000, NO_SUBLEAF), (0, 7, 0x21, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0x80000001,
                                    0x80000007, 0x80000008, 0x80000009, 0x8000001C, 0x8000001D,
                                    0x80000020, 0x80000021, 0x80000022, 0x8000FFFF, 0x80010008,
                                    0xFFFFFFFF)),
        ((0x40000000, NO_SUBLEAF), (0, 1, 0x40000005, 0xFF, 0x100, 0x1FF)),
    ))  # fmt: skip
    _row(rows, *place)[EAX] = rng.choice(values)


def _vendor(rows: Numbers, msrs: Numbers, rng: random.Random) -> None:
    _name(_row(rows, 0), rng.choice(_NAMES))


def _addresses(rows: Numbers, msrs: Numbers, rng: random.Random) -> None:
    row = _row(rows, 0x80000008)
    bits = rng.choice((0, 1, 31, 32, 33, 35, 36, 37, 39, *around(40), *around(48), 52, 53, 64, 255))
    row[EAX] = row[EAX] & ~0xFF | bits
    if rng.random() < 0.3:
        row[EAX] = row[EAX] & 0xFF | rng.getrandbits(24) << 8
    if rng.random() < 0.3:  # the least depends on these
        for name in rng.sample(("PAE", "PSE36", "PSE", "LM"), 2):
            _row(rows, 1 if name != "LM" else 0x80000001)[EDX] &= ~(1 << FEATURES[name][3])


def _states(rows: Numbers, msrs: Numbers, rng: random.Random) -> None:
    row = _row(rows, 0xD, rng.choice((0, 0, 1, 1, 2, rng.randrange(63))))
    row[rng.choice(_REGISTERS)] = rng.choice((0, 1, 3, 7, 0x2FF, 1 << 31, rng.getrandbits(32)))


def _caches(rows: Numbers, msrs: Numbers, rng: random.Random) -> None:
    for subleaf in range(rng.choice((1, 2, 6))):
        row = _row(rows, rng.choice((4, 4, 0xB)), subleaf % (6 if rng.random() < 0.9 else 2))
        if row[0] == 0xB and row[1] > 1:
            row[1] = 1
        for register in _REGISTERS:
            row[register] = rng.getrandbits(32)
        row[EAX] = row[EAX] & ~0x1F | rng.choice((0, 1, 2, 3, 4, 31))


def _ranges(rows: Numbers, msrs: Numbers, rng: random.Random) -> None:
    row = [rng.choice(_LEAVES), rng.choice(_SUBLEAVES), *(rng.getrandbits(32) for _ in range(4))]
    rows.insert(rng.randint(0, len(rows)), row)


def _fits(rows: Numbers, msrs: Numbers, rng: random.Random) -> None:
    """A leaf that every release keeps, with anything in it."""
    leaf = rng.choice((2, 3, 5, 6, 8, 9, 0xA, 0xC, *(0x80000000 + n for n in range(1, 0x1D))))
    row = _row(rows, leaf)
    for register in _REGISTERS:
        row[register] = rng.getrandbits(32)


def _repeat(rows: Numbers, msrs: Numbers, rng: random.Random) -> None:
    if rows:
        row = list(rng.choice(rows))
        row[rng.choice(_REGISTERS)] ^= 1 << rng.randrange(32)
        rows.insert(rng.randint(0, len(rows)), row)


def _drop(rows: Numbers, msrs: Numbers, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 4, len(rows)))):
        if rows:
            del rows[rng.randrange(len(rows))]


def _many(rows: Numbers, msrs: Numbers, rng: random.Random) -> None:
    most = rng.choice((113, 114, 115, 119, 120, 121, 122, 200))
    while rows and len(rows) < most:
        rows.append(list(rng.choice(rows)))


def _msr(rows: Numbers, msrs: Numbers, rng: random.Random) -> None:
    value = rng.choice((0, 1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 63, rng.getrandbits(64)))
    index = rng.choice((PLATFORM_INFO, PLATFORM_INFO, ARCH_CAPABILITIES, rng.choice(_MSRS)))
    flags = rng.choice((0,) * 9 + (1, 1 << 31))
    if msrs and rng.random() < 0.7:
        msrs[rng.randrange(len(msrs))] = [index, flags, value]
    else:
        msrs.insert(rng.randint(0, len(msrs)), [index, flags, value])


def _fewer_msrs(rows: Numbers, msrs: Numbers, rng: random.Random) -> None:
    del msrs[rng.randint(0, len(msrs)) :]


_EDITS = (
    ("bits", _bits), ("bits", _bits), ("features", _features), ("features", _features),
    ("features", _features), ("words", _words), ("words", _words), ("maxima", _maxima),
    ("vendor", _vendor), ("addresses", _addresses), ("states", _states), ("caches", _caches),
    ("ranges", _ranges), ("fits", _fits), ("fits", _fits), ("repeat", _repeat), ("drop", _drop),
    ("many", _many), ("msr", _msr), ("fewer-msrs", _fewer_msrs),
)  # fmt: skip
