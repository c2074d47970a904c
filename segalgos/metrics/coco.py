"""COCO's average precision and recall, equal to its evaluation code [1]_.

References
----------
.. [1] T.-Y. Lin et al., "Microsoft COCO: common objects in context", ECCV 2014,
   arXiv:1405.0312; rules as in the code at cocodataset.org.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from segalgos import rle
from segalgos._rle_kernels import areas_of, boxes_of, mask_iou, rims_of
from segalgos.metrics.outlines import DILATION, rim_widths
from segalgos.parallel import map_items, map_strips

__all__ = ["coco_average_precision"]

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
MOST_DETECTIONS = (1, 10, 100)
#: Areas in pixels of what counts: everything, small, medium, large.
AREAS = np.array([[0, 1e10], [0, 32**2], [32**2, 96**2], [96**2, 1e10]])

# Images and categories that one thread matches at a time.
GROUPS_OF_A_STRIP = 512


class _Objects(NamedTuple):
    """Annotations or detections, by category and image, in the order they were given in."""

    starts: NDArray[np.int64]  # (n_categories * n_images + 1,): where each group begins
    scores: NDArray[np.float64]
    areas: NDArray[np.float64]
    crowd: NDArray[np.bool_]
    boxes: NDArray[np.float64]  # (n, 4): x, y, width, height
    masks: tuple  # counts, starts, boxes and areas of run lengths
    rims: tuple  # as of masks; without any run where they are not compared


def coco_average_precision(
    truth: Mapping[str, Any], detections: Sequence[Mapping[str, Any]], *, iou_type: str = "segm"
) -> dict[str, Any]:
    """Compute COCO's 12 numbers for instances found in images.

    Parameters
    ----------
    truth : dict
        A COCO data set: "images" with "id", "height" and "width"; "categories" with "id";
        "annotations" with "image_id", "category_id", "iscrowd" and "segmentation" (run lengths or
        polygons) or "bbox" (x, y, width, height). "area" decides what is small; if left out, it
        is that of the mask or box.
    detections : sequence of dict
        "image_id", "category_id", "score", and "segmentation" or "bbox". Those of categories that
        the data set does not have are left out.
    iou_type : {"segm", "bbox", "boundary"}, default="segm"
        Compare masks, boxes, or masks and their boundaries: the IoU of two objects is then that of
        their masks or, if it is less, that of their boundaries (`boundary_iou`), which is called
        Boundary AP [2]_. With a crowd only masks are compared.

    Returns
    -------
    dict
        Floats from 0 to 1, NaN where there is nothing to find:

        - "AP": mean of the average precision over IoU thresholds .5, .55, ..., .95 and categories;
          "AP50", "AP75": at one threshold; "AP_small", "AP_medium", "AP_large": of objects below
          32 x 32 pixels, between, and above 96 x 96;
        - "AR1", "AR10", "AR100": mean recall over thresholds and categories with so many detections
          an image and category; "AR_small", "AR_medium", "AR_large": with 100.

        And "categories", (K,) int64 ids, with "AP_per_category", (K,) float64.

    Raises
    ------
    ValueError
        If an entry is missing or damaged, or a detection is of an image that the data set does not
        have; names which one.

    Notes
    -----
    Precision is read at 101 levels of recall, made monotonic before. At most 100 detections an
    image and category count, those of the highest score. A detection takes the free object of the
    highest IoU; one in a crowd, or whose object is ignored, counts neither for nor against. Where
    detections have boxes, "area" of a detection is that of its box, also when masks are compared.

    The same as pycocotools, up to the order of sums; also in that precision is divided by a
    number 2e-16 too large, so that a perfect answer has 1 - 2e-16. It leaves out annotations
    whose id is 0, since it takes 0 for "not found"; here ids mean nothing.

    O(n log n) for n objects, and the IoU of each pair of one image and category.

    References
    ----------
    .. [1] T.-Y. Lin et al., "Microsoft COCO: common objects in context", ECCV 2014,
       arXiv:1405.0312.
    .. [2] B. Cheng, R. Girshick, P. Dollar, A. C. Berg and A. Kirillov, "Boundary IoU: improving
       object-centric image segmentation evaluation", CVPR 2021; rules as in its evaluation code.

    Examples
    --------
    >>> from segalgos.metrics.coco import coco_average_precision
    >>> box = {"image_id": 1, "category_id": 1, "bbox": [2, 2, 10, 10]}
    >>> truth = {"images": [{"id": 1, "height": 20, "width": 20}], "categories": [{"id": 1}],
    ...          "annotations": [box]}
    >>> round(coco_average_precision(truth, [box | {"score": 0.9}], iou_type="bbox")["AP"], 6)
    1.0
    """
    caller = "coco_average_precision"
    if iou_type not in ("segm", "bbox", "boundary"):
        raise ValueError(
            f"{caller}: iou_type is {iou_type!r}, expected 'segm', 'bbox' or 'boundary'."
        )
    for key in ("images", "annotations", "categories"):
        if not isinstance(truth, Mapping) or not isinstance(truth.get(key), Sequence):
            raise ValueError(f"{caller}: truth has no list {key!r}: pass a COCO data set.")
    sizes = _sizes_of_images(truth["images"], caller)
    image_places = {image: i for i, image in enumerate(sorted(sizes))}
    ids = [_get(c, "id", f"{caller}: truth['categories'][{i}]") for i, c in
           enumerate(truth["categories"])]  # fmt: skip
    categories = sorted(set(ids))
    places = ({category: i for i, category in enumerate(categories)}, image_places)

    annotations = [a for a in truth["annotations"] if isinstance(a, dict | Mapping)]
    if len(annotations) < len(truth["annotations"]):
        raise ValueError(f"{caller}: truth['annotations'] holds something that is no dict.")
    annotations = [a for a in annotations if a.get("image_id") in sizes]
    found = list(detections)
    for i, image in enumerate(_column(found, "image_id", f"{caller}: detections")):
        if image not in sizes:
            raise ValueError(
                f"{caller}: detections[{i}] is of image {image!r}, which the truth does not have."
            )
    objects = [
        _gather(annotations, sizes, places, iou_type, f"{caller}: truth['annotations']", False),
        _gather(found, sizes, places, iou_type, f"{caller}: detections", True),
    ]
    precision, recall = _evaluate(*objects, len(categories), len(sizes), iou_type)
    return _summarize(precision, recall) | {
        "categories": np.array(categories, np.int64) if categories else np.empty(0, np.int64),
        "AP_per_category": np.array([_mean(precision[0, k]) for k in range(len(categories))]),
    }


# --- from dicts to arrays --------------------------------------------------------------------


def _get(entry: Any, key: str, where: str) -> Any:
    if not isinstance(entry, Mapping) or key not in entry:
        raise ValueError(f"{where} has no {key!r}.")
    return entry[key]


def _column(
    entries: Sequence, key: str, what: str, places: Sequence[int] | None = None
) -> list[Any]:
    """A value of each entry; if one has none, which is named, by its place."""
    try:
        return [entry[key] for entry in entries]
    except (KeyError, TypeError, IndexError):
        places = range(len(entries)) if places is None else places
        return [_get(entry, key, f"{what}[{i}]") for i, entry in zip(places, entries)]


def _sizes_of_images(images: Sequence, caller: str) -> dict[Any, tuple[int, int]]:
    sizes = {}
    for i, image in enumerate(images):
        where = f"{caller}: truth['images'][{i}]"
        size = _get(image, "height", where), _get(image, "width", where)
        if not all(isinstance(n, Integral) and n >= 0 for n in size):
            raise ValueError(f"{where} has the size {size}, expected integers.")
        sizes[_get(image, "id", where)] = size
    return sizes


def _gather(
    entries: Sequence[Mapping],
    sizes: dict[Any, tuple[int, int]],
    places: tuple[dict, dict],
    iou_type: str,
    what: str,
    are_found: bool,
) -> _Objects:
    """Put objects in order, and their numbers in arrays."""
    category_places, image_places = places
    groups, kept = [], []
    for i, name in enumerate(_column(entries, "category_id", what)):
        category = category_places.get(name)
        if category is not None:
            groups.append(category * len(image_places) + image_places[entries[i]["image_id"]])
            kept.append(i)
    order = np.argsort(np.array(groups, np.int64), kind="stable")
    n_groups = len(category_places) * len(image_places)
    starts = np.zeros(n_groups + 1, np.int64)
    np.cumsum(
        np.bincount(groups, minlength=n_groups) if groups else np.zeros(n_groups), out=starts[1:]
    )

    # Boxes stand for everything that has one, as in the evaluation code: its areas are theirs.
    have_boxes = bool(entries) and bool(entries[0].get("bbox"))
    places_in = [kept[k] for k in order]
    chosen = [entries[i] for i in places_in]
    need_masks = iou_type != "bbox" or (are_found and not have_boxes)
    masks = _masks(chosen, places_in, sizes, what, need_masks)
    rims = _rims(masks, chosen if iou_type == "boundary" else [], sizes)
    mask_boxes, mask_areas = masks[2:]

    def numbers(key: str, n: int | None = None) -> NDArray[np.float64]:
        return _numbers(_column(chosen, key, what, places_in), n, places_in, what, key)

    if all(e.get("bbox") for e in chosen):
        boxes = numbers("bbox", 4)
    elif need_masks:
        top, left, bottom, right = mask_boxes.T.astype(np.float64)
        boxes = np.column_stack([left, top, right - left, bottom - top])
        with_box = [k for k, e in enumerate(chosen) if e.get("bbox")]
        boxes[with_box] = _numbers([chosen[k]["bbox"] for k in with_box], 4,
                                   [places_in[k] for k in with_box], what, "bbox")  # fmt: skip
    else:
        i = next(i for i, e in zip(places_in, chosen) if not e.get("bbox"))
        raise ValueError(f"{what}[{i}] has no 'bbox'.")
    box_areas = boxes[:, 2] * boxes[:, 3]
    if are_found:
        scores, areas = numbers("score"), box_areas if have_boxes else mask_areas.astype(float)
    else:
        scores, areas = np.zeros(len(chosen)), box_areas
        if need_masks:
            areas = mask_areas.astype(np.float64)
        with_area = [k for k, e in enumerate(chosen) if "area" in e]
        areas[with_area] = _numbers([chosen[k]["area"] for k in with_area], None,
                                    [places_in[k] for k in with_area], what, "area")  # fmt: skip
    crowd = np.array([not are_found and bool(e.get("iscrowd")) for e in chosen], bool)
    return _Objects(starts, scores, areas, crowd, boxes, masks, rims)


def _numbers(
    values: list, n: int | None, places: Sequence[int], what: str, key: str
) -> NDArray[np.float64]:
    """(N,) or (N, n) finite numbers, all at once; if that fails, who is to blame is named."""
    shape = () if n is None else (n,)
    try:
        array = np.array(values, np.float64).reshape(-1, *shape)
        if len(array) == len(values) and np.isfinite(array).all():
            return array
    except (ValueError, TypeError, OverflowError):
        pass
    for i, value in zip(places, values):
        try:
            one = np.asarray(value, np.float64)
        except (ValueError, TypeError, OverflowError):
            one = np.array(np.nan)
        if one.shape != shape or not np.isfinite(one).all():
            expected = "a finite number" if n is None else f"{n} finite numbers"
            raise ValueError(f"{what}[{i}][{key!r}] is {value!r}, expected {expected}.")
    raise ValueError(f"{what}: {key!r} cannot be read as numbers.")


def _masks(
    chosen: Sequence[Mapping], places: Sequence[int], sizes: dict, what: str, needed: bool
) -> tuple:
    """Runs of all objects, whose images may differ in size, with their boxes and areas."""
    if not needed:
        chosen, places = [], []
    segmentations = []
    for i, entry in zip(places, chosen):
        segmentation = entry.get("segmentation")
        if segmentation is None:
            box = _get(entry, "bbox", f"{what}[{i}], which has no 'segmentation',")
            ((x, y, width, height),) = _numbers([box], 4, [i], what, "bbox")
            right, bottom = x + width, y + height
            segmentation = [[x, y, x, bottom, right, bottom, right, y]]
        segmentations.append(segmentation)
    shapes = [sizes[entry["image_id"]] for entry in chosen]
    try:
        counts, starts = rle.gather(segmentations, shapes)
    except ValueError as error:
        number, _, rest = str(error).removeprefix("[").partition("]")
        raise ValueError(f"{what}[{places[int(number)]}]{rest}") from error
    heights = np.array([max(1, height) for height, _ in shapes], np.int64)
    runs = rle.Runs((0, 0), counts, starts)
    return counts, starts, boxes_of(counts, starts, heights), rle.areas(runs)


def _rims(masks: tuple, chosen: Sequence[Mapping], sizes: dict) -> tuple:
    """Runs of the boundaries of those objects, with boxes and areas, as of `masks`."""
    if not chosen:
        empty = np.empty(0, np.int64)
        return empty, np.zeros(1, np.int64), np.empty((0, 4), np.int64), empty
    counts, starts, boxes, _ = masks
    shapes = np.array([sizes[entry["image_id"]] for entry in chosen], np.int64)
    widths = rim_widths(shapes, DILATION)
    rims, rim_starts = rims_of(counts, starts, boxes, np.maximum(shapes[:, 0], 1), widths)
    return rims, rim_starts, boxes, areas_of(rims, rim_starts)  # a mask and its rim share a box


# --- matching --------------------------------------------------------------------------------


def _evaluate(
    truth: _Objects, found: _Objects, n_categories: int, n_images: int, iou_type: str
) -> tuple[NDArray, NDArray]:
    """Precision (4 areas, K, 10, 101), and recall (6, K, 10); -1 where there is nothing to find."""
    n_found = len(found.scores)
    shape = (len(AREAS), len(IOU_THRESHOLDS), n_found)
    hit, ignored = np.zeros(shape, bool), np.zeros(shape, bool)
    ranks = np.empty(n_found, np.int64)
    n_true = np.zeros((len(AREAS), n_categories * n_images), np.int64)

    kind = ("bbox", "segm", "boundary").index(iou_type)

    def match(first: int, last: int) -> None:
        _match_groups(
            truth, found, kind, IOU_THRESHOLDS, AREAS, first, last, hit, ignored, ranks, n_true
        )

    map_strips(match, n_categories * n_images, GROUPS_OF_A_STRIP)

    n_levels = len(RECALLS)
    precision = np.full((len(AREAS), n_categories, len(IOU_THRESHOLDS), n_levels), -1.0)
    recall = np.full((len(AREAS) + 2, n_categories, len(IOU_THRESHOLDS)), -1.0)

    def accumulate(k: int) -> None:
        groups = slice(k * n_images, (k + 1) * n_images)
        begin, end = found.starts[groups.start], found.starts[groups.stop]
        rank = ranks[begin:end]
        place = np.lexsort((rank, _group_of(found.starts[groups.start : groups.stop + 1])))
        place = place[rank[place] < MOST_DETECTIONS[-1]]
        place = place[np.argsort(-found.scores[begin + place], kind="stable")]
        for a in range(len(AREAS)):
            limits = MOST_DETECTIONS[::-1] if a == 0 else MOST_DETECTIONS[-1:]
            for m, limit in enumerate(limits):
                few = begin + place[rank[place] < limit]
                curve = _curve(hit[a][:, few], ignored[a][:, few], n_true[a, groups].sum(), RECALLS)
                if m == 0:
                    precision[a, k], recall[a, k] = curve
                else:
                    recall[len(AREAS) + m - 1, k] = curve[1]

    map_items(accumulate, range(n_categories))
    return precision, recall


def _group_of(starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Group of each object of consecutive groups."""
    return np.repeat(np.arange(len(starts) - 1), np.diff(starts))


