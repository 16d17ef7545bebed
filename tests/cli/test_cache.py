"""`mirip cache explain | verify | stats | gc` on a real project, through the command line."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from mirip.cli.main import main
from mirip.data.manifest import build_manifest, read_manifest
from mirip.data.tables import write_table
from mirip.features.backbones.recipe import resolve
from mirip.features.cache.rows import read_rows
from mirip.features.cache.store import lock_path
from mirip.features.extract.extraction import extract_features
from mirip.features.extract.history import known_rates
from mirip.locks import locked_file
from mirip.params import load_params
from mirip.workspace import private_folder

pytestmark = pytest.mark.slow

N = 20
BACKBONE = "models/backbones/tiny"
MANIFEST, FEATURES = Path("data/manifest.parquet"), Path("features/tiny.h5")


class Project:
    """A folder with images, metadata and params, as the stages `prepare` and `extract` leave it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.images = folder, folder / "images"

    def draw(self, names: range) -> None:
        for name in names:
            rng = np.random.default_rng(name)
            height, width = rng.integers(10, 40, size=2)
            pixels = rng.integers(0, 256, size=(height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(self.images / f"{name}.png")

    def prepare(self) -> None:
        names = sorted(path.name for path in self.images.iterdir())
        metadata = pd.DataFrame({"image_path": names, "tier": (["A", "B"] * len(names))[: len(names)]})
        metadata.to_csv("metadata.csv", index=False)
        write_table(MANIFEST, build_manifest(metadata, self.images, tiers=["A", "B"]).manifest)

    def extract(self) -> None:
        params = load_params()
        manifest = read_manifest(MANIFEST)
        extract_features(
            zip(manifest["image_sha256"], manifest["image_path"], strict=True),
            image_root=params.data.images,
            recipe=params.recipe,
            path=params.features_path,
            batch_size=params.extract.batch_size,
            device="cpu",
            visible=False,
        )

    def set(self, **changes: object) -> None:
        """Change the active recipe."""
        params = yaml.safe_load(Path("params.yaml").read_text())
        params["recipes"]["tiny"] |= changes
        Path("params.yaml").write_text(yaml.safe_dump(params))

    @property
    def fingerprint(self) -> str:
        return resolve(load_params().recipe).fingerprint


@contextmanager
def inside(folder: Path) -> Iterator[Project]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DVC_ROOT", str(folder))
        yield Project(folder)


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory, dinov2: Path) -> Path:
    """20 images, prepared and extracted once: `project` is a copy."""
    folder = tmp_path_factory.mktemp("extracted")
    with inside(folder) as project:
        write_extracted(project, dinov2)
    return folder


def write_extracted(project: Project, dinov2: Path) -> None:
    project.images.mkdir()
    shutil.copytree(dinov2, BACKBONE)
    recipe = {"backbone": BACKBONE, "image_size": 28, "compute_dtype": "float32"}
    params = {
        "data": {"images": "images", "metadata": "metadata.csv", "tiers": ["A", "B"]},
        "extract": {"recipe": "tiny", "batch_size": 4, "device": "cpu"},
        "recipes": {"tiny": recipe, "other": recipe | {"fit": "squash"}},
    }
    Path("params.yaml").write_text(yaml.safe_dump(params))
    project.draw(range(N))
    project.prepare()
    project.extract()


@pytest.fixture
def project(tmp_path: Path, extracted: Path) -> Iterator[Project]:
    """20 images, prepared and extracted."""
    shutil.copytree(extracted, tmp_path, dirs_exist_ok=True)
    with inside(tmp_path) as project:
        yield project


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run `mirip cache ...` and return all that it says; its exit code must be as expected."""

    def run(*arguments: str, code: int = 0) -> str:
        capsys.readouterr()
        assert main(["cache", *arguments]) == code
        shown = capsys.readouterr()
        return shown.out + shown.err

    return run


def damage(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def shards(project: Project) -> list[Path]:
    return sorted((private_folder().store / project.fingerprint).glob("*.h5"))


# explain


def test_explain_says_that_nothing_is_to_be_done(project: Project, said: Callable[..., str]) -> None:
    shown = said("explain")
    assert f"recipe tiny: {BACKBONE}, 28 px, cls, float32 -> float16, fingerprint {project.fingerprint[:8]}" in shown
    assert "20 images: 20 reused (20 from features/tiny.h5), 0 to compute, 0 renamed, 0 gone" in shown
    assert "features/tiny.h5 is up to date: nothing to do" in shown
    assert "warning" not in shown


def test_explain_counts_what_is_new_changed_renamed_gone_and_reused(project: Project, said: Callable[..., str]) -> None:
    project.draw(range(100, 103))  # new
    (project.images / "100.png").rename(project.images / "1.png")  # 1 changed, two are new
    (project.images / "2.png").rename(project.images / "renamed.png")
    (project.images / "3.png").unlink()
    project.prepare()
    shown = said("explain")
    assert (
        "21 images: 18 reused (18 from features/tiny.h5), 3 to compute (2 new, 1 changed), 1 renamed, 2 gone" in shown
    )
    (rate,) = known_rates(project.fingerprint)
    assert f"at {rate.images_per_second:.3g} images/s (measured {rate.measured} on {rate.hardware})" in shown
    project.extract()
    assert "0 to compute, 0 renamed, 0 gone" in said("explain")


def test_explain_foretells_what_the_store_gives_back(project: Project, said: Callable[..., str]) -> None:
    (project.images / "3.png").unlink()
    project.prepare()
    project.extract()
    project.draw(range(3, 4))
    project.prepare()
    assert "20 reused (19 from features/tiny.h5, 1 from the store), 0 to compute" in said("explain")
    FEATURES.unlink()
    shown = said("explain")
    assert "20 reused (20 from the store), 0 to compute" in shown
    assert "why: features/tiny.h5 is not found" in shown
    assert "nothing to compute: features/tiny.h5 is written from what is here" in shown


def test_explain_gives_the_differences_of_the_recipe_in_words(project: Project, said: Callable[..., str]) -> None:
    project.set(fit="squash", image_size=42)
    shown = said("explain")
    assert "20 images: 0 reused, 20 to compute, 0 renamed, 0 gone" in shown
    assert "built by another recipe: image_size: cache 28, params 42; fit: cache pad, params squash" in shown
    assert "why: the store holds nothing of this recipe yet" in shown
    assert "was not timed on this machine yet" in shown


def test_explain_tells_a_file_that_is_written_again_from_rows_that_are(
    project: Project, said: Callable[..., str]
) -> None:
    project.set(image_size=41)  # the same whole patches
    shown = said("explain")
    assert "20 reused (20 from features/tiny.h5), 0 to compute" in shown
    assert "is written again, no value changes: image_size: cache 28, params 41" in shown


def test_explain_knows_what_a_lost_store_and_file_cost(project: Project, said: Callable[..., str]) -> None:
    shutil.rmtree(private_folder().store)
    assert "20 reused (20 from features/tiny.h5), 0 to compute" in said("explain")
    FEATURES.unlink()
    shown = said("explain")
    assert "0 reused, 20 to compute, 0 renamed" in shown
    assert "why: features/tiny.h5 is not found" in shown
    assert "why: the store was deleted" in shown


def test_explain_takes_no_row_of_a_damaged_file_or_shard(project: Project, said: Callable[..., str]) -> None:
    damage(FEATURES, read_rows(FEATURES).offset + 5)
    shown = said("explain")
    assert "20 reused (20 from the store), 0 to compute" in shown
    assert "why: features/tiny.h5 is damaged, its content has digest" in shown
    damage(shards(project)[0], -1)
    shown = said("explain")
    assert "0 reused, 20 to compute" in shown
    assert "why: 1 file of the store is damaged: see `mirip cache verify`" in shown


def test_explain_warns_of_data_that_is_newer_than_the_manifest(project: Project, said: Callable[..., str]) -> None:
    (project.images / "5.png").unlink()
    (project.images / "6.png").write_bytes(b"longer than before" * 1000)
    later = time.time() + 100
    os.utime("metadata.csv", (later, later))
    shown = said("explain")
    assert "warning: 1 image is missing, 1 image has another size than when it was prepared, metadata.csv was " in shown
    assert "(the first 5.png): run `dvc repro prepare` first" in shown


def test_explain_works_without_images_and_backbone(project: Project, said: Callable[..., str]) -> None:
    shutil.rmtree(project.images)
    shutil.rmtree(BACKBONE)
    shown = said("explain")
    assert "20 reused (20 from features/tiny.h5), 0 to compute" in shown
    assert f"note: the backbone folder {BACKBONE} has no config.json" in shown
    assert "note: the images, images, are not on this machine" in shown
    FEATURES.unlink()
    assert "20 reused (20 from the store), 0 to compute" in said("explain")
    project.set(fit="squash")
    shown = said("explain")
    assert "fingerprint unknown" in shown
    assert "0 reused, 20 to compute" in shown


def test_explain_says_that_an_extraction_is_running(project: Project, said: Callable[..., str]) -> None:
    with locked_file(lock_path(private_folder().store, project.fingerprint)):
        assert "note: an extraction of this recipe is running at this moment" in said("explain")


def test_explain_of_imported_features_says_how_to_bring_them(project: Project, said: Callable[..., str]) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["recipes"]["clip"] = {"backbone": "import:clip"}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    shown = said("explain", "--recipe", "clip")
    assert "recipe clip: import:clip, float16, fingerprint " in shown
    assert "20 images: 0 reused, 20 to import, 0 renamed, 0 gone" in shown
    assert "import them with `mirip cache import FILE`: an extraction stops without them" in shown


def test_explain_takes_another_recipe(project: Project, said: Callable[..., str]) -> None:
    assert f"recipe other: {BACKBONE}" in said("explain", "--recipe", "other")
    assert "'nonsense', which is not among recipes" in said("explain", "--recipe", "nonsense", code=1)


def test_explain_without_a_manifest_is_one_line(project: Project, said: Callable[..., str]) -> None:
    MANIFEST.unlink()
    assert said("explain", code=1) == "error: data/manifest.parquet is not found: run `dvc repro prepare`\n"


def test_explain_loads_neither_torch_nor_the_backbone(project: Project) -> None:
    (project.images / "3.png").unlink()
    code = "import sys; from mirip.cli.main import main; main(['cache', 'explain']); print({'torch'} & {*sys.modules})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize("command", ["gc", "stats"])
def test_what_concerns_all_recipes_takes_none(project: Project, command: str) -> None:
    with pytest.raises(SystemExit):  # so that no one takes it for a choice of what goes
        main(["cache", command, "--recipe", "tiny"])


# verify


def test_verify_finds_a_sound_cache_sound(project: Project, said: Callable[..., str]) -> None:
    shown = said("verify")
    assert "note: 4 rows extracted again: 4 have the same bytes" in shown
    assert "note: store: 1 shard, 20 rows" in shown
    assert "features/tiny.h5 is sound\n" in shown
    assert len(known_rates(project.fingerprint)) == 1
    assert "extracted again" not in said("verify", "--rows", "0")


def test_verify_names_a_damaged_row_and_exits_with_1(project: Project, said: Callable[..., str]) -> None:
    rows = read_rows(FEATURES)
    damage(FEATURES, rows.offset + 2 * 32 * 7)
    shown = said("verify", "--rows", "0", code=1)
    assert f"row 7 ({rows.keys[7].decode()}) is not what was written" in shown
    assert "features/tiny.h5: its content has digest" in shown
    last = shown.splitlines()[-1]
    assert last == (
        "error: features/tiny.h5 or its store is not sound, 1 problem and 1 bad row: remove features/tiny.h5 and run "
        "`dvc repro extract`, which takes what is sound from the store"
    )
    FEATURES.unlink()
    project.extract()
    assert "is sound" in said("verify", "--rows", "0")


def test_verify_lists_all_bad_rows_when_asked(project: Project, said: Callable[..., str]) -> None:
    project.draw(range(100, 140))
    project.prepare()
    project.extract()
    with h5py.File(FEATURES, "r+") as file:
        file["features"][...] = 0
    assert "... and 70 more: `mirip cache verify --all` lists them" in said("verify", "--rows", "0", code=1)
    shown = said("verify", "--rows", "0", "--all", code=1)
    assert shown.count("is all zero") == 60


def test_verify_finds_rows_that_are_whole_and_wrong(project: Project, said: Callable[..., str]) -> None:
    """As an extraction with a bug would write them: digest and checksums fit."""
    from mirip.features.cache.feature_cache import write_cache

    rows = read_rows(FEATURES)
    features = np.array(rows.features)
    features[[3, 4]] = features[[4, 3]]
    write_cache(FEATURES, [key.decode() for key in rows.keys], features, resolve(load_params().recipe))
    shown = said("verify", "--rows", "20", code=1)
    store = private_folder().store / project.fingerprint
    assert shown.splitlines()[-1].endswith(
        "2 bad rows: remove features/tiny.h5 and run `dvc repro extract`, which takes what is sound from the store; "
        f"rows that are bad after that are so in the store too: remove {store} as well"
    )
    for index in (3, 4):
        assert f"row {index} ({rows.keys[index].decode()}) is not what its image gives: extracted again" in shown
    assert "note: 20 rows extracted again: 18 have the same bytes" in shown


def test_verify_takes_rounding_for_a_note(project: Project, said: Callable[..., str]) -> None:
    """As another device would write them."""
    from mirip.features.cache.feature_cache import write_cache

    rows = read_rows(FEATURES)
    features = np.array(rows.features)
    features[5] = np.nextafter(features[5], np.float16(0))
    write_cache(FEATURES, [key.decode() for key in rows.keys], features, resolve(load_params().recipe))
    shown = said("verify", "--rows", "20")
    assert "19 have the same bytes" in shown
    assert "1 of them differs in rounding only" in shown
    assert "another device, batch size, number of threads or version of a library made them" in shown


def test_verify_chooses_the_same_rows_by_the_same_seed(project: Project, said: Callable[..., str]) -> None:
    from mirip.features.cache.feature_cache import write_cache

    rows = read_rows(FEATURES)
    features = np.roll(np.array(rows.features), 1, axis=0)  # all wrong: the bad rows are those that were chosen
    write_cache(FEATURES, [key.decode() for key in rows.keys], features, resolve(load_params().recipe))
    first, again, other = (said("verify", "--seed", seed, code=1) for seed in ("1", "1", "2"))
    assert first == again != other
    assert "--seed is -1: give 0 or more" in said("verify", "--seed", "-1", code=1)


def test_verify_draws_other_rows_each_time_and_says_how_to_draw_them_again(
    project: Project, said: Callable[..., str]
) -> None:
    from mirip.features.cache.feature_cache import write_cache

    rows = read_rows(FEATURES)
    features = np.roll(np.array(rows.features), 1, axis=0)  # all wrong: the bad rows are those that were chosen
    write_cache(FEATURES, [key.decode() for key in rows.keys], features, resolve(load_params().recipe))
    shown = [said("verify", code=1) for _ in range(4)]
    chosen = [{line for line in lines.splitlines() if line.startswith("row ")} for lines in shown]
    assert all(len(rows) == 4 for rows in chosen)
    assert len(set(map(frozenset, chosen))) > 1
    (seed,) = re.findall(r"note: `--rows 4 --seed (\d+)` extracts the same rows again", shown[0])
    assert said("verify", "--seed", seed, code=1) == shown[0]


def test_verify_says_why_nothing_is_extracted_again(project: Project, said: Callable[..., str]) -> None:
    shutil.move(BACKBONE, "elsewhere")
    assert f"note: no row is extracted again: the backbone folder {BACKBONE} has no config.json" in said("verify")
    shutil.move("elsewhere", BACKBONE)
    for image in project.images.iterdir():
        image.write_bytes(b"changed")
    assert "no row is extracted again: none of 20 images was found unchanged in images" in said("verify")
    shutil.rmtree(project.images)
    assert "note: no row is extracted again: the images, images, are not on this machine" in said("verify")
    MANIFEST.unlink()
    assert "note: keys and images are not compared: data/manifest.parquet is not found" in said("verify")


def test_verify_compares_with_the_manifest_and_the_recipe(project: Project, said: Callable[..., str]) -> None:
    (project.images / "3.png").unlink()
    project.draw(range(100, 102))
    project.prepare()
    project.set(fit="squash")
    shown = said("verify", code=1)
    assert "2 of 21 images of the manifest are not in it, the first 100.png" in shown
    assert "1 of its rows are of no image of the manifest" in shown
    assert "fit: cache pad, params squash" in shown
    assert shown.splitlines()[-1] == (
        "error: features/tiny.h5 is not what params.yaml and the manifest ask for, 3 problems and 0 bad rows: "
        "run `dvc repro extract`"
    )


def test_verify_of_a_missing_file_has_nothing_removed(project: Project, said: Callable[..., str]) -> None:
    FEATURES.unlink()
    shown = said("verify", code=1)
    assert "features/tiny.h5 is not found" in shown
    assert "remove" not in shown
    assert shown.endswith("1 problem and 0 bad rows: run `dvc repro extract`\n")


def test_verify_of_a_truncated_file_does_not_send_to_verify(project: Project, said: Callable[..., str]) -> None:
    FEATURES.write_bytes(FEATURES.read_bytes()[:-100])
    shown = said("verify", code=1)
    assert "features/tiny.h5 is damaged" in shown
    assert "mirip cache verify" not in shown
    assert "remove features/tiny.h5 and run `dvc repro extract`" in shown
    FEATURES.unlink()
    project.extract()
    assert "is sound" in said("verify", "--rows", "0")


def test_verify_looks_at_the_store_too(project: Project, said: Callable[..., str]) -> None:
    (shard,) = shards(project)
    damage(shard, 3000)
    shown = said("verify", "--rows", "0", code=1)
    assert f"{shard} is damaged" in shown
    assert shown.splitlines()[-1].endswith(
        "remove the files of the store that are named above: what only they hold is computed again when it is needed"
    )
    FEATURES.unlink()
    shown = said("verify", "--rows", "0", code=1)
    assert f"{shard} is damaged" in shown
    assert "features/tiny.h5 is not found" in shown


# stats


def test_stats_lists_files_and_store(project: Project, said: Callable[..., str]) -> None:
    here = project.fingerprint
    project.set(fit="squash")
    project.extract()
    project.set(fit="pad")
    lines = said("stats").splitlines()
    tiny = next(line for line in lines if "* tiny" in line)
    assert "20 rows  32 float16" in tiny
    assert tiny.endswith("other fit")
    assert next(line for line in lines if "  other " in line).endswith("not here")
    held = {line.split()[0]: line for line in lines if " shard" in line}
    assert held[here[:8]].endswith(" tiny")
    assert held[resolve(load_params().recipes["other"]).fingerprint[:8]].endswith(" other")
    assert lines[-1].startswith("total: 2 fingerprints, 40 rows, ")


def test_stats_calls_one_recipe_alone_the_active_one(project: Project, said: Callable[..., str]) -> None:
    shutil.copy(FEATURES, "features/twin.h5")
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["recipes"]["twin"] = params["recipes"]["tiny"]
    Path("params.yaml").write_text(yaml.safe_dump(params))
    shown = said("stats")
    assert shown.startswith("features files (* the active recipe)")
    assert shown.count("active recipe") == 1
    assert shown.count("fits its recipe") == 2


def test_stats_tells_rows_of_no_recipe_by_what_made_them(project: Project, said: Callable[..., str]) -> None:
    project.set(pooling="mean")
    assert f"{BACKBONE} 28 pad cls float32" in said("stats")


def test_stats_counts_damaged_files(project: Project, said: Callable[..., str]) -> None:
    (shard,) = shards(project)
    shard.write_bytes(shard.read_bytes()[:1000])
    FEATURES.write_bytes(b"nonsense")
    shown = said("stats")
    assert "0 rows  1 shard, 1 damaged  1000 B" in shown
    assert "damaged" in next(line for line in shown.splitlines() if "* tiny" in line)


def test_stats_works_with_nothing_there(project: Project, said: Callable[..., str]) -> None:
    shutil.rmtree(".mirip")
    FEATURES.unlink()
    assert "total: 0 fingerprints, 0 rows, 0 B" in said("stats")


# gc


def last_used(fingerprint: str, days_ago: float) -> None:
    when = time.time() - days_ago * 86_400
    os.utime(lock_path(private_folder().store, fingerprint), (when, when))


@pytest.fixture(scope="module")
def of_three_recipes(tmp_path_factory: pytest.TempPathFactory, extracted: Path) -> tuple[Path, dict[str, str]]:
    """The project extracted by two more recipes; their fingerprints."""
    folder = shutil.copytree(extracted, tmp_path_factory.mktemp("three") / "project")
    with inside(folder) as project:
        found = {"tiny": project.fingerprint}
        for name, change, undo in (
            ("other", {"fit": "squash"}, {"fit": "pad"}),
            ("none", {"pooling": "mean"}, {"pooling": "cls"}),
        ):
            project.set(**change)
            project.extract()
            found[name] = project.fingerprint
            project.set(**undo)
    return folder, found


@pytest.fixture
def three(project: Project, of_three_recipes: tuple[Path, dict[str, str]]) -> dict[str, str]:
    """Fingerprints of the active recipe (used longest ago), of another of params.yaml, and of none (used last)."""
    folder, found = of_three_recipes
    shutil.copytree(folder, project.folder, dirs_exist_ok=True)
    for name, days in (("tiny", 30), ("other", 20), ("none", 10)):
        last_used(found[name], days)
    return found


def held() -> set[str]:
    return {path.name for path in private_folder().store.iterdir() if path.is_dir()}


def test_gc_without_a_limit_names_the_options(project: Project, said: Callable[..., str]) -> None:
    shown = said("gc", code=1)
    assert shown == "error: mirip cache gc needs a limit: give --max-gib X, --unused-days N, or both\n"
    assert "--max-gib is -1.0: give 0 or more" in said("gc", "--max-gib", "-1", code=1)


def test_gc_removes_rows_of_no_recipe_first_and_those_of_the_active_one_only_when_asked(
    three: dict[str, str], said: Callable[..., str]
) -> None:
    size = sum(path.stat().st_size for path in private_folder().store.glob("*/*.h5"))
    one = size / 3 / 2**30
    shown = said("gc", "--max-gib", str(2.5 * one))
    assert f"removed {three['none'][:8]}" in shown
    assert held() == {three["tiny"], three["other"]}
    assert not lock_path(private_folder().store, three["none"]).exists()
    said("gc", "--max-gib", str(1.5 * one))
    assert held() == {three["tiny"]}
    shown = said("gc", "--max-gib", "0", code=1)
    assert held() == {three["tiny"]}
    assert "--active removes imported rows and those of the active recipe too" in shown
    said("gc", "--max-gib", "0", "--active")
    assert held() == set()


def test_gc_removes_what_was_not_used_for_long(three: dict[str, str], said: Callable[..., str]) -> None:
    assert "0 B freed" in said("gc", "--unused-days", "40")
    said("gc", "--unused-days", "15")
    assert held() == {three["tiny"], three["none"]}
    said("gc", "--unused-days", "15", "--active")
    assert held() == {three["none"]}


def test_an_extraction_counts_as_use(three: dict[str, str], project: Project, said: Callable[..., str]) -> None:
    project.extract()
    said("gc", "--unused-days", "15", "--active")
    assert held() == {three["tiny"], three["none"]}


def test_a_dry_run_removes_nothing(three: dict[str, str], said: Callable[..., str]) -> None:
    shown = said("gc", "--unused-days", "0", "--active", "--dry-run")
    assert shown.count("would remove") == 3
    assert "would be freed" in shown
    assert held() == set(three.values())


def test_gc_leaves_what_a_running_extraction_holds(three: dict[str, str], said: Callable[..., str]) -> None:
    with locked_file(lock_path(private_folder().store, three["none"])):
        last_used(three["none"], 30)
        shown = said("gc", "--unused-days", "1")
    assert f"kept {three['none'][:8]}: an extraction is using it" in shown
    assert held() == {three["tiny"], three["none"]}


def test_what_gc_took_is_computed_again_or_comes_from_the_file(
    three: dict[str, str], project: Project, said: Callable[..., str]
) -> None:
    project.extract()
    before = FEATURES.read_bytes()
    said("gc", "--max-gib", "0", "--active")
    assert "20 reused (20 from features/tiny.h5)" in said("explain")
    FEATURES.unlink()
    project.extract()
    assert FEATURES.read_bytes() == before
