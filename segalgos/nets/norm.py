"""Batch normalisation that also trains on a single value, or no longer trains."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["BatchNorm2d", "FrozenBatchNorm2d", "freeze_norms"]


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


class FrozenBatchNorm2d(nn.Module):
    """Batch normalisation whose statistics and scales stay as they are.

    Parameters
    ----------
    num_features : int
        Channels.
    eps : float, default=1e-5
        Added to the variance.

    Notes
    -----
    Detectors train on few images at once, whose statistics say little. Names as in
    `torch.nn.BatchNorm2d`, without the counter of batches; all are buffers.
    """

    def __init__(self, num_features: int, *, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0),
                            ("running_var", 1.0)):  # fmt: skip
            self.register_buffer(name, torch.full((num_features,), value))

    def forward(self, x: Tensor) -> Tensor:
        """Scale and shift each channel.

        Parameters
        ----------
        x : (N, C, H, W) Tensor

        Returns
        -------
        (N, C, H, W) Tensor
        """
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


def freeze_norms(network: nn.Module, *, eps: float | None = None) -> None:
    """Put a `FrozenBatchNorm2d` of the same values in place of every batch normalisation.

    Those that are frozen already stay as they are.

    Parameters
    ----------
    network : torch.nn.Module
        Changed in place.
    eps : float, optional
        Instead of that of each norm.
    """
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                frozen = FrozenBatchNorm2d(
                    child.num_features, eps=child.eps if eps is None else eps
                )
                values = child.state_dict()
                values.pop("num_batches_tracked", None)
                frozen.load_state_dict(values)
                setattr(parent, name, frozen)
