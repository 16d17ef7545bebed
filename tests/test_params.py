"""params.yaml: what is valid is read, what is not is said in one line."""

import os
from pathlib import Path
from typing import get_args

import pytest
import yaml
from pydantic import ValidationError

from mirip.errors import ParamsError
from mirip.params import RECIPES, Params, Recipe, TrainParams, load_params, override_params

*FIRST, LAST = map(repr, get_args(TrainParams.model_fields["loss"].annotation))
LOSSES = f"{', '.join(FIRST)} or {LAST}"


@pytest.fixture
def values(project_root: Path) -> dict:
    return yaml.safe_load((project_root / "params.yaml").read_text())


def load(values: dict, tmp_path: Path) -> Params:
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return load_params(path)


def test_the_projects_own_file_is_valid_and_spells_every_key_out(values, tmp_path) -> None:
    params = load(values, tmp_path)
    for name, section in params:
        if name != "recipes":
            assert set(values[name]) == set(type(section).model_fields), name


def test_a_param_of_an_earlier_version_that_has_no_effect_any_more_is_left_out(values, tmp_path) -> None:
    values["audit"]["folds"] = 5
    assert not hasattr(load(values, tmp_path).audit, "folds")


def test_the_active_recipe_decides_the_features_file(values, tmp_path) -> None:
    values["extract"]["recipe"] = "dinov2-large"
    params = load(values, tmp_path)
    assert params.recipe.backbone == "facebook/dinov2-large"
    assert params.features_path == Path("features/dinov2-large.h5")


def test_a_new_recipe_needs_no_more_than_its_backbone(values, tmp_path) -> None:
    values["recipes"]["mine"] = {"backbone": "some/folder"}
    assert load(values, tmp_path).recipes["mine"] == Recipe(backbone="some/folder")
    assert Recipe().image_size == 768


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("train", "learnin_rate", 1), r"unknown key train\.learnin_rate: valid keys here are seed, seeds, members, "),
        (
            ("recipes", "sample", {"size": 3}),
            r"unknown key recipes\.sample\.size: valid keys here are backbone, revision",
        ),
        (("recipes", "fit", {"backbon": "x"}), r"unknown key recipes\.fit\.backbon: valid keys here are backbone, "),
        (("split", "train", 0), r"split\.train: .*greater than 0"),
        (("train", "learning_rate", -1), r"train\.learning_rate: .*greater than 0.*got -1"),
        (("train", "loss", "hinge"), rf"train\.loss: .*{LOSSES}.*got 'hinge'"),
        (("train", "head", {"depth": 3}), r"unknown key train\.head\.depth: valid keys here are hidden_dim"),
        (("split", "train", 0.9), r"must add up to 1, got 0\.9 \+ 0\.1 \+ 0\.1"),
        (("data", "tiers", ["S", "S"]), r"tiers must differ"),
        (
            ("recipes", "clip", {"backbone": "import:c", "revision": "main"}),
            r"recipes\.clip: revision 'main' has no mean",
        ),
        (
            ("recipes", "clip", {"backbone": "import:c", "weights_sha256": "0" * 64}),
            r"weights_sha256 .* has no meaning",
        ),
        (("recipes", "clip", {"backbone": "import:c", "image_size": 224}), r"image_size 224 has no .*: leave it out"),
        (("recipes", "clip", {"backbone": "import:"}), r"'import:' names no model: write import:<model and version>"),
        (("extract", "recipe", "nope"), r"'nope', which is not among recipes: choose one of sample, dinov2-small"),
    ],
)
def test_a_wrong_value_is_one_line_that_says_what_is_right(values, tmp_path, change, message) -> None:
    section, key, value = change
    values[section][key] = value
    with pytest.raises(ParamsError, match=message) as error:
        load(values, tmp_path)
    assert "\n" not in str(error.value)


def test_a_recipe_of_imported_features_has_a_name_and_a_dtype(values, tmp_path) -> None:
    values["recipes"]["clip"] = {"backbone": "import:clip-v1", "stored_dtype": "float32"}
    params = load(values, tmp_path)
    assert params.named_recipe("clip").imported
    assert not params.named_recipe("sample").imported
    with pytest.raises(ParamsError, match="there is no recipe 'no': choose one of sample, dinov2-small"):
        params.named_recipe("no")


