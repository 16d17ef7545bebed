"""The champion: the model of the best run so far, in MLflow's model registry.

The registered model is `mirip-ranker`, with one version for each promoted run; the alias `champion` names the version
to serve. It moves only to a model that the paired bootstrap over groups shows to be better on the same test split, by
the tables of scores that both runs hold, or by force.
"""

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mirip.errors import DataError, PromotionError
from mirip.experiments.scores import ModelScores, compare_scores, read_scores
from mirip.metrics.comparison import comparison_text
from mirip.models.evaluation_count import models_evaluated
from mirip.tracking.lengths import run_name
from mirip.tracking.logged_model import RANKER, find_ranker, is_whole
from mirip.tracking.result import MODEL_TAG
from mirip.tracking.runs_of_key import KEY_TAG
from mirip.tracking.store import connect, exclusive_store, store_exists, tracking_uri, without_password
from mirip.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.store.entities import PagedList

T = TypeVar("T")

CHAMPION = "champion"
LAST_TAG = "mirip.champion"  # of the registered model: the version that had the alias last
SPLIT_TAG = "split.digest"

_SPLIT_CHARS = 12
_LISTED = 5
# Metrics that a version shows, by the name of the run's metric.
_SHOWN = {
    "pairwise_accuracy": "pairwise_accuracy",
    "pairwise_accuracy_ci_low": "evaluate.pairwise_accuracy_ci_low",
    "pairwise_accuracy_ci_high": "evaluate.pairwise_accuracy_ci_high",
    "val_pairwise_accuracy": "val_pairwise_accuracy",
}


@dataclass(frozen=True)
class AgainstChampion:
    """How a run compares with the champion.

    Attributes:
        verdict: better, worse, within noise, no champion, or not compared.
        words: the same as a clause.
    """

    verdict: str
    words: str

    @property
    def deserved(self) -> bool:
        """Whether the run may become champion without force."""
        return self.verdict in ("better", "no champion")


def promote(wanted: str, *, force: bool = False) -> str:
    """Make a run's model the champion and say so. A champion that is promoted again stays, with its version.

    Args:
        wanted: a run's id, the beginning of one, or its name.
        force: whatever the comparison says.

    Raises:
        PromotionError: there is no such run, several, it holds no model, or it is not shown to be better.
        TrackingError: the server cannot be reached, or refuses.
    """
    uri = tracking_uri()
    if not store_exists(uri):
        raise PromotionError(f"there is no {without_password(uri)}", "publish a result first, with `dvc repro`")
    with exclusive_store(uri, "nothing was promoted in"):
        client = connect(uri)
        run = find_run(client, wanted)
        model = find_ranker(client, run)
        if model is None or not is_whole(model):
            raise PromotionError(
                f"run {_named(run)} holds no whole model", "publish it again, with `mirip track --backfill`"
            )
        champion = find_champion(client)
        evaluated = _evaluated_text(client, run)
        if champion is not None and champion.run_id == run.info.run_id:
            client.set_registered_model_alias(RANKER, CHAMPION, champion.version)
            return f"run {_named(run)} is the champion already, {RANKER} version {champion.version}; {evaluated}"
        found = compare_with_champion(client, run, champion)
        if not (force or found.deserved):
            raise PromotionError(
                f"run {_named(run)} is not promoted: {found.words}; {evaluated}", "--force promotes it all the same"
            )
        version = _version(client, run, model.model_id)
        _describe(client, version, run, found, champion)
        client.set_registered_model_alias(RANKER, CHAMPION, version.version)
        client.set_registered_model_tag(RANKER, LAST_TAG, version.version)
    forced = "" if found.deserved else ", by force"
    now = f"run {_named(run)} is the champion now{forced}, {RANKER} version {version.version}"
    return f"{now}: {found.words}; {evaluated}"


