"""Walking big streams: `info` and `dump` of a sparse 64 GiB one, and the walk of 8 GiB
against Xen's own verifier where `ORACLE_ROOT` names an unpacked one."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

from benchmarks.measure import alternating, best_of, command
from benchmarks.sparse import write_sparse_stream
from benchmarks.startup import HERE

CONTEXT = os.path.join(HERE, "tests", "data", "images", "hvm1.hvmctx.bin")
TOOL = [sys.executable, os.path.join(HERE, "tools", "xen-hvmctx.py")]
VERIFIER = "usr/lib/xen-4.17/bin/verify-stream-v2"


def _peak(arguments: list[str]) -> float:
    """MiB of resident memory at the most."""
    script = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True
    )
    return int(done.stdout) / 1024


def _verifier(stream: str) -> tuple[list[str], dict[str, str]] | None:
    root = os.path.join(os.environ.get("ORACLE_ROOT", "/nonexistent"), "root")
    script = os.path.join(root, VERIFIER)
    if not os.path.exists(script):
        return None
    environment = dict(os.environ, PYTHONPATH=os.path.join(root, "usr/lib/xen-4.17/lib/python"))
    return ["/usr/bin/python3", script, "-i", stream, "-f", "libxc"], environment


def main() -> None:
    with open(CONTEXT, "rb") as file:
        context = file.read()
    with tempfile.TemporaryDirectory() as place:
        path = os.path.join(place, "stream")
        write_sparse_stream(path, 64, context)
        for name in ("info", "dump"):
            seconds = best_of(command([*TOOL, name, path]), 5)
            peak = _peak([*TOOL, name, path])
            print(f"{name} of a sparse 64 GiB stream: {seconds:.2f} s, at most {peak:.0f} MiB")
        write_sparse_stream(path, 8, context)
        verifier = _verifier(path)
        if verifier is None:
            print("walk of 8 GiB: ORACLE_ROOT names no genuine verifier, no peer to compare with")
            return
        theirs_arguments, environment = verifier
        ours, theirs = alternating(
            command([*TOOL, "info", path]), command(theirs_arguments, environment), 5
        )
        print(
            f"walk of 8 GiB, hvmctx info: {ours:.3f} s; the genuine verifier: {theirs:.2f} s; "
            f"{theirs / ours:.0f} times as fast"
        )


if __name__ == "__main__":
    main()
