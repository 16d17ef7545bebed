import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from mirip.data.manifest import read_manifest
from mirip.workspace import Workspace
from stages import prepare, run

PATHS = Workspace()
OUTPUTS = (PATHS.manifest, PATHS.rejected, PATHS.thumbnails, PATHS.metrics("data"))


@pytest.fixture
def workspace(tmp_path: Path, project_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params.yaml, twelve images by six artists, and a row whose file is missing."""
    monkeypatch.chdir(tmp_path)
    Path("images").mkdir()
    rows = []
    for number in range(12):
        coarse = np.random.default_rng(number).integers(256, size=(8, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((80, 60)).save(f"images/{number}.png")
        rows.append((f"{number}.png", "SABC"[number % 4], f"artist {number // 2}"))
    rows.append(("gone.png", "S", "artist 9"))
    pd.DataFrame(rows, columns=["image_path", "tier", "artist"]).to_csv("table.csv", index=False)
    shutil.copy(project_root / "params.yaml", "params.yaml")
    _set_params(data={"images": "images", "metadata": "table.csv", "context": None, "max_rejected_fraction": 0.1})
    return tmp_path


def _set_params(**sections: dict[str, Any]) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    for section, values in sections.items():
        params[section].update(values)
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


def _files() -> set[str]:
    return {str(path) for path in Path().rglob("*") if path.is_file() and path.parts[0] in ("data", "metrics")}


@pytest.mark.usefixtures("workspace")
def test_writes_all_outputs_and_says_what_came_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    run(prepare.main)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "prepare: 12 images in 6 groups, 1 rejected (data/rejected.csv)"
    assert _files() == {str(path) for path in OUTPUTS}
    assert len(read_manifest(PATHS.manifest)) == 12
    assert len(pd.read_parquet(PATHS.thumbnails)) == 12
    rejected = pd.read_csv(PATHS.rejected)
    assert rejected.iloc[0].tolist() == [13, "gone.png", "is missing: no such file below data.images"]
    counts = json.loads(PATHS.metrics("data").read_text())
    assert (counts["n_rows"], counts["n_groups"], counts["rejected_missing"], counts["n_tier_S"]) == (13, 6, 1, 3)


@pytest.mark.usefixtures("workspace")
def test_two_runs_write_the_same_bytes() -> None:
    run(prepare.main)
    first = [path.read_bytes() for path in OUTPUTS]
    run(prepare.main)
    assert [path.read_bytes() for path in OUTPUTS] == first


@pytest.mark.usefixtures("workspace")
def test_too_many_rejects_fail_after_listing_them() -> None:
    _set_params(data={"max_rejected_fraction": 0.05})
    with pytest.raises(SystemExit) as caught:
        run(prepare.main)
    message = str(caught.value)
    assert message.startswith("error: 1 of 13 rows rejected (1 missing), more than data.max_rejected_fraction 0.05")
    assert "row 13 gone.png is missing" in message
    assert "\n" not in message
    assert _files() == {str(PATHS.rejected)}


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"metadata": "nowhere.csv"}, r"nowhere\.csv is not found: set data\.metadata"),
        ({"images": "nowhere"}, r"nowhere is not a folder: set data\.images"),
        ({"group": ["student"]}, r"data\.group names the column 'student'.*it has: image_path, tier, artist"),
        ({"tiers": ["gold", "silver"], "max_rejected_fraction": 1.0}, "no image is left of 13 rows"),
        (
            {"tiers": ["S", "X"], "max_rejected_fraction": 1.0},
            "all 3 images have tier S: give images of at least two tiers",
        ),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_manifest(data: dict[str, Any], message: str) -> None:
    _set_params(data=data)
    with pytest.raises(SystemExit, match=f"error: .*{message}") as caught:
        run(prepare.main)
    assert "\n" not in str(caught.value)
    assert _files() <= {str(PATHS.rejected)}
