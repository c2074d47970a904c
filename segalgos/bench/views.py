"""How unlike outputs meet in one table: an output is seen as another kind of truth.

===========  ==========  ==================================================================
output       seen as     how
===========  ==========  ==================================================================
any          partition   its regions: connected components of classes, objects
partition    semantic    each region gets its best true class: "oracle", an upper bound
semantic     instance    connected components of each class but the first (background)
contours     partition   a semantic method that learned where people drew contours:
                         basins between them
interactive  any         what the simulated user points at: classes where the data set has
                         them, else regions
===========  ==========  ==================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segalgos import metrics
from segalgos.datasets import Sample
from segalgos.results import Instances

__all__ = [
    "HEADLINES",
    "NOTES",
    "PROMPTED",
    "SUPERPIXEL_SCORES",
    "ViewScorer",
    "contour_labels",
    "partition_from_contours",
    "see_as",
    "truth_map",
]

#: The score that ranks methods in each view; higher is better.
HEADLINES = {
    "partition": "covering",
    "semantic": "mean_iou_dataset",
    "instance": "mean_matching_ap",
}

#: Scores of `segalgos.metrics.superpixel_scores` that stand beside those of regions.
SUPERPIXEL_SCORES = (
    "boundary_recall",
    "undersegmentation_error",
    "achievable_segmentation_accuracy",
    "explained_variation",
    "compactness",
)

#: What a reader must know of a view of an output: (task, view) -> note.
NOTES = {
    ("partition", "semantic"): "oracle",
    ("semantic", "partition"): "connected components",
    ("semantic", "instance"): "connected components",
    ("contours", "partition"): "basins between learned contours",
}

#: Note of methods that a simulated user prompted; see `segalgos.bench.user`.
PROMPTED = "one dab in each true region"

OBJECTS = 1 << 20  # objects are coded as class * OBJECTS + number: no image has more
MIN_BASIN = 20  # pixels; smaller dips of the contour probability are noise


def components(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Connected regions of equal label (4-neighbours), ids 0..n-1; -1 stays -1."""
    regions = np.full(labels.shape, -1, np.int32)
    n = 0
    for value in np.unique(labels[labels >= 0]):
        parts, n_parts = ndimage.label(labels == value)
        inside = parts > 0
        regions[inside] = parts[inside] - 1 + n
        n += n_parts
    return regions


def contour_labels(annotations: Sequence[NDArray[np.int32]]) -> NDArray[np.int32]:
    """Turn several people's partitions into labels to learn contours from.

    Parameters
    ----------
    annotations : sequence of (H, W) int
        One partition an annotator.

    Returns
    -------
    (H, W) int32
        1 where at least half drew a contour within a pixel, 0 where nobody did, -1
        (not learned from) between.
    """
    votes = np.zeros(annotations[0].shape)
    for regions in annotations:
        edge = np.zeros(regions.shape, bool)
        for axis in (0, 1):
            differs = np.diff(regions, axis=axis) != 0
            first = [slice(None), slice(None)]
            second = [slice(None), slice(None)]
            first[axis], second[axis] = slice(None, -1), slice(1, None)
            edge[tuple(first)] |= differs
            edge[tuple(second)] |= differs
        votes += edge
    share = votes / len(annotations)
    near = ndimage.maximum_filter(share, 3)
    return np.where(share >= 0.5, 1, np.where(near > 0, -1, 0)).astype(np.int32)


def partition_from_contours(
    probability: NDArray[np.float32], threshold: float
) -> NDArray[np.int32]:
    """Flood basins between contours.

    Parameters
    ----------
    probability : (H, W) float32
        Of a contour.
    threshold : float
        Basins start where the smoothed probability is below.

    Returns
    -------
    (H, W) int32
        Ids 0..n-1; the whole image if no basin is found.
    """
    from skimage.segmentation import watershed

    smooth = ndimage.gaussian_filter(probability, 1.0)
    basins, n = ndimage.label(smooth < threshold)
    areas = np.bincount(basins.ravel(), minlength=n + 1)
    areas[0] = 0
    basins[areas[basins] < MIN_BASIN] = 0
    if not basins.any():
        return np.zeros(probability.shape, np.int32)
    _, regions = np.unique(watershed(smooth, basins), return_inverse=True)
    return regions.reshape(probability.shape).astype(np.int32)


