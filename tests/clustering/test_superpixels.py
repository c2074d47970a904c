"""One door to all superpixels."""

import numpy as np
import pytest
from skimage import data

from segalgos.clustering import superpixels as module
from segalgos.clustering.etps import etps
from segalgos.clustering.slic import slic
from segalgos.clustering.superpixels import superpixels

IMAGE = data.astronaut()[:80, :100]


@pytest.mark.parametrize(("method", "function"), [("slic", slic), ("etps", etps)])
def test_equals_the_methods_own_function(method, function):
    mask = np.hypot(*np.mgrid[-40:40, -50:50]) < 38
    labels = superpixels(IMAGE, 30, method=method, mask=mask, compactness=4, sigma=0.5)
    np.testing.assert_array_equal(labels, function(IMAGE, 30, mask=mask, compactness=4, sigma=0.5))
    volume = np.random.default_rng(0).random((6, 7, 8))
    labels = superpixels(volume, 9, method=method, channel_axis=None)
    np.testing.assert_array_equal(labels, function(volume, 9, channel_axis=None))


def test_slico_is_adaptive_slic():
    expected = slic(IMAGE, 30, adaptive_compactness=True, sigma=1)
    np.testing.assert_array_equal(superpixels(IMAGE, 30, method="slico", sigma=1), expected)
    with pytest.raises(TypeError, match="'slico' has no option 'adaptive_compactness'"):
        superpixels(IMAGE, method="slico", adaptive_compactness=False)


def test_slic_unless_told_otherwise():
    np.testing.assert_array_equal(superpixels(IMAGE), slic(IMAGE, 250))


@pytest.mark.parametrize("method", module.METHODS)
def test_every_method(method):
    labels = superpixels(IMAGE, 50, method=method)
    assert labels.shape == IMAGE.shape[:2]
    assert 45 <= labels.max() + 1 <= 55


def test_unknown_options_are_named():
    with pytest.raises(TypeError, match=r"'slic' has no option 'boundary', 'ratio': its options"):
        superpixels(IMAGE, boundary=1, compactness=3, ratio=2)
    with pytest.raises(TypeError, match=r"options are compactness, boundary, start_factor, .*"):
        superpixels(IMAGE, method="etps", spacing=2)


@pytest.mark.parametrize("method", ["SLIC", "watershed", None, 3])
def test_unknown_methods(method):
    with pytest.raises(ValueError, match=r"superpixels: method is .*, expected one of 'slic'"):
        superpixels(IMAGE, method=method)


def test_bad_values_are_named_by_the_method():
    with pytest.raises(ValueError, match="etps: compactness is -1"):
        superpixels(IMAGE, method="etps", compactness=-1)
    with pytest.raises(TypeError, match=r"slic: n_segments is 2\.5"):
        superpixels(IMAGE, 2.5)
