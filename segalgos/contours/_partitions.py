"""Partitions that people drew: checked, and as what a network is to answer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segalgos import checks
from segalgos.contours.oriented_watershed import contour_orientation

__all__ = ["check_partitions", "contour_targets", "pair_up"]


def pair_up(caller: str, images: Any, labels: Any) -> tuple[Any, Any]:
    """Take one image, or many, and one entry of labels for each.

    Parameters
    ----------
    caller : str
    images : array_like or sequence of array_like
    labels : array_like or sequence

    Returns
    -------
    images, labels : sequence
        As many of both.

    Raises
    ------
    ValueError
        If there are more labels or fewer.
    """
    if not checks.is_batch(images, caller):
        return [images], [labels]
    count = len(labels) if hasattr(labels, "__len__") else type(labels).__name__
    if count != len(images):
        raise ValueError(
            f"{caller}: {len(images)} images but labels is {count}: pass a list with one "
            "partition, or one list of them, for each image."
        )
    return images, labels


def check_partitions(
    caller: str, i: int, labels: Any, size: tuple[int, ...]
) -> list[NDArray[np.int32]]:
    """Take up the partitions of an image: one, or one an annotator.

    Parameters
    ----------
    caller : str
    i : int
        Which image, for errors.
    labels : array_like or sequence of array_like
    size : tuple of int
        Height and width.

    Returns
    -------
    list of (H, W) int32

    Raises
    ------
    ValueError
        If there is none, or one is not as expected.
    """
    if isinstance(labels, list | tuple) and not labels:
        raise ValueError(
            f"{caller}: labels[{i}] is empty, expected a partition, or one an annotator: leave out "
            "images that nobody drew."
        )
    if not isinstance(labels, list | tuple) or np.ndim(labels[0]) != 2:
        return [checks.check_label_map(labels, size, caller, f"labels[{i}]")]
    return [
        checks.check_label_map(one, size, caller, f"labels[{i}][{k}]")
        for k, one in enumerate(labels)
    ]


def contour_targets(labels: NDArray[np.int32]) -> NDArray[np.float32]:
    """Make of partitions what a network is to answer.

    Parameters
    ----------
    labels : (H, W, L) int32
        Of L annotators, -1 where unknown.

    Returns
    -------
    (3, H, W) float32
        The part of the annotators that have a contour at a pixel, -1 where none is known; then
        cosine and sine of twice the angle in which it runs, both 0 where it has none.
    """
    known = labels >= 0
    drawn = np.zeros(labels.shape, bool)
    for one, other in (
        (np.s_[:-1], np.s_[1:]),
        (np.s_[:, :-1], np.s_[:, 1:]),
    ):
        parts = (labels[one] != labels[other]) & known[one] & known[other]
        drawn[one] |= parts
        drawn[other] |= parts
    n_known = known.sum(axis=-1)
    share = drawn.sum(axis=-1, dtype=np.float32) / np.maximum(n_known, 1)
    angle = 2 * contour_orientation(share)
    target = np.stack([share, np.cos(angle), np.sin(angle)])
    target[1:, np.isnan(angle) | (share == 0)] = 0
    target[0, n_known == 0] = -1
    return target.astype(np.float32)
