"""The aggregated Jaccard index of nuclei: shared pixels of all objects over pixels of either."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

from segalgos.results import Instances

from ._averages import mean_of_defined, ratio
from .instances import check_objects, find_overlaps, list_objects

__all__ = ["aji_counts", "aji_scores", "aji_scores_from_counts"]


def aji_scores(predictions: Any, truths: Any, *, class_agnostic: bool = False) -> dict[str, float]:
    """Compute the aggregated Jaccard index (AJI) and AJI+ of objects, such as nuclei.

    Parameters
    ----------
    predictions : Instances or (H, W) int array, or sequence of these
        The objects of one image, or of several. In a label map ids of at least 1 are objects, 0
        and -1 are not.
    truths : Instances or (H, W) int array, or sequence of these
        The true objects of the same images. Pixels that are -1 in a label map are ignored: they
        count in no intersection and no union.
    class_agnostic : bool, default=False
        Let objects of different classes meet. Label maps have no classes: where the prediction
        or the truth is one, any two objects can.

    Returns
    -------
    dict
        NaN where there is no object at all, true or predicted:

        - ``aji_images``, ``aji_plus_images``: each image's own index, averaged over the images
          that have an object, as papers report them;
        - ``aji_dataset``, ``aji_plus_dataset``: one index from the pixels of all images
          together.

    Raises
    ------
    TypeError
        If a label map does not hold integers.
    ValueError
        If lengths or shapes differ, or a list is empty.

    See Also
    --------
    aji_counts : The sums behind the scores, for one image.
    instance_scores : Scores by matching, which count objects instead of pixels.

    Notes
    -----
    AJI [1]_ gives every true object the predicted one of the highest IoU, which several true
    objects may share, and adds up their shared pixels and the pixels of either. True objects
    that no prediction touches, and predictions that no true object took, add their pixels to
    the second sum. The index is the first sum over the second. Of equal IoUs the larger pair
    is taken, then the lower id.

    A prediction that two true objects share counts twice in the second sum. AJI+ [2]_ pairs
    one to one instead, so that the IoUs of the pairs add up to the most.

    O(n_pixels) time for label maps, and O(n**3) for n objects that have rivals for AJI+.

    References
    ----------
    .. [1] N. Kumar et al., "A dataset and a technique for generalized nuclear segmentation
       for computational pathology", IEEE Transactions on Medical Imaging 36(7), 2017,
       algorithm 1.
    .. [2] S. Graham et al., "HoVer-Net: simultaneous segmentation and classification of
       nuclei in multi-tissue histology images", Medical Image Analysis 58, 2019.

    Examples
    --------
    >>> import numpy as np
    >>> scores = aji_scores(np.array([[1, 1, 1, 1, 0, 4]]), np.array([[1, 1, 2, 2, 0, 0]]))
    >>> round(scores["aji_images"], 3), round(scores["aji_plus_images"], 3)
    (0.444, 0.286)
    """
    caller = "aji_scores"
    predictions = list_objects(predictions, "predictions", caller)
    truths = list_objects(truths, "truths", caller)
    if len(predictions) != len(truths):
        raise ValueError(
            f"{caller}: got {len(predictions)} predictions and {len(truths)} truths: "
            "pass one truth for each prediction."
        )
    counts = [
        _count(prediction, truth, class_agnostic, (f"predictions[{i}]", f"truths[{i}]", caller))
        for i, (prediction, truth) in enumerate(zip(predictions, truths))
    ]
    return aji_scores_from_counts(np.stack(counts))


def aji_counts(
    prediction: Instances | ArrayLike,
    truth: Instances | ArrayLike,
    *,
    class_agnostic: bool = False,
) -> np.ndarray:
    """Add up the pixels that AJI and AJI+ of one image compare.

    Parameters
    ----------
    prediction, truth : Instances or (H, W) int array
        The objects of one image, as in `aji_scores`.
    class_agnostic : bool, default=False
        Let objects of different classes meet.

    Returns
    -------
    (2, 2) int64 array
        Of AJI (first row) and AJI+ the shared pixels and the pixels of either. Counts of several
        images add up.
    """
    caller = "aji_counts"
    prediction = check_objects(prediction, "prediction", caller)
    truth = check_objects(truth, "truth", caller)
    return _count(prediction, truth, class_agnostic, ("prediction", "truth", caller))


def aji_scores_from_counts(counts: ArrayLike) -> dict[str, float]:
    """Turn counts of pixels into scores.

    Parameters
    ----------
    counts : (n_images, 2, 2) int array
        What `aji_counts` gives for each image.

    Returns
    -------
    dict
        As `aji_scores`.
    """
    counts = np.asarray(counts)
    if counts.ndim != 3 or counts.shape[1:] != (2, 2) or not len(counts):
        raise ValueError(
            f"aji_scores_from_counts: counts has shape {counts.shape}, expected (n_images, 2, 2): "
            "stack what aji_counts gives."
        )
    together = counts.sum(axis=0)
    images = ratio(counts[..., 0], counts[..., 1])
    dataset = ratio(together[:, 0], together[:, 1])
    return {
        "aji_images": float(mean_of_defined(images[:, 0])),
        "aji_plus_images": float(mean_of_defined(images[:, 1])),
        "aji_dataset": float(dataset[0]),
        "aji_plus_dataset": float(dataset[1]),
    }


def _count(prediction, truth, class_agnostic, names):
    overlaps = find_overlaps(prediction, truth, class_agnostic, names)
    areas, true_areas, rows, columns, shared = overlaps
    touching = shared > 0
    rows, columns, shared = rows[touching], columns[touching], shared[touching]
    either = areas[rows] + true_areas[columns] - shared
    counts = np.empty((2, 2), np.int64)
    for index, pairs in enumerate(
        (_best_of_truth(rows, columns, shared, either), _pair_off(rows, columns, shared / either))
    ):
        counts[index] = shared[pairs].sum(), either[pairs].sum()
        alone, true_alone = areas.copy(), true_areas.copy()
        alone[rows[pairs]] = true_alone[columns[pairs]] = 0
        counts[index, 1] += alone.sum() + true_alone.sum()
    return counts


def _best_of_truth(rows, columns, shared, either):
    """Places of each true object's pair of the highest IoU, then most pixels, then lowest id."""
    order = np.lexsort((rows, -shared, -(shared / either), columns))
    _, first = np.unique(columns[order], return_index=True)
    return order[first]


def _pair_off(rows, columns, ious):
    """Places of the pairs of the one-to-one matching with the largest total IoU."""
    alone = (np.bincount(rows)[rows] == 1) & (np.bincount(columns)[columns] == 1)
    contested = np.flatnonzero(~alone)
    if not contested.size:
        return np.arange(rows.size)
    row_ids, row = np.unique(rows[contested], return_inverse=True)
    column_ids, column = np.unique(columns[contested], return_inverse=True)
    worth = np.zeros((row_ids.size, column_ids.size))
    worth[row, column] = ious[contested]
    place = np.full(worth.shape, -1)
    place[row, column] = contested
    chosen = place[linear_sum_assignment(worth, maximize=True)]
    return np.concatenate([np.flatnonzero(alone), chosen[chosen >= 0]])
