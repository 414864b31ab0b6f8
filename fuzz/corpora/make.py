#!/usr/bin/env python3
"""The corpus for the fuzzers and test labs of hypervisors: of every rule of the loaders and every
outcome one file, of as few records as show it, and what each release answers.

`make.py` writes the archive dist/hvmctx-corpus-VERSION.tar.xz, the same bytes from the same commit,
and `make.py --folder DIR` a folder. Where the files come from: the known-answer cases of the suite
(`tests/builders/cases`), and what `hvmctx fuzz generate` makes, from a fixed seed. README.md beside
this script is also the archive's: it says what is in it.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import lzma
import os
import random
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from functools import cache
from pathlib import Path

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__)))))

from hvmctx import __version__
from hvmctx.abi import x86
from hvmctx.abi.cpuid import FEATURES, NO_SUBLEAF
from hvmctx.abi.releases import RELEASES, Release
from hvmctx.abi.streams import RECORD_HEADER
from hvmctx.abi.vmport import XEN_4_5_V6
from hvmctx.context.hvm_context import HvmContext
from hvmctx.errors import HvmctxError
from hvmctx.findings import WARNING
from hvmctx.fuzz import MANIFEST
from hvmctx.fuzz.generate import generate, valid_bases
from hvmctx.fuzz.minimise import by_parts, fewer_records
from hvmctx.fuzz.streams import valid_stream
from hvmctx.fuzz.vmport import mutate_record, random_record
from hvmctx.image.image import open_image
from hvmctx.restore import vmport
from hvmctx.restore.context import load
from hvmctx.restore.context_rules import RULES
from hvmctx.restore.guest import DEVICES, MOST_VCPUS, PVH_DEVICES, Guest
from hvmctx.restore.hazards import HAZARDS
from hvmctx.restore.machine import AMD, INTEL, Machine
from hvmctx.restore.policy_forms import to_pol
from hvmctx.restore.stream import judge
from hvmctx.restore.verdict import ACCEPT, REFUSE, VIOLATION
from tests.builders import streams as built
from tests.builders.cases import context_rules, hazards, stream
from tests.builders.cases import vmport as vmport_known
from tests.builders.contexts import body_of, instance, msrs, nothing, put
from tests.builders.loads import base
from tests.builders.samples import DATA

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import TypedDict

    from hvmctx.restore.policy import Leaf, Msr
    from hvmctx.restore.verdict import Verdict
    from tests.builders.contexts import Change

    Rows = tuple[list[Leaf], list[Msr]]

    class Answer(TypedDict):
        verdict: str
        errno: str | None
        rule: str
        findings: list[str]

    class Row(TypedDict):
        name: str
        sha256: str
        size: int
        kind: str
        into: str
        shows: list[str]
        near: list[str]
        changed: str
        any_guest: bool
        expected: Answers

    Answers = dict[str, dict[str, Answer]]
    """Release -> vendor -> answer."""
    Key = tuple[str, str, str | None, str, str]
    """Rule, verdict, errno, release, vendor."""
    Made = tuple[bytes, str, str, str, bool]
    """Bytes, what they are loaded into, what they are in words, the rule that they are about,
    any if it is '', and whether they just do not break it."""
    Tried = tuple[str, str, Change, str, bool, str]
    """A record's name, what it is loaded into, a change to it, rule, near and words."""

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
VENDORS = (AMD, INTEL)
ANY, FOUND = "any", "found"
"""The vendor where none matters; of a key, that the rule is among the findings."""
PATCH = "vmport-v6"
"""The release of VMPORT records: the loader of the patch."""
HVM, PVH, SHADOW, MSRS, NO_XSAVE = "hvm", "pvh", "shadow", "msrs", "no-xsave"
RESTORE, CHECKPOINTED, LOADER = "restore", "checkpointed", "vmport"
"""What files are loaded into: see README.md."""
INTO = {
    HVM: "an HVM guest of 1 vcpu and 16 MiB with all emulated devices, Hyper-V's interface and"
    " hardware-assisted paging; its CPU policy is guests/VENDOR.pol",
    PVH: "as hvm, but its only emulated devices are its LAPICs: a PVH guest",
    SHADOW: "as hvm, but its page tables are shadowed (hap=0)",
    MSRS: "as hvm, with the policy guests/VENDOR-msrs.pol: AMD with DBEXT, Intel with IBRSB",
    NO_XSAVE: "as hvm, on a Xen that was booted with xsave=0",
    RESTORE: "the toolstack's readers of a restore; the context in the stream is not loaded",
    CHECKPOINTED: "these readers, told that the stream is checkpointed (Remus)",
    LOADER: "the loader of the VMPORT patch, over a domain whose state is empty",
}
WITHOUT = {
    "cpu-mxcsr-fault": "mended before the last point release of each branch that had it",
    "cpu-xsave-fault": "mended before the last point release of each branch that had it",
    "lapic-device": "only a guest without LAPICs is refused, which no toolstack makes",
    "lapic-regs-device": "only a guest without LAPICs is refused, which no toolstack makes",
    "vmport-allocated": "it is about the domain, not about the record",
    "vmport-slot-allocated": "the hypervisor must run out of memory",
}
"""Rules that no file can show, and why."""
SEED = 1
ERRNO = {
    "EPERM": 1, "ENOENT": 2, "ESRCH": 3, "EIO": 5, "ENXIO": 6, "E2BIG": 7, "ENOMEM": 12,
    "ENODEV": 19, "EINVAL": 22, "EFBIG": 27, "EDOM": 33, "ERANGE": 34, "ENODATA": 61,
    "EOVERFLOW": 75, "ENOTSUP": 95,
}  # fmt: skip
"""As in Xen's public/errno.h."""


