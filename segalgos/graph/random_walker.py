"""Random walker: where would a walk that shuns edges first meet a seed?"""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from sklearn.exceptions import ConvergenceWarning

from segalgos.base import Segmenter, Traits
from segalgos.checks import check_bool, check_image, check_label_map, check_mask, check_real
from segalgos.color import find_data_range
from segalgos.graph._multigrid import Multigrid
from segalgos.parallel import map_items, map_strips

__all__ = ["RandomWalkerSegmenter", "random_walker"]

WEAKEST = 1e-10  # coupling across the hardest edge
# How far the solver's estimate of its error may stay below the error: up to four times is
# seen, on photographs at any beta.
SAFETY = 6
MAX_ITER = 500
STRIP = 1 << 17  # pixels


@njit(nogil=True, cache=True)
def _sums(image, inside, origin, first, last):
    """Count, sum and sum of squares of all values inside, from `origin`, over some rows."""
    n = total = squares = 0.0
    for row in range(first, last):
        for x in range(inside.shape[1]):
            if inside[row, x]:
                for c in range(image.shape[2]):
                    value = np.float64(image[row, x, c]) - origin
                    n += 1
                    total += value
                    squares += value * value
    return n, total, squares


@njit(nogil=True, cache=True)
def _differences(image, inside, squared, first, last):
    """Write the squared distance of colours to the next pixel along each axis.

    Parameters
    ----------
    image : (D, H, W, C) uint8 or float32
    inside : (D, H, W) bool
    squared : (3, D, H, W) float64
        Along rows, columns and slices, overwritten in part; inf where there is no such
        neighbour inside.
    first, last : int
        Range of rows, counted over all slices.
    """
    depth, height, _, n_channels = image.shape
    for row in range(first, last):
        z, y = row // height, row % height
        for axis in range(squared.shape[0]):
            z2, y2, dx = z + (axis == 2), y + (axis == 1), int(axis == 0)
            out = squared[axis, z, y]
            out[:] = np.inf
            if z2 >= depth or y2 >= height:
                continue
            here, there = image[z, y], image[z2, y2, dx:]
            inside_here, inside_there = inside[z, y], inside[z2, y2, dx:]
            for x in range(there.shape[0]):
                if inside_here[x] and inside_there[x]:
                    total = 0.0
                    for c in range(n_channels):
                        difference = np.float64(here[x, c]) - np.float64(there[x, c])
                        total += difference * difference
                    out[x] = total


@njit(nogil=True, cache=True)
def _tie(couplings, steps, seeds, label, currents):
    """Add to each unknown node its couplings to seeds of one label, or of all if it is -1.

    Parameters
    ----------
    couplings : (n_steps, n) float32
    steps : (n_steps,) int64
    seeds : (n,) int32
        Index of the label, -1 where unknown.
    label : int
    currents : (n,) float64
    """
    for k in range(steps.shape[0]):
        step = steps[k]
        for i in range(seeds.shape[0] - step):
            a, b = seeds[i], seeds[i + step]
            if a < 0 and b >= 0 and (b == label or label < 0):
                currents[i] += couplings[k, i]
            elif b < 0 and a >= 0 and (a == label or label < 0):
                currents[i + step] += couplings[k, i]


@njit(nogil=True, cache=True)
def _cut(couplings, steps, seeds):
    """Set the couplings of seeds to zero."""
    for k in range(steps.shape[0]):
        for i in range(seeds.shape[0]):
            if seeds[i] >= 0:
                couplings[k, i] = 0
                couplings[k, i - steps[k]] = 0


@njit(nogil=True, cache=True)
def _share_out(proba, inside, first, last):
    """Clip the probabilities of all labels but the last, which gets the rest, over some rows.

    Parameters
    ----------
    proba : (n_rows, W, K) float32
    inside : (n_rows, W) bool
        Where they add up to one; else they are zero.
    """
    for y in range(first, last):
        for x in range(inside.shape[1]):
            rest = np.float64(inside[y, x])
            for k in range(proba.shape[2] - 1):
                proba[y, x, k] = min(max(proba[y, x, k], 0.0), rest)
                rest -= proba[y, x, k]
            proba[y, x, -1] = max(rest, 0.0)


