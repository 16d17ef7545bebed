"""The result of a run as a short table for the terminal."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mirip.errors import DataError
from mirip.features.extract.history import ExtractionSummary, last_extraction
from mirip.metrics.comparison import BETTER, comparison
from mirip.metrics.intervals import Interval
from mirip.models.evaluation_count import models_evaluated
from mirip.params import Params
from mirip.report import formatting as fmt
from mirip.workspace import Workspace


def summary_rows(
    metrics: Mapping[str, Mapping[str, Any]], extraction: ExtractionSummary | None, n_models_evaluated: int = 0
) -> list[tuple[str, str, str]]:
    """Return the table: what, its value, and a remark.

    Args:
        metrics: content of metrics/<name>.json by name; an empty mapping where there is no such file.
        extraction: what the last extraction came to, if known.
        n_models_evaluated: on this test split, from this repository.
    """
    evaluate, audit, benchmark = metrics["evaluate"], metrics["audit"], metrics["benchmark"]
    is_small = bool(evaluate.get("small_sample"))
    small = ", a small sample" if is_small else ""
    aim = f"target {fmt.number(evaluate.get('target_accuracy'))}"
    images, groups = (fmt.plural(evaluate.get(f"n_{what}s"), what) for what in ("image", "group"))
    fair = fmt.interval_of(evaluate, "pairwise_accuracy_within_context")
    within = (
        "within one context",
        fmt.number(evaluate.get("pairwise_accuracy_within_context"), 3),
        f"interval {_ends(fair)}, the fair pairs: the verdict is on these",
    )
    rows = [
        (
            "pairwise accuracy",
            fmt.number(evaluate.get("pairwise_accuracy"), 3),
            f"{fmt.percent(evaluate.get('confidence'), 0)} interval {_bounds(evaluate)}, {images} in {groups}{small}",
        ),
        *([within] if evaluate.get("verdict_on") == "within_context" else []),
        ("verdict", fmt.text(evaluate.get("verdict")), aim),
        ("ridge baseline", fmt.number(evaluate.get("baseline_ridge_accuracy"), 3), "linear, on the same features"),
        ("k-NN baseline", fmt.number(evaluate.get("baseline_knn_accuracy"), 3), "on the same features"),
        (
            "best shortcut",
            fmt.number(audit.get("best_shortcut_accuracy"), 3),
            f"{fmt.text(audit.get('best_shortcut'))}, the best of many: the model is {_above_shortcut(audit)}",
        ),
        (
            "latency of a pair",
            fmt.number(benchmark.get("pair_latency_ms_p50"), 0, "ms"),
            f"{fmt.number(benchmark.get('pair_latency_from_file_ms_p50'), 0, 'ms')} from files, on "
            f"{fmt.text(benchmark.get('hardware'))}",
        ),
    ]
    name = fmt.decisive_out_of_fold(audit)
    if is_small and (outside := fmt.interval_of(audit, name)) is not None:
        images, groups = (fmt.plural(audit.get(f"n_{what}s"), what) for what in ("image", "group"))
        why = "the test split is too small to decide"
        rows = [
            (
                "out-of-fold accuracy" if name == "out_of_fold_accuracy" else "out of fold, in context",
                fmt.number(audit.get(name), 3),
                f"{outside.low:.3f} to {outside.high:.3f}, all {images} in {groups}: {why}",
            ),
            ("verdict out of fold", fmt.text(audit.get("out_of_fold_verdict")), aim),
            *rows,
        ]
    if n_models_evaluated > 1:
        remark = "on this test split: choose by val_pairwise_accuracy"
        rows.append(("models evaluated", str(n_models_evaluated), remark))
    if extraction is not None:
        done = f"{extraction.computed} computed, {extraction.reused} reused, in {extraction.seconds:.0f} s"
        rows.append(("last extraction", fmt.plural(extraction.rows, "row"), done))
    return rows


def print_summary(workspace: Workspace, params: Params) -> None:
    """Print the table and where to look next.

    Raises:
        DataError: nothing has been evaluated yet.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    metrics = {name: _read(workspace.metrics(name)) for name in ("evaluate", "audit", "benchmark", "split")}
    if not metrics["evaluate"]:
        raise DataError(f"{workspace.metrics('evaluate')} is not found", "run `dvc repro`")
    table = Table(
        title=f"Mirip with recipe {params.extract.recipe} ({params.recipe.backbone})",
        title_justify="left",
        show_header=False,
        box=box.SIMPLE_HEAD,
    )
    table.add_column()
    table.add_column(justify="right", style="bold")
    table.add_column()
    n_evaluated = models_evaluated(metrics["split"].get("digest", ""))
    extraction = last_extraction(workspace.features(params.extract.recipe))
    for row in summary_rows(metrics, extraction, n_evaluated):
        table.add_row(*row)
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    if notice := params.report.notices.get(params.extract.recipe):
        console.print(f"Note: {notice}")
    console.print(f"Look at {workspace.report}, then `make ui`, or in .venv: `dvc metrics show`, `dvc plots show`.")
    console.print("Try a value: `dvc exp run -S train.learning_rate=0.0001`, then `dvc metrics diff`.")


def _above_shortcut(audit: Mapping[str, Any]) -> str:
    interval = fmt.interval_of(audit, "margin_over_shortcut")
    if interval is None:
        return fmt.NOT_AVAILABLE
    margin = f"{audit['margin_over_shortcut']:+.3f} ({interval.low:+.3f} to {interval.high:+.3f})"
    above = comparison(interval) == BETTER
    return f"above these, {margin}" if above else f"not shown to be above it, {margin}"


def _bounds(evaluate: Mapping[str, Any]) -> str:
    return _ends(fmt.interval_of(evaluate, "pairwise_accuracy"))


def _ends(interval: Interval | None) -> str:
    return fmt.NOT_AVAILABLE if interval is None else f"{interval.low:.3f} to {interval.high:.3f}"


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values
