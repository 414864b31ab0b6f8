from __future__ import annotations

import json
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hvmctx.image.image import open_image
from hvmctx.stream import qemu
from tests.builders.samples import DATA, EXAMPLE


def section(number: int, name: str, version: int = 1, data: bytes = b"", kind: int = 4) -> bytes:
    head = struct.pack(">BIB", kind, number, len(name)) + name.encode()
    return head + struct.pack(">II", 0, version) + data


def test_genuine_device_model_of_xen() -> None:
    with open_image(EXAMPLE) as image:
        state = image.emulators[0].device_model()
    assert state is not None and state.version == 3 and state.machine is None
    names = [one.name for one in state.sections]
    assert names[:3] == ["timer", "cpu_common", "cpu"]
    assert "0000:00:02.0/platform" in names and names.count("dma") == 2


@pytest.mark.parametrize("name", ["pc-stopped", "pc-vmport"])
def test_genuine_files(name: str) -> None:
    state = qemu.recognise((DATA / "qemu" / f"{name}.xendev").read_bytes())
    assert state is not None
    names = [one.name for one in state.sections]
    assert names[0] == "timer" and names[-1] == "globalstate"
    assert ("vmmouse" in names) == (name == "pc-vmport")
    assert [one.section_id for one in state.sections] == sorted(
        {s.section_id for s in state.sections}
    )


def test_configuration_and_description() -> None:
    description = json.dumps({"page_size": 4096, "devices": []}).encode()
    data = (
        b"QEVM" + struct.pack(">I", 3) + b"\7" + struct.pack(">I", 9) + b"pc-i440fx"
        + section(2, "ram", 4, kind=1) + section(5, "timer", 2, b"\0" * 24) + b"\0"
        + b"\6" + struct.pack(">I", len(description)) + description
    )  # fmt: skip
    state = qemu.recognise(data)
    assert state is not None
    assert state.machine == "pc-i440fx"
    assert state.description == {"page_size": 4096, "devices": []}
    assert [(s.name, s.version, s.section_id) for s in state.sections] == [
        ("ram", 4, 2), ("timer", 2, 5),
    ]  # fmt: skip
    assert data[state.sections[1].offset] == 4


def test_description_that_is_no_json() -> None:
    broken = b"QEVM\0\0\0\3\0\6\0\0\0\2{x"
    state = qemu.recognise(broken)
    assert state is not None and (state.start, state.sections, state.end) == (broken, [], b"")
    deep = b'{"a":' + b"[" * 100000
    data = b"QEVM\0\0\0\3\0\6" + struct.pack(">I", len(deep)) + deep
    state = qemu.recognise(data)
    assert state is not None and state.description is None


@given(st.binary(max_size=300))
@example(b"")
@example(b"\7\xff\xff\xff\xff")
@example(b"\4\0\0\0\1\xff" + b"a" * 20)
def test_any_payload(tail: bytes) -> None:
    assert qemu.recognise(tail) is None or tail.startswith(b"QEVM")
    state = qemu.recognise(b"QEVM\0\0\0\3" + tail)
    assert state is not None and state.version == 3
    assert state.to_bytes() == b"QEVM\0\0\0\3" + tail
    for one in state.sections:
        assert one.name.isprintable()


def test_a_description_longer_than_any() -> None:
    """It would take hundreds of megabytes; the bytes are kept as they are."""
    for size, known in ((1 << 20, True), (5 << 20, False)):
        text = b'{"a": "' + b"x" * size + b'"}'
        data = qemu.MAGIC + bytes((0, 0, 0, 3, 0, 6)) + struct.pack(">I", len(text)) + text
        state = qemu.recognise(data)
        assert state is not None and (state.description is not None) == known
        assert state.to_bytes() == data
