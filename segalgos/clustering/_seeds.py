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
def _sum_rows(mass, sums):
    """Add the mass (n, m) of each row to sums (n,)."""
    for i in range(mass.shape[0]):
        for j in range(mass.shape[1]):
            sums[i] += mass[i, j]


@njit(nogil=True, cache=True)
def _sum_columns(mass, sums):
    """Add the mass (n, m) of each column to sums (m,)."""
    for i in range(mass.shape[0]):
        for j in range(mass.shape[1]):
            sums[j] += mass[i, j]


def spread(mass: NDArray, n_seeds: int, spacing: float) -> NDArray[np.intp]:
    """Place seeds so that each has about the same mass around it.

    The first axis is cut into slabs of about `spacing`, each slab gets seeds by its mass,
    and places them on its other axes in the same way.

    Parameters
    ----------
    mass : (D, H, W), (H, W) or (W,) bool or int64, C-contiguous
    n_seeds : int
    spacing : float

    Returns
    -------
    (n_seeds, ndim) intp
        Positions where mass is not zero.
    """
    if mass.ndim == 1:
        # The middle of each n-th part, in integers. Of two middles the lower, as ties in
        # distance go to the lower index too: so a plain image gets even cells.
        cumulative = np.cumsum(mass, dtype=np.int64)
        ranks = (2 * np.arange(n_seeds) + 1) * cumulative[-1]
        return np.searchsorted(2 * n_seeds * cumulative, ranks)[:, None]
    if len(mass) == 1:
        return np.insert(spread(mass[0], n_seeds, spacing), 0, 0, axis=1)
    of_planes = np.zeros(len(mass), np.int64)
    _sum_rows(mass.reshape(len(mass), -1), of_planes)
    planes = np.flatnonzero(of_planes)
    n_slabs = min(max(round(len(planes) / spacing), 1), n_seeds, len(planes))
    slabs = np.array_split(planes, n_slabs)
    shares = np.cumsum([of_planes[slab].sum() for slab in slabs]) / of_planes.sum()
    counts = np.diff(np.rint(shares * n_seeds).astype(int), prepend=0)
    seeds = []
    for slab, count in zip(slabs, counts, strict=True):
        if count:
            within = mass[slab[0] : slab[-1] + 1]
            of_columns = np.zeros(mass.shape[1:], np.int64)
            _sum_columns(within.reshape(len(within), -1), of_columns.reshape(-1))
            rest = spread(of_columns, count, spacing)
            # In each seed's column, the plane with mass that is nearest to the middle.
            distance = np.abs(np.arange(len(within)) - (len(within) - 1) / 2)[:, None]
            column = within[(slice(None), *rest.T)] > 0
            plane = slab[0] + np.argmin(np.where(column, distance, np.inf), axis=0)
            seeds.append(np.column_stack([plane, rest]))
    return np.concatenate(seeds)


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
