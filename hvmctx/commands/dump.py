"""Print the HVM context of an image, a bare context or a running domain, as xen-hvmctx
does."""

from __future__ import annotations

import sys

from hvmctx.abi.declare import VMPORT_TYPECODE
from hvmctx.abi.releases import NEWEST, SPAN, Release
from hvmctx.commands import inputs
from hvmctx.errors import MissingRecordError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

    from hvmctx.abi.vmport import VmportProfile
    from hvmctx.context.hvm_context import HvmContext
    from hvmctx.context.record import Record
    from hvmctx.image import Image

DEFAULTS = {
    "layer": None,
    "release": None,
    "domid": None,
    "record": None,
    "all": False,
    "vmport_profile": None,
    "form": "text",
}
HELP = "print the HVM context in xen-hvmctx's own text, or as JSON or a table"


def add_arguments(parser: ArgumentParser) -> None:
    inputs.add_input(parser)
    parser.add_argument(
        "--release",
        help=f"whose xen-hvmctx to print like: {SPAN}, newest, or auto, the image's own "
        "(default: newest, and VMPORT records too, which no release's tool knows)",
    )
    parser.add_argument(
        "--domid", type=int, help="the domain of the first line (default: 0, or the DOMID)"
    )
    parser.add_argument(
        "--record", metavar="TYPE[/INSTANCE]", help="only these records, such as CPU/0"
    )
    parser.add_argument(
        "--all", action="store_true", help="print the records and fields too that the tool omits"
    )
    inputs.add_vmport_profile(parser)
    parser.add_argument("--format", choices=("text", "json", "ndjson", "table"), dest="form")


def run(args: Namespace) -> int:
    wanted = record_filter(args.record) if args.record else None
    if args.release not in (None, "auto"):
        Release(args.release)  # a release that does not exist is a usage error, whatever INPUT is
    with inputs.open_input(args) as image:
        try:
            context = image.hvm_context
        except MissingRecordError as error:
            if not image.problems:
                raise
            inputs.report(image)
            print(f"hvmctx: {error}", file=sys.stderr)
            return 1
        if args.form == "text":
            from hvmctx.render.text import TextDialect

            dialect = TextDialect(
                _release(args.release, image), show_all=args.all, vmport=_vmport(args, context)
            )
            sys.stdout.write("".join(dialect.dump(context, domid=_domid(args), wanted=wanted)))
        else:
            from hvmctx.render import forms

            sys.stdout.writelines(forms.FORMS[args.form](context, wanted))
        damage = context.damage
        if damage is not None and damage not in image.problems:
            image.problems.append(damage)
        return inputs.report(image)


def _vmport(args: Namespace, context: HvmContext) -> VmportProfile | None:
    """The profile to print VMPORT records with: none in the dialect of a release, and none
    needed where there is no such record."""
    if args.release is not None or not context.records(VMPORT_TYPECODE):
        return None
    from hvmctx.abi import vmport

    return vmport.used()


def _release(name: str | None, image: Image) -> Release:
    if name != "auto":
        return Release(name or NEWEST)
    return image.release


def _domid(args: Namespace) -> int:
    if args.domid is not None:
        return int(args.domid)
    return int(args.input) if inputs.is_domid(args.input) else 0


def record_filter(text: str) -> Callable[[Record], bool]:
    """`CPU`, `CPU/0`, `21`, `21/0` -> whether a record is one of those. Raises UsageError."""
    from hvmctx.abi.declare import by_name
    from hvmctx.abi.fields import decimal

    name, slash, number = text.partition("/")
    number_of_type = decimal(name)
    typecode = by_name(name).typecode if number_of_type is None else number_of_type
    if not slash:
        return lambda record: record.typecode == typecode
    instance = decimal(number)
    if instance is None:
        raise UsageError(f"--record {text}: {number!r} is not an instance")
    return lambda record: record.typecode == typecode and record.instance == instance
