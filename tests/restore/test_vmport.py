"""The loader's model: against the patch's own vectors, against a C reference under
AddressSanitizer, and rule by rule."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi.vmport import XEN_4_5_V6, VmportProfile
from hvmctx.context.vmport import Buffer, VmportState, descriptor, save
from hvmctx.context.vmport_slots import Slots
from hvmctx.findings import ERROR
from hvmctx.fuzz.differential import random_case, vmport_verdict
from hvmctx.fuzz.reference import Case, Reference
from hvmctx.fuzz.vmport import random_record
from hvmctx.restore.vmport import (
    FIXES,
    RULES,
    SITES,
    Refused,
    Restored,
    Violation,
    findings_of,
    restore,
    restore_fixed,
)
from tests.builders.cases.vmport import CASES
from tests.builders.vmport import PROFILES, keys, record_of, sent, vectors

VECTORS = vectors()
ERRNO = {3: "ESRCH", 7: "E2BIG", 22: "EINVAL", 27: "EFBIG"}
SITE_OF = {
    "version": "version",
    "fixed header": "fixed part",
    "vs->chans[i].send_buf": "send_buf",
    "vs->chans[i].send_buf source": "send_buf source",
    "vs->chans[i].recv_bkt[j].recv_buf": "recv_buf",
    "vs->chans[i].recv_bkt[j].recv_buf source": "recv_buf source",
    "vs->chans[i].jumbo_recv_bkt.recv_buf": "jumbo recv_buf",
    "vs->chans[i].jumbo_recv_bkt.recv_buf source": "jumbo recv_buf source",
    "guestinfo slot index": "guestinfo slot",
    "guestinfo header read": "guestinfo head",
    "vg->key_data": "guestinfo key_data",
    "vg->key_data source": "guestinfo key_data source",
    "vg->val_data": "guestinfo val_data",
    "vg->val_data source": "guestinfo val_data source",
    "guestinfo_jumbo slot index": "guestinfo_jumbo slot",
    "vgj->val_data": "guestinfo_jumbo val_data",
    "vgj->val_data source": "guestinfo_jumbo val_data source",
}
"""The vectors' names of sites (C expressions) -> ours."""


SOONER = {32: 57, 57: 57}
"""Vectors of cut bodies, and the send_len of their first channel. They say that the fixed part is
read beyond the body, as their instrument asks for all of it at once. The loader reads it channel
by channel, and before the next one comes to the bytes that were sent, which are not there."""


@pytest.mark.parametrize("number", range(len(VECTORS)))
def test_vectors(number: int) -> None:
    vector = VECTORS[number]
    outcome = restore(bytes.fromhex(vector["blob"]))
    if vector["outcome"] == "errno":
        assert isinstance(outcome, Refused)
        assert (outcome.errno, outcome.cursor) == (ERRNO[vector["errno"]], vector["cur"])
    elif vector["outcome"] == "violation":
        expected = vector["violation"]
        assert isinstance(outcome, Violation)
        if number in SOONER:
            assert (outcome.site, outcome.asked) == ("send_buf source", 464 + SOONER[number])
            assert expected["site"] == "fixed header" and outcome.limit == expected["limit"] < 464
            return
        assert outcome.site == SITE_OF[expected["site"]]
        assert (outcome.kind, outcome.asked, outcome.limit) == (
            expected["kind"], expected["asked"], expected["limit"],
        )  # fmt: skip
    else:
        assert isinstance(outcome, Restored)
        assert_restored(outcome, vector)


