"""What `hvmctx info` prints: the description of an image in words and tables."""

from __future__ import annotations

from hvmctx.abi import streams
from hvmctx.abi.msrs import MSR_BITS, MSRS
from hvmctx.abi.x86_bits import CR0, CR4, EFER, RFLAGS, XCR0, short_names
from hvmctx.messages import colored, columns, printable
from hvmctx.render.table import Table
from hvmctx.stream.grammar import LEGACY_HEADER
from hvmctx.stream.reader import LIBVIRT, LIBXC, LIBXL, XAPI, XL, header_item

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    Facts = dict[str, Any]
    """What `describe` returns, or a part of it."""

__all__ = ["layer_in_words", "print_description", "size_in_words", "summary"]

_MIB = 1 << 20


_HEADER_WORDS = {
    (XL, "header"): "xl file: {config}, {stream}",
    (XAPI, "header"): "XAPI suspend image: {stream}",
    (LIBVIRT, "header"): "libvirt file, version {version}: XML of {xml_len} bytes, {stream}",
    (LIBXL, "header"): "libxl stream, version {version}",
    (LIBXC, "image header"): "libxc stream, version {version}",
    (LIBXC, "domain header"): "domain: {type}, from Xen {xen_major}.{xen_minor}",
}


_STREAMS = {XL: "stream v2", LIBVIRT: "stream v2", XAPI: "records"}


def layer_in_words(layer: Facts) -> str:
    """What a header says, from the `layers` of a description."""
    fields = dict(layer["fields"])
    if layer["layer"] == XL:
        flags = fields["mandatory_flags"]
        json = flags & streams.XL_FLAG_JSON_CONFIG
        length = max(0, fields["optional_data_len"] - 4)  # after its own length
        fields["config"] = f"{'JSON' if json else 'text'} configuration of {length} bytes"
    if layer["layer"] in streams.MAGICS:
        legacy = header_item(layer["layer"], fields) == LEGACY_HEADER
        fields["stream"] = "legacy stream" if legacy else _STREAMS[layer["layer"]]
    elif layer["header"] == "domain header":
        fields["type"] = streams.GUEST_TYPES.get(fields["type"], f"type {fields['type']}")
    return _HEADER_WORDS[layer["layer"], layer["header"]].format(**fields)


def print_description(facts: Facts, file: TextIO) -> None:
    """Print what `describe` says: in words, with a table of the kinds of record, and one of
    every record if there is an index."""
    size = "" if facts["size"] is None else f", {facts['size']} bytes"
    packed = f", compressed with {facts['compression']}" if facts["compression"] else ""
    ended = "" if facts["complete"] else ", not complete"
    width = columns() if file.isatty() else 0
    file.write(f"{printable(facts['input'])}: {facts['format']}{size}{packed}{ended}\n")
    for layer in facts["layers"]:
        file.write(_wrapped(f"  {layer['offset']:#010x}  ", layer_in_words(layer), width) + "\n")
    for name, value in summary(facts):
        file.write(_wrapped(f"{name + ':':<13} ", printable(value), width) + "\n")
    if facts["records"]:
        file.write("\n")
        _kinds(facts["records"]).print(file)
    if "index" in facts:
        file.write("\n")
        _index(facts["index"]).print(file)
    if facts.get("policy"):
        from hvmctx.render.policy import policy_lines

        file.write("\n")
        for text in policy_lines(
            *(map(tuple, facts["policy"][part]) for part in ("cpuid", "msrs"))
        ):
            file.write(f"{printable(text)}\n")
    for kind in ("notes", "problems"):
        for text in facts[kind]:
            line = _wrapped(f"{kind[:-1]}: ", printable(text), width)
            file.write(colored(line, file) + "\n")


_NARROWEST = 40


def _wrapped(head: str, text: str, width: int) -> str:
    """Lines of this width, the further ones under the text of the first. One line if the width is
    0, as scripts want it, or too little."""
    if width < _NARROWEST:
        return head + text
    lines, margin = [head.rstrip()], " " * (len(head) - 1)
    for word in text.split(" "):
        if len(lines[-1]) + 1 + len(word) > width and lines[-1] > margin:
            lines.append(margin)
        lines[-1] = f"{lines[-1]:<{len(margin)}} {word}"
    return "\n".join(lines)


def _kinds(records: list[Facts]) -> Table:
    table = Table("layer", "type", "record", "count", "bytes", "first at")
    for row in records:
        name = row["name"] + (" (optional)" if row["optional"] else "")
        table.add(
            row["layer"], f"{row['type']:#x}", name, row["count"], row["bytes"],
            f"{row['first']:#x}",
        )  # fmt: skip
    return table


def _index(items: list[Facts]) -> Table:
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


