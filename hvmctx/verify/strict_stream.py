"""What is questionable about the streams of an image even if a restore accepts it.

Source: docs/specs/libxc-migration-stream.pandoc for order and multiplicity, and what the
writers of 4.6 to c447b730 do.
"""

from __future__ import annotations

from itertools import islice

from hvmctx.abi import streams
from hvmctx.abi.fields import is_reserved
from hvmctx.findings import NOTE, WARNING, Finding
from hvmctx.image.index import LARGEST_KEPT, Note
from hvmctx.limits import DEFAULT
from hvmctx.restore.rules import WHOLE, Rule, Seen
from hvmctx.stream.libxc import CpuidPolicy, HvmParams, MsrPolicy
from hvmctx.stream.qemu import MAGIC
from hvmctx.stream.reader import CONTEXT, LIBVIRT, LIBXC, LIBXL, XAPI, XL
from hvmctx.verify.checks import CheckTable, field_not_in
from hvmctx.verify.pages import PassedPages, mismatches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvmctx.image.image import Image
    from hvmctx.image.index import Index, IndexedRecord
    from hvmctx.restore.rules import Predicate
    from hvmctx.stream.body import BodyType

_STATIC, _MEMORY, _STATE = 0, 1, 2
_PHASES = {
    streams.LIBXC_X86_PV_INFO: _STATIC,
    streams.LIBXC_X86_CPUID_POLICY: _STATIC,
    streams.LIBXC_X86_MSR_POLICY: _STATIC,
    streams.LIBXC_STATIC_DATA_END: _STATIC,
    streams.LIBXC_X86_PV_P2M_FRAMES: _MEMORY,
    streams.LIBXC_PAGE_DATA: _MEMORY,
    streams.LIBXC_VERIFY: _MEMORY,
    streams.LIBXC_X86_TSC_INFO: _STATE,
    streams.LIBXC_SHARED_INFO: _STATE,
    streams.LIBXC_HVM_CONTEXT: _STATE,
    streams.LIBXC_HVM_PARAMS: _STATE,
    streams.LIBXC_X86_PV_VCPU_BASIC: _STATE,
    streams.LIBXC_X86_PV_VCPU_EXTENDED: _STATE,
    streams.LIBXC_X86_PV_VCPU_XSAVE: _STATE,
    streams.LIBXC_X86_PV_VCPU_MSRS: _STATE,
}
"""The parts of a stream, in order. After a checkpoint comes memory again."""
_PHASE_NAMES = ("static data", "memory", "the guest's state")
_ONCE = (
    "X86_PV_INFO", "X86_CPUID_POLICY", "X86_MSR_POLICY", "STATIC_DATA_END", "X86_TSC_INFO",
    "HVM_CONTEXT", "HVM_PARAMS", "SHARED_INFO", "VERIFY",
)  # fmt: skip
"""Records that occur once in a stream, or once in each checkpoint."""
_EXPECTED_PARAMS = (streams.HVM_PARAM_STORE_PFN, streams.HVM_PARAM_CONSOLE_PFN)
"""Of xenstore and the console, without which a toolstack cannot connect to the guest again."""


def _again(seen: Seen) -> bool:
    return seen.before(seen.record.type) > 0


