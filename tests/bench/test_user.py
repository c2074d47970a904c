"""The simulated user points at every region, deterministically and never beside it."""

import numpy as np
import pytest

from segalgos.bench.user import (
    BRUSH,
    box_around,
    click_along,
    dab,
    draw_clicks,
    next_click,
)


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


# --- clicks ------------------------------------------------------------------------------


def mistakes(rng, shape=(23, 31)):
    """A truth with unknown pixels, and an object that was found, both in blobs."""
    coarse = rng.random((2, 8, 11)) < 0.5
    truth, found = (np.kron(part, np.ones((3, 3), bool))[: shape[0], : shape[1]] for part in coarse)
    truth = truth.astype(np.int32)
    truth[rng.random(shape) < 0.02] = -1
    return truth, found & (rng.random(shape) < 0.99)


def test_the_next_click_is_deepest_in_a_mistake():
    """Against distances to all pixels, one by one."""
    rng = np.random.default_rng(0)
    for _ in range(15):
        truth, found = mistakes(rng)
        rows, columns = np.indices(np.add(truth.shape, 2)) - 1
        expected = (0, 0, 0, False)
        for wrong, inside in ((found & (truth == 0), False), (~found & (truth == 1), True)):
            outside = ~np.pad(wrong, 1)
            for row, column in np.argwhere(wrong):
                squared = (rows - row) ** 2 + (columns - column) ** 2
                depth = np.sqrt(squared[outside].min())
                if depth > expected[0]:
                    expected = (depth, row, column, inside)
        click = next_click(truth, found)
        assert (click.depth, click.row, click.column, click.inside) == expected


def test_the_next_click_is_that_of_published_benchmarks():
    cv2 = pytest.importorskip("cv2", reason="their distance transform is OpenCV's")
    rng = np.random.default_rng(1)
    for _ in range(40):
        truth, found = mistakes(rng)
        sets = [(truth == 1) & ~found, (truth == 0) & found]
        missed, false = (
            cv2.distanceTransform(np.pad(s, 1).astype(np.uint8), cv2.DIST_L2, 0)[1:-1, 1:-1]
            for s in sets
        )
        deeper = missed if missed.max() > false.max() else false
        row, column = np.argwhere(deeper == deeper.max())[0]
        assert next_click(truth, found)[:3] == (row, column, deeper is missed)


def test_ties_go_to_the_background_then_the_first_row_and_column():
    truth = np.zeros((9, 12), np.int32)
    truth[1:4, 1:4] = truth[1:4, 7:10] = truth[5:8, 1:4] = 1
    assert next_click(truth)[:3] == (2, 2, True)
    found = np.zeros(truth.shape, bool)
    found[5:8, 7:10] = True
    click = next_click(truth, found)
    assert click == (6, 8, False, 2.0)
    # Where it was clicked before it is not clicked again; its neighbours are as deep as the rest.
    assert next_click(truth, found, [click])[:3] == (2, 2, True)


def test_unknown_pixels_are_no_mistake():
    truth = np.full((5, 6), -1, np.int32)
    truth[2, 3] = 1
    found = truth < 0
    assert next_click(truth, found)[:3] == (2, 3, True)
    found[2, 3] = True
    assert next_click(truth, found) is None


def test_dabs_of_clicks_stay_within_the_mistake():
    rng = np.random.default_rng(2)
    truth = np.kron(rng.integers(0, 2, (4, 5)), np.ones((9, 8), int)).astype(np.int32)
    clicks, found = [], np.zeros(truth.shape, bool)
    for _ in range(6):
        click = next_click(truth, found, clicks)
        clicks.append(click)
        drawn = draw_clicks(clicks, truth.shape)
        known = drawn >= 0
        np.testing.assert_array_equal(drawn[known], truth[known])
        assert drawn[click.row, click.column] == click.inside
        found = np.where(known, drawn == 1, ~found)
    assert (drawn == 1).sum() > (BRUSH - 2) ** 2


def test_a_session_ends_when_it_is_good_enough():
    truth = np.zeros((30, 30), np.int32)
    truth[5:25, 5:25] = 1
    calls = []

    def segment(clicks):
        """Rows of the object, three more for every click."""
        calls.append(list(clicks))
        return (truth == 1) & (np.arange(30)[:, None] < 5 + 3 * len(clicks))

    clicks, ious = click_along(segment, truth)
    assert ious == pytest.approx([0.15, 0.3, 0.45, 0.6, 0.75, 0.9])
    assert [len(call) for call in calls] == [1, 2, 3, 4, 5, 6]
    assert calls[-1] == clicks
    assert all(click.inside for click in clicks)
    assert len(click_along(segment, truth, max_clicks=3)[0]) == 3
    assert len(click_along(segment, truth, enough=0.4, min_clicks=1)[0]) == 3
    clicks, ious = click_along(lambda clicks: truth == 1, truth)
    assert ious == [1.0]  # no mistake is left to click on
    clicks, ious = click_along(lambda clicks: truth < 0, truth)
    assert len(set(clicks)) == 20
    assert set(ious) == {0.0}


def test_a_box_is_wider_than_its_object():
    truth = np.zeros((40, 60), np.int32)
    truth[10:21, 30:59] = 1
    np.testing.assert_array_equal(box_around(truth, 0).boxes, [[10, 30, 21, 59]])
    np.testing.assert_array_equal(box_around(truth, 0.05).boxes, [[8, 27, 23, 60]])


def test_bad_arguments_of_the_user():
    truth = np.zeros((4, 5), np.int32)
    with pytest.raises(ValueError, match="truth holds ids up to 2"):
        next_click(truth + 2)
    with pytest.raises(ValueError, match=r"truth has shape \(4,\)"):
        next_click(truth[:, 0])
    with pytest.raises(TypeError, match="found is int32"):
        next_click(truth, truth)
    with pytest.raises(ValueError, match=r"found has shape \(3, 5\)"):
        next_click(truth, truth[1:] > 0)
    with pytest.raises(ValueError, match="truth has no object"):
        click_along(lambda clicks: truth > 0, truth)
    with pytest.raises(ValueError, match="truth has no object"):
        box_around(truth)
    with pytest.raises(TypeError, match="what segment gave is int32"):
        click_along(lambda clicks: truth, truth + 1)
    with pytest.raises(ValueError, match="max_clicks"):
        click_along(lambda clicks: truth > 0, truth + 1, max_clicks=0)
