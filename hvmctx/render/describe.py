"""What an image is, for `info`, as plain data; `describe_text` puts it in words."""

from __future__ import annotations

from contextlib import suppress

from hvmctx.abi import streams
from hvmctx.context.hvm_context import HvmContext
from hvmctx.errors import FormatError, HvmctxError, MissingRecordError
from hvmctx.image import handlers
from hvmctx.image.image import Image
from hvmctx.image.index import IndexedRecord
from hvmctx.stream.qemu import WITH_FIELDS, DeviceModelState
from hvmctx.stream.reader import CONTEXT, LIBVIRT, LIBXC, XAPI, Header

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from hvmctx.stream.libxc import PvVcpuBasic

    Plain = dict[str, Any]

__all__ = ["MOST_DECODED", "describe"]

MOST_DECODED = 100
"""Records shown as other packages' handlers decode them."""
_LONGEST = 500


def describe(image: Image, *, index: bool = False, policy: bool = False) -> Plain:
    """The description that `info --format json` prints. A part that is damaged is None and
    stands in `problems`. `index` adds every header and record, in file order; `policy` the CPU
    policy, decoded, None of an image without one."""
    problems: list[str] = []

    def attempt(part: Callable[[Image], Any]) -> Any:
        try:
            return part(image)
        except HvmctxError as error:
            problems.append(str(error))
            return None

    plain: Plain = {
        "input": image.source.name,
        "size": image.source.size,
        "format": image.format,
        "compression": image.compression or None,
        "complete": image.complete,
        "layers": [_layer(header) for header in image.headers],
        "guest": _guest(image),
        "config": attempt(_config),
        "memory": attempt(_memory),
        "pv": attempt(_pv),
        "tsc": attempt(_tsc),
        "params": attempt(_params),
        "policies": attempt(_policies),
        "device_models": attempt(_device_models),
        "xenstore": attempt(_xenstore),
        "context": attempt(_context),
        "checkpoints": len(image.records_of(LIBXC, streams.LIBXC_CHECKPOINT)),
        "verifies": bool(image.records_of(LIBXC, streams.LIBXC_VERIFY)),
        "records": _records(image),
        "decoded": attempt(_decoded),
    }
    if policy:
        plain["policy"] = attempt(_policy)
    if index:
        plain["index"] = [_layer(header) for header in image.headers]
        plain["index"] += [_indexed(record) for record in image.records]
        plain["index"].sort(key=lambda item: item["offset"])
    # what stopped the reading is said once, though several parts may miss what follows it
    plain["problems"] = list(dict.fromkeys([*map(str, image.problems), *problems]))
    plain["notes"] = [str(note) for note in image.notes]
    return plain


def _layer(header: Header) -> Plain:
    return {
        "layer": header.layer,
        "header": header.name,
        "offset": header.offset,
        "fields": header.fields,
    }


def _guest(image: Image) -> Plain | None:
    if image.guest_type is None:
        return None
    major, minor = image.xen_version or (0, 0)
    return {
        "type": streams.GUEST_TYPES.get(image.guest_type, f"type {image.guest_type}"),
        "xen": f"{major}.{minor}",
        "converted": major == 0,
    }


def _config(image: Image) -> Plain | None:
    """What the configuration of an xl file says, or the description of the guest in another
    wrapper, None where it does not say it; of one that is text (before 4.5) only that."""
    config = image.config
    if config is None:
        return None
    created, built = (
        part if isinstance(config, dict) and isinstance(part := config.get(name), dict) else {}
        for name in ("c_info", "b_info")
    )
    online = built.get("avail_vcpus")
    return {
        "form": "text" if isinstance(config, str) else _FORMS.get(image.format, "JSON"),
        "name": _as(str, created.get("name")),
        "uuid": _as(str, created.get("uuid")),
        "type": _as(str, created.get("type")),
        "max_vcpus": _count(built.get("max_vcpus")),
        "online_vcpus": len(online) if isinstance(online, list) else None,
        "max_memkb": _count(built.get("max_memkb")),
        "target_memkb": _count(built.get("target_memkb")),
    }


_FORMS = {LIBVIRT: "XML", XAPI: "S-expression"}


def _count(value: Any) -> int | None:
    number = _as(int, value)
    return number if number is not None and 0 <= number < 1 << 53 else None


def _as(kind: type, value: Any) -> Any:
    return value if isinstance(value, kind) and not isinstance(value, bool) else None


