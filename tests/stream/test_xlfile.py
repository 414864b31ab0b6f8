from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.errors import FormatError, TruncatedError
from hvmctx.stream import xlfile
from hvmctx.stream.reader import XL, Header, StreamReader
from tests.builders.streams import xl_head


def header(flags: int = 3) -> Header:
    found = StreamReader(XL).feed(xl_head(flags=flags))
    assert isinstance(found, Header)
    return found


@given(st.binary(max_size=50).map(lambda text: text + b"\0") | st.just(b""))
def test_round_trip(text: bytes) -> None:
    assert xlfile.config_text(xlfile.config_to_bytes(text)) == text


def test_nul_is_added_and_more_is_ignored() -> None:
    assert xlfile.config_to_bytes(b"{}") == b"\3\0\0\0{}\0"
    assert xlfile.config_text(b"\2\0\0\0{}ignored") == b"{}"
    assert xlfile.config_text(b"") == b""


@pytest.mark.parametrize("data", [b"\1", b"\1\0\0", b"\1\0\0\0", b"\xff\xff\xff\xff{}"])
def test_cut_off(data: bytes) -> None:
    with pytest.raises(TruncatedError, match="xl: offset 0x30: optional data"):
        xlfile.config_text(data, 0x30)


def test_json_and_text() -> None:
    assert xlfile.config_from_bytes(b'{"c_info": 1}\0', header()) == {"c_info": 1}
    assert xlfile.config_from_bytes(b"name = 'x'\0", header(flags=2)) == "name = 'x'"


@pytest.mark.parametrize("text", [b"{", b"\xff", b"[" * 100000])
def test_json_that_is_none(text: bytes) -> None:
    with pytest.raises(FormatError, match=r"xl: offset 0x34: optional data: .*not JSON"):
        xlfile.config_from_bytes(text, header())
