#!/usr/bin/env python3
"""docs/rules.md, out of the tables of rules: `rules_doc.py > docs/rules.md`."""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

from hvmctx.restore.context import WALK, rules
from hvmctx.restore.context_rules import CHECKED_SINCE
from hvmctx.restore.stream import HEADER_RULES
from hvmctx.restore.stream import RULES as STREAM
from hvmctx.restore.vmport import RULES as VMPORT
from hvmctx.verify import strict_context, strict_stream, verifier

DOCUMENT = os.path.join(sys.path[0], "docs", "rules.md")
HEAD = """\
# Rules

First what Xen checks when it loads an HVM context, in the order of its loaders, and what
its toolstack checks of the streams: `hvmctx restore` applies these, and `hvmctx verify --as
restore`. Then those of the other two views of `hvmctx verify`. `--explain RULE` prints one.
Made by tools/rules_doc.py from the tables in `hvmctx/restore/` and `hvmctx/verify/`.

A refusal of a record comes out with the errno below since 4.17; up to 4.16 every refusal
is EPERM. (4.5 and 4.17 are known; in between the step is put before 4.17.) ENOTSUP is the
name that Linux has for what Xen's source calls EOPNOTSUPP. Since 4.19 a first pass checks
the framing of the whole context, and these records, before anything is loaded:
{checked}.

The rules agree with what Xen 4.17 and Xen 4.20 themselves answered for the 300 contexts in
`tests/data/real-contexts.tar.xz`, for 21,855 more that aimed at the rules (`hvmctx fuzz
generate` and its forerunner), for 42 made by hand for each, and for 97 each loaded into a
PVH guest, which has no emulated devices. Two rules none of these could reach, so they stand
on the source alone: `cpu-xsave-host`, and `cpu-msr-mask` (that CPU has no address masks).
`cpu-msr-cut` and `cpu-xsave-cut` cannot fire since 4.19, where the first pass refuses such
records as `context-bounds`.

## The walk

| rule | errno | refused when |
|---|---|---|
"""


STREAMS = """
## The streams

What libxc's restore and libxl's reader refuse, before the hypervisor is asked. Releases
from 4.6 on; "every release" means these. They agree with Debian's Xen 4.17 on its 36
altered streams, and on 1,994 of 2,000 mutations of a stream; the other six have a pfn
between 2^37 and 2^40, whose bitmap the genuine restore could not allocate on that machine.

| rule | record | releases | refused when |
|---|---|---|---|
"""


VERIFIER = """
## verify --as verifier

What Xen's own verify-stream-v2 refuses, each an error. It agrees with Debian's on its 36
altered streams and on 100,000 mutations of seven streams, but for streams that say they are
big-endian, which that one takes (its test masks with 0). Unlike it, this one reads pipes,
checkpointed streams and xenstore data.

| rule | severity | record | found when |
|---|---|---|---|
"""
STRICT = """
## verify --as strict

All of the above, and these.

| rule | severity | record | found when |
|---|---|---|---|
"""


def document() -> str:
    """The whole document."""
    checked = ", ".join(f"{record} ({since})" for record, since in CHECKED_SINCE.items())
    lines = [HEAD.format(checked=checked)]
    lines += [f"| {name} | {errno} | {text} |\n" for name, (errno, text) in WALK.items()]
    record = ""
    for rule in rules():
        if rule.record != record:
            record = rule.record
            lines.append(
                f"\n## {record}\n\n| rule | errno | releases | refused when |\n|---|---|---|---|\n"
            )
        lines.append(f"| {rule.id} | {rule.errno} | {rule.releases} | {rule.text} |\n")
    lines.append(STREAMS)
    lines += [f"| {name} | | | {text} |\n" for name, text in HEADER_RULES.items()]
    lines += [
        f"| {rule.id} | {rule.layer} {rule.record} | {rule.releases} | {rule.text} |\n"
        for rule in STREAM
    ]
    lines.append(
        "\n## VMPORT\n\nNo release loads type 21 (context-type). These are of the patch's loader,"
    )
    lines.append(" see vmport.md.\n\n| rule | what |\n|---|---|\n")
    lines += [f"| {name} | {text} |\n" for name, text in VMPORT.items()]
    for title, table in ((VERIFIER, verifier), (STRICT, strict_stream)):
        lines.append(title)
        lines += [
            f"| {check.id} | {check.severity} | {check.layer} {check.name} | {check.text} |\n"
            for check in table.HEADER_CHECKS
        ]
        lines += [
            f"| {check.id} | {check.severity} | {check.layer} {check.record} | {check.text} |\n"
            for check in table.CHECKS
        ]
    lines += [
        f"| {name} | | whole stream | {text} |\n" for name, text in strict_stream.WHOLE.items()
    ]
    lines += [
        f"| {check.id} | {check.severity} | {check.record} | {check.text} |\n"
        for check in strict_context.CHECKS
    ]
    lines += [
        f"| {name} | | whole context | {text} |\n" for name, text in strict_context.WHOLE.items()
    ]
    return "".join(lines)


def files() -> dict[str, str]:
    return {"docs/rules.md": document()}


if __name__ == "__main__":
    sys.stdout.write(document())
