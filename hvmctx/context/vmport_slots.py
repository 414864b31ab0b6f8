"""Guestinfo of a VMPORT record: the slots of a state, one entry as bytes, and keys and values
as text.

An entry is u8 key_len, u8 val_len, key, value; a jumbo entry u8 key_len, u16 val_len, key,
value. docs/vmport.md has the same in words, and `context.vmport` where entries lie in a body.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from hvmctx.abi.forms import Escaped, Form, Listed, escaped, unescaped
from hvmctx.abi.vmport import ENTRY_HEAD, JUMBO_ENTRY_HEAD
from hvmctx.errors import FieldError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

__all__ = ["SLOTS_FORM", "Slots", "as_text", "from_text", "pack_entry"]


@dataclass(init=False)
class Slots:
    """The guestinfo slots of a state in their order: `pairs` is the list of (key, value),
    bytes both, and a pair with an empty key is an empty slot.

    A key that comes twice stays there twice. `slots[key]` gives and sets the first of them,
    where a search through the slots ends (that search is in a patch that is missing here)."""

    pairs: list[tuple[bytes, bytes]]

    def __init__(self, pairs: Mapping[bytes, bytes] | Iterable[tuple[bytes, bytes]] = ()) -> None:
        given: Any = pairs.items() if isinstance(pairs, Mapping) else pairs
        self.pairs = list(given)

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(self.pairs)

    def __contains__(self, key: object) -> bool:
        return any(key == there for there, _ in self.pairs)

    def get(self, key: bytes, default: bytes | None = None) -> bytes | None:
        """The first value of the key, or `default`."""
        return next((value for there, value in self.pairs if there == key), default)

    def __getitem__(self, key: bytes) -> bytes:
        """The first value of the key. Raises KeyError."""
        value = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: bytes, value: bytes) -> None:
        """Replace the first value of the key where it stands, or add the key at the end."""
        for at, (there, _) in enumerate(self.pairs):
            if there == key:
                self.pairs[at] = (key, value)
                return
        self.pairs.append((key, value))

    def __delitem__(self, key: bytes) -> None:
        """Remove the key, however often it is there. Raises KeyError."""
        if key not in self:
            raise KeyError(key)
        self.pairs = [pair for pair in self.pairs if pair[0] != key]


class _Slots(Form):
    """A list of lists of two: key and value."""

    __slots__ = ()
    _PAIRS = Listed(Listed(Escaped(), 2))

    def write(self, value: Slots) -> list[list[str]]:
        return [[escaped(key), escaped(held)] for key, held in value]

    def read(self, plain: object, where: str) -> Slots:
        return Slots((key, value) for key, value in self._PAIRS.read(plain, where))

    def schema(self) -> dict[str, object]:
        return self._PAIRS.schema()


SLOTS_FORM = _Slots()


def pack_entry(key: bytes, value: bytes, *, jumbo: bool = False) -> bytes:
    """One guestinfo entry. Raises FieldError for what its length fields cannot say."""
    try:
        head = JUMBO_ENTRY_HEAD if jumbo else ENTRY_HEAD
        return head.pack(len(key), len(value)) + key + value
    except struct.error:
        raise FieldError(
            f"VMPORT: a key of {len(key)} and a value of {len(value)} bytes do not fit a "
            f"{'jumbo ' if jumbo else ''}guestinfo entry"
        ) from None


def as_text(data: bytes) -> str:
    """In quotes, what is not printable ASCII as `\\xNN`: reads back with `from_text`."""
    text = escaped(data).replace('"', "\\x22")
    return f'"{text}"'


def from_text(text: str) -> bytes:
    """The inverse of `as_text`; the quotes may be left out. Raises UsageError."""
    inner = text[1:-1] if len(text) >= 2 and text[0] == text[-1] == '"' else text
    try:
        return unescaped(inner)
    except UnicodeEncodeError:
        raise UsageError(f"{text!a}: not text") from None
    except ValueError as error:
        raise UsageError(f"{text}: {error}") from None
