"""libxc streams for fuzzing: valid ones, and edits of any stream that keep its framing, or
break it at a border."""

from __future__ import annotations

import struct
from array import array

from hvmctx.abi import streams
from hvmctx.abi.releases import Release
from hvmctx.fuzz.contexts import mutate_context, valid_context
from hvmctx.fuzz.values import LENGTHS, around
from hvmctx.image.image import Image, open_image
from hvmctx.image.index import IndexedRecord
from hvmctx.stream.libxc import CpuidPolicy, HvmParams, MsrPolicy, PageData, TscInfo
from hvmctx.stream.reader import LIBXC, XAPI, Header
from hvmctx.stream.writer import StreamWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["KINDS", "PARAMS", "make_stream", "mutate_stream", "valid_stream"]

_PAGE = bytes(streams.PAGE_SIZE)
_HVM = streams.GUEST_X86_HVM
KINDS = (0, 0, 0, streams.PAGE_BROKEN, streams.PAGE_XALLOC, streams.PAGE_XTAB)
PARAMS = (
    streams.HVM_PARAM_STORE_PFN, streams.HVM_PARAM_IOREQ_PFN, streams.HVM_PARAM_CONSOLE_PFN,
)  # fmt: skip


def valid_stream(rng: random.Random, version: int = 3) -> bytes:
    """A small HVM guest as a writer has it: policies, pages, TSC, context, parameters."""
    minor = rng.randrange(14, 23)
    policies = (rng.random() < 0.5, rng.random() < 0.5) if version == 3 else (False, False)
    kinds = [
        [rng.choice(KINDS) for _ in range(rng.randrange(1, 5))] for _ in range(rng.randrange(1, 4))
    ]
    context = valid_context(rng, Release("4.17")).to_bytes()
    pages = sum(map(len, kinds))
    params = [(index, rng.randrange(pages)) for index in PARAMS if rng.random() < 0.7]
    return make_stream(version, minor, policies, kinds, context, params)


def make_stream(
    version: int, minor: int, policies: tuple[bool, bool], kinds: Sequence[Sequence[int]],
    context: bytes, params: Sequence[tuple[int, int]],
) -> bytes:  # fmt: skip
    """The stream of a guest saved by 4.`minor`, with a CPUID and an MSR policy or without;
    `kinds` are the types of its pages, of each batch."""
    writer = StreamWriter(LIBXC)
    out = [writer.image_header(version), writer.domain_header(_HVM, (4, minor))]
    if version == 3:
        if policies[0]:
            out.append(writer.record(streams.LIBXC_X86_CPUID_POLICY, _CPUID))
        if policies[1]:
            out.append(writer.record(streams.LIBXC_X86_MSR_POLICY, _MSR))
        out.append(writer.record(streams.LIBXC_STATIC_DATA_END))
    pfn = 0
    for of_batch in kinds:
        out.append(writer.record(streams.LIBXC_PAGE_DATA, _batch(pfn, of_batch)))
        pfn += len(of_batch)
    out.append(writer.record(streams.LIBXC_X86_TSC_INFO, TscInfo(0, 1, 2, 3).to_bytes()))
    out.append(writer.record(streams.LIBXC_HVM_CONTEXT, context))
    body = HvmParams(list(params)).to_bytes()
    out += [writer.record(streams.LIBXC_HVM_PARAMS, body), writer.record(streams.LIBXC_END)]
    return b"".join(out)


_CPUID = CpuidPolicy([(0, 0xFFFFFFFF, 1, 0x68747541, 0x444D4163, 0x69746E65)]).to_bytes()

_MSR = MsrPolicy([(0, 0, 0)]).to_bytes()


def _batch(pfn: int, kinds: Sequence[int]) -> bytes:
    """The body of a PAGE_DATA record of pfns from `pfn` on."""
    words = [kind << streams.PAGE_TYPE_SHIFT | pfn + at for at, kind in enumerate(kinds)]
    pages = sum(kind in streams.PAGE_TYPES_WITH_DATA for kind in kinds)
    return PageData(array("Q", words), pages * _PAGE).to_bytes()


