"""Git, asked from the working directory."""

import subprocess

_TIMEOUT_S = 60


def git(*arguments: str) -> str | None:
    """Return what a Git command prints, as it stands; None where it fails, takes over a minute or is not installed."""
    printed = git_bytes(*arguments)
    return None if printed is None else printed.decode()


def git_bytes(*arguments: str) -> bytes | None:
    """Return what a Git command prints where that is no text; None as in `git`."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
