"""Mean shift, its fusion and its filter."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage import data, measure

from segalgos.clustering._fusion import fuse
from segalgos.clustering._joint_domain import COLOR, STRIP, TOLERANCE, WEIGHT, Z, find_modes
from segalgos.clustering.mean_shift import (
    MeanShiftSegmenter,
    _make_points,
    mean_shift,
    mean_shift_filter,
)
from segalgos.color import rgb_to_lab
from segalgos.conformance import check_segmenter
from segalgos.datasets import bsds500
from segalgos.metrics import region_scores
from segalgos.parallel import thread_limit


def _weights(points, center, spatial_bandwidth, range_bandwidth, gaussian):
    """Kernel times number of each point, and how near any is to the kernel's edge."""
    offsets = points[Z:] - center[Z:, None]
    space = (offsets[: COLOR - Z] ** 2).sum(axis=0) / spatial_bandwidth**2
    color = (offsets[COLOR - Z :] ** 2).sum(axis=0) / range_bandwidth**2
    if gaussian:
        squared, edge = space + color, 9
        profile = np.exp(-squared / 2)
    else:
        squared, edge = np.maximum(space, color), 1
        profile = np.ones(len(squared))
    return points[WEIGHT] * profile * (squared <= edge), np.abs(squared - edge).min()


def _brute_force_mode(points, center, max_iter, bandwidths, gaussian):
    """Mode of a trajectory in float64, and how near it came to where rounding decides."""
    center, margin = center.copy(), np.inf
    for _ in range(max_iter):
        weights, distance = _weights(points, center, *bandwidths, gaussian)
        margin = min(margin, distance)
        if weights.sum() == 0:
            break
        step = (weights * (points - center[:, None])).sum(axis=1) / weights.sum()
        step[WEIGHT] = 0
        center += step
        size = (step[Z:COLOR] ** 2).sum() / bandwidths[0] ** 2
        size += (step[COLOR:] ** 2).sum() / bandwidths[1] ** 2
        margin = min(margin, abs(size / TOLERANCE**2 - 1))
        if size < TOLERANCE**2:
            break
    return center, margin


@st.composite
def _scenes(draw):
    shape = draw(st.sampled_from([(1, 6, 7), (1, 1, 20), (1, 13, 3), (3, 4, 4), (1, 9, 8)]))
    n_channels = draw(st.sampled_from([1, 3, 4]))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    features = 50 * rng.random((*shape, n_channels)).astype(np.float32)
    mask = rng.random(shape) < draw(st.sampled_from([0.5, 0.9, 1.0]))
    mask.flat[rng.integers(mask.size)] = True
    # No multiple of a pixel, where distances would tie with the bandwidth.
    bandwidths = draw(st.floats(0.6, 6)) + 0.0137, draw(st.floats(3, 30))
    return features, mask, bandwidths, draw(st.sampled_from(["flat", "gaussian"]))


@settings(max_examples=150, derandomize=True, deadline=None)
@given(_scenes(), st.sampled_from(["exact", "grid"]))
def test_modes_equal_brute_force(scene, algorithm):
    features, mask, bandwidths, kernel = scene
    points, starts, point_of, window, _ = _make_points(
        features, mask, *bandwidths, kernel, algorithm
    )
    modes, origins = find_modes(points, starts, window, 30, 0.0)
    np.testing.assert_array_equal(origins, np.arange(len(modes)))
    if algorithm == "exact":
        assert len(modes) == mask.sum()
        positions = np.moveaxis(points[Z:COLOR], 0, -1)[point_of[mask]]
        np.testing.assert_array_equal(positions, np.argwhere(mask))
        colors = points[COLOR : COLOR + features.shape[-1]].T[point_of[mask]]
        np.testing.assert_array_equal(colors, features[mask])
    points = points.astype(float)
    n_compared = 0
    for p, mode in enumerate(modes):
        expected, margin = _brute_force_mode(
            points, points[:, p], 30, bandwidths, kernel == "gaussian"
        )
        if margin > 1e-4:
            np.testing.assert_allclose(mode[Z:], expected[Z:], rtol=1e-3, atol=2e-3)
            n_compared += 1
    assert n_compared >= 0.5 * len(modes)


