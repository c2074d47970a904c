"""Instances by learned borders: what is learned, what is found, parameters, model files."""

import importlib.util

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB

import segalgos
from segalgos import (
    BoundaryInstanceSegmenter,
    Instances,
    PixelClassifierSegmenter,
    RandomForestSegmenter,
    SemanticSegmenter,
    Traits,
)
from segalgos.instances.borders import find_borders
from segalgos.instances.boundary_instances import CANDIDATES
from segalgos.metrics import instance_scores

FIXED = {"foreground_threshold": 0.5, "marker_threshold": 0.5, "min_contrast": 0.1, "sigma": 0.0}


class Oracle(SemanticSegmenter):
    """Knows an image by its mean and gives its true classes, softened by `doubt`."""

    traits = Traits(
        task="semantic",
        family="tests",
        year=2000,
        needs_fit=True,
        needs_labels=True,
    )

    def __init__(self, doubt=0.0, *, channel_axis="auto"):
        self.doubt = doubt
        self.channel_axis = channel_axis

    def _fit(self, images, labels, sample_weight):
        self.known_ = {float(i.mean(dtype=float)): m for i, m in zip(images, labels, strict=True)}

    def _predict_proba(self, image):
        labels = self.known_[float(image.mean(dtype=float))]
        certain = labels[..., None] == np.arange(len(self.classes_))
        return (certain * (1 - self.doubt) + self.doubt / len(self.classes_)).astype(np.float32)


class WeightedOracle(Oracle):
    """As Oracle; keeps the weights that it was given."""

    traits = Traits(
        task="semantic",
        family="tests",
        year=2000,
        needs_fit=True,
        needs_labels=True,
        takes_sample_weight=True,
    )

    def _fit(self, images, labels, sample_weight):
        super()._fit(images, labels, sample_weight)
        self.weights_ = sample_weight


def _scene(seed, *, n_classes=1, shape=(40, 52)):
    """Boxes that may touch, brighter than their ground, by class."""
    rng = np.random.default_rng(seed)
    ids = np.zeros(shape, np.int32)
    corners = [(y, x) for y in range(2, shape[0] - 12, 12) for x in range(2, shape[1] - 12, 12)]
    for i, (y, x) in enumerate(corners, start=1):
        height, width = rng.integers(7, 13, 2)
        ids[y : y + height, x : x + width] = i
    classes = rng.integers(0, n_classes, len(corners)) * 5 + 2
    image = np.append(40, 120 + 10 * classes)[ids] + rng.normal(0, 3, shape)
    image[find_borders(ids, 1)] -= 30
    return image.clip(0, 255).astype(np.uint8), Instances.from_labels(ids, classes=classes)


def _scenes(n, **options):
    return tuple(zip(*(_scene(seed, **options) for seed in range(n)), strict=True))


def _assert_equal(found, truth):
    assert instance_scores(list(found), list(truth), (1.0,))["matching_ap"][0] == 1


@pytest.mark.parametrize("n_classes", [1, 3])
@pytest.mark.parametrize("width", [1, 2])
def test_a_perfect_estimator_gives_back_the_instances(n_classes, width):
    images, truth = _scenes(3, n_classes=n_classes)
    segmenter = BoundaryInstanceSegmenter(Oracle(), border_width=width, **FIXED)
    found = segmenter.fit(images, truth).predict(images)
    _assert_equal(found, truth)
    expected = np.unique(np.concatenate([t.classes for t in truth]))
    assert segmenter.classes_.tolist() == expected.tolist()
    assert segmenter.estimator_.classes_.tolist() == list(range(len(expected) + 2))
    assert all((one.scores == 1).all() for one in found)


def test_scores_are_mean_probabilities_of_the_foreground():
    images, truth = _scenes(1)
    segmenter = BoundaryInstanceSegmenter(Oracle(doubt=0.3), **FIXED).fit(images, truth)
    (found,) = segmenter.predict(images)
    _assert_equal([found], truth)
    np.testing.assert_allclose(found.scores, 0.7 + 2 * 0.1, rtol=1e-6)


@pytest.mark.parametrize("background", [True, False])
def test_one_instance_alone_or_filling_the_image(background):
    image = np.arange(80.0).reshape(8, 10)
    mask = np.ones((1, 8, 10), bool)
    if background:
        mask[:, :2] = False
    truth = Instances(mask, classes=[4])
    segmenter = BoundaryInstanceSegmenter(Oracle()).fit(image, truth)
    found = segmenter.predict(image)
    _assert_equal([found], [truth])
    assert found.classes.tolist() == [4]


def test_nothing_is_learned_from_crowds():
    masks = np.zeros((3, 20, 30), bool)
    masks[0, 4:12, 4:12] = masks[1, 4:12, 12:20] = True
    masks[2, 8:18, 16:28] = True  # the crowd, part of which is the second object
    image = np.random.default_rng(0).random((20, 30))
    truth = Instances(masks, classes=[1, 1, 7], crowd=[False, False, True])
    fitted = BoundaryInstanceSegmenter(Oracle(), **FIXED, min_size=0).fit([image], [truth])
    (learned,) = fitted.estimator_.known_.values()
    np.testing.assert_array_equal(learned == -1, masks[2] & ~masks[1])
    assert fitted.classes_.tolist() == [1]


