"""Bodies that hvmctx itself does not know, as the handlers of other packages write and read them
in JSON: the members that are called `decoded`."""

from __future__ import annotations

from typing import Any

from hvmctx.abi.checked import Disagreement
from hvmctx.errors import FormatError
from hvmctx.image import handlers

__all__ = ["body_of", "plain_of"]


def plain_of(layer: str, number: int, body: bytes) -> Any:
    """The JSON of a body; None where no handler has one that gives the body back."""
    handler = handlers.handler_of(layer, number)
    return None if handler is None else handler.plain(body)


def body_of(layer: str, number: int, plain: Any) -> bytes:
    """The inverse. Raises FieldError."""
    handler = handlers.handler_of(layer, number)
    if handler is None:
        raise Disagreement(f"decoded: no handler of {layer}:{number:#x} is installed")
    try:
        return handler.body(plain)
    except FormatError as error:
        raise Disagreement(f"decoded: {error.problem}") from None
