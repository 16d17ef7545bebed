"""The commands of the feature cache, as a user types them."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from cpu_time import seconds_of_children

from mirip.cli.main import main
from mirip.data.manifest import _COLUMNS
from mirip.data.tables import write_table
from mirip.features.backbones.recipe import resolve
from mirip.features.cache.feature_cache import write_cache
from mirip.params import Recipe

KEYS = [f"{number:064x}" for number in range(4)]
VECTORS = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, dinov2: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Params with a folder's recipe, which is active, and one of imported features; a manifest of four images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    shutil.copytree(dinov2, tmp_path / "tiny")
    values = {
        "data": {"images": "images", "metadata": "metadata.csv"},
        "recipes": {"tiny": {"backbone": "tiny", "image_size": 28}, "clip": {"backbone": "import:clip"}},
        "extract": {"recipe": "tiny"},
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    listed = pd.DataFrame({"image_path": [f"{number}.png" for number in range(4)], "image_sha256": KEYS})
    write_table("data/manifest.parquet", listed.assign(**{name: 0 for name in _COLUMNS if name not in listed}))
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["cache", *arguments]) == 0
    return capsys.readouterr().out


def test_help_answers_at_once() -> None:
    before_s = seconds_of_children()
    command = [sys.executable, "-m", "mirip", "cache", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert seconds_of_children() - before_s < 1.5
    for name in ("pin", "export", "import"):
        assert name in shown.stdout


def test_pin_says_what_was_and_what_is(capsys, make_dinov2) -> None:
    found = resolve(Recipe(backbone="tiny", image_size=28)).weights_sha256
    assert run(capsys, "pin") == f"tiny: weights_sha256 none -> {found}\n"
    assert run(capsys, "pin", "tiny") == "tiny: weights_sha256 unchanged\n"
    make_dinov2(Path("tiny"), seed=1)
    first, second = run(capsys, "pin").splitlines()
    assert first.startswith(f"tiny: weights_sha256 {found} -> ")
    assert second == "tiny: these are other weights: the next `dvc repro` computes all its features again"


def test_export_writes_the_active_recipe_and_another(capsys) -> None:
    for name, recipe in (("tiny", Recipe(backbone="tiny", image_size=28)), ("clip", Recipe(backbone="import:clip"))):
        write_cache(f"features/{name}.h5", KEYS, VECTORS, resolve(recipe))
    assert run(capsys, "export", "a.parquet") == "a.parquet: 4 rows of 8 from features/tiny.h5\n"
    assert run(capsys, "export", "b.npz", "--recipe", "clip") == "b.npz: 4 rows of 8 from features/clip.h5\n"
    assert pd.read_parquet("a.parquet")["image_path"].tolist() == [f"{number}.png" for number in range(4)]


def test_import_says_what_it_kept_and_what_comes_next(capsys, project: Path) -> None:
    np.savez("half.npz", sha256=KEYS[:2], vectors=VECTORS[:2])
    np.savez("whole.npz", image_path=["0.png", "1.png", "2.png", "3.png"], vectors=VECTORS)
    assert run(capsys, "import", "half.npz", "--recipe", "clip") == (
        "clip: 2 rows of 8 imported, 0 already there, 2 of 4 images of the manifest covered: import the others too, "
        "the first is 2.png\n"
    )
    assert run(capsys, "import", "whole.npz", "--recipe", "clip") == (
        "clip: 2 rows of 8 imported, 2 already there, 4 of 4 images of the manifest covered: run "
        "`dvc exp run -S extract.recipe=clip`\n"
    )
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("recipe: tiny", "recipe: clip"))
    assert run(capsys, "import", "whole.npz").endswith(" 4 of 4 images of the manifest covered: run `dvc repro`\n")


def test_unknown_paths_are_left_out_on_demand(capsys) -> None:
    np.savez("v.npz", filename=["0.png", "x.png"], vectors=VECTORS[:2])
    assert main(["cache", "import", "v.npz", "--recipe", "clip"]) == 1
    assert "--skip-unknown" in capsys.readouterr().err
    shown = run(capsys, "import", "v.npz", "--recipe", "clip", "--skip-unknown")
    assert shown.startswith("clip: 1 rows of 8 imported, 0 already there, 1 of unknown paths left out, 1 of 4 images")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pin", "no"], "there is no recipe 'no': choose one of tiny, clip"),
        (["pin", "clip"], "no backbone to pin"),
        (["pin", "--params", "no.yaml"], "no.yaml is not found"),
        (["export", "out.csv"], "out.csv ends neither"),
        (["export", "out.parquet"], "features/tiny.h5 is not found"),
        (["export", "out.parquet", "--recipe", "no"], "there is no recipe 'no'"),
        (["import", "no.parquet", "--recipe", "clip"], "no.parquet is not found"),
        (["import", "no.parquet"], "the features of tiny are computed"),
    ],
)
def test_a_users_error_is_one_line_and_leaves_nothing(arguments, message, project: Path, capsys) -> None:
    before = sorted(project.rglob("*"))
    assert main(["cache", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert sorted(project.rglob("*")) == before
