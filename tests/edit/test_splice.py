from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.edit.splice import Spliced, splice
from hvmctx.errors import InputError
from hvmctx.files.opening import open_source
from tests.builders.streams import Pipe

cuts = st.lists(st.integers(0, 300), max_size=8, unique=True).map(sorted)


@given(cuts, st.lists(st.binary(max_size=9), min_size=4, max_size=4))
def test_edits(places: list[int], texts: list[bytes]) -> None:
    data = bytes(range(256)) + bytes(44)
    edits = [(a, b, t) for a, b, t in zip(places[::2], places[1::2], texts)]
    expected = data
    for start, end, text in reversed(edits):
        expected = expected[:start] + text + expected[end:]
    out = io.BytesIO()
    splice(open_source(data), out, reversed(edits))
    assert out.getvalue() == expected
    source = Spliced(open_source(data), edits)
    assert source.whole_size() == len(expected)
    for at in range(0, len(expected) + 3, 7):
        for count in (0, 1, 40, 1000):
            assert bytes(source.read_at(at, count)) == expected[at : at + count]


def test_a_pipe_is_refused() -> None:
    with pytest.raises(InputError, match="cannot be read twice"):
        splice(open_source(Pipe(b"from a pipe")), io.BytesIO(), [])
    with pytest.raises(InputError, match="cannot be read twice"):
        Spliced(open_source(Pipe(b"from a pipe")), [])


def test_what_lies_in_one_part_is_not_copied() -> None:
    source = Spliced(open_source(b"0123456789"), [(2, 4, b"abc")])
    assert isinstance(source.read_at(5, 3), memoryview) and source.read_at(5, 3) == b"456"
    assert source.read_at(2, 3) == b"abc" and source.read_at(1, 5) == b"1abc4"
