import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mirip.errors import BackboneError
from mirip.features.backbones import recipe as recipe_module
from mirip.features.backbones.recipe import (
    READ_OF_REWRITTEN,
    declared_recipe,
    find_differences,
    fingerprint,
    first_decisive_difference,
    resolve,
)
from mirip.files import canonical_json, sha256_bytes
from mirip.params import Recipe

CHANGES: dict[str, Any] = {
    "image_size": 42,
    "fit": "squash",
    "interpolation": "bilinear",
    "pooling": "mean",
    "normalize": "l2",
    "compute_dtype": "bfloat16",
    "stored_dtype": "float32",
}


def differences(declared: Recipe, stored: dict[str, Any]) -> list[str]:
    return [str(difference) for difference in find_differences(declared, stored)]


def test_every_field_of_a_recipe_has_a_case_here() -> None:
    """Those of the backbone have tests of their own: its folder's weights, a hub's id and commit, a pin."""
    assert CHANGES.keys() | {"backbone", "revision", "weights_sha256"} == Recipe.model_fields.keys()


@pytest.mark.parametrize(("name", "value"), CHANGES.items())
def test_every_field_that_decides_a_value_changes_the_fingerprint_and_is_named(
    recipe: Recipe, name: str, value: object
) -> None:
    changed = recipe.model_copy(update={name: value})
    assert resolve(changed).fingerprint != resolve(recipe).fingerprint
    said = differences(changed, resolve(recipe).to_dict())
    assert f"{name}: cache {getattr(recipe, name)}, params {value}" in said


def test_two_stored_recipes_are_told_apart_by_what_decides(recipe: Recipe, other_dinov2: Path, tmp_path: Path) -> None:
    mine = resolve(recipe).to_dict()
    other = resolve(recipe.model_copy(update={"backbone": str(other_dinov2), "image_size": 41})).to_dict()
    expected = ("weights_sha256", mine["weights_sha256"], other["weights_sha256"])
    assert first_decisive_difference(mine, other) == expected
    older = {name: value for name, value in mine.items() if name != "padding"}
    assert first_decisive_difference(older, mine) == ("padding", None, "mean")


def test_the_same_recipe_has_no_differences(recipe: Recipe) -> None:
    assert differences(recipe, resolve(recipe).to_dict()) == []


def test_a_recipe_survives_its_json(recipe: Recipe) -> None:
    resolved = resolve(recipe)
    stored = json.loads(json.dumps(resolved.to_dict()))
    assert fingerprint(stored) == resolved.fingerprint
    assert differences(recipe, stored) == []
    declared = Recipe(**{name: stored[name] for name in Recipe.model_fields})
    assert declared.weights_sha256 == resolved.weights_sha256


def test_the_place_of_a_backbone_does_not_matter(recipe: Recipe, dinov2: Path, tmp_path: Path) -> None:
    moved = recipe.model_copy(update={"backbone": str(shutil.copytree(dinov2, tmp_path / "elsewhere"))})
    assert resolve(moved).fingerprint == resolve(recipe).fingerprint
    assert differences(moved, resolve(recipe).to_dict()) == []


def test_other_weights_make_another_fingerprint(recipe: Recipe, other_dinov2: Path) -> None:
    other = recipe.model_copy(update={"backbone": str(other_dinov2)})
    assert resolve(other).fingerprint != resolve(recipe).fingerprint
    assert differences(other, resolve(recipe).to_dict())[0].startswith("weights_sha256: cache ")


def test_an_unpinned_folder_that_is_not_here_is_told_by_its_name(recipe: Recipe) -> None:
    stored = resolve(recipe).to_dict()
    absent = recipe.model_copy(update={"backbone": "models/backbones/absent"})
    assert differences(absent, stored) == [f"backbone: cache {recipe.backbone}, params models/backbones/absent"]


