"""What Mask R-CNN [1]_ says of each proposal: its class, its box and its mask.

References
----------
.. [1] K. He, G. Gkioxari, P. Dollar and R. Girshick, "Mask R-CNN", ICCV 2017,
   arXiv:1703.06870.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segalgos.nets.detection.anchors import match_boxes, sample_matches
from segalgos.nets.detection.boxes import (
    box_areas,
    clip_boxes,
    decode_boxes,
    encode_boxes,
    large_enough,
)
from segalgos.nets.detection.detections import Detections
from segalgos.nets.detection.nms import nms
from segalgos.nets.detection.roi_align import roi_align
from segalgos.nets.detection.targets import Targets

__all__ = ["RoIHeads"]

# Factors on dx, dy, dw, dh: how much finer the second stage tells boxes than the first.
BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
# Side of a box that is pooled from the map of stride 16, and of the smallest box kept.
CANONICAL_SIDE, CANONICAL_LEVEL = 224, 2
SMALLEST = 1e-2
STRIDES = (4, 8, 16, 32)
BOX_SIZE, MASK_SIZE = 7, 14
# Whose masks are drawn at a time: memory that is used again need not be asked for.
BOXES_AT_ONCE = 32


class BoxHead(nn.Module):
    """Two fully connected layers.

    Parameters
    ----------
    c_in, width : int
        Values of a pooled box, and of the result.
    """

    def __init__(self, c_in: int, width: int):
        super().__init__()
        self.fc6 = nn.Linear(c_in, width)
        self.fc7 = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Describe boxes: (R, C, 7, 7) to (R, width)."""
        x = F.relu(self.fc6(x.flatten(1)), inplace=True)
        return F.relu(self.fc7(x), inplace=True)


