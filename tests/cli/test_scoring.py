"""`mirip score | rank | compare`: what is printed for people and for programs, and what is refused."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_checkpoint import write_checkpoint
from PIL import Image

from mirip.cli.main import main
from mirip.features.backbones.backbone import DINOv2FeatureExtractor
from mirip.files import sha256_file
from mirip.models.checkpoint import load_checkpoint, save_checkpoint
from mirip.models.trained_ranker import TrainedRanker
from mirip.params import Recipe

Command = Callable[..., tuple[int, str, str]]
COMMANDS = ("score", "rank", "compare")


@pytest.fixture(scope="module")
def desk(dinov2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model that knows one context, three images and a file that is none."""
    folder = tmp_path_factory.mktemp("desk")
    recipe = Recipe(backbone=str(dinov2), image_size=28, compute_dtype="float32")
    dim = DINOv2FeatureExtractor.from_recipe(recipe, "cpu").embedding_dim
    made = load_checkpoint(write_checkpoint(folder / "made.pt", dim=dim, recipe=recipe))
    of_best = [value + 100 for value in made.score_percentiles]
    save_checkpoint(folder / "model.pt", replace(made, context_percentiles={"oil": of_best, "": of_best}))
    for name in "abc":
        coarse = np.random.default_rng(ord(name)).integers(256, size=(4, 6, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((60, 40)).save(folder / f"{name}.png")
    (folder / "bad.png").write_bytes(b"not an image")
    return folder


@pytest.fixture
def run(desk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """What runs a command there: its exit code, and what it printed."""
    monkeypatch.chdir(desk)

    def command(*arguments: str) -> tuple[int, str, str]:
        code = main([*arguments, "--checkpoint", "model.pt", "--device", "cpu"])
        return code, *capsys.readouterr()

    return command


def as_json(printed: tuple[int, str, str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(printed[1])
    return found


@pytest.mark.slow
def test_to_score_imports_only_what_it_needs(desk: Path, project_root: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "mirip", "score", "a.png", "--checkpoint", "model.pt"]
    here = {**os.environ, "PYTHONPATH": str(project_root)}
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=desk, env=here)
    imported = {line.split("|")[-1].strip() for line in shown.stderr.splitlines()}
    assert "torch" in imported
    assert not imported & {"transformers", "pandas", "scipy", "sklearn", "h5py", "mlflow", "filelock", "ruamel.yaml"}


def test_an_order_has_its_pairs(run: Command, desk: Path) -> None:
    found = as_json(run("rank", "a.png", "bad.png", "b.png", "c.png", "--json"))
    score = {image["path"]: image["score"] for image in found["images"]}
    ranker = TrainedRanker.from_checkpoint(desk / "model.pt", device="cpu")
    assert [(pair["a"], pair["b"]) for pair in found["pairs"]] == [
        ("a.png", "b.png"), ("a.png", "c.png"), ("b.png", "c.png"),
    ]  # fmt: skip
    for pair in found["pairs"]:
        chance = ranker.win_probability(score[pair["a"]], score[pair["b"]])
        assert pair["p_a_is_better"] == pytest.approx(chance)
        better = pair["a"] if chance >= 0.5 else pair["b"]
        assert pair["better"] == (better if max(chance, 1 - chance) >= found["min_confidence"] else None)


def test_the_pairs_of_very_many_images_are_left_out(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mirip.cli.scoring._MOST_IN_PAIRS", 2)
    assert len(as_json(run("rank", "a.png", "b.png", "--json"))["pairs"]) == 1
    assert as_json(run("rank", "a.png", "b.png", "c.png", "--json"))["pairs"] is None


def test_of_two_images_of_which_one_is_bad_the_other_has_its_result(run: Command) -> None:
    for images in (["a.png", "bad.png"], ["bad.png", "a.png"]):
        code, out, err = run("compare", *images, "--json")
        found = json.loads(out)
        assert code == 1
        assert [image["path"] for image in found["images"]] == ["a.png"]
        assert [(image["path"], image["kind"]) for image in found["left_out"]] == [("bad.png", "not_an_image")]
        assert (found["pairs"], found["min_confidence"]) == ([], 0.6)
        assert err.startswith("left out: bad.png ")
    code, out, _ = run("compare", "a.png", "bad.png")
    assert (code, len(out.splitlines())) == (1, 1)


def test_a_comparison_is_printed_as_csv_too(run: Command) -> None:
    (pair,) = as_json(run("compare", "a.png", "b.png", "--json"))["pairs"]
    code, out, _ = run("compare", "a.png", "b.png", "--csv")
    table = pd.read_csv(StringIO(out))
    assert code == 0
    assert table["path"].tolist() == ["a.png", "b.png"]
    assert table["p_is_better"].tolist() == pytest.approx([pair["p_a_is_better"], 1 - pair["p_a_is_better"]])
    is_better = [pair["better"] == path if pair["better"] else None for path in ("a.png", "b.png")]
    assert [None if pd.isna(value) else bool(value) for value in table["is_better"]] == is_better
    code, out, _ = run("compare", "a.png", "bad.png", "--csv")
    assert (code, pd.read_csv(StringIO(out))["path"].tolist()) == (1, ["a.png"])


@pytest.mark.parametrize("command", COMMANDS)
def test_percentiles_are_those_of_a_context_where_one_is_given(run: Command, command: str) -> None:
    def percentiles(*context: str) -> list[float]:
        return [image["percentile"] for image in as_json(run(command, "a.png", "b.png", "--json", *context))["images"]]

    assert percentiles("--context", "oil") == [0, 0]
    assert percentiles() != [0, 0]
    assert percentiles("--context", "") == percentiles()
    assert "    0 %" not in run(command, "a.png", "b.png")[1]
    assert run(command, "a.png", "b.png", "--context", "oil")[1].count("    0 %") == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_a_context_that_the_model_does_not_know_is_told_before_anything_else(
    run: Command, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrainedRanker, "prepare", None)
    monkeypatch.setattr(DINOv2FeatureExtractor, "load", None)
    code, out, err = run(command, "a.png", "bad.png", "--csv", "--context", "ink")
    assert (code, out) == (1, "")
    assert err == "error: the model knows too few images of context 'ink' to compare with: it knows enough of: oil\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_json_names_the_model(run: Command, desk: Path, command: str) -> None:
    model = as_json(run(command, "a.png", "b.png", "--json"))["model"]
    assert model["version"] == sha256_file(desk / "model.pt")[:12]
    assert model["fingerprint"] == load_checkpoint(desk / "model.pt").fingerprint
