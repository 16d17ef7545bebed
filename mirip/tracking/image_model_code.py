"""The ranker of images as MLflow loads it: bytes of image files in; scores, percentiles and tiers out.

Like `logged_model_code.py` it is part of its model. Decoding, transform and backbone are those of the package mirip.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext


class ImageRanker(PythonModel):
    """Scores image files, each by itself."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the checkpoint; its backbone is found, and checked to be the right one, with the first image."""
        sys.path.append(context.artifacts["mirip"])
        from mirip.models.ranking import PairwiseRankingModel

        config = context.model_config or {}
        self.takes_paths = config.get("paths") is True
        backbone = context.artifacts.get("backbone") or config.get("backbone")
        self.model = PairwiseRankingModel.from_checkpoint(context.artifacts["checkpoint"], backbone=backbone)

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Return `score`, `percentile` and `likeliest_tier` of each row.

        Args:
            context: unused.
            model_input: the column `image`, a file's bytes (base64 in JSON); of a model exported with `--paths` also
                `path`, a file where the model runs.
            params: unused.

        Raises:
            MlflowException: a row names no image, or one that cannot be read; or the backbone is unavailable.
        """
        from mirip.errors import MiripError
        from mirip.models.percentiles import score_table

        columns = {"image (the bytes of files)": "image"} | ({"path": "path"} if self.takes_paths else {})
        if not set(columns.values()) & set(getattr(model_input, "columns", ())):
            raise MlflowException.invalid_parameter_value(
                f"the input is not a table with a column {' or '.join(columns)}"
            )
        try:
            scores = [self._score(row) for row in model_input.to_dict("records")]
        except MiripError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None
        assert self.model.checkpoint is not None
        return score_table(self.model.checkpoint, scores)

    def _score(self, row: dict[Any, Any]) -> float:
        data, path = row.get("image"), row.get("path")
        if isinstance(data, bytes):
            with tempfile.TemporaryDirectory() as folder:  # as a file, so that it is scored as every other file is
                (Path(folder) / "image").write_bytes(data)
                return self.model.score_images([Path(folder) / "image"])[0]
        if self.takes_paths and isinstance(path, str):
            return self.model.score_images([path])[0]
        raise MlflowException.invalid_parameter_value("a row has no image")


set_model(ImageRanker())
