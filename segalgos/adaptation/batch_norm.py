"""AdaBN: a network's batch statistics, taken from images of the target."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from torch import Tensor, nn

from segalgos.adaptation.domains import Domains
from segalgos.adaptation.fitted import copy_network, with_network
from segalgos.adaptation.training import Training, crop_sampler
from segalgos.checks import check_real
from segalgos.nets.prediction import THREADS_OF_A_LONE_TILE, to_tensor
from segalgos.nets.semantic import SemanticNetSegmenter
from segalgos.torch_threads import threads_per_operation

__all__ = ["adapt_batch_norm", "batch_norms", "estimate_statistics"]

# Crops whose statistics are taken together, and how often: from all pixels once, within bounds.
CROPS_AT_ONCE = 8
FEWEST_BATCHES, MOST_BATCHES = 8, 64


def adapt_batch_norm(
    segmenter: SemanticNetSegmenter,
    domains: Domains,
    training: Training,
    *,
    prior_strength: float = 0.0,
) -> SemanticNetSegmenter:
    """Take the statistics of batch normalisation from the target [1]_.

    Parameters
    ----------
    segmenter : SemanticNetSegmenter
        Fitted; its network has batch normalisation.
    domains : Domains
        The source is not needed.
    training : Training
        Of which `random_state` alone matters.
    prior_strength : float, default=0.0
        So many target images are the statistics of the source worth [2]_: with n images they
        get the share N / (N + n). 0 takes those of the target alone; 16, say, helps where
        there are a few images only.

    Returns
    -------
    SemanticNetSegmenter
        With the same weights.

    Raises
    ------
    ValueError
        If the network has no batch normalisation.

    Notes
    -----
    No training: it takes about as long as predicting the target images. Layers that were frozen
    in training get new statistics as well.

    References
    ----------
    .. [1] Y. Li et al., "Revisiting batch normalization for practical domain adaptation",
       ICLR workshop 2017, arXiv:1603.04779.
    .. [2] S. Schneider et al., "Improving robustness against common corruptions by covariate
       shift adaptation", NeurIPS 2020, arXiv:2006.16971.
    """
    check_real("adapt", "prior_strength", prior_strength, low=0)
    network = copy_network(segmenter)
    if not batch_norms(network):
        raise ValueError(
            f"adapt: method 'batch_norm' needs batch normalisation, but the "
            f"{type(network).__name__} of this {type(segmenter).__name__} has none: take "
            "another method, or build it with batch normalisation (batch_norm=True of the U-Net)."
        )
    seed = int(check_random_state(training.random_state).randint(2**31 - 1))
    prior = prior_strength / (prior_strength + len(domains.target))
    estimate_statistics(segmenter, network, domains.target, seed=seed, prior=prior)
    return with_network(segmenter, network, [])


def batch_norms(network: nn.Module) -> list[nn.Module]:
    """List the layers that normalise by running statistics, but for those that are frozen.

    Parameters
    ----------
    network : torch.nn.Module

    Returns
    -------
    list of torch.nn.Module
    """
    frozen = {
        id(m) for module in getattr(network, "_frozen", ()) for m in module.modules()
    }  # frozen layers keep their statistics
    return [
        m
        for m in network.modules()
        if isinstance(m, nn.modules.batchnorm._BatchNorm)
        and m.running_mean is not None
        and id(m) not in frozen
    ]


def estimate_statistics(
    segmenter: SemanticNetSegmenter,
    network: nn.Module,
    images: Sequence[NDArray],
    *,
    seed: int,
    prior: float = 0.0,
) -> None:
    """Replace running statistics by those of some images.

    Parameters
    ----------
    segmenter : SemanticNetSegmenter
        Tells how images are standardised and cropped.
    network : torch.nn.Module
        Of its kind. Changed in place; left in evaluation mode.
    images : sequence of (H, W, C) ndarray
    seed : int
        Chooses the crops.
    prior : float, default=0.0
        Share of the statistics that were there.

    Notes
    -----
    Mean and variance are those of all crops together: the variance between batches is counted,
    too. Each layer sees what the layers before it make with the statistics of the batch.
    """
    norms = batch_norms(network)
    if not norms:
        return
    sampler = crop_sampler(segmenter, network, images, seed=seed)
    rng = np.random.default_rng([seed, 1])
    pixels = CROPS_AT_ONCE * int(np.prod(sampler.shape))
    n_pixels = sum(image.shape[0] * image.shape[1] for image in images)
    n_batches = int(np.clip(-(-n_pixels // pixels), FEWEST_BATCHES, MOST_BATCHES))
    before = [(m.running_mean.clone(), m.running_var.clone(), m.momentum) for m in norms]
    device = next(network.parameters()).device
    found: list[list[tuple[Tensor, Tensor]]] = [[] for _ in norms]
    network.eval()
    for norm in norms:
        norm.train()
        norm.momentum = 1.0  # the running statistics are then those of the last batch
    with torch.no_grad(), threads_per_operation(THREADS_OF_A_LONE_TILE):
        for _ in range(n_batches):
            crops = np.stack([sampler.draw(rng)[0] for _ in range(CROPS_AT_ONCE)])
            x = to_tensor(crops).contiguous(memory_format=network.memory_format)
            network(x.to(device))
            for norm, values in zip(norms, found):
                values.append((norm.running_mean.clone(), norm.running_var.clone()))
        for norm, values, (old_mean, old_var, momentum) in zip(norms, found, before):
            means, variances = (torch.stack(parts) for parts in zip(*values))
            mean = means.mean(0)
            var = variances.mean(0) + (means - mean).square().mean(0)
            norm.running_mean.copy_(prior * old_mean + (1 - prior) * mean)
            norm.running_var.copy_(prior * old_var + (1 - prior) * var)  # eq. (1) of Schneider 2020
            norm.momentum = momentum
    network.eval()
