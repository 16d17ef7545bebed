"""Training of the projector and the score head on features that are already in memory."""

import copy
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR

from mirip.data.pairs import count_cross_tier_pairs
from mirip.errors import CheckpointError, DataError
from mirip.features.backbone import resolve_device
from mirip.metrics.pairwise import pairwise_accuracy
from mirip.models.checkpoint import load_state, save_state
from mirip.models.config import TrainingConfig
from mirip.models.losses import all_pairs_loss, pair_loss
from mirip.models.ranking import PairwiseRankingModel
from mirip.models.steps import image_batches, pair_batches
from mirip.params import TrainParams
from mirip.progress import Progress

_VAL_IMAGES_PER_STEP = 1024
# What may differ between a training and its resumption: it changes no epoch that has been trained.
_FREE_TO_CHANGE = {
    "max_epochs", "early_stopping_patience", "save_every_n_epochs", "calibration_folds", "device",
    "tracking", "experiment", "run_name",
}  # fmt: skip
_STATE = {
    "config", "data", "epoch", "model_state_dict", "optimizer_state_dict", "scheduler_state_dict", "curves",
    "best_epoch", "best_state_dict",
}  # fmt: skip


@dataclass(frozen=True)
class RankingData:
    """Images as a trainer sees them: features (N, D) float, tier_rank (N,) int, higher better, context (N,) codes."""

    features: NDArray[np.floating]
    tier_rank: NDArray[np.integer]
    context: NDArray[np.integer]

    def __len__(self) -> int:
        return len(self.tier_rank)

    def digest(self) -> str:
        """Return a sha256 of features, tiers and contexts, 64 hexadecimal digits."""
        parts = (self.features, self.tier_rank.astype(np.int64), self.context.astype(np.int64))
        hashed = hashlib.sha256()
        for part in parts:
            hashed.update(np.ascontiguousarray(part).tobytes())
        return hashed.hexdigest()


@dataclass(frozen=True)
class TrainingResult:
    """A trained model, at its best epoch by validation.

    Attributes:
        model: in evaluation mode, on the CPU.
        curves: a row an epoch: epoch, train_loss, val_loss, train_pairwise_accuracy, val_pairwise_accuracy,
            learning_rate. The training figures are of the scores seen in training, under dropout.
        best_epoch: the epoch, from 1, whose weights the model holds.
        val_pairwise_accuracy: exact accuracy over the validation side's cross-tier pairs, in [0, 1].
    """

    model: PairwiseRankingModel
    curves: pd.DataFrame
    best_epoch: int
    val_pairwise_accuracy: float


class Trainer:
    """AdamW with cosine annealing, gradient clipping, early stopping on the validation pairwise accuracy.

    An epoch visits every training image once. The same config and data give the same bytes on the same
    machine, whether the training ran through or was resumed: the randomness of an epoch is a function of
    seed and epoch alone.

    Args:
        config: options of training; defaults to those of TrainingConfig.
        checkpoint_dir: where `epoch_<n>.pt` is written every `save_every_n_epochs` epochs; None writes none.
        keep_checkpoints: False removes each when the next one is written.
    """

    def __init__(
        self,
        config: TrainParams | None = None,
        *,
        checkpoint_dir: Path | str | None = None,
        keep_checkpoints: bool = True,
    ) -> None:
        self.config = config if config is not None else TrainingConfig()
        self.checkpoint_dir = Path(checkpoint_dir) if checkpoint_dir is not None else None
        self.keep_checkpoints = keep_checkpoints

    def fit(
        self, train: RankingData, val: RankingData, *, resume_from: Path | str | None = None, verbose: bool = False
    ) -> TrainingResult:
        """Train, and keep the epoch that ranks the validation side best (ties: the lower validation loss).

        Args:
            train: the training side.
            val: the validation side; chooses the epoch.
            resume_from: an `epoch_<n>.pt` of a training with the same config on the same data.
            verbose: show progress on stderr.

        Raises:
            DataError: a side holds no cross-tier pair.
            CheckpointError: `resume_from` cannot be read or belongs to another training.
        """
        if not count_cross_tier_pairs(val.tier_rank):
            raise DataError("the validation side holds no cross-tier pair: more images or another split are needed")
        run = _Run(self.config, train)
        data = f"{train.digest()} {val.digest()}" if self.checkpoint_dir or resume_from else ""
        if resume_from is not None:
            run.load(Path(resume_from), data)
        val_tensors = _to_tensors(val, run.device)
        with Progress("train", self.config.max_epochs, "epoch", done=run.epoch, visible=verbose) as progress:
            while run.epoch < self.config.max_epochs and not run.patience_is_over():
                run.train_epoch()
                run.validate(*val_tensors)
                progress.update(1, f"val accuracy {run.curves[-1]['val_pairwise_accuracy']:.3f}")
                self._save(run, data)
        model = run.best_model()
        best = run.curves[run.best_epoch - 1]
        return TrainingResult(model, pd.DataFrame(run.curves), run.best_epoch, best["val_pairwise_accuracy"])

    def fit_epochs(self, train: RankingData, epochs: int) -> PairwiseRankingModel:
        """Train for a fixed number of epochs without a validation side, e.g. on the folds of a cross-fit.

        Raises:
            DataError: the data hold no cross-tier pair.
        """
        run = _Run(self.config, train)
        for _ in range(epochs):
            run.train_epoch()
        return run.model.cpu().eval()

    def _save(self, run: "_Run", data: str) -> None:
        every = self.config.save_every_n_epochs
        if self.checkpoint_dir is None or not every or run.epoch % every:
            return
        older = [] if self.keep_checkpoints else list(self.checkpoint_dir.glob("epoch_*.pt"))
        run.save(self.checkpoint_dir / f"epoch_{run.epoch:04d}.pt", data)
        for path in older:
            path.unlink(missing_ok=True)


