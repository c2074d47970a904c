"""The random walker."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, sparse
from scipy.sparse.linalg import spsolve
from skimage import data
from skimage.segmentation import random_walker as skimage_random_walker
from sklearn.exceptions import ConvergenceWarning

from segalgos.graph import random_walker as module
from segalgos.graph._coarsening import coarsen, graph_of_even_nodes, totals
from segalgos.graph._multigrid import Multigrid
from segalgos.graph.random_walker import RandomWalkerSegmenter, random_walker
from segalgos.parallel import thread_limit
from segalgos.results import Prompts


def _direct(image, seeds, beta, spacing, mask):
    """Assemble the whole Laplacian and factorize it; values are taken as they are."""
    shape = seeds.shape
    values = image.astype(float)
    scale = beta / (10 * values[mask].std() * np.sqrt(image.shape[-1])) if beta else 0
    index = np.arange(seeds.size).reshape(shape)
    rows, columns, weights = [], [], []
    for axis, length in enumerate(spacing):
        here = tuple(slice(None, -1) if a == axis else slice(None) for a in range(len(shape)))
        there = tuple(slice(1, None) if a == axis else slice(None) for a in range(len(shape)))
        both = mask[here] & mask[there]
        squared = ((values[here] - values[there]) ** 2).sum(axis=-1)[both] / length**2
        rows.append(index[here][both])
        columns.append(index[there][both])
        weights.append(np.exp(-scale * squared) + 1e-10)
    rows, columns, weights = map(np.concatenate, (rows, columns, weights))
    links = sparse.coo_array((weights, (rows, columns)), shape=(seeds.size,) * 2).tocsr()
    links = links + links.T
    laplacian = (sparse.diags_array(links.sum(axis=1)) - links).tocsr()
    known = (seeds >= 0).ravel()
    open_ = np.flatnonzero(mask.ravel() & ~known)
    ids = np.unique(seeds[seeds >= 0])
    proba = np.zeros((seeds.size, len(ids)))
    for k, name in enumerate(ids):
        proba[(seeds == name).ravel() & mask.ravel(), k] = 1
        if len(open_):
            b = -laplacian[open_] @ proba[:, k] * 1.0
            proba[open_, k] = spsolve(laplacian[open_][:, open_].tocsc(), b)
    return proba.reshape(*shape, len(ids))


def _connected(mask):
    pieces, _ = ndimage.label(mask)
    return pieces == np.argmax(np.bincount(pieces[mask]))


@settings(max_examples=150, derandomize=True, deadline=None)
@given(
    shape=st.sampled_from([(9, 11), (1, 14), (17, 1), (4, 5, 6), (1, 6, 7), (40, 30), (9, 9, 9)]),
    n_channels=st.integers(1, 4),
    n_labels=st.integers(1, 4),
    beta=st.sampled_from([0.0, 10.0, 130.0, 2000.0]),
    spacing=st.sampled_from([1.0, 0.5, 3.0]),
    masked=st.booleans(),
    levels=st.sampled_from([2, 5, 256]),
    seed=st.integers(0, 10**6),
)
def test_equals_direct_solution(shape, n_channels, n_labels, beta, spacing, masked, levels, seed):
    rng = np.random.default_rng(seed)
    image = (rng.integers(0, levels, (*shape, n_channels)) / (levels - 1)).astype(np.float32)
    mask = _connected(rng.random(shape) > 0.3) if masked else np.ones(shape, bool)
    spacing = (spacing,) + (1.0,) * (len(shape) - 1)
    seeds = np.full(shape, -1)
    where = rng.permutation(np.argwhere(mask))[: 2 * n_labels]
    for i, pixel in enumerate(where):
        seeds[tuple(pixel)] = 3 * (i % n_labels)
    labels, proba = random_walker(
        image,
        seeds,
        beta=beta,
        spacing=spacing,
        mask=mask if masked else None,
        data_range=1,
        tol=1e-9,
        return_proba=True,
        channel_axis=-1,
    )
    expected = _direct(image, seeds, beta, spacing, mask)
    # Couplings from 1 to 1e-10 cost the direct solution as many digits.
    np.testing.assert_allclose(proba, expected, atol=1e-6 if beta < 100 else 3e-5)
    ids = np.unique(seeds[seeds >= 0])
    np.testing.assert_array_equal(labels[mask], ids[np.argmax(proba, axis=-1)][mask])
    assert (labels[~mask] == -1).all()


@pytest.fixture(scope="module")
def scene():
    image = data.coffee()[:150, :200]
    seeds = np.full(image.shape[:2], -1)
    seeds[5:10, 5:40] = 1
    seeds[75:80, 90:120] = 2
    seeds[120:125, 60:150] = 7
    return image, seeds


@pytest.mark.parametrize("beta", [30.0, 130.0, 1000.0])
def test_default_tolerance_is_kept_on_photographs(scene, beta):
    image, seeds = scene
    _, proba = random_walker(image, seeds, beta=beta, return_proba=True)
    expected = _direct(image / 255, seeds, beta, (1, 1), np.ones(seeds.shape, bool))
    assert np.abs(proba - expected).max() < 1e-3


def test_agrees_with_skimage(scene):
    image, seeds = scene
    _, proba = random_walker(image, seeds, beta=130, tol=1e-6, return_proba=True)
    theirs = skimage_random_walker(
        image, np.maximum(seeds, 0), mode="bf", return_full_prob=True, channel_axis=-1
    )
    np.testing.assert_allclose(proba, np.moveaxis(theirs, 0, -1), atol=1e-5)


def _network(shape, range_, rng):
    """Couplings of a grid over `range_` orders of magnitude, laid out as the solver wants them.

    Returns couplings, steps, and a function that gives the part of a flat array of the grid.
    """
    padded = (shape[0], *((n + 1) | 1 for n in shape[1:]))
    steps = np.array(list(itertools.accumulate((1, *padded[:0:-1]), lambda a, b: a * b)))
    margin, n = steps[-1] + 1, int(np.prod(padded))
    length = n + 2 * margin + n % 2

    def grid(flat):
        return flat[margin : margin + n].reshape(padded)[tuple(map(slice, shape))]

    couplings = np.zeros((len(steps), length), np.float32)
    for k in range(len(steps)):
        inner = tuple(slice(m - (a == len(shape) - 1 - k)) for a, m in enumerate(shape))
        part = grid(couplings[k])[inner]
        part[:] = 10 ** (-range_ * rng.random(part.shape))
    return couplings, steps, grid


def _matrix(couplings, steps, ground):
    """The network's Laplacian, dense."""
    laplacian = np.diag(ground)
    for coupling, step in zip(couplings.astype(float), steps, strict=True):
        for i in np.flatnonzero(coupling):
            laplacian[i, i] += coupling[i]
            laplacian[i + step, i + step] += coupling[i]
            laplacian[i, i + step] -= coupling[i]
            laplacian[i + step, i] -= coupling[i]
    return laplacian


