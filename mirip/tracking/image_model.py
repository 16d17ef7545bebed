"""The ranker as an MLflow model that takes images, written only when asked for.

It holds the checkpoint, which names the recipe, and the package mirip. A backbone of the hub is named by id and commit,
and fetched where the model runs. A backbone in a local folder is copied into the model if it is small; otherwise its
path is kept. In each case its weights must be those that the model was trained on.
"""

import io
import shutil
import tempfile
from pathlib import Path
from typing import Any

from mirip.errors import CheckpointError, DataError
from mirip.features.backbones.recipe import declared_recipe
from mirip.features.backbones.weights import find_local_folder
from mirip.models.checkpoint import load_checkpoint
from mirip.tracking.logged_model import REQUIREMENTS, exact_requirements, output_columns, zip_package
from mirip.tracking.store import quiet_mlflow

_MAX_COPIED_BYTES = 60 * 2**20


def export_image_model(folder: Path, checkpoint: Path, backbone: Path | None = None, *, paths: bool = False) -> str:
    """Write an MLflow model of flavour pyfunc that scores image files; say where its backbone is.

    Args:
        folder: new.
        checkpoint: of a trained model.
        backbone: its backbone's folder, if it is not the one that the checkpoint names.
        paths: take paths of files where the model runs, too; who asks a server then learns which files it can read.

    Raises:
        DataError: the folder exists already, or the given backbone is not a folder of one.
        CheckpointError: the checkpoint cannot be read, or its features were imported, so that no image can be scored.
        OSError: the folder cannot be written.
    """
    if folder.exists():
        raise DataError(f"{folder} exists already", "remove it, or give another folder")
    recipe = declared_recipe(load_checkpoint(checkpoint).recipe)
    if recipe.imported:
        raise CheckpointError(
            f"{checkpoint} was trained on features imported from {recipe.backbone}, so it cannot score an image"
        )
    name = str(backbone or recipe.backbone)
    found = find_local_folder(name)
    if backbone is not None and found is None:
        raise DataError(f"{name} is not a folder", "give the backbone's folder, or leave --backbone out")
    artifacts, config, words = _backbone(name, found)
    with quiet_mlflow(), tempfile.TemporaryDirectory() as scratch:
        _save(folder, Path(scratch), checkpoint, artifacts, config | ({"paths": True} if paths else {}))
    return words


def _backbone(name: str, found: Path | None) -> tuple[dict[str, str], dict[str, Any], str]:
    """Return the artifacts and the config by which a model finds its backbone, and how, in words."""
    if found is None:
        return {}, {}, f"backbone {name}, fetched where the model runs"
    size = sum(path.stat().st_size for path in found.rglob("*") if path.is_file())
    if size > _MAX_COPIED_BYTES:
        path = str(found.resolve())
        return {}, {"backbone": path}, f"backbone of {size / 2**20:.0f} MB, too large to copy: it is read from {path}"
    return {"backbone": str(found)}, {}, f"with its backbone, {size / 2**20:.1f} MB"


def _save(folder: Path, scratch: Path, checkpoint: Path, artifacts: dict[str, str], config: dict[str, Any]) -> None:
    import pandas as pd
    from mlflow import pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec

    inputs: list[ColSpec | TensorSpec] = [ColSpec(DataType.binary, "image", required=False)]
    if "paths" in config:
        inputs.append(ColSpec(DataType.string, "path", required=False))
    pyfunc.save_model(
        str(folder),
        python_model=shutil.copy(Path(__file__).with_name("image_model_code.py"), scratch),
        artifacts={
            "checkpoint": str(shutil.copy(checkpoint, scratch)),
            "mirip": str(zip_package(scratch / "mirip.zip")),
            **artifacts,
        },
        model_config=config or None,
        signature=ModelSignature(Schema(inputs), Schema(output_columns())),
        input_example=pd.DataFrame({"image": [_drawing(fill) for fill in (40, 200)]}),
        pip_requirements=exact_requirements([*REQUIREMENTS, "transformers", "pi-heif"]),
    )


def _drawing(fill: int) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.new("RGB", (64, 48), (fill, fill, fill)).save(stream, "PNG")
    return stream.getvalue()
