"""The scores of Cityscapes: by hand, and against the official evaluation where it is installed."""

import warnings

import numpy as np
import pytest
from PIL import Image

from segalgos.cityscapes_labels import CATEGORIES, CLASSES, LABELS, to_train_ids
from segalgos.metrics import (
    cityscapes_counts,
    cityscapes_scores,
    cityscapes_scores_from_counts,
)

ROAD, SIDEWALK, PERSON, RIDER, CAR = map(
    CLASSES.index, ("road", "sidewalk", "person", "rider", "car")
)
FLAT, HUMAN, VEHICLE = map(CATEGORIES.index, ("flat", "human", "vehicle"))
# Mean sizes of a person and a car in the training set.
PERSON_SIZE, CAR_SIZE = 3462.4756337644, 12794.0202738185

KEYS = {
    "iou_per_class": "classScores",
    "iiou_per_class": "classInstScores",
    "iou_per_category": "categoryScores",
    "iiou_per_category": "categoryInstScores",
    "mean_iou_classes": "averageScoreClasses",
    "mean_iiou_classes": "averageScoreInstClasses",
    "mean_iou_categories": "averageScoreCategories",
    "mean_iiou_categories": "averageScoreInstCategories",
}


def test_by_hand():
    truth = np.array([[ROAD, ROAD, SIDEWALK, -1], [PERSON, PERSON, PERSON, CAR]])
    found = np.array([[ROAD, SIDEWALK, SIDEWALK, CAR], [PERSON, RIDER, PERSON, PERSON]])
    # A person of two pixels, one of them found; another of one pixel, found; a car, missed.
    instances = np.array([[7, 7, 8, 0], [24000, 24000, 24007, 26000]])
    scores = cityscapes_scores(found, truth, instances)

    expected = np.full(19, np.nan)
    expected[[ROAD, SIDEWALK, PERSON, RIDER, CAR]] = [1 / 2, 1 / 2, 2 / 4, 0, 0]
    np.testing.assert_array_equal(scores["iou_per_class"], expected)
    assert scores["mean_iou_classes"] == pytest.approx(1.5 / 5)

    expected = np.full(7, np.nan)
    expected[[FLAT, HUMAN, VEHICLE]] = [1, 3 / 4, 0]
    np.testing.assert_array_equal(scores["iou_per_category"], expected)
    assert scores["mean_iou_categories"] == pytest.approx(1.75 / 3)

    # Each person weighs PERSON_SIZE; the car that was called a person is one false positive.
    expected = np.full(19, np.nan)
    expected[PERSON] = 1.5 * PERSON_SIZE / (2 * PERSON_SIZE + 1)
    expected[[RIDER, CAR]] = 0
    np.testing.assert_allclose(scores["iiou_per_class"], expected, rtol=1e-14)
    expected = np.full(7, np.nan)
    expected[HUMAN] = 2 * PERSON_SIZE / (2 * PERSON_SIZE + 1)
    expected[VEHICLE] = 0
    np.testing.assert_allclose(scores["iiou_per_category"], expected, rtol=1e-14)
    assert scores["mean_iiou_classes"] == pytest.approx(np.nanmean(scores["iiou_per_class"]))
    assert scores["mean_iiou_categories"] == pytest.approx(np.nanmean(scores["iiou_per_category"]))


def test_without_instances_their_scores_are_nan():
    truth = np.array([[CAR, PERSON]])
    scores = cityscapes_scores(truth, truth)
    assert scores["mean_iou_classes"] == 1
    for name in ("iiou_per_class", "iiou_per_category", "mean_iiou_classes"):
        assert np.isnan(scores[name]).all()


def test_groups_and_ignored_objects_are_no_instances():
    truth = np.array([[CAR, CAR, -1, CAR]])
    # A group of cars, a car, a caravan, and a label alone.
    instances = np.array([[26, 26001, 29004, 26]])
    scores = cityscapes_scores(np.array([[PERSON, CAR, CAR, PERSON]]), truth, instances)
    assert scores["iou_per_class"][CAR] == 1 / 3
    assert scores["iiou_per_class"][CAR] == 1  # the caravan's pixel is no false positive


