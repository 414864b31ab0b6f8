"""Print the folder that `vol -p` takes."""

import os

print(os.path.dirname(os.path.realpath(__file__)))