def _rows(seen: Seen, kind: BodyType) -> Iterator[tuple[int, ...]]:
    """The whole rows in the record, as many as a record usually may have."""
    size = kind.row.size
    body = seen.body()[kind.head.size :][: DEFAULT.rows * size]
    return kind.row.iter_unpack(body[: len(body) // size * size])


def _leaves_twice(seen: Seen) -> Iterator[str]:
    known = set()
    for leaf, subleaf, *_ in _rows(seen, CpuidPolicy.TYPE):
        if (leaf, subleaf) in known:
            yield f"leaf {leaf:#x}, subleaf {subleaf:#x}"
        known.add((leaf, subleaf))


def _msrs_twice(seen: Seen) -> Iterator[str]:
    known = set()
    for index, *_ in _rows(seen, MsrPolicy.TYPE):
        if index in known:
            yield f"{index:#x}"
        known.add(index)


def _msr_flags(seen: Seen) -> Iterator[str]:
    for index, flags, _ in _rows(seen, MsrPolicy.TYPE):
        if flags:
            yield f"MSR {index:#x}"


def _params(seen: Seen) -> list[tuple[int, ...]]:
    """(index, value) of each parameter in the record."""
    return list(_rows(seen, HvmParams.TYPE))


def _params_twice(seen: Seen) -> Iterator[str]:
    known = set()
    for index, _ in _params(seen):
        if index in known:
            yield _param(index)
        known.add(index)


def _params_unknown(seen: Seen) -> Iterator[str]:
    return (_param(index) for index, _ in _params(seen) if index not in streams.HVM_PARAMS)


def _params_missing(seen: Seen) -> Iterator[str]:
    found = {index for index, value in _params(seen) if value}
    return (_param(index) for index in _EXPECTED_PARAMS if index not in found)


def _param(index: int) -> str:
    return streams.HVM_PARAMS.get(index, f"index {index}")


def _not_qemu(seen: Seen) -> bool:
    return seen.length >= 8 and seen.head(12)[8:] != MAGIC


def _emulator_index(seen: Seen) -> bool:
    return seen.length >= 8 and seen.number(4) != 0


def _not_terminated(seen: Seen) -> bool:
    return not (seen.following() or b"\0").endswith(b"\0")


def _not_base64(seen: Seen) -> bool:
    from base64 import b64decode

    try:
        b64decode(seen.body(), validate=True)
    except ValueError:
        return True
    return False


def _body_of_checkpoint(seen: Seen) -> bool:
    return seen.length != 4


def _warning(layer: str, record: str, identifier: str, predicate: Predicate, words: str) -> Rule:
    return Rule(layer, record, identifier, predicate, words, severity=WARNING)


# fmt: off
RULES = (
    _warning(LIBXL, "header", "libxl-options-high", field_not_in("options", 0xFFFF0000, 0), "reserved options are set"),
    _warning(XL, "header", "xl-optional-flags", field_not_in("optional_flags", 0xFFFFFFFF, 0), "flags that xl never writes"),
    *(_warning(LIBVIRT, "header", "libvirt-reserved", field_not_in(name, 0xFFFFFFFF, 0), "an unused field is not zero") for name in streams.LIBVIRT_HEADER.names if is_reserved(name)),
    _warning(LIBVIRT, "header", "libvirt-xml-end", _not_terminated, "the XML does not end with a NUL: libvirt reads on after it"),
    *(_warning(XAPI, streams.XAPI_RECORDS[number], "xapi-length", lambda s: s.record.claimed != 0, "records of this type are written with a length of 0") for number in sorted(streams.XAPI_BODILESS)),
    *(_warning(XAPI, name, "duplicate", _again, "the image has an earlier one; a restore takes the last") for name in ("XENOPS", "LIBXC", "QEMU_TRAD", "VARSTORED")),
    _warning(XAPI, "SWTPM", "xapi-swtpm", _not_base64, "the TPM's state is not Base64"),
    *(_warning(LIBXC, name, "duplicate", _again, "the stream has an earlier one; a restore takes the last") for name in _ONCE),
    _warning(LIBXC, "X86_CPUID_POLICY", "policy-duplicate", _leaves_twice, "listed twice"),
    _warning(LIBXC, "X86_MSR_POLICY", "policy-duplicate", _msrs_twice, "listed twice"),
    _warning(LIBXC, "X86_MSR_POLICY", "policy-flags", _msr_flags, "flags that no release has are set"),
    _warning(LIBXC, "HVM_PARAMS", "param-duplicate", _params_twice, "set twice"),
    _warning(LIBXC, "HVM_PARAMS", "param-unknown", _params_unknown, "a parameter that no release has"),
    _warning(LIBXC, "HVM_PARAMS", "param-missing", _params_missing, "not set: a toolstack cannot connect to the guest again"),
    _warning(LIBXL, "EMULATOR_CONTEXT", "duplicate", lambda s: s.before(s.record.type) > s.before(streams.LIBXL_CHECKPOINT_END), "the stream has an earlier one; a restore takes the last"),
    _warning(LIBXL, "EMULATOR_CONTEXT", "emulator-magic", _not_qemu, "the device model's file is not QEMU's: it does not start with QEVM"),
    _warning(XAPI, "QEMU_TRAD", "emulator-magic", lambda s: s.head(4) != MAGIC, "the device model's file is not QEMU's: it does not start with QEVM"),
    *(_warning(LIBXL, name, "emulator-index", _emulator_index, "the index is not 0") for name in ("EMULATOR_CONTEXT", "EMULATOR_XENSTORE_DATA")),
    _warning(LIBXL, "CHECKPOINT_STATE", "checkpoint-state-length", _body_of_checkpoint, "the length is not 4"),
)
OF_WHOLE = {row[0]: Rule(LIBXC, WHOLE, row[0], None, row[2], severity=row[1]) for row in (
    ("order", WARNING, "records are not in the order of the specification"),
    ("page-twice", WARNING, "a pfn occurs twice in one batch"),
    ("pages-resent", NOTE, "pfns are sent more than once, as in a live migration"),
    ("page-gone", WARNING, "a pfn had contents and is absent later: a restore leaves the old contents there"),
    ("pages-missing", NOTE, "pfns below the highest are never mentioned"),
    ("param-page-missing", WARNING, "a parameter names a page that is never sent"),
    ("verify-mismatch", WARNING, "page data after VERIFY differ from those before it"),
    ("verify-unchecked", NOTE, "page data after VERIFY cannot be compared in a pipe"),
    ("missing-record", WARNING, "a record is missing that every writer writes"),
    ("scattered", NOTE, "pfns are too scattered to be tracked: what was sent for a pfn before is not checked"),
    ("trailing", WARNING, "bytes follow the end of the stream"),
)}
"""Id -> rule about the stream as a whole."""
_MOST_MISMATCHES = 16
# fmt: on


class StrictStream(CheckTable):
    """The table and the rules about the whole, applied to an image being opened."""

    def __init__(self) -> None:
        super().__init__(RULES)
        self._phase = _STATIC
        self._pages = PassedPages()
        self._verify_from: int | None = None
        self._params: tuple[IndexedRecord, list[tuple[int, ...]]] | None = None

    def record(self, index: Index, record: IndexedRecord, whole: bool) -> None:
        super().record(index, record, whole)
        if record.layer == LIBXC and whole:
            self._order(record)
            if record.type == streams.LIBXC_VERIFY and self._verify_from is None:
                self._verify_from = record.offset
            elif record.type == streams.LIBXC_CHECKPOINT:
                self._phase = _MEMORY
                self._forget_once()
            elif record.type == streams.LIBXC_HVM_PARAMS:
                self._params = record, _params(self._seen)
            elif record.count > 0:
                self._batch(index, record)

    def _forget_once(self) -> None:
        for number, name in streams.LIBXC_RECORDS.items():
            if name in _ONCE and _PHASES.get(number) == _STATE:
                self._seen.counts.pop((LIBXC, number), None)

    def _order(self, record: IndexedRecord) -> None:
        phase = _PHASES.get(record.type)
        if phase is None:
            return
        if phase < self._phase:
            text = f"{_PHASE_NAMES[phase]} after {_PHASE_NAMES[self._phase]}"
            self.say(OF_WHOLE["order"], text, record)
        self._phase = max(phase, self._phase)

    def _batch(self, index: Index, record: IndexedRecord) -> None:
        words = index.words(record) if record.length <= LARGEST_KEPT else b""
        for pfn in self._pages.add(words, index.limits):
            self.say(OF_WHOLE["page-twice"], f"pfn {pfn:#x} occurs twice in one batch", record)

    def end(self, image: Image) -> None:
        """The rules about the whole, once all of the input has been read."""
        offset = image.end
        for note in image.notes:
            if note.kind == Note.TRAILING and note.layer not in (CONTEXT, XAPI):  # a disk is longer
                self._whole("trailing", note.offset, layer=note.layer)
        if not image.complete or image.format == CONTEXT:  # which has no stream
            return
        for rule, count, first in self._pages.findings():
            text = OF_WHOLE[rule].words
            if rule != "scattered":
                text += f": {count} of them, the first is pfn {first:#x}"
            self._whole(rule, offset, text)
        self._special_pages()
        self._missing(image)
        if self._verify_from is not None:
            self._verify(image, self._verify_from)

    def _whole(self, name: str, offset: int, text: str = "", layer: str = LIBXC) -> None:
        rule = OF_WHOLE[name]
        self.findings.append(
            Finding(rule.severity, name, text or rule.words, layer=layer, offset=offset)
        )

    def _special_pages(self) -> None:
        if self._params is None or self._pages.scattered or not self._pages.any:
            return
        record, params = self._params
        for index, pfn in params:
            special = index in streams.SPECIAL_PARAMS
            if special and pfn and not self._pages.populated(pfn):
                text = f"{streams.HVM_PARAMS[index]} is pfn {pfn:#x}, which is never sent"
                self.say(OF_WHOLE["param-page-missing"], text, record)

    def _missing(self, image: Image) -> None:
        expected = [streams.LIBXC_PAGE_DATA, streams.LIBXC_X86_TSC_INFO]
        if self._seen.kind == streams.GUEST_X86_HVM:
            expected += [streams.LIBXC_HVM_CONTEXT, streams.LIBXC_HVM_PARAMS]
        else:
            expected += [streams.LIBXC_X86_PV_INFO, streams.LIBXC_SHARED_INFO]
        if self._seen.version >= 3:
            expected += [
                streams.LIBXC_STATIC_DATA_END, streams.LIBXC_X86_CPUID_POLICY,
                streams.LIBXC_X86_MSR_POLICY,
            ]  # fmt: skip
        there = {record.type for record, _ in image.records.rows() if record.layer == LIBXC}
        for number in expected:
            if number not in there:
                name = streams.LIBXC_RECORDS[number]
                self._whole("missing-record", image.end, f"there is no {name} record")

    def _verify(self, image: Image, offset: int) -> None:
        if not image.source.seekable:
            self._whole("verify-unchecked", offset)
            return
        for pfn, where in islice(mismatches(image, offset), _MOST_MISMATCHES):
            text = f"pfn {pfn:#x} after VERIFY differs from what was sent before it"
            self._whole("verify-mismatch", where, text)


__all__ = ["OF_WHOLE", "RULES", "StrictStream"]
