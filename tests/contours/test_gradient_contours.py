"""Gaussian gradients of colour by orientation, against scipy and on steps of known height."""

import numpy as np
import pytest
from scipy import ndimage

from segalgos import gradient_contours
from segalgos.color import rgb_to_lab


def _by_scipy(colors, sigmas, n_orientations):
    """The same by filters and the definition of a slope in a direction."""
    out = np.zeros((n_orientations, *colors.shape[:2]))
    for sigma in sigmas:
        smooth = ndimage.gaussian_filter(colors.astype(float), (sigma, sigma, 0), mode="reflect")
        wide = np.pad(smooth, ((1, 1), (1, 1), (0, 0)), mode="edge")
        rows = (wide[2:, 1:-1] - wide[:-2, 1:-1]) / 2
        columns = (wide[1:-1, 2:] - wide[1:-1, :-2]) / 2
        step = ndimage.gaussian_filter1d(np.repeat([0.0, 1.0], 60), sigma)
        slope = (step[61] - step[59]) / 2
        for k in range(n_orientations):
            angle = k * np.pi / n_orientations
            across = np.cos(angle) * rows + np.sin(angle) * columns
            out[k] += np.linalg.norm(across, axis=-1) / (slope * len(sigmas))
    return out


@pytest.mark.parametrize("n_channels", [1, 2, 3, 4, 9])
def test_against_scipy(n_channels):
    rng = np.random.default_rng(n_channels)
    image = ndimage.gaussian_filter(rng.random((25, 31, n_channels)), (1, 1, 0)).astype(np.float32)
    colors = rgb_to_lab(image, 1.0) if n_channels == 3 else image * 100
    found = gradient_contours(image, sigmas=(1.5, 3), n_orientations=6, channel_axis=-1)
    expected = _by_scipy(colors, (1.5, 3), 6)
    # A step's slope is taken from the Gaussian itself, not from its samples.
    np.testing.assert_allclose(found, expected, rtol=0.03, atol=1e-3)


@pytest.mark.parametrize("sigma", [0, 1, 2, 5])
def test_strength_is_the_height_of_a_step(sigma):
    image = np.full((60, 60), 20, np.uint8)
    image[30:] = 122
    strength = gradient_contours(image, sigmas=[sigma])
    np.testing.assert_allclose(strength[0, 29:31], 40, rtol=0.05)
    assert strength[4].max() < 1e-3  # not along the rows


def test_same_whatever_the_range_and_dtype():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    expected = gradient_contours(image)
    for other in (image.astype(float), image / 255.0, image.astype(np.uint16)):
        np.testing.assert_allclose(gradient_contours(other), expected, atol=0.1)


def test_nothing_comes_from_outside_the_mask():
    rng = np.random.default_rng(0)
    image, mask = rng.random((30, 40, 3)), rng.random((30, 40)) < 0.6
    other = np.where(mask[..., None], image, rng.random(image.shape))
    one, two = (gradient_contours(i, mask=mask, data_range=1) for i in (image, other))
    np.testing.assert_array_equal(one[:, mask], two[:, mask])
    flat = gradient_contours(np.where(mask, 0.5, 0.9), mask=mask)
    assert flat[:, mask].max() < 1e-3


@pytest.mark.parametrize("shape", [(1, 1), (1, 20), (20, 1)])
def test_thin_images(shape):
    assert gradient_contours(np.ones(shape)).max() < 1e-3
    assert gradient_contours(np.random.default_rng(0).random(shape)).shape == (8, *shape)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sigmas": []}, r"sigmas is \[\], expected one number"),
        ({"sigmas": 2.0}, r"sigmas is 2\.0"),
        ({"sigmas": [1, -1]}, r"sigmas\[1\] is -1"),
        ({"n_orientations": 1}, "n_orientations is 1"),
        ({"data_range": 0}, "data_range is 0"),
    ],
)
def test_bad_arguments(options, words):
    with pytest.raises(ValueError, match="gradient_contours: " + words):
        gradient_contours(np.zeros((4, 4)), **options)
