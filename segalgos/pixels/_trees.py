"""Growing the trees of a random forest: the kernels."""

from __future__ import annotations

import numpy as np
from numba import njit

from segalgos._random_kernels import draw_below
from segalgos.pixels._binning import N_BINS
from segalgos.pixels._splits import (
    FEW,
    best_boundary,
    best_of_all,
    count_bins,
    count_packed,
    count_rows,
    pack,
    random_split,
    sort_bins,
)

__all__ = ["grow"]


@njit(nogil=True, cache=True)
def _part(column, bin_left, rows, classes, weights, spare):
    """Move rows that go left before the others, keeping their order; gives their number."""
    spare_rows, spare_classes, spare_weights = spare
    n_left = n_right = 0
    for i in range(rows.shape[0]):  # both are written, so that there is no branch to foresee
        row, k, weight = rows[i], classes[i], weights[i]
        goes_left = column[row] <= bin_left
        spare_rows[n_right], spare_classes[n_right], spare_weights[n_right] = row, k, weight
        rows[n_left], classes[n_left], weights[n_left] = row, k, weight
        n_left += goes_left
        n_right += not goes_left
    for i in range(n_right):
        rows[n_left + i] = spare_rows[i]
        classes[n_left + i] = spare_classes[i]
        weights[n_left + i] = spare_weights[i]
    return n_left


@njit(nogil=True, cache=True)
def grow(
    codes,
    low,
    high,
    rows,
    classes,
    weights,
    n_classes,
    max_features,
    max_depth,
    min_split,
    min_leaf,
    is_random,
    seed,
    features,
    thresholds,
    children,
    leaves,
    importances,
):
    """Grow a tree until its leaves are pure or limits are met.

    Parameters
    ----------
    codes, low, high : as in `BinnedRows`
    rows, classes, weights : (m,) int32, int32 and float64, overwritten
        Rows in the tree, with their classes and positive weights; they are sorted by leaf.
    n_classes, max_features, max_depth, min_split, min_leaf : int
    is_random : bool
        Draw thresholds instead of searching for the best: extremely randomized trees [2]_.
    seed : uint64
        Not 0.
    features : (2 m,) int32, overwritten
        Feature that a node splits; -1 in a leaf.
    thresholds : (2 m,) float32, overwritten
        A value goes left if it is at most this.
    children : (2 m,) int32, overwritten
        The left child, which the right one follows; in a leaf, its row of `leaves`.
    leaves : (n_classes + m, n_classes) float32, overwritten
        Parts of the classes. The first rows are those of pure leaves.
    importances : (F,) float64, overwritten
        Decrease of weighted Gini impurity [1]_.

    Returns
    -------
    n_nodes, n_leaves : int
        How many entries and rows are in use.

    Notes
    -----
    O(m * max_features * depth) time. Features are drawn without replacement until
    `max_features` were looked at and one of them varies.

    References
    ----------
    .. [1] L. Breiman, "Random forests", Machine Learning 45, 5-32, 2001.
    .. [2] P. Geurts, D. Ernst, L. Wehenkel, "Extremely randomized trees", Machine Learning
       63, 3-42, 2006.
    """
    n_features, m = codes.shape[0], rows.shape[0]
    state = np.array([seed], np.uint64)
    left, total = np.empty(n_classes), np.empty(n_classes)
    histogram, counts = np.zeros((n_classes, N_BINS)), np.zeros(N_BINS, np.int32)
    tally = np.zeros(((n_classes + 3) >> 2, N_BINS), np.uint64)
    sums, packed, words = np.empty(N_BINS, np.uint64), np.empty(m, np.uint64), np.empty(m, np.int32)
    bins, n_below = np.empty(N_BINS, np.int32), np.empty(N_BINS, np.int32)
    below, work = np.empty((n_classes, N_BINS)), np.empty((3, N_BINS))
    below_32, work_32 = np.empty((n_classes, N_BINS), np.float32), np.empty((3, N_BINS), np.float32)
    is_whole = True
    for i in range(m):
        is_whole &= weights[i] == np.floor(weights[i])
    loose, keys = np.empty((2, FEW), np.int32)
    deck = np.arange(n_features)
    spare = np.empty(m + 1, np.int32), np.empty(m + 1, np.int32), np.empty(m + 1)
    importances[:] = 0
    leaves[:n_classes] = 0
    for k in range(n_classes):
        leaves[k, k] = 1
    stack = [(0, 0, m, 0)]
    n_nodes, n_leaves = 1, n_classes
    while len(stack):
        node, start, stop, depth = stack.pop()
        n = stop - start
        row, kind, weight = rows[start:stop], classes[start:stop], weights[start:stop]
        total[:] = 0
        for i in range(n):
            total[kind[i]] += weight[i]
        some, n_kinds, weight_of_all = 0, 0, 0.0
        for k in range(n_classes):
            weight_of_all += total[k]
            if total[k] > 0:
                some, n_kinds = k, n_kinds + 1
        best, best_feature, best_left, best_right = -np.inf, -1, -1, -1
        if n_kinds > 1 and depth < max_depth and n >= max(min_split, 2 * min_leaf):
            n_seen, varies = 0, False
            is_packed = is_whole and n > FEW and weight_of_all < 65536
            if is_packed:
                pack(kind, weight, packed, words)
            while n_seen < n_features and (n_seen < max_features or not varies):
                place = draw_below(state, n_features - n_seen)
                n_seen += 1
                feature = deck[place]
                deck[place], deck[n_features - n_seen] = deck[n_features - n_seen], feature
                column = codes[feature]
                if is_random:
                    ranges = low[feature], high[feature]
                    found = random_split(
                        column, row, kind, weight, total, min_leaf, *ranges, state, left
                    )
                elif n <= FEW:
                    n_bins = sort_bins(column, row, kind, weight, loose, keys, bins, below, n_below)
                    score, place = best_boundary(n_bins, below, n_below, min_leaf, work)
                    found = score, np.int64(-1), np.int64(-1)
                    if place >= 0:
                        found = score, np.int64(bins[place]), np.int64(bins[place + 1])
                else:
                    if min_leaf > 1:
                        count_rows(column, row, counts, n_below)
                    if is_packed:
                        count_packed(column, row, packed, words, tally, sums, below_32)
                        found = best_of_all(below_32, n_below, min_leaf, work_32)
                    else:
                        count_bins(column, row, kind, weight, histogram, below)
                        found = best_of_all(below, n_below, min_leaf, work)
                varies |= found[1] >= 0
                if found[0] > best:
                    best, best_left, best_right = found
                    best_feature = feature
        if best_feature < 0:
            features[node], thresholds[node], children[node] = -1, 0, some
            if n_kinds > 1:
                leaves[n_leaves] = total / total.sum()
                children[node] = n_leaves
                n_leaves += 1
            continue
        square = 0.0
        for k in range(n_classes):
            square += total[k] ** 2
        importances[best_feature] += max(0.0, best - square / weight_of_all)
        between = (best_left + best_right - 1) >> 1  # bins that do not occur may lie between
        least, most = high[best_feature, between], low[best_feature, between + 1]
        threshold = np.float32(0.5 * np.float64(least) + 0.5 * np.float64(most))
        features[node] = best_feature
        thresholds[node] = threshold if threshold < most else least
        children[node] = n_nodes
        middle = start + _part(codes[best_feature], best_left, row, kind, weight, spare)
        stack.append((n_nodes + 1, middle, stop, depth + 1))
        stack.append((n_nodes, start, middle, depth + 1))
        n_nodes += 2
    return n_nodes, n_leaves
