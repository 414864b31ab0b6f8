from __future__ import annotations

import pytest

from hvmctx.abi.releases import RELEASES, Release
from hvmctx.context.hvm_context import HvmContext
from hvmctx.restore.context import load
from hvmctx.restore.guest import Guest
from hvmctx.save.reset import reset_context
from hvmctx.verify.strict_context import findings_of


@pytest.mark.parametrize("release", RELEASES)
def test_every_release_takes_it(release: str) -> None:
    for vcpus in (1, 3, 128):
        context = reset_context(vcpus, Release(release)).to_bytes()
        assert load(context, Release(release), Guest(vcpus=vcpus)).accepted
        assert findings_of(HvmContext.from_bytes(context)) == []


def test_the_newest_by_default() -> None:
    assert reset_context(2).to_bytes() == reset_context(2, Release("newest")).to_bytes()
    assert reset_context(2).vcpus[1].cpu.rip == 0xFFF0
