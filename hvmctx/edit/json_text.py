"""Values within the text of a JSON document, found and changed where they stand: all other
bytes stay as they are.

Of a name that an object has twice the last counts, as JSON readers take it. Text that is not
UTF-8 (or ASCII) has no values that could be found.
"""

from __future__ import annotations

import json
from bisect import bisect_right

from hvmctx.edit.paths import DEEPEST
from hvmctx.errors import FieldError, MissingRecordError, UsageError
from hvmctx.messages import why_not_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hvmctx.edit.paths import Step

__all__ = ["JsonText", "added", "found_at", "place_at", "removed", "replaced"]

_SPACE = " \t\n\r"
_decode = json.JSONDecoder(strict=False).raw_decode


class _Member:
    """One of an object's or a list's: its name or index, where it starts (its name, if it has
    one), and where its value starts and ends."""

    __slots__ = ("end", "start", "step", "value")

    def __init__(self, step: Step, start: int, value: int, end: int) -> None:
        self.step = step
        self.start = start
        self.value = value
        self.end = end


class JsonText:
    """A document, of which each object and list is taken apart once, when it is asked for; `data`
    are its bytes. In `text` there is a character for each, so that offsets are those of the bytes.
    Raises FieldError for what is not JSON."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.text = data.rstrip(b"\0").decode("latin-1")
        self.top = self._skip(0)
        self._members: dict[int, list[_Member]] = {}
        self._named: dict[int, dict[Step, _Member]] = {}
        """By the place of the object or list."""
        try:
            self._ends = {self.top: int(_decode(self.text, self.top)[1])}
        except (ValueError, RecursionError) as error:
            raise FieldError(f"the configuration is not JSON: {why_not_json(error)}") from None

    def _skip(self, at: int) -> int:
        while at < len(self.text) and self.text[at] in _SPACE:
            at += 1
        return at

    def end(self, at: int) -> int:
        """Of the value there."""
        end = self._ends.get(at)
        if end is None:
            end = self._ends[at] = int(_decode(self.text, at)[1])
        return end

    def _name(self, start: int, end: int) -> str:
        """A member's. Raises UsageError."""
        quoted = self.text[start:end].encode("latin-1").decode("utf-8", "surrogateescape")
        try:
            return str(json.loads(quoted, strict=False))
        except (ValueError, RecursionError):
            raise UsageError(f"the configuration is not JSON at {start:#x}") from None

    def members(self, at: int) -> list[_Member]:
        """Of the object or list there; of another value none."""
        known = self._members.get(at)
        if known is None:
            known = self._members[at] = self._taken_apart(at)
        return known

    def _taken_apart(self, at: int) -> list[_Member]:
        text, found = self.text, list[_Member]()
        opened = text[at : at + 1]
        if opened not in ("{", "["):
            return []
        at = self._skip(at + 1)
        while at < len(text) and text[at] not in "}]":
            start, step = at, len(found)
            name: Step = step
            if opened == "{":
                at = self.end(at)
                name = self._name(start, at)
                at = self._skip(self._skip(at) + 1)
            end = self.end(at)
            found.append(_Member(name, start, at, end))
            at = self._skip(end)
            if text[at : at + 1] == ",":
                at = self._skip(at + 1)
        return found

    def member(self, at: int, step: Step) -> _Member | None:
        """The last of that name or index."""
        named = self._named.get(at)
        if named is None:
            named = self._named[at] = {member.step: member for member in self.members(at)}
        return named.get(step)

    def member_with(self, at: int, offset: int) -> _Member | None:
        """The one in whose name or value that byte is."""
        members = self.members(at)
        number = bisect_right(members, offset, key=lambda member: member.start) - 1
        return members[number] if number >= 0 and offset < members[number].end else None

    def walk(self, steps: list[Step]) -> tuple[int, int]:
        """How many of the steps are there, and where the value starts to which they lead."""
        at = self.top
        for number, step in enumerate(steps):
            member = self.member(at, step)
            if member is None:
                return number, at
            at = member.value
        return len(steps), at

    def need(self, steps: list[Step], what: str) -> int:
        """Where the value starts. Raises MissingRecordError where there is none."""
        there, at = self.walk(steps)
        if there < len(steps):
            from hvmctx.messages import did_you_mean

            siblings = [str(member.step) for member in self.members(at)]
            guess = did_you_mean(str(steps[there]), siblings)
            raise MissingRecordError(f"{what}: no such value in the configuration{guess}")
        return at

    def bytes(self, *parts: str) -> bytes:
        return "".join(parts).encode("latin-1")


def found_at(text: JsonText, steps: list[Step], what: str) -> tuple[int, int]:
    """Start and end of the value that the steps lead to. Messages begin with `what`. Raises
    MissingRecordError."""
    at = text.need(steps, what)
    return at, text.end(at)


def place_at(text: JsonText, offset: int) -> tuple[list[Step], int, int]:
    """The steps to the innermost value that has the byte at that offset in it, or in its name,
    and where that value starts and ends."""
    steps: list[Step] = []
    at = text.top
    while len(steps) < DEEPEST:
        member = text.member_with(at, offset)
        if member is None:
            break
        steps.append(member.step)
        at = member.value
    return steps, at, text.end(at)


def replaced(text: JsonText, steps: list[Step], value: Any, what: str) -> bytes:
    """The text with another value there. Raises as `found_at`."""
    start, end = found_at(text, steps, what)
    return text.data[:start] + _written(value, what) + text.data[end:]


def added(text: JsonText, steps: list[Step], value: Any, what: str) -> bytes:
    """The text with a value where there is none: after the last of the object or list that it
    goes into, which is made where it is not there either. Raises UsageError where it cannot be
    there."""
    data = text.data
    there, at = text.walk(steps)
    if there == len(steps):
        raise UsageError(f"{what}: it is there already")
    for step in reversed(steps[there + 1 :]):
        value = {step: value} if isinstance(step, str) else [value]
    step, members = steps[there], text.members(at)
    opened = text.text[at]
    if (opened == "{") != isinstance(step, str) or opened not in "{[":
        raise UsageError(f"{what}: the configuration has no place for it")
    if isinstance(step, int) and step != len(members):
        raise UsageError(f"{what}: the next of that list is [{len(members)}]")
    if any(isinstance(later, int) and later for later in steps[there + 1 :]):
        raise UsageError(f"{what}: a list begins with [0]")
    put = _written(value, what)
    if isinstance(step, str):
        put = json.dumps(step).encode() + b": " + put
    if members:
        end = members[-1].end
        between = text.bytes(text.text[at + 1 : members[0].start])
        return data[:end] + b"," + (between or b" ") + put + data[end:]
    return data[: at + 1] + put + data[at + 1 :]


def removed(text: JsonText, steps: list[Step], what: str) -> bytes:
    """The text without that value, every one of its name. Raises as `found_at`."""
    data = text.data
    text.need(steps, what)
    members = text.members(text.walk(steps[:-1])[1])
    gone = [number for number, member in enumerate(members) if member.step == steps[-1]]
    first = next(n for n in range(len(members) + 1) if n not in gone)
    for number in reversed(gone[first:]):
        data = data[: members[number - 1].end] + data[members[number].end :]
    if first:  # together with the comma after them, as there is none before
        end = members[first].start if first < len(members) else members[-1].end
        data = data[: members[0].start] + data[end:]
    return data


def _written(value: Any, what: str) -> bytes:
    try:
        return json.dumps(value).encode()
    except (TypeError, ValueError, RecursionError):
        raise FieldError(f"{what}: {value!r:.40} is nothing that JSON has") from None
