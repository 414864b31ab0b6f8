from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi.vmport import XEN_4_5_V6
from hvmctx.context.vmport import Buffer, VmportState, to_record
from hvmctx.context.vmport_slots import Slots
from hvmctx.render.text import TextDialect
from hvmctx.render.vmport import vmport_lines
from tests.builders.vmport import OTHER, busy_state

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


def test_golden() -> None:
    assert "".join(vmport_lines(busy_state().to_bytes())) == GOLDEN


def test_data_that_are_not_all_there() -> None:
    made = VmportState.empty()
    made.channels[5].proto_num = 9
    made.channels[5].send = Buffer(b"s" * 180, 0, 200)
    text = "".join(vmport_lines(made.to_bytes()))
    assert "ch 5: id 0, cookie 0, protocol 0x9, active_time 0" in text
    assert f'send len 200, idx 0 (180 bytes there): "{"s" * 64}"...\n' in text


def test_too_short() -> None:
    text = "    VMPORT: 3 bytes, too short for the 460 of XEN_4_5_V6\n"
    assert list(vmport_lines(b"abc")) == [text]
    assert "0 bytes, too short" in next(vmport_lines(b""))


@given(st.binary(max_size=900), st.booleans())
def test_any_bytes(data: bytes, other: bool) -> None:
    text = "".join(vmport_lines(data, OTHER if other else XEN_4_5_V6))
    assert text.isascii() and text.endswith("\n")


def test_a_key_that_is_there_twice() -> None:
    made = VmportState.empty()
    made.guestinfo = Slots({b"k": b"1", b"l": b"2"})
    text = "".join(vmport_lines(made.to_bytes().replace(b"l2", b"k2")))
    assert text.endswith('"k" = "1" (1 + 1)\n          guestinfo "k" = "2" (1 + 1)\n')


def test_dialects() -> None:
    record = to_record(busy_state())
    assert "Don't understand type 21: skipping" in TextDialect().entry(0, record)
    for dialect in (TextDialect(show_all=True), TextDialect(vmport=XEN_4_5_V6)):
        assert "    VMPORT: version 0xabcd0001" in dialect.entry(0, record)
