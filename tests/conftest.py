"""Hypothesis profiles for the suite."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

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
