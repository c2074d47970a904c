"""Comaniciu and Meer's fusion: from the modes of pixels to regions."""

from __future__ import annotations

import heapq

import numpy as np
from numba import njit
from numpy.typing import NDArray

from segalgos.region_graph import region_graph
from segalgos.union_find import find

__all__ = ["fuse"]


@njit(nogil=True, cache=True)
def _squared_distance(colors, a, b):
    distance = np.float32(0)
    for c in range(colors.shape[1]):
        distance += (colors[a, c] - colors[b, c]) ** 2
    return distance


@njit(nogil=True, cache=True)
def _unite(parent, a, b):
    """Join two sets under the lower of their roots."""
    a, b = find(parent, a), find(parent, b)
    if a != b:
        parent[max(a, b)] = min(a, b)


@njit(nogil=True, cache=True)
def _connect(points, colors, limit, parent):
    """Join pixels that touch and whose modes are nearly the same.

    Parameters
    ----------
    points : (D, H, W) int32
        Row of each pixel in `colors`, -1 outside the mask.
    colors : (n_points, C) float32
        Where their trajectories ended.
    limit : float32
        Largest squared distance.
    parent : (n_pixels,) int32 or int64, overwritten
        A tree for each component, with its first pixel as the root.
    """
    depth, height, width = points.shape
    steps = (1, width, width * height)
    flat = points.ravel()
    i = -1
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                i += 1
                parent[i] = i
                p = flat[i]
                if p < 0:
                    continue
                for axis, has_before in enumerate((x > 0, y > 0, z > 0)):
                    if has_before:
                        q = flat[i - steps[axis]]
                        if q == p or (q >= 0 and _squared_distance(colors, p, q) <= limit):
                            _unite(parent, i, i - steps[axis])


@njit(nogil=True, cache=True)
def _number(points, parent, labels):
    """Number components (all flat) in raster order, -1 outside the mask; return how many."""
    n = 0
    for i in range(points.shape[0]):
        if points[i] < 0:
            labels[i] = -1
        elif parent[i] == i:
            labels[i] = n
            n += 1
        else:
            labels[i] = labels[parent[i]]  # roots are lower, so parents have theirs already
    return n


@njit(nogil=True, cache=True)
def _add_modes(points, colors, labels, sums):
    """Add up the modes of the pixels (all flat) of each region."""
    for i in range(points.shape[0]):
        if points[i] >= 0:
            for c in range(colors.shape[1]):
                sums[labels[i], c] += colors[points[i], c]


@njit(nogil=True, cache=True)
def _absorb(parent, means, sizes, small, large):
    """Make one region part of another, whose mode becomes the mean of both."""
    total = sizes[small] + sizes[large]
    share = np.float32(sizes[small] / total)
    for c in range(means.shape[1]):
        means[large, c] += (means[small, c] - means[large, c]) * share
    sizes[large] = total
    parent[small] = large


@njit(nogil=True, cache=True)
def _close(indptr, indices, means, sizes, limit, parent):
    """Join all regions that a chain of touching regions with near modes connects.

    Parameters
    ----------
    indptr, indices : (n_regions + 1,) and (n_entries,) int
        Which regions touch, as in `segalgos.region_graph.RegionGraph`.
    means : (n_regions, C) float32, overwritten
        Mode of each region.
    sizes : (n_regions,) int64, overwritten
        Its pixels.
    limit : float32
        Largest squared distance.
    parent : (n_regions,) int64
        Each region's own index; overwritten.
    """
    n = parent.shape[0]
    for a in range(n):
        for b in indices[indptr[a] : indptr[a + 1]]:
            if b < a and _squared_distance(means, a, b) <= limit:
                _unite(parent, a, b)
    for a in range(n):  # only after all comparisons, so that their order does not matter
        root = find(parent, a)
        if root != a:
            _absorb(parent, means, sizes, a, root)


