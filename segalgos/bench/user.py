"""A deterministic simulated user, who prompts interactive methods from the truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from segalgos.checks import check_int, check_label_map, check_real
from segalgos.metrics.interactive import check_found, object_iou
from segalgos.results import Prompts

__all__ = [
    "BRUSH",
    "Click",
    "box_around",
    "click_along",
    "dab",
    "depth_inside",
    "draw_clicks",
    "next_click",
]

BRUSH = 5  # radius of a dab in pixels


def dab(truth: NDArray[np.int32]) -> Prompts:
    """Touch every region of the truth once with a round brush, where it is thickest.

    Parameters
    ----------
    truth : (H, W) int32
        Regions or classes; -1 where nothing is known.

    Returns
    -------
    Prompts
        Scribbles with the truth's ids. A dab never leaves its region: in thin ones it is
        smaller than the brush. Of equally thick places the first in raster order is taken.
    """
    scribbles = np.full(truth.shape, -1, np.int32)
    for region in np.unique(truth[truth >= 0]):
        depth = depth_inside(truth == region)
        row, column = np.unravel_index(depth.argmax(), depth.shape)
        _paint(scribbles, row, column, min(BRUSH, depth[row, column] - 1), region)
    return Prompts(scribbles=scribbles)


def depth_inside(region: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Measure how far the pixels of a region are from what is not of it.

    Parameters
    ----------
    region : (H, W) bool

    Returns
    -------
    (H, W) float64
        Distance to the nearest pixel outside, in pixels; 0 outside. What lies beyond the
        image is outside.
    """
    return ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]


def _paint(labels: NDArray[np.int32], row: int, column: int, radius: float, label: int) -> None:
    """Give the pixels of a disk a label."""
    rows, columns = np.ogrid[: labels.shape[0], : labels.shape[1]]
    labels[(rows - row) ** 2 + (columns - column) ** 2 <= radius**2] = label


class Click(NamedTuple):
    """One click of the simulated user.

    Parameters
    ----------
    row, column : int
        The pixel.
    inside : bool
        Whether it belongs to the object; else to the background.
    depth : float
        How far the nearest pixel is that is not of the same mistake, in pixels.
    """

    row: int
    column: int
    inside: bool
    depth: float


def next_click(
    truth: ArrayLike, found: ArrayLike | None = None, clicks: Sequence[Click] = ()
) -> Click | None:
    """Click where the largest mistake is thickest, as benchmarks of clicks do [1]_ [2]_.

    Parameters
    ----------
    truth : (H, W) int array_like
        1 the object, 0 the background; -1 where nothing is known, which is no mistake.
    found : (H, W) bool array_like, optional
        The object as it was segmented last; nothing if left out.
    clicks : sequence of Click
        Those so far; their pixels are not clicked again.

    Returns
    -------
    Click or None
        None if there is no mistake left.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as expected.

    Notes
    -----
    Missed pixels of the object and false ones of the background are two sets. In each the
    pixel farthest from all pixels that are not in it is taken, by Euclidean distance, where
    what lies beyond the image is not in it either. The farther of the two is clicked; the
    false one, if both are equally far. Of equally far pixels the one in the lowest row is
    taken, and there the one in the lowest column. O(H * W) time.

    References
    ----------
    .. [1] N. Xu, B. Price, S. Cohen, J. Yang and T. Huang, "Deep interactive object
       selection", CVPR 2016.
    .. [2] K. Sofiiuk, I. Petrov and A. Konushin, "Reviving iterative training with mask
       guidance for interactive segmentation", ICIP 2022, arXiv:2102.06583; rules as in its
       evaluation code.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos.bench.user import next_click
    >>> truth = np.zeros((7, 9), int)
    >>> truth[1:6, 2:7] = 1
    >>> click = next_click(truth)
    >>> click.row, click.column, click.inside, click.depth
    (3, 4, True, 3.0)
    """
    caller = "next_click"
    truth = check_object(caller, truth)
    if found is None:
        found = np.zeros(truth.shape, bool)
    found = check_found(found, truth.shape, "found", caller)
    best = Click(0, 0, False, 0.0)
    for wrong, inside in mistakes_of(truth, found):
        depth = depth_inside(wrong)
        for click in clicks:
            depth[click.row, click.column] = 0
        row, column = np.unravel_index(depth.argmax(), depth.shape)
        if depth[row, column] > best.depth:
            best = Click(int(row), int(column), inside, float(depth[row, column]))
    return best if best.depth > 0 else None


def mistakes_of(
    truth: NDArray[np.int32], found: NDArray[np.bool_]
) -> list[tuple[NDArray[np.bool_], bool]]:
    """False pixels of the background, then missed ones of the object.

    Parameters
    ----------
    truth : (H, W) int32
    found : (H, W) bool

    Returns
    -------
    list of ((H, W) bool, bool)
        The pixels, and whether they belong to the object.
    """
    return [(found & (truth == 0), False), (~found & (truth == 1), True)]


