"""Non-maximum suppression [1]_ [2]_: of boxes that overlap much, keep the best.

References
----------
.. [1] P. Felzenszwalb, R. Girshick, D. McAllester and D. Ramanan, "Object detection with
   discriminatively trained part-based models", PAMI 32, 2010.
.. [2] D. Bolya, C. Zhou, F. Xiao and Y. J. Lee, "YOLACT: real-time instance segmentation",
   ICCV 2019, arXiv:1904.02689.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch import Tensor

from segalgos import checks
from segalgos.nets.detection.boxes import box_iou

__all__ = ["fast_nms", "nms"]


def nms(
    boxes: Tensor, scores: Tensor, iou_threshold: float, groups: Tensor | None = None
) -> Tensor:
    """Keep boxes that overlap with no kept box of a higher score.

    Parameters
    ----------
    boxes : (N, 4) float Tensor
        Corners x0, y0, x1, y1.
    scores : (N,) float Tensor
        Of equal scores the earlier box goes first.
    iou_threshold : float
        Boxes with a larger IoU suppress one another.
    groups : (N,) int Tensor, optional
        Boxes of different groups, such as classes or levels of a pyramid, suppress nothing of
        one another.

    Returns
    -------
    (n,) int64 Tensor
        Indices of the kept boxes, by falling score.

    Raises
    ------
    ValueError
        If shapes do not fit or a value is NaN.

    Notes
    -----
    O(N log N + N * n) time, a group at a time, on the CPU wherever the boxes are. IoUs are
    computed in the precision of the boxes, as the reference does: products of areas are not
    divided out.
    """
    n = len(boxes)
    if (
        boxes.shape != (n, 4)
        or scores.shape != (n,)
        or (groups is not None and groups.shape != (n,))
    ):
        raise ValueError(
            f"nms: boxes {tuple(boxes.shape)}, scores {tuple(scores.shape)} and groups "
            f"{None if groups is None else tuple(groups.shape)} do not fit: expected (N, 4), (N,) "
            "and (N,)."
        )
    if torch.isnan(boxes).any() or torch.isnan(scores).any():
        raise ValueError("nms: boxes or scores hold NaN: the network's weights have diverged.")
    if n == 0:
        return torch.zeros(0, dtype=torch.int64, device=boxes.device)
    order = torch.argsort(scores.detach(), descending=True, stable=True).cpu().numpy()
    if groups is None:
        starts = np.array([0, n])
    else:
        by_score = groups.cpu().numpy()[order]
        by_group = np.argsort(by_score, kind="stable")
        order, sorted_groups = order[by_group], by_score[by_group]
        starts = np.flatnonzero(np.diff(sorted_groups, prepend=sorted_groups[0] - 1))
        starts = np.append(starts, n)
    corners = np.ascontiguousarray(boxes.detach().cpu().float().numpy()[order])
    kept = np.ones(n, np.bool_)
    limit = np.float32(iou_threshold)
    if float(limit) > iou_threshold:  # an IoU that rounds to the threshold may be above it
        limit = np.nextafter(limit, np.float32(0))
    _suppress(corners, starts, limit, kept)
    keep = torch.from_numpy(order[kept]).to(boxes.device)
    if groups is None:
        return keep
    # Back from groups to scores; equal ones by index, as in one sort of all.
    keep = keep.sort().values
    return keep[torch.argsort(scores.detach()[keep], descending=True, stable=True)]


@njit(nogil=True, cache=True)
def _suppress(boxes, starts, threshold, kept):
    """Clear `kept` where an earlier kept box of the group overlaps by more than `threshold`."""
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    zero = np.float32(0)
    for g in range(len(starts) - 1):
        stop = starts[g + 1]
        for i in range(starts[g], stop):
            if not kept[i]:
                continue
            x0, y0, x1, y1, area = boxes[i, 0], boxes[i, 1], boxes[i, 2], boxes[i, 3], areas[i]
            for j in range(i + 1, stop):
                width = min(x1, boxes[j, 2]) - max(x0, boxes[j, 0])
                height = min(y1, boxes[j, 3]) - max(y0, boxes[j, 1])
                shared = max(width, zero) * max(height, zero)
                # Two empty boxes in one place are 0 / 0: that is no overlap.
                if shared > zero and shared / (area + areas[j] - shared) > threshold:
                    kept[j] = False


def fast_nms(
    boxes: Tensor, scores: Tensor, iou_threshold: float, top: int
) -> tuple[Tensor, Tensor]:
    """Suppress boxes by any better box, kept or not: one matrix operation for a class.

    Parameters
    ----------
    boxes : (N, 4) float Tensor
    scores : (K, N) float Tensor
        Of each class.
    iou_threshold : float
        A box is dropped if a better one of its class has a larger IoU with it.
    top : int
        Best boxes of each class that are looked at.

    Returns
    -------
    indices : (n,) int64 Tensor
        Of the kept boxes, by class and falling score.
    classes : (n,) int64 Tensor

    Raises
    ------
    ValueError
        If a value is NaN.

    Notes
    -----
    O(K * top**2) time and memory. It drops slightly more than `nms`: a box that is itself
    dropped still suppresses others.
    """
    checks.check_int("fast_nms", "top", top, low=1)
    if torch.isnan(boxes).any() or torch.isnan(scores).any():
        raise ValueError("fast_nms: boxes or scores hold NaN: the network's weights have diverged.")
    order = scores.argsort(dim=1, descending=True, stable=True)[:, :top]
    if not order.numel():
        return order.flatten(), order.flatten()
    chosen = boxes[order]  # (K, n, 4)
    overlap = box_iou(chosen, chosen).nan_to_num(0.0).triu(diagonal=1).amax(dim=1)
    classes, ranks = torch.nonzero(overlap <= iou_threshold, as_tuple=True)
    return order[classes, ranks], classes
