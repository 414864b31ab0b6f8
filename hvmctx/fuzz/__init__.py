"""Fuzz-testing restore bounds: inputs at every bound (`contexts`, `vmport` and `streams`, each
made with a `random.Random`), hypothesis strategies for them (`strategies`), targets with the
library's invariants (`targets`), campaigns (`campaign`), comparison with other loaders
(`differential`), and files for a hypervisor's test lab (`generate`)."""

from __future__ import annotations

__all__ = ["MANIFEST", "NAMES"]

MANIFEST = "manifest.jsonl"
"""What `generate` writes beside its files: which verdicts to expect of them."""
NAMES = ("context", "text", "strict", "stream", "judge", "strip", "vmport", "json", "edit")
"""The targets: those of contexts, of streams, and others."""
