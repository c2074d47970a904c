"""Scores of class maps: intersection over union, Dice, accuracies."""

import operator
from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike

from ._averages import mean_of_defined, ratio
from .contingency import check_ids, check_same_shape, largest_id, list_maps, tabulate


def semantic_scores(
    predictions: Any, truths: Any, classes: Sequence[str] | int
) -> dict[str, float | np.ndarray]:
    """Score class maps against true class maps.

    Parameters
    ----------
    predictions : int array, or sequence of int arrays
        Class ids from 0 to K - 1. An array is one map; a list holds one map for each image, whose
        sizes may differ. A -1 where the class is known counts as a miss of that class.
    truths : int array, or sequence of int arrays
        As many maps of the same shapes. Pixels of -1 are ignored.
    classes : sequence of K str, or int
        The names of the classes, or just their number K.

    Returns
    -------
    dict
        Arrays of (K,) float64:

        - ``iou_per_class``, ``dice_per_class``: from the pixels of all images together, that is
          sums of intersections over sums of unions. NaN for an absent class, one that neither
          the truths nor the predictions have.

        Numbers, NaN where nothing is defined:

        - ``mean_iou_dataset``, ``mean_dice_dataset``: the mean of those over the classes that
          are not absent. This is the mean IoU of PASCAL VOC [1]_ and Cityscapes.
        - ``mean_iou_images``, ``mean_dice_images``: the mean over images of each image's mean
          over the classes that the image truly has or was given.
        - ``pixel_accuracy``: correct pixels of all images over all their pixels.
        - ``mean_class_accuracy``: the mean recall, over the classes that the truths have, of all
          their pixels.
        - ``frequency_weighted_iou``: ``iou_per_class`` weighted by the classes' shares of the
          true pixels [2]_.

    Raises
    ------
    TypeError
        If maps do not hold integers.
    ValueError
        If lengths or shapes differ, a list is empty, or an id is K or more.

    See Also
    --------
    semantic_counts : The sums behind the scores, for one image.

    References
    ----------
    .. [1] M. Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", Int. J.
       Computer Vision 88, 303-338, 2010.
    .. [2] J. Long, E. Shelhamer, T. Darrell, "Fully Convolutional Networks for Semantic
       Segmentation", CVPR 2015, section 5.

    Examples
    --------
    >>> truth = np.array([[0, 0, 1, -1]])
    >>> scores = semantic_scores(np.array([[0, 1, 1, 1]]), truth, ["sky", "road", "tree"])
    >>> scores["iou_per_class"]
    array([0.5, 0.5, nan])
    >>> scores["mean_iou_dataset"]
    0.5
    """
    caller = "semantic_scores"
    n_classes = count_classes(classes, caller)
    predictions = list_maps(predictions, "predictions", caller)
    truths = list_maps(truths, "truths", caller)
    if len(predictions) != len(truths):
        raise ValueError(
            f"{caller}: got {len(predictions)} predictions and {len(truths)} truths: "
            "pass one truth for each prediction."
        )
    counts = [
        _count(prediction, truth, n_classes, f"predictions[{i}]", f"truths[{i}]", caller)
        for i, (prediction, truth) in enumerate(zip(predictions, truths))
    ]
    return semantic_scores_from_counts(np.stack(counts))


def semantic_counts(prediction: ArrayLike, truth: ArrayLike, n_classes: int) -> np.ndarray:
    """Count hits and misses of each class in one image.

    The counts of several images add up, and `semantic_scores_from_counts` makes any resampling
    of them into scores, so a bootstrap over images looks at the pixels once.

    Parameters
    ----------
    prediction : int array
        Class ids; a -1 where the class is known is a miss and no false alarm.
    truth : int array of the same shape
        True class ids; pixels of -1 are ignored.
    n_classes : int
        The number of classes K.

    Returns
    -------
    (3, K) int64 array
        True positive, false positive and false negative pixels of each class.

    Raises
    ------
    TypeError
        If a map does not hold integers.
    ValueError
        If the shapes differ or an id is K or more.
    """
    caller = "semantic_counts"
    n_classes = count_classes(n_classes, caller)
    prediction = check_ids(prediction, "prediction", caller)
    truth = check_ids(truth, "truth", caller)
    return _count(prediction, truth, n_classes, "prediction", "truth", caller)


