"""Expansion moves against all labellings of tiny grids."""

from itertools import product

import numpy as np
import pytest

from segalgos import alpha_expansion, grid_cut, thread_limit
from segalgos.graph.max_flow import half_neighborhood


def energy_of(labels, unary, pairwise, cost):
    """Energy of labels (..., H, W)."""
    rows, columns = np.indices(labels.shape[-2:])
    across = pairwise[0, :, :-1] * cost[labels[..., :-1], labels[..., 1:]]
    down = pairwise[1, :-1] * cost[labels[..., :-1, :], labels[..., 1:, :]]
    return sum(x.sum(axis=(-2, -1)) for x in (unary[rows, columns, labels], across, down))


def random_problem(seed, shape, n_labels):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 20, (*shape, n_labels)), rng.integers(0, 12, (2, *shape))


POTTS = 1 - np.eye(3, dtype=int)
LINEAR = abs(np.subtract.outer(np.arange(3), np.arange(3)))


@pytest.mark.parametrize("cost", [POTTS, LINEAR], ids=["Potts", "linear"])
@pytest.mark.parametrize("seed", range(25))
def test_no_move_lowers_the_energy_and_it_is_near_the_least(seed, cost):
    unary, pairwise = random_problem(seed, (2, 4), 3)
    labels, energy = alpha_expansion(unary, pairwise, label_cost=cost)
    assert energy == energy_of(labels, unary, pairwise, cost)
    moves = np.array(list(product((False, True), repeat=8))).reshape(-1, 2, 4)
    for alpha in range(3):
        moved = np.where(moves, alpha, labels)
        assert energy_of(moved, unary, pairwise, cost).min() >= energy
    every = np.array(list(product(range(3), repeat=8))).reshape(-1, 2, 4)
    least = energy_of(every, unary, pairwise, cost).min()
    assert least <= energy <= 1.1 * least + 1


def any_energy(labels, unary, pairwise, cost, mask):
    """Energy on any grid, edge by edge, for labellings along the first axis."""
    inside = [tuple(place) for place in np.argwhere(mask)]
    energy = sum(unary[place][labels[(slice(None), *place)]] for place in inside)
    offsets = half_neighborhood(mask.ndim, 2 * len(pairwise))
    for (k, offset), here in product(enumerate(offsets), inside):
        there = tuple(np.add(here, offset).tolist())
        if all(0 <= i < n for i, n in zip(there, mask.shape, strict=True)) and mask[there]:
            ends = labels[(slice(None), *here)], labels[(slice(None), *there)]
            energy = energy + pairwise[(k, *here)] * cost[ends]
    return energy


@pytest.mark.parametrize("dtype", [int, np.float32])
@pytest.mark.parametrize("seed", range(30))
def test_no_move_on_any_grid_lowers_the_energy(seed, dtype):
    """Moves start from the flow of the move before, whatever the label, metric and mask."""
    rng = np.random.default_rng(seed)
    shape, planes = [((3, 4), 2), ((4, 3), 4), ((2, 3, 2), 3)][seed % 3]
    points = rng.integers(0, 7, (4, 2))
    metrics = [1 - np.eye(4, dtype=int), abs(points[:, None] - points).sum(-1)]
    metrics.append(np.minimum(metrics[1], 3))
    cost = metrics[seed // 3 % 3]
    unary = rng.integers(-20, 20, (*shape, 4)).astype(dtype)
    pairwise = rng.integers(0, 9, (planes, *shape)).astype(dtype)
    if dtype == np.float32:
        unary[rng.random(unary.shape) < 0.1] = np.inf
        unary[..., 0] = np.where(np.isinf(unary).all(-1), 0, unary[..., 0])
    mask = rng.random(shape) < 0.85
    mask.flat[0] = True
    init = unary.argmin(-1) if seed % 2 else None
    labels, energy = alpha_expansion(unary, pairwise, label_cost=cost, mask=mask, init=init)
    assert energy == any_energy(labels[None], unary, pairwise, cost, mask)
    every = np.array(list(product((False, True), repeat=12))).reshape(-1, *shape)
    for alpha in range(4):
        moved = np.where(every, alpha, labels)
        assert any_energy(moved, unary, pairwise, cost, mask).min() >= energy


@pytest.mark.parametrize("seed", range(20))
def test_two_labels_are_solved_exactly(seed):
    unary, pairwise = random_problem(seed, (9, 11), 2)
    assert alpha_expansion(unary, pairwise)[1] == grid_cut(unary, pairwise)[1]


def test_energy_never_rises_above_where_it_starts():
    rng = np.random.default_rng(0)
    unary, pairwise = random_problem(0, (16, 20), 5)
    init = rng.integers(0, 5, (16, 20)).astype(np.int32)
    cost = 1 - np.eye(5, dtype=int)
    before = energy_of(init, unary, pairwise, cost)
    energies = [alpha_expansion(unary, pairwise, init=init, max_iter=n)[1] for n in (1, 2, 3, 50)]
    assert all(a >= b for a, b in zip([before, *energies], energies, strict=False))


def test_mask_volume_and_threads():
    rng = np.random.default_rng(1)
    unary = rng.integers(0, 20, (4, 6, 7, 4))
    pairwise = rng.integers(0, 12, (3, 4, 6, 7))
    mask = rng.random((4, 6, 7)) < 0.8
    labels, _ = alpha_expansion(unary, pairwise, mask=mask)
    assert (labels[~mask] == -1).all()
    assert (labels[mask] >= 0).all()
    hidden = unary.copy()
    hidden[~mask] = 99
    for limit in (1, 2, 4):
        with thread_limit(limit):
            again, _ = alpha_expansion(hidden, pairwise, mask=mask)
            np.testing.assert_array_equal(again, labels)


def test_a_cost_that_is_no_metric_is_refused():
    unary, pairwise = random_problem(0, (3, 4), 3)
    with pytest.raises(ValueError, match=r"alpha_expansion: label_cost is no metric"):
        alpha_expansion(unary, pairwise, label_cost=LINEAR**2)
    with pytest.raises(ValueError, match=r"alpha_expansion: init holds labels"):
        alpha_expansion(unary, pairwise, init=np.full((3, 4), 7, np.int32))
