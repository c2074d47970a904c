"""What detectors find in an image."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

__all__ = ["Detections"]


class Detections(NamedTuple):
    """Objects of one image, by falling score.

    Parameters
    ----------
    boxes : (n, 4) Tensor
        Corners x0, y0, x1, y1.
    scores : (n,) Tensor
    classes : (n,) int64 Tensor
        From 0 to K - 1.
    masks : (n, h, w) Tensor
        Probabilities: of cells of the box, or of cells of the whole image. The network tells.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    masks: Tensor
