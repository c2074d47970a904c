"""Scores of objects: one-to-one matching with the true objects at IoU thresholds."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

from segalgos.results import Instances

from ._averages import mean_of_defined, ratio
from .coco import coco_average_precision as coco_average_precision  # beside the others
from .contingency import check_ids, check_same_shape, tabulate

#: 0.50, 0.55, ..., 0.95, each the float nearest to the decimal, so that an IoU of 11/20 meets 0.55.
THRESHOLDS = tuple(percent / 100 for percent in range(50, 100, 5))


def instance_scores(
    predictions: Any,
    truths: Any,
    thresholds: Sequence[float] = THRESHOLDS,
    *,
    class_agnostic: bool = False,
) -> dict[str, float | np.ndarray]:
    """Score objects by one-to-one matching with the true objects.

    The average precision here is the *matching* AP of cell segmentation, TP / (TP + FP + FN) at one
    IoU threshold [1]_ [2]_. It ignores confidences and is not COCO's AP, which is the area under
    the precision-recall curve of detections ranked by confidence.

    Parameters
    ----------
    predictions : Instances or (H, W) int array, or sequence of these
        The objects of one image, or of several. In a label map ids of at least 1 are objects, 0
        and -1 are not.
    truths : Instances or (H, W) int array, or sequence of these
        The true objects of the same images. Pixels that are -1 in a label map, or in a crowd and
        in no object, are ignored: they count in no intersection and no union.
    thresholds : sequence of float, default=(0.5, 0.55, ..., 0.95)
        Two objects can match if their IoU is at least this. Above 0, at most 1.
    class_agnostic : bool, default=False
        Let objects of different classes match. Label maps have no classes: where the prediction
        or the truth is one, any two objects can match.

    Returns
    -------
    dict
        From the counts of all images together, NaN where there is nothing to count:

        - ``matching_ap``: (n_thresholds,) float64, TP / (TP + FP + FN) at each threshold.
        - ``matching_ap_50``, ``matching_ap_75``: those at 0.5 and 0.75.
        - ``mean_matching_ap``: their mean over the thresholds.
        - ``precision_50``, ``recall_50``, ``f1_50``: at 0.5.
        - ``panoptic_quality_50``: at 0.5 the mean IoU of the matched objects times the
          F1 score [3]_, of all classes together.

        And ``mean_matching_ap_images``: the mean over thresholds of one image, averaged over
        images, as the 2018 Data Science Bowl ranks [2]_. Images without any object, true or
        predicted, are left out.

        Numbers at 0.5 or 0.75 are NaN if `thresholds` has no such value.

    Raises
    ------
    TypeError
        If a label map does not hold integers.
    ValueError
        If lengths or shapes differ, a list is empty, or a threshold is out of range.

    See Also
    --------
    instance_counts : The sums behind the scores, for one image.

    Notes
    -----
    Of all one-to-one matchings the one with the most pairs is taken, and of these the one with the
    largest total IoU, as StarDist [1]_ does. An IoU equal to the threshold matches; [2]_ and [3]_
    ask for more than the threshold, which differs only for such ties. An object without any
    pixel (that is not ignored) is left out. The panoptic quality of [3]_ is computed class by
    class; call this once for each class to have that.

    References
    ----------
    .. [1] U. Schmidt, M. Weigert, C. Broaddus, G. Myers, "Cell Detection with Star-convex
       Polygons", MICCAI 2018.
    .. [2] J. C. Caicedo et al., "Nucleus segmentation across imaging experiments: the 2018 Data
       Science Bowl", Nature Methods 16, 1247-1253, 2019.
    .. [3] A. Kirillov, K. He, R. Girshick, C. Rother, P. Dollar, "Panoptic Segmentation", CVPR
       2019, eq. (2).

    Examples
    --------
    >>> truth = np.array([[1, 1, 1, 0, 2, 2]])
    >>> scores = instance_scores(np.array([[1, 1, 0, 0, 0, 3]]), truth)
    >>> scores["matching_ap_50"], scores["matching_ap_75"]
    (1.0, 0.0)
    """
    caller = "instance_scores"
    thresholds = _check_thresholds(thresholds, caller)
    predictions = list_objects(predictions, "predictions", caller)
    truths = list_objects(truths, "truths", caller)
    if len(predictions) != len(truths):
        raise ValueError(
            f"{caller}: got {len(predictions)} predictions and {len(truths)} truths: "
            "pass one truth for each prediction."
        )
    counts, matched_iou = zip(
        *(
            _count(
                prediction,
                truth,
                thresholds,
                class_agnostic,
                (f"predictions[{i}]", f"truths[{i}]", caller),
            )
            for i, (prediction, truth) in enumerate(zip(predictions, truths))
        )
    )
    return instance_scores_from_counts(np.stack(counts), np.stack(matched_iou), thresholds)


def instance_counts(
    prediction: Instances | ArrayLike,
    truth: Instances | ArrayLike,
    thresholds: Sequence[float] = THRESHOLDS,
    *,
    class_agnostic: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Match the objects of one image and count hits and misses.

    Counts of several images add up, and `instance_scores_from_counts` makes any resampling
    of them into scores, so a bootstrap over images matches once.

    Parameters
    ----------
    prediction, truth : Instances or (H, W) int array
        The objects of one image, as in `instance_scores`.
    thresholds : sequence of float, default=(0.5, 0.55, ..., 0.95)
        Two objects can match if their IoU is at least this. Above 0, at most 1.
    class_agnostic : bool, default=False
        Let objects of different classes match.

    Returns
    -------
    counts : (n_thresholds, 3) int64 array
        Matched objects (TP), predicted objects without a match (FP) and true objects without one
        (FN).
    matched_iou : (n_thresholds,) float64 array
        Sum of the IoUs of the matched pairs.

    Notes
    -----
    The overlaps come from one pass over two label maps; those of `Instances`, which may overlap
    each other, from the parts that their bounding boxes share. Pairs without a rival match at
    once, so the O(n^3) assignment runs on contested objects only. Two label maps have none above
    an IoU of 0.5.
    """
    caller = "instance_counts"
    thresholds = _check_thresholds(thresholds, caller)
    prediction = check_objects(prediction, "prediction", caller)
    truth = check_objects(truth, "truth", caller)
    return _count(prediction, truth, thresholds, class_agnostic, ("prediction", "truth", caller))


