"""What libxc's restore and libxl's reader do with the streams of an image, and xenopsd's and
libvirt's readers with what is around them: `judge`.

Rules are rows in the order of the readers; the first that fires ends the restore. What the
hypervisor does with the HVM context is in `restore.context`. Source: tools/libs/guest
(xg_sr_restore*.c), tools/libs/light (libxl_stream_read.c), 4.6 to c447b730, and Debian's
Xen 4.17 fed with altered streams; xen-api's ocaml/xenopsd/xc/domain.ml, libvirt's
src/libxl/libxl_domain.c.
"""

from __future__ import annotations

from ctypes import sizeof
from functools import lru_cache

from hvmctx.abi import streams
from hvmctx.abi.bodies import vcpu_xsave
from hvmctx.abi.pv import VCPU_CONTEXTS
from hvmctx.abi.releases import NEWEST, Release, Window
from hvmctx.abi.streams import STATIC_DATA_SINCE, STREAM_V2_SINCE
from hvmctx.errors import FormatError, LimitError, UnsupportedError
from hvmctx.image.index import LARGEST_KEPT
from hvmctx.image.indexing import Watcher
from hvmctx.restore.rules import ANY, REMOVE, WHOLE, Change, Remedy, Rule, Seen
from hvmctx.restore.verdict import REFUSE, Verdict
from hvmctx.stream.body import Words
from hvmctx.stream.libxc import (
    CpuidPolicy,
    HvmParams,
    MsrPolicy,
    PvInfo,
    PvP2mFrames,
    PvVcpu,
    PvVcpuMsrs,
    TscInfo,
)
from hvmctx.stream.libxl import EmulatorContext
from hvmctx.stream.pages import length_of, pages_start, words_of
from hvmctx.stream.reader import LIBVIRT, LIBXC, LIBXL, XAPI, XL, Header

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from hvmctx.image.image import Image
    from hvmctx.image.index import Index, IndexedRecord
    from hvmctx.restore.rules import Answer, Predicate
    from hvmctx.stream.body import BodyType

_LARGER_RECORDS_SINCE = "4.10"
_LAST_LEGACY, _LAST_V2 = "4.5", "4.13"
"""The last releases that do not read streams of version 2, and libxc streams of version 3."""
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
_BASIC_SIZES = {width: sizeof(context) for width, context in VCPU_CONTEXTS.items()}
_MOST_EXTENDED = 128
_PARAMS = HvmParams.TYPE
_SHIFT_MASK = 31
"""The readers shift a 32-bit 1 by page_shift, and x86 takes five bits of such a count."""


