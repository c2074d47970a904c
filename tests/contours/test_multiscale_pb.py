"""mPb: all cues together."""

import numpy as np
import pytest
from skimage import data

from segalgos import multiscale_pb, non_maximum_suppression, pb_gradients
from segalgos.contours.multiscale_pb import BIAS, WEIGHTS, combine_gradients
from segalgos.parallel import thread_limit
from segalgos.warmup import compile_contours


@pytest.mark.parametrize("grey", [False, True])
def test_equals_the_formula(grey):
    image = data.astronaut()[60:110, 150:210]
    image = image[..., 1] if grey else image
    gradients = pb_gradients(image)
    weights = WEIGHTS[gradients.cues]
    score = np.einsum("cs,cskij->kij", weights, np.sqrt(gradients.strengths.astype(float)))
    expected = 1 / (1 + np.exp(-BIAS[gradients.cues] - score))
    found = multiscale_pb(image)
    assert found.dtype == np.float32
    assert found.shape == (8, *image.shape[:2])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_array_equal(combine_gradients(gradients), found)
    assert found.max() > 0.5


@pytest.mark.parametrize("shape", [(60, 80), (60, 80, 3)])
def test_a_step_is_a_thin_contour(shape):
    image = np.zeros(shape)
    image[:, 40:] = 1
    found = multiscale_pb(image)
    assert found.argmax(axis=0)[:, 40].tolist() == [4] * 60
    thin = non_maximum_suppression(found)
    assert (thin > 0.5).sum(axis=1).tolist() == [1] * 60
    assert np.abs(np.nonzero(thin > 0.5)[1] - 39.5).max() <= 0.5


@pytest.mark.parametrize("shape", [(30, 40), (30, 40, 3), (1, 1), (1, 9, 3), (9, 1)])
def test_nothing_is_hardly_a_contour(shape):
    found = multiscale_pb(np.full(shape, 3.0))
    assert found.max() < 0.02
    assert not non_maximum_suppression(found).any()


def test_mask():
    image = data.astronaut()[60:110, 150:210]
    mask = np.ones((50, 60), bool)
    mask[:, 40:] = False
    other = np.where(mask[..., None], image, 255 - image)
    found = multiscale_pb(image, mask=mask, data_range=255)
    assert not found[:, ~mask].any()
    np.testing.assert_array_equal(multiscale_pb(other, mask=mask, data_range=255), found)


def test_any_number_of_threads():
    image = data.astronaut()[60:130, 150:210]
    with thread_limit(1):
        one = multiscale_pb(image)
    with thread_limit(3):
        np.testing.assert_array_equal(multiscale_pb(image), one)


def test_errors():
    with pytest.raises(ValueError, match="multiscale_pb: image has 4 channels"):
        multiscale_pb(np.zeros((5, 5, 4)))
    with pytest.raises(ValueError, match="data_range"):
        multiscale_pb(np.zeros((5, 5)), data_range=0)
    gradients = pb_gradients(
        np.zeros((5, 5)), brightness_radii=[3], color_radii=[5], texture_radii=[5]
    )
    with pytest.raises(ValueError, match=r"combine_gradients: .* and 1 scales, expected"):
        combine_gradients(gradients)


def test_warm_up():
    compile_contours()
