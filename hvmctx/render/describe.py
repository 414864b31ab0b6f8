"""What an image is, for `info`: first as plain data, then in words."""

from __future__ import annotations

from hvmctx.abi import streams
from hvmctx.errors import HvmctxError
from hvmctx.image import Image, IndexedRecord
from hvmctx.render.table import Table
from hvmctx.stream.reader import CONTEXT, LIBXC, LIBXL, XL, Header

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TextIO

    Plain = dict[str, Any]

_MIB = 1 << 20


def describe(image: Image) -> Plain:
    """The description that `info --format json` prints. A part that is damaged is left out
    and stands in `problems`."""
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
        "guest": attempt(_guest),
        "memory": attempt(_memory),
        "pv": attempt(_pv),
        "tsc": attempt(_tsc),
        "params": attempt(_params),
        "device_models": attempt(_device_models),
        "context": attempt(_context),
        "records": _records(image),
    }
    plain["problems"] = [str(problem) for problem in image.problems] + problems
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
    config = image.config
    created = config.get("c_info", {}) if isinstance(config, dict) else {}
    built = config.get("b_info", {}) if isinstance(config, dict) else {}
    major, minor = image.xen_version or (0, 0)
    return {
        "type": streams.GUEST_TYPES.get(image.guest_type, f"type {image.guest_type}"),
        "xen": f"{major}.{minor}",
        "converted": major == 0,
        "name": created.get("name") if isinstance(created, dict) else None,
        "config_type": created.get("type") if isinstance(created, dict) else None,
        "max_vcpus": built.get("max_vcpus") if isinstance(built, dict) else None,
    }


def _memory(image: Image) -> Plain | None:
    batches = image.records_of(LIBXC, streams.LIBXC_PAGE_DATA)
    if not batches:
        return None
    types = {
        streams.PAGE_TYPES.get(number, f"invalid type {number}"): count
        for number, count in enumerate(image.page_types)
        if count
    }
    absent = sum(image.page_types[kind] for kind in streams.PAGE_TYPES_WITHOUT_MEMORY)
    return {
        "batches": len(batches),
        "populated": (sum(image.page_types) - absent) * streams.PAGE_SIZE,
        "pages": types,
    }


def _pv(image: Image) -> Plain | None:
    record = image.last(LIBXC, streams.LIBXC_X86_PV_INFO)
    if record is None:
        return None
    info = image.model(record)
    vcpus = {
        image.model(vcpu).vcpu
        for vcpu in image.records_of(LIBXC, streams.LIBXC_X86_PV_VCPU_BASIC)
        if vcpu.length
    }
    return {
        "guest_width": info.guest_width,
        "pt_levels": info.pt_levels,
        "vcpus": len(vcpus),
    }


def _tsc(image: Image) -> Plain | None:
    tsc = image.tsc_info
    if tsc is None:
        return None
    return {
        "mode": tsc.mode,
        "khz": tsc.khz,
        "nsec": tsc.nsec,
        "incarnation": tsc.incarnation,
    }


def _params(image: Image) -> Plain:
    return {
        streams.HVM_PARAMS.get(index, str(index)): value for index, value in image.params.items()
    }


def _device_models(image: Image) -> list[Plain]:
    found = []
    for emulator in image.emulators:
        plain: Plain = {
            "emulator": emulator.emulator,
            "index": emulator.index,
            "size": len(emulator.payload),
            "qemu": None,
        }
        state = emulator.device_model()
        if state is not None:
            plain["qemu"] = {
                "version": state.version,
                "machine": state.machine,
                "sections": [section.name for section in state.sections],
                "described": state.description is not None,
            }
        found.append(plain)
    return found


def _context(image: Image) -> Plain | None:
    if image.format != CONTEXT and image.last(LIBXC, streams.LIBXC_HVM_CONTEXT) is None:
        return None
    from hvmctx.abi import x86

    context = image.hvm_context
    if context.damage is not None and context.damage not in image.problems:
        image.problems.append(context.damage)
    counts: dict[str, int] = {}
    for record in context.entries:
        counts[record.name] = counts.get(record.name, 0) + 1
    header = context.records(x86.HEADER)
    return {
        "size": context.size,
        "vcpus": len({record.instance for record in context.records(x86.CPU)}),
        "vcpu_ids": list(context.vcpus),
        "header": header[0].fields() if header else None,
        "records": counts,
        "tail": len(context.tail),
    }


def _records(image: Image) -> list[Plain]:
    """Each type once, in the order in which it first appears."""
    rows: dict[tuple[str, int], Plain] = {}
    for record in image.records:
        row = rows.get((record.layer, record.type))
        if row is None:
            row = rows[record.layer, record.type] = _first_of(record)
        row["count"] += 1
        row["bytes"] += record.length
    return list(rows.values())


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


