"""Say what Xen would do with an image, or with a bare HVM context: restore it, and what it
changes, or refuse it, and by which rule. Of an image the streams are judged as the
toolstack of the release reads them, then the context as the hypervisor loads it.

Of several inputs, and of all files in a directory, each gets a line, in order, as soon as
it is judged. With --format ndjson a line is an object with `input`, `verdict` (accept,
refuse, violation or unreadable), `errno`, `rule`, `layer`, `record`, `instance`, `offset`,
`text`, `applied` and `hazards`; with --host also with `lost` and `blocking` (features of the CPU,
by name) and `findings`. As text the last line says what was judged, and for which release. The
exit status is 0 if all are accepted, 2 if one cannot be read, else 1."""

from __future__ import annotations

from hvmctx import messages
from hvmctx.abi.releases import NEWEST, SPAN, Release
from hvmctx.commands import inputs
from hvmctx.errors import FormatError, HvmctxError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Iterator

    from hvmctx.image.image import Image
    from hvmctx.restore.guest import Guest
    from hvmctx.restore.host import Host
    from hvmctx.restore.placing import Placement
    from hvmctx.restore.verdict import Verdict

    Judge = Callable[[str], tuple[Verdict, Placement | None, str]]
    GuestOf = Callable[[Image], Guest]

__all__ = ["EXAMPLES", "HELP", "UNREADABLE", "add_arguments", "run"]

HELP = "say whether Xen would restore it, and if not, why"
EXAMPLES = (
    "hvmctx restore guest.save --release 4.17",
    "hvmctx restore guest.hvm --vcpus 1 --format json",
    "hvmctx restore guest.hvm guest.save --policy guest.save --format ndjson  # directories too",
    "hvmctx restore guest.save --host host.json  # on that host: what is missing, what is lost",
    "hvmctx restore --explain cpu-efer",
)
_UNREADABLE = "unreadable"
"""In place of a verdict, of one of several inputs."""
_ACCEPTED, _REFUSED, UNREADABLE = 0, 1, 2


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "input", metavar="INPUT", nargs="*",
        help="as for dump; several are judged one after the other, and all files in a directory",
    )  # fmt: skip
    inputs.add_judged(parser)
    parser.add_argument(
        "--format", choices=("text", "json", "ndjson"), default="text",
        help="json is for one INPUT; ndjson has an object a line for any number",
    )  # fmt: skip
    parser.add_argument(
        "--release", metavar="RELEASE", help=f"which Xen, {SPAN} or newest (default: newest)"
    )
    inputs.add_host(parser)
    parser.add_argument(
        "--policy", metavar="IMAGE", help="take the guest's CPU policy and devices from this image"
    )


def run(args: Namespace) -> int:
    if not inputs.check_judged(args, "restore"):
        return _ACCEPTED
    if [*args.input, args.policy, args.host].count("-") > 1:
        raise UsageError("restore: standard input can be read only once")
    host = inputs.host_asked(args)
    release = Release(args.release or (host and host.release) or NEWEST)
    if args.format == "ndjson" or len(args.input) > 1 or inputs.is_directory(args.input[0]):
        return _run_many(args, release, host)
    from hvmctx.restore.image import JUST_A_CONTEXT

    judge = _judge(args, release, host, _guest_of(args))
    verdict, placement, what = judge(args.input[0])
    if args.format == "json":
        messages.show_json((placement or verdict).as_dict())
    else:
        if verdict.accepted:
            would = "load this context" if what == JUST_A_CONTEXT else "restore this image"
            messages.show(f"{verdict.headline}: Xen {release} would {would}")
            for change in verdict.applied:
                messages.show(f"  {change}")
        else:
            messages.show(f"{verdict.verdict}: Xen {release}: {verdict.why}")
        for hazard in verdict.hazards:
            messages.show(f"  hazard: {hazard.why}")
        for finding in placement.findings if placement else ():
            messages.show(f"  {finding.severity}: {finding.text} [{finding.rule}]")
        messages.show(f"judged: {what}, as restored by {_where(release, host, args)}")
    return _ACCEPTED if verdict.accepted else _REFUSED


def _where(release: Release, host: Host | None, args: Namespace) -> str:
    return f"Xen {release}" + ("" if host is None else f" on the host of {args.host}")


