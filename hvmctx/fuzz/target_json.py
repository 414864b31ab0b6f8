"""The target `json`: any text as the JSON form of a context or an image."""

from __future__ import annotations

import json

from hvmctx.abi import streams
from hvmctx.context.hvm_context import HvmContext
from hvmctx.errors import HvmctxError
from hvmctx.fuzz.contexts import valid_context
from hvmctx.fuzz.target import Target
from hvmctx.fuzz.values import edit_bytes
from hvmctx.stream.writer import StreamWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    import random
    from typing import Any

__all__ = ["JSON", "mutate_document"]


def _run(data: bytes) -> set[str]:
    """Any text makes bytes or an HvmctxError; the JSON of these bytes makes them again."""
    from hvmctx.json_form.document import Document

    try:
        made = Document.from_text(data).to_bytes()
    except HvmctxError as error:
        return {type(error).__name__}
    try:
        again = Document.of_input(made, "context" if b'"context"' in data else None)
    except HvmctxError:
        return {"bytes-only"}
    assert Document.from_text(again.to_text()).to_bytes() == made
    return {"context" if again.context else "image"}


def _seeds(rng: random.Random) -> list[bytes]:
    from hvmctx.json_form.document import Document

    small = HvmContext(valid_context(rng).entries[-6:]).to_bytes()
    writer = StreamWriter("libxc")
    image = writer.image_header() + writer.domain_header(streams.GUEST_X86_HVM, (4, 17))
    image += writer.record(streams.LIBXC_X86_TSC_INFO, bytes(24))
    image += writer.record(streams.LIBXC_HVM_PARAMS, bytes(8)) + writer.record(streams.LIBXC_END)
    inputs = ((small, "context"), (image, "libxc"))
    documents = [Document.of_input(data, layer).to_text() for data, layer in inputs]
    documents.append('{"hvmctx": 2, "image": {"format": "libxc", "items": [], "tail": "ffff"}}')
    return [text.encode() for text in documents]


def mutate_document(data: bytes, rng: random.Random) -> bytes:
    """Change a value, a key, or bytes of the text."""
    try:
        plain = json.loads(data)
    except (ValueError, RecursionError):
        return edit_bytes(data, rng)
    if rng.random() < 0.2:
        return edit_bytes(data, rng)
    _edit_plain(plain, rng)
    return json.dumps(plain).encode()


_ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1 << 64, 1 << 70, 1.5, "", "0x", "zz", "00", [], {}, [[]], "é", "0x1f",
)  # fmt: skip


def _edit_plain(plain: Any, rng: random.Random) -> None:
    """Walk down to some value and put an unusual one there."""
    at = plain
    while isinstance(at, (dict, list)) and at:
        key = rng.choice(list(at) if isinstance(at, dict) else range(len(at)))
        below = at[key]
        if isinstance(below, (dict, list)) and below and rng.random() < 0.9:
            at = below
            continue
        if isinstance(at, dict) and rng.random() < 0.2:
            at.pop(key)
        else:
            at[key] = rng.choice(_ODD)
        return


_KNOWN = ("FieldError", "context", "image", "bytes-only")
JSON = Target("json", _run, _KNOWN, _seeds, mutate_document)
