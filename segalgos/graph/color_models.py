"""Colours of objects and background as mixtures of Gaussians, for graph cuts.

Models live on the distinct colours of an image: what is learned weighs each with the
number of its pixels, and what a pixel costs is looked up.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numba import njit
from numpy.typing import NDArray

from segalgos.gaussians import BLOCK, block_log_densities, factorise, fit_gaussians
from segalgos.parallel import map_strips

__all__ = ["Mixture", "learn_mixture", "split_colors", "standardise"]

STRIP = 16384
LLOYD_STEPS = 10

# A colour stands for a spread of this variance about it, where a channel has variance 1.
SPREAD = 1e-5


@njit(nogil=True, cache=True)
def _explain(values, means, factors, constants, costs, components, start, stop):
    """Find the component of the highest density for each colour.

    Parameters
    ----------
    values : (n, C) float32
    means, factors, constants : as in `Mixture`
    costs : (n,) float32, overwritten in part
    components : (n,) int32, overwritten in part
        Ties go to the lower one.
    start, stop : int
        Range of colours.
    """
    scratch = np.empty((2 * values.shape[1] + 1, BLOCK))
    densities = np.empty((means.shape[0], BLOCK))
    for begin in range(start, stop, BLOCK):
        end = min(begin + BLOCK, stop)
        block_log_densities(values[begin:end], means, factors, constants, scratch, densities)
        best, which = densities[0, : end - begin], components[begin:end]
        which[:] = 0
        for k in range(1, means.shape[0]):
            for i in range(end - begin):
                higher = densities[k, i] > best[i]
                best[i] = densities[k, i] if higher else best[i]
                which[i] = k if higher else which[i]
        for i in range(end - begin):
            costs[begin + i] = -best[i]


@dataclass(frozen=True, eq=False)
class Mixture:
    """Gaussians of which each colour takes the one that explains it best, as in GrabCut.

    Parameters
    ----------
    means : (n_components, C) float64
    factors : (n_components, C, C) float64
        As `segalgos.gaussians.factorise` gives them.
    constants : (n_components,) float64
        Log densities at the means, the components' shares among them.
    """

    means: NDArray[np.float64]
    factors: NDArray[np.float64]
    constants: NDArray[np.float64]

    def explain(self, values: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Find the best component of each colour and what the colour costs.

        Parameters
        ----------
        values : (n, C) float32

        Returns
        -------
        costs : (n,) float32
            Negative logarithms of densities.
        components : (n,) int32

        Notes
        -----
        O(n * n_components * C**2) time.
        """
        costs, components = np.empty(len(values), np.float32), np.empty(len(values), np.int32)
        part = partial(
            _explain, values, self.means, self.factors, self.constants, costs, components
        )
        map_strips(part, len(values), STRIP)
        return costs, components


def learn_mixture(
    values: NDArray[np.float32],
    weights: NDArray[np.float64],
    components: NDArray[np.int32],
    *,
    prior_weight: float = 0.0,
    prior_variance: float = 0.0,
) -> Mixture:
    """Fit Gaussians to the colours of each component.

    Parameters
    ----------
    values : (n, C) float32
        As `standardise` gives them.
    weights : (n,) float64
        Not 0 everywhere.
    components : (n,) int32
    prior_weight, prior_variance : float, default=0.0
        So many more pixels of this variance are added to each component: it keeps what
        was learned from few pixels from being too sure.

    Returns
    -------
    Mixture
        Components without weight are left out.

    Notes
    -----
    Each colour stands for a Gaussian of variance ``SPREAD`` about itself, here and in the
    costs. So covariances are never singular, and with `prior_weight` 0 they minimise the
    sum of costs exactly.
    """
    totals, means, covariances = fit_gaussians(values, weights, components, components.max() + 1)
    occurs = totals > 0
    totals, means, covariances = totals[occurs], means[occurs], covariances[occurs]
    unit = np.eye(values.shape[1])
    share = (prior_weight / (totals + prior_weight))[:, None, None]
    covariances = (1 - share) * covariances + share * prior_variance * unit + SPREAD * unit
    factors, constants = factorise(covariances)
    of_spread = 0.5 * SPREAD * (factors**2).sum(axis=(1, 2))
    return Mixture(means, factors, constants - of_spread + np.log(totals / totals.sum()))


def split_colors(
    values: NDArray[np.float32], weights: NDArray[np.float64], n_components: int
) -> NDArray[np.int32]:
    """Group colours to start a mixture from: k-means, begun by splitting [1]_.

    Parameters
    ----------
    values : (n, C) float32
    weights : (n,) float64
        Not 0 everywhere.
    n_components : int
        Fewer are made of fewer colours.

    Returns
    -------
    (n,) int32
        Groups; colours without weight get one too.

    Notes
    -----
    The group of the largest scatter along an axis is split across it at its mean, until
    there are enough; a few of Lloyd's iterations follow. Nothing is drawn at random.
    O(n * n_components * C**2) time.

    References
    ----------
    .. [1] M. T. Orchard and C. A. Bouman, "Color quantization of images", IEEE Transactions
       on Signal Processing 39(12), 2677-2690, 1991.
    """
    groups = np.zeros(len(values), np.int32)
    n_groups = 1
    totals, means, covariances = fit_gaussians(values, weights, groups, n_groups)
    while n_groups < n_components:
        scatter, axes = np.linalg.eigh(covariances)
        widest = int(np.argmax(totals * scatter[:, -1]))
        axis = axes[widest, :, -1]
        beyond = (groups == widest) & (values @ axis > means[widest] @ axis)
        split = np.where(beyond, np.int32(n_groups), groups)
        totals, means, covariances = fit_gaussians(values, weights, split, n_groups + 1)
        if (totals == 0).any():
            break  # all colours of the group are one and the same
        groups, n_groups = split, n_groups + 1
    unit = np.eye(values.shape[1])
    for _ in range(LLOYD_STEPS):
        totals, means, _ = fit_gaussians(values, weights, groups, n_groups)
        means = means[totals > 0]
        n_groups = len(means)
        factors = np.broadcast_to(unit, (n_groups, *unit.shape)).copy()
        before, groups = groups, Mixture(means, factors, np.zeros(n_groups)).explain(values)[1]
        if np.array_equal(groups, before):
            break
    return groups


def standardise(values: NDArray, counts: NDArray[np.float64]) -> NDArray[np.float32]:
    """Shift and scale channels so that over all pixels each has mean 0 and variance 1.

    Parameters
    ----------
    values : (n, C) ndarray
        Distinct colours.
    counts : (n,) float64
        Pixels of each.

    Returns
    -------
    (n, C) float32
        0 in channels that are constant.
    """
    centred = values - np.average(values.astype(np.float64), axis=0, weights=counts)
    deviation = np.sqrt(np.average(centred**2, axis=0, weights=counts))
    return (centred / np.where(deviation > 0, deviation, 1)).astype(np.float32)
