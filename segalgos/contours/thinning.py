"""Thin contours: strengths at the places where they are largest across their direction."""

from __future__ import annotations

from functools import partial

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from segalgos.parallel import map_strips

__all__ = ["non_maximum_suppression"]

STRIP = 64  # rows


@njit(nogil=True, cache=True)
def _read(peaks, row, column):
    """Interpolate between the four pixels around a place at most one pixel outside.

    Parameters
    ----------
    peaks : (H, W) float32
        Beyond its border it goes on with its outermost values.
    row, column : float

    Returns
    -------
    float32
    """
    height, width = peaks.shape
    top, left = int(np.floor(row)), int(np.floor(column))
    y, x = np.float32(row - top), np.float32(column - left)
    r0, r1 = min(max(top, 0), height - 1), min(max(top + 1, 0), height - 1)
    c0, c1 = min(max(left, 0), width - 1), min(max(left + 1, 0), width - 1)
    above = peaks[r0, c0] + x * (peaks[r0, c1] - peaks[r0, c0])
    below = peaks[r1, c0] + x * (peaks[r1, c1] - peaks[r1, c0])
    return above + y * (below - above)


@njit(nogil=True, cache=True)
def _find_peaks(strengths, peaks, best, first, last):
    """Write the largest of all orientations' strengths, and which orientation has it."""
    n_orientations, _, width = strengths.shape
    for i in range(first, last):
        for j in range(width):
            k = 0
            for other in range(1, n_orientations):
                if strengths[other, i, j] > strengths[k, i, j]:
                    k = other
            best[i, j], peaks[i, j] = k, strengths[k, i, j]


@njit(nogil=True, cache=True)
def _keep_maxima(peaks, best, steps, thin, first, last):
    """Keep the peaks that no neighbour across their contour exceeds.

    Parameters
    ----------
    peaks : (H, W) float32
    best : (H, W) int32
        Orientation of each.
    steps : (n_orientations, 2) float64
        Rows and columns of a step of one pixel across each.
    thin : (H, W) float32, overwritten in part
    first, last : int
        Range of rows.
    """
    for i in range(first, last):
        for j in range(peaks.shape[1]):
            rows, columns = steps[best[i, j], 0], steps[best[i, j], 1]
            before = _read(peaks, i - rows, j - columns)
            after = _read(peaks, i + rows, j + columns)
            # Of equal neighbours the first is kept.
            kept = peaks[i, j] > before and peaks[i, j] >= after
            thin[i, j] = peaks[i, j] if kept else 0


def non_maximum_suppression(strengths: ArrayLike) -> NDArray[np.float32]:
    """Thin oriented strengths of contours to lines one pixel wide [1]_.

    Parameters
    ----------
    strengths : (n_orientations, H, W) array_like
        Finite. Orientation k is that of contours which rise by ``k * 180 / n_orientations``
        degrees from the rows.

    Returns
    -------
    (H, W) float32
        The largest strength of all orientations where it is a maximum across that
        orientation, 0 elsewhere.

    Raises
    ------
    ValueError
        If it has another number of axes, no value, or values that are not finite.

    Notes
    -----
    A pixel is compared with the values one pixel away on both sides, interpolated between
    four. Of two equal ones one is kept; a plateau that is wider vanishes but for its
    rim. Beyond its border the map goes on with its outermost values. O(n_orientations * H * W)
    time.

    References
    ----------
    .. [1] J. Canny, "A Computational Approach to Edge Detection", IEEE TPAMI 8(6), 679-698,
       1986.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos import non_maximum_suppression
    >>> strengths = np.zeros((2, 3, 5))
    >>> strengths[1] = [0, 1, 3, 2, 0]  # orientation 1 of 2: upright
    >>> non_maximum_suppression(strengths)
    array([[0., 0., 3., 0., 0.],
           [0., 0., 3., 0., 0.],
           [0., 0., 3., 0., 0.]], dtype=float32)
    """
    caller = "non_maximum_suppression"
    strengths = np.asarray(strengths)
    if strengths.dtype.kind not in "buif" or strengths.ndim != 3 or strengths.size == 0:
        raise ValueError(
            f"{caller}: strengths is {strengths.dtype} of shape {strengths.shape}, expected "
            "numbers (n_orientations, H, W): add an axis in front of a single map, "
            "strengths[None]."
        )
    strengths = np.ascontiguousarray(strengths, np.float32)
    if not np.isfinite(strengths).all():
        raise ValueError(
            f"{caller}: strengths hold NaN or infinite values, expected finite ones: replace "
            "them, for instance with numpy.nan_to_num."
        )
    n_orientations, height, width = strengths.shape
    peaks, thin = np.empty((2, height, width), np.float32)
    best = np.empty((height, width), np.int32)
    map_strips(partial(_find_peaks, strengths, peaks, best), height, STRIP)
    angles = np.arange(n_orientations) * np.pi / n_orientations
    steps = np.round(np.stack([np.cos(angles), np.sin(angles)], axis=1), 12)  # rows go down
    map_strips(partial(_keep_maxima, peaks, best, steps, thin), height, STRIP)
    return thin
