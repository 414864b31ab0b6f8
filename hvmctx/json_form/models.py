"""The dataclasses-json models of a context, and what all models have in common.

A model is the one definition of its part of the document: each member is declared with its
form (`json_form.forms`), and the keys, what may be left out, the checks and the schema follow
from that. dataclasses-json turns models into plain objects and back; it coerces what does not
fit (1.9 to 1, an object to a list of its keys), so the form reads an object first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from hvmctx.abi import checked, x86
from hvmctx.abi.checked import Disagreement, within
from hvmctx.abi.forms import Anything, Count, Form, Hex, Listed, Members, Object, Text
from hvmctx.abi.registry import by_name, by_typecode
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.errors import FieldError, HvmctxError, InputError
from hvmctx.json_form.context import body_form, record_parts
from hvmctx.json_form.decoded import body_of
from hvmctx.stream.reader import CONTEXT

try:
    from dataclasses_json import DataClassJsonMixin
    from dataclasses_json import config as _json
except ImportError:
    raise InputError(
        "to-json and from-json need dataclasses-json (pip install dataclasses-json); "
        "dump --format json does without"
    ) from None

if TYPE_CHECKING:
    from collections.abc import Callable

    from hvmctx.abi.checked import Plain

__all__ = ["ContextModel", "Many", "Model", "ModelForm", "RecordModel", "member", "modelled",
           "optional"]  # fmt: skip

_M = TypeVar("_M", bound="Model")


def member(form: Form, default: Any = MISSING) -> Any:
    """A member of a model, of that form: needed, unless there is a default."""
    return _member(form, default, None)


def optional(form: Form) -> Any:
    """A member that may be left out, or null; None is left out of the JSON."""
    return _member(form, None, lambda value: value is None)


def _member(form: Form, default: Any, exclude: Any) -> Any:
    # What dataclasses-json is given has been read already: see `Model.from_dict`.
    metadata = _json(encoder=_encoder(form), decoder=lambda made: made, exclude=exclude)
    return field(default=default, metadata={**metadata, "form": form})


def _encoder(form: Form) -> Any:
    return lambda value: None if value is None else form.write(value)


class Model(DataClassJsonMixin):
    """Base of the models."""

    FORM: ClassVar[ModelForm]

    @classmethod
    def from_dict(cls: type[_M], kvs: Any, *, infer_missing: bool = False) -> _M:
        """Raises FieldError for what is no such object, and says where not."""
        return super().from_dict(cls.FORM.members_of(kvs), infer_missing=infer_missing)


class ModelForm(Members):
    """The form of a model, out of its members."""

    __slots__ = ("_excluded", "_model", "_name")

    def __init__(self, model: Any, name: str) -> None:
        declared = fields(model)
        super().__init__(
            {entry.name: entry.metadata["form"] for entry in declared},
            [entry.name for entry in declared if entry.default is MISSING],
            [entry.name for entry in declared if entry.default is None],
        )
        self._model = model
        self._name = name
        self._excluded = {
            entry.name for entry in declared if entry.metadata["dataclasses_json"].get("exclude")
        }

    def members_of(self, plain: Any) -> Any:
        return super().read(plain, "")

    def read(self, plain: Any, where: str) -> Any:
        """A model, of an object inside of another: dataclasses-json would look up the type of
        each of its members anew, in 75 to 300 microseconds an object."""
        try:
            return self._model(**super().read(plain, ""))
        except FieldError as error:
            raise checked.placed(error, checked.label(where, plain)) from None

    def write(self, value: Any) -> Any:
        """What `to_dict` gives, again in less time."""
        plain = {}
        for name, form in self.members.items():
            held = getattr(value, name)
            if held is not None:
                plain[name] = form.write(held)
            elif name not in self._excluded:
                plain[name] = None
        return plain

    def schema(self) -> Plain:
        return {"$ref": f"#/$defs/{self._name}"}

    def definition(self) -> Plain:
        """The schema of its members, which stands once among the definitions."""
        return {"description": " ".join(self._model.__doc__.split()), **super().schema()}


class Many(Listed):
    """Records or items, of which there may be very many: where they come as an iterator (see
    `json_form.text.parsed`), each is read when it is its turn."""

    __slots__ = ()

    def read(self, plain: Any, where: str) -> Any:
        if not isinstance(plain, Iterator):
            return super().read(plain, where)
        return (self.element.read(one, f"{where}[{at}]") for at, one in enumerate(plain))


def modelled(name: str) -> Callable[[type[_M]], type[_M]]:
    """Of a dataclass under `Model`: gives it its `FORM`, which the schema knows by that name."""

    def with_form(model: type[_M]) -> type[_M]:
        model.FORM = ModelForm(model, name)
        return model

    return with_form


@modelled("record")
@dataclass(kw_only=True)
class RecordModel(Model):
    """One record of a context: its `fields` and what follows them, `rest`, what another
    package's handler has `decoded`, or its `body`.
    `name` may stand for `typecode`. `offset` is ignored when read, and so is what
    `dump --decode` has `decoded` of a type that hvmctx knows."""

    name: str | None = optional(Text())
    typecode: int | None = optional(Count(16))
    instance: int = member(Count(16), 0)
    length: int | None = optional(Count(32))
    offset: int | None = optional(Count(64))
    fields: dict[str, Any] | None = optional(Object())
    rest: bytes | None = optional(Hex())
    decoded: Any = optional(Anything())
    body: bytes | None = optional(Hex())

    @classmethod
    def of(cls, record: Record) -> RecordModel:
        return cls(**record_parts(record))

    def to_record(self) -> Record:
        """Raises FieldError."""
        typecode = self._typecode()
        known = by_typecode(typecode)
        if known is None or not known.size or self.body is not None:
            return self._of_body(typecode)
        if self.fields is None:
            raise FieldError("found neither fields nor body")
        body = body_form(known).read(self.fields, self.rest or b"", self.length)
        return Record(typecode, self.instance, body)

    def _of_body(self, typecode: int) -> Record:
        for key in ("fields", "rest"):
            if getattr(self, key) is not None:
                if self.body is not None:
                    raise FieldError(f"found both {key} and body, expected one of them")
                raise FieldError(f"{key} in a record that has none")
        if self.decoded is not None and by_typecode(typecode) is None:
            if self.body is not None:
                raise FieldError("found both decoded and body, expected one of them")
            return Record(typecode, self.instance, body_of(CONTEXT, typecode, self.decoded))
        end = typecode == x86.END.typecode
        if self.body is None and not end:
            raise FieldError("body is missing")
        body = self.body or b""
        if end and self.length is not None and self.length > len(body):
            # a lie that stands: see record.take_apart
            return Record(typecode, self.instance, body, length=self.length)
        checked.agrees("length", self.length, len(body), "body")
        return Record(typecode, self.instance, body)

    def _typecode(self) -> int:
        """By `typecode` or `name`, which must agree where there are both."""
        code, name = self.typecode, self.name
        if name is None:
            if code is None:
                raise FieldError("found neither typecode nor name")
            return code
        if code is not None and OTHER_NAME.fullmatch(name):
            named = code if name == f"type {code}" else -1
        else:
            named = _typecode_named(name)
        if code is not None and code != named:
            raise Disagreement(
                f"name {checked.shown(name)} does not match typecode {code}; leave it out"
            )
        return named


OTHER_NAME = re.compile("type [0-9]+")
"""What a record is called whose type nothing declares."""


def _typecode_named(name: str) -> int:
    try:
        return by_name(name).typecode
    except HvmctxError:
        raise FieldError(f"unknown record type {checked.shown(name)}") from None


@modelled("context")
@dataclass(kw_only=True)
class ContextModel(Model):
    """A whole context: its records, and what follows them. `damage` is ignored when read."""

    records: list[RecordModel] = member(Many(RecordModel.FORM))
    tail: bytes = member(Hex(), b"")
    damage: str | None = member(Text(), None)

    @classmethod
    def of(cls, context: HvmContext) -> ContextModel:
        damage = None if context.damage is None else str(context.damage)
        records = [RecordModel.of(record) for record in context.entries]
        return cls(records=records, tail=bytes(context.tail), damage=damage)

    def to_context(self) -> HvmContext:
        """Raises FieldError for what does not fit."""
        context = HvmContext()
        for at, record in enumerate(self.records):
            with within(checked.label(f"records[{at}]", vars(record))):
                context.entries.append(record.to_record())
        context.tail = self.tail
        return context
