"""Gaussian mixture by expectation-maximisation."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal
from skimage import data
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from segalgos.clustering import gaussian_mixture as module
from segalgos.clustering.gaussian_mixture import GaussianMixtureSegmenter, gaussian_mixture
from segalgos.color import rgb_to_lab
from segalgos.conformance import check_segmenter
from segalgos.gaussians import exp_block, fit_gaussians, log_block, log_densities
from segalgos.parallel import thread_limit


def _start(pixels, n_components, covariance, seed=0):
    """Weights, means and covariances to begin with."""
    rng = np.random.default_rng(seed)
    means = np.unique(pixels, axis=0)
    means = means[rng.choice(len(means), n_components, replace=False)].astype(float)
    weights = rng.random(n_components) + 0.5
    variances = np.tile(pixels.var(axis=0) / 4, (n_components, 1))
    if covariance == "diag":
        return weights / weights.sum(), means, variances
    return weights / weights.sum(), means, np.stack([np.diag(v) for v in variances])


def _reference(pixels, start, covariance, **options):
    weights, means, covariances = start
    precisions = 1 / covariances if covariance == "diag" else np.linalg.inv(covariances)
    model = GaussianMixture(
        len(weights),
        covariance_type=covariance,
        weights_init=weights,
        means_init=means,
        precisions_init=precisions,
        init_params="random_from_data",
        **options,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(np.asarray(pixels, np.float64))


@pytest.mark.parametrize("covariance", ["full", "diag"])
@pytest.mark.parametrize("n_components", [1, 2, 6])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_equals_sklearn(covariance, n_components, dtype):
    image = data.astronaut()[100:200:2, 150:280:2]
    pixels = image.reshape(-1, 3).astype(float)
    start = _start(pixels, n_components, covariance)
    reg_covar = 0.01
    reference = _reference(pixels, start, covariance, tol=1e-3, reg_covar=reg_covar, max_iter=60)
    segmenter = GaussianMixtureSegmenter(
        n_components,
        covariance_type=covariance,
        init=start,
        max_iter=60,
        tol=1e-3,
        reg_covar=reg_covar / 255**2,
    ).fit(image.astype(dtype))
    assert segmenter.lower_bound_ == pytest.approx(reference.lower_bound_, rel=1e-9)
    assert segmenter.n_iter_ == reference.n_iter_
    np.testing.assert_allclose(segmenter.weights_, reference.weights_, rtol=1e-6)
    np.testing.assert_allclose(segmenter.means_, reference.means_, rtol=1e-6)
    np.testing.assert_allclose(segmenter.covariances_, reference.covariances_, atol=1e-4)
    labels = reference.predict(pixels)
    labels = np.unique(labels, return_inverse=True)[1]  # without gaps
    np.testing.assert_array_equal(segmenter.predict(image).ravel(), labels)
    proba = segmenter.posteriors(image).reshape(-1, n_components)
    np.testing.assert_allclose(proba, reference.predict_proba(pixels), atol=1e-5)


@pytest.mark.parametrize("n_channels", [1, 2, 5])
@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_any_channels(n_channels, covariance):
    rng = np.random.default_rng(n_channels)
    centers = rng.normal(size=(3, n_channels)) * 4
    image = centers[rng.integers(0, 3, (40, 50))] + rng.normal(size=(40, 50, n_channels))
    image = image.astype(np.float32)
    pixels = image.reshape(-1, n_channels)
    start = _start(pixels, 3, covariance)
    reference = _reference(pixels, start, covariance, tol=0, reg_covar=1e-9, max_iter=8)
    segmenter = GaussianMixtureSegmenter(
        3, covariance_type=covariance, init=start, max_iter=8, tol=0, reg_covar=0, channel_axis=-1
    ).fit(image)
    assert segmenter.lower_bound_ == pytest.approx(reference.lower_bound_, rel=1e-7)
    np.testing.assert_allclose(segmenter.means_, reference.means_, rtol=1e-5, atol=1e-5)


def test_likelihood_from_k_means_is_as_good_as_sklearn():
    image = data.coffee()[::8, ::8]
    pixels = image.reshape(-1, 3).astype(float)
    bounds = [
        GaussianMixtureSegmenter(5, random_state=seed, reg_covar=1e-6 / 255**2)
        .fit(image)
        .lower_bound_
        for seed in range(4)
    ]
    theirs = [GaussianMixture(5, random_state=seed).fit(pixels).lower_bound_ for seed in range(4)]
    assert np.mean(bounds) > np.mean(theirs) - 0.02


def test_likelihood_never_falls():
    image = data.astronaut()[::6, ::6]
    pixels = image.reshape(-1, 3)
    start = _start(pixels, 4, "full", seed=1)
    bounds = [
        GaussianMixtureSegmenter(4, init=start, max_iter=n, tol=0, reg_covar=0)
        .fit(image)
        .lower_bound_
        for n in range(1, 25)
    ]
    assert (np.diff(bounds) > -1e-9).all()
    assert bounds[-1] > bounds[0] + 0.1


def test_weights_are_repetitions():
    rng = np.random.default_rng(2)
    image = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    weight = rng.integers(0, 4, (30, 40))
    start = _start(image.reshape(-1, 3), 3, "full")
    options = {"init": start, "max_iter": 7, "tol": 0}
    segmenter = GaussianMixtureSegmenter(3, **options).fit(image, sample_weight=weight)
    repeated = np.repeat(image.reshape(-1, 3), weight.ravel(), axis=0)[None]
    expected = GaussianMixtureSegmenter(3, **options).fit(repeated)
    np.testing.assert_allclose(segmenter.means_, expected.means_, rtol=1e-9)
    assert segmenter.lower_bound_ == pytest.approx(expected.lower_bound_, rel=1e-9)
    labels = gaussian_mixture(image, 3, sample_weight=weight, **options)
    np.testing.assert_array_equal(labels, segmenter.predict(image))
    with pytest.raises(ValueError, match="gaussian_mixture: sample_weight is 0 everywhere"):
        gaussian_mixture(image, sample_weight=0)
    with pytest.raises(ValueError, match="GaussianMixtureSegmenter: sample_weight is 0 every"):
        GaussianMixtureSegmenter().fit(image, sample_weight=0)


@pytest.mark.parametrize("color_space", ["rgb", "lab"])
def test_outside_the_mask_has_no_influence(color_space):
    image = data.astronaut()[:80, :90].astype(np.float32)
    mask = np.random.default_rng(0).random((80, 90)) > 0.5
    options = {"color_space": color_space, "mask": mask, "random_state": 0}
    labels = gaussian_mixture(image, 4, **options)
    other = np.where(mask[..., None], image, -1e30).astype(np.float32)
    np.testing.assert_array_equal(gaussian_mixture(other, 4, **options), labels)
    assert (labels[~mask] == -1).all()
    np.testing.assert_array_equal(np.unique(labels[mask]), np.arange(4))
    segmenter = GaussianMixtureSegmenter(4, random_state=0).fit(image)
    proba = segmenter.posteriors(image, mask=mask)
    assert (proba[~mask] == 0).all()
    np.testing.assert_allclose(proba[mask].sum(axis=-1), 1, rtol=1e-6)


def test_lab():
    image = data.astronaut()[:80, :90]
    labels = gaussian_mixture(image, 4, color_space="lab", random_state=0)
    lab = rgb_to_lab(image, 255.0)
    expected = gaussian_mixture(lab, 4, data_range=100, random_state=0)
    # The same colours, in another order for k-means++: the same few clusterings.
    start = _start(lab.reshape(-1, 3), 4, "full")
    options = {"init": start, "max_iter": 20}
    np.testing.assert_array_equal(
        gaussian_mixture(image, 4, color_space="lab", **options),
        gaussian_mixture(lab, 4, data_range=100, **options),
    )
    assert labels.max() == expected.max() == 3
    with pytest.raises(ValueError, match="image has 1 channels, color_space='lab' needs 3"):
        gaussian_mixture(image[..., 0], color_space="lab")


@pytest.mark.parametrize("scale", [1 / 255, 257.0])
@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_same_photograph_in_other_units(scale, covariance):
    image = data.coffee()[::6, ::6]
    expected = gaussian_mixture(image, 5, covariance=covariance, random_state=0)
    scaled = (image * scale).astype(np.float32)
    labels = gaussian_mixture(scaled, 5, covariance=covariance, random_state=0)
    assert (labels == expected).mean() > 0.999


def test_same_seed_same_labels():
    image = data.astronaut()[:200]
    with thread_limit(1):
        expected = gaussian_mixture(image, 4, random_state=0)
    for limit in (2, 4):
        with thread_limit(limit):
            np.testing.assert_array_equal(gaussian_mixture(image, 4, random_state=0), expected)
    segmenter = GaussianMixtureSegmenter(4, random_state=0)
    np.testing.assert_array_equal(segmenter.fit_predict(image), expected)


@pytest.mark.parametrize("value", [0, 255, 1e30, -3e38, 1e-40])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (6, 5, 3)])
@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_constant_image_is_one_component(value, shape, covariance):
    labels = gaussian_mixture(np.full(shape, value, np.float32), covariance=covariance)
    np.testing.assert_array_equal(labels, np.zeros(shape[:2]))


def test_fewer_colors_than_components():
    image = np.array([[3, 3, 0, 200], [200, 0, 0, 3]])
    segmenter = GaussianMixtureSegmenter(12, random_state=0).fit(image)
    np.testing.assert_allclose(np.sort(segmenter.means_.ravel()), [0, 3, 200], atol=1e-6)
    labels = segmenter.predict(image)
    assert len(np.unique(np.stack([image, labels]).reshape(2, -1), axis=1).T) == 3


def test_component_without_values_stays_finite():
    image = np.array([[0, 1, 2, 3]])
    start = [0.5, 0.5], [[1.0], [1e6]], [[[1.0]], [[1.0]]]
    segmenter = GaussianMixtureSegmenter(2, init=start, max_iter=5, tol=0).fit(image)
    assert segmenter.weights_[0] == pytest.approx(1)
    assert np.isfinite(segmenter.covariances_).all()
    np.testing.assert_array_equal(segmenter.predict(image), [[0, 0, 0, 0]])


def test_volume():
    volume = np.random.default_rng(0).integers(0, 99, (4, 6, 8), dtype=np.uint8)
    labels = gaussian_mixture(volume, 3, channel_axis=None, random_state=0)
    flat = gaussian_mixture(volume.reshape(4, 48), 3, random_state=0)
    np.testing.assert_array_equal(labels.reshape(4, 48), flat)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_components": 0}, ValueError, "n_components is 0"),
        ({"covariance": "tied"}, ValueError, "covariance is 'tied'"),
        ({"init": "random"}, ValueError, "init is 'random'"),
        ({"init": 3}, TypeError, "init is int, expected"),
        ({"n_components": 1, "init": ([1], [0], [[1]])}, ValueError, "init has means int64"),
        (
            {"n_components": 1, "init": ([1], [[0]], [[1]])},
            ValueError,
            r"init has covariances int64 of shape \(1, 1\), expected finite .* \(1, 1, 1\)",
        ),
        (
            {"n_components": 1, "init": ([0], [[0]], [[[1]]])},
            ValueError,
            "init has weights of 0 or less",
        ),
        (
            {"n_components": 1, "init": ([1], [[0]], [[[-1]]])},
            ValueError,
            "a covariance is not positive definite: pass a larger reg_covar",
        ),
        (
            {"n_components": 1, "init": ([1], [[0, 0]], np.eye(2)[None])},
            ValueError,
            "init has means of 2 channels, the image has 1",
        ),
        ({"reg_covar": -1}, ValueError, "reg_covar is -1"),
        ({"n_components": 1, "reg_covar": 0}, ValueError, "not positive definite"),
        ({"max_iter": 0}, ValueError, "max_iter is 0"),
        ({"tol": -1}, ValueError, "tol is -1"),
        ({"color_space": "hsv"}, ValueError, "color_space is 'hsv'"),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match="gaussian_mixture: .*" + message):
        gaussian_mixture(np.zeros((4, 4)), **options)


def test_state_from_a_file_is_checked():
    segmenter = GaussianMixtureSegmenter(2, random_state=0).fit(np.eye(3))
    good = segmenter._get_state()
    GaussianMixtureSegmenter(2)._set_state(good)
    bad = [
        {"weights_": np.ones(3)},
        {"weights_": np.array([1.0, -1.0])},
        {"weights_": [0.5, 0.5]},
        {"means_": np.zeros((2, 3))},
        {"means_": np.full((2, 1), np.nan)},
        {"covariances_": -np.ones((2, 1, 1))},
        {"covariances_": np.ones((2, 1))},
        {"lower_bound_": np.inf},
        {"n_channels_": 0},
        {"n_iter_": 0},
        {"data_range_": 0.0},
        {"_predict": 1},
    ]
    for change in bad:
        with pytest.raises((ValueError, TypeError)):
            GaussianMixtureSegmenter(2)._set_state(good | change)


def test_conforms():
    check_segmenter(GaussianMixtureSegmenter.small())


# --- Gaussians ---------------------------------------------------------------------------


def test_exp_and_log():
    rng = np.random.default_rng(0)
    values = np.concatenate([[0.0, -1e-300, -700.0], -rng.exponential(100, 5000)])
    values = values[values >= -700]
    found, scratch = values.copy(), np.empty_like(values)
    exp_block(found, scratch)
    np.testing.assert_allclose(found, np.exp(values), rtol=1e-15)
    low = np.array([-701.0, -1e300])
    exp_block(low, np.empty(2))
    assert (low < 1e-303).all()

    values = np.concatenate([[1.0, 1 + 1e-12, 2, 0.5], np.exp(rng.normal(0, 50, 5000))])
    found, scratch = values.copy(), np.empty_like(values)
    log_block(found, scratch)
    np.testing.assert_allclose(found, np.log(values), rtol=2e-15, atol=1e-15)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.data())
def test_gaussians_equal_scipy(data):
    n = data.draw(st.integers(2, 600))
    n_channels = data.draw(st.integers(1, 5))
    diagonal = data.draw(st.booleans())
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    values = (rng.normal(size=(n, n_channels)) * 10 + 100).astype(np.float32)
    weights, labels = rng.random(n), rng.integers(-1, 2, n).astype(np.int32)
    totals, means, covariances = fit_gaussians(values, weights, labels, 3, diagonal)
    assert totals[2] == 0
    for k in range(2):
        inside = labels == k
        if not inside.any():
            assert totals[k] == 0
            continue
        part, weight = values[inside].astype(float), weights[inside]
        assert totals[k] == pytest.approx(weight.sum())
        mean = np.average(part, axis=0, weights=weight)
        np.testing.assert_allclose(means[k], mean, rtol=1e-9)
        expected = (weight * (part - mean).T) @ (part - mean) / weight.sum()
        found = np.diag(covariances[k]) if diagonal else covariances[k]
        if diagonal:
            expected = np.diag(np.diag(expected))
        np.testing.assert_allclose(found, expected, atol=1e-9)
    if diagonal:
        covariances = covariances + 1
        matrices = [np.diag(variances) for variances in covariances]
    else:
        covariances = matrices = covariances + np.eye(n_channels)
    found = log_densities(values, means, covariances, np.array([0.2, 0.3, 0.0]))
    for k, weight in enumerate((0.2, 0.3)):
        expected = multivariate_normal(means[k], matrices[k]).logpdf(values) + np.log(weight)
        np.testing.assert_allclose(found[k], expected, rtol=1e-9, atol=1e-9)
    assert (found[2] == -np.inf).all()


def test_many_strips_add_up(monkeypatch):
    image = data.astronaut()[:60, :60]
    start = _start(image.reshape(-1, 3), 3, "full")
    expected = GaussianMixtureSegmenter(3, init=start, max_iter=5, tol=0).fit(image)
    monkeypatch.setattr(module, "STRIP", 300)
    found = GaussianMixtureSegmenter(3, init=start, max_iter=5, tol=0).fit(image)
    np.testing.assert_allclose(found.covariances_, expected.covariances_, rtol=1e-9)
