"""Loops over the nodes of a hierarchy, and over the pixels on both sides of its contours.

Node i of n base regions and m merges is a base region below n, else what merge ``i - n`` made.
"""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = [
    "add_areas",
    "fill_contours",
    "find_segments",
    "join_below",
    "levels_between",
    "link",
    "spread_labels",
]


@njit(nogil=True, cache=True)
def find_segments(merges, applied, n):
    """Find the segment of each base region.

    Parameters
    ----------
    merges : (m, 2) int64
    applied : (m,) bool
        Which merges are done.
    n : int
        Number of base regions.

    Returns
    -------
    (n + 1,) int32
        Segments, numbered in the order of their first base region; the last entry is -1,
        which is what base region -1 finds.
    """
    m = merges.shape[0]
    root = np.arange(n + m)
    for i in range(m - 1, -1, -1):  # children after their parent, so one pass is enough
        if applied[i]:
            root[merges[i, 0]] = root[merges[i, 1]] = root[n + i]
    number = np.full(n + m, -1, np.int32)
    segments = np.full(n + 1, -1, np.int32)
    n_segments = 0
    for region in range(n):
        if number[root[region]] < 0:
            number[root[region]] = n_segments
            n_segments += 1
        segments[region] = number[root[region]]
    return segments


@njit(nogil=True, cache=True)
def add_areas(merges, area):
    """Add up the areas of merged regions.

    Parameters
    ----------
    merges : (m, 2) int64
    area : (n + m,) int64
        Pixels of the base regions, then room for merges; overwritten.
    """
    n = area.shape[0] - merges.shape[0]
    for i in range(merges.shape[0]):
        area[n + i] = area[merges[i, 0]] + area[merges[i, 1]]


@njit(nogil=True, cache=True)
def join_below(merges, n, applied):
    """Apply all merges below those that are applied, since a node is joined as a whole.

    Parameters
    ----------
    merges : (m, 2) int64
    n : int
    applied : (m,) bool, overwritten
    """
    for i in range(merges.shape[0] - 1, -1, -1):
        if applied[i]:
            for child in merges[i]:
                if child >= n:
                    applied[child - n] = True


@njit(nogil=True, cache=True)
def spread_labels(merges, label, count):
    """Give every node without a label that of its lowest ancestor that has one.

    Parameters
    ----------
    merges : (m, 2) int64
    label : (n + m,) int32
        Of base regions, -1 for none, then room for merges; overwritten.
    count : (n + m,) int64
        How many pixels speak for each label; overwritten.
    """
    n = label.shape[0] - merges.shape[0]
    for i in range(merges.shape[0]):
        a, b = merges[i]
        if label[b] >= 0 and (label[a] < 0 or count[b] > count[a]):
            a, b = b, a
        label[n + i], count[n + i] = label[a], count[a]
        if label[a] == label[b]:
            count[n + i] += count[b]
    for i in range(merges.shape[0] - 1, -1, -1):
        for child in merges[i]:
            if label[child] < 0:
                label[child] = label[n + i]


# --- where two regions meet --------------------------------------------------------------


@njit(nogil=True, cache=True)
def link(merges, n):
    """Build shallow trees in which merges of base regions are looked up.

    Parameters
    ----------
    merges : (m, 2) int64
    n : int

    Returns
    -------
    parent : (n,) int64
        The base region that stands for the larger part of a merge; a root is its own.
    time : (n,) int64
        The merge that linked each base region to its parent; m for a root.

    Notes
    -----
    The smaller part is linked to the larger, so ways to a root have at most log2(n) links,
    and times rise on them.
    """
    m = merges.shape[0]
    parent, time = np.arange(n), np.full(n, m)
    size = np.ones(n, np.int64)
    root = np.empty(n + m, np.int64)
    root[:n] = np.arange(n)
    for i in range(m):
        a, b = root[merges[i, 0]], root[merges[i, 1]]
        if size[a] < size[b]:
            a, b = b, a
        parent[b], time[b] = a, i
        size[a] += size[b]
        root[n + i] = a
    return parent, time


@njit(nogil=True, cache=True)
def _first_common(parent, time, a, b, never):
    """The merge that joins two different base regions, or `never`."""
    merge = never
    while a != b:
        if time[b] < time[a]:
            a, b = b, a
        merge = time[a]  # the earlier of two links is taken, so these rise
        if merge == never:
            break
        a = parent[a]
    return merge


@njit(nogil=True, cache=True)
def levels_between(parent, time, levels, first, second, out):
    """Look up the levels at which pairs of base regions are joined.

    Parameters
    ----------
    parent, time : (n,) int64
        Made by `link`.
    levels : (m + 1,) float64
        Of the merges, then inf.
    first, second : (n_pairs,) int32
        Base regions; -1 is outside the mask.
    out : (n_pairs,) float32 or float64, overwritten where both differ
    """
    a, b, level = -1, -1, 0.0
    for i in range(first.shape[0]):
        if first[i] == second[i]:
            continue
        if first[i] != a or second[i] != b:  # contours mostly go on between the same two
            a, b = first[i], second[i]
            level = np.inf
            if a >= 0 and b >= 0:
                level = levels[_first_common(parent, time, a, b, levels.shape[0] - 1)]
        out[i] = level


@njit(nogil=True, cache=True)
def fill_contours(regions, parent, time, levels, contours, first, last):
    """Write the levels between neighbouring pixels of a range of rows.

    Parameters
    ----------
    regions : (H, W) int32
    parent, time, levels : as in `levels_between`
    contours : (2 H + 1, 2 W + 1) float32
        All 0; overwritten in part.
    first, last : int
    """
    for r in range(first, last):
        here = regions[r]
        right = contours[2 * r + 1, 2:-1:2]
        levels_between(parent, time, levels, here[:-1], here[1:], right)
        if r + 1 < regions.shape[0]:
            below = contours[2 * r + 2, 1:-1:2]
            levels_between(parent, time, levels, here[:], regions[r + 1][:], below)
