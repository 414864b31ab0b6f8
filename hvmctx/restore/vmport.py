"""Loads a VMPORT record as the patch's own loader, `load_domain_ctxt`, does: the model of it.

`restore` is that loader as a pure function, step by step in its order, with its u32
arithmetic. It ends in an errno, in a restored state, or at the first step that would leave
the memory it may touch. It may load over a state that the domain has, and run out of memory for
slots; what the description of the patch does not settle there is said where it is.
`findings_of` says everything that is wrong with a record, not only the first; `restore_fixed`
is the loader with the checks that it lacks.

Source: as `abi.vmport`. The loader checks that a descriptor and a body are there, the
typecode, the maximum length and the version, and nothing else: no buffer length, no key or
value length, no count.
"""

from __future__ import annotations

from hvmctx.abi import vmport as abi
from hvmctx.abi.declare import VMPORT_TYPECODE
from hvmctx.abi.vmport import ENTRY_HEAD, HEAD, JUMBO_ENTRY_HEAD, VmportProfile
from hvmctx.abi.x86 import DESCRIPTOR
from hvmctx.context.vmport import Parts, VmportState
from hvmctx.context.vmport_slots import Slots, as_text
from hvmctx.findings import ERROR, WARNING, Finding
from hvmctx.restore.rules import Rule
from hvmctx.stream.reader import CONTEXT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import NoReturn

ENOMEM, E2BIG, EFBIG, ESRCH, EINVAL = "ENOMEM", "E2BIG", "EFBIG", "ESRCH", "EINVAL"
_U32 = 0xFFFFFFFF
_VERSION = HEAD.locate("version")
_PROTOCOL = abi.vmport_channel_control.proto_num.offset
_PROTOCOL_AT = abi.CONTROL_NUMBERS.index("proto_num")

OVERREAD, OVERFLOW, INDEX = "overread", "overflow", "index"
SITES = {
    "version": OVERREAD,
    "fixed part": OVERREAD,
    "send_buf": OVERFLOW,
    "send_buf source": OVERREAD,
    "recv_buf": OVERFLOW,
    "recv_buf source": OVERREAD,
    "jumbo recv_buf": OVERFLOW,
    "jumbo recv_buf source": OVERREAD,
    "guestinfo slot": INDEX,
    "guestinfo head": OVERREAD,
    "guestinfo key_data": OVERFLOW,
    "guestinfo key_data source": OVERREAD,
    "guestinfo val_data": OVERFLOW,
    "guestinfo val_data source": OVERREAD,
    "guestinfo_jumbo slot": INDEX,
    "guestinfo_jumbo head": OVERREAD,
    "guestinfo_jumbo key_data": OVERFLOW,
    "guestinfo_jumbo key_data source": OVERREAD,
    "guestinfo_jumbo val_data": OVERFLOW,
    "guestinfo_jumbo val_data source": OVERREAD,
}
"""Every memory-unsafe step that the loader can take, in the order of its code: where, and
which kind."""

# fmt: off
RULES = {row[0]: Rule(CONTEXT, "VMPORT", row[0], None, row[3], errno=row[2], severity=row[1]) for row in (
    ("vmport-allocated", ERROR, ENOMEM, "the domain's VMPORT state is not allocated (ENOMEM)"),
    ("vmport-descriptor", ERROR, E2BIG, "fewer than 8 bytes are left for the descriptor (E2BIG)"),
    ("vmport-body", ERROR, EFBIG, "the body is longer than what is left (EFBIG)"),
    ("vmport-type", ERROR, ESRCH, "the typecode is not 21, or the body longer than the largest (ESRCH)"),
    ("vmport-slot-allocated", ERROR, ENOMEM, "no memory for a guestinfo slot (ENOMEM)"),
    ("vmport-save-version", ERROR, EINVAL, "the version is not the profile's (EINVAL)"),
    *((f"vmport-{site.replace(' ', '-')}", ERROR, None, f"{kind} at {site}") for site, kind in SITES.items()),
    ("vmport-capped", WARNING, None, "a length beyond the buffer, for which only the terminator's word has room"),
    ("vmport-index", WARNING, None, "a buffer's index is beyond its length"),
    ("vmport-size", WARNING, None, "used_guestsize is not the size of the entries"),
    ("vmport-count", WARNING, None, "a used count is not the number of entries"),
    ("vmport-empty-key", WARNING, None, "an entry with an empty key: the loader skips its head and no more"),
    ("vmport-duplicate", WARNING, None, "a key that occurs twice"),
    ("vmport-protocol", WARNING, None, "a protocol that is neither closed, RPCI nor TCLO"),
    ("vmport-padding", WARNING, None, "padding that is not zero"),
    ("vmport-behind", WARNING, None, "bytes after the last entry"),
)}
"""Id -> rule. No predicates: the loader's model and `findings_of` say which apply."""
# fmt: on


