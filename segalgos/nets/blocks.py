"""Layers that several nets are built of."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from segalgos.nets.norm import BatchNorm2d

__all__ = ["DoubleConv"]


class DoubleConv(nn.Module):
    """Two 3x3 convolutions, each with a ReLU: a step of a U-Net.

    Parameters
    ----------
    c_in, c_out : int
        Channels.
    padding : {"valid", "same"}
        "valid" loses 2 pixels on every side, "same" none.
    batch_norm : bool
        Normalise before each ReLU.
    """

    def __init__(self, c_in: int, c_out: int, padding: str, batch_norm: bool):
        super().__init__()
        pad = 0 if padding == "valid" else 1
        bias = not batch_norm  # the norm has its own
        self.conv1 = nn.Conv2d(c_in, c_out, kernel_size=3, padding=pad, bias=bias)
        self.norm1 = BatchNorm2d(c_out) if batch_norm else nn.Identity()
        self.conv2 = nn.Conv2d(c_out, c_out, kernel_size=3, padding=pad, bias=bias)
        self.norm2 = BatchNorm2d(c_out) if batch_norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Convolve twice.

        Parameters
        ----------
        x : (N, c_in, H, W) Tensor

        Returns
        -------
        (N, c_out, H - 4, W - 4) Tensor
            Of the size of x if padding is "same".
        """
        x = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return F.relu(self.norm2(self.conv2(x)), inplace=True)
