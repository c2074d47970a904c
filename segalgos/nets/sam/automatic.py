"""Everything in an image: SAM asked at each point of a grid, and what it is sure of kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from segalgos import checks, rle
from segalgos.nets.detection.nms import nms
from segalgos.nets.sam.embedded import EmbeddedImage
from segalgos.results import Instances

__all__ = ["Everything", "crop_windows", "find_everything", "remove_small_parts", "suppress"]

#: Masks are enlarged to the size of the image so many pixels at once: 64 MB.
PIXELS_AT_ONCE = 1 << 24
#: A mask that ends so many pixels from where its crop does, or fewer, is cut off by it.
NEAR_EDGE = 20


@dataclass(frozen=True, kw_only=True)
class Everything:
    """How everything is found.

    Parameters
    ----------
    points_per_side : int, default=32
        Of the grid of clicks, on each crop.
    points_per_batch : int, default=64
        Clicks that are computed at once: memory against time.
    iou_threshold : float, default=0.88
        Masks whose expected IoU is not above it are dropped.
    stability_threshold : float, default=0.95
        Masks are dropped whose pixels above ``stability_offset`` are a smaller share of those
        above ``-stability_offset``.
    stability_offset : float, default=1.0
        In logits.
    nms_threshold : float, default=0.7
        Of two masks whose boxes have a higher IoU, the one with the lower score is dropped.
    n_crop_layers : int, default=0
        In layer i, each of 2**i x 2**i crops is looked at as an image of its own: small things
        are found, for four times the time a layer.
    crop_overlap : float, default=512 / 1500
        Of crops of layer 1, as a share of the image's shorter side; half of it in layer 2 ...
    crop_points_divisor : float, default=1
        Clicks a side of crops are divided by it once a layer.
    min_area : int, default=0
        Holes and separate parts of masks that have fewer pixels are filled or removed.
    """

    points_per_side: int = 32
    points_per_batch: int = 64
    iou_threshold: float = 0.88
    stability_threshold: float = 0.95
    stability_offset: float = 1.0
    nms_threshold: float = 0.7
    n_crop_layers: int = 0
    crop_overlap: float = 512 / 1500
    crop_points_divisor: float = 1
    min_area: int = 0

    def check(self, caller: str) -> None:
        """Raise on a bad option.

        Parameters
        ----------
        caller : str
            For the message.
        """
        for name, low, high in (
            ("points_per_side", 1, 1000),
            ("points_per_batch", 1, None),
            ("n_crop_layers", 0, 6),
            ("min_area", 0, None),
        ):
            checks.check_int(caller, name, getattr(self, name), low=low, high=high)
        for name, low, high in (
            ("iou_threshold", None, None),
            ("stability_threshold", 0, 1),
            ("stability_offset", 0, None),
            ("nms_threshold", 0, 1),
            ("crop_overlap", 0, 1),
            ("crop_points_divisor", 1, None),
        ):
            checks.check_real(caller, name, getattr(self, name), low=low, high=high)


@dataclass(frozen=True, eq=False)
class _Found:
    """Masks of some clicks: run lengths in the whole image, expected IoUs, boxes."""

    runs: rle.Runs
    scores: NDArray[np.float32]
    boxes: NDArray[np.float32]

    def __getitem__(self, index: NDArray) -> _Found:
        return _Found(_select(self.runs, index), self.scores[index], self.boxes[index])

    @classmethod
    def join(cls, size: tuple[int, int], parts: list[_Found]) -> _Found:
        runs = [one for part in parts for one in _each(part.runs)]
        return cls(
            rle.Runs.join(size, runs),
            np.concatenate([np.empty(0, np.float32), *(part.scores for part in parts)]),
            np.concatenate([np.empty((0, 4), np.float32), *(part.boxes for part in parts)]),
        )


def _each(runs: rle.Runs) -> list[NDArray[np.int64]]:
    return [runs.counts[a:b] for a, b in zip(runs.starts[:-1], runs.starts[1:])]


def _select(runs: rle.Runs, index: NDArray) -> rle.Runs:
    each = _each(runs)
    return rle.Runs.join(runs.size, [each[i] for i in np.arange(len(each))[index]])


def find_everything(
    image: NDArray, embed: Callable[[NDArray], EmbeddedImage], options: Everything
) -> Instances:
    """Find masks of everything in an image.

    Parameters
    ----------
    image : (H, W, 3) uint8 or float32
        RGB from 0 to 255.
    embed : callable
        Lets the network see an image, or a crop of it.
    options : Everything
        Checked.

    Returns
    -------
    Instances
        The likeliest first; scores are expected IoUs. Masks may overlap: parts and wholes.

    Notes
    -----
    Memory: the logits of `points_per_batch` clicks, of 256 x 256 pixels, some masks of the
    image's size, and the run lengths of all that passed. Time: one embedding a crop, and
    ``points_per_side**2`` clicks. Masks that fail by their expected IoU are not enlarged.
    """
    shape = image.shape[:2]
    found = []
    for layer, window in crop_windows(shape, options.n_crop_layers, options.crop_overlap):
        embedded = embed(np.ascontiguousarray(image[window]))
        side = max(1, int(options.points_per_side / options.crop_points_divisor**layer))
        parts = [
            _masks_at(points, embedded, window, shape, options)
            for points in _grid(embedded.shape, side, options.points_per_batch)
        ]
        part = _Found.join(shape, parts)
        found.append(part[suppress(part.boxes, part.scores, options.nms_threshold)])
    n_each = [len(part.scores) for part in found]
    everything = _Found.join(shape, found)
    if len(found) > 1:
        # Of the same thing in several crops, the mask of the smallest crop is the finest.
        areas = [
            (rows.stop - rows.start) * (columns.stop - columns.start)
            for _, (rows, columns) in crop_windows(
                shape, options.n_crop_layers, options.crop_overlap
            )
        ]
        fineness = np.repeat(1 / np.array(areas), n_each)
        everything = everything[suppress(everything.boxes, fineness, options.nms_threshold)]
    masks = rle.decode(everything.runs)
    scores = everything.scores
    if options.min_area > 1:
        untouched = np.array([remove_small_parts(mask, options.min_area) for mask in masks], bool)
        boxes = rle.bounding_boxes(rle.encode(masks)).astype(np.float32)
        # A mask that needed no change is kept rather than one that became like it.
        keep = suppress(boxes, untouched.astype(float), options.nms_threshold)
        masks, scores = masks[keep], scores[keep]
    order = np.argsort(-scores, kind="stable")
    return Instances(masks[order], scores[order])


def _grid(shape: tuple[int, int], side: int, batch: int) -> Iterator[NDArray[np.float64]]:
    """Points in the middle of side x side cells of an image, some at a time."""
    steps = (np.arange(side) + 0.5) / side
    rows, columns = np.meshgrid(steps * shape[0], steps * shape[1], indexing="ij")
    points = np.stack([rows.ravel(), columns.ravel()], axis=1)
    for start in range(0, len(points), batch):
        yield points[start : start + batch]


def _masks_at(
    points: NDArray[np.float64],
    embedded: EmbeddedImage,
    window: tuple[slice, slice],
    shape: tuple[int, int],
    options: Everything,
) -> _Found:
    """Masks of clicks on a crop that pass all tests."""
    logits, ious = embedded.click_each(points)
    logits, ious = logits.flatten(0, 1), ious.flatten()
    likely = ious > options.iou_threshold
    logits, ious = logits[likely], ious[likely]
    step = max(1, PIXELS_AT_ONCE // (embedded.shape[0] * embedded.shape[1]))
    parts = []
    for start in range(0, len(logits), step):
        some = slice(start, start + step)
        masks, stable = _stable_masks(embedded, logits[some], options)
        scores = ious[some].numpy()[stable]
        whole = np.zeros((len(masks), *shape), bool)
        whole[:, window[0], window[1]] = masks
        runs = rle.encode(whole)
        boxes = rle.bounding_boxes(runs).astype(np.float32)
        part = _Found(runs, scores, boxes)
        parts.append(part[~_cut_off(boxes, window, shape)])
    return _Found.join(shape, parts)


def _stable_masks(
    embedded: EmbeddedImage, logits: Tensor, options: Everything
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Masks (n, H, W) that hardly depend on the threshold, and which ones of all these are."""
    with torch.inference_mode():
        large = embedded.frame.to_image(logits)
        sure = (large > options.stability_offset).flatten(1).sum(1)
        possible = (large > -options.stability_offset).flatten(1).sum(1)
        masks = large > 0
        stable = sure >= options.stability_threshold * possible
        stable &= masks.flatten(1).any(1)
        return masks[stable].numpy(), stable.numpy()


