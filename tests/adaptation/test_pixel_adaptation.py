"""Pixel classifiers adapted to another light, and to other shares of what there is."""

import numpy as np
import pytest

import segalgos
from segalgos.adaptation.feature_alignment import align_features
from segalgos.adaptation.importance import importance_weights


def scene(seed, gain=1.0, offset=0.0):
    """Two grounds that differ in brightness."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((40, 48), int)
    labels[10:30, 12:36] = 1
    image = np.where(labels, 150, 90) + rng.normal(0, 12, labels.shape)
    return np.clip(gain * image + offset, 0, 255).astype(np.uint8), labels


@pytest.fixture(scope="module")
def forest():
    return segalgos.RandomForestSegmenter(8, scales=(1, 2), random_state=0).fit(*scene(0))


def test_aligned_features_undo_a_change_of_light(forest, tmp_path):
    dark, labels = scene(1, gain=0.4, offset=5)
    found = segalgos.adapt(forest, scene(2, gain=0.4, offset=5)[0], method="coral", random_state=0)
    assert found.score(dark, labels) > forest.score(dark, labels) + 0.2
    assert found.score(dark, labels) > 0.9
    again = segalgos.adapt(forest, scene(2, gain=0.4, offset=5)[0], method="coral", random_state=0)
    assert np.array_equal(found.predict_proba(dark), again.predict_proba(dark))
    found.save(tmp_path / "forest.segalgos")
    assert np.array_equal(
        segalgos.load(tmp_path / "forest.segalgos").predict(dark), found.predict(dark)
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: segalgos.SVMSegmenter(scales=(1, 2), max_samples=300, random_state=0),
        lambda: segalgos.PixelClassifierSegmenter(scales=(1, 2), max_samples=300, random_state=0),
        lambda: segalgos.RandomForestSegmenter(4, scales=(1, 2), n_features_to_select=3,
                                               random_state=0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["coral", "importance"])
def test_all_pixel_classifiers(make, method):
    image, labels = scene(0)
    fitted = make().fit(image, labels)
    before = fitted.predict_proba(image)
    found = segalgos.adapt(fitted, scene(1, offset=10)[0], method=method, random_state=0)
    assert found.predict(image).shape == image.shape
    assert np.array_equal(fitted.predict_proba(image), before)


def test_weights_are_the_ratio_of_densities():
    """Two normal densities whose ratio is known."""
    rng = np.random.default_rng(0)
    source = rng.normal(0, 1, (4000, 1)).astype(np.float32)
    target = rng.normal(0.7, 1, (8000, 1)).astype(np.float32)
    expected = np.exp(0.7 * source[:, 0] - 0.7**2 / 2)
    assert np.abs(importance_weights(source, target) / expected - 1).mean() < 0.1


def test_importance_helps_where_shares_differ():
    """One threshold cannot suit both textures: the weights choose that of the target."""
    rng = np.random.default_rng(0)

    def image_of(bright):  # where it is bright the classes swap
        base = 200 if bright else 60
        labels = np.zeros((32, 32), int)
        labels[:, 16:] = 1
        sign = -1 if bright else 1
        image = base + sign * np.where(labels, 15, -15) + rng.normal(0, 12, labels.shape)
        return np.clip(image, 0, 255).astype(np.uint8), labels

    (dark, labels), (bright, _) = image_of(False), image_of(True)
    linear = segalgos.PixelClassifierSegmenter(
        scales=(1,), features=["gaussian"], max_samples=4000, random_state=0
    ).fit([dark, dark, dark, bright], [labels] * 4)
    test, truth = image_of(True)
    found = segalgos.adapt(linear, image_of(True)[0], method="importance", random_state=0)
    assert found.score(test, truth) > linear.score(test, truth) + 0.1


def test_aligned_features_have_mean_and_covariance_of_the_target():
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(2, 4, 4))
    source = (rng.normal(size=(5000, 4)) @ mix[0] + 3).astype(np.float32)
    target = (rng.normal(size=(6000, 4)) @ mix[1] - 1).astype(np.float32)
    found = align_features(source, source, target, shrinkage=1e-6)
    assert np.allclose(found.mean(0), target.mean(0), atol=1e-3)
    assert np.allclose(np.cov(found.T), np.cov(target.T), rtol=1e-2, atol=1e-2)
    constant = np.ones((10, 2), np.float32)
    assert np.allclose(align_features(constant, constant, constant + 2), 3, atol=1e-3)


def test_a_loaded_forest_needs_its_source(forest, tmp_path):
    forest.save(tmp_path / "forest.segalgos")
    loaded = segalgos.load(tmp_path / "forest.segalgos")
    image, labels = scene(0)
    with pytest.raises(ValueError, match="a model file holds none"):
        segalgos.adapt(loaded, image, method="coral")
    found = segalgos.adapt(
        loaded, image, method="coral", source_images=image, source_labels=labels, random_state=0
    )
    assert found.score(image, labels) > 0.9


def test_methods_of_nets_are_refused(forest):
    with pytest.raises(ValueError, match="'importance', 'coral' for a RandomForestSegmenter"):
        segalgos.adapt(forest, scene(1)[0], method="batch_norm")
