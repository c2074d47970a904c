"""RoIAlign against torchvision's values, and against its definition."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from segalgos.nets.detection.roi_align import _by_tensors, roi_align
from segalgos.parallel import thread_limit

GOLDEN = Path(__file__).parents[1] / "golden"
golden = runpy.run_path(str(GOLDEN / "make_mask_rcnn.py"))
EXPECTED = json.loads((GOLDEN / "mask_rcnn.json").read_text())["roi_align"]


@pytest.mark.parametrize(("settings", "expected"), list(zip(golden["POOLINGS"], EXPECTED)))
def test_values_equal_torchvisions(settings, expected):
    size, n, aligned = settings
    features, boxes, images = golden["pooling_input"]()
    pooled = roi_align(features, boxes, images, size, scale=1 / 8, n_samples=n, aligned=aligned)
    found = golden["describe"](pooled)
    assert found["shape"] == expected["shape"]
    assert found["values"] == pytest.approx(expected["values"], abs=1e-5)
    assert found["mean"] == pytest.approx(expected["mean"], abs=1e-5)
    assert found["mean_square"] == pytest.approx(expected["mean_square"], abs=1e-5)


def by_definition(features, box, size, scale, n, aligned):
    """Mean of samples on a regular grid in each bin, one sample after another."""
    channels, height, width = features.shape

    def sample(y, x):
        if y < -1 or y > height or x < -1 or x > width:
            return np.zeros(channels)
        y, x = (min(max(v, 0), m - 1) for v, m in ((y, height), (x, width)))
        top, left = int(y), int(x)
        bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
        y, x = y - top, x - left
        return (
            features[:, top, left] * (1 - y) * (1 - x)
            + features[:, top, right] * (1 - y) * x
            + features[:, bottom, left] * y * (1 - x)
            + features[:, bottom, right] * y * x
        )

    x0, y0, x1, y1 = box * scale - (0.5 if aligned else 0)
    width_, height_ = x1 - x0, y1 - y0
    if not aligned:
        width_, height_ = max(width_, 1), max(height_, 1)
    out = np.zeros((channels, size, size))
    for i in range(size):
        for j in range(size):
            samples = [
                sample(
                    y0 + (i + (a + 0.5) / n) * height_ / size,
                    x0 + (j + (b + 0.5) / n) * width_ / size,
                )
                for a in range(n)
                for b in range(n)
            ]
            out[:, i, j] = np.mean(samples, axis=0)
    return out


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_bins_are_means_of_samples(n, aligned):
    rng = np.random.default_rng(n)
    features = rng.normal(size=(2, 4, 9, 6)).astype(np.float32)
    corners = rng.uniform(-10, 60, (12, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0, 40, (12, 2))], axis=1)
    images = rng.integers(0, 2, 12)
    pooled = roi_align(
        torch.tensor(features), torch.tensor(boxes, dtype=torch.float32), torch.tensor(images), 3,
        scale=0.2, n_samples=n, aligned=aligned,
    )  # fmt: skip
    for r in range(12):
        expected = by_definition(features[images[r]], boxes[r], 3, 0.2, n, aligned)
        np.testing.assert_allclose(pooled[r].numpy(), expected, atol=2e-5)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("n", [0, 1, 2])
def test_tensor_operations_give_the_same_values_and_gradients(n, aligned):
    features, boxes, images = golden["pooling_input"]()
    features.requires_grad_()
    weight = torch.randn(24, 3, 7, 7, generator=torch.Generator().manual_seed(0))
    pooled = roi_align(features, boxes, images, 7, scale=1 / 8, n_samples=n, aligned=aligned)
    double = features.detach().double().requires_grad_()
    other = _by_tensors(double, boxes.double(), images, 7, 1 / 8, n, aligned)
    torch.testing.assert_close(pooled.double(), other, atol=1e-5, rtol=0)
    (gradient,) = torch.autograd.grad((pooled * weight).sum(), features)
    (expected,) = torch.autograd.grad((other * weight).sum(), double)
    torch.testing.assert_close(gradient.double(), expected, atol=1e-4, rtol=0)


def test_result_does_not_depend_on_threads_or_memory():
    features = torch.randn(1, 20, 15, 15, generator=torch.Generator().manual_seed(0))
    boxes = golden["boxes"]("many", 200, 15)
    images = torch.zeros(200, dtype=torch.int64)
    with thread_limit(1):
        one = roi_align(features, boxes, images, 5, scale=1)
    with thread_limit(3):
        channels_last = features.to(memory_format=torch.channels_last)
        three = roi_align(channels_last, boxes, images, 5, scale=1)
    assert torch.equal(one, three)


def test_no_boxes_give_no_maps_and_a_gradient_of_zero():
    features = torch.ones(1, 3, 4, 4, requires_grad=True)
    pooled = roi_align(features, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), 7, scale=1)
    assert pooled.shape == (0, 3, 7, 7)
    pooled.sum().backward()
    assert not features.grad.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": torch.zeros(3, 4, 4)}, r"roi_align: features \(3, 4, 4\)"),
        ({"boxes": torch.zeros(2, 5)}, r"boxes \(2, 5\)"),
        ({"images": torch.zeros(3, dtype=torch.int64)}, r"images \(3,\)"),
        ({"images": torch.tensor([0, 1])}, "images holds 0 to 1, there are 1 maps"),
        ({"boxes": torch.full((2, 4), torch.nan)}, "boxes hold NaN or infinite"),
        ({"size": 0}, "roi_align: size"),
        ({"n_samples": -1}, "roi_align: n_samples"),
    ],
)
def test_bad_input_is_refused(change, message):
    args = {
        "features": torch.zeros(1, 3, 4, 4),
        "boxes": torch.tensor([[0.0, 0, 1, 1]]).repeat(2, 1),
        "images": torch.zeros(2, dtype=torch.int64),
        "size": 7,
        "scale": 1,
    } | change
    with pytest.raises(ValueError, match=message):
        roi_align(**args)
