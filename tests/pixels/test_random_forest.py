import numpy as np
import pytest
from skimage import data

from segalgos import RandomForestSegmenter
from segalgos.pixels import segmenter as pixel_segmenter


@pytest.fixture(scope="module")
def coins():
    image = data.coins()
    truth = (image > 110).astype(np.int32)
    return image, truth


def test_learns_from_dense_labels(coins):
    image, truth = coins
    segmenter = RandomForestSegmenter(20, scales=(1, 2), max_samples=5000, random_state=0)
    segmenter.fit(image[:150], truth[:150])
    assert segmenter.score(image[150:], truth[150:]) > 0.9
    assert len(segmenter.feature_names_) == len(segmenter.feature_importances_)
    # The label is a threshold of the intensity: the forest must find that out.
    best = segmenter.feature_names_[int(np.argmax(segmenter.feature_importances_))]
    assert best.startswith("gaussian[0]")


def test_learns_from_scribbles_on_several_images(coins):
    image, truth = coins
    scribbles = np.full(truth.shape, -1)
    scribbles[::37] = truth[::37]
    halves = [image[:, :190], image[:, 190:]]
    segmenter = RandomForestSegmenter(20, scales=(1, 2), random_state=0)
    segmenter.fit(halves, [scribbles[:, :190], scribbles[:, 190:]])
    assert segmenter.score(image, truth) > 0.85


def test_tiles_change_nothing(coins, monkeypatch):
    image, truth = coins
    segmenter = RandomForestSegmenter(5, scales=(1, 2), max_samples=1000, random_state=0)
    whole = segmenter.fit(image, truth).predict_proba(image)
    monkeypatch.setattr(pixel_segmenter, "TILE_PIXELS", 40 * 40)
    np.testing.assert_array_equal(segmenter.predict_proba(image), whole)
    np.testing.assert_array_equal(segmenter.predict(image), np.argmax(whole, axis=-1))


def test_sampling_keeps_rare_classes_and_respects_the_limit():
    labels = np.zeros((100, 100), np.int32)
    labels[50, 50] = 2
    image = np.random.default_rng(0).normal(size=(100, 100))
    segmenter = RandomForestSegmenter(3, scales=[1], max_samples=50, random_state=0)
    segmenter.fit(image, labels)
    np.testing.assert_array_equal(segmenter.classes_, [0, 2])
    assert segmenter.predict_proba(image).shape == (100, 100, 2)
    np.testing.assert_array_equal(segmenter.forest_.classes_, [0, 2])
    rng = np.random.RandomState(0)
    drawn = segmenter._draw_pixels([np.zeros((9, 9), int)] * 3, [None] * 3, rng)
    assert sum(map(len, drawn)) == 50
    assert all(((d >= 0) & (d < 81)).all() and len(np.unique(d)) == len(d) for d in drawn)


def test_pixels_of_weight_zero_teach_nothing(coins):
    image, truth = coins
    weight = np.ones(truth.shape)
    weight[:, 200:] = 0
    wrong = truth.copy()
    wrong[:, 200:] = 1 - wrong[:, 200:]
    options = {"scales": (1, 2), "max_samples": 3000, "random_state": 0}
    weighted = RandomForestSegmenter(5, **options).fit(image, wrong, sample_weight=weight)
    assert weighted.score(image, truth) > 0.85
    with pytest.raises(ValueError, match="no labelled pixel has a weight above 0"):
        weighted.fit(image, truth, sample_weight=0 * weight)


def test_segments_a_volume():
    volume = np.zeros((6, 20, 20))
    volume[:, :, 10:] = 1
    labels = np.full(volume.shape, -1)
    labels[2, 3, 3], labels[2, 3, 16] = 4, 9
    segmenter = RandomForestSegmenter(10, scales=[1], channel_axis=None, random_state=0)
    predicted = segmenter.fit(volume, labels).predict(volume)
    assert set(np.unique(predicted)) == {4, 9}
    assert (predicted == np.where(volume > 0.5, 9, 4)).mean() > 0.9


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"n_estimators": 0}, "n_estimators is 0"),
        ({"scales": ()}, "scales is"),
        ({"max_depth": 0}, "max_depth is 0"),
        ({"min_samples_leaf": 0}, "min_samples_leaf is 0"),
        ({"max_samples": 0}, "max_samples is 0"),
        ({"class_weight": "rare"}, "class_weight is 'rare'"),
    ],
)
def test_bad_parameters_are_named(options, match):
    with pytest.raises(ValueError, match=f"RandomForestSegmenter: {match}"):
        RandomForestSegmenter(**options).fit(np.zeros((4, 4)), np.zeros((4, 4), int))
