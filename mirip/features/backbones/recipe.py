"""A recipe and its fingerprint: everything that decides the value of a feature, and nothing else.

Neither torch nor the weights themselves are loaded here: only their hash is needed.
"""

import json
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mirip.errors import BackboneError
from mirip.features.backbones.weights import (
    CONFIG,
    PREPROCESSOR,
    BackboneFolder,
    find_local_folder,
    is_hub_id,
    locate_backbone,
    read_json,
    weights_sha256,
)
from mirip.files import canonical_json, sha256_bytes, write_json
from mirip.params import IMPORTED, Recipe
from mirip.workspace import private_folder

# Raise these when code changes the value of a feature: every cached row is then computed again.
EXTRACTOR_VERSION = 3  # batches, pooling, normalisation, rounding
TRANSFORM_VERSION = 2  # EXIF orientation, colours, fit, padding, resampling

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
# What preprocessor_config.json may ask for that our transform does not do: the values would be others.
_SUPPORTED = {"do_rescale": True, "rescale_offset": False, "do_flip_channel_order": False, "do_grayscale": False}
_COMMIT = re.compile("[0-9a-f]{7,40}")
# Who wrote a config, and with which library, changes no feature.
_CONFIG_NOTES = {"_name_or_path", "transformers_version"}
# Nor does this: names of labels, the type of the file's numbers (the recipe names that of the computation), how a model
# is trained or begins, what it returns beside its output, and what generates text. `architectures` counts where
# AutoModel chooses by it.
_CONFIG_WITHOUT_EFFECT = _CONFIG_NOTES | {
    "architectures", "torch_dtype", "dtype", "id2label", "label2id", "num_labels", "problem_type", "finetuning_task",
    "task_specific_params", "use_cache", "gradient_checkpointing", "initializer_range", "_commit_hash", "license",
    "hidden_dropout_prob", "attention_probs_dropout_prob", "attention_dropout", "drop_path_rate",
    "output_hidden_states", "output_attentions", "return_dict",
}  # fmt: skip
# The types of model that frozen_dinov2.py computes, and all that is read of their config.json, with its default there.
_REWRITTEN = ("dinov2", "dinov2_with_registers")
READ_OF_REWRITTEN = {
    "hidden_act": "gelu", "num_channels": 3, "patch_size": None, "hidden_size": 768, "num_hidden_layers": 12,
    "num_attention_heads": 12, "layer_norm_eps": 1e-6,
}  # fmt: skip
_CHOSEN_BY_ARCHITECTURE = {"funnel", "blip-2"}
# Where the weights came from is told, but what they are is what counts; image_size acts through size_px.
_INFORMATIONAL = {"backbone", "revision", "image_size", "mean_std_source", "folder"}
# Of imported features, nothing else is known here; the code that computes others has no say in them.
_DECISIVE_OF_IMPORTED = ("weights_sha256", "stored_dtype")
_DECLARED_OF_IMPORTED = ("backbone", "stored_dtype")
_DECLARED = ("image_size", "fit", "interpolation", "pooling", "normalize", "compute_dtype", "stored_dtype")


class Difference(NamedTuple):
    """One way in which cached features are not those that params.yaml asks for."""

    field: str
    cache: object
    params: object

    def __str__(self) -> str:
        return f"{self.field}: cache {self.cache}, params {self.params}"


