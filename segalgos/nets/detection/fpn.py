"""Feature pyramids [1]_ [2]_: the maps of an encoder, each told what the coarser ones have seen.

References
----------
.. [1] T.-Y. Lin, P. Dollar, R. Girshick, K. He, B. Hariharan and S. Belongie, "Feature pyramid
   networks for object detection", CVPR 2017, arXiv:1612.03144.
.. [2] D. Bolya, C. Zhou, F. Xiao and Y. J. Lee, "YOLACT: real-time instance segmentation",
   ICCV 2019, arXiv:1904.02689.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["FeaturePyramid", "PyramidBackbone", "StridedPyramid"]


class FeaturePyramid(nn.Module):
    """Lateral 1x1 convolutions, added from coarse to fine, then a 3x3 convolution each.

    Parameters
    ----------
    channels : sequence of int
        Of the maps, from fine to coarse.
    width : int
        Channels of every map of the pyramid.
    generator : torch.Generator, optional
        For the initial weights.
    """

    def __init__(
        self, channels: Sequence[int], width: int, *, generator: torch.Generator | None = None
    ):
        super().__init__()
        self.inner_blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, width, kernel_size=1)) for c in channels
        )
        self.layer_blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, kernel_size=3, padding=1)) for _ in channels
        )
        self.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw new weights from U(-a, a) with ``a = sqrt(3 / fan_in)``; biases become zero.

        Parameters
        ----------
        generator : torch.Generator, optional
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1, generator=generator)
                nn.init.zeros_(module.bias)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Compute the pyramid.

        Parameters
        ----------
        maps : list of (N, c, h, w) Tensor
            From fine to coarse.

        Returns
        -------
        list of (N, width, h, w) Tensor
            Of the same sizes, and one more: every other cell of the last.
        """
        merged = self.inner_blocks[-1](maps[-1])
        pyramid = [self.layer_blocks[-1](merged)]
        for i in range(len(maps) - 2, -1, -1):
            merged = _add_enlarged(self.inner_blocks[i](maps[i]), merged)
            pyramid.insert(0, self.layer_blocks[i](merged))
        return [*pyramid, F.max_pool2d(pyramid[-1], kernel_size=1, stride=2)]


def _add_enlarged(fine: Tensor, coarse: Tensor) -> Tensor:
    """Add to each cell of a map what the nearest of a coarser map has; the first may be changed."""
    if fine.shape[2] == 2 * coarse.shape[2] and fine.shape[3] == 2 * coarse.shape[3]:
        # Without a copy of the coarser map: writing that takes longer than all of this.
        fours = fine.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))
        added = coarse[:, :, :, None, :, None]
        if torch.is_grad_enabled():  # autograd would copy a map that is changed by way of views
            return (fours + added).flatten(4, 5).flatten(2, 3)
        fours.add_(added)
        return fine
    return fine.add_(F.interpolate(coarse, fine.shape[2:], mode="nearest"))


class PyramidBackbone(nn.Module):
    """An encoder and the pyramid on its maps from a quarter of the image on.

    Parameters
    ----------
    body : torch.nn.Module
        An encoder of `segalgos.nets.encoders`.
    width : int
        Channels of the pyramid.
    generator : torch.Generator, optional
        For the initial weights of the pyramid.
    """

    def __init__(self, body: nn.Module, width: int, *, generator: torch.Generator | None = None):
        super().__init__()
        self.body = body
        self.fpn = FeaturePyramid(body.channels[1:], width, generator=generator)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Compute the pyramid of an image.

        Parameters
        ----------
        x : (N, C, H, W) Tensor

        Returns
        -------
        list of 5 (N, width, h, w) Tensor
            At strides 4, 8, 16, 32 and 64.
        """
        return self.fpn(self.body(x)[1:])


class StridedPyramid(nn.Module):
    """YOLACT's pyramid: rectified, and coarser maps by convolutions with a stride.

    Parameters
    ----------
    channels : sequence of int
        Of the maps, from fine to coarse.
    width : int
        Channels of every map of the pyramid.
    n_coarser : int, default=2
        Maps beyond the encoder's, each half as large as the one before.

    Notes
    -----
    Names are the reference's, whose lateral and 3x3 convolutions run from coarse to fine. The
    coarser maps are not rectified.
    """

    def __init__(self, channels: Sequence[int], width: int, *, n_coarser: int = 2):
        super().__init__()
        self.lat_layers = nn.ModuleList(nn.Conv2d(c, width, 1) for c in reversed(channels))
        self.pred_layers = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in channels)
        self.downsample_layers = nn.ModuleList(
            nn.Conv2d(width, width, kernel_size=3, stride=2, padding=1) for _ in range(n_coarser)
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Compute the pyramid.

        Parameters
        ----------
        maps : list of (N, c, h, w) Tensor
            From fine to coarse.

        Returns
        -------
        list of (N, width, h, w) Tensor
            Of the same sizes, and `n_coarser` more.
        """
        pyramid, merged = [], None
        for x, lateral, last in zip(maps[::-1], self.lat_layers, self.pred_layers, strict=True):
            x = lateral(x)
            if merged is not None:
                x = x + F.interpolate(merged, x.shape[2:], mode="bilinear")
            merged = x
            pyramid.insert(0, F.relu(last(x)))
        for convolution in self.downsample_layers:
            pyramid.append(convolution(pyramid[-1]))
        return pyramid
