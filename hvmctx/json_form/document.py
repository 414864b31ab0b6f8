"""The JSON form as dataclasses-json models: what `to-json` writes and `from-json` reads.

    document = Document.of_input("guest.save")
    text = document.to_json()
    Document.from_text(text).to_bytes()     # the very bytes of guest.save

The shapes are those of `render.plain` and `render.image_plain`, which also judge what is in
fields and payloads; a JSON Schema of them is shipped as `hvmctx/data/hvmctx.schema.json`.
dataclasses-json coerces values to the declared types (1.9 to 1, an object to a list of its
keys), so they are checked before it sees them.
"""

from __future__ import annotations

import io
import json
import types
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from hvmctx.context.hvm_context import HvmContext
from hvmctx.errors import FieldError, FormatError, InputError
from hvmctx.files.opening import open_source
from hvmctx.files.source import BufferSource
from hvmctx.image.image import Image, open_image
from hvmctx.json_form import checked
from hvmctx.json_form.context import FORMAT, context_from_plain, context_to_plain, widened
from hvmctx.json_form.image import image_from_plain, image_to_plain
from hvmctx.stream.reader import CONTEXT, LEGACY

try:
    from dataclasses_json import DataClassJsonMixin
    from dataclasses_json import config as _json
except ImportError:
    raise InputError(
        "to-json and from-json need dataclasses-json (pip install dataclasses-json); "
        "dump --format json does without"
    ) from None

LARGEST_INPUT = 1 << 30
"""JSON holds everything, page contents too, so what is larger must be stripped first."""
_M = TypeVar("_M", bound="_Model")


def _optional() -> Any:
    """A member that is left out of the JSON where it is None."""
    return field(default=None, metadata=_json(exclude=lambda value: value is None))


class _Model(DataClassJsonMixin):
    """Base of the models: their values are of the declared types, or a FieldError says where
    not."""

    @classmethod
    def from_dict(cls: type[_M], kvs: Any, *, infer_missing: bool = False) -> _M:
        _check(cls, kvs, "")
        return super().from_dict(kvs, infer_missing=infer_missing)

    def _plain(self) -> dict[str, Any]:
        """Its members other than None; not a copy, as `to_dict` makes one."""
        return {name: value for name, value in vars(self).items() if value is not None}


@cache
def _members(model: Any) -> tuple[dict[str, Any], list[str]]:
    """The declared types of a model's members, and the names of those that it must have."""
    kinds = get_type_hints(model)
    members = fields(model)
    needed = [member.name for member in members if member.default is MISSING]
    return {member.name: kinds[member.name] for member in members}, needed


_NAMES = {int: "a number", str: "a string", dict: "an object", list: "a list"}


def _check(declared: Any, value: Any, where: str) -> None:
    """Refuse a value that is not of the declared type, all the way down to the first `Any`."""
    if isinstance(declared, types.UnionType):
        declared, _ = get_args(declared)  # T | None
        if value is None:
            return
    if is_dataclass(declared):
        model: Any = declared
        with checked.within(where):
            plain = checked.as_object(value)
            kinds, needed = _members(model)
            checked.members(plain, kinds)
            checked.complete(plain, needed)
            for name, entry in plain.items():
                _check(kinds[name], entry, name)
        return
    kind = get_origin(declared) or declared
    if type(value) is not kind:  # a bool is no int
        raise checked.wrong(value, where, _NAMES[kind])
    if kind is list:
        (element,) = get_args(declared)
        for at, entry in enumerate(value):
            _check(element, entry, checked.label(f"{where}[{at}]", entry))


@dataclass
class RecordModel(_Model):
    """One record of a context: `fields` and `rest` in hex, or `body` in hex. `name` can stand
    for `typecode`."""

    typecode: int | None = _optional()
    instance: int = 0
    name: str | None = _optional()
    length: int | None = _optional()
    offset: int | None = _optional()
    fields: dict[str, Any] | None = _optional()
    rest: str | None = _optional()
    body: str | None = _optional()


