"""Normalized cuts on a graph of superpixels."""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg, sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import LinearOperator, eigsh, splu

from segalgos.base import Segmenter, Traits
from segalgos.checks import check_image, check_int, check_label_map, check_mask, check_real
from segalgos.color import find_data_range, rescale, rgb_to_lab
from segalgos.region_graph import region_graph

__all__ = ["NormalizedCutsSegmenter", "cut_graph", "ncut_value", "normalized_cuts"]

WHITE = 100.0  # `sigma` is in units of Lab, or where white is this
FAINT = 1e-12  # links below this part of the strongest are taken as none
N_DENSE = 64  # larger graphs go to a sparse eigensolver
SHIFT = 1e-8  # makes the Laplacian regular; below the eigenvalues worth resolving
OVERSPLIT = 2  # as many times the segments wanted are made first


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


def _split(weights, max_segments, max_ncut):
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


def _segment_links(weights, segments):
    """Links between segments (k, k), their own left out, and each segment's total."""
    k = int(segments.max()) + 1
    n = len(segments)
    member = sparse.csr_array((np.ones(n), (np.arange(n), segments)), shape=(n, k))
    links = (member.T @ weights @ member).toarray()
    total = np.maximum(links.sum(axis=1), np.finfo(float).tiny)  # of no links: a cut of zero
    np.fill_diagonal(links, 0)
    return links, total


def _prune(weights, segments, n_segments):
    """Merge the two segments that lower the k-way normalized cut most, until few are left."""
    links, total = _segment_links(weights, segments)
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


def _check_cut(caller, n_segments, max_ncut):
    if n_segments is not None:
        check_int(caller, "n_segments", n_segments, low=1)
    check_real(caller, "max_ncut", max_ncut, low=0)


