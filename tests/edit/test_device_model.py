"""Sections of QEMU's file: their paths, and what differs in them."""

from __future__ import annotations

import struct

import pytest

from hvmctx.edit.diff import diff
from hvmctx.edit.editor import edit
from hvmctx.errors import FieldError, UsageError
from hvmctx.image.image import open_image
from hvmctx.stream.qemu import recognise
from tests.builders.emulators import MOUSE, qemu
from tests.builders.streams import CONTEXT, libxc_head, libxl_head, record


def with_file(payload: bytes, emulator: int = 2) -> bytes:
    """A libxl stream with that device model's file."""
    head = libxl_head() + record(1) + libxc_head() + CONTEXT + record(0)
    return head + record(3, struct.pack("<II", emulator, 0) + payload) + record(0)


def lines(one: bytes, other: bytes) -> list[str]:
    with open_image(with_file(one)) as left, open_image(with_file(other)) as right:
        return [str(each) for each in diff(left, right)]


IDE = "0000:00:01.1/ide"
BASE = qemu(("cpu", bytes(40)), ("cpu/1", bytes(40)), (IDE, b"abcd"), ("dma", b"\1\2"))


def test_a_line_a_section() -> None:
    cpu = bytearray(40)
    for at in range(3, 33, 6):
        cpu[at] = at
    other = qemu(("cpu", bytes(40)), ("cpu/1", bytes(cpu)), (IDE, b"aXcd"), ("dma", b"\1\2"))
    assert lines(BASE, other) == [
        f"EMULATOR_CONTEXT/0.cpu/1[0x3:+25]: {'00' * 25} -> {cpu[3:28].hex()} (5 bytes differ)",
        f'EMULATOR_CONTEXT/0["{IDE}"][0x1:+1]: 0x62 -> 0x58',
    ]


def test_sections_that_only_one_has() -> None:
    other = qemu(("dma", b"\1\2"), ("cpu", bytes(41)), ("fdc", b"x"))
    assert lines(BASE, other) == [
        f"EMULATOR_CONTEXT/0: {len(BASE) + 8} bytes -> {len(other) + 8} bytes",
        "EMULATOR_CONTEXT/0.cpu: 40 bytes -> 41 bytes",
        "EMULATOR_CONTEXT/0.cpu/1: only in the first: 40 bytes",
        f'EMULATOR_CONTEXT/0["{IDE}"]: only in the first: 4 bytes',
        "EMULATOR_CONTEXT/0.fdc: only in the second: 1 bytes",
    ]


def test_another_order_and_another_version() -> None:
    one, other = (("one", b"12"), ("two", b"34")), (("two", b"34"), ("one", b"12"))
    size = len(qemu(*one)) + 8
    whole = f"EMULATOR_CONTEXT/0: {size} bytes -> {size} bytes, packed otherwise"
    assert lines(qemu(*one), qemu(*other)) == [whole]
    assert lines(qemu(("one", b"1")), qemu(("one", b"2"), version=2))[1:] == [
        "EMULATOR_CONTEXT/0.one: 1 bytes, version 1 -> 1 bytes, version 2"
    ]


def test_fields_of_a_section() -> None:
    """Of a genuine file."""
    with open_image(with_file(MOUSE)) as image:
        editor = edit(image)
        editor.set("EMULATOR_CONTEXT.vmmouse.status", 7)
        other = bytes(editor.take("emulator"))
    assert lines(MOUSE, other) == ["EMULATOR_CONTEXT/0.vmmouse.status: 0xffff -> 0x7"]


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        (b"abcd" * 9, b"abXd" + b"abcd" * 8, ["EMULATOR_CONTEXT/0[0xa:+1]: 0x63 -> 0x58"]),
        (  # two of a name
            qemu(("one", b"1"), ("one", b"2")), qemu(("one", b"1"), ("one", b"3")),
            ["EMULATOR_CONTEXT/0[0x33:+1]: 0x32 -> 0x33"],
        ),
        (  # not in any section
            qemu(("one", b"1")), qemu(("one", b"1"))[:7] + b"\4" + qemu(("one", b"1"))[8:],
            ["EMULATOR_CONTEXT/0[0xf:+1]: 0x3 -> 0x4"],
        ),
    ],
)  # fmt: skip
def test_bytes_of_other_files(one: bytes, other: bytes, found: list[str]) -> None:
    assert lines(one, other) == found


def test_the_records_own_numbers() -> None:
    with (
        open_image(with_file(BASE)) as left,
        open_image(with_file(BASE[:-1] + b"\7", emulator=3)) as right,
    ):
        assert [str(each) for each in diff(left, right)] == [
            "EMULATOR_CONTEXT/0[0x0:+1]: 0x2 -> 0x3", "EMULATOR_CONTEXT/0.dma[0x1:+1]: 0x2 -> 0x7",
        ]  # fmt: skip


def test_a_section_can_be_got_and_set() -> None:
    with open_image(with_file(BASE)) as image:
        editor = edit(image)
        quoted = f'EMULATOR_CONTEXT["{IDE}"]'
        assert editor.get(quoted) == b"abcd" and editor.get("emulator_context.dma") == b"\1\2"
        assert editor.get(f"{quoted}[0x1:+2]") == 0x6362
        editor.set(f"{quoted}[0x1:+2]", "0x5958")
        editor.set("EMULATOR_CONTEXT/0.cpu/1", b"longer" * 20)
        state = recognise(bytes(editor.take("emulator")))
        assert state is not None
        assert [each.data for each in state.sections] == [
            bytes(40), b"longer" * 20, b"aXYd", b"\1\2",
        ]  # fmt: skip
        for path in ("none", "cpu/2", "dma.x", 'dma"', '["dma', "dma/x", "dma[0x1:+2]"):
            with pytest.raises(UsageError):
                editor.get(
                    f"EMULATOR_CONTEXT.{path}" if path[0] != "[" else f"EMULATOR_CONTEXT{path}"
                )
        with pytest.raises(FieldError):
            editor.set("EMULATOR_CONTEXT.dma", 5)
        with pytest.raises(UsageError):
            editor.remove("EMULATOR_CONTEXT.dma")
