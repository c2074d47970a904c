"""Oriented gradients of brightness, colour and texture: how unlike both sides of a pixel are."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segalgos.checks import check_bool, check_image, check_int, check_mask, check_real
from segalgos.color import find_data_range
from segalgos.contours._half_discs import N_ORIENTATIONS, half_disc_gradients
from segalgos.contours._lab import lab_planes
from segalgos.contours._oriented_fit import fit_parabolas
from segalgos.contours.textons import find_textons

__all__ = ["PbGradients", "pb_gradients"]

N_BINS = 25
STEPS = 8  # a bin's width, in steps that values are rounded to
#: Lowest and highest value of the bins, and how far values spread over bins: L, then a and b.
BRIGHTNESS, COLOR = (0.0, 100.0, 10.0), (-100.0, 100.0, 8.0)
TEXTON_SIGMA, N_TEXTONS = 1.0, 64
RADII = {"L": (3, 5, 10), "a": (5, 10, 20), "b": (5, 10, 20), "texture": (5, 10, 20)}


class PbGradients(NamedTuple):
    """Oriented gradients of an image, as `pb_gradients` gives them.

    Parameters
    ----------
    strengths : (n_cues, n_scales, 8, H, W) float32
        From 0, where both halves of a disc are alike, to about 1, where they share nothing.
        Orientation k is that of contours which rise by ``k * 180 / 8`` degrees from the rows.
    cues : tuple of str
        "L", "a" and "b" of CIE Lab and "texture"; "L" and "texture" for a grey image.
    radii : (n_cues, n_scales) int64
        Of the discs, in pixels.
    """

    strengths: NDArray[np.float32]
    cues: tuple[str, ...]
    radii: NDArray[np.int64]


def _soft_bins(low, high, sigma):
    """Weights (N_BINS, n_codes) of values rounded to steps, spread by a Gaussian."""
    values = low + (np.arange(N_BINS * STEPS) + 0.5) * (high - low) / (N_BINS * STEPS)
    centers = low + (np.arange(N_BINS) + 0.5) * (high - low) / N_BINS
    weights = np.exp(-0.5 * ((centers[:, None] - values) / sigma) ** 2)
    return weights / weights.sum(axis=0)


def _to_steps(plane, low, high):
    n_codes = N_BINS * STEPS
    return ((plane - low) * (n_codes / (high - low))).clip(0, n_codes - 1).astype(np.uint8)


def _check_radii(name: str, radii: Sequence[int]) -> tuple[int, ...]:
    caller = "pb_gradients"
    if isinstance(radii, str) or not hasattr(radii, "__len__"):
        raise ValueError(f"{caller}: {name} is {radii!r}, expected integers in a list.")
    values = tuple(check_int(caller, name, radius, low=1, high=200) for radius in radii)
    if not values or any(a >= b for a, b in pairwise(values)):
        raise ValueError(
            f"{caller}: {name} is {radii!r}, expected ascending radii: sort them and name "
            "each once."
        )
    return values


def pb_gradients(
    image: ArrayLike,
    *,
    brightness_radii: Sequence[int] = RADII["L"],
    color_radii: Sequence[int] = RADII["a"],
    texture_radii: Sequence[int] = RADII["texture"],
    n_textons: int = N_TEXTONS,
    smooth: bool = True,
    data_range: float | None = None,
    mask: ArrayLike | None = None,
    channel_axis: int | str | None = "auto",
    random_state: int = 0,
) -> PbGradients:
    r"""Compare brightness, colour and texture on both sides of every pixel [1]_ [2]_.

    Parameters
    ----------
    image : (H, W) or (H, W, 3) array_like
        Grey, or RGB.
    brightness_radii : sequence of int, default=(3, 5, 10)
        Radii of the discs, in pixels, ascending.
    color_radii, texture_radii : sequence of int, default=(5, 10, 20)
        As many.
    n_textons : int, default=64
        Kinds of texture; see `segalgos.textons`.
    smooth : bool, default=True
        Smooth along contours and sharpen across them, by fitted parabolas.
    data_range : float, optional
        Value of white; found by `segalgos.color.data_range_of` if None.
    mask : (H, W) array_like of bool, optional
        Pixels outside it are in no histogram, and their own strengths are 0.
    channel_axis : int, None or "auto", default="auto"
        Which axis holds the channels; None for a grey image.
    random_state : int, default=0
        Seed of the textons' k-means++.

    Returns
    -------
    PbGradients
        ``strengths, cues, radii``.

    Raises
    ------
    ValueError
        If the image has neither one nor three channels, or a parameter is out of its range.

    See Also
    --------
    segalgos.multiscale_pb : All cues together.

    Notes
    -----
    A disc around the pixel is halved along the contour's direction. With :math:`g_i` and
    :math:`h_i` the shares of bin i in both halves, the strength is

    .. math:: \chi^2(g, h) = \frac12 \sum_i \frac{(g_i - h_i)^2}{g_i + h_i} .

    L, a and b have 25 bins each, over which every value is spread by a Gaussian; L from 0 to
    100 with a standard deviation of 10, a and b from -100 to 100 with one of 8; values beyond
    count in the outermost bins. Every texton is a bin. Half-discs are exact to the pixel; those
    on the diameter belong half to either side. Beyond its borders the image is mirrored.

    O(H * W * n_bins * sum(radii)) time, all orientations together.

    References
    ----------
    .. [1] D. Martin, C. Fowlkes, J. Malik, "Learning to Detect Natural Image Boundaries Using
       Local Brightness, Color, and Texture Cues", IEEE TPAMI 26(5), 530-549, 2004.
    .. [2] P. Arbelaez, M. Maire, C. Fowlkes, J. Malik, "Contour Detection and Hierarchical
       Image Segmentation", IEEE TPAMI 33(5), 898-916, 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos import pb_gradients
    >>> image = np.zeros((40, 60))
    >>> image[:, 30:] = 1
    >>> gradients = pb_gradients(image)
    >>> gradients.strengths.shape, gradients.cues
    ((2, 3, 8, 40, 60), ('L', 'texture'))
    >>> gradients.strengths[0, 0, :, 20, 30].argmax().item()  # upright
    4
    """
    radii = {
        "L": _check_radii("brightness_radii", brightness_radii),
        "a": _check_radii("color_radii", color_radii),
        "texture": _check_radii("texture_radii", texture_radii),
    }
    radii["b"] = radii["a"]
    if len({len(values) for values in radii.values()}) > 1:
        raise ValueError(
            "pb_gradients: brightness_radii, color_radii and texture_radii have "
            f"{len(radii['L'])}, {len(radii['a'])} and {len(radii['texture'])} values: pass as "
            "many of each."
        )
    check_int("pb_gradients", "n_textons", n_textons, low=1, high=4096)
    check_bool("pb_gradients", "smooth", smooth)
    return find_gradients(
        image,
        radii,
        n_textons,
        smooth,
        data_range,
        mask,
        channel_axis,
        random_state,
        "pb_gradients",
    )


def find_gradients(
    image, radii, n_textons, smooth, data_range, mask, channel_axis, random_state, caller
) -> PbGradients:
    """Do what `pb_gradients` does, with ascending radii by cue, for a caller of any name."""
    if data_range is not None:
        check_real(caller, "data_range", data_range, above=0)
    check_int(caller, "random_state", random_state, low=0, high=2**32 - 1)
    image = check_image(image, caller, channel_axis=channel_axis, keep_uint8=True)
    if mask is not None:
        mask = check_mask(mask, image.shape[:2], caller)
        image = np.where(mask[..., None], image, 0).astype(image.dtype)
    planes = lab_planes(image, find_data_range(image, mask, data_range, caller), caller)
    cues = ("L", "texture") if len(planes) == 1 else ("L", "a", "b", "texture")
    kinds = find_textons(planes[0], n_textons, TEXTON_SIGMA, mask, random_state)
    shape = len(cues), len(radii["L"]), N_ORIENTATIONS, *image.shape[:2]
    strengths = np.empty(shape, np.float32)
    for cue, name in enumerate(cues):
        if name == "texture":
            codes, weights = kinds.clip(0), np.eye(kinds.max() + 1)
        else:
            low, high, sigma = BRIGHTNESS if name == "L" else COLOR
            codes, weights = _to_steps(planes[cue], low, high), _soft_bins(low, high, sigma)
        strengths[cue] = half_disc_gradients(codes, weights, radii[name], mask)
        if smooth:
            for scale, radius in enumerate(radii[name]):
                strengths[cue, scale] = fit_parabolas(strengths[cue, scale], radius)
    if mask is not None:
        strengths[..., ~mask] = 0
    return PbGradients(strengths, cues, np.array([radii[name] for name in cues]))
