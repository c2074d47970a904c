"""What structured forests look at: colour, gradients and their orientations, as bytes."""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from segalgos.parallel import map_strips
from segalgos.smoothing import gaussian

__all__ = [
    "CELL",
    "N_CHANNELS",
    "PADDING",
    "Channels",
    "double",
    "edge_channels",
    "mean_of_cells",
]

CELL = 2  # pixels of the image in a row of a channel
PADDING = 16  # mirrored pixels around the image: half of a patch
N_ORIENTATIONS = 4
# Lab; at both scales the strength of the gradient and its part at each orientation.
N_CHANNELS = 3 + 2 * (1 + N_ORIENTATIONS)
# Gradients are divided by their mean nearby, of this standard deviation in pixels, plus FLAT:
# a weak edge in a calm place is as strong as one amid texture. In units of Lab / 100.
NEARBY, FLAT = 2.0, 0.02
# Standard deviations, in cells, of the channels that are looked at by themselves and of those
# whose differences are.
FINE, COARSE = 0.7, 2.0
# Byte 255 of a gradient's strength, as a multiple of its mean nearby.
STRONGEST = 2.0
ROWS = 16  # that a thread takes at a time


class Channels(NamedTuple):
    """Channels of an image that was padded by `PADDING`, at every `CELL`-th pixel.

    Parameters
    ----------
    fine, coarse : (h, w, N_CHANNELS) uint8 array
        Smoothed a little, and more.
    lab : (h * CELL, w * CELL, 3) float32 array
        The padded image.
    """

    fine: NDArray[np.uint8]
    coarse: NDArray[np.uint8]
    lab: NDArray[np.float32]


@njit(nogil=True, cache=True)
def _differentiate(lab, strength, angle, first, last):
    """Central differences of the channel that changes most.

    Parameters
    ----------
    lab : (H, W, 3) float32
    strength : (H, W, 1) float32, overwritten in part
        In units of Lab / 100 a pixel.
    angle : (H, W) float32, overwritten in part
        Direction of the gradient, in steps of N_ORIENTATIONS to half a turn, from 0.
    first, last : int
        Range of rows.
    """
    height, width = lab.shape[:2]
    down, along = np.empty(width, np.float32), np.empty(width, np.float32)
    for i in range(first, last):
        above, below = max(i - 1, 0), min(i + 1, height - 1)
        for j in range(width):
            left, right = max(j - 1, 0), min(j + 1, width - 1)
            best, steepest_y, steepest_x = np.float32(-1), np.float32(0), np.float32(0)
            for c in range(3):
                dy = lab[below, j, c] - lab[above, j, c]
                dx = lab[i, right, c] - lab[i, left, c]
                square = dy * dy + dx * dx
                if square > best:
                    best, steepest_y, steepest_x = square, dy, dx
            down[j], along[j] = steepest_y, steepest_x
        _to_polar(down, along, strength[i].reshape(-1), angle[i])


@njit(nogil=True, cache=True)
def _arc_tangent(x):
    """Compute arctan(x) for 0 <= x <= 1, float32, 2e-8 off at most but for rounding [1]_.

    References
    ----------
    .. [1] M. Abramowitz and I. A. Stegun, "Handbook of mathematical functions", 1964, 4.4.49.
    """
    square = x * x
    value = np.float32(0.0028662257)
    value = value * square - np.float32(0.0161657367)
    value = value * square + np.float32(0.0429096138)
    value = value * square - np.float32(0.0752896400)
    value = value * square + np.float32(0.1065626393)
    value = value * square - np.float32(0.1420889944)
    value = value * square + np.float32(0.1999355085)
    value = value * square - np.float32(0.3333314528)
    return x + value * square * x


@njit(nogil=True, cache=True)
def _to_polar(down, along, strength, angle):
    """Convert a row of gradients, without a branch or a call, so that several are one step.

    Parameters
    ----------
    down, along : (W,) float32
    strength, angle : (W,) float32, overwritten
        As in `_differentiate`.
    """
    half, quarter = np.float32(N_ORIENTATIONS), np.float32(N_ORIENTATIONS / 2)
    to_steps = np.float32(N_ORIENTATIONS / math.pi)
    for j in range(down.shape[0]):
        strength[j] = np.float32(0.005) * math.sqrt(down[j] * down[j] + along[j] * along[j])
        y, x = abs(down[j]), abs(along[j])
        ratio = min(x, y) / max(x, y, np.float32(1e-30))
        turned = _arc_tangent(ratio) * to_steps
        turned = quarter - turned if y > x else turned
        angle[j] = half - turned if down[j] * along[j] < 0 else turned


@njit(nogil=True, cache=True)
def _pool_gradients(strength, nearby, angle, cell, channels, first, last):
    """Average relative gradients, and their parts by orientation, over cells.

    Parameters
    ----------
    strength, nearby : (h * cell, w * cell, 1) float32
    angle : (h * cell, w * cell) float32
    cell : int
    channels : (h, w, 1 + N_ORIENTATIONS) float32, overwritten in part
    first, last : int
        Range of rows of `channels`.
    """
    scale = np.float32(1 / cell**2)
    for i in range(first, last):
        channels[i] = 0
        for y in range(i * cell, (i + 1) * cell):
            for j in range(channels.shape[1]):
                target = channels[i, j]
                for x in range(j * cell, (j + 1) * cell):
                    value = scale * strength[y, x, 0] / (nearby[y, x, 0] + np.float32(FLAT))
                    whole = int(angle[y, x])
                    part = value * (angle[y, x] - np.float32(whole))
                    target[0] += value
                    target[1 + whole % N_ORIENTATIONS] += value - part
                    target[1 + (whole + 1) % N_ORIENTATIONS] += part


