import json

import numpy as np
import pandas as pd
import published_names
import pytest
import yaml

from mirip.data.manifest import read_manifest
from mirip.data.split import read_splits
from mirip.data.tables import write_table
from mirip.metrics.pairwise import pairwise_accuracy
from mirip.params import load_params
from mirip.workspace import Workspace
from stages import audit, evaluate, extract, prepare, run, split, train

WORKSPACE = Workspace()


@pytest.fixture
def trained_project(trained_project):
    """With the scores of the test split, which the stage evaluate writes."""
    trained_project.score_test_split()
    return trained_project


def audited():
    run(audit.main)
    shortcuts = pd.read_csv(WORKSPACE.tables("audit") / "shortcuts.csv").set_index("shortcut")
    findings = pd.read_csv(WORKSPACE.tables("audit") / "findings.csv").set_index("name")
    return json.loads(WORKSPACE.metrics("audit").read_text()), shortcuts, findings


@pytest.mark.slow
def test_a_column_that_determines_the_tier_is_found_and_told(trained_project, capsys):
    metrics, shortcuts, findings = audited()
    assert metrics["best_shortcut"] in ("university", "all together")
    assert metrics["best_shortcut_accuracy"] > 0.95
    assert shortcuts.loc["university", "pairwise_accuracy"] > 0.95
    assert findings.loc["label leak: university", "severity"] == "critical"
    printed = capsys.readouterr().out
    assert "university nearly determines the tier" in printed
    assert "left out: title (240 values in 240 rows" in printed


def test_without_that_column_the_model_is_above_every_shortcut(trained_project):
    trained_project.write_params(audit={"ignore": ["university"]})
    metrics, shortcuts, findings = audited()
    assert "university" not in shortcuts.index
    assert metrics["margin_over_shortcut_ci_low"] > 0
    assert metrics["n_findings_critical"] == 0
    assert "university" in metrics["columns_left_out"]
    assert not any("university" in name for name in findings.index)


def test_every_name_is_there_and_tables_bear_their_columns(trained_project):
    metrics, shortcuts, findings = audited()
    names = {
        f"{name}{end}" for name in ("margin_over_shortcut", "out_of_fold_accuracy") for end in ("_ci_low", "_ci_high")
    }
    names |= {"out_of_fold_accuracy", "n_effective_images", "n_near_duplicates"}
    assert published_names.AUDIT | names <= set(metrics)
    assert (metrics["n_images"], metrics["n_folds"]) == (240, 4)  # two folds, validation and test split
    assert metrics["n_effective_images"] <= 240
    assert {"file size", "resolution and aspect", "brightness and colour", "row order", "medium"} <= set(
        shortcuts.index
    )
    assert list(shortcuts)[:3] == ["pairwise_accuracy", "ci_low", "ci_high"]
    assert list(findings) == ["severity", "value", "p_value", "advice"]


def test_label_issues_and_outliers_are_named_by_hash(trained_project):
    run(audit.main)
    label_issues, outliers = (
        pd.read_csv(WORKSPACE.tables("audit") / f"{name}.csv") for name in ("label_issues", "outliers")
    )
    assert list(label_issues) == ["id", "tier", "fold", "score_percentile", "misordered_share"]
    assert list(outliers) == ["id", "tier", "distance"]
    assert (len(label_issues), len(outliers)) == (50, 20)
    assert label_issues["id"].str.fullmatch("[0-9a-f]{16}").all()
    assert label_issues["misordered_share"].iloc[0] > 0.5


