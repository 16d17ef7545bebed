import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from mirip.data.file_data import FILE_DATA
from mirip.data.split import read_splits, split_digest, tier_drift
from mirip.data.statistics import STATISTICS
from mirip.data.tables import write_table
from mirip.workspace import Workspace
from stages import run, split

PATHS = Workspace()


def _manifest(n: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rank = rng.choice(4, size=n, p=[0.25, 0.4, 0.25, 0.1])
    # A real manifest's columns and types: what the stage reads is checked.
    return pd.DataFrame(
        {
            "image_path": [f"images/{k}.jpg" for k in range(n)],
            "row": np.arange(1, n + 1),
            "image_sha256": [hashlib.sha256(str(k).encode()).hexdigest() for k in range(n)],
            "width_px": np.full(n, 64, np.int32),
            "height_px": np.full(n, 64, np.int32),
            "file_bytes": np.full(n, 1000),
            "format": ["JPEG"] * n,
            "perceptual_hash": rng.integers(1, 2**64, size=n, dtype=np.uint64),
            **{name: np.zeros(n, np.float32) for name in STATISTICS},
            "jpeg_quality": np.full(n, 75, np.float32),
            **{name: np.full(n, "" if dtype == "str" else 1, dtype) for name, (_, dtype) in FILE_DATA.items()},
            "tier": ["CBAS"[r] for r in rank],
            "tier_rank": rank.astype(np.int8),
            "group_id": pd.factorize(rng.integers(n, size=n))[0],
            "context": ["oil"] * n,
        }
    )


@pytest.fixture
def workspace(tmp_path: Path, project_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params.yaml and the manifest of 300 images."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(project_root / "params.yaml", "params.yaml")
    write_table(PATHS.manifest, _manifest(300))
    return tmp_path


def _set_params(**values: Any) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    params["split"].update(values)
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


@pytest.mark.usefixtures("workspace")
def test_writes_splits_and_metrics_and_says_the_drift(capsys: pytest.CaptureFixture[str]) -> None:
    run(split.main)
    splits = read_splits(PATHS.splits)
    sizes = splits["split"].value_counts()
    metrics = json.loads(PATHS.metrics("split").read_text())
    assert (metrics["n_train"], metrics["n_val"], metrics["n_test"]) == (sizes["train"], sizes["val"], sizes["test"])
    assert metrics["n_groups_test"] == splits.loc[splits["split"] == "test", "group_id"].nunique()
    assert metrics["digest"] == split_digest(splits)
    assert metrics["max_tier_drift"] == pytest.approx(tier_drift(splits), abs=1e-5)
    last = capsys.readouterr().out.splitlines()[-1]
    expected = f"split: {sizes['train']} train, {sizes['val']} val, {sizes['test']} test; largest tier drift"
    assert last == f"{expected} {tier_drift(splits):.1f} points"


@pytest.mark.usefixtures("workspace")
def test_two_runs_write_the_same_bytes_and_another_seed_others() -> None:
    run(split.main)
    first = PATHS.splits.read_bytes(), PATHS.metrics("split").read_bytes()
    run(split.main)
    assert (PATHS.splits.read_bytes(), PATHS.metrics("split").read_bytes()) == first
    _set_params(seed=7)
    run(split.main)
    assert PATHS.splits.read_bytes() != first[0]


@pytest.mark.usefixtures("workspace")
def test_a_missing_manifest_says_what_to_run() -> None:
    PATHS.manifest.unlink()
    with pytest.raises(SystemExit, match=r"^error: data/manifest\.parquet is not found: run `dvc repro prepare`$"):
        run(split.main)


@pytest.mark.usefixtures("workspace")
def test_an_impossible_split_is_one_line_and_writes_nothing() -> None:
    manifest = _manifest(300)
    write_table(PATHS.manifest, manifest.assign(group_id=manifest["tier_rank"].astype(np.int64)))
    with pytest.raises(SystemExit, match=r"^error: tier .* points apart, 5 allowed: raise split\.max_tier_drift"):
        run(split.main)
    assert not PATHS.splits.exists()
    assert not PATHS.metrics("split").exists()