def semantic_scores_from_counts(counts: ArrayLike) -> dict[str, float | np.ndarray]:
    """Turn counts of hits and misses into scores.

    Parameters
    ----------
    counts : (n_images, 3, K) int array
        What `semantic_counts` gives for each image.

    Returns
    -------
    dict
        As `semantic_scores`.
    """
    counts = np.asarray(counts)
    if counts.dtype.kind not in "iu":
        raise TypeError(
            f"semantic_scores_from_counts: counts has dtype {counts.dtype}, counts are integers: "
            "stack what semantic_counts gives."
        )
    if counts.ndim != 3 or counts.shape[1] != 3 or 0 in counts.shape:
        raise ValueError(
            f"semantic_scores_from_counts: counts has shape {counts.shape}, expected "
            "(n_images, 3, n_classes): stack what semantic_counts gives."
        )
    hits, false, missed = counts.sum(axis=0)
    true = hits + missed
    iou, dice = _iou_and_dice(hits, false, missed)
    image_iou, image_dice = _iou_and_dice(counts[:, 0], counts[:, 1], counts[:, 2])
    return {
        "iou_per_class": iou,
        "dice_per_class": dice,
        "mean_iou_dataset": float(mean_of_defined(iou)),
        "mean_iou_images": float(mean_of_defined(mean_of_defined(image_iou))),
        "mean_dice_dataset": float(mean_of_defined(dice)),
        "mean_dice_images": float(mean_of_defined(mean_of_defined(image_dice))),
        "pixel_accuracy": float(ratio(hits.sum(), true.sum())),
        "mean_class_accuracy": float(mean_of_defined(ratio(hits, true))),
        "frequency_weighted_iou": float(ratio(np.nansum(true * iou), true.sum())),
    }


def _count(prediction, truth, n_classes, prediction_name, truth_name, caller):
    check_same_shape(prediction, truth, prediction_name, truth_name, caller)
    for labels, name in ((prediction, prediction_name), (truth, truth_name)):
        highest = largest_id(labels)
        if highest >= n_classes:
            raise ValueError(
                f"{caller}: {name} holds the id {highest}, with {n_classes} classes ids end at "
                f"{n_classes - 1}: pass all classes, and mark pixels to ignore -1 in the truth."
            )
    table = tabulate(prediction, truth)
    same = table.label_ids[table.rows] == table.truth_ids[table.columns]
    hits = np.zeros(n_classes, np.int64)
    hits[table.truth_ids[table.columns[same]]] = table.counts[same]
    predicted = np.zeros(n_classes + 1, np.int64)
    predicted[table.label_ids] = table.label_sizes  # -1 falls on the last place, cut off below
    true = np.zeros(n_classes, np.int64)
    true[table.truth_ids] = table.truth_sizes
    return np.stack([hits, predicted[:-1] - hits, true - hits])


def _iou_and_dice(hits, false, missed):
    return ratio(hits, hits + false + missed), ratio(2 * hits, 2 * hits + false + missed)


def count_classes(classes: Sequence[str] | SupportsIndex, caller: str) -> int:
    """Take the names of classes, or their number, as the number.

    Parameters
    ----------
    classes : sequence of str, or int
    caller : str
        For the message.

    Returns
    -------
    int
        At least 1.
    """
    if isinstance(classes, str | bool):
        raise TypeError(
            f"{caller}: classes is {classes!r}: pass the class names as a list, or their number."
        )
    try:
        n_classes = operator.index(classes) if hasattr(classes, "__index__") else len(classes)
    except TypeError:
        raise TypeError(
            f"{caller}: classes is a {type(classes).__name__}: pass the class names as a list, "
            "or their number."
        ) from None
    if n_classes < 1:
        raise ValueError(f"{caller}: there are {n_classes} classes: pass at least one.")
    return n_classes
