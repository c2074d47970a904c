"""Random crops of images and labels together, turned and re-lit.

Every crop is a function of a random generator alone, so crops can be drawn on any thread
and training can be resumed at any step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["CropSampler", "mirrored_window"]

# Pixels remembered for each image and class, as places to put crops on.
MAX_ANCHORS = 1024


def mirrored_window(image: NDArray, row: int, column: int, height: int, width: int) -> NDArray:
    """Cut a window that may reach beyond the image, which is mirrored at its border.

    Parameters
    ----------
    image : (H, W, ...) ndarray
        Any size from 1 x 1: a small image is mirrored over and over.
    row, column : int
        Top left corner; may be negative.
    height, width : int

    Returns
    -------
    (height, width, ...) ndarray
        A view if the window lies inside. Equal to a cut from `numpy.pad` with mode
        "symmetric", without padding the whole image.
    """
    if row >= 0 and column >= 0 and row + height <= len(image) and column + width <= image.shape[1]:
        return image[row : row + height, column : column + width]
    rows = _mirror(np.arange(row, row + height), image.shape[0])
    columns = _mirror(np.arange(column, column + width), image.shape[1])
    return image[rows[:, None], columns]


def _mirror(index: NDArray, size: int) -> NDArray:
    index = index % (2 * size)
    return np.minimum(index, 2 * size - 1 - index)


class CropSampler:
    """Draws random training crops.

    Parameters
    ----------
    images : sequence of (H, W, C) ndarray
        Sizes may differ.
    labels : sequence of (H, W) int32
        Classes 0..K-1, -1 where ignored. At least one pixel is labelled.
    weights : sequence of (H, W) float32, optional
        Weights of pixels.
    shape : tuple of int
        Height and width of the labels of a crop.
    margin : int, default=0
        Pixels by which the image of a crop reaches beyond its labels on each side.
    prepare : callable, optional
        Applied to the image of each crop; gives float32, zero mean and unit variance.
    augment : bool, default=True
        Flip, rotate by right angles, and change brightness and contrast.
    balance : float, default=0.5
        Share of crops placed on a class chosen at random; the others fall on classes as
        often as these occur.
    random_state : numpy.random.Generator
        Chooses the pixels to remember as places for crops.
    """

    def __init__(
        self,
        images: Sequence[NDArray],
        labels: Sequence[NDArray[np.int32]],
        weights: Sequence[NDArray[np.float32]] | None = None,
        *,
        shape: tuple[int, int],
        margin: int = 0,
        prepare: Callable[[NDArray], NDArray[np.float32]] = np.float32,
        augment: bool = True,
        balance: float = 0.5,
        random_state: np.random.Generator,
    ):
        self.images = images
        self.labels = labels
        self.weights = weights
        self.shape = shape
        self.margin = margin
        self.prepare = prepare
        self.augment = augment
        self._anchors: dict[int, list[tuple[int, NDArray]]] = {}  # class: (image, its pixels)
        counts: dict[int, int] = {}
        for i, label_map in enumerate(labels):
            for k in np.unique(label_map[label_map >= 0]).tolist():
                pixels = np.flatnonzero(label_map == k)
                counts[k] = counts.get(k, 0) + len(pixels)
                if len(pixels) > MAX_ANCHORS:
                    pixels = random_state.choice(pixels, MAX_ANCHORS)
                self._anchors.setdefault(k, []).append((i, pixels))
        self._classes = np.array(sorted(counts))
        share = np.array([counts[k] for k in self._classes], float)
        self._chances = balance / len(share) + (1 - balance) * share / share.sum()

    def draw(
        self, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32] | None]:
        """Draw one crop.

        Parameters
        ----------
        rng : numpy.random.Generator

        Returns
        -------
        image : (h + 2 margin, w + 2 margin, C) float32
            Mirrored beyond the border of the image.
        labels : (h, w) int32
            With at least one labelled pixel; -1 beyond the border.
        weight : (h, w) float32 or None
        """
        (height, width), margin = self.shape, self.margin
        i, row, column = self._place(rng)
        image = self.prepare(
            mirrored_window(
                self.images[i], row - margin, column - margin, height + 2 * margin,
                width + 2 * margin,
            )
        )  # fmt: skip
        labels = self._cut(self.labels[i], row, column, -1)
        weight = None if self.weights is None else self._cut(self.weights[i], row, column, 0)
        if self.augment:
            turn = _random_turn(rng, square=height == width)
            image, labels = turn(image), turn(labels)
            weight = None if weight is None else turn(weight)
            image = image * np.float32(rng.uniform(0.75, 1.25))  # contrast
            image += np.float32(rng.uniform(-0.25, 0.25))  # brightness
        return image, labels, weight

    def _place(self, rng: np.random.Generator) -> tuple[int, int, int]:
        """Choose an image and a window that holds a pixel of a random class."""
        places = self._anchors[self._classes[rng.choice(len(self._classes), p=self._chances)]]
        i, pixels = places[rng.integers(len(places))]
        size = self.labels[i].shape
        corner = []
        for at, crop, length in zip(divmod(int(rng.choice(pixels)), size[1]), self.shape, size):
            # Inside the image if the crop fits; else the image inside the crop.
            low = max(at - crop + 1, min(0, length - crop))
            high = min(at, max(0, length - crop))
            corner.append(int(rng.integers(low, high + 1)))
        return i, corner[0], corner[1]

    def _cut(self, values: NDArray, row: int, column: int, outside: int) -> NDArray:
        """Cut a window, filled with `outside` beyond the border."""
        window = np.full(self.shape, outside, values.dtype)
        top, left = max(row, 0), max(column, 0)
        inside = values[top : row + self.shape[0], left : column + self.shape[1]]
        top, left = top - row, left - column
        window[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
        return window


def _random_turn(rng: np.random.Generator, square: bool) -> Callable[[NDArray], NDArray]:
    """One of the symmetries of a square, or of a rectangle that is none."""
    flip = bool(rng.integers(2))
    quarters = int(rng.integers(4)) if square else 2 * int(rng.integers(2))

    def turn(array: NDArray) -> NDArray:
        return np.rot90(array[:, ::-1] if flip else array, quarters)

    return turn
