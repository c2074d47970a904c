"""Spectral contours and gPb."""

import numpy as np
import pytest
from skimage import data

from segalgos import (
    UCMSegmenter,
    globalized_pb,
    multiscale_pb,
    non_maximum_suppression,
    spectral_contours,
    thread_limit,
)


@pytest.fixture(scope="module")
def discs():
    """Two discs with a gap in the outline of one, and a busy background."""
    rows, columns = np.indices((70, 100))
    image = 0.35 + np.random.default_rng(0).normal(0, 0.03, rows.shape)
    image[(rows - 35) ** 2 + (columns - 28) ** 2 < 20**2] += 0.4
    image[(rows - 35) ** 2 + (columns - 74) ** 2 < 18**2] += 0.3
    return np.clip(image, 0, 1)


def test_slopes_equal_finite_differences_of_smoothed_vectors():
    """A ramp and an edge, in every direction."""
    rows, columns = np.indices((40, 40)).astype(np.float32)
    for k in range(8):
        angle = k * np.pi / 8
        ramp = np.cos(angle) * rows + np.sin(angle) * columns
        vectors = np.stack([np.ones_like(ramp), ramp, 5 * ramp])
        strength = spectral_contours([0, 0.04, 0.25], vectors)
        inside = strength[:, 8:-8, 8:-8]
        expected = (1 / 0.2 + 1 / 0.5) / np.ptp(ramp)  # both are scaled to reach from 0 to 1
        turn = np.abs(np.cos((np.arange(8) - k) * np.pi / 8))
        np.testing.assert_allclose(
            inside, expected * turn[:, None, None] * np.ones_like(inside), rtol=0.02, atol=1e-6
        )


def test_small_values_count_more_up_to_a_limit():
    plane = np.tile(np.repeat([0.0, 1.0], 10), (20, 1))
    vectors = np.stack([np.ones_like(plane), plane])
    peaks = [spectral_contours([0, value], vectors).max() for value in (1e-2, 1e-4, 1e-5, 0, -1e-8)]
    np.testing.assert_allclose(peaks[1] / peaks[0], 10, rtol=1e-5)
    assert peaks[2] == peaks[3] == peaks[4] > peaks[1]


def test_constant_vectors_have_no_contours():
    assert (spectral_contours([0, 1], np.ones((2, 9, 9))) == 0).all()
    assert spectral_contours([0], np.ones((1, 9, 9))).shape == (8, 9, 9)


def test_masks_are_no_contours():
    mask = np.zeros((30, 40), bool)
    mask[5:25, 5:35] = True
    vectors = np.stack([mask, mask * 0.5]).astype(float)
    assert spectral_contours([0, 0.01], vectors, mask=mask).max() < 1e-6
    assert spectral_contours([0, 0.01], vectors).max() > 1


@pytest.mark.parametrize("mode", ["grey", "colour"])
def test_outlines_are_found(discs, mode):
    image = discs if mode == "grey" else np.dstack([discs, discs * 0.8, discs])
    strengths = globalized_pb(image)
    assert strengths.shape == (8, 70, 100)
    assert strengths.dtype == np.float32
    assert 0 <= strengths.min() <= strengths.max() <= 1
    thin = non_maximum_suppression(strengths)
    rows, columns = np.nonzero(thin > 0.5)
    far = [np.hypot(rows - 35, columns - c) - r for c, r in ((28, 20), (74, 18))]
    assert np.abs(far).min(axis=0).max() < 2.5
    assert len(rows) > 130


def test_differs_from_local_contours_by_what_is_global(discs):
    ours, local = globalized_pb(discs).max(axis=0), multiscale_pb(discs).max(axis=0)
    edge, flat = np.s_[33:37, 46:50], np.s_[2:10, 44:56]
    assert ours[flat].max() < ours[edge].max() / 3
    assert np.abs(ours - local).max() > 0.01


def test_outside_the_mask_is_nothing(discs):
    mask = np.ones(discs.shape, bool)
    mask[:, :20] = False
    strengths = globalized_pb(discs, mask=mask)
    assert (strengths[:, ~mask] == 0).all()
    np.testing.assert_array_equal(strengths, globalized_pb(np.where(mask, discs, 0), mask=mask))


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (3, 4), (24, 24)])
def test_constant_thin_and_tiny_images(shape):
    strengths = globalized_pb(np.full(shape, 0.4))
    assert strengths.shape == (8, *shape)
    assert np.isfinite(strengths).all()
    assert strengths.max() < 0.5


def test_threads_change_nothing(discs):
    found = []
    for n in (1, 2):
        with thread_limit(n):
            found.append(globalized_pb(discs))
    np.testing.assert_array_equal(*found)


def test_regions_by_name():
    image = data.coffee()[100:180, 120:220]
    labels = UCMSegmenter("gpb", n_segments=4).predict(image)
    assert len(np.unique(labels)) == 4


def test_bad_arguments():
    with pytest.raises(ValueError, match="globalized_pb: image has 2 channels"):
        globalized_pb(np.zeros((9, 9, 2)))
    with pytest.raises(ValueError, match="there are 2 values and 3 vectors"):
        spectral_contours([0, 1], np.ones((3, 4, 4)))
    with pytest.raises(ValueError, match="spectral_contours: vectors"):
        spectral_contours([0, 1], np.ones((3, 4)))
    with pytest.raises(ValueError, match="spectral_contours: values"):
        spectral_contours([0, np.nan], np.ones((2, 4, 4)))
