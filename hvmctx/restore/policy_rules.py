"""What Xen refuses of a CPU policy that a toolstack sets on a domain, as a table in its order,
and the whole of it: `set_policy`.

A restore does this with the rows of X86_CPUID_POLICY and X86_MSR_POLICY, before it looks at
memory. Source: update_domain_cpu_policy and x86_cpu_policies_are_compatible of every release tag
from 4.13.0 to c447b730.
"""

from __future__ import annotations

from hvmctx.abi.cpuid import EAX, EBX, ECX, EDX, FEATURES, MSR_FEATURES, NO_SUBLEAF, PLATFORM_INFO
from hvmctx.abi.releases import Window
from hvmctx.restore.clamping import POLICIES_SINCE, DomainPolicy, HostPolicies
from hvmctx.restore.policy import CpuPolicy
from hvmctx.restore.rules import REMOVE, SET, Change, Remedy, Rule, Seen
from hvmctx.stream.reader import LIBXC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hvmctx.restore.policy import Leaf, Msr
    from hvmctx.restore.rules import Answer, Predicate

    Where = tuple[int | None, int | None, int | None]

__all__ = ["COMPATIBLE", "CPUID", "MSR", "ROWS", "Outcome", "Setting", "features_of", "set_policy"]

CPUID, MSR = "X86_CPUID_POLICY", "X86_MSR_POLICY"


class Setting(Seen):
    """A policy that is being set: how many `rows` there are, the `row` that is looked at, and
    once all are copied `wanted`, the policy that the domain would have, and the host's `most`."""

    __slots__ = ("most", "name", "release", "row", "rows", "wanted")
    layer = LIBXC

    def __init__(self, wanted: DomainPolicy, most: CpuPolicy) -> None:
        self.release = wanted.release
        self.wanted = wanted
        self.most = most
        self.name = CPUID
        self.rows = 0
        self.row: tuple[int, ...] = ()


class Outcome:
    """What became of a policy. `rule` is None where it is set; else that rule refused it, with
    `errno`, in words `text`, at `leaf` and `subleaf`, or at `msr`: None where the hypervisor names
    none, and where the leaf has no subleaves; `remedy` are the steps that mend it. `policy` is the
    domain's afterwards; `lost` are the features, by name, that the rows have and a policy that was
    set has not."""

    __slots__ = ("leaf", "lost", "msr", "policy", "remedy", "rule", "subleaf", "text")

    def __init__(
        self, policy: DomainPolicy, rule: Rule | None = None, text: str = "",
        where: Where = (None, None, None), lost: Iterable[str] = (),
        remedy: Iterable[Change] = (),
    ) -> None:  # fmt: skip
        self.policy = policy
        self.rule = rule
        self.text = text
        self.leaf, self.subleaf, self.msr = (_named(number) for number in where)
        self.lost = list(lost)
        self.remedy = list(remedy)

    def __repr__(self) -> str:
        if self.rule is not None:
            return f"<{self.errno} [{self.rule.id}]>"
        return f"<policy set, {len(self.lost)} features lost>"

    @property
    def errno(self) -> str | None:
        return None if self.rule is None else self.rule.errno


def _named(number: int | None) -> int | None:
    """The hypervisor answers 0xffffffff for what it does not name, and for no subleaf."""
    return None if number == NO_SUBLEAF else number


def _place(seen: Seen) -> list[str]:
    leaf, subleaf = seen.row[:2]
    return [f"leaf {leaf:#x}" + ("" if subleaf == NO_SUBLEAF else f", subleaf {subleaf:#x}")]


def _no_place(seen: Seen) -> Answer:
    return not seen.wanted.shape.has(seen.row[0], seen.row[1]) and _place(seen)


def _too_wide(seen: Seen) -> Answer:
    index, _, value = seen.row
    width = seen.wanted.shape.msrs.get(index, 64)
    return bool(value >> width) and [f"MSR {index:#x} is {value:#x}, of {width} bits"]


def _beyond(leaf: int, subleaf: int | None) -> Predicate:
    """The maximum in that leaf is above the host's."""

    def predicate(seen: Seen) -> Answer:
        wanted = seen.wanted.register(leaf, subleaf, EAX)
        most = seen.most.register(leaf, subleaf, EAX)
        return wanted > most and [f"{wanted:#x}, the host has {most:#x}"]

    return predicate


