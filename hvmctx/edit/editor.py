"""`Editor`: values and parts of an image, read, set, added, removed, and the image written
with them. What names a value is described in `edit.paths`, what names a part in
`edit.payloads`.
"""

from __future__ import annotations

import os

from hvmctx.abi import streams
from hvmctx.edit import payloads
from hvmctx.edit.places import place_of
from hvmctx.edit.splice import splice
from hvmctx.edit.store import Store
from hvmctx.errors import FieldError, MissingRecordError, UsageError
from hvmctx.files.output import replacing
from hvmctx.image import handlers
from hvmctx.stream.reader import CONTEXT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO

    from hvmctx.context.hvm_context import HvmContext
    from hvmctx.edit.places import Place
    from hvmctx.edit.splice import Edit
    from hvmctx.files.access import Access
    from hvmctx.image.image import Image
    from hvmctx.image.index import IndexedRecord
    from hvmctx.stream.libxl import EmulatorContext
    from hvmctx.stream.xapi import QemuRecord

    Value = int | bytes | str

__all__ = ["Editor", "edit", "shown"]


def edit(image: Image) -> Editor:
    """An `Editor` of an opened image. The image itself stays as it is.

    >>> from hvmctx import edit, open_image
    >>> with open_image("examples/hvm1.save") as image:
    ...     editor = edit(image)
    ...     editor.set("CPU/0.rax", 0x1234)
    ...     editor.set("HVM_PARAMS.STORE_PFN", editor.get("HVM_PARAMS.CONSOLE_PFN"))
    ...     editor.set("config.c_info.name", "mutant")
    ...     editor.write("mutant.save")
    """
    return Editor(image)


