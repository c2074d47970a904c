"""Gaussian smoothing."""

import numpy as np
import pytest
from scipy import ndimage

from segalgos.parallel import thread_limit
from segalgos.smoothing import gaussian


@pytest.mark.parametrize(
    "shape",
    [(40, 50, 3), (5, 7, 2), (1, 60, 1), (60, 1, 3), (1, 1, 4), (9, 20, 2100, 1), (1, 5, 6, 2)],
)
@pytest.mark.parametrize("sigma", [0.3, 0.8, 3.0])
def test_equals_scipy(shape, sigma):
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    before = image.copy()
    expected = ndimage.gaussian_filter(image.astype(float), (sigma,) * (image.ndim - 1) + (0,))
    np.testing.assert_allclose(gaussian(image, sigma), expected, atol=2e-6)
    np.testing.assert_array_equal(image, before)


def test_sigma_0_changes_nothing():
    image = np.random.default_rng(0).random((4, 5, 1)).astype(np.float32)
    np.testing.assert_array_equal(gaussian(image, 0.0), image)


def test_within_a_mask():
    rng = np.random.default_rng(1)
    image = rng.random((30, 40, 2)).astype(np.float32)
    mask = rng.random((30, 40)) > 0.5
    other = image.copy()
    other[~mask] = 77
    np.testing.assert_array_equal(
        gaussian(image, 2.0, mask)[mask], gaussian(other, 2.0, mask)[mask]
    )
    constant = np.full_like(image, 3)
    np.testing.assert_allclose(gaussian(constant, 2.0, mask)[mask], 3, rtol=1e-5)
    full = np.ones_like(mask)
    np.testing.assert_allclose(gaussian(image, 2.0, full), gaussian(image, 2.0), rtol=1e-5)


def test_any_number_of_threads():
    image = np.random.default_rng(2).random((300, 400, 3)).astype(np.float32)
    with thread_limit(1):
        one = gaussian(image, 1.5)
    with thread_limit(3):
        np.testing.assert_array_equal(gaussian(image, 1.5), one)
