"""Suppression against torchvision's choice, and against its definition."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from segalgos.nets.detection.nms import fast_nms, nms

GOLDEN = Path(__file__).parents[1] / "golden"
golden = runpy.run_path(str(GOLDEN / "make_mask_rcnn.py"))
EXPECTED = json.loads((GOLDEN / "mask_rcnn.json").read_text())


@pytest.mark.parametrize(("threshold", "i"), [(t, i) for i, t in enumerate(golden["THRESHOLDS"])])
def test_choice_equals_torchvisions(threshold, i):
    boxes, scores, groups = golden["suppression_input"]()
    assert nms(boxes, scores, threshold).tolist() == EXPECTED["nms"][i]
    found, expected = nms(boxes, scores, threshold, groups), EXPECTED["batched_nms"][i]
    assert sorted(found.tolist()) == sorted(expected)
    assert torch.equal(scores[found], scores[expected])  # ties have no order there


def iou(a, b):
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (area - width * height) if width * height else 0


@pytest.mark.parametrize("seed", range(20))
def test_greedy_by_definition(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 60))
    corners = rng.integers(0, 12, (n, 2))
    boxes = np.concatenate([corners, corners + rng.integers(0, 9, (n, 2))], axis=1).astype(float)
    scores, groups = rng.integers(0, 6, n) / 5, rng.integers(-1, 2, n)
    kept = []
    for i in sorted(range(n), key=lambda i: (-scores[i], i)):
        if all(iou(boxes[i], boxes[k]) <= 0.45 or groups[i] != groups[k] for k in kept):
            kept.append(i)
    found = nms(
        torch.tensor(boxes, dtype=torch.float32), torch.tensor(scores), 0.45, torch.tensor(groups)
    )
    assert found.tolist() == kept


def test_fast_suppression_lets_the_suppressed_suppress():
    boxes = torch.tensor([[0.0, 0, 10, 10], [3, 0, 13, 10], [6, 0, 16, 10]])  # a chain
    scores = torch.tensor([[0.9, 0.8, 0.7], [0.1, 0.3, 0.2]])
    assert nms(boxes, scores[0], 0.5).tolist() == [0, 2]
    indices, classes = fast_nms(boxes, scores, 0.5, top=3)
    assert list(zip(indices.tolist(), classes.tolist())) == [(0, 0), (1, 1)]
    indices, classes = fast_nms(boxes, scores, 0.9, top=2)
    assert list(zip(indices.tolist(), classes.tolist())) == [(0, 0), (1, 0), (1, 1), (2, 1)]
    indices, _ = fast_nms(boxes[:0], scores[:, :0], 0.5, top=2)
    assert len(indices) == 0


def test_bad_input_is_refused():
    boxes, scores = torch.zeros(2, 4), torch.zeros(2)
    with pytest.raises(ValueError, match=r"nms: boxes \(2, 4\), scores \(3,\)"):
        nms(boxes, torch.zeros(3), 0.5)
    with pytest.raises(ValueError, match="do not fit"):
        nms(boxes, scores, 0.5, torch.zeros(1))
    with pytest.raises(ValueError, match="NaN"):
        nms(boxes, scores * torch.nan, 0.5)
    with pytest.raises(ValueError, match="fast_nms: top"):
        fast_nms(boxes, scores[None], 0.5, top=0)
    with pytest.raises(ValueError, match="fast_nms: boxes or scores hold NaN"):
        fast_nms(boxes * torch.nan, scores[None], 0.5, top=1)
