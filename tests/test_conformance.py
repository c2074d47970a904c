"""The checks pass for correct segmenters, and each fails for a broken one."""

import contextlib
import copy
import dataclasses
import itertools
import os
import pickle
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from sklearn.base import clone
from sklearn.utils import check_random_state

from segalgos import checks, conformance, persistence
from segalgos.base import Segmenter, SemanticSegmenter, Traits
from segalgos.catalog import all_segmenters
from segalgos.conformance import ALL_CHECKS, check_segmenter, checks_for, parametrize_with_checks
from segalgos.parallel import n_threads
from segalgos.results import Instances, Prompts

# --- correct segmenters, one of each kind ------------------------------------------------


def _renumber(labels, mask):
    """Number the ids inside the mask from 0 on, without gaps."""
    inside = np.ones(labels.shape, bool) if mask is None else mask
    _, ids = np.unique(labels[inside], return_inverse=True)
    out = np.full(labels.shape, -1, np.int32)
    out[inside] = ids.ravel()
    return out


class Threshold(Segmenter):
    """Partition into dark and bright, by the mean of the channels."""

    traits = Traits(task="partition", family="tests", year=1979, ndims=(2, 3))

    def __init__(self, threshold=80.0, *, channel_axis="auto"):
        self.threshold = threshold
        self.channel_axis = channel_axis

    def _check_params(self):
        checks.check_real(type(self).__name__, "threshold", self.threshold)

    def _predict(self, image, mask, prompts):
        return _renumber(image.mean(axis=-1, dtype=np.float64) > self.threshold, mask)


class SampledColours(Segmenter):
    """Partition by the nearest of a few colours drawn at random from the images."""

    traits = Traits(
        task="partition",
        family="tests",
        year=1967,
        needs_fit=True,
        deterministic=False,
        ndims=(2, 3),
    )

    def __init__(self, n_colours=4, *, channel_axis="auto", random_state=None):
        self.n_colours = n_colours
        self.channel_axis = channel_axis
        self.random_state = random_state

    def _check_params(self):
        checks.check_int(type(self).__name__, "n_colours", self.n_colours, low=1)

    def _fit(self, images, labels, sample_weight):
        rng = check_random_state(self.random_state)
        pixels = np.concatenate([image.reshape(-1, image.shape[-1]) for image in images])
        self.colours_ = pixels[rng.choice(len(pixels), self.n_colours)]

    def _predict(self, image, mask, prompts):
        return _renumber(np.argmin(_distances(image, self.colours_), axis=-1), mask)


def _distances(image, colours):
    return ((image[..., None, :].astype(float) - colours) ** 2).sum(axis=-1)


class NearestMean(SemanticSegmenter):
    """Classify pixels by the nearest mean colour of a class."""

    traits = Traits(
        task="semantic",
        family="tests",
        year=1936,
        needs_fit=True,
        needs_labels=True,
        takes_sample_weight=True,
    )

    def __init__(self, *, channel_axis="auto"):
        self.channel_axis = channel_axis

    def _fit(self, images, labels, sample_weight):
        pixels = np.concatenate([image.reshape(-1, image.shape[-1]) for image in images])
        target = np.concatenate([t.ravel() for t in labels])
        weight = np.ones(len(target))
        if sample_weight is not None:
            weight = np.concatenate([w.ravel() for w in sample_weight])
        self.means_ = np.stack(
            [
                np.average(pixels[target == k].astype(float), axis=0, weights=weight[target == k])
                for k in range(len(self.classes_))
            ]
        )

    def _predict_proba(self, image):
        far = _distances(image, self.means_)
        far -= far.min(axis=-1, keepdims=True)
        scale = max(float(far.max()), np.finfo(float).tiny)
        likely = np.exp(-5 * (far / scale))
        return (likely / likely.sum(axis=-1, keepdims=True)).astype(np.float32)


class ColourObjects(Segmenter):
    """Find connected patches nearer to the objects' mean colours than to the background's."""

    traits = Traits(
        task="instance",
        family="tests",
        year=1985,
        needs_fit=True,
        needs_labels=True,
        takes_mask=False,
    )

    def __init__(self, *, channel_axis="auto"):
        self.channel_axis = channel_axis

    def _fit(self, images, labels, sample_weight):
        colours = {}
        for image, objects in zip(images, labels, strict=True):
            colours.setdefault(-1, []).append(image[~objects.masks.any(axis=0)])
            for one, category in zip(objects.masks, objects.classes, strict=True):
                colours.setdefault(int(category), []).append(image[one])
        self.categories_ = np.array(sorted(colours), np.int32)
        means = [np.concatenate(colours[k]).mean(axis=0, dtype=float) for k in self.categories_]
        self.means_ = np.stack(means)

    def _predict(self, image, mask, prompts):
        category = self.categories_[np.argmin(_distances(image, self.means_), axis=-1)]
        masks, classes = [], []
        for k in self.categories_[self.categories_ >= 0]:
            parts, n = ndimage.label(category == k)
            masks += [parts == i + 1 for i in range(n)]
            classes += [k] * n
        stacked = np.array(masks) if masks else np.zeros((0, *image.shape[:2]), bool)
        return Instances(stacked, classes=classes)


