"""Gaussian smoothing of images and volumes, within a mask if there is one."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from numba import njit
from numpy.typing import NDArray

from segalgos.parallel import map_strips

__all__ = ["gaussian"]

TRUNCATE = 4.0  # radius in standard deviations
BLOCK = 4096  # values that stay in the first cache while all taps pass over them


@njit(nogil=True, cache=True)
def _convolve_across(image, taps, mirrored, out, first, last):
    """Convolve along the middle axis.

    Parameters
    ----------
    image : (n_outer, n, n_inner) float32
    taps : (n_taps,) float32
    mirrored : (n + n_taps - 1,) intp
        Where the padded axis takes its values.
    out : (n_outer, n, n_inner) float32, overwritten in part
    first, last : int
        Range of rows of `n_inner` values, counted over both leading axes.
    """
    n, n_inner = image.shape[1], image.shape[2]
    for row in range(first, last):
        outer, i = row // n, row % n
        for begin in range(0, n_inner, BLOCK):
            end = min(begin + BLOCK, n_inner)
            target = out[outer, i, begin:end]
            target[:] = 0
            for t in range(taps.shape[0]):
                tap = taps[t]
                source = image[outer, mirrored[i + t], begin:end]
                for j in range(target.shape[0]):
                    target[j] += tap * source[j]


@njit(nogil=True, cache=True)
def _convolve_along(image, taps, mirrored, first, last):
    """Convolve along the last spatial axis, in place.

    Parameters
    ----------
    image : (n_rows, n, C) float32, overwritten in part
    taps, mirrored : as in `_convolve_across`
    first, last : int
        Range of rows.
    """
    n, n_channels = image.shape[1], image.shape[2]
    padded = np.empty(mirrored.shape[0] * n_channels, np.float32)
    for row in range(first, last):
        for i in range(mirrored.shape[0]):
            for c in range(n_channels):
                padded[i * n_channels + c] = image[row, mirrored[i], c]
        target = image[row].reshape(-1)
        target[:] = 0
        for t in range(taps.shape[0]):
            tap = taps[t]
            source = padded[t * n_channels :]
            for j in range(n * n_channels):
                target[j] += tap * source[j]


def _smooth(image, taps):
    *leading, width, n_channels = image.shape
    radius = len(taps) // 2
    if max(leading) == 1:
        image = image.copy()  # nothing else makes one before the pass in place
    for axis, n in enumerate(leading):
        if n > 1:
            inside = image.reshape(math.prod(leading[:axis]), n, -1)
            out = np.empty_like(inside)
            mirrored = np.pad(np.arange(n), radius, mode="symmetric")
            strip = max(1, 65536 // inside.shape[2])
            convolve = partial(_convolve_across, inside, taps, mirrored, out)
            map_strips(convolve, inside.shape[0] * n, strip)
            image = out
    rows = image.reshape(-1, width, n_channels)
    mirrored = np.pad(np.arange(width), radius, mode="symmetric")
    strip = max(1, 65536 // (width * n_channels))
    map_strips(partial(_convolve_along, rows, taps, mirrored), len(rows), strip)
    return rows.reshape(*leading, width, n_channels)


def gaussian(
    image: NDArray[np.float32], sigma: float, mask: NDArray[np.bool_] | None = None
) -> NDArray[np.float32]:
    """Smooth each channel with a Gaussian.

    Parameters
    ----------
    image : (H, W, C) or (D, H, W, C) float32
    sigma : float
        Standard deviation in pixels; 0 gives the image back as it is.
    mask : (H, W) or (D, H, W) bool, optional
        Pixels outside it have no influence; their own values are meaningless.

    Returns
    -------
    ndarray of float32
        Of the image's shape.

    Notes
    -----
    O(n_pixels * C * sigma) time. The filter reaches four standard deviations; beyond its
    borders the image is mirrored (scipy's ``mode="reflect"``).
    """
    if sigma == 0:
        return image
    radius = int(TRUNCATE * sigma + 0.5)
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    taps = (taps / taps.sum()).astype(np.float32)
    if mask is None:
        return _smooth(image, taps)
    weight = mask[..., None].astype(np.float32)
    share = np.where(mask[..., None], _smooth(weight, taps), 1)
    return _smooth(image * weight, taps) / share
