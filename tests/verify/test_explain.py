from __future__ import annotations

import re

import pytest

from hvmctx.errors import UsageError
from hvmctx.verify.explain import explain, link_of
from hvmctx.verify.registry import rules
from tools import rules_doc


@pytest.mark.parametrize("rule", sorted({rule.id for rule in rules()}))
def test_every_rule(rule: str) -> None:
    lines = explain(rule).splitlines()
    assert lines[0].startswith(f"{rule}: ") and lines[1].startswith("  ")
    assert f"| {rule} |" in rules_doc.document()


def test_of_several_tables() -> None:
    assert explain("tsc-length") == (
        "tsc-length: restore: libxc X86_TSC_INFO, every release\n  the length is not 24\n"
        "tsc-length: verifier: libxc X86_TSC_INFO\n  the length is not 24\n"
        "see docs/rules.md#the-streams, docs/rules.md#verify---as-verifier\n"
    )


def test_where() -> None:
    """Whose rule it is, about what, since when, and with what errno."""
    for rule, where in (
        ("cpu-dr", "restore: CPU, 4.18 and later: EINVAL"),
        ("context-bounds", "restore: any record of an HVM context, 4.19 and later: ENODATA"),
        ("stream-v2", "restore: xl header, libxl header, libxc image header, up to 4.5"),
        ("context-tail", "strict: HVM context, as a whole"),
        ("page-gone", "strict: streams, as a whole"),
        (
            "record-empty",
            "verifier: libxc END, VERIFY, CHECKPOINT, STATIC_DATA_END, libxl END, LIBXC_CONTEXT, CHECKPOINT_END",
        ),
        ("vmport-type", "VMPORT, the patch's loader"),
    ):
        assert explain(rule).splitlines()[0] == f"{rule}: {where}"
    lines = explain("pic-length").splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [
        "pic-length: restore: PIC, up to 4.18: EINVAL",
        "pic-length: restore: PIC, 4.19 and later: ENODATA",
        "see docs/rules.md#pic",
    ]


def test_links_lead_to_the_rule() -> None:
    """To the section of docs/rules.md in whose table it is."""
    sections = re.split(r"^## (.*)$", rules_doc.document(), flags=re.MULTILINE)[1:]
    of = {
        re.sub(r"[^\w -]", "", title).lower().replace(" ", "-"): text
        for title, text in zip(sections[::2], sections[1::2])
    }
    for rule in {rule.id for rule in rules()}:
        page, _, section = link_of(rule).partition("#")
        assert page == "docs/rules.md" and f"| {rule} |" in of[section], rule
    assert link_of("a-handlers-own") == ""


def test_no_such_rule() -> None:
    with pytest.raises(UsageError, match="unknown rule 'nope'"):
        explain("nope")
