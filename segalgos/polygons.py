"""Masks as polygons along the edges of their pixels, and back: no pixel is lost either way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from segalgos import rle

__all__ = ["Outline", "chain", "fill", "loops", "trace"]


class Outline(NamedTuple):
    """The outline of one mask.

    Parameters
    ----------
    polygons : tuple of (n, 2) int64
        Rows and columns of corners of pixels, clockwise, the first one not repeated.
    n_parts : int
        How many parts the mask has; pixels that share only a corner are apart.
    n_holes : int
        How many holes there are in them.
    """

    polygons: tuple[NDArray[np.int64], ...]
    n_parts: int
    n_holes: int


@njit(nogil=True, cache=True)
def _draw_crop(runs, height, row0, col0, mask):
    """Set the pixels of runs in a window of their image."""
    at = 0
    for r in range(len(runs)):
        if r % 2:
            for pixel in range(at, at + runs[r]):
                mask[pixel % height - row0, pixel // height - col0] = True
        at += runs[r]


@njit(nogil=True, cache=True)
def _trace(mask):
    """Walk along all outlines of a mask, which stays on the right, corner by corner.

    Returns
    -------
    corners : (n, 2) int64
        Of all loops; each loop begins at the left end of its first upper edge.
    starts : (n_loops + 1,) int64
    upper : (H, W) int64
        Where the upper edge of a pixel begins in `corners`, -1 if it is on no outline.
    """
    height, width = mask.shape
    upper = np.full((height, width), -1, np.int64)
    corners = np.empty((1024, 2), np.int64)
    starts = [0]
    n = 0
    for row in range(height):
        for column in range(width):
            if not mask[row, column] or (row > 0 and mask[row - 1, column]):
                continue
            if upper[row, column] >= 0:
                continue
            i, j, di, dj = row, column, 0, 1
            while True:
                if n == len(corners):
                    more = np.empty((2 * n, 2), np.int64)
                    more[:n] = corners
                    corners = more
                corners[n, 0], corners[n, 1] = i, j
                if dj == 1:
                    upper[i, j] = n
                n += 1
                i, j = i + di, j + dj
                # The two pixels ahead: on the right hand, where the mask is, and on the left.
                right_i, right_j = i + (di + dj - 1) // 2, j + (dj - di - 1) // 2
                left_i, left_j = i + (di - dj - 1) // 2, j + (dj + di - 1) // 2
                right = 0 <= right_i < height and 0 <= right_j < width and mask[right_i, right_j]
                left = 0 <= left_i < height and 0 <= left_j < width and mask[left_i, left_j]
                if not right:
                    di, dj = dj, -di
                elif left:
                    di, dj = -dj, di
                if i == row and j == column and di == 0 and dj == 1:
                    break
            starts.append(n)
    return corners[:n], np.array(starts), upper


@njit(nogil=True, cache=True)
def _outline(mask, join):
    """Polygons of a mask; see `trace`.

    Loops are rings of nodes. Two rings become one when a node of each is doubled and the
    doubles change places, which draws the way from one to the other there and back.

    Returns
    -------
    vertices : (n, 2) int64
    ends : (n_polygons,) int64
    n_holes : int
    """
    corners, starts, upper = _trace(mask)
    n, n_loops = len(corners), len(starts) - 1
    nodes = np.empty((n + 2 * n_loops, 2), np.int64)
    nodes[:n] = corners
    following = np.empty(len(nodes), np.int64)
    first, end = np.empty(n_loops, np.int64), np.empty(n_loops, np.int64)  # of the outer loops
    n_parts = 0
    n_nodes = n
    for loop in range(n_loops):
        start, stop = starts[loop], starts[loop + 1]
        for k in range(start, stop):
            following[k] = k + 1
        following[stop - 1] = start
    for loop in range(n_loops):
        start, stop = starts[loop], starts[loop + 1]
        twice_area = 0
        top = start
        for k in range(start, stop):
            after = k + 1 if k + 1 < stop else start
            twice_area += corners[k, 1] * corners[after, 0] - corners[after, 1] * corners[k, 0]
            if corners[k, 0] < corners[top, 0] or (
                corners[k, 0] == corners[top, 0] and corners[k, 1] < corners[top, 1]
            ):
                top = k
        if twice_area > 0:
            first[n_parts], end[n_parts] = start, stop
            n_parts += 1
            continue
        # A hole. Straight up from its first corner lies mask, and then another loop of it.
        row, column = corners[top]
        while row > 0 and mask[row - 1, column]:
            row -= 1
        n_nodes = _splice(nodes, following, n_nodes, upper[row, column], top)
    n_polygons = n_parts
    if join and n_parts > 1:
        for part in range(1, n_parts):
            nearest = first[part - 1]
            least = np.int64(1) << 62
            for k in range(first[part - 1], end[part - 1]):
                distance = (corners[k, 0] - corners[first[part], 0]) ** 2
                distance += (corners[k, 1] - corners[first[part], 1]) ** 2
                if distance < least:
                    nearest, least = k, distance
            n_nodes = _splice(nodes, following, n_nodes, nearest, first[part])
        n_polygons = 1

    vertices = np.empty((n_nodes, 2), np.int64)
    ends = np.empty(n_polygons, np.int64)
    m = 0
    for polygon in range(n_polygons):
        begin = m
        node = first[polygon]
        while True:
            m = _append(vertices, begin, m, nodes[node])
            node = following[node]
            if node == first[polygon]:
                break
        ends[polygon] = m
    return vertices[:m], ends, n_loops - n_parts


@njit(nogil=True, cache=True)
def _splice(nodes, following, n_nodes, one, other):
    one_twin, other_twin = n_nodes, n_nodes + 1
    nodes[one_twin], nodes[other_twin] = nodes[one], nodes[other]
    following[one_twin], following[other_twin] = following[one], following[other]
    following[one], following[other] = other_twin, one_twin
    return n_nodes + 2


@njit(nogil=True, cache=True)
def _append(vertices, begin, m, corner):
    """Add a corner to a polygon, in place of the last one if that lies on a straight way."""
    if m > begin and vertices[m - 1, 0] == corner[0] and vertices[m - 1, 1] == corner[1]:
        return m
    if m > begin + 1:
        before_i = vertices[m - 1, 0] - vertices[m - 2, 0]
        before_j = vertices[m - 1, 1] - vertices[m - 2, 1]
        after_i, after_j = corner[0] - vertices[m - 1, 0], corner[1] - vertices[m - 1, 1]
        turn = before_i * after_j - before_j * after_i
        if turn == 0 and before_i * after_i + before_j * after_j > 0:
            m -= 1
    vertices[m] = corner
    return m + 1


def trace(runs: rle.Runs, *, join: bool = False) -> list[Outline]:
    """Find the outlines of masks along the edges of their pixels.

    Parameters
    ----------
    runs : Runs
        See `segalgos.rle.encode`.
    join : bool, default=False
        Make one polygon of all parts of a mask.

    Returns
    -------
    list of Outline
        One for each mask, without polygons for an empty one.

    Notes
    -----
    A part is one polygon whatever its holes are: it runs along a cut of no width from its outer
    edge, or from a hole above, to the hole, around it, and back. With `join` it runs to the next
    part in the same way. Drawn by counting crossings, as COCO's evaluation and `fill` do, cuts
    vanish and the mask comes back to the pixel. Programs that draw the outline itself, one pixel
    wide, fill the cuts.

    O(pixels of the masks' boxes) time.
    """
    height = runs.size[0]
    outlines = []
    for i, (row0, col0, row1, col1) in enumerate(rle.bounding_boxes(runs)):
        mask = np.zeros((row1 - row0, col1 - col0), bool)
        if mask.size == 0:
            outlines.append(Outline((), 0, 0))
            continue
        counts = runs.counts[runs.starts[i] : runs.starts[i + 1]]
        _draw_crop(counts, height, row0, col0, mask)
        vertices, ends, n_holes = _outline(mask, False)
        n_parts = len(ends)
        if join and n_parts > 1:
            vertices, ends, n_holes = _outline(mask, True)
        vertices += (row0, col0)
        polygons = tuple(np.split(vertices, ends[:-1]))
        outlines.append(Outline(polygons, n_parts, n_holes))
    return outlines


def loops(mask: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """Find the loops along the edges of a mask's pixels, those around holes as well.

    Parameters
    ----------
    mask : (H, W) bool

    Returns
    -------
    list of (n, 2) int64
        Rows and columns of the corners where each loop turns. By the even-odd rule they are the
        mask.

    Notes
    -----
    O(H W) time. Unlike the polygons of `trace` they have no cuts, so they can be drawn as lines.
    """
    corners, starts, _ = _trace(np.ascontiguousarray(mask))
    if len(corners) == 0:
        return []
    before = np.arange(-1, len(corners) - 1)
    before[starts[:-1]] = starts[1:] - 1
    after = np.arange(1, len(corners) + 1)
    after[starts[1:] - 1] = starts[:-1]
    turns = (corners - corners[before] != corners[after] - corners).any(axis=1)
    ends = np.cumsum(turns)[starts[1:] - 1]
    return np.split(corners[turns], ends[:-1])


def fill(polygons: Sequence[ArrayLike], size: tuple[int, int]) -> rle.Runs:
    """Draw polygons as one mask.

    Parameters
    ----------
    polygons : sequence of (n, 2) float
        Rows and columns; the centre of the first pixel is at 0.5, 0.5. May overlap.
    size : tuple of int
        Height and width.

    Returns
    -------
    Runs
        One mask.

    Raises
    ------
    ValueError
        If a polygon has fewer than 3 vertices, a vertex is not finite or far beyond the image;
        names which one.

    See Also
    --------
    segalgos.rle.from_polygons : Draws with x before y, and says how.
    """
    flat = []
    for i, polygon in enumerate(polygons):
        try:
            vertices = np.asarray(polygon, np.float64)
        except (ValueError, TypeError, OverflowError) as error:
            raise ValueError(f"fill: polygons[{i}] cannot be read as numbers: {error}") from error
        if vertices.ndim != 2 or vertices.shape[1] != 2:
            raise ValueError(
                f"fill: polygons[{i}] has shape {vertices.shape}, expected rows and columns (n, 2)."
            )
        flat.append(vertices[:, ::-1].ravel())
    return rle.merge(rle.from_polygons(flat, size))


def chain(polygons: Sequence[NDArray]) -> NDArray:
    """Make one polygon of several, by cuts of no width.

    Parameters
    ----------
    polygons : sequence of (n, 2) float
        That do not overlap.

    Returns
    -------
    (m, 2) float
        From each polygon there is a cut to the first vertex of the next one.

    Raises
    ------
    ValueError
        If there is none.
    """
    if not len(polygons):
        raise ValueError("chain: got no polygon, expected one or more.")
    *others, chained = polygons
    for polygon in reversed(others):
        nearest = int(np.argmin(((polygon - chained[0]) ** 2).sum(axis=1)))
        # There, around the others, back to where the cut began, and on.
        way = (polygon[: nearest + 1], chained, chained[:1], polygon[nearest:])
        chained = np.concatenate(way)
    return chained
