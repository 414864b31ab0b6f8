"""What a restore of a whole image does: the toolstack reads the streams, then the
hypervisor loads the context."""

from __future__ import annotations

from hvmctx.abi import streams
from hvmctx.restore.context import load
from hvmctx.restore.host import Host
from hvmctx.restore.stream import judge
from hvmctx.restore.verdict import ACCEPT, Verdict
from hvmctx.stream.reader import CONTEXT, LEGACY, LIBXC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from hvmctx.abi.releases import Release
    from hvmctx.image.image import Image
    from hvmctx.restore.stream import StreamJudge


def judge_image(
    image: Image,
    release: Release,
    host_of: Callable[[Image, Release], Host] = Host.of_image,
    *,
    guest: int | None = None,
    checkpointed: bool = False,
    reader: StreamJudge | None = None,
) -> Verdict:
    """What the restore of an image by this release ends in: streams first, then the
    context; a PV guest has none, and a bare context no streams. Offsets are the image's.

    `host_of` gives what the load depends on, by default what the image says; it is asked
    only once the streams have been taken, as what they carry may not be readable before.
    `guest` and `checkpointed` are those of `restore.stream.judge`, as is what the image must
    be; `reader` has watched it being opened, and then judges in their place.

    Raises UnsupportedError for a legacy stream (Xen 4.5 or older), FormatError for a
    configuration that none can be read of, and what `host_of` raises.
    """
    if image.format == LEGACY:
        image.raise_stopped()
    if image.format == CONTEXT:
        return load(image.context.to_bytes(), host_of(image, release))
    if reader is None:
        refusal = judge(image, release, guest=guest, checkpointed=checkpointed)
    else:
        refusal = reader.end(image)
    if refusal is not None:
        return refusal
    if image.guest_type == streams.GUEST_X86_PV:
        return Verdict(ACCEPT)
    host = host_of(image, release)
    record = image.last(LIBXC, streams.LIBXC_HVM_CONTEXT)
    if record is None:  # the hypervisor is then asked to load nothing
        return load(b"", host)
    return load(image.body(record), host).moved(record.body_offset)
