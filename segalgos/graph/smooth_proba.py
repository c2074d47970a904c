"""Smoothing of class probabilities along the edges of an image."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segalgos.checks import check_choice, check_image, check_mask, check_real
from segalgos.graph.alpha_expansion import alpha_expansion
from segalgos.graph.contrast import contrast_beta, contrast_weights
from segalgos.graph.max_flow import grid_cut, half_neighborhood
from segalgos.graph.random_walker import walk_from_priors

__all__ = ["smooth_proba"]

METHODS = ("graph_cut", "random_walker")
LEAST = 1e-4  # a probability of 0 is an estimate too
BETA = 130.0  # of the walks: the default of scikit-image


def smooth_proba(
    image: ArrayLike,
    proba: ArrayLike,
    method: str = "random_walker",
    *,
    smoothness: float = 1.0,
    mask: ArrayLike | None = None,
    channel_axis: int | str | None = "auto",
) -> NDArray[np.float32]:
    """Smooth what a classifier says of each pixel, along the edges of the image.

    Parameters
    ----------
    image : (H, W), (H, W, C) or volume, array_like
    proba : (H, W, K) or (D, H, W, K) array_like of float
        Probabilities of the classes, which add up to one.
    method : {"random_walker", "graph_cut"}, default="random_walker"
        "random_walker" averages probabilities along random walks that avoid edges [1]_;
        "graph_cut" finds the labelling of most probability and short outlines on edges
        [2]_, and gives probabilities of 0 and 1.
    smoothness : float, default=1.0
        How much neighbours count beside a pixel's own probabilities; 0 changes nothing
        ("graph_cut": takes the likeliest class).
    mask : array_like of bool, optional
        True where there is something to smooth; probabilities are 0 elsewhere, and have no
        influence.
    channel_axis : int, None or "auto", default="auto"
        Which axis holds the channels; None for a grey image or volume.

    Returns
    -------
    (H, W, K) or (D, H, W, K) float32
        They add up to one inside the mask.

    Raises
    ------
    ValueError
        If the probabilities are not of the image, negative or do not add up to one.

    Notes
    -----
    The walk from a pixel steps to neighbours as in `segalgos.random_walker` (beta of 130),
    and ends at each pixel with a weight of ``1 / smoothness``, taking a class by the
    probabilities there. O(n_pixels * K) time. The cut lowers ``sum_p -log proba[p, x_p]``
    plus ``smoothness`` for each pair of different neighbours (8, in volumes 6), less where
    they differ in colour; two classes exactly, more by alpha-expansion.

    References
    ----------
    .. [1] L. Grady, "Multilabel random walker image segmentation using prior models", CVPR,
       763-770, 2005.
    .. [2] Y. Boykov, O. Veksler, R. Zabih, "Fast approximate energy minimization via graph
       cuts", IEEE TPAMI 23(11), 1222-1239, 2001.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos import smooth_proba
    >>> image = np.zeros((3, 3)); image[:, 2] = 1
    >>> proba = np.stack([1 - image, image], -1) * 0.8 + 0.1
    >>> proba[1, 1] = [0.4, 0.6]  # an outlier among equal pixels
    >>> smooth_proba(image, proba, "graph_cut", smoothness=0.5).argmax(-1)
    array([[0, 0, 1],
           [0, 0, 1],
           [0, 0, 1]])
    """
    caller = "smooth_proba"
    check_choice(caller, "method", method, METHODS)
    check_real(caller, "smoothness", smoothness, low=0)
    image = check_image(image, caller, channel_axis=channel_axis, ndims=(2, 3), keep_uint8=True)
    shape = image.shape[:-1]
    if mask is not None:
        mask = check_mask(mask, shape, caller)
    proba = _check_proba(proba, shape, mask, caller)
    if method == "random_walker":
        if smoothness == 0:
            return proba if mask is None else np.where(mask[..., None], proba, np.float32(0))
        return walk_from_priors(image, proba, mask, 1 / smoothness, BETA, caller)
    labels = _cut(image, proba, mask, smoothness)
    chosen = np.zeros_like(proba)
    np.put_along_axis(chosen, np.maximum(labels, 0)[..., None], np.float32(1), axis=-1)
    chosen[labels < 0] = 0
    return chosen


def _check_proba(proba, shape, mask, caller):
    proba = np.ascontiguousarray(proba, dtype=np.float32)
    if proba.ndim != len(shape) + 1 or proba.shape[:-1] != shape or proba.shape[-1] == 0:
        raise ValueError(
            f"{caller}: proba has shape {proba.shape}, expected {(*shape, 'K')}: pass one "
            "probability a class for each pixel of the image."
        )
    inside = proba if mask is None else proba[mask]
    if not np.isfinite(inside).all() or (inside < 0).any():
        raise ValueError(f"{caller}: proba holds negative, NaN or infinite values.")
    if inside.size and np.abs(inside.sum(axis=-1) - 1).max() > 1e-3:
        raise ValueError(
            f"{caller}: proba adds up to {inside.sum(axis=-1).min():g} at some pixel, expected 1: "
            "divide by the sum over classes."
        )
    return proba


def _cut(image, proba, mask, smoothness):
    """Index of the class of each pixel; -1 outside the mask."""
    neighbors = 8 if proba.ndim == 3 else 6
    offsets = half_neighborhood(proba.ndim - 1, neighbors)
    planes = contrast_weights(image, offsets, contrast_beta(image, offsets, mask), smoothness)
    if mask is not None:
        proba = np.where(mask[..., None], proba, np.float32(1))
    costs = -np.log(np.maximum(proba, np.float32(LEAST)))
    if proba.shape[-1] == 1:
        return np.zeros(proba.shape[:-1], np.int32) if mask is None else mask.astype(np.int32) - 1
    cut = grid_cut if proba.shape[-1] == 2 else alpha_expansion
    return cut(costs, planes, neighbors=neighbors, mask=mask)[0]
