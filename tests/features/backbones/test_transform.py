import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mirip.features.backbones.transform import ImageTransform, patch_grid

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PILLOW = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size=(height, width, 3), dtype=np.uint8)


@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    interpolation=st.sampled_from(["bicubic", "bilinear"]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60)
def test_even_noise_is_resampled_as_pillow_does(height: int, width: int, interpolation: str, seed: int) -> None:
    """Rows first, then columns, as torch does it: Pillow chooses the order by the size, and rounds in between."""
    pixels = image(height, width, seed)
    ours = ImageTransform(56, "squash", interpolation, MEAN, STD).fitted(pixels)
    wide = Image.fromarray(pixels).resize((56, height), PILLOW[interpolation])
    pillows = np.asarray(wide.resize((56, 56), PILLOW[interpolation]))
    assert np.abs(ours.astype(int) - pillows).max() <= 2


@pytest.mark.parametrize(("height", "width"), [(1200, 1600), (1600, 1200), (150, 200), (900, 757)])
def test_a_photo_is_resampled_as_pillow_does(height: int, width: int) -> None:
    pixels = np.asarray(Image.fromarray(image(30, 40)).resize((width, height), Image.Resampling.BICUBIC))
    ours = ImageTransform(224, "squash", "bicubic", MEAN, STD).fitted(pixels)
    pillows = np.asarray(Image.fromarray(pixels).resize((224, 224), Image.Resampling.BICUBIC))
    assert np.abs(ours.astype(int) - pillows).max() <= 1


@pytest.mark.parametrize(("height", "width"), [(40, 20), (20, 40), (200, 100), (28, 28), (1, 500)])
def test_pad_keeps_the_aspect_ratio_and_centres(height: int, width: int) -> None:
    pixels = np.full((height, width, 3), 255, dtype=np.uint8)
    fitted = ImageTransform(28, "pad", "bicubic", MEAN, STD).fitted(pixels)
    rows, columns = np.nonzero((fitted == 255).all(axis=2))
    longest = max(height, width)
    assert rows.max() - rows.min() + 1 == max(1, round(28 * height / longest))
    assert columns.max() - columns.min() + 1 == max(1, round(28 * width / longest))
    assert abs(rows.min() - (27 - rows.max())) <= 1
    assert abs(columns.min() - (27 - columns.max())) <= 1


def test_margins_are_nothing_to_the_backbone() -> None:
    values = ImageTransform(28, "pad", "bicubic", MEAN, STD)(image(28, 14))
    assert values[:, :, :7].abs().max() < 0.01
    assert values[:, :, 21:].abs().max() < 0.01
    assert values[:, :, 7:21].abs().max() > 1


def test_values_are_normalised_float32_planes() -> None:
    values = ImageTransform(28, "pad", "bicubic", MEAN, STD)(image(28, 28))
    expected = (image(28, 28) / 255 - np.array(MEAN)) / np.array(STD)
    assert values.shape == (3, 28, 28)
    np.testing.assert_allclose(values.numpy(), expected.transpose(2, 0, 1), atol=1e-5)


def test_the_image_itself_is_left_alone() -> None:
    pixels = image(50, 40)
    pixels.setflags(write=False)  # as a view of a decoder's buffer is
    ImageTransform(28, "pad", "bicubic", MEAN, STD)(pixels)
    assert (pixels == image(50, 40)).all()


@given(height=st.integers(1, 10_000), width=st.integers(1, 10_000), side=st.integers(1, 60))
@settings(max_examples=300)
def test_a_grid_keeps_the_budget(height: int, width: int, side: int) -> None:
    rows, columns = patch_grid(height, width, side**2)
    assert rows >= 1
    assert columns >= 1
    assert rows * columns <= side**2


@pytest.mark.parametrize(
    ("height", "width", "grid"),
    [(756, 756, (54, 54)), (297, 210, (64, 45)), (210, 297, (45, 64)), (100, 200, (38, 76))],
)
def test_a_grid_has_the_shape_of_the_image(height: int, width: int, grid: tuple[int, int]) -> None:
    assert patch_grid(height, width, 54**2) == grid


def test_native_is_the_whole_image_without_margins() -> None:
    transform = ImageTransform(56, "native", "bicubic", MEAN, STD, patch_px=14)
    fitted = transform.fitted(np.full((300, 100, 3), 255, dtype=np.uint8))
    assert fitted.shape == (84, 28, 3)
    assert (fitted == 255).all()
    assert transform(image(100, 100)).shape == (3, 56, 56)
