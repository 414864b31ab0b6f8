"""Paths are one language: whatever `diff` prints can be got, set, added and removed by."""

from __future__ import annotations

import io
import json
import struct

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.context.vmport import Buffer, Slots, VmportState, to_record
from hvmctx.edit.diff import Difference, diff
from hvmctx.edit.editor import Editor, edit
from hvmctx.errors import HvmctxError
from hvmctx.image.image import open_image
from hvmctx.stream.qemu import DeviceModelState, recognise
from hvmctx.stream.qemu_devices import RpcKey, VmportRpc
from tests.builders.contexts import msrs, xsave
from tests.builders.emulators import MOUSE, qemu
from tests.builders.samples import context_bytes
from tests.builders.streams import (
    libxc_head,
    libxl_head,
    page_data,
    record,
    word,
    xl_head,
)

CONFIG = {
    "c_info": {"name": "one", "uuid": "u", "a.b": 1, "type": "hvm"},
    "b_info": {"max_vcpus": 1, "flag": True, "none": None, "sched": {}},
    "disks": [{"path": "a"}, {"path": "b"}],
}


def xl(config: object, *records: bytes, after: bytes = b"") -> bytes:
    text = json.dumps(config, indent=4).encode() + b"\0"
    optional = len(text).to_bytes(4, "little") + text
    head = xl_head(optional) + libxl_head() + record(1) + libxc_head()
    return head + b"".join(records) + record(0) + after + record(0)


def cpuid(*rows: tuple[int, ...]) -> bytes:
    return record(17, b"".join(struct.pack("<6I", *row) for row in rows))


def msr(*rows: tuple[int, int, int]) -> bytes:
    return record(18, b"".join(struct.pack("<IIQ", *row) for row in rows))


def params(*rows: tuple[int, int]) -> bytes:
    body = struct.pack("<II", len(rows), 0)
    return record(10, body + b"".join(struct.pack("<QQ", *row) for row in rows))


def state(*pairs: tuple[bytes, bytes], received: bytes = b"") -> VmportState:
    made = VmportState.empty()
    made.guestinfo = Slots(pairs)
    made.channels[1].recv[0] = Buffer(received)
    return made


def context(*records: Record, tail: bytes = b"") -> bytes:
    return HvmContext([Record("HEADER", 0, bytes(24)), *records, Record("END", 0)], tail).to_bytes()


def apply(editor: Editor, found: list[Difference], other: Editor) -> None:
    """What somebody does who has read the differences, one after the other."""
    for difference in found:
        path = difference.path
        if difference.after is None:
            if _is_there(editor, path):  # not gone with one before
                editor.remove(path)
        else:
            editor.set(path, other.get(path), add=True)


def _is_there(editor: Editor, path: str) -> bool:
    try:
        editor.get(path)
    except HvmctxError:
        return False
    return True


def followed(one: bytes, other: bytes) -> bytes:
    """The one with every difference from the other set by its path; each can be got where it
    exists."""
    with open_image(one) as left, open_image(other) as right:
        found = list(diff(left, right, memory=True))
        mine, theirs = edit(left), edit(right)
        for difference in found:
            for value, editor in ((difference.before, mine), (difference.after, theirs)):
                if value is not None:
                    editor.get(difference.path)
        apply(mine, found, theirs)
        out = io.BytesIO()
        mine.write(out)
    return out.getvalue()


def differences(one: bytes, other: bytes) -> list[str]:
    with open_image(one) as left, open_image(other) as right:
        return [str(difference) for difference in diff(left, right, memory=True)]


TSC = record(8, struct.pack("<IIQII", 1, 2, 3, 4, 0))
BASE = (
    cpuid((1, 0xFFFFFFFF, 1, 2, 3, 4), (7, 0, 5, 6, 7, 8)), msr((0xCE, 0, 1)), record(16),
    page_data(word(0), word(1), fill=1), TSC, record(9, context_bytes()),
    params((1, 5), (17, 6)),
)  # fmt: skip


def _replaced(at: int, *made: bytes) -> tuple[bytes, ...]:
    return (*BASE[:at], *made, *BASE[at + 1 :])


def _config(**change: object) -> object:
    return {**CONFIG, **change}


IDE = "0000:00:01.1/ide"


def model(payload: bytes, emulator: int = 2) -> bytes:
    return xl(CONFIG, *BASE, after=record(3, struct.pack("<II", emulator, 0) + payload))


def rpc(*pairs: tuple[bytes, bytes]) -> bytes:
    """QEMU's file with guestinfo alone."""
    keys = [RpcKey(key, value) for key, value in pairs]
    return qemu(("vmport_rpc", VmportRpc(1, 2, 3, 4, 5, guestinfo=keys).to_bytes()))


MOUSE_DATA = next(
    each.data
    for each in (recognise(MOUSE) or DeviceModelState(3)).sections
    if each.name == "vmmouse"
)

