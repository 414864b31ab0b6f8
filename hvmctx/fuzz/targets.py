"""What is fuzzed: for each target a function that takes any bytes and asserts what must hold
for all of them, and says which rules and outcomes they reached.

An AssertionError, or any exception but an HvmctxError, is a finding about us.
"""

from __future__ import annotations

import io
import json
from contextlib import suppress

from hvmctx.abi import streams
from hvmctx.abi.releases import Release
from hvmctx.abi.vmport import PROFILES, VmportProfile
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.context.vmport import descriptor, pack, unpack
from hvmctx.errors import HvmctxError
from hvmctx.files.opening import is_compressed
from hvmctx.findings import ERROR
from hvmctx.fuzz.contexts import mutate_context, valid_context
from hvmctx.fuzz.streams import mutate_stream, valid_stream
from hvmctx.fuzz.vmport import mutate_record, random_record
from hvmctx.image.image import open_image
from hvmctx.render.text import TextDialect
from hvmctx.restore import vmport as loader
from hvmctx.restore.context import WALK, load, rules
from hvmctx.restore.context_rules import RULES as CONTEXT_RULES
from hvmctx.restore.host import PVH_DEVICES, Host
from hvmctx.restore.stream import HEADER_RULES, StreamJudge
from hvmctx.restore.stream import RULES as STREAM_RULES
from hvmctx.stream.writer import StreamWriter
from hvmctx.verify import strict_context, strict_stream, verifier
from hvmctx.verify.views import VIEWS, verify

TYPE_CHECKING = False
if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable
    from typing import Any

    from hvmctx.image.index import Index, IndexedRecord

LARGEST = 1 << 20
"""Longer inputs are not looked at: they only take longer."""
_NONE = 0xFFFFFFFF
LEAVES = [
    (0, _NONE, 0xD, 0x68747541, 0x444D4163, 0x69746E65),
    (1, _NONE, 0x600F20, 0x800, 0x1C983203, 0x178BFBFF),
    (7, 0, 0, 0x9, 0, 0),
    (0xD, 0, 7, 832, 832, 0),
    (0xD, 2, 256, 576, 0, 0),
    (0x80000001, _NONE, 0, 0, 0x1F3, 0x2FD3FBFF),
    (0x80000008, _NONE, 0x3028, 0, 0, 0),
]
"""A policy of an AMD guest without PCID, VMX, PKU and such, of 40 address bits."""
HOSTS = {
    "4.17": Host("4.17", vcpus=2, leaves=LEAVES),
    "4.17-any": Host("4.17", vcpus=128),
    "4.5": Host("4.5", vcpus=2, vendor="amd"),
    "4.20": Host("4.20", vcpus=2, leaves=LEAVES, nested=True),
    "newest": Host("newest", vcpus=2),
    "newest-pvh": Host("newest", vcpus=2, devices=PVH_DEVICES, xsave=False),
    "newest-no-apic": Host("newest", vcpus=2, devices=()),
    "4.5-vmport": Host("4.5", vcpus=128, vmport=PROFILES["XEN_4_5_V6"]),
}
"""Releases, policies and devices that between them can reach every rule of a load."""


class Target:
    """`run` takes bytes and gives what was reached; `known` is all that can be; `seeds`
    makes inputs to start from, `mutate` edits one."""

    def __init__(
        self,
        name: str,
        run: Callable[[bytes], set[str]],
        known: Iterable[str],
        seeds: Callable[[random.Random], list[bytes]],
        mutate: Callable[[bytes, random.Random], bytes],
    ) -> None:
        self.name = name
        self._run = run
        self.known = frozenset(known)
        self.seeds = seeds
        self.mutate = mutate

    def run(self, data: bytes) -> set[str]:
        """Raises AssertionError, or whatever escapes, when something does not hold."""
        return set() if len(data) > LARGEST else self._run(data)


def run_context(data: bytes) -> set[str]:
    """Bit-exact round trip, all at once as one by one, text in every style, the same verdict
    whatever holds the bytes, findings within the input."""
    context = HvmContext.parse(data)
    together = context.decode()
    assert context.to_bytes() == data
    one_by_one = [r.fields() if r.type and r.type.size else None for r in context.entries]
    assert together == one_by_one
    assert (context.damage is None) == context.has_end
    for dialect in (TextDialect(), TextDialect(Release("4.5")), TextDialect(show_all=True)):
        assert "".join(dialect.dump(context)).isascii()
    again = HvmContext(
        Record(r.typecode, r.instance, r.body, length=r.length) for r in context.entries
    )
    assert again.to_bytes() + bytes(context.tail) == data
    reached = set()
    for name, host in HOSTS.items():
        verdict = load(data, host)
        assert 0 <= verdict.offset <= len(data) and (verdict.accepted or verdict.rule)
        reached.add(verdict.rule or f"accept-{name}")
    host = HOSTS["4.17"]
    assert load(bytearray(data), host).as_dict() == load(data, host).as_dict()
    for finding in strict_context.findings_of(context):
        assert 0 <= finding.offset <= len(data)
    return reached


