"""Checks of what fit learns from: label maps, instances and weights."""

from __future__ import annotations

import numpy as np

from segalgos.base import Segmenter
from segalgos.conformance._compare import assert_same, assert_valid
from segalgos.conformance._examples import example, fitted, fresh, predict
from segalgos.conformance._promise import promise, refused
from segalgos.results import Instances


def _learns(traits):
    return traits.needs_labels


def _semantic(traits):
    return traits.task == "semantic"


@promise(when=_learns)
def check_labels_required(segmenter: Segmenter) -> None:
    """fit without labels is refused where the method learns from them."""
    with refused("fit(images)", naming=("labels",)):
        fresh(segmenter).fit(example(segmenter).images)


@promise(when=lambda traits: not traits.needs_labels)
def check_labels_not_needed(segmenter: Segmenter) -> None:
    """Methods that learn without labels give the same result when labels are passed."""
    data = example(segmenter)
    without = predict(fresh(segmenter).fit(data.images), data.images)
    given = predict(fresh(segmenter).fit(data.images, data.targets), data.images)
    assert_same(given, without, "fit with and without labels")


@promise(when=_learns)
def check_label_shapes(segmenter: Segmenter) -> None:
    """Labels of another shape than their image are refused, with both shapes."""
    data = example(segmenter)
    other = example(segmenter, shapes=((24, 32), (20, 27))).targets
    with refused("labels of (20, 27)", naming=("(20, 27)", "(21, 27)")):
        fresh(segmenter).fit(data.images, other)


@promise(when=_learns)
def check_label_kinds(segmenter: Segmenter) -> None:
    """Labels of another kind than the task learns from are refused."""
    data = example(segmenter)
    if segmenter.traits.task == "instance":
        wrong = {"label maps": data.classes, "None": [None, None]}
    else:
        wrong = {
            "float label maps": [t.astype(float) for t in data.targets],
            "text": [t.astype(str) for t in data.targets],
            "Instances": [Instances.from_labels(ids) for ids in data.classes],
            "None": [None, None],
        }
    for what, targets in wrong.items():
        with refused(what, (TypeError, ValueError), naming=("labels[0]",)):
            fresh(segmenter).fit(data.images, targets)


@promise(when=_learns)
def check_label_count(segmenter: Segmenter) -> None:
    """More or fewer label maps than images are refused, with both counts."""
    data = example(segmenter)
    for targets in (data.targets[:1], [*data.targets, data.targets[0]]):
        with refused(f"{len(targets)} for 2 images", naming=("2", str(len(targets)), "labels")):
            fresh(segmenter).fit(data.images, targets)


@promise(when=_semantic)
def check_labels_below_minus_one(segmenter: Segmenter) -> None:
    """Ids below -1 are refused: nothing but -1 means unlabelled."""
    data = example(segmenter)
    data.targets[1][0, 0] = -2
    with refused("the id -2", naming=("-2",)):
        fresh(segmenter).fit(data.images, data.targets)


@promise(when=_semantic)
def check_nothing_labelled(segmenter: Segmenter) -> None:
    """Labels that are -1 everywhere are refused."""
    data = example(segmenter)
    with refused("labels all -1", naming=("-1",)):
        fresh(segmenter).fit(data.images, [np.full_like(t, -1) for t in data.targets])


@promise(when=_semantic)
def check_single_class(segmenter: Segmenter) -> None:
    """One class alone can be learned, and is predicted everywhere."""
    data = example(segmenter)
    targets = [np.where(t == 0, 4, -1) for t in data.targets]
    model = fresh(segmenter).fit(data.images, targets)
    assert model.classes_.tolist() == [4], f"classes_ is {model.classes_}"
    for result in predict(model, data.images):
        assert (result == 4).all(), f"predicted {np.unique(result).tolist()}, fitted on 4 alone"


@promise(when=_semantic)
def check_class_ids_kept(segmenter: Segmenter) -> None:
    """Class ids with gaps, such as 3 and 70, come back as they are."""
    data = example(segmenter)
    names = np.array([3, 70, 71, -1])
    model = fresh(segmenter).fit(data.images, [names[t] for t in data.targets])
    assert model.classes_.tolist() == [3, 70, 71], f"classes_ is {model.classes_}"
    plain = predict(fitted(segmenter), data.images)
    renamed = [names[labels].astype(np.int32) for labels in plain]
    assert_same(predict(model, data.images), renamed, "ids 3, 70, 71 and 0, 1, 2 renamed")


