"""What Xen's own verify-stream-v2 says of an image, as a table.

Where it is in error itself this table is not (docs/differences.md): it does read pipes,
checkpointed streams and xenstore data, and does refuse a stream that says it is
big-endian. It goes on behind an error, so that all of them are told. Source:
tools/python/xen/migration (libxc.py, libxl.py, xl.py), 4.6 to c447b730, and Debian's 4.17
itself.
"""

from __future__ import annotations

from hvmctx.abi import streams
from hvmctx.findings import ERROR
from hvmctx.image.index import LARGEST_KEPT
from hvmctx.stream.pages import length_of, pages_start
from hvmctx.stream.reader import LIBXC, LIBXL
from hvmctx.verify.checks import Check, CheckTable, HeaderCheck, Seen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_EMPTY = ("END", "VERIFY", "CHECKPOINT", "STATIC_DATA_END")
_SINCE_V3 = ("STATIC_DATA_END", "X86_CPUID_POLICY", "X86_MSR_POLICY")
_VCPU = ("X86_PV_VCPU_BASIC", "X86_PV_VCPU_EXTENDED", "X86_PV_VCPU_XSAVE", "X86_PV_VCPU_MSRS")
_NEVER = ("TOOLSTACK", "CHECKPOINT_DIRTY_PFN_LIST")
_EMULATOR = ("EMULATOR_XENSTORE_DATA", "EMULATOR_CONTEXT")


def _padding(seen: Seen) -> bool | list[str]:
    odd = seen.record.odd_padding
    return [odd.hex()] if odd else False


def _not_empty(seen: Seen) -> bool | list[str]:
    return [f"{seen.length} bytes"] if seen.length else False


def _shorter(size: int) -> Callable[[Seen], bool]:
    return lambda seen: seen.length < size


def _not(size: int) -> Callable[[Seen], bool]:
    return lambda seen: seen.length != size


def _not_rows(size: int) -> Callable[[Seen], bool]:
    return lambda seen: seen.length == 0 or seen.length % size != 0


def _has(at: int, size: int = 4) -> Callable[[Seen], bool]:
    """Bytes that are not zero, where there are that many."""
    return lambda seen: seen.length >= at + size and any(seen.head(at + size)[at:])


def _words_missing(seen: Seen) -> bool:
    return streams.PAGE_DATA_HEAD.size < seen.length < pages_start(seen.record.count)


def _words(seen: Seen) -> bytes:
    """The page words, nothing where they are not all there, or too many to be read."""
    return (
        b"" if seen.length <= streams.PAGE_DATA_HEAD.size or _words_missing(seen) else seen.words()
    )


def _reserved_bits(seen: Seen) -> bool | list[str]:
    words = _words(seen)
    for at in range(0, len(words), 8):
        if words[at + 6] & 0xF0 or words[at + 7] & 0xF:
            return [f"word {at // 8} is {int.from_bytes(words[at : at + 8], 'little'):#018x}"]
    return False


def _bad_type(seen: Seen) -> bool | list[str]:
    for number, top in enumerate(_words(seen)[7::8]):
        if top >> 4 in streams.INVALID_PAGE_TYPES:
            return [f"word {number} has type {top >> 4}"]
    return False