PAIRS: dict[str, tuple[bytes, bytes]] = {
    "configuration": (
        xl(CONFIG, *BASE),
        xl(
            {
                "c_info": {"name": 'other "name"', "uuid": "u", "a.b": 2, "new": {"deep": [1]}},
                "b_info": {"max_vcpus": 8, "flag": False, "sched": {"x": 1}},
                "disks": [],
                "nics": [{"mac": "00"}, 7],
            },
            *BASE,
        ),
    ),
    "configuration without indents": (
        xl(_config(disks=[]), *BASE), xl(_config(disks=[1, 2, {"a": None}]), *BASE),
    ),
    "header": (xl(CONFIG, *BASE), xl(CONFIG, *BASE).replace(
        struct.pack("<HHII", 12, 0, 4, 17), struct.pack("<HHII", 12, 0, 4, 18))),
    "time stamp counter": (xl(CONFIG, *BASE), xl(CONFIG, *_replaced(4, record(8, bytes(24))))),
    "no time stamp counter": (xl(CONFIG, *BASE), xl(CONFIG, *_replaced(4))),
    "policies": (xl(CONFIG, *BASE), xl(CONFIG, *_replaced(
        0, cpuid((1, 0xFFFFFFFF, 9, 2, 3, 5), (7, 1, 5, 6, 7, 8), (0xD, 0, 1, 1, 1, 1))))),
    "no policies": (xl(CONFIG, *BASE), xl(CONFIG, *BASE[2:])),
    "policy": (xl(CONFIG, *BASE), xl(CONFIG, *_replaced(1, msr((0xCE, 3, 7), (0x10A, 0, 9))))),
    "parameters": (xl(CONFIG, *BASE), xl(CONFIG, *_replaced(6, params((1, 7), (9, 1), (99, 4))))),
    "no parameters": (xl(CONFIG, *BASE), xl(CONFIG, *_replaced(6))),
    "other records": (
        xl(CONFIG, *BASE, record(7, bytes(4096)), record(0x80000055, b"abcd")),
        xl(CONFIG, *BASE, record(7, bytes(9) + b"x" * 10 + bytes(4077)),
           record(0x80000055, b"abc"), record(0x80000056, b"new")),
    ),
    "the device model": (
        xl(CONFIG, *BASE, after=record(3, struct.pack("<II", 2, 0) + b"abcdefgh")),
        xl(CONFIG, *BASE, after=record(2, bytes(8) + b"k\0v\0")
           + record(3, struct.pack("<II", 1, 0) + b"abcdEfgh")),
    ),
    "sections of QEMU's file": (
        model(qemu(("cpu", bytes(9)), ("cpu/1", bytes(9)), (IDE, b"abcd"), ("gone", b"x"))),
        model(qemu(("cpu", b"x" * 9), ("new", b"x"), ("cpu/1", b"y" * 12), (IDE, b"XbcX"))),
    ),
    "sections of the same heads": (
        model(qemu(("cpu", bytes(9)), ("cpu/1", bytes(9)), ("index", b"abcd")), emulator=1),
        model(qemu(("cpu", b"x" * 9), ("cpu/1", b"y" * 9), ("index", b"XbcX"))),
    ),
    "sections in another order": (
        model(qemu(("cpu", bytes(9)), (IDE, bytes(9)))),
        model(qemu((IDE, b"x" * 9), ("cpu", b"y" * 9))),
    ),
    "sections with fields": (
        model(MOUSE),
        model(MOUSE.replace(MOUSE_DATA, bytes([1]) + MOUSE_DATA[1:-1] + b"\1")),
    ),
    "guestinfo of QEMU's": (model(rpc((b"a\0", b"1"))), model(rpc((b"b\0", b"22"), (b"c\0", b"")))),
    "guestinfo of QEMU's, as long": (
        model(rpc((b"a\0", b"123"), (b"b\0", b"4"))), model(rpc((b"a\0", b"1"), (b"b\0", b"423"))),
    ),
    "pages": (
        xl(CONFIG, *_replaced(3, page_data(*map(word, range(6)), fill=1))),
        xl(CONFIG, *_replaced(3, page_data(word(0), word(1), fill=1),
                              page_data(word(2), word(3), word(4), fill=7),
                              page_data(word(5), fill=6))),
    ),
    "contents of memory": (
        xl(CONFIG, *BASE), xl(CONFIG, *_replaced(3, page_data(word(0), word(1), fill=7))),
    ),
    "no context": (xl(CONFIG, *BASE), xl(CONFIG, *_replaced(5))),
    "a context's records": (
        context(Record("CPU", 0, bytes(1032)), Record("LAPIC", 0, bytes(24))),
        context(Record("CPU", 0, bytes(range(256)) * 4 + bytes(8)), Record("CPU", 1, bytes(1032)),
                Record("LAPIC", 0, bytes(32)), Record("TSC_ADJUST", 0, bytes(8))),
    ),
    "old processors": (
        context(Record("CPU", 0, bytes(range(254)) * 4), Record("CPU", 1, bytes(1024))),
        context(Record("CPU", 0, bytes(range(1, 255)) * 4 + bytes(16)),
                Record("CPU", 1, bytes(1032))),
    ),
    "variable parts": (
        context(Record("CPU_XSAVE", 0, xsave(3, bytes(100))),
                Record("CPU_MSR", 0, msrs((0x48, 0, 1), (0x49, 0, 2))), Record(99, 1, b"abcdef")),
        context(Record("CPU_XSAVE", 0, xsave(7, b"x" * 90)),
                Record("CPU_MSR", 0, msrs((0x48, 0, 1), (0x4A, 0, 2))), Record(99, 1, b"abXdeY")),
    ),
    "longer than their structures": (
        context(Record("RTC", 0, bytes(30)), Record("PIC", 1, bytes(8))),
        context(Record("RTC", 0, bytes(25) + b"abc\0\0"), Record("PIC", 1, b"\xff" * 8)),
    ),
    "records that are there again": (
        context(*(Record("TSC_ADJUST", 0, bytes([n]) * 8) for n in range(2))),
        context(*(Record("TSC_ADJUST", 0, bytes([n + 5]) * 8) for n in range(3))),
    ),
    "another order": (
        context(Record("PIC", 0, bytes(8)), Record("PIC", 1, bytes(8))),
        context(Record("PIC", 1, bytes(8)), Record("PIC", 0, bytes(8))),
    ),
    "what follows END": (context(tail=b"abc"), context(tail=b"abXdef")),
    "guestinfo": (
        context(to_record(state((b"a", b"1"), (b"gone", b"x"), (b"twice", b"1")))),
        context(to_record(state((b"a", b"longer"), (b'q"uo.te]', b"\xff"), (b"twice", b"2")))),
    ),
    "buffers": (
        context(to_record(state((b"a", b"1"), received=b"abcd"))),
        context(to_record(state((b"a", b"1"), received=b"aXcd"))),
    ),
    "packed otherwise": (
        context(to_record(state((b"a", b"12"), received=b"abcd"))),
        context(to_record(state((b"a", b"1234"), received=b"ab"))),
    ),
    "no VMPORT": (context(to_record(state((b"a", b"1")))), context()),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("back", [False, True])
def test_whatever_differs_can_be_set_by_its_path(name: str, back: bool) -> None:
    one, other = reversed(PAIRS[name]) if back else PAIRS[name]
    assert differences(one, other)
    assert differences(followed(one, other), other) == []


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 99),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=5,
)
"""Without text, which any value in text would be where there was some before."""
_U32, _U64 = st.integers(0, 0xFFFFFFFF), st.integers(0, (1 << 64) - 1)
_BYTES = st.sampled_from([8, 24, 32]).flatmap(lambda n: st.binary(min_size=n, max_size=n))


