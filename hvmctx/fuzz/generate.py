"""Files for a test lab: well-formed but hostile contexts, images or CPU policies, with a manifest
of what each release does with them, as the model says."""

from __future__ import annotations

import json
import os
from itertools import islice

from hvmctx.abi import streams
from hvmctx.abi.releases import Release
from hvmctx.errors import HvmctxError, InputError, UsageError
from hvmctx.files.output import replacing, sweep
from hvmctx.fuzz import MANIFEST
from hvmctx.fuzz.contexts import mutate_context, mutate_record, valid_context
from hvmctx.fuzz.policies import mutate_policy
from hvmctx.fuzz.steering import Steering, unlike
from hvmctx.fuzz.streams import mutate_stream
from hvmctx.image.image import open_image
from hvmctx.restore.context import load
from hvmctx.restore.guest import Guest
from hvmctx.restore.image import would_restore
from hvmctx.restore.machine import Machine
from hvmctx.restore.policy_forms import from_pol
from hvmctx.restore.policy_rules import COMPATIBLE, ROWS, set_policy
from hvmctx.restore.verdict import ACCEPT, REFUSE, Verdict
from hvmctx.stream.reader import LIBXC
from hvmctx.verify.registry import rules
from hvmctx.verify.views import RESTORE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from random import Random
    from typing import Any

    from hvmctx.files.access import Access
    from hvmctx.fuzz.steering import Make
    from hvmctx.restore.host import Host

    Verdicts = dict[str, dict[str, Any]]
    Loads = dict[str, tuple[Release, Guest, Machine]]

CONTEXT, IMAGE, POLICY = "context", "image", "policy"
KINDS = (CONTEXT, IMAGE, POLICY)
_SUFFIX = {CONTEXT: ".bin", IMAGE: ".xc", POLICY: ".pol"}
_AIMED = {CONTEXT: 40, IMAGE: 4, POLICY: 20}
"""Variants of which one is to reach a rule."""
_REFUSING = 8
"""Types of record that a guest may refuse of a context made for one with all devices."""


def context_verdicts(data: bytes, loads: Loads) -> Verdicts:
    """Release -> verdict, errno and rule of a load of this context."""
    return {name: _as_plain(load(data, *into)) for name, into in loads.items()}


def _as_plain(verdict: Verdict) -> dict[str, Any]:
    return {"verdict": verdict.verdict, "errno": verdict.errno, "rule": verdict.rule}


def stream_verdicts(data: bytes, loads: Loads, layer: str | None = None) -> Verdicts:
    """Release -> verdict of the toolstack's readers, and of the load if these accept it."""
    return {name: _as_plain(_restored(data, *into, layer)) for name, into in loads.items()}


def _restored(
    data: bytes, release: Release, guest: Guest, machine: Machine, layer: str | None
) -> Verdict:
    try:
        with open_image(data, layer=layer) as image:
            return would_restore(
                image, release, machine, guest_of=lambda _: guest, kind=streams.GUEST_X86_HVM
            )
    except HvmctxError as error:  # no stream at all
        return Verdict(REFUSE, rule=type(error).__name__)


def policy_verdicts(data: bytes, host: Host, loads: Loads) -> Verdicts:
    """Release -> what it makes of a policy that is set on a new guest of a host; a refusal with
    what the hypervisor names."""
    found: Verdicts = {}
    for name, (release, _, _) in loads.items():
        outcome = set_policy(host.new_domain(release), host.for_guests(), *from_pol(data))
        found[name] = {
            "verdict": REFUSE if outcome.rule else ACCEPT, "errno": outcome.errno,
            "rule": outcome.rule.id if outcome.rule else "", "leaf": outcome.leaf,
            "subleaf": outcome.subleaf, "msr": outcome.msr, "lost": outcome.lost,
        }  # fmt: skip
    return found


def variants(
    bases: Sequence[bytes], kind: str, rng: Random, layer: str | None = None
) -> Iterator[tuple[bytes, str]]:
    """Variants of the bases, no two alike, without end: (bytes, what was changed)."""
    make = _maker(bases, kind, rng, layer)
    seen = set(bases)
    while True:
        made, what = unlike(seen, make)
        seen.add(made)
        yield made, what


def _maker(bases: Sequence[bytes], kind: str, rng: Random, layer: str | None = None) -> Make:
    """What makes a variant of one of the bases; of a context, if it is given the name of a
    record, one with an edit of such a record."""

    def make(record: str | None = None) -> tuple[bytes, str]:
        base = rng.choice(bases)
        if kind == POLICY:
            return mutate_policy(base, rng)
        if kind != CONTEXT:
            return mutate_stream(base, rng, layer)
        return mutate_context(base, rng) if record is None else mutate_record(base, rng, record)

    return make


