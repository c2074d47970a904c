"""What clusterings look at: the distinct colours of an image, perhaps with their places."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segalgos.checks import check_choice, check_real
from segalgos.color import find_data_range, rgb_to_lab
from segalgos.distinct import DistinctRows, all_rows, group_rows

__all__ = ["check_space", "clustering_values", "join_values", "without_gaps"]

LAB_WHITE = 100.0


def check_space(
    caller: str, color_space: str, data_range: float | None, spatial_weight: float = 0
) -> None:
    """Check the parameters of `clustering_values`.

    Parameters
    ----------
    caller : str
        For the messages.
    color_space : str
    data_range : float or None
    spatial_weight : float, default=0
    """
    check_choice(caller, "color_space", color_space, ("rgb", "lab"))
    if data_range is not None:
        check_real(caller, "data_range", data_range, above=0)
    check_real(caller, "spatial_weight", spatial_weight, low=0, high=1e6)


def clustering_values(
    image: NDArray,
    mask: NDArray[np.bool_] | None,
    color_space: str,
    data_range: float | None,
    spatial_weight: float,
    caller: str,
) -> tuple[DistinctRows, float | None]:
    """Find the values of an image's pixels in the space of the clustering.

    Parameters
    ----------
    image : (H, W, C) or (D, H, W, C) uint8 or float32
    mask : (H, W) or (D, H, W) bool, optional
        Pixels that count.
    color_space : {"rgb", "lab"}
    data_range : float, optional
        Value of white; found from the image if needed and None.
    spatial_weight : float
        Above 0 the pixels' places are appended to their colours, scaled so that the
        image's longest side is this many times white.
    caller : str
        For the messages.

    Returns
    -------
    groups : DistinctRows
    data_range : float or None
        Value of white, if it was needed.
    """
    *shape, n_channels = image.shape
    if color_space == "lab" and n_channels != 3:
        raise ValueError(
            f"{caller}: image has {n_channels} channels, color_space='lab' needs 3: use "
            "color_space='rgb', which takes any number."
        )
    rows, inside = image.reshape(-1, n_channels), None if mask is None else mask.ravel()
    groups = all_rows(rows, inside) if spatial_weight else group_rows(rows, inside)
    if color_space == "rgb" and not spatial_weight:
        return groups, None
    values = groups.values
    if len(values):
        data_range = find_data_range(values, None, data_range, caller)
    if color_space == "lab":
        values = rgb_to_lab(values, data_range)
    if spatial_weight:
        white = LAB_WHITE if color_space == "lab" else data_range
        step = spatial_weight * white / max(shape)
        colors, values = values, np.empty((len(values), n_channels + len(shape)), np.float32)
        values[:, :n_channels] = colors
        for axis, length in enumerate(shape):
            outline = [-1 if a == axis else 1 for a in range(len(shape))]
            places = (np.arange(length) * step).astype(np.float32).reshape(outline)
            places = (
                np.broadcast_to(places, shape).ravel()
                if mask is None
                else (np.broadcast_to(places, shape)[mask])
            )
            values[:, n_channels + axis] = places
    return DistinctRows(values, groups.counts, groups.expand), data_range


def join_values(
    values: list[NDArray[np.float32]], weights: list[NDArray[np.float64]], caller: str
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Join the weighted values of several images.

    Parameters
    ----------
    values : list of (n, C) float32
    weights : list of (n,) float64
    caller : str
        For the message.

    Returns
    -------
    values : (m, C) float32
    weights : (m,) float64
    """
    if len(values) == 1:
        return values[0], weights[0]
    if len({part.shape[1] for part in values}) > 1:
        raise ValueError(
            f"{caller}: images and volumes come together, which spatial_weight does not allow: "
            "fit them apart."
        )
    groups = group_rows(np.concatenate(values))
    return groups.values, groups.totals(np.concatenate(weights))


def without_gaps(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Renumber labels so that those that occur are 0..n-1, in the same order.

    Parameters
    ----------
    labels : (n,) int32
        At least 0.

    Returns
    -------
    (n,) int32
    """
    occurs = np.bincount(labels) > 0
    return (np.cumsum(occurs, dtype=np.int32) - 1)[labels]
