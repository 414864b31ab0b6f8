"""An image without what tells of its guest and owner: `Redactor`, for `strip --redact`.

What stays are the records, their lengths, and all that a restore decides by. What goes:

* of the configuration (xl's, libvirt's XML, XAPI's Xenops record) every text that is not one of
  the words that toolstacks use for settings: names, passwords, paths, addresses, descriptions.
  A uuid becomes zeros, a MAC address 00:16:3e:00:00:00, all others "redacted". Names of values
  are the toolstack's, and stay; not those of XAPI's copies of xenstore, which a guest can choose;
* strings of xenstore, values of guestinfo and what VMware's channels hold: letters become x;
* variables of a firmware, state of a TPM, a PV guest's shared page, what follows the END of an
  HVM context, records that nobody knows, padding: zeros;
* on demand, general, FPU and vector registers, and those that hold addresses: zeros.

What a device model saved stays, but for the guestinfo in it: keys that were typed, and blocks of
disks and network packets may be in it.
"""

from __future__ import annotations

import json
import re

from hvmctx.abi import streams, x86
from hvmctx.abi.declare import VMPORT_TYPECODE
from hvmctx.context.hvm_context import HvmContext
from hvmctx.errors import HvmctxError
from hvmctx.image import handlers
from hvmctx.limits import DEFAULT
from hvmctx.stream.places import Place
from hvmctx.stream.reader import LIBVIRT, LIBXC, LIBXL, XAPI, XL
from hvmctx.stream.sexp import Atom

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from hvmctx.context.record import Record
    from hvmctx.limits import Limits
    from hvmctx.stream.reader import Header, StreamRecord
    from hvmctx.stream.sexp import Tree
    from hvmctx.stream.xlfile import Json

__all__ = ["Redactor", "masked"]

_REDACTED = "redacted"
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_NO_UUID = "00000000-0000-0000-0000-000000000000"
_MAC = re.compile(r"([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}")
_NO_MAC = "00:16:3e:00:00:00"
_PRIVATE = re.compile(
    r"pass|secret|token|credential|cookie|(^|[._])(name|label|title|description|user)$",
    re.IGNORECASE,
)
"""Keys whose values go, whatever they look like."""
_NUMBER = re.compile(r"-?\d+(\.\d+)?|0x[0-9a-fA-F]+|[0-9a-fA-F]{8}(-[0-9a-fA-F]{8})+")
"""Numbers, and the feature sets of a CPU policy."""
_DEVICE = re.compile(r"(xvd|hd|sd|vd|fd)[a-z]?\d*|vif\d+\.\d+|\d{8}T\d\d:\d\d:\d\dZ")
_SETTINGS = """
    true false <default> default none null auto unknown yes no on off enabled disabled hvm pvh pv
    xl linux xen xenpvh qemu_xen qemu_xen_traditional none_required qemu-upstream
    qemu_upstream_compat qemu_trad rombios seabios ovmf uefi bios phy tap qdisk standalone raw
    qcow qcow2 vhd qed empty cdrom disk floppy file block network bridge ethernet vif ioemu
    vif_ioemu cirrus std qxl vga vnc spice sdl pty tcp stdio tablet mouse keyboard usb ide scsi
    virtio rw ro w r c d cd dc n static dynamic native emulate native_paravirt always_emulate
    always-emulate delay_for_missed_ticks no_delay_for_missed_ticks no_missed_ticks_pending
    one_missed_tick_pending destroy restart rename_restart rename-restart preserve
    coredump_destroy coredump_restart coredump-destroy coredump-restart soft_reset soft-reset
    credit credit2 rtds sedf arinc653 limited external mixed host strict relaxed shadow hap utc
    localtime bytes KiB MiB GiB kib mib gib B KB MB GB x86_64 i686 rtl8139 e1000 netfront ac97
    sb16 es1370 hda HVM PV PVH PVinPVH domain normal host-passthrough host-model custom maximum
    boot i915 gvt_g nvidia
"""
"""What toolstacks call settings, in their configurations: words that say nothing of a guest."""
_WORDS = frozenset(_SETTINGS.split())
_REGISTERS = (
    "rax", "rbx", "rcx", "rdx", "rbp", "rsi", "rdi", "rsp", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15", "rip", "cr2", "dr0", "dr1", "dr2", "dr3", "fs_base", "gs_base", "tr_base",
    "ldtr_base", "gdtr_base", "idtr_base", "sysenter_esp", "sysenter_eip", "shadow_gs",
    "msr_lstar", "msr_cstar",
)  # fmt: skip
_PV_REGISTERS = re.compile(r"user_regs\.(r\d+|[re]?[abcd]x|[re]?[sd]i|[re]?[bsi]p)|fpu_ctxt")
_FPU_CONTROL = ((0, 6), (24, 32))
"""Of an FXSAVE image: control, status and tag words and the last opcode; MXCSR and its mask."""

