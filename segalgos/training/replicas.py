"""Copies of a network that parts of a batch go through side by side."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from segalgos.winograd import TrainableWinogradConv2d

__all__ = ["replicate"]


def replicate(network: nn.Module, *, mixed: bool = False) -> tuple[nn.Module, torch.Generator]:
    """Copy a network with the same parameters, but buffers and dropout of its own.

    Parameters
    ----------
    network : torch.nn.Module
    mixed : bool, default=False
        Compute convolutions and products of matrices in bfloat16; outputs are float32.

    Returns
    -------
    replica : torch.nn.Module
        Layers are replaced: dropout by one that draws from the generator and, on a CPU,
        convolutions by what is faster or, in bfloat16, right.
    generator : torch.Generator
    """
    shared = {id(parameter): parameter for parameter in network.parameters()}
    replica = copy.deepcopy(network, shared)
    device = next(network.parameters()).device
    generator = torch.Generator(device=device)
    for module in list(replica.modules()):
        for name, child in module.named_children():
            if type(child) in _DROPOUT_AXES:
                setattr(module, name, _SeededDropout(child, generator))
            elif device.type != "cpu":
                continue
            elif mixed and isinstance(child, nn.Conv2d) and child.groups == child.in_channels > 1:
                setattr(module, name, _DepthwiseConv2d(child))
            elif mixed and isinstance(child, nn.Conv2d) and max(child.stride) > 1:
                setattr(module, name, _StridedConv2d(child))
            elif not mixed and TrainableWinogradConv2d.suits(child):
                setattr(module, name, TrainableWinogradConv2d(child))
    return (_Mixed(replica, device.type) if mixed else replica), generator


class _Mixed(nn.Module):
    """A network whose convolutions and products of matrices are of bfloat16."""

    def __init__(self, network: nn.Module, device_type: str):
        super().__init__()
        self.network = network
        self.device_type = device_type

    def forward(self, x: Any) -> Any:
        with torch.autocast(self.device_type, torch.bfloat16):
            found = self.network(x)
        # Losses add up many values.
        return tree_map(lambda y: y.float() if isinstance(y, Tensor) else y, found)


class _DepthwiseConv2d(nn.Module):
    """A convolution of each channel by itself, in float32.

    There is little to multiply, and on a CPU its gradients in bfloat16 take longer (oneDNN 3.12).
    """

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return self.conv(x.float())


class _StridedConv2d(nn.Module):
    """A convolution with a stride, in float32 where the map is hardly larger than the kernel.

    There the gradient of bfloat16 weights is wrong on a CPU (oneDNN 3.12): it has values from
    memory that nobody has written.
    """

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        conv = self.conv
        steps = zip(conv.dilation, conv.kernel_size, conv.stride, strict=True)
        smallest = (d * (k - 1) + 1 + stride for d, k, stride in steps)
        if all(n >= least for n, least in zip(x.shape[2:], smallest, strict=True)):
            return conv(x)
        with torch.autocast(x.device.type, enabled=False):
            return conv(x.float())


_DROPOUT_AXES = {nn.Dropout: None, nn.Dropout1d: 2, nn.Dropout2d: 2, nn.Dropout3d: 2}


class _SeededDropout(nn.Module):
    """Dropout with its own generator: torch's is shared by all threads."""

    def __init__(self, dropout: nn.Module, generator: torch.Generator):
        super().__init__()
        self.p = dropout.p
        self.axes = _DROPOUT_AXES[type(dropout)]  # whole channels, or single values
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        shape = x.shape if self.axes is None else x.shape[: self.axes] + (1,) * (x.ndim - self.axes)
        keep = torch.empty(shape, dtype=x.dtype, device=x.device)
        keep.bernoulli_(1 - self.p, generator=self.generator)
        return x * keep / (1 - self.p)
