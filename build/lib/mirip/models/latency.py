"""How long the architecture takes: medians over repeated runs, device synchronised, after warm-up."""

import io
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mirip.data.decoding import decode_image
from mirip.models.ranking import PairwiseRankingModel
from mirip.models.ranking_data import RankingData
from mirip.models.trainer import Trainer
from mirip.params import TrainParams

_WARM_UP_RUNS = 2


def time_calls(call: Callable[[], object], runs: int, device: torch.device) -> NDArray[np.float64]:
    """Return the duration in milliseconds of each of `runs` calls, (runs,) float64."""
    durations = []
    for index in range(runs + _WARM_UP_RUNS):
        _synchronise(device)
        start = time.perf_counter()
        call()
        _synchronise(device)
        if index >= _WARM_UP_RUNS:
            durations.append(1000 * (time.perf_counter() - start))
    return np.array(durations)


def made_photo(seed: int, width: int = 3000, height: int = 2000) -> bytes:
    """Make a JPEG of 6 megapixels with the frequencies of a photograph: noise whose amplitude falls with scale."""
    rng = np.random.default_rng(seed)
    picture = np.full((height, width, 3), 128.0)
    for cells in (4, 16, 64, 256):
        noise = rng.normal(128, 128 / cells**0.5, size=(cells, cells, 3))
        layer = Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8))
        picture += np.asarray(layer.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64) - 128
    buffer = io.BytesIO()
    Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@torch.inference_mode()
def pair_latencies(model: PairwiseRankingModel, runs: int) -> dict[str, NDArray[np.float64]]:
    """Time two pictures of 6 megapixels to two scores, in milliseconds, (runs,) each.

    Returns:
        "pixels": from decoded uint8 pixels; "file": from the JPEG's bytes; "cached": from their features.
    """
    extractor, device = model.extractor, model.projector.feature_mean.device
    files = [made_photo(seed) for seed in (0, 1)]
    pixels = [decode_image(data).pixels for data in files]

    def fitted(picture: NDArray[np.uint8]) -> torch.Tensor:
        return torch.from_numpy(extractor.transform.fitted(picture)).permute(2, 0, 1)[None]

    def from_pixels(pictures: list[NDArray[np.uint8]]) -> list[float]:
        first, second = map(fitted, pictures)
        return torch.cat(model(first, second)).flatten().tolist()

    features = extractor(torch.cat([fitted(picture) for picture in pixels])).to(device)
    return {
        "pixels": time_calls(lambda: from_pixels(pixels), runs, device),
        "file": time_calls(lambda: from_pixels([decode_image(data).pixels for data in files]), runs, device),
        "cached": cached_pair_latencies(model, features, runs),
    }


@torch.inference_mode()
def cached_pair_latencies(model: PairwiseRankingModel, features: torch.Tensor, runs: int) -> NDArray[np.float64]:
    """Time the features of two pictures, (2, D), to two scores, in milliseconds, (10 * runs,)."""
    return time_calls(lambda: model.score(features).tolist(), 10 * runs, features.device)


@torch.inference_mode()
def throughput(model: PairwiseRankingModel, batch_size: int, runs: int) -> tuple[float, float | None]:
    """Time batches of fitted pictures.

    Returns:
        images per second (median), and the peak of GPU memory in GiB; None off GPU, where it says nothing.
    """
    extractor = model.extractor
    side = extractor.resolved.size_px
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch_size, 3, side, side), dtype=torch.uint8, generator=generator)
    if extractor.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    head_device = model.projector.feature_mean.device
    durations_ms = time_calls(lambda: model.score(extractor(images).to(head_device)), runs, extractor.device)
    peak = torch.cuda.max_memory_allocated() / 2**30 if extractor.device.type == "cuda" else None
    return batch_size / (float(np.median(durations_ms)) / 1000), peak


def training_seconds(config: TrainParams, rows: int, dim: int, epochs: int) -> float:
    """Time full epochs of the pipeline's training on made-up features, early stopping off."""
    rng = np.random.default_rng(0)
    tier_rank = rng.choice(4, size=rows, p=(0.25, 0.4, 0.25, 0.1))
    features = rng.normal(size=(rows, dim)).astype(np.float32) + 0.05 * tier_rank[:, None].astype(np.float32)
    data = RankingData(features, tier_rank, np.zeros(rows, dtype=np.int64))
    n_val = max(rows // 8, 2)
    val = RankingData(features[:n_val], tier_rank[:n_val], data.context[:n_val])
    full = config.model_copy(update={"max_epochs": epochs, "early_stopping_patience": epochs})
    start = time.perf_counter()
    Trainer(full).fit(data, val)
    return time.perf_counter() - start


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
