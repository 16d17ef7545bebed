"""A trained model that takes image files or their bytes, and says of each its score or what is wrong with it.

The command line, the API and the page all stand on it: one decoding, transform, backbone, members and calibration.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

from mirip.data.decoding import MAX_PIXELS, decoded
from mirip.data.image_files import read_file
from mirip.errors import ImageError
from mirip.files import sha256_bytes, sha256_file
from mirip.metrics.calibration import win_probability
from mirip.metrics.places import Name, Pair, Places, pairs, percentile_interval, places
from mirip.metrics.unlikeness import FeatureSpread
from mirip.models.checkpoint import Checkpoint, short_keys
from mirip.models.percentiles import known_percentiles, score_summary
from mirip.models.ranking import PairwiseRankingModel
from mirip.params import EvaluateParams
from mirip.randomness import stream

BATCH_SIZE = 8
REMEMBERED = 4096
SMALL, TURNED, SEEN, UNLIKE = "small", "turned_upright", "seen_in_training", "unlike_training_images"
FLAGS = (SMALL, TURNED, SEEN, UNLIKE)
_VERSION_DIGITS = 12
_CHUNK = 8 * BATCH_SIZE  # images that are decoded before they are embedded
_ADVICE = {"too_large": "make it smaller"}  # that of the pipeline names its params
_SHARE_OF_A_TIER = 0.5  # a tier that is less likely than all others together is undecided


class ImageProblem(NamedTuple):
    """Why an image has no score: a kind of ImageError, what is wrong, and what to do about it."""

    kind: str
    problem: str
    advice: str

    def __str__(self) -> str:
        return f"{self.problem}: {self.advice}" if self.advice else self.problem


@dataclass(frozen=True)
class ImageScore:
    """What a model says of one image.

    Attributes:
        score: higher is better.
        percentile: 0 to 100, among the training images or those of one context.
        percentile_low, percentile_high: between which it lies in 9 of 10 draws of the model of P.
        tiers: probability of each tier by its name, best first; they sum to 1.
        tier: the likeliest tier; None, undecided, where all others together are likelier.
        flags: those of FLAGS that apply: smaller than what the backbone sees, stored sideways, one of the images that
            the model was trained on, farther from these than 99 in 100 of them are from each other.
    """

    score: float
    percentile: float
    percentile_low: float
    percentile_high: float
    tiers: dict[str, float]
    tier: str | None
    flags: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it as the command line and the API give it to programs."""
        return {
            "score": self.score,
            "percentile": self.percentile,
            "percentile_low": self.percentile_low,
            "percentile_high": self.percentile_high,
            "tier": self.tier,
            "tier_probabilities": self.tiers,
            "flags": list(self.flags),
        }


class Embedded(NamedTuple):
    """The features of an image: (D,) float32, and its flags."""

    features: NDArray[np.float32]
    flags: tuple[str, ...]


class Prepared(NamedTuple):
    """An image that is decoded and fitted: uint8 of shape (h, w, 3), and the flags that are known by then."""

    sha256: str
    pixels: NDArray[np.uint8]
    flags: tuple[str, ...]


class Scored(NamedTuple):
    """The score of an image, and its flags."""

    score: float
    flags: tuple[str, ...]


