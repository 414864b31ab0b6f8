#!/usr/bin/env python3
"""Make docs/fidelity.md from what tools/fidelity.py has measured, and from the tables of rules."""

from __future__ import annotations

import json
import os
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

from hvmctx.abi.registry import record_types
from hvmctx.abi.releases import Release
from hvmctx.restore.context_rules import RULES, UNPAUSED, WALK
from hvmctx.restore.machine import AMD, INTEL
from hvmctx.restore.rules import Rule
from tools.markdown import table_row

HEAD = """\
# Fidelity

How far the model of a load (`hvmctx restore`, [rules.md](rules.md)) was compared with
hypervisors: of {contexts:,} contexts that they were asked to load, the model says something
else of {differ}. Measured on {date}. Made by tools/fidelity_doc.py from
`tests/data/hypervisors/measured.json`, which `make fidelity` writes where the samples are.

A rule is *measured* on a tree if contexts were refused there that the model refuses by that
rule, with the same errno. What was never asked is *read*: from the source of every release tag,
4.0.0 to 4.22.0 and August 2026. So are all verdicts of releases before 4.5.5, of shadowed
guests (the 4.17 and 4.20 that could be asked are built without shadow paging), of hosts without
XSAVE, and what is allowed by features that no guest had:

- on AMD {amd_lacks};
- on Intel {intel_lacks}.

Contexts that kill the hypervisor (viridian-domain-tsc-page) were seen on 4.14.6 and 4.16.7 when
the samples were made, and are therefore not among those of these trees.

Besides these sets, contexts of `hvmctx fuzz generate`, which aims at the rules, were loaded by
hypervisors under emulation on 2026-11-28: 3,000 each by 4.17.7 and 4.20 on AMD, and 3,000 by
4.17.7 on Intel. All verdicts and their errno were the model's; 46, 60 and 54 rules were reached.

## Agreement

The AMD trees ran under QEMU's TCG, into a guest with HAP, viridian and without memory; the
Intel ones under Bochs. Sets named "images" are those of `tests/data/real-contexts.tar.xz`; the
"pvh" ones on AMD are single records, whole and altered, of devices that a PVH guest has or
lacks. The suite holds {slice:,} of these contexts (`tests/restore/test_hypervisors.py`), chosen
to reach every rule that each set reaches, with one that is loaded near each that is refused.

| hypervisor | guest | contexts | loaded | rules reached | differ |
|---|---|---|---|---|---|
"""
DIFFERING = """
The contexts that differ, with the answers of the hypervisor and of the model; the reason is in
[differences.md](differences.md#what-hypervisors-answer).

| hypervisor | context | Xen | model | rule |
|---|---|---|---|---|
"""
RULES_HEAD = """
## Rules

How many contexts each rule refused on which trees. The last column is about the bounds of
releases: which hypervisor loads contexts that the rule would refuse, and which refuses such. The
exact tag between two trees is always read. "Refuses more" and "refuses less" tell of bounds
inside of a rule: how many contexts of the two trees show it.

| rule | errno | releases | AMD | Intel | bounds |
|---|---|---|---|---|---|
"""
RECORDS = """
## Records

How many of the contexts that were loaded have a record of each type: with as many the model did
not refuse too much.

| record | AMD | Intel |
|---|---|---|
"""
TOTALS = """
Of {rows} rows {amd} are measured on AMD, {intel} on Intel, {either} on either, and {read} are
read only: {names}.
"""
POLICIES_HEAD = """
## CPU policies

Altered policies were set on a paused guest by hypervisors, its first policy put back before
each, and the model (`hvmctx policy`, [placing.md](placing.md)) asked about the same: of
{policies:,} it says something else of {differ}. Compared are the errno, the leaf, subleaf or MSR
that the hypervisor names, and every row of the policy afterwards. Those called samples are not
of this project; the others were made as `hvmctx fuzz generate --kind policy` makes them.
"Clamped" are those of the set ones after which any row differed from before. Made by
`tools/policies.py`; the suite holds a part (`tests/restore/test_policy_rules.py`).

| hypervisor | guest | policies | set | clamped | refused, by rule | differ |
|---|---|---|---|---|---|---|
"""
READ = "read"
FOLDER = Path(sys.path[0]) / "tests" / "data" / "hypervisors"
MEASURED = FOLDER / "measured.json"
POLICIES = FOLDER / "policies.json"

