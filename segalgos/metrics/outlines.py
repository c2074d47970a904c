"""Boundary IoU: how well the outlines of two masks agree, whatever their size."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segalgos import rle
from segalgos._rle_kernels import intersection
from segalgos.checks import check_real

__all__ = ["DILATION", "boundary_iou", "boundary_of"]

#: How wide a boundary is, as a part of the image's diagonal.
DILATION = 0.02


def boundary_iou(
    found: ArrayLike,
    truth: ArrayLike,
    *,
    ignored: ArrayLike | None = None,
    dilation: float = DILATION,
) -> float:
    """Divide shared pixels of two masks' boundaries by those of either [1]_.

    Parameters
    ----------
    found : (H, W) bool array
        The mask that was found.
    truth : (H, W) bool array
        The true one.
    ignored : (H, W) bool array, optional
        Pixels that count nowhere. Where the boundaries are is decided before.
    dilation : float, default=0.02
        How wide the boundary is, as a part of the image's diagonal, rounded to pixels.

    Returns
    -------
    float
        NaN if neither mask has a pixel that counts.

    Raises
    ------
    TypeError
        If a mask is not boolean.
    ValueError
        If shapes differ or `dilation` is negative.

    See Also
    --------
    boundary_of : The boundary alone.
    coco_average_precision : With ``iou_type="boundary"``, Boundary AP.

    Notes
    -----
    Only the inner side of an outline is compared, so that thin objects are compared as a whole,
    and a mask of another place has 0. It says nothing of what lies within: COCO's Boundary AP
    takes the lesser of this and of the masks' IoU. O(H * W) time, whatever the width.

    References
    ----------
    .. [1] B. Cheng, R. Girshick, P. Dollar, A. C. Berg and A. Kirillov, "Boundary IoU: improving
       object-centric image segmentation evaluation", CVPR 2021, eq. (2).

    Examples
    --------
    >>> import numpy as np
    >>> truth = np.zeros((40, 40), bool)
    >>> truth[5:35, 5:35] = True
    >>> found = truth.copy()
    >>> found[5:35, 34] = False
    >>> round(boundary_iou(found, truth), 3), round(float((found & truth).sum() / truth.sum()), 3)
    (0.593, 0.967)
    """
    caller = "boundary_iou"
    found, truth = _check_mask(found, "found", caller), _check_mask(truth, "truth", caller)
    _check_shape(found, "found", truth, caller)
    width = _width(truth.shape, dilation, caller)
    rims = rle.rims(rle.encode(np.stack([found, truth])), width)
    if ignored is None:
        return _iou(rims)
    ignored = _check_mask(ignored, "ignored", caller)
    _check_shape(ignored, "ignored", truth, caller)
    return _iou(rle.encode(rle.decode(rims) & ~ignored))


def boundary_of(mask: ArrayLike, *, dilation: float = DILATION) -> NDArray[np.bool_]:
    """Find the pixels of a mask that are near its outline.

    Parameters
    ----------
    mask : (H, W) bool array
    dilation : float, default=0.02
        How far the outline may be, as a part of the image's diagonal; rounded to pixels, and 1
        at least. Steps along rows, columns and diagonals count alike.

    Returns
    -------
    (H, W) bool array
        The image's own border is an outline too.

    Raises
    ------
    TypeError
        If `mask` is not boolean.
    ValueError
        If it has no two axes or `dilation` is negative.
    """
    caller = "boundary_of"
    mask = _check_mask(mask, "mask", caller)
    return rle.decode(rle.rims(rle.encode(mask[None]), _width(mask.shape, dilation, caller)))[0]


def rim_widths(shapes: NDArray[np.int64], dilation: float) -> NDArray[np.int64]:
    """Widths in pixels of the boundaries of masks in images of some sizes.

    Parameters
    ----------
    shapes : (N, 2) int64
    dilation : float

    Returns
    -------
    (N,) int64
    """
    diagonals = np.sqrt((shapes.astype(np.float64) ** 2).sum(axis=1))
    return np.maximum(1, np.rint(dilation * diagonals)).astype(np.int64)


def _width(shape: tuple[int, int], dilation: float, caller: str) -> int:
    check_real(caller, "dilation", dilation, low=0)
    return int(rim_widths(np.array([shape]), dilation)[0])


def _iou(pair: rle.Runs) -> float:
    middle = pair.starts[1]
    shared = intersection(pair.counts, 0, middle, pair.counts, middle, pair.starts[2])
    either = int(rle.areas(pair).sum()) - shared
    return shared / either if either else float("nan")


def _check_mask(mask: ArrayLike, name: str, caller: str) -> NDArray[np.bool_]:
    mask = np.asarray(mask)
    if mask.dtype != bool:
        raise TypeError(
            f"{caller}: {name} is {mask.dtype}, expected bool: compare it first, for instance "
            f"{name} == 1."
        )
    if mask.ndim != 2:
        raise ValueError(f"{caller}: {name} has shape {mask.shape}, expected (H, W).")
    return mask


def _check_shape(mask: NDArray, name: str, truth: NDArray, caller: str) -> None:
    if mask.shape != truth.shape:
        raise ValueError(
            f"{caller}: {name} has shape {mask.shape}, truth has {truth.shape}: pass masks of the "
            "same pixels."
        )
