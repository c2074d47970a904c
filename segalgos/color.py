"""Intensity units and colour spaces: what "white" is, and CIE Lab."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from segalgos.parallel import map_strips

__all__ = ["data_range_of", "find_data_range", "rescale", "rgb_to_lab"]

USUAL_RANGES = (1.0, 255.0, 65535.0)
# How far beyond white values may reach; their squares then stay within float32.
LARGEST = 1e12

# sRGB to XYZ, each row divided by the D65 white point, so that white is (1, 1, 1).
RGB_TO_XYZ = np.array(
    [
        [0.412453, 0.357580, 0.180423],
        [0.212671, 0.715160, 0.072169],
        [0.019334, 0.119193, 0.950227],
    ]
) / np.array([[0.95047], [1.0], [1.08883]])

# Steps of the tables of both curves: linear interpolation is then exact to 3e-4 in Lab.
N_STEPS = 16384


def data_range_of(image: NDArray, mask: NDArray[np.bool_] | None = None) -> float:
    """Guess the value of white from the values, never from the dtype.

    Parameters
    ----------
    image : (..., C) ndarray
    mask : (...) ndarray of bool, optional
        Pixels to look at.

    Returns
    -------
    float
        The smallest of 1, 255 and 65535 that no absolute value exceeds; beyond these
        the largest absolute value itself. 1 for an image of zeros.

    Notes
    -----
    A photograph thus segments alike whether it is stored as 0..255 in any dtype or as
    0..1. Pass the range to a method where the guess is wrong, for instance for 12-bit
    data.
    """
    peak = _peak(image, mask)
    return next((usual for usual in USUAL_RANGES if peak <= usual), peak)


def find_data_range(
    image: NDArray, mask: NDArray[np.bool_] | None, data_range: float | None, caller: str
) -> float:
    """Take up a method's ``data_range``: the given one, checked, or a guess.

    Parameters
    ----------
    image : (..., C) ndarray
    mask : (...) ndarray of bool or None
        Pixels to look at.
    data_range : float or None
        None for `data_range_of`.
    caller : str
        For the message.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the image is so far beyond `data_range` that squares would overflow.
    """
    if data_range is None:
        return data_range_of(image, mask)
    peak = _peak(image, mask)
    if peak > LARGEST * data_range:
        raise ValueError(
            f"{caller}: data_range is {data_range:g}, but the image reaches {peak:g}: pass the "
            "value of white, or None to have it found."
        )
    return float(data_range)


def _peak(image, mask):
    values = image if mask is None else image[mask]
    return max(abs(float(values.max())), abs(float(values.min())))


def rescale(image: NDArray, data_range: float, white: float) -> NDArray[np.float32]:
    """Convert an image to units in which `data_range` becomes `white`.

    Parameters
    ----------
    image : ndarray
    data_range : float
        Value of white in the image.
    white : float
        Value of white in the new units.

    Returns
    -------
    ndarray of float32
        A new array of the same shape.
    """
    return np.multiply(image, white / data_range, dtype=np.float32)


# --- sRGB to Lab -------------------------------------------------------------------------


def _linear_light(value):
    """Undo the sRGB gamma; white is 1, negative values go on along the linear toe."""
    power = ((np.maximum(value, 0.04045) + 0.055) / 1.055) ** 2.4
    return np.where(value > 0.04045, power, value / 12.92)


def _cie_root(value):
    """CIE's f: a cube root with a linear toe."""
    return np.where(value > 0.008856, np.cbrt(value), 7.787 * value + 16 / 116)


@njit(nogil=True, cache=True)
def _interpolate(table, position):
    step = np.int32(position)
    return table[step] + (position - np.float32(step)) * (table[step + 1] - table[step])


@njit(nogil=True, cache=True)
def _convert(rgb, scale, light, root, matrix, lab):
    """Convert pixels with values from 0 to white.

    Parameters
    ----------
    rgb : (n_pixels, 3) uint8 or float32
    scale : float32
        ``N_STEPS`` over the value of white.
    light, root : (N_STEPS + 2,) float32
        Both curves over 0..1.
    matrix : (3, 3) float32
        Linear RGB to XYZ, times ``N_STEPS``.
    lab : (n_pixels, 3) float32, overwritten
    """
    for i in range(rgb.shape[0]):
        r = _interpolate(light, rgb[i, 0] * scale)
        g = _interpolate(light, rgb[i, 1] * scale)
        b = _interpolate(light, rgb[i, 2] * scale)
        x = _interpolate(root, matrix[0, 0] * r + matrix[0, 1] * g + matrix[0, 2] * b)
        y = _interpolate(root, matrix[1, 0] * r + matrix[1, 1] * g + matrix[1, 2] * b)
        z = _interpolate(root, matrix[2, 0] * r + matrix[2, 1] * g + matrix[2, 2] * b)
        lab[i, 0] = np.float32(116) * y - np.float32(16)
        lab[i, 1] = np.float32(500) * (x - y)
        lab[i, 2] = np.float32(200) * (y - z)


def _convert_any(rgb, data_range):
    """Convert pixels by the formula itself, outside 0..white too."""
    light = _linear_light(rgb / np.float64(data_range))
    curve = _cie_root(np.einsum("ic,xc->ix", light, RGB_TO_XYZ))
    x, y, z = np.moveaxis(curve, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1).astype(np.float32)


def rgb_to_lab(image: NDArray, data_range: float) -> NDArray[np.float32]:
    """Convert sRGB to CIE Lab under daylight (D65).

    Parameters
    ----------
    image : (..., 3) uint8 or float32, C-contiguous
    data_range : float
        Value of white.

    Returns
    -------
    (..., 3) float32
        L from 0 to 100, a and b about -100 to 100. Values outside ``[0, data_range]`` go
        on along the same curves.

    Notes
    -----
    O(n_pixels) time. Within 1e-3 of the exact formula.
    """
    rgb = image.reshape(-1, 3)
    if rgb.min() < 0 or rgb.max() > data_range or data_range < 1e-30:
        return _convert_any(rgb, data_range).reshape(image.shape)
    # One step more than 0..1, since rounding may carry white just past its end.
    steps = np.arange(N_STEPS + 2) / N_STEPS
    light, root = _linear_light(steps).astype(np.float32), _cie_root(steps).astype(np.float32)
    matrix = (RGB_TO_XYZ * N_STEPS).astype(np.float32)
    scale = np.float32(N_STEPS / data_range)
    lab = np.empty(rgb.shape, np.float32)

    def convert(start, stop):
        _convert(rgb[start:stop], scale, light, root, matrix, lab[start:stop])

    map_strips(convert, len(rgb))
    return lab.reshape(image.shape)
