"""A hypervisor developer changes what Xen saves, or how it loads it.

Did the saved state change between two hosts? What will the next release say of it? And a new
record: is it read, shown, and written back before there is a Xen that writes it?
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from ctypes import c_uint32, c_uint64
from pathlib import Path

import pytest

from hvmctx.abi.declare import VCPU, RecordType, SaveStructure, declare, declared
from tests.builders.samples import DATA
from tests.stories.conftest import Shell


@pytest.fixture
def contexts(folder: Path) -> None:
    """What xen-hvmctx writes of two guests: one of Xen 4.17, one of Xen 4.20."""
    for new, old in (("old.hvm", "hvm1.hvmctx.bin"), ("new.hvm", "hvm2x420.hvmctx.bin")):
        (folder / new).write_bytes((DATA / "images" / old).read_bytes())


def test_what_two_hosts_save(contexts: None, hvmctx: Shell) -> None:
    # As that release's own xen-hvmctx prints it.
    seen = hvmctx("dump old.hvm --release 4.17 --record CPU/0")
    assert seen.out.startswith("HVM save record for domain 0\nEntry 1: type 2 instance 0, length")

    # Field by field: the LAPIC record has grown, and the second guest has one more vcpu.
    seen = hvmctx("diff old.hvm new.hvm")
    assert seen.status == 1
    lines = seen.out.splitlines()
    assert "CPU/0.rip: 0xb7b9 -> 0xb7c2" in lines
    assert "LAPIC/0: 24 bytes -> 32 bytes" in lines
    assert "LAPIC/1: only in the second: 32 bytes" in lines

    # How much that is by record, and without what differs of any two guests.
    seen = hvmctx("diff old.hvm new.hvm --stat --ignore tsc,tmr_val,CPU.r*")
    assert seen.out.startswith("HEADER/0: 1 differs\nCPU/0: 3 differ\nLAPIC/0: 1 differs\n")
    assert "PMTIMER" not in seen.out

    # The context of the new host, on the old one: what a migration back would meet.
    assert hvmctx("restore new.hvm --release 4.20").status == 0
    seen = hvmctx("restore new.hvm --release 4.5")
    assert seen.status == 1 and "[cpu-length]" in seen.out


def test_a_corpus_on_two_releases(hvmctx: Shell, folder: Path) -> None:
    # Contexts around the guest's own, each with what two releases make of it.
    made = hvmctx(
        "fuzz generate --base guest.save --policy guest.save --count 40 --seed 4 "
        "--release 4.17 --release 4.20 -o corpus"
    )
    assert made.status == 0
    rows = [json.loads(row) for row in (folder / "corpus/manifest.jsonl").read_text().splitlines()]
    assert len(rows) == 40

    # Which of them the two releases treat differently, and by which rule.
    differ = [row for row in rows if row["expected"]["4.17"] != row["expected"]["4.20"]]
    assert differ
    for row in differ[:3]:
        for release in ("4.17", "4.20"):
            asked = f"restore corpus/{row['name']} --policy guest.save --release {release}"
            seen = hvmctx(f"{asked} --format json")
            verdict = json.loads(seen.out)
            assert verdict["verdict"] == row["expected"][release]["verdict"]
            assert verdict.get("rule") == row["expected"][release].get("rule")

    # What a rule is about, and since when.
    assert "CPU policy" in hvmctx("restore --explain cpu-cr4").out


class hvm_hw_ticks(SaveStructure):
    """The record that the next series adds."""

    _fields_ = [("ticks", c_uint64), ("rate", c_uint32), ("_pad0", c_uint32)]  # noqa: RUF012 - as ctypes wants it


@pytest.fixture
def ticks() -> Iterator[RecordType]:
    yield declare("TICKS", 22, hvm_hw_ticks, VCPU)
    del declared[22]


def test_a_record_that_no_xen_writes_yet(
    ticks: RecordType, contexts: None, hvmctx: Shell, folder: Path
) -> None:
    from hvmctx import HvmContext, Record

    context = HvmContext.from_bytes((folder / "old.hvm").read_bytes())
    context.add(Record(ticks, 0, bytes(hvm_hw_ticks(ticks=1000, rate=50))))
    (folder / "next.hvm").write_bytes(context.to_bytes())

    # One declaration, and every command knows it.
    assert hvmctx("get next.hvm TICKS/0.rate").out == "0x32\n"
    assert hvmctx("set next.hvm TICKS/0.rate=60 -o later.hvm").status == 0
    assert hvmctx("diff next.hvm later.hvm").out == "TICKS/0.rate: 0x32 -> 0x3c\n"
    assert '"ticks": 1000' in hvmctx("dump next.hvm --format ndjson --record TICKS").out

    # No release of today loads it.
    seen = hvmctx("restore next.hvm --release 4.20")
    assert seen.status == 1 and "[context-type]" in seen.out
