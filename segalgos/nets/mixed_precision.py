"""Prediction in bfloat16: numbers of three digits, added up in float32.

CPUs with instructions for it (AVX-512 BF16, AMX) take half the time and less.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from segalgos.nets.net import Net

__all__ = ["in_precision", "predicting", "round_weights"]

PRODUCTS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def in_precision(network: Net, precision: str) -> Net:
    """Make a network of the same weights that predicts in another precision.

    Parameters
    ----------
    network : Net
    precision : {"float32", "bfloat16"}

    Returns
    -------
    Net
        The network itself, if that is its precision.
    """
    if network.precision == precision:
        return network
    other = copy.copy(network)
    other.precision = precision
    return other


@contextmanager
def predicting(network: nn.Module) -> Iterator[None]:
    """Run a network without gradients, in its `precision`, on this thread.

    Parameters
    ----------
    network : torch.nn.Module
        What it gives may be bfloat16. float32 if it has no `precision`.
    """
    device_type = next(network.parameters()).device.type
    mixed = getattr(network, "precision", "float32") == "bfloat16"
    with torch.inference_mode(), torch.autocast(device_type, torch.bfloat16, enabled=mixed):
        yield


def round_weights(network: Net, sample: Tensor) -> None:
    """Hold weights as bfloat16 that would be rounded to it in each pass anyway.

    Parameters
    ----------
    network : Net
        In evaluation mode. Layers that run in bfloat16 on the sample are changed.
    sample : (N, C, H, W) Tensor
    """
    rounded: set[nn.Module] = set()
    kept: set[nn.Module] = set()

    def look(layer: nn.Module, _: tuple) -> None:
        (rounded if torch.is_autocast_enabled(sample.device.type) else kept).add(layer)

    layers = [module for module in network.modules() if isinstance(module, PRODUCTS)]
    handles = [layer.register_forward_pre_hook(look) for layer in layers]
    try:
        with predicting(network):
            network(sample)
    finally:
        for handle in handles:
            handle.remove()
    for layer in rounded - kept:
        layer.to(torch.bfloat16)
