"""How many models have been evaluated on a test split: who chooses among them by their test accuracy wears it out.

The record is .mirip/judged/<split digest>.jsonl in the main repository's root, one line for each distinct checkpoint,
also from temporary and queued experiments. It is history of this place, so it never enters metrics/: two clones that
evaluate the same model write the same bytes. A value that DVC takes from its run-cache was counted when it was first
computed.
"""

import json
from pathlib import Path

from mirip.files import sha256_file, write_text
from mirip.locks import locked_file
from mirip.workspace import private_folder


def record_evaluated(split_digest: str, checkpoint_sha256: str, pairwise_accuracy: float) -> int:
    """Record that a model was evaluated on a test split; return its place among those evaluated there, from 1.

    A checkpoint that was evaluated there before keeps its place.

    Args:
        split_digest: of `mirip.data.split.split_digest`.
        checkpoint_sha256: of the checkpoint's bytes.
        pairwise_accuracy: its value on that split.
    """
    path = _path(split_digest)
    with locked_file(path.with_suffix(".lock")):  # experiments of one queue end at the same time
        known = _read(path)
        seen = [row["checkpoint_sha256"] for row in known]
        if checkpoint_sha256 in seen:
            return seen.index(checkpoint_sha256) + 1
        row = {"checkpoint_sha256": checkpoint_sha256, "pairwise_accuracy": float(pairwise_accuracy)}
        write_text(path, "".join(json.dumps(line) + "\n" for line in [*known, row]))
        return len(known) + 1


def models_evaluated(split_digest: str) -> int:
    """Return how many distinct models this repository has evaluated on the test split of a split; 0 or more."""
    return len(_read(_path(split_digest)))


def count_evaluated(split_digest: str, checkpoint: Path, pairwise_accuracy: float) -> str | None:
    """Record that a checkpoint was evaluated on a test split, and say which of how many it is; see `evaluated_text`."""
    place = record_evaluated(split_digest, sha256_file(checkpoint), pairwise_accuracy)
    return evaluated_text(place, models_evaluated(split_digest))


def evaluated_text(place: int, n_models: int) -> str | None:
    """Say which of how many models evaluated on a test split this one is, None where it is the only one."""
    if n_models < 2:
        return None
    which = f"the {_ordinal(place)} model" if place == n_models else f"the {_ordinal(place)} of {n_models} models"
    return f"{which} evaluated on this test split: choose by val_pairwise_accuracy"


def _path(split_digest: str) -> Path:
    return private_folder().evaluated / f"{split_digest}.jsonl"


def _read(path: Path) -> list[dict[str, str | float]]:
    """Return the lines of a record; one that is damaged is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and "checkpoint_sha256" in row:
            rows.append(row)
    return rows


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th") if number % 100 not in (11, 12, 13) else "th"
    return f"{number}{ending}"
