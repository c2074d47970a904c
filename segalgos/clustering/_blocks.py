"""Blocks of pixels of several sizes, and the superpixels that hold them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numba import njit
from numpy.typing import NDArray

from segalgos.parallel import map_strips

__all__ = ["MIXED", "OUTSIDE", "Level", "add_up", "make_level"]

OUTSIDE, MIXED = -1, -2  # labels of blocks without pixels, and of those with several labels


@njit(nogil=True, cache=True)
def _average(features, weight, pad, sides, counts, means, first, last):
    """Average the pixels of some rows of blocks.

    Parameters
    ----------
    features : (D, H, W, C) float32
    weight : float32
        Of positions against features.
    pad : (3,) intp
        Width of the border of the next two.
    sides : (3,) intp
        Of the blocks. Those at the end of an axis may be cut short.
    counts : (d, h, w) int32, overwritten within the border
        Pixels of the block.
    means : (d, h, w, C + ndim) float32, overwritten likewise
        Mean features and weighted position.
    first, last : int
        Range of rows of blocks, counted over all slices.
    """
    depth, height, width, n_channels = features.shape
    n_rows, n_columns = -(-height // sides[1]), -(-width // sides[2])
    for row in range(first, last):
        i, j = row // n_rows, row % n_rows
        z0, y0 = i * sides[0], j * sides[1]
        z1, y1 = min(z0 + sides[0], depth), min(y0 + sides[1], height)
        for k in range(n_columns):
            x0 = k * sides[2]
            x1 = min(x0 + sides[2], width)
            count = (z1 - z0) * (y1 - y0) * (x1 - x0)
            counts[i + pad[0], j + pad[1], k + pad[2]] = count
            mean = means[i + pad[0], j + pad[1], k + pad[2]]
            if count == 1:
                for c in range(n_channels):
                    mean[c] = features[z0, y0, x0, c]
            else:
                for c in range(n_channels):
                    total = 0.0
                    for z in range(z0, z1):
                        for y in range(y0, y1):
                            for x in range(x0, x1):
                                total += features[z, y, x, c]
                    mean[c] = total / count
            mean[-1] = weight * np.float32(0.5 * (x0 + x1 - 1))
            mean[-2] = weight * np.float32(0.5 * (y0 + y1 - 1))
            if mean.shape[0] == n_channels + 3:
                mean[-3] = weight * np.float32(0.5 * (z0 + z1 - 1))


@njit(nogil=True, cache=True)
def _read(labels, pad, sides, blocks, first, last):
    """Give some rows of blocks the label that all their pixels have, else `MIXED`.

    Parameters
    ----------
    labels : (D, H, W) int32
        `OUTSIDE` outside the mask.
    blocks : (d, h, w) int32, overwritten within the border
    pad, sides, first, last : as in `_average`
    """
    depth, height, width = labels.shape
    n_rows, n_columns = -(-height // sides[1]), -(-width // sides[2])
    for row in range(first, last):
        i, j = row // n_rows, row % n_rows
        z0, y0 = i * sides[0], j * sides[1]
        z1, y1 = min(z0 + sides[0], depth), min(y0 + sides[1], height)
        for k in range(n_columns):
            x0 = k * sides[2]
            x1 = min(x0 + sides[2], width)
            label = labels[z0, y0, x0]
            for z in range(z0, z1):
                for y in range(y0, y1):
                    for x in range(x0, x1):
                        if labels[z, y, x] != label:
                            label = MIXED
            blocks[i + pad[0], j + pad[1], k + pad[2]] = label


@njit(nogil=True, cache=True)
def _write(blocks, pad, sides, labels, first, last):
    """Give the pixels of some rows of blocks their block's label, unless that is mixed.

    Parameters
    ----------
    blocks, pad, sides, first, last : as in `_read`
    labels : (D, H, W) int32, overwritten in part
    """
    depth, height, width = labels.shape
    n_rows, n_columns = -(-height // sides[1]), -(-width // sides[2])
    for row in range(first, last):
        i, j = row // n_rows, row % n_rows
        z0, y0 = i * sides[0], j * sides[1]
        for z in range(z0, min(z0 + sides[0], depth)):
            for y in range(y0, min(y0 + sides[1], height)):
                for k in range(n_columns):
                    label = blocks[i + pad[0], j + pad[1], k + pad[2]]
                    if label >= 0:
                        x0 = k * sides[2]
                        labels[z, y, x0 : min(x0 + sides[2], width)] = label


@njit(nogil=True, cache=True)
def _find_boundary(blocks, steps, first, last):
    """List blocks that have another superpixel beside them, as flat indices in order."""
    own = blocks[first:last]
    between = np.zeros(last - first, np.bool_)
    for step in steps:
        other = blocks[first + step : last + step]
        for i in range(own.shape[0]):  # a vector
            between[i] |= (own[i] != other[i]) & (own[i] >= 0) & (other[i] >= 0)
    return np.flatnonzero(between) + first


@dataclass(frozen=True, eq=False)
class Level:
    """Blocks of one size, which fill the image from its first pixel on.

    Parameters
    ----------
    side : int
    pad, sides : (3,) intp
        Width of the border, and sides of a block, along each axis.
    counts : (d, h, w) int32
        Pixels of each block, 0 in the border.
    means : (d, h, w, C + ndim) float32
        Mean features and weighted positions.
    """

    side: int
    pad: NDArray[np.intp]
    sides: NDArray[np.intp]
    counts: NDArray[np.int32]
    means: NDArray[np.float32]

    def _over_rows(self, kernel):
        depth, height, width = self.counts.shape - 2 * self.pad
        map_strips(kernel, depth * height, max(1, 65536 // (width * self.side**2)))

    def read(self, labels: NDArray[np.int32]) -> NDArray[np.int32]:
        """Find the blocks' labels.

        Parameters
        ----------
        labels : (D, H, W) int32

        Returns
        -------
        (d, h, w) int32
            `MIXED` where pixels differ, `OUTSIDE` in the border and outside the mask.
        """
        blocks = np.full(self.counts.shape, OUTSIDE, np.int32)
        self._over_rows(partial(_read, labels, self.pad, self.sides, blocks))
        return blocks

    def write(self, blocks: NDArray[np.int32], labels: NDArray[np.int32]) -> None:
        """Give pixels the label of their block.

        Parameters
        ----------
        blocks : (d, h, w) int32
            Those below 0 leave their pixels as they are.
        labels : (D, H, W) int32, overwritten
        """
        self._over_rows(partial(_write, blocks, self.pad, self.sides, labels))

    def find_boundary(
        self, blocks: NDArray[np.int32], steps: NDArray[np.intp]
    ) -> NDArray[np.int64]:
        """List blocks that have another superpixel beside them.

        Parameters
        ----------
        blocks : (d, h, w) int32
        steps : (n,) intp
            To neighbours, as differences of flat indices.

        Returns
        -------
        (n_found,) int64
            Flat indices, ascending.
        """
        border, flat = int(steps.max()), blocks.ravel()

        def find(first, last):
            return _find_boundary(flat, steps, first + border, last + border)

        return np.concatenate(map_strips(find, flat.size - 2 * border))


def make_level(features: NDArray[np.float32], weight: float, side: int, ndim: int) -> Level:
    """Cut an image into blocks.

    Parameters
    ----------
    features : (D, H, W, C) float32
    weight : float
        Of positions against features.
    side : int
    ndim : int
        2 for squares in an image of one slice, 3 for cubes.

    Returns
    -------
    Level
    """
    pad = np.array([ndim == 3, True, True], np.intp)
    sides = np.where(pad, side, 1)
    shape = tuple(-(-np.array(features.shape[:3]) // sides) + 2 * pad)
    counts = np.zeros(shape, np.int32)
    means = np.zeros((*shape, features.shape[3] + ndim), np.float32)
    level = Level(side, pad, sides, counts, means)
    level._over_rows(partial(_average, features, np.float32(weight), pad, sides, counts, means))
    return level


# --- sums over superpixels ---------------------------------------------------------------


@njit(nogil=True, cache=True)
def _add_up(labels, features, weight, ndim, first, last):
    """Add up the pixels of some rows by their label.

    Parameters
    ----------
    labels : (D, H, W) int32
    features, weight, ndim : as in `make_level`
    first, last : int
        Range of rows of pixels, counted over all slices.

    Returns
    -------
    lowest : int
        Label of the first sum. Labels in raster order make it a short table.
    sums : (n, 1 + C + ndim) float64
    """
    height, width, n_channels = features.shape[1:]
    lowest, highest = np.int64(np.iinfo(np.int64).max), np.int64(-1)
    for row in range(first, last):
        for label in labels[row // height, row % height]:
            if label >= 0:
                lowest, highest = min(lowest, label), max(highest, label)
    if highest < 0:
        return np.int64(0), np.zeros((0, 1 + n_channels + ndim))
    sums = np.zeros((highest - lowest + 1, 1 + n_channels + ndim))
    for row in range(first, last):
        z, y = row // height, row % height
        end = 0
        while end < width:  # run by run of equal labels
            start, label = end, labels[z, y, end]
            while end < width and labels[z, y, end] == label:
                end += 1
            if label < 0:
                continue
            total, length = sums[label - lowest], end - start
            total[0] += length
            for c in range(n_channels):
                part = 0.0
                for x in range(start, end):
                    part += features[z, y, x, c]
                total[1 + c] += part
            total[-1] += weight * length * 0.5 * (start + end - 1)
            total[-2] += weight * length * y
            if ndim == 3:
                total[-3] += weight * length * z
    return lowest, sums


def add_up(
    labels: NDArray[np.int32], features: NDArray[np.float32], weight: float, ndim: int
) -> NDArray[np.float64]:
    """Add up the pixels of each superpixel.

    Parameters
    ----------
    labels : (D, H, W) int32
        Numbers 0..n-1 in about raster order, and -1.
    features, weight, ndim : as in `make_level`

    Returns
    -------
    (n, 1 + C + ndim) float64
        Pixels, sums of features and sums of weighted positions.
    """
    n_rows, strip = labels.shape[0] * labels.shape[1], max(1, 65536 // labels.shape[2])
    sums = np.zeros((int(labels.max()) + 1, 1 + features.shape[3] + ndim))
    for lowest, part in map_strips(partial(_add_up, labels, features, weight, ndim), n_rows, strip):
        sums[lowest : lowest + len(part)] += part
    return sums
