"""How alike the pixels of an image are that lie near one another: sparse graphs of pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import sparse

from segalgos.parallel import map_strips

__all__ = ["PixelGraph", "disc_offsets", "pixel_graph"]

ROWS = 16  # of a strip
DENSE = 5.0  # up to this distance a sampled disc has every offset
GROWTH = 1.25  # of the radii beyond, where an offset is taken every so often
SAMPLES = 6  # on half a circle
FAINTEST = -30.0  # logarithm of the least similarity: of all neighbours it ties a pixel to none


@dataclass(frozen=True)
class PixelGraph:
    """Similarities of near pixels, by offsets.

    Parameters
    ----------
    offsets : (n, 2) int64
        Rows and columns from a pixel to its neighbour: one of each pair of opposite ones.
    padded : (n, H + 2 * r, W + 2 * r) float32
        ``padded[o, i + r, j + r]`` ties pixel (i, j) to its neighbour at offset o; 0 if that is
        outside. The rim of r pixels, the largest offset, is 0.
    diagonal : (H + 2 * r, W + 2 * r) float32 or None
        What ties a pixel to itself; None for nothing.
    """

    offsets: NDArray[np.int64]
    padded: NDArray[np.float32]
    diagonal: NDArray[np.float32] | None = None

    @property
    def rim(self) -> int:
        """Width of the rim."""
        return rim_of(self.offsets)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns without the rim."""
        return self.padded.shape[1] - 2 * self.rim, self.padded.shape[2] - 2 * self.rim

    @property
    def weights(self) -> NDArray[np.float32]:
        """The similarities without the rim, (n, H, W)."""
        rim, (n_rows, n_columns) = self.rim, self.shape
        return self.padded[:, rim : rim + n_rows, rim : rim + n_columns]

    def degree(self) -> NDArray[np.float32]:
        """Sum the similarities of each pixel.

        Returns
        -------
        (H + 2 * r, W + 2 * r) float32
        """
        total = np.zeros(self.padded.shape[1:], np.float32)
        rim, n_rows = self.rim, self.shape[0]

        def work(start, stop):
            _add_degree(self.padded, self.offsets, rim, start, stop, total)

        map_strips(work, n_rows, ROWS)
        if self.diagonal is not None:
            total += self.diagonal
        return total

    def window(self, rows: slice, columns: slice) -> PixelGraph:
        """Take the graph of a window, with the ties among its pixels alone.

        Parameters
        ----------
        rows, columns : slice
            From where to where, within the image.

        Returns
        -------
        PixelGraph
            A copy; this itself if the window is all of it.
        """
        rim = self.rim
        inside = self.weights[:, rows, columns]
        n_rows, n_columns = inside.shape[1:]
        if (n_rows, n_columns) == self.shape:
            return self
        padded = np.zeros((len(inside), n_rows + 2 * rim, n_columns + 2 * rim), np.float32)
        core = padded[:, rim : rim + n_rows, rim : rim + n_columns]
        for (down, right), source, target in zip(self.offsets.tolist(), inside, core, strict=True):
            last_row, first, last = max(0, n_rows - down), max(0, -right), max(0, n_columns - right)
            target[:last_row, first:last] = source[:last_row, first:last]
        diagonal = None
        if self.diagonal is not None:
            own = self.diagonal[rim:-rim, rim:-rim][rows, columns]
            diagonal = np.pad(own, rim)
        return PixelGraph(self.offsets, padded, diagonal)

    def to_sparse(self) -> sparse.csr_array:
        """Make the symmetric matrix of all pixels, row by row of the image.

        Returns
        -------
        (H * W, H * W) csr_array of float64
        """
        n_rows, n_columns = self.shape
        index = np.arange(n_rows * n_columns).reshape(n_rows, n_columns)
        sources, targets, values = [], [], []
        for (down, right), plane in zip(self.offsets, self.weights, strict=True):
            rows, columns = np.nonzero(plane)
            sources.append(index[rows, columns])
            targets.append(index[rows + down, columns + right])
            values.append(plane[rows, columns])
        once = np.concatenate(sources), np.concatenate(targets)
        both = np.concatenate([once[0], once[1]]), np.concatenate([once[1], once[0]])
        data = np.concatenate([*values, *values]).astype(float)
        matrix = sparse.coo_array((data, both), shape=(index.size, index.size)).tocsr()
        if self.diagonal is not None:
            inside = self.diagonal[self.rim :, self.rim :][:n_rows, :n_columns]
            matrix = matrix + sparse.diags_array(inside.ravel().astype(float))
        return matrix


