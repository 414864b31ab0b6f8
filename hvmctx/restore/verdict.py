"""The outcome of a restore or a load: `Verdict`."""

from __future__ import annotations

from hvmctx.errors import RestoreRefused

ACCEPT, REFUSE, VIOLATION = "accept", "refuse", "violation"


class Verdict:
    """The outcome of a restore or a load, and why.

    `verdict` is accept, refuse or violation: the loader accesses memory that it must not,
    beyond its buffers (VMPORT's) or at a null pointer, of which the hypervisor dies. `rule` is the id that `--explain` takes, and `text` is the rule in words; `errno` is
    the name of the hypervisor's answer; `layer`, `record` (name), `instance` and `offset` (of
    the record's descriptor, in bytes from the start of what was judged) say where. Refusals
    of the toolstack have no errno and no instance. `applied` lists in words what an accepted
    load changes.

    >>> verdict = Verdict(REFUSE, errno="EINVAL", rule="cpu-cr4", record="CPU", instance=0)
    >>> verdict.accepted, verdict
    (False, <refuse, EINVAL [cpu-cr4]>)
    >>> verdict.raise_for_refusal()
    Traceback (most recent call last):
    hvmctx.errors.RestoreRefused: refuse: EINVAL: context: offset 0x0: CPU/0:  [cpu-cr4]
    """

    __slots__ = (
        "applied", "errno", "instance", "layer", "offset", "record", "rule", "text", "verdict",
    )  # fmt: skip

    def __init__(
        self,
        verdict: str,
        *,
        errno: str | None = None,
        rule: str = "",
        record: str = "",
        instance: int | None = None,
        offset: int = 0,
        text: str = "",
        applied: list[str] | None = None,
        layer: str = "context",
    ) -> None:
        self.verdict = verdict
        self.errno = errno
        self.rule = rule
        self.record = record
        self.instance = instance
        self.offset = offset
        self.text = text
        self.applied = applied or []
        self.layer = layer

    def __str__(self) -> str:
        return self.verdict if self.accepted else f"{self.verdict}: {self.why}"

    def __repr__(self) -> str:
        errno = f", {self.errno}" if self.errno else ""
        return f"<{self.verdict}{errno}{f' [{self.rule}]' if self.rule else ''}>"

    @property
    def accepted(self) -> bool:
        return self.verdict == ACCEPT

    @property
    def where(self) -> str:
        """`CPU/0`, `PAGE_DATA`, or nothing outside of a record."""
        if not self.record or self.instance is None:
            return self.record
        return f"{self.record}/{self.instance}"

    @property
    def reason(self) -> str:
        """The errno, if there is one, and the text."""
        return f"{self.errno}: {self.text}" if self.errno else self.text

    @property
    def why(self) -> str:
        """All about a refusal in one line: errno, layer, offset, record, text, rule."""
        errno = f"{self.errno}: " if self.errno else ""
        where = f"{self.where}: " if self.where else ""
        place = f"{self.layer}: offset {self.offset:#x}: {where}"
        return f"{errno}{place}{self.text} [{self.rule}]"

    def moved(self, delta: int) -> Verdict:
        """The same verdict as an outer layer sees it: `delta` bytes further in."""
        self.offset += delta
        return self

    def raise_for_refusal(self) -> None:
        """Raise RestoreRefused, with errno and rule, unless this is an accept."""
        if not self.accepted:
            raise RestoreRefused(str(self), errno=self.errno, rule=self.rule)

    def as_dict(self) -> dict[str, str | int | list[str] | None]:
        """For JSON."""
        return {name: getattr(self, name) for name in (
            "verdict", "errno", "rule", "layer", "record", "instance", "offset", "text", "applied",
        )}  # fmt: skip


__all__ = ["ACCEPT", "REFUSE", "VIOLATION", "Verdict"]
