"""metrics/scores.csv read back, from a file, a folder or a Git revision, and two of them compared.

The table names no work and no person, and is in Git: any two results that were evaluated on one test split can be
compared later, without images, features or models.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mirip.errors import DataError, ParamsError
from mirip.experiments.git import git
from mirip.metrics.comparison import ModelComparison, compare_models

SCORES = Path("metrics/scores.csv")
_COLUMNS = ("id", "group", "tier", "tier_rank", "score")
_HEAD = "score_seed_"


@dataclass(frozen=True)
class ModelScores:
    """What one model scored on a test split of N works.

    Attributes:
        source: where it was read, as the user named it.
        works: N rows, sorted by id: id, group, tier, tier_rank.
        heads: (n, N) float64 scores of each of its n heads; of a model of one head its scores.
    """

    source: str
    works: pd.DataFrame
    heads: NDArray[np.float64]


def read_scores(source: str) -> ModelScores:
    """Read a table of scores.

    Args:
        source: a CSV file; a folder that holds metrics/scores.csv or scores.csv; or a Git revision or DVC experiment
            of the repository that the working directory is in.

    Raises:
        DataError: it is none of these, or holds no such table.
    """
    path = Path(source)
    if path.is_dir():
        found = next((inner for inner in (path / SCORES, path / SCORES.name) if inner.is_file()), None)
        if found is None:
            raise DataError(f"{path} holds neither {SCORES} nor {SCORES.name}: run `dvc repro evaluate` there")
        path = found
    text = path.read_text(encoding="utf-8") if path.is_file() else _fromgit(source)
    return _parsed(source, text)


def compare_scores(
    a: ModelScores, b: ModelScores, *, confidence: float = 0.95, n_bootstrap: int = 2000, seed: int = 42
) -> ModelComparison:
    """Compare two models on the test split that both were judged on.

    Raises:
        DataError: they were judged on different works, or by other tiers.
        ParamsError: an option is out of range.
    """
    if not 0 < confidence < 1:
        raise ParamsError(f"the confidence is {confidence}, expected a number between 0 and 1, as 0.95")
    if n_bootstrap < 100:
        raise ParamsError(f"{n_bootstrap} resamples are too few for an interval: give 100 or more")
    _check_same_side(a, b)
    return compare_models(
        a.heads,
        b.heads,
        a.works["tier_rank"].to_numpy(),
        a.works["group"].to_numpy(),
        rng=np.random.default_rng(seed),
        n_bootstrap=n_bootstrap,
        confidence=confidence,
    )


def comparison_scalars(found: ModelComparison) -> dict[str, float | int | str | bool]:
    """Return a comparison as flat scalars, for JSON."""
    return {
        "pairwise_accuracy_a": found.accuracy_a,
        "pairwise_accuracy_a_ci_low": found.interval_a.low,
        "pairwise_accuracy_a_ci_high": found.interval_a.high,
        "pairwise_accuracy_b": found.accuracy_b,
        "pairwise_accuracy_b_ci_low": found.interval_b.low,
        "pairwise_accuracy_b_ci_high": found.interval_b.high,
        "difference": found.difference,
        "difference_ci_low": found.interval.low,
        "difference_ci_high": found.interval.high,
        "verdict": found.verdict,
        "members_a": found.members_a,
        "members_b": found.members_b,
        "n_groups": found.support.n_groups,
        "small_sample": found.support.small_sample,
    }


def comparison_text(a: ModelScores, b: ModelScores, found: ModelComparison, confidence: float = 0.95) -> str:
    """Say a comparison in a few lines of words."""
    lines = [
        f"{name}  {scores.source}: pairwise accuracy {accuracy:.3f}, interval {low:.3f} to {high:.3f}"
        for name, scores, accuracy, (low, high, _) in (
            ("A", a, found.accuracy_a, found.interval_a),
            ("B", b, found.accuracy_b, found.interval_b),
        )
    ]
    words = {
        "better": "A is better than B",
        "worse": "A is worse than B",
        "within noise": "within noise: no difference between A and B is shown",
    }[found.verdict]
    lines.append(
        f"A - B  {found.difference:+.3f}, interval {found.interval.low:+.3f} to {found.interval.high:+.3f} at "
        f"{confidence:.3g} ({len(a.works)} works in {found.support.n_groups} groups): {words}"
    )
    single = [name for name, heads in (("A", found.members_a), ("B", found.members_b)) if heads == 1]
    if single:
        lines.append(
            f"{' and '.join(single)}: one training seed, so the spread over seeds is not in the interval; another seed "
            "may turn the verdict (train with train.seeds above 1)"
        )
    if found.support.small_sample:
        lines.append("small sample: fewer than 30 groups, or than 5 in a tier; the intervals are rough ones")
    return "\n".join(lines)


def _parsed(source: str, text: str) -> ModelScores:
    texts = dict.fromkeys(("id", "group", "tier", "context"), str)
    try:
        table = pd.read_csv(io.StringIO(text), dtype=texts, keep_default_na=False)
        if lacking := [name for name in _COLUMNS if name not in table]:
            raise DataError(f"the scores of {source} lack the columns {', '.join(lacking)}: run `dvc repro evaluate`")
        table = table.sort_values("id", kind="stable").reset_index(drop=True)
        names = [name for name in table if str(name).startswith(_HEAD)] or ["score"]
        heads = table[names].to_numpy(dtype=np.float64).T
        works = table[["id", "group", "tier", "tier_rank"]].astype({"tier_rank": np.int64})
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise DataError(f"the scores of {source} are damaged ({reason}): run `dvc repro evaluate`") from None
    if not np.isfinite(heads).all() or works["id"].duplicated().any():
        raise DataError(f"the scores of {source} are damaged (a number or an id twice): run `dvc repro evaluate`")
    return ModelScores(source, works, heads)


def _check_same_side(a: ModelScores, b: ModelScores) -> None:
    in_a, in_b = a.works.set_index("id")["tier"], b.works.set_index("id")["tier"]
    both = in_a.index.intersection(in_b.index)
    only_a, only_b = len(in_a) - len(both), len(in_b) - len(both)
    other_tier = int((in_a[both] != in_b[both]).sum())
    other_rank = not other_tier and not np.array_equal(
        a.works.set_index("id")["tier_rank"][both], b.works.set_index("id")["tier_rank"][both]
    )
    # Rows stand in order of id: equal groups give equal codes, whatever they are called.
    groups_a, groups_b = (pd.factorize(scores.works["group"])[0] for scores in (a, b))
    other_group = not only_a and not only_b and not np.array_equal(groups_a, groups_b)
    if only_a or only_b or other_tier or other_rank or other_group:
        differ = [f"{only_a} of {len(in_a)} works are only in A", f"{only_b} of {len(in_b)} only in B"]
        differ += [f"{other_tier} bear another tier"] if other_tier else []
        differ += ["the tiers are in another order"] if other_rank else []
        differ += ["their groups differ"] if other_group else []
        raise DataError(
            f"A ({a.source}) and B ({b.source}) were judged on different test splits: {', '.join(differ)}; "
            "only models judged on one test split can be compared: evaluate both on one split"
        )


def _fromgit(source: str) -> str:
    """Read the table as it stands in a revision, or in a DVC experiment of that name."""
    revision = source
    if git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{source}^{{commit}}") is None:
        experiments = (
            git("for-each-ref", "--sort=committerdate", "--format=%(refname)", f"refs/exps/*/*/{source}") or ""
        ).split()
        if not experiments:
            raise DataError(f"{source} is no file, no folder, and no Git revision or DVC experiment here")
        revision = experiments[-1]
    text = git("show", "--end-of-options", f"{revision}:./{SCORES}")
    if text is None:
        raise DataError(f"the revision {source} holds no {SCORES}: give one in which `dvc repro` was committed")
    return text
