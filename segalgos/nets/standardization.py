"""How intensities of images are brought to about zero mean and unit variance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["LARGEST_INTENSITY", "channel_statistics"]

# Standardised intensities are cut here, or huge ones would overflow inside the network.
LARGEST_INTENSITY = 1e4


def channel_statistics(images: list[NDArray]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute mean and standard deviation of each channel, in two passes of float64.

    Parameters
    ----------
    images : list of (H, W, C) ndarray

    Returns
    -------
    mean : (C,) float64
    std : (C,) float64
        1 for a constant channel.
    """
    n = sum(image.shape[0] * image.shape[1] for image in images)
    mean = sum(image.sum(axis=(0, 1), dtype=np.float64) for image in images) / n
    squares = 0.0
    for image in images:
        for row in image:  # a row at a time: no float64 copy of a large image
            squares = squares + ((row - mean) ** 2).sum(axis=0)
    std = np.sqrt(squares / n)
    # A constant channel has no scale; rounding must not be taken for one.
    return mean, np.where(std > 1e-7 * np.abs(mean), std, 1.0)
