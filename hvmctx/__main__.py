"""`python -m hvmctx`."""

import sys

from hvmctx.cli import main

sys.exit(main())
