"""Write an image or a bare context with some values changed, added or removed, and everything
else as it was. Paths are those that `diff` and `get` print. A value is a number (decimal or 0x),
hex digits or "text" for bytes, text or JSON in the configuration. Warns when Xen would refuse
the changed context but not the original."""

from __future__ import annotations

from hvmctx import messages
from hvmctx.abi.declare import VMPORT_TYPECODE
from hvmctx.commands import inputs
from hvmctx.errors import HvmctxError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from hvmctx.context.hvm_context import HvmContext
    from hvmctx.image.image import Image

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "write the image with other values: CPU/0.rip=0x1000, --remove CPU/1 ..."
EXAMPLES = (
    "hvmctx set guest.save CPU/0.rip=0x1000 -o changed.save",
    "hvmctx set guest.save HVM_PARAMS.STORE_PFN=0xfeffc -o - | hvmctx info -",
    "hvmctx set guest.save --add HVM_PARAMS.VIRIDIAN=1 --remove TSC_ADJUST/0 -o other.save",
)


def add_arguments(parser: ArgumentParser) -> None:
    inputs.add_input(parser)
    inputs.add_vmport_profile(parser)
    parser.add_argument("settings", metavar="PATH=VALUE", nargs="*", help="what to set")
    parser.add_argument(
        "--add", metavar="PATH=VALUE", action="append", default=[],
        help="set what may not be there: a record (CPU_MSR/1=HEX), a field or a guestinfo key of "
        "one, a parameter, a leaf, an MSR, a value of the configuration; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--remove", metavar="PATH", action="append", default=[],
        help="take out a record (PIC/2), or what else --add puts in; before anything is added",
    )  # fmt: skip
    inputs.add_output(parser)


def run(args: Namespace) -> int:
    from hvmctx.edit.editor import edit
    from hvmctx.edit.paths import split_setting
    from hvmctx.edit.payloads import HVM_CONTEXT

    settings, added = (
        [split_setting(setting) for setting in given] for given in (args.settings, args.add)
    )
    if not (settings or added or args.remove):
        raise UsageError("set: expected PATH=VALUE, --add or --remove")
    with inputs.open_seekable(args) as image:
        editor = edit(image)
        for path in args.remove:
            editor.remove(path)
        for path, value in added:
            editor.set(path, value, add=True)
        for path, value in settings:
            editor.set(path, value)
        if not editor.changes_context:
            editor.write(args.output, force=args.force)
            inputs.warn(image.problems)
            return 0
        changed = editor.context
        after = changed.to_bytes()
        editor.put(HVM_CONTEXT, after)  # so that it is not put together once more
        editor.write(args.output, force=args.force)
        inputs.warn(image.problems)
        _warn_of_vmport(image, changed)
        _warn(image, after)
    return 0


def _warn(image: Image, after: bytes) -> None:
    """Where Xen would refuse the context, and would not before."""
    from hvmctx.restore.context import load
    from hvmctx.restore.guest import Guest

    release = image.release
    try:
        guest = Guest.of_image(image)
    except HvmctxError as error:  # policies that cannot be read
        messages.warn(f"cannot tell whether Xen would accept it: {error}")
        return
    limits = image.limits
    refusal = load(after, release, guest, limits=limits)
    before = image.context_bytes()
    if not refusal.accepted and load(before, release, guest, limits=limits).accepted:
        messages.warn(
            f"Xen {release} would now refuse the context: {refusal.where}: {refusal.text} "
            f"[{refusal.rule}]"
        )


def _warn_of_vmport(image: Image, changed: HvmContext) -> None:
    """What is wrong with the VMPORT record and was not before; and that it was not of the
    profile in use, whose places then are not where the values went."""
    new = changed.records(VMPORT_TYPECODE)[-1:]
    old = image.read_context().records(VMPORT_TYPECODE)[-1:] if new else []
    if not old or bytes(old[0].body) == bytes(new[0].body):
        return
    from hvmctx.abi import vmport
    from hvmctx.findings import ERROR
    from hvmctx.restore.vmport import findings_of

    known, found = (findings_of(record.to_bytes()) for (record,) in (old, new))
    rules = {finding.rule for finding in known}
    for finding in found:
        if finding.rule not in rules:
            rules.add(finding.rule)
            messages.warn(f"VMPORT: {finding.text} [{finding.rule}]")
    if any(finding.severity == ERROR or finding.rule in _MISFIT for finding in known):
        messages.warn(
            f"VMPORT: the record was not a {vmport.used().name} record before (choose its profile "
            "with --vmport-profile)"
        )


_MISFIT = {"vmport-size", "vmport-count", "vmport-behind"}
