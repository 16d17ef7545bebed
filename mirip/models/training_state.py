"""The state of one training: n heads of n seeds, trained side by side."""

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mirip.data.pairs import count_cross_tier_pairs
from mirip.errors import CheckpointError, DataError
from mirip.features.backbones.backbone import resolve_device
from mirip.metrics.pairwise import pairwise_accuracy
from mirip.models.batches import image_batches, pair_batches
from mirip.models.checkpoint import load_state, save_state
from mirip.models.layers import DropoutStreams, clip_each_head, set_streams, stack_parameters
from mirip.models.losses import all_pairs_loss, weighted_pair_loss
from mirip.models.optimizer import AdamW, cosine_rate
from mirip.models.ranking import PairwiseRankingModel
from mirip.models.ranking_data import RankingData
from mirip.params import TrainParams

Indices = NDArray[np.int64]
Loss = Callable[[torch.Tensor], torch.Tensor | None]
ModelFactory = Callable[[int, TrainParams], PairwiseRankingModel]

_VAL_IMAGES_PER_STEP = 1024
# What may differ between a training and its resumption: it changes no epoch that has been trained.
_FREE_TO_CHANGE = {
    "max_epochs", "early_stopping_patience", "save_every_n_epochs", "calibration_folds", "device",
    "tracking", "experiment", "run_name", "checkpoint_dir",
}  # fmt: skip
_STATE = {
    "config", "data", "epoch", "model_state_dict", "optimizer_state_dict", "curves", "best_epochs", "best_state_dict",
}  # fmt: skip
_SEEDING = threading.Lock()  # initial weights come from torch's global generator, and folds are trained side by side


