"""Felzenszwalb and Huttenlocher's segmentation."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data, measure
from skimage.segmentation import felzenszwalb as skimage_felzenszwalb
from sklearn.metrics import adjusted_rand_score

from segalgos.graph import felzenszwalb as module
from segalgos.graph.felzenszwalb import FelzenszwalbSegmenter, felzenszwalb
from segalgos.parallel import thread_limit


def _brute_force(image, scale, min_size, mask=None):
    """The paper's algorithm, word for word, on values where white is 255."""
    shape = image.shape[:-1]
    mask = np.ones(shape, bool) if mask is None else mask
    steps = [s for s in itertools.product((-1, 0, 1), repeat=len(shape)) if s > (0,) * len(shape)]
    edges = []
    for pixel in np.ndindex(*shape):
        for step in steps:
            other = tuple(np.add(pixel, step))
            if all(0 <= i < n for i, n in zip(other, shape)) and mask[pixel] and mask[other]:
                difference = image[pixel].astype(np.float64) - image[other]
                weight = np.float32(np.sqrt(np.sum(difference**2)))
                edges.append((weight, pixel, step, other))
    edges.sort(key=lambda edge: edge[:3])
    regions = {pixel: {pixel} for pixel in np.ndindex(*shape) if mask[pixel]}
    inner = dict.fromkeys(regions, 0.0)

    def merge(a, b, weight):
        small, large = sorted((a, b), key=lambda r: len(regions[r]))
        for pixel in regions[small]:
            of[pixel] = large
        regions[large] |= regions.pop(small)
        inner[large] = weight

    of = {pixel: pixel for pixel in regions}
    for weight, pixel, _, other in edges:
        a, b = of[pixel], of[other]
        if a != b and weight <= min(inner[r] + scale / len(regions[r]) for r in (a, b)):
            merge(a, b, weight)
    for weight, pixel, _, other in edges:
        a, b = of[pixel], of[other]
        if a != b and min(len(regions[a]), len(regions[b])) < min_size:
            merge(a, b, weight)
    labels, numbers = np.full(shape, -1), {}
    for pixel in np.ndindex(*shape):
        if mask[pixel]:
            labels[pixel] = numbers.setdefault(of[pixel], len(numbers))
    return labels


@pytest.mark.parametrize("shape", [(12, 14, 1), (11, 9, 3), (4, 5, 6, 2), (1, 20, 1), (20, 1, 3)])
@pytest.mark.parametrize(("scale", "min_size"), [(0.0, 0), (40.0, 1), (200.0, 5), (900.0, 12)])
@pytest.mark.parametrize("masked", [False, True])
def test_equals_brute_force(shape, scale, min_size, masked):
    rng = np.random.default_rng(3)
    # Few grey levels: many edges of equal weight.
    image = rng.integers(0, 6, shape).astype(np.float32) * 20
    mask = rng.random(shape[:-1]) > 0.3 if masked else None
    labels = felzenszwalb(
        image,
        scale,
        sigma=0,
        min_size=min_size,
        data_range=255,
        mask=mask,
        channel_axis=-1,
    )
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, _brute_force(image, scale, min_size, mask))