_KEPT = {
    LIBXC: frozenset(streams.LIBXC_RECORDS)
    - {streams.LIBXC_TOOLSTACK, streams.LIBXC_SHARED_INFO, streams.LIBXC_HVM_CONTEXT},
    LIBXL: frozenset(streams.LIBXL_RECORDS)
    - {streams.LIBXL_EMULATOR_CONTEXT, streams.LIBXL_EMULATOR_XENSTORE_DATA},
    XAPI: streams.XAPI_BODILESS,
}
"""Records that hold nothing private, or only registers."""
_EMULATORS = {
    (LIBXL, streams.LIBXL_EMULATOR_CONTEXT), (XAPI, streams.XAPI_QEMU_TRAD),
    (XAPI, streams.XAPI_QEMU_XEN),
}  # fmt: skip


def masked(key: str, value: str) -> str:
    """A value of a configuration as it may be seen: itself, if it is a setting.

    >>> masked("type", "hvm"), masked("max_vcpus", "4"), masked("name", "hvm")
    ('hvm', '4', 'redacted')
    >>> masked("mac", "00:16:3e:12:34:56"), masked("passwd", "1234")
    ('00:16:3e:00:00:00', 'redacted')
    """
    if _UUID.fullmatch(value):
        return _NO_UUID
    if _MAC.fullmatch(value):
        return _NO_MAC
    if not value.strip() or _PRIVATE.search(key):
        return _REDACTED if value.strip() else value
    setting = value in _WORDS or value.lower() in _WORDS
    kept = setting or _NUMBER.fullmatch(value) or _DEVICE.fullmatch(value)
    return value if kept else _REDACTED


_COPIES = (b"xsdata", b"xs_subtree")
"""Lists in XAPI's records that hold what a guest has, or may have, in xenstore. Source: xen-api at
e2ee48d6, ocaml/xenopsd/xc/xenops_server_xen.ml, `xsdata_state`."""
_OWN_NAMES = (b"vm-data", b"FIST")


def _names(tree: Tree) -> Iterator[Place]:
    """Those of the values in such copies, but for the toolstack's own."""
    todo = [tree]
    while todo:
        value = todo.pop()
        if isinstance(value, bytes):
            continue
        todo += value
        if len(value) != 2 or value[0] not in _COPIES or isinstance(value[1], bytes):
            continue
        for pair in value[1]:
            name = pair[0] if isinstance(pair, list) and pair else b""
            if isinstance(name, Atom) and name not in _OWN_NAMES:
                yield Place("name", name.decode("utf-8", "surrogateescape"), name.start, name.end)