def test_an_image_without_instances():
    images = [np.zeros((9, 9)), np.ones((9, 9))]
    masks = np.zeros((1, 9, 9), bool)
    masks[:, 2:7, 2:7] = True
    truth = [Instances(np.zeros((0, 9, 9), bool)), Instances(masks)]
    none, one = BoundaryInstanceSegmenter(Oracle()).fit(images, truth).predict(images)
    assert (len(none), none.shape) == (0, (9, 9))
    assert len(one) == 1


def test_mask_leaves_pixels_out():
    images, truth = _scenes(1)
    segmenter = BoundaryInstanceSegmenter(Oracle(), **FIXED).fit(images, truth)
    mask = np.zeros(images[0].shape, bool)
    mask[:, :26] = True
    found = segmenter.predict(images[0], mask=mask)
    covered = truth[0].masks.any(axis=0) & mask
    np.testing.assert_array_equal(found.masks.any(axis=0), covered)


def test_a_forest_parts_touching_instances():
    images, truth = _scenes(5)
    forest = RandomForestSegmenter(20, scales=(1, 2), random_state=0)
    segmenter = BoundaryInstanceSegmenter(forest, random_state=0).fit(images[:4], truth[:4])
    scores = instance_scores([segmenter.predict(images[4])], [truth[4]])
    assert scores["matching_ap_50"] > 0.9
    assert segmenter.tuning_score_ > 0.9


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs torch")
def test_the_default_is_a_unet_and_unet_parameters_are_reached():
    images, truth = _scenes(2)
    net = segalgos.UNetSegmenter.small().set_params(random_state=None)
    segmenter = BoundaryInstanceSegmenter(net, gap_weight=5.0, random_state=1)
    segmenter.set_params(estimator__epochs=2).fit(images, truth)
    assert segmenter.estimator_.history_[-1]["epoch"] == 2
    assert segmenter.estimator_.random_state is not None
    again = clone(segmenter).fit(images, truth)
    for a, b in zip(segmenter.predict(images), again.predict(images), strict=True):
        np.testing.assert_array_equal(a.masks, b.masks)
    default = BoundaryInstanceSegmenter()._new_estimator(np.random.RandomState(0))
    assert isinstance(default, segalgos.UNetSegmenter)


def test_channels_are_taken_as_the_segmenter_has_them():
    images, truth = _scenes(2)
    deep = [np.stack([image] * 6) for image in images]
    segmenter = BoundaryInstanceSegmenter(Oracle(), channel_axis=0, **FIXED).fit(deep, truth)
    _assert_equal(segmenter.predict(deep), truth)


def test_grid_search_reaches_into_the_estimator():
    images, truth = _scenes(4)
    segmenter = BoundaryInstanceSegmenter(RandomForestSegmenter.small(), **FIXED, min_size=0)
    search = GridSearchCV(segmenter, {"estimator__n_estimators": [1, 5]}, cv=2)
    search.fit(list(images), list(truth))
    chosen = search.best_params_["estimator__n_estimators"]
    assert search.best_estimator_.estimator_.n_estimators == chosen
    assert search.best_score_ > 0.5


# --- thresholds --------------------------------------------------------------------------


def test_thresholds_are_chosen_where_they_matter():
    images, truth = _scenes(1)
    # No p(inside) is above 0.47, and p(foreground) is 0.53 in the background.
    doubtful = BoundaryInstanceSegmenter(Oracle(doubt=0.8)).fit(images, truth)
    assert doubtful.marker_threshold_ <= 0.4
    assert doubtful.foreground_threshold_ >= 0.6
    score = instance_scores(doubtful.predict(images), list(truth))["matching_ap_50"]
    assert doubtful.tuning_score_ == score == 1
    sure = BoundaryInstanceSegmenter(Oracle()).fit(images, truth)
    usual = {name: values[0] for name, values in CANDIDATES.items()}
    assert {name: getattr(sure, f"{name}_") for name in CANDIDATES} == usual


def test_given_thresholds_are_kept():
    images, truth = _scenes(1)
    given = {**FIXED, "min_size": 7}
    segmenter = BoundaryInstanceSegmenter(Oracle(), **given).fit(images, truth)
    assert {name: getattr(segmenter, f"{name}_") for name in given} == given
    assert np.isnan(segmenter.tuning_score_)


def test_min_size_follows_the_training_instances():
    images, truth = _scenes(2)
    segmenter = BoundaryInstanceSegmenter(Oracle()).fit(images, truth)
    areas = np.concatenate([t.masks.sum(axis=(1, 2)) for t in truth])
    assert 0 < segmenter.min_size_ <= areas.min()


