"""Images and a checkpoint in; for each image its score and what it means, or what is wrong with it, out."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_checkpoint import write_checkpoint
from PIL import Image

from mirip.errors import CheckpointError
from mirip.features.backbones.backbone import DINOv2FeatureExtractor
from mirip.files import sha256_bytes
from mirip.models.checkpoint import load_checkpoint, save_checkpoint, short_keys
from mirip.models.trained_ranker import ImageProblem, ImageScore, TrainedRanker
from mirip.params import Recipe


def _image(seed: int, size: tuple[int, int] = (60, 40), file_format: str = "JPEG", **options: Any) -> bytes:
    coarse = np.random.default_rng(seed).integers(256, size=(4, 6, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize(size).save(buffer, file_format, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def checkpoint(dinov2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = Recipe(backbone=str(dinov2), image_size=28, compute_dtype="float32")
    dim = DINOv2FeatureExtractor.from_recipe(recipe, "cpu").embedding_dim
    return write_checkpoint(tmp_path_factory.mktemp("model") / "best_model.pt", dim=dim, recipe=recipe)


@pytest.fixture
def ranker(checkpoint: Path) -> TrainedRanker:
    return TrainedRanker.from_checkpoint(checkpoint, device="cpu")


def _scores(ranker: TrainedRanker, images: list[bytes | Path]) -> list[float]:
    return [found.score for found in ranker.score(images) if isinstance(found, ImageScore)]


def test_files_and_bytes_score_alike_and_as_the_model_scores_them(ranker: TrainedRanker, tmp_path: Path) -> None:
    paths = [tmp_path / f"{seed}.jpg" for seed in range(3)]
    for seed, path in enumerate(paths):
        path.write_bytes(_image(seed))
    by_path, by_bytes = _scores(ranker, list(paths)), _scores(ranker, [path.read_bytes() for path in paths])
    assert by_path == pytest.approx(by_bytes, abs=1e-5)
    assert by_path == pytest.approx(ranker.model.score_images(paths), abs=1e-4)


def test_what_comes_with_an_image_has_no_say_in_its_score(checkpoint: Path) -> None:
    images: list[bytes | Path] = [_image(seed) for seed in range(20)]
    fresh = TrainedRanker.from_checkpoint(checkpoint, device="cpu", remembered=0)
    together = _scores(fresh, images)
    assert _scores(fresh, images[::-1])[::-1] == pytest.approx(together, abs=1e-4)
    assert [score for image in images for score in _scores(fresh, [image])] == pytest.approx(together, abs=1e-4)


def test_one_bad_image_never_empties_the_answer(ranker: TrainedRanker, tmp_path: Path) -> None:
    found = list(ranker.score([_image(1), b"", tmp_path / "gone.jpg", b"text", _image(2)]))
    assert [type(each) for each in found] == [ImageScore, ImageProblem, ImageProblem, ImageProblem, ImageScore]
    kinds = [each.kind for each in found if isinstance(each, ImageProblem)]
    assert kinds == ["truncated", "missing", "not_an_image"]


def test_recent_images_are_not_embedded_again(ranker: TrainedRanker, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _scores(ranker, [_image(1), _image(2), _image(1)])
    assert first[0] == first[2]
    monkeypatch.setattr(ranker.model, "embed", None)
    assert _scores(ranker, [_image(2), _image(1)]) == pytest.approx([first[1], first[0]], abs=1e-6)


def test_what_is_remembered_is_bounded(checkpoint: Path) -> None:
    ranker = TrainedRanker.from_checkpoint(checkpoint, device="cpu", remembered=3)
    list(ranker.score([_image(seed) for seed in range(10)]))
    assert len(ranker._remembered) == 3


def test_flags_say_what_a_reader_should_know(checkpoint: Path, tmp_path: Path) -> None:
    known = load_checkpoint(checkpoint)
    seen = _image(5)
    object.__setattr__(known, "seen_images", torch.from_numpy(short_keys([sha256_bytes(seen)])))
    save_checkpoint(tmp_path / "seen.pt", known)
    ranker = TrainedRanker.from_checkpoint(tmp_path / "seen.pt", device="cpu")
    exif = Image.Exif()
    exif[0x0112] = 6
    images: list[bytes | Path] = [_image(1), _image(2, size=(12, 8)), _image(3, exif=exif), seen]
    flags = [found.flags for found in ranker.score(images) if isinstance(found, ImageScore)]
    assert flags == [(), ("small",), ("turned_upright",), ("seen_in_training",)]


def test_a_tier_that_is_less_likely_than_all_others_is_undecided(ranker: TrainedRanker) -> None:
    for found in ranker.score([_image(seed) for seed in range(12)]):
        assert isinstance(found, ImageScore)
        likeliest = max(found.tiers, key=lambda name: found.tiers[name])
        assert found.tier == (likeliest if found.tiers[likeliest] >= 0.5 else None)
        assert sum(found.tiers.values()) == pytest.approx(1)


def test_a_context_that_the_model_does_not_know_is_refused_before_an_image_is_decoded(
    ranker: TrainedRanker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranker, "prepare", None)
    with pytest.raises(CheckpointError, match="too few images of context 'ink'"):
        list(ranker.score([_image(1)], context="ink"))


def test_an_order_is_the_same_each_time(ranker: TrainedRanker) -> None:
    scores = [0.3, 0.1, 0.2]
    one, two = ranker.places(scores), ranker.places(scores)
    assert one.order.tolist() == [0, 2, 1]
    assert (one.first.tolist(), one.last.tolist()) == (two.first.tolist(), two.last.tolist())