def check_object(caller: str, truth: ArrayLike) -> NDArray[np.int32]:
    """Check the truth of one object.

    Parameters
    ----------
    caller : str
    truth : (H, W) int array_like
        1 the object, 0 the background, -1 where nothing is known.

    Returns
    -------
    (H, W) int32
    """
    truth = np.asarray(truth)
    if truth.ndim != 2 or not truth.size:
        raise ValueError(
            f"{caller}: truth has shape {truth.shape}, expected (H, W): pass one object of one "
            "image."
        )
    truth = check_label_map(truth, truth.shape, caller, "truth")
    if truth.max() > 1:
        raise ValueError(
            f"{caller}: truth holds ids up to {truth.max()}, expected 1 (object), 0 (background) "
            "and -1: choose one object, for instance (labels == 3).astype(int)."
        )
    return truth


def draw_clicks(clicks: Sequence[Click], shape: tuple[int, int]) -> NDArray[np.int32]:
    """Draw clicks as dabs with a round brush, for methods that learn from the pixels marked.

    Parameters
    ----------
    clicks : sequence of Click
    shape : tuple of int
        (H, W) of the image.

    Returns
    -------
    (H, W) int32
        1 and 0 at clicks inside and outside of the object, -1 elsewhere. A dab stays
        within the mistake that was clicked on: in thin ones it is smaller than the brush.
    """
    scribbles = np.full(shape, -1, np.int32)
    for click in clicks:
        _paint(scribbles, click.row, click.column, min(BRUSH, click.depth - 1), int(click.inside))
    return scribbles


def click_along(
    segment: Callable[[list[Click]], ArrayLike],
    truth: ArrayLike,
    *,
    max_clicks: int = 20,
    min_clicks: int = 5,
    enough: float = 0.9,
) -> tuple[list[Click], list[float]]:
    """Let the simulated user correct a method, click by click.

    Parameters
    ----------
    segment : callable
        ``segment(clicks)`` gives the object's mask (H, W) bool for all clicks so far.
    truth : (H, W) int array_like
        1 the object, 0 the background, -1 where nothing is known.
    max_clicks : int, default=20
        So many at most.
    min_clicks : int, default=5
        Go on for so many, however good it is.
    enough : float, default=0.9
        Then stop at this IoU.

    Returns
    -------
    clicks : list of Click
    ious : list of float
        The IoU after each click. It ends early also where no mistake is left to be clicked
        on.

    Raises
    ------
    TypeError, ValueError
        If an argument or a mask is not as expected, or the truth has no object.

    See Also
    --------
    segalgos.metrics.click_scores : Sum up the IoUs of many objects.
    """
    return correct_along(
        "click_along",
        segment,
        next_click,
        truth,
        max_marks=max_clicks,
        min_marks=min_clicks,
        enough=enough,
    )


def correct_along(
    caller: str,
    segment: Callable[[list], ArrayLike],
    point: Callable[[NDArray, NDArray | None, list], Any],
    truth: ArrayLike,
    *,
    max_marks: int,
    min_marks: int,
    enough: float,
) -> tuple[list, list[float]]:
    """Let a simulated user correct a method, mark by mark.

    Parameters
    ----------
    caller : str
        For messages, in which marks are called as in its name.
    segment : callable
        ``segment(marks)`` gives the object's mask (H, W) bool.
    point : callable
        ``point(truth, found, marks)`` gives the next mark, or None if no mistake is left.
    truth : (H, W) int array_like
    max_marks, min_marks : int
    enough : float

    Returns
    -------
    marks : list
    ious : list of float
    """
    what = "clicks" if caller == "click_along" else "strokes"
    truth = check_object(caller, truth)
    check_int(caller, f"max_{what}", max_marks, low=1)
    check_int(caller, f"min_{what}", min_marks, low=0)
    check_real(caller, "enough", enough, low=0, high=1)
    if not (truth == 1).any():
        raise ValueError(f"{caller}: truth has no object (1): there is nothing to point at.")
    marks: list = []
    ious: list[float] = []
    found = None
    while len(marks) < max_marks:
        mark = point(truth, found, marks)
        if mark is None:
            break
        marks.append(mark)
        found = check_found(segment(list(marks)), truth.shape, "what segment gave", caller)
        ious.append(object_iou(found, truth))
        if ious[-1] >= enough and len(marks) >= min_marks:
            break
    return marks, ious


def box_around(truth: ArrayLike, margin: float = 0.05) -> Prompts:
    """Draw a box around an object, wider than it.

    Parameters
    ----------
    truth : (H, W) int array_like
        1 the object, 0 the background, -1 where nothing is known.
    margin : float, default=0.05
        How much wider on each side, as a part of the image's height or width.

    Returns
    -------
    Prompts
        One box, within the image. Its sides are rounded away from the object.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as expected, or the truth has no object.
    """
    caller = "box_around"
    truth = check_object(caller, truth)
    check_real(caller, "margin", margin, low=0)
    rows, columns = np.nonzero(truth == 1)
    if not rows.size:
        raise ValueError(f"{caller}: truth has no object (1): there is nothing to draw around.")
    first, last = [], []
    for places, side in zip((rows, columns), truth.shape):
        wider = int(np.ceil(margin * side))
        first.append(max(0, places.min() - wider))
        last.append(min(side, places.max() + 1 + wider))
    return Prompts(boxes=[*first, *last])
