"""What is private goes, what a restore decides by stays."""

from __future__ import annotations

import doctest
import io
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi import streams
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.context.vmport import VmportState, to_record
from hvmctx.edit import redact
from hvmctx.edit.diff import diff
from hvmctx.edit.editor import edit
from hvmctx.edit.redact import Redactor, masked
from hvmctx.edit.strip import strip
from hvmctx.errors import LengthError
from hvmctx.image.image import open_image
from hvmctx.restore.image import would_restore
from hvmctx.stream.qemu import DeviceModelState, Section
from tests.builders.emulators import MOUSE, rpc, with_model
from tests.builders.samples import EXAMPLE, IMAGES, context_bytes
from tests.builders.streams import VCPU0, libxc_head, libxl_head, pv, record, xl_head
from tests.builders.vmport import busy_state
from tests.builders.wrappers import SWTPM, VARSTORED, WRAPPED

SECRETS = (
    "hvm-customer", "3e5e5ef5-72ee-4468-8835-90bbbbc93959", "hunter2", "/dev/vg/customer",
    "00:16:3e:aa:bb:cc", "192.168.1.17", "10.0.0.1", "bridge-customer", "4711",
)  # fmt: skip
CONFIG: dict[str, Any] = {
    "c_info": {"type": "hvm", "name": SECRETS[0], "uuid": SECRETS[1]},
    "b_info": {
        "max_vcpus": 1, "device_model_version": "qemu_xen",
        "type.hvm": {"vnc": {"enable": "True", "passwd": SECRETS[2], "listen": SECRETS[5]},
                     "spice": {"passwd": SECRETS[8], "port": 5900}},
    },
    "disks": [{"pdev_path": SECRETS[3], "vdev": "xvda", "format": "raw", "readwrite": 1}],
    "nics": [{"mac": SECRETS[4], "bridge": SECRETS[7], "nictype": "vif_ioemu"}],
}  # fmt: skip


def redacted(data: Any, **how: Any) -> tuple[bytes, Redactor]:
    out, redactor = io.BytesIO(), Redactor(**how)
    strip(data, out, redactor=redactor)
    return out.getvalue(), redactor


def private() -> bytes:
    """An xl file with something private in every part."""
    text = json.dumps(CONFIG, indent=4).encode() + b"\0"
    context = HvmContext.from_bytes(context_bytes())
    context.add(to_record(busy_state()))
    context.add(Record(99, 0, b"hunter2"))
    context.tail = b"hunter2"
    xenstore = struct.pack("<II", 2, 0) + b"customer/ip\0" + b"192.168.1.17\0"
    return b"".join((
        xl_head(len(text).to_bytes(4, "little") + text + b"hunter2"), libxl_head(), record(1),
        libxc_head(), record(16), record(0x80000055, b"hunter2", pad=b"h"), record(8, bytes(24)),
        record(streams.LIBXC_TOOLSTACK, b"hunter2!"), record(9, context.to_bytes()),
        record(10, struct.pack("<II2Q", 1, 0, 17, 5)), record(0), record(2, xenstore),
        record(3, struct.pack("<II", 2, 0) + b"hunter2 of an unknown device model"), record(0),
    ))  # fmt: skip


def test_nothing_private_stays() -> None:
    data = private()
    made, redactor = redacted(data)
    for secret in (*SECRETS, "hunter2", "customer"):
        assert secret.encode() in data and secret.encode() not in made, secret
    assert redactor.done == {
        "values of the configuration": 8, "bodies of type 0x80000055 records": 1,
        "bodies of TOOLSTACK records": 1, "values of guestinfo": 3, "bodies of type 99 records": 1,
        "tails of contexts": 1, "strings of xenstore": 2, "device models' files": 1,
    }  # fmt: skip
    with open_image(made) as image:
        assert image.complete and not image.problems
        assert [note.kind for note in image.notes] == ["optional"], "no padding"
        config: Any = image.config
        assert config["c_info"] == {
            "type": "hvm", "name": "redacted", "uuid": "00000000-0000-0000-0000-000000000000",
        }  # fmt: skip
        assert config["b_info"]["type.hvm"]["spice"] == {"passwd": "redacted", "port": 5900}
        assert config["disks"][0] == {**CONFIG["disks"][0], "pdev_path": "redacted"}
        record_ = image.context.records("VMPORT")[0]
        state = VmportState.from_bytes(record_.body)
        assert state.guestinfo.pairs[0] == (b"guestinfo.ip", b"xxxxxxxx"), "keys stay"
        assert state.channels[0].send.data == b"x" * 6
        assert bytes(edit(image).take("record:EMULATOR_XENSTORE_DATA"))[8:] == (
            b"xxxxxxxx/xx\0xxxxxxxxxxxx\0"
        )


@pytest.mark.parametrize("path", [EXAMPLE, *IMAGES], ids=lambda path: path.stem)
@pytest.mark.parametrize("registers", [False, True])
def test_verdicts_stay(path: Any, registers: bool) -> None:
    made, redactor = redacted(path, registers=registers)
    assert ("registers" in redactor.kept) != registers
    with open_image(path) as image, open_image(made) as other:
        for release in ("4.13", "4.17", "4.20", "newest"):
            one, two = would_restore(image, release), would_restore(other, release)
            assert (one.verdict, one.rule) == (two.verdict, two.rule)
        paths = [difference.path for difference in diff(image, other)]
        allowed = ("config.", "CPU/", "CPU_XSAVE/") if registers else ("config.",)
        assert all(path.startswith(allowed) or ".type" in path for path in paths), paths
        if registers:
            cpu = other.context.vcpus[0].cpu
            assert cpu.rip == cpu.rax == 0 and cpu.cr0 == image.context.vcpus[0].cpu.cr0