def assert_restored(outcome: Restored, vector: dict[str, Any]) -> None:
    assert outcome.cursor == vector["cur"]
    assert (outcome.slots, outcome.jumbo_slots) == (vector["slots"], vector["slots_jumbo"])
    state = outcome.state
    assert (state.ping_time, state.open_cookie) == (vector["ping_time"], vector["open_cookie"])
    for entries, name in (
        (outcome.guestinfo, "guestinfo"),
        (outcome.guestinfo_jumbo, "guestinfo_jumbo"),
    ):
        assert [[key.hex(), value.hex()] for _, key, value in entries] == vector[name]
    for channel, expected in zip(state.channels, vector["chans"]):
        control = [
            channel.active_time, channel.chan_id, channel.cookie, channel.proto_num,
            channel.send.claimed(), channel.send.index, channel.jumbo, channel.recv_read,
            channel.recv_write,
        ]  # fmt: skip
        assert control == expected["ctl"]
        assert channel.send.data.hex() == expected["send"]
        assert [[b.index, b.data.hex()] for b in channel.recv] == expected["recv"]
        assert [channel.jumbo_recv.index, channel.jumbo_recv.data.hex()] == expected["jumbo"]
    body = state.to_bytes()
    assert (descriptor(body) + body).hex() == vector["resave"]


@given(st.binary(max_size=80), st.booleans(), st.sampled_from(PROFILES))
def test_any_bytes(data: bytes, framed: bool, profile: VmportProfile) -> None:
    if framed:
        data = struct.pack("<HHII", 21, 0, len(data) + 4, profile.SAVE_VERSION) + data
    assert_consistent(data, profile)


def assert_consistent(record: bytes, profile: VmportProfile) -> None:
    """What must hold between the three views of a record."""
    outcome, fixed = restore(record, profile), restore_fixed(record, profile)
    findings = findings_of(record, profile, 1000)
    errors = [finding for finding in findings if finding.severity == ERROR]
    for finding in findings:
        assert finding.rule in RULES and finding.offset >= 1000
    assert isinstance(fixed, (Refused, Restored))
    if isinstance(outcome, Restored):
        assert not errors
        assert isinstance(fixed, Restored)
        assert (fixed.guestinfo, fixed.slots) == (outcome.guestinfo, outcome.slots)
    elif isinstance(outcome, Refused):
        assert [finding.rule for finding in errors] == [outcome.rule]
        assert isinstance(fixed, Refused) and fixed.errno == outcome.errno
    else:
        assert errors[0].rule == outcome.rule and errors[0].text == outcome.text
        if isinstance(fixed, Refused):
            assert fixed.rule in FIXES
        else:
            assert outcome.kind == "index"


@given(st.integers(0, 1 << 32), st.sampled_from(PROFILES))
def test_views_agree(seed: int, profile: VmportProfile) -> None:
    assert_consistent(random_record(random.Random(seed), profile), profile)


@pytest.mark.parametrize("case", CASES)
def test_every_rule(case: str) -> None:
    rule = case.partition("#")[0]
    fires, misses = CASES[case]
    assert rule in [finding.rule for finding in findings_of(fires)]
    assert rule not in [finding.rule for finding in findings_of(misses)]
    assert_consistent(fires, XEN_4_5_V6)
    assert_consistent(misses, XEN_4_5_V6)


