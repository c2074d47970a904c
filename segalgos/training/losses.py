"""Losses on the pixels of label maps.

All take ``logits`` (N, K, H, W), ``labels`` (N, H, W) with -1 where ignored, and
optionally ``weight`` (N, H, W), the weight of each pixel. Ignored pixels are inert: they
change no value and get a gradient of exactly zero, even if their logits are not finite.
Everything is computed in float32, whatever the logits came in.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "AuxiliaryLoss",
    "BinaryCrossEntropyLoss",
    "CrossEntropyLoss",
    "DiceLoss",
    "FocalLoss",
    "LovaszLoss",
    "MultiLoss",
    "OhemCrossEntropyLoss",
    "TverskyLoss",
    "make_loss",
]

# log(1 - p) and (1 - p) ** gamma need a p below 1 to have a finite gradient.
SMALLEST = 1e-7
# Numbers of a vector register. torch computes the softmax of fewer that lie side by side one by
# one; by planes it takes a third of the time, copies included.
FEW_CLASSES = 16


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
        pixel_weight = valid.float()
        if weight is not None:
            pixel_weight = torch.where(valid, weight[:, None].float(), 0.0)
        return self._of_logits(logits.float(), valid, labels.clamp(min=0), pixel_weight)

    def _of_logits(
        self, logits: Tensor, valid: Tensor, labels: Tensor, pixel_weight: Tensor
    ) -> Tensor:
        """Compute it from (N, K, H, W) and three times (N, 1, H, W), labels without -1."""
        logits = torch.where(valid, logits, 0.0)  # the gradient stops here
        return self._value(F.log_softmax(logits, dim=1), labels, pixel_weight)

    def _value(self, log_p: Tensor, labels: Tensor, pixel_weight: Tensor) -> Tensor:
        """Compute it from (N, K, H, W), (N, 1, H, W) without -1, and (N, 1, H, W)."""
        raise TypeError(f"{type(self).__name__} has no _value hook: write one.")

    def _mean(self, values: Tensor, labels: Tensor, pixel_weight: Tensor) -> Tensor:
        """Weighted mean of one value a pixel, (N, 1, H, W); 0 if no pixel counts."""
        if self.class_weight is not None:
            pixel_weight = pixel_weight * self.class_weight.float()[labels]
        total = pixel_weight.sum()
        return (values * pixel_weight).sum() / torch.where(total > 0, total, 1.0)

    def _mean_of_classes(self, values: Tensor) -> Tensor:
        """Mean of one value an image and class, (N, K): weighted over classes, then plain."""
        if self.class_weight is None:
            return values.mean()
        share = self.class_weight.float() / self.class_weight.sum()
        return (values * share).sum(1).mean()


def _overlap(log_p: Tensor, labels: Tensor, pixel_weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sums of y p, y and p over the pixels of each image and class, each (N, K)."""
    p = log_p.exp()
    y = torch.zeros_like(p).scatter_(1, labels, pixel_weight)  # one-hot, weighted
    return (p * y).sum((2, 3)), y.sum((2, 3)), (p * pixel_weight).sum((2, 3))


class CrossEntropyLoss(_PixelLoss):
    """Cross-entropy, ``-log p_t`` with p_t the softmax probability of the true class.

    Parameters
    ----------
    class_weight : (K,) Tensor, optional

    Notes
    -----
    The mean over pixels is weighted: divided by the sum of the weights, as in torch.
    """

    def _of_logits(
        self, logits: Tensor, valid: Tensor, labels: Tensor, pixel_weight: Tensor
    ) -> Tensor:
        if self.class_weight is not None:
            pixel_weight = pixel_weight * self.class_weight.float()[labels]
        return _CrossEntropy.apply(logits, labels, pixel_weight)


