"""Normalized cuts of the graph of an image's pixels, by its eigenvectors."""

from __future__ import annotations

import hashlib
import heapq
import weakref
from collections import OrderedDict
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import linalg
from scipy.ndimage import find_objects

from segalgos.parallel import map_strips, one_blas_thread
from segalgos.spectral._stencil import Level
from segalgos.spectral.affinity import PixelGraph
from segalgos.spectral.eigenvectors import (
    PixelEigenvectors,
    graph_of_image,
    leading_eigenvectors,
)

__all__ = ["Affinity", "KeptEigenvectors", "k_way_segments", "pixel_segments", "recursive_segments"]

FEWEST = 16  # eigenvectors that are solved for; twice as many for more segments, and so on
IMAGES_KEPT = 2
CHUNK = 16384  # pixels whose products are added up in float32
MAX_TURNS, LEAST_GAIN = 100, 1e-5  # of the rotation; what a pixel has to gain by a turn
N_LEVELS = 128  # thresholds at equal shares of the pixels, and as many at equal distances
ROWS = 16  # of a strip
DEPENDENT = 1e-6  # directions of a smaller part of the largest are left out


class Affinity(NamedTuple):
    """How pixels are tied; see `segalgos.pixel_eigenvectors`.

    Parameters
    ----------
    sigma : float
    rho : float
    radius : float
    tol : float
    data_range : float or None
    """

    sigma: float
    rho: float
    radius: float
    tol: float
    data_range: float | None


# --- k-way: Yu and Shi's discretisation --------------------------------------------------


