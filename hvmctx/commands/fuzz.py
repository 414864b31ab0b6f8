"""Fuzz restore bounds. run: a target on given files, for any fuzzing engine. campaign: our own
engine, for some time, with a corpus. diff: the model against another loader. generate: hostile
files, and what each release should do with them."""

from __future__ import annotations

import sys

from hvmctx import messages
from hvmctx.commands import inputs
from hvmctx.errors import UsageError
from hvmctx.fuzz import NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterable, Iterator
    from random import Random

    from hvmctx.files.access import Access
    from hvmctx.fuzz.differential import Disagreement, Loader
    from hvmctx.fuzz.generate import Loads
    from hvmctx.fuzz.hypervisor import Journal
    from hvmctx.fuzz.target import Target
    from hvmctx.live.xen import Xen
    from hvmctx.restore.guest import Guest
    from hvmctx.restore.host import Host

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "fuzz restore bounds: run, campaign, diff, generate"
EXAMPLES = (
    "hvmctx fuzz run context guest.hvm",
    "hvmctx fuzz run stream - < guest.xc",
    "hvmctx fuzz campaign --target vmport --corpus corpus --executions 500",
    "hvmctx fuzz campaign --target edit --corpus corpus --time 2s --jobs 2 --html edit.html",
    "hvmctx fuzz diff --against c-reference --count 1000",
    "hvmctx fuzz diff --kind context --count 20 --against 'command:hvmctx restore {}'",
    "hvmctx fuzz diff --kind context --count 20 --against lab",
    "hvmctx fuzz generate --count 20 --release 4.17 --vcpus 2 --vendor intel -o contexts",
    "hvmctx fuzz generate --kind image --base guest.xc --release 4.17 --count 20 -o images",
)
_C_REFERENCE = "c-reference"


def add_arguments(parser: ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, text: str) -> ArgumentParser:
        return actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")

    _add_run(action("run", "run a target on files; exit with 1 at the first finding"))
    _add_campaign(action("campaign", "fuzz a target for some time, with a corpus"))
    _add_diff(action("diff", "compare the model with another loader"))
    _add_generate(action("generate", "write hostile files, and a manifest of their verdicts"))


def _add_run(parser: ArgumentParser) -> None:
    parser.add_argument("target", metavar="TARGET", help=f"one of {', '.join(NAMES)}")
    parser.add_argument("files", metavar="FILE", nargs="+", help="- is standard input")
    inputs.add_limits(parser)


def _add_campaign(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--target", required=True, metavar="TARGET", help=f"one of {', '.join(NAMES)}"
    )
    parser.add_argument("--corpus", required=True, metavar="DIR", help="created, or continued")
    parser.add_argument("--time", metavar="N[s|m|h]", help="how long (default: 1m)")
    parser.add_argument(
        "--executions", type=int, metavar="N", help="how many inputs, instead of --time"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="how many processes")
    _add_seed(parser)
    parser.add_argument("--json", metavar="FILE", help="write the summary as JSON")
    parser.add_argument("--html", metavar="FILE", help="write the summary as a page")


def _add_diff(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--against", metavar="c-reference|command:COMMAND|domain:DOMID|lab", default=_C_REFERENCE,
        help="our C reference under AddressSanitizer (the default); a program that takes a file "
        "(as {}, or last) and exits with 0 if it would restore it; or the hypervisor of this "
        "machine, which that may bring down: a paused domain, or a new one",
    )  # fmt: skip
    parser.add_argument(
        "--kind", choices=("vmport", "context", "image"), default="vmport",
        help="what to try: VMPORT records (default), contexts, or streams",
    )  # fmt: skip
    parser.add_argument(
        "--count", type=int, default=10000, metavar="N", help="how many (default: 10000)"
    )
    _add_seed(parser)
    parser.add_argument(
        "--base", action="append", default=[], metavar="FILE",
        help="vary this image, context or record (default: made-up ones); may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--output",
        "-o",
        metavar="DIR",
        default="disagreements",
        help="where to save a disagreement",
    )
    parser.add_argument(
        "--source", metavar="FILE",
        help="compile this loader in C instead of the C reference, which is for vmport alone",
    )  # fmt: skip
    parser.add_argument(
        "--resume", action="store_true",
        help="of a hypervisor: go on after a crash, and blame the last input for it",
    )  # fmt: skip
    parser.add_argument(
        "--dangerous", action="store_true",
        help="of a hypervisor: try what it should die of, too, as far as the model knows",
    )  # fmt: skip
    inputs.add_vmport_profile(parser)
    _add_hosts(parser)


