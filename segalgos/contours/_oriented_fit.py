"""Smoothing of oriented strengths along their contours, by parabolas fitted across them."""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
from numba import njit
from numpy.typing import NDArray

from segalgos.contours._half_discs import N_ORIENTATIONS
from segalgos.parallel import map_items

__all__ = ["fit_parabolas"]

CHUNK = 1024
STRIP = 32  # rows
NARROWEST = 1.5  # pixels to either side of a contour that a parabola is fitted to


@cache
def _taps(radius: int, k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Rows, columns and weights whose sum is the fitted parabola's value in the middle."""
    reach = np.arange(-radius, radius + 1)
    rows, columns = (grid.ravel() for grid in np.meshgrid(reach, reach, indexing="ij"))
    sine, cosine = np.sin(k * np.pi / N_ORIENTATIONS), np.cos(k * np.pi / N_ORIENTATIONS)
    across, along = columns * sine + rows * cosine, columns * cosine - rows * sine
    inside = (along / radius) ** 2 + (across / max(radius / 4, NARROWEST)) ** 2 <= 1 + 1e-9
    powers = np.vander(across[inside], 3, increasing=True)
    weights = np.linalg.pinv(powers)[0]
    return np.stack([rows[inside], columns[inside]]), weights.astype(np.float32)


@njit(nogil=True, cache=True)
def _lay_out(strengths, k, rows, columns, swapped_rows, swapped_columns, window):
    """Copy a window of one orientation's map; beyond the borders the maps are mirrored.

    Parameters
    ----------
    strengths : (N_ORIENTATIONS, H, W) float32
    k : int
    rows : (n_rows,) intp
    columns : (n_columns,) intp
        Where values are taken from.
    swapped_rows : (n_rows,) bool
    swapped_columns : (n_columns,) bool
        Whether they are seen in a mirror: then what rises falls.
    window : (n_rows * n_columns,) float32, overwritten
    """
    mirrored = (N_ORIENTATIONS - k) % N_ORIENTATIONS
    n = columns.shape[0]
    for i in range(rows.shape[0]):
        straight, turned = strengths[k, rows[i]], strengths[mirrored, rows[i]]
        if swapped_rows[i]:
            straight, turned = turned, straight
        for j in range(n):
            window[i * n + j] = (turned if swapped_columns[j] else straight)[columns[j]]


@njit(nogil=True, cache=True, fastmath={"contract"})
def _weigh(window, start, offsets, weights, out):
    """Write weighted sums of what lies at some offsets from each place of a chunk.

    Parameters
    ----------
    window : (n,) float32
    start : int
        The chunk's first place.
    offsets : (n_taps,) intp
        A multiple of four.
    weights : (n_taps,) float32
    out : (CHUNK,) float32, overwritten
    """
    for i in range(CHUNK):
        out[i] = 0
    for t in range(0, offsets.shape[0], 4):
        a, b = window[start + offsets[t] :], window[start + offsets[t + 1] :]
        c, d = window[start + offsets[t + 2] :], window[start + offsets[t + 3] :]
        wa, wb, wc, wd = weights[t], weights[t + 1], weights[t + 2], weights[t + 3]
        for i in range(CHUNK):
            out[i] += wa * a[i] + wb * b[i] + wc * c[i] + wd * d[i]


@njit(nogil=True, cache=True)
def _weigh_window(window, n_columns, reach, offsets, weights, out):
    """Write weighted sums around all pixels of a strip.

    Parameters
    ----------
    window : (n,) float32
        Rows of `n_columns` values, `reach` more on all sides than the strip has, and behind them
        a chunk and twice `reach` of anything: so far the last chunk may look.
    n_columns, reach : int
    offsets, weights : as in `_weigh`
    out : (n_rows, W) float32, overwritten
    """
    chunk = np.empty(CHUNK, np.float32)
    n_rows, width = out.shape
    for begin in range(0, n_rows * n_columns, CHUNK):
        _weigh(window, reach * (n_columns + 1) + begin, offsets, weights, chunk)
        for place in range(begin, min(begin + CHUNK, n_rows * n_columns)):
            i, j = place // n_columns, place % n_columns
            if j < width:
                out[i, j] = chunk[place - begin]


def _beyond(length: int, reach: int) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Where an axis continued on both sides takes its values, and whether in a mirror."""
    places = np.arange(-reach, length + reach)
    turns, rest = np.divmod(places, length)
    swapped = turns % 2 == 1
    return np.where(swapped, length - 1 - rest, rest), swapped


def fit_parabolas(strengths: NDArray[np.float32], radius: int) -> NDArray[np.float32]:
    """Smooth strengths along contours and keep their peaks across them.

    Parameters
    ----------
    strengths : (N_ORIENTATIONS, H, W) float32
    radius : int
        How far the fit reaches along a contour; across it, a quarter as far.

    Returns
    -------
    (N_ORIENTATIONS, H, W) float32
        At least 0.

    Notes
    -----
    Around each pixel a parabola in the distance across the contour is fitted by least squares
    to the strengths within an ellipse, and its value at the pixel is taken: Savitzky and
    Golay's filter across, the mean along [1]_. O(H * W * radius ** 2) time.

    References
    ----------
    .. [1] P. Arbelaez, M. Maire, C. Fowlkes, J. Malik, "Contour Detection and Hierarchical
       Image Segmentation", IEEE TPAMI 33(5), 898-916, 2011.
    """
    _, height, width = strengths.shape
    rows, swapped_rows = _beyond(height, radius)
    columns, swapped_columns = _beyond(width, radius)
    out = np.empty_like(strengths)

    def fit(item):
        k, top = item
        bottom = min(top + STRIP, height)
        part = slice(top, bottom + 2 * radius)
        n_values = (bottom - top + 2 * radius) * len(columns)
        window = np.zeros(n_values + CHUNK + 2 * radius, np.float32)
        _lay_out(strengths, k, rows[part], columns, swapped_rows[part], swapped_columns, window)
        places, weights = _taps(radius, k)
        fill = -len(weights) % 4
        offsets = np.pad(places[0] * len(columns) + places[1], (0, fill))
        weights = np.pad(weights, (0, fill))
        _weigh_window(window, len(columns), radius, offsets, weights, out[k, top:bottom])

    map_items(fit, product(range(N_ORIENTATIONS), range(0, height, STRIP)))
    return np.maximum(out, 0, out=out)
