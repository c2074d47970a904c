"""Panoptic quality: every pixel belongs to one segment, a thing or a kind of stuff."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._averages import mean_of_defined, ratio
from .contingency import check_ids, check_same_shape, tabulate
from .semantic import count_classes

__all__ = [
    "PanopticMap",
    "panoptic_counts",
    "panoptic_scores",
    "panoptic_scores_from_counts",
]


@dataclass(frozen=True, eq=False)
class PanopticMap:
    """An image cut into segments, each of one class.

    Parameters
    ----------
    segments : (H, W) int array
        Id of every pixel's segment; -1 where there is none: void, in a truth.
    classes : mapping of int to int
        Segment id -> class id from 0.
    crowd : collection of int, default=()
        Ids of segments that stand for a crowd, in which objects are not told apart.

    Raises
    ------
    TypeError
        If ids are no integers.
    ValueError
        If a segment has no class, or a crowd is no segment.
    """

    segments: NDArray[np.integer]
    classes: Mapping[int, int]
    crowd: Collection[int] = ()

    def __post_init__(self):
        caller = "PanopticMap"
        segments = check_ids(self.segments, "segments", caller)
        if segments.ndim != 2:
            raise ValueError(
                f"{caller}: segments has shape {segments.shape}, expected (H, W): pass the id of "
                "each pixel's segment."
            )
        if not isinstance(self.classes, Mapping):
            raise TypeError(
                f"{caller}: classes is a {type(self.classes).__name__}, expected a dict from "
                "segment id to class id."
            )
        strange = [i for pair in self.classes.items() for i in pair if not _is_id(i)]
        if strange:
            raise ValueError(
                f"{caller}: classes holds {strange[0]!r}, expected segment and class ids that are "
                "integers of at least 0."
            )
        crowd = frozenset(self.crowd)
        unknown = sorted(crowd - set(self.classes))
        if unknown:
            raise ValueError(
                f"{caller}: crowd holds {unknown[0]}, which has no class: give every segment one."
            )
        found = np.unique(segments)
        lacking = [i for i in found[found >= 0].tolist() if i not in self.classes]
        if lacking:
            raise ValueError(
                f"{caller}: segments holds the id {lacking[0]}, which has no class: give every "
                "segment one, and mark void pixels -1."
            )
        object.__setattr__(self, "segments", segments)
        object.__setattr__(self, "classes", {int(k): int(v) for k, v in self.classes.items()})
        object.__setattr__(self, "crowd", frozenset(map(int, crowd)))

    @classmethod
    def from_coco(
        cls,
        ids: ArrayLike,
        segments_info: Sequence[Mapping[str, Any]],
        categories: Sequence[int] | None = None,
    ) -> PanopticMap:
        """Read an annotation in COCO's panoptic format.

        Parameters
        ----------
        ids : (H, W) or (H, W, 3) int array
            Segment ids, or the colours of the PNG file that pack them as
            ``R + 256 G + 65536 B``. 0 is void.
        segments_info : sequence of dict
            With "id", "category_id" and, where it is one, "iscrowd".
        categories : sequence of int, optional
            Category ids in the order of the class ids; without it a category's id is its class
            id.

        Returns
        -------
        PanopticMap

        Raises
        ------
        ValueError
            If an entry is missing or of a category that is not listed.
        """
        caller = "PanopticMap.from_coco"
        ids = np.asarray(ids)
        if ids.ndim == 3 and ids.shape[-1] == 3:
            ids = ids.astype(np.int64) @ np.array([1, 256, 65536])
        places = None if categories is None else {c: k for k, c in enumerate(categories)}
        classes, crowd = {}, []
        for i, info in enumerate(segments_info):
            for key in ("id", "category_id"):
                if not isinstance(info, Mapping) or key not in info:
                    raise ValueError(f"{caller}: segments_info[{i}] has no {key!r}.")
            category = info["category_id"]
            if places is not None and category not in places:
                raise ValueError(
                    f"{caller}: segments_info[{i}] is of category {category!r}, which is not "
                    "listed: pass the ids of all categories."
                )
            classes[info["id"]] = category if places is None else places[category]
            if info.get("iscrowd"):
                crowd.append(info["id"])
        ids = check_ids(ids, "ids", caller)
        return cls(np.where(ids == 0, -1, ids), classes, crowd)


def _is_id(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= 0


def panoptic_scores(
    predictions: PanopticMap | Sequence[PanopticMap],
    truths: PanopticMap | Sequence[PanopticMap],
    classes: Sequence[str] | int,
    *,
    things: Collection[int] | None = None,
) -> dict[str, float | np.ndarray]:
    """Compute the panoptic quality (PQ) of segmented images [1]_.

    Parameters
    ----------
    predictions : PanopticMap or sequence of PanopticMap
        One image, or several.
    truths : PanopticMap or sequence of PanopticMap
        Of the same images.
    classes : sequence of K str, or int
        The names of the classes, or just their number K.
    things : collection of int, optional
        Ids of the classes that are countable things; the others are stuff. If left out, the
        means over things and over stuff are NaN.

    Returns
    -------
    dict
        Arrays of (K,) float64, from the segments of all images together. NaN for a class that
        has neither a matched, a missed nor a false segment:

        - ``pq_per_class``: the sum of the IoUs of matched segments over TP + FP / 2 + FN / 2;
        - ``sq_per_class``: segmentation quality, the mean IoU of matched segments; 0 if none
          is matched;
        - ``rq_per_class``: recognition quality, TP / (TP + FP / 2 + FN / 2).

        Numbers, NaN where nothing is defined: ``mean_pq_dataset``, ``mean_sq_dataset`` and
        ``mean_rq_dataset``, the means of those over the classes that are not NaN; with
        ``_things`` or ``_stuff`` at the end, over these classes alone.

    Raises
    ------
    TypeError
        If a map is no PanopticMap.
    ValueError
        If lengths or shapes differ, a list is empty, a class id is K or more, or a predicted
        segment has no pixel.

    See Also
    --------
    panoptic_counts : The sums behind the scores, for one image.
    instance_scores : Scores of objects, which may overlap.

    Notes
    -----
    The rules are those of COCO's evaluation code [2]_. Segments of one class match if their IoU is
    above one half, which at most one can be. Void pixels of the truth are taken out of the
    union. A predicted segment that is not matched is no mistake if more than half of it is
    void or of a crowd of its class. Crowds match nothing and are not missed. As there, of
    several crowds of one class in an image only the last one that is listed counts, and a true
    segment without any pixel is missed.

    O(n_pixels) time.

    References
    ----------
    .. [1] A. Kirillov, K. He, R. Girshick, C. Rother, P. Dollar, "Panoptic Segmentation", CVPR
       2019.
    .. [2] The panoptic API of COCO, https://github.com/cocodataset/panopticapi.

    Examples
    --------
    >>> import numpy as np
    >>> truth = PanopticMap(np.array([[0, 0, 0, 0, 7, 7, -1]]), {0: 0, 7: 1})
    >>> found = PanopticMap(np.array([[0, 0, 0, 5, 5, 5, 5]]), {0: 0, 5: 1})
    >>> scores = panoptic_scores(found, truth, ["road", "car"], things=[1])
    >>> scores["pq_per_class"], scores["mean_pq_dataset_things"]
    (array([0.75      , 0.66666667]), 0.6666666666666666)
    """
    caller = "panoptic_scores"
    n_classes = count_classes(classes, caller)
    predictions = _list_maps(predictions, "predictions", caller)
    truths = _list_maps(truths, "truths", caller)
    if len(predictions) != len(truths):
        raise ValueError(
            f"{caller}: got {len(predictions)} predictions and {len(truths)} truths: "
            "pass one truth for each prediction."
        )
    counts, matched_iou = zip(
        *(
            _count(prediction, truth, n_classes, (f"predictions[{i}]", f"truths[{i}]", caller))
            for i, (prediction, truth) in enumerate(zip(predictions, truths))
        )
    )
    return panoptic_scores_from_counts(np.stack(counts), np.stack(matched_iou), things=things)


def panoptic_counts(
    prediction: PanopticMap, truth: PanopticMap, n_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Match the segments of one image and count hits and misses of each class.

    Counts of several images add up, and `panoptic_scores_from_counts` makes any resampling of
    them into scores.

    Parameters
    ----------
    prediction, truth : PanopticMap
    n_classes : int
        The number of classes K.

    Returns
    -------
    counts : (K, 3) int64 array
        Matched segments (TP), false ones (FP) and missed ones (FN).
    matched_iou : (K,) float64 array
        Sum of the IoUs of the matched segments.
    """
    caller = "panoptic_counts"
    n_classes = count_classes(n_classes, caller)
    for each, name in ((prediction, "prediction"), (truth, "truth")):
        _check_map(each, name, caller)
    return _count(prediction, truth, n_classes, ("prediction", "truth", caller))


