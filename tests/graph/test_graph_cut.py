"""Graph cuts from seeds, and the segmenter that prompts drive."""

import itertools

import numpy as np
import pytest
from skimage import data

from segalgos import Prompts
from segalgos.graph.contrast import contrast_beta, contrast_weights
from segalgos.graph.grab_cut import grab_cut
from segalgos.graph.graph_cut import GraphCutSegmenter, graph_cut
from segalgos.graph.max_flow import half_neighborhood
from segalgos.parallel import thread_limit


def _scene(shape=(30, 40), n_labels=2, n_channels=3, seed=0):
    """Upright bands of well apart colours, their labels and a few seeds in each."""
    rng = np.random.default_rng(seed)
    truth = np.broadcast_to(np.arange(shape[-1]) * n_labels // shape[-1], shape).astype(np.int32)
    palette = np.linspace(40, 210, n_labels)[:, None] + 10 * np.cos(np.arange(n_channels))
    image = palette[truth] + rng.normal(0, 8, (*shape, n_channels))
    seeds = np.full(shape, -1, np.int32)
    middle = tuple(n // 2 for n in shape[:-1])
    for label in range(n_labels):
        column = int(np.flatnonzero(truth[middle] == label).mean())
        seeds[(*middle, slice(column - 1, column + 2))] = label
    return np.clip(np.round(image), 0, 255).astype(np.uint8), truth, seeds


# --- energy ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_least_weight_of_all_labellings(seed):
    """Without colour models, no labelling that keeps the seeds cuts edges of less weight."""
    rng = np.random.default_rng(seed)
    shape = ((3, 4), (4, 3), (2, 2, 3))[seed % 3]
    neighbors = 6 if len(shape) == 3 else (4, 8)[seed // 3 % 2]
    image = rng.integers(0, 256, (*shape, 2)).astype(np.uint8)
    seeds = np.full(shape, -1)
    seeds.flat[rng.permutation(seeds.size)[:3]] = [0, 1, 1]
    labels = graph_cut(image, seeds, region_weight=0, neighbors=neighbors, channel_axis=-1)
    np.testing.assert_array_equal(labels[seeds >= 0], seeds[seeds >= 0])

    offsets = half_neighborhood(len(shape), neighbors)
    planes = contrast_weights(image, offsets, contrast_beta(image, offsets, None), 50.0)
    pairs = []
    for (k, offset), pixel in itertools.product(enumerate(offsets), np.ndindex(*shape)):
        other = np.add(pixel, offset)
        if (other >= 0).all() and (other < shape).all():
            ends = (np.ravel_multi_index(p, shape) for p in (pixel, tuple(other)))
            pairs.append((*ends, planes[(k, *pixel)]))
    first, second, weight = map(np.array, zip(*pairs, strict=True))
    every = np.array(list(itertools.product((0, 1), repeat=seeds.size)))
    every = every[(every[:, seeds.ravel() >= 0] == seeds[seeds >= 0]).all(axis=1)]
    least = ((every[:, first] != every[:, second]) @ weight).min()
    ours = ((labels.flat[first] != labels.flat[second]) * weight).sum()
    assert ours == pytest.approx(least, rel=1e-5)


# --- labels ------------------------------------------------------------------------------


@pytest.mark.parametrize("n_channels", [1, 2, 3, 5])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_two_labels(n_channels, dtype):
    image, truth, seeds = _scene(n_channels=n_channels)
    labels = graph_cut(image.astype(dtype), seeds, channel_axis=-1)
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, truth)


@pytest.mark.parametrize("n_labels", [3, 5])
def test_many_labels_keep_their_ids(n_labels):
    image, truth, seeds = _scene((20, 60), n_labels)
    ids = np.array([7, 0, 100, 3, 20, -1])
    labels = graph_cut(image, ids[np.where(seeds < 0, 5, seeds)])
    np.testing.assert_array_equal(labels, ids[truth])


@pytest.mark.parametrize("n_labels", [2, 3])
def test_volume(n_labels):
    volume, truth, seeds = _scene((5, 12, 30), n_labels, n_channels=1)
    labels = graph_cut(volume[..., 0], seeds, channel_axis=None)
    np.testing.assert_array_equal(labels, truth)


def test_single_id():
    image, truth, seeds = _scene()
    other = np.where(seeds == 1, 6, -1)
    np.testing.assert_array_equal(graph_cut(image, other) == 6, truth == 1)
    assert set(np.unique(graph_cut(image, other))) == {0, 6}
    assert set(np.unique(graph_cut(image, np.where(seeds == 0, 0, -1)))) == {0, 1}


def test_all_pixels_are_seeds():
    image, truth, _ = _scene()
    np.testing.assert_array_equal(graph_cut(image, truth + 3), truth + 3)


def test_range_of_storage_does_not_matter():
    image = data.coffee()[::4, ::4]
    seeds = np.full(image.shape[:2], -1)
    seeds[2:5, 2:20], seeds[50:55, 70:80] = 0, 1
    expected = graph_cut(image, seeds)
    assert set(np.unique(expected)) == {0, 1}
    for stored in (image.astype(np.float32), image / 255.0, image * 1e28, image + 1000.0):
        assert (graph_cut(stored, seeds) != expected).mean() < 0.002


@pytest.mark.parametrize(("step", "ids"), [(1, [0, 1, 1]), (2, [0, 1, 4])])
def test_any_number_of_threads(step, ids):
    image = data.coffee()
    seeds = np.full(image.shape[:2], -1)
    seeds[10:20, 10:300], seeds[200:220, 250:320], seeds[330:350, 300:400] = ids
    image, seeds = image[::step, ::step], seeds[::step, ::step]
    with thread_limit(1):
        one = graph_cut(image, seeds)
    assert set(np.unique(one)) == set(ids)
    for limit in (2, 4):
        with thread_limit(limit):
            np.testing.assert_array_equal(graph_cut(image, seeds), one)


def test_outside_the_mask_has_no_influence():
    image, truth, seeds = _scene()
    mask = np.random.default_rng(0).random(truth.shape) > 0.2
    mask[seeds == 0] = True
    labels = graph_cut(image, seeds, mask=mask)
    assert (labels[~mask] == -1).all()
    np.testing.assert_array_equal(labels[mask], truth[mask])
    other = np.where(mask[..., None], image, 255 - image)
    more = np.where(mask, seeds, 8)  # seeds outside the mask
    np.testing.assert_array_equal(graph_cut(other, more, mask=mask), labels)


@pytest.mark.parametrize("n_labels", [2, 3])
def test_pieces_of_the_mask(n_labels):
    image, truth, seeds = _scene((30, 42), n_labels)
    mask = np.ones(truth.shape, bool)
    mask[5] = False  # above it there is no seed
    by_color = graph_cut(image, seeds, mask=mask)
    np.testing.assert_array_equal(by_color[mask], truth[mask])
    by_contrast = graph_cut(image, seeds, region_weight=0, mask=mask)
    assert (by_contrast[:6] == -1).all()
    np.testing.assert_array_equal(by_contrast[6:], truth[6:])


# --- prompts -----------------------------------------------------------------------------


@pytest.fixture
def scene():
    image, truth, seeds = _scene()
    truth = truth.copy()
    truth[:5], truth[-5:] = 0, 0
    rng = np.random.default_rng(1)
    image = np.where(truth[..., None], 180, 60) + rng.normal(0, 8, image.shape)
    return image.astype(np.uint8), truth, seeds


def test_points_and_scribbles_are_seeds(scene):
    image, truth, seeds = scene
    segmenter = GraphCutSegmenter()
    points, of = np.argwhere(seeds >= 0), seeds[seeds >= 0]
    expected = graph_cut(image, seeds)
    np.testing.assert_array_equal(expected, truth)
    by_points = segmenter.predict(image, prompts=Prompts(points=points, point_labels=of))
    np.testing.assert_array_equal(by_points, expected)
    by_scribbles = segmenter.predict(image, prompts=Prompts(scribbles=seeds))
    np.testing.assert_array_equal(by_scribbles, expected)
    nine = segmenter.predict(image, prompts=Prompts(scribbles=np.where(seeds == 1, 9, seeds)))
    np.testing.assert_array_equal(nine, 9 * expected)


def test_box_and_mask_are_for_grab_cut(scene):
    image, truth, _ = scene
    box = [3, 17, 27, 40]
    segmenter = GraphCutSegmenter(n_components=2)
    found = segmenter.predict(image, prompts=Prompts(boxes=box))
    np.testing.assert_array_equal(found, grab_cut(image, box, n_components=2))
    np.testing.assert_array_equal(found, truth)
    guess = np.roll(truth == 1, 3, axis=0)
    found = segmenter.predict(image, prompts=Prompts(mask=guess))
    np.testing.assert_array_equal(found, grab_cut(image, guess=guess, n_components=2))
    assert (found != truth).mean() < 0.01


def test_box_with_points(scene):
    image, _, _ = scene
    prompts = Prompts(boxes=[3, 17, 27, 40], points=[[15, 30], [8, 36]], point_labels=[1, 0])
    found = GraphCutSegmenter().predict(image, prompts=prompts)
    assert found[15, 30] == 1
    assert found[8, 36] == 0
    assert (found[:3] == 0).all()


def test_box_with_many_labels():
    image, truth, seeds = _scene((20, 60), 4)
    seeds[seeds == 0] = -1
    found = GraphCutSegmenter().predict(
        image, prompts=Prompts(scribbles=seeds, boxes=[0, 15, 20, 60])
    )
    np.testing.assert_array_equal(found, truth)


def test_mask_with_many_labels_is_refused():
    image, truth, seeds = _scene((20, 60), 3)
    prompts = Prompts(scribbles=seeds, mask=truth > 0)
    with pytest.raises(ValueError, match="GraphCutSegmenter: prompts hold a mask and scribbles"):
        GraphCutSegmenter().predict(image, prompts=prompts)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"seeds": np.full((6, 7), -1)}, ValueError, "graph_cut: no pixel of the mask is a seed"),
        ({"seeds": np.zeros((6, 8), int)}, ValueError, r"graph_cut: seeds has shape \(6, 8\)"),
        ({"seeds": np.zeros((6, 7))}, TypeError, "graph_cut: seeds is float64"),
        ({"smoothness": -1}, ValueError, "graph_cut: smoothness is -1"),
        ({"region_weight": -0.1}, ValueError, "graph_cut: region_weight is -0.1"),
        ({"n_components": 0}, ValueError, "graph_cut: n_components is 0"),
        ({"neighbors": 26}, ValueError, "graph_cut: neighbors is 26"),
        ({"neighbors": 6}, ValueError, "graph_cut: neighbors is 6 for 2 spatial axes"),
    ],
)
def test_bad_input(options, error, message):
    seeds = np.zeros((6, 7), int)
    with pytest.raises(error, match=message):
        graph_cut(np.zeros((6, 7)), **{"seeds": seeds, **options})


def test_class_names_itself():
    with pytest.raises(ValueError, match="GraphCutSegmenter: n_iter is 0"):
        GraphCutSegmenter(n_iter=0).predict(np.zeros((4, 4)), prompts=Prompts(points=[[1, 1]]))
