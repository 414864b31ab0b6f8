"""The CPU policy of a domain as Xen keeps it, and what Xen silently takes out of one that a
toolstack has set: `DomainPolicy`.

Source: xen/arch/x86/cpuid.c, cpu-policy.c and lib/cpu-policy of every release tag from 4.13.0 to
c447b730, and what Xen 4.17 and 4.20 made of thousands of altered policies (docs/fidelity.md).
"""

from __future__ import annotations

from functools import lru_cache

from hvmctx.abi.cpuid import (
    ARCH_CAPABILITIES,
    DEPENDENTS,
    EAX,
    EBX,
    ECX,
    EDX,
    FEATURES,
    MSR_FEATURES,
    NO_SUBLEAF,
    PLATFORM_INFO,
    REPEATED,
    WORDS,
)
from hvmctx.abi.releases import Release

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from hvmctx.restore.policy import CpuPolicy, Leaf, Msr

    Place = tuple[int, int | None, int]

__all__ = ["POLICIES_SINCE", "STATES", "DomainPolicy", "HostPolicies", "Shape"]

POLICIES_SINCE = "4.13"
"""The first release whose domains have policies that a toolstack sets."""
_BASIC, _HYPERVISOR, _VIRIDIAN, _EXTENDED = 0, 0x40000000, 0x40000100, 0x80000000
_CACHE, _FEATURES, _TOPOLOGY, _XSTATE, _PMU = 4, 7, 0xB, 0xD, 0xA
_LAST_BASIC = 0xD
_LAST_EXTENDED_INTEL = 8

_THREE_SUBLEAVES = "4.17 4.16.1 4.15.3 4.14.5"
_LEAF_21 = "4.16 4.15.3 4.14.5"
_MSR_WORDS = "4.18 4.17.2 4.16.5 4.15.5 4.14.6"
"""Since when ARCH_CAPABILITIES has 64 bits, and is clamped."""
_WORDS_SINCE: dict[Place, str] = {
    (0x80000021, None, EAX): _LEAF_21,
    (7, 1, EBX): _THREE_SUBLEAVES,
    (7, 2, EDX): _THREE_SUBLEAVES,
    (7, 1, ECX): "4.18 4.17.1 4.16.4 4.15.5 4.14.6",
    (7, 1, EDX): "4.18 4.17.1 4.16.4 4.15.5 4.14.6",
    (0x80000021, None, ECX): "4.21 4.20.1 4.19.3 4.18.6 4.17.6",
}
"""Words of features that came after 4.13.0. A release clamps those that it knows."""
_ARCH_CAPS: Place = (ARCH_CAPABILITIES, None, EAX)
"""The MSR as one more word: no CPUID leaf has this number."""
_PLACES = {**FEATURES, **{name: (*_ARCH_CAPS, bit) for name, (_, bit) in MSR_FEATURES.items()}}

_FPU_BITS = 1 << 6 | 1 << 13
"""FDP_EXCP_ONLY and NO_FPU_SEL, which a guest has as its host has them."""
_OF_HAP = ("INVPCID", "PAGE1GB", "PCID", "PKS", "PKU")
"""Features that a guest with shadowed page tables does not get; since 4.15 VMX and SVM too."""
_TOOLSTACKS = ("HTT", "X2APIC", "CMP_LEGACY")
_TOOLSTACKS_GONE = "4.19 4.18.2 4.17.4"
"""Since when the maximum has these itself; before, the toolstack may set them on any host."""
_TSX_GONE = "4.16 4.15.1 4.14.3"
_TSX_CTRL = 1 << 7
_SHADOW_BITS, _FOUR_LEVELS = 44, 48
_FOUR_LEVELS_SINCE = "4.16 4.15.2 4.14.4"
_RAW_XSTATE_SINCE = "4.19"
_LEGACY_XSAVE = 576
_ALIGNED, _SUPERVISOR = 2, 1
"""Bits of ecx of a component's row of leaf 0xd."""