def _check_parameters(caller, beta, spacing, tol, data_range):
    check_real(caller, "beta", beta, low=0)
    check_real(caller, "tol", tol, above=0, high=0.1)
    if spacing is not None:
        if np.ndim(spacing) != 1 or len(spacing) not in (2, 3):
            raise ValueError(
                f"{caller}: spacing is {spacing!r}, expected one number an axis: pass for "
                "instance spacing=(1, 1), or (3, 1, 1) for a volume of thick slices."
            )
        for i, length in enumerate(spacing):
            check_real(caller, f"spacing[{i}]", length, above=0)
    if data_range is not None:
        check_real(caller, "data_range", data_range, above=0)


def _couplings(image, inside, beta, spacing, data_range):
    """Weights of all links, (n_axes, D, H, W): along rows, columns and, in volumes, slices."""
    depth, height, width, _ = image.shape
    strip = max(1, STRIP // width)
    rows = image.reshape(depth * height, width, -1), inside.reshape(-1, width)
    origin = float(image.reshape(-1, image.shape[3])[np.argmax(inside), 0])
    parts = map_strips(partial(_sums, *rows, origin), depth * height, strip)
    n, total, squares = np.sum(parts, axis=0)
    deviation = np.sqrt(max(squares / n - (total / n) ** 2, 0.0))
    scale = 0.0
    if deviation > 0:
        scale = beta / (10 * np.sqrt(image.shape[3]) * deviation * data_range)
    weights = np.empty((len(spacing), depth, height, width))
    by_row = weights.reshape(len(spacing), depth * height, width)

    def weigh(start, stop):
        _differences(image, inside, weights, start, stop)
        for axis, length in enumerate(spacing[::-1]):
            part = by_row[axis, start:stop]
            missing = np.isinf(part)
            part[missing] = 0
            part *= -scale / length**2
            np.exp(part, out=part)
            part += WEAKEST
            part[missing] = 0

    map_strips(weigh, depth * height, strip)
    return weights


def _reachable(inside, seeds, spacing):
    """Give each piece of the mask without a seed the label of the seed nearest to it.

    Returns
    -------
    reachable : bool ndarray
        Where walks meet seeds.
    nearest : int32 ndarray
        Index of the label in pieces without a seed, -1 elsewhere.
    """
    pieces, n_pieces = ndimage.label(inside)
    seeded = np.zeros(n_pieces + 1, bool)
    seeded[pieces[inside & (seeds >= 0)]] = True
    reachable = inside & seeded[pieces]
    nearest = np.full(inside.shape, -1, np.int32)
    islands = np.flatnonzero(~seeded[1:]) + 1
    if len(islands):
        distance, where = ndimage.distance_transform_edt(
            seeds < 0, sampling=spacing, return_indices=True
        )
        closest = ndimage.minimum_position(distance, pieces, islands)
        label = np.full(n_pieces + 1, -1, np.int32)
        label[islands] = [seeds[tuple(where[:, *pixel])] for pixel in closest]
        nearest = label[pieces]
    return reachable, nearest


def _probabilities(image, seeds, mask, beta, spacing, tol, data_range, caller):
    """Solve for a checked image (H, W, C) or (D, H, W, C); see `random_walker`.

    Returns
    -------
    ids : (K,) int32
    proba : (..., K) float32
    """
    shape = seeds.shape
    if spacing is not None and len(spacing) != len(shape):
        raise ValueError(
            f"{caller}: spacing has {len(spacing)} numbers, the image has {len(shape)} axes: pass "
            "one an axis."
        )
    spacing = np.ones(len(shape)) if spacing is None else np.asarray(spacing, float)
    ids = np.unique(seeds[seeds >= 0])
    if len(ids) == 0:
        raise ValueError(
            f"{caller}: there are no seeds (all are -1): mark at least one pixel with a label's "
            "id, from 0 on."
        )
    data_range = find_data_range(image, mask, data_range, caller)
    known = np.where(seeds >= 0, np.searchsorted(ids, seeds), -1).astype(np.int32)
    inside, nearest = np.ones(shape, bool), np.full(shape, -1, np.int32)
    if mask is not None:
        inside, nearest = _reachable(mask, known, spacing)
    known[~inside] = -1
    proba = np.zeros((*shape, len(ids)), np.float32)
    if inside.any():
        if len(ids) == 1:
            proba[inside] = 1
        else:
            _solve(image, known, inside, beta, spacing, tol, data_range, caller, proba)
    fixed = np.maximum(known, nearest)
    sure = fixed >= 0
    proba[sure] = np.eye(len(ids), dtype=np.float32)[fixed[sure]]
    return ids, proba


class _Layout:
    """Pixels in one row, with a column and a row of none after each row and slice.

    So a neighbour is a fixed step away, and steps over the border meet a coupling of zero.
    Odd sizes make odd steps, and neighbours of unlike parity.
    """

    def __init__(self, shape: tuple[int, int, int], n_axes: int):
        depth, height, width = self.shape = shape
        self.padded = (depth, (height + 1) | 1, (width + 1) | 1)
        strides = [1, self.padded[2], self.padded[1] * self.padded[2]]
        self.steps = np.array(strides)[:n_axes]
        self.margin, self.n = int(self.steps[-1]) + 1, int(np.prod(self.padded))
        self.length = 2 * self.margin + self.n + self.n % 2

    def grid(self, flat: NDArray) -> NDArray:
        """View of the pixels (..., D, H, W) in flat arrays (..., length)."""
        inner = flat[..., self.margin : self.margin + self.n]
        return inner.reshape(*flat.shape[:-1], *self.padded)[..., : self.shape[1], : self.shape[2]]

    def couplings(self, image, inside, beta, spacing, data_range) -> NDArray[np.float32]:
        """Couplings of all pixels to the next one along each axis, (n_axes, length)."""
        flat = np.zeros((len(self.steps), self.length), np.float32)
        self.grid(flat)[:] = _couplings(image, inside, beta, spacing, data_range)
        return flat


def _solve_labels(network, sources_of, layout, inside, tol, caller, proba):
    """Write the probabilities of all pixels inside; ``sources_of(label)`` feeds the network."""

    def solve(label):
        x, _, error = network.solve(sources_of(label), tol=tol / SAFETY, max_iter=MAX_ITER)
        proba[..., label] = layout.grid(x)
        return error

    worst = max(map_items(solve, range(proba.shape[-1] - 1)))
    if worst > tol / SAFETY:
        warnings.warn(
            f"{caller}: probabilities may be wrong by {worst:.1g} after {MAX_ITER} iterations, "
            f"expected {tol:g}: lower beta, or raise tol.",
            ConvergenceWarning,
            stacklevel=2,
        )
    depth, height, width = inside.shape
    rows = proba.reshape(depth * height, width, -1), inside.reshape(-1, width)
    map_strips(partial(_share_out, *rows), depth * height, max(1, STRIP // width))


def _solve(image, seeds, inside, beta, spacing, tol, data_range, caller, proba):
    """Write the probabilities of all pixels inside."""
    lift = (1,) * (3 - seeds.ndim)
    image, inside = image.reshape(lift + image.shape), inside.reshape(lift + inside.shape)
    layout = _Layout(inside.shape, len(spacing))
    couplings = layout.couplings(image, inside, beta, spacing, data_range)
    known = np.full(layout.length, -1, np.int32)
    layout.grid(known)[:] = seeds.reshape(inside.shape)
    ground = np.zeros(layout.length)
    _tie(couplings, layout.steps, known, -1, ground)
    open_couplings = couplings.copy()
    _cut(open_couplings, layout.steps, known)
    network = Multigrid(open_couplings, layout.steps, ground)
    del open_couplings

    def sources(label):
        currents = np.zeros(layout.length)
        _tie(couplings, layout.steps, known, label, currents)
        return currents

    _solve_labels(network, sources, layout, inside, tol, caller, proba.reshape(*inside.shape, -1))


def walk_from_priors(
    image: NDArray,
    proba: NDArray[np.float32],
    mask: NDArray[np.bool_] | None,
    prior_weight: float,
    beta: float,
    caller: str,
    *,
    tol: float = 1e-3,
) -> NDArray[np.float32]:
    """Smooth probabilities by random walks that may end at any pixel [1]_.

    Parameters
    ----------
    image : (H, W, C) or (D, H, W, C) uint8 or float32
    proba : (H, W, K) or (D, H, W, K) float32
        They add up to one.
    mask : (H, W) or (D, H, W) bool, optional
        True where there is something to smooth; all else becomes 0.
    prior_weight : float
        Above 0: how readily a walk ends and takes a class by the pixel's own
        probabilities, beside 1 for a step to an equal neighbour.
    beta : float
        How much walks shun edges, as in `random_walker`.
    caller : str
        For a warning.
    tol : float, default=1e-3
        Largest error of a probability, as estimated.

    Returns
    -------
    (H, W, K) or (D, H, W, K) float32
        They add up to one inside the mask.

    References
    ----------
    .. [1] L. Grady, "Multilabel random walker image segmentation using prior models", CVPR,
       763-770, 2005.
    """
    shape, n_classes = proba.shape[:-1], proba.shape[-1]
    inside = np.ones(shape, bool) if mask is None else mask
    smooth = np.where(inside[..., None], np.float32(1), np.float32(0)).repeat(n_classes, -1)
    if n_classes == 1:
        return smooth
    data_range = find_data_range(image, mask, None, caller)
    lift = (1,) * (3 - len(shape))
    image, inside = image.reshape(lift + image.shape), inside.reshape(lift + shape)
    layout = _Layout(inside.shape, len(shape))
    couplings = layout.couplings(image, inside, beta, np.ones(len(shape)), data_range)
    ground = np.zeros(layout.length)
    layout.grid(ground)[inside] = prior_weight
    network = Multigrid(couplings, layout.steps, ground)
    by_pixel, smooth = proba.reshape(*inside.shape, -1), smooth.reshape(*inside.shape, -1)

    def sources(label):
        currents = np.zeros(layout.length)
        layout.grid(currents)[inside] = prior_weight * by_pixel[inside][:, label]
        return currents

    _solve_labels(network, sources, layout, inside, tol, caller, smooth)
    return smooth.reshape(proba.shape)


def _labels(ids, proba, mask):
    labels = ids[np.argmax(proba, axis=-1)].astype(np.int32)
    if mask is not None:
        labels[~mask] = -1
    return labels


def random_walker(
    image: ArrayLike,
    seeds: ArrayLike,
    *,
    beta: float = 1000.0,
    spacing: ArrayLike | None = None,
    return_proba: bool = False,
    tol: float = 1e-3,
    data_range: float | None = None,
    mask: ArrayLike | None = None,
    channel_axis: int | str | None = "auto",
) -> NDArray[np.int32] | tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Label each pixel like the seed that a random walk from it most probably meets first.

    Parameters
    ----------
    image : (H, W), (H, W, C) or volume, array_like
    seeds : (H, W) or (D, H, W) array_like of int
        Ids of labels from 0 on where they are known, -1 elsewhere.
    beta : float, default=1000.0
        How much walks shun edges; 0 makes them blind.
    spacing : (2,) or (3,) array_like of float, optional
        Distance of neighbouring pixels along each axis; ones if None.
    return_proba : bool, default=False
        Give the probabilities too.
    tol : float, default=1e-3
        Largest error of a probability, as estimated.
    data_range : float, optional
        Value of white in `image`; found by `segalgos.color.data_range_of` if None.
    mask : array_like of bool, optional
        True where pixels are to be segmented; all others get -1, and no walk enters them.
    channel_axis : int, None or "auto", default="auto"
        Which axis holds the channels; None for a grey image or volume.

    Returns
    -------
    labels : (H, W) or (D, H, W) int32
        Ids of seeds.
    proba : (H, W, K) or (D, H, W, K) float32
        Of the K ids in rising order; they add up to one inside the mask and are zero
        outside. Only with `return_proba`.

    Raises
    ------
    ValueError
        If there is no seed, or an argument is not as expected.

    Warns
    -----
    sklearn.exceptions.ConvergenceWarning
        If the solver gives up before `tol` is reached.

    Notes
    -----
    A step to a neighbouring pixel (4, in volumes 6) is taken in proportion to
    ``exp(-beta * d**2 / (10 * s * sqrt(C) * h**2)) + 1e-10``, where d is the Euclidean
    distance of both colours, white being 1, s the standard deviation of all values, C the
    number of channels and h the spacing: the form of scikit-image, whose default beta is 130.

    Probabilities solve a Laplace equation for each label but one. The solver is
    conjugate gradients, preconditioned by multigrid on grids that follow the image's edges;
    its number of iterations hardly depends on size or beta: O(n_pixels * K) time and
    memory. Labels are spread over the cores.

    A piece of the mask in which there is no seed takes as a whole the label of the seed
    nearest to it, which may lie outside the mask. Other seeds there have no influence.

    References
    ----------
    .. [1] L. Grady, "Random walks for image segmentation", IEEE Trans. Pattern Anal. Mach.
       Intell. 28(11), 1768-1783, 2006.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos import random_walker
    >>> image = np.zeros((3, 6))
    >>> image[:, 4:] = 1
    >>> seeds = np.full((3, 6), -1)
    >>> seeds[1, 0], seeds[1, 5] = 7, 3
    >>> random_walker(image, seeds)[0]
    array([7, 7, 7, 7, 3, 3], dtype=int32)
    """
    caller = "random_walker"
    _check_parameters(caller, beta, spacing, tol, data_range)
    check_bool(caller, "return_proba", return_proba)
    image = check_image(image, caller, channel_axis=channel_axis, ndims=(2, 3), keep_uint8=True)
    seeds = check_label_map(seeds, image.shape[:-1], caller, "seeds")
    if mask is not None:
        mask = check_mask(mask, image.shape[:-1], caller)
    ids, proba = _probabilities(image, seeds, mask, beta, spacing, tol, data_range, caller)
    labels = _labels(ids, proba, mask)
    return (labels, proba) if return_proba else labels


class RandomWalkerSegmenter(Segmenter):
    """Grady's random walker [1]_, seeded by prompts.

    Scribbles give any number of labels. Points give the labels 1 (inside) and 0 (outside),
    and all pixels outside the boxes are seeds of 0.

    Parameters
    ----------
    beta : float, default=1000.0
        How much walks shun edges; 0 makes them blind.
    spacing : (2,) or (3,) array_like of float, optional
        Distance of neighbouring pixels along each axis; ones if None.
    tol : float, default=1e-3
        Largest error of a probability, as estimated.
    data_range : float, optional
        Value of white in the images; found for each by `segalgos.color.data_range_of` if
        None.
    channel_axis : int, None or "auto", default="auto"
        Which axis holds the channels; None for a grey image or volume.

    See Also
    --------
    segalgos.random_walker : The same as a function, with the details.

    References
    ----------
    .. [1] L. Grady, "Random walks for image segmentation", IEEE Trans. Pattern Anal. Mach.
       Intell. 28(11), 1768-1783, 2006.
    """

    traits = Traits(
        task="interactive",
        family="graph",
        year=2006,
        takes_prompts=True,
        ndims=(2, 3),
        keeps_uint8=True,
    )

    def __init__(
        self,
        beta: float = 1000.0,
        *,
        spacing: ArrayLike | None = None,
        tol: float = 1e-3,
        data_range: float | None = None,
        channel_axis: int | str | None = "auto",
    ):
        self.beta = beta
        self.spacing = spacing
        self.tol = tol
        self.data_range = data_range
        self.channel_axis = channel_axis

    def _check_params(self):
        _check_parameters(self._caller, self.beta, self.spacing, self.tol, self.data_range)

    def _proba(self, image, mask, prompts):
        seeds = prompts.seeds(image.shape[:-1])
        return _probabilities(
            image, seeds, mask, self.beta, self.spacing, self.tol, self.data_range, self._caller
        )

    def _predict(self, image, mask, prompts):
        return _labels(*self._proba(image, mask, prompts), mask)

    def predict_proba(self, images: Any, *, prompts: Any = None, mask: Any = None) -> Any:
        """Probability of each label at every pixel.

        Parameters
        ----------
        images : array_like or sequence of array_like
            One image or many; sizes may differ.
        prompts : Prompts or sequence of Prompts
        mask : array_like of bool or sequence of these, optional
            Pixels where it is False get zeros.

        Returns
        -------
        (H, W, K) or (D, H, W, K) float32, or a list of these
            In the rising order of the ids that the prompts hold; they add up to one.
        """

        def one(image, mask, prompts, name):
            image, mask, prompts = self._clean_predict_input(image, mask, prompts, name)
            return self._proba(image, mask, prompts)[1]

        return self._map(one, images, prompts, mask)
