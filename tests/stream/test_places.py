from __future__ import annotations

import pytest

from hvmctx.errors import UsageError
from hvmctx.stream.places import Place, place_of, replaced


def test_one_is_found_and_replaced() -> None:
    found = [Place("a", "1", 2, 3), Place("a[1]", "2", 4, 5)]
    assert place_of(found, "a[0]", "X.a[0]") is place_of(found, "a", "X.a") is found[0]
    assert replaced(b"0 1 2 3", found[1], "four", str.encode) == b"0 1 four 3"[:9] + b"3"
    with pytest.raises(UsageError, match=r"X\.b: no such value"):
        place_of(found, "b", "X.b")
    assert repr(found[0]) == "<a at 0x2>"