def find_champion(client: "MlflowClient") -> "ModelVersion | None":
    """Return the version that has the alias; where none has it, the one that had it last; None where there is none.

    Whoever removes the alias by hand takes a model out of use: the next one still has to be better.
    """
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(RANKER, CHAMPION)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # no such model; no alias
            raise
    versions = _versions(client, f"name = '{RANKER}'")
    if not versions:
        return None
    last = client.get_registered_model(RANKER).tags.get(LAST_TAG)
    return next((version for version in versions if str(version.version) == last), versions[-1])


def _versions(client: "MlflowClient", filter_string: str) -> "list[ModelVersion]":
    """Return the versions that fit, the first one first."""
    return sorted(client.search_model_versions(filter_string), key=lambda version: int(version.version))


def compare_with_champion(client: "MlflowClient", run: "Run", champion: "ModelVersion | None") -> AgainstChampion:
    """Compare a run with the champion, if there is one and both hold their scores on one test split."""
    if champion is None:
        return AgainstChampion("no champion", "there was no champion before it")
    against = f"the champion, version {champion.version}"
    try:
        found = compare_scores(_scores(client, run), _scores(client, _run_of(client, champion)))
    except DataError as error:
        return AgainstChampion("not compared", f"it cannot be compared with {against}: {error.problem}")
    small = ", a small sample" if found.support.small_sample else ""
    bounds = f"{found.interval.low:+.3f} to {found.interval.high:+.3f}{small}"
    said = comparison_text(found.verdict, "it", against)
    return AgainstChampion(found.verdict, f"{said}, by {found.difference:+.3f} ({bounds})")


def _run_of(client: "MlflowClient", champion: "ModelVersion") -> "Run":
    """Return the run that a version comes from.

    Raises:
        DataError: it was deleted for good.
    """
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(str(champion.run_id))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise DataError(f"its run {champion.run_id} was deleted", "") from None


def _scores(client: "MlflowClient", run: "Run") -> ModelScores:
    """Read what a run's model scored on its test split.

    Raises:
        DataError: the run holds no such table, or a damaged one.
    """
    from mlflow.exceptions import MlflowException

    place = next(_places_of_scores(client, run.info.run_id, None), None)
    if place is None:
        raise DataError(f"run {_named(run)} holds no {Workspace().scores.name}")
    more = (Path(place).parent / Workspace().out_of_fold.name).as_posix()
    with tempfile.TemporaryDirectory() as folder:
        path = client.download_artifacts(run.info.run_id, place, folder)
        with suppress(MlflowException, OSError):  # a run of an older version, or of `mirip train`, has none
            client.download_artifacts(run.info.run_id, more, folder)
        read = read_scores(path)
    return replace(read, source=_named(run))


def _places_of_scores(client: "MlflowClient", run_id: str, folder: str | None) -> Iterator[str]:
    """Yield where a run holds tables of scores: in metrics/, or beside the model for a run of `mirip train`."""
    entries = client.list_artifacts(run_id, folder)
    name = Workspace().scores.name
    yield from (entry.path for entry in entries if not entry.is_dir and Path(entry.path).name == name)
    for entry in entries:
        if entry.is_dir:
            yield from _places_of_scores(client, run_id, entry.path)


def _evaluated_text(client: "MlflowClient", run: "Run") -> str:
    """Say how many models were evaluated on a run's test split: runs of the server, or this repository's record."""
    digest = run.data.tags.get(SPLIT_TAG)
    if digest is None:
        return "how many models were evaluated on its test split is not known"
    runs = _search_all_runs(client, f"tags.`{SPLIT_TAG}` = '{digest}'")
    # One model may have several runs: in another experiment, or published again with other params of its evaluation.
    models = {found.data.tags.get(MODEL_TAG) or found.data.tags.get(KEY_TAG) or found.info.run_id for found in runs}
    count = max(len(models), models_evaluated(digest))
    have = "1 model has" if count == 1 else f"{count} models have"
    return f"{have} been evaluated on this test split: compare runs by val_pairwise_accuracy"