def _add_generate(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--kind", choices=("context", "image", "policy"), default="context",
        help="what to write: contexts (default), streams, or CPU policies",
    )  # fmt: skip
    parser.add_argument(
        "--host", metavar="HOST", help="of policies: whose Xen takes them, as hvmctx host wrote it"
    )
    parser.add_argument(
        "--count", type=int, default=1000, metavar="N", help="how many files (default: 1000)"
    )
    parser.add_argument(
        "-o", "--output", metavar="DIR", required=True, help="a new or empty directory"
    )
    parser.add_argument(
        "--base", action="append", default=[], metavar="FILE",
        help="vary this image or context (default: contexts after a reset); may be repeated",
    )  # fmt: skip
    _add_seed(parser)
    _add_hosts(parser)


def _add_seed(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--seed", type=int, default=1, metavar="N", help="chooses what is tried (default: 1)"
    )


def _add_hosts(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--release", action="append", default=[], metavar="RELEASE",
        help="the release to judge by; may be repeated (default: 4.17, 4.20, newest)",
    )  # fmt: skip
    parser.add_argument(
        "--policy", metavar="IMAGE", help="take the guest's CPU policy and devices from IMAGE"
    )
    parser.add_argument("--vcpus", type=int, metavar="N", help="how many vcpus the guest has")
    parser.add_argument(
        "--vendor", choices=("amd", "intel"), help="the host's CPU (default: as the guest's)"
    )


def run(args: Namespace) -> int:
    return _ACTIONS[args.action](args)


_MOST_INPUTS = 1 << 31
_MOST_JOBS = 1 << 10


def _check_number(args: Namespace, name: str, most: int) -> None:
    """Raises UsageError for a number, if one is given, that is not 1 to `most`."""
    value = getattr(args, name)
    if value is not None and not 0 < value <= most:
        raise UsageError(f"fuzz {args.action}: --{name} {value}: expected 1 to {most}")


def _target(name: str) -> Target:
    from hvmctx.fuzz.targets import TARGETS

    if name not in TARGETS:
        raise UsageError(f"fuzz: unknown target {name!r}; expected {', '.join(TARGETS)}")
    return TARGETS[name]


def _run(args: Namespace) -> int:
    """The exit status is 1 at the first finding, as engines want it."""
    target = _target(args.target)
    for path in args.files:
        data = inputs.read_file(path, limits=inputs.limits_of(args))
        try:
            target.run(data)
        except Exception:
            _say_finding(path)
            return 1
    return 0


def _say_finding(path: str) -> None:
    """The exception being handled. Its own text, which may hold parts of the input, is one
    line."""
    import traceback

    messages.say(f"{path}: finding")
    for part in traceback.format_exception(*sys.exc_info()):
        of_code = part.startswith((" ", "Traceback"))
        for line in part.rstrip("\n").split("\n") if of_code else [part.strip("\n")]:
            messages.say(line)


_SECONDS = {"s": 1, "m": 60, "h": 3600}


