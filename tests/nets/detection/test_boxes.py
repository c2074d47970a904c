"""Boxes, anchors, and which object a box stands for."""

import math

import numpy as np
import pytest
import torch

from segalgos.nets.detection.anchors import (
    BACKGROUND,
    BETWEEN,
    make_anchors,
    make_centred_anchors,
    match_boxes,
    match_each,
    sample_matches,
)
from segalgos.nets.detection.boxes import (
    box_iou,
    clip_boxes,
    decode_boxes,
    encode_boxes,
    large_enough,
)


def random_boxes(rng, n, largest=50):
    corners = rng.uniform(0, largest, (n, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(1, largest / 2, (n, 2))], axis=1)
    return torch.tensor(boxes, dtype=torch.float32)


def test_iou_counts_pixels():
    rng = np.random.default_rng(0)
    a, b = random_boxes(rng, 8).round(), random_boxes(rng, 5).round()

    def pixels(box):
        x0, y0, x1, y1 = box.int().tolist()
        mask = np.zeros((80, 80), bool)
        mask[y0:y1, x0:x1] = True
        return mask

    found = box_iou(a, b)
    for i in range(8):
        for j in range(5):
            p, q = pixels(a[i]), pixels(b[j])
            assert found[i, j].item() == pytest.approx((p & q).sum() / (p | q).sum(), abs=1e-6)


@pytest.mark.parametrize("weights", [(1, 1, 1, 1), (10, 10, 5, 5)])
def test_decoding_undoes_encoding(weights):
    rng = np.random.default_rng(1)
    boxes, anchors = random_boxes(rng, 30), random_boxes(rng, 30)
    deltas = encode_boxes(boxes, anchors, weights)
    torch.testing.assert_close(decode_boxes(deltas, anchors, weights), boxes)
    # Half a width to the right, twice as high.
    shifted = decode_boxes(torch.tensor([0.5, 0, 0, math.log(2)]), torch.tensor([0.0, 0, 10, 10]))
    torch.testing.assert_close(shifted, torch.tensor([5.0, -5, 15, 15]))
    huge = decode_boxes(torch.tensor([0, 0, 1e9, 1e9]), torch.tensor([0.0, 0, 16, 16]))
    torch.testing.assert_close(huge[2:] - huge[:2], torch.tensor([1000.0, 1000.0]))


def test_clipping_and_smallness():
    boxes = torch.tensor([[-5.0, 2, 30, 9], [3, -1, 4, 50], [25, 25, 40, 40]])
    clipped = clip_boxes(boxes, (10, 20))
    assert clipped.tolist() == [[0, 2, 20, 9], [3, 0, 4, 10], [20, 10, 20, 10]]
    assert large_enough(clipped, 1).tolist() == [True, True, False]


def test_anchors_stand_on_every_cell():
    fine, coarse = make_anchors([(4, 6), (2, 3)], (32, 48), (16, 32), (0.5, 1, 2))
    assert len(fine) == 4 * 6 * 3
    assert len(coarse) == 2 * 3 * 3
    assert fine[1].tolist() == [-8, -8, 8, 8]
    assert fine[4].tolist() == [0, -8, 16, 8]  # next column, 8 pixels on
    assert fine[6 * 3 + 1].tolist() == [-8, 0, 8, 16]
    wide = fine[0]
    assert (wide[3] - wide[1]) / (wide[2] - wide[0]) == pytest.approx(0.5, abs=0.05)
    assert coarse[1].tolist() == [-16, -16, 16, 16]


