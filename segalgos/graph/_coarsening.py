"""Make a network of resistors coarser: join its nodes along strong links, level by level.

Joined nodes act as one node that sits in their middle. Their links to another group add up,
and then count as in series with the way from the middle of each group to where these links
begin: without that way coarse networks would conduct far too well, the more the coarser.

A graph is a tuple of

indptr : (n + 1,) int64
    Where the links of each node begin.
indices : (n_links,) int32
    Node at the other end; each link is written at both.
weight : (n_links,) float32
    How well it conducts.
ground : (n,) float64
    Each node's tie to zero.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from segalgos.parallel import map_strips

__all__ = ["coarsen", "graph_of_even_nodes", "totals"]

SOFTER = 0.6  # change of what is strong from one pass to the next: groups have more links
STRIP = 8192  # nodes
LONGEST = 0.5  # the most that the way inside a group adds to a link's resistance, relatively


@njit(nogil=True, cache=True)
def _rows_of_even_nodes(couplings, steps, inverse, ground, first, last):
    """Rows of some even nodes, the odd ones eliminated: see `graph_of_even_nodes`."""
    n_ways = 2 * steps.shape[0]
    # Steps ahead and back, and how far back their couplings are written.
    way, back = np.empty(n_ways, np.int64), np.zeros(n_ways, np.int64)
    way[::2], way[1::2], back[1::2] = steps, -steps, steps
    # Two ways make one link, in whatever order they are gone; going back makes none.
    jumps, slots = np.zeros(n_ways * n_ways, np.int64), np.zeros((n_ways, n_ways), np.int64)
    n_slots = 0
    for a in range(n_ways):
        for b in range(a, n_ways):
            if way[a] != -way[b]:
                jumps[n_slots] = way[a] + way[b]
                slots[a, b] = slots[b, a] = n_slots
                n_slots += 1
    for a in range(n_ways):
        slots[a, a ^ 1] = n_slots
    counts, new_ground = np.zeros(last - first, np.int64), np.zeros(last - first)
    indices = np.empty(n_slots * (last - first), np.int32)
    weight = np.empty(n_slots * (last - first), np.float32)
    n_links, between = 0, np.zeros(n_slots + 1)
    for row in range(first, last):
        i, begin = 2 * row, n_links
        if inverse[i] == 0:
            continue
        between[:] = 0
        total = ground[i]
        for a in range(n_ways):
            odd, coupling = i + way[a], couplings[a // 2, i - back[a]]
            if coupling > 0:
                part = coupling * inverse[odd]
                total += part * ground[odd]
                for b in range(n_ways):
                    between[slots[a, b]] += part * couplings[b // 2, odd - back[b]]
        for slot in range(n_slots):
            if between[slot] > 0:
                indices[n_links], weight[n_links] = (i + jumps[slot]) // 2, between[slot]
                n_links += 1
        counts[row - first], new_ground[row - first] = n_links - begin, total
    return counts, indices[:n_links].copy(), weight[:n_links].copy(), new_ground


def _join(parts):
    """Make a graph of its strips, which hold the lengths of rows in the place of `indptr`."""
    counts, indices, weight, ground = (np.concatenate(part) for part in zip(*parts, strict=True))
    return np.concatenate([[0], np.cumsum(counts)]), indices, weight, ground


def graph_of_even_nodes(couplings, steps, inverse, ground):
    """Eliminate the odd nodes of a grid.

    Parameters
    ----------
    couplings : (n_steps, n) float32
        Between the nodes i and ``i + steps[k]``.
    steps : (n_steps,) int64
        Odd.
    inverse : (n,) float64
        One over the sum of each node's ties; 0 where there are none.
    ground : (n,) float64

    Returns
    -------
    tuple
        Graph of the even nodes: the neighbours of each odd one are linked to each other.
    """
    rows = partial(_rows_of_even_nodes, couplings, steps, inverse, ground)
    return _join(map_strips(rows, len(inverse) // 2, STRIP))


@njit(nogil=True, cache=True)
def totals(indptr, indices, weight, ground):
    """Sum of each node's ties."""
    total = ground.copy()
    for i in range(ground.shape[0]):
        for k in range(indptr[i], indptr[i + 1]):
            total[i] += weight[k]
    return total