def test_again_nothing_more_goes() -> None:
    made, _ = redacted(private(), registers=True)
    assert redacted(made, registers=True)[0] == made
    again, redactor = redacted(made)
    assert again == made and "values of the configuration" not in redactor.done


def test_the_wrappers_of_other_toolstacks() -> None:
    for wrapper, words in (("libvirt", b"web one"), ("xapi", b"web one")):
        data = WRAPPED[wrapper]
        made, redactor = redacted(data)
        assert words in data and words not in made and b"434d1235" not in made
        assert redactor.done["values of the configuration"] >= 2
        with open_image(made) as image:
            assert image.complete and not image.problems
            config: Any = image.config
            assert config["c_info"]["name"] == "redacted" and config["b_info"]["max_vcpus"] == 2
    assert VARSTORED not in made and SWTPM not in made
    with open_image(made) as image:
        editor = edit(image)
        assert not any(editor.take("varstored")) and not any(editor.take("swtpm"))
        assert editor.get("XENOPS.vm.platformdata.featureset") == "17cbfbff-f7fa3223"


def test_names_that_a_guest_chose() -> None:
    """XAPI copies what a guest has in xenstore, names included, into what describes it."""
    with open_image(WRAPPED["xapi"]) as image:
        editor = edit(image)
        text = bytes(editor.take("xenops"))
        own = rb"(xsdata((vm-data \"\")(vm-data/hunter2 1)(vm-data/hunter3 2)))"
        text = text.replace(rb"(xsdata((vm-data \"\")))", own)
        text = text.replace(b"(xs_subtree())", b"(xs_subtree((/data/hunter2 x)))")
        editor.put("xenops", text)
        out = io.BytesIO()
        editor.write(out)
    assert out.getvalue().count(b"hunter2") == 2
    made, _ = redacted(out.getvalue())
    assert b"hunter2" not in made and b"hunter3" not in made
    assert rb"(xsdata((vm-data \"\")(redacted 1)(redacted 2)))" in made
    assert redacted(made)[0] == made


def test_comments_of_xml() -> None:
    with open_image(WRAPPED["libvirt"]) as image:
        editor = edit(image)
        editor.put("xml", bytes(editor.take("xml")).replace(b"<os>", b"<!-- hunter2 --><os>"))
        out = io.BytesIO()
        editor.write(out)
    assert b"hunter2" in out.getvalue() and b"hunter2" not in redacted(out.getvalue())[0]


@pytest.mark.parametrize("text", [b"{", b"name = 'hunter2'\n", b"[" * 5000, b"\xff"])
def test_what_cannot_be_read_goes(text: bytes) -> None:
    optional = len(text).to_bytes(4, "little") + text
    data = xl_head(optional) + libxl_head() + record(1) + libxc_head() + record(0) + record(0)
    made, redactor = redacted(data)
    assert redactor.done == {"unreadable descriptions": 1}
    with open_image(made) as image:
        assert image.complete and image.config == {}
    broken = WRAPPED["xapi"].replace(b"((time", b"()time", 1)
    made, redactor = redacted(broken)
    assert b"web one" not in made and redactor.done["unreadable descriptions"] == 1


def test_guestinfo_in_a_device_models_file() -> None:
    section = Section("vmport_rpc", 0, 1, 5, 0, data=rpc().to_bytes(), footer=True)
    state = DeviceModelState(3, start=MOUSE[:8], sections=[section], end=b"\0")
    made, redactor = redacted(with_model(state.to_bytes()))
    assert "the device model's file" in redactor.kept
    assert redactor.done["values of guestinfo"] == 2
    with open_image(made) as image:
        payload = bytes(edit(image).take("emulator"))
    assert len(payload) == len(state.to_bytes())
    assert b"10.0.0.1" not in payload and b"reset" not in payload and b"ip\0" in payload


def test_registers_of_pv_guests() -> None:
    body = bytes(8) + bytes(range(256)) * 20 + bytes(range(5168 - 8 - 5120))
    data = pv(VCPU0, record(streams.LIBXC_X86_PV_VCPU_BASIC, body[:5168]))
    assert redacted(data)[0] == data
    made, redactor = redacted(data, registers=True)
    assert redactor.done["records of registers"] > 1 and len(made) == len(data) and made != data


def test_a_record_that_is_too_long() -> None:
    head = libxc_head() + struct.pack("<II", 0x80000055, 1 << 31)
    with pytest.raises(LengthError, match="too long"):
        redacted(head + bytes(100))


@given(st.binary(max_size=300))
def test_any_context(data: bytes) -> None:
    made = Redactor(registers=True).context(data)
    assert len(made) == len(data)


@given(st.text(max_size=10), st.text(max_size=40))
def test_what_is_masked_stays_so(key: str, value: str) -> None:
    shown = masked(key, value)
    assert masked(key, shown) == shown and shown in (value, "redacted", masked("", value))


def test_the_example_of_the_docstring() -> None:
    assert doctest.testmod(redact).failed == 0