def size_in_words(count: int) -> str:
    """Of a number of bytes: `16.0 MiB`."""
    return f"{count / _MIB:.1f} MiB" if count >= _MIB else f"{count // 1024} KiB"


def summary(facts: Facts) -> list[tuple[str, str]]:
    """Name and words of each line between the layers and the tables."""
    lines = [
        ("guest", _guest(facts["guest"], facts["config"])),
        ("memory", _memory(facts["memory"], facts["config"])),
        *_pv(facts["pv"]),
        ("tsc", _tsc(facts["tsc"])),
        (
            "params",
            ", ".join(f"{name}={value:#x}" for name, value in (facts["params"] or {}).items()),
        ),
        ("policies", _policies(facts["policies"])),
        *(("device model", _model_in_words(model)) for model in facts["device_models"] or ()),
        ("xenstore", ", ".join(f"{key}={value}" for key, value in facts["xenstore"] or ())),
        ("HVM context", _context(facts)),
        *(
            (f"vcpu {row['vcpu']}", _vcpu(row))
            for row in (facts["context"] or {}).get("registers", ())
        ),
        ("checkpoints", str(facts["checkpoints"] or "")),
        ("verify", "pages are sent again, to be compared" if facts["verifies"] else ""),
        *(
            ("decoded", f"{item['name']} at {item['offset']:#x}: {item['payload']}")
            for item in facts["decoded"] or ()
        ),
    ]
    return [(name, value) for name, value in lines if value]


def _guest(guest: Facts | None, config: Facts | None) -> str:
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


def _memory(memory: Facts | None, config: Facts | None) -> str:
    target, most = ((config or {}).get(name) for name in ("target_memkb", "max_memkb"))
    configured = ""
    if target is not None and most is not None:
        configured = f"configured {size_in_words(target << 10)}"
        if most != target:
            configured += f" of {size_in_words(most << 10)}"
    if memory is None:
        return configured
    pages = ", ".join(f"{count} {name}" for name, count in memory["pages"].items())
    at_most = "" if memory["exact"] else "at most "
    text = f"{at_most}{size_in_words(memory['populated'])}; page words: {pages or 'none'}"
    return f"{text}; {configured}" if configured else text


def _pv(pv: Facts | None) -> list[tuple[str, str]]:
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


def _tsc(tsc: Facts | None) -> str:
    words = "mode {mode}, {khz} kHz, {nsec} ns, incarnation {incarnation}"
    return "" if tsc is None else words.format(**tsc)


def _policies(policies: Facts | None) -> str:
    return ", ".join(
        f"{count} {words}"
        for name, words in (("cpuid", "CPUID leaves"), ("msr", "MSRs"))
        if policies is not None and (count := policies[name]) is not None
    )


def _context(facts: Facts) -> str:
    context, guest = facts["context"], facts["guest"]
    if context is None:
        pv = guest is not None and guest["type"] == streams.GUEST_TYPES[streams.GUEST_X86_PV]
        return "none: a PV guest has none" if pv else ""
    records = ", ".join(
        name if count == 1 else f"{count} {name}" for name, count in context["records"].items()
    )
    tail = f", {context['tail']} bytes after its records" if context["tail"] else ""
    vcpus = f"{context['vcpus']} of {len(context['vcpu_ids'])} vcpus online"
    return f"{context['size']} bytes{tail}, {vcpus}: {records}"


_NAMED = (("cr0", CR0), ("cr4", CR4), ("msr_efer", EFER), ("rflags", RFLAGS), ("xcr0", XCR0))


def _vcpu(row: Facts) -> str:
    """Its registers by the names of their bits; those without any are left out."""
    said = [f"rip {row['rip']:#x}"]
    for name, register in _NAMED:
        value = row[name] or 0
        names = short_names(register, value & ~RFLAGS.ONE if name == "rflags" else value)
        if names:
            said.append(f"{name.removeprefix('msr_')} {' '.join(names)}")
    for index, value in row["msrs"]:
        name, bits = MSRS.get(index, f"MSR {index:#x}"), MSR_BITS.get(index)
        what = " ".join(short_names(bits, value)) if bits else f"{value:#x}"
        said.append(f"{name} {what or '0x0'}")
    return "; ".join(said)


def _model_in_words(model: Facts) -> str:
    text = f"{model['emulator']}, {model['size']} bytes"
    qemu = model["qemu"]
    if "context" in model:
        return f"{text}, an HVM context: {', '.join(model['context'])}"
    if "decoded" in model:
        return f"{text}: {model['decoded']}"
    if qemu is None:
        return f"{text}, not in QEMU's format"
    machine = f", machine {qemu['machine']}" if qemu["machine"] else ""
    return f"{text}, QEVM version {qemu['version']}{machine}: {', '.join(qemu['sections'])}"