def instance_scores_from_counts(
    counts: ArrayLike, matched_iou: ArrayLike, thresholds: Sequence[float] = THRESHOLDS
) -> dict[str, float | np.ndarray]:
    """Turn counts of matched objects into scores.

    Parameters
    ----------
    counts : (n_images, n_thresholds, 3) int array
        TP, FP and FN: what `instance_counts` gives first for each image.
    matched_iou : (n_images, n_thresholds) float array
        Sums of matched IoUs: what it gives second.
    thresholds : sequence of float, default=(0.5, 0.55, ..., 0.95)
        Those that were counted at.

    Returns
    -------
    dict
        As `instance_scores`.
    """
    caller = "instance_scores_from_counts"
    thresholds = _check_thresholds(thresholds, caller)
    counts = np.asarray(counts)
    matched_iou = np.asarray(matched_iou, np.float64)
    shape = (len(counts) if counts.ndim else 0, thresholds.size)
    if not shape[0] or counts.shape != (*shape, 3) or matched_iou.shape != shape:
        raise ValueError(
            f"{caller}: counts has shape {counts.shape} and matched_iou {matched_iou.shape}, "
            f"expected (n_images, {thresholds.size}, 3) and (n_images, {thresholds.size}): "
            "stack what instance_counts gives, and pass its thresholds."
        )
    image_ap = ratio(counts[..., 0], counts.sum(axis=-1))
    hits, false, missed = counts.sum(axis=0).T
    ap = ratio(hits, hits + false + missed)
    halves = hits + (false + missed) / 2
    at_50, at_75 = (_value_at(thresholds, level) for level in (0.5, 0.75))
    return {
        "matching_ap": ap,
        "matching_ap_50": at_50(ap),
        "matching_ap_75": at_75(ap),
        "mean_matching_ap": float(mean_of_defined(ap)),
        "mean_matching_ap_images": float(mean_of_defined(mean_of_defined(image_ap))),
        "precision_50": at_50(ratio(hits, hits + false)),
        "recall_50": at_50(ratio(hits, hits + missed)),
        "f1_50": at_50(ratio(hits, halves)),
        "panoptic_quality_50": at_50(ratio(matched_iou.sum(axis=0), halves)),
    }


def _value_at(thresholds, level):
    """Give a function that picks the value at one threshold, NaN if it is not there."""
    places = np.flatnonzero(np.isclose(thresholds, level, rtol=0, atol=1e-9))
    return lambda values: float(values[places[0]]) if places.size else float("nan")


