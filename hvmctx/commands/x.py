"""Print a guest's memory in hex, at a virtual address of one of its vcpus or, with --physical, at
a guest-physical one. An ADDRESS is a number, a register of the vcpu as get knows it, or a sum
of these: 0xffffffff81000000, rip, rsp+0x10, cs_base+rip. LENGTH is 256 unless given: a number,
with 0x in hex, or such as 4K. It is all or nothing: where memory is not in the image, the command
says which page is missing, and why."""

from __future__ import annotations

import re

from hvmctx.commands import inputs
from hvmctx.errors import UsageError
from hvmctx.limits import size_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator

    from hvmctx.image.vcpus import GuestVcpu

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "print a guest's memory at a virtual or physical address"
EXAMPLES = (
    "hvmctx x guest.save cs_base+rip:64",
    "hvmctx x kernel.save rsp:128 -v  # with the way through the page tables",
    "hvmctx x kernel.save 0x9000:4K --physical --format raw -o page.bin",
)
_LENGTH = 256
_WIDTH = 16
_HEX = re.compile(r"0[xX][0-9a-fA-F]{1,16}")


def add_arguments(parser: ArgumentParser) -> None:
    inputs.add_input(parser)
    parser.add_argument("address", metavar="ADDRESS[:LENGTH]", help="where, and how many bytes")
    parser.add_argument(
        "--vcpu",
        type=int,
        default=0,
        metavar="N",
        help="whose page tables and registers (default: 0)",
    )
    parser.add_argument(
        "--physical", action="store_true", help="ADDRESS is guest-physical: no page tables"
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true",
        help="show the way through the page tables: for each page every entry, with its flags",
    )  # fmt: skip
    parser.add_argument(
        "--format", choices=("text", "raw"), default="text",
        help="text, lines in hex (default), or raw, the bytes",
    )  # fmt: skip
    inputs.add_output(parser, required=False)


def run(args: Namespace) -> int:
    from hvmctx.files.output import replacing
    from hvmctx.image.vcpus import address_of

    if args.verbose and (args.physical or args.format == "raw"):
        raise UsageError("x: -v is about virtual addresses, and shown as text")
    where, _, length = args.address.partition(":")
    size = _size(length) if length else _LENGTH
    with inputs.open_seekable(args) as image:
        address = address_of(where, lambda: image.vcpus[args.vcpu].cpu)
        with replacing(args.output, force=args.force, like=[image.source.access]) as out:
            if args.physical:
                data = image.memory.read(address, size)
            else:
                vcpu = image.vcpus[args.vcpu]
                if args.verbose:
                    image.vcpus.check_size(size)
                    out.writelines(f"{line}\n".encode() for line in _walks(vcpu, address, size))
                data = vcpu.read(address, size)
            if args.format == "raw":
                out.write(data)
            else:
                out.writelines(line.encode() for line in _lines(address, data))
        return inputs.report(image)


def _size(text: str) -> int:
    try:
        return int(text, 16) if _HEX.fullmatch(text) else size_of(text)
    except UsageError as error:
        raise UsageError(f"x: LENGTH: {error}") from None


def _lines(address: int, data: bytes) -> Iterator[str]:
    from hvmctx.render.hexdump import lines

    parts = (
        (address + at, min(_WIDTH, len(data) - at), _letters(data[at : at + _WIDTH]))
        for at in range(0, len(data), _WIDTH)
    )
    return lines(lambda at, size: data[at - address : at - address + size], address, parts)


def _letters(data: bytes) -> str:
    return "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in data)


def _walks(vcpu: GuestVcpu, address: int, size: int) -> Iterator[str]:
    """Up to the one that leads nowhere, if there is one."""
    from hvmctx.render.walk import walk_lines

    end = address + max(1, size)
    while address < end:
        walk = vcpu.walk(address)
        yield from walk_lines(walk, vcpu.paging)
        if walk.error is not None:
            return
        address += walk.page_size - address % walk.page_size
