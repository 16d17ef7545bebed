import json

import numpy as np
import pandas as pd
import pytest

from mirip.data.manifest import read_manifest, write_manifest
from stages import audit, run


def audited():
    run(audit.main)
    shortcuts = pd.read_csv(audit.TABLES / "shortcuts.csv").set_index("shortcut")
    findings = pd.read_csv(audit.TABLES / "findings.csv").set_index("name")
    return json.loads(audit.METRICS.read_text()), shortcuts, findings


def test_a_column_that_determines_the_tier_is_found_and_told(judged_project, capsys):
    metrics, shortcuts, findings = audited()
    assert metrics["best_shortcut"] in ("university", "all together")
    assert metrics["best_shortcut_accuracy"] > 0.95
    assert shortcuts.loc["university", "pairwise_accuracy"] > 0.95
    assert findings.loc["tier told by: university", "severity"] == "critical"
    printed = capsys.readouterr().out
    assert "university all but determines the tier" in printed
    assert "left out: title (240 values in 240 rows" in printed


def test_without_that_column_the_model_is_above_every_shortcut(judged_project):
    judged_project.write_params(audit={"ignore": ["university"]})
    metrics, shortcuts, findings = audited()
    assert "university" not in shortcuts.index
    assert metrics["margin_over_shortcut_ci_low"] > 0
    assert metrics["n_findings_critical"] == 0
    assert "university" in metrics["columns_left_out"]
    assert not any("university" in name for name in findings.index)


def test_every_name_is_there_and_tables_bear_their_columns(judged_project):
    metrics, shortcuts, findings = audited()
    names = ["best_shortcut", "best_shortcut_accuracy", "n_findings"]
    names += [f"margin_over_shortcut{end}" for end in ("", "_ci_low", "_ci_high")]
    assert set(names) <= set(metrics)
    assert {"file size", "resolution and aspect", "brightness and colour", "row order", "medium"} <= set(
        shortcuts.index
    )
    assert list(shortcuts)[:3] == ["pairwise_accuracy", "ci_low", "ci_high"]
    assert list(findings) == ["severity", "value", "p_value", "advice"]


def test_group_columns_names_and_constants_predict_nothing(judged_project):
    _, shortcuts, _ = audited()
    assert not {"artist", "title", "JPEG quality", "file format"} & set(shortcuts.index)


def test_a_second_run_gives_the_same_bytes(judged_project):
    run(audit.main)
    first = judged_project.outputs()
    run(audit.main)
    assert judged_project.outputs() == first
    assert sorted(first) == ["metrics/audit.json", "metrics/audit/findings.csv", "metrics/audit/shortcuts.csv"]


def test_to_ignore_a_column_that_is_not_there_is_an_error(judged_project):
    judged_project.write_params(audit={"ignore": ["univercity"]})
    with pytest.raises(SystemExit, match=r"audit\.ignore names univercity; the metadata has artist, medium"):
        run(audit.main)
    assert not audit.METRICS.exists()


def test_a_manifest_of_other_images_is_an_error(judged_project):
    manifest = read_manifest(audit.MANIFEST)
    write_manifest(audit.MANIFEST, manifest.iloc[1:])
    with pytest.raises(SystemExit, match="list different images: run `dvc repro split`"):
        run(audit.main)


def test_several_context_columns_are_also_taken_together(judged_project):
    manifest = read_manifest(audit.MANIFEST)
    manifest["meta_theme"] = np.where(manifest["row"] % 2, "rain", "sun")
    manifest["context"] = manifest["meta_medium"] + " / " + manifest["meta_theme"]
    one, _ = audit.shortcut_columns(manifest, group=(), context=("medium",), ignore=())
    two, _ = audit.shortcut_columns(manifest, group=(), context=("medium", "theme"), ignore=())
    assert set(two) - set(one) == {"context"}
