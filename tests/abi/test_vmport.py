from __future__ import annotations

import asyncio
import dataclasses
import threading
from ctypes import sizeof
from pathlib import Path
from typing import Any

import pytest

from hvmctx.abi import vmport
from hvmctx.abi.fields import Layout, Slot
from hvmctx.abi.registry import by_name, by_typecode
from hvmctx.abi.vmport import XEN_4_5_V6, VmportProfile
from hvmctx.commands.inputs import profile_of
from hvmctx.errors import UsageError
from tests.builders.vmport import PROFILES


def test_default_profile() -> None:
    """The sizes and offsets of the patch's layout (xen-devel, 2014-09-20, v6 11/16)."""
    profile = XEN_4_5_V6
    assert (profile.fixed_size, profile.max_size) == (464, 51224)
    assert (profile.MAX_SEND_BUF, profile.MAX_RECV_BUF, profile.MAX_RECV_JUMBO_BUF) == (
        45,
        33,
        1025,
    )
    assert sizeof(vmport.vmport_bucket_control) == 4
    assert sizeof(vmport.vmport_channel_control) == 32
    assert profile.full.u.offset == 32
    full = profile.full().u.full
    assert sizeof(full.chans) == 6 * 5448
    assert sizeof(full.guestinfo) == 64 * 160
    assert sizeof(full.guestinfo_jumbo) == 2 * 4130
    offsets = {f.name: f.offset for f in Layout.of(profile.packed).fields}
    assert offsets == {
        "version": 0, "used_guestsize": 4, "ping_time": 8, "open_cookie": 16,
        "used_guestinfo": 20, "used_guestinfo_jumbo": 24, "_pad0": 28, "chans": 32,
    }  # fmt: skip
    locate = Layout.of(profile.packed).locate
    assert locate("chans[1].active_time").offset == 32 + 72
    assert locate("chans[0].recv_write").offset == 32 + 26
    assert locate("chans[0].jumbo_recv_bkt.recv_len").offset == 32 + 32 + 8 * 4


@pytest.mark.parametrize("profile", PROFILES, ids=str)
def test_any_profile(profile: VmportProfile) -> None:
    assert profile.fixed_size == sizeof(profile.packed) < profile.max_size == sizeof(profile.full)
    layout = Layout.of(profile.packed)
    body = bytes(i % 251 for i in range(profile.fixed_size))
    assert layout.encode(layout.decode(body)) == body


@pytest.mark.parametrize("profile", PROFILES, ids=str)
def test_json(profile: VmportProfile, tmp_path: Path) -> None:
    assert VmportProfile.from_json(profile.to_json()) == profile
    assert hash(VmportProfile.from_json(profile.to_json())) == hash(profile)
    path = tmp_path / "profile.json"
    path.write_text(profile.to_json())
    assert profile_of(str(path)) == profile
    assert profile_of("XEN_4_5_V6") is XEN_4_5_V6
    assert VmportProfile.from_json("{}") == XEN_4_5_V6


@pytest.mark.parametrize(
    "text",
    ["", "[]", "5", '{"MAX_BOGUS": 1}', '{"MAX_CHANS": 0}', '{"MAX_CHANS": "6"}',
     '{"MAX_CHANS": true}', '{"MAX_KEY_LEN": 256}', '{"SAVE_VERSION": 4294967296}',
     '{"MAX_CHANS": 16384, "MAX_BKTS": 16384}', "[" * 100000],
)  # fmt: skip
def test_profiles_that_cannot_be(text: str) -> None:
    with pytest.raises(UsageError, match="VMPORT profile"):
        VmportProfile.from_json(text)


LARGEST = {
    "MAX_CHANS": 16384, "MAX_BKTS": 16384, "MAX_KEY_LEN": 255, "MAX_VAL_LEN": 16384,
    "MAX_VAL_JUMBO_LEN": 65535, "MAX_NUM_KEY": 16384, "MAX_NUM_JUMBO_KEY": 16384,
    "SAVE_VERSION": 0xFFFFFFFF,
}  # fmt: skip