@cache
def policies() -> dict[str, Rows]:
    """Vendor -> leaves and MSRs of the CPU policy that Xen 4.20 gave a guest there."""
    with tarfile.open(DATA / "hypervisors" / "slices.tar.xz") as tar:
        file = tar.extractfile("intel-4.20-fuzz/policy")
        assert file is not None
        intel = file.read()
    found = {}
    for vendor, image in ((AMD, DATA / "images" / "hvm2x420.save"), (INTEL, intel)):
        with open_image(image) as opened:
            found[vendor] = list(opened.policy.leaves), list(opened.policy.msrs)
    return found


def _has_page(pfn: int) -> bool:
    return pfn < 16 << 20 >> 12


def policy(into: str, vendor: str) -> Rows:
    leaves, msrs = policies()[vendor]
    if into == MSRS:
        leaves = having(leaves, "DBEXT" if vendor == AMD else "IBRSB")
    return leaves, msrs


@cache
def guest(into: str, vendor: str) -> Guest:
    """What README.md says of it."""
    leaves, msrs = policy(into, vendor)
    return Guest(
        vcpus=1, devices=PVH_DEVICES if into == PVH else DEVICES, leaves=leaves, msrs=msrs,
        hap=into != SHADOW, has_page=_has_page,
    )  # fmt: skip


def having(leaves: list[Leaf], name: str) -> list[Leaf]:
    """The rows with one feature more."""
    leaf, subleaf, register, bit = FEATURES[name]
    key = leaf, NO_SUBLEAF if subleaf is None else subleaf
    found: list[Leaf] = []
    for row in leaves:
        values = list(row)
        values[register] |= (row[:2] == key) << bit
        found.append((values[0], values[1], values[2], values[3], values[4], values[5]))
    return found


def answer(
    verdict: str = ACCEPT, errno: str | None = None, rule: str = "", findings: Iterable[str] = ()
) -> Answer:
    return {"verdict": verdict, "errno": errno, "rule": rule, "findings": sorted({*findings})}


