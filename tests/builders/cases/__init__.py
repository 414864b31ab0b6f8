"""A case for every rule, by the view that it belongs to: to add a rule, add one here."""

from __future__ import annotations

from hvmctx.verify.registry import HOST, VMPORT
from hvmctx.verify.views import RESTORE, STRICT, VERIFIER
from tests.builders.cases import (
    context_rules,
    hazards,
    policies,
    strict_context,
    strict_stream,
    verifier,
    vmport,
)
from tests.builders.cases import stream as readers

CASES = {
    RESTORE: {*context_rules.WALK, *context_rules.CASES, *hazards.CASES, *readers.CASES},
    VERIFIER: {*verifier.CASES},
    STRICT: {*strict_stream.CASES, *strict_context.CASES},
    HOST: {*policies.CASES},
    VMPORT: {*vmport.CASES},
}
"""View -> ids of rules; `#` and a word after an id tell its cases apart."""
TESTED_ALONE = {
    **dict.fromkeys(("host-hvm", "host-hap", "host-nested"), "test_domains_that_are_not_made"),
    **dict.fromkeys(
        (
            "host-feature-used",
            "host-feature-lost",
            "host-vendor",
            "host-address-bits",
            "host-xstate",
            "host-tsc",
            "host-no-policy",
        ),
        "test_what_becomes_of_the_guest",
    ),
    "host-unjudged": "test_what_is_not_judged",
    "checkpoint-optional": "test_a_checkpointed_stream_may_end_anywhere",
    "cpu-cr3-page": "test_shadowed_page_tables_need_their_page",
    "cpu-xsave-host": "test_host_without_xsave",
    "libxc-length": "test_longest_records",
    "libxc-version": "test_releases",
    "scattered": "test_too_scattered",
    "stream-v2": "test_releases",
    "viridian-domain-tsc-page": "test_a_reference_tsc_without_its_page",
    "vmport-allocated": "test_state_that_is_not_allocated",
    "verify-unchecked": "test_pages_that_went_by_cannot_be_compared",
    "vmport-slot-allocated": "test_memory_for_slots",
}
"""Rules that take more than a pair of inputs: id -> the test that they have instead."""
