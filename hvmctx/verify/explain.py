"""Rules in words: `explain`."""

from __future__ import annotations

from hvmctx.errors import UsageError
from hvmctx.restore.rules import ANY, WHOLE, Rule
from hvmctx.stream.reader import CONTEXT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hvmctx.verify.registry import Table


def explain(name: str) -> str:
    """A rule: its view, record, releases, errno and words, what mends it, and where docs/rules.md
    has it. An id that several tables have gives several. Raises UsageError."""
    from hvmctx.verify.registry import TABLES

    said, links = [], []
    for table in TABLES:
        rules = [rule for rule in table.rules if rule.id == name]
        for words in dict.fromkeys(rule.words for rule in rules):
            for part in _alike([rule for rule in rules if rule.words == words]):
                remedy = part[0].remedy
                mends = f"  remedy: {remedy.words}\n" if remedy else ""
                said.append(f"{name}: {_where(table, part)}\n  {words}\n{mends}")
                links.append(_link(table, part[0]))
    if not said:
        raise UsageError(f"unknown rule {name!r}; docs/rules.md lists all but those of handlers")
    return f"{''.join(said)}see {', '.join(dict.fromkeys(links))}\n"


def link_of(name: str) -> str:
    """Where the documents of hvmctx have a rule: `docs/rules.md#cpu`; of a handler's rule
    nothing."""
    from hvmctx.verify.registry import TABLES

    found = ((table, rule) for table in TABLES for rule in table.rules if rule.id == name)
    return next((_link(table, rule) for table, rule in found), "")


def _link(table: Table, rule: Rule) -> str:
    """The section that `tools/rules_doc.py` gives the rule."""
    from hvmctx.verify.registry import HOST, VMPORT
    from hvmctx.verify.views import RESTORE

    if table.view == VMPORT:
        section = "vmport"
    elif table.view not in (RESTORE, HOST):
        section = f"verify---as-{table.view}"
    elif table.view == HOST:
        section = "a-host"
    elif table.about == "records of a context":
        section = rule.record.lower()
    else:
        section = _SECTIONS.get(table.about, "the-streams")
    return f"docs/rules.md#{section}"


_SECTIONS = {
    "a context as a whole": "the-walk",
    "what a load does to the hypervisor": "the-hypervisor-dies",
    "what a release loads and suffers by": "hazards",
}
"""Of the tables about restores that have one section."""


def _alike(rules: list[Rule]) -> list[list[Rule]]:
    """The rules in groups that differ only in their records."""
    groups: dict[tuple[str | None, str], list[Rule]] = {}
    for rule in rules:
        groups.setdefault((rule.errno, str(rule.releases)), []).append(rule)
    return list(groups.values())


def _where(table: Table, rules: list[Rule]) -> str:
    """Whose rule it is, about which records, in which releases, and with what errno."""
    from hvmctx.verify.registry import HOST, VMPORT
    from hvmctx.verify.views import RESTORE

    rule = rules[0]
    if table.view == VMPORT:
        return "VMPORT, the patch's loader"
    about = place(rules)
    if table.view not in (RESTORE, HOST):
        return f"{table.view}: {about}"
    errno = f": {rule.errno}" if rule.errno else ""
    harms = f": a hazard to the {rule.harms}" if rule.harms else ""
    mended = ", ".join(filter(None, (rule.commit, rule.cve)))
    since = f" ({mended})" if mended else ""
    return f"{table.view}: {about}, {rule.releases}{errno}{harms}{since}"


def place(rules: list[Rule]) -> str:
    """Layer and records: `libxc PAGE_DATA, END`; only the record for a context: `CPU`."""
    layers: dict[str, list[str]] = {}
    for rule in rules:
        whole = "HVM context" if rule.layer == CONTEXT else "streams"
        layer = "" if rule.layer == CONTEXT else f"{rule.layer} "
        if rule.record == WHOLE:
            about = f"{whole}, as a whole"
        elif rule.record == ANY and not layer:
            about = f"any record of an {whole}"
        else:
            about = rule.record
        layers.setdefault(layer if rule.record != WHOLE else "", []).append(about)
    return ", ".join(f"{at}{', '.join(dict.fromkeys(names))}" for at, names in layers.items())


__all__ = ["explain", "link_of", "place"]
