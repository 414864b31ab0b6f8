"""Values of a VMPORT record by their paths."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvmctx.abi.vmport import VmportProfile
from hvmctx.context.vmport import VmportState
from hvmctx.context.vmport_paths import get_path, remove_path, set_path
from hvmctx.context.vmport_slots import Slots, as_text
from hvmctx.errors import FieldError, HvmctxError, MissingRecordError, UsageError
from tests.builders.vmport import TWICE, pairs, sample, with_profile


def test_paths_take_the_first_of_a_key() -> None:
    body = set_path(TWICE, "guestinfo[k]", b"new")
    state = VmportState.from_bytes(body)
    assert state.guestinfo.pairs == [(b"k", b"new"), (b"k", b"")]
    assert get_path(body, "guestinfo[k]") == state.guestinfo[b"k"] == b"new"


@given(pairs, st.booleans())
def test_a_key_is_removed_as_often_as_it_is_there(
    held: list[tuple[bytes, bytes]], jumbo: bool
) -> None:
    held = [pair for pair in held if pair[0]]
    name = "guestinfo_jumbo" if jumbo else "guestinfo"
    state = VmportState.empty()
    setattr(state, name, Slots(held))
    body = state.to_bytes()
    for key in dict(held):
        body = remove_path(body, f"{name}[{as_text(key)}]")
        del getattr(state, name)[key]
        assert body == state.to_bytes()
    for path, kind in ((f"{name}[k]", MissingRecordError), ("ping_time", UsageError)):
        with pytest.raises(kind):
            remove_path(body, path)


def test_paths() -> None:
    body = sample()
    assert get_path(body, 'guestinfo["guestinfo.ip"]') == b"10.0.0.1"
    assert get_path(body, "guestinfo_jumbo[j]") == b"jumbo"
    assert get_path(body, "version") == 0xABCD0001
    changed = set_path(body, 'guestinfo["guestinfo.ip"]', b"192.168.100.100")
    changed = set_path(changed, "guestinfo[new]", b"n")
    changed = set_path(changed, "guestinfo_jumbo[k]", b"more")
    changed = set_path(changed, "chans[2].cookie", 77)
    state = VmportState.from_bytes(changed)
    assert state.guestinfo == Slots({b"guestinfo.ip": b"192.168.100.100", b"b": b"2", b"new": b"n"})
    assert state.guestinfo_jumbo == Slots({b"j": b"jumbo", b"k": b"more"})
    assert state.channels[2].cookie == 77
    state.origin = None
    assert state.to_bytes() == changed, "counts and sizes have followed"


def test_a_path_of_bytes_that_are_no_utf8() -> None:
    body = set_path(sample(), "guestinfo[\udcff]", b"v")
    assert get_path(body, r"guestinfo[\xff]") == b"v"


def test_a_key_goes_before_all_of_jumbo() -> None:
    """Also before a jumbo head that the loader takes nothing for."""
    body = VmportState.empty().to_bytes()
    body = body[:4] + struct.pack("<I", 8) + body[8:24] + struct.pack("<I", 2) + body[28:]
    body = set_path(body + b"\0\0\0\1\1\0jv", "guestinfo[k]", b"")
    assert body[464:] == b"\1\0k\0\0\0\1\1\0jv"
    assert get_path(body, "guestinfo_jumbo[j]") == b"v"


def test_edits_touch_only_what_they_must() -> None:
    body = sample() + b"behind" + bytes(3)
    assert set_path(body, "guestinfo[b]", b"3") == body.replace(b"b2", b"b3")
    odd = body[:28] + b"\1\2\3\4" + body[32:]
    assert set_path(odd, "guestinfo[b]", b"3")[28:32] == b"\1\2\3\4"


@pytest.mark.parametrize(
    ("path", "value", "kind", "reason"),
    [
        ("guestinfo[nope]", None, MissingRecordError, "no such key"),
        ("bogus", None, UsageError, "no field 'bogus'"),
        ("guestinfo[k]", 5, FieldError, "takes bytes"),
        ("guestinfo[k]", b"v" * 129, FieldError, "at most 128 bytes, not 129"),
        ('guestinfo[""]', b"", FieldError, "a key has 1 to 30 bytes"),
        ("open_cookie", 1 << 32, FieldError, "open_cookie is a 32-bit field"),
        (r"guestinfo[\q]", None, UsageError, "may follow a backslash"),
        (r"guestinfo[\x4]", None, UsageError, "may follow a backslash"),
        (r"guestinfo[\x+1]", None, UsageError, "may follow a backslash"),
        ("guestinfo[\ud800]", None, UsageError, "not text"),
    ],
)
def test_paths_that_fail(path: str, value: Any, kind: type[Exception], reason: str) -> None:
    with pytest.raises(kind, match=reason):
        if value is None:
            get_path(sample(), path)
        else:
            set_path(sample(), path, value)


@given(st.binary(max_size=600), st.sampled_from(["version", "guestinfo[k]", "chans[5].cookie"]))
def test_paths_of_any_bytes(body: bytes, path: str) -> None:
    value = b"v" if "[k]" in path else 1
    try:
        assert get_path(set_path(body, path, value), path) == value
    except HvmctxError as error:
        assert str(error)


@pytest.mark.parametrize("cut", range(460, 465))
def test_a_key_into_a_body_without_its_last_padding(cut: int) -> None:
    body = VmportState.empty().to_bytes()[:cut]
    changed = set_path(body, "guestinfo[k]", b"v")
    assert changed[464:] == b"\1\1kv" and get_path(changed, "guestinfo[k]") == b"v"
    with pytest.raises(MissingRecordError):
        get_path(body, "guestinfo[k]")
    with pytest.raises(FieldError, match="459 bytes is too short for guestinfo"):
        set_path(body[:459], "guestinfo[k]", b"v")


@settings(max_examples=40)
@given(with_profile, st.binary(min_size=1, max_size=4), st.binary(max_size=9), st.booleans())
def test_paths_do_to_bodies_what_slots_do(
    case: tuple[VmportProfile, VmportState], key: bytes, value: bytes, jumbo: bool
) -> None:
    profile, state = case
    name = "guestinfo_jumbo" if jumbo else "guestinfo"
    slots, path = getattr(state, name), f"{name}[{as_text(key)}]"
    slots.pairs *= 2  # every key twice
    slots[key] = value
    body = set_path(state.to_bytes(profile), path, value, profile)
    assert VmportState.from_bytes(body, profile) == state and body == state.to_bytes(profile)
    assert get_path(body, path, profile) == value
    del slots[key]
    assert remove_path(body, path, profile) == state.to_bytes(profile)
    slots[key] = b""
    assert set_path(remove_path(body, path, profile), path, b"", profile) == state.to_bytes(profile)
