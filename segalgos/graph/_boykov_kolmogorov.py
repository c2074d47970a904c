"""Minimum cuts of grids by growing a tree from each terminal (Boykov and Kolmogorov).

The faster way where most pixels wish for a label so strongly that flow ends within few steps. The
arrays are those of `segalgos.graph._push_relabel`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

# A node's place in its tree, in one byte: the direction of its parent or one of the first
# two codes, plus SINK_TREE in the sink's tree.
SINK_TREE = 32
TERMINAL = 30
ORPHAN = 31
FREE = 255
UNREACHED = np.int32(1 << 30)


@njit(nogil=True, cache=True)
def _augment(source_end, d, capacity, excess, tree, steps, orphans):
    """Push flow along the path through an edge between the trees; returns the orphans."""
    n_orphans = 0
    sink_end = source_end + steps[d]
    flow = capacity[source_end, d]
    p = source_end
    while tree[p] != TERMINAL:
        a = tree[p]
        p += steps[a]
        flow = min(flow, capacity[p, a ^ 1])
    flow = min(flow, excess[p])
    p = sink_end
    while tree[p] != TERMINAL + SINK_TREE:
        a = tree[p] - SINK_TREE
        flow = min(flow, capacity[p, a])
        p += steps[a]
    flow = min(flow, -excess[p])

    capacity[source_end, d] -= flow
    capacity[sink_end, d ^ 1] += flow
    p = source_end
    while tree[p] != TERMINAL:
        a = tree[p]
        q = p + steps[a]
        capacity[p, a] += flow
        capacity[q, a ^ 1] -= flow
        if capacity[q, a ^ 1] == 0:
            tree[p] = ORPHAN
            orphans[n_orphans] = p
            n_orphans += 1
        p = q
    excess[p] -= flow
    if excess[p] == 0:
        tree[p] = ORPHAN
        orphans[n_orphans] = p
        n_orphans += 1
    p = sink_end
    while tree[p] != TERMINAL + SINK_TREE:
        a = tree[p] - SINK_TREE
        q = p + steps[a]
        capacity[q, a ^ 1] += flow
        capacity[p, a] -= flow
        if capacity[p, a] == 0:
            tree[p] = ORPHAN + SINK_TREE
            orphans[n_orphans] = p
            n_orphans += 1
        p = q
    excess[p] += flow
    if excess[p] == 0:
        tree[p] = ORPHAN + SINK_TREE
        orphans[n_orphans] = p
        n_orphans += 1
    return n_orphans


@njit(nogil=True, cache=True)
def cut(capacity, excess, steps, reached):
    """Maximise the flow and mark the source's side of a minimum cut.

    Parameters
    ----------
    capacity, excess : see `segalgos.graph._push_relabel`
        Overwritten by what is left.
    steps : (n_directions,) intp
    reached : (n_nodes,) bool, overwritten
        The smallest side of the source: its tree, in the end.

    Notes
    -----
    Whether a tree's node still hangs on its terminal is checked through time stamps.
    """
    n_nodes, n_directions = capacity.shape
    tree = np.empty(n_nodes, np.uint8)
    stamp = np.zeros((n_nodes, 2), np.int32)  # time, distance to the terminal
    queued = np.full(n_nodes, -1, np.int32)  # next active node; itself for the last
    orphans = np.empty(n_nodes, np.int32)
    head = tail = np.int64(-1)
    for p in range(n_nodes):
        tree[p] = FREE
        if excess[p] != 0:
            tree[p] = TERMINAL if excess[p] > 0 else TERMINAL + SINK_TREE
            stamp[p, 1] = 1
            if tail >= 0:
                queued[tail] = p
            else:
                head = p
            queued[p] = p
            tail = p
    time = np.int32(0)
    while head >= 0:
        p = head
        head = queued[p] if queued[p] != p else -1
        if head < 0:
            tail = -1
        queued[p] = -1
        d = 0
        while d < n_directions and tree[p] != FREE:
            q = p + steps[d]
            sink_side = tree[p] & SINK_TREE
            residual = capacity[q, d ^ 1] if sink_side else capacity[p, d]
            if residual == 0:
                d += 1
                continue
            if tree[q] == FREE:
                tree[q] = (d ^ 1) | sink_side
                stamp[q, 0] = stamp[p, 0]
                stamp[q, 1] = stamp[p, 1] + 1
                if queued[q] < 0:
                    if tail >= 0:
                        queued[tail] = q
                    else:
                        head = q
                    queued[q] = q
                    tail = q
                d += 1
                continue
            if tree[q] & SINK_TREE == sink_side:
                if stamp[q, 0] <= stamp[p, 0] and stamp[q, 1] > stamp[p, 1] + 1:
                    tree[q] = (d ^ 1) | sink_side  # a shorter way to the terminal
                    stamp[q, 0] = stamp[p, 0]
                    stamp[q, 1] = stamp[p, 1] + 1
                d += 1
                continue

            time += 1
            if sink_side:
                last = _augment(q, d ^ 1, capacity, excess, tree, steps, orphans)
            else:
                last = _augment(p, d, capacity, excess, tree, steps, orphans)
            first = 0
            while first < last:
                orphan = orphans[first]
                first += 1
                side = tree[orphan] & SINK_TREE
                best = -1
                best_distance = UNREACHED
                for a in range(n_directions):
                    j = orphan + steps[a]
                    residual = capacity[orphan, a] if side else capacity[j, a ^ 1]
                    if residual == 0 or tree[j] == FREE or tree[j] & SINK_TREE != side:
                        continue
                    distance = np.int32(0)
                    while True:
                        if stamp[j, 0] == time:
                            distance += stamp[j, 1]
                            break
                        code = tree[j] & 31
                        if code == ORPHAN:
                            distance = UNREACHED
                            break
                        distance += 1
                        if code == TERMINAL:
                            stamp[j, 0] = time
                            stamp[j, 1] = 1
                            break
                        j += steps[code]
                    if distance < UNREACHED:
                        if distance < best_distance:
                            best = a
                            best_distance = distance
                        j = orphan + steps[a]
                        while stamp[j, 0] != time:
                            stamp[j, 0] = time
                            stamp[j, 1] = distance
                            distance -= 1
                            j += steps[tree[j] & 31]
                if best >= 0:
                    tree[orphan] = best | side
                    stamp[orphan, 0] = time
                    stamp[orphan, 1] = best_distance + 1
                    continue
                tree[orphan] = FREE
                for a in range(n_directions):
                    j = orphan + steps[a]
                    if tree[j] == FREE or tree[j] & SINK_TREE != side:
                        continue
                    if tree[j] == (a ^ 1) | side:
                        tree[j] = ORPHAN | side
                        if last == len(orphans):
                            orphans[: last - first] = orphans[first:last].copy()
                            last -= first
                            first = 0
                        orphans[last] = j
                        last += 1
                    residual = capacity[orphan, a] if side else capacity[j, a ^ 1]
                    if residual > 0 and queued[j] < 0:
                        if tail >= 0:
                            queued[tail] = j
                        else:
                            head = j
                        queued[j] = j
                        tail = j
    for p in range(n_nodes):
        reached[p] = tree[p] < SINK_TREE
