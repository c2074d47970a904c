"""Contrast-sensitive weights between neighbouring pixels, for graph cuts."""

from __future__ import annotations

from functools import partial

import numpy as np
from numba import njit
from numpy.typing import NDArray

from segalgos.parallel import map_strips

__all__ = ["contrast_beta", "contrast_weights"]

# Where exp is tabulated; linear interpolation is exact to 2e-7 there, beyond it is 0.
LAST_EXPONENT = 20.0
N_STEPS = 16384
STRIP = 65536  # pixels


@njit(nogil=True, cache=True)
def _add_squares(image, mask, offsets, first, last):
    """Add up squared differences of neighbours over a range of rows.

    Parameters
    ----------
    image : (D, H, W, C) uint8 or float32
    mask : (D, H, W) bool, or of no pixel for all
    offsets : (n_planes, 3) intp
        From a pixel to half of its neighbours.
    first, last : int
        Range of rows, counted over all slices.

    Returns
    -------
    total : float
    n_pairs : int
    """
    depth, height, width, n_channels = image.shape
    total, n_pairs = 0.0, 0
    for row in range(first, last):
        z, y = row // height, row % height
        for k in range(len(offsets)):
            z2, y2, dx = z + offsets[k, 0], y + offsets[k, 1], offsets[k, 2]
            if z2 >= depth or y2 >= height:
                continue
            begin, end = max(0, -dx), min(width, width - dx)
            if end <= begin:
                continue
            if mask.size == 0:
                a = image[z, y, begin:end].reshape(-1)
                b = image[z2, y2, begin + dx : end + dx].reshape(-1)
                of_row = 0.0
                for i in range(len(a)):
                    difference = np.float64(a[i]) - np.float64(b[i])
                    of_row += difference * difference
                total += of_row
                n_pairs += end - begin
                continue
            for x in range(begin, end):
                if mask[z, y, x] and mask[z2, y2, x + dx]:
                    for c in range(n_channels):
                        difference = np.float64(image[z, y, x, c])
                        difference -= np.float64(image[z2, y2, x + dx, c])
                        total += difference * difference
                    n_pairs += 1
    return total, n_pairs


@njit(nogil=True, cache=True)
def _weigh(image, offsets, scale, tables, planes, first, last):
    """Write the weights of the edges that begin in a range of rows.

    Parameters
    ----------
    image : (D, H, W, C) uint8 or float32
    offsets : (n_planes, 3) intp
    scale : float
        Steps of the tables for a squared difference of 1.
    tables : (n_planes, N_STEPS + 2) float32
        Weights over squared differences.
    planes : (n_planes, D, H, W) float32
        Overwritten in part; edges that leave the image stay as they are.
    first, last : int
        Range of rows, counted over all slices.
    """
    depth, height, width, n_channels = image.shape
    squared = np.empty(width)
    for row in range(first, last):
        z, y = row // height, row % height
        for k in range(len(offsets)):
            z2, y2, dx = z + offsets[k, 0], y + offsets[k, 1], offsets[k, 2]
            if z2 >= depth or y2 >= height:
                continue
            here, there, table = image[z, y], image[z2, y2], tables[k]
            begin, end = max(0, -dx), min(width, width - dx)
            squared[:] = 0
            for c in range(n_channels):
                for x in range(begin, end):
                    difference = np.float64(here[x, c]) - np.float64(there[x + dx, c])
                    squared[x] += difference * difference
            for x in range(begin, end):
                position = min(squared[x] * scale, np.float64(N_STEPS))
                step = np.int32(position)
                part = np.float32(position - step)
                planes[k, z, y, x] = table[step] + part * (table[step + 1] - table[step])


def _as_volume(image):
    return image.reshape((1,) * (4 - image.ndim) + image.shape)


def _as_steps(offsets):
    """Offsets (n, 2) or (n, 3) as (n, 3)."""
    return np.pad(offsets, ((0, 0), (3 - offsets.shape[1], 0)))


def contrast_beta(
    image: NDArray, offsets: NDArray[np.intp], mask: NDArray[np.bool_] | None
) -> float:
    """Find the scale of contrast of an image: a half of its inverse mean squared difference.

    Parameters
    ----------
    image : (H, W, C) or (D, H, W, C) uint8 or float32
    offsets : (n_planes, ndim) intp
        From a pixel to half of its neighbours.
    mask : (H, W) or (D, H, W) bool or None
        Pairs with a pixel outside it do not count.

    Returns
    -------
    float
        GrabCut's beta, in inverse squared units of intensity; 0 if all neighbours are equal.
    """
    volume = _as_volume(image)
    inside = np.empty((0, 0, 0), bool) if mask is None else mask.reshape(volume.shape[:-1])
    n_rows = volume.shape[0] * volume.shape[1]
    add = partial(_add_squares, volume, inside, _as_steps(offsets))
    parts = map_strips(add, n_rows, max(1, STRIP // volume.shape[2]))
    total = sum(part[0] for part in parts)
    return sum(part[1] for part in parts) / (2 * total) if total > 0 else 0.0


def contrast_weights(
    image: NDArray, offsets: NDArray[np.intp], beta: float, smoothness: float
) -> NDArray[np.float32]:
    """Weigh the edges between neighbours: the less, the more their colours differ.

    Parameters
    ----------
    image : (H, W, C) or (D, H, W, C) uint8 or float32
    offsets : (n_planes, ndim) intp
        From a pixel to half of its neighbours.
    beta : float
        As `contrast_beta` gives it.
    smoothness : float
        Weight of two equal pixels that are one step apart.

    Returns
    -------
    (n_planes, H, W) or (n_planes, D, H, W) float32
        ``smoothness * exp(-beta * difference**2) / distance`` of each pixel and its
        neighbour at the plane's offset; 0 where that one is beyond the image.
    """
    volume = _as_volume(image)
    curve = smoothness * np.exp(-np.linspace(0, LAST_EXPONENT, N_STEPS + 1))
    curve[-1] = 0  # and so for all that is beyond
    curve = np.append(curve, 0)
    tables = (curve / np.linalg.norm(offsets, axis=1)[:, None]).astype(np.float32)
    planes = np.zeros((len(offsets), *volume.shape[:-1]), np.float32)
    n_rows = volume.shape[0] * volume.shape[1]
    scale = beta * N_STEPS / LAST_EXPONENT
    weigh = partial(_weigh, volume, _as_steps(offsets), scale, tables, planes)
    map_strips(weigh, n_rows, max(1, STRIP // volume.shape[2]))
    return planes.reshape(len(offsets), *image.shape[:-1])
