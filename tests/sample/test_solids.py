import numpy as np
import pytest

from mirip.sample.solids import Lathe, Prism

BOX = Prism(np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]], np.float32), 2.0)
AT = np.linspace(0, 1, 97)
BALL = Lathe(np.sqrt(np.maximum(1 - (2 * AT - 1) ** 2, 0)).astype(np.float32), 2.0)
CYLINDER = Lathe(np.ones(97, np.float32), 2.0)


def cast(solid, origin, direction):
    distance, normal = solid.hit(np.array([origin], np.float32), np.array([direction], np.float32))
    return distance[0], normal[0] / max(np.linalg.norm(normal[0]), 1e-6)


@pytest.mark.parametrize("solid", [BOX, BALL, CYLINDER])
def test_a_level_ray_meets_the_front_at_unit_depth(solid):
    distance, normal = cast(solid, (0, -5, 1), (0, 1, 0))
    assert distance == pytest.approx(4, abs=0.01)
    assert normal == pytest.approx([0, -1, 0], abs=0.05)


@pytest.mark.parametrize("solid", [BOX, CYLINDER])
def test_a_ray_from_above_meets_the_lid(solid):
    distance, normal = cast(solid, (0.2, 0.3, 6), (0, 0, -1))
    assert distance == pytest.approx(4, abs=0.01)
    assert normal == pytest.approx([0, 0, 1], abs=0.05)


@pytest.mark.parametrize("solid", [BOX, BALL, CYLINDER])
def test_a_ray_beside_or_away_from_the_solid_misses(solid):
    assert cast(solid, (1.6, -5, 1), (0, 1, 0))[0] == np.inf
    assert cast(solid, (0, -5, 1), (0, -1, 0))[0] == np.inf


def test_a_box_seen_from_above_a_corner_shows_nine_edges():
    assert len(BOX.contours(np.array([5, -6, 5], np.float32))) == 9


def test_the_contour_of_a_ball_is_where_the_eye_touches_it():
    eye = np.array([0, -6, 3], np.float32)
    for line in BALL.contours(eye):
        normal = line - np.array([0, 0, 1])
        assert np.abs(np.einsum("ij,ij->i", normal, line - eye)).mean() < 0.15