@pytest.mark.parametrize("name", LARGEST)
def test_how_large_a_constant_may_be(name: str) -> None:
    for value in (0, LARGEST[name] + 1, -1):
        with pytest.raises(UsageError) as caught:
            VmportProfile(**{name: value})  # type: ignore[arg-type]
        said = f"VMPORT profile: {name} is {value}, expected 1 to {LARGEST[name]}"
        assert str(caught.value) == said
    if name not in ("MAX_CHANS", "MAX_BKTS", "MAX_NUM_JUMBO_KEY"):  # a body would be too long
        assert VmportProfile(**{name: LARGEST[name]}).constants()[name] == LARGEST[name]  # type: ignore[arg-type]
    assert VmportProfile(**{name: 1}).constants()[name] == 1  # type: ignore[arg-type]


def test_what_is_said_of_other_json() -> None:
    for text, said in (
        ("[]", f"VMPORT profile: expected an object of {', '.join(LARGEST)}"),
        ("{", "VMPORT profile: not JSON: Expecting property name enclosed in double quotes"),
    ):
        with pytest.raises(UsageError, match=f"^{said}"):
            VmportProfile.from_json(text)
    assert VmportProfile.from_json("{}").name == VmportProfile().name == "custom"
    assert VmportProfile.from_json('{"MAX_CHANS": 2}', "mine").name == "mine"
    assert XEN_4_5_V6.to_json().startswith('{\n "MAX_CHANS": 6,\n')


def test_protocols() -> None:
    """Their numbers are their names in ASCII."""
    assert {
        0: "closed",
        int.from_bytes(b"RPCI", "little"): "RPCI",
        int.from_bytes(b"TCLO", "little"): "TCLO",
    } == vmport.PROTOCOLS


def test_slots_that_are_made() -> None:
    for used, plain, jumbo in ((0, 10, 2), (1, 10, 2), (2, 10, 3), (5, 10, 6), (6, 11, 7),
                               (0xFFFFFFFF, 10, 2), (0xFFFFFFFB, 10, 0xFFFFFFFC)):  # fmt: skip
        assert vmport.slots_made(used, jumbo=False) == plain
        assert vmport.slots_made(used, jumbo=True) == jumbo


def test_structures_have_the_names_of_the_patch() -> None:
    def shape(structure: Any) -> Any:
        kind = structure
        while hasattr(kind, "_length_"):
            kind = kind._type_
        members = getattr(kind, "_fields_", None)
        return members and {kind.__name__: {name: shape(of) for name, of in members}}

    control = shape(vmport.vmport_channel_control)
    bucket = {"recv_len": None, "recv_idx": None}
    head = {name: None for name, *_ in vmport.vmport_head._fields_}
    assert shape(XEN_4_5_V6.packed) == {"hvm_save_vmport_packed": {**head, "chans": {
        "vmport_packed_channel": {
            **control["vmport_channel_control"],
            "recv_bkt": {"vmport_bucket_control": bucket},
            "jumbo_recv_bkt": {"vmport_bucket_control": bucket},
            "_pad1": None,
        },
    }}}  # fmt: skip
    entry = dict.fromkeys(("key_len", "val_len", "key_data", "val_data"))
    arm = {"vmport_full_arm": {
        "chans": {"vmport_channel": {
            "ctl": control,
            "recv_bkt": {"vmport_bucket": {**bucket, "recv_buf": None}},
            "jumbo_recv_bkt": {"vmport_jumbo_bucket": {**bucket, "recv_buf": None}},
            "send_buf": None,
        }},
        "guestinfo": {"vmport_guestinfo": entry},
        "guestinfo_jumbo": {"vmport_guestinfo_jumbo": entry},
    }}  # fmt: skip
    union = {"vmport_union": {"full": arm}}
    assert shape(XEN_4_5_V6.full) == {"hvm_save_vmport": {**head, "u": union}}