def _summarize(precision: NDArray, recall: NDArray) -> dict[str, float]:
    """The 12 numbers."""
    everything, small, medium, large = precision
    scores = {
        "AP": everything,
        "AP50": everything[:, 0],
        "AP75": everything[:, 5],
        "AP_small": small,
        "AP_medium": medium,
        "AP_large": large,
        "AR1": recall[5],
        "AR10": recall[4],
        "AR100": recall[0],
        "AR_small": recall[1],
        "AR_medium": recall[2],
        "AR_large": recall[3],
    }
    return {name: _mean(values) for name, values in scores.items()}


def _mean(values: NDArray) -> float:
    known = values[values > -1]
    return float(known.mean()) if known.size else float("nan")


@njit(nogil=True, cache=True)
def _match_groups(truth, found, kind, thresholds, ranges, first, last, hit, ignored, ranks, n_true):
    """Match the detections of some groups with their objects, for all areas and thresholds."""
    for group in range(first, last):
        g0, g1 = truth.starts[group], truth.starts[group + 1]
        d0, d1 = found.starts[group], found.starts[group + 1]
        order = d0 + np.argsort(-found.scores[d0:d1], kind="mergesort")
        for rank in range(len(order)):
            ranks[order[rank]] = rank
        order = order[:100]
        crowd = truth.crowd[g0:g1]
        if kind:
            ious = _mask_overlaps(truth, found, order, g0, g1, kind == 2)
        else:
            ious = _box_overlaps(truth.boxes[g0:g1], found.boxes[order], crowd)
        for a in range(len(ranges)):
            low, high = ranges[a]
            areas = truth.areas[g0:g1]
            without = crowd | (areas < low) | (areas > high)
            n_true[a, group] = len(without) - without.sum()
            sequence = np.argsort(
                without.astype(np.int8), kind="mergesort"
            )  # those that count come first
            for t in range(len(thresholds)):
                taken = np.zeros(g1 - g0, np.bool_)
                for rank in range(len(order)):
                    d = order[rank]
                    best, least = -1, min(thresholds[t], 1 - 1e-10)
                    for g in sequence:
                        if taken[g] and not crowd[g]:
                            continue
                        if best >= 0 and not without[best] and without[g]:
                            break
                        if ious[rank, g] >= least:
                            best, least = g, ious[rank, g]
                    if best >= 0:
                        taken[best] = True
                        hit[a, t, d] = True
                        ignored[a, t, d] = without[best]
                    else:
                        ignored[a, t, d] = found.areas[d] < low or found.areas[d] > high


