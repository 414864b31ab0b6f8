"""Hypothesis profiles for the suite, and the fixture that many modules use."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from hvmctx.cli import main
from tests.running import Result, Run, Said

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
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs the command: its exit status, and what it said on stdout and stderr."""

    def call(*arguments: object) -> Result:
        status = main([str(argument) for argument in arguments])
        return Result(status, Said(*capfd.readouterr()))

    return call
