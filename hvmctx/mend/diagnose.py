"""What a log says of a restore that failed: `diagnose`.

Of the lines of a log those that matter are found (`mend.logs`), and what each means: which rule
of which releases, about which record and field. Where the hypervisor only says that it failed
to load a record, the rules of that record with its errno are named. With the image, the model
of the restore says which of them it was, what the field has, and what mends it.
"""

from __future__ import annotations

from errno import errorcode
from io import BytesIO

from hvmctx.abi.registry import by_typecode
from hvmctx.abi.releases import NEWEST, RELEASES, Release
from hvmctx.errors import HvmctxError
from hvmctx.limits import DEFAULT
from hvmctx.mend.logs import CONSEQUENCE, HYPERVISOR, LIBXC, LINES, LONGEST, NOTE, REASON, find_all
from hvmctx.restore.context import ERRNO_SINCE
from hvmctx.restore.rules import ANY, WHOLE
from hvmctx.stream.reader import CONTEXT
from hvmctx.verify.registry import HOST, rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from hvmctx.image.image import Image
    from hvmctx.limits import Limits
    from hvmctx.mend.logs import LogLine
    from hvmctx.mend.repair import Repair
    from hvmctx.restore.guest import Guest
    from hvmctx.restore.host import Host
    from hvmctx.restore.machine import Machine
    from hvmctx.restore.rules import Rule
    from hvmctx.restore.verdict import Verdict

__all__ = ["Diagnosis", "Said", "diagnose", "lines_of"]

_OLDER = "EPERM"
_EXPLAINED = (
    f"EPERM is what releases before {', '.join(ERRNO_SINCE.split())} say of any record that they "
    "refuse (96e5ad4c47): it has nothing to do with permissions"
)


(_UNSAID,) = (rule for rule in rules("restore", "context") if rule.id == "context-bounds")
"""The only refusal of a context of which the hypervisor writes nothing."""


class Said:
    """A line of a log that matters, and what it means.

    `number` is that of the line, from 1, `text` the line; `source` and `kind` are as for
    `LogLine`. `rules` are those of which one refused, `record` and `field` what they are about,
    `errno` the hypervisor's answer by name. `words` say what no rule says, `value` what the
    image has in the field. What is not known is empty.
    """

    __slots__ = (
        "errno", "field", "kind", "number", "record", "rules", "source", "text", "value", "words",
    )  # fmt: skip

    def __init__(self, number: int, text: str, line: LogLine) -> None:
        self.number = number
        self.text = text
        self.source = line.source
        self.kind = line.kind
        self.rules: list[Rule] = []
        self.record = ""
        self.field = line.field
        self.errno = ""
        self.words = line.words
        self.value = ""

    def __repr__(self) -> str:
        ids = ", ".join(rule.id for rule in self.rules)
        return f"<line {self.number}: {self.kind}, {ids or self.words}>"

    @property
    def path(self) -> str:
        """The record and the field, as the commands name them."""
        return f"{self.record}.{self.field}" if self.record and self.field else self.record

    def as_dict(self) -> dict[str, str | int | list[dict[str, str]]]:
        """For JSON."""
        return {
            "line": self.number, "text": self.text, "source": self.source, "kind": self.kind,
            "rules": [
                {"id": rule.id, "releases": str(rule.releases), "words": rule.words}
                for rule in self.rules
            ],
            "record": self.record, "field": self.field, "errno": self.errno,
            "words": self.words, "value": self.value,
        }  # fmt: skip


class Diagnosis:
    """What a log says: the lines that matter (`said`), and the `releases` that it may be of. With
    an image also the `verdict` of `release`, one of them, and the `repair`. It is `full` if there
    may be more lines that matter."""

    __slots__ = ("full", "release", "releases", "repair", "said", "verdict")

    def __init__(self, said: list[Said], releases: list[Release]) -> None:
        self.said = said
        self.full = False
        self.releases = releases
        self.release = releases[-1]
        self.verdict: Verdict | None = None
        self.repair: Repair | None = None

    @property
    def reasons(self) -> list[Said]:
        """The lines that say why."""
        return [line for line in self.said if line.kind == REASON]

    @property
    def refused(self) -> bool:
        """Whether any line says that something was."""
        return any(line.kind != NOTE for line in self.said)


def diagnose(
    lines: Iterable[str],
    image: Image | None = None,
    release: Release | str | None = None,
    machine: Machine | None = None,
    *,
    host: Host | None = None,
    guest_of: Callable[[Image], Guest] | None = None,
    limits: Limits = DEFAULT,
) -> Diagnosis:
    """What the lines of a log (of `xl dmesg`, xl, libxl, libxenguest, xenopsd, in any order and
    mixture) say of a restore that failed.

    `release` is the Xen of the log, by default what the log says; or else the one that saved the
    image, if it writes such lines, and the newest that does. With an `image` the model is asked
    about it too, `machine`, `host` and `guest_of` as for `repair`. At most
    `limits.rule_findings` lines are kept, the first ones. Raises UsageError for an unknown
    release, and what `would_restore` does.

    >>> log = ["(XEN) HVM2 restore: bad CR0 0x80000010",
    ...        "(XEN) HVM2 restore: failed to load entry 2/0 rc -22"]
    >>> found = diagnose(log)
    >>> found.reasons
    [<line 1: reason, cpu-cr0>]
    >>> found.reasons[0].path, found.reasons[0].errno, found.release
    ('CPU/0.cr0', 'EINVAL', Release('4.18'))
    """
    reader = _Reader(None if release is None else Release(release), limits)
    full = False
    for number, text, line, values in find_all(lines):
        full = not reader.take(number, text, line, values)
        if full:
            break
    found = reader.end()
    found.full = full
    if image is not None:
        _ask(found, image, machine, host, guest_of)
    return found


