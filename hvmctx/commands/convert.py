"""Convert a stream of Xen 4.5 or older, bare or in an xl file, to one of Xen 4.6 and newer,
as convert-legacy-stream does. The sender's word size and the kind of guest are detected
unless given."""

from __future__ import annotations

from hvmctx import messages
from hvmctx.commands import inputs
from hvmctx.files.output import replacing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "convert a legacy stream (Xen 4.5 and older)"
EXAMPLES = (
    "hvmctx convert legacy.save -o guest-4.6.save",
    "hvmctx convert legacy.stream --format libxc --width 64 -o guest.stream",
)


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("input", metavar="INPUT", help="a path, or - for standard input")
    inputs.add_output(parser)
    inputs.add_limits(parser)
    parser.add_argument(
        "--format", choices=("libxl", "libxc"), default="libxl",
        help="what to write (default: libxl; an xl file stays one)",
    )  # fmt: skip
    parser.add_argument(
        "--width", choices=("32", "64"), help="word size, in bits, of the toolstack that sent it"
    )
    parser.add_argument(
        "--skip-qemu", action="store_true", help="leave the device model's record out"
    )
    parser.add_argument("--guest", choices=("hvm", "pv"), help="the kind of guest")


def run(args: Namespace) -> int:
    from hvmctx.files.opening import open_source
    from hvmctx.save.convert import convert

    target = inputs.no_domid(args.input, "convert")
    with (
        open_source(target, inputs.limits_of(args)) as source,
        replacing(args.output, force=args.force, like=[source.access]) as out,
    ):
        done = convert(
            source, out, format=args.format, width=int(args.width) // 8 if args.width else None,
            pv=None if args.guest is None else args.guest == "pv",
            device_model=not args.skip_qemu,
        )  # fmt: skip
    messages.say(
        f"{done.pages} pages, {done.with_data} with contents; {done.absent} absent ones left out"
    )
    return 0