@settings(max_examples=60, derandomize=True, deadline=None)
@given(
    shape=st.sampled_from([(13, 17), (5, 6, 7)]),
    range_=st.sampled_from([0, 4, 10]),
    seed=st.integers(0, 10**6),
)
def test_multigrid_solves_networks_of_any_strength(shape, range_, seed):
    rng = np.random.default_rng(seed)
    couplings, steps, grid = _network(shape, range_, rng)
    ground, truth = np.zeros((2, couplings.shape[1]))
    grid(ground)[(0,) * len(shape)] = 1
    grid(truth)[:] = rng.random(shape)
    b = ground * truth
    for k, step in enumerate(steps):
        flow = couplings[k, :-step] * (truth[:-step] - truth[step:])
        b[:-step] += flow
        b[step:] -= flow
    x, iterations, error = Multigrid(couplings, steps, ground).solve(b, tol=1e-10, max_iter=60)
    assert error <= 1e-10
    assert iterations < 60
    # A residual at the limit of float64 still lets x err by the matrix's condition.
    nodes = grid(np.arange(len(ground))).ravel()
    condition = np.linalg.cond(_matrix(couplings, steps, ground)[np.ix_(nodes, nodes)])
    np.testing.assert_allclose(x, truth, atol=1e-9 + np.finfo(float).eps * condition)


@pytest.mark.parametrize("shape", [(4, 5), (3, 2, 4), (1, 6), (6, 1)])
def test_odd_nodes_are_eliminated(shape):
    rng = np.random.default_rng(0)
    couplings, steps, grid = _network(shape, 2, rng)
    ground = np.zeros(couplings.shape[1])
    grid(ground)[:] = rng.random(shape)
    full = _matrix(couplings, steps, ground)
    diagonal = np.diag(full)
    inverse = np.divide(1, diagonal, where=diagonal > 0, out=np.zeros_like(diagonal))
    indptr, indices, weight, left = graph_of_even_nodes(couplings, steps, inverse, ground)
    ours = np.diag(totals(indptr, indices, weight, left))
    ours[np.repeat(np.arange(len(left)), np.diff(indptr)), indices] -= weight
    between = full[::2, 1::2]
    expected = full[::2, ::2] - between @ np.diag(inverse[1::2]) @ between.T
    np.testing.assert_allclose(ours, expected, atol=1e-6)


