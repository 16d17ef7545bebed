"""Ask whether it is quality that was learned: the model against predictors that see no picture.

Reads   data/manifest.parquet, data/splits.parquet, features/<recipe>.h5, models/best_model.pt
Writes  metrics/audit.json, metrics/audit/shortcuts.csv, metrics/audit/findings.csv
Run     python -m stages.audit          (or `dvc repro audit`)
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from mirip.data.manifest import read_manifest
from mirip.data.split import read_splits
from mirip.data.tables import write_csv
from mirip.errors import DataError, ParamsError
from mirip.features.cache import FeatureCache
from mirip.files import write_json
from mirip.metrics.audit import Audit, audit_ranker
from mirip.metrics.shortcuts import Column, column_of
from mirip.models.judgement import judged_side, load_judged_model, model_scores
from mirip.params import load_params
from stages import run

MANIFEST = Path("data/manifest.parquet")
SPLITS = Path("data/splits.parquet")
MODEL = Path("models/best_model.pt")
METRICS = Path("metrics/audit.json")
TABLES = Path("metrics/audit")

# What is known of every file: shortcut -> the manifest's columns that it may look at.
OF_THE_FILE = {
    "file size": ["file_bytes"],
    "resolution and aspect": ["width_px", "height_px", "aspect"],
    "brightness and colour": ["brightness", "contrast", "colourfulness", "edge_density"],
    "JPEG quality": ["jpeg_quality"],
    "file format": ["format"],
    "row order": ["row"],
}
PREFIX = "meta_"


def shortcut_columns(
    manifest: pd.DataFrame, *, group: Sequence[str], context: Sequence[str], ignore: Sequence[str]
) -> tuple[dict[str, list[Column]], dict[str, str]]:
    """Gather what a predictor may look at without seeing a picture.

    Args:
        manifest: N rows.
        group: the user's columns that tie rows together; they name a person or a post, not a quality.
        context: the user's columns within which a comparison is fair; also taken together, where there are several.
        ignore: the user's columns that are known to hold the label.

    Returns:
        shortcut -> its columns of N values each, and left out: column -> why.

    Raises:
        ParamsError: `ignore` names a column that the metadata does not have.
    """
    theirs = [name.removeprefix(PREFIX) for name in manifest.columns if name.startswith(PREFIX)]
    if unknown := [name for name in ignore if name not in theirs]:
        raise ParamsError(f"audit.ignore names {', '.join(unknown)}; the metadata has {', '.join(theirs) or 'none'}")
    table = manifest.assign(aspect=manifest["width_px"] / manifest["height_px"])
    wanted = {**OF_THE_FILE, **{name: [PREFIX + name] for name in theirs}}
    if len(context) > 1 and not set(context) & set(ignore):
        wanted["context"] = ["context"]
    left_out = {name: "a column of data.group" for name in group if name in theirs}
    left_out |= dict.fromkeys(ignore, "in audit.ignore")
    shortcuts = {}
    for shortcut, names in wanted.items():
        if shortcut in left_out:
            continue
        read = {name.removeprefix(PREFIX): column_of(name.removeprefix(PREFIX), table[name]) for name in names}
        left_out |= {name: column for name, column in read.items() if isinstance(column, str)}
        if columns := [column for column in read.values() if isinstance(column, Column)]:
            shortcuts[shortcut] = columns
    return shortcuts, left_out


def side_of_each(manifest: pd.DataFrame, splits: pd.DataFrame) -> pd.Series:
    """Return the side of every row of the manifest.

    Raises:
        DataError: the two files list different images.
    """
    keys = ["image_path", "image_sha256"]
    if not manifest[keys].reset_index(drop=True).equals(splits[keys].reset_index(drop=True)):
        raise DataError(f"{SPLITS} and {MANIFEST} list different images: run `dvc repro split`")
    return splits["split"].reset_index(drop=True)


def as_text(audit: Audit, left_out: Mapping[str, str]) -> str:
    """Return the audit as a short table and a line for each finding."""
    shown = audit.shortcuts[["shortcut", "pairwise_accuracy", "margin", "margin_ci_low", "margin_ci_high"]]
    lines = [shown.to_string(index=False, float_format=lambda value: f"{value:.3f}")]
    lines += [f"left out: {name} ({why})" for name, why in left_out.items()]
    lines += [f"{f['severity']}: {f['name']}: {f['advice']}" for f in audit.findings.to_dict("records")]
    m = audit.metrics
    lines.append(
        f"audit: the model stands {m['margin_over_shortcut']:+.3f} ({m['margin_over_shortcut_ci_low']:+.3f} to "
        f"{m['margin_over_shortcut_ci_high']:+.3f}) against the best shortcut, {m['best_shortcut']}; "
        f"{m['n_findings']} findings"
    )
    return "\n".join(lines)


def main() -> None:
    """Audit as params.yaml says."""
    params = load_params()
    manifest, splits = read_manifest(MANIFEST), read_splits(SPLITS)
    side = side_of_each(manifest, splits)
    shortcuts, left_out = shortcut_columns(
        manifest, group=params.data.group, context=params.data.context, ignore=params.audit.ignore
    )
    cache = FeatureCache.open(params.features_path, params.recipe)
    model, _ = load_judged_model(MODEL, splits, cache, params.data.tiers)
    audit = audit_ranker(
        model_scores(model, cache.rows(judged_side(splits)["image_sha256"].tolist())),
        shortcuts,
        manifest["tier_rank"].to_numpy(),
        manifest["group_id"].to_numpy(),
        (side == "train").to_numpy(),
        (side == "test").to_numpy(),
        folds=params.audit.folds,
        n_bootstrap=params.audit.n_bootstrap,
        confidence=params.evaluate.confidence,
        seed=params.audit.seed,
    )
    for name, table in (("shortcuts", audit.shortcuts), ("findings", audit.findings)):
        write_csv(TABLES / f"{name}.csv", table)
    write_json(METRICS, {**audit.metrics, "columns_left_out": ", ".join(left_out)})
    print(as_text(audit, left_out))


if __name__ == "__main__":
    run(main)
