"""The marks of the hand: outlines that follow the solids' contours, and hatching that lays the tone."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mirip.sample.artists import Faults
from mirip.sample.scene import Scene
from mirip.sample.shading import TABLE, WALL, Surfaces, smooth_noise
from mirip.sample.solids import Floats

_SUPERSAMPLING = 3
_TABLE_MASK = 255


def outlines(scene: Scene, seen: Surfaces, width_px: float, faults: Faults, error: np.random.Generator) -> Floats:
    """Return the ink (H, W), 0..1, of all contour lines, drawn `width_px` wide by a hand as sure as `faults` say."""
    height, width = seen.owner.shape
    scale = _SUPERSAMPLING
    sheet = Image.new("L", (width * scale, height * scale))
    pen = ImageDraw.Draw(sheet)
    deepest = _neighbourhood_max(seen.depth)
    for placed in scene.solids:
        eye = np.linalg.solve(placed.frame, scene.camera.eye - placed.at).astype(np.float32)
        for line in placed.solid.contours(eye):
            page, distance = scene.camera.project(line @ placed.frame.T + placed.at)
            for part in _visible_parts(page, distance, deepest):
                for again in range(
                    1 + int(error.uniform() < faults.wobble) + int(error.uniform() < 1.2 * faults.wobble - 0.5)
                ):
                    _draw_line(pen, _wobble(part, faults.wobble, again, error), width_px * scale, faults, error)
    _draw_table_edge(pen, seen, width_px * scale, faults, error)
    return np.asarray(sheet.reduce(scale), np.float32) / np.float32(255)


def hatch(coverage: Floats, angle: Floats, spacing_px: float, roughness: float, rng: np.random.Generator) -> Floats:
    """Return parallel strokes (H, W), 0..1, at `angle` (H, W) radians, the wider the larger `coverage` (H, W), 0..1.

    A stroke is a cell of a grid turned by `angle`; `roughness` lets strokes bend, cross and press unevenly.
    """
    height, width = coverage.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    cosine, sine = np.cos(angle), np.sin(angle)
    bend = smooth_noise(rng, width, height, 55) * np.float32(0.2 + 0.45 * roughness)
    across = (x * cosine + y * sine) / np.float32(spacing_px) + bend
    along = (y * cosine - x * sine) / np.float32(rng.uniform(22, 34))
    row = np.floor(across)
    which = row.astype(np.int32) & _TABLE_MASK
    along = along + rng.random(256, dtype=np.float32)[which] * 7
    cell = np.floor(along)
    stroke = (which * 61 + cell.astype(np.int32) * 17) & _TABLE_MASK
    place = along - cell - np.float32(0.5)  # -0.5 at a stroke's start, 0.5 at its end
    shift = rng.uniform(-0.45, 0.45, 256).astype(np.float32)[stroke] * np.float32(0.25 + 0.75 * roughness)
    slope = rng.uniform(-1.5, 1.5, 256).astype(np.float32)[stroke] * np.float32(roughness)
    pressure = 1 - rng.uniform(0, 1, 256).astype(np.float32)[stroke] * np.float32(0.15 + 0.7 * roughness)
    distance = np.abs(across - row - np.float32(0.5) - shift - slope * place) * np.float32(spacing_px)
    taper = 1 - np.abs(2 * place) ** 3 * np.float32(0.55)
    half_width = coverage * np.float32(0.46 * spacing_px) * taper
    ink = np.clip(half_width - distance + np.float32(0.5), 0, 1) * pressure
    return np.where(coverage > 0.03, ink, 0).astype(np.float32)


def _neighbourhood_max(field: Floats) -> Floats:
    """Return the largest value within one pixel, so that a contour is not hidden by the very shape it bounds."""
    padded = np.pad(field, 1, mode="edge")
    rows = np.maximum(np.maximum(padded[:-2], padded[1:-1]), padded[2:])
    return np.maximum(np.maximum(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])


def _visible_parts(page: Floats, distance: Floats, deepest: Floats) -> list[Floats]:
    """Cut a projected line (K, 2) into the runs that nothing hides and that lie on the page."""
    height, width = deepest.shape
    column, row = np.floor(page).astype(int).T
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    reached = deepest[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)]
    seen = inside & (distance <= reached + np.float32(0.05))
    cuts = np.flatnonzero(np.diff(seen.astype(np.int8))) + 1
    runs = np.split(np.arange(len(page)), cuts)
    return [page[run] for run in runs if seen[run[0]] and len(run) >= 3]


def _wobble(line: Floats, wobble: float, again: int, error: np.random.Generator) -> Floats:
    """Shake a line (K, 2): a slow swerve, a fast tremor, ends that miss; a repeated stroke misses more."""
    length = float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum())
    count = max(4, int(length / 4))
    at = np.linspace(0, 1, count)
    places = np.linspace(0, 1, len(line))
    fine = np.stack([np.interp(at, places, line[:, axis]) for axis in (0, 1)], axis=1)
    swerve_knots = max(3, int(length / 38) + 2)
    knots = np.linspace(0, 1, swerve_knots)
    for axis in (0, 1):
        swerve = np.interp(at, knots, error.normal(0, 1, swerve_knots))
        ends = error.normal(0, 1, 2) @ np.stack([1 - at, at])
        tremor = error.normal(0, 1, count)
        fine[:, axis] += (
            (0.15 + 2.6 * wobble) * swerve * 0.6 + (2.2 * wobble + again) * 0.8 * ends + 0.75 * wobble * tremor
        )
    overshoot = np.clip(error.normal(2, 2), 0, 5) / max(length, 8)
    fine[0] += (fine[0] - fine[1]) * overshoot * count * 0.5
    return fine.astype(np.float32)


def _draw_line(
    pen: ImageDraw.ImageDraw, line: Floats, width: float, faults: Faults, error: np.random.Generator
) -> None:
    """Draw with a pressure that swells and fades when the hand is sure and stays dull when it is not."""
    points = (line * _SUPERSAMPLING).tolist()
    count = len(points)
    phase = error.uniform(0, np.pi)
    swell = 0.5 + 0.5 * np.sin(np.linspace(0, 2.6, count) + phase)
    sure = 1 - faults.wobble
    ink = 255 * (0.62 + sure * (0.38 * swell - 0.1))
    thick = np.maximum(1, np.round(width * (0.8 + sure * (0.75 * swell - 0.35))))
    for start, end, value, size in zip(points[:-1], points[1:], ink.tolist(), thick.tolist(), strict=False):
        pen.line((*start, *end), fill=int(value), width=int(size))


def _draw_table_edge(
    pen: ImageDraw.ImageDraw,
    seen: Surfaces,
    width: float,
    faults: Faults,
    error: np.random.Generator,
) -> None:
    """Draw where the table ends, interrupted by the solids."""
    step = (seen.owner[:-1] == WALL) & (seen.owner[1:] == TABLE)
    columns: NDArray[np.intp] = np.flatnonzero(step.any(axis=0))
    if len(columns) < 6:
        return
    rows = step[:, columns].argmax(axis=0) + 1
    line = np.stack([columns, rows], axis=1).astype(np.float32)
    for part in np.split(line, np.flatnonzero(np.diff(columns) > 3) + 1):
        if len(part) > 8:
            _draw_line(pen, _wobble(part[::4], faults.wobble, 0, error), width * 0.7, faults, error)
