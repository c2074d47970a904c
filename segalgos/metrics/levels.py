"""Scores of the regions at all levels of a hierarchy, as the BSDS500 benchmark has them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from segalgos.checks import check_int
from segalgos.parallel import map_items
from segalgos.union_find import find

from ._averages import mean_of_defined, ratio
from .contingency import (
    ContingencyTable,
    check_same_shape,
    list_maps,
    merge_labels,
    rank_ids,
    tabulate,
)
from .regions import region_scores_from_tables

__all__ = ["LevelCounts", "level_counts", "level_scores", "level_scores_from_counts"]


class LevelCounts(NamedTuple):
    """What `level_counts` finds in one image, enough for all scores.

    Parameters
    ----------
    thresholds : (n,) float64 array
        Of the levels; 1, 2 .. n for partitions that were given one by one.
    covered : (n,) float64 array
        Pixels of all annotated regions, each times its best IoU with a region of the level.
    covered_best : float
        The same with the best IoU at any level.
    area : int
        Pixels of all annotated regions.
    rand_index, variation_of_information : (n,) float64 arrays
        Averaged over annotators.
    found_covered : (n,) float64 array
        Pixels of the regions of the level, each times its best IoU with a region of any annotator.
    found_area : (n,) int64 array
        Pixels of the regions of the level.
    """

    thresholds: NDArray[np.float64]
    covered: NDArray[np.float64]
    covered_best: float
    area: int
    rand_index: NDArray[np.float64]
    variation_of_information: NDArray[np.float64]
    found_covered: NDArray[np.float64]
    found_area: NDArray[np.int64]


def level_scores(
    hierarchies: Any,
    annotations: Sequence[Any],
    *,
    thresholds: int = 99,
    double_sized: bool = False,
) -> dict[str, float | np.ndarray]:
    """Score hierarchies of regions against the partitions that people drew.

    Parameters
    ----------
    hierarchies : sequence
        Of each image its ultrametric contour map, or a list of label maps, as for `level_counts`.
    annotations : sequence
        Of each image one annotator's regions, or a list of several annotators'.
    thresholds : int, default=99
        Number of levels, evenly spaced between 0 and 1.
    double_sized : bool, default=False
        Contour maps are of (2 H + 1, 2 W + 1).

    Returns
    -------
    dict
        Numbers, NaN where nothing is defined. ODS is at the one level that is best for all images,
        OIS at the best level of each image:

        - ``covering_ods``, ``covering_ois``: covering of the annotated regions, one mean over the
          regions of all images and annotators, weighted by area.
        - ``covering_best``: the same where each region takes its best IoU at any level.
        - ``pri_ods``, ``pri_ois``: probabilistic Rand index, averaged over images.
        - ``voi_ods``, ``voi_ois``: variation of information in bits, averaged over images. Lower
          is better.
        - ``covering_threshold``, ``pri_threshold``, ``voi_threshold``: the levels of ODS.

        Arrays of (n_levels,): ``thresholds``, and of all images together ``covering``,
        ``probabilistic_rand_index`` and ``variation_of_information``. Arrays of (n_images,), at
        each image's best level: ``covering_per_image``, ``covering_threshold_per_image``,
        ``pri_per_image``, ``voi_per_image``, and ``found_covering_per_image``, the covering of the
        regions found by those of all annotators, at the level of the best covering.

    Raises
    ------
    TypeError, ValueError
        As `level_counts`; or if numbers of images or of levels differ.

    See Also
    --------
    level_counts : The counts behind the scores, for one image.
    region_scores : Scores of one partition.
    evaluate_hierarchies : These scores and those of the boundaries.

    Notes
    -----
    Equal to the official evaluation of BSDS500 [1]_ in all its figures.

    References
    ----------
    .. [1] P. Arbelaez, M. Maire, C. Fowlkes, J. Malik, "Contour Detection and Hierarchical Image
       Segmentation", IEEE TPAMI 33(5), 898-916, 2011, section 2.3.

    Examples
    --------
    >>> import numpy as np
    >>> coarse, fine = np.array([[0, 0, 0, 0]]), np.array([[0, 0, 1, 2]])
    >>> scores = level_scores([[fine, coarse]], [np.array([[0, 0, 1, 1]])])
    >>> scores["covering_ods"], scores["covering_threshold"], scores["voi_ods"]
    (0.75, 1.0, 0.5)
    """
    caller = "level_scores"
    images = pair_images(hierarchies, annotations, "hierarchies", caller)
    return level_scores_from_counts(
        map_items(lambda image: _count(*image, thresholds, double_sized, caller), images)
    )


def level_counts(
    hierarchy: Any,
    annotations: Any,
    *,
    thresholds: int = 99,
    double_sized: bool = False,
) -> LevelCounts:
    """Count what `level_scores` needs of one image.

    Parameters
    ----------
    hierarchy : (H, W) array, or sequence of (H, W) int arrays
        An array is an ultrametric contour map: bool, uint8 (255 is 1) or float from 0 to 1, inf for
        what is never merged. At threshold t the regions are what is connected over pixels of at
        most t. A list is of label maps, one a level; pixels of -1 are in no region.
    annotations : (H, W) int array, or sequence of them
        One annotator's regions, or several annotators'. Pixels of -1 are ignored for that
        annotator.
    thresholds : int, default=99
        Number n of levels of a contour map, at k / (n + 1).
    double_sized : bool, default=False
        The contour map is of (2 H + 1, 2 W + 1): pixels at odd places (counted from 0), and between
        them their boundaries, as BSDS500's ``ucm2`` and ``Hierarchy.ucm`` have it.

    Returns
    -------
    LevelCounts

    Raises
    ------
    TypeError
        If maps do not hold what they should.
    ValueError
        If shapes do not fit, values are beyond 0 to 1, or there is no annotation.

    Notes
    -----
    Lines of a map that is not double-sized have no region of their own: each of their pixels
    joins the nearest region of the lowest level, first that to the left or above, where BSDS500's
    lines lie in. Pixels in no region (-1, or above the threshold in a double-sized map) count as
    one region for the Rand index and the variation of information, and cover nothing.

    Regions are counted once, at the lowest level, and merged from level to level:
    O(n_pixels log(n_pixels)) time for all levels of a contour map, O(n_pixels) for each label map.
    """
    return _count(hierarchy, annotations, thresholds, double_sized, "level_counts")


def level_scores_from_counts(counts: Sequence[LevelCounts]) -> dict[str, float | np.ndarray]:
    """Turn counts into scores.

    Parameters
    ----------
    counts : sequence of LevelCounts
        What `level_counts` gives for each image.

    Returns
    -------
    dict
        As `level_scores`.

    Raises
    ------
    ValueError
        If there are none, or their levels differ.
    """
    caller = "level_scores_from_counts"
    thresholds = common_thresholds(counts, caller)
    covered = np.stack([c.covered for c in counts])  # (n_images, n_levels)
    area = np.array([c.area for c in counts])
    rand = np.stack([c.rand_index for c in counts])
    voi = np.stack([c.variation_of_information for c in counts])
    levels = {
        "covering": ratio(covered.sum(axis=0), area.sum()),
        "probabilistic_rand_index": mean_of_defined(rand, axis=0),
        "variation_of_information": mean_of_defined(voi, axis=0),
    }
    best = covered.argmax(axis=1)
    each = np.arange(len(counts))
    found = np.array([[c.found_covered[b], c.found_area[b]] for c, b in zip(counts, best)])
    images = {
        "covering_per_image": ratio(covered[each, best], area),
        "covering_threshold_per_image": thresholds[best],
        "found_covering_per_image": ratio(*found.T),
        "pri_per_image": np.fmax.reduce(rand, axis=1),
        "voi_per_image": np.fmin.reduce(voi, axis=1),
    }
    scores = {
        "covering_ois": float(ratio(covered[each, best].sum(), area.sum())),
        "covering_best": float(ratio(sum(c.covered_best for c in counts), area.sum())),
        "pri_ois": float(mean_of_defined(images["pri_per_image"])),
        "voi_ois": float(mean_of_defined(images["voi_per_image"])),
    }
    for name, values, sign in zip(("covering", "pri", "voi"), levels.values(), (1, 1, -1)):
        # The first of the best. No level is defined, or all are: NaN is first or nowhere.
        place = int(np.argmax(sign * values))
        scores[f"{name}_ods"] = float(values[place])
        scores[f"{name}_threshold"] = float(thresholds[place])
    return {**scores, "thresholds": thresholds, **levels, **images}


# --- what boundaries and regions share -------------------------------------------------------


def level_thresholds(n: int) -> NDArray[np.float64]:
    """Thresholds k / (n + 1), to the last bit as MATLAB's ``linspace`` has them.

    Parameters
    ----------
    n : int

    Returns
    -------
    (n,) float64 array
        Values of 8 bits over 255 are at times equal to a threshold, so that the last bit matters.
    """
    low, high = 1 / (n + 1), 1 - 1 / (n + 1)
    thresholds = low + np.arange(n) * (high - low) / max(n - 1, 1)
    thresholds[-1] = high
    return thresholds


def common_thresholds(counts: Sequence[Any], caller: str) -> NDArray[np.float64]:
    """Check that all images were counted at the same levels.

    Parameters
    ----------
    counts : sequence
        With ``thresholds``.
    caller : str
        For the message.

    Returns
    -------
    (n,) float64 array
    """
    if not len(counts):
        raise ValueError(f"{caller}: counts is empty: pass those of one image or more.")
    first = counts[0].thresholds
    for i, each in enumerate(counts):
        if not np.array_equal(each.thresholds, first):
            raise ValueError(
                f"{caller}: counts[{i}] has {len(each.thresholds)} levels up to "
                f"{each.thresholds[-1]:g}, counts[0] has {len(first)} up to {first[-1]:g}: count "
                "all images at the same levels."
            )
    return first


def pair_images(maps: Any, annotations: Any, name: str, caller: str) -> list[tuple[Any, Any]]:
    """Pair what was found in each image with its annotations.

    Parameters
    ----------
    maps, annotations : sequences
    name, caller : str
        For the message.

    Returns
    -------
    list of tuple
    """
    for what, value in ((name, maps), ("annotations", annotations)):
        if hasattr(value, "__array__") or not isinstance(value, Sequence):
            raise TypeError(
                f"{caller}: {what} is a {type(value).__name__}, expected a list with an entry for "
                "each image."
            )
    if len(maps) != len(annotations) or not len(maps):
        raise ValueError(
            f"{caller}: got {len(maps)} {name} and annotations of {len(annotations)} images: pass "
            "an entry for each image, and one image at least."
        )
    return list(zip(maps, annotations, strict=True))


class Levels(NamedTuple):
    """Levels and annotations of one image, checked.

    Parameters
    ----------
    thresholds : (n,) float64 array
    contours : (H, W) or (2 H + 1, 2 W + 1) float64 array, or None
    partitions : list of (H, W) int arrays, or None
    annotations : list of (H, W) int arrays
    """

    thresholds: NDArray[np.float64]
    contours: NDArray[np.float64] | None
    partitions: list[NDArray[np.integer]] | None
    annotations: list[NDArray[np.integer]]


def check_levels(
    hierarchy: Any, annotations: Any, thresholds: int, double_sized: bool, name: str, caller: str
) -> Levels:
    """Check what a score over levels takes.

    Parameters
    ----------
    hierarchy, annotations, thresholds, double_sized
        As `level_counts`.
    name, caller : str
        For the message.

    Returns
    -------
    Levels
    """
    annotations = list_maps(annotations, "annotations", caller)
    shape = annotations[0].shape
    for i, annotation in enumerate(annotations):
        if annotation.ndim != 2:
            raise ValueError(
                f"{caller}: annotations[{i}] has shape {annotation.shape}, expected (H, W): levels "
                "are scored on images."
            )
        check_same_shape(annotations[0], annotation, "annotations[0]", f"annotations[{i}]", caller)
    n = check_int(caller, "thresholds", thresholds, low=1)
    if not hasattr(hierarchy, "__array__"):
        partitions = list_maps(hierarchy, name, caller)
        for i, labels in enumerate(partitions):
            check_same_shape(labels, annotations[0], f"{name}[{i}]", "annotations[0]", caller)
        return Levels(np.arange(1.0, len(partitions) + 1), None, partitions, annotations)
    contours = _check_contours(hierarchy, name, caller)
    if double_sized:
        shape = tuple(2 * size + 1 for size in shape)
    if contours.shape != shape:
        double = tuple(2 * size + 1 for size in annotations[0].shape)
        hint = "pass double_sized=True" if contours.shape == double else "pass a map of that shape"
        raise ValueError(
            f"{caller}: {name} has shape {contours.shape}, expected {shape} for annotations of "
            f"{annotations[0].shape}: {hint}."
        )
    return Levels(level_thresholds(n), contours, None, annotations)


def _check_contours(contours: ArrayLike, name: str, caller: str) -> NDArray[np.float64]:
    contours = np.asarray(contours)
    if contours.dtype == np.uint8:
        return contours / 255
    if contours.dtype.kind not in "bf":
        raise TypeError(
            f"{caller}: {name} is {contours.dtype}, expected float from 0 to 1, uint8 or bool: "
            f"divide it by its largest possible value, or pass [{name}] if it is a label map."
        )
    contours = contours.astype(np.float64)
    outside = ~((contours >= 0) & ((contours <= 1) | np.isposinf(contours)))
    if outside.any():
        raise ValueError(
            f"{caller}: {name} holds {contours[outside].flat[0]:g}, expected values from 0 to 1: "
            "scale the maps of all images alike."
        )
    return contours


# --- regions ---------------------------------------------------------------------------------


def _count(hierarchy, annotations, thresholds, double_sized, caller):
    levels = check_levels(hierarchy, annotations, thresholds, double_sized, "hierarchy", caller)
    return count_levels(levels, double_sized)


def count_levels(levels: Levels, double_sized: bool) -> LevelCounts:
    """Do what `level_counts` does, for what has been checked.

    Parameters
    ----------
    levels : Levels
    double_sized : bool

    Returns
    -------
    LevelCounts
    """
    if levels.partitions is None:
        every_tables = _tables_of_contours(levels, double_sized)
    else:
        every_tables = _tables_of_partitions(levels)
    rows, best = [], None
    for tables in every_tables:
        if tables is None:  # as the level before
            rows.append(rows[-1])
            continue
        overlaps, found_covered, found_area = _coverings(tables)
        best = overlaps if best is None else [np.maximum(*pair) for pair in zip(best, overlaps)]
        scores = region_scores_from_tables(tables)
        rows.append(
            (
                _covered(tables, overlaps),
                scores["probabilistic_rand_index"],
                scores["variation_of_information"],
                found_covered,
                found_area,
            )
        )
        last = tables
    covered, rand, voi, found_covered, found_area = map(np.array, zip(*rows))
    return LevelCounts(
        levels.thresholds,
        covered,
        _covered(last, best),
        sum(table.n_pixels for table in last),
        rand,
        voi,
        found_covered,
        found_area,
    )


def _covered(tables, overlaps):
    return sum(float(table.truth_sizes @ best) for table, best in zip(tables, overlaps))


def _coverings(tables):
    """Best IoU of each annotator's regions; pixels covered of the regions found, and their number.

    Pixels in no region cover nothing and need not be covered.
    """
    overlaps = []
    highest = max((int(table.label_ids.max(initial=-1)) for table in tables), default=-1)
    found_best = np.zeros(highest + 2)  # [-1] takes what is in no region
    sizes = np.zeros(highest + 2, np.int64)
    for table in tables:
        ious = np.where(table.label_ids[table.rows] >= 0, table.pair_ious(), 0.0)
        best = np.zeros(table.truth_ids.size)
        np.maximum.at(best, table.columns, ious)
        np.maximum.at(found_best, table.label_ids[table.rows], ious)
        sizes[table.label_ids] = np.maximum(sizes[table.label_ids], table.label_sizes)
        overlaps.append(best)
    return overlaps, float(sizes[:-1] @ found_best[:-1]), int(sizes[:-1].sum())


def _tables_of_partitions(levels: Levels) -> Iterator[list[ContingencyTable]]:
    for labels in levels.partitions:
        ids, ranks = rank_ids(labels.ravel())
        labels = ranks.reshape(labels.shape) - (ids[:1] == -1).sum()  # -1 stays -1
        yield [tabulate(labels, annotation) for annotation in levels.annotations]


def _tables_of_contours(
    levels: Levels, double_sized: bool
) -> Iterator[list[ContingencyTable] | None]:
    """Tables of each level with each annotator; None if the regions are as in the level before."""
    parts, regions = connect(levels.contours, levels.thresholds, double_sized)
    base = [tabulate(parts, annotation) for annotation in levels.annotations]
    before = None
    for ids in regions:
        if before is not None and np.array_equal(ids, before):
            yield None
            continue
        if before is None or (before < 0).any():
            tables, source = base, np.arange(ids.size)
        else:
            source = before  # regions only merge: the last level's tables are smaller
        ids_of = np.full(max(int(source.max(initial=-1)) + 2, 1), -1)
        ids_of[source] = ids
        ids_of[-1] = -1
        tables = [merge_labels(table, ids_of[table.label_ids]) for table in tables]
        before = ids
        yield tables


def connect(
    contours: NDArray[np.float64], thresholds: NDArray[np.float64], double_sized: bool
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Find the regions at every level of a contour map.

    Parameters
    ----------
    contours : (H, W) or (2 H + 1, 2 W + 1) float64 array
    thresholds : (n,) float64 array, ascending
    double_sized : bool
        Which of these shapes it is. The double-sized map is connected over eight neighbours, the
        other over four, across which its lines are closed.

    Returns
    -------
    parts : (H, W) int32 array
        Parts that are never divided, from 0; -1 for pixels that are in no region at any level.
    regions : (n, n_parts) int64 array
        At each level the region of each part, from 0; -1 as long as it is in none.

    Notes
    -----
    Pixels are joined to their neighbours in the order of the levels, by disjoint sets.
    """
    first = np.searchsorted(thresholds, contours.ravel(), side="left")  # the first level of each
    order = np.argsort(first, kind="stable")
    ends = np.cumsum(np.bincount(first, minlength=thresholds.size + 1))[:-1]
    height, width = contours.shape
    sites = np.pad(np.arange(contours.size).reshape(height, width), 1, constant_values=-1)
    places = np.flatnonzero(sites.ravel() >= 0)[order]  # in the map with its margin
    steps = [1, -1, width + 2, -width - 2]
    if double_sized:
        steps += [width + 1, width + 3, -width - 1, -width - 3]
    steps = np.array(steps)

    pixels = np.zeros((height + 2, width + 2), bool)
    pixels[2:-2:2, 2:-2:2] = double_sized
    pixels[1:-1, 1:-1] |= not double_sized
    pixels = pixels.ravel()
    parents = np.full(pixels.size, -1)  # -1: not yet of a region
    numbers = np.full(pixels.size, -1)
    part_at = np.full(pixels.size, -1, np.int32)
    roots = np.zeros(0, np.int64)  # of the regions
    region_of = np.zeros(0, np.int64)  # of the parts
    regions = []
    start = 0
    for level, end in enumerate(ends):
        new = places[start:end]
        start = end
        if level > 0 and new.size == 0:
            regions.append(region_of)
            continue
        _join(parents, new, steps)
        merged, roots = _number_roots(parents, roots, numbers)
        region_of = merged[region_of]
        new = new[pixels[new]] if double_sized or level == 0 else new[:0]
        if new.size:
            # Of the pixels that come in at this level, those of one region are one part.
            parts, heads = _number_roots(parents, new, numbers)
            part_at[new] = region_of.size + parts
            own, roots = _number_roots(parents, np.concatenate([roots, heads]), numbers)
            region_of = np.concatenate(
                [own[: own.size - heads.size][region_of], own[-heads.size :]]
            )
        regions.append(region_of)
    table = np.full((len(regions), region_of.size), -1)
    for row, ids in zip(table, regions):
        row[: ids.size] = ids
    parts = part_at.reshape(height + 2, width + 2)[1:-1, 1:-1]
    if double_sized:
        return np.ascontiguousarray(parts[1::2, 1::2]), table
    if region_of.size == 0:  # lines everywhere: one region
        return np.zeros((height, width), np.int32), np.zeros((len(regions), 1), np.int64)
    return _give_lines_away(parts), table


