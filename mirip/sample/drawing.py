"""One work, from its skill to its pixels."""

import numpy as np
from numpy.typing import NDArray

from mirip.sample.artists import Work, generator
from mirip.sample.faults import faults_of
from mirip.sample.media import CHARCOAL, PENCIL, draw_dry, draw_watercolour
from mirip.sample.scene import compose
from mirip.sample.shading import darkness, trace

_CHANCE, _ERROR = 1, 2


def draw(work: Work, seed: int) -> NDArray[np.uint8]:
    """Draw a work: RGB (H, W, 3), both sides between 320 and 420 pixels.

    What skill does not decide (objects, light, paper, size) comes from a stream of its own: the same index drawn
    with another skill shows the same set-up.
    """
    chance, error = generator(seed, _CHANCE, work.index), generator(seed, _ERROR, work.index)
    faults = faults_of(work.skill, error)
    width_px, height_px = int(chance.integers(370, 421)), int(chance.integers(320, 351))
    if chance.uniform() < 0.4:
        width_px, height_px = height_px, width_px
    scene = compose(width_px, height_px, faults, chance, error)
    seen = trace(scene, width_px, height_px)
    dark = darkness(scene, seen, faults, chance, error)
    if work.medium == "watercolour":
        page = draw_watercolour(scene, seen, dark, faults, chance, error)
    else:
        medium = PENCIL if work.medium == "pencil" else CHARCOAL
        page = draw_dry(medium, scene, seen, dark, faults, chance, error)
    return (np.clip(page, 0, 1) * 255 + 0.5).astype(np.uint8)
