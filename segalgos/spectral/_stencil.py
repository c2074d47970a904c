"""Products of graphs of pixels with many vectors at once, and coarser graphs."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from segalgos.parallel import map_strips
from segalgos.spectral.affinity import PixelGraph, rim_of

TILE = 512  # columns at a time
ROWS = 8  # of a strip


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def _step(padded, offsets, diagonal, inverse, x, z, scale, shift, minus, rim, start, stop):
    """Write ``scale * (P x - shift * x) - minus * z`` into z, for rows ``start .. stop``.

    Parameters
    ----------
    padded : (n_offsets, H + 2 * rim, W + 2 * rim) float32
        Weights, an even number of planes.
    offsets : (n_offsets, 2) int64
    diagonal, inverse : (H + 2 * rim, W + 2 * rim) float32
        Weights of nodes to themselves, and 1 / degree; P is what is weighted by them.
    x : (k, H + 2 * rim, W + 2 * rim) float32
        An even number of vectors, 0 on the rim.
    z : (k, H + 2 * rim, W + 2 * rim) float32, overwritten
    scale, shift, minus : float32
    rim, start, stop : int

    Notes
    -----
    Two vectors and two pairs of neighbours at a time: each weight that is loaded serves
    twice, and each sum takes four terms before it is stored.
    """
    n_columns = padded.shape[2] - 2 * rim
    for row in range(start + rim, stop + rim):
        for first in range(rim, rim + n_columns, TILE):
            last = min(first + TILE, rim + n_columns)
            n = last - first
            sum_a, sum_b = np.empty(n, np.float32), np.empty(n, np.float32)
            own = diagonal[row, first:last]
            part = inverse[row, first:last]
            for c in range(0, len(x), 2):
                xa, xb = x[c, row, first:last], x[c + 1, row, first:last]
                for i in range(n):
                    sum_a[i] = own[i] * xa[i]
                    sum_b[i] = own[i] * xb[i]
                for o in range(0, len(offsets), 2):
                    d0, r0 = offsets[o, 0], offsets[o, 1]
                    d1, r1 = offsets[o + 1, 0], offsets[o + 1, 1]
                    v0 = padded[o, row, first:last]
                    w0 = padded[o, row - d0, first - r0 : last - r0]
                    v1 = padded[o + 1, row, first:last]
                    w1 = padded[o + 1, row - d1, first - r1 : last - r1]
                    a0 = x[c, row + d0, first + r0 : last + r0]
                    b0 = x[c, row - d0, first - r0 : last - r0]
                    a1 = x[c, row + d1, first + r1 : last + r1]
                    b1 = x[c, row - d1, first - r1 : last - r1]
                    e0 = x[c + 1, row + d0, first + r0 : last + r0]
                    f0 = x[c + 1, row - d0, first - r0 : last - r0]
                    e1 = x[c + 1, row + d1, first + r1 : last + r1]
                    f1 = x[c + 1, row - d1, first - r1 : last - r1]
                    for i in range(n):
                        sum_a[i] += v0[i] * a0[i] + w0[i] * b0[i] + v1[i] * a1[i] + w1[i] * b1[i]
                        sum_b[i] += v0[i] * e0[i] + w0[i] * f0[i] + v1[i] * e1[i] + w1[i] * f1[i]
                za, zb = z[c, row, first:last], z[c + 1, row, first:last]
                for i in range(n):
                    za[i] = scale * (part[i] * sum_a[i] - shift * xa[i]) - minus * za[i]
                    zb[i] = scale * (part[i] * sum_b[i] - shift * xb[i]) - minus * zb[i]


@njit(nogil=True, cache=True, error_model="numpy")
def _gather(
    plane, down, right, target, diagonal, rim, coarse_rim, names, coarse_offsets, start, stop
):
    """Add a plane of weights to those of blocks of 2 x 2 nodes, rows ``start .. stop`` of them.

    Parameters
    ----------
    plane : (H + 2 * rim, W + 2 * rim) float32
    down, right : int
        Its offset.
    target : (n, rows + 2 * coarse_rim, columns + 2 * coarse_rim) float32, changed
    diagonal : (rows + 2 * coarse_rim, columns + 2 * coarse_rim) float32, changed
    rim, coarse_rim : int
    names : (2, 2) int64
        Number of the coarse offset by the parities of row and column; -1 for none.
    coarse_offsets : (n, 2) int64
    start, stop : int

    Notes
    -----
    An offset in the same row of blocks may point to the left; it is then told to the other
    block, in that row too, so that strips of rows do not meet.
    """
    n_rows, n_columns = plane.shape[0] - 2 * rim, plane.shape[1] - 2 * rim
    for coarse_row in range(start, stop):
        for odd_row in range(2):
            row = 2 * coarse_row + odd_row
            if row >= n_rows:
                continue
            for odd_column in range(2):
                n = (n_columns - odd_column + 1) // 2
                source = plane[row + rim, rim + odd_column : rim + n_columns]
                name = names[odd_row, odd_column]
                if name < 0:
                    line = diagonal[coarse_row + coarse_rim, coarse_rim:]
                    for i in range(n):
                        line[i] += 2 * source[2 * i]
                    continue
                across = (odd_column + right) // 2
                left = across if coarse_offsets[name, 1] != across else 0
                line = target[name, coarse_row + coarse_rim, coarse_rim + left :]
                for i in range(n):
                    line[i] += source[2 * i]


def pooled(plane: NDArray, rim: int, coarse_rim: int) -> NDArray:
    """Sum a padded plane over blocks of 2 x 2."""
    n_rows, n_columns = plane.shape[0] - 2 * rim, plane.shape[1] - 2 * rim
    even = np.zeros((n_rows + n_rows % 2, n_columns + n_columns % 2), plane.dtype)
    even[:n_rows, :n_columns] = plane[rim : rim + n_rows, rim : rim + n_columns]
    sums = even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]
    return np.pad(sums, coarse_rim)


def coarsened(graph: PixelGraph) -> PixelGraph:
    """Join blocks of 2 x 2 nodes; the ties between two blocks are added up.

    Parameters
    ----------
    graph : PixelGraph

    Returns
    -------
    PixelGraph
    """
    rim = graph.rim
    found: dict[tuple[int, int], int] = {}
    names = np.empty((len(graph.offsets), 2, 2), np.int64)
    for o, (down, right) in enumerate(graph.offsets.tolist()):
        for odd_row, odd_column in np.ndindex(2, 2):
            step = (odd_row + down) // 2, (odd_column + right) // 2
            step = max(step, (-step[0], -step[1]))
            name = -1 if step == (0, 0) else found.setdefault(step, len(found))
            names[o, odd_row, odd_column] = name
    offsets = np.array(list(found), np.int64)
    coarse_rim = rim_of(offsets)
    n_rows, n_columns = ((size + 1) // 2 for size in graph.shape)
    padded = np.zeros((len(found), n_rows + 2 * coarse_rim, n_columns + 2 * coarse_rim), np.float32)
    if graph.diagonal is None:
        diagonal = np.zeros(padded.shape[1:], np.float32)
    else:
        diagonal = pooled(graph.diagonal, rim, coarse_rim)

    def work(start, stop):
        for o, (down, right) in enumerate(graph.offsets.tolist()):
            target = padded, diagonal, rim, coarse_rim, names[o], offsets
            _gather(graph.padded[o], down, right, *target, start, stop)

    map_strips(work, n_rows, ROWS)
    return PixelGraph(offsets, padded, diagonal)


class Level:
    """A graph, ready for products.

    Parameters
    ----------
    graph : PixelGraph
    degree : (H + 2 * r, W + 2 * r) float32
    """

    def __init__(self, graph: PixelGraph, degree: NDArray[np.float32]):
        self.graph, self.degree = graph, degree
        padded, offsets = graph.padded, graph.offsets
        if len(offsets) % 2:
            padded = np.concatenate([padded, np.zeros_like(padded[:1])])
            offsets = np.concatenate([offsets, offsets[:1]])
        self.padded, self.offsets = padded, offsets
        self.diagonal = np.zeros_like(degree) if graph.diagonal is None else graph.diagonal
        self.inverse = np.divide(1, degree, out=np.zeros_like(degree), where=degree > 0)
        self.n_products = 0

    def coarser(self):
        """Make the level of blocks of 2 x 2 nodes."""
        graph = coarsened(self.graph)
        return Level(graph, pooled(self.degree, self.graph.rim, graph.rim))

    def step(self, x, z, scale=1.0, shift=0.0, minus=0.0):
        """Write ``scale * (P x - shift * x) - minus * z`` into z.

        Parameters
        ----------
        x, z : (k, H + 2 * r, W + 2 * r) float32
            An even number of vectors; z is changed.
        scale, shift, minus : float
        """
        numbers = np.float32(scale), np.float32(shift), np.float32(minus)
        given = self.padded, self.offsets, self.diagonal, self.inverse, x, z, *numbers

        def work(start, stop):
            _step(*given, self.graph.rim, start, stop)

        map_strips(work, self.graph.shape[0], ROWS)
        self.n_products += 1