@njit(nogil=True, cache=True)
def _eliminate(indptr, indices, means, sizes, min_size, parent):
    """Join the smallest region to the one it touches of nearest mode, while too small.

    Parameters
    ----------
    indptr, indices, means, sizes, parent
        As `_close` takes and leaves them.
    min_size : int
        Regions of fewer pixels are joined, unless they touch none.

    Notes
    -----
    Ties go to the lower index. O(n log n) time in the borders of small regions.
    """
    n = parent.shape[0]
    # The regions that were joined form a chain, to walk over the borders of all.
    follower, tail = np.full(n, -1), np.arange(n)
    for member in range(n):
        root = parent[member]
        if root != member:
            follower[tail[root]] = member
            tail[root] = member
    heap = [sizes[r] * n + r for r in range(n) if parent[r] == r and sizes[r] < min_size]
    heapq.heapify(heap)
    while heap:
        key = heapq.heappop(heap)
        small, size_then = key % n, key // n
        if parent[small] != small or sizes[small] != size_then:
            continue  # it was joined to another, or grew, since
        best, best_distance = -1, np.float32(np.inf)
        member = small
        while member >= 0:
            for neighbour in indices[indptr[member] : indptr[member + 1]]:
                other = find(parent, neighbour)
                if other in (small, best):
                    continue
                distance = _squared_distance(means, small, other)
                if best < 0 or (distance, other) < (best_distance, best):
                    best, best_distance = other, distance
            member = follower[member]
        if best < 0:
            continue
        _absorb(parent, means, sizes, small, best)
        follower[tail[best]] = small
        tail[best] = tail[small]
        if sizes[best] < min_size:
            heapq.heappush(heap, sizes[best] * n + best)


@njit(nogil=True, cache=True)
def _renumber(parent, labels):
    """Give joined regions their ids, in raster order, in a flat label map."""
    number = np.full(parent.shape[0], -1, np.int32)
    n = 0
    for i in range(labels.shape[0]):
        if labels[i] >= 0:
            root = find(parent, labels[i])
            if number[root] < 0:
                number[root] = n
                n += 1
            labels[i] = number[root]


def fuse(
    points: NDArray[np.int32],
    colors: NDArray[np.float32],
    one_mode: float,
    near: float,
    min_size: int,
) -> NDArray[np.int32]:
    """Make regions of pixels whose modes are near in colour.

    Pixels of one mode that touch are a region. Touching regions with modes at most `near`
    apart are joined, and so is whatever such a chain connects. Then, from
    the smallest, regions below `min_size` go to the one of nearest mode that they touch.

    Parameters
    ----------
    points : (D, H, W) int32
        Row of each pixel in `colors`, -1 outside the mask.
    colors : (n_points, C) float32, C-contiguous
        The modes' colours.
    one_mode, near : float
        Distance of colours up to which modes are the same one, and up to which they make
        regions one.
    min_size : int
        In pixels.

    Returns
    -------
    (D, H, W) int32
        Ids 0..n-1 in raster order, each one piece over the sides of pixels; -1 outside the
        mask.

    Notes
    -----
    O(n_pixels * C) time, plus O(n log n) in the borders of small regions. A region's mode
    is the mean over its pixels.
    """
    parent = np.empty(points.size, np.int32 if points.size < 1 << 31 else np.int64)
    _connect(points, colors, np.float32(one_mode * one_mode), parent)
    labels = np.empty(points.shape, np.int32)
    flat, flat_labels = points.ravel(), labels.ravel()
    n_regions = _number(flat, parent, flat_labels)
    graph = region_graph(labels)
    sums, sizes = np.zeros((n_regions, colors.shape[1])), graph.size.copy()
    _add_modes(flat, colors, flat_labels, sums)
    means = (sums / sizes[:, None]).astype(np.float32)
    parent = np.arange(n_regions)
    _close(graph.indptr, graph.indices, means, sizes, np.float32(near * near), parent)
    _eliminate(graph.indptr, graph.indices, means, sizes, min_size, parent)
    _renumber(parent, flat_labels)
    return labels
