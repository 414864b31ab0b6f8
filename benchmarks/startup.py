"""Whole runs of commands on the example, against a Python that only imports ctypes; and the text
of 128 vcpus, against Xen's own tool where XEN_HVMCTX names one that takes a file, such as a script
that lets it read from one in place of the hypervisor."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import alternating, command
from benchmarks.parse import context_of

HERE = Path(__file__).resolve().parent.parent
EXAMPLE = str(HERE / "examples" / "hvm1.save")
TOOL = str(HERE / "tools" / "xen-hvmctx.py")
COMMANDS = {
    "info": ["info", EXAMPLE],
    "get": ["get", EXAMPLE, "CPU/0.rip"],
    "locate": ["locate", EXAMPLE, "CPU/0.rip"],
    "hexdump": ["hexdump", EXAMPLE, "CPU/0"],
    "restore": ["restore", EXAMPLE],
    "verify": ["verify", EXAMPLE],
    "diff": ["diff", EXAMPLE, EXAMPLE],
    "policy": ["policy", EXAMPLE],
    "x": ["x", EXAMPLE, "rip"],
}
RUNS = 30


def main() -> None:
    peer = command([sys.executable, "-c", "import ctypes"])
    script = str(Path(sys.executable).parent / "hvmctx")
    ways = {
        "dump, hvmctx (console script)": [script, EXAMPLE],
        "dump, tools/xen-hvmctx.py": [sys.executable, TOOL, EXAMPLE],
        "dump, tools/xen-hvmctx.py, -I -S": [sys.executable, "-I", "-S", TOOL, EXAMPLE],
        **{name: [sys.executable, TOOL, *words] for name, words in COMMANDS.items()},
    }
    for name, arguments in ways.items():
        if os.path.exists(arguments[0]):
            ours, theirs = alternating(command(arguments), peer, RUNS)
            print(
                f"{name}: {ours * 1e3:.1f} ms, {ours / theirs:.2f} times `import ctypes` "
                f"({theirs * 1e3:.1f} ms)"
            )
    if genuine := os.environ.get("XEN_HVMCTX"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "context")
            path.write_bytes(context_of(128))
            ours, theirs = alternating(
                command([sys.executable, TOOL, str(path)]), command([genuine, str(path)]), RUNS
            )
        print(
            f"text of 128 vcpus: {ours * 1e3:.1f} ms, {ours / theirs:.2f} times Xen's own tool "
            f"({theirs * 1e3:.1f} ms)"
        )


if __name__ == "__main__":
    main()
