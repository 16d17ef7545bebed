"""The model that takes images scores them as Mirip itself does."""

import base64
import json
import os
import shutil
import subprocess
import sys
import urllib.request
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from local_servers import free_port, wait_for
from made_checkpoint import write_checkpoint
from mlflow_store import kill
from PIL import Image

from mirip.cli.main import main
from mirip.models.ranking import PairwiseRankingModel
from mirip.params import Recipe
from mirip.tracking import image_model
from mirip.tracking.image_model import export_image_model


@pytest.fixture
def images(tmp_path: Path, dinov2: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with models/best_model.pt and three images of different shapes."""
    monkeypatch.chdir(tmp_path)
    recipe = Recipe(backbone=str(dinov2), image_size=28, compute_dtype="float32")
    write_checkpoint(tmp_path / "models/best_model.pt", dim=32, recipe=recipe)
    for k, shape in enumerate([(40, 50, 3), (60, 30, 3), (28, 28, 3)]):
        pixels = np.random.default_rng(k).integers(0, 256, shape, dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{k}.jpg", quality=90)
    return tmp_path


def load(folder: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow

        return mlflow.pyfunc.load_model(str(folder))


def test_bytes_and_paths_are_scored_as_files_are(images: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "model", "--paths"]) == 0
    printed = capfd.readouterr()
    assert printed.out.startswith("model: with its backbone, ")
    assert printed.err == ""
    files = [images / f"{k}.jpg" for k in range(3)]
    expected = PairwiseRankingModel.from_checkpoint(images / "models/best_model.pt").score_images(files)
    model = load(images / "model")
    for column, values in (("image", [path.read_bytes() for path in files]), ("path", [str(path) for path in files])):
        assert model.predict(pd.DataFrame({column: values}))["score"].tolist() == expected


def test_a_small_backbone_travels_along(images: Path, make_dinov2: Any) -> None:
    make_dinov2(images / "backbone")
    expected = load_and_score(images)
    shutil.rmtree(images / "backbone")
    assert load(images / "model").predict(pd.DataFrame({"path": [str(images / "0.jpg")]}))["score"].tolist() == expected


def load_and_score(images: Path) -> list[float]:
    recipe = Recipe(backbone="backbone", image_size=28, compute_dtype="float32")
    write_checkpoint(images / "models/best_model.pt", dim=32, recipe=recipe)
    export_image_model(images / "model", images / "models/best_model.pt", paths=True)
    return PairwiseRankingModel.from_checkpoint(images / "models/best_model.pt").score_images([images / "0.jpg"])


def test_a_large_backbone_is_read_from_its_own_folder(images: Path, dinov2: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(image_model, "_MAX_COPIED_BYTES", 1000)
    words = export_image_model(images / "model", images / "models/best_model.pt", paths=True)
    assert words.endswith(f"too large to copy: it is read from {dinov2.resolve()}")
    assert not (images / "model/artifacts/dinov2").exists()
    assert len(load(images / "model").predict(pd.DataFrame({"path": [str(images / "0.jpg")]}))) == 1


def test_what_is_no_image_is_said_in_one_line(images: Path) -> None:
    from mlflow.exceptions import MlflowException

    export_image_model(images / "model", images / "models/best_model.pt", paths=True)
    model = load(images / "model")
    with pytest.raises(MlflowException, match="not an image"):
        model.predict(pd.DataFrame({"image": [b"no image"]}))
    with pytest.raises(MlflowException, match=r"nowhere\.jpg cannot be read"):
        model.predict(pd.DataFrame({"path": ["nowhere.jpg"]}))


@pytest.mark.parametrize("image", [None, b"no image"])
def test_no_path_is_looked_at_unless_asked_for(images: Path, image: bytes | None) -> None:
    export_image_model(images / "model", images / "models/best_model.pt")
    model = load(images / "model")
    for path in (str(images / "0.jpg"), "nowhere.jpg"):
        table = pd.DataFrame({"path": [path]} | ({} if image is None else {"image": [image]}))
        with pytest.raises(Exception, match=r"not a table with a column image|not an image"):
            model.predict(table)


def test_input_without_an_image_is_refused(images: Path) -> None:
    export_image_model(images / "model", images / "models/best_model.pt")
    with pytest.raises(Exception, match="not a table with a column image"):
        load(images / "model").predict([str(images / "0.jpg")])


def test_its_example_is_the_request_that_a_server_takes(images: Path) -> None:
    export_image_model(images / "model", images / "models/best_model.pt")
    request = json.loads((images / "model/serving_input_example.json").read_text())
    (first, _) = request["dataframe_split"]["data"]
    assert base64.b64decode(first[0]).startswith(b"\x89PNG")


def test_what_cannot_be_exported_is_one_line(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "models"]) == 1
    assert "models exists already" in capsys.readouterr().err
    write_checkpoint(images / "imported.pt")
    assert main(["export", "out", "--checkpoint", "imported.pt"]) == 1
    assert "features imported from import:made-1" in capsys.readouterr().err
    assert main(["export", "out", "--backbone", "nowhere"]) == 1
    assert "nowhere is not a folder" in capsys.readouterr().err
    assert not (images / "out").exists()


@pytest.mark.slow
@pytest.mark.integration
def test_it_is_served_where_nothing_but_its_requirements_is_installed(
    images: Path, project_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert main(["export", "model"]) == 0
    files = [images / f"{k}.jpg" for k in range(3)]
    expected = PairwiseRankingModel.from_checkpoint(images / "models/best_model.pt").score_images(files)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    python = environment_of(
        images / "model/requirements.txt", project_root / "requirements-dev.txt", elsewhere / "clean"
    )
    clean = {"PATH": f"{python.parent}:/usr/bin:/bin", "HOME": str(elsewhere), "HF_HUB_OFFLINE": "1"}
    alone = subprocess.run([python, "-c", "import mirip"], cwd=elsewhere, env=clean, capture_output=True, check=False)
    assert b"No module named 'mirip'" in alone.stderr
    shutil.move(images / "model", elsewhere / "model")
    port = free_port()
    command = [python, "-m", "mlflow", "models", "serve", "-m", "model", "--env-manager", "local", "--port", str(port)]
    with (elsewhere / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=elsewhere, env=clean, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(f"http://127.0.0.1:{port}/ping", server, elsewhere / "log")
        records = [{"image": base64.b64encode(path.read_bytes()).decode()} for path in files]
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations",
            json.dumps({"dataframe_records": records}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)["predictions"]
    finally:
        kill(server)
    assert [row["score"] for row in answer] == pytest.approx(expected, rel=1e-6)


def environment_of(requirements: Path, lock: Path, folder: Path) -> Path:
    """Make an environment of links to packages that are on this machine, and return its Python."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if uv is None:
        pytest.skip("uv is not installed")
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
    python = folder / "bin/python"
    command = [uv, "pip", "install", "--offline", "--link-mode", "symlink", "--python", str(python)]
    command += ["-r", str(requirements), "-c", str(lock)]
    installed = subprocess.run(command, capture_output=True, text=True, check=False)
    if installed.returncode:
        pytest.skip(f"uv's cache lacks a package: {installed.stderr.strip().splitlines()[0]}")
    return python
