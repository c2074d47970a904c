"""Seeds of superpixels: spread evenly over a mask, and moved off edges."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["settle", "spacing_of", "spread"]


def spacing_of(mask: NDArray[np.bool_], n_segments: int) -> float:
    """Side of the cells that share a mask evenly, in pixels.

    Axes thinner than a cell do not count: a line is cut into pieces, not into squares.

    Parameters
    ----------
    mask : (D, H, W) bool
        True somewhere.
    n_segments : int

    Returns
    -------
    float
        At least 1.
    """
    axes = range(mask.ndim)
    inhabited = [np.flatnonzero(mask.any(axis=tuple(a for a in axes if a != b))) for b in axes]
    extents = sorted(int(np.ptp(planes)) + 1 for planes in inhabited)
    area = np.count_nonzero(mask) / n_segments
    while len(extents) > 1 and extents[0] < area ** (1 / len(extents)):
        area /= extents.pop(0)
    return max(area ** (1 / len(extents)), 1.0)


@njit(nogil=True, cache=True)
def _cut_into_slabs(of_planes, n_seeds, spacing):
    """Cut an axis into slabs of about `spacing`, and share the seeds among them by mass.

    Parameters
    ----------
    of_planes : (n,) int64
        Mass at each place of the axis.
    n_seeds : int
    spacing : float

    Returns
    -------
    slabs : (n_slabs, 3) intp
        First and last plane, and how many seeds.
    """
    planes = np.flatnonzero(of_planes)
    n_slabs = min(max(int(np.rint(len(planes) / spacing)), 1), n_seeds, len(planes))
    slabs = np.empty((n_slabs, 3), np.intp)
    total, reached, n_placed, begin = of_planes.sum(), 0, 0, 0
    for i in range(n_slabs):
        end = begin + len(planes) // n_slabs + (i < len(planes) % n_slabs)
        slabs[i, 0], slabs[i, 1] = planes[begin], planes[end - 1]
        reached += of_planes[planes[begin] : planes[end - 1] + 1].sum()
        n_until = int(np.rint(reached / total * n_seeds))
        slabs[i, 2] = n_until - n_placed
        n_placed, begin = n_until, end
    return slabs


@njit(nogil=True, cache=True)
def _spread_on_line(mass, n_seeds, seeds):
    """Place seeds (n_seeds,) at the middle of each n-th part of a line (W,) of masses.

    In integers; of two middles the lower, as ties in distance go to the lower index too: so
    a plain image gets even cells.
    """
    total, reached, x = mass.sum(), mass[0], 0
    for i in range(n_seeds):
        while 2 * n_seeds * reached < (2 * i + 1) * total:
            x += 1
            reached += mass[x]
        seeds[i] = x


@njit(nogil=True, cache=True)
def _spread_on_plane(mass, n_seeds, spacing, seeds):
    """Place seeds (n_seeds, 2) on a plane (H, W) of masses, as `spread` does."""
    of_rows, of_columns = np.zeros(mass.shape[0], np.int64), np.empty(mass.shape[1], np.int64)
    for y in range(mass.shape[0]):
        for x in range(mass.shape[1]):
            of_rows[y] += mass[y, x]
    n = 0
    for first, last, count in _cut_into_slabs(of_rows, n_seeds, spacing):
        of_columns[:] = 0
        for y in range(first, last + 1):
            for x in range(mass.shape[1]):
                of_columns[x] += mass[y, x]
        _spread_on_line(of_columns, count, seeds[n : n + count, 1])
        for i in range(n, n + count):
            best = -1  # the row with mass that is nearest to the middle
            for y in range(first, last + 1):
                is_nearer = best < 0 or abs(2 * y - first - last) < abs(2 * best - first - last)
                if mass[y, seeds[i, 1]] > 0 and is_nearer:
                    best = y
            seeds[i, 0] = best
        n += count


@njit(nogil=True, cache=True)
def _spread_in_volume(mask, n_seeds, spacing, seeds):
    """Place seeds (n_seeds, 3) in a volume, as `spread` does."""
    if mask.shape[0] == 1:
        seeds[:, 0] = 0
        _spread_on_plane(mask[0], n_seeds, spacing, seeds[:, 1:])
        return
    of_slices = np.zeros(mask.shape[0], np.int64)
    of_columns = np.empty(mask.shape[1:], np.int64)
    for z in range(mask.shape[0]):
        for y in range(mask.shape[1]):
            for x in range(mask.shape[2]):
                of_slices[z] += mask[z, y, x]
    n = 0
    for first, last, count in _cut_into_slabs(of_slices, n_seeds, spacing):
        of_columns[:] = 0
        for z in range(first, last + 1):
            for y in range(mask.shape[1]):
                for x in range(mask.shape[2]):
                    of_columns[y, x] += mask[z, y, x]
        if count == 0:
            continue
        _spread_on_plane(of_columns, count, spacing, seeds[n : n + count, 1:])
        for i in range(n, n + count):
            best = -1
            for z in range(first, last + 1):
                is_nearer = best < 0 or abs(2 * z - first - last) < abs(2 * best - first - last)
                if mask[z, seeds[i, 1], seeds[i, 2]] and is_nearer:
                    best = z
            seeds[i, 0] = best
        n += count


def spread(mask: NDArray[np.bool_], n_seeds: int, spacing: float) -> NDArray[np.intp]:
    """Place seeds so that each has about the same part of a mask around it.

    The first axis is cut into slabs of about `spacing`, each slab gets seeds by its mass,
    and places them on its other axes in the same way.

    Parameters
    ----------
    mask : (D, H, W) bool, C-contiguous
        True somewhere.
    n_seeds : int
    spacing : float

    Returns
    -------
    (n_seeds, 3) intp
        Positions inside the mask.

    Notes
    -----
    O(n_pixels) time.
    """
    seeds = np.empty((n_seeds, 3), np.intp)
    _spread_in_volume(mask, n_seeds, spacing, seeds)
    return seeds


@njit(nogil=True, cache=True)
def _gradient(features, mask, z, y, x):
    """Squared difference of both neighbours, summed over axes and channels."""
    total = 0.0
    for dz, dy, dx in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):
        # A neighbour outside the image or the mask is as if it were the pixel itself.
        z1, y1, x1, z2, y2, x2 = z, y, x, z, y, x
        if z >= dz and y >= dy and x >= dx and mask[z - dz, y - dy, x - dx]:
            z1, y1, x1 = z - dz, y - dy, x - dx
        exists = z + dz < mask.shape[0] and y + dy < mask.shape[1] and x + dx < mask.shape[2]
        if exists and mask[z + dz, y + dy, x + dx]:
            z2, y2, x2 = z + dz, y + dy, x + dx
        for c in range(features.shape[0]):
            difference = np.float64(features[c, z2, y2, x2]) - np.float64(features[c, z1, y1, x1])
            total += difference * difference
    return total


@njit(nogil=True, cache=True)
def settle(features, mask, seeds):
    """Move each seed to the lowest gradient around it, so that none starts on an edge.

    Parameters
    ----------
    features : (C, D, H, W) float32
    mask : (D, H, W) bool
    seeds : (n_seeds, 3) intp, overwritten
    """
    depth, height, width = mask.shape
    for s in range(seeds.shape[0]):
        z, y, x = seeds[s]
        lowest = _gradient(features, mask, z, y, x)
        for z2 in range(max(z - 1, 0), min(z + 2, depth)):
            for y2 in range(max(y - 1, 0), min(y + 2, height)):
                for x2 in range(max(x - 1, 0), min(x + 2, width)):
                    if mask[z2, y2, x2]:
                        gradient = _gradient(features, mask, z2, y2, x2)
                        if gradient < lowest:
                            lowest = gradient
                            seeds[s, 0], seeds[s, 1], seeds[s, 2] = z2, y2, x2
