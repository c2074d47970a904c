"""Boykov and Kolmogorov's maximum flow on the nodes of a grid.

Nodes lie in blocks of 64, so that a path through a region stays in few cache lines. The
neighbour of node p in direction d is ``p + steps[p % 64, d]``; directions 2 k and 2 k + 1 are
opposite. An edge that leaves the grid has no capacity, only an address.

``nodes`` is (5 + n_directions, n_nodes) int32: the planes named below, then the residual
capacities of each direction. ``tree`` is (n_nodes,) uint8: where a node hangs, FREE, or the
direction of its parent + 1, TERMINAL or ORPHAN, with SINK_TREE added in the sink's tree.
``ends`` is (4,) int64: first and last node of the list of active nodes and of that of orphans;
the first is negative if the list is empty.
"""

from __future__ import annotations

import numpy as np
from numba import njit

BLOCK = 64

EXCESS = 0  # left from the source, or negative to the sink
NEXT = 1  # in the list of active nodes
STAMP = 2  # the time when the distance was known to hold; the next in the list of orphans
DISTANCE = 3  # to the terminal
CAPACITY = 4

FREE, TERMINAL, ORPHAN, SINK_TREE = 0, 30, 31, 32
HANG = 31  # masks SINK_TREE

NONE, LAST = 0, -1  # values of NEXT; no node has number 0
UNREACHED = 1 << 31


@njit(nogil=True, cache=True)
def activate(nodes, p, ends):
    """Append a node to the list of active ones, unless it is there."""
    if nodes[NEXT, p] != NONE:
        return
    nodes[NEXT, p] = LAST
    if ends[0] < 0:
        ends[0] = p
    else:
        nodes[NEXT, ends[1]] = p
    ends[1] = p


@njit(nogil=True, cache=True)
def _cut_off(nodes, tree, p, side, ends):
    """Take a node from its parent and append it to the list of orphans."""
    tree[p] = ORPHAN | side
    nodes[STAMP, p] = LAST
    if ends[2] < 0:
        ends[2] = p
    else:
        nodes[STAMP, ends[3]] = p
    ends[3] = p


@njit(nogil=True, cache=True)
def _augment(nodes, tree, steps, source_end, d, ends):
    """Push flow along the path through an edge between the trees; cut off what it saturates."""
    sink_end = source_end + steps[source_end & 63, d]
    flow = nodes[CAPACITY + d, source_end]
    p = source_end
    hang = np.int64(tree[p])
    while hang != TERMINAL:
        a = hang - 1
        p += steps[p & 63, a]
        flow = min(flow, nodes[CAPACITY + (a ^ 1), p])
        hang = np.int64(tree[p])
    flow = min(flow, nodes[EXCESS, p])
    p = sink_end
    hang = np.int64(tree[p]) & HANG
    while hang != TERMINAL:
        a = hang - 1
        flow = min(flow, nodes[CAPACITY + a, p])
        p += steps[p & 63, a]
        hang = np.int64(tree[p]) & HANG
    flow = min(flow, -nodes[EXCESS, p])

    nodes[CAPACITY + d, source_end] -= flow
    nodes[CAPACITY + (d ^ 1), sink_end] += flow
    p = source_end
    hang = np.int64(tree[p])
    while hang != TERMINAL:
        a = hang - 1
        q = p + steps[p & 63, a]
        nodes[CAPACITY + a, p] += flow
        nodes[CAPACITY + (a ^ 1), q] -= flow
        if nodes[CAPACITY + (a ^ 1), q] == 0:
            _cut_off(nodes, tree, p, 0, ends)
        p = q
        hang = np.int64(tree[p])
    nodes[EXCESS, p] -= flow
    if nodes[EXCESS, p] == 0:
        _cut_off(nodes, tree, p, 0, ends)
    p = sink_end
    hang = np.int64(tree[p]) & HANG
    while hang != TERMINAL:
        a = hang - 1
        q = p + steps[p & 63, a]
        nodes[CAPACITY + (a ^ 1), q] += flow
        nodes[CAPACITY + a, p] -= flow
        if nodes[CAPACITY + a, p] == 0:
            _cut_off(nodes, tree, p, SINK_TREE, ends)
        p = q
        hang = np.int64(tree[p]) & HANG
    nodes[EXCESS, p] += flow
    if nodes[EXCESS, p] == 0:
        _cut_off(nodes, tree, p, SINK_TREE, ends)


