from itertools import permutations

import numpy as np
import pytest
from scipy import ndimage

from segalgos.metrics import instance_counts, instance_scores, instance_scores_from_counts
from segalgos.metrics.instances import THRESHOLDS
from segalgos.results import Instances


def random_label_map(rng, shape=(24, 30)):
    """A map of blobs with gaps between their ids."""
    labels, n = ndimage.label(ndimage.gaussian_filter(rng.random(shape), 1.5) > 0.52)
    ids = np.concatenate([[0], 3 * rng.permutation(n) + 1])
    return ids[labels]


def perturbed(rng, labels):
    """Shifted by a pixel at most, some objects lost."""
    labels = np.roll(labels, rng.integers(-1, 2, 2), (0, 1))
    return np.where(rng.random(labels.max() + 1)[labels] < 0.8, labels, 0)


def random_boxes(rng, n, shape=(20, 25)):
    """Masks that overlap one another."""
    masks = np.zeros((n, *shape), bool)
    for mask in masks:
        (r0, c0), size = rng.integers(0, 12, 2), rng.integers(3, 9, 2)
        mask[r0 : r0 + size[0], c0 : c0 + size[1]] = True
    return masks


def iou_matrix(masks, others):
    return np.array(
        [[(a & b).sum() / (a | b).sum() if (a | b).any() else 0 for b in others] for a in masks]
    ).reshape(len(masks), len(others))


def best_matching(ious, threshold):
    """Try all one-to-one matchings: the most pairs, then the largest total IoU."""
    if ious.shape[0] > ious.shape[1]:
        ious = ious.T
    best = (0, 0.0)
    for columns in permutations(range(ious.shape[1]), ious.shape[0]):
        values = [v for v in ious[np.arange(ious.shape[0]), list(columns)] if v >= threshold]
        best = max(best, (len(values), sum(values)))
    return best


def assert_counts_equal_brute_force(result, ious, thresholds):
    counts, matched_iou = result
    for row, total, threshold in zip(counts, matched_iou, thresholds):
        hits, expected = best_matching(ious, threshold)
        assert tuple(row) == (hits, ious.shape[0] - hits, ious.shape[1] - hits)
        assert total == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(40))
def test_overlapping_masks_equal_brute_force(seed):
    rng = np.random.default_rng(seed)
    masks, others = random_boxes(rng, rng.integers(0, 6)), random_boxes(rng, rng.integers(0, 6))
    thresholds = (0.05, 0.2, 0.4, 0.6)  # low enough for real contests
    result = instance_counts(Instances(masks), Instances(others), thresholds)
    assert_counts_equal_brute_force(result, iou_matrix(masks, others), thresholds)


@pytest.mark.parametrize("seed", range(20))
def test_label_maps_equal_brute_force(seed):
    rng = np.random.default_rng(seed)
    truth = random_label_map(rng, (12, 14))
    prediction = perturbed(rng, truth)
    prediction[rng.random(truth.shape) < 0.05] = -1
    truth[rng.random(truth.shape) < 0.1] = -1
    valid = truth != -1
    masks = [(prediction == k) & valid for k in np.unique(prediction[valid]) if k > 0]
    others = [truth == k for k in np.unique(truth) if k > 0]
    thresholds = (0.1, 0.3, 0.5, 0.8)
    result = instance_counts(prediction, truth, thresholds)
    assert_counts_equal_brute_force(result, iou_matrix(masks, others), thresholds)


@pytest.mark.parametrize("seed", range(10))
def test_label_maps_and_masks_give_the_same(seed):
    rng = np.random.default_rng(seed)
    truth = random_label_map(rng)
    prediction = perturbed(rng, truth)
    truth[:, :3] = -1
    expected = instance_counts(prediction, truth)
    for form in (Instances.from_labels(prediction), prediction):
        counts, matched_iou = instance_counts(form, truth)
        np.testing.assert_array_equal(counts, expected[0])
        np.testing.assert_allclose(matched_iou, expected[1], rtol=1e-13)
    whole = np.where(truth == -1, 0, truth)
    both = instance_counts(Instances.from_labels(prediction), Instances.from_labels(whole))
    half = instance_counts(prediction, Instances.from_labels(whole))
    np.testing.assert_array_equal(both[0], instance_counts(prediction, whole)[0])
    np.testing.assert_array_equal(half[0], both[0])


