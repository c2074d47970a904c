"""SLIC superpixels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data, io, measure

from segalgos.clustering._local_kmeans import _average, cluster
from segalgos.clustering.slic import SLICSegmenter, slic
from segalgos.parallel import thread_limit


def _assert_connected(labels, mask=None):
    """Every id is one piece over the sides of pixels, without gaps, -1 outside."""
    n = labels.max() + 1
    np.testing.assert_array_equal(np.unique(labels[labels >= 0]), np.arange(n))
    assert measure.label(labels, connectivity=1, background=-1).max() == n
    mask = np.ones(labels.shape, bool) if mask is None else mask
    np.testing.assert_array_equal(labels >= 0, mask)


@pytest.mark.parametrize("n_segments", [50, 400, 2000])
@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea", "rocket", "coins", "text"])
def test_number_of_segments_on_photographs(name, n_segments):
    labels = slic(getattr(data, name)(), n_segments)
    assert labels.dtype == np.int32
    assert 0.9 * n_segments <= labels.max() + 1 <= 1.1 * n_segments
    _assert_connected(labels)


def _assert_good_on_bsds(paths):
    for path in paths:
        image = io.imread(path)
        for n_segments in (50, 300, 2000):
            labels = slic(image, n_segments)
            assert 0.9 * n_segments <= labels.max() + 1 <= 1.1 * n_segments
            _assert_connected(labels)


def test_number_of_segments_on_bsds(data_root):
    _assert_good_on_bsds(sorted((data_root / "BSDS500/data/images/val").glob("*.jpg"))[:3])


@pytest.mark.slow
def test_number_of_segments_on_all_of_bsds(data_root):
    paths = sorted((data_root / "BSDS500/data/images").glob("*/*.jpg"))
    assert len(paths) >= 300
    _assert_good_on_bsds(paths)


@pytest.mark.parametrize("shape", [(40, 50), (9, 14, 12), (1, 60), (60, 1), (1, 1, 40)])
@pytest.mark.parametrize("density", [0.05, 0.4, 0.6, 0.95, 1.0])
@pytest.mark.parametrize("n_segments", [1, 20, 100000])
def test_connected_in_random_masks(shape, density, n_segments):
    rng = np.random.default_rng(5)
    mask = rng.random(shape) < density
    mask.flat[0] = True
    labels = slic(rng.random(shape), n_segments, mask=mask, channel_axis=None, compactness=1)
    _assert_connected(labels, mask)
    assert labels.max() + 1 <= mask.sum()


def test_specks_of_the_mask_take_no_segments_from_the_rest():
    image = np.random.default_rng(0).random((120, 120))
    mask = np.zeros((120, 120), bool)
    mask[:80, :80] = True
    mask[90::2, 90::2] = True
    labels = slic(image, 40, mask=mask, compactness=50)
    _assert_connected(labels, mask)
    assert 30 <= len(np.unique(labels[:80, :80])) <= 40


def _brute_force_round(features, mask, positions, colors, squared_range, reach, weight):
    """Labels, new positions, new colours and the largest squared distances of colour."""
    pixels = np.indices(mask.shape).reshape(3, -1).T
    values = features.reshape(len(features), -1).T.astype(float)
    offsets = pixels[:, None] - positions
    sides = np.array([1, 8, 8] if len(mask) == 1 else [4, 4, 4])
    low = pixels // sides * sides  # the corners of each pixel's tile
    high = np.minimum(low + sides, mask.shape) - 1
    beyond = np.maximum(low[:, None] - positions, positions - high[:, None])
    in_color = ((values[:, None] - colors) ** 2).sum(axis=2)
    distance = in_color / squared_range + weight * (offsets**2).sum(axis=2)
    distance[(beyond > reach).any(axis=2)] = np.inf
    labels = np.where(np.isinf(distance).all(axis=1), len(positions), distance.argmin(axis=1))
    labels = np.where(mask.ravel(), labels, -1)
    positions, colors, largest = positions.copy(), colors.copy(), np.zeros(len(positions))
    for k in np.intersect1d(labels, np.arange(len(positions))):
        own = labels == k
        positions[k], colors[k] = pixels[own].mean(axis=0), values[own].mean(axis=0)
        largest[k] = in_color[own, k].max()
    return labels.reshape(mask.shape), positions, colors, largest


def _brute_force_cluster(features, mask, seeds, spacing, compactness, max_iter):
    positions, colors = seeds.astype(float), features[(slice(None), *seeds.T)].T
    weight = ((1 if compactness is None else compactness) / spacing) ** 2

    def look():
        args = (features, mask, positions, colors, squared_range, spacing, weight)
        return _brute_force_round(*args)

    squared_range = np.ones(len(seeds))
    if compactness is None:
        squared_range = np.full(len(seeds), np.inf)
        squared_range = np.full(len(seeds), max(1, 0.05 * look()[3].mean()))
    for i in range(max_iter - 1):
        before = positions
        _, positions, colors, largest = look()
        colors = colors.astype(np.float32)
        if compactness is None:
            squared_range = np.maximum(largest, squared_range if i else 1)
        if ((positions - before) ** 2).sum(axis=1).mean() < (0.06 * spacing) ** 2:
            break
    return look()[0]


@settings(max_examples=200, derandomize=True, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 12), st.integers(1, 40)),
    n_channels=st.integers(1, 4),
    density=st.sampled_from([0.3, 0.8, 1.0]),
    spacing=st.floats(1, 12),
    compactness=st.sampled_from([0.0, 3.0, 20.0, None]),
    max_iter=st.integers(1, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_rounds_equal_brute_force(shape, n_channels, density, spacing, compactness, max_iter, seed):
    rng = np.random.default_rng(seed)
    features = (100 * rng.random((n_channels, *shape))).astype(np.float32)
    mask = rng.random(shape) < density
    mask.flat[rng.integers(mask.size)] = True
    pixels = np.argwhere(mask)
    seeds = np.sort(rng.choice(len(pixels), min(len(pixels), 6), replace=False))
    args = (features, mask, pixels[seeds], spacing, compactness, max_iter)
    np.testing.assert_array_equal(cluster(*args, side=1), _brute_force_cluster(*args))


@pytest.mark.parametrize("shape", [(1, 13, 18), (5, 7, 9), (1, 1, 10), (3, 1, 4)])
@pytest.mark.parametrize("side", [2, 3])
def test_averages_of_blocks(shape, side):
    rng = np.random.default_rng(3)
    features = rng.random((2, *shape)).astype(np.float32)
    mask = rng.random(shape) < 0.6
    sides = np.where(np.array(shape) > 1, side, 1)
    small_shape = tuple(-(-np.array(shape) // sides))
    small, small_mask = np.empty((2, *small_shape), np.float32), np.empty(small_shape, np.uint8)
    for first in range(small_shape[0] * small_shape[1]):
        _average(features, mask.view(np.uint8), sides, small, small_mask, first, first + 1)
    for block in np.ndindex(small_shape):
        span = tuple(slice(b * s, (b + 1) * s) for b, s in zip(block, sides, strict=True))
        assert small_mask[block] == mask[span].any()
        if mask[span].any():
            expected = features[(slice(None), *span)][:, mask[span]].mean(axis=1)
            np.testing.assert_allclose(small[(slice(None), *block)], expected, rtol=1e-5)


def test_blocks_cost_little_quality():
    """Explained variance of the fast rounds is that of rounds over all pixels."""
    image = data.astronaut()[:256, :256].astype(np.float32)
    features = np.ascontiguousarray(np.moveaxis(image, -1, 0)[:, None]) / 2.55
    seeds = np.argwhere(np.ones((1, 8, 8))).astype(int) * 32 + [0, 16, 16]
    mask = np.ones((1, 256, 256), bool)
    left = []
    for side in (1, 3):
        labels = cluster(features, mask, seeds, 32.0, 10.0, 10, side).ravel()
        counts = np.maximum(np.bincount(labels), 1)
        means = [np.bincount(labels, plane.ravel()) / counts for plane in features]
        residuals = [
            plane.ravel() - mean[labels] for plane, mean in zip(features, means, strict=True)
        ]
        left.append(np.square(residuals).mean())
    assert left[0] != left[1]
    assert left[1] < 1.03 * left[0]


@pytest.mark.parametrize(
    ("shape", "grid"), [((40, 60), (4, 6)), ((4, 4), (2, 2)), ((8, 8), (2, 2)), ((35, 28), (5, 4))]
)
def test_constant_image_gives_a_regular_grid(shape, grid):
    labels = slic(np.full(shape, 7), grid[0] * grid[1])
    cells = np.arange(grid[0] * grid[1]).reshape(grid)
    side = shape[0] // grid[0]
    np.testing.assert_array_equal(labels, np.kron(cells, np.ones((side, side))))


def test_constant_image_gives_equal_segments():
    """Also where cells are no multiples of the blocks that are averaged."""
    sizes = np.bincount(slic(np.full((230, 310), 7), 60).ravel())
    assert len(sizes) == 60
    assert sizes.min() > 0.8 * sizes.mean()
    assert sizes.max() < 1.2 * sizes.mean()


def test_follows_edges():
    image = np.zeros((60, 60, 3), np.uint8)
    truth = np.hypot(*np.mgrid[-30:30, -30:30]) < 17
    image[truth] = 200, 50, 90
    labels = slic(image, 40)
    inside = np.bincount(labels.ravel(), truth.ravel()) / np.bincount(labels.ravel())
    assert ((inside == 0) | (inside == 1)).all()


def test_compactness_makes_squarer_segments():
    def border(compactness):
        labels = slic(data.chelsea(), 200, compactness=compactness)
        return (np.diff(labels, axis=0) != 0).sum() + (np.diff(labels, axis=1) != 0).sum()

    assert border(1) > 1.1 * border(10) > 1.1 * 1.1 * border(100)


def test_adaptive_compactness_evens_out_contrast():
    """The same texture at a tenth of its contrast is cut in the same way."""
    rng = np.random.default_rng(0)
    texture = rng.random((64, 64)).repeat(2, axis=0).repeat(2, axis=1)

    def border(image, **options):
        labels = slic(image, 64, data_range=1.0, **options)
        return (np.diff(labels, axis=0) != 0).sum() + (np.diff(labels, axis=1) != 0).sum()

    plain = [border(contrast * texture) for contrast in (1, 0.1)]
    adaptive = [border(contrast * texture, adaptive_compactness=True) for contrast in (1, 0.1)]
    assert plain[0] > 1.3 * plain[1]
    assert 0.9 < adaptive[0] / adaptive[1] < 1.1


def test_adaptive_compactness_takes_no_guess():
    image = data.chelsea()[:200, :200]
    some, other = (slic(image, 60, compactness=c, adaptive_compactness=True) for c in (3, 30))
    np.testing.assert_array_equal(some, other)
    assert (some != slic(image, 60)).any()


def test_lab_differs_from_rgb_and_needs_three_channels():
    image = data.astronaut()[:128, :128]
    assert (slic(image, 60) != slic(image, 60, color_space="rgb")).any()
    two = image[..., :2]
    np.testing.assert_array_equal(slic(two, 60), slic(two, 60, color_space="rgb"))


@pytest.mark.parametrize("n_segments", [30, 300, 3000])
def test_any_number_of_threads(n_segments):
    image = data.coffee()
    with thread_limit(1):
        one = slic(image, n_segments, adaptive_compactness=True)
    for limit in (2, 4):
        with thread_limit(limit):
            np.testing.assert_array_equal(slic(image, n_segments, adaptive_compactness=True), one)


def test_range_of_storage_does_not_matter():
    image = data.astronaut()[:150, :200]
    expected = slic(image, 80)
    for stored in (image.astype(np.float32), image.astype(np.int64)):
        np.testing.assert_array_equal(slic(stored, 80), expected)
    assert (slic(image / 255.0, 80) == expected).mean() > 0.98


@pytest.mark.parametrize("sigma", [0.0, 1.0])
def test_outside_the_mask_has_no_influence(sigma):
    image = data.astronaut()[:120, :150].astype(np.float32)
    mask = np.zeros((120, 150), bool)
    mask[20:90, 30:120] = True
    other = np.where(mask[..., None], image, -1e30).astype(np.float32)
    labels = slic(image, 30, sigma=sigma, mask=mask)
    np.testing.assert_array_equal(slic(other, 30, sigma=sigma, mask=mask), labels)


@pytest.mark.parametrize("value", [0, 255, 1e30, -3e38, 3.4e38, 1e-40])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (6, 5, 3)])
def test_small_and_constant_images(value, shape):
    labels = slic(np.full(shape, value, np.float32), 4, sigma=0.5)
    _assert_connected(labels)
    assert labels.max() + 1 <= 4


def test_huge_values():
    image = np.zeros((20, 24, 3), np.float32)
    image[:, 12:] = 3e38
    labels = slic(image, 8)
    _assert_connected(labels)
    assert not set(labels[:, :12].ravel()) & set(labels[:, 12:].ravel())


def test_volume():
    volume = np.zeros((12, 30, 30), np.float32)
    volume[6:, 10:20, 10:20] = 1
    labels = SLICSegmenter(60, channel_axis=None).predict(volume)
    _assert_connected(labels)
    assert 54 <= labels.max() + 1 <= 60
    assert not set(labels[volume == 0]) & set(labels[volume == 1])


def test_class_equals_function():
    image = data.coffee()[:100, :120]
    mask = np.random.default_rng(0).random((100, 120)) > 0.1
    options = {
        "compactness": 5,
        "adaptive_compactness": True,
        "max_iter": 4,
        "sigma": 0.7,
        "color_space": "rgb",
    }
    options |= {"min_size_factor": 0.3, "data_range": 200}
    expected = slic(image, 50, mask=mask, **options)
    np.testing.assert_array_equal(SLICSegmenter(50, **options).predict(image, mask=mask), expected)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_segments": 0}, ValueError, "slic: n_segments is 0"),
        ({"n_segments": 2.0}, TypeError, "slic: n_segments is 2.0"),
        ({"compactness": -1}, ValueError, "slic: compactness is -1"),
        ({"adaptive_compactness": "yes"}, TypeError, "slic: adaptive_compactness is 'yes'"),
        ({"max_iter": 0}, ValueError, "slic: max_iter is 0"),
        ({"sigma": np.nan}, ValueError, "slic: sigma is nan"),
        ({"color_space": "hsv"}, ValueError, "slic: color_space is 'hsv'"),
        ({"min_size_factor": 2}, ValueError, "slic: min_size_factor is 2"),
        ({"data_range": -1}, ValueError, "slic: data_range is -1"),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        slic(np.zeros((4, 4)), **options)
