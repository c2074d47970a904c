"""Strokes of the simulated user go through the largest mistake and never leave it."""

import itertools

import numpy as np
import pytest
from scipy import ndimage

from segalgos.bench.strokes import draw_strokes, next_stroke, stroke_along
from segalgos.bench.user import draw_clicks, next_click


def blobs(rng, shape=(40, 50)):
    """A truth with unknown pixels, and an object that was found."""
    coarse = rng.random((2, 5, 6)) < 0.5
    truth, found = (np.kron(part, np.ones((8, 9), bool))[: shape[0], : shape[1]] for part in coarse)
    truth = truth.astype(np.int32)
    truth[rng.random(shape) < 0.02] = -1
    return truth, found


def test_a_stroke_goes_through_the_next_click_and_stays_in_its_mistake():
    rng = np.random.default_rng(0)
    for _ in range(10):
        truth, found = blobs(rng)
        click, stroke = next_click(truth, found), next_stroke(truth, found, length=15)
        assert (click.row, click.column) in stroke.path
        assert stroke.inside == click.inside
        mistake = (truth == 1) & ~found if click.inside else (truth == 0) & found
        pieces, _ = ndimage.label(mistake, np.ones((3, 3)))
        assert (pieces[tuple(stroke.pixels.T)] == pieces[click.row, click.column]).all()
        assert set(stroke.path) <= set(map(tuple, stroke.pixels.tolist()))


def test_a_stroke_is_a_dab_that_moves():
    truth = np.zeros((60, 90), np.int32)
    truth[5:55, 5:85] = 1
    click = next_click(truth)
    dab = draw_clicks([click], truth.shape) == 1
    stroke = next_stroke(truth, length=30)
    drawn = draw_strokes([stroke], truth.shape) == 1
    assert drawn[dab].all()
    assert 15 <= len(stroke.path) <= 30
    assert drawn.sum() > 1.8 * dab.sum()
    # Every pixel painted lies under a dab at some place of the path.
    middle = np.ones(truth.shape, bool)
    middle[tuple(np.transpose(stroke.path))] = False
    away = ndimage.distance_transform_edt(middle)
    assert away[drawn].max() <= 5


def test_strokes_are_the_same_again_and_do_not_repeat_themselves():
    truth = np.zeros((60, 90), np.int32)
    truth[5:55, 5:85] = 1
    first = next_stroke(truth)
    again = next_stroke(truth)
    assert first.path == again.path
    second = next_stroke(truth, None, [first])
    assert not set(map(tuple, second.pixels.tolist())) & set(map(tuple, first.pixels.tolist()))
    assert next_stroke(truth, None, random_state=1).path != first.path


def test_a_mistake_of_one_pixel_gets_one():
    truth = np.full((6, 7), -1, np.int32)
    truth[2, 3] = 0
    found = np.ones(truth.shape, bool)
    stroke = next_stroke(truth, found)
    assert stroke.path == ((2, 3),)
    assert stroke.pixels.tolist() == [[2, 3]]
    assert not stroke.inside
    assert next_stroke(truth, found, [stroke]) is None
    assert next_stroke(truth, ~found) is None


def test_a_method_that_believes_strokes_ends():
    """It gives back what was painted: the IoU rises to where the user stops."""
    truth = np.zeros((30, 40), np.int32)
    truth[4:24, 6:36] = 1
    strokes, ious = stroke_along(
        lambda strokes: draw_strokes(strokes, truth.shape) == 1, truth, max_strokes=60
    )
    assert len(strokes) == len(ious)
    assert all(a < b for a, b in itertools.pairwise(ious))
    assert ious[-2] < 0.9 <= ious[-1]
    perfect, scores = stroke_along(lambda strokes: truth == 1, truth)
    assert len(perfect) == 1  # there is no mistake to go on with
    assert scores == [1.0]


def test_bad_input_is_named():
    truth = np.ones((4, 5), int)
    with pytest.raises(ValueError, match=r"next_stroke: truth has shape \(4,\)"):
        next_stroke(truth[:, 0])
    with pytest.raises(TypeError, match="next_stroke: found is int64, expected bool"):
        next_stroke(truth, truth)
    with pytest.raises(ValueError, match="next_stroke: length is 0, expected an integer of at"):
        next_stroke(truth, length=0)
    with pytest.raises(ValueError, match="stroke_along: max_strokes is 0"):
        stroke_along(lambda strokes: truth == 1, truth, max_strokes=0)
    with pytest.raises(ValueError, match=r"stroke_along: truth has no object"):
        stroke_along(lambda strokes: truth == 1, 0 * truth)