class Passing(Seen):
    """The header or record of a stream that is being read, and what its readers know so far.

    `kind` is the kind of guest (1 PV, 2 HVM) of the domain header, before it None or what
    the reader counts on; `expected` the kind of domain to build, if only that will do.
    `version` is the libxc stream's. `counts` says how many records of a (layer, type) came
    before, where somebody counts them.
    """

    __slots__ = (
        "checkpointed", "counts", "expected", "header", "image", "instance", "kind", "layer",
        "length", "longest", "max_pfn", "name", "pv_width", "queued_unknown", "queueing",
        "record", "release", "static_end", "vcpu0", "version",
    )  # fmt: skip
    image: Index
    header: Header

    def __init__(
        self,
        release: Release | None = None,
        *,
        kind: int | None = None,
        expected: int | None = None,
        checkpointed: bool = False,
    ) -> None:
        self.release = release or Release(NEWEST)
        large = self.release.since(_LARGER_RECORDS_SINCE)
        self.longest = streams.LARGEST_RECORD if large else 8 << 20
        self.kind = kind
        self.expected = expected
        self.checkpointed = checkpointed
        self.version = 3
        self.instance = 0
        self.static_end = False
        self.pv_width = 0
        self.max_pfn = -1
        self.vcpu0 = False
        self.queueing = False
        self.queued_unknown = False
        self.counts: dict[tuple[str, int], int] = {}

    def at_header(self, image: Index, header: Header) -> Passing:
        """Go on to a header."""
        self.image, self.header = image, header
        self.layer, self.name, self.length = header.layer, header.name, header.length
        if header.name == "image header":
            self.version = header.fields["version"]
        elif header.name == "domain header":
            self.kind = header.fields["type"]
        return self

    def at_record(self, image: Index, record: IndexedRecord) -> Passing:
        """Go on to a record."""
        self.image, self.record = image, record
        self.layer, self.name, self.length = record.layer, record.name, record.length
        return self

    @property
    def fields(self) -> dict[str, Any]:
        """A header's."""
        return self.header.fields

    def following(self) -> bytes | None:
        """What follows a wrapper's header, if it is all there, and no longer than it may be."""
        if self.header.length > self.image.limits.config:
            return None
        data = bytes(self.image.data_of(self.header, self.name))
        return data if len(data) == self.header.length else None

    def head(self, size: int = 64) -> bytes:
        return bytes(self.image.start_of(self.record, size))

    def body(self) -> bytes:
        return bytes(self.image.body(self.record)) if self.length <= LARGEST_KEPT else b""

    def words(self) -> bytes:
        return self.image.words(self.record) if self.length <= LARGEST_KEPT else b""

    def before(self, number: int, layer: str | None = None) -> int:
        return self.counts.get((layer or self.layer, number), 0)

    def handles(self, number: int) -> bool:
        known = _COMMON | _OF_GUEST.get(self.kind or 0, frozenset())
        if self.release.since(STATIC_DATA_SINCE):
            known |= _STATIC
        return number in known


def _no_static_end(seen: Seen) -> Answer:
    return seen.version == 3 and not seen.static_end


def words_missing(seen: Seen) -> bool:
    """Whether page data are too short for the words that they announce."""
    return seen.length < pages_start(seen.record.count)


def all_words(seen: Seen) -> bytes:
    """The page words; nothing if they are not all there, or too many to be read."""
    return (
        b"" if seen.length <= streams.PAGE_DATA_HEAD.size or words_missing(seen) else seen.words()
    )


def _bad_type(seen: Seen) -> Answer:
    tops = all_words(seen)[7::8]
    if not any(top >> 4 in streams.INVALID_PAGE_TYPES for top in set(tops)):
        return False
    kinds = ((number, top >> 4) for number, top in enumerate(tops))
    number, kind = next(found for found in kinds if found[1] in streams.INVALID_PAGE_TYPES)
    return [f"word {number} has type {kind}"]


def _pfn_beyond(seen: Seen) -> Answer:
    if seen.kind != _PV:
        return False
    return max(word & streams.PFN_MASK for word in words_of(seen.words())) > seen.max_pfn


def _beyond_x86(seen: Seen) -> Answer:
    """No rule forbids a pfn beyond the address bits of x86, but the reader cannot allocate its
    bitmap of populated pfns, which has a bit for each."""
    data = seen.words()
    if seen.kind != _HVM or not (any(data[5::8]) or any(byte & 0xF for byte in set(data[6::8]))):
        return False
    return any(
        (word & streams.PFN_MASK) >> streams.X86_PFN_BITS
        and word >> streams.PAGE_TYPE_SHIFT not in streams.PAGE_TYPES_WITHOUT_MEMORY
        for word in words_of(data)
    )


def _pages_length(seen: Seen) -> Answer:
    words, count = all_words(seen), seen.record.count
    if seen.length <= streams.PAGE_DATA_HEAD.size or len(words) < 8 * count:
        return False
    expected = length_of(count, words[7::8])
    return seen.length != expected and [f"{seen.length} bytes, expected {expected}"]


def shorter(size: int) -> Predicate:
    """A body of fewer bytes."""
    return lambda seen: seen.length < size


def other_than(size: int) -> Predicate:
    """A body of more or fewer bytes."""
    return lambda seen: seen.length != size


def _not_rows_of(body: BodyType) -> Predicate:
    return lambda seen: seen.length == 0 or seen.length % body.row.size != 0


def _bad_params(seen: Seen) -> Answer:
    head, row = _PARAMS.head.size, _PARAMS.row.size
    return seen.length >= head and seen.length != head + row * seen.number(0)