SAID = {
    "vmport-descriptor": "0x3e8: fewer than 8 bytes are left for the descriptor (E2BIG)",
    "vmport-body": "0x3e8: the body is longer than what is left (EFBIG)",
    "vmport-type": "0x3e8: the typecode is not 21, or the body longer than the largest (ESRCH)",
    "vmport-save-version": "0x3f0: version 0xabcd0002, expected 0xabcd0001",
    "vmport-version": "0x3f0: the loader reads the body up to 4, which ends at 3",
    "vmport-fixed-part": "0x5b8: the loader reads the body up to 464, which ends at 459",
    "vmport-send_buf": "0x5c0: the loader writes 185 bytes to the 184 of send_buf",
    "vmport-send_buf-source": "0x5c0: the loader reads the body up to 473, which ends at 472",
    "vmport-recv_buf": "0x5c0: the loader writes 137 bytes to the 136 of recv_buf",
    "vmport-recv_buf-source": "0x5c0: the loader reads the body up to 466, which ends at 465",
    "vmport-jumbo-recv_buf": "0x5c0: the loader writes 4105 bytes to the 4104 of jumbo recv_buf",
    "vmport-jumbo-recv_buf-source": "0x5c0: the loader reads the body up to 465, which ends at 464",
    "vmport-guestinfo-slot": "0x6e2: the loader takes slot 64 of 64",
    "vmport-guestinfo-head": "0x5c0: the loader reads the body up to 466, which ends at 465",
    "vmport-guestinfo-key_data": "0x5c2: the loader writes 31 bytes to the 30 of guestinfo key_data",
    "vmport-guestinfo-key_data-source": "0x5c2: the loader reads the body up to 468, which ends at 467",
    "vmport-guestinfo-val_data": "0x5c3: the loader writes 129 bytes to the 128 of guestinfo val_data",
    "vmport-guestinfo-val_data-source": "0x5c3: the loader reads the body up to 469, which ends at 468",
    "vmport-guestinfo_jumbo-slot": "0x5c8: the loader takes slot 2 of 2",
    "vmport-guestinfo_jumbo-head": "0x5c0: the loader reads the body up to 467, which ends at 466",
    "vmport-guestinfo_jumbo-key_data": "0x5c3: the loader writes 31 bytes to the 30 of guestinfo_jumbo key_data",
    "vmport-guestinfo_jumbo-key_data-source": "0x5c3: the loader reads the body up to 469, which ends at 468",
    "vmport-guestinfo_jumbo-val_data": "0x5c4: the loader writes 4097 bytes to the 4096 of guestinfo_jumbo val_data",
    "vmport-guestinfo_jumbo-val_data-source": "0x5c4: the loader reads the body up to 470, which ends at 469",
    "vmport-capped": "0x424: chans[0].send has 181 bytes, the writer keeps 180",
    "vmport-size": "0x3f4: used_guestsize is 5, the entries have 4 bytes",
    "vmport-count": "0x408: used_guestinfo_jumbo is 1, there are 0 entries",
    "vmport-empty-key": "0x5c0: an entry with an empty key",
    "vmport-duplicate": '0x5c3: guestinfo["k"] occurs twice',
    "vmport-padding": "0x40c: padding of the head is 01000000",
    "vmport-behind": "0x5c0: 1 bytes after the last entry",
    "vmport-index": "0x4b4: chans[2].send: index 4 of 3 bytes",
    "vmport-protocol": "0x4b0: chans[2].proto_num is 0x5",
}
"""Where the first byte of the record is at 1000: where a finding is, and its words."""


@pytest.mark.parametrize("case", CASES)
def test_what_a_finding_says(case: str) -> None:
    rule = case.partition("#")[0]
    found = next(f for f in findings_of(CASES[case][0], None, 1000) if f.rule == rule)
    warning = list(RULES).index(rule) > list(RULES).index("vmport-guestinfo_jumbo-val_data-source")
    where, _, words = SAID[case].partition(": ")
    severity = "warning" if warning else "error"
    assert str(found) == f"{severity}: context: offset {where}: VMPORT/0: {words} [{rule}]"
    assert (RULES[rule].severity, RULES[rule].layer) == (severity, "context")
    assert RULES[rule].record == "VMPORT"


def test_refusals_have_an_errno() -> None:
    assert {rule.id: rule.errno for rule in RULES.values() if rule.errno} == {
        "vmport-allocated": "ENOMEM", "vmport-descriptor": "E2BIG", "vmport-body": "EFBIG",
        "vmport-type": "ESRCH", "vmport-slot-allocated": "ENOMEM", "vmport-save-version": "EINVAL",
    }  # fmt: skip
    for case, errno in (("descriptor", "E2BIG"), ("body", "EFBIG"), ("type", "ESRCH")):
        refused = restore(CASES[f"vmport-{case}"][0])
        assert isinstance(refused, Refused)
        assert (refused.errno, refused.cursor, refused.rule) == (errno, 0, f"vmport-{case}")
    assert repr(refused) == "<refused, ESRCH [vmport-type]>"


