"""The bounds themselves; what goes over them is in tests/test_floods.py."""

from __future__ import annotations

import copy
import pickle

import pytest

from hvmctx.errors import FormatError, LimitError, UsageError
from hvmctx.limits import DEFAULT, Limits, size_of
from tools import limits_doc


def test_what_is_given_and_what_is_not() -> None:
    limits = Limits(kept=5, rows=0)
    assert (limits.kept, limits.rows, limits.runs) == (5, 0, DEFAULT.runs)
    assert Limits.kept == DEFAULT.kept == DEFAULT.as_dict()["kept"] != 5
    assert limits == DEFAULT.but(kept=5).but(rows=0) != DEFAULT == Limits()
    assert hash(limits) == hash(Limits(rows=0, kept=5)) and limits != 5
    assert repr(limits) == "Limits(kept=5, rows=0)" and repr(DEFAULT) == "Limits()"
    assert copy.deepcopy(limits) == pickle.loads(pickle.dumps(limits)) == limits


def test_they_do_not_change() -> None:
    with pytest.raises(AttributeError, match="limits do not change"):
        DEFAULT.kept = 5
    assert Limits() == DEFAULT


def test_as_the_command_line_has_them() -> None:
    assert Limits.parse("stream_records=2M,kept=1G") == Limits(stream_records=2 << 20, kept=1 << 30)
    assert [size_of(text) for text in ("0", "64K", "2m", "1G", "3T", " 7 ")] == [
        0, 64 << 10, 2 << 20, 1 << 30, 3 << 40, 7,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "found '', expected NAME=VALUE"),
        ("kept", "found 'kept', expected NAME=VALUE"),
        ("kept=1,", "found '', expected NAME=VALUE"),
        ("keeps=1", "no limit 'keeps'; expected context_records, stream_records"),
        ("kept=", "found '', expected a number such as"),
        ("kept=-1", "found '-1', expected a number"),
        ("kept=0x10", "found '0x10', expected a number"),
        ("kept=1.5G", "expected a number"),
        ("kept=1P", "expected a number"),
        ("kept=\u0661", "expected a number"),
        ("kept=K", "expected a number"),
        (f"kept={'9' * 50}", "expected a number"),
        ("kept=9999999T", "expected 0 to"),
    ],
)
def test_mistakes(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        Limits.parse(text)
    with pytest.raises(UsageError, match="expected 0 to"):
        Limits(kept=-1)


def test_the_error() -> None:
    error = Limits(rows=5).over("rows", "rows", layer="libxc", offset=16, record="HVM_PARAMS")
    assert isinstance(error, FormatError) and error.limit == "rows"
    assert str(error) == (
        "libxc: offset 0x10: HVM_PARAMS: more than 5 rows: --limits rows=N allows more"
    )
    whole = DEFAULT.over("input", "bytes", layer="context", offset=0)
    assert whole.problem == "more than 64 MiB: --max-size N allows more"
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, LimitError) and vars(again) == vars(error)


def test_every_one_is_documented() -> None:
    assert [name for name, _ in limits_doc.documented()] == list(DEFAULT.as_dict())
    for name, text in limits_doc.documented():
        assert text.count(". ") > 0, f"{name}: what it bounds, and why no genuine image reaches it"
    assert [limits_doc.size(number) for number in (0, 1000, 1 << 16, 3 << 30)] == [
        "0", "1000", "64K", "3G",
    ]  # fmt: skip
