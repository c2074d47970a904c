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
from numpy.typing import ArrayLike, NDArray

from segalgos._rle_kernels import (
    FINER,
    areas_of,
    boxes_of,
    check_runs,
    draw,
    draw_all,
    draw_polygon,
    mask_ious,
    merge_two,
    pack,
    place_runs,
    rims_of,
    runs_of,
    unpack,
    unpack_all,
)
from segalgos.files import MAX_PIXELS

__all__ = [
    "FINER",
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
    "rims",
    "write",
]

#: Vertices may lie beyond their image, by so many times its longer side.
REACH = 10

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
        runs, error = unpack(np.frombuffer(text, np.uint8))
    else:
        runs, error = _integers(counts, f"{where}['counts']"), 0
    error = error or check_runs(runs, height * width)
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
        place_runs(part, part_starts, chosen, counts, starts)
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
            except (ValueError, TypeError, OverflowError) as error:
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
    counts, starts = unpack_all(np.frombuffer(whole.encode(), np.uint8), ends, n_pixels)
    return (counts, starts) if len(starts) else None


def _gather_polygons(
    objects: Sequence[list], sizes: Sequence[tuple[int, int]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Draw polygons and join the parts of each object; None if one is damaged."""
    polygons = list(chain.from_iterable(objects))
    if not all(isinstance(polygon, list | tuple | np.ndarray) for polygon in polygons):
        return None
    try:
        lengths = np.array([len(polygon) for polygon in polygons], np.int64)
        vertices = np.array(list(chain.from_iterable(polygons)))
    except (ValueError, TypeError, OverflowError):
        return None
    # Words among numbers make an array of words, and lists among them one of several axes.
    if vertices.ndim != 1 or vertices.dtype.kind not in "buif":
        return None
    vertices = vertices.astype(np.float64)
    n_parts = np.array([len(parts) for parts in objects], np.int64)
    shapes = np.array(sizes, np.int64).reshape(-1, 2)
    too_large = (shapes < 0).any() or (shapes.prod(axis=1) > MAX_PIXELS).any()
    if too_large or (lengths < 6).any() or (lengths % 2).any():
        return None
    limits = np.repeat(np.repeat(REACH * np.maximum(shapes.max(axis=1), 1), n_parts), lengths)
    if not (np.abs(vertices) <= limits).all():
        return None
    return draw_all(vertices.reshape(-1, 2), lengths // 2, n_parts, shapes)


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
        packed = pack(counts).tobytes().decode("ascii") if compressed else counts.tolist()
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
    return Runs.join(masks.shape[1:], [runs_of(mask) for mask in masks])


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
        draw(runs.counts[runs.starts[i] : runs.starts[i + 1]], masks[i])
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
    return areas_of(runs.counts, runs.starts)


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
    return mask_ious(
        (runs.counts, runs.starts, bounding_boxes(runs), areas(runs)),
        (others.counts, others.starts, bounding_boxes(others), areas(others)),
        is_crowd,
    )


def rims(runs: Runs, width: int) -> Runs:
    """Keep the pixels of masks that are near their border.

    Parameters
    ----------
    runs : Runs
    width : int
        How many rows, columns or diagonal steps away a pixel that is not of the mask may be, at
        least 1. What lies beyond the image is not of the mask.

    Returns
    -------
    Runs
        As many masks.

    Raises
    ------
    ValueError
        If `width` is below 1.

    Notes
    -----
    A mask without its rim is the mask eroded `width` times by a square of 3 x 3 pixels. O(n) time
    for n pixels of the masks' bounding boxes, whatever the width.
    """
    if width < 1:
        raise ValueError(f"rle.rims: width is {width}, expected 1 at least.")
    n = len(runs)
    heights, widths = np.full(n, max(1, runs.size[0])), np.full(n, int(width))
    counts, starts = rims_of(runs.counts, runs.starts, bounding_boxes(runs), heights, widths)
    return Runs(runs.size, counts, starts)


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
        parts = [merge_two(one, other, intersect) for one, other in pairs] + odd
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
            vertices = np.asarray(polygon)
        except (ValueError, TypeError, OverflowError) as error:
            raise ValueError(f"{where} cannot be read as numbers: {error}") from error
        if vertices.dtype.kind not in "buif":
            raise ValueError(
                f"{where} cannot be read as numbers: it holds something else, or numbers beyond "
                "all images."
            )
        vertices = vertices.astype(np.float64)
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
        parts.append(draw_polygon(vertices.reshape(-1, 2), height, width))
    return Runs.join((height, width), parts)
