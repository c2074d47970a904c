"""Energies of many labels, minimised by expansion moves."""

from __future__ import annotations

from functools import partial

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from segalgos.checks import check_int, check_label_map
from segalgos.graph.max_flow import (
    CAPACITY_LIMIT,
    check_energy,
    cut_checked,
    energy_of,
)
from segalgos.parallel import map_strips

__all__ = ["alpha_expansion"]


@njit(nogil=True, cache=True)
def _write_move(labels, alpha, unary, weights, offsets, label_cost, costs, edges, start, stop):
    """Write the binary energy of an expansion move: label 1 is alpha, 0 the present label.

    Parameters
    ----------
    labels : (D, H, W) int32
    alpha : int
    unary : (D, H, W, K) int32 or float32
    weights : (n_planes, D, H, W) of the same dtype
    offsets : (n_planes, 3) intp
    label_cost : (K, K) of the same dtype
    costs : (D, H, W, 2) of the same dtype, overwritten
    edges : (n_planes, 2, D, H, W) of the same dtype
        Zeros; overwritten for labels (0, 1).
    start, stop : int
        Range of rows, counted over all slices.

    Notes
    -----
    Kolmogorov and Zabih's construction for an edge pq, with A, B, C, 0 the costs of
    (0, 0), (0, 1), (1, 0), (1, 1): C - A if p moves, -C if q moves, B + C - A if q alone does.
    """
    depth, height, width = labels.shape
    for row in range(start, stop):
        z, y = row // height, row % height
        for x in range(width):
            label = labels[z, y, x]
            if label >= 0:
                costs[z, y, x, 0] = unary[z, y, x, label]
                costs[z, y, x, 1] = unary[z, y, x, alpha]
        for k in range(len(offsets)):
            dz, dy, dx = offsets[k, 0], offsets[k, 1], offsets[k, 2]
            begin, end = max(0, -dx), min(width, width - dx)
            if z + dz < depth and y + dy < height:
                for x in range(begin, end):
                    here, there = labels[z, y, x], labels[z + dz, y + dy, x + dx]
                    if here >= 0 and there >= 0:
                        weight = weights[k, z, y, x]
                        stay = weight * label_cost[here, there]
                        first = weight * label_cost[alpha, there]
                        second = weight * label_cost[here, alpha]
                        costs[z, y, x, 1] += first - stay
                        # Never below 0 in a metric, but for rounding.
                        edges[k, 1, z, y, x] = max(second + first - stay, 0)
            if z >= dz and y >= dy:  # the edges that end in this row
                for x in range(begin, end):
                    here, there = labels[z - dz, y - dy, x], labels[z, y, x + dx]
                    if here >= 0 and there >= 0:
                        cost = weights[k, z - dz, y - dy, x] * label_cost[alpha, there]
                        costs[z, y, x + dx, 1] -= cost


def _check_label_cost(label_cost, n_labels, caller):
    if label_cost is None:
        return 1 - np.eye(n_labels, dtype=np.int64)
    cost = np.asarray(label_cost)
    if cost.dtype.kind not in "buif":
        raise TypeError(f"{caller}: label_cost is {cost.dtype}, expected real numbers.")
    if cost.shape != (n_labels, n_labels):
        raise ValueError(
            f"{caller}: label_cost has shape {cost.shape}, expected {(n_labels, n_labels)}: one "
            "row and one column for each label of unary."
        )
    if cost.dtype.kind in "bui":
        cost = cost.astype(np.int64)
    if not np.isfinite(cost).all() or (cost < 0).any():
        raise ValueError(f"{caller}: label_cost holds values that are not finite and at least 0.")
    if np.diag(cost).any() or (cost != cost.T).any():
        raise ValueError(
            f"{caller}: label_cost is no metric: expected 0 on its diagonal and a symmetric matrix."
        )
    for middle in range(n_labels):
        detour = cost[:, middle, None] + cost[middle]
        if (cost > detour * (1 + 1e-6)).any():
            a, b = np.argwhere(cost > detour * (1 + 1e-6))[0]
            raise ValueError(
                f"{caller}: label_cost is no metric: [{a}, {b}] is {cost[a, b]}, more than "
                f"{detour[a, b]} by way of label {middle}: expansion moves need the triangle "
                "inequality, for instance truncate |a - b| instead of its square."
            )
    return cost


def _first_labels(unary, inside, shape, init, caller):
    if init is None:
        labels = unary.argmin(-1).astype(np.int32)
    else:
        labels = check_label_map(init, shape, caller, "init").reshape(inside.shape).copy()
        chosen, n_labels = labels[inside], unary.shape[-1]
        if chosen.min() < 0 or chosen.max() >= n_labels:
            raise ValueError(
                f"{caller}: init holds labels from {chosen.min()} to {chosen.max()} inside the "
                f"mask, expected 0 to {n_labels - 1}."
            )
        costs = np.take_along_axis(unary, np.maximum(labels, 0)[..., None], -1)[..., 0]
        if np.isinf(costs[inside]).any():
            raise ValueError(
                f"{caller}: init gives pixels a label of infinite cost: start from a labelling "
                "that is allowed, or pass init=None."
            )
    labels[~inside] = -1
    return labels


