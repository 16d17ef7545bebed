import json
import multiprocessing
from pathlib import Path

import pytest

from mirip.models.evaluation_count import evaluated_text, models_evaluated, record_evaluated

DIGEST = "d" * 64


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "main"))
    (tmp_path / "copy").mkdir()
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "main"


def test_each_model_counts_once_and_keeps_its_place():
    assert models_evaluated(DIGEST) == 0
    assert [record_evaluated(DIGEST, name, 0.7) for name in "abcab"] == [1, 2, 3, 1, 2]
    assert models_evaluated(DIGEST) == 3


def test_another_test_split_has_a_count_of_its_own():
    record_evaluated(DIGEST, "a", 0.7)
    assert record_evaluated("e" * 64, "b", 0.7) == 1
    assert models_evaluated(DIGEST) == 1


def test_the_count_of_a_temporary_experiment_lands_in_the_main_repository(root):
    record_evaluated(DIGEST, "a", 0.75)
    (line,) = (root / f".mirip/judged/{DIGEST}.jsonl").read_text().splitlines()
    assert json.loads(line) == {"checkpoint_sha256": "a", "pairwise_accuracy": 0.75}
    assert list(Path().iterdir()) == []


def test_a_damaged_line_loses_no_other(root):
    record_evaluated(DIGEST, "a", 0.7)
    path = root / f".mirip/judged/{DIGEST}.jsonl"
    path.write_text(path.read_text() + '{"checkpoint_sha')
    assert record_evaluated(DIGEST, "b", 0.7) == 2
    assert models_evaluated(DIGEST) == 2


def _record_several(names):
    for name in names:
        record_evaluated(DIGEST, name, 0.5)


def test_processes_that_end_together_lose_no_count():
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_record_several, args=([f"{k}-{n}" for n in range(5)],)) for k in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert models_evaluated(DIGEST) == 15


@pytest.mark.parametrize(
    ("place", "n_models", "words"),
    [
        (1, 1, None),
        (2, 2, "the 2nd model evaluated"),
        (7, 7, "the 7th model evaluated"),
        (11, 11, "the 11th model evaluated"),
        (21, 21, "the 21st model evaluated"),
        (3, 7, "the 3rd of 7 models evaluated"),
    ],
)
def test_it_is_said_in_words_from_the_second_model_on(place, n_models, words):
    said = evaluated_text(place, n_models)
    assert said == (words and f"{words} on this test split: choose by val_pairwise_accuracy")
