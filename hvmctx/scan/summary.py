"""What the rows of a scan come to: how many images would restore where, which would not, and why.

However many rows there are, a summary stays of one size: of what has no bound it keeps the first
few, and the number of all.
"""

from __future__ import annotations

from hvmctx.abi.releases import Release
from hvmctx.errors import UsageError
from hvmctx.restore.verdict import ACCEPT, REFUSE, VIOLATION
from hvmctx.scan.row import UNREADABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hvmctx.scan.row import Row

    Place = tuple[str, str | None]
    """A release, and a host or None."""

__all__ = ["KINDS", "Summary"]

KINDS = (ACCEPT, REFUSE, VIOLATION, UNREADABLE)
_MOST_IMAGES = 1000
"""Images that are named because they would not restore, and as many that cannot be read."""
_MOST_KINDS = 1000
"""Different values of a column that are counted apart."""
_EXAMPLES = 3
_OTHERS = "others"


class Counts:
    """How often each value came; the most frequent first. From some number on, new ones count
    as others."""

    def __init__(self) -> None:
        self._of: dict[str, int] = {}

    def add(self, value: str) -> None:
        if value not in self._of and len(self._of) >= _MOST_KINDS:
            value = _OTHERS
        self._of[value] = self._of.get(value, 0) + 1

    def rows(self) -> list[tuple[str, int]]:
        return sorted(self._of.items(), key=lambda item: (-item[1], item[0]))


class Summary:
    """Rows are added one by one."""

    def __init__(self) -> None:
        self.images = 0
        self.unreadable = 0
        """Of which nothing is known but why."""
        self.damaged = 0
        self.refused = 0
        """That would not restore somewhere."""
        self.releases, self.types, self.policies = Counts(), Counts(), Counts()
        self._places: dict[Place, dict[str, int]] = {}
        self._reasons: dict[str, dict[str, Any]] = {}
        self._not: list[dict[str, Any]] = []
        self._errors: list[dict[str, str]] = []

    def add(self, row: Row) -> None:
        self.images += 1
        if row.get("error"):
            if row.get("layers"):
                self.damaged += 1
            else:
                self.unreadable += 1
            if len(self._errors) < _MOST_IMAGES:
                self._errors.append({"input": row["input"], "error": row["error"]})
        for counts, name in (
            (self.releases, "xen"), (self.types, "guest_type"), (self.policies, "policy_digest")
        ):  # fmt: skip
            if row.get(name):
                counts.add(row[name])
        refusals = [verdict for verdict in row.get("verdicts") or [] if self._count(verdict)]
        if refusals:
            self.refused += 1
            self._refused(row, refusals)

    def _count(self, verdict: dict[str, Any]) -> bool:
        """Whether it is anything but an accept."""
        counts = self._places.setdefault(_place(verdict), dict.fromkeys(KINDS, 0))
        counts[verdict["verdict"] if verdict["verdict"] in counts else UNREADABLE] += 1
        return bool(verdict["verdict"] != ACCEPT)

    def _refused(self, row: Row, refusals: list[dict[str, Any]]) -> None:
        for verdict in refusals:
            rule = verdict["rule"] or UNREADABLE
            reason = self._reasons.setdefault(
                rule,
                {"rule": rule, "text": verdict["text"] or "", "images": 0, "examples": [],
                 "last": None, "places": set()},
            )  # fmt: skip
            reason["places"].add(_place(verdict))
            if reason["last"] != self.images:
                reason["last"] = self.images
                reason["images"] += 1
                if len(reason["examples"]) < _EXAMPLES:
                    reason["examples"].append(row["input"])
        if len(self._not) < _MOST_IMAGES:
            self._not.append({
                "input": row["input"], "guest": row.get("guest_name") or "",
                "xen": row.get("xen") or "", "verdicts": {_place(v): v for v in row["verdicts"]},
            })  # fmt: skip

    @property
    def places(self) -> list[Place]:
        """Where, in order: releases by age, then hosts by name."""
        return sorted(self._places, key=_age)

    def as_dict(self) -> dict[str, Any]:
        """For a table or a page. Cells are in the order of `places`: a verdict, or None
        where there was none."""
        places = self.places
        return {
            "kinds": KINDS, "images": self.images, "unreadable": self.unreadable,
            "damaged": self.damaged, "refused": self.refused,
            "places": [
                {"name": name_of(place), **self._places[place]} for place in places
            ],
            "reasons": [
                {"rule": reason["rule"], "text": reason["text"], "images": reason["images"],
                 "examples": reason["examples"],
                 "places": [name_of(place) for place in places if place in reason["places"]]}
                for reason in sorted(
                    self._reasons.values(), key=lambda reason: (-reason["images"], reason["rule"])
                )
            ],
            "not_everywhere": [
                {"input": each["input"], "guest": each["guest"], "xen": each["xen"],
                 "cells": [each["verdicts"].get(place) for place in places]}
                for each in sorted(self._not, key=lambda each: each["input"])
            ],
            "errors": sorted(self._errors, key=lambda each: each["input"]),
            "releases": self.releases.rows(), "types": self.types.rows(),
            "policies": self.policies.rows(),
        }  # fmt: skip


def _place(verdict: dict[str, Any]) -> Place:
    return verdict["release"], verdict["host"]


def _age(place: Place) -> tuple[str, int, str]:
    release, host = place
    try:
        number = Release(release).number
    except UsageError:  # of rows that a newer hvmctx has written
        number = -1
    return host or "", number, release


def name_of(place: Place) -> str:
    """A place in words.

    >>> name_of(("4.17", None)), name_of(("4.20", "blue"))
    ('Xen 4.17', 'blue (Xen 4.20)')
    """
    release, host = place
    xen = f"Xen {release}"
    return f"{host} ({xen})" if host else xen
