"""The stage train: from a split and its cached features to a calibrated checkpoint."""

import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from mirip.data.folds import deal_folds
from mirip.data.split import check_tiers, read_splits, split_digest
from mirip.data.tables import write_csv, write_table
from mirip.errors import DataError
from mirip.features.cache.feature_cache import FeatureCache
from mirip.files import canonical_json, sha256_bytes, sha256_file, write_json
from mirip.locks import locked_file
from mirip.metrics.calibration import fit_ordinal, fit_temperature, score_percentiles
from mirip.metrics.intervals import seed_spread
from mirip.metrics.unlikeness import feature_spread
from mirip.models.checkpoint import Checkpoint, save_checkpoint, short_keys
from mirip.models.cross_fit import CrossFit, cross_fit, training_folds
from mirip.models.ranking_data import RankingData
from mirip.models.scores import NO_FOLD
from mirip.models.trainer import Trainer, TrainingResult, validation_accuracy
from mirip.params import Params, TrainParams
from mirip.randomness import stream
from mirip.workspace import Workspace, private_folder

_MAX_SEEN_IMAGES = 100_000  # more would make a checkpoint large
_MAX_AGE_OF_UNFINISHED_S = 30 * 24 * 3600.0
_FEWEST_TO_BE_UNLIKE, _UNLIKE, _SPREAD_FOLDS, _MOST_SPREAD = 100, 0.99, 3, 4096
_FEWEST_OF_CONTEXT, _MOST_CONTEXTS = 30, 500  # fewer images make no distribution, more contexts a large checkpoint


def ranking_data(splits: pd.DataFrame, cache: FeatureCache, split: str) -> RankingData:
    """Gather one split's features and labels, in the order of `splits`.

    Raises:
        CacheError: an image of that split has no row in the cache.
    """
    rows = splits[splits["split"] == split]
    contexts = pd.factorize(splits["context"], sort=True)[0][splits["split"] == split]
    groups = pd.factorize(rows["group_id"], sort=True)[0]
    return RankingData(cache.rows(rows["image_sha256"].tolist()), rows["tier_rank"].to_numpy(), contexts, groups)


@dataclass(frozen=True)
class Training:
    """What the stage train found.

    Attributes:
        checkpoint: as it was written to the workspace.
        result: of the trainer.
        out_of_fold: the cross-fit of the training split.
    """

    checkpoint: Checkpoint
    result: TrainingResult
    out_of_fold: CrossFit

    @property
    def metrics(self) -> dict[str, float | int]:
        """The flat metrics of metrics/train.json: val_pairwise_accuracy, best_epoch, epochs and more.

        Of several heads also the spread of val_pairwise_accuracy over them; train_pairwise_accuracy is their mean. With
        linear members also the weight of each kind of members.
        """
        result = self.result
        weights = zip(result.model.kinds, self.out_of_fold.weights.tolist(), strict=True)
        return {
            "val_pairwise_accuracy": result.val_pairwise_accuracy,
            **seed_spread("val_pairwise_accuracy", [member.val_pairwise_accuracy for member in result.members]),
            **({f"weight_{kind}": weight for kind, weight in weights} if len(result.model.kinds) > 1 else {}),
            "train_pairwise_accuracy": float(np.mean([member.train_pairwise_accuracy for member in result.members])),
            "best_epoch": result.best_epoch,
            "epochs": len(result.curves),
            "temperature": self.checkpoint.temperature,
        }

    def summary(self) -> str:
        """Say the result in one line."""
        return (
            f"{len(self.result.curves)} epochs, best {self.result.best_epoch} with "
            f"val_pairwise_accuracy {self.result.val_pairwise_accuracy:.3f}"
        )


