"""Batch normalisation for maps of any size."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["BatchNorm2d"]


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation that can also train on one value a channel.

    Parameters
    ----------
    n_channels : int

    Notes
    -----
    Equal to `torch.nn.BatchNorm2d`, which refuses to train on a batch of one 1x1 map.

    One value has no variance. It is normalised by the running statistics, as in
    evaluation, and leaves them as they are.
    """

    def __init__(self, n_channels: int):
        super().__init__(n_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each channel.

        Parameters
        ----------
        x : (N, C, H, W) Tensor

        Returns
        -------
        (N, C, H, W) Tensor
        """
        if self.training and x.shape[0] * x.shape[2] * x.shape[3] == 1:
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(x)
