"""Take a payload out of an image: the HVM context, the device model's file, or one record
of either the context or the streams."""

from __future__ import annotations

from hvmctx.commands import inputs
from hvmctx.errors import MissingRecordError, UsageError
from hvmctx.output import replacing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from hvmctx.image import Image

HELP = "take out the HVM context, the device model's file, or one record"


def add_arguments(parser: ArgumentParser) -> None:
    inputs.add_input(parser)
    inputs.add_output(parser)
    parser.add_argument(
        "--what",
        default="hvm-context",
        metavar="hvm-context|emulator|record:TYPE[/INSTANCE]",
        help="record:CPU/0 is the body of that record of the context, record:X86_TSC_INFO of "
        "that record of the stream, record:PAGE_DATA/3 of its fourth (default: hvm-context)",
    )


def run(args: Namespace) -> int:
    with inputs.open_input(args) as image:
        payload = take(image, args.what)
        with replacing(args.output, force=args.force) as out:
            out.write(payload)
        return inputs.report(image)


def take(image: Image, what: str) -> bytes | memoryview:
    """The bytes that `what` names. Raises MissingRecordError when the image has no such
    thing, UsageError when nothing is called so."""
    if what == "hvm-context":
        return image.hvm_context.to_bytes()
    if what == "emulator":
        emulators = image.emulators
        if not emulators:
            raise MissingRecordError("the image has no EMULATOR_CONTEXT record")
        return emulators[-1].payload
    kind, _, name = what.partition(":")
    if kind != "record" or not name:
        raise UsageError(f"--what {what}: expected hvm-context, emulator or record:TYPE/INSTANCE")
    return _record(image, name)


def _record(image: Image, text: str) -> bytes | memoryview:
    from hvmctx.abi import streams
    from hvmctx.abi.declare import by_name
    from hvmctx.stream.reader import LIBXC, LIBXL

    name, _, number = text.upper().partition("/")
    if number and not (number.isascii() and number.isdigit()):
        raise UsageError(f"--what record:{text}: {number!r} is not an instance")
    instance = int(number or 0)
    for layer, names in ((LIBXC, streams.LIBXC_RECORDS), (LIBXL, streams.LIBXL_RECORDS)):
        for code, known in names.items():
            if known == name and known != "END":
                found = image.records_of(layer, code)
                if instance >= len(found):
                    raise MissingRecordError(
                        f"the image has {len(found)} {name} records, no number {instance}"
                    )
                return image.body(found[instance])
    record_type = by_name(name)
    return bytes(image.hvm_context.record(record_type, instance).body)
