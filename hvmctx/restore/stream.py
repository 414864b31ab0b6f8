"""What libxc's restore and libxl's reader do with the streams of an image: `judge`.

Rules are rows in the order of the readers; the first that fires ends the restore. What the
hypervisor says of the HVM context is `restore.context`. Source: tools/libs/guest
(xg_sr_restore*.c), tools/libs/light (libxl_stream_read.c), 4.6 to c447b730, and Debian's
Xen 4.17 fed with altered streams.
"""

from __future__ import annotations

import struct

from hvmctx.abi import streams
from hvmctx.abi.releases import Release, Window
from hvmctx.abi.streams import STATIC_DATA_SINCE, STREAM_V2_SINCE
from hvmctx.image.index import LARGEST_KEPT
from hvmctx.image.indexing import Watcher
from hvmctx.restore.verdict import REFUSE, Verdict
from hvmctx.stream.pages import length_of, pages_start, words_of
from hvmctx.stream.reader import LIBXC, LIBXL, XL, Header

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from hvmctx.image.image import Image
    from hvmctx.image.index import Index, IndexedRecord

_LARGER_RECORDS_SINCE = "4.10"
_PV, _HVM = streams.GUEST_X86_PV, streams.GUEST_X86_HVM

_COMMON = frozenset(
    (streams.LIBXC_END, streams.LIBXC_PAGE_DATA, streams.LIBXC_X86_TSC_INFO,
     streams.LIBXC_VERIFY, streams.LIBXC_CHECKPOINT)
)  # fmt: skip
_STATIC = frozenset(
    (streams.LIBXC_STATIC_DATA_END, streams.LIBXC_X86_CPUID_POLICY, streams.LIBXC_X86_MSR_POLICY)
)
_OF_GUEST = {
    _HVM: frozenset((streams.LIBXC_HVM_CONTEXT, streams.LIBXC_HVM_PARAMS)),
    _PV: frozenset(
        (streams.LIBXC_X86_PV_INFO, streams.LIBXC_X86_PV_P2M_FRAMES, streams.LIBXC_SHARED_INFO,
         streams.LIBXC_X86_PV_VCPU_BASIC, streams.LIBXC_X86_PV_VCPU_EXTENDED,
         streams.LIBXC_X86_PV_VCPU_XSAVE, streams.LIBXC_X86_PV_VCPU_MSRS)
    ),
}  # fmt: skip
_BASIC_SIZES = {4: 2800, 8: 5168}
_LARGEST_HEAD = 4096
_SHIFT_MASK = 31
"""The readers shift a 32-bit 1 by page_shift, and x86 takes five bits of such a count."""


class State:
    """What the readers know so far."""

    image: Index  # of the record that is being judged

    def __init__(self, release: Release, guest: int | None, checkpointed: bool) -> None:
        self.release = release
        self.expected = guest
        self.checkpointed = checkpointed
        self.guest = guest or _HVM
        self.version = 3
        self.static_end = False
        self.pv_width = 0
        self.max_pfn = -1
        self.vcpu0 = False
        self.queueing = False
        self.queued_unknown = False

    @property
    def longest(self) -> int:
        """The most bytes that a libxc record may have."""
        return streams.LARGEST_RECORD if self.release.since(_LARGER_RECORDS_SINCE) else 8 << 20

    def handles(self, number: int) -> bool:
        """Whether this release knows a libxc record for this guest."""
        known = _COMMON | _OF_GUEST.get(self.guest, frozenset())
        if self.release.since(STATIC_DATA_SINCE):
            known |= _STATIC
        return number in known

    def head(self, record: IndexedRecord, size: int = _LARGEST_HEAD) -> bytes:
        """The first bytes of a body: enough for what is checked of it."""
        return bytes(self.image.start_of(record, size))

    def number(self, record: IndexedRecord, at: int) -> int:
        """The u32 at that offset of a body."""
        return int.from_bytes(self.head(record, at + 4)[at:], "little")


class StreamRule:
    """One check of a reader. `record` is a type's name, `*` for all of the layer;
    `releases` are those that make the check, out of those that know these streams."""

    __slots__ = ("fires", "id", "layer", "record", "releases", "text")

    def __init__(
        self,
        layer: str,
        record: str,
        identifier: str,
        fires: Callable[[State, IndexedRecord], bool],
        text: str,
        since: str | None = None,
    ) -> None:
        self.layer = layer
        self.record = record
        self.id = identifier
        self.fires = fires
        self.text = text
        self.releases = Window(since, oldest=STREAM_V2_SINCE)


