"""Thin contours: strengths at the places where they are largest across their direction."""

from __future__ import annotations

from functools import partial

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from segalgos.contours.oriented_watershed import SIGMA, _orientation
from segalgos.finite import as_finite
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
        Orientation of each, -1 for none.
    steps : (n_orientations, 2) float64
        Rows and columns of a step of one pixel across each.
    thin : (H, W) float32, overwritten in part
    first, last : int
        Range of rows.
    """
    height, width = peaks.shape
    for i in range(first, last):
        for j in range(width):
            if best[i, j] < 0:
                thin[i, j] = 0
                continue
            rows, columns = steps[best[i, j], 0], steps[best[i, j], 1]
            before = _read(peaks, i - rows, j - columns)
            after = _read(peaks, i + rows, j + columns)
            # Of equal neighbours the first is kept, unless the other is what the border repeats.
            inside = 0 <= i + rows <= height - 1 and 0 <= j + columns <= width - 1
            kept = peaks[i, j] > before
            kept &= peaks[i, j] > after or (inside and peaks[i, j] == after)
            thin[i, j] = peaks[i, j] if kept else 0


def non_maximum_suppression(strengths: ArrayLike) -> NDArray[np.float32]:
    """Thin strengths of contours to lines one pixel wide [1]_.

    Parameters
    ----------
    strengths : (n_orientations, H, W) or (H, W) array_like
        Finite. Orientation k is that of contours which rise by ``k * 180 / n_orientations``
        degrees from the rows. Without orientations they are estimated by
        `segalgos.contours.oriented_watershed.contour_orientation`.

    Returns
    -------
    (H, W) float32
        The largest strength of all orientations where it is a maximum across that
        orientation, 0 elsewhere.

    Raises
    ------
    ValueError
        If it has another number of axes, no value, or values that are not finite.
    TypeError
        If it does not hold numbers.

    Notes
    -----
    A pixel is compared with the values one pixel away on both sides, interpolated between
    four. Of two equal ones one is kept; a plateau that is wider vanishes but for its
    rim, and without orientations all of it: where no ridge is, there is no direction. Beyond its
    border the map goes on with its outermost values, so that a line along the border, in the
    outermost pixels, vanishes. O(n_orientations * H * W) time.

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
    ndim = np.ndim(strengths)
    if ndim not in (2, 3) or 0 in np.shape(strengths):
        raise ValueError(
            f"{caller}: strengths has shape {np.shape(strengths)}, expected (n_orientations, H, W) "
            "or (H, W), with at least one pixel."
        )
    strengths = as_finite(strengths, np.float32, (None,) * ndim, f"{caller}: strengths")
    strengths = np.ascontiguousarray(strengths)
    height, width = strengths.shape[-2:]
    thin = np.empty((height, width), np.float32)
    if ndim == 2:
        peaks, (best, angles) = strengths, _directions(strengths)
    else:
        peaks, best = np.empty_like(thin), np.empty((height, width), np.int32)
        map_strips(partial(_find_peaks, strengths, peaks, best), height, STRIP)
        angles = np.arange(len(strengths)) * np.pi / len(strengths)
    steps = np.round(np.stack([np.cos(angles), np.sin(angles)], axis=1), 12)  # rows go down
    map_strips(partial(_keep_maxima, peaks, best, steps, thin), height, STRIP)
    return thin


def _directions(strength: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Number of each pixel's estimated orientation, -1 for none, and the angles (n,)."""
    orientation = _orientation(strength, SIGMA, None)
    known = ~np.isnan(orientation)
    best = np.full(strength.shape, -1, np.int32)
    best[known] = np.arange(np.count_nonzero(known))
    return best, orientation[known].astype(np.float64)
