"""Normalized cuts."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg, sparse
from skimage import data
from skimage import graph as skimage_graph

from segalgos import slic
from segalgos.graph import _recursive_cuts as module
from segalgos.graph.normalized_cuts import (
    NormalizedCutsSegmenter,
    cut_graph,
    ncut_value,
    normalized_cuts,
)
from segalgos.parallel import thread_limit
from segalgos.region_graph import region_graph


def _value(weights, segments):
    """The definition, one segment at a time."""
    return sum(
        weights[segments == s][:, segments != s].sum() / weights[segments == s].sum()
        for s in np.unique(segments)
    )


def _random_graph(n, seed, density=0.6):
    rng = np.random.default_rng(seed)
    weights = rng.random((n, n)) * (rng.random((n, n)) < density)
    return np.triu(weights, 1) + np.triu(weights, 1).T + np.diag(rng.random(n))


@settings(max_examples=150, derandomize=True, deadline=None)
@given(n=st.integers(2, 9), seed=st.integers(0, 10**6), density=st.sampled_from([0.3, 0.6, 1.0]))
def test_split_is_the_best_threshold_of_the_eigenvector(n, seed, density):
    weights = _random_graph(n, seed, density)
    value, side = module._best_split(sparse.csr_array(weights))
    assert 0 < side.sum() < n
    np.testing.assert_allclose(value, _value(weights, side), atol=1e-12)
    if sparse.csgraph.connected_components(weights)[0] > 1:
        assert value == 0
        return
    degree = weights.sum(axis=1)
    vectors = linalg.eigh(np.diag(degree) - weights, np.diag(degree))[1]
    order = np.argsort(vectors[:, 1])
    candidates = [_value(weights, np.isin(np.arange(n), order[:k])) for k in range(1, n)]
    np.testing.assert_allclose(value, min(candidates), rtol=1e-9)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(
    sizes=st.sampled_from([(2, 2), (3, 4), (5, 3), (2, 2, 2), (3, 2, 2)]),
    seed=st.integers(0, 10**6),
)
def test_finds_the_least_of_all_cuts_of_clear_clusters(sizes, seed):
    truth = np.repeat(np.arange(len(sizes)), sizes)
    rng = np.random.default_rng(seed)
    noise = rng.random((len(truth), len(truth)))
    weights = np.where(truth[:, None] == truth, 1 + 0.1 * noise, 0.01 * noise)
    weights = weights + weights.T
    k = len(sizes)
    segments = cut_graph(weights, k)
    np.testing.assert_array_equal(segments, truth)
    every = (np.array(s) for s in itertools.product(range(k), repeat=len(truth)))
    best = min(_value(weights, s) for s in every if len(np.unique(s)) == k)
    np.testing.assert_allclose(ncut_value(weights, segments), best)


def test_sparse_solver_cuts_like_the_dense_one(monkeypatch):
    image = data.coffee()[:200, :300]
    labels = slic(image, 200)
    results = []
    for limit in (10, 1000):
        monkeypatch.setattr(module, "N_DENSE", limit)
        results.append(normalized_cuts(image, 12, labels=labels))
    np.testing.assert_array_equal(results[0], results[1])


def test_cuts_no_worse_than_skimage():
    image = data.astronaut()[:256, :256]
    labels = slic(image, 150)
    rag = skimage_graph.rag_mean_color(image, labels, mode="similarity")
    theirs = skimage_graph.cut_normalized(labels, rag, thresh=0.05, rng=0)

    graph = region_graph(labels, image, connectivity=2)
    n = graph.n_regions
    rows = np.repeat(np.arange(n), np.diff(graph.indptr))
    squared = ((graph.color[rows] - graph.color[graph.indices]) ** 2).sum(axis=1)
    weights = sparse.csr_array((np.exp(-squared / 255), graph.indices, graph.indptr), shape=(n, n))
    weights = weights + sparse.eye_array(n)
    of_node = np.zeros(n, int)
    of_node[labels] = theirs
    of_node = np.unique(of_node, return_inverse=True)[1]
    ours = cut_graph(weights, int(of_node.max()) + 1)
    assert ncut_value(weights, ours) <= ncut_value(weights, of_node) + 1e-9


def test_threshold_bounds_every_cut():
    weights = _random_graph(30, 5)
    assert cut_graph(weights, max_ncut=0).max() == 0
    segments = cut_graph(weights, max_ncut=0.9)
    assert segments.max() > 0
    for s in range(segments.max() + 1):
        inside = segments == s
        assert module._best_split(sparse.csr_array(weights[inside][:, inside]))[0] > 0.9


@pytest.mark.parametrize("n_segments", [1, 2, 7, 30])
def test_number_of_segments(n_segments):
    segments = cut_graph(_random_graph(30, 1), n_segments)
    np.testing.assert_array_equal(np.unique(segments), np.arange(n_segments))
    first = [np.argmax(segments == s) for s in range(n_segments)]
    assert first == sorted(first)


def test_loose_parts_come_apart_first():
    weights = linalg.block_diag(np.ones((4, 4)), np.ones((3, 3)), np.ones((1, 1)))
    np.testing.assert_array_equal(cut_graph(weights, max_ncut=0), [0] * 4 + [1] * 3 + [2])
    np.testing.assert_array_equal(cut_graph(np.zeros((3, 3)), 2).max(), 1)
    with np.errstate(all="raise"):
        assert ncut_value(weights, [0] * 4 + [1] * 4) == 0


def test_finds_flat_regions():
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, 20:40] = (200, 50, 50)
    image[25:, 40:] = (50, 90, 220)
    labels = normalized_cuts(image, 4)
    flat = labels[::5, ::5]
    assert labels.max() == 3
    for region in (np.s_[:, :20], np.s_[:, 20:40], np.s_[:25, 40:], np.s_[25:, 40:]):
        assert len(np.unique(labels[region])) == 1
    assert len(np.unique(flat)) == 4
    np.testing.assert_array_equal(normalized_cuts(image), labels)


def test_given_regions_are_never_cut():
    image = data.coins()
    labels = np.where(np.arange(384) // 8 % 40 == 39, -1, np.arange(384) // 8)
    labels = np.broadcast_to(labels, image.shape)
    segments = normalized_cuts(image, 5, labels=labels)
    np.testing.assert_array_equal(segments < 0, labels < 0)
    pairs = set(zip(labels.ravel().tolist(), segments.ravel().tolist(), strict=True))
    assert len(pairs) == len(np.unique(labels))


def test_volume():
    volume = np.zeros((6, 20, 20), np.uint8)
    volume[3:, 5:15, 5:15] = 200
    labels = NormalizedCutsSegmenter(2, n_superpixels=60, channel_axis=None).predict(volume)
    assert labels.shape == volume.shape
    assert labels.max() == 1
    assert len(np.unique(labels[3:, 6:14, 6:14])) == 1


def test_outside_the_mask_has_no_influence():
    image = data.coins().astype(np.float32)
    mask = np.zeros(image.shape, bool)
    mask[20:150, 30:300] = True
    labels = normalized_cuts(image, 5, mask=mask)
    other = np.where(mask, image, -1e30).astype(np.float32)
    np.testing.assert_array_equal(normalized_cuts(other, 5, mask=mask), labels)
    assert (labels[~mask] == -1).all()
    np.testing.assert_array_equal(np.unique(labels[mask]), np.arange(5))


def test_any_number_of_threads():
    image = data.chelsea()
    with thread_limit(1):
        one = normalized_cuts(image)
    for limit in (2, 4):
        with thread_limit(limit):
            np.testing.assert_array_equal(normalized_cuts(image), one)


def test_class_equals_function():
    image, mask = data.coins(), np.arange(384) > np.arange(303)[:, None] // 2
    options = {"max_ncut": 0.02, "sigma": 10.0, "n_superpixels": 100, "data_range": 200}
    np.testing.assert_array_equal(
        NormalizedCutsSegmenter(8, **options).predict(image, mask=mask),
        normalized_cuts(image, 8, mask=mask, **options),
    )


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_segments": 0}, ValueError, "normalized_cuts: n_segments is 0"),
        ({"max_ncut": -1}, ValueError, "normalized_cuts: max_ncut is -1"),
        ({"sigma": 0}, ValueError, "normalized_cuts: sigma is 0"),
        ({"n_superpixels": 1.5}, TypeError, "normalized_cuts: n_superpixels is 1.5"),
        ({"data_range": 0}, ValueError, "normalized_cuts: data_range is 0"),
        ({"labels": np.zeros((4, 5), int)}, ValueError, r"labels has shape \(4, 5\)"),
        ({"labels": np.full((4, 4), -1)}, ValueError, "labels are -1 everywhere"),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        normalized_cuts(np.zeros((4, 4)), **options)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones((2, 3)), r"weights has shape \(2, 3\)"),
        ([[0, 1], [2, 0]], "weights is not symmetric"),
        ([[0, -1], [-1, 0]], "weights holds negative"),
    ],
)
def test_bad_graphs(weights, message):
    with pytest.raises(ValueError, match="cut_graph: " + message):
        cut_graph(weights, 1)
    with pytest.raises(ValueError, match="ncut_value: " + message):
        ncut_value(weights, [0, 0])
