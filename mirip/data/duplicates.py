"""Images that are one image: perceptual hashes, and groups of rows that belong together."""

import itertools
import math
from collections.abc import Iterable

import numpy as np
from PIL import Image

HASH_BITS = 64
NO_HASH = np.uint64(0)
_HASH_SIDE_PX = 32
# An image whose 32 x 32 grey copy varies less than this (of 255) shows noise of the file, not a motif.
_MIN_DEVIATION = 2.0
_PAIRS_AT_ONCE = 1 << 17  # they stay in the processor's cache
_ROWS_AT_ONCE = 64  # that are compared with all others before it is looked what they tied together
_TURNS = 4
_MANY = 256  # hashes that agree are compared one with one up to so many
_SEEN = 4096  # hashes that tell the share of ones of each bit
# Rough costs on one core, which choose between ways to the same labels.
_SECONDS_OF_A_MASK, _SECONDS_TO_SORT = 1e-4, 2e-7
_SECONDS_TO_COMPARE, _SECONDS_TO_COMPARE_ALL = 1.5e-8, 2e-9
_PLACES = np.arange(HASH_BITS, dtype=np.uint64)
_ALL_BITS = np.uint64(HASH_BITS)


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
    """Label rows so that those linked by a chain of near-duplicates share a label, without comparing all with all.

    Manku, Jain, Das Sarma 2007, "Detecting near-duplicates for web crawling": of bits cut into max_bits + k bands, two
    hashes that differ in max_bits bits agree in k whole bands. So for each choice of k bands the hashes are sorted by
    their bits there, and only those that agree are compared. Where very many agree, as the hashes of nearly equal
    images do, they are labelled by themselves in the same way, by the bits in which they differ; and rows that share a
    label already are not compared again. So time grows about as N log N also where hashes lie close together.

    Args:
        hashes: uint64 of shape (N,).
        max_bits: hashes that differ in at most so many bits are near-duplicates, 0 to 64.

    Returns:
        int64 of shape (N,), labels from 0; -1 for a row with the hash 0, which has no motif.
    """
    labels = np.full(len(hashes), -1, dtype=np.int64)
    known = hashes != NO_HASH
    distinct, inverse = np.unique(hashes[known], return_inverse=True)
    labels[known] = _linked(distinct, np.arange(len(distinct)), max_bits)[inverse]
    return labels


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
        edges.append(_edges_of(rows, labels[rows]))
    component = _components(n_rows, np.concatenate(edges, axis=1))
    _, first, inverse = np.unique(component, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].astype(np.int64)


