"""Masked images: the encoder learns by painting in what squares hid from it.

The masked autoencoder of MAE [1]_ in the form of SimMIM [2]_: squares are hidden in the image
itself, and a light decoder paints them in. MAE leaves hidden patches out of the sequence, which
needs patches that do not overlap and attention that sees all of them; the maps of a pyramid, a
convolution or a window of attention have no tokens to leave out. What they need is that no map
has cells that are half hidden, so squares are as large as the coarsest cells, as in SparK [3]_,
and, as there, what is painted in is standardised square by square.

References
----------
.. [1] K. He, X. Chen, S. Xie, Y. Li, P. Dollar and R. Girshick, "Masked autoencoders are
   scalable vision learners", CVPR 2022, arXiv:2111.06377.
.. [2] Z. Xie, Z. Zhang, Y. Cao, Y. Lin, J. Bao, Z. Yao, Q. Dai and H. Hu, "SimMIM: a simple
   framework for masked image modeling", CVPR 2022, arXiv:2111.09886.
.. [3] K. Tian, Y. Jiang, Q. Diao, C. Lin, L. Wang and Z. Yuan, "Designing BERT for convolutional
   networks: sparse and hierarchical masked modeling", ICLR 2023, arXiv:2301.03580.
"""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segalgos.training.fused_maps import FusedMaps
from segalgos.training.views import ViewSampler

__all__ = ["MaskedImages", "masked_image_loss"]

# Share of the squares that are hidden, and their side at least: SimMIM's best.
HIDDEN = 0.6
SQUARE = 32
# Added to the variance of a square, in that of the training images: flat ones are not blown up.
FLAT = 1e-2


def masked_image_loss(painted: Tensor, images: Tensor, hidden: Tensor, square: int) -> Tensor:
    """Mean squared error of the pixels that were hidden, each square standardised.

    Parameters
    ----------
    painted, images : (N, C, H, W) Tensor
    hidden : (N, H, W) Tensor
        1 where hidden, else 0.
    square : int
        Side of a square; divides H and W.

    Returns
    -------
    scalar Tensor

    Notes
    -----
    With mean :math:`m` and variance :math:`s^2` of each square and channel, and the hidden
    pixels H,

    .. math:: L = \\frac{1}{|H| C} \\sum_{p \\in H, c}
       \\left(y_{pc} - \\frac{x_{pc} - m}{\\sqrt{s^2 + 0.01}}\\right)^2.
    """
    mean = F.avg_pool2d(images, square)
    variance = (F.avg_pool2d(images.square(), square) - mean.square()).clamp(min=0)
    mean, scale = (
        F.interpolate(values, scale_factor=square, mode="nearest")
        for values in (mean, (variance + FLAT).rsqrt())
    )
    error = (painted - (images - mean) * scale).square().mean(dim=1)
    return (error * hidden).sum() / hidden.sum()


class MaskedImages(nn.Module):
    """An encoder, and the decoder that paints hidden squares in.

    Parameters
    ----------
    encoder : torch.nn.Module
        See `FusedMaps`.
    in_channels : int
        Of images.
    channels : int, default=128
        Of the fused map.

    Attributes
    ----------
    images_per_part : int
    look : mapping
        What of `segalgos.training.augment.Augmentation` is changed for this method.
    square : int
        Side of what is hidden as a whole: a cell of the coarsest map, 32 pixels at least.

    Notes
    -----
    A hidden pixel shows the encoder a colour that is learned. The decoder is a 3x3 convolution
    and a 1x1 convolution that gives all pixels of a cell.
    """

    images_per_part = 4
    # Colours are what has to be painted.
    look = MappingProxyType({"scale": (0.5, 2.0), "saturation": 0.0, "colour": 0.0})

    def __init__(self, encoder: nn.Module, in_channels: int, *, channels: int = 128):
        super().__init__()
        self.square = max(encoder.strides[-1], getattr(encoder, "size_step", 1), SQUARE)
        self.fused = FusedMaps(encoder, channels)
        stride = self.fused.stride
        self.decoder = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, in_channels * stride**2, kernel_size=1),
            nn.PixelShuffle(stride),
        )
        self.hidden_colour = nn.Parameter(torch.zeros(in_channels, 1, 1))

    def draw(
        self, sampler: ViewSampler, rng: np.random.Generator, n: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw a part of a batch.

        Parameters
        ----------
        sampler : ViewSampler
            Of views of 2 x 2 squares at least.
        rng : numpy.random.Generator
        n : int
            Images.

        Returns
        -------
        inputs : (n, C + 1, H, W) Tensor
            Views, and what is hidden of them as one more channel.
        views : (n, C, H, W) Tensor
        hidden : (n, H, W) Tensor
        """
        views = torch.from_numpy(np.stack([sampler.draw(rng) for _ in range(n)]))
        views = views.permute(0, 3, 1, 2)
        rows, columns = (length // self.square for length in views.shape[2:])
        n_hidden = round(HIDDEN * rows * columns)
        squares = np.zeros((n, rows * columns), np.float32)
        for one in squares:
            one[rng.choice(rows * columns, n_hidden, replace=False)] = 1
        hidden = torch.from_numpy(squares).reshape(n, 1, rows, columns)
        hidden = F.interpolate(hidden, scale_factor=self.square, mode="nearest")
        return torch.cat([views, hidden], dim=1), views, hidden[:, 0]

    def forward(self, x: Tensor) -> Tensor:
        """Paint hidden squares in.

        Parameters
        ----------
        x : (N, C + 1, H, W) Tensor
            See `draw`.

        Returns
        -------
        (N, C, H, W) Tensor
        """
        images, hidden = x[:, :-1], x[:, -1:]
        images = images * (1 - hidden) + hidden * self.hidden_colour
        return self.decoder(self.fused(images))

    def loss(self, painted: Tensor, images: Tensor, hidden: Tensor) -> Tensor:
        """Compute `masked_image_loss`.

        Parameters
        ----------
        painted, images : (N, C, H, W) Tensor
        hidden : (N, H, W) Tensor

        Returns
        -------
        scalar Tensor
        """
        return masked_image_loss(painted, images, hidden, self.square)

    def embed(self, x: Tensor) -> Tensor:
        """Compute what must not collapse: the fused map of images that are not hidden.

        Parameters
        ----------
        x : (N, C + 1, H, W) Tensor

        Returns
        -------
        (N, channels, h, w) Tensor
        """
        return self.fused(x[:, :-1])
