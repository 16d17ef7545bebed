"""How a published run stands against another, and on how many models its test split has worn."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mirip.errors import DataError
from mirip.experiments.scores import SCORES, ModelScores, compare_scores, read_scores
from mirip.models.evaluation_count import models_evaluated
from mirip.tracking.runs import named, search_all_runs

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

    from mirip.metrics.comparison import ModelComparison

SPLIT_TAG = "split.digest"


@dataclass(frozen=True)
class Judgement:
    """How a run stands against the champion.

    Attributes:
        verdict: better, worse, within noise, no champion, or not compared.
        words: the same in words.
    """

    verdict: str
    words: str

    @property
    def deserved(self) -> bool:
        """Whether the run may become champion without force."""
        return self.verdict in ("better", "no champion")


def judge(client: "MlflowClient", run: "Run", champion: "ModelVersion | None") -> Judgement:
    """Compare a run with the champion, if there is one and both hold their scores on one test split."""
    if champion is None:
        return Judgement("no champion", "there was no champion before it")
    against = f"the champion, version {champion.version}"
    try:
        own, its = (_scores(client, client.get_run(run_id)) for run_id in (run.info.run_id, str(champion.run_id)))
        found = compare_scores(own, its)
    except DataError as error:
        return Judgement("not compared", f"it cannot be compared with {against}: {error}")
    return Judgement(found.verdict, _comparison_words(found, against))


def _comparison_words(found: "ModelComparison", against: str) -> str:
    said = {"better": "better than", "worse": "worse than", "within noise": "within noise of"}[found.verdict]
    small = ", a small sample" if found.support.small_sample else ""
    low, high = found.interval.low, found.interval.high
    return f"{said} {against}, by {found.difference:+.3f} ({low:+.3f} to {high:+.3f}{small})"


def _scores(client: "MlflowClient", run: "Run") -> ModelScores:
    """Read what a run's model scored on its test split.

    Raises:
        DataError: the run holds no such table, or a damaged one.
    """
    place = next(_places(client, run.info.run_id, None), None)
    if place is None:
        raise DataError(f"run {named(run)} holds no {SCORES.name}")
    with tempfile.TemporaryDirectory() as folder:
        read = read_scores(client.download_artifacts(run.info.run_id, place, folder))
    return replace(read, source=named(run))


def _places(client: "MlflowClient", run_id: str, folder: str | None) -> Iterator[str]:
    """Yield where a run holds tables of scores: metrics/ in the pipeline, the output folder's name off it."""
    entries = client.list_artifacts(run_id, folder)
    yield from (entry.path for entry in entries if not entry.is_dir and Path(entry.path).name == SCORES.name)
    for entry in entries:
        if entry.is_dir:
            yield from _places(client, run_id, entry.path)


def evaluated_text(client: "MlflowClient", run: "Run") -> str:
    """Say how many models were judged on a run's test split: as runs of the server, or in this repository's record."""
    digest = run.data.tags.get(SPLIT_TAG)
    if digest is None:
        return "how many models were judged on its test split is not known"
    runs = search_all_runs(client, f"tags.`{SPLIT_TAG}` = '{digest}'")
    count = max(len(runs), models_evaluated(digest))
    have = "1 model has" if count == 1 else f"{count} models have"
    return f"{have} been judged on this test split: compare runs by val_pairwise_accuracy"
