"""metrics/scores.csv read from a file, a folder or a Git revision, and two of them compared.

The table names no image and no person, and is in Git: any two results that were evaluated on one test split can be
compared later, without images, features or models.

A small test split decides nothing. Where both results hold metrics/out_of_fold_scores.csv, which the stage audit
writes, they are then compared on these scores of all images, by pairs within a fold: each image was scored by a model
that saw none of its group. Where the images are of several contexts, only the pairs within one count: these are fair.
"""

import io
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mirip.errors import DataError, ParamsError
from mirip.experiments.git import git
from mirip.metrics.comparison import ModelComparison, compare_models, comparison_text
from mirip.metrics.pairwise import context_codes
from mirip.randomness import stream
from mirip.workspace import Workspace

_SCORES = Workspace().scores
_OUT_OF_FOLD = Workspace().out_of_fold
_COLUMNS = ("id", "group", "tier", "tier_rank", "score")
_MEMBER = "score_seed_"

Labels = NDArray[np.generic]


@dataclass(frozen=True)
class ModelScores:
    """What one model scored on a test split of N images.

    Attributes:
        source: what messages call it.
        images: N rows, sorted by id: id, group, tier, tier_rank.
        members: (n, N) float64 scores of each of its n members; of a model of one seed its scores.
        fold: (N,) labels; only scores of one fold can be compared. None: all can.
        context: (N,) labels; only pairs of one context count. None: there is one.
        out_of_fold: scores of all images by models that saw none of their group; None: there are none.
    """

    source: str
    images: pd.DataFrame
    members: NDArray[np.float64]
    fold: Labels | None = None
    context: Labels | None = None
    out_of_fold: "ModelScores | None" = None


def read_scores(source: str, *, name: str | None = None) -> ModelScores:
    """Read a table of scores.

    Args:
        source: a CSV file; a folder that holds metrics/scores.csv or scores.csv; or a Git revision or DVC experiment
            of the repository that the working directory is in.
        name: what messages call it; None: the source.

    Raises:
        DataError: it is none of these, or holds no such table.
    """
    path = Path(source)
    if path.is_dir():
        found = next((inner for inner in (path / _SCORES, path / _SCORES.name) if inner.is_file()), None)
        if found is None:
            problem = f"{path} holds neither {_SCORES.as_posix()} nor {_SCORES.name}"
            raise DataError(problem, "run `dvc repro evaluate` there")
        path = found
    more: str | None = None
    if path.is_file():
        text = path.read_text(encoding="utf-8")
        beside = path.parent / _OUT_OF_FOLD.name
        if path.name == _SCORES.name and beside.is_file():
            more = beside.read_text(encoding="utf-8")
    else:
        text, more = _from_git(source)
    scores = _parsed(name or source, text)
    return scores if more is None else replace(scores, out_of_fold=_parsed(scores.source, more))


def compare_scores(
    a: ModelScores, b: ModelScores, *, confidence: float = 0.95, n_bootstrap: int = 2000, seed: int = 42
) -> ModelComparison:
    """Compare two models on the test split that both were evaluated on, or out of fold where that is small.

    Raises:
        DataError: they were evaluated on different images, or their tiers differ.
        ParamsError: an option is out of range.
    """
    if not 0 < confidence < 1:
        raise ParamsError(f"the confidence is {confidence}, expected a number between 0 and 1", "give one such as 0.95")
    if n_bootstrap < 100:
        raise ParamsError(f"{n_bootstrap} resamples are too few for an interval", "give 100 or more")
    _check_same_split(a, b)

    def compared(a: ModelScores, b: ModelScores) -> ModelComparison:
        context = a.context if _same_labels(a.context, b.context) else None  # data.context may be what was changed
        return compare_models(
            a.members,
            b.members,
            a.images["tier_rank"].to_numpy(),
            a.images["group"].to_numpy(),
            rng=stream(seed, "bootstrap"),
            n_bootstrap=n_bootstrap,
            confidence=confidence,
            context=_blocks(a.fold, context),
        )._replace(within_context=context is not None)

    found = compared(a, b)
    if not found.support.small_sample or a.out_of_fold is None or b.out_of_fold is None:
        return found
    if _differences(a.out_of_fold, b.out_of_fold):
        return found
    return compared(a.out_of_fold, b.out_of_fold)._replace(out_of_fold=True)


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
        "out_of_fold": found.out_of_fold,
        "within_context": found.within_context,
        "n_images": found.n_images,
        "n_groups": found.support.n_groups,
        "small_sample": found.support.small_sample,
    }


def comparison_lines(a: ModelScores, b: ModelScores, found: ModelComparison, confidence: float = 0.95) -> list[str]:
    """Say a comparison in a few lines."""
    said = comparison_text(found.verdict, "A", "B")
    models = (("A", a, found.accuracy_a, found.interval_a), ("B", b, found.accuracy_b, found.interval_b))
    what = f"{'out-of-fold ' if found.out_of_fold else ''}pairwise accuracy"
    what += " within context" if found.within_context else ""
    return [
        *(
            f"{name}  {scores.source}: {what} {accuracy:.3f}, interval {own.low:.3f} to {own.high:.3f}"
            for name, scores, accuracy, own in models
        ),
        f"A - B  {found.difference:+.3f}, interval {found.interval.low:+.3f} to {found.interval.high:+.3f} at "
        f"{confidence:.3g} ({found.n_images} images in {found.support.n_groups} groups): {said}",
        *remarks(found, "A", "B"),
    ]


