"""docs/formats/: a page of each format, made of what the code declares and says of it. A row of
`FORMATS` is a page; those of streams need nothing else, as all is found by the layer."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from typing import NamedTuple

from hvmctx.abi import streams, vmport, x86
from hvmctx.abi.declare import MARKER, VCPU, VMPORT_TYPECODE, RecordType
from hvmctx.abi.fields import Field, Layout
from hvmctx.abi.registry import record_types
from hvmctx.abi.releases import lengths_of
from hvmctx.stream import legacy, libxc, libxl, qemu_devices
from hvmctx.stream.body import BODIES, BodyType, Rows
from hvmctx.stream.grammar import FIRST
from tools import formats_doc
from tools.markdown import table_row

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

FOLDER = "docs/formats"


class Format(NamedTuple):
    """A page: its name, its title, what it is in a line, the modules that read and write it, and
    what else is said, after their docstrings."""

    name: str
    title: str
    line: str
    modules: tuple[str, ...]
    parts: Callable[[], Iterable[str]]


def picture(path: str) -> str:
    """Where the site has a picture of what `module:name` declares (tools/site/)."""
    return f"\n<!-- picture: {path} -->\n"


def stream(name: str, title: str, line: str, *modules: str) -> Format:
    """A format of headers and records, which the grammar knows."""
    return Format(name, title, line, modules, lambda: _stream(name))


def _stream(layer: str) -> Iterator[str]:
    for (of_layer, name), flat in streams.HEADERS.items():
        if of_layer == layer:
            title = "The header" if name == "header" else f"The {name}"
            said = _said(flat.structure)
            if "byte order" not in said:
                said += " Big-endian." if flat.big_endian else " Little-endian."
            yield f"\n## {title}\n\n{said}\n"
            yield picture(f"abi.streams:{_name_of(streams, flat)}")
            yield from _fields(flat.structure, len(streams.MAGICS.get(layer, b"")))
    yield "\n## What may follow what\n\nThe states of a reader, and the headers and records that "
    yield "lead from one to the next.\n\n"
    yield from (f"{line}\n" for line in formats_doc.order([FIRST[layer]]))
    if layer in streams.RECORDS:
        header, align = streams.RECORD_HEADERS[layer], streams.RECORD_ALIGNS[layer]
        padded = f", and zeros up to a multiple of {align}" if align > 1 else ", and no padding"
        yield f"\n## Records\n\nEach has a header of {header.size} bytes, a body{padded}.\n"
        yield picture(f"abi.streams:{header.structure.__name__}")
        yield from _records(layer)


def _records(layer: str) -> Iterator[str]:
    for number, name in streams.RECORDS[layer].items():
        yield f"\n### {name}\n\nType {number:#x}. "
        body = BODIES.get((layer, number))
        if body is None:
            held = layer == streams.XAPI and number not in streams.XAPI_BODILESS
            what = "bytes that are not taken apart" if held else "empty"
            what = formats_doc.SPECIAL.get((layer, name), what)
            yield f"Body: {what}.\n"
            continue
        yield f"{_capital(_said(body.model).partition(': ')[2] or _said(body.model))}\n"
        yield picture(f"{body.model.__module__.removeprefix('hvmctx.')}:{body.model.__name__}")
        head, rest = formats_doc.body(body)
        yield f"\nHead: {head}." + (f" Then {rest}." if rest else "") + "\n"
        yield from _rows(body)


def _rows(body: BodyType) -> Iterator[str]:
    for rest in body.rest:
        if isinstance(rest, Rows):
            flat = rest.row
            where = import_module(flat.structure.__module__)
            path = f"{flat.structure.__module__.removeprefix('hvmctx.')}:{flat.structure.__name__}"
            assert getattr(where, flat.structure.__name__) is flat.structure
            yield f"\nA row of {rest.name}:\n{picture(path)}"


def _name_of(module: object, value: object) -> str:
    return next(name for name, other in vars(module).items() if other is value)


def _said(thing: object) -> str:
    """Its docstring on one line."""
    return " ".join((inspect.getdoc(thing) or "").split())


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _fields(structure: type, base: int = 0) -> Iterator[str]:
    """A table of all fields; those of structures within have dots in their names."""
    rows = list(_walk(structure, base, ""))
    if rows:
        yield "\n| offset | type | field |\n|---|---|---|\n"
        yield from (table_row(f"{at:#x}", kind, f"`{name}`") for at, kind, name in rows)


def _walk(structure: type, base: int, prefix: str) -> Iterator[tuple[int, str, str]]:
    for field in Layout.of(structure).fields:
        if field.alternate:
            continue
        name, at = prefix + field.name, base + field.offset
        if not hasattr(field.element, "_fields_"):
            yield at, _type(field), name
        elif field.count is None:
            yield from _walk(field.element, at, f"{name}.")
        else:
            yield at, f"{field.count} of {field.size // field.count} bytes", name
            yield from _walk(field.element, at, f"{name}[0].")


def _type(field: Field) -> str:
    size = field.size // (field.count or 1)
    if field.is_bits:
        last = field.shift + field.width - 1
        bits = f"bit {last}" if field.width == 1 else f"bits {field.shift} to {last}"
        return f"{bits} of u{8 * size}"
    kind = f"{'s' if field.code.islower() else 'u'}{8 * size}"
    return kind if field.count is None else f"{field.count} of {kind}"


def _context() -> Iterator[str]:
    yield "\n## The descriptor\n\nPrecedes every record, END included. Little-endian, as all "
    yield "of it.\n"
    yield picture("abi.x86:hvm_save_descriptor")
    yield from _fields(x86.hvm_save_descriptor)
    yield "\n## Records\n\nBodies are neither padded nor aligned. A length is followed by the "
    yield "release since which it holds.\n\n"
    yield "| type | record | instance | bytes since |\n|---|---|---|---|\n"
    for kind in record_types():
        anchor = kind.name.lower()
        yield table_row(kind.typecode, f"[{kind.name}](#{anchor})", _instance(kind), _lengths(kind))
    for kind in record_types():
        yield from _record(kind)


def _instance(kind: RecordType) -> str:
    return {MARKER: "0", VCPU: "the vcpu"}.get(kind.scope, "0, of the second PIC 1"
                                                if kind.name == "PIC" else "0")  # fmt: skip


def _lengths(kind: RecordType) -> str:
    found = [f"{size} ({release})" for release, size in lengths_of(kind.name).items()]
    return ", ".join(found) or "in no release"


def _record(kind: RecordType) -> Iterator[str]:
    yield f"\n### {kind.name}\n\n"
    if kind.typecode == VMPORT_TYPECODE:
        yield "VMware's hyper-call state: [VMPORT](vmport.md).\n"
        return
    yield f"Type {kind.typecode}. {_said(kind.struct)}\n"
    if kind.size:
        yield picture(f"abi.x86:{kind.struct.__name__}")
        yield from _fields(kind.struct)
    if kind.rest:
        yield f"\nThen `{kind.rest[0]}`, as many as the length has room for.\n"
        if hasattr(kind.rest[1], "_fields_"):
            yield picture(f"abi.x86:{kind.rest[1].__name__}")
            yield from _fields(kind.rest[1])


def _vmport() -> Iterator[str]:
    yield "\n[VMPORT, save record type 21](../vmport.md) has all that is known of it: where the "
    yield "constants come from, JSON, what the loader does, and what it fails to check.\n"
    for structure in (
        vmport.vmport_head, vmport.vmport_channel_control, vmport.vmport_bucket_control,
    ):  # fmt: skip
        yield f"\n## {structure.__name__}\n\n{_said(structure)}\n"
        yield picture(f"abi.vmport:{structure.__name__}")
        yield from _fields(structure)
    yield "\n## A body\n\n```mermaid\nflowchart TD\n"
    for source, target in (
        ('head["vmport_head"]', 'channels["each channel: vmport_channel_control, then a '
         'vmport_bucket_control for each receive bucket, the jumbo bucket last"]'),
        ("channels", 'buffers["for each channel: its send bytes, the bytes of each bucket"]'),
        ("buffers", 'slots["guestinfo entries: u8 key_len, u8 val_len, key, value"]'),
        ("slots", 'jumbo["jumbo entries: u8 key_len, u16 val_len, key, value"]'),
    ):  # fmt: skip
        yield f"    {source} --> {target}\n"
    yield "```\n"


def _legacy() -> Iterator[str]:
    yield "\n## Chunks\n\nA chunk starts with an s32. A positive one counts the page words of a "
    yield f"long that follow, {legacy.MAX_BATCH} at most; any other says what the chunk is.\n\n"
    yield "| id | chunk |\n|---|---|\n"
    names = {
        **legacy.CHUNKS,
        **{number: f"HVM parameter {streams.param_name(index)}"
           for number, index in legacy.PARAM_CHUNKS.items()},
    }  # fmt: skip
    for number in sorted(names, reverse=True):
        yield table_row(number, names[number])
    yield "\n## The device model's state\n\nIt ends the stream, after one of these: "
    yield ", ".join(f"`{each.decode()}`" for each in legacy.SIGNATURES) + ".\n"
    yield "\n## What a reader gives\n\n| item | what it is |\n|---|---|\n"
    for item in (
        legacy.ExtendedInfo, legacy.Frames, legacy.Batch, libxc.TscInfo, legacy.Param,
        legacy.Toolstack, legacy.VcpuState, legacy.SharedPage, legacy.HvmTail, legacy.DeviceModel,
    ):  # fmt: skip
        yield table_row(f"`{item.__name__}`", _said(item).replace("|", "\\|"))


QEMU_FILE = """
## A file

