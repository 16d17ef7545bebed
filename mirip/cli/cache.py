"""`mirip cache explain | verify | stats | gc`: look into the feature cache, and bound its store."""

import argparse
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirip.cli import exchange
from mirip.cli.command import add_command
from mirip.errors import CacheError, DataError, ParamsError
from mirip.workspace import Workspace, private_folder

if TYPE_CHECKING:
    from mirip.features.cache.verification import Findings
    from mirip.params import Params

_ROWS_SHOWN = 50
_SEEDS = 10**6  # few digits to type
_GIB = 2**30


def add_commands(commands: Any) -> None:
    """Add `cache`, with its own commands, to the commands of `mirip`."""
    about = "Look into the feature cache, bound its store, and exchange features with other tools."
    parser = commands.add_parser("cache", help=about, description=about)
    cache = parser.add_subparsers(required=True, metavar="COMMAND")
    _command(cache, "explain", explain)

    command = _command(cache, "verify", verify)
    command.add_argument(
        "--rows", type=int, default=4, metavar="N", help="extract so many again; default 4, 0 for none"
    )
    command.add_argument("--seed", type=int, help="of the choice of these rows; default: another each time, printed")
    command.add_argument("--all", action="store_true", help=f"list every bad row, not only the first {_ROWS_SHOWN}")

    _command(cache, "stats", stats, of_one_recipe=False)

    command = _command(cache, "gc", gc, of_one_recipe=False)
    command.add_argument(
        "--max-gib", type=float, metavar="X", help="remove what was used least recently, down to X GiB"
    )
    command.add_argument("--unused-days", type=float, metavar="N", help="remove what no extraction used for N days")
    command.add_argument(
        "--active", action="store_true", help="remove imported rows and those of the active recipe too, last"
    )
    command.add_argument("--dry-run", action="store_true", help="say what would go, and remove nothing")
    exchange.add_commands(cache)


def explain(options: argparse.Namespace) -> None:
    """Say what `dvc repro extract` would do, and why, before it does."""
    from mirip.cli.cache_text import explained
    from mirip.data.freshness import look_for_changes
    from mirip.data.image_source import image_source
    from mirip.data.manifest import first_paths, read_manifest
    from mirip.features.extract.explanation import explain_extraction

    params = _params(options)
    manifest = read_manifest(Workspace().manifest)
    for line in explained(params, explain_extraction(params, first_paths(manifest), private_folder().store)):
        print(line)
    images = image_source(params.data.images)
    if reason := images.unavailable():
        print(f"note: {reason}: nothing can be computed here")
        return
    stale = look_for_changes(manifest, Workspace().manifest, images, params.data.metadata)
    changes = [_changed(stale.missing, "is missing", "are missing")] * (stale.missing > 0)
    now = "another size than when"
    resized = _changed(stale.resized, f"has {now} it was prepared", f"have {now} they were prepared")
    changes += [resized] * (stale.resized > 0)
    changes += [f"{params.data.metadata} was changed"] * stale.metadata_changed
    if changes:
        first = f" (the first {stale.first})" if stale.first else ""
        print(f"warning: {', '.join(changes)}{first}: run `dvc repro prepare` first")


def verify(options: argparse.Namespace) -> None:
    """Check the features file and its store, byte by byte; exit code 1 and a list of what is wrong."""
    from mirip.cli.cache_text import advised
    from mirip.features.cache.verification import Mend
    from mirip.wording import counted

    params = _params(options)
    path = params.features_path
    found = _verified(params, options.rows, options.seed)
    for note in found.notes:
        print(f"note: {note}")
    for problem in found.problems:
        print(problem)
    shown = found.bad_rows if options.all else found.bad_rows[:_ROWS_SHOWN]
    for row in shown:
        print(row)
    if len(found.bad_rows) > len(shown):
        print(f"... and {len(found.bad_rows) - len(shown)} more: `mirip cache verify --all` lists them")
    if not found.sound:
        n_rows = len({row.index for row in found.bad_rows})
        outdated = found.mends == {Mend.EXTRACT}
        what = "is not what params.yaml and the manifest ask for" if outdated else "or its store is not sound"
        store = private_folder().store / (found.rows.attributes["fingerprint"] if found.rows else "")
        raise CacheError(
            f"{path} {what}, {counted(len(found.problems), 'problem')} and {counted(n_rows, 'bad row')}",
            advised(found.mends, path, store, imported=params.recipe.imported),
        )
    print(f"{path} is sound")


