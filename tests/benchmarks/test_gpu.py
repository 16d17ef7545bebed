import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import tables, write_photos
from benchmarks.true_backbone import flop_of_image
from mirip.data.decoding import decode_image
from mirip.files import sha256_bytes


def test_dinov2_large_at_756_takes_1299_billion_products_an_image() -> None:
    assert flop_of_image("large", 756) / 2e9 == pytest.approx(1299, abs=3)


def test_made_photos_differ_by_their_bytes_alone(tmp_path: Path) -> None:
    items = write_photos(tmp_path / "images", 40, (30, 20))
    data = [(tmp_path / "images" / name).read_bytes() for _, name in items]
    assert [sha256_bytes(photo) for photo in data] == [key for key, _ in items]
    assert len(set(data)) == 40
    assert (decode_image(data[0]).pixels == decode_image(data[32]).pixels).all()


@pytest.mark.slow
def test_every_part_is_measured_on_a_cpu(project_root: Path, tmp_path: Path) -> None:
    written = tmp_path / "gpu.json"
    command = [sys.executable, "-m", "benchmarks.gpu", "--small", "--without-compiled", "--device", "cpu"]
    done = subprocess.run(
        [*command, "--json", str(written)], cwd=project_root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(written.read_text())
    assert result["note"].startswith("Measured on a CPU")
    assert result["left_out"] == []
    assert result["ceilings"]["matmul_tflop_per_s"]["slowest"] <= result["ceilings"]["matmul_tflop_per_s"]["fastest"]
    assert [(row["way"], row["batch"]) for row in result["rates"]] == [
        (way, batch)
        for way in ("transformers, float32", "transformers, bfloat16, SDPA", "Mirip, bfloat16")
        for batch in (1, 2)
    ]
    assert result["errors"]["float32"]["cosine_error"] < 1e-9
    assert result["errors"]["bfloat16"]["cosine_error"] < 1e-4
    assert all(case["equal_as_float16"] for case in result["stable_bits"])
    assert {"latency", "memory", "extraction", "training"} <= set(result["part_seconds"])
    assert tables(result) in done.stdout
