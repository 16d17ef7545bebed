"""Time the architecture and judge the performance requirements.

Reads   params.yaml: the active recipe and the sizes of the head (weights of the head are seeded, not trained)
Writes  metrics/benchmark.json
Run     python -m stages.benchmark      (or `dvc repro benchmark`)

A pair is two pictures of 6 megapixels. Latency and memory are requirements of a GPU: elsewhere the figures
stand, and the verdict is `not_measured`. `train_seconds_10k` are 100 full epochs on the 8,000 training rows of 10,000
images, calibration not among them. Of a recipe whose features are imported, no picture can be timed: only scores
from cached features and training are, at the width of dinov2-large.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mirip.features.backbones.backbone import DINOv2FeatureExtractor, hardware
from mirip.files import write_json
from mirip.models.latency import cached_pair_latencies, pair_latencies, throughput, training_seconds
from mirip.models.ranking import PairwiseRankingModel
from mirip.params import Params, TrainParams, load_params
from stages import run

METRICS = Path("metrics/benchmark.json")

MAX_PAIR_LATENCY_MS = 100.0
MAX_MEMORY_GIB = 12.0
MAX_TRAIN_SECONDS = 6 * 3600.0
MIN_RUNS_FOR_P99 = 100
DIM_OF_IMPORTED = 1024  # the features that tell it are no dependency of this stage


def verdict(value: float | None, limit: float, *, measured: bool = True) -> str:
    """Judge `value`, which must be below `limit`: met, missed or not_measured."""
    if value is None or not measured:
        return "not_measured"
    return "met" if value < limit else "missed"


def seeded_model(params: Params) -> PairwiseRankingModel:
    """Build the model of the active recipe with seeded weights in the head."""
    extractor = DINOv2FeatureExtractor.from_recipe(params.recipe, params.extract.device)
    config = TrainParams(head=params.train.head)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        dim = DIM_OF_IMPORTED if params.recipe.imported else extractor.embedding_dim
        model = PairwiseRankingModel(extractor, feature_dim=dim, config=config)
    return model.to(extractor.device).eval()


def measure(params: Params) -> dict[str, Any]:
    """Return the scalars of metrics/benchmark.json."""
    settings = params.benchmark
    model = seeded_model(params)
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
    config = TrainParams(images_per_step=1024, head=params.train.head, device=params.extract.device)  # one head
    train_seconds = training_seconds(config, settings.train_rows, dim, settings.train_epochs)
    return {
        "pair_latency_ms_p50": p50,
        "pair_latency_ms_p95": p95,
        "pair_latency_ms_p99": p99 if settings.pair_runs >= MIN_RUNS_FOR_P99 else None,
        "pair_latency_from_file_ms_p50": _percentile(latencies.get("file"), 50),
        "pair_latency_cached_ms_p50": _percentile(latencies["cached"], 50),
        "images_per_second": images_per_second,
        f"peak_memory_gib_batch_{settings.batch_size}": peak_memory_gib,
        "train_seconds_10k": train_seconds if whole else None,
        "device": device.type,
        "hardware": hardware(device),
        "pair_latency_verdict": verdict(p50, MAX_PAIR_LATENCY_MS, measured=on_gpu),
        "memory_verdict": verdict(peak_memory_gib, MAX_MEMORY_GIB, measured=settings.batch_size == 32),
        "train_verdict": verdict(train_seconds, MAX_TRAIN_SECONDS, measured=whole),
    }


def in_words(figures: dict[str, Any]) -> str:
    """Return the last line of the stage."""
    if figures["images_per_second"] is None:
        return f"pair {figures['pair_latency_cached_ms_p50']:.2f} ms from imported features"
    return f"pair {figures['pair_latency_ms_p50']:.1f} ms from pixels, {figures['images_per_second']:.1f} images/s"


def _percentile(durations_ms: NDArray[np.float64] | None, q: int) -> float | None:
    return None if durations_ms is None else float(np.percentile(durations_ms, q))


def main() -> None:
    """Measure as params.yaml says."""
    figures = measure(load_params())
    write_json(METRICS, figures)
    print(f"benchmark: {in_words(figures)}, on {figures['hardware']}")


if __name__ == "__main__":
    run(main)
