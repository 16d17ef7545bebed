"""The stage `report`."""

import subprocess
import sys
from pathlib import Path

import pytest
from result_folder import write_result_folder

from mirip.data.split import read_splits, split_digest
from mirip.errors import DataError
from mirip.models.evaluation_count import record_evaluated
from stages import report


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(write_result_folder(tmp_path, n_images=200))
    return tmp_path


@pytest.mark.slow
def test_it_writes_the_page_and_says_where(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report.main()
    assert (folder / "metrics/report.html").read_text().startswith("<!doctype html>")
    assert capsys.readouterr().out == "report: metrics/report.html\n"


@pytest.mark.parametrize(
    ("missing", "command"),
    [
        ("metrics/evaluate.json", "dvc repro evaluate"),
        ("metrics/data.json", "dvc repro prepare"),
        ("metrics/train/curves.csv", "dvc repro train"),
        ("metrics/evaluate/coverage.csv", "dvc repro evaluate"),
        ("metrics/audit/shortcuts.csv", "dvc repro audit"),
        ("metrics/audit/label_issues.csv", "dvc repro audit"),
        ("metrics/benchmark.json", "dvc repro benchmark"),
        ("models/best_model.pt", "dvc repro train"),
        ("data/thumbnails.parquet", "dvc repro prepare"),
        ("data/splits.parquet", "dvc repro split"),
    ],
)
def test_a_missing_input_is_an_error_that_names_it_and_the_command(folder: Path, missing: str, command: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(DataError, match=f"{missing} is not found.*{command}"):
        report.main()
    assert not (folder / "metrics/report.html").exists()


def test_a_damaged_file_is_an_error(folder: Path) -> None:
    (folder / "metrics/train.json").write_text("{")
    with pytest.raises(DataError, match="is damaged"):
        report.main()


def test_a_table_that_lacks_a_column_is_an_error(folder: Path) -> None:
    (folder / "metrics/evaluate/baselines.csv").write_text("model\nmirip\n")
    with pytest.raises(DataError, match="lacks the columns pairwise_accuracy"):
        report.main()


@pytest.mark.slow
def test_empty_tables_of_the_audit_are_fine(folder: Path) -> None:
    for name in ("findings", "label_issues", "outliers", "near_duplicates"):
        path = folder / f"metrics/audit/{name}.csv"
        path.write_text(path.read_text().splitlines()[0] + "\n")
    report.main()


def test_how_many_models_were_evaluated_here_changes_no_byte(folder: Path) -> None:
    """It is the history of this place: a clone with another one must make the same page, or dvc.lock differs."""
    report.main()
    before = (folder / "metrics/report.html").read_bytes()
    record_evaluated(split_digest(read_splits("data/splits.parquet")), "a", 0.7)
    report.main()
    assert (folder / "metrics/report.html").read_bytes() == before


@pytest.mark.slow
def test_the_module_runs_alone_and_an_error_is_one_line(folder: Path, project_root: Path) -> None:
    (folder / "metrics/evaluate.json").unlink()
    done = subprocess.run(
        [sys.executable, "-m", "stages.report"],
        env={"PYTHONPATH": str(project_root), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: metrics/evaluate.json is not found")
    assert len(done.stderr.splitlines()) == 1
