from __future__ import annotations

from ctypes import sizeof
from pathlib import Path

import pytest

from hvmctx.abi import vmport
from hvmctx.abi.declare import by_name, by_typecode
from hvmctx.abi.fields import Layout
from hvmctx.abi.vmport import XEN_4_5_V6, VmportProfile, profile_of
from hvmctx.errors import UsageError
from tests.vmport_samples import PROFILES


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
    full = dict(profile.full._fields_)["u"]._fields_[0][1]
    kinds = dict(full._fields_)
    assert sizeof(kinds["chans"]) == 6 * 5448
    assert sizeof(kinds["guestinfo"]) == 64 * 160
    assert sizeof(kinds["guestinfo_jumbo"]) == 2 * 4130
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
    assert profile.max_size <= profile.full_size_bound()
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


def test_unknown_profile(tmp_path: Path) -> None:
    for name in ("XEN_9", str(tmp_path)):
        with pytest.raises(UsageError, match="neither XEN_4_5_V6 nor a file"):
            profile_of(name)


def test_declared_when_it_turns_up() -> None:
    known = by_typecode(21)
    assert known is not None and known is by_name("vmport")
    assert (known.name, known.size, known.scope) == ("VMPORT", 464, "domain")


def test_use() -> None:
    try:
        known = vmport.use(PROFILES[1])
        assert by_typecode(21) is known and known.size == PROFILES[1].fixed_size
        assert vmport.used() is PROFILES[1]
    finally:
        vmport.use(XEN_4_5_V6)
