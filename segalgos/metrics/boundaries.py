"""Precision and recall of boundaries against several annotators, as BSDS500 has them."""

from __future__ import annotations

from collections.abc import Sequence
from math import hypot
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segalgos.checks import check_bool, check_real
from segalgos.parallel import map_items

from ._averages import ratio
from ._correspondence import correspond, find_pixels, neighbourhood, select_pixels
from ._thinning import thin as thin_mask
from .contingency import check_ids
from .levels import (
    LevelCounts,
    Levels,
    check_levels,
    common_thresholds,
    count_levels,
    level_scores_from_counts,
    pair_images,
)

__all__ = [
    "MAX_DISTANCE",
    "BoundaryCounts",
    "boundary_counts",
    "boundary_scores",
    "boundary_scores_from_counts",
    "evaluate_hierarchies",
    "partition_boundaries",
]

#: How far apart pixels that correspond may be, as a part of the image's diagonal.
MAX_DISTANCE = 0.0075

_BETWEEN = 100  # points of the curve from one level to the next, both included


class BoundaryCounts(NamedTuple):
    """What `boundary_counts` finds in one image, enough for all scores.

    Parameters
    ----------
    thresholds : (n,) float64 array
        Of the levels; 1, 2 .. n for partitions that were given one by one.
    recalled : (n,) int64 array
        Annotated boundary pixels that correspond to a found one, summed over annotators.
    n_true : int
        Annotated boundary pixels of all annotators.
    correct : (n,) int64 array
        Found pixels that correspond to a pixel of one annotator at least.
    found : (n,) int64 array
        Found pixels.
    """

    thresholds: NDArray[np.float64]
    recalled: NDArray[np.int64]
    n_true: int
    correct: NDArray[np.int64]
    found: NDArray[np.int64]


def boundary_scores(
    contours: Any,
    annotations: Sequence[Any],
    *,
    thresholds: int = 99,
    max_distance: float = MAX_DISTANCE,
    thin: bool = True,
    double_sized: bool = False,
) -> dict[str, float | np.ndarray]:
    """Score contour maps against the boundaries that people drew.

    Parameters
    ----------
    contours : sequence
        Of each image its contour map, or a list of label maps, as for `boundary_counts`.
    annotations : sequence
        Of each image one annotator's regions, or a list of several annotators'.
    thresholds : int, default=99
        Number of levels, evenly spaced between 0 and 1.
    max_distance : float, default=0.0075
        How far apart pixels that correspond may be, as a part of the image's diagonal.
    thin : bool, default=True
        Thin what is above a threshold to lines of one pixel.
    double_sized : bool, default=False
        Contour maps are of (2 H + 1, 2 W + 1).

    Returns
    -------
    dict
        Numbers:

        - ``ods``: the F-measure, 2 P R / (P + R), at the one threshold that is best for all images,
          from the pixels of all images together. Between two levels, precision and recall are
          interpolated. ``ods_threshold``, ``ods_recall``, ``ods_precision`` belong to it.
        - ``ois``: the F-measure at the best level of each image, whose pixels are counted together;
          ``ois_recall``, ``ois_precision``.
        - ``ap``: average precision, the area under the curve of precision over recall, from its
          points at recalls of 0, .01 .. 1, interpolated, and 0 where the curve does not reach. Of
          levels with the same recall, the lowest threshold counts.
        - ``r50``: the recall where the precision is .5, interpolated; that of the lowest precision
          if all are above, NaN if all are below.

        Arrays of (n_levels,): ``thresholds``, and of all images together ``recall``, ``precision``
        and ``f_measure``. Arrays of (n_images,), at the best threshold of each image,
        interpolated as for ODS: ``f_measure_per_image``, ``threshold_per_image``,
        ``recall_per_image``, ``precision_per_image``.

        A precision is 0 where nothing was found. All are NaN where nobody drew a boundary.

    Raises
    ------
    TypeError, ValueError
        As `boundary_counts`; or if numbers of images or of levels differ.

    See Also
    --------
    boundary_counts : The counts behind the scores, for one image.
    evaluate_hierarchies : These scores and those of the regions.
    boundary_iou : How well the outlines of two masks agree.

    Notes
    -----
    These are the scores of the official evaluation of BSDS500 [1]_ [2]_. There, too, the
    correspondence is the one of the most pairs and, among these, of the least sum of distances,
    but with a random part: whatever stays without a partner needs one of six places that are
    drawn for it, and if all of these are taken, others stay without. Some true pixels are not
    found for that reason (0.04 % on its self-test), and no two runs are equal. Here the best
    correspondence itself is counted. On the self-test (5 images, 5 thresholds, four runs)
    F-measures of thresholds differ from the official ones by at most .0005 and ODS by .0001 to
    .0002. Taking any correspondence of the most pairs would not do: ODS would be .0009 higher,
    since every annotator has other found pixels then.

    O(n_pixels) time for each level and annotator, times the pixels within the distance; levels of
    one image are counted on all cores, or else images.

    References
    ----------
    .. [1] D. Martin, C. Fowlkes, J. Malik, "Learning to Detect Natural Image Boundaries Using Local
       Brightness, Color, and Texture Cues", IEEE TPAMI 26(5), 530-549, 2004.
    .. [2] P. Arbelaez, M. Maire, C. Fowlkes, J. Malik, "Contour Detection and Hierarchical Image
       Segmentation", IEEE TPAMI 33(5), 898-916, 2011, section 2.

    Examples
    --------
    >>> import numpy as np
    >>> truth = np.zeros((60, 80), int)
    >>> truth[:, 40:] = 1
    >>> contours = np.zeros((60, 80))
    >>> contours[:30, 39] = 0.9
    >>> contours[30:, 39] = 0.4
    >>> contours[20, 5:35] = 0.2
    >>> scores = boundary_scores([contours], [truth])
    >>> scores["ods"], round(scores["ods_threshold"], 2)
    (1.0, 0.21)
    """
    caller = "boundary_scores"
    images = pair_images(contours, annotations, "contours", caller)
    options = (max_distance, thin, double_sized, caller)
    return boundary_scores_from_counts(
        map_items(lambda image: _count(*image, thresholds, *options), images)
    )


