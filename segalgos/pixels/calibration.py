"""Probabilities from decision values: sigmoids, and their coupling over many classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

__all__ = ["couple_pairs", "fit_sigmoid"]

MAX_STEPS = 100
SMALLEST_GRADIENT = 1e-7  # for a total weight of one
CLOSEST = 2.0**-20  # to certainty that one pair may come


def fit_sigmoid(
    decisions: NDArray, positive: NDArray[np.bool_], weights: NDArray[np.float64]
) -> tuple[float, float]:
    """Fit the probability of the positive class as a sigmoid of decision values.

    Parameters
    ----------
    decisions : (n,) float
    positive : (n,) bool
    weights : (n,) float64
        Positive.

    Returns
    -------
    slope : float
    offset : float
        The probability is ``1 / (1 + exp(-(slope * decision + offset)))``.

    Notes
    -----
    Maximum likelihood by Newton's method with backtracking. Targets are Platt's, a little
    inside of 0 and 1, so that the solution is finite for classes that are apart.

    References
    ----------
    .. [1] J. Platt, "Probabilistic outputs for support vector machines", Advances in
       Large Margin Classifiers, 1999.
    .. [2] H.-T. Lin, C.-J. Lin and R. Weng, "A note on Platt's probabilistic outputs for
       support vector machines", Machine Learning 68, 2007.
    """
    x = np.asarray(decisions, np.float64)
    n_positive, n_negative = weights[positive].sum(), weights[~positive].sum()
    target = np.where(positive, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))
    weights = weights / weights.sum()
    design = np.stack([x, np.ones(len(x))])

    def loss(solution):
        z = solution @ design
        return weights @ (np.logaddexp(0, z) - target * z)

    solution = np.array([0.0, np.log((n_positive + 1) / (n_negative + 1))])
    current = loss(solution)
    for _ in range(MAX_STEPS):
        p = expit(solution @ design)
        gradient = design @ (weights * (p - target))
        if np.abs(gradient).max() < SMALLEST_GRADIENT:
            break
        hessian = (design * (weights * p * (1 - p))) @ design.T
        hessian[[0, 1], [0, 1]] += 1e-12 * max(1.0, hessian[0, 0])  # decisions may be constant
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        while size > 1e-10:
            following = loss(solution - size * step)
            if following < current - 1e-4 * size * (step @ gradient):
                break
            size /= 2
        else:
            break  # no descent is left in float64
        solution, current = solution - size * step, following
    return float(solution[0]), float(solution[1])


def couple_pairs(
    firsts: NDArray[np.float32], pairs: list[tuple[int, int]], n_classes: int
) -> NDArray[np.float32]:
    """Compute the probabilities of classes from those of pairs.

    Parameters
    ----------
    firsts : (n, n_pairs) float32
        Probability of the first class of each pair, given that it is one of the two.
    pairs : list of (int, int)
    n_classes : int

    Returns
    -------
    (n, n_classes) float32
        They add up to one.

    Notes
    -----
    ``p[i] = 1 / (sum over j of 1 / r[i, j] - (n_classes - 2))``, then scaled to a sum of
    one: the solution wherever the pairs agree with one another.

    References
    ----------
    .. [1] D. Price, S. Knerr, L. Personnaz and G. Dreyfus, "Pairwise neural network
       classifiers with probabilistic outputs", NIPS, 1994.
    """
    inverse = np.full((len(firsts), n_classes), 2.0 - n_classes, np.float32)
    for (first, second), r in zip(pairs, np.clip(firsts, CLOSEST, 1 - CLOSEST).T, strict=True):
        inverse[:, first] += 1 / r
        inverse[:, second] += 1 / (1 - r)
    proba = 1 / inverse
    proba /= proba.sum(axis=1, keepdims=True)
    return proba