class NearestClick(Segmenter):
    """Give each pixel the label of the click whose colour is most like its own."""

    traits = Traits(task="interactive", family="tests", year=2001, takes_prompts=True)

    def __init__(self, *, channel_axis="auto"):
        self.channel_axis = channel_axis

    def _predict(self, image, mask, prompts):
        if prompts.points is None:
            raise ValueError(f"{type(self).__name__}: prompts hold no points: pass points=.")
        rows, columns = prompts.points.astype(int).T
        nearest = np.argmin(_distances(image, image[rows, columns]), axis=-1)
        return prompts.point_labels[nearest]


CORRECT = (Threshold, SampledColours, NearestMean, ColourObjects, NearestClick)


# --- broken ones, a few lines away from a correct one ------------------------------------

BROKEN = []


def breaks(check, words, patch=None):
    """Note that a class breaks a check, the words it reports, and what it patches for that."""

    def note(cls):
        BROKEN.append(pytest.param(check, cls, words, patch, id=f"{check}-{cls.__name__}"))
        return cls

    return note


def clean_with(change):
    """Make a `_clean` that first changes the image, as a method with its own ideas would."""

    def _clean(self, image, name):
        return Segmenter._clean(self, change(image), name)

    return _clean


def fit_with(change):
    """Make a `fit` that first changes the labels."""

    def fit(self, images, labels=None, **kwargs):
        return Segmenter.fit(self, images, change(images, labels), **kwargs)

    return fit


# Parameters.


@breaks("check_traits", "predict_proba is there")
class ProbaWithoutTask(Threshold):
    def predict_proba(self, images):
        return None


@breaks("check_traits", "has no random_state")
class ChanceWithoutSeed(Threshold):
    traits = dataclasses.replace(Threshold.traits, deterministic=False)


@breaks("check_traits", "traits is {'task'")
class TraitsAsDict(Threshold):
    traits = {"task": "partition"}  # noqa: RUF012


@breaks("check_small", "fitted already")
class SmallIsFitted(Threshold):
    @classmethod
    def small(cls):
        return cls().fit(np.zeros((2, 2)))


@breaks("check_no_arguments_needed", "required positional argument")
class NeedsAnArgument(Threshold):
    def __init__(self, threshold, *, channel_axis="auto"):
        super().__init__(threshold, channel_axis=channel_axis)

    @classmethod
    def small(cls):
        return cls(100.0)


@breaks("check_constructor_stores_arguments", "also set ready")
class SetsMore(Threshold):
    def __init__(self, threshold=80.0, *, channel_axis="auto"):
        super().__init__(threshold, channel_axis=channel_axis)
        self.ready = True


@breaks("check_constructor_stores_arguments", "threshold was not stored")
class StoresText(Threshold):
    def __init__(self, threshold="100", *, channel_axis="auto"):
        super().__init__(str(threshold), channel_axis=channel_axis)


@breaks("check_channel_axis_parameter", "default is -1")
class OtherChannelAxis(Threshold):
    def __init__(self, threshold=80.0, *, channel_axis=-1):
        super().__init__(threshold, channel_axis=channel_axis)


@breaks("check_get_and_set_params", "was accepted")
class DropsUnknownParameters(Threshold):
    def set_params(self, **params):
        known = self.get_params(deep=False)
        return super().set_params(**{k: v for k, v in params.items() if k in known})


@breaks("check_clone", "the clone has colours_")
@breaks("check_clone_is_unfitted", "was accepted")
class ClonesWhatItLearned(SampledColours):
    def __sklearn_clone__(self):
        return copy.deepcopy(self)


@breaks("check_repr", "repr is 'segmenter'")
class NamelessRepr(Threshold):
    def __repr__(self):
        return "segmenter"


@breaks("check_parameters_validated_late", "no axis is called sideways")
class ValidatesInConstructor(Threshold):
    def __init__(self, threshold=80.0, *, channel_axis="auto"):
        if channel_axis == "sideways":
            raise ValueError("no axis is called sideways")
        super().__init__(threshold, channel_axis=channel_axis)


@breaks("check_no_parameter_takes_anything", r"threshold=object\(\).* accepted")
class ValidatesNothing(Threshold):
    def _check_params(self):
        pass


