"""Runs found by what people know of them: an id, its beginning, or a name."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from mirip.errors import PromotionError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.store.entities import PagedList

T = TypeVar("T")

_LISTED = 5


def named(run: "Run") -> str:
    """Return how a run is spoken of: its name and the beginning of its id."""
    return f"{run.info.run_name} ({run.info.run_id[:8]})"


def search_all_runs(client: "MlflowClient", filter_string: str) -> "list[Run]":
    """Return the runs of all experiments that fit, deleted ones left out."""
    experiments = _all_pages(lambda page: client.search_experiments(max_results=1000, page_token=page))
    ids = [str(experiment.experiment_id) for experiment in experiments]
    return _all_pages(lambda page: client.search_runs(ids, filter_string, max_results=1000, page_token=page))


def find_run(client: "MlflowClient", wanted: str) -> "Run":
    """Return the one run of that id, name or beginning of an id, among all experiments.

    Raises:
        PromotionError: there is none, or there are several.
    """
    quote = '"' if "'" in wanted else "'"
    filters = [f"attributes.run_name = {quote}{wanted}{quote}"]
    if re.fullmatch("[0-9a-f]{1,32}", wanted):
        filters.append(f"attributes.run_id LIKE '{wanted}%'")
        filters.append(f"tags.`mirip.key` LIKE '{wanted}%'")  # its first digits end a run's name
    found = {run.info.run_id: run for text in filters for run in search_all_runs(client, text)}
    if not found:
        raise PromotionError(
            f"there is no run {wanted}: give its name or the beginning of its id, as `make ui` shows them"
        )
    if len(found) > 1:
        listed = [f"{run_id[:12]} ({run.info.run_name})" for run_id, run in sorted(found.items())]
        more = ", and more" if len(listed) > _LISTED else ""
        raise PromotionError(f"{wanted} may be any of {', '.join(listed[:_LISTED])}{more}: give more of the id")
    return next(iter(found.values()))


def _all_pages(search: "Callable[[str | None], PagedList[T]]") -> list[T]:
    found = search(None)
    items = list(found)
    while found.token:
        found = search(found.token)
        items += found
    return items