_NAMES = st.sampled_from(["cpu", "cpu/1", IDE, 'q"uo.te', "index"])
_FILES = st.binary(min_size=5, max_size=5) | st.lists(
    st.tuples(_NAMES, st.binary(max_size=3)), max_size=3
).map(lambda sections: qemu(*sections))


@st.composite
def _images(draw: st.DrawFn) -> bytes:
    """In every part any values, any rows, any records."""
    leaves = draw(st.sets(st.sampled_from([(1, 0xFFFFFFFF), (7, 0), (7, 1)]), min_size=1))
    numbers = draw(st.sets(st.sampled_from([0xCE, 0x10A]), min_size=1))
    values = draw(st.dictionaries(st.sampled_from([1, 9, 98]), _U64))
    records = [
        Record(kind, 0, draw(_BYTES))
        for kind in ("PIC", "LAPIC", "TSC_ADJUST", "CPU_MSR", "TSC_ADJUST")
        if draw(st.booleans())
    ]
    pairs = draw(st.dictionaries(st.binary(min_size=1, max_size=2), st.binary(max_size=3)))
    guestinfo = [to_record(state(*pairs.items(), received=draw(st.binary(max_size=2))))]
    made = HvmContext([Record("HEADER", 0, bytes(24)), Record("END", 0)])
    for one in (*records, *(guestinfo if pairs else ())):
        made.add(one)
    return xl(
        {"text": draw(st.text(max_size=3)), "b.c": draw(_VALUES)},
        cpuid(*((*key, *draw(st.tuples(*[_U32] * 4))) for key in sorted(leaves))),
        msr(*((number, draw(_U32), draw(_U64)) for number in sorted(numbers))),
        record(16), page_data(word(0), fill=draw(st.integers(0, 2))),
        record(8, struct.pack("<IIQII", *draw(st.tuples(_U32, _U32, _U64, _U32)), 0)),
        record(9, made.to_bytes()), params(*values.items()),
        after=record(3, struct.pack("<II", 2, 0) + draw(_FILES)),
    )  # fmt: skip


@settings(max_examples=30, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(_images(), _images())
def test_any_two_images(one: bytes, other: bytes) -> None:
    assert differences(followed(one, other), other) == []
