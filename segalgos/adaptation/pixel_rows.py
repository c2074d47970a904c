"""Features of pixels of both domains, and a pixel classifier that learns from some of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils import check_random_state

from segalgos.adaptation.domains import Domains
from segalgos.pixels.feature_cache import FeatureCache
from segalgos.pixels.segmenter import PixelSegmenter, TrainingData

__all__ = ["SourceRows"]


class SourceRows:
    """Features of the labelled pixels that a pixel classifier learns from.

    Parameters
    ----------
    segmenter : PixelSegmenter
        Fitted; it is not changed.
    domains : Domains
        Without a source, what the segmenter was fitted on.
    random_state : int, RandomState or None
        Draws pixels, and seeds the classifier.

    Attributes
    ----------
    rows : (n, F) float32
    classes : (n,) int32
        Class ids.

    Raises
    ------
    ValueError
        If nothing is known of the source.
    """

    def __init__(self, segmenter: PixelSegmenter, domains: Domains, random_state: Any):
        if segmenter.channel_axis is None:
            raise ValueError(
                "adapt: channel_axis is None, but volumes are not adapted to: adapt on slices."
            )
        own = getattr(segmenter, "training_", None)
        if domains.source is not None:
            images, labels, weights = domains.source, domains.labels, None
        elif own is not None:
            images, labels, weights = own.images, own.targets, own.weights
            labels = [_places(label_map, segmenter.classes_) for label_map in labels]
        else:
            raise ValueError(
                "adapt: pixel classifiers learn again from labelled images of the source, and a "
                "model file holds none: pass source_images and source_labels."
            )
        self.new = clone(segmenter)
        self.new.classes_ = segmenter.classes_.copy()
        self.new.n_channels_ = segmenter.n_channels_
        self.images, self.domains = images, domains
        self.rng = check_random_state(random_state)
        self.new.training_ = TrainingData(images, labels, weights, FeatureCache(0))
        self.rows, self.classes, self.weights = self.new._labelled_rows(
            images, labels, weights, self.rng
        )

    def target_rows(self) -> NDArray[np.float32]:
        """Compute features of pixels of the target, drawn at random: as many as of the source.

        Returns
        -------
        (m, F) float32
        """
        return self._random_rows(self.domains.target)

    def any_rows(self) -> NDArray[np.float32]:
        """Compute features of pixels of the source, drawn at random, labelled or not.

        Returns
        -------
        (m, F) float32
            Shares of classes are those of the images: some classifiers learn from about as many
            pixels of each.
        """
        return self._random_rows(self.images)

    def _random_rows(self, images: list[NDArray]) -> NDArray[np.float32]:
        sizes = np.array([image.shape[0] * image.shape[1] for image in images])
        n = min(int(sizes.sum()), max(len(self.rows), 2000))
        shares = np.maximum(1, np.round(n * sizes / sizes.sum())).astype(int)
        found = []
        for image, size, share in zip(images, sizes, shares):
            pixels = np.sort(self.rng.choice(size, min(size, share), replace=False))
            found.append(self.new._rows_of(image, pixels, keep=False))
        return np.concatenate(found)

    def learn(
        self, rows: NDArray[np.float32], importance: NDArray[np.float32] | None
    ) -> PixelSegmenter:
        """Make a segmenter that has learned from rows.

        Parameters
        ----------
        rows : (n, F) float32
            In place of `rows`.
        importance : (n,) float32 or None
            Weight of each.

        Returns
        -------
        PixelSegmenter
        """
        weights = self.weights
        if importance is not None:
            weights = importance if weights is None else weights * importance
        self.new._fit_selected(self.images[0], rows, self.classes, weights, self.rng)
        self.new.training_ = None  # `refit` would learn without what was adapted
        return self.new


def _places(labels: NDArray[np.int32], classes: NDArray[np.int32]) -> NDArray[np.int32]:
    """Places of labels in classes, -1 where unlabelled."""
    return np.where(labels < 0, -1, np.searchsorted(classes, labels)).astype(np.int32)