def test_pinned_weights_are_told_without_the_backbone(recipe: Recipe) -> None:
    stored = resolve(recipe).to_dict()
    absent = recipe.model_copy(update={"backbone": "a/b/c", "weights_sha256": stored["weights_sha256"]})
    assert differences(absent, stored) == []
    other = absent.model_copy(update={"weights_sha256": "0" * 64})
    assert differences(other, stored) == [
        f"weights_sha256: cache {stored['weights_sha256']}, params {'0' * 64}",
    ]


def test_hub_backbones_are_told_by_id_and_commit(recipe: Recipe) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    stored = resolve(recipe).to_dict() | {"backbone": "facebook/dinov2-large", "revision": commit}
    hub = recipe.model_copy(update={"backbone": "facebook/dinov2-large"})
    assert differences(hub, stored) == []
    assert differences(hub.model_copy(update={"revision": commit}), stored) == []
    assert differences(hub.model_copy(update={"revision": "main"}), stored) == []  # not to be known from here
    other = hub.model_copy(update={"revision": "f" * 40})
    assert differences(other, stored) == [f"revision: cache {commit}, params {'f' * 40}"]
    base = hub.model_copy(update={"backbone": "facebook/dinov2-base"})
    assert differences(base, stored) == ["backbone: cache facebook/dinov2-large, params facebook/dinov2-base"]


def test_features_of_an_older_extractor_are_told(recipe: Recipe) -> None:
    stored = resolve(recipe).to_dict() | {"extractor_version": 0}
    assert any(line.startswith("extractor_version: cache 0") for line in differences(recipe, stored))


def test_pinned_weights_must_match(recipe: Recipe) -> None:
    found = resolve(recipe).weights_sha256
    assert resolve(recipe.model_copy(update={"weights_sha256": found})).weights_sha256 == found
    with pytest.raises(BackboneError, match=rf"{found}.*pins {'0' * 64}: restore the weights"):
        resolve(recipe.model_copy(update={"weights_sha256": "0" * 64}))


@pytest.mark.parametrize(("image_size", "size_px"), [(28, 28), (41, 28), (42, 42), (768, 756)])
def test_the_backbone_sees_whole_patches(recipe: Recipe, image_size: int, size_px: int) -> None:
    assert resolve(recipe.model_copy(update={"image_size": image_size})).size_px == size_px


