"""The labels of Cityscapes, against the official list where it is installed."""

import numpy as np
import pytest

from segalgos.cityscapes_labels import CATEGORIES, CLASSES, LABELS, to_label_ids, to_train_ids


def test_labels_are_the_official_ones():
    official = pytest.importorskip(
        "cityscapesscripts.helpers.labels", reason="compares with the package cityscapesscripts"
    ).labels
    assert [label.id for label in official] == [*range(34), -1]
    for mine, theirs in zip(LABELS, official):
        assert mine.name == theirs.name
        assert mine.category == theirs.category
        assert mine.scored != theirs.ignoreInEval
        assert mine.has_instances == theirs.hasInstances
        expected = -1 if theirs.ignoreInEval else theirs.trainId
        assert to_train_ids(theirs.id) == expected


def test_classes_and_categories():
    assert len(LABELS) == 34
    assert len(CLASSES) == 19
    assert (CLASSES[0], CLASSES[13], CLASSES[18]) == ("road", "car", "bicycle")
    assert CATEGORIES == ("flat", "construction", "object", "nature", "sky", "human", "vehicle")


def test_there_and_back():
    train_ids = np.arange(-1, 19).reshape(4, 5)
    label_ids = to_label_ids(train_ids)
    assert label_ids.dtype == np.int32
    assert label_ids[0].tolist() == [0, 7, 8, 11, 12]
    assert label_ids[-1, -1] == 33
    np.testing.assert_array_equal(to_train_ids(label_ids), train_ids)
    assert to_train_ids(np.uint8([0, 9, 29, 33])).tolist() == [-1, -1, -1, 18]
    assert to_train_ids([-1]).tolist() == [-1]


def test_strange_ids_are_refused():
    with pytest.raises(ValueError, match="label_ids holds 255, expected label ids from -1 to 33"):
        to_train_ids(np.uint8([7, 255]))
    with pytest.raises(ValueError, match="train_ids holds -2, expected train ids from -1 to 18"):
        to_label_ids([-2, 3])
    with pytest.raises(TypeError, match="float64, expected integer"):
        to_label_ids([0.5])
