"""`python -m mirip` is the command `mirip`."""

import sys

from mirip.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
