"""What Xen's own verify-stream-v2 says of an image, as a table.

Where it is wrong itself this table is not (docs/differences.md): it does read pipes,
checkpointed streams and xenstore data, and does refuse a stream that says it is
big-endian. It goes on after an error, so that all of them are reported. What a restore refuses as
well is the row of `restore.stream`. Source:
tools/python/xen/migration (libxc.py, libxl.py, xl.py), 4.6 to c447b730, and Debian's 4.17
itself.
"""

from __future__ import annotations

from hvmctx.abi import streams
from hvmctx.image.index import LARGEST_KEPT
from hvmctx.restore import stream
from hvmctx.restore.rules import ANY, Rule, Seen
from hvmctx.restore.stream import all_words, other_than, shorter, words_missing
from hvmctx.stream.body import Words
from hvmctx.stream.libxc import HvmParams, PageData, PvInfo, PvP2mFrames, PvVcpu, TscInfo
from hvmctx.stream.libxl import EmulatorContext, EmulatorXenstoreData
from hvmctx.stream.reader import LIBXC, LIBXL
from hvmctx.verify.checks import CheckTable, field_not_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hvmctx.restore.rules import Answer, Predicate
    from hvmctx.stream.body import Body

_EMPTY = ("END", "VERIFY", "CHECKPOINT", "STATIC_DATA_END")
_SINCE_V3 = ("STATIC_DATA_END", "X86_CPUID_POLICY", "X86_MSR_POLICY")
_VCPU = ("X86_PV_VCPU_BASIC", "X86_PV_VCPU_EXTENDED", "X86_PV_VCPU_XSAVE", "X86_PV_VCPU_MSRS")
_NEVER = ("TOOLSTACK", "CHECKPOINT_DIRTY_PFN_LIST")
_EMULATOR = ("EMULATOR_XENSTORE_DATA", "EMULATOR_CONTEXT")


def _padding(seen: Seen) -> Answer:
    odd = seen.record.odd_padding
    return [odd.hex()] if odd else False


def _not_empty(seen: Seen) -> Answer:
    return [f"{seen.length} bytes"] if seen.length else False


def _reserved(model: type[Body]) -> Predicate:
    """Its reserved field is not zero; the rule does not apply to a shorter body."""
    at, size = model.TYPE.place("reserved")
    return lambda seen: seen.length >= at + size and any(seen.head(at + size)[at:])


def _words_missing(seen: Seen) -> Answer:
    """Fewer bytes are `page-data-short` here."""
    return seen.length > streams.PAGE_DATA_HEAD.size and words_missing(seen)


def _reserved_bits(seen: Seen) -> Answer:
    words = all_words(seen)
    for at in range(0, len(words), 8):
        if words[at + 6] & 0xF0 or words[at + 7] & 0xF:
            return [f"word {at // 8} is {int.from_bytes(words[at : at + 8], 'little'):#018x}"]
    return False


def _pv_info(seen: Seen) -> Answer:
    width, levels = seen.head(2)[:1], seen.head(2)[1:]
    return seen.length == PvInfo.TYPE.size and (
        width not in (b"\4", b"\x08") or levels not in (b"\3", b"\4")
    )


def _emulator_id(seen: Seen) -> Answer:
    return seen.length >= EmulatorContext.TYPE.size and seen.number(0) not in streams.EMULATORS


def _p2m_length(seen: Seen) -> Answer:
    size = PvP2mFrames.TYPE.size
    return seen.length < size or (seen.length - size) % Words.element != 0


def _xenstore_end(seen: Seen) -> Answer:
    return (
        EmulatorXenstoreData.TYPE.size < seen.length <= LARGEST_KEPT
        and not seen.body().endswith(b"\0")
    )


def _xenstore_odd(seen: Seen) -> Answer:
    body = seen.body()[EmulatorXenstoreData.TYPE.size :]
    return body.endswith(b"\0") and body.count(b"\0") % 2 != 0


def _restored(identifier: str) -> tuple[Rule, ...]:
    """The rows of the restore's rule, which the verifier has too."""
    return tuple(rule for rule in stream.RULES if rule.id == identifier)