@settings(max_examples=300, derandomize=True, deadline=None)
@given(
    shape=st.sampled_from([(9, 10, 1), (7, 12, 3), (3, 5, 4, 2), (1, 17, 1), (11, 2, 1)]),
    tile=st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 8)),
    n_values=st.sampled_from([2, 6, 100]),
    scale=st.sampled_from([0.0, 20.0, 80.0, 300.0, 2000.0]),
    min_size=st.sampled_from([0, 3, 9]),
    inside=st.sampled_from([0.6, 0.9, 1.1]),
    seed=st.integers(0, 2**32 - 1),
)
def test_tiles_change_nothing(shape, tile, n_values, scale, min_size, inside, seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, n_values, shape).astype(np.float32) * np.float32(200 / n_values)
    mask = rng.random(shape[:-1]) < inside
    mask.flat[0] = True
    options = {"sigma": 0, "min_size": min_size, "data_range": 255, "channel_axis": -1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TILE_2D", (1, *tile[1:]))
        patch.setattr(module, "TILE_3D", tile)
        labels = felzenszwalb(image, scale, mask=mask, **options)
    np.testing.assert_array_equal(labels, _brute_force(image, scale, min_size, mask))


@pytest.mark.parametrize(("scale", "min_size"), [(5.0, 0), (60.0, 4), (400.0, 20)])
@pytest.mark.parametrize("noise", [1e-5, 1.0])
def test_many_edges_equal_brute_force(scale, min_size, noise):
    # Slopes, level ground and noise of any size: weights of many orders of magnitude, and ties.
    rng = np.random.default_rng(8)
    image = np.add.outer(np.arange(50) // 7 * 10, np.arange(60) % 20).astype(np.float32)
    image[:, 30:] += (noise * rng.standard_normal((50, 30))).astype(np.float32)
    image = np.stack([image, image[::-1]], axis=-1)
    options = {"sigma": 0, "min_size": min_size, "data_range": 255, "channel_axis": -1}
    labels = felzenszwalb(image, scale, **options)
    np.testing.assert_array_equal(labels, _brute_force(image, scale, min_size))


@pytest.mark.parametrize("scale", [20.0, 300.0])
def test_photograph_in_tiles_of_any_size(monkeypatch, scale):
    image = data.coffee()
    monkeypatch.setattr(module, "TILE_2D", (1, 10_000, 10_000))
    whole = felzenszwalb(image, scale)
    for tile in ((1, 40, 70), (1, 128, 200)):
        monkeypatch.setattr(module, "TILE_2D", tile)
        np.testing.assert_array_equal(felzenszwalb(image, scale), whole)


@pytest.mark.parametrize("scale", [100.0, 300.0])
def test_agrees_with_skimage(scale):
    # skimage's intensities run from 0 to 1, and it divides its scale by 255.
    for image in (data.astronaut()[:256], data.coffee()[:200, :300], data.coins()):
        ours = felzenszwalb(image, scale, sigma=0.8, min_size=20)
        theirs = skimage_felzenszwalb(image, scale, sigma=0.8, min_size=20)
        assert adjusted_rand_score(theirs.ravel(), ours.ravel()) > 0.95


def test_regions_are_connected_and_not_small():
    labels = felzenszwalb(data.chelsea(), 100, min_size=50)
    n = labels.max() + 1
    assert measure.label(labels, connectivity=2, background=-1).max() == n
    assert np.bincount(labels.ravel()).min() >= 50
    np.testing.assert_array_equal(np.unique(labels), np.arange(n))


def test_any_number_of_threads():
    image = data.coffee()
    with thread_limit(1):
        one = felzenszwalb(image)
    for limit in (2, 4):
        with thread_limit(limit):
            np.testing.assert_array_equal(felzenszwalb(image), one)


def test_range_of_storage_does_not_matter():
    image = data.coins()
    expected = felzenszwalb(image)
    for stored in (image.astype(np.float32), image.astype(np.uint16), image / 255.0):
        assert adjusted_rand_score(felzenszwalb(stored).ravel(), expected.ravel()) > 0.99
    doubled = felzenszwalb(image, data_range=510)
    assert doubled.max() < expected.max()


def test_outside_the_mask_has_no_influence():
    image = data.coins().astype(np.float32)
    mask = np.zeros(image.shape, bool)
    mask[20:150, 30:300] = True
    labels = felzenszwalb(image, mask=mask)
    other = np.where(mask, image, -1e30).astype(np.float32)
    np.testing.assert_array_equal(felzenszwalb(other, mask=mask), labels)
    assert (labels[~mask] == -1).all()
    np.testing.assert_array_equal(np.unique(labels[mask]), np.arange(labels.max() + 1))


@pytest.mark.parametrize("value", [0, 1, 255, 1e30, -3e38, 3.4e38, 1e-40])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (6, 5, 3)])
def test_constant_image_is_one_region(value, shape):
    labels = felzenszwalb(np.full(shape, value, np.float32))
    np.testing.assert_array_equal(labels, np.zeros(shape[:2]))


def test_huge_values():
    image = np.zeros((10, 12), np.float32)
    image[:, 5:] = 3e38
    labels = felzenszwalb(image, scale=10, sigma=0)
    np.testing.assert_array_equal(labels, np.repeat([[0] * 5 + [1] * 7], 10, axis=0))


def test_volume():
    volume = np.zeros((6, 20, 20), np.uint8)
    volume[3:, 5:15, 5:15] = 200
    labels = FelzenszwalbSegmenter(50, sigma=0, channel_axis=None).predict(volume)
    np.testing.assert_array_equal(labels, volume > 0)


def test_class_equals_function():
    image, mask = data.coins(), np.random.default_rng(0).random((303, 384)) > 0.1
    segmenter = FelzenszwalbSegmenter(100, sigma=1.0, min_size=30, data_range=200)
    expected = felzenszwalb(image, 100, sigma=1.0, min_size=30, data_range=200, mask=mask)
    np.testing.assert_array_equal(segmenter.predict(image, mask=mask), expected)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"scale": -1}, ValueError, "felzenszwalb: scale is -1"),
        ({"scale": "big"}, TypeError, "felzenszwalb: scale is 'big'"),
        ({"sigma": -0.1}, ValueError, "felzenszwalb: sigma is -0.1"),
        ({"min_size": 2.5}, TypeError, "felzenszwalb: min_size is 2.5"),
        ({"data_range": 0}, ValueError, "felzenszwalb: data_range is 0"),
        ({"mask": np.zeros((4, 4), bool)}, ValueError, "felzenszwalb: mask is False everywhere"),
        ({"mask": np.ones((4, 5), bool)}, ValueError, r"felzenszwalb: mask has shape \(4, 5\)"),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        felzenszwalb(np.zeros((4, 4)), **options)


def test_class_names_itself():
    with pytest.raises(ValueError, match="FelzenszwalbSegmenter: sigma is -1"):
        FelzenszwalbSegmenter(sigma=-1).predict(np.zeros((4, 4)))
