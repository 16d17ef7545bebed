"""The product's model: two images in, two scores out, and never with a backbone that it was not trained on."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from mirip import DINOv2FeatureExtractor, PairwiseRankingModel
from mirip.data.decoding import read_pixels
from mirip.errors import BackboneError, CheckpointError, ImageError
from mirip.features.cache.feature_cache import FeatureCache
from mirip.features.extract.extraction import extract_features
from mirip.models.checkpoint import load_checkpoint, save_checkpoint
from mirip.models.trainer import Trainer
from mirip.models.training import train_ranker
from mirip.params import HeadParams, Recipe, TrainParams


@pytest.fixture(scope="module")
def trained(tmp_path_factory, dinov2) -> Path:
    """A folder with images/, features.h5 and model.pt: the brighter an image, the better its tier."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for k in range(60):
        tier = k % 4
        pixels = np.clip(rng.integers(0, 60, (40, 50, 3)) + 50 * tier + rng.normal(0, 40), 0, 255)
        path = folder / "images" / f"{k}.png"
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        rows.append((path.name, hashlib.sha256(path.read_bytes()).hexdigest(), "CBAS"[tier], tier, k, ""))
    splits = pd.DataFrame(rows, columns=["image_path", "image_sha256", "tier", "tier_rank", "group_id", "context"])
    splits["split"] = np.where(np.arange(60) < 40, "train", np.where(np.arange(60) < 50, "val", "test"))
    recipe = Recipe(backbone=str(dinov2), image_size=28, compute_dtype="float32")
    items = zip(splits["image_sha256"], splits["image_path"], strict=True)
    extract_features(
        items,
        image_root=folder / "images",
        recipe=recipe,
        path=folder / "features.h5",
        store_root=folder,
        visible=False,
    )
    head = HeadParams(hidden_dim=16, embedding_dim=8, score_hidden_dim=4)
    config = TrainParams(head=head, learning_rate=0.01, max_epochs=15, images_per_step=64, device="cpu")
    cache = FeatureCache.open(folder / "features.h5", recipe)
    checkpoint = train_ranker(splits, cache, Trainer(config), tiers=["S", "A", "B", "C"]).checkpoint
    save_checkpoint(folder / "model.pt", checkpoint)
    splits.to_parquet(folder / "splits.parquet")
    return folder


def test_two_files_are_compared_in_three_lines(trained) -> None:
    model = PairwiseRankingModel.from_checkpoint(trained / "model.pt")
    result = model.compare(trained / "images/1.png", trained / "images/2.png")
    assert (result.score_a > result.score_b) == (result.probability > 0.5)
    assert 0 < result.probability < 1
    swapped = model.compare(trained / "images/2.png", trained / "images/1.png")
    assert swapped.probability == pytest.approx(1 - result.probability)


def test_what_is_served_is_what_was_cached(trained) -> None:
    """A image scored from its file has the score of its cached row, to the last bit of the cache."""
    model = PairwiseRankingModel.from_checkpoint(trained / "model.pt")
    splits = pd.read_parquet(trained / "splits.parquet").tail(10)
    cached = FeatureCache.open(trained / "features.h5").rows(splits["image_sha256"].tolist())
    with torch.inference_mode():
        expected = model.score(torch.from_numpy(cached)).tolist()
    scored = model.score_images([trained / "images" / name for name in splits["image_path"]])
    assert scored == pytest.approx(expected, abs=5e-3)


def test_the_long_way_gives_the_same_scores(trained) -> None:
    checkpoint = load_checkpoint(trained / "model.pt")
    short = PairwiseRankingModel.from_checkpoint(trained / "model.pt")
    extractor = short.extractor
    model = PairwiseRankingModel(
        extractor, feature_dim=32, config=TrainParams(head=HeadParams(**checkpoint.config["head"]))
    )
    model.load_state_dict(checkpoint.model_state_dict)
    a, b = trained / "images/1.png", trained / "images/2.png"
    img1, img2 = (extractor.transform(read_pixels(path))[None] for path in (a, b))
    with torch.inference_mode():
        score1, score2 = model.eval()(img1, img2)
    assert score1.shape == score2.shape == (1, 1)
    assert [score1.item(), score2.item()] == pytest.approx(short.score_images([a, b]), abs=1e-5)


def test_a_model_of_several_heads_comes_back_strictly_and_scores_by_their_mean(trained, tmp_path) -> None:
    splits = pd.read_parquet(trained / "splits.parquet")
    cache = FeatureCache.open(trained / "features.h5")
    one = load_checkpoint(trained / "model.pt")
    config = one.train_params.model_copy(update={"seeds": 3, "max_epochs": 4})
    found = train_ranker(splits, cache, Trainer(config), tiers=["S", "A", "B", "C"])
    save_checkpoint(tmp_path / "heads.pt", found.checkpoint)
    model = PairwiseRankingModel.from_checkpoint(tmp_path / "heads.pt")
    long_way = PairwiseRankingModel(feature_dim=32, config=config).eval()
    long_way.load_state_dict(torch.load(tmp_path / "heads.pt", weights_only=True)["model_state_dict"])
    features = torch.from_numpy(cache.rows(splits["image_sha256"].tolist()[-10:]))
    with torch.inference_mode():
        by_head = model.score_members(features)
        assert by_head.shape == (3, 10)
        assert torch.equal(model.score(features), by_head.mean(dim=0))
        assert torch.equal(long_way.score(features), model.score(features))
        assert torch.equal(found.result.model.score(features), model.score(features))
    a, b = trained / "images/1.png", trained / "images/2.png"
    compared = model.compare(a, b)
    assert [compared.score_a, compared.score_b] == pytest.approx(model.score_images([a, b]))


