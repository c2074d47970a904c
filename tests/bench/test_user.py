"""The simulated user points at every region, deterministically and never beside it."""

import numpy as np

from segalgos.bench.user import BRUSH, dab


def test_every_region_gets_one_dab_inside_itself():
    rng = np.random.default_rng(0)
    truth = np.kron(rng.integers(0, 5, (6, 8)), np.ones((7, 9), int)).astype(np.int32)
    truth[:3, :4] = -1
    scribbles = dab(truth).scribbles
    drawn = scribbles >= 0
    np.testing.assert_array_equal(scribbles[drawn], truth[drawn])
    assert set(np.unique(scribbles)) == set(np.unique(truth))
    np.testing.assert_array_equal(dab(truth).scribbles, scribbles)


def test_the_brush_is_round_and_in_the_thickest_place():
    truth = np.zeros((41, 60), np.int32)
    truth[:, 30:] = 1
    truth[10:20, 30:40] = 0  # a bay, which is thinner than the middle
    rows, columns = np.nonzero(dab(truth).scribbles == 0)
    assert 12 <= columns.mean() <= 18
    assert len(rows) == sum(
        dy * dy + dx * dx <= BRUSH**2
        for dy in range(-BRUSH, BRUSH + 1)
        for dx in range(-BRUSH, BRUSH + 1)
    )


def test_a_line_gets_a_single_pixel():
    truth = np.zeros((20, 20), np.int32)
    truth[10] = 3
    assert (dab(truth).scribbles == 3).sum() == 1
