"""A deterministic simulated user, who prompts interactive methods from the truth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segalgos.results import Prompts

__all__ = ["BRUSH", "dab", "depth_inside"]

BRUSH = 5  # radius of a dab in pixels


def dab(truth: NDArray[np.int32]) -> Prompts:
    """Touch every region of the truth once with a round brush, where it is thickest.

    Parameters
    ----------
    truth : (H, W) int32
        Regions or classes; -1 where nothing is known.

    Returns
    -------
    Prompts
        Scribbles with the truth's ids. A dab never leaves its region: in thin ones it is
        smaller than the brush. Of equally thick places the first in raster order is taken.
    """
    scribbles = np.full(truth.shape, -1, np.int32)
    for region in np.unique(truth[truth >= 0]):
        depth = depth_inside(truth == region)
        row, column = np.unravel_index(depth.argmax(), depth.shape)
        radius = min(BRUSH, depth[row, column] - 1)
        rows, columns = np.ogrid[: truth.shape[0], : truth.shape[1]]
        scribbles[(rows - row) ** 2 + (columns - column) ** 2 <= radius**2] = region
    return Prompts(scribbles=scribbles)


def depth_inside(region: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Measure how far the pixels of a region are from what is not of it.

    Parameters
    ----------
    region : (H, W) bool

    Returns
    -------
    (H, W) float64
        Distance to the nearest pixel outside, in pixels; 0 outside. What lies beyond the
        image is outside.
    """
    return ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
