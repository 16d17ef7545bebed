"""The plaster solids of a still life: how a ray meets them and which lines a draughtsman would draw.

Every solid is placed on z = 0 of its own frame, around the z axis. All arrays are float32 unless said otherwise.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_MARCH_STEPS = 18
_BISECTIONS = 5
_TABLE_SIZE = 256


class Solid(Protocol):
    """A closed shape in its own frame."""

    @property
    def height(self) -> float:
        """Extent along z."""

    @property
    def radius(self) -> float:
        """Largest distance from the z axis."""

    def hit(self, origins: Floats, directions: Floats) -> tuple[Floats, Floats]:
        """Return where rays enter, as multiples of `directions` (N,), inf for a miss, and normals (N, 3).

        `origins` and `directions` are (N, 3) or (1, 3).
        """

    def contours(self, eye: Floats) -> list[Floats]:
        """Return the lines, each (K, 3), that show the shape from `eye` (3,); parts may be hidden by the shape."""


@dataclass(frozen=True)
class Prism:
    """A box, hexagonal prism or pyramid: a convex base (M, 2), and the same polygon scaled by `taper` on top."""

    base: Floats
    height: float
    taper: tuple[float, float] = (1.0, 1.0)

    @property
    def radius(self) -> float:
        """Largest distance from the z axis."""
        return float(np.hypot(*(self.base * np.maximum(1, self.taper)).T).max())

    def _vertices(self) -> tuple[Floats, Floats]:
        size = len(self.base)
        bottom = np.column_stack([self.base, np.zeros(size)]).astype(np.float32)
        top = np.column_stack([self.base * self.taper, np.full(size, self.height)]).astype(np.float32)
        return bottom, top

    def _planes(self) -> tuple[Floats, Floats]:
        """Outward unit normals (M + 2, 3) and offsets (M + 2,): sides in the order of the base, bottom, top."""
        bottom, top = self._vertices()
        # A side is spanned by its base edge and the rise between the edges' middles, so that a pyramid's
        # vanishing top edge does no harm.
        edges = np.roll(bottom, -1, axis=0) - bottom
        rises = (np.roll(top, -1, axis=0) + top - np.roll(bottom, -1, axis=0) - bottom) / 2
        sides = np.cross(edges, rises)
        sides /= np.linalg.norm(sides, axis=1, keepdims=True)
        normals = np.vstack([sides, [[0, 0, -1], [0, 0, 1]]]).astype(np.float32)
        offsets = np.append(np.einsum("ij,ij->i", sides, bottom), [0, self.height]).astype(np.float32)
        return normals, offsets

    def hit(self, origins: Floats, directions: Floats) -> tuple[Floats, Floats]:
        """Clip each ray by the half-spaces of the faces (Cyrus and Beck, 1978)."""
        normals, offsets = self._planes()
        towards = directions @ normals.T  # (N, F)
        towards = np.where(np.abs(towards) < 1e-9, np.float32(1e-9), towards)
        distance = (offsets - origins @ normals.T) / towards
        entering = np.where(towards < 0, distance, -np.inf)
        leave = np.where(towards > 0, distance, np.inf).min(axis=1)
        face = entering.argmax(axis=1)
        enter = np.take_along_axis(entering, face[:, None], axis=1)[:, 0]
        met = (enter < leave) & (enter > 1e-4)
        return np.where(met, enter, np.inf).astype(np.float32), normals[face]

    def contours(self, eye: Floats) -> list[Floats]:
        """Return the edges of the faces that look towards the eye."""
        normals, offsets = self._planes()
        facing = normals @ eye > offsets
        bottom, top = self._vertices()
        size = len(bottom)
        along = np.linspace(0, 1, 24, dtype=np.float32)[:, None]
        lines = []
        for index in range(size):
            after = (index + 1) % size
            upright = facing[index] or facing[index - 1]
            for start, end, seen in (
                (bottom[index], bottom[after], facing[index]),
                (top[index], top[after], (facing[index] or facing[-1]) and max(self.taper) > 0.05),
                (bottom[index], top[index], upright),
            ):
                if seen:
                    lines.append(start + along * (end - start))
        return lines


@dataclass(frozen=True)
class Lathe:
    """A solid of revolution (cylinder, cone, sphere, vase, apple): radii (K,) at evenly spaced heights."""

    radii: Floats
    height: float

    @property
    def radius(self) -> float:
        """Largest distance from the z axis."""
        return float(self.radii.max())

    def _table(self) -> tuple[Floats, Floats]:
        """Radius and slope d radius / dz at `_TABLE_SIZE` even heights."""
        at = np.linspace(0, 1, _TABLE_SIZE)
        radii = np.interp(at, np.linspace(0, 1, len(self.radii)), self.radii)
        slopes = np.clip(np.gradient(radii, self.height / (_TABLE_SIZE - 1)), -6, 6)
        return radii.astype(np.float32), slopes.astype(np.float32)

    def _row(self, z: Floats) -> NDArray[np.intp]:
        row: NDArray[np.intp] = np.clip(z * ((_TABLE_SIZE - 1) / self.height) + 0.5, 0, _TABLE_SIZE - 1).astype(np.intp)
        return row

    def hit(self, origins: Floats, directions: Floats) -> tuple[Floats, Floats]:
        """March through the part of each ray inside the bounding cylinder, then bisect."""
        origins, directions = np.broadcast_arrays(origins, directions)
        ox, oy, oz = origins.T
        dx, dy, dz = np.where(np.abs(directions) < 1e-7, np.float32(1e-7), directions).T
        square, half = dx * dx + dy * dy, ox * dx + oy * dy
        root = half * half - square * (ox * ox + oy * oy - np.float32(self.radius**2))
        spread = np.sqrt(np.maximum(root, 0))
        low, high = -oz / dz, (np.float32(self.height) - oz) / dz
        slab = np.minimum(low, high)
        enter = np.maximum(np.maximum((-half - spread) / square, slab), np.float32(1e-4))
        leave = np.minimum((-half + spread) / square, np.maximum(low, high))
        distance = np.full(len(ox), np.inf, np.float32)
        normals = np.zeros((len(ox), 3), np.float32)
        rows = np.flatnonzero((root > 0) & (enter < leave))
        if len(rows) == 0:
            return distance, normals
        ox, oy, oz, dx, dy, dz = (part[rows] for part in (ox, oy, oz, dx, dy, dz))
        enter, leave, slab = enter[rows], leave[rows], slab[rows]
        radii, slopes = self._table()

        def inside(at: Floats) -> NDArray[np.bool_]:
            x, y, z = ox + at * dx, oy + at * dy, oz + at * dz
            within: NDArray[np.bool_] = x * x + y * y <= np.square(radii[self._row(z)])
            return within

        near, far = enter.copy(), enter.copy()
        found = inside(enter + np.float32(1e-4))
        capped = found & (enter == slab)
        step = (leave - enter) / np.float32(_MARCH_STEPS)
        for number in range(1, _MARCH_STEPS + 1):
            at = enter + step * np.float32(number - 0.02)
            now = ~found & inside(at)
            near, far = np.where(now, at - step, near), np.where(now, at, far)
            found |= now
        for _ in range(_BISECTIONS):
            middle = (near + far) / 2
            within = inside(middle)
            near, far = np.where(within, near, middle), np.where(within, middle, far)
        x, y, z = ox + far * dx, oy + far * dy, oz + far * dz
        outward = np.stack([x, y, -slopes[self._row(z)] * np.hypot(x, y)], axis=1)
        cap = np.stack([np.zeros_like(x), np.zeros_like(x), -np.sign(dz)], axis=1)
        normals[rows] = np.where(capped[:, None], cap, outward)
        distance[rows] = np.where(found, far, np.inf)
        return distance, normals

    def contours(self, eye: Floats) -> list[Floats]:
        """Return both rims and the two curves where the surface turns away from the eye."""
        lines = []
        turn = np.linspace(0, 2 * np.pi, 72)
        for z, radius in ((0.0, self.radii[0]), (self.height, self.radii[-1])):
            if radius > 0.04:
                ring = np.stack([radius * np.cos(turn), radius * np.sin(turn), np.full_like(turn, z)], axis=1)
                lines.append(ring.astype(np.float32))
        radii, slopes = self._table()
        heights = np.linspace(0, self.height, _TABLE_SIZE)
        # The normal (cos a, sin a, -slope) is at a right angle to the line of sight.
        cosine = (radii - slopes * (heights - eye[2])) / np.hypot(eye[0], eye[1])
        seen = np.flatnonzero(np.abs(cosine) < 1)[::3]
        if len(seen) < 4:
            return lines
        middle = np.arctan2(eye[1], eye[0])
        for side in (-1, 1):
            angle = middle + side * np.arccos(cosine[seen])
            curve = np.stack([radii[seen] * np.cos(angle), radii[seen] * np.sin(angle), heights[seen]], axis=1)
            lines.append(curve.astype(np.float32))
        return lines
