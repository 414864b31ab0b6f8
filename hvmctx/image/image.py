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
    MissingRecordError,
    UsageError,
)
from hvmctx.files.opening import open_seekable, open_source, open_whole, read_whole
from hvmctx.image.index import LARGEST_KEPT, Index, IndexedRecord, Note
from hvmctx.image.indexing import Indexer, Watcher, legacy_problem
from hvmctx.stream import detect
from hvmctx.stream.reader import CONTEXT, LEGACY, LIBVIRT, LIBXC, LIBXL, XAPI, XL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    from hvmctx.abi.releases import Release
    from hvmctx.context.hvm_context import HvmContext
    from hvmctx.files.opening import Target
    from hvmctx.files.source import Source
    from hvmctx.image.memory_map import Memory, MemoryMap
    from hvmctx.image.vcpus import GuestVcpus
    from hvmctx.limits import Limits
    from hvmctx.stream.body import Body
    from hvmctx.stream.libxc import CpuidPolicy, MsrPolicy, TscInfo
    from hvmctx.stream.libxl import EmulatorContext
    from hvmctx.stream.places import Place
    from hvmctx.stream.xapi import QemuRecord
    from hvmctx.stream.xlfile import Json

    AnyBody = TypeVar("AnyBody", bound=Body)

__all__ = ["Image", "Policy", "open_image", "recognise"]

_LONGEST_NAME = 60
"""Of an input, in a repr."""


class Policy:
    """What a guest sees of a CPU, from Xen 4.14 on: the records CPUID_POLICY and MSR_POLICY.
    Raises FormatError, when it is asked for, where one of them cannot be taken apart."""

    __slots__ = ("_image",)

    def __init__(self, image: Image) -> None:
        self._image = image

    def __repr__(self) -> str:
        return f"<policy: {len(self.leaves)} CPUID leaves, {len(self.msrs)} MSRs>"

    @property
    def cpuid(self) -> CpuidPolicy | None:
        """The CPUID record; None where the stream has none."""
        from hvmctx.stream.libxc import CpuidPolicy

        return self._image.last_body(CpuidPolicy)

    @property
    def msr(self) -> MsrPolicy | None:
        """The MSR record; None where the stream has none."""
        from hvmctx.stream.libxc import MsrPolicy

        return self._image.last_body(MsrPolicy)

    @property
    def leaves(self) -> list[tuple[int, int, int, int, int, int]]:
        """Rows of leaf, subleaf (0xffffffff for a leaf without), eax, ebx, ecx, edx."""
        return self.cpuid.leaves if self.cpuid else []

    @property
    def msrs(self) -> list[tuple[int, int, int]]:
        """Rows of index, flags (0), value."""
        return self.msr.msrs if self.msr else []


