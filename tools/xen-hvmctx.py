#!/usr/bin/env python3
"""hvmctx from a checkout, on a bare Python, with nothing installed.

`xen-hvmctx.py IMAGE` prints the HVM context of a saved image; all other commands of
hvmctx work too.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

from hvmctx.cli import main

if __name__ == "__main__":
    sys.exit(main())
