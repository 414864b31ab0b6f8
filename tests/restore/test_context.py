"""The load of a context: against the hypervisor's own verdicts, and what holds for any."""

from __future__ import annotations

import errno
import io
import json
import struct
import tarfile
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi import x86
from hvmctx.abi.releases import RELEASES, Release
from hvmctx.abi.vmport import XEN_4_5_V6
from hvmctx.context.record import Record
from hvmctx.context.vmport import Slots, VmportState, to_record
from hvmctx.image.image import open_image
from hvmctx.restore.context import LoadedRecord, load
from hvmctx.restore.context_rules import RULES, WALK
from hvmctx.restore.guest import PVH_DEVICES, Guest
from hvmctx.restore.machine import Machine
from hvmctx.restore.rules import Loaded, Rule
from tests.builders.cases import context_rules as cases
from tests.builders.contexts import put
from tests.builders.loads import base, loaded
from tests.builders.samples import DATA, EXAMPLE, context_bytes

POLICY = {"4.17": EXAMPLE, "4.20": DATA / "images" / "hvm2x420.save"}


def guest_of(release: str, vcpus: int = 2) -> Guest:
    with open_image(POLICY["4.17" if release != "4.20" else "4.20"]) as image:
        return Guest.of_image(image, vcpus)


def genuine() -> list[tuple[str, str, bytes, dict[str, Any]]]:
    """(name, what was changed, context, verdicts) of the 300 that Xen itself has judged."""
    with tarfile.open(DATA / "real-contexts.tar.xz") as archive:
        files = {
            member.name.rpartition("/")[2]: file.read()
            for member in archive.getmembers()
            if (file := archive.extractfile(member)) is not None
        }
    lines = io.StringIO(files["verdicts.jsonl"].decode())
    verdicts = [json.loads(line) for line in lines]
    return [(v["name"], v["what"], files[v["name"]], v) for v in verdicts]


GENUINE = genuine()


@pytest.mark.parametrize("release", ["4.17", "4.20"])
def test_the_hypervisors_own_word(release: str) -> None:
    guest = guest_of(release)
    assert len(GENUINE) == 300
    for name, what, context, verdicts in GENUINE:
        verdict = load(context, Release(release), guest)
        assert verdict.errno == verdicts[release]["errno"], (name, what, verdict)
        assert verdict.accepted == (verdicts[release]["rc"] == 0)


@given(st.binary(max_size=300), st.sampled_from(list(RELEASES)), st.booleans())
def test_any_bytes(data: bytes, release: str, framed: bool) -> None:
    if framed:
        data = context_bytes()[:32] + data
    verdict = load(
        data, Release(release), machine=Machine(vmport=XEN_4_5_V6 if len(data) % 2 else None)
    )
    assert verdict.verdict in ("accept", "refuse", "violation")
    assert verdict.errno is None or hasattr(errno, verdict.errno)
    assert 0 <= verdict.offset <= len(data)


