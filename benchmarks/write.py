"""Writing: `build` of 1 GiB against `cp` of as much, `set` on a sparse image of 4 GiB
against `cp --sparse=auto`, and the engine's pages a second. On a busy machine `chrt -f 10`
before the command makes the figures steady; with PYTHONDONTWRITEBYTECODE set they are those of
a compiler."""

from __future__ import annotations

import os
import tempfile

from benchmarks.measure import alternating, best_of, command
from benchmarks.sparse import write_sparse_stream
from benchmarks.walk import CONTEXT, TOOL
from hvmctx.files.sink import Nowhere
from hvmctx.save.engine import save
from hvmctx.save.guests import MemoryFileSource
from hvmctx.save.simulated import Script, SimulatedGuest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

GIB = 1 << 30


def anew(out: str, arguments: list[str]) -> Callable[[], object]:
    """The command, its output file gone before it runs, so that nobody has to free the old
    one's blocks."""
    run = command(arguments)

    def work() -> None:
        if os.path.exists(out):
            os.unlink(out)
        run()

    return work


def main() -> None:
    with open(CONTEXT, "rb") as file:
        context = file.read()
    with tempfile.TemporaryDirectory() as place:
        memory, out = os.path.join(place, "memory"), os.path.join(place, "out")
        block = os.urandom(1 << 20)
        with open(memory, "wb") as file:
            for _ in range(GIB >> 20):
                file.write(block)
        build = [*TOOL, "build", "--memory", memory, "--context", CONTEXT, "-o", out, "--force"]
        ours, theirs = alternating(anew(out, build), anew(out, ["cp", memory, out]), 5)
        print(
            f"build of 1 GiB: {ours:.2f} s, cp {theirs:.2f} s; {ours / theirs:.2f} times its time"
        )
        source = MemoryFileSource(memory, context=context)
        seconds = best_of(lambda: save(source, Nowhere()), 3)
        print(f"engine over a mapped file: {source.p2m_size / seconds:,.0f} pages a second")
        source.close()
        guest = SimulatedGuest(1 << 18, Script({}), context=context)
        seconds = best_of(lambda: save(guest, Nowhere()), 3)
        print(f"engine over a simulated guest: {guest.p2m_size / seconds:,.0f} pages a second")
        os.unlink(memory)
        sparse = os.path.join(place, "sparse")
        write_sparse_stream(sparse, 4, context)
        edit = [*TOOL, "set", sparse, "CPU.rax=1", "-o", out, "--force"]
        copy = ["cp", "--sparse=auto", sparse, out]
        ours, theirs = alternating(anew(out, edit), anew(out, copy), 5)
        started = best_of(command([*TOOL, "--help"]), 5)
        print(
            f"set in sparse 4 GiB: {ours:.3f} s (--help {started:.3f} s), "
            f"cp --sparse=auto {theirs:.3f} s"
        )


if __name__ == "__main__":
    main()
