import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from benchmarks.growth import STAGES, draw, exponent, made_manifest, table, too_fast
from mirip.data.manifest import _COLUMNS, _OF_THE_AUDIT

ROOT = Path(__file__).parents[2]


def _growing(exponents: dict[str, float], sizes: tuple[int, ...] = (1_000, 10_000, 100_000)) -> dict:
    return {
        str(rows): {
            stage: {"seconds": 1.0, "cpu_seconds": 1e-3 * rows ** exponents.get(stage, 1.0), "memory": 1e9}
            for stage in STAGES
        }
        for rows in sizes
    }


@pytest.mark.slow
def test_every_stage_is_measured_with_images_and_without_and_added_to_what_was(tmp_path: Path) -> None:
    path = tmp_path / "growth.json"
    command = [sys.executable, "-m", "benchmarks.growth", "--json", str(path), "--folder", str(tmp_path)]
    with_images = subprocess.run([*command, "--rows", "120"], capture_output=True, text=True, cwd=ROOT)
    assert with_images.returncode == 0, with_images.stderr
    more = [*command, "--rows", "200", "--images-up-to", "120", "--until", "split", "--markdown"]
    without = subprocess.run(more, capture_output=True, text=True, cwd=ROOT)
    assert without.returncode == 0, without.stderr
    result = json.loads(path.read_text())
    assert {rows: list(stages) for rows, stages in result["stages"].items()} == {"120": [*STAGES], "200": ["split"]}
    assert result["machine"]["cores"] > 0
    assert all(found["memory"] > 1e7 < found["anonymous"] for found in result["stages"]["120"].values())
    lines = without.stdout.splitlines()
    assert lines[0].startswith("| stage | 120 rows | 200 rows |")
    assert "left out" in next(line for line in lines if line.startswith("| prepare |"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["growth.json"]


def test_a_stage_that_is_worse_than_n_log_n_is_named() -> None:
    assert exponent(_growing({"train": 2.0}), "train", "cpu_seconds") == pytest.approx(2.0)
    assert too_fast(_growing({})) == []
    assert [line.partition(" ")[0] for line in too_fast(_growing({"train": 2.0, "audit": 1.3}))] == ["train", "audit"]


def test_one_size_alone_says_nothing_of_growth() -> None:
    found = _growing({}, (1_000,))
    assert math.isnan(exponent(found, "split", "cpu_seconds"))
    assert too_fast(found) == []


def test_what_was_measured_is_drawn(tmp_path: Path) -> None:
    draw({"stages": _growing({})}, tmp_path / "growth.png")
    with Image.open(tmp_path / "growth.png") as image:
        assert image.format == "PNG"
        assert min(image.size) > 500


def test_a_made_up_manifest_has_the_columns_of_one() -> None:
    rows = pd.DataFrame({"image_path": ["a", "b"], "tier": ["S", "C"], "artist": "x", "department": "d", "year": 1})
    assert {*_COLUMNS, *_OF_THE_AUDIT} <= set(made_manifest(rows))


def test_the_page_shows_what_was_measured() -> None:
    result = json.loads((ROOT / "docs/benchmarks/growth.json").read_text())
    page = (ROOT / "docs/benchmarks.md").read_text()
    for line in table(result):
        assert f"| {' | '.join(line)} |" in page
    assert too_fast(result["stages"]) == []
    assert re.search(r"!\[.+\]\(images/growth\.png\)", page)
