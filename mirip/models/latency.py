"""The stage benchmark: how long the architecture takes, over repeated runs after a warm-up, device synchronised."""

import io
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mirip.data.decoding import decode_image
from mirip.features.backbones.backbone import DINOv2FeatureExtractor, hardware
from mirip.files import write_json
from mirip.models.ranking import PairwiseRankingModel
from mirip.models.ranking_data import RankingData
from mirip.models.trainer import Trainer
from mirip.params import Params, TrainParams
from mirip.workspace import Workspace

_WARM_UP_RUNS = 2
# The performance requirements; the first two are of a GPU.
_MAX_PAIR_LATENCY_MS = 100.0
_MAX_MEMORY_GIB = 12.0
_MAX_TRAIN_SECONDS = 6 * 3600.0
_MIN_RUNS_FOR_P99 = 100
_DIM_OF_IMPORTED = 1024  # the features that would tell it are no dependency of the stage


@dataclass(frozen=True)
class Benchmark:
    """What the stage benchmark measured: the scalars of metrics/benchmark.json."""

    metrics: Mapping[str, Any]

    def summary(self) -> str:
        """Say the result in one line."""
        m = self.metrics
        if m["images_per_second"] is None:
            timed = f"pair {m['pair_latency_cached_ms_p50']:.2f} ms from imported features"
        else:
            timed = f"pair {m['pair_latency_ms_p50']:.1f} ms from pixels, {m['images_per_second']:.1f} images/s"
        return f"{timed}, on {m['hardware']}"


def benchmark(workspace: Workspace, params: Params) -> Benchmark:
    """Time the architecture of the active recipe with seeded head weights, and write metrics/benchmark.json.

    Raises:
        BackboneError: the backbone cannot be found or loaded.
    """
    metrics = _measure(params)
    write_json(workspace.metrics("benchmark"), metrics)
    return Benchmark(metrics)


def requirement_verdict(value: float | None, limit: float, *, measured: bool = True) -> str:
    """Hold `value` against `limit`, which it must be below: met, missed or not_measured."""
    if value is None or not measured:
        return "not_measured"
    return "met" if value < limit else "missed"


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
    image = np.full((height, width, 3), 128, dtype=np.int16)
    for cells in (4, 16, 64, 256):
        noise = rng.normal(128, 128 / cells**0.5, size=(cells, cells, 3))
        layer = Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8))
        image += np.asarray(layer.resize((width, height), Image.Resampling.BICUBIC))
        image -= 128
    buffer = io.BytesIO()
    Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@torch.inference_mode()
def pair_latencies(model: PairwiseRankingModel, runs: int) -> dict[str, NDArray[np.float64]]:
    """Time two images of 6 megapixels to two scores, in milliseconds, (runs,) each.

    Returns:
        "pixels": from decoded uint8 pixels; "file": from the JPEG's bytes; "cached": from their features.
    """
    extractor, device = model.extractor, model.projector.feature_mean.device
    files = [made_photo(seed) for seed in (0, 1)]
    pixels = [decode_image(data).pixels for data in files]

    def fitted(image: NDArray[np.uint8]) -> torch.Tensor:
        return torch.from_numpy(extractor.transform.fitted(image)).permute(2, 0, 1)[None]

    def from_pixels(images: list[NDArray[np.uint8]]) -> list[float]:
        first, second = map(fitted, images)
        return torch.cat(model(first, second)).flatten().tolist()

    features = extractor(torch.cat([fitted(image) for image in pixels])).to(device)
    return {
        "pixels": time_calls(lambda: from_pixels(pixels), runs, device),
        "file": time_calls(lambda: from_pixels([decode_image(data).pixels for data in files]), runs, device),
        "cached": cached_pair_latencies(model, features, runs),
    }


@torch.inference_mode()
def cached_pair_latencies(model: PairwiseRankingModel, features: torch.Tensor, runs: int) -> NDArray[np.float64]:
    """Time the features of two images, (2, D), to two scores, in milliseconds, (10 * runs,)."""
    return time_calls(lambda: model.score(features).tolist(), 10 * runs, features.device)


@torch.inference_mode()
def throughput(model: PairwiseRankingModel, batch_size: int, runs: int) -> tuple[float, float | None]:
    """Time batches of fitted images.

    Returns:
        images per second (median), and the peak of GPU memory in GiB; None off GPU, where it says nothing.
    """
    extractor = model.extractor
    size_px = extractor.resolved.size_px
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch_size, 3, size_px, size_px), dtype=torch.uint8, generator=generator)
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


def _seeded_model(params: Params) -> PairwiseRankingModel:
    """Build the model of the active recipe with seeded weights in the head."""
    extractor = DINOv2FeatureExtractor.from_recipe(params.recipe, params.extract.device)
    config = TrainParams(head=params.train.head)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        dim = _DIM_OF_IMPORTED if params.recipe.imported else extractor.embedding_dim
        model = PairwiseRankingModel(extractor, feature_dim=dim, config=config)
    return model.to(extractor.device).eval()


def _measure(params: Params) -> dict[str, Any]:
    """Return the scalars of metrics/benchmark.json."""
    settings = params.benchmark
    model = _seeded_model(params)
    device = model.extractor.device
    dim = len(model.projector.feature_mean)
    on_gpu = device.type == "cuda"
    images_per_second, peak_memory_gib = None, None
    if params.recipe.imported:
        latencies = {"cached": cached_pair_latencies(model, torch.randn(2, dim, device=device), settings.pair_runs)}
    else:
        latencies = pair_latencies(model, settings.pair_runs)
        runs = max(settings.pair_runs // 10, 3)
        images_per_second, peak_memory_gib = throughput(model, settings.batch_size, runs=runs)
    p50, p95, p99 = (_percentile(latencies.get("pixels"), q) for q in (50, 95, 99))
    whole = (settings.train_rows, settings.train_epochs) == (8000, 100)
    config = TrainParams(images_per_step=1024, head=params.train.head, device=params.extract.device)  # one member
    train_seconds = training_seconds(config, settings.train_rows, dim, settings.train_epochs)
    return {
        "pair_latency_ms_p50": p50,
        "pair_latency_ms_p95": p95,
        "pair_latency_ms_p99": p99 if settings.pair_runs >= _MIN_RUNS_FOR_P99 else None,
        "pair_latency_from_file_ms_p50": _percentile(latencies.get("file"), 50),
        "pair_latency_cached_ms_p50": _percentile(latencies["cached"], 50),
        "images_per_second": images_per_second,
        f"peak_memory_gib_batch_{settings.batch_size}": peak_memory_gib,
        "train_seconds_10k": train_seconds if whole else None,
        "device": device.type,
        "hardware": hardware(device),
        "pair_latency_verdict": requirement_verdict(p50, _MAX_PAIR_LATENCY_MS, measured=on_gpu),
        "memory_verdict": requirement_verdict(peak_memory_gib, _MAX_MEMORY_GIB, measured=settings.batch_size == 32),
        "train_verdict": requirement_verdict(train_seconds, _MAX_TRAIN_SECONDS, measured=whole),
    }


def _percentile(durations_ms: NDArray[np.float64] | None, q: int) -> float | None:
    return None if durations_ms is None else float(np.percentile(durations_ms, q))


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
