"""Minimum cuts of pixel grids by maximum flow."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from segalgos.checks import check_mask
from segalgos.parallel import map_strips

__all__ = ["grid_cut", "half_neighborhood"]

# Half of the neighbours of a pixel, as steps (depth, row, column); the others are opposite.
_HALF_NEIGHBORHOODS = {
    (2, 4): ((0, 0, 1), (0, 1, 0)),
    (2, 8): ((0, 0, 1), (0, 1, 0), (0, 1, 1), (0, 1, -1)),
    (3, 6): ((0, 0, 1), (0, 1, 0), (1, 0, 0)),
}

CAPACITY_LIMIT = 1 << 30  # two capacities, there and back, add up within int32

# A node's place in its tree, in one byte: the direction of its parent or one of the first
# two codes, plus SINK_TREE in the sink's tree.
SINK_TREE = 32
TERMINAL = 30
ORPHAN = 31
FREE = 255
UNREACHED = np.int32(1 << 30)


# --- maximum flow ------------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _load(unary, pairwise, offsets, inside, scale, bound, margin, capacity, excess):
    """Write residual capacities of all edges and the excess of all pixels."""
    depth, height, width = inside.shape
    back = pairwise.shape[1] - 1
    for z in range(depth):
        for y in range(height):
            row = margin + (z * height + y) * width
            for x in range(width):
                if inside[z, y, x]:
                    value = (np.float64(unary[z, y, x, 0]) - np.float64(unary[z, y, x, 1])) * scale
                    excess[row + x] = np.int32(np.rint(min(max(value, -bound), bound)))
            for k in range(len(offsets)):
                z2, y2, dx = z + offsets[k, 0], y + offsets[k, 1], offsets[k, 2]
                if z2 >= depth or y2 >= height:
                    continue
                step = ((z2 - z) * height + y2 - y) * width + dx
                for x in range(max(0, -dx), min(width, width - dx)):
                    if inside[z, y, x] and inside[z2, y2, x + dx]:
                        p = row + x
                        capacity[p, 2 * k] = np.int32(np.rint(pairwise[k, 0, z, y, x] * scale))
                        capacity[p + step, 2 * k + 1] = np.int32(
                            np.rint(pairwise[k, back, z, y, x] * scale)
                        )


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
def _maximise_flow(capacity, excess, tree, steps):
    """Boykov and Kolmogorov's algorithm with origins checked through time stamps."""
    n_nodes, n_directions = capacity.shape
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


@njit(nogil=True, cache=True)
def _energy_of_rows(labels, unary, pairwise, offsets, label_cost, start, stop):
    depth, height, width = labels.shape
    back = pairwise.shape[1] - 1
    energy = 0.0
    for row in range(start, stop):
        z, y = row // height, row % height
        for x in range(width):
            if labels[z, y, x] >= 0:
                energy += unary[z, y, x, labels[z, y, x]]
        for k in range(len(offsets)):
            z2, y2, dx = z + offsets[k, 0], y + offsets[k, 1], offsets[k, 2]
            if z2 >= depth or y2 >= height:
                continue
            for x in range(max(0, -dx), min(width, width - dx)):
                a, b = labels[z, y, x], labels[z2, y2, x + dx]
                if a != b and a >= 0 and b >= 0:
                    weight = pairwise[k, 0 if a > b else back, z, y, x]
                    energy += label_cost[a, b] * np.float64(weight)
    return energy


# --- checks ------------------------------------------------------------------------------


def half_neighborhood(ndim: int, neighbors: int) -> NDArray[np.intp]:
    """Give the offsets from a pixel to half its neighbours, in the order of pairwise planes.

    Parameters
    ----------
    ndim : {2, 3}
        Axes of the grid.
    neighbors : {4, 8, 6}
        4 or 8 for images, 6 for volumes.

    Returns
    -------
    (neighbors // 2, ndim) intp
        Steps along (row, column) or (depth, row, column).

    Examples
    --------
    >>> from segalgos.graph.max_flow import half_neighborhood
    >>> half_neighborhood(2, 8).tolist()
    [[0, 1], [1, 0], [1, 1], [1, -1]]
    """
    if (ndim, neighbors) not in _HALF_NEIGHBORHOODS:
        raise ValueError(
            f"half_neighborhood: neighbors is {neighbors!r} for {ndim} axes, expected 4 or 8 for "
            "images and 6 for volumes."
        )
    return np.array(_HALF_NEIGHBORHOODS[ndim, neighbors], np.intp)[:, 3 - ndim :]