@breaks("check_fit_keeps_parameters", "threshold was replaced")
class ReplacesParameter(Threshold):
    def _fit(self, images, labels, sample_weight):
        self.threshold = self.threshold + 0.0


# Images.


@breaks("check_one_in_one_out", "got list")
class AlwaysAList(Threshold):
    def predict(self, images, **kwargs):
        result = super().predict(images, **kwargs)
        return result if isinstance(result, list) else [result]


@breaks("check_list_in_list_out", "a list gave ndarray")
class UnpacksOne(Threshold):
    def predict(self, images, **kwargs):
        result = super().predict(images, **kwargs)
        return result[0] if isinstance(result, list) and len(result) == 1 else result


@breaks("check_ragged_sizes", "in a list and alone")
class DependsOnCompany(Threshold):
    def predict(self, images, **kwargs):
        many = isinstance(images, list) and len(images) > 1
        return super(DependsOnCompany, type(self)(150.0) if many else self).predict(images)


@breaks("check_lazy_sequence", "only lists")
@breaks("check_object_array", "only lists")
@breaks("check_nested_lists", "only lists of arrays")
class ListsOfArraysOnly(Threshold):
    def predict(self, images, **kwargs):
        plain = isinstance(images, np.ndarray) and images.dtype != np.dtype(object)
        if not plain and not isinstance(images, list | tuple):
            raise TypeError("only lists")
        if isinstance(images, list) and isinstance(images[0], list):
            raise TypeError("only lists of arrays")
        return super().predict(images, **kwargs)


@breaks("check_not_a_batch", "an empty list in predict.* accepted")
@breaks("check_path_refused", "photo.png.* accepted")
class TakesAnything(Threshold):
    def predict(self, images, **kwargs):
        try:
            return super().predict(images, **kwargs)
        except (TypeError, ValueError):
            return []


@breaks("check_grey", r"\(H, W\) and \(H, W, 1\)")
class InvertsGrey(Threshold):
    _clean = clean_with(lambda image: 200 - np.array(image) if np.ndim(image) == 2 else image)


@breaks("check_colour_channels", "2 channels are not colour")
class GreyOrColour(Threshold):
    def _clean(self, image, name):
        if np.shape(image)[-1] == 2:
            raise ValueError("2 channels are not colour")
        return super()._clean(image, name)


@breaks("check_many_channels", "channels first and last")
class ReshapesChannels(Threshold):
    def _clean(self, image, name):
        image = np.asarray(image)
        if self.channel_axis == 0:  # right shape, wrong pixels
            return image.reshape(*image.shape[1:], image.shape[0]).astype(np.float32)
        return super()._clean(image, name)


@breaks("check_many_channels", "fit on seven channels.* accepted")
class DropsChannels(Threshold):
    traits = dataclasses.replace(Threshold.traits, max_channels=4)

    def _clean(self, image, name):
        clean = checks.check_image(image, "DropsChannels", channel_axis=self.channel_axis)
        return clean[..., :4]


@breaks("check_ambiguous_shape", "accepted")
class GuessesChannels(Threshold):
    def _clean(self, image, name):
        axis = -1 if np.ndim(image) == 3 else self.channel_axis
        return checks.check_image(image, "GuessesChannels", channel_axis=axis)


@breaks("check_volume", "accepted")
class VolumesAgainstItsTraits(Threshold):
    traits = dataclasses.replace(Threshold.traits, ndims=(2,))

    def _clean(self, image, name):
        return checks.check_image(image, "_", channel_axis=self.channel_axis, ndims=(2, 3))


@breaks("check_volume", "expected")
class NoVolumesAgainstItsTraits(Threshold):
    def _clean(self, image, name):
        return checks.check_image(image, "_", channel_axis=self.channel_axis, ndims=(2,))


@breaks("check_wrong_number_of_axes", r"\(2, 8, 8, 3\).* accepted")
class TakesFirstOfFour(Threshold):
    _clean = clean_with(lambda image: image[0] if np.ndim(image) == 4 else image)


@breaks("check_empty_image", "accepted")
class PadsEmpty(Threshold):
    _clean = clean_with(lambda image: np.zeros((1, 1)) if np.size(image) == 0 else image)

    def _predict_checked(self, image, mask, prompts, name):
        return self._predict(self._clean(image, name), mask, prompts)


@breaks("check_tiny_images", "too small")
class NeedsNeighbours(Threshold):
    def _predict(self, image, mask, prompts):
        np.gradient(image, axis=0)
        return super()._predict(image, mask, prompts)


@breaks("check_channel_count", "4 channels after 3.* accepted")
@breaks("check_mixed_channels", "accepted")
class AlwaysThreeChannels(SampledColours):
    def _clean(self, image, name):
        image = super()._clean(image, name)
        return np.ascontiguousarray(np.repeat(image, 3, axis=-1)[..., :3])