def test_held_out_images_are_not_learned_from():
    images, truth = _scenes(4)
    segmenter = BoundaryInstanceSegmenter(
        RandomForestSegmenter.small(), validation_fraction=0.25, random_state=0
    )
    segmenter.fit(images, truth)
    assert len(segmenter.estimator_.training_.images) == 3


# --- weights -----------------------------------------------------------------------------


def test_weights_of_gaps_and_of_the_caller_multiply():
    images, truth = _scenes(2)
    segmenter = BoundaryInstanceSegmenter(WeightedOracle(), gap_weight=10.0, gap_sigma=3.0, **FIXED)
    segmenter.fit(images, truth)
    plain = segmenter.estimator_.weights_
    assert min(w.min() for w in plain) >= 1
    assert max(w.max() for w in plain) > 5
    segmenter.fit(images, truth, sample_weight=[2.0, 0.5])
    for a, b, factor in zip(segmenter.estimator_.weights_, plain, (2.0, 0.5), strict=True):
        np.testing.assert_allclose(a, factor * b)
    segmenter.set_params(gap_weight=0.0).fit(images, truth)
    assert segmenter.estimator_.weights_ is None


# --- errors ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "kind", "words"),
    [
        ({"estimator": RandomForestSegmenter}, TypeError, r"pass RandomForestSegmenter\(\)"),
        ({"estimator": LogisticRegression()}, TypeError, "expected a semantic segmenter"),
        ({"estimator": segalgos.SLICSegmenter(5)}, TypeError, "expected a semantic segmenter"),
        ({"estimator": RandomForestSegmenter(0)}, ValueError, "n_estimators"),
        ({"border_width": 0}, ValueError, "border_width is 0"),
        ({"max_gap": -1}, ValueError, "max_gap is -1"),
        ({"gap_sigma": 0}, ValueError, "gap_sigma"),
        ({"foreground_threshold": 1.5}, ValueError, "foreground_threshold"),
        ({"sigma": "wide"}, TypeError, "sigma is 'wide'"),
        ({"min_size": 2.5}, TypeError, "min_size"),
        ({"validation_fraction": 1.0}, ValueError, "validation_fraction"),
    ],
)
def test_bad_parameters(params, kind, words):
    image, truth = _scene(0)
    segmenter = BoundaryInstanceSegmenter(**{"estimator": Oracle(), **params})
    with pytest.raises(kind, match=words):
        segmenter.fit(image, truth)


def test_bad_training_data():
    image, truth = _scene(0)
    nothing = Instances(np.zeros((1, *image.shape), bool))
    with pytest.raises(ValueError, match="no instance in any image"):
        BoundaryInstanceSegmenter(Oracle()).fit(image, nothing)
    with pytest.raises(ValueError, match=r"one image: pass more, or 0"):
        BoundaryInstanceSegmenter(Oracle(), validation_fraction=0.2).fit(image, truth)
    with pytest.raises(TypeError, match=r"Oracle.*takes no sample_weight"):
        BoundaryInstanceSegmenter(Oracle(), gap_weight=1.0).fit(image, truth)


# --- model files -------------------------------------------------------------------------


def test_a_model_file_holds_the_estimator(tmp_path):
    images, truth = _scenes(2, n_classes=2)
    inner = PixelClassifierSegmenter(scales=(1, 2), random_state=0)
    segmenter = BoundaryInstanceSegmenter(inner, random_state=0).fit(images, truth)
    segmenter.save(tmp_path / "model.segalgos")
    twin = segalgos.load(tmp_path / "model.segalgos")
    assert isinstance(twin.estimator, PixelClassifierSegmenter)
    assert twin.estimator.scales == (1, 2)
    for a, b in zip(twin.predict(images), segmenter.predict(images), strict=True):
        np.testing.assert_array_equal(a.masks, b.masks)
        np.testing.assert_array_equal(a.classes, b.classes)


def test_an_estimator_that_is_code_is_refused_by_name(tmp_path):
    images, truth = _scenes(1)
    inner = PixelClassifierSegmenter(GaussianNB(), scales=(1,), random_state=0)
    segmenter = BoundaryInstanceSegmenter(inner, random_state=0).fit(images, truth)
    with pytest.raises(TypeError, match=r"estimator: parameter estimator is a GaussianNB"):
        segmenter.save(tmp_path / "model.segalgos")
    assert not (tmp_path / "model.segalgos").exists()


def test_state_of_another_kind_is_refused():
    images, truth = _scenes(1)
    segmenter = BoundaryInstanceSegmenter(Oracle()).fit(images, truth)
    state = segmenter._get_state()
    for name, value, words in (
        ("estimator_", Oracle(), "no fitted semantic segmenter"),
        ("classes_", np.array([2, 1], np.int32), "sorted"),
        ("n_channels_", 3, "another number of channels"),
        ("sigma_", float("nan"), "sigma_"),
        ("min_size_", -1, "min_size_"),
    ):
        with pytest.raises(ValueError, match=words):
            BoundaryInstanceSegmenter()._set_state({**state, name: value})