@given(st.data())
def test_mutated_contexts(data: st.DataObject) -> None:
    context = bytearray(context_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        context[data.draw(st.integers(0, len(context) - 1))] = data.draw(st.integers(0, 255))
    known = {rule.id for rule in (*WALK, *RULES)}
    for release in ("4.0", "4.5", "4.10", "4.17", "4.18", "4.19", "newest"):
        verdict = load(context, Release(release))
        assert verdict.accepted or verdict.rule in known
        assert 0 <= verdict.offset <= len(context)


@pytest.mark.parametrize("rule", WALK, ids=lambda rule: rule.id)
def test_the_walk(rule: Rule) -> None:
    change = cases.WALK[rule.id]
    verdict = loaded(change(base(Release("newest")).to_bytes()), "newest")
    assert (verdict.rule, verdict.errno) == (rule.id, rule.errno)
    verdict = loaded(change(base(Release("4.5")).to_bytes()), "4.5")
    assert verdict.errno == "EPERM"


def test_bytes_behind_end_and_a_body_of_end_do_not_count() -> None:
    context = base(Release("newest")).to_bytes()
    assert loaded(context + b"more", "newest").accepted
    assert loaded(context[:-8] + struct.pack("<HHI", 0, 5, 999), "newest").accepted


def test_the_second_header_is_an_unknown_type() -> None:
    context = base(Release("newest")).to_bytes()
    verdict = loaded(context[:32] + context, "newest")
    assert (verdict.rule, verdict.offset) == ("context-type", 32)


def test_cpu_lengths() -> None:
    """Strict but for the 1016 bytes of old in 4.6, anything up to 1032 since 4.7."""
    for release, taken in (("4.6", {1016, 1024}), ("4.0.0", {1024}), ("4.7", set(range(1033)))):
        for size in range(0, 1041, 1 if release == "4.7" else 4):
            body = bytes(context_bytes()[40 : 40 + size]).ljust(size, b"\0")[:size]
            context = base(Release(release))
            context.records(x86.CPU)[0].body = body
            verdict = loaded(context, release)
            assert (verdict.rule != "cpu-length") == (size in taken), (release, size)


CPU_LENGTHS = [
    (release, line.split())
    for release, mode, name in (("4.6", "strict", "4.5"), ("newest", "zeroext", "HEAD"))
    for line in (
        DATA / "cpu_lengths" / f"cpu_record_length_behaviour_{name}.txt"
    ).read_text().splitlines()
    if line.startswith(mode)
]  # fmt: skip


@pytest.mark.parametrize(("release", "line"), CPU_LENGTHS, ids=lambda value: " ".join(value[:3]))
def test_cpu_lengths_as_xens_own_code_takes_them(release: str, line: list[str]) -> None:
    """Transcripts of the routines of 4.5 and HEAD, compiled: result, cursor, fields. The
    strict mode is that of releases up to 4.6, the other that of 4.7 and later."""
    size = int(line[2])
    body = bytes((3 * at + 1) & 0xFF for at in range(size))
    context = base(Release(release))
    context.records(x86.CPU)[0].body = body
    verdict = loaded(context, release)
    assert (verdict.rule != "cpu-length") == (line[4] == "0")
    if line[4] == "0":
        assert int(line[6]) == 8 + size, "the cursor goes by the descriptor"
        fields = Record(x86.CPU, 0, body).fields()
        names = {"aux": "msr_tsc_aux", "ev": "pending_event", "err": "error_code"}
        for name, value in zip(line[7::2], line[8::2]):
            assert fields[names.get(name, name)] == int(value, 16), name


def test_policy_decides() -> None:
    with open_image(EXAMPLE) as image:
        guest = Guest.of_image(image)
    assert guest.vendor == "amd" and guest.vcpus == 1 and guest.maxphysaddr == 40
    assert not guest.has("VMX") and guest.has("SMEP") and guest.xcr0_max == 0x207
    assert guest.xsave_size(7) == 832 and guest.xsave_size(3) == 576 and guest.xsave_size(0) == 0
    context = base(Release("4.17"))
    put("CPU/0.cr4", 1 << 17)(context)  # PCID, which that CPU has not
    assert load(context.to_bytes(), Release("4.17"), guest).rule == "cpu-cr4"
    assert loaded(context, "4.17").accepted
    with open_image(DATA / "images" / "pvhx.save") as image:
        assert Guest.of_image(image).devices == PVH_DEVICES


def test_changes_of_an_accepted_load() -> None:
    context = base(Release("newest"))
    put(
        "CPU/0.cs_arbytes",
        0xA09B,
        "CPU/0.rflags",
        0,
        "PIT/0.channels[1].mode",
        0xFF,
        "PIC/0.elcr",
        0,
    )(context)
    verdict = loaded(context, "newest")
    assert verdict.applied == [
        "PIC/0: elcr gets bit 2, the cascade",
        "PIT/0: channels[1].mode 0xff -> 3",
        "PIT/0: channels[2].mode 0xff -> 3",
        "CPU/0: cs_arbytes 0xa09b -> 0xa9b",
        "CPU/0: rflags gets bit 1",
        "CPU/0: the guest's TSC goes on from 0xfc4a422e3: the time since the save is not in it",
    ]


def test_vmport_in_a_patched_xen() -> None:
    state = VmportState.empty()
    context = base(Release("4.5"))
    context.entries.insert(-1, to_record(state))
    assert loaded(context, "4.5").rule == "context-type"
    assert loaded(context, "4.5", vmport=XEN_4_5_V6).accepted
    state.guestinfo = Slots({b"%d" % n: b"" for n in range(60)})
    context.entries[-2] = to_record(state)
    verdict = loaded(context, "4.5", vmport=XEN_4_5_V6)
    assert (verdict.verdict, verdict.rule, verdict.errno) == (
        "violation",
        "vmport-guestinfo-slot",
        None,
    )
    body = bytearray(to_record(state).body)
    body[0] ^= 1
    context.entries[-2] = Record(21, 0, bytes(body))
    assert loaded(context, "4.5", vmport=XEN_4_5_V6).rule == "vmport-save-version"


def test_a_record_with_another_body() -> None:
    """What a remedy asks: would the rule still apply? Nothing else of the record changes."""
    seen = LoadedRecord(
        x86.PMTIMER, 8, 0, 8, memoryview(bytes(8) + b"next"), Release("4.17"), Guest(), Machine(),
        Loaded(),
    )  # fmt: skip
    other = seen.altered(b"\1" * 9)
    assert (other.length, other.body(), other.space) == (9, b"\1" * 9, 13)
    assert other.fields["tmr_val"] == 0x01010101 and seen.fields["tmr_val"] == 0
