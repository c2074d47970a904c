"""Importance weighting: pixels of the source that could be of the target count more."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from segalgos.adaptation.domains import Domains
from segalgos.adaptation.pixel_rows import SourceRows
from segalgos.checks import check_real
from segalgos.parallel import one_blas_thread
from segalgos.pixels.segmenter import PixelSegmenter

__all__ = ["adapt_importance", "importance_weights"]


def adapt_importance(
    segmenter: PixelSegmenter,
    domains: Domains,
    random_state: object,
    *,
    flattening: float = 1.0,
    largest_weight: float = 20.0,
) -> PixelSegmenter:
    """Learn again, from pixels weighed by how likely their features are in the target [1]_.

    Parameters
    ----------
    segmenter : PixelSegmenter
        Fitted.
    domains : Domains
    random_state : int, RandomState or None
    flattening : float, default=1.0
        Power of the weights, from 0 (all alike) to 1.
    largest_weight : float, default=20.0
        Weights, whose mean is 1, are cut there: few pixels must not decide alone.

    Returns
    -------
    PixelSegmenter

    Notes
    -----
    It suits where the target shows what the source shows too, in other shares (covariate shift).
    Where features themselves have moved, by light, hardly a pixel of the source looks like the
    target, and weights help little: take "coral".

    References
    ----------
    .. [1] H. Shimodaira, "Improving predictive inference under covariate shift by weighting the
       log-likelihood function", Journal of Statistical Planning and Inference 90, 2000.
    """
    check_real("adapt", "flattening", flattening, low=0, high=1)
    check_real("adapt", "largest_weight", largest_weight, low=1)
    source = SourceRows(segmenter, domains, random_state)
    weights = importance_weights(source.rows, source.target_rows()) ** flattening
    weights = np.minimum(weights / weights.mean(), largest_weight)
    return source.learn(source.rows, (weights / weights.mean()).astype(np.float32))


def importance_weights(
    source: NDArray[np.float32], target: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Ratio of densities, target to source, at rows of the source [1]_.

    Parameters
    ----------
    source : (n, F) float32
    target : (m, F) float32

    Returns
    -------
    (n,) float64
        From the odds of a logistic regression that tells the domains apart.

    References
    ----------
    .. [1] S. Bickel, M. Brückner and T. Scheffer, "Discriminative learning under covariate
       shift", JMLR 10, 2009.
    """
    domain = np.repeat([0, 1], [len(source), len(target)])
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    with one_blas_thread():
        classifier.fit(np.concatenate([source, target]), domain)
        log_odds = classifier.decision_function(source)
    return np.exp(np.clip(log_odds, -30, 30)) * (len(source) / len(target))
