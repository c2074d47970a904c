"""The most probable class of each pixel, from scores on a coarser grid."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from segalgos.parallel import map_strips

__all__ = ["class_map"]

#: Rows of pixels that are computed by one thread.
STRIP = 32


def class_map(
    scores: Tensor, extent: tuple[int, int], inside: tuple[slice, slice]
) -> NDArray[np.integer]:
    """Find the class of the largest score of each pixel.

    Parameters
    ----------
    scores : (K, h, w) Tensor
        On a grid that is interpolated bilinearly to the pixels, as by
        `torch.nn.functional.interpolate`.
    extent : tuple of int
        Height and width in pixels of what the grid spans.
    inside : tuple of slice
        Rows and columns that are asked for.

    Returns
    -------
    (H, W) ndarray of int
        Indices of classes; the first of equal ones.

    Notes
    -----
    A class that has the largest score in all four cells around a pixel also has it after
    interpolation, which is a mean with weights that are not negative. Scores are interpolated
    only where the four differ, and never stored: for 150 classes, those of 512 x 512 pixels
    would take 157 MB. O(h w K + H W) where cells mostly agree, O(H W K) at worst.
    """
    if scores.device.type != "cpu" or scores.dtype != torch.float32:
        full = F.interpolate(scores[None].float(), tuple(extent), mode="bilinear")[0]
        return full[:, inside[0], inside[1]].argmax(dim=0).cpu().numpy()
    grid = scores.detach().permute(1, 2, 0).contiguous().numpy()  # (h, w, K)
    cells = np.empty(grid.shape[:2], np.int32)
    map_strips(lambda start, stop: _largest(grid[start:stop], cells[start:stop]), len(grid), STRIP)
    if tuple(extent) == cells.shape:
        return cells[inside]
    rows, columns = (
        _neighbours(n, size, part) for n, size, part in zip(grid.shape, extent, inside)
    )
    found = np.empty((len(rows[0]), len(columns[0])), np.int32)

    def fill(start: int, stop: int) -> None:
        part = tuple(values[start:stop] for values in rows)
        _interpolated(grid, cells, part, columns, found[start:stop])

    map_strips(fill, len(found), STRIP)
    return found


def _neighbours(n_cells: int, size: int, part: slice) -> tuple[NDArray, NDArray, NDArray]:
    """Cell before and after each pixel of a line, and the weight of the one after."""
    start, stop, _ = part.indices(size)
    at = (np.arange(start, stop, dtype=np.float32) + np.float32(0.5)) * np.float32(n_cells / size)
    at = np.maximum(at - np.float32(0.5), 0)
    before = np.minimum(at.astype(np.int64), n_cells - 1)
    after = np.minimum(before + 1, n_cells - 1)
    return before, after, at - before.astype(np.float32)


@njit(nogil=True, cache=True)
def _largest(grid, cells):
    height, width, n_classes = grid.shape
    for i in range(height):
        for j in range(width):
            best = 0
            for k in range(1, n_classes):
                if grid[i, j, k] > grid[i, j, best]:
                    best = k
            cells[i, j] = best


@njit(nogil=True, cache=True)
def _interpolated(grid, cells, rows, columns, found):
    n_classes = grid.shape[2]
    above, below, weights_below = rows
    left, right, weights_right = columns
    one = np.float32(1)
    for i in range(len(above)):
        a, b, down = above[i], below[i], weights_below[i]
        for j in range(len(left)):
            c, d, across = left[j], right[j], weights_right[j]
            best = cells[a, c]
            if cells[a, d] == best and cells[b, c] == best and cells[b, d] == best:
                found[i, j] = best
                continue
            largest = -np.float32(np.inf)
            for k in range(n_classes):
                upper = (one - across) * grid[a, c, k] + across * grid[a, d, k]
                lower = (one - across) * grid[b, c, k] + across * grid[b, d, k]
                score = (one - down) * upper + down * lower
                if score > largest:
                    best, largest = k, score
            found[i, j] = best
