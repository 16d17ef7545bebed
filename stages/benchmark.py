"""Time the architecture and judge the performance requirements.

Reads   params.yaml: the recipe in force and the sizes of the head (weights of the head are seeded, not trained)
Writes  metrics/benchmark.json
Run     python -m stages.benchmark      (or `dvc repro benchmark`)

A pair is two pictures of 6 megapixels. Latency and memory are requirements of a GPU: elsewhere the figures
stand, and the verdict is `not_measured`. `train_seconds_10k` are 100 full epochs on the 8,000 training rows of 10,000
images, calibration not among them.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from mirip.features.backbone import DINOv2FeatureExtractor
from mirip.files import write_json
from mirip.models.latency import hardware, pair_latencies, throughput, training_seconds
from mirip.models.ranking import PairwiseRankingModel
from mirip.params import Params, TrainParams, load_params
from stages import run

METRICS = Path("metrics/benchmark.json")

MAX_PAIR_LATENCY_MS = 100.0
MAX_MEMORY_GIB = 12.0
MAX_TRAIN_SECONDS = 6 * 3600.0
MIN_RUNS_FOR_P99 = 100


def verdict(value: float | None, limit: float, *, measured: bool = True) -> str:
    """Judge `value`, which must be below `limit`: met, missed or not_measured."""
    if value is None or not measured:
        return "not_measured"
    return "met" if value < limit else "missed"


def seeded_model(params: Params) -> PairwiseRankingModel:
    """Build the model of the recipe in force with seeded weights in the head."""
    extractor = DINOv2FeatureExtractor.from_recipe(params.recipe, params.extract.device)
    config = TrainParams(head=params.train.head)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = PairwiseRankingModel(extractor, feature_dim=extractor.embedding_dim, config=config)
    return model.to(extractor.device).eval()


def measure(params: Params) -> dict[str, Any]:
    """Return the scalars of metrics/benchmark.json."""
    settings = params.benchmark
    model = seeded_model(params)
    device = model.extractor.device
    on_gpu = device.type == "cuda"
    latencies = pair_latencies(model, settings.pair_runs)
    p50, p95, p99 = (float(np.percentile(latencies["pixels"], q)) for q in (50, 95, 99))
    whole = (settings.train_rows, settings.train_epochs) == (8000, 100)
    images_per_second, peak_memory_gib = throughput(model, settings.batch_size, runs=max(settings.pair_runs // 10, 3))
    config = TrainParams(images_per_step=1024, head=params.train.head)
    train_seconds = training_seconds(config, settings.train_rows, model.extractor.embedding_dim, settings.train_epochs)
    return {
        "pair_latency_ms_p50": p50,
        "pair_latency_ms_p95": p95,
        "pair_latency_ms_p99": p99 if settings.pair_runs >= MIN_RUNS_FOR_P99 else None,
        "pair_latency_from_file_ms_p50": float(np.median(latencies["file"])),
        "pair_latency_cached_ms_p50": float(np.median(latencies["cached"])),
        "images_per_second": images_per_second,
        f"peak_memory_gib_batch_{settings.batch_size}": peak_memory_gib,
        "train_seconds_10k": train_seconds if whole else None,
        "device": device.type,
        "hardware": hardware(device),
        "pair_latency_verdict": verdict(p50, MAX_PAIR_LATENCY_MS, measured=on_gpu),
        "memory_verdict": verdict(peak_memory_gib, MAX_MEMORY_GIB, measured=settings.batch_size == 32),
        "train_verdict": verdict(train_seconds, MAX_TRAIN_SECONDS, measured=whole),
    }


def main() -> None:
    """Measure as params.yaml says."""
    figures = measure(load_params())
    write_json(METRICS, figures)
    print(
        f"benchmark: pair {figures['pair_latency_ms_p50']:.1f} ms from pixels, "
        f"{figures['images_per_second']:.1f} images/s, on {figures['hardware']}"
    )


if __name__ == "__main__":
    run(main)
