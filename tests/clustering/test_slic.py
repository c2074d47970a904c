"""SLIC superpixels."""

import numpy as np
import pytest
from skimage import data, io, measure

from segalgos.clustering.slic import SLICSegmenter, _assign, _update, slic
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


def test_number_of_segments_on_bsds(data_root):
    for path in sorted((data_root / "BSDS500/data/images/val").glob("*.jpg"))[:3]:
        image = io.imread(path)
        for n_segments in (50, 300, 2000):
            labels = slic(image, n_segments)
            assert 0.9 * n_segments <= labels.max() + 1 <= 1.1 * n_segments
            _assert_connected(labels)


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


def _brute_force_assign(features, mask, positions, colors, reach, weight):
    shape = features.shape[1:]
    labels = np.full(shape, -1)
    for pixel in np.ndindex(*shape):
        if not mask[pixel]:
            continue
        labels[pixel] = len(positions)
        best = np.inf
        for k, position in enumerate(positions):
            offset = np.array(pixel) - position
            if (np.abs(offset) <= reach).all():
                color = features[(slice(None), *pixel)].astype(float) - colors[k]
                distance = (color**2).sum() + weight * (offset**2).sum()
                if distance < best:
                    best, labels[pixel] = distance, k
    return labels


@pytest.mark.parametrize("shape", [(1, 15, 17), (5, 8, 9)])
@pytest.mark.parametrize("n_channels", [1, 4])
def test_kernels_equal_brute_force(shape, n_channels):
    rng = np.random.default_rng(7)
    features = rng.random((n_channels, *shape)).astype(np.float32)
    mask = rng.random(shape) < 0.8
    positions = rng.random((6, 3)) * (np.array(shape) - 1)
    colors = rng.random((6, n_channels)).astype(np.float32)
    labels, nearest = np.empty(shape, np.int32), np.empty(shape, np.float32)
    n_rows = shape[0] * shape[1]
    for first in range(0, n_rows, 4):
        last = min(first + 4, n_rows)
        _assign(
            features, mask, positions, colors, 5.2, np.float32(0.01), nearest, labels, first, last
        )
    expected = _brute_force_assign(features, mask, positions, colors, 5.2, 0.01)
    np.testing.assert_array_equal(labels, expected)
    assert len(np.unique(labels)) > 4

    new_positions, new_colors = positions.copy(), colors.copy()
    _update(features, labels, positions, 5.2, new_positions, new_colors, 0, 6)
    for k in range(6):
        own = labels == k
        if own.any():
            np.testing.assert_allclose(new_positions[k], np.argwhere(own).mean(axis=0))
            np.testing.assert_allclose(new_colors[k], features[:, own].mean(axis=1), rtol=1e-6)
        else:
            np.testing.assert_array_equal(new_positions[k], positions[k])


@pytest.mark.parametrize(
    ("shape", "grid"), [((60, 90), (4, 6)), ((4, 4), (2, 2)), ((8, 8), (2, 2)), ((35, 28), (5, 4))]
)
def test_constant_image_gives_a_regular_grid(shape, grid):
    labels = slic(np.full(shape, 7), grid[0] * grid[1])
    cells = np.arange(grid[0] * grid[1]).reshape(grid)
    side = shape[0] // grid[0]
    np.testing.assert_array_equal(labels, np.kron(cells, np.ones((side, side))))


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


def test_lab_differs_from_rgb_and_needs_three_channels():
    image = data.astronaut()[:128, :128]
    assert (slic(image, 60) != slic(image, 60, color_space="rgb")).any()
    two = image[..., :2]
    np.testing.assert_array_equal(slic(two, 60), slic(two, 60, color_space="rgb"))


def test_any_number_of_threads():
    image = data.coffee()
    with thread_limit(1):
        one = slic(image, 300)
    for limit in (2, 4):
        with thread_limit(limit):
            np.testing.assert_array_equal(slic(image, 300), one)


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
    options = {"compactness": 5, "max_iter": 4, "sigma": 0.7, "color_space": "rgb"}
    options |= {"min_size_factor": 0.3, "data_range": 200}
    expected = slic(image, 50, mask=mask, **options)
    np.testing.assert_array_equal(SLICSegmenter(50, **options).predict(image, mask=mask), expected)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_segments": 0}, ValueError, "slic: n_segments is 0"),
        ({"n_segments": 2.0}, TypeError, "slic: n_segments is 2.0"),
        ({"compactness": -1}, ValueError, "slic: compactness is -1"),
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
