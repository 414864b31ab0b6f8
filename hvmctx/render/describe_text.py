"""The description of an image in words."""

from __future__ import annotations

from hvmctx.abi import streams
from hvmctx.render.table import Table, printable
from hvmctx.stream.reader import LIBXC, LIBXL, XL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    Plain = dict[str, Any]

_MIB = 1 << 20


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
        length = max(0, fields["optional_data_len"] - 4)  # behind its own length
        fields["config"] = f"{'JSON' if json else 'text'} configuration of {length} bytes"
        fields["stream"] = "stream v2" if flags & streams.XL_FLAG_STREAM_V2 else "legacy stream"
    elif layer["header"] == "domain header":
        fields["type"] = streams.GUEST_TYPES.get(fields["type"], f"type {fields['type']}")
    return _HEADER_WORDS[layer["layer"], layer["header"]].format(**fields)


def print_description(plain: Plain, file: TextIO) -> None:
    """In words, with a table of the records, and one of every record where there is an
    index."""
    size = "" if plain["size"] is None else f", {plain['size']} bytes"
    packed = f", compressed with {plain['compression']}" if plain["compression"] else ""
    ended = "" if plain["complete"] else ", not complete"
    file.write(f"{printable(plain['input'])}: {plain['format']}{size}{packed}{ended}\n")
    for layer in plain["layers"]:
        file.write(f"  {layer['offset']:#010x}  {_in_words(layer)}\n")
    for name, value in _facts(plain):
        file.write(f"{name + ':':<13} {printable(value)}\n")
    if plain["records"]:
        file.write("\n")
        _kinds(plain["records"]).print(file)
    if "index" in plain:
        file.write("\n")
        _index(plain["index"]).print(file)
    for kind in ("notes", "problems"):
        for text in plain[kind]:
            file.write(f"{kind[:-1]}: {printable(text)}\n")


def _kinds(records: list[Plain]) -> Table:
    table = Table("layer", "type", "record", "count", "bytes", "first at")
    for row in records:
        name = row["name"] + (" (optional)" if row["optional"] else "")
        table.add(
            row["layer"], f"{row['type']:#x}", name, row["count"], row["bytes"],
            f"{row['first']:#x}",
        )  # fmt: skip
    return table


def _index(items: list[Plain]) -> Table:
    table = Table("offset", "layer", "type", "record", "bytes")
    for item in items:
        if "header" in item:
            table.add(f"{item['offset']:#x}", item["layer"], "", item["header"], "")
        else:
            table.add(
                f"{item['offset']:#x}", item["layer"], f"{item['type']:#x}", item["name"],
                str(item["length"]),
            )  # fmt: skip
    return table


def _size(count: int) -> str:
    return f"{count / _MIB:.1f} MiB" if count >= _MIB else f"{count // 1024} KiB"


def _facts(plain: Plain) -> list[tuple[str, str]]:
    facts = [
        ("guest", _guest(plain["guest"], plain["config"])),
        ("memory", _memory(plain["memory"], plain["config"])),
        *_pv(plain["pv"]),
        ("tsc", _tsc(plain["tsc"])),
        (
            "params",
            ", ".join(f"{name}={value:#x}" for name, value in (plain["params"] or {}).items()),
        ),
        ("policies", _policies(plain["policies"])),
        *(("device model", _model_in_words(model)) for model in plain["device_models"] or ()),
        ("xenstore", ", ".join(f"{key}={value}" for key, value in plain["xenstore"] or ())),
        ("HVM context", _context(plain)),
        ("checkpoints", str(plain["checkpoints"] or "")),
        ("verify", "pages are sent again, to be compared" if plain["verifies"] else ""),
        *(
            ("decoded", f"{item['name']} at {item['offset']:#x}: {item['payload']}")
            for item in plain["decoded"] or ()
        ),
    ]
    return [(name, value) for name, value in facts if value]


def _guest(guest: Plain | None, config: Plain | None) -> str:
    if guest is None and config is None:
        return ""
    config = config or {}
    kind = guest["type"] if guest else "of a legacy stream"
    if config.get("type") == "pvh":
        kind += " (PVH)"
    text = kind + (f" '{config['name']}'" if config.get("name") else "")
    if config.get("max_vcpus") is not None:
        text += f", up to {config['max_vcpus']} vcpus"
    if config.get("uuid"):
        text += f", {config['uuid']}"
    if guest:
        wrote = "converted from a legacy stream" if guest["converted"] else f"Xen {guest['xen']}"
        text += f"; {wrote}"
    return text


def _memory(memory: Plain | None, config: Plain | None) -> str:
    target, most = ((config or {}).get(name) for name in ("target_memkb", "max_memkb"))
    told = ""
    if target is not None and most is not None:
        told = f"configured {_size(target << 10)}"
        if most != target:
            told += f" of {_size(most << 10)}"
    if memory is None:
        return told
    pages = ", ".join(f"{count} {name}" for name, count in memory["pages"].items())
    at_most = "" if memory["exact"] else "at most "
    text = f"{at_most}{_size(memory['populated'])}; page words: {pages or 'none'}"
    return f"{text}; {told}" if told else text


def _pv(pv: Plain | None) -> list[tuple[str, str]]:
    if pv is None:
        return []
    text = "{guest_width}-byte words, {pt_levels} page table levels".format(**pv)
    if pv["p2m"] is not None:
        text += ", p2m of pfns {:#x} to {:#x}".format(*pv["p2m"])
    if pv["max_pfn"] is not None:
        text += f", max_pfn {pv['max_pfn']:#x}"
    vcpus = [
        (
            f"vcpu {vcpu['vcpu']}",
            "ip {ip:#x}, sp {sp:#x}, page table at pfn {page_table:#x}".format(**vcpu),
        )
        for vcpu in pv["vcpus"]
    ]
    return [("PV", f"{text}, {len(vcpus)} vcpus"), *vcpus]


def _tsc(tsc: Plain | None) -> str:
    words = "mode {mode}, {khz} kHz, {nsec} ns, incarnation {incarnation}"
    return "" if tsc is None else words.format(**tsc)


def _policies(policies: Plain | None) -> str:
    return ", ".join(
        f"{count} {words}"
        for name, words in (("cpuid", "CPUID leaves"), ("msr", "MSRs"))
        if policies is not None and (count := policies[name]) is not None
    )


def _context(plain: Plain) -> str:
    context, guest = plain["context"], plain["guest"]
    if context is None:
        pv = guest is not None and guest["type"] == streams.GUEST_TYPES[streams.GUEST_X86_PV]
        return "none: a PV guest has none" if pv else ""
    records = ", ".join(
        name if count == 1 else f"{count} {name}" for name, count in context["records"].items()
    )
    tail = f", {context['tail']} bytes behind" if context["tail"] else ""
    vcpus = f"{context['vcpus']} of {len(context['vcpu_ids'])} vcpus online"
    return f"{context['size']} bytes{tail}, {vcpus}: {records}"


def _model_in_words(model: Plain) -> str:
    text = f"{model['emulator']}, {model['size']} bytes"
    qemu = model["qemu"]
    if qemu is None:
        return f"{text}, not in QEMU's format"
    machine = f", machine {qemu['machine']}" if qemu["machine"] else ""
    return f"{text}, QEVM version {qemu['version']}{machine}: {', '.join(qemu['sections'])}"
