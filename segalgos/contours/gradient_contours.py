"""Contours where colours change: Gaussian gradients at several scales, by orientation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from segalgos.checks import check_image, check_int, check_mask, check_real
from segalgos.color import find_data_range, rescale, rgb_to_lab
from segalgos.parallel import map_strips
from segalgos.smoothing import gaussian

__all__ = ["gradient_contours"]

WHITE = 100.0  # as in Lab, whose units all strengths have
STRIP = 1 << 14  # pixels


@njit(nogil=True, cache=True)
def _add_slopes(image, mask, normals, factor, strength, first, last):
    """Add the slopes of an image across each orientation.

    Parameters
    ----------
    image : (H, W, C) float32
    mask : (H, W) bool
    normals : (K, 2) float32
        Row and column of the unit vector across each orientation.
    factor : float32
    strength : (K, H, W) float32, overwritten in part
        Gets `factor` times the length of the vector of all channels' slopes.
    first, last : int
        Range of rows.

    Notes
    -----
    Central differences; a neighbour outside the image or the mask is as if it were the pixel
    itself. Slopes in any direction follow from three sums over channels (Di Zenzo).
    """
    height, width, n_channels = image.shape
    sums = np.empty((3, width), np.float32)
    half = np.float32(0.5)
    for y in range(first, last):
        y1, y2 = max(y - 1, 0), min(y + 1, height - 1)
        for x in range(width):
            x1, x2 = max(x - 1, 0), min(x + 1, width - 1)
            here = image[y, x]
            above = image[y1, x] if mask[y1, x] else here
            below = image[y2, x] if mask[y2, x] else here
            left = image[y, x1] if mask[y, x1] else here
            right = image[y, x2] if mask[y, x2] else here
            rows, both, columns = np.float32(0), np.float32(0), np.float32(0)
            for c in range(n_channels):
                down = (below[c] - above[c]) * half
                across = (right[c] - left[c]) * half
                rows += down * down
                both += down * across
                columns += across * across
            sums[0, x], sums[1, x], sums[2, x] = rows, both, columns
        for k in range(normals.shape[0]):
            a = normals[k, 0] * normals[k, 0]
            b = np.float32(2) * normals[k, 0] * normals[k, 1]
            c = normals[k, 1] * normals[k, 1]
            out = strength[k, y]
            for x in range(width):
                squared = a * sums[0, x] + b * sums[1, x] + c * sums[2, x]
                out[x] += factor * np.sqrt(max(squared, np.float32(0)))


def _slope_of_step(sigma: float) -> float:
    """Central difference beside a step of height 1 that was smoothed."""

    def height(distance):
        return 0.5 * (1 + math.erf(distance / (sigma * math.sqrt(2))))

    return (height(1.5) - height(-0.5)) / 2 if sigma > 0 else 0.5


def gradient_contours(
    image: ArrayLike,
    *,
    sigmas: Sequence[float] = (1.0, 2.0, 4.0),
    n_orientations: int = 8,
    data_range: float | None = None,
    mask: ArrayLike | None = None,
    channel_axis: int | str | None = "auto",
) -> NDArray[np.float32]:
    """Measure contours by how much colours change across them, at several scales.

    Simple and quick, and blind to texture: a pattern has contours as strong as those of an
    object of the same contrast.

    Parameters
    ----------
    image : (H, W) or (H, W, C) array_like
    sigmas : sequence of float, default=(1.0, 2.0, 4.0)
        Standard deviations in pixels of the Gaussians that smooth the image before its
        gradient is taken; 0 for none.
    n_orientations : int, default=8
    data_range : float, optional
        Value of white in `image`; found by `segalgos.color.data_range_of` if None.
    mask : (H, W) array_like of bool, optional
        True where pixels count; contours elsewhere mean nothing.
    channel_axis : int, None or "auto", default="auto"
        Which axis holds the channels; None for a grey image.

    Returns
    -------
    (n_orientations, H, W) float32
        Channel k is for contours at an angle of ``k * pi / n_orientations`` to the rows,
        counter-clockwise as one sees the image. In units of Lab for images of three channels,
        else where white is 100: beside a straight step without others nearby the strength is
        nearly its height.

    Raises
    ------
    ValueError
        If an argument is not as expected.

    Notes
    -----
    At each scale the slope across an orientation is the length of the vector of all channels'
    slopes, from the structure tensor [1]_. It is divided by the slope that a step of height 1
    has at that scale, and averaged over scales. O(n_pixels * (C * sum(sigmas) +
    n_orientations)) time.

    References
    ----------
    .. [1] S. Di Zenzo, "A note on the gradient of a multi-image", Computer Vision, Graphics,
       and Image Processing 33(1), 116-125, 1986.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos import gradient_contours
    >>> image = np.zeros((40, 40))
    >>> image[:, 20:] = 1
    >>> strength = gradient_contours(image)
    >>> strength[:, 20, 19].round().tolist()  # strongest for contours that run downwards
    [0.0, 39.0, 72.0, 94.0, 101.0, 94.0, 72.0, 39.0]
    """
    caller = "gradient_contours"
    sigmas = _check_sigmas(caller, sigmas)
    check_int(caller, "n_orientations", n_orientations, low=2)
    if data_range is not None:
        check_real(caller, "data_range", data_range, above=0)
    image = check_image(image, caller, channel_axis=channel_axis, keep_uint8=True)
    height, width, n_channels = image.shape
    if mask is not None:
        mask = check_mask(mask, (height, width), caller)
        image = np.where(mask[..., None], image, 0).astype(image.dtype)
    data_range = find_data_range(image, mask, data_range, caller)
    colors = rgb_to_lab(image, data_range) if n_channels == 3 else rescale(image, data_range, WHITE)
    inside = np.ones((height, width), bool) if mask is None else mask
    # Across a contour at angle t, which runs along (-sin t, cos t): rows point down.
    angles = np.arange(n_orientations) * (np.pi / n_orientations)
    normals = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    strength = np.zeros((n_orientations, height, width), np.float32)
    for sigma in sigmas:
        smooth = gaussian(colors, sigma, mask)
        factor = np.float32(1 / (_slope_of_step(sigma) * len(sigmas)))
        add = partial(_add_slopes, smooth, inside, normals, factor, strength)
        map_strips(add, height, max(1, STRIP // width))
    return strength


def _check_sigmas(caller: str, sigmas: Sequence[float]) -> tuple[float, ...]:
    if isinstance(sigmas, str) or not hasattr(sigmas, "__len__") or len(sigmas) == 0:
        raise ValueError(f"{caller}: sigmas is {sigmas!r}, expected one number or more in a list.")
    return tuple(
        check_real(caller, f"sigmas[{i}]", sigma, low=0, high=1000)
        for i, sigma in enumerate(sigmas)
    )