class TrainingState:
    """n heads in training: seeds `config.seed`, `config.seed` + 1, ...; n is `config.seeds`.

    Each head has its own initial weights, dropout, order of images and best epoch. Only the time is shared:
    head k is what a training with its seed alone gives, up to float32 rounding (on a GPU its dropout has other
    draws). With one head the model's layers are plain ones, with more they are stacked and every step is a
    few batched operations for all.

    Args:
        config: options of training.
        train: the training split.
        make_model: (feature_dim, config) -> a model with random weights.

    Raises:
        DataError: the data hold no cross-tier pair.
    """

    def __init__(self, config: TrainParams, train: RankingData, make_model: ModelFactory) -> None:
        self._fair = (
            config.pair_context == "same"
        )  # whether only pairs within one context count, here and in validation
        if not count_cross_tier_pairs(train.tier_rank, train.context if self._fair else None):
            where = " within one context" if self._fair else ""
            raise DataError(f"the training split holds no cross-tier pair{where}", "give images of two tiers")
        self.config = config
        self.device = resolve_device(config.device)
        self.seeds = range(config.seed, config.seed + config.seeds)
        self._train = train
        self._features, self._tier_rank, self._context = train.tensors(self.device)
        with _SEEDING, torch.random.fork_rng([]):
            self.model = _seeded_model(train.features.shape[1], config, self.seeds, make_model)
        self.model.projector.fit_standardizer(self._features.cpu())
        self.model.to(self.device)
        self._stacked = [name for name, _ in self.model.named_parameters()] if len(self.seeds) > 1 else []
        self._optimizer = AdamW(list(self.model.parameters()), config.weight_decay)
        self.epoch = 0
        self.curves: list[list[dict[str, Any]]] = [[] for _ in self.seeds]  # of each head, a row an epoch
        self.best_epochs = [0] * len(self.seeds)
        self.best_state: dict[str, torch.Tensor] = {}

    def train_epoch(self) -> None:
        """Visit every training image once, each head in its own order, and add a row to each head's curves."""
        self.epoch += 1
        rngs = [np.random.default_rng([seed, self.epoch]) for seed in self.seeds]
        learning_rate = cosine_rate(self.config, self.epoch)
        self.model.train()
        seen = np.full((len(self.seeds), len(self._train)), np.nan)
        losses: list[list[float]] = [[] for _ in self.seeds]
        for step in self._steps(rngs):
            if not (found := [loss for _, _, loss in step if loss is not None]):
                continue
            # One backward pass for all: no parameter is shared, so each head gets the gradient of its own loss.
            self._step(torch.stack(found).sum(), learning_rate)  # a head without a pair in this step has gradient 0
            for head, (images, scores, loss) in enumerate(step):
                if loss is not None:
                    seen[head, images] = scores.detach().cpu().numpy()
                    losses[head].append(float(loss.detach()))
        if not np.isfinite([loss for one in losses for loss in one]).all():
            raise self.diverged()
        for head, rows in enumerate(self.curves):
            visited = np.isfinite(seen[head])
            rows.append(
                {
                    "epoch": self.epoch,
                    "train_loss": float(np.mean(losses[head])) if losses[head] else float("nan"),
                    "val_loss": float("nan"),
                    "train_pairwise_accuracy": pairwise_accuracy(
                        seen[head, visited],
                        self._train.tier_rank[visited],
                        context=self._train.context[visited] if self._fair else None,
                    ),
                    "val_pairwise_accuracy": float("nan"),
                    "learning_rate": learning_rate,
                }
            )

    def validate(self, features: torch.Tensor, tier_rank: torch.Tensor, context: torch.Tensor) -> None:
        """Evaluate this epoch on features (M, D), tier_rank (M,) and context (M,); a head that improved keeps it.

        What counts are the pairs that training uses: all, or those within one context.
        """
        self.model.eval()
        with torch.inference_mode():
            by_head = self.model.score_heads(features)  # (n, M)
            if not torch.isfinite(by_head).all():
                raise self.diverged()
            for head, scores in enumerate(by_head):
                rng = np.random.default_rng(self.seeds[head])
                losses = [
                    loss.item()
                    for batch in map(torch.from_numpy, image_batches(len(tier_rank), _VAL_IMAGES_PER_STEP, rng))
                    if (loss := all_pairs_loss(scores[batch], tier_rank[batch], context[batch], self.config))
                    is not None
                ]
                row = self.curves[head][-1]
                row["val_loss"] = float(np.mean(losses)) if losses else float("nan")
                row["val_pairwise_accuracy"] = pairwise_accuracy(
                    scores.cpu().numpy(), tier_rank.cpu().numpy(), context=context.cpu().numpy() if self._fair else None
                )
        for head in range(len(self.seeds)):
            # After this epoch's training a head may have been past its patience before this epoch's validation.
            if self._waited(head) <= self.config.early_stopping_patience and self._improved(head):
                self.best_epochs[head] = self.epoch
                self.keep(head, self.best_state)

    def diverged(self) -> DataError:
        """Return the error for weights that ran away."""
        rate = self.config.learning_rate
        return DataError(
            f"the training diverged in epoch {self.epoch} (train.learning_rate is {rate:g})",
            "lower train.learning_rate",
        )

    def keep(self, head: int, kept: dict[str, torch.Tensor]) -> None:
        """Put a head's weights of this epoch into the state dict `kept`, which may be empty yet."""
        state = self.model.state_dict()
        if not self._stacked or not kept:
            kept.update(copy.deepcopy(state))
        for name in self._stacked:
            kept[name][head] = state[name][head]

    def patience_is_over(self) -> bool:
        """Say whether no head has improved for as long as its patience lasts."""
        return all(self._waited(head) >= self.config.early_stopping_patience for head in range(len(self.seeds)))

    def model_of(self, kept: dict[str, torch.Tensor]) -> PairwiseRankingModel:
        """Return the model of the weights that `keep` kept of each head, on the CPU, in evaluation mode."""
        self.model.load_state_dict(kept)
        set_streams(self.model, None)
        self.model.eval().fit_head_scales(self._features)
        return copy.deepcopy(self.model).cpu()

    def val_accuracy(self) -> float:
        """Return this epoch's validation accuracy, the mean over heads."""
        return _mean([rows[-1] for rows in self.curves], "val_pairwise_accuracy")

    def mean_curves(self) -> list[dict[str, Any]]:
        """Return a row an epoch, the means over heads."""
        if len(self.seeds) == 1:
            return self.curves[0]
        return [
            {name: rows[0][name] if name in ("epoch", "learning_rate") else _mean(rows, name) for name in rows[0]}
            for rows in zip(*self.curves, strict=True)
        ]

    def save(self, path: Path, data: str) -> None:
        """Write all that a resumption needs; `data` names the data trained on."""
        save_state(
            path,
            {
                "config": self.config.model_dump(mode="json"),
                "data": data,
                "epoch": self.epoch,
                "model_state_dict": self.model.state_dict(),
                "optimizer_state_dict": self._optimizer.state_dict(),
                "curves": self.curves,
                "best_epochs": self.best_epochs,
                "best_state_dict": self.best_state,
            },
        )

    def load(self, path: Path, data: str) -> None:
        """Go on from what `save` wrote.

        Raises:
            CheckpointError: the file cannot be read, or is of another training.
        """
        state = load_state(path)
        if not state.keys() >= _STATE:
            raise CheckpointError(f"{path} is no checkpoint of a training that can go on", "give an epoch_<n>.pt")
        seen, wanted = state["config"], self.config.model_dump(mode="json")
        # With several heads patience decides: a head that ran out of it keeps its best epoch while others go on.
        free = _FREE_TO_CHANGE - {"early_stopping_patience"} if self._stacked else _FREE_TO_CHANGE
        differing = [key for key in wanted if key not in free and seen.get(key) != wanted[key]]
        if differing:
            raise CheckpointError(
                f"{path} belongs to a training with other options ({', '.join(differing)})",
                "give the same options, or start again",
            )
        if state["data"] != data:
            raise CheckpointError(f"{path} belongs to a training on other images, features or tiers", "start again")
        self.model.load_state_dict(state["model_state_dict"])
        self._optimizer.load_state_dict(state["optimizer_state_dict"])
        self.epoch, self.curves, self.best_epochs = state["epoch"], state["curves"], state["best_epochs"]
        self.best_state = state["best_state_dict"]

    def _steps(
        self, rngs: Sequence[np.random.Generator]
    ) -> Iterator[list[tuple[Indices, torch.Tensor, torch.Tensor | None]]]:
        """Yield for each step what each head looks at: distinct images (M,), their scores (M,), and its loss."""
        generators = [torch.Generator(self.device).manual_seed(int(rng.integers(2**62))) for rng in rngs]
        for step in zip(*(self._batches(rng) for rng in rngs), strict=True):
            images = [own for own, _ in step]
            rows = [len(own) for own in images]
            set_streams(self.model, DropoutStreams(generators, rows))
            if not self._stacked:
                by_head = self.model.score_heads(self._features[self._tensor(images[0])])
            else:
                # Batches of heads differ in size: shorter ones are padded with image 0, whose scores are cut off.
                padded = np.stack([np.pad(own, (0, max(rows) - len(own))) for own in images])
                by_head = self.model.score_heads(self._features[self._tensor(padded)])  # (n, M, D) -> (n, M)
            scores = [row[: len(own)] for row, own in zip(by_head, images, strict=True)]
            yield [(own, score, loss(score)) for (own, loss), score in zip(step, scores, strict=True)]

    def _batches(self, rng: np.random.Generator) -> Iterator[tuple[Indices, Loss]]:
        """Yield one head's distinct images (M,) of each step of an epoch, and what makes their scores (M,) a loss."""
        if self.config.images_per_step is not None:
            for images in image_batches(len(self._train), self.config.images_per_step, rng):
                chosen = self._tensor(images)
                tier_rank, context = self._tier_rank[chosen], self._context[chosen]
                yield images, partial(all_pairs_loss, tier_rank=tier_rank, context=context, config=self.config)
            return
        for pairs, weights in pair_batches(self._train.tier_rank, self._train.context, self.config, rng):
            images, places = np.unique(pairs, return_inverse=True)
            at = self._tensor(places.reshape(pairs.shape))  # (2, P)
            weight = torch.from_numpy(weights).to(self.device, torch.float32)
            better, worse = self._tier_rank[self._tensor(pairs)]
            yield images, partial(weighted_pair_loss, places=at, gap=better - worse, weight=weight, config=self.config)

    def _tensor(self, indices: Indices) -> torch.Tensor:
        return torch.from_numpy(indices).to(self.device)

    def _step(self, loss: torch.Tensor, learning_rate: float) -> None:
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self._stacked:
            clip_each_head(list(self.model.parameters()), self.config.gradient_clip_norm)
        else:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_clip_norm)
        self._optimizer.step(learning_rate)

    def _waited(self, head: int) -> int:
        return self.epoch - self.best_epochs[head]

    def _improved(self, head: int) -> bool:
        rows, best = self.curves[head], self.best_epochs[head]
        return best == 0 or _rank(rows[-1]) > _rank(rows[best - 1])


def _seeded_model(
    feature_dim: int, config: TrainParams, seeds: Sequence[int], make_model: ModelFactory
) -> PairwiseRankingModel:
    """Build a model whose head k has the weights that a model of one head has under seed k."""
    alone = config.model_copy(update={"seeds": 1})
    models = []
    for seed in seeds:
        torch.manual_seed(seed)
        models.append(make_model(feature_dim, alone))
    if len(models) == 1:
        return models[0]
    stack = make_model(feature_dim, config)
    stack_parameters(stack, models)
    return stack


def _rank(row: dict[str, Any]) -> tuple[float, float]:
    """Order of epochs: by validation accuracy, then by the lower validation loss."""
    return row["val_pairwise_accuracy"], -row["val_loss"]


def _mean(rows: Sequence[dict[str, Any]], name: str) -> float:
    return float(np.mean([row[name] for row in rows]))
