"""Gaussian mixture of colours, fitted by expectation-maximisation."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from segalgos.base import Segmenter, Traits
from segalgos.checks import (
    check_choice,
    check_image,
    check_int,
    check_mask,
    check_real,
    check_weight,
)
from segalgos.clustering._lloyd import lloyd, plus_plus
from segalgos.clustering._values import (
    LAB_WHITE,
    check_space,
    clustering_values,
    join_values,
    without_gaps,
)
from segalgos.color import data_range_of, find_data_range
from segalgos.gaussians import (
    BLOCK,
    block_log_densities,
    exp_block,
    factorise,
    fit_gaussians,
    gaussians_of_moments,
    log_block,
)
from segalgos.parallel import map_items, map_strips

__all__ = ["GaussianMixtureSegmenter", "gaussian_mixture"]

STRIP = 16384
WEIGHT_SOME = "give some pixels a weight above 0."


# --- expectation-maximisation ------------------------------------------------------------


@njit(nogil=True, cache=True)
def _posteriors_of_block(values, means, factors, constants, scratch, top, total, densities):
    """Write unnormalised posteriors of a block of values.

    Parameters
    ----------
    values : (n, C) float32
        At most ``BLOCK``.
    means, factors, constants, scratch : as in `block_log_densities`
    top : (BLOCK,) float64, overwritten
        Gets the largest log density.
    total : (BLOCK,) float64, overwritten
        Gets the sum of densities, as parts of the largest.
    densities : (k, BLOCK) float64, overwritten
        As parts of the largest.
    """
    n = values.shape[0]
    block_log_densities(values, means, factors, constants, scratch, densities)
    top, total = top[:n], total[:n]
    top[:] = densities[0, :n]
    for k in range(1, means.shape[0]):
        density = densities[k, :n]
        for i in range(n):
            top[i] = density[i] if density[i] > top[i] else top[i]
    total[:] = 0
    for k in range(means.shape[0]):
        density = densities[k, :n]
        for i in range(n):
            density[i] -= top[i]
        exp_block(density, scratch[0, :n])
        for i in range(n):
            total[i] += density[i]


# Sums of many terms may be added up in any order: they then become vectors.
@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _add_moments(values, means, shares, diagonal, columns, moments):
    """Add the moments of a block of values, shared out among components.

    Parameters
    ----------
    values : (n, C) float32
    means : (k, C) float64
        What moments are about.
    shares : (k, BLOCK) float64
    diagonal : bool
        Leave out products of different channels.
    columns : (>= C, BLOCK) float64, overwritten
        Scratch.
    moments : (k, 1 + C + C * C) float64
        As `gaussians_of_moments` takes them; added to.
    """
    n, n_channels = values.shape
    for k in range(means.shape[0]):
        share = shares[k, :n]
        for c in range(n_channels):
            column, mean = columns[c, :n], means[k, c]
            for i in range(n):
                column[i] = values[i, c] - mean
        if n_channels == 3 and not diagonal:  # colours: one pass instead of ten
            x, y, z = columns[0, :n], columns[1, :n], columns[2, :n]
            one = sx = sy = sz = xx = xy = yy = xz = yz = zz = 0.0
            for i in range(n):
                px, py, pz = share[i] * x[i], share[i] * y[i], share[i] * z[i]
                one += share[i]
                sx += px
                sy += py
                sz += pz
                xx += px * x[i]
                xy += py * x[i]
                yy += py * y[i]
                xz += pz * x[i]
                yz += pz * y[i]
                zz += pz * z[i]
            row = moments[k]
            row[0] += one
            row[1] += sx
            row[2] += sy
            row[3] += sz
            row[4] += xx
            row[7] += xy
            row[8] += yy
            row[10] += xz
            row[11] += yz
            row[12] += zz
            continue
        total = 0.0
        for i in range(n):
            total += share[i]
        moments[k, 0] += total
        for c in range(n_channels):
            column = columns[c, :n]
            total = 0.0
            for i in range(n):
                total += share[i] * column[i]
            moments[k, 1 + c] += total
            for b in range(c if diagonal else 0, c + 1):
                other = columns[b, :n]
                total = 0.0
                for i in range(n):
                    total += share[i] * column[i] * other[i]
                moments[k, 1 + n_channels + c * n_channels + b] += total


@njit(nogil=True, cache=True)
def _expect(values, weights, means, factors, constants, start, stop):
    """Share some values out among components and add up the moments of each.

    Parameters
    ----------
    values : (n, C) float32
    weights : (n,) float64
    means, factors, constants : as in `block_log_densities`
        The log weights of components are part of `constants`.
    start, stop : int
        Range of values.

    Returns
    -------
    moments : (k, 1 + C + C * C) float64
        About `means`; see `gaussians_of_moments`.
    log_likelihood : float
        Weighted sum of the values' log densities.

    Notes
    -----
    The expectation step of [1]_ and the sums of the maximisation step in one pass over the
    values: O((stop - start) * k * C**2) time.

    References
    ----------
    .. [1] A. P. Dempster, N. M. Laird and D. B. Rubin, "Maximum likelihood from incomplete
       data via the EM algorithm", J. Royal Statistical Society B 39(1), 1-38, 1977.
    """
    n_components, n_channels = means.shape
    diagonal = factors.shape[1] < n_channels
    moments = np.zeros((n_components, 1 + n_channels + n_channels * n_channels))
    scratch = np.empty((2 * n_channels + 1, BLOCK))
    top, total, scales = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    shares = np.empty((n_components, BLOCK))
    log_likelihood = 0.0
    for begin in range(start, stop, BLOCK):
        end = min(begin + BLOCK, stop)
        n = end - begin
        block, weight, scale = values[begin:end], weights[begin:end], scales[:n]
        _posteriors_of_block(block, means, factors, constants, scratch, top, total, shares)
        for i in range(n):
            scale[i] = weight[i] / total[i]
        for k in range(n_components):
            share = shares[k, :n]
            for i in range(n):
                share[i] *= scale[i]
        log_block(total[:n], scale)
        for i in range(n):
            log_likelihood += weight[i] * (top[i] + total[i])
        _add_moments(block, means, shares, diagonal, scratch, moments)
    return moments, log_likelihood


@njit(nogil=True, cache=True)
def _most_likely(values, means, factors, constants, labels, start, stop):
    """Write the most likely component of each of some values; ties go to the lower one."""
    scratch = np.empty((2 * values.shape[1] + 1, BLOCK))
    densities = np.empty((means.shape[0], BLOCK))
    for begin in range(start, stop, BLOCK):
        end = min(begin + BLOCK, stop)
        block_log_densities(values[begin:end], means, factors, constants, scratch, densities)
        for i in range(begin, end):
            labels[i] = np.argmax(densities[:, i - begin])


@njit(nogil=True, cache=True)
def _posteriors(values, means, factors, constants, proba, start, stop):
    """Write the posteriors (n, k) float32 of some values."""
    scratch = np.empty((2 * values.shape[1] + 1, BLOCK))
    top, total = np.empty(BLOCK), np.empty(BLOCK)
    densities = np.empty((means.shape[0], BLOCK))
    for begin in range(start, stop, BLOCK):
        block = values[begin : min(begin + BLOCK, stop)]
        _posteriors_of_block(block, means, factors, constants, scratch, top, total, densities)
        for i in range(block.shape[0]):
            for k in range(means.shape[0]):
                proba[begin + i, k] = densities[k, i] / total[i]


def _prepare(weights, means, covariances, caller):
    """Arguments of the kernels: means, factors and constants."""
    try:
        factors, constants = factorise(covariances)
    except ValueError as error:
        raise ValueError(
            f"{caller}: a covariance is not positive definite: pass a larger reg_covar, or "
            "other covariances in init."
        ) from error
    if factors.ndim == 2:
        factors = factors[:, None]
    return np.ascontiguousarray(means), factors, constants + np.log(weights)


def _regularised(covariances, reg_covar):
    if covariances.ndim == 2:
        return covariances + reg_covar
    return covariances + reg_covar * np.eye(covariances.shape[1])


def _maximise(values, weights, mixture, max_iter, tol, reg_covar, caller):
    """Fit by EM; returns weights, means, covariances, log-likelihood a pixel, iterations."""
    shares, means, covariances = mixture
    total = weights.sum()
    bound, n_iter, converged = -np.inf, 0, False
    while n_iter < max_iter and not converged:
        kernel = partial(_expect, values, weights, *_prepare(shares, means, covariances, caller))
        moments, likelihoods = zip(*map_strips(kernel, len(values), STRIP), strict=True)
        masses, means, covariances = gaussians_of_moments(
            sum(moments), means, covariances.ndim == 2
        )
        covariances = _regularised(covariances, reg_covar)
        masses = masses + 10 * np.finfo(float).eps  # a component may lose all its values
        shares = masses / masses.sum()
        previous, bound = bound, sum(likelihoods) / total
        n_iter += 1
        converged = abs(bound - previous) < tol
    return shares, means, covariances, float(bound), n_iter


class _Plan(NamedTuple):
    """What both surfaces hand down, named as in `gaussian_mixture`."""

    n_components: int
    covariance: str
    init: str | tuple
    color_space: str
    data_range: float | None
    max_iter: int
    tol: float
    reg_covar: float
    random_state: Any


def _check_plan(caller, plan):
    check_space(caller, plan.color_space, plan.data_range)
    check_int(caller, "max_iter", plan.max_iter, low=1)
    check_real(caller, "tol", plan.tol, low=0)
    check_real(caller, "reg_covar", plan.reg_covar, low=0)
    if isinstance(plan.init, str):
        check_choice(caller, "init", plan.init, ("k-means",))
        return
    if not isinstance(plan.init, tuple | list) or len(plan.init) != 3:
        raise TypeError(
            f'{caller}: init is {type(plan.init).__name__}, expected "k-means" or a tuple of '
            "weights, means and covariances."
        )
    parts = [np.asarray(part) for part in plan.init]
    k, n_channels = plan.n_components, parts[1].shape[-1] if parts[1].ndim else 0
    last = (k, n_channels, n_channels) if plan.covariance == "full" else (k, n_channels)
    names = ("weights", "means", "covariances")
    for part, shape, name in zip(parts, ((k,), (k, n_channels), last), names, strict=True):
        if part.dtype.kind not in "buif" or part.shape != shape or not np.isfinite(part).all():
            raise ValueError(
                f"{caller}: init has {name} {part.dtype} of shape {part.shape}, expected finite "
                f"numbers of shape {shape}: pass one entry a component."
            )
    if not (parts[0] > 0).all():
        raise ValueError(f"{caller}: init has weights of 0 or less: pass weights above 0.")


def _fit(values, weights, plan, white, caller):
    """Fit a mixture to weighted values; see `_maximise` for what it gives."""
    reg_covar = plan.reg_covar * white**2
    if isinstance(plan.init, str):
        random_state = check_random_state(plan.random_state)
        centers = plus_plus(values, weights, plan.n_components, random_state)
        centers, labels, _, _ = lloyd(values, weights, centers, 100, 1e-4)
        diagonal = plan.covariance == "diag"
        masses, means, covariances = fit_gaussians(values, weights, labels, len(centers), diagonal)
        mixture = masses / masses.sum(), means, _regularised(covariances, reg_covar)
    else:
        shares, means, covariances = (np.array(part, np.float64) for part in plan.init)
        if means.shape[1] != values.shape[1]:
            raise ValueError(
                f"{caller}: init has means of {means.shape[1]} channels, the image has "
                f"{values.shape[1]}: pass means in the image's channels."
            )
        mixture = shares / shares.sum(), means, covariances
    return _maximise(values, weights, mixture, plan.max_iter, plan.tol, reg_covar, caller)


def _labels(values, mixture, caller):
    labels = np.empty(len(values), np.int32)
    kernel = partial(_most_likely, values, *_prepare(*mixture, caller), labels)
    map_strips(kernel, len(values), STRIP)
    return labels


# --- surface -----------------------------------------------------------------------------


def gaussian_mixture(
    image: ArrayLike,
    n_components: int = 8,
    *,
    covariance: str = "full",
    init: str | tuple[ArrayLike, ArrayLike, ArrayLike] = "k-means",
    color_space: str = "rgb",
    data_range: float | None = None,
    max_iter: int = 100,
    tol: float = 1e-3,
    reg_covar: float = 1e-6,
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    channel_axis: int | str | None = "auto",
    random_state: int | np.random.RandomState | None = None,
) -> NDArray[np.int32]:
    """Segment an image by a Gaussian mixture of its colours.

    Parameters
    ----------
    image : (H, W), (H, W, C) or volume, array_like
    n_components : int, default=8
        If the image has fewer distinct colours, each begins with a component of its own.
    covariance : {"full", "diag"}, default="full"
        Whether the channels of a component may be correlated.
    init : "k-means" or tuple, default="k-means"
        How to begin: with the clusters of k-means, or with these weights (k,), means (k, C)
        and covariances (k, C, C), of "diag" variances (k, C), in the units of the image or
        of Lab.
    color_space : {"rgb", "lab"}, default="rgb"
        "rgb" takes the channels as they are, any number of them; "lab" converts three of
        them to CIE Lab.
    data_range : float, optional
        Value of white; found by `segalgos.color.data_range_of` if None.
    max_iter : int, default=100
    tol : float, default=1e-3
        Stop when the mean log-likelihood of a pixel changes by less.
    reg_covar : float, default=1e-6
        Added to the variances, in units in which white is 1 (in Lab: 100).
    sample_weight : float or array_like, optional
        Weight of each pixel, at least 0; ones if None. Pixels of weight 0 are labelled,
        but have no influence.
    mask : array_like of bool, optional
        True where pixels are to be segmented; all others get -1 and have no influence.
    channel_axis : int, None or "auto", default="auto"
        Which axis holds the channels; None for a grey image or volume.
    random_state : int, RandomState or None, default=None
        Seed of k-means++.

    Returns
    -------
    (H, W) or (D, H, W) int32
        The most likely component of each pixel, numbered 0..n-1 without those that are
        nowhere most likely. A component may lie in many places.

    Notes
    -----
    Expectation-maximisation [1]_ in float64, scikit-learn's result from the same start, but
    computed on the distinct colours of an 8-bit image with their counts: O(n_pixels) time
    to count and to label, O(n_distinct * n_components * C**2) an iteration. The same seed
    gives the same labels for any number of threads.

    References
    ----------
    .. [1] A. P. Dempster, N. M. Laird and D. B. Rubin, "Maximum likelihood from incomplete
       data via the EM algorithm", J. Royal Statistical Society B 39(1), 1-38, 1977.

    Examples
    --------
    >>> from segalgos import gaussian_mixture
    >>> gaussian_mixture([[10, 11, 90], [12, 10, 70]], n_components=2, random_state=0)
    array([[1, 1, 0],
           [1, 1, 0]], dtype=int32)
    """
    caller = "gaussian_mixture"
    check_int(caller, "n_components", n_components, low=1)
    check_choice(caller, "covariance", covariance, ("full", "diag"))
    plan = _Plan(
        n_components,
        covariance,
        init,
        color_space,
        data_range,
        max_iter,
        tol,
        reg_covar,
        random_state,
    )
    _check_plan(caller, plan)
    image = check_image(image, caller, channel_axis=channel_axis, ndims=(2, 3), keep_uint8=True)
    shape = image.shape[:-1]
    if mask is not None:
        mask = check_mask(mask, shape, caller)
    groups, white = _grouped(image, mask, plan, caller)
    weights = groups.counts
    if sample_weight is not None:
        weights = groups.totals(check_weight(sample_weight, shape, caller).ravel())
    if not weights.any():
        if mask is not None and not mask.any():
            return np.full(shape, -1, np.int32)
        raise ValueError(f"{caller}: sample_weight is 0 everywhere: {WEIGHT_SOME}")
    *mixture, _, _ = _fit(groups.values, weights, plan, white, caller)
    labels = _labels(groups.values, mixture, caller)
    return groups.expand(without_gaps(labels)).reshape(shape)


def _grouped(image, mask, plan, caller):
    """Distinct values of an image and the value of white in their units."""
    space, data_range = plan.color_space, plan.data_range
    groups, found = clustering_values(image, mask, space, data_range, 0, caller)
    if space == "lab":
        return groups, LAB_WHITE
    if found is None and len(groups.values):
        found = find_data_range(groups.values, None, data_range, caller)
    return groups, found


class GaussianMixtureSegmenter(Segmenter):
    """Gaussian mixture of colours, learned from one image or many by EM [1]_.

    Parameters
    ----------
    n_clusters : int, default=8
        Number of components. If the images have fewer distinct colours, each begins with
        a component of its own.
    covariance_type : {"full", "diag"}, default="full"
        Whether the channels of a component may be correlated.
    init : "k-means" or tuple, default="k-means"
        How to begin: with the clusters of k-means, or with these weights (k,), means (k, C)
        and covariances (k, C, C), of "diag" variances (k, C), in the units of the images or
        of Lab.
    color_space : {"rgb", "lab"}, default="rgb"
        "rgb" takes the channels as they are, any number of them; "lab" converts three of
        them to CIE Lab.
    data_range : float, optional
        Value of white; if None, found from the images given to `fit` by
        `segalgos.color.data_range_of`, the largest counts.
    max_iter : int, default=100
        Iterations at most.
    tol : float, default=1e-3
        Stop when the mean log-likelihood of a pixel changes by less.
    reg_covar : float, default=1e-6
        Added to the variances, in units in which white is 1 (in Lab: 100).
    channel_axis : int, None or "auto", default="auto"
        Which axis holds the channels; None for a grey image or volume.
    random_state : int, RandomState or None, default=None
        Seed of k-means++.

    Attributes
    ----------
    weights_ : (k,) float64
        Shares of the components; k may be less than `n_clusters` where the images have
        fewer distinct colours.
    means_ : (k, C) float64
    covariances_ : (k, C, C) or, for "diag", (k, C) float64
    lower_bound_ : float
        Mean log-likelihood of a pixel before the last iteration.
    n_iter_ : int
        Iterations that were done.
    data_range_ : float
        Value of white.

    See Also
    --------
    segalgos.gaussian_mixture : The same as a function of one image, with the details.

    Notes
    -----
    `predict` gives each pixel its most likely component and numbers those that occur in the
    image 0..n-1, in the order of `means_`.

    References
    ----------
    .. [1] A. P. Dempster, N. M. Laird and D. B. Rubin, "Maximum likelihood from incomplete
       data via the EM algorithm", J. Royal Statistical Society B 39(1), 1-38, 1977.
    """

    traits = Traits(
        task="partition",
        family="clustering",
        year=1977,
        needs_fit=True,
        takes_sample_weight=True,
        ndims=(2, 3),
        deterministic=False,
        keeps_uint8=True,
    )

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        covariance_type: str = "full",
        init: str | tuple[ArrayLike, ArrayLike, ArrayLike] = "k-means",
        color_space: str = "rgb",
        data_range: float | None = None,
        max_iter: int = 100,
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        channel_axis: int | str | None = "auto",
        random_state: int | np.random.RandomState | None = None,
    ):
        self.n_clusters = n_clusters
        self.covariance_type = covariance_type
        self.init = init
        self.color_space = color_space
        self.data_range = data_range
        self.max_iter = max_iter
        self.tol = tol
        self.reg_covar = reg_covar
        self.channel_axis = channel_axis
        self.random_state = random_state

    @classmethod
    def small(cls) -> GaussianMixtureSegmenter:
        """Make an instance with few components and iterations.

        Returns
        -------
        GaussianMixtureSegmenter
        """
        return cls(n_clusters=3, max_iter=5)

    def _plan(self, data_range):
        return _Plan(
            self.n_clusters,
            self.covariance_type,
            self.init,
            self.color_space,
            data_range,
            self.max_iter,
            self.tol,
            self.reg_covar,
            self.random_state,
        )

    def _check_params(self):
        check_int(self._caller, "n_clusters", self.n_clusters, low=1)
        check_choice(self._caller, "covariance_type", self.covariance_type, ("full", "diag"))
        _check_plan(self._caller, self._plan(self.data_range))

    def _fit(self, images, labels, sample_weight):
        data_range = self.data_range
        if data_range is None:
            data_range = max(data_range_of(image) for image in images)
        plan = self._plan(float(data_range))

        def weighted_values(index):
            if sample_weight is None:
                groups, _ = _grouped(images[index], None, plan, self._caller)
                return groups.values, groups.counts
            weight = sample_weight[index]
            groups, _ = _grouped(images[index], weight > 0, plan, self._caller)
            return groups.values, groups.totals(weight.ravel())

        parts = map_items(weighted_values, range(len(images)))
        values, weights = join_values(*map(list, zip(*parts, strict=True)), self._caller)
        if len(values) == 0:
            raise ValueError(f"{self._caller}: sample_weight is 0 everywhere: {WEIGHT_SOME}")
        white = LAB_WHITE if self.color_space == "lab" else plan.data_range
        mixture = _fit(values, weights, plan, white, self._caller)
        self.weights_, self.means_, self.covariances_, self.lower_bound_, self.n_iter_ = mixture
        self.data_range_ = plan.data_range

    def _mixture(self):
        return self.weights_, self.means_, self.covariances_

    def _predict(self, image, mask, prompts):
        groups, _ = _grouped(image, mask, self._plan(self.data_range_), self._caller)
        labels = _labels(groups.values, self._mixture(), self._caller)
        return groups.expand(without_gaps(labels)).reshape(image.shape[:-1])

    def posteriors(self, images: Any, *, mask: Any = None) -> Any:
        """Find the posterior probabilities of the components at every pixel.

        Parameters
        ----------
        images : array_like or sequence of array_like
            One image or many; sizes may differ.
        mask : array_like of bool or sequence of these, optional
            Pixels where it is False get zeros.

        Returns
        -------
        (H, W, k) float32, or a list of these
            In the order of `means_`; they add up to one.
        """
        return self._map(self._posteriors_checked, images, None, mask)

    def _posteriors_checked(self, image, mask, prompts, name):
        image, mask, _ = self._clean_predict_input(image, mask, prompts, name)
        groups, _ = _grouped(image, mask, self._plan(self.data_range_), self._caller)
        proba = np.zeros((len(groups.values) + 1, len(self.means_)), np.float32)
        arguments = _prepare(*self._mixture(), self._caller)
        kernel = partial(_posteriors, groups.values, *arguments, proba)
        map_strips(kernel, len(groups.values), STRIP)
        return proba[groups.inverse()].reshape(*image.shape[:-1], -1)  # -1 is the row of zeros

    def _set_state(self, state: dict[str, Any]) -> None:
        names = {"weights_", "means_", "covariances_", "lower_bound_", "n_iter_", "data_range_"}
        if not isinstance(state, dict) or set(state) != names | {"n_channels_"}:
            raise ValueError(f"its state is not that of a {self._caller}")
        n_channels = check_int(self._caller, "n_channels_", state["n_channels_"], low=1)
        arrays = [state[name] for name in ("weights_", "means_", "covariances_")]
        if not all(isinstance(array, np.ndarray) for array in arrays):
            raise ValueError("its weights, means and covariances are not arrays")
        k = len(arrays[0]) if arrays[0].ndim else 0
        last = (k, n_channels, n_channels) if self.covariance_type == "full" else (k, n_channels)
        for array, shape in zip(arrays, ((k,), (k, n_channels), last), strict=True):
            if array.dtype != np.float64 or array.shape != shape or not np.isfinite(array).all():
                raise ValueError("its weights, means and covariances are not finite and matching")
        if not 1 <= k <= self.n_clusters or not (arrays[0] > 0).all():
            raise ValueError("its weights are not those of 1 to n_clusters components")
        factorise(arrays[2])
        check_real(self._caller, "lower_bound_", state["lower_bound_"])
        check_int(self._caller, "n_iter_", state["n_iter_"], low=1)
        check_real(self._caller, "data_range_", state["data_range_"], above=0)
        vars(self).update(state)
