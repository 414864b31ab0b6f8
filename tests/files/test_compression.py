from __future__ import annotations

import gzip
import io
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from hvmctx.edit.strip import strip
from hvmctx.errors import FormatError, HvmctxError, InputError
from hvmctx.files.opening import open_seekable, open_source
from hvmctx.image.image import open_image
from hvmctx.json_form.document import Document
from hvmctx.limits import Limits
from hvmctx.save.convert import convert
from tests.builders.samples import DATA as SAMPLES
from tests.builders.samples import EXAMPLE, context_bytes

DATA = bytes(range(256)) * 4000
LEGACY = SAMPLES / "streams" / "legacy_hvm_w64.in.bin"


def zstd(data: bytes) -> bytes:
    zstandard = pytest.importorskip("zstandard")
    packed: bytes = zstandard.ZstdCompressor().compress(data)
    return packed


def lz4(data: bytes) -> bytes:
    frame = pytest.importorskip("lz4.frame")
    packed: bytes = frame.compress(data)
    return packed


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress, "xz": lzma.compress, "zstd": zstd, "lz4": lz4,
}  # fmt: skip


@pytest.mark.parametrize("name", PACKERS)
def test_contents(name: str, tmp_path: Path) -> None:
    path = tmp_path / "packed"
    path.write_bytes(PACKERS[name](DATA))
    for target in (path, path.read_bytes()):
        with open_source(target) as source:
            assert (source.compression, source.seekable) == (name, False)
            assert source.skip(1000) == 1000
            assert source.read(len(DATA)) == DATA[1000:]
            assert source.read(1) == b""


@pytest.mark.parametrize("name", PACKERS)
def test_images(name: str) -> None:
    with open_image(PACKERS[name](EXAMPLE.read_bytes())) as image, open_image(EXAMPLE) as plain:
        assert image.compression == name
        assert image.context.to_bytes() == plain.context.to_bytes()
        assert image.complete and image.params == plain.params


@pytest.mark.parametrize("name", PACKERS)
def test_members_may_follow_one_another(name: str) -> None:
    packed = PACKERS[name](DATA) + PACKERS[name](b"more")
    with open_source(packed) as source:
        assert source.read(len(DATA) + 100) == DATA + b"more"


@pytest.mark.parametrize("name", PACKERS)
def test_members_may_be_padded(name: str) -> None:
    with open_source(PACKERS[name](DATA) + bytes(200_000)) as source:
        assert source.read(len(DATA) + 100) == DATA
        assert source.trouble is None


@pytest.mark.parametrize("name", PACKERS)
def test_every_truncation_of_a_packed_context(name: str) -> None:
    """What there is of it is read as if that were all; the first problem or the last says
    why there is no more."""
    packed = PACKERS[name](context_bytes())
    for cut in range(8, len(packed), 7):
        try:
            image = open_image(packed[:cut])
        except FormatError as error:  # nothing came out at all
            assert error.layer == name
            continue
        with image:
            assert image.problems[-1].layer == name
            there = image.context.to_bytes()
            assert context_bytes().startswith(there)


@pytest.mark.parametrize(
    ("name", "more"), [*((name, True) for name in PACKERS), ("gzip", False), ("xz", False)]
)
def test_an_image_that_is_all_there_in_damaged_data(name: str, more: bool) -> None:
    """With something else after it, or without the last byte of the checksum."""
    packed = PACKERS[name](EXAMPLE.read_bytes())
    with open_image(packed + b"\xff" * 99 if more else packed[:-1]) as image:
        assert image.complete and [problem.layer for problem in image.problems] == [name]
        assert image.context.damage is None
        with open_image(EXAMPLE) as plain:
            assert image.context.to_bytes() == plain.context.to_bytes()
            assert image.end == plain.end


@pytest.mark.parametrize("name", ["gzip", "xz"])
def test_an_image_that_is_cut_off(name: str) -> None:
    """As much is read of it as of the same file that is not compressed."""
    data = EXAMPLE.read_bytes()
    packed = PACKERS[name](data)
    for cut in (len(packed) // 2, len(packed) - 1500):
        with open_source(packed[:cut]) as source:
            there = bytes(source.read(len(data)))
        with open_image(packed[:cut]) as image, open_image(there) as plain:
            *found, last = map(str, image.problems)
            assert found == list(map(str, plain.problems)) and last.startswith(f"{name}: ")
            assert (image.end, len(image.records)) == (plain.end, len(plain.records))


@pytest.mark.parametrize("work", [strip, convert, lambda data, out: Document.of_input(data)])
def test_those_who_want_all_of_it_refuse(work: Callable[[bytes, io.BytesIO], object]) -> None:
    packed = gzip.compress(LEGACY.read_bytes() if work is convert else EXAMPLE.read_bytes())
    with pytest.raises(FormatError, match="gzip: "):
        work(packed[:-1], io.BytesIO())
    with pytest.raises(FormatError, match="gzip: "):
        open_seekable(packed[:-1])


@pytest.mark.parametrize("name", PACKERS)
def test_damaged_data(name: str) -> None:
    packed = bytearray(PACKERS[name](DATA))
    packed[len(packed) // 2 :] = b"\xff" * (len(packed) - len(packed) // 2)
    with open_source(bytes(packed)) as source:
        assert len(source.read(len(DATA))) < len(DATA)
        with pytest.raises(FormatError, match=f"{name}: offset"):
            source.raise_trouble()


@pytest.mark.parametrize(
    "head", [b"\x1f\x8b", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18"]
)
@pytest.mark.parametrize("tail", [b"", b"\xff" * 100, bytes(100)])
def test_magic_alone(head: bytes, tail: bytes) -> None:
    with pytest.raises(HvmctxError), open_image(head + tail) as image:
        image.context.to_bytes()


def test_windows_are_bounded() -> None:
    """An xz file may claim a dictionary of 4 GiB: refused, not allocated."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 20}]
    packed = bytearray(lzma.compress(b"x" * 100, filters=filters, check=lzma.CHECK_NONE))
    at = packed.index(b"\x21\x01") + 2  # the filter's properties: its dictionary size
    packed[at] = 40
    import struct
    import zlib

    header = packed[12 : 12 + (packed[12] + 1) * 4 - 4]
    packed[12 + len(header) : 16 + len(header)] = struct.pack("<I", zlib.crc32(header))
    with pytest.raises(FormatError, match=r"xz: offset .*emory"):
        open_image(bytes(packed))


@pytest.mark.parametrize("window", [0, 1, 1 << 20, 1 << 32, (1 << 63) - 1])
def test_any_window(window: int) -> None:
    """zstd takes no bound below 1 KiB or above 2 GiB; what it takes 0 for is its own default."""
    limits = Limits(window=window)
    with open_source(zstd(b"x" * 100), limits) as source:
        assert source.read(100) == b"x" * 100
    long = zstd(DATA * 2)  # some MiB back
    with open_source(long, limits) as source:
        source.read(len(DATA))
        assert (source.trouble is not None) == (window < 1 << 21)


def test_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(InputError, match=r"pip install hvmctx\[compression\]"):
        open_source(b"\x28\xb5\x2f\xfd" + bytes(20))
