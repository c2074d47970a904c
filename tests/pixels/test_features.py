from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy import ndimage
from skimage import color, data
from skimage.feature import multiscale_basic_features

from segalgos import RandomForestSegmenter, pixel_features
from segalgos.parallel import thread_limit
from segalgos.pixels import segmenter as pixel_segmenter
from segalgos.pixels.features import KINDS, PixelFeatures, feature_names, peak_of

NO_LAB = tuple(kind for kind in KINDS if kind != "lab")
SKIMAGE = {"features": ("gaussian", "gradient", "hessian"), "per_channel": True}
SIGMAS = [0.5, 1, 2, 4, 8, 16]


@pytest.fixture
def image():
    return np.random.default_rng(0).normal(size=(23, 31, 3)).astype(np.float32)


@pytest.fixture
def volume():
    return np.random.default_rng(1).normal(size=(7, 9, 11)).astype(np.float32)


def by_name(image, scales=(1, 2, 4, 8), channel_axis=-1, **options):
    n_channels = image.shape[-1] if channel_axis == -1 else 1
    ndim = image.ndim - (channel_axis == -1)
    chosen = {k: v for k, v in options.items() if k in ("features", "per_channel")}
    names = feature_names(n_channels, scales, ndim, **chosen)
    features = pixel_features(image, scales, channel_axis=channel_axis, **options)
    assert features.dtype == np.float32
    assert features.shape == (*image.shape[:ndim], len(names))
    assert len(set(names)) == len(names)
    return dict(zip(names, np.moveaxis(features, -1, 0), strict=True))


# --- scikit-image's features -------------------------------------------------------------


def assert_same_as_skimage(image, channel_axis):
    n_channels = image.shape[-1] if channel_axis == -1 else 1
    ndim = image.ndim - (channel_axis == -1)
    ours = by_name(image, SIGMAS, channel_axis, **SKIMAGE)
    theirs = multiscale_basic_features(image, channel_axis=channel_axis)
    assert theirs.shape[-1] == len(ours)
    names = [
        f"{kind}[{c}] {sigma:g}"
        for c in range(n_channels)
        for sigma in SIGMAS
        for kind in ("gaussian", "gradient", *(f"hessian{i}" for i in range(ndim)))
    ]
    white = 255 if image.dtype == np.uint8 else 1
    for name, column in zip(names, np.moveaxis(theirs, -1, 0), strict=True):
        # Theirs is rounded to float32 too, which shows where all derivatives are tiny.
        rounding = 4 * np.finfo(np.float32).eps * image.max() / white
        error = np.abs(ours[name] / white - column).max()
        assert error < 1e-3 * np.ptp(column) + rounding, name


@pytest.mark.parametrize(
    ("shape", "channel_axis"), [((301, 290, 3), -1), ((50, 77), None), ((6, 2, 3), -1)]
)
def test_the_documented_call_is_scikit_images(shape, channel_axis):
    photo = data.astronaut()[60 : 60 + shape[0], 180 : 180 + shape[1]]
    assert_same_as_skimage(photo if channel_axis == -1 else photo[..., 0], channel_axis)


@pytest.mark.parametrize("channel_axis", [None, -1])
def test_the_documented_call_is_scikit_images_in_volumes(channel_axis):
    # A pile of moving crops of a photograph: like a volume, smooth along depth.
    photo = data.astronaut()
    pile = np.stack([photo[60 + z : 90 + z, 200 : 240 - z + z] for z in range(14)])
    pile = pile.astype(np.float32) / 255
    assert_same_as_skimage(pile if channel_axis == -1 else pile[..., 1].copy(), channel_axis)


# --- every kind against a short reference ------------------------------------------------


def smooth(field, sigma):
    return ndimage.gaussian_filter(field.astype(float), sigma, mode="nearest", truncate=4)


def slope(field, axis, size=1.0):
    if field.shape[axis] == 1:
        return np.zeros_like(field)
    return np.gradient(field, size, axis=axis)


def windows(field, radii, steps=1):
    padded = np.pad(field, [(r, r) for r in radii], mode="edge")
    views = np.lib.stride_tricks.sliding_window_view(padded, [2 * r + 1 for r in radii])
    every = tuple(slice(None, None, max(1, r)) for r in radii) if steps == 3 else ()
    return views[(..., *every)].reshape(*field.shape, -1)


