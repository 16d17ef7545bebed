from result_repository import ResultRepository

from mirip.experiments.pull_request.revision import Revision, committed, merge_base, working_tree
from mirip.experiments.pull_request.tables import headline_table, other_metrics, params_table, speed


def revisions() -> tuple[Revision, Revision]:
    return committed(merge_base("main"), "main"), working_tree("this branch")


def row(table: str, label: str) -> list[str]:
    (found,) = [line for line in table.splitlines() if line.startswith(f"| {label} |")]
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_params_show_both_values_and_one_that_is_new() -> None:
    changed = {"params.yaml": {"train.loss": {"old": "logistic", "new": "margin"}, "train.x": {"new": None}}}
    assert params_table(changed).splitlines()[2:] == [
        "| `train.loss` | `logistic` | `margin` |",
        "| `train.x` |  | `null` |",
    ]
    assert params_table({}) == ""


def test_a_value_cannot_break_out_of_its_cell() -> None:
    shown = params_table({"params.yaml": {"a": {"old": "x | @all\n`y`", "new": 1}}})
    assert "`x \\| @all 'y'`" in shown
    assert len(shown.splitlines()) == 3


def test_a_metric_has_its_interval_in_its_row(repository: ResultRepository) -> None:
    ends = {"pairwise_accuracy_ci_low": 0.62, "pairwise_accuracy_ci_high": 0.78}
    repository.set_metrics("evaluate", pairwise_accuracy=0.7, **ends)
    repository.commit("x")
    repository.git("branch", "-qf", "main")
    repository.set_metrics("evaluate", pairwise_accuracy=0.713)
    cells = row(headline_table(*revisions(), same_test_split=True), "Test pairwise accuracy")
    assert cells[1:] == ["70.0 % (62.0 to 78.0)", "71.3 % (62.0 to 78.0)", "+1.3 points"]


def test_the_validation_accuracy_comes_first(repository: ResultRepository) -> None:
    repository.set_metrics("train", val_pairwise_accuracy=0.75)
    table = headline_table(*revisions(), same_test_split=True)
    assert table.splitlines()[2] == "| Validation pairwise accuracy | 70.8 % | 75.0 % | +4.2 points |"


def test_metrics_of_other_test_splits_are_not_subtracted(repository: ResultRepository) -> None:
    repository.set_metrics("evaluate", pairwise_accuracy=0.9)
    repository.set_metrics("split", digest="other")
    table = headline_table(*revisions(), same_test_split=False)
    assert row(table, "Test pairwise accuracy")[3] == "not comparable"
    assert row(table, "Validation pairwise accuracy")[3] == "not comparable"


def test_a_base_without_metrics_shows_those_of_the_branch(repository: ResultRepository) -> None:
    before, after = revisions()
    empty = Revision("main", before.commit, {stage: {} for stage in before.metrics}, None, None, None, "none")
    assert row(headline_table(empty, after, same_test_split=False), "Best shortcut")[1:3] == ["–", "`department`"]


def test_nothing_that_changed_is_no_table(repository: ResultRepository) -> None:
    assert headline_table(*revisions(), same_test_split=True) == ""
    assert other_metrics(*revisions()) == ""


def test_other_metrics_hold_what_changed_and_no_more(repository: ResultRepository) -> None:
    repository.set_metrics("train", best_epoch=3, val_pairwise_accuracy=0.9)
    repository.set_metrics("benchmark", images_per_second=1.0)
    assert other_metrics(*revisions()).splitlines()[2:] == ["| `train.best_epoch` | 18 | 3 | −15 |"]


def test_another_metric_has_its_interval_in_its_row_too(repository: ResultRepository) -> None:
    repository.set_metrics("audit", out_of_fold_accuracy=0.7, out_of_fold_accuracy_ci_low=0.65)
    expected = "| `audit.out_of_fold_accuracy` | 0.667 (0.631 to 0.702) | 0.700 (0.650 to 0.702) | +0.033 |"
    assert other_metrics(*revisions()).splitlines()[2:] == [expected]


def test_speed_is_compared_on_the_same_hardware(repository: ResultRepository) -> None:
    repository.set_metrics("benchmark", pair_latency_ms_p50=206.15)
    table = speed(*revisions())
    assert row(table, "One pair, from decoded pixels, p50, ms")[1:] == ["412", "206", "× 0.50"]
    assert "on `Intel Xeon, 2 cores (cpu)`" in table


def test_speed_on_other_hardware_is_one_line_that_names_both(repository: ResultRepository) -> None:
    repository.set_metrics("benchmark", pair_latency_ms_p50=9.0, hardware="H100", device="cuda")
    said = speed(*revisions())
    assert "not compared, since the hardware differs" in said
    assert "`Intel Xeon, 2 cores (cpu)`" in said
    assert "`H100 (cuda)`" in said
    assert "\n" not in said


def test_speed_that_one_revision_did_not_measure_is_said(repository: ResultRepository) -> None:
    (repository.root / "metrics/benchmark.json").unlink()
    assert "`this branch` has no measurement" in speed(*revisions())


def test_speed_that_was_not_measured_again_is_no_table(repository: ResultRepository) -> None:
    assert speed(*revisions()) == "Latency and memory were not measured again."
