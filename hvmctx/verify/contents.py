"""What is wrong inside of a device model's file that holds an HVM context or a VMPORT record,
and with what handlers of other packages decode, by their own rules. What cannot be read is none of
this: the other tables say it."""

from __future__ import annotations

from hvmctx.abi import streams
from hvmctx.abi.declare import VMPORT_TYPECODE
from hvmctx.context.hvm_context import HvmContext
from hvmctx.errors import FormatError, InputError, MissingRecordError
from hvmctx.findings import ERROR, SEVERITIES, WARNING, Finding
from hvmctx.image import handlers
from hvmctx.stream.libxl import EmulatorContext
from hvmctx.stream.reader import CONTEXT, LIBXC, LIBXL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvmctx.abi.vmport import VmportProfile
    from hvmctx.image.image import Image
    from hvmctx.image.index import IndexedRecord

__all__ = ["findings_of"]

_HEAD = EmulatorContext.TYPE.head.size
"""Bytes of an EMULATOR_CONTEXT before the device model's file."""


def findings_of(image: Image, vmport: VmportProfile | None, *, strict: bool) -> list[Finding]:
    """`strict`: what is questionable in a context inside, too."""
    found: list[Finding] = []
    for record, _ in image.records.rows():
        try:
            if (record.layer, record.type) == _EMULATOR:
                found += _of_emulator(image, record, vmport, strict)
            elif not record.known:
                handler = handlers.handler_of(record.layer, record.type)
                if handler is not None:
                    body, at = image.body(record), record.body_offset
                    found += _of_handler(handler, body, record.layer, at, record.name)
        except (FormatError, InputError, MissingRecordError):  # a finding of others
            continue
    try:
        found += _of_records(image)
    except (FormatError, InputError, MissingRecordError):
        return found
    return found


_EMULATOR = (LIBXL, streams.LIBXL_EMULATOR_CONTEXT)


def _of_records(image: Image) -> Iterator[Finding]:
    """Of the context's own records."""
    whole = image.last(LIBXC, streams.LIBXC_HVM_CONTEXT)
    if image.format != CONTEXT and whole is None:
        return
    base = 0 if whole is None else whole.body_offset
    context = HvmContext.from_bytes(image.context_bytes(), damaged=True, limits=image.limits)
    for record in context.entries:
        handler = handlers.handler_of(CONTEXT, record.typecode) if record.type is None else None
        if handler is not None:
            name = f"{record.name}/{record.instance}"
            body, at = bytes(record.body), base + (record.offset or 0)
            yield from _of_handler(handler, body, CONTEXT, at, name)


def _of_emulator(
    image: Image, record: IndexedRecord, vmport: VmportProfile | None, strict: bool
) -> list[Finding]:
    emulator = image.parse(record, EmulatorContext)
    payload, name, offset = bytes(emulator.payload), record.name, record.body_offset + _HEAD
    content = handlers.content_of(emulator.emulator_id, payload, image.limits)
    if isinstance(content, handlers.Guarded):
        return _of_handler(content, payload, LIBXL, offset, name)
    if not isinstance(content, HvmContext):
        return []
    found = _of_context(content, offset, vmport)
    if not strict:
        found = [finding for finding in found if finding.severity == ERROR]
    if content.damage is not None and not _is_vmport(content):
        damage = content.damage.moved(offset)
        found.append(
            Finding(WARNING, "stream-damaged", damage.problem, layer=CONTEXT, offset=damage.offset)
        )
    for finding in found:
        finding.record = f"{name}: {finding.record}" if finding.record else name
    return found


def _is_vmport(content: HvmContext) -> bool:
    """Whether it is a VMPORT record, and no whole context."""
    return bool(content.entries) and content.entries[0].typecode == VMPORT_TYPECODE


def _of_context(content: HvmContext, offset: int, vmport: VmportProfile | None) -> list[Finding]:
    if not _is_vmport(content):
        from hvmctx.verify.strict_context import findings_of as questionable

        return questionable(content, offset, vmport)
    from hvmctx.restore.vmport import findings_of as of_vmport

    return [
        finding
        for record in content.records(VMPORT_TYPECODE)
        for finding in of_vmport(record.to_bytes(), vmport, offset + (record.offset or 0))
    ]


def _of_handler(
    handler: handlers.Guarded, body: bytes | memoryview, layer: str, offset: int, name: str
) -> list[Finding]:
    try:
        found = handler.findings(body)
    except FormatError as error:
        text, at = error.problem, offset + max(0, error.offset)
        return [Finding(ERROR, "stream-damaged", text, layer=layer, offset=at, record=name)]
    return [
        Finding(
            severity if severity in SEVERITIES else ERROR, rule, text, layer=layer, offset=offset,
            record=name,
        )
        for severity, rule, text in found
    ]  # fmt: skip