def test_published_definitions_by_hand():
    # Two true objects of 4 pixels. One is found with IoU 3/4, the other missed; one false alarm.
    truth = np.array([[1, 1, 1, 1, 0, 2, 2, 2, 2, 0, 0]])
    found = np.array([[5, 5, 5, 0, 0, 0, 0, 0, 0, 7, 7]])
    scores = instance_scores(found, truth)
    np.testing.assert_allclose(scores["matching_ap"], [1 / 3] * 6 + [0] * 4)
    assert scores["matching_ap_50"] == pytest.approx(1 / 3)
    assert scores["matching_ap_75"] == pytest.approx(1 / 3)  # an equal IoU matches
    assert scores["mean_matching_ap"] == pytest.approx(0.2)
    assert scores["mean_matching_ap_images"] == pytest.approx(0.2)
    assert (scores["precision_50"], scores["recall_50"], scores["f1_50"]) == (0.5, 0.5, 0.5)
    assert scores["panoptic_quality_50"] == pytest.approx(0.75 * 0.5)


def test_decimal_thresholds_are_met_exactly():
    assert THRESHOLDS == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
    truth = np.ones((1, 20), int)
    for size in range(10, 20):
        found = (np.arange(20) < size).astype(int)[None]
        expected = [size * 5 >= percent for percent in range(50, 100, 5)]
        np.testing.assert_array_equal(instance_counts(found, truth)[0][:, 0], expected)


def test_more_pairs_come_before_a_larger_total():
    # IoUs .9 alone, or .4 and .4: two matches win, as in StarDist.
    a, b = np.zeros((2, 1, 40), bool), np.zeros((2, 1, 40), bool)
    a[0, 0, :18], a[1, 0, :8] = True, True
    b[0, 0, :20], b[1, 0, 10:18] = True, True
    ious = iou_matrix(a, b)
    np.testing.assert_allclose(ious, [[0.9, 8 / 18], [0.4, 0]])
    counts, matched_iou = instance_counts(Instances(a), Instances(b), (0.3,))
    np.testing.assert_array_equal(counts, [[2, 0, 0]])
    assert matched_iou[0] == pytest.approx(0.4 + 8 / 18)


def test_one_prediction_cannot_match_two_objects():
    # IoU exactly one half with each: the tie that label maps can have.
    counts, _ = instance_counts(np.array([[1, 1]]), np.array([[1, 2]]), (0.5,))
    np.testing.assert_array_equal(counts, [[1, 0, 1]])


def test_classes_must_agree():
    masks = np.zeros((2, 4, 8), bool)
    masks[0, :, :4] = masks[1, :, 4:] = True
    truth = Instances(masks, classes=[3, 1])
    assert instance_scores(Instances(masks, classes=[3, 1]), truth)["matching_ap_50"] == 1
    half = Instances(masks, classes=[3, 2])
    np.testing.assert_array_equal(instance_counts(half, truth, (0.5,))[0], [[1, 1, 1]])
    assert instance_scores(half, truth, class_agnostic=True)["matching_ap_50"] == 1
    labels = np.repeat([[1] * 4 + [2] * 4], 4, axis=0)
    assert instance_scores(labels, truth)["matching_ap_50"] == 1


def test_boxes_of_the_annotation_do_not_decide():
    # COCO's boxes are drawn by hand; what is scored are the masks.
    masks = np.zeros((1, 6, 6), bool)
    masks[0, 2:5, 2:5] = True
    wrong = Instances(masks, boxes=[[0, 0, 1, 1]])
    assert instance_scores(wrong, Instances(masks))["matching_ap_50"] == 1


def test_an_object_without_pixels_is_left_out():
    masks = np.zeros((2, 4, 4), bool)
    masks[1, 1] = True
    np.testing.assert_array_equal(
        instance_counts(Instances(masks), Instances(masks), (0.5,))[0], [[1, 0, 0]]
    )
    hidden = np.where(masks[1], -1, 0)  # all its pixels are ignored
    np.testing.assert_array_equal(instance_counts(Instances(masks), hidden, (0.5,))[0], [[0, 0, 0]])


