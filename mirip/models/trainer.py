"""Training of projector, score head and linear members on features that are already in memory."""

import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import torch

from mirip.data.pairs import count_cross_tier_pairs
from mirip.errors import DataError
from mirip.metrics.pairwise import pairwise_accuracy
from mirip.models.linear import fit_linear_rankers
from mirip.models.ranking import PairwiseRankingModel
from mirip.models.ranking_data import RankingData
from mirip.models.training_state import ModelFactory, TrainingState
from mirip.params import TrainParams
from mirip.progress import Progress


class TrainingConfig(TrainParams):
    """Options of a training on its own: those of the section `train`, where checkpoints go, and tracking.

    Frozen; an unknown or invalid option raises pydantic.ValidationError. With `images_per_step` None, a step
    takes `batch_size` cross-tier pairs; with a number, that many distinct images and all their pairs.

    Attributes:
        tracking: publish the training to MLflow when it ends.
        experiment: MLflow experiment.
        run_name: name of the MLflow run; None makes one.
        checkpoint_dir: folder for `epoch_<n>.pt`, every `save_every_n_epochs` epochs; None keeps no checkpoints.
    """

    tracking: bool = True
    experiment: str = "mirip"
    run_name: str | None = None
    checkpoint_dir: Path | None = None


@dataclass(frozen=True)
class MemberResult:
    """One head alone: its seed, its best epoch, and its accuracies in [0, 1] at that epoch."""

    seed: int
    best_epoch: int
    val_pairwise_accuracy: float
    train_pairwise_accuracy: float


@dataclass(frozen=True)
class TrainingResult:
    """A trained model, each of its heads at its best epoch by validation.

    Attributes:
        model: in evaluation mode, on the CPU.
        curves: a row an epoch: epoch, train_loss, val_loss, train_pairwise_accuracy, val_pairwise_accuracy,
            learning_rate. The training metrics are of the scores seen in training, under dropout. Means over heads.
        best_epoch: the epoch, from 1, whose weights the model holds; the median over heads, where there are several.
        val_pairwise_accuracy: exact accuracy over the validation split's cross-tier pairs, in [0, 1], of the model's
            scores: with several members of the weighted mean of theirs.
        members: each head alone.
    """

    model: PairwiseRankingModel
    curves: pd.DataFrame
    best_epoch: int
    val_pairwise_accuracy: float
    members: tuple[MemberResult, ...]


class Tracker(Protocol):
    """Publishes a training that has ended."""

    def __call__(self, config: TrainingConfig, result: TrainingResult) -> None:
        """Publish `result`; a server that is unavailable is a warning, not an error."""


# The room tracking is above this one and alone knows MLflow. So its function is named here, not imported, and it is
# loaded only when a training is tracked (docs/decisions/0019).
_TRACKER = "mirip.tracking.training_run:track_training"


