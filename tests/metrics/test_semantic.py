import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, jaccard_score

from segalgos.metrics import semantic_counts, semantic_scores, semantic_scores_from_counts


def random_maps(seed, n_classes, n_images=4):
    rng = np.random.default_rng(seed)
    shapes = rng.integers(5, 20, (n_images, 2))
    truths = [rng.integers(-1, n_classes, shape, dtype=np.int32) for shape in shapes]
    predictions = [
        np.where(rng.random(t.shape) < 0.5, t, rng.integers(0, n_classes, t.shape)) for t in truths
    ]
    return predictions, truths


def test_counts_equal_masks():
    (prediction,), (truth,) = random_maps(0, 6, n_images=1)
    prediction[:2] = -1
    counts = semantic_counts(prediction, truth, 6)
    valid = truth != -1
    for k in range(6):
        predicted, true = (prediction == k) & valid, truth == k
        expected = (predicted & true).sum(), (predicted & ~true).sum(), (true & ~predicted).sum()
        assert tuple(counts[:, k]) == expected


@pytest.mark.parametrize("seed", range(20))
def test_equals_sklearn_on_the_pixels_of_all_images(seed):
    predictions, truths = random_maps(seed, 5)
    scores = semantic_scores(predictions, truths, list("abcde"))
    true = np.concatenate([t[t >= 0] for t in truths])
    predicted = np.concatenate([p[t >= 0] for p, t in zip(predictions, truths)])
    iou = jaccard_score(true, predicted, average=None)
    np.testing.assert_allclose(scores["iou_per_class"], iou, rtol=1e-13)
    np.testing.assert_allclose(
        scores["dice_per_class"], f1_score(true, predicted, average=None), rtol=1e-13
    )
    expected = {
        "mean_iou_dataset": iou.mean(),
        "mean_dice_dataset": f1_score(true, predicted, average="macro"),
        "pixel_accuracy": (true == predicted).mean(),
        "mean_class_accuracy": balanced_accuracy_score(true, predicted),
        "frequency_weighted_iou": jaccard_score(true, predicted, average="weighted"),
    }
    for name, value in expected.items():
        assert scores[name] == pytest.approx(value, rel=1e-13), name
    each = [
        jaccard_score(t[t >= 0], p[t >= 0], average="macro") for p, t in zip(predictions, truths)
    ]
    assert scores["mean_iou_images"] == pytest.approx(np.mean(each), rel=1e-13)


def test_averages_over_classes_and_images_by_hand():
    # Image 0: class 0 has IoU 1/2, class 1 (only predicted) 0. Image 1: class 0 has IoU 1.
    predictions = [np.array([[0, 1]]), np.array([[0, 0, 0, 0]])]
    truths = [np.array([[0, 0]]), np.array([[0, 0, 0, 0]])]
    scores = semantic_scores(predictions, truths, 3)
    np.testing.assert_array_equal(scores["iou_per_class"], [5 / 6, 0, np.nan])
    np.testing.assert_array_equal(scores["dice_per_class"], [10 / 11, 0, np.nan])
    assert scores["mean_iou_dataset"] == pytest.approx(5 / 12)
    assert scores["mean_iou_images"] == pytest.approx((1 / 4 + 1) / 2)
    assert scores["mean_dice_dataset"] == pytest.approx(5 / 11)
    assert scores["mean_dice_images"] == pytest.approx((1 / 3 + 1) / 2)
    assert scores["pixel_accuracy"] == pytest.approx(5 / 6)
    assert scores["mean_class_accuracy"] == pytest.approx(5 / 6)
    assert scores["frequency_weighted_iou"] == pytest.approx(5 / 6)


def test_unlabelled_prediction_is_a_miss_and_no_false_alarm():
    counts = semantic_counts(np.array([[-1, 0, 1]]), np.array([[0, 0, 1]]), 2)
    np.testing.assert_array_equal(counts, [[1, 1], [0, 0], [1, 0]])


def test_ignored_pixels_touch_nothing():
    predictions, truths = random_maps(1, 4)
    before = semantic_scores(predictions, truths, 4)
    changed = [np.where(t == -1, (p + 1) % 4, p) for p, t in zip(predictions, truths)]
    after = semantic_scores(changed, truths, 4)
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)


def test_all_ignored_is_nan():
    truth = np.full((3, 4), -1)
    scores = semantic_scores(np.zeros((3, 4), int), truth, 2)
    assert all(np.isnan(value).all() for value in scores.values())
    # One such image among others changes nothing, means over images included.
    good = np.array([[0, 1, 1]])
    alone = semantic_scores(good, good[:, ::-1], 2)
    mixed = semantic_scores([good, truth], [good[:, ::-1], truth], 2)
    assert alone["mean_iou_images"] == mixed["mean_iou_images"]


def test_scores_from_counts_are_the_scores():
    predictions, truths = random_maps(2, 3)
    counts = np.stack([semantic_counts(p, t, 3) for p, t in zip(predictions, truths)])
    chosen = [2, 0, 0]
    resampled = semantic_scores_from_counts(counts[chosen])
    direct = semantic_scores([predictions[i] for i in chosen], [truths[i] for i in chosen], 3)
    assert resampled.keys() == direct.keys()
    for name, value in direct.items():
        np.testing.assert_array_equal(resampled[name], value)


def test_one_map_is_a_list_of_one():
    (prediction,), (truth,) = random_maps(3, 3, n_images=1)
    one, listed = semantic_scores(prediction, truth, 3), semantic_scores([prediction], [truth], 3)
    for name, value in listed.items():
        np.testing.assert_array_equal(one[name], value)


def test_bad_input():
    zeros = np.zeros((3, 4), int)
    with pytest.raises(ValueError, match=r"predictions\[0\] holds the id 2, with 2 classes"):
        semantic_scores(zeros + 2, zeros, 2)
    with pytest.raises(ValueError, match=r"truths\[1\] holds the id 255.*-1"):
        semantic_scores([zeros, zeros], [zeros, zeros + 255], 2)
    with pytest.raises(ValueError, match="2 predictions and 1 truths"):
        semantic_scores([zeros, zeros], [zeros], 2)
    with pytest.raises(ValueError, match="predictions is empty"):
        semantic_scores([], [], 2)
    with pytest.raises(ValueError, match=r"predictions\[1\] has shape \(2, 4\), truths\[1\]"):
        semantic_scores([zeros, zeros[1:]], [zeros, zeros], 2)
    with pytest.raises(TypeError, match=r"truths\[0\] has dtype float64"):
        semantic_scores([zeros], [zeros + 0.5], 2)
    with pytest.raises(ValueError, match=r"predictions\[0\] has shape \(2,\).*np.asarray"):
        semantic_scores([[0, 1], [1, 1]], zeros, 2)
    with pytest.raises(TypeError, match="predictions is a NoneType"):
        semantic_scores(None, zeros, 2)
    with pytest.raises(TypeError, match="classes is 'sky'"):
        semantic_scores(zeros, zeros, "sky")
    with pytest.raises(TypeError, match="classes is a float"):
        semantic_scores(zeros, zeros, 2.0)
    with pytest.raises(ValueError, match="there are 0 classes"):
        semantic_scores(zeros, zeros, [])
    with pytest.raises(ValueError, match=r"counts has shape \(3, 2\)"):
        semantic_scores_from_counts(np.zeros((3, 2), int))
    with pytest.raises(TypeError, match="counts has dtype float64"):
        semantic_scores_from_counts(np.zeros((1, 3, 2)))