def test_window_takes_in_its_border():
    features, mask = np.zeros((1, 1, 5, 1), np.float32), np.ones((1, 1, 5), bool)
    features[0, 0, 3:, 0] = 4, 8
    points, starts, _, window, _ = _make_points(features, mask, 2, 4, "flat", "exact")
    modes, _ = find_modes(points, starts, window, 1, 0.0)
    np.testing.assert_allclose(modes[:, COLOR - 1], [1, 1.5, 1.5, 2.5, 3.5])
    np.testing.assert_allclose(modes[:, COLOR], [0, 1, 1, 3, 6])


@settings(max_examples=60, derandomize=True, deadline=None)
@given(_scenes())
def test_points_are_means_of_like_pixels_of_a_cell(scene):
    features, mask, bandwidths, kernel = scene
    points, starts, point_of, window, catch = _make_points(
        features, mask, *bandwidths, kernel, "grid"
    )
    np.testing.assert_array_equal(point_of >= 0, mask)
    assert starts[0, 0, 0] == 0
    assert starts[-1, -1, -1] == points.shape[1]
    for p in range(points.shape[1]):
        own = point_of == p
        assert points[WEIGHT, p] == own.sum() > 0
        where, colors = np.argwhere(own), features[own]
        assert len(np.unique(where // window.cell, axis=0)) == 1
        assert np.linalg.norm(colors - colors[0], axis=1).max() <= bandwidths[1] / 2 + 1e-4
        np.testing.assert_allclose(points[Z:COLOR, p], where.mean(axis=0), rtol=1e-5)
        own_colors = points[COLOR : COLOR + colors.shape[1], p]
        np.testing.assert_allclose(own_colors, colors.mean(axis=0), rtol=1e-5)
        slab, row, column = where[0] // window.cell
        assert starts[slab, row, column] <= p < starts[slab, row, column + 1]
    # Who is caught ends where another trajectory ended by itself.
    alone, _ = find_modes(points, starts, window, 30, 0.0)
    modes, origins = find_modes(points, starts, window, 30, catch)
    np.testing.assert_array_equal(modes, alone[origins])
    np.testing.assert_array_equal(origins[origins], origins)


def _brute_force_fuse(points, colors, one_mode, near, min_size):
    pixels = [tuple(p) for p in np.argwhere(points >= 0)]
    modes = {p: colors[points[p]].astype(float) for p in pixels}
    pairs = [
        (p, q) for p in pixels for q in pixels if np.abs(np.subtract(p, q)).sum() == 1 and p < q
    ]

    def join(regions, linked):
        for p, q in linked:
            low, high = sorted((regions[p], regions[q]))
            regions = {k: low if r == high else r for k, r in regions.items()}
        return regions

    def means(regions):
        return {
            r: np.mean([modes[p] for p in pixels if regions[p] == r], axis=0)
            for r in set(regions.values())
        }

    def distance(a, b, of):
        return np.linalg.norm(of[a] - of[b])

    regions = {p: i for i, p in enumerate(pixels)}
    regions = join(regions, [(p, q) for p, q in pairs if distance(p, q, modes) <= one_mode])
    mean, before = means(regions), regions
    regions = join(
        regions, [(p, q) for p, q in pairs if distance(before[p], before[q], mean) <= near]
    )
    isolated = set()
    while True:
        size = {r: list(regions.values()).count(r) for r in set(regions.values())}
        small = [r for r in size if size[r] < min_size and r not in isolated]
        if not small:
            break
        a = min(small, key=lambda r: (size[r], r))
        touching = {regions[q] for p, q in pairs if regions[p] == a}
        touching |= {regions[p] for p, q in pairs if regions[q] == a}
        touching.discard(a)
        if not touching:
            isolated.add(a)
            continue
        mean = means(regions)
        b = min(touching, key=lambda r: (round(distance(a, r, mean), 5), r))
        regions = {k: b if r == a else r for k, r in regions.items()}
    labels, number = np.full(points.shape, -1), {}
    for p in pixels:
        labels[p] = number.setdefault(regions[p], len(number))
    return labels


@settings(max_examples=120, derandomize=True, deadline=None)
@given(
    st.sampled_from([(1, 5, 6), (1, 1, 12), (2, 3, 4)]),
    st.sampled_from([0, 2, 5]),
    st.sampled_from([0.5, 4.0, 9.0]),
    st.integers(0, 10**6),
)
def test_fusion_equals_brute_force(shape, min_size, near, seed):
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 8, shape).astype(np.int32)
    points[rng.random(shape) < 0.15] = -1
    points.flat[0] = 0
    # Uneven colours: no two distances tie, and none is a limit.
    colors = (10 * rng.random((8, 2))).astype(np.float32)
    colors[1] = colors[0] + 0.05
    labels = fuse(points, colors, 0.3, near, min_size)
    expected = _brute_force_fuse(points, colors, 0.3, near, min_size)
    np.testing.assert_array_equal(labels, expected)
    _assert_connected(labels, points >= 0)
    sizes = np.bincount(labels[labels >= 0])
    islands = measure.label(points >= 0, connectivity=1)
    for k in np.flatnonzero(sizes < min_size):
        island = islands == islands[labels == k][0]
        np.testing.assert_array_equal(island, labels == k)


def _assert_connected(labels, mask=None):
    """Every id is one piece over the sides of pixels, without gaps, -1 outside."""
    n = labels.max() + 1
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(np.unique(labels[labels >= 0]), np.arange(n))
    assert measure.label(labels, connectivity=1, background=-1).max() == n
    np.testing.assert_array_equal(labels >= 0, True if mask is None else mask)


def test_finds_flat_patches_in_noise():
    rng = np.random.default_rng(3)
    truth = np.kron([[0, 1], [2, 3]], np.ones((40, 50), int))
    colors = np.array([[60, 60, 60], [160, 60, 60], [60, 160, 60], [200, 200, 90]])
    image = np.clip(colors[truth] + rng.normal(0, 6, (*truth.shape, 3)), 0, 255).astype(np.uint8)
    for kernel, scale in (("flat", 1.0), ("gaussian", 0.5)):
        for algorithm in ("grid", "exact"):
            labels = mean_shift(
                image, 12 * scale, 14 * scale, kernel=kernel, algorithm=algorithm, data_range=255
            )
            np.testing.assert_array_equal(labels, truth)


@pytest.mark.parametrize("kernel", ["flat", "gaussian"])
def test_grid_is_near_exact(kernel):
    image = data.astronaut()[60:150, 170:270]
    bandwidths = (10, 9) if kernel == "flat" else (5, 4.5)
    exact = mean_shift(image, *bandwidths, kernel=kernel, algorithm="exact")
    grid = mean_shift(image, *bandwidths, kernel=kernel)
    assert region_scores(grid, exact)["probabilistic_rand_index"] > 0.85
    exact = mean_shift_filter(image, *bandwidths, kernel=kernel, algorithm="exact").astype(int)
    grid = mean_shift_filter(image, *bandwidths, kernel=kernel).astype(int)
    change = np.abs(exact - image).mean()
    assert np.abs(grid - exact).mean() < min(change, 6)


def test_covering_on_bsds(data_root):
    samples = bsds500.load(split="val", root=data_root)
    scores = []
    for i in range(0, 100, 10):
        labels = mean_shift(samples[i].image)
        _assert_connected(labels)
        assert np.bincount(labels.ravel()).min() >= 100
        scores.append(region_scores(labels, samples[i].annotations)["covering"])
    assert np.mean(scores) > 0.5


def test_larger_bandwidths_make_fewer_regions():
    image = data.coffee()[::2, ::2]
    counts = [mean_shift(image, 12, width).max() for width in (4, 8, 16)]
    assert counts[0] > 1.5 * counts[1] > 1.5 * 1.5 * counts[2]
    sizes = [np.bincount(mean_shift(image, 12, 8, min_size=m).ravel()).min() for m in (0, 50)]
    assert sizes[0] < 50 <= sizes[1]


@pytest.mark.parametrize("kernel", ["flat", "gaussian"])
def test_any_number_of_threads(kernel):
    image = data.coffee()[100:260, 100:300]
    options = {"spatial_bandwidth": 3, "range_bandwidth": 2, "kernel": kernel}

    def run():
        return mean_shift(image, **options), mean_shift_filter(image, **options)

    with thread_limit(1):
        one = run()
    for limit in (2, 4):
        with thread_limit(limit):
            np.testing.assert_array_equal(run()[0], one[0])
            np.testing.assert_array_equal(run()[1], one[1])
    features = rgb_to_lab(image, 255.0)[None]
    points = _make_points(features, np.ones((1, 160, 200), bool), 3, 2, kernel, "grid")[0]
    assert points.shape[1] > STRIP  # else it would show nothing


def test_range_of_storage_does_not_matter():
    image = data.astronaut()[:150, :200]
    expected = mean_shift(image)
    for stored in (image.astype(np.float32), image.astype(np.int64)):
        np.testing.assert_array_equal(mean_shift(stored), expected)
    scaled = mean_shift(image / 255.0)
    assert region_scores(scaled, expected)["probabilistic_rand_index"] > 0.95


@pytest.mark.parametrize("shape", [(60, 80), (5, 30, 30)])
def test_sigma_smooths_first(shape):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 50, shape).astype(np.float32)
    image[..., shape[-1] // 2 :] += 60
    options = {"data_range": 255, "channel_axis": None, "min_size": 0}
    smooth = ndimage.gaussian_filter(image, 1.5)
    labels = mean_shift(image, 6, 4, sigma=1.5, **options)
    theirs = mean_shift(smooth, 6, 4, **options)
    # Smoothing differs in the last bits, which may part a few pixels.
    assert region_scores(labels, theirs)["covering"] > 0.98
    assert labels.max() < mean_shift(image, 6, 4, **options).max() / 10


@pytest.mark.parametrize("sigma", [0.0, 1.0])
@pytest.mark.parametrize("algorithm", ["grid", "exact"])
def test_outside_the_mask_has_no_influence(algorithm, sigma):
    image = data.astronaut()[:90, :100].astype(np.float32)
    mask = np.zeros((90, 100), bool)
    mask[20:70, 30:80] = True
    mask[80, 95] = True
    other = np.where(mask[..., None], image, -1e30).astype(np.float32)
    options = {"spatial_bandwidth": 6, "min_size": 20, "algorithm": algorithm, "mask": mask}
    labels = mean_shift(image, sigma=sigma, **options)
    _assert_connected(labels, mask)
    np.testing.assert_array_equal(mean_shift(other, sigma=sigma, **options), labels)
    del options["min_size"]
    filtered = mean_shift_filter(image, **options)
    np.testing.assert_array_equal(filtered[~mask], image[~mask])
    np.testing.assert_array_equal(mean_shift_filter(other, **options)[mask], filtered[mask])


@pytest.mark.parametrize("value", [0, 255, 1e30, -3e38, 3.4e38, 1e-40])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (6, 5, 3)])
def test_small_and_constant_images(value, shape):
    image = np.full(shape, value, np.float32)
    np.testing.assert_array_equal(mean_shift(image), np.zeros(shape[:2]))
    np.testing.assert_allclose(mean_shift_filter(image), image, rtol=1e-6)


