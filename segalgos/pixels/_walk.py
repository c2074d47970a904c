"""Walking rows down the trees of a forest: the kernels.

Thresholds of a feature are few, so rows are first written as bytes: how many thresholds lie
below each value. Rows that follow one another are often pixels side by side, and go the same
way for long: they walk as one, by the least and the largest byte of each feature, until they
part.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["MAX_THRESHOLDS", "Walkable", "add_votes", "encode"]

MAX_THRESHOLDS = 255  # a feature
LEAF = 0xFFFF  # no byte is above it: a leaf goes left, to itself
GROUP = 8  # rows that walk as one, and then side by side, so that none waits for memory alone
LEVELS = 5  # groups of 8, 16 and 32 rows
WALK_ROWS = 256  # rows that stay in the second cache while all trees pass


class Walkable:
    """A forest as the kernels want it.

    Parameters
    ----------
    features, children : (n_nodes,) int16 or int32 and int32
        As in `segalgos.pixels.forest.RandomForest`.
    thresholds : (n_nodes,) float32
    n_features, n_classes : int

    Attributes
    ----------
    nodes : (n_nodes,) uint64
        The feature in the lowest 16 bits, then 16 of the threshold's place among those of
        the feature, and the left child. A leaf has its class instead of a feature, or
        `n_classes` if it is not pure, and is its own child.
    leaf_of : (n_nodes,) int32
        Row of the table of leaves, in leaves.
    limits : (n_features, MAX_THRESHOLDS + 1) float32
        Thresholds of each feature, ascending, infinite at the end.
    width : int
        Bytes that a row has: as many as features, or as leaves may name.

    Raises
    ------
    ValueError
        If a feature has more thresholds than ``MAX_THRESHOLDS``, or there are too many
        features or classes.
    """

    def __init__(
        self,
        features: NDArray[np.integer],
        thresholds: NDArray[np.float32],
        children: NDArray[np.int32],
        n_features: int,
        n_classes: int,
    ):
        self.width = max(n_features, n_classes + 1)
        if self.width >= LEAF:
            raise ValueError(f"there are more than {LEAF - 1} features or classes")
        is_leaf = features < 0
        self.leaf_of = np.where(is_leaf, children, 0).astype(np.int32)
        self.limits = np.full((n_features, MAX_THRESHOLDS + 1), np.inf, np.float32)
        place = np.full(len(features), LEAF, np.uint64)
        order = np.argsort(features, kind="stable")
        ends = np.searchsorted(features[order], np.arange(n_features + 1))
        for feature in range(n_features):
            here = order[ends[feature] : ends[feature + 1]]
            limits, rank = np.unique(thresholds[here], return_inverse=True)
            if len(limits) > MAX_THRESHOLDS:
                raise ValueError(f"a feature has more than {MAX_THRESHOLDS} thresholds")
            self.limits[feature, : len(limits)], place[here] = limits, rank
        child = np.where(is_leaf, np.arange(len(features)), children).astype(np.uint64)
        feature = np.where(is_leaf, np.minimum(children, n_classes), features).astype(np.uint64)
        self.nodes = child << np.uint64(32) | place << np.uint64(16) | feature


@njit(nogil=True, cache=True)
def encode(rows, limits, codes):
    """Count how many thresholds lie below each value.

    Parameters
    ----------
    rows : (n, F) float32
    limits : (F, MAX_THRESHOLDS + 1) float32
        Ascending, infinite at the end.
    codes : (n, width) uint8, overwritten in the first F columns
    """
    for begin in range(0, rows.shape[0], WALK_ROWS):
        end = min(begin + WALK_ROWS, rows.shape[0])
        for feature in range(limits.shape[0]):
            row = limits[feature]
            if row[0] == np.inf:  # no tree looks at it
                codes[begin:end, feature] = 0
                continue
            for i in range(begin, end):
                value, n_below, step = rows[i, feature], np.uintp(0), np.uintp(128)
                while step:  # by arithmetic: a branch could not be foreseen
                    n_below += step * np.uintp(row[n_below + step - np.uintp(1)] < value)
                    step >>= np.uintp(1)
                codes[i, feature] = n_below


@njit(nogil=True, cache=True)
def _bound(codes, low, high):
    """Find the range of each feature in groups of rows.

    Parameters
    ----------
    codes : (n, width) uint8
    low, high : (n // GROUP * width,) uint8, overwritten
    """
    width = codes.shape[1]
    for group in range(codes.shape[0] // GROUP):
        least = low[group * width : (group + 1) * width]
        most = high[group * width : (group + 1) * width]
        least[:], most[:] = codes[GROUP * group], codes[GROUP * group]
        for i in range(GROUP * group + 1, GROUP * (group + 1)):
            row = codes[i]
            for f in range(width):
                least[f], most[f] = min(least[f], row[f]), max(most[f], row[f])


@njit(nogil=True, cache=True)
def _walk_together(record, low, high, first, nodes):
    """Walk a group of rows from a node until they part or are in a leaf.

    Parameters
    ----------
    record : uint64
        Of the node.
    low, high : (n_groups * width,) uint8
        Range of each feature in each group.
    first : uintp
        Where the group's ranges begin.
    nodes : (n_nodes,) uint64

    Returns
    -------
    uint64
        Record of the node where they are then.
    """
    limit = record >> np.uint64(16) & np.uint64(0xFFFF)
    while limit != LEAF:
        at = first + np.uintp(record & np.uint64(0xFFFF))
        right = np.uint64(np.uint64(low[at]) > limit)
        if right != np.uint64(np.uint64(high[at]) > limit):
            break
        record = nodes[np.uintp((record >> np.uint64(32)) + right)]
        limit = record >> np.uint64(16) & np.uint64(0xFFFF)
    return record


@njit(nogil=True, cache=True)
def _step(node, codes, first, nodes):
    """One step of one row, whose codes begin at `first`: the node's record to its child's."""
    value = np.uint64(codes[first + np.uintp(node & np.uint64(0xFFFF))])
    right = value > (node >> np.uint64(16) & np.uint64(0xFFFF))
    return nodes[np.uintp((node >> np.uint64(32)) + np.uint64(right))]


@njit(nogil=True, cache=True)
def _walk_apart(start, codes, first, width, nodes, found):
    """Walk a group of rows from one node to their leaves, side by side.

    Parameters
    ----------
    start : uint64
        Record of the node.
    codes : (n * width,) uint8
    first, width : uintp
        Where the codes of the first row begin, and how many a row has.
    nodes : (n_nodes,) uint64
    found : (GROUP,) uint64, overwritten
        Records of the leaves.
    """
    a = b = c = d = e = f = g = h = start
    before, total = np.uint64(0), a + b + c + d + e + f + g + h
    while total != before:  # with each step a record grows, so the sum does until all stay
        before = total
        a = _step(a, codes, first, nodes)
        b = _step(b, codes, first + width, nodes)
        c = _step(c, codes, first + np.uintp(2) * width, nodes)
        d = _step(d, codes, first + np.uintp(3) * width, nodes)
        e = _step(e, codes, first + np.uintp(4) * width, nodes)
        f = _step(f, codes, first + np.uintp(5) * width, nodes)
        g = _step(g, codes, first + np.uintp(6) * width, nodes)
        h = _step(h, codes, first + np.uintp(7) * width, nodes)
        total = a + b + c + d + e + f + g + h
    found[0], found[1], found[2], found[3] = a, b, c, d
    found[4], found[5], found[6], found[7] = e, f, g, h


@njit(nogil=True, cache=True)
def add_votes(codes, nodes, leaf_of, roots, leaves, votes):
    """Add the leaves of every tree to the votes of every row.

    Parameters
    ----------
    codes : (n, width) uint8
        As `encode` writes them.
    nodes, leaf_of : as in `Walkable`
    roots : (n_trees,) int32
    leaves : (n_leaves, K) float32
        The first K are pure.
    votes : (n, K) float32, added to

    Notes
    -----
    O(n * n_trees * depth) time, less where rows that follow one another are alike. The
    order of additions is that of the trees.
    """
    (n, n_classes), row_bytes = votes.shape, codes.shape[1]
    low = np.empty(WALK_ROWS // GROUP * row_bytes, np.uint8)
    high, found = np.empty_like(low), np.empty(GROUP, np.uint64)
    flat_codes, flat_votes, flat_leaves = codes.reshape(-1), votes.reshape(-1), leaves.reshape(-1)
    width, n_kinds, one = np.uintp(row_bytes), np.uintp(n_classes), np.float32(1)
    for begin in range(0, n, WALK_ROWS):
        end = min(begin + WALK_ROWS, n)
        n_groups = (end - begin) // GROUP
        _bound(codes[begin : begin + n_groups * GROUP], low, high)
        for tree in range(roots.shape[0]):
            root = nodes[roots[tree]]
            for group in range(n_groups):
                row = np.uintp(begin + group * GROUP)
                start = _walk_together(root, low, high, np.uintp(group) * width, nodes)
                _walk_apart(start, flat_codes, row * width, width, nodes, found)
                vote = row * n_kinds
                for i in range(np.uintp(GROUP)):
                    kind = np.uintp(found[i] & np.uint64(0xFFFF))
                    if kind < n_kinds:
                        flat_votes[vote + kind] += one
                    else:
                        leaf = np.uintp(leaf_of[np.uintp(found[i] >> np.uint64(32))]) * n_kinds
                        for k in range(n_kinds):
                            flat_votes[vote + k] += flat_leaves[leaf + k]
                    vote += n_kinds
            for i in range(begin + n_groups * GROUP, end):
                record, before = root, np.uint64(0)
                while record != before:
                    before = record
                    record = _step(record, flat_codes, np.uintp(i) * width, nodes)
                leaf = leaf_of[np.uintp(record >> np.uint64(32))]
                for k in range(n_classes):
                    votes[i, k] += leaves[leaf, k]
