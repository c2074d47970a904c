"""Pixels classified by a random forest on filter responses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segalgos.base import Traits
from segalgos.pixels.forest import RandomForest, check_forest
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
    features : sequence of str, optional
        Kinds of features, see `segalgos.pixel_features`.
    per_channel : bool, default=False
        Describe the texture of each channel, not of their mean.
    spacing : sequence of float, optional
        Size of a pixel along each axis, for scales in other units than pixels.
    extra : callable, optional
        Features of your own, ``extra(image (H, W, C) float32) -> (H, W, m)``: the
        activations of a net, say. With an attribute ``halo``, how many pixels it looks
        away, images are worked on in tiles; without it as a whole. A model file cannot
        hold it.
    max_depth : int, optional
        Without it trees grow until leaves are pure.
    min_samples_leaf : int, default=1
        More makes probabilities smoother and models smaller.
    max_features : {"sqrt", "log2"}, int, float or None, default="sqrt"
        Features looked at for a split: a number, a part of all, or all of them.
    extra_trees : bool, default=False
        Draw thresholds at random instead of searching for the best: faster to fit,
        smoother.
    oob_score : bool, default=False
        Estimate the accuracy on new pixels from those that a tree did not draw. It is too
        high for pixels whose neighbours were drawn.
    n_features_to_select : int, optional
        Learn from so many features only, those that matter most to a random forest of all:
        prediction computes no others.
    max_samples : int, default=25000
        Labelled pixels to learn from; of more, so many are drawn at random.
    class_weight : dict, {"balanced", "balanced_subsample"} or None, default=None
        "balanced" helps rare classes at the cost of common ones.
    smoothing : {"random_walker", "graph_cut"}, optional
        Smooth probabilities along edges: see `segalgos.smooth_proba`. The whole image's
        are held at once then.
    smoothness : float, default=1.0
        How much neighbours count in that.
    cache_mb : float, default=512
        Most megabytes of features of scribbled images to keep, for `refit` and for
        predicting these images again.
    channel_axis : int, None or "auto", default="auto"
        None for volumes (D, H, W), -1 for many channels.
    random_state : int, RandomState instance or None, default=None

    Attributes
    ----------
    classes_ : (K,) int32
    feature_names_ : list of str
        Those that are learned from.
    feature_importances_ : (F,) float64
        Mean decrease in impurity.
    oob_score_ : float
        Accuracy of pixels by the trees that did not draw them; with `oob_score`, and not
        kept in a model file.
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
        features: Sequence[str] | None = None,
        per_channel: bool = False,
        spacing: Sequence[float] | None = None,
        extra: Callable[[NDArray[np.float32]], ArrayLike] | None = None,
        max_depth: int | None = None,
        min_samples_leaf: int = 1,
        max_features: str | float | None = "sqrt",
        extra_trees: bool = False,
        oob_score: bool = False,
        n_features_to_select: int | None = None,
        max_samples: int = 25_000,
        class_weight: Any = None,
        smoothing: str | None = None,
        smoothness: float = 1.0,
        cache_mb: float = 512,
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
        self.max_features = max_features
        self.extra_trees = extra_trees
        self.oob_score = oob_score
        self.n_features_to_select = n_features_to_select
        self.max_samples = max_samples
        self.class_weight = class_weight
        self.smoothing = smoothing
        self.smoothness = smoothness
        self.cache_mb = cache_mb
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

    def _forest(self, random_state=None) -> RandomForest:
        return RandomForest(
            self.n_estimators,
            max_depth=self.max_depth,
            min_samples_leaf=self.min_samples_leaf,
            max_features=self.max_features,
            extra_trees=self.extra_trees,
            oob_score=self.oob_score,
            class_weight=self.class_weight,
            random_state=random_state,
        )

    def _check_classifier(self):
        check_forest(self._caller, self._forest())

    def _fit_rows(self, rows, classes, weights, rng):
        self.forest_ = self._forest(rng).fit(rows, classes, weights)
        self.feature_importances_ = self.forest_.feature_importances_
        if self.oob_score:
            self.oob_score_ = self.forest_.oob_score_
        return self.forest_.classes_

    def _rows_proba(self, rows):
        return self.forest_.predict_proba(rows)

    def _get_state(self):
        return {**super()._get_state(), **self.forest_.get_arrays()}

    def _set_state(self, state):
        super()._set_state(state)
        forest = self._forest()
        forest.set_arrays(state, len(self.feature_names_), len(self.known_classes_))
        forest.classes_ = self.known_classes_
        self.forest_, self.feature_importances_ = forest, forest.feature_importances_
