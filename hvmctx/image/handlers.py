"""Where a record type meets its decoder.

Record types of Xen's own have a model each: the class that declares the body (`stream.body`),
and `HvmContext`. A handler is a callable that takes a record's body (bytes or a view) and
returns what it means, or raises a FormatError whose offset counts from the start of the body.
`register` adds one, for a type that has no model or in the model's place; other packages add
theirs through the entry point group `hvmctx.handlers`: the entry point's name is `layer:type`,
such as `libxc:0x20`.

`decode` asks whoever registered first; `parse` is for what hvmctx itself works with, and
always gives a model.
"""

from __future__ import annotations

import importlib
from functools import partial

from hvmctx.abi import streams
from hvmctx.errors import FormatError, HvmctxError, UsageError
from hvmctx.limits import DEFAULT
from hvmctx.stream.reader import LIBXC, LIBXL, StreamRecord

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.metadata import EntryPoint
    from typing import Any, TypeAlias, TypeVar

    from hvmctx.context.hvm_context import HvmContext
    from hvmctx.limits import Limits
    from hvmctx.stream.body import Body, BodyType

    Handler: TypeAlias = Callable[[Any], Any]
    Model: TypeAlias = Body | HvmContext
    AnyBody = TypeVar("AnyBody", bound=Body)

__all__ = [
    "ENTRY_POINT_GROUP", "announced", "body_type", "decode", "find", "is_read", "model_of",
    "parse", "parse_as", "register",
]  # fmt: skip

ENTRY_POINT_GROUP = "hvmctx.handlers"

_DECLARED = {LIBXC: "hvmctx.stream.libxc", LIBXL: "hvmctx.stream.libxl"}
"""The modules that declare bodies. Named, not imported: a dump imports none of them."""
_CONTEXT = (LIBXC, streams.LIBXC_HVM_CONTEXT)
_handlers: dict[tuple[str, int], Handler] = {}
_announced: dict[tuple[str, int], EntryPoint] | None = None
"""Entry points by what they are for; None until somebody asks."""


def body_type(layer: str, number: int) -> BodyType | None:
    """The declaration of the bodies of a record type; None where there is none, and for the
    HVM context, which consists of records of its own."""
    if layer in _DECLARED:
        importlib.import_module(_DECLARED[layer])
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


def register(layer: str, number: int, handler: Handler) -> None:
    """Decode records of this layer and type with `handler` from now on."""
    _handlers[layer, number] = handler


def find(layer: str, number: int) -> Handler | None:
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
    entry point that is not named `layer:type`."""
    global _announced  # noqa: PLW0603 - looked up once
    if _announced is None:
        from importlib.metadata import entry_points

        _announced = {}
        for entry in entry_points(group=ENTRY_POINT_GROUP):
            layer, _, number = entry.name.partition(":")
            try:
                _announced[layer, int(number, 0)] = entry
            except ValueError:
                import warnings

                warnings.warn(f"handler {_named(entry)} is not named layer:type", stacklevel=2)
    return _announced


def _load(entry: EntryPoint) -> Handler:
    try:
        handler = entry.load()
    except Exception as error:  # whatever another package's import raises
        raise UsageError(f"handler {_named(entry)}: {type(error).__name__}: {error}") from error
    if not callable(handler):
        raise UsageError(f"handler {_named(entry)}: {handler!r} cannot be called")
    found: Handler = handler
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


def _call(handler: Handler, record: StreamRecord, body: bytes | memoryview) -> Any:
    try:
        return handler(body)
    except FormatError as error:
        error.record = error.record or record.name
        raise error.moved(record.body_offset) from None
    except (HvmctxError, MemoryError):
        raise
    except Exception as error:  # a third party's handler: whatever it raises is about the body
        raise FormatError(
            f"its handler failed ({type(error).__name__}: {error})",
            layer=record.layer,
            offset=record.body_offset,
            record=record.name,
        ) from error
