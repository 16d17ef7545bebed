"""Evaluate the trained model on the test split, beside the baselines.

Reads   data/splits.parquet, features/<recipe>.h5, models/best_model.pt
Writes  metrics/evaluate.json, metrics/evaluate/*.csv, metrics/scores.csv
Run     python -m stages.evaluate          (or `dvc repro evaluate`)

metrics/scores.csv goes into Git so that anyone can compute every metric again; what would name a person or a file
(path, group, context) is a hash there. How many models were evaluated on this test split is counted in
.mirip/judged/ and printed.
"""

from mirip.models.evaluation import evaluate
from mirip.params import load_params
from mirip.workspace import Workspace
from stages import run


def main() -> None:
    """Evaluate as params.yaml says."""
    for line in evaluate(Workspace(), load_params()).lines:
        print(f"evaluate: {line}")


if __name__ == "__main__":
    run(main)