def alpha_expansion(
    unary: ArrayLike,
    pairwise: ArrayLike,
    *,
    label_cost: ArrayLike | None = None,
    neighbors: int | None = None,
    mask: ArrayLike | None = None,
    init: ArrayLike | None = None,
    max_iter: int = 100,
) -> tuple[NDArray[np.int32], float]:
    """Lower an energy of many labels by expansion moves [1]_.

    The energy of a labelling x is ``sum_p unary[p, x_p] + sum_pq w_pq label_cost[x_p, x_q]``.
    A move lets every pixel keep its label or take label alpha, and a minimum cut finds the
    best of all such moves.

    Parameters
    ----------
    unary : (H, W, K) or (D, H, W, K) array_like
        Cost of each label at each pixel, of any sign. ``inf`` forbids a label.
    pairwise : (n_planes, H, W) or (n_planes, D, H, W) array_like
        Plane k holds at pixel p the weight, at least 0, of the edge from p to
        ``p + half_neighborhood(ndim, neighbors)[k]``, as in `segalgos.graph.max_flow.grid_cut`.
    label_cost : (K, K) array_like, optional
        Cost of two labels at the ends of an edge, times its weight: a metric. 1 for all
        different labels (Potts) if None.
    neighbors : {4, 8, 6}, optional
        To have the number of planes checked; the planes tell it if None.
    mask : array_like of bool, optional
        True where pixels are to be labelled; all others get -1 and have no influence.
    init : (H, W) or (D, H, W) array_like of int, optional
        The labelling to start from; the cheapest label of each pixel if None.
    max_iter : int, default=100
        Most sweeps over all labels.

    Returns
    -------
    labels : (H, W) or (D, H, W) int32
        Labels 0..K-1.
    energy : float
        Of `labels`, summed from the costs that were given. Never above that of `init`.

    Raises
    ------
    ValueError
        If `label_cost` is no metric, or costs or weights cannot be used.

    Notes
    -----
    Moves go on, label by label, until none of K in a row lowers the energy; that is then
    within a factor of ``2 max(label_cost) / min(label_cost)`` (off the diagonal) of the
    minimum where costs are not negative, and the minimum itself for two labels. Each move
    takes one minimum cut with edges of two capacities [2]_.

    References
    ----------
    .. [1] Y. Boykov, O. Veksler and R. Zabih, "Fast approximate energy minimization via graph
       cuts", IEEE Transactions on Pattern Analysis and Machine Intelligence 23(11),
       1222-1239, 2001.
    .. [2] V. Kolmogorov and R. Zabih, "What energy functions can be minimized via graph
       cuts?", IEEE Transactions on Pattern Analysis and Machine Intelligence 26(2), 147-159,
       2004.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos.graph.alpha_expansion import alpha_expansion
    >>> image = np.array([[0, 0, 9, 5, 5, 9, 9]])
    >>> unary = abs(image[..., None] - [0, 5, 9])
    >>> labels, energy = alpha_expansion(unary, np.full((2, 1, 7), 5))
    >>> labels
    array([[0, 0, 1, 1, 1, 2, 2]], dtype=int32)
    >>> energy
    14.0
    """
    caller = "alpha_expansion"
    max_iter = check_int(caller, "max_iter", max_iter, low=1)
    unary, pairwise, offsets, inside, shape = check_energy(
        unary, pairwise, neighbors, mask, None, caller
    )
    if pairwise.shape[1] != 1:
        raise ValueError(
            f"{caller}: pairwise has 2 directions an edge, expected one weight for both: pass "
            "(n_planes, *shape)."
        )
    n_labels = unary.shape[-1]
    label_cost = _check_label_cost(label_cost, n_labels, caller)
    if unary.dtype == np.int32 and label_cost.dtype.kind == "f":
        unary, pairwise = unary.astype(np.float32), pairwise.astype(np.float32)
    if unary.dtype == np.int32 and int(pairwise.max()) * int(label_cost.max()) > CAPACITY_LIMIT:
        raise ValueError(
            f"{caller}: pairwise times label_cost reaches "
            f"{int(pairwise.max()) * int(label_cost.max())}, expected at most {CAPACITY_LIMIT}: "
            "pass float32, where they may have any size."
        )
    labels = _first_labels(unary, inside, shape, init, caller)

    exact = label_cost.astype(np.float64)
    label_cost = label_cost.astype(unary.dtype)
    costs = np.empty((*inside.shape, 2), unary.dtype)
    costs[~inside] = 0
    edges = np.zeros((len(offsets), 2, *inside.shape), unary.dtype)
    n_rows = inside.shape[0] * inside.shape[1]
    energy = energy_of(labels, unary, pairwise, offsets, exact)
    n_useless = 0
    for move in range(max_iter * n_labels):
        if n_useless == n_labels:
            break
        alpha = move % n_labels
        edges[:, 1] = 0
        write = partial(
            _write_move, labels, alpha, unary, pairwise[:, 0], offsets, label_cost, costs, edges
        )
        map_strips(write, n_rows, max(1, 65536 // inside.shape[2]))
        moved = np.where(cut_checked(costs, edges, offsets, inside, caller) == 1, alpha, labels)
        moved = moved.astype(np.int32)
        lower = energy_of(moved, unary, pairwise, offsets, exact)
        if lower < energy:
            labels, energy, n_useless = moved, lower, 1
        else:
            n_useless += 1
    return labels.reshape(shape), energy
