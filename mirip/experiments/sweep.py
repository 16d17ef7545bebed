"""A grid of experiments: queued under readable names, run by DVC some at a time, and listed best first."""

import itertools
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mirip.errors import DataError, ParamsError
from mirip.experiments.dvc import run_dvc
from mirip.experiments.git import git
from mirip.files import canonical_json, looked_up, parse_yaml, read_yaml, sha256_bytes
from mirip.workspace import Workspace

CHOSEN_BY = "val_pairwise_accuracy"
PARAMS = Workspace().params
_TRAINED = Workspace().metrics("train").as_posix()

_PRINTED = ("Reproducing experiment", "train: ", "error: ", "ERROR: ")
_POLL_S = 0.2
_DROP_S = 60
_LOOK_S = 10  # between two questions to DVC, each of which takes a second of a processor
_LOOKS_IN_VAIN = 3
_SHORT = {"learning_rate": "lr"}
_AXIS = "such as train.dropout=0.1,0.3"


def parse_grid(texts: Sequence[str]) -> list[dict[str, str]]:
    """Return the points of a grid, each a value by param, from texts such as "train.loss=logistic,margin".

    Raises:
        ParamsError: a text is not of that form.
    """
    axes = []
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or not all((name, *values.split(","))):
            raise ParamsError(f"{text!r} is not an axis of a grid", f"write a param and its values, {_AXIS}")
        axes.append([(name, value) for value in dict.fromkeys(values.split(","))])
    return [dict(point) for point in itertools.product(*axes)]


def point_name(point: Mapping[str, str]) -> str:
    """Name a point after its values, as lr0.001-margin-seed42: the param's name comes before a number, not a word."""
    parts = []
    for param, value in point.items():
        name = param.rpartition(".")[2]
        number = re.fullmatch(r"-?[.\d].*", value) is not None
        parts.append(f"{_SHORT.get(name, name.replace('_', ''))}{value}" if number else value)
    return re.sub(r"[^\w.]+", "-", "-".join(parts)).strip("-.")


def sweep(texts: Sequence[str], jobs: int) -> list[tuple[str, float]]:
    """Run the experiments of a grid that do not exist yet, and return name and `val_pairwise_accuracy`, best first.

    An experiment exists if one on the current commit has the point's name and the same params. If another one has the
    name, some digits of the params' digest are added to the point's.

    Args:
        texts: see `parse_grid`.
        jobs: how many run at once.

    Raises:
        ParamsError: as `parse_grid`, a param that params.yaml does not have, or fewer than one job.
        DataError: DVC cannot queue an experiment in this folder or at all, older ones wait in its queue, or one failed;
            those that ran are kept.
        KeyboardInterrupt: those that ran are kept, and nothing goes on in the background.
    """
    if jobs < 1:
        raise ParamsError(f"{jobs} jobs cannot run anything", "give --jobs 1 or more")
    points = _named_points(parse_grid(texts))
    _check_path(Path.cwd().resolve())
    known = [name for name in points if _experiment(name, _TRAINED) is not None]
    if len(known) < len(points):
        _check_queue_is_empty()
    try:
        for number, (name, point) in enumerate(points.items(), start=1):
            print(
                f"sweep: {number}/{len(points)} {name}: {'has run already' if name in known else 'queued'}", flush=True
            )
            if name not in known:
                settings = [word for param, value in point.items() for word in ("-S", f"{param}={_quoted(value)}")]
                run_dvc("exp", "run", "--queue", "--name", name, *settings)
        if len(known) < len(points):
            _run_queue(jobs)
    except (KeyboardInterrupt, DataError):
        print("sweep: stopping; the same command goes on with what has not run", file=sys.stderr, flush=True)
        _drop_queue()
        raise
    results = {name: _experiment(name, _TRAINED) for name in points}
    if failed := [name for name, result in results.items() if result is None]:
        raise DataError(f"{len(failed)} of {len(points)} experiments failed", f"see `dvc queue logs {failed[0]}`")
    found = [(name, float(json.loads(result)[CHOSEN_BY])) for name, result in results.items() if result is not None]
    return sorted(found, key=lambda item: -item[1])


def _quoted(text: str) -> str:
    """Return a value as DVC reads it: in its grammar, a text with letters beyond ASCII needs quotes."""
    return text if text.isascii() else "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _named_points(points: Sequence[Mapping[str, str]]) -> dict[str, Mapping[str, str]]:
    """Return the points by a name that no experiment with other params has."""
    values = read_yaml(PARAMS)
    if not values:
        raise ParamsError(f"{PARAMS} is not found", "run this in the project's root")
    named: dict[str, Mapping[str, str]] = {}
    for point in points:
        params = _with_point(values, point)
        name = point_name(point)
        there = _experiment(name, PARAMS.as_posix())
        if name in named or (there is not None and parse_yaml(there) != params):
            name = f"{name}-{sha256_bytes(canonical_json(params).encode())[:6]}"
        named[name] = point
    return named


def _with_point(values: Mapping[str, Any], point: Mapping[str, str]) -> dict[str, Any]:
    """Return the params with a point's values set.

    Raises:
        ParamsError: there is no such param.
    """
    params: dict[str, Any] = json.loads(canonical_json(values))
    for param, text in point.items():
        section, _, name = param.rpartition(".")
        inner = looked_up(params, section) if section else params
        if not isinstance(inner, dict) or name not in inner:
            raise ParamsError(f"{PARAMS} has no {param}", f"write a param and its values, {_AXIS}")
        inner[name] = parse_yaml(text, f"{param}={text}")
    return params


