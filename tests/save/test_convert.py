from __future__ import annotations

import io
import random
import struct
from typing import Any, get_args

import pytest

from hvmctx.abi import streams
from hvmctx.errors import (
    FormatError,
    LimitError,
    TruncatedError,
    UnsupportedError,
    UsageError,
)
from hvmctx.image.image import open_image
from hvmctx.limits import Limits
from hvmctx.save.convert import _WRITERS, convert
from hvmctx.save.rewrap import FORMATS
from hvmctx.stream.legacy import Item
from hvmctx.verify.views import verify
from tests.builders.legacy import legacy_hvm, legacy_pv, longs
from tests.builders.samples import DATA, EXAMPLE
from tests.builders.streams import Pipe, xl_head
from tests.builders.wrappers import (
    CONFIG,
    WRAPPED,
    among_records,
    in_legacy_xapi,
    libvirt,
    libxc_of,
    xapi_record,
)

PLACE = DATA / "streams"


def converted(target: Any, **how: Any) -> bytes:
    out = io.BytesIO()
    convert(target, out, **how)
    return out.getvalue()


@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize("form", ["libxc", "libxl"])
def test_as_the_genuine_converter(width: int, form: str) -> None:
    data = (PLACE / f"legacy_hvm_w{width}.in.bin").read_bytes()
    expected = (PLACE / f"legacy_hvm_w{width}_to_{form}.out.bin").read_bytes()
    assert converted(data, format=form) == expected
    assert converted(Pipe(data), format=form) == expected


@pytest.mark.parametrize("width", [32, 64])
def test_in_an_xl_file(width: int) -> None:
    """Which the genuine converter's -x never takes, under Python 3."""
    data = (PLACE / f"legacy_hvm_w{width}_xl.in.bin").read_bytes()
    made = converted(data)
    assert made[:36] == data[:36] and made[36] == data[36] | 2
    size = 48 + int.from_bytes(data[44:48], "little")
    assert made[size:] == (PLACE / f"legacy_hvm_w{width}_to_libxl.out.bin").read_bytes()
    with open_image(made) as image:
        assert image.complete and image.config == {}
    with pytest.raises(UsageError, match="holds a libxl stream"):
        converted(data, format="libxc")


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("width", [4, 8])
@pytest.mark.parametrize("paravirtual", [False, True])
def test_what_is_made_is_whole(seed: int, width: int, paravirtual: bool) -> None:
    data = (legacy_pv if paravirtual else legacy_hvm)(random.Random(seed), width)
    for form in ("libxl", "libxc"):
        made = converted(data, format=form)
        with open_image(made) as image:
            assert image.complete and not image.problems
            assert image.guest_type == (1 if paravirtual else 2) and image.xen_version == (0, 1)
        found = [f for f in verify(made, "verifier") if f.rule != "page-data-type"]
        assert found == []


def test_absent_pages_alone_make_no_record() -> None:
    """The genuine converter writes one with a count of 0, which no restore takes."""
    batch = struct.pack("<i", 2) + longs(8, 0xF0000000, 0xF0000000)
    head = longs(8, 64) + struct.pack("<iIQ", -3, 0, 5)
    data = head + batch + struct.pack("<i", 0) + struct.pack("<QQQI", 1, 2, 3, 1) + b"c"
    out = io.BytesIO()
    done = convert(data, out)
    assert (done.pages, done.absent) == (0, 2)
    with open_image(out.getvalue()) as image:
        assert "PAGE_DATA" not in [record.name for record in image.records]


def test_without_the_device_model() -> None:
    data = (PLACE / "legacy_hvm_w64.in.bin").read_bytes()
    with_it = (PLACE / "legacy_hvm_w64_to_libxc.out.bin").read_bytes()
    without = converted(data, format="libxc", device_model=False)
    assert with_it.startswith(without) and b"DeviceModelRecord0002" not in without


def test_width_and_guest_as_given() -> None:
    data = (PLACE / "legacy_hvm_w64.in.bin").read_bytes()
    assert converted(data, width=8, pv=False) == converted(data)
    with pytest.raises(FormatError, match="extended info is missing"):
        converted(data, pv=True)


@pytest.mark.parametrize("width", [4, 8])
@pytest.mark.parametrize("paravirtual", [False, True])
def test_a_given_width_goes_before_what_it_looks_like(width: int, paravirtual: bool) -> None:
    """A guest of few pages starts like a descriptor of a context."""
    small = (legacy_pv if paravirtual else legacy_hvm)(random.Random(3), width, p2m=16)
    made = converted(small, width=width)
    assert made == converted(small, width=width, pv=paravirtual) == converted(small)
    blank = small[:width] + struct.pack("<i", 0) + small[width:]  # as if it ended at once
    with pytest.raises(UnsupportedError, match="not a legacy stream"):
        converted(blank)
    with pytest.raises(UnsupportedError, match="not a legacy stream"):
        converted(blank, pv=paravirtual)
    with pytest.raises(FormatError):
        converted(blank, width=width)
    with open_image(made) as image:
        assert image.complete and image.guest_type == (1 if paravirtual else 2)


def test_a_given_width_of_what_has_a_magic() -> None:
    xl = EXAMPLE.read_bytes()
    with open_image(xl) as image:
        libxl, libxc = (image.headers[number].offset for number in (1, 2))
    for data in (xl, xl[libxl:], xl[libxc:]):
        with pytest.raises(UnsupportedError, match="not a legacy stream"):
            converted(data, width=8, pv=False)
    with pytest.raises(FormatError):
        converted(b"noise" * 30, width=8)


