"""The product's model: two images in, two scores out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self, cast

import torch
from torch import nn

from mirip.data.decoding import read_pixels
from mirip.errors import CheckpointError
from mirip.features.backbones.backbone import DINOv2FeatureExtractor, resolve_device
from mirip.features.backbones.recipe import declared_recipe
from mirip.metrics.calibration import win_probability
from mirip.models.checkpoint import Checkpoint, load_checkpoint
from mirip.models.layers import LinearMember, Projector, ScoreHead
from mirip.models.linear import LinearRanker
from mirip.params import LinearMethod, TrainParams

_ROWS_AT_ONCE = 4096


class Comparison(NamedTuple):
    """Scores of two images, higher is better, and the probability that the first is the better one."""

    score_a: float
    score_b: float
    probability: float


class PairwiseRankingModel(nn.Module):
    """Frozen backbone, projector and score head: (img1, img2) -> (score1, score2), higher is better.

    The backbone is no part of the state dict: `load_state_dict(checkpoint["model_state_dict"])` is strict and
    small, and the backbone is loaded when first used. It takes on the members of the state dict that it loads; the
    sizes of the layers have to be those of its config.

    The members are n heads (projector and score head, each of its own seed), and linear ones on the standardised
    features, where the config names them. The score is the weighted mean of the members' scores.

    Args:
        extractor: the backbone; None takes facebook/dinov2-large at 768.
        feature_dim: D, the width of its features.
        config: sizes of the head, dropout, and the members; None takes the defaults: one head.

    Attributes:
        head_location: (n,) buffer, the mean of each head's scores on the training split; with several members only.
        head_spread: (n,) buffer, their standard deviation there. Checkpoints hold both buffers by these names.
        member_weight: (m,) buffer, the weight of each head, then of each linear member; they sum to 1. Without linear
            members there is no such buffer, and the heads weigh alike.
    """

    head_location: torch.Tensor
    head_spread: torch.Tensor
    member_weight: torch.Tensor

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
        # A plain attribute, not a submodule: the frozen backbone stays out of parameters() and state_dict().
        object.__setattr__(self, "extractor", extractor or DINOv2FeatureExtractor())
        self._config = config or TrainParams()
        self._feature_dim = feature_dim
        self._build(self._config.seeds, self._config.linear_members)

    extractor: DINOv2FeatureExtractor
    n_heads: int

    def _build(self, n_heads: int, linear: Sequence[str]) -> None:
        """Make the layers and buffers of n heads and of the linear members of these names."""
        sizes = self._config.head
        self.n_heads = n_heads
        self.projector = Projector(
            self._feature_dim, sizes.hidden_dim, sizes.embedding_dim, self._config.dropout, n_heads
        )
        self.score_head = ScoreHead(sizes.embedding_dim, sizes.score_hidden_dim, n_heads)
        self.linear_members = nn.ModuleDict({name: LinearMember(self._feature_dim) for name in linear})
        of_heads = (torch.zeros(n_heads), torch.ones(n_heads)) if n_heads > 1 or linear else (None, None)
        self.register_buffer("head_location", of_heads[0])
        self.register_buffer("head_spread", of_heads[1])
        self.register_buffer("member_weight", torch.zeros(n_heads + len(linear)) if linear else None)
        if linear:
            self.weigh_members([1 / (1 + len(linear))] * (1 + len(linear)))

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load weights and buffers, and take on their number of heads and their linear members.

        Where these differ, all parameters are new ones: make an optimizer afterwards.

        Raises:
            RuntimeError: a layer has another size, or a name is missing or unknown.
        """
        weight = state_dict.get("projector.layers.0.weight")
        n_heads = len(weight) if weight is not None and weight.ndim == 3 else 1
        linear = [name.split(".")[1] for name in state_dict if name.startswith("linear_members.") and ".weight" in name]
        if weight is not None and (n_heads, linear) != (self.n_heads, list(self.linear_members)):
            was, training = self.projector.feature_mean, self.training
            self._build(n_heads, linear)
            self.to(was.device, was.dtype).train(training)
        return super().load_state_dict(state_dict, strict=strict, assign=assign)

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
        """Score features (B, D) float32 of the backbone as (B,) float32: the weighted mean of the members' scores."""
        return self.weighted(self.score_members(features))

    def weighted(self, members: torch.Tensor) -> torch.Tensor:
        """Return the weighted mean (B,) of the members' scores (m, B)."""
        return members.mean(dim=0) if self.member_weight is None else self.member_weight @ members

    def score_members(self, features: torch.Tensor) -> torch.Tensor:
        """Score features (B, D) float32 by each of the m members, (m, B) float32: the heads, then the linear ones.

        A ranking leaves a member's offset and scale free, so the member with the largest scale would decide a mean of
        raw scores. Each is therefore scaled to mean 0 and deviation 1 on the training split. One head alone is not.
        """
        heads = self.score_heads(features)
        if not len(self.linear_members):
            return heads
        standardised = self.projector.standardised(features)
        return torch.cat([heads, torch.stack([member(standardised) for member in self.linear_members.values()])])

    def score_heads(self, features: torch.Tensor) -> torch.Tensor:
        """Score features (B, D) float32 by each of the n heads, (n, B) float32.

        With several heads `features` may also be (n, B, D), rows of its own for each.
        """
        raw: torch.Tensor = self.score_head(self.projector(features)).squeeze(-1)  # (n, B, 1) -> (n, B), or (B,)
        raw = raw if self.n_heads > 1 else raw[None]
        if self.head_location is None:
            return raw
        return (raw - self.head_location[:, None]) / self.head_spread[:, None]

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the kinds of members: head, then each linear member."""
        return ("head", *self.linear_members)

    def by_kind(self, members: torch.Tensor) -> torch.Tensor:
        """Return the scores (m, B) of the members by kind, (1 + L, B): the mean of the heads, then the linear ones."""
        return torch.cat([members[: self.n_heads].mean(dim=0, keepdim=True), members[self.n_heads :]])

    @property
    def kind_weights(self) -> list[float]:
        """The weight of each kind of members; they sum to 1."""
        if self.member_weight is None:
            return [1.0]
        weights: list[float] = self.member_weight.double().tolist()
        return [sum(weights[: self.n_heads]), *weights[self.n_heads :]]

    @torch.no_grad()
    def fit_head_scales(self, features: torch.Tensor) -> None:
        """Take location and spread of each head's scores from the training split's `features` (N, D).

        Labels have no part in it. A head with one score for all keeps spread 1. One head alone is left as it is.
        """
        if self.head_location is None:
            return
        self.head_location.zero_()
        self.head_spread.fill_(1)
        scores = torch.cat([self.score_heads(part) for part in torch.split(features, _ROWS_AT_ONCE)], dim=1)
        location, spread = _location_and_spread(scores)
        self.head_location.copy_(location)
        self.head_spread.copy_(spread)

    @torch.no_grad()
    def set_linear_members(self, rankers: Mapping[LinearMethod, LinearRanker], features: torch.Tensor) -> None:
        """Take on fitted linear rankers, each scaled to mean 0 and deviation 1 on the training split's `features`."""
        for name, ranker in rankers.items():
            member = cast(LinearMember, self.linear_members[name])
            member.weight.copy_(torch.from_numpy(ranker.weights * ranker.scale) * self.projector.feature_std)
            member.bias.zero_()
            parts = torch.split(features, _ROWS_AT_ONCE)
            location, spread = _location_and_spread(
                torch.cat([member(self.projector.standardised(part)) for part in parts])[None]
            )
            member.weight.div_(spread[0])
            member.bias.copy_(-location[0] / spread[0])

    @torch.no_grad()
    def weigh_members(self, by_kind: Sequence[float]) -> None:
        """Set the weight of each kind (1 + L,), numbers >= 0 that sum to 1; the heads share theirs equally."""
        if self.member_weight is not None:
            heads = [by_kind[0] / self.n_heads] * self.n_heads
            self.member_weight.copy_(torch.tensor([*heads, *by_kind[1:]]))

    def forward(self, img1: torch.Tensor, img2: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Score two batches of images, each (B, 3, H, W), as (B, 1) float32 each.

        They are float32 as `extractor.transform` makes them, or uint8 as its `fitted` does.
        """
        if img1.shape[2:] == img2.shape[2:]:
            features = self.embed(torch.cat([img1, img2]))  # (2B, 3, H, W) -> (2B, D)
        else:
            features = torch.cat([self.embed(img1), self.embed(img2)])
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
            features = self.embed(fitted.permute(2, 0, 1)[None])  # (h, w, 3) -> (1, 3, h, w)
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

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Embed images (B, 3, H, W) as the cache would hold them: (B, D) float32 with its rounding.

        They are float32 as `extractor.transform` makes them, or uint8 as its `fitted` does.

        Raises:
            BackboneError: the backbone cannot be found or loaded.
            CheckpointError: the backbone found is not the one that the model was trained on.
        """
        self.check_backbone()
        features: torch.Tensor = self.extractor(images)
        stored = torch.float16 if self.extractor.recipe.stored_dtype == "float16" else torch.float32
        return features.to(self.projector.feature_mean.device, stored).float()


def _location_and_spread(scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and deviation (n,) of the scores (n, B); the deviation of equal scores is given as 1."""
    spread, location = torch.std_mean(scores, dim=1, correction=0)
    return location, torch.where(spread > 1e-6 * (1 + location.abs()), spread, torch.ones_like(spread))
