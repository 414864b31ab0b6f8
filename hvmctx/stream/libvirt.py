"""The domain's XML in a save file of libvirt's libxl driver (`virsh save`): its values and where
they stand, and what it says in xl's words.

After the header come `xml_len` bytes, the last of which is a NUL; libvirt reads up to the first
NUL. Read with the standard library's expat: no DTD, so no entities, and nothing is fetched.
Source: libvirt at 05dd6741, src/libxl/libxl_domain.c and libxl_conf.c.
"""

from __future__ import annotations

import re

from hvmctx.buffers import utf8
from hvmctx.errors import FormatError
from hvmctx.limits import DEFAULT
from hvmctx.stream.places import LONGEST_PATH, Place
from hvmctx.stream.reader import LIBVIRT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hvmctx.limits import Limits
    from hvmctx.stream.xlfile import Json

__all__ = ["config_of", "places", "text_of", "written", "xml_of", "xml_to_bytes"]

_RECORD = "XML"
_ATTRIBUTE = re.compile(rb"""\s+([^\s=]+)\s*=\s*(?:"([^"]*)"|'([^']*)')""")
_NAME = re.compile(rb"<[^\s/>]+")
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;"}


def text_of(data: bytes | memoryview) -> bytes:
    """The XML that libvirt reads of the data after its header: up to the first NUL."""
    return bytes(data).partition(b"\0")[0]


def xml_to_bytes(text: bytes) -> bytes:
    """The data for a text of XML: a NUL is added where there is none."""
    return text if text.endswith(b"\0") else text + b"\0"


def written(value: str) -> bytes:
    """A value as it stands in the text of an element or an attribute."""
    return utf8("".join(_ESCAPES.get(letter, letter) for letter in value))


class _Element:
    __slots__ = ("children", "content", "path", "text")

    def __init__(self, path: str, content: int) -> None:
        self.path = path
        self.content = content
        """Where its content starts; -1 if it has none, as <this/>."""
        self.text: list[str] = []
        self.children: dict[str, int] = {}


class _Parser:
    """Of one text. `found` are the values of attributes, and of elements without others in them,
    by paths below the root element, whose name is `root`."""

    def __init__(self, text: bytes, limits: Limits) -> None:
        from xml.parsers import expat

        self.root = ""
        self.found: list[Place] = []
        self._text = text
        self._limits = limits
        self._room = limits.rows
        self._open: list[_Element] = []
        self._expat = expat.ParserCreate("UTF-8")
        self._expat.StartDoctypeDeclHandler = self._doctype
        self._expat.StartElementHandler = self._start
        self._expat.EndElementHandler = self._end
        self._expat.CharacterDataHandler = self._characters
        self._expat.buffer_text = True
        try:
            self._expat.Parse(text, True)
        except expat.ExpatError as error:
            words = expat.ErrorString(error.code)
            at = max(0, self._expat.ErrorByteIndex)  # -1 of nothing at all
            raise _wrong("not well-formed", at, words) from None

    def _doctype(self, *_: object) -> None:
        raise _wrong(
            "it declares a document type, which no domain has", self._expat.CurrentByteIndex
        )

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        at = self._expat.CurrentByteIndex
        self._count(1 + len(attributes), at)
        if len(self._open) >= self._limits.json_depth:
            raise self._over("json_depth", "levels of nested elements", at)
        if not self._open:
            self.root, path = name, ""
        else:
            holder = self._open[-1]
            again = holder.children[name] = holder.children.get(name, -1) + 1
            path = f"{holder.path}.{name}".lstrip(".") + (f"[{again}]" if again else "")
            path = holder.path if len(holder.path) > LONGEST_PATH else path
        self._open.append(_Element(path, self._attributes(path, at, attributes)))

    def _attributes(self, path: str, at: int, attributes: dict[str, str]) -> int:
        """Note the attributes of the tag that starts there; where the element's content does."""
        name = _NAME.match(self._text, at)
        end = at if name is None else name.end()
        while found := _ATTRIBUTE.match(self._text, end):
            end = found.end()
            key = found[1].decode("utf-8", "replace")
            quoted = found.span(2 if found[2] is not None else 3)
            if key in attributes and len(path) + len(key) < LONGEST_PATH:
                self.found.append(Place(f"{path}@{key}", attributes[key], *quoted))
        close = self._text.find(b">", end)
        return -1 if self._text[end:close].strip() == b"/" else close + 1

    def _end(self, _: str) -> None:
        element = self._open.pop()
        if element.content >= 0 and not element.children and 0 < len(element.path) < LONGEST_PATH:
            text, end = "".join(element.text), self._expat.CurrentByteIndex
            self.found.append(Place(element.path, text, element.content, end))

    def _characters(self, text: str) -> None:
        element = self._open[-1]
        if not element.children:
            element.text.append(text)

    def _count(self, more: int, at: int) -> None:
        self._room -= more
        if self._room < 0:
            raise self._over("rows", "elements and attributes", at)

    def _over(self, name: str, what: str, at: int) -> FormatError:
        return self._limits.over(name, what, layer=LIBVIRT, offset=at, record=_RECORD)


