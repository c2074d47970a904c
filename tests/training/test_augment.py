import itertools

import numpy as np
import pytest

from segalgos.training.augment import Augmentation, CropSampler, mirrored_window


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (4, 3), (30, 20)])
@pytest.mark.parametrize("window", [(-9, -11, 25, 31), (0, 0, 1, 1), (2, -40, 5, 90)])
def test_mirrored_window_equals_numpy_pad(size, window):
    image = np.random.default_rng(0).random((*size, 2))
    row, column, height, width = window
    padded = np.pad(image, ((60, 60), (60, 60), (0, 0)), mode="symmetric")
    expected = padded[60 + row : 60 + row + height, 60 + column : 60 + column + width]
    np.testing.assert_array_equal(mirrored_window(image, *window), expected)


def coded(rng, height, width, n_classes=3):
    """An image whose pixels spell their own label and place."""
    labels = rng.integers(0, n_classes, (height, width)).astype(np.int32)
    row, column = np.mgrid[:height, :width]
    return np.stack([labels, row, column], axis=-1).astype(np.float32), labels


def sampler(images, labels, weights=None, **options):
    options = {"shape": (8, 8)} | options
    return CropSampler(images, labels, weights, random_state=np.random.default_rng(0), **options)


def test_images_labels_and_weights_are_cut_together():
    rng = np.random.default_rng(1)
    data = [coded(rng, 20, 30), coded(rng, 5, 40), coded(rng, 3, 2)]
    images, labels = [d[0] for d in data], [d[1] for d in data]
    weights = [label_map.astype(np.float32) + 1 for label_map in labels]
    crops = sampler(images, labels, weights)
    outside = 0
    for seed in range(50):
        image, label, weight = crops.draw(np.random.default_rng(seed))
        assert image.shape == (8, 8, 3)
        inside = label >= 0
        assert inside.any()
        np.testing.assert_array_equal(image[inside][:, 0], label[inside])
        np.testing.assert_array_equal(weight[inside], label[inside] + 1)
        assert (weight[~inside] == 0).all()
        outside += (~inside).sum()
    assert outside > 0  # the small images did not fill their crops


@pytest.mark.parametrize("shape", [(8, 8), (6, 10)])
def test_turns_keep_images_and_labels_together(shape):
    image, labels = coded(np.random.default_rng(2), 20, 30)
    crops = sampler([image], [labels], shape=shape, augmentation=Augmentation())
    seen = set()
    for seed in range(80):
        image, label, _ = crops.draw(np.random.default_rng(seed))
        assert label.shape == shape
        # Contrast and brightness change values, but not which of them are equal.
        codes = [np.unique(image[..., 0][label == k]) for k in np.unique(label)]
        assert all(len(values) == 1 for values in codes)
        assert all(a < b for a, b in itertools.pairwise(codes))
        steps = image[..., 1:]
        down, right = steps[1, 0] - steps[0, 0], steps[0, 1] - steps[0, 0]
        seen.add((*np.sign(down), *np.sign(right)))
    assert len(seen) == (8 if shape[0] == shape[1] else 4)


def test_light_changes_the_image_alone():
    image = np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8, 1)
    labels = np.zeros((8, 8), np.int32)
    draws = [
        sampler([image], [labels], augmentation=Augmentation()).draw(np.random.default_rng(i))[0]
        for i in range(100)
    ]
    contrast = [np.ptp(d) / 2 for d in draws]
    brightness = [(d.max() + d.min()) / 2 for d in draws]
    assert 0.75 <= min(contrast) < 0.85
    assert 1.15 < max(contrast) <= 1.25
    assert -0.25 <= min(brightness) < -0.15
    assert 0.15 < max(brightness) <= 0.25


