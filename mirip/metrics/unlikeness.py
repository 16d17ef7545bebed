"""How unlike the rest an image is, by its features: far out among the leading components, or badly explained by them.

An image is odd by where it lies among the leading principal components, each scaled robustly (median and median
absolute deviation), or by how much of it they leave unexplained: the score and the orthogonal distance of Hubert et al.
2005 (Technometrics 47). Each is told in robust deviations above its median, and the larger one counts.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mirip.metrics.products import finite, stray_flags_ignored

Floats = NDArray[np.float64]

FEWEST = 10  # images that say what is usual
_COMPONENTS = 16
_SEED = 0
_BLOCK = 4096


class FeatureSpread(NamedTuple):
    """Where the features of N images lie.

    Attributes:
        mean, scale: (D,) float32 of the standardisation.
        components: (P, D) float32, orthonormal.
        centre, deviation: (P,) float64, of the projections; deviation is 0 where there is none.
        distances: (4,) float64, centre and deviation of the distance among the components, then of what they leave
            unexplained.
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    components: NDArray[np.float32]
    centre: Floats
    deviation: Floats
    distances: Floats

    def distance(self, features: NDArray[np.floating]) -> Floats:
        """Return how unlike the N images these features (M, D) are, (M,), in robust deviations above their median."""
        projected, unexplained = self._projected(features)
        within = np.linalg.norm(_scaled(projected, self.centre, self.deviation), axis=1)
        among, among_deviation, beside, beside_deviation = self.distances
        return np.maximum(_scaled(within, among, among_deviation), _scaled(unexplained, beside, beside_deviation))

    def _projected(self, features: NDArray[np.floating]) -> tuple[Floats, Floats]:
        projected, unexplained = np.empty((len(features), len(self.components))), np.empty(len(features))
        for start in range(0, len(features), _BLOCK):
            block = (features[start : start + _BLOCK].astype(np.float32) - self.mean) / self.scale
            with stray_flags_ignored():
                within = block @ self.components.T
                rest = block - within @ self.components
            here = slice(start, start + len(block))
            projected[here] = finite(within, "the projection on principal components")
            unexplained[here] = np.linalg.norm(finite(rest, "what they leave unexplained"), axis=1)
        return projected, unexplained


def feature_spread(features: NDArray[np.floating], *, max_fitted: int, rng: np.random.Generator) -> FeatureSpread:
    """Learn where features lie.

    Args:
        features: (N, D) finite, N at least FEWEST.
        max_fitted: components are those of at most so many images, so that the whole is linear in N.
        rng: draws these images, where there are more.

    Raises:
        ValueError: there are fewer than FEWEST images.
    """
    from sklearn.decomposition import PCA

    n, dim = features.shape
    if n < FEWEST:
        raise ValueError(f"{n} images are too few to say what is usual, {FEWEST} are needed")
    fitted = features if n <= max_fitted else features[np.sort(rng.choice(n, max_fitted, replace=False))]
    fitted = fitted.astype(np.float32)
    mean, scale = fitted.mean(axis=0, dtype=np.float64), fitted.std(axis=0, dtype=np.float64)
    mean, scale = mean.astype(np.float32), np.where(scale > 1e-9, scale, 1).astype(np.float32)
    pca = PCA(max(1, min(_COMPONENTS, dim, n // 5)), svd_solver="randomized", random_state=_SEED)
    with stray_flags_ignored():
        pca.fit((fitted - mean) / scale)
    nothing = np.zeros(0)
    spread = FeatureSpread(mean, scale, pca.components_.astype(np.float32), nothing, nothing, nothing)
    projected, unexplained = spread._projected(features)
    centre, deviation = _location(projected)
    within = np.linalg.norm(_scaled(projected, centre, deviation), axis=1)
    distances = np.array([*_location(within), *_location(unexplained)])
    return spread._replace(centre=centre, deviation=deviation, distances=distances)


def _location(values: Floats) -> tuple[Floats, Floats]:
    """Return median and 1.4826 MAD, which is a normal's deviation, along the first axis."""
    centre = np.median(values, axis=0)
    return centre, 1.4826 * np.median(np.abs(values - centre), axis=0)


def _scaled(values: Floats, centre: Floats, deviation: Floats) -> Floats:
    """Centre and scale values; 0 where there is no deviation."""
    spread = np.asarray(deviation, dtype=np.float64)
    inverse = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 1e-6)
    return np.asarray((values - centre) * inverse, dtype=np.float64)
