"""Minimum cuts on grids against scipy's maximum flow and against trying all labellings."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.sparse.csgraph import maximum_flow

from segalgos import grid_cut, thread_limit
from segalgos.graph import _boykov_kolmogorov, _push_relabel
from segalgos.graph.max_flow import FLOW_LIMIT, GridFlow, check_energy, half_neighborhood


def random_problem(seed, shape, neighbors, *, directed=False, largest=20):
    rng = np.random.default_rng(seed)
    unary = rng.integers(-largest, largest, (*shape, 2)).astype(np.int32)
    planes = (neighbors // 2, 2) if directed else (neighbors // 2,)
    pairwise = rng.integers(0, largest, (*planes, *shape)).astype(np.int32)
    pairwise[rng.random(pairwise.shape) < 0.3] = 0
    return unary, pairwise


def edges_of(pairwise, shape, neighbors):
    """All edges as (pixel, pixel, cost of labels (1, 0), cost of (0, 1))."""
    if pairwise.ndim == len(shape) + 1:
        pairwise = np.stack([pairwise, pairwise], axis=1)
    for k, offset in enumerate(half_neighborhood(len(shape), neighbors)):
        for here in np.ndindex(shape):
            there = tuple(np.add(here, offset).tolist())
            if all(0 <= i < n for i, n in zip(there, shape, strict=True)):
                yield here, there, int(pairwise[k, 0][here]), int(pairwise[k, 1][here])


def energy_of(labels, unary, pairwise, neighbors):
    energy = sum(int(unary[p][labels[p]]) for p in np.ndindex(labels.shape) if labels[p] >= 0)
    for here, there, ten, one in edges_of(pairwise, labels.shape, neighbors):
        if (labels[here], labels[there]) == (1, 0):
            energy += ten
        if (labels[here], labels[there]) == (0, 1):
            energy += one
    return energy


def all_energies(unary, pairwise, neighbors):
    """All labellings of a small grid, along the first axis, and the energy of each."""
    shape = unary.shape[:-1]
    labels = np.array(list(product((0, 1), repeat=int(np.prod(shape))))).reshape(-1, *shape)
    energies = np.where(labels, unary[..., 1], unary[..., 0]).reshape(len(labels), -1).sum(axis=1)
    for here, there, ten, one in edges_of(pairwise, shape, neighbors):
        a, b = labels[:, *here], labels[:, *there]
        energies += ten * (a > b) + one * (a < b)
    return labels, energies


def least_energy(unary, pairwise, neighbors):
    """By scipy: label 1 is the source's side."""
    shape = unary.shape[:-1]
    n = int(np.prod(shape))
    capacity = np.zeros((n + 2, n + 2), np.int32)
    lower = unary.min(axis=-1)
    capacity[n, :n] = (unary[..., 0] - lower).ravel()
    capacity[:n, n + 1] = (unary[..., 1] - lower).ravel()
    for here, there, ten, one in edges_of(pairwise, shape, neighbors):
        a, b = np.ravel_multi_index(here, shape), np.ravel_multi_index(there, shape)
        capacity[a, b] += ten
        capacity[b, a] += one
    return int(lower.sum()) + maximum_flow(sparse.csr_array(capacity), n, n + 1).flow_value


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([(4, (5, 7)), (8, (6, 4)), (6, (3, 4, 3)), (4, (1, 9)), (8, (9, 1))]),
    st.booleans(),
)
def test_energy_is_the_least(seed, grid, directed):
    neighbors, shape = grid
    unary, pairwise = random_problem(seed, shape, neighbors, directed=directed)
    labels, energy = grid_cut(unary, pairwise, neighbors=neighbors)
    assert energy == energy_of(labels, unary, pairwise, neighbors)
    assert energy == least_energy(unary, pairwise, neighbors)


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("strength", [1, 30])
def test_of_equal_labellings_the_one_with_most_zeros(seed, strength):
    unary, pairwise = random_problem(seed, (3, 4), 4, largest=3)
    pairwise *= strength
    every, energies = all_energies(unary, pairwise, 4)
    best = every[energies == energies.min()]
    np.testing.assert_array_equal(grid_cut(unary, pairwise)[0], best.min(axis=0))


