"""The target `vmport`: any bytes as a VMPORT record, against the model of the patch's loader."""

from __future__ import annotations

from hvmctx.abi.vmport import PROFILES, VmportProfile
from hvmctx.context.vmport import VmportState, descriptor
from hvmctx.findings import ERROR
from hvmctx.fuzz.target import Target
from hvmctx.fuzz.vmport import mutate_record, random_record
from hvmctx.restore import vmport as loader

TYPE_CHECKING = False
if TYPE_CHECKING:
    import random

__all__ = ["VMPORT"]

_PROFILE = PROFILES["XEN_4_5_V6"]


def _run(data: bytes, profile: VmportProfile = _PROFILE) -> set[str]:
    """The loader and its findings agree: nothing is wrong with what it restores safely. The
    fixed loader never overruns its memory. A record read and written again is the same."""
    outcome = loader.restore(data, profile)
    found = loader.findings_of(data, profile)
    errors = [finding.rule for finding in found if finding.severity == ERROR]
    fixed = loader.restore_fixed(data, profile)
    if isinstance(outcome, loader.Refused):
        reached = {outcome.rule}
        assert errors and errors[0] == outcome.rule
        assert isinstance(fixed, loader.Refused)
    elif isinstance(outcome, loader.Violation):
        reached = {outcome.rule}
        assert outcome.rule in errors
        if outcome.kind != loader.INDEX:
            assert isinstance(fixed, loader.Refused)
    else:
        reached = {"restored"}
        assert not errors
        assert isinstance(fixed, loader.Restored) and fixed.state == outcome.state
        if not found:  # the writer writes the same state
            body = outcome.state.to_bytes(profile)
            again = loader.restore(descriptor(body) + body, profile)
            assert isinstance(again, loader.Restored) and again.state == outcome.state
            assert not loader.findings_of(descriptor(body) + body, profile)
    reached.update(finding.rule for finding in found)
    body = data[8:]
    state = VmportState.from_bytes(body, profile)
    assert state.to_bytes(profile) == body
    return reached


_KNOWN = {*loader.RULES, "restored"} - {"vmport-allocated"}


def _seeds(rng: random.Random) -> list[bytes]:
    return [random_record(rng, _PROFILE) for _ in range(8)]


def _mutate(data: bytes, rng: random.Random) -> bytes:
    return (
        mutate_record(data, rng, _PROFILE) if rng.random() < 0.9 else random_record(rng, _PROFILE)
    )


VMPORT = Target("vmport", _run, _KNOWN, _seeds, _mutate)