class _Pieces:
    """A stream as headers and records, each a (layer, number or -1, bytes)
    that may be edited."""

    def __init__(self, image: Image) -> None:
        self.records: list[tuple[str, int, bytes]] = []
        for item in image.items():
            if isinstance(item, Header):
                data = bytes(image.source.read_at(item.body_offset, item.length))
                self.records.append((item.layer, -1, item.raw + data))
            else:
                self.records.append((item.layer, item.type, _body(image, item)))

    @property
    def has_records(self) -> bool:
        return any(number >= 0 for _, number, _ in self.records)

    def libxc(self, number: int) -> list[int]:
        """Where the libxc records of this type stand."""
        return [at for at, piece in enumerate(self.records) if piece[:2] == (LIBXC, number)]

    def join(self) -> bytes:
        out = []
        for layer, number, body in self.records:
            if number >= 0:
                out.append(streams.RECORD_HEADERS[layer].pack(number, len(body)))
            out.append(body)
            if number >= 0:
                out.append(bytes(-len(body) % streams.RECORD_ALIGNS[layer]))
        return b"".join(out)


def _body(image: Image, record: IndexedRecord) -> bytes:
    return bytes(image.source.read_at(record.body_offset, record.length))


def mutate_stream(data: bytes, rng: random.Random, layer: str | None = None) -> tuple[bytes, str]:
    """The stream with one or two edits, and what they are in words."""
    try:
        image = open_image(data, layer=layer)
    except Exception:  # nothing to take apart: bytes then
        return _bytes(data, rng)
    pieces = _Pieces(image)
    if not pieces.has_records:
        return _bytes(data, rng)
    what = []
    for _ in range(rng.choice((1, 1, 1, 2))):
        if pieces.has_records:  # the first edit may have made the last one into bytes
            what.append(rng.choice(_EDITS)(rng, pieces))
    made = pieces.join()
    if rng.random() < 0.12:
        made, more = _bytes(made, rng)
        what.append(more)
    return made, "; ".join(what)