@njit(nogil=True, cache=True)
def _mask_overlaps(truth, found, order, g0, g1, with_rims):
    ious = np.zeros((len(order), g1 - g0))
    for rank in range(len(order)):
        for g in range(g0, g1):
            iou = mask_iou(found.masks, order[rank], truth.masks, g, truth.crowd[g])
            if with_rims and iou > 0 and not truth.crowd[g]:
                iou = min(iou, mask_iou(found.rims, order[rank], truth.rims, g, False))
            ious[rank, g - g0] = iou
    return ious


@njit(nogil=True, cache=True)
def _box_overlaps(boxes, found, crowd):
    ious = np.zeros((len(found), len(boxes)))
    for d in range(len(found)):
        x, y, w, h = found[d]
        for g in range(len(boxes)):
            bx, by, bw, bh = boxes[g]
            width = min(w + x, bw + bx) - max(x, bx)
            height = min(h + y, bh + by) - max(y, by)
            if width > 0 and height > 0:
                both = width * height
                ious[d, g] = both / (w * h if crowd[g] else w * h + bw * bh - both)
    return ious


@njit(nogil=True, cache=True)
def _curve(hit, ignored, n_true, levels):
    """Precision (10, 101) at levels of recall, and the largest recall (10,)."""
    n_thresholds, n = hit.shape
    precision = np.full((n_thresholds, len(levels)), -1.0)
    recall = np.full(n_thresholds, -1.0)
    if n_true == 0:
        return precision, recall
    for t in range(n_thresholds):
        recalls, precisions = np.empty(n), np.empty(n)
        right = wrong = 0.0
        for d in range(n):
            if not ignored[t, d]:
                if hit[t, d]:
                    right += 1
                else:
                    wrong += 1
            recalls[d] = right / n_true
            precisions[d] = right / (wrong + right + np.spacing(1.0))
        recall[t] = recalls[n - 1] if n else 0.0
        for d in range(n - 2, -1, -1):
            precisions[d] = max(precisions[d], precisions[d + 1])
        places = np.searchsorted(recalls, levels)
        for level in range(len(levels)):
            precision[t, level] = precisions[places[level]] if places[level] < n else 0.0
    return precision, recall