def panoptic_scores_from_counts(
    counts: ArrayLike, matched_iou: ArrayLike, *, things: Collection[int] | None = None
) -> dict[str, float | np.ndarray]:
    """Turn counts of matched segments into scores.

    Parameters
    ----------
    counts : (n_images, K, 3) int array
        What `panoptic_counts` gives first for each image.
    matched_iou : (n_images, K) float array
        What it gives second.
    things : collection of int, optional
        Ids of the classes that are things.

    Returns
    -------
    dict
        As `panoptic_scores`.
    """
    caller = "panoptic_scores_from_counts"
    counts, matched_iou = np.asarray(counts), np.asarray(matched_iou, np.float64)
    if counts.ndim != 3 or 0 in counts.shape or counts.shape != (*matched_iou.shape, 3):
        raise ValueError(
            f"{caller}: counts has shape {counts.shape} and matched_iou {matched_iou.shape}, "
            "expected (n_images, K, 3) and (n_images, K): stack what panoptic_counts gives."
        )
    hits, false, missed = counts.sum(axis=0).T
    iou = matched_iou.sum(axis=0)
    halves = hits + 0.5 * false + 0.5 * missed
    quality = {"pq": ratio(iou, halves), "rq": ratio(hits, halves)}
    quality["sq"] = np.where(halves > 0, iou / np.maximum(hits, 1), np.nan)
    scores: dict[str, float | np.ndarray] = {
        f"{name}_per_class": quality[name] for name in ("pq", "sq", "rq")
    }
    is_thing = _things(things, len(iou), caller)
    parts = {"": np.ones(len(iou), bool), "_things": is_thing}
    parts["_stuff"] = ~is_thing & (things is not None)
    for part, chosen in parts.items():
        for name in ("pq", "sq", "rq"):
            mean = mean_of_defined(quality[name][chosen])
            scores[f"mean_{name}_dataset{part}"] = float(mean)
    return scores


