"""Everything in an image, by a stand-in for the network that sees equal colours."""

import itertools

import numpy as np
import pytest
import torch

from segalgos import Instances, SAMSegmenter
from segalgos.nets.sam import automatic
from segalgos.nets.sam.automatic import (
    Everything,
    crop_windows,
    find_everything,
    remove_small_parts,
    suppress,
)
from segalgos.nets.sam.embedded import EmbeddedImage, Habits, embed_image


class SameColour:
    """Masks of the pixels that have the colour of the one that is clicked on.

    Three masks besides the first: the right one, one whose border is unclear, and one that is
    not thought to be good.
    """

    image_size = mask_size = 128

    def __init__(self):
        self.seen = []

    def encode(self, image):
        self.seen.append(tuple(image.shape[2:]))
        side = self.image_size
        whole = torch.full((3, side, side), -1000.0)
        whole[:, : image.shape[2], : image.shape[3]] = image[0]
        return whole

    def decode(self, embedding, points, labels, mask):
        assert mask is None
        assert labels.tolist() == [[1, -1]] * len(points)
        logits = []
        for x, y in points[:, 0].floor().long().tolist():
            apart = (embedding - embedding[:, y, x, None, None]).abs().sum(0)
            clear = torch.where(apart < 20, 8.0, -8.0)
            logits.append(torch.stack([clear * 0 - 1, clear, clear / 10, clear]))
        ious = torch.tensor([[0.0, 0.95, 0.99, 0.5]])
        return torch.stack(logits), ious.expand(len(points), -1)


def scene():
    """Three things on a ground, and where they are."""
    labels = np.zeros((96, 128), int)
    labels[8:40, 10:50] = 1
    labels[50:90, 60:120] = 2
    labels[60:80, 80:100] = 3
    colours = np.array([[20, 20, 20], [200, 30, 30], [30, 200, 30], [30, 30, 200]], np.uint8)
    return colours[labels], labels


def find(image, **options):
    backend = SameColour()

    def embed(part):
        return EmbeddedImage(backend, *embed_image(backend, part), Habits())

    return find_everything(image, embed, Everything(**options)), backend


def ious_with(found, labels):
    """IoU of each true thing with the mask that is most like it."""
    truths = [labels == i for i in np.unique(labels)]
    return [max(float((m & t).sum() / (m | t).sum()) for m in found.masks) for t in truths]


def test_each_thing_is_found_once():
    image, labels = scene()
    found, backend = find(image, points_per_side=8)
    assert isinstance(found, Instances)
    assert len(found) == 4
    assert min(ious_with(found, labels)) > 0.99
    np.testing.assert_allclose(found.scores, 0.95)  # the better one is not stable
    assert backend.seen == [(96, 128)]


def test_things_between_the_points_are_missed():
    image, labels = scene()
    found, _ = find(image, points_per_side=1)  # in the middle, on the ground
    assert len(found) == 1
    assert ious_with(found, labels)[0] > 0.99


@pytest.mark.parametrize("batch", [1, 7, 64])
@pytest.mark.parametrize("pixels", [1, 1 << 24])
def test_batches_change_nothing(batch, pixels, monkeypatch):
    image, _ = scene()
    expected, _ = find(image, points_per_side=6)
    monkeypatch.setattr(automatic, "PIXELS_AT_ONCE", pixels)
    found, _ = find(image, points_per_side=6, points_per_batch=batch)
    np.testing.assert_array_equal(found.masks, expected.masks)


def test_thresholds():
    image, _ = scene()
    assert len(find(image, points_per_side=8, iou_threshold=0.96)[0]) == 0
    assert len(find(image, points_per_side=8, iou_threshold=0.95)[0]) == 0  # not above it
    unstable, _ = find(image, points_per_side=8, stability_threshold=0.0)
    assert unstable.scores.max() == pytest.approx(0.99)
    lenient, _ = find(image, points_per_side=8, stability_offset=0.0)
    assert lenient.scores.max() == pytest.approx(0.99)
    doubles, _ = find(image, points_per_side=8, nms_threshold=1.0)
    assert len(doubles) == 64
    assert len(find(np.zeros((9, 9, 3), np.uint8), iou_threshold=2.0)[0]) == 0


def test_crops_are_looked_at_and_joined():
    image, labels = scene()
    image = np.repeat(np.repeat(image, 3, 0), 3, 1)
    labels = np.repeat(np.repeat(labels, 3, 0), 3, 1)
    found, backend = find(image, points_per_side=4, n_crop_layers=1)
    assert len(backend.seen) == 5
    # Masks are of cells of 3 pixels, and of 2 in crops. What a crop cuts off is no thing.
    ious = ious_with(found, labels)
    assert min(ious) > 0.93
    assert all(((m & (labels == 3)).sum() == 0) or m.sum() > 3000 for m in found.masks)
    fewer, backend = find(image, points_per_side=4, n_crop_layers=1, crop_points_divisor=4)
    assert len(backend.seen) == 5
    assert len(fewer) <= len(found)


