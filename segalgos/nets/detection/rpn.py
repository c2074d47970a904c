"""Region proposals [1]_: where in the image there may be an object, of whatever class.

References
----------
.. [1] S. Ren, K. He, R. Girshick and J. Sun, "Faster R-CNN: towards real-time object detection
   with region proposal networks", NeurIPS 2015, arXiv:1506.01497.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segalgos.nets.detection.anchors import make_anchors, match_boxes, sample_matches
from segalgos.nets.detection.boxes import clip_boxes, decode_boxes, encode_boxes, large_enough
from segalgos.nets.detection.nms import nms
from segalgos.nets.detection.targets import Targets

__all__ = ["RegionProposals"]

# Smaller boxes, in pixels, are no proposals.
SMALLEST = 1e-3


class ProposalHead(nn.Module):
    """A 3x3 convolution, then for every anchor whether there is an object, and its box.

    Parameters
    ----------
    width : int
        Channels of the pyramid.
    n_anchors : int
        At each cell.
    """

    def __init__(self, width: int, n_anchors: int):
        super().__init__()
        conv = nn.Conv2d(width, width, kernel_size=3, padding=1)
        self.conv = nn.Sequential(nn.Sequential(conv, nn.ReLU(inplace=True)))
        self.cls_logits = nn.Conv2d(width, n_anchors, kernel_size=1)
        self.bbox_pred = nn.Conv2d(width, 4 * n_anchors, kernel_size=1)

    def forward(self, pyramid: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Judge the anchors of every map.

        Parameters
        ----------
        pyramid : list of (N, width, h, w) Tensor

        Returns
        -------
        logits : list of (N, h * w * n_anchors) Tensor
            By row, column, anchor.
        deltas : list of (N, h * w * n_anchors, 4) Tensor
        """
        logits, deltas = [], []
        for x in pyramid:
            x = self.conv(x).float()
            with torch.autocast(x.device.type, enabled=False):
                logits.append(self.cls_logits(x).permute(0, 2, 3, 1).flatten(1))
                deltas.append(self.bbox_pred(x).permute(0, 2, 3, 1).reshape(len(x), -1, 4))
        return logits, deltas


class RegionProposals(nn.Module):
    """Propose the boxes that look most like objects.

    Parameters
    ----------
    width : int
        Channels of the pyramid.
    sizes : sequence of float
        Root of the area of the anchors of each map, in pixels.
    ratios : sequence of float
        Height over width.
    n_before, n_after : (int, int)
        In training and in prediction: best boxes of each map, and boxes kept of all maps.
    iou_threshold : float
        Proposals with a larger IoU suppress one another.
    generator : torch.Generator, optional
        For the initial weights: from N(0, 0.01), biases zero.
    """

    def __init__(
        self,
        width: int,
        *,
        sizes: Sequence[float] = (32, 64, 128, 256, 512),
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
        n_before: tuple[int, int] = (2000, 1000),
        n_after: tuple[int, int] = (2000, 1000),
        iou_threshold: float = 0.7,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        self.sizes, self.ratios = tuple(sizes), tuple(ratios)
        self.n_before, self.n_after = n_before, n_after
        self.iou_threshold = iou_threshold
        self.head = ProposalHead(width, len(self.ratios))
        for module in self.head.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01, generator=generator)
                nn.init.zeros_(module.bias)

    def forward(
        self, pyramid: list[Tensor], sizes: list[tuple[int, int]], image_size: tuple[int, int]
    ) -> tuple[list[Tensor], tuple[Tensor, Tensor, Tensor]]:
        """Propose boxes.

        Parameters
        ----------
        pyramid : list of (N, width, h, w) Tensor
        sizes : list of N (int, int)
            Height and width of each image without padding.
        image_size : (int, int)
            With padding.

        Returns
        -------
        proposals : list of N (n, 4) Tensor
            By falling probability, without gradient.
        judged : (A, 4), (N, A) and (N, A, 4) Tensor
            All anchors, their logits and deltas: what `losses` takes.
        """
        logits, deltas = self.head(pyramid)
        anchors = make_anchors(
            [tuple(x.shape[2:]) for x in pyramid], image_size, self.sizes, self.ratios
        )
        anchors = [a.to(logits[0].device) for a in anchors]
        with torch.no_grad():
            proposals = [
                self._propose(anchors, [x[i] for x in logits], [x[i] for x in deltas], size)
                for i, size in enumerate(sizes)
            ]
        return proposals, (torch.cat(anchors), torch.cat(logits, dim=1), torch.cat(deltas, dim=1))

    def _propose(
        self,
        anchors: list[Tensor],
        logits: list[Tensor],
        deltas: list[Tensor],
        size: tuple[int, int],
    ) -> Tensor:
        """Decode the best anchors of each map of one image, and suppress."""
        n_before, n_after = (n[0 if self.training else 1] for n in (self.n_before, self.n_after))
        boxes, scores, levels = [], [], []
        for level, (anchor, logit, delta) in enumerate(zip(anchors, logits, deltas, strict=True)):
            logit, best = logit.topk(min(n_before, len(logit)))
            boxes.append(clip_boxes(decode_boxes(delta[best], anchor[best]), size))
            scores.append(logit.sigmoid())
            levels.append(torch.full_like(best, level))
        boxes, scores, levels = torch.cat(boxes), torch.cat(scores), torch.cat(levels)
        fits = large_enough(boxes, SMALLEST)
        boxes, scores, levels = boxes[fits], scores[fits], levels[fits]
        return boxes[nms(boxes, scores, self.iou_threshold, levels)[:n_after]]

    def losses(
        self,
        judged: tuple[Tensor, Tensor, Tensor],
        targets: list[Targets],
        rng: np.random.Generator,
        *,
        n_sampled: int = 256,
    ) -> tuple[Tensor, Tensor]:
        """Compare what was judged with the truth.

        Parameters
        ----------
        judged : tuple of Tensor
            From the forward pass.
        targets : list of N Targets
        rng : numpy.random.Generator
            Draws the anchors that count.
        n_sampled : int, default=256
            Of each image; half of them on objects, at most.

        Returns
        -------
        objectness : () Tensor
            Mean cross-entropy.
        boxes : () Tensor
            Smooth L1 distance (beta 1/9) per sampled anchor.
        """
        anchors, logits, deltas = judged
        logit, truth, delta, goal, n = [], [], [], [], 0
        for i, target in enumerate(targets):
            matches = match_boxes(anchors, target.boxes, low=0.3, high=0.7, keep_best=True)
            positive, negative = sample_matches(matches, n_sampled, 0.5, rng)
            n += len(positive) + len(negative)
            logit += [logits[i, positive], logits[i, negative]]
            truth += [torch.ones(len(positive)), torch.zeros(len(negative))]
            delta.append(deltas[i, positive])
            goal.append(encode_boxes(target.boxes[matches[positive]], anchors[positive]))
        logit = torch.cat(logit)
        objectness = F.binary_cross_entropy_with_logits(logit, torch.cat(truth).to(logit))
        distance = F.smooth_l1_loss(torch.cat(delta), torch.cat(goal), beta=1 / 9, reduction="sum")
        return objectness, distance / max(n, 1)
