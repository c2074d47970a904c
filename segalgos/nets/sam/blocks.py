"""Layers that several parts of SAM share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ChannelNorm", "MLPBlock", "Neck", "fill_up", "from_windows", "to_windows"]


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


def fill_up(x: Tensor, filler: Tensor, height: int, width: int) -> Tensor:
    """Enlarge maps to the right and below by one token, again and again.

    Parameters
    ----------
    x : (N, h, w, C) Tensor
    filler : (C,) Tensor
    height, width : int
        At least h and w.

    Returns
    -------
    (N, height, width, C) Tensor
    """
    n, h, w, channels = x.shape
    if (h, w) == (height, width):
        return x
    x = torch.cat([x, filler.expand(n, h, width - w, channels)], dim=2)
    return torch.cat([x, filler.expand(n, height - h, width, channels)], dim=1)


def to_windows(x: Tensor, size: int, filler: Tensor) -> Tensor:
    """Cut maps into square windows; those at the lower and right border are filled up.

    Parameters
    ----------
    x : (N, h, w, C) Tensor
    size : int
        Height and width of windows.
    filler : (C,) Tensor

    Returns
    -------
    (N * windows, size, size, C) Tensor
    """
    n, height, width, channels = x.shape
    n_rows, n_columns = (height + size - 1) // size, (width + size - 1) // size
    x = fill_up(x, filler, n_rows * size, n_columns * size)
    x = x.view(n, n_rows, size, n_columns, size, channels).transpose(2, 3)
    return x.reshape(-1, size, size, channels)


def from_windows(windows: Tensor, height: int, width: int) -> Tensor:
    """Join windows to maps, without what they were filled up with.

    Parameters
    ----------
    windows : (N * windows, size, size, C) Tensor
    height, width : int
        Of a map.

    Returns
    -------
    (N, height, width, C) Tensor
    """
    _, size, _, channels = windows.shape
    n_rows, n_columns = (height + size - 1) // size, (width + size - 1) // size
    x = windows.view(-1, n_rows, n_columns, size, size, channels).transpose(2, 3)
    return x.reshape(-1, n_rows * size, n_columns * size, channels)[:, :height, :width]
