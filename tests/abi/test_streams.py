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
    assert layout.encode(layout.decode(data[:size])) == data[:size]


def test_what_does_not_fit_is_named() -> None:
    fields = dict.fromkeys(streams.DOMAIN_HEADER.names, 0)
    with pytest.raises(
        FieldError, match="header: xen_minor is a 32-bit field: 0x100000000 does not"
    ):
        streams.DOMAIN_HEADER.encode({**fields, "xen_minor": 1 << 32})
    with pytest.raises(FieldError, match="header: reserved is missing"):
        streams.DOMAIN_HEADER.encode({k: 0 for k in fields if k != "reserved"})
    head = streams.Flat(streams.page_data_head)
    with pytest.raises(FieldError, match="X: reserved is a 32-bit field: -0x1 does not fit"):
        head.encode({"count": 0, "reserved": -1}, "X: ")
    with pytest.raises(FieldError, match=r"count is .*: 0x7f+\.\.\. does not"):
        head.encode_values(((1 << 9999) - 1, 0))
    with pytest.raises(FieldError, match="X: found 1 values, expected 2"):
        head.encode_values((1,), "X: ")


def test_headers_are_big_endian_where_the_streams_are() -> None:
    assert streams.LIBXL_HEADER.decode(bytes(15) + b"\1")["options"] == 1
    assert streams.DOMAIN_HEADER.decode(b"\1" + bytes(15))["type"] == 1
    for layout in streams.HEADERS.values():
        assert layout.names == tuple(name for name, *_ in layout.structure._fields_)


def test_parameters_by_name_and_by_number() -> None:
    for index in range(64):
        assert streams.param_index(streams.param_name(index)) == index
    assert streams.param_index("store_pfn") == streams.HVM_PARAM_STORE_PFN
    assert streams.param_index("STORE") is streams.param_index("0x1") is None


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
