import numpy as np
import pytest
from skimage import data, measure
from sklearn.base import clone

from segalgos import RandomForestSegmenter, load, smooth_proba
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


def local_extra(image):
    above = np.concatenate([image[:1], image[:-1]])
    return np.stack([image[..., 0] ** 2, above[..., 0]], axis=-1)


def whole_extra(image):
    return image - image.mean()


local_extra.halo = 1
CHOICES = [
    {},
    {"features": ("gaussian", "position", "median"), "per_channel": True},
    {"spacing": (2, 1)},
    {"extra": local_extra},
    {"extra": whole_extra},
    {"channel_axis": None, "features": ("hessian", "mean", "position")},
]


@pytest.mark.parametrize("choice", CHOICES)
def test_tiles_change_nothing(coins, choice, monkeypatch):
    image, truth = coins
    if "channel_axis" in choice:
        image, truth = image[:60, :80].reshape(6, 10, 80), truth[:60, :80].reshape(6, 10, 80)
    options = {"scales": (1, 2), "max_samples": 1000, "random_state": 0}
    segmenter = RandomForestSegmenter(5, **options, **choice)
    whole = segmenter.fit(image, truth).predict_proba(image)
    n_features = len(segmenter.feature_names_)
    assert n_features == len(segmenter.feature_importances_)
    extra = [name for name in segmenter.feature_names_ if name.startswith("extra")]
    assert len(extra) == {local_extra: 2, whole_extra: 1}.get(choice.get("extra"), 0)
    monkeypatch.setattr(pixel_segmenter, "TILE_PIXELS", 40 * 40)
    np.testing.assert_array_equal(segmenter.predict_proba(image), whole)
    np.testing.assert_array_equal(segmenter.predict(image), np.argmax(whole, axis=-1))
    again = clone(segmenter).fit(image, truth)
    np.testing.assert_array_equal(again.predict_proba(image), whole)


def test_selected_features_are_those_that_matter(tmp_path):
    """The class is the second channel's value; others are noise."""
    rng = np.random.default_rng(0)
    image = rng.random((60, 60, 3)).astype(np.float32)
    truth = (image[..., 1] > 0.5).astype(int)
    scribbles = np.where(rng.random(truth.shape) < 0.3, truth, -1)
    segmenter = RandomForestSegmenter(
        10, scales=(0.3, 2), n_features_to_select=2, random_state=0, channel_axis=-1
    )
    segmenter.fit(image, scribbles)
    assert len(segmenter.feature_names_) == len(segmenter.feature_importances_) == 2
    assert "gaussian[1] 0.3" in segmenter.feature_names_
    labels = segmenter.predict(image)
    assert (labels == truth).mean() > 0.98
    other = rng.random((40, 30, 3)).astype(np.float32)  # not kept: its features are computed
    assert (segmenter.predict(other) == (other[..., 1] > 0.5)).mean() > 0.9
    segmenter.save(tmp_path / "model")
    np.testing.assert_array_equal(load(tmp_path / "model").predict(image), labels)
    again = clone(segmenter).fit(image, np.full(truth.shape, 0)).refit(0, scribbles)
    np.testing.assert_array_equal(again.predict(image), labels)
    everything = clone(segmenter).set_params(n_features_to_select=1000).fit(image, scribbles)
    assert len(everything.feature_names_) > 2


@pytest.mark.parametrize("smoothing", ["random_walker", "graph_cut"])
def test_smoothing_removes_specks(coins, smoothing):
    image, truth = coins
    scribbles = np.full(truth.shape, -1)
    scribbles[::60, ::4] = truth[::60, ::4]
    rough = RandomForestSegmenter(10, scales=[1], random_state=0).fit(image, scribbles)
    smooth = clone(rough).set_params(smoothing=smoothing, smoothness=2).fit(image, scribbles)
    proba = smooth.predict_proba(image)
    expected = smooth_proba(image, rough.predict_proba(image), smoothing, smoothness=2)
    np.testing.assert_array_equal(proba, expected)
    np.testing.assert_array_equal(smooth.predict(image), proba.argmax(axis=-1))

    def count_regions(labels):
        return measure.label(labels, background=-1).max()

    assert count_regions(smooth.predict(image)) < 0.7 * count_regions(rough.predict(image))


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
        ({"smoothing": "median"}, "smoothing is 'median'"),
        ({"smoothness": -1}, "smoothness is -1"),
        ({"n_features_to_select": 0}, "n_features_to_select is 0"),
        ({"cache_mb": -1}, "cache_mb is -1"),
        ({"class_weight": "rare"}, "class_weight is 'rare'"),
    ],
)
def test_bad_parameters_are_named(options, match):
    with pytest.raises(ValueError, match=f"RandomForestSegmenter: {match}"):
        RandomForestSegmenter(**options).fit(np.zeros((4, 4)), np.zeros((4, 4), int))
