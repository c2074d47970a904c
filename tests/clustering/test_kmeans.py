"""k-means clustering."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data
from sklearn.cluster import KMeans

from segalgos.clustering import _lloyd
from segalgos.clustering._lloyd import lloyd, nearest_centers, plus_plus
from segalgos.clustering.kmeans import KMeansSegmenter, kmeans
from segalgos.color import rgb_to_lab
from segalgos.parallel import thread_limit


def _reference(values, init, weights=None, **options):
    model = KMeans(len(init), init=init, n_init=1, algorithm="lloyd", **options)
    return model.fit(np.asarray(values, np.float64), sample_weight=weights)


def _assert_same(segmenter, reference, shape):
    np.testing.assert_allclose(segmenter.cluster_centers_, reference.cluster_centers_, rtol=1e-9)
    assert segmenter.inertia_ == pytest.approx(reference.inertia_, rel=1e-9)
    assert segmenter.n_iter_ == reference.n_iter_
    assert len(np.unique(reference.labels_)) == len(reference.cluster_centers_)
    return reference.labels_.reshape(shape)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("n_clusters", [1, 2, 7, 40])
@pytest.mark.parametrize("tol", [0, 1e-4])
def test_equals_sklearn(dtype, n_clusters, tol):
    image = data.astronaut()[100:200, 150:280].astype(dtype)
    pixels = image.reshape(-1, 3)
    rng = np.random.default_rng(0)
    colors = np.unique(pixels, axis=0)
    init = colors[rng.choice(len(colors), n_clusters, replace=False)]
    # Off the integers there are no ties, which sklearn's rounding would decide by chance.
    init = init + rng.random(init.shape)
    segmenter = KMeansSegmenter(n_clusters, init=init, tol=tol, max_iter=30).fit(image)
    reference = _reference(pixels, init, tol=tol, max_iter=30)
    labels = _assert_same(segmenter, reference, image.shape[:2])
    np.testing.assert_array_equal(segmenter.predict(image), labels)


def test_equals_sklearn_on_continuous_values():
    image = np.random.default_rng(1).normal(size=(60, 70, 5)).astype(np.float32)
    pixels = image.reshape(-1, 5)
    segmenter = KMeansSegmenter(6, init=pixels[:6], channel_axis=-1).fit(image)
    labels = _assert_same(segmenter, _reference(pixels, pixels[:6], max_iter=100), (60, 70))
    np.testing.assert_array_equal(segmenter.predict(image), labels)


def test_equals_sklearn_with_weights():
    rng = np.random.default_rng(2)
    image = rng.integers(0, 256, (50, 60, 3), dtype=np.uint8)
    weight = rng.integers(0, 4, (50, 60))
    init = image.reshape(-1, 3)[:5].astype(float)
    segmenter = KMeansSegmenter(5, init=init, tol=0).fit(image, sample_weight=weight)
    repeated = np.repeat(image.reshape(-1, 3), weight.ravel(), axis=0)
    reference = _reference(repeated, init, tol=0, max_iter=100)
    np.testing.assert_allclose(segmenter.cluster_centers_, reference.cluster_centers_, rtol=1e-9)
    assert segmenter.inertia_ == pytest.approx(reference.inertia_)


def _brute_force(values, weights, centers, max_iter):
    """Lloyd's iterations as they are written down, for clusters that stay filled."""
    before = None
    for _ in range(max_iter):
        labels = ((values[:, None] - centers) ** 2).sum(axis=2).argmin(axis=1)
        if (np.bincount(labels, weights, len(centers)) == 0).any():
            return None
        sums = [np.bincount(labels, weights * column) for column in values.T]
        centers = np.stack(sums, axis=1) / np.bincount(labels, weights)[:, None]
        if before is not None and (labels == before).all():
            break
        before = labels
    distances = ((values[:, None] - centers) ** 2).sum(axis=2)
    return centers, distances.argmin(axis=1), weights @ distances.min(axis=1)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.data())
