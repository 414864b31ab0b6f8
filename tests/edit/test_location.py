from __future__ import annotations

import doctest
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.context.vmport import Buffer, VmportState, to_record
from hvmctx.edit import location
from hvmctx.edit.editor import edit
from hvmctx.edit.location import of_offset, of_path, stretches
from hvmctx.errors import HvmctxError, MissingRecordError, UsageError
from hvmctx.image.image import open_image
from tests.builders import altered
from tests.builders.contexts import msrs, xsave
from tests.builders.samples import EXAMPLE, IMAGES, context_bytes
from tests.builders.streams import SMALL, libxc_head, page_data, record, word


def odd_context() -> bytes:
    """Old, variable, repeated and unknown records, and VMPORT's."""
    state = VmportState.empty()
    state.guestinfo[b"key"] = b"value"
    state.channels[1].recv[2] = Buffer(b"abc")
    records = [
        Record("CPU", 0, bytes(range(254)) * 4), Record("CPU", 1, bytes(1024)),
        Record("TSC_ADJUST", 0, bytes(8)), Record("TSC_ADJUST", 0, bytes(9)),
        Record("CPU_MSR", 0, msrs((0x48, 0, 1), (0x49, 0, 2))),
        Record("CPU_XSAVE", 0, xsave(3, b"abc")), to_record(state), Record(99, 1, b"abc"),
        Record("END", 0),
    ]  # fmt: skip
    return HvmContext(records, b"tail").to_bytes()


@pytest.mark.parametrize("data", [EXAMPLE, *IMAGES, SMALL, context_bytes(), odd_context()], ids=str)
def test_there_and_back(data: Any) -> None:
    """Every value is where it is said to be, and that place is said to be its."""
    with open_image(data) as image:
        editor, found = edit(image), 0
        every = list(editor.paths())
        for path in every[:: 1 + len(every) // 150]:
            try:
                place = of_path(image, path)
            except MissingRecordError:  # beyond the end of a short record
                continue
            value = editor.get(path)
            held = bytes(image.source.read_at(place.offset, place.length))
            if isinstance(value, bytes):
                assert held == value, path
            elif isinstance(value, int) and not path.startswith(("PIC", "IOAPIC", "CPU/")):
                order = "big" if path.startswith(("libxl", "libxc")) else "little"
                order = "little" if "domain_header" in path else order
                signed = value < 0
                assert int.from_bytes(held, order, signed=signed) == value, path  # type: ignore[arg-type]
            elif path.startswith("config."):
                assert held.decode().strip('"') == value
            if place.length:
                back = of_offset(image, place.offset + place.length - 1)
                if path.startswith("EMULATOR_CONTEXT"):  # of a section each byte is by itself
                    assert back.record == "EMULATOR_CONTEXT"
                    continue
                assert path in back.paths and back.byte == place.length - 1
                assert (back.offset, back.length) == (place.offset, place.length)
            found += 1
        assert found > 10


@settings(max_examples=40)
@given(st.sampled_from([EXAMPLE.read_bytes(), SMALL, odd_context()]), st.data())
def test_every_byte_is_something(data: bytes, draw: st.DataObject) -> None:
    """And a value that is named there has that byte."""
    offset = draw.draw(st.integers(0, len(data) - 1))
    with open_image(data) as image:
        found = of_offset(image, offset)
        assert found.offset <= offset < found.offset + found.length
        assert found.byte == offset - found.offset and (found.paths or found.what)
        for path in found.paths:
            there = of_path(image, path)
            assert there.offset <= offset < there.offset + there.length
        for outside in (-1, len(data), len(data) + 100):
            with pytest.raises(UsageError, match="not within the image"):
                of_offset(image, outside)


def test_pages() -> None:
    data = libxc_head() + record(16) + page_data(word(5), word(6, 0xF), word(7)) + record(0)
    resent = libxc_head() + record(16) + page_data(word(5)) + page_data(word(5)) + record(0)
    with open_image(data) as image:
        place = of_path(image, "pfn[7][0x10:+4]")
        assert of_offset(image, place.offset).paths == ["pfn[0x7]"]
        assert of_offset(image, place.offset).byte == 16
        batch = image.records_of("libxc", 1)[0].body_offset
        assert of_offset(image, batch).what == "the count"
        assert of_offset(image, batch + 17).what == "the word of pfn 0x6"
        with pytest.raises(MissingRecordError):
            of_path(image, "pfn[6]")
    with open_image(resent) as image:
        first, second = image.records_of("libxc", 1)
        assert of_offset(image, first.body_end - 1).what == "pfn 0x5, which is sent again later"
        assert of_offset(image, second.body_end - 1).paths == ["pfn[0x5]"]


def test_what_is_no_value() -> None:
    with open_image(SMALL) as image:
        for offset, what in (
            (3, "the magic"), (48, "the length of the configuration"),
            (image.records[0].offset + 4, "the record's header"),
            (image.records_of("libxl", 3)[0].body_end, "padding"),
        ):  # fmt: skip
            found = of_offset(image, offset)
            assert found.what == what and not found.paths and what in str(found)
        for path in ("format", "pfn[1].type"):
            with pytest.raises(UsageError, match="not bytes of the input"):
                of_path(image, path)
        with pytest.raises(MissingRecordError):
            of_path(image, "CPU/9.rip")


def test_several_values() -> None:
    with open_image(EXAMPLE) as image:
        whole = of_path(image, "PIT.channels[1]")
        assert whole.length == 16 and whole.offset == of_path(image, "PIT.channels[1].count").offset
        assert of_path(image, "CPU/0").length == 1032
        assert of_path(image, "CPUID[7,0]").length == 16


def test_damaged_images() -> None:
    data = EXAMPLE.read_bytes()
    for cut in range(60, len(data), 5001):
        with open_image(data[:cut]) as image:
            for offset in range(0, cut, 977):
                try:
                    assert str(of_offset(image, offset))
                except HvmctxError as error:
                    assert str(error)


def test_the_example_of_the_docstring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLE.parent.parent)
    assert doctest.testmod(location).failed == 0


@settings(max_examples=25)
@given(st.integers(0, 1 << 32))
def test_stretches_and_their_parts_follow_each_other(seed: int) -> None:
    """Of altered images too: each byte of a stretch is in one part."""
    rng = random.Random(seed)
    data = altered._image(rng) if seed % 4 else EXAMPLE.read_bytes()
    try:
        image = open_image(data)
        found = [(one, list(one.parts())) for one in stretches(image)]
    except HvmctxError:
        return
    last = 0
    for one, parts in found:
        assert last <= one.start <= one.end
        at = last = one.start
        for part in parts:
            assert part.offset == at and part.length > 0 and (part.paths or part.what)
            at += part.length
        assert at == one.end
