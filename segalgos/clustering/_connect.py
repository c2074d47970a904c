"""Superpixels made connected: every label one piece, none too small, none too many.

Pieces are made of runs, pixels of one label side by side in a row: there are far fewer
runs than pixels. Runs are counted over all rows; those of a row share it without gaps, so
that each ends where the next begins, and those outside the mask have label -1.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numba import njit
from numpy.typing import NDArray

from segalgos.parallel import map_strips
from segalgos.union_find import find

__all__ = ["connect"]

LISTS = 1 << 16  # sizes of pieces that are looked at together


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
def _end(begins, run, width):
    """Column behind a run: the next one begins there, or at 0 of another row."""
    return begins[run + 1] if begins[run + 1] > 0 else width


@njit(nogil=True, cache=True)
def _unite(labels, begins, row_starts, row, other, parent, below, above):
    """Unite the runs of two rows that touch and have the same label, into the lower index.

    For each run of `row` the first that it touches in `other` is written to `below`, and
    the other way round to `above`.
    """
    width = labels.shape[1]
    i, j = row_starts[row], row_starts[other]
    below[i], above[j] = j, i
    while True:
        x = max(begins[i], begins[j])
        if labels[row, x] >= 0 and labels[row, x] == labels[other, x]:
            a, b = find(parent, i), find(parent, j)
            parent[max(a, b)] = min(a, b)
        end_i, end_j = _end(begins, i, width), _end(begins, j, width)
        if end_i == width and end_j == width:
            return
        i += end_i <= end_j
        j += end_j <= end_i
        if end_i <= end_j:
            below[i] = j
        if end_j <= end_i:
            above[j] = i


@njit(nogil=True, cache=True)
def _unite_inside(labels, height, begins, row_starts, parent, touching, first, last):
    """Unite touching runs of some rows; `parent` changes for their runs alone."""
    for run in range(row_starts[first], row_starts[last]):
        parent[run] = run
    for row in range(first, last):
        if row % height > 0 and row - 1 >= first:
            _unite(labels, begins, row_starts, row, row - 1, parent, touching[0], touching[1])
        if row - height >= first:
            _unite(labels, begins, row_starts, row, row - height, parent, touching[2], touching[3])


@njit(nogil=True, cache=True)
def _unite_across(labels, height, begins, row_starts, parent, touching, strip):
    """Unite touching runs of different strips of rows."""
    for row in range(labels.shape[0]):
        first = row - row % strip
        if row % height > 0 and row - 1 < first:
            _unite(labels, begins, row_starts, row, row - 1, parent, touching[0], touching[1])
        if 0 <= row - height < first:
            _unite(labels, begins, row_starts, row, row - height, parent, touching[2], touching[3])


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
            end = _end(begins, run, width)
            for c in range(n_channels):
                plane, total = features[c, row], 0.0
                for x in range(begins[run], end):
                    total += plane[x]
                sums[run, c] = total


@njit(nogil=True, cache=True)
def _sum_pieces(begins, width, piece, of_runs, heads, sizes, sums):
    """Note the first run of each piece, and add up its pixels and features.

    Parameters
    ----------
    begins, piece : as in `_number_pieces`
    width : int
    of_runs : (n_runs, C) float32
    heads : (n_pieces,) intp, overwritten
    sizes : (n_pieces,) int64, zeros
    sums : (n_pieces, C) float64, zeros
    """
    for run in range(piece.shape[0]):
        i = piece[run]
        if i >= 0:
            if sizes[i] == 0:
                heads[i] = run
            sizes[i] += _end(begins, run, width) - begins[run]
            for c in range(sums.shape[1]):
                sums[i, c] += of_runs[run, c]


@njit(nogil=True, cache=True)
def _nearest_neighbour(begins, width, piece, follower, touching, head, means, parent):
    """Find the piece around another one whose mean is nearest to the other's.

    Parameters
    ----------
    begins, piece, follower : as in `_number_pieces`
    touching : as in `connect`
    head : int
        First run of the piece; the first of its chain.
    means, parent : as in `_join`

    Returns
    -------
    int
        The lowest of equally near ones; -1 if there is none.
    """
    own = find(parent, piece[head])
    mean = means[own]
    best, best_distance = -1, np.inf
    last_seen = own
    run = np.intp(head)
    while run >= 0:
        end = _end(begins, run, width)
        for side in range(touching.shape[0] + 2):
            if side < touching.shape[0]:
                other, other_end = np.intp(touching[side, run]), end
            elif side == touching.shape[0]:
                other, other_end = run - 1 if begins[run] > 0 else -1, 0
            else:
                other, other_end = run + 1 if end < width else -1, 0
            while other >= 0:
                if piece[other] >= 0:
                    neighbour = find(parent, piece[other])
                    if neighbour != own and neighbour != best and neighbour != last_seen:
                        last_seen = neighbour
                        distance = 0.0
                        for c in range(mean.shape[0]):
                            difference = means[neighbour, c] - mean[c]
                            distance += difference * difference
                        if distance < best_distance or (
                            distance == best_distance and neighbour < best
                        ):
                            best, best_distance = neighbour, distance
                other += 1
                if not 0 < begins[other] < other_end:
                    break
        run = follower[run]
    return best


@njit(nogil=True, cache=True)
def _join(
    begins,
    width,
    piece,
    follower,
    tail,
    touching,
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
    begins, piece : as in `_number_pieces`
    follower, tail : as in `_number_pieces`
        Overwritten: the chains of joined pieces are joined too.
    width : int
    touching : as in `connect`
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
    O(n) time in the runs of the pieces that are joined. A joined piece is larger than both
    of its parts: so pieces are listed by size, and no list grows once it is begun. Lists are
    made for a range of sizes at a time, since the largest pieces are mostly left alone.
    """
    n_pieces = parent.shape[0]
    means, members = sums / sizes.reshape(-1, 1), np.empty(n_pieces, np.int64)
    # Lists: a piece that grows gets another entry, since the old one cannot be taken out.
    entry, after = np.empty(2 * n_pieces, parent.dtype), np.empty(2 * n_pieces, parent.dtype)
    n_left = n_pieces
    low, high = 0, min(2 * min_size, LISTS)
    while n_left > n_segments or low < min_size:
        first = np.full(high - low, -1, parent.dtype)
        n_entries = largest = 0
        for i in range(n_pieces - 1, -1, -1):
            if parent[i] == i:
                largest = max(largest, sizes[i])
                if low <= sizes[i] < high:
                    entry[n_entries], after[n_entries] = i, first[sizes[i] - low]
                    first[sizes[i] - low] = n_entries
                    n_entries += 1
        for size in range(low, high):
            if n_left <= n_segments and size >= min_size:
                return
            n_of_size, is_sorted = 0, True
            k = first[size - low]
            while k >= 0:
                is_sorted &= n_of_size == 0 or members[n_of_size - 1] < entry[k]
                members[n_of_size] = entry[k]
                n_of_size += 1
                k = after[k]
            if not is_sorted:
                members[:n_of_size].sort()
            for small in members[:n_of_size]:
                if n_left <= n_segments and size >= min_size:
                    return
                if parent[small] != small or sizes[small] != size:
                    continue  # it was joined to another, or grew, since
                best = _nearest_neighbour(
                    begins, width, piece, follower, touching, heads[small], means, parent
                )
                if best < 0:
                    n_left -= size < min_size
                    continue
                parent[small] = best
                sizes[best] += size
                for c in range(sums.shape[1]):
                    sums[best, c] += sums[small, c]
                    means[best, c] = sums[best, c] / sizes[best]
                follower[tail[heads[best]]] = heads[small]
                tail[heads[best]] = tail[heads[small]]
                n_left -= 1
                if sizes[best] < high:
                    entry[n_entries], after[n_entries] = best, first[sizes[best] - low]
                    first[sizes[best] - low] = n_entries
                    n_entries += 1
        if largest < low:
            return  # all that are left are alone
        low, high = high, min(2 * high, high + LISTS)


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
            end = _end(begins, run, width)
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
    O(n_pixels * C) time. Ties go
    to the piece that begins first.
    """
    _, height, width = labels.shape
    rows = labels.reshape(-1, width)
    n_rows, strip = len(rows), max(1, 65536 // width)
    row_starts = np.zeros(n_rows + 1, np.intp)
    begins = map_strips(partial(_find_runs, rows, row_starts), n_rows, strip)
    begins = np.concatenate([*begins, np.zeros(1, np.int32)])  # an end for the last run
    np.cumsum(row_starts, out=row_starts)

    n_runs = len(begins) - 1
    index = np.int32 if n_runs < 1 << 31 else np.int64
    parent, piece, follower, tail = (np.empty(n_runs, index) for _ in range(4))
    # First run that each touches above and below, and in the slices before and behind.
    touching = np.full((2 if n_rows == height else 4, n_runs), -1, index)
    unite = partial(_unite_inside, rows, height, begins, row_starts, parent, touching)
    map_strips(unite, n_rows, strip)
    _unite_across(rows, height, begins, row_starts, parent, touching, strip)
    n_pieces = _number_pieces(rows, begins, row_starts, parent, piece, follower, tail)

    of_runs = np.empty((n_runs, len(features)), np.float32)
    planes = features.reshape(len(features), n_rows, width)
    map_strips(partial(_sum_runs, planes, begins, row_starts, of_runs), n_rows, strip)
    heads, sizes = np.empty(n_pieces, np.intp), np.zeros(n_pieces, np.int64)
    sums = np.zeros((n_pieces, len(features)))
    _sum_pieces(begins, width, piece, of_runs, heads, sizes, sums)
    joined = np.arange(n_pieces, dtype=index)
    chains = piece, follower, tail, touching, heads
    _join(begins, width, *chains, sizes, sums, n_segments, min_size, joined)
    numbers = _number_joined(joined)
    map_strips(partial(_paint, begins, row_starts, piece, numbers, rows), n_rows, strip)