# fmt: off
RULES = (
    Rule(LIBXL, "header", "libxl-options", field_not_in("options", 0xFFFC, 0), "reserved options are set"),
    Rule(LIBXC, "image header", "image-options", field_not_in("options", 0xFFFE, 0), "reserved options are set"),
    Rule(LIBXC, "image header", "image-reserved", field_not_in("reserved1", 0xFFFF, 0), "a reserved field is not zero"),
    Rule(LIBXC, "image header", "image-reserved", field_not_in("reserved2", 0xFFFFFFFF, 0), "a reserved field is not zero"),
    Rule(LIBXC, "domain header", "domain-type", field_not_in("type", 0xFFFFFFFF, 1, 2), "neither an x86 PV nor an x86 HVM guest"),
    Rule(LIBXC, "domain header", "domain-reserved", field_not_in("reserved", 0xFFFF, 0), "a reserved field is not zero"),
    Rule(LIBXC, "domain header", "domain-page-shift", field_not_in("page_shift", 0xFFFF, streams.PAGE_SHIFT), "pages are not 4 KiB"),
    Rule(LIBXC, ANY, "record-type", lambda s: not s.record.known, "unknown type, optional or not"),
    *(Rule(LIBXC, name, "record-type", lambda s: True, "no stream has a record of this type") for name in _NEVER),
    Rule(LIBXC, ANY, "record-padding", _padding, "padding is not zero"),
    *(Rule(LIBXC, name, "record-empty", _not_empty, "records of this type have no body") for name in _EMPTY),
    *(Rule(LIBXC, name, "record-version", lambda s: s.version < 3, "a record of version 3 in a stream of version 2") for name in _SINCE_V3),
    Rule(LIBXC, "PAGE_DATA", "page-data-short", shorter(streams.PAGE_DATA_HEAD.size + 1), "nothing after the count"),
    Rule(LIBXC, "PAGE_DATA", "page-data-reserved", _reserved(PageData), "the reserved field is not zero"),
    Rule(LIBXC, "PAGE_DATA", "page-data-words", _words_missing, "too short for as many words as the count says"),
    Rule(LIBXC, "PAGE_DATA", "page-data-reserved-bits", _reserved_bits, "bits 52 to 59 of a word are reserved"),
    *_restored("page-data-type"),
    *_restored("page-data-length"),
    Rule(LIBXC, "X86_PV_INFO", "pv-info-length", other_than(PvInfo.TYPE.size), "the length is not 8"),
    Rule(LIBXC, "X86_PV_INFO", "pv-info-width", _pv_info, "neither 4- nor 8-byte words, or neither 3 nor 4 levels"),
    Rule(LIBXC, "X86_PV_INFO", "pv-info-reserved", _reserved(PvInfo), "a reserved field is not zero"),
    Rule(LIBXC, "X86_PV_P2M_FRAMES", "p2m-length", _p2m_length, "shorter than 8 bytes, or not whole frames"),
    *_restored("pv-vcpu-short"),
    *(Rule(LIBXC, name, "pv-vcpu-reserved", _reserved(PvVcpu), "the reserved field is not zero") for name in _VCPU),
    *_restored("shared-info-length"),
    *_restored("tsc-length"),
    Rule(LIBXC, "X86_TSC_INFO", "tsc-reserved", _reserved(TscInfo), "the reserved field is not zero"),
    *_restored("hvm-context-empty"),
    *_restored("hvm-params-short"),
    Rule(LIBXC, "HVM_PARAMS", "hvm-params-reserved", _reserved(HvmParams), "the reserved field is not zero"),
    *_restored("hvm-params-count"),
    *_restored("cpuid-policy-length"),
    *_restored("msr-policy-length"),
    Rule(LIBXL, ANY, "record-type", lambda s: not s.record.known, "unknown type"),
    Rule(LIBXL, ANY, "record-padding", _padding, "padding is not zero"),
    *(Rule(LIBXL, name, "record-empty", _not_empty, "records of this type have no body") for name in ("END", "LIBXC_CONTEXT", "CHECKPOINT_END")),
    *_restored("libxl-emulator-short"),
    *(Rule(LIBXL, name, "libxl-emulator-id", _emulator_id, "no emulator has this id") for name in _EMULATOR),
    Rule(LIBXL, "EMULATOR_XENSTORE_DATA", "libxl-xenstore-end", _xenstore_end, "the last string is not terminated"),
    Rule(LIBXL, "EMULATOR_XENSTORE_DATA", "libxl-xenstore-pairs", _xenstore_odd, "a key without a value"),
    Rule(LIBXL, "CHECKPOINT_STATE", "libxl-checkpoint-state", shorter(1), "empty body"),
)
# fmt: on


class Verifier(CheckTable):
    """The table, applied to an image being opened."""

    def __init__(self) -> None:
        super().__init__(RULES)


__all__ = ["RULES", "Verifier"]
