from __future__ import annotations

import io
import random
import struct
from typing import Any, get_args

import pytest

from hvmctx.errors import FormatError, TruncatedError, UnsupportedError, UsageError
from hvmctx.image.image import open_image
from hvmctx.save.convert import _WRITERS, convert
from hvmctx.stream.legacy import Item
from hvmctx.verify.views import verify
from tests.builders.legacy import legacy_hvm, legacy_pv, longs
from tests.builders.samples import DATA, EXAMPLE
from tests.builders.streams import Pipe

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
    with pytest.raises(UnsupportedError, match="not a legacy stream"):
        converted(small)
    with pytest.raises(UnsupportedError, match="not a legacy stream"):
        converted(small, pv=paravirtual)
    made = converted(small, width=width)
    assert made == converted(small, width=width, pv=paravirtual)
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


def test_every_item_has_its_way() -> None:
    assert set(_WRITERS) == set(get_args(Item))
