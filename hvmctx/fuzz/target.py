"""What a target of the fuzzer is: a function that takes any bytes, asserts what must hold for
all of them, and returns the ids of the rules and outcomes that they reached.

An AssertionError, or any exception but an HvmctxError, is a finding about hvmctx.

A target does little with each input, and so runs many. Where something is to hold for several
releases or views, the input itself decides for which one it is tried (`choose`).
"""

from __future__ import annotations

import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeVar

    _T = TypeVar("_T")

__all__ = ["LARGEST", "Target", "choose"]

LARGEST = 1 << 20
"""Longer inputs are skipped: they only take longer."""


class Target:
    """`run` takes bytes and returns what they reached; `known` is all that can be reached;
    `seeds` makes inputs to start from, `mutate` edits one."""

    def __init__(
        self,
        name: str,
        run: Callable[[bytes], set[str]],
        known: Iterable[str],
        seeds: Callable[[random.Random], list[bytes]],
        mutate: Callable[[bytes, random.Random], bytes],
    ) -> None:
        self.name = name
        self._run = run
        self.known = frozenset(known)
        self.seeds = seeds
        self.mutate = mutate

    def run(self, data: bytes) -> set[str]:
        """Raises AssertionError, or whatever escapes, where something does not hold."""
        return set() if len(data) > LARGEST else self._run(data)


def choose(data: bytes, among: Sequence[_T]) -> _T:
    """One of these, by the input's checksum: always the same one for the same input, and of
    many inputs each for about as many."""
    return among[zlib.crc32(data) % len(among)]
