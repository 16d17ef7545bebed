"""Cross-validation over cached features: every image is evaluated by a model that saw none of its group.

A test split of a few dozen groups leaves an interval ten points wide; all images together narrow it. Each fold is
trained as the stage train does it, with early stopping and calibration on its own training groups alone, so nothing is
chosen by what is held out. The same holds for all baselines of the stage evaluate. Scores of different folds come from
different models, whose offsets differ: pooling them biases the accuracy, so only pairs of one fold are counted. The
interval resamples groups and takes the models as given.

It measures how good a way of training is on these images. Do not choose among many by it; it gives no model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mirip.data.folds import balanced_folds
from mirip.data.pairs import count_cross_tier_pairs
from mirip.data.split import DataSplitter, check_tiers
from mirip.errors import DataError
from mirip.features.cache.feature_cache import FeatureCache
from mirip.metrics.calibration import tier_probabilities
from mirip.metrics.pairwise import pairwise_accuracy
from mirip.models.baselines import BASELINES, baseline_scores
from mirip.models.evaluation import score
from mirip.models.evaluator import Evaluation, Evaluator
from mirip.models.trainer import Trainer
from mirip.models.training import ranking_data, train_ranker
from mirip.params import EvaluateParams, TrainParams
from mirip.progress import Progress
from mirip.randomness import stream

By = Literal["tier", "context", "group"]
Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


@dataclass(frozen=True)
class CrossValidation:
    """What `cross_validate` found.

    Attributes:
        evaluation: as the stage evaluate's, pairs counted within folds.
        folds: left_out, n_images, n_pairs, pairwise_accuracy, ridge_accuracy (NaN without pairs), best_epoch,
            temperature; a row a fold.
        scores: (N,) each image's score by the model that held it out, divided by that model's temperature, so that
            P(a beats b) = sigmoid(score_a - score_b) within a fold.
        fold: (N,) the fold of each image, from 0.
    """

    evaluation: Evaluation
    folds: pd.DataFrame
    scores: Floats
    fold: Codes

    def table(self) -> str:
        """Return the folds as a table in plain text."""
        return self.folds.to_string(index=False, float_format=lambda value: f"{value:.3f}")


def cross_validate(
    images: pd.DataFrame,
    cache: FeatureCache,
    train: TrainParams,
    evaluate: EvaluateParams,
    *,
    tiers: Sequence[str],
    by: By = "tier",
    n_folds: int = 5,
    val_share: float = 0.1,
    verbose: bool = False,
) -> CrossValidation:
    """Train and evaluate once for each fold.

    Args:
        images: N rows with image_path, image_sha256, tier, tier_rank, group_id and context.
        cache: their features.
        train: options of every fold's training; its seed also deals the groups to folds.
        evaluate: target, confidence, resamples.
        tiers: names of the tiers, best first.
        by: what is held out, see `held_out_folds`.
        n_folds: see there.
        val_share: share of a fold's training images that its epoch is chosen by, whole groups.
        verbose: show progress on stderr.

    Raises:
        DataError: there are too few groups or contexts, or a fold leaves too little to train on.
        SplitError: the images have other tiers.
        CacheError: an image has no row in the cache.
    """
    check_tiers(images, tiers)
    fold, names = held_out_folds(images, by, n_folds, seed=train.seed)
    rank = images["tier_rank"].to_numpy()
    scores = {name: np.full(len(images), np.nan) for name in ("mirip", *BASELINES)}
    tier_probability = np.full((len(images), len(tiers)), np.nan)
    rows = []
    with Progress("crossval", len(names), "fold", visible=verbose) as progress:
        for k, name in enumerate(names):
            splits = _as_split(images, fold == k, val_share, train.seed, name)
            data = ranking_data(splits, cache, "train"), ranking_data(splits, cache, "val")
            trained = train_ranker(splits, cache, Trainer(train), tiers=tiers, data=data)
            checkpoint = trained.checkpoint
            held_out = np.flatnonzero(fold == k)
            test_x = cache.rows(images["image_sha256"].iloc[held_out].tolist())
            scored = score(trained.result.model, test_x, seed=train.seed)
            raw = scored.mean
            scores["mirip"][held_out] = raw / checkpoint.temperature
            tier_probability[held_out] = tier_probabilities(
                raw, checkpoint.ordinal_slope, checkpoint.ordinal_thresholds
            )
            for baseline, of_fold in baseline_scores(*data, test_x, train, members=scored.by_kind).items():
                scores[baseline][held_out] = of_fold
            rows.append(
                {
                    "left_out": name,
                    "n_images": len(held_out),
                    "n_pairs": count_cross_tier_pairs(rank[held_out]),
                    "pairwise_accuracy": pairwise_accuracy(scores["mirip"][held_out], rank[held_out]),
                    "ridge_accuracy": pairwise_accuracy(scores["ridge"][held_out], rank[held_out]),
                    "best_epoch": trained.result.best_epoch,
                    "temperature": checkpoint.temperature,
                }
            )
            progress.update(1, f"accuracy {rows[-1]['pairwise_accuracy']:.3f}")
    evaluation = Evaluator(**evaluate.model_dump()).evaluate(
        scores["mirip"],
        rank,
        tiers=tiers,
        group_id=images["group_id"].to_numpy(),
        context=images["context"].to_numpy(),
        fold=fold,
        tier_probability=tier_probability,
        baselines={name: scores[name] for name in BASELINES},
    )
    return CrossValidation(evaluation, pd.DataFrame(rows), scores["mirip"], fold)


def held_out_folds(images: pd.DataFrame, by: By, n_folds: int, *, seed: int) -> tuple[Codes, list[str]]:
    """Deal images to folds.

    Args:
        images: N rows with tier_rank, group_id and context.
        by: "tier": folds of whole groups, each with its share of every tier; "context": a fold a context, however
            many; "group": a fold a group, or, where there are more groups than folds, groups bundled to folds of
            equal size, whatever their tiers.
        n_folds: 2 or more; not used by context.
        seed: decides which groups go together.

    Returns:
        The fold of each image, (N,) int64 from 0, and the names of the folds.

    Raises:
        DataError: there is only one context, or there are too few groups.
    """
    if by == "context":
        contexts = images["context"].astype(str)
        fold, names = pd.factorize(contexts, sort=True)
        if len(names) < 2:
            raise DataError("all images are of one context", "set data.context, or use --by tier or --by group")
        return fold.astype(np.int64), [str(name) for name in names]
    n_groups = images["group_id"].nunique()
    n_folds = min(n_folds, n_groups) if by == "group" else n_folds
    if n_folds < 2 or n_groups < n_folds:
        raise DataError(
            f"{n_groups} groups cannot fill {n_folds} folds, of which there must be two or more, with a group each",
            "give more groups, a finer data.group, or another --folds",
        )
    kind = images["tier_rank"].to_numpy() if by == "tier" else np.zeros(len(images), dtype=np.int64)
    return balanced_folds(images["group_id"].to_numpy(), kind, n_folds, rng=stream(seed, "folds")), [
        str(k + 1) for k in range(n_folds)
    ]


def _as_split(
    images: pd.DataFrame, held_out: NDArray[np.bool_], val_share: float, seed: int, name: str
) -> pd.DataFrame:
    """Return the images as a split whose test split is what is held out; other images of its groups are in no split."""
    test = images[held_out]
    rest = images[~held_out & ~images["group_id"].isin(test["group_id"].unique()).to_numpy()]
    if rest["tier_rank"].nunique() < 2 or rest["group_id"].nunique() < 2:
        raise DataError(
            f"without {name} {len(rest)} images of {rest['tier_rank'].nunique()} tiers in "
            f"{rest['group_id'].nunique()} groups are left to train on",
            "give more images, or leave out less at a time",
        )
    inner = DataSplitter(1 - val_share, val_share, 0.0, seed=seed, max_tier_drift=100.0).split(rest)
    return pd.concat([inner, test[[*inner.columns.drop("split")]].assign(split="test")], ignore_index=True)
