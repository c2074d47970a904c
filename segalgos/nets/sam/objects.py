"""From what a person points at to what SAM takes: an object at a time, clicks and corners."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segalgos.nets.sam.prompt_encoder import FIRST_CORNER, INSIDE, OUTSIDE, SECOND_CORNER
from segalgos.results import Prompts

__all__ = ["PromptedObject", "clicks_along", "objects_of"]

#: A scribble becomes so many clicks at most, this share of the longer side apart at least.
MOST_CLICKS = 8
CLICK_DISTANCE = 1 / 32


@dataclass(frozen=True, eq=False)
class PromptedObject:
    """One object and all that points at it.

    Parameters
    ----------
    label : int
        Its id, at least 1.
    points : (N, 2) float64
        Row and column.
    point_labels : (N,) int64
        1 inside, 0 outside, 2 and 3 first and second corner of its box.
    mask : (H, W) bool or None
        A rough mask.
    """

    label: int
    points: NDArray[np.float64]
    point_labels: NDArray[np.int64]
    mask: NDArray[np.bool_] | None = None

    @property
    def ambiguous(self) -> bool:
        """Whether nothing but one click says what is meant: a part, or the whole thing."""
        return self.mask is None and len(self.points) == 1

    @property
    def has_box(self) -> bool:
        """Whether there are corners of a box among the points."""
        return bool((self.point_labels == FIRST_CORNER).any())


def clicks_along(scribble: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Stand for a scribble by some clicks on it.

    Parameters
    ----------
    scribble : (H, W) bool
        True somewhere.

    Returns
    -------
    (n, 2) float64
        Row and column: first the innermost pixel, then the pixel farthest from all clicks before,
        until none is farther than `CLICK_DISTANCE` or there are `MOST_CLICKS`.

    Notes
    -----
    O(MOST_CLICKS * n_pixels). Of equally good pixels the first in raster order is taken.
    """
    # Only the part around the scribble is looked at.
    rows, columns = np.flatnonzero(scribble.any(1)), np.flatnonzero(scribble.any(0))
    corner = np.array([rows[0], columns[0]])
    part = scribble[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    depth = ndimage.distance_transform_edt(np.pad(part, 1))[1:-1, 1:-1]
    pixels = np.argwhere(part)
    clicks = [pixels[np.argmax(depth[part])]]
    distance = np.full(len(pixels), np.inf)
    least = CLICK_DISTANCE * max(scribble.shape)
    while len(clicks) < MOST_CLICKS:
        distance = np.minimum(distance, np.hypot(*(pixels - clicks[-1]).T))
        if distance.max() <= least:
            break
        clicks.append(pixels[distance.argmax()])
    return (np.array(clicks) + corner).astype(np.float64)


def objects_of(prompts: Prompts, caller: str) -> list[PromptedObject]:
    """Sort prompts by the objects they point at.

    Parameters
    ----------
    prompts : Prompts
        That lie on the image.
    caller : str
        For the messages.

    Returns
    -------
    list of PromptedObject
        By rising id. None if nothing points inside of an object.

    Raises
    ------
    ValueError
        If it is not clear which object a prompt belongs to.

    Notes
    -----
    Points and a mask belong to object 1, box i to object i + 1, and a scribble to the object of
    its id, but for id 0: that is outside of all. What is inside one object is outside the
    others, where these have clicks of their own.
    """
    inside, outside = _clicks(prompts)
    boxes = [] if prompts.boxes is None else list(prompts.boxes)
    if len(boxes) > 1 and (inside or prompts.mask is not None):
        raise ValueError(
            f"{caller}: prompts hold {len(boxes)} boxes, an object each, and points, scribbles or "
            "a mask inside of an object, whose box is not known: pass Prompts for one object at "
            "a time."
        )
    if set(inside) - {1} and (boxes or prompts.mask is not None):
        raise ValueError(
            f"{caller}: prompts hold a box or mask, which is of one object, and scribbles with the "
            f"ids {sorted(inside)}: leave it out, or draw with 0 and 1 alone."
        )
    labels = set(inside) | set(range(1, len(boxes) + 1))
    if prompts.mask is not None and prompts.mask.any():
        labels.add(1)
    found = []
    for label in sorted(labels):
        own = inside.get(label, np.empty((0, 2)))
        others = [clicks for other, clicks in inside.items() if other != label]
        beyond = np.concatenate([outside, *_nearest(own, others)])
        parts, kinds = [own, beyond], [INSIDE] * len(own) + [OUTSIDE] * len(beyond)
        box = boxes[label - 1] if boxes else None
        if box is None and prompts.mask is not None and not len(own):
            box = _box_around(prompts.mask)  # a mask alone is no prompt that SAM was trained on
        if box is not None:
            parts.append(np.reshape(box, (2, 2)))
            kinds += [FIRST_CORNER, SECOND_CORNER]
        found.append(
            PromptedObject(
                label,
                np.concatenate(parts).astype(np.float64),
                np.array(kinds, np.int64),
                prompts.mask if label == 1 else None,
            )
        )
    return found


def _clicks(prompts: Prompts) -> tuple[dict[int, NDArray], NDArray]:
    """Clicks inside of each object, and outside of all: points and scribbles."""
    inside: dict[int, list] = {}
    outside = []
    if prompts.points is not None and len(prompts.points):
        is_inside = prompts.point_labels == 1
        outside.append(prompts.points[~is_inside])
        if is_inside.any():
            inside.setdefault(1, []).append(prompts.points[is_inside])
    if prompts.scribbles is not None:
        for label in np.unique(prompts.scribbles[prompts.scribbles >= 0]).tolist():
            clicks = clicks_along(prompts.scribbles == label)
            if label == 0:
                outside.append(clicks)
            else:
                inside.setdefault(label, []).append(clicks)
    joined = {label: np.concatenate(parts) for label, parts in inside.items()}
    return joined, np.concatenate([np.empty((0, 2)), *outside])


def _nearest(own: NDArray, others: list[NDArray]) -> list[NDArray]:
    """The clicks of other objects that are nearest to one's own: `MOST_CLICKS` at most."""
    if not others or not len(own):
        return []
    clicks = np.concatenate(others)
    distance = np.hypot(*(clicks[:, None] - own).transpose(2, 0, 1)).min(axis=1)
    return [clicks[np.argsort(distance, kind="stable")[:MOST_CLICKS]]]


def _box_around(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Half-open box around the True pixels of a mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.array([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1], np.float64)
