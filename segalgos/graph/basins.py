"""Catchment basins of a relief: the parts of the watershed that run in strips.

Every kernel here works on a flat relief that was padded with inf on all sides, so that the
neighbours of pixel ``i`` are ``i + steps``. Inf stands for "outside": it takes no part.

A pixel's *pointer* is the index of the pixel that it drains to, or, if negative, the code
``-2 - label`` of its label: so -1 stands for the label -1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numba import njit
from numpy.typing import NDArray

from segalgos.parallel import map_strips
from segalgos.union_find import find

__all__ = ["Basins", "find_basins", "flood", "seed_deep_basins"]

STRIP, MIN_ROWS = 1 << 16, 32  # pixels of a strip, and at least so many rows or slices
BLOCK = 2048  # pixels that stay in the first cache while all neighbours pass over them
N_RECENT = 1 << 14


# --- pointers ----------------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _descend(relief, labels, steps, strictly, pointer, first, last):
    """Point each pixel at its lowest neighbour, ties going to the lower index.

    Parameters
    ----------
    relief : (n,) float32 or float64
    labels : (n,) int32
        Pixels with a label of at least 0 point nowhere.
    steps : (n_neighbours,) intp, ascending
    strictly : bool
        Whether a neighbour of the same value and a lower index is not lower.
    pointer : (n,) int32 or int64, overwritten in part
        Minima, labelled pixels and pixels outside point at themselves.
    first, last : int
        Range of pixels.

    Returns
    -------
    int
        Number of minima: unlabelled pixels without a lower neighbour.
    """
    lowest = np.empty(BLOCK, relief.dtype)
    where = np.empty(BLOCK, np.int32)
    n_minima = 0
    for begin in range(first, last, BLOCK):
        n = min(BLOCK, last - begin)
        value, step_to = lowest[:n], where[:n]
        value[:] = np.inf
        step_to[:] = 0
        for s in range(steps.shape[0]):
            step = np.int32(steps[s])
            other = relief[begin + steps[s] : begin + steps[s] + n]
            for i in range(n):
                lower = other[i] < value[i]
                value[i] = other[i] if lower else value[i]
                step_to[i] = step if lower else step_to[i]
        here, known = relief[begin : begin + n], labels[begin : begin + n]
        target = pointer[begin : begin + n]
        for i in range(n):
            drains = (value[i] == here[i]) & (step_to[i] < 0) & (not strictly)
            drains = (drains | (value[i] < here[i])) & (known[i] < 0)
            target[i] = begin + i + (step_to[i] if drains else 0)
            n_minima += not drains and known[i] < 0 and here[i] < np.inf
    return n_minima


@njit(nogil=True, cache=True)
def _number(relief, labels, pointer, minima, next_id, first, last):
    """Give the minima of a strip their basins' ids, in order; 0 is for all labelled pixels.

    Parameters
    ----------
    relief, labels : as in `_descend`
    pointer : (n,) int32 or int64
        Where it pointed at itself it gets a code instead.
    minima : (n_basins,) of the same dtype, overwritten in part
    next_id : int
        Id of the strip's first minimum.
    first, last : int
    """
    for i in range(first, last):
        if pointer[i] == i:
            if relief[i] == np.inf or labels[i] >= 0:
                pointer[i] = -2
            else:
                pointer[i] = -2 - next_id
                minima[next_id] = i
                next_id += 1


@njit(nogil=True, cache=True)
def _shorten(pointer, first, last):
    """Replace pointers within a strip by the code, or the pixel outside, where they end.

    Parameters
    ----------
    pointer : (n,) int32 or int64, overwritten in part
    first, last : int

    Notes
    -----
    Each round at least doubles the reach of all pointers, without a branch to guess wrong.
    Rounds go forwards and backwards in turn: a way in either direction takes one of them.
    """
    waits = np.ones((last - first + BLOCK - 1) // BLOCK, np.bool_)
    is_forward = True
    while waits.any():
        for k in range(waits.shape[0]):
            block = k if is_forward else waits.shape[0] - 1 - k
            if not waits[block]:
                continue
            begin = first + block * BLOCK
            n = min(BLOCK, last - begin)
            start, step = (begin, 1) if is_forward else (begin + n - 1, -1)
            changes = False
            for j in range(n):
                i = start + j * step
                target = pointer[i]
                following = pointer[target if (target >= first) & (target < last) else i]
                pointer[i] = following
                changes |= following != target
            waits[block] = changes
        is_forward = not is_forward


@njit(nogil=True, cache=True)
def _join(pointer, first, last):
    """Replace pointers by the codes where they end, across strips too."""
    for i in range(first, last):
        end = i
        while pointer[end] >= 0:
            end = pointer[end]
        code = pointer[end]
        j = i
        while pointer[j] >= 0:
            pointer[j], j = code, pointer[j]


@njit(nogil=True, cache=True)
def _look_up(pointer, first, last):
    """Replace pointers by the codes that they point at."""
    for i in range(first, last):
        if pointer[i] >= 0:
            pointer[i] = pointer[pointer[i]]


def _join_strips(pointer, strips):
    """Replace shortened pointers around the ends of strips, at which all others end."""
    for start in strips.starts[1:]:  # pointers leave a strip by no more than the margin
        _join(pointer, start - strips.margin, start + strips.margin)


# --- the graph of basins -----------------------------------------------------------------


@njit(nogil=True, cache=True)
def _is_free(basin, low, closed):
    return low <= basin < low + closed.shape[0] and closed[basin - low]


@njit(nogil=True, cache=True)
def _contract(passes, ends, n_edges, low, closed, root, parent, height):
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
def _link(relief, basin_code, steps, low, high, root, parent, height, first, last):
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
    root, parent, height : as in `_contract`
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
    n_left = _contract(passes, ends, n_inside, low, closed, root, parent, height)
    for e in range(n_inside, n_edges):
        passes[n_left] = passes[e]
        for k in range(2):
            end = ends[e, k]
            ends[n_left, k] = find(root, end) if low <= end < high else end
        n_left += 1
    return passes[:n_left].copy(), ends[:n_left].copy()


@njit(nogil=True, cache=True)
def _levels(parent, height):
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
def _deep(order, parent, height, bottom, depth):
    """Choose the basins that are deep enough to be kept.

    Parameters
    ----------
    order : (n_basins,) intp
        Basins in ascending order of the height of the pass to their parents.
    parent, height : as in `_levels`
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
def _levels_from(order, parent, height, seeded):
    """Find the level at which each basin is reached from the seeded ones.

    Parameters
    ----------
    order, parent, height : as in `_deep`
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
    return _levels(tree, over)


# --- flooding ----------------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _fill(relief, basin_code, level, first, last):
    """Raise a strip's pixels to the level at which they are reached."""
    for i in range(first, last):
        if relief[i] < np.inf:
            relief[i] = max(relief[i], level[-2 - basin_code[i]])


