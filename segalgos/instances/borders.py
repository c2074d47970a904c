"""Instances as three classes (background, inside, border), and back.

A network that tells classes cannot tell two cells that touch. Where their common border is
a class of its own, it can [1]_ [2]_. Here a border lies within its instance, so that inside
and border together are the object, to the pixel.

References
----------
.. [1] J. Caicedo et al., "Evaluation of deep learning strategies for nucleus segmentation in
   fluorescence images", Cytometry A 95, 952-965, 2019.
.. [2] O. Ronneberger, P. Fischer and T. Brox, "U-Net: convolutional networks for biomedical
   image segmentation", MICCAI 2015, arXiv:1505.04597.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label as label_components

import segalgos

__all__ = ["find_borders", "gap_weights", "split_foreground"]

#: Gap weights end where this many deviations lie between two instances: exp(-8) is left of them.
REACH_IN_SIGMAS = 4


def find_borders(
    ids: NDArray[np.int32], width: int, *, max_gap: int | None = None
) -> NDArray[np.bool_]:
    """Find the borders of instances: what is left between them is one core each.

    Parameters
    ----------
    ids : (H, W) int32
        0 is background, every other id an instance.
    width : int
        Pixels of an instance that have a pixel of anything else at most so many rows and
        columns away are its border. The image's edge is no border.
    max_gap : int, optional
        Only those that also have another instance at most `width` plus so many rows and
        columns away: 0 leaves the borders of instances that touch. None: the whole outline.

    Returns
    -------
    (H, W) bool

    Notes
    -----
    Every instance keeps a core in one piece, so that cores can be counted: an instance
    that would be all border keeps what lies deepest inside, one that its border would cut in
    parts keeps the largest.

    Cores grown back at the same speed, by rows, columns and diagonals, meet where the instances
    did, if these are unions of squares of ``2 * width + 1`` pixels: any other core is farther.
    """
    inside = ids > 0
    border = inside & _has_other_within(ids, width)
    if max_gap is not None:
        border &= _has_other_within(ids, width + max_gap, ignore_background=True)
    cores = np.where(border, 0, ids)
    _keep_one_core_each(cores, ids)
    return inside & (cores == 0)


def _has_other_within(
    ids: NDArray[np.int32], distance: int, *, ignore_background: bool = False
) -> NDArray[np.bool_]:
    """Whether a pixel of another id lies at most so many rows and columns away."""
    size = 2 * distance + 1
    # Where background is ignored it is neither the largest id nor the smallest.
    low = np.where(ids == 0, np.iinfo(np.int32).max, ids) if ignore_background else ids
    return (ndimage.maximum_filter(ids, size, mode="nearest") != ids) | (
        ndimage.minimum_filter(low, size, mode="nearest") != ids
    )


def _keep_one_core_each(cores: NDArray[np.int32], ids: NDArray[np.int32]) -> None:
    """Give each instance without a core one, and leave of several parts the largest."""
    parts, n_parts = label_components(cores, connectivity=2, return_num=True)
    areas = np.bincount(parts.ravel(), minlength=n_parts + 1)
    owner = np.zeros(n_parts + 1, np.int32)
    owner[parts.ravel()] = cores.ravel()
    by_area = np.argsort(areas[1:], kind="stable") + 1
    largest = np.zeros(int(ids.max(initial=0)) + 1, np.int64)
    largest[owner[by_area]] = by_area  # the last, which is the largest, stays
    cores[largest[cores] != parts] = 0
    for i, window in enumerate(ndimage.find_objects(ids), start=1):
        if window is not None and largest[i] == 0:
            padded = np.pad(ids[window] == i, 1)
            depth = ndimage.distance_transform_cdt(padded, "chessboard")[1:-1, 1:-1]
            cores[window][depth == depth.max()] = i


def gap_weights(ids: NDArray[np.int32], strength: float, sigma: float) -> NDArray[np.float32]:
    """Weigh pixels by how narrow the gap is that they lie in.

    Parameters
    ----------
    ids : (H, W) int32
        0 is background, every other id an instance.
    strength : float
        Weight added where two instances touch, w0.
    sigma : float
        In pixels, how fast it falls as the gap widens.

    Returns
    -------
    (H, W) float32
        ``1 + strength * exp(-(d1 + d2)**2 / (2 * sigma**2))`` where d1 and d2 are the
        distances to the nearest and the second nearest instance: eq. (2) of [1]_ without
        its weights of classes. Within an instance d1 is 0.

    References
    ----------
    .. [1] O. Ronneberger, P. Fischer and T. Brox, "U-Net: convolutional networks for
       biomedical image segmentation", MICCAI 2015, arXiv:1505.04597.
    """
    reach = int(np.ceil(REACH_IN_SIGMAS * sigma))
    nearest = np.full(ids.shape, np.inf, np.float32)
    second = nearest.copy()
    for i, found in enumerate(ndimage.find_objects(ids), start=1):
        if found is None:
            continue
        window = tuple(slice(max(0, s.start - reach), s.stop + reach) for s in found)
        distance = ndimage.distance_transform_edt(ids[window] != i).astype(np.float32)
        second[window] = np.minimum(second[window], np.maximum(nearest[window], distance))
        nearest[window] = np.minimum(nearest[window], distance)
    return 1 + np.float32(strength) * np.exp(-((nearest + second) ** 2) / np.float32(2 * sigma**2))


def split_foreground(
    inside: NDArray[np.float32],
    foreground: NDArray[np.float32],
    *,
    foreground_threshold: float,
    marker_threshold: float,
    min_contrast: float,
    sigma: float,
    min_size: int,
    mask: NDArray[np.bool_] | None = None,
) -> NDArray[np.int32]:
    """Split the foreground into instances, one around each peak of p(inside).

    Parameters
    ----------
    inside : (H, W) float32
        Probability of the inside of an instance.
    foreground : (H, W) float32
        Of its inside or its border.
    foreground_threshold : float
        Foreground is where its probability is above.
    marker_threshold : float
        An instance has a pixel where p(inside) is at least this.
    min_contrast : float
        Two peaks are two instances if p(inside) falls this much between them.
    sigma : float
        Standard deviation in pixels of the Gaussian that smooths p(inside) before.
    min_size : int
        Smaller instances, in pixels, are left out.
    mask : (H, W) bool, optional
        All else belongs to no instance.

    Returns
    -------
    (H, W) int32
        Ids 1..n, each connected (by corners too) and without holes; 0 is background.
    """
    ground = foreground > foreground_threshold
    if mask is not None:
        ground &= mask
    if not ground.any():
        return np.zeros(ground.shape, np.int32)
    relief = -(ndimage.gaussian_filter(inside, sigma) if sigma > 0 else inside)
    ids = segalgos.watershed(
        relief,
        relief="image",
        min_depth=min_contrast,
        connectivity=2,
        mask=ground,
        channel_axis=None,
    )
    ids += 1
    n = int(ids.max())
    peaks = np.zeros(n + 1, np.float32)
    np.maximum.at(peaks, ids.ravel(), inside.ravel())
    wanted = peaks >= marker_threshold
    wanted[0] = False
    ids[~wanted[ids]] = 0
    for i, window in enumerate(ndimage.find_objects(ids), start=1):
        if window is not None:
            here = ids[window]
            filled = ndimage.binary_fill_holes(here == i) & (here == 0)
            here[filled if mask is None else filled & mask[window]] = i
    wanted = np.bincount(ids.ravel(), minlength=n + 1) >= min_size
    wanted[0] = False
    number = np.cumsum(wanted, dtype=np.int32) * wanted
    return number[ids]
