"""Gradients of brightness, colour and texture."""

import numpy as np
import pytest
from skimage import data

from segalgos import pb_gradients
from segalgos.parallel import thread_limit

TURNED = (np.arange(8) + 4) % 8


def photograph():
    return data.astronaut()[60:140, 150:250]


def test_shape_and_range():
    image = photograph()
    before = image.copy()
    found = pb_gradients(image)
    assert found.strengths.shape == (4, 3, 8, 80, 100)
    assert found.strengths.dtype == np.float32
    assert found.cues == ("L", "a", "b", "texture")
    assert found.radii.tolist() == [[3, 5, 10], *[[5, 10, 20]] * 3]
    assert np.isfinite(found.strengths).all()
    assert found.strengths.min() >= 0
    assert pb_gradients(image, smooth=False).strengths.max() <= 1
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("value", [0, 37, 255])
def test_constant_image_has_none(value, mask):
    image = np.full((30, 40, 3), value, np.uint8)
    inside = np.zeros((30, 40), bool)
    inside[5:20, 3:33] = True
    assert not pb_gradients(image, mask=inside if mask else None).strengths.any()


@pytest.mark.parametrize("k", range(8))
def test_a_step_is_found_where_it_is(k):
    rows, columns = np.mgrid[-40:41, -40:41]
    angle = k * np.pi / 8
    image = (1 + np.sign(np.round(columns * np.sin(angle) + rows * np.cos(angle), 9))) / 2
    strengths = pb_gradients(image).strengths[0]
    for scale in range(3):
        middle = strengths[scale, :, 40, 40]
        assert middle.argmax() == k
        assert middle[k] > 0.6
        profile = strengths[scale, k]
        assert profile.max() <= middle[k] * 1.05
        assert profile[5, 75 if k > 4 else 5] < 0.01


def test_cues_see_what_they_should():
    image = np.full((60, 80, 3), 0.5)
    image[:, 40:] = [0.62, 0.44, 0.42]  # as light, but red
    strengths = pb_gradients(image, smooth=False).strengths[:, 2, 4, 30, 40]
    assert strengths[1] > 5 * strengths[0]
    stripes = np.zeros((60, 120))
    stripes[::2, :60] = stripes[:, 60::2] = 1
    strengths = pb_gradients(stripes, n_textons=16, smooth=False).strengths[:, 2, 4, 30, 60]
    assert strengths[1] > 0.6 > 5 * strengths[0]


def test_turned_image():
    image = photograph()
    before = pb_gradients(image).strengths[:3]
    turned = pb_gradients(np.rot90(image)).strengths[:3]
    # The fit adds in another order.
    np.testing.assert_allclose(turned[:, :, TURNED], np.rot90(before, axes=(3, 4)), atol=1e-5)


def test_any_dtype():
    image = photograph()
    expected = pb_gradients(image).strengths
    for other in (
        image.astype(np.float64) / 255,
        image.astype(np.uint16) * 257,
        np.asfortranarray(image.astype(np.int64)),
    ):
        found = pb_gradients(other).strengths
        # A value at the end of a step may be rounded to the next.
        assert np.abs(found[:3] - expected[:3]).max() < 0.02
    np.testing.assert_array_equal(pb_gradients(image, data_range=255).strengths, expected)


def test_grey_image_is_the_lightness_of_a_colour_one():
    image = photograph()[..., 1]
    grey = pb_gradients(image)
    assert grey.cues == ("L", "texture")
    assert grey.radii.tolist() == [[3, 5, 10], [5, 10, 20]]
    colour = pb_gradients(np.repeat(image[..., None], 3, axis=2))
    np.testing.assert_array_equal(grey.strengths, colour.strengths[[0, 3]])
    assert colour.strengths[1:3].max() < 1e-6


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 3), (1, 5, 3)])
def test_tiny_images(shape):
    image = np.random.default_rng(0).random(shape)
    strengths = pb_gradients(image).strengths
    assert strengths.shape[3:] == shape[:2]
    assert np.isfinite(strengths).all()
    if shape[0] == 1:  # nothing changes from row to row, since rows are mirrored
        assert np.abs(strengths[0, :, 0]).max() < 1e-6


def test_mask():
    image, mask = photograph(), np.ones((80, 100), bool)
    mask[:, 60:] = False
    mask[20:40, 10:30] = False
    other = np.where(mask[..., None], image, 255 - image)
    found = pb_gradients(image, mask=mask, data_range=255).strengths
    np.testing.assert_array_equal(pb_gradients(other, mask=mask, data_range=255).strengths, found)
    assert not found[..., ~mask].any()
    assert found[..., mask].max() > 0.3


def test_values_beyond_white_outside_the_mask_change_nothing():
    image, mask = np.random.default_rng(0).random((80, 100, 3)), np.ones((80, 100), bool)
    mask[:, 60:] = False
    found = pb_gradients(image, mask=mask).strengths
    image[~mask] = -1e30
    np.testing.assert_array_equal(pb_gradients(image, mask=mask).strengths, found)


def test_a_mask_makes_no_contour():
    rng = np.random.default_rng(1)
    image = rng.normal(0.5, 0.05, (60, 60)).clip(0, 1)
    mask = np.zeros((60, 60), bool)
    mask[10:50, 10:50] = True
    inner = pb_gradients(image, data_range=1).strengths[0]
    found = pb_gradients(image, mask=mask, data_range=1).strengths[0]
    assert found.max() < 2 * inner.max()


def test_any_number_of_threads():
    image = photograph()
    with thread_limit(1):
        one = pb_gradients(image).strengths
    with thread_limit(3):
        np.testing.assert_array_equal(pb_gradients(image).strengths, one)


def test_errors():
    image = np.zeros((5, 5))
    with pytest.raises(ValueError, match="image has 2 channels"):
        pb_gradients(np.zeros((5, 5, 2)))
    with pytest.raises(ValueError, match=r"brightness_radii is .*ascending"):
        pb_gradients(image, brightness_radii=(5, 3, 10))
    with pytest.raises(ValueError, match="as many of each"):
        pb_gradients(image, color_radii=(5, 10))
    with pytest.raises(ValueError, match="brightness_radii"):
        pb_gradients(image, brightness_radii=(0, 3, 10))
    with pytest.raises(ValueError, match="brightness_radii is 3, expected integers in a list"):
        pb_gradients(image, brightness_radii=3)
    with pytest.raises(ValueError, match="pb_gradients: random_state is 4294967296"):
        pb_gradients(image, random_state=2**32)
    with pytest.raises(ValueError, match="n_textons"):
        pb_gradients(image, n_textons=0)
    with pytest.raises(ValueError, match="mask has shape"):
        pb_gradients(image, mask=np.ones((4, 5), bool))