def _bad_index(seen: Seen) -> Answer:
    return bool(_bad_indices(seen))


def _bad_indices(seen: Seen) -> list[int]:
    """The hypervisor refuses indices that it lacks; the readers drop PAE_ENABLED and pass all
    others on."""
    most = next(count for since, count in PARAMS_SINCE if seen.release.since(since))
    rows = _PARAMS.row.iter_unpack(seen.body()[_PARAMS.head.size :])
    return [index for index, _ in rows if index >= most]


def _without_params(seen: Seen, rule: Rule) -> list[Change]:
    return [
        Change(REMOVE, f"HVM_PARAMS.{index}") for index in dict.fromkeys(_bad_indices(seen))
    ]  # fmt: skip


PARAMS_SINCE = (("4.10", 39), ("4.9", 38), ("4.7 4.6.3", 37), ("4.6", 36))
"""HVM_NR_PARAMS."""


def _bad_width(seen: Seen) -> Answer:
    return tuple(seen.head(2)) not in ((4, 3), (8, 4))


def _bad_range(seen: Seen) -> Answer:
    return seen.number(0) > seen.number(4)


def _bad_frames(seen: Seen) -> Answer:
    per_page = streams.PAGE_SIZE // seen.pv_width
    first, last = (seen.number(at) // per_page for at in (0, 4))
    return seen.length != PvP2mFrames.TYPE.size + Words.element * (last - first + 1)


def _vcpu_size(seen: Seen) -> Answer:
    """A record with no state is ignored before anything else is checked."""
    size, number = seen.length - PvVcpu.TYPE.size, seen.record.type
    if size == 0:
        return False
    if number == streams.LIBXC_X86_PV_VCPU_BASIC:
        return size != _BASIC_SIZES.get(seen.pv_width)
    if number == streams.LIBXC_X86_PV_VCPU_EXTENDED:
        return size > _MOST_EXTENDED
    if number == streams.LIBXC_X86_PV_VCPU_XSAVE:
        return size < sizeof(vcpu_xsave)
    return size % PvVcpuMsrs.TYPE.row.size != 0


def _no_width(seen: Seen) -> Answer:
    return not seen.pv_width


def _not_hvm(seen: Seen) -> Answer:
    return seen.kind != _HVM


def _bad_xenstore(seen: Seen) -> Answer:
    """Strings that do not end, and keys that are empty or absolute. libxl reads a record of any
    length; one that is longer than what is kept of an image is not checked."""
    strings = seen.body()[EmulatorContext.TYPE.size :].split(b"\0")
    if strings.pop():
        return True
    return len(strings) % 2 != 0 or any(not key or key.startswith(b"/") for key in strings[::2])


def _bad_xml(seen: Seen) -> Answer:
    """As libvirt's parser, which is libxml2's; but one that declares entities is not read here."""
    from hvmctx.stream import libvirt

    data = seen.following()
    return False if data is None else _said(lambda: libvirt.places(libvirt.text_of(data)))


def _bad_xenops(seen: Seen) -> Answer:
    from hvmctx.stream.xapi import Xenops

    return _said(lambda: Xenops.from_text(seen.body()))


def _said(read: Callable[[], object]) -> Answer:
    """What the reader of a text says against it; nothing of one that goes over a limit."""
    try:
        read()
    except LimitError:
        return False
    except FormatError as error:
        return [error.problem + (f" ({error.found})" if error.found else "")]
    return False


def _always(seen: Seen) -> Answer:
    return True


def _other_kind(seen: Seen) -> Answer:
    kind = seen.fields["type"]
    return kind not in (_PV, _HVM) or seen.expected not in (None, kind)


def _row(
    layer: str, record: str, identifier: str, predicate: Predicate | None, words: str,
    since: str | None = None, until: str | None = None, remedy: Remedy | None = None,
) -> Rule:  # fmt: skip
    window = Window(since, until, oldest=STREAM_V2_SINCE)
    return Rule(layer, record, identifier, predicate, words, releases=window, remedy=remedy)


_VCPU_RECORDS = (
    "X86_PV_VCPU_BASIC", "X86_PV_VCPU_EXTENDED", "X86_PV_VCPU_XSAVE", "X86_PV_VCPU_MSRS",
)  # fmt: skip
_EMULATOR_RECORDS = ("EMULATOR_XENSTORE_DATA", "EMULATOR_CONTEXT")
_MOST_OF_QEMU = 1 << 20
"""The longest device model's file that xenopsd takes, and where lengths are negative numbers."""
_NEGATIVE = 1 << 63
_FIRST_HEADERS = ((XL, "header"), (LIBXL, "header"), (LIBXC, "image header"))
# fmt: off
HEADER_RULES = (
    *(Rule(layer, header, "stream-v2", _always, "streams of version 2 are read since 4.6", releases=Window(until=_LAST_LEGACY)) for layer, header in _FIRST_HEADERS),
    _row(XL, "header", "xl-byteorder", lambda s: s.fields["byteorder"] != streams.XL_BYTEORDER, "the byte order mark is not that of this machine"),
    _row(LIBVIRT, "header", "libvirt-no-xml", lambda s: s.length == 0, "there is no XML"),
    _row(LIBVIRT, "header", "libvirt-xml", _bad_xml, "libvirt cannot read its XML"),
    _row(LIBXC, "image header", "libxc-version", lambda s: s.fields["version"] > 2, "version 3 is read since 4.14", until=_LAST_V2),
    _row(LIBXC, "domain header", "libxc-guest", _other_kind, "the stream is of another kind of guest than the domain to build"),
    _row(LIBXC, "domain header", "libxc-page-shift", lambda s: s.fields["page_shift"] & _SHIFT_MASK != streams.PAGE_SHIFT, "pages are not 4 KiB"),
    _row(LIBXC, WHOLE, "stream-damaged", None, "the stream is cut off or damaged"),
)
"""Rules about headers, and about the stream as a whole."""
RULES = (
    _row(LIBXC, ANY, "libxc-length", lambda s: s.length > s.longest, "the record is longer than a reader accepts: 8 MiB up to 4.9, 128 MiB since 4.10"),
    _row(LIBXC, ANY, "libxc-unknown", lambda s: not s.record.optional and not s.handles(s.record.type), "a mandatory record that this release does not know for this kind of guest"),
    _row(LIBXC, "PAGE_DATA", "page-data-static", _no_static_end, "page data before STATIC_DATA_END", STATIC_DATA_SINCE),
    _row(LIBXC, "PAGE_DATA", "page-data-short", shorter(streams.PAGE_DATA_HEAD.size), "too short for its count"),
    _row(LIBXC, "PAGE_DATA", "page-data-count", lambda s: s.record.count < 1, "the count is 0"),
    _row(LIBXC, "PAGE_DATA", "page-data-words", words_missing, "too short for as many words as the count says"),
    _row(LIBXC, "PAGE_DATA", "page-data-type", _bad_type, "a word has a type of 5 to 8"),
    _row(LIBXC, "PAGE_DATA", "page-data-pfn", _pfn_beyond, "a pfn is beyond the PV guest's p2m"),
    _row(LIBXC, "PAGE_DATA", "page-data-length", _pages_length, "the length does not match the words and their pages"),
    _row(LIBXC, "PAGE_DATA", "page-data-huge", _beyond_x86, "a pfn is beyond the memory of any x86 guest: no host can allocate the bitmap for it"),
    _row(LIBXC, "CHECKPOINT", "checkpoint-optional", lambda s: s.queued_unknown, "an unknown optional record since the last checkpoint: the reader, replaying it, then fails on the CHECKPOINT itself"),
    _row(LIBXC, "CHECKPOINT", "checkpoint", lambda s: not s.checkpointed, "a checkpoint, where no checkpointed stream is expected"),
    _row(LIBXC, "STATIC_DATA_END", "static-end-twice", lambda s: s.static_end, "the static data have already ended", STATIC_DATA_SINCE),
    _row(LIBXC, "X86_CPUID_POLICY", "cpuid-policy-length", _not_rows_of(CpuidPolicy.TYPE), "empty, or not whole rows of 24 bytes", STATIC_DATA_SINCE),
    _row(LIBXC, "X86_MSR_POLICY", "msr-policy-length", _not_rows_of(MsrPolicy.TYPE), "empty, or not whole rows of 16 bytes", STATIC_DATA_SINCE),
    _row(LIBXC, "X86_TSC_INFO", "tsc-length", other_than(TscInfo.TYPE.size), "the length is not 24"),
    _row(LIBXC, "HVM_PARAMS", "hvm-params-short", shorter(_PARAMS.size), "too short for its count"),
    _row(LIBXC, "HVM_PARAMS", "hvm-params-count", _bad_params, "the length does not match the count"),
    _row(LIBXC, "HVM_PARAMS", "hvm-params-index", _bad_index, "a parameter that the hypervisor lacks", remedy=Remedy("removes the parameter, which this release does not know: what it says is lost", _without_params)),
    _row(LIBXC, "HVM_CONTEXT", "hvm-context-empty", shorter(1), "empty body"),
    _row(LIBXC, "X86_PV_INFO", "pv-info-twice", lambda s: s.pv_width != 0, "the stream has an earlier one"),
    _row(LIBXC, "X86_PV_INFO", "pv-info-short", shorter(PvInfo.TYPE.size), "shorter than 8 bytes"),
    _row(LIBXC, "X86_PV_INFO", "pv-info-width", _bad_width, "neither 4-byte words with 3 levels nor 8-byte words with 4"),
    _row(LIBXC, "X86_PV_P2M_FRAMES", "p2m-static", _no_static_end, "before STATIC_DATA_END", STATIC_DATA_SINCE),
    _row(LIBXC, "X86_PV_P2M_FRAMES", "p2m-order", _no_width, "before X86_PV_INFO"),
    _row(LIBXC, "X86_PV_P2M_FRAMES", "p2m-short", shorter(PvP2mFrames.TYPE.size), "shorter than 8 bytes"),
    _row(LIBXC, "X86_PV_P2M_FRAMES", "p2m-range", _bad_range, "the first pfn is beyond the last"),
    _row(LIBXC, "X86_PV_P2M_FRAMES", "p2m-length", _bad_frames, "the length does not match the range"),
    *(_row(LIBXC, name, "pv-vcpu-short", shorter(PvVcpu.TYPE.size), "shorter than 8 bytes") for name in _VCPU_RECORDS),
    *(_row(LIBXC, name, "pv-vcpu-size", _vcpu_size, "no vcpu's state has this size") for name in _VCPU_RECORDS),
    _row(LIBXC, "SHARED_INFO", "shared-info-order", _no_width, "before X86_PV_INFO"),
    _row(LIBXC, "SHARED_INFO", "shared-info-length", other_than(streams.PAGE_SIZE), "the length is not one page"),
    _row(LIBXC, "END", "pv-no-vcpu", lambda s: s.kind == _PV and not s.vcpu0, "the PV guest has no state of vcpu 0"),
    _row(LIBXL, ANY, "libxl-unknown", lambda s: not s.record.known, "libxl does not know this record, and ignores no record"),
    *(_row(LIBXL, name, "libxl-not-hvm", _not_hvm, "device model records are for HVM guests") for name in _EMULATOR_RECORDS),
    *(_row(LIBXL, name, "libxl-emulator-short", shorter(EmulatorContext.TYPE.size), "too short for emulator id and index") for name in _EMULATOR_RECORDS),
    _row(LIBXL, "EMULATOR_XENSTORE_DATA", "libxl-xenstore", _bad_xenstore, "keys or values that are not terminated or not paired, or a key that is empty or absolute"),
    *(_row(LIBXL, name, "libxl-checkpoint", lambda s: not s.checkpointed, "a record of checkpoints, where no checkpointed stream is expected") for name in ("CHECKPOINT_END", "CHECKPOINT_STATE")),
    _row(XAPI, ANY, "xapi-unknown", lambda s: not s.record.known, "xenopsd does not know this record, and ignores none"),
    *(_row(XAPI, name, "xapi-refused", _always, "xenopsd has a name for records of this type, and refuses them") for name in ("LIBXL", "QEMU_XEN")),
    _row(XAPI, "XENOPS", "xapi-xenops", _bad_xenops, "xenopsd cannot read its record"),
    _row(XAPI, "QEMU_TRAD", "xapi-qemu-length", lambda s: _MOST_OF_QEMU < s.length < _NEGATIVE, "the device model's file is longer than xenopsd takes: 1 MiB"),
    _row(XAPI, "END_OF_IMAGE", "xapi-no-libxc", lambda s: not s.before(streams.XAPI_LIBXC) and not s.before(streams.XAPI_LIBXC_LEGACY), "the image has no libxc stream, so xenopsd has nothing to restore"),
)
"""In the order in which the readers check a record."""
# fmt: on

_THRESHOLDS = frozenset(
    (
        STREAM_V2_SINCE,
        STATIC_DATA_SINCE,
        _LARGER_RECORDS_SINCE,
        *(since for since, _ in PARAMS_SINCE),
        *(rule.releases.since for rule in (*HEADER_RULES, *RULES)),
        *(rule.releases.gone for rule in (*HEADER_RULES, *RULES) if rule.releases.gone),
    )
)
"""The releases in which the readers changed."""


@lru_cache(256)
def reader_kind(release: Release) -> frozenset[str]:
    """A value that releases share if their readers accept and refuse the same streams: the
    releases up to this one in which the readers changed."""
    return frozenset(since for since in _THRESHOLDS if release.since(since))


def about(item: Header | IndexedRecord, rules: Iterable[Rule]) -> list[Rule]:
    """The rules that are about such a header or record."""
    names = (item.name,) if isinstance(item, Header) else (ANY, item.name)
    return [rule for rule in rules if rule.layer == item.layer and rule.record in names]


@lru_cache(4096)
def _header_rules(release: Release, layer: str, name: str) -> list[Rule]:
    """Those that a release has for a header. Many images have the same ones."""
    return [
        r for r in HEADER_RULES if (r.layer, r.record) == (layer, name) and release in r.releases
    ]


@lru_cache(4096)
def _record_rules(release: Release, layer: str, name: str) -> list[Rule]:
    """The same for a record."""
    return [
        r for r in RULES if r.layer == layer and r.record in (ANY, name) and release in r.releases
    ]


class StreamJudge(Watcher):
    """The readers of one release, which get headers and records in file order. `refusal` is
    the first; what follows it is ignored, as the readers never see it."""

    def __init__(
        self, release: Release, *, kind: int | None = None, checkpointed: bool = False
    ) -> None:
        self.refusal: Verdict | None = None
        self._rule: Rule | None = None
        """Which refuses."""
        self._seen = Passing(release, kind=kind or _HVM, expected=kind, checkpointed=checkpointed)

    def header(self, index: Index, header: Header) -> None:
        if self.refusal is None:
            seen = self._seen.at_header(index, header)
            rules = _header_rules(self._seen.release, header.layer, header.name)
            self._judge(rules, seen, header)

    def record(self, index: Index, record: IndexedRecord, whole: bool = True) -> None:
        seen = self._seen
        if self.refusal is not None:
            return
        if not whole and (record.layer != LIBXC or record.length <= seen.longest):
            return  # the damage says what the reader cannot get; libxl takes any length
        if record.count > 0 and whole and self._ordinary_pages(index, record):
            if not seen.static_end:
                _note(seen, record)
            return
        rules = _record_rules(seen.release, record.layer, record.name)
        self._judge(rules, seen.at_record(index, record), record)
        if self.refusal is None:
            _note(seen, record)

    def _judge(self, rules: list[Rule], seen: Passing, item: Header | IndexedRecord) -> None:
        for rule in rules:
            if rule.fires(seen):
                self.refusal = Verdict(
                    REFUSE, rule=rule.id, record=item.name, offset=item.offset, text=rule.words,
                    layer=item.layer,
                )  # fmt: skip
                self._rule = rule
                return

    def end(self, image: Image) -> Verdict | None:
        """The refusal, that of a stream which ends early included; None if there is none. Raises
        UnsupportedError where nobody but xenopsd can read on.
        A checkpointed one may end anywhere after its first checkpoint: the guest goes on
        from the last one, and what came since has only been queued."""
        last = image.last_checkpoint(LIBXC) if self._seen.checkpointed else None
        if last is not None:
            found = self.refusal
            queued = found is not None and found.layer == LIBXC and found.offset > last
            if not image.complete and (found is None or queued):
                return None
            if queued:
                self.refusal = None
        if self.refusal is None and not image.complete:
            error = image.stopped
            assert error is not None
            if error.layer == XAPI and isinstance(error, UnsupportedError):
                raise error  # xenopsd goes on where nobody else can
            self.refusal = Verdict(
                REFUSE, rule="stream-damaged", record=error.record, offset=error.offset,
                text=error.problem, layer=error.layer,
            )  # fmt: skip
        return self.refusal

    def remedy(self) -> tuple[str, list[Change]] | None:
        """What mends the refusal, once there is one: in words, and the steps."""
        rule = self._rule
        if rule is None or rule.remedy is None or self.refusal is None:
            return None
        changes = rule.remedy.changes(self._seen, rule)
        return (rule.remedy.words, changes) if changes else None

    def _ordinary_pages(self, index: Index, record: IndexedRecord) -> bool:
        """Whether these are page data of an HVM guest to which no rule applies."""
        seen = self._seen
        if seen.kind != _HVM or record.length > seen.longest:
            return False
        return (seen.version == 2 or seen.static_end) and index.ordinary_pages(record)


def judge(
    image: Image, release: Release, *, kind: int | None = None, checkpointed: bool = False
) -> Verdict | None:
    """The refusal of an image's streams by the toolstack of a release; None if it accepts
    them. `kind` is the kind of domain to build (1 PV, 2 HVM), by default the stream's own;
    `checkpointed` says that a checkpointed stream is expected (Remus, COLO).

    The image must be seekable, or opened with `keep_words`; `StreamJudge` can also watch
    one being opened."""
    judging = StreamJudge(release, kind=kind, checkpointed=checkpointed)
    replay(image, judging)
    return judging.end(image)


def replay(image: Image, watcher: Watcher) -> None:
    """Show a watcher everything in an opened image, as if it were being opened. The image must
    be seekable, or opened with `keep_words`."""
    for item in image.items():
        if isinstance(item, Header):
            watcher.header(image, item)
        else:
            watcher.record(image, item, image.complete or item.end <= image.end)


def _note(seen: Passing, record: IndexedRecord) -> None:
    """Note what an accepted record changes."""
    if record.layer == XAPI:
        seen.counts[XAPI, record.type] = 1
    if record.layer != LIBXC:
        return
    number = record.type
    ends_static = streams.LIBXC_PAGE_DATA if seen.kind == _HVM else streams.LIBXC_X86_PV_P2M_FRAMES
    if number == streams.LIBXC_STATIC_DATA_END or (seen.version == 2 and number == ends_static):
        seen.static_end = True
    elif number == streams.LIBXC_CHECKPOINT:
        seen.queueing = True
    elif not seen.handles(number) and seen.queueing:  # optional, or it would be refused
        seen.queued_unknown = True
    elif number == streams.LIBXC_X86_PV_INFO:
        seen.pv_width = seen.head(1)[0]
    elif number == streams.LIBXC_X86_PV_VCPU_BASIC and record.length > 8:
        seen.vcpu0 |= seen.number(0) == 0
    if number == streams.LIBXC_X86_PV_P2M_FRAMES:
        seen.max_pfn = max(seen.max_pfn, seen.number(4))


__all__ = [
    "HEADER_RULES", "PARAMS_SINCE", "RULES", "Passing", "StreamJudge", "about", "all_words", "judge", "other_than",
    "reader_kind", "replay", "shorter", "words_missing",
]  # fmt: skip