def stats(options: argparse.Namespace) -> None:
    """List the features files of all recipes, and what the store holds."""
    from mirip.cli.cache_text import aligned, file_columns, holding_columns
    from mirip.features.cache.inventory import list_features, list_store
    from mirip.wording import size

    params = _params(options)
    root = private_folder().store
    print("features files (* the active recipe)")
    files = list_features(params)
    for line in aligned([file_columns(file, file.recipe == params.extract.recipe) for file in files]):
        print(f"  {line}")
    holdings = list_store(root, params.recipes)
    print(f"store {root}")
    for line in aligned([holding_columns(holding) for holding in holdings]):
        print(f"  {line}")
    total = sum(holding.n_bytes for holding in holdings)
    print(f"total: {len(holdings)} fingerprints, {sum(holding.rows for holding in holdings)} rows, {size(total)}")


def gc(options: argparse.Namespace) -> None:
    """Remove rows from the store, whole fingerprints at a time, the least recently used first."""
    from mirip.cli.cache_text import aligned, holding_columns
    from mirip.features.cache.eviction import evict, order_of_removal
    from mirip.features.cache.inventory import list_store
    from mirip.wording import size

    if options.max_gib is None and options.unused_days is None:
        raise ParamsError("mirip cache gc needs a limit", "give --max-gib X, --unused-days N, or both")
    for name in ("max_gib", "unused_days"):
        if (value := getattr(options, name)) is not None and not value >= 0:
            raise ParamsError(f"--{name.replace('_', '-')} is {value}", "give 0 or more")
    params = _params(options)
    root = private_folder().store
    holdings = list_store(root, params.recipes)
    max_bytes = None if options.max_gib is None else int(options.max_gib * _GIB)
    done = evict(
        root,
        holdings,
        order_of_removal(holdings, params.extract.recipe, also_active=options.active),
        now=time.time(),
        max_bytes=max_bytes,
        unused_days=options.unused_days,
        dry_run=options.dry_run,
    )
    for line in aligned([holding_columns(holding) for holding in done.removed]):
        print(f"{'would remove' if options.dry_run else 'removed'} {line}")
    for holding in done.locked:
        print(f"kept {holding.fingerprint[:8]}: an extraction is using it")
    freed = "would be freed" if options.dry_run else "freed"
    print(f"{size(done.bytes_freed)} {freed}, {size(done.bytes_left)} left in {root}")
    if max_bytes is not None and done.bytes_left > max_bytes:
        advice = (
            "try again when no extraction runs"
            if done.locked
            else "--active removes imported rows and those of the active recipe too"
        )
        raise CacheError(f"the store takes more than --max-gib {options.max_gib:g}", advice)


def _verified(params: "Params", n_rows: int, seed: int | None) -> "Findings":
    from mirip.data.manifest import first_paths, read_manifest
    from mirip.features.cache.inventory import local_fingerprint
    from mirip.features.cache.verification import compare_with_manifest, verify_cache, verify_store
    from mirip.features.extract.spot_check import reextract

    if n_rows < 0:
        raise ParamsError(f"--rows is {n_rows}", "give 0 or more")
    if seed is not None and seed < 0:
        raise ParamsError(f"--seed is {seed}", "give 0 or more")
    found = verify_cache(params.features_path, params.recipe)
    try:
        paths = first_paths(read_manifest(Workspace().manifest))
    except DataError as error:
        paths = {}
        found.notes.append(f"keys and images are not compared: {error}")
    rows = found.rows
    fingerprint = local_fingerprint(params.recipe) if rows is None else rows.attributes["fingerprint"]
    if rows is not None and paths:
        found.add(compare_with_manifest(rows, paths))
        if n_rows:
            found.add(reextract(rows, params, paths, n_rows, secrets.randbelow(_SEEDS) if seed is None else seed))
    if fingerprint is not None:
        found.add(verify_store(private_folder().store, fingerprint))
    return found


def _changed(n: int, one: str, many: str) -> str:
    return f"1 image {one}" if n == 1 else f"{n} images {many}"


def _params(options: argparse.Namespace) -> "Params":
    from mirip.params import override_params

    recipe = vars(options).get("recipe")
    changes = {} if recipe is None else {"extract.recipe": recipe}
    return override_params(options.params, changes)


def _command(commands: Any, name: str, function: Any, *, of_one_recipe: bool = True) -> argparse.ArgumentParser:
    parser = add_command(commands, name, function)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="default params.yaml")
    if of_one_recipe:
        parser.add_argument("--recipe", metavar="NAME", help="name of a recipe; default: the active recipe")
    return parser
