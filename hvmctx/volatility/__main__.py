"""Print the folder that `vol -p` takes."""

import os
import sys

sys.stdout.write(os.path.dirname(os.path.realpath(__file__)) + "\n")
