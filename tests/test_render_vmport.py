from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi import vmport
from hvmctx.abi.declare import VMPORT_TYPECODE
from hvmctx.abi.vmport import PROTO_RPCI, PROTO_TCLO, XEN_4_5_V6
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.context.vmport import Buffer, VmportState, pack, to_record
from hvmctx.render.text import TextDialect
from hvmctx.render.vmport import vmport_lines
from tests.vmport_samples import OTHER

GOLDEN = """\
    VMPORT: version 0xabcd0001, ping_time 123456, open_cookie 0x11223344
            used_guestsize 54, used_guestinfo 2, used_guestinfo_jumbo 1
         ch 0: id 3, cookie 0xc0ffee, protocol RPCI, active_time 77
               jumbo 0, recv_read 1, recv_write 2
               send len 6, idx 2: "info\\x00\\xff"
               recv 1 len 3, idx 0: "1 \\x22"
               jumbo recv len 70, idx 9: "{j}"...
         ch 2: id 0, cookie 0, protocol TCLO, active_time 0
               jumbo 0, recv_read 0, recv_write 0
               send len 0, idx 0
          guestinfo "guestinfo.ip" = "10.0.0.1" (12 + 8)
          guestinfo "k\\x5c" = "" (2 + 0)
          jumbo "big" = "{v}" (3 + 22)
""".replace("{j}", "j" * 64).replace("{v}", "v" * 22)


def state() -> VmportState:
    made = VmportState.empty()
    made.ping_time, made.open_cookie = 123456, 0x11223344
    first = made.channels[0]
    first.proto_num, first.chan_id, first.cookie = PROTO_RPCI, 3, 0xC0FFEE
    first.active_time, first.recv_read, first.recv_write = 77, 1, 2
    first.send = Buffer(b"info\0\xff", 2)
    first.recv[1] = Buffer(b'1 "')
    first.jumbo_recv = Buffer(b"j" * 70, 9)
    made.channels[2].proto_num = PROTO_TCLO
    made.guestinfo = {b"guestinfo.ip": b"10.0.0.1", b"k\\": b""}
    made.guestinfo_jumbo = {b"big": b"v" * 22}
    return made


def test_golden() -> None:
    assert "".join(vmport_lines(pack(state()))) == GOLDEN


def test_data_that_are_not_all_there() -> None:
    made = VmportState.empty()
    made.channels[5].proto_num = 9
    made.channels[5].send = Buffer(b"s" * 180, 0, 200)
    text = "".join(vmport_lines(pack(made)))
    assert "ch 5: id 0, cookie 0, protocol 0x9, active_time 0" in text
    assert f'send len 200, idx 0 (180 bytes there): "{"s" * 64}"...\n' in text


def test_too_short() -> None:
    text = "    VMPORT: 3 bytes, too short for the 464 of XEN_4_5_V6\n"
    assert list(vmport_lines(b"abc")) == [text]
    assert "0 bytes, too short" in next(vmport_lines(b""))


@given(st.binary(max_size=900), st.booleans())
def test_any_bytes(data: bytes, other: bool) -> None:
    text = "".join(vmport_lines(data, OTHER if other else XEN_4_5_V6))
    assert text.isascii() and text.endswith("\n")


def test_a_key_that_is_there_twice() -> None:
    made = VmportState.empty()
    made.guestinfo = {b"k": b"1", b"l": b"2"}
    text = "".join(vmport_lines(pack(made).replace(b"l2", b"k2")))
    assert text.endswith('"k" = "1" (1 + 1)\n          guestinfo "k" = "2" (1 + 1)\n')


def test_dialects() -> None:
    record = to_record(state())
    assert "Don't understand type 21: skipping" in TextDialect().entry(0, record)
    for dialect in (TextDialect(show_all=True), TextDialect(vmport=XEN_4_5_V6)):
        assert "    VMPORT: version 0xabcd0001" in dialect.entry(0, record)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    path = tmp_path / "context"
    path.write_bytes(HvmContext([to_record(state()), Record(0, 0)]).to_bytes())
    return path


def test_dump(context: Path, run: Callable[..., Any]) -> None:
    status, said = run(context)
    assert status == 0 and 'guestinfo "guestinfo.ip" = "10.0.0.1" (12 + 8)' in said.out
    status, said = run(context, "--release", "4.17")
    assert status == 0 and "Don't understand type 21" in said.out
    status, said = run(context, "--release", "4.17", "--all")
    assert "    VMPORT: version" in said.out
    status, said = run(context, "--record", "VMPORT", "--format", "json")
    assert json.loads(said.out)["context"]["records"][0]["fields"]["used_guestinfo"] == 2


def test_dump_with_another_profile(context: Path, tmp_path: Path, run: Callable[..., Any]) -> None:
    path = tmp_path / "profile.json"
    path.write_text(OTHER.to_json())
    other = VmportState.empty(OTHER)
    other.guestinfo[b"k"] = b"other"
    made = Record(VMPORT_TYPECODE, 0, pack(other, OTHER))
    context.write_bytes(HvmContext([made, Record(0, 0)]).to_bytes())
    status, said = run(context, "--vmport-profile", path)
    assert status == 0 and 'guestinfo "k" = "other"' in said.out
    assert vmport.used() is XEN_4_5_V6, "the next command has the default again"
    status, said = run("to-json", context, "-o", "-", "--vmport-profile", path)
    (record, _) = json.loads(said.out)["context"]["records"]
    assert status == 0 and len(record["fields"]["chans"]) == 8
    (tmp_path / "json").write_text(said.out)
    again = tmp_path / "again"
    assert run("from-json", tmp_path / "json", "-o", again, "--vmport-profile", path)[0] == 0
    assert again.read_bytes() == context.read_bytes()
    assert run("from-json", tmp_path / "json", "-o", tmp_path / "default")[0] == 1
    status, said = run(context, "--vmport-profile", "nope")
    assert status == 2 and "neither XEN_4_5_V6 nor a file" in said.err


def test_json_there_and_back(context: Path, tmp_path: Path, run: Callable[..., Any]) -> None:
    assert run("to-json", context, "-o", tmp_path / "json")[0] == 0
    assert run("from-json", tmp_path / "json", "-o", tmp_path / "again")[0] == 0
    assert (tmp_path / "again").read_bytes() == context.read_bytes()
