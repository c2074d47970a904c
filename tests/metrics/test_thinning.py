"""Thinning against scikit-image's, which is slow."""

import numpy as np
import pytest
from scipy import ndimage
from skimage import morphology

from segalgos.metrics._thinning import thin


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("smooth", [0, 1, 3])
def test_equals_scikit_image(seed, smooth):
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 50, 2)
    noise = ndimage.gaussian_filter(rng.random(shape), smooth)
    mask = noise >= np.quantile(noise, rng.random())
    np.testing.assert_array_equal(thin(mask), morphology.thin(mask))


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (6, 1), (2, 2), (17, 30)])
def test_full_and_empty_masks(shape):
    full = np.ones(shape, bool)
    np.testing.assert_array_equal(thin(full), morphology.thin(full))
    assert not thin(~full).any()


def test_any_layout_and_nothing_is_written():
    mask = np.random.default_rng(0).random((30, 40)) < 0.6
    expected = thin(mask)
    before = mask.copy()
    mask.flags.writeable = False
    np.testing.assert_array_equal(thin(mask), expected)
    np.testing.assert_array_equal(mask, before)
    np.testing.assert_array_equal(thin(np.asfortranarray(mask)), expected)
    wide = np.repeat(mask, 2, axis=1)
    np.testing.assert_array_equal(thin(wide[:, ::2]), expected)


def test_keeps_what_is_connected():
    rng = np.random.default_rng(1)
    mask = ndimage.gaussian_filter(rng.random((120, 150)), 2) > 0.5
    thinned = thin(mask)
    assert thinned.sum() < mask.sum() / 2
    everything = np.ones((3, 3))
    assert ndimage.label(thinned, everything)[1] == ndimage.label(mask, everything)[1]
    after, before = (ndimage.label(np.pad(~m, 1, constant_values=True))[1] for m in (thinned, mask))
    assert after == before
