"""What a check of the streams is: a row of a table, and what such rows know so far."""

from __future__ import annotations

from itertools import islice

from hvmctx.findings import Finding
from hvmctx.image.index import LARGEST_KEPT
from hvmctx.image.indexing import Watcher
from hvmctx.stream.reader import LIBXC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from hvmctx.image.index import Index, IndexedRecord
    from hvmctx.stream.reader import Header

_HEAD = 64


class Seen:
    """What has gone by: headers' fields, and the record at hand with the start of its
    body."""

    image: Index
    record: IndexedRecord

    def __init__(self) -> None:
        self.version = 3
        self.guest: int | None = None
        self.counts: dict[tuple[str, int], int] = {}
        """(layer, type) -> how many records of it went by before this one."""

    @property
    def length(self) -> int:
        return self.record.length

    def head(self, size: int = _HEAD) -> bytes:
        """The first bytes of the body, all of a shorter one."""
        return bytes(self.image.start_of(self.record, size))

    def number(self, at: int) -> int:
        """The u32 at that offset of the body; 0 beyond its end."""
        return int.from_bytes(self.head(at + 4)[at:], "little")

    def body(self) -> bytes:
        """All of a body that is small in any image; nothing of one that no reader takes."""
        return bytes(self.image.body(self.record)) if self.length <= LARGEST_KEPT else b""

    def words(self) -> bytes:
        """The page words of a PAGE_DATA record; nothing of one that no reader takes."""
        return self.image.words(self.record) if self.length <= LARGEST_KEPT else b""

    def before(self, number: int, layer: str = LIBXC) -> int:
        """How many records of a type there have been."""
        return self.counts.get((layer, number), 0)


MOST_DETAILS = 64
"""Findings of one rule about one record; one more says that there are others."""


class Check:
    """One rule about one kind of record (`*`: all of the layer) or header. `finds` says
    whether it applies to the record at hand, or gives the details of it in words, one
    string for each finding."""

    __slots__ = ("finds", "id", "layer", "record", "severity", "text")

    def __init__(
        self,
        layer: str,
        record: str,
        identifier: str,
        finds: Callable[[Seen], bool | Iterable[str]],
        text: str,
        severity: str,
    ) -> None:
        self.layer = layer
        self.record = record
        self.id = identifier
        self.finds = finds
        self.text = text
        self.severity = severity

    def findings_of(self, seen: Seen) -> list[Finding]:
        """The findings about the record at hand."""
        found = self.finds(seen)
        if found is False:
            return []
        record = seen.record
        if found is True:
            texts = [self.text]
        else:
            details = iter(found)
            texts = [f"{self.text}: {one}" for one in islice(details, MOST_DETAILS)]
            if next(details, None) is not None:
                texts.append(f"{self.text}: and more of these in the record")
        return [
            Finding(
                self.severity, self.id, text, layer=record.layer, offset=record.offset,
                record=record.name,
            )
            for text in texts
        ]  # fmt: skip


class HeaderCheck:
    """One rule about a header: `field` and-ed with `mask` is none of `values`."""

    __slots__ = ("field", "id", "layer", "mask", "name", "severity", "text", "values")

    def __init__(
        self, layer: str, name: str, identifier: str, field: str, mask: int,
        values: Sequence[int], text: str, severity: str,
    ) -> None:  # fmt: skip
        self.layer = layer
        self.name = name
        self.id = identifier
        self.field = field
        self.mask = mask
        self.values = values
        self.text = text
        self.severity = severity

    def findings_of(self, header: Header) -> list[Finding]:
        """The finding about a header, if there is one."""
        value = header.fields[self.field]
        if value & self.mask in self.values:
            return []
        return [
            Finding(
                self.severity, self.id, f"{self.text}: {self.field} is {value:#x}",
                layer=header.layer, offset=header.offset, record=header.name,
            )
        ]  # fmt: skip


class CheckTable(Watcher):
    """Watches an image being opened, and judges everything by a table."""

    def __init__(self, header_checks: Sequence[HeaderCheck], checks: Sequence[Check]) -> None:
        self.findings: list[Finding] = []
        self._header_checks = header_checks
        self._checks = checks
        self._seen = Seen()
        self._of: dict[tuple[str, int], list[Check]] = {}

    def header(self, image: Index, header: Header) -> None:
        for check in self._header_checks:
            if (check.layer, check.name) == (header.layer, header.name):
                self.findings += check.findings_of(header)
        if header.name == "image header":
            self._seen.version = header.fields["version"]
        elif header.name == "domain header":
            self._seen.guest = header.fields["type"]

    def record(self, image: Index, record: IndexedRecord, whole: bool) -> None:
        seen = self._seen
        seen.image, seen.record = image, record
        if whole and not self.plain(image, record):
            for check in self._checks_of(record):
                self.findings += check.findings_of(seen)
        key = record.layer, record.type
        seen.counts[key] = seen.counts.get(key, 0) + 1

    def plain(self, image: Index, record: IndexedRecord) -> bool:
        """Whether a record is of the most common kind, of which no check says anything."""
        small = record.length <= LARGEST_KEPT
        return record.count > 0 and small and image.plain_pages(record)

    def _checks_of(self, record: IndexedRecord) -> list[Check]:
        key = record.layer, record.type
        if key not in self._of:
            self._of[key] = [
                check
                for check in self._checks
                if check.layer == record.layer and check.record in ("*", record.name)
            ]
        return self._of[key]
