import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from mirip.data.manifest import build_manifest
from mirip.data.tables import write_table
from mirip.errors import DataError
from mirip.features.cache.feature_cache import FeatureCache
from mirip.params import load_params
from stages import extract

N = 5


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
    """A folder with pictures, one of them twice, a manifest of them and params."""
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
    write_table(extract.MANIFEST, build_manifest(metadata, images, tiers=["A", "B"]).manifest)
    params = {
        "data": {"images": "images", "metadata": "metadata.csv", "tiers": ["A", "B"]},
        "extract": {"recipe": "tiny", "batch_size": 2, "device": "cpu"},
        "recipes": {"tiny": {"backbone": str(backbone), "image_size": 28, "compute_dtype": "float32"}},
    }
    extract.PARAMS.write_text(yaml.safe_dump(params))
    return tmp_path


def run_stage(root: Path, workspace: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(root), "DVC_ROOT": str(workspace)}
    command = [sys.executable, "-m", "stages.extract"]
    return subprocess.run(command, capture_output=True, text=True, cwd=workspace, env=environment)


def test_the_stage_writes_features_and_metrics_and_says_what_it_did(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extract.main()
    assert capsys.readouterr().out.splitlines()[-1] == "extract: 5 rows, 5 computed, 0 reused"
    cache = FeatureCache.open("features/tiny.h5", load_params().recipe)
    assert json.loads(extract.METRICS.read_text()) == {
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
    before = [Path(name).read_bytes() for name in ("features/tiny.h5", extract.METRICS)]
    extract.main()
    assert capsys.readouterr().out.splitlines()[-1] == "extract: 5 rows, 0 computed, 5 reused"
    assert [Path(name).read_bytes() for name in ("features/tiny.h5", extract.METRICS)] == before


def test_identical_files_are_one_image_of_the_first_path() -> None:
    manifest = pd.DataFrame({"image_sha256": ["a", "b", "a"], "image_path": ["1.png", "2.png", "3.png"]})
    assert list(extract.first_paths(manifest).items()) == [("a", "1.png"), ("b", "2.png")]


@pytest.mark.parametrize(
    ("text", "changed"),
    [("batch_size: 2", "batch_size: 3"), ("image_size: 28", "image_size: 42"), ("images: images", "images: .")],
)
def test_params_that_change_meanwhile_are_an_error(workspace: Path, text: str, changed: str) -> None:
    before = extract.sources(load_params())
    extract.PARAMS.write_text(extract.PARAMS.read_text().replace(text, changed))
    with pytest.raises(DataError, match="changed while features were extracted: run `dvc repro extract` again"):
        extract.check_unchanged(before, extract.sources(load_params()))


def test_a_manifest_that_changes_meanwhile_is_an_error(workspace: Path) -> None:
    before = extract.sources(load_params())
    extract.MANIFEST.write_bytes(extract.MANIFEST.read_bytes() + b" ")
    with pytest.raises(DataError, match=r"^data/manifest\.parquet changed"):
        extract.check_unchanged(before, extract.sources(load_params()))


def test_params_of_other_stages_may_change_meanwhile(workspace: Path) -> None:
    before = extract.sources(load_params())
    extract.PARAMS.write_text(extract.PARAMS.read_text() + "train: {learning_rate: 0.5}\n")
    extract.check_unchanged(before, extract.sources(load_params()))


def test_what_may_not_change_meanwhile_is_what_dvc_hashes(project_root: Path) -> None:
    deps = yaml.safe_load((project_root / "dvc.yaml").read_text())["stages"]["extract"]["deps"]
    declared = [project_root / name for name in deps if name != str(extract.MANIFEST)]
    code = {file for path in declared for file in (path.rglob("*.py") if path.is_dir() else [path])}
    assert str(extract.MANIFEST) in deps
    assert set(extract.source_files()) == {extract.MANIFEST, *code}


def test_an_error_is_one_line_and_leaves_nothing(workspace: Path, project_root: Path) -> None:
    (workspace / "images" / "3.png").unlink()
    result = run_stage(project_root, workspace)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("error: 3.png is missing")
    assert "Traceback" not in result.stderr
    assert not (workspace / "features").exists() or not list((workspace / "features").iterdir())
    assert not (workspace / extract.METRICS).exists()


def test_a_stage_with_nothing_to_compute_imports_no_torch(workspace: Path, project_root: Path) -> None:
    extract.main()
    code = "import sys; from stages.extract import main; main(); print('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(project_root)}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, cwd=workspace, env=environment, check=True)
    assert result.stdout.splitlines() == ["extract: 5 rows, 0 computed, 5 reused", "False"]
