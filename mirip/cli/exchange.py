"""`mirip cache pin | export | import`: what a recipe means, and features to and from other tools."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirip.cli.command import add_command

if TYPE_CHECKING:
    from mirip.params import Params

PARAMS = Path("params.yaml")


def add_commands(cache: Any) -> None:
    """Add them to the commands of `mirip cache`."""
    command = add_command(cache, "pin", pin)
    command.add_argument("recipe", nargs="?", metavar="RECIPE", help="default: the active recipe")
    command.add_argument("--params", type=Path, default=PARAMS, help=f"default {PARAMS}")

    command = add_command(cache, "export", export)
    _add_common_flags(command)
    command.add_argument("out", type=Path, metavar="OUT.parquet", help="or OUT.npz; an existing file is replaced")

    command = add_command(cache, "import", import_)
    _add_common_flags(command)
    command.add_argument("file", type=Path, metavar="FILE", help=".parquet or .npz with sha256 or path, and vector")
    command.add_argument("--skip-unknown", action="store_true", help="leave out paths that the manifest does not list")


def pin(options: argparse.Namespace) -> None:
    """Write into params.yaml which weights (or which commit of a hub's model) a recipe means."""
    from mirip.features.backbones.pinning import pin_recipe
    from mirip.params import load_params

    name = options.recipe or load_params(options.params).extract.recipe
    pins = pin_recipe(options.params, name)
    for pinned in pins:
        was = "unchanged" if pinned.old == pinned.new else f"{pinned.old or 'none'} -> {pinned.new}"
        print(f"{name}: {pinned.key} {was}")
    if any(pinned.changes_features for pinned in pins):
        print(f"{name}: these are other weights: the next `dvc repro` computes all its features again")


def export(options: argparse.Namespace) -> None:
    """Write the features of a recipe as Parquet or .npz, for other tools."""
    from mirip.features.exchange.exporting import export_features
    from mirip.params import features_path, load_params

    params = load_params(options.params)
    name = _recipe_name(options, params)
    path = features_path(name)
    summary = export_features(path, options.out, recipe=params.named_recipe(name))
    print(f"{options.out}: {summary.rows} rows of {summary.dim} from {path}")


def import_(options: argparse.Namespace) -> None:
    """Bring features computed elsewhere, under a recipe whose backbone is import:<model and version>."""
    from mirip.features.exchange.importing import import_features
    from mirip.params import features_path, load_params

    params = load_params(options.params)
    name = _recipe_name(options, params)
    summary = import_features(
        options.file,
        recipe=params.named_recipe(name),
        features_path=features_path(name),
        skip_unknown=options.skip_unknown,
    )
    skipped = f", {summary.skipped} of unknown paths left out" if summary.skipped else ""
    print(
        f"{name}: {summary.imported} rows of {summary.dim} imported, {summary.already_there} already there{skipped}, "
        f"{summary.covered} of {summary.n_images} images of the manifest covered: "
        f"{_next_step(name, params, summary.n_images, summary.first_without)}"
    )


def _next_step(name: str, params: "Params", n_images: int, first_without: str | None) -> str:
    if not n_images:
        return "run `dvc repro prepare` for a manifest"
    if first_without is not None:
        return f"import the others too, the first is {first_without}"
    return "run `dvc repro`" if name == params.extract.recipe else f"run `dvc exp run -S extract.recipe={name}`"


def _recipe_name(options: argparse.Namespace, params: "Params") -> str:
    return str(options.recipe or params.extract.recipe)


def _add_common_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--params", type=Path, default=PARAMS, help=f"default {PARAMS}")
    parser.add_argument("--recipe", metavar="NAME", help="default: the active recipe")
