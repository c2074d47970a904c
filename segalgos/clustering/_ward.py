"""Similar superpixels joined, by Ward's cost, until few enough are left."""

from __future__ import annotations

from functools import partial

import numpy as np
from numba import njit
from numpy.typing import NDArray

from segalgos.parallel import map_strips
from segalgos.union_find import find

__all__ = ["join_similar"]


@njit(nogil=True, cache=True)
def _list_pairs(labels, n_segments, first, last):
    """List pairs of superpixels that meet in some rows or across their upper side.

    Parameters
    ----------
    labels : (D, H, W) int32
    n_segments : int
    first, last : int
        Range of rows, counted over all slices.

    Returns
    -------
    (n_pairs,) int64
        The lower label times `n_segments` plus the higher, some of them repeatedly.
    """
    height, width = labels.shape[1:]
    pairs = np.empty(3 * (last - first) * width, np.int64)
    n = 0
    for row in range(first, last):
        z, y = row // height, row % height
        for dz, dy, dx in ((0, 0, 1), (0, 1, 0), (1, 0, 0)):
            if z < dz or y < dy:
                continue
            previous = np.int64(-1)
            for x in range(dx, width):
                a, b = labels[z, y, x], labels[z - dz, y - dy, x - dx]
                if a != b and a >= 0 and b >= 0:
                    pair = np.int64(min(a, b)) * n_segments + max(a, b)
                    if pair != previous:  # once for each run along a boundary
                        pairs[n] = previous = pair
                        n += 1
    return pairs[:n].copy()


@njit(nogil=True, cache=True)
def _join(lower, higher, sums, n_segments, parent):
    """Join the cheapest pairs first.

    Parameters
    ----------
    lower, higher : (n_pairs,) int64, overwritten
        Superpixels that meet.
    sums : (n, 1 + F) float64, changed in place
        Pixels and sums of features of each.
    n_segments : int
        How many to leave.
    parent : (n,) intp, 0..n-1, changed in place
        Trees of joined superpixels, the lowest number at the root.

    Notes
    -----
    In rounds: costs are brought up to date when half of what is to be done is done, and a
    superpixel is joined once a round. O(n_pairs log n_pairs) time for each of the
    log2(n - n_segments) rounds.
    """
    n_left = parent.shape[0]
    costs = np.empty(lower.shape[0])
    while n_left > n_segments:
        for i in range(lower.shape[0]):
            a, b = find(parent, lower[i]), find(parent, higher[i])
            lower[i], higher[i] = min(a, b), max(a, b)
            distance = 0.0
            for f in range(1, sums.shape[1]):
                difference = sums[a, f] / sums[a, 0] - sums[b, f] / sums[b, 0]
                distance += difference * difference
            costs[i] = distance * sums[a, 0] * sums[b, 0] / (sums[a, 0] + sums[b, 0])
        joined = np.zeros(parent.shape[0], np.bool_)
        n_before = n_left
        aim = n_left - (n_left - n_segments + 1) // 2
        for i in np.argsort(costs, kind="mergesort"):
            a, b = lower[i], higher[i]
            if a == b or joined[a] or joined[b]:
                continue
            joined[a] = joined[b] = True
            parent[b] = a
            sums[a] += sums[b]
            n_left -= 1
            if n_left <= aim:
                break
        if n_left == n_before:
            break  # none of those that are left meet


def join_similar(
    labels: NDArray[np.int32], sums: NDArray[np.float64], n_segments: int
) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
    """Join superpixels that meet, the most similar first.

    Parameters
    ----------
    labels : (D, H, W) int32
        Numbers 0..n-1 and -1.
    sums : (n, 1 + F) float64
        Pixels of each, and sums of their features.
    n_segments : int
        How many to leave, unless the mask keeps more apart.

    Returns
    -------
    labels : (D, H, W) int32
    number : (n,) intp
        The new number of each superpixel. Numbers have the order of the lowest old ones.

    Notes
    -----
    Joining two costs what the squared distance of all pixels to their superpixel's mean grows
    by [1]_.

    References
    ----------
    .. [1] J. H. Ward, "Hierarchical grouping to optimize an objective function", J. Am. Stat.
       Assoc. 58(301), 236-244, 1963.
    """
    n = len(sums)
    n_rows, strip = labels.shape[0] * labels.shape[1], max(1, 65536 // labels.shape[2])
    pairs = np.unique(np.concatenate(map_strips(partial(_list_pairs, labels, n), n_rows, strip)))
    parent = np.arange(n)
    _join(pairs // n, pairs % n, sums.copy(), n_segments, parent)
    roots = np.array([find(parent, i) for i in range(n)])
    number = np.unique(roots, return_inverse=True)[1]
    return np.append(number, -1).astype(np.int32)[labels], number
