"""Watershed."""

import heapq
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage import data, measure, morphology
from skimage.segmentation import watershed as skimage_watershed

from segalgos.graph import basins
from segalgos.graph.watershed import WatershedSegmenter, watershed
from segalgos.parallel import thread_limit
from segalgos.results import Prompts


def _neighbours(pixel, shape, connectivity):
    for step in itertools.product((-1, 0, 1), repeat=len(shape)):
        if 1 <= sum(map(abs, step)) <= connectivity:
            other = tuple(i + s for i, s in zip(pixel, step))
            if all(0 <= i < n for i, n in zip(other, shape)):
                yield other


def _brute_force(relief, markers, connectivity, mask):
    """Level, lake and neighbour of each pixel, as the Notes of `watershed` say it."""
    shape = relief.shape

    def around(pixel):
        return [p for p in _neighbours(pixel, shape, connectivity) if mask[p]]

    level = {}
    queue = [(relief[p], p) for p in np.ndindex(shape) if mask[p] and markers[p] >= 0]
    heapq.heapify(queue)
    while queue:
        height, pixel = heapq.heappop(queue)
        if pixel not in level:
            level[pixel] = height
            for p in set(around(pixel)) - level.keys():
                heapq.heappush(queue, (max(height, relief[p]), p))

    flooded_by, distance, frontier = {}, {}, []
    for pixel in level:
        lowest = min(around(pixel), key=lambda p: (level[p], p), default=pixel)
        if markers[pixel] >= 0 or level[lowest] < level[pixel]:
            flooded_by[pixel] = pixel if markers[pixel] >= 0 else lowest
            distance[pixel] = 0
            frontier.append(pixel)
    while frontier:
        reached = {
            p for q in frontier for p in around(q) if p not in distance and level[p] == level[q]
        }
        for pixel in reached:
            flooded_by[pixel] = min(
                p for p in around(pixel) if p in distance and level[p] == level[pixel]
            )
        frontier = sorted(reached)
        distance |= dict.fromkeys(reached, 1)

    labels = np.full(shape, -1)
    for pixel in level:
        end = pixel
        while markers[end] < 0:
            end = flooded_by[end]
        labels[pixel] = markers[end]
    return labels


def _brute_force_compact(relief, markers, connectivity, mask, compactness):
    """Flooding pixel by pixel, from a plain queue."""
    labels = np.full(relief.shape, -1)
    queue = [(float(relief[p]), p, p) for p in np.ndindex(relief.shape) if mask[p]]
    queue = [entry for entry in queue if markers[entry[1]] >= 0]
    done = set()
    heapq.heapify(queue)
    while queue:
        _, pixel, source = heapq.heappop(queue)
        if pixel in done or (markers[pixel] >= 0 and source != pixel):
            continue
        done.add(pixel)
        labels[pixel] = markers[source]
        for p in _neighbours(pixel, relief.shape, connectivity):
            if mask[p] and p not in done and markers[p] < 0:
                away = np.sqrt(float(sum((i - j) ** 2 for i, j in zip(p, source))))
                heapq.heappush(queue, (float(relief[p]) + compactness * away, p, source))
    return labels


@st.composite
def _cases(draw):
    n_axes = draw(st.sampled_from([2, 2, 3]))
    shape = draw(st.tuples(*[st.integers(1, 9 if n_axes == 2 else 5)] * n_axes))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_values = draw(st.sampled_from([1, 2, 4, 20, 10**6]))
    relief = rng.integers(0, n_values, shape).astype(draw(st.sampled_from([np.int32, np.float32])))
    mask = rng.random(shape) < draw(st.sampled_from([0.6, 0.9, 1.1]))
    markers = np.full(shape, -1)
    inside = np.flatnonzero(mask)
    if len(inside):
        n_markers = draw(st.integers(1, 6))
        markers.flat[rng.choice(inside, n_markers)] = rng.integers(0, 4, n_markers)
    return relief, mask, markers, draw(st.integers(1, n_axes))


@settings(max_examples=250, derandomize=True, deadline=None)
@given(_cases())
def test_equals_brute_force(case):
    relief, mask, markers, connectivity = case
    if not mask.any():
        return
    options = {"relief": "image", "connectivity": connectivity, "mask": mask, "channel_axis": None}
    labels = watershed(relief, markers, **options)
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, _brute_force(relief, markers, connectivity, mask))


