"""One run for one result, although nothing in MLflow is unique but a run's id.

A request whose answer is late or lost is sent again, and then makes a second run; two clones that publish one result at
the same moment make two as well. So whoever has made a run looks again, and all choose alike: a run that is complete
before one that is not, then the one that began first, then the smaller id. Whoever made another one removes it. Once a
run is complete, all that were begun beside it go, whoever made them.
"""

import time
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING

from mirip.tracking.lengths import run_name

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

KEY_TAG = "mirip.key"
PUBLICATION_TAG = "mirip.publication"  # which publication made a run

_POLL_S = 0.5


class RunsOfKey:
    """The runs of one result, as one publication sees them.

    Args:
        client: of the store.
        experiment_id: the experiment that they are in.
        key: of the result; see `mirip.tracking.result.result_key`.
    """

    def __init__(self, client: "MlflowClient", experiment_id: str, key: str) -> None:
        self._client, self._experiment_id, self._key = client, experiment_id, key
        self._publication = uuid.uuid4().hex
        self._known = {run.info.run_id for run in self._find()}

    def take(self, name: str, made_ms: int | None, wait_s: float) -> "tuple[Run, bool]":
        """Return the run to complete, made if there is none, and whether there was one.

        Args:
            name: of a new run.
            made_ms: when a new run began, in milliseconds since 1970; None for now.
            wait_s: how long another publication may take to complete its run, before this one does.

        Raises:
            MlflowException: the server refuses a run, or is unavailable.
        """
        if not self._known:
            self._make(name, made_ms)
        run, deadline = self.settle(), time.monotonic() + wait_s
        while run.info.status != "FINISHED" and not self._is_own(run) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
            run = self.settle()
        return run, run.info.run_id in self._known or not self._is_own(run)

    def settle(self) -> "Run":
        """Return the run that all choose, and remove those that this publication may remove.

        Raises:
            MlflowException: there is none any more, or the server is unavailable.
        """
        from mlflow.exceptions import MlflowException

        runs = self._find()
        if not runs:
            raise MlflowException("the run was deleted while it was published")
        chosen, *others = runs
        complete = chosen.info.status == "FINISHED"
        for other in others:
            left_over = other.info.status != "FINISHED" or other.info.run_id not in self._known
            if self._is_own(other) or (complete and left_over):
                with suppress(MlflowException):  # another clone removes it at this moment
                    self._client.delete_run(other.info.run_id)
        return chosen

    def _make(self, name: str, made_ms: int | None) -> None:
        from mlflow.exceptions import MlflowException

        tags = {KEY_TAG: self._key, PUBLICATION_TAG: self._publication}
        try:
            self._client.create_run(self._experiment_id, start_time=made_ms, tags=tags, run_name=run_name(name))
        except MlflowException:  # its answer may be lost, and the run be there
            if not self._find():
                raise

    def _is_own(self, run: "Run") -> bool:
        return bool(run.data.tags.get(PUBLICATION_TAG) == self._publication)

    def _find(self) -> "list[Run]":
        """Return the runs of the result, the one that all choose first."""
        found = self._client.search_runs(
            [self._experiment_id], filter_string=f"tags.`{KEY_TAG}` = '{self._key}'", max_results=1000
        )
        return sorted(found, key=lambda run: (run.info.status != "FINISHED", run.info.start_time, run.info.run_id))