def test_lloyd_equals_brute_force(data):
    n = data.draw(st.sampled_from([1, 2, 5, 40, 300]))
    n_channels = data.draw(st.integers(1, 5))
    n_clusters = data.draw(st.integers(1, 9))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    values = rng.normal(size=(n, n_channels)) * data.draw(st.sampled_from([1e-20, 1, 1e15]))
    if data.draw(st.booleans()):  # on few values, far from 0
        values = np.round(values / np.abs(values).max() * 4) + 1000
    values = values.astype(np.float32)
    weights = rng.integers(0, 3, n).astype(float)
    weights[0] = 1
    centers = values[rng.choice(n, n_clusters)] + np.ptp(values) * 0.01 * rng.random(
        (n_clusters, n_channels)
    )
    max_iter = data.draw(st.integers(1, 20))
    expected = _brute_force(values.astype(float), weights, centers, max_iter)
    found = lloyd(values, weights, centers, max_iter, 0.0)
    assert np.isfinite(found[0]).all()
    np.testing.assert_array_equal(found[1], nearest_centers(values, found[0]))
    if expected is not None and len(expected[0]) == len(found[0]):
        scale = float(np.ptp(values)) or 1
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-9, atol=1e-9 * scale)
        np.testing.assert_array_equal(found[1], expected[1])
        assert found[2] == pytest.approx(expected[2], rel=1e-6, abs=1e-12 * scale**2)


def test_lloyd_in_many_boxes_and_strips(monkeypatch):
    monkeypatch.setattr(_lloyd, "STRIP", 700)
    monkeypatch.setattr(_lloyd, "FILTER_STRIP", 700)
    monkeypatch.setattr(_lloyd, "SORT_STRIP", 1500)
    rng = np.random.default_rng(5)
    values = rng.normal(size=(9000, 3)).astype(np.float32)
    weights = rng.integers(1, 4, 9000).astype(float)
    centers = values[:6].astype(float)
    expected = _brute_force(values.astype(float), weights, centers, 15)
    for limit in (1, 2, 4):
        with thread_limit(limit):
            found = lloyd(values, weights, centers, 15, 0.0)
        if limit == 1:
            first = found
        np.testing.assert_array_equal(found[0], first[0])
        assert found[2] == first[2]
        np.testing.assert_array_equal(found[1], expected[1])
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-9)


def test_empty_cluster_moves_to_the_farthest_value():
    image = np.array([[0, 1, 10, 11, 50]], float)
    init = np.array([[0.0], [10.0], [1000.0]])
    segmenter = KMeansSegmenter(3, init=init).fit(image)
    reference = _reference(image.reshape(-1, 1), init)
    np.testing.assert_allclose(segmenter.cluster_centers_, reference.cluster_centers_)
    np.testing.assert_array_equal(segmenter.cluster_centers_, [[0.5], [10.5], [50]])


def test_empty_clusters_move_to_different_values():
    # In a table that is not grouped the farthest value may be there many times.
    values = np.array([[0], [0], [9], [9], [9], [-7], [-7]], np.float32)
    centers, labels, inertia, _ = lloyd(
        values, np.ones(7), np.array([[0.0], [100], [200]]), 10, 0.0
    )
    assert sorted(centers.ravel()) == [-7, 0, 9]
    np.testing.assert_array_equal(centers[labels], values)
    assert inertia == 0


def test_many_images_are_learned_together():
    images = [data.coffee()[:40, :50], data.chelsea()[:30, :60], data.coffee()[:40, :50]]
    pixels = np.concatenate([image.reshape(-1, 3) for image in images])
    init = pixels[::800][:6].astype(float)
    segmenter = KMeansSegmenter(6, init=init).fit(images)
    _assert_same(segmenter, _reference(pixels, init, max_iter=100), -1)
    labels = segmenter.predict(images)
    np.testing.assert_array_equal(labels[0], labels[2])


