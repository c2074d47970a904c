"""Energies of many labels, minimised by expansion moves."""

from __future__ import annotations

from functools import partial

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from segalgos.checks import check_int, check_label_map
from segalgos.graph.max_flow import CAPACITY_LIMIT, GridFlow, check_energy, energy_of
from segalgos.parallel import map_strips

__all__ = ["alpha_expansion"]


@njit(nogil=True, cache=True, inline="always")
def _split(weight, stay, first, second):
    """Write the costs of an edge in a move as a cost of moving at each end and capacities.

    Parameters
    ----------
    weight : float
        Of the edge, in units of capacity.
    stay, first, second : float
        Cost of the labels at its ends if none moves, the first end alone, the second alone;
        if both do it is 0.

    Returns
    -------
    gain_first, gain_second : int
        What each end saves by moving.
    there, back : int
        What it costs beyond that if the first end moves alone, or the second.
    """
    keep = np.int64(np.rint(weight * stay))
    one, two = np.int64(np.rint(weight * first)), np.int64(np.rint(weight * second))
    gain = max(min(keep // 2, two), keep - one)
    # Never below 0 in a metric, but for rounding.
    return gain, keep - gain, max(one - (keep - gain), 0), max(two - gain, 0)


@njit(nogil=True, cache=True)
def _change_wishes(labels, alpha, unary, scale, bound, wishes, excess, start, stop):
    """Write what each pixel saves by taking label alpha, and add to its excess what is new.

    Parameters
    ----------
    labels : (n_pixels,) int32
    alpha : int
    unary : (n_pixels, K) int32 or float32
    scale, bound : float
    wishes, excess : (n_pixels,) int32
    start, stop : int
        Range of pixels.
    """
    for i in range(start, stop):
        label = labels[i]
        if label >= 0:
            wish = np.int32(0)
            if label != alpha:
                value = (np.float64(unary[i, label]) - np.float64(unary[i, alpha])) * scale
                wish = np.int32(np.rint(min(max(value, -bound), bound)))
            excess[i] += wish - wishes[i]
            wishes[i] = wish


@njit(nogil=True, cache=True)
def _change_edges(
    before,
    alpha_before,
    labels,
    alpha,
    weights,
    offsets,
    label_cost,
    scale,
    margin,
    capacity,
    excess,
):
    """Put the edges of a move in the place of those of the move before, and keep the flow.

    Parameters
    ----------
    before, labels : (D, H, W) int32
        Labels that the move before started from, and this one.
    alpha_before, alpha : int
        The former is negative if there was none.
    weights : (n_planes, D, H, W) int32 or float32
    offsets : (n_planes, 3) intp
    label_cost : (K, K) float64
    scale : float
    margin : int
        Nodes before the first pixel.
    capacity, excess : see `segalgos.graph._push_relabel`

    Notes
    -----
    Flow that an edge can no longer carry goes back to where it came from [1]_.

    References
    ----------
    .. [1] P. Kohli and P. H. S. Torr, "Dynamic graph cuts for efficient inference in Markov
       random fields", IEEE Transactions on Pattern Analysis and Machine Intelligence 29(12),
       2079-2088, 2007.
    """
    depth, height, width = labels.shape
    for row in range(depth * height):
        z, y = row // height, row % height
        for k in range(len(offsets)):
            z2, y2, dx = z + offsets[k, 0], y + offsets[k, 1], offsets[k, 2]
            if z2 >= depth or y2 >= height:
                continue
            step = ((z2 - z) * height + y2 - y) * width + dx
            for x in range(max(0, -dx), min(width, width - dx)):
                here, there = labels[z, y, x], labels[z2, y2, x + dx]
                if here < 0 or there < 0:
                    continue
                stay, first = label_cost[here, there], label_cost[alpha, there]
                second = label_cost[here, alpha]
                had_stay = had_first = had_second = 0.0
                if alpha_before >= 0:
                    here, there = before[z, y, x], before[z2, y2, x + dx]
                    had_stay = label_cost[here, there]
                    had_first = label_cost[alpha_before, there]
                    had_second = label_cost[here, alpha_before]
                if stay == had_stay and first == had_first and second == had_second:
                    continue
                weight = np.float64(weights[k, z, y, x]) * scale
                gain_p, gain_q, there_p, back_p = _split(weight, stay, first, second)
                had_p, had_q, had_there, had_back = _split(weight, had_stay, had_first, had_second)
                p = margin + row * width + x
                q = p + step
                gain_p -= had_p
                gain_q -= had_q
                there_p += capacity[p, 2 * k] - had_there
                back_p += capacity[q, 2 * k + 1] - had_back
                too_much = min(there_p, 0) - min(back_p, 0)
                capacity[p, 2 * k] = there_p - too_much
                capacity[q, 2 * k + 1] = back_p + too_much
                excess[p] += gain_p - too_much
                excess[q] += gain_q + too_much


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
    takes one minimum cut with edges of two capacities [2]_, which starts from the flow of the
    move before.

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
    array([[0, 0, 2, 2, 2, 2, 2]], dtype=int32)
    >>> energy
    13.0
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

    label_cost = label_cost.astype(np.float64)
    largest = 2 * sum(float(plane.max()) for plane in pairwise) * float(label_cost.max())
    flow = GridFlow(inside.shape, offsets, largest, unary.dtype == np.int32, caller)
    weights, costs = pairwise[:, 0], unary.reshape(-1, n_labels)
    energy = energy_of(labels, unary, pairwise, offsets, label_cost)
    before, alpha_before = labels, -1
    n_useless = 0
    for move in range(max_iter * n_labels):
        if n_useless == n_labels:
            break
        alpha = move % n_labels
        edges = (before, alpha_before, labels, alpha, weights, offsets, label_cost)
        _change_edges(*edges, flow.scale, flow.margin, flow.capacity, flow.excess)
        wishes = (flow.scale, flow.bound, flow.wishes, flow.excess[flow.pixels])
        change = partial(_change_wishes, labels.reshape(-1), alpha, costs, *wishes)
        map_strips(change, inside.size)
        before, alpha_before = labels, alpha
        rare = None if move < n_labels else 1  # the first moves may win most pixels
        moved = np.where(flow.cut(rare), np.int32(alpha), labels)
        n_useless += 1
        if (moved != labels).any():
            lower = energy_of(moved, unary, pairwise, offsets, label_cost)
            if lower < energy:
                labels, energy, n_useless = moved, lower, 1
    return labels.reshape(shape), energy
