"""Superpixels made connected: every label one piece, none too small, none too many.

Pieces are made of runs, pixels of one label side by side in a row: there are far fewer
runs than pixels. Runs are counted over all rows; those of a row share it without gaps, so
that each ends where the next begins, and those outside the mask have label -1.
"""

from __future__ import annotations

import heapq
from functools import partial

import numpy as np
from numba import njit
from numpy.typing import NDArray

from segalgos.parallel import map_strips
from segalgos.union_find import find

__all__ = ["connect"]


@njit(nogil=True, cache=True)
def _find_runs(labels, row_starts, first, last):
    """Find where runs begin in some rows.

    Parameters
    ----------
    labels : (n_rows, W) int32
    row_starts : (n_rows + 1,) intp
        Number of runs in each row is written one place behind it.
    first, last : int
        Range of rows.

    Returns
    -------
    (n_runs,) int32
        First column of each.
    """
    width = labels.shape[1]
    begins = np.empty((last - first) * width, np.int32)
    n = 0
    for row in range(first, last):
        line, n_before, label = labels[row], n, np.int32(-2)
        for x in range(width):
            if line[x] != label:
                begins[n], label = x, line[x]
                n += 1
        row_starts[row + 1] = n - n_before
    return begins[:n].copy()


@njit(nogil=True, cache=True)
def _end(begins, row_starts, run, row, width):
    return begins[run + 1] if run + 1 < row_starts[row + 1] else width


@njit(nogil=True, cache=True)
def _unite(labels, begins, row_starts, row, other, parent):
    """Unite the runs of two rows that touch and have the same label, into the lower index."""
    width = labels.shape[1]
    i, j = row_starts[row], row_starts[other]
    while i < row_starts[row + 1]:
        x = max(begins[i], begins[j])
        if labels[row, x] >= 0 and labels[row, x] == labels[other, x]:
            a, b = find(parent, i), find(parent, j)
            parent[max(a, b)] = min(a, b)
        end_i = _end(begins, row_starts, i, row, width)
        end_j = _end(begins, row_starts, j, other, width)
        i += end_i <= end_j
        j += end_j <= end_i


@njit(nogil=True, cache=True)
def _unite_inside(labels, height, begins, row_starts, parent, first, last):
    """Unite touching runs of some rows; `parent` changes for their runs alone."""
    for run in range(row_starts[first], row_starts[last]):
        parent[run] = run
    for row in range(first, last):
        if row % height > 0 and row - 1 >= first:
            _unite(labels, begins, row_starts, row, row - 1, parent)
        if row - height >= first:
            _unite(labels, begins, row_starts, row, row - height, parent)


@njit(nogil=True, cache=True)
def _unite_across(labels, height, begins, row_starts, parent, strip):
    """Unite touching runs of different strips of rows."""
    for row in range(labels.shape[0]):
        first = row - row % strip
        if row % height > 0 and row - 1 < first:
            _unite(labels, begins, row_starts, row, row - 1, parent)
        if 0 <= row - height < first:
            _unite(labels, begins, row_starts, row, row - height, parent)


@njit(nogil=True, cache=True)
def _number_pieces(labels, begins, row_starts, parent, piece, follower, tail):
    """Number the pieces in raster order, and chain the runs of each.

    Parameters
    ----------
    labels : (n_rows, W) int32
    begins : (n_runs,) int32
    row_starts : (n_rows + 1,) intp
    parent : (n_runs,) int32
        A tree for each piece; its root is its first run.
    piece : (n_runs,) int32, overwritten
        -1 outside the mask.
    follower : (n_runs,) int32, overwritten
        Next run of the piece, or -1.
    tail : (n_runs,) int32, overwritten
        Last run of the piece that begins with this one.

    Returns
    -------
    int
        How many pieces there are.
    """
    n = 0
    for row in range(labels.shape[0]):
        for run in range(row_starts[row], row_starts[row + 1]):
            piece[run] = follower[run] = -1
            if labels[row, begins[run]] < 0:
                continue
            root = find(parent, run)
            if root == run:
                piece[run] = n
                n += 1
            else:
                piece[run] = piece[root]
                follower[tail[root]] = run
            tail[root] = run
    return n


