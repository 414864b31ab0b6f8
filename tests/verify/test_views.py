from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi import streams
from hvmctx.abi.releases import Release
from hvmctx.abi.vmport import XEN_4_5_V6, VmportProfile
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.vmport import Buffer, Slots, VmportState, to_record
from hvmctx.errors import HvmctxError, UsageError
from hvmctx.findings import SEVERITIES
from hvmctx.image.image import open_image
from hvmctx.restore.stream import judge
from hvmctx.verify.views import VIEWS, verify
from tests.builders.samples import DATA, EXAMPLE, IMAGES, context_bytes
from tests.builders.streams import (
    GOOD,
    SMALL,
    Pipe,
    libxc_head,
    libxl_head,
    page_data,
    record,
    word,
)
from tests.builders.streams import strict_libxl as libxl

SAMPLES = [*IMAGES, EXAMPLE]


def lines(target: Any, view: str) -> list[str]:
    return [str(finding) for finding in verify(target, view)]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_genuine_images(path: Path, view: str) -> None:
    assert all(line.startswith("note: ") for line in lines(path, view))


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("kind", [2, 3, 0x77])
def test_a_libxl_record_that_the_input_ends_in(kind: int, view: str) -> None:
    """However long it says it is: what was found before is told, and that the input ends."""
    data = libxl_head() + record(1) + libxc_head(2) + record(8, bytes(16)) + record(0)
    data += streams.RECORD_HEADER.pack(kind, 0xF0000000) + b"a"
    for target in (data, Pipe(data)):
        rules = {finding.rule for finding in verify(target, view)}
        assert {"tsc-length"} <= rules
        assert view == "restore" or "stream-damaged" in rules
    with open_image(data) as image:
        verdict = judge(image, Release("newest"))
    assert verdict is not None and verdict.rule == "tsc-length"
    last = libxl_head() + record(1) + libxc_head(2) + record(0) + data[-9:]
    assert "stream-damaged" in {finding.rule for finding in verify(last, view)}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(
    ("layer", "kind", "start"),
    [
        ("libxl", 2, b""),
        ("libxl", 3, b""),
        ("libxc", 1, struct.pack("<I", (1 << 25) - 1)),
        ("libxc", 1, b"\xff" * 4),
        ("libxc", 10, b""),
        ("libxc", 17, b""),
    ],
)
def test_a_whole_record_that_no_reader_takes(
    layer: str, kind: int, start: bytes, view: str, tmp_path: Path
) -> None:
    """It is not read, and what stands behind it is judged."""
    head = libxl_head() + record(1) + libxc_head()
    if layer == "libxl":
        head += record(0)
    size = 160 << 20
    path = tmp_path / "sparse"
    with open(path, "wb") as file:
        file.write(head + streams.RECORD_HEADER.pack(kind, size) + start)
        file.seek(len(head) + 8 + size)
        file.write(record(0x77) + record(0) + (record(0) if layer == "libxc" else b""))
    rules = {finding.rule for finding in verify(path, view)}
    assert "stream-damaged" not in rules
    if view == "restore":
        assert rules & {"libxl-unknown", "libxc-length"}
    else:
        assert "record-type" in rules
        assert not rules & {"libxl-xenstore-end", "page-data-length"}


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 1, 2, 3, 4, 5, 9, 10, 0x80000001]),
            st.binary(max_size=20),
            st.sampled_from([None, None, 0, 7, 1 << 23, (1 << 27) + 1, 0xFFFFFFF8, 0xFFFFFFFF]),
        ),
        max_size=4,
    ),
    st.sampled_from([streams.GUEST_X86_PV, streams.GUEST_X86_HVM]),
    st.booleans(),
)
def test_nothing_raises_behind_the_first_header(
    records: list[tuple[int, bytes, int | None]], guest: int, checkpointed: bool
) -> None:
    data = libxl_head() + record(1) + libxc_head(guest=guest) + record(0)
    data += b"".join(record(kind, body, length=length) for kind, body, length in records)
    for view in VIEWS:
        found = verify(data, view, checkpointed=checkpointed)
        assert [str(f) for f in found] == [
            str(f) for f in verify(Pipe(data), view, checkpointed=checkpointed)
        ]
    for release in ("4.5", "4.6", "4.13", "newest"):
        with open_image(data) as image:
            judge(image, Release(release), checkpointed=checkpointed)


@pytest.mark.parametrize("view", VIEWS)
def test_a_pipe_tells_as_much(view: str) -> None:
    rng = random.Random(7)
    for sample in (SMALL, GOOD):
        for _ in range(120):
            data = bytearray(sample)
            for _ in range(rng.choice((1, 2, 3))):
                data[rng.randrange(min(len(data), 2000))] = rng.choice((0, 1, 5, 0x80, 0xFF))
            cut = bytes(data[: rng.choice((len(data), rng.randrange(len(data))))])
            try:
                expected = lines(cut, view)
            except HvmctxError as error:
                with pytest.raises(type(error)):
                    lines(Pipe(cut), view)
                continue
            assert lines(Pipe(cut), view) == expected


@given(
    st.binary(max_size=200),
    st.sampled_from(VIEWS),
    st.sampled_from(["libxc", "libxl", "xl", "context"]),
)
def test_any_bytes(data: bytes, view: str, layer: str) -> None:
    try:
        findings = verify(data, view, layer=layer)
    except HvmctxError:
        return
    for finding in findings:
        assert finding.severity in SEVERITIES and finding.rule
        assert 0 <= finding.offset <= len(data)


