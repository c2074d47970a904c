"""Walking rows down the trees of a forest: the kernels.

Values and thresholds are compared as integers in the order of the floats, so that a node fits
in one number of 64 bits. Rows that follow one another are often pixels side by side, and go
the same way for long: they walk as one, by the least and the largest value of each feature,
until they part, and then side by side.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["Walkable", "add_votes", "to_keys"]

NEVER = 2**31 - 1  # no value is above it: a leaf goes left
MAX_FEATURES = 1 << 12
MAX_STEP = 1 << 20  # nodes from a parent to its child
GROUP = 8  # rows that walk as one, and then side by side, so that none waits for memory alone
WALK_ROWS = 256  # rows that stay in the second cache while all trees pass


@njit(nogil=True, cache=True)
def to_keys(bits, keys):
    """Turn the bits of floats into integers of the same order.

    Parameters
    ----------
    bits : (n, F) int32
        Of finite float32.
    keys : (n, width) int32, overwritten in the first F columns
    """
    for i in range(bits.shape[0]):
        for f in range(bits.shape[1]):
            sign = bits[i, f] >> np.int32(31)
            keys[i, f] = bits[i, f] ^ (sign & np.int32(0x7FFFFFFF))


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
        The feature in the lowest 12 bits, then 20 of the step to the left child, and the
        threshold as `to_keys` has it. A leaf has no step, and its class instead of a
        feature, or `n_classes` if it is not pure.
    leaf_of : (n_nodes,) int32
        Row of the table of leaves, in leaves.
    width : int
        Columns that the keys of a row have: as many as features, or as leaves may name.

    Raises
    ------
    ValueError
        If there are too many features, classes or nodes for that.
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
        is_leaf = features < 0
        step = np.where(is_leaf, 0, children - np.arange(len(features)))
        if self.width > MAX_FEATURES or step.max() >= MAX_STEP:
            raise ValueError(
                f"a forest has at most {MAX_FEATURES} features, {MAX_FEATURES - 1} classes and "
                f"{MAX_STEP} nodes a tree: set min_samples_leaf or max_depth, or select features."
            )
        self.leaf_of = np.where(is_leaf, children, 0).astype(np.int32)
        keys = np.empty((len(features), 1), np.int32)
        to_keys((thresholds + np.float32(0)).view(np.int32)[:, None], keys)  # -0 becomes 0
        key = np.where(is_leaf, NEVER, keys[:, 0]).astype(np.int64).astype(np.uint64)
        feature = np.where(is_leaf, np.minimum(children, n_classes), features).astype(np.uint64)
        self.nodes = key << np.uint64(32) | step.astype(np.uint64) << np.uint64(12) | feature


@njit(nogil=True, cache=True)
def _bound(keys, low, high):
    """Find the range of each feature in groups of rows.

    Parameters
    ----------
    keys : (n, width) int32
    low, high : (n // GROUP * width,) int32, overwritten
    """
    width = keys.shape[1]
    for group in range(keys.shape[0] // GROUP):
        least = low[group * width : (group + 1) * width]
        most = high[group * width : (group + 1) * width]
        least[:], most[:] = keys[GROUP * group], keys[GROUP * group]
        for i in range(GROUP * group + 1, GROUP * (group + 1)):
            row = keys[i]
            for f in range(width):
                least[f], most[f] = min(least[f], row[f]), max(most[f], row[f])


@njit(nogil=True, cache=True)
def _is_right(record, keys, first):
    """1 if the row whose keys begin at `first` goes right at a node, else 0."""
    threshold = np.int32(np.int64(record) >> 32)
    return np.uintp(keys[first + np.uintp(record & np.uint64(0xFFF))] > threshold)


@njit(nogil=True, cache=True)
def _step(node, keys, first, nodes):
    """Index of the child that a row goes to; of the node itself if that is a leaf."""
    record = nodes[node]
    left = node + np.uintp(record >> np.uint64(12) & np.uint64(0xFFFFF))
    return left + _is_right(record, keys, first)


@njit(nogil=True, cache=True)
def _walk_together(node, low, high, first, nodes):
    """Walk a group of rows from a node until they part or are in a leaf.

    Parameters
    ----------
    node : uintp
    low, high : (n_groups * width,) int32
        Range of each feature in each group.
    first : uintp
        Where the group's ranges begin.
    nodes : (n_nodes,) uint64

    Returns
    -------
    uintp
        The node where they are then.
    """
    while True:
        record = nodes[node]
        step = np.uintp(record >> np.uint64(12) & np.uint64(0xFFFFF))
        right = _is_right(record, low, first)
        if step == 0 or right != _is_right(record, high, first):
            return node
        node += step + right


@njit(nogil=True, cache=True)
def _walk_apart(start, keys, first, width, nodes, found):
    """Walk a group of rows from one node to their leaves, side by side.

    Parameters
    ----------
    start : uintp
        The node.
    keys : (n * width,) int32
    first, width : uintp
        Where the keys of the first row begin, and how many a row has.
    nodes : (n_nodes,) uint64
    found : (GROUP,) uintp, overwritten
        Their leaves.
    """
    a = b = c = d = e = f = g = h = start
    before, total = np.uintp(0), a + b + c + d + e + f + g + h + np.uintp(1)
    while total != before:  # children come after their parents, so the sum grows until all stay
        before = total
        a = _step(a, keys, first, nodes)
        b = _step(b, keys, first + width, nodes)
        c = _step(c, keys, first + np.uintp(2) * width, nodes)
        d = _step(d, keys, first + np.uintp(3) * width, nodes)
        e = _step(e, keys, first + np.uintp(4) * width, nodes)
        f = _step(f, keys, first + np.uintp(5) * width, nodes)
        g = _step(g, keys, first + np.uintp(6) * width, nodes)
        h = _step(h, keys, first + np.uintp(7) * width, nodes)
        total = a + b + c + d + e + f + g + h + np.uintp(1)
    found[0], found[1], found[2], found[3] = a, b, c, d
    found[4], found[5], found[6], found[7] = e, f, g, h


@njit(nogil=True, cache=True)
def add_votes(keys, nodes, leaf_of, roots, leaves, votes):
    """Add the leaves of every tree to the votes of every row.

    Parameters
    ----------
    keys : (n, width) int32
        As `to_keys` writes them.
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
    (n, n_classes), columns = votes.shape, keys.shape[1]
    low = np.empty(WALK_ROWS // GROUP * columns, np.int32)
    high, found = np.empty_like(low), np.empty(GROUP, np.uintp)
    flat_keys, flat_votes, flat_leaves = keys.reshape(-1), votes.reshape(-1), leaves.reshape(-1)
    width, n_kinds, one = np.uintp(columns), np.uintp(n_classes), np.float32(1)
    for begin in range(0, n, WALK_ROWS):
        end = min(begin + WALK_ROWS, n)
        n_groups = (end - begin) // GROUP
        _bound(keys[begin : begin + n_groups * GROUP], low, high)
        for tree in range(roots.shape[0]):
            root = np.uintp(roots[tree])
            for group in range(n_groups):
                row = np.uintp(begin + group * GROUP)
                start = _walk_together(root, low, high, np.uintp(group) * width, nodes)
                _walk_apart(start, flat_keys, row * width, width, nodes, found)
                vote = row * n_kinds
                for i in range(np.uintp(GROUP)):
                    kind = np.uintp(nodes[found[i]] & np.uint64(0xFFF))
                    if kind < n_kinds:
                        flat_votes[vote + kind] += one
                    else:
                        leaf = np.uintp(leaf_of[found[i]]) * n_kinds
                        for k in range(n_kinds):
                            flat_votes[vote + k] += flat_leaves[leaf + k]
                    vote += n_kinds
            for i in range(begin + n_groups * GROUP, end):
                node, before = root, ~root
                while node != before:
                    before = node
                    node = _step(node, flat_keys, np.uintp(i) * width, nodes)
                leaf = leaf_of[node]
                for k in range(n_classes):
                    votes[i, k] += leaves[leaf, k]
