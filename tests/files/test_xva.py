from __future__ import annotations

import gzip
import io
import lzma
import random
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.errors import FormatError, HvmctxError, LimitError, TruncatedError
from hvmctx.files.opening import open_source
from hvmctx.files.source import FileSource, Source
from hvmctx.files.xva import suspended_disk
from hvmctx.image.image import open_image
from hvmctx.limits import Limits
from tests.builders.examples import few
from tests.builders.streams import Pipe
from tests.builders.wrappers import WRAPPED, xva

BLOCK = 1 << 20
HEAD = b"XenSavedDomv2-\n"
DISK = (
    HEAD.ljust(BLOCK, b"\1") + bytes(BLOCK) + b"\2" * BLOCK + bytes(3 * BLOCK) + b"end" + bytes(500)
)
"""Of which four blocks are left out, and the last is shorter."""
XVA = xva(DISK)
THIRD = XVA.index(b"Ref:4/00000002")


def whole(source: Source) -> bytes:
    data = b"".join(iter(lambda: bytes(source.read(300_000)), b""))
    source.raise_trouble()
    return data


def test_the_disk_is_read_in_order() -> None:
    assert len(XVA) < len(DISK)
    for target in (
        XVA,
        Pipe(XVA),
        Pipe(XVA, 1000),
        gzip.compress(XVA, 1),
        lzma.compress(XVA, preset=0),
    ):
        with open_source(target) as source:
            assert source.seekable == (target is XVA)
            assert source.size == (len(DISK) if target is XVA else None)
            assert whole(source) == DISK


def test_without_copying() -> None:
    with open_source(io.BytesIO(XVA)) as source:
        assert source.seekable
        rng = random.Random(1)
        for _ in range(200):
            at = rng.choice((rng.randrange(len(DISK) + 10), BLOCK * rng.randrange(8) - 3))
            at, count = max(0, at), rng.choice((0, 1, 8, 5000, BLOCK + 2, 3 * BLOCK))
            assert source.read_at(at, count) == DISK[at : at + count]
        assert source.read_at(len(DISK), 5) == b""


@pytest.mark.parametrize("checksum", ["xxhash", "checksum"])
@pytest.mark.parametrize("compressed", [False, True])
def test_an_image_in_it(checksum: str, compressed: bool) -> None:
    """As XAPI exports a suspended guest, of several disks."""
    data = xva(WRAPPED["xapi"] + bytes(2 * BLOCK), checksum=checksum)
    with open_image(gzip.compress(data, 1) if compressed else data) as image:
        assert (image.format, image.complete) == ("xapi", True) and not image.problems
        assert image.compression == ("gzip" if compressed else "")
        with open_image(WRAPPED["xapi"]) as alone:
            assert image.context.to_bytes() == alone.context.to_bytes()
            assert image.config == alone.config


def test_a_disk_alone() -> None:
    """Without the description before it."""
    start = XVA.index(b"Ref:4/")
    with open_source(XVA[start:]) as source:
        assert whole(source) == DISK


BAD = {
    "no disk": (xva(b"no image" * 100), FormatError, "no disk in the archive"),
    "nothing more": (XVA[:1024], FormatError, "no disk in the archive"),
    "cut in a header": (XVA[: THIRD + 100], TruncatedError, "within a header"),
    "cut in a block": (XVA[: THIRD + 1000], TruncatedError, "ends within"),
    "damaged": (XVA.replace(b"Ref:4/00000002", b"Ref:4/00000003", 1), FormatError, "is damaged"),
    "no number": (XVA[: THIRD + 124] + b"9" * 12 + XVA[THIRD + 136 :], FormatError, "is damaged"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_said(name: str) -> None:
    data, error, message = BAD[name]
    for target in (data, Pipe(data)):
        with pytest.raises(error, match=message) as caught, open_source(target) as source:
            whole(source)
        assert caught.value.layer == "xva" and 0 <= caught.value.offset <= len(data)


def member(name: str, data: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return out.getvalue()[: 512 - -len(data) // 512 * 512]


def test_blocks_far_away_and_out_of_order() -> None:
    first = member("Ref:1/00000000", HEAD.ljust(BLOCK, b"\1"))
    far = first + member("Ref:1/99999999", b"x")
    with open_source(far, Limits(unpacked=1 << 50)) as source:
        assert source.size == 99999999 * BLOCK + 1  # which costs nothing
    for target in (far, Pipe(far)):
        with pytest.raises(LimitError, match="unpacked=N"), open_source(target) as source:
            whole(source)


@pytest.mark.parametrize(
    ("blocks", "what"),
    [
        ((2, 1), "block 1 after block 2"),
        ((2, 2), "block 2 after block 2"),
        ((0,), "block 0 after block 0"),
    ],
)
def test_blocks_that_are_not_in_order(blocks: tuple[int, ...], what: str) -> None:
    """The disk ends before them, whether its archive is a file or a pipe."""
    data = member("Ref:1/00000000", HEAD.ljust(BLOCK, b"\1"))
    for number in blocks:
        data += member(f"Ref:1/{number:08}", bytes([number]) * 700)
    there = HEAD.ljust(BLOCK, b"\1")
    if len(blocks) > 1:
        there += bytes(BLOCK) + b"\2" * 700
    for target in (data, Pipe(data)):
        with open_source(target) as source:
            assert source.trouble is None
            assert b"".join(iter(lambda: bytes(source.read(300_000)), b"")) == there
            with pytest.raises(FormatError, match=f"'Ref:1' are not in order: found {what}"):
                source.raise_trouble()


def test_damage_after_the_image_is_not_reached() -> None:
    """Nor before it: what is read of a file and of a pipe is the same."""
    small = WRAPPED["xapi"].ljust(BLOCK, b"\0")
    for more in (member("Ref:1/00000003", b"x"), b""):
        data = member("Ref:1/00000000", small) + more + member("Ref:1/00000000", b"again")
        for target in (data, Pipe(data)):
            with open_image(target) as image:
                assert image.format == "xapi" and image.complete and not image.problems
    exact = member("Ref:1/00000000", WRAPPED["xapi"]) + member("Ref:1/00000000", b"again")
    cut = member("Ref:1/00000000", WRAPPED["xapi"])[: 512 + len(WRAPPED["xapi"]) - 100]
    for data, problem in ((exact, "block 0 after block 0"), (cut, "ends within")):
        said = []
        for target in (data, Pipe(data)):
            with open_image(target) as image:
                said.append([str(one) for one in image.problems])
        assert said[0] == said[1] and problem in said[0][-1]


@few
@given(st.data())
def test_any_bytes_end(data: st.DataObject) -> None:
    small = xva(HEAD + bytes(600), other=b"x")
    made = bytearray(small)
    for _ in range(data.draw(st.integers(1, 4))):
        made[data.draw(st.integers(0, 4000))] = data.draw(st.integers(0, 255))
    for target in (bytes(made), Pipe(bytes(made))):
        try:
            with open_source(target, Limits(unpacked=1 << 24)) as source:
                whole(source)
        except HvmctxError:
            pass


def test_who_may_read_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("xva") / "guest.xva"
    path.write_bytes(XVA)
    path.chmod(0o600)
    with open_source(path) as source:
        assert source.access is not None and source.name == str(path)
        assert not isinstance(source, FileSource)
    with pytest.raises(HvmctxError), suspended_disk(open_source(b"")):
        pass


def test_the_start_of_a_name_is_no_archive() -> None:
    assert open_source(b"Ref:" + bytes(1000)).read(8) == b"Ref:\0\0\0\0"
