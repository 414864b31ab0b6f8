#!/usr/bin/env python3
"""Compare the model of a restore with what hypervisors themselves answered.

`fidelity.py [SAMPLES]` judges every context of the sets in SAMPLES, prints the agreement with each
set, and writes what docs/fidelity.md is made of. By default SAMPLES is `samples` in a folder beside
the repository, if there is one. With `--slices` it also chooses anew which contexts of each set
the suite holds.
"""

from __future__ import annotations

import argparse
import datetime
import io
import json
import lzma
import os
import sys
import tarfile
from collections import Counter
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

from hvmctx.abi import x86
from hvmctx.abi.cpuid import FEATURES
from hvmctx.abi.registry import by_typecode, record_types
from hvmctx.abi.releases import Release
from hvmctx.edit.strip import strip
from hvmctx.image.image import open_image
from hvmctx.restore.context import LoadedRecord, load
from hvmctx.restore.context_rules import RULES
from hvmctx.restore.guest import Guest
from hvmctx.restore.machine import AMD, INTEL, Machine
from hvmctx.restore.rules import Loaded, Rule
from hvmctx.restore.verdict import VIOLATION, Verdict
from tools import fidelity_doc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

ROOT = Path(sys.path[0])
SAMPLES = next(ROOT.parent.glob("*/samples"), ROOT / "samples")
FOLDER = ROOT / "tests" / "data" / "hypervisors"
SLICES, OWN = FOLDER / "slices.tar.xz", FOLDER / "own.tar.xz"
"""Parts of the samples' sets, and whole sets of this project's own."""
ABOUT = ("name", "release", "vendor", "guest", "line", "hap")
KNOWN = {("amd 4.6.6", "b000144.bin")}
"""Contexts on which the model differs; docs/differences.md says why."""

TAGS = {
    "4.5": "4.5.5", "4.6": "4.6.6", "4.8": "4.8.5", "4.11": "4.11.4", "4.14": "4.14.6",
    "4.16": "4.16.7", "4.17": "4.17.7", "4.18": "4.18.6", "4.19": "4.19.6", "4.21": "4.21.2",
    "4.22": "4.22.0", "HEAD": "newest",
}  # fmt: skip
"""Folder of samples/hypervisors -> the release that it is of, in the order of age."""
INTEL_SETS = (
    ("tgl-4.17", "fuzz", "hvm2-paused", "4.17.7"),
    ("tgl-4.17", "targeted", "hvm2-paused", "4.17.7"),
    ("tgl-4.20", "fuzz", "hvm2-paused", "4.20"),
    ("tgl-4.20", "targeted", "hvm2-paused", "4.20"),
    ("tgl-4.20-guests", "nested", "hvm2n", "4.20"),
    ("tgl-4.20-guests", "pvh", "pvhx", "4.20"),
)
"""Folder of samples/intel, set, image with the guest's policy, release."""
VCPUS = 2


class Answer:
    """A context, what was done to it in words, and the hypervisor's errno, None if it loaded it."""

    __slots__ = ("data", "errno", "name", "what")

    def __init__(self, name: str, what: str, errno: str | None, data: bytes) -> None:
        self.name = name
        self.what = what
        self.errno = errno
        self.data = data


class Set:
    """Answers of one hypervisor about one guest; `policy` is an image or a stream with its CPU
    policy. The sets of a `line` are of one vendor, in the order of their releases."""

    def __init__(
        self, name: str, release: str, vendor: str, guest: str, policy: bytes,
        answers: list[Answer], line: bool = False, hap: bool = True,
    ) -> None:  # fmt: skip
        self.name = name
        self.release = release
        self.vendor = vendor
        self.guest = guest
        self.policy = policy
        self.answers = answers
        self.line = line
        self.hap = hap
        self.machine = Machine(vendor=vendor)
        # left open, as it is asked for the guest's memory
        self.loaded_into = Guest.of_image(open_image(policy), VCPUS)
        self.loaded_into.hap = hap

    def judge(self, answer: Answer, release: str | None = None) -> Verdict:
        """The model's verdict, by default that of the set's own release."""
        return load(
            answer.data, Release(release or self.release), self.loaded_into, self.machine
        )  # fmt: skip


def agrees(verdict: Verdict, answer: Answer) -> bool:
    """Whether the model says the same as the hypervisor: load, or refuse with this errno."""
    return verdict.verdict != VIOLATION and verdict.errno == answer.errno


