"""Layers that several parts of SAM share."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ChannelNorm", "MLPBlock", "Neck"]


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of a map.

    Parameters
    ----------
    channels : int
    """

    def __init__(self, channels: int):
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise every place of a map by itself.

        Parameters
        ----------
        x : (N, channels, H, W) Tensor
            Fastest in channels-last memory.

        Returns
        -------
        (N, channels, H, W) Tensor
            In channels-last memory.
        """
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class MLPBlock(nn.Module):
    """Two linear layers that are applied to every token.

    Parameters
    ----------
    channels, hidden_channels : int
    activation : {"gelu", "relu"}, default="gelu"
        Between the layers: GELU in the image encoder, ReLU in the mask decoder.
    """

    def __init__(self, channels: int, hidden_channels: int, activation: str = "gelu"):
        super().__init__()
        self.lin1 = nn.Linear(channels, hidden_channels)
        self.lin2 = nn.Linear(hidden_channels, channels)
        self.activation = {"gelu": F.gelu, "relu": F.relu}[activation]

    def forward(self, x: Tensor) -> Tensor:
        """Transform tokens.

        Parameters
        ----------
        x : (..., channels) Tensor

        Returns
        -------
        (..., channels) Tensor
        """
        return self.lin2(self.activation(self.lin1(x)))


class Neck(nn.Sequential):
    """From the channels of an image encoder to those of prompts.

    Parameters
    ----------
    c_in, c_out : int
        Channels.
    """

    def __init__(self, c_in: int, c_out: int):
        super().__init__(
            nn.Conv2d(c_in, c_out, kernel_size=1, bias=False),
            ChannelNorm(c_out),
            nn.Conv2d(c_out, c_out, kernel_size=3, padding=1, bias=False),
            ChannelNorm(c_out),
        )
