import numpy as np
import pytest

from segalgos.bench.views import (
    OBJECTS,
    ViewScorer,
    components,
    contour_labels,
    partition_from_contours,
    see_as,
    truth_map,
)
from segalgos.datasets import Sample
from segalgos.results import Instances


@pytest.fixture
def sample():
    labels = np.zeros((20, 30), np.int32)
    labels[2:8, 2:8] = 1
    labels[2:8, 12:18] = 1
    labels[12:18, 2:28] = 2
    objects = np.array([labels == 1, labels == 1, labels == 2])
    objects[0, :, 10:] = False
    objects[1, :, :10] = False
    return Sample(
        image=np.zeros((20, 30, 3), np.uint8),
        labels=labels,
        instances=Instances(objects, classes=[1, 1, 2]),
        annotations=(components(labels),),
        name="two squares and a bar",
    )


def score(view, output, task, sample):
    scorer = ViewScorer(view, 3)
    scorer.add(see_as(view, output, task, sample), sample)
    return scorer.result()


@pytest.mark.parametrize("view", ["partition", "semantic", "instance"])
def test_the_true_classes_are_perfect_in_every_view(view, sample):
    result = score(view, sample.labels, "semantic", sample)
    assert result["scores"][result["headline"]] == 1


@pytest.mark.parametrize("view", ["partition", "semantic", "instance"])
def test_the_true_objects_are_perfect_in_every_view(view, sample):
    result = score(view, sample.instances, "instance", sample)
    assert result["scores"][result["headline"]] == 1


def test_a_partition_is_perfect_as_an_oracle_if_it_keeps_to_the_classes(sample):
    fine = np.arange(600, dtype=np.int32).reshape(20, 30)
    assert score("semantic", fine, "partition", sample)["scores"]["mean_iou_dataset"] == 1
    coarse = np.zeros((20, 30), np.int32)
    assert score("semantic", coarse, "partition", sample)["scores"]["mean_iou_dataset"] < 0.3
    assert see_as("instance", fine, "partition", sample) is None


def test_objects_of_another_class_do_not_match(sample):
    swapped = np.choose(sample.labels, [0, 2, 1]).astype(np.int32)
    assert score("instance", swapped, "semantic", sample)["scores"]["matching_ap_50"] == 0
    half = np.where(sample.labels == 1, 2, sample.labels).astype(np.int32)
    # Of three objects the bar matches; the squares are two misses and two false alarms.
    found = score("instance", half, "semantic", sample)["scores"]["matching_ap_50"]
    assert found == pytest.approx(1 / 5)


def test_touching_objects_are_one_component(sample):
    joined = sample.labels.copy()
    joined[4, 2:18] = 1
    coded = see_as("instance", joined, "semantic", sample)
    assert len(np.unique(coded[coded >= 0])) == 2
    assert len(np.unique(truth_map("instance", sample))) == 4  # three objects and background
    assert set(np.unique(coded[coded >= 0] // OBJECTS)) == {1, 2}


def test_contours_are_learned_where_half_agree_and_left_open_near_others():
    halves = np.zeros((10, 20), np.int32)
    halves[:, 10:] = 1
    labels = contour_labels([halves, halves, np.zeros_like(halves)])
    assert (labels[:, 9:11] == 1).all()
    assert (labels[:, [8, 11]] == -1).all()
    assert (labels[:, :8] == 0).all()
    alone = contour_labels([halves, *[np.zeros_like(halves)] * 3])
    assert (alone[:, 9:11] == -1).all()
    assert not (alone == 1).any()


def test_basins_between_contours_are_regions():
    probability = np.zeros((40, 60), np.float32)
    probability[:, 29:31] = 0.9
    regions = partition_from_contours(probability, 0.3)
    assert regions.dtype == np.int32
    assert (regions[:, :28] == regions[0, 0]).all()
    assert (regions[:, 33:] == regions[0, -1]).all()
    assert set(np.unique(regions)) == {0, 1}
    np.testing.assert_array_equal(partition_from_contours(probability, 0.0), 0)


def test_components_keep_unlabelled_pixels_apart():
    labels = np.array([[0, 0, 1, -1], [1, 0, 1, 0]], np.int32)
    regions = components(labels)
    assert regions[0, 3] == -1
    assert sorted(np.unique(regions)) == [-1, 0, 1, 2, 3]


def test_regions_are_scored_as_superpixels_too(sample):
    fine = np.arange(600, dtype=np.int32).reshape(20, 30)
    result = score("partition", fine, "partition", sample)
    assert result["scores"]["achievable_segmentation_accuracy"] == 1
    assert result["scores"]["undersegmentation_error"] == 0
    assert result["images"]["boundary_recall"] == [1]
    assert np.isnan(result["scores"]["explained_variation"])  # the image has one colour
