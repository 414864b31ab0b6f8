#!/usr/bin/env python3
"""Make docs/rules.md from the tables of rules: `rules_doc.py > docs/rules.md`."""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

from hvmctx.restore.context import ERRNO_SINCE
from hvmctx.restore.context_rules import CHECKED_SINCE
from hvmctx.restore.rules import WHOLE, Rule
from hvmctx.stream.reader import CONTEXT, LIBVIRT, LIBXC, LIBXL, XAPI, XL
from hvmctx.verify.registry import HOST, TABLES, VMPORT
from hvmctx.verify.views import RESTORE, STRICT, VERIFIER
from tools.markdown import table_row

STREAM_LAYERS = (XL, XAPI, LIBVIRT, LIBXL, LIBXC)
DOCUMENT = os.path.join(sys.path[0], "docs", "rules.md")
HEAD = """\
# Rules

First what Xen checks when it loads an HVM context, in the order of its loaders, and what
its toolstack checks of the streams: `hvmctx restore` applies these, and `hvmctx verify --as
restore`. Then those of the other two views of `hvmctx verify`. `--explain RULE` prints one.
Made by tools/rules_doc.py from the tables in `hvmctx/restore/` and `hvmctx/verify/`.

Since {errno} the refusal of a record has the errno below; before
that every refusal is EPERM. ENOTSUP is Linux's name for what Xen's source calls EOPNOTSUPP.
Since 4.19 a first pass checks the framing of the whole context, and these records, before
anything is loaded: {checked}.

The bounds of releases were read from every release tag. [fidelity.md](fidelity.md) says of each
rule on which hypervisors it was measured as well. Besides, Xen 4.17 and 4.20 on AMD agreed on
21,855 contexts that aimed at these rules, and on 97 each loaded into a PVH guest.
`cpu-msr-cut` and `cpu-xsave-cut` cannot fire since 4.19, where the first
pass refuses such records as `context-bounds`.

## The walk

| rule | errno | refused when |
|---|---|---|
"""
UNPAUSED = """
## The hypervisor dies

The load pauses the guest, and ends the pause whether or not it refused a record. What is in
the records loaded by then can kill the hypervisor at that moment: `hvmctx restore` reports a
violation. Only what dies within the load itself is one. A viridian timer that is periodic with
a count of 0 (XSA-504), or whose message page is off (XSA-472, CVE-2025-58142), is loaded
without harm by a release build: such timers, of 4.13 and later, can kill the hypervisor only
when the guest is paused and unpaused again, or runs.

| rule | record | releases | dies when |
|---|---|---|---|
"""
HAZARDS = """
## Hazards

What a release loads and then suffers by. None of these speaks against a load: the verdict stays
accept, `hvmctx restore` says `accept, with 1 hazard`, and `hvmctx verify --as restore` warns. The
commits are those of xen.git that mended it; the releases are those that suffer, read from every
tag. Harm by the load shows when the record is loaded, or another one after it: `hvmctx fuzz
diff` does not try such contexts on a hypervisor.

Seen on running hypervisors: Xen 4.17.7 restores an image with `pic-wrong-master`, and dies of a
general protection fault as soon as the guest runs; 4.20 refuses it. Xen 4.17.7 and 4.20.4 restore
an image with `lapic-divisor`, and die of a divide error when the guest reads its timer's count; no
release guards against it. Of the others it was only asked whether the record is loaded; what comes
of it was read in the source.

| rule | record | harms | releases | what happens | mended by |
|---|---|---|---|---|---|
"""
RECORD = """
## {}

| rule | errno | releases | refused when |
|---|---|---|---|
"""


STREAMS = """
## The streams

What libxc's restore, libxl's reader, and around them xenopsd and libvirt refuse, before the
hypervisor is asked. Releases
from 4.6 on; "every release" means these. They agree with Debian's Xen 4.17 on its 36
altered streams, and on 1,994 of 2,000 mutations of a stream. The other six have a pfn
between 2^37 and 2^40; the genuine restore could not allocate a bitmap for it on that machine.

| rule | record | releases | refused when |
|---|---|---|---|
"""


