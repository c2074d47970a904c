"""Colours of ids: told apart by everybody, and always the same for the same id."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["FIRST_COLORS", "label_colors"]

#: Okabe and Ito's colours without black: orange, sky blue, green, yellow, blue, red, purple.
FIRST_COLORS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)

# What complete protanopia and deuteranopia make of linear RGB: Machado et al. 2009, table 1.
_PROTANOPIA = (
    (0.152286, 1.052583, -0.204868),
    (0.114503, 0.786281, 0.099216),
    (-0.003882, -0.048116, 1.051998),
)
_DEUTERANOPIA = (
    (0.367322, 0.860646, -0.227968),
    (0.280085, 0.672501, 0.047413),
    (-0.011820, 0.042940, 0.968881),
)


def label_colors(labels: int | ArrayLike) -> NDArray[np.uint8]:
    """Give every label id a colour, always the same one.

    Parameters
    ----------
    labels : int or array_like of int
        The number of colours n, or a label map, whose highest id asks for n = id + 1.

    Returns
    -------
    (n, 3) uint8
        sRGB colour of each id. A shorter palette is the beginning of a longer one.

    Raises
    ------
    TypeError
        If `labels` is neither an int nor integers.
    ValueError
        If the number is negative.

    Notes
    -----
    The first seven are the colours of Okabe and Ito [1]_. Every further one is, of about a
    thousand candidates of medium lightness, the one farthest in CIELAB from all before it, as
    seen by the worst off of normal, protanopic and deuteranopic eyes [2]_. When candidates run
    out the palette begins again.

    References
    ----------
    .. [1] M. Okabe, K. Ito, "Color Universal Design: how to make figures and presentations that
       are friendly to colorblind people", 2008.
    .. [2] G. M. Machado, M. M. Oliveira, L. A. F. Fernandes, "A Physiologically-based Model for
       Simulation of Color Vision Deficiency", IEEE Trans. Vis. Comput. Graph. 15(6), 2009.
    """
    array = np.asarray(labels)
    if array.dtype.kind not in "ui":
        raise TypeError(
            f"label_colors: labels is {array.dtype}, expected a number of colours or a label map "
            "of integers."
        )
    n_colors = int(array) if array.ndim == 0 else int(array.max(initial=-1)) + 1
    if n_colors < 0:
        raise ValueError(f"label_colors: asked for {n_colors} colours: pass at least 0.")
    palette = _palette(64 if n_colors <= 64 else None)
    return palette[np.arange(n_colors) % len(palette)]


@lru_cache
def _palette(n_colors: int | None) -> NDArray[np.uint8]:
    """Choose colours greedily; None for as many as there are candidates."""
    from skimage.color import rgb2lab

    levels = np.linspace(0, 255, 12).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    lightness, a, b = rgb2lab(grid / 255).T
    usable = (lightness > 35) & (lightness < 90) & (np.hypot(a, b) > 25)
    candidates = np.concatenate([np.array(FIRST_COLORS, np.uint8), grid[usable]])

    linear = _linear(candidates / 255)
    views = [
        rgb2lab(_gamma((linear @ np.transpose(eye)).clip(0, 1)))
        for eye in (np.eye(3), _PROTANOPIA, _DEUTERANOPIA)
    ]
    chosen: list[int] = []
    nearest = np.full(len(candidates), np.inf)  # distance of each candidate to the chosen ones
    for i in range(min(n_colors or len(candidates), len(candidates))):
        pick = i if i < len(FIRST_COLORS) else int(nearest.argmax())
        chosen.append(pick)
        for view in views:
            np.minimum(nearest, np.linalg.norm(view - view[pick], axis=1), out=nearest)
        nearest[pick] = -1
    palette = candidates[chosen]
    palette.flags.writeable = False
    return palette


def _linear(rgb):
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def _gamma(linear):
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
