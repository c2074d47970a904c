"""Binning of features: trees look at 256 bins instead of sorted values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from segalgos.parallel import map_items

__all__ = ["N_BINS", "BinnedRows", "bin_rows"]

N_BINS = 256

# Values so near are the same, or noise of rounding would split nodes: scikit-learn's limit,
# and this part of the largest value where all are small.
NEAR = 1e-7


@dataclass(frozen=True, eq=False)
class BinnedRows:
    """A table whose columns are binned.

    Parameters
    ----------
    codes : (F, n) uint8
        Bin of each value, a feature a row.
    low, high : (F, N_BINS) float32
        Smallest and largest value in each bin; bins that are not used come last.
    """

    codes: NDArray[np.uint8]
    low: NDArray[np.float32]
    high: NDArray[np.float32]


@njit(nogil=True, cache=True)
def _join_near(ordered, tolerance):
    """Raise sorted values to the largest that is within `tolerance` of the first of them."""
    start = 0
    for i in range(1, ordered.shape[0] + 1):
        if i == ordered.shape[0] or ordered[i] - ordered[start] > tolerance:
            ordered[start:i] = ordered[i - 1]
            start = i


@njit(nogil=True, cache=True)
def _cut(ordered, last):
    """Cut sorted values into bins of about the same number; equal ones stay together.

    Parameters
    ----------
    ordered : (n,) float32
    last : (N_BINS,) float32, overwritten
        Largest value of each bin.

    Returns
    -------
    int
        How many bins there are: one a value if there are no more values than bins.

    Notes
    -----
    A value with an even share of the rows or more fills a bin alone; the others share the
    bins that are left.
    """
    n = ordered.shape[0]
    n_values = n_alone = start = 0
    n_shared = n
    for i in range(n):
        if i + 1 == n or ordered[i + 1] != ordered[i]:
            n_values += 1
            if (i + 1 - start) * N_BINS >= n:
                n_alone += 1
                n_shared -= i + 1 - start
            start = i + 1
    each = n_values <= N_BINS
    n_left = N_BINS - n_alone  # bins to share
    n_bins = start = size = 0
    for i in range(n):
        if i + 1 < n and ordered[i + 1] == ordered[i]:
            continue
        count = i + 1 - start
        if each or count * N_BINS >= n:
            if size and n_left:  # what came before gets a bin of its own while there are some
                last[n_bins] = ordered[start - 1]
                n_bins, n_left, n_shared = n_bins + 1, n_left - 1, n_shared - size
            last[n_bins] = ordered[i]
            n_bins, size = n_bins + 1, 0
        else:
            size += count
            if n_left > 1 and size * n_left >= n_shared:
                last[n_bins] = ordered[i]
                n_bins, n_left, n_shared, size = n_bins + 1, n_left - 1, n_shared - size, 0
        start = i + 1
    if size:
        n_bins += n_left > 0
        last[n_bins - 1] = ordered[n - 1]
    return n_bins


@njit(nogil=True, cache=True)
def _encode(column, last, n_bins, codes, low, high):
    """Write the bins of values, and the range of values in each bin.

    Parameters
    ----------
    column : (n,) float32
    last : (N_BINS,) float32
        Largest value of each bin, ascending.
    n_bins : int
    codes : (n,) uint8, overwritten
    low, high : (N_BINS,) float32, overwritten
    """
    low[:], high[:] = np.inf, -np.inf
    for i in range(column.shape[0]):
        value, first, step = column[i], 0, N_BINS >> 1
        while step:  # how many bins end below the value, by arithmetic: no branch to foresee
            middle = first + step
            first += step * (middle <= n_bins and last[middle - 1] < value)
            step >>= 1
        codes[i] = first
        low[first], high[first] = min(low[first], value), max(high[first], value)


def bin_rows(rows: NDArray[np.float32]) -> BinnedRows:
    """Bin every column of a table by its own values.

    Parameters
    ----------
    rows : (n, F) float32
        Finite.

    Returns
    -------
    BinnedRows
        A column with at most ``N_BINS`` different values has a bin for each; others have
        bins with about the same number of rows. Values within 1e-7 (of the largest value of
        all, if that is below 1) are the same.

    Notes
    -----
    O(n * F * log(n)) time, on threads.
    """
    n, n_features = rows.shape
    tolerance = np.float32(NEAR * min(1.0, float(np.abs(rows).max())))
    codes = np.empty((n_features, n), np.uint8)
    low = np.empty((n_features, N_BINS), np.float32)
    high = np.empty((n_features, N_BINS), np.float32)

    def one_column(feature):
        column = np.ascontiguousarray(rows[:, feature])
        last = np.empty(N_BINS, np.float32)
        ordered = np.sort(column)
        _join_near(ordered, tolerance)
        n_bins = _cut(ordered, last)
        _encode(column, last, n_bins, codes[feature], low[feature], high[feature])

    map_items(one_column, range(n_features))
    return BinnedRows(codes, low, high)
