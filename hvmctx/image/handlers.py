"""Where a record type meets its decoder.

Record types of Xen's own have a model each: the class that declares the body (`stream.body`),
and `HvmContext`. Other packages add handlers, through the entry point group `hvmctx.handlers` or
`register`, each for a layer and a type: `libxc:0x20`, `libxl:5`, `context:99` for a save
record's typecode, and `emulator:7` for the payloads that the device model of that id saved.

A handler is a `Handler`, which works both ways (decode, encode, text, JSON, rules), or any
callable that takes a body (bytes or a view) and returns what it means. It may raise a
FormatError whose offset counts from the start of the body. docs/handlers.md has an example.

`decode` asks whoever registered first; `parse` is for what hvmctx itself works with, and
always gives a model. `handler_of` and `content_of` are what the commands ask: they look for
other packages only where hvmctx itself knows nothing of the bytes.
"""

from __future__ import annotations

from functools import partial

from hvmctx.abi import streams
from hvmctx.abi.declare import VMPORT_TYPECODE
from hvmctx.errors import FormatError, HvmctxError, UsageError
from hvmctx.limits import DEFAULT
from hvmctx.messages import warn
from hvmctx.stream.reader import CONTEXT, LIBXC, LIBXL, XAPI, StreamRecord

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from importlib.metadata import EntryPoint
    from typing import Any, TypeAlias, TypeVar

    from hvmctx.context.hvm_context import HvmContext
    from hvmctx.limits import Limits
    from hvmctx.stream.body import Body, BodyType
    from hvmctx.stream.qemu import DeviceModelState

    Decoder: TypeAlias = Callable[[Any], Any]
    Model: TypeAlias = Body | HvmContext
    AnyBody = TypeVar("AnyBody", bound=Body)

__all__ = [
    "EMULATOR", "ENTRY_POINT_GROUP", "Guarded", "Handler", "announced", "body_type", "content_of",
    "decode", "find", "handler_of", "is_read", "model_of", "parse",
    "parse_as", "register",
]  # fmt: skip

ENTRY_POINT_GROUP = "hvmctx.handlers"
EMULATOR = "emulator"
"""The layer of handlers for what a device model saved, by its id."""
_LAYERS = (LIBXC, LIBXL, XAPI, CONTEXT, EMULATOR)

_DECLARED = {
    LIBXC: "hvmctx.stream.libxc", LIBXL: "hvmctx.stream.libxl", XAPI: "hvmctx.stream.xapi",
}  # fmt: skip
"""The modules that declare bodies. Named, not imported: a dump imports none of them."""
_CONTEXT = (LIBXC, streams.LIBXC_HVM_CONTEXT)
_handlers: dict[tuple[str, int], Decoder] = {}
_announced: dict[tuple[str, int], EntryPoint] | None = None
"""Entry points by what they are for; None until somebody asks."""


class Handler:
    """What another package knows of a kind of bodies. `decode` and what is used of the rest are
    to be written; a class of which an object can be made without arguments does as well.

    `encode` is the inverse of `decode`. With it, and with `to_json` and `from_json`, which stand
    for the value in JSON's objects, lists, texts and numbers, `to-json` shows the value, and
    `set` changes it. `text` has lines for people. `check` has what is wrong with a value: the
    severity (`findings.ERROR` and so on), the rule, and words.
    """

    def decode(self, body: bytes | memoryview) -> Any:
        """What a body means. May raise FormatError; offsets count from the body's start."""
        raise NotImplementedError

    def encode(self, value: Any) -> bytes:
        """The body of what `decode` has returned."""
        raise NotImplementedError

    def to_json(self, value: Any) -> Any:
        """The same value in what JSON has."""
        raise NotImplementedError

    def from_json(self, plain: Any) -> Any:
        """The inverse."""
        raise NotImplementedError

    def text(self, value: Any) -> str:
        """Lines for people; by default the value's `repr`."""
        try:
            return repr(value)
        except Exception as error:  # another package's class
            return f"{type(value).__name__}, which cannot be shown ({type(error).__name__})"

    def check(self, value: Any) -> Iterable[tuple[str, str, str]]:
        """(severity, rule, words) of everything that is wrong."""
        return ()

    def __call__(self, body: bytes | memoryview) -> Any:
        return self.decode(body)