def _files(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        return {
            member.name.rpartition("/")[2]: file.read()
            for member in tar.getmembers()
            if (file := tar.extractfile(member)) is not None
        }


def _answers(verdicts: bytes, contexts: dict[str, bytes], key: str | None = None) -> list[Answer]:
    """`key`: the tree's own part of each line, if not all of it is."""
    found = []
    for line in verdicts.splitlines():
        said = json.loads(line)
        told = said if key is None else said[key]
        errno = None if told["rc"] == 0 else told["errno"]
        found.append(Answer(said["name"], said["what"], errno, contexts[said["name"]]))
    return found


def sets_of(samples: Path) -> Iterator[Set]:
    """All sets of a folder of samples."""
    for folder, release in TAGS.items():
        place = samples / "hypervisors" / folder
        key = "newest" if folder == "HEAD" else folder
        answers = _answers(
            lzma.decompress((place / "verdicts.jsonl.xz").read_bytes()),
            _files(place / "contexts.tar.xz"), key,
        )  # fmt: skip
        policy = (place / "policy.xc").read_bytes()
        yield Set(f"amd {release}", release, AMD, "HVM", policy, answers, line=True)
    place = samples / "intel"
    for folder, kind, image, release in INTEL_SETS:
        aimed = {"nested": "targeted", "pvh": "targeted-pvh"}.get(kind, kind)
        said = next((place / folder).glob(f"verdicts-{kind}*.jsonl.xz"))
        answers = _answers(
            lzma.decompress(said.read_bytes()), _files(place / f"contexts-{aimed}-dev.tar.xz")
        )
        guest = {"nested": "HVM, nested", "pvh": "PVH"}.get(kind, "HVM")
        policy = _stripped(place / folder / f"{image}.save.xz")
        yield Set(f"intel {release} {kind}", release, INTEL, guest, policy, answers)
    real = _files(samples / "real-contexts.tar.xz")
    for release, image in (("4.17", "hvm1"), ("4.20", "hvm2x420")):
        answers = _answers(real["verdicts.jsonl"], real, release)
        policy = _stripped(samples / "images" / f"{image}.save.xz")
        yield Set(f"amd {release} images", release, AMD, "HVM", policy, answers)
    yield from held(OWN)


def _stripped(image: Path) -> bytes:
    """A copy without page contents."""
    output = io.BytesIO()
    strip(image, output)
    return output.getvalue()


def held(archive: Path) -> Iterator[Set]:
    """The sets of an archive of the suite: `SLICES` or `OWN`."""
    with tarfile.open(archive) as tar:
        files = {
            member.name: file.read()
            for member in tar.getmembers()
            if (file := tar.extractfile(member)) is not None
        }
    for about in json.loads(files["sets.json"]):
        place = about["name"].replace(" ", "-")
        verdicts = json.loads(files[f"{place}/verdicts.json"])
        answers = [
            Answer(name, what, errno, files[f"{place}/{name}"]) for name, what, errno in verdicts
        ]
        yield Set(policy=files[f"{place}/policy"], answers=answers, **about)


class Measured:
    """What the model says of a set: `counts` as they are written down, and the verdicts."""

    def __init__(self, one: Set) -> None:
        self.set = one
        self.verdicts = [(answer, one.judge(answer)) for answer in one.answers]
        self.fired = Counter(verdict.rule for _, verdict in self.verdicts if verdict.rule)
        self.differ = [
            (answer, verdict) for answer, verdict in self.verdicts if not agrees(verdict, answer)
        ]
        self.lacking = self._lacking()

    def _lacking(self) -> dict[str, list[Answer]]:
        """Rule that the release does not have -> contexts that it would refuse, and that this
        hypervisor loads."""
        release = Release(self.set.release)
        standing = {rule.id for rule in RULES if release in rule.releases}
        absent = [rule for rule in RULES if rule.id not in standing]
        found: dict[str, list[Answer]] = {}
        for answer, verdict in self.verdicts if absent else ():
            if answer.errno is None and verdict.accepted:
                for rule in _firing(absent, self.set, answer):
                    found.setdefault(rule, []).append(answer)
        return found

    def loaded(self) -> Counter[str]:
        """Record -> contexts with one that the hypervisor loads."""
        names: Counter[str] = Counter()
        for answer, verdict in self.verdicts:
            if answer.errno is None and verdict.accepted:
                types = {by_typecode(typecode) for typecode, _ in _bodies(answer.data)}
                names.update(known.name for known in types if known is not None)
        return names

    def counts(self) -> dict[str, Any]:
        accepted = sum(answer.errno is None for answer, _ in self.verdicts)
        return {
            "name": self.set.name,
            "release": self.set.release,
            "vendor": self.set.vendor,
            "guest": self.set.guest,
            "line": self.set.line,
            "features": [name for name in FEATURES if self.set.loaded_into.has(name)],
            "contexts": len(self.verdicts),
            "accepted": accepted,
            "fired": dict(sorted(self.fired.items())),
            "loaded": dict(sorted(self.loaded().items())),
            "lacking": {rule: len(found) for rule, found in sorted(self.lacking.items())},
            "differ": [
                {"name": answer.name, "xen": answer.errno, "model": verdict.errno,
                 "rule": verdict.rule}
                for answer, verdict in self.differ
            ],
        }  # fmt: skip


def _firing(rules: list[Rule], one: Set, answer: Answer) -> set[str]:
    """Which of the rules apply to records of a context, whatever their releases."""
    release, view = Release(one.release), memoryview(answer.data)
    sizes, found, at = release.sizes(), set(), 0
    while at + x86.DESCRIPTOR.size <= len(view):
        typecode, instance, length = x86.DESCRIPTOR.unpack_from(view, at)
        at += x86.DESCRIPTOR.size
        known = by_typecode(typecode)
        if typecode == x86.END.typecode:
            break
        if known is not None and known.name in sizes:
            seen = LoadedRecord(
                known, sizes[known.name], instance, length, view[at:], release,
                one.loaded_into, one.machine, Loaded(),
            )  # fmt: skip
            found |= {rule.id for rule in rules if rule.record == known.name and rule.fires(seen)}
        at += length
    return found


class Change:
    """Between two trees that follow each other: contexts that the one refuses by a rule, and the
    other loads; the one is the hypervisor's answer, the other the model's with its release in
    place of the first. By rule, those whose answer is of the `older` of the two, and of the
    `newer`. `comes` says whether it is the newer one that refuses."""

    def __init__(self, older: Measured, newer: Measured, comes: bool) -> None:
        self.older, self.newer, self.comes = older, newer, comes
        refusing, other = (newer, older) if comes else (older, newer)
        refused = _refused_only_here(refusing, other.set.release)
        taken = _taken_only_here(other, refusing.set.release)
        self.on_older, self.on_newer = (taken, refused) if comes else (refused, taken)

    def counts(self) -> dict[str, Any]:
        rules = sorted({*self.on_older, *self.on_newer})
        return {
            "older": self.older.set.release,
            "newer": self.newer.set.release,
            "comes": self.comes,
            "rules": {
                rule: [len(self.on_older.get(rule, ())), len(self.on_newer.get(rule, ()))]
                for rule in rules
            },
        }


def _refused_only_here(here: Measured, there: str) -> dict[str, list[Answer]]:
    """By rule: contexts that the hypervisor of `here` refuses by it, and the release `there`
    would load."""
    found: dict[str, list[Answer]] = {}
    for answer, verdict in here.verdicts:
        refused = agrees(verdict, answer) and not verdict.accepted
        if refused and here.set.judge(answer, there).accepted:
            found.setdefault(verdict.rule, []).append(answer)
    return found


def _taken_only_here(here: Measured, there: str) -> dict[str, list[Answer]]:
    """By rule: contexts that the hypervisor of `here` loads, and the release `there` would
    refuse by it."""
    found: dict[str, list[Answer]] = {}
    for answer, verdict in here.verdicts:
        if agrees(verdict, answer) and verdict.accepted:
            rule = here.set.judge(answer, there).rule
            if rule:
                found.setdefault(rule, []).append(answer)
    return found


def changes(measured: list[Measured]) -> list[Change]:
    """Of each two trees in line that follow each other."""
    line = [one for one in measured if one.set.line]
    return [Change(a, b, comes) for a, b in pairwise(line) for comes in (True, False)]


def written(measured: list[Measured], changed: list[Change]) -> dict[str, Any]:
    """What docs/fidelity.md is made of, as of today."""
    return {
        "date": f"{datetime.date.today()}",
        "slice": sum(len(one.answers) for archive in (SLICES, OWN) for one in held(archive)),
        "sets": [one.counts() for one in measured],
        "changes": [told for one in changed if (told := one.counts())["rules"]],
    }


def chosen(measured: list[Measured], changed: list[Change]) -> dict[str, dict[str, Answer]]:
    """Set -> the contexts of it that the suite holds: of each rule one context that is refused by
    it, and the most like it of those that are loaded; one that is loaded for lack of a rule; of
    each change what shows it on either side; and those on which the model differs."""
    found: dict[str, dict[str, Answer]] = {}
    for one in measured:
        mine = found.setdefault(one.set.name, {})
        taken = [(a, _bodies(a.data)) for a, v in one.verdicts if v.accepted and agrees(v, a)]
        for rule in one.fired:
            refused = [(a, v) for a, v in one.verdicts if v.rule == rule and agrees(v, a)]
            pairs = [(*_nearest(answer, verdict, taken), answer) for answer, verdict in refused[:9]]
            if pairs:
                _, near, answer = min(pairs, key=lambda pair: pair[0])
                mine.update({a.name: a for a in (near, answer)})
        mine.update({answers[0].name: answers[0] for answers in one.lacking.values()})
        mine.update({answer.name: answer for answer, _ in one.differ})
    for change in changed:
        sides = ((change.older, change.on_older), (change.newer, change.on_newer))
        for one, rules in sides:
            for answers in rules.values():
                found[one.set.name][answers[0].name] = answers[0]
    return found


def _bodies(context: bytes) -> dict[tuple[int, int], bytes]:
    """(typecode, instance) -> body, of the last of each, as far as records are whole."""
    found, at = {}, 0
    while at + x86.DESCRIPTOR.size <= len(context):
        typecode, instance, length = x86.DESCRIPTOR.unpack_from(context, at)
        at += x86.DESCRIPTOR.size
        found[typecode, instance] = context[at : at + length]
        at += length
        if typecode == x86.END.typecode:
            break
    return found


def _nearest(
    answer: Answer, verdict: Verdict, taken: list[tuple[Answer, dict[tuple[int, int], bytes]]]
) -> tuple[tuple[bool, int, int], Answer]:
    """Of the contexts that are loaded, those with a record of the refused type first, the one
    in which the fewest records differ, and of the refused one the fewest bits; and how far it
    is."""
    mine = _bodies(answer.data)
    known = {record.name: record.typecode for record in record_types()}
    refused = known.get(verdict.record, -1), verdict.instance or 0

    def distance(other: dict[tuple[int, int], bytes]) -> tuple[bool, int, int]:
        absent = all(typecode != refused[0] for typecode, _ in other)
        differ = sum(mine.get(key) != other.get(key) for key in {*mine, *other})
        return absent, differ, _bits(mine.get(refused), other.get(refused))

    return min(((distance(bodies), near) for near, bodies in taken), key=lambda pair: pair[0])


def _bits(one: bytes | None, other: bytes | None) -> int:
    if one is None or other is None or len(one) != len(other):
        return 10000
    return (int.from_bytes(one, "little") ^ int.from_bytes(other, "little")).bit_count()


def archive(sets: list[Set], contexts: dict[str, dict[str, Answer]]) -> bytes:
    """The slices as one file, the same for the same contexts."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as tar:

        def add(name: str, data: bytes) -> None:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))

        there = [one for one in sets if contexts.get(one.name)]
        about = [{name: getattr(one, name) for name in ABOUT} for one in there]
        add("sets.json", json.dumps(about, indent=1).encode())
        for one in there:
            place = one.name.replace(" ", "-")
            mine = sorted(contexts[one.name].values(), key=lambda answer: answer.name)
            rows = [[answer.name, answer.what, answer.errno] for answer in mine]
            add(f"{place}/policy", one.policy)
            add(f"{place}/verdicts.json", json.dumps(rows).encode())
            for answer in mine:
                add(f"{place}/{answer.name}", answer.data)
    return lzma.compress(output.getvalue(), preset=9 | lzma.PRESET_EXTREME)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("samples", nargs="?", type=Path, default=SAMPLES)
    parser.add_argument("--slices", action="store_true", help="choose the suite's contexts anew")
    args = parser.parse_args()
    if not (args.samples / "hypervisors").is_dir():
        print(f"no samples in {args.samples}: nothing judged")
        return 0
    measured = []
    for one in sets_of(args.samples):
        measured.append(Measured(one))
        print(f"{one.name:24}{len(one.answers):7}{len(measured[-1].differ):7} differ", flush=True)
    changed = changes(measured)
    if args.slices:
        of_suite = [one for one in measured if one.set.line or one.set.vendor == INTEL]
        data = archive([one.set for one in of_suite], chosen(of_suite, changed))
        SLICES.write_bytes(data)
        print(f"{SLICES.name}: {len(data)} bytes")
    told = written(measured, changed)
    fidelity_doc.MEASURED.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    Path(ROOT, "docs", "fidelity.md").write_text(fidelity_doc.document(told), encoding="utf-8")
    total = sum(len(one.verdicts) for one in measured)
    differ = [(one.set.name, answer.name) for one in measured for answer, _ in one.differ]
    print(f"{total} contexts, {len(differ)} differ, {len(set(differ) - KNOWN)} of them unexplained")
    return int(bool(set(differ) - KNOWN))


if __name__ == "__main__":
    sys.exit(main())