def test_unknown_profile(tmp_path: Path) -> None:
    for name in ("XEN_9", str(tmp_path)):
        with pytest.raises(UsageError, match="expected XEN_4_5_V6, QEMU_VMPORT_RPC or a file"):
            profile_of(name)


def test_profiles_are_values() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        XEN_4_5_V6.MAX_CHANS = 7  # type: ignore[misc]
    fewer = dataclasses.replace(XEN_4_5_V6, MAX_CHANS=4)
    assert fewer != XEN_4_5_V6 and fewer.fixed_size == 32 + 4 * 72
    assert fewer == VmportProfile("of another name", MAX_CHANS=4)
    assert repr(XEN_4_5_V6) == "<VMPORT profile XEN_4_5_V6>"
    assert VmportProfile().constants() == {
        "MAX_CHANS": 6, "MAX_BKTS": 8, "MAX_KEY_LEN": 30, "MAX_VAL_LEN": 128,
        "MAX_VAL_JUMBO_LEN": 4096, "MAX_NUM_KEY": 64, "MAX_NUM_JUMBO_KEY": 2,
        "SAVE_VERSION": 0xABCD0001,
    }  # fmt: skip


def test_what_the_loader_reads_of_the_fixed_part() -> None:
    """Up to the end of the last control: the padding after it is nobody's."""
    places = XEN_4_5_V6.buffers
    assert [place.end - place.start for place in places[:10]] == [32] + [4] * 9
    assert [place.start for place in places[:10]] == [32, *range(64, 100, 4)]
    assert (places[10].start, places[-1].end, XEN_4_5_V6.read_size) == (104, 460, 460)
    assert [profile.read_size for profile in PROFILES[1:]] == [476, 112]
    pad = XEN_4_5_V6.control_padding[1]
    assert (pad.start, pad.stop, len(XEN_4_5_V6.control_padding)) == (104 + 27, 104 + 32, 6)


def test_the_descendant_in_qemu() -> None:
    """The same formulas: words of a send buffer, of a receive bucket."""
    profile = profile_of("QEMU_VMPORT_RPC")
    assert (profile.MAX_CHANS, profile.MAX_BKTS, profile.MAX_NUM_KEY) == (8, 4, 256)
    assert (profile.MAX_SEND_BUF, profile.MAX_RECV_BUF) == (2086, 2049)
    assert (profile.MAX_KEY_LEN, profile.MAX_VAL_LEN) == (128, 8192)


def test_largest_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    assert VmportProfile(MAX_CHANS=3000).max_size < 1 << 24
    with pytest.raises(UsageError, match="would be longer than 16777216"):
        VmportProfile(MAX_CHANS=3100)
    monkeypatch.setattr(vmport, "_BODY_LIMIT", XEN_4_5_V6.max_size)
    assert VmportProfile().max_size == XEN_4_5_V6.max_size


@pytest.mark.parametrize("profile", PROFILES, ids=str)
def test_buffers(profile: VmportProfile) -> None:
    """Their places are those of the ctypes structures."""
    body = bytes(i * 7 % 251 for i in range(profile.fixed_size))
    values, packed = profile.fixed.unpack_from(body), profile.packed.from_buffer_copy(body)
    assert [(place.channel, place.name) for place in profile.buffers] == [
        (channel, name)
        for channel in range(profile.MAX_CHANS)
        for name in ("send", *(f"recv[{n}]" for n in range(profile.MAX_BKTS)), "jumbo_recv")
    ]
    full = profile.full().u.full
    for place in profile.buffers:
        channel, arrays = packed.chans[place.channel], full.chans[place.channel]
        if place.name == "send":
            length, index, array = channel.send_len, channel.send_idx, arrays.send_buf
        else:
            if place.name == "jumbo_recv":
                control, bucket = channel.jumbo_recv_bkt, arrays.jumbo_recv_bkt
            else:
                number = int(place.name[5:-1])
                control, bucket = channel.recv_bkt[number], arrays.recv_bkt[number]
            length, index, array = control.recv_len, control.recv_idx, bucket.recv_buf
        assert int.from_bytes(body[place.offset : place.offset + 2], "little") == length
        assert (values[place.length_at], values[place.index_at]) == (length, index)
        assert place.room == sizeof(array) == place.kept + 4


