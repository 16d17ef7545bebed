"""The page: a result as one self-contained HTML file, with nothing fetched from anywhere."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mirip.params import Params
from mirip.report import audit_section, data, headline, speed
from mirip.report import formatting as fmt
from mirip.report.accuracy_plots import baselines_svg, scores_by_tier_svg, tier_pairs_svg
from mirip.report.calibration_plots import coverage_svg, reliability_svg
from mirip.report.training_plots import curves_svg
from mirip.report.works import Gallery

MAX_LISTED = 100
PAIRS_SHOWN = 6


@dataclass(frozen=True)
class Inputs:
    """What the page is made of.

    Args:
        params: of params.yaml.
        metrics: scalars by stage: data, split, extract, train, evaluate, audit, benchmark.
        curves: metrics/train/curves.csv.
        ladder: metrics/evaluate/baselines.csv; `tier_pairs`, `reliability`, `coverage` likewise.
        tier_pairs: see there.
        reliability: see there.
        coverage: see there.
        shortcuts: metrics/audit/shortcuts.csv; `columns`, `findings`, `label_issues`, `outliers`, `near_duplicates`
            likewise.
        columns: see there.
        findings: see there.
        label_issues: see there.
        outliers: see there.
        near_duplicates: see there.
        scores: metrics/scores.csv.
        splits: data/splits.parquet.
        rejected: data/rejected.csv.
        thumbnails: data/thumbnails.parquet.
        model_sha256: of models/best_model.pt.
        code_sha256: of the code that the page was made with.
        models_evaluated: how many models have been judged on this test split so far.
    """

    params: Params
    metrics: Mapping[str, Mapping[str, Any]]
    curves: pd.DataFrame
    baselines: pd.DataFrame
    tier_pairs: pd.DataFrame
    reliability: pd.DataFrame
    coverage: pd.DataFrame
    shortcuts: pd.DataFrame
    columns: pd.DataFrame
    findings: pd.DataFrame
    label_issues: pd.DataFrame
    outliers: pd.DataFrame
    near_duplicates: pd.DataFrame
    scores: pd.DataFrame
    splits: pd.DataFrame
    rejected: pd.DataFrame
    thumbnails: pd.DataFrame
    model_sha256: str
    code_sha256: str
    models_evaluated: int


def render(inputs: Inputs) -> str:
    """Return the page as HTML; equal inputs give equal bytes.

    Raises:
        DataError: scores or the audit's tables are not of the split.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("mirip.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": fmt.percent, "number": fmt.number, "text": fmt.text}
    page = environment.get_template("page.html.j2").render(_content(inputs)) + "\n"
    return re.sub(r"(?<=\d) %", "\N{NO-BREAK SPACE}%", page)  # a number is never parted from its sign


def _content(inputs: Inputs) -> dict[str, Any]:
    params, metrics = inputs.params, inputs.metrics
    evaluate, audited = metrics["evaluate"], metrics["audit"]
    return {
        "title": params.report.title,
        "notice": params.report.notices.get(params.extract.recipe),
        "recipe_name": params.extract.recipe,
        "recipe": params.recipe,
        "metrics": metrics,
        "evaluate": evaluate,
        "verdict": fmt.target_verdict(evaluate),
        "warning": fmt.small_sample_warning(evaluate),
        "scale": headline.scale(evaluate),
        "notes": headline.notes(evaluate, inputs.scores, inputs.models_evaluated),
        "counted": headline.counted(evaluate),
        "tiles": headline.tiles(evaluate, metrics["train"], contexts=bool(params.data.context)),
        "rungs": headline.rungs(inputs.baselines),
        "calibration": headline.calibration_sentence(evaluate),
        "close_calls": headline.close_calls(evaluate),
        "shortcut_sentence": audit_section.shortcut_sentence(audited, small_sample=bool(evaluate.get("small_sample"))),
        "audit_tiles": audit_section.tiles(audited),
        "audit_how": audit_section.how(audited),
        "shortcuts": audit_section.shortcut_rows(audited, inputs.shortcuts),
        "audit_columns": audit_section.column_rows(inputs.columns),
        "findings": audit_section.findings(audited, inputs.findings),
        "counts": data.counts(inputs.splits, params.data.tiers),
        "remarks": data.remarks(metrics["data"], len(inputs.rejected)),
        "rejected": inputs.rejected.head(MAX_LISTED).to_dict("records"),
        "n_rejected": len(inputs.rejected),
        "requirements": speed.requirements(metrics["benchmark"], params.recipe.imported),
        "plots": _plots(inputs),
        **_works(inputs),
        "provenance": _provenance(inputs),
    }


def _plots(inputs: Inputs) -> dict[str, Any]:
    """Return the drawings by name, safe to stand in the page: matplotlib escapes every text that it writes."""
    from markupsafe import Markup

    tiers, evaluate = inputs.params.data.tiers, inputs.metrics["evaluate"]
    evaluated_by = evaluate.get("target_accuracy")
    target = inputs.params.evaluate.target_accuracy if evaluated_by is None else float(evaluated_by)
    drawings = {
        "baselines": baselines_svg(inputs.baselines, target, model=headline.MODEL),
        "tier_pairs": tier_pairs_svg(inputs.tier_pairs, tiers),
        "scores": scores_by_tier_svg(inputs.scores["tier"], inputs.scores["score"], tiers),
        "curves": curves_svg(inputs.curves, inputs.metrics["train"].get("best_epoch")),
        "reliability": reliability_svg(inputs.reliability),
        "coverage": coverage_svg(inputs.coverage, evaluate.get("min_confidence")),
    }
    return {name: Markup(svg) for name, svg in drawings.items()}


def _works(inputs: Inputs) -> dict[str, Any]:
    """Return the pictures to show; report.thumbnails is for the highest and lowest together, half of it for others."""
    n = inputs.params.report.thumbnails
    gallery = Gallery(inputs.splits, inputs.thumbnails)
    highest, lowest = gallery.extremes(inputs.scores, n)
    label_issues = inputs.label_issues
    return {
        "highest": highest,
        "lowest": lowest,
        "label_issues": gallery.label_issues(label_issues, n // 2),
        "all_label_issues": [
            row | {"path": path}
            for row, path in zip(
                label_issues.to_dict("records"),
                gallery.paths(label_issues["id"], "metrics/audit/label_issues.csv", "audit"),
                strict=True,
            )
        ],
        "outliers": gallery.outliers(inputs.outliers, n // 2),
        "near_duplicates": gallery.near_duplicates(inputs.near_duplicates, min(n, PAIRS_SHOWN)),
        "n_near_duplicates": len(inputs.near_duplicates),
    }


def _provenance(inputs: Inputs) -> list[tuple[str, str]]:
    recipe, extract = inputs.params.recipe, inputs.metrics["extract"]
    seen = "features imported" if recipe.imported else f"{recipe.image_size} px, {recipe.fit}"
    return [
        ("Recipe", f"{inputs.params.extract.recipe}: {recipe.backbone}, {seen}"),
        ("Features", f"{fmt.number(extract.get('rows'), 0)} rows of {fmt.number(extract.get('dim'), 0)} numbers"),
        ("Fingerprint of the recipe", fmt.text(extract.get("fingerprint"))),
        ("Digest of the features", fmt.text(extract.get("content_digest"))),
        ("Digest of the split", fmt.text(inputs.metrics["split"].get("digest"))),
        ("SHA-256 of the model", inputs.model_sha256),
        ("SHA-256 of the code", inputs.code_sha256),
        ("Seeds", f"split {inputs.params.split.seed}, training {inputs.params.train.seed}"),
    ]
