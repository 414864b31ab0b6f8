"""Paths into what hvmctx takes apart by its content or by another package's handler: the device
model's file, and records that hvmctx itself does not know.

    EMULATOR_CONTEXT.CPU/0.rip                        an HVM context inside, or a VMPORT record:
    EMULATOR_CONTEXT.VMPORT.guestinfo["guestinfo.ip"] the path that it has in a context
    EMULATOR_CONTEXT.vmmouse.status                   a field of a section of QEMU's file; all of
                                                      a section is in `edit.device_model`
    EMULATOR_CONTEXT.name                             what a handler of the emulator makes of it
    libxc:0x20/1.name, context:99.list[2]             the same of a record, as LAYER:TYPE/INSTANCE

The last three are places in the JSON of `to-json`: numbers and text, or bytes as text in hex. A
value in text is read as JSON where there was a number, and is taken as it is elsewhere.
"""

from __future__ import annotations

from hvmctx.edit.device_model import fields_of, section_of
from hvmctx.edit.paths import json_of, steps_of
from hvmctx.errors import UsageError
from hvmctx.image import handlers
from hvmctx.stream.qemu import DeviceModelState, Section

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Value = int | bytes | str
    Content = DeviceModelState | handlers.Guarded | None

__all__ = ["get_content", "get_decoded", "set_content", "set_decoded"]


def get_content(content: Content, payload: bytes, path: str) -> int | bytes | str:
    """What a path names in a device model's file that is no HVM context. Raises UsageError."""
    if isinstance(content, DeviceModelState):
        _, plain, inner = _device(content, path)
        return _value(plain, inner, path)
    return _value(_decoded(content, payload, path), path, path)


def set_content(content: Content, payload: bytes, path: str, value: Value) -> bytes:
    """The file with that value there. Raises UsageError, and FieldError for what does not fit."""
    if isinstance(content, DeviceModelState):
        from hvmctx.stream.qemu_devices import DEVICES

        section, plain, inner = _device(content, path)
        _put(plain, inner, value, path)
        form = DEVICES[section.name, section.version][1]
        section.data = form.read(plain, path).to_bytes()
        return content.to_bytes()
    return _with(content, payload, path, value)


def get_decoded(layer: str, number: int, body: bytes, path: str) -> int | bytes | str:
    """What a path names in the body of a record that a handler takes apart."""
    return _value(_decoded(handlers.handler_of(layer, number), body, path), path, path)


def set_decoded(layer: str, number: int, body: bytes, path: str, value: Value) -> bytes:
    """The body with that value there. Raises UsageError and FieldError."""
    return _with(handlers.handler_of(layer, number), body, path, value)


def _with(handler: handlers.Guarded | None, body: bytes, path: str, value: Value) -> bytes:
    plain = _decoded(handler, body, path)
    _put(plain, path, value, path)
    assert handler is not None  # or there would be nothing decoded
    return handler.body(plain)


def _device(state: DeviceModelState, path: str) -> tuple[Section, Any, str]:
    """The section that a path starts with, its fields, and the rest of the path."""
    section, rest = section_of(state, path)
    plain = fields_of(section)
    if plain is None:
        raise UsageError(f"{path}: this section of the device model's file has no known fields")
    return section, plain, rest.removeprefix(".")


def _decoded(handler: handlers.Guarded | None, body: bytes, path: str) -> Any:
    plain = None if handler is None else handler.plain(body)
    if plain is None:
        raise UsageError(f"{path}: no handler gives these bytes fields, and takes them back")
    return plain


def _place(plain: Any, path: str, whole: str) -> tuple[Any, Any]:
    """The object or list that holds what a path names, and its key there."""
    parts = steps_of(f".{path}" if path else "", whole)
    if not parts:
        raise UsageError(f"{whole}: expected a field")
    try:
        for part in parts[:-1]:
            plain = plain[part]
        plain[parts[-1]]
    except (KeyError, IndexError, TypeError):
        raise UsageError(f"{whole}: no such field") from None
    return plain, parts[-1]


def _value(plain: Any, path: str, whole: str) -> int | bytes | str:
    holder, key = _place(plain, path, whole)
    value = holder[key]
    if not isinstance(value, (int, str)):
        raise UsageError(f"{whole}: it is not a single value")
    return value


def _put(plain: Any, path: str, value: Any, whole: str) -> None:
    holder, key = _place(plain, path, whole)
    if isinstance(value, bytes):
        value = value.hex()
    elif isinstance(value, str):
        value = json_of(value, holder[key], whole)
    holder[key] = value