@breaks("check_real_dtypes", "int8 and float32")
class RescalesByDtype(Threshold):
    _clean = clean_with(
        lambda image: (
            np.asarray(image) / np.iinfo(np.asarray(image).dtype).max
            if np.asarray(image).dtype.kind == "i"
            else image
        )
    )


@breaks("check_byte_order", "the two byte orders")
class IgnoresByteOrder(Threshold):
    _clean = clean_with(
        lambda image: np.asarray(image).view(np.asarray(image).dtype.newbyteorder("="))
    )


@breaks("check_other_dtypes_refused", "complex128 in predict.* accepted")
class DropsImaginaryPart(Threshold):
    _clean = clean_with(np.real)


@breaks("check_masked_array_refused", "accepted")
class ForgetsTheMask(Threshold):
    _clean = clean_with(np.ma.getdata)


@breaks("check_nan_and_inf", "nan .* accepted")
@breaks("check_beyond_float32", "accepted")
class ReplacesNonFinite(Threshold):
    _clean = clean_with(lambda image: np.clip(np.nan_to_num(np.asarray(image, float)), -1e30, 1e30))


@breaks("check_constant_image", "RuntimeWarning: invalid value")
class DividesByDeviation(Threshold):
    def _predict(self, image, mask, prompts):
        return super()._predict((image - image.mean()) / image.std(), mask, prompts)


@breaks("check_huge_values", "RuntimeWarning: overflow")
class Squares(Threshold):
    def _predict(self, image, mask, prompts):
        return super()._predict(image**2, mask, prompts)


@breaks("check_huge_values", "names no NamelessRefusal")
class NamelessRefusal(Threshold):
    def _predict(self, image, mask, prompts):
        if image.max() > 1e20:
            raise ValueError("too large")
        return super()._predict(image, mask, prompts)


@breaks("check_denormal_values", "RuntimeWarning: overflow")
class ScalesToOne(Threshold):
    def _predict(self, image, mask, prompts):
        scale = np.float32(1) / image.max() if image.max() > 0 else 1
        return super()._predict(image * scale, mask, prompts)


@breaks("check_memory_layouts", "Fortran-ordered")
class ReadsMemoryAsItLies(Threshold):
    _clean = clean_with(lambda i: np.ravel(i, order="K").reshape(np.shape(i)))


@breaks("check_input_never_written", "images was written to")
class WritesToImage(Threshold):
    def _predict(self, image, mask, prompts):
        image[0] = 0
        return super()._predict(image, mask, prompts)


@breaks("check_input_never_written", "labels was written to")
class WritesToLabels(NearestMean):
    def fit(self, images, labels=None, **kwargs):
        super().fit(images, labels, **kwargs)
        for target in labels:
            target[target < 0] = 0
        return self


@breaks("check_keeps_no_view", "training data changed")
class RemembersImages(Threshold):
    def _fit(self, images, labels, sample_weight):
        self.images_ = images

    def _predict(self, image, mask, prompts):
        dark = hasattr(self, "images_") and self.images_[0].max() == 0
        return super()._predict(255 - image if dark else image, mask, prompts)


# Labels and weights.


@breaks("check_labels_required", "accepted")
class InventsLabels(NearestMean):
    fit = fit_with(
        lambda images, labels: (
            [np.zeros(i.shape[:2], int) for i in images] if labels is None else labels
        )
    )


@breaks("check_labels_not_needed", "with and without labels")
class PeeksAtLabels(Threshold):
    def fit(self, images, labels=None, **kwargs):
        super().fit(images, labels, **kwargs)
        self.peeked_ = labels is not None
        return self

    def _predict(self, image, mask, prompts):
        peeked = getattr(self, "peeked_", False)
        return super()._predict(255 - image if peeked else image, mask, prompts)


@breaks("check_label_shapes", "accepted")
class ResizesLabels(NearestMean):
    fit = fit_with(
        lambda images, labels: [
            np.resize(t, np.shape(i)[:2]) for i, t in zip(images, labels, strict=True)
        ]
    )


@breaks("check_label_kinds", "float label maps.* accepted")
class RoundsLabels(NearestMean):
    fit = fit_with(lambda images, labels: [np.asarray(t).astype(int) for t in labels])


@breaks("check_label_kinds", "label maps.* accepted")
class ReadsMapsAsInstances(ColourObjects):
    fit = fit_with(
        lambda images, labels: [
            Instances.from_labels(t) if isinstance(t, np.ndarray) else t for t in labels
        ]
    )


@breaks("check_label_count", "accepted")
class IgnoresSurplus(NearestMean):
    fit = fit_with(
        lambda images, labels: list(itertools.islice(itertools.cycle(labels), len(images)))
    )

    def _check_length(self, values, n, name):
        pass


