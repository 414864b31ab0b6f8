from __future__ import annotations

import io

import pytest

from hvmctx.abi.releases import Release
from hvmctx.findings import WARNING
from hvmctx.save.build import DEFAULT_PARAMS, build
from hvmctx.save.guests import StillGuest
from hvmctx.save.reset import reset_context
from hvmctx.verify.built import MISMATCHES, contradictions
from hvmctx.verify.registry import rules
from hvmctx.verify.views import STRICT
from tests.builders.samples import context_bytes


@pytest.mark.parametrize(
    ("state", "rule"),
    [
        ({"params": [(17, 5)]}, "param-missing"),
        ({"context": context_bytes()[:-8]}, "context-end"),
        ({"context": context_bytes()[:8] + bytes(1) + context_bytes()[9:]}, "context-magic"),
    ],
)  # fmt: skip
def test_contradictions(state: dict[str, object], rule: str) -> None:
    context = reset_context(1, Release("4.17")).to_bytes()
    parts = {"context": context, "params": DEFAULT_PARAMS.items(), **state}
    out = io.BytesIO()
    build(StillGuest(**parts), out, layer="libxc")  # type: ignore[arg-type]
    found = contradictions(out, Release("4.17"))
    assert rule in [finding.rule for finding in found]


def test_mismatches_are_warnings_of_strict() -> None:
    assert {r.id for r in rules(STRICT) if r.severity == WARNING} >= MISMATCHES