def test_a_near_duplicate_across_the_split_is_found_and_no_path_is_written(trained_project, capsys):
    splits = read_splits(WORKSPACE.splits)
    features = trained_project.features(splits)
    seen, tested = (np.flatnonzero(splits["split"] == side)[0] for side in ("train", "test"))
    features[tested] = features[seen] + 0.01
    trained_project.write_features(splits, features=features)
    metrics, _, findings = audited()
    (pair,) = pd.read_csv(WORKSPACE.tables("audit") / "near_duplicates.csv").to_dict("records")
    assert (pair["split"], pair["other_split"]) == ("test", "train")
    assert pair["relative_distance"] < 0.1
    finding = findings.loc["near-duplicates across splits"]
    assert (finding["severity"], finding["value"]) == ("warning", 1)
    assert np.isnan(finding["p_value"])
    assert metrics["n_near_duplicates"] == 1
    paths = [splits["image_path"][row] for row in (tested, seen)]
    assert f"near-duplicates: {paths[0]} and {paths[1]}" in capsys.readouterr().out
    assert not any(b"images/" in written for written in trained_project.outputs().values())


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_where_features_say_nothing_no_target_is_met(trained_project, seed):
    splits = read_splits(WORKSPACE.splits)
    noise = np.random.default_rng(seed).normal(size=(len(splits), 16))
    trained_project.write_features(splits, features=noise)
    trained_project.write_params(audit={"ignore": ["university"]})
    trained_project.train()
    run(evaluate.main)
    assert json.loads(WORKSPACE.metrics("evaluate").read_text())["verdict"] in ("missed", "undecided")
    metrics, _, findings = audited()
    assert metrics["out_of_fold_accuracy_ci_low"] < 0.55
    assert metrics["margin_over_shortcut_ci_low"] < 0
    assert metrics["margin_over_shortcut_verdict"] == "within noise"
    assert not any("margin" in name for name in findings.index)


@pytest.mark.slow
def test_it_fails_on_a_finding_as_grave_as_is_said_after_writing(trained_project):
    trained_project.write_params(audit={"fail_on": "critical"})
    with pytest.raises(
        SystemExit, match=r"audit\.fail_on is critical, and the audit found .*label leak: university"
    ) as end:
        run(audit.main)
    assert "\n" not in str(end.value)
    assert len(trained_project.outputs()) == 9
    trained_project.write_params(audit={"fail_on": "critical", "ignore": ["university"]})
    run(audit.main)


@pytest.mark.parametrize("path", [WORKSPACE.cross_fit, WORKSPACE.scores], ids=["out of fold", "test split"])
def test_scores_of_other_images_are_an_error(trained_project, path):
    if path.suffix == ".csv":
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    else:
        write_table(path, pd.read_parquet(path).iloc[::-1])
    with pytest.raises(
        SystemExit, match=r"are of other images than data/splits\.parquet: run `dvc repro train evaluate`"
    ):
        run(audit.main)


@pytest.mark.parametrize("broken", [np.nan, "abc"])
@pytest.mark.parametrize("path", [WORKSPACE.cross_fit, WORKSPACE.scores], ids=["out of fold", "test split"])
def test_a_score_that_is_no_number_is_an_error(trained_project, path, broken):
    table = pd.read_csv(path, dtype={"id": str}) if path.suffix == ".csv" else pd.read_parquet(path)
    table["score"] = [broken, *table["score"].astype(type(broken)).iloc[1:]]
    table.to_csv(path, index=False) if path.suffix == ".csv" else write_table(path, table)
    with pytest.raises(SystemExit, match=r"is damaged .*: run `dvc repro train evaluate`") as error:
        run(audit.main)
    assert "\n" not in str(error.value)


def test_images_that_no_model_could_score_are_left_out_and_told(trained_project, capsys):
    table = pd.read_parquet(WORKSPACE.cross_fit)
    first = table["fold"] == 0
    write_table(WORKSPACE.cross_fit, table.assign(fold=table["fold"].mask(first, -1), score=table["score"].mask(first)))
    metrics, _, _ = audited()
    assert metrics["n_images"] == 240 - first.sum()
    assert f"left out: {first.sum()} images, for want of groups" in capsys.readouterr().out
    assert len(pd.read_csv(WORKSPACE.out_of_fold)) == metrics["n_images"]


def test_group_columns_names_and_constants_predict_nothing(trained_project):
    _, shortcuts, _ = audited()
    assert not {"artist", "title", "JPEG quality", "file format"} & set(shortcuts.index)


def test_what_every_column_and_context_tells_is_written_whether_found_or_not(trained_project):
    _, _, findings = audited()
    columns = pd.read_csv(WORKSPACE.tables("audit") / "columns.csv").set_index("column")
    assert list(columns) == ["information", "expected", "share", "p_value"]
    assert {"university", "medium", "file_bytes", "frame_step"} <= set(columns.index)
    assert columns.index.is_unique
    assert columns["share"].is_monotonic_decreasing
    leak = findings.loc["label leak: university"]
    assert columns.loc["university", ["share", "p_value"]].tolist() == leak[["value", "p_value"]].tolist()
    assert (columns["p_value"] > 0.05).any()


