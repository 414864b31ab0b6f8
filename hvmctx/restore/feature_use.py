"""Which features of its CPU a saved guest has switched on: `uses`.

Only what a load checks counts: CR4 and EFER, the states of XCR0, and the MSRs of CPU_MSR records.
Whether a guest runs AVX code, or asks CPUID once more, no record tells.
"""

from __future__ import annotations

from hvmctx.abi import x86
from hvmctx.abi.msrs import MSRS
from hvmctx.abi.streams import Flat
from hvmctx.abi.x86_bits import CR4, EFER, XCR0, SpecCtrl, bits_of, named_bits
from hvmctx.errors import HvmctxError
from hvmctx.restore.clamping import STATES
from hvmctx.restore.msrs import SPEC_CTRL_BITS
from hvmctx.restore.registers import CR4_FEATURES, EFER_FEATURES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from hvmctx.abi.releases import Release
    from hvmctx.context.hvm_context import HvmContext
    from hvmctx.context.record import Record

__all__ = ["Use", "uses"]

_SPEC_CTRL = 0x48
_FEATURE_OF_MSR = {
    0x6E1: "PKS", 0xD90: "MPX", 0xDA0: "XSAVES", 0xC001011F: "VIRT_SSBD", 0xC0011019: "DBEXT",
    0xC001101A: "DBEXT", 0xC001101B: "DBEXT", 0xC0011027: "DBEXT",
}  # fmt: skip
_MSR = Flat(x86.hvm_one_msr)
_IN_CR4 = (*CR4_FEATURES, ("VMX", CR4.VMXE, "4.2"))
_IN_EFER = (*EFER_FEATURES, ("SVM", EFER.SVME, "4.2"))
_IN_SPEC_CTRL = (
    (("IBRSB", "IBRS"), -1, "4.9"),
    *((features, bits, since) for bits, features, since in SPEC_CTRL_BITS),
)


class Use:
    """Where a feature is switched on: `words`, and the first record that says so."""

    __slots__ = ("instance", "offset", "record", "words")

    def __init__(self, record: Record, words: str) -> None:
        self.record = record.name
        self.instance = record.instance
        self.offset = record.offset or 0
        self.words = words


def uses(
    context: HvmContext, lost: Iterable[str], has: Callable[[str], bool], release: Release
) -> dict[str, Use]:
    """Of features that a guest loses, those that its context has switched on: what a load by this
    release refuses then. `has` says which features the guest keeps: a bit that one of those
    allows as well is no use of the other."""
    gone = set(lost)
    found: dict[str, Use] = {}
    bits: dict[tuple[str, str], tuple[Record, type, int]] = {}
    for record in context.entries:
        try:
            for feature, what, register, mask in _switched_on(record, gone, has, release):
                first, _, seen = bits.get((feature, what), (record, register, 0))
                bits[feature, what] = first, register, seen | mask
        except HvmctxError:  # shorter than its structure, which the load says itself
            continue
    for (feature, what), (record, register, mask) in bits.items():
        names = named_bits(register)
        said = ", ".join(names.get(bit, f"bit {bit.bit_length() - 1}") for bit in bits_of(mask))
        words = f"{what} has {said}" if mask else f"its CPU_MSR has {what}"
        if feature in found:
            found[feature].words += f", {words}"
        else:
            found[feature] = Use(record, words)
    return found


def _switched_on(
    record: Record, gone: set[str], has: Callable[[str], bool], release: Release
) -> Iterator[tuple[str, str, type, int]]:
    """(feature, register in words, its bits by name, which of them) of one record; no bits of an
    MSR that is only there with the feature."""

    def beyond(
        rows: Iterable[tuple[str | tuple[str, ...], int, str]], value: int
    ) -> Iterator[tuple[str, int]]:
        standing = [
            ((names,) if isinstance(names, str) else names, bits)
            for names, bits, since in rows
            if release.since(since)
        ]
        for names, bits in standing:
            kept = any(has(name) for others, same in standing if same == bits for name in others)
            if value & bits and not kept:
                yield from ((name, value & bits) for name in names if name in gone)

    if record.name == "CPU":
        fields = record.fields()
        for name, what, register, rows in (
            ("cr4", "CR4", CR4, _IN_CR4), ("msr_efer", "EFER", EFER, _IN_EFER),
        ):  # fmt: skip
            for feature, mask in beyond(rows, fields[name]):  # type: ignore[arg-type]  # numbers
                yield feature, what, register, mask
    elif record.name == "CPU_XSAVE":
        states: int = record.fields()["xcr0_accum"]  # type: ignore[assignment]
        for feature, mask in beyond(STATES, states):
            yield feature, "loaded XCR0", XCR0, mask
    elif record.name == "CPU_MSR":
        body = bytes(record.body)[x86.CPU_MSR.size :]
        for index, _, value in _MSR.iter_unpack(body[: len(body) // _MSR.size * _MSR.size]):
            if index == _SPEC_CTRL:
                for feature, mask in beyond(_IN_SPEC_CTRL, value):
                    yield feature, MSRS[index], SpecCtrl, mask
            elif _FEATURE_OF_MSR.get(index) in gone:
                yield _FEATURE_OF_MSR[index], MSRS[index], SpecCtrl, 0
