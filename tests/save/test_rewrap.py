from __future__ import annotations

import io
import json
from typing import Any

import pytest

from hvmctx.errors import (
    FieldError,
    FormatError,
    HvmctxError,
    MissingRecordError,
    UnsupportedError,
    UsageError,
)
from hvmctx.image.image import open_image
from hvmctx.save.convert import convert
from hvmctx.save.rewrap import AROUND_LIBXL, FORMATS, rewrap
from tests.builders.samples import EXAMPLE, context_bytes
from tests.builders.streams import Pipe, hvm, libxc_head, libxl, libxl_head, pv, record
from tests.builders.wrappers import (
    CONFIG,
    GUEST,
    VM,
    WRAPPED,
    XML,
    emulator_of,
    in_xapi,
    libvirt,
    libxc_of,
    xapi,
    xapi_record,
)

IMAGES = {**WRAPPED, "libxl": GUEST[GUEST.index(libxl_head()) :], "libxc": libxc_of(GUEST)}


def rewrapped(data: bytes, to: str, given: bytes | None = None) -> tuple[bytes, list[str]]:
    out = io.BytesIO()
    with open_image(data) as image:
        notes = rewrap(image, out, to, given)
    return out.getvalue(), notes


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("start", FORMATS)
def test_between_all_wrappers(start: str, to: str) -> None:
    """The libxc stream stays, and the device model's file; and what describes the guest, as far
    as it can be said."""
    data, notes = rewrapped(IMAGES[start], to)
    if start == to:
        assert (data, notes) == (IMAGES[start], [])
    assert libxc_of(data) == libxc_of(GUEST)
    with open_image(data) as image:
        assert image.format == to and image.complete and not image.problems and not image.notes
        payloads = [bytes(each.payload) for each in image.emulators]
        assert payloads == ([] if "libxc" in (start, to) else [emulator_of(GUEST)])
        if start in ("xapi", "libvirt", "xl") and to in ("xapi", "libvirt"):
            said, expected = image.config, json.loads(CONFIG.rstrip(b"\0"))
            if start != to:
                online = [0, 1] if to == "libvirt" else [0]  # the least XML has no current vcpus
                expected["b_info"]["avail_vcpus"] = online
            assert said == expected
    out = io.BytesIO()
    done = convert(Pipe(IMAGES[start]), out, to=to)
    same = [again for again in (out.getvalue(), data) if to != "xapi" or start == to]
    assert len(set(same)) <= 1 and done.notes == notes and done.stays
    lost = [note for note in notes if note.startswith("left out")]
    expected_lost = 2 * (start == "xapi" != to) + (to == "libxc" != start)
    assert len(lost) == expected_lost


def test_a_libxl_stream_stays_whole() -> None:
    """With records that nobody knows, padding that is not zero, and checkpoints."""
    odd = record(2, b"\2" + bytes(7) + b"k\0v\0", pad=b"\1") + record(0x80000001, b"x", pad=b"\2")
    stream = libxl(odd)
    checkpointed = (
        libxl_head() + record(1) + libxc_head() + record(16) + record(14) + record(4) + record(0)
        + record(0)
    )  # fmt: skip
    for each in (stream, checkpointed):
        for start in ("libxl", "libvirt"):
            data = each if start == "libxl" else libvirt(each)
            for to in AROUND_LIBXL:
                assert rewrapped(data, to)[0].endswith(each)
    data, notes = rewrapped(stream, "xapi")
    assert libxc_of(data) == libxc_of(stream)
    assert notes == ["left out: the device model's keys for xenstore "
                     "(EMULATOR_XENSTORE_DATA, 12 bytes)"]  # fmt: skip
    with pytest.raises(UnsupportedError, match="checkpointed"):
        rewrapped(checkpointed, "xapi")


def test_a_pv_guest_and_what_follows_the_image() -> None:
    data = in_xapi(pv()) + b"rest of the disk"
    made, _ = rewrapped(data, "libvirt")
    assert libxc_of(made) == pv() and not made.endswith(b"disk")
    assert rewrapped(data, "xapi")[0] == data[:-16]


@pytest.mark.parametrize("start", FORMATS)
def test_a_given_description(start: str) -> None:
    for to, given in (("xl", CONFIG), ("libvirt", XML), ("xapi", VM)):
        data, notes = rewrapped(IMAGES[start], to, given)
        assert all(note.startswith("left out") for note in notes)
        with open_image(data) as image:
            assert image.complete and image.config == json.loads(CONFIG.rstrip(b"\0"))
        if start == to:  # and all else stays
            again, _ = rewrapped(data, to, given)
            assert len(again) == len(data)
            assert data.endswith(IMAGES[to][-300:]) and not notes
    with open_image(rewrapped(xapi(xapi_record(0xF0), hvm())[:15] + xapi_record(0xF0) + hvm()
                              + xapi_record(0xFFFF), "xapi", VM)[0]) as image:  # fmt: skip
        assert next(r.name for r in image.records) == "XENOPS" and image.complete


BAD: list[tuple[bytes, str, bytes | None, type[HvmctxError], str]] = [
    (WRAPPED["xl"], "libxl", b"x", UsageError, "a libxl stream has no description"),
    (WRAPPED["xl"], "xl", b"{", FieldError, "not JSON"),
    (WRAPPED["xl"], "libvirt", b"<a/>", FormatError, "not that of a domain"),
    (WRAPPED["xl"], "xapi", b"(", FormatError, "not an S-expression"),
    (WRAPPED["xl"][:-1], "xapi", None, FormatError, "the input ends"),
    (xapi(), "libxl", None, MissingRecordError, "no libxc stream"),
    (context_bytes(), "libxl", None, MissingRecordError, "no libxc stream"),
    (xapi(xapi_record(0x0F10), b"state of a vGPU"), "xl", None, UnsupportedError,
     "only its own reader"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "to", "given", "error", "message"), BAD)
def test_what_cannot_be(
    data: bytes, to: str, given: bytes | None, error: type[HvmctxError], message: str
) -> None:
    with pytest.raises(error, match=message):
        rewrapped(data, to, given)


def test_odd_configurations() -> None:
    """None, and such as nobody can put in other words."""
    for start in ("libxl", "libxc"):
        for to in FORMATS:
            rewrapped(IMAGES[start], to)
    odd: list[Any] = [[], 5, {"c_info": 3, "b_info": {"max_memkb": "many", "max_vcpus": None}}]
    for config in odd:
        xl = WRAPPED["xl"].replace(CONFIG, json.dumps(config).encode().ljust(len(CONFIG), b" "))
        for to in FORMATS:
            with open_image(rewrapped(xl, to)[0]) as image:
                assert image.complete and not image.problems


def test_a_genuine_image_there_and_back() -> None:
    """What other wrappers have no place for is its configuration."""
    xl = EXAMPLE.read_bytes()
    with open_image(xl) as image:
        config = image.config_text
        assert isinstance(image.config, dict)
    for wrapper in ("xapi", "libvirt"):
        there, _ = rewrapped(xl, wrapper)
        assert rewrapped(there, "xl", config)[0] == xl