@dataclass
class ContextModel(_Model):
    """A whole context."""

    records: list[RecordModel]
    tail: str = ""
    damage: str | None = None

    @classmethod
    def of(cls, context: HvmContext) -> ContextModel:
        plain = context_to_plain(context)  # needs none of from_dict's checks, which take long
        records = [RecordModel(**entry) for entry in plain["records"]]
        return cls(records, plain["tail"], plain["damage"])

    def to_context(self) -> HvmContext:
        """Raises FieldError for a value that does not fit."""
        return context_from_plain(self._plain())

    def _plain(self) -> dict[str, Any]:
        return {**super()._plain(), "records": [record._plain() for record in self.records]}


@dataclass
class ItemModel(_Model):
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


@dataclass
class ImageModel(_Model):
    """A whole image: everything of it, in file order."""

    format: str
    items: list[ItemModel]
    tail: str = ""

    @classmethod
    def of(cls, image: Image) -> ImageModel:
        plain = image_to_plain(image)
        return cls(plain["format"], [ItemModel(**entry) for entry in plain["items"]], plain["tail"])

    def to_bytes(self) -> bytes:
        """Raises FieldError for a value that does not fit."""
        return image_from_plain(self._plain())

    def _plain(self) -> dict[str, Any]:
        return {**super()._plain(), "items": [item._plain() for item in self.items]}


@dataclass
class Document(_Model):
    """What a JSON file holds: a context or an image."""

    hvmctx: int = FORMAT
    context: ContextModel | None = _optional()
    image: ImageModel | None = _optional()

    @classmethod
    def of_input(
        cls, target: Any, layer: str | None = None, problems: list[FormatError] | None = None
    ) -> Document:
        """Of anything that `open_image` opens. What can be read only once is read into
        memory; a legacy stream, or an input that is nothing of Xen's, raises FormatError.
        What is damaged of another is kept, and added to `problems`."""
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
            if problems is not None:
                problems += image.problems
            if image.format == CONTEXT:
                return cls(context=ContextModel.of(image.context))
            return cls(image=ImageModel.of(image))

    @classmethod
    def from_dict(cls, kvs: Any, *, infer_missing: bool = False) -> Document:
        form = checked.as_object(kvs, "the document").get("hvmctx", FORMAT)
        if type(form) is int:  # before anything of it that may be unknown here
            _check_form(form)
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
        try:
            plain: Any = self.to_dict(encode_json=False)
            return json.dumps(widened(plain) if hex_wide else plain, indent=1) + "\n"
        except RecursionError:
            raise FieldError("values are nested too deep") from None

    @classmethod
    def from_text(cls, text: str | bytes) -> Document:
        """Raises FieldError for text that is no JSON of this form."""
        return cls.from_dict(_parsed(text))


def _parsed(text: str | bytes) -> Any:
    """The text's JSON. Raises FieldError, also for an object that has a key twice."""
    twice: list[tuple[Any, str]] = []

    def as_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            names = [name for name, _ in pairs]
            twice.append((made, next(name for name in names if names.count(name) > 1)))
        return made

    try:
        plain = json.loads(text, object_pairs_hook=as_dict)
    except RecursionError:
        raise FieldError("not JSON that can be read: lists and objects are too deep") from None
    except ValueError as error:
        raise FieldError(f"not JSON: {error}") from None
    if twice:
        made, name = twice[0]
        where = _place_of(made, plain)
        raise FieldError(f"{where}: the key {checked.shown(name)} is given more than once")
    return plain


def _place_of(wanted: Any, plain: Any) -> str:
    """Where in the document an object stands."""
    left = [("", plain)]
    while left:
        where, value = left.pop()
        if value is wanted:
            return where or "the document"
        if isinstance(value, dict):
            dot = "." if where else ""
            left += [(f"{where}{dot}{checked.word(key)}", entry) for key, entry in value.items()]
        elif isinstance(value, list):
            left += [(f"{where}[{at}]", entry) for at, entry in enumerate(value)]
    return "an object"  # within one that is given twice itself


def _check_form(found: int) -> None:
    if found != FORMAT:
        raise FieldError(f"hvmctx: found form {checked.shown(found)}, expected {FORMAT}")
