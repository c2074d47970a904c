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

from segalgos.graph._basin_graph import contract, deep_basins, levels, levels_from, link
from segalgos.parallel import map_strips

__all__ = ["Basins", "find_basins", "flood", "seed_deep_basins"]

STRIP, MIN_ROWS = 1 << 16, 32  # pixels of a strip, and at least so many rows or slices
BLOCK = 2048  # pixels that stay in the first cache while all neighbours pass over them


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

    def link_strip(low, high, first, last):
        return link(relief, pointer, half, low, high, *forest, first, last)

    parts = strips.map(link_strip, ids[:-1], ids[1:])
    passes, ends = (np.concatenate(arrays) for arrays in zip(*parts))
    contract(passes, ends, len(passes), 1, np.ones(len(minima) - 1, bool), *forest)
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
    deep = deep_basins(*tree, relief[basins.minima], float(depth))
    labels[basins.minima[deep]] = np.arange(np.count_nonzero(deep))
    return levels_from(*tree, deep)


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
        level = levels(basins.parent, basins.height)
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