def train(
    workspace: Workspace, params: Params, *, resume: bool = True, keep_checkpoints: bool = False, verbose: bool = True
) -> Training:
    """Train on the workspace's splits and features, and write model, out-of-fold scores, metrics and curves.

    While the training runs, its checkpoints are in `.mirip/checkpoints/`, under the name of all that decides its
    result, and an interrupted training goes on from there. They are removed when it ends.

    Args:
        workspace: holds splits and features, and gets models/best_model.pt, metrics/train.json and the curves.
        params: the sections data, extract, recipes and train.
        resume: go on from the latest checkpoint, if there is one; False removes those of an earlier training.
        keep_checkpoints: write all of them to the workspace's folder `checkpoints` instead, and keep them.
        verbose: show progress on stderr.

    Raises:
        DataError: an input is missing or damaged, a split holds no cross-tier pair, or there are too few groups.
        SplitError: the split was made with other tiers.
        CacheError: the features are missing, of another recipe, or lack an image.
        CheckpointError: the checkpoint to resume from belongs to another training.
    """
    splits = read_splits(workspace.splits)
    cache = FeatureCache.open(workspace.features(params.extract.recipe), params.recipe)
    data = ranking_data(splits, cache, "train"), ranking_data(splits, cache, "val")
    key = training_key(params.train, *data)
    unfinished = private_folder().checkpoints
    folder = workspace.checkpoints if keep_checkpoints else unfinished / key[:16]
    unfinished.mkdir(parents=True, exist_ok=True)
    _remove_stale(unfinished)
    with locked_file(unfinished / f"{key[:16]}.lock"):  # the same training may be queued twice
        if not resume:
            for stale in folder.glob("epoch_*.pt"):  # of another training: a later resume must never find them
                stale.unlink()
        trainer = Trainer(params.train, checkpoint_dir=folder, keep_checkpoints=keep_checkpoints)
        audited = not workspace.flat
        training = train_ranker(
            splits,
            cache,
            trainer,
            tiers=params.data.tiers,
            data=data,
            resume=resume,
            audited=audited,
            verbose=verbose,
        )
        if audited:
            write_table(workspace.cross_fit, out_of_fold_table(splits, training.out_of_fold))
        save_checkpoint(workspace.model, training.checkpoint)
        if not keep_checkpoints:
            shutil.rmtree(folder, ignore_errors=True)
    write_csv(workspace.curves, training.result.curves)
    write_json(workspace.metrics("train"), training.metrics)
    return training


def train_ranker(
    splits: pd.DataFrame,
    cache: FeatureCache,
    trainer: Trainer,
    *,
    tiers: Sequence[str],
    data: tuple[RankingData, RankingData] | None = None,
    resume: bool = False,
    audited: bool = False,
    verbose: bool = False,
) -> Training:
    """Train on the training split, choose the epoch by the validation split; weigh and calibrate out of fold.

    Args:
        splits: as `mirip.data.split.read_splits` gives it; its test split is not used.
        cache: features of the active recipe.
        trainer: options, and where its checkpoints go.
        tiers: names of the tiers, best first.
        data: the training and the validation split, where they are gathered already.
        resume: go on from the trainer's latest checkpoint, if there is one.
        audited: score the validation split out of fold as well; it takes one more training.
        verbose: show progress on stderr.

    Raises:
        DataError: a split holds no cross-tier pair, or there are too few groups to calibrate on.
        SplitError: the split was made with other tiers.
        CacheError: an image has no row in the cache.
        CheckpointError: the checkpoint to resume from belongs to another training.
    """
    check_tiers(splits, tiers)
    train, val = data or (ranking_data(splits, cache, "train"), ranking_data(splits, cache, "val"))
    learned = splits[splits["split"] == "train"]
    held_out = training_folds(train, trainer.config) != NO_FOLD
    if len(np.unique(train.tier_rank[held_out])) < 2:
        raise DataError(
            f"the training split's {len(train)} images in {learned['group_id'].nunique()} groups are too few to "
            "calibrate scores on",
            "give more groups, or a finer data.group",
        )
    latest = _latest_checkpoint(trainer.checkpoint_dir) if resume and trainer.checkpoint_dir else None
    result = trainer.fit(train, val, resume_from=latest, verbose=verbose)
    epochs = [member.best_epoch for member in result.members]
    fitted = cross_fit(train, trainer.config, epochs=epochs, val=val if audited else None, verbose=verbose)
    if len(result.model.kinds) > 1:
        result.model.weigh_members(fitted.weights.tolist())
        accuracy = validation_accuracy(result.model, val, trainer.config)
        result = replace(result, val_pairwise_accuracy=accuracy)
    scores, rank = fitted.scores[held_out], train.tier_rank[held_out]
    slope, thresholds = fit_ordinal(scores, rank, len(tiers))
    checkpoint = Checkpoint(
        model_state_dict=result.model.state_dict(),
        config=trainer.config.model_dump(mode="json"),
        best_epoch=result.best_epoch,
        tiers=list(tiers),
        recipe=cache.recipe,
        fingerprint=cache.fingerprint,
        split_digest=split_digest(splits),
        temperature=fit_temperature(scores, rank, rng=np.random.default_rng(trainer.config.seed)),
        ordinal_slope=float(slope),
        ordinal_thresholds=[float(threshold) for threshold in thresholds],
        score_percentiles=[float(score) for score in score_percentiles(scores)],
        context_percentiles=_context_percentiles(scores, learned["context"][held_out]),
        seen_images=_seen_images(splits),
        spread=_spread(train, trainer.config.seed),
    )
    return Training(checkpoint, result, fitted)


