from __future__ import annotations

import struct
from ctypes import LittleEndianStructure, Union, c_int64, c_uint8, c_uint16, c_uint32, sizeof
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi.declare import RecordType
from hvmctx.abi.fields import Layout, Slot, misfit
from hvmctx.abi.registry import record_types
from hvmctx.abi.x86 import hvm_save_descriptor
from hvmctx.errors import FieldError, UsageError

TYPES = [known for known in record_types() if known.size]
bodies = st.sampled_from(TYPES).flatmap(
    lambda known: st.tuples(st.just(known), st.binary(min_size=known.size, max_size=known.size))
)


class inner(LittleEndianStructure):
    _fields_ = [("low", c_uint8, 3), ("high", c_uint8, 5), ("bytes", c_uint8 * 3)]


class outer(LittleEndianStructure):
    _fields_ = [
        ("word", c_uint32),
        ("pairs", c_uint16 * 2),
        ("inners", inner * 2),
        ("signed", c_int64),
    ]


LAYOUT = Layout.of(outer)
BODY = bytes.fromhex("04030201 0b0a0d0c ff 010203 21 040506 feffffffffffffff")


def test_decode() -> None:
    assert LAYOUT.decode(BODY) == {
        "word": 0x01020304,
        "pairs": (0x0A0B, 0x0C0D),
        "inners": [
            {"low": 7, "high": 31, "bytes": b"\1\2\3"},
            {"low": 1, "high": 4, "bytes": b"\4\5\6"},
        ],
        "signed": -2,
    }


@given(bodies)
def test_encode_is_the_inverse_of_decode(case: tuple[RecordType, bytes]) -> None:
    known, body = case
    assert known.layout.encode(known.layout.decode(body)) == body


@given(bodies)
def test_decode_agrees_with_ctypes(case: tuple[RecordType, bytes]) -> None:
    known, body = case
    struct: Any = known.struct.from_buffer_copy(body)
    for path in known.layout.paths():
        slot = known.layout.locate(path)
        if not slot.is_bytes:
            value: Any = struct
            for name in path.replace("[", ".[").split("."):
                value = value[int(name[1:-1])] if name.startswith("[") else getattr(value, name)
            assert slot.get(body) == value, path


@given(bodies, st.data())
def test_put_changes_its_bits_only(case: tuple[RecordType, bytes], data: st.DataObject) -> None:
    known, body = case
    slot = known.layout.locate(data.draw(st.sampled_from(list(known.layout.paths()))))
    if slot.is_bytes:
        return
    low = -(1 << slot.width - 1) if slot.signed else 0
    value = data.draw(st.integers(low, low + (1 << slot.width) - 1))
    changed = bytearray(body)
    slot.put(changed, value)
    assert slot.get(changed) == value
    slot.put(changed, slot.get(body))
    assert changed == body


@given(bodies)
def test_format_gives_the_values_of_the_slots(case: tuple[RecordType, bytes]) -> None:
    known, body = case
    slots = list(known.layout.slots())
    if not any(slot.width != 8 * slot.size for slot in slots):
        form = struct.Struct(known.layout.format)
        assert form.size == known.size
        assert list(form.unpack(body)) == [slot.get(body) for slot in slots]
    places = [*slots, *known.layout.reserved()]
    assert {slot.path for slot in places} == set(known.layout.paths())


def test_format() -> None:
    class plain(LittleEndianStructure):
        _fields_ = [("a", c_uint8), ("_pad", c_uint8 * 3), ("descriptors", hvm_save_descriptor * 2),
                    ("bytes", c_uint8 * 8)]  # fmt: skip

    assert Layout.of(plain).format == "<B3xHHIHHI8s"


def test_leaves() -> None:
    """One walk: arrays of numbers whole, of a union's other members only numbers."""

    class words(Union):
        _fields_ = [("whole", c_uint32), ("parts", inner), ("reserved", c_uint16 * 2)]

    class around(LittleEndianStructure):
        _anonymous_ = ("_words",)
        _fields_ = [("_words", words), ("rest", inner * 2), ("pad0", c_uint16 * 3)]

    found = [
        (leaf.name, leaf.offset, leaf.size, leaf.width, leaf.alternate, leaf.is_reserved)
        for leaf in Layout.of(around).leaves()
    ]
    assert found == [
        ("whole", 0, 4, 32, False, False),
        ("reserved", 0, 4, 32, True, True),
        ("rest[0].low", 4, 1, 3, False, False),
        ("rest[0].high", 4, 1, 5, False, False),
        ("rest[0].bytes", 5, 3, 24, False, False),
        ("rest[1].low", 8, 1, 3, False, False),
        ("rest[1].high", 8, 1, 5, False, False),
        ("rest[1].bytes", 9, 3, 24, False, False),
        ("pad0", 12, 6, 48, False, True),
    ]


