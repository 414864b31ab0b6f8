from __future__ import annotations

import struct
from collections import Counter
from typing import Any

import pytest

from hvmctx.abi import streams, x86
from hvmctx.abi.releases import RELEASES, Release
from hvmctx.context.hvm_context import HvmContext
from hvmctx.image.image import Image, open_image
from hvmctx.restore.stream import judge
from hvmctx.verify.restoring import Restoring, span
from hvmctx.verify.views import verify
from tests.builders.samples import DATA, EXAMPLE, IMAGES, altered, context_bytes
from tests.builders.streams import libxc_head, page_data, record, word


def releases(*names: str) -> list[Release]:
    return [Release(name) for name in names]


def test_span() -> None:
    assert span(releases("4.17")) == "4.17"
    assert span(releases("4.14", "4.15", "4.16")) == "4.14 to 4.16"
    assert (
        span(releases("4.6", "4.7", "4.14", "4.22", "newest")) == "4.6 to 4.7, 4.14, 4.22 to newest"
    )


def stream(version: int, *records: bytes) -> bytes:
    static = record(16) if version == 3 else b""
    return libxc_head(version) + static + b"".join(records) + record(9, context_bytes()) + record(0)


@pytest.mark.parametrize("release", [name for name in RELEASES if Release(name).since("4.6")])
def test_watching_says_what_judging_says(release: str) -> None:
    cases = [data for _, _, data in altered()]
    cases += [stream(2, page_data(word(1, 5))), stream(2, record(0x80000040)), stream(3)]
    cases += [stream(2, params(index)) for index in (36, 37, 38, 39)]
    for data in cases:
        watcher = Restoring(releases(release))
        with open_image(data, layer="libxc", watcher=watcher) as image:
            expected = judge(image, Release(release))
            found = watcher.end(image)
        if expected is not None:
            assert (found[0].rule, found[0].offset) == (expected.rule, expected.offset)
        else:
            assert all(finding.layer == "context" for finding in found)


def params(index: int) -> bytes:
    return record(10, struct.pack("<IIQQ", 1, 0, index, 1))


def test_releases_share_readers_only_where_nothing_differs() -> None:
    """All releases at once find of a stream what each of them alone does."""
    large = streams.RECORD_HEADER.pack(9, (8 << 20) + 1)
    cases = [data for _, _, data in altered()]
    cases += [stream(2, params(index)) for index in (36, 37, 38, 39)]
    cases += [stream(2), stream(2, record(17, bytes(24))), libxc_head(2) + large]
    names = [name for name in RELEASES if Release(name).since("4.5")]
    for data in cases:
        alone: dict[str, list[Release]] = {}
        for release in releases(*names):
            with open_image(data, layer="libxc") as image:
                verdict = judge(image, release)
            alone.setdefault(verdict.rule if verdict else "", []).append(release)
        found = verify(data, releases=releases(*names), layer="libxc")
        said = {f.rule: f.text for f in found if f.layer == "libxc"}
        said.pop("stream-damaged", None)  # which every view says itself
        assert set(said) == set(alone) - {"", "stream-damaged"}
        for rule, text in said.items():
            assert text.endswith(f"; Xen {span(alone[rule])} refuses it")


def test_parameters_of_4_9() -> None:
    data = stream(2, params(37))
    for names in (("4.8",), ("4.8", "4.9"), ("4.8", "4.9", "4.10")):
        found = [f.text for f in verify(data, releases=releases(*names)) if f.layer == "libxc"]
        assert found == ["a parameter that the hypervisor lacks; Xen 4.8 refuses it"]
    assert not [f for f in verify(data, releases=releases("4.9")) if f.layer == "libxc"]


def test_one_finding_for_all_releases_of_a_reason() -> None:
    (finding,) = verify(stream(3, record(8, bytes(16))))
    assert str(finding) == (
        "error: libxc: offset 0x30: X86_TSC_INFO: the length is not 24; Xen 4.17 to newest "
        "refuses it [tsc-length]"
    )
    everywhere = [Release(name) for name in RELEASES]
    found = verify(EXAMPLE, releases=everywhere)
    assert [finding.rule for finding in found] == ["stream-v2", "libxc-version"]
    assert "Xen 4.0 to 4.5 refuses it" in found[0].text
    assert "Xen 4.6 to 4.13 refuses it" in found[1].text


def test_what_changed_between_releases() -> None:
    context = HvmContext.from_bytes(context_bytes())
    (cpu,) = context.records(x86.CPU)
    body = bytearray(cpu.body)
    x86.CPU.layout.locate("dr7").put(body, 1 << 32)
    cpu.body = bytes(body)
    data = libxc_head() + record(16) + record(9, context.to_bytes()) + record(0)
    finding, hazard = verify(data)
    assert finding.rule == "cpu-dr" and finding.text.startswith("EINVAL: ")
    assert finding.text.endswith("Xen 4.18 to newest refuses it")
    assert finding.record == hazard.record == "CPU/0"
    assert (hazard.severity, hazard.rule) == ("warning", "cpu-dr-entry")
    assert "Xen 4.17 loads it all the same; safe since 4.18 (15987cb03f)" in hazard.text


def test_genuine_images_are_taken() -> None:
    for path in (*IMAGES, EXAMPLE):
        assert verify(path) == []


def test_a_pv_guest_has_no_context() -> None:
    path = DATA / "streams" / "handbuilt" / "libxc_v3_pv_ok.bin"
    assert verify(path, releases=releases("4.17")) == []


def test_the_guest_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Policy, parameters and configuration, however many releases are asked."""
    reads = Counter[str]()
    for name in ("policy", "params", "config"):
        read = vars(Image)[name].fget

        def counted(image: Image, name: str = name, read: Any = read) -> Any:
            reads[name] += 1
            return read(image)

        monkeypatch.setattr(Image, name, property(counted))
    asked = [Release(name) for name in RELEASES if Release(name).since("4.14")]
    assert len(asked) >= 9
    assert verify(EXAMPLE, releases=asked) == []
    assert reads == {"policy": 1, "params": 1, "config": 1}
