"""Every rule there is, for `--explain`, docs/rules.md, the fuzzer's coverage, and the test that
every rule has a case. To add a rule, add a row to one of these tables."""

from __future__ import annotations

from hvmctx.restore import context_rules, hazards, placing, policy_rules, stream, vmport
from hvmctx.verify import strict_context, strict_stream, verifier
from hvmctx.verify.views import RESTORE, STRICT, VERIFIER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from hvmctx.restore.rules import Rule

VMPORT = "vmport"
"""The view of the rules about VMPORT records: the patch's loader and strict apply them."""
HOST = "host"
"""That of the rules about a host: `policy`, and `verify` and `restore` with --host, apply them."""


class Table:
    """Rules that are applied together: by a `view`, one of `verify.views`, `HOST` or `VMPORT`, and
    `about` something, in words."""

    __slots__ = ("about", "rules", "view")

    def __init__(self, view: str, about: str, rules: Iterable[Rule]) -> None:
        self.view = view
        self.about = about
        self.rules = tuple(rules)

    def __repr__(self) -> str:
        return f"<{self.view} rules about {self.about}, {len(self.rules)}>"


TABLES = (
    Table(RESTORE, "a context as a whole", context_rules.WALK),
    Table(RESTORE, "records of a context", context_rules.RULES),
    Table(RESTORE, "what a load does to the hypervisor", context_rules.UNPAUSED),
    Table(RESTORE, "what a release loads and suffers by", hazards.HAZARDS),
    Table(RESTORE, "headers, and streams as a whole", stream.HEADER_RULES),
    Table(RESTORE, "records of streams", stream.RULES),
    Table(HOST, "the domain that is made", placing.CREATION),
    Table(HOST, "rows of a CPU policy", policy_rules.ROWS),
    Table(HOST, "a CPU policy against the host's", [rule for rule, _ in policy_rules.COMPATIBLE]),
    Table(HOST, "what becomes of the guest", (*placing.EFFECTS, placing.UNJUDGED)),
    Table(VMPORT, "VMPORT records", vmport.RULES.values()),
    Table(VERIFIER, "headers and records of streams", verifier.RULES),
    Table(STRICT, "headers and records of streams", strict_stream.RULES),
    Table(STRICT, "streams as a whole", strict_stream.OF_WHOLE.values()),
    Table(STRICT, "records of a context", strict_context.RULES),
    Table(STRICT, "a context as a whole", strict_context.OF_WHOLE.values()),
)


def rules(view: str | None = None, *layers: str) -> list[Rule]:
    """The rules of a view and of layers, or of all. A rule that two views share is there
    once."""
    tables = [table for table in TABLES if view in (None, table.view)]
    found = (rule for table in tables for rule in table.rules)
    return list(dict.fromkeys(rule for rule in found if not layers or rule.layer in layers))


__all__ = ["HOST", "TABLES", "VMPORT", "Table", "rules"]
