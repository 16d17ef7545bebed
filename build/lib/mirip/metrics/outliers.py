"""Images least like the rest: a photo of a person, an advert, a blank page among the works?"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_COMPONENTS = 16
_MAX_FITTED = 20_000
_BLOCK = 4096
_SEED = 0


def outliers(features: NDArray[np.floating], *, count: int = 20, rng: np.random.Generator) -> pd.DataFrame:
    """Return the images that lie farthest from the rest.

    An image is odd by where it lies among the leading principal components, each scaled robustly (median and median
    absolute deviation), or by how much of it they leave unexplained: the score and the orthogonal distance of Hubert
    et al. 2005 (Technometrics 47). Each is told in robust deviations above its median, and the larger one counts.
    Components are those of at most 20,000 drawn images, so that the whole is linear in N.

    Args:
        features: (N, D) finite.
        count: how many at most.
        rng: draws the images that the components are taken from, where there are more.

    Returns:
        row (int) and distance (in robust deviations above the median image's); the farthest first. Empty below 10
        images, where no rest stands out as such.
    """
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    n, dim = features.shape
    if n < 10:
        return pd.DataFrame({"row": np.empty(0, dtype=np.int64), "distance": np.empty(0)})
    fitted = features if n <= _MAX_FITTED else features[np.sort(rng.choice(n, _MAX_FITTED, replace=False))]
    scaler = StandardScaler().fit(fitted.astype(np.float32))
    components = max(1, min(_COMPONENTS, dim, n // 5))
    pca = PCA(components, svd_solver="randomized", random_state=_SEED).fit(scaler.transform(fitted.astype(np.float32)))
    projected, unexplained = np.empty((n, components)), np.empty(n)
    for start in range(0, n, _BLOCK):
        block = scaler.transform(features[start : start + _BLOCK].astype(np.float32))
        within = pca.transform(block)
        projected[start : start + len(block)] = within
        unexplained[start : start + len(block)] = np.linalg.norm(block - pca.inverse_transform(within), axis=1)
    score = np.linalg.norm(_robust(projected), axis=1)
    distance = np.maximum(_robust(score[:, None])[:, 0], _robust(unexplained[:, None])[:, 0])
    order = np.argsort(-distance, kind="stable")[:count]
    return pd.DataFrame({"row": order, "distance": distance[order]})


def _robust(values: Floats) -> Floats:
    """Centre columns (N, P) by the median and scale by 1.4826 MAD, which is a normal's deviation; 0 if that is 0."""
    centred = values - np.median(values, axis=0)
    deviation = 1.4826 * np.median(np.abs(centred), axis=0)
    return np.asarray(centred * np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 1e-6))
