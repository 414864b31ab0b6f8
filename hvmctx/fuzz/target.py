"""What a target of the fuzzer is: a function that takes any bytes, asserts what must hold for
all of them, and returns the ids of the rules and outcomes that they reached.

An AssertionError, or any exception but an HvmctxError, is a finding about hvmctx.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable

__all__ = ["LARGEST", "Target"]

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
