"""Crops that bring their objects along."""

import numpy as np
import pytest

from segalgos.training.augment import Augmentation
from segalgos.training.object_crops import ObjectCropSampler, lay_out


def discs(rng, n, height, width):
    """Masks that overlap here and there."""
    y, x = np.ogrid[:height, :width]
    centres, radii = rng.uniform(0, [height, width], (n, 2)), rng.uniform(2, 8, n)
    return np.array([(y - r) ** 2 + (x - c) ** 2 <= s**2 for (r, c), s in zip(centres, radii)])


def test_layers_lose_nothing():
    rng = np.random.default_rng(0)
    masks = discs(rng, 25, 40, 50)
    masks[3] = False
    layers = lay_out(masks)
    assert layers.shape[2] > 1
    for i, mask in enumerate(masks):
        np.testing.assert_array_equal((layers == i).any(axis=-1), mask)
        assert len(np.unique(np.nonzero(layers == i)[2])) <= 1  # whole, on one layer
    apart = np.zeros((2, 6, 6), bool)
    apart[0, :3], apart[1, 3:] = True, True
    assert lay_out(apart).shape == (6, 6, 1)
    assert (lay_out(np.zeros((0, 4, 5), bool)) == -1).all()


def sampler(masks, classes, augment=None, shape=(24, 32), **how):
    """The image tells which objects cover a pixel: bit i for object i."""
    bits = (masks * 2.0 ** np.arange(len(masks))[:, None, None]).sum(axis=0) + 0.5
    return ObjectCropSampler(
        [bits[..., None].astype(np.float32)], [lay_out(masks)], [np.array(classes)],
        max(classes) + 1, shape=shape, augmentation=augment,
        random_state=np.random.default_rng(0), **how,
    )  # fmt: skip


@pytest.mark.parametrize("augment", [None, Augmentation(brightness=0, contrast=0)])
def test_objects_are_those_that_the_image_shows(augment):
    rng = np.random.default_rng(1)
    masks = discs(rng, 12, 40, 50)
    classes = [i % 3 for i in range(12)]
    crops = sampler(masks, classes, augment)
    n = 0
    for seed in range(40):
        crop = crops.draw(np.random.default_rng(seed))
        shown = crop.image[..., 0]
        assert len(crop.classes) == len(crop.boxes) == len(crop.masks)
        seen = set()
        for k, (r0, c0, r1, c1), mask in zip(crop.classes, crop.boxes, crop.masks):
            assert mask.shape == (r1 - r0, c1 - c0)
            assert mask.any(axis=1).all() or mask.any()
            bits = shown[r0:r1, c0:c1].astype(int)
            common = np.bitwise_and.reduce(bits[mask])
            own = [i for i in range(12) if common >> i & 1 and i not in seen and classes[i] == k]
            assert own
            whole = [i for i in own if ((shown.astype(int) >> i & 1) > 0).sum() == mask.sum()]
            assert whole
            seen.add(whole[0])
        n += len(seen)
        left = {i for i in range(12) if (shown.astype(int) >> i & 1).any()} - seen
        for i in left:  # less than two rows or columns
            rows, columns = np.nonzero(shown.astype(int) >> i & 1)
            assert min(np.ptp(rows), np.ptp(columns)) < 1
    assert n > 100


def test_beyond_the_image_there_is_nothing():
    masks = np.ones((1, 10, 12), bool)
    crop = sampler(masks, [0]).draw(np.random.default_rng(0))
    (box,) = crop.boxes
    assert (box[2] - box[0], box[3] - box[1]) == (10, 12)
    outside = np.ones((24, 32), bool)
    outside[box[0] : box[2], box[1] : box[3]] = False
    assert (crop.image[outside] == 0).all()
    assert (crop.image[~outside] == 1.5).all()


def test_images_without_objects_are_drawn_too():
    masks = discs(np.random.default_rng(0), 4, 40, 40)
    images = [np.full((40, 40, 1), i, np.float32) for i in range(2)]
    crops = ObjectCropSampler(
        images, [lay_out(masks), lay_out(masks[:0])], [np.zeros(4, int), np.zeros(0, int)], 1,
        shape=(16, 16), random_state=np.random.default_rng(0),
    )  # fmt: skip
    drawn = [crops.draw(np.random.default_rng(i)) for i in range(40)]
    empty = [crop for crop in drawn if crop.image.max() == 1]
    assert len(empty) > 5
    assert all(len(crop.classes) == 0 and crop.boxes.shape == (0, 4) for crop in empty)
