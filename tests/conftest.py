"""Hypothesis profile for the suite, and fixtures that many modules use."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "suite", max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")
