"""What type checkers see of the declared structures is what stands in the declarations."""

from __future__ import annotations

from tools import stubs


def test_the_stub_is_up_to_date() -> None:
    assert stubs.STUB.read_text() == stubs.text(), "run tools/stubs.py"
