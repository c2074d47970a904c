"""Borders of instances, weights of the gaps between them, and instances from probabilities."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.distance import cdist

from segalgos.instances.borders import find_borders, gap_weights, split_foreground


def _squares(*corners, shape=(16, 24), side=8):
    ids = np.zeros(shape, np.int32)
    for i, (row, column) in enumerate(corners, start=1):
        ids[row : row + side, column : column + side] = i
    return ids


def _split(ids, border, **changes):
    """Instances from certain probabilities."""
    inside = ((ids > 0) & ~border).astype(np.float32)
    options = {
        "foreground_threshold": 0.5,
        "marker_threshold": 0.5,
        "min_contrast": 0.1,
        "sigma": 0.0,
        "min_size": 0,
    }
    return split_foreground(inside, (ids > 0).astype(np.float32), **{**options, **changes})


def _same_instances(found, ids):
    pairs = np.unique(np.stack([found.ravel(), ids.ravel()]), axis=1)
    return all(len(np.unique(p)) == len(p) for p in pairs) and (found > 0).sum() == (ids > 0).sum()


def _brute_borders(ids, width, max_gap):
    """Compare every pixel with every other; no instance here is all border."""
    pixels = np.argwhere(np.ones(ids.shape, bool))
    flat, far = ids.ravel(), cdist(pixels, pixels, "chebyshev")
    other = flat[:, None] != flat[None, :]
    border = (flat > 0) & (other & (far <= width)).any(axis=1)
    if max_gap is not None:
        border &= (other & (flat > 0)[None, :] & (far <= width + max_gap)).any(axis=1)
    return border.reshape(ids.shape)


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("max_gap", [None, 0, 1, 2])
def test_borders_against_brute_force(width, max_gap):
    ids = _squares((2, 1), (4, 9), (2, 19)) * np.int32(3)  # touching; a gap of 2; gaps in ids
    border = find_borders(ids, width, max_gap=max_gap)
    np.testing.assert_array_equal(border, _brute_borders(ids, width, max_gap))


def test_borders_of_touching_squares():
    ids = _squares((4, 2), (4, 10))
    outline = find_borders(ids, 1)
    assert outline.sum() == 2 * (8**2 - 6**2)
    touching = np.zeros_like(outline)
    touching[4:12, 9:11] = True
    np.testing.assert_array_equal(find_borders(ids, 1, max_gap=0), touching)
    apart = _squares((4, 2), (4, 13))
    assert not find_borders(apart, 1, max_gap=2).any()
    assert find_borders(apart, 1, max_gap=3).sum() == 16


def test_the_edge_of_the_image_is_no_border():
    ids = np.ones((6, 7), np.int32)
    assert not find_borders(ids, 2).any()
    ids[:, 3:] = 2
    expected = np.zeros(ids.shape, bool)
    expected[:, 2:4] = True
    np.testing.assert_array_equal(find_borders(ids, 1), expected)


def test_every_instance_keeps_one_core():
    ids = np.zeros((20, 30), np.int32)
    ids[2:4, 2:4] = 1  # all border
    ids[8:13, 2:7] = 2  # all border for a width of 3, but its middle is deepest
    ids[2:9, 12:19] = ids[3:8, 22:27] = 3
    ids[5, 19:22] = 3  # a dumb-bell, which its border cuts in parts
    border = find_borders(ids, 3)
    assert not border[2:4, 2:4].any()
    assert border[8:13, 2:7].sum() == 24
    assert not border[10, 4]
    cores = np.where(border, 0, ids)
    for i in (1, 2, 3):
        assert ndimage.label(cores == i, np.ones((3, 3)))[1] == 1
    assert not border[5, 15]  # the larger part's core is kept
    border = find_borders(ids, 1)
    assert border[3:8, 22:27].all()


def test_no_instances():
    ids = np.zeros((5, 6), np.int32)
    assert not find_borders(ids, 2, max_gap=1).any()
    assert (gap_weights(ids, 10, 5) == 1).all()
    assert not _split(ids, find_borders(ids, 1)).any()


@pytest.mark.parametrize("sigma", [1.0, 2.5])
def test_gap_weights_follow_the_equation(sigma):
    ids = _squares((4, 2), (4, 13), (1, 21), shape=(16, 30), side=6)
    pixels = np.argwhere(np.ones(ids.shape, bool))
    distances = [cdist(pixels, np.argwhere(ids == i)).min(axis=1) for i in (1, 2, 3)]
    nearest, second, _ = np.sort(distances, axis=0)
    expected = 1 + 10 * np.exp(-((nearest + second) ** 2) / (2 * sigma**2))
    weights = gap_weights(ids, 10, sigma)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights.ravel(), expected, atol=10 * np.exp(-8))
    middle_of_gap = weights[6, 10]
    assert middle_of_gap > weights[15, 0]


def test_one_instance_has_no_gap():
    assert (gap_weights(_squares((2, 2)), 10, 5) == 1).all()


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("max_gap", [None, 0, 3])
def test_certain_probabilities_give_back_the_instances(width, max_gap):
    ids = _squares((0, 0), (0, 8), (8, 3), (6, 16))
    border = find_borders(ids, width, max_gap=max_gap)
    found = _split(ids, border)
    assert found.dtype == np.int32
    assert _same_instances(found, ids)
    smoothed = _split(ids, border, sigma=1.0)
    assert smoothed.max() == 4
    np.testing.assert_array_equal(smoothed > 0, ids > 0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2]))
def test_certain_probabilities_give_back_boxes_everywhere(seed, width):
    rng = np.random.default_rng(seed)
    ids = np.zeros((40, 50), np.int32)
    for i in range(1, 13):
        height, breadth = rng.integers(6, 14, 2)
        row, column = rng.integers(0, 40 - height), rng.integers(0, 50 - breadth)
        place = ids[row : row + height, column : column + breadth]
        if not place.any():
            place[:] = i
    assert _same_instances(_split(ids, find_borders(ids, width)), ids)


def test_one_instance_fills_the_image():
    ids = np.ones((9, 7), np.int32)
    np.testing.assert_array_equal(_split(ids, find_borders(ids, 2)), ids)


def test_contrast_parts_peaks():
    inside = np.float32([[0.9, 0.9, 0.6, 0.8, 0.8]])
    foreground = np.ones_like(inside)
    options = {"foreground_threshold": 0.5, "sigma": 0.0, "min_size": 0}
    both = split_foreground(inside, foreground, min_contrast=0.15, marker_threshold=0, **options)
    assert len(np.unique(both)) == 2
    assert both.min() == 1
    one = split_foreground(inside, foreground, min_contrast=0.3, marker_threshold=0, **options)
    assert (one == 1).all()
    high = split_foreground(inside, foreground, min_contrast=0.15, marker_threshold=0.85, **options)
    assert high[0, 0] == 1
    assert high[0, 4] == 0


def test_small_instances_holes_and_mask():
    ids = _squares((1, 1), (1, 12), side=8)
    ids[4, 4] = 0  # a hole
    ids[14, 20:23] = 3
    border = np.zeros(ids.shape, bool)
    found = _split(ids, border, min_size=4)
    assert sorted(np.unique(found)) == [0, 1, 2]
    assert (found[1:9, 1:9] == found[1, 1]).all()
    assert (found[14] == 0).all()
    mask = np.ones(ids.shape, bool)
    mask[4, 4] = mask[:, 15:] = False
    masked = _split(ids, border, mask=mask)
    assert (masked[~mask] == 0).all()
    assert (masked[1:9, 12:15] > 0).all()


def test_a_hole_that_is_another_instance_stays():
    ids = np.ones((9, 9), np.int32)
    ids[3:6, 3:6] = 2
    found = _split(ids, find_borders(ids, 1))
    assert _same_instances(found, ids)
