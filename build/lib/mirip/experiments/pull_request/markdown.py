"""Markdown that a value cannot break out of, whatever a pull request puts into it."""

from collections.abc import Iterable, Sequence
from typing import Any


def code(value: Any, longest: int = 80) -> str:
    """Return a value as code: no mention, link or table bar in it takes effect."""
    text = "null" if value is None else str(value)
    text = " ".join(text.split()).replace("`", "'")
    text = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return f"`{text}`".replace("|", "\\|") if text else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table, the first column left, all others right."""
    rule = [":---", *("---:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def folded(title: str, content: str) -> str:
    """Return content that is shown on a click."""
    return f"<details><summary>{title}</summary>\n\n{content}\n\n</details>"
