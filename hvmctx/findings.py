"""What is wrong with an input, one thing at a time: the verifier, the strict view and the
models of Xen's loaders all report findings."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ACCEPT", "ERROR", "NOTE", "REFUSE", "SEVERITIES", "UNREADABLE", "VIOLATION", "WARNING",
    "Finding",
]  # fmt: skip

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (NOTE, WARNING, ERROR)
"""The lightest first."""
ACCEPT, REFUSE, VIOLATION = "accept", "refuse", "violation"
"""What a restore comes to: `restore.verdict`."""
UNREADABLE = "unreadable"
"""In place of a verdict, where an image is too damaged for one."""


class Finding:
    """What is wrong, where, and by which rule.

    `offset` is in bytes from the start of the input; `layer` is xl, libxl, libxc, context or
    legacy, or gzip, xz, zstd or lz4 of a compressed input; `record` has type and instance in
    words, and is empty outside a record; `rule` is the id that `--explain` takes; `text` says
    what is wrong, without a full stop. `errno` and `releases` are those of a refusal or hazard that
    they are known of, None and empty for others. `length` is how many bytes at the offset belong
    to it, where somebody has found out (`verify.views.judge` does): of the record or header.

    >>> print(Finding(ERROR, "cpu-cr0", "CR0.PG needs CR0.PE", layer="context", offset=32))
    error: context: offset 0x20: CR0.PG needs CR0.PE [cpu-cr0]
    """

    __slots__ = (
        "errno", "layer", "length", "offset", "record", "releases", "rule", "severity", "text",
    )  # fmt: skip

    def __init__(
        self, severity: str, rule: str, text: str, *, layer: str, offset: int, record: str = "",
        errno: str | None = None, releases: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.severity = severity
        self.rule = rule
        self.text = text
        self.layer = layer
        self.offset = offset
        self.record = record
        self.errno = errno
        self.releases = releases
        self.length: int | None = None

    def __str__(self) -> str:
        where = f"{self.severity}: {self.layer}: offset {self.offset:#x}: "
        return f"{where}{f'{self.record}: ' if self.record else ''}{self.text} [{self.rule}]"

    def __repr__(self) -> str:
        return f"<{self}>"

    def as_dict(self) -> dict[str, str | int | None]:
        """What a finding is in JSON: attributes under their own names."""
        return {name: getattr(self, name) for name in _IN_JSON}


_IN_JSON = ("layer", "offset", "record", "rule", "severity", "text")
