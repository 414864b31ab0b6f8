"""Say what Xen's loader would do with the HVM context of an image, or with a bare one:
accept it, and what it changes, or refuse it, and by which rule."""

from __future__ import annotations

import sys

from hvmctx.abi.releases import NEWEST
from hvmctx.commands import inputs
from hvmctx.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from hvmctx.image import Image
    from hvmctx.restore.host import Host

HELP = "say whether Xen would load the HVM context, and if not, why"


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("input", metavar="INPUT", nargs="?", help="as for dump")
    parser.add_argument("--layer", choices=inputs.LAYERS, help="what the input starts with")
    parser.add_argument("--release", default=NEWEST, help="which Xen, 4.0 to 4.22 or newest")
    parser.add_argument("--vcpus", type=int, metavar="N", help="vcpus of the guest to load into")
    parser.add_argument(
        "--policy", metavar="IMAGE", help="take the guest's CPU policy and devices from this image"
    )
    parser.add_argument(
        "--vmport-profile",
        metavar="NAME|FILE",
        help="a Xen with the VMPORT patch, and its constants (no release has it)",
    )
    parser.add_argument("--explain", metavar="RULE", help="print a rule, and nothing else")
    parser.add_argument("--format", choices=("text", "json"), default="text", dest="form")


def run(args: Namespace) -> int:
    if args.explain is not None:
        sys.stdout.write(explain(args.explain))
        return 0
    if args.input is None:
        raise UsageError("restore: no INPUT")
    from hvmctx.restore.context import load

    with inputs.open_input(args) as image:
        context = image.hvm_context
        offset = _offset(image)
        verdict = load(context.to_bytes(), _host(args, image))
    verdict.offset += offset
    if args.form == "json":
        import json

        print(json.dumps(verdict.as_dict(), indent=1))
    elif verdict.accepted:
        print(f"accept: Xen {args.release} would load this context")
        for change in verdict.applied:
            print(f"  {change}")
    else:
        where = f"{verdict.record}/{verdict.instance}: " if verdict.record else ""
        errno = f"{verdict.errno}: " if verdict.errno else ""
        print(
            f"{verdict.verdict}: Xen {args.release}: {errno}context: offset {verdict.offset:#x}: "
            f"{where}{verdict.text} [{verdict.rule}]"
        )
    return 0 if verdict.accepted else 1


def _offset(image: Image) -> int:
    """Where the context starts in the input."""
    from hvmctx.abi import streams

    record = image.last("libxc", streams.LIBXC_HVM_CONTEXT)
    return 0 if record is None else record.body_offset


def _host(args: Namespace, image: Image) -> Host:
    from hvmctx.restore.host import Host

    if args.vcpus is not None and not 0 < args.vcpus <= 0x10000:
        raise UsageError(f"restore: --vcpus {args.vcpus} is not a number of vcpus")
    if args.policy is None:
        host = Host.of_image(image, args.release, args.vcpus)
    else:
        from hvmctx.image import open_image

        with open_image(args.policy) as other:
            host = Host.of_image(other, args.release, args.vcpus)
    if args.vmport_profile is not None:
        from hvmctx.abi import vmport

        host.vmport = vmport.profile_of(args.vmport_profile)
    return host


def explain(name: str) -> str:
    """A rule in words: its record, releases, errno and text. Raises UsageError."""
    from hvmctx.restore.context import WALK, rules
    from hvmctx.restore.vmport import RULES as VMPORT

    if name in WALK:
        errno, text = WALK[name]
        return f"{name}: {errno}\n  {text}\n"
    if name in VMPORT:
        return f"{name}: VMPORT, the patch's loader\n  {VMPORT[name]}\n"
    found = [rule for rule in rules() if rule.id == name]
    if not found:
        raise UsageError(f"no rule is called {name!r}; docs/rules.md lists them")
    return "".join(
        f"{rule.id}: {rule.record}, {rule.releases}: {rule.errno}\n  {rule.text}\n"
        for rule in found
    )
