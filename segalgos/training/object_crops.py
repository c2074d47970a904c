"""Crops of images with the objects in them, for networks that find objects one by one."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segalgos.training.augment import CropSampler

__all__ = ["ObjectCrop", "ObjectCropSampler", "lay_out"]

# What of an object a crop shows must have this many rows and columns.
SMALLEST = 2
_OUTSIDE = -2


class ObjectCrop(NamedTuple):
    """A crop and the objects that show in it.

    Parameters
    ----------
    image : (h, w, C) float32
    classes : (G,) int64
        From 0 to K - 1.
    boxes : (G, 4) int64
        Row0, col0, row1, col1, half-open, of what shows.
    masks : list of G (h, w) bool
        Within the boxes.
    """

    image: NDArray[np.float32]
    classes: NDArray[np.int64]
    boxes: NDArray[np.int64]
    masks: list[NDArray[np.bool_]]


def lay_out(masks: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Put objects on as few layers as a simple search finds, so that none hides another.

    Parameters
    ----------
    masks : (N, H, W) bool

    Returns
    -------
    (H, W, L) int32
        Index of the object on each layer, -1 where there is none. At least one layer.

    Notes
    -----
    O(N * pixels of a box * L) time: each object goes to the first layer with room.
    """
    layers = [np.full(masks.shape[1:], -1, np.int32)]
    for i, mask in enumerate(masks):
        window = _window(mask)
        if window is None:
            continue
        inside = mask[window]
        layer = next((one for one in layers if (one[window][inside] < 0).all()), None)
        if layer is None:
            layer = np.full(masks.shape[1:], -1, np.int32)
            layers.append(layer)
        layer[window][inside] = i
    return np.stack(layers, axis=-1)


def _window(mask: NDArray[np.bool_]) -> tuple[slice, slice] | None:
    """Rows and columns that a mask spans; None if it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


class ObjectCropSampler:
    """Draws random crops with their objects.

    Parameters
    ----------
    images : list of (H, W, C) ndarray
    layers : list of (H, W, L) int32
        As `lay_out` makes them.
    classes : list of (N,) int
        Of the objects of each image, 0 to K - 1.
    n_classes : int
        K.
    **how
        Parameters of `segalgos.training.augment.CropSampler`.
    """

    def __init__(
        self,
        images: list[NDArray],
        layers: list[NDArray[np.int32]],
        classes: list[NDArray[np.int32]],
        n_classes: int,
        **how: Any,
    ):
        self._classes = np.concatenate(classes).astype(np.int64)
        ids, maps, first = [], [], 0
        for own, of_image in zip(layers, classes, strict=True):
            # Background is a class of its own, so that images without objects are seen, too.
            maps.append(np.append(of_image, n_classes).astype(np.int32)[own.max(axis=-1)])
            ids.append(np.where(own >= 0, own + np.int32(first), own))
            first += len(of_image)
        self._crops = CropSampler(images, ids, classes=maps, outside=_OUTSIDE, **how)

    def draw(self, rng: np.random.Generator) -> ObjectCrop:
        """Draw one crop.

        Parameters
        ----------
        rng : numpy.random.Generator

        Returns
        -------
        ObjectCrop
            Without objects of which less than two rows or columns show. The image is 0
            beyond its border: mirrored, it would show objects that nobody labelled.
        """
        image, ids, _ = self._crops.draw(rng)
        image = np.where(ids[..., :1] == _OUTSIDE, np.float32(0), image)
        classes, boxes, masks = [], [], []
        for layer in np.moveaxis(ids, -1, 0):
            present = layer[layer >= 0]
            first = int(present.min()) if len(present) else 0
            for k, window in enumerate(ndimage.find_objects(layer - (first - 1)), start=first):
                if window is None:
                    continue
                rows, columns = window
                if min(rows.stop - rows.start, columns.stop - columns.start) >= SMALLEST:
                    classes.append(self._classes[k])
                    boxes.append((rows.start, columns.start, rows.stop, columns.stop))
                    masks.append(layer[window] == k)
        boxes = np.array(boxes, np.int64).reshape(-1, 4)
        return ObjectCrop(image, np.array(classes, np.int64), boxes, masks)
