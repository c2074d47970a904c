"""Anchors [1]_: boxes of a few sizes and shapes at every cell, and which object each stands for.

References
----------
.. [1] S. Ren, K. He, R. Girshick and J. Sun, "Faster R-CNN: towards real-time object detection
   with region proposal networks", NeurIPS 2015, arXiv:1506.01497.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numba import njit
from torch import Tensor

__all__ = [
    "BACKGROUND",
    "BETWEEN",
    "make_anchors",
    "make_centred_anchors",
    "match_boxes",
    "match_each",
    "sample_matches",
]

BACKGROUND, BETWEEN = -1, -2


def make_anchors(
    map_sizes: Sequence[tuple[int, int]],
    image_size: tuple[int, int],
    sizes: Sequence[float],
    ratios: Sequence[float],
) -> list[Tensor]:
    """Place anchors on the maps of a pyramid.

    Parameters
    ----------
    map_sizes : sequence of (int, int)
        Height and width of each map.
    image_size : (int, int)
        Of the padded image. Cells are ``image_size // map_size`` pixels apart.
    sizes : sequence of float
        Root of the area of the anchors of each map, in pixels.
    ratios : sequence of float
        Height over width.

    Returns
    -------
    list of (h * w * len(ratios), 4) Tensor
        By row, column, ratio. The first is centred on the image's corner; corners are
        rounded to pixels around it, as in the reference.
    """
    heights = torch.sqrt(torch.tensor(ratios))
    shapes = torch.stack([1 / heights, heights], dim=1)  # widths and heights of area 1
    anchors = []
    for (height, width), size in zip(map_sizes, sizes, strict=True):
        half = shapes * size / 2
        cell = torch.cat([-half, half], dim=1).round()
        y = torch.arange(height) * (image_size[0] // height)
        x = torch.arange(width) * (image_size[1] // width)
        shift = torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1).flip(-1)  # x, y
        anchors.append((shift.repeat(1, 1, 2)[:, :, None] + cell).reshape(-1, 4))
    return anchors


def make_centred_anchors(
    map_sizes: Sequence[tuple[int, int]],
    image_size: tuple[int, int],
    sizes: Sequence[float],
    ratios: Sequence[float],
    *,
    square: bool = False,
) -> Tensor:
    """Place anchors on the centres of cells, as single-stage detectors do.

    Parameters
    ----------
    map_sizes : sequence of (int, int)
        Height and width of each map.
    image_size : (int, int)
        Each map covers all of it.
    sizes : sequence of float
        Root of the area of the anchors of each map, in pixels.
    ratios : sequence of float
        Width over height.
    square : bool, default=False
        Make them as high as they are wide.

    Returns
    -------
    (A, 4) Tensor
        By map, row, column, ratio.
    """
    widths = torch.sqrt(torch.tensor(ratios))
    shapes = torch.stack([widths, widths if square else 1 / widths], dim=1)
    anchors = []
    for (height, width), size in zip(map_sizes, sizes, strict=True):
        y = (torch.arange(height) + 0.5) * (image_size[0] / height)
        x = (torch.arange(width) + 0.5) * (image_size[1] / width)
        centre = torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1).flip(-1)[:, :, None]
        half = shapes * (size / 2)
        anchors.append(torch.cat([centre - half, centre + half], dim=-1).reshape(-1, 4))
    return torch.cat(anchors)


def match_boxes(
    boxes: Tensor, truth: Tensor, *, low: float, high: float, keep_best: bool = False
) -> Tensor:
    """Find the true object that each box stands for.

    Parameters
    ----------
    boxes : (N, 4) float32 Tensor
    truth : (G, 4) float32 Tensor
    low, high : float
        A box stands for the object it has the largest IoU with if that is at least `high`, for
        none if it is below `low`.
    keep_best : bool, default=False
        Whatever its IoU, the best box of each object stands for the object it overlaps most; so do
        others as good.

    Returns
    -------
    (N,) int64 Tensor
        Index of the object, `BACKGROUND` or, between the thresholds, `BETWEEN`.

    Notes
    -----
    O(N * G) time, O(N + G) memory.
    """
    found = np.full(len(boxes), BACKGROUND, np.int64)
    if len(truth):
        _match(
            np.ascontiguousarray(boxes.detach().cpu().numpy()),
            np.ascontiguousarray(truth.cpu().numpy()),
            np.float32(low), np.float32(high), keep_best, found,
        )  # fmt: skip
    return torch.from_numpy(found).to(boxes.device)


def match_each(boxes: Tensor, truth: Tensor, *, low: float, high: float) -> Tensor:
    """Find the true object that each box stands for; every object has a box of its own.

    Parameters
    ----------
    boxes : (N, 4) float32 Tensor
    truth : (G, 4) float32 Tensor
    low, high : float
        As for `match_boxes`.

    Returns
    -------
    (N,) int64 Tensor
        Index of the object, `BACKGROUND` or, between the thresholds, `BETWEEN`.

    Notes
    -----
    The pair of an object and a box with the largest IoU of all is made first, whatever the
    thresholds; then that of the others, and so on. Only an object that overlaps no box that is
    left goes without.

    O(N * G) time, and O(N) again for each object whose best box is another's; O(N + G) memory.
    """
    found = np.full(len(boxes), BACKGROUND, np.int64)
    if len(truth):
        corners, of_truth = (np.ascontiguousarray(b.detach().cpu().numpy()) for b in (boxes, truth))
        _match(corners, of_truth, np.float32(low), np.float32(high), False, found)
        _match_each(corners, of_truth, found)
    return torch.from_numpy(found).to(boxes.device)


@njit(nogil=True, cache=True)
def _iou(a, b, area_a, area_b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return np.float32(0)
    shared = width * height
    return shared / (area_a + area_b - shared)


@njit(nogil=True, cache=True)
def _match(boxes, truth, low, high, keep_best, found):
    n, n_true = len(boxes), len(truth)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    true_areas = (truth[:, 2] - truth[:, 0]) * (truth[:, 3] - truth[:, 1])
    largest = np.zeros(n, np.float32)
    owner = np.zeros(n, np.int64)
    largest_of_true = np.zeros(n_true, np.float32)
    for g in range(n_true):
        for i in range(n):
            iou = _iou(boxes[i], truth[g], areas[i], true_areas[g])
            if iou > largest[i]:
                largest[i], owner[i] = iou, g
            largest_of_true[g] = max(largest_of_true[g], iou)
    for i in range(n):
        if largest[i] >= high:
            found[i] = owner[i]
        elif largest[i] >= low:
            found[i] = BETWEEN
    if keep_best:
        for g in range(n_true):
            if largest_of_true[g] == 0:  # no box lies on it: none is its best
                continue
            for i in range(n):
                if found[i] < 0 and (
                    _iou(boxes[i], truth[g], areas[i], true_areas[g]) == largest_of_true[g]
                ):
                    found[i] = owner[i]


@njit(nogil=True, cache=True)
def _best_free(boxes, areas, true, true_area, free):
    """Of the boxes that are free, the first with the largest IoU, and that."""
    best, largest = -1, np.float32(0)
    for i in range(len(boxes)):
        if free[i]:
            iou = _iou(boxes[i], true, areas[i], true_area)
            if iou > largest:
                best, largest = i, iou
    return best, largest


@njit(nogil=True, cache=True)
def _match_each(boxes, truth, found):
    n_true = len(truth)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    true_areas = (truth[:, 2] - truth[:, 0]) * (truth[:, 3] - truth[:, 1])
    free = np.ones(len(boxes), np.bool_)
    best = np.empty(n_true, np.int64)
    largest = np.empty(n_true, np.float32)
    for g in range(n_true):
        best[g], largest[g] = _best_free(boxes, areas, truth[g], true_areas[g], free)
    for _ in range(n_true):
        g = np.argmax(largest)
        i = best[g]
        if largest[g] <= 0:
            return
        found[i], free[i], largest[g] = g, False, np.float32(-1)
        for other in range(n_true):
            if best[other] == i and largest[other] > 0:
                best[other], largest[other] = _best_free(
                    boxes, areas, truth[other], true_areas[other], free
                )


def sample_matches(
    matches: Tensor, n: int, positive_share: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Draw the boxes that a loss looks at.

    Parameters
    ----------
    matches : (N,) int64 Tensor
        As from `match_boxes`.
    n : int
        Boxes to draw, at most.
    positive_share : float
        Share of them that stands for objects, at most; background fills up.
    rng : numpy.random.Generator

    Returns
    -------
    positive : (n,) int64 Tensor
        Indices of boxes that stand for objects, in ascending order.
    negative : (m,) int64 Tensor
        Of background.
    """
    found = matches.cpu().numpy()
    positive, negative = np.flatnonzero(found >= 0), np.flatnonzero(found == BACKGROUND)
    n_positive = min(int(n * positive_share), len(positive))
    n_negative = min(n - n_positive, len(negative))
    drawn = [
        np.sort(rng.choice(those, k, replace=False)) if k else those[:0]
        for those, k in ((positive, n_positive), (negative, n_negative))
    ]
    return tuple(torch.from_numpy(indices).to(matches.device) for indices in drawn)