@breaks("check_labels_below_minus_one", "accepted")
class ClipsLabels(NearestMean):
    fit = fit_with(lambda images, labels: [np.maximum(t, -1) for t in labels])


@breaks("check_nothing_labelled", "accepted")
class FillsUnlabelled(NearestMean):
    fit = fit_with(lambda images, labels: [t if (t >= 0).any() else t * 0 for t in labels])


@breaks("check_single_class", "needs two classes")
class NeedsTwoClasses(NearestMean):
    def _fit(self, images, labels, sample_weight):
        if len(self.classes_) < 2:
            raise ValueError("needs two classes")
        super()._fit(images, labels, sample_weight)


@breaks("check_class_ids_kept", "renamed")
class PredictsIndices(NearestMean):
    def _predict(self, image, mask, prompts):
        return np.argmax(self._predict_proba(image), axis=-1)


@breaks("check_unlabelled_is_no_class", "classes_ is")
class LearnsVoid(NearestMean):
    fit = fit_with(lambda images, labels: [np.where(t < 0, 9, t) for t in labels])


@breaks("check_integer_labels", "no bytes please")
class NoByteLabels(NearestMean):
    def fit(self, images, labels=None, **kwargs):
        if np.asarray(labels[0]).dtype == np.uint8:
            raise TypeError("no bytes please")
        return super().fit(images, labels, **kwargs)


@breaks("check_weight_not_taken", "accepted")
class DropsWeight(Threshold):
    def fit(self, images, labels=None, *, sample_weight=None):
        return super().fit(images, labels)


@breaks("check_weight_validated", "a negative weight.* accepted")
class TurnsWeightPositive(NearestMean):
    def fit(self, images, labels=None, *, sample_weight=None):
        if np.ndim(sample_weight) == 1 and np.array(sample_weight).dtype.kind == "f":
            sample_weight = np.abs(sample_weight)
        return super().fit(images, labels, sample_weight=sample_weight)


@breaks("check_weight_forms", "a number and a map of it")
class MisreadsNumbers(NearestMean):
    def fit(self, images, labels=None, *, sample_weight=None):
        if np.ndim(sample_weight[0]) == 0:
            labels = [2 - np.abs(t) for t in labels]
        return super().fit(images, labels, sample_weight=sample_weight)


@breaks("check_zero_weight", "weight 0 and -1")
class SmoothsWeights(NearestMean):
    def fit(self, images, labels=None, *, sample_weight=None):
        # Turned upside down: what was to be ignored counts most.
        return super().fit(images, labels, sample_weight=[1.5 - w for w in sample_weight])


# Results.


@breaks("check_result_form", "int64")
class WideLabels(Threshold):
    def _predict_checked(self, *args):
        return super()._predict_checked(*args).astype(np.int64)


@breaks("check_result_form", "not C-contiguous")
class FortranLabels(Threshold):
    def _predict_checked(self, *args):
        return np.asfortranarray(super()._predict_checked(*args))


@breaks("check_result_form", "not Instances")
class MapsForInstances(ColourObjects):
    def _predict(self, image, mask, prompts):
        return super()._predict(image, mask, prompts).to_labels()


@breaks("check_gapless_ids", r"ids are \[0, 2\]")
class EvenIds(Threshold):
    def _predict(self, image, mask, prompts):
        labels = super()._predict(image, mask, prompts)
        return np.where(labels > 0, labels * 2, labels)


@breaks("check_gapless_ids", "inside a mask")
class NumbersBeforeMasking(Threshold):
    def _predict(self, image, mask, prompts):
        labels = super()._predict(image, None, prompts) + 1
        labels[0, -1] = 0
        return labels


@breaks("check_classes", "classes_ is int64")
class WideClasses(NearestMean):
    def fit(self, images, labels=None, **kwargs):
        super().fit(images, labels, **kwargs)
        self.classes_ = self.classes_.astype(np.int64)
        return self


@breaks("check_proba", "miss a sum of one")
@breaks("check_proba_mask", "outside the mask has a probability")
class HalfProbabilities(NearestMean):
    def predict_proba(self, images, *, mask=None):
        proba = super().predict_proba(images)
        return [p / 2 for p in proba] if isinstance(proba, list) else proba / 2


@breaks("check_proba_agrees", "the most probable class")
class LeastProbable(NearestMean):
    def _predict(self, image, mask, prompts):
        return self.classes_[np.argmin(self._predict_proba(image), axis=-1)]


@breaks("check_learns_its_example", r"the mean is .* chance")
class ReversesClasses(NearestMean):
    def _predict_proba(self, image):
        return super()._predict_proba(image)[..., ::-1]