class Redactor:
    """Gives headers' data and records' bodies without what is private. `registers` takes them
    too. `done` counts what went, by what it was; `kept` says what stays all the same."""

    def __init__(self, *, registers: bool = False, limits: Limits = DEFAULT) -> None:
        self._registers = registers
        self._limits = limits
        self.done: dict[str, int] = {}
        self.kept: dict[str, None] = {}

    def _count(self, what: str, number: int = 1) -> None:
        if number:
            self.done[what] = self.done.get(what, 0) + number

    def keeps(self, record: StreamRecord) -> bool:
        """Whether the body of a record stays as it is."""
        if self._registers and record.layer == LIBXC and record.type in _WITH_REGISTERS:
            return False
        return record.type in _KEPT.get(record.layer, ())

    def data_of(self, header: Header, data: bytes) -> bytes:
        """What follows a header."""
        if header.layer == XL and data:
            from hvmctx.stream import xlfile

            return xlfile.config_to_bytes(self._config(xlfile.config_text(data)))
        if header.layer == LIBVIRT:
            from hvmctx.stream import libvirt

            text = libvirt.text_of(data)
            try:
                text = self._values(text, libvirt.places(text, self._limits), libvirt.written)
            except HvmctxError:
                self._count("unreadable descriptions")
                text = b"<domain/>"
            comments = re.compile(rb"<!--.*?-->|<!\[CDATA\[.*?\]\]>", re.DOTALL)
            return libvirt.xml_to_bytes(comments.sub(lambda found: b" " * len(found[0]), text))
        return bytes(len(data))

    def _config(self, text: bytes) -> bytes:
        """xl's: JSON, or before 4.5 text, of which nothing stays."""
        try:
            plain = json.loads(text.rstrip(b"\0"))
            return json.dumps(self._json(plain, ""), indent=4).encode()
        except (ValueError, RecursionError):
            self._count("unreadable descriptions")
            return b"{}"

    def _json(self, plain: Json, key: str) -> Json:
        if isinstance(plain, dict):
            return {name: self._json(value, name) for name, value in plain.items()}
        if isinstance(plain, list):
            return [self._json(value, key) for value in plain]
        if isinstance(plain, str):
            return self._masked(key, plain)
        private = _PRIVATE.search(key) and plain is not None
        return self._masked(key, str(plain)) if private else plain

    def _masked(self, key: str, value: str) -> str:
        shown = masked(key, value)
        self._count("values of the configuration", shown != value)
        return shown

    def _values(
        self, text: bytes, places: Iterable[Place], written: Callable[[str], bytes]
    ) -> bytes:
        """A text with all of its values as they may be seen."""
        pieces, at = [], 0
        for place in sorted(places, key=lambda place: place.start):
            shown = self._masked(re.split(r"[.@]", place.path)[-1], place.value)
            if shown != place.value and place.start >= at:
                pieces += [text[at : place.start], written(shown)]
                at = place.end
        return b"".join((*pieces, text[at:]))

    def body_of(self, record: StreamRecord, body: bytes) -> bytes:
        """The body of a record that does not stay as it is: of the same length, but for XAPI's
        description of the guest."""
        kind = record.layer, record.type
        if kind == (LIBXC, streams.LIBXC_HVM_CONTEXT):
            return self.context(body)
        if kind in _EMULATORS:
            return self._emulator(record, body)
        if kind == (LIBXL, streams.LIBXL_EMULATOR_XENSTORE_DATA):
            return body[:8] + self._strings(body[8:])
        if kind == (XAPI, streams.XAPI_XENOPS):
            return self._xenops(body)
        if record.layer == LIBXC and record.type in _WITH_REGISTERS:
            return self._pv_registers(record.type, body)
        self._count(f"bodies of {record.name} records", bool(body))
        return bytes(len(body))

    def _strings(self, data: bytes) -> bytes:
        """Of xenstore: what separates parts of a key stays, so that readers take it."""
        self._count("strings of xenstore", len(data.split(b"\0")) - 1)
        return re.sub(rb"[^\0/]", b"x", data)

    def _xenops(self, text: bytes) -> bytes:
        from hvmctx.stream import sexp

        def write(value: str) -> bytes:
            return sexp.written(value.encode("utf-8", "surrogateescape"))

        def values(data: bytes) -> bytes:
            return self._values(data, places(data), write)

        def places(data: bytes) -> list[Place]:
            tree = sexp.parse(data, self._limits)
            return [*sexp.places(tree), *_names(tree)]

        try:
            vm = next((place for place in places(text) if place.path == _VM), None)
            if vm is not None:
                inner = vm.value.encode("utf-8", "surrogateescape")
                inner = self._values(inner, places(inner), write)
                text = text[: vm.start] + sexp.written(inner) + text[vm.end :]
            others = [place for place in places(text) if place.path != _VM]
            return self._values(text, others, write)
        except HvmctxError:
            self._count("unreadable descriptions")
            return b"()"

    def _emulator(self, record: StreamRecord, body: bytes) -> bytes:
        from hvmctx.stream.qemu import DeviceModelState

        try:
            emulator = handlers.parse(record, body, self._limits)
            payload = bytes(emulator.payload)
            content = handlers.content_of(emulator.emulator_id, payload, self._limits)
        except HvmctxError:
            return bytes(len(body))
        if isinstance(content, HvmContext):
            emulator.payload = self.context(payload)
        elif isinstance(content, DeviceModelState):
            self._device_model(content)
            emulator.payload = content.to_bytes()
            self.kept["the device model's file"] = None
        else:
            self._count("device models' files", bool(payload))
            emulator.payload = bytes(len(payload))
        made: bytes = emulator.to_bytes()
        return made

    def _device_model(self, state: object) -> None:
        from hvmctx.stream.qemu import DeviceModelState
        from hvmctx.stream.qemu_devices import VmportRpc, device_of

        assert isinstance(state, DeviceModelState)
        for section in state.sections:
            device = device_of(section)
            if isinstance(device, VmportRpc):
                self._count("values of guestinfo", len(device.guestinfo))
                for each in device.guestinfo:
                    each.value, each.spare = _filled(each.value), bytes(len(each.spare))
                for channel in device.channels:
                    channel.buf = bytes(len(channel.buf))
                    for bucket in channel.recv:
                        bucket.buf = bytes(len(bucket.buf))
                section.data = device.to_bytes()

    def context(self, data: bytes) -> bytes:
        """An HVM context."""
        context = HvmContext.from_bytes(data, damaged=True, limits=self._limits)
        for record in context.entries:
            if record.typecode == VMPORT_TYPECODE:
                record.body = self._vmport(bytes(record.body))
            elif record.type is None:
                self._count(f"bodies of {record.name} records", bool(len(record.body)))
                record.body = bytes(len(record.body))
            elif self._registers:
                self._zero_registers(record)
        if len(context.tail):
            self._count("tails of contexts")
            context.tail = bytes(len(context.tail))
        if not self._registers:
            self.kept["registers"] = None
        return context.to_bytes()

    def _vmport(self, body: bytes) -> bytes:
        from hvmctx.abi.vmport import used
        from hvmctx.context.vmport import Parts

        profile, changed = used(), bytearray(body)
        if len(body) < profile.read_size:
            return bytes(len(body))
        parts = Parts(body, profile)
        self._count("values of guestinfo", len(parts.entries))
        for entry in parts.entries:
            changed[entry.end - len(entry.value) : entry.end] = _filled(entry.value)
        for start, size in parts.buffers:
            changed[start : start + size] = b"x" * size
        changed[parts.end :] = bytes(len(changed[parts.end :]))
        return bytes(changed)

    def _zero_registers(self, record: Record) -> None:
        body = bytearray(record.body)
        if record.typecode == x86.CPU.typecode:
            for name in _REGISTERS:
                _zero(body, getattr(x86.hvm_hw_cpu, name).offset, 8)
            _zero_fpu(body, 0)
        elif record.typecode == x86.CPU_XSAVE.typecode:
            _zero_fpu(body, x86.hvm_hw_cpu_xsave.save_area.offset)
            _zero(body, x86.CPU_XSAVE.size, len(body))
        else:
            return
        self._count("records of registers")
        record.body = bytes(body)

    def _pv_registers(self, number: int, body: bytes) -> bytes:
        from ctypes import sizeof

        from hvmctx.abi.bodies import vcpu_xsave
        from hvmctx.abi.fields import Layout
        from hvmctx.abi.pv import VCPU_CONTEXTS

        head, changed = 8, bytearray(body)
        self._count("records of registers")
        if number == streams.LIBXC_X86_PV_VCPU_XSAVE:
            area = head + sizeof(vcpu_xsave)
            _zero_fpu(changed, area)
            _zero(changed, area + _XSAVE_HEAD, len(changed))
            return bytes(changed)
        for kind in VCPU_CONTEXTS.values():
            if len(body) == head + sizeof(kind):
                for slot in Layout.of(kind).slots():
                    if _PV_REGISTERS.fullmatch(slot.path):
                        _zero(changed, head + slot.offset, slot.size)
                return bytes(changed)
        return bytes(len(body))


_VM = "vm_str"
"""Where the Xenops record has the guest's description, as a text."""
_XSAVE_HEAD = 576
"""Bytes of an xsave image before the components beyond x87 and SSE."""
_WITH_REGISTERS = (streams.LIBXC_X86_PV_VCPU_BASIC, streams.LIBXC_X86_PV_VCPU_XSAVE)


def _filled(value: bytes) -> bytes:
    return b"x" * len(value)


def _zero(body: bytearray, start: int, size: int) -> None:
    """As far as it is there."""
    there = len(body[start : start + size])
    body[start : start + there] = bytes(there)


def _zero_fpu(body: bytearray, start: int) -> None:
    """An FXSAVE image, but for its control words."""
    kept = [(at, bytes(body[start + at : start + end])) for at, end in _FPU_CONTROL]
    _zero(body, start, 512)
    for at, data in kept:
        body[start + at : start + at + len(data)] = data
