"""Walking big streams: `info` and `dump` of a sparse 64 GiB one, and the walk of 8 GiB
against Xen's own verifier where `ORACLE_ROOT` names an unpacked one."""

from __future__ import annotations

import os
import sys
import tempfile

from benchmarks.measure import alternating, best_of, command, genuine_verifier, peak
from benchmarks.sparse import write_sparse_stream
from benchmarks.startup import HERE

CONTEXT = os.path.join(HERE, "tests", "data", "images", "hvm1.hvmctx.bin")
TOOL = [sys.executable, os.path.join(HERE, "tools", "xen-hvmctx.py")]


def main() -> None:
    with open(CONTEXT, "rb") as file:
        context = file.read()
    with tempfile.TemporaryDirectory() as place:
        path = os.path.join(place, "stream")
        write_sparse_stream(path, 64, context)
        for name in ("info", "dump"):
            seconds = best_of(command([*TOOL, name, path]), 5)
            memory = peak([*TOOL, name, path])
            print(f"{name} of a sparse 64 GiB stream: {seconds:.2f} s, at most {memory:.0f} MiB")
        write_sparse_stream(path, 8, context)
        verifier = genuine_verifier(path)
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
