from dataclasses import replace

import numpy as np
import pytest

from mirip.sample.artists import assign_artworks, faults_of
from mirip.sample.dataset import draw

SEED = 42


@pytest.fixture(scope="module")
def artworks():
    return assign_artworks(SEED, 10, 10)


def spread(image):
    grey = image.mean(axis=2)
    return np.percentile(grey, 99.5) - np.percentile(grey, 0.5)


@pytest.mark.slow
def test_a_master_uses_a_fuller_range_of_tone_than_a_beginner(artworks):
    wins = [
        spread(draw(replace(artwork, skill=2.0), SEED)) > spread(draw(replace(artwork, skill=-2.0), SEED))
        for artwork in artworks
    ]
    assert np.mean(wins) > 0.8


def test_skill_decides_neither_size_nor_paper(artworks):
    master, beginner = (draw(replace(artworks[0], skill=skill), SEED) for skill in (2.0, -2.0))
    assert master.shape == beginner.shape
    paper = [np.percentile(image, 95, axis=(0, 1)) for image in (master, beginner)]
    assert paper[0] == pytest.approx(paper[1], abs=14)


def colourfulness(artwork, medium):
    image = draw(replace(artwork, medium=medium, skill=1.5), SEED).astype(float)
    return np.ptp(image - np.median(image, axis=(0, 1)), axis=2).mean()


@pytest.mark.slow
def test_watercolour_has_more_colour_than_the_dry_media(artworks):
    for artwork in artworks[:3]:
        watercolour = colourfulness(artwork, "watercolour")
        assert watercolour > 1.2 * max(colourfulness(artwork, "pencil"), colourfulness(artwork, "charcoal"))


def test_faults_fall_with_skill():
    rng = np.random.default_rng(0)
    mean = {skill: np.mean([list(vars(faults_of(skill, rng)).values()) for _ in range(50)]) for skill in (-1.5, 0, 1.5)}
    assert mean[-1.5] > mean[0] + 0.3 > mean[1.5] + 0.6
