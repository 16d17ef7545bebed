"""Write into params.yaml what pins a recipe's backbone: the commit of a hub id, the weights of a local folder."""

import io
from pathlib import Path
from typing import Any, NamedTuple

from mirip.errors import ParamsError
from mirip.features.backbones.recipe import resolve
from mirip.features.backbones.weights import is_hub_id
from mirip.files import write_bytes
from mirip.params import Recipe, load_params


class Pin(NamedTuple):
    """A key of a recipe, what it was in params.yaml (None: nothing) and what it is now."""

    key: str
    old: str | None
    new: str

    @property
    def changes_features(self) -> bool:
        """Whether other weights were pinned: no feature of theirs is of use any more."""
        return self.key == "weights_sha256" and self.old not in (None, self.new)


def pin_recipe(params_path: Path | str, name: str, *, root: Path | None = None) -> list[Pin]:
    """Resolve a recipe's backbone and pin it in params.yaml; nothing else in the file changes.

    The file is written in the form that `dvc exp run -S` gives it; where it already pins the backbone, not at all.

    Args:
        params_path: the params file.
        name: of the recipe.
        root: what relative backbone folders are relative to; None is the working directory.

    Raises:
        ParamsError: the file is not valid, has no such recipe, or the recipe's features are imported.
        BackboneError: the backbone is not to be found.
    """
    path = Path(params_path)
    recipe = load_params(path).named_recipe(name)
    if recipe.imported:
        raise ParamsError(f"the recipe {name} has no backbone to pin, its features are imported")
    text = path.read_bytes().decode("utf-8")
    values = _load(text)
    declared = (values.get("recipes") or {}).get(name)
    if declared is None:
        raise ParamsError(f"{path} does not list the recipe {name}, a default", "write it there to pin it")
    pins = [Pin(key, declared.get(key), new) for key, new in _found(recipe, root).items()]
    if any(pin.old != pin.new for pin in pins):
        for pin in pins:
            _set(declared, pin)
        write_bytes(path.resolve(), _dump(values).encode())
    return pins


def _found(recipe: Recipe, root: Path | None) -> dict[str, str]:
    """Return what pins a recipe's backbone; the weights of a hub's only where they are pinned already."""
    found = resolve(recipe.model_copy(update={"weights_sha256": None}), root=root)
    is_hub = is_hub_id(recipe.backbone, root)
    pins = {"revision": str(found.revision)} if is_hub else {}
    return pins | ({"weights_sha256": found.weights_sha256} if not is_hub or recipe.weights_sha256 else {})


def _set(declared: Any, pin: Pin) -> None:
    if pin.key in declared:
        declared[pin.key] = pin.new
    else:  # after the backbone, where there is one: a comment at the recipe's end stays there
        declared.insert(list(declared).index("backbone") + 1 if "backbone" in declared else 0, pin.key, pin.new)


def _load(text: str) -> Any:
    from ruamel.yaml import YAML

    return YAML().load(text)


def _dump(values: Any) -> str:
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.default_flow_style = False  # as DVC writes params.yaml
    stream = io.StringIO()
    yaml.dump(values, stream)
    return stream.getvalue()
