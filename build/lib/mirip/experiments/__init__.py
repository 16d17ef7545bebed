"""DVC and Git, asked from outside: experiments, the lock file and pull requests."""
