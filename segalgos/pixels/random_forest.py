"""Pixels classified by a random forest on filter responses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from segalgos.base import SemanticSegmenter, Traits
from segalgos.checks import check_class_weight, check_int
from segalgos.pixels.features import check_scales, compute_features, feature_names, halo
from segalgos.pixels.forest import RandomForest

__all__ = ["RandomForestSegmenter"]

BLOCK_PIXELS = 1 << 18  # features of one block stay near 50 MB


class RandomForestSegmenter(SemanticSegmenter):
    """Classify every pixel by a random forest on multi-scale filter responses.

    Learns from dense label maps or from scribbles (-1 where nothing was drawn), on one
    image or many.

    Parameters
    ----------
    n_estimators : int, default=50
        Trees.
    scales : sequence of float, default=(1, 2, 4, 8)
        Standard deviations of the filters, in pixels: about the half widths of what
        tells classes apart.
    max_depth : int, optional
        Without it trees grow until leaves are pure.
    min_samples_leaf : int, default=1
        More makes probabilities smoother and models smaller.
    max_samples : int, default=25000
        Labelled pixels to learn from; of more, so many are drawn at random.
    class_weight : dict, "balanced" or None, default=None
        "balanced" helps rare classes at the cost of common ones.
    channel_axis : int, None or "auto", default="auto"
        None for volumes (D, H, W), -1 for many channels.
    random_state : int, RandomState instance or None, default=None

    Attributes
    ----------
    classes_ : (K,) int32
    feature_names_ : list of str
    feature_importances_ : (F,) float64
        Mean decrease in impurity.
    forest_ : RandomForest

    See Also
    --------
    segalgos.pixel_features : The features.

    Notes
    -----
    Prediction takes O(pixels * (features + n_estimators * depth)) time. It works on
    blocks of rows with the exact margin that filters need, so memory stays bounded and
    labels do not depend on the blocks.

    References
    ----------
    .. [1] L. Breiman, "Random forests", Machine Learning 45, 2001.
    .. [2] S. Berg et al., "ilastik: interactive machine learning for (bio)image
       analysis", Nature Methods 16, 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos import RandomForestSegmenter
    >>> image = np.zeros((20, 20)); image[:, 10:] = 1
    >>> scribbles = np.full((20, 20), -1); scribbles[5, :3] = 0; scribbles[5, -3:] = 1
    >>> segmenter = RandomForestSegmenter(10, scales=[1], random_state=0)
    >>> int(segmenter.fit(image, scribbles).predict(image).sum())
    200
    """

    traits = Traits(
        task="semantic",
        family="pixels",
        year=2001,
        needs_fit=True,
        needs_labels=True,
        takes_sample_weight=True,
        ndims=(2, 3),
        deterministic=False,
        keeps_uint8=True,
    )

    def __init__(
        self,
        n_estimators: int = 50,
        *,
        scales: Sequence[float] = (1, 2, 4, 8),
        max_depth: int | None = None,
        min_samples_leaf: int = 1,
        max_samples: int = 25_000,
        class_weight: Any = None,
        channel_axis: int | str | None = "auto",
        random_state: Any = None,
    ):
        self.n_estimators = n_estimators
        self.scales = scales
        self.max_depth = max_depth
        self.min_samples_leaf = min_samples_leaf
        self.max_samples = max_samples
        self.class_weight = class_weight
        self.channel_axis = channel_axis
        self.random_state = random_state

    @classmethod
    def small(cls):
        """Make a forest of few shallow trees on two scales.

        Returns
        -------
        RandomForestSegmenter
        """
        return cls(5, scales=(1, 2), max_depth=6, max_samples=2000, random_state=0)

    def _check_params(self):
        caller = type(self).__name__
        check_int(caller, "n_estimators", self.n_estimators, low=1)
        check_scales(caller, self.scales)
        if self.max_depth is not None:
            check_int(caller, "max_depth", self.max_depth, low=1)
        check_int(caller, "min_samples_leaf", self.min_samples_leaf, low=1)
        check_int(caller, "max_samples", self.max_samples, low=1)
        check_class_weight(caller, self.class_weight)

    def _fit(self, images, labels, sample_weight):
        rng = check_random_state(self.random_state)
        weights = sample_weight or [None] * len(images)
        chosen = self._draw_pixels(labels, weights, rng)
        rows, classes, row_weights = [], [], []
        for image, label, weight, pixels in zip(images, labels, weights, chosen, strict=True):
            if len(pixels) == 0:
                continue  # no features for an image nothing is learned from
            features = compute_features(image, self.scales)
            rows.append(features.reshape(-1, features.shape[-1])[pixels])
            classes.append(label.ravel()[pixels])
            if weight is not None:
                row_weights.append(weight.ravel()[pixels])
        # Class ids, not indices, so that a class_weight dict means what the user wrote.
        y = self.classes_[np.concatenate(classes)]
        self.forest_ = RandomForest(
            self.n_estimators,
            max_depth=self.max_depth,
            min_samples_leaf=self.min_samples_leaf,
            class_weight=self.class_weight,
            random_state=rng,
        ).fit(np.concatenate(rows), y, np.concatenate(row_weights) if row_weights else None)
        self.feature_names_ = feature_names(images[0].shape[-1], self.scales, images[0].ndim - 1)
        self.feature_importances_ = self.forest_.feature_importances_

    def _draw_pixels(self, labels, weights, rng) -> list[NDArray[np.int64]]:
        """Flat indices of the pixels to learn from, for each image."""
        usable = [
            np.flatnonzero((label >= 0) if weight is None else (label >= 0) & (weight > 0))
            for label, weight in zip(labels, weights, strict=True)
        ]
        counts = np.array([len(pixels) for pixels in usable])
        if counts.sum() == 0:
            raise ValueError(
                f"{type(self).__name__}: no labelled pixel has a weight above 0: expected some."
            )
        ends = np.cumsum(counts)
        total = int(ends[-1])
        if total <= self.max_samples:
            return usable
        drawn = np.sort(rng.choice(total, self.max_samples, replace=False))
        # Each class keeps at least one pixel, so that none is unknown to the forest.
        flat = np.concatenate([lab.ravel()[p] for lab, p in zip(labels, usable, strict=True)])
        missing = np.setdiff1d(np.unique(flat), flat[drawn])
        firsts = [np.flatnonzero(flat == k)[0] for k in missing]
        drawn = np.sort(np.concatenate([drawn, np.array(firsts, drawn.dtype)]))
        parts = np.split(drawn, np.searchsorted(drawn, ends[:-1]))
        return [p[d - (e - len(p))] for p, d, e in zip(usable, parts, ends, strict=True)]

    def _predict_proba(self, image):
        proba = np.zeros((*image.shape[:-1], len(self.classes_)), np.float32)
        # The forest knows only classes that it drew pixels of.
        columns = np.searchsorted(self.classes_, self.forest_.classes_)
        margin = halo(self.scales)
        row_pixels = int(np.prod(image.shape[1:-1]))
        n_rows = max(2 * margin, BLOCK_PIXELS // row_pixels)
        for start in range(0, len(image), n_rows):
            stop = min(start + n_rows, len(image))
            first, last = max(0, start - margin), min(len(image), stop + margin)
            features = compute_features(image[first:last], self.scales)[start - first :][
                : stop - start
            ]
            votes = self.forest_._votes(features.reshape(-1, features.shape[-1]))
            proba[start:stop][..., columns] = votes.reshape(*features.shape[:-1], -1)
        return proba

    def _get_state(self):
        return {
            "n_channels_": self.n_channels_,
            "classes_": self.classes_,
            "feature_names_": self.feature_names_,
            "forest_classes": self.forest_.classes_,
            **self.forest_.get_arrays(),
        }

    def _set_state(self, state):
        self.n_channels_ = check_int("n_channels_", "its value", state["n_channels_"], low=1)
        self.classes_ = state["classes_"]
        self.feature_names_ = state["feature_names_"]
        known = state["forest_classes"]
        if not np.isin(known, self.classes_).all():
            raise ValueError("its forest knows classes that the segmenter does not")
        forest = RandomForest(self.n_estimators)
        self.forest_ = forest.set_arrays(state, len(self.feature_names_), len(known))
        self.forest_.classes_ = known
        self.feature_importances_ = self.forest_.feature_importances_