def reference(field, kind, scale, smaller, sizes):
    """One kind of features of one channel, in float64: a list of planes."""
    sigma = [scale / size for size in sizes]
    steps = [max(1, int(s + 0.5)) for s in sigma]
    blurred, axes = smooth(field, sigma), range(field.ndim)
    if kind == "gaussian":
        return [blurred]
    if kind == "gradient":
        squares = []
        for axis in axes:
            edge = ndimage.correlate1d(blurred, [-1, 0, 1], axis, mode="nearest") / sizes[axis]
            for other in set(axes) - {axis}:
                edge = ndimage.correlate1d(edge, [0.25, 0.5, 0.25], other, mode="nearest")
            squares.append(edge**2)
        return [np.sqrt(np.mean(squares, axis=0))]
    first = [slope(blurred, a, sizes[a]) for a in axes]
    if kind in ("laplacian", "hessian"):
        hessian = np.array([[slope(first[a], b, sizes[b]) for b in axes] for a in axes])
        if kind == "laplacian":
            return [np.trace(hessian)]
        values = np.linalg.eigvalsh(np.moveaxis(hessian, (0, 1), (-2, -1)))
        return [values[..., -1 - i] for i in axes]
    if kind == "structure":
        tensor = np.array([[smooth(first[a] * first[b], sigma) for b in axes] for a in axes])
        values = np.linalg.eigvalsh(np.moveaxis(tensor, (0, 1), (-2, -1)))
        return [np.sqrt(np.maximum(values[..., -1 - i], 0)) for i in axes]
    if kind == "difference":
        below = field if smaller is None else smooth(field, [smaller / size for size in sizes])
        return [blurred - below]
    # An axis of one pixel adds nothing but copies to a window.
    radii = [step if n > 1 else 0 for step, n in zip(steps, field.shape, strict=True)]
    if kind == "median":
        return [np.median(windows(blurred, steps, steps=3), axis=-1)]
    around = windows(field.astype(float), radii)
    return [around.mean(axis=-1) if kind == "mean" else around.std(axis=-1)]


