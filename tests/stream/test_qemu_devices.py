"""The sections of VMware's port."""

from __future__ import annotations

import json
import struct

from hypothesis import given
from hypothesis import strategies as st

from hvmctx.stream import qemu
from hvmctx.stream.qemu_devices import DEVICES, VmMouse, device_of
from tests.builders.emulators import rpc
from tests.builders.samples import DATA

MOUSE = (DATA / "qemu" / "pc-vmport.xendev").read_bytes()


def test_the_mouse_of_a_genuine_file() -> None:
    state = qemu.recognise(MOUSE)
    assert state is not None
    section = state.section("vmmouse")
    assert section is not None and section.footer and len(section.data) == 4105
    mouse = device_of(section)
    assert isinstance(mouse, VmMouse)
    assert (mouse.queue_size, mouse.nb_queue, mouse.status) == (1024, 0, 0xFFFF)
    assert [each.name for each in state.sections if device_of(each)] == ["vmmouse"]


def test_the_rpc_device() -> None:
    data = rpc().to_bytes()
    assert data[:36] == struct.pack(">QQQQI", 14, 341836, 9, 123456, 7)
    assert data[36:40] == b"\0\0\0\1" and data[40:68] == struct.pack(
        ">QIIIHHHBB", 77, 3, 0xC0FFEE, 0x49435052, 9, 2, 4, 0, 1
    )
    assert data[68:78] == b"\0\0\0\4" + struct.pack(">HHH", 6, 1, 2)
    assert data.endswith(b"\2k\0\0\0\0\x40" + bytes(64) + b"\0")
    section = qemu.Section("vmport_rpc", 0, 1, 5, 0, data=data)
    assert device_of(section) == rpc()
    form = DEVICES["vmport_rpc", 1][1]
    assert form.read(json.loads(json.dumps(form.write(rpc()))), "") == rpc()
    for odd in (data[:-1], data + b"\0", data[:40]):
        section.data = odd
        assert device_of(section) is None
    section.data, section.version = data, 2
    assert device_of(section) is None


def test_the_names_are_known_to_who_looks_for_sections() -> None:
    assert {name for name, _ in DEVICES} == qemu.WITH_FIELDS


@given(st.sampled_from(list(DEVICES)), st.binary(max_size=200), st.booleans())
def test_any_data(key: tuple[str, int], data: bytes, start: bool) -> None:
    section = qemu.Section(key[0], 0, key[1], 5, 0, data=rpc().to_bytes()[:60] * start + data)
    device = device_of(section)
    assert device is None or device.to_bytes() == section.data
