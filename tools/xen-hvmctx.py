#!/usr/bin/env python3
"""hvmctx from a checkout, on a bare Python, with nothing installed.

`xen-hvmctx.py IMAGE` prints the HVM context of a saved image; all other commands of
hvmctx work too.
"""

import os
import sys

# Nothing is imported from this folder, and of the checkout only hvmctx, which knows where its own
# modules are.
HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:] = [path for path in sys.path if path != HERE]
__import__("__future__")  # as each of those modules does: before the checkout is looked into
sys.path.insert(0, os.path.dirname(HERE))

from hvmctx.cli import run  # noqa: E402

del sys.path[0]

if __name__ == "__main__":
    run()
