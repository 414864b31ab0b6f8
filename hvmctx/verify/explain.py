"""Rules in words, of every table that there is."""

from __future__ import annotations

from hvmctx.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def explain(name: str) -> str:
    """A rule: which table's, its record, releases, errno and text; several where tables
    share the id. Raises UsageError."""
    found = list(dict.fromkeys((*_of_restore(name), *_of_verify(name))))
    if not found:
        raise UsageError(f"no rule is called {name!r}; docs/rules.md lists them")
    return "".join(f"{name}: {where}\n  {text}\n" for where, text in found)


def _of_restore(name: str) -> Iterator[tuple[str, str]]:
    from hvmctx.restore.context import WALK, rules
    from hvmctx.restore.stream import HEADER_RULES, RULES
    from hvmctx.restore.vmport import RULES as VMPORT

    if name in HEADER_RULES:
        yield "restore: headers, and the stream as a whole", HEADER_RULES[name]
    of_streams = [rule for rule in RULES if rule.id == name]
    if of_streams:
        first = of_streams[0]
        records = ", ".join(rule.record for rule in of_streams)
        yield f"restore: {first.layer} {records}, {first.releases}", first.text
    if name in WALK:
        errno, text = WALK[name]
        yield f"restore: HVM context, every release: {errno}", text
    if name in VMPORT:
        yield "VMPORT, the patch's loader", VMPORT[name]
    for rule in rules():
        if rule.id == name:
            yield f"restore: {rule.record}, {rule.releases}: {rule.errno}", rule.text


def _of_verify(name: str) -> Iterator[tuple[str, str]]:
    from hvmctx.verify import strict_context, strict_stream, verifier

    for view, table in (("verifier", verifier), ("strict", strict_stream)):
        for header_check in table.HEADER_CHECKS:
            if header_check.id == name:
                yield f"{view}: {header_check.layer} {header_check.name}", header_check.text
        checks = [check for check in table.CHECKS if check.id == name]
        for text in dict.fromkeys(check.text for check in checks):
            layers = dict.fromkeys(f"{c.layer} {c.record}" for c in checks if c.text == text)
            yield f"{view}: {', '.join(layers)}", text
    for check in strict_context.CHECKS:
        if check.id == name:
            yield f"strict: {check.record}", check.text
    for whole, where in ((strict_stream.WHOLE, "streams"), (strict_context.WHOLE, "HVM context")):
        if name in whole:
            yield f"strict: {where}, as a whole", whole[name]
