"""Write down how what Xen saves of a guest is laid out, for other tools: a C header, a description
for Kaitai Struct, a pattern for ImHex, or the schema of the JSON form. All are made of the
declarations that hvmctx itself reads by."""

from __future__ import annotations

from hvmctx.abi.releases import SPAN
from hvmctx.commands import inputs
from hvmctx.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "the layouts for other tools: C, Kaitai Struct, ImHex, JSON Schema"
EXAMPLES = (
    "hvmctx schema --c -o hvmctx.h",
    "hvmctx schema --kaitai > xen_save.ksy",
    "hvmctx schema --imhex --release 4.6 -o xen_save.hexpat",
)


def add_arguments(parser: ArgumentParser) -> None:
    kinds = parser.add_mutually_exclusive_group(required=True)
    for name, what in (
        ("c", "a header for C11 and C++11"),
        ("kaitai", "a description for Kaitai Struct (.ksy)"),
        ("imhex", "a pattern for ImHex (.hexpat)"),
        ("json-schema", "the schema of what to-json and dump --format json write"),
    ):
        kinds.add_argument(f"--{name}", action="store_const", const=name, dest="kind", help=what)
    parser.add_argument(
        "--release", metavar="RELEASE",
        help="only the save records that this Xen has, with the lengths that they have there: "
        f"{SPAN} or newest; not with --json-schema",
    )  # fmt: skip
    inputs.add_vmport_profile(parser)
    inputs.add_output(parser, required=False)


def run(args: Namespace) -> int:
    from hvmctx.files.output import replacing

    text = _text(args)
    with replacing(args.output, force=args.force) as out:
        out.write(text.encode())
    return 0


def _text(args: Namespace) -> str:
    if args.kind == "json-schema":
        if args.release is not None:
            raise UsageError("schema: --json-schema is that of all releases; drop --release")
        from hvmctx.json_form import schema

        return schema.text()
    from hvmctx.abi.releases import Release
    from hvmctx.layouts import c_header, imhex, kaitai

    write = {"c": c_header.text, "kaitai": kaitai.text, "imhex": imhex.text}[args.kind]
    return write(None if args.release is None else Release(args.release))