def _campaign(args: Namespace) -> int:
    from hvmctx.files.output import replacing
    from hvmctx.fuzz.campaign import Summary, campaign
    from hvmctx.render.progress import Progress

    _target(args.target)
    _check_number(args, "executions", _MOST_INPUTS)
    _check_number(args, "jobs", _MOST_JOBS)
    seconds = None if args.executions else _duration(args.time or "1m")
    if args.html:
        from hvmctx.render.html import check

        check()

    def told(summary: Summary) -> None:
        rate = summary.executions / max(summary.seconds, 1e-9)
        progress.show(
            summary.seconds if seconds else summary.executions,
            f"{summary.seconds:6.0f} s, {rate:.0f} a second, corpus {summary.corpus}, rules "
            f"{summary.rules} of {len(summary.known)}, findings {len(summary.findings)}",
        )

    with Progress(seconds or args.executions * args.jobs) as progress:
        summary = campaign(
            args.target, args.corpus, seed=args.seed, seconds=seconds, executions=args.executions,
            jobs=args.jobs, progress=told,
        )  # fmt: skip
    sys.stdout.write(summary.text())
    if args.json:
        import json

        with replacing(args.json, force=True) as out:
            out.write((json.dumps(summary.as_dict(), indent=1) + "\n").encode())
    if args.html:
        from hvmctx.render.campaign_html import page

        with replacing(args.html, force=True) as out:
            out.write(page(summary.as_dict()).encode())
    if summary.interrupted:
        raise KeyboardInterrupt
    return 1 if summary.findings else 0


def _duration(text: str) -> float:
    number, unit = (text[:-1], text[-1:]) if text[-1:] in _SECONDS else (text, "s")
    try:
        seconds = float(number) * _SECONDS[unit]
    except ValueError:
        seconds = 0
    if not 0 < seconds < 1e9:
        raise UsageError(f"fuzz: found {text!r}, expected a time such as 90s, 10m or 2h")
    return seconds


def _diff(args: Namespace) -> int:
    """The exit status is 1 if they disagree."""
    import random

    _check_number(args, "count", _MOST_INPUTS)
    _check_number(args, "vcpus", inputs.MOST_INSTANCES)
    rng = random.Random(args.seed)
    if args.against == "lab" or args.against.startswith("domain:"):
        return _diff_hypervisor(args)
    if args.resume or args.dangerous:
        raise UsageError("fuzz diff: --resume and --dangerous are for domain:DOMID and lab")
    found = _compared(args, rng)
    if found is None:
        messages.show(f"{args.count} inputs, no disagreement")
        return 0
    path = found.save(args.output, f"{args.kind}-{args.seed}")
    messages.show(f"{path}: model {found.ours:.60}, other {found.theirs:.60}")
    return 1


def _compared(args: Namespace, rng: Random) -> Disagreement | None:
    import tempfile

    from hvmctx.abi import vmport
    from hvmctx.fuzz import differential
    from hvmctx.fuzz.reference import SOURCE, Reference

    kind, _, words = args.against.partition(":")
    if kind == "command" and args.source is None:
        return _compared_with(differential.Command(words), args, rng)
    if kind != _C_REFERENCE or words:
        raise UsageError(
            f"fuzz diff: expected --against {_C_REFERENCE}, --against command:COMMAND, or --source"
        )
    if args.source is None and args.kind != "vmport":
        raise UsageError("fuzz diff: the C reference loads only VMPORT records; give a --source")
    with tempfile.TemporaryDirectory() as place:
        reference = Reference(place, source=args.source or SOURCE)
        if args.kind == "vmport":
            return differential.compare_vmport(reference, args.count, rng, vmport.used())
        return _compared_with(differential.Source(reference), args, rng)