def _cut_off(
    boxes: NDArray[np.float32], window: tuple[slice, slice], shape: tuple[int, int]
) -> NDArray[np.bool_]:
    """Tell which boxes end at the edge of a crop that is not the edge of the image."""
    rows, columns = window
    crop = np.array([rows.start, columns.start, rows.stop, columns.stop])
    whole = np.array([0, 0, *shape])
    at_crop = np.abs(boxes - crop) <= NEAR_EDGE
    at_image = np.abs(boxes - whole) <= NEAR_EDGE
    return (at_crop & ~at_image).any(axis=1)


def crop_windows(
    shape: tuple[int, int], n_layers: int, overlap: float
) -> list[tuple[int, tuple[slice, slice]]]:
    """Cut an image into overlapping crops, in finer and finer layers.

    Parameters
    ----------
    shape : tuple of int
        Height and width of the image.
    n_layers : int
        Besides layer 0, which is the whole image.
    overlap : float
        Of crops of layer 1, as a share of the shorter side.

    Returns
    -------
    list of (int, (slice, slice))
        Layer, rows and columns. Layer i has 2**i x 2**i crops, and fewer where the image has
        not as many pixels.
    """
    windows = [(0, (slice(0, shape[0]), slice(0, shape[1])))]
    for layer in range(1, n_layers + 1):
        n = 2**layer
        shared = int(overlap * min(shape) * 2 / n)
        axes = []
        for size in shape:
            length = ceil((shared * (n - 1) + size) / n)
            starts = [i * (length - shared) for i in range(n)]
            axes.append([slice(s, min(s + length, size)) for s in starts if s < size])
        windows += [(layer, (rows, columns)) for rows in axes[0] for columns in axes[1]]
    return windows


