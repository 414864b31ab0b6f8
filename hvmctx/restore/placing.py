"""Whether a host takes an image, and what its guest loses there: `place`.

What a restore does with the CPU policy of an image comes before its memory and its context: the
domain is made, the policy is set and clamped (`policy_rules`, `clamping`), and the context is
judged with what is left of it. Source: arch_sanitise_domain_config, tsc_set_info and
xc_cpuid_apply_policy of the release tags from 4.13.0 to c447b730.
"""

from __future__ import annotations

from contextlib import suppress

from hvmctx.abi import streams
from hvmctx.abi.cpuid import EAX, ECX, FEATURES, NO_SUBLEAF
from hvmctx.abi.releases import Window
from hvmctx.errors import HvmctxError
from hvmctx.findings import ERROR, NOTE, WARNING, Finding
from hvmctx.restore.clamping import POLICIES_SINCE, DomainPolicy
from hvmctx.restore.feature_use import Use, uses
from hvmctx.restore.guest import Guest
from hvmctx.restore.image import would_restore
from hvmctx.restore.policy import CpuPolicy
from hvmctx.restore.policy_rules import CPUID, MSR, Outcome, set_policy
from hvmctx.restore.rules import WHOLE, Rule, Seen
from hvmctx.restore.verdict import REFUSE, Verdict
from hvmctx.stream.reader import CONTEXT, LIBXC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from hvmctx.abi.releases import Release
    from hvmctx.abi.vmport import VmportProfile
    from hvmctx.image.image import Image
    from hvmctx.restore.host import Host
    from hvmctx.restore.policy import Leaf, Msr
    from hvmctx.restore.rules import Answer, Predicate
    from hvmctx.restore.stream import StreamJudge

    Rows = tuple[list[Leaf], list[Msr]]

__all__ = ["CREATION", "EFFECTS", "UNJUDGED", "Placement", "place"]

_TSC_DEFAULT, _TSC_NEVER = 0, 2
"""Modes of X86_TSC_INFO: native where that keeps the guest's frequency; native in any case."""
_GUESSED = ("RDRAND", "HLE", "RTM", "MPX")
"""What libxl gives a guest without a policy if the host has it, whatever the default says."""
_GUESSED_MORE = "4.20"
"""Since when such a policy may have subleaf 2 of leaf 7, and leaf 0x80000021."""


_SHOWN = 4
"""Features that a few words name."""
_IN_SHORT = {
    "vendor": "another vendor", "address-bits": "fewer address bits", "tsc": "another TSC frequency",
}  # fmt: skip


class Placed(Seen):
    """A guest on a host: the `guest` with the policy of its image, what the domain then has
    (`wanted`), and what it loses."""

    __slots__ = (
        "destination",
        "guest",
        "layer",
        "lost",
        "name",
        "release",
        "saved",
        "used",
        "wanted",
    )

    def __init__(self, image: Image, guest: Guest, host: Host, release: Release) -> None:
        self.layer = LIBXC
        self.name = WHOLE
        self.saved = image
        self.guest = guest
        self.destination = host
        self.release = release
        self.wanted = DomainPolicy(release)
        self.lost: list[str] = []
        self.used: dict[str, str] = {}


class Placement:
    """The answer for one image and one host. `verdict` is that of the restore, `findings` are
    what the host lacks, or does otherwise; `outcome` is what became of the policy, None where
    it did not come to that; `lost` are the features that the guest has in its image, and has no
    more, by name, `blocking` those among them for which the context is refused."""

    __slots__ = ("blocking", "findings", "lost", "outcome", "verdict")

    def __init__(self, verdict: Verdict) -> None:
        self.verdict = verdict
        self.findings: list[Finding] = []
        self.outcome: Outcome | None = None
        self.lost: list[str] = []
        self.blocking: list[str] = []

    def __repr__(self) -> str:
        return f"<{self.verdict.verdict}, {len(self.lost)} features lost>"

    @property
    def in_short(self) -> str:
        """What the host lacks, in a few words; nothing where all is there."""
        said = [f"needs {', '.join(self.blocking)}"] if self.blocking else []
        rest = len(self.lost) - len(self.blocking)
        if rest:
            names = [name for name in self.lost if name not in self.blocking]
            shown = ", ".join(names[:_SHOWN])
            said.append(f"loses {shown}" + (f" and {rest - _SHOWN} more" if rest > _SHOWN else ""))
        effects = {f.rule.removeprefix("host-") for f in self.findings} & set(_IN_SHORT)
        said += [words for rule, words in _IN_SHORT.items() if rule in effects]
        return "; ".join(said)

    def as_dict(self) -> dict[str, object]:
        """For JSON: the verdict's members, `lost`, `blocking` and `findings`."""
        return {
            **self.verdict.as_dict(), "lost": self.lost, "blocking": self.blocking,
            "findings": [finding.as_dict() for finding in self.findings],
        }  # fmt: skip


def _needs_hap(seen: Seen) -> bool:
    config = seen.saved.config
    created = config.get("c_info", {}) if isinstance(config, dict) else {}
    wanted = isinstance(created, dict) and created.get("hap") in (True, "True")
    return wanted and seen.destination.hap is False


