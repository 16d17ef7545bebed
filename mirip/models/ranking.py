"""The product's model: two images in, two scores out."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

import torch
from torch import nn

from mirip.data.decoding import read_pixels
from mirip.errors import CheckpointError
from mirip.features.backbones.backbone import DINOv2FeatureExtractor, resolve_device
from mirip.features.backbones.recipe import declared_recipe
from mirip.metrics.calibration import win_probability
from mirip.models.checkpoint import Checkpoint, load_checkpoint
from mirip.models.layers import Projector, ScoreHead
from mirip.params import TrainParams

_ROWS_AT_ONCE = 4096


class Comparison(NamedTuple):
    """Scores of two images, higher is better, and the probability that the first is the better one."""

    score_a: float
    score_b: float
    probability: float


class PairwiseRankingModel(nn.Module):
    """Frozen backbone, projector and score head: (img1, img2) -> (score1, score2), higher is better.

    The backbone is no part of the state dict: `load_state_dict(checkpoint["model_state_dict"])` is strict and
    small, and the backbone is loaded when first used.

    Args:
        extractor: the backbone; None takes facebook/dinov2-large at 768.
        feature_dim: D, the width of its features.
        config: sizes of the head, dropout, and `seeds`, the number of members; None takes the defaults.

    Attributes:
        head_location: (n,) buffer, the mean of each member's scores on the training split; only with n > 1 members.
        head_spread: (n,) buffer, their standard deviation there. Checkpoints hold both buffers by these names.
    """

    head_location: torch.Tensor
    head_spread: torch.Tensor

    _checkpoint: Checkpoint | None = None
    _backbone_is_checked = False

    def __init__(
        self,
        extractor: DINOv2FeatureExtractor | None = None,
        *,
        feature_dim: int = 1024,
        config: TrainParams | None = None,
    ) -> None:
        super().__init__()
        config = config or TrainParams()
        head = config.head
        # A plain attribute, not a submodule: the frozen backbone stays out of parameters() and state_dict().
        object.__setattr__(self, "extractor", extractor or DINOv2FeatureExtractor())
        self.n_members = n_members = config.seeds
        self.projector = Projector(feature_dim, head.hidden_dim, head.embedding_dim, config.dropout, n_members)
        self.score_head = ScoreHead(head.embedding_dim, head.score_hidden_dim, n_members)
        if n_members > 1:
            self.register_buffer("head_location", torch.zeros(n_members))
            self.register_buffer("head_spread", torch.ones(n_members))

    extractor: DINOv2FeatureExtractor

    @classmethod
    def from_checkpoint(
        cls, source: Path | str | Checkpoint, *, device: str = "auto", backbone: str | None = None
    ) -> Self:
        """Load a trained model; its backbone is found when first used.

        Args:
            source: the checkpoint's file, or the checkpoint itself where it is in memory.
            device: auto, cpu or cuda.
            backbone: folder or hub id of the backbone; None takes the one that the checkpoint names. Its weights
                have to be those that the model was trained on.

        Raises:
            CheckpointError: the file is missing, damaged, or its weights do not fit its config.
        """
        checkpoint = source if isinstance(source, Checkpoint) else load_checkpoint(source)
        named = "the checkpoint" if isinstance(source, Checkpoint) else str(source)
        try:
            config = checkpoint.train_params
            recipe = declared_recipe(checkpoint.recipe)
            if backbone is not None:
                recipe = recipe.model_copy(update={"backbone": backbone, "revision": None})
            extractor = DINOv2FeatureExtractor.from_recipe(recipe, device)
            model = cls(extractor, feature_dim=checkpoint.feature_dim, config=config)
            model.load_state_dict(checkpoint.model_state_dict)
        except (KeyError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(f"{named} does not fit this version of Mirip ({reason})", "train again") from None
        model._checkpoint = checkpoint
        return model.to(resolve_device(device)).eval()

    @property
    def checkpoint(self) -> Checkpoint:
        """What the model was loaded from.

        Raises:
            CheckpointError: it was not loaded from a checkpoint, so nothing is known of its calibration and training.
        """
        if self._checkpoint is None:
            raise CheckpointError(
                "this model was not loaded from a checkpoint", "use PairwiseRankingModel.from_checkpoint"
            )
        return self._checkpoint

    def score(self, features: torch.Tensor) -> torch.Tensor:
        """Score features (B, D) float32 of the backbone as (B,) float32; an ensemble scores by its members' mean."""
        if self.n_members > 1:
            return self.score_members(features).mean(dim=0)
        scores: torch.Tensor = self.score_head(self.projector(features)).squeeze(-1)  # (B, D) -> (B, 1) -> (B,)
        return scores

    def score_members(self, features: torch.Tensor) -> torch.Tensor:
        """Score features (B, D) float32 by each of the n members, (n, B) float32; their mean is the score.

        With several members `features` may also be (n, B, D), rows of its own for each member. A pairwise loss leaves
        a member's offset and scale free, so the member with the largest scale would decide a mean of raw scores. Each
        is therefore scaled to mean 0 and deviation 1 on the training split (`fit_member_scales`).
        """
        if self.n_members == 1:
            return self.score(features)[None]
        raw: torch.Tensor = self.score_head(self.projector(features)).squeeze(-1)  # (B, D) -> (n, B, 1) -> (n, B)
        return (raw - self.head_location[:, None]) / self.head_spread[:, None]

    @torch.no_grad()
    def fit_member_scales(self, features: torch.Tensor) -> None:
        """Take location and spread of each member's scores from the training split's `features` (N, D).

        Labels have no part in it. A member with one score for all keeps spread 1. One member alone is left as it is.
        """
        if self.n_members == 1:
            return
        self.head_location.zero_()
        self.head_spread.fill_(1)
        scores = torch.cat([self.score_members(part) for part in torch.split(features, _ROWS_AT_ONCE)], dim=1)
        spread, location = torch.std_mean(scores, dim=1, correction=0)
        self.head_location.copy_(location)
        self.head_spread.copy_(torch.where(spread > 1e-6 * (1 + location.abs()), spread, torch.ones_like(spread)))

    def forward(self, img1: torch.Tensor, img2: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Score two batches of images, each (B, 3, H, W), as (B, 1) float32 each.

        They are float32 as `extractor.transform` makes them, or uint8 as its `fitted` does.
        """
        if img1.shape[2:] == img2.shape[2:]:
            features = self._features(torch.cat([img1, img2]))  # (2B, 3, H, W) -> (2B, D)
        else:
            features = torch.cat([self._features(img1), self._features(img2)])
        scores = self.score(features)[:, None]
        return scores[: len(img1)], scores[len(img1) :]

    @torch.inference_mode()
    def score_images(self, paths: Sequence[Path | str]) -> list[float]:
        """Score image files, one number each, higher is better.

        Raises:
            ImageError: a file is missing or no image.
            BackboneError: the backbone cannot be found or loaded.
            CheckpointError: the backbone found is not the one that the model was trained on.
        """
        scores: list[float] = []
        for path in paths:  # one at a time: a score must not depend on the other images
            fitted = torch.from_numpy(self.extractor.transform.fitted(read_pixels(path)))
            features = self._features(fitted.permute(2, 0, 1)[None])  # (h, w, 3) -> (1, 3, h, w)
            scores.append(float(self.score(features)))
        return scores

    def compare(self, a: Path | str, b: Path | str) -> Comparison:
        """Compare two image files; see `score_images` for what is raised."""
        score_a, score_b = self.score_images([a, b])
        temperature = self._checkpoint.temperature if self._checkpoint else 1.0
        return Comparison(score_a, score_b, float(win_probability(score_a - score_b, temperature)))

    def check_backbone(self) -> None:
        """Raise CheckpointError where the backbone found is not the one that the model was trained on."""
        if self._checkpoint is None or self._backbone_is_checked:
            return
        found, trained = self.extractor.resolved.fingerprint, self._checkpoint.fingerprint
        if found != trained:
            raise CheckpointError(
                f"the backbone {self.extractor.resolved.backbone} has fingerprint {found[:12]}, the model was "
                f"trained on {trained[:12]}",
                "restore that backbone or train again",
            )
        self._backbone_is_checked = True

    def _features(self, images: torch.Tensor) -> torch.Tensor:
        """Embed images as the cache would hold them, with the same rounding: what is served is what was trained on."""
        self.check_backbone()
        features: torch.Tensor = self.extractor(images)
        stored = torch.float16 if self.extractor.recipe.stored_dtype == "float16" else torch.float32
        return features.to(self.projector.feature_mean.device, stored).float()