@pytest.mark.parametrize(
    ("case", "fix"),
    [("version", "fixed-part"), ("fixed-part", "fixed-part"), ("send_buf", "buffer"),
     ("jumbo-recv_buf-source", "buffer"), ("guestinfo-head", "entry"),
     ("guestinfo_jumbo-val_data", "entry"), ("guestinfo-slot", ""), ("guestinfo_jumbo-slot", "")],
)  # fmt: skip
def test_which_check_would_have_sufficed(case: str, fix: str) -> None:
    """Of spare slots none: they are capped."""
    record = CASES[f"vmport-{case}"][0]
    fixed = restore_fixed(record)
    if fix:
        assert isinstance(fixed, Refused) and (fixed.errno, fixed.rule) == (
            "EINVAL",
            f"vmport-{fix}",
        )
        assert fixed.cursor == len(record)
    else:
        assert isinstance(fixed, Restored)
        assert (fixed.slots, fixed.jumbo_slots) == (
            (64, 2) if case == "guestinfo-slot" else (10, 2)
        )


def test_counts_beyond_the_slots_are_refused_when_mended() -> None:
    for record in (record_of(used_guestinfo=65), record_of(used_guestinfo_jumbo=3)):
        fixed = restore_fixed(record)
        assert isinstance(fixed, Refused) and fixed.rule == "vmport-slots"
    assert isinstance(restore_fixed(record_of(used_guestinfo=64, used_guestinfo_jumbo=2)), Restored)


def test_every_rule_has_a_text_of_its_own() -> None:
    assert "EINVAL" in RULES["vmport-save-version"].words
    assert RULES["vmport-version"].words == "overread at version"


def test_every_outcome_and_site_has_a_case() -> None:
    fired = {restore(fires).__class__ for fires, _ in CASES.values()}
    assert fired == {Refused, Restored, Violation}
    sites = {o.site for fires, _ in CASES.values() if isinstance(o := restore(fires), Violation)}
    assert sites == set(SITES)


def test_state_that_is_not_allocated() -> None:
    outcome = restore(record_of(), allocated=False)
    assert isinstance(outcome, Refused) and (outcome.errno, outcome.cursor) == ("ENOMEM", 0)


def test_body_bounds_are_the_descriptors() -> None:
    """Bytes that follow in the context do not make an overread safe."""
    record = sent("send", 9, 8)
    outcome = restore(record, following=bytes(100))
    assert isinstance(outcome, Violation) and outcome.site == "send_buf source"
    assert (outcome.asked, outcome.limit, outcome.offset) == (473, 472, 464)
    short = restore(record_of()[:-1], following=b"\0")
    assert isinstance(short, Restored)


@given(st.integers(0, 1 << 32), st.sampled_from(PROFILES))
def test_unpack_finds_what_the_loader_restores(seed: int, profile: VmportProfile) -> None:
    record = random_record(random.Random(seed), profile)
    outcome = restore(record, profile)
    if isinstance(outcome, Restored):
        state = VmportState.from_bytes(record[8 : outcome.cursor], profile)
        assert state.guestinfo.pairs == [(key, value) for _, key, value in outcome.guestinfo]
        assert state.guestinfo_jumbo.pairs == [
            (key, value) for _, key, value in outcome.guestinfo_jumbo
        ]


@pytest.mark.parametrize("size", [6, 1], ids=["empty key first", "size wraps"])
def test_unpack_goes_on_where_the_loader_does(size: int) -> None:
    data = b"\0\0\1\1kv" if size == 6 else b"\1\1kv"
    record = keys(data, 2 if size == 6 else 1, size)
    outcome = restore(record)
    assert isinstance(outcome, Restored)
    assert [(key, value) for _, key, value in outcome.guestinfo] == [(b"k", b"v")]
    assert VmportState.from_bytes(record[8:]).guestinfo == Slots({b"k": b"v"})


def test_a_restored_state_is_its_own() -> None:
    record = bytearray(sent("send", 3, 3))
    outcome = restore(memoryview(record))
    assert isinstance(outcome, Restored)
    record[8 + 464] = 0xFF
    assert outcome.state.channels[0].send.data == bytes(3)