def _used(seen: Seen) -> list[str]:
    return [
        f"{name}: guest has it, host offers it not; {where}" for name, where in seen.used.items()
    ]


def _lost(seen: Seen) -> Answer:
    rest = [name for name in seen.lost if name not in seen.used]
    return bool(rest) and [", ".join(rest)]


def _fewer(leaf: int, subleaf: int | None, register: int, unit: str, mask: int = -1) -> Predicate:
    """A number of the policy is smaller than in the image."""

    def predicate(seen: Seen) -> Answer:
        had = seen.guest.register(leaf, subleaf, register) & mask
        has = seen.wanted.register(leaf, subleaf, register) & mask
        return has < had and [f"{had} {unit} in the image, {has} on this host"]

    return predicate


def _other_vendor(seen: Seen) -> Answer:
    guest, host = seen.guest.vendor, seen.destination.vendor
    return bool(guest and host and guest != host) and [f"{guest} in the image, {host} here"]


def _tsc(seen: Seen) -> Answer:
    tsc, host = seen.saved.tsc_info, seen.destination
    if tsc is None or not tsc.khz or not host.khz or tsc.khz == host.khz:
        return False
    both = f"the guest has {tsc.khz} kHz, the host {host.khz} kHz"
    if tsc.mode == _TSC_NEVER:
        return [f"{both}, and the guest's is never emulated: its clock goes wrong without scaling"]
    if tsc.mode != _TSC_DEFAULT or host.scaling:
        return False
    whether = "which this host may have" if host.scaling is None else "which this host lacks"
    return [f"{both}: without scaling, {whether}, every RDTSC is emulated, and slow"]


def _row(
    identifier: str, predicate: Predicate, words: str, severity: str = ERROR,
    errno: str | None = None, since: str | None = None, gone: str | None = None,
) -> Rule:  # fmt: skip
    window = Window(since, gone=gone, oldest=POLICIES_SINCE)
    return Rule(
        LIBXC, WHOLE, identifier, predicate, words, errno=errno, severity=severity, releases=window
    )


# fmt: off
CREATION = (
    _row("host-hvm", lambda s: s.destination.hvm is False, "the host runs no HVM guests", errno="EINVAL"),
    _row("host-hap", _needs_hap, "the guest's page tables are to be walked by hardware (hap), which this host does not do", errno="EINVAL"),
    _row("host-nested", lambda s: s.guest.nested and (s.destination.hap is False or (s.destination.nested is False and s.release.since("4.19"))), "nested virtualisation, which this host does not offer", errno="EINVAL", since="4.14"),
)
"""For what the hypervisor does not make the domain."""
EFFECTS = (
    _row("host-feature-used", _used, "a feature in use is not there"),
    _row("host-feature-lost", _lost, "features that the guest loses without a refusal, and may die of an invalid opcode if it goes on using them", WARNING),
    _row("host-vendor", _other_vendor, "the CPU is another vendor's", WARNING, gone="4.22"),
    _row("host-address-bits", _fewer(0x80000008, None, EAX, "bits", 0xFF), "fewer physical address bits", WARNING),
    _row("host-xstate", _fewer(0xD, 0, ECX, "bytes"), "a smaller XSAVE area", WARNING),
    _row("host-tsc", _tsc, "another TSC frequency", WARNING),
    _row("host-no-policy", lambda s: not s.guest.leaves, "the image has no CPU policy: judged with the one that a new guest would get", NOTE),
)
"""What becomes of the guest."""
UNJUDGED = Rule(LIBXC, WHOLE, "host-unjudged", None, "the CPU policy is not judged", severity=NOTE)
# fmt: on


class _Refused(Exception):
    """Carries a refusal of the policy out of a restore."""

    def __init__(self, verdict: Verdict) -> None:
        self.verdict = verdict


def place(
    image: Image,
    host: Host,
    release: Release,
    *,
    guest_of: Callable[[Image], Guest] = Guest.of_image,
    checkpointed: bool = False,
    reader: StreamJudge | None = None,
    vmport: VmportProfile | None = None,
) -> Placement:
    """What a restore of an image by this release does on that host. The arguments are those of
    `restore.image.would_restore`, which judges streams and context. The guest of an image without
    a CPU policy (of Xen 4.13 or older, or a bare context) gets the one that libxl makes up for it.

    Of PV guests, and by releases before 4.13, which keep no policies, streams and context are
    judged alone; a note says so.

    Raises what `would_restore` raises, and FormatError for a host of which the most that HVM
    guests may have is not known."""
    placement = Placement(Verdict(REFUSE))
    machine = host.machine()
    machine.vmport = vmport
    pv = image.guest_type == streams.GUEST_X86_PV
    if pv or not release.since(POLICIES_SINCE):
        placement.verdict = would_restore(
            image, release, machine, guest_of=guest_of, checkpointed=checkpointed, reader=reader
        )
        why = "the guest is PV" if pv else f"Xen {release} keeps none"
        placement.findings.append(_finding(UNJUDGED, f"{UNJUDGED.words}: {why}", image))
        return placement
    placed: list[Placed] = []

    def clamped(opened: Image) -> Guest:
        guest = guest_of(opened)
        seen = Placed(opened, guest, host, release)
        placed.append(seen)
        for rule in CREATION:
            if release in rule.releases and rule.fires(seen):
                raise _Refused(_refusal(rule, rule.texts(seen)[0], opened))
        return _with_clamped_policy(seen, placement)

    try:
        placement.verdict = would_restore(
            image, release, machine, guest_of=clamped, checkpointed=checkpointed, reader=reader
        )
    except _Refused as refused:
        placement.verdict = refused.verdict
    if placement.outcome is not None and placement.outcome.rule is None:
        _find(placed[0], placement)
    return placement


