"""Paths into an image: the one language that `diff` and `locate` print, and `get`, `set` and
`replace` take.

    PATH      = RECORD [ "/" INSTANCE ] [ "#" NUMBER ] [ "." FIELD ] [ WINDOW ]
              | TABLE | "config" { STEP } | LAYER "." HEADER "." NAME | "tail" [ WINDOW ]
              | "pfn[" PFN [ ":+" COUNT ] "]" ( [ WINDOW ] | ".type" ) | "format"
    RECORD    = the name of a record of the HVM context or of the streams, in any case; or by
                number, as context:99, libxc:0x20, libxl:0x7
    INSTANCE  = of the HVM context decimal, 0 where it is left out; of the streams how many of
                its type come before, where it is left out the last that a restore acts on
    NUMBER    = which of those with the same type and instance, from 1; the last where it is
                left out, as Xen loads it
    FIELD     = NAME { "[" INDEX "]" | "." NAME }   a number, or an array of bytes
              | "length"                 of the record: its body cut off, or filled up with zeros
              | "descriptor." NAME       typecode, instance or length: what follows is read anew
              | "guestinfo[" KEY "]" | "guestinfo_jumbo[" KEY "]"   of VMPORT; KEY is text, in
                quotes or not, with \\xNN for a byte that is not printable ASCII; also #NUMBER
              | "chans[n].send" | "chans[n].recv[n]" | "chans[n].jumbo_recv"   what VMPORT's
                buffers hold
    WINDOW    = "[" START ":+" SIZE "]"   bytes of an array, or of a body: 1, 2, 4 or 8 as a
                number, little-endian, else as bytes
    TABLE     = "HVM_PARAMS." NAME | "CPUID[" LEAF [ "," SUBLEAF ] "]" [ "." REGISTER ]
              | "MSR[" INDEX "]" [ ".flags" ]
    STEP      = "." NAME | "[" INDEX "]" | "[" JSON STRING "]"

    CPU/0.rip                           a field of a record of the HVM context
    LAPIC_REGS/1.data[0x20:+4]          four bytes of an array, as a number
    CPU_MSR/0.msr[1].val                an element of a variable part
    VMPORT.guestinfo["guestinfo.ip"]    a value of VMPORT's
    HVM_PARAMS.17, HVM_PARAMS.STORE_PFN a parameter
    CPUID[7,0].ebx, CPUID[1].ecx        a register of the CPU policy; CPUID[7,0] all four
    MSR[0xce]                           an MSR of the CPU policy
    X86_TSC_INFO.khz                    a field of a record of a stream
    config.c_info.name                  a value of the configuration; config is all of it
    libxc.domain_header.xen_minor       a field of a header
    CPU/1, SHARED_INFO, HVM_CONTEXT     all of a body, as bytes
    tail                                what follows the END of the HVM context
    pfn[0x1000:+0x10]                   16 pages of memory, as bytes

What is inside of EMULATOR_CONTEXT, and in records that another package's handler takes apart,
has paths too: see `edit.contents`; so has what describes the guest in XAPI's and libvirt's
wrappers: see `edit.described`.

A value in text is a number (decimal, 0x, or the name of a value where the field has some) or,
for an array of bytes and a guestinfo value, hex digits or text in "quotes"; all four registers
of a leaf are hex numbers, separated by blanks; of the configuration it is JSON, or text.
"""

from __future__ import annotations

import re
from ctypes import sizeof

from hvmctx.abi.fields import Layout, Slot, decimal
from hvmctx.abi.streams import CONTEXT
from hvmctx.errors import FieldError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from hvmctx.abi.declare import RecordType
    from hvmctx.context.record import Record
    from hvmctx.stream.reader import StreamRecord

    Step = str | int

__all__ = [
    "DEEPEST", "Path", "bytes_of", "is_pattern", "json_of", "locate", "matcher", "naming",
    "record_path", "split_setting", "step_text", "steps_of", "stream_path", "value_of",
    "window_of", "without_window",
]  # fmt: skip

DEEPEST = 50
"""Steps into a configuration: none is nested as deep."""
_START = re.compile(r"([^./#\[]*)(?:/([^.#\[]*))?(?:#([^.\[]*))?(.*)", re.DOTALL)
_WINDOW = re.compile(r"\[([0-9A-Za-z]+):\+([0-9A-Za-z]+)\]$")
_STEP = re.compile(r'\.([^.\[\]"]+)|\[([0-9]{1,9})\]|\[("(?:[^"\\]|\\.)*")\]')
_PLAIN = re.compile(r"[\w -]+$", re.ASCII)
_WORD_SIZES = {1: "B", 2: "H", 4: "I", 8: "Q"}


