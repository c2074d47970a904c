"""The aggregated Jaccard index against its published algorithm, step by step."""

from itertools import permutations

import numpy as np
import pytest
from scipy import ndimage

from segalgos.metrics import aji_counts, aji_scores, aji_scores_from_counts
from segalgos.results import Instances


def scene(seed):
    """Blobs, and blobs found: moved, joined, lost, with ignored pixels at times."""
    rng = np.random.default_rng(seed)
    truth, n = ndimage.label(ndimage.gaussian_filter(rng.random((16, 18)), 1.3) > 0.52)
    truth = (2 * rng.permutation(n + 1) + 1)[truth] * (truth > 0)
    found = np.roll(truth, rng.integers(-2, 3, 2), (0, 1))
    found = np.where(rng.random(found.max() + 1)[found] < 0.2, 0, found)
    if rng.random() < 0.5:
        found[found == found.max()] = 1  # joined to another
    if rng.random() < 0.5:
        truth[rng.random(truth.shape) < 0.1] = -1
    return found, truth


def masks_of(labels, valid):
    return [
        labels_ == i for labels_ in [np.where(valid, labels, 0)] for i in np.unique(labels_) if i
    ]


def by_algorithm(masks, true_masks):
    """Algorithm 1 of the paper; true objects that nothing touches add their own pixels."""
    shared = either = 0
    used = set()
    for true in true_masks:
        pairs = [((m & true).sum(), (m | true).sum(), -j) for j, m in enumerate(masks)]
        best = max(pairs, key=lambda p: (p[0] / p[1], p[0], p[2]), default=(0, 0, 0))
        if best[0] == 0:
            either += true.sum()
        else:
            shared, either = shared + best[0], either + best[1]
            used.add(-best[2])
    either += sum(m.sum() for j, m in enumerate(masks) if j not in used)
    return shared, either


def best_pairs(masks, true_masks):
    """All (shared, either) of one-to-one pairings with the largest total IoU."""
    n = max(len(masks), len(true_masks))
    found, best = set(), -1.0
    table = np.zeros((n, n, 2), int)
    for i, m in enumerate(masks):
        for j, true in enumerate(true_masks):
            table[i, j] = (m & true).sum(), (m | true).sum()
    ious = np.divide(table[..., 0], table[..., 1], out=np.zeros((n, n)), where=table[..., 1] > 0)
    sizes, true_sizes = ([m.sum() for m in part] + [0] * (n - len(part))
                         for part in (masks, true_masks))  # fmt: skip
    for columns in permutations(range(n)):
        total = sum(ious[i, j] for i, j in enumerate(columns))
        if total < best - 1e-12:
            continue
        if total > best + 1e-12:
            found, best = set(), total
        pairs = [(i, j) for i, j in enumerate(columns)]
        shared = sum(table[i, j, 0] for i, j in pairs)
        either = sum(
            table[i, j, 1] if table[i, j, 0] else sizes[i] + true_sizes[j] for i, j in pairs
        )
        found.add((int(shared), int(either)))
    return found


@pytest.mark.parametrize("seed", range(60))
def test_equals_the_published_algorithm(seed):
    found, truth = scene(seed)
    valid = truth >= 0
    masks, true_masks = masks_of(found, valid), masks_of(truth, valid)
    counts = aji_counts(found, truth)
    assert tuple(counts[0]) == by_algorithm(masks, true_masks)
    if max(len(masks), len(true_masks)) <= 7:
        assert tuple(counts[1].tolist()) in best_pairs(masks, true_masks)


def test_the_plus_was_compared():
    sizes = [max(len(np.unique(labels)) - 1 for labels in scene(seed)) for seed in range(60)]
    assert sum(size <= 7 for size in sizes) > 20
    assert sum(size > 3 for size in sizes) > 20


@pytest.mark.parametrize("seed", range(20))
def test_masks_give_the_same_as_maps(seed):
    found, truth = scene(seed)
    expected = aji_counts(found, truth)
    np.testing.assert_array_equal(aji_counts(Instances.from_labels(found), truth), expected)
    whole = np.maximum(truth, 0)
    np.testing.assert_array_equal(
        aji_counts(Instances.from_labels(found), Instances.from_labels(whole)),
        aji_counts(found, whole),
    )


def test_by_hand():
    # One prediction covers two nuclei of two pixels each; another is false.
    found, truth = np.array([[1, 1, 1, 1, 0, 4]]), np.array([[1, 1, 2, 2, 0, 0]])
    np.testing.assert_array_equal(aji_counts(found, truth), [[4, 9], [2, 7]])
    perfect = aji_scores(truth, truth)
    assert perfect == dict.fromkeys(perfect, 1.0)


def test_images_and_data_set():
    empty = np.zeros((1, 6), int)
    found, truth = np.array([[1, 1, 0, 0, 0, 0]]), np.array([[1, 1, 1, 1, 0, 0]])
    scores = aji_scores([found, truth, empty], [truth, truth, empty])
    assert scores["aji_images"] == pytest.approx((0.5 + 1) / 2)
    assert scores["aji_dataset"] == pytest.approx(6 / 8)
    assert np.isnan(aji_scores(empty, empty)["aji_images"])
    assert aji_scores(found, empty)["aji_plus_dataset"] == 0


def test_ignored_pixels_touch_nothing():
    rng = np.random.default_rng(0)
    found, truth = scene(1)
    truth[4:9] = -1
    expected = aji_counts(found, truth)
    found[4:9] = rng.integers(0, 9, found[4:9].shape)
    np.testing.assert_array_equal(aji_counts(found, truth), expected)


def test_classes_must_agree():
    masks = np.ones((1, 2, 3), bool)
    one, two = Instances(masks, classes=[1]), Instances(masks, classes=[2])
    assert aji_scores(one, two)["aji_images"] == 0
    assert aji_scores(one, two, class_agnostic=True)["aji_images"] == 1


def test_bad_arguments():
    good = np.zeros((2, 2), int)
    with pytest.raises(ValueError, match="got 2 predictions and 1 truths"):
        aji_scores([good, good], good)
    with pytest.raises(ValueError, match=r"truths\[0\] has shape \(4,\)"):
        aji_scores([good], [np.zeros(4, int)])
    with pytest.raises(TypeError, match="prediction has dtype float64"):
        aji_counts(good / 1.0, good)
    with pytest.raises(ValueError, match=r"counts has shape \(2, 2\)"):
        aji_scores_from_counts(np.zeros((2, 2)))