def _page_length(seen: Seen) -> bool | list[str]:
    if seen.length <= streams.PAGE_DATA_HEAD.size or _words_missing(seen):
        return False
    words = _words(seen)
    if len(words) < 8 * seen.record.count:
        return False
    expected = length_of(len(words) // 8, words[7::8])
    return [f"{seen.length} bytes, expected {expected}"] if seen.length != expected else False


def _pv_info(seen: Seen) -> bool:
    width, levels = seen.head(2)[:1], seen.head(2)[1:]
    return seen.length == 8 and (width not in (b"\4", b"\x08") or levels not in (b"\3", b"\4"))


def _params_length(seen: Seen) -> bool:
    return seen.length >= 8 and seen.length != 8 + 16 * seen.number(0)


def _emulator_id(seen: Seen) -> bool:
    return seen.length >= 8 and seen.number(0) not in streams.EMULATORS


def _xenstore_end(seen: Seen) -> bool:
    return 8 < seen.length <= LARGEST_KEPT and not seen.body().endswith(b"\0")


def _xenstore_odd(seen: Seen) -> bool:
    body = seen.body()[8:]
    return body.endswith(b"\0") and body.count(b"\0") % 2 != 0


# fmt: off
HEADER_CHECKS = (
    HeaderCheck(LIBXL, "header", "libxl-options", "options", 0xFFFC, (0,), "reserved options are set", ERROR),
    HeaderCheck(LIBXC, "image header", "image-options", "options", 0xFFFE, (0,), "reserved options are set", ERROR),
    HeaderCheck(LIBXC, "image header", "image-reserved", "reserved1", 0xFFFF, (0,), "a reserved field is not zero", ERROR),
    HeaderCheck(LIBXC, "image header", "image-reserved", "reserved2", 0xFFFFFFFF, (0,), "a reserved field is not zero", ERROR),
    HeaderCheck(LIBXC, "domain header", "domain-type", "type", 0xFFFFFFFF, (1, 2), "neither an x86 PV nor an x86 HVM guest", ERROR),
    HeaderCheck(LIBXC, "domain header", "domain-reserved", "reserved", 0xFFFF, (0,), "a reserved field is not zero", ERROR),
    HeaderCheck(LIBXC, "domain header", "domain-page-shift", "page_shift", 0xFFFF, (streams.PAGE_SHIFT,), "pages are not of 4 KiB", ERROR),
)
CHECKS = tuple(Check(*row, ERROR) for row in (
    (LIBXC, "*", "record-type", lambda s: not s.record.known, "no type that there is, optional or not"),
    *((LIBXC, name, "record-type", lambda s: True, "no stream holds a record of this type") for name in _NEVER),
    (LIBXC, "*", "record-padding", _padding, "padding is not zero"),
    *((LIBXC, name, "record-empty", _not_empty, "a record that has no body has one") for name in _EMPTY),
    *((LIBXC, name, "record-version", lambda s: s.version < 3, "a record of version 3 in a stream of version 2") for name in _SINCE_V3),
    (LIBXC, "PAGE_DATA", "page-data-short", _shorter(9), "no more than a count"),
    (LIBXC, "PAGE_DATA", "page-data-reserved", _has(4), "the reserved field is not zero"),
    (LIBXC, "PAGE_DATA", "page-data-words", _words_missing, "too short for the words that the count says"),
    (LIBXC, "PAGE_DATA", "page-data-reserved-bits", _reserved_bits, "bits 52 to 59 of a word are reserved"),
    (LIBXC, "PAGE_DATA", "page-data-type", _bad_type, "a word has a type of 5 to 8"),
    (LIBXC, "PAGE_DATA", "page-data-length", _page_length, "the length is not that of the words and their pages"),
    (LIBXC, "X86_PV_INFO", "pv-info-length", _not(8), "the length is not 8"),
    (LIBXC, "X86_PV_INFO", "pv-info-width", _pv_info, "neither 4- nor 8-byte words, or neither 3 nor 4 levels"),
    (LIBXC, "X86_PV_INFO", "pv-info-reserved", _has(2, 6), "a reserved field is not zero"),
    (LIBXC, "X86_PV_P2M_FRAMES", "p2m-length", lambda s: s.length < 8 or s.length % 8 != 0, "shorter than 8 bytes, or not whole frames"),
    *((LIBXC, name, "pv-vcpu-short", _shorter(8), "shorter than 8 bytes") for name in _VCPU),
    *((LIBXC, name, "pv-vcpu-reserved", _has(4), "the reserved field is not zero") for name in _VCPU),
    (LIBXC, "SHARED_INFO", "shared-info-length", _not(streams.PAGE_SIZE), "not one page"),
    (LIBXC, "X86_TSC_INFO", "tsc-length", _not(24), "the length is not 24"),
    (LIBXC, "X86_TSC_INFO", "tsc-reserved", _has(20), "the reserved field is not zero"),
    (LIBXC, "HVM_CONTEXT", "hvm-context-empty", _shorter(1), "there is nothing in it"),
    (LIBXC, "HVM_PARAMS", "hvm-params-short", _shorter(8), "too short for its count"),
    (LIBXC, "HVM_PARAMS", "hvm-params-reserved", _has(4), "the reserved field is not zero"),
    (LIBXC, "HVM_PARAMS", "hvm-params-count", _params_length, "length and count contradict"),
    (LIBXC, "X86_CPUID_POLICY", "cpuid-policy-length", _not_rows(24), "empty, or not whole rows of 24 bytes"),
    (LIBXC, "X86_MSR_POLICY", "msr-policy-length", _not_rows(16), "empty, or not whole rows of 16 bytes"),
    (LIBXL, "*", "record-type", lambda s: not s.record.known, "no type that there is"),
    (LIBXL, "*", "record-padding", _padding, "padding is not zero"),
    *((LIBXL, name, "record-empty", _not_empty, "a record that has no body has one") for name in ("END", "LIBXC_CONTEXT", "CHECKPOINT_END")),
    *((LIBXL, name, "libxl-emulator-short", _shorter(8), "too short for emulator id and index") for name in _EMULATOR),
    *((LIBXL, name, "libxl-emulator-id", _emulator_id, "no emulator has this id") for name in _EMULATOR),
    (LIBXL, "EMULATOR_XENSTORE_DATA", "libxl-xenstore-end", _xenstore_end, "the last string does not end"),
    (LIBXL, "EMULATOR_XENSTORE_DATA", "libxl-xenstore-pairs", _xenstore_odd, "a key without a value"),
    (LIBXL, "CHECKPOINT_STATE", "libxl-checkpoint-state", _shorter(1), "there is nothing in it"),
))
# fmt: on


class Verifier(CheckTable):
    """The whole table, over an image being opened."""

    def __init__(self) -> None:
        super().__init__(HEADER_CHECKS, CHECKS)
