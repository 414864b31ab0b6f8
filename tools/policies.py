#!/usr/bin/env python3
"""Compare the model of setting a CPU policy with what hypervisors made of altered ones.

`policies.py NAME RELEASE GUEST ANSWERS POLICIES` judges what realxen's policies.sh has printed
(ANSWERS) of the `.pol` files in the folder POLICIES, prints the agreement, and puts the counts, and
some of the answers for the suite, beside those of other sets.
"""

from __future__ import annotations

import io
import json
import lzma
import os
import sys
import tarfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

from hvmctx.abi.releases import Release
from hvmctx.restore.clamping import DomainPolicy
from hvmctx.restore.host import Host
from hvmctx.restore.policy_forms import from_pol, to_pol
from hvmctx.restore.policy_rules import Outcome, set_policy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    Answer = dict[str, Any]

FOLDER = Path(sys.path[0]) / "tests" / "data" / "hypervisors"
HELD, COUNTS = FOLDER / "policies.tar.xz", FOLDER / "policies.json"
_UNNAMED = 0xFFFFFFFF
_OF_EACH = 2


class PolicySet:
    """Answers of one hypervisor: `first` is the policy that the domain has before each, `answers`
    the lines of policies.sh, each with the bytes of its policy."""

    def __init__(
        self, name: str, release: str, guest: str, host: Host, first: bytes,
        answers: list[tuple[Answer, bytes]],
    ) -> None:  # fmt: skip
        self.name = name
        self.release = Release(release)
        self.guest = guest
        self.host = host
        self.answers = answers
        self.first = first
        self._policies = host.for_guests()
        self._present = DomainPolicy.of(self.release, *from_pol(first))
        self._leaves, self._msrs = self._present.leaves(), self._present.msrs()

    def outcome(self, policy: bytes) -> Outcome:
        """The model's."""
        return set_policy(self._present, self._policies, *from_pol(policy))

    def as_answer(self, outcome: Outcome) -> Answer:
        """An outcome in the form of policies.sh, but for the name."""
        leaves, msrs = outcome.policy.leaves(), outcome.policy.msrs()
        there = {row[:2] for row in leaves}
        return {
            "errno": outcome.errno,
            "where": [outcome.leaf, outcome.subleaf, outcome.msr],
            "cpuid": [list(row) for row in leaves if row not in self._leaves],
            "gone": [list(row[:2]) for row in self._leaves if row[:2] not in there],
            "msr": [list(row) for row in msrs if row not in self._msrs],
        }

    def differs(self, answer: Answer, policy: bytes) -> bool:
        """Whether the model says something else: errno, what is named, any row afterwards."""
        return self.as_answer(self.outcome(policy)) != said(answer)


def said(answer: Answer) -> Answer:
    """A line of policies.sh in the form of `PolicySet.as_answer`."""
    places = (answer.get(name) for name in ("err_leaf", "err_subleaf", "err_msr"))
    return {
        "errno": answer["errno"],
        "where": [None if number == _UNNAMED else number for number in places],
        **{name: answer[name] for name in ("cpuid", "gone", "msr")},
    }


def of_run(name: str, release: str, guest: str, lines: Iterable[str], folder: Path) -> PolicySet:
    """The set that policies.sh has printed."""
    rows = [json.loads(line) for line in lines if line.startswith("{")]
    told = next(row["host"] for row in rows if "host" in row)
    host = Host.from_text(told["xen-cpuid -p"].encode(), told["xl info"].encode())
    first = to_pol(map(tuple, told["cpuid"]), map(tuple, told["msr"]))
    answers = [(row, (folder / row["name"]).read_bytes()) for row in rows if "name" in row]
    return PolicySet(name, release, guest, host, first, answers)


def held() -> list[PolicySet]:
    """The sets of the suite."""
    with tarfile.open(HELD) as tar:
        files = {m.name: f.read() for m in tar.getmembers() if (f := tar.extractfile(m))}
    found = []
    for about in json.loads(files["sets.json"]):
        place = about["name"].replace(" ", "-")
        lines = map(json.loads, files[f"{place}/answers.jsonl"].splitlines())
        answers = [(line, bytes.fromhex(line["policy"])) for line in lines]
        host = Host.read(files[f"{place}/host.json"])
        found.append(PolicySet(**about, host=host, first=files[f"{place}/first.pol"],
                               answers=answers))  # fmt: skip
    return found


def chosen(one: PolicySet) -> list[tuple[Answer, bytes]]:
    """Of each rule some policies that it refuses; of those that are set as many as it takes to
    have every leaf changed, and gone, that any has; and all on which the model differs."""
    found, seen = [], Counter[object]()
    for answer, policy in one.answers:
        outcome = one.outcome(policy)
        if outcome.rule is not None:
            keys: list[object] = [outcome.rule.id]
        else:
            keys = [tuple(row[:2]) for row in answer["cpuid"]]
            keys += [("gone", *row) for row in answer["gone"]]
            keys += [("msr", row[0]) for row in answer["msr"]]
        if one.differs(answer, policy) or any(seen[key] < _OF_EACH for key in keys):
            found.append((answer, policy))
            seen.update(keys)
    return found


def archive(sets: list[PolicySet]) -> bytes:
    """The sets as one file, the same for the same answers."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as tar:

        def add(name: str, data: bytes) -> None:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))

        about = [
            {"name": one.name, "release": str(one.release), "guest": one.guest} for one in sets
        ]
        add("sets.json", json.dumps(about, indent=1).encode())
        for one in sets:
            place = one.name.replace(" ", "-")
            rows = [{**answer, "policy": policy.hex()} for answer, policy in one.answers]
            add(f"{place}/host.json", json.dumps(one.host.as_dict(), indent=1).encode())
            add(f"{place}/first.pol", one.first)
            add(f"{place}/answers.jsonl", "".join(f"{json.dumps(r)}\n" for r in rows).encode())
    return lzma.compress(output.getvalue(), preset=9 | lzma.PRESET_EXTREME)


def counts(one: PolicySet) -> dict[str, Any]:
    """What docs/fidelity.md says of a set."""
    outcomes = [one.outcome(policy) for _, policy in one.answers]
    rules = Counter(outcome.rule.id for outcome in outcomes if outcome.rule)
    return {
        "name": one.name,
        "release": str(one.release),
        "guest": one.guest,
        "policies": len(one.answers),
        "set": sum(answer["errno"] is None for answer, _ in one.answers),
        "changed": sum(bool(a["cpuid"] or a["gone"] or a["msr"]) for a, _ in one.answers),
        "rules": dict(sorted(rules.items())),
        "differ": sorted(a["name"] for a, policy in one.answers if one.differs(a, policy)),
    }


def main() -> int:
    if len(sys.argv) != 6:
        sys.stderr.write(__doc__ or "")
        return 2
    name, release, guest, answers, folder = sys.argv[1:]
    opened = lzma.open if answers.endswith(".xz") else open
    with opened(answers, "rt", encoding="utf-8") as lines:
        one = of_run(name, release, guest, lines, Path(folder))
    told = counts(one)
    print(json.dumps(told, indent=1))
    known = json.loads(COUNTS.read_text(encoding="utf-8")) if COUNTS.exists() else []
    kept = [row for row in known if row["name"] != name]
    written = sorted([*kept, told], key=lambda row: row["name"])
    COUNTS.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    sets = [other for other in (held() if HELD.exists() else []) if other.name != name]
    one.answers = chosen(one)
    HELD.write_bytes(archive(sorted([*sets, one], key=lambda other: other.name)))
    return 1 if told["differ"] else 0


if __name__ == "__main__":
    sys.exit(main())