def _rules_of(kind: str, release: Release) -> dict[str, str]:
    """The rules by which a release refuses such files, and what each is about."""
    if kind == POLICY:
        of_policies = (*ROWS, *(rule for rule, _ in COMPATIBLE))
        return {rule.id: rule.record for rule in of_policies if release in rule.releases}
    layers = (CONTEXT,) if kind == CONTEXT else (LIBXC, CONTEXT)
    found = (r for r in rules(RESTORE, *layers) if r.predicate is not None and not r.harms)
    return {rule.id: rule.record for rule in found if release in rule.releases}


def valid_bases(rng: Random, loads: Loads) -> list[bytes]:
    """Contexts that are loaded into the guests of `loads`, by as many of them as there are
    any. A record that a guest refuses, such as of a device that it does not have, is left
    out."""
    made = []
    for release, guest, machine in loads.values():
        for _ in range(4):
            vcpus = min(rng.choice((1, 1, 2, 3)), guest.vcpus)
            context = valid_context(rng, release, vcpus)
            for _ in range(_REFUSING):
                verdict = load(context.to_bytes(), release, guest, machine)
                if verdict.accepted:
                    break
                context.entries = [r for r in context.entries if r.name != verdict.record]
            made.append(context.to_bytes())
    taken = [sum(load(data, *into).accepted for into in loads.values()) for data in made]
    return [data for data, count in zip(made, taken) if count == max(taken)]


def generate(
    directory: str,
    count: int,
    rng: Random,
    bases: Sequence[bytes],
    *,
    kind: str = CONTEXT,
    loads: Loads,
    host: Host | None = None,
    like: Sequence[Access | None] = (),
) -> Steering:
    """Write `count` variants and the manifest, which only those may read who may read the
    files of `like`, the bases'. What is returned says which rules of each release they reach, as
    far as possible each about as often. CPU policies are set on new guests of `host`. Raises
    InputError for a directory that is not empty, UsageError for an unknown kind."""
    if kind not in KINDS:
        raise UsageError(f"fuzz: unknown kind {kind!r}; expected {' or '.join(KINDS)}")
    if not bases:
        raise UsageError("fuzz: generate needs a base")
    try:
        os.makedirs(directory, exist_ok=True)
        sweep(directory)
        if os.listdir(directory):
            raise InputError(f"{directory}: is not empty")
    except OSError as error:
        raise InputError(f"{directory}: {error.strerror}") from error

    def judge(data: bytes) -> Verdicts:
        if kind == POLICY and host is not None:
            return policy_verdicts(data, host, loads)
        return (context_verdicts if kind == CONTEXT else stream_verdicts)(data, loads)

    steering = Steering(
        _maker(bases, kind, rng), judge,
        {name: _rules_of(kind, release) for name, (release, _, _) in loads.items()}, rng,
        tries=_AIMED[kind], given=bases,
    )  # fmt: skip
    lines = []
    for number, (data, what, expected) in enumerate(islice(steering, count)):
        name = f"{number:06}{_SUFFIX[kind]}"
        with replacing(os.path.join(directory, name), like=like, tidy=False) as out:
            out.write(data)
        lines.append(json.dumps({"name": name, "changed": what, "expected": expected}))
    with replacing(os.path.join(directory, MANIFEST), like=like, tidy=False) as out:
        out.write("".join(f"{line}\n" for line in lines).encode())
    return steering


def bases_of(
    paths: Sequence[str], kind: str, like: list[Access | None] | None = None
) -> list[bytes]:
    """The contexts, or the libxc streams, in files, pipes or compressed files; `like` gets to
    know who may read them. Raises FormatError, InputError, and UsageError for a file without a
    whole libxc stream."""
    found = []
    for path in paths:
        with open_image(path, seekable=kind != CONTEXT) as image:
            if like is not None:
                like.append(image.source.access)
            if kind == CONTEXT:
                found.append(bytes(image.context_bytes()))
            else:
                header = image.header(LIBXC, "image header")
                ends = image.records_of(LIBXC, streams.LIBXC_END)
                if header is None or not ends:
                    raise UsageError(f"{path}: has no complete libxc stream")
                size = ends[0].end - header.offset
                found.append(bytes(image.source.read_at(header.offset, size)))
    return found


def loads_of(
    releases: Sequence[str], guest: Guest | None = None, vendor: str | None = None
) -> Loads:
    """Name -> what to load into: each release, with that guest (by default one that has
    everything), on a machine of that vendor, by default that of the guest's policy."""
    guest = guest or Guest()
    return {name: (Release(name), guest, Machine(vendor=vendor)) for name in releases}


__all__ = [
    "CONTEXT", "IMAGE", "KINDS", "MANIFEST", "POLICY", "bases_of", "context_verdicts", "generate",
    "loads_of", "policy_verdicts", "stream_verdicts", "valid_bases", "variants",
]  # fmt: skip
