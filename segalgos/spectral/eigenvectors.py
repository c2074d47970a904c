"""Leading eigenvectors of graphs of pixels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg

from segalgos.checks import check_bool, check_image, check_int, check_mask, check_real
from segalgos.color import find_data_range, rescale, rgb_to_lab
from segalgos.finite import as_finite
from segalgos.parallel import map_strips, one_blas_thread
from segalgos.spectral._stencil import Level
from segalgos.spectral.affinity import PixelGraph, disc_offsets, pixel_graph

__all__ = [
    "PixelEigenvectors",
    "check_affinity",
    "check_contours",
    "graph_of_image",
    "leading_eigenvectors",
    "pixel_eigenvectors",
]

WHITE = 100.0  # `sigma` is in units of Lab, or where white is this
GUARD = 4  # vectors more than are wanted: the last ones converge slowly
N_DENSE = 300  # graphs of so many nodes are solved whole
CHUNK = 16384  # nodes whose products are added up in float32
DEGREES = (18, 24, 32, 48)  # of the filters one after the other; the last one again and again
GAIN, MOST_GAIN = 30.0, 300.0  # of the constant vector over all that a filter damps
MAX_PRODUCTS = 3000
COARSE_TOL = 1e-3  # of coarse levels, which only start the finer ones
MAX_COARSE = 80  # products there
DEPENDENT = 1e-7  # directions of a smaller part of the block's norm are left out


class PixelEigenvectors(NamedTuple):
    """Eigenvectors of a graph of pixels, as `pixel_eigenvectors` gives them.

    Parameters
    ----------
    values : (k,) float64
        Eigenvalues of the normalized Laplacian, ascending from 0.
    vectors : (k, H, W) float32
        Generalised eigenvectors y, with ``y @ D @ y`` of 1; 0 outside the mask.
    residuals : (k,) float64
        Norm of what is left of each, as `pixel_eigenvectors` states it.
    """

    values: NDArray[np.float64]
    vectors: NDArray[np.float32]
    residuals: NDArray[np.float64]


def _solve_dense(level: Level, k: int) -> tuple[NDArray, NDArray, NDArray]:
    """Largest eigenvalues, eigenvectors and residuals of all nodes at once."""
    rim, (n_rows, n_columns) = level.graph.rim, level.graph.shape
    degree = level.degree[rim : rim + n_rows, rim : rim + n_columns].ravel().astype(float)
    inside = np.flatnonzero(degree > 0)
    k = min(k, len(inside))
    scale = 1 / np.sqrt(degree[inside])
    matrix = level.graph.to_sparse()[inside][:, inside].toarray()
    matrix *= scale[:, None]
    matrix *= scale
    vectors = np.zeros((k, *level.degree.shape), np.float32)
    if k == 0:
        return np.empty(0), vectors, np.empty(0)
    values, found = linalg.eigh(matrix, subset_by_index=[len(inside) - k, len(inside) - 1])
    values, found = values[::-1], found[:, ::-1]
    residuals = np.linalg.norm(matrix @ found - found * values, axis=0)
    core = np.zeros((k, n_rows * n_columns), np.float32)
    core[:, inside] = (found * scale[:, None]).T
    core = core.reshape(k, n_rows, n_columns)
    vectors[:, rim : rim + n_rows, rim : rim + n_columns] = core
    return values, vectors, residuals


def _prolong(coarse: Level, fine: Level, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give the four nodes of each block its value."""
    rim, (n_rows, n_columns) = fine.graph.rim, fine.graph.shape
    core = vectors[:, coarse.graph.rim :, coarse.graph.rim :]
    wide = np.zeros((len(vectors), *fine.degree.shape), np.float32)
    for odd_row, odd_column in np.ndindex(2, 2):
        part = wide[:, rim + odd_row : rim + n_rows : 2, rim + odd_column : rim + n_columns : 2]
        part[:] = core[:, : part.shape[1], : part.shape[2]]
    wide *= fine.inverse > 0
    return wide


