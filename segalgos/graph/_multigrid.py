"""Solve Laplace's equation on a grid whose links have any strength, by multigrid.

The matrix is that of a network of resistors: pixel i is tied to its neighbours j by
couplings w_ij > 0 and to the ground by g_i >= 0, so that row i reads
``(g_i + sum_j w_ij) x_i - sum_j w_ij x_j = b_i``.

On photographs couplings differ by ten orders of magnitude and strongly tied islands are of
any shape, so coarse grids are not made by taking every second pixel: pixels are joined
along strong links (aggregation [1]_). Grids below the first are graphs in compressed rows.

References
----------
.. [1] Y. Notay, "An aggregation-based algebraic multigrid method", Electronic Trans.
   Numerical Analysis 37, 123-146, 2010.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["Multigrid"]

BLOCK = 2048  # pixels that stay in the first cache while all neighbours pass over them
# Two groups are joined if the link between them is at least this part of all links of one
# of them: else neither smoothing nor the coarse grid would take out their difference.
STRONG = 0.1
FIRST_PASSES, PASSES = 3, 2  # how often pixels, and further down groups, are joined in pairs
N_DENSE = 200  # the coarsest graph is solved by its inverse
N_KRYLOV = 3  # coarse levels that are solved by two steps of conjugate gradients, not by one
KRYLOV_GOAL = 0.1  # no second step where the first left this part of the squared residual


# --- the grid ----------------------------------------------------------------------------


class _Checkerboard(NamedTuple):
    """The network of a grid by colours: neighbours of even nodes are odd.

    Rows and columns of the matrix are divided by the roots of its diagonal, which so is
    one: A = [[1, -B], [-B', 1]].

    Parameters
    ----------
    even, odd : (n_steps, n / 2) float64
        Scaled coupling of node ``2 k``, or ``2 k + 1``, to the one a step further on.
    half : (n_steps,) int64
        Steps, halved and rounded down.
    root : (n / 2,) float64
        Root of the diagonal at even nodes.
    group : (n / 2,) int32
        Node of the first graph that an even one belongs to, or -1.
    """

    even: NDArray[np.float64]
    odd: NDArray[np.float64]
    half: NDArray[np.int64]
    root: NDArray[np.float64]
    group: NDArray[np.int32]


@njit(nogil=True, cache=True)
def _gather(here, there, after, before, x, out):
    """Sum up, for the nodes of one colour, coupling times value of their neighbours.

    Parameters
    ----------
    here, there : (n_steps, n) float64
        Couplings to a node further on, of this colour and of the other.
    after, before : (n_steps,) int64
        How far neighbours stand ahead and back among the nodes of the other colour.
    x : (n,) float64
        Of the other colour.
    out : (n,) float64, overwritten but for the ends
    """
    margin = max(after[-1], before[-1])
    for begin in range(margin, x.shape[0] - margin, BLOCK):
        end = min(begin + BLOCK, x.shape[0] - margin)
        target = out[begin:end]
        target[:] = 0
        for k in range(after.shape[0]):
            a, b = after[k], before[k]
            forth, back = here[k, begin:end], there[k, begin - b : end - b]
            ahead, behind = x[begin + a : end + a], x[begin - b : end - b]
            for i in range(target.shape[0]):
                target[i] += forth[i] * ahead[i] + back[i] * behind[i]


@njit(nogil=True, cache=True)
def _to_even(board, x, out):
    """Write B x: to the even nodes from the odd ones."""
    _gather(board.even, board.odd, board.half, board.half + 1, x, out)


@njit(nogil=True, cache=True)
def _to_odd(board, x, out):
    """Write B' x: to the odd nodes from the even ones."""
    _gather(board.odd, board.even, board.half + 1, board.half, x, out)


@njit(nogil=True, cache=True)
def _rows_of_grid(couplings, steps):
    """Write the links of a grid in compressed rows.

    Parameters
    ----------
    couplings, steps : as in `Multigrid`

    Returns
    -------
    indptr : (n + 1,) int64
    indices : (n_links,) int32
    weight : (n_links,) float64
    """
    n, n_steps = couplings.shape[1], steps.shape[0]
    indptr = np.zeros(n + 1, np.int64)
    indices, weight = np.empty(2 * n_steps * n, np.int32), np.empty(2 * n_steps * n)
    n_links = 0
    for i in range(n):
        for k in range(n_steps):
            if i >= steps[k] and couplings[k, i - steps[k]] > 0:
                indices[n_links], weight[n_links] = i - steps[k], couplings[k, i - steps[k]]
                n_links += 1
            if couplings[k, i] > 0:
                indices[n_links], weight[n_links] = i + steps[k], couplings[k, i]
                n_links += 1
        indptr[i + 1] = n_links
    return indptr, indices[:n_links], weight[:n_links]


# --- coarser graphs ----------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _match(indptr, indices, weight, total, ground, strong):
    """Join nodes in pairs along their strongest links.

    Parameters
    ----------
    indptr, indices, weight : as of `_rows_of_grid`
    total : (n,) float64
        Diagonal of the level being coarsened, summed over each node's parts.
    ground : (n,) float64
        Nodes for which this is most of `total` need no coarse grid.
    strong : float
        Two nodes are joined if their link is at least this part of one's total.

    Returns
    -------
    group : (n,) int32
        -1 for nodes that need none.
    n_groups : int

    Notes
    -----
    O(n_links) time. A node whose neighbours are all in pairs joins the one that it is
    strongly tied to.
    """
    n = total.shape[0]
    group = np.full(n, -1, np.int32)
    n_groups = 0
    for i in range(n):
        if group[i] >= 0 or 2 * ground[i] >= total[i]:
            continue
        free, taken, free_weight, taken_weight = -1, -1, 0.0, 0.0
        for k in range(indptr[i], indptr[i + 1]):
            j = indices[k]
            if 2 * ground[j] >= total[j]:
                continue
            if group[j] >= 0:
                if weight[k] > taken_weight and weight[k] >= strong * total[i]:
                    taken, taken_weight = j, weight[k]
            elif weight[k] > free_weight and weight[k] >= strong * min(total[i], total[j]):
                free, free_weight = j, weight[k]
        if free < 0 and taken >= 0:
            group[i] = group[taken]
            continue
        group[i] = n_groups
        if free >= 0:
            group[free] = n_groups
        n_groups += 1
    return group, n_groups


@njit(nogil=True, cache=True)
def _contract(indptr, indices, weight, ground, group, n_groups):
    """Sum up the links between groups of nodes.

    Parameters
    ----------
    indptr, indices, weight : as of `_rows_of_grid`
    ground : (n,) float64
    group : (n,) int32
        -1 for nodes that are left out: links to them become ties to the ground.
    n_groups : int

    Returns
    -------
    indptr, indices, weight, ground : alike, for the groups
    """
    n = group.shape[0]
    first = np.zeros(n_groups + 1, np.int64)
    for i in range(n):
        if group[i] >= 0:
            first[group[i] + 1] += 1
    for g in range(n_groups):
        first[g + 1] += first[g]
    members, place = np.empty(first[n_groups], np.int32), first[:-1].copy()
    for i in range(n):
        if group[i] >= 0:
            members[place[group[i]]] = i
            place[group[i]] += 1
    new_indptr, new_ground = np.zeros(n_groups + 1, np.int64), np.zeros(n_groups)
    new_indices, new_weight = np.empty(weight.shape[0], np.int32), np.empty(weight.shape[0])
    entry = np.full(n_groups, -1, np.int64)  # where this row has each group
    n_links = 0
    for g in range(n_groups):
        begin = n_links
        for m in range(first[g], first[g + 1]):
            i = members[m]
            new_ground[g] += ground[i]
            for k in range(indptr[i], indptr[i + 1]):
                other = group[indices[k]]
                if other == g:
                    continue
                if other < 0:
                    new_ground[g] += weight[k]
                    continue
                if entry[other] < begin:
                    entry[other] = n_links
                    new_indices[n_links], new_weight[n_links] = other, 0.0
                    n_links += 1
                new_weight[entry[other]] += weight[k]
        new_indptr[g + 1] = n_links
    return new_indptr, new_indices[:n_links], new_weight[:n_links], new_ground


@njit(nogil=True, cache=True)
def _diagonal(indptr, weight, ground):
    """Sum of each node's ties."""
    total = ground.copy()
    for i in range(ground.shape[0]):
        for k in range(indptr[i], indptr[i + 1]):
            total[i] += weight[k]
    return total


@njit(nogil=True, cache=True)
def _sort_rows(indptr, indices, weight):
    """Sort each row by index; gives where in each the indices above its own begin."""
    middle = indptr[:-1].copy()
    for i in range(middle.shape[0]):
        for k in range(indptr[i], indptr[i + 1]):
            index, value, m = indices[k], weight[k], k
            while m > indptr[i] and indices[m - 1] > index:
                indices[m], weight[m] = indices[m - 1], weight[m - 1]
                m -= 1
            indices[m], weight[m] = index, value
            if index < i:
                middle[i] += 1
    return middle


class _Levels(NamedTuple):
    """All graphs below the grid, one after the other in long arrays.

    Parameters
    ----------
    first : (n_levels + 1,) int64
        Where the nodes of each level begin.
    indptr, middle : (n_nodes + 1,) and (n_nodes,) int64
        Where rows begin, and where in them the indices above the row's own.
    indices : (n_links,) uint32
        Rising in each row; counted from the level's first node.
    weight : (n_links,) float64
    inverse : (n_nodes,) float64
        One over the diagonal.
    group : (n_nodes,) int32
        Node of the next level, or -1.
    dense : (n, n) float64
        Inverse of the last level's matrix.
    """

    first: NDArray[np.int64]
    indptr: NDArray[np.int64]
    middle: NDArray[np.int64]
    indices: NDArray[np.uint32]
    weight: NDArray[np.float64]
    inverse: NDArray[np.float64]
    group: NDArray[np.int32]
    dense: NDArray[np.float64]


@njit(nogil=True, cache=True)
def _down(indptr, middle, indices, weight, inverse, group, b, c, coarse):
    """Smooth from zero by Gauss-Seidel in raster order and restrict what is left of `b`."""
    for i in range(b.shape[0]):
        total = b[i]
        for k in range(indptr[i], middle[i]):
            total += weight[k] * c[indices[k]]
        c[i] = total * inverse[i]
    coarse[:] = 0
    for i in range(b.shape[0]):
        if group[i] >= 0:
            total = 0.0  # rows held when they were visited: only later ones disturbed them
            for k in range(middle[i], indptr[i + 1]):
                total += weight[k] * c[indices[k]]
            coarse[group[i]] += total


@njit(nogil=True, cache=True)
def _up(indptr, middle, indices, weight, inverse, group, b, c, correction, v):
    """Add the coarse correction, smooth in the opposite order and write A c to `v`."""
    for i in range(b.shape[0]):
        if group[i] >= 0:
            c[i] += correction[group[i]]
    for i in range(b.shape[0] - 1, -1, -1):
        total = b[i]
        for k in range(indptr[i], indptr[i + 1]):
            total += weight[k] * c[indices[k]]
        v[i] = total * inverse[i] - c[i]
        c[i] += v[i]
    for i in range(b.shape[0] - 1, -1, -1):
        total = b[i]
        for k in range(indptr[i], middle[i]):
            total -= weight[k] * v[indices[k]]
        v[i] = total


@njit(nogil=True, cache=True)
def _krylov_step(c, v, last_c, last_v, last_energy, r, x):
    """Step along `c`, made conjugate to the last direction; `v` is A c.

    Returns
    -------
    energy : float
        Of the direction, which is left in `last_c`.
    left : float
        Squared norm of the residual `r`.
    """
    overlap = np.dot(c, last_v) / last_energy
    energy = along = 0.0
    for i in range(c.shape[0]):
        last_c[i] = c[i] - overlap * last_c[i]
        last_v[i] = v[i] - overlap * last_v[i]
        energy += last_c[i] * last_v[i]
        along += last_c[i] * r[i]
    if energy <= 0:
        return 1.0, 0.0
    left = 0.0
    for i in range(c.shape[0]):
        x[i] += along / energy * last_c[i]
        r[i] -= along / energy * last_v[i]
        left += r[i] * r[i]
    return energy, left


@njit(nogil=True, cache=True)
def _solve_coarse(levels, b):
    """Solve the first graph below the grid roughly.

    Parameters
    ----------
    levels : _Levels
    b : (n,) float64

    Returns
    -------
    (n,) float64

    Notes
    -----
    The first levels take up to two cycles as steps of conjugate gradients (the K-cycle
    [1]_), which makes up for the roughness of piecewise constant corrections.

    References
    ----------
    .. [1] Y. Notay and P. S. Vassilevski, "Recursive Krylov-based multigrid cycles",
       Numerical Linear Algebra with Applications 15(5), 473-487, 2008.
    """
    first, last_level = levels.first, levels.first.shape[0] - 2
    n = first[-1]
    r, x, c, v = np.empty(n), np.zeros(n), np.empty(n), np.empty(n)
    last_c, last_v = np.zeros(n), np.zeros(n)
    energy, wanted = np.ones(last_level + 1), np.zeros(last_level + 1)
    n_cycles = np.zeros(last_level + 1, np.int64)
    r[: b.shape[0]] = b
    wanted[0] = KRYLOV_GOAL * np.dot(b, b)
    level, going_down = 0, True
    while True:
        start, end = first[level], first[level + 1]
        here = slice(start, end)
        if level == last_level:
            x[here] = 0
            for j in range(end - start):
                for i in range(end - start):
                    x[start + i] += levels.dense[j, i] * r[start + j]
            going_down = False
        elif going_down:
            below = slice(end, first[level + 2])
            _down(
                levels.indptr[start : end + 1],
                levels.middle[here],
                levels.indices,
                levels.weight,
                levels.inverse[here],
                levels.group[here],
                r[here],
                c[here],
                r[below],
            )
            level += 1
            x[below], last_c[below], last_v[below] = 0, 0, 0
            n_cycles[level], energy[level] = 0, 1
            wanted[level] = KRYLOV_GOAL * np.dot(r[below], r[below])
            continue
        else:
            _up(
                levels.indptr[start : end + 1],
                levels.middle[here],
                levels.indices,
                levels.weight,
                levels.inverse[here],
                levels.group[here],
                r[here],
                c[here],
                x[end : first[level + 2]],
                v[here],
            )
            if level >= N_KRYLOV:
                x[here] = c[here]
            else:
                energy[level], left = _krylov_step(
                    c[here], v[here], last_c[here], last_v[here], energy[level], r[here], x[here]
                )
                n_cycles[level] += 1
                if n_cycles[level] < 2 and left > wanted[level]:
                    going_down = True
                    continue
        if level == 0:
            return x[:end].copy()
        level -= 1


@njit(nogil=True, cache=True)
def _precondition(board, levels, r, z, odd):
    """Write roughly the even part of ``A^-1 (r, 0)`` to `z`; `odd` is scratch.

    Smooths even nodes, then odd ones, corrects from below, and smooths odd nodes, then even
    ones: Gauss-Seidel, forth and back. What the correction does to odd nodes is written
    over at once, and so left out.
    """
    group, root = board.group, board.root
    _to_odd(board, r, odd)
    _to_even(board, odd, z)
    coarse = np.zeros(levels.first[1])
    for i in range(group.shape[0]):
        if group[i] >= 0:
            coarse[group[i]] += root[i] * z[i]
    correction = _solve_coarse(levels, coarse)
    for i in range(group.shape[0]):
        z[i] = r[i] + (root[i] * correction[group[i]] if group[i] >= 0 else 0.0)
    _to_odd(board, z, odd)
    _to_even(board, odd, z)
    for i in range(group.shape[0]):
        z[i] += r[i]


@njit(nogil=True, cache=True)
def _conjugate_gradients(board, levels, b, tol, max_iter, x):
    """Solve for the even nodes by flexible preconditioned conjugate gradients.

    Parameters
    ----------
    board : _Checkerboard
    levels : _Levels
    b : (n,) float64
        Right-hand side for ``1 - B B'``, from which the odd nodes are eliminated.
    tol : float
        Stop when the next correction is nowhere larger.
    max_iter : int
    x : (n,) float64
        The solution; zeros at first.

    Returns
    -------
    iterations : int
    correction : float
        The largest of the last correction, which is an estimate of the error before it.
    """
    n, root = b.shape[0], board.root
    r, z, p, q = b.copy(), np.zeros(n), np.zeros(n), np.zeros(n)
    odd, even = np.zeros(n), np.zeros(n)
    last_energy, largest = 1.0, np.inf
    for iteration in range(max_iter):
        _precondition(board, levels, r, z, odd)
        largest = 0.0
        for i in range(n):
            if abs(z[i]) > largest * root[i]:
                largest = abs(z[i]) / root[i]
        if largest <= tol:
            for i in range(n):
                x[i] += z[i]
            return iteration, largest
        # q is the last change of r: Polak and Ribière's rule, since the cycle is not linear
        beta = np.dot(z, q) / last_energy
        for i in range(n):
            p[i] = z[i] + beta * p[i]
        last_energy = np.dot(z, r)
        _to_odd(board, p, odd)
        _to_even(board, odd, even)
        alpha = last_energy / (np.dot(p, p) - np.dot(p, even))
        for i in range(n):
            x[i] += alpha * p[i]
            q[i] = alpha * (even[i] - p[i])
            r[i] += q[i]
    return max_iter, largest


class Multigrid:
    """The network of a grid and its coarser graphs, ready to be solved.

    Parameters
    ----------
    couplings : (n_steps, n) float64
        Between the nodes i and ``i + steps[k]``; n is even. No link begins or ends among
        the first and last ``steps[-1] + 1`` nodes.
    steps : (n_steps,) int64
        Odd and rising: so neighbours are black and white like a checkerboard's fields.
    ground : (n,) float64
        Each node's tie to zero, at least 0. Every node that has links must be tied to it
        by some path.

    Notes
    -----
    O(n) time and memory.
    """

    def __init__(
        self,
        couplings: NDArray[np.float64],
        steps: NDArray[np.int64],
        ground: NDArray[np.float64],
    ):
        diagonal, ground = ground.copy(), ground.copy()
        for coupling, step in zip(couplings, steps, strict=True):
            diagonal += coupling
            diagonal[step:] += coupling[:-step]
        ground[diagonal == 0] = diagonal[diagonal == 0] = 1  # not of the network: stays zero
        graph = (*_rows_of_grid(couplings, steps), ground)
        group, *graph = _coarsen(graph, diagonal, FIRST_PASSES)
        self.root = np.sqrt(diagonal)
        scaled = couplings / self.root
        for coupling, step in zip(scaled, steps, strict=True):
            coupling[:-step] /= self.root[step:]
        self.board = _Checkerboard(
            even=scaled[:, ::2].copy(),
            odd=scaled[:, 1::2].copy(),
            half=steps // 2,
            root=self.root[::2].copy(),
            group=group[::2].copy(),
        )
        levels = []
        while True:
            total = _diagonal(graph[0], graph[2], graph[3])
            if len(total) <= N_DENSE:
                break
            group, *coarse = _coarsen(graph, total, PASSES)
            levels.append((*graph[:3], total, group))
            graph = coarse
        indptr, indices, weight, _ = graph
        dense = np.diag(total)
        dense[np.repeat(np.arange(len(total)), np.diff(indptr)), indices] -= weight
        levels.append((indptr, indices, weight, total, np.full(len(total), -1, np.int32)))
        middle = [_sort_rows(*level[:3]) for level in levels]
        indptr, indices, weight, total, group = zip(*levels, strict=True)
        begin = np.cumsum([0] + [len(part) for part in indices])
        rows = [part[:-1] + start for part, start in zip(indptr, begin, strict=False)]
        self.levels = _Levels(
            first=np.cumsum([0] + [len(part) for part in group]),
            indptr=np.concatenate([*rows, begin[-1:]]),
            middle=np.concatenate([a + b for a, b in zip(middle, begin, strict=False)]),
            indices=np.concatenate(indices).astype(np.uint32),
            weight=np.concatenate(weight),
            inverse=1 / np.concatenate(total),
            group=np.concatenate(group),
            dense=np.linalg.inv(dense),
        )

    def solve(
        self, b: NDArray[np.float64], *, tol: float, max_iter: int
    ) -> tuple[NDArray[np.float64], int, float]:
        """Solve for one right-hand side.

        Parameters
        ----------
        b : (n,) float64
            Zero where a node is not of the network.
        tol : float
            Largest error, as estimated, of the solution before its last correction.
        max_iter : int

        Returns
        -------
        x : (n,) float64
        iterations : int
        error : float
            The estimate; larger than `tol` if `max_iter` steps were not enough.
        """
        scaled = b / self.root
        even, odd = np.zeros(len(b) // 2), scaled[1::2].copy()
        rhs = np.zeros(len(even))
        _to_even(self.board, odd, rhs)
        rhs += scaled[::2]
        iterations, error = _conjugate_gradients(self.board, self.levels, rhs, tol, max_iter, even)
        _to_odd(self.board, even, rhs)
        x = np.empty(len(b))
        x[::2], x[1::2] = even, odd + rhs
        return x / self.root, iterations, error


def _coarsen(graph, total, n_passes):
    """Join the nodes of a graph in groups of about ``2**n_passes``: pairs, pairs of pairs ...

    Parameters
    ----------
    graph : tuple of indptr, indices, weight, ground
    total : (n,) float64
        Its diagonal.
    n_passes : int

    Returns
    -------
    group : (n,) int32
        -1 for nodes that need no coarse grid.
    indptr, indices, weight, ground
        Of the groups.
    """
    group, ground, strong = np.arange(len(total), dtype=np.int32), graph[3], STRONG
    for i in range(n_passes):
        pair, n_pairs = _match(*graph[:3], total, ground, strong)
        while i == 0 and n_pairs > 0.85 * len(total) and strong > 0:
            # Rarely, far down, where nodes have many weak links; at last, any link will do.
            strong = strong / 4 if strong > 1e-3 else 0.0
            pair, n_pairs = _match(*graph[:3], total, ground, strong)
        graph = _contract(*graph, pair, n_pairs)
        inside = pair >= 0
        total = np.bincount(pair[inside], total[inside], n_pairs)
        ground = np.zeros(n_pairs)  # only single nodes are left out
        group = np.append(pair, np.int32(-1))[group]
    return group, *graph
