"""Checks of what predict gives: label maps, probabilities, instances; masks and prompts."""

from __future__ import annotations

import copy

import numpy as np

from segalgos.base import Segmenter
from segalgos.conformance._compare import assert_same, assert_valid
from segalgos.conformance._examples import clicks, example, fitted, fresh, predict
from segalgos.conformance._promise import promise, refused
from segalgos.results import Instances, Prompts


def _semantic(traits):
    return traits.task == "semantic"


def _interactive(traits):
    return traits.task == "interactive"


def _left_half(image):
    mask = np.zeros(np.shape(image)[:2], bool)
    mask[:, : mask.shape[1] // 2 + 2] = True
    return mask


# --- form --------------------------------------------------------------------------------


@promise()
def check_result_form(segmenter: Segmenter) -> None:
    """A label map is int32, C-contiguous, of the image's size; instances are Instances."""
    model = fitted(segmenter)
    for image in example(segmenter).images:
        assert_valid(model, predict(model, image), image.shape[:2], "a colour image")


@promise(when=lambda traits: traits.task == "partition")
def check_gapless_ids(segmenter: Segmenter) -> None:
    """The ids of a partition are 0..n-1 without gaps, inside a mask too."""
    model = fitted(segmenter)
    for image in example(segmenter).images:
        ids = np.unique(predict(model, image)).tolist()
        assert ids == list(range(len(ids))), f"ids are {ids}"
        if model.traits.takes_mask:
            mask = _left_half(image)
            ids = np.unique(predict(model, image, mask=mask)[mask]).tolist()
            assert ids == list(range(len(ids))), f"inside a mask ids are {ids}"


@promise(when=_semantic)
def check_classes(segmenter: Segmenter) -> None:
    """classes_ holds the ids that occur in the labels, sorted, as int32."""
    classes = fitted(segmenter).classes_
    assert isinstance(classes, np.ndarray), f"classes_ is a {type(classes).__name__}"
    assert classes.dtype == np.int32, f"classes_ is {classes.dtype}"
    assert classes.tolist() == [0, 1, 2], f"classes_ is {classes.tolist()}, labels hold 0, 1, 2"


@promise(when=_semantic)
def check_proba(segmenter: Segmenter) -> None:
    """Probabilities are (H, W, K) float32 from 0 to 1 and add up to one at every pixel."""
    model = fitted(segmenter)
    images = example(segmenter).images
    for image, proba in zip(images, model.predict_proba(images), strict=True):
        expected = (*image.shape[:2], len(model.classes_))
        assert proba.shape == expected, f"shape {proba.shape}, expected {expected}"
        assert proba.dtype == np.float32, f"they are {proba.dtype}"
        assert proba.min() >= 0, f"the smallest is {proba.min()}"
        assert proba.max() <= 1 + 1e-6, f"the largest is {proba.max()}"
        off = float(np.abs(proba.sum(axis=-1, dtype=np.float64) - 1).max())
        assert off < 1e-5, f"they miss a sum of one by {off:.2g}"


@promise(when=_semantic)
def check_proba_agrees(segmenter: Segmenter) -> None:
    """predict gives the class of the highest probability, in the order of classes_."""
    model = fitted(segmenter)
    for image in example(segmenter).images:
        best = model.classes_[np.argmax(model.predict_proba(image), axis=-1)]
        assert_same(predict(model, image), best, "predict and the most probable class")


@promise(when=_semantic)
def check_learns_its_example(segmenter: Segmenter) -> None:
    """Labelled training pixels get their own class with a higher probability than by chance."""
    model = fitted(segmenter)
    data = example(segmenter)
    given = []
    for proba, target in zip(model.predict_proba(data.images), data.targets, strict=True):
        index = np.searchsorted(model.classes_, target)[..., None]
        given.append(np.take_along_axis(proba, index, axis=-1)[target >= 0].ravel())
    mean, chance = float(np.concatenate(given).mean()), 1 / len(model.classes_)
    assert mean > chance, f"the mean is {mean:.3f}, chance {chance:.3f}"


@promise(when=lambda traits: traits.task == "instance")
def check_instances(segmenter: Segmenter) -> None:
    """Instances hold no empty mask, finite scores, and boxes inside the image."""
    model = fitted(segmenter)
    for image in example(segmenter).images:
        found = predict(model, image)
        assert isinstance(found, Instances), f"got {type(found).__name__}"
        assert found.masks.any(axis=(1, 2)).all(), "a mask is empty"
        assert np.isfinite(found.scores).all(), "a score is not finite"
        assert (found.boxes >= 0).all(), "a box begins outside the image"
        size = np.array(image.shape[:2])
        assert (found.boxes[:, 2:] <= size).all(), f"a box reaches beyond {image.shape[:2]}"


@promise()
def check_result_is_own(segmenter: Segmenter) -> None:
    """A result belongs to the caller: writing to it changes no later result."""
    model = fitted(segmenter)
    image = example(segmenter).images[0]
    scratch = predict(model, image)
    expected = copy.deepcopy(scratch)
    if isinstance(scratch, Instances):
        scratch.masks[:] = False
        scratch.scores[:] = 0
    else:
        scratch[:] = 7
    assert_same(predict(model, image), expected, "before and after writing to a result")


@promise(when=lambda traits: traits.task != "interactive")
def check_fit_predict(segmenter: Segmenter) -> None:
    """fit_predict gives what fit and predict give."""
    data = example(segmenter)
    both = fresh(segmenter).fit_predict(data.images, data.targets)
    assert_same(both, predict(fitted(segmenter), data.images), "fit_predict and fit, predict")


@promise()
def check_score(segmenter: Segmenter) -> None:
    """score is a number from 0 to 1, higher for the truth; interactive methods refuse it."""
    model = fitted(segmenter)
    data = example(segmenter)
    if segmenter.traits.task == "interactive":
        with refused("score without prompts", (TypeError, ValueError)):
            model.score(data.images, data.targets)
        return
    score = model.score(data.images, data.targets)
    assert isinstance(score, float), f"it is a {type(score).__name__}"
    assert 0 <= score <= 1, f"it is {score}"
    own = model.score(data.images, predict(model, data.images))
    assert own >= score, f"{own} against its own result, {score} against the truth"


# --- masks -------------------------------------------------------------------------------


@promise(when=lambda traits: traits.takes_mask and traits.task != "instance")
def check_mask(segmenter: Segmenter) -> None:
    """Pixels outside the mask get -1, all inside get a label; a full mask changes nothing."""
    model = fitted(segmenter)
    images = example(segmenter).images
    masks = [_left_half(image) for image in images]
    for image, mask, result in zip(images, masks, predict(model, images, mask=masks), strict=True):
        assert_valid(model, result, image.shape[:2], "with a mask", mask)
        alone = np.zeros_like(mask)
        alone[1, 2] = True
        assert_valid(
            model, predict(model, image, mask=alone), mask.shape, "a mask of one pixel", alone
        )
        full = predict(model, image, mask=np.ones_like(mask))
        assert_same(full, predict(model, image), "with a full mask and without one")


@promise(when=lambda traits: traits.takes_mask and traits.task == "semantic")
def check_proba_mask(segmenter: Segmenter) -> None:
    """Probabilities outside the mask are 0, and unchanged by it inside."""
    model = fitted(segmenter)
    image = example(segmenter).images[0]
    mask = _left_half(image)
    proba = model.predict_proba(image, mask=mask)
    assert (proba[~mask] == 0).all(), "a pixel outside the mask has a probability"
    assert_same(proba[mask], model.predict_proba(image)[mask], "inside the mask and without one")


@promise(when=lambda traits: traits.takes_mask)
def check_bad_masks(segmenter: Segmenter) -> None:
    """Masks of another shape, dtype or count, and masks of nothing, are refused."""
    model = fitted(segmenter)
    image = example(segmenter).images[0]
    mask = _left_half(image)
    with refused("a mask of another shape", naming=("mask",)):
        predict(model, image, mask=mask[:-1])
    with refused("a mask of bytes", TypeError, naming=("mask",)):
        predict(model, image, mask=mask.astype(np.uint8))
    with refused("a mask that is False everywhere", naming=("mask",)):
        predict(model, image, mask=np.zeros_like(mask))
    with refused("one mask for two images", naming=("mask",)):
        predict(model, [image, image], mask=[mask])


@promise(when=lambda traits: not traits.takes_mask)
def check_mask_not_taken(segmenter: Segmenter) -> None:
    """mask= is refused where the method cannot use it, not dropped."""
    image = example(segmenter).images[0]
    with refused("mask=", TypeError, naming=("mask",)):
        predict(fitted(segmenter), image, mask=_left_half(image))


# --- prompts -----------------------------------------------------------------------------


@promise(when=lambda traits: not traits.takes_prompts)
def check_prompts_not_taken(segmenter: Segmenter) -> None:
    """prompts= is refused where the method cannot use it, not dropped."""
    image = example(segmenter).images[0]
    with refused("prompts=", TypeError, naming=("prompts",)):
        fitted(segmenter).predict(image, prompts=clicks(image))


@promise(when=_interactive)
def check_prompts_required(segmenter: Segmenter) -> None:
    """predict without prompts is refused."""
    with refused("no prompts", naming=("prompts",)):
        fitted(segmenter).predict(example(segmenter).images[0])


@promise(when=lambda traits: traits.takes_prompts)
def check_bad_prompts(segmenter: Segmenter) -> None:
    """Prompts of another kind or count, or off the image, are refused."""
    model = fitted(segmenter)
    image = example(segmenter).images[0]
    height, width = image.shape[:2]
    with refused("a bare list of points", TypeError, naming=("prompts",)):
        model.predict(image, prompts=[[3, 4]])
    for point in ([height, 0], [0, width], [-1, 0]):
        with refused(f"a point at {point}", naming=("points",)):
            model.predict(image, prompts=Prompts(points=[point]))
    with refused("a box beyond the image", naming=("boxes",)):
        model.predict(image, prompts=Prompts(boxes=[0, 0, height + 1, width]))
    with refused("scribbles of another shape", naming=("scribbles",)):
        model.predict(image, prompts=Prompts(scribbles=np.zeros((3, 3), int)))
    with refused("prompts for one of two images", naming=("prompts",)):
        model.predict([image, image], prompts=[clicks(image)])


@promise(when=_interactive)
def check_prompts_matter(segmenter: Segmenter) -> None:
    """A click inside and one outside, exchanged, give another result."""
    model = fitted(segmenter)
    image = example(segmenter).images[0]
    points = clicks(image).points
    a = model.predict(image, prompts=Prompts(points=points, point_labels=[1, 0]))
    b = model.predict(image, prompts=Prompts(points=points, point_labels=[0, 1]))
    try:
        assert_same(a, b, "")
    except AssertionError:
        return
    raise AssertionError("both results are the same")


CHECKS = (
    check_result_form,
    check_gapless_ids,
    check_classes,
    check_proba,
    check_proba_agrees,
    check_learns_its_example,
    check_instances,
    check_result_is_own,
    check_fit_predict,
    check_score,
    check_mask,
    check_proba_mask,
    check_bad_masks,
    check_mask_not_taken,
    check_prompts_not_taken,
    check_prompts_required,
    check_bad_prompts,
    check_prompts_matter,
)
