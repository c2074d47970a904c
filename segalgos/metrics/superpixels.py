"""Scores of superpixels, as the study of Stutz, Hermans and Leibe (2018) has them."""

from __future__ import annotations

from math import hypot, pi
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike

from segalgos.checks import check_image, check_int
from segalgos.parallel import map_items

from ._averages import mean_of_defined, ratio
from .contingency import check_ids, check_same_shape, largest_id, list_maps, tabulate

__all__ = ["superpixel_scores"]

TOLERANCE = 0.0025  # of the diagonal


def superpixel_scores(
    labels: ArrayLike,
    truths: Any,
    image: ArrayLike | None = None,
    *,
    tolerance: int | None = None,
) -> dict[str, float | int]:
    """Score superpixels against the partitions that people drew, and against the image.

    Parameters
    ----------
    labels : (H, W) or (D, H, W) int array
        Superpixel ids; the ids themselves do not matter.
    truths : int array of the same shape, or sequence of them
        One annotator's regions, or several annotators'.
    image : array of the same shape, or with channels as one more axis at the end, optional
        Needed for the explained variation, which is NaN without it.
    tolerance : int, optional
        How far away a boundary still counts as found, in pixels along each axis. By default
        .0025 of the diagonal, rounded: 1 in an image of 321 x 481.

    Returns
    -------
    dict
        Numbers, NaN where nothing is defined. The first four are averaged over annotators,
        leaving out those for whom they are not defined; three of them also come as that of
        the annotator for whom they are worst, ``..._worst_annotator``, which is what the
        study [1]_ averages over images:

        - ``boundary_recall``: share of the annotator's boundary pixels that have a boundary
          pixel of `labels` within the tolerance. Boundary pixels are those with a neighbour
          (of 4, in volumes 6) of another id, on both sides of a boundary. Not defined for an
          annotator without boundaries.
        - ``undersegmentation_error``: of Neubert and Protzel [2]_. Each annotated region
          adds, for each superpixel that it meets, the smaller of the part inside it and the
          part outside; the sum over all, as a share of the pixels. Lower is better.
        - ``achievable_segmentation_accuracy``: share of pixels that are right if each
          superpixel takes its most frequent annotated region.
        - ``undersegmentation_error_levin``: of Levinshtein et al. [3]_. The area by which
          the superpixels that meet an annotated region overshoot it, relative to its own, as
          the mean over the regions. Lower is better, and it has no upper bound.
        - ``boundary_recall_worst_annotator``, ``undersegmentation_error_worst_annotator``,
          ``achievable_segmentation_accuracy_worst_annotator``.
        - ``explained_variation``: variance of the superpixels' mean colours, each weighted
          by size, over the variance of the pixels, summed over channels [1]_. 0 to 1.
          Not defined for an image of one colour.
        - ``compactness``: isoperimetric quotient of the superpixels, averaged over pixels
          [4]_: 4 pi A / P², where the perimeter P counts sides of pixels, those at the border
          included. At most pi / 4, that of squares. In volumes 36 pi V² / A³, at most pi / 6.
        - ``n_segments``: how many ids `labels` has.

    Raises
    ------
    TypeError
        If maps do not hold integers.
    ValueError
        If shapes differ, the maps have neither two nor three axes, or there is no truth.

    See Also
    --------
    segalgos.metrics.region_scores : Scores of partitions into few regions.

    Notes
    -----
    Pixels of id -1 touch nothing: those of `labels` are as if outside the image, those of a
    truth likewise for the scores against it. There is no boundary between them and others.

    Equal to what the study's code computes, except that this gives a recall of 0 to an
    annotator without boundaries and an empty region to Levinshtein's mean where ids start
    at 1. O(n_pixels) time for each annotator, times the tolerance for the recall.

    References
    ----------
    .. [1] D. Stutz, A. Hermans, B. Leibe, "Superpixels: An evaluation of the
       state-of-the-art", Comput. Vis. Image Underst. 166, 1-27, 2018.
    .. [2] P. Neubert, P. Protzel, "Superpixel benchmark and comparison", Forum
       Bildverarbeitung, 2012.
    .. [3] A. Levinshtein, A. Stere, K. N. Kutulakos, D. J. Fleet, S. J. Dickinson, K. Siddiqi,
       "TurboPixels: Fast superpixels using geometric flows", IEEE TPAMI 31(12), 2009.
    .. [4] A. Schick, M. Fischer, R. Stiefelhagen, "Measuring and evaluating the compactness of
       superpixels", ICPR, 2012.

    Examples
    --------
    >>> labels = np.array([[0, 0, 1, 1], [0, 0, 1, 1]])
    >>> truth = np.array([[0, 0, 0, 1], [0, 0, 0, 1]])
    >>> scores = superpixel_scores(labels, truth, tolerance=0)
    >>> scores["boundary_recall"], scores["undersegmentation_error"]
    (0.5, 0.5)
    >>> scores["achievable_segmentation_accuracy"], scores["n_segments"]
    (0.75, 2)
    """
    caller = "superpixel_scores"
    labels = check_ids(labels, "labels", caller)
    if labels.ndim not in (2, 3):
        raise ValueError(
            f"{caller}: labels has shape {labels.shape}, expected (H, W) or (D, H, W): pass the "
            "map of one image or volume."
        )
    truths = list_maps(truths, "truths", caller)
    for i, truth in enumerate(truths):
        check_same_shape(labels, truth, "labels", f"truths[{i}]", caller)
    if tolerance is None:
        tolerance = int(TOLERANCE * hypot(*labels.shape) + 0.5)
    else:
        tolerance = check_int(caller, "tolerance", tolerance, low=0)
    if image is None:
        pixels = np.zeros((labels.size, 0), np.float32)
    else:
        pixels = _check_pixels(image, labels.shape, caller)

    labels, *truths = map(_renumber, (labels, *truths))
    edges = _mark_boundaries(labels)
    each = map_items(lambda truth: _scores_of_one(labels, edges, truth, tolerance), truths)
    recall, error, levin, accuracy = np.array(each, np.float64).reshape(-1, 4).T
    explained, compactness, n_segments = _scores_of_shapes(labels, pixels)
    return {
        "boundary_recall": float(mean_of_defined(recall)),
        "undersegmentation_error": float(mean_of_defined(error)),
        "achievable_segmentation_accuracy": float(mean_of_defined(accuracy)),
        "undersegmentation_error_levin": float(mean_of_defined(levin)),
        "boundary_recall_worst_annotator": float(np.fmin.reduce(recall)),
        "undersegmentation_error_worst_annotator": float(np.fmax.reduce(error)),
        "achievable_segmentation_accuracy_worst_annotator": float(np.fmin.reduce(accuracy)),
        "explained_variation": explained,
        "compactness": compactness,
        "n_segments": n_segments,
    }