@settings(max_examples=100, derandomize=True, deadline=None)
@given(_cases(), st.sampled_from([0.01, 1.0, 30.0]))
def test_compact_equals_brute_force(case, compactness):
    relief, mask, markers, connectivity = case
    if not mask.any():
        return
    options = {"relief": "image", "connectivity": connectivity, "mask": mask, "channel_axis": None}
    labels = watershed(relief, markers, compactness=compactness, **options)
    expected = _brute_force_compact(relief, markers, connectivity, mask, compactness)
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize("shape", [(60, 70), (1, 50), (9, 12, 14)])
@pytest.mark.parametrize("connectivity", [1, 2])
@pytest.mark.parametrize(
    ("dtype", "compactness"), [(np.uint16, 0.0), (np.uint16, 0.37), (np.float64, 0.0)]
)
def test_equals_skimage_on_distinct_values(shape, connectivity, compactness, dtype):
    rng = np.random.default_rng(4)
    for _ in range(5):
        relief = rng.permutation(np.prod(shape)).reshape(shape).astype(dtype)
        if dtype == np.float64:
            relief = 1 + relief * 1e-12  # equal in float32
        mask = rng.random(shape) > 0.1
        markers = np.full(shape, -1)
        markers.flat[rng.choice(np.flatnonzero(mask), 8, replace=False)] = np.arange(8)
        labels = watershed(
            relief,
            markers,
            relief="image",
            connectivity=connectivity,
            compactness=compactness,
            mask=mask,
            channel_axis=None,
        )
        expected = skimage_watershed(
            relief, markers + 1, connectivity, mask=mask, compactness=compactness
        )
        if compactness == 0:
            np.testing.assert_array_equal(labels, expected - 1)
        else:  # a pixel may be equally far from two markers
            assert (labels == expected - 1).mean() > 0.99


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_agrees_with_skimage_on_a_photograph(dtype):
    image = data.camera().astype(dtype)
    markers = np.full(image.shape, -1)
    markers[8::32, 8::32] = np.arange(256).reshape(16, 16)
    labels = watershed(image, markers, relief="image")
    assert (labels == skimage_watershed(image, markers + 1) - 1).mean() > 0.97


@pytest.mark.parametrize("connectivity", [1, 2])
@pytest.mark.parametrize("n_values", [5, 20, 10**6])
def test_seeds_are_the_deep_minima(connectivity, n_values):
    rng = np.random.default_rng(5)
    footprint = ndimage.generate_binary_structure(2, connectivity)
    for depth in (1, 2, n_values // 5, n_values // 2, 0):
        relief = rng.integers(0, n_values, (25, 30))
        # Minima of this relief are those of the first that are at least so deep.
        filled = morphology.reconstruction(
            relief + max(depth - 0.5, 0), relief, "erosion", footprint
        )
        plateaus = measure.label(filled, connectivity=connectivity, background=-1)
        lowest = ndimage.minimum_filter(filled, footprint=footprint, mode="nearest")
        is_minimum = np.bincount(plateaus.ravel(), lowest.ravel() < filled.ravel()) == 0
        seeds = np.flatnonzero(is_minimum[1:]) + 1
        labels = watershed(relief, relief="image", min_depth=depth, connectivity=connectivity)
        assert labels.max() + 1 == len(seeds)
        inside = np.isin(plateaus, seeds)
        pairs = np.unique(np.column_stack([labels[inside], plateaus[inside]]), axis=0)
        assert len(pairs) == len(seeds)


def test_ids_come_in_the_order_of_regions():
    labels = watershed(data.coffee()[:200, :300], sigma=1.0)
    _, first = np.unique(labels, return_index=True)
    assert len(first) > 20
    np.testing.assert_array_equal(first, np.sort(first))
    assert measure.label(labels, connectivity=1, background=-1).max() == labels.max() + 1


@pytest.mark.parametrize("compactness", [0.0, 1.0])
def test_any_number_of_threads_and_any_strips(monkeypatch, compactness):
    image = data.coffee()[:200, :300]
    relief = np.random.default_rng(6).integers(0, 9, (200, 300))
    markers = np.where(np.random.default_rng(7).random(relief.shape) < 0.001, relief, -1)

    def results():
        yield watershed(image, compactness=compactness)
        yield watershed(relief, relief="image", min_depth=3, compactness=compactness)
        yield watershed(relief, markers, relief="image", compactness=compactness)

    with thread_limit(1):
        expected = list(results())
    monkeypatch.setattr(basins, "STRIP", 1)
    monkeypatch.setattr(basins, "MIN_ROWS", 8)
    for limit in (1, 2, 4):
        with thread_limit(limit):
            for labels, one in zip(results(), expected, strict=True):
                np.testing.assert_array_equal(labels, one)


def test_range_of_storage_does_not_matter():
    image = data.coins()
    expected = watershed(image)
    for stored in (image.astype(np.float32), image.astype(np.uint16), image.astype(np.float64)):
        np.testing.assert_array_equal(watershed(stored), expected)
    assert (watershed(image / 255.0) == expected).mean() > 0.99
    assert watershed(image, data_range=510).max() < expected.max()


def test_outside_the_mask_has_no_influence():
    image = data.coins().astype(np.float32)
    mask = np.zeros(image.shape, bool)
    mask[20:150, 30:300] = True
    labels = watershed(image, mask=mask)
    other = np.where(mask, image, -1e30).astype(np.float32)
    np.testing.assert_array_equal(watershed(other, mask=mask), labels)
    assert (labels[~mask] == -1).all()
    np.testing.assert_array_equal(np.unique(labels[mask]), np.arange(labels.max() + 1))


def test_cut_off_from_all_markers():
    mask = np.ones((3, 7), bool)
    mask[:, 3] = False
    markers = np.full(mask.shape, -1)
    markers[1, 1], markers[1, 3] = 5, 6
    for compactness in (0, 1):
        labels = watershed(np.ones(mask.shape), markers, mask=mask, compactness=compactness)
        np.testing.assert_array_equal(labels, [[5] * 3 + [-1] * 4] * 3)
    labels = watershed(np.ones(mask.shape), mask=mask)
    np.testing.assert_array_equal(labels, [[0] * 3 + [-1] + [1] * 3] * 3)


@pytest.mark.parametrize("value", [0, 1, 255, 1e30, -3e38, 3.4e38, 1e-40])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (6, 5, 3)])
@pytest.mark.parametrize("compactness", [0.0, 2.0])
def test_constant_image_is_one_region(value, shape, compactness):
    labels = watershed(np.full(shape, value, np.float32), compactness=compactness)
    np.testing.assert_array_equal(labels, np.zeros(shape[:2]))


