"""Say what Xen would do with an image, or with a bare HVM context: restore it, and what it
changes, or refuse it, and by which rule. Of an image the streams are judged as the
toolstack of the release reads them, then the context as the hypervisor loads it."""

from __future__ import annotations

from hvmctx.abi.releases import NEWEST, SPAN, Release
from hvmctx.commands import inputs
from hvmctx.stream.reader import CONTEXT, LEGACY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from hvmctx.image import Image
    from hvmctx.restore.context import Verdict
    from hvmctx.restore.host import Host

HELP = "say whether Xen would restore it, and if not, why"


def add_arguments(parser: ArgumentParser) -> None:
    inputs.add_judged(parser)
    parser.add_argument("--release", default=NEWEST, help=f"which Xen, {SPAN} or newest")
    parser.add_argument(
        "--policy", metavar="IMAGE", help="take the guest's CPU policy and devices from this image"
    )


def run(args: Namespace) -> int:
    if not inputs.check_judged(args, "restore"):
        return 0
    release = Release(args.release)
    with inputs.open_input(args, keep_words=True) as image:
        verdict = _judge(args, image, release)
    if args.form == "json":
        import json

        print(json.dumps(verdict.as_dict(), indent=1))
    elif verdict.accepted:
        what = "load this context" if image.format == CONTEXT else "restore this image"
        print(f"accept: Xen {args.release} would {what}")
        for change in verdict.applied:
            print(f"  {change}")
    else:
        instance = "" if verdict.instance is None else f"/{verdict.instance}"
        where = f"{verdict.record}{instance}: " if verdict.record else ""
        errno = f"{verdict.errno}: " if verdict.errno else ""
        print(
            f"{verdict.verdict}: Xen {args.release}: {errno}{verdict.layer}: "
            f"offset {verdict.offset:#x}: {where}{verdict.text} [{verdict.rule}]"
        )
    return 0 if verdict.accepted else 1


def _judge(args: Namespace, image: Image, release: Release) -> Verdict:
    """Streams first, then the context; a PV guest has none."""
    from hvmctx.abi import streams
    from hvmctx.restore.context import ACCEPT, Verdict, load

    if image.format == LEGACY:
        raise image.problems[0]
    if image.format == CONTEXT:
        return load(image.hvm_context.to_bytes(), _host(args, image))
    from hvmctx.restore.stream import judge

    refusal = judge(image, release, checkpointed=args.checkpointed)
    if refusal is not None:
        return refusal
    if image.guest_type == streams.GUEST_X86_PV:
        return Verdict(ACCEPT)
    record = image.last("libxc", streams.LIBXC_HVM_CONTEXT)
    if record is None:  # the hypervisor is then asked to load nothing
        return load(b"", _host(args, image))
    verdict = load(image.body(record), _host(args, image))
    verdict.offset += record.body_offset
    return verdict


def _host(args: Namespace, image: Image) -> Host:
    from hvmctx.restore.host import Host

    if args.policy is None:
        host = Host.of_image(image, args.release, args.vcpus)
    else:
        from hvmctx.image import open_image

        with open_image(args.policy) as other:
            host = Host.of_image(other, args.release, args.vcpus)
    if args.vmport_profile is not None:
        from hvmctx.abi import vmport

        host.vmport = vmport.used()
    return host
