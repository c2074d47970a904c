"""Normalized cuts of graphs of pixels."""

import gc
import weakref

import numpy as np
import pytest
from scipy import sparse
from skimage import data, transform

from segalgos import NormalizedCutsSegmenter, load, normalized_cuts, thread_limit
from segalgos.graph import pixel_cuts
from segalgos.graph.normalized_cuts import cut_graph, ncut_value
from segalgos.graph.pixel_cuts import k_way_segments, kept_by_segmenter, recursive_segments
from segalgos.metrics import region_scores
from segalgos.spectral.affinity import disc_offsets, pixel_graph
from segalgos.spectral.eigenvectors import leading_eigenvectors

METHODS = "recursive", "k_way"


@pytest.fixture(scope="module")
def stripes():
    """Four colours side by side, and where they are."""
    truth = np.repeat(np.arange(4), [12, 17, 9, 14])[None].repeat(40, axis=0)
    colors = np.array([[0.1, 0.2, 0.6], [0.8, 0.7, 0.2], [0.2, 0.6, 0.3], [0.9, 0.9, 0.9]])
    noise = np.random.default_rng(0).normal(0, 0.01, (*truth.shape, 3))
    return np.clip(colors[truth] + noise, 0, 1), truth


@pytest.fixture
def solves(monkeypatch):
    """How many eigenvectors were solved for, each time."""
    counted = []

    def count(graph, k, tol, caller):
        counted.append(k)
        return leading_eigenvectors(graph, k, tol, caller)

    monkeypatch.setattr(pixel_cuts, "leading_eigenvectors", count)
    return counted


@pytest.mark.parametrize("method", METHODS)
def test_stripes_are_found(stripes, method):
    image, truth = stripes
    labels = normalized_cuts(image, 4, nodes="pixels", method=method)
    assert region_scores(labels, truth)["covering"] > 0.98
    assert labels.dtype == np.int32
    _, first = np.unique(labels, return_index=True)
    assert (np.diff(first) > 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_grey_images_and_other_channels(stripes, method):
    image, truth = stripes
    for other in (image.mean(axis=2), np.dstack([image, image])):
        labels = normalized_cuts(
            other, 4, nodes="pixels", method=method, channel_axis=-1 if other.ndim == 3 else None
        )
        assert region_scores(labels, truth)["covering"] > 0.95


def test_recursive_cuts_are_as_good_as_those_of_the_whole_graph():
    """Against an eigenvector of each part's own graph and every threshold of it."""
    image = transform.resize(data.coffee(), (24, 36), anti_aliasing=True)
    planes = np.moveaxis(image, -1, 0).astype(np.float32).copy()
    mask = np.ones(image.shape[:2], bool)
    graph = pixel_graph(disc_offsets(4), mask, planes=planes, sigma=0.3)
    vectors = leading_eigenvectors(graph, 16, 1e-4)[0].vectors
    weights = graph.to_sparse()
    for n in (2, 4):
        ours = recursive_segments(graph, vectors, mask, n, 0.0)
        values = [
            ncut_value(weights, part.ravel()) for part in (ours, cut_graph_recursively(weights, n))
        ]
        assert values[0] <= values[1] * 1.1


def test_rounding_decides_nothing(monkeypatch):
    """Sums over other strips of pixels, which are rounded otherwise, give the same cuts."""
    image = transform.resize(data.coffee(), (100, 150), anti_aliasing=True)
    mask = np.ones(image.shape[:2], bool)
    planes = np.moveaxis(image, -1, 0).astype(np.float32).copy()
    graph = pixel_graph(disc_offsets(5), mask, planes=planes, sigma=0.1)
    vectors = leading_eigenvectors(graph, 32, 1e-3)[0].vectors
    found = []
    for chunk in (16384, 701):
        monkeypatch.setattr(pixel_cuts, "CHUNK", chunk)
        found.append(recursive_segments(graph, vectors, mask, 32, 0.0))
    assert region_scores(*found)["covering"] > 0.999  # they may be named otherwise


def cut_graph_recursively(weights, n):
    """The part with the cheapest cut, by the exact second eigenvectors."""
    from segalgos.graph._recursive_cuts import split

    return split(sparse.csr_array(weights), n, np.inf)


def test_max_ncut_bounds_the_cuts(stripes):
    image, truth = stripes
    few = normalized_cuts(image, nodes="pixels", max_ncut=1e-4)
    assert region_scores(few, truth)["covering"] > 0.98
    assert normalized_cuts(image, nodes="pixels", max_ncut=0).max() == 0
    more = normalized_cuts(image, nodes="pixels", max_ncut=0.3)
    assert more.max() > few.max()


def test_k_way_turns_indicators_back():
    """Vectors that are indicators of regions, but for a rotation."""
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 5, (30, 40))
    rotation = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    vectors = np.moveaxis(np.eye(5)[truth] @ rotation, -1, 0).astype(np.float32)
    vectors *= rng.uniform(0.5, 2, truth.shape)  # lengths say nothing
    labels = k_way_segments(vectors, np.ones(truth.shape, bool))
    pairs = np.unique(np.stack([labels.ravel(), truth.ravel()]), axis=1)
    assert pairs.shape[1] == 5


