"""One-to-one correspondence of the pixels of two boundary maps: the cheapest there is.

Pixels within a radius of each other may correspond. The cost of a correspondence is the sum of the
distances, and a pair that could be made but is not costs a hundred times the radius: so as many
pairs are made as can be, and of all ways to do that the one with the least sum of distances is
taken. Distances are rounded to hundredths of a pixel. What is still equal is decided by numbers
drawn from the places of the pixels, which makes one correspondence the cheapest: it does not depend
on the order of the search, nor on which of the two maps is searched from.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["Neighbourhood", "Pixels", "correspond", "find_pixels", "neighbourhood", "select_pixels"]

_UNITS = 100  # of cost in a pixel's distance
_OUTLIER = 100  # cost of a pair that is not made, in radii
# A sum of three such costs is still within int64.
_COST_BITS = 60
# 2**18 numbers drawn do not add up to one unit of cost.
_PAIR_BITS = 18
_FAR = 1 << 62


class Pixels(NamedTuple):
    """The pixels of a boundary map, to be found by place.

    Parameters
    ----------
    places : (n,) int32 array
        Places in the map with its margin, flattened; ascending.
    numbers : (n_places,) int32 array
        The number of the pixel at each place, -1 for none.
    """

    places: NDArray[np.int32]
    numbers: NDArray[np.int32]


class Neighbourhood(NamedTuple):
    """What may correspond to a pixel, in maps of one shape.

    Parameters
    ----------
    radius : float
        In pixels.
    margin : int
        Of empty pixels around a map, so that no step leaves it.
    steps : (n_steps,) int64 array
        To the places within the radius, nearest first.
    costs : (n_steps,) int64 array
        Of pairs that are such a step apart.
    gain : int
        What each pair saves.
    draw_bits : int
        Numbers drawn to break ties are below two to that power.
    """

    radius: float
    margin: int
    steps: NDArray[np.int64]
    costs: NDArray[np.int64]
    gain: int
    draw_bits: int


def neighbourhood(shape: tuple[int, int], radius: float) -> Neighbourhood:
    """Find the steps within a radius.

    Parameters
    ----------
    shape : (H, W)
    radius : float
        In pixels, 0 or more.

    Returns
    -------
    Neighbourhood
    """
    margin = min(int(radius), max(shape))
    reach = np.arange(-margin, margin + 1)
    squares = reach[:, None] ** 2 + reach**2
    rows, columns = np.nonzero(squares <= radius * radius)
    squares = squares[rows, columns]
    order = np.argsort(squares, kind="stable")
    steps = (reach[rows] * (shape[1] + 2 * margin) + reach[columns])[order]
    gain = max(1, ceil(_OUTLIER * _UNITS * radius))
    shift = max(0, _COST_BITS - gain.bit_length())
    costs = np.rint(_UNITS * np.sqrt(squares[order])).astype(np.int64) << shift
    draw_bits = max(0, shift - _PAIR_BITS)
    return Neighbourhood(radius, margin, steps, costs, gain << shift, draw_bits)


def find_pixels(boundaries: NDArray[np.bool_], near: Neighbourhood) -> Pixels:
    """List the pixels of a boundary map.

    Parameters
    ----------
    boundaries : (H, W) bool array
    near : Neighbourhood
        Of that shape.

    Returns
    -------
    Pixels
    """
    height, width = boundaries.shape
    wide = width + 2 * near.margin
    rows, columns = np.divmod(np.flatnonzero(boundaries), width)
    places = (rows + near.margin) * wide + columns + near.margin
    return _number(places.astype(np.int32), (height + 2 * near.margin) * wide)


def select_pixels(pixels: Pixels, chosen: NDArray[np.bool_]) -> Pixels:
    """Take some of the pixels.

    Parameters
    ----------
    pixels : Pixels
    chosen : (n,) bool array

    Returns
    -------
    Pixels
    """
    return _number(pixels.places[chosen], pixels.numbers.size)


def _number(places, n_places):
    numbers = np.full(n_places, -1, np.int32)
    numbers[places] = np.arange(places.size)
    return Pixels(places, numbers)


def correspond(found: Pixels, truth: Pixels, near: Neighbourhood) -> NDArray[np.int32]:
    """Pair pixels of two maps one to one.

    Parameters
    ----------
    found, truth : Pixels
    near : Neighbourhood

    Returns
    -------
    (n_found,) int32 array
        The true pixel of each found one, -1 for none.

    Notes
    -----
    The pixels of the map with fewer are assigned one after the other, each by a shortest path of
    swaps under prices [1]_, which ends at a free pixel or at the one that can best do without. Such
    paths are short, however many pixels there are: about O(n_pixels) time, times the pixels within
    the radius.

    References
    ----------
    .. [1] R. Jonker, A. Volgenant, "A shortest augmenting path algorithm for dense and sparse
       linear assignment problems", Computing 38, 325-340, 1987.
    """
    from_truth = truth.places.size < found.places.size
    bidders, objects = (truth, found) if from_truth else (found, truth)
    starts, ends, costs = _list_pairs(
        bidders.places, objects.numbers, near.steps, near.costs, near.draw_bits, from_truth
    )
    taken = _assign(starts, ends, costs, objects.places.size, near.gain)
    if not from_truth:
        return taken
    partners = np.full(found.places.size, -1, np.int32)
    paired = np.flatnonzero(taken >= 0)
    partners[taken[paired]] = paired
    return partners


@njit(nogil=True, cache=True)
def _list_pairs(places, numbers, steps, costs, draw_bits, reverse):
    """List the pairs within the radius.

    Parameters
    ----------
    places : (n_bidders,) int32
    numbers : (n_places,) int32
        Of the objects.
    steps, costs : (n_steps,) int64
    draw_bits : int
    reverse : bool
        The bidders are the true pixels. What is drawn for a pair depends on which is which.

    Returns
    -------
    starts : (n_bidders + 1,) int64
        Where each bidder's pairs start.
    ends : (n_pairs,) int32
        Objects.
    pair_costs : (n_pairs,) int64
    """
    starts = np.zeros(places.size + 1, np.int64)
    n_pairs = 0
    for i in range(places.size):
        for step in steps:
            n_pairs += numbers[places[i] + step] >= 0
        starts[i + 1] = n_pairs
    ends = np.empty(n_pairs, np.int32)
    pair_costs = np.empty(n_pairs, np.int64)
    e = 0
    for i in range(places.size):
        for k in range(steps.size):
            other = places[i] + steps[k]
            if numbers[other] >= 0:
                ends[e] = numbers[other]
                drawn = _draw(other, places[i]) if reverse else _draw(places[i], other)
                pair_costs[e] = costs[k] + (drawn & ((1 << draw_bits) - 1))
                e += 1
    return starts, ends, pair_costs


@njit(nogil=True, cache=True)
def _draw(first, second):
    """Draw 63 bits for two places, by multiplying with large odd numbers and mixing halves."""
    key = np.uint64(first) * np.uint64(0x9E3779B97F4A7C15)
    key = (key ^ (key >> np.uint64(32))) + np.uint64(second)
    key *= np.uint64(0xD6E8FEB86659FD93)
    key = (key ^ (key >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return np.int64((key ^ (key >> np.uint64(32))) >> np.uint64(1))


@njit(nogil=True, cache=True)
def _assign(starts, ends, costs, n_objects, gain):
    """Assign bidders to objects so that the sum of gains less costs is the largest.

    Parameters
    ----------
    starts : (n_bidders + 1,) int64
    ends : (n_pairs,) int32
    costs : (n_pairs,) int64
    n_objects : int
    gain : int
        More than any cost.

    Returns
    -------
    taken : (n_bidders,) int32
        The object of each bidder, -1 for none.

    Notes
    -----
    Between two steps these hold: a pair's surplus, the gain less its cost, is at most the bidder's
    profit plus the object's price, and equal to it for pairs that are made; free objects have the
    price 0, bidders without an object the profit 0. With them no assignment of the bidders so far
    is better.
    """
    n_bidders = starts.size - 1
    taken = np.full(n_bidders, -1, np.int32)
    owners = np.full(n_objects, -1, np.int32)
    profits = np.zeros(n_bidders, np.int64)
    prices = np.zeros(n_objects, np.int64)
    # Of one search: the least loss of profit by which an object can be had, and the bidder that
    # would take it; which objects are settled, and which have been seen.
    losses = np.full(n_objects, _FAR, np.int64)
    takers = np.empty(n_objects, np.int32)
    settled = np.zeros(n_objects, np.bool_)
    seen = np.empty(n_objects, np.int32)
    heap_losses = np.empty(ends.size, np.int64)
    heap_objects = np.empty(ends.size, np.int32)
    for new in range(n_bidders):
        best = -1
        for e in range(starts[new], starts[new + 1]):
            profit = gain - costs[e] - prices[ends[e]]
            if profit > profits[new]:
                profits[new] = profit
                best = ends[e]
        if best < 0:
            continue
        if owners[best] < 0:
            owners[best], taken[new] = new, best
            continue

        # The search ends at a free object, or at a bidder (`leaver`) that is left without one.
        end, leaver = -1, new
        limit = profits[new]
        loss, bidder = np.int64(0), new
        n_seen = n_heap = 0
        while bidder >= 0:
            for e in range(starts[bidder], starts[bidder + 1]):
                j = ends[e]
                if settled[j]:
                    continue
                through = loss + profits[bidder] - (gain - costs[e] - prices[j])
                if through < limit and through < losses[j]:
                    if losses[j] == _FAR:
                        seen[n_seen] = j
                        n_seen += 1
                    losses[j] = through
                    takers[j] = bidder
                    if owners[j] < 0:
                        limit, end = through, j
                    else:
                        n_heap = _push(heap_losses, heap_objects, n_heap, through, j)
            bidder = -1
            while bidder < 0 and n_heap and heap_losses[0] < limit:
                loss, j = heap_losses[0], heap_objects[0]
                n_heap = _pop(heap_losses, heap_objects, n_heap)
                if not settled[j]:
                    settled[j] = True
                    bidder = owners[j]
                    if loss + profits[bidder] < limit:
                        limit = loss + profits[bidder]
                        end, leaver = -1, bidder

        profits[new] -= limit
        for k in range(n_seen):
            j = seen[k]
            if settled[j]:
                prices[j] += limit - losses[j]
                profits[owners[j]] -= limit - losses[j]
                settled[j] = False
            losses[j] = _FAR
        if end < 0:
            if leaver == new:
                continue
            end = taken[leaver]
            taken[leaver] = -1
        bidder = -1
        while bidder != new:
            bidder = takers[end]
            owners[end] = bidder
            taken[bidder], end = end, taken[bidder]
    return taken


@njit(nogil=True, cache=True)
def _push(keys, items, size, key, item):
    """Add to a heap, the least key first; gives its new size."""
    place = size
    while place > 0 and keys[(place - 1) >> 1] > key:
        above = (place - 1) >> 1
        keys[place], items[place] = keys[above], items[above]
        place = above
    keys[place], items[place] = key, item
    return size + 1


@njit(nogil=True, cache=True)
def _pop(keys, items, size):
    """Remove the first of a heap; gives its new size."""
    size -= 1
    key, item = keys[size], items[size]
    place = 0
    while 2 * place + 1 < size:
        below = 2 * place + 1
        if below + 1 < size and keys[below + 1] < keys[below]:
            below += 1
        if keys[below] >= key:
            break
        keys[place], items[place] = keys[below], items[below]
        place = below
    keys[place], items[place] = key, item
    return size
