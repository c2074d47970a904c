"""The graph of basins: how they merge over passes, and at which levels they are reached.

Basin 0 holds all pixels that have a label, or are outside. See `basins` for codes and padding.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from segalgos.union_find import find

__all__ = ["contract", "deep_basins", "levels", "levels_from", "link"]

BLOCK = 2048  # pixels that stay in the first cache while all neighbours pass over them
N_RECENT = 1 << 14


@njit(nogil=True, cache=True)
def _is_free(basin, low, closed):
    return low <= basin < low + closed.shape[0] and closed[basin - low]


@njit(nogil=True, cache=True)
def contract(passes, ends, n_edges, low, closed, root, parent, height):
    """Merge basins over their lowest passes until none is free (Boruvka's algorithm).

    Parameters
    ----------
    passes : (n,) float32 or float64
        Heights of the passes between basins; overwritten.
    ends : (n, 2) int32
        Both basins; overwritten.
    n_edges : int
        How many of them there are.
    low : int
    closed : (n_own,) bool
        Whether basin ``low + i`` may be merged into another: all its passes are here.
    root : (n_basins,) int32
        Disjoint sets, overwritten for these basins alone.
    parent : (n_basins,) int32
        Gets the basin that a basin was merged into, for those that were.
    height : (n_basins,) as passes
        Gets the height of the pass to the parent.

    Returns
    -------
    int
        How many edges are left, at the front: those between different roots.

    Notes
    -----
    The lowest pass from a root, ties going to the first, belongs to a minimum spanning
    tree. Two roots may choose each other; longer circles do not occur. The highest
    `height` on the way between two basins of the forest is the lowest height over which
    the one is reached from the other.
    """
    best = np.full(closed.shape[0], -1, np.int64)
    roots = np.empty(closed.shape[0], np.int32)
    n_settled = 0  # edges without a free end are moved to the front
    while True:
        n_roots = 0
        for e in range(n_settled, n_edges):
            for k in range(2):
                basin = ends[e, k]
                if _is_free(basin, low, closed):
                    b = basin - low
                    if best[b] < 0:
                        roots[n_roots] = basin
                        n_roots += 1
                        best[b] = e
                    elif passes[e] < passes[best[b]]:
                        best[b] = e
        if n_roots == 0:
            return n_edges
        for r in range(n_roots):
            basin = roots[r]
            e = best[basin - low]
            other = ends[e, 0] + ends[e, 1] - basin
            mutual = _is_free(other, low, closed) and best[other - low] == e
            if not mutual or other < basin:
                root[basin] = parent[basin] = other
                height[basin] = passes[e]
        for r in range(n_roots):
            best[roots[r] - low] = -1
        n_left = n_settled
        for e in range(n_settled, n_edges):
            # Basins of other strips are roots and not read: their strip may be changing them.
            a, b = ends[e, 0], ends[e, 1]
            if low <= a < low + closed.shape[0]:
                a = find(root, a)
            if low <= b < low + closed.shape[0]:
                b = find(root, b)
            if a != b:
                height_of_pass, target = passes[e], n_left
                if not (_is_free(a, low, closed) or _is_free(b, low, closed)):
                    passes[n_left] = passes[n_settled]
                    ends[n_left, 0], ends[n_left, 1] = ends[n_settled, 0], ends[n_settled, 1]
                    target = n_settled
                    n_settled += 1
                passes[target] = height_of_pass
                ends[target, 0], ends[target, 1] = a, b
                n_left += 1
        n_edges = n_left


@njit(nogil=True, cache=True)
def link(relief, basin_code, steps, low, high, root, parent, height, first, last):
    """Merge the basins of a strip over passes within it, as far as that is safe.

    Parameters
    ----------
    relief : (n,) float32 or float64
    basin_code : (n,) int32 or int64
        Codes of the pixels' basins.
    steps : (n_neighbours,) intp
        Positive ones only.
    low, high : int
        Ids of the basins whose minima lie in the strip.
    root, parent, height : as in `contract`
    first, last : int

    Returns
    -------
    passes, ends : (n_left,), (n_left, 2)
        Passes that are left, those to the next strip among them.

    Notes
    -----
    Basins that touch other strips are left alone. So what one strip writes no other reads,
    and levels do not depend on where strips begin.
    """
    passes = np.empty((last - first) * steps.shape[0], relief.dtype)
    ends = np.empty((passes.shape[0], 2), np.int32)
    closed = np.ones(high - low, np.bool_)
    # A basin meets another at several pixels in a row or in rows nearby: keep the lowest.
    recent = np.zeros(N_RECENT, np.int32)
    where = np.empty(BLOCK, np.int64)
    n_edges = 0
    for begin in range(first, last, BLOCK):
        for s in range(steps.shape[0]):
            step, n = steps[s], 0
            for i in range(begin, min(begin + BLOCK, last - step)):
                where[n] = i
                n += basin_code[i] != basin_code[i + step]
            for i in where[:n]:
                height_of_pass = max(relief[i], relief[i + step])
                if height_of_pass == np.inf:
                    continue
                one, other = -2 - basin_code[i], -2 - basin_code[i + step]
                a, b = min(one, other), max(one, other)
                place = (a * 31 + b) & (N_RECENT - 1)
                e = recent[place]
                if e < n_edges and ends[e, 0] == a and ends[e, 1] == b:
                    passes[e] = min(passes[e], height_of_pass)
                else:
                    recent[place] = n_edges
                    passes[n_edges] = height_of_pass
                    ends[n_edges, 0], ends[n_edges, 1] = a, b
                    n_edges += 1
    n_inside = n_edges
    for s in range(steps.shape[0]):
        for i in range(max(first, last - steps[s]), last):
            j = i + steps[s]
            height_of_pass = max(relief[i], relief[j])
            if height_of_pass < np.inf:
                basin = -2 - basin_code[i]
                if low <= basin < high:
                    closed[basin - low] = False
                if basin_code[i] != basin_code[j]:
                    passes[n_edges] = height_of_pass
                    ends[n_edges, 0], ends[n_edges, 1] = basin, -2 - basin_code[j]
                    n_edges += 1
        for i in range(first, min(last, first + steps[s])):
            basin = -2 - basin_code[i]
            if relief[i - steps[s]] < np.inf and low <= basin < high:
                closed[basin - low] = False
    n_left = contract(passes, ends, n_inside, low, closed, root, parent, height)
    for e in range(n_inside, n_edges):
        passes[n_left] = passes[e]
        for k in range(2):
            end = ends[e, k]
            ends[n_left, k] = find(root, end) if low <= end < high else end
        n_left += 1
    return passes[:n_left].copy(), ends[:n_left].copy()


@njit(nogil=True, cache=True)
def levels(parent, height):
    """Find the level at which each basin is reached from basin 0.

    Parameters
    ----------
    parent : (n_basins,) int32
        A forest.
    height : (n_basins,) float32 or float64

    Returns
    -------
    (n_basins,) as height
        Inf where it is never reached, -inf for basin 0.
    """
    level = np.full(height.shape[0], np.nan, height.dtype)
    level[0] = -np.inf
    way = np.empty(height.shape[0], np.int32)
    for basin in range(height.shape[0]):
        n = 0
        while np.isnan(level[basin]) and parent[basin] != basin:
            way[n] = basin
            n += 1
            basin = parent[basin]
        if np.isnan(level[basin]):
            level[basin] = np.inf
        reached = level[basin]
        for k in range(n - 1, -1, -1):
            reached = max(reached, height[way[k]])
            level[way[k]] = reached
    return level


# --- seeds from depths -------------------------------------------------------------------


@njit(nogil=True, cache=True)
def deep_basins(order, parent, height, bottom, depth):
    """Choose the basins that are deep enough to be kept.

    Parameters
    ----------
    order : (n_basins,) intp
        Basins in ascending order of the height of the pass to their parents.
    parent, height : as in `levels`
        A root's height is inf.
    bottom : (n_basins,) as height
        Value of each minimum.
    depth : float
        See `watershed`.

    Returns
    -------
    (n_basins,) bool
    """
    deep = np.zeros(order.shape[0], np.bool_)
    root = np.arange(order.shape[0], dtype=np.int32)
    for o in range(order.shape[0]):
        basin = order[o]
        if parent[basin] == basin:
            deep[find(root, basin)] = True  # nothing lower is left
            continue
        a, b = find(root, basin), find(root, parent[basin])
        if bottom[b] > bottom[a] or (bottom[b] == bottom[a] and b > a):
            a, b = b, a  # a's minimum is higher: its basin ends here
        below = np.float64(height[basin]) - np.float64(bottom[a])
        deep[a] = below >= depth and below > 0
        root[a] = b
    deep[0] = False
    return deep


@njit(nogil=True, cache=True)
def levels_from(order, parent, height, seeded):
    """Find the level at which each basin is reached from the seeded ones.

    Parameters
    ----------
    order, parent, height : as in `deep_basins`
    seeded : (n_basins,) bool

    Returns
    -------
    (n_basins,) as height
        Inf where it is never reached, -inf for seeded basins.
    """
    n = order.shape[0]
    root = np.arange(n, dtype=np.int32)
    tree, over = np.arange(n).astype(np.int32), np.full(n, np.inf, height.dtype)
    for basin in range(n):
        if seeded[basin]:
            tree[basin] = 0
            over[basin] = -np.inf
    is_wet = seeded.copy()
    for o in range(n):
        basin = order[o]
        a, b = find(root, basin), find(root, parent[basin])
        if a == b or (is_wet[a] and is_wet[b]):
            continue
        if is_wet[a]:
            a, b = b, a
        root[a] = tree[a] = b
        over[a] = height[basin]
    return levels(tree, over)
