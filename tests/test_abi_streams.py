from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi import streams

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