def rim_of(offsets: NDArray[np.int64]) -> int:
    """Largest number of rows or columns of an offset."""
    return int(np.abs(offsets).max())


def disc_offsets(radius: float, *, sampled: bool = False) -> NDArray[np.int64]:
    """List the offsets to the pixels of a disc, one of each pair of opposite ones.

    Parameters
    ----------
    radius : float
        At least 1, in pixels.
    sampled : bool, default=False
        Leave most of those out that are further away than 5 pixels: beyond, only 6 directions
        on half a circle are kept, at distances that grow by a quarter each.

    Returns
    -------
    (n, 2) int64
        Rows and columns; those in the same row go to the right, all others down.
    """
    reach = int(radius)
    steps = np.arange(-reach, reach + 1)
    down, right = np.meshgrid(steps, steps, indexing="ij")
    half = (down > 0) | ((down == 0) & (right > 0))
    squared = down**2 + right**2
    kept = half & (squared <= radius**2)
    if sampled and radius > DENSE:
        chosen = squared <= DENSE**2
        distance, turn = DENSE * GROWTH, 0.5
        while distance <= radius:
            angles = np.pi * (np.arange(SAMPLES) + turn) / SAMPLES
            rows = np.rint(distance * np.sin(angles)).astype(int)
            columns = np.rint(distance * np.cos(angles)).astype(int)
            chosen[rows + reach, columns + reach] = True
            distance, turn = distance * GROWTH, 0.5 - turn
        kept &= chosen
    return np.column_stack([down[kept], right[kept]]).astype(np.int64)


