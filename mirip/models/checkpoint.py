"""What a trained model is on disk: the head, and all that its scores depend on."""

import io
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mirip.errors import CheckpointError
from mirip.files import write_bytes
from mirip.params import TrainParams


@dataclass(frozen=True)
class Checkpoint:
    """A trained head with its provenance and calibration.

    Attributes:
        model_state_dict: weights and buffers of PairwiseRankingModel, without the backbone.
        config: the training options, as TrainParams dumps them.
        best_epoch: how many epochs it was trained, chosen by the validation split; of an ensemble the median.
        tiers: names of the tiers, best first.
        recipe: the resolved recipe of the features it was trained on.
        fingerprint: that recipe's fingerprint; the model takes no other features.
        split_digest: digest of the split; its test split was not seen in training.
        temperature: P(a beats b) = sigmoid((score_a - score_b) / temperature).
        ordinal_slope: slope of the cumulative logit model of the tier given the score.
        ordinal_thresholds: its K - 1 increasing thresholds.
        score_percentiles: 101 quantiles of the out-of-fold scores of the training split.
        context_percentiles: the same of the images of one context, for each that has at least 30 of them.
        seen_images: (N,) int64, short hashes of the images of the training and validation splits;
            empty above 100,000.
        spread: where the features of the training split lie and from which distance on an image is unlike them; None
            where the training split was too small to say, or in a checkpoint of an earlier version.
    """

    model_state_dict: dict[str, torch.Tensor]
    config: dict[str, Any]
    best_epoch: int
    tiers: list[str]
    recipe: dict[str, Any]
    fingerprint: str
    split_digest: str
    temperature: float
    ordinal_slope: float
    ordinal_thresholds: list[float]
    score_percentiles: list[float]
    context_percentiles: dict[str, list[float]]
    seen_images: torch.Tensor
    spread: dict[str, torch.Tensor] | None = None

    @property
    def feature_dim(self) -> int:
        """D, the width of the features that the model takes; raises KeyError where the weights are of another model."""
        return len(self.model_state_dict["projector.feature_mean"])

    @property
    def train_params(self) -> TrainParams:
        """The training options; raises ValueError (of pydantic) where this version does not know them."""
        return TrainParams.model_validate(
            {key: value for key, value in self.config.items() if key in TrainParams.model_fields}
        )


def short_keys(sha256s: Sequence[str]) -> NDArray[np.int64]:
    """Return the first 8 bytes of each hash as int64 (N,): enough to recognise an image by."""
    return np.array([int.from_bytes(bytes.fromhex(sha256[:16]), signed=True) for sha256 in sha256s], dtype=np.int64)


def save_checkpoint(path: Path | str, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically; equal checkpoints give equal bytes, whatever the file's name."""
    write_bytes(path, _to_bytes(vars(checkpoint)))


def load_checkpoint(path: Path | str) -> Checkpoint:
    """Read a checkpoint without running any code in it.

    Raises:
        CheckpointError: the file is missing, damaged, or lacks a field.
    """
    values = load_state(path)
    missing = [field.name for field in fields(Checkpoint) if field.name not in values and field.default is MISSING]
    if missing:
        raise CheckpointError(f"{path} is not a checkpoint of Mirip: it lacks {', '.join(missing)}", "train again")
    return Checkpoint(**{field.name: values[field.name] for field in fields(Checkpoint) if field.name in values})


def save_state(path: Path | str, state: dict[str, Any]) -> None:
    """Write a state of tensors and plain values atomically."""
    write_bytes(path, _to_bytes(state))


def load_state(path: Path | str) -> dict[str, Any]:
    """Read what `save_state` wrote, on the CPU.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    if Path(path).exists() and not Path(path).is_file():
        raise CheckpointError(f"{path} is a folder or a device, not a file", "give the path of a checkpoint")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(
            f"{path} is not found", "run `dvc repro train`, or give the path of a checkpoint"
        ) from None
    except Exception:  # damaged bytes make torch's unpickler raise nearly anything, with advice not to be followed
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint, it is damaged or none",
            "restore it (of the pipeline: `dvc checkout`) or train again",
        ) from None
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} holds a {type(state).__name__}, not a checkpoint", "train again")
    return state


def _to_bytes(state: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()  # torch.save to a path would write the file's name into the bytes
    torch.save(state, buffer)
    return buffer.getvalue()
