"""Names of the parts of an image that `Editor` takes out and puts in whole: the HVM context,
the device model's file, the configuration, the body of one record.

    hvm-context              the whole context
    emulator                 the device model's file, without its record's ids
    record:CPU/1             a record of the context, by type and instance
    record:X86_TSC_INFO      a record of the streams, the first; /3 the fourth
    record:libxc:0x20/1      by number: a layer, libxc, libxl, xapi or context, and a type
    config                   the configuration of an xl file
    xml                      the domain's XML of a libvirt file, without its NUL
    xenops, varstored, swtpm of an XAPI image: short for record:XENOPS and so on

Any other name is a path (`edit.paths`): of a value, or of a body.
"""

from __future__ import annotations

from hvmctx.abi import streams
from hvmctx.abi.fields import decimal
from hvmctx.abi.registry import by_name
from hvmctx.errors import UsageError
from hvmctx.image.handlers import is_read
from hvmctx.messages import did_you_mean
from hvmctx.stream.reader import CONTEXT, LIBXC, LIBXL, XAPI

__all__ = [
    "CONFIG", "EMULATOR", "HVM_CONTEXT", "MEMORY", "XML", "is_named", "is_not_kept", "named",
    "unknown",
]  # fmt: skip

HVM_CONTEXT, EMULATOR, CONFIG, XML = "hvm-context", "emulator", "config", "xml"
MEMORY = "memory"
"""What `extract` takes besides: see `edit.memory`."""
_SHORT = ("xenops", "varstored", "swtpm")
_WORDS = (HVM_CONTEXT, EMULATOR, CONFIG, XML, *_SHORT, MEMORY)


def is_named(what: str) -> bool:
    """Whether it names a part, and is no path."""
    return what.partition("/")[0] in _WORDS or what.startswith("record:")


def unknown(what: str) -> UsageError:
    """The error about a word that names no part, and is no path either."""
    names = ", ".join(_WORDS)
    guess = did_you_mean(what, _WORDS)
    return UsageError(f"{what}: expected {names}, a path, or record:TYPE/INSTANCE{guess}")


def is_not_kept(what: str) -> bool:
    """Whether a pipe does not keep it: page data, and records of types that nobody knows."""
    if not is_named(what):
        return what[:4].lower() == "pfn["
    if what in (HVM_CONTEXT, EMULATOR, CONFIG, XML):
        return False
    layer, number, _ = named(what)
    if layer == CONTEXT:
        return False
    return (layer, number) == (LIBXC, streams.LIBXC_PAGE_DATA) or not is_read(layer, number)


def named(what: str) -> tuple[str, int, int]:
    """(layer, type, instance) of a `record:`; for the streams the instance counts."""
    if what == MEMORY:
        raise UsageError(f"{what}: it is extracted, and never replaced")
    kind, _, text = what.partition(":")
    if what.partition("/")[0] in _SHORT:
        kind, text = "record", what
    name, slash, instance_text = text.partition("/")
    if kind != "record" or not name:
        raise unknown(what)
    instance = decimal(instance_text) if slash else 0
    if instance is None:
        raise UsageError(f"{what}: {instance_text!r} is not an instance")
    layer, colon, number_text = name.lower().partition(":")
    if colon:
        number = _number(number_text)
        if layer not in (LIBXC, LIBXL, XAPI, CONTEXT) or number is None:
            raise UsageError(f"{what}: expected libxc, libxl, xapi or context, and a number")
        return layer, number, instance
    for layer, types in streams.RECORDS.items():
        for number, known in types.items():
            if known == name.upper() and known != "END":
                return layer, number, instance
    number = _number(name)
    return CONTEXT, by_name(name).typecode if number is None else number, instance


def _number(text: str) -> int | None:
    try:
        number = int(text, 0)
    except ValueError:
        return None
    return number if 0 <= number < 1 << 32 else None
