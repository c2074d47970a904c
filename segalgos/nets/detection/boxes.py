"""Boxes as tensors: x0, y0, x1, y1 in pixels, as the detectors that are published have them.

Segmenters speak of row, column; they turn boxes around where they leave the network.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["box_areas", "box_iou", "clip_boxes", "decode_boxes", "encode_boxes", "large_enough"]

# Boxes grow at most by this factor in one step: exp of anything larger would overflow.
LARGEST_LOG_GROWTH = math.log(1000 / 16)


def box_areas(boxes: Tensor) -> Tensor:
    """Compute areas.

    Parameters
    ----------
    boxes : (..., 4) Tensor

    Returns
    -------
    (...,) Tensor
    """
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Compute the intersection over union of each box of one set with each of another.

    Parameters
    ----------
    a : (..., N, 4) Tensor
    b : (..., M, 4) Tensor

    Returns
    -------
    (..., N, M) Tensor
        NaN where both boxes are without area.
    """
    low = torch.maximum(a[..., :, None, :2], b[..., None, :, :2])
    high = torch.minimum(a[..., :, None, 2:], b[..., None, :, 2:])
    shared = (high - low).clamp(min=0).prod(dim=-1)
    return shared / (box_areas(a)[..., :, None] + box_areas(b)[..., None, :] - shared)


def clip_boxes(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Move corners that lie beyond the image to its border.

    Parameters
    ----------
    boxes : (..., 4) Tensor
    size : tuple of int
        Height and width of the image.

    Returns
    -------
    (..., 4) Tensor
    """
    height, width = size
    x, y = boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)
    return torch.stack([x, y], dim=-1).flatten(-2)


def large_enough(boxes: Tensor, smallest: float) -> Tensor:
    """Find the boxes whose width and height are both at least so many pixels.

    Parameters
    ----------
    boxes : (..., 4) Tensor
    smallest : float

    Returns
    -------
    (...,) bool Tensor
    """
    return ((boxes[..., 2:] - boxes[..., :2]) >= smallest).all(dim=-1)


def _centres_and_sizes(boxes: Tensor) -> tuple[Tensor, Tensor]:
    sizes = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + 0.5 * sizes, sizes


def encode_boxes(boxes: Tensor, anchors: Tensor, weights: tuple[float, ...] = (1, 1, 1, 1)):
    """Describe boxes by how they differ from anchors: what a detector learns to tell.

    Parameters
    ----------
    boxes, anchors : (N, 4) Tensor
        Of positive width and height.
    weights : tuple of 4 float
        Factors on dx, dy, dw, dh.

    Returns
    -------
    (N, 4) Tensor
        Offset of the centre in widths and heights of the anchor, logarithm of the ratio of
        widths and of heights [1]_.

    References
    ----------
    .. [1] R. Girshick, J. Donahue, T. Darrell and J. Malik, "Rich feature hierarchies for
       accurate object detection and semantic segmentation", CVPR 2014, arXiv:1311.2524.
    """
    centres, sizes = _centres_and_sizes(boxes)
    anchor_centres, anchor_sizes = _centres_and_sizes(anchors)
    offsets = (centres - anchor_centres) / anchor_sizes
    growth = torch.log(sizes / anchor_sizes)
    return torch.cat([offsets, growth], dim=-1) * boxes.new_tensor(weights)


def decode_boxes(deltas: Tensor, anchors: Tensor, weights: tuple[float, ...] = (1, 1, 1, 1)):
    """Find the boxes that differ so from anchors: the inverse of `encode_boxes`.

    Parameters
    ----------
    deltas : (..., 4) Tensor
    anchors : Tensor
        Broadcast against `deltas`.
    weights : tuple of 4 float

    Returns
    -------
    (..., 4) Tensor
        A box is at most 62.5 times as wide and as high as its anchor.
    """
    centres, sizes = _centres_and_sizes(anchors)
    deltas = deltas / deltas.new_tensor(weights)
    centres = deltas[..., :2] * sizes + centres
    half = 0.5 * torch.exp(deltas[..., 2:].clamp(max=LARGEST_LOG_GROWTH)) * sizes
    return torch.cat([centres - half, centres + half], dim=-1)
