"""What the API answers to images: the values of the command line, and for each image its result or its problem."""

from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from serve.conftest import Running

from mirip.models.trained_ranker import ImageScore, TrainedRanker

Photo = Callable[..., bytes]


@pytest.fixture(scope="module")
def ranker(checkpoint: Path) -> TrainedRanker:
    return TrainedRanker.from_checkpoint(checkpoint, device="cpu")


def test_scores_are_those_of_the_ranker(running: Running, ranker: TrainedRanker, photo: Photo) -> None:
    images = [photo(seed) for seed in range(11)]
    answer = running.post("score", *images).json()
    for sent, found in zip(ranker.score(images), answer["images"], strict=True):
        assert isinstance(sent, ImageScore)
        assert found["problem"] is None
        assert found["result"]["score"] == pytest.approx(sent.score, abs=1e-4)
        assert found["result"]["percentile"] == pytest.approx(sent.percentile, abs=0.1)
        assert found["result"]["tier_probabilities"] == pytest.approx(sent.tiers, abs=1e-3)
        assert found["result"]["flags"] == list(sent.flags)
    assert answer["model"]["fingerprint"] == ranker.checkpoint.fingerprint
    assert answer["milliseconds"] > 0


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "AVIF"])
def test_every_format_is_taken_under_its_own_type(running: Running, photo: Photo, file_format: str) -> None:
    image = ("images", ("x", photo(1, file_format), f"image/{file_format.lower()}"))
    answer = requests.post(f"{running.url}/api/v1/score", files=[image], timeout=60).json()
    assert answer["images"][0]["result"] is not None


def test_a_bad_image_beside_good_ones_has_its_problem_and_they_their_results(running: Running, photo: Photo) -> None:
    answer = running.post("score", photo(1), b"not an image", photo(2), b"", photo(3)[:300]).json()
    kinds = [found["problem"] and found["problem"]["kind"] for found in answer["images"]]
    assert kinds == [None, "not_an_image", None, "truncated", "truncated"]
    assert running.get("/health/ready").status_code == 200


def test_an_image_of_one_pixel_scores_beside_another(running: Running, photo: Photo) -> None:
    answer = running.post("score", photo(1, "PNG", size=(1, 1)), photo(2)).json()
    assert [found["problem"] for found in answer["images"]] == [None, None]
    assert "small" in answer["images"][0]["result"]["flags"]


def test_what_is_declared_is_held_against_what_it_is(running: Running, photo: Photo) -> None:
    gif = ("images", ("x", photo(1, "GIF"), "image/jpeg"))
    answer = requests.post(f"{running.url}/api/v1/score", files=[gif], timeout=60).json()
    assert answer["images"][0]["problem"]["kind"] == "type_mismatch"
    declared = ["image/png", "text/html", "image/jpeg", ""]
    files = [("images", ("x", photo(1), kind)) for kind in declared]
    answer = requests.post(f"{running.url}/api/v1/score", files=files, timeout=60).json()
    kinds = [found["problem"] and found["problem"]["kind"] for found in answer["images"]]
    assert kinds == ["type_mismatch", "type_mismatch", None, None]


def test_pairs_are_called_or_left_open(running: Running, ranker: TrainedRanker, photo: Photo) -> None:
    images = [photo(seed) for seed in range(4)]
    answer = running.post("compare", *images, b"bad").json()
    assert [(pair["a"], pair["b"]) for pair in answer["pairs"]] == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    for pair in answer["pairs"]:
        a, b = (answer["images"][pair[name]]["result"]["score"] for name in "ab")
        chance = ranker.win_probability(a, b)
        assert pair["p_a_is_better"] == pytest.approx(chance)
        called = max(chance, 1 - chance) >= answer["min_confidence"]
        assert pair["better"] == ((pair["a"] if a > b else pair["b"]) if called else None)


def test_an_order_has_places_and_their_intervals(running: Running, photo: Photo) -> None:
    answer = running.post("rank", *[photo(seed) for seed in range(9)], b"bad").json()
    order = answer["order"]
    assert [place["place"] for place in order] == list(range(1, 10))
    scores = [answer["images"][place["index"]]["result"]["score"] for place in order]
    assert scores == sorted(scores, reverse=True)
    assert all(1 <= place["first"] <= place["last"] <= 9 for place in order)
    assert 9 not in {place["index"] for place in order}


def test_copies_of_an_image_have_one_score(running: Running, photo: Photo) -> None:
    answer = running.post("rank", photo(21), photo(22), photo(21)).json()
    scores = [image["result"]["score"] for image in answer["images"]]
    assert scores[0] == scores[2]
    assert answer["pairs"][1]["p_a_is_better"] == 0.5


def test_an_order_of_nothing_usable_is_empty(running: Running) -> None:
    answer = running.post("rank", b"bad").json()
    assert (answer["order"], answer["bands"], answer["pairs"]) == ([], [], [])


@pytest.mark.parametrize(
    ("route", "n_images", "status", "name"),
    [
        ("compare", 1, 422, "too-few-images"),
        ("compare", 11, 422, "too-many-images"),
        ("rank", 101, 422, "too-many-images"),
        ("score", 101, 422, "too-many-images"),
    ],
)
def test_too_few_or_too_many_images_are_refused(
    running: Running, photo: Photo, route: str, n_images: int, status: int, name: str
) -> None:
    answer = running.post(route, *[photo(0)] * n_images)
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:mirip:problem:{name}")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_a_context_that_the_model_does_not_know_is_refused(running: Running, photo: Photo) -> None:
    for image in (photo(0), b"not an image"):
        answer = running.post("score", image, data={"context": "ink"})
        assert (answer.status_code, answer.json()["type"]) == (422, "urn:mirip:problem:unknown-context")


def test_an_empty_context_is_none(running: Running, photo: Photo) -> None:
    within_all, within_none = (running.post("score", photo(0), data=data) for data in ({}, {"context": ""}))
    assert within_none.json()["images"] == within_all.json()["images"]


def test_the_model_is_told_with_its_limits(running: Running, ranker: TrainedRanker) -> None:
    answer = running.get("/api/v1/model").json()
    assert answer["tiers"] == ranker.checkpoint.tiers
    assert answer["limits"]["compare_images"] == 10


def test_names_of_files_are_harmless(running: Running, photo: Photo) -> None:
    names = ["../../etc/passwd", "C:\\x\\y", "a\x00b", "가" * 300, '"; rm -rf /', "<script>"]
    files = [("images", (name, photo(0), "image/jpeg")) for name in names]
    answer = requests.post(f"{running.url}/api/v1/score", files=files, timeout=60)
    assert [found["problem"] for found in answer.json()["images"]] == [None] * len(names)
    assert "passwd" not in answer.text