def _memory(image: Image) -> Plain | None:
    """`populated` is what a restore gives the guest, in bytes: where pages are sent again in
    a pipe, whose words are not kept, at most that, and `exact` is False."""
    batches = sum(
        many
        for record, many in image.records.rows()
        if record.layer == LIBXC and record.type == streams.LIBXC_PAGE_DATA
    )
    if not batches:
        return None
    words = image.page_words
    populated, exact = words.with_memory(), words.ascending
    if not exact:
        with suppress(MissingRecordError):
            populated = sum(run.count for run in image.memory.populated())
            exact = True
    return {
        "batches": batches,
        "populated": populated * streams.PAGE_SIZE,
        "exact": exact,
        "pages": {
            streams.PAGE_TYPES.get(number, f"invalid type {number}"): count
            for number, count in enumerate(words.of_type)
            if count
        },
    }


def _pv(image: Image) -> Plain | None:
    from hvmctx.stream import libxc

    info = image.last_body(libxc.PvInfo)
    if info is None:
        return None
    p2m = image.last_body(libxc.PvP2mFrames)
    shared = image.last_body(libxc.SharedInfo)
    return {
        "guest_width": info.guest_width,
        "pt_levels": info.pt_levels,
        "p2m": None if p2m is None else [p2m.start_pfn, p2m.end_pfn],
        "max_pfn": None if shared is None else shared.head(info.guest_width).max_pfn,
        "vcpus": [
            _pv_vcpu(image.parse(vcpu, libxc.PvVcpuBasic), info.guest_width)
            for vcpu in image.effective_records(LIBXC, streams.LIBXC_X86_PV_VCPU_BASIC)
            if vcpu.length
        ],
    }


def _pv_vcpu(vcpu: PvVcpuBasic, guest_width: int) -> Plain:
    """`page_table` is the pfn of its top level, out of the form that cr3 has in a stream."""
    context = vcpu.context(guest_width)
    registers, cr3 = context.user_regs, context.ctrlreg[3]
    wide = guest_width == 8
    return {
        "vcpu": vcpu.vcpu,
        "ip": registers.rip if wide else registers.eip,
        "sp": registers.rsp if wide else registers.esp,
        "page_table": cr3 >> 12 if wide else cr3 >> 12 | (cr3 & 0xFFF) << 20,
    }


def _tsc(image: Image) -> Plain | None:
    tsc = image.tsc_info
    return None if tsc is None else tsc.for_people()


def _params(image: Image) -> Plain:
    return {streams.param_name(index): value for index, value in image.params.items()}


def _device_models(image: Image) -> list[Plain]:
    found = []
    for emulator in image.emulators:
        plain: Plain = {
            "emulator": emulator.emulator,
            "index": emulator.index,
            "size": len(emulator.payload),
            "qemu": None,
        }
        content = handlers.content_of(emulator.emulator_id, emulator.payload, image.limits)
        if isinstance(content, DeviceModelState):
            plain["qemu"] = _qemu(content)
        elif isinstance(content, HvmContext):
            plain["context"] = [
                f"{record.name}/{record.instance}" for record in content.entries[:MOST_DECODED]
            ]
        elif content is not None:
            plain["decoded"] = _text(content, emulator.payload)
        found.append(plain)
    return found


def _qemu(state: DeviceModelState) -> Plain:
    """`devices` are the sections whose fields are known."""
    known = [section for section in state.sections if section.name in WITH_FIELDS]
    devices: dict[str, object | None] = {}
    if known:
        from hvmctx.stream.qemu_devices import device_of

        devices = {section.name: device_of(section) for section in known}
    return {
        "version": state.version,
        "machine": state.machine,
        "sections": [section.name for section in state.sections],
        "devices": {name: _shown(device) for name, device in devices.items() if device},
        "described": state.description is not None,
    }


def _policies(image: Image) -> Plain:
    """How many rows there are of each, None where there is no such record."""
    cpuid, msrs = image.policy.cpuid, image.policy.msr
    return {
        "cpuid": None if cpuid is None else len(cpuid.leaves),
        "msr": None if msrs is None else len(msrs.msrs),
    }


def _policy(image: Image) -> Plain | None:
    from hvmctx.render.policy import describe_policy

    policy = image.policy
    if policy.cpuid is None and policy.msr is None:
        return None
    return describe_policy(policy.leaves, policy.msrs)


def _xenstore(image: Image) -> list[list[str]]:
    """Pairs of keys and values for the device models, of all such records."""
    from hvmctx.stream.libxl import EmulatorXenstoreData

    return [
        [part.decode("utf-8", "backslashreplace") for part in pair]
        for body in image.bodies(EmulatorXenstoreData)
        for pair in body.pairs
    ]


