"""Hypothesis profiles for the suite, and the fixture that many modules use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from hvmctx.cli import main

settings.register_profile(
    "suite",
    max_examples=60,
    deadline=None,
    derandomize=True,  # the same verdict for the same code, on every machine
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("explore", settings.get_profile("suite"), derandomize=False)
settings.register_profile("explore-long", settings.get_profile("explore"), max_examples=3000)
settings.load_profile("suite")


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Runs the command: its exit status, and what it said on stdout and stderr."""

    def call(*arguments: object) -> Any:
        status = main([str(argument) for argument in arguments])
        return status, capfd.readouterr()

    return call
