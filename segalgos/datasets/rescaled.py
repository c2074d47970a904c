"""A data set at another image size, labels and objects with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from segalgos.checks import check_real
from segalgos.datasets.base import Dataset, Sample
from segalgos.results import Instances

__all__ = ["rescale"]


def rescale(dataset: Dataset, factor: float) -> Dataset:
    """See a data set as if a camera of fewer or more pixels had taken it.

    Parameters
    ----------
    dataset : Dataset
    factor : float, 0.02 to 16
        New over old height and width; sizes are rounded to whole pixels.

    Returns
    -------
    Dataset
        As lazy as the one given.

    Notes
    -----
    Images are smoothed before they shrink. Labels, partitions and masks take the value of the
    nearest pixel; objects of which no pixel is left are dropped, and regions are numbered anew.
    """
    factor = check_real("rescale", "factor", factor, low=0.02, high=16)
    if factor == 1:
        return dataset
    return replace(dataset, read=partial(_read, dataset.read, factor))


def _read(read: Callable[[int], Sample], factor: float, index: int) -> Sample:
    from skimage.transform import resize  # takes long to import

    sample = read(index)
    shape = tuple(max(1, round(n * factor)) for n in sample.image.shape[:2])
    image = resize(
        sample.image, shape, order=1, anti_aliasing=factor < 1, preserve_range=True, mode="edge"
    )
    if sample.image.dtype.kind in "ui":
        image = np.rint(image)
    rows, cols = (
        np.minimum(((np.arange(new) + 0.5) * old / new).astype(np.intp), old - 1)
        for new, old in zip(shape, sample.image.shape, strict=False)
    )

    def nearest(values: NDArray) -> NDArray:
        return values[..., rows[:, None], cols]

    annotations = sample.annotations and tuple(map(_renumber, map(nearest, sample.annotations)))
    return replace(
        sample,
        image=image.astype(sample.image.dtype),
        labels=None if sample.labels is None else nearest(sample.labels),
        instances=None if sample.instances is None else _shrink(sample.instances, nearest),
        annotations=annotations,
    )


def _renumber(partition: NDArray[np.int32]) -> NDArray[np.int32]:
    """Ids from 0 without gaps; -1 stays."""
    ids, numbered = np.unique(partition, return_inverse=True)
    return (numbered.reshape(partition.shape) - np.count_nonzero(ids < 0)).astype(np.int32)


def _shrink(objects: Instances, nearest: Callable[[NDArray], NDArray]) -> Instances:
    masks = nearest(objects.masks)
    left = masks.any(axis=(1, 2))
    return Instances(
        masks[left], objects.scores[left], objects.classes[left], None, objects.crowd[left]
    )
