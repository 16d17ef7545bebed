"""The result of a run as a short table for the terminal."""

import json
from pathlib import Path
from typing import Any

from mirip.errors import DataError
from mirip.features.extract.history import ExtractionSummary, last_extraction
from mirip.models.evaluation_count import models_evaluated
from mirip.params import Params

NOT_AVAILABLE = "not available"


def summary_rows(
    metrics: dict[str, dict[str, Any]], extraction: ExtractionSummary | None, n_models_evaluated: int = 0
) -> list[tuple[str, str, str]]:
    """Return the table: what, its figure, and a remark.

    Args:
        metrics: content of metrics/<name>.json by name; one that is not there is an empty dict.
        extraction: what the last extraction came to, if known.
        n_models_evaluated: on this test split, from this repository.
    """
    evaluate, audit, benchmark = metrics["evaluate"], metrics["audit"], metrics["benchmark"]
    rows = [
        (
            "pairwise accuracy",
            _number(evaluate, "pairwise_accuracy"),
            f"{_number(evaluate, 'confidence', '.0%')} interval {_number(evaluate, 'pairwise_accuracy_ci_low')} to "
            f"{_number(evaluate, 'pairwise_accuracy_ci_high')}, {_text(evaluate, 'n_images')} images in "
            f"{_text(evaluate, 'n_groups')} groups{', a small sample' if evaluate.get('small_sample') else ''}",
        ),
        ("verdict", _text(evaluate, "verdict"), f"target {_number(evaluate, 'target_accuracy', '.2f')}"),
        ("ridge baseline", _number(evaluate, "baseline_ridge_accuracy"), "linear, on the same features"),
        ("k-NN baseline", _number(evaluate, "baseline_knn_accuracy"), "on the same features"),
        (
            "best shortcut",
            _number(audit, "best_shortcut_accuracy"),
            f"{_text(audit, 'best_shortcut')}, blind to what is depicted: the model is {_above_shortcut(audit)}",
        ),
        (
            "latency of a pair",
            _number(benchmark, "pair_latency_ms_p50", ".0f", unit=" ms"),
            f"{_number(benchmark, 'pair_latency_from_file_ms_p50', '.0f', unit=' ms')} from files, on "
            f"{_text(benchmark, 'hardware')}",
        ),
    ]
    if n_models_evaluated > 1:
        rows.append(("models judged", str(n_models_evaluated), "on this test split: choose by val_pairwise_accuracy"))
    if extraction is not None:
        done = f"{extraction.computed} computed, {extraction.reused} reused, in {extraction.seconds:.0f} s"
        rows.append(("last extraction", f"{extraction.rows} rows", done))
    return rows


def print_summary(params: Params) -> None:
    """Print the table and where to look next.

    Raises:
        DataError: nothing has been evaluated yet.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    metrics = {name: _read(Path("metrics") / f"{name}.json") for name in ("evaluate", "audit", "benchmark", "split")}
    if not metrics["evaluate"]:
        raise DataError("metrics/evaluate.json is not found: run `dvc repro`")
    table = Table(
        title=f"Mirip with recipe {params.extract.recipe} ({params.recipe.backbone})",
        title_justify="left",
        show_header=False,
        box=box.SIMPLE_HEAD,
    )
    table.add_column()
    table.add_column(justify="right", style="bold")
    table.add_column()
    judged = models_evaluated(metrics["split"].get("digest", ""))
    for row in summary_rows(metrics, last_extraction(params.features_path), judged):
        table.add_row(*row)
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    if notice := params.report.notices.get(params.extract.recipe):
        console.print(f"Note: {notice}")
    console.print("Look at metrics/report.html, then `make ui`, or in .venv: `dvc metrics show`, `dvc plots show`.")
    console.print("Try a value: `dvc exp run -S train.learning_rate=0.0003`, then `dvc metrics diff`.")


def _above_shortcut(audit: dict[str, Any]) -> str:
    low = audit.get("margin_over_shortcut_ci_low")
    if low is None:
        return NOT_AVAILABLE
    margin = f"{audit['margin_over_shortcut']:+.3f} ({low:+.3f} to {audit['margin_over_shortcut_ci_high']:+.3f})"
    return f"above it, {margin}" if low > 0 else f"not shown to be above it, {margin}"


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values


def _number(metrics: dict[str, Any], name: str, style: str = ".3f", unit: str = "") -> str:
    value = metrics.get(name)
    return NOT_AVAILABLE if value is None else f"{value:{style}}{unit}"


def _text(metrics: dict[str, Any], name: str) -> str:
    value = metrics.get(name)
    return NOT_AVAILABLE if value is None else str(value)
