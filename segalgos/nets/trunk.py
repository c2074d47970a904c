"""A network without its heads, where it has no encoder of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Self

from torch import Tensor, nn

__all__ = ["Trunk"]


class Trunk(nn.Module):
    """A network as an encoder of one map: what its heads take.

    Parameters
    ----------
    network : torch.nn.Module
        Has ``feature_map(images)``.
    channels, stride : int
        Of that map.
    heads : tuple of str
        What names of parameters start with that the map does not depend on.

    Attributes
    ----------
    channels, strides : tuple of int
        Of the one map.
    size_step : int
        Heights and widths of images are multiples of it.
    memory_format : torch.memory_format
    """

    def __init__(self, network: nn.Module, channels: int, stride: int, heads: tuple[str, ...]):
        super().__init__()
        self.network = network
        self.channels = (channels,)
        self.strides = (stride,)
        self.size_step = network.stride
        self.heads = heads
        self.memory_format = network.memory_format

    def forward(self, x: Tensor) -> list[Tensor]:
        """Compute the map.

        Parameters
        ----------
        x : (N, C, H, W) Tensor

        Returns
        -------
        list of (N, channels, H / stride, W / stride) Tensor
        """
        return [self.network.feature_map(x)]

    def load_imagenet(self, source: str | os.PathLike | Mapping[str, Tensor]) -> Self:
        """Refuse weights of a classifier: there is none of this form.

        Parameters
        ----------
        source : path-like or mapping of str to Tensor

        Raises
        ------
        ValueError
            In any case.
        """
        raise ValueError(
            f"{type(self.network).__name__}: no classifier has this form: pass what "
            "segalgos.training.pretrain gave, or a file that its save wrote."
        )