@njit(nogil=True, cache=True)
def _flood_lakes(relief, steps, pointer, starts, first, last):
    """Point the pixels of lakes at the neighbours that flood them.

    Parameters
    ----------
    relief : (n,) float32 or float64
        Filled.
    steps : (n_neighbours,) intp, ascending
    pointer : (n,) int32 or int64, overwritten in part
        Pixels of lakes point at themselves.
    starts : (n_starts,) int32 or int64
        Where to look for lakes.
    first, last : int
        Range of pixels that lakes may not reach beyond.

    Returns
    -------
    (n_left,) of the same dtype as `starts`
        Pixels of the lakes that do; they are left as they are.
    """
    lake = np.empty(last - first, starts.dtype)
    layer, flooded_by = np.empty_like(lake), np.empty_like(lake)
    n_left = 0
    for start in starts:
        if pointer[start] != start:
            continue
        # Fill the lake from `start`; it is marked by -1, and is written behind those left.
        level = relief[start]
        shore, n_shores, is_inside = start, 0, True
        lake[n_left] = start
        pointer[start] = -1
        n, k = n_left + 1, n_left
        while k < n:
            i = lake[k]
            k += 1
            for s in range(steps.shape[0]):
                j = i + steps[s]
                if relief[j] != level:
                    continue
                if not first <= j < last:
                    is_inside = False
                elif pointer[j] == j:
                    pointer[j] = -1
                    lake[n] = j
                    n += 1
                elif pointer[j] != -1 and (n_shores == 0 or j != shore):
                    shore = j
                    n_shores += 1
        if not is_inside:
            n_left = n
            continue
        pixels = lake[n_left:n]
        if n_shores == 1:
            for i in pixels:
                pointer[i] = shore
            continue
        # Layer by layer from the shores; a pixel that waits for its turn points at itself.
        n_layer = 0
        for i in pixels:
            for s in range(steps.shape[0]):
                j = i + steps[s]
                if relief[j] == level and pointer[j] != -1 and pointer[j] != j:
                    pointer[i] = i
                    layer[n_layer] = i
                    n_layer += 1
                    break
        begin = 0
        while begin < n_layer:
            end = n_layer
            for k in range(begin, end):
                for s in range(steps.shape[0]):
                    j = layer[k] + steps[s]
                    if relief[j] == level and pointer[j] != -1 and pointer[j] != j:
                        flooded_by[k] = j
                        break
            for k in range(begin, end):
                pointer[layer[k]] = flooded_by[k]
            for k in range(begin, end):
                for s in range(steps.shape[0]):
                    j = layer[k] + steps[s]
                    if relief[j] == level and pointer[j] == -1:
                        pointer[j] = j
                        layer[n_layer] = j
                        n_layer += 1
            begin = end
    left = lake[:n_left].copy()
    for i in left:
        pointer[i] = i
    return left


