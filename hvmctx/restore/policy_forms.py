"""The forms in which a CPU policy comes: rows of bytes (`.pol`), JSON, and what `xen-cpuid -p`
prints of all policies of a host or of one domain.

A `.pol` is a u32 count of leaves, X86_CPUID_POLICY rows of 24 bytes (leaf, subleaf, eax to edx), a
u32 count of MSRs, and X86_MSR_POLICY rows of 16 bytes (index, flags, value), little endian. The
JSON is an object with `cpuid` and `msr`, lists of such rows as numbers.
"""

from __future__ import annotations

import json
import re
import struct

from hvmctx.errors import FormatError
from hvmctx.messages import why_not_json
from hvmctx.restore.policy import LEAF_BITS, MOST_ROWS, MSR_BITS, checked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from hvmctx.restore.policy import Leaf, Msr

    Rows = tuple[list[Leaf], list[Msr]]

__all__ = [
    "LEAF_ROW", "MOST_POL", "MSR_ROW", "from_pol", "is_text", "leaf_of", "lines_of",
    "msr_of", "policies_of", "rows_of", "to_pol",
]  # fmt: skip

LEAF_ROW, MSR_ROW = struct.Struct("<6I"), struct.Struct("<IIQ")
"""A CPUID leaf and an MSR of a policy as a hypervisor gives them: leaf, subleaf, eax to edx; index,
flags, value."""
_COUNT = struct.Struct("<I")
MOST_POL = 2 * _COUNT.size + MOST_ROWS * (LEAF_ROW.size + MSR_ROW.size)
"""Bytes of the longest `.pol`."""
_LARGEST = 1 << 20
_TEXT_WORDS = (b" policy: ", b"Xen reports there are maximum")
"""What xen-cpuid prints near the start."""
_TITLE = re.compile(r"(.{1,40}) policy: \d{1,9} leaves, \d{1,9} MSRs")
_HEX = "[0-9a-f]{8}"
_LEAF = re.compile(rf"({_HEX}):({_HEX}) -> ({_HEX}):({_HEX}):({_HEX}):({_HEX})")
_MSR = re.compile(rf"({_HEX}) -> ([0-9a-f]{{16}})")


def rows_of(data: bytes) -> Rows:
    """The policy in one of the three forms. Raises FormatError, also for a text with several
    policies: which of them is meant is not known.

    >>> rows_of(b'{"cpuid": [[1, 4294967295, 0, 0, 1, 0]]}')
    ([(1, 4294967295, 0, 0, 1, 0)], [])
    """
    if data[:64].lstrip().startswith(b"{"):
        return _from_json(data)
    if is_text(data):
        found = policies_of(data, "xen-cpuid -p")
        if len(found) != 1:
            names = ", ".join(found) or "none"
            raise _error("not the policy of one domain", names, "the text of xen-cpuid -p DOMID")
        return next(iter(found.values()))
    return from_pol(data)


def is_text(head: bytes) -> bool:
    """Whether a file that starts like this is JSON, or the text of xen-cpuid."""
    return head[:64].lstrip().startswith(b"{") or any(words in head for words in _TEXT_WORDS)


def to_pol(leaves: Iterable[Leaf], msrs: Iterable[Msr]) -> bytes:
    """The rows as bytes."""
    packed = [LEAF_ROW.pack(*row) for row in leaves], [MSR_ROW.pack(*row) for row in msrs]
    return b"".join(_COUNT.pack(len(rows)) + b"".join(rows) for rows in packed)


def from_pol(data: bytes) -> Rows:
    """The inverse of `to_pol`. Raises FormatError."""
    parts: list[bytes] = []
    rest = memoryview(data)
    for what, row in (("leaves", LEAF_ROW), ("MSRs", MSR_ROW)):
        if len(rest) < _COUNT.size:
            raise _error(f"no count of {what}", f"{len(rest)} bytes", f"{_COUNT.size}", data, rest)
        (count,) = _COUNT.unpack_from(rest)
        end = _COUNT.size + count * row.size
        if count > MOST_ROWS or len(rest) < end:
            found = f"a count of {count}, and {len(rest) - _COUNT.size} bytes"
            raise _error(f"{what} that are not there", found, f"{row.size} bytes each", data, rest)
        parts.append(bytes(rest[_COUNT.size : end]))
        rest = rest[end:]
    if len(rest):
        raise _error("bytes after the MSRs", f"{len(rest)} bytes", "none", data, rest)
    return list(LEAF_ROW.iter_unpack(parts[0])), list(MSR_ROW.iter_unpack(parts[1]))


def _from_json(data: bytes) -> Rows:
    try:
        plain = json.loads(data[: _LARGEST + 1])
    except (ValueError, RecursionError) as error:
        raise _error(
            f"not JSON: {why_not_json(error)}", "", "an object with cpuid and msr"
        ) from None
    if not isinstance(plain, dict) or not {"cpuid", "msr"} & set(plain):
        raise _error("not a policy", "neither cpuid nor msr", "an object with cpuid and msr")
    leaves = checked(plain.get("cpuid", []), LEAF_BITS, "leaf")
    msrs = checked(plain.get("msr", []), MSR_BITS, "MSR")
    return leaves, msrs  # type: ignore[return-value]  # of six and of three


def policies_of(text: bytes, what: str) -> dict[str, Rows]:
    """Title -> rows of every policy in a text of xen-cpuid. Lines that mean nothing here are passed
    over. Raises FormatError for a title that comes twice, and for too many rows."""
    policies: dict[str, Rows] = {}
    rows: Rows | None = None
    for line in lines_of(text, what):
        title = _TITLE.fullmatch(line)
        if title:
            if title[1] in policies:
                raise _error("a policy comes twice", title[1], "once")
            rows = policies[title[1]] = [], []
        elif rows is not None and _LEAF.fullmatch(line):
            rows[0].append(leaf_of(line))
        elif rows is not None and _MSR.fullmatch(line):
            rows[1].append(msr_of(line))
        if rows is not None and len(rows[0]) + len(rows[1]) > MOST_ROWS:
            raise _error("a policy is too long", f"more than {MOST_ROWS} rows", "some hundred")
    return policies


def lines_of(text: bytes, what: str) -> Iterable[str]:
    """The lines of what a program printed. Raises FormatError for more than 1 MiB."""
    if len(text) > _LARGEST:
        raise _error(f"too long for the output of {what}", f"{len(text)} bytes", f"{_LARGEST}")
    return (line.strip() for line in text.decode("utf-8", "replace").splitlines())


def leaf_of(text: str) -> Leaf:
    """A line of `LEAF_TEXT`. Raises FormatError."""
    match = _LEAF.fullmatch(text)
    if match is None:
        raise _error("not a CPUID leaf", repr(text)[:80], "leaf:subleaf -> eax:ebx:ecx:edx")
    leaf, subleaf, a, b, c, d = (int(digits, 16) for digits in match.groups())
    return leaf, subleaf, a, b, c, d


def msr_of(text: str) -> Msr:
    """A line of `MSR_TEXT`. Raises FormatError."""
    match = _MSR.fullmatch(text)
    if match is None:
        raise _error("not an MSR", repr(text)[:80], "index -> value")
    return int(match[1], 16), 0, int(match[2], 16)


def _error(
    problem: str, found: str, expected: str, data: bytes = b"", rest: memoryview | None = None
) -> FormatError:
    offset = 0 if rest is None else len(data) - len(rest)
    return FormatError(problem, layer="policy", offset=offset, found=found, expected=expected)
