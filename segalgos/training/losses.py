"""Losses on the pixels of label maps.

All take ``logits`` (N, K, H, W), ``labels`` (N, H, W) with -1 where ignored, and
optionally ``weight`` (N, H, W), the weight of each pixel. Ignored pixels are inert: they
change no value and get a gradient of exactly zero, even if their logits are not finite.
Everything is computed in float32, whatever the logits came in.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "BinaryCrossEntropyLoss",
    "CrossEntropyLoss",
    "DiceLoss",
    "FocalLoss",
    "MultiLoss",
    "make_loss",
]

# log(1 - p) and (1 - p) ** gamma need a p below 1 to have a finite gradient.
SMALLEST = 1e-7


class _PixelLoss(nn.Module):
    """What the losses share: ignored pixels and weights.

    Parameters
    ----------
    class_weight : (K,) Tensor, optional
    """

    def __init__(self, class_weight: Tensor | None = None):
        super().__init__()
        self.register_buffer("class_weight", class_weight)

    def forward(self, logits: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
        """Compute the loss.

        Parameters
        ----------
        logits : (N, K, H, W) Tensor
        labels : (N, H, W) Tensor of integers
            Classes 0..K-1, -1 where ignored.
        weight : (N, H, W) Tensor, optional
            Weights of pixels.

        Returns
        -------
        () Tensor of float32
        """
        labels = labels[:, None].long()  # (N, 1, H, W)
        valid = labels >= 0
        logits = torch.where(valid, logits.float(), 0.0)  # the gradient stops here
        pixel_weight = valid.float()
        if weight is not None:
            pixel_weight = torch.where(valid, weight[:, None].float(), 0.0)
        return self._value(F.log_softmax(logits, dim=1), labels.clamp(min=0), pixel_weight)

    def _value(self, log_p: Tensor, labels: Tensor, pixel_weight: Tensor) -> Tensor:
        """Compute it from (N, K, H, W), (N, 1, H, W) without -1, and (N, 1, H, W)."""
        raise NotImplementedError

    def _mean(self, values: Tensor, labels: Tensor, pixel_weight: Tensor) -> Tensor:
        """Weighted mean of one value a pixel, (N, 1, H, W); 0 if no pixel counts."""
        if self.class_weight is not None:
            pixel_weight = pixel_weight * self.class_weight.float()[labels]
        total = pixel_weight.sum()
        return (values * pixel_weight).sum() / torch.where(total > 0, total, 1.0)


class CrossEntropyLoss(_PixelLoss):
    """Cross-entropy, ``-log p_t`` with p_t the softmax probability of the true class.

    Parameters
    ----------
    class_weight : (K,) Tensor, optional

    Notes
    -----
    The mean over pixels is weighted: divided by the sum of the weights, as in torch.
    """

    def _value(self, log_p: Tensor, labels: Tensor, pixel_weight: Tensor) -> Tensor:
        return self._mean(-log_p.gather(1, labels), labels, pixel_weight)


class FocalLoss(_PixelLoss):
    """Focal loss, ``-alpha (1 - p_t) ** gamma log p_t`` [1]_.

    Parameters
    ----------
    alpha : float, default=1.0
        From 0 to 1. A factor on the whole: weigh classes with `class_weight`.
    gamma : float, default=2.0
        At least 0; 0 is cross-entropy.
    class_weight : (K,) Tensor, optional

    References
    ----------
    .. [1] T.-Y. Lin et al., "Focal loss for dense object detection", ICCV 2017.
    """

    def __init__(self, alpha: float = 1.0, gamma: float = 2.0, class_weight: Tensor | None = None):
        super().__init__(class_weight)
        if not 0 <= alpha <= 1:
            raise ValueError(f"FocalLoss: alpha is {alpha}, expected a number from 0 to 1.")
        if not 0 <= gamma < float("inf"):
            raise ValueError(f"FocalLoss: gamma is {gamma}, expected a number of at least 0.")
        self.alpha = alpha
        self.gamma = gamma

    def _value(self, log_p: Tensor, labels: Tensor, pixel_weight: Tensor) -> Tensor:
        log_p = log_p.gather(1, labels)  # (N, 1, H, W)
        focus = (-torch.expm1(log_p)).clamp(min=SMALLEST) ** self.gamma
        return self._mean(-self.alpha * focus * log_p, labels, pixel_weight)


class BinaryCrossEntropyLoss(_PixelLoss):
    """Binary cross-entropy, ``-(y log p + (1 - y) log(1 - p))``, averaged over classes.

    Parameters
    ----------
    class_weight : (K,) Tensor, optional
        Weighs pixels by their true class.

    Notes
    -----
    p is the softmax probability, as everywhere here; with two classes this is
    cross-entropy. ``1 - p`` is taken to be at least 1e-7.
    """

    def _value(self, log_p: Tensor, labels: Tensor, pixel_weight: Tensor) -> Tensor:
        log_rest = torch.log((-torch.expm1(log_p)).clamp(min=SMALLEST))  # log(1 - p)
        true = log_p.gather(1, labels) - log_rest.gather(1, labels)
        values = -(log_rest.sum(1, keepdim=True) + true) / log_p.shape[1]
        return self._mean(values, labels, pixel_weight)


class DiceLoss(_PixelLoss):
    """Dice loss, ``1 - (2 y p + 1) / (y + p + 1)``, sums over an image's pixels.

    Parameters
    ----------
    class_weight : (K,) Tensor, optional

    Notes
    -----
    One value for each image and class, then the (weighted) mean over classes and the mean
    over images. The 1 keeps it defined, and at 0, where a class is neither true nor
    predicted [1]_.

    References
    ----------
    .. [1] F. Milletari, N. Navab and S.-A. Ahmadi, "V-Net: fully convolutional neural
       networks for volumetric medical image segmentation", 3DV 2016.
    """

    def _value(self, log_p: Tensor, labels: Tensor, pixel_weight: Tensor) -> Tensor:
        p = log_p.exp() * pixel_weight
        y = torch.zeros_like(p).scatter_(1, labels, pixel_weight)  # one-hot, weighted
        both = (log_p.exp() * y).sum((2, 3))
        dice = 1 - (2 * both + 1) / (y.sum((2, 3)) + p.sum((2, 3)) + 1)  # (N, K)
        if self.class_weight is None:
            return dice.mean()
        share = self.class_weight.float() / self.class_weight.sum()
        return (dice * share).sum(1).mean()


class MultiLoss(nn.Module):
    """(BCE + focal) + Dice, as one number.

    Parameters
    ----------
    alpha, gamma : float, default=1.0 and 2.0
        Of the focal loss.
    class_weight : (K,) Tensor, optional
    """

    def __init__(self, alpha: float = 1.0, gamma: float = 2.0, class_weight: Tensor | None = None):
        super().__init__()
        self.bce = BinaryCrossEntropyLoss(class_weight)
        self.focal = FocalLoss(alpha, gamma, class_weight)
        self.dice = DiceLoss(class_weight)

    def parts(
        self, logits: Tensor, labels: Tensor, weight: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Compute the three losses that are added.

        Parameters
        ----------
        logits : (N, K, H, W) Tensor
        labels : (N, H, W) Tensor of integers
        weight : (N, H, W) Tensor, optional

        Returns
        -------
        dict of str to Tensor
            Scalars "bce", "focal" and "dice".
        """
        logits = logits.float()  # once: the gradients of the parts are then added in float32
        return {name: part(logits, labels, weight) for name, part in self.named_children()}

    def forward(self, logits: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
        """Compute the loss.

        Parameters
        ----------
        logits : (N, K, H, W) Tensor
        labels : (N, H, W) Tensor of integers
            Classes 0..K-1, -1 where ignored.
        weight : (N, H, W) Tensor, optional
            Weights of pixels.

        Returns
        -------
        () Tensor of float32
        """
        parts = self.parts(logits, labels, weight)
        return (parts["bce"] + parts["focal"]) + parts["dice"]


_LOSSES = {
    "cross_entropy": CrossEntropyLoss,
    "focal": FocalLoss,
    "dice": DiceLoss,
    "multi": MultiLoss,
}

LOSS_NAMES = tuple(_LOSSES)


def make_loss(name: str, class_weight: Tensor | None = None) -> nn.Module:
    """Make a loss by name.

    Parameters
    ----------
    name : {"cross_entropy", "focal", "dice", "multi"}
    class_weight : (K,) Tensor, optional

    Returns
    -------
    torch.nn.Module
    """
    return _LOSSES[name](class_weight=class_weight)
