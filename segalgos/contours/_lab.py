"""Planes of CIE Lab, of colour images and of grey ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segalgos.color import rgb_to_lab

__all__ = ["check_colours", "lab_planes"]


def check_colours(image: NDArray, caller: str, name: str) -> None:
    """Refuse an image (H, W, C) that is neither grey nor RGB, for `caller`, as `name`."""
    if image.shape[2] not in (1, 3):
        raise ValueError(
            f"{caller}: {name} has {image.shape[2]} channels, expected 1 (grey) or 3 (RGB): choose "
            "among them first, for instance image[..., :3]."
        )


def lab_planes(image: NDArray, data_range: float, caller: str) -> NDArray[np.float32]:
    """Convert an image to CIE Lab, or a grey one to its L.

    Parameters
    ----------
    image : (H, W, 1) or (H, W, 3) uint8 or float32
    data_range : float
        Value of white.
    caller : str
        For the message.

    Returns
    -------
    (1, H, W) or (3, H, W) float32

    Raises
    ------
    ValueError
        If it has another number of channels.
    """
    check_colours(image, caller, "image")
    if image.shape[2] == 1:
        return rgb_to_lab(np.repeat(image, 3, axis=2), data_range, channels_first=True)[:1]
    return rgb_to_lab(image, data_range, channels_first=True)