def _refusal(rule: Rule, text: str, image: Image) -> Verdict:
    """Of a domain that is not made, or whose policy is not set."""
    numbers = {CPUID: streams.LIBXC_X86_CPUID_POLICY, MSR: streams.LIBXC_X86_MSR_POLICY}
    record = image.last(LIBXC, numbers[rule.record]) if rule.record in numbers else None
    return Verdict(
        REFUSE, errno=rule.errno, rule=rule.id, record=record.name if record else "",
        offset=record.offset if record else 0, text=text, layer=LIBXC,
    )  # fmt: skip


def _with_clamped_policy(seen: Placed, placement: Placement) -> Guest:
    """The guest with what the host leaves it of its policy."""
    guest, host, release = seen.guest, seen.destination, seen.release
    hap = guest.hap and host.hap is not False
    present = host.new_domain(release, nested=guest.nested, hap=hap)
    leaves, msrs = _rows(seen, present)
    placement.outcome = outcome = set_policy(
        present, host.for_guests(), leaves, msrs, nested=guest.nested, hap=hap
    )
    if outcome.rule is not None:
        raise _Refused(_refusal(outcome.rule, outcome.text, seen.saved))
    seen.wanted, seen.lost = outcome.policy, outcome.lost
    return guest.with_policy(outcome.policy.leaves(), outcome.policy.msrs())


def _rows(seen: Placed, present: DomainPolicy) -> Rows:
    """The rows that the toolstack sets: those of the image, in its order, or of another guest
    that is to be taken; for an image without any, what xc_cpuid_apply_policy makes up."""
    guest, own = seen.guest, seen.saved.policy
    if guest.leaves or guest.msrs:
        if {row[:2]: row for row in own.leaves} == guest.leaves:
            return list(own.leaves), list(own.msrs)
        return list(guest.leaves.values()), [(at, 0, value) for at, value in guest.msrs.items()]
    if seen.saved.format == CONTEXT:
        return [], []
    return _guessed(
        present, CpuPolicy(*seen.destination.policies.get("host", ([], []))), seen.release
    ), []


def _guessed(present: DomainPolicy, host: CpuPolicy, release: Release) -> list[Leaf]:
    """The policy of a new domain, with fewer leaves, and some features that are off by default."""
    rows = {(row[0], row[1]): list(row) for row in present.leaves()}
    more = release.since(_GUESSED_MORE)
    for place, most in (
        ((7, 0), 2 if more else 0), ((0x80000000, NO_SUBLEAF), 0x80000021 if more else 0x8000001C),
    ):  # fmt: skip
        if place in rows:
            rows[place][EAX] = min(rows[place][EAX], most)
    for name in _GUESSED:
        leaf, subleaf, register, bit = FEATURES[name]
        row = rows.get((leaf, NO_SUBLEAF if subleaf is None else subleaf))
        if row is not None and host.leaves and host.has(name):
            row[register] |= 1 << bit
    return [tuple(row) for row in rows.values()]  # type: ignore[misc]  # of six


def _find(seen: Placed, placement: Placement) -> None:
    """What the guest loses, and what of it its context uses."""
    image = seen.saved
    placement.lost = seen.lost
    base = 0
    if image.format != CONTEXT:
        record = image.last(LIBXC, streams.LIBXC_HVM_CONTEXT)
        base = 0 if record is None else record.body_offset
    used: dict[str, Use] = {}
    with suppress(HvmctxError):  # no context, or none that can be taken apart: the verdict says so
        used = uses(image.read_context(), seen.lost, seen.wanted.has, seen.release)
    seen.used = {name: use.words for name, use in used.items()}
    placement.blocking = list(used)
    for rule in EFFECTS:
        if seen.release not in rule.releases:
            continue
        places = list(used.values()) if rule.predicate is _used else [None]
        for text, use in zip(rule.texts(seen), places):
            finding = _finding(rule, text, image)
            if use is not None:
                finding.layer, finding.offset = CONTEXT, base + use.offset
                finding.record = f"{use.record}/{use.instance}"
            placement.findings.append(finding)


def _finding(rule: Rule, text: str, image: Image) -> Finding:
    """About the policy of an image as a whole."""
    policy = image.last(LIBXC, streams.LIBXC_X86_CPUID_POLICY)
    where = (policy.offset, policy.name) if policy else (0, "")
    return Finding(rule.severity, rule.id, text, layer=LIBXC, offset=where[0], record=where[1])
