"""The scores of the Cityscapes benchmark: IoU of classes and categories, and iIoU of instances."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from segalgos.checks import check_choice
from segalgos.cityscapes_labels import CATEGORIES, LABELS, to_label_ids

from ._averages import mean_of_defined, ratio
from .contingency import check_ids, check_same_shape, largest_id

_N_LABELS = len(LABELS)
_SCORED = np.flatnonzero([label.scored for label in LABELS])  # label id of each class
_THINGS = np.array([LABELS[i].has_instances for i in _SCORED])
# (n_labels, n_categories): whether a label belongs to a category
_MEMBERS = np.array([[label.category == name for name in CATEGORIES] for label in LABELS])
# Instance ids are 1000 times the label id plus a number.
_INSTANCES_A_LABEL = 1000
_FIRST_THING = next(i for i, label in enumerate(LABELS) if label.has_instances)
# Mean pixels of an instance in the training set, as the official evaluation has them.
_MEAN_SIZES = {
    "person": 3462.4756337644,
    "rider": 3930.4788056518,
    "car": 12794.0202738185,
    "truck": 27855.1264367816,
    "bus": 35732.1511111111,
    "train": 67583.7075812274,
    "motorcycle": 6298.7200839748,
    "bicycle": 4672.3249222261,
}
_SIZE_OF_LABEL = np.array([_MEAN_SIZES.get(label.name, np.nan) for label in LABELS])


class CityscapesCounts(NamedTuple):
    """What `cityscapes_counts` finds in one image, enough for all scores.

    Parameters
    ----------
    pixels : (34, 34) int64 array
        Pixels of each true label (row) and predicted label (column).
    class_instances : (34, 2) float64 array or None
        For each label, weighted true positive and false negative pixels of its instances.
    category_instances : (7, 2) float64 array or None
        The same for each category.
    """

    pixels: np.ndarray
    class_instances: np.ndarray | None = None
    category_instances: np.ndarray | None = None


def cityscapes_scores(
    predictions: Any, labels: Any, instances: Any = None, *, ids: str = "train"
) -> dict[str, float | np.ndarray]:
    """Score class maps as the Cityscapes benchmark does.

    Parameters
    ----------
    predictions : int array, or sequence of int arrays
        Class maps of any sizes. An array is one map. Sequences are read one map at a time, so
        those of a data set may be passed as they are.
    labels : int array, or sequence of int arrays
        True class maps of the same shapes.
    instances : int array, or sequence of int arrays, optional
        True instances, as ``_gtFine_instanceIds.png`` has them and
        `segalgos.datasets.cityscapes.instance_ids` reads them: 1000 times the label id plus a
        number. Smaller ids are no single object. Without them the instance scores are NaN.
    ids : {"train", "label"}
        What `predictions` and `labels` hold. "train": train ids 0 to 18, as the data set of
        segalgos gives them and its segmenters predict them; -1 in the labels is ignored, in
        the predictions it is no answer, a miss. "label": label ids 0 to 33, as in the files
        that the evaluation server takes; -1 as before.

    Returns
    -------
    dict
        Arrays, in the order of `segalgos.cityscapes_labels.CLASSES` (19,) and ``CATEGORIES``
        (7,), NaN where nothing is true nor predicted:

        - ``iou_per_class``, ``iou_per_category``.
        - ``iiou_per_class``, ``iiou_per_category``: NaN as well where objects are not told
          apart, that is outside the categories human and vehicle.

        Numbers, each the mean over what is not NaN: ``mean_iou_classes`` (the benchmark's main
        score), ``mean_iou_categories``, ``mean_iiou_classes``, ``mean_iiou_categories``.

    Raises
    ------
    TypeError
        If maps do not hold integers.
    ValueError
        If numbers of maps or their shapes differ, or there is no such id.

    See Also
    --------
    cityscapes_counts : The sums behind the scores, for one image.
    semantic_scores : Scores of class maps of any data set.

    Notes
    -----
    All counts are sums over all images. With TP, FP and FN the true positive, false positive
    and false negative pixels of a class,

    .. math:: IoU = TP / (TP + FP + FN).

    A category counts its classes as one. Large objects outweigh small ones there. The
    instance-weighted score gives every object the same weight [1]_: with the mean size
    :math:`\\bar s` of the class's objects in the training set, an object of *s* pixels, *t* of
    them found, adds :math:`t \\bar s / s` to iTP and :math:`(s - t) \\bar s / s` to iFN, and

    .. math:: iIoU = iTP / (iTP + FP + iFN),

    where FP is that of IoU, since predictions do not tell objects apart.

    Pixels whose true label is ignored are no false positives. One detail of the official
    evaluation is kept: in the iIoU of the category vehicle, and there alone, predicting one of
    the ignored labels caravan and trailer counts as predicting a vehicle. With train ids that
    cannot occur.

    References
    ----------
    .. [1] M. Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding",
       CVPR 2016, section 3.

    Examples
    --------
    >>> road, car = 0, 13
    >>> truth = np.array([[road, road, car, -1]])
    >>> scores = cityscapes_scores(np.array([[road, car, car, car]]), truth)
    >>> scores["iou_per_class"][[road, car]], scores["mean_iou_classes"]
    (array([0.5, 0.5]), 0.5)
    """
    caller, names = "cityscapes_scores", ("predictions", "labels", "instances")
    check_choice(caller, "ids", ids, ("train", "label"))
    predictions = _as_sequence(predictions, "predictions", caller)
    labels = _as_sequence(labels, "labels", caller)
    if instances is None:
        instances = [None] * len(labels)
    instances = _as_sequence(instances, "instances", caller)
    if not len(predictions) == len(labels) == len(instances):
        raise ValueError(
            f"{caller}: got {len(predictions)} predictions, {len(labels)} label maps and "
            f"{len(instances)} instance maps: pass one of each for each image."
        )
    return cityscapes_scores_from_counts(
        [
            _count(*maps, ids, [f"{name}[{i}]" for name in names], caller)
            for i, maps in enumerate(zip(predictions, labels, instances))
        ]
    )


def cityscapes_counts(
    prediction: ArrayLike,
    labels: ArrayLike,
    instances: ArrayLike | None = None,
    *,
    ids: str = "train",
) -> CityscapesCounts:
    """Count what `cityscapes_scores` needs of one image.

    Parameters
    ----------
    prediction : int array
        One class map.
    labels : int array of the same shape
        True classes.
    instances : int array of the same shape, optional
        True instances.
    ids : {"train", "label"}
        As for `cityscapes_scores`.

    Returns
    -------
    CityscapesCounts

    Raises
    ------
    TypeError
        If a map does not hold integers.
    ValueError
        If shapes differ, or there is no such id.

    Notes
    -----
    O(n_pixels) time: two histograms.
    """
    caller = "cityscapes_counts"
    check_choice(caller, "ids", ids, ("train", "label"))
    names = ("prediction", "labels", "instances")
    return _count(prediction, labels, instances, ids, names, caller)


def cityscapes_scores_from_counts(
    counts: Sequence[CityscapesCounts],
) -> dict[str, float | np.ndarray]:
    """Turn counts into scores.

    Parameters
    ----------
    counts : sequence of CityscapesCounts
        What `cityscapes_counts` gives for each image. Instance scores are NaN unless all
        images were counted with their instances.

    Returns
    -------
    dict
        As `cityscapes_scores`.

    Raises
    ------
    ValueError
        If there are none.
    """
    if not counts:
        raise ValueError(
            "cityscapes_scores_from_counts: counts is empty: pass those of one image or more."
        )
    pixels = sum(c.pixels for c in counts)[_SCORED]  # (19, 34): true label ignored, pixel ignored
    sums = pixels.sum(axis=1)
    hits, false = _hits_and_false(pixels[:, _SCORED])
    # Categories: rows and columns of the classes of one category, added up.
    rows = _MEMBERS[_SCORED].T @ pixels  # (7, 34)
    category_sums = rows.sum(axis=1)
    category_hits, category_false = _hits_and_false(rows[:, _SCORED] @ _MEMBERS[_SCORED])
    scores = {
        "iou_per_class": ratio(hits, sums + false),
        "iou_per_category": ratio(category_hits, category_sums + category_false),
        "iiou_per_class": np.full(len(hits), np.nan),
        "iiou_per_category": np.full(len(category_hits), np.nan),
    }
    if all(c.class_instances is not None for c in counts):
        weighted = sum(c.class_instances for c in counts)[_SCORED]
        iiou = ratio(weighted[:, 0], weighted.sum(axis=1) + false)
        scores["iiou_per_class"][_THINGS] = iiou[_THINGS]
        weighted = sum(c.category_instances for c in counts)
        _, false_with_ignored = _hits_and_false(rows @ _MEMBERS)  # see Notes of cityscapes_scores
        iiou = ratio(weighted[:, 0], weighted.sum(axis=1) + false_with_ignored)
        things = _MEMBERS[_SCORED[_THINGS]].any(axis=0)
        scores["iiou_per_category"][things] = iiou[things]
    for kind in ("iou", "iiou"):
        for per, plural in (("class", "classes"), ("category", "categories")):
            scores[f"mean_{kind}_{plural}"] = float(mean_of_defined(scores[f"{kind}_per_{per}"]))
    return scores


def _hits_and_false(table):
    """True and false positives from a square table of (true, predicted)."""
    hits = np.diag(table)
    return hits, table.sum(axis=0) - hits


def _count(prediction, labels, instances, ids, names, caller):
    prediction = _as_label_ids(prediction, ids, names[0], caller)
    labels = _as_label_ids(labels, ids, names[1], caller)
    check_same_shape(prediction, labels, names[0], names[1], caller)
    pairs = np.bincount((labels * _N_LABELS + prediction).ravel(), minlength=_N_LABELS**2)
    pixels = pairs.reshape(_N_LABELS, _N_LABELS)
    if instances is None:
        return CityscapesCounts(pixels)
    instances = check_ids(instances, names[2], caller)
    check_same_shape(prediction, instances, names[0], names[2], caller)
    return CityscapesCounts(pixels, *_count_instances(prediction, instances, names[2], caller))


def _count_instances(prediction, instances, name, caller):
    """Weighted true positives and false negatives, of labels (34, 2) and of categories (7, 2)."""
    inside = instances > _INSTANCES_A_LABEL
    codes, predicted = instances[inside].astype(np.int64), prediction[inside]
    _check_instance_ids(codes, name, caller)
    things = codes >= _FIRST_THING * _INSTANCES_A_LABEL  # the others are ignored labels
    codes = codes[things] - _FIRST_THING * _INSTANCES_A_LABEL
    n_codes = int(codes.max(initial=-1)) + 1
    table = np.bincount(codes * _N_LABELS + predicted[things], minlength=n_codes * _N_LABELS)
    table = table.reshape(n_codes, _N_LABELS)  # pixels of each instance and predicted label
    sizes = table.sum(axis=1)
    owners = _FIRST_THING + np.arange(n_codes) // _INSTANCES_A_LABEL
    present = (sizes > 0) & np.isin(owners, _SCORED)
    table, sizes, owners = table[present], sizes[present], owners[present]
    categories = np.argmax(_MEMBERS[owners], axis=1)
    each = np.arange(len(owners))
    weights = _SIZE_OF_LABEL[owners] / sizes
    return (
        _sum_weighted(table[each, owners], sizes, weights, owners, _N_LABELS),
        _sum_weighted(
            (table @ _MEMBERS)[each, categories], sizes, weights, categories, len(CATEGORIES)
        ),
    )


def _sum_weighted(hits, sizes, weights, places, n_places):
    """Weighted hits and misses of each place, (n_places, 2) float64."""
    parts = (hits * weights, (sizes - hits) * weights)
    return np.stack([np.bincount(places, part, n_places) for part in parts], axis=1)


def _check_instance_ids(codes, name, caller):
    highest = int(codes.max(initial=0))
    if highest >= _N_LABELS * _INSTANCES_A_LABEL:
        raise ValueError(
            f"{caller}: {name} holds the id {highest}, expected 1000 times a label id of at most "
            f"{_N_LABELS - 1}, plus a number: pass the files that end in _instanceIds.png."
        )
    for i in np.unique(codes[codes < _FIRST_THING * _INSTANCES_A_LABEL] // _INSTANCES_A_LABEL):
        if LABELS[i].scored:
            raise ValueError(
                f"{caller}: {name} holds an instance of {LABELS[i].name} (ids {i}000 on), whose "
                "objects are not told apart: pass the files that end in _instanceIds.png."
            )


def _as_label_ids(labels, ids, name, caller):
    """Label ids, int32, with 0 for -1: both are ignored as truth and no answer as prediction."""
    labels = check_ids(labels, name, caller)
    highest, other = (len(_SCORED) - 1, "label") if ids == "train" else (_N_LABELS - 1, "train")
    if (high := largest_id(labels)) > highest:
        raise ValueError(
            f"{caller}: {name} holds the id {high}, expected {ids} ids from -1 to {highest}: "
            f'pass ids="{other}" if it holds {other} ids.'
        )
    return to_label_ids(labels) if ids == "train" else np.maximum(labels, 0).astype(np.int32)


def _as_sequence(maps, name, caller):
    """One map or several as a sequence, which is left as lazy as it came."""
    if hasattr(maps, "__array__"):
        return [maps]
    if not isinstance(maps, Sequence) or isinstance(maps, str):
        raise TypeError(
            f"{caller}: {name} is a {type(maps).__name__}: pass a label map or a list of them."
        )
    if not len(maps):
        raise ValueError(f"{caller}: {name} is empty: pass at least one label map.")
    return maps