def _experiment(name: str, path: str) -> str | None:
    """Return the content of a file of an experiment on the current commit; None where there is no such file."""
    head = (git("rev-parse", "HEAD") or "").strip()
    return git("show", f"refs/exps/{head[:2]}/{head[2:]}/{name}:./{path}")


def _check_path(root: Path) -> None:
    if not str(root).isascii():
        raise DataError(
            f"DVC cannot queue experiments in {root}, whose path has letters beyond ASCII",
            "move the project to a path without, or run one experiment after the other with `dvc exp run`",
        )


def _check_queue_is_empty() -> None:
    if waiting := _queue().n_waiting:
        raise DataError(
            f"{waiting} older experiments run or wait in the queue, as `dvc queue status` lists them",
            "let them end (`dvc queue start`), or drop them (`dvc queue stop --kill`, `dvc queue remove --queued`)",
        )


@dataclass(frozen=True)
class _Queue:
    """How many experiments run or wait, and how many workers of DVC there are for them; which ones it calls running."""

    n_waiting: int
    n_workers: int
    running: list[str]


def _queue() -> _Queue:
    status = run_dvc("queue", "status")
    workers = re.search(r"Worker status: (\d+) active, (\d+) idle", status)
    return _Queue(
        len(re.findall(r"\b(?:Queued|Running)\b", status)),
        sum(int(count) for count in workers.groups()) if workers else 0,
        re.findall(r"^(\w+)\b.*\bRunning\b", status, re.MULTILINE),
    )


def _run_queue(jobs: int) -> None:
    """Run what is queued until each experiment is done or has failed, whatever becomes of DVC's workers.

    An experiment whose worker was killed has failed. Those that still wait get new workers, as long as that helps.
    """
    waiting = _queue().n_waiting
    while waiting:
        if not _run_all(jobs):
            _end_running()
        before, waiting = waiting, _queue().n_waiting
        if waiting >= before:
            _drop_queue()
            return


def _end_running() -> None:
    """End experiments that have lost their worker, which DVC would list as running for ever.

    The first `dvc queue kill` ends the process, the second finds none and lists the experiment as failed. `dvc queue
    stop` would also stop the next worker as soon as it starts.
    """
    for _ in range(2):
        if running := _queue().running:
            with suppress(DataError):
                run_dvc("queue", "kill", "--force", *running)
            time.sleep(1)


def _run_all(jobs: int) -> bool:
    """Let DVC run the queue, and print from its long log which experiment runs and what its training came to.

    The log goes through a file: a worker of DVC that outlives its command would hold a pipe open. DVC's command waits
    for ever for an experiment whose worker is gone or that fails before it starts; then it is killed.

    Returns:
        False where experiments are left that no worker runs.
    """
    command = [sys.executable, "-m", "dvc", "exp", "run", "--run-all", "--jobs", str(jobs)]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as stream:
            process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
        watched = _Watched(process)
        try:
            for line in _lines(log, watched.has_ended):
                if line.startswith(_PRINTED):
                    print(f"sweep: {line.strip()}", flush=True)
        finally:
            if watched.in_vain:
                process.kill()
                process.wait()
    return not watched.abandoned


class _Watched:
    """DVC's command that runs a queue, and whether it still has anything to wait for."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.in_vain = False  # nothing is left that it could wait for
        self.abandoned = False  # experiments are left, and no worker
        self._process, self._n_in_vain = process, 0
        self._next_look = time.monotonic() + _LOOK_S

    def has_ended(self) -> bool:
        """Return whether the command has ended, or waits in vain; DVC is asked now and then."""
        if self._process.poll() is not None or self.in_vain:
            return True
        if time.monotonic() > self._next_look:
            found = _queue()
            # A worker needs seconds to start and to stop, and a busy one may answer late.
            self._n_in_vain = 0 if found.n_waiting and found.n_workers else self._n_in_vain + 1
            self.in_vain = self._n_in_vain >= _LOOKS_IN_VAIN
            self.abandoned = self.in_vain and found.n_waiting > 0
            self._next_look = time.monotonic() + _LOOK_S
        return self.in_vain


def _lines(log: Path, has_ended: Callable[[], bool]) -> Iterator[str]:
    """Yield the lines of a file as a process writes them, until it has ended."""
    line, ended = "", False
    with log.open(encoding="utf-8", errors="replace") as stream:
        while not ended:
            ended = has_ended()  # before the file is read: nothing is written afterwards
            for part in stream:
                line += part
                if line.endswith("\n"):
                    yield line
                    line = ""
            time.sleep(0 if ended else _POLL_S)
    if line:
        yield line


def _drop_queue() -> None:
    """Stop DVC's workers, which would go on by themselves, and take from the queue what has not run.

    An experiment that a worker has just taken has no process to kill yet, and is listed as running for ever once its
    worker is gone: what is still listed is stopped again.
    """
    deadline = time.monotonic() + _DROP_S
    while True:
        with suppress(DataError):  # DVC cannot kill it yet
            run_dvc("queue", "stop", "--kill")
        run_dvc("queue", "remove", "--queued")
        if not _queue().n_waiting or time.monotonic() > deadline:
            return
        time.sleep(1)
