import inspect

import numpy as np
import pytest

from mirip.data import statistics
from mirip.data.statistics import STATISTICS, Pixels, measure


def _uniform(colour: tuple[int, int, int]) -> np.ndarray:
    return np.full((30, 40, 3), colour, np.uint8)


@pytest.mark.parametrize(("colour", "brightness"), [((0, 0, 0), 0), ((255, 255, 255), 1), ((0, 255, 0), 0.587)])
def test_brightness_is_mean_luma(colour: tuple[int, int, int], brightness: float) -> None:
    statistics = measure(_uniform(colour))
    assert statistics["brightness"] == pytest.approx(brightness, abs=1e-6)
    assert statistics["contrast"] == pytest.approx(0, abs=1e-6)
    assert statistics["edge_density"] == 0


def test_contrast_of_half_black_half_white_is_one_half() -> None:
    pixels = _uniform((0, 0, 0))
    pixels[:, 20:] = 255
    assert measure(pixels)["contrast"] == pytest.approx(0.5, abs=1e-6)


def test_edges_are_where_the_image_changes() -> None:
    pixels = _uniform((0, 0, 0))
    pixels[:, 20:] = 255
    assert measure(pixels)["edge_density"] == pytest.approx(2 / 40)
    faint = _uniform((100, 100, 100))
    faint[:, 20:] = 110
    assert measure(faint)["edge_density"] == 0


def test_colourfulness_follows_hasler_and_suesstrunk() -> None:
    assert measure(_uniform((90, 90, 90)))["colourfulness"] == 0
    # rg = 255, yb = 127.5, both without spread
    assert measure(_uniform((255, 0, 0)))["colourfulness"] == pytest.approx(0.3 * np.hypot(255, 127.5), rel=1e-5)


def test_size_hardly_matters() -> None:
    small = np.kron(np.random.default_rng(1).integers(256, size=(8, 8, 3)), np.ones((32, 32, 1))).astype(np.uint8)
    large = np.kron(small, np.ones((8, 8, 1))).astype(np.uint8)
    first, second = measure(small), measure(large)
    assert first["brightness"] == pytest.approx(second["brightness"], abs=0.01)
    assert first["colourfulness"] == pytest.approx(second["colourfulness"], rel=0.02)


def test_every_statistic_is_measured_and_says_what_its_values_mean() -> None:
    measured = measure(_uniform((10, 20, 30)))
    assert list(measured) == list(STATISTICS)
    assert all(isinstance(value, float) for value in measured.values())
    assert all(compute.__doc__ and compute.__name__ == name for name, compute in STATISTICS.items())


def test_every_function_of_the_pixels_is_listed() -> None:
    """One that is written and not listed would be no column and no predictor, and nothing would say so."""
    functions = [value for value in vars(statistics).values() if inspect.isfunction(value)]
    of_pixels = {f.__name__ for f in functions if list(f.__annotations__.values()) == [Pixels, float]}
    assert of_pixels == set(STATISTICS)