def boundary_counts(
    contours: Any,
    annotations: Any,
    *,
    thresholds: int = 99,
    max_distance: float = MAX_DISTANCE,
    thin: bool = True,
    double_sized: bool = False,
) -> BoundaryCounts:
    """Count what `boundary_scores` needs of one image.

    Parameters
    ----------
    contours : (H, W) array, or sequence of (H, W) int arrays
        An array is a contour map: bool, uint8 (255 is 1) or float from 0 to 1. What is at least a
        threshold is boundary. A list is of label maps, one a level, whose boundaries are those of
        `partition_boundaries`.
    annotations : (H, W) int array, or sequence of them
        One annotator's regions, or several annotators', from which the boundaries are made. Pixels
        of -1 are ignored for that annotator: nothing that was found there is his, and there is no
        boundary beside them. What all ignore is no mistake.
    thresholds : int, default=99
        Number n of levels of a contour map, at k / (n + 1).
    max_distance : float, default=0.0075
        How far apart pixels that correspond may be, as a part of the image's diagonal.
    thin : bool, default=True
        Thin what is above a threshold to lines of one pixel. Annotated boundaries always are.
    double_sized : bool, default=False
        The contour map is of (2 H + 1, 2 W + 1), as BSDS500's ``ucm2`` and ``Hierarchy.ucm`` have
        it.

    Returns
    -------
    BoundaryCounts

    Raises
    ------
    TypeError
        If maps do not hold what they should.
    ValueError
        If shapes do not fit, values are beyond 0 to 1, or there is no annotation.

    Notes
    -----
    A found pixel corresponds to at most one pixel of each annotator, and the other way round.
    Recall counts every annotator's pixels, precision a found pixel that any annotator has. Levels
    between which no pixel lies are counted once.
    """
    options = (max_distance, thin, double_sized, "boundary_counts")
    return _count(contours, annotations, thresholds, *options)


def boundary_scores_from_counts(
    counts: Sequence[BoundaryCounts],
) -> dict[str, float | np.ndarray]:
    """Turn counts into scores.

    Parameters
    ----------
    counts : sequence of BoundaryCounts
        What `boundary_counts` gives for each image.

    Returns
    -------
    dict
        As `boundary_scores`.

    Raises
    ------
    ValueError
        If there are none, or their levels differ.
    """
    thresholds = common_thresholds(counts, "boundary_scores_from_counts")
    # (n_images, n_levels)
    recalled, correct, found = (
        np.stack([getattr(c, name) for c in counts]) for name in ("recalled", "correct", "found")
    )
    n_true = np.array([c.n_true for c in counts])
    recall = ratio(recalled, n_true[:, None])
    precision = correct / np.maximum(found, 1)
    best = [_best_between(thresholds, *curve) for curve in zip(recall, precision)]
    images = dict(zip(("f_measure", "threshold", "recall", "precision"), np.array(best).T))

    each = np.arange(len(counts))
    # The first of the best levels. Images without boundaries have none, and take the first level.
    chosen = np.argmax(np.nan_to_num(_f_measure(recall, precision)), axis=1)
    ois_recall = float(ratio(recalled[each, chosen].sum(), n_true.sum()))
    ois_precision = float(correct[each, chosen].sum() / max(found[each, chosen].sum(), 1))

    recall = ratio(recalled.sum(axis=0), n_true.sum())
    precision = correct.sum(axis=0) / np.maximum(found.sum(axis=0), 1)
    ods, ods_threshold, ods_recall, ods_precision = _best_between(thresholds, recall, precision)
    scores = {
        "ods": ods,
        "ods_threshold": ods_threshold,
        "ods_recall": ods_recall,
        "ods_precision": ods_precision,
        "ois": float(_f_measure(ois_recall, ois_precision)),
        "ois_recall": ois_recall,
        "ois_precision": ois_precision,
        "ap": _average_precision(recall, precision),
        "r50": _recall_at_half(recall, precision),
    }
    levels = {
        "thresholds": thresholds,
        "recall": recall,
        "precision": precision,
        "f_measure": _f_measure(recall, precision),
    }
    return {**scores, **levels, **{f"{name}_per_image": v for name, v in images.items()}}