def _no_static_end(state: State, _: IndexedRecord) -> bool:
    return state.version == 3 and not state.static_end


def _words_missing(_: State, record: IndexedRecord) -> bool:
    return record.length < pages_start(record.count)


def _tops(state: State, record: IndexedRecord) -> bytes:
    return bytes(state.image.words(record))[7::8]


def _bad_type(state: State, record: IndexedRecord) -> bool:
    return any(top >> 4 in streams.INVALID_PAGE_TYPES for top in set(_tops(state, record)))


def _pfn_beyond(state: State, record: IndexedRecord) -> bool:
    if state.guest != _PV:
        return False
    words = words_of(state.image.words(record))
    return max(word & streams.PFN_MASK for word in words) > state.max_pfn


def _beyond_x86(state: State, record: IndexedRecord) -> bool:
    """No rule forbids a pfn beyond the address bits of x86: the reader's bitmap of populated
    pfns, an eighth of a byte each, cannot be allocated."""
    data = bytes(state.image.words(record))
    if state.guest != _HVM or not (any(data[5::8]) or any(byte & 0xF for byte in set(data[6::8]))):
        return False
    return any(
        (word & streams.PFN_MASK) >> streams.X86_PFN_BITS
        and word >> streams.PAGE_TYPE_SHIFT not in streams.PAGE_TYPES_WITHOUT_MEMORY
        for word in words_of(data)
    )


def _pages_missing(state: State, record: IndexedRecord) -> bool:
    return record.length != length_of(record.count, _tops(state, record))


def _shorter_than(size: int) -> Callable[[State, IndexedRecord], bool]:
    return lambda _, record: record.length < size


def _not_of_length(size: int) -> Callable[[State, IndexedRecord], bool]:
    return lambda _, record: record.length != size


def _not_rows_of(size: int) -> Callable[[State, IndexedRecord], bool]:
    return lambda _, record: record.length == 0 or record.length % size != 0


def _bad_params(state: State, record: IndexedRecord) -> bool:
    return record.length != 8 + 16 * state.number(record, 0)


def _bad_index(state: State, record: IndexedRecord) -> bool:
    """The hypervisor refuses indices that it does not have; the readers drop PAE_ENABLED and
    pass all others on."""
    most = next(count for since, count in _PARAMS_SINCE if state.release.since(since))
    body = bytes(state.image.body(record))[8:]
    return any(index >= most for index, _ in struct.iter_unpack("<QQ", body))


_PARAMS_SINCE = (("4.10", 39), ("4.9", 38), ("4.6", 37))
"""HVM_NR_PARAMS."""


def _bad_width(state: State, record: IndexedRecord) -> bool:
    return tuple(state.head(record, 2)) not in ((4, 3), (8, 4))


def _bad_range(state: State, record: IndexedRecord) -> bool:
    return state.number(record, 0) > state.number(record, 4)


