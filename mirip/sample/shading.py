"""What the eye sees at each pixel of the page, and how dark the artist makes it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from mirip.sample.artists import Faults
from mirip.sample.scene import Placed, Scene
from mirip.sample.solids import Floats

TABLE, WALL = -1, -2


@dataclass(frozen=True)
class Surfaces:
    """The nearest surface at each pixel: whose it is, how far, its place and unit normal (H, W, 3) in the world."""

    owner: NDArray[np.int16]
    depth: Floats
    point: Floats
    normal: Floats


def smooth_noise(rng: np.random.Generator, width_px: int, height_px: int, cell_px: float) -> Floats:
    """Return noise (H, W) of about unit deviation whose blots are `cell_px` wide."""
    cells = (max(3, round(height_px / cell_px) + 2), max(3, round(width_px / cell_px) + 2))
    grid = rng.standard_normal(cells, dtype=np.float32)
    return np.asarray(Image.fromarray(grid).resize((width_px, height_px), Image.Resampling.BICUBIC))


def blur(field: Floats, radius_px: float) -> Floats:
    """Blur a field of values in 0..1 (H, W)."""
    image = Image.fromarray((np.clip(field, 0, 1) * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius_px)), np.float32) / np.float32(255)


def trace(scene: Scene, width_px: int, height_px: int) -> Surfaces:
    """Cast one ray a pixel at the solids, the table and the wall behind it."""
    rays = scene.camera.rays(width_px, height_px)
    eye = scene.camera.eye
    down = np.minimum(rays[..., 2], np.float32(-1e-3))
    depth = (-eye[2] / down).astype(np.float32)
    beyond = (scene.wall_y - eye[1]) / np.maximum(rays[..., 1], np.float32(1e-3))
    owner = np.where(beyond < depth, WALL, TABLE).astype(np.int16)
    depth = np.minimum(depth, beyond)
    normal = np.zeros_like(rays)
    normal[..., 2] = 1
    for index, placed in enumerate(scene.solids):
        window = _window(scene, placed, width_px, height_px)
        part = rays[window].reshape(-1, 3)
        if len(part) == 0:
            continue
        distance, own_normal = _meet(placed, eye[None], part)
        distance, near = distance.reshape(depth[window].shape), depth[window]
        closer = distance < near
        near[closer] = distance[closer]
        owner[window][closer] = index
        normal[window][closer] = own_normal[closer.ravel()]
    point = eye + depth[..., None] * rays
    return Surfaces(owner, depth, point, normal)


def darkness(
    scene: Scene, seen: Surfaces, faults: Faults, chance: np.random.Generator, error: np.random.Generator
) -> Floats:
    """Return how dark (H, W), 0 white to 1 black, the artist means each pixel to be.

    Lambert's law with ambient and reflected light, cast shadows and contact shadows; a fault of values
    squeezes the range into mud and blots it.
    """
    width_px = seen.owner.shape[1]
    ambient = np.float32(chance.uniform(0.12, 0.22))
    bounce = np.float32(0.16)
    dark = np.zeros(seen.owner.shape, np.float32)
    table = seen.owner == TABLE
    shade = np.zeros_like(dark)
    contact = np.zeros_like(dark)
    for index, placed in enumerate(scene.solids):
        if placed.shadow_light is not None:
            shade = np.maximum(shade, _cast_shadow(seen, index, placed))
        base = (
            np.hypot(seen.point[..., 0] - placed.at[0], seen.point[..., 1] - placed.at[1]) - placed.solid.radius * 0.85
        )
        contact = np.maximum(contact, np.exp(-np.maximum(base, 0) / np.float32(0.22)))
    shade = blur(shade, 1.6)
    for index, placed in enumerate(scene.solids):
        mine = seen.owner == index
        normal = seen.normal[mine]
        lit = np.maximum(normal @ placed.light, 0) * (1 - shade[mine])
        half = placed.light - np.array([0, -0.93, 0.37], np.float32) * -1
        half = half / np.linalg.norm(half)
        shine = placed.gloss * np.maximum(normal @ half, 0) ** 40
        light = ambient + bounce * np.maximum(0.3 - normal[:, 2], 0) + (1 - ambient) * lit + shine
        dark[mine] = 1 - (1 - np.float32(placed.darkness)) * np.minimum(light, 1) ** np.float32(0.8)
    far = np.hypot(seen.point[..., 0], seen.point[..., 1] * np.float32(0.8))
    dark[table] = (
        np.float32(0.06) + 0.02 * np.minimum(far, 4) + np.maximum(0.62 * shade, 0.4 * contact * (0.4 + shade))
    )[table]
    wall = seen.owner == WALL
    across = (np.arange(width_px, dtype=np.float32) / width_px - np.float32(0.5)) * -np.sign(scene.light[0])
    dark[wall] = np.broadcast_to(scene.wall_darkness * (1 - 0.7 * across), dark.shape)[wall]
    return _values(dark, seen.owner >= 0, faults, error)


def _values(dark: Floats, on_solid: NDArray[np.bool_], faults: Faults, error: np.random.Generator) -> Floats:
    """Give the full range from paper white to black, or, with a fault, grey mud with smears on the paper."""
    height_px, width_px = dark.shape
    rich = np.clip(1.12 * dark - 0.05, 0, 1)
    rich = rich + 0.35 * rich * (1 - rich) * (2 * rich - 1)
    middle = np.where(on_solid, error.uniform(0.3, 0.46), np.minimum(rich, error.uniform(0.22, 0.34)))
    keep = 1 - 0.72 * faults.values
    smears = np.maximum(smooth_noise(error, width_px, height_px, 48) + smooth_noise(error, width_px, height_px, 15), 0)
    uneven = smooth_noise(error, width_px, height_px, 22)
    mud = faults.values * np.where(on_solid, 0.07 * uneven, 0.05 * smears)
    tone: Floats = np.clip(middle + (rich - middle) * keep + mud, 0, 1).astype(np.float32)
    return tone


def _window(scene: Scene, placed: Placed, width_px: int, height_px: int) -> tuple[slice, slice]:
    """Return the rows and columns of the page that the solid can touch."""
    reach = placed.reach
    offsets = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32) * reach
    page, _ = scene.camera.project(placed.centre + offsets)
    (left, top), (right, bottom) = np.floor(page.min(axis=0)), np.ceil(page.max(axis=0))
    columns = slice(int(np.clip(left, 0, width_px)), int(np.clip(right, 0, width_px)))
    return slice(int(np.clip(top, 0, height_px)), int(np.clip(bottom, 0, height_px))), columns


def _meet(placed: Placed, origins: Floats, directions: Floats) -> tuple[Floats, Floats]:
    """Return distances (N,) along rays in the world and unit normals (N, 3) that face their start."""
    inverse: Floats = np.linalg.inv(placed.frame).astype(np.float32)
    own_origins: Floats = ((origins - placed.at) @ inverse.T).astype(np.float32, copy=False)
    own_directions: Floats = directions @ inverse.T
    distance, own = placed.solid.hit(own_origins, own_directions)
    normal = own @ inverse
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), np.float32(1e-6))
    inward = np.einsum("ij,ij->i", normal, np.broadcast_to(directions, normal.shape)) > 0
    normal[inward] *= -1
    return distance, normal


def _cast_shadow(seen: Surfaces, index: int, placed: Placed) -> Floats:
    """Return 1 where the solid is between a surface that is not its own and its light, else 0 (H, W)."""
    light = placed.shadow_light
    assert light is not None
    shadow = np.zeros(seen.owner.shape, np.float32)
    towards = placed.centre - seen.point
    along = towards @ light
    apart = np.einsum("ijk,ijk->ij", towards, towards) - along * along
    near = (apart < placed.reach**2) & (along > -placed.reach) & (seen.owner != index) & (seen.owner != WALL)
    if near.any():
        distance, _ = _meet(placed, seen.point[near], light[None])
        shadow[near] = np.isfinite(distance)
    return shadow