@dataclass(frozen=True)
class ResolvedRecipe:
    """A recipe with what was found out about its backbone. The declared fields are those of `params.Recipe`.

    Attributes:
        revision: commit of a hub backbone; as declared for a local folder.
        weights_sha256: of the weight file, or over the sorted hashes of several; of a recipe whose features are
            imported, of the name that stands for the model.
        config_sha256: of config.json in canonical form, without notes on its origin; of the first one seen here, where
            another differs from that in nothing that changes a value.
        size_px: side of the square that the backbone sees: the largest multiple of its patch <= image_size.
        patch_px: side of the backbone's patch; 0 where it has none.
        mean, std: per channel, of pixels scaled to 0..1.
        mean_std_source: preprocessor_config.json, or ImageNet where the backbone has none.
        folder: where the backbone's files are on this machine; of no meaning where features are imported.
    """

    backbone: str
    revision: str | None
    weights_sha256: str
    image_size: int
    fit: str
    interpolation: str
    pooling: str
    normalize: str
    compute_dtype: str
    stored_dtype: str
    model_type: str
    config_sha256: str
    size_px: int
    patch_px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    mean_std_source: str
    folder: Path = field(compare=False)
    padding: str = "mean"
    transform_version: int = TRANSFORM_VERSION
    extractor_version: int = EXTRACTOR_VERSION

    @property
    def imported(self) -> bool:
        """Whether its features are imported, never computed here."""
        return self.backbone.startswith(IMPORTED)

    @property
    def fingerprint(self) -> str:
        """The sha256 of all that decides a feature's value, 64 hexadecimal digits."""
        return fingerprint(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as they are stored beside the features; the folder stays out."""
        values = asdict(self)
        del values["folder"]
        return values | {"mean": list(self.mean), "std": list(self.std)}


def fingerprint(values: Mapping[str, Any]) -> str:
    """Return the fingerprint of a stored recipe: sha256 of canonical JSON, 64 hexadecimal digits."""
    return sha256_bytes(canonical_json(_decisive(values)).encode())


def first_decisive_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[str, object, object]:
    """Return the first field that makes the fingerprints of two stored recipes differ, and its values in both."""
    ours, theirs = _decisive(one), _decisive(other)
    found = ((name, ours.get(name), theirs.get(name)) for name in ours | theirs)
    return next((pair for pair in found if pair[1] != pair[2]), ("fingerprint", fingerprint(one), fingerprint(other)))


def _decisive(values: Mapping[str, Any]) -> dict[str, Any]:
    if str(values.get("backbone")).startswith(IMPORTED):
        return {"imported": True} | {key: values.get(key) for key in _DECISIVE_OF_IMPORTED}
    return {key: value for key, value in values.items() if key not in _INFORMATIONAL}


def resolve(recipe: Recipe, *, root: Path | None = None, download: bool = True) -> ResolvedRecipe:
    """Find a recipe's backbone and read what decides its features; the weights are hashed, not loaded.

    Args:
        recipe: as params.yaml declares it.
        root: what relative backbone folders are relative to; None is the working directory.
        download: False takes only a backbone that is on this machine.

    Raises:
        BackboneError: the backbone is not to be found, is incomplete, or is not the one that is pinned.
    """
    if recipe.imported:
        return _imported(recipe)
    found = locate_backbone(recipe.backbone, recipe.revision, root=root, download=download)
    weights = weights_sha256(found.path)
    if recipe.weights_sha256 not in (None, weights):
        raise BackboneError(
            f"the weights of {recipe.backbone} have sha256 {weights}, the recipe pins {recipe.weights_sha256}",
            "restore the weights, or set the recipe's weights_sha256 to the new value (all features are then "
            "computed again)",
        )
    return _resolved(recipe, found, weights)


def declared_recipe(stored: Mapping[str, Any]) -> Recipe:
    """Return the recipe that features or a checkpoint were made by, as params.yaml would declare it, weights pinned.

    Args:
        stored: as `ResolvedRecipe.to_dict` gave it.

    Raises:
        KeyError: a field is missing.
    """
    imported = str(stored["backbone"]).startswith(IMPORTED)
    names = _DECLARED_OF_IMPORTED if imported else tuple(Recipe.model_fields)
    return Recipe.model_validate({name: stored[name] for name in names})


def find_differences(
    declared: Recipe,
    stored: Mapping[str, Any],
    *,
    root: Path | None = None,
    resolved: ResolvedRecipe | None = None,
) -> list[Difference]:
    """Compare the active recipe with the one that features were built by, field by field.

    The backbone need not be on this machine: what it is, is then told by pinned weights, hub id and commit, or
    at worst by the folder's name. Where its folder is here, its files are compared.

    Args:
        declared: the active recipe.
        stored: as `ResolvedRecipe.to_dict` gave it.
        root: what relative backbone folders are relative to; None is the working directory.
        resolved: the active recipe, where it was resolved already.
    """
    names = _DECLARED_OF_IMPORTED if declared.imported else _DECLARED
    pairs: dict[str, tuple[object, object]] = {name: (stored.get(name), getattr(declared, name)) for name in names}
    if declared.imported:
        return _differing(pairs)
    if declared.weights_sha256:
        pairs["weights_sha256"] = (stored.get("weights_sha256"), declared.weights_sha256)
    if is_hub_id(declared.backbone, root):
        pairs["backbone"] = (stored.get("backbone"), declared.backbone)
        commit = str(stored.get("revision"))
        if declared.revision and _COMMIT.fullmatch(declared.revision) and not commit.startswith(declared.revision):
            pairs["revision"] = (commit, declared.revision)
    else:
        found = _backbone_pairs(declared, stored, root, resolved)
        beside_weights = ("config_sha256", "mean", "std")
        pairs |= {name: found[name] for name in beside_weights if name in found} if declared.weights_sha256 else found
    pairs["transform_version"] = (stored.get("transform_version"), TRANSFORM_VERSION)
    pairs["extractor_version"] = (stored.get("extractor_version"), EXTRACTOR_VERSION)
    return _differing(pairs)


def _differing(pairs: Mapping[str, tuple[object, object]]) -> list[Difference]:
    return [Difference(name, cache, params) for name, (cache, params) in pairs.items() if cache != params]


def _backbone_pairs(
    declared: Recipe, stored: Mapping[str, Any], root: Path | None, resolved: ResolvedRecipe | None
) -> dict[str, tuple[object, object]]:
    if find_local_folder(declared.backbone, root):
        try:
            here = (resolved or resolve(declared, root=root)).to_dict()
            return {name: (stored.get(name), here[name]) for name in here if name not in _INFORMATIONAL}
        except BackboneError:
            pass  # an incomplete folder tells no more than its name
    return {"backbone": (stored.get("backbone"), declared.backbone)}


def _resolved(recipe: Recipe, found: BackboneFolder, weights: str) -> ResolvedRecipe:
    config = read_json(found.path / CONFIG)
    mean, std, source = _normalisation(found.path / PREPROCESSOR)
    patch_px = _patch_px(recipe, config.get("patch_size"))
    return ResolvedRecipe(
        backbone=recipe.backbone,
        revision=found.revision or recipe.revision,
        weights_sha256=weights,
        image_size=recipe.image_size,
        fit=recipe.fit,
        interpolation=recipe.interpolation,
        pooling=recipe.pooling,
        normalize=recipe.normalize,
        compute_dtype=recipe.compute_dtype,
        stored_dtype=recipe.stored_dtype,
        model_type=str(config.get("model_type", "unknown")),
        config_sha256=_config_sha256(config),
        size_px=recipe.image_size // (patch_px or 1) * (patch_px or 1),
        patch_px=patch_px,
        mean=mean,
        std=std,
        mean_std_source=source,
        folder=found.path,
    )


def _config_sha256(config: Mapping[str, Any]) -> str:
    """Return the hash of the first config seen on this machine that gives the same values as this one.

    It is part of the fingerprint, so that it stays what earlier versions took: the hash of nearly all of a config.
    """
    own, values = _hash_without(config, _CONFIG_NOTES), _hash_of_values(config)
    path = private_folder().configs / f"{values}.json"
    try:
        first = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        first = None
    if isinstance(first, dict) and first == _first_seen(values, str(first.get("config_sha256"))):
        return str(first["config_sha256"])
    with suppress(OSError):  # where nothing can be written, each config counts for itself
        write_json(path, _first_seen(values, own))
    return own


def _first_seen(values: str, config_sha256: str) -> dict[str, str]:
    """Return what is remembered of a config, with a hash that finds damage."""
    return {"config_sha256": config_sha256, "check": sha256_bytes(f"{values} {config_sha256}".encode())}


def _hash_of_values(config: Mapping[str, Any]) -> str:
    """Return a hash of what a config says of a feature's value."""
    model_type = config.get("model_type")
    if is_rewritten(str(model_type), config):
        read = {name: config.get(name, default) for name, default in READ_OF_REWRITTEN.items()}
        return sha256_bytes(canonical_json({"model_type": model_type} | read).encode())
    kept = {"architectures"} if model_type in _CHOSEN_BY_ARCHITECTURE else set()
    return _hash_without(config, _CONFIG_WITHOUT_EFFECT - kept)


def _hash_without(config: Mapping[str, Any], names: set[str]) -> str:
    return sha256_bytes(canonical_json({key: value for key, value in config.items() if key not in names}).encode())


def is_rewritten(model_type: str, config: Mapping[str, Any]) -> bool:
    """Tell whether a backbone with that config.json is one that frozen_dinov2.py computes."""
    usual = config.get("hidden_act", "gelu") == "gelu" and config.get("num_channels", 3) == 3
    return model_type in _REWRITTEN and usual and isinstance(config.get("patch_size", 14), int)


def _imported(recipe: Recipe) -> ResolvedRecipe:
    """Resolve a recipe that computes nothing: its fields for that stand empty, whatever the code's versions are."""
    nothing = (0.0, 0.0, 0.0)
    declared = recipe.model_dump(exclude={"weights_sha256"})
    return ResolvedRecipe(
        **declared,
        weights_sha256=sha256_bytes(recipe.backbone.encode()),
        model_type="imported",
        config_sha256="",
        size_px=0,
        patch_px=0,
        mean=nothing,
        std=nothing,
        mean_std_source="",
        folder=Path(),
        transform_version=0,
        extractor_version=0,
    )


def _patch_px(recipe: Recipe, patch_size: Any) -> int:
    if patch_size is None:
        if recipe.fit == "native":
            raise BackboneError(
                f"fit native needs a backbone of patches, {recipe.backbone} has none", "use pad or squash"
            )
        return 0
    if not isinstance(patch_size, int) or not 1 <= patch_size <= recipe.image_size:
        raise BackboneError(
            f"{recipe.backbone} has patch_size {patch_size} and the recipe image_size {recipe.image_size}",
            "square patches that fit into the image are needed; raise image_size or choose another backbone",
        )
    return patch_size


def _normalisation(path: Path) -> tuple[tuple[float, float, float], tuple[float, float, float], str]:
    """Return mean, standard deviation and their source, for pixels scaled to 0..1."""
    if not path.is_file():
        return _IMAGENET_MEAN, _IMAGENET_STD, "ImageNet"
    settings = read_json(path)
    for name, supported in _SUPPORTED.items():
        found = settings.get(name, supported)
        if (found or False) is not supported:  # null, as the library reads it, is false
            raise BackboneError(
                f"{path} has {name} {json.dumps(found)}", f"only backbones with {name} {supported} are supported"
            )
    factor = settings.get("rescale_factor")
    if factor is not None and not (isinstance(factor, int | float) and abs(factor * 255 - 1) <= 1e-3):
        raise BackboneError(f"{path} has rescale_factor {factor!r}", "only 1/255 is supported")
    if not settings.get("do_normalize", True):
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), path.name
    mean, std = settings.get("image_mean"), settings.get("image_std")
    if mean is None or std is None:
        return _IMAGENET_MEAN, _IMAGENET_STD, "ImageNet"
    mean, std = _three(mean, path), _three(std, path)
    if min(std) <= 0:
        raise BackboneError(f"{path} has image_std {list(std)}", "write there what its pixels are divided by, above 0")
    return mean, std, path.name


def _three(values: Any, path: Path) -> tuple[float, float, float]:
    if not isinstance(values, list) or len(values) != 3 or not all(map(_is_number, values)):
        raise BackboneError(f"{path} has {values!r} for three channels", "only backbones of RGB images are supported")
    red, green, blue = values
    return float(red), float(green), float(blue)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
