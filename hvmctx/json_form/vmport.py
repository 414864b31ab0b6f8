"""The fields of a VMPORT record in the JSON of a context: those of its `VmportState`.

The form itself, with its checks and its schema, is `context.vmport.STATE_FORM`; nothing else
writes VMPORT as JSON. dataclasses-json, which is not needed here, writes a state in the same way.
"""

from __future__ import annotations

from hvmctx.abi import checked
from hvmctx.abi.forms import nullable
from hvmctx.context.vmport import STATE_FORM, VmportState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hvmctx.context.record import Record

__all__ = ["VmportBody"]


class VmportBody:
    """How fields stand for the bodies of VMPORT records (see `json_form.context.body_form`)."""

    def write(self, record: Record, body: bytes) -> tuple[dict[str, object], bytes]:
        """The fields of the body, and what it holds besides, which is nothing."""
        return STATE_FORM.write(VmportState.from_bytes(body)), b""

    def read(self, fields: object, rest: bytes, length: int | None) -> bytes:
        """The inverse; `length` is what the record says of itself. Raises FieldError."""
        if rest:
            raise checked.Disagreement("rest in a record that has none")
        body = STATE_FORM.read(fields, "").to_bytes()
        checked.agrees("length", length, len(body), "fields")
        return body

    def schema(self) -> dict[str, object]:
        """Of the record that has them."""
        return {"properties": {"fields": nullable(STATE_FORM.schema())}}
