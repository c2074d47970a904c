"""Pixels classified by any scikit-learn classifier on filter responses."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import has_fit_parameter

from segalgos.base import Traits
from segalgos.parallel import one_blas_thread
from segalgos.pixels.segmenter import PixelSegmenter

__all__ = ["PixelClassifierSegmenter"]


def _default_estimator() -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


def _is_default(estimator: Any) -> bool:
    return isinstance(estimator, Pipeline) and [type(step) for _, step in estimator.steps] == [
        StandardScaler,
        LogisticRegression,
    ]


def _weight_parameter(estimator: Any) -> str | None:
    """Name under which ``fit`` takes weights: a pipeline's last step has them."""
    if isinstance(estimator, Pipeline):
        name, last = estimator.steps[-1]
        inner = _weight_parameter(last)
        return None if inner is None else f"{name}__{inner}"
    return "sample_weight" if has_fit_parameter(estimator, "sample_weight") else None


class PixelClassifierSegmenter(PixelSegmenter):
    """Classify every pixel by a scikit-learn classifier on multi-scale filter responses.

    Learns from dense label maps or from scribbles (-1 where nothing was drawn), on one
    image or many.

    Parameters
    ----------
    estimator : classifier, optional
        Any of scikit-learn's kind, pipelines included; it is cloned. Logistic regression
        on standardised features when left out.
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
    n_features_to_select : int, optional
        Learn from so many features only, those that matter most to a random forest of all:
        prediction computes no others.
    max_samples : int, default=25000
        Labelled pixels to learn from; of more, so many are drawn at random.
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
        Also seeds every ``random_state`` of the estimator that is None.

    Attributes
    ----------
    classes_ : (K,) int32
    feature_names_ : list of str
        Those that are learned from.
    estimator_ : classifier or None
        The fitted clone. None for one class, which every pixel gets then.

    See Also
    --------
    segalgos.pixel_features : The features.
    RandomForestSegmenter, SVMSegmenter : Faster prediction, and models that can be saved.

    Notes
    -----
    Probabilities are the estimator's; one that gives none counts as certain of what it
    predicts. Weights go to its ``fit``, of a pipeline to the last step.

    The estimator gets a tile of up to 2**18 pixels at a time, several on threads.

    `save` refuses estimators, since they are code; the default one is saved as arrays.

    References
    ----------
    .. [1] D. Cox, "The regression analysis of binary sequences", JRSS B 20, 1958.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from segalgos import PixelClassifierSegmenter
    >>> image = np.zeros((20, 20)); image[:, 10:] = 1
    >>> scribbles = np.full((20, 20), -1); scribbles[5, :3] = 0; scribbles[5, -3:] = 1
    >>> segmenter = PixelClassifierSegmenter(GaussianNB(), scales=[1])
    >>> int(segmenter.fit(image, scribbles).predict(image).sum())
    200
    """

    traits = Traits(
        task="semantic",
        family="pixels",
        year=1958,
        needs_fit=True,
        needs_labels=True,
        takes_sample_weight=True,
        ndims=(2, 3),
        deterministic=False,
        keeps_uint8=True,
    )

    def __init__(
        self,
        estimator: BaseEstimator | None = None,
        *,
        scales: Sequence[float] = (1, 2, 4, 8),
        features: Sequence[str] | None = None,
        per_channel: bool = False,
        spacing: Sequence[float] | None = None,
        extra: Callable[[NDArray[np.float32]], ArrayLike] | None = None,
        n_features_to_select: int | None = None,
        max_samples: int = 25_000,
        smoothing: str | None = None,
        smoothness: float = 1.0,
        cache_mb: float = 512,
        channel_axis: int | str | None = "auto",
        random_state: Any = None,
    ):
        self.estimator = estimator
        self.scales = scales
        self.features = features
        self.per_channel = per_channel
        self.spacing = spacing
        self.extra = extra
        self.n_features_to_select = n_features_to_select
        self.max_samples = max_samples
        self.smoothing = smoothing
        self.smoothness = smoothness
        self.cache_mb = cache_mb
        self.channel_axis = channel_axis
        self.random_state = random_state

    @classmethod
    def small(cls):
        """Make a logistic regression of few pixels on two scales.

        Returns
        -------
        PixelClassifierSegmenter
        """
        return cls(scales=(1, 2), max_samples=1000, random_state=0)

    def _check_classifier(self):
        estimator = self.estimator
        if estimator is None:
            return
        if isinstance(estimator, type):
            raise TypeError(
                f"{type(self).__name__}: estimator is the class {estimator.__name__}, expected an "
                f"instance: pass {estimator.__name__}()."
            )
        if not isinstance(estimator, BaseEstimator) or not is_classifier(estimator):
            raise TypeError(
                f"{type(self).__name__}: estimator is a {type(estimator).__name__}, expected a "
                "classifier with scikit-learn's methods, for instance LogisticRegression()."
            )

    def _fit_rows(self, rows, classes, weights, rng):
        known = np.unique(classes)
        self.estimator_ = None
        estimator = _default_estimator() if self.estimator is None else clone(self.estimator)
        for name, value in sorted(estimator.get_params(deep=True).items()):
            if name.split("__")[-1] == "random_state" and value is None:
                estimator.set_params(**{name: rng.randint(np.iinfo(np.int32).max)})
        arguments = {}
        if weights is not None:
            name = _weight_parameter(estimator)
            if name is None:
                raise TypeError(
                    f"{type(self).__name__}: estimator is a {type(estimator).__name__}, whose fit "
                    "takes no sample_weight: leave sample_weight out, or take another classifier."
                )
            arguments[name] = weights
        if len(known) > 1:  # most classifiers refuse a single class
            with one_blas_thread():
                self.estimator_ = estimator.fit(rows, classes, **arguments)
        return known

    def _rows_proba(self, rows):
        if self.estimator_ is None:
            return np.ones((len(rows), 1), np.float32)
        with one_blas_thread():
            if hasattr(self.estimator_, "predict_proba"):
                return self.estimator_.predict_proba(rows)
            predicted = self.estimator_.predict(rows)
        return (predicted[:, None] == self.known_classes_).astype(np.float32)

    def save(self, path: str | os.PathLike) -> None:
        """Save to one file that runs no code when it is loaded.

        Parameters
        ----------
        path : path-like
            Written whole or not at all. Read it with `segalgos.load`.

        Raises
        ------
        TypeError
            If it has an estimator other than the default one.
        """
        estimator = self.estimator
        if estimator is None:  # the fitted one may be of another parameter, changed since
            estimator = getattr(self, "estimator_", None)
            estimator = None if _is_default(estimator) else estimator
        if estimator is not None:
            raise TypeError(
                f"{type(self).__name__}.save: estimator is a {type(estimator).__name__}, which is "
                "code that a model file cannot hold safely: keep it with skops or joblib and load "
                "that only from sources you trust, or use RandomForestSegmenter or SVMSegmenter, "
                "which can be saved."
            )
        super().save(path)

    def _get_state(self):
        state = super()._get_state()
        if self.estimator_ is None:
            return state | {"model_": None}
        scaler, logistic = (step for _, step in self.estimator_.steps)
        model = [scaler.mean_, scaler.scale_, logistic.coef_, logistic.intercept_]
        return state | {"model_": model}

    def _set_state(self, state):
        super()._set_state(state)
        n_features, n_classes = len(self.feature_names_), len(self.known_classes_)
        self.estimator_ = None
        if (state["model_"] is None) != (n_classes == 1):
            raise ValueError("its model and its classes do not fit together")
        if n_classes == 1:
            return
        mean, scale, coefficients, intercepts = state["model_"]
        n_decisions = 1 if n_classes == 2 else n_classes
        shapes = ((n_features,), (n_features,), (n_decisions, n_features), (n_decisions,))
        for array, shape in zip(state["model_"], shapes, strict=True):
            if array.dtype.kind != "f" or array.shape != shape or not np.isfinite(array).all():
                raise ValueError(f"an array of its model is not finite and of shape {shape}")
        self.estimator_ = _default_estimator()
        scaler, logistic = (step for _, step in self.estimator_.steps)
        scaler.mean_, scaler.scale_, scaler.var_ = mean, scale, scale**2
        logistic.coef_, logistic.intercept_ = coefficients, intercepts
        logistic.classes_ = self.known_classes_
        scaler.n_features_in_ = logistic.n_features_in_ = n_features
