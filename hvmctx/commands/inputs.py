"""What commands have in common: the arguments INPUT, --layer, -o and others, and opening what
they name."""

from __future__ import annotations

import os
import sys

from hvmctx import messages
from hvmctx.abi.fields import decimal
from hvmctx.abi.streams import GUEST_X86_PV, LAYERS
from hvmctx.errors import (
    FormatError,
    HvmctxError,
    InputError,
    LimitError,
    UnsupportedError,
    UsageError,
)
from hvmctx.files.opening import read_whole, unopened
from hvmctx.files.source import PipeSource
from hvmctx.image.image import Image, open_image
from hvmctx.limits import DEFAULT, Limits, size_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Iterable
    from typing import BinaryIO

    from hvmctx.abi.vmport import VmportProfile
    from hvmctx.files.access import Access
    from hvmctx.files.opening import Target
    from hvmctx.image.indexing import Watcher
    from hvmctx.restore.guest import Guest
    from hvmctx.restore.host import Host
    from hvmctx.restore.policy import Leaf, Msr

__all__ = [
    "LAYERS", "MOST_INSTANCES", "add_host", "add_input", "add_judged", "add_limits", "add_output",
    "add_vmport_profile", "add_what", "check_judged", "check_vcpus", "domid_of", "file_of",
    "files_in", "guest_of_policy", "host_asked", "host_of", "hosts_of", "is_directory", "is_domid",
    "limits_of", "no_domid", "open_file", "open_input", "open_named", "open_seekable",
    "patched_xen", "policy_of", "profile_of", "read_file", "report", "target_of", "warn",
    "whole_file",
]  # fmt: skip

MOST_INSTANCES = 0x10000
"""Vcpus that records can be told apart by: an instance has 16 bits. How many Xen takes is
another matter, `restore.guest.MOST_VCPUS`."""


def add_input(parser: ArgumentParser, name: str = "input") -> None:
    parser.add_argument(
        name, metavar="INPUT", help="a path, - for standard input, or a running domain's DOMID"
    )
    _add_layer(parser)
    add_limits(parser)


def _add_layer(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--layer", choices=LAYERS, metavar="LAYER",
        help=f"what the input starts with: {', '.join(LAYERS)} (default: detected)",
    )  # fmt: skip


def add_limits(parser: ArgumentParser) -> None:
    """Options of every command that reads what somebody else may have made: `limits_of`."""
    parser.add_argument(
        "--limits", type=Limits.parse, metavar="NAME=VALUE,...",
        help="take more, or less, of an input than usual: stream_records=2M,kept=1G; "
        "docs/limits.md has the names",
    )  # fmt: skip
    parser.add_argument(
        "--max-size", type=size_of, metavar="SIZE",
        help="the largest input that is read whole, such as 512M (bare contexts and JSON: "
        f"{DEFAULT.input >> 20}M)",
    )  # fmt: skip


def limits_of(args: Namespace) -> Limits:
    """What `add_limits` is about; the defaults without."""
    limits: Limits = getattr(args, "limits", None) or DEFAULT
    size: int | None = getattr(args, "max_size", None)
    return limits if size is None else limits.but(input=size)


def add_output(parser: ArgumentParser, *, required: bool = True) -> None:
    """Where nothing is required, the default is standard output."""
    parser.add_argument(
        "-o", "--output", metavar="FILE", required=required, default=None if required else "-",
        help=f"what to write; - is standard output{'' if required else ' (default)'}",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="replace an existing FILE")


def add_vmport_profile(
    parser: ArgumentParser, text: str = "the constants of VMPORT records"
) -> None:
    """An option that `cli` acts on: the command runs with that profile in use."""
    parser.add_argument(
        "--vmport-profile", metavar="NAME|FILE", help=f"{text}: a named profile or a JSON file"
    )


def profile_of(name: str) -> VmportProfile:
    """A named VMPORT profile, or the one in a JSON file. Raises UsageError."""
    from hvmctx.abi.vmport import PROFILES, VmportProfile

    if name in PROFILES:
        return PROFILES[name]
    try:
        text = read_file(name)
    except (InputError, LimitError) as error:
        known = ", ".join(PROFILES)
        raise UsageError(f"VMPORT profile: expected {known} or a file: {error}") from None
    return VmportProfile.from_json(text, name)


