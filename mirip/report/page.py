"""The page: a result as one self-contained HTML file, with nothing fetched from anywhere."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mirip.metrics import plots
from mirip.params import Params
from mirip.report import words
from mirip.report.works import extreme_works

SIDES = ("train", "val", "test")
MAX_LISTED = 100


@dataclass(frozen=True)
class Inputs:
    """What the page is made of.

    Args:
        params: of params.yaml.
        metrics: scalars by stage: data, split, extract, train, evaluate, audit, benchmark.
        curves: metrics/train/curves.csv.
        ladder: metrics/evaluate/ladder.csv; `tier_pairs`, `reliability` likewise.
        tier_pairs: see there.
        reliability: see there.
        shortcuts: metrics/audit/shortcuts.csv; `findings` likewise.
        findings: see there.
        scores: metrics/scores.csv.
        splits: data/splits.parquet.
        rejected: data/rejected.csv.
        thumbnails: data/thumbnails.parquet.
        model_sha256: of models/best_model.pt.
    """

    params: Params
    metrics: Mapping[str, Mapping[str, Any]]
    curves: pd.DataFrame
    ladder: pd.DataFrame
    tier_pairs: pd.DataFrame
    reliability: pd.DataFrame
    shortcuts: pd.DataFrame
    findings: pd.DataFrame
    scores: pd.DataFrame
    splits: pd.DataFrame
    rejected: pd.DataFrame
    thumbnails: pd.DataFrame
    model_sha256: str


def render(inputs: Inputs) -> str:
    """Return the page as HTML; equal inputs give equal bytes.

    Raises:
        DataError: scores and splits are not of one run.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("mirip.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": words.percent,
        "points": words.points,
        "number": words.number,
        "text": words.text,
    }
    return environment.get_template("template.html.j2").render(_content(inputs)) + "\n"


def _content(inputs: Inputs) -> dict[str, Any]:
    params, metrics = inputs.params, inputs.metrics
    evaluate = metrics["evaluate"]
    highest, lowest = extreme_works(inputs.scores, inputs.splits, inputs.thumbnails, params.report.thumbnails)
    return {
        "title": params.report.title,
        "notice": params.report.notices.get(params.extract.recipe),
        "recipe_name": params.extract.recipe,
        "recipe": params.recipe,
        "metrics": metrics,
        "evaluate": evaluate,
        "verdict": words.target_verdict(evaluate),
        "warning": words.small_sample_warning(evaluate),
        "scale": _scale(evaluate),
        "tiles": _tiles(metrics),
        "counts": _counts(inputs.splits, params.data.tiers),
        "remarks": _data_remarks(metrics["data"], len(inputs.rejected)),
        "rejected": inputs.rejected.head(MAX_LISTED).to_dict("records"),
        "n_rejected": len(inputs.rejected),
        "baselines": _baselines(evaluate),
        "shortcut_sentence": _shortcut_sentence(metrics["audit"], bool(evaluate.get("small_sample"))),
        "requirements": _requirements(metrics["benchmark"], params.recipe.imported),
        "plots": _plots(inputs),
        "ladder": inputs.ladder.to_dict("records"),
        "tier_pairs": inputs.tier_pairs.to_dict("records"),
        "shortcuts": inputs.shortcuts.to_dict("records"),
        "findings": inputs.findings.to_dict("records"),
        "highest": highest,
        "lowest": lowest,
        "provenance": _provenance(inputs),
        "not_available": words.NOT_AVAILABLE,
    }


def _plots(inputs: Inputs) -> dict[str, Any]:
    """Return the drawings by name, safe to stand in the page: matplotlib escapes every text that it writes."""
    from markupsafe import Markup

    tiers = inputs.params.data.tiers
    target = inputs.metrics["evaluate"].get("target_accuracy", inputs.params.evaluate.target_accuracy)
    drawings = {
        "ladder": plots.ladder_svg(inputs.ladder, target),
        "tier_pairs": plots.tier_pairs_svg(inputs.tier_pairs, tiers),
        "scores": plots.scores_by_tier_svg(inputs.scores["tier"], inputs.scores["score"], tiers),
        "curves": plots.curves_svg(inputs.curves, inputs.metrics["train"].get("best_epoch")),
        "reliability": plots.reliability_svg(inputs.reliability),
    }
    return {name: Markup(svg) for name, svg in drawings.items()}