@pytest.mark.parametrize("used", [0xFFFFFFFB, 0xFFFFFFFF])
def test_counts_wrap_in_32_bits(used: int) -> None:
    outcome = restore(record_of(used_guestinfo=used))
    assert isinstance(outcome, Restored)
    assert outcome.slots == max((used + 5) & 0xFFFFFFFF, 10)
    outcome = restore(record_of(used_guestinfo=0xFFFFFFFA))
    assert isinstance(outcome, Violation) and (outcome.asked, outcome.limit) == (64, 64)


def test_guestsize_wraps_in_32_bits() -> None:
    """One byte left: the head is read all the same, and then four billion are left."""
    record = keys(b"\1\0k", 1, 1)
    outcome = restore(record)
    assert isinstance(outcome, Restored) and outcome.guestinfo == [(0, b"k", b"")]


def test_repr() -> None:
    assert "ESRCH" in repr(restore(b"\0" * 8))
    assert "slots" in repr(restore(record_of()))
    assert "overread" in repr(restore(record_of(cut=100)))


def test_a_key_that_is_there_twice_is_saved_twice() -> None:
    record = keys(b"\1\1kv\0\0\1\1kw", 3, 10)
    outcome = restore(record)
    assert isinstance(outcome, Restored)
    assert outcome.guestinfo == [(0, b"k", b"v"), (2, b"k", b"w")]
    assert outcome.state.guestinfo.pairs == [(b"k", b"v"), (b"", b""), (b"k", b"w")]
    assert save(outcome.state) == keys(b"\1\1kv\1\1kw", 2, 8)


@pytest.mark.parametrize("profile", PROFILES, ids=str)
def test_a_body_without_its_last_padding(profile: VmportProfile) -> None:
    """The loader reads none of it; a byte less, and it reads beyond the body."""
    whole = VmportState.empty(profile).to_bytes(profile)
    for size in range(profile.read_size, profile.fixed_size + 1):
        body = whole[:size]
        outcome = restore(descriptor(body) + body, profile)
        assert isinstance(outcome, Restored)
        assert outcome.state == VmportState.from_bytes(whole, profile)
        assert save(outcome.state, profile=profile) == descriptor(whole) + whole
        assert not findings_of(descriptor(body) + body, profile)
    body = whole[: profile.read_size - 1]
    outcome = restore(descriptor(body) + body, profile)
    assert isinstance(outcome, Violation) and outcome.site == "fixed part"


def test_the_first_violation_is_the_first_that_the_loader_comes_to() -> None:
    """It copies a channel's control and its data before it reads the next control."""
    whole = sent("send", 185, 185)
    for size, site in ((63, "fixed part"), (64, "send_buf"), (200, "send_buf")):
        body = whole[8 : 8 + size]
        outcome = restore(descriptor(body) + body)
        assert isinstance(outcome, Violation) and outcome.site == site
        found = [finding.rule for finding in findings_of(descriptor(body) + body)]
        assert found[0] == outcome.rule and found[-1] == "vmport-fixed-part"
    body = sent("recv", 2, 2)[8 : 8 + 100]
    outcome = restore(descriptor(body) + body)
    assert isinstance(outcome, Violation)
    assert (outcome.site, outcome.asked, outcome.limit) == ("recv_buf source", 466, 100)


def test_loading_over_a_state() -> None:
    """Channels are replaced; a slot that gets nothing keeps what it has, as far as they are
    counted."""
    over = VmportState.empty()
    over.guestinfo = Slots((b"k%d" % number, b"old") for number in range(12))
    over.guestinfo_jumbo = Slots({b"j": b"old"})
    over.channels[0].send = Buffer(b"old")
    outcome = restore(keys(b"\1\3anew\0\0\1\3cnew", 3, 14), over=over)
    assert isinstance(outcome, Restored) and outcome.slots == 10
    state = outcome.state
    assert state.channels[0].send == Buffer()
    new = [(b"a", b"new"), (b"k1", b"old"), (b"c", b"new")]
    assert state.guestinfo.pairs == [*new, *over.guestinfo.pairs[3:10]]
    assert state.guestinfo_jumbo == over.guestinfo_jumbo
    assert len(over.guestinfo) == 12, "what was there before is not touched"