def _run_many(args: Namespace, release: Release, host: Host | None) -> int:
    """A line for each input. Nothing is kept of it."""
    if args.format == "json":
        raise UsageError("restore: --format json takes one file; ndjson takes any number")
    judge = _judge(args, release, host, _guest_read_once(args))
    line_of = _as_ndjson if args.format == "ndjson" else _as_text
    status = _ACCEPTED
    counts: dict[str, int] = {}
    for name, verdict, placement in _verdicts(args, judge):
        messages.show(line_of(name, verdict, placement))
        counts[verdict.verdict] = counts.get(verdict.verdict, 0) + 1
        status = max(status, _STATUS.get(verdict.verdict, _REFUSED))
    if args.format == "text":
        found = ", ".join(f"{number} {_SAID.get(kind, kind)}" for kind, number in counts.items())
        messages.show(
            f"judged: {sum(counts.values())} inputs, "
            f"as restored by {_where(release, host, args)}: {found}"
        )
    return status


_SAID = {"accept": "accepted", "refuse": "refused"}
"""Of a number of inputs."""
_STATUS = {"accept": _ACCEPTED, _UNREADABLE: UNREADABLE}
"""Of one verdict; of all others `_REFUSED`."""


def _verdicts(args: Namespace, judge: Judge) -> Iterator[tuple[str, Verdict, Placement | None]]:
    """(input, verdict) of each input and of each file in a directory; an error counts as one."""
    for name in args.input:
        paths = [name]
        if inputs.is_directory(name):
            try:
                paths = inputs.files_in(name)
            except HvmctxError as error:
                yield name, _unreadable(error), None
                continue
        for path in paths:
            try:
                verdict, placement, _ = judge(path)
            except (HvmctxError, OSError) as error:
                verdict, placement = _unreadable(error), None
            yield path, verdict, placement


def _unreadable(error: Exception) -> Verdict:
    from hvmctx.restore.verdict import Verdict

    if not isinstance(error, FormatError):
        return Verdict(_UNREADABLE, text=str(error), layer="")
    return Verdict(_UNREADABLE, text=str(error), layer=error.layer, offset=error.offset)


def _as_ndjson(name: str, verdict: Verdict, placement: Placement | None) -> str:
    import json

    return json.dumps({"input": name, **(placement or verdict).as_dict()})


def _as_text(name: str, verdict: Verdict, placement: Placement | None) -> str:
    if verdict.verdict == _UNREADABLE:
        return f"{name}: {_UNREADABLE}: {verdict.text.removeprefix(f'{name}: ')}"
    losses = f"; {placement.in_short}" if placement and placement.in_short else ""
    return f"{name}: {verdict}{losses}"


def _judge(args: Namespace, release: Release, host: Host | None, guest_of: GuestOf) -> Judge:
    """What gives the verdict of an input on the machine and for the guest of the arguments, and
    says what of the input was judged. Streams are judged while they are read, as the page words of
    a pipe may be too many to be kept."""
    from hvmctx.restore.image import what_is_judged, would_restore
    from hvmctx.restore.machine import Machine
    from hvmctx.restore.stream import StreamJudge

    patched = inputs.patched_xen(args)

    def judge(name: str) -> tuple[Verdict, Placement | None, str]:
        reader = StreamJudge(release, checkpointed=args.checkpointed)
        with inputs.open_named(args, name, keep_words=True, watcher=reader) as image:
            if host is None:
                verdict = would_restore(
                    image, release, Machine(vmport=patched), guest_of=guest_of, reader=reader
                )
                return verdict, None, what_is_judged(image)
            from hvmctx.restore.placing import place

            placement = place(
                image, host, release, guest_of=guest_of, reader=reader, vmport=patched
            )
            return placement.verdict, placement, what_is_judged(image)

    return judge


def _guest_of(args: Namespace) -> GuestOf:
    """The guest to load into: that of --policy's image, or of the one to restore."""
    from functools import partial

    from hvmctx.restore.guest import Guest

    if args.policy is None:
        return partial(Guest.of_image, vcpus=args.vcpus)
    return lambda _: inputs.guest_of_policy(args, "restore")


def _guest_read_once(args: Namespace) -> GuestOf:
    """As `_guest_of`, but --policy is read now, so that its error is not that of every input.
    Raises UsageError for it."""
    if args.policy is None:
        return _guest_of(args)
    try:
        guest = inputs.guest_of_policy(args, "restore")
    except UsageError:
        raise
    except HvmctxError as error:
        raise UsageError(f"restore --policy: {error}") from error
    return lambda _: guest
