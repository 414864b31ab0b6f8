"""How much of a property or a table the suite looks at; `make long` looks at the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pytest
from hypothesis import settings

Property = TypeVar("Property", bound=Callable[..., object])


def few(test: Property) -> Property:
    """For a property that takes long, or that many parameters repeat: a quarter of the examples
    of the profile."""
    default = settings.default
    assert default is not None
    return settings(max_examples=default.max_examples // 4)(test)


def one_in(step: int, cases: Sequence[Any]) -> list[Any]:
    """Parameters: the first of so many as they are, the others `long`."""
    return [
        pytest.param(case, marks=pytest.mark.long) if at % step else case
        for at, case in enumerate(cases)
    ]
