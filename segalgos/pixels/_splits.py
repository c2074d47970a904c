"""Splitting a node of a decision tree by one feature: the kernels.

The rows of a node are added up by their bins, in one of three ways: few are sorted, whole
weights are packed, four classes a number, and others go to a histogram. Then the boundary
between bins is found that leaves the least Gini impurity.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from segalgos._random_kernels import draw_fraction
from segalgos.pixels._binning import N_BINS

__all__ = [
    "FEW",
    "best_boundary",
    "best_of_all",
    "count_bins",
    "count_packed",
    "count_rows",
    "pack",
    "random_split",
    "sort_bins",
]

FEW = 24  # rows up to which sorting their bins is faster than a histogram


@njit(nogil=True, cache=True)
def sort_bins(column, rows, classes, weights, loose, keys, bins, below, n_below):
    """Add up few rows of a node by their bins, which are sorted.

    Parameters
    ----------
    column : (n_rows,) uint8
        A feature's bins.
    rows, classes, weights : (n,) int32, int32 and float64
        Rows of the node, at most ``FEW``.
    loose, keys : (FEW,) int32, scratch
    bins : (N_BINS,) int32, overwritten
        Those that occur, ascending.
    below : (K, N_BINS) float64, overwritten
        Weight of each class in such a bin and all below it.
    n_below : (N_BINS,) int32, overwritten
        Number of rows there.

    Returns
    -------
    int
        How many bins occur.

    Notes
    -----
    O(n**2) time.
    """
    n, n_classes = rows.shape[0], below.shape[0]
    for i in range(n):
        loose[i] = np.int32(column[np.uintp(rows[i])]) * np.int32(FEW) + np.int32(i)
    for i in range(n):  # a key's rank is how many are smaller: no branch, and vectors
        rank = np.int32(0)
        for j in range(n):
            rank += np.int32(loose[j] < loose[i])
        keys[np.uintp(rank)] = loose[i]
    place = 0
    for k in range(n_classes):
        below[k, 0] = 0
    for j in range(n):
        i = keys[j] % FEW
        below[classes[i], place] += weights[i]
        bins[place], n_below[place] = keys[j] // FEW, j + 1
        if j + 1 < n and keys[j + 1] // FEW != bins[place]:
            place += 1
            for k in range(n_classes):
                below[k, place] = below[k, place - 1]
    return place + 1


@njit(nogil=True, cache=True)
def pack(classes, weights, packed, words):
    """Write whole weights so that those of four classes add up in one number.

    Parameters
    ----------
    classes, weights : (n,) int32 and float64
        Their sum is below 65536.
    packed : (n,) uint64, overwritten
        The weight in 16 bits, whose place is that of the class in its word.
    words : (n,) int32, overwritten
        Which word of four classes that is.
    """
    for i in range(classes.shape[0]):
        k = classes[i]
        packed[i] = np.uint64(weights[i]) << np.uint64(16 * (k & 3))
        words[i] = k >> 2


@njit(nogil=True, cache=True)
def count_packed(column, rows, packed, words, tally, sums, below):
    """As `count_bins`, of weights that `pack` has written.

    Parameters
    ----------
    tally : (n_words, N_BINS) uint64, scratch
        Zeros before and after.
    sums : (N_BINS,) uint64, scratch
    below : (K, N_BINS) float32, overwritten
        Which is exact for these weights.
    """
    n_words, flat = tally.shape[0], tally.reshape(-1)
    if n_words == 1:
        for i in range(rows.shape[0]):
            flat[np.uintp(column[np.uintp(rows[i])])] += packed[i]
    else:
        for i in range(rows.shape[0]):
            place = np.uintp(words[i] * N_BINS) + np.uintp(column[np.uintp(rows[i])])
            flat[place] += packed[i]
    for word in range(n_words):
        total, row = np.uint64(0), tally[word]
        for b in range(N_BINS):
            total += row[b]
            sums[b] = total
            row[b] = 0
        for k in range(4 * word, min(4 * word + 4, below.shape[0])):
            shift, out = np.uint64(16 * (k & 3)), below[k]
            for b in range(N_BINS):
                out[b] = np.float32(np.int32(sums[b] >> shift & np.uint64(65535)))


@njit(nogil=True, cache=True)
def count_bins(column, rows, classes, weights, histogram, below):
    """Add up the weights of a node's rows by their bins.

    Parameters
    ----------
    column : (n_rows,) uint8
        A feature's bins.
    rows, classes, weights : (n,) int32, int32 and float64
        Rows of the node.
    histogram : (K, N_BINS) float64, scratch
        Zeros before and after.
    below : (K, N_BINS) float64, overwritten
        Weight of each class in a bin and all below it.

    Notes
    -----
    O(n + N_BINS * K) time.
    """
    flat = histogram.reshape(-1)
    for i in range(rows.shape[0]):
        place = np.uintp(classes[i] * N_BINS) + np.uintp(column[np.uintp(rows[i])])
        flat[place] += weights[i]
    for k in range(histogram.shape[0]):
        total = 0.0
        for b in range(N_BINS):
            total += histogram[k, b]
            below[k, b] = total
            histogram[k, b] = 0


@njit(nogil=True, cache=True)
def count_rows(column, rows, counts, n_below):
    """Number of a node's rows in each bin and all below it; `counts` is zero but for that."""
    for i in range(rows.shape[0]):
        counts[np.uintp(column[np.uintp(rows[i])])] += 1
    total = 0
    for b in range(N_BINS):
        total += counts[b]
        n_below[b], counts[b] = total, 0


