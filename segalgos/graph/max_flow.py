"""Minimum cuts of pixel grids by maximum flow."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from segalgos.checks import check_mask
from segalgos.graph import _boykov_kolmogorov, _push_relabel
from segalgos.parallel import map_strips

__all__ = ["grid_cut", "half_neighborhood"]

# Half of the neighbours of a pixel, as steps (depth, row, column); the others are opposite.
_HALF_NEIGHBORHOODS = {
    (2, 4): ((0, 0, 1), (0, 1, 0)),
    (2, 8): ((0, 0, 1), (0, 1, 0), (0, 1, 1), (0, 1, -1)),
    (3, 6): ((0, 0, 1), (0, 1, 0), (1, 0, 0)),
}

CAPACITY_LIMIT = 1 << 30  # two capacities, there and back, add up within int32
FLOW_LIMIT = 1 << 29  # a wish, what its edges make of it and what they bring add up within int32

# A pixel's wish for a label is strong where it is this part of what its edges can carry.
STRONG = 1 / 32


# --- kernels -----------------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _load_edges(pairwise, offsets, inside, scale, margin, capacity):
    """Write the capacities of all edges."""
    depth, height, width = inside.shape
    back = pairwise.shape[1] - 1
    for z in range(depth):
        for y in range(height):
            row = margin + (z * height + y) * width
            for k in range(len(offsets)):
                z2, y2, dx = z + offsets[k, 0], y + offsets[k, 1], offsets[k, 2]
                if z2 >= depth or y2 >= height:
                    continue
                step = ((z2 - z) * height + y2 - y) * width + dx
                for x in range(max(0, -dx), min(width, width - dx)):
                    if inside[z, y, x] and inside[z2, y2, x + dx]:
                        p = row + x
                        capacity[p, 2 * k] = np.int32(np.rint(pairwise[k, 0, z, y, x] * scale))
                        capacity[p + step, 2 * k + 1] = np.int32(
                            np.rint(pairwise[k, back, z, y, x] * scale)
                        )


@njit(nogil=True, cache=True)
def _load_wishes(unary, inside, scale, bound, wishes, excess, start, stop):
    """Write what each pixel wishes for label 1, and add to its excess what is new in that.

    Parameters
    ----------
    unary : (n_pixels, 2) int32 or float32
    inside : (n_pixels,) bool
    scale, bound : float
    wishes : (n_pixels,) int32
        As they were loaded before, or 0; overwritten.
    excess : (n_pixels,) int32
    start, stop : int
        Range of pixels.
    """
    for i in range(start, stop):
        if inside[i]:
            value = (np.float64(unary[i, 0]) - np.float64(unary[i, 1])) * scale
            wish = np.int32(np.rint(min(max(value, -bound), bound)))
            excess[i] += wish - wishes[i]
            wishes[i] = wish


@njit(nogil=True, cache=True)
def _count_excess(capacity, excess, start, stop):
    """Count nodes of excess that is large beside what their edges can carry, positive, negative."""
    n_strong = n_sources = n_sinks = 0
    for p in range(start, stop):
        total = 0
        for d in range(capacity.shape[1]):
            total += capacity[p, d]
        n_strong += abs(excess[p]) > STRONG * total
        n_sources += excess[p] > 0
        n_sinks += excess[p] < 0
    return n_strong, n_sources, n_sinks


@njit(nogil=True, cache=True)
def _energy_of_rows(labels, unary, pairwise, offsets, label_cost, start, stop):
    depth, height, width = labels.shape
    back = pairwise.shape[1] - 1
    energy = 0.0
    for row in range(start, stop):
        z, y = row // height, row % height
        for x in range(width):
            if labels[z, y, x] >= 0:
                energy += unary[z, y, x, labels[z, y, x]]
        for k in range(len(offsets)):
            z2, y2, dx = z + offsets[k, 0], y + offsets[k, 1], offsets[k, 2]
            if z2 >= depth or y2 >= height:
                continue
            for x in range(max(0, -dx), min(width, width - dx)):
                a, b = labels[z, y, x], labels[z2, y2, x + dx]
                if a != b and a >= 0 and b >= 0:
                    weight = pairwise[k, 0 if a > b else back, z, y, x]
                    energy += label_cost[a, b] * np.float64(weight)
    return energy


# --- checks ------------------------------------------------------------------------------


def half_neighborhood(ndim: int, neighbors: int) -> NDArray[np.intp]:
    """Give the offsets from a pixel to half its neighbours, in the order of pairwise planes.

    Parameters
    ----------
    ndim : {2, 3}
        Axes of the grid.
    neighbors : {4, 8, 6}
        4 or 8 for images, 6 for volumes.

    Returns
    -------
    (neighbors // 2, ndim) intp
        Steps along (row, column) or (depth, row, column).

    Examples
    --------
    >>> from segalgos.graph.max_flow import half_neighborhood
    >>> half_neighborhood(2, 8).tolist()
    [[0, 1], [1, 0], [1, 1], [1, -1]]
    """
    if (ndim, neighbors) not in _HALF_NEIGHBORHOODS:
        raise ValueError(
            f"half_neighborhood: neighbors is {neighbors!r} for {ndim} axes, expected 4 or 8 for "
            "images and 6 for volumes."
        )
    return np.array(_HALF_NEIGHBORHOODS[ndim, neighbors], np.intp)[:, 3 - ndim :]


def check_energy(
    unary: Any, pairwise: Any, neighbors: int | None, mask: Any, n_labels: int | None, caller: str
) -> tuple[NDArray, NDArray, NDArray, NDArray, tuple[int, ...]]:
    """Check the terms of an energy and give them the axes that kernels expect.

    Returns unary (D, H, W, K), pairwise (n_planes, 1 or 2, D, H, W), offsets (n_planes, 3),
    inside (D, H, W) and the shape of the grid. Integers come as int32, all else as float32.
    """
    unary, pairwise = np.asarray(unary), np.asarray(pairwise)
    for name, array in (("unary", unary), ("pairwise", pairwise)):
        if array.dtype.kind not in "buif":
            raise TypeError(f"{caller}: {name} is {array.dtype}, expected real numbers.")
    last = "K" if n_labels is None else str(n_labels)
    if unary.ndim not in (3, 4) or unary.size == 0 or n_labels not in (None, unary.shape[-1]):
        raise ValueError(
            f"{caller}: unary has shape {unary.shape}, expected (H, W, {last}) or "
            f"(D, H, W, {last}), not empty: put the labels' costs along the last axis."
        )
    shape = unary.shape[:-1]
    planes = {n // 2: n for ndim, n in _HALF_NEIGHBORHOODS if ndim == len(shape)}
    if pairwise.shape[-len(shape) :] != shape or pairwise.ndim - len(shape) not in (1, 2):
        raise ValueError(
            f"{caller}: pairwise has shape {pairwise.shape}, expected (n_planes, *{shape}), or "
            f"(n_planes, 2, *{shape}) for capacities there and back: one plane for each offset of "
            "half_neighborhood."
        )
    n_planes = len(pairwise)
    if n_planes not in planes or neighbors not in (None, planes.get(n_planes)):
        wanted = " or ".join(
            f"{k} ({n} neighbors)" for k, n in planes.items() if neighbors in (None, n)
        )
        raise ValueError(
            f"{caller}: pairwise has {n_planes} planes with neighbors={neighbors}, expected "
            f"{wanted or sorted(planes)}: pass one plane for each offset of half_neighborhood."
        )
    if pairwise.ndim - len(shape) == 2 and pairwise.shape[1] not in (1, 2):
        raise ValueError(
            f"{caller}: pairwise has {pairwise.shape[1]} directions an edge, expected 1 or 2."
        )
    integer = unary.dtype.kind in "bui" and pairwise.dtype.kind in "bui"
    clean = []
    for name, array in (("unary", unary), ("pairwise", pairwise)):
        low, high = array.min(), array.max()
        if np.isnan(low) or (name == "pairwise" and (low < 0 or np.isinf(high))):
            raise ValueError(
                f"{caller}: {name} holds values from {low} to {high}, expected "
                + ("no NaN." if name == "unary" else "finite ones of at least 0.")
            )
        if integer and max(-int(low), int(high)) > CAPACITY_LIMIT:
            raise ValueError(
                f"{caller}: {name} holds integers up to {max(-int(low), int(high))}, expected at "
                f"most {CAPACITY_LIMIT}: pass float32, where they may have any size."
            )
        array = np.ascontiguousarray(array, np.int32 if integer else np.float32)
        clean.append(array if array.flags.writeable else array.copy())
    unary, pairwise = clean
    volume = (1,) * (3 - len(shape)) + shape
    inside = np.ones(shape, bool) if mask is None else check_mask(mask, shape, caller)
    return (
        unary.reshape(*volume, unary.shape[-1]),
        pairwise.reshape(n_planes, -1, *volume),
        np.array(_HALF_NEIGHBORHOODS[len(shape), planes[n_planes]], np.intp),
        inside.reshape(volume),
        shape,
    )


def energy_of(labels, unary, pairwise, offsets, label_cost):
    """Energy of a labelling of checked terms, in float64."""
    depth, height, width = labels.shape
    add = partial(_energy_of_rows, labels, unary, pairwise, offsets, label_cost)
    return float(sum(map_strips(add, depth * height, max(1, 65536 // width))))


POTTS = 1 - np.eye(2)


class GridFlow:
    """A flow between the pixels of a grid, from which one cut after another starts.

    Parameters
    ----------
    shape : (D, H, W)
    offsets : (n_planes, 3) intp
        From a pixel to half of its neighbours.
    largest : float
        The most that the edges of a pixel may carry, in units of the costs.
    integer : bool
        The costs are whole numbers, to be kept as they are.
    caller : str
        For the message.

    Attributes
    ----------
    scale, bound : float
        Units of capacity for a cost of 1, and the largest wish for a label: no pixel sends
        on as much, so a stronger one changes nothing.
    capacity, excess : ndarray
        What is left, see `segalgos.graph._push_relabel`; pixels begin at node `margin`.
    wishes : (n_pixels,) int32
        How much cheaper label 1 is for each pixel.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        offsets: NDArray[np.intp],
        largest: float,
        integer: bool,
        caller: str,
    ):
        if integer:
            if largest >= FLOW_LIMIT:
                raise ValueError(
                    f"{caller}: pairwise holds integers whose sum at a pixel may reach "
                    f"{largest:.0f}, expected below {FLOW_LIMIT}: pass float32, where they may "
                    "have any size."
                )
            self.scale = 1.0
        else:
            # A power of two keeps integers in float32 exact, and their ties.
            self.scale = 2.0 ** (29 - np.frexp(largest)[1]) if largest > 0 else 2.0**60
        self.bound = float(largest * self.scale + 64)
        self.shape = shape
        self.offsets = offsets
        flat = offsets @ np.array([shape[1] * shape[2], shape[2], 1])
        self.steps = np.stack([flat, -flat], 1).ravel()
        self.margin = int(flat.max())  # edges that leave the grid have an address too
        n_pixels = int(np.prod(shape))
        self.pixels = slice(self.margin, self.margin + n_pixels)
        n_nodes = n_pixels + 2 * self.margin
        self.capacity = np.zeros((n_nodes, len(self.steps)), np.int32)
        self.excess = np.zeros(n_nodes, np.int32)
        self.wishes = np.zeros(n_pixels, np.int32)

    @classmethod
    def of_energy(
        cls,
        unary: NDArray,
        pairwise: NDArray,
        offsets: NDArray[np.intp],
        inside: NDArray[np.bool_],
        caller: str,
    ) -> GridFlow:
        """Load a checked binary energy, see `check_energy`."""
        largest = 2 * sum(float(plane.max()) for plane in pairwise)
        flow = cls(inside.shape, offsets, largest, unary.dtype == np.int32, caller)
        _load_edges(pairwise, offsets, inside, flow.scale, flow.margin, flow.capacity)
        flow.change_unary(unary, inside)
        return flow

    def change_unary(self, unary: NDArray, inside: NDArray[np.bool_]) -> None:
        """Load other costs of labels and keep the flow."""
        load = partial(
            _load_wishes,
            unary.reshape(-1, 2),
            inside.reshape(-1),
            self.scale,
            self.bound,
            self.wishes,
            self.excess[self.pixels],
        )
        map_strips(load, len(self.wishes))

    def cut(self, rare: int | None = None) -> NDArray[np.bool_]:
        """Find a labelling of least energy, with label 1 at as few pixels as possible.

        Parameters
        ----------
        rare : {0, 1}, optional
            The label that fewer pixels will take, if that can be foreseen; it saves time.

        Returns
        -------
        (D, H, W) bool
            True where label 1 is taken.
        """
        count = partial(_count_excess, self.capacity, self.excess)
        n_strong, n_sources, n_sinks = np.sum(map_strips(count, len(self.excess)), axis=0)
        reached = np.empty(len(self.excess), bool)
        arrays = (self.capacity, self.excess, self.steps)
        if 2 * n_strong > n_sources + n_sinks:
            _boykov_kolmogorov.cut(*arrays, reached)
        else:
            from_source = n_sources <= n_sinks if rare is None else rare == 1
            _push_relabel.cut(*arrays, np.int32(1 if from_source else -1), reached)
        return reached[self.pixels].reshape(self.shape)


