"""Scores of sessions of clicks, counted by hand."""

import numpy as np
import pytest

from segalgos.metrics import click_scores, object_iou


def test_iou_of_an_object():
    truth = np.array([[1, 1, 0, 0, -1, -1]])
    found = np.array([[True, False, True, False, True, False]])
    assert object_iou(found, truth) == pytest.approx(1 / 3)
    assert object_iou(truth == 1, truth) == 1
    assert object_iou(np.zeros((1, 6), bool), truth) == 0
    assert np.isnan(object_iou(np.zeros((1, 6), bool), np.minimum(truth, 0)))
    assert np.isnan(object_iou(truth < 0, np.minimum(truth, 0)))  # found in unknown pixels alone


def test_scores_by_hand():
    ious = [
        [0.5, 0.86, 0.8, 0.91],  # good enough after 2, 4
        [0.95],  # after 1, 1, and its only IoU stands for all later ones
        [0.2] * 20,  # never
        [0.1] * 4 + [0.85] + [0.3] * 15,  # an IoU equal to the level reaches it
    ]
    scores = click_scores(ious)
    assert scores["mean_iou_objects_after_1"] == pytest.approx((0.5 + 0.95 + 0.2 + 0.1) / 4)
    assert scores["mean_iou_objects_after_3"] == pytest.approx((0.8 + 0.95 + 0.2 + 0.1) / 4)
    assert scores["mean_iou_objects_after_5"] == pytest.approx((0.91 + 0.95 + 0.2 + 0.85) / 4)
    np.testing.assert_array_equal(scores["clicks_to_85"], [2, 1, np.nan, 5])
    np.testing.assert_array_equal(scores["clicks_to_90"], [4, 1, np.nan, np.nan])
    assert scores["mean_clicks_objects_to_85"] == (2 + 1 + 20 + 5) / 4
    assert scores["mean_clicks_objects_to_90"] == (4 + 1 + 20 + 20) / 4
    assert (scores["share_objects_below_85"], scores["share_objects_below_90"]) == (0.25, 0.5)


def test_names_say_which_numbers_were_asked_for():
    scores = click_scores([[0.3, 0.825]], after=[2], levels=[0.825], max_clicks=2)
    assert set(scores) == {
        "mean_iou_objects_after_2",
        "mean_clicks_objects_to_82.5",
        "share_objects_below_82.5",
        "clicks_to_82.5",
    }
    late = click_scores([[0.1, 0.1, 0.99]], after=[2], max_clicks=2)
    assert late["mean_clicks_objects_to_85"] == 2  # clicks after the last one allowed are not seen
    assert late["share_objects_below_85"] == 1


def test_absent_objects_are_left_out():
    some = click_scores([[np.nan, np.nan], [0.9], []])
    assert some["mean_iou_objects_after_1"] == 0.9
    assert some["share_objects_below_90"] == 0
    np.testing.assert_array_equal(some["clicks_to_90"], [np.nan, 1, np.nan])
    for none in ([], [[]], [[np.nan]]):
        scores = click_scores(none)
        assert all(np.isnan(value).all() for value in scores.values())


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"ious\[1\] holds 0.5 to 50"):
        click_scores([[0.5], [0.5, 50]])
    with pytest.raises(ValueError, match=r"ious\[0\] has shape \(1, 1\)"):
        click_scores([[[0.5]]])
    with pytest.raises(ValueError, match=r"ious\[0\] cannot be read as numbers"):
        click_scores([["good"]])
    with pytest.raises(ValueError, match=r"ious\[0\] is NaN after some clicks only"):
        click_scores([[0.5, np.nan]])
    with pytest.raises(ValueError, match="after"):
        click_scores([[0.5]], after=[21])
    with pytest.raises(ValueError, match="levels"):
        click_scores([[0.5]], levels=[85])
    truth = np.zeros((2, 3), int)
    with pytest.raises(TypeError, match="found is int64"):
        object_iou(truth, truth)
    with pytest.raises(ValueError, match=r"found has shape \(3,\)"):
        object_iou(truth[0] == 0, truth)
    with pytest.raises(ValueError, match="truth holds ids up to 4"):
        object_iou(truth == 0, truth + 4)
