import itertools

import numpy as np
import pytest

from segalgos.training.augment import CropSampler, mirrored_window


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
    options = {"shape": (8, 8), "augment": False} | options
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
    crops = sampler([image], [labels], shape=shape, augment=True)
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
        sampler([image], [labels], augment=True).draw(np.random.default_rng(i))[0]
        for i in range(100)
    ]
    contrast = [np.ptp(d) / 2 for d in draws]
    brightness = [(d.max() + d.min()) / 2 for d in draws]
    assert 0.75 <= min(contrast) < 0.85
    assert 1.15 < max(contrast) <= 1.25
    assert -0.25 <= min(brightness) < -0.15
    assert 0.15 < max(brightness) <= 0.25


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
    crops = sampler([image], [labels], augment=True, shape=(20, 20))
    first = crops.draw(np.random.default_rng(7))
    crops.draw(np.random.default_rng(8))
    again = crops.draw(np.random.default_rng(7))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    np.testing.assert_array_equal(image, before)


def test_crops_are_prepared():
    image = np.full((9, 9, 1), 200, np.uint8)
    crops = sampler(
        [image], [np.zeros((9, 9), np.int32)], prepare=lambda x: x.astype(np.float32) / 100
    )
    assert (crops.draw(np.random.default_rng(0))[0] == 2).all()
