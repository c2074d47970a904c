"""Drawing pixels to learn from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["draw_balanced"]


def draw_balanced(classes: NDArray, n: int, rng: np.random.RandomState) -> NDArray[np.intp]:
    """Draw about as many pixels of each class, at random.

    Parameters
    ----------
    classes : (n_pixels,) ndarray
    n : int
        How many; each class gets at least one, even if that makes more.
    rng : numpy.random.RandomState

    Returns
    -------
    (at most max(n, n_classes),) intp
        Indices, sorted. What a small class leaves over goes to the larger ones.
    """
    if len(classes) <= n:
        return np.arange(len(classes))
    order = np.argsort(classes, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(classes[order])) + 1)
    groups.sort(key=len)
    drawn = []
    for i, group in enumerate(groups):
        share = max(n // (len(groups) - i), 1)
        drawn.append(group if len(group) <= share else rng.choice(group, share, replace=False))
        n -= len(drawn[-1])
    return np.sort(np.concatenate(drawn))
