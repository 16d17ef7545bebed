"""The stage audit: is it quality that was learned? The model against predictors that do not see the image.

All images are evaluated, each by a model that saw none of its group: training and validation split by those that the
stage train made (mirip/models/cross_fit.py), the test split by the final model, as the stage evaluate did.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mirip.data.manifest import read_manifest
from mirip.data.split import public_ids, read_splits
from mirip.data.statistics import FAMILIES, STATISTICS
from mirip.data.tables import read_csv, read_table, write_csv
from mirip.errors import AuditError, DataError
from mirip.features.cache.feature_cache import FeatureCache
from mirip.files import write_json
from mirip.metrics.audit import Audit, audit_ranker
from mirip.metrics.columns import shortcut_columns
from mirip.metrics.comparison import BETTER, UNDECIDED, WITHIN_NOISE, WORSE, comparison_text
from mirip.metrics.findings import at_least, duplicate_findings
from mirip.metrics.image_issues import NearDuplicates, label_issues, near_duplicates, outliers
from mirip.metrics.intervals import accuracy_interval, target_verdict
from mirip.metrics.pairwise import context_codes, pairwise_accuracy
from mirip.models.scores import NO_FOLD, Scores, public_scores
from mirip.params import Params
from mirip.randomness import stream
from mirip.workspace import Workspace

_PAIRS_NAMED = 3
_ADVICE = {
    BETTER: "",
    WORSE: ", so do not claim that it evaluates quality",
    WITHIN_NOISE: ", so give more images or do not claim that it evaluates quality",
    UNDECIDED: ", so give artworks of more groups or do not claim that it evaluates quality",
}


@dataclass(frozen=True)
class ModelAudit:
    """What the stage audit found.

    Attributes:
        audit: metrics and tables.
        left_out: column -> why no predictor looked at it.
        near_duplicates: paths of the first pairs across the split.
        n_unscored: images that no model could score that had not seen their group; they are left out.
        findings_file: where the findings are written.
    """

    audit: Audit
    left_out: Mapping[str, str]
    near_duplicates: Sequence[tuple[str, str]]
    n_unscored: int
    findings_file: Path

    @property
    def lines(self) -> list[str]:
        """The table of shortcuts, a line for each finding, the paths of the first near-duplicates, and the verdict."""
        shown = self.audit.shortcuts[["shortcut", "pairwise_accuracy", "margin", "margin_ci_low", "margin_ci_high"]]
        m = self.audit.metrics
        verdict = self.audit.verdict
        said = comparison_text(verdict, "the model", f"the best shortcut, {m['best_shortcut']}")
        return [
            *shown.to_string(index=False, float_format=lambda value: f"{value:.3f}").splitlines(),
            *(f"left out: {name} ({why})" for name, why in self.left_out.items()),
            *(f"{f['severity']}: {f['name']}: {f['advice']}" for f in self.audit.findings.to_dict("records")),
            *(f"near-duplicates: {first} and {second}" for first, second in self.near_duplicates),
            *([f"left out: {self.n_unscored} images, for want of groups"] if self.n_unscored else []),
            f"audit: out of fold the model reaches {m['out_of_fold_accuracy']:.3f}; {said} "
            f"({m['best_shortcut_accuracy']:.3f}; difference {m['margin_over_shortcut']:+.3f}, "
            f"{m['margin_over_shortcut_ci_low']:+.3f} to {m['margin_over_shortcut_ci_high']:+.3f})"
            f"{_ADVICE[verdict]}; {m['n_findings']} findings. What features tell beyond these {len(shown)} predictors "
            "stays open",
        ]

    def check(self, fail_on: Literal["warning", "critical"] | None) -> None:
        """Raise AuditError where a finding has the severity `fail_on` or a graver one; None: never."""
        if fail_on and (grave := at_least(self.audit.findings, fail_on)):
            raise AuditError(
                f"audit.fail_on is {fail_on}, and the audit found {'; '.join(grave)}",
                f"{self.findings_file} says what to do",
            )


def audit(workspace: Workspace, params: Params) -> ModelAudit:
    """Audit the workspace's model, and write metrics/audit.json and its tables.

    Args:
        workspace: holds manifest, splits, features, and the model's scores, out of fold and of the test split.
        params: the sections data, extract, recipes, audit, and evaluate.confidence and evaluate.target_accuracy.

    Raises:
        DataError: an input is missing or damaged, the manifest lists other images, or there are too few groups.
        ParamsError: audit.ignore names a column that the metadata does not have.
        SplitError: the split was made with other tiers.
        CacheError: the features are missing, of another recipe, or lack an image.
    """
    settings = params.audit
    manifest = read_manifest(workspace.manifest, statistics=True)
    splits = read_splits(workspace.splits)
    _check_same_images(manifest, splits, workspace)
    cache = FeatureCache.open(workspace.features(params.extract.recipe), params.recipe)
    scores, fold = _out_of_fold_scores(workspace, splits)
    scored = fold != NO_FOLD
    manifest, splits, scores, fold = manifest[scored], splits[scored], scores[scored], fold[scored]
    shortcuts, left_out = shortcut_columns(
        manifest,
        statistics=list(STATISTICS),
        families=FAMILIES,
        group=params.data.group,
        context=params.data.context,
        ignore=settings.ignore,
    )
    features, rank = cache.rows(splits["image_sha256"].tolist()), splits["tier_rank"].to_numpy()
    ids = public_ids(splits).rename("id")
    near = near_duplicates(features, splits["split"].to_numpy(), rng=stream(settings.seed, "near-duplicates"))
    pairs = _public_pairs(near, ids, splits)
    found = audit_ranker(
        scores,
        shortcuts,
        rank,
        splits["group_id"].to_numpy(),
        fold,
        more_findings=duplicate_findings(near, [f"{p.id} and {p.other_id}" for p in pairs[:_PAIRS_NAMED].itertuples()]),
        n_bootstrap=settings.n_bootstrap,
        confidence=params.evaluate.confidence,
        seed=settings.seed,
    )
    tiers = splits[["tier"]].assign(fold=fold)
    tables = {
        "shortcuts": found.shortcuts,
        "columns": found.columns,
        "findings": found.findings,
        "near_duplicates": pairs,
        "label_issues": _public_rows(label_issues(scores, rank, fold), ids, tiers),
        "outliers": _public_rows(outliers(features, rng=stream(settings.seed, "outliers")), ids, tiers[["tier"]]),
    }
    folder = workspace.tables("audit")
    for name, table in tables.items():
        write_csv(folder / f"{name}.csv", table)
    write_csv(workspace.out_of_fold, public_scores(splits, Scores(scores, {})).assign(fold=fold), digits=9)
    more: dict[str, float | str] = {}
    decisive = found.out_of_fold
    if splits["context"].nunique() > 1:  # a verdict is on the fair pairs, those within one context
        fair = context_codes(fold, splits["context"])
        decisive = accuracy_interval(
            scores,
            rank,
            splits["group_id"].to_numpy(),
            rng=stream(settings.seed, "bootstrap"),
            n_bootstrap=settings.n_bootstrap,
            confidence=params.evaluate.confidence,
            context=fair,
        )
        within = "out_of_fold_accuracy_within_context"
        more[within] = pairwise_accuracy(scores, rank, context=fair)
        more |= {f"{within}_ci_low": decisive.low, f"{within}_ci_high": decisive.high}
    more |= {
        "out_of_fold_verdict": target_verdict(decisive, params.evaluate.target_accuracy),
        "n_near_duplicates": len(pairs),
        "columns_left_out": ", ".join(left_out),
    }
    write_json(workspace.metrics("audit"), {**found.metrics, **more})
    paths = splits["image_path"].to_numpy()
    firsts = near.pairs[["row", "other_row"]][:_PAIRS_NAMED].to_numpy(dtype=int)
    named = [(paths[a], paths[b]) for a, b in firsts]
    return ModelAudit(found, left_out, named, int((~scored).sum()), folder / "findings.csv")


def _out_of_fold_scores(workspace: Workspace, splits: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return scores (N,) by models that saw none of the image's group, and folds (N,), within which they compare.

    A fold is one of the training split, the validation split, or the test split, each scored by another model.
    """
    command = "dvc repro train evaluate"
    table = read_table(workspace.cross_fit, ["image_sha256", "fold", "score"], command)
    in_test = (splits["split"] == "test").to_numpy()
    of_test = read_csv(workspace.scores, ["id", "score"], command)
    if (
        table["image_sha256"].tolist() != splits["image_sha256"].tolist()
        or of_test["id"].tolist() != public_ids(splits[in_test]).tolist()
    ):
        raise DataError(
            f"{workspace.cross_fit} and {workspace.scores} are of other images than {workspace.splits}",
            f"run `{command}`",
        )
    damaged = f"{workspace.cross_fit} or {workspace.scores} is damaged"
    try:
        scores, fold = table["score"].to_numpy(np.float64, copy=True), table["fold"].to_numpy(np.int64, copy=True)
        scores[in_test] = of_test["score"].to_numpy(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{damaged} ({error})", f"run `{command}`") from None
    fold[in_test] = fold.max() + 1
    if not np.isfinite(scores[fold != NO_FOLD]).all():
        raise DataError(f"{damaged} (a score is not a finite number)", f"run `{command}`")
    return scores, fold


def _check_same_images(manifest: pd.DataFrame, splits: pd.DataFrame, workspace: Workspace) -> None:
    """Check that row by row the two tables list the same images; raise DataError if they do not."""
    keys = ["image_path", "image_sha256"]
    if not manifest[keys].reset_index(drop=True).equals(splits[keys].reset_index(drop=True)):
        raise DataError(f"{workspace.splits} and {workspace.manifest} list different images", "run `dvc repro split`")


def _public_pairs(near: NearDuplicates, ids: pd.Series, splits: pd.DataFrame) -> pd.DataFrame:
    """Return id, split, other_id, other_split, cosine, relative_distance of each pair; a path may name people."""
    row, other = near.pairs["row"].astype(int), near.pairs["other_row"].astype(int)
    named = {
        "id": ids.iloc[row].to_numpy(),
        "split": splits["split"].iloc[row].to_numpy(),
        "other_id": ids.iloc[other].to_numpy(),
        "other_split": splits["split"].iloc[other].to_numpy(),
    }
    return pd.DataFrame(named | {name: near.pairs[name] for name in ("cosine", "relative_distance")})


def _public_rows(table: pd.DataFrame, ids: pd.Series, columns: pd.DataFrame) -> pd.DataFrame:
    """Name the images of `row` by id and some columns that may be public, and keep the rest of the table."""
    rows = table["row"].to_numpy()
    return pd.concat(
        [ids.iloc[rows].reset_index(drop=True), columns.iloc[rows].reset_index(drop=True), table.drop(columns="row")],
        axis=1,
    )
