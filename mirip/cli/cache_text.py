"""What explain, verify, stats and gc print."""

from collections.abc import Iterator, Sequence, Set
from datetime import datetime
from pathlib import Path

from mirip.features.cache.feature_cache import Header
from mirip.features.cache.inventory import FeaturesFile, Holding
from mirip.features.cache.verification import Mend
from mirip.features.extract.explanation import Explanation
from mirip.params import Params
from mirip.wording import counted, size


def explained(params: Params, found: Explanation) -> Iterator[str]:
    """Yield what an extraction would do, a line each."""
    recipe, path = params.recipe, params.features_path
    fingerprint = f"fingerprint {found.fingerprint[:8]}" if found.fingerprint else "fingerprint unknown"
    how = f"{recipe.image_size} px, {recipe.pooling}, {recipe.compute_dtype} -> {recipe.stored_dtype}"
    how = recipe.stored_dtype if recipe.imported else how
    yield f"recipe {params.extract.recipe}: {recipe.backbone}, {how}, {fingerprint}"
    sources = [f"{found.from_file} from {path}"] * (found.from_file > 0)
    sources += [f"{found.from_store} from the store"] * (found.from_store > 0)
    kinds = [f"{found.new} new"] * (found.new > 0) + [f"{found.changed} changed"] * (found.changed > 0)
    if 0 < (again := found.to_compute - found.new - found.changed) < found.to_compute:
        kinds.append(f"{again} again")
    yield (
        f"{found.images} images: {found.from_file + found.from_store} reused{_among(sources)}, "
        f"{found.to_compute} to {'import' if recipe.imported else 'compute'}{_among(kinds)}, {found.renamed} renamed, "
        f"{found.gone} gone"
    )
    for reason in found.reasons:
        yield f"why: {reason}"
    if found.unknown:
        yield f"note: {found.unknown}"
    if found.running:
        yield "note: an extraction of this recipe is running at this moment"
    if found.up_to_date:
        yield f"{path} is up to date: nothing to do"
    elif not found.to_compute:
        yield f"nothing to compute: {path} is written from what is here"
    elif recipe.imported:
        yield "import them with `mirip cache import FILE`: an extraction stops without them"
    elif found.rate is None or found.seconds is None:
        yield "how long that takes is not known: this recipe was not timed on this machine yet"
    else:
        rate = f"{found.rate.images_per_second:.3g} images/s"
        yield f"about {duration(found.seconds)} at {rate} (measured {found.rate.measured} on {found.rate.hardware})"


def advised(mends: Set[Mend], path: Path, store: Path, *, imported: bool) -> str:
    """Return what to do about what a check found.

    Args:
        mends: what mends it, of one kind at least.
        path: the features file.
        store: the folder of its rows in the store.
        imported: whether the rows cannot be computed here.
    """
    rewrite = not mends.isdisjoint({Mend.REWRITE, Mend.RECOMPUTE})
    removed = [str(path)] * rewrite + ["the files of the store that are named above"] * (Mend.CLEAR_STORE in mends)
    remove = f"remove {' and '.join(removed)}"
    if mends == {Mend.CLEAR_STORE}:
        again = "must be imported again" if imported else "is computed again when it is needed"
        return f"{remove}: what only they hold {again}"
    advice = f"{remove} and run `dvc repro extract`" if removed else "run `dvc repro extract`"
    if rewrite:
        advice += ", which takes what is sound from the store"
    if Mend.RECOMPUTE in mends:
        advice += f"; rows that are bad after that are so in the store too: remove {store} as well"
        advice += " and import them again" if imported else ""
    return advice


def file_columns(file: FeaturesFile, active: bool) -> list[str]:
    """Return the columns of a features file: name, rows, shape, size, fingerprint, state."""
    name = f"{'*' if active else ' '} {file.recipe}"
    if not isinstance(header := file.header, Header):
        return [name, "", "", size(file.n_bytes) if file.n_bytes else "", "", file.state]
    shape = f"{header.dim} {header.dtype}"
    return [name, f"{header.rows} rows", shape, size(file.n_bytes), header.fingerprint[:8], file.state]


def holding_columns(holding: Holding) -> list[str]:
    """Return the columns of a fingerprint: its start, rows, shards, size, last use, recipe."""
    damaged = f", {holding.damaged} damaged" if holding.damaged else ""
    used = "in use now" if holding.locked else datetime.fromtimestamp(holding.last_used).date().isoformat()
    return [
        holding.fingerprint[:8],
        f"{holding.rows} rows",
        f"{counted(holding.shards, 'shard')}{damaged}",
        size(holding.n_bytes),
        used,
        ", ".join(holding.names) or _recipe_in_words(holding),
    ]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Pad columns to equal widths: numbers to the right, the first and the last to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            text.rjust(width) if 0 < place < len(widths) - 1 else text.ljust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _recipe_in_words(holding: Holding) -> str:
    if (recipe := holding.recipe) is None:
        return "recipe unknown"
    fields = ("backbone", "image_size", "fit", "pooling", "compute_dtype")
    return " ".join(str(recipe.get(field)) for field in fields)


def _among(parts: Sequence[str]) -> str:
    return f" ({', '.join(parts)})" if parts else ""


def duration(seconds: float) -> str:
    """Return e.g. "4 s", "25 min", "3.0 h"."""
    for limit, length, unit in ((100, 1, "s"), (6000, 60, "min"), (float("inf"), 3600, "h")):
        if seconds < limit:
            return f"{seconds / length:.{1 if unit == 'h' else 0}f} {unit}"
    raise AssertionError(seconds)
