"""The class of the largest interpolated score, against torch's interpolation and argmax."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from segalgos import DDRNetSegmenter, DeepLabSegmenter, SegFormerSegmenter
from segalgos.nets.class_map import class_map
from segalgos.parallel import thread_limit

EVERYTHING = (slice(None), slice(None))


def interpolated(scores, extent, inside):
    full = F.interpolate(scores[None].double(), extent, mode="bilinear")[0]
    return full[:, inside[0], inside[1]].numpy()


def scores_of(shape, smooth, seed=0):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(shape, generator=generator)
    for _ in range(smooth):  # cells that agree with their neighbours
        scores = F.avg_pool2d(scores, 5, stride=1, padding=2)
    return scores


@pytest.mark.parametrize("n_classes", [1, 2, 11, 150])
@pytest.mark.parametrize(
    ("cells", "extent"),
    [((1, 1), (7, 5)), ((9, 13), (72, 104)), ((16, 20), (61, 80)), ((40, 33), (40, 33))],
)
@pytest.mark.parametrize("smooth", [0, 2])
def test_equals_argmax_of_interpolated_scores(n_classes, cells, extent, smooth):
    scores = scores_of((n_classes, *cells), smooth)
    for inside in (EVERYTHING, (slice(3, 6), slice(1, 4))):
        expected = interpolated(scores, extent, inside)
        found = class_map(scores, extent, inside)
        assert found.shape == expected.shape[1:]
        # The class found has the largest score, up to rounding.
        score = np.take_along_axis(expected, found[None].astype(np.int64), axis=0)[0]
        np.testing.assert_allclose(score, expected.max(axis=0), rtol=0, atol=1e-6)
        assert (found == expected.argmax(axis=0)).mean() > 0.999 or found.size < 1000


def test_the_first_of_equal_classes():
    scores = torch.tensor([0.0, 1.0, 1.0]).view(3, 1, 1).expand(3, 4, 4)
    assert (class_map(scores, (9, 9), EVERYTHING) == 1).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types(dtype):
    scores = scores_of((5, 8, 9), 1).to(dtype)
    expected = interpolated(scores.float(), (32, 36), EVERYTHING).argmax(axis=0)
    assert (class_map(scores, (32, 36), EVERYTHING) == expected).mean() > 0.99


def test_any_memory_and_number_of_threads():
    scores = scores_of((7, 50, 31), 1)
    with thread_limit(1):
        expected = class_map(scores, (200, 124), EVERYTHING)
    strided = scores[None].to(memory_format=torch.channels_last)[0]
    assert np.array_equal(class_map(strided, (200, 124), EVERYTHING), expected)


def test_scores_that_are_no_numbers_end_in_some_class():
    found = class_map(torch.full((3, 4, 4), torch.nan), (8, 8), EVERYTHING)
    assert set(np.unique(found)) <= {0, 1, 2}


@pytest.mark.parametrize("kind", [DDRNetSegmenter, DeepLabSegmenter, SegFormerSegmenter])
@pytest.mark.parametrize("tile_size", [1024, 32])
def test_predict_is_the_most_probable_class(kind, tile_size):
    image = np.random.default_rng(0).integers(0, 255, (75, 50, 3)).astype(np.uint8)
    labels = np.arange(50)[None].repeat(75, axis=0) // 17
    segmenter = kind.small().set_params(tile_size=tile_size).fit(image, labels)
    proba = segmenter.predict_proba(image)
    assert (segmenter.predict(image) == proba.argmax(axis=-1)).mean() > 0.999
