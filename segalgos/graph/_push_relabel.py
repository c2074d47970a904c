"""Minimum cuts of grids by pushing excess downhill (Goldberg and Tarjan).

The faster way where edges are strong beside the pixels' wishes, so that flow goes far: excess of
many pixels travels together, while Boykov and Kolmogorov's algorithm finds a path for each. Any
flow within the capacities is a start.

``capacity`` is (n_nodes, n_directions) int32: what may still flow from node p to ``p + steps[d]``;
directions 2 k and 2 k + 1 are opposite. An edge that leaves the grid has no capacity, only an
address. ``excess`` is (n_nodes,) int32: what a node has left from the source, negative where it
may still give to the sink.
"""

from __future__ import annotations

import numpy as np
from numba import njit

UNREACHED = 1 << 30
LAST = -1  # ends the list of a height


@njit(nogil=True, cache=True)
def _measure_heights(capacity, excess, steps, side, heights, queue, counts):
    """Find how many edges each node is from one that takes excess; returns the largest."""
    n_nodes, n_directions = capacity.shape
    last = 0
    for p in range(n_nodes):
        heights[p] = UNREACHED
        if excess[p] * side < 0:
            heights[p] = 0
            queue[last] = p
            last += 1
    first = 0
    counts[:] = 0
    highest = 0
    while first < last:
        q = queue[first]
        first += 1
        highest = heights[q]
        counts[highest] += 1
        for d in range(n_directions):
            p = q + steps[d]
            if heights[p] != UNREACHED:
                continue
            if (capacity[p, d ^ 1] if side > 0 else capacity[q, d]) > 0:
                heights[p] = highest + 1
                queue[last] = p
                last += 1
    return highest


@njit(nogil=True, cache=True)
def _reach(capacity, excess, steps, queue, reached):
    """Mark the nodes that excess could flow to."""
    n_nodes, n_directions = capacity.shape
    last = 0
    for p in range(n_nodes):
        reached[p] = excess[p] > 0
        if reached[p]:
            queue[last] = p
            last += 1
    first = 0
    while first < last:
        p = queue[first]
        first += 1
        for d in range(n_directions):
            q = p + steps[d]
            if capacity[p, d] > 0 and not reached[q]:
                reached[q] = True
                queue[last] = q
                last += 1


@njit(nogil=True, cache=True)
def cut(capacity, excess, steps, side, reached):
    """Route as much excess as possible and mark the source's side of a minimum cut.

    Parameters
    ----------
    capacity, excess : see the module
        Overwritten by what is left.
    steps : (n_directions,) intp
    side : {1, -1}
        1 if the source pushes to the sink, -1 if the sink to the source.
    reached : (n_nodes,) bool, overwritten
        The smallest side of the source: what excess that is left over could flow to.

    Notes
    -----
    What cannot be taken is pushed in vain: the terminal that gets fewer nodes in the end had
    better push. The result is the same.

    Nodes are handled from the highest on, heights are measured anew after as many relabellings
    as there are nodes, and nodes above a height that has become empty rest until then.
    """
    n_nodes, n_directions = capacity.shape
    heights = np.empty(n_nodes, np.int32)
    following = np.empty(n_nodes, np.int32)  # in the list of active nodes of a height
    heads = np.full(n_nodes + 1, LAST, np.int32)
    counts = np.zeros(n_nodes + 1, np.int32)
    while True:
        highest = _measure_heights(capacity, excess, steps, side, heights, following, counts)
        top = -1
        for p in range(n_nodes):
            if excess[p] * side > 0 and heights[p] < UNREACHED:
                following[p] = heads[heights[p]]
                heads[heights[p]] = p
                top = max(top, heights[p])
        if top < 0:
            break
        n_relabelled = 0
        while top >= 0 and n_relabelled < n_nodes:
            p = heads[top]
            if p == LAST:
                top -= 1
                continue
            heads[top] = following[p]
            if top > highest:
                heights[p] = UNREACHED
                continue
            left = excess[p] * side
            lowest = UNREACHED
            for d in range(n_directions):
                q = p + steps[d]
                residual = capacity[p, d] if side > 0 else capacity[q, d ^ 1]
                if residual == 0:
                    continue
                if heights[q] + 1 == top:
                    flow = min(left, residual)
                    capacity[p, d] -= flow * side
                    capacity[q, d ^ 1] += flow * side
                    before = excess[q] * side
                    excess[q] += flow * side
                    if before <= 0 and before + flow > 0:
                        following[q] = heads[top - 1]
                        heads[top - 1] = q
                    left -= flow
                    if left == 0:
                        break
                    if flow == residual:
                        continue
                lowest = min(lowest, heights[q])
            excess[p] = left * side
            if left > 0:
                n_relabelled += 1
                counts[top] -= 1
                if counts[top] == 0:
                    highest = min(highest, top - 1)
                if lowest > highest:
                    heights[p] = UNREACHED
                    continue
                top = lowest + 1
                heights[p] = top
                counts[top] += 1
                highest = max(highest, top)
                following[p] = heads[top]
                heads[top] = p
        for height in range(top + 1):
            heads[height] = LAST
    if side > 0:
        _reach(capacity, excess, steps, following, reached)
    else:
        for p in range(n_nodes):
            reached[p] = heights[p] < UNREACHED
