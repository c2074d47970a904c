"""Prototypes [1]_: masks of the whole image, which objects are put together of.

References
----------
.. [1] D. Bolya, C. Zhou, F. Xiao and Y. J. Lee, "YOLACT: real-time instance segmentation",
   ICCV 2019, arXiv:1904.02689.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segalgos.nets.detection.targets import Targets

__all__ = ["PrototypeNet", "assemble_masks", "mask_loss", "semantic_loss"]

# Cells that a mask may reach beyond its box.
PADDING = 1
# Anchors of an image whose masks a step looks at, at most.
MOST_MASKS = 100


class PrototypeNet(nn.Sequential):
    """Three convolutions, twice the size, one more, and a map for each prototype (Fig. 3).

    Parameters
    ----------
    width : int
        Channels of the pyramid and of the convolutions.
    n_prototypes : int
    """

    def __init__(self, width: int, n_prototypes: int):
        layers: list[nn.Module] = []
        for _ in range(3):
            layers += [nn.Conv2d(width, width, kernel_size=3, padding=1), nn.ReLU(inplace=True)]
        # The reference rectifies once more behind the interpolation, which changes nothing.
        layers += [nn.Upsample(scale_factor=2, mode="bilinear"), nn.Identity()]
        layers += [nn.Conv2d(width, width, kernel_size=3, padding=1), nn.ReLU(inplace=True)]
        super().__init__(*layers, nn.Conv2d(width, n_prototypes, kernel_size=1))

    def forward(self, x: Tensor) -> Tensor:
        """Draw prototypes.

        Parameters
        ----------
        x : (N, width, h, w) Tensor
            The finest map of the pyramid.

        Returns
        -------
        (N, n_prototypes, 2 * h, 2 * w) Tensor
            None below zero.
        """
        return F.relu(super().forward(x))


def assemble_masks(
    prototypes: Tensor, coefficients: Tensor, boxes: Tensor, size: tuple[int, int]
) -> Tensor:
    """Add prototypes up to the masks of objects, and cut them at their boxes.

    Parameters
    ----------
    prototypes : (P, h, w) Tensor
    coefficients : (n, P) Tensor
    boxes : (n, 4) Tensor
        Corners x0, y0, x1, y1 in pixels of the image.
    size : (int, int)
        Height and width of the image, which the prototypes cover.

    Returns
    -------
    (n, h, w) Tensor
        Probabilities; zero more than a cell beyond the box.
    """
    masks = torch.tensordot(coefficients, prototypes, dims=1).sigmoid()  # eq. (1)
    return masks * _within(_to_cells(boxes, size, masks.shape[1:]), masks.shape[1:])


def _to_cells(boxes: Tensor, size: tuple[int, int], map_size: tuple[int, int]) -> Tensor:
    """Bring boxes from pixels of the image to cells of a map that covers it."""
    scale = boxes.new_tensor([map_size[1] / size[1], map_size[0] / size[0]])
    return boxes * scale.repeat(2)


def _within(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Cells of each box and around it: (n, 4) to (n, h, w) bool."""
    x0, y0, x1, y1 = (boxes[:, k, None] for k in range(4))
    rows, columns = (torch.arange(n, device=boxes.device) for n in size)
    in_rows = (rows >= y0 - PADDING) & (rows < y1 + PADDING)  # (n, h)
    in_columns = (columns >= x0 - PADDING) & (columns < x1 + PADDING)  # (n, w)
    return in_rows[:, :, None] & in_columns[:, None, :]


def mask_loss(
    prototypes: Tensor,
    coefficients: Tensor,
    matches: list[Tensor],
    targets: list[Targets],
    size: tuple[int, int],
    rng: np.random.Generator,
) -> Tensor:
    """Compare the masks of anchors on objects with those of the objects.

    Parameters
    ----------
    prototypes : (N, P, h, w) Tensor
    coefficients : (N, A, P) Tensor
        Of all anchors.
    matches : list of N (A,) int64 Tensor
        Which object each anchor is on; negative for none.
    targets : list of N Targets
    size : (int, int)
        Height and width of the images.
    rng : numpy.random.Generator
        Draws the anchors whose masks count, of images with more than 100 on objects.

    Returns
    -------
    () Tensor
        Binary cross-entropy of each such anchor over the cells of its object's box, and one
        around, divided by the area of the box, which counts as a cell at least; the sum over
        anchors. The reference leaves smaller objects out.
    """
    map_size = tuple(prototypes.shape[2:])
    total = prototypes.sum() * 0  # images without objects have a gradient, too
    for maps, of_anchors, owner, target in zip(
        prototypes, coefficients, matches, targets, strict=True
    ):
        on_objects = torch.nonzero(owner >= 0)[:, 0]
        n = len(on_objects)
        if n == 0:
            continue
        if n > MOST_MASKS:
            drawn = np.sort(rng.choice(n, MOST_MASKS, replace=False))
            on_objects = on_objects[torch.from_numpy(drawn).to(on_objects.device)]
        owner = owner[on_objects]
        truth = target.masks.shrink(size, map_size).to(maps.device)[owner].to(maps.dtype)
        boxes = _to_cells(target.boxes, size, map_size)[owner]
        logits = torch.tensordot(of_anchors[on_objects], maps, dims=1)
        loss = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        loss = (loss * _within(boxes, map_size)).sum(dim=(1, 2))
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1).clamp(min=1)
        total = total + (loss / areas).sum() * (n / len(on_objects))
    return total


def semantic_loss(logits: Tensor, targets: list[Targets], size: tuple[int, int]) -> Tensor:
    """Compare a map of each class with where its objects are.

    Parameters
    ----------
    logits : (N, K, h, w) Tensor
    targets : list of N Targets
    size : (int, int)
        Height and width of the images.

    Returns
    -------
    () Tensor
        Binary cross-entropy: the mean over images and cells of the sum over classes.
    """
    truth = torch.zeros_like(logits)
    for maps, target in zip(truth, targets, strict=True):
        masks = target.masks.shrink(size, tuple(logits.shape[2:])).to(maps.device)
        for k in target.classes.unique().tolist():
            maps[k] = masks[target.classes == k].any(dim=0)
    loss = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return loss.sum(dim=1).mean()