class _OneWay(Handler):
    """A callable that only decodes."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    def decode(self, body: bytes | memoryview) -> Any:
        return self._decoder(body)


class Guarded:
    """A handler as the commands use it, from bodies and to bodies: whatever another package's
    code raises becomes a FormatError at the start of the body."""

    def __init__(self, handler: Handler, name: str) -> None:
        self._handler = handler
        self._name = name

    def decoded(self, body: bytes | memoryview) -> Any:
        return self._call(self._handler.decode, body)

    def plain(self, body: bytes | memoryview) -> Any:
        """The JSON of a body. None where there is none, or it does not give the body back."""
        try:
            plain = self._handler.to_json(self._handler.decode(body))
            return plain if self._handler.encode(self._handler.from_json(plain)) == body else None
        except MemoryError:  # which says nothing of the body
            raise
        except Exception:  # whatever another package raises: it is kept as bytes
            return None

    def body(self, plain: Any) -> bytes:
        """The inverse. Raises FormatError."""
        made = self._call(lambda value: self._handler.encode(self._handler.from_json(value)), plain)
        if not isinstance(made, bytes):
            raise FormatError(
                f"its handler made {type(made).__name__}, not bytes", layer="", offset=0,
                record=self._name,
            )  # fmt: skip
        return made

    def text(self, body: bytes | memoryview) -> str:
        return str(self._call(lambda data: self._handler.text(self._handler.decode(data)), body))

    def findings(self, body: bytes | memoryview) -> list[tuple[str, str, str]]:
        def check(data: bytes | memoryview) -> list[tuple[str, str, str]]:
            return [
                (str(severity), str(rule), str(text))
                for severity, rule, text in self._handler.check(self._handler.decode(data))
            ]

        found: list[tuple[str, str, str]] = self._call(check, body)
        return found

    def _call(self, function: Callable[[Any], Any], given: Any) -> Any:
        try:
            return function(given)
        except (HvmctxError, MemoryError):
            raise
        except Exception as error:
            raise _failed(error, "", 0, self._name) from error


def handler_of(layer: str, number: int) -> Guarded | None:
    """The handler that is registered for a type that hvmctx itself does not know, or else
    the one that an installed package announces. Raises UsageError as `find`."""
    handler = find(layer, number)
    if handler is None:
        return None
    two_way = handler if isinstance(handler, Handler) else _OneWay(handler)
    return Guarded(two_way, f"{layer}:{number:#x}")


def content_of(
    emulator_id: int, payload: bytes | memoryview, limits: Limits = DEFAULT
) -> DeviceModelState | HvmContext | Guarded | None:
    """What the payload of an EMULATOR_CONTEXT is: whatever is registered for the device model's
    id; by its content QEMU's file, or an HVM context (a VMPORT record alone is one, too); or
    what an installed package announces for the id. None for bytes that nobody knows. Raises
    LimitError."""
    if (EMULATOR, emulator_id) in _handlers:
        return handler_of(EMULATOR, emulator_id)
    from hvmctx.stream import qemu

    state = qemu.recognise(payload, limits)
    if state is not None:
        return state
    if _starts_a_context(payload):
        from hvmctx.context.hvm_context import HvmContext

        return HvmContext.from_bytes(bytes(payload), damaged=True, limits=limits)
    return handler_of(EMULATOR, emulator_id)


def _starts_a_context(payload: bytes | memoryview) -> bool:
    """Whether its first record is that of a context, or a VMPORT record."""
    from hvmctx.abi.x86 import DESCRIPTOR, HEADER

    if len(payload) < DESCRIPTOR.size:
        return False
    typecode, instance, length = DESCRIPTOR.unpack_from(payload)
    if typecode == VMPORT_TYPECODE:
        return bool(instance == 0 and DESCRIPTOR.size + length <= len(payload))
    return (typecode, instance, length) == (HEADER.typecode, 0, HEADER.size)


def body_type(layer: str, number: int) -> BodyType | None:
    """The declaration of the bodies of a record type; None where there is none, and for the
    HVM context, which consists of records of its own."""
    if layer in _DECLARED:
        __import__(_DECLARED[layer])
    from hvmctx.stream.body import BODIES

    return BODIES.get((layer, number))


def model_of(layer: str, number: int) -> type[Model] | None:
    """The class that models the bodies of a record type, None where there is none."""
    if (layer, number) == _CONTEXT:
        from hvmctx.context.hvm_context import HvmContext

        return HvmContext
    body = body_type(layer, number)
    return None if body is None else body.model


def _reader_of(layer: str, number: int, limits: Limits = DEFAULT) -> Callable[[Any], Model] | None:
    """What makes a model of a body. A damaged context is one, too."""
    if (layer, number) == _CONTEXT:
        from hvmctx.context.hvm_context import HvmContext

        return partial(HvmContext.from_bytes, damaged=True, limits=limits)
    body = body_type(layer, number)
    return None if body is None else partial(body.model.from_bytes, limits=limits)


def register(layer: str, number: int, handler: Decoder) -> None:
    """Decode records of this layer and type with `handler` from now on."""
    _handlers[layer, number] = handler


def find(layer: str, number: int) -> Decoder | None:
    """The handler of a record type: the one registered, else what an installed package
    announces, else its model's `from_bytes`. Raises UsageError for an entry point that cannot
    be loaded."""
    key = layer, number
    if key not in _handlers:
        entry = announced().get(key)
        if entry is None:
            return _reader_of(layer, number)
        register(layer, number, _load(entry))
    return _handlers[key]


def is_read(layer: str, number: int) -> bool:
    """Whether somebody may ask for the bodies of a record type: not of one that neither a
    specification has nor a handler."""
    key = layer, number
    return number in streams.RECORDS[layer] or key in _handlers or key in announced()


def announced() -> dict[tuple[str, int], EntryPoint]:
    """What installed packages have handlers for; none of them is imported yet. Warns of an
    entry point that is not named `layer:type`, or that names no layer."""
    global _announced  # noqa: PLW0603 - looked up once
    if _announced is None:
        from importlib.metadata import entry_points

        _announced = {}
        for entry in entry_points(group=ENTRY_POINT_GROUP):
            layer, _, number = entry.name.partition(":")
            try:
                key = layer, int(number, 0)
            except ValueError:
                warn(f"handler {_named(entry)} is not named layer:type")
                continue
            if layer not in _LAYERS:
                known = ", ".join(_LAYERS)
                warn(f"handler {_named(entry)}: unknown layer {layer!r}, expected {known}")
            _announced[key] = entry
    return _announced


def _load(entry: EntryPoint) -> Decoder:
    try:
        handler = entry.load()
    except Exception as error:  # whatever another package's import raises
        raise UsageError(f"handler {_named(entry)}: {type(error).__name__}: {error}") from error
    if isinstance(handler, type) and issubclass(handler, Handler):
        handler = handler()
    if not callable(handler):
        raise UsageError(f"handler {_named(entry)}: {handler!r} cannot be called")
    found: Decoder = handler
    return found


def _named(entry: EntryPoint) -> str:
    return f"entry point {entry.name!r} ({entry.value})"


def decode(record: StreamRecord, body: bytes | memoryview) -> Any:
    """What the body of `record` means; the body itself where no handler knows. A
    FormatError's offset is given from the start of the image, like the record's own."""
    handler = find(record.layer, record.type)
    return body if handler is None else _call(handler, record, body)


def parse(record: StreamRecord, body: bytes | memoryview, limits: Limits = DEFAULT) -> Any:
    """The body of `record`, of a type that has a model, as that: `to_bytes` gives it back,
    and no registered handler has a say. Errors as `decode`."""
    reader = _reader_of(record.layer, record.type, limits)
    assert reader is not None, f"{record.name} has no model"
    return _call(reader, record, body)


def parse_as(
    kind: type[AnyBody],
    record: StreamRecord,
    body: bytes | memoryview,
    limits: Limits = DEFAULT,
) -> AnyBody:
    """The same for a type whose bodies are known to be of `kind`."""
    parsed: AnyBody = _call(partial(kind.from_bytes, limits=limits), record, body)
    return parsed


def _call(handler: Decoder, record: StreamRecord, body: bytes | memoryview) -> Any:
    try:
        return handler(body)
    except FormatError as error:
        error.record = error.record or record.name
        raise error.moved(record.body_offset) from None
    except (HvmctxError, MemoryError):
        raise
    except Exception as error:  # a third party's handler: whatever it raises is about the body
        raise _failed(error, record.layer, record.body_offset, record.name) from error


def _failed(error: Exception, layer: str, offset: int, record: str) -> FormatError:
    problem = f"its handler failed ({type(error).__name__}: {error})"
    return FormatError(problem, layer=layer, offset=offset, record=record)
