"""Units of intensity and CIE Lab."""

import numpy as np
import pytest
from skimage.color import rgb2lab

from segalgos.color import data_range_of, find_data_range, rescale, rgb_to_lab
from segalgos.parallel import thread_limit


@pytest.mark.parametrize(
    ("peak", "expected"),
    [(0, 1), (0.3, 1), (1, 1), (-1, 1), (2, 255), (255, 255), (-256, 65535), (7e4, 7e4)],
)
def test_data_range_goes_by_value(peak, expected):
    assert data_range_of(np.array([[[0.0], [peak]]])) == pytest.approx(expected)


def test_data_range_does_not_go_by_dtype():
    image = np.array([[[0], [200]]])
    for dtype in (np.uint8, np.uint16, np.int64, np.float32):
        assert data_range_of(image.astype(dtype)) == 255


def test_data_range_sees_the_mask_only():
    image = np.array([[[0.5], [1000.0]]])
    assert data_range_of(image, np.array([[True, False]])) == 1


def test_find_data_range_refuses_one_that_is_far_too_small():
    image = np.full((2, 2, 1), 1e30, np.float32)
    assert find_data_range(image, None, None, "slic") == pytest.approx(1e30)
    with pytest.raises(ValueError, match=r"slic: data_range is 1, but the image reaches 1e\+30"):
        find_data_range(image, None, 1.0, "slic")


def test_rescale_gives_new_float32():
    image = np.array([[0, 51, 255]], np.uint8)
    scaled = rescale(image, 255.0, 100.0)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, [[0, 20, 100]], rtol=1e-6)


def _cube(n=41):
    axes = [np.linspace(0, 1, n)] * 3
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(n, -1, 3)


def test_lab_equals_skimage():
    rgb = _cube()
    expected = rgb2lab(rgb)
    for data_range in (1.0, 255.0, 65535.0):
        lab = rgb_to_lab((rgb * data_range).astype(np.float32), data_range)
        assert lab.dtype == np.float32
        np.testing.assert_allclose(lab, expected, atol=1e-3)


def test_lab_of_dark_values_equals_skimage():
    rgb = (_cube(21) * 0.02).astype(np.float32)
    np.testing.assert_allclose(rgb_to_lab(rgb, 1.0), rgb2lab(rgb.astype(float)), atol=1e-3)


def test_lab_of_uint8_equals_skimage():
    rgb = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    rgb[0, 0], rgb[0, 1] = 0, 255
    np.testing.assert_allclose(rgb_to_lab(rgb, 255.0), rgb2lab(rgb), atol=1e-3)


def test_lab_goes_on_outside_the_range():
    rgb = np.array([[[-0.5, 1.5, 0.5], [1e30, -1e30, 0], [3e38, 3e38, -3e38]]], np.float32)
    assert np.isfinite(rgb_to_lab(rgb, 1.0)).all()
    grey = np.repeat(np.linspace(-1, 3, 401, dtype=np.float32)[None, :, None], 3, axis=-1)
    lightness = rgb_to_lab(grey, 1.0)[0, :, 0]
    assert (np.diff(lightness) > 0).all()
    # Both ways of computing meet at the ends of the range.
    np.testing.assert_allclose(
        lightness[100:201], rgb_to_lab(grey[:, 100:201], 1.0)[0, :, 0], atol=1e-3
    )


def test_lab_of_volumes_and_any_number_of_threads():
    rgb = np.random.default_rng(1).random((3, 200, 300, 3)).astype(np.float32)
    with thread_limit(1):
        one = rgb_to_lab(rgb, 1.0)
    with thread_limit(4):
        np.testing.assert_array_equal(rgb_to_lab(rgb, 1.0), one)
    assert one.shape == rgb.shape