# feature, the states that it brings, and since when
STATES = (
    ("AVX", 1 << 2, "4.13"), ("MPX", 0b11 << 3, "4.13"), ("AVX512F", 0b111 << 5, "4.13"),
    ("PKU", 1 << 9, "4.13"), ("AMX_TILE", 0b11 << 17, "4.20"),
)  # fmt: skip


class HostPolicies:
    """What of a host decides on the policies of its HVM guests: the most that they may have, the
    host's own policy, and what its CPU says (`raw`), which a text may lack."""

    __slots__ = ("host", "most", "raw")

    def __init__(
        self, most: CpuPolicy, host: CpuPolicy | None = None, raw: CpuPolicy | None = None
    ) -> None:
        self.most = most
        self.host = host or most
        self.raw = raw or self.host


class Shape:
    """How much of a policy a release keeps: subleaves of the leaves that have some, the last
    extended leaf, the MSRs with their widths in bits, and how many leaves it takes at most."""

    __slots__ = ("last_extended", "most_leaves", "msrs", "subleaves", "words")

    def __init__(self, release: Release) -> None:
        features = 3 if release.since(_THREE_SUBLEAVES) else 2
        self.subleaves = {_CACHE: 6, _FEATURES: features, _TOPOLOGY: 2, _XSTATE: 63}
        self.last_extended = 0x21 if release.since(_LEAF_21) else 0x1C
        self.msrs = {PLATFORM_INFO: 32}
        if release.since("4.15 4.14.1 4.13.2"):
            self.msrs[ARCH_CAPABILITIES] = 64 if release.since(_MSR_WORDS) else 32
        self.words = [place for place in WORDS if release.since(_WORDS_SINCE.get(place, "4.13"))]
        if release.since(_MSR_WORDS):
            self.words.append(_ARCH_CAPS)
        self.most_leaves = (
            _LAST_BASIC + 1 + sum(n - 1 for n in self.subleaves.values())
            + self.last_extended + 1 + 2
        )  # fmt: skip

    def has(self, leaf: int, subleaf: int) -> bool:
        """Whether a policy has a place for that row."""
        if leaf in self.subleaves:
            return subleaf < self.subleaves[leaf]
        return subleaf == NO_SUBLEAF and (
            leaf <= _LAST_BASIC
            or leaf in (_HYPERVISOR, _VIRIDIAN)
            or _EXTENDED <= leaf <= _EXTENDED + self.last_extended
        )


@lru_cache(maxsize=64)
def _shape(release: Release) -> Shape:
    return Shape(release)


@lru_cache(maxsize=64)
def _dependents(release: Release) -> dict[str, tuple[str, ...]]:
    """Feature -> all that go with it, and with those."""
    direct: dict[str, list[str]] = {}
    for feature, dependents, since in DEPENDENTS:
        if release.since(since):
            direct.setdefault(feature, []).extend(dependents.split())
    found = {}
    for feature, names in direct.items():
        seen: dict[str, None] = {}
        queue = list(names)
        while queue:
            name = queue.pop()
            if name not in seen:
                seen[name] = None
                queue += direct.get(name, ())
        found[feature] = tuple(seen)
    return found


