"""Masks as run lengths, in COCO's format [1]_: codes, areas, overlaps, unions, polygons.

A code is a dict ``{"size": [height, width], "counts": ...}``. Its counts are the lengths of runs
down the columns, background first, as a list of integers or packed into text. Everything that
comes in is checked before memory is taken.

References
----------
.. [1] T.-Y. Lin et al., "Microsoft COCO: common objects in context", ECCV 2014,
   arXiv:1405.0312. Polygons are drawn by the rule of its evaluation code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from segalgos.files import MAX_PIXELS

__all__ = [
    "Runs",
    "areas",
    "bounding_boxes",
    "decode",
    "encode",
    "from_polygons",
    "gather",
    "iou",
    "merge",
    "read",
    "read_one",
    "write",
]

#: Vertices may lie beyond their image, by so many times its longer side.
REACH = 10

# Polygons are drawn on a grid this much finer.
FINER = 5

_ERRORS = {
    1: "its text holds characters that no code has",
    2: "its text ends within a number",
    3: "its text holds a number that no image has",
    4: "it has a negative run",
    5: "its runs do not add up to the image's pixels",
}


@dataclass(frozen=True)
class Runs:
    """Codes of several masks of one size, packed.

    Parameters
    ----------
    size : tuple of int
        Height and width.
    counts : (n_runs,) int64
        Runs of all masks, one mask after the other.
    starts : (N + 1,) int64
        ``counts[starts[i]:starts[i + 1]]`` are those of mask i.
    """

    size: tuple[int, int]
    counts: NDArray[np.int64]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    @classmethod
    def join(cls, size: tuple[int, int], parts: Sequence[NDArray[np.int64]]) -> Runs:
        """Pack the runs of several masks.

        Parameters
        ----------
        size : tuple of int
        parts : sequence of (n,) int64

        Returns
        -------
        Runs
        """
        starts = np.zeros(len(parts) + 1, np.int64)
        np.cumsum([len(part) for part in parts], out=starts[1:])
        counts = np.concatenate(parts) if parts else np.empty(0, np.int64)
        return cls(size, counts, starts)


# --- dicts to runs and back ----------------------------------------------------------------


def read(codes: Sequence[dict[str, Any]], size: tuple[int, int] | None = None) -> Runs:
    """Check codes and unpack them.

    Parameters
    ----------
    codes : sequence of dict
        All of one size. Counts may be a list, text or bytes.
    size : tuple of int, optional
        Height and width that all must have; needed if there are none.

    Returns
    -------
    Runs

    Raises
    ------
    ValueError
        If a code is damaged, or its size differs; names which one.
    """
    parts = []
    for i, code in enumerate(codes):
        where = f"rle.read: codes[{i}]"
        found, runs = read_one(code, where)
        if size is None:
            size = found
        if found != tuple(size):
            raise ValueError(f"{where} is for an image of {found}, expected {tuple(size)}.")
        parts.append(runs)
    if size is None:
        raise ValueError("rle.read: no codes and no size: pass size=(height, width).")
    return Runs.join(tuple(size), parts)


def read_one(code: Any, where: str) -> tuple[tuple[int, int], NDArray[np.int64]]:
    """Check a code and unpack it.

    Parameters
    ----------
    code : dict
    where : str
        What errors begin with.

    Returns
    -------
    size : tuple of int
        Height and width.
    runs : (n,) int64

    Raises
    ------
    ValueError
        If it is damaged.
    """
    if not isinstance(code, dict) or "counts" not in code or "size" not in code:
        raise ValueError(f"{where} is no code: expected a dict of 'size' and 'counts'.")
    height, width = _read_size(code["size"], where)
    counts = code["counts"]
    if isinstance(counts, str | bytes):
        try:
            text = counts.encode("ascii") if isinstance(counts, str) else counts
        except UnicodeEncodeError:
            raise ValueError(f"{where} is damaged: {_ERRORS[1]}.") from None
        runs, error = _unpack(np.frombuffer(text, np.uint8))
    else:
        runs, error = _integers(counts, f"{where}['counts']"), 0
    error = error or _check_runs(runs, height * width)
    if error:
        raise ValueError(
            f"{where}, a code of {height} x {width} pixels, is damaged: {_ERRORS[error]}."
        )
    return (height, width), runs


def _read_size(size: Any, where: str) -> tuple[int, int]:
    values = _integers(size, f"{where}['size']")
    if len(values) != 2 or (values < 0).any() or values.prod() > MAX_PIXELS:
        raise ValueError(
            f"{where}['size'] is {size!r}, expected height and width of an image of at most "
            f"{MAX_PIXELS} pixels."
        )
    return int(values[0]), int(values[1])


def _integers(values: Any, what: str) -> NDArray[np.int64]:
    """A flat int64 array of numbers without fractions."""
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{what} cannot be read as integers: {error}") from error
    if array.ndim != 1 or (array.size and array.dtype.kind not in "uif"):
        raise ValueError(f"{what} is {type(values).__name__}, expected a list of integers.")
    # 2 ** 53: above it floats have gaps.
    if not np.isfinite(array).all() or (np.abs(array) > 2.0**53).any():
        raise ValueError(f"{what} holds numbers that are no sizes of runs.")
    if (array != np.trunc(array)).any():
        raise ValueError(f"{what} holds fractions, expected integers.")
    return array.astype(np.int64)


def gather(
    segmentations: Sequence[Any], sizes: Sequence[tuple[int, int]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Read the masks of many objects, whose images may differ in size.

    Parameters
    ----------
    segmentations : sequence of dict or list
        A code, or the polygons of the parts, of each object.
    sizes : sequence of tuple of int
        Height and width of the image of each.

    Returns
    -------
    counts : (n_runs,) int64
    starts : (N + 1,) int64
        As in `Runs`.

    Raises
    ------
    ValueError
        If one is damaged, or its size is another; begins with which one, as ``[3]``.

    Notes
    -----
    Codes that are text, and polygons, are read all at once.
    """
    places: dict[str, list[int]] = {"text": [], "polygons": [], "other": []}
    for i, (segmentation, size) in enumerate(zip(segmentations, sizes)):
        if isinstance(segmentation, list):
            kind = "polygons"
        else:
            plain = isinstance(segmentation, dict) and segmentation.get("size") == list(size)
            kind = "text" if plain and isinstance(segmentation.get("counts"), str) else "other"
        places[kind].append(i)
    together = {"text": _gather_texts, "polygons": _gather_polygons}
    lengths = np.zeros(len(segmentations), np.int64)
    parts = []
    for kind, chosen in places.items():
        if not chosen:
            continue
        some = [segmentations[i] for i in chosen], [sizes[i] for i in chosen]
        found = together[kind](*some) if kind in together else None
        if found is None:  # also where one is damaged: this tells which, and how
            found = _gather_each(*some, chosen)
        lengths[chosen] = np.diff(found[1])
        parts.append((np.array(chosen, np.int64), *found))
    starts = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=starts[1:])
    counts = np.empty(starts[-1], np.int64)
    for chosen, part, part_starts in parts:
        _place_runs(part, part_starts, chosen, counts, starts)
    return counts, starts