def lines_of(data: bytes | memoryview) -> Iterator[str]:
    """The lines of a log, whatever its bytes; no more of each than is looked at."""
    for line in BytesIO(data):
        yield line[: 4 * LONGEST].rstrip(b"\r\n").decode("utf-8", "backslashreplace")[:LONGEST]


class _Reader:
    """The lines of a log, one after the other. What a loader says of a record comes before the
    line that names the record: it waits for that."""

    def __init__(self, release: Release | None, limits: Limits) -> None:
        self._given = release
        self._limits = limits
        self._said: list[Said] = []
        self._lines: dict[Said, tuple[LogLine, dict[str, str]]] = {}
        self._waiting: list[Said] = []
        self._spoken: dict[LogLine, None] = {}
        self._banner: Release | None = None

    def take(self, number: int, text: str, line: LogLine, values: dict[str, str]) -> bool:
        """Whether another line would be kept."""
        if "version" in values:
            self._banner = self._banner or _release(values["version"])
            return True
        if _repeats(self._said, text):
            return True
        said = Said(number, text, line)
        said.errno = _errno(values.get("errno"))
        said.field = line.field.format(**values)
        said.record = _record(line, values)
        self._spoken[line] = None
        self._said.append(said)
        self._lines[said] = line, values
        if line.source == HYPERVISOR and line.kind == CONSEQUENCE:
            self._close(said, values)
        elif line.source == HYPERVISOR and line.kind == REASON and not _of_walk(line):
            self._waiting.append(said)
        return len(self._said) < self._limits.rule_findings

    def _close(self, said: Said, values: dict[str, str]) -> None:
        """The line that names the record: all that was said since the last one is about it."""
        said.record = _named(values)
        for waiting in self._waiting:
            waiting.record = said.record
            waiting.errno = waiting.errno or said.errno
        if not self._waiting:
            said.kind = REASON
        self._waiting = []

    def end(self) -> Diagnosis:
        releases = self._releases()
        checks = _Checks(releases)
        because = [s for s in self._said if s.kind == REASON and s.source == HYPERVISOR]
        for said in self._said:
            line, values = self._lines[said]
            if said.kind == REASON:
                said.rules = checks.of(said, line, values)
                if not said.record and said.rules and said.rules[0].record not in (ANY, WHOLE):
                    said.record = said.rules[0].record
            elif line.source == LIBXC and line.words:
                _point(said, because, releases)
            if said.errno == _OLDER and not all(r.since(ERRNO_SINCE) for r in releases):
                said.words = f"{said.words}; {_EXPLAINED}" if said.words else _EXPLAINED
        return Diagnosis(self._said, releases)

    def _releases(self) -> list[Release]:
        """Which releases may have written this."""
        given = self._given or self._banner
        if given is not None:
            return [given]
        tips = [Release(name) for name in RELEASES]
        left = [found for tip in tips if (found := self._writes_so(tip)) is not None]
        return left or tips

    def _writes_so(self, tip: Release) -> Release | None:
        """A release of the branch that writes all these lines: its last, or its first."""
        first = tip if tip.text == NEWEST else Release(f"{tip}.0")
        for release in (tip, first):
            if all(release in line.releases for line in self._spoken):
                return release
        return None


def _point(said: Said, because: list[Said], releases: list[Release]) -> None:
    """From the toolstack's line to the hypervisor's, if that is in the log too."""
    if because:
        lines = ", ".join(str(each.number) for each in because[:_MOST_SHOWN])
        said.words = f"the hypervisor refused the HVM context, see line {lines}"
    elif said.errno == _UNSAID.errno and any(r in _UNSAID.releases for r in releases):
        said.rules = [_UNSAID]
        said.words = "so it is if xl dmesg says nothing of a restore; else that has the reason"


_MOST_SHOWN = 8


def _of_walk(line: LogLine) -> bool:
    """Whether the message is about no record, so that no line follows which names one."""
    return any(rule.startswith("context-") for rule in line.rules)


