"""One thing that a judge has to say about an input. Floor 1, beside the errors."""

from __future__ import annotations

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (NOTE, WARNING, ERROR)
"""By rising weight."""


class Finding:
    """What is wrong, where, and by which rule.

    `offset` counts bytes from the start of the input; `layer` is xl, libxl, libxc,
    context or legacy, or gzip, xz, zstd or lz4 for what is around it; `record` names type
    and instance, empty outside a record; `rule` is the id that `--explain` takes; `text`
    says it in words, without a full stop.
    """

    __slots__ = ("layer", "offset", "record", "rule", "severity", "text")

    def __init__(
        self, severity: str, rule: str, text: str, *, layer: str, offset: int, record: str = ""
    ) -> None:
        self.severity = severity
        self.rule = rule
        self.text = text
        self.layer = layer
        self.offset = offset
        self.record = record

    def __str__(self) -> str:
        where = f"{self.severity}: {self.layer}: offset {self.offset:#x}: "
        return f"{where}{f'{self.record}: ' if self.record else ''}{self.text} [{self.rule}]"

    def __repr__(self) -> str:
        return f"<{self}>"

    def as_dict(self) -> dict[str, str | int]:
        """For JSON: every attribute under its own name."""
        return {name: getattr(self, name) for name in self.__slots__}
