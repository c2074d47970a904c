"""Entropy minimisation: a network that is sure of the target as it is of the source."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from segalgos.adaptation.batch_norm import estimate_statistics
from segalgos.adaptation.domains import Domains
from segalgos.adaptation.fitted import copy_network, with_network
from segalgos.adaptation.training import BothDomains, Training, TwoDomainRun
from segalgos.checks import check_real
from segalgos.nets.semantic import SemanticNetSegmenter

__all__ = ["adapt_entropy", "pixel_entropy"]


def adapt_entropy(
    segmenter: SemanticNetSegmenter,
    domains: Domains,
    training: Training,
    *,
    entropy_weight: float = 0.001,
) -> SemanticNetSegmenter:
    """Train on the source, and to be sure of the target [1]_: ADVENT's direct form, MinEnt.

    Parameters
    ----------
    segmenter : SemanticNetSegmenter
        Fitted.
    domains : Domains
        With labelled images of the source.
    training : Training
    entropy_weight : float, default=0.001
        Of the target's mean entropy in the loss, that of [1]_; too much of it makes one class
        of everything.

    Returns
    -------
    SemanticNetSegmenter

    Raises
    ------
    ValueError
        If there are no labelled images of the source.

    Notes
    -----
    The loss is that of the source plus `entropy_weight` times the mean entropy of the target's
    pixels, divided by log K so that it lies between 0 and 1 (eq. 2 and 4 of [1]_).

    References
    ----------
    .. [1] T.-H. Vu et al., "ADVENT: adversarial entropy minimization for domain adaptation in
       semantic segmentation", CVPR 2019, arXiv:1811.12833.
    """
    domains.need_source("entropy")
    check_real("adapt", "entropy_weight", entropy_weight, low=0)
    network = copy_network(segmenter)
    run = TwoDomainRun(segmenter, network, domains, training, f"entropy {entropy_weight}")

    def loss(outputs: tuple[Any, Tensor], labels: Tensor, weights: None) -> Tensor:
        source, target = outputs
        return run.source_loss(source, labels) + entropy_weight * pixel_entropy(target).mean()

    history = run.train(
        BothDomains(network, run.n_source), run.draw_both, loss, ema_decay=segmenter.ema_decay
    )
    estimate_statistics(segmenter, network, domains.target, seed=run.seed)
    return with_network(segmenter, network.eval(), history)


def pixel_entropy(logits: Tensor) -> Tensor:
    """Entropy of each pixel's probabilities, from 0 (sure) to 1 (all classes alike).

    Parameters
    ----------
    logits : (N, K, H, W) Tensor

    Returns
    -------
    (N, H, W) Tensor
        Divided by log K; 0 of a single class.
    """
    log_p = logits.float().log_softmax(dim=1)
    return -(log_p.exp() * log_p).sum(dim=1) / math.log(max(2, logits.shape[1]))
