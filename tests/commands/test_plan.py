from __future__ import annotations

import pytest

from hvmctx.cli import main


def test_a_plan(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "1GiB", "--hot", "16MiB@5000", "--bandwidth", "100MiB/s"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].split() == ["pass", "pages", "MiB", "seconds"]
    assert lines[1].split() == ["1", "262144", "1024.0", "10.240"]
    assert lines[-1].endswith("s of downtime")


def test_policies_differ(capfd: pytest.CaptureFixture[str]) -> None:
    """With 50 pages left one goes on, the other sends these and stops."""
    passes = []
    for policy in ("4.10", "2014"):
        how = ["--hot", "200KiB@1000000000", "--bandwidth", "1Gbit", "--policy", policy]
        assert main(["plan", "1GiB", *how]) == 0
        passes.append(capfd.readouterr().out.count("\n") - 4)
    assert passes == [5, 2]


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        (("4x",), 2, "expected a size such as"),
        (("1GiB", "--bandwidth", "fast"), 2, "expected a size such as"),
        (("1GiB", "--bandwidth", "0"), 2, "at least one byte a second"),
        (("1GiB", "--hot", "5MiB"), 2, "expected SIZE@RATE"),
        (("1GiB", "--hot", "5MiB@x"), 2, "expected SIZE@RATE"),
        (("1MiB", "--hot", "2MiB@1"), 2, "larger than the guest"),
        (("0",), 2, "less than a page"),
        (("2047",), 2, "less than a page"),
        (("9" * 400,), 2, f"{'9' * 24}...: too large"),
        (("9" * 308 + "TiB",), 2, "too large"),
        (("1GiB", "--hot", f"{'9' * 400}@1"), 2, "too large"),
        (("1GiB", "--hot", "64MiB@nan"), 2, "cannot be written nan times"),
        (("1GiB", "--hot", "64MiB@inf"), 2, "cannot be written inf times"),
        (("1GiB", "--hot", "64MiB@-1e9"), 2, "cannot be written -1000000000.0 times"),
        (("1GiB", "--bandwidth", "9" * 400), 2, "too large"),
        (
            ("1GiB", "--bandwidth", f"0.{'0' * 320}1", "--hot", "1MiB@1"),
            2,
            "at least one byte a second",
        ),
        (("2TiB",), 1, "E2BIG"),
    ],
)
def test_what_fails(
    arguments: tuple[str, ...], status: int, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *arguments]) == status
    said = capfd.readouterr()
    assert reason in said.err and said.err.count("\n") == 1 and not said.out