def of_verdict(verdict: Verdict | None) -> Answer:
    if verdict is None:
        return answer()
    hazards = (hazard.rule for hazard in verdict.hazards)
    return answer(verdict.verdict, verdict.errno, verdict.rule, hazards)


def machine(into: str, vendor: str) -> Machine:
    return Machine(vendor=vendor, xsave=into != NO_XSAVE)


def context_answers(data: bytes, into: str, releases: Iterable[str]) -> Answers:
    return {
        name: {
            vendor: of_verdict(
                load(data, Release(name), guest(into, vendor), machine(into, vendor))
            )
            for vendor in VENDORS
        }
        for name in releases
    }


_NOTHING = (1, NO_SUBLEAF, 0, 0, 0, 0)
_OTHERS = Guest(vcpus=MOST_VCPUS), Guest(vcpus=MOST_VCPUS, leaves=[_NOTHING])
"""Guests with most, and least."""


def whichever_guest(data: bytes, into: str, expected: Answers) -> bool:
    """Whether guests with more vcpus, and with other CPU policies, are answered the same."""
    if into in (RESTORE, CHECKPOINTED, LOADER):
        return True
    return into == HVM and all(
        of_verdict(load(data, Release(name), other, Machine(vendor=vendor))) == said
        for name, answers in expected.items()
        for vendor, said in answers.items()
        for other in _OTHERS
    )


def stream_answers(data: bytes, into: str, releases: Iterable[str]) -> Answers:
    """Of the toolstack's readers; the context in the stream is not loaded."""
    found: Answers = {}
    for name in releases:
        try:
            with open_image(data) as image:
                said = of_verdict(judge(image, Release(name), checkpointed=into == CHECKPOINTED))
        except HvmctxError:  # no stream at all
            said = answer(REFUSE)
        found[name] = {ANY: said}
    return found


def vmport_answers(data: bytes, into: str, releases: Iterable[str]) -> Answers:
    outcome = vmport.restore(data)
    warnings = [found.rule for found in vmport.findings_of(data) if found.severity == WARNING]
    if isinstance(outcome, vmport.Refused):
        said = answer(REFUSE, outcome.errno, outcome.rule, warnings)
    elif isinstance(outcome, vmport.Violation):
        said = answer(VIOLATION, None, outcome.rule, warnings)
    else:
        said = answer(findings=warnings)
    return {PATCH: {ANY: said}}


class File:
    """A file of the corpus, or one that may become one: `keys` are the answers that it would be
    there for. `rules` are those that it is about, each with whether it just does not break it;
    if there are none, it is about whatever it breaks."""

    def __init__(
        self, kind: Kind, data: bytes, into: str, what: str, rules: Iterable[tuple[str, bool]],
        releases: Iterable[str],
    ) -> None:  # fmt: skip
        self.kind = kind
        self.data = data
        self.into = into
        self.what = what
        self.rules = frozenset(rules)
        self.expected = kind.answers(data, into, releases)
        self.any_guest = whichever_guest(data, into, self.expected)
        self.keys = set(self._keys())
        self.name = ""
        self.shows: list[str] = []
        self.near: list[str] = []

    @property
    def size(self) -> int:
        return len(self.data)

    def _keys(self) -> Iterator[Key]:
        for release, answers in self.expected.items():
            for vendor, answer in answers.items():
                found = answer["findings"]
                for rule, near in self.rules:
                    if near and answer["verdict"] == ACCEPT and rule not in found:
                        yield rule, ACCEPT, None, release, vendor
                if self._about(answer["rule"]):
                    yield answer["rule"], answer["verdict"], answer["errno"], release, vendor
                for rule in filter(self._about, found):
                    yield rule, FOUND, None, release, vendor

    def _about(self, rule: str) -> bool:
        return bool(rule) and (not self.rules or (rule, False) in self.rules)

    def keep(self, keys: set[Key]) -> None:
        """It is there for these."""
        self.shows = sorted({key[0] for key in keys if key[1] != ACCEPT})
        self.near = sorted({key[0] for key in keys if key[1] == ACCEPT})

    def row(self) -> Row:
        """Its line of the manifest."""
        return {
            "name": self.name, "sha256": hashlib.sha256(self.data).hexdigest(),
            "size": self.size, "kind": self.kind.name, "into": self.into,
            "shows": self.shows, "near": self.near, "changed": self.what,
            "any_guest": self.any_guest, "expected": self.expected,
        }  # fmt: skip