_CONTEXT_KNOWN = [
    *(rule.id for rule in rules()), *WALK, *(f"accept-{name}" for name in HOSTS),
]  # fmt: skip


class _Pipe(io.RawIOBase):
    """Bytes that can be read once, a little at a time."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        part = self._data[: min(len(buffer), 5000)]
        buffer[: len(part)] = part
        self._data = self._data[len(part) :]
        return len(part)


def run_stream(data: bytes) -> set[str]:
    """Every view says something or raises an HvmctxError, a pipe as much as a file; the fast
    way through page data judges as the rules do; strip keeps every record."""
    if is_compressed(data):  # something else then, and the compression's own affair
        return set()
    reached = set()
    for view in VIEWS:
        try:
            found = verify(data, view, layer="libxc")
        except HvmctxError as error:
            found = []
            reached.add(type(error).__name__)
        for finding in found:
            assert 0 <= finding.offset <= len(data), finding
            reached.add(finding.rule)
        try:
            piped = verify(_Pipe(data), view, layer="libxc")
        except HvmctxError:
            piped = []
        reached.update(finding.rule for finding in piped)
        same = [str(finding) for finding in found if finding.rule not in _SEEKABLE_ONLY]
        assert [str(f) for f in piped if f.rule not in _SEEKABLE_ONLY] == same
    verdicts = []
    for reader in (StreamJudge(_RELEASE), _Slowly(_RELEASE)):
        with open_image(data, layer="libxc", watcher=reader) as image:
            refusal = reader.end(image)
            verdicts.append(None if refusal is None else refusal.as_dict())
    assert verdicts[0] == verdicts[1]
    with open_image(data, layer="libxc") as image:
        _strip(data, image.complete)
    return reached


_RELEASE = Release("newest")


class _Slowly(StreamJudge):
    """The readers rule by rule, whatever the page data."""

    def _plain_pages(self, image: Index, record: IndexedRecord) -> bool:
        return False


_SEEKABLE_ONLY = ("verify-mismatch", "verify-unchecked")


def _strip(data: bytes, complete: bool) -> None:
    from hvmctx.edit.strip import strip

    out = io.BytesIO()
    try:
        strip(data, out, layer="libxc", keep_holes=True)
    except HvmctxError:
        return
    assert complete
    with open_image(data, layer="libxc") as before, open_image(out.getvalue()) as after:
        assert len(before.records) == len(after.records)
        assert before.memory_map.counts().keys() | {0xE} >= after.memory_map.counts().keys()


_STREAM_KNOWN = {
    *(rule.id for rule in STREAM_RULES if rule.layer == "libxc"),
    *(set(HEADER_RULES) - {"stream-v2", "xl-byteorder", "libxc-version"}),
    *(check.id for table in (verifier.CHECKS, strict_stream.CHECKS) for check in table
      if check.layer == "libxc"),
    *(check.id for check in verifier.HEADER_CHECKS if check.layer == "libxc"),
    *(set(strict_stream.WHOLE) - {"scattered"}),
}  # fmt: skip


def run_vmport(data: bytes, profile: VmportProfile = PROFILES["XEN_4_5_V6"]) -> set[str]:
    """The loader and its judge agree; what it restores safely, nothing is wrong with; the
    fixed loader never leaves its memory; a record unpacked and packed is itself."""
    outcome = loader.restore(data, profile)
    found = loader.findings_of(data, profile)
    errors = [finding.rule for finding in found if finding.severity == ERROR]
    fixed = loader.restore_fixed(data, profile)
    if isinstance(outcome, loader.Refused):
        reached = {outcome.rule}
        assert errors and errors[0] == outcome.rule
        assert isinstance(fixed, loader.Refused)
    elif isinstance(outcome, loader.Violation):
        reached = {outcome.rule}
        assert outcome.rule in errors
        if outcome.kind != loader.INDEX:
            assert isinstance(fixed, loader.Refused)
    else:
        reached = {"restored"}
        assert not errors
        assert isinstance(fixed, loader.Restored) and fixed.state == outcome.state
        if not found:  # what the writer makes of it is the same again
            body = pack(outcome.state, profile)
            again = loader.restore(descriptor(body) + body, profile)
            assert isinstance(again, loader.Restored) and again.state == outcome.state
            assert not loader.findings_of(descriptor(body) + body, profile)
    reached.update(finding.rule for finding in found)
    body = data[8:]
    state = unpack(body, profile)
    assert pack(state, profile) == body
    return reached


_VMPORT_KNOWN = {*loader.RULES, "restored"} - {"vmport-allocated"}


def run_json(data: bytes) -> set[str]:
    """Any text becomes bytes or an HvmctxError; those bytes become the same again."""
    from hvmctx.json_form.document import Document

    try:
        made = Document.from_text(data).to_bytes()
    except HvmctxError as error:
        return {type(error).__name__}
    try:
        again = Document.of_input(made, "context" if b'"context"' in data else None)
    except HvmctxError:
        return {"bytes-only"}
    assert Document.from_text(again.to_text()).to_bytes() == made
    return {"context" if again.context else "image"}


def run_edit(data: bytes) -> set[str]:
    """PATH=VALUE, a NUL, and a context: what is set is what is got, nothing else changes."""
    from hvmctx.edit.editor import edit

    setting, _, context = data.partition(b"\0")
    if is_compressed(context):
        return set()
    path, _, value = setting.decode("utf-8", "surrogateescape").partition("=")
    with open_image(context, layer="context") as image:
        editor = edit(image)
        try:
            before = editor.get(path)
            editor.set(path, value)
        except HvmctxError as error:
            return {type(error).__name__}
        after = editor.get(path)
        made = editor.context.to_bytes()
        editor.set(path, f"{after:#x}" if isinstance(after, int) else after.hex())
        assert editor.get(path) == after, "what was set is what is got, and can be set again"
        assert editor.context.to_bytes() == made
    with suppress(ValueError):
        assert isinstance(after, bytes) or after == int(value, 0)
    changed = HvmContext.parse(made)
    assert changed.to_bytes() == made
    if not path.upper().startswith("VMPORT"):
        assert len(made) == len(context)
        changes = [at for at, (one, other) in enumerate(zip(made, context)) if one != other]
        assert not changes or changes[-1] - changes[0] < _slot_size(path)
    if before == after:
        assert made == context
    return {"set" if before != after else "same"}


def _slot_size(path: str) -> int:
    """Bytes of the place that a path names; elements of a variable part have 16 at most."""
    from hvmctx.abi.registry import by_name

    head, _, name = path.partition(".")
    try:
        return by_name(head.partition("/")[0]).layout.locate(name).size
    except HvmctxError:
        return 16


def _context_seeds(rng: random.Random) -> list[bytes]:
    return [
        valid_context(rng, Release(name)).to_bytes() for name in ("4.5", "4.17", "4.20", "newest")
    ]


def _stream_seeds(rng: random.Random) -> list[bytes]:
    return [valid_stream(rng) for _ in range(3)] + [valid_stream(rng, 2), _pv_stream()]


def _pv_stream() -> bytes:
    """A PV guest's stream, every record once."""
    import struct

    writer = StreamWriter("libxc")
    out = [writer.image_header(), writer.domain_header(streams.GUEST_X86_PV, (4, 17))]
    vcpu = bytes(8)
    for number, body in (
        (streams.LIBXC_X86_PV_INFO, b"\x08\4" + bytes(6)),
        (streams.LIBXC_X86_CPUID_POLICY, bytes(24)),
        (streams.LIBXC_X86_MSR_POLICY, bytes(16)),
        (streams.LIBXC_STATIC_DATA_END, b""),
        (streams.LIBXC_X86_PV_P2M_FRAMES, struct.pack("<IIQ", 0, 15, 7)),
        (streams.LIBXC_PAGE_DATA, struct.pack("<IIQ", 1, 0, 3) + bytes(4096)),
        (streams.LIBXC_X86_TSC_INFO, bytes(24)),
        (streams.LIBXC_SHARED_INFO, bytes(4096)),
        (streams.LIBXC_X86_PV_VCPU_BASIC, vcpu + bytes(5168)),
        (streams.LIBXC_X86_PV_VCPU_EXTENDED, vcpu + bytes(64)),
        (streams.LIBXC_X86_PV_VCPU_XSAVE, vcpu + bytes(16)),
        (streams.LIBXC_X86_PV_VCPU_MSRS, vcpu + bytes(16)),
        (streams.LIBXC_END, b""),
    ):
        out.append(writer.record(number, body))
    return b"".join(out)