def test_plus_plus_follows_the_potential(monkeypatch):
    # Three far groups: with candidates drawn by distance, one centre falls in each.
    monkeypatch.setattr(_lloyd, "STRIP", 64)
    rng = np.random.default_rng(4)
    values = rng.normal(size=(300, 2)) + np.repeat([[0, 0], [500, 0], [0, 500]], 100, axis=0)
    values = values.astype(np.float32)
    for seed in range(20):
        centers = plus_plus(values, np.ones(300), 3, np.random.RandomState(seed))
        assert sorted((centers > 250) @ [1, 2]) == [0, 1, 2]
    # Only what has weight is drawn.
    weights = np.zeros(300)
    weights[[5, 150]] = 1
    centers = plus_plus(values, weights, 2, np.random.RandomState(0))
    assert {tuple(c) for c in centers} == {tuple(map(float, values[i])) for i in (5, 150)}


def test_plus_plus_is_as_good_as_sklearn():
    image = data.coffee()[::4, ::4]
    pixels = image.reshape(-1, 3).astype(float)
    ours = [KMeansSegmenter(12, random_state=s).fit(image).inertia_ for s in range(8)]
    theirs = [KMeans(12, n_init=1, random_state=s).fit(pixels).inertia_ for s in range(8)]
    assert np.mean(ours) < 1.05 * np.mean(theirs)


@pytest.mark.parametrize("init", ["k-means++", np.linspace(0, 9, 12)[:, None]])
def test_no_more_clusters_than_distinct_values(init):
    image = np.array([[3, 3, 0, 9], [9, 0, 0, 3]])
    segmenter = KMeansSegmenter(12, init=init, random_state=0).fit(image)
    np.testing.assert_array_equal(np.sort(segmenter.cluster_centers_.ravel()), [0, 3, 9])
    assert segmenter.inertia_ == 0
    labels = segmenter.predict(image)
    assert len(np.unique(np.stack([image, labels]).reshape(2, -1), axis=1).T) == 3
    assert labels.max() == 2


def test_ids_have_no_gaps():
    segmenter = KMeansSegmenter(4, init=[[0], [10], [20], [30]]).fit([[0, 10, 20, 30]])
    np.testing.assert_array_equal(segmenter.predict([[31, 9, 9]]), [[1, 0, 0]])
    mask = np.array([[True, False, False]])
    np.testing.assert_array_equal(segmenter.predict([[31, 9, 9]], mask=mask), [[0, -1, -1]])


def test_ties_go_to_the_lower_index():
    segmenter = KMeansSegmenter(2, init=[[4], [0]]).fit([[0, 0, 4, 4]])
    np.testing.assert_array_equal(segmenter.predict([[2, 0, 4]]), [[0, 1, 0]])


def test_same_seed_same_labels():
    image = data.astronaut()
    with thread_limit(1):
        expected = kmeans(image, 5, random_state=0)
    for limit in (2, 4):
        with thread_limit(limit):
            np.testing.assert_array_equal(kmeans(image, 5, random_state=0), expected)
    for dtype in (np.float32, np.int64):
        np.testing.assert_array_equal(kmeans(image.astype(dtype), 5, random_state=0), expected)
    assert (kmeans(image, 5, random_state=1) != expected).any()


def test_lab():
    image = data.astronaut()[:80, :90]
    lab = rgb_to_lab(image, 255.0)
    init = lab.reshape(-1, 3)[::1500][:4].astype(float)
    expected = kmeans(lab, 4, init=init)
    np.testing.assert_array_equal(kmeans(image, 4, init=init, color_space="lab"), expected)
    segmenter = KMeansSegmenter(4, init=init, color_space="lab").fit(image)
    assert segmenter.data_range_ == 255
    np.testing.assert_array_equal(segmenter.predict(image), expected)
    # The range is learned: a dark image is not taken for one from 0 to 1.
    dark = segmenter.predict(np.ones((3, 3, 3), np.uint8))
    np.testing.assert_array_equal(dark, 0)
    with pytest.raises(ValueError, match="kmeans: image has 1 channels, color_space='lab' needs 3"):
        kmeans(image[..., 0], color_space="lab")


@pytest.mark.parametrize("color_space", ["rgb", "lab"])
def test_outside_the_mask_has_no_influence(color_space):
    image = data.astronaut()[:80, :90].astype(np.float32)
    mask = np.random.default_rng(0).random((80, 90)) > 0.5
    options = {"color_space": color_space, "mask": mask, "random_state": 0}
    labels = kmeans(image, 5, **options)
    other = np.where(mask[..., None], image, -1e30).astype(np.float32)
    np.testing.assert_array_equal(kmeans(other, 5, **options), labels)
    assert (labels[~mask] == -1).all()
    np.testing.assert_array_equal(np.unique(labels[mask]), np.arange(5))


