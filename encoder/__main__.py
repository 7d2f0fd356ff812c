"""Entry: `python3 -I -S <this file>`, or `-m encoder` where the package is on the path."""

import os
import sys

if not __package__:
    # Isolated, Python puts nothing of ours on the path.
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from encoder.program import main

sys.exit(main(sys.argv[1:]))
