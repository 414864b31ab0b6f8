"""What Xen's programs write when a restore fails, as a table: `LINES`.

A row is what a line says, with names in braces for what varies, and the rule that says it: its
id, or `*-length` for the rule of that name about the record that is meant. Reasons name what
was refused; a consequence only says that something was; a note explains and refuses nothing.

Source: the messages of xen/arch/x86, xen/common, tools/libs/guest, tools/libs/light, tools/xl and
what they were called before, in the tags 4.0.0 to 4.22.0; those of xenopsd as people report
them. What the hypervisor says with dprintk only comes from debug builds; whatever it does not
say at all is found by the errno of the record that it failed to load.
"""

from __future__ import annotations

import re
from itertools import islice

from hvmctx.abi.releases import Window
from hvmctx.restore.context import ERRNO_SINCE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "CONSEQUENCE", "HYPERVISOR", "LIBXC", "LIBXL", "LINES", "LONGEST", "NOTE", "REASON", "XENOPSD",
    "XL", "LogLine", "find", "find_all",
]  # fmt: skip

HYPERVISOR, LIBXC, LIBXL = "hypervisor", "libxenguest", "libxl"
XL, XENOPSD = "xl", "xenopsd"
REASON, CONSEQUENCE, NOTE = "reason", "consequence", "note"

_KINDS = {
    "": r"(?:0x[0-9a-fA-F]{1,16}|[0-9]{1,20})",
    "x": r"[0-9a-fA-F]{1,16}",
    "w": r"[\w /.()-]{1,60}?",
    "v": r"[0-9]{1,3}\.[0-9]{1,3}(?:\.[0-9]{1,3})?",
}
"""What a name in braces stands for: a number, one in hex without 0x, words, a version."""
LONGEST = 2000
"""Characters of a line that are looked at. Each pattern is matched in steps of no more than its own
length and the runs of its names, so that the time for a line is bounded."""


class LogLine:
    """What one message of a program looks like, and what it means.

    `pattern` is the message, `source` the program, `kind` REASON, CONSEQUENCE or NOTE. `rules` are ids; `field` is
    that of the record which the message is about, if it is one; `words` say what no rule
    does. `releases` are those that write it so: a message tells who wrote it. `debug` messages
    are only in builds with debugging.

    >>> found = LogLine(HYPERVISOR, "restore: bad CR0 {value}", "cpu-cr0", field="cr0")
    >>> found.match("(XEN) HVM2 restore: bad CR0 0x80000010")
    {'value': '0x80000010'}
    """

    __slots__ = (
        "_needle", "_regex", "debug", "field", "kind", "pattern", "releases", "rules", "source",
        "words",
    )  # fmt: skip

    def __init__(
        self, source: str, pattern: str, *rules: str, field: str = "", words: str = "",
        kind: str = REASON, releases: Window | None = None, debug: bool = False,
    ) -> None:  # fmt: skip
        pieces = re.split(r"\{(\w+)(?::(\w))?\}", pattern)
        self._needle = max(pieces[::3], key=len)
        """The longest part that does not vary: most lines lack it."""
        regex = re.escape(pieces[0])
        for name, of, after in zip(pieces[1::3], pieces[2::3], pieces[3::3]):
            regex += f"(?P<{name}>{_KINDS[of or '']}){re.escape(after)}"
        self._regex = re.compile(regex)
        self.pattern = pattern
        self.source = source
        self.rules = rules
        self.field = field
        self.words = words
        self.kind = kind
        self.releases = releases or Window()
        self.debug = debug

    def __repr__(self) -> str:
        return f"<{self.source}: {self.pattern}>"

    def occurs(self, text: str) -> bool:
        """Whether such a message may be anywhere in a text."""
        return self._needle in text

    def match(self, text: str) -> dict[str, str] | None:
        """What stands for the names in a line; None if this is another message."""
        if not self.occurs(text):
            return None
        found = self._regex.search(text)
        return None if found is None else found.groupdict()


_H = HYPERVISOR


def _of(source: str, *rows: tuple[str, ...], kind: str = REASON) -> Iterator[LogLine]:
    """Messages that are a reason, each with the ids of its rules."""
    return (LogLine(source, pattern, *rules, kind=kind) for pattern, *rules in rows)


