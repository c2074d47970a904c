"""Solve Laplace's equation on a grid whose links have any strength, by multigrid.

The matrix is that of a network of resistors: pixel i is tied to its neighbours j by
couplings w_ij > 0 and to the ground by g_i >= 0, so that row i reads
``(g_i + sum_j w_ij) x_i - sum_j w_ij x_j = b_i``.

On photographs couplings differ by ten orders of magnitude and strongly tied islands are of
any shape, so coarse grids are not made by taking every second pixel: pixels are joined
along strong links (aggregation [1]_). Grids below the first are graphs in compressed rows;
`segalgos.graph._coarsening` makes them.

The odd nodes of the grid are eliminated. Its preconditioner computes in single precision:
so it is a little less exact than it could be, while residuals are not.

References
----------
.. [1] Y. Notay, "An aggregation-based algebraic multigrid method", Electronic Trans.
   Numerical Analysis 37, 123-146, 2010.
.. [2] J. Lottes, "Optimal polynomial smoothers for multigrid V-cycles", Numerical Linear
   Algebra with Applications 30(6), e2518, 2023.
.. [3] Y. Notay and P. S. Vassilevski, "Recursive Krylov-based multigrid cycles", Numerical
   Linear Algebra with Applications 15(5), 473-487, 2008.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from segalgos.graph._coarsening import coarsen, graph_of_even_nodes, totals

__all__ = ["Multigrid"]

BLOCK = 1024  # pixels that stay in the first cache while all neighbours pass over them
N_SMOOTH = 3  # steps of smoothing on the grid, before and after the correction from below
# Which links pixels, and further down groups, are joined by, and how often in pairs.
FIRST_STRONG, STRONG = 0.9, 1.5
FIRST_PASSES, PASSES = 3, 2
SLOWEST = 0.9  # corrections that shrink less in an iteration are taken to shrink so much
N_DENSE = 64  # the coarsest graph is solved by its inverse


# --- the grid ----------------------------------------------------------------------------


class _Grid(NamedTuple):
    """The network of a grid by colours: neighbours of even nodes are odd.

    Parameters
    ----------
    even, odd : (n_steps, n / 2) float32
        Coupling of node ``2 k``, or ``2 k + 1``, to the one a step further on.
    half : (n_steps,) int64
        Steps, halved and rounded down.
    total : (n / 2,) float64
        Sum of ties of even nodes.
    even_inverse, odd_inverse : (n / 2,) float64
        One over the sum of ties; 0 where there are none.
    group : (n / 2,) int32
        Node of the first graph that an even one belongs to, or -1.
    """

    even: NDArray[np.float32]
    odd: NDArray[np.float32]
    half: NDArray[np.int64]
    total: NDArray[np.float64]
    even_inverse: NDArray[np.float64]
    odd_inverse: NDArray[np.float64]
    group: NDArray[np.int32]


@njit(nogil=True, cache=True)
def _gather(here, there, after, before, begin, x, out):
    """Sum up, for nodes of one colour from `begin` on, coupling times value of neighbours.

    Parameters
    ----------
    here, there : (n_steps, n) float32
        Couplings to a node further on, of this colour and of the other.
    after, before : (n_steps,) int64
        How far neighbours stand ahead and back among the nodes of the other colour.
    begin : int
    x : (n,) float32 or float64
        Of the other colour.
    out : (n_out,) of the same type, overwritten
    """
    end = begin + out.shape[0]
    out[:] = 0
    for k in range(after.shape[0]):
        a, b = after[k], before[k]
        forth, back = here[k, begin:end], there[k, begin - b : end - b]
        ahead, behind = x[begin + a : end + a], x[begin - b : end - b]
        for i in range(out.shape[0]):
            out[i] += forth[i] * ahead[i] + back[i] * behind[i]


@njit(nogil=True, cache=True)
def _to_odd(grid, x, out, begin, end):
    """Write the values that some odd nodes take from the even ones."""
    for start in range(begin, end, BLOCK):
        part = out[start : min(start + BLOCK, end)]
        _gather(grid.odd, grid.even, grid.half + 1, grid.half, start, x, part)
        for i in range(part.shape[0]):
            part[i] *= grid.odd_inverse[start + i]


@njit(nogil=True, cache=True)
def _to_even(grid, x, out, begin):
    """Write what flows from the odd nodes into even ones from `begin` on."""
    _gather(grid.even, grid.odd, grid.half, grid.half + 1, begin, x, out)


@njit(nogil=True, cache=True)
def _apply(grid, p, odd, q):
    """Write ``-A p`` to `q`, and return ``p A p``; `odd` is scratch."""
    margin, n, energy = grid.half[-1] + 1, p.shape[0], 0.0
    done = margin
    for begin in range(margin, n - margin, BLOCK):
        end = min(begin + BLOCK, n - margin)
        # Odd nodes run ahead of even ones by the longest step: both find couplings in the cache.
        _to_odd(grid, p, odd, done, min(end + margin, n - margin))
        done = min(end + margin, n - margin)
        _to_even(grid, odd, q[begin:end], begin)
        for i in range(begin, end):
            q[i] -= grid.total[i] * p[i]
            energy -= p[i] * q[i]
    return energy


@njit(nogil=True, cache=True)
def _step(grid, keep, turn, x, r, d, odd):
    """Take the last change `d` of `x` out of `r`, and make the next one from both.

    The residual `r` is divided by the diagonal; d is times `keep` plus r times `turn`.
    `odd` is scratch.
    """
    margin, n = grid.half[-1] + 1, x.shape[0]
    keep, turn = np.float32(keep), np.float32(turn)
    flow = np.empty(BLOCK, np.float32)
    done = margin
    for begin in range(margin, n - margin, BLOCK):
        end = min(begin + BLOCK, n - margin)
        _to_odd(grid, d, odd, done, min(end + margin, n - margin))
        done = min(end + margin, n - margin)
        part, inverse = flow[: end - begin], grid.even_inverse[begin:end]
        x_part, r_part, d_part = x[begin:end], r[begin:end], d[begin:end]
        _to_even(grid, odd, part, begin)
        for i in range(part.shape[0]):
            r_part[i] += part[i] * np.float32(inverse[i]) - d_part[i]
            d_part[i] = keep * d_part[i] + turn * r_part[i]
            x_part[i] += d_part[i]


@njit(nogil=True, cache=True)
def _smooth(grid, x, r, d, odd):
    """Smooth by Chebyshev polynomials of the fourth kind [2]_, the last change still in `r`."""
    for k in range(1, N_SMOOTH):
        _step(grid, (2 * k - 1) / (2 * k + 3), (8 * k + 4) / (2 * k + 3), x, r, d, odd)


# --- coarser graphs ----------------------------------------------------------------------


class _Levels(NamedTuple):
    """All graphs below the grid, one after the other in long arrays.

    Parameters
    ----------
    first : (n_levels + 1,) int64
        Where the nodes of each level begin.
    indptr, middle : (n_nodes + 1,) and (n_nodes,) uint32
        Where rows begin, and where in them the indices above the row's own.
    indices : (n_links,) uint32
        Rising in each row; counted from the level's first node.
    weight : (n_links,) float32
    inverse : (n_nodes,) float64
        One over the diagonal.
    group : (n_nodes,) int32
        Node of the next level, or -1.
    dense : (n, n) float64
        Inverse of the last level's matrix.
    """

    first: NDArray[np.int64]
    indptr: NDArray[np.uint32]
    middle: NDArray[np.uint32]
    indices: NDArray[np.uint32]
    weight: NDArray[np.float32]
    inverse: NDArray[np.float64]
    group: NDArray[np.int32]
    dense: NDArray[np.float64]


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


@njit(nogil=True, cache=True)
def _pull(indices, weight, begin, end, c):
    """Sum of weight times value over some links."""
    total = 0.0
    for k in range(begin, end):
        total += weight[k] * c[indices[k]]
    return total


@njit(nogil=True, cache=True)
def _down(indptr, middle, indices, weight, inverse, group, b, c, coarse):
    """Smooth from zero by Gauss-Seidel in raster order and restrict what is left of `b`."""
    for i in range(b.shape[0]):
        c[i] = (b[i] + _pull(indices, weight, indptr[i], middle[i], c)) * inverse[i]
    coarse[:] = 0
    for i in range(b.shape[0]):
        if group[i] >= 0:  # rows held when they were visited: only later ones disturbed them
            coarse[group[i]] += _pull(indices, weight, middle[i], indptr[i + 1], c)


@njit(nogil=True, cache=True)
def _up(indptr, indices, weight, inverse, group, b, c, coarse, change):
    """Add the coarse correction and smooth in the opposite order; write the last change."""
    for i in range(b.shape[0]):
        if group[i] >= 0:
            c[i] += coarse[group[i]]
    for i in range(b.shape[0] - 1, -1, -1):
        total = b[i] + _pull(indices, weight, indptr[i], indptr[i + 1], c)
        change[i] = total * inverse[i] - c[i]
        c[i] += change[i]


@njit(nogil=True, cache=True)
def _cycle(levels, b, c, v):
    """Solve the first graph very roughly for `b`, and write to `v` the matrix times this `c`.

    Further down, `b` is overwritten, and `v` scratch.
    """
    first, last = levels.first, levels.first.shape[0] - 2
    for level in range(last):
        start, end = first[level], first[level + 1]
        _down(
            levels.indptr[start : end + 1],
            levels.middle[start:end],
            levels.indices,
            levels.weight,
            levels.inverse[start:end],
            levels.group[start:end],
            b[start:end],
            c[start:end],
            b[end : first[level + 2]],
        )
    c[first[last] :] = 0
    for j in range(levels.dense.shape[0]):
        for i in range(levels.dense.shape[0]):
            c[first[last] + i] += levels.dense[j, i] * b[first[last] + j]
    for level in range(last - 1, -1, -1):
        start, end = first[level], first[level + 1]
        _up(
            levels.indptr[start : end + 1],
            levels.indices,
            levels.weight,
            levels.inverse[start:end],
            levels.group[start:end],
            b[start:end],
            c[start:end],
            c[end : first[level + 2]],
            v[start:end],
        )
    if last == 0:
        v[:] = b
        return
    for i in range(first[1] - 1, -1, -1):  # rows held before nodes below them in order changed
        left = _pull(levels.indices, levels.weight, levels.indptr[i], levels.middle[i], v)
        v[i] = b[i] - left


@njit(nogil=True, cache=True)
def _solve_graph(levels, work):
    """Solve the first graph roughly: by two cycles as steps of conjugate gradients [3]_.

    Parameters
    ----------
    levels : _Levels
    work : (6, n_nodes) float64
        The right-hand side in the first, the solution in the second on return.
    """
    n = levels.first[1]
    r, x = work[0, :n], work[1, :n]
    x[:] = 0
    c, v = work[2, :n], work[3, :n]
    energy = 1.0
    for k in range(2):
        if k == 1:
            last_c, last_v = c, v
            c, v = work[4, :n], work[5, :n]
        _cycle(levels, work[0], work[2 + 2 * k], work[3 + 2 * k])
        if k == 1:
            overlap = np.dot(c, last_v) / energy
            for i in range(n):
                c[i] -= overlap * last_c[i]
                v[i] -= overlap * last_v[i]
        energy = along = 0.0
        for i in range(n):
            energy += c[i] * v[i]
            along += c[i] * r[i]
        if energy <= 0:  # nothing is left
            break
        for i in range(n):
            x[i] += along / energy * c[i]
            r[i] -= along / energy * v[i]


# --- conjugate gradients -----------------------------------------------------------------


@njit(nogil=True, cache=True)
def _precondition(grid, levels, r, z, left, d, odd, work):
    """Write roughly ``A^-1 r`` of the even nodes to `z`; all further arrays are scratch."""
    first, group = np.float32(4 / 3), grid.group
    for i in range(z.shape[0]):
        left[i] = r[i] * grid.even_inverse[i]
        d[i] = first * left[i]
        z[i] = d[i]
    _smooth(grid, z, left, d, odd)
    _step(grid, 0.0, 0.0, z, left, d, odd)
    work[0, : levels.first[1]] = 0
    for i in range(z.shape[0]):
        if group[i] >= 0:
            work[0, group[i]] += grid.total[i] * left[i]
    _solve_graph(levels, work)
    for i in range(z.shape[0]):
        if group[i] >= 0:
            d[i] = work[1, group[i]]
            z[i] += d[i]
    _step(grid, 0.0, first, z, left, d, odd)
    _smooth(grid, z, left, d, odd)


@njit(nogil=True, cache=True)
def _conjugate_gradients(grid, levels, b, tol, max_iter, x):
    """Solve for the even nodes by flexible preconditioned conjugate gradients.

    Parameters
    ----------
    grid : _Grid
    levels : _Levels
    b : (n,) float64
        Right-hand side, from which the odd nodes are eliminated.
    tol : float
        Stop when the error is estimated to be nowhere larger.
    max_iter : int
    x : (n,) float64
        The solution; zeros at first.

    Returns
    -------
    iterations : int
    error : float
        The largest, as estimated.
    """
    n = b.shape[0]
    r, p, q, odd = b.copy(), np.zeros(n), np.zeros(n), np.zeros(n)
    z, left = np.zeros(n, np.float32), np.zeros(n, np.float32)
    d, rough_odd = np.zeros(n, np.float32), np.zeros(n, np.float32)
    work = np.zeros((6, levels.first[-1]))
    last_energy, largest, decay, error = 1.0, np.inf, 0.0, np.inf
    for iteration in range(max_iter):
        _precondition(grid, levels, r, z, left, d, rough_odd, work)
        last_largest, last_decay = largest, decay
        largest = overlap = energy = 0.0
        for i in range(n):
            largest = max(largest, abs(z[i]))
            overlap += z[i] * q[i]
            energy += z[i] * r[i]
        # If corrections go on to shrink like the last two, so much is left of them in all.
        decay = largest / last_largest
        error = largest / (1 - min(max(decay, last_decay), SLOWEST))
        if error <= tol:
            for i in range(n):
                x[i] += z[i]
            return iteration, error
        # q is the last change of r: Polak and Ribière's rule, since the cycle is not linear
        beta = overlap / last_energy
        for i in range(n):
            p[i] = z[i] + beta * p[i]
        last_energy = energy
        alpha = last_energy / _apply(grid, p, odd, q)
        for i in range(n):
            x[i] += alpha * p[i]
            q[i] *= alpha
            r[i] += q[i]
    return max_iter, error


class Multigrid:
    """The network of a grid and its coarser graphs, ready to be solved.

    Parameters
    ----------
    couplings : (n_steps, n) float32
        Between the nodes i and ``i + steps[k]``; n is even. No link begins or ends among
        the first and last ``2 * steps[-1] + 2`` nodes.
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
        couplings: NDArray[np.float32],
        steps: NDArray[np.int64],
        ground: NDArray[np.float64],
    ):
        total = ground.copy()
        for coupling, step in zip(couplings, steps, strict=True):
            total += coupling
            total[step:] += coupling[:-step]
        inverse = np.zeros(len(total))
        np.divide(1, total, out=inverse, where=total > 0)
        graph = graph_of_even_nodes(couplings, steps, inverse, ground)
        even_total = total[::2].copy()
        group, graph = coarsen(graph, even_total, FIRST_STRONG, FIRST_PASSES)
        self.grid = _Grid(
            even=couplings[:, ::2].copy(),
            odd=couplings[:, 1::2].copy(),
            half=steps // 2,
            total=even_total,
            even_inverse=inverse[::2].copy(),
            odd_inverse=inverse[1::2].copy(),
            group=group,
        )
        levels = []
        while True:
            total = totals(*graph)
            if len(total) <= N_DENSE:
                break
            group, coarse = coarsen(graph, total, STRONG, PASSES)
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
            indptr=np.concatenate([*rows, begin[-1:]]).astype(np.uint32),
            middle=np.concatenate([a + b for a, b in zip(middle, begin, strict=False)]).astype(
                np.uint32
            ),
            indices=np.concatenate(indices).view(np.uint32),
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
            Largest error, as estimated.
        max_iter : int

        Returns
        -------
        x : (n,) float64
        iterations : int
        error : float
            The estimate; larger than `tol` if `max_iter` steps were not enough.
        """
        grid, margin = self.grid, self.grid.half[-1] + 1
        inner = slice(margin, len(b) // 2 - margin)
        flow, even = np.zeros((2, len(b) // 2))
        odd = b[1::2] * grid.odd_inverse
        _to_even(grid, odd, flow[inner], margin)
        flow += b[::2]
        iterations, error = _conjugate_gradients(grid, self.levels, flow, tol, max_iter, even)
        _to_odd(grid, even, flow, margin, len(flow) - margin)
        odd[inner] += flow[inner]
        return np.stack([even, odd], axis=1).ravel(), iterations, error