def evaluate_hierarchies(
    ucms: Any,
    truths: Sequence[Any],
    *,
    double_sized: bool = False,
    thresholds: int = 99,
    max_distance: float = MAX_DISTANCE,
) -> dict[str, Any]:
    """Score hierarchies of regions by their boundaries and by their regions.

    Parameters
    ----------
    ucms : sequence
        Of each image its ultrametric contour map, from 0 to 1, or a list of label maps.
    truths : sequence
        Of each image one annotator's regions, or a list of several annotators'.
    double_sized : bool, default=False
        Contour maps are of (2 H + 1, 2 W + 1), as BSDS500's ``ucm2`` and ``Hierarchy.ucm`` have it.
    thresholds : int, default=99
        Number of levels, evenly spaced between 0 and 1.
    max_distance : float, default=0.0075
        How far apart boundary pixels that correspond may be, as a part of the image's diagonal.

    Returns
    -------
    dict
        Numbers: ``ods``, ``ois``, ``ap``, ``r50`` and what else `boundary_scores` gives of
        boundaries; ``covering_ods``, ``covering_ois``, ``covering_best``, ``pri_ods``, ``pri_ois``,
        ``voi_ods``, ``voi_ois`` and what else `level_scores` gives of regions. Arrays of both, of
        which ``..._per_image`` have an entry for each image.

    Raises
    ------
    TypeError, ValueError
        As `boundary_counts`; or if numbers of images or of levels differ.

    See Also
    --------
    boundary_scores, level_scores : What the scores are.

    Notes
    -----
    Images are counted at the same time, on all cores.
    """
    caller = "evaluate_hierarchies"

    def count(image):
        return hierarchy_counts(
            *image,
            thresholds=thresholds,
            max_distance=max_distance,
            double_sized=double_sized,
            name="ucms",
            caller=caller,
        )

    boundaries, levels = zip(*map_items(count, pair_images(ucms, truths, "ucms", caller)))
    return {**level_scores_from_counts(levels), **boundary_scores_from_counts(boundaries)}


def hierarchy_counts(
    hierarchy: Any,
    annotations: Any,
    *,
    thresholds: int,
    max_distance: float,
    double_sized: bool,
    name: str,
    caller: str,
) -> tuple[BoundaryCounts, LevelCounts]:
    """Count boundaries and regions of one image.

    Parameters
    ----------
    hierarchy, annotations, thresholds, max_distance, double_sized
        As `evaluate_hierarchies`, of one image.
    name, caller : str
        For messages.

    Returns
    -------
    boundaries : BoundaryCounts
    levels : LevelCounts
    """
    distance = check_real(caller, "max_distance", max_distance, low=0, high=1)
    levels = check_levels(hierarchy, annotations, thresholds, double_sized, name, caller)
    return (
        _count_boundaries(levels, distance, True, double_sized),
        count_levels(levels, double_sized),
    )


def partition_boundaries(labels: ArrayLike) -> NDArray[np.bool_]:
    """Draw the boundaries between regions, one pixel wide, as BSDS500 draws its annotators'.

    Parameters
    ----------
    labels : (H, W) int array
        Region ids. There is no boundary beside pixels of -1.

    Returns
    -------
    (H, W) bool array

    Raises
    ------
    TypeError
        If `labels` does not hold integers.
    ValueError
        If it has no two axes.

    Notes
    -----
    A boundary lies in the pixels that differ from the one to the right, below, or between these
    two, and is then thinned. O(n_pixels) time.
    """
    labels = check_ids(labels, "labels", "partition_boundaries")
    if labels.ndim != 2:
        raise ValueError(
            f"partition_boundaries: labels has shape {labels.shape}, expected (H, W): pass one "
            "label map."
        )
    return thin_mask(_edges(labels, labels >= 0))