@breaks("check_instances", "a mask is empty")
class EmptyObject(ColourObjects):
    def _predict(self, image, mask, prompts):
        return Instances(np.zeros((1, *image.shape[:2]), bool))


@breaks("check_result_is_own", "writing to a result")
class SharesItsCache(Threshold):
    cache = {}  # noqa: RUF012

    def _predict_checked(self, image, mask, prompts, name):
        key = image.tobytes()
        if key not in self.cache:
            self.cache[key] = super()._predict_checked(image, mask, prompts, name)
        return self.cache[key]


@breaks("check_fit_predict", "fit_predict and fit, predict")
class OtherFitPredict(Threshold):
    def fit_predict(self, images, labels=None):
        return self.fit(images).predict([255 - image for image in images])


@breaks("check_score", "it is [0-9]")
@breaks("check_cross_val_score", "by hand")
class GrowingScore(Threshold):
    scores = itertools.count(2)

    def score(self, images, labels):
        return float(next(self.scores))


@breaks("check_mask", "outside the mask have a label")
class IgnoresMask(Threshold):
    def _predict_checked(self, image, mask, prompts, name):
        return super()._predict_checked(image, None, prompts, name)


@breaks("check_bad_masks", "a mask of another shape.* accepted")
class ResizesMask(Threshold):
    def _predict_checked(self, image, mask, prompts, name):
        mask = np.resize(mask, image.shape[:2]).astype(bool)
        return super()._predict_checked(image, mask, prompts, name)


@breaks("check_mask_not_taken", "accepted")
class DropsMask(ColourObjects):
    def predict(self, images, *, prompts=None, mask=None):
        return super().predict(images, prompts=prompts)


@breaks("check_prompts_not_taken", "accepted")
class DropsPrompts(Threshold):
    def predict(self, images, *, prompts=None, mask=None):
        return super().predict(images, mask=mask)


@breaks("check_prompts_required", "accepted")
class ClicksItself(NearestClick):
    def predict(self, images, *, prompts=None, mask=None):
        prompts = Prompts(points=[[0, 0]]) if prompts is None else prompts
        return super().predict(images, prompts=prompts, mask=mask)


@breaks("check_bad_prompts", r"a point at \[24, 0\].* accepted")
class ClipsPoints(NearestClick):
    def predict(self, images, *, prompts=None, mask=None):
        if isinstance(prompts, Prompts) and prompts.points is not None:
            prompts = Prompts(np.clip(prompts.points, 0, np.shape(images)[0] - 1))
        return super().predict(images, prompts=prompts, mask=mask)


@breaks("check_prompts_matter", "both results are the same")
class IgnoresPointLabels(NearestClick):
    def _predict(self, image, mask, prompts):
        return super()._predict(image, mask, prompts) * 0


# State.


@breaks("check_fit_returns_self", "it returned None")
class FitReturnsNone(Threshold):
    def fit(self, *args, **kwargs):
        super().fit(*args, **kwargs)


@breaks("check_learned_names", "it added mean")
class LearnsUnmarked(Threshold):
    def _fit(self, images, labels, sample_weight):
        self.mean = images[0].mean()


@breaks("check_n_channels", "counts as fitted before fit")
@breaks("check_save_unfitted", "counts as fitted")
class AlwaysFitted(Threshold):
    def __sklearn_is_fitted__(self):
        return True


@breaks("check_predict_before_fit", "accepted")
class GuessesUnfitted(SampledColours):
    def predict(self, images, **kwargs):
        if not hasattr(self, "n_channels_"):
            return np.zeros(images.shape[:2], np.int32)
        return super().predict(images, **kwargs)


@breaks("check_predict_before_fit", "NotFittedError")
class NeedsFitAgainstItsTraits(SampledColours):
    traits = dataclasses.replace(SampledColours.traits, needs_fit=False)

    def _predict(self, image, mask, prompts):
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self)
        return super()._predict(image, mask, prompts)


@breaks("check_predict_leaves_state", "predict created last_shape_")
class RemembersShape(Threshold):
    def _predict(self, image, mask, prompts):
        self.last_shape_ = image.shape
        return super()._predict(image, mask, prompts)


@breaks("check_predict_leaves_state", "predict changed colours_")
class LearnsOn(SampledColours):
    def _predict(self, image, mask, prompts):
        self.colours_[0] += 1
        return super()._predict(image, mask, prompts)


@breaks("check_failed_fit", "created half_")
class LeavesHalf(Threshold):
    def fit(self, images, labels=None, **kwargs):
        self.half_ = 1
        return super().fit(images, labels, **kwargs)


@breaks("check_interrupted_fit", "created colours_")
class LearnsInPlace(SampledColours):
    def fit(self, images, labels=None, **kwargs):
        self._fit_checked(images, labels, None)
        return self