```mermaid
flowchart TD
    magic["QEVM, u32 version"] --> machine["7, u32 length, the machine type (newer versions)"]
    machine --> section["1 or 4, u32 id, u8 length, name, u32 instance, u32 version, data"]
    section --> footer["0x7e, u32 id (not from Xen's device model)"]
    footer --> end["0; 6, u32 length, a description in JSON (likewise)"]
```

## Sections whose data are known
"""


def _qemu() -> Iterator[str]:
    yield QEMU_FILE
    for (name, version), (model, _) in qemu_devices.DEVICES.items():
        yield f"\n### {name}, version {version}\n\n{_said(model)}\n"


FORMATS = (
    stream("xl", "xl files", "what `xl save` writes", "stream.xlfile"),
    stream("xapi", "XAPI's suspend images", "what XenServer and XCP-ng write", "stream.xapi"),
    stream("libvirt", "libvirt's files", "what `virsh save` writes of a guest of Xen's",
           "stream.libvirt"),
    stream("libxl", "libxl streams", "device models, and a libxc stream", "stream.libxl"),
    stream("libxc", "libxc streams", "a guest's memory, policies, context, parameters",
           "stream.libxc", "stream.pages"),
    Format("context", "HVM contexts", "the state of vcpus and of Xen's devices",
           ("context.hvm_context", "abi.x86", "abi.releases"), _context),
    Format("vmport", "VMPORT records", "VMware's hyper-call state, in a context",
           ("abi.vmport",), _vmport),
    Format("legacy", "Legacy streams", "what Xen 4.5 and older wrote", ("stream.legacy",), _legacy),
    Format("qemu", "QEMU's files", "what a device model saves, in a libxl stream",
           ("stream.qemu", "stream.qemu_devices"), _qemu),
)  # fmt: skip
"""A page each, in the order of the site."""


def page(each: Format) -> str:
    """The page of a format."""
    text = f"# {each.title}\n\n{_capital(each.line)}.\n"
    for name in each.modules:
        module = import_module(f"hvmctx.{name}")
        path = name.replace(".", "/")
        text += f"\n{_linked(inspect.getdoc(module) or '')}\n\n*From `hvmctx/{path}.py`.*\n"
    text += "".join(each.parts())
    return f"{text}\n<!-- made by tools/format_pages.py -->\n"


def _linked(text: str) -> str:
    """A docstring as a page has it: names of pages lead there."""
    return re.sub(r"\bdocs/([\w/]+\.md)", r"[\1](../\1)", text)


INDEX = """\
# Formats

What is saved of a guest comes in layers. Each page is made of what the code declares and says of
that format.

| format | what it is |
|---|---|
{rows}
## What is in what

```mermaid
flowchart TD
    xl["xl file: the configuration, then"] --> libxl["libxl stream: records, and among them"]
    libvirt["libvirt's file: the domain's XML, then"] --> libxl
    xapi["XAPI's suspend image: records, and among them"] --> libxc
    libxl --> libxc["libxc stream: memory, policies, and"]
    libxc --> context["HVM context: records of vcpus and devices"]
    libxl --> qemu["the device model's file"]
```

Each of these is an input of its own, too. [Files around the streams](wrappers.md) says how they are
told apart; [streams](streams.md) has all headers, the order and all records on one page.

<!-- made by tools/format_pages.py -->
"""


def index() -> str:
    """What there is, and what is in what."""
    rows = (table_row(f"[{each.title}]({each.name}.md)", each.line) for each in FORMATS)
    return INDEX.format(rows="".join(rows))


def files() -> dict[str, str]:
    """What `make generate` writes."""
    assert libxl  # which has declared its bodies
    pages = {f"{FOLDER}/{each.name}.md": page(each) for each in FORMATS}
    return {f"{FOLDER}/index.md": index(), **pages}