def test_only_the_iiou_of_a_category_sees_caravans():
    truth, found = np.array([[26, 26, 7]]), np.array([[26, 29, 29]])  # car, car, road
    scores = cityscapes_scores(found, truth, np.array([[26000, 26000, 7]]), ids="label")
    assert scores["iou_per_category"][VEHICLE] == 1 / 2
    assert scores["iiou_per_class"][CAR] == 1 / 2
    assert scores["iiou_per_category"][VEHICLE] == CAR_SIZE / (CAR_SIZE + 1)


def make_scene(rng):
    """Predicted and true label ids and instance ids of a made-up scene; some with few classes."""
    height, width = rng.integers(1, 40, 2)
    allowed = rng.choice(34, rng.integers(1, 35), replace=False)
    truth = rng.choice(allowed, (height, width))
    for _ in range(rng.integers(0, 6)):  # larger regions, so that objects have many pixels
        top, left = rng.integers(0, height), rng.integers(0, width)
        truth[top : top + rng.integers(1, 20), left : left + rng.integers(1, 20)] = rng.choice(
            allowed
        )
    instances = truth.copy()
    things = np.isin(truth, [i for i, label in enumerate(LABELS) if label.has_instances])
    numbered = things & (rng.random(truth.shape) < 0.9)  # the rest are groups
    n_objects = rng.choice([1, 3, 1000])  # of many numbers, most objects have one pixel
    numbers = rng.integers(0, n_objects, truth.shape)
    instances[numbered] = truth[numbered] * 1000 + numbers[numbered]
    wrong = rng.random(truth.shape) < rng.choice([0.0, 0.1, 0.5, 1.0])
    found = np.where(wrong, rng.integers(0, 34, truth.shape), truth)
    return found, truth, instances