def read_file(
    path: str, like: list[Access | None] | None = None, limits: Limits = DEFAULT
) -> bytes:
    """All of a file, or of standard input, not decompressed; `like` gets to know who may read
    it. Raises InputError, and LimitError if there is more than may be read whole."""
    if path == "-":
        return _read_all(path, _standard_input(), like, limits)
    try:
        with open(path, "rb") as file:
            return _read_all(path, file, like, limits)
    except (OSError, ValueError) as error:
        raise unopened(path, error) from error


def _read_all(path: str, file: BinaryIO, like: list[Access | None] | None, limits: Limits) -> bytes:
    if like is not None:
        from hvmctx.files.access import Access

        like.append(Access.of(file))
    source = PipeSource(file, path)
    source.limits = limits
    return bytes(read_whole(source, record=path))


def add_judged(parser: ArgumentParser) -> None:
    """The arguments that restore and verify have in common, but for INPUT: only --explain
    does without one. They are about the guest to restore into."""
    _add_layer(parser)
    parser.add_argument("--vcpus", type=int, metavar="N", help="how many vcpus the guest has")
    add_vmport_profile(parser, "assume a Xen with the VMPORT patch, which no release has")
    parser.add_argument(
        "--checkpointed", action="store_true", help="expect a checkpointed stream (Remus, COLO)"
    )
    parser.add_argument("--explain", metavar="RULE", help="print what RULE says, and nothing else")
    add_limits(parser)


def add_host(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--host", metavar="HOST",
        help="where it is to be restored: what hvmctx host wrote, or an image saved there; "
        "--release is by default what runs there",
    )  # fmt: skip


def host_asked(args: Namespace) -> Host | None:
    """The host of `add_host`. Raises UsageError for a file that is none."""
    if args.host is None:
        return None
    try:
        return host_of(args, args.host)
    except UsageError:
        raise
    except HvmctxError as error:
        raise UsageError(f"--host: {error}") from error


def patched_xen(args: Namespace) -> VmportProfile | None:
    """The profile of a Xen with the VMPORT patch, where one is asked for: `cli` has it in use."""
    if args.vmport_profile is None:
        return None
    from hvmctx.abi import vmport

    return vmport.used()


def check_vcpus(args: Namespace, command: str) -> None:
    """Raises UsageError for a number of vcpus that instances cannot tell apart."""
    if args.vcpus is not None and not 0 < args.vcpus <= MOST_INSTANCES:
        raise UsageError(f"{command}: --vcpus {args.vcpus}: expected 1 to {MOST_INSTANCES}")


def check_judged(args: Namespace, command: str) -> bool:
    """Whether there is an INPUT to judge. If not, --explain asks for a rule, which is
    printed. Raises UsageError."""
    check_vcpus(args, command)
    if args.explain is not None:
        from hvmctx.verify.explain import explain

        sys.stdout.write(explain(args.explain))
        return False
    if not args.input:
        raise UsageError(f"{command}: no INPUT")
    return True


def is_domid(text: str) -> bool:
    """Whether an INPUT is all digits. A file with such a name is given as ./123."""
    return decimal(text) is not None


def file_of(path: str) -> str | BinaryIO:
    """The path, or standard input for `-`. Raises InputError if that is closed."""
    return _standard_input() if path == "-" else path


def _standard_input() -> BinaryIO:
    if sys.stdin is None:
        raise InputError("standard input is closed")
    return sys.stdin.buffer


def whole_file(path: str, command: str, why: str) -> None:
    """Raises UsageError for an output that is not a regular file."""
    if path == "-" or (os.path.exists(path) and not os.path.isfile(path)):
        raise UsageError(f"{command}: {why}: -o takes a file")


def domid_of(name: str, command: str) -> int:
    """The domain of a command that takes nothing else. Raises UsageError, and XenError for a
    number that no domain can have."""
    if not is_domid(name):
        raise UsageError(f"{command}: {name}: expected a DOMID, such as xl list shows")
    from hvmctx.live.xen import check_domid

    return check_domid(int(name))


def no_domid(path: str, command: str) -> str | BinaryIO:
    """As `file_of`, for an INPUT that must be a file. Raises UsageError for a DOMID."""
    if is_domid(path):
        raise UsageError(f"{command} takes a file, not a DOMID; ./NAME for a file of digits")
    return file_of(path)