def _gather_each(
    segmentations: Sequence[Any], sizes: Sequence[tuple[int, int]], names: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Read masks one by one."""
    parts = []
    for segmentation, size, name in zip(segmentations, sizes, names):
        where = f"[{name}]"
        if isinstance(segmentation, dict):
            found, runs = read_one(segmentation, where)
            if found != tuple(size):
                raise ValueError(f"{where} is for an image of {found}, expected {tuple(size)}.")
        else:
            try:
                runs = merge(from_polygons(segmentation, size)).counts
            except (ValueError, TypeError) as error:
                raise ValueError(f"{where}: {error}") from error
        parts.append(runs)
    joined = Runs.join((0, 0), parts)
    return joined.counts, joined.starts


def _gather_texts(
    codes: Sequence[dict[str, Any]], sizes: Sequence[tuple[int, int]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Unpack texts; None if one is damaged."""
    texts = [code["counts"] for code in codes]
    whole = "".join(texts)
    if not whole.isascii() or any(h < 0 or w < 0 or h * w > MAX_PIXELS for h, w in sizes):
        return None
    ends = np.cumsum([len(text) for text in texts])
    n_pixels = np.array([h * w for h, w in sizes], np.int64)
    counts, starts = _unpack_all(np.frombuffer(whole.encode(), np.uint8), ends, n_pixels)
    return (counts, starts) if len(starts) else None


def _gather_polygons(
    objects: Sequence[list], sizes: Sequence[tuple[int, int]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Draw polygons and join the parts of each object; None if one is damaged."""
    polygons = list(chain.from_iterable(objects))
    try:
        lengths = np.array([len(polygon) for polygon in polygons], np.int64)
        vertices = np.fromiter(chain.from_iterable(polygons), np.float64)
    except (ValueError, TypeError):
        return None
    n_parts = np.array([len(parts) for parts in objects], np.int64)
    shapes = np.array(sizes, np.int64).reshape(-1, 2)
    too_large = (shapes < 0).any() or (shapes.prod(axis=1) > MAX_PIXELS).any()
    if too_large or (lengths < 6).any() or (lengths % 2).any():
        return None
    limits = np.repeat(np.repeat(REACH * np.maximum(shapes.max(axis=1), 1), n_parts), lengths)
    if not (np.abs(vertices) <= limits).all():
        return None
    return _draw_all(vertices.reshape(-1, 2), lengths // 2, n_parts, shapes)


def write(runs: Runs, *, compressed: bool = True) -> list[dict[str, Any]]:
    """Make dicts of runs.

    Parameters
    ----------
    runs : Runs
    compressed : bool, default=True
        Counts packed into text, else as a list.

    Returns
    -------
    list of dict
    """
    codes = []
    for i in range(len(runs)):
        counts = runs.counts[runs.starts[i] : runs.starts[i + 1]]
        packed = _pack(counts).tobytes().decode("ascii") if compressed else counts.tolist()
        codes.append({"size": list(runs.size), "counts": packed})
    return codes


# --- what can be done with runs --------------------------------------------------------------


def encode(masks: ArrayLike) -> Runs:
    """Find the runs of masks.

    Parameters
    ----------
    masks : (N, H, W) bool

    Returns
    -------
    Runs

    Raises
    ------
    ValueError
        If `masks` is not boolean or has no three axes.

    Notes
    -----
    O(N H W).
    """
    masks = np.asarray(masks)
    if masks.ndim != 3 or masks.dtype != bool:
        raise ValueError(
            f"rle.encode: masks is {masks.dtype} of shape {masks.shape}, expected bool (N, H, W)."
        )
    return Runs.join(masks.shape[1:], [_runs_of(mask) for mask in masks])


def decode(runs: Runs) -> NDArray[np.bool_]:
    """Draw masks.

    Parameters
    ----------
    runs : Runs

    Returns
    -------
    (N, H, W) bool
    """
    height, width = runs.size
    masks = np.zeros((len(runs), height, width), bool)
    for i in range(len(runs)):
        _draw(runs.counts[runs.starts[i] : runs.starts[i + 1]], masks[i])
    return masks


def areas(runs: Runs) -> NDArray[np.int64]:
    """Count the pixels of each mask.

    Parameters
    ----------
    runs : Runs

    Returns
    -------
    (N,) int64
    """
    return _areas(runs.counts, runs.starts)


def bounding_boxes(runs: Runs) -> NDArray[np.int64]:
    """Find the boxes around masks.

    Parameters
    ----------
    runs : Runs

    Returns
    -------
    (N, 4) int64
        Rows and columns, half-open: row0, col0, row1, col1. Zeros for an empty mask.
    """
    heights = np.full(len(runs), max(1, runs.size[0]))
    return boxes_of(runs.counts, runs.starts, heights)


def iou(runs: Runs, others: Runs, crowd: ArrayLike | None = None) -> NDArray[np.float64]:
    """Divide intersections by unions, of each mask with each other one.

    Parameters
    ----------
    runs : Runs
        N masks.
    others : Runs
        M masks of the same size.
    crowd : (M,) bool, optional
        Which of `others` stand for a crowd: with those the area of the mask takes the place
        of the union.

    Returns
    -------
    (N, M) float64

    Raises
    ------
    ValueError
        If sizes differ.

    Notes
    -----
    O(n + m) for two masks of n and m runs whose boxes meet; nothing for others.
    """
    if runs.size != others.size:
        raise ValueError(f"rle.iou: masks of {runs.size} and {others.size}: sizes differ.")
    is_crowd = np.zeros(len(others), bool) if crowd is None else np.asarray(crowd, bool)
    if is_crowd.shape != (len(others),):
        raise ValueError(f"rle.iou: crowd has shape {is_crowd.shape}, expected ({len(others)},).")
    return _ious(
        (runs.counts, runs.starts, bounding_boxes(runs), areas(runs)),
        (others.counts, others.starts, bounding_boxes(others), areas(others)),
        is_crowd,
    )


def merge(runs: Runs, *, intersect: bool = False) -> Runs:
    """Join masks to one.

    Parameters
    ----------
    runs : Runs
    intersect : bool, default=False
        Keep what is in all of them, instead of in any.

    Returns
    -------
    Runs
        One mask; empty if there are none.

    Notes
    -----
    O(n log N) for n runs of N masks.
    """
    n_pixels = runs.size[0] * runs.size[1]
    if len(runs) == 0:
        return Runs.join(runs.size, [np.array([n_pixels], np.int64)])
    parts = [runs.counts[a:b] for a, b in zip(runs.starts[:-1], runs.starts[1:])]
    while len(parts) > 1:
        pairs = zip(parts[::2], parts[1::2])
        odd = parts[-1:] if len(parts) % 2 else []
        parts = [_merge_two(one, other, intersect) for one, other in pairs] + odd
    return Runs.join(runs.size, parts)


def from_polygons(polygons: Sequence[ArrayLike], size: tuple[int, int]) -> Runs:
    """Draw polygons, one mask each, as COCO's evaluation does.

    Parameters
    ----------
    polygons : sequence of array-like
        Each a flat list x0, y0, x1, y1, ... of at least 3 vertices, in pixels, whose centres
        have the coordinates 0.5, 1.5, ...
    size : tuple of int
        Height and width.

    Returns
    -------
    Runs

    Raises
    ------
    ValueError
        If a polygon has fewer than 3 vertices, a vertex is not finite or far beyond the image.

    Notes
    -----
    Vertices are rounded to fifths of a pixel. `merge` joins the parts of one object.
    """
    height, width = _read_size(size, "rle.from_polygons: ")
    limit = REACH * max(height, width, 1)
    parts = []
    for i, polygon in enumerate(polygons):
        where = f"rle.from_polygons: polygons[{i}]"
        try:
            vertices = np.asarray(polygon, np.float64)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{where} cannot be read as numbers: {error}") from error
        if vertices.ndim != 1 or len(vertices) < 6 or len(vertices) % 2:
            raise ValueError(
                f"{where} has shape {vertices.shape}, expected x0, y0, x1, y1, ... of 3 vertices "
                "at least."
            )
        if not (np.abs(vertices) <= limit).all():  # NaN as well
            raise ValueError(
                f"{where} has a vertex that is no number, or beyond {REACH} times the image: "
                "it is damaged."
            )
        parts.append(_draw_polygon(vertices.reshape(-1, 2), height, width))
    return Runs.join((height, width), parts)


# --- kernels ---------------------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _check_runs(runs, n_pixels):
    total = 0
    for run in runs:
        if run < 0:
            return 4
        if run > n_pixels - total:
            return 5
        total += run
    return 0 if total == n_pixels else 5


@njit(nogil=True, cache=True)
def _unpack(text):
    """Text to runs: 5 bits a character, the third run on as differences to two before."""
    runs = np.empty(len(text), np.int64)
    n = value = shift = 0
    for character in text:
        bits = np.int64(character) - 48
        if bits < 0 or bits > 63:
            return runs[:0], 1
        if shift > 50:
            return runs[:0], 3
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= np.int64(1) << shift
            runs[n] = value + (runs[n - 2] if n > 2 else 0)
            if abs(runs[n]) > 1 << 53:
                return runs[:0], 3
            n += 1
            value = shift = 0
    return (runs[:0], 2) if shift else (runs[:n], 0)


@njit(nogil=True, cache=True)
def _unpack_all(text, ends, n_pixels):
    """Runs of all texts, and where each begins; no starts if one is damaged."""
    counts = np.empty(len(text), np.int64)
    starts = np.zeros(len(ends) + 1, np.int64)
    begin = 0
    for i in range(len(ends)):
        runs, error = _unpack(text[begin : ends[i]])
        if error or _check_runs(runs, n_pixels[i]):
            return counts, starts[:0]
        starts[i + 1] = starts[i] + len(runs)
        counts[starts[i] : starts[i + 1]] = runs
        begin = ends[i]
    return counts[: starts[-1]], starts


@njit(nogil=True, cache=True)
def _draw_all(vertices, n_vertices, n_parts, shapes):
    """Runs of all objects, each the union of its polygons, and where each begins."""
    counts = np.empty(16 * len(shapes) + 16, np.int64)
    starts = np.zeros(len(shapes) + 1, np.int64)
    at = polygon = 0
    for i in range(len(shapes)):
        height, width = shapes[i]
        runs = np.full(1, height * width)
        for part in range(n_parts[i]):
            drawn = _draw_polygon(vertices[at : at + n_vertices[polygon]], height, width)
            runs = drawn if part == 0 else _merge_two(runs, drawn, False)
            at += n_vertices[polygon]
            polygon += 1
        starts[i + 1] = starts[i] + len(runs)
        if starts[i + 1] > len(counts):
            more = np.empty(2 * starts[i + 1], np.int64)
            more[: starts[i]] = counts[: starts[i]]
            counts = more
        counts[starts[i] : starts[i + 1]] = runs
    return counts[: starts[-1]].copy(), starts


@njit(nogil=True, cache=True)
def _place_runs(part, part_starts, chosen, counts, starts):
    for k in range(len(chosen)):
        begin = starts[chosen[k]]
        for r in range(part_starts[k], part_starts[k + 1]):
            counts[begin] = part[r]
            begin += 1


@njit(nogil=True, cache=True)
def _pack(runs):
    text = np.empty(13 * len(runs), np.uint8)
    n = 0
    for i in range(len(runs)):
        value = runs[i] - (runs[i - 2] if i > 2 else 0)
        while True:
            bits = value & 31
            value >>= 5
            done = value == (-1 if bits & 16 else 0)
            text[n] = 48 + (bits if done else bits | 32)
            n += 1
            if done:
                break
    return text[:n]


@njit(nogil=True, cache=True)
def _runs_of(mask):
    height, width = mask.shape
    runs = np.empty(height * width + 1, np.int64)
    n = length = 0
    before = False
    for j in range(width):
        for i in range(height):
            if mask[i, j] != before:
                runs[n] = length
                n += 1
                length = 0
                before = not before
            length += 1
    runs[n] = length
    return runs[: n + 1].copy()


@njit(nogil=True, cache=True)
def _draw(runs, mask):
    height = mask.shape[0]
    at = 0
    for r in range(len(runs)):
        if r % 2:
            for pixel in range(at, at + runs[r]):
                mask[pixel % height, pixel // height] = True
        at += runs[r]


@njit(nogil=True, cache=True)
def _areas(counts, starts):
    found = np.zeros(len(starts) - 1, np.int64)
    for i in range(len(found)):
        for r in range(starts[i] + 1, starts[i + 1], 2):
            found[i] += counts[r]
    return found


@njit(nogil=True, cache=True)
def boxes_of(counts, starts, heights):
    """Boxes of masks whose images have `heights`; see `bounding_boxes`."""
    found = np.zeros((len(starts) - 1, 4), np.int64)
    for i in range(len(found)):
        height = heights[i]
        top, bottom, left, right = height, -1, -1, -1
        at = 0
        for r in range(starts[i], starts[i + 1]):
            length = counts[r]
            if (r - starts[i]) % 2 and length > 0:
                column, last_column = at // height, (at + length - 1) // height
                if left < 0:
                    left = column
                right = last_column
                if column == last_column:
                    top = min(top, at % height)
                    bottom = max(bottom, (at + length - 1) % height)
                else:  # it goes on at the top of the next column
                    top, bottom = 0, height - 1
            at += length
        if right >= 0:
            found[i] = top, left, bottom + 1, right + 1
    return found


@njit(nogil=True, cache=True)
def _intersection(counts, start, stop, others, other_start, other_stop):
    """Pixels that two masks share."""
    total = 0
    i, j = start, other_start
    left, right = counts[i] if i < stop else 0, others[j] if j < other_stop else 0
    inside, other_inside = False, False
    while i < stop and j < other_stop:
        length = min(left, right)
        if inside and other_inside:
            total += length
        left -= length
        right -= length
        if left == 0:
            i += 1
            inside = not inside
            if i < stop:
                left = counts[i]
        if right == 0:
            j += 1
            other_inside = not other_inside
            if j < other_stop:
                right = others[j]
    return total


@njit(nogil=True, cache=True)
def mask_iou(masks, i, others, j, crowd):
    """IoU of mask i and other mask j; both as counts, starts, boxes and areas."""
    counts, starts, boxes, sizes = masks
    other_counts, other_starts, other_boxes, other_sizes = others
    if (
        boxes[i, 0] >= other_boxes[j, 2]
        or other_boxes[j, 0] >= boxes[i, 2]
        or boxes[i, 1] >= other_boxes[j, 3]
        or other_boxes[j, 1] >= boxes[i, 3]
    ):
        return 0.0
    both = _intersection(
        counts, starts[i], starts[i + 1], other_counts, other_starts[j], other_starts[j + 1]
    )
    if both == 0:
        return 0.0
    return both / (sizes[i] if crowd else sizes[i] + other_sizes[j] - both)


@njit(nogil=True, cache=True)
def _ious(masks, others, crowd):
    found = np.empty((len(masks[3]), len(others[3])))
    for i in range(found.shape[0]):
        for j in range(found.shape[1]):
            found[i, j] = mask_iou(masks, i, others, j, crowd[j])
    return found


@njit(nogil=True, cache=True)
def _merge_two(runs, others, intersect):
    merged = np.empty(len(runs) + len(others) + 1, np.int64)
    n = length = 0
    before = False
    i = j = 0
    left, right = runs[0], others[0]
    inside = other_inside = False
    while i < len(runs) and j < len(others):
        step = min(left, right)
        now = (inside and other_inside) if intersect else (inside or other_inside)
        if step > 0:
            if now != before:
                merged[n] = length
                n += 1
                length = 0
                before = now
            length += step
        left -= step
        right -= step
        if left == 0:
            i += 1
            inside = not inside
            if i < len(runs):
                left = runs[i]
        if right == 0:
            j += 1
            other_inside = not other_inside
            if j < len(others):
                right = others[j]
    merged[n] = length
    return merged[: n + 1].copy()


@njit(nogil=True, cache=True)
def _draw_polygon(vertices, height, width):
    """Where the outline crosses the middle of a column of pixels, the mask begins or ends."""
    n_vertices = len(vertices)
    fine = np.empty((n_vertices + 1, 2), np.int64)
    for i in range(n_vertices):
        for axis in range(2):
            fine[i, axis] = int(FINER * vertices[i, axis] + 0.5)  # cut towards 0
    fine[n_vertices] = fine[0]
    n_points = n_vertices
    for i in range(n_vertices):
        n_points += max(abs(fine[i + 1, 0] - fine[i, 0]), abs(fine[i + 1, 1] - fine[i, 1]))

    # The outline, from cell to cell of the fine grid.
    x, y = np.empty(n_points, np.int64), np.empty(n_points, np.int64)
    n = 0
    for i in range(n_vertices):
        x0, y0 = fine[i]
        x1, y1 = fine[i + 1]
        dx, dy = abs(x1 - x0), abs(y1 - y0)
        flat = dx >= dy
        turned = x0 > x1 if flat else y0 > y1
        if turned:
            x0, x1, y0, y1 = x1, x0, y1, y0
        steps = dx if flat else dy
        slope = 0.0
        if steps:
            slope = (y1 - y0) / dx if flat else (x1 - x0) / dy
        for step in range(steps + 1):
            t = steps - step if turned else step
            if flat:
                x[n], y[n] = x0 + t, int(y0 + slope * t + 0.5)
            else:
                x[n], y[n] = int(x0 + slope * t + 0.5), y0 + t
            n += 1

    # Pixels, numbered down the columns, from which on inside and outside change.
    changes = np.empty(n + 1, np.int64)
    n_changes = 0
    for k in range(1, n):
        if x[k] == x[k - 1]:
            continue
        column = (min(x[k], x[k - 1]) + 0.5) / FINER - 0.5
        if column != np.floor(column) or column < 0 or column > width - 1:
            continue
        row = (min(y[k], y[k - 1]) + 0.5) / FINER - 0.5
        row = np.ceil(min(max(row, 0.0), float(height)))
        changes[n_changes] = int(column) * height + int(row)
        n_changes += 1
    changes[n_changes] = height * width
    changes = np.sort(changes[: n_changes + 1])

    runs = np.empty(len(changes), np.int64)
    n = at = 0
    k = 0
    while k < len(changes):
        length = changes[k] - at
        at = changes[k]
        k += 1
        if length > 0 or n == 0:
            runs[n] = length
            n += 1
        elif k < len(changes):  # two changes at one place are none: the run goes on
            runs[n - 1] += changes[k] - at
            at = changes[k]
            k += 1
    return runs[:n].copy()