def test_small_parts_go():
    image, labels = scene()
    image[20:22, 20:22] = 20  # a hole in the first, a part of the ground
    image[3:5, 100:102] = (200, 30, 30)  # a part of the first, a hole in the ground
    found, _ = find(image, points_per_side=8)
    cleaned, _ = find(image, points_per_side=8, min_area=10)
    assert 4 <= len(cleaned) <= len(found)
    first = next(m for m in cleaned.masks if m[30, 30])
    np.testing.assert_array_equal(first, labels == 1)
    assert not next(m for m in found.masks if m[30, 30])[20, 20]


def test_remove_small_parts():
    mask = np.zeros((12, 12), bool)
    mask[1:6, 1:6] = True
    mask[3, 3] = False  # a hole
    mask[6, 6] = True  # touches at a corner: one part
    mask[9, 1] = True  # a part of its own
    expected = mask.copy()
    expected[3, 3], expected[9, 1] = True, False
    assert not remove_small_parts(mask, 2)
    np.testing.assert_array_equal(mask, expected)
    assert remove_small_parts(mask, 2)
    assert not remove_small_parts(lone := np.eye(3, dtype=bool)[:1].repeat(2, 0), 50)
    assert lone.any()  # the largest part stays; its surroundings were a hole
    nothing = np.zeros((3, 3), bool)
    assert remove_small_parts(nothing, 1)


def naive_suppress(boxes, scores, threshold):
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        for j in kept:
            start, stop = (
                np.maximum(boxes[i, :2], boxes[j, :2]),
                np.minimum(boxes[i, 2:], boxes[j, 2:]),
            )
            shared = np.prod(np.maximum(stop - start, 0))
            areas = [np.prod(boxes[k, 2:] - boxes[k, :2]) for k in (i, j)]
            if shared / (sum(areas) - shared) > threshold:
                break
        else:
            kept.append(i)
    return kept


@pytest.mark.parametrize("seed", range(20))
def test_suppression_equals_the_naive_one(seed):
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 8, (40, 2))
    boxes = np.concatenate([corners, corners + rng.integers(1, 8, (40, 2))], axis=1)
    scores = rng.integers(0, 5, 40) / 4  # with ties
    # Exact in float32, in which IoUs are compared, as the authors' code does: ties stay ties.
    for threshold in (0.0, 0.25, 0.5, 1.0):
        expected = naive_suppress(boxes, scores, threshold)
        assert suppress(boxes, scores, threshold).tolist() == expected
    assert len(suppress(np.empty((0, 4)), np.empty(0), 0.5)) == 0


def test_crops():
    assert crop_windows((10, 20), 0, 0.3) == [(0, (slice(0, 10), slice(0, 20)))]
    crops = crop_windows((1000, 1500), 2, 512 / 1500)
    assert [layer for layer, _ in crops] == [0] + 4 * [1] + 16 * [2]
    assert crops[1][1] == (slice(0, 671), slice(0, 921))  # 341 pixels in common
    assert crops[4][1] == (slice(330, 1000), slice(580, 1500))
    for shape, layers in itertools.product([(1, 1), (3, 500), (64, 64)], (1, 2, 3)):
        for layer in range(layers + 1):
            seen = np.zeros(shape, int)
            for found, window in crop_windows(shape, layers, 0.3):
                if found == layer:
                    assert seen[window].size
                    seen[window] += 1
            assert seen.min() >= 1


def test_the_segmenter_finds_everything():
    model = SAMSegmenter(untrained=True)
    images = [np.random.default_rng(i).random((20 + i, 30)) for i in range(2)]
    options = {"points_per_side": 3, "iou_threshold": -100.0, "stability_threshold": 0.0}
    found = model.segment_everything(images, **options)
    assert [one.shape for one in found] == [(20, 30), (21, 30)]
    assert all(len(one) for one in found)
    assert all((np.diff(one.scores) <= 0).all() for one in found)
    alone = model.segment_everything(images[1], **options)
    np.testing.assert_array_equal(alone.masks, found[1].masks)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"points": 3}, TypeError, r"options are \['points'\], expected some of points_per_side"),
        ({"points_per_side": 0}, ValueError, "points_per_side"),
        ({"nms_threshold": 2}, ValueError, "nms_threshold"),
        ({"crop_points_divisor": 0.5}, ValueError, "crop_points_divisor"),
        ({"n_crop_layers": 7}, ValueError, "n_crop_layers"),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=f"SAMSegmenter.segment_everything: {message}"):
        SAMSegmenter(untrained=True).segment_everything(np.zeros((9, 9)), **options)
