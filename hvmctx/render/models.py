"""The JSON form as dataclasses-json models: what `to-json` writes and `from-json` reads.

    document = Document.of_input("guest.save")
    text = document.to_json()
    Document.from_json(text).to_bytes()     # the very bytes of guest.save

The shapes are those of `render.plain` and `render.image_plain`; a JSON Schema of them is
shipped as `hvmctx/data/hvmctx.schema.json`.
"""

from __future__ import annotations

import io
import json
import warnings
from dataclasses import dataclass, field
from typing import Any

from hvmctx.context.hvm_context import HvmContext
from hvmctx.errors import FieldError, InputError
from hvmctx.image import Image, open_image
from hvmctx.render.image_plain import image_from_plain, image_to_plain
from hvmctx.render.plain import FORMAT, context_from_plain, context_to_plain, widened
from hvmctx.source import BufferSource, open_source
from hvmctx.stream.reader import CONTEXT, LEGACY

try:
    from dataclasses_json import DataClassJsonMixin, Undefined, dataclass_json
    from dataclasses_json import config as _json
except ImportError:
    raise InputError(
        "to-json and from-json need dataclasses-json (pip install dataclasses-json); "
        "dump --format json does without"
    ) from None

LARGEST_INPUT = 1 << 30
"""JSON holds everything, page contents too, so what is larger must be stripped first."""
LONGEST_REASON = 200
"""Letters of a refusal: dataclasses-json quotes the whole text in some."""


def _optional() -> Any:
    """A member that is left out of the JSON where it is None."""
    return field(default=None, metadata=_json(exclude=lambda value: value is None))


@dataclass_json(undefined=Undefined.RAISE)
@dataclass
class RecordModel(DataClassJsonMixin):
    """One record of a context: `fields` and `rest` in hex, or `body` in hex."""

    typecode: int
    instance: int
    name: str | None = None
    length: int | None = None
    offset: int | None = _optional()
    fields: dict[str, Any] | None = _optional()
    rest: str | None = _optional()
    body: str | None = _optional()


@dataclass_json(undefined=Undefined.RAISE)
@dataclass
class ContextModel(DataClassJsonMixin):
    """A whole context."""

    records: list[RecordModel]
    tail: str = ""
    damage: str | None = None

    @classmethod
    def of(cls, context: HvmContext) -> ContextModel:
        return cls.from_dict(context_to_plain(context))

    def to_context(self) -> HvmContext:
        """Raises FieldError for a value that does not fit."""
        return context_from_plain(self.to_dict(encode_json=False))


@dataclass_json(undefined=Undefined.RAISE)
@dataclass
class ItemModel(DataClassJsonMixin):
    """A header (`header`, `fields`, `config` or `data`) or a record (`type`, `payload` or
    `body`, `padding`) of an image."""

    layer: str
    header: str | None = _optional()
    type: int | None = _optional()
    name: str | None = _optional()
    offset: int | None = _optional()
    length: int | None = _optional()
    fields: dict[str, Any] | None = _optional()
    config: str | None = _optional()
    data: str | None = _optional()
    payload: dict[str, Any] | None = _optional()
    body: str | None = _optional()
    padding: str | None = _optional()


@dataclass_json(undefined=Undefined.RAISE)
@dataclass
class ImageModel(DataClassJsonMixin):
    """A whole image: everything of it, in file order."""

    format: str
    items: list[ItemModel]
    tail: str = ""

    @classmethod
    def of(cls, image: Image) -> ImageModel:
        return cls.from_dict(image_to_plain(image))

    def to_bytes(self) -> bytes:
        """Raises FieldError for a value that does not fit."""
        return image_from_plain(self.to_dict(encode_json=False))


@dataclass_json(undefined=Undefined.RAISE)
@dataclass
class Document(DataClassJsonMixin):
    """What a JSON file holds: a context or an image."""

    hvmctx: int = FORMAT
    context: ContextModel | None = _optional()
    image: ImageModel | None = _optional()

    @classmethod
    def of_input(cls, target: Any, layer: str | None = None) -> Document:
        """Of anything that `open_image` opens. What can be read only once is read into
        memory; a legacy stream, or an input that is nothing of Xen's, raises FormatError."""
        with open_source(target) as opened:
            source = opened
            if not source.seekable:
                whole = io.BytesIO()
                source.copy(LARGEST_INPUT + 1, whole)
                source.raise_trouble()
                source = BufferSource(whole.getbuffer())
            if source.whole_size() > LARGEST_INPUT:
                raise InputError(
                    f"{opened.name}: more than {LARGEST_INPUT >> 20} MiB, too much for JSON; "
                    "strip it first"
                )
            image = open_image(source, layer=layer)
            if image.format == LEGACY:
                image.raise_stopped()
            if image.format == CONTEXT:
                return cls(context=ContextModel.of(image.hvm_context))
            return cls(image=ImageModel.of(image))

    def to_bytes(self) -> bytes:
        """The context or image. Raises FieldError."""
        if self.hvmctx != FORMAT:
            raise FieldError(f"hvmctx: found form {self.hvmctx}, expected {FORMAT}")
        if self.context is not None and self.image is None:
            return self.context.to_context().to_bytes()
        if self.image is not None and self.context is None:
            return self.image.to_bytes()
        raise FieldError("found neither or both of context and image, expected one of them")

    def to_text(self, *, hex_wide: bool = False) -> str:
        """JSON, indented by one space. `hex_wide`: numbers of 2^32 and more as `0x`
        strings."""
        plain: Any = self.to_dict(encode_json=False)
        return json.dumps(widened(plain) if hex_wide else plain, indent=1) + "\n"

    @classmethod
    def from_text(cls, text: str | bytes) -> Document:
        """Raises FieldError for text that is no JSON of this form."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # dataclasses-json warns of a null, and goes on
                return cls.from_dict(json.loads(text))
        except FieldError:
            raise
        except Exception as error:  # dataclasses-json lets many kinds through
            reason = str(error) or type(error).__name__
            if len(reason) > LONGEST_REASON:
                reason = f"{reason[:LONGEST_REASON]}..."
            raise FieldError(f"not the JSON form of a context or an image: {reason}") from None
