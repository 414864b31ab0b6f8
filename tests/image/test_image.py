from __future__ import annotations

import hashlib
import io
import os
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hvmctx
from hvmctx.abi import streams, x86
from hvmctx.errors import (
    FormatError,
    HvmctxError,
    InputError,
    MissingRecordError,
    TruncatedError,
    UnknownRecordError,
    UnsupportedError,
    UsageError,
)
from hvmctx.image.image import open_image
from hvmctx.stream.libxl import EmulatorXenstoreData
from tests.builders.samples import DATA, EXAMPLE, IMAGES, STREAMS, context_bytes, load
from tests.builders.streams import (
    CONTEXT,
    CUTS,
    SMALL,
    Pipe,
    libxc_head,
    libxc_stream,
    libxl_head,
    page_data,
    record,
    word,
)

EXPECTED = load(DATA / "streams" / "expected.json")


@pytest.mark.parametrize("path", STREAMS, ids=lambda path: path.stem)
@pytest.mark.parametrize("piped", [False, True], ids=["file", "pipe"])
def test_genuine_streams(path: Path, piped: bool) -> None:
    expected = EXPECTED[path.stem]
    with open_image(Pipe(path.read_bytes()) if piped else path, keep_words=True) as image:
        assert image.complete and not image.problems and not image.notes
        digest = hashlib.sha256(image.context.to_bytes()).hexdigest()
        assert digest == expected["hvm_context_sha256"]
        assert image.params == {int(k): v for k, v in (expected["hvm_params"] or {}).items()}
        ranges: list[list[int]] = []
        for run in image.memory_map.populated():
            if ranges and ranges[-1][1] + 1 == run.pfn:
                ranges[-1][1] = run.end - 1
            else:
                ranges.append([run.pfn, run.end - 1])
        assert ranges == expected["expect_pfns"]
        assert image.tsc_info is not None and image.tsc_info.mode == 0
        policy = image.policy
        assert policy.cpuid is not None and policy.msr is not None
        assert len(policy.leaves) > 10 and policy.msrs == policy.msr.msrs
        assert (
            repr(policy) == f"<policy: {len(policy.leaves)} CPUID leaves, {len(policy.msrs)} MSRs>"
        )


@pytest.mark.parametrize("path", [*IMAGES, EXAMPLE], ids=lambda path: path.stem)
@pytest.mark.parametrize("piped", [False, True], ids=["file", "pipe"])
def test_genuine_images(path: Path, piped: bool) -> None:
    with open_image(Pipe(path.read_bytes()) if piped else path) as image:
        assert image.format == "xl" and image.complete and not image.problems
        assert [header.layer for header in image.headers] == ["xl", "libxl", "libxc", "libxc"]
        version = (4, 20) if "420" in path.stem else (4, 17)
        assert (image.guest_type, image.xen_version) == (2, version)
        config: Any = image.config
        assert config["c_info"]["name"] == {"hvm2x420": "hvm2"}.get(path.stem, path.stem)
        context = image.context
        assert context.damage is None and context.header.magic == x86.HVM_FILE_MAGIC
        assert len(image.emulators) == (0 if path.stem == "pvhx" else 1)
        assert image.end == path.stat().st_size
        assert image.last("libxc", streams.LIBXC_X86_PV_INFO) is None


def test_extracted_context_is_the_one_taken_after_the_save() -> None:
    """But for what the time that passed between changed: three clocks."""
    for stem in ("pvhx", "hvm2x420"):
        raw = (DATA / "images" / f"{stem}.hvmctx.bin").read_bytes()
        with open_image(DATA / "images" / f"{stem}.save") as image:
            ours = image.context
        theirs = type(ours).from_bytes(raw)
        for context in (ours, theirs):
            for entry in context.records(x86.CPU):
                entry.struct.tsc = 0
            for entry in context.records(x86.PMTIMER):
                entry.struct.tmr_val = 0
            for entry in context.records(x86.VIRIDIAN_DOMAIN):
                entry.struct.time_ref_count = 0
        assert ours.to_bytes() == theirs.to_bytes()


def test_wrapped_samples() -> None:
    with open_image(DATA / "streams" / "plain.xl") as image:
        assert image.complete and "byte order mark is 0x1234567" in str(image.notes[0])
    with open_image(DATA / "streams" / "with-xenstore.libxl") as image:
        (data,) = image.records_of("libxl", streams.LIBXL_EMULATOR_XENSTORE_DATA)
        assert image.parse(data, EmulatorXenstoreData).pairs
    with pytest.raises(MissingRecordError, match="PV guest"):
        _ = open_image(DATA / "streams" / "handbuilt" / "libxc_v3_pv_ok.bin").context