class Editor:
    """Values and parts of an image, to be read and changed.

    Paths are those of `edit.paths`, payloads those of `edit.payloads`. A value is an int (of
    a number), bytes (of an array of bytes, of a body, or of a guestinfo entry), or text: of the
    configuration, or what says either as on the command line. What is got is what was set
    before; the image does not change.

    Raises UsageError for a path that names nothing, MissingRecordError for what the image does
    not have, FieldError for a value that does not fit, and FormatError where what is to be read
    or replaced is not all there.

    >>> from hvmctx import edit, open_image
    >>> with open_image("examples/hvm1.save") as image:
    ...     editor = edit(image)
    ...     hex(editor.get("CPU/0.rip")), hex(editor.get("CPUID[7,0].ebx"))
    ...     list(editor.paths("cpu.cr*"))
    ('0xb7b9', '0x18803a9')
    ['CPU/0.cr0', 'CPU/0.cr2', 'CPU/0.cr3', 'CPU/0.cr4']
    """

    def __init__(self, image: Image) -> None:
        self._image = image
        self._store = Store(image)

    @property
    def context(self) -> HvmContext:
        """The HVM context, with what has been set; what is changed in it counts as set, up
        to the next `put` of a whole context. Raises MissingRecordError."""
        return self._store.context

    @property
    def changes_context(self) -> bool:
        """Whether anything of the HVM context has been set, or looked at to be changed."""
        return self._store.changes_context

    def get(self, path: str) -> int | bytes | str:
        """The value that a path names."""
        return place_of(self._store, path).get()

    def paths(self, pattern: str = "*") -> Iterator[str]:
        """The paths of all single values that a pattern names: `*` and `?` stand for any text
        and any letter, and a path of several values (a record, a structure, an array) for all
        in it. Contents of memory are not among them."""
        from hvmctx.edit.listing import matching

        return matching(self._store, pattern)

    def set(self, path: str, value: Value, *, add: bool = False) -> None:
        """Put a value where a path says. A guestinfo key that is not there is added; with `add`
        so is all else."""
        place = place_of(self._store, path)
        if add and not place.is_there():
            place.add(value)
        else:
            place.put(value)

    def add(self, path: str, value: Value) -> None:
        """Add what is not there: a record of the context (CPU/1; `value` is its body) where
        Xen would write it, or with a field (CPU/1.rip) one that is otherwise zero; a record of
        a stream; a parameter (HVM_PARAMS.VIRIDIAN), a leaf (CPUID[7,1]), an MSR, a guestinfo
        key, a value of the configuration. Raises UsageError for what is there, and for what
        cannot be added."""
        place_of(self._store, path).add(value)

    def remove(self, path: str) -> None:
        """Remove what `add` adds (of a record that repeats the last, of a parameter every one),
        or a guestinfo key. Raises UsageError for what cannot be removed."""
        place_of(self._store, path).remove()

    def take(self, what: str) -> bytes | memoryview:
        """The bytes that the name of a payload stands for, or a path; a number as text, as the
        command `get` has it. Raises MissingRecordError also for page data of a pipe, which are
        not kept."""
        store = self._store
        if what == payloads.HVM_CONTEXT:
            return store.whole_context()
        if what == payloads.EMULATOR:
            return self._emulator()[1].payload
        if what == payloads.CONFIG:
            store.xl_header()
            return store.config()
        if what == payloads.XML:
            return store.xml()
        if not payloads.is_named(what):
            value = self._place(what).get()
            return value if isinstance(value, bytes) else shown(value).encode()
        layer, number, instance = payloads.named(what)
        if layer == CONTEXT:
            return bytes(store.look().record(number, instance).body)
        return store.body(self._record(layer, number, instance))

    def put(self, what: str, payload: bytes) -> None:
        """Put `payload` in the place of what `take` gives."""
        store = self._store
        if what == payloads.HVM_CONTEXT:
            store.put_context(payload)
        elif what == payloads.EMULATOR:
            record, emulator = self._emulator()
            emulator.payload = payload
            store.put_body(record, emulator.to_bytes())
        elif what == payloads.CONFIG:
            self.set(payloads.CONFIG, payload)
        elif what == payloads.XML:
            store.put_xml(payload)
        elif not payloads.is_named(what):
            self._put_at(what, payload)
        else:
            layer, number, instance = payloads.named(what)
            if layer == CONTEXT:
                store.context.record(number, instance).body = payload
            else:
                store.put_body(self._record(layer, number, instance), payload)

    def _put_at(self, path: str, payload: bytes) -> None:
        """As `take` gives it: bytes as they are, else text."""
        place = self._place(path)
        if isinstance(place.get(), bytes):
            place.put(payload)
            return
        try:
            place.put(payload.decode().rstrip("\n"))
        except UnicodeDecodeError:
            raise FieldError(f"{path} takes text") from None

    def _place(self, what: str) -> Place:
        try:
            return place_of(self._store, what)
        except UsageError:
            if what.replace("-", "").replace("_", "").isalnum():
                raise payloads.unknown(what) from None
            raise

    def edits(self) -> list[Edit]:
        """What to replace in the image."""
        return self._store.edits()

    def write(
        self,
        out: BinaryIO | str | os.PathLike[str],
        *,
        force: bool = False,
        like: Iterable[Access | None] = (),
    ) -> None:
        """Write the image with all that was changed, everything else as it is, to a binary
        file, or to a path: whole or not at all, and in the place of an existing file only with
        `force`. Only who may read the image, and the files of `like`, may read that one.
        Raises InputError for that, and for an image that was read from a pipe."""
        edits = self.edits()
        if isinstance(out, (str, os.PathLike)):
            sources = [self._image.source.access, *like]
            with replacing(os.fspath(out), force=force, like=sources) as file:
                splice(self._image.source, file, edits)
        else:
            splice(self._image.source, out, edits)

    def _record(self, layer: str, number: int, place: int) -> IndexedRecord:
        found = self._store.records(layer, number, effective=False)
        if place >= len(found):
            name = streams.record_name(layer, number)
            if not found:
                raise MissingRecordError(f"the image has no {name} record")
            raise MissingRecordError(
                f"the image has no {name}/{place} record; it has {len(found)}, counted from 0"
            )
        return found[place]

    def _emulator(self) -> tuple[IndexedRecord, EmulatorContext | QemuRecord]:
        layer, number = self._image.emulator_type
        record = self._store.last(layer, number)
        if record is None:
            raise MissingRecordError(
                f"the image has no {streams.record_name(layer, number)} record"
            )
        return record, handlers.parse(record, self._store.body(record), self._image.limits)


def shown(value: Value) -> str:
    """A value as people are shown it: numbers with 0x, bytes as hex."""
    if isinstance(value, bytes):
        return value.hex()
    return value if isinstance(value, str) else f"{value:#x}"
