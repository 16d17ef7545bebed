"""The verbs of the pipeline: one short file per DVC stage, run as `python -m stages.<name>`."""

import os
import sys
from collections.abc import Callable

from mirip.errors import MiripError
from mirip.interruption import EXIT_CODE, ended, interrupted, interruptible, show_any_name

_INTERRUPTED = "interrupted: run the same command again to go on"

# Before torch is loaded: how long its threads spin while they wait for each other. With OpenMP's own 300,000, a
# training step takes up to ten times as long beside another busy process; on a quiet machine this costs nothing.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

if sys.argv[:1] == ["-m"]:  # `python -m stages.<name>`, which has yet to find and import the stage
    interruptible(_INTERRUPTED)


def run(main: Callable[[], None]) -> None:
    """Run a stage: an error that a user can mend is one line on stderr and exit code 1, never a traceback."""
    show_any_name()
    try:
        try:
            main()
        finally:
            ended(_INTERRUPTED)
    except (Exception, KeyboardInterrupt) as error:
        if interrupted(error):
            print(_INTERRUPTED, file=sys.stderr)
            sys.exit(EXIT_CODE)
        if isinstance(error, MiripError):
            sys.exit(f"error: {error}")
        if isinstance(error, OSError):
            problem = f"{error.strerror or error}: {error.filename or 'no file named'}"
            sys.exit(f"error: {problem}; nothing was half-written")
        raise