def _bad_frames(state: State, record: IndexedRecord) -> bool:
    per_page = streams.PAGE_SIZE // state.pv_width
    first, last = (state.number(record, at) // per_page for at in (0, 4))
    return record.length != 8 + 8 * (last - first + 1)


def _vcpu_size(state: State, record: IndexedRecord) -> bool:
    """An empty body is ignored, before anything else is looked at."""
    size = record.length - 8
    if size == 0:
        return False
    if record.type == streams.LIBXC_X86_PV_VCPU_BASIC:
        return size != _BASIC_SIZES.get(state.pv_width)
    if record.type == streams.LIBXC_X86_PV_VCPU_EXTENDED:
        return size > 128
    if record.type == streams.LIBXC_X86_PV_VCPU_XSAVE:
        return size < 16
    return size % 16 != 0


def _no_width(state: State, _: IndexedRecord) -> bool:
    return not state.pv_width


def _not_hvm(state: State, _: IndexedRecord) -> bool:
    return state.guest != _HVM


def _bad_xenstore(state: State, record: IndexedRecord) -> bool:
    """Keys that do not end, are empty or absolute; values that do not end. libxl reads a
    record of any length; one beyond what is kept of an image is not looked at."""
    if record.length > LARGEST_KEPT:
        return False
    strings = bytes(state.image.body(record))[8:].split(b"\0")
    if strings.pop():
        return True
    return len(strings) % 2 != 0 or any(not key or key.startswith(b"/") for key in strings[::2])


_VCPU_RECORDS = (
    "X86_PV_VCPU_BASIC", "X86_PV_VCPU_EXTENDED", "X86_PV_VCPU_XSAVE", "X86_PV_VCPU_MSRS",
)  # fmt: skip
_S = StreamRule
# fmt: off
RULES = (
    _S(LIBXC, "*", "libxc-length", lambda s, r: r.length > s.longest, "the record is longer than a reader takes: 8 MiB up to 4.9, 128 MiB since"),
    _S(LIBXC, "*", "libxc-unknown", lambda s, r: not r.optional and not s.handles(r.type), "a mandatory record that this release does not know for this kind of guest"),
    _S(LIBXC, "PAGE_DATA", "page-data-static", _no_static_end, "page data before STATIC_DATA_END", STATIC_DATA_SINCE),
    _S(LIBXC, "PAGE_DATA", "page-data-short", _shorter_than(8), "too short for its count"),
    _S(LIBXC, "PAGE_DATA", "page-data-count", lambda s, r: r.count < 1, "the count is 0"),
    _S(LIBXC, "PAGE_DATA", "page-data-words", _words_missing, "too short for the words that the count says"),
    _S(LIBXC, "PAGE_DATA", "page-data-type", _bad_type, "a word has a type of 5 to 8"),
    _S(LIBXC, "PAGE_DATA", "page-data-pfn", _pfn_beyond, "a pfn is beyond the PV guest's p2m"),
    _S(LIBXC, "PAGE_DATA", "page-data-length", _pages_missing, "the length is not that of the words and their pages"),
    _S(LIBXC, "PAGE_DATA", "page-data-huge", _beyond_x86, "a pfn is beyond the memory of any x86 guest, and the bitmap for it beyond any host's"),
    _S(LIBXC, "CHECKPOINT", "checkpoint-optional", lambda s, r: s.queued_unknown, "an unknown optional record since the last checkpoint: replayed with it, that makes the CHECKPOINT itself one that is not handled"),
    _S(LIBXC, "CHECKPOINT", "checkpoint", lambda s, r: not s.checkpointed, "a checkpoint in a restore that is not of a checkpointed stream"),
    _S(LIBXC, "STATIC_DATA_END", "static-end-twice", lambda s, r: s.static_end, "the static data have ended before", STATIC_DATA_SINCE),
    _S(LIBXC, "X86_CPUID_POLICY", "cpuid-policy-length", _not_rows_of(24), "empty, or not whole rows of 24 bytes", STATIC_DATA_SINCE),
    _S(LIBXC, "X86_MSR_POLICY", "msr-policy-length", _not_rows_of(16), "empty, or not whole rows of 16 bytes", STATIC_DATA_SINCE),
    _S(LIBXC, "X86_TSC_INFO", "tsc-length", _not_of_length(24), "the length is not 24"),
    _S(LIBXC, "HVM_PARAMS", "hvm-params-short", _shorter_than(8), "too short for its count"),
    _S(LIBXC, "HVM_PARAMS", "hvm-params-count", _bad_params, "length and count contradict"),
    _S(LIBXC, "HVM_PARAMS", "hvm-params-index", _bad_index, "a parameter that the hypervisor does not have"),
    _S(LIBXC, "HVM_CONTEXT", "hvm-context-empty", _shorter_than(1), "there is nothing in it"),
    _S(LIBXC, "X86_PV_INFO", "pv-info-twice", lambda s, r: s.pv_width != 0, "there was one before"),
    _S(LIBXC, "X86_PV_INFO", "pv-info-short", _shorter_than(8), "shorter than 8 bytes"),
    _S(LIBXC, "X86_PV_INFO", "pv-info-width", _bad_width, "neither 4-byte words with 3 levels nor 8-byte words with 4"),
    _S(LIBXC, "X86_PV_P2M_FRAMES", "p2m-static", _no_static_end, "before STATIC_DATA_END", STATIC_DATA_SINCE),
    _S(LIBXC, "X86_PV_P2M_FRAMES", "p2m-order", _no_width, "before X86_PV_INFO"),
    _S(LIBXC, "X86_PV_P2M_FRAMES", "p2m-short", _shorter_than(8), "shorter than 8 bytes"),
    _S(LIBXC, "X86_PV_P2M_FRAMES", "p2m-range", _bad_range, "the first pfn is beyond the last"),
    _S(LIBXC, "X86_PV_P2M_FRAMES", "p2m-length", _bad_frames, "the length is not that of the range"),
    *(_S(LIBXC, name, "pv-vcpu-short", _shorter_than(8), "shorter than 8 bytes") for name in _VCPU_RECORDS),
    *(_S(LIBXC, name, "pv-vcpu-size", _vcpu_size, "the state has a size that no vcpu's has") for name in _VCPU_RECORDS),
    _S(LIBXC, "SHARED_INFO", "shared-info-order", _no_width, "before X86_PV_INFO"),
    _S(LIBXC, "SHARED_INFO", "shared-info-length", _not_of_length(streams.PAGE_SIZE), "not one page"),
    _S(LIBXC, "END", "pv-no-vcpu", lambda s, r: s.guest == _PV and not s.vcpu0, "the PV guest has no state of vcpu 0"),
    _S(LIBXL, "*", "libxl-unknown", lambda s, r: not r.known, "libxl knows no such record, and ignores none"),
    *(_S(LIBXL, name, "libxl-not-hvm", _not_hvm, "device model records are for HVM guests") for name in ("EMULATOR_XENSTORE_DATA", "EMULATOR_CONTEXT")),
    *(_S(LIBXL, name, "libxl-emulator-short", _shorter_than(8), "too short for emulator id and index") for name in ("EMULATOR_XENSTORE_DATA", "EMULATOR_CONTEXT")),
    _S(LIBXL, "EMULATOR_XENSTORE_DATA", "libxl-xenstore", _bad_xenstore, "keys and values that do not end or pair, or a key that is empty or absolute"),
    *(_S(LIBXL, name, "libxl-checkpoint", lambda s, r: not s.checkpointed, "a checkpoint's record outside of one") for name in ("CHECKPOINT_END", "CHECKPOINT_STATE")),
)
"""In the order in which they are made of a record."""
# fmt: on

_THRESHOLDS = frozenset(
    (
        STREAM_V2_SINCE,
        STATIC_DATA_SINCE,
        _LARGER_RECORDS_SINCE,
        *(since for since, _ in _PARAMS_SINCE),
        *(rule.releases.since for rule in RULES),
        *(rule.releases.behind for rule in RULES if rule.releases.behind is not None),
    )
)
"""The releases in which something of the readers changed."""


def reader_kind(release: Release) -> frozenset[str]:
    """What is the same for releases whose readers take and refuse the same streams: the
    releases up to this one that changed something."""
    return frozenset(since for since in _THRESHOLDS if release.since(since))


HEADER_RULES = {
    "stream-v2": "streams version 2 are read since 4.6",
    "stream-damaged": "the stream ends, or is none any more",
    "xl-byteorder": "the byte order mark is not that of this machine",
    "libxc-version": "version 3 is read since 4.14",
    "libxc-guest": "the stream's kind of guest is not that of the domain to build",
    "libxc-page-shift": "pages are not of 4 KiB",
}
"""Rules about headers, and about the stream as a whole."""


class StreamJudge(Watcher):
    """The readers of one release, fed with headers and records in file order. `refusal` is
    the first, and all that follows it is ignored, as the readers never see it."""

    def __init__(
        self, release: Release, *, guest: int | None = None, checkpointed: bool = False
    ) -> None:
        self.refusal: Verdict | None = None
        self._state = State(release, guest, checkpointed)
        self._rules: dict[tuple[str, int], list[StreamRule]] = {}

    def header(self, image: Index, header: Header) -> None:
        if self.refusal is None:
            self.refusal = _judge_header(self._state, header)

    def record(self, image: Index, record: IndexedRecord, whole: bool = True) -> None:
        state = self._state
        if self.refusal is not None:
            return
        if not whole and (record.layer != LIBXC or record.length <= state.longest):
            return  # what the reader cannot get, the damage tells; libxl takes any length
        state.image = image
        if record.count > 0 and whole and self._plain_pages(image, record):
            if not state.static_end:
                _note(state, record)
            return
        for rule in self._rules_of(record):
            if rule.fires(state, record):
                self.refusal = _refusal(rule.id, rule.text, record)
                return
        _note(state, record)

    def end(self, image: Image) -> Verdict | None:
        """The refusal, that of a stream which ends early included; None if there is none.
        A checkpointed one may end anywhere behind its first checkpoint: the guest goes on
        from the last, and what came since has only been queued."""
        last = image.last_checkpoint(LIBXC) if self._state.checkpointed else None
        if last is not None:
            told = self.refusal
            queued = told is not None and told.layer == LIBXC and told.offset > last
            if not image.complete and (told is None or queued):
                return None
            if queued:
                self.refusal = None
        if self.refusal is None and not image.complete:
            error = image.stopped
            assert error is not None
            self.refusal = Verdict(
                REFUSE, rule="stream-damaged", record=error.record, offset=error.offset,
                text=error.problem, layer=error.layer,
            )  # fmt: skip
        return self.refusal

    def _rules_of(self, record: IndexedRecord) -> list[StreamRule]:
        key = record.layer, record.type
        rules = self._rules.get(key)
        if rules is None:
            rules = self._rules[key] = [
                rule
                for rule in RULES
                if self._state.release in rule.releases
                and rule.layer == record.layer
                and rule.record in ("*", record.name)
            ]
        return rules

    def _plain_pages(self, image: Index, record: IndexedRecord) -> bool:
        """Whether these are page data of an HVM guest that no rule says anything of."""
        state = self._state
        if state.guest != _HVM or record.length > state.longest:
            return False
        return (state.version == 2 or state.static_end) and image.plain_pages(record)


def judge(
    image: Image, release: Release, *, guest: int | None = None, checkpointed: bool = False
) -> Verdict | None:
    """The refusal of an image's streams by the toolstack of a release; None where it takes
    them. `guest` is the kind of domain to build (1 PV, 2 HVM), by default the stream's own;
    `checkpointed` says that a checkpointed stream is expected (Remus, COLO).

    The image must be seekable, or opened with `keep_words`; `StreamJudge` can also watch
    one being opened."""
    judging = StreamJudge(release, guest=guest, checkpointed=checkpointed)
    items: list[Any] = sorted([*image.headers, *image.records], key=lambda item: item.offset)
    for item in items:
        if isinstance(item, Header):
            judging.header(image, item)
        else:
            judging.record(image, item, image.complete or item.end <= image.end)
    return judging.end(image)


def _refusal(rule: str, text: str, item: Header | IndexedRecord) -> Verdict:
    return Verdict(
        REFUSE, rule=rule, record=item.name, offset=item.offset, text=text, layer=item.layer
    )


def _judge_header(state: State, header: Header) -> Verdict | None:
    fields, rule = header.fields, ""
    if not state.release.since(STREAM_V2_SINCE):
        rule = "stream-v2"
    elif header.layer == XL and fields["byteorder"] != streams.XL_BYTEORDER:
        rule = "xl-byteorder"
    elif header.name == "image header":
        state.version = fields["version"]
        if state.version > 2 and not state.release.since(STATIC_DATA_SINCE):
            rule = "libxc-version"
    elif header.name == "domain header":
        if fields["type"] not in (_PV, _HVM) or state.expected not in (None, fields["type"]):
            rule = "libxc-guest"
        elif fields["page_shift"] & _SHIFT_MASK != streams.PAGE_SHIFT:
            rule = "libxc-page-shift"
        state.guest = fields["type"]
    if not rule:
        return None
    return _refusal(rule, HEADER_RULES[rule], header)


def _note(state: State, record: IndexedRecord) -> None:
    """What a record that was taken changes."""
    if record.layer != LIBXC:
        return
    number = record.type
    ends_static = (
        streams.LIBXC_PAGE_DATA if state.guest == _HVM else streams.LIBXC_X86_PV_P2M_FRAMES
    )
    if number == streams.LIBXC_STATIC_DATA_END or (state.version == 2 and number == ends_static):
        state.static_end = True
    elif number == streams.LIBXC_CHECKPOINT:
        state.queueing = True
    elif not state.handles(number) and state.queueing:  # optional, or it were refused
        state.queued_unknown = True
    elif number == streams.LIBXC_X86_PV_INFO:
        state.pv_width = state.head(record, 1)[0]
    elif number == streams.LIBXC_X86_PV_VCPU_BASIC and record.length > 8:
        state.vcpu0 |= state.number(record, 0) == 0
    if number == streams.LIBXC_X86_PV_P2M_FRAMES:
        state.max_pfn = max(state.max_pfn, state.number(record, 4))