@pytest.fixture(scope="module")
def official():
    """``official(folder, found, truth, instances)``: what the official evaluation says."""
    module = pytest.importorskip(
        "cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling",
        reason="compares with the package cityscapesscripts",
    )
    patch = pytest.MonkeyPatch()
    patch.setattr(np, "in1d", np.isin, raising=False)  # gone from newer numpy, still called
    patch.setattr(module.args, "quiet", True)
    patch.setattr(module.args, "JSONOutput", False)

    def evaluate(folder, *scenes):
        files = []
        for i, (found, truth, instances) in enumerate(scenes):
            predicted = folder / f"{i}_pred.png"
            Image.fromarray(np.uint8(found)).save(predicted)
            true = folder / f"{i}_labelIds.png"
            Image.fromarray(np.uint8(truth)).save(true)
            Image.fromarray(np.uint16(instances)).save(folder / f"{i}_instanceIds.png")
            files.append((str(predicted), str(true)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return module.evaluateImgLists(*zip(*files), module.args)

    yield evaluate
    patch.undo()


def assert_equal_scores(scores, reference):
    for name, key in KEYS.items():
        expected = reference[key]
        if isinstance(expected, dict):
            names = CLASSES if name.endswith("class") else CATEGORIES
            expected = [expected[n] for n in names]
        np.testing.assert_allclose(scores[name], expected, rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("seed", range(10))
def test_equals_the_official_evaluation(official, tmp_path, seed):
    scenes = [make_scene(np.random.default_rng([seed, i])) for i in range(20)]
    for i, scene in enumerate(scenes):
        (tmp_path / str(i)).mkdir()
        reference = official(tmp_path / str(i), scene)
        assert_equal_scores(cityscapes_scores(*scene, ids="label"), reference)
    # All of them together, and the same with train ids, which cannot tell ignored labels apart.
    assert_equal_scores(cityscapes_scores(*zip(*scenes), ids="label"), official(tmp_path, *scenes))
    plain = [(np.where(to_train_ids(f) < 0, 0, f), t, i) for f, t, i in scenes]
    trained = [(to_train_ids(f), to_train_ids(t), i) for f, t, i in scenes]
    assert_equal_scores(cityscapes_scores(*zip(*trained)), official(tmp_path, *plain))


def test_scenes_are_hard():
    """Those of the comparison have absent classes, tiny objects and undefined scores."""
    scenes = [make_scene(np.random.default_rng([seed, i])) for seed in range(10) for i in range(20)]
    scores = [cityscapes_scores(*scene, ids="label") for scene in scenes]
    undefined = np.array([np.isnan(s["iou_per_class"]).sum() for s in scores])
    assert (undefined > 5).sum() > 20
    assert sum(np.isnan(s["mean_iou_classes"]) for s in scores) > 0
    assert sum(np.isnan(s["mean_iiou_categories"]) for s in scores) > 0
    sizes = np.concatenate([np.unique(i[i > 1000], return_counts=True)[1] for _, _, i in scenes])
    assert (sizes == 1).sum() > 100
    assert sizes.max() > 100


def test_scores_from_counts_are_the_scores():
    rng = np.random.default_rng(0)
    scenes = [make_scene(rng) for _ in range(4)]
    scenes = [(to_train_ids(f), to_train_ids(t), i) for f, t, i in scenes]
    counts = [cityscapes_counts(*scene) for scene in scenes]
    assert all(c.pixels.sum() == t.size for c, (_, t, _) in zip(counts, scenes))
    direct = cityscapes_scores(*zip(*scenes))
    for name, value in cityscapes_scores_from_counts(counts).items():
        np.testing.assert_array_equal(value, direct[name])
    # One image without instances leaves none of these scores.
    counts[1] = cityscapes_counts(*scenes[1][:2])
    partly = cityscapes_scores_from_counts(counts)
    assert np.isnan(partly["mean_iiou_classes"])
    assert partly["mean_iou_classes"] == direct["mean_iou_classes"]


def test_order_memory_layout_and_dtype_do_not_matter():
    found, truth, instances = make_scene(np.random.default_rng(3))
    expected = cityscapes_scores(found, truth, instances, ids="label")
    others = [
        (np.asfortranarray(found), truth[:], instances.astype(np.uint16)),
        (np.uint8(found), np.uint64(truth), np.int64(instances)),
        (found[::-1], truth[::-1], instances[::-1]),
    ]
    for maps in others:
        for name, value in cityscapes_scores(*maps, ids="label").items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-13)


def test_nothing_to_score_is_nan():
    scores = cityscapes_scores(np.zeros((2, 3), int), np.full((2, 3), -1), np.zeros((2, 3), int))
    assert all(np.isnan(value).all() for value in scores.values())


def test_bad_input():
    zeros = np.zeros((2, 3), int)
    with pytest.raises(
        ValueError, match=r"labels\[0\] holds the id 33, .* train ids .*ids=\"label"
    ):
        cityscapes_scores(zeros, zeros + 33)
    with pytest.raises(ValueError, match=r"predictions\[0\] holds the id 255, expected label ids"):
        cityscapes_scores(zeros + 255, zeros, ids="label")
    with pytest.raises(ValueError, match="ids is 'colour'"):
        cityscapes_scores(zeros, zeros, ids="colour")
    with pytest.raises(ValueError, match="1 predictions, 2 label maps and 2 instance maps"):
        cityscapes_scores(zeros, [zeros, zeros])
    with pytest.raises(ValueError, match=r"prediction has shape \(2, 3\), labels has \(1, 3\)"):
        cityscapes_counts(zeros, zeros[1:])
    with pytest.raises(ValueError, match=r"instances has \(1, 3\)"):
        cityscapes_counts(zeros, zeros, zeros[1:])
    with pytest.raises(ValueError, match="instances holds the id 34000, expected 1000 times"):
        cityscapes_counts(zeros, zeros, zeros + 34_000)
    with pytest.raises(ValueError, match="instances holds an instance of road"):
        cityscapes_counts(zeros, zeros, zeros + 7001)
    with pytest.raises(TypeError, match=r"predictions\[0\] has dtype float64"):
        cityscapes_scores(zeros / 2, zeros)
    with pytest.raises(TypeError, match="predictions is a generator"):
        cityscapes_scores((m for m in [zeros]), [zeros])
    with pytest.raises(ValueError, match="predictions is empty"):
        cityscapes_scores([], [])
    with pytest.raises(ValueError, match="counts is empty"):
        cityscapes_scores_from_counts([])
