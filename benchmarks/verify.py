"""`hvmctx verify` of a stream of 8 GiB against Xen's own verify-stream-v2, start-up included,
where `ORACLE_ROOT` names an unpacked one."""

from __future__ import annotations

import os
import tempfile

from benchmarks.measure import alternating, best_of, command, genuine_verifier, peak
from benchmarks.sparse import write_sparse_stream
from benchmarks.walk import CONTEXT, TOOL


def main() -> None:
    with open(CONTEXT, "rb") as file:
        context = file.read()
    with tempfile.TemporaryDirectory() as place:
        path = os.path.join(place, "stream")
        write_sparse_stream(path, 8, context)
        genuine = genuine_verifier(path)
        for view in ("verifier", "restore", "strict"):
            arguments = [*TOOL, "verify", path, "--as", view]
            if genuine is None:
                ours, ratio = best_of(command(arguments), 5), "no genuine verifier beside it"
            else:
                ours, theirs = alternating(command(arguments), command(*genuine), 5)
                ratio = f"the genuine verifier: {theirs:.2f} s; {theirs / ours:.1f} times as fast"
            print(f"verify --as {view} of 8 GiB: {ours:.3f} s, {peak(arguments):.0f} MiB; {ratio}")


if __name__ == "__main__":
    main()