class Refused:
    """The loader returns an errno. `cursor` is where it leaves the context's cursor, from
    the start of the record; `rule` says which check it was."""

    __slots__ = ("cursor", "errno", "rule")

    def __init__(self, errno: str, cursor: int, rule: str) -> None:
        self.errno = errno
        self.cursor = cursor
        self.rule = rule

    def __repr__(self) -> str:
        return f"<refused, {self.errno} [{self.rule}]>"


class Restored:
    """The loader succeeds. `slots` and `jumbo_slots` are the used counts that it leaves
    in the state, `guestinfo` and `guestinfo_jumbo` the (slot, key, value) that it filled."""

    __slots__ = (
        "_body", "_over", "_profile", "cursor", "guestinfo", "guestinfo_jumbo", "jumbo_slots",
        "slots",
    )  # fmt: skip

    def __init__(
        self,
        body: memoryview,
        profile: VmportProfile,
        counts: tuple[int, int],
        entries: tuple[list[tuple[int, bytes, bytes]], list[tuple[int, bytes, bytes]]],
        over: VmportState | None = None,
    ) -> None:
        self.cursor = DESCRIPTOR.size + len(body)
        self.slots, self.jumbo_slots = counts
        self.guestinfo, self.guestinfo_jumbo = entries
        self._body = body
        self._profile = profile
        self._over = over

    def __repr__(self) -> str:
        return f"<restored, {self.slots} and {self.jumbo_slots} slots>"

    @property
    def state(self) -> VmportState:
        """The state that the domain has now, as the writer would find it: the channels are
        the record's; a slot that the record does not fill is as it was before. (Slots from the
        used count on keep their memory, but nothing counts them: they are not in the state.)"""
        state = VmportState.from_bytes(self._body, self._profile)
        state.origin = None
        before = self._over or VmportState()
        state.guestinfo = _filled(self.guestinfo, before.guestinfo, self.slots)
        state.guestinfo_jumbo = _filled(
            self.guestinfo_jumbo, before.guestinfo_jumbo, self.jumbo_slots
        )
        return state


def _filled(entries: list[tuple[int, bytes, bytes]], before: Slots, count: int) -> Slots:
    pairs = before.pairs[:count]
    for slot, key, value in entries:
        pairs += [(b"", b"")] * (slot + 1 - len(pairs))
        pairs[slot] = key, value
    return Slots(pairs)


class Violation:
    """The loader touches memory that it must not. `offset` is the body's offset that it
    has come to; `asked` and `limit` are, for an overread, the body offset of the end of the
    read and the body's length; for an overflow, the bytes to copy and the bytes of the
    destination; for an index, the index and the number of slots."""

    __slots__ = ("asked", "kind", "limit", "offset", "site")

    def __init__(self, site: str, offset: int, asked: int, limit: int) -> None:
        self.kind = SITES[site]
        self.site = site
        self.offset = offset
        self.asked = asked
        self.limit = limit

    def __repr__(self) -> str:
        return f"<{self.kind} at {self.site}, {self.asked} of {self.limit}>"

    @property
    def rule(self) -> str:
        return f"vmport-{self.site.replace(' ', '-')}"

    @property
    def text(self) -> str:
        """In words."""
        what = {
            OVERREAD: "reads the body up to {0}, which ends at {1}",
            OVERFLOW: "writes {0} bytes to the {1} of {2}",
            INDEX: "takes slot {0} of {1}",
        }[self.kind]
        return f"the loader {what.format(self.asked, self.limit, self.site)}"


class _NoMemory(Exception):
    """Ends a load at a slot for which there is no memory."""


class _Stop(Exception):
    """Ends a load at its first violation."""

    def __init__(self, violation: Violation) -> None:
        self.violation = violation


