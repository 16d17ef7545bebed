"""The verbs of the pipeline: one short file per DVC stage, run as `python -m stages.<name>`."""

import os
import sys
from collections.abc import Callable

from mirip.errors import MiripError

# Before torch is loaded: how long its threads spin while they wait for each other. With OpenMP's own 300,000, a
# training step takes up to ten times as long beside another busy process; on a quiet machine this costs nothing.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def run(main: Callable[[], None]) -> None:
    """Run a stage: an error that a user can mend is one line on stderr and exit code 1, never a traceback."""
    try:
        main()
    except MiripError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("interrupted: run the same command again to go on", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        sys.exit(f"error: {error.strerror or error}: {error.filename or 'no file named'}; nothing was half-written")