def test_by_offset_and_none_twice() -> None:
    data = libxl(record(3, bytes(7)), record(6))
    found = verify(data, "strict")
    assert {f.rule for f in found} == {"record-type", "libxl-emulator-short"}
    assert [f.offset for f in found] == sorted(f.offset for f in found)
    assert len({(f.rule, f.offset, f.text) for f in found}) == len(found)


def test_damage_is_told_in_every_view() -> None:
    cut = SMALL[:-5]
    for view in VIEWS:
        assert "stream-damaged" in [finding.rule for finding in verify(cut, view)]
    context = context_bytes()[:-10]
    assert [f.rule for f in verify(context, "verifier")] == ["stream-damaged"]
    assert [f.rule for f in verify(context, "restore")] == ["context-bounds"]
    inside = libxl(stream=GOOD.replace(context_bytes(), context_bytes()[:-8] + b"\2" + bytes(7)))
    rules = [f.rule for f in verify(inside, "strict")]
    assert "stream-damaged" in rules and "context-end" in rules


def test_vmport() -> None:
    state = VmportState.empty()
    state.guestinfo = Slots({b"%d" % n: b"" for n in range(60)})
    context = HvmContext.from_bytes(context_bytes(), damaged=True)
    context.entries.insert(-1, to_record(state))
    data = context.to_bytes()
    releases = [Release("newest")]
    (finding,) = verify(data, "restore", releases=releases)
    assert finding.rule == "context-type"
    (finding,) = verify(data, "restore", releases=releases, vmport=XEN_4_5_V6)
    assert finding.rule == "vmport-guestinfo-slot"
    assert finding.text.endswith("Xen newest accesses memory that it must not")


def test_vmport_of_another_profile() -> None:
    """Strict takes it apart by the profile that it is told of, not by the one in use."""
    profile = VmportProfile("four", MAX_CHANS=4)
    state = VmportState.empty(profile)
    state.channels[3].proto_num = 5
    context = HvmContext.from_bytes(context_bytes())
    context.entries.insert(-1, to_record(state, profile))
    data, releases = context.to_bytes(), [Release("newest")]
    found = verify(data, "strict", releases=releases, vmport=profile)
    (finding,) = (f for f in found if f.record == "VMPORT/0")
    assert finding.rule == "vmport-protocol" and "chans[3].proto_num is 0x5" in finding.text
    found = verify(data, "strict", releases=releases, vmport=XEN_4_5_V6)
    assert "vmport-fixed-part" in [finding.rule for finding in found]


def test_no_such_view() -> None:
    with pytest.raises(UsageError, match="unknown view 'nope'; expected verifier, restore, strict"):
        verify(EXAMPLE, "nope")


def test_legacy() -> None:
    with pytest.raises(HvmctxError, match="convert it first"):
        verify(DATA / "streams" / "legacy_hvm_w64.in.bin")


def test_page_data_that_end_within_a_word() -> None:
    """Found by the fuzzer: words are counted whole."""
    body = (3).to_bytes(8, "little") + bytes(13)
    data = libxc_head() + record(16) + record(1, body) + record(0)
    for view in VIEWS:
        assert "page-data-words" in [finding.rule for finding in verify(data, view)]
    with open_image(data) as image:
        assert len(image.memory_map) == 1


def test_offsets_lie_within_the_input() -> None:
    """Found by the fuzzer: a loader's cursor may be far behind the record, and a record may
    claim pages that it does not hold."""
    state = VmportState.empty()
    state.channels[0].send = Buffer(b"", 0, 0xFFFF)
    state.channels[1].send = Buffer(b"", 0, 9)
    context = HvmContext.from_bytes(context_bytes())
    context.entries.insert(-1, to_record(state))
    data = context.to_bytes()
    found = verify(data, "strict")
    assert all(finding.offset <= len(data) for finding in found)
    claimed = page_data(word(1), word(2))[:-4096]
    claimed = claimed[:4] + (len(claimed) - 8).to_bytes(4, "little") + claimed[8:]
    data = (
        libxc_head() + record(16) + page_data(word(1), word(2)) + record(13) + claimed + record(0)
    )
    found = verify(data, "strict")
    assert "page-data-length" in [finding.rule for finding in found]
    assert all(finding.offset <= len(data) for finding in found)


def test_many_findings_of_one_rule_end() -> None:
    twice = b"".join(struct.pack("<QQ", 99 + n % 100, 1) for n in range(200))
    params = struct.pack("<II", 200, 0) + twice
    data = libxc_head() + record(16) + record(9, context_bytes()) + record(10, params) + record(0)
    found = [f.text for f in verify(data, "strict") if f.rule == "param-duplicate"]
    assert len(found) == 65 and found[0] == "set twice: index 99"
    assert found[-1] == "set twice: further findings about this record suppressed"


@pytest.mark.parametrize("view", VIEWS)
def test_an_open_image(view: str) -> None:
    """Says what its input says, and stays open."""
    odd = libxl(record(3, bytes(7)), record(6)) + b"x"
    for data in (EXAMPLE, SMALL[:-5], odd, context_bytes(), context_bytes()[:-10]):
        with open_image(data) as image:
            assert lines(image, view) == lines(data, view)
            assert lines(image, view) == lines(data, view)
            image.source.read_at(0, 8)
    with open_image(Pipe(context_bytes())) as image:
        assert lines(image, view) == lines(context_bytes(), view)
    with open_image(Pipe(SMALL)) as image, pytest.raises(UsageError, match="cannot be read twice"):
        verify(image, view)