def _scale(evaluate: Mapping[str, Any]) -> dict[str, float] | None:
    """Place accuracy, interval, chance and target on a line, in percent of its length; None without an interval."""
    names = {
        "accuracy": "pairwise_accuracy",
        "low": "pairwise_accuracy_ci_low",
        "high": "pairwise_accuracy_ci_high",
        "target": "target_accuracy",
    }
    values = {place: evaluate.get(name) for place, name in names.items()} | {"chance": 0.5}
    if not all(words.known(value) for value in values.values()):
        return None
    known = {place: float(value) for place, value in values.items() if value is not None}
    start = min(0.4, *(value - 0.05 for value in known.values()))
    return {place: round(100 * (value - start) / (1 - start), 2) for place, value in known.items()}


def _tiles(metrics: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    evaluate = metrics["evaluate"]
    return [
        (
            "Validation accuracy",
            words.percent(metrics["train"].get("val_pairwise_accuracy")),
            "chooses the model",
        ),
        ("Every tier pair alike", words.percent(evaluate.get("pairwise_accuracy_macro")), "mean over tier pairs"),
        (
            "Within one context",
            words.percent(evaluate.get("pairwise_accuracy_within_context")),
            "only fair comparisons",
        ),
        ("Kendall τ-b", words.number(evaluate.get("kendall_tau_b")), "−1 to 1, 0 is chance"),
        ("Spearman ρ", words.number(evaluate.get("spearman")), "−1 to 1, 0 is chance"),
        ("Calibration error", words.number(evaluate.get("ece"), 3), "ECE, 0 is best"),
    ]


def _counts(splits: pd.DataFrame, tiers: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return images by tier and side, a row a tier, then images and groups in all."""
    rows = []
    for tier in tiers:
        own = splits[splits["tier"] == tier]
        share = len(own) / len(splits) if len(splits) else None
        rows.append({"name": f"Tier {tier}", **_by_side(own, len), "all": len(own), "share": share})
    rows.append({"name": "Images", **_by_side(splits, len), "all": len(splits), "share": None})
    groups = {"name": "Groups", **_by_side(splits, _n_groups), "all": _n_groups(splits), "share": None}
    return [*rows, groups]


def _by_side(rows: pd.DataFrame, measure: Any) -> dict[str, int]:
    return {side: int(measure(rows[rows["split"] == side])) for side in SIDES}


def _n_groups(rows: pd.DataFrame) -> int:
    return int(rows["group_id"].nunique())


def _data_remarks(data: Mapping[str, Any], n_rejected: int) -> list[str]:
    """Say what prepare found: files left out, converted, and alike."""
    remarks = [f"{words.plural(n_rejected, 'row')} left out of {words.number(data.get('n_rows'), 0)} in the metadata."]
    converted = _kinds(data, "converted_")
    if converted:
        remarks.append(f"Converted to upright 8-bit RGB: {converted}.")
    remarks.append(
        f"Identical files: {words.number(data.get('n_duplicates'), 0)}; near-duplicates: "
        f"{words.number(data.get('n_near_duplicates'), 0)}; both always stand on one side of the split."
    )
    return remarks


def _kinds(data: Mapping[str, Any], prefix: str) -> str:
    kinds = {
        name.removeprefix(prefix).replace("_", " "): n for name, n in data.items() if name.startswith(prefix) and n
    }
    return ", ".join(f"{n} {kind}" for kind, n in kinds.items())


def _baselines(evaluate: Mapping[str, Any]) -> list[str]:
    names = {"ridge": "ridge regression on the same features", "knn": "nearest neighbours in the same features"}
    return [
        words.against(
            name,
            *(evaluate.get(f"margin_over_{key}{end}") for end in ("", "_ci_low", "_ci_high")),
            small_sample=bool(evaluate.get("small_sample")),
        )
        for key, name in names.items()
    ]


def _shortcut_sentence(audit: Mapping[str, Any], small_sample: bool) -> str:
    best = audit.get("best_shortcut")
    if not words.known(best) or not words.known(audit.get("best_shortcut_accuracy")):
        return f"The best predictor that sees no picture: {words.NOT_AVAILABLE}."
    margin = (audit.get(f"margin_over_shortcut{end}") for end in ("", "_ci_low", "_ci_high"))
    return (
        f"The best predictor that sees no picture, {best}, orders {words.percent(audit['best_shortcut_accuracy'])} of "
        f"the pairs. {words.against('it', *margin, small_sample=small_sample)}"
    )


def _requirements(benchmark: Mapping[str, Any], imported: bool) -> list[dict[str, str]]:
    """Return each performance requirement with what was measured and its verdict."""
    memory = benchmark.get("peak_memory_gib_batch_32")
    rows = [
        (
            "One pair, from decoded pixels (p50)",
            _ms(benchmark, "pair_latency_ms_p50"),
            "under 100 ms on a GPU",
            "pair_latency",
        ),
        ("GPU memory at batch 32", words.number(memory, 2, "GiB"), "under 12 GB", "memory"),
        (
            "Training on 10,000 images, 100 epochs",
            words.number(benchmark.get("train_seconds_10k"), 1, "s"),
            "under 6 h",
            "train",
        ),
    ]
    judged = [
        {
            "what": what,
            "measured": measured,
            "limit": limit,
            **_judged(benchmark.get(f"{name}_verdict"), name, imported),
        }
        for what, measured, limit, name in rows
    ]
    plain = [
        ("One pair, p95", _ms(benchmark, "pair_latency_ms_p95")),
        ("One pair, from file bytes (p50)", _ms(benchmark, "pair_latency_from_file_ms_p50")),
        ("One pair, from cached features (p50)", _ms(benchmark, "pair_latency_cached_ms_p50")),
        ("Images per second", words.number(benchmark.get("images_per_second"), 1)),
    ]
    return judged + [{"what": what, "measured": value, "limit": "", "verdict": "", "tone": ""} for what, value in plain]


def _judged(verdict: Any, name: str, imported: bool) -> dict[str, str]:
    if verdict == "not_measured":
        needs_gpu = name in ("pair_latency", "memory") and not imported
        place = "not measured off GPU" if needs_gpu else "not measured"
        return {"verdict": place, "tone": "open"}
    tones = {"met": "good", "missed": "bad"}
    return {"verdict": words.text(verdict), "tone": tones.get(str(verdict), "open")}


def _ms(benchmark: Mapping[str, Any], name: str) -> str:
    value = benchmark.get(name)
    return words.number(value, 2 if words.known(value) and float(value or 0) < 10 else 0, "ms")


def _provenance(inputs: Inputs) -> list[tuple[str, str]]:
    recipe, extract = inputs.params.recipe, inputs.metrics["extract"]
    seen = "features imported" if recipe.imported else f"{recipe.image_size} px, {recipe.fit}"
    return [
        ("Recipe", f"{inputs.params.extract.recipe}: {recipe.backbone}, {seen}"),
        ("Features", f"{words.number(extract.get('rows'), 0)} rows of {words.number(extract.get('dim'), 0)} numbers"),
        ("Fingerprint of the recipe", words.text(extract.get("fingerprint"))),
        ("Digest of the features", words.text(extract.get("content_digest"))),
        ("Digest of the split", words.text(inputs.metrics["split"].get("digest"))),
        ("SHA-256 of the model", inputs.model_sha256),
        ("Seeds", f"split {inputs.params.split.seed}, training {inputs.params.train.seed}"),
    ]
