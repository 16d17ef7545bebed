"""Ask whether it is quality that was learned: the model against predictors that are blind to what is depicted.

Reads   data/manifest.parquet, data/splits.parquet, features/<recipe>.h5, models/best_model.pt
Writes  metrics/audit.json, metrics/audit/{shortcuts,columns,findings,near_duplicates,label_issues,outliers}.csv
Run     python -m stages.audit          (or `dvc repro audit`)

All images are judged, by models that are trained like the checkpoint's but saw none of the image's group.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mirip.data.manifest import read_manifest
from mirip.data.split import public_id, read_splits
from mirip.data.tables import write_csv
from mirip.errors import AuditError, DataError
from mirip.features.cache.feature_cache import FeatureCache
from mirip.files import write_json
from mirip.metrics.audit import Audit, audit_ranker
from mirip.metrics.columns import shortcut_columns
from mirip.metrics.findings import at_least, duplicate_findings
from mirip.metrics.image_issues import NearDuplicates, label_issues, near_duplicates, outliers
from mirip.models.evaluation import load_trained_model
from mirip.models.training import cross_fitted_scores
from mirip.params import load_params
from stages import run

MANIFEST = Path("data/manifest.parquet")
SPLITS = Path("data/splits.parquet")
MODEL = Path("models/best_model.pt")
METRICS = Path("metrics/audit.json")
TABLES = Path("metrics/audit")

N_PAIRS_NAMED = 3
VERDICTS = {
    "better": "above it beyond noise",
    "worse": "below it beyond noise, so do not claim that it judges quality",
    "within noise": "not shown to be above it, so give more works or do not claim that it judges quality",
}


def check_same_images(manifest: pd.DataFrame, splits: pd.DataFrame) -> None:
    """Check that row by row the two tables list the same images.

    Raises:
        DataError: they do not.
    """
    keys = ["image_path", "image_sha256"]
    if not manifest[keys].reset_index(drop=True).equals(splits[keys].reset_index(drop=True)):
        raise DataError(f"{SPLITS} and {MANIFEST} list different images: run `dvc repro split`")


def public_pairs(near: NearDuplicates, ids: pd.Series, splits: pd.DataFrame) -> pd.DataFrame:
    """Return id, split, other_id, other_split, cosine, relative_distance of each pair; a path may name people."""
    row, other = near.pairs["row"].astype(int), near.pairs["other_row"].astype(int)
    named = {
        "id": ids.iloc[row].to_numpy(),
        "split": splits["split"].iloc[row].to_numpy(),
        "other_id": ids.iloc[other].to_numpy(),
        "other_split": splits["split"].iloc[other].to_numpy(),
    }
    return pd.DataFrame(named | {name: near.pairs[name] for name in ("cosine", "relative_distance")})


def public_rows(table: pd.DataFrame, ids: pd.Series, columns: pd.DataFrame) -> pd.DataFrame:
    """Name the images of `row` by id and some columns that may be public, and keep the rest of the table."""
    rows = table["row"].to_numpy()
    return pd.concat(
        [ids.iloc[rows].reset_index(drop=True), columns.iloc[rows].reset_index(drop=True), table.drop(columns="row")],
        axis=1,
    )


def as_text(audit: Audit, left_out: Mapping[str, str], pairs: Sequence[tuple[str, str]]) -> str:
    """Return the audit as a short table, a line for each finding, and the paths of the first near-duplicates."""
    shown = audit.shortcuts[["shortcut", "pairwise_accuracy", "margin", "margin_ci_low", "margin_ci_high"]]
    lines = [shown.to_string(index=False, float_format=lambda value: f"{value:.3f}")]
    lines += [f"left out: {name} ({why})" for name, why in left_out.items()]
    lines += [f"{f['severity']}: {f['name']}: {f['advice']}" for f in audit.findings.to_dict("records")]
    lines += [f"near-duplicates: {first} and {second}" for first, second in pairs]
    m = audit.metrics
    verdict = VERDICTS[str(m["margin_over_shortcut_verdict"])]
    lines.append(
        f"audit: out of fold the model reaches {m['out_of_fold_accuracy']:.3f}, {m['margin_over_shortcut']:+.3f} "
        f"({m['margin_over_shortcut_ci_low']:+.3f} to {m['margin_over_shortcut_ci_high']:+.3f}) against the best "
        f"shortcut, {m['best_shortcut']}: {verdict}; {m['n_findings']} findings"
    )
    return "\n".join(lines)


def main() -> None:
    """Audit as params.yaml says."""
    params = load_params()
    manifest, splits = read_manifest(MANIFEST), read_splits(SPLITS)
    check_same_images(manifest, splits)
    shortcuts, left_out = shortcut_columns(
        manifest, group=params.data.group, context=params.data.context, ignore=params.audit.ignore
    )
    cache = FeatureCache.open(params.features_path, params.recipe)
    _, checkpoint = load_trained_model(MODEL, splits, cache, params.data.tiers)
    rng = np.random.default_rng(params.audit.seed)
    scores, fold = cross_fitted_scores(splits, cache, checkpoint, n_folds=params.audit.folds, rng=rng, verbose=True)
    features, rank = cache.rows(splits["image_sha256"].tolist()), splits["tier_rank"].to_numpy()
    ids = pd.Series(
        [public_id(*key) for key in zip(splits["image_sha256"], splits["image_path"], strict=True)], name="id"
    )
    near = near_duplicates(features, splits["split"].to_numpy(), rng=rng)
    pairs = public_pairs(near, ids, splits)
    audit = audit_ranker(
        scores,
        shortcuts,
        rank,
        splits["group_id"].to_numpy(),
        fold,
        more_findings=duplicate_findings(
            near, [f"{p.id} and {p.other_id}" for p in pairs[:N_PAIRS_NAMED].itertuples()]
        ),
        n_bootstrap=params.audit.n_bootstrap,
        confidence=params.evaluate.confidence,
        seed=params.audit.seed,
    )
    tiers = splits[["tier"]].assign(fold=fold)
    tables = {
        "shortcuts": audit.shortcuts,
        "columns": audit.columns,
        "findings": audit.findings,
        "near_duplicates": pairs,
        "label_issues": public_rows(label_issues(scores, rank, fold), ids, tiers),
        "outliers": public_rows(outliers(features, rng=rng), ids, tiers[["tier"]]),
    }
    for name, table in tables.items():
        write_csv(TABLES / f"{name}.csv", table)
    write_json(METRICS, {**audit.metrics, "n_near_duplicates": len(pairs), "columns_left_out": ", ".join(left_out)})
    paths = splits["image_path"].to_numpy()
    firsts = near.pairs[["row", "other_row"]][:N_PAIRS_NAMED].to_numpy(dtype=int)
    print(as_text(audit, left_out, [(paths[a], paths[b]) for a, b in firsts]))
    if params.audit.fail_on and (grave := at_least(audit.findings, params.audit.fail_on)):
        raise AuditError(
            f"audit.fail_on is {params.audit.fail_on}, and the audit found {'; '.join(grave)}: {TABLES}/findings.csv "
            "says what to do"
        )


if __name__ == "__main__":
    run(main)
