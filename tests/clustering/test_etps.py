"""ETPS superpixels."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data, measure

from segalgos.clustering import etps as module
from segalgos.clustering._blocks import MIXED, OUTSIDE, add_up, make_level
from segalgos.clustering._ward import join_similar
from segalgos.clustering.etps import ETPSSegmenter, _cut, _neighbourhood, _stays_connected, etps
from segalgos.datasets import bsds500
from segalgos.metrics import superpixel_scores
from segalgos.parallel import thread_limit


def assert_connected(labels, mask=None):
    """Every id is one piece over the sides of pixels, in raster order, -1 outside."""
    ids, first = np.unique(labels[labels >= 0], return_index=True)
    np.testing.assert_array_equal(ids, np.arange(len(ids)))
    assert (np.diff(first) > 0).all()
    assert measure.label(labels, connectivity=1, background=-1).max() == len(ids)
    mask = np.ones(labels.shape, bool) if mask is None else mask
    np.testing.assert_array_equal(labels >= 0, mask)


# --- on photographs ----------------------------------------------------------------------


@pytest.mark.parametrize("start_factor", [1, 2])
@pytest.mark.parametrize("n_segments", [1, 7, 50, 400, 2000])
@pytest.mark.parametrize("name", ["astronaut", "coins", "rocket"])
def test_number_of_segments_is_exact(name, n_segments, start_factor):
    labels = etps(getattr(data, name)(), n_segments, start_factor=start_factor)
    assert labels.dtype == np.int32
    assert labels.max() + 1 == n_segments
    assert_connected(labels)


def test_better_than_a_grid_on_bsds(data_root):
    samples = bsds500.load(split="val", root=data_root)
    for sample in (samples[i] for i in range(3)):
        height, width = sample.image.shape[:2]
        labels = etps(sample.image, 400)
        assert_connected(labels)
        grid = _cut((height, width), 400, 20, 1)
        ours, even = (
            superpixel_scores(x, sample.annotations, sample.image) for x in (labels, grid)
        )
        assert ours["boundary_recall"] > even["boundary_recall"] + 0.2
        assert ours["undersegmentation_error"] < 0.7 * even["undersegmentation_error"]
        assert ours["explained_variation"] > even["explained_variation"] + 0.05


def test_connected_on_all_kinds_of_noise():
    rng = np.random.default_rng(0)
    for compactness, boundary in product((0, 1, 20), (0, 1, 100)):
        image = rng.integers(0, 256, (50, 61, 3)).astype(np.uint8)
        labels = etps(image, 30, compactness=compactness, boundary=boundary)
        assert_connected(labels)
        assert labels.max() + 1 == 30


@pytest.mark.parametrize(
    "shape", [(40, 50), (9, 14, 12), (1, 60), (60, 1), (1, 1, 40), (1, 20, 30)]
)
@pytest.mark.parametrize("density", [0.05, 0.4, 0.6, 0.95, 1.0])
@pytest.mark.parametrize("n_segments", [1, 20, 100000])
def test_connected_in_random_masks(shape, density, n_segments):
    rng = np.random.default_rng(5)
    mask = rng.random(shape) < density
    mask.flat[0] = True
    labels = etps(rng.random(shape), n_segments, mask=mask, channel_axis=None)
    assert_connected(labels, mask)
    n_pieces = measure.label(mask, connectivity=1).max()
    n = min(n_segments, mask.sum())
    assert max(n, n_pieces) == labels.max() + 1 or n < labels.max() + 1 <= n + n_pieces


@settings(max_examples=150, derandomize=True, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(st.integers(1, 14), st.integers(1, 14)),
    n_segments=st.integers(1, 30),
    n_channels=st.integers(1, 4),
    start_factor=st.sampled_from([1, 1.5, 4]),
    masked=st.booleans(),
)
def test_connected_on_small_images(seed, shape, n_segments, n_channels, start_factor, masked):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 3, (*shape, n_channels)).astype(np.float32)
    mask = rng.random(shape) < 0.8 if masked else np.ones(shape, bool)
    mask.flat[rng.integers(mask.size)] = True
    labels = etps(image, n_segments, start_factor=start_factor, mask=mask)
    assert_connected(labels, mask)
    if mask.all():
        assert labels.max() + 1 == min(n_segments, mask.size)


# --- what it promises --------------------------------------------------------------------


def energy(image, labels, compactness, boundary):
    """The energy by its definition, of a grey image in units where white is 100."""
    n, spacing = labels.max() + 1, np.sqrt(labels.size / (labels.max() + 1))
    positions = np.indices(labels.shape).transpose(1, 2, 0) * compactness / spacing
    features = np.concatenate([image[..., None], positions], axis=-1)
    total = sum(
        ((features[labels == k] - features[labels == k].mean(axis=0)) ** 2).sum() for k in range(n)
    )
    for (dy, dx), length in {(0, 1): 1, (1, 0): 1, (1, 1): 2**0.5, (1, -1): 2**0.5}.items():
        a = labels[: labels.shape[0] - dy, max(0, -dx) : labels.shape[1] - max(0, dx)]
        b = labels[dy:, max(0, dx) : labels.shape[1] + min(0, dx)]
        total += boundary / length * (a != b).sum()
    return total


@pytest.mark.parametrize("boundary", [0, 3, 200])
@pytest.mark.parametrize("seed", range(4))
def test_no_single_pixel_can_lower_the_energy_much(seed, boundary):
    rng = np.random.default_rng(seed)
    image = measure.block_reduce(rng.random((40, 48)), (4, 4), np.mean).repeat(2, 0).repeat(2, 1)
    image = image * 100 + rng.random((20, 24)) * 5
    options = {"compactness": 2, "boundary": boundary, "start_factor": 1, "min_size_factor": 0}
    labels = etps(image, 8, data_range=100, max_iter=1000, **options)
    before = energy(image, labels, 2, boundary)
    assert before < energy(image, _cut((20, 24), 8, 7.7, 1), 2, boundary)
    n_lower = n_moves = 0
    for y, x in np.ndindex(20, 24):
        around = labels[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        for other in set(around.ravel()) - {labels[y, x]}:
            moved = labels.copy()
            moved[y, x] = other
            connected = measure.label(moved, connectivity=1, background=-1).max() == 8
            n_moves += connected
            n_lower += connected and energy(image, moved, 2, boundary) < before - 1e-3
    # Only where a mean changed after the pixel had been looked at, or where what connects the
    # pixel's superpixel lies farther away than its neighbours.
    assert n_lower <= 0.06 * n_moves
    assert n_moves > 40


def test_finds_a_shape():
    image = np.zeros((60, 60, 3), np.uint8)
    truth = np.hypot(*np.mgrid[-30:30, -30:30]) < 17
    image[truth] = 200, 50, 90
    labels = etps(image, 40, min_size_factor=0)
    inside = np.bincount(labels.ravel(), truth.ravel()) / np.bincount(labels.ravel())
    assert ((inside == 0) | (inside == 1)).all()


def test_compactness_and_boundary_make_rounder_segments():
    def quotient(**options):
        labels = etps(data.chelsea()[::2, ::2], 100, **options)
        return superpixel_scores(labels, labels)["compactness"]

    assert quotient(compactness=1) < quotient(compactness=20) < quotient(compactness=200)
    assert quotient(boundary=0) < quotient(boundary=10) < quotient(boundary=200)


def test_more_cells_at_first_explain_more():
    image = data.astronaut()[::2, ::2]
    labels = [etps(image, 100, start_factor=factor) for factor in (1, 2, 4)]
    explained = [superpixel_scores(x, x, image)["explained_variation"] for x in labels]
    assert explained[0] < explained[1] < explained[2]


@pytest.mark.parametrize("factor", [0.0, 0.2, 0.6])
def test_least_size(factor):
    image = np.random.default_rng(0).random((60, 60))
    labels = etps(image, 36, min_size_factor=factor, compactness=0.1, start_factor=1)
    least = np.bincount(labels.ravel()).min()
    assert least >= int(factor * 100)
    assert (least < 20) == (factor == 0)


def test_volume():
    volume = np.zeros((12, 30, 30), np.float32)
    volume[6:, 10:20, 10:20] = 1
    labels = ETPSSegmenter(60, min_size_factor=0, channel_axis=None).predict(volume)
    assert_connected(labels)
    assert labels.max() + 1 == 60
    assert not set(labels[volume == 0]) & set(labels[volume == 1])


def test_connected_in_noisy_volumes():
    rng = np.random.default_rng(1)
    for _ in range(10):
        volume = rng.random((10, 11, 12, 2))
        labels = etps(volume, 12, compactness=0.2, boundary=0, channel_axis=-1)
        assert_connected(labels)
        assert labels.max() + 1 == 12


def test_lab_differs_from_rgb_and_needs_three_channels():
    image = data.astronaut()[:128, :128]
    assert (etps(image, 60) != etps(image, 60, color_space="rgb")).any()
    two = image[..., :2]
    np.testing.assert_array_equal(etps(two, 60), etps(two, 60, color_space="rgb"))


@pytest.mark.parametrize("group", [8, 64, 1024])
def test_any_number_of_threads(group, monkeypatch):
    monkeypatch.setattr(module, "GROUP", group)  # several groups in a small image
    image = data.coffee()[:200, :300]
    with thread_limit(1):
        one = etps(image, 300)
    assert_connected(one)
    for limit in (2, 4):
        with thread_limit(limit):
            np.testing.assert_array_equal(etps(image, 300), one)


def test_groups_change_little(monkeypatch):
    image = data.coffee()[:200, :300]
    whole = superpixel_scores(x := etps(image, 300), x, image)["explained_variation"]
    monkeypatch.setattr(module, "GROUP", 8)
    parts = superpixel_scores(x := etps(image, 300), x, image)["explained_variation"]
    assert parts == pytest.approx(whole, abs=0.01)


def test_range_of_storage_does_not_matter():
    image = data.astronaut()[:150, :200]
    expected = etps(image, 80)
    for stored in (image.astype(np.float32), image.astype(np.int64)):
        np.testing.assert_array_equal(etps(stored, 80), expected)
    scores = superpixel_scores(etps(image / 255.0, 80), expected)
    assert scores["achievable_segmentation_accuracy"] > 0.98


@pytest.mark.parametrize("sigma", [0.0, 1.0])
def test_outside_the_mask_has_no_influence(sigma):
    image = data.astronaut()[:120, :150].astype(np.float32)
    mask = np.zeros((120, 150), bool)
    mask[20:90, 30:120] = True
    other = np.where(mask[..., None], image, -1e30).astype(np.float32)
    labels = etps(image, 30, sigma=sigma, mask=mask)
    assert_connected(labels, mask)
    assert labels.max() + 1 == 30
    np.testing.assert_array_equal(etps(other, 30, sigma=sigma, mask=mask), labels)


@pytest.mark.parametrize("value", [0, 255, 1e30, -3e38, 3.4e38, 1e-40])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (6, 5, 3)])
def test_small_and_constant_images(value, shape):
    labels = etps(np.full(shape, value, np.float32), 4, sigma=0.5)
    assert_connected(labels)
    assert labels.max() + 1 == min(4, labels.size)


def test_class_equals_function():
    image = data.coffee()[:100, :120]
    mask = np.random.default_rng(0).random((100, 120)) > 0.1
    options = {"compactness": 5, "boundary": 2, "start_factor": 1.5, "max_iter": 2, "sigma": 0.7}
    options |= {"color_space": "rgb", "min_size_factor": 0.3, "data_range": 200}
    expected = etps(image, 50, mask=mask, **options)
    np.testing.assert_array_equal(ETPSSegmenter(50, **options).predict(image, mask=mask), expected)


# --- the parts ---------------------------------------------------------------------------


@pytest.mark.parametrize(("ndim", "n_tries"), [(2, 256), (3, 2000)])
def test_stays_connected_equals_flood_fill(ndim, n_tries):
    offsets, faces, adjacency, safe = _neighbourhood(ndim)
    rng = np.random.default_rng(0)
    if ndim == 2:
        codes = range(256)
    else:
        bits = rng.random((n_tries, 26)) < rng.random((n_tries, 1))
        codes = [int((row * (1 << np.arange(26))).sum()) for row in bits]
    answers = []
    for code in codes:
        box = np.zeros((3, 3, 3), bool)
        for i, offset in enumerate(offsets):
            box[tuple(offset + 1)] = code >> i & 1
        pieces = measure.label(box, connectivity=1)
        beside = {pieces[tuple(o + 1)] for o in offsets if abs(o).sum() == 1} - {0}
        answers.append(len(beside) == 1)
        assert _stays_connected(np.int64(code), faces, adjacency) == answers[-1]
    assert 0.1 < np.mean(answers) < 0.9
    if ndim == 2:
        np.testing.assert_array_equal(safe, answers)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=3), st.data())
def test_cut_is_even(shape, draw):
    size = int(np.prod(shape))
    n = draw.draw(st.integers(1, size))
    cells = _cut(tuple(shape), n, max((size / n) ** (1 / len(shape)), 1), 1)
    sizes = np.bincount(cells.ravel(), minlength=n)
    assert cells.shape == tuple(shape)
    assert len(sizes) == n
    assert sizes.min() >= 1
    firsts = np.unique(cells.ravel(), return_index=True)[1]
    assert (np.diff(firsts) > 0).all()


@pytest.mark.parametrize("shape", [(1, 13, 10), (5, 7, 6)])
@pytest.mark.parametrize("side", [1, 2, 4])
def test_levels(shape, side):
    rng = np.random.default_rng(0)
    ndim = 2 if shape[0] == 1 else 3
    features = rng.random((*shape, 2)).astype(np.float32)
    labels = np.kron(rng.integers(0, 3, (2, 4, 4)), np.ones((4, 4, 4), int)).astype(np.int32)
    labels = labels[: shape[0], : shape[1], : shape[2]].copy()
    labels[0, 0, 1] = OUTSIDE
    level = make_level(features, 0.5, side, ndim)
    blocks = level.read(labels)
    positions = 0.5 * np.stack(np.indices(shape), axis=-1)[..., 3 - ndim :]
    everything = np.concatenate([features, positions], axis=-1)
    covered = labels.copy()
    for block in np.ndindex(*blocks.shape):
        at = np.array(block) - level.pad
        start = np.maximum(at, 0) * level.sides
        box = tuple(slice(a, a + s) for a, s in zip(start, level.sides, strict=True))
        if (at < 0).any() or labels[box].size == 0:
            assert blocks[block] == OUTSIDE
            assert level.counts[block] == 0
            continue
        values = np.unique(labels[box])
        assert blocks[block] == (values[0] if len(values) == 1 else MIXED)
        assert level.counts[block] == labels[box].size
        mean = everything[box].reshape(-1, everything.shape[-1]).mean(axis=0)
        np.testing.assert_allclose(level.means[block], mean, rtol=1e-5)
        covered[box] = covered[box] if len(values) > 1 or values[0] < 0 else values[0] + 7
    blocks[blocks >= 0] += 7
    level.write(blocks, labels)
    np.testing.assert_array_equal(labels, covered)


@pytest.mark.parametrize("shape", [(1, 300, 400), (6, 20, 30)])
def test_add_up(shape):
    rng = np.random.default_rng(0)
    labels = _cut(shape, 50, 5, 1)
    labels[rng.random(shape) < 0.1] = OUTSIDE
    features = rng.random((*shape, 3)).astype(np.float32)
    ndim = 2 if shape[0] == 1 else 3
    sums = add_up(labels, features, np.float32(0.25), ndim)
    for k in range(50):
        own = labels == k
        positions = 0.25 * np.argwhere(own).sum(axis=0)[3 - ndim :]
        expected = [own.sum(), *features[own].sum(axis=0), *positions]
        np.testing.assert_allclose(sums[k], expected, rtol=1e-5)


def test_join_similar_takes_the_cheapest():
    labels = np.arange(6, dtype=np.int32).reshape(1, 1, 6)
    values = np.array([0.0, 1.0, 10.0, 10.5, 30.0, 0.0])  # the last is alike, but far away
    sums = np.column_stack([np.ones(6), values])
    joined, number = join_similar(labels, sums, 4)
    np.testing.assert_array_equal(joined.ravel(), [0, 0, 1, 1, 2, 3])
    np.testing.assert_array_equal(number, joined.ravel())
    np.testing.assert_array_equal(join_similar(labels, sums, 3)[1], [0, 0, 0, 0, 1, 2])
    apart = np.array([[[0, -1, 1, 2]]], np.int32)
    np.testing.assert_array_equal(join_similar(apart, sums[:3], 1)[0], [[[0, -1, 1, 1]]])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_segments": 0}, ValueError, "etps: n_segments is 0"),
        ({"n_segments": 2.0}, TypeError, "etps: n_segments is 2.0"),
        ({"compactness": -1}, ValueError, "etps: compactness is -1"),
        ({"boundary": -1}, ValueError, "etps: boundary is -1"),
        ({"start_factor": 0.5}, ValueError, "etps: start_factor is 0.5"),
        ({"max_iter": 0}, ValueError, "etps: max_iter is 0"),
        ({"sigma": np.nan}, ValueError, "etps: sigma is nan"),
        ({"color_space": "hsv"}, ValueError, "etps: color_space is 'hsv'"),
        ({"min_size_factor": 2}, ValueError, "etps: min_size_factor is 2"),
        ({"data_range": -1}, ValueError, "etps: data_range is -1"),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        etps(np.zeros((4, 4)), **options)