@breaks("check_refit_forgets", "'alpha_'")
class RemembersFirstFit(Threshold):
    def _fit(self, images, labels, sample_weight):
        if images[0].shape[-1] == 4:
            self.alpha_ = True


@breaks("check_silent", "they printed 'hello")
class Talks(Threshold):
    def _predict(self, image, mask, prompts):
        print("hello")  # noqa: T201
        return super()._predict(image, mask, prompts)


@breaks("check_silent", "they printed 'native")
class TalksNatively(Threshold):
    def _fit(self, images, labels, sample_weight):
        os.write(2, b"native code")


@breaks("check_no_warnings", "UserWarning: careful")
class Warns(Threshold):
    def _fit(self, images, labels, sample_weight):
        warnings.warn("careful", stacklevel=2)


@breaks("check_error_messages", "does not begin with TerseErrors")
class TerseErrors(Threshold):
    def _clean(self, image, name):
        try:
            return super()._clean(image, name)
        except ValueError:
            raise ValueError("bad input") from None


@breaks("check_error_messages", "gives no remedy")
class NoRemedy(Threshold):
    def _clean(self, image, name):
        try:
            return super()._clean(image, name)
        except ValueError:
            raise ValueError("NoRemedy: bad input.") from None


# Seeds and threads.


@breaks("check_same_seed", "two fits with one seed")
class AnotherEachTime(SampledColours):
    fits = itertools.count()

    def _fit(self, images, labels, sample_weight):
        super()._fit(images, labels, sample_weight)
        self.colours_ = self.colours_[: 1 + 3 * (next(self.fits) % 2)]


@breaks("check_random_state_kinds", "seeds are integers")
class IntegerSeedsOnly(SampledColours):
    def _check_params(self):
        if not isinstance(self.random_state, int):
            raise ValueError("seeds are integers")


@breaks("check_deterministic", "random_state")
class CallsItselfDeterministic(SampledColours):
    traits = dataclasses.replace(SampledColours.traits, deterministic=True)


@breaks("check_global_random_state", "touched numpy.random")
class SeedsGlobally(SampledColours):
    def _fit(self, images, labels, sample_weight):
        if isinstance(self.random_state, int):
            np.random.seed(self.random_state)  # noqa: NPY002
        super()._fit(images, labels, sample_weight)


@breaks("check_thread_counts", "1 and 2 threads")
class CountsThreads(Threshold):
    def _predict(self, image, mask, prompts):
        return super()._predict(image if n_threads() == 1 else 255 - image, mask, prompts)


@breaks("check_concurrent_predict", "four threads and one")
class BoundToItsThread(Threshold):
    owner = None

    def _fit(self, images, labels, sample_weight):
        type(self).owner = threading.get_ident()

    def _predict(self, image, mask, prompts):
        mine = threading.get_ident() == self.owner
        return super()._predict(image if mine else 255 - image, mask, prompts)


# Copies and files.


@breaks("check_deepcopy", "NotFittedError")
class CopiesParametersOnly(SampledColours):
    def __deepcopy__(self, memo):
        return clone(self)


@breaks("check_pickle", "no attribute 'colours_'")
class PicklesHalf(SampledColours):
    def __getstate__(self):
        return {k: v for k, v in super().__getstate__().items() if k != "colours_"}


@breaks("check_save_and_load", "saved and loaded")
class SavesRounded(SampledColours):
    def _get_state(self):
        return super()._get_state() | {"colours_": np.round(self.colours_, -2)}


@breaks("check_saved_twice", "two saves gave unlike files")
class SavesCounter(Threshold):
    counter = itertools.count()

    def _get_state(self):
        return super()._get_state() | {"count_": next(self.counter)}


_load = persistence.load


def _load_anything(path, *, segmenters):
    try:
        return _load(path, segmenters=segmenters)
    except (ValueError, OSError):
        return segmenters[0]()


def _load_pickles_too(path, *, segmenters):
    try:
        return _load(path, segmenters=segmenters)
    except ValueError:
        if path.read_bytes()[:1] == b"\x80":
            pickle.loads(path.read_bytes()).close()
        raise


@breaks("check_truncated_file", "0 of .* accepted", patch=("load", _load_anything))
@breaks("check_foreign_files", "code in it was run", patch=("load", _load_pickles_too))
@breaks("check_missing_file", "no file.* accepted", patch=("load", _load_anything))
@breaks("check_damaged_file", "flipped bit", patch=("_digest", lambda content, arrays: ""))
class CarelesslyLoaded(SampledColours):
    pass


@breaks("check_save_replaces_whole", "the folder holds")
class LeavesTemporary(Threshold):
    def save(self, path):
        Path(path).with_suffix(".tmp").write_text("")
        super().save(path)