class TrainedRanker:
    """Scores images by a checkpoint.

    A lone image passes the backbone alone, more of them in batches of one fixed size, the last one padded: what came
    with an image has no say in its score. The features of recent images are remembered by their content.

    Args:
        model: loaded from a checkpoint.
        workers: threads that decode.
        max_pixels: a larger image is a problem.
        remembered: the most images whose features are kept; 0 keeps none.
        decode_limit_s: seconds after which a decoder in a process of its own is given up; None: 120.
        version: names the checkpoint's file.

    Attributes:
        version: first digits of the sha256 of the checkpoint's file; "" where there is no file.
    """

    def __init__(
        self,
        model: PairwiseRankingModel,
        *,
        workers: int = 2,
        max_pixels: int = MAX_PIXELS,
        remembered: int = REMEMBERED,
        decode_limit_s: float | None = None,
        version: str = "",
    ) -> None:
        self.model, self.checkpoint, self.version = model, model.checkpoint, version
        self._workers, self._max_pixels, self._most = workers, max_pixels, remembered
        self._decode_limit_s = decode_limit_s
        self._remembered: OrderedDict[str, Embedded] = OrderedDict()
        self._seen = set(self.checkpoint.seen_images.tolist())
        self._spread, self._unlike_above = _spread_of(self.checkpoint)

    @classmethod
    def from_checkpoint(
        cls,
        path: Path | str,
        *,
        device: str = "auto",
        backbone: str | None = None,
        workers: int = 2,
        max_pixels: int = MAX_PIXELS,
        remembered: int = REMEMBERED,
        decode_limit_s: float | None = None,
    ) -> Self:
        """Load a trained model; its backbone is found when first used.

        Args:
            path: the checkpoint's file.
            device: auto, cpu or cuda.
            backbone: folder or hub id of the backbone; None takes the one that the checkpoint names.
            workers: threads that decode.
            max_pixels: a larger image is a problem.
            remembered: the most images whose features are kept.
            decode_limit_s: seconds after which a decoder in a process of its own is given up; None: 120.

        Raises:
            CheckpointError: the file is missing, damaged, or its weights do not fit its config.
        """
        model = PairwiseRankingModel.from_checkpoint(path, device=device, backbone=backbone)
        return cls(
            model,
            workers=workers,
            max_pixels=max_pixels,
            remembered=remembered,
            decode_limit_s=decode_limit_s,
            version=sha256_file(path)[:_VERSION_DIGITS],
        )

    def load(self) -> None:
        """Load the backbone and check that it is the one that the model was trained on.

        Raises:
            BackboneError: the backbone cannot be found or loaded.
            CheckpointError: it is another one.
        """
        self.model.check_backbone()
        self.model.extractor.load()

    def score(
        self, images: Iterable[Path | bytes], *, context: str | None = None
    ) -> Iterator[ImageScore | ImageProblem]:
        """Score images, one result each, in their order, as they are done.

        Args:
            images: files, or their bytes.
            context: give percentiles within this context of the training split; None or "": within all.

        Raises:
            BackboneError: the backbone cannot be found or loaded.
            CheckpointError: it is another one, or the training split had too few images of that context; the latter
                before an image is decoded.
        """
        self.check_context(context)
        rest = iter(images)
        with ThreadPoolExecutor(self._workers) as pool:
            while chunk := list(islice(rest, _CHUNK)):
                for found in self.scored(list(pool.map(self.prepare, chunk))):
                    yield found if isinstance(found, ImageProblem) else self.result(found, context)

    def check_context(self, context: str | None) -> None:
        """Raise CheckpointError where the training split had too few images of a context; None and "" are none."""
        known_percentiles(self.checkpoint, context)

    def prepare(self, image: Path | bytes) -> Prepared | Embedded | ImageProblem:
        """Decode an image and fit it, unless its features are remembered. Safe in threads."""
        try:
            data = image if isinstance(image, bytes) else read_file(image)
            sha256 = sha256_bytes(data)
            if (known := self._remembered.get(sha256)) is not None:
                return known
            transform = self.model.extractor.transform
            with decoded(data, max_pixels=self._max_pixels, limit_s=self._decode_limit_s) as found:
                applies = {
                    SMALL: max(found.pixels.shape[:2]) < transform.size_px,
                    TURNED: "sideways_exif" in found.conversions,
                    SEEN: int(short_keys([sha256])[0]) in self._seen,
                }
                fitted = transform.fitted(found.pixels)
                return Prepared(sha256, fitted, tuple(flag for flag, does in applies.items() if does))
        except ImageError as error:
            return ImageProblem(error.kind, error.problem, _ADVICE.get(error.kind, error.advice))

    def scored(self, prepared: Sequence[Prepared | Embedded | ImageProblem]) -> list[Scored | ImageProblem]:
        """Embed what is prepared and score it, in its order. One thread at a time.

        Raises:
            BackboneError: the backbone cannot be found or loaded.
            CheckpointError: it is another one than the model was trained on.
        """
        fresh = {item.sha256: item for item in prepared if isinstance(item, Prepared)}
        computed = self._embed(list(fresh.values()))
        found = [computed[item.sha256] if isinstance(item, Prepared) else item for item in prepared]
        distinct = {id(item): item for item in found if isinstance(item, Embedded)}  # of copies, one score
        scores = dict(zip(distinct, self._scores([item.features for item in distinct.values()]), strict=True))
        return [Scored(scores[id(item)], item.flags) if isinstance(item, Embedded) else item for item in found]

    def result(self, scored: Scored, context: str | None = None) -> ImageScore:
        """Say what a score means; raises CheckpointError where the model knows too few images of that context."""
        found = score_summary(self.checkpoint, scored.score, context)
        likeliest = found.likeliest_tier
        tier = likeliest if found.tiers[likeliest] >= _SHARE_OF_A_TIER else None
        known = known_percentiles(self.checkpoint, context)
        low, high = percentile_interval([scored.score], known, self.checkpoint.temperature)
        lowest, highest = min(float(low[0]), found.percentile), max(float(high[0]), found.percentile)
        return ImageScore(scored.score, found.percentile, lowest, highest, found.tiers, tier, scored.flags)

    def places(
        self, scores: Sequence[float], *, min_confidence: float = EvaluateParams().min_confidence, seed: int = 0
    ) -> Places:
        """Order scored images; see mirip.metrics.places."""
        rng = stream(seed, "places")
        return places(scores, self.checkpoint.temperature, min_confidence, rng=rng)

    def pairs(
        self, scored: Sequence[tuple[Name, float]], *, min_confidence: float = EvaluateParams().min_confidence
    ) -> list[Pair[Name]]:
        """Say of each two scored images, named as you like, which is better; see mirip.metrics.places."""
        return pairs(scored, self.checkpoint.temperature, min_confidence)

    def win_probability(self, score_a: float, score_b: float) -> float:
        """Return P(a beats b), from two scores."""
        return float(win_probability(score_a - score_b, self.checkpoint.temperature))

    def _embed(self, items: Sequence[Prepared]) -> dict[str, Embedded]:
        """Embed distinct images in batches of one shape and one fixed size."""
        by_shape: dict[tuple[int, ...], list[Prepared]] = {}
        for item in items:
            by_shape.setdefault(item.pixels.shape, []).append(item)
        found: dict[str, Embedded] = {}
        for shape, alike in by_shape.items():
            size = 1 if len(alike) == 1 else BATCH_SIZE
            for start in range(0, len(alike), size):
                batch = alike[start : start + size]
                pixels = np.zeros((size, *shape), np.uint8)
                for row, item in zip(pixels, batch, strict=False):
                    row[:] = item.pixels
                images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()  # (B, h, w, 3) -> (B, 3, h, w)
                rows = self.model.embed(images)[: len(batch)].cpu().numpy()
                unlike = self._is_unlike(rows)
                for item, features, is_unlike in zip(batch, rows, unlike, strict=True):
                    flags = (*item.flags, UNLIKE) if is_unlike else item.flags
                    found[item.sha256] = self._remember(item.sha256, Embedded(features, flags))
        return found

    def _remember(self, sha256: str, embedded: Embedded) -> Embedded:
        self._remembered[sha256] = embedded
        while len(self._remembered) > self._most:
            self._remembered.popitem(last=False)
        return embedded

    def _is_unlike(self, features: NDArray[np.float32]) -> NDArray[np.bool_]:
        if self._spread is None:
            return np.zeros(len(features), dtype=bool)
        return np.asarray(self._spread.distance(features) > self._unlike_above)

    @torch.inference_mode()
    def _scores(self, features: Sequence[NDArray[np.float32]]) -> list[float]:
        if not features:
            return []
        rows = torch.from_numpy(np.stack(features)).to(self.model.projector.feature_mean.device)
        return [float(score) for score in self.model.score(rows)]


def _spread_of(checkpoint: Checkpoint) -> tuple[FeatureSpread | None, float]:
    if checkpoint.spread is None:
        return None, float("inf")
    arrays = {name: checkpoint.spread[name].numpy() for name in FeatureSpread._fields}
    return FeatureSpread(**arrays), float(checkpoint.spread["unlike_above"])
