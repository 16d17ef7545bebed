"""Paper, pencil, charcoal and watercolour: how tone and marks become colour on a page."""

import colorsys
from dataclasses import dataclass

import numpy as np

from mirip.sample.artists import Faults
from mirip.sample.scene import Scene
from mirip.sample.shading import Surfaces, blur, smooth_noise
from mirip.sample.solids import Floats
from mirip.sample.strokes import hatch, outlines

_PAPERS = ((250, 249, 246), (246, 241, 228), (238, 236, 232), (232, 222, 203), (226, 228, 230))


@dataclass(frozen=True)
class Dry:
    """A dry medium: its colour, line width and hatch spacing in pixels, share of rubbed tone, bite of the grain."""

    colour: tuple[int, int, int]
    line_px: float
    spacing_px: float
    rubbed: float
    grain: float


PENCIL = Dry((44, 45, 50), 1.3, 4.2, 0.42, 0.35)
CHARCOAL = Dry((26, 23, 22), 2.2, 6.5, 0.6, 0.6)


def paper(width_px: int, height_px: int, chance: np.random.Generator) -> tuple[Floats, Floats]:
    """Return a sheet (H, W, 3), 0..1, as a camera sees it, and its grain (H, W) of about unit deviation."""
    tint = np.array(_PAPERS[chance.integers(len(_PAPERS))], np.float32) / 255
    rough = smooth_noise(chance, width_px, height_px, chance.uniform(1.6, 2.6))
    grain = (0.6 * chance.standard_normal((height_px, width_px), dtype=np.float32) + 0.8 * rough).astype(np.float32)
    fall = chance.uniform(-0.035, 0.035, 2)
    y, x = np.linspace(-1, 1, height_px)[:, None], np.linspace(-1, 1, width_px)[None]
    light = 1 + fall[0] * x + fall[1] * y - chance.uniform(0, 0.03) * (x * x + y * y)
    sheet = tint * (light * (1 + 0.008 * grain))[..., None]
    return sheet.astype(np.float32), grain


def draw_dry(
    medium: Dry,
    scene: Scene,
    seen: Surfaces,
    dark: Floats,
    faults: Faults,
    chance: np.random.Generator,
    error: np.random.Generator,
) -> Floats:
    """Return a drawing (H, W, 3), 0..1, of rubbed tone, hatching in up to three directions, and outlines."""
    height_px, width_px = dark.shape
    sheet, grain = paper(width_px, height_px, chance)
    lead = np.float32(chance.uniform(0.88, 1.0))
    angle = _hatch_angles(scene, seen, chance)
    tone = _misregister(dark, faults, error)
    ink = medium.rubbed * tone
    spacing = medium.spacing_px * chance.uniform(0.85, 1.2)
    for start, turn, weight in ((0.08, 0.0, 0.75), (0.42, 0.75, 0.7), (0.7, -0.6, 0.7)):
        coverage = np.clip((tone - start) / (1 - start) * 1.25, 0, 1)
        slip = faults.hatching * error.normal(0, 0.4)
        strokes = hatch(coverage, angle + np.float32(turn + slip), spacing, faults.hatching, error)
        ink = ink + (1 - ink) * strokes * np.float32(weight) * np.minimum(0.45 + coverage, 1)
    lines = outlines(scene, seen, medium.line_px * chance.uniform(0.9, 1.15), faults, error)
    ink = np.maximum(ink, lines * 0.9)
    ink = np.clip(ink + ink * (1 - ink) * 0.45 * medium.grain * grain, 0, 1) * lead
    colour = np.array(medium.colour, np.float32) / 255
    page: Floats = sheet * (1 - ink[..., None]) + colour * ink[..., None]
    return page


def draw_watercolour(
    scene: Scene,
    seen: Surfaces,
    dark: Floats,
    faults: Faults,
    chance: np.random.Generator,
    error: np.random.Generator,
) -> Floats:
    """Return a painting (H, W, 3), 0..1: washes that absorb light by density (Beer and Lambert), and pencil lines."""
    height_px, width_px = dark.shape
    sheet, grain = paper(width_px, height_px, chance)
    tint = _tints(scene, seen, faults, chance)
    tone = _misregister(dark, faults, error)
    steps = np.float32(chance.integers(4, 7))
    stepped: Floats = (np.round(tone * steps) / steps).astype(np.float32, copy=False)
    layered: Floats = np.where(seen.owner >= 0, 0.45 * tone + 0.55 * blur(stepped, 0.8), tone).astype(np.float32)
    brush = hatch(np.clip(layered + 0.2, 0, 1), _hatch_angles(scene, seen, chance), 9.0, faults.hatching, error)
    pools = smooth_noise(error, width_px, height_px, 30) * np.float32(0.05 + 0.16 * faults.hatching)
    edges = np.abs(layered - blur(layered, 3.0))
    density = layered * (1 + pools) + 0.10 * brush * layered * (0.5 + faults.hatching) + 0.35 * edges
    density = np.clip(density * (1 + 0.05 * grain), 0, 1.2)
    density[seen.owner >= 0] += np.float32(0.07)
    washed = sheet * np.exp(-2.6 * density[..., None] * (1 - tint))
    lines = outlines(scene, seen, PENCIL.line_px * chance.uniform(0.8, 1.1), faults, error)[..., None]
    page: Floats = (washed * (1 - 0.62 * lines) + 0.18 * 0.62 * lines).astype(np.float32)
    return page


def _hatch_angles(scene: Scene, seen: Surfaces, chance: np.random.Generator) -> Floats:
    """Return the direction of the first hatching (H, W): one for each solid, turned from face to face."""
    main = chance.choice([-1.0, 1.0]) * chance.uniform(0.6, 1.0)
    by_owner = np.array([*(main + one.hatch_angle for one in scene.solids), main, main], np.float32)  # wall, table
    return by_owner[seen.owner] + np.where(seen.owner >= 0, 0.35 * np.round(1.5 * seen.normal[..., 0]), 0).astype(
        np.float32
    )


def _misregister(dark: Floats, faults: Faults, error: np.random.Generator) -> Floats:
    """Let the tone run over its outline: an unsure hand shades where the shape is not."""
    height_px, width_px = dark.shape
    reach = 6.5 * faults.hatching
    y, x = np.mgrid[:height_px, :width_px].astype(np.float32)
    x += reach * smooth_noise(error, width_px, height_px, 34)
    y += reach * smooth_noise(error, width_px, height_px, 34)
    column = np.clip(np.round(x), 0, width_px - 1).astype(np.intp)
    row = np.clip(np.round(y), 0, height_px - 1).astype(np.intp)
    return blur(dark[row, column], 0.7 + 1.3 * faults.hatching)


def _tints(scene: Scene, seen: Surfaces, faults: Faults, chance: np.random.Generator) -> Floats:
    """Return the light that each pixel's pigment lets through (H, W, 3); muddled values muddy the colours too."""
    shared = chance.uniform(0.15, 0.5)
    hues = [(one.hue, shared + 0.25 * (one.darkness > 0)) for one in scene.solids]
    base = chance.uniform()
    colours = [colorsys.hsv_to_rgb(hue, saturation, 0.55) for hue, saturation in hues]
    colours += [colorsys.hsv_to_rgb(base + 0.5, 0.3, 0.5), colorsys.hsv_to_rgb(base, 0.25, 0.5)]
    # The last two are the wall and the table: owners -2 and -1.
    table = np.array(colours, np.float32)
    mud = np.array([0.45, 0.41, 0.36], np.float32)
    mixed = table + (mud - table) * np.float32(0.6 * faults.values)
    tint: Floats = mixed[seen.owner]
    return tint