GRIDS = [(4, (5, 7)), (8, (6, 4)), (6, (3, 4, 3)), (4, (1, 9)), (8, (9, 1))]


def every_cut(flow):
    """Source's sides by both kernels, by the second with either terminal pushing."""
    for kernel, side in (
        (_boykov_kolmogorov.cut, ()),
        (_push_relabel.cut, (np.int32(1),)),
        (_push_relabel.cut, (np.int32(-1),)),
    ):
        reached = np.empty(len(flow.excess), bool)
        kernel(flow.capacity.copy(), flow.excess.copy(), flow.steps, *side, reached)
        yield reached[flow.pixels].reshape(flow.shape)


def random_mask(rng, shape):
    mask = rng.random(shape) < 0.8
    mask.flat[0] = True
    return mask


@pytest.mark.parametrize("largest", [2, 20, 400])
@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_both_kernels_find_the_least_energy(grid, directed, largest):
    neighbors, shape = grid
    for seed in range(12):
        unary, pairwise = random_problem(seed, shape, neighbors, directed=directed)
        pairwise = pairwise * largest // 20  # weak edges with ties, or strong ones
        least = least_energy(unary, pairwise, neighbors)
        checked = check_energy(unary, pairwise, neighbors, None, 2, "test")[:4]
        found = list(every_cut(GridFlow.of_energy(*checked, "test")))
        for labels in found:
            labels = labels.reshape(shape)
            assert energy_of(labels.astype(int), unary, pairwise, neighbors) == least
            np.testing.assert_array_equal(labels, found[0].reshape(shape))


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_later_cuts_equal_fresh_ones(grid, dtype):
    neighbors, shape = grid
    for seed in range(12):
        rng = np.random.default_rng(seed)
        unary, pairwise = random_problem(seed, shape, neighbors, directed=seed % 2 == 0)
        mask = random_mask(rng, shape)
        if dtype == np.float32:
            pairwise = pairwise + rng.random(pairwise.shape)
        flow = None
        for rare in (None, 0, 1, 0, None):
            costs = (unary + rng.integers(-3, 4, unary.shape) * 10).astype(dtype)
            if dtype == np.float32:
                costs += rng.random(costs.shape, np.float32)
                costs[rng.random(costs.shape) < 0.05] = np.inf
                costs[np.isinf(costs).all(-1)] = 0
            terms = check_energy(costs, pairwise.astype(dtype), neighbors, mask, 2, "test")[:4]
            fresh = GridFlow.of_energy(*terms, "test")
            expected = next(every_cut(fresh))
            if flow is None:
                flow = GridFlow.of_energy(*terms, "test")
            else:
                flow.change_unary(terms[0], terms[3])
            for found in every_cut(flow):
                np.testing.assert_array_equal(found, expected)
            np.testing.assert_array_equal(flow.cut(rare), expected)


