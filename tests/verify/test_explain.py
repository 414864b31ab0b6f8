from __future__ import annotations

import pytest

from hvmctx.errors import UsageError
from hvmctx.restore.context import WALK, rules
from hvmctx.restore.stream import HEADER_RULES
from hvmctx.restore.stream import RULES as STREAM
from hvmctx.restore.vmport import RULES as VMPORT
from hvmctx.verify import strict_context, strict_stream, verifier
from hvmctx.verify.explain import explain
from tools import rules_doc

ALL = {
    *(rule.id for rule in rules()),
    *(rule.id for rule in STREAM),
    *(check.id for check in verifier.HEADER_CHECKS),
    *(check.id for check in verifier.CHECKS),
    *(check.id for check in strict_stream.HEADER_CHECKS),
    *(check.id for check in strict_stream.CHECKS),
    *(check.id for check in strict_context.CHECKS),
    *WALK, *VMPORT, *HEADER_RULES, *strict_stream.WHOLE, *strict_context.WHOLE,
}  # fmt: skip


@pytest.mark.parametrize("rule", sorted(ALL))
def test_every_rule(rule: str) -> None:
    lines = explain(rule).splitlines()
    assert lines[0].startswith(f"{rule}: ") and lines[1].startswith("  ")
    assert f"| {rule} |" in rules_doc.document()


def test_of_several_tables() -> None:
    assert explain("tsc-length") == (
        "tsc-length: restore: libxc X86_TSC_INFO, every release\n  the length is not 24\n"
        "tsc-length: verifier: libxc X86_TSC_INFO\n  the length is not 24\n"
    )


def test_no_such_rule() -> None:
    with pytest.raises(UsageError, match="no rule is called 'nope'"):
        explain("nope")