def test_data_set_counts_add_up():
    rng = np.random.default_rng(7)
    truths = [random_label_map(rng) for _ in range(4)]
    predictions = [perturbed(rng, truth) for truth in truths]
    counts, matched_iou = map(
        np.stack, zip(*(instance_counts(p, t) for p, t in zip(predictions, truths)))
    )
    scores = instance_scores(predictions, truths)
    hits, false, missed = counts.sum(axis=0).T
    np.testing.assert_allclose(scores["matching_ap"], hits / (hits + false + missed))
    each = [instance_scores(p, t)["mean_matching_ap"] for p, t in zip(predictions, truths)]
    assert scores["mean_matching_ap_images"] == pytest.approx(np.mean(each))
    quality = matched_iou[:, 0].sum() / hits[0] * scores["f1_50"]
    assert scores["panoptic_quality_50"] == pytest.approx(quality)
    chosen = [3, 1, 1]
    resampled = instance_scores_from_counts(counts[chosen], matched_iou[chosen])
    direct = instance_scores([predictions[i] for i in chosen], [truths[i] for i in chosen])
    for name, value in direct.items():
        np.testing.assert_array_equal(resampled[name], value)


def test_undefined_is_nan():
    nothing, one = np.zeros((3, 4), int), np.eye(3, 4, dtype=int)
    assert all(np.isnan(v).all() for v in instance_scores(nothing, nothing).values())
    assert all(np.isnan(v).all() for v in instance_scores(one, nothing - 1).values())
    empty = Instances(np.zeros((0, 3, 4), bool))
    assert all(np.isnan(v).all() for v in instance_scores(empty, empty).values())
    missed = instance_scores(nothing, one)
    assert (missed["recall_50"], missed["matching_ap_50"], missed["panoptic_quality_50"]) == (
        0,
    ) * 3
    assert np.isnan(missed["precision_50"])
    false = instance_scores([one, nothing], [nothing, nothing])
    assert (false["precision_50"], false["mean_matching_ap_images"]) == (0, 0)
    assert np.isnan(false["recall_50"])
    assert np.isnan(instance_scores(one, one, (0.5,))["matching_ap_75"])


def test_bad_input():
    zeros = np.zeros((3, 4), int)
    masks = Instances(np.zeros((0, 4, 3), bool))
    with pytest.raises(ValueError, match=r"predictions\[0\] has shape \(3, 4\), truths\[0\] has"):
        instance_scores(zeros, zeros.T)
    with pytest.raises(ValueError, match=r"predictions\[0\] lie on \(4, 3\).*truths\[0\]"):
        instance_scores(masks, zeros)
    with pytest.raises(ValueError, match=r"prediction has shape \(3, 4\), truth has \(4, 3\)"):
        instance_counts(zeros, zeros.T)
    with pytest.raises(TypeError, match=r"truths\[1\] has dtype float64"):
        instance_scores([zeros, zeros], [zeros, zeros / 2])
    with pytest.raises(ValueError, match=r"expected \(H, W\): pass a label map, or Instances"):
        instance_scores(zeros[None], zeros[None])
    with pytest.raises(ValueError, match="1 predictions and 2 truths"):
        instance_scores([zeros], [zeros, zeros])
    with pytest.raises(ValueError, match="truths is empty"):
        instance_scores([zeros], [])
    with pytest.raises(TypeError, match="predictions is a int"):
        instance_scores(3, zeros)
    for thresholds in ((), (0.0, 0.5), (1.5,), (np.nan,), [[0.5]]):
        with pytest.raises(ValueError, match="thresholds is"):
            instance_scores(zeros, zeros, thresholds)
    with pytest.raises(ValueError, match=r"counts has shape \(10, 3\).*n_images, 10, 3"):
        instance_scores_from_counts(*instance_counts(zeros, zeros))


def test_crowds_of_the_truth_are_ignored():
    masks = np.zeros((3, 6, 12), bool)
    masks[0, :3, :4] = True
    masks[1, :, 6:] = True  # the crowd
    masks[2, 4:, 6:8] = True  # an object in it
    truth = Instances(masks, crowd=[False, True, False])
    found = np.zeros((3, 6, 12), bool)
    found[0, :3, :4] = True
    found[1, 1:3, 8:10] = True  # somebody of the crowd: neither right nor wrong
    found[2, 4:, 6:8] = True
    found[2, 3, 6:9] = True  # beyond the object, in the crowd
    scores = instance_scores(Instances(found), truth)
    assert scores["matching_ap_50"] == scores["panoptic_quality_50"] == 1
    plain = instance_scores(Instances(found), Instances(masks))
    assert plain["matching_ap_50"] < 1
