"""What all pixel classifiers share: features in, tiles out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from segalgos.base import SemanticSegmenter
from segalgos.checks import check_int
from segalgos.parallel import map_items
from segalgos.pixels.features import PixelFeatures, peak_of
from segalgos.pixels.tiles import cut_into_tiles

__all__ = ["PixelSegmenter"]

TILE_PIXELS = 1 << 18  # features of one tile stay near 50 MB


class PixelSegmenter(SemanticSegmenter):
    """Base of segmenters that classify each pixel by its features.

    Subclasses have the constructor parameters `max_samples`, `random_state` and those of
    `PixelFeatures`, and write the hooks ``_check_classifier``, ``_fit_rows`` and
    ``_rows_proba``.

    Attributes
    ----------
    classes_ : (K,) int32
    feature_names_ : list of str
    """

    # --- hooks ---------------------------------------------------------------------------

    def _check_classifier(self) -> None:
        """Raise on a bad parameter of the classifier."""

    def _fit_rows(
        self,
        rows: NDArray[np.float32],
        classes: NDArray[np.int32],
        weights: NDArray[np.float32] | None,
        rng: np.random.RandomState,
    ) -> NDArray[np.int32]:
        """Learn from features (n, F) and class ids (n,); gives the ids that are known now."""
        raise TypeError(f"{type(self).__name__} has no _fit_rows hook: write one.")

    def _rows_proba(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities (n, K) of features (n, F), in the order that `_fit_rows` gave."""
        raise TypeError(f"{type(self).__name__} has no _rows_proba hook: write one.")

    # --- what they share -----------------------------------------------------------------

    def _check_params(self):
        check_int(self._caller, "max_samples", self.max_samples, low=1)
        self._pixel_features()
        self._check_classifier()

    def _pixel_features(self) -> PixelFeatures:
        chosen = (self.scales, self.features, self.per_channel, self.spacing, self.extra)
        return PixelFeatures.checked(self._caller, *chosen)

    def _fit(self, images, labels, sample_weight):
        rng = check_random_state(self.random_state)
        weights = sample_weight or [None] * len(images)
        chosen = self._draw_pixels(labels, weights, rng)
        features = self._pixel_features()
        rows, classes, row_weights = [], [], []
        for image, label, weight, pixels in zip(images, labels, weights, chosen, strict=True):
            if len(pixels) == 0:
                continue  # no features for an image nothing is learned from
            every = features.compute(image)
            rows.append(every.reshape(-1, every.shape[-1])[pixels])
            classes.append(label.ravel()[pixels])
            if weight is not None:
                row_weights.append(weight.ravel()[pixels])
        spatial = (images[0].shape[-1], images[0].ndim - 1)
        n_extra = rows[0].shape[1] - len(features.names(*spatial))
        self.feature_names_ = features.names(*spatial, n_extra)
        # Class ids, not indices, so that a class_weight dict means what the user wrote.
        self.known_classes_ = self._fit_rows(
            np.concatenate(rows),
            self.classes_[np.concatenate(classes)],
            np.concatenate(row_weights) if row_weights else None,
            rng,
        )

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
        # Each class keeps at least one pixel, so that none is unknown to the classifier.
        flat = np.concatenate([lab.ravel()[p] for lab, p in zip(labels, usable, strict=True)])
        missing = np.setdiff1d(np.unique(flat), flat[drawn])
        firsts = [np.flatnonzero(flat == k)[0] for k in missing]
        drawn = np.sort(np.concatenate([drawn, np.array(firsts, drawn.dtype)]))
        parts = np.split(drawn, np.searchsorted(drawn, ends[:-1]))
        return [p[d - (e - len(p))] for p, d, e in zip(usable, parts, ends, strict=True)]

    def _map_tiles(self, image, write) -> None:
        """Call ``write(target, proba)`` for each tile of an image, on threads."""
        features = self._pixel_features()
        shape = image.shape[:-1]
        # The classifier knows only classes that it saw pixels of.
        columns = np.searchsorted(self.classes_, self.known_classes_)
        peak = peak_of(image)

        def one_tile(tile):
            target = tile[0]
            here = features.compute(image, target, peak)
            known = self._rows_proba(np.ascontiguousarray(here.reshape(-1, here.shape[-1])))
            proba = np.zeros((len(known), len(self.classes_)), np.float32)
            proba[:, columns] = known
            write(target, proba.reshape(*here.shape[:-1], -1))

        halo = features.halo(len(shape))
        side = round(TILE_PIXELS ** (1 / len(shape)))
        # Without a halo every tile would cost the features of the whole image.
        sides = shape if halo is None else [side] * len(shape)
        map_items(one_tile, cut_into_tiles(shape, sides, halo or (0,) * len(shape)))

    def _predict_proba(self, image):
        proba = np.empty((*image.shape[:-1], len(self.classes_)), np.float32)
        self._map_tiles(image, proba.__setitem__)
        return proba

    def _predict(self, image, mask, prompts):
        labels = np.empty(image.shape[:-1], np.int32)

        def write(target, proba):
            labels[target] = self.classes_[np.argmax(proba, axis=-1)]

        self._map_tiles(image, write)
        return labels

    def _get_state(self) -> dict[str, Any]:
        names = ("n_channels_", "classes_", "known_classes_", "feature_names_")
        return {name: getattr(self, name) for name in names}

    def _set_state(self, state):
        self.n_channels_ = check_int("n_channels_", "its value", state["n_channels_"], low=1)
        self.classes_, self.known_classes_ = state["classes_"], state["known_classes_"]
        self.feature_names_ = state["feature_names_"]
        if not np.isin(self.known_classes_, self.classes_).all():
            raise ValueError("its classifier knows classes that the segmenter does not")
