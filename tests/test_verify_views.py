from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi.releases import Release
from hvmctx.abi.vmport import XEN_4_5_V6, VmportProfile
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.vmport import Buffer, VmportState, to_record
from hvmctx.errors import HvmctxError, UsageError
from hvmctx.findings import SEVERITIES
from hvmctx.image import open_image
from hvmctx.verify.views import VIEWS, verify
from tests.samples import (
    DATA,
    EXAMPLE,
    IMAGES,
    SMALL,
    Pipe,
    context_bytes,
    libxc_head,
    page_data,
    record,
    word,
)
from tests.test_verify_strict_stream import GOOD, libxl

SAMPLES = [*IMAGES, EXAMPLE]


def lines(target: object, view: str) -> list[str]:
    return [str(finding) for finding in verify(target, view)]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_genuine_images(path: Path, view: str) -> None:
    assert all(line.startswith("note: ") for line in lines(path, view))


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
    state.guestinfo = {b"%d" % n: b"" for n in range(60)}
    context = HvmContext.parse(context_bytes())
    context.entries.insert(-1, to_record(state))
    data = context.to_bytes()
    releases = [Release("newest")]
    (finding,) = verify(data, "restore", releases=releases)
    assert finding.rule == "context-type"
    (finding,) = verify(data, "restore", releases=releases, vmport=XEN_4_5_V6)
    assert finding.rule == "vmport-guestinfo-slot"
    assert finding.text.endswith("Xen newest leaves its memory over it")


def test_vmport_of_another_profile() -> None:
    """Strict takes it apart by the profile that it is told of, not by the one in use."""
    profile = VmportProfile("four", MAX_CHANS=4)
    state = VmportState.empty(profile)
    state.channels[3].proto_num = 5
    context = HvmContext.parse(context_bytes())
    context.entries.insert(-1, to_record(state, profile))
    data, releases = context.to_bytes(), [Release("newest")]
    found = verify(data, "strict", releases=releases, vmport=profile)
    (finding,) = (f for f in found if f.record == "VMPORT/0")
    assert finding.rule == "vmport-protocol" and "chans[3].proto_num is 0x5" in finding.text
    found = verify(data, "strict", releases=releases, vmport=XEN_4_5_V6)
    assert "vmport-fixed-part" in [finding.rule for finding in found]


def test_no_such_view() -> None:
    with pytest.raises(UsageError, match="no view is called 'nope'"):
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
    context = HvmContext.parse(context_bytes())
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