_HEADER_WORDS = {
    (XL, "header"): "xl file: {config}, {stream}",
    (LIBXL, "header"): "libxl stream, version {version}",
    (LIBXC, "image header"): "libxc stream, version {version}",
    (LIBXC, "domain header"): "domain: {type}, from Xen {xen_major}.{xen_minor}",
}


def _in_words(layer: Plain) -> str:
    fields = dict(layer["fields"])
    if layer["layer"] == XL:
        flags = fields["mandatory_flags"]
        json = flags & streams.XL_FLAG_JSON_CONFIG
        fields["config"] = (
            f"{'JSON' if json else 'text'} configuration of {fields['optional_data_len']} bytes"
        )
        fields["stream"] = "stream v2" if flags & streams.XL_FLAG_STREAM_V2 else "legacy stream"
    elif layer["header"] == "domain header":
        fields["type"] = streams.GUEST_TYPES.get(fields["type"], f"type {fields['type']}")
    return _HEADER_WORDS[layer["layer"], layer["header"]].format(**fields)


def print_description(plain: Plain, file: TextIO) -> None:
    """In words, with a table of the records."""
    size = "" if plain["size"] is None else f", {plain['size']} bytes"
    packed = f", compressed with {plain['compression']}" if plain["compression"] else ""
    ended = "" if plain["complete"] else ", not complete"
    file.write(f"{plain['input']}: {plain['format']}{size}{packed}{ended}\n")
    for layer in plain["layers"]:
        file.write(f"  {layer['offset']:#010x}  {_in_words(layer)}\n")
    for name, value in _facts(plain):
        file.write(f"{name + ':':<13} {value}\n")
    if plain["records"]:
        file.write("\n")
        table = Table("layer", "type", "record", "count", "bytes", "first at")
        for row in plain["records"]:
            name = row["name"] + (" (optional)" if row["optional"] else "")
            table.add(
                row["layer"], f"{row['type']:#x}", name, row["count"], row["bytes"],
                f"{row['first']:#x}",
            )  # fmt: skip
        table.print(file)
    for kind in ("notes", "problems"):
        for text in plain[kind]:
            file.write(f"{kind[:-1]}: {text}\n")


def _size(count: int) -> str:
    return f"{count / _MIB:.1f} MiB" if count >= _MIB else f"{count // 1024} KiB"


def _facts(plain: Plain) -> list[tuple[str, str]]:
    facts: list[tuple[str, str]] = []
    guest, memory, tsc, context = (plain[key] for key in ("guest", "memory", "tsc", "context"))
    if guest is not None:
        name = f" {guest['name']!r}" if guest["name"] else ""
        vcpus = f", up to {guest['max_vcpus']} vcpus" if guest["max_vcpus"] else ""
        wrote = "converted from a legacy stream" if guest["converted"] else f"Xen {guest['xen']}"
        facts.append(("guest", f"{guest['type']}{name}{vcpus}; {wrote}"))
    if memory is not None:
        pages = ", ".join(f"{count} {name}" for name, count in memory["pages"].items())
        facts.append(("memory", f"{_size(memory['populated'])}; page words: {pages or 'none'}"))
    if plain["pv"] is not None:
        facts.append(
            ("PV", "{guest_width}-byte words, {pt_levels} page table levels, {vcpus} vcpus".format(
                **plain["pv"]))
        )  # fmt: skip
    if tsc is not None:
        facts.append(
            (
                "tsc",
                f"mode {tsc['mode']}, {tsc['khz']} kHz, {tsc['nsec']} ns, "
                f"incarnation {tsc['incarnation']}",
            )
        )
    if plain["params"]:
        facts.append(
            ("params", ", ".join(f"{name}={value:#x}" for name, value in plain["params"].items()))
        )
    for model in plain["device_models"] or ():
        facts.append(("device model", _model_in_words(model)))
    if context is not None:
        records = ", ".join(
            name if count == 1 else f"{count} {name}" for name, count in context["records"].items()
        )
        tail = f", {context['tail']} bytes behind" if context["tail"] else ""
        vcpus = f"{context['vcpus']} of {len(context['vcpu_ids'])} vcpus online"
        facts.append(("HVM context", f"{context['size']} bytes{tail}, {vcpus}: {records}"))
    elif guest is not None and guest["type"] == streams.GUEST_TYPES[streams.GUEST_X86_PV]:
        facts.append(("HVM context", "none: a PV guest has none"))
    return facts


def _model_in_words(model: Plain) -> str:
    text = f"{model['emulator']}, {model['size']} bytes"
    qemu = model["qemu"]
    if qemu is None:
        return f"{text}, not in QEMU's format"
    machine = f", machine {qemu['machine']}" if qemu["machine"] else ""
    return f"{text}, QEVM version {qemu['version']}{machine}: {', '.join(qemu['sections'])}"
