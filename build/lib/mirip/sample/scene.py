"""The set-up on the table: where the solids are, how they are lit and where they are on the page."""

from dataclasses import dataclass

import numpy as np

from mirip.sample.artists import Faults
from mirip.sample.solids import Floats, Lathe, Prism, Solid

_EYE_DISTANCE = 9.0


@dataclass(frozen=True)
class Placed:
    """A solid in the world: world = frame @ own + at. Its lights differ from the scene's when the artist errs."""

    solid: Solid
    frame: Floats
    at: Floats
    light: Floats
    shadow_light: Floats | None
    darkness: float
    hue: float
    gloss: float
    hatch_angle: float

    @property
    def centre(self) -> Floats:
        """Middle of the solid in the world (3,)."""
        return (self.frame @ np.array([0, 0, self.solid.height / 2], np.float32) + self.at).astype(np.float32)

    @property
    def reach(self) -> float:
        """Radius of a sphere around `centre` that holds the solid."""
        own = np.hypot(self.solid.radius, self.solid.height / 2)
        return float(own * np.linalg.norm(self.frame, ord=2))


@dataclass(frozen=True)
class Camera:
    """A pinhole at `eye`; a page point in pixels is zoom * (right, down) / depth, turned by `roll`, + shift."""

    eye: Floats
    axes: Floats
    zoom: float = 1.0
    roll: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)

    def project(self, points: Floats) -> tuple[Floats, Floats]:
        """World points (N, 3) -> page points (N, 2) in pixels and distances from the eye (N,)."""
        seen = (points - self.eye) @ self.axes.T  # (N, 3): right, down, forward
        flat = seen[:, :2] / seen[:, 2:] * self.zoom @ self._turn().T
        return (flat + self.shift).astype(np.float32), np.linalg.norm(seen, axis=1).astype(np.float32)

    def rays(self, width_px: int, height_px: int) -> Floats:
        """Return unit directions (height, width, 3) through the middles of the pixels."""
        x, y = np.meshgrid(np.arange(width_px) + 0.5 - self.shift[0], np.arange(height_px) + 0.5 - self.shift[1])
        flat = np.stack([x, y], axis=-1) @ self._turn() / self.zoom
        rays = np.concatenate([flat, np.ones_like(flat[..., :1])], axis=-1) @ self.axes
        unit: Floats = (rays / np.linalg.norm(rays, axis=-1, keepdims=True)).astype(np.float32)
        return unit

    def _turn(self) -> Floats:
        cosine, sine = np.cos(self.roll), np.sin(self.roll)
        return np.array([[cosine, -sine], [sine, cosine]], np.float32)


@dataclass(frozen=True)
class Scene:
    """All that a drawing shows. `wall_y` is where the table ends."""

    solids: tuple[Placed, ...]
    camera: Camera
    light: Floats
    wall_y: float
    wall_darkness: float


def compose(
    width_px: int, height_px: int, faults: Faults, chance: np.random.Generator, error: np.random.Generator
) -> Scene:
    """Set up a still life for a page.

    `chance` decides what has nothing to do with skill (objects, light, point of view), `error` what the faults do:
    with the same `chance` a clumsy and a skilled drawing show the same set-up.
    """
    side = chance.choice([-1.0, 1.0])
    light = _unit([side * chance.uniform(0.6, 1.0), -chance.uniform(0.35, 0.8), chance.uniform(0.75, 1.15)])
    solids = _arrange(light, faults, chance, error)
    camera = _camera(chance.uniform(2.6, 5.2))
    camera = _fit(camera, solids, width_px, height_px, faults, chance, error)
    wall_y = chance.uniform(2.2, 4.5)
    wall_darkness = chance.choice([0.0, chance.uniform(0.1, 0.5)])
    return Scene(solids, camera, light, wall_y, float(wall_darkness))


def _unit(vector: list[float]) -> Floats:
    unit: Floats = (np.array(vector) / np.linalg.norm(vector)).astype(np.float32)
    return unit


def _make_solid(kind: str, size: float, stretch: float, taper_error: tuple[float, float]) -> Solid:
    if kind in ("box", "hexagon", "pyramid"):
        count, turn = (6, 0.0) if kind == "hexagon" else (4, np.pi / 4)
        angle = np.arange(count) * 2 * np.pi / count + turn
        radius = size * (0.62 if kind == "hexagon" else 0.85)
        base = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).astype(np.float32)
        if kind == "box":
            base *= np.array([1.0, stretch], np.float32)
        top = (0.01, 0.01) if kind == "pyramid" else (1 + taper_error[0], 1 + taper_error[1])
        height = {"box": 1.05, "hexagon": 1.7, "pyramid": 1.7}[kind] * size * (2.05 - stretch)
        return Prism(base, float(height), (top[0], top[0]) if kind == "hexagon" else top)
    at = np.linspace(0, 1, 97)
    profiles = {
        "cylinder": (np.full_like(at, 0.52), 1.65 * stretch),
        "cone": (0.68 * (1 - at) + 0.004, 1.8),
        "sphere": (0.66 * np.sqrt(np.maximum(1 - (2 * at - 1) ** 2, 0)), 1.32),
        "vase": (
            0.26 + 0.36 * np.sin(np.pi * np.clip(at / 0.78, 0, 1)) ** 1.4 + 0.10 * np.clip(at - 0.75, 0, 1) ** 0.6,
            2.1,
        ),
        "bottle": (np.interp(at, [0, 0.04, 0.5, 0.66, 0.74, 1], [0.36, 0.42, 0.42, 0.2, 0.14, 0.14]), 2.5),
        "apple": (0.48 * np.maximum(1 - np.abs(2 * at - 1.08) ** 2.4, 0) ** 0.5 + 0.02, 0.84),
        "bowl": (np.interp(at, [0, 0.08, 0.3, 0.6, 1], [0.34, 0.36, 0.66, 0.88, 0.98]), 0.72),
    }
    radii, height = profiles[kind]
    radii = radii * size * (1 + taper_error[0] * (at - 0.5))
    return Lathe(radii.astype(np.float32), float(height * size))


