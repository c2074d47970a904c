"""Scores of interactive methods: IoU after so many clicks, clicks to reach an IoU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from segalgos.checks import check_int, check_real

from ._averages import mean_of_defined, ratio
from .contingency import check_ids

__all__ = ["click_scores", "object_iou"]


def object_iou(found: ArrayLike, truth: ArrayLike) -> float:
    """Divide shared pixels of an object and its truth by those of either.

    Parameters
    ----------
    found : bool array
        The mask that was found.
    truth : int array of the same shape
        1 the object, 0 the background; pixels of -1 are ignored.

    Returns
    -------
    float
        NaN if there is no object, true or found.

    Raises
    ------
    TypeError
        If `found` is not boolean or `truth` does not hold integers.
    ValueError
        If shapes differ or `truth` holds other values.

    Examples
    --------
    >>> import numpy as np
    >>> object_iou(np.array([True, True, True]), np.array([1, 0, -1]))
    0.5
    """
    caller = "object_iou"
    truth = check_ids(truth, "truth", caller)
    if truth.size and truth.max() > 1:
        raise ValueError(
            f"{caller}: truth holds ids up to {truth.max()}, expected 1 (object), 0 (background) "
            "and -1 (ignored): compare it with the id of one object first."
        )
    found = check_found(found, truth.shape, "found", caller)
    either = np.count_nonzero(found & (truth >= 0) | (truth == 1))
    return float(ratio(np.count_nonzero(found & (truth == 1)), either))


def check_found(found: ArrayLike, shape: tuple[int, ...], name: str, caller: str) -> np.ndarray:
    """Check the mask of an object that was found; unlike other masks it may be empty.

    Parameters
    ----------
    found : bool array
    shape : tuple of int
        Of the truth.
    name, caller : str
        Names for the message.

    Returns
    -------
    bool array
    """
    found = np.asarray(found)
    if found.dtype != bool:
        raise TypeError(
            f"{caller}: {name} is {found.dtype}, expected bool, True where the object is: compare "
            "it first, for instance labels == 1."
        )
    if found.shape != shape:
        raise ValueError(
            f"{caller}: {name} has shape {found.shape}, the truth has {shape}: pass masks of the "
            "same pixels."
        )
    return found


def click_scores(
    ious: Sequence[ArrayLike],
    *,
    after: Sequence[int] = (1, 3, 5),
    levels: Sequence[float] = (0.85, 0.90),
    max_clicks: int = 20,
) -> dict[str, float | np.ndarray]:
    """Sum up how an interactive method improves click by click [1]_.

    Parameters
    ----------
    ious : sequence of (n_clicks,) float array_like
        For each object the IoU after its first, second, ... click. A session may end before
        `max_clicks`; its last IoU then stands for all later clicks. Objects without any
        click, or whose IoUs are NaN, are left out.
    after : sequence of int, default=(1, 3, 5)
        Numbers of clicks to give the IoU after.
    levels : sequence of float, default=(0.85, 0.90)
        IoUs to be reached, from 0 to 1.
    max_clicks : int, default=20
        What an object counts that never reaches a level; IoUs after more clicks are not
        looked at.

    Returns
    -------
    dict
        NaN where there is no object. For the names, n is a number of clicks and p a level in
        per cent:

        - ``mean_iou_objects_after_n``: the IoU after n clicks, averaged over objects;
        - ``mean_clicks_objects_to_p``: the number of clicks until the IoU is at least that,
          averaged over objects (NoC@p); an object that never gets there counts `max_clicks`;
        - ``share_objects_below_p``: the share of the objects that never get there;
        - ``clicks_to_p``: (n_objects,) float64, the numbers behind that mean, NaN where an
          object never gets there or is left out.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as expected, or an IoU is not between 0 and 1; names which one.

    See Also
    --------
    segalgos.bench.user.click_along : A simulated user, who gives these IoUs.

    Notes
    -----
    Published figures count the last click allowed for an object that never reaches the level,
    as the mean here does: it is a lower bound of what a user needs.

    References
    ----------
    .. [1] N. Xu, B. Price, S. Cohen, J. Yang and T. Huang, "Deep interactive object
       selection", CVPR 2016.

    Examples
    --------
    >>> scores = click_scores([[0.5, 0.8, 0.91], [0.86, 0.89]])
    >>> round(scores["mean_iou_objects_after_3"], 3), scores["mean_clicks_objects_to_90"]
    (0.9, 11.5)
    """
    caller = "click_scores"
    check_int(caller, "max_clicks", max_clicks, low=1)
    for n in after:
        check_int(caller, "after", n, low=1, high=max_clicks)
    for level in levels:
        check_real(caller, "levels", level, low=0, high=1)
    table = _lay_out(ious, max_clicks, caller)
    known = ~np.isnan(table[:, 0])
    scores: dict[str, float | np.ndarray] = {
        f"mean_iou_objects_after_{n}": float(mean_of_defined(table[:, n - 1])) for n in after
    }
    for level in levels:
        name = f"{100 * level:g}"
        reached = table >= level
        never = known & ~reached.any(axis=1)
        clicks = np.where(known & ~never, reached.argmax(axis=1) + 1.0, np.nan)
        counted = np.where(never, float(max_clicks), clicks)
        scores[f"mean_clicks_objects_to_{name}"] = float(mean_of_defined(counted))
        scores[f"share_objects_below_{name}"] = float(ratio(never.sum(), known.sum()))
        scores[f"clicks_to_{name}"] = clicks
    return scores


def _lay_out(ious: Sequence[ArrayLike], max_clicks: int, caller: str) -> np.ndarray:
    """IoUs (n_objects, max_clicks) after each click; NaN in rows that are left out."""
    table = np.full((len(ious), max_clicks), np.nan)
    for i, of_object in enumerate(ious):
        try:
            values = np.asarray(of_object, np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{caller}: ious[{i}] cannot be read as numbers: {error}") from error
        if values.ndim != 1:
            raise ValueError(
                f"{caller}: ious[{i}] has shape {values.shape}, expected (n_clicks,): pass the "
                "IoUs after each click of one object."
            )
        undefined = np.isnan(values)
        if undefined.any() and not undefined.all():
            raise ValueError(
                f"{caller}: ious[{i}] is NaN after some clicks only: an object is there or not."
            )
        if ((values < 0) | (values > 1)).any():
            raise ValueError(
                f"{caller}: ious[{i}] holds {values.min():g} to {values.max():g}, expected IoUs "
                "from 0 to 1."
            )
        values = values[:max_clicks]
        if values.size:
            table[i, : values.size] = values
            table[i, values.size :] = values[-1]
    return table
