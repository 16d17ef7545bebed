"""The page: a result as one self-contained HTML file, with nothing fetched from anywhere."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mirip.files import write_text
from mirip.params import Params
from mirip.report import audit, background, headline, plots
from mirip.report import formatting as fmt
from mirip.report.gallery import Gallery
from mirip.report.inputs import Inputs, read_inputs
from mirip.workspace import Workspace

MAX_LISTED = 100
PAIRS_SHOWN = 6


@dataclass(frozen=True)
class Page:
    """The page that was written."""

    path: Path

    def summary(self) -> str:
        """Return the path, which is all there is to say."""
        return str(self.path)


def report(workspace: Workspace, params: Params) -> Page:
    """Write the page of the result in a workspace.

    Raises:
        DataError: a file is missing or damaged, or the files are of different splits.
    """
    write_text(workspace.report, render(read_inputs(workspace, params)))
    return Page(workspace.report)


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
    environment.filters |= {"percent": fmt.percent, "number": fmt.number, "text": fmt.text, "span": fmt.span}
    page = environment.get_template("page.html.j2").render(_content(inputs)) + "\n"
    return re.sub(r"(?<=\d) %", "\N{NO-BREAK SPACE}%", page)  # a line never breaks between a number and its sign


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
        "interval": fmt.interval_of(evaluate, "pairwise_accuracy"),
        "verdict": fmt.target_verdict(evaluate),
        "warning": fmt.small_sample_warning(evaluate, audited),
        "scale": headline.scale(evaluate),
        "notes": headline.notes(evaluate, inputs.scores),
        "counted": headline.counted(evaluate),
        "tiles": headline.tiles(evaluate, metrics["train"], contexts=bool(params.data.context)),
        "baselines": headline.baselines(inputs.baselines, small_sample=bool(evaluate.get("small_sample"))),
        "members": headline.members(inputs.members),
        "calibration": headline.calibration_sentence(evaluate),
        "close_calls": headline.close_calls(evaluate),
        "shortcut_sentence": audit.shortcut_sentence(audited),
        "audit_tiles": audit.tiles(audited),
        "audit_how": audit.how(audited),
        "shortcuts": audit.shortcut_rows(audited, inputs.shortcuts),
        "audit_columns": audit.column_rows(inputs.columns),
        "findings": audit.findings(audited, inputs.findings),
        "counts": background.counts(inputs.splits, params.data.tiers),
        "remarks": background.remarks(metrics["data"], len(inputs.rejected)),
        "rejected": inputs.rejected.head(MAX_LISTED).to_dict("records"),
        "n_rejected": len(inputs.rejected),
        "requirements": background.requirements(metrics["benchmark"], params.recipe.imported),
        "plots": _plots(inputs),
        **_artworks(inputs),
        "provenance": _provenance(inputs),
    }


def _plots(inputs: Inputs) -> dict[str, Any]:
    """Return the drawings by name, safe to put into the page: matplotlib escapes every text that it writes."""
    from markupsafe import Markup

    tiers, evaluate = inputs.params.data.tiers, inputs.metrics["evaluate"]
    evaluated_by = evaluate.get("target_accuracy")
    target = inputs.params.evaluate.target_accuracy if evaluated_by is None else float(evaluated_by)
    drawings = {
        "baselines": plots.baselines_svg(inputs.baselines, target, model=headline.MODEL),
        "tier_pairs": plots.tier_pairs_svg(inputs.tier_pairs, tiers),
        "scores": plots.scores_by_tier_svg(inputs.scores["tier"], inputs.scores["score"], tiers),
        "curves": plots.curves_svg(inputs.curves, inputs.metrics["train"].get("best_epoch")),
        "reliability": plots.reliability_svg(inputs.reliability),
        "coverage": plots.coverage_svg(inputs.coverage, evaluate.get("min_confidence")),
    }
    return {name: Markup(svg) for name, svg in drawings.items()}


def _artworks(inputs: Inputs) -> dict[str, Any]:
    """Return the artworks to show; report.thumbnails is for the highest and lowest together, half of it for others."""
    n = inputs.params.report.thumbnails
    gallery = Gallery(inputs.splits, inputs.thumbnails)
    highest, lowest = gallery.extremes(inputs.scores, n)
    return {
        "highest": highest,
        "lowest": lowest,
        "label_issues": gallery.label_issues(inputs.label_issues, n // 2),
        "all_label_issues": gallery.label_issue_rows(inputs.label_issues),
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