@pytest.mark.parametrize("profile", PROFILES, ids=str)
def test_padding(profile: VmportProfile) -> None:
    """What `fixed` does not give: all of it, and nothing else."""
    ones = bytearray(profile.fixed.pack(*[(1 << slot.width) - 1 for slot in slots(profile)]))
    for _, start, end in profile.padding:
        assert not any(ones[start:end])
        ones[start:end] = b"\xff" * (end - start)
    assert ones == b"\xff" * profile.fixed_size
    names = {name for name, _, _ in profile.padding}
    assert names == {"the head", *(f"chans[{n}]" for n in range(profile.MAX_CHANS))}


def slots(profile: VmportProfile) -> list[Slot]:
    return list(Layout.of(profile.packed).slots())


def test_numbers_of_the_fixed_part() -> None:
    """The order of the patch's structures: head, then channel by channel."""
    paths = [slot.path for slot in slots(XEN_4_5_V6)]
    assert paths[:6] == [*vmport.HEAD_NUMBERS] == [
        "version", "used_guestsize", "ping_time", "open_cookie", "used_guestinfo",
        "used_guestinfo_jumbo",
    ]  # fmt: skip
    first = XEN_4_5_V6.channel_numbers[2]
    assert paths[first : first + 9] == [f"chans[2].{name}" for name in vmport.CONTROL_NUMBERS]
    assert len(paths) == XEN_4_5_V6.channel_numbers.stop == 6 + 6 * (9 + 2 * 9)


def test_declared_when_it_turns_up() -> None:
    known = by_typecode(21)
    assert known is not None and known is by_name("vmport")
    assert (known.name, known.size, known.scope) == ("VMPORT", 464, "domain")


def test_using() -> None:
    with vmport.using(PROFILES[1]):
        known = by_typecode(21)
        assert known is not None and known.size == PROFILES[1].fixed_size
        assert known is PROFILES[1].record_type
        assert vmport.used() is PROFILES[1]
        with vmport.using(XEN_4_5_V6):
            assert vmport.used() is XEN_4_5_V6
        assert vmport.used() is PROFILES[1]
    assert vmport.used() is XEN_4_5_V6 and by_typecode(21) is XEN_4_5_V6.record_type


def test_tasks_have_their_own() -> None:
    """Each its profile, whatever the others do meanwhile; and that of who started it."""

    async def task(profile: VmportProfile, before: VmportProfile) -> None:
        assert vmport.used() is before
        for _ in range(3):
            with vmport.using(profile):
                await asyncio.sleep(0)
                known = by_typecode(21)
                assert known is not None and known.struct is profile.packed
            await asyncio.sleep(0)
            assert vmport.used() is before

    async def all_tasks() -> None:
        with vmport.using(PROFILES[2]):
            await asyncio.gather(*(task(profile, PROFILES[2]) for profile in PROFILES))

    asyncio.run(all_tasks())
    assert vmport.used() is XEN_4_5_V6


def test_a_profile_in_use_ends_with_its_block() -> None:
    with pytest.raises(RuntimeError), vmport.using(PROFILES[1]):
        raise RuntimeError
    assert vmport.used() is XEN_4_5_V6


def test_another_thread_has_the_default() -> None:
    seen = []
    with vmport.using(PROFILES[1]):
        thread = threading.Thread(target=lambda: seen.append(vmport.used()))
        thread.start()
        thread.join()
    assert seen == [XEN_4_5_V6]
