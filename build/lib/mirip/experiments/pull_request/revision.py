"""What one side of a pull request holds in Git: figures, curves and scores. What is not there is None or empty."""

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from mirip.errors import DataError
from mirip.experiments.git import git
from mirip.experiments.scores import SCORES, ModelScores, read_scores

# Of metrics/*.json those that are results: the receipt of a publication is in no clone.
STAGES = ("data", "split", "extract", "train", "evaluate", "audit", "benchmark")


@dataclass(frozen=True)
class Side:
    """One side.

    Attributes:
        name: what the comment calls it.
        commit: its commit, 40 hexadecimal digits.
        metrics: content of metrics/<stage>.json by stage; of a stage without one an empty dict.
        curves: metrics/train/curves.csv.
        tier_pairs: metrics/evaluate/tier_pairs.csv.
        scores: of the test split.
        no_scores: why there are none.
        dirty: the working tree holds more than the commit does.
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
    """Return the commit that BASE and HEAD have last in common, 40 hexadecimal digits.

    Raises:
        DataError: BASE is no revision, or nothing in common is known here.
    """
    if git("rev-parse", "--verify", "--quiet", "--end-of-options", "HEAD^{commit}") is None:
        raise DataError("here is no Git repository with a commit: run this in a clone of the project")
    if git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{base}^{{commit}}") is None:
        raise DataError(f"{base} is no Git revision here: give a branch, a tag or a commit, and `git fetch` it first")
    found = git("merge-base", "--", base, "HEAD")
    if found is None:
        raise DataError(
            f"{base} and HEAD have no commit in common here: in a shallow clone run `git fetch --unshallow`, "
            "in a workflow check out with fetch-depth 0"
        )
    return found.strip()


def committed(commit: str, name: str) -> Side:
    """Read a side as it stands in a commit."""
    return _side(name, commit, lambda path: git("show", f"{commit}:./{path}"), commit)


def working_tree(name: str) -> Side:
    """Read a side as it stands in the working directory."""
    commit = (git("rev-parse", "HEAD") or "").strip()
    dirty = bool(git("status", "--porcelain", "--untracked-files=no", "--", "."))

    def read(path: str) -> str | None:
        return Path(path).read_text(encoding="utf-8") if Path(path).is_file() else None

    return replace(_side(name, commit, read, "."), dirty=dirty)


def _side(name: str, commit: str, read: Callable[[str], str | None], source: str) -> Side:
    scores, no_scores = None, None
    if read(SCORES.as_posix()) is None:
        no_scores = f"{name} has no {SCORES}"
    else:
        try:
            scores = replace(read_scores(source), source=name)
        except DataError as error:
            no_scores = str(error).replace(f"of {source} ", f"of {name} ")
    return Side(
        name,
        commit,
        {stage: _json(read(f"metrics/{stage}.json")) for stage in STAGES},
        _table(read("metrics/train/curves.csv"), "epoch"),
        _table(read("metrics/evaluate/tier_pairs.csv"), "pair"),
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
