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
    from random import Random

    from hvmctx.files.access import Access
    from hvmctx.fuzz.differential import Disagreement
    from hvmctx.fuzz.generate import Loads
    from hvmctx.fuzz.target import Target

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "fuzz restore bounds: run, campaign, diff, generate"
EXAMPLES = (
    "hvmctx fuzz run context guest.hvm",
    "hvmctx fuzz run stream - < guest.xc",
    "hvmctx fuzz campaign --target vmport --corpus corpus --executions 500",
    "hvmctx fuzz campaign --target edit --corpus corpus --time 2s --jobs 2 --html edit.html",
    "hvmctx fuzz diff --against c-reference --count 1000",
    "hvmctx fuzz diff --kind context --count 20 --against 'command:hvmctx restore {}'",
    "hvmctx fuzz generate --count 20 --release 4.17 --vcpus 2 --vendor intel -o contexts",
    "hvmctx fuzz generate --kind image --base guest.xc --release 4.17 --count 20 -o images",
)


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
    parser.add_argument("--target", required=True, help=f"one of {', '.join(NAMES)}")
    parser.add_argument("--corpus", required=True, metavar="DIR", help="created, or continued")
    parser.add_argument("--time", metavar="N[s|m|h]", help="how long (default: 1m)")
    parser.add_argument(
        "--executions", type=int, metavar="N", help="how many inputs, instead of --time"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="how many processes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", metavar="FILE", help="write the summary as JSON")
    parser.add_argument("--html", metavar="FILE", help="write the summary as a page")


def _add_diff(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--against", required=True, metavar="c-reference|command:COMMAND",
        help="our C reference under AddressSanitizer, or a program that takes a file (as {}, or "
        "last) and exits with 0 if it would restore it",
    )  # fmt: skip
    parser.add_argument("--kind", choices=("vmport", "context", "image"), default="vmport")
    parser.add_argument("--count", type=int, default=10000, metavar="N")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--base", action="append", default=[], metavar="FILE")
    parser.add_argument(
        "--output",
        "-o",
        metavar="DIR",
        default="disagreements",
        help="where to save a disagreement",
    )
    parser.add_argument("--source", metavar="FILE", help="compile this C reference instead")
    inputs.add_vmport_profile(parser)
    _add_hosts(parser)


def _add_generate(parser: ArgumentParser) -> None:
    parser.add_argument("--kind", choices=("context", "image"), default="context")
    parser.add_argument("--count", type=int, default=1000, metavar="N")
    parser.add_argument(
        "-o", "--output", metavar="DIR", required=True, help="a new or empty directory"
    )
    parser.add_argument(
        "--base", action="append", default=[], metavar="FILE",
        help="vary this image or context (default: contexts after a reset); may be repeated",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=1)
    _add_hosts(parser)


def _add_hosts(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--release", action="append", default=[],
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

    _target(args.target)
    _check_number(args, "executions", _MOST_INPUTS)
    _check_number(args, "jobs", _MOST_JOBS)
    seconds = None if args.executions else _duration(args.time or "1m")

    def progress(summary: Summary) -> None:
        rate = summary.executions / max(summary.seconds, 1e-9)
        messages.progress(
            f"{summary.seconds:6.0f} s, {rate:.0f} a second, corpus {summary.corpus}, rules "
            f"{summary.rules} of {len(summary.known)}, findings {len(summary.findings)} "
        )

    quiet = not messages.watched()
    summary = campaign(
        args.target, args.corpus, seed=args.seed, seconds=seconds, executions=args.executions,
        jobs=args.jobs, **({} if quiet else {"progress": progress}),
    )  # fmt: skip
    if not quiet:
        messages.end_progress()
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
    found = _diff_vmport(args, rng) if args.against == "c-reference" else _diff_command(args, rng)
    if found is None:
        messages.show(f"{args.count} inputs, no disagreement")
        return 0
    path = found.save(args.output, f"{args.kind}-{args.seed}")
    messages.show(f"{path}: model {found.ours:.60}, other {found.theirs:.60}")
    return 1


def _diff_vmport(args: Namespace, rng: Random) -> Disagreement | None:
    import tempfile

    from hvmctx.abi import vmport
    from hvmctx.fuzz.differential import compare_vmport
    from hvmctx.fuzz.reference import SOURCE, Reference

    if args.kind != "vmport":
        raise UsageError("fuzz diff: the C reference loads only VMPORT records")
    with tempfile.TemporaryDirectory() as place:
        reference = Reference(place, source=args.source or SOURCE)
        return compare_vmport(reference, args.count, rng, vmport.used())


def _diff_command(args: Namespace, rng: Random) -> Disagreement | None:
    from itertools import islice

    from hvmctx.fuzz import differential, generate

    kind, _, words = args.against.partition(":")
    if kind != "command" or args.kind == "vmport":
        raise UsageError(
            "fuzz diff: expected --against c-reference, or command:COMMAND with --kind context "
            "or image"
        )
    releases = (args.release or ["newest"])[:1]
    loads = generate.loads_of(releases, args.policy, args.vcpus, args.vendor)
    (load_into,) = loads.values()
    bases = generate.bases_of(args.base, args.kind) or _bases(args.kind, rng, loads)
    model = differential.context_model if args.kind == "context" else differential.stream_model
    layer = None if args.kind == "context" else "libxc"
    variants = (data for data, _ in generate.variants(bases, args.kind, rng, layer))
    return differential.compare_command(
        differential.Command(words), islice(variants, args.count), model(*load_into),
        contexts=args.kind == "context",
    )  # fmt: skip


def _bases(kind: str, rng: Random, loads: Loads) -> list[bytes]:
    from hvmctx.fuzz.generate import valid_bases
    from hvmctx.fuzz.streams import valid_stream

    return valid_bases(rng, loads) if kind == "context" else [valid_stream(rng) for _ in range(4)]


def _generate(args: Namespace) -> int:
    import random

    from hvmctx.fuzz.generate import bases_of, generate, loads_of

    _check_number(args, "count", _MOST_INPUTS)
    _check_number(args, "vcpus", inputs.MOST_INSTANCES)
    rng = random.Random(args.seed)
    releases = args.release or ["4.17", "4.20", "newest"]
    like: list[Access | None] = []
    loads = loads_of(releases, args.policy, args.vcpus, args.vendor, like)
    bases = bases_of(args.base, args.kind, like) or _bases(args.kind, rng, loads)
    made = generate(args.output, args.count, rng, bases, kind=args.kind, loads=loads, like=like)
    for release in loads:
        known, missed = len(made.rules[release]), made.missed(release)
        said = f"; not {', '.join(missed)}" if missed else ""
        messages.say(
            f"{release}: {args.count} files, {made.reached[release, '']} accepted, "
            f"{known - len(missed)} of {known} rules reached{said}"
        )
    return 0


_ACTIONS = {"run": _run, "campaign": _campaign, "diff": _diff, "generate": _generate}
