"""gPb: boundaries by local cues, and by what parts of the image belong together."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter

from segalgos.checks import check_mask
from segalgos.contours._half_discs import N_ORIENTATIONS
from segalgos.contours.gradients import N_TEXTONS, RADII, PbGradients, find_gradients
from segalgos.contours.multiscale_pb import (
    CUES_OF_COLOUR,
    CUES_OF_GREY,
    combine_gradients,
)
from segalgos.contours.thinning import non_maximum_suppression
from segalgos.finite import as_finite
from segalgos.parallel import map_items
from segalgos.spectral.affinity import disc_offsets, pixel_graph
from segalgos.spectral.eigenvectors import leading_eigenvectors

__all__ = ["globalized_pb", "spectral_contours"]

N_EIGENVECTORS, RADIUS, RHO, TOL = 17, 5.0, 0.1, 1e-3
SIGMA = 1.0  # of the derivatives, in pixels
LEAST = 1e-5  # eigenvalues below belong to parts without any tie, and count as this

# Printed by benchmarks/training/globalized_pb.py: of the gradients, as those of multiscale_pb; then
# of the spectral contours' logarithm.
WEIGHTS = {
    CUES_OF_COLOUR: np.array(
        [[2.01, -1.69, 0.73], [0.37, 0.81, -0.02], [0.46, 0.26, 0.74], [0.89, 0.49, 2.41]]
    ),
    CUES_OF_GREY: np.array([[1.73, -1.26, 1.62], [1.02, 0.24, 2.87]]),
}
SPECTRAL = {CUES_OF_COLOUR: 0.626, CUES_OF_GREY: 0.582}
BIAS = {CUES_OF_COLOUR: -5.61, CUES_OF_GREY: -5.5}
LEAST_SPECTRAL = 1e-3  # added before the logarithm
# Chosen by the regions of validation images.
RAISED, PIVOT = 2.4, -1.0  # the logarithm's distance from PIVOT counts so many times
SOFTENED = 2.0  # the sum is divided by this, so that strong contours do not all come near 1


@njit(nogil=True, cache=True, fastmath=True)
def _add_slopes(down, right, normals, weight, out):
    """Add the slopes of a plane across each orientation, times `weight`.

    Parameters
    ----------
    down, right : (H, W) float32
        Derivatives.
    normals : (n_orientations, 2) float32
        Rows and columns of the unit vector across each.
    weight : float32
    out : (n_orientations, H, W) float32, changed
    """
    for k in range(len(normals)):
        a, b = weight * normals[k, 0], weight * normals[k, 1]
        for i in range(down.shape[0]):
            for j in range(down.shape[1]):
                out[k, i, j] += abs(a * down[i, j] + b * right[i, j])


def spectral_contours(
    values: ArrayLike, vectors: ArrayLike, *, mask: ArrayLike | None = None
) -> NDArray[np.float32]:
    r"""Find the contours along which eigenvectors change, by orientation (sPb) [1]_.

    Parameters
    ----------
    values : (k,) array_like
        Eigenvalues, ascending, as `segalgos.pixel_eigenvectors` gives them.
    vectors : (k, H, W) array_like
        Eigenvectors. The first one, which is constant, is left out.
    mask : (H, W) array_like of bool, optional
        Pixels outside it have no influence, and get 0.

    Returns
    -------
    (8, H, W) float32
        From 0. Orientation k is that of contours which rise by ``k * 180 / 8`` degrees from the
        rows, as one sees the image.

    Raises
    ------
    ValueError
        If shapes do not belong together, or values are not finite.

    See Also
    --------
    segalgos.globalized_pb : These and local cues together.

    Notes
    -----
    With the derivatives of a Gaussian of one pixel, and vectors v that are scaled to reach from
    0 to 1,

    .. math:: s(x, \theta) = \sum_{j \geq 2} \frac{1}{\sqrt{\lambda_j}}
       \left| \nabla_\theta v_j(x) \right| .

    O(k * H * W) time.

    References
    ----------
    .. [1] P. Arbelaez, M. Maire, C. Fowlkes, J. Malik, "Contour Detection and Hierarchical
       Image Segmentation", IEEE TPAMI 33(5), 898-916, 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos import pixel_eigenvectors, spectral_contours
    >>> image = np.zeros((20, 30))
    >>> image[:, 12:] = 1
    >>> found = pixel_eigenvectors(image, 3)
    >>> strength = spectral_contours(found.values, found.vectors)
    >>> strength[:, 10].max(axis=1).argmax().item()  # upright
    4
    """
    caller = "spectral_contours"
    values = as_finite(values, np.float64, (None,), f"{caller}: values")
    vectors = as_finite(vectors, np.float32, (None, None, None), f"{caller}: vectors")
    if len(values) != len(vectors):
        raise ValueError(
            f"{caller}: there are {len(values)} values and {len(vectors)} vectors: pass one value "
            "a vector."
        )
    shape = vectors.shape[1:]
    nearest = None
    if mask is not None:
        mask = check_mask(mask, shape, caller)
        nearest = distance_transform_edt(~mask, return_distances=False, return_indices=True)
    angles = np.arange(N_ORIENTATIONS) * np.pi / N_ORIENTATIONS
    normals = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    def derive(vector):
        plane = vector if nearest is None else vector[tuple(nearest)]
        size = float(plane.max()) - float(plane.min())
        plane = plane / np.float32(size if size > 0 else 1)
        return [
            gaussian_filter(plane, SIGMA, order=order, truncate=3, mode="nearest")
            for order in ((1, 0), (0, 1))
        ]

    total = np.zeros((N_ORIENTATIONS, *shape), np.float32)
    for value, slopes in zip(values[1:], map_items(derive, vectors[1:]), strict=True):
        _add_slopes(*slopes, normals, np.float32(1 / np.sqrt(max(value, LEAST))), total)
    if mask is not None:
        total[:, ~mask] = 0
    return total


def spectral_of_gradients(
    gradients: PbGradients, mask: NDArray[np.bool_] | None, caller: str
) -> NDArray[np.float32]:
    """Find the spectral contours (8, H, W) that follow from the gradients of an image.

    Pixels are tied across what `segalgos.multiscale_pb` makes of the gradients, thinned.
    """
    local = combine_gradients(gradients)
    shape = local.shape[1:]
    if mask is not None:
        local[:, ~mask] = 0
    thin = non_maximum_suppression(local)
    inside = np.ones(shape, bool) if mask is None else mask
    graph = pixel_graph(disc_offsets(RADIUS), inside, contours=thin, rho=RHO)
    found, _ = leading_eigenvectors(graph, N_EIGENVECTORS, TOL, caller)
    return spectral_contours(found.values, found.vectors, mask=mask)


def join_cues(gradients: PbGradients, spectral: NDArray[np.float32]) -> None:
    """Turn spectral contours (8, H, W) in place into gPb, by the gradients as well."""
    cues = gradients.cues
    weight = SPECTRAL[cues]
    total = spectral
    total += np.float32(LEAST_SPECTRAL)
    np.log(total, out=total)
    total *= np.float32(-RAISED * weight / SOFTENED)
    total -= np.float32((BIAS[cues] - (RAISED - 1) * weight * PIVOT) / SOFTENED)
    part = np.empty_like(total)
    for cue, scale in np.ndindex(WEIGHTS[cues].shape):
        np.sqrt(gradients.strengths[cue, scale], out=part)
        part *= np.float32(WEIGHTS[cues][cue, scale] / SOFTENED)
        total -= part
    np.exp(total, out=total)
    total += 1
    np.divide(1, total, out=total)


def globalized_pb(
    image: ArrayLike,
    *,
    data_range: float | None = None,
    mask: ArrayLike | None = None,
    channel_axis: int | str | None = "auto",
    random_state: int = 0,
) -> NDArray[np.float32]:
    r"""Measure boundaries by local cues and by the image as a whole (gPb) [1]_.

    Parameters
    ----------
    image : (H, W) or (H, W, 3) array_like
        Grey, or RGB.
    data_range : float, optional
        Value of white; found by `segalgos.color.data_range_of` if None.
    mask : (H, W) array_like of bool, optional
        Pixels outside it have no influence, and get 0.
    channel_axis : int, None or "auto", default="auto"
        Which axis holds the channels; None for a grey image.
    random_state : int, default=0
        Seed of the textons' k-means++.

    Returns
    -------
    (8, H, W) float32
        From 0 to 1. Orientation k is that of contours which rise by ``k * 180 / 8`` degrees
        from the rows, as one sees the image.

    Raises
    ------
    ValueError
        If the image has neither one nor three channels, or `data_range` is not above 0.

    See Also
    --------
    segalgos.multiscale_pb : The local cues alone, several times as fast.
    segalgos.spectral_contours : The global ones.
    segalgos.UCMSegmenter : Regions from them, by ``contours="gpb"``.

    Notes
    -----
    Pixels up to 5 apart are tied by how strong the thinned contours of `segalgos.multiscale_pb`
    are between them. The 17 leading eigenvectors of that graph change where large parts of the
    image meet, and with their contours s, and the gradients G of cue c at scale r,

    .. math:: p(x, \theta) = \frac{1}{1 + \exp(-y(x, \theta) / 2)}, \quad
       y = b + \sum_{c,r} w_{c,r} \sqrt{G_{c,r}} + w \, (2.4 \, (\log(s + .001) + 1) - 1) .

    The weights were learned by logistic regression on training images of BSDS500, without the
    numbers 2 and 2.4. On pixels of validation images its log loss is 0.382, without spectral
    contours 0.397, for grey images 0.374 and 0.388. It sees pixels one by one, and not that lines
    are matched and regions closed: the factor 2.4 gives better ones. So this is a strength, and
    no probability. Square roots and the logarithm are not in [1]_.

    References
    ----------
    .. [1] P. Arbelaez, M. Maire, C. Fowlkes, J. Malik, "Contour Detection and Hierarchical
       Image Segmentation", IEEE TPAMI 33(5), 898-916, 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos import globalized_pb, non_maximum_suppression
    >>> image = np.zeros((40, 60))
    >>> image[:, 30:] = 1
    >>> thin = non_maximum_suppression(globalized_pb(image))
    >>> np.flatnonzero(thin[20] > 0.5).tolist()  # the last column before the step
    [29]
    """
    caller = "globalized_pb"
    gradients = find_gradients(
        image, RADII, N_TEXTONS, True, data_range, mask, channel_axis, random_state, caller
    )
    inside = None if mask is None else np.asarray(mask)
    total = spectral_of_gradients(gradients, inside, caller)
    join_cues(gradients, total)
    if inside is not None:
        total[:, ~inside] = 0
    return total