class _Run:
    """The state of one training."""

    def __init__(self, config: TrainParams, train: RankingData) -> None:
        fair = train.context if config.pair_context == "same" else None
        if not count_cross_tier_pairs(train.tier_rank, fair):
            where = " within one context" if fair is not None else ""
            raise DataError(f"the training side holds no cross-tier pair{where}: images of two tiers are needed")
        self.config = config
        self.device = resolve_device(config.device)
        self._forked = [self.device] if self.device.type == "cuda" else []
        self._train = train
        self._features, self._tier_rank, self._context = _to_tensors(train, self.device)
        with torch.random.fork_rng(self._forked):
            torch.manual_seed(config.seed)
            self.model = PairwiseRankingModel(feature_dim=train.features.shape[1], config=config)
        self.model.projector.fit_standardizer(self._features.cpu())
        self.model.to(self.device)
        self._optimizer = AdamW(self.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        self._scheduler = CosineAnnealingLR(
            self._optimizer, T_max=config.scheduler_t_max, eta_min=config.scheduler_eta_min
        )
        self.epoch = 0
        self.curves: list[dict[str, Any]] = []
        self.best_epoch = 0
        self._best_state: dict[str, torch.Tensor] = {}

    def train_epoch(self) -> None:
        self.epoch += 1
        rng = np.random.default_rng([self.config.seed, self.epoch])
        learning_rate = self._optimizer.param_groups[0]["lr"]
        self.model.train()
        seen = np.full(len(self._train), np.nan)
        losses: list[float] = []
        with torch.random.fork_rng(self._forked):
            torch.manual_seed(int(rng.integers(2**62)))
            for images, scores, loss in self._losses(rng):
                self._step(loss)
                seen[images] = scores.detach().cpu().numpy()
                losses.append(float(loss.detach()))
        if self.epoch <= self.config.scheduler_t_max:  # past its half period the cosine would rise again
            self._scheduler.step()
        visited = np.isfinite(seen)
        self.curves.append(
            {
                "epoch": self.epoch,
                "train_loss": float(np.mean(losses)) if losses else float("nan"),
                "val_loss": float("nan"),
                "train_pairwise_accuracy": pairwise_accuracy(seen[visited], self._train.tier_rank[visited]),
                "val_pairwise_accuracy": float("nan"),
                "learning_rate": learning_rate,
            }
        )

    def validate(self, features: torch.Tensor, tier_rank: torch.Tensor, context: torch.Tensor) -> None:
        self.model.eval()
        with torch.inference_mode():
            scores = self.model.score(features)
            batches = image_batches(len(tier_rank), _VAL_IMAGES_PER_STEP, np.random.default_rng(self.config.seed))
            losses = [
                loss.item()
                for batch in map(torch.from_numpy, batches)
                if (loss := all_pairs_loss(scores[batch], tier_rank[batch], context[batch], self.config)) is not None
            ]
        row = self.curves[-1]
        row["val_loss"] = float(np.mean(losses)) if losses else float("nan")
        row["val_pairwise_accuracy"] = pairwise_accuracy(scores.cpu().numpy(), tier_rank.cpu().numpy())
        if self.best_epoch == 0 or _rank(row) > _rank(self.curves[self.best_epoch - 1]):
            self.best_epoch = self.epoch
            self._best_state = copy.deepcopy(self.model.state_dict())

    def patience_is_over(self) -> bool:
        return self.epoch - self.best_epoch >= self.config.early_stopping_patience

    def best_model(self) -> PairwiseRankingModel:
        self.model.load_state_dict(self._best_state)
        return self.model.cpu().eval()

    def save(self, path: Path, data: str) -> None:
        save_state(
            path,
            {
                "config": self.config.model_dump(mode="json"),
                "data": data,
                "epoch": self.epoch,
                "model_state_dict": self.model.state_dict(),
                "optimizer_state_dict": self._optimizer.state_dict(),
                "scheduler_state_dict": self._scheduler.state_dict(),
                "curves": self.curves,
                "best_epoch": self.best_epoch,
                "best_state_dict": self._best_state,
            },
        )

    def load(self, path: Path, data: str) -> None:
        state = load_state(path)
        if not state.keys() >= _STATE:
            raise CheckpointError(f"{path} is no checkpoint of a training that can go on: give an epoch_<n>.pt")
        seen, wanted = state["config"], self.config.model_dump(mode="json")
        differing = [key for key in wanted if key not in _FREE_TO_CHANGE and seen.get(key) != wanted[key]]
        if differing:
            raise CheckpointError(
                f"{path} belongs to a training with other options ({', '.join(differing)}): "
                "give the same options, or start anew"
            )
        if state["data"] != data:
            raise CheckpointError(f"{path} belongs to a training on other images, features or tiers: start anew")
        self.model.load_state_dict(state["model_state_dict"])
        self._optimizer.load_state_dict(state["optimizer_state_dict"])
        self._scheduler.load_state_dict(state["scheduler_state_dict"])
        self.epoch, self.curves, self.best_epoch = state["epoch"], state["curves"], state["best_epoch"]
        self._best_state = state["best_state_dict"]

    def _losses(self, rng: np.random.Generator) -> Iterator[tuple[NDArray[np.int64], torch.Tensor, torch.Tensor]]:
        """Yield the distinct images of each step, their scores (M,) and the step's loss."""
        if self.config.images_per_step is not None:
            for images in image_batches(len(self._train), self.config.images_per_step, rng):
                chosen = torch.from_numpy(images).to(self.device)
                scores = self.model.score(self._features[chosen])
                loss = all_pairs_loss(scores, self._tier_rank[chosen], self._context[chosen], self.config)
                if loss is not None:
                    yield images, scores, loss
            return
        for pairs, weights in pair_batches(self._train.tier_rank, self._train.context, self.config, rng):
            images, places = np.unique(pairs, return_inverse=True)
            scores = self.model.score(self._features[torch.from_numpy(images).to(self.device)])
            above, below = scores[torch.from_numpy(places.reshape(pairs.shape)).to(self.device)]  # (2, P)
            weight = torch.from_numpy(weights).to(self.device, torch.float32)
            yield images, scores, (weight * pair_loss(above - below, self.config)).mean()

    def _step(self, loss: torch.Tensor) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_clip_norm)
        self._optimizer.step()


def _rank(row: dict[str, Any]) -> tuple[float, float]:
    """Order of epochs: by validation accuracy, then by the lower validation loss."""
    return row["val_pairwise_accuracy"], -row["val_loss"]


def _to_tensors(data: RankingData, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return (
        torch.from_numpy(np.ascontiguousarray(data.features, dtype=np.float32)).to(device),
        torch.from_numpy(data.tier_rank.astype(np.int64)).to(device),
        torch.from_numpy(data.context.astype(np.int64)).to(device),
    )