def _stop(violation: Violation) -> NoReturn:
    raise _Stop(violation)


def check(
    context: memoryview, profile: VmportProfile, *, allocated: bool = True
) -> Refused | memoryview:
    """The loader's own checks, rules 1 to 4: the refusal, or the body."""
    if not allocated:
        return Refused(ENOMEM, 0, "vmport-allocated")
    if len(context) < DESCRIPTOR.size:
        return Refused(E2BIG, 0, "vmport-descriptor")
    typecode, _, length = DESCRIPTOR.unpack_from(context)
    if length + DESCRIPTOR.size > len(context):
        return Refused(EFBIG, 0, "vmport-body")
    if typecode != VMPORT_TYPECODE or length > profile.max_size:
        return Refused(ESRCH, 0, "vmport-type")
    return context[DESCRIPTOR.size : DESCRIPTOR.size + length]


def _context(record: bytes | memoryview, following: bytes = b"") -> memoryview:
    """What is left of the context. Not copied where nothing follows: a caller that walks a
    context of many records gives all the rest of it each time."""
    return memoryview(bytes(record) + following if following else record).cast("B")


def restore(
    record: bytes | memoryview,
    profile: VmportProfile | None = None,
    *,
    following: bytes = b"",
    allocated: bool = True,
    over: VmportState | None = None,
    memory: int | None = None,
) -> Refused | Restored | Violation:
    """What the loader does with a record (descriptor and body); `following` are the bytes of
    the context after it. Never raises, whatever the bytes.

    `over` is the state that the domain has already, one pair for each slot that exists; a new
    domain has none. `memory` is for how many more slots there is memory. What the loader does
    without is not known; here it gives up, with ENOMEM, and nobody uses such a domain.
    """
    profile = profile or abi.used()
    body = check(_context(record, following), profile, allocated=allocated)
    if isinstance(body, Refused):
        return body
    try:
        return _load(memoryview(bytes(body)), profile, _stop, over, memory)
    except _Stop as stopped:
        return stopped.violation
    except _NoMemory:
        return Refused(ENOMEM, DESCRIPTOR.size + len(body), "vmport-slot-allocated")


def _load(
    body: memoryview,
    profile: VmportProfile,
    report: Callable[[Violation], object],
    over: VmportState | None = None,
    memory: int | None = None,
) -> Refused | Restored:
    """The load after the checks. `report` is called with each step that is not safe; where it
    returns, the load goes on as if what is not there were empty. Raises _NoMemory."""
    end, fixed = len(body), profile.fixed_size
    if end < _VERSION.size:
        report(Violation("version", 0, _VERSION.size, end))
        return Refused(EINVAL, DESCRIPTOR.size + end, "vmport-save-version")
    if _VERSION.get(body) != profile.SAVE_VERSION:
        return Refused(EINVAL, DESCRIPTOR.size + end, "vmport-save-version")
    whole = body if end >= fixed else bytes(body).ljust(fixed, b"\0")
    head, values = HEAD.decode(whole), profile.fixed.unpack_from(whole)
    cursor = fixed
    for place in profile.buffers:
        if place.end > end:
            report(Violation("fixed part", place.start, fixed, end))
            return Refused(EINVAL, DESCRIPTOR.size + end, "vmport-fixed-part")
        length = values[place.length_at]
        if length:
            if length > place.room:
                report(Violation(place.array, cursor, length, place.room))
            if cursor + length > end:
                report(Violation(f"{place.array} source", cursor, cursor + length, end))
            cursor += length
    before = over or VmportState()
    entries = _Entries(body, cursor, head["used_guestsize"], profile, report, memory)
    guestinfo, slots = entries.load(
        "guestinfo", ENTRY_HEAD.size, head["used_guestinfo"],
        profile.MAX_NUM_KEY, profile.MAX_VAL_LEN, len(before.guestinfo),
    )  # fmt: skip
    jumbo, jumbo_slots = entries.load(
        "guestinfo_jumbo", JUMBO_ENTRY_HEAD.size, head["used_guestinfo_jumbo"],
        profile.MAX_NUM_JUMBO_KEY, profile.MAX_VAL_JUMBO_LEN, len(before.guestinfo_jumbo),
    )  # fmt: skip
    return Restored(body, profile, (slots, jumbo_slots), (guestinfo, jumbo), over)


