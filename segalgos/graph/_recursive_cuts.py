"""Graphs cut in two again and again, where the normalized cut is least."""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import LinearOperator, eigsh, splu

__all__ = ["leading_of_graph", "prune", "segment_links", "split"]

N_DENSE = 64  # larger graphs go to a sparse eigensolver
SHIFT = 1e-8  # makes the Laplacian regular; below the eigenvalues worth resolving


def _second_eigenvector(weights: sparse.csr_array, degree: NDArray) -> NDArray:
    """Solve ``(D - W) y = lambda D y`` for the second smallest lambda, eq. (7) of [1].

    Dense up to `N_DENSE` nodes, O(n**3) time; beyond, Lanczos steps on one sparse
    factorization, which a planar graph allows in O(n**1.5) time.
    """
    n, scale = len(degree), 1 / np.sqrt(degree)
    if n <= N_DENSE:
        similarity = weights.toarray()
        similarity *= scale[:, None]
        similarity *= scale
        # All eigenvectors: LAPACK's choice of a few may come back empty where eigenvalues
        # are as close as those of loosely tied graphs.
        return linalg.eigh(similarity, driver="evd", check_finite=False)[1][:, -2] * scale
    trivial = 1 / scale
    trivial /= np.linalg.norm(trivial)
    rows, nodes = np.repeat(np.arange(n), np.diff(weights.indptr)), np.arange(n)
    values = np.append(-weights.data * scale[rows] * scale[weights.indices], np.full(n, 1 + SHIFT))
    places = np.append(rows, nodes), np.append(weights.indices, nodes)
    laplacian = sparse.csc_array((values, places), shape=(n, n))
    factors = splu(laplacian, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})

    def solve(x):
        y = factors.solve(x - trivial * (trivial @ x))
        return y - trivial * (trivial @ y)

    start = np.cos(np.arange(n) * 0.7)  # any vector, but always the same
    operator = LinearOperator((n, n), matvec=solve, dtype=float)
    return eigsh(operator, k=1, which="LA", v0=start, tol=1e-6)[1][:, 0] * scale


def _best_split(weights: sparse.csr_array) -> tuple[float, NDArray[np.bool_] | None]:
    """Cut a graph in two.

    Parameters
    ----------
    weights : (n, n) csr_array
        Symmetric; the diagonal holds what ties a node to itself.

    Returns
    -------
    value : float
        The normalized cut; inf if there is one node only.
    side : (n,) bool or None
    """
    n = weights.shape[0]
    if n < 2:
        return np.inf, None
    n_pieces, piece = connected_components(weights, directed=False)
    if n_pieces > 1:
        return 0.0, piece == 0
    degree = weights.sum(axis=1)
    vector = _second_eigenvector(weights, degree)
    vector *= np.sign(vector[np.argmax(np.abs(vector))])
    order = np.argsort(vector, kind="stable")
    rank = np.empty(n, np.int64)
    rank[order] = np.arange(n)
    # Every threshold at once: link (i, j) is cut by those from the lower rank to the higher.
    low, high = np.repeat(rank, np.diff(weights.indptr)), rank[weights.indices]
    once = low < high
    begins = np.bincount(low[once], weights.data[once], n)
    ends = np.bincount(high[once], weights.data[once], n)
    cut = np.maximum(np.cumsum(begins - ends)[:-1], 0)
    inside = np.cumsum(degree[order])
    values = cut / inside[:-1] + cut / (inside[-1] - inside[:-1])  # eq. (2)
    best = int(np.argmin(values))
    return float(values[best]), rank <= best


def split(weights, max_segments, max_ncut):
    """Cut the part with the cheapest cut again and again."""
    segments = np.zeros(weights.shape[0], np.int64)
    heap: list = []

    def push(nodes, name):
        value, side = _best_split(weights[nodes][:, nodes])
        if value <= max_ncut and side is not None:
            heapq.heappush(heap, (value, name, nodes, side))

    n = 1
    push(np.arange(weights.shape[0]), 0)
    while heap and n < max_segments:
        _, name, nodes, side = heapq.heappop(heap)
        segments[nodes[~side]] = n
        push(nodes[side], name)
        push(nodes[~side], n)
        n += 1
    return segments


def segment_links(weights, segments):
    """Links between segments (k, k), their own left out, and each segment's total."""
    k = int(segments.max()) + 1
    n = len(segments)
    member = sparse.csr_array((np.ones(n), (np.arange(n), segments)), shape=(n, k))
    links = (member.T @ weights @ member).toarray()
    total = np.maximum(links.sum(axis=1), np.finfo(float).tiny)  # of no links: a cut of zero
    np.fill_diagonal(links, 0)
    return links, total


def prune(weights, segments, n_segments):
    """Merge the two segments that lower the k-way normalized cut most, until few are left."""
    links, total = segment_links(weights, segments)
    while len(total) > n_segments:
        cut = links.sum(axis=1)
        share = cut / total
        change = (cut[:, None] + cut - 2 * links) / (total[:, None] + total)
        change -= share[:, None] + share
        np.fill_diagonal(change, np.inf)
        a, b = sorted(np.unravel_index(np.argmin(change), change.shape))
        links[a] += links[b]
        links[:, a] += links[:, b]
        links[a, a] = 0
        links = np.delete(np.delete(links, b, axis=0), b, axis=1)
        total[a] += total[b]
        total = np.delete(total, b)
        segments = np.where(segments == b, a, segments)
        segments = segments - (segments > b)
    return segments


def leading_of_graph(weights: sparse.csr_array, k: int) -> NDArray[np.float64]:
    """Eigenvectors (k, n) of ``(D - W) y = lambda D y`` with the least lambda, all nodes at once.

    O(n**3) time. A node without links is tied to itself.
    """
    similarity = weights.toarray()
    degree = similarity.sum(axis=1)
    np.fill_diagonal(similarity, np.where(degree > 0, similarity.diagonal(), 1))
    scale = 1 / np.sqrt(np.where(degree > 0, degree, 1))
    similarity *= scale[:, None]
    similarity *= scale
    vectors = linalg.eigh(similarity, driver="evd", check_finite=False)[1][:, ::-1]
    return (vectors[:, :k] * scale[:, None]).T