def _cut(weights, n_segments, max_ncut):
    """Segments of a checked graph, in the order of their first nodes."""
    weights = weights.copy()
    weights.data[weights.data < FAINT * weights.data.max(initial=0)] = 0
    weights.eliminate_zeros()
    n = weights.shape[0]
    if n_segments is None:
        segments = _split(weights, n, max_ncut)
    else:
        segments = _split(weights, min(n, OVERSPLIT * n_segments), np.inf)
        segments = _prune(weights, segments, n_segments)
    _, first, names = np.unique(segments, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[names].astype(np.int32)


def _check_graph(caller, weights):
    if not sparse.issparse(weights):
        weights = np.asarray(weights)
    if weights.ndim != 2 or weights.shape[0] != weights.shape[1] or weights.shape[0] == 0:
        raise ValueError(
            f"{caller}: weights has shape {weights.shape}, expected (n, n): pass the similarity "
            "of each pair of nodes."
        )
    weights = sparse.csr_array(weights, dtype=float)
    if not np.isfinite(weights.data).all() or (weights.data < 0).any():
        raise ValueError(f"{caller}: weights holds negative, NaN or infinite values.")
    if (weights != weights.T).nnz:
        raise ValueError(
            f"{caller}: weights is not symmetric: pass for instance (weights + weights.T) / 2."
        )
    return weights


def ncut_value(weights: ArrayLike | sparse.sparray, segments: ArrayLike) -> float:
    """Compute the normalized cut of a partition, the sum over its segments.

    Parameters
    ----------
    weights : (n, n) array_like or sparse array
        Similarities of at least 0, symmetric.
    segments : (n,) array_like of int
        Segment of each node, 0..k-1.

    Returns
    -------
    float
        ``sum_i cut(A_i, rest) / assoc(A_i, all)``, from 0 to k - 1.

    Examples
    --------
    >>> from segalgos.graph.normalized_cuts import ncut_value
    >>> ncut_value([[0, 2, 0], [2, 0, 1], [0, 1, 0]], [0, 0, 1])
    1.2
    """
    weights = _check_graph("ncut_value", weights)
    segments = check_label_map(segments, weights.shape[:1], "ncut_value", "segments")
    links, total = _segment_links(weights, segments)
    return float(np.sum(links.sum(axis=1) / total))


def cut_graph(
    weights: ArrayLike | sparse.sparray,
    n_segments: int | None = None,
    *,
    max_ncut: float = 0.005,
) -> NDArray[np.int32]:
    """Cut any graph by normalized cuts; see `normalized_cuts`.

    Parameters
    ----------
    weights : (n, n) array_like or sparse array
        Similarities of at least 0, symmetric; the diagonal holds what ties a node to
        itself.
    n_segments : int, optional
        How many to make.
    max_ncut : float, default=0.005
        Without `n_segments`, parts are cut while that costs at most this much.

    Returns
    -------
    (n,) int32
        Ids 0..k-1 in the order of their first nodes.

    Raises
    ------
    ValueError
        If the weights are not as expected.

    Notes
    -----
    Each cut takes a sparse factorization, O(n**1.5) time if the graph is planar.

    Examples
    --------
    >>> from segalgos.graph.normalized_cuts import cut_graph
    >>> cut_graph([[0, 2, 0, 0], [2, 0, 1, 0], [0, 1, 0, 2], [0, 0, 2, 0]], 2)
    array([0, 0, 1, 1], dtype=int32)
    """
    caller = "cut_graph"
    _check_cut(caller, n_segments, max_ncut)
    weights = _check_graph(caller, weights)
    if n_segments is not None:
        check_int(caller, "n_segments", n_segments, low=1, high=weights.shape[0])
    return _cut(weights, n_segments, max_ncut)


def _check_parameters(caller, n_segments, max_ncut, sigma, n_superpixels, data_range):
    _check_cut(caller, n_segments, max_ncut)
    check_real(caller, "sigma", sigma, above=0)
    check_int(caller, "n_superpixels", n_superpixels, low=1)
    if data_range is not None:
        check_real(caller, "data_range", data_range, above=0)


def _segment(image, mask, labels, n_segments, max_ncut, sigma, n_superpixels, data_range, caller):
    """Segment a checked image; see `normalized_cuts`."""
    data_range = find_data_range(image, mask, data_range, caller)
    if mask is not None:
        image = np.where(mask[..., None], image, 0).astype(image.dtype)
    if labels is None:
        # Another family, but only by its public name: nothing of its inside is used here.
        from segalgos import slic

        labels = slic(image, n_superpixels, data_range=data_range, mask=mask, channel_axis=-1)
    elif mask is not None:
        labels = np.where(mask, labels, -1)
    in_lab = image.shape[-1] == 3
    colors = rgb_to_lab(image, data_range) if in_lab else rescale(image, data_range, WHITE)
    graph = region_graph(labels, colors, channel_axis=-1)
    if graph.n_regions == 0:
        raise ValueError(f"{caller}: labels are -1 everywhere: expected at least one region.")
    rows = np.repeat(np.arange(graph.n_regions), np.diff(graph.indptr))
    squared = ((graph.color[rows] - graph.color[graph.indices]) ** 2).sum(axis=1)
    similarity = graph.length * np.exp(-squared / sigma**2)
    shape = (graph.n_regions, graph.n_regions)
    weights = sparse.csr_array((similarity, graph.indices, graph.indptr), shape=shape)
    if n_segments is not None:
        n_segments = min(n_segments, graph.n_regions)
    segments = _cut(weights, n_segments, max_ncut)
    return np.append(segments, np.int32(-1))[graph.labels]


def normalized_cuts(
    image: ArrayLike,
    n_segments: int | None = None,
    *,
    max_ncut: float = 0.005,
    sigma: float = 7.0,
    n_superpixels: int = 400,
    labels: ArrayLike | None = None,
    data_range: float | None = None,
    mask: ArrayLike | None = None,
    channel_axis: int | str | None = "auto",
) -> NDArray[np.int32]:
    """Cut an image where little similarity is lost, in relation to what stays together.

    The quick form: the graph's nodes are superpixels, not pixels.

    Parameters
    ----------
    image : (H, W), (H, W, C) or volume, array_like
    n_segments : int, optional
        How many to make; fewer if there are fewer superpixels. None leaves it to `max_ncut`.
    max_ncut : float, default=0.005
        Without `n_segments`, parts are cut in two while the normalized cut, from 0 to 2, is
        at most this.
    sigma : float, default=7.0
        Distance of colours over which similarity falls to 1/e. In units of Lab for images
        of three channels, else where white is 100.
    n_superpixels : int, default=400
        Superpixels that `segalgos.slic` is asked for.
    labels : (H, W) or (D, H, W) array_like of int, optional
        Regions to use in place of these superpixels; -1 is ignored.
    data_range : float, optional
        Value of white in `image`; found by `segalgos.color.data_range_of` if None.
    mask : array_like of bool, optional
        True where pixels are to be segmented; all others get -1 and have no influence.
    channel_axis : int, None or "auto", default="auto"
        Which axis holds the channels; None for a grey image or volume.

    Returns
    -------
    (H, W) or (D, H, W) int32
        Ids 0..k-1. Segments may lie in pieces if `n_segments` is less than the pieces of
        the mask.

    Raises
    ------
    ValueError
        If an argument is not as expected.

    See Also
    --------
    segalgos.graph.normalized_cuts.cut_graph : The same on any graph.

    Notes
    -----
    The similarity of two touching superpixels is ``exp(-(d / sigma)**2)`` for the distance d
    of their mean colours, times the length of their border [1]_. A part is cut at that value
    of the second eigenvector, out of all, where the normalized cut is least. For
    `n_segments` twice as many are made, by cutting the part with the cheapest cut first;
    then those two are merged again and again that lower the k-way normalized cut most
    (section 3.2 of the paper, which makes the first segments by k-means instead).

    Nothing is random. O(n_superpixels**1.5) time for a cut, beside that of the superpixels.

    References
    ----------
    .. [1] J. Shi and J. Malik, "Normalized cuts and image segmentation", IEEE Trans. Pattern
       Anal. Mach. Intell. 22(8), 888-905, 2000.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos import normalized_cuts
    >>> image = np.zeros((6, 6))
    >>> image[:, 4:] = 1
    >>> normalized_cuts(image, 2, n_superpixels=9)[0]
    array([0, 0, 0, 0, 1, 1], dtype=int32)
    """
    caller = "normalized_cuts"
    _check_parameters(caller, n_segments, max_ncut, sigma, n_superpixels, data_range)
    image = check_image(image, caller, channel_axis=channel_axis, ndims=(2, 3), keep_uint8=True)
    if labels is not None:
        labels = check_label_map(labels, image.shape[:-1], caller)
    if mask is not None:
        mask = check_mask(mask, image.shape[:-1], caller)
    return _segment(
        image, mask, labels, n_segments, max_ncut, sigma, n_superpixels, data_range, caller
    )


class NormalizedCutsSegmenter(Segmenter):
    """Shi and Malik's normalized cuts [1]_, on a graph of superpixels.

    Parameters
    ----------
    n_segments : int, optional
        How many to make; fewer if there are fewer superpixels. None leaves it to `max_ncut`.
    max_ncut : float, default=0.005
        Without `n_segments`, parts are cut in two while the normalized cut, from 0 to 2, is
        at most this.
    sigma : float, default=7.0
        Distance of colours over which similarity falls to 1/e. In units of Lab for images
        of three channels, else where white is 100.
    n_superpixels : int, default=400
        Superpixels that `segalgos.slic` is asked for.
    data_range : float, optional
        Value of white in the images; found for each by `segalgos.color.data_range_of` if
        None.
    channel_axis : int, None or "auto", default="auto"
        Which axis holds the channels; None for a grey image or volume.

    See Also
    --------
    segalgos.normalized_cuts : The same as a function, with the details.

    References
    ----------
    .. [1] J. Shi and J. Malik, "Normalized cuts and image segmentation", IEEE Trans. Pattern
       Anal. Mach. Intell. 22(8), 888-905, 2000.
    """

    traits = Traits(task="partition", family="graph", year=2000, ndims=(2, 3), keeps_uint8=True)

    def __init__(
        self,
        n_segments: int | None = None,
        *,
        max_ncut: float = 0.005,
        sigma: float = 7.0,
        n_superpixels: int = 400,
        data_range: float | None = None,
        channel_axis: int | str | None = "auto",
    ):
        self.n_segments = n_segments
        self.max_ncut = max_ncut
        self.sigma = sigma
        self.n_superpixels = n_superpixels
        self.data_range = data_range
        self.channel_axis = channel_axis

    @classmethod
    def small(cls):
        """Make an instance with tiny parameters, for tests and demos.

        Returns
        -------
        NormalizedCutsSegmenter
        """
        return cls(n_superpixels=40)

    def _check_params(self):
        _check_parameters(
            self._caller,
            self.n_segments,
            self.max_ncut,
            self.sigma,
            self.n_superpixels,
            self.data_range,
        )

    def _predict(self, image, mask, prompts):
        return _segment(
            image,
            mask,
            None,
            self.n_segments,
            self.max_ncut,
            self.sigma,
            self.n_superpixels,
            self.data_range,
            self._caller,
        )
