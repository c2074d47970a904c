"""Multivariate Gaussians: their log densities, and their estimates from weighted values."""

from __future__ import annotations

from functools import partial

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.linalg import lapack

from segalgos.parallel import map_strips

__all__ = [
    "BLOCK",
    "block_log_densities",
    "exp_block",
    "factorise",
    "fit_gaussians",
    "gaussians_of_moments",
    "log_block",
    "log_densities",
]

BLOCK = 256  # values that stay in the first cache while all Gaussians pass over them
STRIP = 16384

ROUNDER = 1.5 * 2.0**52  # adding it leaves the nearest integer in the low bits
ROUNDER_BITS = int(np.float64(ROUNDER).view(np.int64))
ROOT_HALF_BITS = int(np.float64(np.sqrt(0.5)).view(np.int64))
LOG2_HIGH, LOG2_LOW = 0.693147180369123816490, 1.90821492927058770002e-10
LOG2, INVERSE_LOG2 = float(np.log(2)), float(1 / np.log(2))
LOWEST = -700.0


# --- exp and log that become vector instructions -----------------------------------------


@njit(nogil=True, cache=True)
def exp_block(values, scratch):
    """Replace values by their exponentials.

    Parameters
    ----------
    values : (n,) float64, overwritten
        At most 700; below -700 they count as -700.
    scratch : (n,) float64, overwritten

    Notes
    -----
    ``exp(x) = 2**k * exp(r)`` with ``|r| <= log(2) / 2`` and 13 terms of the series of
    ``exp(r)``: within 3 units in the last place. Without calls and branches, which would
    keep the loops from becoming vectors.
    """
    bits = scratch.view(np.int64)
    for i in range(values.shape[0]):
        values[i] = max(values[i], LOWEST)
        scratch[i] = values[i] * INVERSE_LOG2 + ROUNDER
    for i in range(values.shape[0]):
        k = scratch[i] - ROUNDER
        r = (values[i] - k * LOG2_HIGH) - k * LOG2_LOW
        p = 1 / 479001600
        p = p * r + 1 / 39916800
        p = p * r + 1 / 3628800
        p = p * r + 1 / 362880
        p = p * r + 1 / 40320
        p = p * r + 1 / 5040
        p = p * r + 1 / 720
        p = p * r + 1 / 120
        p = p * r + 1 / 24
        p = p * r + 1 / 6
        p = p * r + 1 / 2
        p = p * r + 1
        values[i] = p * r + 1
    for i in range(values.shape[0]):
        bits[i] = (bits[i] - ROUNDER_BITS + 1023) << 52
    for i in range(values.shape[0]):
        values[i] *= scratch[i]


@njit(nogil=True, cache=True)
def log_block(values, scratch):
    """Replace values by their natural logarithms.

    Parameters
    ----------
    values : (n,) float64, overwritten
        Positive, normal numbers.
    scratch : (n,) float64, overwritten

    Notes
    -----
    ``log(2**k * m) = k * log(2) + 2 * atanh((m - 1) / (m + 1))`` with m between the roots
    of 1/2 and 2, and 11 terms of the series: within 1e-15, absolute or relative.
    """
    bits = values.view(np.int64)
    for i in range(values.shape[0]):
        k = (bits[i] - ROOT_HALF_BITS) >> 52
        scratch[i] = k
        bits[i] -= k << 52
    for i in range(values.shape[0]):
        f = (values[i] - 1) / (values[i] + 1)
        g = f * f
        p = 2 / 21
        p = p * g + 2 / 19
        p = p * g + 2 / 17
        p = p * g + 2 / 15
        p = p * g + 2 / 13
        p = p * g + 2 / 11
        p = p * g + 2 / 9
        p = p * g + 2 / 7
        p = p * g + 2 / 5
        p = p * g + 2 / 3
        values[i] = (p * g + 2) * f + scratch[i] * LOG2


# --- log densities -----------------------------------------------------------------------


