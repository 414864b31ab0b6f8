"""Show what the vcpus of a saved guest were doing, as xenctx does of a running one: registers, the
code at the instruction pointer, the stack, and which of its words are return addresses. With the
kernel's symbols (a System.map, a copy of the guest's /proc/kallsyms, or a vmlinux with symbols)
these have names. How far a Linux has moved itself at boot (KASLR) is told by where its system calls
enter. To see instructions, install capstone: pip install 'hvmctx[disassembly]'."""

from __future__ import annotations

from hvmctx import messages
from hvmctx.commands import inputs
from hvmctx.errors import HvmctxError, MissingRecordError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from hvmctx.image.vcpus import GuestVcpu
    from hvmctx.stream.symbols import Symbols

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "show registers, code and stack of the vcpus, as xenctx does"
EXAMPLES = (
    "hvmctx stack guest.save --vcpu 0",
    "hvmctx stack kernel.save --symbols System.map --pages 4  # all of a kernel stack of Linux",
)
_MOST_PAGES = 1024


def add_arguments(parser: ArgumentParser) -> None:
    inputs.add_input(parser)
    parser.add_argument(
        "--symbols", metavar="FILE", help="the kernel's System.map, kallsyms or vmlinux"
    )
    parser.add_argument(
        "--kaslr-offset", metavar="N",
        help="how far the kernel has moved from where its symbols say: a number, or a sum as x "
        "takes it, such as msr_lstar-0xffffffff81c00080 (default: found out)",
    )  # fmt: skip
    parser.add_argument("--vcpu", type=int, metavar="N", help="only this vcpu (default: all)")
    parser.add_argument(
        "--pages", type=int, default=1, metavar="N",
        help="pages of stack that are looked at (default: 1, the one that the stack pointer is in)",
    )  # fmt: skip


def run(args: Namespace) -> int:
    from hvmctx.render.stack import disassembler, stack_lines

    if not 1 <= args.pages <= _MOST_PAGES:
        raise UsageError(f"stack: --pages {args.pages}: expected 1 to {_MOST_PAGES}")
    if args.kaslr_offset is not None and args.symbols is None:
        raise UsageError("stack: --kaslr-offset moves the symbols of --symbols")
    if [args.input, args.symbols].count("-") > 1:
        raise UsageError("stack: standard input can be read only once")
    with inputs.open_seekable(args) as image:
        vcpus = list(image.vcpus) if args.vcpu is None else [image.vcpus[args.vcpu]]
        if not vcpus:
            raise MissingRecordError("the context has no vcpu")
        symbols = None if args.symbols is None else _symbols(args, vcpus)
        take_apart = disassembler()
        if take_apart is None:
            messages.say("note: no instructions, which need `pip install hvmctx[disassembly]`")
        for vcpu in vcpus:
            try:
                for line in stack_lines(vcpu, symbols, take_apart=take_apart, pages=args.pages):
                    messages.show(line)
            except MissingRecordError:
                messages.show(f"vcpu {vcpu.id}: offline, it has no CPU record")
        if not image.memory.runs:
            messages.say("registers only: the image has no page data")
            return max(inputs.report(image), 1)
        return inputs.report(image)


def _symbols(args: Namespace, vcpus: list[GuestVcpu]) -> Symbols:
    """Those of --symbols, where the guest's kernel has them. Raises UsageError for a file that has
    none."""
    from hvmctx.files.opening import open_whole
    from hvmctx.image.vcpus import address_of
    from hvmctx.render.stack import kaslr_offset
    from hvmctx.stream.symbols import Symbols

    try:
        with open_whole(inputs.file_of(args.symbols), inputs.limits_of(args)) as source:
            symbols = Symbols.read(source)
    except HvmctxError as error:
        raise UsageError(f"--symbols: {error}") from error
    if args.kaslr_offset is not None:
        symbols.shift = address_of(args.kaslr_offset, lambda: vcpus[0].cpu)
        return symbols
    offset = kaslr_offset(vcpus, symbols)
    if offset is None:
        messages.warn(
            "cannot tell whether these symbols are those of the guest's kernel, nor how far KASLR "
            "has moved it: they do not fit its registers and memory"
        )
    elif offset:
        messages.show(f"symbols moved by {offset:#x}, to where system calls enter")
    symbols.shift = offset or 0
    return symbols
