"""Start-up and dump of the example, against a Python that only imports ctypes."""

from __future__ import annotations

import os
import sys

from benchmarks.measure import alternating, command

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
EXAMPLE = os.path.join(HERE, "examples", "hvm1.save")


def main() -> None:
    peer = command([sys.executable, "-c", "import ctypes"])
    script = os.path.join(os.path.dirname(sys.executable), "hvmctx")
    ways = {
        "hvmctx (console script)": [script, EXAMPLE],
        "tools/xen-hvmctx.py": [
            sys.executable, os.path.join(HERE, "tools", "xen-hvmctx.py"), EXAMPLE,
        ],
        "tools/xen-hvmctx.py, -I -S": [
            sys.executable, "-I", "-S", os.path.join(HERE, "tools", "xen-hvmctx.py"), EXAMPLE,
        ],
    }  # fmt: skip
    for name, arguments in ways.items():
        if os.path.exists(arguments[0]):
            ours, theirs = alternating(command(arguments), peer, 30)
            print(
                f"dump of the example, {name}: {ours * 1e3:.1f} ms, "
                f"{ours / theirs:.2f} times `import ctypes` ({theirs * 1e3:.1f} ms)"
            )


if __name__ == "__main__":
    main()
