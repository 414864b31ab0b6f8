"""Paths into what describes the guest in XAPI's and libvirt's wrappers, a text each:

    XML.name, XML.vcpu@placement      an element of the domain's XML, an attribute of one
    XML.devices.disk[1].target@dev    of the second of its kind; XML.@type is of <domain> itself
    XENOPS.time, XENOPS.word_size     a field of XAPI's Xenops record
    XENOPS.vm.name                    a value of the guest's description in it (`vm_str`)
    XENOPS.vm.ty[1].hap               the second part of a list; what has a key has its name

Values are text. A changed one takes the place of the other; the rest of the text stays as it was.
"""

from __future__ import annotations

from hvmctx.edit import payloads
from hvmctx.errors import FieldError
from hvmctx.stream import libvirt, sexp
from hvmctx.stream.places import place_of, replaced

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hvmctx.limits import Limits
    from hvmctx.stream.places import Place

__all__ = ["TEXTS", "get_described", "set_described", "span_of", "values_of"]

TEXTS = {"XML": payloads.XML, "XENOPS": "record:XENOPS"}
"""The first word of such a path -> the payload that is the text."""
_VM, _VM_TEXT = "vm.", "vm_str"


def get_described(name: str, text: bytes, path: str, limits: Limits) -> str:
    """The value in one of the `TEXTS`. Raises UsageError, FormatError, LimitError."""
    if name == "XENOPS" and path.startswith(_VM):
        text, path = _vm(text, limits)[0], path.removeprefix(_VM)
    return place_of(_places(name, text, limits), path, f"{name}.{path}").value


def span_of(name: str, text: bytes, path: str, limits: Limits) -> tuple[int, int]:
    """Where in the text the value starts and ends, with quotes; one of XENOPS.vm stands in quotes
    itself: of that it is the whole description. Raises as `get_described` does."""
    if name == "XENOPS" and path.startswith(_VM):
        get_described(name, text, path, limits)  # it must be there
        path = _VM_TEXT
    place = place_of(_places(name, text, limits), path, f"{name}.{path}")
    return place.start, place.end


def set_described(name: str, text: bytes, path: str, value: str, limits: Limits) -> bytes:
    """The text with that value. Raises as `get_described` does, and FieldError for a value that
    cannot stand there."""
    if name == "XENOPS" and path.startswith(_VM):
        vm, place = _vm(text, limits)
        vm = set_described(name, vm, path.removeprefix(_VM), value, limits)
        return text[: place.start] + sexp.written(vm) + text[place.end :]
    if name == "XML" and any(letter < " " and letter not in "\t\n\r" for letter in value):
        raise FieldError(f"{name}.{path}: XML has no control characters")
    place = place_of(_places(name, text, limits), path, f"{name}.{path}")
    return replaced(text, place, value, libvirt.written if name == "XML" else _atom)


def values_of(name: str, text: bytes, limits: Limits) -> dict[str, str]:
    """All of them by their paths. Raises as `get_described` does."""
    if not text:
        return {}
    if name == "XML":
        text = libvirt.text_of(text)
    found = {f"{name}.{place.path}": place.value for place in _places(name, text, limits)}
    vm = found.pop(f"XENOPS.{_VM_TEXT}", None)
    if vm is not None:
        inner = _places(name, vm.encode("utf-8", "surrogateescape"), limits)
        found |= {f"XENOPS.{_VM}{place.path}": place.value for place in inner}
    return found


def _atom(value: str) -> bytes:
    return sexp.written(value.encode("utf-8", "surrogateescape"))


def _places(name: str, text: bytes, limits: Limits) -> list[Place]:
    if name == "XML":
        return libvirt.places(text, limits)
    return sexp.places(sexp.parse(text, limits))


def _vm(text: bytes, limits: Limits) -> tuple[bytes, Place]:
    """The guest's description, and where the atom that holds it stands."""
    place = place_of(_places("XENOPS", text, limits), _VM_TEXT, f"XENOPS.{_VM_TEXT}")
    return place.value.encode("utf-8", "surrogateescape"), place
