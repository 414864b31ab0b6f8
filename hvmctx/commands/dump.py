"""Print the HVM context of an image, a bare context or a running domain, as xen-hvmctx
does."""

from __future__ import annotations

import sys

from hvmctx import messages
from hvmctx.abi.declare import VMPORT_TYPECODE
from hvmctx.abi.releases import NEWEST, SPAN, Release
from hvmctx.commands import inputs
from hvmctx.errors import HvmctxError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Iterable, Iterator

    from hvmctx.abi.vmport import VmportProfile
    from hvmctx.context.hvm_context import HvmContext
    from hvmctx.context.record import Record
    from hvmctx.image.image import Image
    from hvmctx.render.text import TextDialect

    Wanted = Callable[[Record], bool]

__all__ = ["EXAMPLES", "HELP", "add_arguments", "record_filter", "run"]

_LAST_DOMID = 32767
"""Xen's highest id, special domains included; the genuine tool refuses only negative ids."""
_OF_TEXT = ("release", "domid", "all")
"""Options that are about the text, and that no other format has."""
HELP = "print the HVM context in xen-hvmctx's own text, or as JSON or a table"
EXAMPLES = (
    "hvmctx dump guest.save  # what xen-hvmctx prints",
    "hvmctx dump guest.save --record CPU/0 --all",
    "hvmctx dump guest.save --decode --record CPU",
)


def add_arguments(parser: ArgumentParser) -> None:
    inputs.add_input(parser)
    parser.add_argument(
        "--release",
        metavar="RELEASE",
        help=f"print as the xen-hvmctx of this release: {SPAN}, newest or auto, the one that wrote "
        "the image (default; newest for a bare context and a DOMID, which name none). With newest "
        "and auto VMPORT records are printed too, which no release's tool knows",
    )
    parser.add_argument(
        "--domid",
        type=int,
        metavar="N",
        help=f"the domain id in the first line, 0 to {_LAST_DOMID} (default: 0, or the DOMID)",
    )
    parser.add_argument(
        "--record",
        metavar="TYPE[/INSTANCE]",
        action="append",
        help="only these records, such as CPU/0; may be repeated",
    )
    parser.add_argument(
        "--all", action="store_true", help="also print the records and fields that the tool omits"
    )
    parser.add_argument(
        "--decode", action="store_true",
        help="say what each field means: segments, registers' bits, interrupts, times, memory "
        "types; as text, a table for each record, or members `decoded` of JSON (the CPU policy: "
        "info --policy)",
    )  # fmt: skip
    inputs.add_vmport_profile(parser)
    parser.add_argument(
        "--format",
        choices=("text", "json", "ndjson", "table"),
        default="text",
        help="text: xen-hvmctx's own (default); json: what from-json takes; ndjson: a record a "
        "line; table: where each record is. --release, --domid and --all need text",
    )


def run(args: Namespace) -> int:
    filters = {text: record_filter(text) for text in args.record or ()}
    wanted = (lambda r: any(f(r) for f in filters.values())) if filters else None
    _check(args)
    with inputs.open_input(args) as image:
        context = image.context
        if args.format == "text" and args.decode:
            sys.stdout.writelines(_in_words(args, image, context, wanted))
        elif args.format == "text":
            from hvmctx.render.text import TextDialect

            dialect = TextDialect(
                _release(args.release, image), show_all=args.all, vmport=_vmport(args, context),
                decoded=_decoded(args, context),
            )  # fmt: skip
            sys.stdout.writelines(dialect.dump(context, domid=_domid(args), wanted=wanted))
            if wanted is None and _is_free(args) and image.records:
                sys.stdout.writelines(_emulators(image, dialect))
        elif args.format == "table" and args.decode:
            _tables(context, wanted)
        elif args.format == "table":
            from hvmctx.render.record_table import as_table

            sys.stdout.writelines(as_table(context, wanted))
        else:
            from hvmctx.json_form.dump import as_json, as_ndjson

            as_lines = as_json if args.format == "json" else as_ndjson
            sys.stdout.writelines(as_lines(context, wanted, _decoder() if args.decode else None))
        status = inputs.report(image)
        for text in _unmatched(filters, context):
            messages.say(f"the context has no {text} record")
            status = 1
        return status


def _check(args: Namespace) -> None:
    """Raises UsageError for values that do not exist, and for options that have no effect on
    the format; before INPUT is opened."""
    if not _is_free(args):
        Release(args.release)
    if args.domid is not None and not 0 <= args.domid <= _LAST_DOMID:
        raise UsageError(f"dump: --domid {args.domid}: expected 0 to {_LAST_DOMID}")
    given = {name: getattr(args, name) for name in _OF_TEXT}
    idle = [
        f"--{name}" for name, value in given.items() if value is not None and value is not False
    ]
    if args.format != "text" and idle:
        raise UsageError(f"dump: {', '.join(idle)}: no effect with --format {args.format}")
    if args.decode and idle:
        raise UsageError(f"dump: --decode: not with {idle[0]}")