@njit(nogil=True, cache=True)
def _lakes_of_strip(relief, labels, steps, pointer, first, last):
    """Replace pointers to themselves, where labels are known, and flood a strip's lakes."""
    starts = np.empty(last - first, pointer.dtype)
    n_starts = 0
    for i in range(first, last):
        if labels[i] >= 0 or relief[i] == np.inf:
            pointer[i] = -2 - labels[i]
        starts[n_starts] = i
        n_starts += pointer[i] == i
    return _flood_lakes(relief, steps, pointer, starts[:n_starts], first, last)


@njit(nogil=True, cache=True)
def _decode(pointer, labels, first, last):
    for i in range(first, last):
        labels[i] = -2 - pointer[i]


# --- the parts together ------------------------------------------------------------------


class _Strips:
    """Strips of a padded flat relief, without the margins at its ends."""

    def __init__(self, n_pixels, margin):
        self.margin = margin
        self.size = max(STRIP, MIN_ROWS * margin)
        self.starts = range(margin, n_pixels - margin, self.size)
        self.n_inside = max(n_pixels - 2 * margin, 0)

    def map(self, kernel, *of_strip):
        """Call ``kernel(*values, first, last)``, its values one of each `of_strip`."""

        def call(start, stop):
            values = (values[start // self.size] for values in of_strip)
            return kernel(*values, start + self.margin, stop + self.margin)

        return map_strips(call, self.n_inside, self.size)


@dataclass(frozen=True)
class Basins:
    """Basins of a padded relief, and the passes by which they merge.

    Parameters
    ----------
    code : (n,) int32 or int64
        ``-2 - basin`` of each pixel. Basin 0 holds all labelled pixels.
    minima : (n_basins,) of the same dtype
        Lowest pixel of each basin.
    parent : (n_basins,) int32
        A forest over all basins.
    height : (n_basins,) of the relief's dtype
        Of the pass to the parent; inf for a root.
    """

    code: NDArray
    minima: NDArray
    parent: NDArray[np.int32]
    height: NDArray


def find_basins(relief: NDArray, labels: NDArray[np.int32], steps: NDArray[np.intp]) -> Basins:
    """Find the basins of all minima and link them over their lowest passes.

    Parameters
    ----------
    relief : (n,) float32 or float64
        Flat and padded with inf, which stands for outside.
    labels : (n,) int32
        At least 0 where a pixel has a label: it drains nowhere, and basins that it would
        flood are linked to it rather than to one another.
    steps : (n_neighbours,) intp
        Differences of the flat indices of neighbours, ascending.

    Returns
    -------
    Basins

    Notes
    -----
    O(n log n) time at worst, in practice O(n).
    """
    margin = int(steps[-1])
    strips = _Strips(len(relief), margin)
    pointer = np.zeros(len(relief), np.int32 if len(relief) < 1 << 31 else np.int64)
    pointer[:margin] = pointer[len(pointer) - margin :] = -2
    counts = strips.map(partial(_descend, relief, labels, steps, False, pointer))
    ids = np.cumsum([1, *counts])
    minima = np.zeros(ids[-1], pointer.dtype)

    def number(next_id, first, last):
        _number(relief, labels, pointer, minima, next_id, first, last)
        _shorten(pointer, first, last)

    strips.map(number, ids)
    _join_strips(pointer, strips)
    strips.map(partial(_look_up, pointer))

    parent = np.arange(len(minima), dtype=np.int32)
    root, height = parent.copy(), np.full(len(minima), np.inf, relief.dtype)
    forest = (root, parent, height)
    half = steps[steps > 0]

    def link(low, high, first, last):
        return _link(relief, pointer, half, low, high, *forest, first, last)

    parts = strips.map(link, ids[:-1], ids[1:])
    passes, ends = (np.concatenate(arrays) for arrays in zip(*parts))
    _contract(passes, ends, len(passes), 1, np.ones(len(minima) - 1, bool), *forest)
    return Basins(pointer, minima, parent, height)


def seed_deep_basins(basins: Basins, relief: NDArray, labels: NDArray[np.int32], depth: float):
    """Label the minima of deep basins, in the order of their indices.

    Parameters
    ----------
    basins : Basins
        Found without labels.
    relief : (n,) float32 or float64
    labels : (n,) int32
        All -1; overwritten at the minima.
    depth : float
        A basin keeps its minimum if it must be filled at least so high, and higher than
        0, before it runs over into one with a lower minimum.

    Returns
    -------
    (n_basins,) as relief
        Level at which each basin is reached from the seeded ones.

    Notes
    -----
    O(n_basins log n_basins) time.
    """
    order = np.argsort(basins.height, kind="stable")
    tree = (order, basins.parent, basins.height)
    deep = _deep(*tree, relief[basins.minima], float(depth))
    labels[basins.minima[deep]] = np.arange(np.count_nonzero(deep))
    return _levels_from(*tree, deep)


def flood(
    relief: NDArray, labels: NDArray[np.int32], steps: NDArray[np.intp], depth: float
) -> None:
    """Flood a relief from its labelled pixels, or from its deep minima if there are none.

    Parameters
    ----------
    relief : (n,) float32 or float64
        Flat and padded with inf, which stands for outside; overwritten with the level at
        which each pixel is flooded, inf if never.
    labels : (n,) int32
        -1 where unlabelled; overwritten with the result. Without any labels, seeds are
        numbered from 0 on in the order of their indices.
    steps : (n_neighbours,) intp
        Differences of the flat indices of neighbours, ascending.
    depth : float
        As in `seed_deep_basins`.

    Notes
    -----
    A pixel's level is the lowest height over which it is reached from a labelled pixel. It is
    flooded by its neighbour of lowest level; in a lake, where none is lower, over the shortest
    way from a pixel of the same level that has a lower neighbour or a label. Ties go to the
    lower index. This needs no queue of all pixels: levels follow from the graph of basins, and
    the rest from each pixel's surroundings.
    """
    strips = _Strips(len(relief), int(steps[-1]))
    basins = find_basins(relief, labels, steps)
    if (labels >= 0).any():
        level = _levels(basins.parent, basins.height)
    else:
        level = seed_deep_basins(basins, relief, labels, depth)
    pointer = basins.code
    strips.map(partial(_fill, relief, pointer, level))

    def drain(first, last):
        _descend(relief, labels, steps, True, pointer, first, last)
        return _lakes_of_strip(relief, labels, steps, pointer, first, last)

    left = np.concatenate(strips.map(drain))
    _flood_lakes(relief, steps, pointer, left, 0, len(pointer))
    strips.map(partial(_shorten, pointer))
    _join_strips(pointer, strips)

    def write(first, last):
        _look_up(pointer, first, last)
        _decode(pointer, labels, first, last)

    strips.map(write)