def remarks(found: ModelComparison, a: str, b: str) -> list[str]:
    """Say what limits a comparison, if anything does, given what the text calls the two models."""
    said = []
    if single := [name for name, members in ((a, found.members_a), (b, found.members_b)) if members == 1]:
        said.append(
            f"one training seed of {' and of '.join(single)}: the interval does not hold the spread over seeds, so "
            "another seed may turn the verdict (train with train.seeds above 1)"
        )
    if found.out_of_fold:
        said.append(
            "the test split is too small for a verdict: this is out of fold, over all images, each scored by a model "
            "that saw none of its group"
        )
    if found.support.small_sample:
        said.append(
            f"small sample: {found.support.n_groups} groups, {found.support.fewest_in_tier} in the tier that has "
            "fewest; the intervals are rough ones, and no verdict is given on them"
        )
    return said


def _parsed(source: str, text: str) -> ModelScores:
    texts = dict.fromkeys(("id", "group", "tier", "context"), str)
    advice = "run `dvc repro evaluate`"
    try:
        table = pd.read_csv(io.StringIO(text), dtype=texts, keep_default_na=False)
        if lacking := [name for name in _COLUMNS if name not in table]:
            raise DataError(f"the scores of {source} lack the columns {', '.join(lacking)}", advice)
        table = table.sort_values("id", kind="stable").reset_index(drop=True)
        names = [name for name in table if str(name).startswith(_MEMBER)] or ["score"]
        members = table[names].to_numpy(dtype=np.float64).T
        images = table[["id", "group", "tier", "tier_rank"]].astype({"tier_rank": np.int64})
        fold = table["fold"].to_numpy() if "fold" in table else None
        several = "context" in table and table["context"].nunique() > 1
        context = table["context"].to_numpy() if several else None
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise DataError(f"the scores of {source} are damaged ({reason})", advice) from None
    if not np.isfinite(members).all():
        raise DataError(f"the scores of {source} are damaged (one is not a finite number)", advice)
    if images["id"].duplicated().any():
        raise DataError(f"the scores of {source} are damaged (an id is there twice)", advice)
    return ModelScores(source, images, members, fold, context)


def _blocks(*labels: Labels | None) -> NDArray[np.int64] | None:
    """Number N images by several labels, so that only pairs that share all count; None where there are none."""
    named = [of_one for of_one in labels if of_one is not None]
    return context_codes(*named) if named else None


def _same_labels(a: Labels | None, b: Labels | None) -> bool:
    """Say whether two labellings of the same rows put the same rows together."""
    if a is None or b is None:
        return a is b
    return np.array_equal(pd.factorize(a)[0], pd.factorize(b)[0])


def _check_same_split(a: ModelScores, b: ModelScores) -> None:
    if differ := _differences(a, b):
        raise DataError(
            f"A ({a.source}) and B ({b.source}) were evaluated on different test splits: {', '.join(differ)}",
            "evaluate both on one split, then compare them",
        )


def _differences(a: ModelScores, b: ModelScores) -> list[str]:
    """Say how the images of two tables differ, and the folds; nothing where their scores can be compared."""
    in_a, in_b = (scores.images.set_index("id") for scores in (a, b))
    both = in_a.index.intersection(in_b.index)
    only_a, only_b = len(in_a) - len(both), len(in_b) - len(both)
    differ = []
    if only_a or only_b:
        differ.append(f"{only_a} of {len(in_a)} images are only in A, {only_b} of {len(in_b)} only in B")
    if other_tier := int((in_a["tier"][both] != in_b["tier"][both]).sum()):
        differ.append(f"{other_tier} have another tier")
    elif not np.array_equal(in_a["tier_rank"][both], in_b["tier_rank"][both]):
        differ.append("the tiers are in another order")
    if not only_a and not only_b:
        # Rows are in order of id, so equal groups give equal codes, whatever their names are.
        groups_a, groups_b = (pd.factorize(scores.images["group"])[0] for scores in (a, b))
        if not np.array_equal(groups_a, groups_b):
            differ.append("their groups differ")
        if not _same_labels(a.fold, b.fold):
            differ.append("their folds differ")
    return differ


def _from_git(source: str) -> tuple[str, str | None]:
    """Read the tables of a revision, or of a DVC experiment of that name: scores, and out of fold if there are any."""
    revision = source
    if git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{source}^{{commit}}") is None:
        experiments = (
            git("for-each-ref", "--sort=committerdate", "--format=%(refname)", f"refs/exps/*/*/{source}") or ""
        ).split()
        if not experiments:
            raise DataError(f"{source} is not a file, a folder, or a Git revision or DVC experiment here")
        revision = experiments[-1]
    text = git("show", "--end-of-options", f"{revision}:./{_SCORES.as_posix()}")
    if text is None:
        problem = f"the revision {source} holds no {_SCORES.as_posix()}"
        raise DataError(problem, "give one in which `dvc repro` was committed")
    return text, git("show", "--end-of-options", f"{revision}:./{_OUT_OF_FOLD.as_posix()}")
