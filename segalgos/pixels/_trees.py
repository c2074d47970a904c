"""Growing and walking the trees of a random forest: the kernels."""

from __future__ import annotations

import numpy as np
from numba import njit

from segalgos.pixels._binning import N_BINS

__all__ = ["NODE", "add_votes", "draw_bootstrap", "grow"]

FEW = 48  # rows up to which sorting their bins is faster than a histogram
LANES = 8  # rows that walk side by side, so that none waits for memory alone
WALK_ROWS = 1024  # rows that stay in the second cache while all trees pass

#: A node for walking. A leaf is its own child.
NODE = np.dtype(
    [("feature", np.int32), ("threshold", np.float32), ("child", np.int32), ("leaf", np.int32)]
)


# --- randomness --------------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _next(state):
    """Draw 64 random bits: xorshift64* of Vigna (2016); `state` (1,) uint64 is not 0."""
    x = state[0]
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    state[0] = x
    return x * np.uint64(2685821657736338717)


@njit(nogil=True, cache=True)
def _below(state, n):
    """Draw an integer of 0..n-1, n below 2**31."""
    return np.int64(((_next(state) >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32))


@njit(nogil=True, cache=True)
def _fraction(state):
    """Draw a number of [0, 1)."""
    return np.float64(_next(state) >> np.uint64(11)) / 9007199254740992.0  # 2**53


@njit(nogil=True, cache=True)
def draw_bootstrap(seed, counts):
    """Draw as many rows as there are, with replacement.

    Parameters
    ----------
    seed : uint64
        Not 0.
    counts : (n,) int32, overwritten
        How often each row was drawn.
    """
    state = np.array([seed], np.uint64)
    counts[:] = 0
    for _ in range(counts.shape[0]):
        counts[_below(state, counts.shape[0])] += 1


# --- splits ------------------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _best_of_few(column, rows, classes, weights, total, min_leaf, loose, keys, left):
    """As `_best_of_many`, for at most ``FEW`` rows: sorts their bins.

    Parameters
    ----------
    loose, keys : (FEW,) int32, scratch
    left : (K,) float64, scratch
    """
    n, n_classes = rows.shape[0], total.shape[0]
    for i in range(n):
        loose[i] = np.int32(column[rows[i]]) * np.int32(FEW) + np.int32(i)
    for i in range(n):  # a key's rank is how many are smaller: no branch, and vectors
        rank = np.int32(0)
        for j in range(n):
            rank += np.int32(loose[j] < loose[i])
        keys[rank] = loose[i]
    best, bin_left, bin_right = -np.inf, -1, -1
    if keys[0] // FEW == keys[n - 1] // FEW:
        return best, bin_left, bin_right
    weight_left = square_left = weight_right = square_right = 0.0
    for k in range(n_classes):
        left[k] = 0
        weight_right += total[k]
        square_right += total[k] ** 2
    before = keys[0] // FEW
    for j in range(n):
        now = keys[j] // FEW
        if now != before:
            if j >= min_leaf and n - j >= min_leaf and weight_left > 0 and weight_right > 0:
                score = square_left / weight_left + square_right / weight_right
                if score > best:
                    best, bin_left, bin_right = score, before, now
            before = now
        i = keys[j] % FEW
        k, weight = classes[i], weights[i]
        right = total[k] - left[k]
        square_left += weight * (2 * left[k] + weight)
        square_right += weight * (weight - 2 * right)
        weight_left += weight
        weight_right -= weight
        left[k] += weight
    return best, bin_left, bin_right


@njit(nogil=True, cache=True)
def _best_of_many(column, rows, classes, weights, total, min_leaf, histogram, bins, left):
    """Find the split of a node by one feature that leaves the least Gini impurity.

    Parameters
    ----------
    column : (n_rows,) uint8
        The feature's bins.
    rows, classes, weights : (n,) int32, int32 and float64
        Rows of the node.
    total : (K,) float64
        Their weight in each class.
    min_leaf : int
        Rows that either side has at least.
    histogram : (N_BINS, K + 1) float64, scratch
        Of weights and, last, of rows; zeros before and after.
    bins : (N_BINS + 1,) int64, scratch
    left : (K,) float64, scratch

    Returns
    -------
    score : float
        Squared weights of classes over the weight, of either side: the larger, the purer.
        -inf if there is no split.
    bin_left, bin_right : int
        The last bin that goes left, and the next one that occurs in the node.

    Notes
    -----
    O(n + N_BINS * K) time.
    """
    n, n_classes = rows.shape[0], total.shape[0]
    first, last = N_BINS, -1
    for i in range(n):
        b = np.int64(column[rows[i]])
        histogram[b, classes[i]] += weights[i]
        histogram[b, n_classes] += 1
        first, last = min(first, b), max(last, b)
    n_bins = 0
    for b in range(first, last + 1):  # without a branch, which could not be foreseen
        bins[n_bins] = b
        n_bins += histogram[b, n_classes] > 0
    weight_left = square_left = weight_right = square_right = 0.0
    for k in range(n_classes):
        left[k] = 0
        weight_right += total[k]
        square_right += total[k] ** 2
    best, bin_left, bin_right = -np.inf, -1, -1
    n_left, before = 0.0, -1
    for j in range(n_bins):
        b = bins[j]
        if n_left >= min_leaf and n - n_left >= min_leaf and before >= 0:
            both = weight_left * weight_right
            score = (square_left * weight_right + square_right * weight_left) / both
            if score > best:
                best, bin_left, bin_right = score, before, b
        for k in range(n_classes):
            weight = histogram[b, k]
            histogram[b, k] = 0
            square_left += weight * (2 * left[k] + weight)
            square_right += weight * (weight - 2 * (total[k] - left[k]))
            left[k] += weight
            weight_left += weight
            weight_right -= weight
        n_left += histogram[b, n_classes]
        histogram[b, n_classes] = 0
        before = b
    return best, bin_left, bin_right


@njit(nogil=True, cache=True)
def _random_split(column, rows, classes, weights, total, min_leaf, low, high, state, left):
    """As `_best_of_many`, for one threshold drawn between the node's least and largest value.

    Parameters
    ----------
    low, high : (N_BINS,) float32
        Range of values in each bin of the feature.
    state : (1,) uint64
        Of the random numbers.
    left : (K,) float64, scratch

    Notes
    -----
    The threshold is moved to the nearest gap between bins below it, or the first there is.
    O(n) time.
    """
    n, n_classes = rows.shape[0], total.shape[0]
    first, last = N_BINS, -1
    for i in range(n):
        b = np.int64(column[rows[i]])
        first, last = min(first, b), max(last, b)
    if first == last:
        return -np.inf, -1, -1
    least, most = np.float64(high[first]), np.float64(low[last])
    threshold = least + _fraction(state) * (most - least)
    bin_left = first
    while bin_left + 1 < last and high[bin_left + 1] <= threshold:
        bin_left += 1
    left[:] = 0
    n_left, bin_right = 0, last
    for i in range(n):
        b = np.int64(column[rows[i]])
        if b <= bin_left:
            left[classes[i]] += weights[i]
            n_left += 1
        else:
            bin_right = min(bin_right, b)
    weight_left = square_left = weight_right = square_right = 0.0
    for k in range(n_classes):
        weight_left += left[k]
        square_left += left[k] ** 2
        weight_right += total[k] - left[k]
        square_right += (total[k] - left[k]) ** 2
    if n_left < min_leaf or n - n_left < min_leaf or weight_left <= 0 or weight_right <= 0:
        return -np.inf, -1, -1
    return square_left / weight_left + square_right / weight_right, bin_left, bin_right


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


# --- a tree ------------------------------------------------------------------------------


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
    histogram, bins = np.zeros((N_BINS, n_classes + 1)), np.empty(N_BINS + 1, np.int64)
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
        some, n_kinds = 0, 0
        for k in range(n_classes):
            if total[k] > 0:
                some, n_kinds = k, n_kinds + 1
        best, best_feature, best_left, best_right = -np.inf, -1, -1, -1
        if n_kinds > 1 and depth < max_depth and n >= max(min_split, 2 * min_leaf):
            n_seen, varies = 0, False
            while n_seen < n_features and (n_seen < max_features or not varies):
                place = _below(state, n_features - n_seen)
                n_seen += 1
                feature = deck[place]
                deck[place], deck[n_features - n_seen] = deck[n_features - n_seen], feature
                column = codes[feature]
                node_rows = column, row, kind, weight, total, min_leaf
                if is_random:
                    ranges = low[feature], high[feature]
                    found = _random_split(*node_rows, *ranges, state, left)
                elif n <= FEW:
                    found = _best_of_few(*node_rows, loose, keys, left)
                else:
                    found = _best_of_many(*node_rows, histogram, bins, left)
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
        square = weight_of_all = 0.0
        for k in range(n_classes):
            square += total[k] ** 2
            weight_of_all += total[k]
        importances[best_feature] += max(0.0, best - square / weight_of_all)
        least, most = high[best_feature, best_left], low[best_feature, best_right]
        threshold = np.float32(0.5 * np.float64(least) + 0.5 * np.float64(most))
        features[node] = best_feature
        thresholds[node] = threshold if threshold < most else least
        children[node] = n_nodes
        middle = start + _part(codes[best_feature], best_left, row, kind, weight, spare)
        stack.append((n_nodes + 1, middle, stop, depth + 1))
        stack.append((n_nodes, start, middle, depth + 1))
        n_nodes += 2
    return n_nodes, n_leaves


# --- walking -----------------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _walk(rows, first, nodes, root, lanes):
    """Walk ``LANES`` rows from a root to their leaves, side by side."""
    lanes[:] = root
    moves = True
    while moves:
        moves = False
        for lane in range(LANES):
            node = lanes[lane]
            at = nodes[node]
            goes_right = rows[first + lane, at.feature] > at.threshold
            child = at.child + goes_right
            moves |= child != node
            lanes[lane] = child


@njit(nogil=True, cache=True)
def add_votes(rows, nodes, roots, leaves, votes):
    """Add the leaves of every tree to the votes of every row.

    Parameters
    ----------
    rows : (n, F) float32
    nodes : (n_nodes,) NODE
        In a leaf the threshold is infinite.
    roots : (n_trees,) int32
    leaves : (n_leaves, K) float32
    votes : (n, K) float32, added to

    Notes
    -----
    O(n * n_trees * depth) time. The order of additions is that of the trees.
    """
    n, n_classes = votes.shape
    lanes = np.empty(LANES, np.int32)
    for begin in range(0, n, WALK_ROWS):
        end = min(begin + WALK_ROWS, n)
        for tree in range(roots.shape[0]):
            i = begin
            while i + LANES <= end:
                _walk(rows, i, nodes, roots[tree], lanes)
                for lane in range(LANES):
                    leaf = nodes[lanes[lane]].leaf
                    for k in range(n_classes):
                        votes[i + lane, k] += leaves[leaf, k]
                i += LANES
            while i < end:
                node = roots[tree]
                while nodes[node].child != node:
                    goes_right = rows[i, nodes[node].feature] > nodes[node].threshold
                    node = nodes[node].child + goes_right
                for k in range(n_classes):
                    votes[i, k] += leaves[nodes[node].leaf, k]
                i += 1
