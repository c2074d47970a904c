import numpy as np
import pytest
import torch
import torch.nn.functional as F

from segalgos.training.augment import Augmentation
from segalgos.training.views import ViewSampler

PLAIN = {"brightness": 0, "contrast": 0}


def as_float(window, i):
    return window.astype(np.float32)


def places(height, width):
    """An image whose pixels hold their own row and column."""
    return np.stack(np.indices((height, width)), axis=-1).astype(np.float32) + 0.5


def at(view, points):
    x = torch.from_numpy(view).permute(2, 0, 1)[None]
    grid = torch.from_numpy(points)[None, :, None]
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)[0, :, :, 0].T.numpy()


@pytest.mark.parametrize(
    "look",
    [
        None,
        Augmentation(**PLAIN),
        Augmentation(**PLAIN, scale=(0.5, 2.0)),
        Augmentation(**PLAIN, scale=(0.7, 1.4), rotation=25),
    ],
)
def test_points_show_the_same_place_in_both_views(look):
    sampler = ViewSampler([places(90, 130)], shape=(24, 32), prepare=as_float, augmentation=look)
    for seed in range(20):
        views, points = sampler.draw_pair(np.random.default_rng(seed), 40)
        assert views.shape == (2, 24, 32, 2)
        assert points.shape == (2, 40, 2)
        assert np.abs(points).max() <= 1
        one, other = at(views[0], points[0]), at(views[1], points[1])
        # At the border of a view or of the image interpolation clamps: by a pixel at most.
        assert np.median(np.abs(one - other)) < 1e-3
        assert np.ptp(one, axis=0).min() > 1  # not one point many times


def test_views_of_small_images_are_mirrored_and_finite():
    sampler = ViewSampler(
        [places(5, 1), places(1, 7)],
        shape=(16, 16),
        prepare=as_float,
        augmentation=Augmentation(**PLAIN, scale=(0.5, 2.0), rotation=180),
    )
    for seed in range(10):
        views, points = sampler.draw_pair(np.random.default_rng(seed), 3)
        assert np.isfinite(views).all()
        assert np.isfinite(points).all()
        assert views.min() > 0
        assert views.max() < 7.5


def test_views_are_a_function_of_the_generator_and_vary():
    image = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    sampler = ViewSampler([image], shape=(32, 32), prepare=as_float, augmentation=Augmentation())
    first, again, other = (sampler.draw(np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_views_equal_crops_where_nothing_is_turned_or_scaled():
    image = np.random.default_rng(0).random((40, 40, 1), np.float32)
    sampler = ViewSampler([image], shape=(40, 40), prepare=as_float)
    np.testing.assert_allclose(sampler.draw(np.random.default_rng(0)), image, atol=1e-5)


def test_larger_images_are_drawn_more_often():
    images = [np.zeros((10, 10, 1)), np.ones((30, 10, 1))]
    sampler = ViewSampler(images, shape=(4, 4), prepare=as_float)
    drawn = [sampler.draw(np.random.default_rng(seed)).mean() for seed in range(200)]
    assert 0.6 < np.mean(drawn) < 0.9
