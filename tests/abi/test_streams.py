from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi import streams
from hvmctx.errors import FieldError

HEADERS = {
    "xl": (streams.XL_HEADER, 16),
    "libxl": (streams.LIBXL_HEADER, 16),
    "image": (streams.IMAGE_HEADER, 24),
    "domain": (streams.DOMAIN_HEADER, 16),
}


@pytest.mark.parametrize("name", HEADERS)
def test_sizes(name: str) -> None:
    layout, size = HEADERS[name]
    assert layout.size == size


@given(st.sampled_from(list(HEADERS)), st.binary(min_size=24, max_size=24))
def test_headers_round_trip(name: str, data: bytes) -> None:
    layout, size = HEADERS[name]
    assert layout.serialise(layout.parse(data[:size])) == data[:size]


def test_what_does_not_fit_is_named() -> None:
    fields = dict.fromkeys(streams.DOMAIN_HEADER.names, 0)
    with pytest.raises(FieldError, match="this: xen_minor is a 32-bit field: 0x100000000 does not"):
        streams.DOMAIN_HEADER.serialise({**fields, "xen_minor": 1 << 32})
    with pytest.raises(FieldError, match="this: reserved is missing"):
        streams.DOMAIN_HEADER.serialise({k: 0 for k in fields if k != "reserved"})
    with pytest.raises(FieldError, match="X: b is a 16-bit field: -0x1 does not fit"):
        streams.pack("X", "<IH", 0, -1, names="a b")
    with pytest.raises(FieldError, match=r"X: value 0 is .*: 0x7f{21}\.\.\. does not"):
        streams.pack("X", "<B", (1 << 9999) - 1)


def test_rows() -> None:
    rows = [(1, 2), (3, 4)]
    assert streams.pack_rows("X", "<BB", rows, "rows a b") == b"\1\2\3\4"
    with pytest.raises(FieldError, match=r"X: rows\[1\]: b is a 8-bit field: 0x100 does not fit"):
        streams.pack_rows("X", "<BB", [(1, 2), (3, 256)], "rows a b")
    with pytest.raises(FieldError, match=r"X: rows\[0\]: found 1 values, expected 2"):
        streams.pack_rows("X", "<BB", [(1,)], "rows a b")


def test_magics() -> None:
    assert len(streams.XL_MAGIC) == 32
    assert streams.XL_MAGIC.endswith(b"\x0a\x20\x00\x20\x0d")
    assert streams.LIBXL_IDENT.to_bytes(8, "big") == b"LibxlFmt"
    assert streams.LIBXC_ID.to_bytes(4, "big") == b"XENF"


def test_names_are_those_of_the_constants() -> None:
    """And of nothing else that starts so: of the specifications, all types in a row."""
    assert list(streams.LIBXL_RECORDS) == list(range(6))
    assert list(streams.LIBXC_RECORDS) == list(range(0x13))
    assert streams.LIBXL_RECORDS[streams.LIBXL_CHECKPOINT_STATE] == "CHECKPOINT_STATE"
    assert streams.LIBXC_RECORDS[streams.LIBXC_HVM_PARAMS] == "HVM_PARAMS"
    assert streams.HVM_PARAMS[streams.HVM_PARAM_CONSOLE_PFN] == "CONSOLE_PFN"
    assert len(streams.HVM_PARAMS) == 36 and max(streams.HVM_PARAMS) == 38
    for names in (streams.LIBXL_RECORDS, streams.LIBXC_RECORDS, streams.HVM_PARAMS):
        assert len({*names.values()}) == len(names)


def test_every_valid_page_type_has_a_name() -> None:
    assert set(streams.PAGE_TYPES) == set(range(16)) - {5, 6, 7, 8}
    assert frozenset((5, 6, 7, 8)) == streams.INVALID_PAGE_TYPES
    with_and_without = (streams.PAGE_TYPES_WITH_MEMORY, streams.PAGE_TYPES_WITHOUT_MEMORY)
    assert frozenset.union(*with_and_without) == set(streams.PAGE_TYPES)
    assert not frozenset.intersection(*with_and_without)
    assert set(streams.PAGE_TYPES) - streams.PAGE_TYPES_WITH_DATA == {0xD, 0xE, 0xF}
