"""Batch normalisation that also trains on a single value."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["BatchNorm2d"]


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation that trains on maps of one value a channel, too.

    Parameters
    ----------
    num_features : int
        Channels.
    eps : float, default=1e-5
        Added to the variance.

    Notes
    -----
    Otherwise `torch.nn.BatchNorm2d`, with its names and values.

    One image whose map has shrunk to a pixel, as behind a global pooling, has no variance,
    and torch refuses it. It is normalised by the running statistics instead, as in
    evaluation, and leaves them as they are.
    """

    def __init__(self, num_features: int, *, eps: float = 1e-5):
        super().__init__(num_features, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each channel.

        Parameters
        ----------
        x : (N, C, H, W) Tensor

        Returns
        -------
        (N, C, H, W) Tensor
        """
        if self.training and x.numel() == x.shape[1]:
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(x)