def open_input(args: Namespace) -> Image:
    """The image that INPUT names; the context of a running domain counts as one."""
    return open_named(args, args.input)


def open_named(
    args: Namespace, name: str, *, keep_words: bool = False, watcher: Watcher | None = None
) -> Image:
    """As `open_input`, of one of several INPUTs."""
    target, layer = _target(name, args.layer)
    return open_image(
        target, layer=layer, keep_words=keep_words, watcher=watcher, limits=limits_of(args)
    )


def open_file(args: Namespace, name: str, what: str, *, seekable: bool = False) -> Image:
    """The image in a file that is not INPUT; messages call the option `what`. `seekable` as
    for `open_seekable`."""
    return open_image(no_domid(name, what), limits=limits_of(args), seekable=seekable)


def guest_of_policy(
    args: Namespace, command: str, like: list[Access | None] | None = None
) -> Guest:
    """The guest of --policy's image, with --vcpus vcpus; `like` gets to know who may read that
    image. Raises UsageError for one without a CPU policy, for which nothing would be refused."""
    from hvmctx.restore.guest import Guest

    what = f"{command} --policy"
    with open_file(args, args.policy, what) as image:
        guest = Guest.of_image(image, args.vcpus)
        if like is not None:
            like.append(image.source.access)
    if not guest.leaves:
        raise UsageError(f"{what}: {args.policy} has no CPU policy")
    return guest


def target_of(args: Namespace) -> tuple[Target, str | None]:
    """What `open_image` takes for INPUT: a target, and the layer if it is known."""
    return _target(args.input, args.layer)


def _target(name: str, layer: str | None) -> tuple[Target, str | None]:
    if not is_domid(name):
        return file_of(name), layer
    if layer not in (None, "context"):
        raise UsageError("--layer cannot be combined with a DOMID, which always gives a context")
    from hvmctx.live.xen import domain_context

    return domain_context(int(name)), "context"


def is_directory(name: str) -> bool:
    """Whether an INPUT is a directory, which stands for the files in it."""
    return not is_domid(name) and os.path.isdir(name)


def files_in(directory: str) -> list[str]:
    """The paths of the regular files in a directory, by name; those of its directories are
    not. What hvmctx itself puts beside inputs is left out: the manifest of `fuzz generate`,
    and temporary files. Raises InputError, also where no file is left."""
    from hvmctx.files.output import is_temporary
    from hvmctx.fuzz import MANIFEST

    try:
        with os.scandir(directory) as entries:
            names = sorted(entry.name for entry in entries if _may_be_file(entry))
    except OSError as error:
        raise InputError(f"{directory}: {error.strerror}") from error
    names = [name for name in names if name != MANIFEST and not is_temporary(name)]
    if not names:
        raise InputError(f"{directory}: no files in this directory")
    return [os.path.join(directory, name) for name in names]


def _may_be_file(entry: os.DirEntry[str]) -> bool:
    """What cannot be looked at, such as a link to itself, is not passed over: whoever opens it
    says so, of that one."""
    try:
        return entry.is_file()
    except OSError:
        return True


def open_seekable(args: Namespace) -> Image:
    """The image that INPUT names, readable by offset: what cannot be read twice is copied."""
    target, layer = target_of(args)
    return open_image(target, layer=layer, limits=limits_of(args), seekable=True)


def add_what(parser: ArgumentParser, more: str = "") -> None:
    parser.add_argument(
        "--what",
        default="hvm-context",
        metavar="WHAT",
        help="hvm-context (default), emulator, config (of xl's), xml (of libvirt's), xenops, "
        "varstored, swtpm (of XAPI's), or record:TYPE[/INSTANCE]: record:CPU/0 is the body of that "
        "record of the context, record:X86_TSC_INFO of that record of the stream, "
        "record:PAGE_DATA/3 of its fourth, record:libxc:0x20 of one that has no name. Or a path, "
        f"as get takes it: CPU/0.fpu_regs{more}",
    )


