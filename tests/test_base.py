"""The contract's own code: traits, the order of checks, and semantic segmenters."""

import dataclasses

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from segalgos import Instances, Prompts, Segmenter, SemanticSegmenter, Traits


class Recorder(Segmenter):
    """Notes what its hooks see."""

    traits = Traits(task="partition", family="tests", year=2000)

    def __init__(self, result=None, *, channel_axis="auto"):
        self.result = result
        self.channel_axis = channel_axis

    def _fit(self, images, labels, sample_weight):
        self.seen_ = images, labels, sample_weight

    def _predict(self, image, mask, prompts):
        if self.result is not None:
            return self.result
        self.last_ = image, mask, prompts
        return np.zeros(image.shape[:-1], int)


class Learner(Recorder):
    traits = Traits(
        task="semantic",
        family="tests",
        year=2000,
        needs_fit=True,
        needs_labels=True,
        takes_sample_weight=True,
    )


class Proba(SemanticSegmenter):
    """Gives every pixel the same probabilities."""

    traits = Learner.traits

    def __init__(self, *, channel_axis="auto"):
        self.channel_axis = channel_axis

    def _fit(self, images, labels, sample_weight):
        self.seen_ = labels

    def _predict_proba(self, image):
        proba = np.zeros((*image.shape[:2], len(self.classes_)))
        proba[..., -1] = 1
        return proba


IMAGE = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)


def test_traits_refuse_typos():
    with pytest.raises(ValueError, match=r"task is 'partitions', expected one of"):
        Traits(task="partitions", family="graph", year=2000)
    for ndims in ((), (4,), (1, 2)):
        with pytest.raises(ValueError, match=r"ndims is"):
            Traits(task="partition", family="graph", year=2000, ndims=ndims)
    with pytest.raises(TypeError):
        Traits(task="partition", family="graph", year=2000, need_fit=True)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recorder.traits.task = "semantic"


def test_hooks_see_clean_images():
    model = Recorder().fit([IMAGE, IMAGE[..., ::-1]])
    for image in model.seen_[0]:
        assert image.dtype == np.float32
        assert image.flags.c_contiguous
        assert image.flags.writeable
        assert image.shape == (2, 4, 3)
    np.testing.assert_array_equal(model.seen_[0][1], IMAGE[..., ::-1])
    assert model.seen_[1] is None  # labels reach only those that learn from them
    assert model.n_channels_ == 3


def test_hooks_that_ask_get_bytes():
    class Bytes(Recorder):
        traits = dataclasses.replace(Recorder.traits, keeps_uint8=True)

    model = Bytes().fit([IMAGE, IMAGE.astype(np.int16)])
    assert [image.dtype for image in model.seen_[0]] == [np.uint8, np.float32]


def test_more_channels_than_a_method_knows_are_refused():
    class Coloured(Recorder):
        traits = dataclasses.replace(Recorder.traits, max_channels=3)

    Coloured().fit(np.zeros((4, 5, 3)))
    message = r"Coloured: images\[0\] has 4 channels, expected 3 at most: choose those"
    with pytest.raises(ValueError, match=message):
        Coloured().fit(np.zeros((4, 5, 4)))
    with pytest.raises(ValueError, match="Coloured: image has 4 channels"):
        Coloured().predict(np.zeros((4, 5, 4)))


def test_missing_hooks_are_named():
    class Empty(Segmenter):
        traits = Recorder.traits

        def __init__(self, *, channel_axis="auto"):
            self.channel_axis = channel_axis

    with pytest.raises(TypeError, match=r"Empty has no _predict hook"):
        Empty().predict(IMAGE)

    class EmptySemantic(SemanticSegmenter):
        traits = Learner.traits
        channel_axis = "auto"

    model = EmptySemantic().fit(IMAGE, np.zeros((2, 4), int))
    with pytest.raises(TypeError, match=r"EmptySemantic has no _predict_proba hook"):
        model.predict(IMAGE)


