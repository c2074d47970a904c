"""Scores of partitions against one or several annotators, as the BSDS500 benchmark has them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._averages import mean_of_defined, ratio
from .contingency import (
    ContingencyTable,
    check_ids,
    check_same_shape,
    largest_id,
    list_maps,
    rank_ids,
    tabulate,
)


def region_scores(labels: ArrayLike, annotations: Any) -> dict[str, float | int]:
    """Score a partition of an image against the partitions that people drew.

    A region is the set of pixels of one id, connected or not; the ids themselves do not matter.

    Parameters
    ----------
    labels : (H, W) int array
        Region ids. Pixels of -1 (unlabelled) count as one region of their own.
    annotations : int array of the same shape, or sequence of them
        One annotator's regions, or several annotators'. Pixels of -1 are ignored for that
        annotator. 0 is a region like the others.

    Returns
    -------
    dict
        Numbers, NaN where nothing is defined (no pixels, or for the Rand indices no pair of
        pixels; such an annotator is left out of the means):

        - ``covering``: covering of the annotations by the partition [1]_. Each annotated region
          takes its best IoU with any region of `labels`; the mean, weighted by area, over all
          regions of all annotators. 0 to 1, higher is better.
        - ``probabilistic_rand_index``: share of the pairs of pixels that both partitions
          treat alike (together or apart), averaged over annotators [2]_. 0 to 1.
        - ``variation_of_information``: H(labels | truth) + H(truth | labels) in bits (logarithms
          of base 2), averaged over annotators [3]_. Lower is better.
        - ``voi_oversegmentation``, ``voi_undersegmentation``: the first and the second of
          these two parts, averaged likewise.
        - ``adjusted_rand_index``: Rand index corrected for chance [4]_, averaged over annotators.
          1 for equal partitions, about 0 for independent ones.
        - ``n_regions``: regions of `labels` that some annotator did not ignore altogether.

    Raises
    ------
    TypeError
        If maps do not hold integers.
    ValueError
        If shapes differ or there is no annotation.

    See Also
    --------
    region_scores_from_tables : The same from contingency tables that are there already.
    best_overlaps : The pieces of the covering of a data set.

    Notes
    -----
    Equal to what the BSDS500 benchmark computes for one image, whose ids start at 1; its covering
    would leave out pixels of the id 0. Over a data set the benchmark averages the Rand index and
    the variation of information over images, but its covering is one mean over the regions of all
    images and annotators, so images with more annotators weigh more.

    References
    ----------
    .. [1] P. Arbelaez, M. Maire, C. Fowlkes, J. Malik, "Contour Detection and Hierarchical Image
       Segmentation", IEEE TPAMI 33(5), 898-916, 2011, section 2.3.
    .. [2] R. Unnikrishnan, C. Pantofaru, M. Hebert, "Toward Objective Evaluation of Image
       Segmentation Algorithms", IEEE TPAMI 29(6), 929-944, 2007.
    .. [3] M. Meila, "Comparing clusterings: an information based distance", J. Multivariate
       Analysis 98(5), 873-895, 2007.
    .. [4] L. Hubert, P. Arabie, "Comparing partitions", J. Classification 2, 193-218, 1985.

    Examples
    --------
    >>> scores = region_scores(np.array([[0, 0, 1, 2]]), np.array([[0, 0, 1, 1]]))
    >>> scores["covering"], scores["voi_oversegmentation"], scores["voi_undersegmentation"]
    (0.75, 0.5, 0.0)
    """
    caller = "region_scores"
    labels = check_ids(labels, "labels", caller)
    annotations = list_maps(annotations, "annotations", caller)
    for i, annotation in enumerate(annotations):
        check_same_shape(labels, annotation, "labels", f"annotations[{i}]", caller)
    return region_scores_from_tables([tabulate(labels, each) for each in annotations])


def region_scores_from_tables(tables: Sequence[ContingencyTable]) -> dict[str, float | int]:
    """Score a partition from its contingency tables with each annotator.

    Parameters
    ----------
    tables : sequence of ContingencyTable
        ``contingency_table(labels, annotation)`` of one partition and each annotation.

    Returns
    -------
    dict
        As `region_scores`.
    """
    tables = list(tables)
    if not tables:
        raise ValueError(
            "region_scores_from_tables: tables is empty: pass one table for each annotator."
        )
    covered = sum(float(table.truth_sizes @ best_overlaps(table)) for table in tables)
    rand, adjusted_rand = zip(*map(_rand_indices, tables))
    over, under = zip(*map(_conditional_entropies, tables))
    voi_over, voi_under = float(mean_of_defined(over)), float(mean_of_defined(under))
    return {
        "covering": float(ratio(covered, sum(table.n_pixels for table in tables))),
        "probabilistic_rand_index": float(mean_of_defined(rand)),
        "variation_of_information": voi_over + voi_under,
        "voi_oversegmentation": voi_over,
        "voi_undersegmentation": voi_under,
        "adjusted_rand_index": float(mean_of_defined(adjusted_rand)),
        "n_regions": int(rank_ids(np.concatenate([t.label_ids for t in tables]))[0].size),
    }


def best_overlaps(table: ContingencyTable) -> np.ndarray:
    """Find the best IoU that each true region has with any region of the partition.

    Parameters
    ----------
    table : ContingencyTable
        Of a partition (rows) and an annotation (columns).

    Returns
    -------
    (n_truth,) float64 array
        In the order of ``table.truth_ids``.

    Notes
    -----
    ``table.truth_sizes @ best_overlaps(table)`` is the area covered; its sum over annotators and
    images over the sum of ``table.n_pixels`` is the benchmark's covering of a data set. The
    elementwise maximum over all scales of a hierarchy gives its "best" covering.
    """
    best = np.zeros(table.truth_ids.size)
    np.maximum.at(best, table.columns, table.pair_ious())
    return best


def best_class_labels(labels: ArrayLike, truth: ArrayLike) -> np.ndarray:
    """See a partition as a class map by giving each region its most frequent true class.

    No classifier that labels whole regions can be right on more pixels: this is the upper bound,
    or "oracle", that a partition allows.

    Parameters
    ----------
    labels : (H, W) int array
        Region ids. Pixels of -1 stay -1.
    truth : (H, W) int array
        True class ids. Pixels of -1 are ignored and have no vote.

    Returns
    -------
    (H, W) int32 array
        Class ids. Of equally frequent classes a region takes the lowest id; a region whose
        pixels are all ignored is -1.
    """
    caller = "best_class_labels"
    labels = check_ids(labels, "labels", caller)
    truth = check_ids(truth, "truth", caller)
    check_same_shape(labels, truth, "labels", "truth", caller)
    if largest_id(labels) > max(labels.size, 1 << 16):  # too gappy for a look-up table
        ids, positions = np.unique(labels, return_inverse=True)
        labels = positions - (ids[0] == -1)  # -1 stays -1
    table = tabulate(labels, truth)
    if table.truth_ids.size and table.truth_ids[-1] > np.iinfo(np.int32).max:
        raise ValueError(
            f"{caller}: truth holds the class {table.truth_ids[-1]}, class maps are int32: "
            "renumber the classes."
        )
    # Each region's pairs by falling count; the sort is stable, so equals stay in order of class.
    order = np.lexsort((-table.counts, table.rows))
    first = np.searchsorted(table.rows, np.arange(table.label_ids.size))
    class_of = np.full(largest_id(labels) + 2, -1, np.int32)
    class_of[table.label_ids] = table.truth_ids[table.columns[order[first]]]
    class_of[-1] = -1  # where the id -1 looks
    return class_of[labels]


def _rand_indices(table):
    """Rand index and adjusted Rand index, in exact integers up to the last division."""
    n_pairs = _pairs(np.int64(table.n_pixels))
    if n_pairs == 0:
        return np.nan, np.nan
    together, in_label, in_truth = map(_pairs, (table.counts, table.label_sizes, table.truth_sizes))
    rand = (n_pairs + 2 * together - in_label - in_truth) / n_pairs
    # Index minus expected index over maximum minus expected index, [4] eq. (5), times
    # 2 * n_pairs. The denominator is 0 only for two equal partitions: one region, or all singles.
    numerator = 2 * (together * n_pairs - in_label * in_truth)
    denominator = (in_label + in_truth) * n_pairs - 2 * in_label * in_truth
    return rand, numerator / denominator if denominator else 1.0


def _pairs(sizes):
    # A Python int: products of two such numbers pass 2**63 from some 80,000 pixels on.
    return int((sizes * (sizes - 1) // 2).sum())


def _conditional_entropies(table):
    """H(labels | truth) and H(truth | labels) in bits."""
    if table.n_pixels == 0:
        return np.nan, np.nan
    share = table.counts / table.n_pixels
    over = share @ np.log2(table.truth_sizes[table.columns] / table.counts)
    under = share @ np.log2(table.label_sizes[table.rows] / table.counts)
    return float(over), float(under)
