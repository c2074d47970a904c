"""Boundary IoU against erosion, and boundary AP against the field's evaluation code."""

import numpy as np
import pytest
from scipy import ndimage

from segalgos import rle
from segalgos.metrics import boundary_iou, boundary_of

SQUARE = np.ones((3, 3), bool)


def random_masks(rng, n, shape):
    noise = rng.random((n, *shape))
    smooth = ndimage.gaussian_filter(noise, (0, 3, 3))
    masks = np.concatenate([noise < rng.random((n, 1, 1)), smooth > np.median(smooth)])
    boxes = np.zeros((n, *shape), bool)
    for mask in boxes:
        (top, bottom), (left, right) = (np.sort(rng.integers(0, s + 1, 2)) for s in shape)
        mask[top:bottom, left:right] = True
    whole = np.stack([np.zeros(shape, bool), np.ones(shape, bool)])
    return np.concatenate([masks, boxes, whole])


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (12, 1), (30, 41), (64, 50)])
@pytest.mark.parametrize("width", [1, 2, 5])
def test_rims_equal_erosion(shape, width):
    masks = random_masks(np.random.default_rng(0), 6, shape)
    rims = rle.rims(rle.encode(masks), width)
    for mask, rim in zip(masks, rle.decode(rims), strict=True):
        eroded = ndimage.binary_erosion(mask, SQUARE, iterations=width, border_value=0)
        np.testing.assert_array_equal(rim, mask & ~eroded)
    # The runs are those that the masks have, no other cut of them.
    again = rle.encode(rle.decode(rims))
    np.testing.assert_array_equal(rims.counts, again.counts)
    np.testing.assert_array_equal(rims.starts, again.starts)


def test_equals_the_definition():
    rng = np.random.default_rng(1)
    for _ in range(40):
        shape = tuple(rng.integers(1, 120, 2))
        found, truth = random_masks(rng, 1, shape)[rng.permutation(5)[:2]]
        width = max(1, int(np.rint(0.02 * np.hypot(*shape))))
        rims = [m & ~ndimage.binary_erosion(m, SQUARE, iterations=width) for m in (found, truth)]
        np.testing.assert_array_equal(boundary_of(found), rims[0])
        either = (rims[0] | rims[1]).sum()
        expected = (rims[0] & rims[1]).sum() / either if either else np.nan
        assert boundary_iou(found, truth) == pytest.approx(expected, abs=1e-15, nan_ok=True)
        ignored = rng.random(shape) < 0.3
        either = ((rims[0] | rims[1]) & ~ignored).sum()
        expected = (rims[0] & rims[1] & ~ignored).sum() / either if either else np.nan
        value = boundary_iou(found, truth, ignored=ignored)
        assert value == pytest.approx(expected, abs=1e-15, nan_ok=True)


def test_width_follows_the_diagonal():
    mask = np.ones((300, 400), bool)  # a diagonal of 500: ten pixels
    assert boundary_of(mask).sum() == 300 * 400 - 280 * 380
    assert boundary_of(mask, dilation=0).sum() == 300 * 400 - 298 * 398
    assert boundary_of(mask, dilation=1).all()


def test_bad_arguments():
    mask = np.ones((4, 5), bool)
    with pytest.raises(TypeError, match="found is int64"):
        boundary_iou(mask.astype(int), mask)
    with pytest.raises(ValueError, match=r"truth has shape \(1, 4, 5\)"):
        boundary_iou(mask, mask[None])
    with pytest.raises(ValueError, match=r"found has shape \(3, 5\), truth has \(4, 5\)"):
        boundary_iou(mask[1:], mask)
    with pytest.raises(ValueError, match=r"ignored has shape \(3, 5\)"):
        boundary_iou(mask, mask, ignored=mask[1:])
    with pytest.raises(ValueError, match="dilation"):
        boundary_of(mask, dilation=-0.1)
    with pytest.raises(ValueError, match="width is 0"):
        rle.rims(rle.encode(mask[None]), 0)
