"""Put an image into another wrapper (--to): xl's, XAPI's, libvirt's, or none. A stream of Xen 4.5
or older becomes one of Xen 4.6 and newer, as convert-legacy-stream does; without --to only such a
stream is converted, and its wrapper stays. The sender's word size and the kind of guest are
detected unless given."""

from __future__ import annotations

from hvmctx import messages
from hvmctx.commands import inputs
from hvmctx.errors import UsageError
from hvmctx.files.output import replacing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "convert between xl, XAPI, libvirt, libxl, libxc; or a legacy stream (Xen 4.5 and older)"
EXAMPLES = (
    "hvmctx convert suspend.img --to xl -o new.save",
    "hvmctx convert guest.save --to libvirt --config guest.xml -o virsh.new",
    "hvmctx convert legacy.save -o guest-4.6.save",
    "hvmctx convert legacy.stream --format libxc --width 64 -o guest.stream",
)


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("input", metavar="INPUT", help="a path, or - for standard input")
    inputs.add_output(parser)
    inputs.add_limits(parser)
    parser.add_argument(
        "--to", choices=("xl", "xapi", "libvirt", "libxl", "libxc"),
        help="what to write, of any image (default: a legacy stream's --format)",
    )  # fmt: skip
    parser.add_argument(
        "--config", metavar="FILE",
        help="what describes the guest there: JSON for xl, a domain's XML for libvirt, the "
        "S-expression of a VM for XAPI (default: the image's own, as far as there is one)",
    )  # fmt: skip
    parser.add_argument(
        "--format", choices=("libxl", "libxc"),
        help="what a legacy stream becomes (default: libxl; an xl file stays one)",
    )  # fmt: skip
    parser.add_argument(
        "--width", choices=("32", "64"), help="word size, in bits, of the toolstack that sent it"
    )
    parser.add_argument(
        "--skip-qemu", action="store_true", help="leave the device model's record out"
    )
    parser.add_argument("--guest", choices=("hvm", "pv"), help="the kind of guest")


def run(args: Namespace) -> int:
    from hvmctx.files.access import Access
    from hvmctx.files.opening import open_source
    from hvmctx.save.convert import convert

    if args.to is not None and args.format is not None:
        raise UsageError("convert: --to and --format cannot be combined")
    if args.config is not None and args.to is None:
        raise UsageError("convert: --config goes with --to")
    target, like = inputs.no_domid(args.input, "convert"), list[Access | None]()
    limits = inputs.limits_of(args)
    given = None if args.config is None else inputs.read_file(args.config, like, limits)
    with (
        open_source(target, limits) as source,
        replacing(args.output, force=args.force, like=[source.access, *like]) as out,
    ):
        done = convert(
            source, out, to=args.to, format=args.format or "libxl", given=given,
            width=int(args.width) // 8 if args.width else None,
            pv=None if args.guest is None else args.guest == "pv",
            device_model=not args.skip_qemu,
        )  # fmt: skip
    for note in done.notes:
        messages.warn(note)
    if not done.stays:
        messages.say(
            f"{done.pages} pages, {done.with_data} with contents; {done.absent} absent ones left "
            "out"
        )
    return 0
