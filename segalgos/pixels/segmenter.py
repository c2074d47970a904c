"""What all pixel classifiers share: features in, tiles out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from threading import Lock
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter
from scipy.special import entr
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

import segalgos
from segalgos.base import SemanticSegmenter
from segalgos.checks import check_choice, check_int, check_label_map, check_real, is_batch
from segalgos.parallel import map_items
from segalgos.pixels.feature_cache import FeatureCache
from segalgos.pixels.features import PixelFeatures, peak_of
from segalgos.pixels.forest import select_features
from segalgos.pixels.large import LazyImage, label_chunks
from segalgos.pixels.sampling import draw_balanced
from segalgos.pixels.tiles import Tile, cut_into_tiles, moved

__all__ = ["PixelSegmenter"]

TILE_PIXELS = 1 << 18  # features of one tile stay near 50 MB
SMOOTHINGS = ("random_walker", "graph_cut")


@dataclass(frozen=True, eq=False)
class TrainingData:
    """What was given to `fit`, checked, and features of it."""

    images: list[NDArray]
    targets: list[NDArray[np.int32]]
    weights: list[NDArray[np.float32]] | None
    cache: FeatureCache


class PixelSegmenter(SemanticSegmenter):
    """Base of segmenters that classify each pixel by its features.

    Subclasses have the constructor parameters `max_samples`, `n_features_to_select`,
    `smoothing`, `smoothness`, `cache_mb`, `random_state` and those of `PixelFeatures`, and
    write the hooks ``_check_classifier``, ``_fit_rows`` and ``_rows_proba``.

    Attributes
    ----------
    classes_ : (K,) int32
    known_classes_ : (k,) int32
        Those of which pixels were drawn.
    feature_names_ : list of str
        Those that the classifier sees.
    chosen_ : (F,) int32 or None
        Places of these among all, if not all were selected.
    training_ : object or None
        What `refit` learns from; None after loading.
    """

    _draws_balanced: ClassVar[bool] = False  # about as many pixels of each class

    # --- hooks ---------------------------------------------------------------------------

    def _n_pixels(self) -> int:
        """How many pixels `_fit_rows` gets at most."""
        return self.max_samples

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
        check_real(self._caller, "cache_mb", self.cache_mb, low=0)
        if self.n_features_to_select is not None:
            check_int(self._caller, "n_features_to_select", self.n_features_to_select, low=1)
        if self.smoothing is not None:
            check_choice(self._caller, "smoothing", self.smoothing, SMOOTHINGS)
        check_real(self._caller, "smoothness", self.smoothness, low=0)
        self._pixel_features()
        self._check_classifier()

    def _pixel_features(self) -> PixelFeatures:
        return PixelFeatures.checked(
            self._caller,
            self.scales,
            self.features,
            self.per_channel,
            self.spacing,
            self.extra,
        )

    def _selected_features(self) -> PixelFeatures:
        every = self._pixel_features()
        if self.chosen_ is None:
            return every
        return replace(every, chosen=tuple(self.chosen_.tolist()))

    def _learn(self, batch, targets, weights):
        self._learn_from(TrainingData(batch, targets, weights, FeatureCache(self.cache_mb)))

    def _learn_from(self, training):
        self.training_ = training
        super()._learn(training.images, training.targets, training.weights)

    def _fit(self, images, labels, sample_weight):
        rng = check_random_state(self.random_state)
        rows, classes, weights = self._labelled_rows(images, labels, sample_weight, rng)
        self._fit_selected(images[0], rows, classes, weights, rng)

    def _labelled_rows(
        self, images: list, labels: list, sample_weight: list | None, rng: np.random.RandomState
    ) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32] | None]:
        """All features (n, F), class ids and weights of the pixels to learn from."""
        self.chosen_ = None  # all are computed, to select some
        weights = sample_weight or [None] * len(images)
        chosen = self._draw_pixels(labels, weights, rng)
        rows, classes, row_weights = [], [], []
        for image, label, weight, pixels in zip(images, labels, weights, chosen, strict=True):
            if len(pixels) == 0:
                continue  # no features for an image nothing is learned from
            rows.append(self._rows_of(image, pixels, keep=(label < 0).any()))
            classes.append(label.ravel()[pixels])
            if weight is not None:
                row_weights.append(weight.ravel()[pixels])
        rows = np.concatenate(rows)
        # Class ids, not indices, so that a class_weight dict means what the user wrote.
        classes = self.classes_[np.concatenate(classes)]
        return rows, classes, np.concatenate(row_weights) if row_weights else None

    def _fit_selected(
        self,
        image: NDArray,
        rows: NDArray[np.float32],
        classes: NDArray[np.int32],
        row_weights: NDArray[np.float32] | None,
        rng: np.random.RandomState,
    ) -> None:
        """Select features of rows that come from images such as this one, and learn from them."""
        n_channels, ndim = image.shape[-1], image.ndim - 1
        n_extra = rows.shape[1] - len(self._pixel_features().names(n_channels, ndim))
        if self.n_features_to_select is not None and self.n_features_to_select < rows.shape[1]:
            self.chosen_ = select_features(
                rows, classes, row_weights, self.n_features_to_select, rng
            )
            rows = np.ascontiguousarray(rows[:, self.chosen_])
        self.feature_names_ = self._selected_features().names(n_channels, ndim, n_extra)
        self.known_classes_ = self._fit_rows(rows, classes, row_weights, rng)

    def _rows_of(self, image, pixels, keep) -> NDArray[np.float32]:
        """Features (n, F) of some pixels, given by ascending flat indices.

        Where `keep` is true, those of the whole image go to the cache if there is room.
        """
        features, shape = self._pixel_features(), image.shape[:-1]
        cache = self.training_.cache
        every = cache.get(image, features)
        if every is None and keep:
            n_features = len(features.names(image.shape[-1], len(shape)))
            if cache.has_room(4 * int(np.prod(shape)) * n_features):
                if features.extra is not None:  # how many it gives is to be seen
                    n_features = features.compute(image, (slice(1),) * len(shape)).shape[-1]
                every = np.empty((*shape, n_features), np.float32)
                self._map_features(image, every.__setitem__)
                cache.keep(image, features, every)
        if every is not None:
            return every.reshape(-1, every.shape[-1])[pixels]
        number = np.full(shape, -1, np.int32)
        number.flat[pixels] = np.arange(len(pixels))
        parts = []

        def pick(tile, here):
            wanted = number[tile] >= 0
            if wanted.any():
                parts.append((number[tile][wanted], here[wanted]))

        self._map_features(image, pick, wanted=lambda tile: (number[tile] >= 0).any())
        rows = np.empty((len(pixels), parts[0][1].shape[1]), np.float32)
        for numbers, values in parts:
            rows[numbers] = values
        return rows

    def _map_features(self, image, use, *, tiles=None, wanted=None, peak=None) -> None:
        """Call ``use(tile, features)`` for each tile of an image, on threads.

        Parameters
        ----------
        image : (H, W, C) or (D, H, W, C) uint8 or float32, or LazyImage
        use : callable
            Gets the tile's place and its features (..., F).
        tiles : list of tuple of slice, optional
            They cover the image if None.
        wanted : callable, optional
            Tells of a tile's place whether it is wanted; all are if None.
        peak : float, optional
            `peak_of` the image if that is known.
        """
        features, chosen, every = self._selected_features(), self.chosen_, None
        if self.training_ and isinstance(image, np.ndarray):
            every = self.training_.cache.get(image, self._pixel_features())
        if every is None and peak is None:
            peak = peak_of(image)

        def one_tile(tile):
            if every is None:
                use(tile, features.compute(image, tile, peak))
            else:
                use(tile, every[tile] if chosen is None else every[tile][..., chosen])

        map_items(one_tile, filter(wanted, tiles or self._tiles(image.shape[:-1])))

    def _tiles(self, shape: tuple[int, ...]) -> list[Tile]:
        side = round(TILE_PIXELS ** (1 / len(shape)))
        # Where nobody knows how far features look, a tile is no less work than the image.
        local = self._pixel_features().halo(len(shape)) is not None
        return list(cut_into_tiles(shape, [side] * len(shape) if local else shape))

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
        total, wanted = int(ends[-1]), self._n_pixels()
        if total <= wanted:
            return usable
        flat = np.concatenate([lab.ravel()[p] for lab, p in zip(labels, usable, strict=True)])
        if self._draws_balanced:
            drawn = draw_balanced(flat, wanted, rng)
        else:
            drawn = np.sort(rng.choice(total, wanted, replace=False))
            # Each class keeps at least one pixel, so that none is unknown to the classifier.
            missing = np.setdiff1d(np.unique(flat), flat[drawn])
            firsts = [np.flatnonzero(flat == k)[0] for k in missing]
            drawn = np.sort(np.concatenate([drawn, np.array(firsts, drawn.dtype)]))
        parts = np.split(drawn, np.searchsorted(drawn, ends[:-1]))
        return [p[d - (e - len(p))] for p, d, e in zip(usable, parts, ends, strict=True)]

    def _map_proba(self, image, use, **options) -> None:
        """Call ``use(tile, proba)`` for each tile of an image, on threads."""
        # The classifier knows only classes that it saw pixels of.
        columns = np.searchsorted(self.classes_, self.known_classes_)

        def classify(tile, here):
            known = self._rows_proba(np.ascontiguousarray(here.reshape(-1, here.shape[-1])))
            proba = np.zeros((len(known), len(self.classes_)), np.float32)
            proba[:, columns] = known
            use(tile, proba.reshape(*here.shape[:-1], -1))

        self._map_features(image, classify, **options)

    def _map_labels(self, image, use, **options) -> None:
        """Call ``use(tile, labels)`` for each tile of an image, on threads."""

        def decide(tile, proba):
            use(tile, self.classes_[np.argmax(proba, axis=-1)])

        self._map_proba(image, decide, **options)

    def _predict_proba(self, image):
        proba = np.empty((*image.shape[:-1], len(self.classes_)), np.float32)
        self._map_proba(image, proba.__setitem__)
        if self.smoothing is None:
            return proba
        return segalgos.smooth_proba(
            image, proba, self.smoothing, smoothness=self.smoothness, channel_axis=-1
        )

    def _predict(self, image, mask, prompts):
        if self.smoothing is not None:
            return super()._predict(image, mask, prompts)
        labels = np.empty(image.shape[:-1], np.int32)
        self._map_labels(image, labels.__setitem__)
        return labels

    # --- arrays larger than memory -------------------------------------------------------

    def predict_large(self, source: Any, out: Any = None) -> Any:
        """Segment an array that is read and written tile by tile.

        Parameters
        ----------
        source : numpy.memmap, zarr.Array, dask.array.Array or alike, (H, W), (H, W, C) or volume
            An image as `predict` takes it.
        out : array-like of int32, optional
            Gets the labels; anything with the image's height and width that takes slices,
            like a memmap or an array of zarr. A new numpy array if None.

        Returns
        -------
        (H, W) or (D, H, W) int32
            Class ids, the same as from `predict`: `out`, or of a dask array one that
            computes its chunks when it is asked to (without `out`).

        Raises
        ------
        ValueError
            If the array is not as expected, holds NaN or infinite values, or `smoothing` is
            set, which needs all probabilities at once. Then nothing was written.

        Notes
        -----
        The array is read twice, first to check it. Beside `out`, memory holds some tiles of
        2**18 pixels with their features, one a thread.
        """
        caller = f"{self._caller}.predict_large"
        self._check_params()
        check_is_fitted(self)
        if self.smoothing is not None:
            raise ValueError(
                f"{caller}: smoothing is {self.smoothing!r}, which needs the probabilities of all "
                "pixels at once: set smoothing=None."
            )
        image = LazyImage(source, caller, self.channel_axis)
        shape = image.shape[:-1]
        if image.shape[-1] != self.n_channels_:
            raise ValueError(
                f"{caller}: source has {image.shape[-1]} channels, fitted with {self.n_channels_}: "
                "convert it, or fit on such images."
            )
        if hasattr(source, "dask"):
            if out is not None:
                raise ValueError(f"{caller}: out is set for a dask array: store the result of it.")
            return label_chunks(image, self._pixel_features().halo(len(shape)), self._label_part)
        if out is not None and tuple(out.shape) != shape:
            raise ValueError(
                f"{caller}: out has shape {tuple(out.shape)}, the image has {shape}: make one that "
                "fits."
            )
        tiles = self._tiles(shape)
        peak = image.peak(tiles)
        out = np.empty(shape, np.int32) if out is None else out
        one_writer = Lock()  # tiles may share a chunk of a file

        def write(tile, labels):
            with one_writer:
                out[tile] = labels

        self._map_labels(image, write, tiles=tiles, peak=peak)
        return out

    def _label_part(self, image: LazyImage, part: Tile, peak: float) -> NDArray[np.int32]:
        """Labels of a part of an image."""
        labels = np.empty([p.stop - p.start for p in part], np.int32)
        origin, back = [p.start for p in part], [-p.start for p in part]

        def write(tile, here):
            labels[moved(tile, back)] = here

        tiles = [moved(tile, origin) for tile in self._tiles(labels.shape)]
        self._map_labels(image, write, tiles=tiles, peak=peak)
        return labels

    # --- scribbles -----------------------------------------------------------------------

    def refit(self, image_index: int, labels: ArrayLike) -> Self:
        """Learn again after one image's labels have changed: one more scribble, say.

        The result is that of a new `fit` with these labels, but features are not computed
        again: those of images with unlabelled pixels are kept, up to `cache_mb`. `predict`
        of such an image finds them too.

        Parameters
        ----------
        image_index : int
            Which of the images given to `fit`; 0 if it was one alone.
        labels : (H, W) or (D, H, W) array_like of int
            All labels of that image, old ones too, -1 where unlabelled.

        Returns
        -------
        PixelSegmenter
            Itself. After an error it is as it was before.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`, and after loading from a file, which holds no images.
        ValueError
            If there is no such image, or its labels are not as expected.
        """
        caller = f"{self._caller}.refit"
        if getattr(self, "training_", None) is None:
            raise NotFittedError(
                f"{caller}: it has no images to learn from again (a model file holds none): call "
                "fit first."
            )
        self._check_params()
        training = self.training_
        check_int(caller, "image_index", image_index, low=0, high=len(training.images) - 1)
        shape = training.images[image_index].shape[:-1]
        targets = list(training.targets)
        targets[image_index] = check_label_map(labels, shape, caller)
        with self._as_before_after_an_error():
            self._learn_from(replace(training, targets=targets))
        return self

    def uncertainty(self, images: Any, *, mask: Any = None) -> Any:
        """How unsure the classifier is of each pixel.

        Parameters
        ----------
        images : array_like or sequence of array_like
            One image or many; sizes may differ.
        mask : array_like of bool or sequence of these, optional
            Pixels where it is False get 0.

        Returns
        -------
        (H, W) or (D, H, W) float32, or a list of these
            Entropy of the probabilities, from 0 (sure) to 1 (all classes alike).
        """
        return self._map(self._uncertainty_checked, images, None, mask)

    def _uncertainty_checked(self, image, mask, prompts, name):
        proba = self._proba_checked(image, mask, prompts, name)
        n_classes = max(2, proba.shape[-1])  # of one class it is always sure
        return (entr(proba).sum(axis=-1) / np.float32(np.log(n_classes))).astype(np.float32)

    def suggest_scribbles(
        self, image: ArrayLike, *, n_points: int = 1, mask: ArrayLike | None = None
    ) -> NDArray[np.intp]:
        """Where to scribble next: the middles of places that the classifier is least sure of.

        Parameters
        ----------
        image : array_like
            One image.
        n_points : int, default=1
            How many places, apart from one another by twice the largest scale.
        mask : array_like of bool, optional
            True where places may lie.

        Returns
        -------
        (n, 2) or (n, 3) intp
            Row and column (slice, row and column), the least sure place first; fewer than
            `n_points` where there are not so many.
        """
        check_int(f"{self._caller}.suggest_scribbles", "n_points", n_points, low=1)
        if is_batch(image, self._caller):
            raise ValueError(
                f"{self._caller}.suggest_scribbles: image is a sequence, expected one image: call "
                "it for each."
            )
        from skimage.feature import peak_local_max

        unsure = self.uncertainty(image, mask=mask)
        reach = max(self.scales)
        wide = gaussian_filter(unsure, reach, mode="constant")
        if mask is not None:
            wide[~np.asarray(mask, bool)] = 0
        apart = max(1, round(2 * reach))
        return peak_local_max(
            wide, min_distance=apart, num_peaks=n_points, exclude_border=False, threshold_abs=0
        )

    # --- state ---------------------------------------------------------------------------

    def __getstate__(self):
        state = dict(super().__getstate__())
        if "training_" in state:
            state["training_"] = None  # a model that travels leaves its images behind
        return state

    def _get_state(self) -> dict[str, Any]:
        names = ("n_channels_", "classes_", "known_classes_", "feature_names_", "chosen_")
        return {name: getattr(self, name) for name in names}

    def _set_state(self, state):
        self.n_channels_ = check_int("n_channels_", "its value", state["n_channels_"], low=1)
        self.classes_, self.known_classes_ = state["classes_"], state["known_classes_"]
        self.feature_names_, self.training_ = state["feature_names_"], None
        self.chosen_ = _check_chosen(state["chosen_"], len(self.feature_names_))
        if not np.isin(self.known_classes_, self.classes_).all():
            raise ValueError("its classifier knows classes that the segmenter does not")


def _check_chosen(chosen: Any, n: int) -> NDArray[np.int32] | None:
    """Check the places of `n` selected features in a model file."""
    if chosen is not None and not (
        isinstance(chosen, np.ndarray)
        and chosen.dtype == np.int32
        and chosen.shape == (n,)
        and (np.diff(chosen, prepend=-1) > 0).all()
    ):
        raise ValueError("its selected features are not ascending places of its features")
    return chosen