def factorise(
    covariances: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Prepare Gaussians for `log_densities`.

    Parameters
    ----------
    covariances : (k, C, C) or (k, C) float64
        Matrices, or variances of Gaussians with diagonal ones.

    Returns
    -------
    factors : ndarray of the same shape
        Upper triangular U with ``U @ U.T`` the inverse of a covariance; for variances
        the inverse standard deviations.
    constants : (k,) float64
        Log density at each mean.

    Raises
    ------
    ValueError
        If a covariance is not positive definite.
    """
    if covariances.ndim == 2:
        if not (covariances > 0).all():
            raise ValueError("factorise: a variance is not positive: add some to the variances.")
        factors = 1 / np.sqrt(covariances)
        diagonals = factors
    else:
        try:
            lower = np.linalg.cholesky(covariances)
        except np.linalg.LinAlgError as error:
            raise ValueError(
                "factorise: a covariance is not positive definite: add some to its diagonal."
            ) from error
        factors = np.stack([lapack.dtrtri(part, lower=1)[0].T for part in lower])
        diagonals = np.diagonal(factors, axis1=1, axis2=2)
    n_channels = covariances.shape[1]
    constants = np.log(diagonals).sum(axis=1) - n_channels / 2 * np.log(2 * np.pi)
    return np.ascontiguousarray(factors), constants


@njit(nogil=True, cache=True)
def block_log_densities(values, means, factors, constants, scratch, out):
    """Write the log densities of a block of values.

    Parameters
    ----------
    values : (n, C) float32
        At most ``BLOCK``.
    means : (k, C) float64
    factors : (k, C, C) float64
        As `factorise` gives them; (k, 1, C) for diagonal covariances.
    constants : (k,) float64
        Log densities at the means; a log weight may be added.
    scratch : (2 * C + 1, BLOCK) float64, overwritten
    out : (k, BLOCK) float64, overwritten

    Notes
    -----
    O(n * k * C**2) time, O(n * k * C) for diagonal covariances.
    """
    n, n_channels = values.shape
    full = factors.shape[1] == n_channels
    for c in range(n_channels):
        for i in range(n):
            scratch[c, i] = values[i, c]
    projected = scratch[2 * n_channels, :n]
    for k in range(means.shape[0]):
        log_density = out[k, :n]
        log_density[:] = constants[k]
        if full and n_channels == 3:  # colours: one pass instead of fifteen
            x, y, z = scratch[0, :n], scratch[1, :n], scratch[2, :n]
            x0, y0, z0 = means[k, 0], means[k, 1], means[k, 2]
            xx, xy, yy = factors[k, 0, 0], factors[k, 0, 1], factors[k, 1, 1]
            xz, yz, zz = factors[k, 0, 2], factors[k, 1, 2], factors[k, 2, 2]
            for i in range(n):
                dx, dy, dz = x[i] - x0, y[i] - y0, z[i] - z0
                a, b, c = xx * dx, xy * dx + yy * dy, xz * dx + yz * dy + zz * dz
                log_density[i] -= 0.5 * (a * a + b * b + c * c)
            continue
        for c in range(n_channels):
            column, difference, mean = scratch[c, :n], scratch[n_channels + c, :n], means[k, c]
            for i in range(n):
                difference[i] = column[i] - mean
        for c in range(n_channels):
            projected[:] = 0
            for b in range(0 if full else c, c + 1):
                difference = scratch[n_channels + b, :n]
                factor = factors[k, b, c] if full else factors[k, 0, c]
                for i in range(n):
                    projected[i] += factor * difference[i]
            for i in range(n):
                log_density[i] -= 0.5 * projected[i] * projected[i]


@njit(nogil=True, cache=True)
def _log_densities(values, means, factors, constants, out, start, stop):
    """Write log densities (k, n) of values (n, C) in a range; see `block_log_densities`."""
    scratch = np.empty((2 * values.shape[1] + 1, BLOCK))
    block = np.empty((means.shape[0], BLOCK))
    for begin in range(start, stop, BLOCK):
        end = min(begin + BLOCK, stop)
        block_log_densities(values[begin:end], means, factors, constants, scratch, block)
        out[:, begin:end] = block[:, : end - begin]


def log_densities(
    values: NDArray[np.float32],
    means: NDArray[np.float64],
    covariances: NDArray[np.float64],
    weights: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Log densities of values under Gaussians.

    Parameters
    ----------
    values : (n, C) float32, C-contiguous
    means : (k, C) float64
    covariances : (k, C, C) or (k, C) float64
        Matrices, or variances of Gaussians with diagonal ones.
    weights : (k,) float64, optional
        Factors of the densities, for instance the shares in a mixture.

    Returns
    -------
    (k, n) float64

    Raises
    ------
    ValueError
        If a covariance is not positive definite.

    Notes
    -----
    By the Cholesky factors of the inverse covariances: O(n * k * C**2) time, or
    O(n * k * C) for variances.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos.gaussians import log_densities
    >>> log_densities(np.float32([[0], [2]]), np.zeros((1, 1)), np.ones((1, 1, 1))).round(3)
    array([[-0.919, -2.919]])
    """
    factors, constants = factorise(covariances)
    if factors.ndim == 2:
        factors = factors[:, None]
    if weights is not None:
        with np.errstate(divide="ignore"):  # a weight of 0 makes a density of 0
            constants = constants + np.log(weights)
    out = np.empty((len(means), len(values)))
    part = partial(_log_densities, values, np.ascontiguousarray(means), factors, constants, out)
    map_strips(part, len(values), STRIP)
    return out


# --- estimates ---------------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _group_moments(values, weights, labels, origin, n_groups, start, stop):
    """Add up moments of the values of each group, about an origin.

    Parameters
    ----------
    values : (n, C) float32
    weights : (n,) float64
    labels : (n,) int32
        Groups; -1 for none.
    origin : (C,) float64
    n_groups : int
    start, stop : int
        Range of values.

    Returns
    -------
    (n_groups, 1 + C + C * C) float64
        Weights, first moments and the lower triangle of the second ones.
    """
    n_channels = values.shape[1]
    moments = np.zeros((n_groups, 1 + n_channels + n_channels * n_channels))
    shifted = np.empty(n_channels)
    for i in range(start, stop):
        if labels[i] < 0:
            continue
        row = moments[labels[i]]
        row[0] += weights[i]
        for c in range(n_channels):
            shifted[c] = values[i, c] - origin[c]
            weighted = weights[i] * shifted[c]
            row[1 + c] += weighted
            for b in range(c + 1):
                row[1 + n_channels + c * n_channels + b] += weighted * shifted[b]
    return moments


def gaussians_of_moments(
    moments: NDArray[np.float64], origins: NDArray[np.float64], diagonal: bool = False
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Find Gaussians from sums of weights, values and products of values.

    Parameters
    ----------
    moments : (k, 1 + C + C * C) float64
        Sums of weights, of values and of products (lower triangle, row by row), about
        `origins`.
    origins : (k, C) or (C,) float64
    diagonal : bool, default=False
        Give variances alone.

    Returns
    -------
    totals : (k,) float64
        Sums of weights.
    means : (k, C) float64
        The origins where the total is 0.
    covariances : (k, C, C) or, if `diagonal`, (k, C) float64
        Divided by the total weight; 0 where that is 0.
    """
    n_channels = origins.shape[-1]
    totals = moments[:, 0].copy()
    safe = np.where(totals > 0, totals, 1)
    shifts = moments[:, 1 : 1 + n_channels] / safe[:, None]
    second = moments[:, 1 + n_channels :].reshape(-1, n_channels, n_channels) / safe[:, None, None]
    second = second - shifts[:, :, None] * shifts[:, None, :]
    variances = np.maximum(np.diagonal(second, axis1=1, axis2=2), 0)
    if diagonal:
        return totals, origins + shifts, variances
    lower = np.tril(second, -1)
    covariances = lower + np.swapaxes(lower, 1, 2)
    channels = np.arange(n_channels)
    covariances[:, channels, channels] = variances
    return totals, origins + shifts, covariances


def fit_gaussians(
    values: NDArray[np.float32],
    weights: NDArray[np.float64],
    labels: NDArray[np.int32],
    n_groups: int,
    diagonal: bool = False,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Fit one Gaussian to each group of weighted values.

    Parameters
    ----------
    values : (n, C) float32, C-contiguous
    weights : (n,) float64
        At least 0.
    labels : (n,) int32
        Group of each value; -1 for none.
    n_groups : int
    diagonal : bool, default=False
        Give variances alone.

    Returns
    -------
    totals : (n_groups,) float64
        Sums of weights.
    means : (n_groups, C) float64
        Of a group without weight: the mean of all.
    covariances : (n_groups, C, C) or, if `diagonal`, (n_groups, C) float64
        Maximum likelihood: divided by the total weight. 0 for a group without weight.

    Notes
    -----
    O(n * C**2) time.
    """
    inside = np.where(labels >= 0, weights, 0)
    origin = inside @ values / max(inside.sum(), np.finfo(float).tiny)
    parts = map_strips(
        partial(_group_moments, values, weights, labels, origin, n_groups), len(values), STRIP
    )
    return gaussians_of_moments(sum(parts), origin, diagonal)
