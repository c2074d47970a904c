"""Dense contrastive learning: the same point seen twice is alike, other points are not.

DenseCL [1]_ with correspondences that are known instead of sought: both views are cut from one
image, so where a point lies in each is a matter of geometry, as in PixPro [2]_.

References
----------
.. [1] X. Wang, R. Zhang, C. Shen, T. Kong and L. Li, "Dense contrastive learning for
   self-supervised visual pre-training", CVPR 2021, arXiv:2011.09157.
.. [2] Z. Xie, Y. Lin, Z. Zhang, Y. Cao, S. Lin and H. Hu, "Propagate yourself: exploring
   pixel-level consistency for unsupervised visual representation learning", CVPR 2021,
   arXiv:2011.10043.
"""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segalgos.training.fused_maps import FusedMaps
from segalgos.training.views import ViewSampler

__all__ = ["DenseContrast", "dense_contrast_loss"]

# Points nearer than this, in cells of the map, are too much alike to be told apart.
NEAR = 2.0
TEMPERATURE = 0.1
# Of one image, in both of its views.
N_POINTS = 64


def dense_contrast_loss(
    embeddings: Tensor, points: Tensor, *, temperature: float = TEMPERATURE
) -> Tensor:
    """Contrast the embeddings of points in one view with those in the other (InfoNCE).

    Parameters
    ----------
    embeddings : (2 n, D, h, w) Tensor
        Of both views of an image, one after the other, of n images.
    points : (n, 2, M, 2) Tensor
        The same points in both views, as `ViewSampler.draw_pair` gives them.
    temperature : float, default=0.1

    Returns
    -------
    scalar Tensor
        Mean of both directions.

    Notes
    -----
    With unit vectors :math:`u_i`, :math:`v_i` of point i in either view, interpolated between
    cells, and its negatives :math:`N_i`, all points of the other images and those of its own
    that are at least two cells away,

    .. math:: L = -\\frac{1}{nM} \\sum_i \\log
       \\frac{e^{u_i v_i / t}}{e^{u_i v_i / t} + \\sum_{j \\in N_i} e^{u_i v_j / t}}.
    """
    n, _, n_points, _ = points.shape
    # (2 n, D, M, 1) of one column: grid_sample wants maps.
    found = F.grid_sample(
        embeddings, points.flatten(0, 1)[:, :, None], padding_mode="border", align_corners=False
    )
    found = F.normalize(found[..., 0], dim=1).transpose(1, 2)  # (2 n, M, D)
    first, second = found[0::2].flatten(0, 1), found[1::2].flatten(0, 1)  # (n M, D)
    logits = first @ second.T / temperature
    cells = points[:, 0] * points.new_tensor(embeddings.shape[:1:-1]) / 2  # (n, M, 2)
    near = torch.cdist(cells, cells) < NEAR
    near &= ~torch.eye(n_points, dtype=torch.bool, device=near.device)
    logits = logits.masked_fill(torch.block_diag(*near).bool(), -torch.inf)
    own = torch.arange(n * n_points, device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


class DenseContrast(nn.Module):
    """An encoder, and the head that dense contrastive learning takes its embeddings from.

    Parameters
    ----------
    encoder : torch.nn.Module
        See `FusedMaps`.
    in_channels : int
        Of images.
    channels : int, default=128
        Of the fused map.
    n_dimensions : int, default=64
        Of embeddings.

    Attributes
    ----------
    images_per_part : int
        Whose points are contrasted with one another.
    look : mapping
        What of `segalgos.training.augment.Augmentation` is changed for this method.

    Notes
    -----
    There is no second, slowly following network, as DenseCL has it for a queue of negatives:
    every point of a crop is a negative of the others, so that a few crops have enough of them,
    and each step costs half as much.
    """

    images_per_part = 4
    # Neither size nor colour must tell a point from others.
    look = MappingProxyType(
        {"scale": (0.5, 2.0), "brightness": 0.6, "contrast": 0.5, "saturation": 0.9, "colour": 0.4}
    )

    def __init__(
        self, encoder: nn.Module, in_channels: int, *, channels: int = 128, n_dimensions: int = 64
    ):
        super().__init__()
        self.fused = FusedMaps(encoder, channels)
        self.head = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels, kernel_size=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, n_dimensions, kernel_size=1),
        )

    @staticmethod
    def draw(sampler: ViewSampler, rng: np.random.Generator, n: int) -> tuple[Tensor, Tensor]:
        """Draw a part of a batch.

        Parameters
        ----------
        sampler : ViewSampler
        rng : numpy.random.Generator
        n : int
            Images.

        Returns
        -------
        views : (2 n, C, H, W) Tensor
        points : (n, 2, M, 2) Tensor
        """
        views, points = zip(*(sampler.draw_pair(rng, N_POINTS) for _ in range(n)), strict=True)
        images = torch.from_numpy(np.concatenate(views)).permute(0, 3, 1, 2)
        return images, torch.from_numpy(np.stack(points))

    def forward(self, x: Tensor) -> Tensor:
        """Embed every cell of a map.

        Parameters
        ----------
        x : (2 n, C, H, W) Tensor

        Returns
        -------
        (2 n, n_dimensions, h, w) Tensor
        """
        return self.head(self.fused(x))

    @staticmethod
    def loss(embeddings: Tensor, points: Tensor, weights: None = None) -> Tensor:
        """Compute `dense_contrast_loss`.

        Parameters
        ----------
        embeddings : (2 n, D, h, w) Tensor
        points : (n, 2, M, 2) Tensor
        weights : None
            Not looked at.

        Returns
        -------
        scalar Tensor
        """
        return dense_contrast_loss(embeddings, points)

    def embed(self, x: Tensor) -> Tensor:
        """Compute what must not collapse: the embeddings.

        Parameters
        ----------
        x : (N, C, H, W) Tensor

        Returns
        -------
        (N, n_dimensions, h, w) Tensor
        """
        return self(x)