def _things(things: Collection[int] | None, n_classes: int, caller: str) -> np.ndarray:
    is_thing = np.zeros(n_classes, bool)
    for k in () if things is None else things:
        if not _is_id(k) or k >= n_classes:
            raise ValueError(
                f"{caller}: things holds {k!r}, expected class ids from 0 to {n_classes - 1}."
            )
        is_thing[k] = True
    return is_thing


def _list_maps(maps: Any, name: str, caller: str) -> list[PanopticMap]:
    if isinstance(maps, PanopticMap):
        return [maps]
    try:
        maps = list(maps)
    except TypeError:
        maps = [maps]
    if not maps:
        raise ValueError(f"{caller}: {name} is empty: pass at least one PanopticMap.")
    for i, each in enumerate(maps):
        _check_map(each, f"{name}[{i}]", caller)
    return maps


def _check_map(each: Any, name: str, caller: str) -> None:
    if not isinstance(each, PanopticMap):
        raise TypeError(
            f"{caller}: {name} is a {type(each).__name__}: pass a PanopticMap of segment ids and "
            "their classes."
        )


def _count(prediction, truth, n_classes, names):
    prediction_name, truth_name, caller = names
    check_same_shape(prediction.segments, truth.segments, prediction_name, truth_name, caller)
    for each, name in ((prediction, prediction_name), (truth, truth_name)):
        highest = max(each.classes.values(), default=0)
        if highest >= n_classes:
            raise ValueError(
                f"{caller}: {name} holds the class {highest}, with {n_classes} classes ids end at "
                f"{n_classes - 1}: pass all classes."
            )
    # Void of the truth, -1, is a segment like the others here: its share of a prediction counts.
    table = tabulate(prediction.segments, truth.segments.astype(np.int64) + 1)
    ids, true_ids = table.label_ids, table.truth_ids - 1
    if (ids >= 0).sum() < len(prediction.classes):
        empty = sorted(set(prediction.classes) - set(ids.tolist()))[0]
        raise ValueError(
            f"{caller}: the segment {empty} of {prediction_name} has no pixel: leave it out."
        )
    classes, true_classes = (
        np.array([each.classes.get(i, -1) for i in found.tolist()], np.int64)
        for each, found in ((prediction, ids), (truth, true_ids))
    )
    is_crowd = np.array([i in truth.crowd for i in true_ids.tolist()], bool)
    rows, columns, shared = table.rows, table.columns, table.counts

    harmless = np.zeros(len(ids), np.int64)  # pixels of each prediction in void, then in crowds
    in_void = true_ids[columns] == -1
    harmless[rows[in_void]] = shared[in_void]
    union = table.label_sizes[rows] + table.truth_sizes[columns] - shared - harmless[rows]
    same = (classes[rows] == true_classes[columns]) & (classes[rows] >= 0)
    able = same & ~is_crowd[columns]
    iou = np.zeros(len(rows))
    iou[able] = shared[able] / union[able]
    hit = iou > 0.5

    counts = np.zeros((n_classes, 3), np.int64)
    matched_iou = np.zeros(n_classes)
    np.add.at(matched_iou, classes[rows[hit]], iou[hit])
    counts[:, 0] = np.bincount(classes[rows[hit]], minlength=n_classes)

    last_crowd = {truth.classes[i]: i for i in truth.classes if i in truth.crowd}
    counting = np.array([last_crowd.get(k, -1) for k in true_classes.tolist()]) == true_ids
    in_crowd = same & is_crowd[columns] & counting[columns]
    harmless[rows[in_crowd]] += shared[in_crowd]
    false = (classes >= 0) & (harmless / table.label_sizes <= 0.5)
    false[rows[hit]] = False
    counts[:, 1] = np.bincount(classes[false], minlength=n_classes)

    every = [k for i, k in truth.classes.items() if i not in truth.crowd]
    counts[:, 2] = np.bincount(np.array(every, np.int64), minlength=n_classes) - counts[:, 0]
    return counts, matched_iou