@breaks("check_failed_save", "accepted")
class SwallowsErrors(Threshold):
    def save(self, path):
        with contextlib.suppress(OSError):
            super().save(path)


# Ecosystem.


@breaks("check_grid_search", "scores")
class NoScore(Threshold):
    def score(self, images, labels):
        return np.nan


@breaks("check_pipeline", "positional argument")
class LabelsByKeyword(Threshold):
    def fit(self, images, *, labels=None):
        return super().fit(images, labels)


@breaks("check_tags", "requires_fit is True")
class WrongTags(Threshold):
    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = True
        return tags


# --- the tests ---------------------------------------------------------------------------


# Those that train a network are in nets/test_conformance.py: each takes as long as many others.
@parametrize_with_checks(
    [cls.small() for cls in all_segmenters() if cls.traits.family not in ("nets", "instances")]
)
def test_catalogue_conforms(segmenter, check):
    check(segmenter)


@parametrize_with_checks([cls.small() for cls in CORRECT])
def test_correct_segmenters_conform(segmenter, check):
    check(segmenter)


def test_correct_segmenters_cover_the_contract():
    assert {cls.traits.task for cls in CORRECT} == {
        "partition",
        "semantic",
        "instance",
        "interactive",
    }
    applied = {check for cls in CORRECT for check in checks_for(cls.small())}
    assert applied == set(ALL_CHECKS)


@pytest.mark.parametrize(("check", "cls", "words", "patch"), BROKEN)
def test_broken_segmenter_is_found(check, cls, words, patch, monkeypatch):
    (function,) = (f for f in ALL_CHECKS if f.__name__ == check)
    base = cls.__mro__[1].small()
    function(base)  # what the broken one derives from keeps the promise
    if patch is not None:
        monkeypatch.setattr(f"segalgos.persistence.{patch[0]}", patch[1])
    with pytest.raises(AssertionError, match=words) as failure:
        function(cls.small())
    message = str(failure.value)
    assert message.startswith(f"{cls.__name__} breaks the promise")
    assert check in message


def test_every_check_can_fail():
    assert {case.values[0] for case in BROKEN} == {check.__name__ for check in ALL_CHECKS}


def test_every_check_is_listed():
    names = [check.__name__ for check in ALL_CHECKS]
    assert len(names) == len(set(names)) >= 45
    modules = [m for m in vars(conformance).values() if hasattr(m, "CHECKS")]
    written = {n for m in modules for n in vars(m) if n.startswith("check_")}
    assert written == set(names)
    assert all(check.__doc__.splitlines()[0].endswith(".") for check in ALL_CHECKS)


def test_check_segmenter():
    segmenter = NearestMean()
    before = dict(vars(segmenter))
    check_segmenter(segmenter)
    assert vars(segmenter) == before
    with pytest.raises(AssertionError, match=r"WideLabels breaks the promise .*int64"):
        check_segmenter(WideLabels())


def test_classes_are_refused():
    with pytest.raises(TypeError, match=r"class Threshold, expected an instance"):
        check_segmenter(Threshold)
    with pytest.raises(TypeError, match=r"class Threshold, expected an instance"):
        parametrize_with_checks([Threshold])


def test_checks_follow_traits():
    names = {check.__name__ for check in checks_for(Threshold())}
    assert "check_gapless_ids" in names
    assert not names & {"check_proba", "check_prompts_required", "check_zero_weight"}
    dict(_by_name())["check_proba"](Threshold())  # called all the same, it has nothing to say


def _by_name():
    return [(check.__name__, check) for check in ALL_CHECKS]


def test_parametrize_ids_and_exemptions():
    mark = parametrize_with_checks(
        [Threshold()], expected_failed_checks=lambda s: {"check_silent": "it sings"}
    )
    (names, cases) = mark.args
    assert names == ("segmenter", "check")
    ids = [case.id for case in cases]
    assert "Threshold-check_constant_image" in ids
    marked = {case.id: case.marks for case in cases if case.marks}
    ((name, (xfail,)),) = marked.items()
    assert name == "Threshold-check_silent"
    assert (xfail.name, xfail.kwargs["reason"], xfail.kwargs["strict"]) == (
        "xfail",
        "it sings",
        True,
    )


@pytest.mark.parametrize(
    ("exempt", "words"),
    [
        ({"check_proba": "none"}, "does not apply"),
        ({"check_no_such": "none"}, "does not apply"),
        ({"check_silent": ""}, "without a reason"),
    ],
)
def test_exemptions_are_checked(exempt, words):
    with pytest.raises(ValueError, match=words):
        parametrize_with_checks([Threshold()], expected_failed_checks=lambda s: exempt)
