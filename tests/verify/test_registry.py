"""The registry: every rule, what a row of it holds, and a case for each."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from hvmctx.abi import streams
from hvmctx.abi.registry import record_types
from hvmctx.findings import SEVERITIES
from hvmctx.restore.rules import ANY, WHOLE, Rule
from hvmctx.stream.reader import CONTEXT, LIBVIRT, LIBXC, LIBXL, XAPI, XL
from hvmctx.verify.registry import HOST, TABLES, VMPORT, rules
from hvmctx.verify.views import RESTORE, STRICT, VERIFIER, VIEWS
from tests.builders.cases import CASES, TESTED_ALONE

NAMES = {
    CONTEXT: {known.name for known in record_types()},
    LIBXC: {*streams.LIBXC_RECORDS.values(), "image header", "domain header"},
    LIBXL: {*streams.LIBXL_RECORDS.values(), "header"},
    XL: {"header"},
    XAPI: {*streams.XAPI_RECORDS.values(), "header"},
    LIBVIRT: {"header"},
}


def identify(rule: Rule) -> str:
    return f"{rule.id}-{rule.layer}-{rule.record or 'whole'}"


def test_every_rule_has_a_case() -> None:
    """In one of the views that it belongs to. Those about devices that a guest lacks are
    tried by `test_devices_that_are_not_there`."""
    views = list(dict.fromkeys(table.view for table in TABLES))
    tried = {view: {case.partition("#")[0] for case in CASES[view]} for view in views}
    for view in views:
        there = {rule.id for rule in rules(view)}
        assert tried[view] <= there
        alone = {rule for rule in there if rule.endswith("-device")} | TESTED_ALONE.keys()
        shared = {rule for other in views if other != view for rule in tried[other]}
        assert there - tried[view] - alone <= shared


def test_those_tested_alone_are() -> None:
    ids = {rule.id for rule in rules()}
    text = "".join(path.read_text() for path in Path(__file__).parent.parent.rglob("test_*.py"))
    for rule, test in TESTED_ALONE.items():
        assert rule in ids and f"def {test}(" in text


@pytest.mark.parametrize("rule", rules(), ids=identify)
def test_a_row(rule: Rule) -> None:
    assert rule.record in NAMES[rule.layer] | {ANY, WHOLE}
    assert rule.severity in SEVERITIES
    assert rule.errno is None or hasattr(errno, rule.errno)
    assert rule.words and not rule.words.endswith(".")
    assert rule.id == rule.id.lower() and rule.id.replace("-", "").replace("_", "").isalnum()


def test_predicates() -> None:
    """Only rules about the whole, and those of the VMPORT loader's model, have none."""
    for rule in rules():
        judged_elsewhere = rule.record in (WHOLE, "VMPORT")
        assert judged_elsewhere or rule.predicate is not None, rule


def test_views() -> None:
    assert {table.view for table in TABLES} == {*VIEWS, HOST, VMPORT}
    everything = rules()
    assert len(everything) == len(set(everything)) > 250
    assert rules(RESTORE, CONTEXT, LIBXC, LIBXL, XL, XAPI, LIBVIRT) == rules(RESTORE)
    assert {rule.layer for rule in rules(STRICT, CONTEXT)} == {CONTEXT}
    assert repr(TABLES[0]) == "<restore rules about a context as a whole, 6>"


def test_what_two_views_share_is_one_row() -> None:
    shared = {rule.id for rule in rules(VERIFIER) if rule in rules(RESTORE)}
    assert shared == {
        "cpuid-policy-length", "hvm-context-empty", "hvm-params-count", "hvm-params-short",
        "libxl-emulator-short", "msr-policy-length", "page-data-length", "page-data-type",
        "pv-vcpu-short", "shared-info-length", "tsc-length",
    }  # fmt: skip
