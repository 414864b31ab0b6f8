"""What changed between two releases for whoever saves in one and loads in the other: `changes`,
out of the tables that the code runs on, without an image.
"""

from __future__ import annotations

from functools import lru_cache

from hvmctx.abi import streams, x86
from hvmctx.abi.fields import Layout
from hvmctx.abi.msrs import msr_name
from hvmctx.abi.releases import RELEASES, VARIABLE, Release
from hvmctx.abi.x86_bits import CR0, CR4, EFER, SpecCtrl, bit_names, named_bits
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.errors import UsageError
from hvmctx.render import dialects
from hvmctx.render.text import lines_in
from hvmctx.restore.context import ERRNO_SINCE, TWO_PASSES_SINCE, load
from hvmctx.restore.context_rules import CHECKED_SINCE
from hvmctx.restore.guest import Guest
from hvmctx.restore.machine import Machine
from hvmctx.restore.msrs import MSRS, SPEC_CTRL_BITS
from hvmctx.restore.rules import ANY, WHOLE
from hvmctx.restore.stream import PARAMS_SINCE, Passing
from hvmctx.stream.reader import CONTEXT
from hvmctx.verify.registry import TABLES
from hvmctx.verify.views import RESTORE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hvmctx.restore.rules import Rule

    Words = Callable[[Release], str | None]

__all__ = ["TOPICS", "ReleaseChange", "changes"]

CONTEXTS, LENGTHS, CHECKS, HAZARDS, BITS, ERRNOS, STREAMS, TEXT = (
    "contexts", "lengths", "checks", "hazards", "bits", "errnos", "streams", "text",
)  # fmt: skip
TOPICS = {
    CONTEXTS: "A context of the one on the other",
    LENGTHS: "Records and their lengths",
    CHECKS: "What a restore refuses",
    HAZARDS: "What a load suffers by",
    BITS: "What registers and CPU_MSR records may hold",
    ERRNOS: "Passes and errnos",
    STREAMS: "Streams",
    TEXT: "The text of xen-hvmctx",
}
"""Topic -> its heading, in the order of `changes`."""


class ReleaseChange:
    """One thing that is not the same in two releases: `topic` is one of `TOPICS`, `record` which
    record it is about ("" for none), `what` the rule, the bit, or whatever it is; `first` and
    `second` say how it is in each, None where it is not there; `since` is the first branch, at
    its tip, that has what the newer of the two has ("" if it is about the two).

    >>> for change in changes("4.17", "4.18", records=["LAPIC"]):
    ...     print(change.topic, change.record, change.what, change.first, "->", change.second)
    contexts LAPIC 4.18 on 4.17 taken -> refused: 32 bytes, where 24 are known
    lengths LAPIC bytes 24 -> 32
    """

    __slots__ = ("first", "record", "second", "since", "topic", "what")

    def __init__(
        self, topic: str, record: str, what: str, first: str | None, second: str | None, since: str
    ) -> None:
        self.topic = topic
        self.record = record
        self.what = what
        self.first = first
        self.second = second
        self.since = since

    def __str__(self) -> str:
        where = f"{self.record}: {self.what}" if self.record else self.what
        since = f" (since {self.since})" if self.since else ""
        if self.first is None:
            return f"{where}: new: {self.second}{since}"
        if self.second is None:
            return f"{where}: gone: {self.first}{since}"
        return f"{where}: {self.first} -> {self.second}{since}"

    def __repr__(self) -> str:
        return f"<{self}>"

    def as_dict(self) -> dict[str, str | None]:
        """Every attribute under its own name, for JSON."""
        return {name: getattr(self, name) for name in (
            "topic", "record", "what", "first", "second", "since",
        )}  # fmt: skip


def changes(
    first: Release | str, second: Release | str, *, records: list[str] | None = None
) -> list[ReleaseChange]:
    """What is not the same in two releases, by topic; of `records` alone, where given, by their
    names. Raises UsageError for a release or a record that no table has."""
    one, two = Release(first), Release(second)
    streamed = all(release.since(streams.STREAM_V2_SINCE) for release in (one, two))
    wanted = None if records is None else _known(records)
    found = [
        *_contexts(one, two),
        *(change for row in _rows(streamed) if (change := _compared(one, two, *row)) is not None),
    ]
    order = list(TOPICS)
    return sorted(
        (change for change in found if wanted is None or change.record in wanted),
        key=lambda change: order.index(change.topic),
    )


