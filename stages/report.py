"""Show the result on one page that needs no network.

Reads   metrics/*.json, metrics/train/, metrics/evaluate/, metrics/audit/, metrics/scores.csv, data/splits.parquet,
        data/rejected.csv, data/thumbnails.parquet, models/best_model.pt, and of .mirip/judged/ how many models have
        been evaluated on this test split so far
Writes  metrics/report.html          (kept by DVC, never in Git: it shows people's artworks)
Run     python -m stages.report      (or `dvc repro report`)
"""

from mirip.params import load_params
from mirip.report.page import report
from mirip.workspace import Workspace
from stages import run


def main() -> None:
    """Write the page."""
    print(f"report: {report(Workspace(), load_params()).summary()}")


if __name__ == "__main__":
    run(main)  # report: metrics/report.html