def see_as(
    view: str, output: NDArray[np.int32] | Instances, task: str, sample: Sample
) -> NDArray[np.int32] | None:
    """See an output as a label map of the view's kind.

    Parameters
    ----------
    view : {"partition", "semantic", "instance"}
    output : (H, W) int32 or Instances
    task : str
        What the output is; "contours" counts as a partition that has been made already.
    sample : Sample
        Its truth is used by the oracle only.

    Returns
    -------
    (H, W) int32 or None
        Regions, classes, or objects coded as ``class * OBJECTS + number`` with -1 for
        background. None if the output cannot be seen so.
    """
    if isinstance(output, Instances):
        painted = output.to_labels()
        if view == "partition":
            return components(painted)
        if view == "semantic":
            return np.append(0, output.classes).astype(np.int32)[painted]
        return np.where(painted > 0, np.append(0, output.classes)[painted] * OBJECTS + painted, -1)
    if view == "partition":
        return components(output) if task == "semantic" else output
    if view == "semantic":
        if task == "partition":
            return metrics.best_class_labels(output, sample.labels).astype(np.int32)
        return output
    if task != "semantic":
        return None
    objects = components(np.where(output > 0, output, -1))
    return np.where(objects >= 0, output * OBJECTS + objects, -1)


def truth_map(view: str, sample: Sample) -> NDArray[np.int32]:
    """The truth of a view as one label map, for pictures and for matching.

    Parameters
    ----------
    view : str
    sample : Sample

    Returns
    -------
    (H, W) int32
        The first annotator's regions, the classes, or objects coded as in `see_as`.
    """
    if view == "partition":
        return np.asarray(sample.annotations[0], np.int32)
    if view == "semantic":
        return np.asarray(sample.labels, np.int32)
    return see_as("instance", sample.instances, "instance", sample)


class ViewScorer:
    """Add up the scores of one method in one view, image by image.

    Parameters
    ----------
    view : {"partition", "semantic", "instance"}
    n_classes : int
        For the semantic view.
    """

    def __init__(self, view: str, n_classes: int):
        self.view = view
        self.n_classes = n_classes
        self._parts: list[Any] = []

    def add(self, prediction: NDArray[np.int32], sample: Sample) -> None:
        """Score one image.

        Parameters
        ----------
        prediction : (H, W) int32
            What `see_as` gave.
        sample : Sample
        """
        if self.view == "partition":
            truths = list(sample.annotations)
            as_superpixels = metrics.superpixel_scores(prediction, truths, sample.image)
            as_superpixels = {name: as_superpixels[name] for name in SUPERPIXEL_SCORES}
            self._parts.append(metrics.region_scores(prediction, truths) | as_superpixels)
        elif self.view == "semantic":
            self._parts.append(metrics.semantic_counts(prediction, sample.labels, self.n_classes))
        else:
            self._parts.append(_match_by_class(prediction, truth_map("instance", sample)))

    def headline(self) -> float:
        """The score that ranks methods, over the images added so far.

        Returns
        -------
        float
        """
        return self.result()["scores"][HEADLINES[self.view]]

    def result(self) -> dict[str, Any]:
        """Give scores in total and per image, as plain numbers.

        Returns
        -------
        dict
            ``headline``, ``scores`` and ``images``.
        """
        if self.view == "partition":
            images = {name: [part[name] for part in self._parts] for name in self._parts[0]}
            scores = {name: _mean_of_defined(values) for name, values in images.items()}
        elif self.view == "semantic":
            counts = np.stack(self._parts)
            scores = metrics.semantic_scores_from_counts(counts)
            single = [metrics.semantic_scores_from_counts(c[None]) for c in counts]
            images = {
                "mean_iou_images": [s["mean_iou_images"] for s in single],
                "counts": counts.tolist(),
            }
        else:
            counts = np.stack([part[0] for part in self._parts])
            ious = np.stack([part[1] for part in self._parts])
            scores = metrics.instance_scores_from_counts(counts, ious)
            single = [
                metrics.instance_scores_from_counts(c[None], i[None])
                for c, i in zip(counts, ious, strict=True)
            ]
            images = {
                "mean_matching_ap": [s["mean_matching_ap"] for s in single],
                "counts": counts.tolist(),
            }
        return {
            "headline": HEADLINES[self.view],
            "scores": {k: np.asarray(v).tolist() for k, v in scores.items()},
            "images": {k: np.asarray(v).tolist() for k, v in images.items()},
        }


def _mean_of_defined(values: list[float]) -> float:
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else np.nan


def _match_by_class(
    prediction: NDArray[np.int64], truth: NDArray[np.int64]
) -> tuple[NDArray, NDArray]:
    """Matches within each class, added up over the classes."""
    total = None
    classes = np.union1d(np.unique(prediction // OBJECTS), np.unique(truth // OBJECTS))
    for value in classes[classes >= 0] if (classes >= 0).any() else [0]:
        found = [
            np.where(coded // OBJECTS == value, coded % OBJECTS + 1, 0)
            for coded in (prediction, truth)
        ]
        part = metrics.instance_counts(*found)
        total = part if total is None else tuple(a + b for a, b in zip(total, part, strict=True))
    return total
