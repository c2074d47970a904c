"""Walking rows down the trees of a forest: the kernels.

Rows that follow one another are often pixels side by side, and go the same way for long. So 64
rows walk as one, a set of bits that splits in two where they part: a node is visited once for
all that come to it, and one instruction compares many of them. For that a value is kept as its
rank among the thresholds of its feature, which fits in a byte as trees know 256 bins.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numba import njit
from numpy.typing import NDArray

from segalgos.pixels._vectors import add_where, count_below, fetch, first_of, where_below

__all__ = ["Walkable", "add_votes"]

TOGETHER = 64  # rows that walk as one: the bits of a number
BLOCK = 1024  # rows that pass all trees before the next: their codes stay in the second cache
STRIDE = BLOCK + 64  # codes from one feature to the next, or all would compete for a part of it
NEEDED = 4  # nodes a row: a block of rows needs most of a tree of so many, or fewer
MAX_FEATURES = (1 << 24) // STRIDE
MAX_THRESHOLDS = 255
LOW_32 = np.uint64(0xFFFFFFFF)
ALL = ~np.uint64(0)


class Walkable:
    """A forest as the kernels want it.

    Parameters
    ----------
    features, children : (n_nodes,) int16 or int32 and int32
        As in `segalgos.pixels.forest.RandomForest`.
    thresholds : (n_nodes,) float32
    n_features : int

    Attributes
    ----------
    nodes : (n_nodes,) uint64
        In the lowest 8 bits the code that values which go left are below, then 24 of where
        the codes of the feature begin, 31 of the left child, or of a leaf's row in the table
        of leaves, and 1 for leaves.
    edges : (F, 272) float32
        A feature's thresholds, ascending, padded with infinity, from column 16 on; before
        them every 16th.

    Raises
    ------
    ValueError
        If there are too many features, or thresholds of one.
    """

    def __init__(
        self,
        features: NDArray[np.integer],
        thresholds: NDArray[np.float32],
        children: NDArray[np.int32],
        n_features: int,
    ):
        if n_features > MAX_FEATURES:
            raise ValueError(
                f"a forest has at most {MAX_FEATURES} features, not {n_features}: select some."
            )
        self.edges = np.full((n_features, 16 + 256), np.inf, np.float32)
        limits = np.zeros(len(features), np.int64)
        order = np.argsort(features, kind="stable")
        ends = np.searchsorted(features[order], np.arange(n_features + 1))
        for feature, (start, stop) in enumerate(pairwise(ends)):
            values, ranks = np.unique(thresholds[order[start:stop]], return_inverse=True)
            if len(values) > MAX_THRESHOLDS:
                raise ValueError(
                    f"a feature has at most {MAX_THRESHOLDS} thresholds, here are {len(values)}."
                )
            self.edges[feature, 16 : 16 + len(values)] = values
            limits[order[start:stop]] = ranks + 1
        self.edges[:, :16] = self.edges[:, 31::16]
        is_leaf = features < 0
        first = np.where(is_leaf, 0, features.astype(np.int64) * STRIDE)
        # A code is a rank less 128, to fit in 8 bits with a sign.
        parts = ((is_leaf, 63), (children, 32), (first, 8), ((limits - 128) & 0xFF, 0))
        self.nodes = np.zeros(len(features), np.uint64)
        for part, place in parts:
            self.nodes |= part.astype(np.uint64) << np.uint64(place)


@njit(nogil=True, cache=True)
def _encode(rows, edges, codes):
    """Write the codes of some rows.

    Parameters
    ----------
    rows : (n, F) float32
        Finite, n <= BLOCK.
    edges : as in `Walkable`
    codes : (F * STRIDE,) int8, overwritten
    """
    n, n_features = rows.shape
    for begin in range(0, n, TOGETHER):
        for f in range(n_features):
            here = edges[f]
            for i in range(begin, min(begin + TOGETHER, n)):
                rank = count_below(here, np.uintp(0), rows[i, f]) << np.uintp(4)
                rank += count_below(here, rank + np.uintp(16), rows[i, f])
                codes[np.uintp(f * STRIDE + i)] = np.int8(np.int64(rank) - 128)


@njit(nogil=True, cache=True)
def _walk(root, codes, nodes, n_rows, here, there, found):
    """Walk a block of rows down a tree, level by level.

    Parameters
    ----------
    root : uintp
    codes : (F * STRIDE,) int8
    nodes : (n_nodes,) uint64
    n_rows : int
    here, there : (2 * BLOCK + 2,) uint64, overwritten
        Sets of rows on a level: a node with, in the upper half, its first row, then the bits.
        No row is in two of them, so there are no more sets than rows.
    found : (2 * BLOCK + 2,) uint64, overwritten
        Sets of rows in leaves.

    Returns
    -------
    uintp
        Numbers written to `found`, two a set.
    """
    two, n_found, n = np.uintp(2), np.uintp(0), np.uintp(0)
    for row in range(0, n_rows, TOGETHER):
        here[n] = np.uint64(root) | np.uint64(row) << np.uint64(32)
        here[n + np.uintp(1)] = ALL >> np.uint64(max(0, row + TOGETHER - n_rows))
        n += two
    while n:
        tail = np.uintp(0)
        for i in range(np.uintp(0), n, two):
            place, rows = here[i], here[i + np.uintp(1)]
            node = nodes[np.uintp(place & LOW_32)]
            first = np.uintp(node >> np.uint64(8) & np.uint64(0xFFFFFF))
            first += np.uintp(place >> np.uint64(32))
            is_left = where_below(codes, first, np.int8(node & np.uint64(0xFF)))
            is_leaf = node >> np.uint64(63)
            child = node >> np.uint64(32) & np.uint64(0x7FFFFFFF) | place & ~LOW_32
            # What is not wanted is written too, and then overwritten: no branch to foresee.
            found[n_found], found[n_found + np.uintp(1)] = child, rows
            n_found += np.uintp(is_leaf) * two
            rows &= is_leaf - np.uint64(1)
            left, right = rows & is_left, rows & ~is_left
            there[tail], there[tail + np.uintp(1)] = child, left
            tail += np.uintp(left != np.uint64(0)) * two
            there[tail], there[tail + np.uintp(1)] = child + np.uint64(1), right
            tail += np.uintp(right != np.uint64(0)) * two
        here, there = there, here
        n = tail
    return n_found


@njit(nogil=True, cache=True)
def _add_counts(counts, votes):
    """Move the counts of pure leaves, (K * STRIDE,) uint8, to the votes, (n, K)."""
    n, n_classes = votes.shape
    for i in range(n):
        for k in range(n_classes):
            votes[i, k] += counts[k * STRIDE + i]
    counts[:] = 0


@njit(nogil=True, cache=True)
def add_votes(rows, nodes, edges, roots, leaves, votes):
    """Add the leaves of every tree to the votes of every row.

    Parameters
    ----------
    rows : (n, F) float32
        Finite.
    nodes, edges : as in `Walkable`
    roots : (n_trees,) int32
    leaves : (n_leaves, K) float32
        The first K are pure.
    votes : (n, K) float32, added to

    Notes
    -----
    O(n * n_trees * depth) time, less where rows that follow one another are alike. Those
    leaves that are not pure are added in the order of the trees.
    """
    (n, n_classes), n_trees = votes.shape, roots.shape[0]
    codes = np.empty(max(1, rows.shape[1]) * STRIDE, np.int8)
    here = np.empty(2 * BLOCK + 2, np.uint64)
    there, found = np.empty_like(here), np.empty_like(here)
    counts = np.zeros(n_classes * STRIDE, np.uint8)
    for begin in range(0, n, BLOCK):
        block = votes[begin : begin + BLOCK]
        n_rows = len(block)
        _encode(rows[begin : begin + n_rows], edges, codes)
        for tree in range(n_trees):
            stop = roots[tree + 1] if tree + 1 < n_trees else nodes.shape[0]
            if stop - roots[tree] < n_rows * NEEDED:
                for node in range(roots[tree], stop, 8):
                    fetch(nodes, np.uintp(node))
            n_found = _walk(np.uintp(roots[tree]), codes, nodes, n_rows, here, there, found)
            for i in range(np.uintp(0), n_found, np.uintp(2)):
                leaf = np.int64(found[i] & LOW_32)
                row, mask = found[i] >> np.uint64(32), found[i + np.uintp(1)]
                if leaf < n_classes:
                    add_where(counts, np.uintp(leaf * STRIDE) + np.uintp(row), mask)
                    continue
                while mask:
                    j = np.uintp(row + first_of(mask))
                    mask &= mask - np.uint64(1)
                    for k in range(n_classes):
                        block[j, k] += leaves[leaf, k]
            if tree % 255 == 254:  # a count is a byte
                _add_counts(counts, block)
        _add_counts(counts, block)