PLACED = """
## A host

What `hvmctx policy`, and `verify` and `restore` with --host, find; [placing.md](placing.md) says
more. The domain is made first, then its CPU policy is set, which comes before memory and context;
a rule without an errno refuses nothing by itself.

| rule | errno | releases | severity | found when |
|---|---|---|---|---|
"""
REMEDIES = """
## Remedies

What `hvmctx repair` does about a record that one of these rules refuses, if that makes a
difference; [repairing.md](repairing.md) says more. The others have no remedy.

| rule | what mends it |
|---|---|
"""
LOADER = """
## VMPORT

No release loads type 21 (context-type). These rules are of the patch's loader; see vmport.md.

| rule | what |
|---|---|
"""
VERIFIED = """
## verify --as verifier

What Xen's own verify-stream-v2 refuses, each an error. It agrees with Debian's on its 36
altered streams and on 100,000 mutations of seven streams, except for streams that say they
are big-endian, which Debian's accepts (its test masks with 0). Unlike that program, this view
reads pipes, checkpointed streams and xenstore data.

| rule | severity | record | found when |
|---|---|---|---|
"""
STRICTLY = """
## verify --as strict

All of the above, and these.

| rule | severity | record | found when |
|---|---|---|---|
"""


def rules_of(view: str, *layers: str) -> list[Rule]:
    """Every row of a view, in the order of its tables."""
    parts = [part for part in TABLES if part.view == view]
    return [rule for part in parts for rule in part.rules if rule.layer in layers]


def place(rule: Rule) -> str:
    """What stands in the column of records."""
    if rule.record == WHOLE:
        return "whole context" if rule.layer == CONTEXT else "whole stream"
    return rule.record if rule.layer == CONTEXT else f"{rule.layer} {rule.record}"


def document() -> str:
    """The whole document."""
    errno = ", ".join(ERRNO_SINCE.split())
    checked = ", ".join(f"{record} ({since})" for record, since in CHECKED_SINCE.items())
    lines = [HEAD.format(checked=checked, errno=errno)]
    walk, records = (part.rules for part in TABLES[:2])
    lines += [table_row(rule.id, rule.errno, rule.words) for rule in walk]
    record = ""
    for rule in records:
        if rule.record != record:
            record = rule.record
            lines.append(RECORD.format(record))
        lines.append(table_row(rule.id, rule.errno, rule.releases, rule.words))
    lines.append(UNPAUSED)
    for rule in TABLES[2].rules:
        lines.append(table_row(rule.id, rule.record, rule.releases, rule.words))
    lines.append(HAZARDS)
    for rule in TABLES[3].rules:
        mended = ", ".join(filter(None, (rule.commit, rule.cve))) or "nothing"
        lines.append(table_row(rule.id, rule.record, rule.harms, rule.releases, rule.words, mended))
    lines.append(STREAMS)
    for rule in rules_of(RESTORE, *STREAM_LAYERS):
        lines.append(table_row(rule.id, place(rule), rule.releases, rule.words))
    lines.append(PLACED)
    for rule in rules_of(HOST, *STREAM_LAYERS):
        errno = rule.errno or "none"
        lines.append(table_row(rule.id, errno, rule.releases, rule.severity, rule.words))
    lines.append(REMEDIES)
    mends: dict[str, list[str]] = {}
    for rule in (rule for part in TABLES for rule in part.rules):
        if rule.remedy is not None:
            mends.setdefault(rule.remedy.words, []).append(rule.id)
    for words, ids in mends.items():
        lines.append(table_row(", ".join(dict.fromkeys(ids)), words))
    lines.append(LOADER)
    lines += [table_row(rule.id, rule.words) for rule in rules_of(VMPORT, CONTEXT)]
    for view, title in ((VERIFIER, VERIFIED), (STRICT, STRICTLY)):
        lines.append(title)
        for rule in rules_of(view, *STREAM_LAYERS, CONTEXT):
            lines.append(table_row(rule.id, rule.severity, place(rule), rule.words))
    return "".join(lines)


def files() -> dict[str, str]:
    return {"docs/rules.md": document()}


if __name__ == "__main__":
    sys.stdout.write(document())