def check_energy(
    unary: Any, pairwise: Any, neighbors: int | None, mask: Any, n_labels: int | None, caller: str
) -> tuple[NDArray, NDArray, NDArray, NDArray, tuple[int, ...]]:
    """Check the terms of an energy and give them the axes that kernels expect.

    Returns unary (D, H, W, K), pairwise (n_planes, 1 or 2, D, H, W), offsets (n_planes, 3),
    inside (D, H, W) and the shape of the grid. Integers come as int32, all else as float32.
    """
    unary, pairwise = np.asarray(unary), np.asarray(pairwise)
    for name, array in (("unary", unary), ("pairwise", pairwise)):
        if array.dtype.kind not in "buif":
            raise TypeError(f"{caller}: {name} is {array.dtype}, expected real numbers.")
    last = "K" if n_labels is None else str(n_labels)
    if unary.ndim not in (3, 4) or unary.size == 0 or n_labels not in (None, unary.shape[-1]):
        raise ValueError(
            f"{caller}: unary has shape {unary.shape}, expected (H, W, {last}) or "
            f"(D, H, W, {last}), not empty: put the labels' costs along the last axis."
        )
    shape = unary.shape[:-1]
    planes = {n // 2: n for ndim, n in _HALF_NEIGHBORHOODS if ndim == len(shape)}
    if pairwise.shape[-len(shape) :] != shape or pairwise.ndim - len(shape) not in (1, 2):
        raise ValueError(
            f"{caller}: pairwise has shape {pairwise.shape}, expected (n_planes, *{shape}), or "
            f"(n_planes, 2, *{shape}) for capacities there and back: one plane for each offset of "
            "half_neighborhood."
        )
    n_planes = len(pairwise)
    if n_planes not in planes or neighbors not in (None, planes.get(n_planes)):
        wanted = " or ".join(
            f"{k} ({n} neighbors)" for k, n in planes.items() if neighbors in (None, n)
        )
        raise ValueError(
            f"{caller}: pairwise has {n_planes} planes with neighbors={neighbors}, expected "
            f"{wanted or sorted(planes)}: pass one plane for each offset of half_neighborhood."
        )
    if pairwise.ndim - len(shape) == 2 and pairwise.shape[1] not in (1, 2):
        raise ValueError(
            f"{caller}: pairwise has {pairwise.shape[1]} directions an edge, expected 1 or 2."
        )
    integer = unary.dtype.kind in "bui" and pairwise.dtype.kind in "bui"
    clean = []
    for name, array in (("unary", unary), ("pairwise", pairwise)):
        low, high = array.min(), array.max()
        if np.isnan(low) or (name == "pairwise" and (low < 0 or np.isinf(high))):
            raise ValueError(
                f"{caller}: {name} holds values from {low} to {high}, expected "
                + ("no NaN." if name == "unary" else "finite ones of at least 0.")
            )
        if integer and max(-int(low), int(high)) > CAPACITY_LIMIT:
            raise ValueError(
                f"{caller}: {name} holds integers up to {max(-int(low), int(high))}, expected at "
                f"most {CAPACITY_LIMIT}: pass float32, where they may have any size."
            )
        array = np.ascontiguousarray(array, np.int32 if integer else np.float32)
        clean.append(array if array.flags.writeable else array.copy())
    unary, pairwise = clean
    volume = (1,) * (3 - len(shape)) + shape
    inside = np.ones(shape, bool) if mask is None else check_mask(mask, shape, caller)
    return (
        unary.reshape(*volume, unary.shape[-1]),
        pairwise.reshape(n_planes, -1, *volume),
        np.array(_HALF_NEIGHBORHOODS[len(shape), planes[n_planes]], np.intp),
        inside.reshape(volume),
        shape,
    )


def energy_of(labels, unary, pairwise, offsets, label_cost):
    """Energy of a labelling of checked terms, in float64."""
    depth, height, width = labels.shape
    add = partial(_energy_of_rows, labels, unary, pairwise, offsets, label_cost)
    return float(sum(map_strips(add, depth * height, max(1, 65536 // width))))


POTTS = 1 - np.eye(2)


def cut_checked(unary, pairwise, offsets, inside, caller):
    """Minimise a checked binary energy; see `grid_cut`."""
    _, height, width = inside.shape
    # No pixel sends on more than this; a stronger wish for a label changes nothing.
    total = 2 * sum(float(plane.max()) for plane in pairwise)
    if unary.dtype == np.int32:
        if total >= CAPACITY_LIMIT:
            raise ValueError(
                f"{caller}: pairwise holds integers whose sum at a pixel may reach {total:.0f}, "
                f"expected below {CAPACITY_LIMIT}: pass float32, where they may have any size."
            )
        scale = 1.0
    else:
        # A power of two keeps integers in float32 exact, and their ties.
        scale = 2.0 ** (29 - np.frexp(total)[1]) if total > 0 else 2.0**60
    bound = float(total * scale + 64)
    flat = offsets @ np.array([height * width, width, 1])
    steps = np.stack([flat, -flat], 1).ravel()
    margin = int(flat.max())  # edges that leave the grid have no capacity, only an address
    n_nodes = inside.size + 2 * margin
    capacity = np.zeros((n_nodes, 2 * len(offsets)), np.int32)
    excess = np.zeros(n_nodes, np.int32)
    _load(unary, pairwise, offsets, inside, scale, bound, margin, capacity, excess)
    tree = np.empty(n_nodes, np.uint8)
    _maximise_flow(capacity, excess, tree, steps)
    labels = (tree[margin : margin + inside.size] < SINK_TREE).astype(np.int32)
    labels = labels.reshape(inside.shape)
    labels[~inside] = -1
    return labels


def grid_cut(
    unary: ArrayLike,
    pairwise: ArrayLike,
    *,
    neighbors: int | None = None,
    mask: ArrayLike | None = None,
) -> tuple[NDArray[np.int32], float]:
    """Minimise a binary energy on a grid of pixels by a minimum cut.

    The labelling x of 0 and 1 that minimises ``sum_p unary[p, x_p] + sum_pq c_pq`` is found,
    where c_pq is paid by neighbours p and q of different labels.

    Parameters
    ----------
    unary : (H, W, 2) or (D, H, W, 2) array_like
        Cost of label 0 and of label 1 at each pixel, of any sign. ``inf`` forbids a label.
    pairwise : (n_planes, H, W), (n_planes, 2, H, W) or the same with D, array_like
        Plane k holds at pixel p the cost, at least 0, of p and ``p + offsets[k]`` having
        different labels, with ``offsets = half_neighborhood(ndim, neighbors)``: 2 planes for
        4 neighbours, 4 planes for 8, in volumes 3 planes for 6. Where that neighbour is
        outside the grid the value is ignored. With a second axis of 2, ``pairwise[k, 0]``
        is the cost of labels (1, 0) at (p, p + offset), ``pairwise[k, 1]`` that of (0, 1).
    neighbors : {4, 8, 6}, optional
        To have the number of planes checked; the planes tell it if None.
    mask : array_like of bool, optional
        True where pixels are to be labelled; all others get -1 and have no influence.

    Returns
    -------
    labels : (H, W) or (D, H, W) int32
        0 or 1; among labellings of equal energy the one that has 0 wherever any of them has.
    energy : float
        Of `labels`, summed from the costs that were given.
    """
    caller = "grid_cut"
    unary, pairwise, offsets, inside, shape = check_energy(
        unary, pairwise, neighbors, mask, 2, caller
    )
    labels = cut_checked(unary, pairwise, offsets, inside, caller)
    return labels.reshape(shape), energy_of(labels, unary, pairwise, offsets, POTTS)