def report(image: Image, *, config: bool = False) -> int:
    """Print the problems of the input on stderr, a line each, those of its configuration too if
    that was shown. Returns the exit status."""
    problems = [*map(str, image.problems)]
    if config:
        try:
            image.config  # noqa: B018 - what cannot be read raises
        except HvmctxError as error:
            problems.append(str(error))
    sys.stdout.flush()
    for problem in dict.fromkeys(problems):
        messages.say(problem)
    return 1 if problems else 0


def warn(problems: Iterable[FormatError]) -> None:
    """As `report`, for damage that is kept as it is, so that nothing is lost."""
    for problem in problems:
        messages.warn(str(problem))


def policy_of(
    args: Namespace, name: str, like: list[Access | None] | None = None
) -> tuple[list[Leaf], list[Msr], Guest | None]:
    """The rows of the CPU policy that a file or DOMID names: of an image, whose guest is returned
    too, or in one of the forms of `restore.policy_forms`; `like` gets to know who may read it.
    Raises FormatError for a file that is none of these, and for an image without a policy."""
    from hvmctx.restore.policy_forms import LEAF_ROW, MOST_POL, MSR_ROW, from_pol, is_text, rows_of

    if is_domid(name):
        from hvmctx.live.xen import Xen, check_domid

        with Xen() as xen:
            leaves, msrs = xen.domain_policy(check_domid(int(name)))
        return list(LEAF_ROW.iter_unpack(leaves)), list(MSR_ROW.iter_unpack(msrs)), None
    head, size = _head_of(name)
    stream = _is_stream(head)
    if not stream and is_text(head):
        return *rows_of(read_file(name, like, limits_of(args))), None
    target: Target = file_of(name)
    if not stream and (size is None or size <= MOST_POL or name.endswith(".pol")):
        target = read_file(name, like, limits_of(args))
        try:
            return *from_pol(target), None
        except FormatError:
            if name.endswith(".pol"):
                raise
    from hvmctx.restore.guest import Guest

    with open_image(target, limits=limits_of(args)) as image:
        policy = image.policy
        if not policy.leaves and not policy.msrs:
            raise FormatError("no CPU policy", layer=image.format, offset=0)
        if args.host is not None and image.guest_type == GUEST_X86_PV:
            raise UnsupportedError(
                "a PV guest: only policies of HVM guests are judged", layer=image.format, offset=0
            )
        if like is not None and isinstance(target, str):
            like.append(image.source.access)
        return list(policy.leaves), list(policy.msrs), Guest.of_image(image)


def host_of(args: Namespace, name: str) -> Host:
    """The host that a file describes: what `hvmctx host` or `xen-cpuid -p` has written, or an
    image that was saved there. Raises FormatError for a file that is none of these."""
    from hvmctx.restore.host import Host
    from hvmctx.restore.policy_forms import is_text

    head, _ = _head_of(name)
    if not _is_stream(head) and is_text(head):
        return Host.read(read_file(name, limits=limits_of(args)))
    with open_image(no_domid(name, "--host"), limits=limits_of(args)) as image:
        return Host.of_image(image)


def hosts_of(args: Namespace, command: str) -> dict[str, Host]:
    """The hosts of --hosts, a directory with a file for each, by the names of the files without
    .json. Raises UsageError where it is none, and as `host_of`."""
    if not is_directory(args.hosts):
        raise UsageError(f"{command}: {args.hosts}: expected a directory with a file for each host")
    return {
        os.path.basename(path).removesuffix(".json") or os.path.basename(path): host_of(args, path)
        for path in files_in(args.hosts)
    }


def _is_stream(head: bytes) -> bool:
    from hvmctx.stream.detect import detect
    from hvmctx.stream.reader import LIBXC, LIBXL, XL

    return detect(head) in (XL, LIBXL, LIBXC)


def _head_of(name: str) -> tuple[bytes, int | None]:
    """The first bytes of a file, and its size if that is known; standard input keeps them."""
    target = file_of(name)
    if not isinstance(target, str):
        peek: Callable[[int], bytes] | None = getattr(target, "peek", None)
        return peek(_HEAD) if peek is not None else b"", None
    try:
        with open(target, "rb") as file:
            regular = os.path.isfile(target)
            return file.read(_HEAD) if regular else b"", os.path.getsize(target)
    except (OSError, ValueError) as error:
        raise unopened(name, error) from error


_HEAD = 4096
