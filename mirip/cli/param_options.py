"""Which option of `mirip train` and `mirip evaluate` sets which param, and errors that name the option.

What these commands share with the pipeline speaks of params, such as data.group. Who calls a command knows its options.
"""

import argparse
import functools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mirip.errors import MiripError, ParamsError

Command = Callable[[argparse.Namespace], None]

OPTIONS = {
    "data.images": "--data",
    "data.metadata": "--metadata",
    "data.tiers": "--tiers",
    "data.group": "--group",
    "data.context": "--context",
    "train.max_epochs": "--epochs",
    "train.batch_size": "--batch-size",
    "train.learning_rate": "--learning-rate",
    "train.seed": "--seed",
    "train.device": "--device",
    "extract.device": "--device",
    "extract.recipe": "--recipe",
    "track.experiment": "--experiment",
    "track.run_name": "--run-name",
}


def given_params(options: argparse.Namespace) -> dict[str, Any]:
    """Return the params that a command's options set, keyed like "train.seed"."""
    values = {param: getattr(options, _attribute(option), None) for param, option in OPTIONS.items()}
    return {param: value for param, value in values.items() if value is not None}


def naming_options(command: Command) -> Command:
    """Let the errors of a command name its options where they name params.

    A param that has no option keeps its name, and the advice says which file sets it.
    """

    @functools.wraps(command)
    def run(options: argparse.Namespace) -> None:
        try:
            command(options)
        except MiripError as error:
            _name_options(error, options)
            raise

    return run


def with_options(text: str, options: argparse.Namespace) -> str:
    """Return a text in which each param that an option of the command sets is replaced by the option."""
    return _replaced(text, _options_of(options))


def _all_params(section: Any, prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        if hasattr(field.annotation, "model_fields"):
            yield from _all_params(field.annotation, f"{prefix}{name}.")
        elif prefix:
            yield f"{prefix}{name}"


@functools.cache
def _param() -> re.Pattern[str]:
    """Return what finds a param in a text.

    A whole word: no part of a path or a longer name, no value in quotes, no command such as -S data.group=[].
    """
    from mirip.params import Params

    names = "|".join(map(re.escape, _all_params(Params)))
    return re.compile(rf"""(?<![\w.'"`/\\=-])(?:{names})(?!\.?[\w'"`/\\=\[-])""")


# What mirip.data.metadata advises to those who use the pipeline.
_NONE = re.compile(r"or none: `dvc exp run -S (data\.\w+)=null` in the pipeline")


def _name_options(error: MiripError, options: argparse.Namespace) -> None:
    named, problem, file = _options_of(options), error.problem, options.params
    if isinstance(error, ParamsError):  # what no option gave is in the params file, under its own name
        named = {param: option for param, option in named.items() if param in given_params(options)}
        of_option = problem.removeprefix(f"{file or 'options'}: ")
        if (first := _param().match(of_option)) and first[0] in named:
            problem = of_option
    in_file = not problem.startswith(f"{file}: ") and any(
        found[0] not in named for text in (problem, error.advice) for found in _param().finditer(text)
    )
    # A value of the user's own stays as it is, even where it reads like a param.
    own = {str(value) for value in vars(options).values()}
    error.problem = _replaced(problem, {param: option for param, option in named.items() if param not in own})
    error.advice = _replaced(error.advice, named)
    if in_file:
        where = f"params are set in {file or 'a file that --params names'}"
        error.advice = f"{error.advice}; {where}" if error.advice else where


def _options_of(options: argparse.Namespace) -> dict[str, str]:
    return {param: option for param, option in OPTIONS.items() if hasattr(options, _attribute(option))}


def _attribute(option: str) -> str:
    return option.removeprefix("--").replace("-", "_")


def _replaced(text: str, named: Mapping[str, str]) -> str:
    text = _NONE.sub(lambda found: f"or leave {named.get(found[1], found[1])} out", text)
    return _param().sub(lambda found: named.get(found[0], found[0]), text)