def grid_cut(
    unary: ArrayLike,
    pairwise: ArrayLike,
    *,
    neighbors: int | None = None,
    mask: ArrayLike | None = None,
) -> tuple[NDArray[np.int32], float]:
    """Minimise a binary energy on a grid of pixels by a minimum cut.

    The labelling x of 0 and 1 that minimises ``sum_p unary[p, x_p] + sum_pq c_pq`` is found,
    where c_pq is paid by neighbours p and q of different labels.

    Parameters
    ----------
    unary : (H, W, 2) or (D, H, W, 2) array_like
        Cost of label 0 and of label 1 at each pixel, of any sign. ``inf`` forbids a label.
    pairwise : (n_planes, H, W), (n_planes, 2, H, W) or the same with D, array_like
        Plane k holds at pixel p the cost, at least 0, of p and ``p + offsets[k]`` having
        different labels, with ``offsets = half_neighborhood(ndim, neighbors)``: 2 planes for
        4 neighbours, 4 planes for 8, in volumes 3 planes for 6. Where that neighbour is
        outside the grid the value is ignored. With a second axis of 2, ``pairwise[k, 0]``
        is the cost of labels (1, 0) at (p, p + offset), ``pairwise[k, 1]`` that of (0, 1).
    neighbors : {4, 8, 6}, optional
        To have the number of planes checked; the planes tell it if None.
    mask : array_like of bool, optional
        True where pixels are to be labelled; all others get -1 and have no influence.

    Returns
    -------
    labels : (H, W) or (D, H, W) int32
        0 or 1; among labellings of equal energy the one that has 0 wherever any of them has.
    energy : float
        Of `labels`, summed from the costs that were given.
    """
    caller = "grid_cut"
    unary, pairwise, offsets, inside, shape = check_energy(
        unary, pairwise, neighbors, mask, 2, caller
    )
    flow = GridFlow.of_energy(unary, pairwise, offsets, inside, caller)
    labels = flow.cut().astype(np.int32)
    labels[~inside] = -1
    return labels.reshape(shape), energy_of(labels, unary, pairwise, offsets, POTTS)