class _Checks:
    """The rules that some of these releases apply, found by id and by record."""

    def __init__(self, releases: list[Release]) -> None:
        self._rows: dict[str, list[Rule]] = {}
        self._about: dict[str, list[Rule]] = {}
        for rule in (*rules("restore"), *rules(HOST)):
            if any(release in rule.releases for release in releases):
                self._rows.setdefault(rule.id, []).append(rule)
                if rule.layer == CONTEXT:
                    self._about.setdefault(rule.record, []).append(rule)
        self._loud = _loud(releases)

    def of(self, said: Said, line: LogLine, values: dict[str, str]) -> list[Rule]:
        """Those that a line may mean: that give the errno; each once."""
        ids: Iterable[str] = (_id_of(rule, said.record) for rule in line.rules)
        if not line.rules and line.source == HYPERVISOR:
            ids = self._silent(said)
        if "leaf" in values:
            ids = _of_policy(ids, values)
        making = [rule for id in dict.fromkeys(ids) for rule in self._rows.get(id, ())]
        if said.errno not in ("", _OLDER):
            making = [rule for rule in making if rule.errno in (None, said.errno)] or making
        return list({rule.id: rule for rule in making}.values())

    def _silent(self, said: Said) -> list[str]:
        """The rules about the record that give its errno, and of which the hypervisor says
        nothing itself: it would have."""
        name, _, _ = said.record.partition("/")
        about = (*self._about.get(ANY, ()), *self._about.get(name, ()))
        fitting = [rule.id for rule in about if said.errno in (rule.errno, "", _OLDER)]
        return [id for id in fitting if not self._is_loud(id)] or fitting

    def _is_loud(self, id: str) -> bool:
        a_length = id.endswith("-length") and not id.startswith("cpu-xsave-")
        return id in self._loud or (a_length and "*-length" in self._loud)


def _loud(releases: list[Release]) -> set[str]:
    """The rules of which each of these releases writes a line of its own."""
    of_each = (
        {id for line in LINES if not line.debug and release in line.releases for id in line.rules}
        for release in releases
    )
    return set.intersection(*of_each)


def _of_policy(ids: Iterable[str], values: dict[str, str]) -> list[str]:
    """The rules about the leaf or the MSR that the line names."""
    leaf, msr = (values[name].lower().lstrip("0") or "0" for name in ("leaf", "msr"))
    if leaf == _NONE != msr:
        return [id for id in ids if id.startswith("msr-")]
    ends = (*_PLACES.get(leaf, ()), "place")
    return [id for id in ids if id.startswith("cpuid-") and id.endswith(ends)]


_NONE = "ffffffff"
_PLACES = {
    "0": ("vendor", "basic"), "7": ("subleaf",), "80000000": ("extended",),
    "80000008": ("extended",), _NONE: ("count",),
}  # fmt: skip
"""Where the hypervisor says that a policy is refused, and the ends of the ids of the rules."""


def _repeats(said: list[Said], text: str) -> bool:
    """The hypervisor says that a CPU record has none of its two lengths once for each."""
    return (
        bool(said)
        and "restore mismatch: expected" in text
        and "mismatch: expected" in said[-1].text
    )


def _record(line: LogLine, values: dict[str, str]) -> str:
    """What a message itself says of the record that it is about."""
    if "param" in values:
        return "HVM_PARAMS"
    if line.source == HYPERVISOR and "type" in values:
        return _type_name(values["type"])
    return ""


def _named(values: dict[str, str]) -> str:
    name = values.get("record") or _type_name(values.get("type", ""))
    return f"{name}/{values['instance']}"


def _type_name(number: str) -> str:
    known = by_typecode(_number(number)) if number else None
    return known.name if known else f"type {number}"


def _id_of(pattern: str, record: str) -> str:
    """`*-length` of LAPIC_REGS/0: lapic-regs-length."""
    name = record.partition("/")[0].lower().replace("_", "-")
    return "context-header" if name == "header" and "*" in pattern else pattern.replace("*", name)


def _number(text: str) -> int:
    return int(text, 16 if text.startswith("0x") else 10)


def _errno(number: str | None) -> str:
    """By name, as the rules have it: Linux has one number for two names."""
    if number is None:
        return ""
    value = _number(number)
    return {95: "ENOTSUP", 0: ""}.get(value, errorcode.get(value, number))


def _release(name: str) -> Release | None:
    try:
        return Release(name)
    except HvmctxError:
        return None


def _ask(
    found: Diagnosis, image: Image, machine: Machine | None, host: Host | None,
    guest_of: Callable[[Image], Guest] | None,
) -> None:  # fmt: skip
    """The image: what it has in the fields, what the model says, and what mends it."""
    from hvmctx.edit.editor import edit
    from hvmctx.mend.repair import repair
    from hvmctx.restore.guest import Guest

    guest_of = guest_of or Guest.of_image
    if image.release in found.releases:
        found.release = image.release
    found.repair = repair(image, found.release, machine, host=host, guest_of=guest_of)
    found.verdict = found.repair.before
    editor = edit(image)
    for said in found.said:
        said.rules = [r for r in said.rules if r.id == found.verdict.rule] or said.rules
        if said.field and said.record:
            try:
                value = editor.get(said.path)
            except HvmctxError:  # not in this image, or more than one number
                continue
            said.value = f"{value:#x}" if isinstance(value, int) else repr(value)
