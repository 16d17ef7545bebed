"""The trained ranker as an MLflow model of its run, logged once.

A logged model holds the checkpoint's bytes, the package mirip as a zip, `logged_model_code.py`, which MLflow runs to
load them, the signature, an input example and exact requirements. Publishing has to stay quick: it does not import
torch and does not read the checkpoint, which the stage `train` wrote whole. Every step looks first at what the server
has, so that a publication that was cut off anywhere is completed by the next one, without a second model.
"""

import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run
    from mlflow.models import Model
    from mlflow.types import ColSpec, TensorSpec

RANKER = "mirip-ranker"

# What scoring features imports, besides the standard library and mirip, which is in the zip.
REQUIREMENTS = (
    "mlflow", "numpy", "pandas", "pillow", "pydantic", "pyyaml", "safetensors", "scipy", "simplejpeg", "torch",
)  # fmt: skip

# With an example of one row, some servers would only take batches of one; and one row cannot show a ranking.
_EXAMPLE_ROWS = 4
_EPOCH = (1980, 1, 1, 0, 0, 0)  # no clock in the zip: the same code, the same bytes


@dataclass(frozen=True)
class Ranker:
    """A trained model, ready to be logged.

    Attributes:
        checkpoint: its file.
        feature_dim: D, the width of the features that it takes.
    """

    checkpoint: Path
    feature_dim: int


def log_ranker(client: "MlflowClient", run: "Run", ranker: Ranker) -> bool:
    """Give a run its model unless it has it whole; return whether anything was added.

    A request whose answer is late is sent again, and two clones may complete one run: what was made twice goes.

    Raises:
        MlflowException: the server refuses it.
        OSError: the checkpoint cannot be read.
    """
    from mlflow.entities import LoggedModelOutput

    model = find_ranker(client, run)
    changed = model is None or not is_whole(model)
    if model is None:
        model = _new_model(client, run)
    if not is_whole(model):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "model"
            save_ranker(folder, ranker, _identity(model, run))
            client.log_model_artifacts(model.model_id, str(folder))
        client.finalize_logged_model(model.model_id, "READY")
    if changed:
        model, *others = _find_rankers(client, run)
        for other in others:
            client.delete_logged_model(other.model_id)
    if model.model_id not in [output.model_id for output in (run.outputs.model_outputs if run.outputs else [])]:
        client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, step=0)])
        changed = True
    return changed


def _new_model(client: "MlflowClient", run: "Run") -> "LoggedModel":
    from mlflow.exceptions import MlflowException

    try:
        client.create_logged_model(run.info.experiment_id, RANKER, run.info.run_id, model_type="ranker")
    except MlflowException:  # its answer may be lost, and the model be there
        if not _find_rankers(client, run):
            raise
    return _find_rankers(client, run)[0]


def find_ranker(client: "MlflowClient", run: "Run") -> "LoggedModel | None":
    """Return the model of a run, whole or not; of several a whole one, then the first."""
    return next(iter(_find_rankers(client, run)), None)


def _find_rankers(client: "MlflowClient", run: "Run") -> "list[LoggedModel]":
    found = client.search_logged_models(
        [run.info.experiment_id],
        filter_string=f"source_run_id = '{run.info.run_id}' AND name = '{RANKER}'",
    )
    return sorted(found, key=lambda model: (not is_whole(model), model.creation_timestamp, model.model_id))


def is_whole(model: "LoggedModel") -> bool:
    """Return whether all of a model's files were logged."""
    from mlflow.entities import LoggedModelStatus

    return bool(model.status == LoggedModelStatus.READY)


def save_ranker(folder: Path, ranker: Ranker, mlflow_model: "Model | None" = None) -> None:
    """Write a ranker as an MLflow model of flavour pyfunc: features (N, D) float32 in, one row each out.

    Raises:
        OSError: the checkpoint cannot be read, or the folder not written.
    """
    import numpy as np
    from mlflow import pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    shape = (-1, ranker.feature_dim)
    signature = ModelSignature(Schema([TensorSpec(np.dtype("float32"), shape)]), Schema(output_columns()))
    rng = np.random.default_rng(0)  # made-up rows: real ones would be of people's artworks
    with tempfile.TemporaryDirectory() as scratch:
        code = shutil.copy(
            Path(__file__).with_name("logged_model_code.py"), scratch
        )  # a copy, since MLflow writes its path down
        checkpoint = shutil.copy(ranker.checkpoint, scratch)
        package = zip_package(Path(scratch) / "mirip.zip")
        pyfunc.save_model(
            str(folder),
            python_model=code,
            artifacts={"checkpoint": str(checkpoint), "mirip": str(package)},
            mlflow_model=mlflow_model,
            signature=signature,
            input_example=rng.normal(size=(_EXAMPLE_ROWS, ranker.feature_dim)).round(2).astype(np.float32),
            pip_requirements=exact_requirements(REQUIREMENTS),
        )


def output_columns() -> "list[ColSpec | TensorSpec]":
    """Return the columns of what a model answers, those of `mirip.models.percentiles.score_table`."""
    from mlflow.types import ColSpec, DataType

    return [
        ColSpec(DataType.double, "score"),
        ColSpec(DataType.double, "percentile"),
        ColSpec(DataType.string, "likeliest_tier"),
    ]


def zip_package(path: Path) -> Path:
    """Write the package mirip, as it is running, into a zip that Python can import from; return its path."""
    root = Path(__file__).parents[1]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for source in sorted(path for path in root.rglob("*") if path.suffix in {".py", ".j2"}):
            name = Path(root.name) / source.relative_to(root)
            archive.writestr(zipfile.ZipInfo(name.as_posix(), _EPOCH), source.read_bytes(), zipfile.ZIP_DEFLATED)
    return path


def exact_requirements(packages: Sequence[str]) -> list[str]:
    """Return the packages pinned to what is installed, without a build's local label (+cu126), which no index knows."""
    return [f"{name}=={version(name).partition('+')[0]}" for name in packages]


def _identity(model: "LoggedModel", run: "Run") -> "Model":
    from mlflow.models import Model

    known: dict[str, Any] = {"artifact_path": model.artifact_location, "run_id": run.info.run_id}
    return Model(model_uuid=model.model_id, model_id=model.model_id, **known)