def test_bare_context() -> None:
    for target in (context_bytes(), Pipe(context_bytes())):
        with open_image(target) as image:
            assert image.format == "context" and image.complete
            assert image.context.to_bytes() == context_bytes()
            assert image.xen_version is None and image.config is None


def test_a_checkpointed_libxl_stream() -> None:
    """The genuine verifier cannot read these; the last of everything counts."""
    other = context_bytes()[:-1] + b"\0"
    emulator = struct.pack("<II", 2, 0)
    data = (
        libxl_head() + record(1) + libxc_head() + page_data(word(1)) + CONTEXT + record(14)
        + record(3, emulator + b"QEVMfirst") + record(4)
        + page_data(word(1)) + record(9, other) + record(14)
        + record(3, emulator + b"QEVMsecond") + record(4) + record(0) + record(0)
    )  # fmt: skip
    with open_image(data) as image:
        assert image.complete and not image.problems
        assert [bytes(e.payload[4:]) for e in image.emulators] == [b"first", b"second"]
        assert image.context.to_bytes() == other


@pytest.mark.parametrize("piped", [False, True], ids=["buffer", "pipe"])
def test_every_truncation_of_a_small_image(piped: bool) -> None:
    for cut in CUTS:
        data = SMALL[:cut]
        try:
            image = open_image(Pipe(data) if piped else data, layer="xl")
        except HvmctxError as error:
            raise AssertionError(f"cut at {cut}: {error}") from error
        assert not image.complete
        (problem,) = image.problems
        assert isinstance(problem, TruncatedError) and problem.offset == image.end <= cut
        assert problem.found and problem.expected and "\n" not in str(problem)
        whole = [r for r in image.records if r.end <= cut]
        assert len(image.records) - len(whole) <= 1
        if any(r.type == streams.LIBXC_HVM_CONTEXT and r.layer == "libxc" for r in whole):
            assert image.context.to_bytes() == context_bytes()


@pytest.mark.parametrize("length", [0, 1, 0x7FFFFFFF, 0xFFFFFFF8, 0xFFFFFFFF])
@pytest.mark.parametrize("piped", [False, True], ids=["buffer", "pipe"])
def test_every_length_field(length: int, piped: bool) -> None:
    """Lengths that lie: never an allocation, a hang, or another exception."""
    with open_image(SMALL) as image:
        places = [record.offset + 4 for record in image.records]
    places += [44, 48]  # the xl file's optional data, and the configuration in it
    for at in places:
        data = SMALL[:at] + struct.pack("<I", length) + SMALL[at + 4 :]
        with open_image(Pipe(data) if piped else data) as image:
            said: list[object] = [*image.problems, *image.notes]
            for name in ("config", "context", "emulators"):
                try:
                    getattr(image, name)
                except HvmctxError as error:
                    assert "\n" not in str(error)
                    said.append(error)
            if data != SMALL:
                assert said or length in (0, 1)


