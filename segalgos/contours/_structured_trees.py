"""Trees whose leaves are patches of a label map, for `structured_forest`."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from segalgos._random_kernels import draw_below, draw_fraction

__all__ = ["grow"]

N_PAIRS = 256  # of pixels, by which label patches of a node are compared
N_COMPARED = 256  # patches of a node that are looked at to find what sets them apart
N_ROUNDS = 8  # of power iteration
DEEPEST = 64


@njit(nogil=True, cache=True)
def _compare(patches, rows, pairs, state):
    """Draw pairs of pixels, and compare both in patches that are spread over some rows.

    Parameters
    ----------
    patches : (n, n_pixels) uint8
    rows : (m,) int32
    pairs : (N_PAIRS, 2) int32, overwritten
        Different pixels.

    Returns
    -------
    alike : (s, N_PAIRS) float32
        1 where both pixels have the same label, of row ``k * m // s``; s is at most N_COMPARED.
    counts : (N_PAIRS,) float32
        Their sums.
    """
    n_pixels = patches.shape[1]
    for k in range(N_PAIRS):
        first, second = draw_below(state, n_pixels), draw_below(state, n_pixels - 1)
        pairs[k, 0] = first
        pairs[k, 1] = second + (second >= first)
    alike = np.empty((min(rows.shape[0], N_COMPARED), N_PAIRS), np.float32)
    counts = np.zeros(N_PAIRS, np.float32)
    for s in range(alike.shape[0]):
        patch = patches[rows[s * rows.shape[0] // alike.shape[0]]]
        for k in range(N_PAIRS):
            alike[s, k] = patch[pairs[k, 0]] == patch[pairs[k, 1]]
            counts[k] += alike[s, k]
    return alike, counts


@njit(nogil=True, cache=True, fastmath={"reassoc"})
def _principal_axis(centred, axis, state):
    """Find the direction in which centred rows (s, p) vary most, by power iteration.

    Returns whether they vary at all.
    """
    for k in range(axis.shape[0]):
        axis[k] = draw_fraction(state) - 0.5
    image = np.empty_like(axis)
    for _ in range(N_ROUNDS):
        image[:] = 0
        for s in range(centred.shape[0]):
            along = np.float32(0)
            for k in range(axis.shape[0]):
                along += centred[s, k] * axis[k]
            for k in range(axis.shape[0]):
                image[k] += along * centred[s, k]
        square = np.float32(0)
        for k in range(axis.shape[0]):
            square += image[k] * image[k]
        if square < np.float32(1e-12):
            return False
        scale = np.float32(1) / np.float32(math.sqrt(square))
        for k in range(axis.shape[0]):
            axis[k] = image[k] * scale
    return True


@njit(nogil=True, cache=True)
def _part_labels(patches, rows, pairs, kinds, state):
    """Part label patches into two kinds that differ as much as can be: Sec. 3.2 of the paper.

    A patch is described by which of `pairs` have the same label; its kind is on which side of the
    mean it lies along the first principal axis. Returns the number of patches of kind 1; 0 or all
    if they are alike.

    Parameters
    ----------
    patches : (n, n_pixels) uint8
    rows : (m,) int32
    pairs : (N_PAIRS, 2) int32, overwritten
    kinds : (n,) uint8, overwritten in part
        By place in `patches`.
    """
    alike, counts = _compare(patches, rows, pairs, state)
    mean = counts / np.float32(alike.shape[0])
    for s in range(alike.shape[0]):
        for k in range(N_PAIRS):
            alike[s, k] -= mean[k]
    axis = np.empty(N_PAIRS, np.float32)
    if not _principal_axis(alike, axis, state):
        return 0
    limit = np.float32(0)
    for k in range(N_PAIRS):
        limit += mean[k] * axis[k]
    n_ones = 0
    for row in rows:
        patch = patches[row]
        along = np.float32(0)
        for k in range(N_PAIRS):
            if patch[pairs[k, 0]] == patch[pairs[k, 1]]:
                along += axis[k]
        kinds[row] = along > limit
        n_ones += along > limit
    return n_ones


@njit(nogil=True, cache=True)
def _best_split(column, rows, kinds, min_leaf, counts):
    """Find the threshold that parts two kinds best, by Gini impurity.

    Parameters
    ----------
    column : (n,) uint8
    rows : (m,) int32
    kinds : (n,) uint8
    min_leaf : int
    counts : (256, 2) int32, overwritten

    Returns
    -------
    quality : float
        Sum over both sides of the squared numbers of both kinds over their sum; -1 without a
        split.
    threshold : int
        Values up to it go left.
    """
    counts[:] = 0
    for row in rows:
        counts[column[row], kinds[row]] += 1
    ones = 0
    for value in range(256):
        ones += counts[value, 1]
    m = rows.shape[0]
    best, threshold = -1.0, 0
    left, left_ones = 0, 0
    for value in range(255):
        if counts[value, 0] + counts[value, 1] == 0:
            continue
        left += counts[value, 0] + counts[value, 1]
        left_ones += counts[value, 1]
        right = m - left
        if left < min_leaf:
            continue
        if right < min_leaf:
            break
        right_ones = ones - left_ones
        quality = (left_ones**2 + (left - left_ones) ** 2) / left
        quality += (right_ones**2 + (right - right_ones) ** 2) / right
        if quality > best:
            best, threshold = quality, value
    return best, threshold


@njit(nogil=True, cache=True)
def _medoid(patches, rows, pairs, state):
    """Find the patch that is nearest to the mean of all, compared by `pairs` drawn anew."""
    alike, counts = _compare(patches, rows, pairs, state)
    weight = np.float32(2) * counts - np.float32(alike.shape[0])
    best, chosen = np.float32(-np.inf), 0
    for s in range(alike.shape[0]):
        nearness = np.float32(0)
        for k in range(N_PAIRS):
            nearness += alike[s, k] * weight[k]
        if nearness > best:
            best, chosen = nearness, s
    return rows[chosen * rows.shape[0] // alike.shape[0]]


@njit(nogil=True, cache=True)
def _part_rows(column, threshold, rows, spare):
    """Bring rows up to the threshold to the front, in their order; returns how many."""
    n_left, n_right = 0, 0
    for row in rows:
        if column[row] <= threshold:
            rows[n_left] = row
            n_left += 1
        else:
            spare[n_right] = row
            n_right += 1
    rows[n_left:] = spare[:n_right]
    return n_left


@njit(nogil=True, cache=True)
def grow(values, patches, n_drawn, max_depth, min_leaf, seed, features, thresholds, children):
    """Grow one tree.

    Parameters
    ----------
    values : (F, n) uint8
        Features of each patch.
    patches : (n, n_pixels) uint8
        Their labels.
    n_drawn : int
        Features looked at for a split.
    max_depth : int
        At most DEEPEST.
    min_leaf : int
        Patches that a leaf has at least.
    seed : uint64
        Not 0.
    features : (2 n,) int32, overwritten in part
        Feature that a node splits; -1 in a leaf.
    thresholds : (2 n,) uint8, overwritten in part
        A patch goes left where its feature is at most this.
    children : (2 n,) int32, overwritten in part
        The left child, which the right one follows; in a leaf, the patch that stands for it.

    Returns
    -------
    int
        Number of nodes.

    Notes
    -----
    O(n * n_drawn * depth) time.
    """
    n = patches.shape[0]
    state = np.array([seed], np.uint64)
    rows, spare = np.arange(n).astype(np.int32), np.empty(n, np.int32)
    kinds = np.empty(n, np.uint8)
    pairs = np.empty((N_PAIRS, 2), np.int32)
    counts = np.empty((256, 2), np.int32)
    stack = np.empty((2 * DEEPEST + 2, 4), np.int64)  # node, depth, first and last row
    stack[0] = 0, 0, 0, n
    n_open, n_nodes = 1, 1
    while n_open:
        n_open -= 1
        node, depth, start, stop = stack[n_open]
        part = rows[start:stop]
        m = stop - start
        best, chosen, threshold = -1.0, -1, 0
        if m >= 2 * min_leaf and depth < max_depth:
            ones = _part_labels(patches, part, pairs, kinds, state)
            # Pure at this, which rounding must not beat.
            lowest = (ones**2 + (m - ones) ** 2) / m * (1 + 1e-9)
            if 0 < ones < m:
                for _ in range(n_drawn):
                    feature = draw_below(state, values.shape[0])
                    quality, value = _best_split(values[feature], part, kinds, min_leaf, counts)
                    if quality > max(best, lowest):
                        best, chosen, threshold = quality, feature, value
        features[node] = chosen
        thresholds[node] = threshold
        if chosen < 0:
            children[node] = _medoid(patches, part, pairs, state)
            continue
        middle = start + _part_rows(values[chosen], threshold, part, spare)
        children[node] = n_nodes
        stack[n_open] = n_nodes + 1, depth + 1, middle, stop
        stack[n_open + 1] = n_nodes, depth + 1, start, middle
        n_open += 2
        n_nodes += 2
    return n_nodes
