"""Errors of `mirip train` and `mirip evaluate` name the options of these commands."""

from argparse import Namespace
from pathlib import Path

import pytest

from mirip.cli.main import build_parser
from mirip.cli.param_options import OPTIONS, given_params, naming_options, with_options
from mirip.errors import DataError, MiripError, ParamsError
from mirip.params import Params

TRAIN = ["train", "--data", "photos", "--metadata", "photos.csv", "--output", "run"]
EVALUATE = ["evaluate", "--data", "photos", "--metadata", "photos.csv"]


def said(error: MiripError, arguments: list[str], **more: object) -> str:
    """Return what a command says that raises an error."""

    @naming_options
    def command(options: Namespace) -> None:
        raise error

    options = build_parser().parse_args(arguments)
    vars(options).update(more)
    with pytest.raises(type(error)) as raised:
        command(options)
    return str(raised.value)


def test_every_option_is_one_of_train_and_every_param_exists() -> None:
    options = vars(build_parser().parse_args(TRAIN))
    defaults = Params.model_validate({"data": {"images": ".", "metadata": "."}}).model_dump()
    for param, option in OPTIONS.items():
        section, name = param.split(".")
        assert name in defaults[section]
        assert option.removeprefix("--").replace("-", "_") in options


def test_options_that_are_given_set_their_params() -> None:
    given = given_params(build_parser().parse_args([*TRAIN, "--batch-size", "8", "--device", "cpu"]))
    assert given == {
        "data.images": Path("photos"), "data.metadata": Path("photos.csv"), "train.batch_size": 8,
        "train.device": "cpu", "extract.device": "cpu",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("problem", "advice", "expected"),
    [
        ("data.group names the column 'x'", "", "--group names the column 'x'"),
        ("no image is left", "check data.images and data.tiers", "no image is left: check --data and --tiers"),
        ("it diverged (train.learning_rate is 1)", "lower it", "it diverged (--learning-rate is 1): lower it"),
        ("there is no 'data.group' in data.group/x", "type -S data.group=[]", None),
        ("data.images.csv or x-data.tiers is not found", "", None),
    ],
)
def test_a_param_with_an_option_is_called_by_it(problem: str, advice: str, expected: str | None) -> None:
    error = DataError(problem, advice)
    unchanged = str(error)
    assert said(error, TRAIN) == (expected or unchanged)


def test_a_param_without_an_option_keeps_its_name_and_has_a_place() -> None:
    far, advice = "20 points apart", "raise split.max_tier_drift"
    assert said(DataError(far, advice), TRAIN) == f"{far}: {advice}; params are set in a file that --params names"
    assert said(DataError(far, advice), TRAIN, params=Path("my.yaml")).endswith("; params are set in my.yaml")
    assert said(DataError("train.seed is odd"), EVALUATE) == (
        "train.seed is odd: params are set in a file that --params names"
    )


def test_what_the_user_calls_like_a_param_keeps_its_name() -> None:
    error = DataError("data.images is not a folder", "set data.images to the folder")
    assert said(error, TRAIN, data=Path("data.images")) == "data.images is not a folder: set --data to the folder"


def test_a_value_that_an_option_gave_is_not_blamed_on_the_file() -> None:
    problem = "my.yaml: train.max_epochs: Input should be greater than 0, got 0"
    given = said(ParamsError(problem), [*TRAIN, "--epochs", "0", "--params", "my.yaml"])
    assert given == "--epochs: Input should be greater than 0, got 0"
    assert said(ParamsError(problem), [*TRAIN, "--params", "my.yaml"]) == problem


def test_a_text_is_told_in_options_too() -> None:
    options = build_parser().parse_args(TRAIN)
    assert with_options("is missing: no such file below data.images", options) == (
        "is missing: no such file below --data"
    )


def test_the_remedy_for_a_missing_column_is_to_leave_the_option_out() -> None:
    advice = "name one of those, or none: `dvc exp run -S data.context=null` in the pipeline"
    assert with_options(advice, Namespace(context=["x"])) == "name one of those, or leave --context out"
