"""The target `strict`: any bytes as an HVM context, in the strict view."""

from __future__ import annotations

from hvmctx.abi.releases import Release
from hvmctx.errors import HvmctxError
from hvmctx.files.opening import is_compressed
from hvmctx.fuzz.target import Target, choose
from hvmctx.fuzz.target_context import LOADS, context_seeds, mutated
from hvmctx.restore.context import load
from hvmctx.verify.registry import rules
from hvmctx.verify.views import STRICT as VIEW
from hvmctx.verify.views import verify

__all__ = ["STRICT"]

_RELEASES = tuple(Release(name) for name in ("4.5", "4.17", "newest"))


def _run(data: bytes) -> set[str]:
    """There are findings, all within the input, or an HvmctxError; a load gives the same
    verdict for any kind of buffer."""
    if is_compressed(data):  # another format, then
        return set()
    into = LOADS["4.17"]
    assert load(bytearray(data), *into).as_dict() == load(data, *into).as_dict()
    try:
        found = verify(data, VIEW, releases=[choose(data, _RELEASES)], layer="context")
    except HvmctxError as error:
        return {type(error).__name__}
    assert all(0 <= finding.offset <= len(data) for finding in found)
    return {finding.rule for finding in found}


_KNOWN = {rule.id for rule in rules(VIEW, "context")}
STRICT = Target("strict", _run, _KNOWN, context_seeds, mutated)
