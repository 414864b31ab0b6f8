from __future__ import annotations

from hvmctx.findings import ERROR, SEVERITIES, Finding


def test_forms() -> None:
    finding = Finding(
        ERROR, "cpu-cr0", "cr0 has PG without PE", layer="context", offset=32, record="CPU/0"
    )
    assert str(finding) == "error: context: offset 0x20: CPU/0: cr0 has PG without PE [cpu-cr0]"
    assert repr(finding) == f"<{finding}>"
    assert finding.as_dict() == {
        "layer": "context", "offset": 32, "record": "CPU/0", "rule": "cpu-cr0",
        "severity": "error", "text": "cr0 has PG without PE",
    }  # fmt: skip
    assert str(Finding("note", "r", "t", layer="xl", offset=0)) == "note: xl: offset 0x0: t [r]"
    assert SEVERITIES[-1] == ERROR
