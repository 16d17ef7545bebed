"""A grid of experiments: queued under readable names, run by DVC some at a time, and listed best first."""

import itertools
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence

from mirip.errors import DataError, ParamsError
from mirip.git import git

CHOSEN_BY = "val_pairwise_accuracy"

_TOLD = ("Reproducing experiment", "train: ", "error: ", "ERROR: ")
_SHORT = {"learning_rate": "lr"}


def parse_grid(texts: Sequence[str]) -> list[dict[str, str]]:
    """Return the points of a grid, each a value by param, from texts such as "train.loss=logistic,margin".

    Raises:
        ParamsError: a text is not of that form.
    """
    axes = []
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or not all((name, *values.split(","))):
            raise ParamsError(f"{text!r} is no axis of a grid: write a param and its values, as train.dropout=0.1,0.3")
        axes.append([(name, value) for value in values.split(",")])
    return [dict(point) for point in itertools.product(*axes)]


def point_name(point: Mapping[str, str]) -> str:
    """Name a point after its values, as lr0.001-margin-seed42: a number bears its param's name, a word is clear."""
    parts = []
    for param, value in point.items():
        name = param.rpartition(".")[2]
        parts.append(f"{_SHORT.get(name, name.replace('_', ''))}{value}" if value[:1].isdigit() else value)
    return "-".join(parts)


def sweep(texts: Sequence[str], jobs: int) -> list[tuple[str, float]]:
    """Run the experiments of a grid that are not there yet, and return name and `val_pairwise_accuracy`, best first.

    Args:
        texts: see `parse_grid`.
        jobs: how many run at once.

    Raises:
        ParamsError: as `parse_grid`.
        DataError: DVC cannot queue an experiment, or one failed; those that ran stand.
    """
    names = {point_name(point): point for point in parse_grid(texts)}
    known = [name for name in names if _result(name) is not None]
    for number, (name, point) in enumerate(names.items(), start=1):
        print(f"sweep: {number}/{len(names)} {name}: {'is there' if name in known else 'queued'}", flush=True)
        if name not in known:
            settings = [word for param, value in point.items() for word in ("-S", f"{param}={value}")]
            _dvc("exp", "run", "--quiet", "--queue", "--name", name, *settings)
    if len(known) < len(names):
        _run_queue(jobs)
    results = {name: _result(name) for name in names}
    if failed := [name for name, result in results.items() if result is None]:
        raise DataError(f"{len(failed)} of {len(names)} experiments failed: see `dvc queue logs {failed[0]}`")
    found = [(name, result) for name, result in results.items() if result is not None]
    return sorted(found, key=lambda item: -item[1])


def _result(name: str) -> float | None:
    """Return what an experiment on the current commit reached, None where it is not there."""
    head = (git("rev-parse", "HEAD") or "").strip()
    text = git("show", f"refs/exps/{head[:2]}/{head[2:]}/{name}:./metrics/train.json")
    return None if text is None else float(json.loads(text)[CHOSEN_BY])


def _run_queue(jobs: int) -> None:
    """Run what is queued, and pass on of DVC's long log which experiment runs and what its training came to."""
    command = [sys.executable, "-m", "dvc", "exp", "run", "--run-all", "--jobs", str(jobs)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout or ():
            if line.startswith(_TOLD):
                print(f"sweep: {line.strip()}", flush=True)


def _dvc(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], check=False)
    if done.returncode:
        raise DataError(f"`dvc {' '.join(arguments)}` failed: what it says stands above")
