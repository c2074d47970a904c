"""Single-stage detection [1]_: what is said of every anchor, and which of them are learned from.

References
----------
.. [1] W. Liu, D. Anguelov, D. Erhan, C. Szegedy, S. Reed, C.-Y. Fu and A. C. Berg, "SSD: single
   shot multibox detector", ECCV 2016, arXiv:1512.02325.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segalgos.nets.detection.anchors import BACKGROUND
from segalgos.nets.detection.boxes import encode_boxes
from segalgos.nets.detection.targets import Targets

__all__ = ["BOX_WEIGHTS", "AnchorPredictions", "PredictionHead", "box_loss", "class_loss"]

# One over the variances 0.1 and 0.2 of SSD.
BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
# Anchors on the background that count, for each on an object.
NEGATIVES = 3


class AnchorPredictions(NamedTuple):
    """What a network says of every anchor, and its prototypes.

    Parameters
    ----------
    anchors : (A, 4) Tensor
        Corners x0, y0, x1, y1 in pixels of the image.
    deltas : (N, A, 4) Tensor
        How boxes differ from anchors, as `segalgos.nets.detection.boxes.encode_boxes` tells.
    logits : (N, A, K + 1) Tensor
        Of classes, the background's first.
    coefficients : (N, A, P) Tensor
        Of prototypes, between -1 and 1.
    prototypes : (N, P, h, w) Tensor
        Of the whole image.
    """

    anchors: Tensor
    deltas: Tensor
    logits: Tensor
    coefficients: Tensor
    prototypes: Tensor


class PredictionHead(nn.Module):
    """Class, box and coefficients of every anchor, by the same convolutions on all maps.

    Parameters
    ----------
    width : int
        Channels of the pyramid.
    n_classes : int
        Without the background.
    n_anchors : int
        At each cell.
    n_prototypes : int
        Coefficients of each anchor.
    """

    def __init__(self, width: int, n_classes: int, n_anchors: int, n_prototypes: int):
        super().__init__()
        self.upfeature = nn.Sequential(
            nn.Conv2d(width, width, kernel_size=3, padding=1), nn.ReLU(inplace=True)
        )
        self.bbox_layer, self.conf_layer, self.mask_layer = (
            nn.Conv2d(width, n_anchors * n, kernel_size=3, padding=1)
            for n in (4, n_classes + 1, n_prototypes)
        )
        self.n_anchors = n_anchors

    def forward(self, pyramid: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Judge the anchors of all maps.

        Parameters
        ----------
        pyramid : list of (N, width, h, w) Tensor

        Returns
        -------
        deltas : (N, A, 4) Tensor
        logits : (N, A, n_classes + 1) Tensor
            The background's first.
        coefficients : (N, A, n_prototypes) Tensor
            Between -1 and 1.
        """
        of_maps = []
        for x in pyramid:
            x = self.upfeature(x)
            of_maps.append([self._by_anchor(layer(x)) for layer in
                            (self.bbox_layer, self.conf_layer, self.mask_layer)])  # fmt: skip
        deltas, logits, coefficients = (torch.cat(parts, 1) for parts in zip(*of_maps, strict=True))
        return deltas, logits, coefficients.tanh()

    def _by_anchor(self, x: Tensor) -> Tensor:
        """(N, n_anchors * c, h, w) to (N, h * w * n_anchors, c)."""
        return x.permute(0, 2, 3, 1).reshape(len(x), -1, x.shape[1] // self.n_anchors)


def box_loss(
    deltas: Tensor, anchors: Tensor, matches: list[Tensor], targets: list[Targets]
) -> Tensor:
    """Compare the boxes of anchors on objects with those of the objects.

    Parameters
    ----------
    deltas : (N, A, 4) Tensor
    anchors : (A, 4) Tensor
    matches : list of N (A,) int64 Tensor
        Which object each anchor is on; negative for none.
    targets : list of N Targets

    Returns
    -------
    () Tensor
        Smooth L1 distance, summed.
    """
    goals, on_objects = [], torch.stack(matches) >= 0
    for own, target in zip(matches, targets, strict=True):
        chosen = own >= 0
        goals.append(encode_boxes(target.boxes[own[chosen]], anchors[chosen], BOX_WEIGHTS))
    return F.smooth_l1_loss(deltas[on_objects], torch.cat(goals), reduction="sum")


def class_loss(logits: Tensor, matches: list[Tensor], targets: list[Targets]) -> Tensor:
    """Compare the classes of anchors on objects, and of the hardest others, with the truth.

    Parameters
    ----------
    logits : (N, A, n_classes + 1) Tensor
        The background's first.
    matches : list of N (A,) int64 Tensor
        Which object each anchor is on, or `BACKGROUND`; others do not count.
    targets : list of N Targets

    Returns
    -------
    () Tensor
        Cross-entropy, summed over the anchors on objects and, of each image, three times as
        many of the background: those that look least like it. At least three, so that an image
        without objects is learned from.
    """
    total = logits.new_zeros(())
    for of_anchors, owner, target in zip(logits, matches, targets, strict=True):
        on_objects = torch.nonzero(owner >= 0)[:, 0]
        negative = torch.nonzero(owner == BACKGROUND)[:, 0]
        with torch.no_grad():
            others = of_anchors[negative]
            hardness = others.logsumexp(dim=1) - others[:, 0]
            hardest = hardness.argsort(descending=True, stable=True)
        negative = negative[hardest[: NEGATIVES * max(len(on_objects), 1)]]
        labels = F.pad(target.classes[owner[on_objects]] + 1, (0, len(negative)))
        chosen = of_anchors[torch.cat([on_objects, negative])]
        total = total + F.cross_entropy(chosen, labels, reduction="sum")
    return total