def segment_places(down: int, right: int) -> NDArray[np.int64]:
    """List what a segment to an offset passes, both ends among it.

    Parameters
    ----------
    down, right : int
        Of the offset.

    Returns
    -------
    (n, 3) int64
        Plane, row and column. Plane 0: the pixel there. Planes 1 and 2: the corner between that
        pixel and its neighbour below, to the right or to the left.

    Notes
    -----
    Bresenham's line, of which both pixels are taken if the middle lies between two: so the way
    back passes the same.
    """
    n = max(abs(down), abs(right))
    places, last = [(0, 0, 0)], (0, 0)
    for step in range(1, n + 1):
        sides = [
            sorted({-(-(2 * abs(a) * step - n) // (2 * n)), (2 * abs(a) * step + n) // (2 * n)})
            for a in (down, right)
        ]
        if 2 * step < n:
            sides = [side[:1] for side in sides]
        elif 2 * step > n:
            sides = [side[-1:] for side in sides]
        for i in sides[0]:
            for j in sides[1]:
                row, column = int(np.sign(down)) * i, int(np.sign(right)) * j
                places.append((0, row, column))
        if len(sides[0]) == len(sides[1]) == 1:
            if row != last[0] and column != last[1]:
                upper = min(last, (row, column))
                places.append((1 if (column > last[1]) == (row > last[0]) else 2, *upper))
            last = row, column
        else:
            last = row, column
    return np.array(places, np.int64)


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def _add_degree(padded, offsets, rim, start, stop, total):
    """Sum the weights of every pixel of rows ``start .. stop``, in both directions."""
    n_columns = padded.shape[2] - 2 * rim
    for row in range(start + rim, stop + rim):
        out = total[row, rim : rim + n_columns]
        for o in range(len(offsets)):
            down, right = offsets[o, 0], offsets[o, 1]
            to = padded[o, row, rim : rim + n_columns]
            back = padded[o, row - down, rim - right : rim - right + n_columns]
            for column in range(n_columns):
                out[column] += to[column] + back[column]


@njit(nogil=True, cache=True)
def _subtract_contours(barriers, places, down, right, scale, padded, rim, start, stop):
    """Subtract the strongest contour between pixels and their neighbours at one offset.

    Parameters
    ----------
    barriers : (3, H, W) float32
        Contours of pixels, and of corners to the right and to the left.
    places : (n, 3) int64
        As `segment_places` gives them.
    down, right : int
        The offset.
    scale : float32
        What strengths are multiplied by.
    padded : (H + 2 * rim, W + 2 * rim) float32, changed in rows ``start .. stop``
    rim, start, stop : int
    """
    _, n_rows, n_columns = barriers.shape
    first, last = max(0, -right), min(n_columns, n_columns - right)
    largest = np.empty(max(last - first, 0), np.float32)
    for row in range(start, min(stop, n_rows - down)):
        largest[:] = 0
        for k in range(len(places)):
            plane, below, beside = places[k, 0], places[k, 1], places[k, 2]
            line = barriers[plane, row + below, first + beside : last + beside]
            for column in range(len(largest)):
                largest[column] = max(largest[column], line[column])
        out = padded[row + rim, rim + first : rim + last]
        for column in range(len(largest)):
            out[column] -= scale * largest[column]


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def _subtract_distances(planes, down, right, scale, padded, rim, start, stop):
    """Subtract squared distances of colours (C, H, W); see `_subtract_contours`."""
    n_channels, n_rows, n_columns = planes.shape
    first, last = max(0, -right), min(n_columns, n_columns - right)
    for row in range(start, min(stop, n_rows - down)):
        out = padded[row + rim, rim + first : rim + last]
        for c in range(n_channels):
            here = planes[c, row, first:last]
            there = planes[c, row + down, first + right : last + right]
            for column in range(len(out)):
                difference = here[column] - there[column]
                out[column] -= scale * difference * difference


@njit(nogil=True, cache=True)
def _clear_outside(mask, all_inside, down, right, padded, rim, start, stop):
    """Give weight 0 to pairs of which a pixel is outside the mask (H, W) or the image.

    With `all_inside` the mask is True everywhere. See `_subtract_contours`.
    """
    n_rows, n_columns = mask.shape
    first, last = max(0, -right), min(n_columns, n_columns - right)
    for row in range(start, stop):
        out = padded[row + rim, rim : rim + n_columns]
        if row + down >= n_rows or first >= last:
            out[:] = 0
            continue
        out[:first] = 0
        out[last:] = 0
        if not all_inside:
            for column in range(first, last):
                if not (mask[row, column] and mask[row + down, column + right]):
                    out[column] = 0


def _corners(strength):
    """Add to strengths (H, W) those of corners, where a thin contour leaves a gap."""
    barriers = np.zeros((3, *strength.shape), np.float32)
    barriers[0] = strength
    np.minimum(strength[:-1, 1:], strength[1:, :-1], out=barriers[1, :-1, :-1])
    np.minimum(strength[:-1, :-1], strength[1:, 1:], out=barriers[2, :-1, 1:])
    return barriers


def pixel_graph(
    offsets: NDArray[np.int64],
    mask: NDArray[np.bool_],
    *,
    contours: NDArray[np.float32] | None = None,
    rho: float = 0.1,
    planes: NDArray[np.float32] | None = None,
    sigma: float = 1.0,
) -> PixelGraph:
    r"""Tie near pixels to one another.

    Parameters
    ----------
    offsets : (n, 2) int64
        As `disc_offsets` gives them.
    mask : (H, W) bool
        Pixels to tie.
    contours : (H, W) float32, optional
        How strong a contour is at each pixel.
    rho : float, default=0.1
        Strength of a contour that similarity falls to 1/e across.
    planes : (C, H, W) float32, optional
        Colours.
    sigma : float, default=1
        Distance of colours over which similarity falls to 1/e.

    Returns
    -------
    PixelGraph
        Pixels of the mask without neighbours are tied to themselves.

    Notes
    -----
    The similarity of pixels i and j is :math:`\exp(-\max_p c_p / \rho)`, for the contours c on
    the segment from i to j, times :math:`\exp(-|z_i - z_j|^2 / \sigma^2)` for their colours z,
    and at least ``exp(-30)``. Where a contour of one pixel's width goes on beyond a corner, a
    segment through that corner crosses it. O(n * H * W * radius) time.
    """
    rim = rim_of(offsets)
    n_rows, n_columns = mask.shape
    padded = np.zeros((len(offsets), n_rows + 2 * rim, n_columns + 2 * rim), np.float32)
    barriers = None if contours is None else _corners(contours)
    all_inside = bool(mask.all())
    places = [segment_places(*offset) for offset in offsets.tolist()]

    def work(start, stop):
        for o, (down, right) in enumerate(offsets.tolist()):
            to = padded[o], rim, start, stop
            if barriers is not None:
                _subtract_contours(barriers, places[o], down, right, np.float32(1 / rho), *to)
            if planes is not None:
                _subtract_distances(planes, down, right, np.float32(1 / sigma**2), *to)
            part = padded[o, rim + start : rim + stop, rim : rim + n_columns]
            np.maximum(part, FAINTEST, out=part)
            np.exp(part, out=part)
            _clear_outside(mask, all_inside, down, right, *to)

    map_strips(work, n_rows, ROWS)
    graph = PixelGraph(offsets, padded)
    alone = mask & (graph.degree()[rim : rim + n_rows, rim : rim + n_columns] == 0)
    if not alone.any():
        return graph
    diagonal = np.zeros(padded.shape[1:], np.float32)
    diagonal[rim : rim + n_rows, rim : rim + n_columns] = alone
    return PixelGraph(offsets, padded, diagonal)
