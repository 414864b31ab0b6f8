from __future__ import annotations

from typing import Any

import pytest

import hvmctx
from hvmctx.abi import streams
from hvmctx.abi.releases import Release
from hvmctx.context.hvm_context import HvmContext
from hvmctx.errors import FormatError, RestoreRefused, UnsupportedError, UsageError
from hvmctx.image.image import Image, open_image
from hvmctx.restore.guest import Guest
from hvmctx.restore.image import would_restore
from hvmctx.restore.stream import StreamJudge
from hvmctx.verify.views import verify
from tests.builders.samples import DATA, EXAMPLE, IMAGES, context_bytes
from tests.builders.streams import (
    VCPU0,
    hvm,
    libxc_head,
    libxl,
    page_data,
    pv,
    record,
    word,
    xl_head,
)

NEWEST = Release("newest")


def said(data: Any, release: Release = NEWEST, **how: Any) -> tuple[str, str, int]:
    with open_image(data) as image:
        verdict = would_restore(image, release, **how)
    return verdict.verdict, verdict.rule, verdict.offset


@pytest.mark.parametrize("path", [*IMAGES, EXAMPLE], ids=lambda path: path.stem)
def test_genuine_images(path: Any) -> None:
    assert said(path)[0] == "accept"
    assert said(path, Release("4.13"))[:2] == ("refuse", "libxc-version")


def test_streams_come_first_then_the_context() -> None:
    bad = hvm(record(8, bytes(16)))[:-8] + record(9, b"x") + record(0)
    assert said(bad)[1] == "tsc-length"
    data = libxc_head() + record(16) + record(9, context_bytes()[:-8]) + record(0)
    assert said(data) == ("refuse", "context-end", 40 + 8 + 8 + len(context_bytes()) - 8)
    assert said(libxc_head() + record(16) + record(0))[1] == "context-header"
    assert said(context_bytes()) == ("accept", "", 0)
    assert said(pv(page_data(word(511))))[0] == "accept"


def test_options_reach_the_readers() -> None:
    checkpoint = hvm(record(9, context_bytes()), record(14))
    assert said(checkpoint)[1] == "checkpoint"
    assert said(checkpoint, checkpointed=True)[0] == "accept"
    late = hvm(record(14))  # whose context came too late for its only checkpoint
    assert said(late, checkpointed=True)[1] == "context-header"
    assert said(hvm(), kind=streams.GUEST_X86_PV)[1] == "libxc-guest"
    assert said(hvm(), guest_of=lambda _: Guest(vcpus=0))[1] == "lapic-vcpu"


def test_the_guest_is_asked_for_late() -> None:
    """A policy of half a row is the streams' refusal, not an error of whoever reads it."""

    def never(image: Image) -> Guest:
        raise AssertionError

    assert said(hvm(record(17, bytes(12))))[1] == "cpuid-policy-length"
    assert said(hvm(record(8)), guest_of=never)[1] == "tsc-length"
    assert said(pv(VCPU0), guest_of=never)[0] == "accept"
    with open_image(xl_head(b"{]") + libxl()) as image, pytest.raises(FormatError):
        would_restore(image, NEWEST)


def test_a_reader_that_watched() -> None:
    for data in (hvm(), hvm(record(8))):
        reader = StreamJudge(NEWEST)
        with open_image(data, watcher=reader) as image:
            watched = would_restore(image, NEWEST, reader=reader)
            assert watched.as_dict() == would_restore(image, NEWEST).as_dict()


def test_legacy_streams() -> None:
    path = DATA / "streams" / "legacy_hvm_w64.in.bin"
    with open_image(path) as image, pytest.raises(UnsupportedError, match="convert it first"):
        would_restore(image, NEWEST)


def test_the_library_raises_on_request() -> None:
    with hvmctx.open_image(hvm(record(8))) as image:
        verdict = hvmctx.would_restore(image, hvmctx.Release("4.17"))
        with pytest.raises(RestoreRefused, match="tsc-length"):
            verdict.raise_for_refusal()


def test_releases_by_name() -> None:
    with open_image(EXAMPLE) as image:
        assert would_restore(image, "4.17").accepted
        assert verify(image, releases=["4.17", Release("4.20")]) == []
        with pytest.raises(UsageError, match=r"unknown Xen release '5\.0'"):
            would_restore(image, "5.0")


def test_contexts_and_bytes_as_they_are() -> None:
    context = HvmContext.from_bytes(context_bytes())
    with open_image(EXAMPLE) as image:
        of_image = would_restore(image, "4.17").as_dict()
    assert would_restore(EXAMPLE.read_bytes(), "4.17").as_dict() == of_image
    for given in (context, context.to_bytes(), memoryview(context.to_bytes())):
        assert would_restore(given, "4.17").accepted
    context.vcpus[0].cpu.cr0 = 0
    refused = would_restore(context, "4.17")
    assert (refused.rule, refused.offset) == ("cpu-cr0", 32)
    assert [finding.rule for finding in verify(context)] == ["cpu-cr0"]
    empty = HvmContext()
    assert would_restore(empty, "4.17").rule == "context-header"