def _version(client: "MlflowClient", run: "Run", model_id: str) -> "ModelVersion":
    """Return the run's version of the registered model, created if there is none."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(RANKER)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    own = f"name = '{RANKER}' and run_id = '{run.info.run_id}'"
    if found := _versions(client, own):
        return found[0]
    try:
        client.create_model_version(RANKER, f"models:/{model_id}", run.info.run_id, model_id=model_id)
    except MlflowException:  # its answer may be lost, and the version be there
        if not _versions(client, own):
            raise
    version, *others = _versions(client, own)
    for other in others:  # of a request that was sent again, or of another clone
        client.delete_model_version(RANKER, other.version)
    return version


def _describe(
    client: "MlflowClient",
    version: "ModelVersion",
    run: "Run",
    found: AgainstChampion,
    champion: "ModelVersion | None",
) -> None:
    values = {name: run.data.metrics[full] for name, full in _SHOWN.items() if full in run.data.metrics}
    tags = {name: f"{value:.6g}" for name, value in values.items()}
    tags |= {"verdict": found.verdict, "split_digest": run.data.tags.get(SPLIT_TAG, "not available")}
    tags |= {"against_version": str(champion.version)} if champion else {}
    for name, value in tags.items():
        client.set_model_version_tag(RANKER, version.version, name, value)
    accuracy = "{pairwise_accuracy:.3f}, interval {pairwise_accuracy_ci_low:.3f} to {pairwise_accuracy_ci_high:.3f}"
    told = accuracy.format(**values) if len(values) == len(_SHOWN) else "not available"
    split = tags["split_digest"][:_SPLIT_CHARS]
    client.update_model_version(
        RANKER,
        version.version,
        f"run {_named(run)}: pairwise accuracy {told}, on the test split of split {split}. {found.words}.",
    )


def find_run(client: "MlflowClient", wanted: str) -> "Run":
    """Return the one run of that id, name or beginning of an id, among all experiments.

    Raises:
        PromotionError: there is none, or there are several.
    """
    name = run_name(wanted)
    quote = '"' if "'" in name else "'"
    filters = [f"attributes.run_name = {quote}{name}{quote}"]
    if re.fullmatch("[0-9a-f]{1,32}", wanted):
        filters.append(f"attributes.run_id LIKE '{wanted}%'")
        filters.append(f"tags.`mirip.key` LIKE '{wanted}%'")  # a run's name ends with its first digits
    found = {run.info.run_id: run for text in filters for run in _search_all_runs(client, text)}
    if not found:
        raise PromotionError(
            f"there is no run {wanted}", "give its name or the beginning of its id, as `make ui` shows them"
        )
    if len(found) > 1:
        listed = [f"{run_id[:12]} ({run.info.run_name})" for run_id, run in sorted(found.items())]
        more = ", and more" if len(listed) > _LISTED else ""
        raise PromotionError(
            f"{wanted} may be any of {', '.join(listed[:_LISTED])}{more}", "give more digits of the id"
        )
    return next(iter(found.values()))


def _named(run: "Run") -> str:
    """Return how a message names a run: its name and the beginning of its id."""
    return f"{run.info.run_name} ({run.info.run_id[:8]})"


def _search_all_runs(client: "MlflowClient", filter_string: str) -> "list[Run]":
    """Return the runs of all experiments that fit, deleted ones left out."""
    experiments = _all_pages(lambda page: client.search_experiments(max_results=1000, page_token=page))
    ids = [str(experiment.experiment_id) for experiment in experiments]
    return _all_pages(lambda page: client.search_runs(ids, filter_string, max_results=1000, page_token=page))


def _all_pages(search: "Callable[[str | None], PagedList[T]]") -> list[T]:
    found = search(None)
    items = list(found)
    while found.token:
        found = search(found.token)
        items += found
    return items