@pytest.mark.parametrize("known", TYPES, ids=lambda known: known.name)
def test_leaves_hold_every_byte(known: RecordType) -> None:
    end = 0
    for leaf in known.layout.leaves():
        assert leaf.offset <= end or leaf.alternate
        end = max(end, leaf.offset + leaf.size)
    assert end == known.size


def test_a_union_whose_first_member_is_not_its_largest() -> None:
    class either(Union):
        _fields_ = [("small", c_uint8 * 2), ("large", c_uint32)]

    class pair(LittleEndianStructure):
        _fields_ = [("both", either * 2), ("end", c_uint16)]

    layout = Layout.of(pair)
    assert layout.format == "<2s2x2s2xH2x" and struct.calcsize(layout.format) == layout.size
    body = bytes(range(layout.size))
    assert layout.decode(body) == {
        "both": [{"small": b"\0\1"}, {"small": b"\4\5"}], "end": 0x0908,
    }  # fmt: skip


def test_misfit() -> None:
    assert misfit("x", 255, 8) == misfit("x", -128, 8, signed=True) == ""
    assert misfit("x", 256, 8) == "x is an 8-bit field: 0x100 does not fit"
    assert misfit("x", 128, 8, signed=True) == "x is a signed 8-bit field: 0x80 does not fit"
    assert misfit("x", None, 8) == "x is an 8-bit field: None does not fit"
    assert misfit("x", -1, 8, text="-1") == "x is an 8-bit field: -1 does not fit"


def test_paths() -> None:
    assert list(LAYOUT.paths()) == [
        "word", "pairs[0]", "pairs[1]",
        "inners[0].low", "inners[0].high", "inners[0].bytes",
        "inners[1].low", "inners[1].high", "inners[1].bytes",
        "signed",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("word", 0x01020304),
        ("pairs[0x1]", 0x0C0D),
        ("inners[1].high", 4),
        ("inners[0].bytes", b"\1\2\3"),
        ("inners[0].bytes[2]", 3),
        ("inners[0].bytes[1:+2]", 0x0302),
        ("signed", -2),
    ],
)
def test_locate(path: str, value: object) -> None:
    assert LAYOUT.locate(path).get(BODY) == value


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("nothing", "no field 'nothing'"),
        ("", "no field ''"),
        ("word.x", "has no fields"),
        ("word[0]", "is not an array"),
        ("pairs", r"array of 2: add \[n\]"),
        ("pairs[2]", "beyond the last, 0x1"),
        ("pairs[-1]", "beyond the last"),
        (f"pairs[0x{'f' * 5000}]", r"index 0xf{22}\.\.\. is beyond the last"),
        (f"pairs[-0x{'f' * 5000}]", r"index -0xf{21}\.\.\. is beyond the last"),
        (f"pairs[{'9' * 5000}]", "not an index"),
        ("pairs[x]", "not an index"),
        ("pairs[0", "without"),
        ("inners[0]", "expected one of its fields: low, high, bytes"),
        ("inners[0].bytes[0:+3]", "1, 2, 4 or 8 bytes"),
        ("inners[0].bytes[2:+2]", "within the array"),
    ],
)
def test_paths_that_name_nothing(path: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        LAYOUT.locate(path)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"word": 1 << 32}, "word is a 32-bit field: 0x100000000 does not fit"),
        ({"word": -1}, "does not fit"),
        ({"word": 1 << 20000}, r"0x10{21}\.\.\. does not fit"),
        ({"word": "1"}, "takes a number"),
        ({"signed": 1 << 63}, "signed 64-bit field"),
        ({"nothing": 0}, "nothing: unknown field"),
        ({"pairs": [1]}, "takes 2 values"),
        ({"pairs": 1}, "takes 2 values"),
        ({"pairs": [1, 1 << 16]}, r"pairs\[1\] is a 16-bit field"),
        ({"inners": [{}, {"low": 8}]}, r"inners\[1\].low is a 3-bit field"),
        ({"inners": [{}, {"bytes": b"1"}]}, "exactly 3 bytes"),
        ({"inners": [{}, 5]}, "found int, expected fields"),
    ],
)
def test_values_that_do_not_fit(values: dict[str, object], reason: str) -> None:
    with pytest.raises(FieldError, match=reason):
        LAYOUT.encode(values)


def test_left_out_fields_are_zero() -> None:
    assert LAYOUT.encode({"word": 1}) == b"\1" + bytes(sizeof(outer) - 1)


def test_bytes_slot_takes_bytes_only() -> None:
    slot = Slot("x", 0, 4, "s")
    with pytest.raises(FieldError, match="exactly 4 bytes"):
        slot.put(bytearray(4), 5)


def test_layouts_of_many_sizes_do_not_pile_up() -> None:
    for count in range(600):
        Layout.of(
            type("sized", (LittleEndianStructure,), {"_fields_": [("x", c_uint8 * (count + 1))]})
        )
    assert len(Layout._cache) <= 257