def _in_words(
    args: Namespace, image: Image, context: HvmContext, wanted: Wanted | None
) -> Iterator[str]:
    """What `--decode` prints. Records without fields of a structure, VMPORT's among them, come as
    ever."""
    from hvmctx.render.decode import decoded_lines
    from hvmctx.render.text import TextDialect

    dialect = TextDialect(
        _release(args.release, image), show_all=True, vmport=_vmport(args, context),
        decoded=_decoded(args, context),
    )  # fmt: skip
    for number, record in enumerate(context.entries):
        if wanted is not None and not wanted(record):
            continue
        if record.type is not None and record.typecode != VMPORT_TYPECODE:
            yield from decoded_lines(record)
        else:
            yield dialect.entry(number, record)


def _tables(context: HvmContext, wanted: Wanted | None) -> None:
    """A table for each record that has fields."""
    from hvmctx.render.decode import decoded
    from hvmctx.render.table import Table

    for record in context.entries:
        if (wanted is None or wanted(record)) and (rows := decoded(record)):
            messages.show(f"{record.name}/{record.instance}")
            table = Table("field", "value", "meaning")
            for row in rows:
                table.add(row.path, row.shown, row.words)
            table.print()


def _decoder() -> Callable[[Record], list[dict[str, int | str]]]:
    """What `--decode` puts into JSON."""
    from hvmctx.render.decode import decoded

    return lambda record: [row.as_dict() for row in decoded(record)]


def _unmatched(filters: dict[str, Wanted], context: HvmContext) -> list[str]:
    """The --record options that match no record, a cut one included."""
    cut = context.cut_descriptor
    records = [*context.entries, *([] if cut is None else [cut])] if filters else []
    return [text for text, matches in filters.items() if not any(map(matches, records))]


def _is_free(args: Namespace) -> bool:
    """Whether no release's own tool was asked for, so that more than it knows is printed."""
    return args.release in (None, "auto", NEWEST)


def _vmport(args: Namespace, context: HvmContext) -> VmportProfile | None:
    """The profile for printing VMPORT records: None in the dialect of a release, and where
    there is no such record."""
    if not _is_free(args) or not context.records(VMPORT_TYPECODE):
        return None
    from hvmctx.abi import vmport

    return vmport.used()


def _decoded(args: Namespace, context: HvmContext) -> Callable[[Record], str | None] | None:
    """How records are printed that other packages' handlers know: not at all in the dialect of
    a release, and where every record is known."""
    if not _is_free(args) or all(record.type for record in context.entries):
        return None
    from hvmctx.render.decoded import record_lines

    return record_lines


def _emulators(image: Image, dialect: TextDialect) -> Iterable[str]:
    """What is inside of the device models' files. Looked at only where there is one that is
    not QEMU's, or with --all: most of a dump's time would go into it."""
    from hvmctx.abi import streams
    from hvmctx.stream.reader import LIBXL

    others = False
    for record in image.effective_records(LIBXL, streams.LIBXL_EMULATOR_CONTEXT):
        try:
            others |= bytes(image.start_of(record, 12)[8:]) != streams.QEMU_MAGIC
        except HvmctxError:  # cut off, which is a problem of the image
            continue
    if not others and not dialect.show_all:
        return ()
    from hvmctx.render.decoded import emulator_lines

    return emulator_lines(image, dialect)


def _release(name: str | None, image: Image) -> Release:
    return image.release if name in (None, "auto") else Release(name)


def _domid(args: Namespace) -> int:
    if args.domid is not None:
        return int(args.domid)
    return int(args.input) if inputs.is_domid(args.input) else 0


def record_filter(text: str) -> Wanted:
    """`CPU`, `CPU/0`, `21`, `21/0` -> a function that says whether a record matches. Raises
    UsageError."""
    from hvmctx.abi.fields import decimal
    from hvmctx.abi.registry import by_name

    name, slash, number = text.partition("/")
    number_of_type = decimal(name)
    typecode = by_name(name).typecode if number_of_type is None else number_of_type
    if not slash:
        return lambda record: record.typecode == typecode
    instance = decimal(number)
    if instance is None:
        raise UsageError(f"--record {text}: found instance {number!r}, expected a number")
    return lambda record: record.typecode == typecode and record.instance == instance