def _rotate(level: Level, x: NDArray, px: NDArray) -> tuple[NDArray, NDArray]:
    """Turn a block into Ritz vectors (Rayleigh and Ritz), and its products with it.

    Parameters
    ----------
    level : Level
    x, px : (k, H + 2 * r, W + 2 * r) float32, changed
        The block and P times it.

    Returns
    -------
    values : (k,) float64
        Ritz values, falling; -1 for those of directions that were not there.
    residuals : (k,) float64
    """
    k = len(x)
    flat, product, degree = x.reshape(k, -1), px.reshape(k, -1), level.degree.ravel()

    def multiply(start, stop):
        part = flat[:, start:stop]
        weighted = part * degree[start:stop]
        return np.stack([weighted @ part.T, weighted @ product[:, start:stop].T]).astype(float)

    gram, image = sum(map_strips(multiply, flat.shape[1], CHUNK))
    norm = np.sqrt(np.diag(gram))
    scale = np.divide(1, norm, out=np.zeros(k), where=norm > 0)
    gram = gram * scale * scale[:, None]
    image = (image + image.T) / 2 * scale * scale[:, None]
    sizes, axes = linalg.eigh(gram)
    whole = sizes > DEPENDENT * sizes[-1]
    axes = axes[:, whole] / np.sqrt(sizes[whole])
    found, turn = linalg.eigh(axes.T @ image @ axes)
    turn = axes @ turn[:, ::-1] * scale[:, None]
    n = turn.shape[1]
    values = np.full(k, -1.0)
    values[:n] = found[::-1]
    rotation = np.zeros((k, k), np.float32)
    rotation[:n] = turn.T

    def turn_both(start, stop):
        for block in (flat, product):
            block[:, start:stop] = rotation @ block[:, start:stop]
        rest = product[:, start:stop] - values[:, None].astype(np.float32) * flat[:, start:stop]
        rest *= rest
        return rest @ degree[start:stop].astype(float)

    residuals = np.sqrt(sum(map_strips(turn_both, flat.shape[1], CHUNK)))
    residuals[n:] = np.inf
    return values, residuals


def _plan(degree: int, last: float) -> tuple[int, float]:
    """Choose a filter: its degree, and the end of the interval [-1, b] that it damps.

    Parameters
    ----------
    degree : int
        Most.
    last : float
        The least eigenvalue of the block: b lies no higher, or the filter would damp some of
        what is wanted.

    Notes
    -----
    The eigenvalue 1 is lifted `GAIN` times over the interval, and up to `MOST_GAIN` times if b
    has to lie so low: beyond, the first vectors would drown the others in rounding.
    """
    lift = np.cosh(np.arccosh(GAIN) / degree)
    cutoff = max(min(last, 1 - 2 * (lift - 1) / (lift + 1)), -0.9)
    lift = (3 - cutoff) / (1 + cutoff)  # where 1 is mapped to as [-1, b] is mapped to [-1, 1]
    return max(1, min(degree, int(np.arccosh(MOST_GAIN) / np.arccosh(lift)))), cutoff


def _filter(level, x, px, degree, last):
    """Damp what belongs to eigenvalues up to about `last`, by a Chebyshev polynomial.

    Parameters
    ----------
    level : Level
    x, px : (k, H + 2 * r, W + 2 * r) float32, changed
        A block and P times it.
    degree : int
    last : float

    Returns
    -------
    x, px : as they came
        The filtered block, and P times it.
    """
    middle, half = np.float32((last - 1) / 2), np.float32((last + 1) / 2)
    k = len(x)
    flat, product = x.reshape(k, -1), px.reshape(k, -1)

    def first(start, stop):
        part = product[:, start:stop]
        part -= middle * flat[:, start:stop]
        part /= half

    map_strips(first, flat.shape[1], CHUNK)
    for _ in range(degree - 1):
        level.step(px, x, 2 / half, middle, 1)
        x, px = px, x
    level.step(px, x)
    return px, x


def _refine(level, x, last, k, tol, max_products):
    """Filter a block until its first k vectors are near enough, or the products are used up.

    `last` is about the least eigenvalue of the block.
    """
    px = np.zeros_like(x)
    level.step(x, px)
    for turn in range(max_products):
        degree = DEGREES[min(turn, len(DEGREES) - 1)]
        x, px = _filter(level, x, px, *_plan(degree, last))
        values, residuals = _rotate(level, x, px)
        last = values[-1]
        if residuals[:k].max() <= tol or level.n_products >= max_products:
            break
    return values, x, residuals