def test_extreme_bandwidths():
    image = np.zeros((20, 24, 3), np.float32)
    image[:, 12:] = 3e38
    assert mean_shift(image, 1e6, 1e-6, min_size=0).max() == 1
    assert mean_shift(image, 0.1, 1e12, min_size=0).max() == 0
    assert mean_shift(image, 0.1, 1e-6, kernel="gaussian", min_size=0).max() == 1


def test_volume():
    volume = np.zeros((12, 30, 30), np.float32)
    volume[6:, 10:20, 10:20] = 1
    volume += np.random.default_rng(0).normal(0, 0.01, volume.shape)
    for algorithm in ("grid", "exact"):
        segmenter = MeanShiftSegmenter(
            5, 10, min_size=20, algorithm=algorithm, data_range=1, channel_axis=None
        )
        labels = segmenter.predict(volume)
        np.testing.assert_array_equal(labels, volume > 0.5)
    filtered = mean_shift_filter(volume, 5, 10, data_range=1, channel_axis=None)
    assert filtered.shape == volume.shape
    assert filtered[volume < 0.5].std() < 0.004


def test_filter_keeps_edges_units_and_layout():
    rng = np.random.default_rng(1)
    clean = np.where(np.arange(60) < 30, 80, 150) + np.zeros((50, 1))
    noisy = np.clip(clean + rng.normal(0, 5, clean.shape), 0, 255).astype(np.uint8)
    for kernel, scale in (("flat", 1.0), ("gaussian", 0.5)):
        filtered = mean_shift_filter(noisy, 8 * scale, 12 * scale, kernel=kernel)
        assert filtered.dtype == np.uint8
        assert filtered.shape == noisy.shape
        assert np.abs(filtered - clean).max() < 5
    color = data.astronaut()[:60, :80]
    expected = mean_shift_filter(color)
    np.testing.assert_array_equal(
        mean_shift_filter(np.moveaxis(color, -1, 0), channel_axis=0), np.moveaxis(expected, -1, 0)
    )
    floats = mean_shift_filter(color / np.float32(255))
    assert floats.dtype == np.float32
    assert np.abs(255 * floats - expected).mean() < 1


