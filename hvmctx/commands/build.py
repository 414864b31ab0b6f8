"""Build a restorable image from parts. --base takes all of them from an image, and the other
options replace what they name; a core of QEMU's (dump-guest-memory) gives memory and CPUs.
Parts that a restore would refuse, or that do not match each other, are refused."""

from __future__ import annotations

from hvmctx import messages
from hvmctx.abi.fields import misfit
from hvmctx.commands import inputs
from hvmctx.errors import FieldError, UsageError
from hvmctx.files.output import replacing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from hvmctx.abi.releases import Release
    from hvmctx.context.record import Record
    from hvmctx.files.access import Access
    from hvmctx.image.image import Image
    from hvmctx.limits import Limits
    from hvmctx.save.guests import StillGuest
    from hvmctx.save.libxl import DeviceModelData, DeviceModelFile
    from hvmctx.stream.libxc import TscInfo

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "make a restorable image from parts: memory, context, device model ..."
EXAMPLES = (
    "hvmctx build --base guest.save --param STORE_PFN=0xfeffc -o other.save",
    "hvmctx extract guest.save --what memory -o memory",
    "hvmctx build --memory memory --vcpus 2 -o fresh.save",
)


def add_arguments(parser: ArgumentParser) -> None:
    memory = parser.add_mutually_exclusive_group()
    memory.add_argument("--memory", metavar="FILE", help="raw memory; holes are absent pages")
    memory.add_argument("--core", metavar="FILE", help="an ELF core of QEMU: memory and CPUs")
    parser.add_argument("--base", metavar="IMAGE", help="take every other part from this image")
    parser.add_argument(
        "--context", metavar="FILE", help="the HVM context: raw, JSON from to-json, or an image"
    )
    parser.add_argument(
        "--vcpus", type=int, metavar="N",
        help="without a context: this many vcpus at the reset vector (a core has its own)",
    )  # fmt: skip
    parser.add_argument(
        "--param", action="append", default=[], metavar="NAME=VALUE",
        help="an HVM parameter, such as STORE_PFN=0xfeffc; may be repeated",
    )  # fmt: skip
    parser.add_argument("--tsc", metavar="MODE,KHZ[,NSEC[,INCARNATION]]", help="such as 0,2600000")
    parser.add_argument("--policy", metavar="IMAGE", help="CPU policies from this image")
    parser.add_argument("--emulator", metavar="FILE", help="the device model's file")
    parser.add_argument(
        "--config", metavar="FILE",
        help="what describes the guest: xl's configuration as JSON, libvirt's XML, or the "
        "S-expression of a VM of XAPI's",
    )  # fmt: skip
    parser.add_argument(
        "--layer", choices=("xl", "xapi", "libvirt", "libxl", "libxc"), default="xl",
        help="what to write: what xl restore takes (default), XAPI, or virsh restore; or the "
        "stream in it alone",
    )  # fmt: skip
    parser.add_argument(
        "--release",
        metavar="RELEASE",
        help="the Xen release that wrote it and is to restore it (default: 4.17)",
    )
    parser.add_argument(
        "--force-inconsistent",
        action="store_true",
        help="only warn of parts that do not match; leave out a missing device model",
    )
    inputs.add_output(parser)
    inputs.add_limits(parser)


def run(args: Namespace) -> int:
    from hvmctx.abi.releases import Release

    release = Release(args.release) if args.release else None
    inputs.whole_file(args.output, "build", "an image is verified once it is written")
    if args.vcpus is not None and (args.context or args.base or args.core):
        raise UsageError("build: --vcpus cannot be combined with --context, --base or --core")
    if args.base is None:
        return _build(args, None, release)
    with inputs.open_file(args, args.base, "build", seekable=True) as base:
        return _build(args, base, release)


def _build(args: Namespace, base: Image | None, release: Release | None) -> int:
    from hvmctx.save.build import build
    from hvmctx.save.libxl import DeviceModelFile

    like = [base.source.access] if base is not None else []
    guest = _guest(args, base, release, like)
    if args.config:
        config = inputs.read_file(args.config, like, inputs.limits_of(args))
    else:
        config = _config_of(base, args.layer)
    emulator = _emulator(args, base)
    with replacing(args.output, force=args.force, like=like) as out:
        saved = build(
            guest, out, layer=args.layer, version=_version(base, release), config=config,
            emulator=emulator, without_emulator=args.force_inconsistent,
        )  # fmt: skip
        if isinstance(emulator, DeviceModelFile):
            like.append(emulator.access)
        from hvmctx.verify.built import contradictions

        against = contradictions(out, release)
        for finding in against:
            messages.say(str(finding))
        if against and not args.force_inconsistent:
            count = f"{len(against)} contradiction{'s' if len(against) > 1 else ''}"
            raise FieldError(f"{count}; --force-inconsistent writes the image anyway")
    messages.say(f"{sum(saved.passes)} pages, {saved.written} bytes of stream")
    return 0


def _version(base: Image | None, release: Release | None) -> int:
    """Of the libxc stream."""
    if release is not None:
        from hvmctx.abi import streams

        return 3 if release.since(streams.STATIC_DATA_SINCE) else 2
    header = base.header("libxc", "image header") if base else None
    return header.fields["version"] if header else 3


