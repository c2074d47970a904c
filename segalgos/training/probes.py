"""Probes: how much of the classes frozen features tell, without training an encoder further.

They know no architecture: features are any function of an image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from skimage.transform import resize
from sklearn.linear_model import LogisticRegression
from sklearn.utils import check_random_state

from segalgos import checks
from segalgos.metrics.semantic import semantic_scores

__all__ = ["kmeans_probe", "linear_probe"]

Features = Callable[[NDArray], ArrayLike]
# Iterations of the solver; probes compare features, and need no last digit.
MAX_ITER = 200


def linear_probe(
    features: Features,
    images: Sequence[ArrayLike],
    labels: Sequence[ArrayLike],
    test_images: Sequence[ArrayLike],
    test_labels: Sequence[ArrayLike],
    *,
    n_samples: int = 20_000,
    regularization: float = 1.0,
    channel_axis: int | str | None = "auto",
    random_state: int | np.random.RandomState | None = None,
) -> dict[str, float | NDArray]:
    """Score features by a linear classifier on them.

    Parameters
    ----------
    features : callable
        ``features(image)`` gives (H, W, F) for an image (H, W, C) float32, or coarser maps
        (h, w, F) that span it, such as ``EncoderFeatures(...).coarse``.
    images : sequence of (H, W) or (H, W, C) array_like
        To learn from.
    labels : sequence of (H, W) int array_like
        Classes 0..K-1, -1 where unknown.
    test_images : sequence of (H, W) or (H, W, C) array_like
        To score.
    test_labels : sequence of (H, W) int array_like
    n_samples : int, default=20000
        Cells to learn from; of more, so many are drawn at random.
    regularization : float, default=1.0
        Inverse of `C` of `sklearn.linear_model.LogisticRegression`, times the number of cells
        over 1000: the same for any number of them.
    channel_axis : int, None or "auto", default="auto"
    random_state : int, RandomState or None, default=None

    Returns
    -------
    dict
        What `segalgos.metrics.semantic_scores` gives for the test images: among others
        "mean_iou_dataset" and "iou_per_class".

    Raises
    ------
    TypeError, ValueError
        If images, labels or features are not as expected.

    Notes
    -----
    A cell learns the label of the pixel in its middle. Features are standardised. Scores of the
    classes are interpolated from cells to pixels, where the class with the largest one is
    chosen.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos.training import linear_probe
    >>> image = np.zeros((8, 8)); image[:, 4:] = 1
    >>> labels = image.astype(int)
    >>> scores = linear_probe(lambda image: image, [image], [labels], [image], [labels])
    >>> scores["mean_iou_dataset"]
    1.0
    """
    caller = "linear_probe"
    checks.check_int(caller, "n_samples", n_samples, low=1)
    checks.check_real(caller, "regularization", regularization, above=0)
    rng = check_random_state(random_state)
    data = _pairs(caller, "images", images, labels, channel_axis)
    tested = _pairs(caller, "test_images", test_images, test_labels, channel_axis)
    rows, classes = [], []
    for i, (image, label) in enumerate(data):
        found = _features_of(caller, features, image, f"images[{i}]")
        target = _at_cells(label, found.shape[:2])
        rows.append(found[target >= 0])
        classes.append(target[target >= 0])
    rows, classes = np.concatenate(rows), np.concatenate(classes)
    if len(np.unique(classes)) < 2:
        raise ValueError(
            f"{caller}: labels has {len(np.unique(classes))} classes at the middles of cells, "
            "expected 2 or more: label more of the images."
        )
    if len(rows) > n_samples:
        chosen = rng.choice(len(rows), n_samples, replace=False)
        rows, classes = rows[chosen], classes[chosen]
    mean, std = rows.mean(axis=0), rows.std(axis=0)
    std = np.where(std > 0, std, 1)
    strength = 1000 / (regularization * len(rows))
    model = LogisticRegression(C=strength, max_iter=MAX_ITER, tol=1e-3)
    model.fit((rows - mean) / std, classes)
    n_classes = _n_classes(data, tested)
    predictions = []
    for i, (image, label) in enumerate(tested):
        found = (_features_of(caller, features, image, f"test_images[{i}]") - mean) / std
        scores = model.decision_function(found.reshape(-1, found.shape[-1]))
        if scores.ndim == 1:  # of two classes it gives one score
            scores = np.stack([-scores, scores], axis=-1)
        scores = _enlarged(scores.reshape(*found.shape[:2], -1), label.shape)
        predictions.append(model.classes_[scores.argmax(axis=-1)].astype(np.int32))
    return semantic_scores(predictions, [label for _, label in tested], n_classes)


def kmeans_probe(
    features: Features,
    images: Sequence[ArrayLike],
    labels: Sequence[ArrayLike],
    *,
    n_clusters: int | None = None,
    n_samples: int = 20_000,
    channel_axis: int | str | None = "auto",
    random_state: int | np.random.RandomState | None = None,
) -> dict[str, float | NDArray]:
    """Score features by clusters that are found without labels, and then named by them.

    Parameters
    ----------
    features : callable
        As in `linear_probe`.
    images : sequence of (H, W) or (H, W, C) array_like
        To cluster and to score.
    labels : sequence of (H, W) int array_like
        Classes 0..K-1, -1 where unknown.
    n_clusters : int, optional
        As many as there are classes if None.
    n_samples : int, default=20000
        Cells that the centres come from; of more, so many are drawn at random.
    channel_axis : int, None or "auto", default="auto"
    random_state : int, RandomState or None, default=None

    Returns
    -------
    dict
        What `segalgos.metrics.semantic_scores` gives: among others "mean_iou_dataset".

    Raises
    ------
    TypeError, ValueError
        If images, labels or features are not as expected.

    Notes
    -----
    k-means of standardised features, each cell brought to length 1 after that. Each class gets
    one cluster, so that the sum of their IoU is as large as can be (the Hungarian method);
    pixels of clusters that no class got count as misses. Labels choose the names, so the score
    is an upper bound of what clusters alone tell.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos.training import kmeans_probe
    >>> image = np.zeros((8, 8)); image[:, 4:] = 1
    >>> kmeans_probe(lambda image: image, [image], [1 - image.astype(int)])["mean_iou_dataset"]
    1.0
    """
    from segalgos import KMeansSegmenter

    caller = "kmeans_probe"
    checks.check_int(caller, "n_samples", n_samples, low=1)
    if n_clusters is not None:
        checks.check_int(caller, "n_clusters", n_clusters, low=1)
    rng = check_random_state(random_state)
    data = _pairs(caller, "images", images, labels, channel_axis)
    n_classes = _n_classes(data)
    maps = [
        _features_of(caller, features, image, f"images[{i}]") for i, (image, _) in enumerate(data)
    ]
    rows = np.concatenate([found.reshape(-1, found.shape[-1]) for found in maps])
    mean, std = rows.mean(axis=0), rows.std(axis=0)
    std = np.where(std > 0, std, 1)
    if len(rows) > n_samples:
        rows = rows[rng.choice(len(rows), n_samples, replace=False)]
    kmeans = KMeansSegmenter(n_clusters or n_classes, channel_axis=-1, random_state=rng)
    kmeans.fit(_unit_length((rows - mean) / std)[None])
    clusters = []
    for found, (_, label) in zip(maps, data, strict=True):
        coarse = kmeans.predict(_unit_length((found - mean) / std))
        rows_, columns = (
            np.arange(n) * cells // n for n, cells in zip(label.shape, coarse.shape, strict=True)
        )
        clusters.append(coarse[rows_[:, None], columns])
    overlap = np.zeros((n_clusters or n_classes, n_classes), np.int64)
    for cluster, (_, label) in zip(clusters, data, strict=True):
        known = label >= 0
        np.add.at(overlap, (cluster[known], label[known]), 1)
    union = overlap.sum(axis=1, keepdims=True) + overlap.sum(axis=0) - overlap
    of_cluster, of_class = linear_sum_assignment(overlap / np.maximum(union, 1), maximize=True)
    names = np.full(len(overlap), -1, np.int32)
    names[of_cluster] = of_class
    predictions = [names[cluster] for cluster in clusters]
    return semantic_scores(predictions, [label for _, label in data], n_classes)


def _pairs(
    caller: str, name: str, images: Any, labels: Any, channel_axis: Any
) -> list[tuple[NDArray, NDArray[np.int32]]]:
    """Checked images, each with its label map."""
    if len(images) != len(labels) or len(images) == 0:
        raise ValueError(
            f"{caller}: {name} holds {len(images)} images and their labels {len(labels)} maps, "
            "expected one map for each image, and one image at least."
        )
    pairs = []
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        clean = checks.check_image(image, caller, channel_axis=channel_axis, name=f"{name}[{i}]")
        label = np.asarray(label)
        if label.shape != clean.shape[:2] or label.dtype.kind not in "iu":
            raise ValueError(
                f"{caller}: the labels of {name}[{i}] are {label.dtype} of shape {label.shape}, "
                f"expected integers of shape {clean.shape[:2]}."
            )
        pairs.append((clean, label.astype(np.int32)))
    return pairs


def _n_classes(*parts: list[tuple[NDArray, NDArray[np.int32]]]) -> int:
    return max(1, 1 + max(int(label.max()) for part in parts for _, label in part))


def _features_of(caller: str, features: Features, image: NDArray, name: str) -> NDArray:
    found = np.asarray(features(image), np.float64)
    if found.ndim != 3 or 0 in found.shape or not np.isfinite(found).all():
        raise ValueError(
            f"{caller}: features gave an array of shape {found.shape} for {name}, expected finite "
            "numbers of shape (h, w, F)."
        )
    return found


def _at_cells(label: NDArray[np.int32], size: tuple[int, int]) -> NDArray[np.int32]:
    """Labels of the pixels in the middles of cells."""
    rows, columns = (
        ((np.arange(cells) + 0.5) * n / cells).astype(int)
        for n, cells in zip(label.shape, size, strict=True)
    )
    return label[rows[:, None], columns]


def _enlarged(scores: NDArray, size: tuple[int, int]) -> NDArray:
    """Interpolate scores (h, w, K) to the pixels."""
    if scores.shape[:2] == tuple(size):
        return scores
    return resize(scores, (*size, scores.shape[-1]), order=1, mode="edge", anti_aliasing=False)


def _unit_length(rows: NDArray) -> NDArray:
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)
