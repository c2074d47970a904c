"""Filter bank and textons."""

import numpy as np
import pytest
from scipy import ndimage
from skimage import data

from segalgos.contours import textons as module
from segalgos.contours.textons import textons
from segalgos.parallel import thread_limit


def dense_filters(sigma):
    places, weights, starts = module._bank(sigma)
    reach = np.abs(places).max()
    filters = np.zeros((module.N_FILTERS, 2 * reach + 1, 2 * reach + 1))
    for f in range(module.N_FILTERS):
        taps = slice(starts[f], starts[f + 1])
        np.add.at(filters[f], tuple(places[taps].T + reach), weights[taps])
    return filters


@pytest.mark.parametrize("sigma", [0.7, 1.0, 2.0])
def test_filters(sigma):
    filters = dense_filters(sigma)
    np.testing.assert_allclose(filters.sum(axis=(1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(np.abs(filters).sum(axis=(1, 2)), 1, atol=1e-6)
    turned = filters[:, ::-1, ::-1]
    even = [*range(0, 16, 2), 16]
    np.testing.assert_allclose(turned[even], filters[even], atol=1e-6)
    np.testing.assert_allclose(turned[1:16:2], -filters[1:16:2], atol=1e-6)
    # A quarter turn takes orientation k to k + 4.
    np.testing.assert_allclose(np.rot90(filters[:8], axes=(1, 2)), filters[8:16], atol=1e-6)


@pytest.mark.parametrize("shape", [(40, 50), (1, 7), (60, 1)])
def test_responses_equal_scipy(shape):
    plane = np.random.default_rng(0).random(shape).astype(np.float32)
    got = module._responses(plane, 1.0)
    for f, taps in enumerate(dense_filters(1.0)):
        expected = ndimage.correlate(plane.astype(float), taps, mode="reflect")
        np.testing.assert_allclose(got[..., f], expected, atol=1e-5)


@pytest.mark.parametrize("width", [1006, 1007, 1012, 1017])
def test_the_last_chunk_looks_at_nothing_beyond_its_window(width, monkeypatch):
    calls = []

    def check(window, n_columns, reach, offsets, weights, starts, out):
        first = reach * (n_columns + 1)
        last = first + (out.shape[0] * n_columns - 1) // module.CHUNK * module.CHUNK
        assert first + offsets.min() >= 0
        assert last + offsets.max() + module.CHUNK <= window.size
        calls.append(width)

    monkeypatch.setattr(module, "_filter_strip", check)
    module._responses(np.zeros((1, width), np.float32), 1.0)
    assert calls


def test_textures_part():
    labels = textons(data.brick()[:200, :200], 16)
    assert labels.dtype == np.int32
    assert labels.min() == 0
    assert labels.max() < 16
    image = np.zeros((60, 120))
    image[::2, :60] = image[:, 60::2] = 1
    labels = textons(image, 8)
    assert not set(labels[:, :45].ravel()) & set(labels[:, 75:].ravel())


def test_one_kind_of_nothing():
    assert not textons(np.full((9, 12), 7.0)).any()
    assert textons(np.zeros((1, 1))).tolist() == [[0]]


def test_any_dtype_and_number_of_threads():
    image = data.astronaut()[100:260, 100:300]
    with thread_limit(1):
        labels = textons(image, 32)
    with thread_limit(3):
        np.testing.assert_array_equal(textons(image, 32), labels)
    np.testing.assert_array_equal(textons(image.astype(np.float64), 32), labels)


def test_mask():
    rng = np.random.default_rng(1)
    image, mask = rng.random((30, 40)), np.ones((30, 40), bool)
    mask[:, 25:] = False
    labels = textons(image, 8, mask=mask, data_range=1.0)
    assert (labels[~mask] == -1).all()
    assert labels[mask].min() == 0
    other = np.where(mask, image, 1 - image)
    np.testing.assert_array_equal(textons(other, 8, mask=mask, data_range=1.0), labels)


def test_errors():
    with pytest.raises(ValueError, match="textons: image has 4 channels, expected 1"):
        textons(np.zeros((5, 5, 4)))
    with pytest.raises(ValueError, match="n_textons"):
        textons(np.zeros((5, 5)), 0)
    with pytest.raises(ValueError, match="textons: random_state is 4294967296"):
        textons(np.zeros((5, 5)), random_state=2**32)
    with pytest.raises(ValueError, match="sigma"):
        textons(np.zeros((5, 5)), sigma=0)