class Image(Index):
    """An opened image: the index of what lies where, and what it means.

    A context manager, which closes what was opened.

    >>> from hvmctx import open_image
    >>> with open_image("examples/hvm1.save") as image:
    ...     print(image)
    ...     print(image.release, len(image.policy.leaves), image.config["c_info"]["name"])
    ...     print([record.name for record in image.records[-3:]])
    ...     print(image.memory, image.memory.read(0xFFFFE, 4))  # stripped, so all zeros
    <Image 'examples/hvm1.save': xl, libxl, libxc, 16 records, of Xen 4.17>
    4.17 59 hvm1
    ['END', 'EMULATOR_CONTEXT', 'END']
    <Memory: 6144 pfns in 9 runs> b'\\x00\\x00\\x00\\x00'
    """

    def __init__(self, source: Source, layer: str) -> None:
        super().__init__(source, layer)
        self._context: HvmContext | None = None
        self._whole: bytes | memoryview | None = None
        """A bare context, once it has been read."""
        self._damage: FormatError | None = None
        """What is wrong with the context, once that is known."""
        self._memory: Memory | None = None

    def __repr__(self) -> str:
        layers = dict.fromkeys((self.format, *(header.layer for header in self.headers)))
        words = [", ".join(layers), f"{len(self.records)} records"]
        if self.xen_version is not None:
            words.append("of Xen {}.{}".format(*self.xen_version))
        if not self.complete:
            words.append("incomplete")
        return f"<Image {self.source.name[-_LONGEST_NAME:]!a}: {', '.join(words)}>"

    def __enter__(self) -> Image:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def decode(self, record: IndexedRecord) -> object:
        """What the body of a record means, to whoever registered a handler for its type
        first: see `image.handlers`."""
        from hvmctx.image import handlers

        return handlers.decode(record, self.body(record))

    def parse(self, record: IndexedRecord, kind: type[AnyBody]) -> AnyBody:
        """The body of a record as what it is declared as: a class of `stream.libxc` or
        `stream.libxl`. Raises FormatError for one that cannot be taken apart."""
        from hvmctx.image import handlers

        return handlers.parse_as(kind, record, self.body(record), self.limits)

    def bodies(self, kind: type[AnyBody]) -> list[AnyBody]:
        """All bodies of one kind that a restore acts on, in order."""
        records = self.effective_records(kind.TYPE.layer, kind.TYPE.number)
        return [self.parse(record, kind) for record in records]

    def last_body(self, kind: type[AnyBody]) -> AnyBody | None:
        """The last of them; None where there is none."""
        record = self.last(kind.TYPE.layer, kind.TYPE.number)
        return None if record is None else self.parse(record, kind)

    @property
    def context(self) -> HvmContext:
        """The context that a restore would load: the last. What is damaged of it becomes one
        of `problems`. Raises MissingRecordError when there is none, with the reason.

        It may be changed, but that changes only this object. `verify`, `would_restore`, `edit`
        and the like read the input; to write a changed one, use `edit`."""
        if self._context is None:
            self._context = self.read_context()
        return self._context

    def read_context(self) -> HvmContext:
        """The context of the input, taken apart anew: as `context` in all else."""
        from hvmctx.context.hvm_context import HvmContext

        data = self.context_bytes()
        if self.format == CONTEXT:
            return HvmContext.from_bytes(data, damaged=True, limits=self.limits)
        record = self._context_record()
        try:
            context = HvmContext.from_bytes(data, damaged=True, limits=self.limits)
        except FormatError as error:
            error.record = record.name
            raise error.moved(record.body_offset) from None
        if self._is_cut(record):
            context.damage = self.stopped
        elif context.damage is not None:
            if self._damage is None:
                self._damage = context.damage.moved(record.body_offset)
                self.problems.append(self._damage)
            context.damage = self._damage
        return context

    def context_bytes(self) -> bytes | memoryview:
        """The bytes of that context, as they are in the input: if it ends within them, those
        that are there. Raises MissingRecordError as `context` does."""
        if self.format == CONTEXT:
            if self._whole is None:
                self._whole = read_whole(self.source, layer=CONTEXT)
            return self._whole
        record = self._context_record()
        return self._what_there_is(record) if self._is_cut(record) else self.body(record)

    def _context_record(self) -> IndexedRecord:
        record = self.last(LIBXC, streams.LIBXC_HVM_CONTEXT)
        if record is None:
            raise MissingRecordError(self._why_no_context())
        return record

    def _is_cut(self, record: IndexedRecord) -> bool:
        return record.end > self.end and self.stopped is not None

    def _what_there_is(self, record: IndexedRecord) -> bytes | memoryview:
        if record.kept is not None:
            return record.kept
        if not self.source.seekable:
            return b""
        return self.source.read_at(record.body_offset, min(record.length, LARGEST_KEPT))

    def _why_no_context(self) -> str:
        if self.guest_type == streams.GUEST_X86_PV:
            return "no HVM context: this is the image of a PV guest, which has none"
        why = "no HVM_CONTEXT record in this image"
        return f"{why}: {self.problems[0]}" if self.problems else why

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
    def config(self) -> Json:
        """The guest's configuration out of an xl file: what its JSON is, or text. Of another
        wrapper what its description of the guest says, in the words of xl's JSON: the name, the
        uuid, the type, vcpus and memory. None when the image has none. Raises FormatError."""
        if self.format in _DESCRIBED:
            described = self.described
            return None if described is None else _config_of(self.format, described)
        header, text = self.header(XL), self.config_text
        if header is None or not text:
            return None
        from hvmctx.stream import xlfile

        return xlfile.config_from_bytes(text, header)

    @property
    def config_text(self) -> bytes:
        """The bytes of an xl file's configuration, as they are in the file. Raises FormatError."""
        header = self.header(XL)
        if header is None or not header.length:
            return b""
        from hvmctx.stream import xlfile

        return xlfile.config_text(self.data_of(header, "optional data"), header.body_offset)

    @property
    def xml(self) -> bytes:
        """The domain's XML out of a libvirt file: what libvirt reads of it, so without the NUL.
        Raises MissingRecordError, FormatError."""
        from hvmctx.stream.libvirt import text_of

        return text_of(self.xml_data())

    def xml_data(self) -> bytes | memoryview:
        """All bytes that a libvirt file has for it. Raises as `xml` does."""
        header = self.header(LIBVIRT)
        if header is None:
            raise MissingRecordError("the image has no XML: it is not a libvirt file")
        return self.data_of(header, "XML")

    @property
    def described(self) -> list[Place] | None:
        """The values of the guest's description, by their paths: those of the XML of a libvirt
        file, or of the guest in XAPI's Xenops record. None where there is none. Raises
        FormatError."""
        if self.header(LIBVIRT) is not None:
            from hvmctx.stream import libvirt

            header = self.headers[0]
            try:
                return libvirt.places(self.xml, self.limits)
            except FormatError as error:
                raise error.moved(header.body_offset) from None
        record = self.last(XAPI, streams.XAPI_XENOPS)
        if record is None:
            return None
        from hvmctx.stream import sexp, xapi

        try:
            vm = xapi.Xenops.from_text(self.body(record), self.limits).vm(self.limits)
        except FormatError as error:
            raise error.moved(record.body_offset) from None
        return None if vm is None else sexp.places(vm)

    @property
    def params(self) -> dict[int, int]:
        """HVM parameters, index -> value, later records over earlier ones."""
        from hvmctx.stream.libxc import HvmParams

        return dict(pair for body in self.bodies(HvmParams) for pair in body.params)

    @property
    def tsc_info(self) -> TscInfo | None:
        """How the guest's TSC is to be kept; None where the stream has no such
        record. Raises FormatError for one that cannot be taken apart."""
        from hvmctx.stream.libxc import TscInfo

        return self.last_body(TscInfo)

    @property
    def policy(self) -> Policy:
        """What the guest sees of its CPU: `.leaves` and `.msrs`."""
        return Policy(self)

    @property
    def emulators(self) -> list[EmulatorContext | QemuRecord]:
        """The device models' saved state, in order."""
        records = self.effective_records(*self.emulator_type)
        return [self._emulator(record) for record in records]

    @property
    def emulator_type(self) -> tuple[str, int]:
        """Layer and type of the records that hold it."""
        if self.format == XAPI:
            return XAPI, streams.XAPI_QEMU_TRAD
        return LIBXL, streams.LIBXL_EMULATOR_CONTEXT

    def _emulator(self, record: IndexedRecord) -> EmulatorContext | QemuRecord:
        from hvmctx.image import handlers

        parsed: EmulatorContext | QemuRecord
        parsed = handlers.parse(record, self.body(record), self.limits)
        return parsed

    @property
    def memory_map(self) -> MemoryMap:
        """Every pfn that the stream mentions: its last type, and where its page lies. Reads
        the page words, not the pages."""
        from hvmctx.image.memory_map import MemoryMap

        return MemoryMap.of_image(self)

    @property
    def memory(self) -> Memory:
        """The memory that a restore leaves the guest with: a map, and `memory.read`."""
        from hvmctx.image.memory_map import Memory

        if self._memory is None:
            self._memory = Memory(self, lambda: self.params)
        return self._memory

    @property
    def vcpus(self) -> GuestVcpus:
        """Those of `context.vcpus`, which also read the memory at their virtual addresses:
        `vcpus[0].read(address, size)`. Raises as `context` and `memory` do."""
        from hvmctx.image.vcpus import GuestVcpus

        return GuestVcpus(self.context, self.memory, lambda: self.policy.leaves, self.limits)


