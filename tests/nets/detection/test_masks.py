"""Masks within boxes: drawn on the image, and cut from it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from segalgos.nets.detection.masks import enlarge_masks, paste_masks
from segalgos.nets.detection.roi_align import roi_align
from segalgos.nets.detection.targets import MaskCrops


def paste_by_definition(mask, box, size):
    """Border of zeros, box enlarged by as much and cut to pixels, bilinear interpolation."""
    m = mask.shape[-1]
    centre, half = (box[:2] + box[2:]) * np.float32(0.5), (box[2:] - box[:2]) * np.float32(0.5)
    half = half * np.float32((m + 2) / m)
    x0, y0, x1, y1 = np.concatenate([centre - half, centre + half]).astype(np.int64)
    width, height = max(x1 - x0 + 1, 1), max(y1 - y0 + 1, 1)
    padded = F.pad(torch.from_numpy(mask)[None, None], (1, 1, 1, 1))
    drawn = F.interpolate(padded, (int(height), int(width)), mode="bilinear")[0, 0].numpy()
    out = np.zeros(size, np.float32)
    top, left, bottom, right = max(y0, 0), max(x0, 0), min(y1 + 1, size[0]), min(x1 + 1, size[1])
    if top < bottom and left < right:
        out[top:bottom, left:right] = drawn[top - y0 : bottom - y0, left - x0 : right - x0]
    return out


@pytest.mark.parametrize("threshold", [0.5, 0.2])
def test_pasted_masks_equal_whole_interpolation(threshold):
    rng = np.random.default_rng(0)
    masks = rng.random((40, 28, 28)).astype(np.float32)
    corners = rng.uniform(-20, 60, (40, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0, 70, (40, 2))], axis=1)
    boxes = boxes.astype(np.float32)
    boxes[0] = [10, 10, 10, 10]  # no area
    found = paste_masks(masks, boxes, (50, 64), threshold)
    assert found.shape == (40, 50, 64)
    for mask, box, drawn in zip(masks, boxes, found):
        expected = paste_by_definition(mask, box, (50, 64))
        clear = np.abs(expected - threshold) > 1e-5
        np.testing.assert_array_equal(drawn[clear], (expected > threshold)[clear])


def test_no_masks_give_no_masks():
    empty = paste_masks(np.zeros((0, 28, 28), np.float32), np.zeros((0, 4), np.float32), (5, 7))
    assert empty.shape == (0, 5, 7)


def test_cut_masks_equal_pooling_of_the_whole_mask():
    rng = np.random.default_rng(0)
    whole = np.zeros((5, 40, 50), bool)
    masks, corners = [], []
    for mask in whole:
        r0, c0 = rng.integers(0, 20, 2)
        r1, c1 = r0 + rng.integers(1, 20), c0 + rng.integers(1, 20)
        inside = rng.random((r1 - r0, c1 - c0)) < 0.7
        mask[r0:r1, c0:c1] = inside
        masks.append(inside)
        corners.append((r0, c0, r1, c1))
    crops = MaskCrops.of(masks, np.array(corners))
    low = rng.uniform(0, 20, (30, 2))
    boxes = torch.tensor(
        np.concatenate([low, low + rng.uniform(0.3, 20, (30, 2))], axis=1), dtype=torch.float32
    )
    objects = torch.from_numpy(rng.integers(0, 5, 30))
    found = crops.take(objects, boxes, 14)
    expected = roi_align(
        torch.from_numpy(whole[:, None].astype(np.float32)), boxes, objects, 14, scale=1,
        n_samples=0,
    )[:, 0]  # fmt: skip
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_no_crops_can_be_joined():
    crops = MaskCrops.of([], np.zeros((0, 4), np.int64))
    none = crops.take(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4), 14)
    assert none.shape == (0, 14, 14)


@pytest.mark.parametrize("size", [(50, 64), (13, 9), (1, 1), (200, 31)])
def test_enlarged_masks_equal_whole_interpolation(size):
    rng = np.random.default_rng(0)
    masks = rng.random((20, 13, 17)).astype(np.float32)
    for mask in masks[1:]:  # cut, as at boxes
        (r0, r1), (c0, c1) = np.sort(rng.integers(0, 14, 2)), np.sort(rng.integers(0, 18, 2))
        keep = np.zeros_like(mask)
        keep[r0:r1, c0:c1] = 1
        mask *= keep
    expected = F.interpolate(torch.from_numpy(masks)[None], size, mode="bilinear")[0].numpy()
    for threshold in (0.5, 0.2, 0.0):
        found = enlarge_masks(masks, size, threshold)
        clear = (np.abs(expected - threshold) > 1e-5) | (expected == 0)
        np.testing.assert_array_equal(found[clear], (expected > threshold)[clear])
    assert enlarge_masks(masks[:0], size).shape == (0, *size)


@pytest.mark.parametrize("size", [(10, 13), (40, 50), (7, 3), (1, 1), (61, 80)])
def test_shrunk_masks_equal_whole_interpolation(size):
    rng = np.random.default_rng(0)
    whole = np.zeros((30, 40, 50), bool)
    masks, corners = [], []
    for mask in whole:
        r0, c0 = rng.integers(0, 38, 2)
        r1, c1 = rng.integers(r0 + 1, 41), rng.integers(c0 + 1, 51)
        mask[r0:r1, c0:c1] = rng.random((r1 - r0, c1 - c0)) < 0.8
        masks.append(mask[r0:r1, c0:c1].copy())
        corners.append((r0, c0, r1, c1))
    found = MaskCrops.of(masks, np.array(corners)).shrink((40, 50), size)
    expected = F.interpolate(torch.from_numpy(whole[None]).float(), size, mode="bilinear")[0]
    clear = (expected - 0.5).abs() > 1e-5
    assert clear.float().mean() > 0.3
    assert torch.equal(found[clear], (expected > 0.5)[clear])