def _arrange(
    light: Floats, faults: Faults, chance: np.random.Generator, error: np.random.Generator
) -> tuple[Placed, ...]:
    kinds = ["box", "cylinder", "cone", "sphere", "pyramid", "hexagon", "vase", "bottle", "apple", "bowl"]
    shares = np.array([4, 3, 3, 4, 2, 1.5, 2, 1.5, 2, 1])
    count = int(chance.integers(3, 6))
    chosen = chance.choice(kinds, size=count, replace=False, p=shares / shares.sum())
    sizes = chance.uniform((0.85, 0.8), (1.2, 1.3), (count, 2))
    ideal = [_make_solid(kind, size, stretch, (0, 0)) for kind, (size, stretch) in zip(chosen, sizes, strict=True)]
    order = np.argsort([-shape.height for shape in ideal])
    lean = faults.perspective
    placed: list[Placed] = []
    taken: list[tuple[float, float, float]] = []
    for rank, number in enumerate(order):
        kind = chosen[number]
        x, y = _free_spot(rank / max(count - 1, 1), ideal[number].radius, taken, chance)
        taken.append((x, y, ideal[number].radius))
        taper = lean * error.normal(0, 0.3, 2)
        shape = _make_solid(kind, sizes[number, 0], sizes[number, 1], (taper[0], taper[1]))
        yaw, size = chance.uniform(0, 2 * np.pi), 1 + faults.perspective * error.normal(0, 0.12)
        cosine, sine = np.cos(yaw), np.sin(yaw)
        turn = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
        sheared = np.array(
            [
                [1, 0, lean * error.normal(0, 0.2)],
                [0, 1 + lean * error.normal(0, 0.3), lean * error.normal(0, 0.35)],
                [0, 0, 1],
            ]
        )
        lift = lean * error.normal(0, 0.12)
        own_light = _swing(light, faults.light * error.normal(0, 1.1))
        shadow_light = _swing(light, faults.light * error.normal(0, 1.0))
        placed.append(
            Placed(
                solid=shape,
                frame=(size * sheared @ turn).astype(np.float32),
                at=np.array([x, y, lift], np.float32),
                light=own_light,
                shadow_light=None if error.uniform() < 0.45 * faults.light**2 else shadow_light,
                darkness=float(chance.choice([0.0, 0.05, 0.15, 0.4], p=[0.4, 0.25, 0.2, 0.15])),
                hue=float(chance.uniform()),
                gloss=0.5 if kind in ("vase", "bottle", "apple", "bowl") else 0.0,
                hatch_angle=float(chance.uniform(-0.5, 0.5)),
            )
        )
    return tuple(placed)


def _free_spot(
    forward: float, radius: float, taken: list[tuple[float, float, float]], chance: np.random.Generator
) -> tuple[float, float]:
    """Find a place for the next solid: the tall ones behind, the low in front, close but not inside each other."""
    spread = 0.7
    while True:
        for _ in range(20):
            x, y = chance.normal(0, spread), 0.9 - 1.9 * forward + chance.normal(0, 0.35)
            gaps = [np.hypot(x - left, y - deep) - other for left, deep, other in taken]
            if all(gap > radius * 0.9 for gap in gaps):
                return x, y
        spread *= 1.25


def _swing(light: Floats, angle: float) -> Floats:
    """Turn a light around the vertical."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return (np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]]) @ light).astype(np.float32)


def _camera(eye_height: float) -> Camera:
    eye = np.array([0, -_EYE_DISTANCE, eye_height], np.float32)
    forward = _unit(list(np.array([0, 0, 0.7]) - eye))
    right = np.array([1, 0, 0], np.float32)
    down = np.cross(forward, right)
    return Camera(eye, np.stack([right, down, forward]).astype(np.float32))


def _fit(
    camera: Camera,
    solids: tuple[Placed, ...],
    width_px: int,
    height_px: int,
    faults: Faults,
    chance: np.random.Generator,
    error: np.random.Generator,
) -> Camera:
    """Zoom and shift so that the group fills the page well, or, badly placed, shrinks, drifts or runs over the edge."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (0, 1)], np.float32)
    points = [corners * (one.solid.radius, one.solid.radius, one.solid.height) @ one.frame.T + one.at for one in solids]
    page, _ = camera.project(np.concatenate(points).astype(np.float32))
    low, high = page.min(axis=0), page.max(axis=0)
    fill = chance.uniform(0.74, 0.84) * np.exp(faults.placement * error.normal(-0.22, 0.28))
    zoom = float(fill * min(width_px / (high[0] - low[0]), height_px / (high[1] - low[1])))
    drift = faults.placement * error.normal(0, 0.13, 2) + chance.normal(0, 0.015, 2)
    middle = (low + high) / 2 * zoom
    shift = (width_px * (0.5 + drift[0]) - middle[0], height_px * (0.52 + drift[1]) - middle[1])
    roll = faults.placement * error.normal(0, 0.06)
    return Camera(camera.eye, camera.axes, zoom, float(roll), (float(shift[0]), float(shift[1])))
