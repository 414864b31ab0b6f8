"""Names of the parts of an image that `Editor` takes out and puts in whole: the HVM context,
the device model's file, the configuration, the body of one record.

    hvm-context              the whole context
    emulator                 the device model's file, without its record's ids
    config                   the configuration of an xl file
    record:CPU/1             a record of the context, by type and instance
    record:X86_TSC_INFO      a record of the streams, the first; /3 the fourth
    record:libxc:0x20/1      by number: a layer, libxc, libxl or context, and a type

Any other name is a path (`edit.paths`): of a value, or of a body.
"""

from __future__ import annotations

from hvmctx.abi import streams
from hvmctx.abi.fields import decimal
from hvmctx.abi.registry import by_name
from hvmctx.errors import UsageError
from hvmctx.image.handlers import is_read
from hvmctx.messages import did_you_mean
from hvmctx.stream.reader import CONTEXT, LIBXC, LIBXL

__all__ = [
    "CONFIG", "EMULATOR", "HVM_CONTEXT", "MEMORY", "is_named", "is_not_kept",
    "named", "unknown",]  # fmt: skip

HVM_CONTEXT, EMULATOR, CONFIG = "hvm-context", "emulator", "config"
MEMORY = "memory"
"""What `extract` takes besides: see `edit.memory`."""


def is_named(what: str) -> bool:
    """Whether it names a part, and is no path."""
    return what in _WORDS or what.startswith("record:")


def unknown(what: str) -> UsageError:
    """The error about a word that names no part, and is no path either."""
    return UsageError(f"{what}: unknown part; expected {_EXPECTED}{did_you_mean(what, _WORDS)}")


_WORDS = (HVM_CONTEXT, EMULATOR, CONFIG, MEMORY)
_EXPECTED = "hvm-context, emulator, config, memory, record:TYPE/INSTANCE, or a path"


def is_not_kept(what: str) -> bool:
    """Whether a pipe does not keep it: page data, and records of types that nobody knows."""
    if not what.startswith("record:"):
        return what[:4].lower() == "pfn["
    layer, number, _ = named(what)
    if layer == CONTEXT:
        return False
    return (layer, number) == (LIBXC, streams.LIBXC_PAGE_DATA) or not is_read(layer, number)


def named(what: str) -> tuple[str, int, int]:
    """(layer, type, instance) of a `record:`; for the streams the instance counts."""
    if what == MEMORY:
        raise UsageError(f"{what}: it is extracted, and never replaced")
    kind, _, text = what.partition(":")
    name, slash, instance_text = text.partition("/")
    if kind != "record" or not name:
        raise UsageError(f"{what}: expected {_EXPECTED}")
    instance = decimal(instance_text) if slash else 0
    if instance is None:
        raise UsageError(f"{what}: {instance_text!r} is not an instance")
    layer, colon, number_text = name.lower().partition(":")
    if colon:
        number = _number(number_text)
        if layer not in (LIBXC, LIBXL, CONTEXT) or number is None:
            raise UsageError(f"{what}: expected libxc, libxl or context, and a number")
        return layer, number, instance
    for layer, names in streams.RECORDS.items():
        for number, known in names.items():
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
