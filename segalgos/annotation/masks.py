"""Masks as runs, changed within a window of the image, so that large images cost little.

Runs are those of `segalgos.rle`: lengths down the columns, background first.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from segalgos import rle
from segalgos.polygons import loops

__all__ = [
    "Box",
    "box_of",
    "outline_of",
    "runs_of_window",
    "stroke_box",
    "stroke_mask",
    "subtract",
    "union",
    "window_of",
]

#: Half-open: row0, col0, row1, col1.
Box = tuple[int, int, int, int]

# Outlines of more vertices are thinned: a page draws so many without delay.
MAX_VERTICES = 120_000
# Pixels of a mask's box that are traced; a larger box is thinned at once.
MAX_TRACED = 8_000_000


@njit(nogil=True, cache=True)
def _draw_window(counts, height, row0, col0, mask):
    """Draw the part of runs that lies in a window on a mask (h, w) of False."""
    rows, cols = mask.shape
    first, last = col0 * height, (col0 + cols) * height
    at = 0
    for r in range(len(counts)):
        end = at + counts[r]
        if r % 2 and end > first:
            if at >= last:
                break
            start, stop = max(at, first), min(end, last)
            while start < stop:
                col, row = start // height, start % height
                below = min(stop - start, height - row)  # of this run in this column
                for i in range(max(row, row0), min(row + below, row0 + rows)):
                    mask[i - row0, col - col0] = True
                start += below
        at = end


@njit(nogil=True, cache=True)
def _draw_stroke(points, radius, mask):
    """Mark pixels whose centre is within `radius` of a line through points (n, 2)."""
    height, width = mask.shape
    square = radius * radius
    for k in range(len(points)):
        before = max(0, k - 1)
        r0, c0, r1, c1 = points[before, 0], points[before, 1], points[k, 0], points[k, 1]
        dr, dc = r1 - r0, c1 - c0
        length = dr * dr + dc * dc
        top, bottom = min(r0, r1) - radius, max(r0, r1) + radius
        left, right = min(c0, c1) - radius, max(c0, c1) + radius
        for i in range(max(0, int(top)), min(height, int(bottom) + 2)):
            for j in range(max(0, int(left)), min(width, int(right) + 2)):
                y, x = i + 0.5 - r0, j + 0.5 - c0
                t = 0.0
                if length > 0:
                    t = min(1.0, max(0.0, (y * dr + x * dc) / length))
                y, x = y - t * dr, x - t * dc
                if y * y + x * x <= square:
                    mask[i, j] = True


def window_of(counts: NDArray[np.int64], size: tuple[int, int], box: Box) -> NDArray[np.bool_]:
    """Draw what a window of the image holds of a mask.

    Parameters
    ----------
    counts : (n,) int64
    size : tuple of int
        Height and width of the image.
    box : tuple of int
        The window, within the image.

    Returns
    -------
    (h, w) bool

    Notes
    -----
    O(runs + pixels of the window).
    """
    row0, col0, row1, col1 = box
    mask = np.zeros((row1 - row0, col1 - col0), bool)
    _draw_window(counts, size[0], row0, col0, mask)
    return mask


def runs_of_window(mask: NDArray[np.bool_], size: tuple[int, int], box: Box) -> NDArray[np.int64]:
    """Find the runs of a mask that is empty outside of a window.

    Parameters
    ----------
    mask : (h, w) bool
        What the window holds.
    size : tuple of int
        Height and width of the image.
    box : tuple of int

    Returns
    -------
    (n,) int64

    Notes
    -----
    O(pixels of the window).
    """
    height, n_pixels = size[0], size[0] * size[1]
    columns = np.zeros((mask.shape[1], mask.shape[0] + 2), np.int8)
    columns[:, 1:-1] = mask.T
    steps = np.diff(columns, axis=1)
    begins, ends = (
        (box[1] + cols) * height + box[0] + rows
        for cols, rows in (np.nonzero(steps == 1), np.nonzero(steps == -1))
    )
    apart = begins[1:] != ends[:-1]  # a run goes on from the foot of a column to the next
    begins = begins[np.append(True, apart)] if len(begins) else begins
    ends = ends[np.append(apart, True)] if len(ends) else ends
    edges = np.stack([begins, ends], axis=1).ravel()
    counts = np.diff(edges, prepend=0, append=n_pixels)
    # The last run may be empty: codes leave it out.
    return (counts[:-1] if len(counts) > 1 and counts[-1] == 0 else counts).astype(np.int64)


def union(
    one: NDArray[np.int64], other: NDArray[np.int64], size: tuple[int, int]
) -> NDArray[np.int64]:
    """Join two masks.

    Parameters
    ----------
    one, other : (n,) int64
    size : tuple of int

    Returns
    -------
    (n,) int64
    """
    return rle.merge(rle.Runs.join(size, [one, other])).counts


def subtract(
    one: NDArray[np.int64], other: NDArray[np.int64], size: tuple[int, int]
) -> NDArray[np.int64]:
    """Take a mask away from another.

    Parameters
    ----------
    one, other : (n,) int64
    size : tuple of int

    Returns
    -------
    (n,) int64
    """
    beyond = other[1:] if len(other) and other[0] == 0 else np.concatenate([[0], other])
    return rle.merge(rle.Runs.join(size, [one, beyond.astype(np.int64)]), intersect=True).counts


def box_of(counts: NDArray[np.int64], size: tuple[int, int]) -> Box:
    """Find the box around a mask.

    Parameters
    ----------
    counts : (n,) int64
    size : tuple of int

    Returns
    -------
    tuple of int
        Zeros for an empty mask.
    """
    return tuple(rle.bounding_boxes(rle.Runs.join(size, [counts]))[0].tolist())


def stroke_box(points: NDArray[np.float64], radius: float, size: tuple[int, int]) -> Box:
    """Find the part of the image that a stroke can touch.

    Parameters
    ----------
    points : (n, 2) float64
        Rows and columns; the centre of the first pixel is at 0.5, 0.5.
    radius : float
    size : tuple of int

    Returns
    -------
    tuple of int
        Without area where it lies beyond the image.
    """
    low = np.floor(points.min(axis=0) - radius)
    high = np.ceil(points.max(axis=0) + radius)
    row0, col0 = np.clip(low, 0, size).astype(int).tolist()
    row1, col1 = np.clip(high, 0, size).astype(int).tolist()
    return row0, col0, row1, col1


def stroke_mask(
    points: NDArray[np.float64], radius: float, box: Box, scale: float = 1.0
) -> NDArray[np.bool_]:
    """Draw a stroke with round ends in a window.

    Parameters
    ----------
    points : (n, 2) float64
        Rows and columns of the image.
    radius : float
        Half the width; at least the pixels that the line crosses are drawn.
    box : tuple of int
    scale : float, default=1.0
        Side of a drawn pixel, in pixels of the image.

    Returns
    -------
    (h, w) bool
    """
    row0, col0, row1, col1 = box
    shape = int(np.ceil((row1 - row0) / scale)), int(np.ceil((col1 - col0) / scale))
    mask = np.zeros(shape, bool)
    # No less than half a diagonal: a click on a coarse copy marks a pixel all the same.
    _draw_stroke((points - (row0, col0)) / scale, max(radius / scale, 0.71), mask)
    return mask


def outline_of(counts: NDArray[np.int64], size: tuple[int, int]) -> list[list[int]]:
    """Find the outlines of a mask, for a page to draw by the even-odd rule.

    Parameters
    ----------
    counts : (n,) int64
    size : tuple of int

    Returns
    -------
    list of list of int
        For each loop x0, y0, x1, y1, ... along the edges of pixels.

    Notes
    -----
    A mask of more than `MAX_VERTICES`, or of a box of more than `MAX_TRACED`, is drawn from its
    every 2nd, 4th ... row and column. That is for the eye alone: the mask stays as it is.
    """
    box = box_of(counts, size)
    if box[0] == box[2]:
        return []
    mask, step = window_of(counts, size, box), 1
    while mask.size > MAX_TRACED * step**2:
        step *= 2
    found = loops(mask[::step, ::step])
    while sum(map(len, found)) > MAX_VERTICES:
        step *= 2
        found = loops(mask[::step, ::step])
    return [(loop * step + box[:2])[:, ::-1].ravel().tolist() for loop in found]