@njit(nogil=True, cache=True)
def _match(indptr, indices, weight, ground, total, strong):
    """Join nodes in pairs along their strongest links.

    Parameters
    ----------
    indptr, indices, weight, ground
        The graph; nodes for which `ground` is most of `total` need no coarse level.
    total : (n,) float64
        Diagonal of the level being coarsened, summed over each node's parts.
    strong : float
        Two nodes are joined if their link is at least this part of one's total.

    Returns
    -------
    group : (n,) int32
        -1 for nodes that need none.
    second : (n,) bool
        Whether a node was joined to another one, rather than that one to it.
    inner : (n_groups,) float64
        Weight of the links by which nodes were joined.

    Notes
    -----
    O(n_links) time. A node whose neighbours are all in pairs joins the one that it is
    strongly tied to.
    """
    n = total.shape[0]
    group, second = np.full(n, -1, np.int32), np.zeros(n, np.bool_)
    inner = np.zeros(n)
    n_groups = 0
    for i in range(n):
        if group[i] >= 0 or 2 * ground[i] >= total[i]:
            continue
        free, taken, free_weight, taken_weight = -1, -1, 0.0, 0.0
        for k in range(indptr[i], indptr[i + 1]):
            j = indices[k]
            if 2 * ground[j] >= total[j]:
                continue
            if group[j] >= 0:
                if weight[k] > taken_weight and weight[k] >= strong * total[i]:
                    taken, taken_weight = j, weight[k]
            elif weight[k] > free_weight and weight[k] >= strong * min(total[i], total[j]):
                free, free_weight = j, weight[k]
        if free < 0 and taken >= 0:
            group[i], second[i] = group[taken], True
            inner[group[i]] += taken_weight
            continue
        group[i] = n_groups
        if free >= 0:
            group[free], second[free] = n_groups, True
            inner[n_groups] = free_weight
        n_groups += 1
    return group, second, inner[:n_groups].copy()


@njit(nogil=True, cache=True)
def _way(link, part, share, resistance):
    """Resistance from a group's middle to where a link begins, relative to the link's.

    `part` of the link's weight begins at the second nodes, in which there is a `share` of
    the group. So a line of equal pairs conducts half as well as its links, while a link
    that begins at both nodes alike is not changed.
    """
    return min(2 * resistance * (part - share * link) ** 2 / link, LONGEST)


class _Groups(NamedTuple):
    """Which nodes are joined.

    Parameters
    ----------
    of : (n,) int32
        Group of each node, or -1.
    second : (n,) bool
        As of `_match`.
    first, members : (n_groups + 1,) int64 and (n_members,) int32
        Where the members of each group begin, and all of them.
    share : (n_groups,) float64
        Part of the group that second nodes are.
    resistance : (n_groups,) float64
        Between its first node and its second ones.
    """

    of: NDArray[np.int32]
    second: NDArray[np.bool_]
    first: NDArray[np.int64]
    members: NDArray[np.int32]
    share: NDArray[np.float64]
    resistance: NDArray[np.float64]


@njit(nogil=True, cache=True)
def _list_members(total, group, second, inner):
    """Give the groups that `_match` found, and the sum of their nodes' `total`."""
    n, n_groups = group.shape[0], inner.shape[0]
    first, size, share = np.zeros(n_groups + 1, np.int64), np.zeros(n_groups), np.zeros(n_groups)
    for i in range(n):
        if group[i] >= 0:
            first[group[i] + 1] += 1
            size[group[i]] += total[i]
            if second[i]:
                share[group[i]] += total[i]
    first = np.cumsum(first)
    members, place = np.empty(first[n_groups], np.int32), first[:-1].copy()
    for i in range(n):
        if group[i] >= 0:
            members[place[group[i]]] = i
            place[group[i]] += 1
    resistance = np.zeros(n_groups)
    for g in range(n_groups):
        if inner[g] > 0:
            resistance[g] = 1 / inner[g]
    return _Groups(group, second, first, members, share / size, resistance), size