_POLICY = (
    "cpuid-policy-count", "cpuid-policy-place", "msr-policy-count", "msr-policy-flags",
    "msr-policy-index", "msr-policy-value", "cpuid-policy-vendor", "cpuid-policy-basic",
    "cpuid-policy-subleaf", "cpuid-policy-extended", "msr-policy-platform",
)  # fmt: skip

# fmt: off
LINES = (
    # the closing line of a record comes after what its loader said
    LogLine(_H, "restore {dom:w}: failed to {phase:w} {record:w}:{instance} rc -{errno}", kind=CONSEQUENCE, releases=Window("4.19")),
    LogLine(_H, "restore: failed to load entry {type}/{instance} rc -{errno}", kind=CONSEQUENCE, releases=Window(ERRNO_SINCE, "4.18")),
    LogLine(_H, "restore: failed to load entry {type}/{instance}", kind=CONSEQUENCE, releases=Window(gone=ERRNO_SINCE)),
    LogLine(_H, "restore: bad CR0 {value}", "cpu-cr0", field="cr0"),
    LogLine(_H, "restore: bad CR4 {value} (valid {valid}, rejected {rejected})", "cpu-cr4", field="cr4", releases=Window("4.18")),
    LogLine(_H, "restore: bad CR4 {value}", "cpu-cr4", field="cr4", releases=Window(until="4.17")),
    LogLine(_H, "restore: bad EFER {value}", "cpu-efer", field="msr_efer"),
    LogLine(_H, "restore: bad DR6 {value} or DR7 {dr7}", "cpu-dr", field="dr7", releases=Window("4.18")),
    LogLine(_H, "restore: bad CR3 {value}", "cpu-cr3", field="cr3", releases=Window("4.14")),
    LogLine(_H, "bad flags value in CPU context: {value}", "cpu-flags", field="flags", releases=Window("4.7")),
    LogLine(_H, "restore: bad MSR_TSC_AUX {value}", "cpu-tsc-aux", field="msr_tsc_aux", releases=Window("4.12")),
    LogLine(_H, "Invalid pending event {value}", "cpu-event", "cpu-error-code", field="pending_event", debug=True),
    LogLine(_H, "restore: dom{dom} has no vcpu{instance}", "*-vcpu", debug=True),
    LogLine(_H, "restore: dom{dom} has no vCPU {instance}", "*-vcpu", debug=True),
    LogLine(_H, "restore: dom{dom} has no apic{instance}", "*-vcpu", debug=True),
    LogLine(_H, "restore: domain has no v{what:w} {instance}", "*-vcpu", debug=True, releases=Window(until="4.0")),
    LogLine(_H, "restore: PCI-ISA link {link} out of range ({value})", "pci-link-route", field="route[{link}]"),
    LogLine(_H, "too many ({value}) variable range MTRRs", "mtrr-cap", field="msr_mtrr_cap", debug=True, releases=Window("4.12")),
    LogLine(_H, "restore: unsupported MCA capabilities {value}", "vmce-vcpu-caps", field="caps", releases=Window(ERRNO_SINCE)),
    LogLine(_H, "restore: unsupported MCA capabilities {value}", "vmce-vcpu-caps", field="caps", releases=Window(gone=ERRNO_SINCE), debug=True),
    LogLine(_H, "restore: not enough data left to read {length} xsave bytes", "cpu-xsave-cut"),
    LogLine(_H, "restore mismatch: xsave length {length} < {least}", "cpu-xsave-length"),
    LogLine(_H, "restore: inconsistent xsave state (feat={feat} accum={accum} xcr0={xcr0} bv={bv} err=-{errno})", "cpu-xsave-states", "cpu-xsave-compact", "cpu-xsave-reserved", field="xcr0_accum"),
    LogLine(_H, "restore: inconsistent xsave state (feat={feat} accum={accum} xcr0={xcr0} bv={bv}", "cpu-xsave-states", "cpu-xsave-compact", "cpu-xsave-reserved", field="xcr0_accum"),
    LogLine(_H, "restore mismatch: xsave length {length} > {fits}", "cpu-xsave-excess", "cpu-xsave-long"),
    LogLine(_H, "restore mismatch: xsave length {length} != {fits}", "cpu-xsave-short"),
    LogLine(_H, "restore: compressed xsave state not supported", "cpu-xsave-compact"),
    LogLine(_H, "restore: not enough data left to read {length} MSR bytes", "cpu-msr-cut", words="senders before 4.10 wrote the length of all MSRs that there are, whatever followed"),
    LogLine(_H, "restore mismatch: MSR length {length} < {least}", "cpu-msr-length"),
    LogLine(_H, "restore mismatch: MSR length {length} != {fits}", "cpu-msr-count"),
    LogLine(_H, "load MSR {index} with value {value} failed", "cpu-msr-index", releases=Window("4.20")),
    LogLine(_H, "attempted load of unhandled MSR {index}", "cpu-msr-index", releases=Window("4.20")),
    LogLine(_H, "restore mismatch: expected {how:w} type {type} length {fits}, saw type {saw} length {length}.", "*-length"),
    LogLine(_H, "restore mismatch: expected type {type} length {fits}, saw type {saw} length {length}", "*-length", releases=Window(until="4.0")),
    LogLine(_H, "restore: save did not end with a null entry", "context-end"),
    LogLine(_H, "restore: unknown entry typecode {type}", "context-type"),
    LogLine(_H, "restore: bad magic number {value}", "context-magic", field="magic"),
    LogLine(_H, "restore: unsupported version {value}", "context-version", field="version"),
    LogLine(_H, "Xen version {version:v}", kind=NOTE),
    LogLine(XL, "xen_version            : {version:v}", kind=NOTE),
    LogLine(_H, "restore: VM saved on one CPU ({saved}) and restored on another ({here}).", kind=NOTE, words="the processors differ: that alone refuses nothing"),
    LogLine(_H, "bogus APIC ID {value} loaded", kind=NOTE, words="the LAPIC's LDR and ID do not match; it is loaded as it is"),

    LogLine(LIBXC, "Unable to restore HVM context ({errno} = ", kind=CONSEQUENCE, words="the hypervisor refused the HVM context: xl dmesg has the reason"),
    LogLine(LIBXC, "Failed to set CPUID policy: leaf {leaf:x}, subleaf {subleaf:x}, msr {msr:x} ({errno} = ", *_POLICY, words="the destination does not take the guest's CPU policy"),
    *_of(LIBXC,
        ("Invalid marker: Got {value}", "stream-damaged"),
        ("Invalid ID: Expected {fits}, Got {value}", "stream-damaged"),
        ("Invalid Version: Expected ", "libxc-version"),
        ("exceeds max (", "libxc-length"),
        ("Mandatory record {stream} (", "libxc-unknown"),
        ("Unable to restore {kind:w} domain into an x86", "libxc-guest"),
        ("Invalid page size {value} for x86", "libxc-page-shift"),
        ("PAGE_DATA record truncated: length {length}", "page-data-short"),
        ("Expected at least 1 pfn in PAGE_DATA record", "page-data-count"),
        ("PAGE_DATA record (length {length}) too short to contain {count} pfns", "page-data-words"),
        ("Unknown type {value} for pfn {pfn} (index {place})", "page-data-type"),
        ("Invalid type {value} for pfn {pfn} (index {place})", "page-data-type"),
        ("(index {place}) outside domain maximum", "page-data-pfn"),
        ("PAGE_DATA record wrong size: length {length}, expected ", "page-data-length"),
        ("No STATIC_DATA_END seen", "page-data-static", "p2m-static"),
        ("Multiple STATIC_DATA_END records found", "static-end-twice"),
        ("Found checkpoint in non-checkpointed stream", "checkpoint"),
        ("X86_TSC_INFO record wrong size: length {length}", "tsc-length"),
        ("X86_CPUID_POLICY size {length} should be multiple of", "cpuid-policy-length"),
        ("X86_MSR_POLICY size {length} should be multiple of", "msr-policy-length"),
        ("HVM_PARAMS record truncated: length {length}", "hvm-params-short"),
        ("HVM_PARAMS record truncated: header {head}, count {count}", "hvm-params-count"),
        ("hvm_params record is too short", "hvm-params-short"),
        ("set HVM param {param} = {value} (", "hvm-params-index"),
        ("Already received X86_PV_INFO record", "pv-info-twice"),
        ("X86_PV_INFO record truncated: length {length}", "pv-info-short"),
        ("Invalid X86_PV_INFO combination", "pv-info-width"),
        ("X86_PV_P2M_FRAMES record truncated: length {length}", "p2m-short"),
        ("exceeds Start (", "p2m-range"),
        ("X86_PV_P2M_FRAMES record wrong size", "p2m-length"),
        ("Not yet received X86_PV_INFO record", "p2m-order", "shared-info-order"),
        ("SHARED_INFO record wrong size: length {length}", "shared-info-length"),
        ("Sender didn't send vcpu0's basic state", "pv-no-vcpu"),
        ("Failed to read Image Header from stream", "stream-damaged"),
        ("Failed to read Domain Header from stream", "stream-damaged"),
        ("Failed to read Record Header from stream", "stream-damaged"),
        ("bytes of data for record (", "stream-damaged"),
        ("Error when reading {what:w} (", "stream-damaged"),
    ),
    LogLine(LIBXC, "Unable to handle big endian streams", "stream-damaged"),
    LogLine(LIBXC, "Failed to populate physmap", words="this host has no memory left for the guest, or its maxmem is too low: not a fault of the image"),
    LogLine(LIBXC, "Missing leaf {leaf}, subleaf {subleaf}", words="the configuration asks for a CPUID leaf that this host lacks"),
    LogLine(LIBXC, "Restore failed ({errno} = ", kind=CONSEQUENCE),

    *_of(LIBXL,
        ("Invalid ident: expected {fits}, got {value}", "stream-damaged"),
        ("Unexpected Version: expected {fits}, got {value}", "stream-damaged"),
        ("Unrecognised record {stream}", "libxl-unknown"),
        ("Emulator record too short to contain header", "libxl-emulator-short"),
        ("Emulator xenstore data record too short to contain header", "libxl-emulator-short"),
        ("emulator context record when none was expected", "libxl-not-hvm"),
        ("xenstore emulator record when none was expected", "libxl-not-hvm"),
        ("Key in xenstore data not NUL terminated", "libxl-xenstore"),
        ("empty key found in xenstore data", "libxl-xenstore"),
        ("Key in xenstore data not relative", "libxl-xenstore"),
        ("Val in xenstore data not NUL terminated", "libxl-xenstore"),
        ("Unexpected CHECKPOINT_END record in stream", "libxl-checkpoint"),
        ("Unexpected CHECKPOINT_STATE record in stream", "libxl-checkpoint"),
    ),
    LogLine(LIBXL, "device model: spawn failed", words="QEMU did not start with the state in the image: its own log (/var/log/xen/qemu-dm-NAME.log) has the reason"),
    LogLine(LIBXL, "exited without providing results", words="the helper that reads the stream died: its last line says where"),
    LogLine(LIBXL, "device model did not start", kind=CONSEQUENCE),
    LogLine(LIBXL, "cannot (re-)build domain: ", kind=CONSEQUENCE),

    LogLine(XL, "File has wrong magic number", "stream-damaged", words="the file does not start as xl save files do: a libxl or libxc stream, or one of libvirt or XenServer, has no such header"),
    LogLine(XL, "File has wrong byte order", "xl-byteorder"),
    LogLine(XL, "Savefile has mandatory flag(s) {value}", words="flags in the xl header that this xl does not know"),
    LogLine(XL, "Savefile truncated", "stream-damaged"),

    LogLine(XENOPSD, "Received error from emu-manager: xenguest {error:w}\"", kind=CONSEQUENCE, words="xenguest failed: its own lines (daemon.log) and the hypervisor's (hypervisor.log) have the reason"),
    LogLine(XENOPSD, "Emu_manager_protocol_failure", kind=CONSEQUENCE, words="the helper died: its own lines (daemon.log) have the reason"),
)
"""The more specific of two first."""
# fmt: on


def find(text: str, rows: Iterable[LogLine] = LINES) -> tuple[LogLine, dict[str, str]] | None:
    """Which message a line is, and what stands for its names; None if it is none of these."""
    text = text[:LONGEST]
    for line in rows:
        values = line.match(text)
        if values is not None:
            return line, values
    return None


def find_all(lines: Iterable[str]) -> Iterator[tuple[int, str, LogLine, dict[str, str]]]:
    """The lines of a log that are messages of the table, each with its number from 1, the row,
    and what stands for its names. Most messages are in no line of many, which is found out for
    the whole of these: a line costs a tenth of what `find` does."""
    rest, before = iter(lines), 0
    while batch := list(islice(rest, _BATCH)):
        whole = "\n".join(batch)
        rows = [row for row in LINES if row.occurs(whole)]
        for number, text in enumerate(batch, before + 1):
            found = find(text, rows) if rows else None
            if found is not None:
                yield number, text, *found
        before += len(batch)


_BATCH = 512