@settings(max_examples=30, derandomize=True, deadline=None)
@given(_scenes())
def test_filter_is_the_mean_around_modes(scene):
    image, mask, bandwidths, kernel = scene
    options = {"kernel": kernel, "algorithm": "exact", "max_iter": 30}
    filtered = mean_shift_filter(
        image, *bandwidths, color_space="rgb", data_range=100, mask=mask, channel_axis=-1, **options
    )
    points, starts, point_of, window, _ = _make_points(image, mask, *bandwidths, kernel, "exact")
    modes, _ = find_modes(points, starts, window, 30, 0.0)
    for pixel in np.argwhere(mask):
        p = point_of[tuple(pixel)]
        weights, margin = _weights(
            points.astype(float), modes[p].astype(float), *bandwidths, kernel == "gaussian"
        )
        if margin > 1e-4 and weights.sum() > 0:
            values = points[COLOR : COLOR + image.shape[-1]]
            expected = (weights * values).sum(axis=1) / weights.sum()
            np.testing.assert_allclose(filtered[tuple(pixel)], expected, rtol=1e-4)


def test_lab_differs_from_rgb_and_needs_three_channels():
    image = data.astronaut()[:128, :128]
    assert (mean_shift(image) != mean_shift(image, color_space="rgb")).any()
    two = image[..., :2]
    np.testing.assert_array_equal(mean_shift(two), mean_shift(two, color_space="rgb"))


