"""Which Xen release knows which save record, and how long the record is in it.

To add a release, add a row to `RELEASES` with what changed since the row above it. All that
names releases or spans of them follows from the table.
Source: the public headers of every release tag from 4.0.0 to 4.22.0 and the tip of
August 2026 (c447b730).
"""

from __future__ import annotations

from hvmctx.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hvmctx.abi.declare import RecordType

__all__ = [
    "CPU_COMPAT_REFUSED",
    "CPU_COMPAT_SIZE",
    "LATEST",
    "NEWEST",
    "OLDEST",
    "POINT_RELEASES",
    "RELEASES",
    "SPAN",
    "VARIABLE",
    "ZERO_EXTEND_SINCE",
    "Release",
    "Window",
    "came_with",
    "emission_order",
    "lengths_of",
]

NEWEST = "newest"

# fmt: off
RELEASES: dict[str, dict[str, int]] = {
    "4.0":  {"END": 0, "HEADER": 24, "CPU": 1024, "PIC": 8, "IOAPIC": 400, "LAPIC": 16,
             "LAPIC_REGS": 1024, "PCI_IRQ": 16, "ISA_IRQ": 8, "PCI_LINK": 8, "PIT": 56,
             "RTC": 16, "HPET": 1048, "PMTIMER": 8, "MTRR": 240, "VIRIDIAN_DOMAIN": 16},
    "4.1":  {"LAPIC": 24, "CPU_XSAVE": 600},
    "4.2":  {"VIRIDIAN_VCPU": 8, "VMCE_VCPU": 8},
    "4.3":  {"VMCE_VCPU": 24, "TSC_ADJUST": 8},
    "4.4":  {},
    "4.5":  {"VIRIDIAN_DOMAIN": 24, "CPU_MSR": 8},
    "4.6":  {"VIRIDIAN_DOMAIN": 32},
    "4.7":  {"CPU": 1032, "VIRIDIAN_VCPU": 16},
    "4.8":  {},
    "4.9":  {},
    "4.10": {"VMCE_VCPU": 32},
    "4.11": {},
    "4.12": {},
    "4.13": {"VIRIDIAN_VCPU": 216},
    "4.14": {"RTC": 24},
    "4.15": {},
    "4.16": {},
    "4.17": {},
    "4.18": {"LAPIC": 32},
    "4.19": {},
    "4.20": {},
    "4.21": {},
    "4.22": {},
    NEWEST: {},
}
"""Bytes of each record body, or of its fixed part where it is variable (CPU_XSAVE,
CPU_MSR), at the tip of each release's branch. VIRIDIAN_DOMAIN was called VIRIDIAN in 4.0
and 4.1."""

POINT_RELEASES: dict[str, dict[str, dict[int, int]]] = {
    # pending_esr was added to three branches after their first point releases
    "LAPIC": {"4.18": {0: 24, 5: 32}, "4.19": {0: 24, 2: 32}, "4.20": {0: 24, 1: 32}},
}
"""Where a record changed within a branch: branch -> first point release -> bytes."""

ZERO_EXTEND_SINCE = {
    "LAPIC": "4.1", "VMCE_VCPU": "4.3", "VIRIDIAN_DOMAIN": "4.5", "CPU": "4.7",
    "VIRIDIAN_VCPU": "4.7", "RTC": "4.14",
}
"""Records that a loader also accepts shorter, filled up with zeros, from this release on. All
others are strict in every release, except for the two of variable length."""

VARIABLE = ("CPU_XSAVE", "CPU_MSR")
"""24 + the uncompressed xsave image for xcr0_accum; 8 + 16 * count."""

CPU_COMPAT_SIZE = 1016
"""The CPU record of Xen before 3.4, still accepted except by 4.0.0, 4.0.1 and 4.1.0."""
CPU_COMPAT_REFUSED = ("4.0.0", "4.0.1", "4.1.0")
# fmt: on

_NAMES = tuple(RELEASES)
_ORDER = {name: number for number, name in enumerate(_NAMES)}
OLDEST, LATEST = _NAMES[0], _NAMES[-2]
"""The first release, and the last that is out; after it comes the newest tree."""
SPAN = f"{OLDEST} to {LATEST}"
"""All numbered releases, in words."""
_ALIASES = {"HEAD": NEWEST, "staging": NEWEST, "unstable": NEWEST}
_TAG, _REPOSITORY = "RELEASE-", "xen-"
"""What the name of a release's tag starts with; those of 4.14.5 and 4.16.1 have both."""
_OF_FOUR = "4.1.6.1"
"""The one tag of four numbers."""


def _parts(name: str) -> tuple[str, int | None]:
    """Branch and point release: ("4.17", 3) of 4.17.3, ("4.1", 6) of 4.1.6.1, ("4.17", None)
    of 4.17 and of a name of another kind."""
    numbers = name.split(".")
    if len(numbers) != 3 + (name == _OF_FOUR) or not all(
        n.isascii() and n.isdigit() for n in numbers
    ):
        return name, None
    return ".".join(numbers[:2]), int(numbers[2][:6])


def _ages(first: str) -> list[tuple[int, int]]:
    """Of the releases that `Release.since` compares with: number of the branch, and point."""
    parts = [_parts(name) for name in first.split()]
    return [(_ORDER[branch], point or 0) for branch, point in parts]