@pytest.mark.slow
def test_a_second_run_gives_the_same_bytes(trained_project):
    run(audit.main)
    first = trained_project.outputs()
    run(audit.main)
    assert trained_project.outputs() == first
    tables = ("columns", "findings", "label_issues", "near_duplicates", "outliers", "shortcuts")
    of_tables = [f"metrics/audit/{name}.csv" for name in tables]
    assert sorted(first) == ["metrics/audit.json", *of_tables, "metrics/out_of_fold_scores.csv", "metrics/scores.csv"]


def test_to_ignore_a_column_that_is_not_there_is_an_error(trained_project):
    trained_project.write_params(audit={"ignore": ["univercity"]})
    with pytest.raises(SystemExit, match=r"audit\.ignore names univercity, .*name columns that it has: artist, medium"):
        run(audit.main)
    assert not WORKSPACE.metrics("audit").exists()


def test_a_manifest_of_other_images_is_an_error(trained_project):
    manifest = read_manifest(WORKSPACE.manifest)
    write_table(WORKSPACE.manifest, manifest.iloc[1:])
    with pytest.raises(SystemExit, match="list different images: run `dvc repro split`"):
        run(audit.main)


@pytest.fixture(scope="module")
def paintings(tmp_path_factory, shared_folder, project_root, savoias, mobilenet):
    """A project of 420 real paintings, up to the trained model; its tiers were cut from the column complexity."""
    folder = tmp_path_factory.mktemp("paintings")
    table = pd.read_csv(savoias / "metadata.csv")
    table[table["category"] == "art"].to_csv(folder / "metadata.csv", index=False)
    values = yaml.safe_load((project_root / "params.yaml").read_text())
    values["data"] |= {"images": str(savoias), "metadata": "metadata.csv", "group": None, "context": None}
    values["extract"]["recipe"] = "mobilenet"
    recipe = {"backbone": str(mobilenet), "image_size": 160, "compute_dtype": "float32"}
    values["recipes"] = {"mobilenet": recipe}
    values["audit"]["ignore"] = ["complexity"]
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DVC_ROOT", str(shared_folder / "paintings"))  # another test extracts them too
        for stage in (prepare, split, extract, train, evaluate):
            run(stage.main)
    return folder, values


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.timeout(900)
def test_on_real_paintings_the_model_is_above_all_that_files_tell(paintings, monkeypatch):
    folder, values = paintings
    monkeypatch.chdir(folder)
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    metrics, shortcuts, findings = audited()
    assert metrics["n_images"] == 420
    assert shortcuts.loc["file size", "pairwise_accuracy"] == pytest.approx(0.71, abs=0.03)
    assert shortcuts.loc["all together", "pairwise_accuracy"] == pytest.approx(0.78, abs=0.03)
    assert metrics["out_of_fold_accuracy"] > 0.85
    assert metrics["margin_over_shortcut_ci_low"] > 0.05
    assert set(findings["severity"]) == {"info"}


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.timeout(900)
def test_on_real_paintings_the_column_that_tiers_were_cut_from_is_a_leak(paintings, monkeypatch):
    folder, values = paintings
    monkeypatch.chdir(folder)
    (folder / "params.yaml").write_text(yaml.safe_dump(values | {"audit": values["audit"] | {"ignore": None}}))
    _, shortcuts, findings = audited()
    assert findings.loc["label leak: complexity", "severity"] == "critical"
    assert shortcuts.loc["complexity", "pairwise_accuracy"] > 0.99


def test_the_verdict_out_of_fold_is_on_the_pairs_within_a_context(trained_project):
    run(audit.main)
    found = json.loads(WORKSPACE.metrics("audit").read_text())
    scores = pd.read_csv(WORKSPACE.out_of_fold, dtype={"context": str})
    assert scores["context"].nunique() > 1
    within = found["out_of_fold_accuracy_within_context"]
    assert within == pytest.approx(
        pairwise_accuracy(scores["score"], scores["tier_rank"], context=scores["context"] + scores["fold"].astype(str))
    )
    low = found["out_of_fold_accuracy_within_context_ci_low"]
    assert low < within < found["out_of_fold_accuracy_within_context_ci_high"]
    assert found["out_of_fold_verdict"] == ("met" if low >= load_params().evaluate.target_accuracy else "undecided")