def _linked(hashes: np.ndarray, labels: np.ndarray, max_bits: int) -> np.ndarray:
    """Return `labels` (N,), those of hashes at most `max_bits` apart made one, as numbers from 0.

    Args:
        hashes: uint64 of shape (N,), all different.
        labels: int64 of shape (N,): what is known to belong together.
        max_bits: largest Hamming distance.
    """
    labels = np.unique(labels, return_inverse=True)[1]
    varying = np.bitwise_or.reduce(hashes ^ hashes[:1], initial=np.uint64(0))
    if not labels.any() or np.bitwise_count(varying) <= max_bits:
        return np.zeros_like(labels)
    links = _Links(labels)
    places = np.flatnonzero((varying >> _PLACES) & np.uint64(1))
    for turn in _PLACES[places[:: -(-len(places) // _TURNS)]]:
        # Sorted from different bits on, neighbours are near where hashes lie close together: little is left then.
        order = np.argsort(hashes >> turn | hashes << ((_ALL_BITS - turn) % _ALL_BITS))
        _link_near(hashes, order[:-1], order[1:], max_bits, links)
    links.fold()
    masks, seconds_each = _masks(hashes, places, max_bits)
    for n_done, mask in enumerate(masks):
        if links.n_pairs() * _SECONDS_TO_COMPARE_ALL < (len(masks) - n_done) * seconds_each:
            _link_all(hashes, max_bits, links)
            break
        key = hashes & mask
        order = np.argsort(key)
        starts = np.flatnonzero(np.diff(key[order], prepend=~key[order[:1]]))
        ends = np.append(starts[1:], len(order))
        many = ends - starts > _MANY
        for start, end in zip(starts[many], ends[many], strict=True):
            rows = order[start:end]
            links.add(*_edges_of(rows, _linked(hashes[rows], links.labels[rows], max_bits)))
        end_of_row = np.repeat(np.where(many, starts, ends), ends - starts)
        first, distance = np.arange(len(order)), 1
        while len(first := first[first + distance < end_of_row[first]]):
            _link_near(hashes, order[first], order[first + distance], max_bits, links)
            distance += 1
        links.fold()
    return links.labels


def _masks(hashes: np.ndarray, places: np.ndarray, max_bits: int) -> tuple[list[np.uint64], float]:
    """Choose sets of bits so that two hashes at most `max_bits` apart agree in one of them, and guess what one costs.

    Wide masks are many, and narrow ones leave many hashes that agree: the cheapest between is taken. How often two
    hashes agree is told by the share of ones of each bit, and each band gets its share of the bits that tell most.

    Args:
        hashes: uint64 of shape (N,), all different.
        places: (B,) of the bits that are not the same in all of them, more than `max_bits`.
        max_bits: largest Hamming distance.

    Returns:
        The masks, and the seconds that each takes.
    """
    n = len(hashes)
    seen = hashes[:: -(-n // _SEEN)]
    ones = np.array([((seen >> _PLACES[place]) & np.uint64(1)).mean() for place in places])
    information = -np.log2(ones**2 + (1 - ones) ** 2)  # (B,) of the event that two hashes agree, in bits
    best, least_s = 1, math.inf
    for k in range(1, len(places) - max_bits + 1):
        agreeing = n * 0.5 ** (information.sum() * k / (max_bits + k))
        each_s = _SECONDS_OF_A_MASK + n * (_SECONDS_TO_SORT + agreeing / 2 * _SECONDS_TO_COMPARE)
        if math.comb(max_bits + k, k) * each_s < least_s:
            best, least_s = k, math.comb(max_bits + k, k) * each_s
    bands, told = [np.uint64(0)] * (max_bits + best), np.zeros(max_bits + best)
    for bit in np.argsort(-information, kind="stable"):
        band = int(told.argmin())
        bands[band] |= np.uint64(1) << _PLACES[places[bit]]
        told[band] += information[bit] + 1e-9  # so that each band gets a bit, even where none tells anything
    masks = [np.bitwise_or.reduce(chosen) for chosen in itertools.combinations(bands, best)]
    return masks, least_s / len(masks)


def _link_all(hashes: np.ndarray, max_bits: int, links: "_Links") -> None:
    """Compare all pairs of different labels.

    Rows of small labels are compared with all others and are then done with; what they tied together is never compared.
    So hashes that are all near each other are soon one label, and nothing is left to do.
    """
    left, n_rows = np.arange(len(hashes)), _ROWS_AT_ONCE
    while len(left) > 1:
        sizes = np.bincount(links.labels[left])[links.labels[left]]
        if sizes[0] == len(left):
            return
        left = left[np.argsort(-sizes, kind="stable")]
        left, chosen = left[:-n_rows], left[-n_rows:]
        others = np.append(left, chosen)
        step = max(1, _PAIRS_AT_ONCE // len(others))
        for start in range(0, len(chosen), step):
            some = chosen[start : start + step]
            near = np.bitwise_count(hashes[some, None] ^ hashes[others]) <= max_bits
            row, other = np.divmod(np.flatnonzero(near), len(others))
            links.add(some[row], others[other])
        links.fold()
        n_rows *= 2


def _link_near(hashes: np.ndarray, a: np.ndarray, b: np.ndarray, max_bits: int, links: "_Links") -> None:
    near = np.bitwise_count(hashes[a] ^ hashes[b]) <= max_bits
    links.add(a[near], b[near])


class _Links:
    """Labels that become one where rows are found to belong together.

    Attributes:
        labels: int64 of shape (N,), numbers from 0; what was added since the last fold is not in them yet.
    """

    def __init__(self, labels: np.ndarray) -> None:
        self.labels = labels
        self._found: list[np.ndarray] = []
        self._n_found = 0

    def add(self, a: np.ndarray, b: np.ndarray) -> None:
        """Note that rows `a` belong to rows `b`, (P,) both. Memory stays flat however many are added."""
        edges = np.stack([self.labels[a], self.labels[b]])
        self._found.append(edges[:, edges[0] != edges[1]])
        self._n_found += self._found[-1].shape[1]
        if self._n_found > max(len(self.labels), _PAIRS_AT_ONCE):
            self.fold()

    def n_pairs(self) -> int:
        """Count the pairs of different labels, as of the last fold."""
        return (len(self.labels) ** 2 - int((np.bincount(self.labels) ** 2).sum())) // 2

    def fold(self) -> None:
        """Bring `labels` up to date."""
        if self._n_found:
            edges = np.concatenate(self._found, axis=1)
            self.labels = _components(int(self.labels.max()) + 1, edges)[self.labels]
        self._found, self._n_found = [], 0


def _edges_of(rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return edges, (2, N), that tie each of `rows` (N,) to the first of its label."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.stack([rows[first][inverse], rows])


def _components(n_nodes: int, edges: np.ndarray) -> np.ndarray:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(edges.shape[1], dtype=bool), (edges[0], edges[1])), shape=(n_nodes, n_nodes))
    labels: np.ndarray = connected_components(graph, directed=False)[1].astype(np.int64)
    return labels