def leading_eigenvectors(
    graph: PixelGraph, k: int, tol: float, caller: str = "leading_eigenvectors"
) -> tuple[PixelEigenvectors, int]:
    """Find the eigenvectors of a graph that belong to the least eigenvalues.

    Parameters
    ----------
    graph : PixelGraph
    k : int
        How many; fewer if the graph has fewer nodes.
    tol : float
        Largest residual.
    caller : str
        For the message.

    Returns
    -------
    PixelEigenvectors
    n_products : int
        Products of the whole graph with a block of ``k + 4`` vectors, or one more.

    Raises
    ------
    RuntimeError
        If a residual stays above `tol`.
    """
    levels = [Level(graph, graph.degree())]
    block = (k + GUARD + 1) // 2 * 2
    n_dense = max(N_DENSE, 4 * block)
    with one_blas_thread():
        while np.count_nonzero(levels[-1].degree) > n_dense:
            levels.append(levels[-1].coarser())
        if len(levels) == 1:
            values, x, residuals = _solve_dense(levels[0], k)
        else:
            values, x, _ = _solve_dense(levels[-1], block)
        while len(levels) > 1:
            x = _prolong(levels.pop(), levels[-1], x)
            goal = (tol, MAX_PRODUCTS) if len(levels) == 1 else (COARSE_TOL, MAX_COARSE)
            values, x, residuals = _refine(levels[-1], x, values[-1], k, *goal)
    n_products = levels[0].n_products
    if len(residuals) and not residuals[:k].max() <= tol:
        raise RuntimeError(
            f"{caller}: after {n_products} products a residual is {residuals[:k].max():.2g}, "
            f"expected at most tol of {tol:g}: pass a larger tol, or fewer eigenvectors."
        )
    rim, (n_rows, n_columns) = graph.rim, graph.shape
    vectors = x[:k, rim : rim + n_rows, rim : rim + n_columns].copy()
    for vector in vectors:  # the largest entry is positive
        flat = vector.ravel()
        if flat[max(flat.argmax(), flat.argmin(), key=lambda i: abs(flat[i]))] < 0:
            vector *= -1
    values = np.maximum(1 - values[:k], 0)  # rounding may take the first ones below
    return PixelEigenvectors(values, vectors, residuals[:k]), n_products


def graph_of_image(
    image: NDArray,
    mask: NDArray[np.bool_] | None,
    contours: NDArray[np.float32] | None,
    rho: float,
    sigma: float | None,
    radius: float,
    sampled: bool,
    data_range: float | None,
    caller: str,
) -> PixelGraph:
    """Tie the pixels of a checked image; see `pixel_eigenvectors`.

    Parameters
    ----------
    image : (H, W, C) uint8 or float32
    mask : (H, W) bool or None
    contours : (H, W) float32 or None
    rho, sigma, radius, sampled, data_range : as `pixel_eigenvectors` takes them
    caller : str
        For messages.

    Returns
    -------
    PixelGraph
    """
    planes = None
    if sigma is not None:
        data_range = find_data_range(image, mask, data_range, caller)
        if mask is not None:
            image = np.where(mask[..., None], image, 0).astype(image.dtype)
        if image.shape[-1] == 3:
            planes = rgb_to_lab(image, data_range, channels_first=True)
        else:
            colors = rescale(image, data_range, WHITE)
            planes = np.ascontiguousarray(np.moveaxis(colors, -1, 0), np.float32)
    offsets = disc_offsets(radius, sampled=sampled)
    inside = np.ones(image.shape[:2], bool) if mask is None else mask
    return pixel_graph(
        offsets,
        inside,
        contours=contours,
        rho=rho,
        planes=planes,
        sigma=1.0 if sigma is None else sigma,
    )


def check_contours(contours: ArrayLike, shape: tuple[int, int], caller: str) -> NDArray[np.float32]:
    """Check strengths of contours, and take the largest of each pixel.

    Parameters
    ----------
    contours : (H, W) or (K, H, W) array_like
    shape : tuple of int
        Of the image.
    caller : str
        For messages.

    Returns
    -------
    (H, W) float32
    """
    ndim = np.ndim(contours)
    if ndim not in (2, 3) or np.shape(contours)[-2:] != tuple(shape) or np.size(contours) == 0:
        raise ValueError(
            f"{caller}: contours has shape {np.shape(contours)}, expected {tuple(shape)} like the "
            "image, or (K, H, W) for K orientations."
        )
    found = as_finite(contours, np.float32, (None,) * ndim, f"{caller}: contours")
    if found.size and found.min() < 0:
        raise ValueError(
            f"{caller}: contours has {found.min():g}, expected strengths of at least 0."
        )
    return np.ascontiguousarray(found.max(axis=0) if ndim == 3 else found)