@pytest.mark.parametrize("wish", [1 << 20, 1 << 29])
def test_integers_up_to_the_limit(wish):
    shape, largest = (3, 4), FLOW_LIMIT // 4 - 1  # four edges a pixel
    for seed in range(10):
        rng = np.random.default_rng(seed)
        unary = rng.integers(-wish, wish + 1, (*shape, 2)).astype(np.int32)
        pairwise = rng.integers(largest // 2, largest, (2, *shape)).astype(np.int32)
        pairwise[:, 0, 0] = largest
        least = all_energies(unary, pairwise, 4)[1].min()
        assert grid_cut(unary, pairwise)[1] == least
        terms = check_energy(unary, pairwise, 4, None, 2, "test")[:4]
        for labels in every_cut(GridFlow.of_energy(*terms, "test")):
            assert energy_of(labels.reshape(shape).astype(int), unary, pairwise, 4) == least
    with pytest.raises(ValueError, match="pass float32"):
        grid_cut(unary, np.full((2, *shape), largest + 1, np.int32))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_reach_the_least_energy_to_rounding(dtype):
    rng = np.random.default_rng(0)
    unary = rng.normal(size=(20, 30, 2)).astype(dtype)
    pairwise = rng.random((2, 20, 30)).astype(dtype) * 2
    scale = 1e5
    energy = grid_cut(unary, pairwise)[1]
    fine = grid_cut(np.round(unary * scale).astype(int), np.round(pairwise * scale).astype(int))[1]
    assert energy == pytest.approx(fine / scale, abs=0.02)


@pytest.mark.parametrize("seed", range(20))
def test_what_the_mask_hides_has_no_influence(seed):
    rng = np.random.default_rng(seed)
    unary, pairwise = random_problem(seed, (8, 9), 8)
    mask = rng.random((8, 9)) < 0.7
    labels, energy = grid_cut(unary, pairwise, mask=mask)
    other = unary.copy()
    other[~mask] = 1000
    np.testing.assert_array_equal(grid_cut(other, pairwise, mask=mask)[0], labels)
    assert (labels[~mask] == -1).all()
    assert energy == energy_of(labels, unary, pairwise, 8)


def test_an_infinite_cost_forbids_a_label():
    unary = np.zeros((4, 6, 2))
    unary[:, 0, 0] = np.inf
    unary[:, -1, 1] = np.inf
    pairwise = np.ones((2, 4, 6))
    pairwise[0, :, 3] = 0.5
    labels, energy = grid_cut(unary, pairwise)
    np.testing.assert_array_equal(labels, [[1, 1, 1, 1, 0, 0]] * 4)
    assert energy == 2


def test_real_image_as_pymaxflow_and_on_any_number_of_threads():
    from skimage import data

    image = data.camera()[::2, ::2].astype(np.int32)
    unary = np.stack([image, 255 - image], axis=-1)
    pairwise = np.zeros((2, *image.shape), np.int32)
    pairwise[0, :, :-1] = 255 // (1 + abs(np.diff(image, axis=1)))
    pairwise[1, :-1] = 255 // (1 + abs(np.diff(image, axis=0)))
    with thread_limit(1):
        labels, energy = grid_cut(unary, pairwise)
    for limit in (2, 4):
        with thread_limit(limit):
            np.testing.assert_array_equal(grid_cut(unary, pairwise)[0], labels)
    maxflow = pytest.importorskip("maxflow")
    graph = maxflow.Graph[int]()
    nodes = graph.add_grid_nodes(image.shape)
    right, below = np.zeros((3, 3), int), np.zeros((3, 3), int)
    right[1, 2] = below[2, 1] = 1
    graph.add_grid_edges(nodes, pairwise[0], structure=right, symmetric=True)
    graph.add_grid_edges(nodes, pairwise[1], structure=below, symmetric=True)
    graph.add_grid_tedges(nodes, unary[..., 0], unary[..., 1])
    assert graph.maxflow() == energy


@pytest.mark.parametrize(
    ("unary", "pairwise", "match"),
    [
        (np.zeros((4, 5, 3)), np.zeros((2, 4, 5)), "unary"),
        (np.zeros((4, 5, 2)), np.zeros((3, 4, 5)), "pairwise"),
        (np.zeros((4, 5, 2)), np.full((2, 4, 5), -1.0), "pairwise"),
        (np.full((4, 5, 2), np.nan), np.zeros((2, 4, 5)), "unary"),
    ],
)
def test_bad_input_is_named(unary, pairwise, match):
    with pytest.raises(ValueError, match=f"grid_cut: {match}"):
        grid_cut(unary, pairwise)
