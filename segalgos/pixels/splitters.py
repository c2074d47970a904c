"""Cross-validation of pixel classifiers: folds of blocks of pixels, not of images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import binary_erosion
from sklearn.base import clone
from sklearn.utils import check_random_state

from segalgos.base import SemanticSegmenter
from segalgos.checks import check_int, check_label_map, is_batch

__all__ = ["SpatialBlockSplit", "cross_val_predict"]


class SpatialBlockSplit:
    """Folds of square blocks, for a few labelled images.

    Neighbouring pixels are alike, so a pixel next to one that was learned from says little
    about new images. `expand` gives every image once a fold, labelled in that fold's blocks
    alone; as a splitter it then holds one fold out after another. Features still see the
    whole image.

    Parameters
    ----------
    n_splits : int, default=5
        Folds, at least 2.
    block : int, default=64
        Side of a block in pixels.
    buffer : int, default=0
        Pixels along the sides of blocks that are left unlabelled, so that those of two folds
        are apart by twice as many.
    random_state : int, RandomState instance or None, default=None
        Deals the blocks out; every fold gets as many, but for one.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.model_selection import GridSearchCV
    >>> from segalgos import RandomForestSegmenter
    >>> from segalgos.pixels.splitters import SpatialBlockSplit
    >>> image = np.zeros((20, 20)); image[:, 10:] = 1
    >>> blocks = SpatialBlockSplit(2, block=5, random_state=0)
    >>> images, labels = blocks.expand([image], [(image > 0).astype(int)])
    >>> segmenter = RandomForestSegmenter(5, scales=[1], random_state=0)
    >>> search = GridSearchCV(segmenter, {"max_depth": [1, 3]}, cv=blocks)
    >>> float(search.fit(images, labels).best_score_)
    1.0
    """

    def __init__(
        self,
        n_splits: int = 5,
        *,
        block: int = 64,
        buffer: int = 0,
        random_state: Any = None,
    ):
        caller = type(self).__name__
        self.n_splits = check_int(caller, "n_splits", n_splits, low=2)
        self.block = check_int(caller, "block", block, low=1)
        self.buffer = check_int(caller, "buffer", buffer, low=0)
        self.random_state = random_state

    def expand(
        self, images: Sequence[ArrayLike], labels: Sequence[ArrayLike]
    ) -> tuple[list[ArrayLike], list[NDArray[np.int32]]]:
        """Give every image once a fold.

        Parameters
        ----------
        images : sequence of array_like
        labels : sequence of (H, W) or (D, H, W) array_like of int

        Returns
        -------
        images : list
            The same arrays, not copied: image 0 for each fold, then image 1 ...
        labels : list of (H, W) or (D, H, W) int32
            Labels in the fold's blocks, -1 elsewhere.

        Raises
        ------
        ValueError
            If there is not a label map for each image, or a fold has no label.
        """
        caller = f"{type(self).__name__}.expand"
        if not is_batch(images, caller) or len(images) != len(labels):
            raise ValueError(f"{caller}: pass a list of images and a label map for each.")
        rng = check_random_state(self.random_state)
        many, parts = [], []
        for image, label in zip(images, labels, strict=True):
            label = check_label_map(label, np.shape(label), caller)
            folds = self._folds(label.shape, rng)
            for fold in range(self.n_splits):
                many.append(image)
                parts.append(np.where(folds == fold, label, np.int32(-1)))
        for fold in range(self.n_splits):
            if not any((part >= 0).any() for part in parts[fold :: self.n_splits]):
                raise ValueError(
                    f"{caller}: fold {fold} of {self.n_splits} has no labelled pixel: take smaller "
                    "blocks or fewer folds."
                )
        return many, parts

    def _folds(self, shape, rng) -> NDArray[np.intp]:
        """Fold of each pixel, -1 in the buffer."""
        grid = tuple(-(-length // self.block) for length in shape)
        folds = rng.permutation(np.arange(np.prod(grid)) % self.n_splits).reshape(grid)
        for axis, length in enumerate(shape):
            folds = np.repeat(folds, self.block, axis)
            folds = folds[(slice(None),) * axis + (slice(length),)]
        if self.buffer:
            whole = np.zeros(shape, bool)
            for fold in range(self.n_splits):
                whole |= binary_erosion(folds == fold, iterations=self.buffer, border_value=1)
            folds = np.where(whole, folds, -1)
        return folds

    def split(
        self, X: Any, y: Any = None, groups: Any = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Hold one fold out after another.

        Parameters
        ----------
        X : sequence
            What `expand` gave.
        y, groups : object, optional
            Not looked at.

        Yields
        ------
        train, test : ndarray of intp
            Indices into `X`.
        """
        if len(X) % self.n_splits:
            raise ValueError(
                f"{type(self).__name__}.split: {len(X)} images are not those of {self.n_splits} "
                "folds: pass what expand gave."
            )
        fold_of = np.arange(len(X)) % self.n_splits
        for fold in range(self.n_splits):
            yield np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Count the folds.

        Parameters
        ----------
        X, y, groups : object, optional
            Not looked at.

        Returns
        -------
        int
        """
        return self.n_splits


def cross_val_predict(
    segmenter: SemanticSegmenter,
    images: Sequence[ArrayLike],
    labels: Sequence[ArrayLike],
    *,
    cv: Any = 5,
    groups: ArrayLike | None = None,
) -> list[NDArray[np.int32]]:
    """Label each image by a segmenter that has not learned from it.

    scikit-learn's function of this name joins results to one array, so it needs images of
    one size; this one takes any.

    Parameters
    ----------
    segmenter : SemanticSegmenter
        Not changed.
    images : sequence of array_like
    labels : sequence of array_like of int
    cv : int or splitter, default=5
        Number of folds, or any splitter of scikit-learn or of this module.
    groups : (n,) array_like, optional
        For splitters that keep groups together.

    Returns
    -------
    list of (H, W) or (D, H, W) int32
        Class ids, in the order of `images`.
    """
    from sklearn.model_selection import check_cv

    found: list[Any] = [None] * len(images)
    for train, test in check_cv(cv).split(list(images), None, groups):
        model = clone(segmenter).fit([images[i] for i in train], [labels[i] for i in train])
        for i, predicted in zip(test, model.predict([images[i] for i in test]), strict=True):
            found[i] = predicted
    return found