def _edges(labels, counts):
    """Mark pixels of which the block of 2 x 2 to the right and below holds an edge between ids.

    Pixels that do not count have no edge.
    """
    across = (labels[:, 1:] != labels[:, :-1]) & counts[:, 1:] & counts[:, :-1]
    down = (labels[1:] != labels[:-1]) & counts[1:] & counts[:-1]
    edges = np.zeros(labels.shape, bool)
    edges[:, :-1] |= across
    edges[:-1, :-1] |= across[1:]
    edges[:-1] |= down
    edges[:-1, :-1] |= down[:, 1:]
    return edges


def _count(contours, annotations, thresholds, max_distance, thin, double_sized, caller):
    distance = check_real(caller, "max_distance", max_distance, low=0, high=1)
    thin = check_bool(caller, "thin", thin)
    levels = check_levels(contours, annotations, thresholds, double_sized, "contours", caller)
    return _count_boundaries(levels, distance, thin, double_sized)


def _count_boundaries(
    levels: Levels, max_distance: float, thin: bool, double_sized: bool
) -> BoundaryCounts:
    shape = levels.annotations[0].shape
    near = neighbourhood(shape, max_distance * hypot(*shape))
    counts = [annotation >= 0 for annotation in levels.annotations]
    known = np.logical_or.reduce(counts)
    truths = [
        (find_pixels(partition_boundaries(annotation), near), None if own.all() else own)
        for annotation, own in zip(levels.annotations, counts)
    ]
    maps, level_of = _list_maps(levels, double_sized)

    def count(make_map):
        boundaries = make_map()
        if thin:
            boundaries = thin_mask(boundaries)
        boundaries = boundaries & known
        found = find_pixels(boundaries, near)
        recalled, correct = 0, np.zeros(found.places.size, bool)
        for truth, own in truths:
            mine = slice(None) if own is None else own[boundaries]
            pixels = found if own is None else select_pixels(found, mine)
            paired = correspond(pixels, truth, near) >= 0
            recalled += np.count_nonzero(paired)
            correct[mine] |= paired
        return recalled, np.count_nonzero(correct), correct.size

    rows = np.array(map_items(count, maps), np.int64).reshape(-1, 3)[level_of]
    n_true = sum(truth.places.size for truth, _ in truths)
    return BoundaryCounts(levels.thresholds, rows[:, 0], n_true, rows[:, 1], rows[:, 2])


def _list_maps(levels, double_sized):
    """Functions that make the boundary maps that differ, and which of them each level has."""
    if levels.partitions is not None:
        everywhere = np.ones(levels.partitions[0].shape, bool)
        maps = [lambda labels=labels: _edges(labels, everywhere) for labels in levels.partitions]
        return maps, np.arange(len(maps))
    contours = levels.contours
    if double_sized:
        contours = contours[2::2, 2::2]
    # A pixel is boundary at as many of the lowest levels.
    n_levels = np.searchsorted(levels.thresholds, contours.ravel(), side="right")
    n_levels = n_levels.reshape(contours.shape)
    ends = np.unique(n_levels[n_levels > 0])  # levels k up to these have the map of n_levels > k
    maps = [lambda end=end: n_levels >= end for end in ends]
    maps.append(lambda: np.zeros(contours.shape, bool))
    return maps, np.searchsorted(ends, np.arange(levels.thresholds.size), side="right")


def _f_measure(recall, precision):
    total = recall + precision
    return 2 * recall * precision / np.where(total == 0, 1, total)


def _best_between(thresholds, recall, precision):
    """The best F-measure on the curve through the levels, its threshold, recall and precision."""
    share = np.linspace(0, 1, _BETWEEN)[:, None]
    curve = [
        np.append(v[:1], (v[1:] * share + v[:-1] * (1 - share)).T)  # level by level
        for v in (thresholds, recall, precision)
    ]
    f = _f_measure(*curve[1:])
    place = int(np.argmax(f))  # the first, as rounding differs between equal points
    return (float(f[place]), *(float(v[place]) for v in curve))


def _average_precision(recall, precision):
    if np.isnan(recall).any():
        return float("nan")
    recall, places = np.unique(recall, return_index=True)
    if recall.size == 1:
        return 0.0
    wanted = np.linspace(0, 1, 101)
    return float(np.interp(wanted, recall, precision[places], left=0, right=0).sum() / 100)


def _recall_at_half(recall, precision):
    precision, places = np.unique(precision, return_index=True)
    half = max(0.5, precision[0])
    return float(np.interp(half, precision, recall[places], right=np.nan))
