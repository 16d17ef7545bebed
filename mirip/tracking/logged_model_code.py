"""The ranker as MLflow loads it: rows of features in; scores, percentiles and likeliest tiers out.

This file is part of every logged model (MLflow's models from code: a pickle would bind it to one version of Python),
next to the checkpoint and a zip of the package mirip. It scores by that package's own code, so that nothing is computed
in two ways, and needs no Mirip where it runs. The zip comes last on sys.path: in a process with mirip installed, the
installed one is used, and no model ever changes what such a process imports. (MLflow's own `code_paths` come first.)
"""

import sys
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

_ROWS_AT_ONCE = 4096


class Ranker(PythonModel):
    """Scores features (N, D), as the feature cache holds them."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the checkpoint onto the CPU: the layers after the backbone are too small to gain by a GPU."""
        sys.path.append(context.artifacts["mirip"])
        from mirip.models.ranking import PairwiseRankingModel

        self.model = PairwiseRankingModel.from_checkpoint(context.artifacts["checkpoint"], device="cpu")

    def predict(
        self, context: PythonModelContext, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Return `score`, `percentile` and `likeliest_tier` of each row of `model_input` (N, D).

        Raises:
            ValueError: a value is not finite, so there is no score for its row.
        """
        import torch

        from mirip.models.percentiles import score_table

        values = np.asarray(model_input, dtype=np.float32)
        if lacking := np.flatnonzero(~np.isfinite(values).all(axis=1)).tolist():
            raise ValueError(
                f"{len(lacking)} rows hold values that are not finite, the first is row {lacking[0]}: leave them out"
            )
        features = torch.from_numpy(values)
        with torch.inference_mode():
            scores = torch.cat([self.model.score(part) for part in torch.split(features, _ROWS_AT_ONCE)])
        assert self.model.checkpoint is not None
        return score_table(self.model.checkpoint, scores.numpy())


set_model(Ranker())