def _decoded(image: Image) -> list[Plain]:
    """What handlers of other packages make of the records that hvmctx does not know, in their
    words."""
    found: list[Plain] = []
    for record, _ in image.records.rows():
        if record.known or len(found) >= MOST_DECODED:
            continue
        handler = handlers.handler_of(record.layer, record.type)
        if handler is not None:
            payload = _text(handler, image.body(record), record.body_offset)
            found.append({**_indexed(record), "payload": payload})
    return found + _decoded_of_context(image, MOST_DECODED - len(found))


def _decoded_of_context(image: Image, most: int) -> list[Plain]:
    """The same of records of the context."""
    found: list[Plain] = []
    try:
        context = image.context
    except HvmctxError:  # which the description of the context says
        return found
    record = image.last(LIBXC, streams.LIBXC_HVM_CONTEXT)
    base = 0 if record is None else record.body_offset
    for entry in context.entries:
        handler = None
        if entry.type is None and len(found) < most:
            handler = handlers.handler_of(CONTEXT, entry.typecode)
        if handler is not None:
            offset = base + (entry.offset or 0)
            found.append({
                "layer": CONTEXT, "type": entry.typecode, "name": entry.name, "offset": offset,
                "length": entry.length, "payload": _text(handler, bytes(entry.body), offset),
            })  # fmt: skip
    return found


def _text(handler: handlers.Guarded, body: bytes | memoryview, offset: int = 0) -> str:
    """Raises FormatError."""
    try:
        return _cut(handler.text(body))
    except FormatError as error:
        raise error.moved(offset) from None


def _shown(value: Any) -> str:
    return _cut(repr(value))


def _cut(text: str) -> str:
    return text[:_LONGEST] + ("..." if len(text) > _LONGEST else "")


def _context(image: Image) -> Plain | None:
    if image.format != CONTEXT and image.last(LIBXC, streams.LIBXC_HVM_CONTEXT) is None:
        return None
    from hvmctx.abi import x86

    context = image.context
    counts: dict[str, int] = {}
    for record in context.entries:
        counts[record.name] = counts.get(record.name, 0) + 1
    header = context.records(x86.HEADER)
    return {
        "size": context.size,
        "vcpus": len({record.instance for record in context.records(x86.CPU)}),
        "vcpu_ids": context.vcpus.ids,
        "header": header[0].fields() if header else None,
        "registers": _registers(context),
        "records": counts,
        "tail": len(context.tail),
    }


_REGISTERS = ("cr0", "cr4", "msr_efer", "rflags")


def _registers(context: HvmContext) -> list[Plain]:
    """Of each vcpu that is online, of the first many: values of the registers that decide on a
    restore, and its MSRs (index, value)."""
    from hvmctx.abi import x86

    row = streams.Flat(x86.hvm_one_msr)
    rows: dict[int, Plain] = {}
    for record in context.records(x86.CPU):
        if len(rows) < MOST_DECODED or record.instance in rows:
            fields: Plain = record.fields()
            rows[record.instance] = {
                "vcpu": record.instance,
                **{name: fields[name] for name in ("rip", *_REGISTERS)},
                "xcr0": None,
                "msrs": [],
            }
    for record in context.records(x86.CPU_XSAVE):
        if record.instance in rows:
            rows[record.instance]["xcr0"] = record.fields()["xcr0"]
    for record in context.records(x86.CPU_MSR):
        if record.instance in rows:
            data = bytes(record.body[x86.CPU_MSR.size :][: MOST_DECODED * row.size])
            found = row.iter_unpack(data[: len(data) // row.size * row.size])
            rows[record.instance]["msrs"] = [[index, value] for index, _, value in found]
    return list(rows.values())


def _records(image: Image) -> list[Plain]:
    """Each type once, in the order in which it first appears."""
    rows: dict[tuple[str, int], Plain] = {}
    for record, many in image.records.rows():
        row = rows.get((record.layer, record.type))
        if row is None:
            row = rows[record.layer, record.type] = _first_of(record)
        row["count"] += many
        row["bytes"] += many * record.length
    return list(rows.values())


def _indexed(record: IndexedRecord) -> Plain:
    return {
        "layer": record.layer,
        "type": record.type,
        "name": record.name,
        "offset": record.offset,
        "length": record.length,
    }


def _first_of(record: IndexedRecord) -> Plain:
    return {
        "layer": record.layer,
        "type": record.type,
        "name": record.name,
        "optional": record.optional,
        "first": record.offset,
        "count": 0,
        "bytes": 0,
    }
