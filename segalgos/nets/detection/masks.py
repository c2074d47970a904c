"""From masks of few cells to masks of the image."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from segalgos.parallel import map_items

__all__ = ["bilinear_source", "enlarge_masks", "paste_masks"]


def paste_masks(
    masks: NDArray[np.float32],
    boxes: NDArray[np.float32],
    size: tuple[int, int],
    threshold: float = 0.5,
) -> NDArray[np.bool_]:
    """Interpolate masks to their boxes, and draw them where they are above a threshold.

    Parameters
    ----------
    masks : (n, m, m) float32
        Probabilities within the box.
    boxes : (n, 4) float32
        Corners x0, y0, x1, y1 in pixels of the image; may reach beyond it.
    size : tuple of int
        Height and width of the image.
    threshold : float, default=0.5

    Returns
    -------
    (n, H, W) bool

    Notes
    -----
    As in the reference, a mask is first given a border of zeros, its box enlarged by as much
    and its corners cut to whole pixels; pixels are interpolated bilinearly.

    O(pixels of the boxes) time besides clearing the result.
    """
    n, m = len(masks), masks.shape[-1]
    pasted = np.zeros((n, *size), np.bool_)
    padded = np.pad(masks, ((0, 0), (1, 1), (1, 1)))
    boxes = boxes.astype(np.float32)
    centre = (boxes[:, :2] + boxes[:, 2:]) * np.float32(0.5)
    half = (boxes[:, 2:] - boxes[:, :2]) * np.float32(0.5) * np.float32((m + 2) / m)
    corners = np.concatenate([centre - half, centre + half], axis=1).astype(np.int64)

    def draw(i: int) -> None:
        _paste(padded[i], corners[i], np.float32(threshold), pasted[i])

    map_items(draw, range(n))
    return pasted


def enlarge_masks(
    masks: NDArray[np.float32], size: tuple[int, int], threshold: float = 0.5
) -> NDArray[np.bool_]:
    """Interpolate masks of a whole image, and draw them where they are above a threshold.

    Parameters
    ----------
    masks : (n, h, w) float32
        Probabilities; zero wherever the object is not looked for.
    size : tuple of int
        Height and width of the image.
    threshold : float, default=0.5

    Returns
    -------
    (n, H, W) bool

    Notes
    -----
    Bilinear, as ``torch.nn.functional.interpolate``. O(pixels of the boxes that hold what is
    not zero) time besides reading the masks and clearing the result.
    """
    drawn = np.zeros((len(masks), *size), np.bool_)

    def draw(i: int) -> None:
        rows, columns = (np.flatnonzero(masks[i].any(axis=axis)) for axis in (1, 0))
        if len(rows):
            box = np.array([rows[0], columns[0], rows[-1], columns[-1]])
            _enlarge(masks[i], box, np.float32(threshold), drawn[i])

    map_items(draw, range(len(masks)))
    return drawn


@njit(nogil=True, cache=True)
def bilinear_source(position, n_out, n_in):
    """Where a pixel of one mask lies in another: two cells and the second's weight.

    Parameters
    ----------
    position : int
        Of the pixel, from 0 to ``n_out - 1``.
    n_out, n_in : int
        Sizes of the one and of the other.

    Returns
    -------
    first, second : int
    weight : float32
    """
    at = (np.float32(position) + np.float32(0.5)) * (np.float32(n_in) / np.float32(n_out))
    at = max(at - np.float32(0.5), np.float32(0))
    first = min(int(at), n_in - 1)
    return first, min(first + 1, n_in - 1), at - np.float32(first)


@njit(nogil=True, cache=True)
def _paste(mask, box, threshold, pasted):
    height, width = pasted.shape
    m = mask.shape[0]
    x0, y0 = box[0], box[1]
    n_columns, n_rows = max(box[2] - x0 + 1, 1), max(box[3] - y0 + 1, 1)
    one = np.float32(1)
    first_column, stop_column = max(x0, 0), min(x0 + n_columns, width)
    left = np.empty(max(stop_column - first_column, 0), np.int64)
    right = np.empty(len(left), np.int64)
    share = np.empty(len(left), np.float32)
    for j in range(len(left)):
        left[j], right[j], share[j] = bilinear_source(first_column + j - x0, n_columns, m)
    for row in range(max(y0, 0), min(y0 + n_rows, height)):
        top, bottom, down = bilinear_source(row - y0, n_rows, m)
        for j in range(len(left)):
            above = mask[top, left[j]] * (one - share[j]) + mask[top, right[j]] * share[j]
            below = mask[bottom, left[j]] * (one - share[j]) + mask[bottom, right[j]] * share[j]
            pasted[row, first_column + j] = above * (one - down) + below * down > threshold


@njit(nogil=True, cache=True)
def _enlarge(mask, box, threshold, drawn):
    """Draw what of a mask lies in a box: first row and column, last row and column."""
    height, width = drawn.shape
    n_rows, n_columns = mask.shape
    one = np.float32(1)
    left = np.empty(width, np.int64)
    right = np.empty(width, np.int64)
    share = np.empty(width, np.float32)
    for j in range(width):
        left[j], right[j], share[j] = bilinear_source(j, width, n_columns)
    start, stop = 0, width
    while start < width and right[start] < box[1]:
        start += 1
    while stop > start and left[stop - 1] > box[3]:
        stop -= 1
    for i in range(height):
        top, bottom, down = bilinear_source(i, height, n_rows)
        if bottom < box[0] or top > box[2]:
            continue
        for j in range(start, stop):
            above = mask[top, left[j]] * (one - share[j]) + mask[top, right[j]] * share[j]
            below = mask[bottom, left[j]] * (one - share[j]) + mask[bottom, right[j]] * share[j]
            drawn[i, j] = above * (one - down) + below * down > threshold
