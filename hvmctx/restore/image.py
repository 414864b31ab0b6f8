"""What a restore of a whole image does: the toolstack reads the streams, then the
hypervisor loads the context."""

from __future__ import annotations

from hvmctx.abi import streams
from hvmctx.abi.releases import Release
from hvmctx.context.hvm_context import HvmContext
from hvmctx.errors import LimitError
from hvmctx.image.image import Image, open_image
from hvmctx.restore.context import load
from hvmctx.restore.context import remedy as mended
from hvmctx.restore.guest import Guest
from hvmctx.restore.machine import Machine
from hvmctx.restore.stream import StreamJudge, judge, replay
from hvmctx.restore.verdict import ACCEPT, Verdict
from hvmctx.stream.reader import CONTEXT, LEGACY, LIBXC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from hvmctx.buffers import AnyBuffer
    from hvmctx.restore.rules import Change


def would_restore(
    image: Image | HvmContext | AnyBuffer,
    release: Release | str,
    machine: Machine | None = None,
    *,
    guest_of: Callable[[Image], Guest] = Guest.of_image,
    kind: int | None = None,
    checkpointed: bool = False,
    reader: StreamJudge | None = None,
) -> Verdict:
    """The verdict of a restore of an image by this release: of the streams first, then of the
    context. A PV guest has no context, and a bare context has no streams. `image` may also be
    a context, or the bytes of either. Offsets are those of the image.

    `machine` is what the restore runs on, by default one that has everything. `guest_of`
    returns the guest that the context is loaded into, by default the image's own; it is
    called only after the streams are accepted, as it may not be able to read them otherwise.
    `kind`, `checkpointed` and what the image must be are as for `restore.stream.judge`. A
    `reader` is one that has watched the image being opened, and judges instead.

    Raises UsageError for an unknown release, UnsupportedError for a legacy stream (Xen 4.5 or
    older), LimitError where an image goes over a limit, as the rest of it is unknown,
    FormatError for a configuration that cannot be read, and what `guest_of` raises.

    >>> from hvmctx import edit, open_image
    >>> with open_image("examples/hvm1.save") as image:
    ...     print(would_restore(image, "4.17"))
    ...     editor = edit(image)
    ...     editor.set("CPU/0.cr4", 1 << 40)
    ...     editor.write("mutant.save")
    accept
    >>> with open_image("mutant.save") as image:
    ...     would_restore(image, "4.17").rule
    'cpu-cr4'
    """
    release = Release(release)
    if isinstance(image, HvmContext):
        image = open_image(image.to_bytes(), layer=CONTEXT)
    elif not isinstance(image, Image):
        image = open_image(image)
    if image.format == LEGACY or isinstance(image.stopped, LimitError):
        image.raise_stopped()
    limits = image.limits
    if image.format == CONTEXT:
        return load(image.context_bytes(), release, guest_of(image), machine, limits)
    if reader is None:
        refusal = judge(image, release, kind=kind, checkpointed=checkpointed)
    else:
        refusal = reader.end(image)
    if refusal is not None:
        return refusal
    if image.guest_type == streams.GUEST_X86_PV:
        return Verdict(ACCEPT)
    guest = guest_of(image)
    record = image.last(LIBXC, streams.LIBXC_HVM_CONTEXT)
    if record is None:  # the hypervisor is then asked to load nothing
        return load(b"", release, guest, machine)
    try:
        verdict = load(image.body(record), release, guest, machine, limits)
    except LimitError as error:
        error.record = record.name
        raise error.moved(record.body_offset) from None
    return verdict.moved(record.body_offset)


def remedy(
    image: Image,
    release: Release,
    machine: Machine | None = None,
    *,
    guest_of: Callable[[Image], Guest] = Guest.of_image,
) -> tuple[str, list[Change]] | None:
    """What mends the refusal that `would_restore` gives for the same arguments: what is done and
    what is lost, in words, and the steps; None where there is no remedy."""
    if image.format == CONTEXT:
        return mended(image.context_bytes(), release, guest_of(image), machine, image.limits)
    judging = StreamJudge(release)
    replay(image, judging)
    if judging.end(image) is not None:
        return judging.remedy()
    record = image.last(LIBXC, streams.LIBXC_HVM_CONTEXT)
    body = b"" if record is None else image.body(record)
    return mended(body, release, guest_of(image), machine, image.limits)


JUST_A_CONTEXT = "the HVM context alone"


def what_is_judged(image: Image) -> str:
    """What of an image a restore comes to, in words."""
    if image.format == CONTEXT:
        return JUST_A_CONTEXT
    words = f"the streams of the {image.format} image"
    has_context = image.last(LIBXC, streams.LIBXC_HVM_CONTEXT) is not None
    return f"{words} and its HVM context" if has_context else words


__all__ = ["JUST_A_CONTEXT", "remedy", "what_is_judged", "would_restore"]