@given(st.data())
def test_flipped_bytes(data: st.DataObject) -> None:
    """Whatever is flipped, opening and reading everything ends in results or our errors."""
    broken = bytearray(SMALL)
    for _ in range(data.draw(st.integers(1, 6))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    piped = data.draw(st.booleans())
    try:
        image = open_image(Pipe(bytes(broken)) if piped else bytes(broken), keep_words=True)
    except HvmctxError:
        return
    for name in ("context", "config", "params", "tsc_info", "emulators", "memory_map",
                 "page_words", "policy", "memory"):  # fmt: skip
        try:
            repr(getattr(image, name))
        except HvmctxError as error:
            assert str(error)


def test_unknown_records() -> None:
    data = libxc_stream(record(0x55, b"x"), CONTEXT, record(0x80000055))
    with open_image(data) as image:
        assert image.complete
        (problem,) = image.problems
        assert isinstance(problem, UnknownRecordError)
        assert "type 0x55: unknown mandatory record: found 1 bytes" in str(problem)
        (note,) = image.notes
        assert "unknown optional record 0x80000055" in str(note)
        assert image.context.to_bytes() == context_bytes()


def test_optional_bit_does_not_help_in_libxl() -> None:
    data = libxl_head() + record(0x80000001) + record(0)
    with open_image(data) as image:
        assert isinstance(image.problems[0], UnknownRecordError)


def test_oddities_are_noted() -> None:
    data = libxc_stream(record(0x09, context_bytes() + b"x", pad=b"\1")) + b"trailing"
    for target in (data, Pipe(data)):
        with open_image(target) as image:
            texts = [str(note) for note in image.notes]
            assert "padding is not zero: 01010101010101" in texts[0]
            assert "follow the end" in texts[1]
            assert image.complete and not image.problems
    with open_image(context_bytes() + b"xyz") as image:
        assert "3 bytes follow the END record" in str(image.notes[0])


def test_domain_headers_that_no_xen_writes() -> None:
    for head in (libxc_head(guest=4), libxc_head(page_shift=13)):
        with open_image(head + record(0)) as image:
            assert isinstance(image.problems[0], UnsupportedError)
            assert image.complete


@pytest.mark.parametrize(
    "name", ["legacy_hvm_w64.in.bin", "legacy_hvm_w32.in.bin", "legacy_hvm_w64_xl.in.bin"]
)
def test_legacy_streams_are_said_to_be_such(name: str) -> None:
    with open_image(DATA / "streams" / name) as image:
        (problem,) = image.problems
        assert isinstance(problem, UnsupportedError) and "convert it first" in str(problem)
        with pytest.raises(MissingRecordError):
            _ = image.context


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    for target in (tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError):
            open_image(target)
    with pytest.raises(FormatError, match="nothing that Xen saves: found 23 21"):
        open_image(b"#!/bin/sh\n")
    with pytest.raises(UsageError, match="unknown layer 'foo'"):
        open_image(b"", layer="foo")
    with pytest.raises(FormatError, match="wrong ident"):
        raise open_image(context_bytes(), layer="libxl").problems[0]


def test_empty_input() -> None:
    with open_image(b"") as image:
        assert "the context is empty: found 0 bytes" in str(image.problems[0])


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the system says it to anyone but root, who may read everything."""

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(InputError, match="secret: Permission denied"):
        open_image(tmp_path / "secret")


def test_release() -> None:
    with open_image(EXAMPLE) as image:
        assert str(image.release) == "4.17"
    with open_image(context_bytes()) as image:
        assert str(image.release) == "newest"
    converted = libxc_head()[:32] + bytes(4) + libxc_head()[36:]
    with open_image(converted + record(0)) as image:
        assert str(image.release) == "newest"


def test_what_an_image_is_in_a_line() -> None:
    with open_image(EXAMPLE) as image:
        shown = "xl, libxl, libxc, 16 records, of Xen 4.17>"
        assert repr(image).startswith("<Image '") and repr(image).endswith(f"hvm1.save': {shown}")
    context = context_bytes()
    with open_image(context) as image:
        assert repr(image) == "<Image 'buffer': context, 0 records>"
    with open_image(context[:-3]) as image:
        assert repr(image) == "<Image 'buffer': context, 0 records, incomplete>"


def test_a_hostile_name_is_shown_safely(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 200 + "\x1b[31m\u202e")
    path.write_bytes(context_bytes())
    with open_image(path) as image:
        assert len(repr(image)) < 120 and repr(image).isprintable() and repr(image).isascii()


def test_there_is_no_policy_in_a_context() -> None:
    with open_image(context_bytes()) as image:
        assert (image.policy.cpuid, image.policy.leaves, image.policy.msrs) == (None, [], [])


@pytest.mark.parametrize("bare", [True, False])
def test_a_change_to_the_context_object_is_none_to_the_image(bare: bool) -> None:
    """All that judge or write an image go by its bytes, whichever of them comes first."""
    data = context_bytes() if bare else EXAMPLE.read_bytes()
    with hvmctx.open_image(data) as image:
        image.context.vcpus[0].cpu.cr4 = 1 << 40
        assert hvmctx.would_restore(image, hvmctx.Release("4.17")).accepted
        assert not [each for each in hvmctx.verify(image, "strict") if each.rule == "cpu-cr4"]
        editor = hvmctx.edit(image)
        assert editor.get("CPU/0.cr4") == 0
        editor.write(out := io.BytesIO())
        assert out.getvalue() == data == hvmctx.loads_json(hvmctx.dumps_json(image))
        changes = list(map(str, hvmctx.diff(image, image.context)))
        assert changes == ["CPU/0.cr4: 0x0 -> 0x10000000000 (+bit 40)"]