class Release:
    """A Xen release: `4.17`, `4.17.3`, `newest`, or the name of a tag, such as
    `RELEASE-4.1.6.1`. Releases are ordered by age; a branch name alone means the tip of that
    branch, and comes after its point releases.

    Raises UsageError for a name that is not in the table.

    >>> Release("4.17") < Release("4.17.3") < Release("newest")
    False
    >>> Release("4.18.4").size_of("LAPIC"), Release("4.18.5").size_of("LAPIC")
    (24, 32)
    """

    __slots__ = ("_since", "branch", "number", "point", "text")

    def __init__(self, name: str | Release) -> None:
        self._since: dict[str, bool] = {}
        if isinstance(name, Release):
            self._since = name._since
        elif not isinstance(name, str):  # 4.20 as a number is 4.2
            raise UsageError(f"found {name!r}, expected a release as text, such as '4.20'")
        text = str(name)
        if _TAG in text:
            text = text.removeprefix(_REPOSITORY).removeprefix(_TAG)
        text = _ALIASES.get(text, text)
        branch, point = _parts(text)
        if branch not in _ORDER:
            raise UsageError(f"unknown Xen release {text!r}; expected {SPAN}, or {NEWEST}")
        self.text = text
        self.branch = branch
        self.point = point
        self.number = _ORDER[branch]

    @classmethod
    def of_version(cls, major: int, minor: int) -> Release:
        """The release that a domain header names; the newest if it is not in the table."""
        name = f"{major}.{minor}"
        return cls(name if name in _ORDER else NEWEST)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Release({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Release) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def _age(self) -> tuple[int, float]:
        return self.number, float("inf") if self.point is None else self.point

    def __lt__(self, other: Release) -> bool:
        return self._age() < other._age()

    def __le__(self, other: Release) -> bool:
        return self._age() <= other._age()

    def __gt__(self, other: Release) -> bool:
        return other < self

    def __ge__(self, other: Release) -> bool:
        return other <= self

    def since(self, first: str) -> bool:
        """Whether this release has what came with `first`: a branch (which has it from its
        first release on), or a point release; after it, separated by blanks, the point releases
        of older branches that it was put into: `4.16 4.15.1 4.14.3`."""
        known = self._since.get(first)  # a load asks some fifty times
        if known is None:
            age = self._age()
            mainline, *backports = _ages(first)
            known = age >= mainline or any(
                self.number == branch and age >= (branch, point) for branch, point in backports
            )
            self._since[first] = known
        return known

    @property
    def version(self) -> tuple[int, int]:
        """(major, minor) as in a domain header, the inverse of `of_version`. The newest has no
        number yet, and gives that of the last release."""
        name = LATEST if self.branch == NEWEST else self.branch
        major, _, minor = name.partition(".")
        return int(major), int(minor)

    def and_newer(self) -> list[Release]:
        """This release and all newer branches, which may restore an image that it wrote."""
        return [self, *(Release(name) for name in _NAMES[self.number + 1 :])]

    def sizes(self) -> dict[str, int]:
        """Record name -> bytes, of all records that this release knows."""
        sizes: dict[str, int] = {}
        for row in list(RELEASES.values())[: self.number + 1]:
            sizes.update(row)
        if self.point is not None:
            for record, branches in POINT_RELEASES.items():
                for first, size in branches.get(self.branch, {}).items():
                    if self.point >= first:
                        sizes[record] = size
        return sizes

    def size_of(self, record: RecordType | str) -> int | None:
        """Bytes of a record's body in this release; None if it does not know the record."""
        return self.sizes().get(record if isinstance(record, str) else record.name)

    def zero_extends(self, record: RecordType | str) -> bool:
        """Whether this release's loader accepts shorter records of this type."""
        since = ZERO_EXTEND_SINCE.get(record if isinstance(record, str) else record.name)
        return since is not None and self.since(since)


class Window:
    """The releases from `since` on, up to and including the branch `until`, or up to those
    that came before `gone`; `since` and `gone` are as `Release.since` takes them. `oldest` is
    the first release in question, with which a window without `since` starts."""

    __slots__ = ("gone", "oldest", "since", "until")

    def __init__(
        self,
        since: str | None = None,
        until: str | None = None,
        gone: str | None = None,
        *,
        oldest: str = OLDEST,
    ) -> None:
        self.since = since or oldest
        self.until = until
        self.gone = gone if until is None else _NAMES[_ORDER[until] + 1]
        self.oldest = oldest

    def __contains__(self, release: Release) -> bool:
        return release.since(self.since) and (self.gone is None or not release.since(self.gone))

    def after(self, release: Release) -> str | None:
        """The first release after this one that is out of the window again; None if none is.

        >>> Window("4.13", gone="4.21 4.20.2 4.19.4").after(Release("4.19.1"))
        '4.19.4'
        """
        ends = sorted(Release(name) for name in (self.gone or "").split())
        return next((str(end) for end in ends if end > release), None)

    def __str__(self) -> str:
        first, *backports = self.since.split()
        also = f" (also {', '.join(backports)} and later of their branches)" if backports else ""
        if self.gone is None:
            return "every release" if first == self.oldest else f"{first} and later{also}"
        last = f"up to {self.until}" if self.until else f"before {', '.join(self.gone.split())}"
        if first == self.oldest:
            return last
        return (
            f"{first} to {self.until}{also}" if self.until else f"{first} and later{also}, {last}"
        )


def lengths_of(record: str) -> dict[str, int]:
    """Bytes of a record's body by the release since which they hold; empty for a record that no
    release has.

    >>> lengths_of("LAPIC")
    {'4.0': 16, '4.1': 24, '4.18': 32}
    """
    return {name: sizes[record] for name, sizes in RELEASES.items() if record in sizes}


def came_with(record: str) -> str:
    """The first release that knows a record. Raises StopIteration if none does."""
    return next(iter(lengths_of(record)))


def emission_order(typecode: int, instance: int) -> tuple[bool, int, int]:
    """A key that sorts records as every release writes them: HEADER, then by typecode, records
    of one type by instance, then END. Source: xen/common/hvm/save.c."""
    return typecode == _END, typecode, instance


_END = 0
