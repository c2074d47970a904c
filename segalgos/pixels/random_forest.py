"""Pixels classified by a random forest on filter responses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import ArrayLike, NDArray

from segalgos.base import Traits
from segalgos.checks import check_class_weight, check_int
from segalgos.pixels.features import DEFAULT_FEATURES
from segalgos.pixels.forest import RandomForest
from segalgos.pixels.segmenter import PixelSegmenter

__all__ = ["RandomForestSegmenter"]


class RandomForestSegmenter(PixelSegmenter):
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
    features : sequence of str
        Kinds of features; see `segalgos.pixel_features`, as for the next three.
    per_channel : bool, default=False
        Whether kinds of texture are taken of each channel instead of the channels' mean.
    spacing : sequence of float, optional
        Size of a pixel along each axis; `scales` are then in its unit.
    extra : callable, optional
        More features, ``extra(image) -> (H, W, m)``. Without an attribute ``halo`` images
        are not cut into tiles.
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
    tiles with the exact margin that filters need, so memory stays bounded and labels do
    not depend on the tiles.

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
        features: Sequence[str] = DEFAULT_FEATURES,
        per_channel: bool = False,
        spacing: Sequence[float] | None = None,
        extra: Callable[[NDArray], ArrayLike] | None = None,
        max_depth: int | None = None,
        min_samples_leaf: int = 1,
        max_samples: int = 25_000,
        class_weight: Any = None,
        channel_axis: int | str | None = "auto",
        random_state: Any = None,
    ):
        self.n_estimators = n_estimators
        self.scales = scales
        self.features = features
        self.per_channel = per_channel
        self.spacing = spacing
        self.extra = extra
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

    def _check_classifier(self):
        caller = type(self).__name__
        check_int(caller, "n_estimators", self.n_estimators, low=1)
        if self.max_depth is not None:
            check_int(caller, "max_depth", self.max_depth, low=1)
        check_int(caller, "min_samples_leaf", self.min_samples_leaf, low=1)
        check_class_weight(caller, self.class_weight)

    def _fit_rows(self, rows, classes, weights, rng):
        self.forest_ = RandomForest(
            self.n_estimators,
            max_depth=self.max_depth,
            min_samples_leaf=self.min_samples_leaf,
            class_weight=self.class_weight,
            random_state=rng,
        ).fit(rows, classes, weights)
        self.feature_importances_ = self.forest_.feature_importances_
        return self.forest_.classes_

    def _rows_proba(self, rows):
        return self.forest_._votes(rows)

    def _get_state(self):
        return {**super()._get_state(), **self.forest_.get_arrays()}

    def _set_state(self, state):
        super()._set_state(state)
        forest = RandomForest(self.n_estimators)
        forest.set_arrays(state, len(self.feature_names_), len(self.known_classes_))
        forest.classes_ = self.known_classes_
        self.forest_, self.feature_importances_ = forest, forest.feature_importances_
