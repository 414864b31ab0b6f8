from __future__ import annotations

import pytest

from hvmctx.restore.vmport import SITES, Restored, Violation, findings_of, restore, restore_fixed
from tools import vmport_flaws


@pytest.mark.parametrize("site", SITES)
def test_each_flaw(site: str) -> None:
    record = vmport_flaws.record(site)
    outcome = restore(record)
    assert isinstance(outcome, Violation) and outcome.site == site
    assert findings_of(record)[0].rule == outcome.rule
    fixed = restore_fixed(record)
    assert isinstance(fixed, Restored) == (outcome.kind == "index")


@pytest.mark.parametrize("site", [s for s in SITES if s not in ("version", "fixed part")])
def test_no_shorter_record_does(site: str) -> None:
    record = vmport_flaws.record(site)
    shorter = record[:4] + (len(record) - 9).to_bytes(4, "little") + record[8:-1]
    outcome = restore(shorter)
    assert not isinstance(outcome, Violation) or outcome.site != site
