"""Lengths and descriptors as paths."""

from __future__ import annotations

import io
import struct

import pytest

from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.edit.editor import Editor, edit
from hvmctx.errors import FieldError, HvmctxError, MissingRecordError, UsageError
from hvmctx.image.image import open_image
from tests.builders.samples import context_bytes


def editor_of(data: bytes) -> Editor:
    return edit(open_image(data, layer="context"))


def written(editor: Editor) -> bytes:
    out = io.BytesIO()
    editor.write(out)
    return out.getvalue()


@pytest.mark.parametrize(("length", "body"), [(4, b"\1\2\3\4"), (8, None), (10, None), (0, b"")])
def test_the_length_of_a_record(length: int, body: bytes | None) -> None:
    editor = editor_of(context_bytes())
    editor.set("PMTIMER/0.tmr_val", 0x04030201)
    before = bytes(editor.context["PMTIMER"].body)
    editor.set("pmtimer.length", str(length))
    record = editor.context["PMTIMER"]
    assert bytes(record.body) == (before[:length].ljust(length, b"\0") if body is None else body)
    assert editor.get("PMTIMER/0.length") == record.length == length
    assert len(written(editor)) == len(context_bytes()) - 8 + length


def test_a_descriptor_and_what_follows_it() -> None:
    """The bytes stay as they are, and are read anew."""
    editor = editor_of(context_bytes())
    names = [record.name for record in editor.context]
    editor.set("PIC/1.descriptor.length", 0x10)  # the next descriptor is inside then
    assert editor.get("PIC/1.descriptor.length") == 16
    assert [record.name for record in editor.context] != names
    changed = written(editor)
    assert len(changed) == len(context_bytes())
    assert [at for at, (a, b) in enumerate(zip(changed, context_bytes())) if a != b] == [0x444]
    editor.set("PIC/1.descriptor.length", 8)
    assert written(editor) == context_bytes()
    editor.set("PIC/1.descriptor.instance", 5)
    assert editor.get("PIC/5.descriptor.instance") == 5
    editor.set("PIC/5.descriptor.typecode", 13)
    assert editor.get("PMTIMER/5.descriptor.typecode") == 13


def test_a_record_that_is_cut_off() -> None:
    """It can be reached by its descriptor alone."""
    data = context_bytes()[:-8] + struct.pack("<HHI", 20, 0, 56) + bytes(24 + 8)
    editor = editor_of(data)
    assert editor.get("CPU_MSR/0.descriptor.length") == 56
    with pytest.raises(MissingRecordError):
        editor.get("CPU_MSR/0.length")
    editor.set("CPU_MSR/0.descriptor.length", 24)
    assert editor.context.has_end and len(editor.context["CPU_MSR"].body) == 24
    editor = editor_of(data)
    editor.remove("tail")
    assert written(editor) == context_bytes()[:-8]


@pytest.mark.parametrize(
    ("path", "value", "error"),
    [
        ("PIC/0.length", -1, FieldError), ("PIC/0.length", 1 << 40, FieldError),
        ("PIC/0.length", b"x", FieldError), ("PIC/0.descriptor.length", 1 << 32, FieldError),
        ("PIC/0.descriptor.size", 1, UsageError), ("PIC/7.length", 1, MissingRecordError),
        ("PIC/7.descriptor.length", 1, MissingRecordError),
    ],
)  # fmt: skip
def test_what_does_not_fit(path: str, value: int | bytes, error: type[HvmctxError]) -> None:
    with pytest.raises(error):
        editor_of(context_bytes()).set(path, value)


def test_removing_one_of_several() -> None:
    context = HvmContext.from_bytes(context_bytes())
    context.add(Record("PMTIMER", 0, b"second"))
    context.add(Record("PMTIMER", 0, b"third"))
    editor = editor_of(context.to_bytes())
    editor.remove("PMTIMER/0#2")
    assert [bytes(r.body)[:5] for r in editor.context.records("PMTIMER", 0)][1:] == [b"third"]
    for place in ("0", "3", "x", "-1"):
        with pytest.raises(HvmctxError, match="counted from 1"):
            editor.remove(f"PMTIMER/0#{place}")


def test_adding_an_end_and_removing_what_has_no_name() -> None:
    editor = editor_of(context_bytes()[:-8])
    editor.add("END/0", "")
    assert written(editor) == context_bytes()
    data = context_bytes()[:-8] + struct.pack("<HHI", 77, 3, 2) + b"xy" + bytes(8)
    editor = editor_of(data)
    editor.remove("context:77/3")
    assert written(editor) == context_bytes()