def _compared_with(loader: Loader, args: Namespace, rng: Random) -> Disagreement | None:
    from itertools import islice

    from hvmctx.abi import vmport
    from hvmctx.fuzz import differential, generate
    from hvmctx.fuzz.minimise import simpler_contexts, simpler_vmport
    from hvmctx.fuzz.vmport import random_record

    if args.kind == "vmport":
        profile = vmport.used()
        records = (random_record(rng, profile) for _ in range(args.count))
        model = differential.vmport_model(profile)
        return differential.compare(loader, records, model, simpler=simpler_vmport(profile))
    releases = (args.release or ["newest"])[:1]
    loads = generate.loads_of(releases, _guest_of(args), args.vendor)
    (load_into,) = loads.values()
    bases = generate.bases_of(args.base, args.kind) or _bases(args.kind, rng, loads)
    layer = None if args.kind == "context" else "libxc"
    variants = (data for data, _ in generate.variants(bases, args.kind, rng, layer))
    inputs = islice(variants, args.count)
    if args.kind == "context":
        model = differential.context_model(*load_into)
        return differential.compare(loader, inputs, model, simpler=simpler_contexts)
    return differential.compare(loader, inputs, differential.stream_model(*load_into))


def _guest_of(args: Namespace, like: list[Access | None] | None = None) -> Guest:
    """The guest of --policy and --vcpus."""
    from hvmctx.restore.guest import MOST_VCPUS, Guest

    if args.policy is None:
        return Guest(vcpus=args.vcpus or MOST_VCPUS)
    return inputs.guest_of_policy(args, f"fuzz {args.action}", like)


_RUNNING = ("release", "policy", "vendor", "source")
"""Options about what the running Xen and the domain decide."""


def _diff_hypervisor(args: Namespace) -> int:
    """Goes on after a disagreement, and tells all of them."""
    from contextlib import ExitStack

    from hvmctx.fuzz.hypervisor import Journal
    from hvmctx.live.libraries import XenError
    from hvmctx.live.xen import Xen, check_domid

    named = args.against.removeprefix("domain:")
    if args.kind != "context":
        raise UsageError("fuzz diff: a hypervisor loads contexts: --kind context")
    if args.against != "lab" and not inputs.is_domid(named):
        raise UsageError(f"fuzz diff: --against {args.against}: expected domain:DOMID or lab")
    for name in _RUNNING:
        if getattr(args, name):
            raise UsageError(f"fuzz diff: --{name} is for other loaders: the running Xen decides")
    if args.vcpus and args.against != "lab":
        raise UsageError("fuzz diff: --vcpus is for --against lab")
    journal = Journal(args.output)
    unharmed = False
    try:
        first, status = _resumed(args, journal)
        try:
            with Xen() as xen, ExitStack() as stack:
                if args.against == "lab":
                    from hvmctx.live.lab import lab

                    domid = stack.enter_context(lab(vcpus=args.vcpus or _LAB_VCPUS))
                else:
                    domid = check_domid(int(named))
                status = max(status, _compare(args, xen, domid, journal, first))
            unharmed = True
        except XenError:  # what was tried last may be why
            raise
        except BaseException:  # a mistake in the arguments, Ctrl-C: Xen is well
            unharmed = True
            raise
    finally:
        journal.close(done=unharmed)
    return status


_LAB_VCPUS = 2
_TOLD_EVERY = 100


def _resumed(args: Namespace, journal: Journal) -> tuple[int, int]:
    """The number of the first input to try, and an exit status: 1 where there is one to blame.
    Raises UsageError."""
    if journal.left and not args.resume:
        raise UsageError(
            f"fuzz diff: {journal.path}: a run has not come to its end; --resume goes on, and "
            "blames its last input"
        )
    if not args.resume:
        return 0, 0
    from hvmctx.fuzz.differential import Disagreement

    if not journal.left:
        raise UsageError(f"fuzz diff: {journal.path} is not there: no run to resume")
    last = journal.last()
    if last is None:
        messages.warn(f"{journal.path}: nothing was tried, or it is damaged")
        return 0, 0
    number, data = last
    report = f"input {number} was being tried when the run ended\n\n{data.hex(' ', 16)}\n"
    crash = Disagreement(data, "", "", report)
    path = crash.save(args.output, f"crash-{args.seed}-{number}")
    messages.show(f"{path}: the machine, the domain or the run ended while this was tried")
    return number + 1, 1