ASKED = (
    "VME", "DE", "PSE", "TSC", "PAE", "MCE", "PGE", "MCA", "FXSR", "SSE", "VMX", "PCID",
    "XSAVE", "FSGSBASE", "SMEP", "MPX", "SMAP", "UMIP", "PKU", "CET_SS", "PKS", "CET_IBT",
    "IBRSB", "SSBD", "LASS", "INTEL_PSFD", "IPRED_CTRL", "RRSBA_CTRL", "BHI_CTRL", "XSAVES",
    "SVM", "DBEXT", "SYSCALL", "NX", "FFXSR", "LM", "IBRS", "AMD_SSBD", "VIRT_SSBD", "PSFD",
    "AUTO_IBRS",
)  # fmt: skip
"""The features of CPUID that the rules of a context ask for."""


class Numbers:
    """What was measured, as it is written down."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.date: str = told["date"]
        self.sets: list[dict[str, Any]] = told["sets"]
        self.changes: list[dict[str, Any]] = told["changes"]
        self.slice: int = told["slice"]
        self.line = [one for one in self.sets if one["line"]]

    def fired(self, rule: Rule, vendor: str) -> dict[str, int]:
        """Release -> contexts that this row has refused there, by age."""
        counts: dict[str, int] = {}
        for one in self.sets:
            release, count = one["release"], one["fired"].get(rule.id, 0)
            if one["vendor"] == vendor and count and Release(release) in rule.releases:
                counts[release] = counts.get(release, 0) + count
        return dict(sorted(counts.items(), key=lambda item: Release(item[0])))

    def lacks(self, vendor: str) -> str:
        """The features that no guest on this vendor's hosts had."""
        there = {name for one in self.sets if one["vendor"] == vendor for name in one["features"]}
        return ", ".join(name for name in ASKED if name not in there)

    def trees(self, rule: Rule, vendor: str) -> list[str]:
        """The releases with this row that were asked, by age."""
        names = {one["release"] for one in self.sets if one["vendor"] == vendor}
        return sorted((name for name in names if Release(name) in rule.releases), key=Release)

    def bounds(self, rule: Rule) -> list[str]:
        """What is known of the first and the last release, and of changes in between."""
        told, trees = [], [one["release"] for one in self.line]
        siblings = [row for row in ROWS if row.id == rule.id]
        stands = {tree: any(Release(tree) in row.releases for row in siblings) for tree in trees}
        for older, newer in pairwise(trees):
            if stands[older] != stands[newer]:
                told.append(self._bound(rule, older, newer, stands))
        bounded = rule.releases.since != rule.releases.oldest or rule.releases.gone is not None
        if not told and len(siblings) > 1:
            told.append("only the errno changes")
        elif not told and bounded:
            told.append(READ)
        for change in self.changes:
            pair = change["older"], change["newer"]
            counts = change["rules"].get(rule.id)
            if counts and all(Release(tree) in rule.releases for tree in pair):
                how = "more" if change["comes"] else "less"
                told.append(f"{pair[1]} refuses {how} than {pair[0]} ({counts[1]} and {counts[0]})")
        return told

    def _bound(self, rule: Rule, older: str, newer: str, stands: dict[str, bool]) -> str:
        """Of a bound between two trees: the nearest that shows it, on either side."""
        at = list(stands).index(newer)
        before, after = self.line[:at][::-1], self.line[at:]
        sides = []
        for trees, tree in ((before, older), (after, newer)):
            key, verb = ("fired", "refuses") if stands[tree] else ("lacking", "loads")
            told = next(
                (f"{one['release']} {verb} {one[key][rule.id]}" for one in trees
                 if stands[one["release"]] == stands[tree] and one[key].get(rule.id)),
                None,
            )  # fmt: skip
            sides.append(told or f"{tree}: read")
        return ", ".join(sides)