def test_k_way_of_superpixels_and_graphs(stripes):
    image, truth = stripes
    labels = normalized_cuts(image, 4, method="k_way", n_superpixels=60)
    assert region_scores(labels, truth)["covering"] > 0.9
    recursive = cut_graph([[0, 2, 0, 0], [2, 0, 1, 0], [0, 1, 0, 2], [0, 0, 2, 0]], 2)
    np.testing.assert_array_equal(recursive, [0, 0, 1, 1])


@pytest.mark.parametrize("method", METHODS)
def test_mask_pieces_and_outside(stripes, method):
    image, truth = stripes
    mask = np.ones(truth.shape, bool)
    mask[18:22] = False
    labels = normalized_cuts(image, 8, nodes="pixels", method=method, mask=mask)
    np.testing.assert_array_equal(labels == -1, ~mask)
    assert labels.max() == 7
    poisoned = np.where(mask[..., None], image, 1 - image)
    other = normalized_cuts(poisoned, 8, nodes="pixels", method=method, mask=mask)
    np.testing.assert_array_equal(labels, other)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (3, 2), (1, 60), (700, 1), (40, 40)])
def test_constant_thin_and_tiny_images(shape, method):
    for n in (1, 2, 5):
        labels = normalized_cuts(np.full(shape, 0.5), n, nodes="pixels", method=method)
        ids = np.unique(labels)
        np.testing.assert_array_equal(ids, np.arange(len(ids)))
        assert 1 <= len(ids) <= min(n, labels.size)
        if method == "recursive" or labels.size > 100:
            assert len(ids) == min(n, labels.size)


def test_another_number_of_segments_needs_no_eigenvectors(stripes, solves):
    image, _ = stripes
    segmenter = NormalizedCutsSegmenter(4, nodes="pixels")
    found = {}
    for n, method in ((4, "recursive"), (3, "k_way"), (9, "recursive"), (16, "k_way")):
        found[n, method] = segmenter.set_params(n_segments=n, method=method).predict(image)
    assert solves == [16]
    segmenter.set_params(n_segments=20).predict(image)
    segmenter.set_params(n_segments=5).predict(image)
    assert solves == [16, 32]
    for (n, method), labels in found.items():  # what was kept changes no result
        fresh = NormalizedCutsSegmenter(n, nodes="pixels", method=method).predict(image)
        np.testing.assert_array_equal(labels, fresh)


def test_other_images_masks_and_parameters_need_new_eigenvectors(stripes, solves):
    image, truth = stripes
    segmenter = NormalizedCutsSegmenter(4, nodes="pixels")
    segmenter.predict(image)
    changed = image.copy()
    segmenter.predict(changed)
    assert len(solves) == 1
    changed[0, 0] = 0
    segmenter.predict(changed)
    segmenter.predict(image, mask=truth < 3)
    segmenter.set_params(sigma=9.0).predict(image, mask=truth < 3)
    assert len(solves) == 4


def test_kept_eigenvectors_are_no_part_of_the_segmenter(stripes, tmp_path):
    image, _ = stripes
    segmenter = NormalizedCutsSegmenter(4, nodes="pixels").fit([image])
    before = dict(vars(segmenter))
    labels = segmenter.predict(image)
    assert vars(segmenter) == before
    assert segmenter in kept_by_segmenter
    segmenter.save(tmp_path / "cuts.sgm")
    assert (tmp_path / "cuts.sgm").stat().st_size < 5000
    again = load(tmp_path / "cuts.sgm")
    assert again not in kept_by_segmenter
    np.testing.assert_array_equal(again.predict(image), labels)
    alive = weakref.ref(kept_by_segmenter[segmenter])
    del segmenter
    gc.collect()
    assert alive() is None


def test_threads_change_nothing(stripes):
    image, _ = stripes
    found = []
    for n in (1, 2):
        with thread_limit(n):
            found.append([normalized_cuts(image, 6, nodes="pixels", method=m) for m in METHODS])
    np.testing.assert_array_equal(*found)


def test_given_contours_part_what_colours_do_not():
    contours = np.zeros((30, 30))
    contours[:, 15] = 1
    labels = normalized_cuts(np.zeros((30, 30)), 2, nodes="pixels", contours=contours)
    assert len(np.unique(labels[:, :15])) == len(np.unique(labels[:, 16:])) == 1
    assert labels[0, 0] != labels[0, -1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"nodes": "voxels"}, "nodes is 'voxels'"),
        ({"method": "best"}, "method is 'best'"),
        ({"method": "k_way"}, "n_segments is None, expected an integer with method='k_way'"),
        ({"nodes": "pixels", "labels": np.zeros((8, 8), int)}, "got labels with nodes='pixels'"),
        ({"contours": np.zeros((8, 8))}, "got contours with nodes='superpixels'"),
        ({"nodes": "pixels", "contours": np.zeros((8, 9))}, "contours has shape"),
        ({"nodes": "pixels", "radius": 0}, "radius is 0"),
        ({"nodes": "pixels", "tol": 1}, "tol is 1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        normalized_cuts(np.zeros((8, 8)), **arguments)


def test_volumes_have_no_graph_of_pixels():
    volume = np.zeros((4, 8, 8))
    with pytest.raises(ValueError, match="nodes is 'pixels' for a volume"):
        normalized_cuts(volume, nodes="pixels", channel_axis=None)
    segmenter = NormalizedCutsSegmenter(nodes="pixels", channel_axis=None)
    with pytest.raises(ValueError, match="NormalizedCutsSegmenter: nodes is 'pixels' for a volume"):
        segmenter.predict(volume)