@pytest.mark.parametrize("size", [16, 20, 47])
def test_an_xl_file_that_ends_in_its_header(size: int) -> None:
    wrapped = (PLACE / "legacy_hvm_w64_xl.in.bin").read_bytes()
    for given in (None, 8):
        with pytest.raises(TruncatedError, match=f"{size} bytes, expected 48"):
            converted(wrapped[:size], width=given)


def test_what_is_no_legacy_stream() -> None:
    for data in (b"", EXAMPLE.read_bytes(), b"noise" * 30):
        with pytest.raises(UnsupportedError, match="not a legacy stream"):
            converted(data)
    with pytest.raises(UsageError, match="libxl or libxc"):
        converted(b"", format="xl")
    wrapped = (PLACE / "legacy_hvm_w64_xl.in.bin").read_bytes()
    with pytest.raises(FormatError, match="the input ends"):
        converted(wrapped[:50])
    with pytest.raises(TruncatedError, match="the stream ends"):
        converted(wrapped[:-3])


SIGNED = b"QemuDeviceModelRecord"
LEGACY = {
    "bare": lambda stream: stream,
    "xl": lambda stream: xl_head(struct.pack("<I", len(CONFIG)) + CONFIG, flags=1) + stream,
    "libvirt": lambda stream: libvirt(stream, version=1),
    "xapi": in_legacy_xapi,
}


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("wrapper", LEGACY)
@pytest.mark.parametrize("paravirtual", [False, True])
def test_legacy_streams_between_all_wrappers(wrapper: str, to: str, paravirtual: bool) -> None:
    """What is made holds the libxc stream that a bare one becomes, and the device model's file."""
    for seed, width in ((1, 4), (2, 8)):
        rng = random.Random(seed)
        stream = legacy_pv(rng, width) if paravirtual else legacy_hvm(rng, width, SIGNED)
        data = LEGACY[wrapper](stream)
        expected = converted(stream, format="libxc", device_model=False)
        for target in (data, Pipe(data)):
            made = converted(target, to=to)
            with open_image(made) as image:
                assert (image.format, image.complete) == (to, True)
                assert not image.problems
                models = [bytes(each.payload) for each in image.emulators]
                if wrapper in ("xl", "libvirt") and to in ("xl", "libvirt", "xapi"):
                    same = wrapper == to or to != "xl"
                    assert bool(image.config) == same
            assert libxc_of(made) == expected
            there = to != "libxc" and not paravirtual
            assert models == ([stream.partition(SIGNED)[2]] if there else [])


def test_a_wrapper_stays_without_a_format() -> None:
    stream = legacy_hvm(random.Random(5), 8, SIGNED)
    for wrapper in ("xl", "libvirt", "xapi"):
        data = LEGACY[wrapper](stream)
        made = converted(data)
        with open_image(made) as image:
            assert image.format == wrapper and image.complete
        if wrapper != "xapi":  # which has a time in it
            assert made == converted(data, to=wrapper)
        out = io.BytesIO()
        assert convert(data, out).notes == []


def test_a_disk_around_a_legacy_image() -> None:
    stream = legacy_hvm(random.Random(6), 4, SIGNED)
    disk = in_legacy_xapi(stream) + bytes(1 << 16)
    assert converted(disk, to="libxl") == converted(in_legacy_xapi(stream), to="libxl")
    head = stream.partition(SIGNED)[0]
    with pytest.raises(FormatError, match="unknown signature"):
        converted(b"XenSavedDomain\n" + head + bytes(100), to="libxl")
    with pytest.raises(TruncatedError):
        converted(in_legacy_xapi(stream)[:-1], to="libxl")


@pytest.mark.parametrize("to", FORMATS)
def test_a_legacy_stream_among_records(to: str) -> None:
    stream = legacy_hvm(random.Random(7), 8, b"DeviceModelRecord0002")
    for inner in (stream, stream[: stream.rindex(b"DeviceModelRecord0002")]):
        data = among_records(inner, xapi_record(0x0F11, b"VARS"))
        out = io.BytesIO()
        done = convert(data, out, to=to)
        assert libxc_of(out.getvalue()) == converted(inner, format="libxc", device_model=False)
        with open_image(out.getvalue()) as image:
            assert image.complete and not image.problems
            kept = [image.body(r) for r in image.records_of("xapi", streams.XAPI_VARSTORED)]
            assert kept == ([b"VARS"] if to == "xapi" else [])
            if to != "libxc":
                assert len(image.emulators) == (inner is stream)
        assert any("UEFI variables" in note for note in done.notes) == (to != "xapi")
    with pytest.raises(LimitError, match="kept=N"):
        converted(among_records(stream, xapi_record(0x0F11, bytes(99))), limits=Limits(kept=50))


def test_what_has_records_already() -> None:
    with pytest.raises(UnsupportedError, match="not a legacy stream"):
        converted(WRAPPED["xapi"])
    with pytest.raises(UsageError, match="unknown format"):
        converted(WRAPPED["xapi"], to="vhd")


def test_every_item_has_its_way() -> None:
    assert set(_WRITERS) == set(get_args(Item))
