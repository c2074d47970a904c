"""Windows that are blended, and predictions that are averaged."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from segalgos import NetSegmenter, SegFormerSegmenter
from segalgos.nets import prediction
from segalgos.parallel import thread_limit


class Local(nn.Module):
    """Scores of each pixel alone: windows must give what the whole image gives."""

    margin, halo, stride = 0, None, 4

    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(2, 3, 1)

    def fit_size(self, size):
        return -(-size // 4) * 4

    def forward(self, x):
        assert all(n % 4 == 0 for n in x.shape[2:])
        return self.head(x)


class Shifted(Local):
    """Scores that depend on the window: the first or the second class by its left column."""

    def forward(self, x):
        left = x[:, :1, :1, :1].expand(-1, 3, *x.shape[2:])
        return torch.log(torch.cat([left, 1 - left, torch.zeros_like(left)], dim=1)[:, [0, 3, 8]])


def whole(network, image, tile_size):
    found = np.full((*image.shape[:2], 3), np.nan, np.float32)
    count = np.zeros(image.shape[:2], int)

    def write(rows, columns, proba):
        found[rows, columns] = proba
        count[rows, columns] += 1

    prediction.for_each_tile(network, image, np.asarray, write, tile_size=tile_size)
    assert (count == 1).all()
    return found


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (17, 5), (40, 61), (64, 100), (33, 16)])
@pytest.mark.parametrize("tile_size", [8, 16])
def test_blended_windows_equal_the_whole_of_a_local_network(size, tile_size):
    network = Local().eval()
    image = np.random.default_rng(0).normal(size=(*size, 2)).astype(np.float32)
    with torch.inference_mode():
        x = torch.from_numpy(image).permute(2, 0, 1)[None]
        expected = network.head(x)[0].softmax(0).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(whole(network, image, tile_size), expected, atol=1e-6)


def test_windows_fade_into_one_another():
    image = np.zeros((8, 14, 2), np.float32)
    image[:, 0] = 1  # the left window is all class 0, the right one all class 1
    network = Shifted().eval()
    proba = whole(network, image, 8)[..., 0]
    # Windows 0-8 and 6-14: alone outside of the columns 6 and 7, blended there.
    np.testing.assert_allclose(proba[:, :6], 1)
    np.testing.assert_allclose(proba[:, 8:], 0)
    np.testing.assert_allclose(proba[:, 6], 2 / 3, rtol=1e-6)
    np.testing.assert_allclose(proba[:, 7], 1 / 3, rtol=1e-6)


@pytest.mark.parametrize(("size", "tile_size"), [(9, 8), (100, 8), (1000, 64), (65, 64)])
def test_windows_cover_and_overlap(size, tile_size):
    windows = prediction._windows(size, tile_size)
    assert windows[0].start == 0
    assert windows[-1].stop == size
    assert all(w.stop - w.start == tile_size for w in windows)
    overlaps = [a.stop - b.start for a, b in itertools.pairwise(windows)]
    assert min(overlaps) >= prediction.OVERLAP * tile_size - 1
    total = np.zeros(size)
    for window, weight in zip(windows, prediction._blend_weights(windows, size)):
        total[window] += weight
    np.testing.assert_allclose(total, 1, atol=1e-6)


@pytest.fixture(scope="module")
def halves():
    image = np.random.default_rng(0).normal(0, 0.1, (48, 70, 3)).astype(np.float32)
    image[:, 35:] += 1
    return image, (np.arange(70) >= 35).astype(np.int32) * np.ones((48, 1), np.int32)


@pytest.fixture(scope="module")
def fitted(halves):
    return SegFormerSegmenter.small().set_params(epochs=10).fit(*halves)


def test_sizes_and_mirror_images_are_averaged(fitted, halves):
    image, _ = halves
    plain = fitted.predict_proba(image)
    flipped = fitted.predict_proba(image[:, ::-1].copy())[:, ::-1]
    try:
        fitted.set_params(prediction_flip=True)
        np.testing.assert_allclose(fitted.predict_proba(image), (plain + flipped) / 2, atol=1e-6)
        fitted.set_params(prediction_flip=False, prediction_scales=(1.0, 0.5))
        small = F.interpolate(
            torch.from_numpy(image).permute(2, 0, 1)[None], (24, 35), mode="bilinear",
            antialias=True,
        )[0].permute(1, 2, 0).numpy()  # fmt: skip
        fitted.set_params(prediction_scales=(1.0,))
        half = torch.from_numpy(fitted.predict_proba(small)).permute(2, 0, 1)[None]
        half = F.interpolate(half, (48, 70), mode="bilinear")[0].permute(1, 2, 0).numpy()
        fitted.set_params(prediction_scales=(1.0, 0.5))
        found = fitted.predict_proba(image)
        np.testing.assert_allclose(found, (plain + half) / 2, atol=1e-5)
        np.testing.assert_array_equal(fitted.predict(image), found.argmax(-1))
        assert fitted.predict(image[:1, :1]).shape == (1, 1)
    finally:
        fitted.set_params(prediction_scales=(1.0,), prediction_flip=False)


def test_large_images_are_predicted_in_windows_by_any_number_of_threads(fitted, halves):
    image = np.tile(halves[0], (2, 2, 1))
    fitted.set_params(tile_size=48)
    try:
        with thread_limit(1):
            one = fitted.predict_proba(image)
        with thread_limit(3):
            np.testing.assert_array_equal(fitted.predict_proba(image), one)
        np.testing.assert_allclose(one.sum(-1), 1, atol=1e-5)
        assert (fitted.predict(image) == np.tile(halves[1], (2, 2))).mean() > 0.9
    finally:
        fitted.set_params(tile_size=1024)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"prediction_scales": ()}, TypeError, "prediction_scales is ()"),
        ({"prediction_scales": 1.0}, TypeError, "prediction_scales is 1.0, expected factors"),
        ({"prediction_scales": (0,)}, ValueError, "prediction_scales"),
        ({"prediction_flip": "yes"}, TypeError, "prediction_flip"),
        ({"patience": 2}, ValueError, "patience is 2, but nothing is validated"),
        ({"ema_decay": 1.5}, ValueError, "ema_decay"),
        ({"optimizer": "adam"}, ValueError, "optimizer"),
        ({"schedule": "step"}, ValueError, "schedule"),
        ({"on_epoch_end": 5}, TypeError, "on_epoch_end is 5, expected a function"),
        ({"augment": "sideways"}, TypeError, "NetSegmenter: augment is 'sideways'"),
    ],
)
def test_bad_options_are_refused(halves, options, error, message):
    with pytest.raises(error, match=message.replace("(", r"\(").replace(")", r"\)")):
        NetSegmenter.small().set_params(**options).fit(*halves)


def test_early_stop_and_the_callback_reach_training(halves):
    image, labels = halves
    rows = []
    segmenter = NetSegmenter.small().set_params(
        epochs=30, validation_fraction=0.5, patience=1, on_epoch_end=rows.append, ema_decay=0.5
    )
    segmenter.fit([image, image], [labels, labels])
    assert rows == segmenter.history_
    assert len(rows) < 30