def _chain(weight):
    """Graph of nodes in a row."""
    n = len(weight) + 1
    links = sparse.diags_array([weight, weight], offsets=[-1, 1], shape=(n, n)).tocsr()
    return (
        links.indptr.astype(np.int64),
        links.indices.astype(np.int32),
        links.data.astype(np.float32),
        np.zeros(n),
    )


def test_coarse_graphs_conduct_like_fine_ones():
    graph = _chain(np.ones(63))
    group, coarse = coarsen(graph, totals(*graph), 0.25, 2)
    np.testing.assert_array_equal(group, np.repeat(np.arange(16), 4))
    # Groups' middles are four links apart; at both ends of the row the way is not as long.
    np.testing.assert_allclose(coarse[2][2:-2], 0.25)
    # A weak link stays what it is: ways to it do not count.
    weight = np.ones(63)
    weight[31] = 1e-6
    graph = _chain(weight)
    _, coarse = coarsen(graph, totals(*graph), 0.25, 2)
    assert coarse[2].min() == pytest.approx(1e-6, rel=1e-3)


def test_nodes_tied_to_the_ground_are_left_out_of_coarse_graphs():
    graph = _chain(np.ones(7))
    graph[3][3] = 5
    group, coarse = coarsen(graph, totals(*graph), 0.5, 1)
    np.testing.assert_array_equal(group == -1, np.arange(8) == 3)
    assert coarse[3].sum() == 2  # the ties to it are ties to the ground


def test_iterations_hardly_depend_on_size_and_beta():
    counts = []
    for size in (64, 256):
        for beta in (30, 3000):
            image = ndimage.zoom(data.camera()[::2, ::2], size / 256, order=1) / 255.0
            weights = module._couplings(
                image[None, :, :, None].astype(np.float32),
                np.ones((1, size, size), bool),
                beta,
                np.ones(2),
                1.0,
            )
            couplings = np.zeros((2, size + 4, size + 1), np.float32)
            couplings[:, 2:-2, :size] = weights[:, 0]
            ground = np.zeros((size + 4, size + 1))
            ground[2, 0] = ground[size, size - 1] = 1
            b = np.zeros_like(ground)
            b[2, 0] = 1
            grid = Multigrid(couplings.reshape(2, -1), np.array([1, size + 1]), ground.ravel())
            counts.append(grid.solve(b.ravel(), tol=1e-4, max_iter=200)[1])
    assert max(counts) < 15


def test_islands_take_the_label_of_the_nearest_seed():
    mask = np.ones((5, 12), bool)
    mask[:, [4, 8]] = False
    seeds = np.full(mask.shape, -1)
    seeds[2, 0], seeds[0, 11] = 5, 9
    labels, proba = random_walker(np.zeros(mask.shape), seeds, mask=mask, return_proba=True)
    expected = np.repeat([5, -1, 9, -1, 9], [4, 1, 3, 1, 3])
    np.testing.assert_array_equal(labels, np.tile(expected, (5, 1)))
    np.testing.assert_array_equal(proba.sum(axis=-1), mask)
    seeds[mask] = -1
    seeds[0, 8] = 4  # outside the mask: no seed, but the only one to be near to
    assert (random_walker(np.zeros(mask.shape), seeds, mask=mask)[mask] == 4).all()


def test_many_islands_with_seeds_of_their_own():
    mask = np.zeros((40, 41), bool)
    mask[::2, ::4] = mask[::2, 1::4] = mask[::2, 2::4] = True  # rows of three pixels
    seeds = np.full(mask.shape, -1)
    seeds[::2, ::4], seeds[::4, 2::4] = 0, 1
    labels, proba = random_walker(np.zeros(mask.shape), seeds, mask=mask, return_proba=True)
    np.testing.assert_allclose(proba[::4, 1::4, 1], 0.5, atol=1e-6)
    np.testing.assert_allclose(proba[2::4, 1::4, 1], 0, atol=1e-6)
    assert (labels[~mask] == -1).all()


def test_seeds_of_one_label_and_seeds_everywhere():
    image = data.coins()[:20, :30]
    seeds = np.full(image.shape, -1)
    seeds[3, 4] = 6
    labels, proba = random_walker(image, seeds, return_proba=True)
    assert (labels == 6).all()
    np.testing.assert_array_equal(proba, np.ones((20, 30, 1)))
    seeds = np.random.default_rng(0).integers(0, 5, image.shape)
    np.testing.assert_array_equal(random_walker(image, seeds), seeds)


