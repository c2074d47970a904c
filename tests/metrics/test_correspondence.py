"""Correspondence of boundary pixels against brute force."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching

from segalgos.metrics import _correspondence as room
from segalgos.metrics._correspondence import (
    correspond,
    find_pixels,
    neighbourhood,
    select_pixels,
)


def partners_of(found, truth, radius):
    near = neighbourhood(found.shape, radius)
    return correspond(find_pixels(found, near), find_pixels(truth, near), near)


def squared_distances(found, truth):
    first, second = np.argwhere(found), np.argwhere(truth)
    return ((first[:, None] - second[None]) ** 2).sum(axis=-1)


def cost_of(partners, squares):
    paired = np.flatnonzero(partners >= 0)
    return np.rint(100 * np.sqrt(squares[paired, partners[paired]])).sum()


@pytest.mark.parametrize("radius", [0, 1, 1.5, 2.3, 4.337, 40])
@pytest.mark.parametrize("seed", range(30))
def test_most_pairs_at_the_least_distance(radius, seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 16, 2))
    found, truth = (rng.random(shape) < rng.random() * 0.6 for _ in range(2))
    partners, squares = partners_of(found, truth, radius), squared_distances(found, truth)
    assert partners.shape == (found.sum(),)
    paired = np.flatnonzero(partners >= 0)
    assert np.unique(partners[paired]).size == paired.size  # one to one
    near = squares <= radius**2
    assert near[paired, partners[paired]].all()
    if squares.size == 0:
        assert paired.size == 0
        return
    most = (maximum_bipartite_matching(csr_matrix(near), perm_type="column") >= 0).sum()
    assert paired.size == most
    worth = np.where(near, 1e6 - np.rint(100 * np.sqrt(squares)), 0)
    best = worth[linear_sum_assignment(worth, maximize=True)].sum()
    assert 1e6 * most - best == cost_of(partners, squares)


def random_lines(rng, shape):
    """Lines one pixel wide that cross and run beside each other, as boundaries do."""
    lines = np.zeros(shape, bool)
    for _ in range(8):
        steps = rng.integers(-1, 2, (150, 2)) + rng.integers(-1, 2, 2)
        path = np.cumsum(np.clip(steps, -1, 1), axis=0) + rng.integers(0, shape, 2)
        path = path[((path >= 0) & (path < shape)).all(axis=1)]
        lines[tuple(path.T)] = True
    return lines


@pytest.mark.parametrize("seed", range(10))
def test_searching_from_either_map_gives_the_same(seed):
    rng = np.random.default_rng(seed)
    found, truth = random_lines(rng, (60, 70)), random_lines(rng, (60, 70))
    near = neighbourhood(found.shape, 4.337)
    first, second = find_pixels(found, near), find_pixels(truth, near)
    options = near.steps, near.costs, near.draw_bits
    pairs = room._list_pairs(first.places, second.numbers, *options, False)
    forth = room._assign(*pairs, second.places.size, near.gain)
    pairs = room._list_pairs(second.places, first.numbers, *options, True)
    back = room._assign(*pairs, first.places.size, near.gain)
    expected = np.full(second.places.size, -1)
    expected[forth[forth >= 0]] = np.flatnonzero(forth >= 0)
    np.testing.assert_array_equal(back, expected)
    np.testing.assert_array_equal(correspond(first, second, near), forth)


@pytest.mark.parametrize("seed", range(5))
def test_turned_and_mirrored_maps(seed):
    rng = np.random.default_rng(seed)
    found, truth = random_lines(rng, (50, 80)), random_lines(rng, (50, 80))
    partners = partners_of(found, truth, 4.0)
    expected = (partners >= 0).sum(), cost_of(partners, squared_distances(found, truth))
    assert expected[0] > 20
    for turn in (np.transpose, np.fliplr, np.flipud):
        a, b = np.ascontiguousarray(turn(found)), np.ascontiguousarray(turn(truth))
        partners = partners_of(a, b, 4.0)
        assert ((partners >= 0).sum(), cost_of(partners, squared_distances(a, b))) == expected


def test_equal_maps_correspond_in_place():
    lines = random_lines(np.random.default_rng(0), (60, 70))
    partners = partners_of(lines, lines, 4.337)
    np.testing.assert_array_equal(partners, np.arange(lines.sum()))


@pytest.mark.parametrize(("n", "pairs"), [(98, 98), (120, 119)])
def test_a_pair_is_worth_a_hundred_times_the_radius(n, pairs):
    # Moving all by one pixel makes one pair more than leaving both ends out.
    found, truth = np.zeros((1, 200), bool), np.zeros((1, 200), bool)
    found[0, :n] = truth[0, 1 : n + 1] = True
    assert (partners_of(found, truth, 1.0) >= 0).sum() == pairs


def test_draws_do_not_outweigh_distances():
    near = neighbourhood((321, 481), 0.0075 * np.hypot(321, 481))
    assert near.draw_bits >= 20
    unit = near.costs[1] // 100  # the nearest step but none is one pixel
    assert 2**near.draw_bits * 2**18 <= unit
    assert 3 * near.gain < 2**62
    assert near.gain == 43371 * unit  # a hundred times 4.3371 pixels, rounded up
    huge = neighbourhood((8, 8), 500.0)
    assert 3 * huge.gain < 2**62
    assert huge.draw_bits > 0


def test_selected_pixels():
    rng = np.random.default_rng(0)
    found, truth = random_lines(rng, (50, 60)), random_lines(rng, (50, 60))
    near = neighbourhood(found.shape, 3.0)
    left = np.broadcast_to(np.arange(60) < 30, found.shape)
    pixels = select_pixels(find_pixels(found, near), left[found])
    chosen = find_pixels(found & left, near)
    np.testing.assert_array_equal(pixels.places, chosen.places)
    np.testing.assert_array_equal(pixels.numbers, chosen.numbers)
    assert correspond(pixels, find_pixels(truth, near), near).shape == ((found & left).sum(),)
