"""`python -m hvmctx`."""

import sys

from hvmctx.cli import main

if __name__ == "__main__":
    sys.exit(main())