SHAPES = [(23, 31), (1, 1), (1, 17), (13, 1), (3, 2), (7, 9, 11), (1, 1, 5), (2, 13, 1)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n_channels", [1, 3])
@pytest.mark.parametrize("spaced", [False, True])
def test_every_kind_at_a_scale_is_its_definition(shape, n_channels, spaced):
    image = np.random.default_rng(0).normal(size=(*shape, n_channels)).astype(np.float32)
    sizes = (3.0, 0.5, 0.75)[-len(shape) :] if spaced else (1.0,) * len(shape)
    options = {"spacing": sizes if spaced else None}
    kinds = [kind for kind in KINDS if kind not in ("lab", "position")]
    grey = by_name(image, (2, 0.7), features=kinds, **options)  # not in ascending order
    each = by_name(image, (2, 0.7), features=kinds, per_channel=True, **options)
    channels = [(c, f"[{c}]", image[..., c]) for c in range(n_channels)]
    for (scale, smaller), kind in product([(0.7, None), (2, 0.7)], kinds):
        of_each = kind in ("gaussian", "gradient", "mean")
        for features, wanted in (
            (each, channels),
            (grey, channels if of_each else [(None, "", image.mean(axis=-1))]),
        ):
            for _, where, field in wanted:
                planes = reference(field, kind, scale, smaller, sizes)
                for i, plane in enumerate(planes):
                    name = f"{kind}{i if len(planes) > 1 else ''}{where} {scale:g}"
                    # Roots of eigenvalues near 0 keep half of their digits.
                    loose = 2e-3 if kind == "structure" else 3e-5
                    error = np.abs(features[name] - plane).max()
                    assert error <= loose * max(1, np.abs(plane).max()), name


def test_asking_for_less_changes_nothing(image):
    every = by_name(image, (1, 3), features=NO_LAB)
    for kind in NO_LAB:
        alone = by_name(image, (1, 3), features=(kind,))
        for name, plane in alone.items():
            np.testing.assert_array_equal(plane, every[name])


@pytest.mark.parametrize("n_axes", [2, 3])
@pytest.mark.parametrize("n_chosen", [1, 5, 20])
def test_chosen_features_are_those_of_all(n_axes, n_chosen):
    rng = np.random.default_rng(n_axes)
    image = rng.random((*(24, 21, 9)[:n_axes], 3)).astype(np.float32)
    kinds = KINDS if n_axes == 2 else NO_LAB
    every = PixelFeatures((4, 1, 2), kinds, True, extra=lambda part: part[..., :2] ** 2)
    whole, names = every.compute(image), every.names(3, n_axes, 2)
    for _ in range(6):
        chosen = np.sort(rng.choice(len(names), n_chosen, replace=False))
        some = replace(every, chosen=tuple(chosen.tolist()))
        np.testing.assert_array_equal(some.compute(image), whole[..., chosen])
        assert some.names(3, n_axes, 2) == [names[i] for i in chosen]


def test_structure_tensor_tells_a_corner_from_an_edge():
    image = np.zeros((40, 40, 1), np.float32)
    image[20:, 20:] = 1
    features = by_name(image, (2,))
    corner, edge = (20, 20), (20, 35)
    assert features["structure1 2"][corner] > 5 * features["structure1 2"][edge]


def test_deviation_survives_a_large_offset(image):
    near = by_name(image, (2,))["deviation 2"]
    far = by_name(image + np.float32(10000), (2,))["deviation 2"]
    np.testing.assert_allclose(far, near, rtol=5e-3)


def test_colour_is_described_by_default():
    named = ("gaussian", "gradient", "laplacian", "deviation", "structure", "hessian")
    rng = np.random.default_rng(0)
    for n_channels, more in ((1, ()), (3, ("lab",)), (4, ())):
        image = rng.random((9, 8, n_channels))
        features = pixel_features(image, (1, 2), channel_axis=-1)
        expected = pixel_features(image, (1, 2), features=named + more, channel_axis=-1)
        np.testing.assert_array_equal(features, expected)
        assert feature_names(n_channels, (1, 2))[-3:] == (
            ["lab0", "lab1", "lab2"] if more else ["structure1 2", "hessian0 2", "hessian1 2"]
        )


def test_lab_is_scikit_images():
    photo = data.astronaut()[100:120, 100:130]
    for image in (photo, photo / 255, photo.astype(np.float32)):
        lab = pixel_features(image, features=("lab",))
        np.testing.assert_allclose(lab, color.rgb2lab(photo), atol=5e-3)
    dark = pixel_features(np.where(photo > 90, photo / 255, -1), features=("lab",))
    assert (dark[(photo <= 90).all(axis=-1)] == 0).all()


def test_position_goes_from_edge_to_edge(volume):
    place = by_name(volume, channel_axis=None, features=("position",))
    for axis, n in enumerate(volume.shape):
        along = np.moveaxis(place[f"position{axis}"], axis, 0)
        np.testing.assert_allclose(along[:, 0, 0], (np.arange(n) + 0.5) / n, rtol=1e-6)
        assert (along == along[:, :1, :1]).all()


def test_order_is_that_of_the_arguments(image):
    features = ("hessian", "position", "gaussian", "lab")
    names = feature_names(3, (4, 1), features=features, n_extra=2)
    assert names[:3] == ["hessian0 4", "hessian1 4", "gaussian[0] 4"]
    assert names[5] == "hessian0 1"
    assert names[10:] == ["position0", "position1", "lab0", "lab1", "lab2", "extra0", "extra1"]
    chosen = by_name(np.abs(image), (4, 1), features=features)
    default = by_name(np.abs(image), (1, 4))
    np.testing.assert_array_equal(chosen["hessian1 1"], default["hessian1 1"])


# --- units, extremes, threads ------------------------------------------------------------


@pytest.mark.parametrize("per_channel", [False, True])
def test_every_feature_is_in_the_images_unit(image, volume, per_channel):
    options = {"features": NO_LAB[:-1], "per_channel": per_channel}
    ours = pixel_features(image, **options)
    np.testing.assert_array_equal(pixel_features(image * 1024, **options), ours * 1024)
    options |= {"channel_axis": None, "spacing": (3, 1, 0.7), "scales": (1, 2)}
    ours = pixel_features(volume, **options)
    np.testing.assert_array_equal(pixel_features(volume / 64, **options), ours / 64)


def test_8_bits_are_the_same_numbers():
    photo = data.astronaut()[:40, :50]
    as_float = pixel_features(photo.astype(np.float32), features=KINDS)
    bytes_ = PixelFeatures.checked("here", (1, 2, 4, 8), KINDS).compute(photo)
    columns = [i for i, n in enumerate(feature_names(3, features=KINDS)) if "lab" not in n]
    np.testing.assert_array_equal(bytes_[..., columns], as_float[..., columns])
    np.testing.assert_allclose(bytes_, as_float, atol=2e-3)


@pytest.mark.parametrize("value", [0.0, 1e-40, 1e30, 3.4e38])
def test_extreme_values_stay_finite(value):
    image = np.full((5, 6, 3), value, np.float32)
    image[2, 3] = -value
    for spacing in (None, (1e-30, 1e-30), (1e20, 1e20)):
        scales = [s * (spacing or (1,))[0] for s in (1, 2)]
        features = pixel_features(image, scales, features=KINDS, spacing=spacing)
        assert np.isfinite(features).all()


def test_a_flat_image_has_no_texture():
    names = ("gradient", "laplacian", "difference", "structure", "hessian", "deviation")
    image = np.full((9, 20, 3), 0.7, np.float32)
    assert np.abs(pixel_features(image, features=names)).max() < 1e-6


def test_threads_change_nothing():
    photo = data.astronaut()[:300, :200].astype(np.float32)
    with thread_limit(1):
        alone = pixel_features(photo, (1, 3), features=KINDS)
    with thread_limit(4):
        np.testing.assert_array_equal(pixel_features(photo, (1, 3), features=KINDS), alone)


# --- parts of an image -------------------------------------------------------------------


def neighbours_mean(image):
    """A user's own features: means along rows and columns of the next two pixels."""
    axes = range(image.ndim - 1)
    return np.concatenate(
        [ndimage.uniform_filter1d(image, 5, axis=a, mode="nearest") for a in axes], axis=-1
    )


neighbours_mean.halo = 2

REGIONS = [
    (slice(80, 120), slice(30, 70)),
    (slice(0, 33), slice(0, 200)),
    (slice(150, 200), slice(61, 100)),
    (slice(5, 6), slice(99, 100)),
    (slice(None), slice(2, 5)),
]


@pytest.mark.parametrize("kind", [*KINDS, "extra"])
def test_a_part_has_the_whole_images_features(kind):
    image = data.astronaut()[:200, :100].astype(np.float32)
    image[150:, 60:] /= 300  # a part whose white, taken alone, would be another
    image[:50, 60:] *= -1
    extra = neighbours_mean if kind == "extra" else None
    chosen = PixelFeatures.checked("here", (1, 2, 4), (kind,) * (extra is None), extra=extra)
    whole = chosen.compute(image)
    for region in REGIONS:
        np.testing.assert_array_equal(chosen.compute(image, region), whole[region])
        part = chosen.compute(image, region, peak_of(image))
        np.testing.assert_array_equal(part, whole[region])


@pytest.mark.parametrize("kind", NO_LAB)
def test_a_part_has_the_whole_volumes_features(kind):
    volume = np.random.default_rng(0).normal(size=(30, 21, 26, 2)).astype(np.float32)
    chosen = PixelFeatures.checked("here", (1, 2), (kind,), spacing=(2, 1, 0.8))
    whole = chosen.compute(volume)
    for region in (np.s_[12:15, 5:9, 10:20], np.s_[0:1, 0:21, 0:26], np.s_[25:30, 20:21, 0:3]):
        np.testing.assert_array_equal(chosen.compute(volume, region), whole[region])


@pytest.mark.parametrize("kind", [k for k in NO_LAB if k != "position"])
@pytest.mark.parametrize("spacing", [None, (2, 0.9)])
def test_the_halo_is_exactly_what_features_look_at(kind, spacing):
    chosen = PixelFeatures.checked("here", (1, 2), (kind,), spacing=spacing)
    image = np.random.default_rng(0).random((80, 80, 1)).astype(np.float32)
    before = chosen.compute(image)[40, 40]
    rows, columns = chosen.halo(2)
    for halo, step in ((rows, (1, 0)), (columns, (0, 1))):
        for distance, matters in ((halo, True), (halo + 1, False)):
            changed = image.copy()
            for sign in (-1, 1):
                row, column = 40 + sign * distance * step[0], 40 + sign * distance * step[1]
                changed[row if step[0] else slice(None), column if step[1] else slice(None)] *= 9
            changed = np.maximum(changed, image) if not matters else changed
            # A power of two keeps the numbers that are computed inside the same.
            after = chosen.compute(changed, peak=peak_of(image))[40, 40]
            same = np.array_equal(after, before)
            assert same or matters, (kind, distance)
            # The last taps of a Gaussian may be too small to be seen in float32.
            assert not same or not matters or kind not in ("mean", "deviation")


# --- extra -------------------------------------------------------------------------------


def test_extra_comes_last_and_sees_the_image_in_its_unit(image):
    seen = []

    def extra(part):
        seen.append(part.copy())
        part[...] = 0  # its own: nothing else may change by it
        return seen[-1][..., :2].astype(np.float64) * 3

    features = pixel_features(image, (1,), extra=extra)
    np.testing.assert_array_equal(features[..., :-2], pixel_features(image, (1,)))
    np.testing.assert_array_equal(features[..., -2:], image[..., :2] * 3)
    np.testing.assert_array_equal(seen[0], image)
    only = pixel_features(image, (1,), features=(), extra=extra)
    np.testing.assert_array_equal(only, features[..., -2:])


def test_halo_of_extra():
    chosen = PixelFeatures.checked("here", (1,), ("gaussian",), spacing=(1, 0.5))
    assert chosen.halo(2) == (4, 8)
    with_halo = PixelFeatures.checked("here", (1,), ("gaussian",), extra=neighbours_mean)
    assert with_halo.halo(2) == (4, 4)
    assert PixelFeatures.checked("here", (1,), ("lab",), extra=neighbours_mean).halo(2) == (2, 2)
    assert PixelFeatures.checked("here", (1,), extra=lambda image: image).halo(2) is None


@pytest.mark.parametrize("far", [False, True])
def test_a_forest_on_extra_features_does_not_depend_on_tiles(monkeypatch, far):
    image = data.coins()[:120, :130]
    calls = []

    def rank(part):  # looks at everything it is given
        calls.append(part.shape)
        return part - part.mean()

    segmenter = RandomForestSegmenter(
        5,
        scales=(1,),
        features=("gaussian", "position"),
        extra=rank if far else neighbours_mean,
        max_samples=500,
        random_state=0,
    )
    truth = (image > 110).astype(np.int32)
    whole = segmenter.fit(image, truth).predict_proba(image)
    assert segmenter.feature_names_[-1] == ("extra0" if far else "extra1")
    calls.clear()
    monkeypatch.setattr(pixel_segmenter, "TILE_PIXELS", 40 * 40)
    np.testing.assert_array_equal(segmenter.predict_proba(image), whole)
    assert calls == ([(120, 130, 1)] if far else [])


@pytest.mark.parametrize(
    ("extra", "error", "match"),
    [
        (3, TypeError, "extra is 3, expected a function"),
        (lambda image: image[0], ValueError, r"extra gave an array of shape \(4, 1\)"),
        (lambda image: image[:-1], ValueError, ".*expected .*'m'"),
        (lambda image: image[..., :0], ValueError, "extra gave an array of shape"),
        (lambda image: image * np.nan, ValueError, "extra gave values that are NaN"),
        (lambda image: np.full((4, 4, 1), 1e300), ValueError, "extra gave .*beyond float32"),
        (lambda image: image.astype(complex), TypeError, "extra gave complex128"),
    ],
)
def test_bad_extra_is_refused(extra, error, match):
    with pytest.raises(error, match=f"pixel_features: {match}"):
        pixel_features(np.zeros((4, 4)), extra=extra)


def test_bad_halo_of_extra_is_refused():
    def extra(image):
        return image

    for halo in (-1, 1.5):
        extra.halo = halo
        with pytest.raises((TypeError, ValueError), match=r"pixel_features: extra\.halo"):
            pixel_features(np.zeros((4, 4)), extra=extra)


# --- errors ------------------------------------------------------------------------------


@pytest.mark.parametrize("scales", [[], "12", [0], [1, -2], [np.nan], 3, [1, 2, 1], [1e9]])
def test_bad_scales_are_refused(scales):
    with pytest.raises((ValueError, TypeError), match="pixel_features: scales"):
        pixel_features(np.zeros((4, 4)), scales)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"features": ("edges",)}, r"features\[0\] is 'edges', expected one of 'gaussian', "),
        ({"features": ("mean", 3)}, r"features\[1\] is 3, expected one of"),
        ({"features": "mean"}, "features is 'mean', expected a sequence"),
        ({"features": ()}, "features is empty"),
        ({"features": ("mean", "mean")}, r"features\[1\] is 'mean' again"),
        ({"features": ("lab",)}, "features has 'lab', but the image has 1 channels"),
        ({"per_channel": 1}, "per_channel is 1"),
        ({"spacing": 2}, "spacing is 2, expected a sequence"),
        ({"spacing": (1, 0)}, r"spacing\[1\] is 0"),
        ({"spacing": (1,)}, "spacing has 1 numbers"),
        ({"spacing": (1, 1, 1)}, "spacing has 3 numbers, but the image has 2 spatial axes"),
    ],
)
def test_bad_choices_are_refused(options, match):
    with pytest.raises((ValueError, TypeError), match=f"pixel_features: {match}"):
        pixel_features(np.zeros((4, 4)), **options)
