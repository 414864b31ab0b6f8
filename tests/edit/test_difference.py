"""One difference as text, and ranges of bytes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.edit import difference
from hvmctx.edit.difference import Difference, bytes_shown, changed_bytes, in_bytes


@pytest.mark.parametrize(
    ("made", "parts", "more"),
    [
        (Difference("a.b", "1", "2"), ["a.b: ", "-1", " -> ", "+2"], {}),
        (Difference("a", None, "2"), ["a: ", "only in the second: ", "+2"], {}),
        (Difference("a", "1", None), ["a: ", "only in the first: ", "-1"], {}),
        (
            Difference("a", "1", "2", bits="-PGE +UMIP +bit 40 -x"),
            ["a: ", "-1", " -> ", "+2", " (", "--PGE", " ", "++UMIP", " ", "++bit 40", " ", "--x",
             ")"],
            {"bits": "-PGE +UMIP +bit 40 -x"},
        ),
        (
            Difference("pfn[0x1:+0x2]", "2 pages", "2 pages", changed=9, count=2),
            ["pfn[0x1:+0x2]: ", "2 pages", " (9 bytes differ)"],
            {"bytes": 9},
        ),
    ],
)  # fmt: skip
def test_text_and_json(made: Difference, parts: list[str], more: dict[str, object]) -> None:
    assert [side + text for text, side in made.parts()] == parts
    assert str(made) == "".join(text for text, _ in made.parts()) == repr(made)[1:-1]
    plain = {"path": made.path, "before": made.before, "after": made.after}
    assert made.as_dict() == {**plain, **more}


def naive(one: bytes, other: bytes) -> list[int]:
    return [at for at, (left, right) in enumerate(zip(one, other)) if left != right]


_BYTES = st.binary(max_size=40) | st.lists(
    st.sampled_from([bytes(20), b"\1", b"\1\0\0\2", bytes(3)]), max_size=30
).map(b"".join)


@given(_BYTES, _BYTES, st.integers(1, 12), st.sampled_from([3, 16, 1 << 20]))
def test_ranges_have_all_that_differs(one: bytes, other: bytes, most: int, chunk: int) -> None:
    """And where they are few, nothing else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(difference, "_CHUNK", chunk)
        found = list(in_bytes("x", one, other, 100, most=most))
    differ = naive(one, other)
    assert changed_bytes(one, other) == len(differ)
    covered: list[int] = []
    for each in found:
        at, size = (int(x, 0) for x in re.findall(r"\[(\w+):\+(\w+)\]$", each.path)[0])
        inside = list(range(at - 100, at - 100 + size))
        assert each.before == bytes_shown(one[inside[0] : inside[-1] + 1])
        assert each.after == bytes_shown(other[inside[0] : inside[-1] + 1])
        assert inside[0] in differ and inside[-1] in differ
        assert (each.changed or size) == len(set(differ) & set(inside))
        covered += inside
    assert len(found) <= most and covered == sorted(set(covered)) and set(differ) <= set(covered)
    stretches = sum(at - 1 not in differ for at in differ)
    if stretches <= min(8, most):
        assert covered == differ and len(found) == stretches
