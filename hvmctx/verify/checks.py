"""A table of rules applied to a stream as it is read: `CheckTable`."""

from __future__ import annotations

from hvmctx.findings import Finding
from hvmctx.image.index import LARGEST_KEPT
from hvmctx.image.indexing import Watcher
from hvmctx.restore.stream import Passing, about

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from hvmctx.image.index import Index, IndexedRecord
    from hvmctx.restore.rules import Predicate, Rule, Seen
    from hvmctx.stream.reader import Header


def field_not_in(name: str, mask: int, *values: int) -> Predicate:
    """A field of a header that, under the mask, has none of the values."""

    def found(seen: Seen) -> bool | list[str]:
        value = seen.fields[name]
        return value & mask not in values and [f"{name} is {value:#x}"]

    return found


class CheckTable(Watcher):
    """Watches an image being opened, and applies a table of rules to everything in it."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.findings: list[Finding] = []
        self._rules = rules
        self._seen = Passing()
        self._of: dict[tuple[str, int], list[Rule]] = {}

    def header(self, index: Index, header: Header) -> None:
        self._seen.at_header(index, header)
        self._apply(about(header, self._rules), header)

    def record(self, index: Index, record: IndexedRecord, whole: bool) -> None:
        seen, key = self._seen, (record.layer, record.type)
        if whole and not self.ordinary(index, record) and not self.full(index):
            seen.at_record(index, record)
            if key not in self._of:
                self._of[key] = about(record, self._rules)
            self._apply(self._of[key], record)
        seen.counts[key] = seen.counts.get(key, 0) + 1

    def ordinary(self, index: Index, record: IndexedRecord) -> bool:
        """Whether a record is of the most common kind, to which no rule applies."""
        small = record.length <= LARGEST_KEPT
        return record.count > 0 and small and index.ordinary_pages(record)

    def full(self, index: Index) -> bool:
        """Whether there are as many findings as are shown."""
        return len(self.findings) > index.limits.findings

    def _apply(self, rules: list[Rule], item: Header | IndexedRecord) -> None:
        for rule in rules:
            for text in rule.texts(self._seen):
                self.say(rule, text, item)

    def say(self, rule: Rule, text: str, item: Header | IndexedRecord) -> None:
        """Add a finding about a record or header."""
        self.findings.append(
            Finding(
                rule.severity, rule.id, text, layer=item.layer, offset=item.offset,
                record=item.name,
            )
        )  # fmt: skip


__all__ = ["CheckTable", "field_not_in"]