class Path:
    """A path in parts: the `name` that it starts with, in upper case; `instance` and `number`
    where they are given; and the `rest`, from its first `.` or `[` on. `text` is the path.
    Raises UsageError for one that starts with nothing, or whose numbers are none."""

    __slots__ = ("instance", "name", "number", "rest", "text")

    def __init__(self, path: str) -> None:
        found = _START.match(path)
        assert found is not None  # as any text matches
        name, instance, number, self.rest = found.groups()
        self.text = path
        self.name = name.upper()
        self.instance = _ordinal(instance, path, "an instance")
        self.number = _ordinal(number, path, "a number, counted from 1")
        if not name:
            raise UsageError(f"{path}: expected RECORD.FIELD, such as CPU/0.rip")
        if self.number == 0:
            raise UsageError(f"{path}: '0' is not a number, counted from 1")

    @property
    def head(self) -> str:
        """All but the rest."""
        return self.text[: len(self.text) - len(self.rest)]


def _ordinal(text: str | None, path: str, what: str) -> int | None:
    if text is None:
        return None
    number = decimal(text)
    if number is None:
        raise UsageError(f"{path}: {text!r} is not {what}")
    return number


def window_of(path: str, size: int) -> Slot | None:
    """The slot of the window that a path ends with, in an array or a body of `size` bytes; None
    where it ends with none. Raises UsageError for one that is not all within."""
    found = _WINDOW.search(path)
    if found is None:
        return None
    start, length = (_number(text) for text in found.groups())
    if start is None or not length:
        raise UsageError(f"{path}: expected [START:+SIZE]")
    if start + length > size:
        raise UsageError(f"{path} is beyond the {size} bytes that are there")
    return Slot(path, start, length, _WORD_SIZES.get(length, "s"))


def without_window(path: str) -> str:
    """The path of what a window is of."""
    return _WINDOW.sub("", path)


def record_path(record: Record) -> str:
    """The path of a record of a context: `CPU/0`, or by number `context:99/1`."""
    known = record.type
    return f"{known.name if known else f'{CONTEXT}:{record.typecode}'}/{record.instance}"


def stream_path(record: StreamRecord, number: int) -> str:
    """Of a record of a stream of which so many of its type come before: `SHARED_INFO/0`, or by
    number `libxc:0x80000055/0`."""
    name = record.name if record.known else f"{record.layer}:{record.type:#x}"
    return f"{name}/{number}"


def _number(text: str) -> int | None:
    try:
        return int(text, 0)
    except ValueError:
        return None


def locate(known: RecordType, field: str, length: int) -> tuple[Slot, int]:
    """The slot that a field names in a body of `length` bytes, and where in the body it counts
    from: elements of a variable part follow the structure. Raises UsageError."""
    path = f"{known.name}.{field}"
    if known.rest is not None and field.startswith(f"{known.rest[0]}["):
        name, element = known.rest
        if sizeof(element) == 1 and (window := window_of(field, length - known.size)):
            return window, known.size
        index, bracket, rest = field[len(name) + 1 :].partition("]")
        number = decimal(index)
        if not bracket or number is None:
            raise UsageError(f"{path}: expected {name}[n]")
        base = known.size + number * sizeof(element)
        if sizeof(element) == 1 and not rest:
            return Slot(field, 0, 1, "B"), base
        return Layout.of(element).locate(rest.removeprefix(".")), base
    array = without_window(field)
    if array != field:
        whole = known.layout.locate(array)
        if whole.is_bytes and (window := window_of(field, whole.size)) is not None:
            return window, whole.offset
    return known.layout.locate(field), 0


def steps_of(rest: str, path: str) -> list[Step]:
    """The names and indices of `.c_info.name` or `.disks[0]["a.b"]`. Raises UsageError."""
    steps: list[Step] = []
    at = 0
    while at < len(rest):
        found = _STEP.match(rest, at)
        if found is None:
            raise UsageError(f"{path}: expected .NAME, [INDEX] or [\"NAME\"] at '{rest[at:][:20]}'")
        name, index, quoted = found.groups()
        steps.append(name if name is not None else int(index) if index else _unquoted(quoted, path))
        at = found.end()
    return steps


