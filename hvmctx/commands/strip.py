"""Write an image without its page contents: small and easy to share. It dumps the same, and
restores with blank memory. What follows the end of the image is left out. With --redact names,
passwords, paths and addresses of the configuration, strings of xenstore, guestinfo, firmware
variables and the like go too, but nothing that a restore decides by."""

from __future__ import annotations

from hvmctx import messages
from hvmctx.commands import inputs
from hvmctx.errors import UsageError
from hvmctx.files.output import replacing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "write the image without page contents"
EXAMPLES = (
    "hvmctx strip guest.save -o small.save",
    "hvmctx strip guest.save --redact -o - | gzip > public.save.gz",
    "hvmctx strip guest.save --redact --redact-registers -o public.save",
)


def add_arguments(parser: ArgumentParser) -> None:
    inputs.add_input(parser)
    inputs.add_output(parser)
    parser.add_argument(
        "--keep-holes", action="store_true", help="keep the records that hold only absent pages"
    )
    parser.add_argument(
        "--redact", action="store_true",
        help="leave out what tells of the guest and its owner: for a mailing list",
    )  # fmt: skip
    parser.add_argument(
        "--redact-registers", action="store_true",
        help="with --redact: general, FPU and vector registers too, and those with addresses",
    )  # fmt: skip


def run(args: Namespace) -> int:
    if args.redact_registers and not args.redact:
        raise UsageError("strip: --redact-registers: expected --redact too")
    from hvmctx.edit.redact import Redactor
    from hvmctx.edit.strip import strip
    from hvmctx.files.opening import open_source

    target = inputs.no_domid(args.input, "strip")
    with (
        open_source(target, inputs.limits_of(args)) as source,
        replacing(args.output, force=args.force, like=[source.access]) as out,
    ):
        limits = inputs.limits_of(args)
        redactor = None
        if args.redact:
            redactor = Redactor(registers=args.redact_registers, limits=limits)
        done = strip(source, out, layer=args.layer, keep_holes=args.keep_holes, redactor=redactor)
    if done.trailing:
        messages.warn(f"what follows the image, from offset {done.end:#x} on, is left out")
    gone = (
        f"{done.pages} pages emptied, {done.records} records of {done.absent_words} absent pages "
        "left out"
    )
    if redactor is None:
        messages.say(gone)
        messages.warn(
            "names, passwords and strings of the guest may still be in it: --redact leaves them "
            "out, --redact-registers its registers too"
        )
        return 0
    counts = ", ".join(f"{number} {what}" for what, number in redactor.done.items())
    messages.say(f"{gone}; redacted: {counts or 'nothing'}")
    if redactor.kept:
        messages.warn(f"still in it: {' and '.join(redactor.kept)}; look before you send it")
    return 0
