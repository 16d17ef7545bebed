"""Git commands, run in the working directory."""

import subprocess

_TIMEOUT_S = 60


def git(*arguments: str) -> str | None:
    """Return what a Git command prints; None where it fails, takes over a minute, or Git is not installed."""
    printed = git_bytes(*arguments)
    return None if printed is None else printed.decode()


def git_bytes(*arguments: str) -> bytes | None:
    """Return the bytes that a Git command prints; None as in `git`."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
