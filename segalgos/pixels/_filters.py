"""Separable windows over planes: Gaussians, boxes, and the spread of values within a box.

Beyond its borders a plane goes on with its outermost values. Kernels add in an order that
depends on the taps alone, so a value is the same to the last bit whatever part of an image
it is computed from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from numba import njit
from numpy.typing import NDArray

from segalgos.parallel import map_strips

__all__ = ["box_spread", "box_taps", "gaussian_taps", "weigh"]

TRUNCATE = 4.0  # radius of a Gaussian in standard deviations
BLOCK = 256  # columns of which all rows under a window stay in the second cache
STRIP = 65536  # values a thread works on at a time


def gaussian_taps(sigma: float) -> NDArray[np.float32]:
    """Compute one half of a Gaussian window, its middle first.

    Parameters
    ----------
    sigma : float
        In pixels.

    Returns
    -------
    (radius + 1,) float32
        The whole window sums to 1.
    """
    taps = np.exp(-0.5 * (np.arange(int(TRUNCATE * sigma + 0.5) + 1) / sigma) ** 2)
    return (taps / (taps[0] + 2 * taps[1:].sum())).astype(np.float32)


def box_taps(radius: int) -> NDArray[np.float32]:
    """Compute one half of a window of equal weights.

    Parameters
    ----------
    radius : int

    Returns
    -------
    (radius + 1,) float32
        The whole window sums to 1.
    """
    return np.full(radius + 1, 1 / (2 * radius + 1), np.float32)


# --- weighted sums -----------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _add_pair(total, tap, a, b):
    """Add two rows of values, which have the same weight, to a row of sums."""
    for j in range(total.shape[0]):
        total[j] += tap * (a[j] + b[j])


@njit(nogil=True, cache=True)
def _add_four_pairs(total, taps, a0, b0, a1, b1, a2, b2, a3, b3):
    """Add eight rows at once, so that a sum is loaded and stored once for them."""
    t0, t1, t2, t3 = taps[0], taps[1], taps[2], taps[3]
    for j in range(total.shape[0]):
        near = t0 * (a0[j] + b0[j]) + t1 * (a1[j] + b1[j])
        far = t2 * (a2[j] + b2[j]) + t3 * (a3[j] + b3[j])
        total[j] += near + far


@njit(nogil=True, cache=True)
def _weigh_across(source, taps, target, first, last):
    """Weigh along the middle axis.

    Parameters
    ----------
    source : (n_outer, n, n_inner) float32
    taps : (radius + 1,) float32
    target : (n_outer, n, n_inner) float32, overwritten in part
    first, last : int
        Range of blocks of columns, counted over `n_outer` too.
    """
    _, n, n_inner = source.shape
    n_blocks = (n_inner + BLOCK - 1) // BLOCK
    radius, end = taps.shape[0] - 1, n - 1
    for item in range(first, last):
        o, a = item // n_blocks, item % n_blocks * BLOCK
        b = min(a + BLOCK, n_inner)
        for i in range(n):
            total, middle = target[o, i, a:b], source[o, i, a:b]
            total[:] = 0
            k = radius  # small taps first: sums then round less
            while k % 4:
                above, below = source[o, max(i - k, 0), a:b], source[o, min(i + k, end), a:b]
                _add_pair(total, taps[k], above, below)
                k -= 1
            while k > 0:
                _add_four_pairs(
                    total,
                    taps[k - 3 : k + 1],
                    source[o, max(i - k + 3, 0), a:b],
                    source[o, min(i + k - 3, end), a:b],
                    source[o, max(i - k + 2, 0), a:b],
                    source[o, min(i + k - 2, end), a:b],
                    source[o, max(i - k + 1, 0), a:b],
                    source[o, min(i + k - 1, end), a:b],
                    source[o, max(i - k, 0), a:b],
                    source[o, min(i + k, end), a:b],
                )
                k -= 4
            for j in range(b - a):
                total[j] += taps[0] * middle[j]


@njit(nogil=True, cache=True)
def _pad(row, radius, padded):
    """Copy a row and go on with its outermost values on both sides."""
    n = row.shape[0]
    padded[:radius] = row[0]
    padded[radius : radius + n] = row
    padded[radius + n : radius + n + radius] = row[n - 1]


@njit(nogil=True, cache=True)
def _weigh_along(source, taps, target, first, last):
    """Weigh along the last axis.

    Parameters
    ----------
    source : (n_rows, n) float32
    taps : (radius + 1,) float32
    target : (n_rows, n) float32, overwritten in part; it may be `source`
    first, last : int
        Range of rows.
    """
    n, radius = source.shape[1], taps.shape[0] - 1
    padded = np.empty(n + 2 * radius, np.float32)
    for i in range(first, last):
        _pad(source[i], radius, padded)
        for a in range(0, n, BLOCK):
            size = min(BLOCK, n - a)
            total = target[i, a : a + size]
            centre = a + radius
            total[:] = 0
            k = radius
            while k % 4:
                left, right = centre - k, centre + k
                _add_pair(total, taps[k], padded[left : left + size], padded[right : right + size])
                k -= 1
            while k > 0:
                left, right = centre - k, centre + k
                _add_four_pairs(
                    total,
                    taps[k - 3 : k + 1],
                    padded[left + 3 : left + 3 + size],
                    padded[right - 3 : right - 3 + size],
                    padded[left + 2 : left + 2 + size],
                    padded[right - 2 : right - 2 + size],
                    padded[left + 1 : left + 1 + size],
                    padded[right - 1 : right - 1 + size],
                    padded[left : left + size],
                    padded[right : right + size],
                )
                k -= 4
            for j in range(size):
                total[j] += taps[0] * padded[centre + j]


def weigh(planes: NDArray[np.float32], taps: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Compute weighted sums over a symmetric separable window.

    Parameters
    ----------
    planes : (P, D, H, W) float32, C-contiguous
    taps : sequence of three (radius + 1,) float32
        One half of the window along each axis, its middle first.

    Returns
    -------
    (P, D, H, W) float32
        A new array.

    Notes
    -----
    O(size of planes * sum of radii) time and one more array of the planes' size. An axis of
    one pixel is left alone.
    """
    shape = planes.shape
    current = planes
    for axis in (1, 2):
        window = taps[axis - 1]
        if shape[axis] > 1 and len(window) > 1:
            source = current.reshape(math.prod(shape[:axis]), shape[axis], -1)
            target = np.empty_like(source)
            map_strips(partial(_weigh_across, source, window, target), *_blocks(source))
            current = target.reshape(shape)
    out = np.empty_like(planes) if current is planes else current
    if shape[3] == 1:
        out[:] = current
        return out
    rows, out_rows = current.reshape(-1, shape[3]), out.reshape(-1, shape[3])
    strip = max(1, STRIP // shape[3])
    map_strips(partial(_weigh_along, rows, taps[2], out_rows), len(rows), strip)
    return out


def _blocks(source: NDArray[np.float32]) -> tuple[int, int]:
    """How many blocks of columns (n_outer, n, n_inner) has, and how many make a strip."""
    n_outer, n, n_inner = source.shape
    return n_outer * -(-n_inner // BLOCK), max(1, STRIP // (n * min(BLOCK, n_inner)))


# --- means and spreads within a box ------------------------------------------------------


@njit(nogil=True, cache=True)
def _add_square(total, a, mean):
    """Add the squared distances of a row of values to a row of means."""
    for j in range(total.shape[0]):
        total[j] += (a[j] - mean[j]) * (a[j] - mean[j])


@njit(nogil=True, cache=True)
def _spread_across(means, variances, new_means, out, radius, first, last):
    """Join the variances of the boxes along the middle axis.

    Parameters
    ----------
    means, variances : (n_outer, n, n_inner) float32
        Of narrower boxes, of equal size.
    new_means : (n_outer, n, n_inner) float32
        Means of `means` over ``2 * radius + 1`` boxes.
    out : (n_outer, n, n_inner) float32, overwritten in part
        The wider boxes' variances.
    radius : int
    first, last : int
        Range of blocks of columns, counted over `n_outer` too.

    Notes
    -----
    The law of total variance: the mean of the variances plus the variance of the means.
    Nothing large is subtracted from anything large.
    """
    _, n, n_inner = means.shape
    n_blocks = (n_inner + BLOCK - 1) // BLOCK
    share = np.float32(1 / (2 * radius + 1))
    for item in range(first, last):
        o, a = item // n_blocks, item % n_blocks * BLOCK
        b = min(a + BLOCK, n_inner)
        for i in range(n):
            total, mean = out[o, i, a:b], new_means[o, i, a:b]
            total[:] = 0
            for k in range(i - radius, i + radius + 1):
                _add_square(total, means[o, min(max(k, 0), n - 1), a:b], mean)
            for k in range(i - radius, i + radius + 1):
                row = variances[o, min(max(k, 0), n - 1), a:b]
                for j in range(b - a):
                    total[j] += row[j]
            for j in range(b - a):
                total[j] *= share


@njit(nogil=True, cache=True)
def _spread_along(means, variances, new_means, out, radius, first, last):
    """Join the variances of the boxes along the last axis.

    Parameters
    ----------
    means, variances, new_means, out : (n_rows, n) float32
    radius : int
    first, last : int
        Range of rows.
    """
    n = means.shape[1]
    share = np.float32(1 / (2 * radius + 1))
    padded = np.empty((2, n + 2 * radius), np.float32)
    for i in range(first, last):
        _pad(means[i], radius, padded[0])
        _pad(variances[i], radius, padded[1])
        total, mean = out[i], new_means[i]
        total[:] = 0
        for k in range(2 * radius + 1):
            _add_square(total, padded[0, k : k + n], mean)
        for k in range(2 * radius + 1):
            row = padded[1, k : k + n]
            for j in range(n):
                total[j] += row[j]
        for j in range(n):
            total[j] *= share


def box_spread(planes: NDArray[np.float32], radii: Sequence[int]) -> NDArray[np.float32]:
    """Compute the variance of the values within a box around each pixel.

    Parameters
    ----------
    planes : (P, D, H, W) float32, C-contiguous
    radii : sequence of three int
        How far the box reaches from its middle along each axis.

    Returns
    -------
    (P, D, H, W) float32
        Population variances, never negative.

    Notes
    -----
    O(size of planes * sum of radii) time and four arrays of the planes' size.
    """
    shape = planes.shape
    means, variances = planes, np.zeros_like(planes)
    for axis, radius in enumerate(radii, start=1):
        if shape[axis] == 1 or radius == 0:
            continue
        alone = [box_taps(radius if other == axis else 0) for other in (1, 2, 3)]
        new_means, out = weigh(means, alone), np.empty_like(planes)
        if axis < 3:
            parts = (math.prod(shape[:axis]), shape[axis], -1)
            kernel, strips = _spread_across, _blocks(planes.reshape(parts))
        else:
            parts = (-1, shape[3])
            kernel, strips = _spread_along, (planes.size // shape[3], max(1, STRIP // shape[3]))
        arrays = [array.reshape(parts) for array in (means, variances, new_means, out)]
        map_strips(partial(kernel, *arrays, radius), *strips)
        means, variances = new_means, out
    return variances