class _Entries:
    """The loader's two loops over guestinfo entries, which share a cursor, what is left of
    used_guestsize, and memory for slots."""

    def __init__(
        self,
        body: memoryview,
        cursor: int,
        left: int,
        profile: VmportProfile,
        report: Callable[[Violation], object],
        memory: int | None,
    ) -> None:
        self._memory = memory
        self._body = body
        self._cursor = cursor
        self._left = left
        self._key_limit = profile.MAX_KEY_LEN
        self._report = report

    def load(
        self, kind: str, head: int, used: int, slots: int, val_limit: int, existing: int
    ) -> tuple[list[tuple[int, bytes, bytes]], int]:
        """One loop: `used` entries with heads of `head` bytes into the slots made for
        them, of which `existing` are there. Returns the entries, and the number of slots."""
        body, end, report = self._body, len(self._body), self._report
        count = abi.slots_made(used, jumbo=head == JUMBO_ENTRY_HEAD.size)
        made = min(count, slots)
        lacking = made if self._memory is None else existing + self._memory
        found = []
        for index in range(min(made, lacking)):
            if index >= used or not self._left:
                break
            cursor = self._cursor
            if cursor + head > end:
                # byte by byte, but for the u16 of a jumbo entry
                asked = cursor + 1 if cursor >= end else cursor + head
                report(Violation(f"{kind} head", cursor, asked, end))
                self._cursor += head
                self._left = self._left - head & _U32
                continue
            key_len = body[cursor]
            val_len = int.from_bytes(body[cursor + 1 : cursor + head], "little")
            cursor += head
            self._left = self._left - head & _U32
            if self._left >= key_len + val_len and key_len:
                value = cursor + key_len
                if key_len > self._key_limit:
                    report(Violation(f"{kind} key_data", cursor, key_len, self._key_limit))
                if value > end:
                    report(Violation(f"{kind} key_data source", cursor, value, end))
                if val_len > val_limit:
                    report(Violation(f"{kind} val_data", value, val_len, val_limit))
                if val_len and value + val_len > end:
                    report(Violation(f"{kind} val_data source", value, value + val_len, end))
                found.append(
                    (index, bytes(body[cursor:value]), bytes(body[value : value + val_len]))
                )
                cursor = value + val_len
                self._left -= key_len + val_len
            self._cursor = cursor
        if lacking < made:
            raise _NoMemory
        if self._memory is not None:
            self._memory -= max(0, made - existing)
        if count > slots:
            report(Violation(f"{kind} slot", self._cursor, slots, slots))
        return found, count


FIXES = {
    "vmport-fixed-part": "a body as long as its fixed part",
    "vmport-buffer": "each buffer length at most the buffer, and the bytes there",
    "vmport-entry": "each entry's head, key and value within the body, and their arrays",
    "vmport-slots": "no more slots than there are: the counts capped, not trusted",
}
"""The checks that would have sufficed, by the rule that `restore_fixed` names."""


def restore_fixed(
    record: bytes | memoryview, profile: VmportProfile | None = None, *, following: bytes = b""
) -> Refused | Restored:
    """The loader with the checks that it lacks (`FIXES`): EINVAL where the original would
    leave its memory, but for the spare slots that it only makes in advance, which are
    capped. A record that the original restores safely it restores alike."""
    profile = profile or abi.used()
    checked = check(_context(record, following), profile)
    if isinstance(checked, Refused):
        return checked
    body = memoryview(bytes(checked))

    def refuse(violation: Violation) -> None:
        if violation.kind != INDEX:
            raise _Stop(violation)
        head = HEAD.decode(body)
        if (
            head["used_guestinfo"] > profile.MAX_NUM_KEY
            or head["used_guestinfo_jumbo"] > profile.MAX_NUM_JUMBO_KEY
        ):
            raise _Stop(violation)

    try:
        outcome = _load(body, profile, refuse)
    except _Stop as stopped:
        return Refused(EINVAL, DESCRIPTOR.size + len(body), _fix_of(stopped.violation.site))
    if isinstance(outcome, Restored):
        outcome.slots = min(outcome.slots, profile.MAX_NUM_KEY)
        outcome.jumbo_slots = min(outcome.jumbo_slots, profile.MAX_NUM_JUMBO_KEY)
    return outcome