def _wrong(problem: str, offset: int, found: str = "", expected: str = "") -> FormatError:
    return FormatError(
        f"the domain's XML: {problem}", layer=LIBVIRT, offset=offset, record=_RECORD, found=found,
        expected=expected,
    )  # fmt: skip


def places(text: bytes, limits: Limits = DEFAULT) -> list[Place]:
    """The values in the XML of a domain, by their paths: vcpu, vcpu@placement,
    devices.disk[1].target@dev; @type is an attribute of <domain> itself.

    Raises FormatError for what is no XML, or that of something else, with an offset from the
    start of the text; LimitError.

    >>> places(b"<domain type='xen'><name>web</name></domain>")
    [<@type at 0x14>, <name at 0x19>]
    """
    parser = _Parser(text, limits)
    if parser.root != "domain":
        raise _wrong("not that of a domain", 0, f"<{parser.root[:40]}>", "<domain>")
    return parser.found


_TYPES = {"hvm": "hvm", "xenpvh": "pvh", "xen": "pv", "linux": "pv"}
_UNITS = {
    "b": 1, "bytes": 1, "KB": 10**3, "k": 1 << 10, "KiB": 1 << 10, "MB": 10**6, "M": 1 << 20,
    "MiB": 1 << 20, "GB": 10**9, "G": 1 << 30, "GiB": 1 << 30, "TB": 10**12, "T": 1 << 40,
    "TiB": 1 << 40,
}  # fmt: skip


def config_of(found: list[Place]) -> dict[str, Json]:
    """What the XML says (`places`), in the words of xl's configuration, as far as anybody asks:
    the guest's name, uuid, type, vcpus, memory in KiB."""
    said = {place.path: place.value.strip() for place in found}
    most = _count(said.get("vcpu"))
    online = _count(said.get("vcpu@current", said.get("vcpu")))
    created: dict[str, Json] = {
        "type": _TYPES.get(said.get("os.type", "")), "name": said.get("name"),
        "uuid": said.get("uuid"),
    }  # fmt: skip
    if said.get("features.hap@state") == "off":
        created["hap"] = False
    memory = _kib(said, "memory")
    target = _kib(said, "currentMemory")
    built: dict[str, Json] = {
        "max_vcpus": most,
        "avail_vcpus": None if online is None else list(range(min(online, _MOST_VCPUS))),
        "max_memkb": memory,
        "target_memkb": memory if target is None else target,
    }
    return {"c_info": created, "b_info": built}


_MOST_VCPUS = 4096


def _count(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 20 else None


def _kib(said: dict[str, str], name: str) -> int | None:
    count, unit = _count(said.get(name)), _UNITS.get(said.get(f"{name}@unit", "KiB"))
    return None if count is None or unit is None else count * unit >> 10


def xml_of(config: Json) -> bytes:
    """The least that libvirt takes for a domain, out of what a configuration in xl's words says:
    without any device."""
    both = [
        part if isinstance(config, dict) and isinstance(part := config.get(name), dict) else {}
        for name in ("c_info", "b_info")
    ]
    said = {key: value for part in both for key, value in part.items()}
    kinds = {kind: name for name, kind in reversed(_TYPES.items())}
    name = said.get("name")
    uuid = said.get("uuid")
    uuid = f"  <uuid>{written(uuid).decode()}</uuid>\n" if isinstance(uuid, str) else ""
    numbers = {
        key: value if isinstance(value := said.get(key), int) else None
        for key in ("max_memkb", "target_memkb", "max_vcpus")
    }
    memory = numbers["max_memkb"] or 0
    kind = kinds.get(str(said.get("type")), "hvm")
    return (
        "<domain type='xen'>\n"
        f"  <name>{written(name if isinstance(name, str) else 'restored').decode()}</name>\n"
        f"{uuid}"
        f"  <memory unit='KiB'>{memory}</memory>\n"
        f"  <currentMemory unit='KiB'>{numbers['target_memkb'] or memory}</currentMemory>\n"
        f"  <vcpu>{numbers['max_vcpus'] or 1}</vcpu>\n"
        "  <os>\n"
        f"    <type>{kind}</type>\n"
        "  </os>\n"
        "</domain>\n"
    ).encode()