ROWS = (*WALK, *RULES, *UNPAUSED)


def on_trees(counts: dict[str, int], trees: list[str]) -> str:
    """`57 on 4.18.6, newest`; `all` if it is all of these trees, and those that are missing if
    they are fewer."""
    if not counts:
        return READ
    missing = [tree for tree in trees if tree not in counts]
    where = ", ".join(counts)
    if len(missing) < len(counts):
        where = f"all but {', '.join(missing)}" if missing else "all"
    return f"{sum(counts.values()):,} on {where}"


def document(told: dict[str, Any] | None = None) -> str:
    """The whole page, by default of what is committed."""
    numbers = Numbers(told or json.loads(MEASURED.read_text(encoding="utf-8")))
    sets = numbers.sets
    contexts = sum(one["contexts"] for one in sets)
    differ = sum(len(one["differ"]) for one in sets)
    lines = [
        HEAD.format(
            contexts=contexts,
            differ=differ,
            date=numbers.date,
            slice=numbers.slice,
            amd_lacks=numbers.lacks(AMD),
            intel_lacks=numbers.lacks(INTEL),
        )
    ]
    for one in sets:
        lines.append(
            table_row(one["name"], one["guest"], f"{one['contexts']:,}", f"{one['accepted']:,}",
                  len(one["fired"]), len(one["differ"]))
        )  # fmt: skip
    loaded = sum(one["accepted"] for one in sets)
    reached = {rule for one in sets for rule in one["fired"]}
    lines.append(table_row("all", "", f"{contexts:,}", f"{loaded:,}", len(reached), differ))
    lines.append(DIFFERING)
    for one in sets:
        for odd in one["differ"]:
            answers = (odd["xen"] or "loaded", odd["model"] or "loaded")
            lines.append(table_row(one["name"], odd["name"], *answers, odd["rule"]))
    lines.append(RULES_HEAD)
    by_vendor: dict[str, set[Rule]] = {AMD: set(), INTEL: set()}
    for rule in ROWS:
        cells = []
        for vendor, fired in by_vendor.items():
            counts = numbers.fired(rule, vendor)
            cells.append(on_trees(counts, numbers.trees(rule, vendor)))
            if counts:
                fired.add(rule)
        bounds = "; ".join(numbers.bounds(rule))
        lines.append(table_row(rule.id, rule.errno or "dies", rule.releases, *cells, bounds))
    either = by_vendor[AMD] | by_vendor[INTEL]
    never = [rule for rule in ROWS if rule not in either]
    lines.append(
        TOTALS.format(
            rows=len(ROWS), amd=len(by_vendor[AMD]), intel=len(by_vendor[INTEL]),
            either=len(either), read=len(never), names=", ".join(rule.id for rule in never),
        )
    )  # fmt: skip
    lines.append(RECORDS)
    for known in sorted(record_types(), key=lambda known: known.typecode):
        loads = [
            sum(one["loaded"].get(known.name, 0) for one in sets if one["vendor"] == vendor)
            for vendor in by_vendor
        ]
        if any(loads):
            lines.append(table_row(known.name, *(f"{count:,}" for count in loads)))
    return "".join(lines + policies())


def policies() -> list[str]:
    """The section about CPU policies."""
    sets = json.loads(POLICIES.read_text(encoding="utf-8"))
    total = sum(one["policies"] for one in sets)
    lines = [POLICIES_HEAD.format(policies=total, differ=sum(len(one["differ"]) for one in sets))]
    for one in sets:
        refused = ", ".join(f"{count} {rule}" for rule, count in one["rules"].items())
        lines.append(
            table_row(one["name"], one["guest"], f"{one['policies']:,}", f"{one['set']:,}",
                      f"{one['changed']:,}", refused, len(one["differ"]))
        )  # fmt: skip
    return lines


def files() -> dict[str, str]:
    return {"docs/fidelity.md": document()}


if __name__ == "__main__":
    sys.stdout.write(document())