def _guest(
    args: Namespace, base: Image | None, release: Release | None, like: list[Access | None]
) -> StillGuest:
    """The memory, with all state; `like` gets to know who may read what it is made of."""
    from hvmctx.save.guests import ImageSource, MemoryFileSource, image_state

    guest: StillGuest
    if args.core:
        from hvmctx.save.qemu_core import MISSING, CoreSource

        guest = CoreSource(args.core)
        like.append(guest.access)
        cpus = guest.cpu_records()
        messages.say(MISSING)
    else:
        cpus = []
        if args.memory:
            guest = MemoryFileSource(args.memory)
            like.append(guest.access)
        elif base is not None:
            guest = ImageSource(base, **({"context": b"\0"} if args.context else {}))
        else:
            raise UsageError("build: no memory; expected --memory, --core or --base")
    if base is not None and not isinstance(guest, ImageSource):
        for name, value in image_state(base, with_context=not args.context).items():
            setattr(guest, name, value)
    if release is not None:
        guest.xen_version = release.version
    _set_context(args, guest, base, release, cpus, like)
    _set_params(args, guest, base)
    if args.policy:
        with inputs.open_file(args, args.policy, "build") as other:
            like.append(other.source.access)
            policies = image_state(other, with_context=False)
        guest.cpuid_policy, guest.msr_policy = policies["cpuid_policy"], policies["msr_policy"]
    if args.tsc:
        guest.tsc = _tsc(args.tsc)
    return guest


def _set_context(
    args: Namespace,
    guest: StillGuest,
    base: Image | None,
    release: Release | None,
    cpus: list[Record],
    like: list[Access | None],
) -> None:
    """The context: given, or the base's, or of a machine after a reset; its CPU records are
    the core's where there is one."""
    from hvmctx.abi.releases import Release
    from hvmctx.context.hvm_context import HvmContext
    from hvmctx.save.reset import reset_context

    if args.context:
        limits = inputs.limits_of(args)
        data = _context_of(args.context, like, limits)
        context = HvmContext.from_bytes(data, damaged=True, limits=limits)
    elif base is not None:
        context = HvmContext.from_bytes(guest.context, damaged=True)
    else:
        vcpus = len(cpus) or args.vcpus
        if not vcpus or not 0 < vcpus <= 128:
            raise UsageError(
                "build: no context; expected --context, --base, --core or --vcpus (1 to 128)"
            )
        context = reset_context(vcpus, release or Release("4.17"))
    if cpus:
        from hvmctx.save.qemu_core import with_cpus

        context = with_cpus(context, cpus)
    guest.context = context.to_bytes()


def _context_of(path: str, like: list[Access | None], limits: Limits) -> bytes:
    data = inputs.read_file(path, like, limits)
    if data.lstrip()[:1] == b"{":
        from hvmctx.json_form.document import Document

        document = Document.from_text(data, limits)
        if document.context is not None:
            return document.to_bytes()
        data = document.to_bytes()
    from hvmctx.image.image import open_image

    with open_image(data, limits=limits) as image:
        return bytes(image.context_bytes())


def _set_params(args: Namespace, guest: StillGuest, base: Image | None) -> None:
    from hvmctx.abi.streams import param_index
    from hvmctx.save.build import DEFAULT_PARAMS

    params = dict(guest.params if base is not None else DEFAULT_PARAMS.items())
    for setting in args.param:
        name, equals, text = setting.partition("=")
        index = param_index(name)
        if index is None or not equals:
            raise UsageError(f"build: --param {setting}: expected NAME=VALUE")
        try:
            params[index] = int(text, 0)
        except ValueError:
            raise UsageError(f"build: --param {setting}: {text!r} is not a number") from None
        if reason := misfit(f"HVM_PARAMS.{name}", params[index], 64, text=text):
            raise FieldError(reason)
    guest.params = list(params.items())


def _tsc(text: str) -> TscInfo:
    from hvmctx.stream.libxc import TscInfo

    try:
        numbers = [int(part, 0) for part in text.split(",")]
        if not 2 <= len(numbers) <= 4:
            raise ValueError
        info = TscInfo(*numbers, *[0] * (4 - len(numbers)))
        info.to_bytes()
    except (ValueError, FieldError):
        raise UsageError(f"build: --tsc {text}: expected MODE,KHZ[,NSEC[,INCARNATION]]") from None
    return info


def _config_of(base: Image | None, layer: str) -> bytes:
    if base is None or layer in ("libxl", "libxc"):
        return b""
    from hvmctx.save.rewrap import text_of

    return text_of(base, layer)


def _emulator(args: Namespace, base: Image | None) -> DeviceModelFile | DeviceModelData | None:
    from hvmctx.save.libxl import DeviceModelData, DeviceModelFile

    if args.emulator:
        return DeviceModelFile(args.emulator)
    if base is None or args.layer == "libxc" or not base.emulators:
        return None
    last = base.emulators[-1]
    return DeviceModelData(last.payload, last.emulator_id or 2)