@pytest.mark.parametrize("value", [0, 255, 1e30, -3e38, 3.4e38, 1e-40])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (6, 5, 3)])
@pytest.mark.parametrize("color_space", ["rgb", "lab"])
def test_constant_image_is_one_cluster(value, shape, color_space):
    image = np.full(shape, value, np.float32)
    if color_space == "lab":
        image = np.broadcast_to(image.reshape(*shape[:2], -1)[..., :1], (*shape[:2], 3))
    labels = kmeans(image, color_space=color_space, random_state=0)
    np.testing.assert_array_equal(labels, np.zeros(shape[:2]))


def test_huge_values():
    image = np.array([[0, 1, 3e38, 2.9e38, -3e38]], np.float32)
    segmenter = KMeansSegmenter(3, random_state=0).fit(image)
    assert np.isfinite(segmenter.inertia_)
    labels = segmenter.predict(image)[0]
    assert labels[0] == labels[1] != labels[2] == labels[3] != labels[4] != labels[0]


def test_volume():
    volume = np.random.default_rng(0).integers(0, 9, (4, 6, 8), dtype=np.uint8)
    labels = kmeans(volume, 3, channel_axis=None, random_state=0)
    flat = kmeans(volume.reshape(4, 48), 3, random_state=0)
    np.testing.assert_array_equal(labels.reshape(4, 48), flat)


def _with_places(image, spatial_weight, white):
    rows, columns = np.indices(image.shape[:2]) * (spatial_weight * white / max(image.shape[:2]))
    return np.dstack([image, rows, columns]).astype(np.float32)


@pytest.mark.parametrize("color_space", ["rgb", "lab"])
def test_spatial_weight(color_space):
    image = data.astronaut()[:60, :90]
    colors, white = (image, 255) if color_space == "rgb" else (rgb_to_lab(image, 255.0), 100)
    features = _with_places(colors, 0.5, white)
    init = features[::20, ::30].reshape(-1, 5).astype(float)
    expected = kmeans(features, len(init), init=init, channel_axis=-1, max_iter=10)
    options = {"init": init, "color_space": color_space, "spatial_weight": 0.5, "max_iter": 10}
    np.testing.assert_array_equal(kmeans(image, len(init), **options), expected)
    segmenter = KMeansSegmenter(len(init), **options).fit(image)
    np.testing.assert_array_equal(segmenter.predict(image), expected)
    assert segmenter.cluster_centers_.shape == (len(init), 5)
    # Places outside the mask have no influence, those inside stay where they are.
    mask = np.zeros(image.shape[:2], bool)
    mask[10:, 20:70] = True
    labels = kmeans(image, len(init), mask=mask, **options)
    cut = KMeansSegmenter(len(init), **options).fit(image, sample_weight=mask)
    np.testing.assert_array_equal(cut.predict(image, mask=mask), labels)
    assert (labels[~mask] == -1).all()
    other = np.where(mask[..., None], image, 77)
    np.testing.assert_array_equal(kmeans(other, len(init), mask=mask, **options), labels)


@pytest.mark.parametrize("scale", [1 / 255, 257])
def test_spatial_weight_has_no_scale(scale):
    image = data.coffee()[::8, ::8]
    expected = kmeans(image, 9, spatial_weight=1, random_state=0)
    scaled = (image * np.float64(scale)).astype(np.float32)
    labels = kmeans(scaled, 9, spatial_weight=1, random_state=0)
    assert (labels == expected).mean() > 0.999


def test_spatial_weight_one_is_white_over_the_longest_side():
    image = np.zeros((1, 5), np.uint8)
    image[0, 0] = 255
    segmenter = KMeansSegmenter(5, spatial_weight=1.0, random_state=0).fit(image)
    rows = segmenter.cluster_centers_[np.argsort(segmenter.cluster_centers_[:, 2])]
    np.testing.assert_allclose(rows, [[255, 0, 0], *([0, 0, 51 * i] for i in range(1, 5))])


