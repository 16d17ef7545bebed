"""The project as a wheel: in an environment that knows no clone it trains, evaluates and scores."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

pytestmark = [pytest.mark.integration]


def run(command: list[str], folder: Path) -> str:
    """Run a command in a folder without anything of the clone in its environment, and return its output."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def mirip(tmp_path_factory: pytest.TempPathFactory, project_root: Path) -> Path:
    """The command `mirip` of an environment that holds the wheel; what mirip needs is lent by this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a build leaves files beside pyproject.toml
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        if (project_root / name).is_file():
            shutil.copy(project_root / name, source)
    shutil.copytree(project_root / "mirip", source / "mirip", ignore=shutil.ignore_patterns("__pycache__"))
    run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(source)],
        folder,
    )
    (wheel,) = folder.glob("mirip-*.whl")
    run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], folder)
    scripts = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    packages = Path(
        run(
            [str(scripts / "python"), "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"], folder
        ).strip()
    )
    # A folder named in a .pth file is searched last, and its own .pth files are not read: the clone stays unknown.
    (packages / "lent.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    pip = [str(scripts / "python"), "-m", "pip", "install", "-q", "--no-deps", "--ignore-installed", str(wheel)]
    run(pip, folder)
    return scripts / "mirip"


@pytest.fixture
def desk(tmp_path: Path, dinov2: Path) -> Path:
    """An empty folder but for some images, a table and a small backbone."""
    rng = np.random.default_rng(0)
    rows = []
    for folder in ("artworks", "exam"):
        (tmp_path / folder).mkdir()
    for number in range(90):
        tier = number % 3
        pixels = np.clip(rng.integers(0, 90, (24, 32, 3)) + 60 * tier, 0, 255).astype(np.uint8)
        folder = "exam" if number >= 72 else "artworks"
        Image.fromarray(pixels).save(tmp_path / folder / f"{number}.png")
        rows.append((folder, f"{number}.png", "BAS"[tier]))
    for folder in ("artworks", "exam"):
        table = pd.DataFrame([row[1:] for row in rows if row[0] == folder], columns=["filename", "tier"])
        table.to_csv(tmp_path / f"{folder}.csv", index=False)
    recipe = {"backbone": str(dinov2), "image_size": 28, "compute_dtype": "float32"}
    params = {
        "data": {"images": "artworks", "metadata": "artworks.csv", "tiers": ["S", "A", "B"]},
        "recipes": {"tiny": recipe},
        "extract": {"recipe": "tiny"},
        "train": {"max_epochs": 8, "learning_rate": 0.003},
        "evaluate": {"n_bootstrap": 200},
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    return tmp_path


def test_the_wheel_holds_the_package_alone(mirip: Path, tmp_path: Path) -> None:
    script = "import mirip, importlib.util as u; print(mirip.__file__, u.find_spec('stages'), u.find_spec('tests'))"
    said = run([str(mirip.with_name("python")), "-c", script], tmp_path).split()
    assert Path(said[0]).is_relative_to(mirip.parents[1])
    assert said[1:] == ["None", "None"]
    assert run([str(mirip), "--version"], tmp_path).startswith("mirip ")


def test_it_trains_evaluates_and_scores_in_an_empty_folder(mirip: Path, desk: Path) -> None:
    tiers = ["--tiers", "S", "A", "B"]
    trained = run(
        [str(mirip), *"train --data artworks --metadata artworks.csv --output run --no-tracking".split(), *tiers],
        desk,
    )
    assert "pairwise accuracy" in trained
    checkpoint = ["--checkpoint", "run/best_model.pt"]
    run(
        [str(mirip), "evaluate", *checkpoint, "--data", "exam", "--metadata", "exam.csv", *tiers, "--output", "e.json"],
        desk,
    )
    assert json.loads((desk / "e.json").read_text())["n_images"] == 18
    scored = run([str(mirip), "score", "exam/74.png", "exam/75.png", *checkpoint], desk)
    assert len(scored.splitlines()) == 2