def _check_pixels(image, shape, caller):
    """Check an image and give it as (n_pixels, C)."""
    axes = np.ndim(image) - len(shape)
    if axes not in (0, 1) or np.shape(image)[: len(shape)] != shape:
        raise ValueError(
            f"{caller}: image has shape {np.shape(image)}, labels has {shape}: pass an image of "
            "the same pixels, its channels on the last axis."
        )
    image = check_image(
        image, caller, channel_axis=-1 if axes else None, ndims=(2, 3), keep_uint8=True
    )
    return image.reshape(-1, image.shape[-1])


def _renumber(labels):
    """Give a map as int32, with ids small enough to index an array."""
    if largest_id(labels) >= max(labels.size, 1 << 16):
        ids, positions = np.unique(labels, return_inverse=True)
        labels = positions.reshape(labels.shape) - (ids[0] == -1)  # -1 stays -1
    return np.require(labels, np.int32, ["C", "W"])


def _mark_boundaries(ids):
    """Mark pixels that have a neighbour of another id, -1 having no part in it."""
    volume = _as_volume(ids)
    marks = np.zeros(volume.shape, bool)
    _mark_edges(volume, marks)
    return marks.reshape(ids.shape)


def _as_volume(ids):
    return ids.reshape((1,) * (3 - ids.ndim) + ids.shape)


@njit(nogil=True, cache=True)
def _mark_edges(ids, marks):
    """Mark both sides of each edge between ids.

    Parameters
    ----------
    ids : (D, H, W) int32
    marks : (D, H, W) bool, zeros
    """
    depth, height, width = ids.shape
    for z in range(depth):
        for y in range(height):
            # Slices, so that the loops become vectors.
            _mark_differences(ids[z, y, 1:], ids[z, y, : width - 1], marks[z, y, 1:])
            _mark_differences(ids[z, y, : width - 1], ids[z, y, 1:], marks[z, y, : width - 1])
            if y > 0:
                _mark_differences(ids[z, y], ids[z, y - 1], marks[z, y])
                _mark_differences(ids[z, y - 1], ids[z, y], marks[z, y - 1])
            if z > 0:
                _mark_differences(ids[z, y], ids[z - 1, y], marks[z, y])
                _mark_differences(ids[z - 1, y], ids[z, y], marks[z - 1, y])