@njit(nogil=True, cache=True)
def _sum_runs(features, begins, row_starts, sums, first, last):
    """Add up the features (C, n_rows, W) of each run of some rows in sums (n_runs, C)."""
    n_channels, _, width = features.shape
    for row in range(first, last):
        for run in range(row_starts[row], row_starts[row + 1]):
            end = _end(begins, row_starts, run, row, width)
            for c in range(n_channels):
                plane, total = features[c, row], 0.0
                for x in range(begins[run], end):
                    total += plane[x]
                sums[run, c] = total


@njit(nogil=True, cache=True)
def _sum_pieces(begins, row_starts, width, piece, of_runs, heads, sizes, sums):
    """Note the first run of each piece, and add up its pixels and features.

    Parameters
    ----------
    begins, row_starts, piece : as in `_number_pieces`
    width : int
    of_runs : (n_runs, C) float32
    heads : (n_pieces,) intp, overwritten
    sizes : (n_pieces,) int64, zeros
    sums : (n_pieces, C) float64, zeros
    """
    for row in range(row_starts.shape[0] - 1):
        for run in range(row_starts[row], row_starts[row + 1]):
            i = piece[run]
            if i >= 0:
                if sizes[i] == 0:
                    heads[i] = run
                sizes[i] += _end(begins, row_starts, run, row, width) - begins[run]
                for c in range(sums.shape[1]):
                    sums[i, c] += of_runs[run, c]


@njit(nogil=True, cache=True)
def _touching(begins, row_starts, row, side, n_rows, height, width, run):
    """Find the runs that touch a run on one of its sides.

    Returns
    -------
    first, last : int
        Half-open range. On side 0, its own row, the run itself is among them.
    """
    begin, end = begins[run], _end(begins, row_starts, run, row, width)
    if side == 0:
        return run - (begin > 0), run + 1 + (end < width)
    if side == 1:
        other = row - 1 if row % height > 0 else -1
    elif side == 2:
        other = row + 1 if (row + 1) % height > 0 else -1
    elif side == 3:
        other = row - height
    else:
        other = row + height
    if not 0 <= other < n_rows:
        return 0, 0
    start = row_starts[other]
    line = begins[start : row_starts[other + 1]]
    first = np.searchsorted(line, begin, side="right") - 1
    return start + first, start + np.searchsorted(line, end)


@njit(nogil=True, cache=True)
def _join(
    begins,
    row_starts,
    height,
    width,
    piece,
    follower,
    tail,
    heads,
    sizes,
    sums,
    n_segments,
    min_size,
    parent,
):
    """Join the smallest piece to its most similar neighbour until few enough remain.

    Parameters
    ----------
    begins, row_starts, piece : as in `_number_pieces`
    follower, tail : as in `_number_pieces`
        Overwritten: the chains of joined pieces are joined too.
    height, width : int
        Of a slice.
    heads : (n_pieces,) intp
        First run of each piece.
    sizes : (n_pieces,) int64
    sums : (n_pieces, C) float64
        Of features. Both are overwritten.
    n_segments : int
        How many to leave.
    min_size : int
        Smaller pieces are joined in any case. Those that the mask isolates stay, and do
        not count.
    parent : (n_pieces,) int32
        Each piece's own index; overwritten with a tree for each joined piece.

    Notes
    -----
    O(n log n) time in the runs of small pieces.
    """
    n_pieces, n_channels, n_rows = parent.shape[0], sums.shape[1], row_starts.shape[0] - 1
    n_sides = 3 if n_rows == height else 5
    heap = [sizes[i] * n_pieces + i for i in range(n_pieces)]
    heapq.heapify(heap)
    n_left = n_pieces
    while heap:
        key = heapq.heappop(heap)
        small, size_then = key % n_pieces, key // n_pieces
        if parent[small] != small or sizes[small] != size_then:
            continue  # it was joined to another, or grew, since
        if n_left <= n_segments and size_then >= min_size:
            break
        best, best_distance = -1, np.inf
        run = heads[small]
        while run >= 0:
            row = np.searchsorted(row_starts, run, side="right") - 1
            for side in range(n_sides):
                first, last = _touching(begins, row_starts, row, side, n_rows, height, width, run)
                for neighbour in range(first, last):
                    if piece[neighbour] < 0:
                        continue
                    other = find(parent, piece[neighbour])
                    if other in (small, best):
                        continue
                    distance = 0.0
                    for c in range(n_channels):
                        difference = sums[other, c] / sizes[other] - sums[small, c] / sizes[small]
                        distance += difference * difference
                    if distance < best_distance or (distance == best_distance and other < best):
                        best, best_distance = other, distance
            run = follower[run]
        if best < 0:
            n_left -= size_then < min_size
            continue
        parent[small] = best
        sizes[best] += sizes[small]
        for c in range(n_channels):
            sums[best, c] += sums[small, c]
        follower[tail[heads[best]]] = heads[small]
        tail[heads[best]] = tail[heads[small]]
        n_left -= 1
        heapq.heappush(heap, sizes[best] * n_pieces + best)


