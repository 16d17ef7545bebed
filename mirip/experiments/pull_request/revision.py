"""What one revision of a pull request holds in Git: metrics, curves and scores. What is missing is None or empty."""

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from mirip.errors import DataError
from mirip.experiments.git import git
from mirip.experiments.scores import ModelScores, read_scores
from mirip.workspace import METRICS, Workspace

_HERE = Workspace()


@dataclass(frozen=True)
class Revision:
    """A commit or the working tree, as the comment compares it.

    Attributes:
        name: what the comment calls it.
        commit: its commit, 40 hexadecimal digits.
        metrics: content of metrics/<name>.json by name; an empty dict where there is no such file.
        curves: metrics/train/curves.csv.
        tier_pairs: metrics/evaluate/tier_pairs.csv.
        scores: of the test split.
        no_scores: why there are none.
        dirty: whether the working tree has changes that are not committed.
    """

    name: str
    commit: str
    metrics: Mapping[str, Mapping[str, Any]]
    curves: pd.DataFrame | None
    tier_pairs: pd.DataFrame | None
    scores: ModelScores | None
    no_scores: str | None
    dirty: bool = False


def merge_base(base: str) -> str:
    """Return the last commit that BASE and HEAD have in common, 40 hexadecimal digits.

    Raises:
        DataError: BASE is not a revision, or no common commit is known here.
    """
    if git("rev-parse", "--verify", "--quiet", "--end-of-options", "HEAD^{commit}") is None:
        raise DataError("there is no Git repository with a commit here", "run this in a clone of the project")
    if git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{base}^{{commit}}") is None:
        raise DataError(
            f"{base} is not a Git revision here", "give a branch, a tag or a commit, and `git fetch` it first"
        )
    found = git("merge-base", "--", base, "HEAD")
    if found is None:
        raise DataError(
            f"{base} and HEAD have no commit in common here",
            "in a shallow clone run `git fetch --unshallow`, in a workflow check out with fetch-depth 0",
        )
    return found.strip()


def committed(commit: str, name: str) -> Revision:
    """Read a commit."""
    return _read(name, commit, lambda path: git("show", f"{commit}:./{path}"), commit)


def working_tree(name: str) -> Revision:
    """Read the working directory."""
    commit = (git("rev-parse", "HEAD") or "").strip()
    dirty = bool(git("status", "--porcelain", "--untracked-files=no", "--", "."))

    def content(path: str) -> str | None:
        return Path(path).read_text(encoding="utf-8") if Path(path).is_file() else None

    return replace(_read(name, commit, content, "."), dirty=dirty)


def _read(name: str, commit: str, read: Callable[[str], str | None], source: str) -> Revision:
    """Read a revision.

    Args:
        name: what the comment calls it.
        commit: its commit.
        read: returns the content of a file of that path, None where there is no such file.
        source: what `read_scores` reads.
    """
    scores, no_scores = None, None
    if read(_HERE.scores.as_posix()) is None:
        no_scores = f"{name} has no {_HERE.scores.as_posix()}"
    else:
        try:
            scores = read_scores(source, name=name)
        except DataError as error:
            no_scores = error.problem
    return Revision(
        name,
        commit,
        {stage: _json(read(_HERE.metrics(stage).as_posix())) for stage in METRICS},
        _table(read(_HERE.curves.as_posix()), "epoch"),
        _table(read((_HERE.tables("evaluate") / "tier_pairs.csv").as_posix()), "pair"),
        scores,
        no_scores,
    )


def _json(text: str | None) -> dict[str, Any]:
    try:
        values = json.loads(text or "{}")
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def _table(text: str | None, key: str) -> pd.DataFrame | None:
    try:
        table = pd.read_csv(io.StringIO(text)) if text else None
    except ValueError:
        return None
    return table if table is not None and key in table else None
