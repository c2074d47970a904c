import numpy as np
import pytest
from scipy import ndimage
from skimage import data, feature

from segalgos import pixel_features
from segalgos.pixels.features import compute_features, feature_names, halo


@pytest.fixture
def image():
    return np.random.default_rng(0).normal(size=(23, 31, 3)).astype(np.float32)


def by_name(image, **options):
    names = feature_names(image.shape[-1], options.get("scales", (1, 2, 4, 8)))
    features = pixel_features(image, **options)
    assert features.dtype == np.float32
    assert features.shape == (*image.shape[:2], len(names))
    return dict(zip(names, np.moveaxis(features, -1, 0), strict=True))


def test_gaussian_and_gradient_are_scipys(image):
    features = by_name(image)
    for c in range(3):
        smooth = ndimage.gaussian_filter(image[..., c].astype(float), 2, truncate=3)
        np.testing.assert_allclose(features[f"intensity[{c}] 2"], smooth, atol=1e-5)
        rows, cols = np.gradient(smooth)  # differs from ours only at the border
        np.testing.assert_allclose(
            features[f"gradient[{c}] 2"][1:-1, 1:-1], np.hypot(rows, cols)[1:-1, 1:-1], atol=1e-5
        )


def test_hessian_adds_up_to_the_laplacian_and_matches_numpy(image):
    features = by_name(image)
    grey = ndimage.gaussian_filter(image.mean(-1).astype(float), 4, truncate=3)
    first = np.gradient(grey)
    hessian = np.array([np.gradient(g) for g in first])
    values = np.linalg.eigvalsh(np.moveaxis(hessian, (0, 1), (-2, -1)))
    inner = (slice(2, -2), slice(2, -2))
    np.testing.assert_allclose(features["hessian0 4"][inner], values[..., 1][inner], atol=1e-5)
    np.testing.assert_allclose(features["hessian1 4"][inner], values[..., 0][inner], atol=1e-5)
    np.testing.assert_allclose(
        features["laplacian 4"], features["hessian0 4"] + features["hessian1 4"], atol=1e-5
    )


def test_structure_tensor_tells_a_corner_from_an_edge():
    image = np.zeros((40, 40), np.float32)
    image[20:, 20:] = 1
    features = by_name(image[..., None], scales=(2,))
    corner, edge = (20, 20), (20, 35)
    assert features["structure1 2"][corner] > 5 * features["structure1 2"][edge]
    tensor = feature.structure_tensor(image, sigma=2, order="rc")
    assert tensor[0].shape == image.shape


def test_deviation_is_the_local_standard_deviation(image):
    features = by_name(image, scales=(2,))
    grey = image.mean(-1).astype(float)
    mean = ndimage.gaussian_filter(grey, 2, truncate=3)
    square = ndimage.gaussian_filter(grey**2, 2, truncate=3)
    np.testing.assert_allclose(features["deviation 2"], np.sqrt(square - mean**2), atol=1e-3)


def test_every_feature_is_in_the_images_unit(image):
    ours = pixel_features(image)
    np.testing.assert_array_equal(pixel_features(image * 1024), ours * 1024)


def test_volumes_have_three_eigenvalues():
    volume = np.random.default_rng(0).normal(size=(7, 9, 11)).astype(np.float32)
    features = pixel_features(volume, scales=(1,), channel_axis=None)
    names = feature_names(1, (1,), ndim=3)
    assert features.shape == (7, 9, 11, len(names))
    values = features[..., [names.index(f"hessian{i} 1") for i in range(3)]]
    assert (np.diff(values, axis=-1) <= 1e-6).all()
    np.testing.assert_allclose(values.sum(-1), features[..., names.index("laplacian 1")], atol=1e-5)


def test_a_tile_with_its_halo_gives_the_whole_images_features():
    image = data.astronaut()[:200, :100].astype(np.float32)
    scales = (1, 2, 4)
    whole = compute_features(image, scales)
    margin = halo(scales)
    tile = compute_features(image[80 - margin : 120 + margin], scales)[margin : margin + 40]
    np.testing.assert_array_equal(tile, whole[80:120])
    short = compute_features(image[80 - margin // 2 : 120], scales)[margin // 2 :]
    assert not np.array_equal(short, whole[80:120])


@pytest.mark.parametrize("value", [0.0, 1e-40, 1e30, 3.4e38])
def test_extreme_values_stay_finite(value):
    image = np.full((5, 6), value, np.float32)
    image[2, 3] = -value
    assert np.isfinite(pixel_features(image)).all()


@pytest.mark.parametrize("scales", [[], "12", [0], [1, -2], [np.nan], 3])
def test_bad_scales_are_refused(scales):
    with pytest.raises((ValueError, TypeError), match="pixel_features: scales"):
        pixel_features(np.zeros((4, 4)), scales)