class DomainPolicy:
    """The policy of a domain. Rows that are not there are zeros.

    >>> policy = DomainPolicy(Release("4.20"))
    >>> policy.copy([(0, 0xFFFFFFFF, 1, 0, 0, 0), (7, 0, 0, 1, 0, 0)], [])
    >>> policy.trim()
    >>> [row[:2] for row in policy.leaves()][:2], policy.register(7, 0, 3)
    ([(0, 4294967295), (1, 4294967295)], 0)
    """

    __slots__ = ("_msrs", "_rows", "release", "shape")

    def __init__(self, release: Release) -> None:
        self.release = release
        self.shape = _shape(release)
        self._rows: dict[tuple[int, int], list[int]] = {}
        self._msrs = dict.fromkeys(self.shape.msrs, 0)

    @classmethod
    def of(cls, release: Release, leaves: Iterable[Leaf], msrs: Iterable[Msr]) -> DomainPolicy:
        """A domain that has these rows, as far as the release has a place for them."""
        policy = cls(release)
        policy.copy(
            (row for row in leaves if policy.shape.has(row[0], row[1])),
            (row for row in msrs if row[0] in policy.shape.msrs),
        )
        return policy

    def copied(self) -> DomainPolicy:
        """Another policy with the same rows."""
        other = DomainPolicy(self.release)
        other._rows = {place: list(row) for place, row in self._rows.items()}
        other._msrs = dict(self._msrs)
        return other

    def copy(self, leaves: Iterable[Leaf], msrs: Iterable[Msr]) -> None:
        """Put rows, for which there must be a place, over those that are there."""
        for row in leaves:
            kept = list(row)
            if row[0] in (_HYPERVISOR, _VIRIDIAN):  # a limit of 8 bits
                kept[EAX:] = row[EAX] & 0xFF, 0, 0, 0
            self._rows[row[0], row[1]] = kept
        for index, _, value in msrs:
            self._msrs[index] = value

    # what the policy says

    def register(self, leaf: int, subleaf: int | None, register: int) -> int:
        """As of a `CpuPolicy`; of leaf 0x10a (no CPUID leaf) the MSR of that number."""
        if leaf == ARCH_CAPABILITIES:
            return self._msrs.get(leaf, 0)
        row = self._rows.get((leaf, NO_SUBLEAF if subleaf is None else subleaf))
        return 0 if row is None else row[register]

    def msr(self, index: int) -> int:
        """The value of an MSR; 0 of one that the release does not keep."""
        return self._msrs.get(index, 0)

    def has(self, feature: str) -> bool:
        """Whether it has a feature of `FEATURES` or `MSR_FEATURES`."""
        leaf, subleaf, register, bit = _PLACES[feature]
        return bool(self.register(leaf, subleaf, register) >> bit & 1)

    @property
    def vendor(self) -> bytes:
        """Twelve letters, as in leaf 0."""
        return b"".join(self.register(0, None, at).to_bytes(4, "little") for at in (EBX, EDX, ECX))

    @property
    def _amd(self) -> bool:
        return self.vendor in (b"AuthenticAMD", b"HygonGenuine")

    @property
    def _states(self) -> int:
        """All states of leaf 0xd, those of XSS included."""
        low = self.register(_XSTATE, 0, EAX) | self.register(_XSTATE, 1, ECX)
        return low | (self.register(_XSTATE, 0, EDX) | self.register(_XSTATE, 1, EDX)) << 32

    def leaves(self) -> list[Leaf]:
        """The rows that the hypervisor gives a toolstack, in its order; zeros among them."""
        found: list[tuple[int, int]] = []
        for leaf in range(min(self.register(0, None, EAX), _LAST_BASIC) + 1):
            if leaf not in self.shape.subleaves:
                found.append((leaf, NO_SUBLEAF))
            else:
                found += [(leaf, subleaf) for subleaf in range(self._given(leaf))]
        found += [(_HYPERVISOR, NO_SUBLEAF), (_VIRIDIAN, NO_SUBLEAF)]
        last = min(self.register(_EXTENDED, None, EAX) & 0xFFFF, self.shape.last_extended)
        found += [(_EXTENDED + number, NO_SUBLEAF) for number in range(last + 1)]
        rows = (self._rows.get(place, (*place, 0, 0, 0, 0)) for place in found)
        return [tuple(row) for row in rows]  # type: ignore[misc]  # of six

    def msrs(self) -> list[Msr]:
        """The MSRs, as `leaves`."""
        return [(index, 0, value) for index, value in self._msrs.items()]

    def _given(self, leaf: int) -> int:
        """How many subleaves of a leaf are given."""
        most = self.shape.subleaves[leaf]
        if leaf == _FEATURES:
            return min(self.register(leaf, 0, EAX), most - 1) + 1
        if leaf == _XSTATE:
            return min(max(2, self._states.bit_length()), most)
        return min(self._first_invalid(leaf) + 1, most)

    def _first_invalid(self, leaf: int) -> int:
        """The first subleaf of leaf 4 or 0xb without a type, or their number."""
        most = self.shape.subleaves[leaf]
        for subleaf in range(most):
            kind = self.register(leaf, subleaf, EAX) & 0x1F
            if leaf == _TOPOLOGY:
                kind = self.register(leaf, subleaf, ECX) >> 8 & 0xFF
            if not kind:
                return subleaf
        return most

    # what is done to it

    def _put(self, leaf: int, subleaf: int | None, register: int, value: int) -> None:
        if leaf == ARCH_CAPABILITIES:
            self._msrs[leaf] = value
            return
        place = leaf, NO_SUBLEAF if subleaf is None else subleaf
        self._rows.setdefault(place, [*place, 0, 0, 0, 0])[register] = value

    def _mask(self, leaf: int, register: int, mask: int) -> None:
        if (leaf, NO_SUBLEAF) in self._rows:
            self._rows[leaf, NO_SUBLEAF][register] &= mask

    def _clear(self, first: int, last: int) -> None:
        """Leaves without subleaves, the last included."""
        for place in [place for place in self._rows if first <= place[0] <= last]:
            if place[1] == NO_SUBLEAF:
                del self._rows[place]

    def _clear_subleaves(self, leaf: int, first: int = 0) -> None:
        for place in [place for place in self._rows if place[0] == leaf and place[1] >= first]:
            del self._rows[place]

    def trim(self) -> None:
        """Clear the leaves and subleaves beyond the maxima of the policy itself. A maximum of
        0xffffffff wraps around, and clears them all."""
        self._clear(self.register(0, None, EAX) + 1 & 0xFFFFFFFF, _LAST_BASIC)
        last = self.register(0, None, EAX)
        self._clear_subleaves(_CACHE, 0 if last < _CACHE else self._first_invalid(_CACHE))
        beyond = self.register(_FEATURES, 0, EAX) + 1 & 0xFFFFFFFF
        self._clear_subleaves(_FEATURES, 0 if last < _FEATURES else beyond)
        self._clear_subleaves(_TOPOLOGY, 0 if last < _TOPOLOGY else self._first_invalid(_TOPOLOGY))
        states = self._states
        self._clear_subleaves(
            _XSTATE, 0 if last < _XSTATE or not states else max(2, states.bit_length())
        )
        last = self.register(_EXTENDED, None, EAX) & 0xFFFF
        self._clear(_EXTENDED + last + 1, _EXTENDED + self.shape.last_extended)

    def clamp(self, host: HostPolicies, *, nested: bool = False, hap: bool = True) -> None:
        """Take out what an HVM domain may not have on that host, and make the rest consistent.
        `nested`: it may run guests of its own; `hap`: the hardware walks its page tables."""
        most = host.most
        for leaf, subleaf in ((0, None), (_FEATURES, 0)):
            limit = min(self.register(leaf, subleaf, EAX), most.register(leaf, subleaf, EAX))
            self._put(leaf, subleaf, EAX, limit)
        last = self.shape.last_extended if self._amd else _LAST_EXTENDED_INTEL
        last = min(self.register(_EXTENDED, None, EAX) & 0xFFFF, last)
        self._put(_EXTENDED, None, EAX, _EXTENDED | last)
        words = self._clamped_words(host, nested, hap)
        self._go_with(words)
        fpu = words[7, 0, EBX] & ~_FPU_BITS
        words[7, 0, EBX] = fpu | (host.host.register(7, 0, EBX) & _FPU_BITS)
        for place, word in words.items():
            if word or self.register(*place):
                self._put(*place, word)
        line = most.register(1, None, EBX) & 0xFF00  # of the cache, for CLFLUSH
        self._put(1, None, EBX, self.register(1, None, EBX) & ~0xFF00 | line)
        self._clamp_addresses(host, hap)
        self._make_xstate(host)
        self._hide()
        self._clamp_cache()
        if not any(host.host.register(_PMU, None, at) for at in (EAX, EBX, ECX, EDX)):
            self._clear(_PMU, _PMU)
        if not self.has("SVM"):
            self._clear(_EXTENDED + 0xA, _EXTENDED + 0xA)
        if not self.has("PAGE1GB"):
            self._clear(_EXTENDED + 0x19, _EXTENDED + 0x19)

    def _clamped_words(self, host: HostPolicies, nested: bool, hap: bool) -> dict[Place, int]:
        """The words of features, and what of them the host's most lets through."""
        release = self.release
        most = {place: _register_of(host.most, place) for place in self.shape.words}

        def change(names: Iterable[str], there: bool) -> None:
            for name in names:
                leaf, subleaf, register, bit = _PLACES[name]
                mask, place = 1 << bit, (leaf, subleaf, register)
                most[place] = most[place] | mask if there else most[place] & ~mask

        if not hap:
            change(_OF_HAP, False)
        if not nested or (not hap and release.since("4.15")):
            change(("VMX", "SVM"), False)
        if not release.since(_TOOLSTACKS_GONE):
            change(_TOOLSTACKS, True)
        tsx = host.host.msrs.get(ARCH_CAPABILITIES, 0) & _TSX_CTRL
        if tsx and not release.since(_TSX_GONE):
            change(("HLE", "RTM"), True)
        words = {place: self.register(*place) & most[place] for place in self.shape.words}
        if self.register(0, None, EAX) < _XSTATE:
            words[1, None, ECX] &= ~(1 << FEATURES["XSAVE"][3])
        return words

    def _go_with(self, words: dict[Place, int]) -> None:
        """Take out the features that are nothing without others that are not there."""
        for feature, dependents in _dependents(self.release).items():
            if not _in_words(words, feature):
                for name in dependents:
                    leaf, subleaf, register, bit = _PLACES[name]
                    if (leaf, subleaf, register) in words:
                        words[leaf, subleaf, register] &= ~(1 << bit)

    def _clamp_addresses(self, host: HostPolicies, hap: bool) -> None:
        """Physical and linear address bits."""
        sizes = _EXTENDED + 8
        bits = self.register(sizes, None, EAX) & 0xFF
        paging = host.raw.register(sizes, None, EAX)
        paging = (hap and paging >> 16 & 0xFF) or paging & 0xFF
        if not hap:
            paging = min(paging, _SHADOW_BITS)
        elif self.release.since(_FOUR_LEVELS_SINCE):
            paging = min(paging, _FOUR_LEVELS)
        bits = min(bits, host.most.register(sizes, None, EAX) & 0xFF, paging)
        bits = max(bits, 36 if self.has("PAE") or self.has("PSE36") else 32)
        linear = 48 if self.has("LM") else 32
        rest = self.register(sizes, None, EAX) & ~0xFFFF
        self._put(sizes, None, EAX, rest | linear << 8 | bits)

    def _make_xstate(self, host: HostPolicies) -> None:
        """Leaf 0xd follows from the features; its offsets and sizes are the CPU's."""
        features = self.register(_XSTATE, 1, EAX)
        self._clear_subleaves(_XSTATE)
        if not self.has("XSAVE"):
            return
        states, size = 0b11, _LEGACY_XSAVE
        for name, brings, since in STATES:
            if self.release.since(since) and self.has(name):
                states |= brings
        self._put(_XSTATE, 1, EAX, features)
        visible = _ALIGNED
        if self.release.since(_RAW_XSTATE_SINCE):
            visible = (_ALIGNED if self.has("XSAVEC") else 0) | (
                _SUPERVISOR if self.has("XSAVES") else 0
            )
        for bit in range(2, states.bit_length()):
            if states >> bit & 1:
                length, offset, flags = (
                    host.raw.register(_XSTATE, bit, at) for at in (EAX, EBX, ECX)
                )
                size = max(size, offset + length)
                self._put(_XSTATE, bit, EAX, length)
                self._put(_XSTATE, bit, EBX, offset)
                self._put(_XSTATE, bit, ECX, flags & visible)
        self._put(_XSTATE, 0, EAX, states & 0xFFFFFFFF)
        self._put(_XSTATE, 0, ECX, size)

    def _hide(self) -> None:
        """What no guest is shown, or is the same for all."""
        self._mask(1, EAX, 0x0FFF0FFF)
        self._mask(1, EBX, 0x00FFFFFF)
        self._clear(5, 6)
        self._clear(8, 8)
        self._clear(0xC, 0xC)
        self._clear_subleaves(_TOPOLOGY)
        self._mask(_EXTENDED + 1, EDX, ~REPEATED)
        for register in (EAX, EBX, ECX):
            self._mask(_EXTENDED + 7, register, 0)
        self._mask(_EXTENDED + 8, EDX, 0)
        if self.vendor == b"GenuineIntel":
            self._hide_of_intel()
        elif self._amd:
            self._hide_of_amd()

    def _hide_of_intel(self) -> None:
        self._put(2, None, EAX, self.register(2, None, EAX) & ~0xFF | 1)
        self._clear(3, 3)
        self._clear(9, 9)
        for register in (EBX, ECX, EDX):
            self._mask(_EXTENDED, register, 0)
        for register in (EAX, EBX):
            self._mask(_EXTENDED + 1, register, 0)
        self._clear(_EXTENDED + 5, _EXTENDED + 5)
        for register in (EAX, EBX, EDX):
            self._mask(_EXTENDED + 6, register, 0)
        self._mask(_EXTENDED + 8, EAX, 0xFFFF)
        self._mask(_EXTENDED + 8, ECX, 0)

    def _hide_of_amd(self) -> None:
        self._clear(2, 3)
        self._clear_subleaves(_CACHE)
        self._clear(9, 0xA)
        for register in (EBX, ECX, EDX):
            self._put(_EXTENDED, None, register, self.register(0, None, register))
        self._put(_EXTENDED + 1, None, EAX, self.register(1, None, EAX))
        self._mask(_EXTENDED + 1, EBX, 0xFF00FFFF)
        repeated = self.register(1, None, EDX) & REPEATED
        self._put(_EXTENDED + 1, None, EDX, self.register(_EXTENDED + 1, None, EDX) | repeated)
        self._mask(_EXTENDED + 8, EAX, 0xFFFF)
        self._mask(_EXTENDED + 8, ECX, 0x3F0FF)
        self._clear(_EXTENDED + 9, _EXTENDED + 9)
        self._clear(_EXTENDED + 0xB, _EXTENDED + 0x18)
        self._clear(_EXTENDED + 0x1B, _EXTENDED + 0x1C)
        if self.release.since(_THREE_SUBLEAVES):
            self._clear(_EXTENDED + 0x1D, _EXTENDED + 0x20)
        if self.release.since(_WORDS_SINCE[0x80000021, None, ECX]):
            for register in (EBX, EDX):
                self._mask(_EXTENDED + 0x21, register, 0)

    def _clamp_cache(self) -> None:
        """Leaf 4: reserved bits, and all from the first subleaf that is no cache."""
        for subleaf in range(self.shape.subleaves[_CACHE]):
            row = self._rows.get((_CACHE, subleaf))
            if row is None or not 1 <= row[EAX] & 0x1F <= 3:
                self._clear_subleaves(_CACHE, subleaf)
                return
            row[EAX] &= 0xFFFFC3FF
            row[EDX] &= 7


def _register_of(policy: CpuPolicy, place: Place) -> int:
    if place == _ARCH_CAPS:
        return policy.msrs.get(ARCH_CAPABILITIES, 0)
    return policy.register(*place)


def _in_words(words: Mapping[Place, int], feature: str) -> bool:
    leaf, subleaf, register, bit = _PLACES[feature]
    return bool(words.get((leaf, subleaf, register), 0) >> bit & 1)