@pytest.mark.parametrize("margin", [0, 5])
@pytest.mark.parametrize("shape", [(24, 24), (20, 31)])
@pytest.mark.parametrize(
    ("scale", "rotation"),
    [((0.5, 0.5), 0), ((2.0, 2.0), 0), ((0.7, 1.6), 0), ((1.0, 1.0), 45), ((0.6, 1.5), 180)],
)
def test_scaled_and_rotated_crops_keep_images_and_labels_together(scale, rotation, shape, margin):
    # Grey is the row, and so are the labels: after any warp they must agree to half a pixel.
    labels = np.repeat(np.arange(200, dtype=np.int32)[:, None], 220, axis=1)
    image = np.stack([labels, np.arange(220) * np.ones((200, 1))], axis=-1).astype(np.float32)
    look = Augmentation(scale=scale, rotation=rotation, brightness=0, contrast=0)
    crops = sampler([image], [labels], [labels + 1.0], shape=shape, margin=margin,
                    augmentation=look)  # fmt: skip
    steps = []
    for seed in range(40):
        found, label, weight = crops.draw(np.random.default_rng(seed))
        assert found.shape == (shape[0] + 2 * margin, shape[1] + 2 * margin, 2)
        assert found.dtype == np.float32
        assert label.shape == weight.shape == shape
        inside = label >= 0
        np.testing.assert_array_equal(weight[inside], label[inside] + 1)
        found = found[margin : margin + shape[0], margin : margin + shape[1]]
        at = found[..., 0]
        away = inside & (at > 1) & (at < 198) & (found[..., 1] > 1) & (found[..., 1] < 218)
        assert np.abs(at - label)[away].max(initial=0) <= 0.5 + 1e-3
        if away.all():
            down, right = found[1, 0] - found[0, 0], found[0, 1] - found[0, 0]
            steps.append((np.hypot(*down), np.hypot(*right), abs(float(down @ right))))
    down, right, skew = np.array(steps).T
    assert len(steps) > 10
    np.testing.assert_allclose(down, right, rtol=1e-3)
    np.testing.assert_allclose(skew, 0, atol=1e-2)
    assert 1 / scale[1] - 1e-3 <= down.min()
    assert down.max() <= 1 / scale[0] + 1e-3


def test_colours_change_apart_from_light():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(8, 8, 3)).astype(np.float32)
    labels = np.zeros((8, 8), np.int32)
    still = {"flip_columns": False, "flip_rows": False, "quarter_turns": False, "brightness": 0,
             "contrast": 0}  # fmt: skip
    grey = image.mean(axis=-1, keepdims=True)
    saturation, colour = (
        sampler([image], [labels], augmentation=Augmentation(**still, **change))
        for change in ({"saturation": 0.5}, {"colour": 0.3})
    )
    for seed in range(20):
        found = saturation.draw(np.random.default_rng(seed))[0]
        factor = (found - grey) / (image - grey)
        np.testing.assert_allclose(factor, factor[0, 0, 0], rtol=1e-3)
        assert 0.5 <= factor[0, 0, 0] <= 1.5
        shift = colour.draw(np.random.default_rng(seed))[0] - image
        np.testing.assert_allclose(shift, np.broadcast_to(shift[0, 0], shift.shape), atol=1e-6)
        assert np.abs(shift).max() <= 0.3
        assert np.ptp(shift[0, 0]) > 0


def test_upright_scenes_stay_upright():
    image, labels = coded(np.random.default_rng(5), 60, 60)
    crops = sampler([image], [labels], augmentation=Augmentation.of("upright", "test"))
    flips = set()
    for seed in range(30):
        found = crops.draw(np.random.default_rng(seed))[0]
        middle = found[2:6, 2:6]
        steps = middle[-1, 0, 1] - middle[0, 0, 1], middle[0, -1, 2] - middle[0, 0, 2]
        if abs(steps[0]) > 1 and abs(steps[1]) > 1:
            assert steps[0] > 0
            flips.add(steps[1] > 0)
    assert flips == {True, False}


def test_augment_is_read():
    assert Augmentation.of(False, "test") is None
    assert Augmentation.of(True, "test") == Augmentation()
    found = Augmentation.of({"scale": (0.7, 1.4), "flip_rows": False}, "test")
    assert found == Augmentation(scale=(0.7, 1.4), flip_rows=False)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ("sideways", TypeError, "test: augment is 'sideways', expected True, False, 'upright'"),
        (None, TypeError, "test: augment is None"),
        ({"zoom": 2}, ValueError, "test: augment names 'zoom', expected some of flip_columns"),
        ({"scale": 2}, TypeError, "scale is 2, expected the smallest and the largest"),
        ({"scale": (2, 0.5)}, ValueError, "put the smaller one first"),
        ({"scale": (0, 1)}, ValueError, "scale"),
        ({"rotation": -5}, ValueError, "rotation"),
        ({"contrast": 2}, ValueError, "contrast"),
        ({"flip_rows": "yes"}, TypeError, "flip_rows"),
    ],
)
def test_bad_augmentations_are_refused(value, error, message):
    with pytest.raises(error, match=message):
        Augmentation.of(value, "test")


