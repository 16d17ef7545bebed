"""The champion: the one model that stands for the best so far, in MLflow's model registry.

The registered model is `mirip-ranker`, a version a promoted run; its alias `champion` is what to serve. It moves only
to a model that the paired bootstrap over groups shows to be better on the same test split, by the tables of scores that
both runs hold, or by force.
"""

from typing import TYPE_CHECKING

from mirip.errors import PromotionError
from mirip.tracking.comparison import SPLIT_TAG, Judgement, evaluated_text, judge
from mirip.tracking.logged_model import RANKER, find_ranker, is_whole
from mirip.tracking.runs import find_run, named
from mirip.tracking.store import connect, exclusive_store, store_exists, tracking_uri, without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"

_SPLIT_CHARS = 12


def promote(wanted: str, *, force: bool = False) -> str:
    """Make a run's model the champion and say so; what is champion already stays it, and no version is made twice.

    Args:
        wanted: a run's id, the beginning of one, or its name.
        force: whatever the comparison says.

    Raises:
        PromotionError: there is no such run, several, it holds no model, or it is not shown to be better.
        TrackingError: the server cannot be reached, or refuses.
    """
    uri = tracking_uri()
    if not store_exists(uri):
        raise PromotionError(f"there is no {without_password(uri)}: publish a result first, with `dvc repro`")
    with exclusive_store(uri, "nothing was promoted in"):
        client = connect(uri)
        run = find_run(client, wanted)
        model = find_ranker(client, run)
        if model is None or not is_whole(model):
            raise PromotionError(
                f"run {named(run)} holds no whole model: publish it again, with `mirip track --backfill`"
            )
        champion = find_champion(client)
        judged = evaluated_text(client, run)
        if champion is not None and champion.run_id == run.info.run_id:
            return f"run {named(run)} is the champion already, {RANKER} version {champion.version}; {judged}"
        judgement = judge(client, run, champion)
        if not (force or judgement.deserved):
            raise PromotionError(f"run {named(run)} is not promoted: {judgement.words}; {judged}; --force promotes it")
        version = _version(client, run, model.model_id)
        _describe(client, version, run, judgement, champion)
        client.set_registered_model_alias(RANKER, CHAMPION, version.version)
    forced = "" if judgement.deserved else ", by force"
    now = f"run {named(run)} is the champion now{forced}, {RANKER} version {version.version}"
    return f"{now}: {judgement.words}; {judged}"


def find_champion(client: "MlflowClient") -> "ModelVersion | None":
    """Return the version that bears the alias, None where none does."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(RANKER, CHAMPION)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # no such model; no such alias
            return None
        raise


def _version(client: "MlflowClient", run: "Run", model_id: str) -> "ModelVersion":
    """Return the run's version of the registered model, made if it is not there."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(RANKER)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    found = client.search_model_versions(f"name = '{RANKER}' and run_id = '{run.info.run_id}'")
    if found:
        return found[0]
    return client.create_model_version(RANKER, f"models:/{model_id}", run.info.run_id, model_id=model_id)


def _describe(
    client: "MlflowClient", version: "ModelVersion", run: "Run", judgement: Judgement, champion: "ModelVersion | None"
) -> None:
    figures = {
        name: run.data.metrics[full]
        for name, full in {
            "pairwise_accuracy": "pairwise_accuracy",
            "pairwise_accuracy_ci_low": "evaluate.pairwise_accuracy_ci_low",
            "pairwise_accuracy_ci_high": "evaluate.pairwise_accuracy_ci_high",
            "val_pairwise_accuracy": "val_pairwise_accuracy",
        }.items()
        if full in run.data.metrics
    }
    tags = {name: f"{value:.6g}" for name, value in figures.items()}
    tags |= {"verdict": judgement.verdict, "split_digest": run.data.tags.get(SPLIT_TAG, "not available")}
    tags |= {"against_version": str(champion.version)} if champion else {}
    for name, value in tags.items():
        client.set_model_version_tag(RANKER, version.version, name, value)
    accuracy = "{pairwise_accuracy:.3f}, interval {pairwise_accuracy_ci_low:.3f} to {pairwise_accuracy_ci_high:.3f}"
    told = accuracy.format(**figures) if len(figures) == 4 else "not available"
    side = tags["split_digest"][:_SPLIT_CHARS]
    client.update_model_version(
        RANKER,
        version.version,
        f"run {named(run)}: pairwise accuracy {told}, on the test split of split {side}. {judgement.words}.",
    )
