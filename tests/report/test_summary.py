"""The table on the terminal: the values of the metrics files, and what is not available said so."""

import json
from pathlib import Path

import pytest
from result_folder import write_result_folder

from mirip.errors import DataError
from mirip.features.extract.history import ExtractionSummary
from mirip.params import load_params
from mirip.report.summary import print_summary, summary_rows
from mirip.workspace import Workspace

NOTHING: dict[str, dict[str, object]] = {"evaluate": {}, "audit": {}, "benchmark": {}}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a whole result and no history."""
    write_result_folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return tmp_path


def test_it_shows_the_values_of_the_metrics(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(Workspace(), load_params())
    shown = capsys.readouterr().out
    evaluate = json.loads((folder / "metrics/evaluate.json").read_text())
    for name in ("pairwise_accuracy", "pairwise_accuracy_ci_low", "baseline_ridge_accuracy"):
        assert f"{evaluate[name]:.3f}" in shown, name
    assert evaluate["verdict"] in shown
    assert "metrics/report.html" in shown


def test_without_an_evaluation_it_says_what_to_run(folder: Path) -> None:
    (folder / "metrics/evaluate.json").unlink()
    with pytest.raises(DataError, match=r"evaluate\.json is not found: run `dvc repro`"):
        print_summary(Workspace(), load_params())


def test_what_is_not_there_is_not_available() -> None:
    rows = summary_rows(NOTHING, None)
    assert {value for _, value, _ in rows} == {"not available"}


def test_the_model_is_above_the_shortcut_only_if_the_whole_interval_is() -> None:
    margin = {"margin_over_shortcut": 0.05, "margin_over_shortcut_ci_high": 0.1}
    for low, said in (
        (0.01, "the model is above these, +0.050"),
        (-0.01, "the model is not shown to be above it, +0.050"),
    ):
        audit = margin | {"margin_over_shortcut_ci_low": low}
        remarks = {name: remark for name, _, remark in summary_rows(NOTHING | {"audit": audit}, None)}
        assert said in remarks["best shortcut"]


def test_of_a_small_test_split_the_accuracy_out_of_fold_leads_and_says_why(folder: Path) -> None:
    metrics = {name: json.loads((folder / f"metrics/{name}.json").read_text()) for name in ("evaluate", "audit")}
    for small, first in ((True, "out-of-fold accuracy"), (False, "pairwise accuracy")):
        metrics["evaluate"]["small_sample"] = small
        rows = summary_rows(NOTHING | metrics, None)
        assert rows[0][0] == first
    metrics["evaluate"]["small_sample"] = True
    (_, value, remark), (name, verdict, _), *_ = summary_rows(NOTHING | metrics, None)
    assert (value, name, verdict) == ("0.667", "verdict out of fold", "met")
    assert remark.startswith("0.631 to 0.702, all ")
    assert remark.endswith("the test split is too small to decide")


def test_of_several_contexts_it_is_the_accuracy_within_one_that_leads() -> None:
    within = "out_of_fold_accuracy_within_context"
    audit = {"out_of_fold_accuracy": 0.9, within: 0.56, f"{within}_ci_low": 0.5, f"{within}_ci_high": 0.62}
    audit |= {"out_of_fold_verdict": "undecided"}
    rows = summary_rows(NOTHING | {"evaluate": {"small_sample": True}, "audit": audit}, None)
    assert rows[0][:2] == ("out of fold, in context", "0.560")
    assert rows[1][:2] == ("verdict out of fold", "undecided")


def test_history_is_told_where_there_is_any() -> None:
    extraction = ExtractionSummary(
        rows=3, computed=1, reused=2, dim=4, fingerprint="a", content_digest="b", seconds=7.0
    )
    rows = {name: (value, remark) for name, value, remark in summary_rows(NOTHING, extraction, 2)}
    assert rows["last extraction"] == ("3 rows", "1 computed, 2 reused, in 7 s")
    assert rows["models evaluated"][0] == "2"
    assert "models evaluated" not in {name for name, _, _ in summary_rows(NOTHING, extraction, 1)}