def test_range_of_storage_does_not_matter(scene):
    image, seeds = scene
    expected = random_walker(image, seeds, return_proba=True)[1]
    for stored in (image.astype(np.float32), image.astype(np.uint16), image / 255.0):
        proba = random_walker(stored, seeds, return_proba=True)[1]
        np.testing.assert_allclose(proba, expected, atol=1e-3)


@pytest.mark.parametrize("value", [0, 255, 1e30, -3e38, 1e-40])
def test_constant_image_is_split_in_the_middle(value):
    seeds = np.full((6, 9), -1)
    seeds[:, 0], seeds[:, 8] = 0, 1
    _, proba = random_walker(np.full((6, 9), value, np.float32), seeds, return_proba=True)
    np.testing.assert_allclose(proba[..., 1], np.tile(np.arange(9) / 8, (6, 1)), atol=1e-3)


def test_huge_values():
    image = np.zeros((6, 9), np.float32)
    image[:, 4:] = 3e38
    seeds = np.full((6, 9), -1)
    seeds[0, 0], seeds[5, 8] = 0, 1
    np.testing.assert_array_equal(random_walker(image, seeds, beta=1000), image > 0)


def test_outside_the_mask_has_no_influence(scene):
    image, seeds = scene
    mask = np.zeros(seeds.shape, bool)
    mask[20:100, 20:180] = True
    seeds = np.where(mask, seeds, -1)
    seeds[30, 30] = 1
    expected = random_walker(image, seeds, mask=mask, return_proba=True)
    other, other_seeds = image.astype(np.float32), seeds.copy()
    other[~mask] = -1e30
    other_seeds[0, :] = 2
    for ours, want in zip(
        random_walker(other, other_seeds, mask=mask, data_range=255, return_proba=True),
        expected,
        strict=True,
    ):
        np.testing.assert_array_equal(ours, want)


def test_any_number_of_threads(scene):
    image, seeds = scene
    with thread_limit(1):
        one = random_walker(image, seeds, return_proba=True)[1]
    for limit in (2, 4):
        with thread_limit(limit):
            np.testing.assert_array_equal(random_walker(image, seeds, return_proba=True)[1], one)


def test_class_equals_function(scene):
    image, seeds = scene
    options = {"beta": 60.0, "spacing": (1, 2), "tol": 1e-4, "data_range": 200.0}
    segmenter = RandomWalkerSegmenter(**options)
    prompts, mask = Prompts(scribbles=seeds), np.arange(200) < np.full((150, 1), 180)
    labels, proba = random_walker(image, seeds, mask=mask, return_proba=True, **options)
    np.testing.assert_array_equal(segmenter.predict(image, prompts=prompts, mask=mask), labels)
    result = segmenter.predict_proba([image], prompts=[prompts], mask=[mask])
    assert result[0].dtype == np.float32
    np.testing.assert_array_equal(result[0], proba)


def test_points_and_boxes_seed_objects():
    image = np.zeros((20, 30), np.uint8)
    image[5:15, 8:20] = 200
    segmenter = RandomWalkerSegmenter()
    for prompts in (
        Prompts(points=[[10, 10], [1, 1]], point_labels=[1, 0]),
        Prompts(points=[[10, 10]], boxes=[3, 5, 18, 24]),
    ):
        np.testing.assert_array_equal(segmenter.predict(image, prompts=prompts), image > 0)


def test_gives_warning_when_it_gives_up(scene, monkeypatch):
    image, seeds = scene
    monkeypatch.setattr(module, "MAX_ITER", 2)
    with pytest.warns(ConvergenceWarning, match="random_walker: probabilities may be wrong by"):
        random_walker(image, seeds)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"beta": -1}, ValueError, "random_walker: beta is -1"),
        ({"tol": 0}, ValueError, "random_walker: tol is 0"),
        ({"spacing": 2}, ValueError, "random_walker: spacing is 2"),
        ({"spacing": (1, 0)}, ValueError, r"random_walker: spacing\[1\] is 0"),
        ({"spacing": (1, 1, 1)}, ValueError, "random_walker: spacing has 3 numbers"),
        ({"return_proba": 1}, TypeError, "random_walker: return_proba is 1"),
        ({"data_range": 0}, ValueError, "random_walker: data_range is 0"),
        ({"seeds": np.full((4, 4), -1)}, ValueError, "random_walker: there are no seeds"),
        ({"seeds": np.zeros((4, 5), int)}, ValueError, r"seeds has shape \(4, 5\)"),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        random_walker(np.zeros((4, 4)), **{"seeds": np.zeros((4, 4), int), **options})