def _alone(context: HvmContext, names: Iterable[str]) -> bytes:
    """HEADER, the records of these names, and END."""
    kept = {x86.HEADER.name, x86.END.name, *names}
    return HvmContext([e for e in context.entries if e.name in kept], context.tail).to_bytes()


_TOGETHER = {"LAPIC": ("LAPIC", "LAPIC_REGS"), "LAPIC_REGS": ("LAPIC", "LAPIC_REGS")}
"""Records of which a rule sees both."""


def _changed(release: str, record: str, change: Change) -> bytes:
    context = base(Release(release))
    change(context)
    return _alone(context, _TOGETHER.get(record, (record,)))


def _msr(index: int, value: int) -> Change:
    return body_of("CPU_MSR/0", msrs((index, 0, value)))


_CR3 = put("CPU/0.cr3", 0xFFFFFFFF)
NEAR: dict[str, Change] = {
    "cpu-cr3": _CR3, "cpu-cr3-entry": _CR3, "lapic-base": put("LAPIC/0.apic_base_msr", 0xFEE00800),
    **dict.fromkeys(
        ("cpu-msr-vcpu", "cpu-msr-cut", "cpu-msr-length", "cpu-msr-count", "cpu-msr-index",
         "cpu-msr-reserved"),
        _msr(0x140, 1),
    ),
}  # fmt: skip
"""What these guests, other than those of the suite's cases, just accept."""
_BEYOND = 0x7FFFFFF
"""A page that no guest has, at an address of 39 bits."""
_PAGED = "CPU/0.cr0", 0x80000011, "CPU/0.cr3", _BEYOND << 12
_TSC = "VIRIDIAN_DOMAIN/0.reference_tsc"
OTHER: tuple[Tried, ...] = (
    *((rule.record, into, nothing, rule.id, into == HVM, f"of a device that the guest {has}")
      for rule in RULES if rule.id.endswith("-device")
      for into, has in ((PVH, "does not have"), (HVM, "has"))),
    *((rule.record, HVM, instance(f"{rule.record}/0", 0xFFFF), rule.id, False,
       "of a vcpu that no guest has") for rule in RULES if rule.id.endswith("-vcpu")),
    ("CPU_XSAVE", NO_XSAVE, nothing, "cpu-xsave-host", False, "on a host without XSAVE"),
    ("CPU_XSAVE", HVM, nothing, "cpu-xsave-host", True, "on a host with XSAVE"),
    ("CPU_MSR", MSRS, _msr(0xC0011019, 1 << 32), "cpu-msr-mask", False,
     "the upper half of an address mask"),
    *(("CPU_MSR", MSRS, _msr(0xC0011019, 0xFFFFFFFF), rule.id, True, "all of an address mask")
      for rule in RULES if rule.record == "CPU_MSR"),
    ("CPU", SHADOW, put(*_PAGED), "cpu-cr3-page", False, "cr3 names a page that is not there"),
    ("CPU", SHADOW, put(*_PAGED, "CPU/0.cr0", 0x11), "cpu-cr3-page", True,
     "cr3 names a page that is not there, and paging is off"),
    ("VIRIDIAN_DOMAIN", HVM, put(_TSC, _BEYOND << 12 | 1), "viridian-domain-tsc-page", False,
     "the page of the reference TSC is not there"),
    ("VIRIDIAN_DOMAIN", HVM, put(_TSC, _BEYOND << 12), "viridian-domain-tsc-page", True,
     "the page of the reference TSC is not there, nor enabled"),
)  # fmt: skip
"""What it takes another guest or host to show, or what no guest takes."""