@njit(nogil=True, cache=True)
def _distance(nodes, tree, steps, p, time):
    """Steps from a node up to its terminal, UNREACHED if an orphan is on the way.

    Nodes on the way are stamped, so that each is passed once in a round of adoption.
    """
    distance = 0
    q = p
    while True:
        hang = np.int64(tree[q]) & HANG
        if hang == ORPHAN:
            return UNREACHED
        if nodes[STAMP, q] == time:
            distance += nodes[DISTANCE, q]
            break
        distance += 1
        if hang == TERMINAL:
            nodes[STAMP, q] = time
            nodes[DISTANCE, q] = 1
            break
        q += steps[q & 63, hang - 1]
    left = distance
    q = p
    while nodes[STAMP, q] != time:
        nodes[STAMP, q] = time
        nodes[DISTANCE, q] = left
        left -= 1
        q += steps[q & 63, (np.int64(tree[q]) & HANG) - 1]
    return distance


@njit(nogil=True, cache=True)
def _adopt(nodes, tree, steps, time, ends):
    """Hang each orphan on the nearest neighbour that reaches the terminal, or set it free."""
    n_directions = steps.shape[1]
    while ends[2] >= 0:
        orphan = ends[2]
        ends[2] = nodes[STAMP, orphan]
        side = np.int64(tree[orphan]) & SINK_TREE
        best, best_distance = -1, UNREACHED
        for d in range(n_directions):
            q = orphan + steps[orphan & 63, d]
            hang = np.int64(tree[q])
            if hang == FREE or hang & SINK_TREE != side or hang & HANG == ORPHAN:
                continue
            if side:
                residual = nodes[CAPACITY + d, orphan]
            else:
                residual = nodes[CAPACITY + (d ^ 1), q]
            if residual > 0:
                distance = _distance(nodes, tree, steps, q, time)
                if distance < best_distance:
                    best, best_distance = d, distance
        if best >= 0:
            tree[orphan] = best + 1 + side
            nodes[STAMP, orphan] = time
            nodes[DISTANCE, orphan] = best_distance + 1
            continue
        tree[orphan] = FREE
        for d in range(n_directions):
            q = orphan + steps[orphan & 63, d]
            hang = np.int64(tree[q])
            if hang == FREE or hang & SINK_TREE != side:
                continue
            if side:
                residual = nodes[CAPACITY + d, orphan]
            else:
                residual = nodes[CAPACITY + (d ^ 1), q]
            if residual > 0:
                activate(nodes, q, ends)
            if hang & HANG == (d ^ 1) + 1:
                _cut_off(nodes, tree, q, side, ends)


@njit(nogil=True, cache=True)
def maximise_flow(nodes, tree, steps, time, ends):
    """Grow both trees from the active nodes and augment where they meet, until they are done.

    Parameters
    ----------
    nodes, tree, ends
        See the module.
    steps : (64, n_directions) int64
    time : int
        Above every stamp, or as it was returned.

    Returns
    -------
    int
        The time, which counts augmentations.
    """
    n_directions = steps.shape[1]
    while ends[0] >= 0:
        p = ends[0]
        ends[0] = nodes[NEXT, p]
        nodes[NEXT, p] = NONE
        d = 0
        while d < n_directions:
            hang = np.int64(tree[p])
            if hang == FREE:
                break
            side = hang & SINK_TREE
            q = p + steps[p & 63, d]
            residual = nodes[CAPACITY + (d ^ 1), q] if side else nodes[CAPACITY + d, p]
            if residual == 0:
                d += 1
                continue
            other = np.int64(tree[q])
            if other != FREE and other & SINK_TREE != side:
                time += 1
                if side:
                    _augment(nodes, tree, steps, q, d ^ 1, ends)
                else:
                    _augment(nodes, tree, steps, p, d, ends)
                _adopt(nodes, tree, steps, time, ends)
                continue  # with the same edge, if p still hangs
            # A free node joins; one of this tree may get a shorter way to its terminal.
            if other == FREE:
                activate(nodes, q, ends)
            elif nodes[STAMP, q] > nodes[STAMP, p] or nodes[DISTANCE, q] <= nodes[DISTANCE, p] + 1:
                d += 1
                continue
            tree[q] = (d ^ 1) + 1 + side
            nodes[STAMP, q] = nodes[STAMP, p]
            nodes[DISTANCE, q] = nodes[DISTANCE, p] + 1
            d += 1
    return time