def _compare(args: Namespace, xen: Xen, domid: int, journal: Journal, first: int) -> int:
    import random
    from itertools import islice

    from hvmctx.fuzz import generate
    from hvmctx.fuzz.hypervisor import Comparison, Hypervisor

    hypervisor = Hypervisor(xen, domid)
    rng = random.Random(f"{args.seed}/{first}")
    loads = {"running": (hypervisor.release, hypervisor.guest, hypervisor.machine)}
    bases = generate.bases_of(args.base, args.kind) or [
        xen.context(domid), *_bases(args.kind, rng, loads)
    ]  # fmt: skip

    def found(disagreement: Disagreement) -> None:
        path = disagreement.save(args.output, f"context-{args.seed}-{len(comparison.kinds)}")
        messages.show(f"{path}: model {disagreement.ours}, hypervisor {disagreement.theirs}")

    comparison = Comparison(hypervisor, journal, found, dangerous=args.dangerous)
    variants = (data for data, _ in generate.variants(bases, args.kind, rng))
    numbered = enumerate(islice(variants, max(0, args.count - first)), first)
    try:
        comparison.run(_told(numbered, args.count))
    finally:
        messages.show(
            f"Xen {hypervisor.host.xen['version']}: {comparison.tried} contexts, "
            f"{comparison.taken} taken, {comparison.rate:.0f} a minute, {comparison.passed} not "
            f"tried as the hypervisor would die of them, {sum(comparison.kinds.values())} "
            f"disagreements of {len(comparison.kinds)} kinds"
        )
    return 1 if comparison.kinds else 0


def _told(numbered: Iterable[tuple[int, bytes]], count: int) -> Iterator[tuple[int, bytes]]:
    """The same, with progress shown now and then."""
    from hvmctx.render.progress import Progress

    with Progress(count) as progress:
        for number, data in numbered:
            if number % _TOLD_EVERY == 0:
                progress.show(number, f"{number} of {count}")
            yield number, data


def _bases(kind: str, rng: Random, loads: Loads) -> list[bytes]:
    from hvmctx.fuzz.generate import valid_bases
    from hvmctx.fuzz.streams import valid_stream

    return valid_bases(rng, loads) if kind == "context" else [valid_stream(rng) for _ in range(4)]


def _policies(args: Namespace, host: Host, like: list[Access | None]) -> list[bytes]:
    """Those of --base, or what a new guest of the host has."""
    from hvmctx.abi.releases import NEWEST, Release
    from hvmctx.restore.policy_forms import to_pol

    found = [to_pol(*inputs.policy_of(args, path, like)[:2]) for path in args.base]
    new = host.new_domain(Release(NEWEST))
    return found or [to_pol(new.leaves(), new.msrs())]


def _generate(args: Namespace) -> int:
    import random

    from hvmctx.fuzz.generate import bases_of, generate, loads_of

    _check_number(args, "count", _MOST_INPUTS)
    _check_number(args, "vcpus", inputs.MOST_INSTANCES)
    rng = random.Random(args.seed)
    releases = args.release or ["4.17", "4.20", "newest"]
    like: list[Access | None] = []
    loads = loads_of(releases, _guest_of(args, like), args.vendor)
    host = inputs.host_asked(args)
    if (args.kind == "policy") != (host is not None):
        raise UsageError("fuzz generate: --kind policy takes a --host, and nothing else does")
    if host is None:
        bases = bases_of(args.base, args.kind, like) or _bases(args.kind, rng, loads)
    else:
        bases = _policies(args, host, like)
    made = generate(
        args.output, args.count, rng, bases, kind=args.kind, loads=loads, host=host, like=like
    )
    for release in loads:
        known, missed = len(made.rules[release]), made.missed(release)
        said = f"; not {', '.join(missed)}" if missed else ""
        messages.say(
            f"{release}: {args.count} files, {made.reached[release, '']} accepted, "
            f"{known - len(missed)} of {known} rules reached{said}"
        )
    return 0


_ACTIONS = {"run": _run, "campaign": _campaign, "diff": _diff, "generate": _generate}