def suppress(boxes: NDArray, scores: NDArray, threshold: float) -> NDArray[np.int64]:
    """Keep the best of boxes that overlap much: non-maximum suppression.

    Parameters
    ----------
    boxes : (N, 4) float
        As row0, col0, row1, col1.
    scores : (N,) float
    threshold : float
        A box is dropped if its IoU with a better one that is kept is above it.

    Returns
    -------
    (K,) int64
        Indices of those kept, best first; of equal scores the earlier is better.
    """
    corners = torch.from_numpy(np.asarray(boxes, np.float32))
    return nms(corners, torch.from_numpy(np.asarray(scores)), threshold).numpy()


def remove_small_parts(mask: NDArray[np.bool_], min_area: int) -> bool:
    """Fill small holes of a mask, then remove its small separate parts.

    Parameters
    ----------
    mask : (H, W) bool
        Changed in place. Its largest part stays, however small it is.
    min_area : int
        In pixels; what has fewer is small. Pixels that touch at a corner are connected.

    Returns
    -------
    bool
        Whether there was nothing to change.
    """
    eight = np.ones((3, 3), bool)
    before = mask.copy()
    holes, _ = ndimage.label(~mask, eight)
    area = np.bincount(holes.ravel())
    area[0] = min_area  # the mask itself
    mask |= (area < min_area)[holes]
    parts, n = ndimage.label(mask, eight)
    if n:
        area = np.bincount(parts.ravel())
        area[0] = 0
        stays = area >= min_area
        stays[area.argmax()] = True
        stays[0] = False
        mask &= stays[parts]
    return bool((mask == before).all())
