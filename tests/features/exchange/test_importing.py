import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mirip.data.tables import write_table
from mirip.errors import CacheError, DataError, ParamsError
from mirip.features.backbones.recipe import resolve
from mirip.features.cache.feature_cache import FeatureCache
from mirip.features.cache.rows import as_keys
from mirip.features.cache.store import FeatureStore
from mirip.features.exchange.importing import ImportSummary, import_features
from mirip.features.extract.extraction import extract_features
from mirip.params import Recipe

CLIP = Recipe(backbone="import:clip")
KEYS = [f"{number:064x}" for number in range(6)]
PATHS = [f"{number}.png" for number in range(6)]
VECTORS = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose manifest lists the images 0 to 4, the first one twice."""
    monkeypatch.chdir(tmp_path)
    numbers = [0, 1, 2, 3, 4, 0]
    columns = pd.DataFrame({"image_path": [*PATHS[:5], "copy.png"], "image_sha256": [KEYS[n] for n in numbers]})
    write_table(tmp_path / "data/manifest.parquet", whole_manifest(columns))
    return tmp_path


def whole_manifest(columns: pd.DataFrame) -> pd.DataFrame:
    from mirip.data.manifest import _COLUMNS

    return columns.assign(**{name: 0 for name in _COLUMNS if name not in columns})


def vectors_file(numbers: list[int], *, offset: float = 0, by: str = "sha256", width: int = 4) -> Path:
    names = {"sha256": KEYS, "image_path": PATHS}[by]
    vectors = np.array([VECTORS[number, :width] + offset for number in numbers])
    np.savez("vectors.npz", **{by: np.array([names[number] for number in numbers]), "vectors": vectors})
    return Path("vectors.npz")


def import_rows(numbers: list[int], *, recipe: Recipe = CLIP, **options: object) -> ImportSummary:
    file = vectors_file(numbers, **options)
    return import_features(file, recipe=recipe, features_path=Path("features/clip.h5"), visible=False)


def extract(recipe: Recipe = CLIP) -> FeatureCache:
    items = list(zip(KEYS[:5], PATHS[:5], strict=True))
    extract_features(items, image_root="nowhere", recipe=recipe, path="features/clip.h5", visible=False)
    return FeatureCache.open("features/clip.h5", recipe)


def stored() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(".mirip").rglob("*.h5")}


def test_imported_rows_are_what_extraction_writes(workspace: Path) -> None:
    summary = import_rows([3, 0, 4, 1, 2])
    assert summary == ImportSummary(
        imported=5, already_there=0, skipped=0, dim=4, covered=5, n_images=5, first_without=None
    )
    cache = extract()
    assert (cache.rows(KEYS[:5]) == VECTORS[:5].astype(np.float16)).all()
    assert cache.features.dtype == np.float16


@pytest.mark.slow
def test_it_needs_neither_images_nor_torch(workspace: Path, project_root: Path) -> None:
    import subprocess
    import sys

    import_rows([0, 1, 2, 3, 4])
    code = (
        "import sys; from pathlib import Path; from mirip.params import Recipe\n"
        "from mirip.features.exchange.importing import import_features\n"
        "recipe = Recipe(backbone='import:clip')\n"
        "summary = import_features('vectors.npz', recipe=recipe, features_path=Path('features/clip.h5'))\n"
        "print(summary.already_there, 'torch' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=workspace, capture_output=True, text=True, check=True)
    assert shown.stdout == "5 False\n"


def test_paths_are_those_of_the_manifest_and_images_of_no_manifest_are_kept_for_later(workspace: Path) -> None:
    assert import_rows([1, 0], by="image_path").covered == 2
    summary = import_rows([5, 1])
    assert (summary.imported, summary.already_there, summary.covered, summary.first_without) == (1, 1, 2, "2.png")


def test_rows_come_in_several_imports(workspace: Path) -> None:
    import_rows([0, 1])
    message = (
        r"3 of 5 images have no features of import:clip, the first 2\.png: import them with `mirip cache import FILE`"
    )
    with pytest.raises(CacheError, match=message):
        extract()
    summary = import_rows([0, 1, 2, 3, 4])
    assert (summary.imported, summary.already_there, summary.covered) == (3, 2, 5)
    assert (extract().rows(KEYS[:5]) == VECTORS[:5].astype(np.float16)).all()


def test_without_a_manifest_hashes_are_enough(workspace: Path) -> None:
    shutil.rmtree("data")
    assert import_rows([0, 1]).n_images == 0
    with pytest.raises(DataError, match=r"1 of 1 paths in vectors.npz are not in the manifest"):
        import_rows([2], by="image_path")


def test_another_vector_under_the_same_name_is_a_conflict_and_nothing_is_kept(workspace: Path) -> None:
    import_rows([0, 1])
    before = stored()
    message = rf"2 of 4 images already have another vector of import:clip, the first {KEYS[0]}: .*import:clip-v2"
    with pytest.raises(CacheError, match=message):
        import_rows([0, 1, 2, 3], offset=1)
    assert stored() == before
    other = Recipe(backbone="import:clip-v2")
    assert import_rows([0, 1, 2, 3], offset=1, recipe=other).imported == 4


def test_another_width_under_the_same_name_is_a_conflict_and_nothing_is_kept(workspace: Path) -> None:
    import_rows([0, 1])
    before = stored()
    with pytest.raises(
        CacheError, match=r"have 3 numbers, those already there of import:clip have 4: .*import:clip-v2"
    ):
        import_rows([2, 3], width=3)
    assert stored() == before


@pytest.mark.parametrize("change", [{"offset": 1}, {"width": 3}])
def test_the_features_file_counts_where_the_store_is_lost(change: dict[str, float], workspace: Path) -> None:
    import_rows([0, 1, 2, 3, 4])
    extract()
    shutil.rmtree(".mirip")
    with pytest.raises(CacheError, match="import:clip-v2"):
        import_rows([0], **change)
    assert import_rows([0]).already_there == 1


def test_a_file_that_is_wrong_anywhere_leaves_nothing(workspace: Path) -> None:
    file = vectors_file([0, 1, 2])
    with np.load(file) as arrays:
        keys, vectors = arrays["sha256"], arrays["vectors"]
    vectors[2, 0] = np.nan
    np.savez(file, sha256=keys, vectors=vectors)
    with pytest.raises(DataError, match="NaN"):
        import_features(file, recipe=CLIP, features_path=Path("features/clip.h5"), visible=False)
    assert stored() == {}


def test_a_recipe_that_computes_takes_no_imports(workspace: Path) -> None:
    with pytest.raises(
        ParamsError, match=r"features of facebook/dinov2-large are computed .* import:<model and version>"
    ):
        import_rows([0], recipe=Recipe())


def test_the_stored_dtype_is_the_recipes(workspace: Path) -> None:
    exact = Recipe(backbone="import:clip", stored_dtype="float32")
    import_rows([0, 1, 2, 3, 4], recipe=exact)
    cache = extract(exact)
    assert (cache.rows(KEYS[:5]) == VECTORS[:5]).all()
    assert cache.features.dtype == np.float32


def test_the_store_holds_each_row_once(workspace: Path) -> None:
    import_rows([0, 1, 2])
    import_rows([2, 3, 4])
    extract()
    store = FeatureStore(workspace / ".mirip/store", resolve(CLIP))
    assert len(list(store.folder.glob("*.h5"))) == 1
    assert not len(store.gather(as_keys(KEYS[:5])).missing)
