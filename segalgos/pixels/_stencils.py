"""Filters of a few neighbours each, row by row: Sobel's, second derivatives, medians.

Every kernel takes one plane (D, H, W), the rows of it that are wanted, counted over both
leading axes, and writes (n_columns, n_rows, W). A plane of one slice, D = 1, is an image
where `ndim` is 2.
"""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["gradient_products", "hessian", "local_median", "sobel_magnitude", "subtract", "take"]


@njit(nogil=True, cache=True)
def take(plane, rows, out):
    """Copy rows.

    Parameters
    ----------
    plane : (D, H, W) float32
    rows : (n_rows,) intp
    out : (1, n_rows, W) float32, overwritten
    """
    for i in range(rows.shape[0]):
        out[0, i] = plane[rows[i] // plane.shape[1], rows[i] % plane.shape[1]]


@njit(nogil=True, cache=True)
def subtract(plane, other, rows, out):
    """Subtract rows of another plane.

    Parameters
    ----------
    plane, other : (D, H, W) float32
    rows : (n_rows,) intp
    out : (1, n_rows, W) float32, overwritten
    """
    for i in range(rows.shape[0]):
        z, y = rows[i] // plane.shape[1], rows[i] % plane.shape[1]
        _difference(plane[z, y], other[z, y], np.float32(1), out[0, i])


@njit(nogil=True, cache=True)
def _difference(high, low, weight, out):
    for j in range(out.shape[0]):
        out[j] = weight * (high[j] - low[j])


# --- Sobel's gradient --------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _smooth_three(low, middle, high, out):
    quarter, half = np.float32(0.25), np.float32(0.5)
    for j in range(out.shape[0]):
        out[j] = quarter * (low[j] + high[j]) + half * middle[j]


@njit(nogil=True, cache=True)
def _repeat_ends(padded):
    """Repeat the first and last value of the row inside `padded`."""
    padded[0], padded[-1] = padded[1], padded[-2]


@njit(nogil=True, cache=True)
def _magnitude_2d(down, flat, weights, out):
    """Finish a row of an image: smooth the slope along y, take the slope along x."""
    half, quarter, share = np.float32(0.5), np.float32(0.25), np.float32(0.5)
    in_y, in_x = weights[1], weights[2]
    left, middle, right = down[:-2], down[1:-1], down[2:]
    low, high = flat[:-2], flat[2:]
    for j in range(out.shape[0]):
        y = in_y * (quarter * (left[j] + right[j]) + half * middle[j])
        x = in_x * (high[j] - low[j])
        out[j] = np.sqrt(share * (y * y + x * x))


@njit(nogil=True, cache=True)
def _magnitude_3d(deep, down, flat, weights, out):
    """Finish a row of a volume, which has a slope along z too."""
    half, quarter, share = np.float32(0.5), np.float32(0.25), np.float32(1 / 3)
    in_z, in_y, in_x = weights
    for j in range(out.shape[0]):
        z = in_z * (quarter * (deep[j] + deep[j + 2]) + half * deep[j + 1])
        y = in_y * (quarter * (down[j] + down[j + 2]) + half * down[j + 1])
        x = in_x * (flat[j + 2] - flat[j])
        out[j] = np.sqrt(share * (z * z + y * y + x * x))


@njit(nogil=True, cache=True)
def sobel_magnitude(plane, ndim, weights, rows, out):
    """Compute the gradient's magnitude as Sobel's filters see it.

    Parameters
    ----------
    plane : (D, H, W) float32
    ndim : {2, 3}
    weights : (3,) float32
        What each axis' differences are multiplied by.
    rows : (n_rows,) intp
    out : (1, n_rows, W) float32, overwritten
        Root mean square over the axes of the differences between the two neighbours along
        an axis, smoothed by 1 2 1 / 4 along the others.
    """
    depth, height, width = plane.shape
    one = np.float32(1)
    across = np.empty((3, width), np.float32)  # slope along z in the rows around y
    smooth = np.empty((3, width), np.float32)  # the same rows, smoothed along z
    deep, down = np.empty(width + 2, np.float32), np.empty(width + 2, np.float32)
    flat = np.empty(width + 2, np.float32)  # smoothed along z and y
    for i in range(rows.shape[0]):
        z, y = rows[i] // height, rows[i] % height
        above, below = max(y - 1, 0), min(y + 1, height - 1)
        high, middle, low = plane[z, below], plane[z, y], plane[z, above]
        if ndim == 3:
            before, after = plane[max(z - 1, 0)], plane[min(z + 1, depth - 1)]
            for k, near in enumerate((above, y, below)):
                _smooth_three(before[near], plane[z, near], after[near], smooth[k])
                _difference(after[near], before[near], one, across[k])
            low, middle, high = smooth[0], smooth[1], smooth[2]
            _smooth_three(across[0], across[1], across[2], deep[1:-1])
            _repeat_ends(deep)
        _difference(high, low, one, down[1:-1])
        _repeat_ends(down)
        _smooth_three(low, middle, high, flat[1:-1])
        _repeat_ends(flat)
        if ndim == 2:
            _magnitude_2d(down, flat, weights, out[0, i])
        else:
            _magnitude_3d(deep, down, flat, weights, out[0, i])


# --- derivatives as numpy.gradient takes them --------------------------------------------


@njit(nogil=True, cache=True)
def _neighbours(i, n):
    """The two positions whose difference is the derivative at `i`, and its weight."""
    low, high = max(i - 1, 0), min(i + 1, n - 1)
    return low, high, np.float32(1 / max(high - low, 1))


@njit(nogil=True, cache=True)
def _slope_down(plane, z, y, weight, out):
    """Derivative of one row along y."""
    low, high, share = _neighbours(y, plane.shape[1])
    _difference(plane[z, high], plane[z, low], share * weight, out)


@njit(nogil=True, cache=True)
def _slope_deep(plane, z, y, weight, out):
    """Derivative of one row along z."""
    low, high, share = _neighbours(z, plane.shape[0])
    _difference(plane[high, y], plane[low, y], share * weight, out)


@njit(nogil=True, cache=True)
def _slope_along(row, weight, out):
    """Derivative of one row along x."""
    n = row.shape[0]
    if n == 1:
        out[0] = 0
        return
    out[0] = weight * (row[1] - row[0])
    out[n - 1] = weight * (row[n - 1] - row[n - 2])
    _difference(row[2:], row[: n - 2], np.float32(0.5) * weight, out[1 : n - 1])


@njit(nogil=True, cache=True)
def hessian(plane, ndim, weights, rows, out):
    """Compute the matrix of second derivatives: derivatives of derivatives.

    Parameters
    ----------
    plane : (D, H, W) float32
    ndim : {2, 3}
    weights : (3,) float32
        What each axis' derivative is multiplied by.
    rows : (n_rows,) intp
    out : (ndim * (ndim + 1) / 2, n_rows, W) float32, overwritten
        Upper triangles, row by row.

    Notes
    -----
    Derivatives are half the difference of the two neighbours, at the border the difference
    to the only one; 0 along an axis of one pixel.
    """
    depth, height, width = plane.shape
    low, high = np.empty(width, np.float32), np.empty(width, np.float32)
    slope = np.empty(width, np.float32)
    last = out.shape[0] - 1
    in_z, in_y, in_x = weights
    for i in range(rows.shape[0]):
        z, y = rows[i] // height, rows[i] % height
        above, below, share_y = _neighbours(y, height)
        if ndim == 3:
            before, after, share_z = _neighbours(z, depth)
            _slope_deep(plane, before, y, in_z, low)
            _slope_deep(plane, after, y, in_z, high)
            _difference(high, low, share_z * in_z, out[0, i])
            _slope_deep(plane, z, above, in_z, low)
            _slope_deep(plane, z, below, in_z, high)
            _difference(high, low, share_y * in_y, out[1, i])
            _slope_deep(plane, z, y, in_z, slope)
            _slope_along(slope, in_x, out[2, i])
        _slope_down(plane, z, above, in_y, low)
        _slope_down(plane, z, below, in_y, high)
        _difference(high, low, share_y * in_y, out[last - 2, i])
        _slope_down(plane, z, y, in_y, slope)
        _slope_along(slope, in_x, out[last - 1, i])
        _slope_along(plane[z, y], in_x, slope)
        _slope_along(slope, in_x, out[last, i])


@njit(nogil=True, cache=True)
def gradient_products(plane, ndim, weights, rows, out):
    """Multiply the gradient with itself: the structure tensor before it is smoothed.

    Parameters
    ----------
    plane, ndim, weights, rows, out : as in `hessian`
    """
    width = plane.shape[2]
    slopes = np.zeros((3, width), np.float32)
    for i in range(rows.shape[0]):
        z, y = rows[i] // plane.shape[1], rows[i] % plane.shape[1]
        if ndim == 3:
            _slope_deep(plane, z, y, weights[0], slopes[0])
        _slope_down(plane, z, y, weights[1], slopes[1])
        _slope_along(plane[z, y], weights[2], slopes[2])
        k = 0
        for a in range(3 - ndim, 3):
            for b in range(a, 3):
                product, one, other = out[k, i], slopes[a], slopes[b]
                for j in range(width):
                    product[j] = one[j] * other[j]
                k += 1


# --- medians -----------------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _shift(row, step, out):
    """Copy a row moved by `step`, with its outermost value where it ends."""
    n = row.shape[0]
    if step >= 0:
        step = min(step, n)
        out[: n - step] = row[step:]
        out[n - step :] = row[n - 1]
    else:
        step = min(-step, n)
        out[step:] = row[: n - step]
        out[:step] = row[0]


@njit(nogil=True, cache=True)
def _sort_pair(low, high):
    """Put the smaller of each two values in the first row."""
    for j in range(low.shape[0]):
        a, b = low[j], high[j]
        low[j] = a if a < b else b
        high[j] = b if a < b else a


@njit(nogil=True, cache=True)
def local_median(plane, ndim, steps, rows, out):
    """Compute the median of 3 x 3 (x 3) values around each pixel, some steps apart.

    Parameters
    ----------
    plane : (D, H, W) float32
    ndim : {2, 3}
    steps : (3,) intp
        Pixels between neighbouring values along each axis.
    rows : (n_rows,) intp
    out : (1, n_rows, W) float32, overwritten

    Notes
    -----
    Of any n / 2 + 2 values neither the smallest nor the largest can be the median of n: both
    are forgotten and another value looked at, until three are left. All pixels of a row do
    the same, so that comparisons are vectors.
    """
    depth, height, width = plane.shape
    n = 3**ndim
    values = np.empty((n, width), np.float32)
    for i in range(rows.shape[0]):
        z, y = rows[i] // height, rows[i] % height
        for k in range(n):
            deep = min(max(z + (k // 9 - 1) * steps[0], 0), depth - 1) if ndim == 3 else z
            down = min(max(y + (k // 3 % 3 - 1) * steps[1], 0), height - 1)
            _shift(plane[deep, down], (k % 3 - 1) * steps[2], values[k])
        stop = unseen = n // 2 + 2
        for first in range(n // 2):
            for k in range(first + 1, stop):
                _sort_pair(values[first], values[k])
            for k in range(first + 1, stop - 1):
                _sort_pair(values[k], values[stop - 1])
            if unseen < n:
                values[stop - 1] = values[unseen]
                unseen += 1
        out[0, i] = values[n // 2]
