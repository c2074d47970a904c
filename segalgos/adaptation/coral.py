"""Deep CORAL: features whose second-order statistics are alike in both domains."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segalgos.adaptation.batch_norm import estimate_statistics
from segalgos.adaptation.domains import Domains
from segalgos.adaptation.fitted import call_with_features, copy_network, find_head, with_network
from segalgos.adaptation.training import (
    BothDomains,
    Training,
    TwoDomainRun,
    keep_statistics,
    main_scores,
)
from segalgos.checks import check_real
from segalgos.nets.semantic import SemanticNetSegmenter

__all__ = ["FeaturesOfBoth", "adapt_coral", "coral_loss"]


def adapt_coral(
    segmenter: SemanticNetSegmenter,
    domains: Domains,
    training: Training,
    *,
    coral_weight: float = 1.0,
) -> SemanticNetSegmenter:
    """Train on the source, with features whose covariances are alike in both domains [1]_.

    Parameters
    ----------
    segmenter : SemanticNetSegmenter
        Fitted.
    domains : Domains
        With labelled images of the source.
    training : Training
    coral_weight : float, default=1.0
        Of the distance of covariances in the loss.

    Returns
    -------
    SemanticNetSegmenter

    Raises
    ------
    ValueError
        If there are no labelled images of the source, or the network ends in no layer that
        gives one score for each class.

    Notes
    -----
    Features are what the last layer sees, at the pixels of its grid. [1]_ has one vector for
    each image instead, and aligns scores; of a network with a linear last layer that follows
    from aligned features.

    References
    ----------
    .. [1] B. Sun and K. Saenko, "Deep CORAL: correlation alignment for deep domain adaptation",
       ECCV workshops 2016, arXiv:1607.01719.
    """
    domains.need_source("coral")
    check_real("adapt", "coral_weight", coral_weight, low=0)
    head = find_head(segmenter, "adapt")
    network = copy_network(segmenter)
    run = TwoDomainRun(segmenter, network, domains, training, f"coral {coral_weight}")

    def loss(outputs: tuple[Any, Tensor, Tensor], labels: Tensor, weights: None) -> Tensor:
        scores, source, target = outputs
        return run.source_loss(scores, labels) + coral_weight * coral_loss(source, target)

    module = FeaturesOfBoth(network, run.n_source, head)
    history = run.train(module, run.draw_both, loss, ema_decay=segmenter.ema_decay)
    estimate_statistics(segmenter, network, domains.target, seed=run.seed)
    return with_network(segmenter, network.eval(), history)


class FeaturesOfBoth(BothDomains):
    """A network that both domains go through, with what its last layer sees of them.

    Parameters
    ----------
    network : torch.nn.Module
    n_source : int
        The first so many crops are of the source.
    head : str
        Name of the last layer.
    """

    def __init__(self, network: nn.Module, n_source: int, head: str):
        super().__init__(network, n_source)
        self.head = head

    def forward(self, images: Tensor) -> tuple[Any, Tensor, Tensor]:
        """Compute class scores of the source, and features of both.

        Parameters
        ----------
        images : (N, C, H, W) Tensor

        Returns
        -------
        scores
            What the network gives of the source in training.
        source, target : (n, d, h, w) Tensor
            Features.
        """
        with keep_statistics(self.network):
            scores, source = call_with_features(
                self.network, self.head, lambda: self.network(images[: self.n_source])
            )
        _, target = call_with_features(
            self.network, self.head, lambda: main_scores(self.network(images[self.n_source :]))
        )
        return scores, source, target


def coral_loss(source: Tensor, target: Tensor) -> Tensor:
    """Distance of covariances, ``||C_s - C_t||^2 / (4 d^2)`` (eq. 1 of [1]_).

    Parameters
    ----------
    source, target : (n, d, h, w) Tensor
        Features; maps may differ in size.

    Returns
    -------
    () Tensor

    References
    ----------
    .. [1] B. Sun and K. Saenko, "Deep CORAL: correlation alignment for deep domain adaptation",
       ECCV workshops 2016, arXiv:1607.01719.
    """
    d = source.shape[1]
    return F.mse_loss(_covariance(source), _covariance(target), reduction="sum") / (4 * d**2)


def _covariance(features: Tensor) -> Tensor:
    """Covariance (d, d) of the pixels' features (n, d, h, w)."""
    rows = features.float().movedim(1, -1).flatten(0, -2)  # (n h w, d)
    rows = rows - rows.mean(dim=0)
    return torch.mm(rows.T, rows) / max(1, len(rows) - 1)
