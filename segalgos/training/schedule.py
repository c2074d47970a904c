"""Learning rate over the course of training.

Schedules are functions of progress, from 0 at the first step to 1 at the end, so they
serve a number of epochs and a time budget alike.
"""

from __future__ import annotations

import math

__all__ = ["SCHEDULES", "learning_rate_factor"]

SCHEDULES = ("poly", "cosine", "constant")


def learning_rate_factor(
    progress: float, schedule: str = "poly", *, warmup: float = 0.05, power: float = 0.9
) -> float:
    """Factor on the learning rate at some point of training.

    Parameters
    ----------
    progress : float
        From 0 to 1.
    schedule : {"poly", "cosine", "constant"}, default="poly"
        After the warm-up: ``(1 - t) ** power``, ``(1 + cos(pi t)) / 2`` or 1, with t the
        progress since the warm-up.
    warmup : float, default=0.05
        Share of training in which the factor rises linearly from 0.1 to 1.
    power : float, default=0.9
        Of "poly", as in DeepLab.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    ValueError
        If there is no such schedule.
    """
    if schedule not in SCHEDULES:
        raise ValueError(
            f"learning_rate_factor: schedule is {schedule!r}, expected one of "
            f"{', '.join(map(repr, SCHEDULES))}."
        )
    if progress < warmup:
        return 0.1 + 0.9 * progress / warmup
    t = min((progress - warmup) / (1 - warmup), 1.0)
    if schedule == "poly":
        return (1 - t) ** power
    if schedule == "cosine":
        return (1 + math.cos(math.pi * t)) / 2
    return 1.0