def test_a_patch_larger_than_the_image_is_refused(recipe: Recipe, dinov2: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(dinov2, tmp_path / "coarse")
    config = json.loads((folder / "config.json").read_text()) | {"patch_size": 32}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(BackboneError, match="patch_size 32 and the recipe image_size 28"):
        resolve(recipe.model_copy(update={"backbone": str(folder)}))


def test_mean_and_deviation_are_the_backbones_own(recipe: Recipe, dinov2: Path, tmp_path: Path) -> None:
    assert resolve(recipe).mean_std_source == "ImageNet"
    folder = shutil.copytree(dinov2, tmp_path / "own")
    settings = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    own = recipe.model_copy(update={"backbone": str(folder)})
    found = resolve(own)
    assert (found.mean, found.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert found.mean_std_source == "preprocessor_config.json"
    assert any(line.startswith("mean: cache") for line in differences(own, resolve(recipe).to_dict()))


@pytest.mark.parametrize(
    ("settings", "mean"),
    [({"do_normalize": False}, (0.0, 0.0, 0.0)), ({"image_mean": None, "image_std": None}, (0.485, 0.456, 0.406))],
)
def test_a_preprocessor_may_normalise_nothing_or_name_no_values(
    recipe: Recipe, dinov2: Path, tmp_path: Path, settings: dict[str, Any], mean: tuple[float, ...]
) -> None:
    folder = shutil.copytree(dinov2, tmp_path / "own")
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    assert resolve(recipe.model_copy(update={"backbone": str(folder)})).mean == mean


def test_a_preprocessor_with_another_scale_of_pixels_is_refused(recipe: Recipe, dinov2: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(dinov2, tmp_path / "own")
    (folder / "preprocessor_config.json").write_text(json.dumps({"rescale_factor": 1.0}))
    with pytest.raises(BackboneError, match=r"has rescale_factor 1\.0: only 1/255 is supported"):
        resolve(recipe.model_copy(update={"backbone": str(folder)}))


@pytest.mark.parametrize(
    "settings",
    [
        {"do_rescale": False},
        {"do_rescale": None},
        {"do_rescale": "false"},
        {"rescale_offset": True},
        {"do_flip_channel_order": True},
        {"rescale_factor": "1/255"},
        {"do_normalize": False, "rescale_factor": 1.0},
        {"image_mean": [0.5] * 3, "image_std": [0.5, 0.0, 0.5]},
        {"image_mean": ["a"] * 3, "image_std": [0.5] * 3},
        {"image_mean": [0.5] * 3, "image_std": [float("nan")] * 3},
    ],
    ids=str,
)
def test_a_preprocessor_that_asks_for_other_values_is_refused(
    recipe: Recipe, dinov2: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    folder = shutil.copytree(dinov2, tmp_path / "own")
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    with pytest.raises(BackboneError, match=r"own/preprocessor_config\.json has "):
        resolve(recipe.model_copy(update={"backbone": str(folder)}))


def test_a_preprocessor_may_say_what_is_done_anyway(recipe: Recipe, dinov2: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(dinov2, tmp_path / "own")
    said = {"do_rescale": True, "do_convert_rgb": False, "rescale_offset": None, "rescale_factor": 1 / 255}
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    assert resolve(recipe.model_copy(update={"backbone": str(folder)})).fingerprint == resolve(recipe).fingerprint


def test_a_note_on_the_library_in_a_config_changes_nothing(recipe: Recipe, dinov2: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(dinov2, tmp_path / "saved_again")
    config = json.loads((folder / "config.json").read_text()) | {"transformers_version": "99"}
    (folder / "config.json").write_text(json.dumps(config))
    again = resolve(recipe.model_copy(update={"backbone": str(folder)}))
    assert again.fingerprint == resolve(recipe).fingerprint


WITHOUT_EFFECT = {
    "architectures": ["Other"], "torch_dtype": "bfloat16", "dtype": "float16", "use_cache": False,
    "id2label": {"0": "a"}, "label2id": {"a": 0}, "transformers_version": "99", "_name_or_path": "elsewhere",
    "hidden_dropout_prob": 0.1, "drop_path_rate": 0.1, "output_hidden_states": True, "license": "mine",
    "out_features": ["stage2"], "apply_layernorm": False, "a_key_of_next_year": 1,
}  # fmt: skip


@pytest.fixture
def own(recipe: Recipe, dinov2: Path, tmp_path: Path) -> Recipe:
    """The recipe of a copy of the backbone."""
    return recipe.model_copy(update={"backbone": str(shutil.copytree(dinov2, tmp_path / "own"))})


def edit_config(recipe: Recipe, **changes: Any) -> None:
    path = Path(recipe.backbone) / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("name", WITHOUT_EFFECT)
def test_a_key_of_the_config_that_changes_no_value_changes_no_fingerprint(own: Recipe, name: str) -> None:
    before = resolve(own)
    edit_config(own, **{name: WITHOUT_EFFECT[name]})
    assert resolve(own) == before
    edit_config(own, layer_norm_eps=1e-5)
    changed = resolve(own).fingerprint
    assert changed != before.fingerprint
    edit_config(own, layer_norm_eps=1e-6, **WITHOUT_EFFECT)
    assert resolve(own) == before


def test_a_config_that_is_saved_again_by_the_library_changes_no_fingerprint(own: Recipe) -> None:
    from transformers import AutoConfig

    path = Path(own.backbone) / "config.json"
    few = {
        key: value for key, value in json.loads(path.read_text()).items() if key in ("model_type", *READ_OF_REWRITTEN)
    }
    path.write_text(json.dumps(few))  # as an earlier version may have written it
    before = resolve(own)
    AutoConfig.from_pretrained(own.backbone).save_pretrained(own.backbone)
    assert len(json.loads(path.read_text())) > len(few)
    assert resolve(own) == before


@pytest.mark.parametrize("name", [name for name in READ_OF_REWRITTEN if name not in ("hidden_act", "num_channels")])
def test_each_key_that_the_rewritten_backbone_reads_changes_the_fingerprint(own: Recipe, name: str) -> None:
    before = resolve(own)
    edit_config(own, **{name: 7})
    assert resolve(own).config_sha256 != before.config_sha256


def test_a_config_alone_has_the_fingerprint_that_it_always_had(own: Recipe) -> None:
    config = json.loads((Path(own.backbone) / "config.json").read_text())
    del config["transformers_version"]
    for _ in range(2):
        assert resolve(own).config_sha256 == sha256_bytes(canonical_json(config).encode())


@pytest.mark.parametrize("damaged", ["", "[]", "null", "{}", "a digit", "[" * 100_000])
def test_a_damaged_memory_of_configs_is_replaced(own: Recipe, main_repository: Path, damaged: str) -> None:
    before = resolve(own)
    (memory,) = (main_repository / ".mirip" / "configs").iterdir()
    text = memory.read_text()
    wrong = text.replace(before.config_sha256, before.config_sha256[::-1])
    memory.write_text(wrong if damaged == "a digit" else damaged)
    assert resolve(own) == before
    assert memory.read_text() == text


def test_architectures_count_where_transformers_chooses_a_model_by_them() -> None:
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    chosen = {name for name, models in MODEL_MAPPING_NAMES.items() if not isinstance(models, str)}
    assert chosen <= recipe_module._CHOSEN_BY_ARCHITECTURE


def test_native_needs_patches(mobilenet: Path) -> None:
    with pytest.raises(BackboneError, match="fit native needs a backbone of patches"):
        resolve(Recipe(backbone=str(mobilenet), fit="native"))


def test_a_real_backbone_is_resolved(mobilenet: Path) -> None:
    found = resolve(Recipe(backbone=str(mobilenet), image_size=224))
    assert (found.model_type, found.size_px, found.mean) == ("mobilenet_v1", 224, (0.5, 0.5, 0.5))


def test_a_recipe_is_resolved_without_torch(recipe: Recipe, project_root: Path) -> None:
    code = (
        "import sys; from mirip.features.backbones.recipe import resolve; from mirip.params import Recipe; "
        f"resolve(Recipe(backbone={recipe.backbone!r})); print('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=project_root)
    assert result.stdout.strip() == "False"


CLIP = Recipe(backbone="import:clip-v1")


def test_imported_features_are_told_by_their_name_and_dtype(recipe: Recipe) -> None:
    stored = json.loads(json.dumps(resolve(CLIP).to_dict()))
    assert stored["model_type"] == "imported"
    assert fingerprint(stored) == resolve(CLIP).fingerprint
    assert differences(CLIP, stored) == []
    other = Recipe(backbone="import:clip-v2", stored_dtype="float32")
    assert resolve(other).fingerprint != resolve(CLIP).fingerprint
    assert resolve(CLIP.model_copy(update={"stored_dtype": "float32"})).fingerprint != resolve(CLIP).fingerprint
    assert differences(other, stored) == [
        "backbone: cache import:clip-v1, params import:clip-v2",
        "stored_dtype: cache float16, params float32",
    ]
    assert differences(recipe, stored)
    assert (
        differences(CLIP, resolve(recipe).to_dict())[0] == f"backbone: cache {recipe.backbone}, params import:clip-v1"
    )


def test_no_new_version_of_the_extractor_makes_imported_features_stale() -> None:
    """They cannot be computed again."""
    stored = resolve(CLIP).to_dict() | {"extractor_version": 99, "transform_version": 99, "pooling": "of old"}
    assert differences(CLIP, stored) == []
    assert fingerprint(stored) == resolve(CLIP).fingerprint
    assert declared_recipe(stored) == CLIP


def test_imported_features_need_no_folder_even_where_one_has_that_name(dinov2: Path, tmp_path: Path) -> None:
    shutil.copytree(dinov2, tmp_path / "import:clip-v1")
    assert resolve(CLIP, root=tmp_path) == resolve(CLIP)