def out_of_fold_table(splits: pd.DataFrame, found: CrossFit) -> pd.DataFrame:
    """Return image_sha256, fold and score of each row of `splits`; those of the test split have no score yet."""
    fold, score = np.full(len(splits), NO_FOLD), np.full(len(splits), np.nan)
    in_train, in_val = ((splits["split"] == name).to_numpy() for name in ("train", "val"))
    fold[in_train], score[in_train] = found.fold, found.scores
    if found.val_scores is not None:
        score[in_val] = found.val_scores
        fold[in_val] = np.where(np.isfinite(found.val_scores), found.fold.max() + 1, NO_FOLD)
    return pd.DataFrame({"image_sha256": splits["image_sha256"].to_numpy(), "fold": fold, "score": score})


def training_key(config: TrainParams, train: RankingData, val: RankingData) -> str:
    """Name a training by all that decides its result, this package's code included: 64 hexadecimal digits."""
    code = [sha256_file(path) for path in sorted(Path(__file__).parent.glob("*.py"))]
    parts = [config.model_dump(mode="json"), train.digest(), val.digest(), code]
    return sha256_bytes(canonical_json(parts).encode())


def _latest_checkpoint(directory: Path) -> Path | None:
    epochs = {int(path.stem.removeprefix("epoch_")): path for path in directory.glob("epoch_*.pt")}
    return epochs[max(epochs)] if epochs else None


def _context_percentiles(scores: NDArray[np.float64], context: pd.Series) -> dict[str, list[float]]:
    """Return the percentiles of each context that has enough images, of the largest contexts."""
    names = context.astype(str)
    n_images = names.value_counts()
    enough = n_images[n_images >= _FEWEST_OF_CONTEXT].index[:_MOST_CONTEXTS]
    return {name: score_percentiles(scores[(names == name).to_numpy()]).tolist() for name in sorted(enough)}


def _seen_images(splits: pd.DataFrame) -> torch.Tensor:
    keys = np.unique(short_keys(splits.loc[splits["split"] != "test", "image_sha256"].tolist()))
    return torch.from_numpy(keys if len(keys) <= _MAX_SEEN_IMAGES else keys[:0])


def _spread(train: RankingData, seed: int) -> dict[str, torch.Tensor] | None:
    """Learn where the training split's features lie, and how far out one in a hundred of its own images would be.

    That is told by folds of whole groups, each held against the rest. None where there are too few images to say.
    """
    if len(train) < _FEWEST_TO_BE_UNLIKE:
        return None
    group = np.arange(len(train)) if train.group is None else train.group
    fold = deal_folds(group, train.tier_rank, _SPREAD_FOLDS, stream(seed, "spread"))
    distance = np.empty(len(train))
    for k in range(_SPREAD_FOLDS):
        rest = feature_spread(train.features[fold != k], max_fitted=_MOST_SPREAD, rng=stream(seed, "spread", k))
        distance[fold == k] = rest.distance(train.features[fold == k])
    found = feature_spread(train.features, max_fitted=_MOST_SPREAD, rng=stream(seed, "spread", "all"))
    tensors = {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in found._asdict().items()}
    return {**tensors, "unlike_above": torch.tensor(np.quantile(distance, _UNLIKE), dtype=torch.float64)}


def _remove_stale(folder: Path) -> None:
    """Remove checkpoints of interrupted trainings that nobody resumed for a month."""
    for path in folder.glob("*/"):
        with suppress(FileNotFoundError):  # another training may just have ended
            if time.time() - path.stat().st_mtime > _MAX_AGE_OF_UNFINISHED_S:
                shutil.rmtree(path, ignore_errors=True)