def _unquoted(text: str, path: str) -> str:
    import json

    try:
        return str(json.loads(text))
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None


def step_text(step: Step) -> str:
    """The inverse, of one step: `.name`, `[0]`, or `["a.b"]`."""
    if isinstance(step, int):
        return f"[{step}]"
    if _PLAIN.match(step):
        return f".{step}"
    import json

    return f"[{json.dumps(step)}]"


def json_of(text: str, before: Any, path: str) -> Any:
    """A value in text: where there was text before, that itself, unless it is in quotes; else
    JSON, or a number with 0x. Raises FieldError."""
    import json

    if isinstance(before, str) and not text.startswith('"'):
        return text
    kinds: list[Callable[[str], Any]] = [json.loads, lambda digits: int(digits, 0)]
    for kind in kinds:
        try:
            return kind(text)
        except (ValueError, RecursionError):
            continue
    raise FieldError(f"{path}: {text[:40]!r} is no {type(before).__name__}")


def _unquoted_letters(text: str) -> str:
    """The letters outside of quotes, in brackets or not."""
    return re.sub(r'"(?:[^"\\]|\\.)*"', "", text)


def is_pattern(path: str) -> bool:
    """Whether it has wildcards, outside of quotes."""
    return bool(re.search("[*?]", _unquoted_letters(path)))


def matcher(pattern: str) -> Callable[[str], bool]:
    """Whether a path is one of those that a pattern names, or is within one: `*` stands for any
    text, `?` for a letter. An instance that is left out is 0."""
    words = re.split(r"([*?])", pattern)
    known = {"*": ".*", "?": "."}
    expression = "".join(known.get(word) or re.escape(word) for word in words)
    found = re.compile(rf"{expression}(?:[.\[].*)?", re.IGNORECASE | re.DOTALL)
    first = re.compile(r"/0(?=[.\[]|$)")
    return lambda path: bool(found.fullmatch(path) or found.fullmatch(first.sub("", path, 1)))


def naming(given: Iterable[str]) -> Callable[[str], bool]:
    """Whether a path is one of those that texts name, in any case. Each is some names with commas
    between them: of a record or a field (`tsc`), wherever it is, or a pattern as `matcher`
    takes it (`CPU/*.tsc`).

    >>> named = naming(["tsc,TMR_VAL", "CPUID[7,*]"])
    >>> [named(path) for path in ("CPU/1.tsc", "CPU/0.rip", "PMTIMER/0.tmr_val", "CPUID[7,0].ebx")]
    [True, False, True, True]
    """
    between = re.compile(r'(?:\[(?:"(?:[^"\\]|\\.)*"|[^\]"])*\]|[^,])+')  # commas, out of brackets
    every = [name for text in given for name in between.findall(text)]
    names = {name.upper() for name in every if not re.search(r"[./#\[*?]", name)}
    patterns = [matcher(name) for name in every]

    def is_named(path: str) -> bool:
        parts = re.split(r"[./#\[\]]", _unquoted_letters(path).upper())
        return not names.isdisjoint(parts) or any(fits(path) for fits in patterns)

    return is_named


def split_setting(setting: str) -> tuple[str, str]:
    """(PATH, VALUE) of PATH=VALUE: split at the first `=` outside of brackets, as keys may
    hold one, and values may hold anything. Raises UsageError where there is none."""
    inside = quoted = False
    for at, letter in enumerate(setting):
        if letter == '"' and inside:
            quoted = not quoted
        elif letter in "[]" and not quoted:
            inside = letter == "["
        elif letter == "=" and not inside:
            return setting[:at], setting[at + 1 :]
    raise UsageError(f"set: {setting}: expected PATH=VALUE")


def value_of(text: str, path: str) -> int:
    """A number: decimal, 0x, or the name of a value where the field has some (`abi.names`).
    Raises FieldError."""
    number = _number(text)
    if number is not None:
        return number
    from hvmctx.abi.names import names_of

    names = names_of(path)
    for number, name in names.items():
        if text.upper() == name.upper():
            return number
    known = f" or one of {', '.join(names.values())}" if names else ""
    raise FieldError(f"{path}: {text[:40]!r} is not a number{known}")


def bytes_of(text: str, path: str) -> bytes:
    """Bytes: hex digits, or text in quotes. Raises FieldError."""
    if text.startswith('"'):
        from hvmctx.context.vmport_slots import from_text

        return from_text(text)
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise FieldError(f'{path}: {text!r} is neither hex digits nor text in "quotes"') from None