def _known() -> Iterator[Tried]:
    about = {rule.id: rule.record for rule in (*RULES, *HAZARDS)}
    pairs = [(rule, *pair) for rule, pair in context_rules.CASES.items()]
    pairs += [(case, fires, misses) for case, (_, fires, misses, _) in hazards.CASES.items()]
    for case, fires, misses in pairs:
        rule = case.partition("#")[0]
        yield about[rule], HVM, fires, rule, False, f"the known answer of {case}"
        for change in (misses, *filter(None, [NEAR.get(rule)])):
            yield about[rule], HVM, change, rule, True, f"just not {case}"


def context_cases(releases: Iterable[str]) -> Iterator[Made]:
    """The known answers, with records of each size that they have had."""
    for name in releases:
        small = _alone(base(Release(name)), ["PMTIMER"])
        for rule, damage in context_rules.WALK.items():
            yield damage(small), HVM, f"the known answer of {rule}", rule, False
            yield small, HVM, f"just not {rule}", rule, True
        for record, into, change, rule, near, words in (*_known(), *OTHER):
            if record in Release(name).sizes():
                try:
                    yield _changed(name, record, change), into, words, rule, near
                except (HvmctxError, ValueError, IndexError, StopIteration):
                    continue  # of a field that this release does not have


def _of_version_2(data: bytes) -> bytes:
    """A stream as releases before 4.14 read it; the same, if it is not of version 3."""
    static = built.record(16)
    for kind in (1, 2, 4):
        head, older = built.libxc_head(guest=kind), built.libxc_head(2, guest=kind)
        data = data.replace(head + static, older).replace(head, older)
    return data.replace(static + built.FRAMES[:4], built.FRAMES[:4])


_LESS = {"page-data-huge": built.hvm(built.page_data(built.word(4095, 0xE)))}
"""In place of an answer for which a restore takes 128 GiB of memory."""


def stream_cases(_: Iterable[str]) -> Iterator[Made]:
    """The known answers, as streams of version 3 and 2."""
    head, good = built.libxc_head(), built.hvm()
    claims = RECORD_HEADER.pack
    checkpoint = built.page_data(built.word(1)) + built.TSC + built.CONTEXT + built.record(14)
    begun = head + built.record(16) + checkpoint
    cases = [
        *((rule, fires, _LESS.get(rule, misses), RESTORE)
          for rule, (fires, misses) in stream.CASES.items()),
        ("libxc-length", head + claims(9, (128 << 20) + 1), good, RESTORE),
        ("libxc-length", head + claims(9, (8 << 20) + 1), good, RESTORE),
        ("libxc-version", good, _of_version_2(good), RESTORE),
        ("stream-v2", good, _of_version_2(good), RESTORE),
        ("checkpoint-optional", begun + built.record(0x80000055) + checkpoint, begun + checkpoint,
         CHECKPOINTED),
    ]  # fmt: skip
    for rule, fires, misses, into in cases:
        for form in (bytes, _of_version_2):
            yield form(fires), into, f"the known answer of {rule}", rule, False
            yield form(misses), into, f"just not {rule}", rule, True


def vmport_cases(_: Iterable[str]) -> Iterator[Made]:
    for rule, (fires, misses) in vmport_known.CASES.items():
        yield fires, LOADER, f"the known answer of {rule}", rule, False
        yield misses, LOADER, f"just not {rule}", rule, True