def _fix_of(site: str) -> str:
    if site in ("version", "fixed part"):
        return "vmport-fixed-part"
    if SITES[site] == INDEX:
        return "vmport-slots"
    return "vmport-entry" if site.startswith("guestinfo") else "vmport-buffer"


def findings_of(
    record: bytes | memoryview, profile: VmportProfile | None = None, base_offset: int = 0
) -> list[Finding]:
    """Everything that is wrong with a record: refusals and violations as errors, in the
    loader's order, then what is merely inconsistent as warnings. `base_offset` is where the
    record's descriptor lies. Never raises."""
    profile = profile or abi.used()
    findings: list[Finding] = []

    def say(severity: str, rule: str, text: str, offset: int) -> None:
        findings.append(
            Finding(
                severity,
                rule,
                text,
                layer="context",
                offset=base_offset + offset,
                record="VMPORT/0",
            )
        )

    body = check(_context(record), profile)
    if isinstance(body, Refused):
        say(ERROR, body.rule, RULES[body.rule].words, 0)
        return findings
    start = DESCRIPTOR.size
    violated: list[Violation] = []
    outcome = _load(body, profile, violated.append)
    for violation in violated:
        # the loader's cursor may be beyond the record by now: nothing lies there
        say(ERROR, violation.rule, violation.text, start + min(violation.offset, len(body)))
    if isinstance(outcome, Refused):
        if not violated:
            version = _VERSION.get(body)
            say(
                ERROR, outcome.rule, f"version {version:#x}, expected {profile.SAVE_VERSION:#x}",
                start,
            )  # fmt: skip
        return findings
    for rule, text, offset in _inconsistencies(bytes(body), profile):
        say(WARNING, rule, text, start + offset)
    return findings


def _inconsistencies(body: bytes, profile: VmportProfile) -> Iterator[tuple[str, str, int]]:
    parts = Parts(body, profile)
    channels = zip(profile.channel_places, profile.channel_numbers)
    for number, (offset, first) in enumerate(channels):
        protocol = parts.values[first + _PROTOCOL_AT]
        if protocol not in abi.PROTOCOLS:
            text = f"chans[{number}].proto_num is {protocol:#x}"
            yield "vmport-protocol", text, offset + _PROTOCOL
    for name, start, end in profile.padding:
        if any(body[start:end]):
            yield "vmport-padding", f"padding of {name} is {body[start:end].hex()}", start
    for place in profile.buffers:
        name = f"chans[{place.channel}].{place.name}"
        length, index = parts.values[place.length_at], parts.values[place.index_at]
        if place.kept < length <= place.room:
            text = f"{name} has {length} bytes, the writer keeps {place.kept}"
            yield "vmport-capped", text, place.offset
        if index > length:
            yield "vmport-index", f"{name}: index {index} of {length} bytes", place.offset
    yield from _bad_entries(body, parts)


def _bad_entries(body: bytes, parts: Parts) -> Iterator[tuple[str, str, int]]:
    taken, size = parts.end - parts.first_entry, parts.head["used_guestsize"]
    if size != taken:
        text = f"used_guestsize is {size}, the entries have {taken} bytes"
        yield "vmport-size", text, HEAD.locate("used_guestsize").offset
    for jumbo, name in ((False, "guestinfo"), (True, "guestinfo_jumbo")):
        entries = [entry for entry in parts.entries if entry.jumbo == jumbo]
        used = HEAD.locate(f"used_{name}")
        count = used.get(body)
        if count != len(entries):
            text = f"{used.path} is {count}, there are {len(entries)} entries"
            yield "vmport-count", text, used.offset
        seen = set()
        for entry in entries:
            if entry.key in seen:
                yield "vmport-duplicate", f"{name}[{as_text(entry.key)}] occurs twice", entry.start
            seen.add(entry.key)
    for head in parts.skipped:
        if not body[head]:
            yield "vmport-empty-key", "an entry with an empty key", head
    if parts.end < len(body):
        yield "vmport-behind", f"{len(body) - parts.end} bytes after the last entry", parts.end


__all__ = [
    "FIXES", "RULES", "SITES", "Refused", "Restored", "Violation", "check", "findings_of",
    "restore", "restore_fixed",
]  # fmt: skip