class _CrossEntropy(torch.autograd.Function):
    """Weighted mean of cross-entropies, with a gradient in few passes over the logits."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
        ctx.axis, by_class = 1, logits
        ctx.is_last = logits.is_contiguous(memory_format=torch.channels_last)
        if ctx.is_last and logits.shape[1] < FEW_CLASSES:
            by_class = logits.contiguous()
        elif ctx.is_last:
            ctx.axis, by_class = 3, logits.permute(0, 2, 3, 1)  # as it lies in memory
            labels, weight = labels.permute(0, 2, 3, 1), weight.permute(0, 2, 3, 1)
        log_p = F.log_softmax(by_class, dim=ctx.axis)
        values = torch.where(weight > 0, -log_p.gather(ctx.axis, labels) * weight, 0.0)
        total = weight.sum()
        total = torch.where(total > 0, total, 1.0)
        ctx.save_for_backward(log_p, labels, weight / total)
        return values.sum() / total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        log_p, labels, share = ctx.saved_tensors
        found = log_p.exp()
        found.scatter_add_(ctx.axis, labels, found.new_full((), -1.0).expand_as(labels))
        found *= share * gradient
        ignored = share == 0
        if ignored.any():  # their logits may be no numbers
            found.masked_fill_(ignored, 0.0)
        if ctx.axis == 3:
            found = found.permute(0, 3, 1, 2)
        elif ctx.is_last:  # the layers before are faster with it
            found = found.contiguous(memory_format=torch.channels_last)
        return found, None, None


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
        both, y, p = _overlap(log_p, labels, pixel_weight)
        return self._mean_of_classes(1 - (2 * both + 1) / (y + p + 1))


class TverskyLoss(_PixelLoss):
    """Tversky loss, ``1 - (yp + 1/2) / (yp + alpha (1 - y) p + beta y (1 - p) + 1/2)`` [1]_.

    Parameters
    ----------
    alpha, beta : float, default=0.3 and 0.7
        Weights of what is wrongly found and of what is missed, at least 0 and not both 0.
    class_weight : (K,) Tensor, optional

    Notes
    -----
    Sums and means as in `DiceLoss`, which it is for ``alpha = beta = 1/2``.

    References
    ----------
    .. [1] S. S. M. Salehi, D. Erdogmus and A. Gholipour, "Tversky loss function for image
       segmentation using 3D fully convolutional deep networks", MLMI 2017, arXiv:1706.05721.
    """

    def __init__(self, alpha: float = 0.3, beta: float = 0.7, class_weight: Tensor | None = None):
        super().__init__(class_weight)
        for name, value in (("alpha", alpha), ("beta", beta)):
            if not 0 <= value < float("inf"):
                raise ValueError(
                    f"TverskyLoss: {name} is {value}, expected a number of at least 0."
                )
        if alpha == beta == 0:
            raise ValueError("TverskyLoss: alpha and beta are both 0: no error would count.")
        self.alpha = alpha
        self.beta = beta

    def _value(self, log_p: Tensor, labels: Tensor, pixel_weight: Tensor) -> Tensor:
        both, y, p = _overlap(log_p, labels, pixel_weight)
        wrong = self.alpha * (p - both) + self.beta * (y - both)
        return self._mean_of_classes(1 - (both + 0.5) / (both + wrong + 0.5))


class LovaszLoss(_PixelLoss):
    """Lovász-softmax loss: ``1 - IoU``, continued to probabilities [1]_.

    Parameters
    ----------
    per_image : bool, default=False
        Take the IoU of each image and then the mean, instead of the IoU of the whole batch.
    class_weight : (K,) Tensor, optional

    Notes
    -----
    For each class, the Lovász extension of ``1 - IoU`` at the errors ``|y - p|``; then the
    (weighted) mean over the classes that are in the labels, and over images that have
    labels. Pixels count in intersection and union by their weights. O(n log n) for n values
    of classes present.

    References
    ----------
    .. [1] M. Berman, A. Rannen Triki and M. B. Blaschko, "The Lovász-softmax loss: a
       tractable surrogate for the optimization of the intersection-over-union measure in
       neural networks", CVPR 2018, arXiv:1705.08790.
    """

    def __init__(self, per_image: bool = False, class_weight: Tensor | None = None):
        super().__init__(class_weight)
        self.per_image = per_image

    def _value(self, log_p: Tensor, labels: Tensor, pixel_weight: Tensor) -> Tensor:
        n_classes = log_p.shape[1]
        groups = len(log_p) if self.per_image else 1

        def rows(x: Tensor) -> Tensor:  # (N, c, H, W) to (groups, c, n_pixels)
            return x.movedim(1, 0).reshape(x.shape[1], groups, -1).movedim(0, 1)

        true = rows(torch.zeros_like(log_p).scatter_(1, labels, 1.0)).bool()
        weight = rows(pixel_weight).expand(-1, n_classes, -1)
        present = (true * weight).sum(2) > 0  # (groups, K)
        true, weight, p = true[present], weight[present], rows(log_p)[present].exp()  # (M, n)

        errors, order = torch.where(true, 1 - p, p).sort(dim=1, descending=True)
        steps = _jaccard_steps(true.gather(1, order), weight.gather(1, order))
        value = log_p.new_zeros(groups, n_classes)
        value[present] = (errors * steps).sum(1)

        share = present.float()
        if self.class_weight is not None:
            share = share * self.class_weight.float()
        total = share.sum(1)
        mean = (value * share).sum(1) / torch.where(total > 0, total, 1.0)  # (groups,)
        return mean.sum() / (total > 0).sum().clamp(min=1)


def _jaccard_steps(true: Tensor, weight: Tensor) -> Tensor:
    """How much ``1 - IoU`` grows as one pixel after the other becomes wrong.

    Parameters
    ----------
    true : (M, n) Tensor of bool
        Whether the pixel is of the class; one of each row must be, with a weight.
    weight : (M, n) Tensor

    Returns
    -------
    (M, n) Tensor
    """
    missed = torch.where(true, weight, 0.0)
    total = missed.sum(1, keepdim=True)
    intersection = (total - missed.cumsum(1)).clamp(min=0)
    union = total + (weight - missed).cumsum(1)
    before = torch.cat([total, union[:, :-1]], dim=1)  # the union, a pixel earlier
    # A difference of two quotients of long sums would lose most digits; these are the same.
    return torch.where(true, weight / union, weight * intersection / (union * before))


class OhemCrossEntropyLoss(_PixelLoss):
    """Cross-entropy of the hard pixels alone: online hard example mining [1]_.

    Parameters
    ----------
    threshold : float, default=0.7
        Pixels are hard whose true class has a smaller probability; above 0, at most 1.
    min_kept : int, default=10000
        So many of the hardest pixels of a batch count in any case.
    class_weight : (K,) Tensor, optional
        Weighs the pixels that are kept; it does not matter for which they are.

    Notes
    -----
    Pixels as hard as the last of the `min_kept` are kept, too, so their order in the image
    is of no account. Pixels of weight 0 are never kept.

    References
    ----------
    .. [1] A. Shrivastava, A. Gupta and R. Girshick, "Training region-based object detectors
       with online hard example mining", CVPR 2016, arXiv:1604.03540.
    """

    def __init__(
        self, threshold: float = 0.7, min_kept: int = 10_000, class_weight: Tensor | None = None
    ):
        super().__init__(class_weight)
        if not 0 < threshold <= 1:
            raise ValueError(
                f"OhemCrossEntropyLoss: threshold is {threshold}, expected a probability above 0."
            )
        if min_kept < 1:
            raise ValueError(f"OhemCrossEntropyLoss: min_kept is {min_kept}, expected at least 1.")
        self.threshold = threshold
        self.min_kept = min_kept

    def _value(self, log_p: Tensor, labels: Tensor, pixel_weight: Tensor) -> Tensor:
        log_p = log_p.gather(1, labels)  # (N, 1, H, W)
        hardness = log_p.detach()
        kept = hardness < math.log(self.threshold)
        candidates = hardness[pixel_weight > 0]
        if len(candidates) > 0:
            kept |= hardness <= candidates.kthvalue(min(self.min_kept, len(candidates))).values
        return self._mean(-log_p, labels, pixel_weight * kept)


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


class AuxiliaryLoss(nn.Module):
    """The loss of a network's logits, and some of that of its auxiliary heads.

    Parameters
    ----------
    loss : torch.nn.Module
    weight : float, default=0.4
        Factor on the losses of further heads.
    """

    def __init__(self, loss: nn.Module, weight: float = 0.4):
        super().__init__()
        self.loss = loss
        self.weight = weight

    def forward(
        self, logits: Tensor | tuple[Tensor, ...], labels: Tensor, weight: Tensor | None = None
    ) -> Tensor:
        """Compute the loss.

        Parameters
        ----------
        logits : (N, K, H, W) Tensor, or a tuple of these
            Those of the main head come first.
        labels : (N, H, W) Tensor of integers
        weight : (N, H, W) Tensor, optional
            Weights of pixels.

        Returns
        -------
        () Tensor of float32
        """
        if isinstance(logits, Tensor):
            return self.loss(logits, labels, weight)
        main, *others = (self.loss(scores, labels, weight) for scores in logits)
        return main + self.weight * sum(others)


_LOSSES = {
    "cross_entropy": CrossEntropyLoss,
    "focal": FocalLoss,
    "dice": DiceLoss,
    "multi": MultiLoss,
    "tversky": TverskyLoss,
    "lovasz": LovaszLoss,
    "ohem": OhemCrossEntropyLoss,
}

LOSS_NAMES = tuple(_LOSSES)


def make_loss(name: str, class_weight: Tensor | None = None) -> nn.Module:
    """Make a loss by name.

    Parameters
    ----------
    name : {"cross_entropy", "focal", "dice", "multi", "tversky", "lovasz", "ohem"}
    class_weight : (K,) Tensor, optional

    Returns
    -------
    torch.nn.Module
    """
    return _LOSSES[name](class_weight=class_weight)