class Trainer:
    """AdamW with cosine annealing, gradient clipping, early stopping on the validation pairwise accuracy.

    An epoch visits every training image once. The same config and data give the same bytes on the same
    machine, whether the training ran through or was resumed: the randomness of an epoch is a function of
    seed and epoch alone. With `config.seeds` n above 1, n heads are trained at once, each with its own seed and best
    epoch; the run ends when the patience of all is over, and the model scores by their mean.

    Args:
        config: options of training; defaults to those of TrainingConfig. A TrainingConfig is tracked if it says so,
            TrainParams never are.
        checkpoint_dir: where `epoch_<n>.pt` is written every `save_every_n_epochs` epochs; None: where the
            TrainingConfig says.
        keep_checkpoints: False removes each when the next one is written.
        make_model: (feature_dim, config) -> model to train; None takes PairwiseRankingModel.
        tracker: publishes a training whose config asks for tracking; None takes MLflow.
    """

    def __init__(
        self,
        config: TrainParams | None = None,
        *,
        checkpoint_dir: Path | str | None = None,
        keep_checkpoints: bool = True,
        make_model: ModelFactory | None = None,
        tracker: Tracker | None = None,
    ) -> None:
        self.config = config if config is not None else TrainingConfig()
        if checkpoint_dir is None and isinstance(self.config, TrainingConfig):
            checkpoint_dir = self.config.checkpoint_dir
        self.checkpoint_dir = Path(checkpoint_dir) if checkpoint_dir is not None else None
        self.keep_checkpoints = keep_checkpoints
        self.make_model = make_model or _ranking_model
        self.tracker = tracker

    def fit(
        self, train: RankingData, val: RankingData, *, resume_from: Path | str | None = None, verbose: bool = False
    ) -> TrainingResult:
        """Train, and keep the epoch that ranks the validation split best (ties: the lower validation loss).

        Args:
            train: the training split.
            val: the validation split; chooses the epoch.
            resume_from: an `epoch_<n>.pt` of a training with the same config on the same data.
            verbose: show progress on stderr.

        Raises:
            DataError: a split holds no cross-tier pair.
            CheckpointError: `resume_from` cannot be read or belongs to another training.
        """
        fair = val.context if self.config.pair_context == "same" else None
        if not count_cross_tier_pairs(val.tier_rank, fair):
            where = " within one context" if fair is not None else ""
            raise DataError(
                f"the validation split holds no cross-tier pair{where}", "give more images, or make another split"
            )
        run = TrainingState(self.config, train, self.make_model)
        data = f"{train.digest()} {val.digest()}" if self.checkpoint_dir or resume_from else ""
        if resume_from is not None:
            run.load(Path(resume_from), data)
        val_tensors = val.tensors(run.device)
        with Progress("train", self.config.max_epochs, "epoch", done=run.epoch, visible=verbose) as progress:
            while run.epoch < self.config.max_epochs and not run.patience_is_over():
                run.train_epoch()
                run.validate(*val_tensors)
                progress.update(1, f"val accuracy {run.val_accuracy():.3f}")
                self._save(run, data)
        members = tuple(
            MemberResult(seed, best, rows[best - 1]["val_pairwise_accuracy"], rows[best - 1]["train_pairwise_accuracy"])
            for seed, best, rows in zip(run.seeds, run.best_epochs, run.curves, strict=True)
        )
        model = run.model_of(run.best_state)
        self._fit_linear_members(train, model)
        best_epoch = int(np.median(run.best_epochs))
        accuracy = validation_accuracy(model, val, self.config)
        result = TrainingResult(model, pd.DataFrame(run.mean_curves()), best_epoch, accuracy, members)
        if isinstance(self.config, TrainingConfig) and self.config.tracking:
            tracker: Tracker = self.tracker or pkgutil.resolve_name(_TRACKER)
            tracker(self.config, result)
        return result

    def fit_epochs(self, train: RankingData, epochs: int | Sequence[int]) -> PairwiseRankingModel:
        """Train for a fixed number of epochs without a validation split.

        Args:
            train: the training split.
            epochs: for all heads, or of each head.

        Raises:
            DataError: the data hold no cross-tier pair.
        """
        return self.fit_fold(train, epochs)[0]

    def fit_fold(
        self, train: RankingData, epochs: int | Sequence[int], chosen_by: RankingData | None = None
    ) -> tuple[PairwiseRankingModel, PairwiseRankingModel | None]:
        """Train once for two models: for a fixed number of epochs, and by early stopping on other images.

        Args:
            train: what is trained on.
            epochs: of the first model, for all heads or of each head.
            chosen_by: images whose pairs choose the second model's epoch; None: there is no second one.

        Raises:
            DataError: the data hold no cross-tier pair.
        """
        run = TrainingState(self.config, train, self.make_model)
        last = [epochs] * len(run.seeds) if isinstance(epochs, int) else list(epochs)
        reached: dict[str, torch.Tensor] = {}
        others = chosen_by.tensors(run.device) if chosen_by is not None else None
        while True:
            for head, epoch in enumerate(last):
                if epoch == run.epoch:
                    run.keep(head, reached)
            stopped = others is None or run.epoch >= self.config.max_epochs or run.patience_is_over()
            if run.epoch >= max(last) and stopped:
                break
            run.train_epoch()
            if others is not None:
                run.validate(*others)
        models = run.model_of(reached), run.model_of(run.best_state) if others is not None else None
        self._fit_linear_members(train, *models)
        return models

    def _fit_linear_members(self, train: RankingData, *models: PairwiseRankingModel | None) -> None:
        if not self.config.linear_members:
            return
        methods, seed = self.config.linear_members, self.config.seed
        fair = train.context if self.config.pair_context == "same" else None
        rankers = fit_linear_rankers(
            train.features, train.tier_rank, group=train.group, context=fair, methods=methods, seed=seed
        )
        for model in models:
            if model is not None:
                model.set_linear_members(rankers, train.tensors(torch.device("cpu"))[0])

    def _save(self, run: TrainingState, data: str) -> None:
        every = self.config.save_every_n_epochs
        if self.checkpoint_dir is None or not every or run.epoch % every:
            return
        older = [] if self.keep_checkpoints else list(self.checkpoint_dir.glob("epoch_*.pt"))
        run.save(self.checkpoint_dir / f"epoch_{run.epoch:04d}.pt", data)
        for path in older:
            path.unlink(missing_ok=True)


def validation_accuracy(model: PairwiseRankingModel, val: RankingData, config: TrainParams) -> float:
    """Return the pairwise accuracy of a model on the validation split's pairs, of the kind that training uses."""
    with torch.inference_mode():
        scores = model.score(val.tensors(torch.device("cpu"))[0]).numpy()
    return pairwise_accuracy(scores, val.tier_rank, context=val.context if config.pair_context == "same" else None)


def _ranking_model(feature_dim: int, config: TrainParams) -> PairwiseRankingModel:
    return PairwiseRankingModel(feature_dim=feature_dim, config=config)