def generated(
    kind: str, bases: list[bytes], releases: tuple[str, ...], count: int
) -> Iterator[Made]:
    """What `fuzz generate` makes."""
    loads = {
        f"{name} {vendor}": (Release(name), guest(HVM, vendor), machine(HVM, vendor))
        for name in releases
        for vendor in VENDORS
    }
    bases = bases or valid_bases(random.Random(SEED), loads)
    with tempfile.TemporaryDirectory() as folder:
        place = os.path.join(folder, kind)
        generate(place, count, random.Random(SEED), bases, kind=kind, loads=loads)
        for line in Path(place, MANIFEST).read_text().splitlines():
            row = json.loads(line)
            words = f"fuzz generate: {row['changed']}"
            yield Path(place, row["name"]).read_bytes(), HVM, words, "", False


def more_contexts() -> Iterator[Made]:
    yield from generated("context", [], ("4.5", "4.12", "4.17", "newest"), 240)


def more_streams() -> Iterator[Made]:
    for version in (2, 3):
        bases = [valid_stream(random.Random(SEED), version)]
        for data, _, words, rule, near in generated("image", bases, ("4.10", "newest"), 40):
            yield data, RESTORE, words, rule, near


def more_records() -> Iterator[Made]:
    rng = random.Random(SEED)
    for _ in range(200):
        made = random_record(rng, XEN_4_5_V6)
        yield made, LOADER, "fuzz: a random record", "", False
        changed = mutate_record(made, rng, XEN_4_5_V6)
        yield changed, LOADER, "fuzz: a changed record", "", False