@pytest.mark.parametrize(
    ("result", "error", "words"),
    [
        (np.zeros((2, 4)), TypeError, r"Recorder._predict: labels is float64"),
        (np.zeros((4, 2), int), ValueError, r"Recorder._predict: labels has shape \(4, 2\)"),
        (np.full((2, 4), -2), ValueError, r"Recorder._predict: labels holds ids from -2"),
        (Instances(np.zeros((1, 3, 3), bool)), ValueError, r"masks of \(3, 3\)"),
        ("labels", TypeError, "Recorder._predict"),
    ],
)
def test_wrong_results_are_blamed_on_the_hook(result, error, words):
    with pytest.raises(error, match=words):
        Recorder(result).predict(IMAGE)


def test_mask_reaches_the_hook_and_the_result():
    mask = np.array([[True, False, True, True]] * 2)
    model = Recorder()
    labels = model.predict(IMAGE, mask=mask.tolist())
    np.testing.assert_array_equal(model.last_[1], mask)
    np.testing.assert_array_equal(labels, np.where(mask, 0, -1))


def test_many_masks():
    masks = [np.ones((2, 4), bool), np.eye(2, 4, dtype=bool)]
    first, second = Recorder().predict([IMAGE, IMAGE], mask=masks)
    assert (first == 0).all()
    np.testing.assert_array_equal(second, np.eye(2, 4, dtype=int) - 1)
    with pytest.raises(ValueError, match=r"2 images but 1 mask"):
        Recorder().predict([IMAGE, IMAGE], mask=masks[:1])


def test_refused_keywords():
    class NoMask(Recorder):
        traits = dataclasses.replace(Recorder.traits, takes_mask=False)

    with pytest.raises(TypeError, match=r"NoMask: predict takes no mask"):
        NoMask().predict(IMAGE, mask=np.ones((2, 4), bool))
    with pytest.raises(TypeError, match=r"Recorder: predict takes no prompts"):
        Recorder().predict(IMAGE, prompts=Prompts(points=[[0, 0]]))
    with pytest.raises(TypeError, match=r"Recorder: fit takes no sample_weight"):
        Recorder().fit(IMAGE, sample_weight=1.0)


def test_interactive_methods_wait_for_prompts():
    class Interactive(Recorder):
        traits = Traits(task="interactive", family="tests", year=2000, takes_prompts=True)

    prompts = Prompts(points=[[1, 3]])
    model = Interactive()
    model.predict(IMAGE, prompts=prompts)
    assert model.last_[2] is prompts
    with pytest.raises(ValueError, match=r"Interactive: prompts is None.*Prompts\(points"):
        model.predict(IMAGE)
    with pytest.raises(ValueError, match=r"points lie outside"):
        model.predict(IMAGE, prompts=Prompts(points=[[2, 0]]))
    with pytest.raises(ValueError, match=r"2 images but 1 prompts"):
        model.predict([IMAGE, IMAGE], prompts=[prompts])


def test_labels_and_weights_reach_the_hook():
    labels = np.array([[0, 1, -1, 2]] * 2)
    model = Learner().fit([IMAGE, IMAGE], [labels, labels.tolist()], sample_weight=[2, labels + 1])
    for target in model.seen_[1]:
        assert target.dtype == np.int32
        np.testing.assert_array_equal(target, labels)
    np.testing.assert_array_equal(model.seen_[2][0], np.full((2, 4), 2, np.float32))
    np.testing.assert_array_equal(model.seen_[2][1], labels + 1)
    assert model.seen_[2][0].dtype == np.float32


def test_one_image_takes_one_of_everything():
    labels = np.zeros((2, 4), int)
    model = Learner().fit(IMAGE, labels, sample_weight=0.5)
    assert [len(part) for part in model.seen_] == [1, 1, 1]


@pytest.mark.parametrize("labels", [None, [None, None]])
def test_labels_are_required(labels):
    with pytest.raises((ValueError, TypeError), match=r"Learner: labels"):
        Learner().fit([IMAGE, IMAGE], labels)


def test_counts_must_agree():
    labels = np.zeros((2, 4), int)
    with pytest.raises(ValueError, match=r"2 images but 3 labels: pass one for each image"):
        Learner().fit([IMAGE, IMAGE], [labels] * 3)
    with pytest.raises(ValueError, match=r"2 images but int labels"):
        Learner().fit([IMAGE, IMAGE], 7)
    with pytest.raises(ValueError, match=r"2 images but 1 sample_weight"):
        Learner().fit([IMAGE, IMAGE], [labels] * 2, sample_weight=[1.0])