def _known(records: list[str]) -> set[str]:
    names = {*_CONTEXT_RECORDS, *_stream_records()}
    for record in records:
        if record.upper() not in names:
            from hvmctx.messages import did_you_mean

            raise UsageError(f"unknown record {record!r}{did_you_mean(record, names)}")
    return {record.upper() for record in records}


_CONTEXT_RECORDS = frozenset(name for row in RELEASES.values() for name in row)


def _stream_records() -> dict[str, int]:
    return {name: number for number, name in streams.LIBXC_RECORDS.items()}


def _compared(
    one: Release, two: Release, topic: str, record: str, what: str, words: Words
) -> ReleaseChange | None:
    before, after = words(one), words(two)
    new = record in _CONTEXT_RECORDS and None in (one.size_of(record), two.size_of(record))
    if before == after or (new and topic in (CHECKS, HAZARDS)):  # the record itself is new
        return None
    older, newer = sorted((one, two))
    now = words(newer)
    branches = (Release(name) for name in RELEASES)
    since = next(b for b in (*branches, newer) if older < b and words(b) == now and b >= older)
    if topic == TEXT and before and after:
        before, after = _without(before, after), _without(after, before)
    return ReleaseChange(topic, record, what, before, after, str(min(since, newer)))


def _without(text: str, other: str) -> str:
    """The lines that the other one does not have."""
    lines = other.split(_BETWEEN)
    return _BETWEEN.join(line for line in text.split(_BETWEEN) if line not in lines) or "nothing"


def _contexts(one: Release, two: Release) -> Iterator[ReleaseChange]:
    """Which records of a context that the one writes the other does not take."""
    for writer, loader in ((one, two), (two, one)):
        for name, size in writer.sizes().items():
            own = loader.size_of(name)
            if own is None:
                why = "no handler loads it"
            elif name in VARIABLE or size == own or (size < own and loader.zero_extends(name)):
                continue
            else:
                why = f"{size} bytes, where {own} are known"
            yield ReleaseChange(
                CONTEXTS, name, f"{writer} on {loader}", "taken", f"refused: {why}", ""
            )


def _rows(streamed: bool) -> Iterator[tuple[str, str, str, Words]]:
    """Topic, record, what, and how it is in a release. Records of streams are left out unless
    `streamed`: of a release that has none all of them are new, and that is one thing."""
    yield from _lengths()
    yield from _rules(streamed)
    yield from _bits()
    yield from _errnos()
    yield STREAMS, "", "versions of libxc streams", _versions
    yield from _streams() if streamed else ()
    yield from _texts()


def _said(condition: Callable[[Release], bool], words: str, otherwise: str | None = None) -> Words:
    return lambda release: words if condition(release) else otherwise


def _lengths() -> Iterator[tuple[str, str, str, Words]]:
    for name in dict.fromkeys(name for row in RELEASES.values() for name in row):

        def size(release: Release, name: str = name) -> str | None:
            number = release.size_of(name)
            return None if number is None else f"{number}{' and more' * (name in VARIABLE)}"

        def shorter(release: Release, name: str = name) -> str | None:
            if release.size_of(name) is None or name in VARIABLE:
                return None
            return "filled up with zeros" if release.zero_extends(name) else "refused"

        yield LENGTHS, name, "bytes", size
        yield LENGTHS, name, "a shorter one", shorter


def _rules(streamed: bool) -> Iterator[tuple[str, str, str, Words]]:
    """Of each id and record, as tables may have a row for each window."""
    rows: dict[tuple[str, str, str], list[Rule]] = {}
    for table in TABLES:
        if table.view == RESTORE:
            for rule in (rule for rule in table.rules if streamed or rule.layer == CONTEXT):
                topic = HAZARDS if rule.harms else CHECKS
                rows.setdefault((topic, rule.record, rule.id), []).append(rule)
    for (topic, record, identifier), rules in rows.items():

        def words(release: Release, rules: list[Rule] = rules) -> str | None:
            found = [_in_words(rule) for rule in rules if _stands(rule, release)]
            return "; ".join(dict.fromkeys(found)) or None

        yield topic, "" if record in (ANY, WHOLE) else record, identifier, words


def _stands(rule: Rule, release: Release) -> bool:
    """Whether a release has a rule; of one about a record that it does not know it is the
    record that is new."""
    anywhere = rule.layer != CONTEXT or rule.record in (ANY, WHOLE)
    known = anywhere or release.size_of(rule.record) is not None
    return known and release in rule.releases


def _in_words(rule: Rule) -> str:
    return f"{rule.errno}: {rule.words}" if rule.errno else rule.words