def test_class_equals_function():
    image = data.coffee()[:100, :120]
    mask = np.random.default_rng(0).random((100, 120)) > 0.1
    options = {"kernel": "gaussian", "algorithm": "exact", "min_size": 7, "max_iter": 9}
    options |= {"color_space": "rgb", "data_range": 200}
    expected = mean_shift(image, 3, 4, mask=mask, **options)
    segmenter = MeanShiftSegmenter(3, 4, **options)
    np.testing.assert_array_equal(segmenter.predict(image, mask=mask), expected)


def test_conformance():
    check_segmenter(MeanShiftSegmenter.small())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"spatial_bandwidth": 0}, ValueError, "mean_shift: spatial_bandwidth is 0"),
        ({"spatial_bandwidth": "8"}, TypeError, "mean_shift: spatial_bandwidth is '8'"),
        ({"range_bandwidth": np.nan}, ValueError, "mean_shift: range_bandwidth is nan"),
        ({"kernel": "box"}, ValueError, "mean_shift: kernel is 'box'"),
        ({"algorithm": "fast"}, ValueError, "mean_shift: algorithm is 'fast'"),
        ({"min_size": -1}, ValueError, "mean_shift: min_size is -1"),
        ({"max_iter": 0}, ValueError, "mean_shift: max_iter is 0"),
        ({"sigma": -1}, ValueError, "mean_shift: sigma is -1"),
        ({"color_space": "luv"}, ValueError, "mean_shift: color_space is 'luv'"),
        ({"data_range": -1}, ValueError, "mean_shift: data_range is -1"),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        mean_shift(np.zeros((4, 4)), **options)
