"""RoIAlign [1]_: a map of fixed size for every box, interpolated without rounding.

References
----------
.. [1] K. He, G. Gkioxari, P. Dollar and R. Girshick, "Mask R-CNN", ICCV 2017,
   arXiv:1703.06870.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from segalgos import checks
from segalgos.parallel import map_items

__all__ = ["roi_align"]

# Boxes that one thread takes at once.
BOXES_PER_ITEM = 32


def roi_align(
    features: Tensor,
    boxes: Tensor,
    images: Tensor,
    size: int,
    *,
    scale: float,
    n_samples: int = 2,
    aligned: bool = False,
) -> Tensor:
    """Pool boxes to maps of the same size by bilinear interpolation.

    Parameters
    ----------
    features : (N, C, H, W) float Tensor
    boxes : (R, 4) float Tensor
        Corners x0, y0, x1, y1 in pixels of the image. No gradient is computed for them.
    images : (R,) int Tensor
        Which of the N maps each box lies in.
    size : int
        Height and width of the result.
    scale : float
        Cells of the map per pixel of the image.
    n_samples : int, default=2
        Each bin is the mean of so many samples in a row and in a column; 0 takes about one for
        each cell.
    aligned : bool, default=False
        Shift by half a cell, so that cells lie at their centres. False is how published
        weights of Mask R-CNN were trained; a box is then at least one cell wide and high.

    Returns
    -------
    (R, C, size, size) Tensor
        In channels-last memory on the CPU.

    Raises
    ------
    ValueError
        If shapes do not fit, a box is NaN or infinite or an image does not exist.

    Notes
    -----
    A sample more than a cell outside the map is 0, nearer ones are taken at the map's border.

    O(R * C * size**2 * n_samples**2) time. A sample is a product of weights of rows and of
    columns, and so is their mean: every bin has two short lists of cells and weights, made
    once for all channels. On a CPU channels are then summed one after another in memory; on
    other devices the same sums are tensor operations.
    """
    _check(features, boxes, images, size, n_samples)
    if not len(boxes):
        return features[:0, :, :1, :1].expand(0, -1, size, size)
    if features.device.type == "cpu" and features.dtype == torch.float32:
        return _RoIAlign.apply(features, boxes, images, size, scale, n_samples, aligned)
    return _by_tensors(features, boxes, images, size, scale, n_samples, aligned)


def _check(features: Tensor, boxes: Tensor, images: Tensor, size: int, n_samples: int) -> None:
    checks.check_int("roi_align", "size", size, low=1)
    checks.check_int("roi_align", "n_samples", n_samples, low=0)
    if features.ndim != 4 or boxes.shape != (len(boxes), 4) or images.shape != (len(boxes),):
        raise ValueError(
            f"roi_align: features {tuple(features.shape)}, boxes {tuple(boxes.shape)} and images "
            f"{tuple(images.shape)} do not fit: expected (N, C, H, W), (R, 4) and (R,)."
        )
    if not torch.isfinite(boxes).all():
        raise ValueError("roi_align: boxes hold NaN or infinite values: expected pixels.")
    if len(images) and not 0 <= int(images.min()) <= int(images.max()) < len(features):
        raise ValueError(
            f"roi_align: images holds {int(images.min())} to {int(images.max())}, there are "
            f"{len(features)} maps."
        )


class _RoIAlign(torch.autograd.Function):
    """On the CPU, with its gradient for the features."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        boxes: Tensor,
        images: Tensor,
        size: int,
        scale: float,
        n_samples: int,
        aligned: bool,
    ) -> Tensor:
        """Pool."""
        corners = np.ascontiguousarray(boxes.detach().float().numpy())
        owners = np.ascontiguousarray(images.numpy(), dtype=np.int64)
        ctx.settings = corners, owners, size, np.float32(scale), n_samples, aligned
        ctx.shape = features.shape
        source = _channels_last(features.detach())
        pooled = np.empty((len(corners), size, size, features.shape[1]), np.float32)

        def fill(first: int) -> None:
            part = slice(first, first + BOXES_PER_ITEM)
            _pool(source, corners[part], owners[part], *ctx.settings[3:], pooled[part])

        map_items(fill, range(0, len(corners), BOXES_PER_ITEM))
        return torch.from_numpy(pooled).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Give every cell its share."""
        n, c, height, width = ctx.shape
        corners, owners, _, *settings = ctx.settings
        back = np.zeros((n, height, width, c), np.float32)
        _spread(_channels_last(gradient), corners, owners, *settings, back)
        return torch.from_numpy(back).permute(0, 3, 1, 2), *[None] * 6


def _channels_last(x: Tensor) -> np.ndarray:
    """As a C-contiguous (N, H, W, C) array, copied only if it is not laid out so."""
    return np.ascontiguousarray(x.permute(0, 2, 3, 1).numpy())


@njit(nogil=True, cache=True)
def _weigh(low, high, scale, aligned, size, n_samples, length):
    """List the cells along one axis that each bin of a box averages, with their weights.

    Bin b has the entries 0 to counts[b] of row b.
    """
    half = np.float32(0.5)
    low, high = low * scale, high * scale
    if aligned:
        low, high = low - half, high - half
    else:
        high = low + max(high - low, np.float32(1))
    bin_size = (high - low) / np.float32(size)
    n = n_samples if n_samples > 0 else int(np.ceil(bin_size))
    cells = np.empty((size, 2 * n), np.int64)
    weights = np.empty((size, 2 * n), np.float32)
    counts = np.zeros(size, np.int64)
    for b in range(size):
        count = 0
        for s in range(n):
            at = low + np.float32(b) * bin_size + (np.float32(s) + half) * bin_size / np.float32(n)
            if at < np.float32(-1) or at > np.float32(length):
                continue
            at = max(at, np.float32(0))
            cell = min(int(at), length - 1)
            rest = at - np.float32(cell) if cell < length - 1 else np.float32(0)
            for k in range(2):
                weight = (rest if k else np.float32(1) - rest) / np.float32(n)
                if weight == 0:
                    continue
                # Samples of a small box fall between the same two cells.
                same = count - 1
                while same >= 0 and cells[b, same] != cell + k:
                    same -= 1
                if same >= 0:
                    weights[b, same] += weight
                else:
                    cells[b, count], weights[b, count] = cell + k, weight
                    count += 1
        counts[b] = count
    return cells, weights, counts


@njit(nogil=True, cache=True)
def _pool(features, boxes, images, scale, n_samples, aligned, pooled):
    """Average what lies in each bin: (N, H, W, C) to (R, size, size, C)."""
    _, height, width, n_channels = features.shape
    size = pooled.shape[1]
    for r in range(len(boxes)):
        x0, y0, x1, y1 = boxes[r]
        rows, row_weights, n_rows = _weigh(y0, y1, scale, aligned, size, n_samples, height)
        columns, column_weights, n_columns = _weigh(x0, x1, scale, aligned, size, n_samples, width)
        for i in range(size):
            for j in range(size):
                target = pooled[r, i, j]
                target[:] = 0
                for a in range(n_rows[i]):
                    for b in range(n_columns[j]):
                        source = features[images[r], rows[i, a], columns[j, b]]
                        weight = row_weights[i, a] * column_weights[j, b]
                        for c in range(n_channels):
                            target[c] += weight * source[c]


@njit(nogil=True, cache=True)
def _spread(gradient, boxes, images, scale, n_samples, aligned, back):
    """Add to every cell its share of the gradient of each bin: the transpose of `_pool`."""
    _, height, width, n_channels = back.shape
    size = gradient.shape[1]
    for r in range(len(boxes)):
        x0, y0, x1, y1 = boxes[r]
        rows, row_weights, n_rows = _weigh(y0, y1, scale, aligned, size, n_samples, height)
        columns, column_weights, n_columns = _weigh(x0, x1, scale, aligned, size, n_samples, width)
        for i in range(size):
            for j in range(size):
                source = gradient[r, i, j]
                for a in range(n_rows[i]):
                    for b in range(n_columns[j]):
                        target = back[images[r], rows[i, a], columns[j, b]]
                        weight = row_weights[i, a] * column_weights[j, b]
                        for c in range(n_channels):
                            target[c] += weight * source[c]


def _by_tensors(
    features: Tensor,
    boxes: Tensor,
    images: Tensor,
    size: int,
    scale: float,
    n_samples: int,
    aligned: bool,
) -> Tensor:
    """Pool by tensor operations, on any device and in any precision."""
    corners = boxes.detach().to(features.dtype) * scale - (0.5 if aligned else 0.0)
    low, extent = corners[:, :2], corners[:, 2:] - corners[:, :2]
    if not aligned:
        extent = extent.clamp(min=1)
    counts = torch.full_like(extent, n_samples) if n_samples else (extent / size).ceil()
    pooled = features.new_zeros((len(boxes), features.shape[1], size, size))
    for n_x, n_y in torch.unique(counts, dim=0).long().tolist():
        if n_x == 0 or n_y == 0:  # boxes without area average nothing
            continue
        here = (counts == counts.new_tensor([n_x, n_y])).all(dim=1)
        columns, column_weights = _cells(
            low[here, 0], extent[here, 0], size, n_x, features.shape[3]
        )
        rows, row_weights = _cells(low[here, 1], extent[here, 1], size, n_y, features.shape[2])
        owner = images[here, None, None]
        samples = sum(
            (row_weights[a][:, :, None] * column_weights[b][:, None, :])[..., None]
            * features[owner, :, rows[a][:, :, None], columns[b][:, None, :]]
            for a in range(2)
            for b in range(2)
        )  # (r, size * n_y, size * n_x, C)
        bins = samples.unflatten(2, (size, n_x)).unflatten(1, (size, n_y))
        pooled[here] = bins.mean(dim=(2, 4)).permute(0, 3, 1, 2)
    return pooled


def _cells(low: Tensor, extent: Tensor, size: int, n: int, length: int) -> tuple[list, list]:
    """Two cells and their weights for each sample along an axis, both (r, size * n)."""
    steps = (torch.arange(size * n, device=low.device) + 0.5) / n
    at = low[:, None] + steps.to(low.dtype) * extent[:, None] / size
    inside = (at >= -1) & (at <= length)
    at = at.clamp(0, length - 1)
    first = at.floor()
    cells = [first.long(), (first.long() + 1).clamp(max=length - 1)]
    return cells, [(1 - at + first) * inside, (at - first) * inside]
