"""The load of a context: against the hypervisor's own verdicts, and what holds for any."""

from __future__ import annotations

import errno
import io
import json
import struct
import tarfile
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi import x86
from hvmctx.abi.releases import RELEASES, Release
from hvmctx.abi.vmport import XEN_4_5_V6
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.context.vmport import Slots, VmportState, to_record
from hvmctx.image.image import open_image
from hvmctx.restore.context import WALK, load, rules, unfolded
from hvmctx.restore.host import PVH_DEVICES, Host
from tests.builders.contexts import length, put
from tests.builders.loads import base, full_host
from tests.builders.samples import DATA, EXAMPLE, context_bytes

POLICY = {"4.17": EXAMPLE, "4.20": DATA / "images" / "hvm2x420.save"}


def host_of(release: str, vcpus: int = 2) -> Host:
    with open_image(POLICY["4.17" if release != "4.20" else "4.20"]) as image:
        return Host.of_image(image, release, vcpus)


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
    host = host_of(release)
    assert len(GENUINE) == 300
    for name, what, context, verdicts in GENUINE:
        verdict = load(context, host)
        assert verdict.errno == verdicts[release]["errno"], (name, what, verdict)
        assert verdict.accepted == (verdicts[release]["rc"] == 0)


@given(st.binary(max_size=300), st.sampled_from(list(RELEASES)), st.booleans())
def test_any_bytes(data: bytes, release: str, framed: bool) -> None:
    if framed:
        data = context_bytes()[:32] + data
    verdict = load(data, Host(release, vmport=XEN_4_5_V6 if len(data) % 2 else None))
    assert verdict.verdict in ("accept", "refuse", "violation")
    assert verdict.errno is None or hasattr(errno, verdict.errno)
    assert 0 <= verdict.offset <= len(data)


@given(st.data())
def test_mutated_contexts(data: st.DataObject) -> None:
    context = bytearray(context_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        context[data.draw(st.integers(0, len(context) - 1))] = data.draw(st.integers(0, 255))
    known = {rule.id for rule in rules()} | set(WALK)
    for release in ("4.0", "4.5", "4.10", "4.17", "4.18", "4.19", "newest"):
        verdict = load(context, Host(release))
        assert verdict.accepted or verdict.rule in known
        assert 0 <= verdict.offset <= len(context)


def without(name: str) -> Callable[[bytes], bytes]:
    def change(context: bytes) -> bytes:
        parsed = HvmContext.from_bytes(context)
        parsed.entries = [e for e in parsed.entries if e.name != name]
        return parsed.to_bytes()

    return change


WALK_CASES: dict[str, Callable[[bytes], bytes]] = {
    "context-header": without("HEADER"),
    "context-magic": lambda context: context[:8] + b"\0" + context[9:],
    "context-version": lambda context: context[:12] + b"\2" + context[13:],
    "context-end": without("END"),
    "context-type": lambda context: context[:-8] + struct.pack("<HHI", 21, 0, 0) + context[-8:],
    "context-bounds": lambda context: context[:-8] + struct.pack("<HHI", 19, 0, 0xFFFFFFFF),
}


@pytest.mark.parametrize("case", WALK)
def test_the_walk(case: str) -> None:
    context = WALK_CASES[case](base(Release("newest")).to_bytes())
    verdict = load(context, full_host("newest"))
    assert (verdict.rule, verdict.errno) == (case, WALK[case][0])
    verdict = load(WALK_CASES[case](base(Release("4.5")).to_bytes()), full_host("4.5"))
    assert verdict.errno == "EPERM"


def test_bytes_behind_end_and_a_body_of_end_do_not_count() -> None:
    context = base(Release("newest")).to_bytes()
    assert load(context + b"more", full_host("newest")).accepted
    assert load(context[:-8] + struct.pack("<HHI", 0, 5, 999), full_host("newest")).accepted


def test_the_second_header_is_an_unknown_type() -> None:
    context = base(Release("newest")).to_bytes()
    verdict = load(context[:32] + context, full_host("newest"))
    assert (verdict.rule, verdict.offset) == ("context-type", 32)


def test_cpu_lengths() -> None:
    """Strict but for the 1016 bytes of old in 4.6, anything up to 1032 since 4.7."""
    for release, taken in (("4.6", {1016, 1024}), ("4.0.0", {1024}), ("4.7", set(range(1033)))):
        for size in range(0, 1041, 1 if release == "4.7" else 4):
            body = bytes(context_bytes()[40 : 40 + size]).ljust(size, b"\0")[:size]
            context = base(Release(release))
            context.records(x86.CPU)[0].body = body
            verdict = load(context.to_bytes(), full_host(release))
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
    verdict = load(context.to_bytes(), full_host(release))
    assert (verdict.rule != "cpu-length") == (line[4] == "0")
    if line[4] == "0":
        assert int(line[6]) == 8 + size, "the cursor goes by the descriptor"
        fields = Record(x86.CPU, 0, body).fields()
        names = {"aux": "msr_tsc_aux", "ev": "pending_event", "err": "error_code"}
        for name, value in zip(line[7::2], line[8::2]):
            assert fields[names.get(name, name)] == int(value, 16), name


def test_policy_decides() -> None:
    with open_image(EXAMPLE) as image:
        host = Host.of_image(image, "4.17")
    assert host.vendor == "amd" and host.vcpus == 1 and host.maxphysaddr == 40
    assert not host.has("VMX") and host.has("SMEP") and host.xcr0_max == 0x207
    assert host.xsave_size(7) == 832 and host.xsave_size(3) == 576 and host.xsave_size(0) == 0
    context = base(Release("4.17"))
    put("CPU/0.cr4", 1 << 17)(context)  # PCID, which that CPU has not
    assert load(context.to_bytes(), host).rule == "cpu-cr4"
    assert load(context.to_bytes(), full_host("4.17")).accepted
    with open_image(DATA / "images" / "pvhx.save") as image:
        assert Host.of_image(image, "4.17").devices == PVH_DEVICES


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
    verdict = load(context.to_bytes(), full_host("newest"))
    assert verdict.applied == [
        "PIC/0: elcr gets the cascade's bit 2",
        "PIT/0: channels[1].mode 0xff -> 3",
        "PIT/0: channels[2].mode 0xff -> 3",
        "CPU/0: cs_arbytes 0xa09b -> 0xa9b",
        "CPU/0: rflags gets bit 1",
    ]
    length("CPU/0", -8)(context)
    length("LAPIC/0", -8)(context)
    applied = load(context.to_bytes(), full_host("newest")).applied
    assert "CPU/0: read from 1024 bytes, flags forced to 1" in applied
    assert "LAPIC/0: 24 bytes, the rest zero" in applied
    assert unfolded(0xA9B) == 0xA9B


def test_vmport_in_a_patched_xen() -> None:
    state = VmportState.empty()
    context = base(Release("4.5"))
    context.entries.insert(-1, to_record(state))
    assert load(context.to_bytes(), full_host("4.5")).rule == "context-type"
    patched = full_host("4.5", vmport=XEN_4_5_V6)
    assert load(context.to_bytes(), patched).accepted
    state.guestinfo = Slots({b"%d" % n: b"" for n in range(60)})
    context.entries[-2] = to_record(state)
    verdict = load(context.to_bytes(), patched)
    assert (verdict.verdict, verdict.rule, verdict.errno) == (
        "violation",
        "vmport-guestinfo-slot",
        None,
    )
    body = bytearray(to_record(state).body)
    body[0] ^= 1
    context.entries[-2] = Record(21, 0, bytes(body))
    assert load(context.to_bytes(), patched).rule == "vmport-save-version"