@njit(nogil=True, cache=True)
def _mark_differences(ids, others, marks):
    for x in range(ids.shape[0]):
        marks[x] |= (ids[x] != others[x]) & (ids[x] >= 0) & (others[x] >= 0)


def _widen(marks, reach):
    """Mark all pixels that have a marked one within reach along each axis."""
    for axis in range(marks.ndim):
        wide = marks.copy()
        for step in range(1, min(reach, marks.shape[axis] - 1) + 1):
            near = (slice(None),) * axis + (slice(None, -step),)
            far = (slice(None),) * axis + (slice(step, None),)
            wide[near] |= marks[far]
            wide[far] |= marks[near]
        marks = wide
    return marks


def _scores_of_one(labels, edges, truth, tolerance):
    """Recall, both undersegmentation errors and accuracy against one annotator."""
    if truth.size and truth.min() < 0:  # what he left out is not there
        labels = np.where(truth < 0, np.int32(-1), labels)
        edges = _mark_boundaries(labels)
    if labels.size and labels.min() < 0:
        truth = np.where(labels < 0, np.int32(-1), truth)
    sought = _mark_boundaries(truth)
    recall = ratio(np.count_nonzero(sought & _widen(edges, tolerance)), np.count_nonzero(sought))

    table = tabulate(labels, truth)
    sizes = table.label_sizes[table.rows]
    error = np.minimum(table.counts, sizes - table.counts).sum()
    met = np.zeros(table.truth_ids.size)
    np.add.at(met, table.columns, sizes)
    levin = mean_of_defined(met / table.truth_sizes - 1)
    most = np.zeros(table.label_ids.size, np.int64)
    np.maximum.at(most, table.rows, table.counts)
    n_pixels = table.n_pixels
    return recall, ratio(error, n_pixels), levin, ratio(most.sum(), n_pixels)


def _scores_of_shapes(labels, pixels):
    """Explained variation, compactness and number of the superpixels."""
    n = largest_id(labels) + 1
    sizes, inner_sides = np.zeros(n, np.int64), np.zeros(n, np.int64)
    sums = np.zeros((n, pixels.shape[1]))
    # Relative to some pixel: an image of one colour has a variance of exactly 0 then.
    known = np.flatnonzero(labels.ravel() >= 0)
    origin = pixels[known[0]].astype(np.float64) if known.size else np.zeros(pixels.shape[1])
    squares = _add_up(_as_volume(labels), pixels, origin, sizes, inner_sides, sums)

    used = sizes > 0
    sizes, inner_sides, sums = sizes[used], inner_sides[used], sums[used]
    n_pixels = sizes.sum()
    of_mean = (sums.sum(axis=0) ** 2).sum() / n_pixels if n_pixels else 0.0
    within_means = (sums**2 / sizes[:, None]).sum()
    explained = ratio(within_means - of_mean, squares - of_mean)
    sides = 2 * labels.ndim * sizes - 2 * inner_sides
    if labels.ndim == 2:
        quotients = 4 * pi * sizes / sides.astype(np.float64) ** 2
    else:
        quotients = 36 * pi * sizes.astype(np.float64) ** 2 / sides.astype(np.float64) ** 3
    return float(explained), float(ratio(sizes @ quotients, n_pixels)), int(used.sum())


@njit(nogil=True, cache=True)
def _add_up(labels, pixels, origin, sizes, inner_sides, sums):
    """Add up what the scores of shapes need, in one pass.

    Parameters
    ----------
    labels : (D, H, W) int32
    pixels : (n_pixels, C) uint8 or float32
    origin : (C,) float64
        Subtracted from the pixels.
    sizes, inner_sides : (n_labels,) int64, added to
        Pixels, and pairs of neighbours within the superpixel.
    sums : (n_labels, C) float64, added to

    Returns
    -------
    float
        Sum of all squares.
    """
    depth, height, width = labels.shape
    squares = 0.0
    for z in range(depth):
        for y in range(height):
            row = (z * height + y) * width
            end = 0
            while end < width:  # run by run of equal labels
                start, label = end, labels[z, y, end]
                while end < width and labels[z, y, end] == label:
                    end += 1
                if label < 0:
                    continue
                sizes[label] += end - start
                inner_sides[label] += end - start - 1
                for x in range(start, end):
                    if y > 0 and labels[z, y - 1, x] == label:
                        inner_sides[label] += 1
                    if z > 0 and labels[z - 1, y, x] == label:
                        inner_sides[label] += 1
                for c in range(pixels.shape[1]):
                    total = 0.0
                    for i in range(row + start, row + end):
                        value = pixels[i, c] - origin[c]
                        total += value
                        squares += value * value
                    sums[label, c] += total
    return squares