def _other_vendor(seen: Seen) -> bool:
    registers = (EBX, ECX, EDX)
    return any(
        seen.wanted.register(0, None, at) != seen.most.register(0, None, at) for at in registers
    )


def _platform(seen: Seen) -> bool:
    return bool(seen.wanted.msr(PLATFORM_INFO) & ~seen.most.msrs.get(PLATFORM_INFO, 0))


def _row(
    record: str, identifier: str, errno: str, predicate: Predicate, words: str,
    since: str | None = None, gone: str | None = None, remedy: Remedy | None = None,
) -> Rule:  # fmt: skip
    window = Window(since, gone=gone, oldest=POLICIES_SINCE)
    return Rule(
        LIBXC, record, identifier, predicate, words, errno=errno, releases=window, remedy=remedy
    )


def _path(leaf: int, subleaf: int | None = None) -> str:
    """As the commands name it."""
    number = f"{leaf:#x}" if leaf > 9 else f"{leaf}"
    return f"CPUID[{number}]" if subleaf in (None, NO_SUBLEAF) else f"CPUID[{number},{subleaf}]"


def _lowered(leaf: int, subleaf: int | None = None) -> Remedy:
    return Remedy(
        "lowers the maximum to the host's: the guest loses what the leaves above it say",
        lambda seen, rule: [
            Change(SET, f"{_path(leaf, subleaf)}.eax", seen.most.register(leaf, subleaf, EAX))
        ],
    )


def _of_msr(seen: Seen) -> str:
    return f"MSR[{seen.row[0]:#x}]"


_NO_LEAF = Remedy(
    "removes the leaf, of which this release has no place: what it says is lost",
    lambda seen, rule: [Change(REMOVE, _path(*seen.row[:2]))],
)
_NO_MSR = Remedy(
    "removes the MSR, of which this release has no place: what it says is lost",
    lambda seen, rule: [Change(REMOVE, _of_msr(seen))],
)
_NO_FLAGS = Remedy(
    "clears the flags, of which no release knows any",
    lambda seen, rule: [Change(SET, f"{_of_msr(seen)}.flags", 0)],
)
_NARROW = Remedy(
    "clears bits that the field has not",
    lambda seen, rule: [
        Change(SET, _of_msr(seen), seen.row[2] & ((1 << seen.wanted.shape.msrs[seen.row[0]]) - 1))
    ],
)
_PLATFORM = Remedy(
    "clears bits that the host does not offer",
    lambda seen, rule: [
        Change(
            SET, f"MSR[{PLATFORM_INFO:#x}]",
            seen.wanted.msr(PLATFORM_INFO) & seen.most.msrs.get(PLATFORM_INFO, 0),
        )
    ],
)  # fmt: skip


# fmt: off
ROWS = (
    _row(CPUID, "cpuid-policy-count", "E2BIG", lambda s: not s.row and s.rows > s.wanted.shape.most_leaves, "more leaves than this release keeps"),
    _row(CPUID, "cpuid-policy-place", "ERANGE", lambda s: bool(s.row) and _no_place(s), "a leaf or subleaf that this release does not keep", remedy=_NO_LEAF),
    _row(MSR, "msr-policy-count", "E2BIG", lambda s: not s.row and s.rows > len(s.wanted.shape.msrs), "more MSRs than this release keeps"),
    _row(MSR, "msr-policy-flags", "EINVAL", lambda s: bool(s.row) and s.row[1] != 0, "the flags of an MSR are not 0", remedy=_NO_FLAGS),
    _row(MSR, "msr-policy-index", "ERANGE", lambda s: bool(s.row) and s.row[0] not in s.wanted.shape.msrs and [f"MSR {s.row[0]:#x}"], "an MSR that this release does not keep", remedy=_NO_MSR),
    _row(MSR, "msr-policy-value", "EOVERFLOW", lambda s: bool(s.row) and _too_wide(s), "the value of an MSR is wider than its field", remedy=_NARROW),
)
"""About all rows together, when `row` is empty, and about each."""
COMPATIBLE: tuple[tuple[Rule, Where], ...] = (
    (_row(CPUID, "cpuid-policy-vendor", "EINVAL", _other_vendor, "the vendor is not the host's", "4.22"), (0, None, None)),
    (_row(CPUID, "cpuid-policy-basic", "EINVAL", _beyond(0, None), "the highest basic leaf is above the host's", remedy=_lowered(0)), (0, None, None)),
    (_row(CPUID, "cpuid-policy-subleaf", "EINVAL", _beyond(7, 0), "the highest subleaf of leaf 7 is above the host's", "4.15", remedy=_lowered(7, 0)), (7, 0, None)),
    (_row(CPUID, "cpuid-policy-extended", "EINVAL", _beyond(0x80000000, None), "the highest extended leaf is above the host's", gone="4.14 4.13.1", remedy=_lowered(0x80000000)), (0x80000008, None, None)),
    (_row(CPUID, "cpuid-policy-extended", "EINVAL", _beyond(0x80000000, None), "the highest extended leaf is above the host's", "4.14 4.13.1", remedy=_lowered(0x80000000)), (0x80000000, None, None)),
    (_row(MSR, "msr-policy-platform", "EINVAL", _platform, "PLATFORM_INFO has bits that the host does not offer", remedy=_PLATFORM), (None, None, PLATFORM_INFO)),
)
"""x86_cpu_policies_are_compatible: rules about the whole, and the leaf, subleaf or MSR that the
hypervisor then names."""
# fmt: on


