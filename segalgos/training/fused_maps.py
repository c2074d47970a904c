"""All maps of an encoder as one, which self-supervised methods look at."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["FusedMaps"]

# Pixels from one cell of the fused map to the next.
STRIDE = 8


class FusedMaps(nn.Module):
    """Project every map of an encoder to the same channels, and add them up at one size.

    Parameters
    ----------
    encoder : torch.nn.Module
        Gives a list of maps; its attributes `channels` and `strides` tell their channels and how
        many pixels their cells are apart.
    channels : int
        Of the fused map.

    Attributes
    ----------
    stride : int
        Pixels from one cell of the fused map to the next: 8.

    Notes
    -----
    Finer maps are averaged to the cells, coarser ones interpolated. So all layers of the encoder
    learn, as a decoder that joins all maps wants them to.
    """

    def __init__(self, encoder: nn.Module, channels: int):
        super().__init__()
        self.stride = STRIDE
        self.encoder = encoder
        self.projections = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, channels, kernel_size=1, bias=False),
                          nn.BatchNorm2d(channels))
            for c in encoder.channels
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Compute the fused map.

        Parameters
        ----------
        x : (N, C, H, W) Tensor

        Returns
        -------
        (N, channels, H / stride, W / stride) Tensor
            Sides are rounded up.
        """
        size = tuple(-(-length // self.stride) for length in x.shape[2:])
        fused = 0
        for features, projection in zip(self.encoder(x), self.projections, strict=True):
            if features.shape[2] > size[0] or features.shape[3] > size[1]:
                features = F.adaptive_avg_pool2d(features, size)
            projected = projection(features)
            if tuple(projected.shape[2:]) != size:
                projected = F.interpolate(projected, size, mode="bilinear")
            fused = fused + projected
        return fused
