import io
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from mirip.data import duplicates
from mirip.data.duplicates import NO_HASH, connected_groups, near_duplicate_labels, perceptual_hash


def _drawing(seed: int, size: tuple[int, int] = (400, 300)) -> Image.Image:
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", size, (240, 235, 225))
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        x, y, width, height = rng.integers(0, 250, 4)
        draw.ellipse((x, y, x + width + 10, y + height + 10), fill=tuple(rng.integers(0, 255, 3).tolist()))
    return image


def _bits_apart(first: Image.Image, second: Image.Image) -> int:
    return int(np.bitwise_count(perceptual_hash(np.asarray(first)) ^ perceptual_hash(np.asarray(second))))


def _recoded(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def _same_partition(first: np.ndarray, second: np.ndarray) -> bool:
    return bool(((first[:, None] == first[None]) == (second[:, None] == second[None])).all())


def test_another_encoding_or_size_is_the_same_image() -> None:
    for seed in range(8):
        image = _drawing(seed)
        assert _bits_apart(image, _recoded(image, 40)) <= 4
        assert _bits_apart(image, image.resize((300, 225), Image.Resampling.BICUBIC)) <= 4
        assert _bits_apart(image, image.resize((410, 307), Image.Resampling.LANCZOS)) <= 4


def test_different_images_are_far_apart() -> None:
    hashes = np.array([perceptual_hash(np.asarray(_drawing(seed))) for seed in range(40)])
    distances = np.bitwise_count(hashes[:, None] ^ hashes[None])[np.triu_indices(40, 1)]
    assert distances.min() > 8


def test_a_nearly_uniform_image_has_no_hash_and_no_near_duplicate() -> None:
    noise = np.random.default_rng(0).integers(-2, 3, size=(100, 100, 3))
    for pixels in (np.full((9, 9, 3), 255), np.zeros((50, 20, 3)), 250 + noise):
        assert perceptual_hash(pixels.astype(np.uint8)) == NO_HASH
    labels = near_duplicate_labels(np.array([0, 5, 0, 5, 7], np.uint64), 0)
    assert labels[0] == labels[2] == -1
    assert labels[1] == labels[3] != labels[4]


# Few high bits in play, so that near pairs are common.
_HASHES = st.lists(
    st.one_of(st.integers(1, 2**64 - 1), st.integers(0, 255).map(lambda n: 2**63 + n * 0x0101010101)),
    min_size=0,
    max_size=60,
    unique=True,
)


@given(_HASHES, st.integers(0, 16))
def test_labels_are_the_transitive_closure(values: list[int], max_bits: int) -> None:
    hashes = np.array(values + values[:5], dtype=np.uint64)
    assert _same_partition(near_duplicate_labels(hashes, max_bits), _closure(hashes, max_bits))


@given(_HASHES, st.integers(0, 16), st.sampled_from([0.0, 1.0]))
def test_every_way_to_compare_gives_the_transitive_closure(values: list[int], max_bits: int, cost: float) -> None:
    hashes = np.array(values, dtype=np.uint64)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(duplicates, "_SECONDS_TO_COMPARE_ALL", cost)  # where it costs much, masks are taken
        patched.setattr(duplicates, "_TURNS", 1)
        patched.setattr(duplicates, "_MANY", 2)  # and within them again, down to the last bits
        patched.setattr(duplicates, "_ROWS_AT_ONCE", 2)
        patched.setattr(duplicates, "_PAIRS_AT_ONCE", 8)
        assert _same_partition(near_duplicate_labels(hashes, max_bits), _closure(hashes, max_bits))


def _closure(hashes: np.ndarray, max_bits: int) -> np.ndarray:
    linked = np.bitwise_count(hashes[:, None] ^ hashes[None]) <= max_bits
    return np.asarray(connected_components(csr_array(linked), directed=False)[1])


def _flipped(rng: np.random.Generator, n: int, n_flips: int, n_bits: int = 64) -> np.ndarray:
    """Return n masks of up to `n_flips` random ones among the lowest `n_bits`."""
    places = rng.integers(0, n_bits, (n, n_flips), dtype=np.uint64)
    return np.bitwise_or.reduce(np.uint64(1) << places, axis=1)


_BASE = np.uint64(0x123456789ABCDEF0)
_CROWDS = {
    "all near one image": lambda rng, n: _BASE ^ _flipped(rng, n, 4),
    "around one image, most too far from each other": lambda rng, n: _BASE ^ _flipped(rng, n, 9),
    "equal in half of their bits": lambda rng, n: _BASE ^ rng.integers(0, 2**32, n, dtype=np.uint64),
    "different in few bits, each a neighbour of many": lambda rng, n: (
        _BASE ^ rng.permutation(2**17)[:n].astype(np.uint64)
    ),
    "different in few bits": lambda rng, n: _BASE ^ rng.integers(0, 2**14, n, dtype=np.uint64),
    "clusters": lambda rng, n: (
        rng.integers(1, 2**64, 30, dtype=np.uint64)[rng.integers(0, 30, n)] ^ _flipped(rng, n, 3)
    ),
    "a crowd among others": lambda rng, n: np.append(
        rng.integers(1, 2**64, n // 2, dtype=np.uint64), _BASE ^ _flipped(rng, n - n // 2, 5, 40)
    ),
}


@pytest.mark.parametrize("crowd", _CROWDS)
@pytest.mark.parametrize("max_bits", [0, 1, 4, 9])
def test_labels_of_crowded_hashes_are_the_transitive_closure(crowd: str, max_bits: int) -> None:
    hashes = _CROWDS[crowd](np.random.default_rng(5), 2000)
    assert _same_partition(near_duplicate_labels(hashes, max_bits), _closure(hashes, max_bits))


@pytest.mark.parametrize("crowd", _CROWDS)
def test_fifty_thousand_crowded_hashes_are_quick(crowd: str) -> None:
    hashes = _CROWDS[crowd](np.random.default_rng(7), 50_000)
    start = time.process_time()
    near_duplicate_labels(hashes, 4)
    assert time.process_time() - start < 10  # all with all, or all of a bucket, takes a minute


def test_ten_thousand_equal_hashes_and_a_hundred_thousand_others_are_quick() -> None:
    rng = np.random.default_rng(3)
    hashes = np.append(rng.integers(1, 2**64, size=100_000, dtype=np.uint64), np.full(10_000, 77, np.uint64))
    hashes[1] = hashes[0] ^ np.uint64(0b1011)
    start = time.process_time()
    labels = near_duplicate_labels(hashes, 4)
    assert time.process_time() - start < 10
    assert labels[0] == labels[1]
    assert len(set(labels[100_000:])) == 1
    assert len(set(labels.tolist())) == 100_000


def test_a_thousand_similar_images_are_one_group() -> None:
    base = np.uint64(0x123456789ABCDEF0)
    low = np.arange(1024, dtype=np.uint64)
    assert set(near_duplicate_labels(base ^ low, 4)) == {0}


@given(st.integers(0, 25), st.data())
def test_groups_are_connected_rows_in_order_of_first_appearance(n_rows: int, data: st.DataObject) -> None:
    labels = st.lists(st.integers(-1, 6), min_size=n_rows, max_size=n_rows).map(lambda v: np.array(v, dtype=np.int64))
    labelings = [data.draw(labels) for _ in range(3)]
    groups = connected_groups(labelings, n_rows)
    expected = list(range(n_rows))
    for _ in range(n_rows):
        for values in labelings:
            for a in range(n_rows):
                for b in range(a):
                    if values[a] == values[b] >= 0:
                        expected[a] = expected[b] = min(expected[a], expected[b])
    seen = list(dict.fromkeys(expected))
    assert groups.tolist() == [seen.index(group) for group in expected]
