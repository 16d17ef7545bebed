"""What the page says of speed and memory: each requirement with what was measured and its verdict."""

from collections.abc import Mapping
from typing import Any

from mirip.report import formatting as fmt


def requirements(benchmark: Mapping[str, Any], imported: bool) -> list[dict[str, str]]:
    """Return each performance requirement with what was measured and its verdict."""
    memory = benchmark.get("peak_memory_gib_batch_32")
    rows = [
        (
            "One pair, from decoded pixels (p50)",
            _ms(benchmark, "pair_latency_ms_p50"),
            "under 100 ms on a GPU",
            "pair_latency",
        ),
        ("GPU memory at batch 32", fmt.number(memory, 2, "GiB"), "under 12 GB", "memory"),
        (
            "Training on 10,000 images, 100 epochs",
            fmt.number(benchmark.get("train_seconds_10k"), 1, "s"),
            "under 6 h",
            "train",
        ),
    ]
    judged = [
        {
            "what": what,
            "measured": measured,
            "limit": limit,
            **_evaluated(benchmark.get(f"{name}_verdict"), name, imported),
        }
        for what, measured, limit, name in rows
    ]
    plain = [
        ("One pair, p95", _ms(benchmark, "pair_latency_ms_p95")),
        ("One pair, from file bytes (p50)", _ms(benchmark, "pair_latency_from_file_ms_p50")),
        ("One pair, from cached features (p50)", _ms(benchmark, "pair_latency_cached_ms_p50")),
        ("Images per second", fmt.number(benchmark.get("images_per_second"), 1)),
    ]
    return judged + [{"what": what, "measured": value, "limit": "", "verdict": "", "tone": ""} for what, value in plain]


def _evaluated(verdict: Any, name: str, imported: bool) -> dict[str, str]:
    if verdict == "not_measured":
        needs_gpu = name in ("pair_latency", "memory") and not imported
        place = "not measured off GPU" if needs_gpu else "not measured"
        return {"verdict": place, "tone": "open"}
    tones = {"met": "good", "missed": "bad"}
    return {"verdict": fmt.text(verdict), "tone": tones.get(str(verdict), "open")}


def _ms(benchmark: Mapping[str, Any], name: str) -> str:
    value = benchmark.get(name)
    return fmt.number(value, 2 if fmt.known(value) and float(value or 0) < 10 else 0, "ms")
