"""Pass every image that is new through the frozen backbone into the feature cache.

Reads   data/manifest.parquet, the images, the active recipe and its backbone
Writes  features/<recipe>.h5, metrics/extract.json
Run     python -m stages.extract        (or `dvc repro extract`)

Rows that were ever computed come from .mirip/store/; Ctrl-C or a crash loses at most a batch.
Prints at last, e.g.: extract: 400 rows, 12 computed, 388 reused
"""

from pathlib import Path

from mirip import params as params_module
from mirip.data.manifest import first_paths, read_manifest
from mirip.errors import DataError
from mirip.features.extract.extraction import extract_features
from mirip.features.extract.history import ExtractionSummary
from mirip.files import sha256_file, write_json
from mirip.params import Params, load_params
from stages import run

MANIFEST = Path("data/manifest.parquet")
METRICS = Path("metrics/extract.json")
PARAMS = Path("params.yaml")


def summarise(summary: ExtractionSummary) -> dict[str, int | str]:
    """Return metrics/extract.json: what the features are, not how they came about."""
    return {
        "rows": summary.rows,
        "dim": summary.dim,
        "fingerprint": summary.fingerprint,
        "content_digest": summary.content_digest,
    }


def relevant_params(params: Params) -> dict[str, object]:
    """Return the parameters that this stage depends on."""
    return {
        "data.images": params.data.images,
        "prepare.max_image_pixels": params.prepare.max_image_pixels,
        "extract": params.extract,
        f"recipes.{params.extract.recipe}": params.recipe,
    }


def source_files() -> list[Path]:
    """Return the manifest and the code that this stage consists of, as dvc.yaml lists it."""
    package = Path(params_module.__file__).parent
    packages = [path for name in ("data", "features") for path in (package / name).rglob("*.py")]
    return [MANIFEST, *sorted([*packages, package / "files.py", package / "params.py", Path(__file__)])]


def sources(params: Params) -> dict[str, object]:
    """Return the state of everything that dvc.lock will name as the origin of the features."""
    hashes = {str(path): sha256_file(path) if path.is_file() else None for path in source_files()}
    return {**relevant_params(params), **hashes}


def check_unchanged(before: dict[str, object], after: dict[str, object]) -> None:
    """Raise DataError where a source changed while features were computed.

    DVC hashes the sources after the command: it would take the features for those of the changed ones.
    """
    changed = [name for name in before | after if before.get(name) != after.get(name)]
    if changed:
        raise DataError(
            f"{', '.join(changed)} changed while features were extracted: run `dvc repro extract` again, all that "
            "was computed is kept"
        )


def main() -> None:
    """Extract as params.yaml says."""
    params = load_params(PARAMS)
    before = sources(params)
    summary = extract_features(
        first_paths(read_manifest(MANIFEST)).items(),
        image_root=params.data.images,
        recipe=params.recipe,
        path=params.features_path,
        batch_size=params.extract.batch_size,
        workers=params.extract.workers,
        device=params.extract.device,
        max_image_pixels=params.prepare.max_image_pixels,
    )
    check_unchanged(before, sources(load_params(PARAMS)))
    write_json(METRICS, summarise(summary))
    print(f"extract: {summary.rows} rows, {summary.computed} computed, {summary.reused} reused")


if __name__ == "__main__":
    run(main)