@njit(nogil=True, cache=True)
def largest(scores, n_below, min_leaf):
    """The largest score that is not NaN and leaves enough rows on either side, and its place."""
    n = scores.shape[0]
    best, place = scores.dtype.type(-np.inf), -1
    if min_leaf == 1:
        for b in range(n):
            if scores[b] > best:
                best, place = scores[b], b
    else:
        for b in range(n):
            enough = n_below[b] >= min_leaf and n_below[n] - n_below[b] >= min_leaf
            if enough and scores[b] > best:
                best, place = scores[b], b
    return best, place


@njit(nogil=True, cache=True, error_model="numpy")  # a test for zero would stop vectors
def best_boundary(n_bins, below, n_below, min_leaf, work):
    """Find the boundary between bins that leaves the least Gini impurity.

    Parameters
    ----------
    n_bins : int
    below, n_below : (K, N_BINS) float64 or float32 and (N_BINS,) int32
        Weights of classes, and number of rows, in each bin and all below it. The latter
        count only for a `min_leaf` above 1.
    min_leaf : int
        Rows that either side has at least.
    work : (3, N_BINS) as `below`, scratch

    Returns
    -------
    score : float
        Squared weights of classes over the weight, of either side: the larger, the purer.
        -inf if there is no split.
    place : int
        The first bin after which it is best to split; -1 if there is no split.
    """
    scores, weights, rest = work[0], work[1], work[2]
    last, total_weight = n_bins - 1, below[0, n_bins - 1]
    for k in range(below.shape[0]):
        left, total = below[k], below[k, last]
        if k > 0:
            total_weight += total
        if k == 0:
            for b in range(last):
                weights[b], scores[b] = left[b], left[b] * left[b]
                rest[b] = (total - left[b]) * (total - left[b])
        else:
            for b in range(last):
                weights[b] += left[b]
                scores[b] += left[b] * left[b]
                rest[b] += (total - left[b]) * (total - left[b])
    for b in range(last):  # 0 / 0 on the outside of all rows
        other = total_weight - weights[b]
        scores[b] = (scores[b] * other + rest[b] * weights[b]) / (weights[b] * other)
    best, place = largest(scores[:last], n_below, min_leaf)
    if best == np.inf:  # a side's weight was lost in the rounding of the other's: no split
        for b in range(last):
            if scores[b] == np.inf:
                scores[b] = -np.inf
        best, place = largest(scores[:last], n_below, min_leaf)
    return np.float64(best), place


@njit(nogil=True, cache=True)
def best_of_all(below, n_below, min_leaf, work):
    """As `best_boundary`, of all bins: gives the score and the bins at either side."""
    score, left = best_boundary(N_BINS, below, n_below, min_leaf, work)
    right, same = left, left >= 0
    while same:  # bins that do not occur add nothing
        right += 1
        for k in range(below.shape[0]):
            same &= below[k, right] == below[k, left]
    return score, left, right


@njit(nogil=True, cache=True)
def random_split(column, rows, classes, weights, total, min_leaf, low, high, state, left):
    """As `best_boundary`, for one threshold drawn between the node's least and largest value.

    Parameters
    ----------
    column, rows, classes, weights : as in `count_bins`
    total : (K,) float64
        Weight of each class in the node.
    min_leaf : int
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
    threshold = least + draw_fraction(state) * (most - least)
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