def _vmport_seeds(rng: random.Random) -> list[bytes]:
    return [random_record(rng, PROFILES["XEN_4_5_V6"]) for _ in range(8)]


def _json_seeds(rng: random.Random) -> list[bytes]:
    from hvmctx.json_form.document import Document

    small = HvmContext(valid_context(rng).entries[-6:]).to_bytes()
    writer = StreamWriter("libxc")
    image = writer.image_header() + writer.domain_header(streams.GUEST_X86_HVM, (4, 17))
    image += writer.record(streams.LIBXC_X86_TSC_INFO, bytes(24))
    image += writer.record(streams.LIBXC_HVM_PARAMS, bytes(8)) + writer.record(streams.LIBXC_END)
    inputs = ((small, "context"), (image, "libxc"))
    documents = [Document.of_input(data, layer).to_text() for data, layer in inputs]
    documents.append('{"hvmctx": 1, "image": {"format": "libxc", "items": [], "tail": "ffff"}}')
    return [text.encode() for text in documents]


def _json_mutate(data: bytes, rng: random.Random) -> bytes:
    """A value, a name, or a byte of the text."""
    try:
        plain = json.loads(data)
    except (ValueError, RecursionError):
        return _bytes_mutate(data, rng)
    if rng.random() < 0.2:
        return _bytes_mutate(data, rng)
    _edit_plain(plain, rng)
    return json.dumps(plain).encode()


_ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1 << 64, 1 << 70, 1.5, "", "0x", "zz", "00", [], {}, [[]], "é", "0x1f",
)  # fmt: skip


def _edit_plain(plain: Any, rng: random.Random) -> None:
    """Walk down to some value and put an odd one there."""
    at = plain
    while isinstance(at, (dict, list)) and at:
        key = rng.choice(list(at) if isinstance(at, dict) else range(len(at)))
        below = at[key]
        if isinstance(below, (dict, list)) and below and rng.random() < 0.9:
            at = below
            continue
        if isinstance(at, dict) and rng.random() < 0.2:
            at.pop(key)
        else:
            at[key] = rng.choice(_ODD)
        return


def _bytes_mutate(data: bytes, rng: random.Random) -> bytes:
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(made) + 1)
        kind = rng.randrange(3)
        if kind == 0:
            made[at:at] = rng.randbytes(rng.randrange(1, 4))
        elif kind == 1:
            del made[at : at + rng.randrange(1, 9)]
        elif at < len(made):
            made[at] = rng.choice((0, 0xFF, made[at] ^ 1 << rng.randrange(8)))
    return bytes(made)


def _edit_seeds(rng: random.Random) -> list[bytes]:
    context = valid_context(rng).to_bytes()
    settings = (
        "CPU/0.rip=0x1000", "LAPIC_REGS/0.data[0x20:+4]=7", "PIT.channels[1].mode=3",
        "PCI_LINK.route=01020304", "MTRR/0.msr_mtrr_fixed[10]=-1", "PIC/1.elcr=256",
        'VMPORT.guestinfo["k"]="v"',
    )  # fmt: skip
    return [setting.encode() + b"\0" + context for setting in settings]


def _edit_mutate(data: bytes, rng: random.Random) -> bytes:
    setting, _, context = data.partition(b"\0")
    kind = rng.randrange(4)
    if kind == 0:
        setting = _bytes_mutate(setting, rng)
    elif kind == 1:
        names = list(CONTEXT_RULES)
        from hvmctx.abi.registry import by_name

        known = by_name(rng.choice(names))
        path = rng.choice(list(known.layout.paths()))
        setting = f"{known.name}/{rng.choice((0, 1))}.{path}={rng.getrandbits(70):#x}".encode()
    elif kind == 2:
        setting = setting.partition(b"=")[0] + b"=" + str(rng.getrandbits(33)).encode()
    else:
        context, _ = mutate_context(context, rng)
    return setting + b"\0" + context


TARGETS = {
    target.name: target
    for target in (
        Target("context", run_context, _CONTEXT_KNOWN, _context_seeds,
               lambda data, rng: mutate_context(data, rng)[0]),
        Target("stream", run_stream, _STREAM_KNOWN, _stream_seeds,
               lambda data, rng: mutate_stream(data, rng, "libxc")[0]),
        Target("vmport", run_vmport, _VMPORT_KNOWN, _vmport_seeds,
               lambda data, rng: mutate_record(data, rng, PROFILES["XEN_4_5_V6"])
               if rng.random() < 0.9 else random_record(rng, PROFILES["XEN_4_5_V6"])),
        Target("json", run_json, ("FieldError", "context", "image", "bytes-only"), _json_seeds,
               _json_mutate),
        Target("edit", run_edit, ("set", "same", "FieldError", "UsageError", "MissingRecordError"),
               _edit_seeds, _edit_mutate),
    )
}  # fmt: skip
