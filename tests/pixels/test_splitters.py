import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.model_selection import cross_val_predict as sklearn_cross_val_predict

from segalgos import RandomForestSegmenter
from segalgos.pixels.splitters import SpatialBlockSplit, cross_val_predict


@pytest.mark.parametrize("shape", [(50, 70), (12, 20, 30)])
def test_folds_share_out_the_labels(shape):
    rng = np.random.default_rng(0)
    labels = [rng.integers(-1, 3, shape) for _ in range(2)]
    images = [rng.random(shape) for _ in range(2)]
    blocks = SpatialBlockSplit(3, block=10, random_state=0)
    many, parts = blocks.expand(images, labels)
    assert len(many) == len(parts) == 6
    for i in range(2):
        own = np.array(parts[3 * i : 3 * i + 3])
        assert all(image is images[i] for image in many[3 * i : 3 * i + 3])
        np.testing.assert_array_equal(own.max(axis=0), labels[i])  # all labels are there
        assert ((own >= 0).sum(axis=0) <= 1).all()  # each once
        block = own[:, :10, :10] if len(shape) == 2 else own[:, :10, :10, :10]
        assert (block >= 0).any(axis=tuple(range(1, own.ndim))).sum() == 1  # blocks are whole
    for train, test in blocks.split(many):
        assert {t % 3 for t in test}.isdisjoint(t % 3 for t in train)
        assert len(train) == 4
        assert len(test) == 2
    assert blocks.get_n_splits() == 3


def test_a_buffer_keeps_folds_apart():
    labels = np.zeros((64, 64), int)
    _, parts = SpatialBlockSplit(2, block=16, buffer=3, random_state=1).expand([labels], [labels])
    distance = distance_transform_edt(parts[0] < 0)
    assert distance[parts[1] == 0].min() > 6
    assert (parts[0] == 0).sum() > 500


def test_it_works_in_a_grid_search():
    rng = np.random.default_rng(0)
    truth = (np.indices((60, 60)).sum(axis=0) // 20) % 2
    image = truth + rng.normal(scale=0.4, size=truth.shape)
    blocks = SpatialBlockSplit(3, block=10, random_state=0)
    images, labels = blocks.expand([image], [truth])
    segmenter = RandomForestSegmenter(10, max_samples=400, random_state=0)
    search = GridSearchCV(segmenter, {"scales": [(1,), (1, 2)]}, cv=blocks).fit(images, labels)
    assert search.best_score_ > 0.7
    assert search.predict(image).shape == image.shape
    whole = RandomForestSegmenter(10, max_samples=400, random_state=0).fit(image, truth)
    assert search.best_score_ < whole.score(image, truth)


def test_what_it_cannot_split_is_named():
    labels = np.full((40, 40), -1)
    labels[:8, :8] = 1
    with pytest.raises(ValueError, match="has no labelled pixel"):
        SpatialBlockSplit(4, block=8, random_state=0).expand([labels], [labels])
    with pytest.raises(ValueError, match="pass a list of images"):
        SpatialBlockSplit(4).expand(labels, labels)
    with pytest.raises(ValueError, match="pass what expand gave"):
        next(SpatialBlockSplit(4).split([labels] * 6))
    with pytest.raises(ValueError, match="n_splits is 1"):
        SpatialBlockSplit(1)


def test_cross_val_predict_takes_images_of_any_size():
    rng = np.random.default_rng(0)
    images = [rng.random((20 + i, 30)) for i in range(4)]
    truth = [(image > 0.5).astype(int) for image in images]
    segmenter = RandomForestSegmenter(5, scales=[0.5], random_state=0)
    folds = KFold(2)
    found = cross_val_predict(segmenter, images, truth, cv=folds)
    by_hand = segmenter.fit(images[2:], truth[2:]).predict(images[0])
    np.testing.assert_array_equal(found[0], by_hand)
    assert [f.shape for f in found] == [image.shape for image in images]
    same = [image[:20] for image in images]
    truth = [t[:20] for t in truth]
    ours = cross_val_predict(segmenter, same, truth, cv=folds)
    theirs = sklearn_cross_val_predict(segmenter, same, truth, cv=folds)
    np.testing.assert_array_equal(ours, theirs)