def test_channels_must_agree():
    with pytest.raises(ValueError, match=r"images have 1 and 3 channels"):
        Recorder().fit([IMAGE, IMAGE[..., 0]])
    model = Learner().fit(IMAGE, np.zeros((2, 4), int))
    with pytest.raises(ValueError, match=r"image has 1 channels, fitted with 3"):
        model.predict(IMAGE[..., 0])
    with pytest.raises(ValueError, match=r"images\[1\] has 4 channels, fitted with 3"):
        model.predict([IMAGE, np.ones((2, 4, 4))])


def test_predict_before_fit():
    assert Recorder().predict(IMAGE).shape == (2, 4)
    with pytest.raises(NotFittedError, match=r"Learner"):
        Learner().predict(IMAGE)
    with pytest.raises(NotFittedError, match=r"Proba"):
        Proba().predict_proba(IMAGE)


def test_failed_fit_changes_nothing():
    class Fragile(Recorder):
        def _fit(self, images, labels, sample_weight):
            self.half_ = len(images)
            if len(images) > 1:
                raise KeyboardInterrupt

    model = Fragile()
    with pytest.raises(KeyboardInterrupt):
        model.fit([IMAGE, IMAGE])
    assert vars(model) == {"result": None, "channel_axis": "auto"}
    before = dict(vars(model.fit(IMAGE)))
    with pytest.raises(KeyboardInterrupt):
        model.fit([IMAGE, IMAGE])
    assert vars(model) == before


def test_semantic_hooks_see_indices():
    labels = np.array([[30, -1, 7, 30]] * 2)
    model = Proba().fit([IMAGE, IMAGE], [labels, np.full((2, 4), 9)])
    assert model.classes_.tolist() == [7, 9, 30]
    assert model.classes_.dtype == np.int32
    np.testing.assert_array_equal(model.seen_[0], [[2, -1, 0, 2]] * 2)
    np.testing.assert_array_equal(model.seen_[1], np.full((2, 4), 1))
    assert model.seen_[0].dtype == np.int32
    assert (model.predict(IMAGE) == 30).all()


def test_semantic_needs_a_labelled_pixel():
    with pytest.raises(ValueError, match=r"Proba: labels hold no labelled pixel \(all are -1\)"):
        Proba().fit(IMAGE, np.full((2, 4), -1))


def test_predict_proba():
    model = Proba().fit(IMAGE, np.array([[0, 1, 0, 1]] * 2))
    mask = np.eye(2, 4, dtype=bool)
    proba = model.predict_proba(IMAGE, mask=mask)
    assert proba.dtype == np.float32
    np.testing.assert_array_equal(proba.sum(axis=-1), mask)
    assert [p.shape for p in model.predict_proba([IMAGE, IMAGE[:1]])] == [(2, 4, 2), (1, 4, 2)]


def test_score_of_each_task():
    labels = np.array([[0, 0, 1, 1]] * 2)
    assert Recorder(labels).score(IMAGE, labels) == 1
    assert Recorder(labels).score([IMAGE, IMAGE], [labels, [labels, labels]]) == 1
    assert 0 < Recorder(labels).score(IMAGE, np.zeros((2, 4), int)) < 1

    model = Proba().fit(IMAGE, labels)  # names class 1 everywhere: IoU 0 and 1/2
    assert model.score(IMAGE, labels) == 0.25
    assert model.score(IMAGE, np.where(labels == 0, -1, labels)) == 1

    class Objects(Recorder):
        traits = Traits(task="instance", family="tests", year=2000)

    objects = Instances.from_labels(labels)
    assert Objects(objects).score(IMAGE, objects) == 1
    with pytest.raises(ValueError, match=r"2 images but 1 labels"):
        Objects(objects).score([IMAGE, IMAGE], [objects])


def test_state_is_what_fit_learned():
    model = Learner().fit(IMAGE, np.zeros((2, 4), int))
    assert model._get_state().keys() == {"seen_", "n_channels_"}
    twin = Learner()
    twin._set_state(model._get_state())
    assert twin.__sklearn_is_fitted__()


def test_small_is_an_instance():
    assert type(Recorder.small()) is Recorder
