"""Values within a text of another's format, by their paths and where their bytes stand: so that
one is changed, and everything else stays as it was. `stream.sexp` and `stream.libvirt` find them.
"""

from __future__ import annotations

from hvmctx.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["LONGEST_PATH", "Place", "place_of", "replaced"]

LONGEST_PATH = 1000
"""What has a longer one has no place: nobody asks for it, and each value has a path of its own."""


class Place:
    """A value: `path` names it, `value` is what it means, and it takes the bytes from `start` to
    `end` of the text."""

    __slots__ = ("end", "path", "start", "value")

    def __init__(self, path: str, value: str, start: int, end: int) -> None:
        self.path = path
        self.value = value
        self.start = start
        self.end = end

    def __repr__(self) -> str:
        return f"<{self.path} at {self.start:#x}>"


def place_of(places: Iterable[Place], path: str, whole: str) -> Place:
    """The one that a path names; [0] may be left out. Raises UsageError, which calls the path
    `whole`."""
    found = {place.path: place for place in places}
    place = found.get(path) or found.get(path.replace("[0]", ""))
    if place is not None:
        return place
    raise UsageError(f"{whole}: no such value")


def replaced(text: bytes, place: Place, value: str, written: Callable[[str], bytes]) -> bytes:
    """The text with another value there; `written` puts one as the format has it."""
    return text[: place.start] + written(value) + text[place.end :]
