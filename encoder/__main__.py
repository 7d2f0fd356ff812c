"""Entry: `python3 -I -S <this folder>`, or `-m encoder` where it is on the path."""

import sys

if not __package__:
    # Run as a folder: that folder is on the path, its parent has to be.
    sys.path[0] = sys.path[0].rpartition("/")[0]

from encoder.program import main

sys.exit(main(sys.argv[1:]))