def test_names_may_be_null_one_or_many(values, tmp_path) -> None:
    values["data"]["group"] = None
    values["data"]["context"] = "theme"
    data = load(values, tmp_path).data
    assert data.group == ()
    assert data.context == ("theme",)


def test_a_missing_or_broken_file_is_one_line(tmp_path) -> None:
    with pytest.raises(ParamsError, match="run from the project's root"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("a: [")
    with pytest.raises(ParamsError, match="not valid YAML"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("just text")
    with pytest.raises(ParamsError, match="not sections"):
        load_params(tmp_path / "params.yaml")


def test_options_start_from_the_products_defaults_where_there_is_no_file() -> None:
    params = override_params(None, {"data.images": "i", "data.metadata": "m", "train.seed": 7})
    assert params.train.seed == 7
    assert params.recipe.backbone == "facebook/dinov2-large"


def test_the_products_own_recipes_are_those_of_the_projects_file(values, tmp_path) -> None:
    recipes = load(values, tmp_path).recipes
    assert {name: recipes[name] for name in RECIPES} == RECIPES


def test_an_empty_section_takes_the_options_and_a_misplaced_value_is_said(tmp_path) -> None:
    (tmp_path / "p.yaml").write_text("data:\nextract:\n")
    changes = {"data.images": "i", "data.metadata": "m", "extract.batch_size": 3}
    assert override_params(tmp_path / "p.yaml", changes).extract.batch_size == 3
    (tmp_path / "p.yaml").write_text("data: photos")
    with pytest.raises(ParamsError, match="data is 'photos', expected a section"):
        override_params(tmp_path / "p.yaml", changes)


def test_params_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Recipe().image_size = 3


@pytest.mark.parametrize("tiers", [[1, 2, 3], [1.0, 2.0, 3.0], ["1", " 2", "3"]])
def test_tiers_of_numbers_need_no_quotes(tiers: list[object]) -> None:
    params = override_params(None, {"data.images": "a", "data.metadata": "b", "data.tiers": tiers})
    assert params.data.tiers == ("1", "2", "3")


@pytest.mark.parametrize("tiers", [["1", "1.0"], [1, 1.0], ["\uac00", "\u1100\u1161"]])
def test_tiers_that_are_the_same_in_a_table_are_refused(tiers: list[object]) -> None:
    with pytest.raises(ParamsError, match=r"data\.tiers: tiers must differ.*name each tier once"):
        override_params(None, {"data.images": "a", "data.metadata": "b", "data.tiers": tiers})


@pytest.mark.parametrize("section", ["split", "train", "evaluate", "audit", "sample"])
@pytest.mark.parametrize("seed", [-1, 2**32, 10**20])
def test_a_seed_that_no_generator_takes_is_refused(section: str, seed: int) -> None:
    with pytest.raises(ParamsError, match=rf"{section}\.seed"):
        override_params(None, {"data.images": "a", "data.metadata": "b", f"{section}.seed": seed})


def test_a_params_file_that_is_a_pipe_or_a_folder_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(ParamsError, match="is a folder or a device, not a file"):
            load_params(path)


def test_a_tier_that_yaml_reads_as_a_truth_value_asks_for_quotes() -> None:
    with pytest.raises(ParamsError, match="True is not text: put the names in quotes"):
        override_params(None, {"data.images": "a", "data.metadata": "b", "data.tiers": [True, False]})


def test_names_are_compared_in_one_unicode_form() -> None:
    nfd = "\u1100\u1161"
    changes = {
        "data.images": "a",
        "data.metadata": "b",
        "data.group": nfd,
        "audit.ignore": [nfd],
        "data.tiers": [nfd, "B"],
    }
    params = override_params(None, changes)
    assert params.data.group == params.audit.ignore == ("\uac00",)
    assert params.data.tiers == ("\uac00", "B")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("s3://bucket/prefix", "s3://bucket/prefix"),
        ("images.parquet", Path("images.parquet")),
        ("/a//b", Path("/a/b")),
        (Path("c"), Path("c")),
    ],
)
def test_a_url_stays_as_it_is_and_anything_else_is_a_path(given: Path | str, expected: Path | str) -> None:
    params = override_params(None, {"data.images": given, "data.metadata": "m"})
    assert params.data.images == expected
    assert type(params.data.images) is type(expected)
    assert params.model_dump(mode="json")["data"]["images"] == str(expected)
