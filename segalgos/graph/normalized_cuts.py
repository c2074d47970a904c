"""Normalized cuts of superpixels, of pixels, or of any graph."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from segalgos.base import Segmenter, Traits
from segalgos.checks import (
    check_choice,
    check_image,
    check_int,
    check_label_map,
    check_mask,
    check_real,
)
from segalgos.color import find_data_range, rescale, rgb_to_lab
from segalgos.graph._recursive_cuts import leading_of_graph, prune, segment_links, split
from segalgos.graph.pixel_cuts import Affinity, k_way_segments, kept_of, pixel_segments
from segalgos.region_graph import region_graph
from segalgos.spectral.eigenvectors import check_affinity, check_contours

__all__ = ["NormalizedCutsSegmenter", "cut_graph", "ncut_value", "normalized_cuts"]

WHITE = 100.0  # `sigma` is in units of Lab, or where white is this
FAINT = 1e-12  # links below this part of the strongest are taken as none
OVERSPLIT = 2  # as many times the segments wanted are made first


def _check_cut(caller, n_segments, max_ncut):
    if n_segments is not None:
        check_int(caller, "n_segments", n_segments, low=1)
    check_real(caller, "max_ncut", max_ncut, low=0)


def _cut(weights, n_segments, max_ncut, method="recursive"):
    """Segments of a checked graph, in the order of their first nodes."""
    weights = weights.copy()
    weights.data[weights.data < FAINT * weights.data.max(initial=0)] = 0
    weights.eliminate_zeros()
    n = weights.shape[0]
    if method == "k_way":
        vectors = leading_of_graph(weights, n_segments).astype(np.float32)
        segments = k_way_segments(vectors[:, None], np.ones((1, n), bool))[0]
    elif n_segments is None:
        segments = split(weights, n, max_ncut)
    else:
        segments = split(weights, min(n, OVERSPLIT * n_segments), np.inf)
        segments = prune(weights, segments, n_segments)
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
    links, total = segment_links(weights, segments)
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


def _check_parameters(parameters, ndim, caller):
    """Check what the function and the segmenter share; `ndim` counts no channels."""
    n_segments, nodes, method, max_ncut, sigma, n_superpixels, rho, radius, tol, data_range = (
        parameters
    )
    _check_cut(caller, n_segments, max_ncut)
    check_choice(caller, "nodes", nodes, ("superpixels", "pixels"))
    check_choice(caller, "method", method, ("recursive", "k_way"))
    check_int(caller, "n_superpixels", n_superpixels, low=1)
    check_real(caller, "sigma", sigma, above=0)
    check_affinity(caller, rho, sigma, radius, False, tol, data_range)
    if method == "k_way" and n_segments is None:
        raise ValueError(
            f"{caller}: n_segments is None, expected an integer with method='k_way': pass how many "
            "to make."
        )
    if nodes == "pixels" and ndim == 3:
        raise ValueError(
            f"{caller}: nodes is 'pixels' for a volume, expected an image: pass "
            "nodes='superpixels'."
        )


def _segment(image, mask, labels, contours, parameters, caller, kept=None):
    """Segment a checked image; see `normalized_cuts`."""
    n_segments, nodes, method, max_ncut, sigma, n_superpixels, rho, radius, tol, data_range = (
        parameters
    )
    if nodes == "pixels":
        affinity = Affinity(sigma, rho, radius, tol, data_range)
        cut = n_segments, method, max_ncut
        return pixel_segments(image, mask, *cut, affinity, contours, caller, kept)
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
    segments = _cut(weights, n_segments, max_ncut, method)
    return np.append(segments, np.int32(-1))[graph.labels]


def normalized_cuts(
    image: ArrayLike,
    n_segments: int | None = None,
    *,
    nodes: str = "superpixels",
    method: str = "recursive",
    max_ncut: float = 0.005,
    sigma: float = 7.0,
    n_superpixels: int = 400,
    labels: ArrayLike | None = None,
    contours: ArrayLike | None = None,
    rho: float = 0.1,
    radius: float = 5,
    tol: float = 1e-3,
    data_range: float | None = None,
    mask: ArrayLike | None = None,
    channel_axis: int | str | None = "auto",
) -> NDArray[np.int32]:
    """Cut an image where little similarity is lost, in relation to what stays together.

    Parameters
    ----------
    image : (H, W), (H, W, C) or volume, array_like
    n_segments : int, optional
        How many to make; fewer if there are fewer nodes. None leaves it to `max_ncut`.
    nodes : {"superpixels", "pixels"}, default="superpixels"
        Cut a graph of superpixels, quickly, or that of all pixels of an image.
    method : {"recursive", "k_way"}, default="recursive"
        Cut parts in two again and again, or make `n_segments` at once from as many
        eigenvectors; that may leave some out.
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
    contours : (H, W) or (K, H, W) array_like, optional
        Strengths of contours, for pixels. None takes thin ones of `segalgos.multiscale_pb` for
        grey images and those of three channels, and none for others.
    rho : float, default=0.1
        Strength of a contour that the similarity of pixels falls to 1/e across.
    radius : float, default=5
        Pixels are tied up to this distance.
    tol : float, default=1e-3
        Largest residual of the pixels' eigenvectors.
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
        the mask, and those of pixels or of "k_way" otherwise too.

    Raises
    ------
    ValueError
        If an argument is not as expected.

    See Also
    --------
    segalgos.graph.normalized_cuts.cut_graph : The same on any graph.
    segalgos.pixel_eigenvectors : Eigenvectors of the graph of pixels, with the details.

    Notes
    -----
    The similarity of two touching superpixels is ``exp(-(d / sigma)**2)`` for the distance d
    of their mean colours, times the length of their border [1]_. A part is cut at that value
    of the second eigenvector, out of all, where the normalized cut is least. For
    `n_segments` twice as many are made, by cutting the part with the cheapest cut first;
    then those two are merged again and again that lower the k-way normalized cut most
    (section 3.2 of the paper, which makes the first segments by k-means instead).

    Pixels have 16 eigenvectors solved for, or 32, 64 ... for more segments. A part is cut by the
    best combination of these: the second eigenvector of its own graph as far as they can express
    it, at one of 256 values. So no part needs another eigensolver. "k_way" turns the first
    `n_segments` eigenvectors until each pixel is near an axis [2]_.

    Nothing is random. O(n_superpixels**1.5) time for a cut, beside that of the superpixels.

    References
    ----------
    .. [1] J. Shi and J. Malik, "Normalized cuts and image segmentation", IEEE Trans. Pattern
       Anal. Mach. Intell. 22(8), 888-905, 2000.
    .. [2] S. Yu and J. Shi, "Multiclass Spectral Clustering", ICCV 2003.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos import normalized_cuts
    >>> image = np.zeros((6, 6))
    >>> image[:, 4:] = 1
    >>> normalized_cuts(image, 2, n_superpixels=9)[0]
    array([0, 0, 0, 0, 1, 1], dtype=int32)
    >>> normalized_cuts(image, 2, nodes="pixels")[0]
    array([0, 0, 0, 0, 1, 1], dtype=int32)
    """
    caller = "normalized_cuts"
    image = check_image(image, caller, channel_axis=channel_axis, ndims=(2, 3), keep_uint8=True)
    parameters = n_segments, nodes, method, max_ncut, sigma, n_superpixels, rho, radius, tol
    parameters = *parameters, data_range
    _check_parameters(parameters, image.ndim - 1, caller)
    if labels is not None:
        labels = check_label_map(labels, image.shape[:-1], caller)
    unused = "labels" if nodes == "pixels" else "contours"
    if (labels if nodes == "pixels" else contours) is not None:
        raise ValueError(
            f"{caller}: got {unused} with nodes={nodes!r}, which has no use for them: leave them "
            "out, or choose other nodes."
        )
    if contours is not None:
        contours = check_contours(contours, image.shape[:2], caller)
    if mask is not None:
        mask = check_mask(mask, image.shape[:-1], caller)
    return _segment(image, mask, labels, contours, parameters, caller)


class NormalizedCutsSegmenter(Segmenter):
    """Shi and Malik's normalized cuts [1]_, on a graph of superpixels or of pixels.

    Parameters
    ----------
    n_segments : int, optional
        How many to make; fewer if there are fewer nodes. None leaves it to `max_ncut`.
    nodes : {"superpixels", "pixels"}, default="superpixels"
        Cut a graph of superpixels, quickly, or that of all pixels of an image.
    method : {"recursive", "k_way"}, default="recursive"
        Cut parts in two again and again, or make `n_segments` at once from as many
        eigenvectors; that may leave some out.
    max_ncut : float, default=0.005
        Without `n_segments`, parts are cut in two while the normalized cut, from 0 to 2, is
        at most this.
    sigma : float, default=7.0
        Distance of colours over which similarity falls to 1/e. In units of Lab for images
        of three channels, else where white is 100.
    n_superpixels : int, default=400
        Superpixels that `segalgos.slic` is asked for.
    rho : float, default=0.1
        Strength of a contour, of `segalgos.multiscale_pb`, that the similarity of pixels falls to
        1/e across.
    radius : float, default=5
        Pixels are tied up to this distance.
    tol : float, default=1e-3
        Largest residual of the pixels' eigenvectors.
    data_range : float, optional
        Value of white in the images; found for each by `segalgos.color.data_range_of` if
        None.
    channel_axis : int, None or "auto", default="auto"
        Which axis holds the channels; None for a grey image or volume.

    See Also
    --------
    segalgos.normalized_cuts : The same as a function, with the details.

    Notes
    -----
    With pixels, the eigenvectors of the last two images are kept beside the segmenter, not in
    its copies and model files. So another `n_segments`, `method` or `max_ncut` for the same image
    needs no new ones; more than 16, 32, 64 ... segments need them once.

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
        nodes: str = "superpixels",
        method: str = "recursive",
        max_ncut: float = 0.005,
        sigma: float = 7.0,
        n_superpixels: int = 400,
        rho: float = 0.1,
        radius: float = 5,
        tol: float = 1e-3,
        data_range: float | None = None,
        channel_axis: int | str | None = "auto",
    ):
        self.n_segments = n_segments
        self.nodes = nodes
        self.method = method
        self.max_ncut = max_ncut
        self.sigma = sigma
        self.n_superpixels = n_superpixels
        self.rho = rho
        self.radius = radius
        self.tol = tol
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

    def _parameters(self):
        return (
            self.n_segments,
            self.nodes,
            self.method,
            self.max_ncut,
            self.sigma,
            self.n_superpixels,
            self.rho,
            self.radius,
            self.tol,
            self.data_range,
        )

    def _check_params(self):
        _check_parameters(self._parameters(), 2, self._caller)

    def _predict(self, image, mask, prompts):
        _check_parameters(self._parameters(), image.ndim - 1, self._caller)
        kept = kept_of(self) if self.nodes == "pixels" else None
        return _segment(image, mask, None, None, self._parameters(), self._caller, kept)