def _add_gradients(lab: NDArray[np.float32], cell: int, channels: NDArray[np.float32]) -> None:
    """Fill a scale's channels (h, w, 1 + N_ORIENTATIONS) from an image (h * cell, w * cell, 3)."""
    strength = np.empty((*lab.shape[:2], 1), np.float32)
    angle = np.empty(lab.shape[:2], np.float32)
    map_strips(partial(_differentiate, lab, strength, angle), len(lab), ROWS)
    nearby = gaussian(strength, NEARBY)
    pool = partial(_pool_gradients, strength, nearby, angle, cell, channels)
    map_strips(pool, len(channels), ROWS)


@njit(nogil=True, cache=True)
def _mean_of_cells(image, cell, out, first, last):
    """Average an image (h * cell, w * cell, C) over cells, for rows of `out` (h, w, C)."""
    scale = np.float32(1 / cell**2)
    for i in range(first, last):
        out[i] = 0
        for y in range(i * cell, (i + 1) * cell):
            for j in range(out.shape[1]):
                for x in range(j * cell, (j + 1) * cell):
                    for c in range(out.shape[2]):
                        out[i, j, c] += scale * image[y, x, c]


def mean_of_cells(image: NDArray[np.float32], cell: int) -> NDArray[np.float32]:
    """Average an image over square cells.

    Parameters
    ----------
    image : (h * cell, w * cell, C) float32
    cell : int

    Returns
    -------
    (h, w, C) float32
    """
    height, width, n = image.shape
    out = np.empty((height // cell, width // cell, n), np.float32)
    map_strips(partial(_mean_of_cells, image, cell, out), len(out), ROWS)
    return out


@njit(nogil=True, cache=True)
def _to_bytes(channels, scale, shift, out, first, last):
    """Write ``channels * scale + shift``, each channel's own, rounded, for a range of rows."""
    for i in range(first, last):
        for j in range(channels.shape[1]):
            for c in range(channels.shape[2]):
                value = channels[i, j, c] * scale[c] + shift[c] + np.float32(0.5)
                out[i, j, c] = np.uint8(min(max(value, np.float32(0)), np.float32(255)))


def _smooth_bytes(channels: NDArray[np.float32], sigma: float) -> NDArray[np.uint8]:
    smooth = gaussian(channels, sigma)
    scale = np.full(N_CHANNELS, 255 / STRONGEST, np.float32)
    shift = np.zeros(N_CHANNELS, np.float32)
    scale[:3] = 2.55, 1, 1
    shift[1:3] = 128
    out = np.empty(channels.shape, np.uint8)
    map_strips(partial(_to_bytes, smooth, scale, shift, out), len(out), ROWS)
    return out


@njit(nogil=True, cache=True)
def _double(image, out, first, last):
    """Write rows of an image (h, w, C) at twice its size (2 h, 2 w, C), linear in between."""
    near, far = np.float32(0.75), np.float32(0.25)
    height, width, n = image.shape
    for y in range(first, last):
        i = y // 2
        k = min(max(i + 2 * (y % 2) - 1, 0), height - 1)
        for x in range(2 * width):
            j = x // 2
            m = min(max(j + 2 * (x % 2) - 1, 0), width - 1)
            for c in range(n):
                out[y, x, c] = near * (near * image[i, j, c] + far * image[i, m, c]) + far * (
                    near * image[k, j, c] + far * image[k, m, c]
                )


def double(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Enlarge an image (h, w, C) to (2 h, 2 w, C), linear between the middles of pixels."""
    height, width, n = image.shape
    out = np.empty((2 * height, 2 * width, n), np.float32)
    map_strips(partial(_double, image, out), 2 * height, ROWS)
    return out


def edge_channels(lab: NDArray[np.float32]) -> Channels:
    """Compute what a structured forest looks at.

    Parameters
    ----------
    lab : (H, W, 3) float32
        CIE Lab.

    Returns
    -------
    Channels

    Notes
    -----
    As [1]_ has them, with Lab in place of Luv, Gaussians in place of triangle filters, and
    bytes in place of floats. O(H * W) time.

    References
    ----------
    .. [1] P. Dollar and C. L. Zitnick, "Fast edge detection using structured forests", IEEE
       TPAMI 37(8), 1558-1570, 2015, arXiv:1406.5549.
    """
    ends = [PADDING + -n % CELL for n in lab.shape[:2]]
    lab = np.pad(lab, (*((PADDING, end) for end in ends), (0, 0)), mode="symmetric")
    half = mean_of_cells(lab, CELL)
    parts = [half]
    for scaled, cell in ((lab, CELL), (half, 1)):
        part = np.empty((*half.shape[:2], 1 + N_ORIENTATIONS), np.float32)
        _add_gradients(scaled, cell, part)
        parts.append(part)
    channels = np.concatenate(parts, axis=-1)
    return Channels(_smooth_bytes(channels, FINE), _smooth_bytes(channels, COARSE), lab)
