"""Open anything that Xen saves, and find what is in it.

`open_image` takes a path, a buffer or a binary file object, looks through gzip and xz,
finds the layers, and makes an index of headers and records (`indexing`). Nothing that is
wrong with the input is raised by the indexing: what could be read is there, and `problems`
says what could not.
"""

from __future__ import annotations

from hvmctx.abi import streams
from hvmctx.errors import (
    FormatError,
    LengthError,
    MissingRecordError,
    UsageError,
)
from hvmctx.image.indexing import (
    LARGEST_CONFIG,
    LARGEST_HEAD,
    LARGEST_KEPT,
    IndexedRecord,
    Indexer,
    Note,
    Watcher,
    cut_off,
    legacy_problem,
)
from hvmctx.files.source import Source, open_source
from hvmctx.stream import detect
from hvmctx.stream.reader import (
    CONTEXT,
    LEGACY,
    LIBXC,
    LIBXL,
    XL,
    Header,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hvmctx.abi.releases import Release
    from hvmctx.context.hvm_context import HvmContext
    from hvmctx.image.memory_map import MemoryMap
    from hvmctx.files.source import Target
    from hvmctx.stream.libxc import CpuidPolicy, MsrPolicy, TscInfo
    from hvmctx.stream.libxl import EmulatorContext
    from hvmctx.stream.pages import WordCounts

LARGEST_CONTEXT = 64 << 20
"""A bare context is read whole; one of 4096 vcpus with all records would fit."""


class Image:
    """An opened image.

    `format` is what the input starts with (xl, libxl, libxc, context, legacy);
    `headers` and `records` are in file order, whatever their layer; `problems` are errors;
    where reading had to stop, `stopped` is the one that says so, and `complete` is False;
    `notes` are oddities. `end` is the offset behind the last byte that belongs to the image.
    """

    def __init__(self, source: Source, layer: str) -> None:
        self.source = source
        self.format = layer
        self.headers: list[Header] = []
        self.records: list[IndexedRecord] = []
        self.problems: list[FormatError] = []
        self.stopped: FormatError | None = None
        self.notes: list[Note] = []
        self.complete = False
        self.end = 0
        self._context: HvmContext | None = None
        self._checkpoints: dict[str, int | None] = {}
        self._kept_config: bytes | memoryview = b""
        self._page_words: WordCounts | None = None
        self._words_of: tuple[IndexedRecord | None, bytes, bool] = (None, b"", False)

    def __enter__(self) -> Image:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what was opened. Bodies can no longer be read."""
        self.source.close()

    def stop(self, error: FormatError) -> None:
        """Note that reading cannot go on, and why."""
        self.stopped = error
        self.problems.append(error)

    def raise_stopped(self) -> None:
        """Raise what reading stopped at, where somebody cannot do with a part."""
        if self.stopped is not None:
            raise self.stopped

    @property
    def compression(self) -> str:
        """gzip, xz, zstd, lz4, or nothing."""
        return self.source.compression

    def header(self, layer: str, name: str = "header") -> Header | None:
        """The first header of that name (`header`; libxc has `image header` and
        `domain header`)."""
        for header in self.headers:
            if header.layer == layer and header.name == name:
                return header
        return None

    def records_of(self, layer: str, number: int) -> list[IndexedRecord]:
        """All records of one type, in order."""
        return [r for r in self.records if r.type == number and r.layer == layer]

    def restored(self, layer: str, number: int) -> list[IndexedRecord]:
        """Those of one type that a restore acts on: of a checkpointed stream, what came up to
        its last checkpoint. A secondary only queues the records behind the first, and goes on
        from the last whole one however the stream ends (xg_sr_restore.c, 4.7+)."""
        end = self.last_checkpoint(layer)
        return [r for r in self.records_of(layer, number) if end is None or r.offset < end]

    def last(self, layer: str, number: int) -> IndexedRecord | None:
        """The last record of one type that a restore acts on: later ones replace earlier."""
        found = self.restored(layer, number)
        return found[-1] if found else None

    def last_checkpoint(self, layer: str) -> int | None:
        """Where a stream's last whole checkpoint ends for that layer; None where all its
        records count. libxl takes up again what follows the end of the libxc stream."""
        if layer not in self._checkpoints:
            marks: list[IndexedRecord] = []
            if layer == LIBXC:
                marks = self.records_of(LIBXC, streams.LIBXC_CHECKPOINT)
            elif layer == LIBXL and not self.complete:
                marks = self.records_of(LIBXL, streams.LIBXL_CHECKPOINT_END)
            whole = [mark.offset for mark in marks if mark.end <= self.end]
            self._checkpoints[layer] = whole[-1] if whole else None
        return self._checkpoints[layer]

    @property
    def batches(self) -> list[IndexedRecord]:
        """The PAGE_DATA records that a restore acts on, as far as their words are there."""
        return [
            record
            for record in self.restored(LIBXC, streams.LIBXC_PAGE_DATA)
            if record.count > 0 and self._has_words(record)
        ]

    def _has_words(self, record: IndexedRecord) -> bool:
        if record.end <= self.end:
            return True
        if record.kept is not None:
            return len(record.kept) >= streams.PAGE_HEAD_SIZE + record.words_size
        size = self.source.size
        words_end = record.body_offset + streams.PAGE_HEAD_SIZE + record.words_size
        return size is not None and words_end <= size

    def body(self, record: IndexedRecord) -> bytes | memoryview:
        """The body of a record. Raises TruncatedError where the input ended before it, and
        MissingRecordError for page data that went by in a pipe."""
        return self._bytes_of(record, record.length)

    def words(self, record: IndexedRecord) -> bytes:
        """The page words of a PAGE_DATA record, 8 bytes each, without its pages. Those of
        the record that was asked for last are at hand."""
        return self._batch(record)[1]

    def plain_pages(self, record: IndexedRecord) -> bool:
        """Whether no rule says anything of a PAGE_DATA record (`stream.pages.is_plain`)."""
        return self._batch(record)[2]

    def _batch(self, record: IndexedRecord) -> tuple[IndexedRecord | None, bytes, bool]:
        if self._words_of[0] is not record:
            from hvmctx.stream.pages import is_plain

            head, words = self._head_and_words(record)
            plain = head[4:] == bytes(4) and is_plain(words, record.count, record.length)
            self._words_of = record, words, plain
        return self._words_of

    def _head_and_words(self, record: IndexedRecord) -> tuple[bytes, bytes]:
        size = streams.PAGE_HEAD_SIZE
        start = bytes(self._bytes_of(record, size + record.words_size))
        return start[:size], start[size:]

    def start_of(self, record: IndexedRecord, size: int) -> bytes | memoryview:
        """The first `size` bytes of a body, or all of a shorter one."""
        return self._bytes_of(record, min(size, record.length))

    def _bytes_of(self, record: IndexedRecord, size: int) -> bytes | memoryview:
        if record.kept is not None and len(record.kept) >= size:
            return record.kept[:size]
        kept = record.kept
        cut = self.stopped is not None and record.end > self.end
        if cut and kept is not None and len(kept) < record.length and len(kept) != LARGEST_HEAD:
            raise cut_off(record, len(kept))
        if size > LARGEST_KEPT:
            raise LengthError(
                "longer than a body is read", layer=record.layer, offset=record.offset,
                record=record.name, found=f"{size} bytes", expected=f"{LARGEST_KEPT} at most",
            )  # fmt: skip
        if not self.source.seekable:
            raise MissingRecordError(
                f"{record.name} at {record.offset:#x} went by: {self.source.name} cannot be read "
                "twice"
            )
        data = self.source.read_at(record.body_offset, size)
        if len(data) < size:
            raise cut_off(record, len(data))
        return data

    def payload(self, record: IndexedRecord) -> Any:
        """What the body of a record means, to whoever registered a handler for its type
        first: see `stream.handlers`."""
        from hvmctx.image import handlers

        return handlers.decode(record, self.body(record))

    def model(self, record: IndexedRecord) -> Any:
        """The body of a record of a type that `stream.handlers` has a model of, as that."""
        from hvmctx.image import handlers

        return handlers.parse(record, self.body(record))

    @property
    def hvm_context(self) -> HvmContext:
        """The context that a restore would load: the last. What is damaged of it becomes one
        of `problems`. Raises MissingRecordError when there is none, with the reason."""
        if self._context is None:
            self._context = self._find_context()
        return self._context

    def _find_context(self) -> HvmContext:
        from hvmctx.context.hvm_context import HvmContext

        if self.format == CONTEXT:
            return HvmContext.parse(self._whole_input())
        record = self.last(LIBXC, streams.LIBXC_HVM_CONTEXT)
        if record is None:
            raise MissingRecordError(self._why_no_context())
        if record.end > self.end and self.stopped is not None:
            # the input ends within the context: what there is of it can still be read
            context = HvmContext.parse(self._what_there_is(record))
            context.damage = self.stopped
            return context
        context = HvmContext.parse(self.body(record))
        if context.damage is not None:
            self.problems.append(context.damage.moved(record.body_offset))
        return context

    def _what_there_is(self, record: IndexedRecord) -> bytes | memoryview:
        if record.kept is not None:
            return record.kept
        if not self.source.seekable:
            return b""
        return self.source.read_at(record.body_offset, min(record.length, LARGEST_KEPT))

    def _whole_input(self) -> bytes | memoryview:
        whole = self.source.read(LARGEST_CONTEXT + 1)
        if len(whole) > LARGEST_CONTEXT:
            raise LengthError(
                "too long for a context", layer=CONTEXT, offset=0,
                found=f"more than {LARGEST_CONTEXT} bytes",
                expected="an HVM save context, or an image that says what it is",
            )  # fmt: skip
        return whole

    def _why_no_context(self) -> str:
        if self.format == LEGACY:
            return "no HVM context: a legacy stream (Xen 4.5 or older), to be converted first"
        if self.guest_type == streams.GUEST_X86_PV:
            return "no HVM context: this is the image of a PV guest, which has none"
        return "no HVM_CONTEXT record in this image"

    @property
    def guest_type(self) -> int | None:
        """1 x86 PV, 2 x86 HVM (PVH too), of the domain header."""
        header = self.header(LIBXC, "domain header")
        return header.fields["type"] if header else None

    @property
    def xen_version(self) -> tuple[int, int] | None:
        """(major, minor) of the Xen that wrote the stream; (0, n) is the converter."""
        header = self.header(LIBXC, "domain header")
        return (header.fields["xen_major"], header.fields["xen_minor"]) if header else None

    @property
    def release(self) -> Release:
        """The release that wrote the stream; the newest where none is named (a bare context,
        the converter's) or it is not in the table."""
        from hvmctx.abi.releases import Release

        return Release.of_version(*(self.xen_version or (0, 0)))

    @property
    def config(self) -> Any:
        """The guest's configuration out of an xl file: what its JSON is, or text. None
        when the image has none. Raises FormatError."""
        header, text = self.header(XL), self.config_text
        if header is None or not text:
            return None
        from hvmctx.stream import xlfile

        return xlfile.parse_config(text, header)

    @property
    def config_text(self) -> bytes:
        """The bytes of that configuration, as they are in the file. Raises FormatError."""
        header = self.header(XL)
        if header is None or not header.length:
            return b""
        from hvmctx.stream import xlfile

        if header.length > LARGEST_CONFIG:
            raise LengthError(
                "longer than any configuration", layer=XL, offset=header.body_offset,
                record="optional data", found=f"{header.length} bytes",
                expected=f"{LARGEST_CONFIG} at most",
            )  # fmt: skip
        data = self._kept_config
        if not data:
            data = self.source.read_at(header.body_offset, header.length)
        return xlfile.config_text(data, header.body_offset)

    @property
    def params(self) -> dict[int, int]:
        """HVM parameters, index -> value, later records over earlier ones."""
        params: dict[int, int] = {}
        for record in self.restored(LIBXC, streams.LIBXC_HVM_PARAMS):
            params.update(self.model(record).params)
        return params

    @property
    def tsc_info(self) -> TscInfo | None:
        """How the guest's TSC is to be kept; None where the stream has no such
        record. Raises FormatError for one that cannot be taken apart."""
        found: TscInfo | None = self._last_model(streams.LIBXC_X86_TSC_INFO)
        return found

    @property
    def cpuid_policy(self) -> CpuidPolicy | None:
        """The CPUID leaves that the guest sees (4.14+); None where the stream has no such
        record. Raises FormatError for one that cannot be taken apart."""
        found: CpuidPolicy | None = self._last_model(streams.LIBXC_X86_CPUID_POLICY)
        return found

    @property
    def msr_policy(self) -> MsrPolicy | None:
        """The MSRs that it sees (4.14+); None where the stream has no such
        record. Raises FormatError for one that cannot be taken apart."""
        found: MsrPolicy | None = self._last_model(streams.LIBXC_X86_MSR_POLICY)
        return found

    def _last_model(self, number: int) -> Any:
        """The last record of a libxc type, None where there is none."""
        record = self.last(LIBXC, number)
        return None if record is None else self.model(record)

    @property
    def emulators(self) -> list[EmulatorContext]:
        """The device models' saved state, in order."""
        return [
            self.model(record) for record in self.restored(LIBXL, streams.LIBXL_EMULATOR_CONTEXT)
        ]

    @property
    def page_words(self) -> WordCounts:
        """The page words by their types; a pfn sent twice counts twice."""
        if self._page_words is None:
            from hvmctx.stream.pages import WordCounts

            self._page_words = WordCounts()
            for record in self.batches:
                self._page_words.add(self._head_and_words(record)[1])
        return self._page_words

    @property
    def memory_map(self) -> MemoryMap:
        """Every pfn that the stream mentions: its last type, and where its page lies. Reads
        the page words, not the pages."""
        from hvmctx.image.memory_map import MemoryMap

        return MemoryMap.of_image(self)

    @property
    def restored_memory(self) -> MemoryMap:
        """The memory that a restore leaves the guest with; the pages of xenstore, console and
        the device model's rings, which it blanks, as they were sent."""
        from hvmctx.image.memory_map import MemoryMap

        return MemoryMap.restored(self)


def open_image(
    target: Target,
    *,
    layer: str | None = None,
    keep_words: bool = False,
    watcher: Watcher | None = None,
) -> Image:
    """Open an image, stream, or bare context.

    `target` is a path, a buffer (never copied), a binary file object (read from where it
    stands; not closed), or a source. `layer` says what it starts with instead of looking; one of
    xl, libxl, libxc, context, legacy. `keep_words` keeps the page words of an input that
    cannot be read twice (8 bytes a page), so that `memory_map` works on it. `watcher` is
    told of everything as it goes by.

    Raises InputError when it cannot be opened or read, FormatError when it is nothing
    that Xen saves. Damage further in is in `problems`.
    """
    source = open_source(target)
    try:
        if layer is None:
            head = source.peek(detect.ENOUGH)
            if not head:
                source.raise_trouble()
            layer = detect.detect(head)
            if layer is None:
                raise FormatError(
                    "nothing that Xen saves", layer="input", offset=0, found=head[:16].hex(" "),
                    expected="an xl file, a libxl or libxc stream, a legacy stream, or a context",
                )  # fmt: skip
        elif layer not in (XL, LIBXL, LIBXC, CONTEXT, LEGACY):
            raise UsageError(f"no layer is called {layer!r}")
        image = Image(source, layer)
        if layer == LEGACY:
            image.stop(legacy_problem(0, "a legacy stream (Xen 4.5 or older)"))
        elif layer == CONTEXT:
            _index_context(image)
        else:
            Indexer(image, keep_words, watcher).run()
        if source.trouble is not None:
            image.problems.append(source.trouble)
        return image
    except BaseException:
        source.close()
        raise


def _index_context(image: Image) -> None:
    context = image.hvm_context
    if context.damage is not None:
        image.stop(context.damage)
    image.complete = context.damage is None
    image.end = context.size
    if context.has_end and len(context.tail):
        image.notes.append(
            Note(
                Note.BEHIND,
                CONTEXT,
                image.end,
                f"{len(context.tail)} bytes follow the END record",
            )
        )