class Kind:
    """Context, stream or VMPORT record: where such files come from, and what answers. The
    `folder` is that of the files, and their names end in `suffix`."""

    def __init__(
        self, name: str, folder: str, suffix: str,
        answers: Callable[[bytes, str, Iterable[str]], Answers],
        cases: Callable[[Iterable[str]], Iterator[Made]], more: Callable[[], Iterator[Made]],
        simpler: Callable[[bytes], Iterator[bytes]] | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        self.folder = folder
        self.suffix = suffix
        self.answers = answers
        self.cases = cases
        self.more = more
        self.simpler = simpler


CONTEXT = Kind(
    "context", "contexts", ".bin", context_answers, context_cases, more_contexts, fewer_records
)
STREAM = Kind("stream", "streams", ".img", stream_answers, stream_cases, more_streams)
RECORD = Kind("vmport", "vmport", ".vmport", vmport_answers, vmport_cases, more_records)
KINDS = (CONTEXT, STREAM, RECORD)


def chosen(kind: Kind, releases: Sequence[str], *, fuzz: bool = True) -> list[File]:
    """Few files that have among them every answer that any file has. Known answers come before
    what a fuzzer makes."""
    kept, have = _cover(_files(kind, kind.cases(releases), releases))
    for file in _files(kind, kind.more(), releases) if fuzz else ():
        if new := file.keys - have:
            small = smaller(file, new, releases)
            have |= small.keys
            small.keep(new)
            kept.append(small)
    _name(kept)
    return sorted(kept, key=lambda file: file.name)


def _files(kind: Kind, made: Iterable[Made], releases: Sequence[str]) -> list[File]:
    """Each once, with all the rules that it is about."""
    about: dict[tuple[bytes, str], tuple[str, set[tuple[str, bool]]]] = {}
    for data, into, words, rule, near in made:
        _, rules = about.setdefault((data, into), (words, set()))
        rules.update([(rule, near)] if rule else ())
    return [
        File(kind, data, into, words, rules, releases)
        for (data, into), (words, rules) in about.items()
    ]


def _cover(files: list[File]) -> tuple[list[File], set[Key]]:
    """Of these the one with most new answers, again and again; of two with as many the one that
    is answered the same whatever the guest, or the smaller one."""
    kept: list[File] = []
    have: set[Key] = set()
    while files:
        best = max(files, key=lambda file: (len(file.keys - have), file.any_guest, -file.size))
        new = best.keys - have
        if not new:
            break
        have |= new
        best.keep(new)
        kept.append(best)
        files = [file for file in files if not file.keys <= have]
    return kept, have


def smaller(file: File, keys: set[Key], releases: Sequence[str]) -> File:
    """The same without the records that these answers do not need."""
    simpler = file.kind.simpler
    if simpler is None:
        return file

    def as_made(data: bytes) -> File:
        return File(file.kind, data, file.into, file.what, file.rules, releases)

    return as_made(by_parts(file.data, lambda data: keys <= as_made(data).keys, simpler))


def _name(files: list[File]) -> None:
    """After the rules that they are there for: `cpu-cr4`, `cpu-cr4-2`, `cpu-cr4-near`."""
    seen: Counter[str] = Counter()
    for file in files:
        stem = file.shows[0] if file.shows else f"{file.near[0]}-near"
        seen[stem] += 1
        number = f"-{seen[stem]}" if seen[stem] > 1 else ""
        file.name = f"{file.kind.folder}/{stem}{number}{file.kind.suffix}"


def parts(releases: Sequence[str] = tuple(RELEASES), *, fuzz: bool = True) -> dict[str, bytes]:
    """Name -> contents of all that is in the corpus."""
    read = [name for name in releases if Release(name).since("4.5")]
    files = [
        file
        for kind, names in ((CONTEXT, releases), (STREAM, read), (RECORD, (PATCH,)))
        for file in chosen(kind, names, fuzz=fuzz)
    ]
    rows = [file.row() for file in files]
    about = {
        "version": __version__, "releases": [*releases], "into": INTO, "without": WITHOUT,
        "files": len(files),
    }  # fmt: skip
    found = {file.name: file.data for file in files}
    for vendor in VENDORS:
        found[f"guests/{vendor}.pol"] = to_pol(*policy(HVM, vendor))
        found[f"guests/{vendor}-msrs.pol"] = to_pol(*policy(MSRS, vendor))
    found["corpus.json"] = (json.dumps(about, indent=1) + "\n").encode()
    found["manifest.jsonl"] = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
    found["expected.tsv"] = "".join(f"{line}\n" for row in rows for line in _lines(row)).encode()
    for name in ("README.md", "manifest.schema.json", "reader.c"):
        found[name] = (HERE / name).read_bytes()
    found["LICENSE"] = (ROOT / "LICENSE").read_bytes()
    return found


def _lines(row: Row) -> Iterator[str]:
    """A line for each answer: what reader.c takes."""
    for release, answers in row["expected"].items():
        for vendor, answer in answers.items():
            number = ERRNO[answer["errno"]] if answer["errno"] else 0
            rule, found = answer["rule"] or "-", ",".join(answer["findings"]) or "-"
            fields = row["name"], row["into"], release, vendor, answer["verdict"], number
            yield "\t".join(map(str, (*fields, rule, found)))


def archive(found: dict[str, bytes], moment: int) -> bytes:
    """A tar.xz, the same for the same contents and seconds since 1970."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in sorted(found.items()):
            member = tarfile.TarInfo(f"hvmctx-corpus-{__version__}/{name}")
            member.size, member.mtime, member.mode = len(data), moment, 0o644
            tar.addfile(member, io.BytesIO(data))
    return lzma.compress(output.getvalue(), preset=9)


def moment() -> int:
    """SOURCE_DATE_EPOCH, else when the commit was made, else 0."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given is None and (ROOT / ".git").exists():
        command = ["git", "-C", ROOT, "log", "-1", "--format=%ct"]
        given = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return int(given or 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = ROOT / "dist" / f"hvmctx-corpus-{__version__}.tar.xz"
    parser.add_argument("-o", dest="file", metavar="FILE", type=Path, default=default)
    parser.add_argument("--folder", metavar="DIR", type=Path, help="a folder instead")
    args = parser.parse_args()
    found = parts()
    if args.folder:
        for name, data in found.items():
            (args.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (args.folder / name).write_bytes(data)
    else:
        args.file.parent.mkdir(parents=True, exist_ok=True)
        args.file.write_bytes(archive(found, moment()))
    print(f"{args.folder or args.file}: {len(found)} files")


if __name__ == "__main__":
    main()