def test_spatial_weight_keeps_images_and_volumes_apart():
    image, volume = np.eye(4)[..., None], np.eye(4)[None, ..., None]
    segmenter = KMeansSegmenter(2, spatial_weight=1, channel_axis=-1, random_state=0)
    with pytest.raises(ValueError, match="images and volumes come together"):
        segmenter.fit([image, volume])
    with pytest.raises(ValueError, match="image has 3 axes besides the channels"):
        segmenter.fit(image).predict(volume)


def test_weight_of_pixels():
    image = data.astronaut()[:60, :90]
    weight = np.random.default_rng(0).integers(0, 3, (60, 90))
    labels = kmeans(image, 4, sample_weight=weight, random_state=0)
    # Pixels without weight are labelled by centres that they had no part in.
    other = np.where(weight[..., None] > 0, image, 255 - image)
    changed = kmeans(other, 4, sample_weight=weight, random_state=1)
    assert labels.min() == 0
    segmenter = KMeansSegmenter(4, random_state=0).fit(image, sample_weight=weight)
    again = KMeansSegmenter(4, random_state=0).fit(other, sample_weight=weight)
    np.testing.assert_array_equal(segmenter.cluster_centers_, again.cluster_centers_)
    assert changed.shape == labels.shape
    with pytest.raises(ValueError, match="kmeans: sample_weight is 0 everywhere"):
        kmeans(image, sample_weight=0)


def test_class_equals_function():
    image = data.coffee()[:60, :70]
    segmenter = KMeansSegmenter(6, color_space="lab", random_state=3, max_iter=7, data_range=300)
    expected = kmeans(image, 6, color_space="lab", random_state=3, max_iter=7, data_range=300)
    np.testing.assert_array_equal(segmenter.fit_predict(image), expected)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_clusters": 0}, ValueError, "kmeans: n_clusters is 0"),
        ({"init": "random"}, ValueError, "kmeans: init is 'random'"),
        ({"n_clusters": 2, "init": [[0.0]]}, ValueError, r"kmeans: init is float64 .*\(2, C\)"),
        ({"n_clusters": 1, "init": [[np.nan]]}, ValueError, "kmeans: init holds NaN"),
        ({"n_clusters": 1, "init": [[0, 0]]}, ValueError, "kmeans: init has 2 channels"),
        ({"max_iter": 0}, ValueError, "kmeans: max_iter is 0"),
        ({"tol": -1}, ValueError, "kmeans: tol is -1"),
        ({"color_space": "hsv"}, ValueError, "kmeans: color_space is 'hsv'"),
        ({"spatial_weight": -1}, ValueError, "kmeans: spatial_weight is -1"),
        ({"data_range": 0}, ValueError, "kmeans: data_range is 0"),
        ({"sample_weight": np.ones(3)}, ValueError, "kmeans: sample_weight has shape"),
        ({"random_state": "x"}, ValueError, "cannot be used to seed"),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        kmeans(np.zeros((4, 4)), **options)


def test_weights_of_zero():
    with pytest.raises(ValueError, match="KMeansSegmenter: sample_weight is 0 everywhere"):
        KMeansSegmenter(2).fit(np.eye(3), sample_weight=0)


def test_state_from_a_file_is_checked():
    segmenter = KMeansSegmenter(2, random_state=0).fit(np.eye(3))
    good = segmenter._get_state()
    KMeansSegmenter(2)._set_state(good)
    bad = [
        {"cluster_centers_": np.zeros((3, 1))},
        {"cluster_centers_": np.zeros((2, 3))},
        {"cluster_centers_": np.full((2, 1), np.inf)},
        {"cluster_centers_": np.zeros((2, 1), np.float32)},
        {"cluster_centers_": [[0.0], [1.0]]},
        {"n_channels_": 0},
        {"inertia_": -1.0},
        {"n_iter_": 0},
        {"data_range_": 1.0},
        {"_predict": 1},
    ]
    for change in bad:
        with pytest.raises((ValueError, TypeError)):
            KMeansSegmenter(2)._set_state(good | change)