def open_image(
    target: Target,
    *,
    layer: str | None = None,
    keep_words: bool = False,
    watcher: Watcher | None = None,
    limits: Limits | None = None,
    seekable: bool = False,
) -> Image:
    """Open an image, stream, or bare context.

    `target` is a path, a buffer (never copied), a binary file object (read from where it
    stands; not closed), or a source. `layer` says what it starts with instead of looking; one of
    xl, xapi, libvirt, libxl, libxc, context, legacy. `keep_words` keeps the page words of an
    input that cannot be read twice (8 bytes a page), so that `memory_map` works on it. `watcher`
    is shown every header and record as it is read. `limits` say how much is taken of what an input
    claims (default: those of a source, or the defaults). With `seekable` an input that can be
    read only once is copied: a stream to a temporary file, a bare context into memory.

    Raises InputError when it cannot be opened, read or copied, FormatError when it is nothing
    that Xen saves, LimitError for a bare context that goes over a limit. Damage further in is
    in `problems`.

    >>> with open_image("examples/hvm1.save") as image:
    ...     print(hex(image.context.vcpus[0].cpu.rip), image.problems)
    0xb7b9 []
    """
    source = open_source(target, limits)
    try:
        layer = recognise(source, layer)
        if seekable:
            source = open_whole(source) if layer == CONTEXT else open_seekable(source)
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


def recognise(source: Source, layer: str | None = None) -> str:
    """The layer that a source starts with: as its first bytes say, or the one that is given.
    Raises FormatError for nothing that Xen saves, UsageError for an unknown layer."""
    if layer is not None:
        if layer not in streams.LAYERS:
            raise UsageError(f"unknown layer {layer!r}")
        return layer
    head = source.peek(detect.ENOUGH)
    if not head:
        source.raise_trouble()
    found = detect.detect(head)
    if found is None:
        raise FormatError(
            detect.other_format(head) or "nothing that Xen saves", layer="input", offset=0,
            found=head[:16].hex(" "),
            expected="an xl file, an XAPI suspend image, a libvirt file, a libxl or libxc stream, "
            "a legacy stream, or a context",
        )  # fmt: skip
    return found


_DESCRIBED = (XAPI, LIBVIRT)
"""Wrappers that describe the guest in words of their own."""


def _config_of(layer: str, described: list[Place]) -> Json:
    if layer == LIBVIRT:
        from hvmctx.stream import libvirt

        return libvirt.config_of(described)
    from hvmctx.stream import xapi

    return xapi.config_of(described)


def _index_context(image: Image) -> None:
    context = image.context
    if context.damage is not None:
        image.stop(context.damage)
    image.complete = context.damage is None
    image.end = context.size
    if context.has_end and len(context.tail):
        image.notes.append(
            Note(
                Note.TRAILING,
                CONTEXT,
                image.end,
                f"{len(context.tail)} bytes follow the END record",
            )
        )
