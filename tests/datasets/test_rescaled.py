"""A data set at another image size: what is averaged, what is kept, what is dropped."""

import pickle

import numpy as np
import pytest

from segalgos.datasets import Dataset, Info, Sample, load, rescale
from segalgos.results import Instances


def one(sample):
    info = Info("toy", "semantic", ("train",), "1", "", "", "", "")
    return Dataset([sample].__getitem__, range(1), info, "train", ("a", "b"), ("semantic",))


def test_blocks_are_averaged_and_labels_taken_from_their_middle():
    image = np.kron(np.array([[10, 90], [200, 30]], np.uint8), np.ones((8, 8), np.uint8))
    labels = np.kron(np.array([[0, 1], [-1, 0]], np.int32), np.ones((8, 8), np.int32))
    small = rescale(one(Sample(image, labels=labels)), 0.25)[0]
    assert small.image.shape == small.labels.shape == (4, 4)
    assert small.image.dtype == np.uint8
    assert np.array_equal(small.labels, np.kron([[0, 1], [-1, 0]], np.ones((2, 2))))
    corners = small.image[::3, ::3].astype(int)
    assert np.abs(corners - [[10, 90], [200, 30]]).max() <= 12  # smoothed before shrinking
    stripes = np.tile(np.array([[0, 200]], np.uint8), (16, 8))
    seen = rescale(one(Sample(stripes)), 0.25)[0].image
    assert np.abs(seen[:, 1:-1].astype(int) - 100).max() <= 15  # not one of the stripes


def test_large_and_back_is_the_same():
    sample = load("shapes", n_images=1, size=(32, 40))[0]
    back = rescale(rescale(one(sample), 3), 1 / 3)[0]
    assert np.array_equal(back.labels, sample.labels)
    assert np.array_equal(back.annotations[0], sample.annotations[0])
    assert np.array_equal(back.instances.masks, sample.instances.masks)


def test_objects_without_a_pixel_are_dropped_and_regions_numbered_anew():
    masks = np.zeros((2, 8, 8), bool)
    masks[0, 0, 0] = masks[1, 2:8, 2:8] = True
    partition = np.zeros((8, 8), np.int32)
    partition[0, 0], partition[2:8, 2:8], partition[7, 0] = 1, 2, -1
    objects = Instances(masks, classes=[1, 1], scores=[0.5, 0.9], crowd=[True, False])
    image = np.zeros((8, 8, 3), np.uint8)
    small = rescale(one(Sample(image, instances=objects, annotations=(partition,))), 0.5)[0]
    assert len(small.instances) == 1
    assert small.instances.masks[0].sum() == 9
    assert small.instances.scores[0] == np.float32(0.9)
    assert small.instances.boxes.tolist() == [[1, 1, 4, 4]]
    assert not small.instances.crowd[0]
    assert sorted(np.unique(small.annotations[0])) in ([0, 1], [-1, 0, 1])


def test_it_is_lazy_travels_and_checks():
    shapes = load("shapes", size=(32, 40))
    small = pickle.loads(pickle.dumps(rescale(shapes, 0.5)))
    assert len(small) == 24
    assert small[3].image.shape == (16, 20, 3)
    assert rescale(shapes, 1) is shapes
    with pytest.raises(ValueError, match="rescale: factor"):
        rescale(shapes, 0)