def _bytes(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    made = bytearray(data)
    kind = rng.randrange(3)
    if kind == 0 and made:
        del made[rng.randrange(len(made)) :]
        return bytes(made), "cut"
    if kind == 1 and made:
        at = rng.randrange(min(len(made), 4096))
        made[at] = rng.choice((0, 1, 0x80, 0xFF, made[at] ^ 1 << rng.randrange(8)))
        return bytes(made), f"byte {at:#x}"
    return bytes(made) + rng.randbytes(rng.randrange(1, 20)), "bytes after the end"


def _place(rng: random.Random, pieces: _Pieces) -> int:
    places = [at for at, (_, number, _) in enumerate(pieces.records) if number >= 0]
    return rng.choice(places)


def _drop(rng: random.Random, pieces: _Pieces) -> str:
    at = _place(rng, pieces)
    if sum(number >= 0 for _, number, _ in pieces.records) < 2:
        return "nothing"
    return f"record {pieces.records.pop(at)[1]:#x} dropped"


def _repeat(rng: random.Random, pieces: _Pieces) -> str:
    piece = pieces.records[_place(rng, pieces)]
    pieces.records.insert(_place(rng, pieces), piece)
    return f"record {piece[1]:#x} again"


def _swap(rng: random.Random, pieces: _Pieces) -> str:
    one, other = _place(rng, pieces), _place(rng, pieces)
    records = pieces.records
    records[one], records[other] = records[other], records[one]
    return f"records {records[one][1]:#x} and {records[other][1]:#x} swapped"


def _retype(rng: random.Random, pieces: _Pieces) -> str:
    at = _place(rng, pieces)
    layer, _, body = pieces.records[at]
    number = rng.choice((*_types(layer), 0x80000000, 0x80000013, 0xFFFFFFFF))
    pieces.records[at] = layer, number, body
    return f"type {number:#x}"


def _types(layer: str) -> Iterable[int]:
    """Those of a layer, and some that it does not have."""
    return streams.XAPI_RECORDS if layer == XAPI else range(0x14)


def _resize(rng: random.Random, pieces: _Pieces) -> str:
    at = _place(rng, pieces)
    layer, number, body = pieces.records[at]
    size = rng.choice((0, *around(len(body)), *around(8), max(0, len(body) - 8), len(body) + 8))
    pieces.records[at] = layer, number, body[:size].ljust(size, b"\0")
    return f"record {number:#x} of {size} bytes"


def _number(rng: random.Random, pieces: _Pieces) -> str:
    """A u32 in the first bytes of a body: counts, ids, reserved fields."""
    at = _place(rng, pieces)
    layer, number, body = pieces.records[at]
    if len(body) < 4:
        return "nothing"
    place = rng.randrange(0, min(len(body) - 3, 32), 4)
    value = rng.choice((*LENGTHS, *around(int.from_bytes(body[place : place + 4], "little"))))
    made = body[:place] + struct.pack("<I", value & 0xFFFFFFFF) + body[place + 4 :]
    pieces.records[at] = layer, number, made
    return f"record {number:#x}: {value:#x} at {place}"


def _word(rng: random.Random, pieces: _Pieces) -> str:
    """A page word: its type, reserved bits, a pfn far away."""
    found = pieces.libxc(streams.LIBXC_PAGE_DATA)
    batches = [at for at in found if len(pieces.records[at][2]) >= 16]
    if not batches:
        return "nothing"
    at = rng.choice(batches)
    layer, number, body = pieces.records[at]
    count = min(int.from_bytes(body[:4], "little"), (len(body) - streams.PAGE_DATA_HEAD.size) // 8)
    place = streams.PAGE_DATA_HEAD.size + 8 * rng.randrange(max(count, 1))
    old = int.from_bytes(body[place : place + 8], "little")
    value = rng.choice((
        old & streams.PFN_MASK | rng.randrange(16) << 60, old | 1 << rng.randrange(52, 60),
        old & ~streams.PFN_MASK | rng.choice((0, 0xFFFFF, 1 << 30, (1 << 52) - 1)),
    ))  # fmt: skip
    pieces.records[at] = layer, number, body[:place] + struct.pack("<Q", value) + body[place + 8 :]
    return f"word {value:#018x}"


def _context(rng: random.Random, pieces: _Pieces) -> str:
    found = pieces.libxc(streams.LIBXC_HVM_CONTEXT)
    if not found:
        return "nothing"
    layer, number, body = pieces.records[found[-1]]
    made, what = mutate_context(body, rng)
    pieces.records[found[-1]] = layer, number, made
    return f"context: {what}"


def _head(rng: random.Random, pieces: _Pieces) -> str:
    """A byte of a header."""
    heads = [at for at, (_, number, head) in enumerate(pieces.records) if number < 0 and head]
    if not heads:
        return "nothing"
    at = rng.choice(heads)
    layer, number, head = pieces.records[at]
    place = rng.randrange(len(head))
    made = bytearray(head)
    made[place] = rng.choice((0, 1, 2, 3, 13, 0x80, 0xFF))
    pieces.records[at] = layer, number, bytes(made)
    return f"header byte {place}"


def _padding(rng: random.Random, pieces: _Pieces) -> str:
    """A record whose padding is not zero."""
    at = _place(rng, pieces)
    layer, number, body = pieces.records[at]
    size = len(body) + 7 & ~7
    if size == len(body):
        size, body = size + 8, body + b"\1"
    head = streams.RECORD_HEADERS[layer].pack(number, len(body))
    pieces.records[at] = layer, -1, head + body.ljust(size, b"\1")
    return f"record {number:#x} with odd padding"


def _static(rng: random.Random, pieces: _Pieces) -> str:
    """What the verifier and the strict view look for in a body: a field for each."""
    at = _place(rng, pieces)
    layer, number, body = pieces.records[at]
    if not body:
        return "nothing"
    made = bytearray(body)
    made[rng.randrange(min(len(made), 24))] = rng.choice((0, 1, 3, 4, 8, 0xFF))
    pieces.records[at] = layer, number, bytes(made)
    return f"record {number:#x}: a byte of its head"


def _verify(rng: random.Random, pieces: _Pieces) -> str:
    """VERIFY, and the last batch again after it, its pages altered or not."""
    found = pieces.libxc(streams.LIBXC_PAGE_DATA)
    if not found:
        return "nothing"
    layer, number, body = pieces.records[found[-1]]
    if rng.random() < 0.5 and len(body) > streams.PAGE_SIZE:
        body = body[:-1] + b"\1"
    again = (layer, number, body)
    pieces.records[found[-1] + 1 : found[-1] + 1] = [(layer, streams.LIBXC_VERIFY, b""), again]
    return "VERIFY, and a batch again"


def _insert(rng: random.Random, pieces: _Pieces) -> str:
    at = _place(rng, pieces)
    layer = pieces.records[at][0]
    number = rng.choice((*_types(layer), 0x80000055))
    body = rng.choice((b"", bytes(8), bytes(24), rng.randbytes(16)))
    pieces.records.insert(at, (layer, number, body))
    return f"record {number:#x} inserted"


_EDITS: tuple[Callable[[random.Random, _Pieces], str], ...] = (
    _drop, _repeat, _swap, _retype, _resize, _resize, _number, _number, _word, _word, _context,
    _insert, _head, _padding, _static, _verify,
)  # fmt: skip
