"""Images that are one image: perceptual hashes, and groups of rows that belong together."""

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image

HASH_BITS = 64
NO_HASH = np.uint64(0)
_HASH_SIDE_PX = 32
# An image whose 32 x 32 grey copy varies less than this (of 255) shows noise of the file, not a motif.
_MIN_DEVIATION = 2.0
_PAIRS_AT_ONCE = 1 << 21


def _lowest_frequencies() -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of the 64 lowest frequencies of a DCT after the mean, along its diagonals."""
    row, column = np.indices((_HASH_SIDE_PX, _HASH_SIDE_PX))
    order = np.lexsort((row.ravel(), (row + column).ravel()))[1 : HASH_BITS + 1]
    return row.ravel()[order], column.ravel()[order]


_FREQUENCIES = _lowest_frequencies()


def perceptual_hash(pixels: np.ndarray) -> np.uint64:
    """Hash an image so that another encoding or size of it differs in few bits.

    The DCT hash of Zauner (2010), "Implementation and benchmarking of perceptual image hash functions": bit k says
    whether the k-th lowest frequency of a 32 x 32 grey copy, the mean left out, is above their median. Half of the
    bits are set, so that no image has the hash 0: that value marks a nearly uniform image (standard deviation
    of the grey copy under 2 of 255), whose bits would be noise and which is nobody's near-duplicate.

    Args:
        pixels: uint8 of shape (H, W, 3).

    Returns:
        The hash, 0 for an image without a motif.
    """
    from scipy.fft import dctn

    size = (_HASH_SIDE_PX, _HASH_SIDE_PX)
    grey = np.asarray(Image.fromarray(pixels).convert("L").resize(size, Image.Resampling.BOX), dtype=np.float64)
    if grey.std() < _MIN_DEVIATION:
        return NO_HASH
    coefficients = dctn(grey, norm="ortho")[_FREQUENCIES]  # (64,)
    bits = coefficients > np.median(coefficients)
    return np.uint64(int.from_bytes(np.packbits(bits).tobytes(), "big"))


def near_duplicate_labels(hashes: np.ndarray, max_bits: int) -> np.ndarray:
    """Label rows so that those linked by a chain of near-duplicates share a label.

    Args:
        hashes: uint64 of shape (N,).
        max_bits: hashes that differ in at most so many bits are near-duplicates.

    Returns:
        int64 of shape (N,), labels from 0; -1 for a row with the hash 0, which has no motif.
    """
    labels = np.full(len(hashes), -1, dtype=np.int64)
    known = hashes != NO_HASH
    distinct, inverse = np.unique(hashes[known], return_inverse=True)
    component = np.arange(len(distinct))
    edges = np.empty((2, 0), dtype=np.int64)
    for left, right in near_duplicate_pairs(distinct, max_bits):
        edges = np.concatenate([edges, component[np.stack([left, right])]], axis=1)
        if edges.shape[1] > _PAIRS_AT_ONCE:
            # Folding what was found keeps memory flat where thousands of images are nearly the same.
            component, edges = _components(len(distinct), edges)[component], edges[:, :0]
    component = _components(len(distinct), edges)[component]
    labels[known] = component[inverse]
    return labels


def near_duplicate_pairs(hashes: np.ndarray, max_bits: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Find all pairs of distinct hashes at most `max_bits` apart, without comparing all with all.

    Multi-index hashing (Norouzi, Punjani, Fleet 2012, "Fast search in Hamming space with multi-index hashing"): cut
    into m bands, two hashes that differ in k bits differ in at most floor(k / m) bits of some band. Bands are about
    log2 N bits wide, so that their buckets hold about one hash each.

    Args:
        hashes: uint64 of shape (N,), all different.
        max_bits: largest Hamming distance, 0 to 64.

    Yields:
        Batches (left, right) of int64 arrays of indices. A pair may come more than once.
    """
    if len(hashes) < 2:
        return
    n_bands = min(max_bits + 1, max(1, round(HASH_BITS / np.log2(len(hashes)))))
    edges = np.linspace(0, HASH_BITS, n_bands + 1).round().astype(int)
    for low, high in itertools.pairwise(edges):
        width = int(high - low)
        band = (hashes >> np.uint64(low)) & np.uint64((1 << width) - 1)
        order = np.argsort(band, kind="stable")
        for left, right in _candidates(band[order], _flips(width, max_bits // n_bands)):
            a, b = order[left], order[right]
            near = np.bitwise_count(hashes[a] ^ hashes[b]) <= max_bits
            if near.any():
                yield a[near], b[near]


def connected_groups(labelings: Iterable[np.ndarray], n_rows: int) -> np.ndarray:
    """Group rows that share a label in any labeling, directly or through other rows.

    Args:
        labelings: integer arrays of shape (n_rows,); a negative label ties a row to nothing.
        n_rows: number of rows.

    Returns:
        int64 of shape (n_rows,): group numbers from 0 in order of first appearance.
    """
    edges = [np.empty((2, 0), dtype=np.int64)]
    for labels in labelings:
        rows = np.flatnonzero(labels >= 0)
        _, first, inverse = np.unique(labels[rows], return_index=True, return_inverse=True)
        edges.append(np.stack([rows[first][inverse], rows]))
    component = _components(n_rows, np.concatenate(edges, axis=1))
    _, first, inverse = np.unique(component, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].astype(np.int64)


def _components(n_nodes: int, edges: np.ndarray) -> np.ndarray:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(edges.shape[1], dtype=bool), (edges[0], edges[1])), shape=(n_nodes, n_nodes))
    labels: np.ndarray = connected_components(graph, directed=False)[1].astype(np.int64)
    return labels


def _flips(width: int, radius: int) -> Iterator[np.uint64]:
    """Yield every mask of `width` bits with at most `radius` bits set."""
    masks = [(0, 0)]
    for mask, next_bit in masks:
        yield np.uint64(mask)
        if mask.bit_count() < radius:
            masks.extend((mask | 1 << bit, bit + 1) for bit in range(next_bit, width))


def _candidates(keys: np.ndarray, flips: Iterable[np.uint64]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield batches of position pairs in sorted `keys` that are equal once `flips` are applied to one side."""
    for flip in flips:
        wanted = keys ^ flip
        start = np.searchsorted(keys, wanted, side="left")
        stop = np.searchsorted(keys, wanted, side="right")
        # Each unordered pair once: within a bucket those that come later, across buckets the larger key.
        start = np.arange(1, len(keys) + 1) if flip == 0 else np.where(wanted > keys, start, stop)
        counts = np.maximum(stop - start, 0)
        ends = np.cumsum(counts)
        for first in range(0, int(ends[-1]), _PAIRS_AT_ONCE):
            pair = np.arange(first, min(first + _PAIRS_AT_ONCE, int(ends[-1])))
            left = np.searchsorted(ends, pair, side="right")
            yield left, start[left] + pair - (ends[left] - counts[left])
