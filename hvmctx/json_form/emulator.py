"""What a device model saved, in JSON: in hex, or as what it is (`image.handlers.content_of`).

    {"context": {...}}      an HVM context, or a VMPORT record alone, as in a document
    {"qemu": {...}}         QEMU's file: its sections, `vmmouse` and `vmport_rpc` by their fields
    {"decoded": ...}        what the handler of another package, for the emulator's id, makes of it

Whatever does not give the very bytes back is written in hex.
"""

from __future__ import annotations

from typing import Any

from hvmctx.abi import checked
from hvmctx.abi.checked import Disagreement
from hvmctx.abi.forms import Count, Form, Hex, Members, Number, Text
from hvmctx.context.hvm_context import HvmContext
from hvmctx.errors import FieldError
from hvmctx.image import handlers
from hvmctx.json_form.decoded import body_of
from hvmctx.json_form.models import ContextModel
from hvmctx.stream.body import BodyType
from hvmctx.stream.qemu import DeviceModelState, Section
from hvmctx.stream.qemu_devices import DEVICES, device_of

__all__ = ["EmulatorForm", "qemu_from_plain", "qemu_to_plain"]

_HEX = Hex()


class _Data(Form):
    """Of a section: in hex, or the fields of a device."""

    __slots__ = ()

    def read(self, plain: Any, where: str) -> Any:
        return _HEX.read(plain, where) if isinstance(plain, str) else plain

    def schema(self) -> checked.Plain:
        return {"anyOf": [_HEX.schema(), *(form.schema() for _, form in DEVICES.values())]}


class _Flag(Form):
    __slots__ = ()

    def read(self, plain: Any, where: str) -> bool:
        if not isinstance(plain, bool):
            raise checked.wrong(plain, where, "true or false")
        return plain

    def schema(self) -> checked.Plain:
        return {"type": "boolean"}


_SECTION = Members(
    {
        "name": Text(), "instance": Number(32), "version": Number(32), "section_id": Number(32),
        "kind": Count(8), "footer": _Flag(), "data": _Data(),
    },
    ("name", "instance", "version", "section_id", "data"),
)  # fmt: skip
_SECTIONS = "sections"


class _Sections(Form):
    """A list of them."""

    __slots__ = ()

    def read(self, plain: Any, where: str) -> list[Section]:
        entries = checked.as_list(plain, where)
        return [_section(entry, f"{where}[{at}]") for at, entry in enumerate(entries)]

    def write(self, value: list[Section]) -> list[checked.Plain]:
        return [_section_to_plain(each) for each in value]

    def schema(self) -> checked.Plain:
        return {"type": "array", "items": _SECTION.schema()}


_QEMU = Members({"start": _HEX, _SECTIONS: _Sections(), "end": _HEX}, ("start", _SECTIONS))


def _section_to_plain(section: Section) -> checked.Plain:
    device = device_of(section)
    plain: checked.Plain = {
        "name": section.name, "instance": section.instance, "version": section.version,
        "section_id": section.section_id,
    }  # fmt: skip
    if section.kind != _WHOLE:
        plain["kind"] = section.kind
    if section.footer:
        plain["footer"] = True
    form = None if device is None else DEVICES[section.name, section.version][1]
    plain["data"] = _HEX.write(section.data) if form is None else form.write(device)
    return plain


_WHOLE = 4


def _section(plain: Any, where: str) -> Section:
    given = _SECTION.read(plain, where)
    data = given.pop("data")
    if not isinstance(data, bytes):
        known = DEVICES.get((given["name"], given["version"]))
        if known is None:
            raise Disagreement(f"{where}.data: expected hex, as the section has no fields")
        try:
            data = known[1].read(data, f"{where}.data").to_bytes()
        except FieldError as error:
            raise Disagreement(str(error)) from None
    name = given["name"]
    if not 0 < len(name) < 256 or not name.isascii():
        raise Disagreement(f"{where}.name: found {checked.shown(name)}, expected 1 to 255 letters")
    return Section(offset=0, data=data, **given)


def qemu_to_plain(state: DeviceModelState) -> checked.Plain:
    """All of QEMU's file: `start` and `end` are the bytes around its sections."""
    plain = {"start": _HEX.write(state.start), _SECTIONS: _Sections().write(state.sections)}
    return {**plain, "end": _HEX.write(state.end)} if state.end else plain


def qemu_from_plain(plain: Any, where: str) -> bytes:
    """The inverse. Raises FieldError."""
    return DeviceModelState(0, **_QEMU.read(plain, where)).to_bytes()


class _Payload(Form):
    """Of any emulator; what is `decoded` is another package's, and read elsewhere."""

    __slots__ = ()

    def read(self, plain: Any, where: str) -> Any:
        if isinstance(plain, str):
            return _HEX.read(plain, where)
        given = checked.as_object(plain, where)
        if len(given) != 1:
            raise checked.wrong(plain, where, "one of context, qemu, decoded")
        ((kind, value),) = given.items()
        if kind == "context":
            return ContextModel.FORM.read(value, f"{where}.context").to_context().to_bytes()
        if kind == "qemu":
            return qemu_from_plain(value, f"{where}.qemu")
        if kind == "decoded":
            return given
        raise checked.unknown(kind, ("context", "qemu", "decoded"), where)

    def schema(self) -> checked.Plain:
        kinds: dict[str, checked.Plain] = {
            "context": ContextModel.FORM.schema(), "qemu": _QEMU.schema(), "decoded": {},
        }  # fmt: skip
        objects = [
            {
                "type": "object", "properties": {name: schema}, "required": [name],
                "additionalProperties": False,
            }
            for name, schema in kinds.items()
        ]  # fmt: skip
        return {"anyOf": [_HEX.schema(), *objects]}


class EmulatorForm(Members):
    """The payload of a record that holds a device model's file, by the members of its body."""

    __slots__ = ()

    def __init__(self, known: BodyType, members: dict[str, Form]) -> None:
        members = {**members, "payload": _Payload()}
        super().__init__(members, known.fields)

    def write(self, value: Any) -> checked.Plain:
        payload = bytes(value["payload"])
        plain = _plain_of(value.get("emulator_id", _IN_XAPI), payload)
        return {**value, "payload": _HEX.write(payload) if plain is None else plain}

    def read(self, plain: Any, where: str) -> checked.Plain:
        made = super().read(plain, where)
        payload = made["payload"]
        if isinstance(payload, dict):
            if "emulator_id" not in made:
                raise Disagreement("payload: expected hex, as XAPI's device models have no ids")
            made["payload"] = body_of(handlers.EMULATOR, made["emulator_id"], payload["decoded"])
        return made


_IN_XAPI = -1
"""In place of an id, which no handler has: XAPI's records have none."""


def _plain_of(emulator_id: int, payload: bytes) -> checked.Plain | None:
    content = handlers.content_of(emulator_id, payload)
    if isinstance(content, HvmContext):
        return {"context": ContextModel.of(content).to_dict()}
    if isinstance(content, DeviceModelState):
        return {"qemu": qemu_to_plain(content)}
    plain = None if content is None else content.plain(payload)
    return None if plain is None else {"decoded": plain}