def _count(prediction, truth, thresholds, class_agnostic, names):
    areas, true_areas, rows, columns, shared = find_overlaps(
        prediction, truth, class_agnostic, names
    )
    ious = shared / (areas[rows] + true_areas[columns] - shared)
    n_predicted, n_true = np.count_nonzero(areas), np.count_nonzero(true_areas)
    counts = np.empty((thresholds.size, 3), np.int64)
    matched_iou = np.empty(thresholds.size)
    for i, threshold in enumerate(thresholds):
        enough = ious >= threshold
        matched = _match(rows[enough], columns[enough], ious[enough])
        counts[i] = matched.size, n_predicted - matched.size, n_true - matched.size
        matched_iou[i] = matched.sum()
    return counts, matched_iou


def find_overlaps(
    prediction: Instances | np.ndarray,
    truth: Instances | np.ndarray,
    class_agnostic: bool,
    names: tuple[str, str, str],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """List the pairs of a predicted and a true object that share pixels.

    Parameters
    ----------
    prediction, truth : Instances or (H, W) int array
        Checked; ignored pixels (-1 in a map of the truth) count nowhere.
    class_agnostic : bool
        Whether objects of different classes make a pair, where both have classes.
    names : tuple of str
        Of the prediction, the truth and the caller, for messages.

    Returns
    -------
    areas, true_areas : (n,) and (m,) int64 arrays
        Pixels of each object; entries of 0 are no objects.
    rows, columns : (n_pairs,) int arrays
        Places of the two in `areas` and `true_areas`.
    shared : (n_pairs,) int64 array
        Pixels that they share.
    """
    if isinstance(prediction, Instances) or isinstance(truth, Instances):
        return _mask_overlaps(prediction, truth, class_agnostic, names)
    return _map_overlaps(prediction, truth, names)


def _map_overlaps(prediction, truth, names):
    """As `find_overlaps`, for two label maps."""
    prediction_name, truth_name, caller = names
    check_same_shape(prediction, truth, prediction_name, truth_name, caller)
    table = tabulate(prediction, truth)
    predicted, true = table.label_ids > 0, table.truth_ids > 0
    both = predicted[table.rows] & true[table.columns]
    areas = np.where(predicted, table.label_sizes, 0)
    true_areas = np.where(true, table.truth_sizes, 0)
    return areas, true_areas, table.rows[both], table.columns[both], table.counts[both]


def _mask_overlaps(prediction, truth, class_agnostic, names):
    """As `find_overlaps`, for masks that may overlap each other."""
    prediction_name, truth_name, caller = names
    have_classes = isinstance(prediction, Instances) and isinstance(truth, Instances)
    ignored = None if isinstance(truth, Instances) else truth == -1
    if not isinstance(prediction, Instances):
        prediction = Instances.from_labels(prediction)
    if not isinstance(truth, Instances):
        truth = Instances.from_labels(truth)
    if truth.crowd.any():
        crowd, truth = truth.masks[truth.crowd].any(axis=0), truth[~truth.crowd]
        ignored = crowd & ~truth.masks.any(axis=0)
    if prediction.shape != truth.shape:
        raise ValueError(
            f"{caller}: the objects of {prediction_name} lie on {prediction.shape} pixels, those "
            f"of {truth_name} on {truth.shape}: pass objects of the same image."
        )
    masks, true_masks = (np.require(each.masks, bool, ["C", "W"]) for each in (prediction, truth))
    if ignored is not None and ignored.any():
        masks = masks & ~ignored
    areas, boxes = _extents(masks)
    true_areas, true_boxes = _extents(true_masks)
    first = np.maximum(boxes[:, None, :2], true_boxes[None, :, :2])
    last = np.minimum(boxes[:, None, 2:], true_boxes[None, :, 2:])
    near = (first < last).all(axis=-1)
    if have_classes and not class_agnostic:
        near &= prediction.classes[:, None] == truth.classes[None, :]
    rows, columns = np.nonzero(near)
    shared = _intersections(masks, true_masks, rows, columns, first[near], last[near])
    return areas, true_areas, rows, columns, shared


@njit(nogil=True, cache=True)
def _extents(masks):
    """Measure masks.

    Parameters
    ----------
    masks : (N, H, W) bool, C-contiguous

    Returns
    -------
    areas : (N,) int64
    boxes : (N, 4) int64
        row0, col0, row1, col1, half-open and tight; all 0 for an empty mask.
    """
    n, height, width = masks.shape
    areas = np.zeros(n, np.int64)
    boxes = np.zeros((n, 4), np.int64)
    for i in range(n):
        row0, col0, row1, col1 = height, width, 0, 0
        for r in range(height):
            row = masks[i, r]
            area = 0
            for c in range(width):
                area += row[c]
            if area:
                areas[i] += area
                row0, row1 = min(row0, r), r + 1
                c = 0
                while not row[c]:
                    c += 1
                col0 = min(col0, c)
                c = width
                while not row[c - 1]:
                    c -= 1
                col1 = max(col1, c)
        if areas[i]:
            boxes[i, 0], boxes[i, 1], boxes[i, 2], boxes[i, 3] = row0, col0, row1, col1
    return areas, boxes


@njit(nogil=True, cache=True)
def _intersections(masks, others, rows, columns, first, last):
    """Count the pixels that pairs of masks share.

    Parameters
    ----------
    masks : (N, H, W) bool, C-contiguous
    others : (M, H, W) bool, C-contiguous
    rows, columns : (n_pairs,) int64
        Which masks, and which of the others.
    first, last : (n_pairs, 2) int64
        Corners, half-open, of what their bounding boxes share.

    Returns
    -------
    shared : (n_pairs,) int64
    """
    shared = np.zeros(rows.size, np.int64)
    for k in range(rows.size):
        total = 0
        for r in range(first[k, 0], last[k, 0]):
            for c in range(first[k, 1], last[k, 1]):
                total += masks[rows[k], r, c] & others[columns[k], r, c]
        shared[k] = total
    return shared


def _match(rows, columns, ious):
    """Match one to one: as many pairs as possible, then the largest total IoU.

    Parameters
    ----------
    rows, columns : (n_pairs,) int arrays
        Pairs that may match.
    ious : (n_pairs,) float64 array

    Returns
    -------
    (n_matched,) float64 array
        IoUs of the matched pairs.
    """
    alone = (np.bincount(rows)[rows] == 1) & (np.bincount(columns)[columns] == 1)
    if alone.all():
        return ious
    contested = ~alone
    row_ids, row = np.unique(rows[contested], return_inverse=True)
    column_ids, column = np.unique(columns[contested], return_inverse=True)
    worth = np.zeros((row_ids.size, column_ids.size))
    # All IoUs of a matching together are worth at most half a pair.
    worth[row, column] = 1 + ious[contested] / (2 * min(worth.shape))
    pair_ious = np.zeros_like(worth)
    pair_ious[row, column] = ious[contested]
    chosen = pair_ious[linear_sum_assignment(worth, maximize=True)]
    return np.concatenate([ious[alone], chosen[chosen > 0]])


def list_objects(objects: Any, name: str, caller: str) -> list[Instances | np.ndarray]:
    """Take the objects of one image, or of several, as a list that is checked.

    Parameters
    ----------
    objects : Instances, (H, W) int array, or sequence of these
    name, caller : str
        Names for the message.

    Returns
    -------
    list of Instances or int arrays
    """
    if isinstance(objects, Instances) or hasattr(objects, "__array__"):
        return [check_objects(objects, name, caller)]
    try:
        objects = list(objects)
    except TypeError:
        raise TypeError(
            f"{caller}: {name} is a {type(objects).__name__}: pass Instances, a label map, or a "
            "list of them."
        ) from None
    if not objects:
        raise ValueError(f"{caller}: {name} is empty: pass the objects of at least one image.")
    return [check_objects(each, f"{name}[{i}]", caller) for i, each in enumerate(objects)]


def check_objects(objects: Any, name: str, caller: str) -> Instances | np.ndarray:
    """Check the objects of one image.

    Parameters
    ----------
    objects : Instances or (H, W) int array
    name, caller : str
        Names for the message.

    Returns
    -------
    Instances or int array
    """
    if isinstance(objects, Instances):
        return objects
    labels = check_ids(objects, name, caller)
    if labels.ndim != 2:
        raise ValueError(
            f"{caller}: {name} has shape {labels.shape}, expected (H, W): pass a label map, or "
            "Instances for masks that overlap."
        )
    return labels


def _check_thresholds(thresholds, caller):
    values = np.atleast_1d(np.asarray(thresholds, dtype=np.float64))
    if values.ndim != 1 or not values.size or not ((values > 0) & (values <= 1)).all():
        raise ValueError(
            f"{caller}: thresholds is {thresholds!r}, expected IoUs above 0 and at most 1: "
            "pass for instance (0.5, 0.75)."
        )
    return values
