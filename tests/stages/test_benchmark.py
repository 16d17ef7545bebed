"""The stage benchmark: verdicts that can be trusted, metrics of a real backbone."""

import json
from pathlib import Path

import pytest
import yaml

from mirip.models.latency import requirement_verdict as verdict
from stages import benchmark, run


def test_a_verdict_needs_a_measurement() -> None:
    assert verdict(99.9, 100) == "met"
    assert verdict(100.0, 100) == "missed"
    assert verdict(None, 100) == "not_measured"
    assert verdict(5.0, 100, measured=False) == "not_measured"


@pytest.fixture
def metrics(tmp_path, monkeypatch, project_root, dinov2) -> dict:
    monkeypatch.chdir(tmp_path)
    return measured(project_root, {"backbone": str(dinov2), "image_size": 28, "compute_dtype": "float32"})


def measured(project_root: Path, recipe: dict) -> dict:
    """Run the stage on a recipe in the working directory and return what it wrote."""
    values = yaml.safe_load((project_root / "params.yaml").read_text())
    values["recipes"]["tiny"] = recipe
    values["extract"] |= {"recipe": "tiny", "device": "cpu"}
    values["benchmark"] = {"pair_runs": 3, "batch_size": 32, "train_rows": 200, "train_epochs": 2}
    Path("params.yaml").write_text(yaml.safe_dump(values))
    run(benchmark.main)
    return json.loads(Path("metrics/benchmark.json").read_text())


@pytest.mark.slow
def test_every_metric_is_there_and_off_gpu_the_gpu_requirements_are_not_measured(metrics) -> None:
    assert 0 < metrics["pair_latency_ms_p50"] <= metrics["pair_latency_ms_p95"]
    assert metrics["pair_latency_ms_p99"] is None  # of three runs there is none
    assert metrics["pair_latency_cached_ms_p50"] < metrics["pair_latency_ms_p50"]
    assert metrics["pair_latency_from_file_ms_p50"] > metrics["pair_latency_ms_p50"]
    assert metrics["images_per_second"] > 0
    assert metrics["train_seconds_10k"] is None  # 200 rows are not 8,000
    assert metrics["peak_memory_gib_batch_32"] is None
    assert metrics["device"] == "cpu"
    assert metrics["hardware"].endswith("threads")
    assert {metrics[f"{name}_verdict"] for name in ("pair_latency", "memory", "train")} == {"not_measured"}


def test_of_imported_features_only_the_head_is_timed(tmp_path, monkeypatch, project_root, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    metrics = measured(project_root, {"backbone": "import:clip-v1"})
    assert metrics["pair_latency_cached_ms_p50"] > 0
    timed = ("pair_latency_ms_p50", "pair_latency_ms_p95", "pair_latency_ms_p99", "pair_latency_from_file_ms_p50")
    for name in (*timed, "images_per_second", "peak_memory_gib_batch_32"):
        assert metrics[name] is None, name
    assert {metrics[f"{name}_verdict"] for name in ("pair_latency", "memory", "train")} == {"not_measured"}
    assert "ms from imported features, on " in capsys.readouterr().out


def test_a_made_photo_is_a_jpeg_of_six_megapixels_and_a_function_of_its_seed() -> None:
    from mirip.data.decoding import decode_image
    from mirip.models.latency import made_photo

    data = made_photo(0, width=300, height=200)
    assert decode_image(data).pixels.shape == (200, 300, 3)
    assert data == made_photo(0, width=300, height=200)
    assert data != made_photo(1, width=300, height=200)
    assert decode_image(data).pixels.std() > 20