def pixel_eigenvectors(
    image: ArrayLike,
    n_eigenvectors: int = 16,
    *,
    contours: ArrayLike | None = None,
    rho: float = 0.1,
    sigma: float | None = 20.0,
    radius: float = 5,
    sampled: bool = False,
    tol: float = 1e-3,
    data_range: float | None = None,
    mask: ArrayLike | None = None,
    channel_axis: int | str | None = "auto",
) -> PixelEigenvectors:
    r"""Find the leading eigenvectors of normalized cuts on the graph of an image's pixels.

    Parameters
    ----------
    image : (H, W) or (H, W, C) array_like
    n_eigenvectors : int, default=16
        How many, the constant one among them; fewer if there are fewer pixels.
    contours : (H, W) or (K, H, W) array_like, optional
        How strong a contour is at each pixel, of at least 0, for instance from
        `segalgos.multiscale_pb`; of several orientations the strongest counts. Thin contours,
        as `segalgos.non_maximum_suppression` gives them, leave the pixels beside them tied.
    rho : float, default=0.1
        Strength of a contour that similarity falls to 1/e across.
    sigma : float, default=20
        Distance of colours over which similarity falls to 1/e, in units of Lab for images of
        three channels, else where white is 100. None leaves colours out.
    radius : float, default=5
        Pixels are tied up to this distance, from 1 to 100.
    sampled : bool, default=False
        Of neighbours further away than 5 pixels use only some, fewer the further away.
    tol : float, default=1e-3
        Largest residual, from 1e-5 to 0.1.
    data_range : float, optional
        Value of white; found by `segalgos.color.data_range_of` if None.
    mask : (H, W) array_like of bool, optional
        Pixels outside it are tied to none, and get 0.
    channel_axis : int, None or "auto", default="auto"
        Which axis holds the channels; None for a grey image.

    Returns
    -------
    PixelEigenvectors
        ``values, vectors, residuals``.

    Raises
    ------
    ValueError
        If an argument is not as expected.
    RuntimeError
        If a residual stays above `tol` for all that.

    See Also
    --------
    segalgos.normalized_cuts : Segments from them.

    Notes
    -----
    Similarities of pixels i and j that lie no more than `radius` apart are

    .. math:: w_{ij} = \exp(-\max_{p \in \overline{ij}} c_p / \rho) \exp(-|z_i - z_j|^2 / \sigma^2)

    with the contours c between them [1]_ [2]_ and the colours z. With the degrees
    :math:`D = \operatorname{diag}(W 1)` the eigenvectors are those of
    :math:`(D - W) y = \lambda D y` with the least :math:`\lambda`. A residual is
    :math:`\|D^{-1/2} W D^{-1/2} x - (1 - \lambda) x\|_2` for the unit vector
    :math:`x = D^{1/2} y`, the measure that ARPACK stops by.

    Blocks of 2 x 2 pixels are joined again and again until few hundred nodes are left, whose
    eigenvectors are the start. On each finer level they are smoothed by Chebyshev polynomials of
    :math:`D^{-1} W`, which damp what belongs to small eigenvalues of it, and turned into Ritz
    vectors. The level of pixels takes some 20 to 45 products of W with all vectors at `tol` of
    1e-3. A residual bounds how far an eigenvalue is from some eigenvalue of the graph; vectors
    whose eigenvalues are nearer to one another than `tol` may be mixed.

    Products are of float32, sums over the image of float64. Nothing is random, and any number of
    threads gives the same bits. O(n_pixels * radius**2 * n_eigenvectors) time a product; memory
    for n_pixels times half the neighbours and twice the vectors.

    References
    ----------
    .. [1] T. Leung and J. Malik, "Contour continuity in region based image segmentation", ECCV
       1998.
    .. [2] P. Arbelaez, M. Maire, C. Fowlkes, J. Malik, "Contour Detection and Hierarchical
       Image Segmentation", IEEE TPAMI 33(5), 898-916, 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos import pixel_eigenvectors
    >>> image = np.tile(np.repeat([0, 0.3], [12, 18]), (20, 1))
    >>> found = pixel_eigenvectors(image, 2)
    >>> found.values.round(3).tolist()
    [0.0, 0.015]
    >>> np.unique(found.vectors[1] > 0, axis=0).nonzero()[1].tolist()  # columns of one sign
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    """
    caller = "pixel_eigenvectors"
    check_int(caller, "n_eigenvectors", n_eigenvectors, low=1, high=1000)
    check_affinity(caller, rho, sigma, radius, sampled, tol, data_range)
    image = check_image(image, caller, channel_axis=channel_axis, keep_uint8=True)
    if mask is not None:
        mask = check_mask(mask, image.shape[:2], caller)
    if contours is not None:
        contours = check_contours(contours, image.shape[:2], caller)
    elif sigma is None:
        raise ValueError(
            f"{caller}: contours and sigma are None, expected at least one of them: pass contours, "
            "for instance those of multiscale_pb, or a sigma."
        )
    graph = graph_of_image(image, mask, contours, rho, sigma, radius, sampled, data_range, caller)
    return leading_eigenvectors(graph, n_eigenvectors, tol, caller)[0]


def check_affinity(caller, rho, sigma, radius, sampled, tol, data_range):
    """Check the parameters that `pixel_eigenvectors` shares with others.

    Parameters
    ----------
    caller : str
        For messages.
    rho, sigma, radius, sampled, tol, data_range : as `pixel_eigenvectors` takes them
    """
    check_real(caller, "rho", rho, above=0)
    if sigma is not None:
        check_real(caller, "sigma", sigma, above=0)
    check_real(caller, "radius", radius, low=1, high=100)
    check_bool(caller, "sampled", sampled)
    check_real(caller, "tol", tol, low=1e-5, high=0.1)
    if data_range is not None:
        check_real(caller, "data_range", data_range, above=0)
