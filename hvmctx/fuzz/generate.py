"""Files for a test lab: well-formed but hostile contexts or images, with a manifest of what
each release does with them, as the model says."""

from __future__ import annotations

import json
import os

from hvmctx.abi import streams
from hvmctx.abi.releases import Release
from hvmctx.errors import HvmctxError, InputError, UsageError
from hvmctx.files.opening import open_seekable
from hvmctx.files.output import replacing
from hvmctx.fuzz import MANIFEST
from hvmctx.fuzz.contexts import mutate_context
from hvmctx.fuzz.streams import mutate_stream
from hvmctx.image.image import open_image
from hvmctx.restore.context import load
from hvmctx.restore.guest import MOST_VCPUS, Guest
from hvmctx.restore.image import would_restore
from hvmctx.restore.verdict import ACCEPT, REFUSE, Verdict
from hvmctx.stream.reader import LIBXC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from random import Random
    from typing import Any

    Verdicts = dict[str, dict[str, Any]]
    Loads = dict[str, tuple[Release, Guest]]

CONTEXT, IMAGE = "context", "image"
KINDS = (CONTEXT, IMAGE)
_SUFFIX = {CONTEXT: ".bin", IMAGE: ".xc"}
_MOST_TRIES = 1000


def context_verdicts(data: bytes, loads: Loads) -> Verdicts:
    """Release -> verdict, errno and rule of a load of this context."""
    return {name: _as_plain(load(data, *into)) for name, into in loads.items()}


def _as_plain(verdict: Verdict) -> dict[str, Any]:
    return {"verdict": verdict.verdict, "errno": verdict.errno, "rule": verdict.rule}


def stream_verdicts(data: bytes, loads: Loads, layer: str | None = None) -> Verdicts:
    """Release -> verdict of the toolstack's readers, and of the load if these accept it."""
    return {name: _as_plain(_restored(data, *into, layer)) for name, into in loads.items()}


def _restored(data: bytes, release: Release, guest: Guest, layer: str | None) -> Verdict:
    try:
        with open_image(data, layer=layer) as image:
            return would_restore(
                image, release, guest_of=lambda _: guest, kind=streams.GUEST_X86_HVM
            )
    except HvmctxError as error:  # no stream at all
        return Verdict(REFUSE, rule=type(error).__name__)


def variants(
    bases: Sequence[bytes], kind: str, rng: Random, layer: str | None = None
) -> Iterator[tuple[bytes, str]]:
    """Variants of the bases, no two alike, without end: (bytes, what was changed)."""
    mutate: Callable[..., tuple[bytes, str]] = mutate_context if kind == CONTEXT else mutate_stream
    seen = set(bases)
    while True:
        for _ in range(_MOST_TRIES):
            base = rng.choice(bases)
            made, what = mutate(base, rng) if kind == CONTEXT else mutate(base, rng, layer)
            if made not in seen:
                break
        else:
            raise UsageError("no further variants of these bases can be found")
        seen.add(made)
        yield made, what


def generate(
    directory: str,
    count: int,
    rng: Random,
    bases: Sequence[bytes],
    *,
    kind: str = CONTEXT,
    loads: Loads,
) -> int:
    """Write `count` variants and the manifest. Returns how many of them some release accepts.
    Raises InputError for a directory that is not empty, UsageError for an unknown kind."""
    if kind not in KINDS:
        raise UsageError(f"fuzz: unknown kind {kind!r}; expected {' or '.join(KINDS)}")
    if not bases:
        raise UsageError("fuzz: generate needs a base")
    try:
        os.makedirs(directory, exist_ok=True)
        if os.listdir(directory):
            raise InputError(f"{directory}: is not empty")
    except OSError as error:
        raise InputError(f"{directory}: {error.strerror}") from error
    judge_all = context_verdicts if kind == CONTEXT else stream_verdicts
    accepted, lines = 0, []
    for number, (data, what) in enumerate(variants(bases, kind, rng)):
        if number == count:
            break
        name = f"{number:06}{_SUFFIX[kind]}"
        with replacing(os.path.join(directory, name)) as out:
            out.write(data)
        expected = judge_all(data, loads)
        accepted += any(verdict["verdict"] == ACCEPT for verdict in expected.values())
        lines.append(json.dumps({"name": name, "changed": what, "expected": expected}))
    with replacing(os.path.join(directory, MANIFEST)) as out:
        out.write("".join(f"{line}\n" for line in lines).encode())
    return accepted


def bases_of(paths: Sequence[str], kind: str) -> list[bytes]:
    """The contexts, or the libxc streams, in files, pipes or compressed files. Raises
    FormatError, InputError, and UsageError for a file without a whole libxc stream."""
    found = []
    for path in paths:
        with open_image(path if kind == CONTEXT else open_seekable(path)) as image:
            if kind == CONTEXT:
                found.append(image.read_context().to_bytes())
            else:
                header = image.header(LIBXC, "image header")
                ends = image.records_of(LIBXC, streams.LIBXC_END)
                if header is None or not ends:
                    raise UsageError(f"{path}: has no complete libxc stream")
                size = ends[0].end - header.offset
                found.append(bytes(image.source.read_at(header.offset, size)))
    return found


def loads_of(releases: Sequence[str], policy: str | None, vcpus: int | None) -> Loads:
    """Name -> what to load into: each release, with the guest of an image."""
    if policy is None:
        guest = Guest(vcpus=vcpus or MOST_VCPUS)
    else:
        with open_image(policy) as image:
            guest = Guest.of_image(image, vcpus)
    return {name: (Release(name), guest) for name in releases}


__all__ = [
    "CONTEXT", "IMAGE", "KINDS", "MANIFEST", "bases_of", "context_verdicts",
    "generate", "loads_of", "stream_verdicts", "variants",
]  # fmt: skip
