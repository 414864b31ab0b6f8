"""Which variants to keep: those that reach the rules of a release that few have reached so
far, so that a set of files has some for each."""

from __future__ import annotations

from collections import Counter

from hvmctx.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping
    from random import Random
    from typing import Any, Protocol

    Verdicts = dict[str, dict[str, Any]]
    Outcome = tuple[str, str]
    Variant = tuple[bytes, str, Verdicts]

    class Make(Protocol):
        """What makes variants: (bytes, what was changed)."""

        def __call__(self, record: str | None = None) -> tuple[bytes, str]: ...


__all__ = ["Steering", "unlike"]

ACCEPTED = ""
"""The rule of a variant that is accepted."""
_ACCEPTED_EACH = 12
"""At least one of so many variants is to be accepted."""
_MISSES = 5
"""How often a rule is aimed at in vain, one time after another, before it counts as out of
reach."""
_PATIENCE = 4
"""How many times as often, if it was reached before."""
_KEPT = 8
"""Variants that are kept for each outcome until it is its turn."""
_MOST_TRIES = 1000


def unlike(seen: Container[bytes], make: Make) -> tuple[bytes, str]:
    """A variant that is none of those. Raises UsageError if none can be found."""
    for _ in range(_MOST_TRIES):
        made, what = make()
        if made not in seen:
            return made, what
    raise UsageError("no further variants of these bases can be found")


class Steering:
    """Variants without end, no two alike: (bytes, what was changed, the verdicts).

    `make` gives a variant, of a record of the name that it is given or of anything, and
    `judge` its verdicts by release. `rules` are those of each release, with the names of the
    records that they are about. For each variant the rule is chosen that was reached least,
    and aimed at `tries` times; what reaches others meanwhile is kept for them. None is one of
    those `given` before.

    `reached` counts the variants that reached a rule of a release; accepted ones have the
    rule ''.
    """

    def __init__(
        self, make: Make, judge: Callable[[bytes], Verdicts],
        rules: Mapping[str, Mapping[str, str]], rng: Random, *, tries: int,
        given: Iterable[bytes] = (),
    ) -> None:  # fmt: skip
        self._make = make
        self._judge = judge
        self.rules = rules
        self._rng = rng
        self._tries = tries
        self._aims: dict[Outcome, str | None] = {}
        for release, names in rules.items():
            self._aims[release, ACCEPTED] = None
            self._aims.update({(release, rule): record for rule, record in names.items()})
        self._misses: Counter[Outcome] = Counter()
        self._pool: dict[Outcome, list[Variant]] = {}
        self._given = set(given)
        self._count = 0
        self.reached: Counter[Outcome] = Counter()

    def __iter__(self) -> Iterator[Variant]:
        while True:
            yield self._next()

    def _next(self) -> Variant:
        while self._aims:
            aim = self._rarest()
            variant = self._from_pool(aim) or self._hit(aim)
            if variant is not None:
                self._misses[aim] = 0
                return self._give(variant)
            self._misses[aim] += 1
            if self._misses[aim] == _MISSES * (_PATIENCE if self.reached[aim] else 1):
                self._give_up(aim)
        return self._give(self._judged(*unlike(self._given, self._make)))

    def _give_up(self, aim: Outcome) -> None:
        """Aim there no more; nor at that rule in other releases, if none has reached it."""
        same = [other for other in self._aims if other[1] == aim[1]]
        alike = not any(self.reached[other] for other in same)
        for other in same if alike else [aim]:
            del self._aims[other]

    def _rarest(self) -> Outcome:
        due = [
            aim for aim in self._aims
            if aim[1] == ACCEPTED and self.reached[aim] * _ACCEPTED_EACH <= self._count
        ]  # fmt: skip
        if due:
            return due[0]
        least = min(self.reached[aim] for aim in self._aims)
        return self._rng.choice([aim for aim in self._aims if self.reached[aim] == least])

    def _from_pool(self, aim: Outcome) -> Variant | None:
        kept = self._pool.get(aim, [])
        while kept:
            variant = kept.pop()
            if variant[0] not in self._given:
                return variant
        return None

    def _hit(self, aim: Outcome) -> Variant | None:
        for _ in range(self._tries):
            data, what = self._make(self._aims[aim])
            if data in self._given:
                continue
            variant = self._judged(data, what)
            outcomes = _outcomes(variant)
            if aim in outcomes:
                return variant
            for outcome in outcomes:
                kept = self._pool.setdefault(outcome, [])
                if len(kept) < _KEPT:
                    kept.append(variant)
        return None

    def _judged(self, data: bytes, what: str) -> Variant:
        return data, what, self._judge(data)

    def _give(self, variant: Variant) -> Variant:
        self._given.add(variant[0])
        self._count += 1
        self.reached.update(_outcomes(variant))
        return variant

    def missed(self, release: str) -> list[str]:
        """The rules of a release that no variant has reached."""
        return [rule for rule in self.rules[release] if not self.reached[release, rule]]


def _outcomes(variant: Variant) -> list[Outcome]:
    return [(release, verdict["rule"]) for release, verdict in variant[2].items()]
