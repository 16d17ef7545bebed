"""What is added in one place is nowhere forgotten: each registry against docs/metrics.md, the losses against params."""

import re
from typing import get_args

import published_names
import pytest

from mirip.data.statistics import FAMILIES
from mirip.metrics.columns import file_predictors
from mirip.metrics.comparison import COMPARISONS
from mirip.models.baselines import BASELINES
from mirip.models.evaluator import METRICS
from mirip.models.losses import LOSSES
from mirip.params import TrainParams

REGISTRIES = {
    "Metrics of metrics/evaluate.json": METRICS,
    "Baselines": BASELINES,
    "Verdicts of a comparison": COMPARISONS,
    "Predictors of the audit": file_predictors([], FAMILIES),
    "Losses": LOSSES,
}


@pytest.mark.parametrize("section", REGISTRIES)
def test_the_page_of_metrics_lists_what_there_is(section, project_root) -> None:
    page = (project_root / "docs" / "metrics.md").read_text(encoding="utf-8")
    text = page.split(f"## {section}\n")[1].split("\n## ")[0]
    listed = re.findall(r"^\| `(.+?)` \|", text, re.MULTILINE)
    assert listed == list(REGISTRIES[section]), f"docs/metrics.md, section {section}"


def test_params_allow_the_losses_that_there_are() -> None:
    assert list(get_args(TrainParams.model_fields["loss"].annotation)) == list(LOSSES), "mirip/params.py"


@pytest.mark.parametrize(
    ("page", "line"),
    [("params.yaml", r"^  loss: .*# (.*)"), ("docs/api_reference.md", r"^\| `loss` \| .* \| (.*) \|$")],
)
def test_the_losses_are_named_where_they_are_chosen(page, line, project_root) -> None:
    (named,) = re.findall(line, (project_root / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert re.findall(r"\w+", re.sub(r"`|\bor\b", "", named)) == list(LOSSES), page


def test_the_names_that_other_tools_rely_on_are_among_the_metrics() -> None:
    baselines = {f"baseline_{name}_accuracy" for name in BASELINES}
    assert published_names.EVALUATE - baselines <= set(METRICS)
