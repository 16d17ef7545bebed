"""Grids of experiments: their points and names; tests/test_workflows.py runs one."""

import pytest

from mirip.errors import ParamsError
from mirip.sweep import parse_grid, point_name


def test_a_grid_holds_every_combination_once() -> None:
    points = parse_grid(["train.loss=logistic,margin", "train.seed=1,2,3"])
    assert len({tuple(point.items()) for point in points}) == len(points) == 6
    assert points[0] == {"train.loss": "logistic", "train.seed": "1"}


@pytest.mark.parametrize("text", ["train.loss", "=1", "train.loss=", "train.loss=a,,b"])
def test_what_is_no_axis_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ParamsError, match=r"write a param and its values"):
        parse_grid([text])


def test_a_name_tells_the_values() -> None:
    point = {"train.learning_rate": "0.001", "train.loss": "margin", "train.pair_balance": "natural", "train.seed": "4"}
    assert point_name(point) == "lr0.001-margin-natural-seed4"