def test_half_of_the_crops_hold_a_rare_class():
    labels = np.zeros((100, 100), np.int32)
    labels[50, 50] = 1
    image = np.zeros((100, 100, 1), np.float32)

    def share(balance):
        crops = sampler([image], [labels], balance=balance)
        return np.mean([(crops.draw(np.random.default_rng(i))[1] == 1).any() for i in range(400)])

    assert share(0.0) < 0.05
    assert share(0.5) == pytest.approx(0.25, abs=0.06)
    assert share(1.0) == pytest.approx(0.5, abs=0.08)


def test_large_images_are_seen_more_often_unless_crops_are_balanced():
    sizes = 20, 60  # of 400 and 3600 pixels
    images = [np.full((n, n, 1), n, np.float32) for n in sizes]
    labels = [np.zeros((n, n), np.int32) for n in sizes]

    def share(balance):
        crops = sampler(images, labels, balance=balance)
        return np.mean([crops.draw(np.random.default_rng(i))[0].max() == 60 for i in range(400)])

    assert share(0.0) == pytest.approx(0.9, abs=0.05)
    assert share(1.0) == pytest.approx(0.5, abs=0.08)


def test_layers_are_cut_together_and_other_maps_choose_the_place():
    rng = np.random.default_rng(0)
    image, ids = coded(rng, 30, 40)
    layers = np.stack([ids, ids[::-1]], axis=-1)
    chosen = np.full(ids.shape, -1, np.int32)
    chosen[0, 0] = 0
    crops = sampler([image], [layers], classes=[chosen], outside=-2)
    for seed in range(20):
        window, found, _ = crops.draw(np.random.default_rng(seed))
        assert found.shape == (*window.shape[:2], 2)
        np.testing.assert_array_equal(window[0, 0], image[0, 0])
        np.testing.assert_array_equal(found[..., 0], ids[: len(found), : found.shape[1]])
        np.testing.assert_array_equal(found[..., 1], ids[::-1][: len(found), : found.shape[1]])
    small = sampler([image[:3, :4]], [layers[:3, :4]], classes=[chosen[:3, :4]], outside=-2)
    _, found, _ = small.draw(rng)
    assert (found == -2).any()


def test_every_crop_of_scribbles_holds_a_label():
    labels = np.full((200, 200), -1, np.int32)
    labels[10, 20:40] = 0
    labels[150, 3] = 1
    crops = sampler([np.zeros((200, 200, 1), np.float32)], [labels])
    assert all((crops.draw(np.random.default_rng(i))[1] >= 0).any() for i in range(50))


def test_margin_shows_the_surroundings_of_the_labels():
    image, labels = coded(np.random.default_rng(3), 30, 30)
    crops = sampler([image], [labels], margin=3)
    plain = sampler([image], [labels])
    for seed in range(20):
        wide, label, _ = crops.draw(np.random.default_rng(seed))
        expected, label_, _ = plain.draw(np.random.default_rng(seed))
        assert wide.shape == (14, 14, 3)
        np.testing.assert_array_equal(wide[3:-3, 3:-3], expected)
        np.testing.assert_array_equal(label, label_)


def test_a_crop_depends_on_the_generator_alone_and_writes_nothing():
    image, labels = coded(np.random.default_rng(4), 20, 20)
    before = image.copy()
    crops = sampler([image], [labels], augmentation=Augmentation(), shape=(20, 20))
    first = crops.draw(np.random.default_rng(7))
    crops.draw(np.random.default_rng(8))
    again = crops.draw(np.random.default_rng(7))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    np.testing.assert_array_equal(image, before)


def test_crops_are_prepared():
    image = np.full((9, 9, 1), 200, np.uint8)
    crops = sampler(
        [image], [np.zeros((9, 9), np.int32)], prepare=lambda x, i: x.astype(np.float32) / 100
    )
    assert (crops.draw(np.random.default_rng(0))[0] == 2).all()
