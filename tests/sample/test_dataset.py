import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from mirip.sample.dataset import atomic_folder, write_dataset
from mirip.sample.planted import PLANTED

N_IMAGES, N_ARTISTS = 24, 16


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    write_dataset(folder / "one", 7, N_IMAGES, N_ARTISTS)
    return folder / "one"


@pytest.fixture(scope="module")
def truth(sample):
    return json.loads((sample / "truth.json").read_text())


@pytest.fixture(scope="module")
def rows(sample):
    with (sample / "metadata.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def planted(sample, truth):
    return lambda kind: sample / truth["planted"][kind]["image_path"]


def decode(file: Path) -> Image.Image:
    with Image.open(file) as image:
        image.load()
        return image


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


@pytest.mark.slow
def test_two_runs_write_the_same_bytes_however_many_processes_draw(sample, tmp_path):
    write_dataset(tmp_path / "again", 7, N_IMAGES, N_ARTISTS, workers=2)
    assert files_of(tmp_path / "again") == files_of(sample)


def test_every_row_but_the_missing_one_has_its_file(sample, rows, truth):
    absent = [row["image_path"] for row in rows if not (sample / row["image_path"]).is_file()]
    assert len(rows) == N_IMAGES
    assert absent == [truth["planted"]["missing"]["image_path"]]


def test_truth_names_every_planted_kind_once(truth):
    assert set(truth["planted"]) == set(PLANTED)
    assert len({entry["image_path"] for entry in truth["planted"].values()}) == len(PLANTED)


def test_the_sideways_photo_is_upright_once_exif_is_applied(planted):
    with Image.open(planted("sideways_exif")) as stored:
        assert stored.getexif()[0x0112] == 6
        upright = ImageOps.exif_transpose(stored)
        assert upright.size == stored.size[::-1]


@pytest.mark.parametrize(
    ("kind", "file_format", "mode"),
    [
        ("cmyk", "JPEG", "CMYK"),
        ("alpha", "PNG", "RGBA"),
        ("sixteen_bit", "PNG", "I;16"),
        ("grey", "JPEG", "L"),
        ("palette", "PNG", "P"),
    ],
)
def test_planted_file_has_its_mode(planted, kind, file_format, mode):
    with Image.open(planted(kind)) as image:
        image.load()
        assert (image.format, image.mode) == (file_format, mode)


def test_alpha_has_transparent_pixels(planted):
    with Image.open(planted("alpha")) as image:
        assert image.getextrema()[3] == (0, 255)


def test_the_exact_copy_is_another_artists_file_byte_for_byte(sample, rows, truth):
    entry = truth["planted"]["exact_copy"]
    artist = {row["image_path"]: row["artist"] for row in rows}
    assert (sample / entry["image_path"]).read_bytes() == (sample / entry["copy_of"]).read_bytes()
    assert artist[entry["image_path"]] != artist[entry["copy_of"]]


def test_the_near_copy_shows_the_same_image_in_other_bytes(sample, truth):
    entry = truth["planted"]["near_copy"]
    copy, original = (sample / entry[name] for name in ("image_path", "copy_of"))
    small = [np.asarray(decode(file).convert("L").resize((32, 32)), float) for file in (copy, original)]
    assert copy.read_bytes() != original.read_bytes()
    assert np.abs(small[0] - small[1]).mean() < 3


@pytest.mark.parametrize("kind", ["truncated", "not_an_image"])
def test_an_unreadable_file_cannot_be_decoded(planted, kind):
    assert planted(kind).suffix == ".jpg"
    with pytest.raises(OSError, match=r"truncated|not processed|cannot identify"):
        decode(planted(kind))


def test_one_row_has_a_tier_that_nobody_knows(rows, truth):
    strange = [row["image_path"] for row in rows if row["tier"] not in "SABC"]
    assert strange == [truth["planted"]["unknown_tier"]["image_path"]]


def test_all_sound_images_are_between_320_and_420_pixels_a_side(sample, truth):
    special = {entry["image_path"] for entry in truth["planted"].values()}
    sizes = [
        decode(sample / artwork["image_path"]).size
        for artwork in truth["artworks"]
        if artwork["image_path"] not in special
    ]
    assert min(min(size) for size in sizes) >= 320
    assert max(max(size) for size in sizes) <= 420


def test_the_best_rankers_accuracy_recomputes_from_its_scores(truth):
    artworks = [artwork for artwork in truth["artworks"] if artwork["usable"]]
    right = total = 0.0
    for one in artworks:
        for other in artworks:
            if "SABC".index(one["tier"]) < "SABC".index(other["tier"]):
                total += 1
                right += (one["score"] > other["score"]) + 0.5 * (one["score"] == other["score"])
    assert truth["best_ranker"]["n_pairs"] == total
    assert truth["best_ranker"]["accuracy"] == pytest.approx(right / total)


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "sample"
    with atomic_folder(target) as folder:
        (folder / "a.txt").write_text("old")

    def write_half():
        with atomic_folder(target) as folder:
            (folder / "b.txt").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert files_of(tmp_path) == {"sample/a.txt": b"old"}


def test_a_new_folder_replaces_the_old_one(tmp_path):
    for name in ("a.txt", "b.txt"):
        with atomic_folder(tmp_path / "sample") as folder:
            (folder / name).write_text(name)
    assert files_of(tmp_path) == {"sample/b.txt": b"b.txt"}
