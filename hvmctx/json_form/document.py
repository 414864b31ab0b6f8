"""The JSON document: what `to-json` writes and `from-json` reads.

    text = dumps_json("guest.save")
    loads_json(text)                # the very bytes of guest.save

`Document` is its model, for programs that change what is in it; `docs/json.md` describes the
form, and a JSON Schema of it is shipped as `hvmctx/data/hvmctx.schema.json`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hvmctx.abi import checked
from hvmctx.abi.forms import Count
from hvmctx.abi.vmport import used
from hvmctx.context.hvm_context import HvmContext
from hvmctx.errors import FieldError, FormatError
from hvmctx.files.opening import open_source, open_whole
from hvmctx.image.image import Image, open_image, recognise
from hvmctx.json_form.context import FORMAT, OLDEST, StructuredBody, document_parts
from hvmctx.json_form.image import ImageModel, image_parts
from hvmctx.json_form.models import ContextModel, Model, member, modelled, optional
from hvmctx.json_form.text import parsed, pieces
from hvmctx.limits import DEFAULT
from hvmctx.messages import TOO_DEEP
from hvmctx.stream.reader import CONTEXT, LEGACY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hvmctx.files.opening import Target
    from hvmctx.limits import Limits

__all__ = ["ContextModel", "Document", "ImageModel", "dumps_json", "loads_json"]


def dumps_json(
    target: Target | Image | HvmContext,
    *,
    layer: str | None = None,
    hex_wide: bool = False,
    limits: Limits | None = None,
) -> str:
    """The JSON form of an image or a context: lossless, indented by one space.

    `target` is an `Image`, an `HvmContext`, or anything that `open_image` opens, which `layer`
    and `limits` are for. `hex_wide` writes numbers of 2^32 and more as `0x` strings, for readers
    that keep numbers as doubles. What is damaged is kept as bytes. Raises InputError for what
    cannot be read, LimitError for what is larger than `Limits.input`, FormatError for a legacy
    stream and for what is nothing of Xen's.

    >>> text = dumps_json(HvmContext([Record("TSC_ADJUST", 0, bytes(8)), Record("END", 0)]))
    >>> loads_json(text) == bytes([19, 0, 0, 0, 8]) + bytes(19)
    True
    """
    if isinstance(target, HvmContext):
        plain = document_parts(target)
    elif isinstance(target, Image):
        plain = parts_of_image(target)
    else:
        with opened_whole(target, layer, limits) as image:
            return dumps_json(image, hex_wide=hex_wide)
    return "".join(pieces(plain, hex_wide=hex_wide)) + "\n"


def loads_json(text: str | bytes, *, limits: Limits = DEFAULT) -> bytes:
    """The bytes of the context or image that a JSON text describes: the inverse of
    `dumps_json`, for edited text too. Raises FieldError, which says where, what was found, and
    what was expected; LimitError.

    >>> loads_json('{"context": {"records": [{"typecode": 99, "body": "ff"}]}}')
    b'c\\x00\\x00\\x00\\x01\\x00\\x00\\x00\\xff'
    """
    with _not_too_deep():
        return Document.from_dict(parsed(text, limits)).to_bytes()


@contextmanager
def opened_whole(
    target: Target, layer: str | None = None, limits: Limits | None = None
) -> Iterator[Image]:
    """Anything that `open_image` opens. What can be read only once is read into memory."""
    source = open_source(target, limits)
    try:
        layer = recognise(source, layer)
        with open_image(open_whole(source), layer=layer) as image:
            yield image
    finally:
        source.close()


def parts_of_image(image: Image, problems: list[FormatError] | None = None) -> dict[str, Any]:
    """What `text.pieces` takes to write the document of an open image that is seekable. Its
    records are made into plain objects when it is their turn, so that a context that breaks a
    limit raises LimitError only then. Else as `Document.of_image`."""
    _check(image, problems)
    if image.format == CONTEXT:
        return document_parts(image.read_context())
    return {"hvmctx": FORMAT, "image": image_parts(image)}


def _check(image: Image, problems: list[FormatError] | None) -> None:
    """Raises LimitError or FormatError for an image that has no document; adds what is wrong
    with any other to `problems`."""
    limits = image.limits
    if image.source.whole_size() > limits.input:
        # JSON holds everything, page contents too
        raise limits.over(
            "input", "bytes, too much for JSON if it is not stripped", layer=image.format,
            offset=limits.input,
        )  # fmt: skip
    if image.format == LEGACY:
        image.raise_stopped()
    if problems is not None:
        problems += image.problems


class _Version(Count):
    """Of the form: the one that is read."""

    __slots__ = ()

    def schema(self) -> checked.Plain:
        return {"const": FORMAT}


@modelled("document")
@dataclass(kw_only=True)
class Document(Model):
    """What a JSON file holds: a context or an image. `hvmctx` is the version of the form."""

    hvmctx: int = member(_Version(32), FORMAT)
    context: ContextModel | None = optional(ContextModel.FORM)
    image: ImageModel | None = optional(ImageModel.FORM)

    @classmethod
    def of_input(
        cls,
        target: Target,
        layer: str | None = None,
        problems: list[FormatError] | None = None,
        limits: Limits | None = None,
    ) -> Document:
        """Of anything that `open_image` opens. What can be read only once is read into
        memory; a legacy stream, or an input that is nothing of Xen's, raises FormatError.
        What is damaged of another is kept, and added to `problems`."""
        with opened_whole(target, layer, limits) as image:
            return cls.of_image(image, problems)

    @classmethod
    def of_image(cls, image: Image, problems: list[FormatError] | None = None) -> Document:
        """The same of an open image that is seekable."""
        _check(image, problems)
        if image.format == CONTEXT:
            return cls(context=ContextModel.of(image.read_context()))
        return cls(image=ImageModel.of(image))

    @classmethod
    def from_dict(cls, kvs: Any, *, infer_missing: bool = False) -> Document:
        form = checked.as_object(kvs, "the document").get("hvmctx", FORMAT)
        if type(form) is int:  # before anything of it that may be unknown here
            _check_form(form)
            kvs = {**(_of_form_1(kvs) if form == 1 else kvs), "hvmctx": FORMAT}
        return super().from_dict(kvs, infer_missing=infer_missing)

    def to_bytes(self) -> bytes:
        """The context or image. Raises FieldError."""
        _check_form(self.hvmctx)
        if self.context is not None and self.image is None:
            with checked.within("context"):
                return self.context.to_context().to_bytes()
        if self.image is not None and self.context is None:
            with checked.within("image"):
                return self.image.to_bytes()
        raise FieldError("found neither or both of context and image, expected one of them")

    def to_text(self, *, hex_wide: bool = False) -> str:
        """JSON, indented by one space. `hex_wide`: numbers of 2^32 and more as `0x`
        strings. Raises FieldError for values nested deeper than any form."""
        return "".join(pieces(self.to_dict(encode_json=False), hex_wide=hex_wide)) + "\n"

    @classmethod
    def from_text(cls, text: str | bytes, limits: Limits = DEFAULT) -> Document:
        """Raises FieldError for text that is not JSON of this form, and LimitError."""
        with _not_too_deep():
            document = cls.from_dict(parsed(text, limits))
            if document.context is not None:
                with checked.within("context"):
                    document.context.records = list(document.context.records)
            if document.image is not None:
                with checked.within("image"):
                    document.image.items = list(document.image.items)
            return document


@contextmanager
def _not_too_deep() -> Iterator[None]:
    try:
        yield
    except RecursionError:
        raise FieldError(TOO_DEEP) from None


def _check_form(found: int) -> None:
    if not OLDEST <= found <= FORMAT:
        newer = "; a newer hvmctx reads it" if found > FORMAT else ""
        raise FieldError(
            f"hvmctx: found form {checked.shown(found)}, expected {OLDEST} to {FORMAT}{newer}"
        )


def _of_form_1(value: Any) -> Any:
    """The same with the bodies of VMPORT records, whose fields were those of the structure, of
    a document, or of what is in one. Raises FieldError."""
    if isinstance(value, Iterator):
        return map(_of_form_1, value)
    if isinstance(value, list):
        return [_of_form_1(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    if isinstance(fields := value.get("fields"), dict) and "packed_data" in fields:
        record = {name: entry for name, entry in value.items() if name not in ("fields", "rest")}
        with checked.within("a VMPORT record of form 1"):
            rest = checked.unhex(value.get("rest") or "", "rest")
            body = StructuredBody(used().record_type).read(fields, rest, None)
        return {**record, "body": body.hex()}
    return {name: _of_form_1(entry) for name, entry in value.items()}