@njit(nogil=True, cache=True)
def _contract(indptr, indices, weight, ground, groups, start, stop):
    """Make one node of each of some groups.

    Parameters
    ----------
    indptr, indices, weight, ground
        The graph.
    groups : _Groups
        Links to nodes of no group become ties to the ground.
    start, stop : int
        Range of groups.

    Returns
    -------
    counts : (stop - start,) int64
        Number of links of each.
    indices, weight, ground : as of a graph
    """
    n_all = longest = 0
    for g in range(start, stop):
        n_row = 0
        for m in range(groups.first[g], groups.first[g + 1]):
            n_row += indptr[groups.members[m] + 1] - indptr[groups.members[m]]
        n_all, longest = n_all + n_row, max(longest, n_row)
    counts, new_ground = np.zeros(stop - start, np.int64), np.zeros(stop - start)
    new_indices, new_weight = np.empty(n_all, np.int32), np.empty(n_all, np.float32)
    entry = np.full(groups.share.shape[0], -1, np.int64)  # where this row has each group
    # Links of this group to each other one: all, and those that begin or end at second nodes.
    link, here, there = np.empty(longest), np.empty(longest), np.empty(longest)
    n_links = 0
    for g in range(start, stop):
        begin = n_links
        for m in range(groups.first[g], groups.first[g + 1]):
            i = groups.members[m]
            new_ground[g - start] += ground[i]
            for k in range(indptr[i], indptr[i + 1]):
                other, value = groups.of[indices[k]], np.float64(weight[k])
                if other == g:
                    continue
                if other < 0:
                    new_ground[g - start] += value
                    continue
                if entry[other] < begin:
                    entry[other] = n_links
                    new_indices[n_links] = other
                    slot = n_links - begin
                    link[slot] = here[slot] = there[slot] = 0.0
                    n_links += 1
                slot = entry[other] - begin
                link[slot] += value
                here[slot] += value * groups.second[i]
                there[slot] += value * groups.second[indices[k]]
        for k in range(begin, n_links):
            other, slot = new_indices[k], k - begin
            whole = link[slot]
            longer = _way(whole, here[slot], groups.share[g], groups.resistance[g])
            longer += _way(whole, there[slot], groups.share[other], groups.resistance[other])
            new_weight[k] = whole / (1 + longer)
        counts[g - start] = n_links - begin
    return counts, new_indices[:n_links].copy(), new_weight[:n_links].copy(), new_ground


def coarsen(graph, total, strong, n_passes):
    """Join the nodes of a graph in groups of about ``2**n_passes``: pairs, pairs of pairs ...

    Parameters
    ----------
    graph : tuple
    total : (n,) float64
        Its diagonal, as the smoother sees it.
    strong : float
        Nodes are joined if their link is at least this part, times an average link's share,
        of all links of one of them: else smoothing would not take out their difference.
    n_passes : int

    Returns
    -------
    group : (n,) int32
        -1 for nodes that need no coarse level.
    graph : tuple
        Of the groups.
    """
    group = np.arange(len(total), dtype=np.int32)
    for i in range(n_passes):
        part = strong * SOFTER**i * len(total) / max(1, len(graph[1]))
        match = _match(*graph, total, part)
        # Rarely, far down, where nodes have many weak links; at last, any link will do.
        while i == 0 and len(match[2]) > 0.85 * len(total) and part > 0:
            part = part / 4 if part > 1e-3 else 0.0
            match = _match(*graph, total, part)
        groups, total = _list_members(total, *match)
        # Each strip marks the groups that it has met: only so many may be cut.
        strip = max(STRIP, len(total) // 16)
        contract = partial(_contract, *graph, groups)
        graph = _join(map_strips(contract, len(total), strip) or [contract(0, 0)])
        group = np.append(match[0], np.int32(-1))[group]
    return group, graph
