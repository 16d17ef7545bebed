import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from mirip.errors import BackboneError, ParamsError
from mirip.features.backbones.pinning import pin_recipe
from mirip.features.backbones.weights import weights_sha256
from mirip.params import load_params


@pytest.fixture
def params(project_root: Path, dinov2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's own params.yaml, beside a backbone in the place that its recipe `sample` names."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(dinov2, tmp_path / "models/backbones/sample")
    return Path(shutil.copy(project_root / "params.yaml", tmp_path))


def changed_lines(before: str, after: str) -> list[tuple[str, str]]:
    pairs = zip(before.splitlines(), after.splitlines(), strict=True)
    return [pair for pair in pairs if pair[0] != pair[1]]


def test_pinning_other_weights_changes_that_key_alone(params: Path, dinov2: Path) -> None:
    before = params.read_text()
    old, new = load_params(params).recipes["sample"].weights_sha256, weights_sha256(dinov2)
    (pin,) = pin_recipe(params, "sample")
    assert (pin.key, pin.old, pin.new, pin.changes_features) == ("weights_sha256", old, new, True)
    assert changed_lines(before, params.read_text()) == [(f"      {old}", f"      {new}")]
    assert load_params(params).recipes["sample"].weights_sha256 == new


def test_a_second_pin_changes_no_byte_and_does_not_touch_the_file(params: Path) -> None:
    pin_recipe(params, "sample")
    before = params.read_bytes(), params.stat().st_ino
    (pin,) = pin_recipe(params, "sample")
    assert pin.old == pin.new
    assert not pin.changes_features
    assert (params.read_bytes(), params.stat().st_ino) == before


def test_the_file_is_in_the_form_that_dvc_gives_it(params: Path) -> None:
    """`dvc exp run -S` rewrites params.yaml: a pin that it reformats would show up as a change of the user's."""
    from dvc.utils.serialize import modify_yaml

    pin_recipe(params, "sample")
    before = params.read_bytes()
    with modify_yaml(str(params)) as values:
        values["train"]["seed"] = values["train"]["seed"]
    assert params.read_bytes() == before


def test_a_recipe_that_was_not_pinned_gets_the_key_after_its_backbone(params: Path, dinov2: Path) -> None:
    text = (
        "recipes:\n  mine: # my own\n    backbone: models/backbones/sample # a folder\n    image_size: 28 # small\n\n"
    )
    params.write_text(text + "data:\n  images: i\n  metadata: m\nextract:\n  recipe: mine\n")
    (pin,) = pin_recipe(params, "mine")
    assert pin.old is None
    assert not pin.changes_features
    lines = params.read_text().splitlines()
    assert lines[2] == "    backbone: models/backbones/sample # a folder"
    assert lines[3:5] == ["    weights_sha256: ", f"      {weights_sha256(dinov2)}"]
    assert lines[5] == "    image_size: 28 # small"
    assert lines[6:] == ["", "data:", "  images: i", "  metadata: m", "extract:", "  recipe: mine"]


def hub_snapshot(folder: Path, dinov2: Path, cache: Path, commit: str) -> None:
    """Lay a backbone where the Hugging Face client keeps those that it has downloaded."""
    model = cache / "hub/models--mirip-tests--tiny"
    shutil.copytree(dinov2, model / "snapshots" / commit)
    (model / "refs").mkdir()
    (model / "refs/main").write_text(commit)


def test_a_hub_backbone_is_pinned_by_its_commit(params: Path, dinov2: Path, tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    hub_snapshot(tmp_path, dinov2, tmp_path / "hf", commit)
    text = params.read_text().replace(
        "recipes: #", "recipes:\n  tiny:\n    backbone: mirip-tests/tiny\n    # end\nx: #"
    )
    lines = [line for line in text.splitlines() if not line.startswith("x: #")]
    params.write_text("\n".join(lines) + "\n")
    code = "from mirip.features.backbones.pinning import pin_recipe; print(pin_recipe('params.yaml', 'tiny'))"
    environment = {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", "DVC_ROOT": str(tmp_path)}
    run_python(code, environment)
    declared = yaml.safe_load(params.read_text())["recipes"]["tiny"]
    assert declared == {"backbone": "mirip-tests/tiny", "revision": commit}


def run_python(code: str, environment: dict[str, str]) -> str:
    import os
    import sys

    result = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_a_backbone_that_is_nowhere_leaves_the_file_as_it_is(params: Path) -> None:
    shutil.rmtree("models")
    before = params.read_bytes()
    with pytest.raises(BackboneError, match="models/backbones/sample"):
        pin_recipe(params, "sample")
    assert params.read_bytes() == before


def test_what_cannot_be_pinned_is_said(params: Path) -> None:
    with pytest.raises(ParamsError, match="there is no recipe 'no': choose one of sample, dinov2-small"):
        pin_recipe(params, "no")
    params.write_text(
        "data: {images: i, metadata: m}\nrecipes: {clip: {backbone: 'import:clip'}}\nextract: {recipe: clip}\n"
    )
    with pytest.raises(ParamsError, match="clip has no backbone to pin, its features are imported"):
        pin_recipe(params, "clip")
    params.write_text("data: {images: i, metadata: m}\n")
    with pytest.raises(ParamsError, match=r"params.yaml does not list the recipe dinov2-small, a default"):
        pin_recipe(params, "dinov2-small")