@pytest.mark.parametrize("keep_best", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_matches_by_definition(seed, keep_best):
    rng = np.random.default_rng(seed)
    boxes, truth = random_boxes(rng, 60).round(), random_boxes(rng, 6).round()
    iou = box_iou(boxes, truth).numpy()
    best, owner = iou.max(axis=1), iou.argmax(axis=1)
    expected = np.where(best >= 0.6, owner, np.where(best >= 0.3, BETWEEN, BACKGROUND))
    if keep_best:
        for g in range(6):
            if iou[:, g].max() > 0:
                as_good = iou[:, g] == iou[:, g].max()
                expected[as_good] = owner[as_good]
    found = match_boxes(boxes, truth, low=0.3, high=0.6, keep_best=keep_best)
    np.testing.assert_array_equal(found.numpy(), expected)


def test_without_objects_all_is_background():
    found = match_boxes(torch.ones(3, 4), torch.zeros(0, 4), low=0.3, high=0.7, keep_best=True)
    assert found.tolist() == [BACKGROUND] * 3


def test_sampling_fills_up_with_background():
    matches = torch.tensor([0, 1, BETWEEN, BACKGROUND, 2, *[BACKGROUND] * 20])
    positive, negative = sample_matches(matches, 8, 0.25, np.random.default_rng(0))
    assert len(positive) == 2
    assert len(negative) == 6
    assert (matches[positive] >= 0).all()
    assert (matches[negative] == BACKGROUND).all()
    positive, negative = sample_matches(matches, 100, 0.5, np.random.default_rng(0))
    assert positive.tolist() == [0, 1, 4]
    assert len(negative) == 21
    positive, negative = sample_matches(matches[2:3], 8, 0.5, np.random.default_rng(0))
    assert len(positive) == len(negative) == 0


def test_centred_anchors_have_their_shapes():
    anchors = make_centred_anchors([(2, 3), (1, 1)], (20, 33), [8, 16], [1.0, 0.25, 4.0])
    assert anchors.shape == (3 * 2 * 3 + 3, 4)
    sides = anchors[:, 2:] - anchors[:, :2]
    torch.testing.assert_close(sides[:3], torch.tensor([[8.0, 8], [4, 16], [16, 4]]))
    torch.testing.assert_close(sides[-3:], 2 * sides[:3])
    centres = (anchors[:, 2:] + anchors[:, :2]) / 2
    expected = [(x, y) for y in (5.0, 15.0) for x in (5.5, 16.5, 27.5) for _ in range(3)]
    torch.testing.assert_close(centres, torch.tensor([*expected, *[(16.5, 10.0)] * 3]))
    square = make_centred_anchors([(2, 3)], (20, 33), [8], [1.0, 0.25, 4.0], square=True)
    sides = (square[:, 2:] - square[:, :2])[:3]
    torch.testing.assert_close(sides, torch.tensor([[8.0, 8], [4, 4], [16, 16]]))


@pytest.mark.parametrize("seed", range(10))
def test_each_object_has_a_box_of_its_own(seed):
    rng = np.random.default_rng(seed)
    boxes, truth = random_boxes(rng, 200), random_boxes(rng, 12)
    found = match_each(boxes, truth, low=0.4, high=0.5)
    iou = box_iou(truth, boxes).numpy()
    expected = np.where(iou.max(axis=0) >= 0.5, iou.argmax(axis=0), BETWEEN)
    expected[iou.max(axis=0) < 0.4] = BACKGROUND
    for _ in range(len(truth)):  # the best pair of all, again and again
        g, i = np.unravel_index(iou.argmax(), iou.shape)
        expected[i] = g
        iou[g], iou[:, i] = -1, -1
    assert found.tolist() == expected.tolist()
    assert set(found.tolist()) >= set(range(12))


def test_objects_far_from_all_boxes_have_none():
    boxes, truth = torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([[20.0, 20, 30, 30]])
    assert match_each(boxes, truth, low=0.4, high=0.5).tolist() == [BACKGROUND]
    both = torch.cat([truth, boxes + 4, boxes + 3])  # two want the one box
    assert match_each(boxes, both, low=0.4, high=0.5).tolist() == [2]
    assert match_each(boxes, truth[:0], low=0.4, high=0.5).tolist() == [BACKGROUND]
