import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from mirip.data.manifest import build_manifest, first_paths
from mirip.data.tables import write_table
from mirip.errors import DataError
from mirip.features.cache.feature_cache import FeatureCache
from mirip.features.extract import extraction
from mirip.features.extract.history import ExtractionSummary
from mirip.params import load_params
from mirip.workspace import Workspace
from stages import extract, run

N = 5
PARAMS = Path("params.yaml")
METRICS = Path("metrics/extract.json")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import Dinov2Config, Dinov2Model
    from transformers.utils import logging

    logging.disable_progress_bar()
    folder = tmp_path_factory.mktemp("backbone")
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 14, "image_size": 28}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Dinov2Model(Dinov2Config(**sizes)).save_pretrained(folder)
    logging.enable_progress_bar()
    return folder


@pytest.fixture
def workspace(tmp_path: Path, backbone: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with images, one of them twice, a manifest of them and params."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    images = tmp_path / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    for number in range(N):
        Image.fromarray(rng.integers(0, 256, size=(30, 20, 3), dtype=np.uint8)).save(images / f"{number}.png")
    (images / "copy.png").write_bytes((images / "0.png").read_bytes())
    names = [*(f"{number}.png" for number in range(N)), "copy.png"]
    metadata = pd.DataFrame({"image_path": names, "tier": ["A", "B"] * 3})
    write_table(Workspace().manifest, build_manifest(metadata, images, tiers=["A", "B"]).manifest)
    params = {
        "data": {"images": "images", "metadata": "metadata.csv", "tiers": ["A", "B"]},
        "extract": {"recipe": "tiny", "batch_size": 2, "device": "cpu"},
        "recipes": {"tiny": {"backbone": str(backbone), "image_size": 28, "compute_dtype": "float32"}},
    }
    PARAMS.write_text(yaml.safe_dump(params))
    return tmp_path


@pytest.fixture
def pipeline(workspace: Path, project_root: Path) -> Path:
    """The same with the project's dvc.yaml, and a file where it names the code."""
    (workspace / "dvc.yaml").write_bytes((project_root / "dvc.yaml").read_bytes())
    (workspace / "mirip" / "features").mkdir(parents=True)
    (workspace / "mirip" / "features" / "backbone.py").write_text("# code")
    return workspace


def test_the_stage_writes_features_and_metrics_and_says_what_it_did(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extract.main()
    assert capsys.readouterr().out.splitlines()[-1] == "extract: 5 rows, 5 computed, 0 reused"
    cache = FeatureCache.open("features/tiny.h5", load_params().recipe)
    assert json.loads(METRICS.read_text()) == {
        "rows": N,
        "dim": 32,
        "fingerprint": cache.fingerprint,
        "content_digest": cache.content_digest,
    }
    hashes = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (workspace / "images").iterdir()}
    assert cache.keys.tolist() == sorted(sha256.encode() for sha256 in hashes)


def test_a_second_run_computes_nothing_and_leaves_all_bytes(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extract.main()
    before = [Path(name).read_bytes() for name in ("features/tiny.h5", METRICS)]
    extract.main()
    assert capsys.readouterr().out.splitlines()[-1] == "extract: 5 rows, 0 computed, 5 reused"
    assert [Path(name).read_bytes() for name in ("features/tiny.h5", METRICS)] == before


def test_identical_files_are_one_image_of_the_first_path() -> None:
    manifest = pd.DataFrame({"image_sha256": ["a", "b", "a"], "image_path": ["1.png", "2.png", "3.png"]})
    assert list(first_paths(manifest).items()) == [("a", "1.png"), ("b", "2.png")]


def run_while(change: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the stage; `change` happens when the features are computed and before the stage ends."""
    compute = extraction.extract_features

    def computed_and_changed(*args: Any, **options: Any) -> ExtractionSummary:
        summary = compute(*args, **options)
        change()
        return summary

    monkeypatch.setattr(extraction, "extract_features", computed_and_changed)
    extract.main()


@pytest.mark.parametrize(
    ("text", "changed", "name"),
    [
        ("batch_size: 2", "batch_size: 3", "extract"),
        ("image_size: 28", "image_size: 42", r"recipes\.tiny"),
        ("images: images", "images: .", r"data\.images"),
    ],
)
def test_params_that_change_meanwhile_are_an_error(
    pipeline: Path, monkeypatch: pytest.MonkeyPatch, text: str, changed: str, name: str
) -> None:
    with pytest.raises(DataError, match=f"^{name} changed while features were extracted: run `dvc repro ex"):
        run_while(lambda: PARAMS.write_text(PARAMS.read_text().replace(text, changed)), monkeypatch)
    assert not METRICS.exists()


@pytest.mark.parametrize("name", ["data/manifest.parquet", "mirip/features/backbone.py"])
def test_a_source_that_changes_meanwhile_is_an_error(
    pipeline: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = Path(name)
    with pytest.raises(DataError, match=f"^{name} changed"):
        run_while(lambda: path.write_bytes(path.read_bytes() + b" "), monkeypatch)


def test_params_of_other_stages_may_change_meanwhile(pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_while(lambda: PARAMS.write_text(PARAMS.read_text() + "train: {learning_rate: 0.5}\n"), monkeypatch)
    assert METRICS.is_file()


def test_a_folder_without_a_pipeline_has_nothing_to_check(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_while(PARAMS.unlink, monkeypatch)
    assert METRICS.is_file()


def test_an_error_is_one_line_and_leaves_nothing(workspace: Path) -> None:
    (workspace / "images" / "3.png").unlink()
    with pytest.raises(SystemExit, match=r"^error: 3\.png is missing") as end:
        run(extract.main)
    assert "\n" not in str(end.value)
    assert not (workspace / "features").exists() or not list((workspace / "features").iterdir())
    assert not (workspace / METRICS).exists()


@pytest.mark.slow
def test_a_stage_with_nothing_to_compute_imports_no_torch(workspace: Path, project_root: Path) -> None:
    extract.main()
    code = "import sys; from stages.extract import main; main(); print('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(project_root)}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, cwd=workspace, env=environment, check=True)
    assert result.stdout.splitlines() == ["extract: 5 rows, 0 computed, 5 reused", "False"]