def set_policy(
    present: DomainPolicy,
    host: HostPolicies,
    leaves: Sequence[Leaf],
    msrs: Sequence[Msr],
    *,
    nested: bool = False,
    hap: bool = True,
) -> Outcome:
    """What a release does when these rows are set on a domain that has the policy `present`:
    refuse them, or copy them over it and clamp the result. `nested` and `hap` as for
    `DomainPolicy.clamp`. Source: update_domain_cpu_policy.

    >>> from hvmctx import Release
    >>> most = CpuPolicy([(0, NO_SUBLEAF, 1, 0, 0, 0), (1, NO_SUBLEAF, 0, 0, 1, 0)])
    >>> domain = DomainPolicy(Release("4.20"))
    >>> set_policy(domain, HostPolicies(most), [(1, NO_SUBLEAF, 0, 0, 3, 0)], []).lost
    ['PCLMULQDQ']
    >>> set_policy(domain, HostPolicies(most), [(2, 0, 0, 0, 0, 0)], [])
    <ERANGE [cpuid-policy-place]>
    """
    wanted = present.copied()
    seen = Setting(wanted, host.most)
    for name, rows in ((CPUID, leaves), (MSR, msrs)):
        seen.name, seen.rows = name, len(rows)
        for seen.row in ((), *rows):
            for rule in ROWS:
                if rule.record == name and seen.release in rule.releases and rule.fires(seen):
                    return _refused(present, seen, rule, _where(seen))
    wanted.copy(leaves, msrs)
    wanted.trim()
    for rule, where in COMPATIBLE:
        if seen.release in rule.releases and rule.fires(seen):
            return _refused(present, seen, rule, where)
    wanted.clamp(host, nested=nested, hap=hap)
    asked = features_of(leaves, msrs)
    return Outcome(wanted, lost=[name for name in asked if not wanted.has(name)])


def _refused(present: DomainPolicy, seen: Setting, rule: Rule, where: Where) -> Outcome:
    remedy = rule.remedy.changes(seen, rule) if rule.remedy else []
    return Outcome(present, rule, rule.texts(seen)[0], where, remedy=remedy)


def _where(seen: Setting) -> Where:
    """The row, as the hypervisor names it; nothing for the rows as a whole."""
    if not seen.row:
        return None, None, None
    return (seen.row[0], seen.row[1], None) if seen.name == CPUID else (None, None, seen.row[0])


def features_of(leaves: Iterable[Leaf], msrs: Iterable[Msr]) -> list[str]:
    """The features that rows have, by name, in the order of Xen's featuresets."""
    rows = {(row[0], row[1]): row for row in leaves}
    values = {row[0]: row[2] for row in msrs}
    found = []
    for name, (leaf, subleaf, register, bit) in FEATURES.items():
        row = rows.get((leaf, NO_SUBLEAF if subleaf is None else subleaf))
        if row is not None and row[register] >> bit & 1:
            found.append(name)
    return found + [
        name for name, (index, bit) in MSR_FEATURES.items() if values.get(index, 0) >> bit & 1
    ]