def k_way_segments(vectors: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Turn k eigenvectors into up to k segments (Yu and Shi).

    Parameters
    ----------
    vectors : (k, H, W) float32
        Generalised eigenvectors.
    mask : (H, W) bool

    Returns
    -------
    (H, W) int32
        Segments 0..k-1, some of which may be empty; -1 outside the mask.

    Notes
    -----
    Pixels are points on the unit sphere of k dimensions. They are given the axis of largest
    coordinate, and then turned together so that they come as near to those axes as possible,
    by turns [1]_. The first axes are pixels that are as orthogonal as possible. At most 100
    turns of O(n_pixels * k**2) time.

    References
    ----------
    .. [1] S. Yu and J. Shi, "Multiclass Spectral Clustering", ICCV 2003.
    """
    k = len(vectors)
    labels = np.full(mask.shape, -1, np.int32)
    points = np.ascontiguousarray(vectors[:, mask])
    norm = np.sqrt((points * points).sum(axis=0))
    points /= np.where(norm > 0, norm, 1)
    # First axis: the pixel that is least like the others.
    axes = np.empty((k, k), np.float32)
    axes[:, 0] = points[:, np.argmin(points.mean(axis=1) @ points)]
    likeness = np.zeros(points.shape[1], np.float32)
    for j in range(1, k):
        likeness += np.abs(axes[:, j - 1] @ points)
        axes[:, j] = points[:, np.argmin(likeness)]
    chosen = np.empty(points.shape[1], np.int32)

    def assign(start, stop):
        part = points[:, start:stop]
        near = axes.T @ part
        chosen[start:stop] = near.argmax(axis=0)
        member = chosen[start:stop] == np.arange(k)[:, None]
        return member.astype(np.float32) @ part.T

    before = -np.inf
    with one_blas_thread():
        for _ in range(MAX_TURNS):
            sums = np.sum(map_strips(assign, points.shape[1], CHUNK), axis=0, dtype=float)
            left, sizes, right = linalg.svd(sums)  # eq. (14)
            if sizes.sum() - before <= LEAST_GAIN * points.shape[1]:
                break
            before = sizes.sum()
            axes = (right.T @ left.T).astype(np.float32)
    labels[mask] = chosen
    return labels


# --- two-way, again and again ------------------------------------------------------------


@njit(nogil=True, cache=True)
def _count_links(padded, offsets, bins, begins, ends, rim, start, stop):
    """Add up links between pixels of one part by the lower and the higher of their bins.

    Parameters
    ----------
    padded : (n_offsets, H + 2 * rim, W + 2 * rim) float32
        Weights.
    offsets : (n_offsets, 2) int64
    bins : (H, W) int16
        -1 outside the part.
    begins, ends : (n_bins,) float64, changed
    rim, start, stop : int
        Range of rows.
    """
    n_rows, n_columns = bins.shape
    for o in range(len(offsets)):
        down, right = offsets[o, 0], offsets[o, 1]
        first, last = max(0, -right), min(n_columns, n_columns - right)
        for row in range(start, min(stop, n_rows - down)):
            for column in range(first, last):
                one, two = bins[row, column], bins[row + down, column + right]
                if one != two and one >= 0 and two >= 0:
                    weight = padded[o, row + rim, column + rim]
                    begins[min(one, two)] += weight
                    ends[max(one, two)] += weight


def _best_threshold(graph, vector, degree):
    """Cut pixels in two where the normalized cut is least.

    Parameters
    ----------
    graph : PixelGraph
    vector : (H, W) float32
        NaN outside the part.
    degree : (H, W) float32
        Of its pixels in its own graph.

    Returns
    -------
    value : float
        inf if all values are the same.
    side : (H, W) bool or None
    """
    inside = ~np.isnan(vector)
    values = vector[inside]
    shares = np.quantile(values, np.linspace(0, 1, N_LEVELS + 1)[1:-1])
    steps = np.linspace(values.min(), values.max(), N_LEVELS + 1)[1:-1]
    levels = np.unique(np.concatenate([shares, steps]).astype(np.float32))
    bins = np.full(vector.shape, -1, np.int16)
    bins[inside] = np.searchsorted(levels, values)
    n = len(levels) + 1

    def work(start, stop):
        begins, ends = np.zeros(n), np.zeros(n)
        given = graph.padded, graph.offsets, bins, begins, ends, graph.rim
        _count_links(*given, start, stop)
        return np.stack([begins, ends])

    begins, ends = sum(map_strips(work, len(bins), ROWS))
    cut = np.maximum(np.cumsum(begins - ends)[:-1], 0)
    before = np.cumsum(np.bincount(bins[inside], degree[inside].astype(float), n))
    after = before[-1] - before[:-1]
    whole = (before[:-1] > 0) & (after > 0)
    if not whole.any():
        return np.inf, None
    costs = np.full(n - 1, np.inf)
    costs[whole] = cut[whole] / before[:-1][whole] + cut[whole] / after[whole]
    best = int(np.argmin(costs))
    return float(costs[best]), inside & (bins <= best)


def _cut_part(graph, vectors, part):
    """Cut a part (H, W) bool by the best combination of eigenvectors of the whole.

    Notes
    -----
    The second eigenvector of the part's own graph, as far as the given ones can express it
    (Rayleigh and Ritz), and all thresholds of it. Within a small part most of them are alike, so
    that sums in single precision would decide by their rounding.
    """
    rim, k = graph.rim, len(vectors)
    inside = np.pad(part.astype(np.float32), rim)
    x = np.zeros((k + k % 2, *inside.shape), np.float32)
    core = x[:, rim:-rim, rim:-rim]
    np.multiply(vectors, part, out=core[:k])
    core[0] = part
    linked = np.zeros_like(x)
    Level(graph, inside).step(x, linked)
    degree = linked[0].copy()
    flat, product = x[:k].reshape(k, -1), linked[:k].reshape(k, -1)

    def multiply(start, stop):
        block = flat[:, start:stop].astype(float)
        weighted = block * degree.ravel()[start:stop]
        return np.stack([weighted @ block.T, block @ product[:, start:stop].T.astype(float)])

    gram, image = sum(map_strips(multiply, flat.shape[1], CHUNK))
    size = np.sqrt(np.diag(gram))
    scale = np.divide(1, size, out=np.zeros(k), where=size > 0)
    gram, image = gram * scale * scale[:, None], (image + image.T) / 2 * scale * scale[:, None]
    sizes, axes = linalg.eigh(gram)
    kept = sizes > DEPENDENT * max(sizes[-1], 0)
    if np.count_nonzero(kept) < 2:
        return np.inf, None
    axes = axes[:, kept] / np.sqrt(sizes[kept])
    turn = linalg.eigh(axes.T @ image @ axes)[1][:, -2]
    weights = (axes @ turn * scale).astype(np.float32)
    vector = np.tensordot(weights, core[:k], 1)
    vector[~part] = np.nan
    return _best_threshold(graph, vector, degree[rim:-rim, rim:-rim])


def recursive_segments(
    graph: PixelGraph,
    vectors: NDArray[np.float32],
    mask: NDArray[np.bool_],
    n_segments: int | None,
    max_ncut: float,
) -> NDArray[np.int32]:
    """Cut the part with the cheapest cut in two, again and again.

    Parameters
    ----------
    graph : PixelGraph
    vectors : (k, H, W) float32
        Its generalised eigenvectors.
    mask : (H, W) bool
    n_segments : int or None
        How many to make at most.
    max_ncut : float
        Without `n_segments`, parts are cut while that costs at most this much.

    Returns
    -------
    (H, W) int32
        -1 outside the mask.
    """
    labels = np.where(mask, 0, -1).astype(np.int32)
    most = np.inf if n_segments is None else n_segments
    limit = max_ncut if n_segments is None else np.inf
    heap: list = []

    def push(name):
        part = labels == name
        ((rows, columns),) = find_objects(part.astype(np.int8))
        window, theirs = graph.window(rows, columns), vectors[:, rows, columns]
        value, side = _cut_part(window, theirs, part[rows, columns])
        if side is not None and value <= limit:
            heapq.heappush(heap, (value, name, side, labels[rows, columns]))

    with one_blas_thread():
        n = 1
        if most > 1:
            push(0)
        while heap:
            _, name, side, window = heapq.heappop(heap)
            window[(window == name) & ~side] = n
            n += 1
            if n >= most:
                break
            push(name)
            push(n - 1)
    return labels


# --- images ------------------------------------------------------------------------------


class KeptEigenvectors:
    """The eigenvectors of the last images of a segmenter, found again by what they hold."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: OrderedDict[bytes, Any] = OrderedDict()

    def get(self, key: bytes) -> Any:
        """Find what was kept.

        Parameters
        ----------
        key : bytes

        Returns
        -------
        object or None
            None if it is not here.
        """
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def keep(self, key: bytes, found: Any) -> None:
        """Keep something, in place of what was not asked for the longest time.

        Parameters
        ----------
        key : bytes
        found : object
        """
        with self._lock:
            self._kept[key] = found
            while len(self._kept) > IMAGES_KEPT:
                self._kept.popitem(last=False)


#: What segmenters have seen is no part of them: it is not copied, compared or saved.
kept_by_segmenter: weakref.WeakKeyDictionary[Any, KeptEigenvectors] = weakref.WeakKeyDictionary()
_lock = Lock()


def kept_of(segmenter: Any) -> KeptEigenvectors:
    """The eigenvectors that a segmenter has seen."""
    with _lock:
        return kept_by_segmenter.setdefault(segmenter, KeptEigenvectors())


def _contours(image, mask, data_range):
    """Thin contours of a grey image or one of three channels, None of others."""
    if image.shape[2] not in (1, 3):
        return None
    # Another family, but only by its public names.
    from segalgos import multiscale_pb, non_maximum_suppression

    strengths = multiscale_pb(image, data_range=data_range, mask=mask, channel_axis=-1)
    return non_maximum_suppression(strengths)


def pixel_segments(
    image: NDArray,
    mask: NDArray[np.bool_] | None,
    n_segments: int | None,
    method: str,
    max_ncut: float,
    affinity: Affinity,
    contours: NDArray[np.float32] | None,
    caller: str,
    kept: KeptEigenvectors | None = None,
) -> NDArray[np.int32]:
    """Cut the graph of the pixels of a checked image; see `segalgos.normalized_cuts`.

    Parameters
    ----------
    image : (H, W, C) uint8 or float32
    mask : (H, W) bool or None
    n_segments, method, max_ncut : as `segalgos.normalized_cuts` takes them
    affinity : Affinity
    contours : (H, W) float32 or None
        None finds them.
    caller : str
        For messages.
    kept : KeptEigenvectors, optional
        To look in before eigenvectors are solved for, and to keep them in.

    Returns
    -------
    (H, W) int32
        Ids 0..k-1 in the order of their first pixels; -1 outside the mask.
    """
    n_eigenvectors = FEWEST
    while n_segments is not None and n_eigenvectors < n_segments:
        n_eigenvectors *= 2
    key = digest = None
    if kept is not None:
        digest = hashlib.blake2b(
            f"{image.shape} {image.dtype} {affinity} {n_eigenvectors}".encode()
        )
        digest.update(np.ascontiguousarray(image))
        digest.update(b"all" if mask is None else np.packbits(mask))
        key = digest.digest()
    sigma, rho, radius, tol, data_range = affinity
    found: tuple[PixelEigenvectors, NDArray | None] | None = kept.get(key) if kept else None
    graph = None
    if found is None:
        if contours is None:
            contours = _contours(image, mask, data_range)
        graph = graph_of_image(image, mask, contours, rho, sigma, radius, False, data_range, caller)
        found = leading_eigenvectors(graph, n_eigenvectors, tol, caller)[0], contours
        if kept is not None:
            kept.keep(key, found)
    vectors, contours = found[0].vectors, found[1]
    inside = np.ones(image.shape[:2], bool) if mask is None else mask
    if method == "k_way":
        segments = k_way_segments(vectors[:n_segments], inside)
    else:
        if graph is None:
            graph = graph_of_image(
                image, mask, contours, rho, sigma, radius, False, data_range, caller
            )
        segments = recursive_segments(graph, vectors, inside, n_segments, max_ncut)
    used, first, names = np.unique(segments, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(np.where(used < 0, -1, first)))
    return (order - (used[0] < 0)).astype(np.int32)[names].reshape(segments.shape)
