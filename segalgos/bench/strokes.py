"""The simulated user draws strokes: through the middle of the largest mistake."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from segalgos.bench.scribbler import SHARE_OF_SIDE, draw_through
from segalgos.bench.user import BRUSH, check_object, correct_along, depth_inside, mistakes_of
from segalgos.checks import check_int
from segalgos.metrics.interactive import check_found

__all__ = ["Stroke", "draw_strokes", "next_stroke", "stroke_along"]


class Stroke(NamedTuple):
    """One stroke of the simulated user.

    Parameters
    ----------
    path : tuple of (int, int)
        Rows and columns that the middle of the brush passes.
    inside : bool
        Whether it is on the object; else on the background.
    pixels : (n, 2) intp
        Rows and columns of what was painted.
    """

    path: tuple[tuple[int, int], ...]
    inside: bool
    pixels: NDArray[np.intp]


def next_stroke(
    truth: ArrayLike,
    found: ArrayLike | None = None,
    strokes: Sequence[Stroke] = (),
    *,
    length: int | None = None,
    width: int = 2 * BRUSH,
    random_state: int = 0,
) -> Stroke | None:
    """Draw a stroke through the place where the largest mistake is thickest.

    Parameters
    ----------
    truth : (H, W) int array_like
        1 the object, 0 the background; -1 where nothing is known, which is no mistake.
    found : (H, W) bool array_like, optional
        The object as it was segmented last; nothing if left out.
    strokes : sequence of Stroke
        Those so far; their pixels are not painted again.
    length : int, optional
        The most pixels along a stroke; each takes half of it to all of it, if there is
        room. By default a tenth of the image's longer side.
    width : int, default=10
        Pixels across a stroke, by default those of a dab of
        `segalgos.bench.user.draw_clicks`; in narrow places it is thinner.
    random_state : int, default=0
        The hand is not steady; with the same seed the n-th stroke is the same.

    Returns
    -------
    Stroke or None
        None if there is no mistake left.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as expected.

    See Also
    --------
    segalgos.bench.user.next_click : Where a click goes: to the same place.
    segalgos.bench.scribbler.draw_scribbles : Strokes of the same hand, on whole classes.

    Notes
    -----
    The stroke passes the pixel that `next_click` would click on and goes on to both sides within
    the connected part of the mistake that holds it, as the hand of `draw_scribbles` does: with
    inertia, bent a little, away from the border where there is room. It paints nothing beyond
    that part. O(H * W) time.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos.bench.strokes import next_stroke
    >>> truth = np.zeros((40, 60), int)
    >>> truth[10:30, 10:50] = 1
    >>> stroke = next_stroke(truth, length=20)
    >>> stroke.inside, 10 <= len(stroke.path) <= 20
    (True, True)
    >>> bool((truth[tuple(stroke.pixels.T)] == 1).all())
    True
    """
    caller = "next_stroke"
    truth = check_object(caller, truth)
    check_int(caller, "width", width, low=1)
    check_int(caller, "random_state", random_state, low=0)
    if length is not None:
        check_int(caller, "length", length, low=1)
    found = np.zeros(truth.shape, bool) if found is None else found
    found = check_found(found, truth.shape, "found", caller)
    painted = np.zeros(truth.shape, bool)
    for stroke in strokes:
        painted[tuple(stroke.pixels.T)] = True
    parts = [(wrong & ~painted, inside) for wrong, inside in mistakes_of(truth, found)]
    depths = [depth_inside(part) for part, _ in parts]
    deepest = max(range(len(parts)), key=lambda k: depths[k].max())  # the first of equals
    depth, (part, inside) = depths[deepest], parts[deepest]
    if depth.max() == 0:
        return None
    row, column = (int(k) for k in np.unravel_index(depth.argmax(), depth.shape))
    pieces, _ = ndimage.label(part, np.ones((3, 3)))
    path, painted = draw_through(
        pieces == pieces[row, column],
        (row, column),
        length=length or max(1, round(SHARE_OF_SIDE * max(truth.shape))),
        width=width,
        rng=np.random.default_rng([random_state, len(strokes)]),
    )
    return Stroke(tuple(map(tuple, path.tolist())), inside, np.argwhere(painted))


def draw_strokes(strokes: Sequence[Stroke], shape: tuple[int, int]) -> NDArray[np.int32]:
    """Draw strokes on a label map, for methods that learn from the pixels marked.

    Parameters
    ----------
    strokes : sequence of Stroke
    shape : tuple of int
        (H, W) of the image.

    Returns
    -------
    (H, W) int32
        1 and 0 under strokes on the object and the background, -1 elsewhere.
    """
    drawn = np.full(shape, -1, np.int32)
    for stroke in strokes:
        drawn[tuple(stroke.pixels.T)] = int(stroke.inside)
    return drawn


def stroke_along(
    segment: Callable[[list[Stroke]], ArrayLike],
    truth: ArrayLike,
    *,
    max_strokes: int = 20,
    min_strokes: int = 5,
    enough: float = 0.9,
) -> tuple[list[Stroke], list[float]]:
    """Let the simulated user correct a method, stroke by stroke.

    Parameters
    ----------
    segment : callable
        ``segment(strokes)`` gives the object's mask (H, W) bool for all strokes so far.
    truth : (H, W) int array_like
        1 the object, 0 the background, -1 where nothing is known.
    max_strokes : int, default=20
        So many at most.
    min_strokes : int, default=5
        Go on for so many, however good it is.
    enough : float, default=0.9
        Then stop at this IoU.

    Returns
    -------
    strokes : list of Stroke
    ious : list of float
        The IoU after each stroke. It ends early also where no mistake is left to be drawn on.

    Raises
    ------
    TypeError, ValueError
        If an argument or a mask is not as expected, or the truth has no object.

    See Also
    --------
    segalgos.bench.user.click_along : The same with clicks.
    segalgos.metrics.click_scores : Sum up the IoUs of many objects.
    """
    return correct_along(
        "stroke_along",
        segment,
        next_stroke,
        truth,
        max_marks=max_strokes,
        min_marks=min_strokes,
        enough=enough,
    )