@njit(nogil=True, cache=True)
def _number_joined(parent):
    """Number joined pieces in the order of their first ones."""
    numbers = np.full(parent.shape[0], -1, np.int32)
    n = 0
    for i in range(parent.shape[0]):
        root = find(parent, i)
        if numbers[root] < 0:
            numbers[root] = n
            n += 1
        numbers[i] = numbers[root]
    return numbers


@njit(nogil=True, cache=True)
def _paint(begins, row_starts, piece, numbers, labels, first, last):
    """Write the number of each run's piece to labels (n_rows, W), for some rows."""
    width = labels.shape[1]
    for row in range(first, last):
        for run in range(row_starts[row], row_starts[row + 1]):
            end = _end(begins, row_starts, run, row, width)
            number = numbers[piece[run]] if piece[run] >= 0 else -1
            labels[row, begins[run] : end] = number


def connect(
    labels: NDArray[np.int32], features: NDArray[np.float32], n_segments: int, min_size: int
) -> None:
    """Make every label one connected piece over the sides of pixels, in place.

    The smallest piece is joined to the neighbour of most similar mean feature, again and
    again, until no more than `n_segments` are left and none is too small.

    Parameters
    ----------
    labels : (D, H, W) int32, C-contiguous, overwritten
        Any labels, below 0 outside the mask; then -1 there and 0..n-1 elsewhere, in
        raster order.
    features : (C, D, H, W) float32, C-contiguous
        Finite, outside the mask too.
    n_segments : int
        How many to leave. Fewer stay if there are no more pieces.
    min_size : int
        Smaller pieces are joined in any case. Those that the mask isolates stay, and do
        not count.

    Notes
    -----
    O(n_pixels * C) time, and O(n log n) in the runs of the pieces that are joined. Ties go
    to the piece that begins first.
    """
    _, height, width = labels.shape
    rows = labels.reshape(-1, width)
    n_rows, strip = len(rows), max(1, 65536 // width)
    row_starts = np.zeros(n_rows + 1, np.intp)
    begins = np.concatenate(map_strips(partial(_find_runs, rows, row_starts), n_rows, strip))
    np.cumsum(row_starts, out=row_starts)

    n_runs = len(begins)
    index = np.int32 if n_runs < 1 << 31 else np.int64
    parent, piece, follower, tail = (np.empty(n_runs, index) for _ in range(4))
    map_strips(partial(_unite_inside, rows, height, begins, row_starts, parent), n_rows, strip)
    _unite_across(rows, height, begins, row_starts, parent, strip)
    n_pieces = _number_pieces(rows, begins, row_starts, parent, piece, follower, tail)

    of_runs = np.empty((n_runs, len(features)), np.float32)
    planes = features.reshape(len(features), n_rows, width)
    map_strips(partial(_sum_runs, planes, begins, row_starts, of_runs), n_rows, strip)
    heads, sizes = np.empty(n_pieces, np.intp), np.zeros(n_pieces, np.int64)
    sums = np.zeros((n_pieces, len(features)))
    _sum_pieces(begins, row_starts, width, piece, of_runs, heads, sizes, sums)
    joined = np.arange(n_pieces, dtype=index)
    chains = piece, follower, tail, heads
    _join(begins, row_starts, height, width, *chains, sizes, sums, n_segments, min_size, joined)
    numbers = _number_joined(joined)
    map_strips(partial(_paint, begins, row_starts, piece, numbers, rows), n_rows, strip)