@pytest.mark.parametrize(
    ("memory", "rule"), [(0, "ENOMEM"), (11, "ENOMEM"), (12, ""), (13, ""), (None, "")]
)
def test_memory_for_slots(memory: int | None, rule: str) -> None:
    """Ten slots and two jumbo ones are made of an empty record."""
    outcome = restore(record_of(), memory=memory)
    assert isinstance(outcome, Refused if rule else Restored)
    if isinstance(outcome, Refused):
        assert (outcome.errno, outcome.cursor) == (rule, 472)
        assert outcome.rule == "vmport-slot-allocated"
    has = VmportState(guestinfo=Slots([(b"", b"")] * 10), guestinfo_jumbo=Slots([(b"", b"")] * 2))
    assert isinstance(restore(record_of(), memory=memory, over=has), Restored)


def test_a_violation_before_memory_ends() -> None:
    outcome = restore(keys(b"\1\0", 1, 3), memory=1)
    assert isinstance(outcome, Violation) and outcome.site == "guestinfo key_data source"
    outcome = restore(record_of(used_guestinfo=60), memory=64)
    assert isinstance(outcome, Violation) and outcome.site == "guestinfo slot"
    outcome = restore(record_of(used_guestinfo=60), memory=63)
    assert isinstance(outcome, Refused) and outcome.errno == "ENOMEM"


def cases(rng: random.Random, count: int, profile: VmportProfile) -> list[Case]:
    """Random ones; whole, empty and cut bodies of every length around the bounds; and of the
    default profile what is known of each rule, and the vectors."""
    made = [random_case(rng, profile) for _ in range(count)]
    empty = VmportState.empty(profile).to_bytes(profile)
    lengths = (*range(profile.fixed_size + 3), *range(profile.max_size - 2, profile.max_size + 3))
    bodies = [empty[:length].ljust(length, b"\0") for length in lengths]
    made += [Case(descriptor(body) + body) for body in bodies]
    if profile is XEN_4_5_V6:
        made += [Case(record) for both in CASES.values() for record in both]
        made += [Case(bytes.fromhex(vector["blob"])) for vector in VECTORS]
    return made


def compare(reference: Reference, count: int, seed: int) -> None:
    """Verdict, first violation, the state, and what the writer makes of it."""
    rng = random.Random(seed)
    for profile in PROFILES:
        for start in range(0, count, 2000):
            tried = cases(rng, min(2000, count - start), profile)
            kinds = set()
            for case, verdict in zip(tried, reference.verdicts(tried, profile)):
                assert vmport_verdict(case, profile) == verdict, case.record.hex()
                kinds.add(verdict.split()[0])
            assert kinds == {"ok", "errno", "violation"}


def test_c_reference(reference: Reference) -> None:
    compare(reference, 300, 1)


@pytest.mark.long
def test_c_reference_at_length(reference: Reference) -> None:
    """Of each profile 25,000, and the vectors and cases."""
    compare(reference, 25000, 2)


def test_to_ask_and_to_be_killed_is_the_same(reference: Reference, tmp_path: Path) -> None:
    killed = Reference(str(tmp_path), query=False)
    rng = random.Random(3)
    for profile in PROFILES:
        tried = [random_case(rng, profile) for _ in range(70)]
        for one, other in zip(killed.verdicts(tried, profile), reference.verdicts(tried, profile)):
            assert one == ("violation" if other.startswith("violation") else other)


def test_heads_that_are_not_there_count_all_the_same() -> None:
    """Two heads use up a used_guestsize of 4: the third is not read."""
    found = findings_of(record_of(used_guestinfo=3, used_guestsize=4))
    assert [one.rule for one in found].count("vmport-guestinfo-head") == 2
