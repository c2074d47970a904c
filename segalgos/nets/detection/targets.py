"""What a detector learns from: images of one size, and the objects in each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from segalgos.nets.detection.masks import bilinear_source

__all__ = ["DetectionBatch", "MaskCrops", "Targets"]


class MaskCrops(NamedTuple):
    """Masks of objects, each as large as its box only.

    Parameters
    ----------
    values : (n,) uint8
        Of the pixels of one mask after another, row by row.
    starts : (N,) int64
        Where each mask begins.
    boxes : (N, 4) int64
        Half-open: row0, col0, row1, col1.
    """

    values: NDArray[np.uint8]
    starts: NDArray[np.int64]
    boxes: NDArray[np.int64]

    @classmethod
    def of(cls, masks: list[NDArray[np.bool_]], boxes: NDArray[np.int64]) -> Self:
        """Join masks.

        Parameters
        ----------
        masks : list of N (h, w) bool
            As large as their boxes.
        boxes : (N, 4) int64

        Returns
        -------
        MaskCrops
        """
        sizes = np.array([mask.size for mask in masks], np.int64)
        values = [np.zeros(0, np.uint8), *(mask.ravel().astype(np.uint8) for mask in masks)]
        return cls(np.concatenate(values), np.cumsum(sizes) - sizes, boxes.astype(np.int64))

    def take(self, objects: Tensor, boxes: Tensor, size: int) -> Tensor:
        """See parts of masks as maps of one size.

        Parameters
        ----------
        objects : (R,) int64 Tensor
            Which mask.
        boxes : (R, 4) float32 Tensor
            Corners x0, y0, x1, y1 of what part of the image.
        size : int

        Returns
        -------
        (R, size, size) float32 Tensor
            0 to 1: what RoIAlign with about one sample a pixel makes of the whole mask.
        """
        pooled = np.zeros((len(objects), size, size), np.float32)
        _pool_masks(
            *self,
            objects.cpu().numpy(),
            np.ascontiguousarray(boxes.detach().cpu().float().numpy()),
            pooled,
        )
        return torch.from_numpy(pooled).to(boxes.device)

    def shrink(self, image_size: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """See all masks at the size of a map that covers the image.

        Parameters
        ----------
        image_size, size : (int, int)
            Height and width of the image and of the map.

        Returns
        -------
        (N, h, w) bool Tensor
            On the CPU. What bilinear interpolation makes larger than a half: the four pixels
            around the centre of a cell decide.
        """
        shrunk = np.zeros((len(self.boxes), *size), np.bool_)
        _shrink(*self, *image_size, shrunk)
        return torch.from_numpy(shrunk)


@njit(nogil=True, cache=True)
def _value(values, start, box, row, column):
    """Value of a mask at a pixel of the image."""
    if row < box[0] or row >= box[2] or column < box[1] or column >= box[3]:
        return np.float32(0)
    return np.float32(values[start + (row - box[0]) * (box[3] - box[1]) + column - box[1]])


@njit(nogil=True, cache=True)
def _shrink(values, starts, boxes, height, width, shrunk):
    n, h, w = shrunk.shape
    one = np.float32(1)
    for k in range(n):
        start, box = starts[k], boxes[k]
        for i in range(h):
            top, bottom, down = bilinear_source(i, h, height)
            if bottom < box[0] or top >= box[2]:
                continue
            for j in range(w):
                left, right, share = bilinear_source(j, w, width)
                if right < box[1] or left >= box[3]:
                    continue
                above = (one - share) * _value(values, start, box, top, left)
                above += share * _value(values, start, box, top, right)
                below = (one - share) * _value(values, start, box, bottom, left)
                below += share * _value(values, start, box, bottom, right)
                shrunk[k, i, j] = (one - down) * above + down * below > 0.5


@njit(nogil=True, cache=True)
def _pool_masks(values, starts, mask_boxes, objects, boxes, pooled):
    size = pooled.shape[1]
    for r in range(len(objects)):
        start, box = starts[objects[r]], mask_boxes[objects[r]]
        x0, y0 = boxes[r, 0], boxes[r, 1]
        width = max(boxes[r, 2] - x0, np.float32(1))
        height = max(boxes[r, 3] - y0, np.float32(1))
        n_y, n_x = int(np.ceil(height / size)), int(np.ceil(width / size))
        for i in range(size):
            for j in range(size):
                total = np.float32(0)
                for a in range(n_y):
                    y = y0 + (i + (a + 0.5) / n_y) * height / size
                    row = int(np.floor(y))
                    dy = np.float32(y - row)
                    for b in range(n_x):
                        x = x0 + (j + (b + 0.5) / n_x) * width / size
                        column = int(np.floor(x))
                        dx = np.float32(x - column)
                        for p in range(2):
                            for q in range(2):
                                weight = (dy if p else 1 - dy) * (dx if q else 1 - dx)
                                total += weight * _value(values, start, box, row + p, column + q)
                pooled[r, i, j] = total / (n_y * n_x)


@dataclass(frozen=True)
class Targets:
    """The objects in one image.

    Parameters
    ----------
    boxes : (G, 4) float32 Tensor
        Corners x0, y0, x1, y1 in pixels, of positive width and height.
    classes : (G,) int64 Tensor
        From 0 to K - 1.
    masks : MaskCrops
    """

    boxes: Tensor
    classes: Tensor
    masks: MaskCrops

    def to(self, device: torch.device | str, **options: bool) -> Targets:
        """Move the tensors to a device.

        Parameters
        ----------
        device : torch.device or str
        **options
            As those of `torch.Tensor.to`.

        Returns
        -------
        Targets
        """
        boxes, classes = (t.to(device, **options) for t in (self.boxes, self.classes))
        return Targets(boxes, classes, self.masks)


@dataclass(frozen=True)
class DetectionBatch:
    """Images of one size, what is in them, and the seed of what the losses draw.

    Parameters
    ----------
    images : (N, C, H, W) float32 Tensor
    targets : list of Targets
        One for each image.
    seed : int
        Decides which boxes the losses look at.
    """

    images: Tensor
    targets: list[Targets]
    seed: int

    def to(self, device: torch.device | str, **options: bool) -> DetectionBatch:
        """Move the tensors to a device.

        Parameters
        ----------
        device : torch.device or str
        **options
            As those of `torch.Tensor.to`.

        Returns
        -------
        DetectionBatch
        """
        targets = [one.to(device, **options) for one in self.targets]
        return DetectionBatch(self.images.to(device, **options), targets, self.seed)