class BoxPredictor(nn.Module):
    """Class and box of each proposal, the box for every class.

    Parameters
    ----------
    width, n_classes : int
        `n_classes` counts the background.
    """

    def __init__(self, width: int, n_classes: int):
        super().__init__()
        self.cls_score = nn.Linear(width, n_classes)
        self.bbox_pred = nn.Linear(width, 4 * n_classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Judge boxes: (R, width) to (R, n_classes) and (R, n_classes, 4)."""
        return self.cls_score(x), self.bbox_pred(x).unflatten(1, (-1, 4))


class MaskPredictor(nn.Module):
    """A mask of each box, twice as fine as what is pooled, for one class.

    Parameters
    ----------
    c_in, width : int
        Channels of a pooled box, and of the map that is enlarged.
    n_classes : int
        Counts the background.

    Notes
    -----
    A transposed 2x2 convolution of stride 2 gives each cell four cells of its own: it is a
    linear layer. The last layer is computed for the class that is asked for only.
    """

    def __init__(self, c_in: int, width: int, n_classes: int):
        super().__init__()
        self.conv5_mask = nn.ConvTranspose2d(c_in, width, kernel_size=2, stride=2)
        self.mask_fcn_logits = nn.Conv2d(width, n_classes, kernel_size=1)

    def forward(self, x: Tensor, classes: Tensor) -> Tensor:
        """Draw masks: (R, c_in, m, m) and a class (R,) of each to logits (R, 2m, 2m)."""
        parts = zip(x.split(BOXES_AT_ONCE), classes.split(BOXES_AT_ONCE), strict=True)
        return torch.cat([self._draw(*part) for part in parts])

    def _draw(self, x: Tensor, classes: Tensor) -> Tensor:
        enlarge, judge = self.conv5_mask, self.mask_fcn_logits
        weight = enlarge.weight.permute(2, 3, 1, 0).flatten(0, 2)  # (2 * 2 * width, c_in)
        hidden = F.linear(x.permute(0, 2, 3, 1), weight, enlarge.bias.repeat(4))
        hidden = F.relu(hidden, inplace=True).unflatten(3, (4, -1)).flatten(1, 3)
        own = judge.weight[classes, :, 0]  # (R, width, 1)
        logits = hidden @ own + judge.bias[classes, None, None]  # (R, m * m * 2 * 2, 1)
        m = x.shape[2]
        return logits.view(-1, m, m, 2, 2).transpose(2, 3).reshape(-1, 2 * m, 2 * m)


class RoIHeads(nn.Module):
    """The second stage: classes, boxes and masks of proposals.

    Parameters
    ----------
    width : int
        Channels of the pyramid.
    n_classes : int
        Without the background.
    box_width : int, default=1024
        Of the fully connected layers.
    mask_width : int, default=256
        Channels of the mask's convolutions.
    n_mask_convs : int, default=4
    score_threshold : float, default=0.05
        Least probability of a class.
    iou_threshold : float, default=0.5
        Detections of a class with a larger IoU suppress one another.
    n_detections : int, default=100
        Of an image, at most.
    generator : torch.Generator, optional
        For the initial weights.
    """

    def __init__(
        self,
        width: int,
        n_classes: int,
        *,
        box_width: int = 1024,
        mask_width: int = 256,
        n_mask_convs: int = 4,
        score_threshold: float = 0.05,
        iou_threshold: float = 0.5,
        n_detections: int = 100,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        self.score_threshold = score_threshold
        self.iou_threshold = iou_threshold
        self.n_detections = n_detections
        self.box_head = BoxHead(width * BOX_SIZE**2, box_width)
        self.box_predictor = BoxPredictor(box_width, n_classes + 1)
        channels = [width] + [mask_width] * n_mask_convs
        self.mask_head = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(c_in, c_out, 3, padding=1), nn.ReLU(inplace=True))
                for c_in, c_out in pairwise(channels)
            )
        )
        self.mask_predictor = MaskPredictor(channels[-1], mask_width, n_classes + 1)
        self.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw new weights; biases of convolutions become zero.

        Parameters
        ----------
        generator : torch.Generator, optional

        Notes
        -----
        Fully connected layers as torch has them, from U(-a, a) with ``a = 1 / sqrt(fan_in)``;
        convolutions from N(0, 2 / fan_out), as in the reference.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                bound = module.in_features**-0.5
                for parameter in module.parameters():
                    nn.init.uniform_(parameter, -bound, bound, generator=generator)
            elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(
                    module.weight, mode="fan_out", nonlinearity="relu", generator=generator
                )
                nn.init.zeros_(module.bias)

    def forward(
        self, pyramid: list[Tensor], proposals: list[Tensor], sizes: list[tuple[int, int]]
    ) -> list[Detections]:
        """Find the objects among the proposals.

        Parameters
        ----------
        pyramid : list of (N, width, h, w) Tensor
            At strides 4, 8, 16 and 32; coarser ones are not looked at.
        proposals : list of N (n, 4) Tensor
        sizes : list of N (int, int)
            Height and width of each image without padding.

        Returns
        -------
        list of N Detections
            With masks of 28 x 28 cells of the box.
        """
        logits, deltas = self._judge(pyramid, proposals)
        found, counts = [], [len(p) for p in proposals]
        for parts in zip(logits.split(counts), deltas.split(counts), proposals, sizes, strict=True):
            found.append(self._choose(*parts))
        classes = torch.cat([classes for *_, classes in found])
        masks = self._mask_logits(pyramid, [boxes for boxes, _, _ in found], classes + 1)
        parts = masks.sigmoid().split([len(boxes) for boxes, _, _ in found])
        return [Detections(*one, part) for one, part in zip(found, parts, strict=True)]

    def _judge(self, pyramid: list[Tensor], boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        described = self.box_head(_pool(pyramid, boxes, BOX_SIZE)).float()
        with torch.autocast(described.device.type, enabled=False):
            return self.box_predictor(described)

    def _mask_logits(self, pyramid: list[Tensor], boxes: list[Tensor], classes: Tensor) -> Tensor:
        """(R, 28, 28) logits of the masks of classes, of which the background is the first."""
        pooled = _pool(pyramid, boxes, MASK_SIZE)
        return self.mask_predictor(self.mask_head(pooled), classes).float()

    def _choose(
        self, logits: Tensor, deltas: Tensor, proposals: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes, scores and classes of the detections of one image."""
        scores = logits.softmax(dim=-1)[:, 1:]
        rows, classes = torch.nonzero(scores > self.score_threshold, as_tuple=True)
        scores = scores[rows, classes]
        boxes = decode_boxes(deltas[rows, classes + 1], proposals[rows], BOX_WEIGHTS)
        boxes = clip_boxes(boxes, size)
        fits = large_enough(boxes, SMALLEST)
        boxes, scores, classes = boxes[fits], scores[fits], classes[fits]
        keep = nms(boxes, scores, self.iou_threshold, classes)[: self.n_detections]
        return boxes[keep], scores[keep], classes[keep]

    def losses(
        self,
        pyramid: list[Tensor],
        proposals: list[Tensor],
        targets: list[Targets],
        rng: np.random.Generator,
        *,
        n_sampled: int = 512,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compare what is said of the proposals, and of the true boxes, with the truth.

        Parameters
        ----------
        pyramid : list of (N, width, h, w) Tensor
        proposals : list of N (n, 4) Tensor
        targets : list of N Targets
        rng : numpy.random.Generator
            Draws the proposals that count.
        n_sampled : int, default=512
            Of each image; a quarter of them on objects, at most.

        Returns
        -------
        classes : () Tensor
            Mean cross-entropy.
        boxes : () Tensor
            Smooth L1 distance (beta 1/9) per sampled proposal.
        masks : () Tensor
            Mean binary cross-entropy over the pixels of the masks of their classes.
        """
        drawn, on_objects, classes, goals, masks = [], [], [], [], []
        for boxes, target in zip(proposals, targets, strict=True):
            boxes = torch.cat([boxes, target.boxes])
            matches = match_boxes(boxes, target.boxes, low=0.5, high=0.5)
            positive, negative = sample_matches(matches, n_sampled, 0.25, rng)
            owner = matches[positive]
            drawn.append(torch.cat([boxes[positive], boxes[negative]]))
            on_objects.append(boxes[positive])
            classes.append(F.pad(target.classes[owner] + 1, (0, len(negative))))
            goals.append(encode_boxes(target.boxes[owner], boxes[positive], BOX_WEIGHTS))
            masks.append(target.masks.take(owner, boxes[positive], 2 * MASK_SIZE))
        labels, goal, mask = torch.cat(classes), torch.cat(goals), torch.cat(masks)
        logits, deltas = self._judge(pyramid, drawn)
        objects = torch.nonzero(labels > 0)[:, 0]
        own = labels[objects]
        delta = deltas[objects, own]
        distance = F.smooth_l1_loss(delta, goal, beta=1 / 9, reduction="sum") / max(len(labels), 1)
        mask_logits = self._mask_logits(pyramid, on_objects, own)
        if len(own):
            mask_loss = F.binary_cross_entropy_with_logits(mask_logits, mask)
        else:
            mask_loss = mask_logits.sum()
        return F.cross_entropy(logits, labels), distance, mask_loss


def _pool(pyramid: list[Tensor], boxes: list[Tensor], size: int) -> Tensor:
    """RoIAlign of each box on the map where it is about seven cells large (eq. 1 of FPN)."""
    counts = [len(b) for b in boxes]
    joined = torch.cat(boxes)
    images = torch.repeat_interleave(torch.tensor(counts)).to(joined.device)
    level = CANONICAL_LEVEL + torch.log2(box_areas(joined).sqrt() / CANONICAL_SIDE) + 1e-6
    level = level.floor().clamp(0, len(STRIDES) - 1).long()
    places = [torch.nonzero(level == k)[:, 0] for k in range(len(STRIDES))]
    parts = (
        roi_align(pyramid[k], joined[here], images[here], size, scale=1 / stride)
        for k, (here, stride) in enumerate(zip(places, STRIDES, strict=True))
        if len(here)
    )
    if torch.is_grad_enabled() and len(joined):
        # Written in place, all boxes would be copied for each map on the way back.
        by_level = torch.cat([part.permute(0, 2, 3, 1) for part in parts])
        return by_level[torch.argsort(torch.cat(places))].permute(0, 3, 1, 2)
    shape = (len(joined), size, size, pyramid[0].shape[1])
    pooled = pyramid[0].new_empty(shape).permute(0, 3, 1, 2)
    for here, part in zip(filter(len, places), parts, strict=True):
        pooled[here] = part
    return pooled
