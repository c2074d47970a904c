"""Intensity units and colour spaces: what "white" is, and CIE Lab."""

from __future__ import annotations

from functools import cache

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

# Steps of the table of the sRGB curve: linear interpolation is then exact to 3e-4 in Lab.
N_STEPS = 16384
BLOCK = 1024  # pixels that stay in the first cache while all loops pass over them


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
    if values.dtype.kind == "u":
        return float(values.max())
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


@cache
def _light_table():
    # One step more than 0..1, since rounding may carry white just past its end.
    return _linear_light(np.arange(N_STEPS + 2) / N_STEPS).astype(np.float32)


@njit(nogil=True, cache=True)
def _look_up(rgb, table, light):
    """Undo the gamma of values 0..255.

    Parameters
    ----------
    rgb : (n_pixels, 3) uint8
    table : (256,) float32
    light : (3, n_pixels) float32, overwritten
    """
    for i in range(rgb.shape[0]):
        for c in range(3):
            light[c, i] = table[rgb[i, c]]


@njit(nogil=True, cache=True)
def _interpolate(rgb, scale, table, light):
    """Undo the gamma of values from 0 to white.

    Parameters
    ----------
    rgb : (n_pixels, 3) float32
    scale : float32
        ``N_STEPS`` over the value of white.
    table : (N_STEPS + 2,) float32
        The curve over 0..1.
    light : (3, n_pixels) float32, overwritten
    """
    for i in range(rgb.shape[0]):
        for c in range(3):
            position = rgb[i, c] * scale
            step = np.int32(position)
            rest = position - np.float32(step)
            light[c, i] = table[step] + rest * (table[step + 1] - table[step])


@njit(nogil=True, cache=True, error_model="numpy")  # a test for zero would stop vectors
def _light_to_lab(light, matrix, lab):
    """Convert linear light to Lab.

    Parameters
    ----------
    light : (3, n_pixels) float32
        From 0 to 1.
    matrix : (3, 3) float32
        Linear RGB to XYZ.
    lab : (3, n_pixels) float32, overwritten

    Notes
    -----
    A third of a float's bits is nearly those of its cube root; two steps of Halley's
    method make it exact to the last bits.
    """
    roots = np.empty((3, BLOCK), np.float32)
    bits = roots.view(np.int32)
    values = np.empty(BLOCK, np.float32)
    for begin in range(0, light.shape[1], BLOCK):
        end = min(begin + BLOCK, light.shape[1])
        n = end - begin
        r, g, b = light[0, begin:end], light[1, begin:end], light[2, begin:end]
        value = values[:n]
        for k in range(3):
            from_r, from_g, from_b = matrix[k, 0], matrix[k, 1], matrix[k, 2]
            root, bit = roots[k, :n], bits[k, :n]
            for i in range(n):
                value[i] = from_r * r[i] + from_g * g[i] + from_b * b[i]
                root[i] = value[i]
            for i in range(n):
                bit[i] = np.int32(bit[i] // np.int32(3)) + np.int32(709921077)
            for i in range(n):
                v, t = value[i], root[i]
                for _ in range(2):
                    cube = t * t * t
                    t *= (cube + v + v) / (cube + cube + v)
                toe = np.float32(7.787) * v + np.float32(16 / 116)
                root[i] = t if v > np.float32(0.008856) else toe
        x, y, z = roots[0, :n], roots[1, :n], roots[2, :n]
        lightness, red, yellow = lab[0, begin:end], lab[1, begin:end], lab[2, begin:end]
        for i in range(n):
            lightness[i] = np.float32(116) * y[i] - np.float32(16)
        for i in range(n):
            red[i] = np.float32(500) * (x[i] - y[i])
        for i in range(n):
            yellow[i] = np.float32(200) * (y[i] - z[i])


def _convert_any(rgb, data_range):
    """Convert pixels by the formula itself, outside 0..white too."""
    light = _linear_light(rgb / np.float64(data_range))
    curve = _cie_root(np.einsum("ic,xc->ix", light, RGB_TO_XYZ))
    x, y, z = np.moveaxis(curve, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1).astype(np.float32)


def rgb_to_lab(
    image: NDArray, data_range: float, *, channels_first: bool = False
) -> NDArray[np.float32]:
    """Convert sRGB to CIE Lab under daylight (D65).

    Parameters
    ----------
    image : (..., 3) uint8 or float32, C-contiguous
    data_range : float
        Value of white.
    channels_first : bool, default=False
        Give one plane a channel, ``(3, ...)``.

    Returns
    -------
    (..., 3) or (3, ...) float32
        L from 0 to 100, a and b about -100 to 100. Values outside ``[0, data_range]`` go
        on along the same curves.

    Notes
    -----
    O(n_pixels) time. Within 1e-3 of the exact formula.
    """
    rgb = image.reshape(-1, 3)
    shape = (3, *image.shape[:-1]) if channels_first else image.shape
    if _goes_beyond(rgb, data_range):
        lab = _convert_any(rgb, data_range)
        return np.ascontiguousarray(lab.T if channels_first else lab).reshape(shape)
    matrix = RGB_TO_XYZ.astype(np.float32)
    table = _linear_light(np.arange(256) / data_range).astype(np.float32)
    out = np.empty((3, len(rgb)) if channels_first else rgb.shape, np.float32)

    def convert(start, stop):
        light = np.empty((3, stop - start), np.float32)
        if rgb.dtype == np.uint8:
            _look_up(rgb[start:stop], table, light)
        else:
            _interpolate(rgb[start:stop], np.float32(N_STEPS / data_range), _light_table(), light)
        if channels_first:
            _light_to_lab(light, matrix, out[:, start:stop])
        else:
            lab = np.empty_like(light)
            _light_to_lab(light, matrix, lab)
            for c in range(3):
                out[start:stop, c] = lab[c]

    map_strips(convert, len(rgb), 16384)  # both planes then stay in the second cache
    return out.reshape(shape)


def _goes_beyond(rgb, data_range):
    if rgb.dtype == np.uint8 and data_range >= 255:
        return False
    return rgb.min() < 0 or rgb.max() > data_range or data_range < 1e-30
