"""The outcome of a restore or a load: `Verdict`."""

from __future__ import annotations

from hvmctx.errors import RestoreRefused
from hvmctx.findings import ACCEPT, REFUSE, UNREADABLE, VIOLATION, WARNING, Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hvmctx.abi.releases import Release
    from hvmctx.restore.rules import Rule, Seen

    Plain = dict[str, str | int | list[str] | list[dict[str, str | int | None]] | None]


class Hazard(Finding):
    """A record that a release loads and then suffers by. `harms` says who and when, `commit` is
    that of xen.git that mended it, "" for none, `cve` its CVE or None, and `safe` the first
    release from that on which it does no harm, None if there is none.
    """

    __slots__ = ("commit", "cve", "harms", "safe")

    def __init__(self, rule: Rule, text: str, seen: Seen, release: Release, offset: int) -> None:
        where = f"{seen.name}/{seen.instance}"
        super().__init__(WARNING, rule.id, text, layer=seen.layer, offset=offset, record=where)
        self.harms = rule.harms
        self.commit = rule.commit
        self.cve = rule.cve
        self.safe = rule.releases.after(release)

    @property
    def mended(self) -> str:
        """`safe since 4.19 (69c89dd787)`, `safe in no release`."""
        if self.safe is None:
            return "safe in no release"
        return f"safe since {self.safe} ({', '.join(filter(None, (self.commit, self.cve)))})"

    @property
    def why(self) -> str:
        """All about it in one line."""
        place = f"{self.layer}: offset {self.offset:#x}: {self.record}"
        return f"{place}: {self.text}; {self.mended} [{self.rule}]"

    def as_dict(self) -> dict[str, str | int | None]:
        return {
            **super().as_dict(),
            "harms": self.harms,
            "commit": self.commit,
            "cve": self.cve,
            "safe": self.safe,
        }


class Verdict:
    """The outcome of a restore or a load, and why.

    `verdict` is accept, refuse or violation: the loader accesses memory that it must not,
    beyond its buffers (VMPORT's) or at a null pointer, of which the hypervisor dies. `rule` is the id that `--explain` takes, and `text` is the rule in words; `errno` is
    the name of the hypervisor's answer; `layer`, `record` (name), `instance` and `offset` (of
    the record's descriptor, in bytes from the start of what was judged) say where. Refusals
    of the toolstack have no errno and no instance. `applied` lists in words what an accepted
    load changes, and `hazards` the records that were loaded, those before a refusal included,
    and that this release suffers by (`Hazard`).

    >>> verdict = Verdict(REFUSE, errno="EINVAL", rule="cpu-cr4", record="CPU", instance=0)
    >>> verdict.accepted, verdict
    (False, <refuse, EINVAL [cpu-cr4]>)
    >>> verdict.raise_for_refusal()
    Traceback (most recent call last):
    hvmctx.errors.RestoreRefused: refuse: EINVAL: context: offset 0x0: CPU/0:  [cpu-cr4]
    """

    __slots__ = (
        "applied", "errno", "hazards", "instance", "layer", "offset", "record", "rule", "text",
        "verdict",
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
        hazards: list[Hazard] | None = None,
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
        self.hazards = hazards or []
        self.layer = layer

    def __str__(self) -> str:
        return self.headline if self.accepted else f"{self.verdict}: {self.why}"

    def __repr__(self) -> str:
        errno = f", {self.errno}" if self.errno else ""
        return f"<{self.verdict}{errno}{f' [{self.rule}]' if self.rule else ''}>"

    @property
    def accepted(self) -> bool:
        return self.verdict == ACCEPT

    @property
    def headline(self) -> str:
        """`accept`, `accept, with 2 hazards`, `refuse`."""
        number = len(self.hazards)
        if not number:
            return self.verdict
        return f"{self.verdict}, with {number} hazard{'s' if number > 1 else ''}"

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
        for hazard in self.hazards:
            hazard.offset += delta
        return self

    def raise_for_refusal(self) -> None:
        """Raise RestoreRefused, with errno and rule, unless this is an accept."""
        if not self.accepted:
            raise RestoreRefused(str(self), errno=self.errno, rule=self.rule)

    def as_dict(self) -> Plain:
        """For JSON."""
        plain: Plain = {name: getattr(self, name) for name in (
            "verdict", "errno", "rule", "layer", "record", "instance", "offset", "text", "applied",
        )}  # fmt: skip
        plain["hazards"] = [hazard.as_dict() for hazard in self.hazards]
        return plain


__all__ = ["ACCEPT", "REFUSE", "UNREADABLE", "VIOLATION", "Hazard", "Verdict"]
