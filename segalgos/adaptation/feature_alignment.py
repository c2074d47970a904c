"""CORAL: features of the source, moved and turned until they spread like those of the target."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segalgos.adaptation.domains import Domains
from segalgos.adaptation.pixel_rows import SourceRows
from segalgos.checks import check_real
from segalgos.parallel import one_blas_thread
from segalgos.pixels.segmenter import PixelSegmenter

__all__ = ["adapt_feature_coral", "align_features"]


def adapt_feature_coral(
    segmenter: PixelSegmenter,
    domains: Domains,
    random_state: object,
    *,
    shrinkage: float = 0.1,
) -> PixelSegmenter:
    """Learn again, from features aligned to those of the target [1]_.

    Parameters
    ----------
    segmenter : PixelSegmenter
        Fitted.
    domains : Domains
    random_state : int, RandomState or None
    shrinkage : float, default=0.1
        Share of the features' own variances in the covariances; 1 aligns each feature alone.

    Returns
    -------
    PixelSegmenter

    Notes
    -----
    It takes the classes to be as frequent in the target as in the source: where they are not,
    part of that is taken for a change of light.

    References
    ----------
    .. [1] B. Sun, J. Feng and K. Saenko, "Return of frustratingly easy domain adaptation",
       AAAI 2016, arXiv:1511.05547.
    """
    check_real("adapt", "shrinkage", shrinkage, above=0, high=1)
    source = SourceRows(segmenter, domains, random_state)
    aligned = align_features(
        source.rows, source.any_rows(), source.target_rows(), shrinkage=shrinkage
    )
    return source.learn(aligned, None)


def align_features(
    rows: NDArray[np.float32],
    source: NDArray[np.float32],
    target: NDArray[np.float32],
    *,
    shrinkage: float = 0.1,
) -> NDArray[np.float32]:
    """Map rows so that the source would get mean and covariance of the target.

    Parameters
    ----------
    rows : (k, F) float32
        To be mapped.
    source : (n, F) float32
    target : (m, F) float32
    shrinkage : float, default=0.1
        Covariances are mixed with their diagonal by this share.

    Returns
    -------
    (k, F) float32
        ``(x - mean_s) C_s^(-1/2) C_t^(1/2) + mean_t``.

    Notes
    -----
    Features are standardised before, by the source; then the covariance of a feature that never
    changes is 1 here.
    """
    mean, std = source.mean(axis=0, dtype=np.float64), source.std(axis=0, dtype=np.float64)
    std = np.where(std > 1e-7 * np.abs(mean), std, 1.0)
    own, other, here = ((x - mean) / std for x in (source, target, rows))
    with one_blas_thread():
        whiten = _power(_covariance(own, shrinkage), -0.5)
        colour = _power(_covariance(other, shrinkage), 0.5)
        found = (here - own.mean(axis=0)) @ (whiten @ colour) + other.mean(axis=0)
    return (found * std + mean).astype(np.float32)


def _covariance(rows: NDArray[np.float64], shrinkage: float) -> NDArray[np.float64]:
    centred = rows - rows.mean(axis=0)
    covariance = centred.T @ centred / len(rows)
    variances = np.diag(covariance).copy()
    variances[variances < 1e-6] = 1e-6
    return (1 - shrinkage) * covariance + np.diag(shrinkage * variances)


def _power(matrix: NDArray[np.float64], power: float) -> NDArray[np.float64]:
    """Power of a symmetric, positive definite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.maximum(values, 1e-12) ** power) @ vectors.T
