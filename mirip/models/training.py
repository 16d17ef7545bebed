"""From a split and its cached features to a calibrated checkpoint: what the stage and the command line share."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from mirip.data.split import split_digest
from mirip.features.cache import FeatureCache
from mirip.files import canonical_json, sha256_bytes
from mirip.metrics.calibration import fit_ordinal, fit_temperature, score_percentiles
from mirip.models.checkpoint import Checkpoint
from mirip.models.trainer import RankingData, Trainer, TrainingResult
from mirip.params import TrainParams


def ranking_data(splits: pd.DataFrame, cache: FeatureCache, side: str) -> RankingData:
    """Gather one side's features and labels, in the order of `splits`.

    Raises:
        CacheError: an image of that side has no row in the cache.
    """
    rows = splits[splits["split"] == side]
    contexts = pd.factorize(splits["context"], sort=True)[0][splits["split"] == side]
    return RankingData(cache.rows(rows["image_sha256"].tolist()), rows["tier_rank"].to_numpy(), contexts)


def train_ranker(
    splits: pd.DataFrame,
    cache: FeatureCache,
    *,
    config: TrainParams,
    tiers: Sequence[str],
    checkpoint_dir: Path | None = None,
    resume: bool = False,
    verbose: bool = False,
) -> tuple[Checkpoint, TrainingResult]:
    """Train on the training side, choose the epoch by the validation side, calibrate out of fold.

    Args:
        splits: as `mirip.data.split.read_splits` gives it; its test side is not looked at.
        cache: features of the recipe in force.
        config: options of training.
        tiers: names of the tiers, best first.
        checkpoint_dir: where checkpoints along the way are kept; None keeps none.
        resume: go on from the latest checkpoint in `checkpoint_dir`, where there is one.
        verbose: show progress on stderr.

    Raises:
        DataError: a side holds no cross-tier pair.
        CacheError: an image has no row in the cache.
        CheckpointError: the checkpoint to resume from belongs to another training.
    """
    train, val = ranking_data(splits, cache, "train"), ranking_data(splits, cache, "val")
    latest = max(checkpoint_dir.glob("epoch_*.pt"), default=None) if resume and checkpoint_dir else None
    result = Trainer(config, checkpoint_dir=checkpoint_dir).fit(train, val, resume_from=latest, verbose=verbose)
    groups = splits.loc[splits["split"] == "train", "group_id"].to_numpy()
    scores, judged = out_of_fold_scores(train, groups, config, epochs=result.best_epoch)
    rank = train.tier_rank[judged]
    rng = np.random.default_rng(config.seed)
    slope, thresholds = fit_ordinal(scores[judged], rank, len(tiers))
    checkpoint = Checkpoint(
        model_state_dict=result.model.state_dict(),
        config=config.model_dump(mode="json"),
        tiers=list(tiers),
        recipe=cache.recipe,
        fingerprint=cache.fingerprint,
        split_digest=split_digest(splits),
        temperature=fit_temperature(scores[judged], rank, rng=rng),
        ordinal_slope=float(slope),
        ordinal_thresholds=[float(threshold) for threshold in thresholds],
        score_percentiles=[float(score) for score in score_percentiles(scores[judged])],
    )
    return checkpoint, result


def training_summary(checkpoint: Checkpoint, result: TrainingResult) -> dict[str, float | int]:
    """Return the flat figures of a training: val_pairwise_accuracy, best_epoch, epochs and more."""
    best = result.curves.iloc[result.best_epoch - 1]
    return {
        "val_pairwise_accuracy": result.val_pairwise_accuracy,
        "train_pairwise_accuracy": float(best["train_pairwise_accuracy"]),
        "best_epoch": result.best_epoch,
        "epochs": len(result.curves),
        "temperature": checkpoint.temperature,
    }


def out_of_fold_scores(
    data: RankingData, group_id: NDArray[np.integer], config: TrainParams, *, epochs: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Score every image by a model that saw no image of its group.

    The scores of a model on its own training images are too far apart; what turns scores into probabilities
    is therefore fitted on these.

    Args:
        data: N images.
        group_id: (N,) groups, each whole in one fold.
        config: options of training; `calibration_folds` folds are made.
        epochs: how long each fold's model is trained.

    Returns:
        scores (N,) float64, and judged (N,) bool: False where the rest of the data held no cross-tier pair.
    """
    fold = _folds(group_id, data.tier_rank, config.calibration_folds, np.random.default_rng(config.seed))
    scores = np.zeros(len(data))
    judged = np.zeros(len(data), dtype=bool)
    for held_out in (fold == k for k in range(config.calibration_folds)):
        rest = RankingData(data.features[~held_out], data.tier_rank[~held_out], data.context[~held_out])
        if not held_out.any() or len(np.unique(rest.tier_rank)) < 2:
            continue
        model = Trainer(config).fit_epochs(rest, epochs)
        with torch.inference_mode():
            scores[held_out] = model.score(torch.from_numpy(data.features[held_out].astype(np.float32))).numpy()
        judged |= held_out
    return scores, judged


def training_key(config: TrainParams, fingerprint: str, content_digest: str, split: str) -> str:
    """Name a training by all that decides its result: sha256, 64 hexadecimal digits."""
    parts = [config.model_dump(mode="json"), fingerprint, content_digest, split]
    return sha256_bytes(canonical_json(parts).encode())


def _folds(
    group_id: NDArray[np.integer], tier_rank: NDArray[np.integer], n_folds: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Deal whole groups to folds, best tier first, so that every fold holds its share of each tier."""
    groups, members = np.unique(group_id, return_inverse=True)
    best = np.full(len(groups), -1)
    np.maximum.at(best, members, tier_rank)
    order = np.lexsort((rng.random(len(groups)), -best))
    fold_of_group = np.empty(len(groups), dtype=np.int64)
    fold_of_group[order] = np.arange(len(groups)) % n_folds
    return fold_of_group[members]