def _bits() -> Iterator[tuple[str, str, str, Words]]:
    """Asked of the loader, for a guest and a host that have every feature."""
    for field, register in (("cr4", CR4), ("msr_efer", EFER)):
        for bit, name in named_bits(register).items():

            def taken(release: Release, field: str = field, bit: int = bit) -> bool:
                return _takes(str(release), field, bit)

            yield BITS, "CPU", f"{field}.{name}", _said(taken, "taken", "refused")
    for index, msr in MSRS.items():

        def on(release: Release, since: dict[str, str] = msr.since) -> str | None:
            hosts = [host for host, first in since.items() if release.since(first)]
            return f"taken on {' and '.join(hosts)} hosts" if hosts else None

        yield BITS, "CPU_MSR", msr_name(index), on
    for bits, features, first in SPEC_CTRL_BITS:

        def allowed(release: Release, first: str = first) -> bool:
            return release.since(first)

        names = " and ".join(bit_names(SpecCtrl, bits))
        words = f"taken with {' or '.join(features)}"
        yield BITS, "CPU_MSR", f"SPEC_CTRL.{names}", _said(allowed, words)


@lru_cache(maxsize=4096)
def _takes(release: str, field: str, bit: int) -> bool:
    asked = Release(release)
    values = {"cr0": CR0.PG | CR0.PE | CR0.ET, field: bit}
    if bit == EFER.LMA and field == "msr_efer":
        values[field] |= EFER.LME
    header = Layout.of(x86.hvm_save_header).encode(
        {"magic": x86.HVM_FILE_MAGIC, "version": x86.HVM_FILE_VERSION}
    )
    cpu = x86.CPU.layout.encode(values)[: asked.size_of("CPU")]
    context = HvmContext([Record("HEADER", 0, header), Record("CPU", 0, cpu), Record("END", 0)])
    verdict = load(context.to_bytes(), asked, Guest(nested=True), Machine())
    return verdict.rule not in ("cpu-cr4", "cpu-efer")


def _errnos() -> Iterator[tuple[str, str, str, Words]]:
    passed, passes = "that of the handler", "two: all is checked before anything is loaded"
    yield ERRNOS, "", "errno", _said(lambda r: r.since(ERRNO_SINCE), passed, "EPERM, always")
    yield ERRNOS, "", "passes", _said(lambda r: r.since(TWO_PASSES_SINCE), passes, "one")
    for record, since in CHECKED_SINCE.items():

        def checked(release: Release, since: str = since) -> bool:
            return release.since(since)

        yield ERRNOS, record, "checked", _said(checked, "in the first pass", "when it is loaded")


def _versions(release: Release) -> str | None:
    if not release.since(streams.STREAM_V2_SINCE):
        return None
    return "2 and 3" if release.since(streams.STATIC_DATA_SINCE) else "2"


def _streams() -> Iterator[tuple[str, str, str, Words]]:
    def longest(release: Release) -> str | None:
        return f"{Passing(release).longest >> 20} MiB"

    def params(release: Release) -> str | None:
        return next((str(n) for since, n in PARAMS_SINCE if release.since(since)), None)

    yield STREAMS, "", "longest record", longest
    yield STREAMS, "HVM_PARAMS", "parameters that the hypervisor has", params
    for name, number in _stream_records().items():

        def known(release: Release, number: int = number) -> str | None:
            kinds = (streams.GUEST_X86_HVM, streams.GUEST_X86_PV)
            of = [kind for kind in kinds if Passing(release, kind=kind).handles(number)]
            return f"of {' and '.join(streams.GUEST_TYPES[kind] for kind in of)}" if of else None

        yield STREAMS, name, "read", known


def _texts() -> Iterator[tuple[str, str, str, Words]]:
    for name, by_release in dialects.LINES.items():

        def lines(
            release: Release, by_release: dict[str, dialects.Lines] = by_release
        ) -> str | None:
            return _shown(lines_in(by_release, release))

        yield TEXT, name, "lines", lines
    yield TEXT, "CPU", "FPU lines", lambda release: _shown(lines_in(dialects.FPU_LINES, release))
    since, always = dialects.FPU_CONDITIONAL_SINCE, "always"
    only = "only if the record's flags say that the FPU is initialised"
    yield TEXT, "CPU", "FPU lines are printed", _said(lambda r: r.since(since), only, always)


def _shown(lines: dialects.Lines | None) -> str | None:
    if lines is None:
        return None
    return _BETWEEN.join(
        dict.fromkeys(
            f"{format.strip()} [{arguments}]".removesuffix(" []") for format, arguments in lines
        )
    )


_BETWEEN = " / "
"""Lines of a text in one."""
