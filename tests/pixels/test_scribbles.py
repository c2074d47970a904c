"""Scribbles: learning again after one more, and where to draw the next."""

import copy
import pickle

import numpy as np
import pytest
from skimage import data
from sklearn.exceptions import NotFittedError

import segalgos
from segalgos import RandomForestSegmenter
from segalgos.pixels.features import PixelFeatures


@pytest.fixture(scope="module")
def coins():
    image = data.coins()[:160, :200]
    return image, (image > 110).astype(np.int32)


@pytest.fixture
def computed(monkeypatch):
    """Counts how often features are computed."""
    calls = []
    compute = PixelFeatures.compute

    def counted(self, image, *args):
        calls.append(image.shape)
        return compute(self, image, *args)

    monkeypatch.setattr(PixelFeatures, "compute", counted)
    return calls


def scribble(truth, rows):
    labels = np.full(truth.shape, -1)
    labels[rows, ::3] = truth[rows, ::3]
    return labels


OPTIONS = {"scales": (1, 2), "random_state": 0}


def test_refit_is_a_fit_with_the_new_labels_without_new_features(coins, computed):
    image, truth = coins
    halves = [image[:80], image[80:]]
    old = [scribble(truth[:80], [5, 60]), scribble(truth[80:], [30])]
    new = scribble(truth[80:], [30, 50])
    segmenter = RandomForestSegmenter(10, **OPTIONS).fit(halves, old)
    before = segmenter.predict_proba(image)
    computed.clear()
    segmenter.refit(1, new)
    answer = segmenter.predict_proba(halves[1])
    assert not computed
    fresh = RandomForestSegmenter(10, **OPTIONS).fit(halves, [old[0], new])
    np.testing.assert_array_equal(answer, fresh.predict_proba(halves[1]))
    np.testing.assert_array_equal(segmenter.predict_proba(image), fresh.predict_proba(image))
    assert not np.array_equal(before, segmenter.predict_proba(image))


def test_a_changed_image_is_not_taken_for_the_kept_one(coins, computed):
    image, truth = coins[0].copy(), coins[1]
    segmenter = RandomForestSegmenter(5, **OPTIONS).fit(image, scribble(truth, [5, 60, 90]))
    computed.clear()
    segmenter.predict(image)
    assert not computed
    image[40:60] = 0
    changed = segmenter.predict(image)
    assert computed
    np.testing.assert_array_equal(changed, segmenter.predict(image.copy()))
    segmenter.set_params(scales=(2, 1))
    computed.clear()
    segmenter.predict_proba(coins[0])
    assert computed  # features of other scales are others


def test_without_room_features_are_computed_where_labels_are(coins, computed, monkeypatch):
    image, truth = coins
    labels = scribble(truth, [5, 20])
    kept = RandomForestSegmenter(5, **OPTIONS).fit(image, labels)
    monkeypatch.setattr(segalgos.pixels.segmenter, "TILE_PIXELS", 40 * 40)
    computed.clear()
    segmenter = RandomForestSegmenter(5, cache_mb=0, **OPTIONS).fit(image, labels)
    assert len(computed) == 5  # of 4 x 5 tiles
    np.testing.assert_array_equal(segmenter.predict_proba(image), kept.predict_proba(image))


def test_a_new_class_may_come_with_a_scribble(coins):
    image, truth = coins
    segmenter = RandomForestSegmenter(5, **OPTIONS).fit(image, scribble(truth, [5, 90]))
    labels = scribble(truth, [5, 90])
    labels[70, ::3] = 7
    segmenter.refit(0, labels)
    np.testing.assert_array_equal(segmenter.classes_, [0, 1, 7])


def test_a_refit_that_fails_changes_nothing(coins):
    image, truth = coins
    segmenter = RandomForestSegmenter(5, **OPTIONS)
    with pytest.raises(NotFittedError, match="refit: it has no images"):
        segmenter.refit(0, truth)
    segmenter.fit(image, scribble(truth, [5]))
    before = segmenter.predict_proba(image)
    for index, labels, match in [
        (1, truth, "image_index is 1"),
        (0, truth[:9], "shape"),
        (0, np.full(truth.shape, -1), "no labelled pixel"),
    ]:
        with pytest.raises(ValueError, match=match):
            segmenter.refit(index, labels)
        np.testing.assert_array_equal(segmenter.predict_proba(image), before)


def test_models_that_travel_leave_their_images_behind(coins, tmp_path):
    image, truth = coins
    labels = scribble(truth, [5])
    segmenter = RandomForestSegmenter(5, **OPTIONS).fit(image, labels)
    size = len(pickle.dumps(segmenter))
    assert size < 200_000 < segmenter.training_.cache.n_bytes
    segmenter.save(tmp_path / "model.segalgos")
    assert (tmp_path / "model.segalgos").stat().st_size < 200_000
    for twin in (copy.deepcopy(segmenter), segalgos.load(tmp_path / "model.segalgos")):
        np.testing.assert_array_equal(twin.predict(image), segmenter.predict(image))
        with pytest.raises(NotFittedError, match="call fit first"):
            twin.refit(0, labels)


def test_uncertainty_is_the_entropy(coins):
    image, truth = coins
    segmenter = RandomForestSegmenter(10, **OPTIONS).fit(image, scribble(truth, [5, 90]))
    proba = segmenter.predict_proba(image).astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = -np.nansum(proba * np.log2(proba), axis=-1)
    mask = np.zeros(image.shape, bool)
    mask[:50] = True
    found = segmenter.uncertainty([image, image], mask=[mask, np.ones_like(mask)])
    np.testing.assert_allclose(found[1], expected, atol=1e-5)
    assert found[1].dtype == np.float32
    assert not found[0][50:].any()
    one = RandomForestSegmenter(3, **OPTIONS).fit(image, np.zeros(image.shape, int))
    assert not one.uncertainty(image).any()


def test_scribbles_are_suggested_where_classes_are_alike():
    rng = np.random.default_rng(0)
    image = np.zeros((90, 120), np.float32)
    image[:, 60:] = 1
    image[20:40, 20:40] = 0.5  # neither dark nor bright
    image += rng.normal(scale=0.02, size=image.shape).astype(np.float32)
    labels = np.full(image.shape, -1)
    labels[70:80, 5:50], labels[70:80, 70:110] = 0, 1
    segmenter = RandomForestSegmenter(30, **OPTIONS).fit(image, labels)
    row, column = segmenter.suggest_scribbles(image)[0]
    assert 15 <= row <= 45
    assert 15 <= column <= 45
    mask = np.zeros(image.shape, bool)
    mask[:, 50:] = True
    points = segmenter.suggest_scribbles(image, n_points=4, mask=mask)
    assert mask[tuple(points.T)].all()
    assert len(np.unique(points, axis=0)) == len(points) > 1
    with pytest.raises(ValueError, match="expected one image"):
        segmenter.suggest_scribbles([image])