@promise(when=_semantic)
def check_unlabelled_is_no_class(segmenter: Segmenter) -> None:
    """Pixels labelled -1 are no class: neither learned nor predicted."""
    data = example(segmenter)
    targets = [np.where(t == 2, -1, t) for t in data.targets]
    model = fresh(segmenter).fit(data.images, targets)
    assert model.classes_.tolist() == [0, 1], f"classes_ is {model.classes_}, labels held 0 and 1"
    for image, result in zip(data.images, predict(model, data.images), strict=True):
        assert_valid(model, result, image.shape[:2], "after fitting with unlabelled pixels")


@promise(when=_semantic)
def check_integer_labels(segmenter: Segmenter) -> None:
    """Labels of every integer dtype, and as nested lists, teach the same."""
    data = example(segmenter)
    targets = [np.maximum(t, 0) for t in data.targets]
    expected = predict(fresh(segmenter).fit(data.images, targets), data.images)
    for dtype in (np.int8, np.uint8, np.uint16, np.int64, np.uint64):
        model = fresh(segmenter).fit(data.images, [t.astype(dtype) for t in targets])
        assert_same(predict(model, data.images), expected, f"{np.dtype(dtype)} and int32 labels")
    model = fresh(segmenter).fit(data.images, [t.tolist() for t in targets])
    assert_same(predict(model, data.images), expected, "labels as lists and as arrays")


# --- weights -----------------------------------------------------------------------------


@promise(when=lambda traits: not traits.takes_sample_weight)
def check_weight_not_taken(segmenter: Segmenter) -> None:
    """sample_weight is refused where the method cannot use it, not dropped."""
    data = example(segmenter)
    with refused("sample_weight", TypeError, naming=("sample_weight",)):
        fresh(segmenter).fit(data.images, data.targets, sample_weight=[1.0, 1.0])


@promise(when=lambda traits: traits.takes_sample_weight)
def check_weight_validated(segmenter: Segmenter) -> None:
    """Weights of a wrong count, shape or kind, negative or NaN are refused."""
    data = example(segmenter)
    ones = [np.ones(t.shape) for t in data.targets]
    for what, weight in (
        ("one weight for two images", [1.0]),
        ("a weight of another shape", [ones[0], ones[0]]),
        ("a negative weight", [-1.0, 1.0]),
        ("a NaN weight", [np.nan, 1.0]),
        ("text", ["heavy", 1.0]),
    ):
        with refused(what, (TypeError, ValueError), naming=("sample_weight",)):
            fresh(segmenter).fit(data.images, data.targets, sample_weight=weight)


@promise(when=lambda traits: traits.takes_sample_weight)
def check_weight_forms(segmenter: Segmenter) -> None:
    """One weight an image equals the same weight at each of its pixels."""
    data = example(segmenter)
    maps = [np.full(image.shape[:2], w) for image, w in zip(data.images, (1.0, 3.0), strict=True)]
    a = fresh(segmenter).fit(data.images, data.targets, sample_weight=[1.0, 3.0])
    b = fresh(segmenter).fit(data.images, data.targets, sample_weight=maps)
    assert_same(predict(a, data.images), predict(b, data.images), "a number and a map of it")


@promise(when=lambda traits: traits.takes_sample_weight and traits.task == "semantic")
def check_zero_weight(segmenter: Segmenter) -> None:
    """A pixel of weight 0 teaches nothing: it might as well be labelled -1."""
    data = example(segmenter)
    weights, wrong, ignored = [], [], []
    for target in data.targets:
        weight = np.ones(target.shape)
        weight[:, ::2] = 0
        weights.append(weight)
        wrong.append(np.where((weight == 0) & (target >= 0), (target + 1) % 3, target))
        ignored.append(np.where(weight == 0, -1, target))
    a = fresh(segmenter).fit(data.images, wrong, sample_weight=weights)
    b = fresh(segmenter).fit(data.images, ignored, sample_weight=weights)
    assert_same(a.classes_, b.classes_, "classes_ with weight 0 and with -1")
    assert_same(predict(a, data.images), predict(b, data.images), "weight 0 and -1")


CHECKS = (
    check_labels_required,
    check_labels_not_needed,
    check_label_shapes,
    check_label_kinds,
    check_label_count,
    check_labels_below_minus_one,
    check_nothing_labelled,
    check_single_class,
    check_class_ids_kept,
    check_unlabelled_is_no_class,
    check_integer_labels,
    check_weight_not_taken,
    check_weight_validated,
    check_weight_forms,
    check_zero_weight,
)