@pytest.mark.parametrize("seeds", [1, 2])
def test_the_score_is_the_weighted_mean_of_heads_and_linear_members(trained, tmp_path, seeds) -> None:
    """A model made with the defaults takes on the members of what it loads."""
    splits = pd.read_parquet(trained / "splits.parquet")
    cache = FeatureCache.open(trained / "features.h5")
    config = load_checkpoint(trained / "model.pt").train_params.model_copy(
        update={"seeds": seeds, "max_epochs": 4, "members": ("head", "ridge", "logistic")}
    )
    checkpoint = train_ranker(splits, cache, Trainer(config), tiers=["S", "A", "B", "C"]).checkpoint
    save_checkpoint(tmp_path / "members.pt", checkpoint)
    model = PairwiseRankingModel.from_checkpoint(tmp_path / "members.pt")
    train = torch.from_numpy(cache.rows(splits.loc[splits["split"] == "train", "image_sha256"].tolist()))
    with torch.inference_mode():
        members = model.score_members(train)
        assert members.shape == (seeds + 2, 40)
        assert members.mean(dim=1).tolist() == pytest.approx([0] * (seeds + 2), abs=1e-4)
        assert members.std(dim=1, correction=0).tolist() == pytest.approx([1] * (seeds + 2), abs=1e-4)
        kinds = model.by_kind(members)
        assert model.kinds == ("head", "ridge", "logistic")
        assert sum(model.kind_weights) == pytest.approx(1)
        expected = torch.tensor(model.kind_weights, dtype=torch.float64) @ kinds.double()
        assert model.score(train).tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    by_default = PairwiseRankingModel(feature_dim=32, config=TrainParams(head=config.head)).eval()
    by_default.load_state_dict(torch.load(tmp_path / "members.pt", weights_only=True)["model_state_dict"])
    with torch.inference_mode():
        assert torch.equal(by_default.score(train), model.score(train))
    doubled = by_default.double()
    doubled.load_state_dict(load_checkpoint(trained / "model.pt").model_state_dict)
    assert doubled.kinds == ("head",)
    assert {value.dtype for value in doubled.state_dict().values()} == {torch.float64}
    assert not doubled.training


def test_one_head_scores_as_it_is(trained) -> None:
    model = PairwiseRankingModel.from_checkpoint(trained / "model.pt")
    features = torch.zeros(2, 32)
    with torch.inference_mode():
        assert torch.equal(model.score_members(features), model.score(features)[None])
    assert "head_spread" not in model.state_dict()


def test_the_backbone_is_neither_trained_nor_saved(trained) -> None:
    model = PairwiseRankingModel.from_checkpoint(trained / "model.pt")
    model.score_images([trained / "images/1.png"])
    assert all(name.split(".")[0] in ("projector", "score_head") for name in model.state_dict())
    assert sum(parameter.numel() for parameter in model.parameters()) < 10_000


def test_defaults_are_those_of_the_product_and_load_nothing() -> None:
    model = PairwiseRankingModel()
    assert model.extractor.recipe == Recipe()
    assert model.projector.layers[0].in_features == 1024
    assert model.extractor.model is None


def test_another_backbone_under_the_same_path_is_refused(trained, tmp_path, other_dinov2) -> None:
    checkpoint = load_checkpoint(trained / "model.pt")
    moved = replace(checkpoint, recipe={**checkpoint.recipe, "backbone": str(other_dinov2)})
    save_checkpoint(tmp_path / "moved.pt", moved)
    with pytest.raises(BackboneError, match="pins"):
        PairwiseRankingModel.from_checkpoint(tmp_path / "moved.pt").score_images([trained / "images/1.png"])
    forged = replace(moved, fingerprint="0" * 64, recipe={**checkpoint.recipe})
    save_checkpoint(tmp_path / "forged.pt", forged)
    with pytest.raises(CheckpointError, match="was trained on 000000000000"):
        PairwiseRankingModel.from_checkpoint(tmp_path / "forged.pt").score_images([trained / "images/1.png"])


def test_a_checkpoint_whose_weights_do_not_fit_is_one_line(trained, tmp_path) -> None:
    checkpoint = load_checkpoint(trained / "model.pt")
    config = {**checkpoint.config, "head": {**checkpoint.config["head"], "hidden_dim": 99}}
    save_checkpoint(tmp_path / "a.pt", replace(checkpoint, config=config))
    with pytest.raises(CheckpointError, match="does not fit this version") as error:
        PairwiseRankingModel.from_checkpoint(tmp_path / "a.pt")
    assert "\n" not in str(error.value)


def test_a_missing_or_broken_image_is_named(trained, tmp_path) -> None:
    model = PairwiseRankingModel.from_checkpoint(trained / "model.pt")
    with pytest.raises(ImageError, match=r"gone\.jpg"):
        model.compare(trained / "images/1.png", tmp_path / "gone.jpg")
    (tmp_path / "text.jpg").write_text("not an image")
    with pytest.raises(ImageError, match=r"text\.jpg is not an image"):
        model.score_images([tmp_path / "text.jpg"])


def test_the_extractor_of_a_checkpoint_can_be_made_by_hand(trained) -> None:
    from mirip.features.backbones.recipe import declared_recipe

    checkpoint = torch.load(trained / "model.pt", weights_only=True)
    extractor = DINOv2FeatureExtractor.from_recipe(declared_recipe(checkpoint["recipe"]))
    assert extractor.resolved.fingerprint == checkpoint["fingerprint"]