def test_plain_ground_is_shared_by_distance():
    markers = np.full((9, 12), -1)
    markers[4, 1], markers[4, 8] = 0, 1
    labels = watershed(np.zeros(markers.shape), markers, relief="image")
    rows, columns = np.indices(markers.shape)
    near = np.abs(rows - 4) + np.abs(columns - 1) - np.abs(rows - 4) - np.abs(columns - 8)
    np.testing.assert_array_equal(labels, near > 0)


def test_compactness_makes_regions_even():
    image = data.astronaut()[:200, :200]
    markers = np.full((200, 200), -1)
    markers[12::25, 12::25] = np.arange(64).reshape(8, 8)
    spread = []
    for compactness in (0.0, 1.0, 1e6):
        labels = watershed(image, markers, compactness=compactness)
        spread.append(np.bincount(labels.ravel(), minlength=64).std())
    assert spread[0] > spread[1] > spread[2]
    rows, columns = np.indices(labels.shape)
    assert (labels == rows // 25 * 8 + columns // 25).mean() > 0.95


def test_volume():
    volume = np.zeros((12, 20, 20), np.uint8)
    volume[6:] = 200
    labels = WatershedSegmenter(sigma=0.5, channel_axis=None).predict(volume)
    assert labels.max() == 1
    np.testing.assert_array_equal(labels[:5], np.zeros((5, 20, 20)))
    np.testing.assert_array_equal(labels[7:], np.ones((5, 20, 20)))


def test_prompts_are_markers():
    image = data.coins()
    scribbles = np.full(image.shape, -1)
    scribbles[5, 20:290] = 0
    scribbles[50:55, 30:60] = 3
    prompts = Prompts(scribbles=scribbles, points=[[128, 155]])
    labels = WatershedSegmenter(sigma=1.0).predict(image, prompts=prompts)
    np.testing.assert_array_equal(np.unique(labels), [0, 1, 3])
    assert (labels[scribbles >= 0] == scribbles[scribbles >= 0]).all()
    expected = watershed(image, prompts.seeds(image.shape), sigma=1.0)
    np.testing.assert_array_equal(labels, expected)


def test_class_equals_function():
    mask = np.random.default_rng(0).random((303, 384)) > 0.1
    for options in (
        {"sigma": 1.5, "min_depth": 1.0, "connectivity": 2, "data_range": 200},
        {"relief": "image", "min_depth": 20, "compactness": 0.5},
    ):
        labels = WatershedSegmenter(**options).predict(data.coins(), mask=mask)
        np.testing.assert_array_equal(labels, watershed(data.coins(), mask=mask, **options))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"relief": "hills"}, ValueError, "watershed: relief is 'hills'"),
        ({"sigma": -0.1}, ValueError, "watershed: sigma is -0.1"),
        ({"min_depth": -1}, ValueError, "watershed: min_depth is -1"),
        ({"compactness": "round"}, TypeError, "watershed: compactness is 'round'"),
        ({"connectivity": 0}, ValueError, "watershed: connectivity is 0"),
        ({"connectivity": 3}, ValueError, "watershed: connectivity is 3, expected at most"),
        ({"data_range": 0}, ValueError, "watershed: data_range is 0"),
        ({"mask": np.ones((4, 5), bool)}, ValueError, r"watershed: mask has shape \(4, 5\)"),
        ({"markers": np.ones((4, 5), int)}, ValueError, r"watershed: markers has shape \(4, 5\)"),
        ({"markers": np.full((4, 4), -1)}, ValueError, "watershed: no pixel that is to be"),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        watershed(np.zeros((4, 4)), **options)


def test_a_relief_has_one_channel():
    with pytest.raises(ValueError, match='WatershedSegmenter: relief is "image", but the image'):
        WatershedSegmenter(relief="image").predict(np.zeros((4, 4, 3)))