@njit(nogil=True, cache=True)
def _join(parents, new, steps):
    """Add pixels to the disjoint sets, and join them to neighbours that are there.

    Parameters
    ----------
    parents : (n_places,) int64
        -1 for pixels that are not there; changed.
    new : (n_new,) int64
        Their places.
    steps : (n_steps,) int64
        To the neighbours.
    """
    for place in new:
        parents[place] = place
        for step in steps:
            if parents[place + step] >= 0:
                own, other = find(parents, place), find(parents, place + step)
                # The lower place is the root, whatever the order.
                parents[max(own, other)] = min(own, other)


@njit(nogil=True, cache=True)
def _number_roots(parents, places, numbers):
    """Number the sets of some pixels in the order in which they come.

    Parameters
    ----------
    parents : (n_places,) int64
    places : (n,) int64
    numbers : (n_places,) int64
        All -1, and so again afterwards.

    Returns
    -------
    sets : (n,) int64
    roots : (n_sets,) int64
    """
    sets = np.empty(places.size, np.int64)
    roots = np.empty(places.size, np.int64)
    n_sets = 0
    for i in range(places.size):
        root = find(parents, places[i])
        if numbers[root] < 0:
            numbers[root] = n_sets
            roots[n_sets] = root
            n_sets += 1
        sets[i] = numbers[root]
    roots = roots[:n_sets].copy()
    numbers[roots] = -1
    return sets, roots


def _give_lines_away(parts: NDArray[np.int32]) -> NDArray[np.int32]:
    """Let pixels of lines (-1) join the part to the left, above, to the right or below."""
    parts = parts.copy()
    while (lines := parts < 0).any():
        before = np.pad(parts, 1, constant_values=-1)
        for rows, columns in ((1, 0), (0, 1), (1, 2), (2, 1)):
            side = before[rows : rows + parts.shape[0], columns : columns + parts.shape[1]]
            taken = lines & (parts < 0) & (side >= 0)
            parts[taken] = side[taken]
    return parts
